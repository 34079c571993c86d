//! A melody: notes of known frequencies in a known order, over and over, and whether a recording holds it.
//!
//! A stream may begin late, or lose something while a machine is busy. So a melody has no beginning: whoever plays it
//! goes on until the other side has heard one whole pass, each note of it in its place, at its length and level.

use std::f64::consts::TAU;

use crate::audio::{is_quiet, power, purity};

/// How long a note lasts, in windows of 20 ms.
const NOTE: usize = 15;

/// How far the length of a note may be off, in windows: those that hold two notes, and the smear of a codec.
const LENGTH_TOLERANCE: usize = 3;

/// How many windows between two notes may hold neither.
const GAP: usize = 3;

/// How many windows within a note may hold no clear tone: as much as may get lost at once on a busy machine.
const BLEMISH: usize = 4;

/// The share of a window's power that its note must hold.
const PURE: f64 = 0.8;

/// The level of a note, in dB of full scale, and how far it may be off: who makes one channel of two, or two of one, may
/// take 3 dB away.
const LEVEL: (f64, f64) = (-9.0, 3.5);

/// Frequencies in Hz, multiples of 50, a note each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Melody(&'static [u16]);

/// What of a melody is in a recording.
#[derive(Clone, Debug, PartialEq)]
struct Note {
    which: usize,
    start: usize,
    windows: usize,
    level: f64,
}

impl Note {
    fn end(&self) -> usize {
        self.start + self.windows
    }

    fn is_sound(&self) -> bool {
        self.windows.abs_diff(NOTE) <= LENGTH_TOLERANCE && (self.level - LEVEL.0).abs() <= LEVEL.1
    }
}

impl Melody {
    /// Ours, in telephone bandwidth.
    pub const OURS: Self = Self(&[500, 1_250, 850, 2_450]);
    /// The peer's, in telephone bandwidth.
    pub const THEIRS: Self = Self(&[650, 1_700, 1_050, 3_100]);
    /// Ours, with a note that telephone bandwidth does not carry.
    pub const OURS_WIDE: Self = Self(&[500, 1_250, 5_200, 850, 2_450]);
    /// The peer's, with such a note.
    pub const THEIRS_WIDE: Self = Self(&[650, 1_700, 6_100, 1_050, 3_100]);

    /// As many seconds of it, at half of full scale.
    pub fn samples(self, rate: u32, seconds: u32) -> Vec<i16> {
        let note = NOTE * rate as usize / 50;
        let sample = |n: usize| {
            let hz = f64::from(self.0[n / note % self.0.len()]);
            (16_384.0 * (TAU * hz * (n % note) as f64 / f64::from(rate)).sin()) as i16
        };
        (0..(seconds * rate) as usize).map(sample).collect()
    }

    /// Looks for a whole pass in a recording; where there is none, what there is instead.
    ///
    /// # Errors
    /// The notes that were found, for a reader.
    pub fn find(self, samples: &[i16], rate: u32) -> Result<(), String> {
        let notes = self.notes(samples, rate);
        // The first and the last may be cut off.
        let passes = notes.windows(self.0.len() + 2).any(|part| self.is_pass(part));
        passes.then_some(()).ok_or_else(|| self.shown(&notes, samples.len() as f64 / f64::from(rate)))
    }

    fn is_pass(self, part: &[Note]) -> bool {
        let follows = |pair: &[Note]| {
            let gap = pair[1].start - pair[0].end();
            pair[1].which == (pair[0].which + 1) % self.0.len() && gap <= GAP
        };
        part.windows(2).all(follows) && part[1..part.len() - 1].iter().all(Note::is_sound)
    }

    fn notes(self, samples: &[i16], rate: u32) -> Vec<Note> {
        let mut notes: Vec<Note> = Vec::new();
        for (start, window) in samples.chunks_exact(rate as usize / 50).enumerate() {
            let Some(which) = self.note_in(window, rate) else { continue };
            let level = 10.0 * (power(window) / 32_768f64.powi(2)).log10();
            match notes.last_mut().filter(|note| note.which == which && start - note.end() <= BLEMISH) {
                Some(note) => {
                    note.windows = start + 1 - note.start;
                    note.level = note.level.max(level);
                }
                None => notes.push(Note { which, start, windows: 1, level }),
            }
        }
        notes
    }

    fn note_in(self, window: &[i16], rate: u32) -> Option<usize> {
        let has = |&hz: &u16| purity(window, f64::from(hz), rate) > PURE;
        if is_quiet(window) { None } else { self.0.iter().position(has) }
    }

    fn shown(self, notes: &[Note], seconds: f64) -> String {
        let one = |note: &Note| {
            let (hz, at) = (self.0[note.which], note.start as f64 / 50.0);
            format!("{at:.2}: {hz} Hz for {} ms at {:.1} dB", note.windows * 20, note.level)
        };
        let notes: Vec<String> = notes.iter().map(one).collect();
        format!("of {seconds:.1} s: {}", notes.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::g711::Law;

    const ALL: [Melody; 4] = [Melody::OURS, Melody::THEIRS, Melody::OURS_WIDE, Melody::THEIRS_WIDE];

    #[test]
    fn a_melody_is_found_wherever_it_begins_and_no_other() {
        for (rate, melody) in [8_000, 16_000, 48_000].into_iter().flat_map(|r| ALL.map(|m| (r, m))) {
            if rate == 8_000 && melody.0.len() > 4 {
                continue;
            }
            let samples = melody.samples(rate, 4);
            for from in [0, 777, rate as usize / 3] {
                assert_eq!(melody.find(&samples[from..], rate), Ok(()));
            }
            for other in ALL.iter().filter(|other| **other != melody) {
                assert!(other.find(&samples, rate).is_err(), "{other:?} in {melody:?}");
            }
        }
    }

    #[test]
    fn either_law_keeps_it_and_the_wrong_one_does_not() {
        let samples = Melody::OURS.samples(8_000, 4);
        let through = |out: Law, back: Law| -> Vec<i16> {
            samples.iter().map(|&sample| back.decode(out.encode(sample))).collect()
        };
        for law in Law::BOTH {
            assert_eq!(Melody::OURS.find(&through(law, law), 8_000), Ok(()));
        }
        assert!(Melody::OURS.find(&through(Law::Mu, Law::A), 8_000).is_err());
    }

    #[test]
    fn a_wrong_order_speed_level_or_a_hole_is_no_pass() {
        let samples = Melody::OURS.samples(8_000, 4);
        let backwards: Vec<i16> = samples.iter().rev().copied().collect();
        let quick: Vec<i16> = samples.iter().step_by(2).copied().collect();
        let quiet: Vec<i16> = samples.iter().map(|sample| sample / 2).collect();
        let loud: Vec<i16> = samples.iter().map(|sample| sample.saturating_mul(2)).collect();
        let mut holed = samples.clone();
        holed.chunks_mut(8_000).for_each(|second| second[..1_200].fill(0));
        for other in [backwards, quick, quiet, loud, holed, samples[..9_000].to_vec()] {
            assert!(Melody::OURS.find(&other, 8_000).is_err());
        }
    }

    #[test]
    fn what_there_is_instead_is_told() {
        let told = Melody::OURS.find(&crate::audio::tone(500.0, 1.0), 8_000).unwrap_err();
        assert_eq!(told, "of 1.0 s: 0.00: 500 Hz for 1000 ms at -9.0 dB");
    }
}
