//! Loss concealment: the last frame again, fading (in the spirit of G.711 Appendix I, without its pitch search).
//!
//! A lost frame repeats the last good one at falling level and is silent after [`FADE`]. The first good frame after a
//! loss is faded in over a short stretch from what the concealment would have gone on with, so that neither edge
//! clicks. Works on samples at any rate, for codecs without concealment of their own.

use std::time::Duration;

/// From the first concealed sample to silence.
pub const FADE: Duration = Duration::from_millis(60);
/// Cross-fade into the first good frame.
const JOIN: Duration = Duration::from_millis(4);
/// Longest stretch that is repeated.
const MEMORY: Duration = Duration::from_millis(20);

/// Conceals one stream.
#[derive(Clone, Debug)]
pub struct Concealer {
    memory: Vec<i16>,
    capacity: usize,
    fade: usize,
    join: usize,
    /// Samples concealed since the last good frame.
    concealed: usize,
}

impl Concealer {
    /// For mono samples at this rate in Hz.
    pub fn new(sample_rate: u32) -> Self {
        let samples = |span: Duration| (span.as_millis() as usize * sample_rate as usize / 1000).max(1);
        let capacity = samples(MEMORY);
        Self {
            memory: Vec::with_capacity(capacity),
            capacity,
            fade: samples(FADE),
            join: samples(JOIN),
            concealed: 0,
        }
    }

    /// Takes each good frame before it is heard; the start of the first one after a loss is blended.
    pub fn heard(&mut self, frame: &mut [i16]) {
        if self.concealed > 0 {
            self.blend(frame);
        }
        let kept = &frame[frame.len().saturating_sub(self.capacity)..];
        let old = (self.memory.len() + kept.len()).saturating_sub(self.capacity);
        self.memory.drain(..old);
        self.memory.extend_from_slice(kept);
    }

    /// Fills a lost frame.
    pub fn conceal(&mut self, frame: &mut [i16]) {
        for sample in frame {
            *sample = self.next_concealed();
        }
    }

    /// Forgets the past, after silence or a new stream.
    pub fn reset(&mut self) {
        self.memory.clear();
        self.concealed = 0;
    }

    fn blend(&mut self, frame: &mut [i16]) {
        let join = self.join.min(frame.len());
        for (at, sample) in frame.iter_mut().take(join).enumerate() {
            let old = i32::from(self.next_concealed());
            let new = i32::from(*sample);
            *sample = (old + (new - old) * (at as i32 + 1) / join as i32) as i16;
        }
        self.concealed = 0;
    }

    fn next_concealed(&mut self) -> i16 {
        let (at, left) = (self.concealed, self.fade.saturating_sub(self.concealed));
        self.concealed += 1;
        if self.memory.is_empty() {
            return 0;
        }
        let sample = i32::from(self.memory[at % self.memory.len()]);
        (sample * left as i32 / self.fade as i32) as i16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_frame_repeats_the_last_one_more_quietly() {
        let mut concealer = Concealer::new(8000);
        let mut frame: Vec<i16> = (0..160).map(|n| if n % 20 < 10 { 8000 } else { -8000 }).collect();
        concealer.heard(&mut frame);
        let mut lost = [0; 160];
        concealer.conceal(&mut lost);
        assert_eq!(lost[0], 8000);
        assert!(lost.iter().zip(&frame).all(|(l, f)| l.signum() == f.signum() && l.abs() <= f.abs()));
        assert!(lost[159].abs() < 6000, "{}", lost[159]);
    }

    #[test]
    fn a_long_loss_becomes_silence() {
        let mut concealer = Concealer::new(16_000);
        concealer.heard(&mut [10_000; 320]);
        let mut lost = [0; 320 * 4];
        concealer.conceal(&mut lost);
        assert!(lost[16 * 60..].iter().all(|&s| s == 0));
        assert!(lost[16 * 59] != 0);
    }

    #[test]
    fn the_first_good_frame_joins_without_a_step() {
        let mut concealer = Concealer::new(8000);
        concealer.heard(&mut [8000; 160]);
        concealer.conceal(&mut [0; 160]);
        let mut frame = [-8000; 160];
        concealer.heard(&mut frame);
        assert!(frame.windows(2).all(|w| (w[0] - w[1]).abs() < 600), "{:?}", &frame[..40]);
        assert_eq!(frame[40..], [-8000; 120]);
    }

    #[test]
    fn good_frames_stay_as_they_are() {
        let mut concealer = Concealer::new(8000);
        let mut frame = [1234; 160];
        concealer.heard(&mut frame);
        assert_eq!(frame, [1234; 160]);
    }

    #[test]
    fn without_a_past_there_is_silence() {
        let mut lost = [7; 80];
        Concealer::new(8000).conceal(&mut lost);
        assert_eq!(lost, [0; 80]);
    }
}
