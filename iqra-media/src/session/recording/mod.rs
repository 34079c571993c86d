//! Recording both directions of a call, aligned in time: the caller left, the agent right.
//!
//! ```text
//!  media thread                                             a thread per recording
//!  heard  ─▶ Tap: left,  100 ms held back ─▶ ring of 4 s ─┐
//!  spoken ─▶ Tap: right ───────────────────▶ ring of 4 s ─┴▶ writer ─▶ WAV, or sealed chunks ─▶ parts of 2 GiB
//! ```
//!
//! - **Time.** Sample n of the file is the time n / rate after the recording began, on the clock of the session: what was
//!   heard stands where it was given to the conversation, within 60 ms and for the most part within a beat of the media
//!   thread, and what was spoken where its packet was due, exactly. Where a side says nothing there is silence, also
//!   while the recording [pauses](crate::conversation::Speaking::pause_recording).
//! - **Media thread.** It writes into the rings of the [`Tap`], without a lock, an allocation or a system call. A writer
//!   that falls behind by more than the ring holds costs recorded audio: it is counted, told by [`Recording::lost`] and
//!   [`Recorded`], and silence of the same length stands in its place.
//! - **Crash.** A second after it was spoken audio is in the file and its header names it (hound rewrites the sizes after
//!   the data), so that the file is valid whenever the process dies. A sealed file is valid up to its last whole chunk,
//!   and says that its end is missing. Files are not forced to the disk: what a loss of power costs is up to the system.
//! - **Disk.** Errors are logged once, told by [`Recording::state`] and by [`Recording::finish`], and never heard on the
//!   call; the rest of the call counts as lost. No file is overwritten: where there is one already, and after
//!   [`Settings::part_limit`], the next name is taken, `call.2.wav` after `call.wav`. On Unix only the owner may read them.
//! - **Secrets.** While a [secret input](crate::conversation::Speaking::keep_secret) is typed, the caller's channel is
//!   silent from the first key until 300 ms after the input is over and the key is up. Detectors tell a key late, so the
//!   channel is held back by 100 ms and that is silenced too. Whether there is a key is told by telephone-events and by
//!   the tones in the audio, whatever was negotiated.
//! - **Consent.** With [`Start::Allowed`] nothing is recorded before
//!   [`allow_recording`](crate::conversation::Speaking::allow_recording), which
//!   [`Consent`](crate::conversation::Consent) calls; a call in which it never comes leaves no file.
//!
//! Encryption is in [`sealed`], names and retention in [`folder`].

pub mod folder;
#[cfg(feature = "encryption")]
pub mod sealed;
mod tap;
mod writer;

pub use tap::Tap;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::pcm::UnsupportedRate;
use crate::pcm::wav::WavError;

#[cfg(feature = "encryption")]
use sealed::Key;
use writer::{Files, Writer};

/// When a recording begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With the media.
    #[default]
    AtOnce,
    /// When the conversation [allows](crate::conversation::Speaking::allow_recording) it.
    Allowed,
}

/// What is recorded where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file. Choose a name without a phone number; [`folder::Folder::path_of`] makes such names.
    pub path: PathBuf,
    /// When it begins. Default [`Start::AtOnce`].
    pub start: Start,
    /// The key that it is sealed with; `.sealed` is added to the file's name. Default `None`: a WAV file that anybody can
    /// play who may read it.
    #[cfg(feature = "encryption")]
    pub key: Option<Key>,
    /// Octets of audio after which the next part begins. Default 2 GiB, 4.6 hours at 16 kHz; at most 4,294,000,000, since
    /// a WAV file cannot hold more than 4 GiB.
    pub part_limit: u64,
}

impl Settings {
    /// A WAV file that begins with the media.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            start: Start::AtOnce,
            #[cfg(feature = "encryption")]
            key: None,
            part_limit: 2 << 30,
        }
    }
}

/// How a recording stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Nothing was recorded yet.
    Waiting,
    /// It is being written, or pauses.
    Recording,
    /// The disk refused; the rest of the call is lost.
    Failed,
}

/// What the media thread, the writer and the owner see of each other.
#[derive(Debug, Default)]
struct Shared {
    /// Samples of either side that found no room.
    lost: AtomicU64,
    /// A [`State`].
    state: AtomicU8,
    /// Samples of each side that the tap took, and that the writer is done with.
    taken: AtomicU64,
    written: AtomicU64,
    /// Samples of each side from the beginning to the end, once the tap is gone.
    length: AtomicU64,
}

impl Shared {
    fn set(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Waiting,
            1 => State::Recording,
            _ => State::Failed,
        }
    }

    fn lose(&self, samples: u64) {
        self.lost.fetch_add(samples, Ordering::Relaxed);
    }
}

/// A recording under way.
#[derive(Debug)]
pub struct Recording {
    writing: JoinHandle<Result<Vec<PathBuf>, WavError>>,
    shared: Arc<Shared>,
    rate: u32,
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The parts in order; none if the recording was never allowed.
    pub files: Vec<PathBuf>,
    /// How long they are together.
    pub length: Duration,
    /// Samples that the disk was too slow for, or that came in a burst when their time was over; silence stands in
    /// their place.
    pub lost_samples: u64,
}

impl Recording {
    /// Makes the file and starts its writer; give the [`Tap`] to the media session. The codec's sample rate in Hz is the
    /// natural one; anything else is resampled.
    ///
    /// # Errors
    /// [`WavError`] when the file cannot be made, or the rate is none that is converted.
    pub fn create(settings: Settings, sample_rate: u32) -> Result<(Self, Tap), WavError> {
        let files = Files::new(&settings, sample_rate);
        Self::with(files, settings.start, sample_rate)
    }

    fn with(mut files: Files, start: Start, sample_rate: u32) -> Result<(Self, Tap), WavError> {
        let shown = files.first().display().to_string();
        let refused =
            |rate: UnsupportedRate| WavError::Unsupported { path: shown.clone(), what: rate.to_string() };
        let shared = Arc::new(Shared::default());
        let (tap, ends) = Tap::new(sample_rate, start, shared.clone()).map_err(refused)?;
        files.open_next()?;
        let writer = Writer::new(files, ends, shared.clone());
        let writing = std::thread::Builder::new()
            .name("iqra-recording".into())
            .spawn(move || writer.run())
            .map_err(|source| WavError::Io { path: shown.clone(), source })?;
        Ok((Self { writing, shared, rate: sample_rate }, tap))
    }

    /// How it stands.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Samples of either side that were lost so far, because the disk was slow or refused, or because they came when
    /// silence had taken their place.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// How much audio waits for the disk; what is more than 4 s is lost.
    pub fn waiting(&self) -> Duration {
        let written = self.shared.written.load(Ordering::Acquire);
        let samples = self.shared.taken.load(Ordering::Acquire).saturating_sub(written);
        Duration::from_secs_f64(samples as f64 / f64::from(self.rate))
    }

    /// Waits until the call has ended and the file is whole. Blocks the thread: in async code call it from
    /// `spawn_blocking`, after the leg was closed.
    ///
    /// # Errors
    /// [`WavError`] when the disk refused; what was written before is a valid file.
    pub fn finish(self) -> Result<Recorded, WavError> {
        let written = self.writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let samples = self.shared.length.load(Ordering::Acquire);
        written.map(|files| Recorded {
            files,
            length: Duration::from_secs_f64(samples as f64 / f64::from(self.rate)),
            lost_samples: self.shared.lost.load(Ordering::Relaxed),
        })
    }
}

#[cfg(test)]
mod tests;
