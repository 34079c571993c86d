//! Resampling per frame of 20 ms, for the pairs between a telephone line and an AI service. Prints input samples per
//! second; a call needs its line rate in each direction.
//!
//! ```text
//! cargo bench -p iqra-benches --bench resample
//! ```

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use iqra_media::pcm::Resampler;
use iqra_media::pcm::tone::Tone;

const PAIRS: [(u32, u32); 8] = [
    (8000, 16_000),
    (8000, 24_000),
    (8000, 48_000),
    (16_000, 24_000),
    (16_000, 8000),
    (24_000, 8000),
    (24_000, 16_000),
    (48_000, 16_000),
];

fn main() {
    divan::main();
}

#[divan::bench(args = PAIRS)]
fn frame(bencher: Bencher<'_, '_>, (from, to): (u32, u32)) {
    let mut resampler = Resampler::new(from, to).expect("a listed pair");
    let (mut input, mut out) = (vec![0; from as usize / 50], Vec::with_capacity(to as usize / 50 + 1));
    Tone::new(440.0, from, 10_000).fill(&mut input);
    bencher.counter(ItemsCount::new(input.len())).bench_local(|| {
        out.clear();
        resampler.process(black_box(&input), black_box(&mut out));
    });
}

/// What a call costs once: the filters are computed when it is set up.
#[divan::bench(args = PAIRS)]
fn set_up(bencher: Bencher<'_, '_>, (from, to): (u32, u32)) {
    bencher.bench_local(|| Resampler::new(black_box(from), black_box(to)));
}
