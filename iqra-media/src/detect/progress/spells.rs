//! Stretches of the same tone: what one window after the other holds, joined, with the holes that noise and reversals
//! of phase leave in them.

use std::time::Duration;

use super::super::samples_in;
use super::sorter::{Pair, Sort};

/// How much of a window a tone fills when it first shows, and how much when it last does is gone.
const FILLED: Duration = Duration::from_millis(50);
const GONE: Duration = Duration::from_millis(14);
/// A hole in a tone that is none.
const HOLE: Duration = Duration::from_millis(25);
/// A reversal of phase spoils all windows that it is in.
const REVERSAL: Duration = Duration::from_millis(90);
/// The tone of which those are made, in Hz.
const ANSWER: std::ops::RangeInclusive<f64> = 2060.0..=2140.0;
/// A tone may wander this far from its mean, as a share.
const WANDER: f64 = 0.02;

/// A tone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tone {
    /// Its mean frequency in Hz, and the mean share of the power that it holds.
    Single(f64, f64),
    Pair(Pair),
}

/// A stretch of a tone, in samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spell {
    pub(super) tone: Tone,
    pub(super) start: u64,
    pub(super) end: u64,
    /// Mean square.
    pub(super) power: f32,
    windows: u32,
    /// Where the last window that held it ended.
    last: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Spells {
    rate: u32,
    current: Option<Spell>,
}

impl Spells {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate, current: None }
    }

    /// The tone that goes on.
    pub(super) fn current(&self) -> Option<&Spell> {
        self.current.as_ref()
    }

    /// Takes in what a window holds; gives the spell that it ends.
    pub(super) fn hear(&mut self, sort: Sort, power: f32, end: u64) -> Option<Spell> {
        let tone = match sort {
            Sort::Single(frequency, share) => Some(Tone::Single(frequency, share)),
            Sort::Pair(pair) => Some(Tone::Pair(pair)),
            Sort::Silence | Sort::Other => None,
        };
        let gone = samples_in(GONE, self.rate);
        if let Some(spell) = &mut self.current {
            if tone.is_some_and(|tone| spell.goes_on(tone)) {
                spell.last = end;
                spell.end = end.saturating_sub(gone);
                spell.power += (power - spell.power) / spell.windows.min(20) as f32;
                return None;
            }
            let hole = if spell.is_answer() && sort != Sort::Silence { REVERSAL } else { HOLE };
            if tone.is_none() && end - spell.last <= samples_in(hole, self.rate) {
                return None;
            }
        }
        let filled = samples_in(FILLED, self.rate);
        let next = tone.map(|tone| {
            let start = end.saturating_sub(filled);
            Spell { tone, start, end: end.saturating_sub(gone), power, windows: 1, last: end }
        });
        std::mem::replace(&mut self.current, next)
    }
}

impl Spell {
    pub(super) fn length(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    fn is_answer(&self) -> bool {
        matches!(self.tone, Tone::Single(frequency, _) if ANSWER.contains(&frequency))
    }

    /// Takes another window in where it holds the same tone.
    fn goes_on(&mut self, tone: Tone) -> bool {
        let windows = f64::from(self.windows.min(20));
        let same = match (&mut self.tone, tone) {
            (Tone::Pair(pair), Tone::Pair(other)) => *pair == other,
            (Tone::Single(mean, shares), Tone::Single(frequency, share)) => {
                let near = (frequency - *mean).abs() <= *mean * WANDER;
                if near {
                    *mean += (frequency - *mean) / (windows + 1.0);
                    *shares += (share - *shares) / (windows + 1.0);
                }
                near
            }
            _ => false,
        };
        self.windows = self.windows.saturating_add(u32::from(same));
        same
    }
}
