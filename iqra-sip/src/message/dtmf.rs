//! A pressed key in the body of an INFO: `application/dtmf-relay` and `application/dtmf` (RFC 6086 carries it; the two
//! forms are usage of gateways, written down nowhere else).
//!
//! Digits are secrets, card numbers and PINs among them: `Debug` shows none, and neither do errors.

use std::fmt;
use std::time::Duration;

use crate::message::header::ContentType;

/// The longest press that is believed.
const LONGEST: Duration = Duration::from_secs(60);

/// A key and for how long it was pressed.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPress {
    key: char,
    duration: Option<Duration>,
}

/// Why a body is no key press. It names the rule, never the digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyPressError {
    /// The body is of another type.
    #[error("the body is neither application/dtmf-relay nor application/dtmf: answer 415")]
    Type,
    /// There is no single key of 0 to 9, *, #, A to D or flash.
    #[error("the body has no single key of 0-9, *, #, A-D or flash: answer 400")]
    Key,
    /// The duration is no number of milliseconds up to 60,000.
    #[error("Duration is no number of milliseconds up to 60000: answer 400")]
    Duration,
}

impl KeyPress {
    /// A press of this key: `0` to `9`, `*`, `#`, `A` to `D`, or `!` for flash.
    #[must_use]
    pub fn new(key: char, duration: Duration) -> Option<Self> {
        let key = key.to_ascii_uppercase();
        let known = matches!(key, '0'..='9' | '*' | '#' | 'A'..='D' | '!');
        known.then_some(Self { key, duration: Some(duration.min(LONGEST)) })
    }

    /// Reads the body of an INFO.
    ///
    /// # Errors
    /// [`KeyPressError`].
    pub fn read(content_type: &ContentType, body: &[u8]) -> Result<Self, KeyPressError> {
        let text = std::str::from_utf8(body).map_err(|_| KeyPressError::Key)?;
        if content_type.is("application", "dtmf-relay") {
            return relay(text);
        }
        match content_type.is("application", "dtmf") {
            true => Ok(Self { key: key(text)?, duration: None }),
            false => Err(KeyPressError::Type),
        }
    }

    /// The key, upper case; `!` for flash.
    #[must_use]
    pub fn key(&self) -> char {
        self.key
    }

    /// For how long; `None` where the body does not say.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.duration
    }

    /// The body as `application/dtmf-relay`.
    #[must_use]
    pub fn relay_body(&self) -> crate::event::Body {
        let millis = self.duration.unwrap_or(Duration::from_millis(160)).as_millis();
        crate::event::Body {
            content_type: String::from("application/dtmf-relay"),
            bytes: format!("Signal={}\r\nDuration={millis}\r\n", self.key).into(),
        }
    }
}

impl fmt::Debug for KeyPress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPress({:?})", self.duration)
    }
}

/// `Signal=5`, `Duration=160`, each on a line of its own, in any order and case.
fn relay(text: &str) -> Result<KeyPress, KeyPressError> {
    let (mut pressed, mut duration) = (None, None);
    for line in text.lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        match name.trim() {
            name if name.eq_ignore_ascii_case("signal") && pressed.is_none() => pressed = Some(key(value)?),
            name if name.eq_ignore_ascii_case("signal") => return Err(KeyPressError::Key),
            name if name.eq_ignore_ascii_case("duration") => duration = Some(millis(value)?),
            _ => {}
        }
    }
    Ok(KeyPress { key: pressed.ok_or(KeyPressError::Key)?, duration })
}

/// A key by its sign, or by the number of its telephone event: 10 and 11 for `*` and `#`, 12 to 15 for A to D, 16 for
/// flash.
fn key(text: &str) -> Result<char, KeyPressError> {
    let text = text.trim();
    let named = ["10", "11", "12", "13", "14", "15", "16"].iter().position(|number| *number == text);
    let mut signs = text.chars();
    let sign = match (named, signs.next(), signs.next()) {
        (Some(at), _, _) => char::from(b"*#ABCD!"[at]),
        (None, Some(sign), None) => sign,
        _ => return Err(KeyPressError::Key),
    };
    KeyPress::new(sign, LONGEST).map(|press| press.key).ok_or(KeyPressError::Key)
}

fn millis(text: &str) -> Result<Duration, KeyPressError> {
    let digits = text.trim();
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let duration = digits.parse().map(Duration::from_millis).ok().filter(|duration| *duration <= LONGEST);
    duration.filter(|_| plain).ok_or(KeyPressError::Duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &'static str, body: &str) -> Result<KeyPress, KeyPressError> {
        KeyPress::read(&ContentType::parse(kind).unwrap(), body.as_bytes())
    }

    #[test]
    fn both_forms_give_the_key() {
        let relay = read("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n").unwrap();
        assert_eq!((relay.key(), relay.duration()), ('5', Some(Duration::from_millis(160))));
        let sloppy = read("Application/DTMF-Relay", "duration = 80\nsignal= a \n").unwrap();
        assert_eq!((sloppy.key(), sloppy.duration()), ('A', Some(Duration::from_millis(80))));
        let plain = read("application/dtmf", "11").unwrap();
        assert_eq!((plain.key(), plain.duration()), ('#', None));
    }

    #[test]
    fn what_is_no_single_key_is_refused() {
        for body in [
            "",
            "Signal=\r\n",
            "Signal=55",
            "Signal=1\r\nSignal=2",
            "Signal=Z",
            "Duration=100",
            "Signal=\u{e9}",
        ] {
            assert_eq!(read("application/dtmf-relay", body), Err(KeyPressError::Key), "{body}");
        }
        for duration in ["", "-1", "+5", "60001", "99999999999999999999"] {
            let body = format!("Signal=1\r\nDuration={duration}");
            assert_eq!(read("application/dtmf-relay", &body), Err(KeyPressError::Duration), "{duration}");
        }
        assert_eq!(read("text/plain", "5"), Err(KeyPressError::Type));
    }

    #[test]
    fn what_is_written_is_read_back_and_the_digit_is_not_shown() {
        for key in "0123456789*#ABCD!".chars() {
            let press = KeyPress::new(key, Duration::from_millis(90)).unwrap();
            let body = press.relay_body();
            assert_eq!(
                read("application/dtmf-relay", std::str::from_utf8(&body.bytes).unwrap()).unwrap(),
                press
            );
        }
        let shown = format!("{:?}", KeyPress::new('7', Duration::from_millis(90)).unwrap());
        assert!(!shown.contains('7'), "{shown}");
    }
}
