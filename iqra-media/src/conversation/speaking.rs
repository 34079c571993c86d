//! The conversation's voice: what it says, how far that was played, and what it asks of the call.
//!
//! In: samples, digits, marks and requests of the conversation's tasks. Out: pieces for
//! [`SpeakingEnd`](super::SpeakingEnd), commands for the leg's owner. Tasks share a mutex among themselves; the media
//! thread takes no part in it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::command::{Asking, Command, HangUpReason, TransferOutcome, TransferTarget};
use super::playout::SpeakingEnd;
use super::queue::{Piece, Said, Shared, samples_in};
use super::switch::{Secret, Switch};
use super::{AudioFormat, Limits};
use crate::rtp::telephone_event::Digit;

/// The name of something that is said, so that [`Speaking::clear`] can tell how much of it was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Utterance(u64);

impl Utterance {
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

/// A place between samples; [`Event::Mark`](super::Event::Mark) tells when it was played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark(u64);

/// An amount of played audio, in samples of the format that the conversation speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Sample-exact: so many went out in packets.
    Exact(u64),
    /// Someone else plays it, and this is what can be known.
    Estimated {
        /// The best guess.
        samples: u64,
        /// How far it may be off in either direction.
        error: u64,
    },
}

impl Extent {
    /// The samples, or the best guess at them.
    pub fn samples(self) -> u64 {
        match self {
            Self::Exact(samples) | Self::Estimated { samples, .. } => samples,
        }
    }
}

/// How much of an utterance was played, from its beginning, over all its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Played {
    /// Which.
    pub utterance: Utterance,
    /// How much of it.
    pub extent: Extent,
}

/// What [`Speaking::clear`] cut off.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cleared {
    /// Every utterance that was playing or waiting, in order. What had been played to its end is not listed.
    pub utterances: Vec<Played>,
}

impl Cleared {
    /// How much of one utterance was played; `None` if it neither played nor waited.
    pub fn played(&self, utterance: Utterance) -> Option<Extent> {
        self.utterances.iter().find(|played| played.utterance == utterance).map(|played| played.extent)
    }
}

/// A character that no telephone has a key for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("only 0-9, *, # and A-D can be sent as DTMF")]
pub struct NotADigit;

/// The voice of a line. Clones speak on the same line and continue the same utterance;
/// [`new_utterance`](Self::new_utterance) begins another.
#[derive(Clone)]
pub struct Speaking {
    shared: Arc<Shared>,
    asking: Asking,
    utterance: Arc<Said>,
}

impl Speaking {
    /// The format of the samples.
    pub fn format(&self) -> AudioFormat {
        self.shared.format
    }

    /// A voice whose audio counts as an utterance of its own.
    #[must_use]
    pub fn new_utterance(&self) -> Self {
        let id = Utterance(self.shared.lock().next_id());
        let utterance = Said::new(id);
        Self { shared: self.shared.clone(), asking: self.asking.clone(), utterance }
    }

    /// The utterance that this voice speaks.
    pub fn utterance(&self) -> Utterance {
        self.utterance.id
    }

    /// Queues what there is room for and says how many samples that was; the rest is the caller's to keep. Nothing
    /// that was taken is ever dropped, except by [`clear`](Self::clear). 0 once the line has ended.
    pub fn play(&self, samples: &[i16]) -> usize {
        self.shared.lock().take(&self.shared, &self.utterance, samples)
    }

    /// Queues all of it, waiting for room. Calls from several tasks are served one after the other.
    ///
    /// Gives how many samples were taken: fewer than all only if [`clear`](Self::clear) or the line's end came
    /// between. If dropped while waiting, what was taken stays queued.
    pub async fn play_all(&self, samples: &[i16]) -> usize {
        let clears = self.shared.lock().clears;
        let _turn = self.shared.turn.lock().await;
        let mut taken = 0;
        while taken < samples.len() {
            let Some(room_at) = self.play_unless_cleared(clears, &samples[taken..], &mut taken) else {
                break;
            };
            self.shared.reached(room_at).await;
        }
        taken
    }

    /// Takes what fits; gives the position at which there is room for more, or `None` when nothing more is to come.
    fn play_unless_cleared(&self, clears: u64, rest: &[i16], taken: &mut usize) -> Option<u64> {
        let mut queue = self.shared.lock();
        if queue.clears != clears || self.shared.is_closed() {
            return None;
        }
        let now = queue.take(&self.shared, &self.utterance, rest);
        *taken += now;
        Some(queue.room_at(&self.shared, rest.len() - now))
    }

    /// Barge-in: stops playing within a packet, fading out, and forgets everything that was queued before this call:
    /// audio, marks and digits. Resolves when that is done and tells how much of each utterance was played. The cut
    /// happens even if the future is dropped.
    pub async fn clear(&self) -> Cleared {
        let _turn = self.shared.clearing.lock().await;
        let mut target = self.shared.lock().request_clear(&self.shared);
        while let Err(earlier) = target {
            self.shared.reached(earlier).await;
            target = self.shared.lock().request_clear(&self.shared);
        }
        self.shared.reached(target.unwrap_or_default()).await;
        self.shared.lock().take_cleared(&self.shared)
    }

    /// Waits until everything queued before this call was played or cleared, or the line ended.
    pub async fn played_out(&self) {
        let target = self.shared.lock().queued;
        self.shared.reached(target).await;
    }

    /// Sets a mark behind everything that is queued; [`Event::Mark`](super::Event::Mark) comes when it is reached.
    /// Waits for room. `None` once the line has ended.
    pub async fn mark(&self) -> Option<Mark> {
        let mark = Mark(self.shared.lock().next_id());
        self.push(Piece::Mark(mark)).await.then_some(mark)
    }

    /// Sends keys after everything that is queued; audio pauses meanwhile (RFC 4733 §2.5.1). A far end that negotiated
    /// no telephone-events gets their tones in the audio. Waits for room in the queue, not for the keys to be sent.
    ///
    /// # Errors
    /// [`NotADigit`], and then none is sent.
    pub async fn send_dtmf(&self, keys: &str) -> Result<(), NotADigit> {
        for digit in digits(keys)? {
            if !self.push(Piece::Digit(digit)).await {
                break;
            }
        }
        Ok(())
    }

    /// Asks for the call to be hung up, now; wait for [`played_out`](Self::played_out) first to be heard out. Only
    /// the first time counts.
    pub fn hang_up(&self, reason: impl Into<String>) {
        self.hang_up_because(HangUpReason::Asked(reason.into()));
    }

    pub(super) fn hang_up_because(&self, reason: HangUpReason) {
        if self.shared.first_hang_up() {
            self.asking.ask(Command::HangUp(reason));
        }
    }

    /// Asks for the far end to be transferred and waits for the outcome; the conversation goes on meanwhile.
    pub async fn transfer(&self, target: impl Into<String>) -> TransferOutcome {
        self.asking.transfer(TransferTarget::new(target.into())).await
    }

    /// From here on the call may be recorded, where its recording waits for that
    /// ([`Start::Allowed`](crate::session::recording::Start::Allowed)); [`Consent`](super::Consent) asks first.
    pub fn allow_recording(&self) {
        self.shared.switch.allow_recording();
    }

    /// Silence is recorded instead of both sides until [`resume_recording`](Self::resume_recording). What was said up to
    /// now is recorded, give or take a packet.
    pub fn pause_recording(&self) {
        self.shared.switch.pause_recording(true);
    }

    /// Goes on recording.
    pub fn resume_recording(&self) {
        self.shared.switch.pause_recording(false);
    }

    /// What the caller types is a secret until the value is dropped: from the first key on the caller's channel of a
    /// recording is silent, and a bridge passes neither keys nor the caller's audio on. [`Line::collect`](super::Line::collect)
    /// does this for inputs that are secret; take it before the prompt ends for a collector of your own.
    pub fn keep_secret(&self) -> Secret {
        Secret::of(self.shared.clone())
    }

    /// Waits for the end of the line.
    pub async fn ended(&self) {
        self.shared.reached(u64::MAX).await;
    }

    pub(super) fn switch(&self) -> &Switch {
        &self.shared.switch
    }

    async fn push(&self, piece: Piece) -> bool {
        let _turn = self.shared.turn.lock().await;
        let mut piece = piece;
        loop {
            if self.shared.is_closed() {
                return false;
            }
            let pushed = self.shared.lock().push(piece);
            let Err(back) = pushed else { return true };
            piece = back;
            self.shared.reached(self.shared.played.load(SeqCst) + 1).await;
        }
    }
}

impl fmt::Debug for Speaking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speaking")
            .field("format", &self.shared.format)
            .field("utterance", &self.utterance.id)
            .finish_non_exhaustive()
    }
}

fn digits(keys: &str) -> Result<Vec<Digit>, NotADigit> {
    keys.chars().map(|key| Digit::from_char(key).ok_or(NotADigit)).collect()
}

pub(super) fn speaking(format: AudioFormat, limits: &Limits, asking: Asking) -> (Speaking, SpeakingEnd) {
    let (shared, rings) = Shared::new(format, limits);
    let end = SpeakingEnd::new(shared.clone(), rings, samples_in(format, limits.fade));
    (Speaking { shared, asking, utterance: Said::new(Utterance(0)) }, end)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::task::Poll;

    use super::*;
    use crate::conversation::{Formats, LineEnd, line};

    /// Plays on a thread of its own until the line ends; gives all that it played.
    fn player(mut end: LineEnd, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<i16>> {
        std::thread::spawn(move || {
            let (mut out, mut played) = ([0; 80], Vec::new());
            while !stop.load(SeqCst) {
                let samples = end.take_audio(&mut out);
                played.extend_from_slice(&out[..samples]);
                std::thread::yield_now();
            }
            played
        })
    }

    fn speaking(limits: &Limits) -> (Speaking, LineEnd) {
        let (line, end, _commands) = line(Formats::both(AudioFormat::HZ_8000), limits);
        (line.split().1, end)
    }

    #[tokio::test]
    async fn nothing_is_lost_or_swapped_while_both_sides_run() {
        let limits =
            Limits { pieces: 8, speaking: std::time::Duration::from_millis(100), ..Limits::default() };
        let (speaking, end) = speaking(&limits);
        let stop = Arc::new(AtomicBool::new(false));
        let playing = player(end, stop.clone());
        let said: Vec<i16> = (0..30_000).collect();
        for part in said.chunks(333) {
            assert_eq!(speaking.play_all(part).await, part.len());
        }
        speaking.played_out().await;
        stop.store(true, SeqCst);
        assert_eq!(playing.join().unwrap(), said);
    }

    #[tokio::test]
    async fn what_clear_tells_is_what_was_played() {
        let (speaking, end) = speaking(&Limits::default());
        let stop = Arc::new(AtomicBool::new(false));
        let playing = player(end, stop.clone());
        let mut told = 0;
        for round in 0..300 {
            let one = speaking.new_utterance();
            let other = speaking.new_utterance();
            let said = one.play(&vec![1; round * 7]) + other.play(&[1; 900]) + one.play(&[1; 50]);
            for _ in 0..round % 5 {
                tokio::task::yield_now().await;
            }
            let cleared = speaking.clear().await;
            let of = |voice: &Speaking, all: usize| {
                // Played to its end before the clear: not listed.
                cleared.played(voice.utterance()).map_or(all as u64, Extent::samples)
            };
            let played = of(&one, round * 7 + 50) + of(&other, 900);
            assert!(played <= said as u64);
            told += played;
        }
        stop.store(true, SeqCst);
        assert_eq!(playing.join().unwrap().len() as u64, told);
    }

    #[tokio::test]
    async fn a_clear_that_nobody_waits_for_happens() {
        let (speaking, mut end) = speaking(&Limits::default());
        assert_eq!(speaking.play(&[1; 800]), 800);
        tokio::select! {
            biased;
            _ = speaking.clear() => panic!("the media thread has not run"),
            () = std::future::ready(()) => {}
        }
        let mut out = [0; 160];
        assert_eq!(end.take_audio(&mut out), 64, "the fade");
        let next = speaking.new_utterance();
        assert_eq!(next.play(&[2; 160]), 160);
        assert_eq!(end.take_audio(&mut out), 160);
        assert_eq!(out[0], 2);
    }

    #[tokio::test]
    async fn a_clear_of_marks_alone_leaves_what_is_said_after_it() {
        let (speaking, mut end) = speaking(&Limits::default());
        for _ in 0..3 {
            speaking.mark().await;
        }
        let mut clear = std::pin::pin!(speaking.clear());
        let waits = std::future::poll_fn(|context| Poll::Ready(clear.as_mut().poll(context).is_pending()));
        assert!(waits.await);
        speaking.play(&[7; 40]);
        let mut out = [0; 80];
        assert_eq!(end.take_audio(&mut out), 40);
        assert_eq!(out[..40], [7; 40]);
    }

    #[tokio::test]
    async fn an_estimate_says_its_error() {
        let (speaking, mut end) = speaking(&Limits::default());
        end.playing_is_estimated(160);
        assert_eq!(speaking.play(&[1; 800]), 800);
        end.take_audio(&mut [0; 160]);
        drop(end);
        let cleared = speaking.clear().await;
        assert_eq!(
            cleared.played(speaking.utterance()),
            Some(Extent::Estimated { samples: 160, error: 160 })
        );
    }

    #[tokio::test]
    async fn a_key_under_way_outlives_a_clear() {
        let (speaking, mut end) = speaking(&Limits::default());
        speaking.send_dtmf("12").await.unwrap();
        assert_eq!(end.take_audio(&mut [0; 160]), 0);
        assert!(end.digit() == Digit::from_char('1'));
        let clearing = tokio::spawn(async move { speaking.clear().await });
        tokio::task::yield_now().await;
        end.take_audio(&mut [0; 160]);
        assert!(end.digit() == Digit::from_char('1'), "it is still down");
        end.digit_sent();
        end.take_audio(&mut [0; 160]);
        assert!(end.digit().is_none(), "the other is gone");
        assert!(clearing.await.unwrap().utterances.is_empty());
    }

    #[tokio::test]
    async fn a_wrong_key_sends_none() {
        let (speaking, mut end) = speaking(&Limits::default());
        assert_eq!(speaking.send_dtmf("12x").await, Err(NotADigit));
        end.take_audio(&mut [0; 160]);
        assert!(end.digit().is_none());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_line_that_ended() {
        let limits =
            Limits { pieces: 2, speaking: std::time::Duration::from_millis(20), ..Limits::default() };
        let (speaking, end) = speaking(&limits);
        let voice = speaking.clone();
        let waiting = tokio::spawn(async move { voice.play_all(&[1; 8_000]).await });
        tokio::task::yield_now().await;
        drop(end);
        assert_eq!(waiting.await.unwrap(), 160);
        speaking.played_out().await;
        assert_eq!(speaking.mark().await, None);
        assert_eq!(speaking.transfer("sip:someone@example.org").await, TransferOutcome::Ended);
    }
}
