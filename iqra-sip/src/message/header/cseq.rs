//! `CSeq`: the order of requests in a dialog, and which request a response answers (RFC 3261 §20.16).

use std::fmt;
use std::ops::Range;

use super::{TypedHeader, Values};
use crate::message::grammar::{self, Cursor, SPACE, TOKEN, Why};
use crate::message::method::Method;
use crate::message::name::HeaderName;

/// The largest sequence number, 2^31 - 1 (RFC 3261 §8.1.1.5).
const MAX: u32 = (1 << 31) - 1;

/// A sequence number and the method it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CSeq {
    /// 0 to 2^31 - 1.
    pub number: u32,
    /// The method of the request, in its responses too.
    pub method: Method,
}

impl TypedHeader for CSeq {
    const NAME: HeaderName = HeaderName::CSEQ;

    fn read(values: &mut Values<'_>) -> Option<Result<CSeq, &'static str>> {
        let slice = values.line_slice()?;
        Some(scan(slice.bytes()).and_then(|(number, method)| {
            let method = slice.start + method.start..slice.start + method.end;
            let method = Method::from_slice(slice.buffer, method).ok_or("has no method")?;
            Ok(CSeq { number, method })
        }))
    }
}

/// The number, and where the method stands.
pub(crate) fn scan(value: &[u8]) -> Result<(u32, Range<usize>), Why> {
    let (number, len) = grammar::leading_number(value, MAX)?;
    let mut cursor = Cursor::new(value);
    cursor.at = len;
    let gap = cursor.take(SPACE);
    let method = cursor.take(TOKEN);
    if gap.is_empty() || method.is_empty() || !cursor.done() {
        return Err("is not a number, a space and a method");
    }
    Ok((number, method))
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}
