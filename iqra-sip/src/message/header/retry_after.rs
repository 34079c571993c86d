//! `Retry-After`: when a refused request may be tried again (RFC 3261 §20.33).

use std::fmt;

use super::{TypedHeader, Values};
use crate::message::grammar::{self, Cursor, DIGIT};
use crate::message::name::HeaderName;

/// Seconds to wait. A comment and parameters may stand behind the number; they are not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter(pub u32);

impl TypedHeader for RetryAfter {
    const NAME: HeaderName = HeaderName::RETRY_AFTER;

    fn read(values: &mut Values<'_>) -> Option<Result<RetryAfter, &'static str>> {
        values.line().map(|text| {
            let mut cursor = Cursor::new(text.as_bytes());
            let digits = cursor.take(DIGIT);
            cursor.skip_space();
            if !matches!(cursor.peek(), None | Some(b';' | b'(')) {
                return Err("is not a number of seconds");
            }
            let seconds = grammar::number(&text.as_bytes()[digits], u32::MAX)?;
            Ok(RetryAfter(seconds))
        })
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
