//! Collects the keys of a caller into one input: an extension, a PIN, a choice of a menu.
//!
//! Keys come from whichever way the line has: [telephone events](crate::rtp::telephone_event), the
//! [audio](super::dtmf), INFO requests. Some lines use two of them for the same press, so a key that comes again from
//! another source within [`Config::merge`] is the same press; from the same source it is a new one.
//!
//! ```text
//!  start ──▶ waits for the first key ──▶ waits for the next ──▶ terminator, length, silence, cancel ──▶ Collected
//! ```
//! What was pressed is often a secret: [`Digits`] shows it to nobody who does not ask by name, and is wiped when it is
//! dropped. While a collection that [is secret](Collector::is_secret) runs, its owner keeps the keys, and the audio in
//! which they sound, out of recordings, logs and traces.

use std::fmt;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::presses::Presses;
pub use super::presses::Source;
use crate::rtp::telephone_event::Digit;

/// The most keys that an input may have.
pub const MAX_LENGTH: usize = 128;

/// Keys pressed by a caller. `Debug` shows none; the memory is wiped when this is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Digits {
    labels: Zeroizing<String>,
    secret: bool,
}

impl Digits {
    /// No keys yet. The memory for [`MAX_LENGTH`] is taken at once, so that growing leaves no copies behind.
    fn new(secret: bool) -> Self {
        Self { labels: Zeroizing::new(String::with_capacity(MAX_LENGTH)), secret }
    }

    /// The labels of the keys: `0`-`9`, `*`, `#`, `A`-`D`. Say aloud in the code that they leave their keeping here.
    pub fn reveal(&self) -> &str {
        &self.labels
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Whether they were asked for as a secret.
    pub fn is_secret(&self) -> bool {
        self.secret
    }
}

impl fmt::Debug for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secret { "Digits(secret)" } else { "Digits(_)" })
    }
}

/// What is collected, and for how long. `Debug` shows no keys.
#[derive(Clone, Debug)]
pub struct Config {
    /// The input ends with this many keys, terminators not counted. Default 10, at most [`MAX_LENGTH`].
    pub max_length: usize,
    /// Fewer keys than this are [`Outcome::TooShort`] at a terminator or a pause. Default 1.
    pub min_length: usize,
    /// Keys that end the input and are no part of it. Default `#`.
    pub terminators: Vec<Digit>,
    /// How long the first key may take. Default 10 s.
    pub first: Duration,
    /// How long each further key may take. Default 5 s.
    pub between: Duration,
    /// How long all may take. Default 60 s.
    pub total: Duration,
    /// Within this a key from another source is the same press. Default 400 ms ([`MERGE`](super::presses::MERGE)).
    pub merge: Duration,
    /// Whether the keys are a secret. Default true: asking for a PIN is common, and forgetting to say so costly.
    pub secret: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_length: 10,
            min_length: 1,
            terminators: Digit::from_char('#').into_iter().collect(),
            first: Duration::from_secs(10),
            between: Duration::from_secs(5),
            total: Duration::from_secs(60),
            merge: super::presses::MERGE,
            secret: true,
        }
    }
}

/// Why a collection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A terminator was pressed.
    Terminated,
    /// There are as many keys as there may be.
    Full,
    /// No further key came, and there are enough.
    Pause,
    /// Ended by a terminator, a pause or the whole time with fewer keys than asked for, but some.
    TooShort,
    /// Nothing was pressed in time.
    Nothing,
    /// The whole time is over, and there are enough.
    TimedOut,
    /// [`Collector::cancel`].
    Cancelled,
}

impl Outcome {
    /// Whether the keys are an input as it was asked for.
    pub fn is_complete(self) -> bool {
        matches!(self, Self::Terminated | Self::Full | Self::Pause | Self::TimedOut)
    }
}

/// A collection that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// What was pressed, terminator not included.
    pub digits: Digits,
    /// Why it ended.
    pub outcome: Outcome,
    /// The terminator that ended it.
    pub terminator: Option<Digit>,
}

/// Collects one input.
///
/// # Contract
/// [`handle_key`](Self::handle_key) with every key, [`handle_timeout`](Self::handle_timeout) when
/// [`poll_timeout`](Self::poll_timeout) has come, and [`poll`](Self::poll) after each. What comes after the end is
/// ignored. Time does not go back.
#[derive(Debug)]
pub struct Collector {
    config: Config,
    digits: Digits,
    /// When the whole time is over, and when the next key has to be there.
    total: Instant,
    next: Instant,
    presses: Presses,
    ended: Option<(Outcome, Option<Digit>)>,
    told: bool,
}

impl Collector {
    /// Starts to wait for the first key.
    pub fn start(now: Instant, config: Config) -> Self {
        let digits = Digits::new(config.secret);
        let (total, next) = (now + config.total, now + config.first);
        let presses = Presses::new(config.merge);
        Self { config, digits, total, next, presses, ended: None, told: false }
    }

    /// A key was pressed.
    pub fn handle_key(&mut self, now: Instant, digit: Digit, source: Source) {
        self.handle_timeout(now);
        if self.ended.is_some() || self.presses.is_repeat(now, digit, source) {
            return;
        }
        if self.config.terminators.contains(&digit) {
            return self.end(Outcome::Terminated, Some(digit));
        }
        self.digits.labels.push(digit.as_char());
        self.next = now + self.config.between;
        if self.digits.len() >= self.config.max_length.clamp(1, MAX_LENGTH) {
            self.end(Outcome::Full, None);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ended.is_some() || now < self.deadline() {
            return;
        }
        let late = if self.next <= self.total { Outcome::Pause } else { Outcome::TimedOut };
        self.end(late, None);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` after the end.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ended.is_none().then(|| self.deadline())
    }

    /// Ends the collection; what was pressed so far is handed out.
    pub fn cancel(&mut self) {
        if self.ended.is_none() {
            self.ended = Some((Outcome::Cancelled, None));
        }
    }

    /// The input, once.
    pub fn poll(&mut self) -> Option<Collected> {
        let (outcome, terminator) = self.ended.filter(|_| !self.told)?;
        self.told = true;
        let empty = Digits { labels: Zeroizing::default(), secret: self.config.secret };
        Some(Collected { digits: std::mem::replace(&mut self.digits, empty), outcome, terminator })
    }

    /// Whether keys and the audio in which they sound have to stay out of recordings, logs and traces: from the start
    /// of a secret collection to its end.
    pub fn is_secret(&self) -> bool {
        self.config.secret && self.ended.is_none()
    }

    fn deadline(&self) -> Instant {
        self.next.min(self.total)
    }

    fn end(&mut self, outcome: Outcome, terminator: Option<Digit>) {
        let outcome = match (outcome, self.digits.len()) {
            (Outcome::Pause | Outcome::TimedOut, 0) => Outcome::Nothing,
            (Outcome::Full, _) => Outcome::Full,
            (outcome, length) if length >= self.config.min_length => outcome,
            _ => Outcome::TooShort,
        };
        self.ended = Some((outcome, terminator));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digit(label: char) -> Digit {
        Digit::from_char(label).unwrap()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Presses keys every 300 ms from `start` on; gives the time after the last.
    fn press(collector: &mut Collector, start: Instant, keys: &str) -> Instant {
        keys.chars().fold(start, |now, key| {
            collector.handle_key(now, digit(key), Source::Event);
            now + ms(300)
        })
    }

    fn collected(config: Config, keys: &str, wait: Duration) -> Option<(String, Outcome)> {
        let now = Instant::now();
        let mut collector = Collector::start(now, config);
        let now = press(&mut collector, now, keys);
        collector.handle_timeout(now + wait);
        collector.poll().map(|c| (c.digits.reveal().to_owned(), c.outcome))
    }

    #[test]
    fn every_way_to_the_end_has_its_outcome() {
        let config = || Config { max_length: 4, min_length: 2, ..Config::default() };
        let cases = [
            ("", 9_900, None),
            ("", 10_000, Some(("", Outcome::Nothing))),
            ("1", 4_600, None),
            ("1", 4_700, Some(("1", Outcome::TooShort))),
            ("12", 4_700, Some(("12", Outcome::Pause))),
            ("12#", 0, Some(("12", Outcome::Terminated))),
            ("1#", 0, Some(("1", Outcome::TooShort))),
            ("#", 0, Some(("", Outcome::TooShort))),
            ("1234", 0, Some(("1234", Outcome::Full))),
            ("1*D456", 0, Some(("1*D4", Outcome::Full))),
        ];
        for (keys, wait, expected) in cases {
            let got = collected(config(), keys, ms(wait));
            assert_eq!(got, expected.map(|(digits, outcome)| (digits.to_owned(), outcome)), "{keys} {wait}");
        }
    }

    #[test]
    fn the_whole_time_ends_a_slow_input() {
        let config = Config { total: ms(1_000), between: ms(900), ..Config::default() };
        assert_eq!(collected(config.clone(), "12", ms(399)), None);
        assert_eq!(collected(config, "12", ms(400)), Some(("12".into(), Outcome::TimedOut)));
    }

    #[test]
    fn the_timeout_is_that_of_the_next_key_and_none_after_the_end() {
        let now = Instant::now();
        let mut collector = Collector::start(now, Config::default());
        assert_eq!(collector.poll_timeout(), Some(now + Duration::from_secs(10)));
        collector.handle_key(now + ms(500), digit('1'), Source::Event);
        assert_eq!(collector.poll_timeout(), Some(now + ms(5_500)));
        collector.handle_key(now + ms(5_500), digit('2'), Source::Event);
        assert_eq!(collector.poll_timeout(), None, "a key that is late does not count");
        assert_eq!(collector.poll().unwrap().digits.reveal(), "1");
        assert!(collector.poll().is_none(), "once");
    }

    #[test]
    fn a_press_that_two_sources_tell_is_one() {
        let now = Instant::now();
        let mut collector = Collector::start(now, Config::default());
        let told = [
            (0, '5', Source::Event),
            (40, '5', Source::Audio),
            (200, '5', Source::Event),
            (240, '5', Source::Audio),
            (390, '5', Source::Info),
            (395, '5', Source::Info),
            (700, '7', Source::Audio),
            (1_200, '7', Source::Event),
            (1_300, '8', Source::Info),
            (1_310, '9', Source::Event),
        ];
        for (at, key, source) in told {
            collector.handle_key(now + ms(at), digit(key), source);
        }
        collector.cancel();
        let Collected { digits, outcome, .. } = collector.poll().unwrap();
        assert_eq!((digits.reveal(), outcome), ("557789", Outcome::Cancelled));
    }

    #[test]
    fn nobody_sees_the_digits_who_does_not_ask() {
        let now = Instant::now();
        for secret in [true, false] {
            let config = Config { secret, terminators: vec![digit('*')], ..Config::default() };
            let mut collector = Collector::start(now, config);
            press(&mut collector, now, "DCBA");
            assert_eq!(collector.is_secret(), secret);
            let before = format!("{collector:?}");
            collector.handle_key(now + ms(950), digit('*'), Source::Info);
            assert!(!collector.is_secret(), "it ended");
            let collected = collector.poll().unwrap();
            for shown in [before, format!("{collected:?}"), format!("{:?}", collected.digits)] {
                assert!(!shown.contains("DC") && !shown.contains("'D'"), "{shown}");
            }
            assert_eq!(collected.digits.len(), 4);
        }
    }

    #[test]
    fn lengths_are_bounded_and_memory_does_not_move() {
        let now = Instant::now();
        let config = Config {
            max_length: usize::MAX,
            between: ms(3_600_000),
            total: ms(3_600_000),
            ..Config::default()
        };
        let mut collector = Collector::start(now, config);
        let memory = collector.digits.reveal().as_ptr();
        press(&mut collector, now, &"1".repeat(200));
        assert!(std::ptr::eq(memory, collector.digits.reveal().as_ptr()));
        let collected = collector.poll().unwrap();
        assert_eq!((collected.digits.len(), collected.outcome), (MAX_LENGTH, Outcome::Full));
    }
}
