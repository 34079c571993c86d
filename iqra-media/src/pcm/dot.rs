//! Sums of products of 16-bit samples and coefficients: the inner loops of the resampler and of the tone detectors.
//!
//! There is unsafe code here, since the compiler does not find the instruction that multiplies
//! and adds pairs of 16-bit numbers (`pmaddwd`) in every loop that has them, so x86-64 has it by name, eight pairs at a
//! time where the processor has AVX2, and twice four by SSE2, which every x86-64 has. Other processors run the same
//! sums in plain Rust. All forms are exact integer arithmetic in the same eight lanes, so that they give the same
//! numbers; a test compares them.
//!
//! A chunk is 16 numbers. Lane `n` of the eight sums the products at `2 n` and `2 n + 1` of all chunks in 32 bits;
//! whoever makes coefficients keeps the absolute values of a lane's below [`LANE_LIMIT`].

/// Samples and coefficients come in multiples of this many.
pub(crate) const CHUNK: usize = 16;
/// What the absolute values of the coefficients of a lane may sum to, so that 16-bit samples cannot overflow it.
pub(crate) const LANE_LIMIT: f64 = 65_500.0;

/// Fractional bits of a filter that are cut off before the lanes are added up.
pub(crate) const SPARE: u32 = 3;

type Chunk = [i16; CHUNK];

/// A filter in two resolutions: the chunks of `centre` as they are, those before and behind it scaled up by
/// `shift` more bits, since a filter's tails are small and rounding errors there count as much as anywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Chunks before the centre.
    pub(crate) before: usize,
    /// Chunks of the centre.
    pub(crate) centre: usize,
    /// Further fractional bits of the other chunks.
    pub(crate) shift: i32,
}

/// A polyphase filter on its way through a line of samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    /// Coefficients of a phase.
    pub(crate) taps: usize,
    /// Phases.
    pub(crate) up: usize,
    /// Phases from one output to the next.
    pub(crate) down: usize,
    /// The next output's phase.
    pub(crate) phase: usize,
    /// The next output's first sample.
    pub(crate) start: usize,
    /// The layout of a phase.
    pub(crate) shape: Shape,
    /// Fractional bits of the centre's coefficients.
    pub(crate) fraction: u32,
}

/// Appends every output that the samples of `line` are enough for.
pub(crate) fn convolve(walk: &mut Walk, line: &[i16], filters: &[i16], out: &mut Vec<i16>) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that the function asks for.
        #[allow(unsafe_code)]
        return unsafe { avx2::convolve(walk, line, filters, out) };
    }
    convolve_with(walk, line, filters, out, |x, h, shape| met(baseline(x, h, shape)));
}

/// One sum for each row of coefficients, a row as long as the samples, in the coefficients' scale.
pub(crate) fn dots(samples: &[i16], rows: &[i16], sums: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that the function asks for.
        #[allow(unsafe_code)]
        return unsafe { avx2::dots(samples, rows, sums) };
    }
    dots_with(samples, rows, sums, baseline);
}

/// Power of samples under a window: the sum of the squares of their products.
pub(crate) fn energy(samples: &[i16], window: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that the function asks for.
        #[allow(unsafe_code)]
        return unsafe { avx2::energy(samples, window) };
    }
    energy_with(samples, window)
}

#[cfg(target_arch = "x86_64")]
use sse2::lanes as baseline;

#[cfg(not(target_arch = "x86_64"))]
use portable as baseline;

/// Filters of the usual lengths get loops of their own, without a branch.
#[inline(always)]
fn convolve_with(
    walk: &mut Walk,
    line: &[i16],
    filters: &[i16],
    out: &mut Vec<i16>,
    sum: impl Fn(&[Chunk], &[Chunk], Shape) -> i32,
) {
    match (walk.shape.before, walk.shape.centre) {
        (1, 1) => convolve_as::<1, 1>(walk, line, filters, out, sum),
        (1, 2) => convolve_as::<1, 2>(walk, line, filters, out, sum),
        (2, 1) => convolve_as::<2, 1>(walk, line, filters, out, sum),
        (2, 2) => convolve_as::<2, 2>(walk, line, filters, out, sum),
        (3, 3) => convolve_as::<3, 3>(walk, line, filters, out, sum),
        _ => convolve_as::<0, 0>(walk, line, filters, out, sum),
    }
}

/// For filters with so many chunks before and in the centre, or any where both are 0.
#[inline(always)]
fn convolve_as<const BEFORE: usize, const CENTRE: usize>(
    walk: &mut Walk,
    line: &[i16],
    filters: &[i16],
    out: &mut Vec<i16>,
    sum: impl Fn(&[Chunk], &[Chunk], Shape) -> i32,
) {
    let Walk { mut taps, up, down, mut phase, mut start, mut shape, fraction } = *walk;
    if CENTRE > 0 {
        shape = Shape { before: BEFORE, centre: CENTRE, shift: shape.shift };
        taps = (2 * BEFORE + CENTRE) * CHUNK;
    }
    let (rest, round) = (fraction - SPARE, 1 << (fraction - SPARE - 1));
    // No division for each output.
    let (whole, part) = (down / up, down % up);
    let room = (line.len() + 1).saturating_sub(start + taps);
    let count = if room == 0 { 0 } else { (room * up - 1 - phase) / down + 1 };
    let first = out.len();
    out.resize(first + count, 0);
    for out in &mut out[first..] {
        let (window, filter) = (&line[start..][..taps], &filters[phase * taps..][..taps]);
        let sum = sum(window.as_chunks().0, filter.as_chunks().0, shape);
        *out = ((sum + round) >> rest).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        (phase, start) = (phase + part, start + whole);
        if phase >= up {
            (phase, start) = (phase - up, start + 1);
        }
    }
    (walk.phase, walk.start) = (phase, start);
}

#[inline(always)]
fn dots_with(
    samples: &[i16],
    rows: &[i16],
    sums: &mut [f32],
    lanes: impl Fn(&[Chunk], &[Chunk], Shape) -> [i32; 8],
) {
    let samples = samples.as_chunks().0;
    let shape = Shape { before: 0, centre: samples.len(), shift: 0 };
    for (row, sum) in rows.chunks_exact((samples.len() * CHUNK).max(1)).zip(sums) {
        *sum = total(lanes(samples, row.as_chunks().0, shape).map(|lane| lane as f32));
    }
}

/// The lanes lose some bits before they meet, so that their sum fits 32 bits too.
#[inline(always)]
fn met(lanes: [i32; 8]) -> i32 {
    let [a, b, c, d, e, f, g, h] = lanes.map(|lane| lane >> SPARE);
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

/// In eight lanes, so that the compiler can use vectors and every processor rounds alike.
#[inline(always)]
fn energy_with(samples: &[i16], window: &[f32]) -> f32 {
    let mut lanes = [0.0; 8];
    for (x, w) in samples.as_chunks::<8>().0.iter().zip(window.as_chunks::<8>().0) {
        for n in 0..8 {
            let y = f32::from(x[n]) * w[n];
            lanes[n] += y * y;
        }
    }
    total(lanes)
}

/// By halves, which processors add faster than one after the other.
#[inline(always)]
fn total(lanes: [f32; 8]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

/// The lanes in plain Rust.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn portable(samples: &[Chunk], filter: &[Chunk], shape: Shape) -> [i32; 8] {
    let add = |lanes: &mut [i32; 8], at: usize| {
        let (x, h) = (&samples[at], &filter[at]);
        for (n, lane) in lanes.iter_mut().enumerate() {
            let product = |at: usize| i32::from(x[at]) * i32::from(h[at]);
            // One after the other: two products of the lowest number would not fit 32 bits together.
            *lane += product(2 * n);
            *lane += product(2 * n + 1);
        }
    };
    let (before, tail) = (shape.before, shape.before + shape.centre);
    let mut lanes = [0; 8];
    (0..before).chain(tail..samples.len()).for_each(|at| add(&mut lanes, at));
    lanes.iter_mut().for_each(|lane| *lane >>= shape.shift);
    (before..tail).for_each(|at| add(&mut lanes, at));
    lanes
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_cvtsi32_si128, _mm_loadu_si128, _mm_madd_epi16, _mm_setzero_si128,
        _mm_sra_epi32, _mm_storeu_si128,
    };

    use super::{Chunk, Shape};

    #[inline(always)]
    pub(super) fn lanes(samples: &[Chunk], filter: &[Chunk], shape: Shape) -> [i32; 8] {
        let tail = (shape.before + shape.centre).min(samples.len());
        let (head, middle) = (shape.before.min(tail), shape.before.min(tail)..tail);
        // SAFETY: these ask for SSE2 alone, which every x86-64 has, and `add` reads no more than a chunk.
        unsafe {
            let mut sums = [_mm_setzero_si128(); 2];
            samples[..head].iter().zip(&filter[..head]).for_each(|(x, h)| add(&mut sums, x, h));
            samples[tail..].iter().zip(&filter[tail..]).for_each(|(x, h)| add(&mut sums, x, h));
            let shift = _mm_cvtsi32_si128(shape.shift);
            sums = sums.map(|sum| _mm_sra_epi32(sum, shift));
            let centre = samples[middle.clone()].iter().zip(&filter[middle]);
            centre.for_each(|(x, h)| add(&mut sums, x, h));
            let mut lanes = [0i32; 8];
            let out = lanes.as_mut_ptr().cast::<__m128i>();
            _mm_storeu_si128(out, sums[0]);
            _mm_storeu_si128(out.add(1), sums[1]);
            lanes
        }
    }

    #[inline(always)]
    fn add(sums: &mut [__m128i; 2], x: &Chunk, h: &Chunk) {
        let (x, h) = (x.as_ptr().cast::<__m128i>(), h.as_ptr().cast::<__m128i>());
        for (half, sum) in sums.iter_mut().enumerate() {
            // SAFETY: a chunk is two times 16 bytes long; unaligned loads.
            unsafe {
                let product = _mm_madd_epi16(_mm_loadu_si128(x.add(half)), _mm_loadu_si128(h.add(half)));
                *sum = _mm_add_epi32(*sum, product);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm_add_epi32, _mm_cvtsi32_si128, _mm_cvtsi128_si32, _mm_shuffle_epi32, _mm256_add_epi32,
        _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16,
        _mm256_setzero_si256, _mm256_sra_epi32, _mm256_srai_epi32, _mm256_storeu_si256,
    };

    use super::{Chunk, SPARE, Shape, Walk, convolve_with, dots_with, energy_with};

    #[target_feature(enable = "avx2")]
    pub(super) fn convolve(walk: &mut Walk, line: &[i16], filters: &[i16], out: &mut Vec<i16>) {
        convolve_with(walk, line, filters, out, |x, h, shape| met(vector(x, h, shape)));
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn dots(samples: &[i16], rows: &[i16], sums: &mut [f32]) {
        dots_with(samples, rows, sums, |x, h, shape| lanes(x, h, shape));
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn energy(samples: &[i16], window: &[f32]) -> f32 {
        energy_with(samples, window)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn lanes(samples: &[Chunk], filter: &[Chunk], shape: Shape) -> [i32; 8] {
        let mut lanes = [0i32; 8];
        // SAFETY: eight numbers of 32 bits are 32 bytes; unaligned store.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), vector(samples, filter, shape)) };
        lanes
    }

    /// As the function of the same name outside.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn met(lanes: __m256i) -> i32 {
        let lanes = _mm256_srai_epi32(lanes, SPARE as i32);
        let four = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0b01_00_11_10));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0b10_11_00_01)))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn vector(samples: &[Chunk], filter: &[Chunk], shape: Shape) -> __m256i {
        let tail = (shape.before + shape.centre).min(samples.len());
        let (head, middle) = (shape.before.min(tail), shape.before.min(tail)..tail);
        let mut sum = _mm256_setzero_si256();
        samples[..head].iter().zip(&filter[..head]).for_each(|(x, h)| sum = add(sum, x, h));
        samples[tail..].iter().zip(&filter[tail..]).for_each(|(x, h)| sum = add(sum, x, h));
        sum = _mm256_sra_epi32(sum, _mm_cvtsi32_si128(shape.shift));
        let centre = samples[middle.clone()].iter().zip(&filter[middle]);
        centre.for_each(|(x, h)| sum = add(sum, x, h));
        sum
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(sum: __m256i, x: &Chunk, h: &Chunk) -> __m256i {
        // SAFETY: a chunk is 32 bytes long; unaligned loads.
        let (x, h) = unsafe {
            (
                _mm256_loadu_si256(x.as_ptr().cast::<__m256i>()),
                _mm256_loadu_si256(h.as_ptr().cast::<__m256i>()),
            )
        };
        _mm256_add_epi32(sum, _mm256_madd_epi16(x, h))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_gives_the_same_numbers() {
        let mut random = fastrand::Rng::with_seed(1);
        for length in [1, 2, 3, 9, 18] {
            let samples: Vec<Chunk> = (0..length).map(|_| std::array::from_fn(|_| random.i16(..))).collect();
            let filter: Vec<Chunk> =
                (0..length).map(|_| std::array::from_fn(|_| random.i16(-1000..1000))).collect();
            for (before, centre) in [(0, length), (length / 3, length - 2 * (length / 3)), (length, 0)] {
                let shape = Shape { before, centre, shift: 4 };
                let expected = portable(&samples, &filter, shape);
                assert_eq!(baseline(&samples, &filter, shape), expected);
                #[cfg(target_arch = "x86_64")]
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2.
                    #[allow(unsafe_code)]
                    let lanes = unsafe { avx2::lanes(&samples, &filter, shape) };
                    assert_eq!(lanes, expected);
                }
            }
        }
    }

    #[test]
    fn lanes_hold_the_loudest_samples_at_the_limit() {
        // One chunk of the largest coefficients that a lane takes: 2 x 32,750.
        let (samples, filter) = ([[i16::MIN; CHUNK]], [[32_750; CHUNK]]);
        let shape = Shape { before: 0, centre: 1, shift: 0 };
        assert_eq!(baseline(&samples, &filter, shape), [-32_768 * 65_500; 8]);
    }
}
