//! The line of one call: both directions joined, and its limits.
//!
//! [`line()`] makes the conversation's [`Line`], the media thread's [`LineEnd`] and the leg owner's [`Commands`].

use std::time::Duration;

use super::command::{self, Asking, Command, Commands, HangUpReason};
use super::hearing::{EndReason, Event, Heard, Hearing, HearingCounts, HearingEnd, hearing};
use super::patch::Patch;
use super::playout::SpeakingEnd;
use super::speaking::{Speaking, speaking};
use super::switch::{Order, RecordingWish, Switch};
use super::underruns::SpeakingCounts;
use super::{AudioFormat, Formats};
use crate::rtp::telephone_event::Digit;

/// What one line may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Heard frames that wait for the conversation; the oldest gives way. Default 50, a second of 20 ms frames.
    pub hearing_frames: usize,
    /// Heard frames that the conversation may hold in its hands besides. Default 10.
    pub held_frames: usize,
    /// Unread events after which the conversation counts as stalled and the call is hung up. Default 256.
    pub events: usize,
    /// Spoken audio that waits to be played. Default 30 s.
    pub speaking: Duration,
    /// Pieces in which it waits: one per call of `play` or per 100 ms, whichever is more, and one per digit and mark.
    /// Default 1024, so that even 30 ms pieces fill 30 s.
    pub pieces: usize,
    /// How long playing fades out when it is cleared. Default 8 ms.
    pub fade: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hearing_frames: 50,
            held_frames: 10,
            events: 256,
            speaking: Duration::from_secs(30),
            pieces: 1024,
            fade: Duration::from_millis(8),
        }
    }
}

/// The conversation's end of a call. Split it to speak in one task while another listens.
#[derive(Debug)]
pub struct Line {
    hearing: Hearing,
    speaking: Speaking,
}

impl Line {
    /// The next frame or event; `None` after [`Event::End`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<Heard> {
        self.hearing.next().await
    }

    /// The next frame or event if there is one already.
    pub fn try_next(&mut self) -> Option<Heard> {
        self.hearing.try_next()
    }

    pub(super) fn switch(&self) -> &Switch {
        self.speaking.switch()
    }

    /// The voice of this line; clone it to keep it.
    pub fn speaking(&self) -> &Speaking {
        &self.speaking
    }

    /// What it hears and speaks.
    pub fn formats(&self) -> Formats {
        Formats { hears: self.hearing.format(), speaks: self.speaking.format() }
    }

    /// Both directions, each on its own.
    pub fn split(self) -> (Hearing, Speaking) {
        (self.hearing, self.speaking)
    }
}

/// The media side's end of a call: it is driven by one thread, which it never makes wait. Dropping it ends the line
/// with [`EndReason::Shutdown`], so that a conversation always hears an end.
#[derive(Debug)]
pub struct LineEnd {
    hearing: HearingEnd,
    speaking: SpeakingEnd,
    asking: Asking,
    hidden: bool,
    patch: Option<Box<Patch>>,
    /// A key of the other side of a bridge.
    passed_key: Option<Digit>,
}

impl LineEnd {
    /// The format of frames to give.
    pub fn hears(&self) -> AudioFormat {
        self.hearing.format()
    }

    /// How many samples were given so far; the next frame's [`position`](super::AudioFrame::position).
    pub fn position(&self) -> u64 {
        self.hearing.position()
    }

    /// The format of samples to take.
    pub fn speaks(&self) -> AudioFormat {
        self.speaking.format()
    }

    /// Lets the conversation hear a frame; `concealed` when some of it was made up.
    pub fn give_audio(&mut self, samples: &[i16], concealed: bool) {
        self.follow_orders();
        let hidden = self.hidden || self.is_secret();
        if let Some(patch) = &mut self.patch {
            patch.tee.give(samples, hidden);
            if !patch.tee.is_heard() {
                return self.hearing.pass_over(samples.len());
            }
        }
        self.hearing.push_audio(samples, concealed);
    }

    /// Lets the conversation hear an event. When too many are unread the leg's owner is asked to hang up.
    pub fn give_event(&mut self, event: Event) {
        if let Event::Dtmf(digit) = event
            && !(self.hidden || self.is_secret())
            && let Some(patch) = &mut self.patch
        {
            patch.tee.press(digit);
        }
        if !self.hearing.push_event(event) {
            self.hang_up(HangUpReason::Stalled);
        }
    }

    /// Fills `out` from what was spoken, up to a [`digit`](Self::digit) that has to be sent first, then with silence;
    /// gives how many samples at its start were spoken. In a [`Bridge`](super::Bridge) the other side speaks as well.
    pub fn take_audio(&mut self, out: &mut [i16]) -> usize {
        self.follow_orders();
        self.pass_key();
        if self.passed_key.is_some() {
            self.speaking.clear_silently();
            out.fill(0);
            return 0;
        }
        let pulled = self.take_spoken(out);
        let Some(patch) = &mut self.patch else { return pulled };
        if self.speaking.digit().is_some() {
            patch.feed.pass_over();
            return pulled;
        }
        if patch.feed.mix_into(out) { out.len() } else { pulled }
    }

    /// A key of the other side interrupts everything but a key of our own.
    fn pass_key(&mut self) {
        let Some(patch) = &mut self.patch else { return };
        if self.passed_key.is_none() && self.speaking.digit().is_none() {
            self.passed_key = patch.feed.next_key();
        }
        if self.passed_key.is_some() {
            patch.feed.pass_over();
        }
    }

    /// Joins and leaves bridges.
    fn follow_orders(&mut self) {
        while let Some(order) = self.speaking.switch().next_order() {
            let next = match order {
                Order::Join(patch) => Some(patch),
                Order::Part => None,
            };
            if let Some(patch) = std::mem::replace(&mut self.patch, next) {
                self.speaking.switch().give_back(patch);
            }
        }
    }

    fn take_spoken(&mut self, out: &mut [i16]) -> usize {
        let Self { hearing, speaking, .. } = self;
        let mut stalled = false;
        let pulled = speaking.pull(out, |mark| stalled |= !hearing.push_event(Event::Mark(mark)));
        if stalled {
            self.hang_up(HangUpReason::Stalled);
        }
        pulled
    }

    /// The digit that has to be sent before any more audio.
    pub fn digit(&self) -> Option<Digit> {
        self.passed_key.or_else(|| self.speaking.digit())
    }

    /// The digit was sent.
    pub fn digit_sent(&mut self) {
        if self.passed_key.take().is_none() {
            self.speaking.digit_sent();
        }
    }

    /// Carries out a `clear` while nothing is played (on hold); playing does it by itself.
    pub fn clear_silently(&mut self) {
        self.speaking.clear_silently();
        self.follow_orders();
        if let Some(patch) = &mut self.patch {
            patch.feed.pass_over();
        }
    }

    /// From here on `clear` reports what was played as an estimate with this error, in samples: for legs that hand
    /// audio to someone else's play queue.
    pub fn playing_is_estimated(&mut self, error: u64) {
        self.speaking.set_error(error);
    }

    /// Whether the call is to be recorded now, where there is a recording.
    pub fn recording(&self) -> RecordingWish {
        self.speaking.switch().recording()
    }

    /// Whether the caller is typing a secret: keys and the audio in which they sound have to stay out of recordings,
    /// logs and traces.
    pub fn is_secret(&self) -> bool {
        self.speaking.switch().is_secret()
    }

    /// From here on a bridge gets silence instead of what is heard, and no keys.
    pub(crate) fn keep_back(&mut self, hidden: bool) {
        self.hidden = hidden;
    }

    /// Asks the leg's owner to hang up; only the first time counts.
    pub fn hang_up(&mut self, reason: HangUpReason) {
        if self.speaking.first_hang_up() {
            self.asking.ask(Command::HangUp(reason));
        }
    }

    /// Ends the line; the first reason stays. The voice goes first, so that nobody who heard the end can still queue.
    pub fn end(&mut self, reason: EndReason) {
        self.speaking.end();
        self.hearing.end(reason);
    }

    /// What a slow conversation lost so far.
    pub fn hearing_counts(&self) -> HearingCounts {
        self.hearing.counts()
    }

    /// What a slow conversation left out within its utterances so far.
    pub fn speaking_counts(&self) -> SpeakingCounts {
        self.speaking.counts()
    }
}

impl Drop for LineEnd {
    fn drop(&mut self) {
        self.end(EndReason::Shutdown);
    }
}

/// Makes the line of one call.
pub fn line(formats: Formats, limits: &Limits) -> (Line, LineEnd, Commands) {
    let (asking, commands) = command::channel();
    let (ear, hearing_end) = hearing(formats.hears, limits);
    let (voice, speaking_end) = speaking(formats.speaks, limits, asking.clone());
    let line = Line { hearing: ear, speaking: voice };
    let end = LineEnd {
        hearing: hearing_end,
        speaking: speaking_end,
        asking,
        hidden: false,
        patch: None,
        passed_key: None,
    };
    (line, end, commands)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    /// Speaks the moment it is woken, and notes how much of that was taken.
    struct Hasty {
        speaking: Speaking,
        taken: AtomicUsize,
    }

    impl Wake for Hasty {
        fn wake(self: Arc<Self>) {
            self.taken.store(self.speaking.play(&[0; 8]), Ordering::SeqCst);
        }
    }

    #[test]
    fn whoever_is_woken_by_the_end_can_queue_nothing_more() {
        let (mut line, mut end, _commands) = line(Formats::both(AudioFormat::HZ_8000), &Limits::default());
        let hasty =
            Arc::new(Hasty { speaking: line.speaking().clone(), taken: AtomicUsize::new(usize::MAX) });
        assert!(pin!(line.next()).poll(&mut Context::from_waker(&hasty.clone().into())).is_pending());
        end.end(EndReason::FarEnd);
        assert_eq!(hasty.taken.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_stalled_conversation_is_hung_up_once() {
        let limits = Limits { events: 2, ..Limits::default() };
        let (_line, mut end, mut commands) = line(Formats::both(AudioFormat::HZ_8000), &limits);
        for _ in 0..10 {
            end.give_event(Event::Hold);
        }
        drop(end);
        assert!(matches!(commands.next().await, Some(Command::HangUp(HangUpReason::Stalled))));
        drop(_line);
        assert!(commands.next().await.is_none());
    }

    #[tokio::test]
    async fn a_lost_media_side_ends_the_line() {
        let (mut line, end, _commands) = line(Formats::both(AudioFormat::HZ_8000), &Limits::default());
        drop(end);
        assert!(matches!(line.next().await, Some(Heard::Event(Event::End(EndReason::Shutdown)))));
        assert_eq!(line.speaking().play(&[0; 8]), 0);
    }
}
