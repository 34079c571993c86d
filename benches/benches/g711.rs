//! G.711 per frame of 20 ms (160 samples), both laws: ours, and beside it the textbook way that searches the segment
//! in a loop. Prints samples per second; a call needs 8,000 in each direction.
//!
//! ```text
//! cargo bench -p iqra-benches --bench g711
//! ```

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use iqra_media::codec::g711::{decode_alaw, decode_ulaw, encode_alaw, encode_ulaw};

/// Samples in a frame.
const FRAME: usize = 160;

fn main() {
    divan::main();
}

/// Something like speech: all levels, both signs.
fn pcm() -> [i16; FRAME] {
    std::array::from_fn(|n| ((n as f64 * 0.31).sin() * (n as f64 / FRAME as f64) * 30_000.0) as i16)
}

fn codes() -> [u8; FRAME] {
    let mut codes = [0; FRAME];
    encode_ulaw(&pcm(), &mut codes);
    codes
}

fn encode(bencher: Bencher<'_, '_>, law: fn(&[i16], &mut [u8])) {
    let (pcm, mut codes) = (pcm(), [0; FRAME]);
    bencher.counter(ItemsCount::new(FRAME)).bench_local(|| law(black_box(&pcm), black_box(&mut codes)));
}

fn decode(bencher: Bencher<'_, '_>, law: fn(&[u8], &mut [i16])) {
    let (codes, mut pcm) = (codes(), [0; FRAME]);
    bencher.counter(ItemsCount::new(FRAME)).bench_local(|| law(black_box(&codes), black_box(&mut pcm)));
}

#[divan::bench]
fn pcmu_encode(bencher: Bencher<'_, '_>) {
    encode(bencher, encode_ulaw);
}

#[divan::bench]
fn pcmu_encode_naive(bencher: Bencher<'_, '_>) {
    encode(bencher, |pcm, out| out.iter_mut().zip(pcm).for_each(|(o, &s)| *o = naive::ulaw(s)));
}

#[divan::bench]
fn pcma_encode(bencher: Bencher<'_, '_>) {
    encode(bencher, encode_alaw);
}

#[divan::bench]
fn pcma_encode_naive(bencher: Bencher<'_, '_>) {
    encode(bencher, |pcm, out| out.iter_mut().zip(pcm).for_each(|(o, &s)| *o = naive::alaw(s)));
}

#[divan::bench]
fn pcmu_decode(bencher: Bencher<'_, '_>) {
    decode(bencher, decode_ulaw);
}

#[divan::bench]
fn pcmu_decode_naive(bencher: Bencher<'_, '_>) {
    decode(bencher, |codes, out| out.iter_mut().zip(codes).for_each(|(o, &c)| *o = naive::ulaw_decoded(c)));
}

#[divan::bench]
fn pcma_decode(bencher: Bencher<'_, '_>) {
    decode(bencher, decode_alaw);
}

#[divan::bench]
fn pcma_decode_naive(bencher: Bencher<'_, '_>) {
    decode(bencher, |codes, out| out.iter_mut().zip(codes).for_each(|(o, &c)| *o = naive::alaw_decoded(c)));
}

/// Straight from the recommendation's tables: find the segment, then the step in it.
mod naive {
    pub(super) fn ulaw(sample: i16) -> u8 {
        let (sign, magnitude) = if sample < 0 { (0, !sample >> 2) } else { (0x80, sample >> 2) };
        let biased = (magnitude + 33).min(0x1FFF);
        let mut segment = 0;
        while biased >> (segment + 6) != 0 {
            segment += 1;
        }
        sign | (7 - segment) << 4 | (15 - (biased >> (segment + 1) & 15)) as u8
    }

    pub(super) fn alaw(sample: i16) -> u8 {
        let (sign, mut step) = if sample < 0 { (0, !sample >> 4) } else { (0x80, sample >> 4) };
        let mut segment = 0;
        if step > 15 {
            segment = 1;
            while step > 31 {
                step >>= 1;
                segment += 1;
            }
        }
        (sign | segment << 4 | (step & 15) as u8) ^ 0x55
    }

    pub(super) fn ulaw_decoded(code: u8) -> i16 {
        let code = !code;
        let magnitude = ((i32::from(code & 15) * 2 + 33) << (code >> 4 & 7)) - 33;
        (if code & 0x80 != 0 { -magnitude } else { magnitude } * 4) as i16
    }

    pub(super) fn alaw_decoded(code: u8) -> i16 {
        let code = code ^ 0x55;
        let mut magnitude = i32::from(code & 15) * 2 + 1;
        let segment = code >> 4 & 7;
        if segment > 0 {
            magnitude = (magnitude + 32) << (segment - 1);
        }
        (if code & 0x80 == 0 { -magnitude } else { magnitude } * 8) as i16
    }
}
