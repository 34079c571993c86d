//! `RSeq` and `RAck`: the number of a reliable provisional response, and its acknowledgement in a PRACK
//! (RFC 3262 §7.1, §7.2).

use std::fmt;

use super::number::number_header;
use super::{TypedHeader, Values};
use crate::message::grammar::{self, Cursor, DIGIT, SPACE, TOKEN};
use crate::message::method::Method;
use crate::message::name::HeaderName;

number_header! {
    /// The number of a reliable provisional response, 1 to 2^32 - 1; it rises by one within a transaction.
    RSeq(u32), RSEQ
}

/// Which provisional response a PRACK acknowledges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RAck {
    /// The response's RSeq.
    pub response: u32,
    /// The CSeq number of the request that was answered.
    pub number: u32,
    /// The method of that request, INVITE.
    pub method: Method,
}

impl TypedHeader for RAck {
    const NAME: HeaderName = HeaderName::RACK;

    fn read(values: &mut Values<'_>) -> Option<Result<RAck, &'static str>> {
        let text = values.line()?;
        Some(scan(text.as_bytes()).and_then(|(response, number, method)| {
            let method = Method::from_slice(text.bytes(), method).ok_or("has no method")?;
            Ok(RAck { response, number, method })
        }))
    }
}

fn scan(value: &[u8]) -> Result<(u32, u32, std::ops::Range<usize>), &'static str> {
    let mut cursor = Cursor::new(value);
    let response = cursor.take(DIGIT);
    let gap = cursor.take(SPACE);
    let number = cursor.take(DIGIT);
    let second_gap = cursor.take(SPACE);
    let method = cursor.take(TOKEN);
    if gap.is_empty() || second_gap.is_empty() || method.is_empty() || !cursor.done() {
        return Err("is not two numbers and a method");
    }
    let response = grammar::number(&value[response], u32::MAX)?;
    let number = grammar::number(&value[number], u32::MAX)?;
    Ok((response, number, method))
}

impl fmt::Display for RAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.response, self.number, self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    fn rack(value: &'static str) -> Option<RAck> {
        let mut headers = Headers::new();
        headers.push(HeaderName::RACK, value);
        headers.typed().ok()
    }

    #[test]
    fn rack_names_a_response_by_its_number_and_its_request() {
        let read = rack("776656  1 INVITE").unwrap();
        assert_eq!((read.response, read.number, read.method.clone()), (776_656, 1, Method::Invite));
        assert_eq!(read.to_string(), "776656 1 INVITE");
    }

    #[test]
    fn rack_with_less_or_more_is_refused() {
        for value in ["", "1", "1 2", "1 INVITE", "1 2 INVITE x", "4294967296 1 INVITE", "-1 1 INVITE"] {
            assert!(rack(value).is_none(), "{value}");
        }
    }
}
