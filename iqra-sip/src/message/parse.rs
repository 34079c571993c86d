//! From one framed message to its index: start line, header lines, body, in one pass.
//!
//! The pass goes on after a fault, so that the error can say what an answer is built from; the first fault counts.
//! What routing and matching depend on is checked here, everything else when it is asked for.

use std::ops::Range;

use bytes::Bytes;

use super::error::{Fault, ParseError};
use super::grammar::{self, TOKEN, Why};
use super::header::{self, via};
use super::headers::{Field, Headers};
use super::limits::Limits;
use super::method::Method;
use super::name::{HeaderName, Known};
use super::request::Request;
use super::response::Response;
use super::shape;
use super::status::StatusCode;
use super::text::Text;
use super::uri::{self, Uri};
use super::{Message, name_addr};
use crate::framing::{self, BodyLength, HeaderLine};
use crate::lines::Lines;

/// The first line, its parts as bounds in the message.
enum Start {
    Request { method: Range<usize>, uri: Range<usize>, uri_parts: uri::Parts },
    Response { status: StatusCode, reason: Range<usize> },
}

/// The headers that every message has (RFC 3261 §8.1.1); Max-Forwards is not asked for, as RFC 2543 had it optional.
const REQUIRED: [Known; 5] = [Known::Via, Known::From, Known::To, Known::CallId, Known::CSeq];

/// The requests whose Contact becomes where the dialog's requests go, and so is one address (RFC 3261 §8.1.1.8,
/// §12.2.1.1).
const ONE_CONTACT: [&[u8]; 5] = [b"INVITE", b"UPDATE", b"REFER", b"SUBSCRIBE", b"NOTIFY"];

/// No more than the octets of an average header line, for the size of the index: one allocation holds it.
const LINE_BYTES: usize = 32;

/// What the pass over the header lines has found.
struct Index<'a> {
    bytes: &'a [u8],
    limits: &'a Limits,
    fields: Vec<Field>,
    is_request: bool,
    /// Which of those that are checked here were there, by [`Known`]. All of them but Via stand once, as a second value
    /// would be another answer to which call this is, or what is agreed in it, to whoever reads the last.
    seen: [bool; Known::COUNT],
    /// How many places to be called back at the Contacts name.
    contacts: usize,
    cseq_method: &'a [u8],
    body_length: BodyLength,
    fault: Option<Fault>,
}

pub(super) fn message(bytes: Bytes, limits: &Limits) -> Result<Message, ParseError> {
    let begin = framing::skip_empty_lines(&bytes);
    let mut lines = Lines::new(&bytes);
    let start_end = lines.end(begin).map_err(|broken| ParseError::new(broken.into(), None))?;
    let start = start_line(&bytes, begin..start_end, limits);
    let mut index = Index::new(&bytes, limits, matches!(start, Ok(Start::Request { .. })));
    let body = index.run(&mut lines, start_end + 2).and_then(|at| index.body(at));
    if let Ok(Start::Request { method, .. }) = &start {
        index.compare_method(&bytes[method.clone()]);
        index.count_contacts(&bytes[method.clone()]);
    }
    if body.is_ok() {
        index.check_presence();
    }
    let Index { fields, fault, .. } = index;
    match (start, fault, body) {
        (Ok(start), None, Ok(body)) => Ok(build(bytes, start, fields, body)),
        (Err(fault), ..) => Err(ParseError::new(fault, reply(&bytes, begin..start_end, None, fields))),
        (Ok(start), fault, body) => {
            let fault = fault.or(body.err()).expect("one of the two is at fault");
            Err(ParseError::new(fault, reply(&bytes, begin..start_end, Some(start), fields)))
        }
    }
}

/// Request line or status line (RFC 3261 §7.1, §7.2). Single spaces, nothing behind the version.
fn start_line(bytes: &[u8], line: Range<usize>, limits: &Limits) -> Result<Start, Fault> {
    let text = &bytes[line.clone()];
    if text.len() >= 4 && text[..4].eq_ignore_ascii_case(b"SIP/") {
        return status_line(text, line.start);
    }
    let last = before_version(text)?;
    let first = grammar::run_len(text, TOKEN);
    if first == 0 || text[first] != b' ' {
        return Err(Fault::StartLine("does not begin with a method"));
    }
    if first == last {
        return Err(Fault::StartLine("has no Request-URI"));
    }
    let uri = first + 1..last;
    if uri.len() > limits.uri_bytes {
        return Err(Fault::UriTooLong(limits.uri_bytes));
    }
    let uri_parts = match shape::sip_uri(&text[uri.clone()]) {
        Some(parts) => parts,
        None => uri::scan(&text[uri.clone()])?,
    };
    let at = line.start;
    Ok(Start::Request { method: at..at + first, uri: at + uri.start..at + uri.end, uri_parts })
}

/// The last space, with the version of SIP behind it.
fn before_version(text: &[u8]) -> Result<usize, Fault> {
    if text.ends_with(b" SIP/2.0") {
        return Ok(text.len() - b" SIP/2.0".len());
    }
    let last = memchr::memrchr(b' ', text).ok_or(Fault::StartLine("has no space"))?;
    version(&text[last + 1..])?;
    Ok(last)
}

fn status_line(text: &[u8], at: usize) -> Result<Start, Fault> {
    let first = memchr::memchr(b' ', text).ok_or(Fault::StartLine("has no space"))?;
    version(&text[..first])?;
    if memchr::memchr(0, text).is_some() {
        return Err(Fault::Nul); // A backslash escapes nothing in a reason phrase.
    }
    let rest = &text[first + 1..];
    let digits = memchr::memchr(b' ', rest).unwrap_or(rest.len());
    let code = Some(&rest[..digits]).filter(|digits| digits.len() == 3);
    let code = code.and_then(|digits| grammar::number(digits, 699).ok());
    let status = code.and_then(|code| StatusCode::new(code as u16)).ok_or(Fault::Status)?;
    let reason = (first + 1 + digits + 1).min(text.len());
    Ok(Start::Response { status, reason: at + reason..at + text.len() })
}

fn version(text: &[u8]) -> Result<(), Fault> {
    if text == b"SIP/2.0" || text.eq_ignore_ascii_case(b"SIP/2.0") {
        return Ok(());
    }
    let number = text.get(4..).filter(|_| text[..4].eq_ignore_ascii_case(b"SIP/"));
    let is_version = |b: &u8| b.is_ascii_digit() || *b == b'.';
    match number {
        Some(number) if !number.is_empty() && number.iter().all(is_version) => Err(Fault::Version),
        _ => Err(Fault::StartLine("does not end with SIP/2.0")),
    }
}

impl<'a> Index<'a> {
    fn new(bytes: &'a [u8], limits: &'a Limits, is_request: bool) -> Index<'a> {
        let oversize = bytes.len() > limits.message_bytes;
        Index {
            bytes,
            limits,
            fields: Vec::with_capacity((bytes.len() / LINE_BYTES).clamp(8, 64)),
            is_request,
            seen: [false; Known::COUNT],
            contacts: 0,
            cseq_method: b"",
            body_length: BodyLength::default(),
            fault: oversize.then_some(Fault::TooLarge(limits.message_bytes)),
        }
    }

    /// Reads header lines from `at` on and says where the body begins. A fault in one header is noted and the pass
    /// goes on; an error is a fault that leaves nothing to go on with.
    fn run(&mut self, lines: &mut Lines<'_>, mut at: usize) -> Result<usize, Fault> {
        let mut number = 2;
        loop {
            match framing::header_line(lines, at)? {
                HeaderLine::End { body } if body > self.limits.head_bytes => {
                    return Err(Fault::TooLarge(self.limits.head_bytes));
                }
                HeaderLine::End { body } => return Ok(body),
                HeaderLine::Field(field) => {
                    if self.fields.len() == self.limits.headers {
                        return Err(Fault::TooManyHeaders(self.limits.headers));
                    }
                    at = field.end as usize + 2;
                    self.fields.push(field);
                    if let Some(known) = field.known
                        && is_checked(known)
                    {
                        self.check(known, &self.bytes[field.value_range()]);
                    }
                }
                HeaderLine::Unreadable { next } => {
                    at = next;
                    self.refuse(Fault::HeaderLine(number));
                }
            }
            number += 1;
        }
    }

    /// Checks a header that [`is_checked`].
    #[inline(never)] // The loop over the lines keeps its registers.
    fn check(&mut self, known: Known, value: &'a [u8]) {
        let checked = match known {
            Known::Via if shape::is_via(value) => Ok(()),
            Known::Via => via::check(value, !self.seen[Known::Via as usize]),
            Known::From | Known::To if shape::is_address(value) => Ok(()),
            Known::From | Known::To => name_addr::check_party(value),
            Known::CallId => header::check_call_id(value),
            Known::CSeq => header::scan_cseq(value).map(|(_, method)| self.cseq_method = &value[method]),
            Known::MaxForwards => grammar::number(value, u8::MAX.into()).map(drop),
            Known::Contact if self.is_request => {
                let count = if shape::is_address(value) { Ok(1) } else { header::check_contact(value) };
                let checked = count.map(|count| self.contacts += count);
                return self.note(known, checked);
            }
            Known::Route if shape::is_address(value) => return,
            Known::Route if self.is_request => {
                return self.note(known, name_addr::check_list(value).map(drop));
            }
            Known::ContentLength => {
                return self.body_length.add(value).unwrap_or_else(|fault| self.refuse(fault));
            }
            Known::ContentType
            | Known::Event
            | Known::Expires
            | Known::RAck
            | Known::RSeq
            | Known::SessionExpires => Ok(()),
            _ => return,
        };
        let before = std::mem::replace(&mut self.seen[known as usize], true);
        if before && known != Known::Via {
            return self.refuse(Fault::Duplicate(HeaderName::from_known(known)));
        }
        self.note(known, checked);
    }

    #[inline]
    fn note(&mut self, known: Known, checked: Result<(), Why>) {
        if let Err(why) = checked {
            self.refuse(Fault::invalid(HeaderName::from_known(known), why));
        }
    }

    /// Notes a fault; the first counts.
    #[cold]
    fn refuse(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    fn compare_method(&mut self, method: &[u8]) {
        if !self.cseq_method.is_empty() && self.cseq_method != method {
            self.refuse(Fault::MethodMismatch);
        }
    }

    fn count_contacts(&mut self, method: &[u8]) {
        if self.contacts > 1 && ONE_CONTACT.contains(&method) {
            self.refuse(Fault::Duplicate(HeaderName::CONTACT));
        }
    }

    fn check_presence(&mut self) {
        let missing = REQUIRED.into_iter().find(|known| !self.seen[*known as usize]);
        if let Some(known) = missing {
            self.refuse(Fault::Missing(HeaderName::from_known(known)));
        }
    }

    /// The body: as long as Content-Length says, else all that is left (RFC 3261 §18.3).
    fn body(&self, at: usize) -> Result<Range<usize>, Fault> {
        let left = self.bytes.len() - at;
        let len = self.body_length.stated().unwrap_or(left);
        if len > left { Err(Fault::BodyTooShort) } else { Ok(at..at + len) }
    }
}

/// Whether a header's value is looked at, or is to stand once.
#[inline(always)]
fn is_checked(known: Known) -> bool {
    matches!(
        known,
        Known::Via
            | Known::From
            | Known::To
            | Known::CallId
            | Known::CSeq
            | Known::MaxForwards
            | Known::Contact
            | Known::Route
            | Known::ContentLength
            | Known::ContentType
            | Known::Event
            | Known::Expires
            | Known::RAck
            | Known::RSeq
            | Known::SessionExpires
    )
}

fn build(bytes: Bytes, start: Start, fields: Vec<Field>, body: Range<usize>) -> Message {
    let body = if body.is_empty() { Bytes::new() } else { bytes.slice(body) };
    match start {
        Start::Request { method, uri, uri_parts } => Message::Request(Request {
            method: Method::from_slice(&bytes, method).expect("the start line was checked"),
            uri: Uri::checked(bytes.slice(uri), uri_parts),
            headers: Headers::from_wire(bytes, fields),
            body,
        }),
        Start::Response { status, reason } => Message::Response(Response {
            status,
            reason: Text::from(bytes.slice(reason)),
            headers: Headers::from_wire(bytes, fields),
            body,
        }),
    }
}

/// What a refusal of this request is built from; nothing for a response, an ACK (RFC 3261 §8.2.7 has no answer to
/// it), or a request whose topmost Via names no way back. It has what is there of the headers that an answer copies.
fn reply(
    bytes: &Bytes,
    line: Range<usize>,
    start: Option<Start>,
    fields: Vec<Field>,
) -> Option<Box<Request>> {
    let (method, uri) = match start {
        Some(Start::Request { method, uri, uri_parts }) => {
            (bytes.slice(method), Uri::checked(bytes.slice(uri), uri_parts))
        }
        Some(Start::Response { .. }) => return None,
        None => {
            let word = memchr::memchr(b' ', &bytes[line.clone()])?;
            (bytes.slice(line.start..line.start + word), Uri::sip(None, "invalid", None))
        }
    };
    let method = Method::from_token(&method).filter(|method| *method != Method::Ack)?;
    let mut request = Request::new(method, uri);
    let all = Headers::from_wire(bytes.clone(), fields);
    request.headers.copy_from(&all, &REQUIRED.map(HeaderName::from_known));
    if all.typed::<via::Via>().is_err() {
        let top = via::way_back(all.raw(HeaderName::VIA)?)?;
        request.headers.set_first(HeaderName::VIA, top.to_string());
    }
    Some(Box::new(request))
}
