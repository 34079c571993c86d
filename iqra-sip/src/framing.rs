//! The one authority on where things end: a line, a header, a head, a body (RFC 3261 §7.3.1, §18.3).
//!
//! The datagram parser ([`crate::message`]) and the stream decoder ([`Framer`]) both read lines and Content-Length
//! with the functions of this file. So no spelling of Content-Length (space before the colon, compact, folded,
//! twice, signed, huge) makes one of them see a message where the other sees a body.
//!
//! Lines end with CRLF and nothing else: a lone CR or LF in a head is refused, here and only here.

use bytes::{Buf, Bytes, BytesMut};

use crate::message::grammar;
use crate::message::{Fault, HeaderName, Known, Limits, Message, Method, ParseError, WireField};

/// What a stream carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// One whole message, not yet parsed.
    Message(Bytes),
    /// A double CRLF: the peer asks for a sign of life and wants a single CRLF back (RFC 5626 §4.4.1).
    Ping,
    /// A single CRLF: the answer to a ping, or an empty line between messages.
    Pong,
}

/// Cuts a stream into [`Frame`]s. Feed it the same growing buffer; what it gives is taken out of the buffer.
///
/// An error means that the end of the message cannot be told, so the connection must be closed; it says what to
/// answer before that.
#[derive(Debug, Clone, Default)]
pub struct Framer {
    limits: Limits,
    /// How far the head has been searched for its end.
    searched: usize,
    /// Octets of the message, once its head was complete.
    expected: Option<usize>,
    /// The last frame was a [`Frame::Pong`], so that a ping that came in two parts is still one.
    half_ping: bool,
}

impl Framer {
    /// A framer with limits of one's own.
    #[must_use]
    pub fn new(limits: Limits) -> Framer {
        Framer { limits, ..Framer::default() }
    }

    /// The next frame; `None` when more octets are needed.
    ///
    /// # Errors
    /// A lone CR or LF or a NUL in the head, a missing, repeated or malformed Content-Length, or a message past
    /// the limits.
    pub fn next_frame(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, ParseError> {
        if self.searched == 0 && self.expected.is_none() && buffer.first() == Some(&b'\r') {
            return self.keep_alive(buffer);
        }
        if self.expected.is_none() {
            self.expected = self.head(buffer)?;
        }
        match self.expected {
            Some(len) if buffer.len() >= len => {
                *self = Framer::new(self.limits.clone());
                Ok(Some(Frame::Message(buffer.split_to(len).freeze())))
            }
            _ => Ok(None),
        }
    }

    fn keep_alive(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, ParseError> {
        let length = match &buffer[..] {
            b"\r" | b"\r\n\r" => return Ok(None),
            [b'\r', b'\n', b'\r', b'\n', ..] => 4,
            [b'\r', b'\n', ..] => 2,
            _ => return Err(ParseError::new(Fault::LineBreak, None)),
        };
        buffer.advance(length);
        let ping = length == 4 || self.half_ping;
        self.half_ping = !ping;
        Ok(Some(if ping { Frame::Ping } else { Frame::Pong }))
    }

    /// The length of the message, when its head is complete.
    fn head(&mut self, buffer: &BytesMut) -> Result<Option<usize>, ParseError> {
        let Some(head) = self.find_head_end(buffer).map_err(|fault| refuse(buffer, fault, &self.limits))?
        else {
            return Ok(None);
        };
        let length =
            body_length(&buffer[..head]).and_then(|length| length.stated().ok_or(Fault::NoContentLength));
        let total = length.and_then(|body| self.within(head.saturating_add(body)));
        total.map(Some).map_err(|fault| refuse(&buffer[..head], fault, &self.limits))
    }

    fn within(&self, total: usize) -> Result<usize, Fault> {
        let limit = self.limits.message_bytes;
        if total > limit { Err(Fault::TooLarge(limit)) } else { Ok(total) }
    }

    fn find_head_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, Fault> {
        while let Some(found) = memchr::memchr(b'\n', &buffer[self.searched..]) {
            let at = self.searched + found;
            if at == 0 || buffer[at - 1] != b'\r' {
                return Err(Fault::LineBreak);
            }
            self.searched = at + 1;
            if buffer[..at - 1].ends_with(b"\r\n") && self.searched <= self.limits.head_bytes {
                return Ok(Some(self.searched));
            }
        }
        self.searched = buffer.len();
        if buffer.len() > self.limits.head_bytes {
            return Err(Fault::TooLarge(self.limits.head_bytes));
        }
        Ok(None)
    }
}

/// The error for a head that cannot be framed, with what an answer needs if that much of the head is there.
fn refuse(head: &[u8], fault: Fault, limits: &Limits) -> ParseError {
    let reply = match Message::parse_within(Bytes::copy_from_slice(head), limits) {
        Ok(Message::Request(request)) if request.method != Method::Ack => Some(Box::new(request)),
        Ok(_) => None,
        Err(error) => error.reply,
    };
    ParseError::new(fault, reply)
}

/// True for a datagram that carries no message but keeps a NAT binding open: line breaks and NULs only.
#[must_use]
pub fn is_keep_alive(datagram: &[u8]) -> bool {
    datagram.iter().all(|b| matches!(b, b'\r' | b'\n' | 0))
}

/// The length of the body as its head states it. A second Content-Length is refused even if it says the same.
#[derive(Debug, Default)]
pub(crate) struct BodyLength(Option<u32>);

impl BodyLength {
    /// Reads one Content-Length value (RFC 3261 §20.14): decimal digits, nothing else.
    pub(crate) fn add(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.0.is_some() {
            return Err(Fault::Duplicate(HeaderName::CONTENT_LENGTH));
        }
        let length = grammar::number(value, u32::MAX.into());
        let length = length.map_err(|why| Fault::invalid(HeaderName::CONTENT_LENGTH, why))?;
        self.0 = Some(length as u32);
        Ok(())
    }

    /// Octets, where the head states them.
    pub(crate) fn stated(&self) -> Option<usize> {
        self.0.map(|length| length as usize)
    }
}

/// Reads all header lines of a head for its Content-Length alone.
fn body_length(head: &[u8]) -> Result<BodyLength, Fault> {
    let mut length = BodyLength::default();
    let mut at = line_end(head, 0)? + 2;
    loop {
        match header_line(head, at)? {
            HeaderLine::End { .. } => return Ok(length),
            HeaderLine::Unreadable { next } => at = next,
            HeaderLine::Field(field) => {
                if field.known == Some(Known::ContentLength) {
                    length.add(&head[field.value_range()])?;
                }
                at = field.end as usize + 2;
            }
        }
    }
}

/// What stands where a header line may begin.
pub(crate) enum HeaderLine {
    /// A header with all its folds.
    Field(WireField),
    /// A line without a name and a colon; the next one begins at `next`.
    Unreadable { next: usize },
    /// The empty line; the body begins at `body`.
    End { body: usize },
}

/// The header line that begins at `at`, folded lines included.
#[inline]
pub(crate) fn header_line(bytes: &[u8], at: usize) -> Result<HeaderLine, Fault> {
    if bytes[at.min(bytes.len())..].starts_with(b"\r\n") {
        return Ok(HeaderLine::End { body: at + 2 });
    }
    let mut end = line_end(bytes, at)?;
    while matches!(bytes.get(end + 2), Some(b' ' | b'\t')) {
        end = line_end(bytes, end + 2)?;
    }
    let line = &bytes[at..end];
    let Some(colon) = memchr::memchr(b':', line) else { return Ok(HeaderLine::Unreadable { next: end + 2 }) };
    // Spaces and tabs may stand before the colon, a fold may not (RFC 3261 §25.1 `HCOLON`).
    let gap = line[..colon].iter().rev().take_while(|&&b| matches!(b, b' ' | b'\t')).count();
    let name = &line[..colon - gap];
    let known = Known::find(name);
    if known.is_none() && (!grammar::is_token(name) || name.len() > usize::from(u16::MAX)) {
        return Ok(HeaderLine::Unreadable { next: end + 2 });
    }
    let after_colon = colon + 1;
    let value = grammar::trim(&line[after_colon..]);
    Ok(HeaderLine::Field(WireField {
        known,
        name_len: name.len() as u16,
        start: at as u32,
        value: (at + after_colon + value.start) as u32,
        value_end: (at + after_colon + value.end) as u32,
        end: end as u32,
    }))
}

/// The CR of the CRLF that ends the line at `at`. A NUL is let pass behind a backslash only, where a quoted string
/// escapes it (RFC 3261 §25.1 `quoted-pair`).
#[inline]
pub(crate) fn line_end(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    let mut from = at;
    loop {
        let rest = bytes.get(from..).ok_or(Fault::Incomplete)?;
        let found = from + memchr::memchr3(b'\r', b'\n', 0, rest).ok_or(Fault::Incomplete)?;
        match bytes[found] {
            b'\r' if bytes.get(found + 1) == Some(&b'\n') => return Ok(found),
            b'\r' if found + 1 == bytes.len() => return Err(Fault::Incomplete),
            0 if found > at && bytes[found - 1] == b'\\' => from = found + 1,
            0 => return Err(Fault::Nul),
            _ => return Err(Fault::LineBreak),
        }
    }
}

/// Where the start line begins: empty lines before it are passed over (RFC 3261 §7.5).
pub(crate) fn skip_empty_lines(bytes: &[u8]) -> usize {
    let mut at = 0;
    while bytes[at..].starts_with(b"\r\n") {
        at += 2;
    }
    at
}
