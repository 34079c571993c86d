//! `Reason`: why a call ended or was refused, in another protocol's words (RFC 3326, RFC 6432).

use std::borrow::Cow;
use std::fmt;

use super::{TypedHeader, Values};
use crate::message::grammar::{Cursor, TOKEN};
use crate::message::name::HeaderName;
use crate::message::params::Params;
use crate::message::text::Text;

/// One reason: `Q.850;cause=16;text="Terminated"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    protocol: Text,
    /// `cause`, `text` and whatever else stands behind the protocol.
    pub params: Params,
}

impl Reason {
    /// A reason of a protocol (`SIP`, `Q.850`) with its cause and, unless empty, a text.
    #[must_use]
    pub fn new(protocol: &str, cause: u16, text: &str) -> Reason {
        let mut params = Params::EMPTY.with("cause", Some(&cause.to_string()));
        if !text.is_empty() {
            params.set_quoted("text", text);
        }
        Reason { protocol: Text::from(protocol), params }
    }

    /// `SIP`, `Q.850` or another; compares without case.
    #[must_use]
    pub fn protocol(&self) -> Cow<'_, str> {
        self.protocol.to_str()
    }

    /// The cause: a status code for `SIP`, a cause value for `Q.850`.
    #[must_use]
    pub fn cause(&self) -> Option<u16> {
        self.params.value("cause")?.parse().ok()
    }

    /// The text for people.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'_, str>> {
        self.params.value("text")
    }
}

impl TypedHeader for Reason {
    const NAME: HeaderName = HeaderName::REASON;

    fn read(values: &mut Values<'_>) -> Option<Result<Reason, &'static str>> {
        values.element().map(|text| {
            let protocol = Cursor::new(text.as_bytes()).take(TOKEN);
            if protocol.is_empty() {
                return Err("does not begin with a protocol");
            }
            let params = Params::parse(Text::from(text.bytes().slice(protocol.end..)))?;
            Ok(Reason { protocol: Text::from(text.bytes().slice(protocol)), params })
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.protocol, self.params)
    }
}
