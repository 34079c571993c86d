//! `Call-ID`: names a call across all its requests and responses (RFC 3261 §20.8). Compares with case.

use std::fmt;

use super::{TypedHeader, Values};
use crate::message::grammar::{self, WORD, Why};
use crate::message::name::HeaderName;
use crate::message::text::Text;

/// The identifier of a call: one word without white space.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallId(Text);

impl CallId {
    /// A Call-ID of this text; `None` when it is empty or holds white space or control characters.
    #[must_use]
    pub fn new(text: impl Into<Text>) -> Option<CallId> {
        let text = text.into();
        check(text.as_bytes()).is_ok().then_some(CallId(text))
    }

    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The text.
    #[must_use]
    pub fn to_str(&self) -> std::borrow::Cow<'_, str> {
        self.0.to_str()
    }
}

impl TypedHeader for CallId {
    const NAME: HeaderName = HeaderName::CALL_ID;

    fn read(values: &mut Values<'_>) -> Option<Result<CallId, &'static str>> {
        let slice = values.line_slice()?;
        Some(check(slice.bytes()).map(|()| CallId(slice.whole())))
    }
}

/// One call that this one answers to or returns (RFC 3261 §20.21).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InReplyTo(pub CallId);

impl TypedHeader for InReplyTo {
    const NAME: HeaderName = HeaderName::IN_REPLY_TO;

    fn read(values: &mut Values<'_>) -> Option<Result<InReplyTo, &'static str>> {
        let text = values.element()?;
        Some(check(text.as_bytes()).map(|()| InReplyTo(CallId(text))))
    }
}

impl fmt::Display for InReplyTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub(crate) fn check(value: &[u8]) -> Result<(), Why> {
    if value.is_empty() {
        return Err("is empty");
    }
    let is_word = grammar::run_len(value, WORD) == value.len();
    if is_word { Ok(()) } else { Err("holds white space; send one word") }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
