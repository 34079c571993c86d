//! SIP messages (RFC 3261 §7): the octets of one framed message in, a [`Request`] or [`Response`] out, and back.
//!
//! [`Message::parse`] indexes the head in one pass over one shared buffer and checks what routing and matching
//! depend on: start line, Via, From, To, Call-ID, CSeq, Max-Forwards, Contact, Content-Length. All other headers
//! are read when [`Headers::typed`] asks for them, and print byte for byte when nobody does.

pub mod dtmf;
mod error;
pub(crate) mod grammar;
pub mod header;
mod headers;
mod limits;
mod method;
pub mod multipart;
mod name;
pub(crate) mod name_addr;
mod params;
mod parse;
mod print;
mod request;
mod response;
mod shape;
mod status;
mod text;
mod uri;

use bytes::Bytes;

pub use error::{Fault, HeaderError, ParseError};
pub use header::{TypedHeader, Values};
pub(crate) use headers::Field;
pub use headers::Headers;
pub use limits::Limits;
pub use method::{Method, MethodToken};
pub use name::HeaderName;
pub(crate) use name::Known;
pub use name_addr::NameAddr;
pub use params::Params;
pub use request::Request;
pub use response::Response;
pub use status::StatusCode;
pub use text::Text;
pub(crate) use uri::decode;
pub use uri::{Host, Scheme, Uri, UriError};

/// A request or a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

impl Message {
    /// Reads exactly one message, with the default [`Limits`]: a datagram, or what [`crate::framing`] cut out of a
    /// stream. Empty lines before the start line are skipped (RFC 3261 §7.5); octets behind the body that
    /// Content-Length states are left out (§18.3); without a Content-Length the body goes to the end.
    ///
    /// # Errors
    /// Says what is wrong and, for a request, what an answer can be built from.
    pub fn parse(bytes: Bytes) -> Result<Message, ParseError> {
        Message::parse_within(bytes, &Limits::DEFAULT)
    }

    /// The same with limits of one's own.
    ///
    /// # Errors
    /// As [`Message::parse`].
    pub fn parse_within(bytes: Bytes, limits: &Limits) -> Result<Message, ParseError> {
        parse::message(bytes, limits)
    }

    /// Reads what this process has worded itself: limits are for what comes from others.
    pub(crate) fn parse_own(bytes: Bytes) -> Result<Message, ParseError> {
        parse::message(bytes, &Limits::NONE)
    }

    /// The message as it goes on the wire, with the Content-Length of its body.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Message::Request(request) => request.to_bytes(),
            Message::Response(response) => response.to_bytes(),
        }
    }

    /// The headers of either kind.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        match self {
            Message::Request(request) => &request.headers,
            Message::Response(response) => &response.headers,
        }
    }

    /// The body of either kind.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        match self {
            Message::Request(request) => &request.body,
            Message::Response(response) => &response.body,
        }
    }
}

impl From<Request> for Message {
    fn from(request: Request) -> Message {
        Message::Request(request)
    }
}

impl From<Response> for Message {
    fn from(response: Response) -> Message {
        Message::Response(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:agent@voice.example;lr SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKa1;rport, SIP/2.0/TCP [2001:db8::7]\r\n\
        f: \"An \\\"odd\\\" name\" <sip:+15550100@pbx.example>;tag=ab\r\n\
        To: sip:agent@voice.example;tag=1\r\n\
        Call-ID: c1@pbx\r\n\
        CSeq: 7 INVITE\r\n\
        X-Note :  one\r\n\ttwo \r\n\
        Content-Length: 4\r\n\r\nbody";

    fn request(text: &str) -> Request {
        match Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap() {
            Message::Request(request) => request,
            Message::Response(_) => panic!("is a request"),
        }
    }

    #[test]
    fn an_invite_gives_its_parts_and_prints_byte_for_byte() {
        let invite = request(INVITE);
        assert_eq!(invite.method, Method::Invite);
        assert_eq!(invite.headers.get("x-note").unwrap(), "one two");
        let vias: Vec<header::Via> = invite.headers.typed_all().map(Result::unwrap).collect();
        assert_eq!(vias[0].rport(), Some(None));
        assert_eq!(vias[1].host(), Host::Ip("2001:db8::7".parse().unwrap()));
        let from: header::From = invite.headers.typed().unwrap();
        assert_eq!(from.display_name().unwrap(), "An \"odd\" name");
        assert_eq!(invite.headers.typed::<header::To>().unwrap().tag().unwrap(), "1");
        assert_eq!(&invite.body[..], b"body");
        assert_eq!(invite.to_bytes(), INVITE.as_bytes());
    }

    #[test]
    fn a_response_copies_what_its_request_says() {
        let ok = Response::to_request(&request(INVITE), StatusCode::OK);
        let Message::Response(again) = Message::parse(ok.to_bytes()).unwrap() else {
            panic!("is a response")
        };
        assert_eq!(again, ok);
        assert_eq!(again.headers.typed::<header::CSeq>().unwrap().number, 7);
    }
}
