//! Tones that tell how a call goes: dialling, ringing, busy, the network's apologies, fax machines, and the beep after
//! which an answering machine records.
//!
//! A window of 64 ms moves in steps of 10 ms over the samples. [`sort`](sorter) says of each what it holds: nothing,
//! one pure tone and its frequency, one of the pairs that networks use, or something else. [`spell`](spells) joins
//! what goes on over several windows to stretches with a beginning and an end, and the [`rules`] say which stretches,
//! in which rhythm, mean what:
//!
//! | event | tones | rhythm, in ms | after |
//! |---|---|---|---|
//! | [`Dial`](Progress::Dial) | 350 + 440 Hz; 425 Hz | steady | 1 s; 3 s |
//! | [`Ringing`](Progress::Ringing) | 440 + 480; 400 + 450; 425 Hz | on 800 to 2,400; 300 to 500; 800 to 1,700 | a ring |
//! | [`Busy`](Progress::Busy) | 480 + 620; 425 Hz | on and off 330 to 750 | two |
//! | [`Congestion`](Progress::Congestion) | 480 + 620; 425 Hz | on and off 130 to 330 | two |
//! | [`SpecialInformation`](Progress::SpecialInformation) | 950, 1400, 1800 Hz, one after the other | 180 to 450 each | the third |
//! | [`FaxCalling`](Progress::FaxCalling) | 1100 Hz, 38 off at most (CNG, ITU-T T.30) | on 425 to 575 | it ended |
//! | [`FaxAnswering`](Progress::FaxAnswering) | 2100 Hz, reversals of phase or none (CED, ANSam) | steady | 0.8 s |
//! | [`Beep`](Progress::Beep) | one of 800 to 2000 Hz, after speech, before silence | on 100 to 1,500 | 150 |
//!
//! Cadences are those of ITU-T E.180 Supplement 2 with the tolerances that networks need; 425 Hz stands for the single
//! tones of 390 to 460 Hz that most of the world uses.

mod rules;
mod sorter;
mod spells;

use super::bank::Slide;
use rules::Rules;
use sorter::Sorter;
use spells::Spells;

use std::time::Duration;

const WINDOW: Duration = Duration::from_millis(64);
const STEP: Duration = Duration::from_millis(10);

/// What was heard. Positions are samples of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A dial tone goes on.
    Dial {
        /// Where it began.
        start: u64,
    },
    /// The far end rings; told for each ring when it is over.
    Ringing {
        /// Where the ring began.
        start: u64,
    },
    /// The number is busy; told once for each row of tones.
    Busy {
        /// Where the first tone began.
        start: u64,
    },
    /// The network is busy ("reorder", "fast busy"); told once for each row of tones.
    Congestion {
        /// Where the first tone began.
        start: u64,
    },
    /// The three tones before an announcement that says why a call failed.
    SpecialInformation {
        /// Where the first tone began.
        start: u64,
        /// What North American networks say by the frequencies of the first two.
        meaning: Special,
    },
    /// A fax machine calls (CNG).
    FaxCalling {
        /// Where the tone began.
        start: u64,
    },
    /// A fax machine or a modem answers (CED, ANSam).
    FaxAnswering {
        /// Where the tone began.
        start: u64,
    },
    /// A beep after speech and before silence: an answering machine records from here on.
    Beep {
        /// Where it began.
        start: u64,
        /// Where it ended.
        end: u64,
        /// Its frequency in Hz.
        frequency: u32,
    },
}

impl Progress {
    /// The same on a clock that is ahead by so many samples.
    #[must_use]
    pub fn moved(mut self, by: u64) -> Self {
        let (Self::Dial { start }
        | Self::Ringing { start }
        | Self::Busy { start }
        | Self::Congestion { start }
        | Self::SpecialInformation { start, .. }
        | Self::FaxCalling { start }
        | Self::FaxAnswering { start }
        | Self::Beep { start, .. }) = &mut self;
        *start += by;
        if let Self::Beep { end, .. } = &mut self {
            *end += by;
        }
        self
    }
}

/// What special information tones mean (Telcordia GR-1162), by the frequencies of the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Special {
    /// Low, low: the number was changed or is not in service.
    Intercept,
    /// High, low: there is no such number.
    VacantCode,
    /// Low, high: the call was not completed; try again.
    Reorder,
    /// High, high: no line is free.
    NoCircuit,
    /// Other frequencies, as in most of the world (ITU-T E.180: 950 and 1400 Hz).
    Unsaid,
}

/// Hears the tones of one stream.
///
/// # Contract
/// As in [`detect`](super).
#[derive(Clone, Debug)]
pub struct ProgressDetector {
    slide: Slide,
    sorter: Sorter,
    spells: Spells,
    rules: Rules,
}

impl ProgressDetector {
    /// For a sample rate in Hz from 8000 on.
    pub fn new(rate: u32) -> Self {
        let slide = Slide::new(rate, WINDOW, STEP);
        let sorter = Sorter::new(rate, &slide);
        Self { slide, sorter, spells: Spells::new(rate), rules: Rules::new(rate) }
    }

    /// Hears the next samples.
    pub fn process(&mut self, samples: &[i16], mut tell: impl FnMut(Progress)) {
        let Self { slide, sorter, spells, rules } = self;
        slide.feed(samples, |look| {
            let sort = sorter.sort(&look);
            let ended = spells.hear(sort, look.power, look.end);
            rules.hear(ended, spells.current(), sort, look.power, look.end, &mut tell);
        });
    }
}
