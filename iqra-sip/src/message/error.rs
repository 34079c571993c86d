//! What can be wrong with a message, and with which status a request like that is answered.

use std::fmt;

use super::grammar::Why;
use super::name::HeaderName;
use super::request::Request;
use super::status::StatusCode;
use super::uri::UriError;

/// Why a message was refused. Names the header and the remedy, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No empty line ends the head.
    #[error("the message ends before the empty line that closes its head; send the whole message")]
    Incomplete,
    /// A line feed without its carriage return, or the other way round, in the head.
    #[error("a line of the head does not end with CRLF; end every line with CR and LF")]
    LineBreak,
    /// A NUL octet in the head that no quoted string escapes.
    #[error("the head holds a NUL octet; remove it")]
    Nul,
    /// The first line is neither a request line nor a status line.
    #[error("the start line {0}; send METHOD SP URI SP SIP/2.0")]
    StartLine(&'static str),
    /// A SIP version other than 2.0.
    #[error("the SIP version is not 2.0; send SIP/2.0")]
    Version,
    /// A status code outside 100..=699.
    #[error("the status code is not within 100 to 699; send a three-digit code")]
    Status,
    /// The Request-URI cannot be read.
    #[error("the Request-URI {0}")]
    Uri(#[from] UriError),
    /// The Request-URI is longer than the limit, in octets.
    #[error("the Request-URI is longer than {0} bytes; shorten it")]
    UriTooLong(usize),
    /// A line of the head has no readable name and colon.
    #[error("header line {0} has no name and colon; send Name: value")]
    HeaderLine(usize),
    /// A header that every message needs is not there.
    #[error("the header {0} is missing; add it")]
    Missing(HeaderName),
    /// A header that may stand once stands twice.
    #[error("the header {0} stands more than once; send it once")]
    Duplicate(HeaderName),
    /// A header's value is not what its grammar says.
    #[error("the header {name} {why}")]
    Invalid {
        /// Which header.
        name: HeaderName,
        /// What is wrong with it.
        why: &'static str,
    },
    /// CSeq names another method than the request line.
    #[error("the method in CSeq is not the method of the request; send the same in both")]
    MethodMismatch,
    /// Content-Length promises more than the datagram holds.
    #[error("Content-Length is larger than the body that came; send the body's length")]
    BodyTooShort,
    /// A message on a stream does not say how long its body is (RFC 3261 §20.14).
    #[error("Content-Length is missing on a stream; send it, 0 for no body")]
    NoContentLength,
    /// The message is larger than a limit, in octets.
    #[error("the message is larger than {0} bytes; send less")]
    TooLarge(usize),
    /// There are more header lines than the limit.
    #[error("the message has more than {0} header lines; send fewer")]
    TooManyHeaders(usize),
}

impl Fault {
    pub(crate) fn invalid(name: HeaderName, why: Why) -> Fault {
        Fault::Invalid { name, why }
    }

    /// With which status a request like that is answered.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Fault::Version => StatusCode::VERSION_NOT_SUPPORTED,
            Fault::UriTooLong(_) => StatusCode::REQUEST_URI_TOO_LONG,
            // RFC 3261 §21.5.6 is about length alone: too many lines are 400, as any other malformed head.
            Fault::TooLarge(_) => StatusCode::MESSAGE_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// A message that was refused: what is wrong with it, and what an answer can be built from.
#[derive(Debug, Clone)]
pub struct ParseError {
    /// What is wrong.
    pub fault: Fault,
    /// The status of the answer, where one is possible.
    pub status: StatusCode,
    /// The request as far as an answer needs it (those of Via, From, To, Call-ID and CSeq that are there; the URI only if
    /// it was readable). Its topmost Via can be read: of a malformed one transport, sent-by and the parameters before the
    /// fault are left. `None` means discard: it was a response or an ACK, or there is no such Via.
    pub reply: Option<Box<Request>>,
}

impl ParseError {
    pub(crate) fn new(fault: Fault, reply: Option<Box<Request>>) -> ParseError {
        ParseError { status: fault.status(), fault, reply }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl std::error::Error for ParseError {}

/// Why a header could not be had as a typed value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// There is no such header.
    #[error("the header {0} is missing")]
    Missing(HeaderName),
    /// The header is there and its value is not what its grammar says.
    #[error("the header {name} {why}")]
    Invalid {
        /// Which header.
        name: HeaderName,
        /// What is wrong with it.
        why: &'static str,
    },
}
