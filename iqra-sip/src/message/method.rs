//! Request methods (RFC 3261 §7.1 and the extensions in use); any other token is a method too.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::grammar;

/// The method of a request. Methods are case-sensitive: `invite` is not `INVITE` but a method unknown to us.
#[derive(Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the RFCs' own.
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Register,
    Info,
    Prack,
    Update,
    Refer,
    Subscribe,
    Notify,
    Message,
    Publish,
    /// A token that is none of the above.
    Other(MethodToken),
}

/// A method unknown to this crate, known to be a `token`; made by [`Method::new`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MethodToken(Bytes);

const KNOWN: [(&str, Method); 14] = [
    ("INVITE", Method::Invite),
    ("ACK", Method::Ack),
    ("BYE", Method::Bye),
    ("CANCEL", Method::Cancel),
    ("OPTIONS", Method::Options),
    ("REGISTER", Method::Register),
    ("INFO", Method::Info),
    ("PRACK", Method::Prack),
    ("UPDATE", Method::Update),
    ("REFER", Method::Refer),
    ("SUBSCRIBE", Method::Subscribe),
    ("NOTIFY", Method::Notify),
    ("MESSAGE", Method::Message),
    ("PUBLISH", Method::Publish),
];

impl Method {
    /// The method of this name; `None` when it is not a token.
    #[must_use]
    pub fn new(name: impl Into<Bytes>) -> Option<Method> {
        Method::from_token(&name.into())
    }

    pub(crate) fn from_token(name: &Bytes) -> Option<Method> {
        Method::from_slice(name, 0..name.len())
    }

    /// The method that stands at `range`; takes a slice of the buffer only for an unknown one.
    pub(crate) fn from_slice(buffer: &Bytes, range: Range<usize>) -> Option<Method> {
        let name = &buffer[range.clone()];
        match KNOWN.iter().find(|(text, _)| text.as_bytes() == name) {
            Some((_, method)) => Some(method.clone()),
            None => grammar::is_token(name).then(|| Method::Other(MethodToken(buffer.slice(range)))),
        }
    }

    /// The name as it stands in a request.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Method::Other(MethodToken(name)) => std::str::from_utf8(name).expect("a token is ASCII"),
            known => KNOWN.iter().find(|(_, method)| method == known).map_or("", |(text, _)| text),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
