//! Gaps within what is spoken: the play queue ran dry although the utterance went on.
//!
//! Whether an utterance had ended shows only with what is said next. Audio of the same utterance within [`GOES_ON`] of
//! silence went on, and the conversation was too slow to feed it; after a longer silence, in another utterance or after
//! a `clear` it begins anew. Keys, a hold and a bridge's keys interrupt by right: silence around them is no gap.

use std::time::Duration;

use super::AudioFormat;

/// Silence after which the same voice is taken to say something else: longer than a stutter, shorter than the turn of
/// somebody else.
const GOES_ON: Duration = Duration::from_secs(1);

/// What a conversation was too slow to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpeakingCounts {
    /// How often audio of an utterance came after the audio before it had been played to its end.
    pub underruns: u64,
    /// Samples of silence that were played meanwhile.
    pub missing_samples: u64,
}

/// What a piece of audio belongs to: an utterance, up to the next `clear`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Passage {
    pub(super) utterance: u64,
    pub(super) clears: u64,
}

/// Watches what is played.
#[derive(Debug)]
pub(super) struct Underruns {
    /// What was said last, unless something interrupted it.
    last: Option<Passage>,
    /// Samples of silence since.
    silence: u64,
    most: u64,
    counts: SpeakingCounts,
}

impl Underruns {
    pub(super) fn new(format: AudioFormat) -> Self {
        let most = GOES_ON.as_secs() * u64::from(format.sample_rate());
        Self { last: None, silence: 0, most, counts: SpeakingCounts::default() }
    }

    /// A piece of a passage begins to play.
    pub(super) fn begins(&mut self, passage: Passage) {
        let silence = std::mem::take(&mut self.silence);
        let goes_on = self.last.replace(passage) == Some(passage);
        if goes_on && (1..self.most).contains(&silence) {
            self.counts.underruns += 1;
            self.counts.missing_samples += silence;
        }
    }

    /// So many samples of silence are played, since nothing is queued.
    pub(super) fn dry(&mut self, samples: usize) {
        self.silence = self.silence.saturating_add(samples as u64);
    }

    /// Something else than silence takes the place of speech, or nothing is played at all.
    pub(super) fn interrupted(&mut self) {
        self.last = None;
        self.silence = 0;
    }

    pub(super) fn counts(&self) -> SpeakingCounts {
        self.counts
    }
}
