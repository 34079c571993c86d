//! `Contact`: where further requests reach a party, or all its bindings at once (RFC 3261 §20.10).

use std::fmt;

use super::{TypedHeader, Values};
use crate::message::grammar::{self, Cursor, Why};
use crate::message::name::HeaderName;
use crate::message::name_addr::{self, NameAddr};

/// One Contact value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contact {
    /// `*`: all bindings, in a REGISTER that removes them (RFC 3261 §10.2.2).
    All,
    /// An address.
    Address(NameAddr),
}

impl Contact {
    /// The address; `None` for `*`.
    #[must_use]
    pub fn address(&self) -> Option<&NameAddr> {
        match self {
            Contact::All => None,
            Contact::Address(address) => Some(address),
        }
    }

    /// `q`, the preference among several contacts, in thousandths from 0 to 1000.
    #[must_use]
    pub fn q(&self) -> Option<u16> {
        let q = self.address()?.params.value("q")?;
        let (whole, fraction) = q.split_once('.').unwrap_or((&q, ""));
        let digits = fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit());
        let whole: u16 = whole.parse().ok().filter(|_| digits)?;
        let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
        Some(whole.checked_mul(1000)?.checked_add(thousandths)?).filter(|q| *q <= 1000)
    }

    /// `expires`, seconds that a binding lives.
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        let expires = self.address()?.params.value("expires")?;
        grammar::number(expires.as_bytes(), u32::MAX).ok()
    }
}

impl From<NameAddr> for Contact {
    fn from(address: NameAddr) -> Contact {
        Contact::Address(address)
    }
}

impl TypedHeader for Contact {
    const NAME: HeaderName = HeaderName::CONTACT;

    fn read(values: &mut Values<'_>) -> Option<Result<Contact, &'static str>> {
        let read = values.scan(scan)?;
        Some(read.map(|(slice, parts)| match parts {
            None => Contact::All,
            Some(parts) => Contact::Address(NameAddr::of(slice, parts)),
        }))
    }
}

/// Reads one contact; `None` for `*`, which stands alone.
#[inline]
fn scan(cursor: &mut Cursor<'_>) -> Result<Option<name_addr::Parts>, Why> {
    if cursor.peek() == Some(b'*') && cursor.bytes[cursor.at..] == *b"*" {
        cursor.at += 1;
        return Ok(None);
    }
    name_addr::scan(cursor).map(Some)
}

/// Checks a whole header line of contacts, and says how many there are.
pub(crate) fn check(value: &[u8]) -> Result<usize, Why> {
    if value == b"*" { Ok(1) } else { name_addr::check_list(value) }
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contact::All => f.write_str("*"),
            Contact::Address(address) => address.fmt(f),
        }
    }
}
