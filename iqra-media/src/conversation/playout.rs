//! The media thread's end of what is spoken: samples in the order in which they were said, and the cut of a barge-in.
//!
//! In: pieces from [`Speaking`](super::Speaking). Out: samples for the encoder, marks, digits, and the position that
//! was played to. Everything that is queued has a place on one time line: a sample, a digit and a mark take one step
//! each, so that "played up to here" is one number.

use std::fmt;
use std::sync::Arc;

use super::AudioFormat;
use super::queue::{Piece, Rings, Shared};
use super::speaking::Mark;
use super::switch::Switch;
use super::underruns::{Passage, SpeakingCounts, Underruns};
use crate::pcm::level;
use crate::rtp::telephone_event::Digit;

/// The media thread's end of [`Speaking`](super::Speaking). Nothing here blocks, locks or allocates, except that a
/// task which waits for the position just reached is woken.
pub(super) struct SpeakingEnd {
    shared: Arc<Shared>,
    pieces: rtrb::Consumer<Piece>,
    spent: rtrb::Producer<Vec<i16>>,
    format: AudioFormat,
    fade: usize,
    current: Vec<i16>,
    current_at: usize,
    digit: Option<Digit>,
    /// The step that the digit will take when it was sent; none if a `clear` took it before.
    digit_steps: u64,
    position: u64,
    underruns: Underruns,
}

impl SpeakingEnd {
    pub(super) fn new(shared: Arc<Shared>, (pieces, spent): Rings, fade: usize) -> Self {
        let (format, current) = (shared.format, Vec::new());
        Self {
            shared,
            pieces,
            spent,
            format,
            fade,
            current,
            current_at: 0,
            digit: None,
            digit_steps: 0,
            position: 0,
            underruns: Underruns::new(format),
        }
    }

    /// The format of the samples.
    pub(super) fn format(&self) -> AudioFormat {
        self.format
    }

    /// Fills `out` with speech, then silence, and gives how many samples are speech; stops at a digit. Calls
    /// `reached` for each mark on the way.
    pub(super) fn pull(&mut self, out: &mut [i16], mut reached: impl FnMut(Mark)) -> usize {
        let faded = self.clear(out, &mut reached);
        let samples = faded + self.fill(&mut out[faded..], u64::MAX, &mut reached);
        out[samples..].fill(0);
        self.underruns.dry(out.len() - samples);
        self.shared.publish(self.position);
        samples
    }

    /// The digit that has to be sent before any more audio.
    pub(super) fn digit(&self) -> Option<Digit> {
        self.digit
    }

    /// The digit was sent.
    pub(super) fn digit_sent(&mut self) {
        if self.digit.take().is_some() {
            self.position += std::mem::take(&mut self.digit_steps);
            self.shared.publish(self.position);
        }
    }

    /// Carries out a `clear` without anything being played.
    pub(super) fn clear_silently(&mut self) {
        self.clear(&mut [], &mut |_| {});
        self.underruns.interrupted();
        self.shared.publish(self.position);
    }

    /// From here on what was played is known with this error, in samples.
    pub(super) fn set_error(&mut self, error: u64) {
        self.shared.set_error(error);
    }

    pub(super) fn switch(&self) -> &Switch {
        &self.shared.switch
    }

    pub(super) fn first_hang_up(&self) -> bool {
        self.shared.first_hang_up()
    }

    /// What the conversation was too slow to say so far.
    pub(super) fn counts(&self) -> SpeakingCounts {
        self.underruns.counts()
    }

    /// Ends the line: whoever waits for playing is told.
    pub(super) fn end(&mut self) {
        self.shared.close();
    }

    /// Barge-in: fades what is playing out into `out` and skips the rest of what was queued when `clear` was called.
    /// Gives how many samples were faded.
    fn clear(&mut self, out: &mut [i16], reached: &mut impl FnMut(Mark)) -> usize {
        let target = self.shared.clear_to();
        if target <= self.position {
            return 0;
        }
        let most =
            self.fade.min(out.len()).min(usize::try_from(target - self.position).unwrap_or(usize::MAX));
        let faded = self.fill(&mut out[..most], target, reached);
        level::fade(&mut out[..faded], 1.0, 0.0);
        let stopped_at = self.position;
        self.skip_to(target);
        self.shared.cleared(target, stopped_at);
        faded
    }

    /// A digit that is being sent is sent to its end: half a key is another key.
    fn skip_to(&mut self, target: u64) {
        self.position += std::mem::take(&mut self.digit_steps);
        self.position += (self.current.len() - self.current_at) as u64;
        self.current_at = self.current.len();
        while self.position < target {
            let Ok(piece) = self.pieces.pop() else { break };
            self.position += piece.steps();
            if let Piece::Audio(_, samples) = piece {
                self.give_back(samples);
            }
        }
        self.position = self.position.max(target);
    }

    /// Takes nothing from the position `until` on, so that a clear leaves alone what was said after it.
    fn fill(&mut self, out: &mut [i16], until: u64, reached: &mut impl FnMut(Mark)) -> usize {
        let mut filled = 0;
        while filled < out.len() && self.has_samples(until, reached) {
            let ready = &self.current[self.current_at..];
            let count = ready.len().min(out.len() - filled);
            out[filled..filled + count].copy_from_slice(&ready[..count]);
            filled += count;
            self.current_at += count;
            self.position += count as u64;
        }
        filled
    }

    /// Whether the current piece has samples left, after moving on to the next piece where there is one before `until`.
    fn has_samples(&mut self, until: u64, reached: &mut impl FnMut(Mark)) -> bool {
        while self.current_at == self.current.len() {
            if self.digit.is_some() || self.position >= until {
                return false;
            }
            let Ok(piece) = self.pieces.pop() else { return false };
            match piece {
                Piece::Audio(passage, samples) => self.start(passage, samples),
                Piece::Mark(mark) => {
                    self.position += 1;
                    reached(mark);
                }
                Piece::Digit(digit) => {
                    self.underruns.interrupted();
                    (self.digit, self.digit_steps) = (Some(digit), 1);
                }
            }
        }
        true
    }

    fn start(&mut self, passage: Passage, samples: Vec<i16>) {
        self.underruns.begins(passage);
        let spent = std::mem::replace(&mut self.current, samples);
        self.current_at = 0;
        self.give_back(spent);
    }

    /// The buffer goes back to the speaking side, which frees or refills it: this thread frees nothing.
    fn give_back(&mut self, samples: Vec<i16>) {
        if samples.capacity() > 0 {
            let _ = self.spent.push(samples);
        }
    }
}

impl fmt::Debug for SpeakingEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpeakingEnd").field("position", &self.position).finish_non_exhaustive()
    }
}
