//! Two lines joined at their media threads: what one far end says is played to the other.
//!
//! ```text
//!  line A: heard ─▶ Tee ─▶ ring of 300 ms, keys ─▶ Feed: resample, even out ─▶ + spoken ─▶ line B's packet
//!  line B: heard ─▶ Tee ─▶ ring of 300 ms, keys ─▶ Feed: resample, even out ─▶ + spoken ─▶ line A's packet
//! ```
//!
//! No task of a runtime has a part in it: a packet's audio goes from one media thread to the other through a wait-free
//! ring, without a lock or an allocation. What a conversation says on a line is mixed in, so that it can stay as the third
//! party, and each far end hears everybody but itself.
//!
//! **Delay.** A feed begins when the next packet is there and [`CUSHION`] more. Every second it looks at the least that
//! was left over after a packet: more than [`MOST_LEFT`] means that one clock is faster, and a pitch period is taken out
//! ([`Stretch`]), as in the jitter buffer; none left means that it is slower, and one is put in. So the delay stays below
//! a frame and 40 ms while clocks drift; 300 ms is the most under any circumstance, and what comes then is left out and
//! counted.
//!
//! **Keys.** A key that one far end presses is pressed for the other: what waits in the ring is left out, for a tone that
//! was heard in the audio is in it, and audio that comes while the key is down is passed over. Where the line keeps a
//! secret neither keys nor audio pass.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::AudioFormat;
use crate::jitter::Adjustment;
use crate::jitter::stretch::Stretch;
use crate::pcm::{Resampler, level};
use crate::rtp::telephone_event::Digit;

/// The most audio that is under way.
const CAPACITY: u32 = 300;
/// What is there more than a packet before playing begins.
const CUSHION: Duration = Duration::from_millis(10);
/// With more left over for a second audio is taken out.
const MOST_LEFT: Duration = Duration::from_millis(25);
/// With less left over for a second audio is put in.
const LEAST_LEFT: Duration = Duration::from_millis(3);
/// Over this time the least is looked for.
const WATCHED: Duration = Duration::from_secs(1);
/// Audio that passes the resampler at once.
const PIECE: u32 = 10;
/// Where there is too little, the end is faded out, and the next beginning in.
const FADE: u32 = 5;
/// Keys under way.
const KEYS: usize = 32;

/// What both ends of one direction, and its owner, see.
#[derive(Debug, Default)]
pub(super) struct Flow {
    held: AtomicBool,
    deaf: AtomicBool,
    passed: AtomicU64,
    left_out: AtomicU64,
    gaps: AtomicU64,
}

impl Flow {
    pub(super) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Release);
    }

    pub(super) fn set_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::Release);
    }

    fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Samples given, samples left out because too many waited, and times in which too few did.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.passed), read(&self.left_out), read(&self.gaps))
    }
}

/// The beginning of a direction, at the line that is heard.
pub(super) struct Tee {
    ring: rtrb::Producer<i16>,
    keys: rtrb::Producer<Digit>,
    flow: Arc<Flow>,
}

impl Tee {
    /// What was heard; silence where it is `hidden`.
    pub(super) fn give(&mut self, samples: &[i16], hidden: bool) {
        if self.flow.is_held() {
            return;
        }
        let fitting = samples.len().min(self.ring.slots());
        if fitting < samples.len() {
            self.flow.left_out.fetch_add((samples.len() - fitting) as u64, Ordering::Relaxed);
        }
        let Ok(room) = self.ring.write_chunk_uninit(fitting) else { return };
        let audible = samples.iter().map(|&sample| if hidden { 0 } else { sample });
        let passed = room.fill_from_iter(audible);
        self.flow.passed.fetch_add(passed as u64, Ordering::Relaxed);
    }

    /// Whether the conversation hears the line as well.
    pub(super) fn is_heard(&self) -> bool {
        !self.flow.deaf.load(Ordering::Acquire)
    }

    /// A key that was pressed; one of too many is left out.
    pub(super) fn press(&mut self, digit: Digit) {
        if !self.flow.is_held() {
            let _ = self.keys.push(digit);
        }
    }
}

/// The end of a direction, at the line that is spoken to.
pub(super) struct Feed {
    ring: rtrb::Consumer<i16>,
    keys: rtrb::Consumer<Digit>,
    flow: Arc<Flow>,
    from: u32,
    to: u32,
    resampler: Resampler,
    stretch: Stretch,
    /// Samples of the ring on their way.
    piece: Vec<i16>,
    /// Converted and not played.
    ready: Vec<i16>,
    /// Whether the next samples follow those that were played.
    is_running: bool,
    wanted: Adjustment,
    watch: Watch,
}

/// The least that was left over, in samples of the line that is spoken to, and for how long it was watched.
#[derive(Default)]
struct Watch {
    least: Option<usize>,
    samples: usize,
}

impl Feed {
    /// Adds the next stretch of audio to `out`, which somebody may have spoken to already; tells whether there was some.
    pub(super) fn mix_into(&mut self, out: &mut [i16]) -> bool {
        if self.flow.is_held() {
            self.pass_over();
            return false;
        }
        if !self.is_running && !self.can_begin(out.len()) {
            return false;
        }
        while self.ready.len() < out.len() && self.convert_piece() {}
        let count = self.ready.len().min(out.len());
        self.smooth(count, out.len());
        level::mix(out, &self.ready[..count]);
        self.ready.drain(..count);
        self.look(out.len());
        count > 0
    }

    /// The next key that is to be pressed before anything else is heard.
    pub(super) fn next_key(&mut self) -> Option<Digit> {
        self.keys.pop().ok()
    }

    /// Leaves out what waits: nobody can hear it now.
    pub(super) fn pass_over(&mut self) {
        self.skip(self.ring.slots());
        self.ready.clear();
        self.is_running = false;
        self.watch = Watch::default();
    }

    fn skip(&mut self, count: usize) {
        if let Ok(chunk) = self.ring.read_chunk(count) {
            chunk.commit_all();
        }
    }

    /// Whether there is enough; more than enough, from a time when nothing was played, is left out.
    fn can_begin(&mut self, wanted: usize) -> bool {
        let enough = wanted + samples(CUSHION, self.to);
        let waiting = self.ready.len() + self.waiting();
        let surplus = waiting.saturating_sub(2 * wanted + enough);
        let surplus = (surplus as u64 * u64::from(self.from) / u64::from(self.to)) as usize;
        self.skip(surplus.min(self.ring.slots()));
        waiting >= enough
    }

    /// What waits in the ring, in samples of the line that is spoken to.
    fn waiting(&self) -> usize {
        (self.ring.slots() as u64 * u64::from(self.to) / u64::from(self.from)) as usize
    }

    /// Makes some samples ready; `false` when the ring is empty.
    fn convert_piece(&mut self) -> bool {
        let wanted = (self.from / 1_000 * PIECE) as usize;
        let Ok(chunk) = self.ring.read_chunk(wanted.min(self.ring.slots())) else { return false };
        if chunk.is_empty() {
            return false;
        }
        self.piece.clear();
        let (front, back) = chunk.as_slices();
        self.resampler.process(front, &mut self.piece);
        self.resampler.process(back, &mut self.piece);
        chunk.commit_all();
        if self.stretch.process(&mut self.piece, self.wanted) != Adjustment::Keep {
            self.wanted = Adjustment::Keep;
        }
        self.ready.extend_from_slice(&self.piece);
        true
    }

    /// No click where sound begins or breaks off.
    fn smooth(&mut self, count: usize, wanted: usize) {
        let fade = ((self.to / 1_000 * FADE) as usize).min(count);
        if !self.is_running {
            level::fade(&mut self.ready[..fade], 0.0, 1.0);
        }
        self.is_running = count == wanted;
        if !self.is_running {
            level::fade(&mut self.ready[count - fade..count], 1.0, 0.0);
            self.flow.gaps.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every second: has there been too much all the time, or too little?
    fn look(&mut self, played: usize) {
        let left = self.ready.len() + self.waiting();
        let least = self.watch.least.map_or(left, |least| least.min(left));
        self.watch = Watch { least: Some(least), samples: self.watch.samples + played };
        if self.watch.samples < samples(WATCHED, self.to) {
            return;
        }
        self.watch = Watch::default();
        let target = samples(CUSHION, self.to);
        let time = |n: usize| Duration::from_secs_f64(n as f64 / f64::from(self.to));
        self.wanted = if least > samples(MOST_LEFT, self.to) {
            Adjustment::Shorten(time(least - target))
        } else if least < samples(LEAST_LEFT, self.to) {
            Adjustment::Lengthen(time(target - least))
        } else {
            Adjustment::Keep
        };
    }
}

fn samples(time: Duration, rate: u32) -> usize {
    (time.as_millis() as usize) * rate as usize / 1_000
}

/// One direction: from what is heard in one format to what is spoken in another.
pub(super) fn direction(hears: AudioFormat, speaks: AudioFormat) -> (Tee, Feed, Arc<Flow>) {
    let (from, to) = (hears.sample_rate(), speaks.sample_rate());
    let (ring, ring_end) = rtrb::RingBuffer::new(hears.samples_in_millis(CAPACITY));
    let (keys, keys_end) = rtrb::RingBuffer::new(KEYS);
    let flow = Arc::new(Flow::default());
    let resampler = Resampler::new(from, to).expect("the rates of lines are rates of the resampler");
    let room = || Vec::with_capacity(speaks.samples_in_millis(2 * CAPACITY));
    let feed = Feed {
        ring: ring_end,
        keys: keys_end,
        flow: flow.clone(),
        from,
        to,
        resampler,
        stretch: Stretch::new(to),
        piece: room(),
        ready: room(),
        is_running: false,
        wanted: Adjustment::Keep,
        watch: Watch::default(),
    };
    (Tee { ring, keys, flow: flow.clone() }, feed, flow)
}

/// A line's part in a bridge.
pub(super) struct Patch {
    pub(super) tee: Tee,
    pub(super) feed: Feed,
}

impl fmt::Debug for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patch").field("flow", &self.tee.flow).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::goertzel::{amplitude, purity};
    use crate::pcm::tone::Tone;

    /// A direction whose beginning and end run on clocks of their own.
    struct Path {
        tee: Tee,
        feed: Feed,
        flow: Arc<Flow>,
        tone: Tone,
        /// Nanoseconds until the next frame is given and taken.
        give: u64,
        take: u64,
    }

    const MS: u64 = 1_000_000;

    impl Path {
        fn new(from: u32, to: u32) -> Self {
            let formats = [from, to].map(|rate| AudioFormat::new(rate).unwrap());
            let (tee, feed, flow) = direction(formats[0], formats[1]);
            Self { tee, feed, flow, tone: Tone::new(400.0, from, 8_000), give: 0, take: 7 * MS }
        }

        /// Gives frames of `frame` ms and takes packets of 20 ms, for so many seconds; the giving clock is fast by `ppm`.
        /// Gives what was taken, and the most that waited after a packet, in ms.
        fn run(&mut self, seconds: u64, frame: u64, ppm: i64) -> (Vec<i16>, u64) {
            let (mut taken, mut most) = (Vec::new(), 0);
            let end = self.take + seconds * 1_000 * MS;
            let mut given = vec![0; self.feed.from as usize / 1_000 * frame as usize];
            while self.take < end {
                if self.give <= self.take {
                    self.tone.fill(&mut given);
                    self.tee.give(&given, false);
                    self.give += (frame * MS * 1_000_000) / (1_000_000 + ppm) as u64;
                    continue;
                }
                let mut out = vec![0; self.feed.to as usize / 50];
                self.feed.mix_into(&mut out);
                taken.extend_from_slice(&out);
                let left = self.feed.ready.len() + self.feed.waiting();
                most = most.max(left as u64 * 1_000 / u64::from(self.feed.to));
                self.take += 20 * MS;
            }
            (taken, most)
        }
    }

    #[test]
    fn audio_passes_between_all_rates_whole() {
        for from in [8_000, 16_000, 24_000, 48_000] {
            for to in [8_000, 16_000, 24_000, 48_000] {
                let mut path = Path::new(from, to);
                let (taken, most) = path.run(5, 20, 0);
                let second = to as usize;
                let pure = purity(&taken[second..2 * second], to, 400.0);
                let peak = amplitude(&taken[second..2 * second], to, 400.0);
                assert!(pure > 0.99 && (7_900.0..8_100.0).contains(&peak), "{from} to {to}: {pure}, {peak}");
                assert_eq!((path.flow.counts().1, path.flow.counts().2), (0, 0), "{from} to {to}");
                assert!(most <= 40, "{most} ms wait, {from} to {to}");
            }
        }
    }

    #[test]
    fn a_drift_of_the_clocks_makes_no_delay() {
        for (frame, ppm) in [(20, 200), (20, -200), (60, 200), (10, -1_000), (20, 1_000)] {
            let mut path = Path::new(8_000, 16_000);
            path.run(30, frame, ppm);
            let (taken, most) = path.run(600, frame, ppm);
            let (_, left_out, gaps) = path.flow.counts();
            assert!(most <= frame + 40, "{most} ms wait with {frame} ms and {ppm} ppm");
            assert_eq!(left_out, 0, "{frame} ms, {ppm} ppm");
            let most_gaps = if ppm < 0 { 40 } else { 2 };
            assert!(gaps <= most_gaps, "{gaps} gaps with {frame} ms and {ppm} ppm");
            let pure = purity(&taken[..16_000], 16_000, 400.0);
            assert!(pure > 0.9, "{pure} with {frame} ms and {ppm} ppm");
        }
    }

    #[test]
    fn whatever_is_given_the_delay_has_a_limit() {
        let (mut tee, mut feed, flow) = direction(AudioFormat::HZ_8000, AudioFormat::HZ_8000);
        for _ in 0..1_000 {
            tee.give(&[1; 160], false);
        }
        assert_eq!(flow.counts().1, 1_000 * 160 - 2_400);
        let mut out = [0; 160];
        assert!(feed.mix_into(&mut out));
        assert!(feed.ready.len() + feed.waiting() <= 2_400);
        feed.pass_over();
        assert!(!feed.mix_into(&mut out), "nothing of it is left");
    }

    #[test]
    fn keys_pass_and_what_sounds_with_them_does_not() {
        let (mut tee, mut feed, _) = direction(AudioFormat::HZ_8000, AudioFormat::HZ_8000);
        let key = |label| Digit::from_char(label).unwrap();
        (0..3).for_each(|_| tee.give(&[9; 160], false));
        tee.press(key('5'));
        tee.press(key('6'));
        let mut out = [0; 160];
        assert!(feed.next_key() == Some(key('5')));
        feed.pass_over();
        assert!(!feed.mix_into(&mut out));
        assert!(feed.next_key() == Some(key('6')) && feed.next_key().is_none());
        (0..2).for_each(|_| tee.give(&[9; 160], false));
        assert!(feed.mix_into(&mut out) && out[159] == 9);
    }

    #[test]
    fn on_hold_and_in_secret_nothing_passes() {
        let (mut tee, mut feed, flow) = direction(AudioFormat::HZ_8000, AudioFormat::HZ_8000);
        flow.hold(true);
        (0..3).for_each(|_| tee.give(&[9; 160], false));
        tee.press(Digit::from_char('1').unwrap());
        let mut out = [0; 160];
        assert!(!feed.mix_into(&mut out) && feed.next_key().is_none());
        flow.hold(false);
        (0..3).for_each(|_| tee.give(&[9; 160], true));
        assert!(feed.mix_into(&mut out));
        assert_eq!(out, [0; 160]);
    }

    #[test]
    fn the_third_party_is_mixed_in() {
        let (mut tee, mut feed, _) = direction(AudioFormat::HZ_8000, AudioFormat::HZ_8000);
        (0..3).for_each(|_| tee.give(&[9; 160], false));
        let mut out = [100; 160];
        assert!(feed.mix_into(&mut out));
        assert_eq!(out[100..], [109; 60]);
    }
}
