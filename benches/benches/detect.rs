//! Detectors per frame of 20 ms of something like speech, at the rates of narrow and wide band. Prints samples per
//! second; a call needs its rate. `benches/published` has other packages beside them.
//!
//! ```text
//! cargo bench -p iqra-benches --bench detect
//! ```

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use iqra_media::detect::dtmf::Detector;
use iqra_media::detect::progress::ProgressDetector;
use iqra_media::detect::voice::{Earshot, Energy, VoiceActivity, VoiceDetector};
use iqra_media::pcm::agc::{Agc, Config};
use iqra_media::pcm::mix::MixMinus;

const RATES: [u32; 2] = [8000, 16_000];

fn main() {
    divan::main();
}

/// A second with the harmonics of a voice, loud and soft in turn.
fn voice(rate: u32) -> Vec<i16> {
    let sample = |n: u32| {
        let at = f64::from(n) / f64::from(rate);
        let harmonic = |h: u32| (f64::from(h) * 140.0 * std::f64::consts::TAU * at).sin() / f64::from(h);
        ((1..12).map(harmonic).sum::<f64>() * (1.0 + (25.0 * at).sin()) * 5_000.0) as i16
    };
    (0..rate).map(sample).collect()
}

/// Measures what takes a frame in.
fn frames(bencher: Bencher<'_, '_>, rate: u32, mut take: impl FnMut(&[i16])) {
    let (voice, length) = (voice(rate), rate as usize / 50);
    let mut frames = voice.chunks_exact(length).cycle();
    bencher.counter(ItemsCount::new(length)).bench_local(|| {
        if let Some(frame) = frames.next() {
            take(black_box(frame));
        }
    });
}

#[divan::bench(args = RATES)]
fn dtmf(bencher: Bencher<'_, '_>, rate: u32) {
    let mut detector = Detector::new(rate);
    frames(bencher, rate, |frame| {
        detector.process(frame, |event| {
            black_box(event);
        });
    });
}

#[divan::bench(args = RATES)]
fn progress(bencher: Bencher<'_, '_>, rate: u32) {
    let mut detector = ProgressDetector::new(rate);
    frames(bencher, rate, |frame| {
        detector.process(frame, |event| {
            black_box(event);
        });
    });
}

fn voice_by(bencher: Bencher<'_, '_>, rate: u32, detector: impl VoiceDetector) {
    let mut activity = VoiceActivity::new(rate, detector).expect("a listed rate");
    frames(bencher, rate, |frame| {
        activity.process(frame, |event| {
            black_box(event);
        });
    });
}

#[divan::bench(args = RATES)]
fn voice_by_energy(bencher: Bencher<'_, '_>, rate: u32) {
    voice_by(bencher, rate, Energy::new(rate));
}

#[divan::bench(args = RATES)]
fn voice_by_earshot(bencher: Bencher<'_, '_>, rate: u32) {
    voice_by(bencher, rate, Earshot::new());
}

#[divan::bench(args = RATES)]
fn automatic_gain(bencher: Bencher<'_, '_>, rate: u32) {
    let (mut agc, mut out) = (Agc::new(rate, Config::default()), vec![0; rate as usize / 50]);
    frames(bencher, rate, |frame| {
        out.copy_from_slice(frame);
        agc.process(black_box(&mut out));
    });
}

/// Ten parties, each hearing the nine others.
#[divan::bench(args = RATES)]
fn conference_of_ten(bencher: Bencher<'_, '_>, rate: u32) {
    let mut out = vec![0; rate as usize / 50];
    let mut mix = MixMinus::new(out.len());
    frames(bencher, rate, |frame| {
        mix.start(frame.len());
        (0..10).for_each(|_| mix.add(black_box(frame)));
        (0..10).for_each(|_| {
            black_box(mix.without(frame, &mut out));
        });
    });
}
