//! A response (RFC 3261 §7.2), and how one is built from its request (§8.2.6).

use std::fmt;

use bytes::Bytes;

use super::headers::Headers;
use super::method::Method;
use super::name::HeaderName;
use super::print;
use super::request::Request;
use super::status::StatusCode;
use super::text::Text;

/// A response: how a request went.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: StatusCode,
    /// The reason phrase, for people; may be empty.
    pub reason: Text,
    /// The headers, in order.
    pub headers: Headers,
    /// The body, as octets.
    pub body: Bytes,
}

impl Response {
    /// A response without headers or body, with the default reason phrase.
    #[must_use]
    pub fn new(status: StatusCode) -> Response {
        Response {
            status,
            reason: Text::from_static(status.reason()),
            headers: Headers::new(),
            body: Bytes::new(),
        }
    }

    /// The response to a request: Via, From, To, Call-ID and CSeq copied octet for octet (RFC 3261 §8.2.6.2), and
    /// Record-Route where the response makes a dialog (§12.1.1: 101 to 299 to INVITE, SUBSCRIBE, REFER or NOTIFY).
    /// The To tag is the caller's to add.
    #[must_use]
    pub fn to_request(request: &Request, status: StatusCode) -> Response {
        const ALWAYS: [HeaderName; 5] =
            [HeaderName::VIA, HeaderName::FROM, HeaderName::TO, HeaderName::CALL_ID, HeaderName::CSEQ];
        let mut response = Response::new(status);
        response.headers.copy_from(&request.headers, &ALWAYS);
        let dialog =
            matches!(request.method, Method::Invite | Method::Subscribe | Method::Refer | Method::Notify);
        if dialog && matches!(status.code(), 101..=299) {
            response.headers.copy_from(&request.headers, &[HeaderName::RECORD_ROUTE]);
        }
        response
    }

    /// The message as it goes on the wire, with the Content-Length of its body.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        print::response(self)
    }
}

/// Shows status and header names; no values, no body.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} body {}", self.status, self.headers, self.body.len())
    }
}
