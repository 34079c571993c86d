//! Keys as pairs of tones in the audio (DTMF, ITU-T Q.23): hearing them and making them.
//!
//! | | 1209 | 1336 | 1477 | 1633 Hz |
//! |---|---|---|---|---|
//! | 697 Hz | 1 | 2 | 3 | A |
//! | 770 Hz | 4 | 5 | 6 | B |
//! | 852 Hz | 7 | 8 | 9 | C |
//! | 941 Hz | * | 0 | # | D |
//!
//! Where RFC 4733 was negotiated keys come as [events](crate::rtp::telephone_event), better than any detector could
//! hear them; this is for lines on which it was not.

mod detector;
mod generator;

pub use detector::{Config, Detector, KeyEvent};
pub use generator::{Generator, MAX_QUEUED, Pace};

use crate::rtp::telephone_event::Digit;

/// Frequencies of the rows, the low group, in Hz.
pub const ROWS: [f64; 4] = [697.0, 770.0, 852.0, 941.0];
/// Frequencies of the columns, the high group, in Hz.
pub const COLUMNS: [f64; 4] = [1209.0, 1336.0, 1477.0, 1633.0];

const PAD: [[char; 4]; 4] =
    [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];

/// The key at a row and a column of the pad, each 0 to 3.
fn key(row: usize, column: usize) -> Option<Digit> {
    Digit::from_char(*PAD.get(row)?.get(column)?)
}

/// The two frequencies of a key in Hz, low and high.
pub fn frequencies(digit: Digit) -> (f64, f64) {
    let label = digit.as_char();
    let at = PAD.as_flattened().iter().position(|&key| key == label).unwrap_or(0);
    (ROWS[at / 4], COLUMNS[at % 4])
}
