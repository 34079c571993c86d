//! When packets arrive, and how long playout has to wait for them.
//!
//! **Lateness.** Each packet's transit (arrival minus timestamp) is compared with that of the fastest packet of the
//! last [`WINDOW`] to twice that: the packet delay variation of RFC 5481 §4.2. The moving minimum follows the drift of
//! the sender's clock and changes of the route.
//!
//! **Target.** A histogram of lateness, in which the past fades away with a memory of 500 packets, gives the delay
//! that [`QUANTILE`] of the packets need. A spike beyond it is remembered for [`PEAK_MEMORY`]; from the second one on
//! the target covers them. So one hiccup of the network costs no delay, and a network that has them often does not
//! tear the audio each time. Both are old ideas of playout scheduling (Moon, Kurose and Towsley, "Packet audio playout
//! delay adjustment", 1998); the numbers are our own.
//!
//! **Report.** A second histogram forgets nothing and gives median, 95th percentile and maximum for the whole call.

use std::time::{Duration, Instant};

use super::Config;

/// The fastest packet is sought over one to two of these.
const WINDOW: Duration = Duration::from_secs(5);
/// Share of the packets that shall arrive in time.
const QUANTILE: f32 = 0.97;
/// What a packet of the past counts against the next one.
const FADE: f32 = 0.998;
/// Weight with which the initial delay enters, in packets.
const FIRST_WEIGHT: f32 = 50.0;
const BINS: usize = 128;
/// How long a spike is remembered.
const PEAK_MEMORY: Duration = Duration::from_secs(20);
/// Late packets within this time are one spike.
const PEAK_WIDTH: Duration = Duration::from_millis(500);
/// Lateness beyond the maximum for this long is a new time line.
const LOST_LINE: Duration = Duration::from_secs(1);
/// What differs by more is a jump of the sender's timestamps and says nothing about the network.
const JUMP: i64 = 1_000_000_000;
/// The target is found anew for each packet that is later than it, and for one of so many others.
const BEAT: u32 = 8;
const MILLI: i64 = 1_000_000;

/// How much later than the fastest one the packets of a call came (RFC 5481 §4.2), to the millisecond up to 128 ms
/// and to 8 ms beyond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// Half of the packets were no later than this.
    pub p50: Duration,
    /// 95 of 100 packets were no later than this.
    pub p95: Duration,
    /// The latest.
    pub max: Duration,
}

/// Arrivals of one stream. Spans are in nanoseconds.
#[derive(Debug)]
pub(super) struct Arrivals {
    clock_rate: u32,
    least_target: i64,
    most_target: i64,
    /// Time and timestamp that transits are counted from.
    anchor: Option<(Instant, u64)>,
    /// Transit of the fastest packet, in whole bins.
    base: i64,
    window: Window,
    beyond_since: Option<(Instant, i64)>,
    bins: Bins,
    peaks: Peaks,
    target: i64,
    seen: u32,
    record: Record,
}

impl Arrivals {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let nanos = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
        let most_target = nanos(config.max.max(config.min));
        let target = nanos(config.initial).clamp(nanos(config.min), most_target);
        Self {
            clock_rate: config.clock_rate.max(1),
            least_target: nanos(config.min),
            most_target,
            anchor: None,
            base: 0,
            window: Window { ends: now, least: i64::MAX, least_before: i64::MAX },
            beyond_since: None,
            bins: Bins::new(most_target, target),
            peaks: Peaks::default(),
            target,
            seen: 0,
            record: Record::default(),
        }
    }

    /// Begins a time line: at the first packet and after a jump of the sender's timestamps. What is known of the
    /// network stays.
    pub(super) fn begin(&mut self, now: Instant, timestamp: u64) {
        self.anchor = Some((now, timestamp));
        self.move_base(now, 0);
    }

    /// Timestamps count in other units from here on, on a time line that begins with the next packet.
    pub(super) fn change_clock(&mut self, clock_rate: u32) {
        self.clock_rate = clock_rate.max(1);
        self.anchor = None;
        self.beyond_since = None;
    }

    /// A talk spurt begins with this packet: a sender that stops its timestamps meanwhile has a new time line.
    pub(super) fn resume(&mut self, now: Instant, timestamp: u64) {
        if self.lateness(now, timestamp).is_none_or(|late| late.abs() > self.most_target) {
            self.begin(now, timestamp);
        }
    }

    /// How much later a packet of this timestamp would be at `at` than the fastest one.
    pub(super) fn lateness(&self, at: Instant, timestamp: u64) -> Option<i64> {
        Some(self.transit(at, timestamp)? - self.base)
    }

    /// Notes a packet's arrival.
    pub(super) fn observe(&mut self, now: Instant, timestamp: u64) {
        let Some(transit) = self.transit(now, timestamp) else { return };
        let late = transit - self.base;
        self.note_beyond(now, transit);
        if late.abs() > JUMP {
            return;
        }
        self.record.note(late.max(0));
        self.follow_fastest(now, transit);
        self.bins.add(late.max(0));
        self.peaks.note(now, late, self.target);
        self.seen = self.seen.wrapping_add(1);
        if late > self.target || self.seen.is_multiple_of(BEAT) {
            let needed = self.bins.quantile().max(self.peaks.height(now));
            self.target = needed.clamp(self.least_target, self.most_target);
        }
    }

    /// How long the fastest packet should wait.
    pub(super) fn target(&self) -> i64 {
        self.target
    }

    pub(super) fn report(&self) -> Lateness {
        self.record.read()
    }

    fn transit(&self, at: Instant, timestamp: u64) -> Option<i64> {
        let (start, first) = self.anchor?;
        let passed = match at.checked_duration_since(start) {
            Some(after) => after.as_nanos() as i128,
            None => -(start.duration_since(at).as_nanos() as i128),
        };
        let played =
            (i128::from(timestamp) - i128::from(first)) * 1_000_000_000 / i128::from(self.clock_rate);
        let most = i128::from(i64::MAX / 4);
        Some((passed - played).clamp(-most, most) as i64)
    }

    fn move_base(&mut self, now: Instant, transit: i64) {
        self.base = transit;
        self.window = Window { ends: now + WINDOW, least: transit, least_before: transit };
        self.beyond_since = None;
    }

    fn follow_fastest(&mut self, now: Instant, transit: i64) {
        let Some(fastest) = self.window.note(now, transit) else { return };
        let moved = (fastest - self.base).div_euclid(self.bins.width);
        self.base += moved * self.bins.width;
        // A slower line makes the packets of the past less late; a faster one says nothing about their spread.
        self.bins.shift_down(usize::try_from(moved).unwrap_or(0));
    }

    /// A line that is beyond what can be waited for does not come back.
    fn note_beyond(&mut self, now: Instant, transit: i64) {
        if transit - self.base <= self.most_target {
            self.beyond_since = None;
            return;
        }
        let (since, least) = self.beyond_since.unwrap_or((now, transit));
        self.beyond_since = Some((since, least.min(transit)));
        if now.saturating_duration_since(since) >= LOST_LINE {
            self.move_base(now, least.min(transit));
        }
    }
}

/// The least of the transits of one to two windows.
#[derive(Debug)]
struct Window {
    ends: Instant,
    least: i64,
    least_before: i64,
}

impl Window {
    /// The least, when it changed.
    fn note(&mut self, now: Instant, transit: i64) -> Option<i64> {
        let known = self.least.min(self.least_before);
        self.least = self.least.min(transit);
        if now >= self.ends {
            self.ends = now + WINDOW;
            self.least_before = std::mem::replace(&mut self.least, transit);
        }
        let least = self.least.min(self.least_before);
        (least != known).then_some(least)
    }
}

/// Lateness with a fading memory. Instead of shrinking every bin for every packet, each packet weighs a little more
/// than the one before.
#[derive(Debug)]
struct Bins {
    width: i64,
    weights: [f32; BINS],
    grain: f32,
    total: f32,
}

impl Bins {
    fn new(most: i64, initial: i64) -> Self {
        let width = (most / 100).max(MILLI);
        let mut bins = Self { width, weights: [0.0; BINS], grain: FIRST_WEIGHT, total: 0.0 };
        bins.add(initial - 1);
        bins.grain = 1.0;
        bins
    }

    fn add(&mut self, late: i64) {
        let bin = usize::try_from(late / self.width).unwrap_or(0).min(BINS - 1);
        self.weights[bin] += self.grain;
        self.total += self.grain;
        self.grain /= FADE;
        if self.grain > 1e6 {
            self.weights.iter_mut().for_each(|weight| *weight /= self.grain);
            self.total = self.weights.iter().sum();
            self.grain = 1.0;
        }
    }

    /// The upper edge of the bin that holds the quantile.
    fn quantile(&self) -> i64 {
        let mut above = self.total * (1.0 - QUANTILE);
        let held = self.weights.iter().rposition(|weight| {
            above -= weight;
            above < 0.0
        });
        (held.unwrap_or(0) as i64 + 1) * self.width
    }

    fn shift_down(&mut self, by: usize) {
        let by = by.min(BINS - 1);
        if by == 0 {
            return;
        }
        let merged = self.weights[..=by].iter().sum();
        self.weights.copy_within(by.., 0);
        self.weights[0] = merged;
        self.weights[BINS - by..].fill(0.0);
    }
}

/// The last spikes of lateness.
#[derive(Debug, Default)]
struct Peaks {
    last: [Option<(Instant, i64)>; 4],
    newest: usize,
}

impl Peaks {
    fn note(&mut self, now: Instant, late: i64, target: i64) {
        match &mut self.last[self.newest] {
            Some((at, height)) if now.saturating_duration_since(*at) < PEAK_WIDTH => {
                *height = late.max(*height);
            }
            _ if late > target => {
                self.newest = (self.newest + 1) % self.last.len();
                self.last[self.newest] = Some((now, late));
            }
            _ => {}
        }
    }

    /// The highest of two or more that are remembered; 0 when there are fewer.
    fn height(&self, now: Instant) -> i64 {
        let fresh = |(at, _): &&(Instant, i64)| now.saturating_duration_since(*at) < PEAK_MEMORY;
        let heights = || self.last.iter().flatten().filter(fresh).map(|(_, height)| *height);
        if heights().count() >= 2 { heights().max().unwrap_or(0) } else { 0 }
    }
}

const FINE: usize = 128;
const COARSE_MS: u64 = 8;

/// Lateness of the whole call.
#[derive(Debug)]
struct Record {
    counts: [u32; FINE + 128],
    packets: u64,
    max: u64,
}

impl Default for Record {
    fn default() -> Self {
        Self { counts: [0; FINE + 128], packets: 0, max: 0 }
    }
}

impl Record {
    fn note(&mut self, late: i64) {
        let late = late.unsigned_abs();
        self.max = self.max.max(late);
        self.packets += 1;
        let ms = usize::try_from(late / MILLI as u64).unwrap_or(usize::MAX);
        let at = if ms < FINE { ms } else { FINE + (ms - FINE) / COARSE_MS as usize };
        let count = &mut self.counts[at.min(FINE + 127)];
        *count = count.saturating_add(1);
    }

    fn read(&self) -> Lateness {
        let max = Duration::from_nanos(self.max);
        let quantile = |percent| self.quantile(percent).min(max);
        Lateness { p50: quantile(50), p95: quantile(95), max }
    }

    fn quantile(&self, percent: u64) -> Duration {
        let mut left = (self.packets * percent).div_ceil(100);
        for (at, &count) in self.counts.iter().enumerate() {
            left = left.saturating_sub(count.into());
            if left == 0 {
                return upper_edge(at as u64);
            }
        }
        Duration::MAX
    }
}

fn upper_edge(at: u64) -> Duration {
    let fine = FINE as u64;
    Duration::from_millis(if at < fine { at + 1 } else { fine + (at - fine + 1) * COARSE_MS })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of 20 ms, each `late` ms after its time.
    fn arrivals(late: impl IntoIterator<Item = u64>) -> (Arrivals, Instant) {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(&Config::default(), start);
        let mut now = start;
        for (n, late) in late.into_iter().enumerate() {
            now = start + Duration::from_millis(n as u64 * 20 + late);
            if n == 0 {
                arrivals.begin(now, 0);
            }
            arrivals.observe(now, n as u64 * 160);
        }
        (arrivals, now)
    }

    fn target_ms(late: impl IntoIterator<Item = u64>) -> i64 {
        arrivals(late).0.target() / MILLI
    }

    #[test]
    fn an_even_stream_needs_the_least_delay_after_a_while() {
        assert_eq!(target_ms([0; 100]), 40, "what is set holds until enough is known");
        assert_eq!(target_ms([0; 2000]), 20);
    }

    #[test]
    fn the_target_covers_nearly_all_of_an_even_spread() {
        let target = target_ms((0..3000).map(|n| n * 7919 % 101));
        assert!((95..=102).contains(&target), "{target} ms");
    }

    #[test]
    fn one_spike_is_borne_and_the_second_raises_the_target_at_once() {
        let spike = |at: &'static [u64]| (0..1600).map(move |n| if at.contains(&n) { 120 } else { 0 });
        assert_eq!(target_ms(spike(&[1500])), 20);
        assert_eq!(target_ms(spike(&[1300, 1500])), 120);
        assert_eq!(target_ms(spike(&[1500, 1501])), 20, "one spike of two packets");
        assert_eq!(target_ms(spike(&[100, 300])), 20, "forgotten after 20 s");
    }

    #[test]
    fn a_longer_route_is_taken_for_normal_after_some_seconds() {
        let (arrivals, now) = arrivals((0..1500).map(|n| if n < 500 { 0 } else { 90 }));
        assert_eq!(arrivals.target() / MILLI, 20);
        let late = arrivals.lateness(now, 1499 * 160).unwrap();
        assert!((0..2 * MILLI).contains(&late), "{late} ns");
    }

    #[test]
    fn drift_is_no_lateness() {
        let late = arrivals((0..30_000).map(|n| n / 250)).0.report();
        assert!(late.p95 <= Duration::from_millis(3), "{late:?}: 200 ppm are 2 ms in ten seconds");
    }

    #[test]
    fn the_report_counts_every_packet() {
        let late = arrivals((0..1000).map(|n| n % 100)).0.report();
        let ms = Duration::from_millis;
        assert_eq!(late, Lateness { p50: ms(50), p95: ms(95), max: ms(99) });
        let late = arrivals((0..100).map(|n| if n == 50 { 900 } else { 0 })).0.report();
        assert_eq!(late, Lateness { p50: ms(1), p95: ms(1), max: ms(900) });
        assert_eq!(arrivals([]).0.report(), Lateness::default());
    }

    #[test]
    fn the_weights_survive_hours() {
        let spread = |n: u64| n * 7919 % 61;
        assert_eq!(target_ms((0..300_000).map(spread)), target_ms((0..5_000).map(spread)));
    }
}
