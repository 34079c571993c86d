//! A request (RFC 3261 §7.1).

use std::fmt;

use bytes::Bytes;

use super::header::CSeq;
use super::headers::Headers;
use super::method::Method;
use super::print;
use super::uri::Uri;

/// A request: what is asked of whom, with which headers and body.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// The Request-URI.
    pub uri: Uri,
    /// The headers, in order.
    pub headers: Headers,
    /// The body, as octets.
    pub body: Bytes,
}

impl Request {
    /// A request without headers or body.
    #[must_use]
    pub fn new(method: Method, uri: Uri) -> Request {
        Request { method, uri, headers: Headers::new(), body: Bytes::new() }
    }

    /// Its CSeq number; 0 where there is none to be read.
    pub(crate) fn sequence(&self) -> u32 {
        self.headers.typed::<CSeq>().map_or(0, |cseq| cseq.number)
    }

    /// The message as it goes on the wire, with the Content-Length of its body.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        print::request(self)
    }
}

/// Shows method, host and header names; no values, no body.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?} body {}", self.method, self.uri, self.headers, self.body.len())
    }
}
