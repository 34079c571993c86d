//! What must hold of any input, for the property tests of this crate and the fuzz targets.
// Each of those uses a part of it.
#![allow(dead_code)]

use iqra_media::detect::dtmf;
use iqra_media::detect::machine::{Config, MachineDetector};
use iqra_media::detect::progress::ProgressDetector;
use iqra_media::detect::voice::{Energy, VoiceActivity};
use iqra_media::pcm::{RATES, Resampler};

/// Any octets as a stream of samples: the first four choose rate, cuts and how the rest is stretched to a sound. No
/// detector panics, tells more than the time allows, or minds where the stream is cut.
pub(crate) fn detectors(data: &[u8]) {
    let Some((&[rate, cut, shape, repeat], rest)) = data.split_first_chunk() else { return };
    let rate = RATES[usize::from(rate) % RATES.len()];
    let sound = sound(rest, shape, 1 + usize::from(repeat % 16));
    let whole = events(rate, &sound, usize::MAX);
    assert_eq!(events(rate, &sound, 1 + usize::from(cut)), whole, "cut at every {cut} and one");
    // The quickest of all is a key: 15 ms down, 15 ms up, each told.
    let most = 8 + 8 * sound.len() / (rate as usize / 100).max(1);
    assert!(whole.len() <= most, "{} of {} samples", whole.len(), sound.len());
}

/// Samples from octets: as they are, or as square waves of the periods that they name, which are tones to detectors.
fn sound(octets: &[u8], shape: u8, repeat: usize) -> Vec<i16> {
    let mut sound = Vec::new();
    for pair in octets.as_chunks::<2>().0 {
        let sample = i16::from_le_bytes(*pair);
        let half = 1 + usize::from(pair[0] % 64);
        match shape % 3 {
            0 => sound.extend(std::iter::repeat_n(sample, repeat)),
            1 => sound.extend(
                (0..half * 2 * repeat * 4).map(|n| if n / half % 2 == 0 { sample } else { -(sample / 2) }),
            ),
            _ => sound.extend((0..repeat * 40).map(|n| {
                let turn = f64::from(pair[0]) * 0.008 * n as f64;
                let other = f64::from(pair[1]) * 0.008 * n as f64;
                ((turn.sin() + other.sin()) * 9_000.0) as i16
            })),
        }
    }
    sound.truncate(100_000);
    sound
}

/// What all detectors tell of a stream that is fed in frames of this length.
fn events(rate: u32, sound: &[i16], frame: usize) -> Vec<String> {
    let mut keys = dtmf::Detector::new(rate);
    let mut progress = ProgressDetector::new(rate);
    let Ok(mut voice) = VoiceActivity::new(rate, Energy::new(8000)) else { return Vec::new() };
    let Ok(mut machine) = MachineDetector::new(rate, Energy::new(8000), Config::default()) else {
        return Vec::new();
    };
    let mut told: [Vec<String>; 5] = Default::default();
    for frame in sound.chunks(frame.min(sound.len()).max(1)) {
        keys.process(frame, |event| told[0].push(format!("{event:?}")));
        progress.process(frame, |event| told[1].push(format!("{event:?}")));
        voice.process(frame, |event| told[2].push(format!("{event:?}")));
        machine.process(frame, |event| told[3].push(format!("{event:?}")));
    }
    told[4].extend(keys.finish().map(|event| format!("{event:?}")));
    told[4].extend(voice.finish().map(|event| format!("{event:?}")));
    told.concat()
}

/// Any octets as samples through a resampler: as many come out as should, wherever the stream is cut.
pub(crate) fn resampler(data: &[u8]) {
    let Some((&[from, to, cut], rest)) = data.split_first_chunk() else { return };
    let [from, to] = [from, to].map(|at| RATES[usize::from(at) % RATES.len()]);
    let samples: Vec<i16> = rest.as_chunks().0.iter().map(|&pair| i16::from_le_bytes(pair)).collect();
    let resampled = |frame: usize| {
        let (mut out, Ok(mut resampler)) = (Vec::new(), Resampler::new(from, to)) else { return Vec::new() };
        samples.chunks(frame).for_each(|frame| resampler.process(frame, &mut out));
        out
    };
    let whole = resampled(samples.len().max(1));
    assert_eq!(whole.len(), (samples.len() * to as usize).div_ceil(from as usize));
    assert!(resampled(1 + usize::from(cut)) == whole);
}
