//! Recording both directions of a call, aligned in time: the caller left, the agent right.
//!
//! In: samples of the media thread at a [`Tap`]. Out: a stereo WAV file, written by a thread of its own that looks at
//! the queues four times a second. A disk that is too slow costs recorded audio, counted, and never call audio.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::pcm::Resampler;
use crate::pcm::wav::{Recorder, WavError};

/// Audio that may wait for the disk, per direction.
const WAITING: Duration = Duration::from_secs(4);
/// How often the writer looks.
const WRITING: Duration = Duration::from_millis(250);
/// A side that is silent for longer is filled up with silence, so that both stay aligned.
const SLACK: Duration = Duration::from_millis(200);

/// A recording under way.
#[derive(Debug)]
pub struct Recording {
    writing: JoinHandle<Result<(), WavError>>,
    lost: Arc<AtomicU64>,
}

/// What was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Samples that the disk was too slow for; silence stands in their place.
    pub lost_samples: u64,
}

impl Recording {
    /// Makes the file, or overwrites it, and starts its writer; give the [`Tap`] to the media session. The codec's
    /// sample rate in Hz is the natural one; anything else is resampled.
    ///
    /// # Errors
    /// [`WavError`] when the file cannot be made, or the rate is none that is converted.
    pub fn create(path: impl AsRef<Path>, sample_rate: u32) -> Result<(Self, Tap), WavError> {
        let shown = path.as_ref().display().to_string();
        let refused = |rate: crate::pcm::UnsupportedRate| WavError::Unsupported {
            path: shown.clone(),
            what: rate.to_string(),
        };
        let lost = Arc::new(AtomicU64::new(0));
        let (left, left_out) = Side::new(sample_rate, lost.clone()).map_err(refused)?;
        let (right, right_out) = Side::new(sample_rate, lost.clone()).map_err(refused)?;
        let file = Recorder::create(&path, sample_rate)?;
        let writing = std::thread::Builder::new()
            .name("iqra-recording".into())
            .spawn(move || write(file, left_out, right_out))
            .map_err(|source| WavError::Io { path: shown.clone(), source })?;
        Ok((Self { writing, lost }, Tap { left, right }))
    }

    /// Waits until the call has ended and the file is whole. Blocks the thread: in async code call it from
    /// `spawn_blocking`, after the leg was closed.
    ///
    /// # Errors
    /// [`WavError`] when the disk refused.
    pub fn finish(self) -> Result<Recorded, WavError> {
        let written = self.writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.map(|()| Recorded { lost_samples: self.lost.load(Ordering::Relaxed) })
    }
}

/// The media thread's end of a recording. Dropping it ends the file.
pub struct Tap {
    left: Side,
    right: Side,
}

impl Tap {
    /// Time zero of the file; the rates of what is heard and spoken.
    pub(super) fn started(mut self, rates: (u32, u32), now: Instant) -> Self {
        self.left.clock = Some(Clock { start: now, last: now });
        self.right.clock = Some(Clock { start: now, last: now });
        self.set_rates(rates);
        self
    }

    /// From here on what is heard and spoken comes at these rates.
    pub(super) fn set_rates(&mut self, (heard, spoken): (u32, u32)) {
        self.left.set_rate(heard);
        self.right.set_rate(spoken);
    }

    pub(super) fn heard(&mut self, now: Instant, samples: &[i16]) {
        self.left.record(now, samples);
    }

    pub(super) fn spoken(&mut self, now: Instant, samples: &[i16]) {
        self.right.record(now, samples);
    }

    pub(super) fn keep_up(&mut self, now: Instant) {
        let late = now.checked_sub(SLACK).unwrap_or(now);
        self.left.fill_until(late, 0);
        self.right.fill_until(late, 0);
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("rate", &self.left.rate).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Clock {
    start: Instant,
    last: Instant,
}

/// One channel: a ring towards the writer, and how much time it holds already.
struct Side {
    ring: rtrb::Producer<i16>,
    rate: u32,
    from: u32,
    resampler: Resampler,
    converted: Vec<i16>,
    written: u64,
    clock: Option<Clock>,
    lost: Arc<AtomicU64>,
}

impl Side {
    fn new(
        rate: u32,
        lost: Arc<AtomicU64>,
    ) -> Result<(Self, rtrb::Consumer<i16>), crate::pcm::UnsupportedRate> {
        let resampler = Resampler::new(rate, rate)?;
        let (ring, out) = rtrb::RingBuffer::new(rate as usize * WAITING.as_secs() as usize);
        let converted = Vec::new();
        Ok((Self { ring, rate, from: rate, resampler, converted, written: 0, clock: None, lost }, out))
    }

    fn set_rate(&mut self, rate: u32) {
        if rate != self.from
            && let Ok(resampler) = Resampler::new(rate, self.rate)
        {
            (self.from, self.resampler) = (rate, resampler);
        }
    }

    fn record(&mut self, now: Instant, samples: &[i16]) {
        let mut converted = std::mem::take(&mut self.converted);
        converted.clear();
        self.resampler.process(samples, &mut converted);
        if let Some(clock) = &mut self.clock
            && now.saturating_duration_since(std::mem::replace(&mut clock.last, now)) > SLACK / 2
        {
            self.fill_until(now, converted.len() as u64);
        }
        self.push(converted.len(), converted.iter().copied());
        self.converted = converted;
    }

    /// Silence up to `until`, leaving room before it for `samples` that follow.
    fn fill_until(&mut self, until: Instant, samples: u64) {
        let Some(clock) = self.clock else { return };
        let elapsed =
            until.saturating_duration_since(clock.start).as_millis() as u64 * u64::from(self.rate) / 1_000;
        let missing = elapsed.saturating_sub(self.written + samples);
        let missing = usize::try_from(missing).unwrap_or(usize::MAX).min(self.ring.slots());
        self.push(missing, std::iter::repeat_n(0, missing));
    }

    fn push(&mut self, count: usize, samples: impl Iterator<Item = i16>) {
        let Ok(room) = self.ring.write_chunk_uninit(count) else {
            self.lost.fetch_add(count as u64, Ordering::Relaxed);
            return;
        };
        self.written += room.fill_from_iter(samples) as u64;
    }
}

fn write(
    mut file: Recorder,
    mut left: rtrb::Consumer<i16>,
    mut right: rtrb::Consumer<i16>,
) -> Result<(), WavError> {
    loop {
        let ended = left.is_abandoned() && right.is_abandoned();
        let (heard, spoken) = (left.slots(), right.slots());
        let both = if ended { heard.max(spoken) } else { heard.min(spoken) };
        let (heard, spoken) = (drain(&mut left, both), drain(&mut right, both));
        file.record(&heard, &spoken)?;
        if ended {
            return file.finish();
        }
        std::thread::sleep(WRITING);
    }
}

fn drain(ring: &mut rtrb::Consumer<i16>, most: usize) -> Vec<i16> {
    let count = most.min(ring.slots());
    std::iter::from_fn(|| ring.pop().ok()).take(count).collect()
}
