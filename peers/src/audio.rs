//! Known signals at 8 kHz, and whether a recording holds them.
//!
//! A recording is cut into windows of 20 ms. A window *has* a tone when nearly all of its power is at that
//! frequency (Goertzel) and it is loud enough: silence, noise, another tone and a wrongly decoded tone have none.

use std::f64::consts::TAU;
use std::path::Path;

/// Samples per second of everything here.
pub const RATE: u32 = 8_000;

/// 20 ms: one frame of telephone audio.
pub const FRAME: usize = 160;

/// A window below this RMS (of 32768) counts as silent: -40 dBFS.
const QUIET: f64 = 328.0;

/// The share of a window's power that its tone must hold. G.711 leaves more than 0.999; two laws mixed up, 0.6.
const PURE: f64 = 0.85;

/// How far a window of a sweep may be from the expected frequency, in Hz: one bin of a 20 ms window.
const SWEEP_TOLERANCE: f64 = 50.0;

/// A sine of `hz` at half of full scale.
pub fn tone(hz: f64, seconds: f64) -> Vec<i16> {
    sweep(hz, hz, seconds)
}

/// A sine that moves evenly from `from` to `to` Hz, at half of full scale.
pub fn sweep(from: f64, to: f64, seconds: f64) -> Vec<i16> {
    let rate = f64::from(RATE);
    let samples = (seconds * rate) as usize;
    let slope = (to - from) / seconds;
    let sample = |n: usize| {
        let t = n as f64 / rate;
        (16_384.0 * (TAU * (from * t + slope * t * t / 2.0)).sin()) as i16
    };
    (0..samples).map(sample).collect()
}

/// Writes mono 16-bit samples at 8 kHz.
///
/// # Panics
/// When the disk refuses.
pub fn write_wav(path: &Path, samples: &[i16]) {
    write_wav_as(path, samples, RATE, 1);
}

/// Writes 16-bit samples at this rate in Hz, the same in each channel.
///
/// # Panics
/// As [`write_wav`].
pub fn write_wav_as(path: &Path, samples: &[i16], rate: u32, channels: u16) {
    let sample_format = hound::SampleFormat::Int;
    let spec = hound::WavSpec { channels, sample_rate: rate, bits_per_sample: 16, sample_format };
    let mut writer = hound::WavWriter::create(path, spec).expect("a writable path");
    for &sample in samples {
        (0..channels).for_each(|_| writer.write_sample(sample).expect("room on the disk"));
    }
    writer.finalize().expect("room on the disk");
}

/// Reads the first channel of a 16-bit recording that is still being written, with its rate in Hz: a program writes the
/// length into the header when it closes the file. `None` while there is no header.
pub fn read_growing_wav(path: &Path) -> Option<(Vec<i16>, u32)> {
    let bytes = std::fs::read(path).ok()?;
    let find = |name: &[u8]| bytes.windows(4).position(|four| four == name).map(|at| at + 8);
    let (format, data) = (find(b"fmt ")?, find(b"data")?);
    let half = |at: usize| Some(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let (channels, depth) = (half(format + 2)?, half(format + 14)?);
    assert_eq!(depth, 16, "{}", path.display());
    let rate = u32::from(half(format + 4)?) | u32::from(half(format + 6)?) << 16;
    let frames = bytes.get(data..)?.chunks_exact(2 * usize::from(channels.max(1)));
    Some((frames.map(|frame| i16::from_le_bytes([frame[0], frame[1]])).collect(), rate))
}

/// Reads a mono 16-bit recording at 8 kHz.
///
/// # Panics
/// When it is missing or of another format.
pub fn read_wav(path: &Path) -> Vec<i16> {
    let reader = hound::WavReader::open(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (1, RATE, 16), "{}", path.display());
    reader.into_samples().map(|sample| sample.expect("a whole sample")).collect()
}

/// What of a tone is in a recording.
#[derive(Clone, Copy, Debug)]
pub struct Tone {
    /// How much of the recording has it, in seconds.
    pub seconds: f64,
    /// Its RMS level over those windows, in dB of full scale. The signals made here are at -9 dB.
    pub level_db: f64,
}

/// Looks for a sine of `hz`.
pub fn find_tone(samples: &[i16], hz: f64) -> Tone {
    let powers: Vec<f64> = windows(samples).filter(|window| has_tone(window, hz)).map(power).collect();
    let mean = powers.iter().sum::<f64>() / powers.len().max(1) as f64;
    Tone { seconds: seconds(powers.len()), level_db: 10.0 * (mean / 32_768f64.powi(2)).log10() }
}

/// What of a sweep is in a recording.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// How much of it is there, at its right place in time, in seconds.
    pub seconds: f64,
    /// Where it starts in the recording, in seconds; negative when its beginning is missing.
    pub start: f64,
}

/// Looks for the sweep that [`sweep`] makes of the same figures. Sliding over the recording, it takes the start
/// under which most windows have their right frequency: a tone that stands still, or a sweep of another speed,
/// matches hardly anywhere.
pub fn find_sweep(samples: &[i16], from: f64, to: f64, length: f64) -> Sweep {
    let found: Vec<Option<f64>> = windows(samples).map(dominant).collect();
    let frames = (length * f64::from(RATE)) as usize / FRAME;
    let expected = |frame: usize| from + (to - from) * (frame as f64 + 0.5) / frames as f64;
    let at = |window: isize| usize::try_from(window).ok().and_then(|n| found.get(n).copied().flatten());
    let near = |start: isize, frame: &usize| {
        at(start + *frame as isize).is_some_and(|hz| (hz - expected(*frame)).abs() <= SWEEP_TOLERANCE)
    };
    let matches = |start: isize| (0..frames).filter(|frame| near(start, frame)).count();
    let starts = -(frames as isize)..found.len() as isize;
    let (count, start) =
        starts.map(|start| (matches(start), start)).max_by_key(|found| found.0).unwrap_or((0, 0));
    Sweep { seconds: seconds(count), start: start as f64 * seconds(1) }
}

/// How much of a recording is louder than -40 dBFS, in seconds.
pub fn loud_seconds(samples: &[i16]) -> f64 {
    seconds(windows(samples).filter(|window| !is_quiet(window)).count())
}

fn windows(samples: &[i16]) -> impl Iterator<Item = &[i16]> {
    samples.chunks_exact(FRAME)
}

fn seconds(windows: usize) -> f64 {
    (windows * FRAME) as f64 / f64::from(RATE)
}

fn has_tone(window: &[i16], hz: f64) -> bool {
    !is_quiet(window) && purity(window, hz, RATE) > PURE
}

pub(crate) fn is_quiet(window: &[i16]) -> bool {
    power(window).sqrt() < QUIET
}

/// Mean square.
pub(crate) fn power(window: &[i16]) -> f64 {
    window.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / window.len() as f64
}

/// The share of the power at `hz`, by Goertzel's recurrence: 1 for a pure sine of that frequency.
pub(crate) fn purity(window: &[i16], hz: f64, rate: u32) -> f64 {
    let turn = 2.0 * (TAU * hz / f64::from(rate)).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for &sample in window {
        (last, before) = (f64::from(sample) + turn * last - before, last);
    }
    let energy = last * last + before * before - turn * last * before;
    2.0 * energy / (window.len() as f64).powi(2) / power(window).max(1.0)
}

/// The frequency that holds most of a window, to 20 Hz; `None` when it is quiet or holds no clear one.
fn dominant(window: &[i16]) -> Option<f64> {
    let candidates = (200..3_800).step_by(20).map(f64::from);
    let rated = candidates.map(|hz| (purity(window, hz, RATE), hz));
    let (share, hz) = rated.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (!is_quiet(window) && share > 0.5).then_some(hz)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::g711::Law;

    fn noise(seconds: f64) -> Vec<i16> {
        let mut random = fastrand::Rng::with_seed(7);
        (0..(seconds * 8000.0) as usize).map(|_| random.i16(-16_000..16_000)).collect()
    }

    fn through(out: Law, back: Law, samples: &[i16]) -> Vec<i16> {
        samples.iter().map(|&sample| back.decode(out.encode(sample))).collect()
    }

    #[test]
    fn a_tone_is_found_whole_and_at_its_level() {
        for law in Law::BOTH {
            let found = find_tone(&through(law, law, &tone(440.0, 2.0)), 440.0);
            assert!(found.seconds > 1.95, "{found:?}");
            assert!((found.level_db + 9.0).abs() < 0.5, "{found:?}");
        }
    }

    #[test]
    fn silence_noise_and_another_tone_are_not_it() {
        for other in
            [vec![0; 16_000], noise(2.0), tone(523.0, 2.0), tone(880.0, 2.0), sweep(300.0, 3000.0, 2.0)]
        {
            let found = find_tone(&other, 440.0);
            assert!(found.seconds < 0.1, "{found:?}");
        }
    }

    #[test]
    fn a_tone_decoded_by_the_wrong_law_is_not_it() {
        let found = find_tone(&through(Law::Mu, Law::A, &tone(440.0, 2.0)), 440.0);
        assert!(found.seconds < 0.1, "{found:?}");
    }

    #[test]
    fn a_whisper_is_not_it() {
        let quiet: Vec<i16> = tone(440.0, 2.0).iter().map(|sample| sample / 64).collect();
        assert_eq!(find_tone(&quiet, 440.0).seconds, 0.0);
    }

    #[test]
    fn gaps_are_counted() {
        let mut samples = tone(440.0, 2.0);
        samples[8_000..12_000].fill(0);
        let found = find_tone(&samples, 440.0);
        assert!((1.4..1.55).contains(&found.seconds), "{found:?}");
        assert!((1.45..1.55).contains(&loud_seconds(&samples)));
    }

    #[test]
    fn a_sweep_is_found_with_its_delay() {
        let mut samples = vec![0; 4_000];
        samples.extend(sweep(300.0, 3000.0, 2.0));
        for law in Law::BOTH {
            let found = find_sweep(&through(law, law, &samples), 300.0, 3000.0, 2.0);
            assert!(found.seconds > 1.9, "{found:?}");
            assert!((found.start - 0.5).abs() < 0.05, "{found:?}");
        }
    }

    #[test]
    fn other_signals_are_not_the_sweep() {
        let falling = sweep(3000.0, 300.0, 2.0);
        let slow = sweep(300.0, 3000.0, 6.0);
        for other in [vec![0; 16_000], noise(2.0), tone(1000.0, 2.0), falling, slow] {
            let found = find_sweep(&other, 300.0, 3000.0, 2.0);
            assert!(found.seconds < 0.3, "{found:?}");
        }
    }

    #[test]
    fn a_wav_comes_back_as_written() {
        let scratch = crate::scratch::Scratch::new("wav");
        let path = scratch.path().join("tone.wav");
        let samples = tone(700.0, 0.1);
        write_wav(&path, &samples);
        assert_eq!(read_wav(&path), samples);
        assert_eq!(read_growing_wav(&path), Some((samples, RATE)));
    }

    #[test]
    fn a_wav_is_read_while_it_grows() {
        let scratch = crate::scratch::Scratch::new("wav");
        let path = scratch.path().join("tone.wav");
        assert_eq!(read_growing_wav(&path), None);
        write_wav_as(&path, &[1, -2, 3], 48_000, 2);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(4).position(|four| four == b"data").unwrap() + 4;
        bytes[at..at + 4].fill(0);
        bytes.truncate(bytes.len() - 3);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read_growing_wav(&path), Some((vec![1, -2], 48_000)));
    }
}
