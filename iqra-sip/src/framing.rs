//! The one authority on where things end: a line, a header, a head, a body (RFC 3261 §7.3.1, §18.3).
//!
//! The datagram parser ([`crate::message`]) and the stream decoder ([`Framer`]) both read lines and Content-Length
//! with the functions of this file. So no spelling of Content-Length (space before the colon, compact, folded,
//! twice, signed, huge) makes one of them see a message where the other sees a body.
//!
//! Lines end with CRLF and nothing else: a lone CR or LF in a head is refused, here and only here.

use bytes::{Buf, Bytes, BytesMut};

use crate::lines::{Broken, Lines};
use crate::message::grammar;
use crate::message::{Fault, Field, HeaderName, Known, Limits, Message, Method, ParseError};

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
        let length = grammar::number(value, u32::MAX);
        let length = length.map_err(|why| Fault::invalid(HeaderName::CONTENT_LENGTH, why))?;
        self.0 = Some(length);
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
    let mut lines = Lines::new(head);
    let mut at = lines.end(0)? + 2;
    loop {
        match header_line(&mut lines, at)? {
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
    Field(Field),
    /// A line without a name and a colon; the next one begins at `next`.
    Unreadable { next: usize },
    /// The empty line; the body begins at `body`.
    End { body: usize },
}

/// The header line that begins at `at`, folded lines included. Nearly every line has its colon before any control
/// character and is read here in a few steps; the functions for the others give no more than a place, so that the parts
/// of a field stay in registers until they are written to the index.
#[inline(always)]
pub(crate) fn header_line(lines: &mut Lines<'_>, at: usize) -> Result<HeaderLine, Broken> {
    let bytes = lines.bytes();
    let colon = match lines.stop(at) {
        Some(stop) if bytes[stop] == b':' => stop,
        Some(stop) if stop == at && bytes[at..].starts_with(b"\r\n") => {
            return Ok(HeaderLine::End { body: at + 2 });
        }
        _ => match odd_line(bytes, at)? {
            OddLine::Field { colon } => colon,
            OddLine::Unreadable { next } => return Ok(HeaderLine::Unreadable { next }),
        },
    };
    let mut end = lines.end(colon)?;
    if is_fold(bytes, end) {
        end = folded_end(bytes, end)?;
    }
    let mut name_len = colon - at;
    let mut known = Known::find(&bytes[at..colon]);
    if known.is_none() {
        name_len = odd_name(&bytes[at..colon]);
        known = Known::find(&bytes[at..at + name_len]);
        if name_len == 0 {
            return Ok(HeaderLine::Unreadable { next: end + 2 });
        }
    }
    let value = grammar::trim(&bytes[colon + 1..end]);
    Ok(HeaderLine::Field(Field {
        known,
        is_owned: false,
        name_len: name_len as u16,
        start: at as u32,
        value: (colon + 1 + value.start) as u32,
        value_end: (colon + 1 + value.end) as u32,
        end: end as u32,
    }))
}

/// A line with a control character before its first colon, that is not empty.
enum OddLine {
    Field { colon: usize },
    Unreadable { next: usize },
}

#[cold]
#[inline(never)]
fn odd_line(bytes: &[u8], at: usize) -> Result<OddLine, Broken> {
    let mut lines = Lines::new(bytes);
    if let Some(colon) = colon(&mut lines, at) {
        return Ok(OddLine::Field { colon });
    }
    let end = lines.end(at)?;
    Ok(OddLine::Unreadable { next: folded_end(bytes, end)? + 2 })
}

/// The colon behind the name of the header line at `at`, if there is one before a line break.
fn colon(lines: &mut Lines<'_>, at: usize) -> Option<usize> {
    let mut from = at;
    loop {
        let stop = lines.stop(from)?;
        if lines.bytes()[stop] == b':' {
            return Some(stop);
        }
        if matches!(lines.bytes()[stop], b'\r' | b'\n' | 0) {
            return None;
        }
        from = stop + 1;
    }
}

/// Whether the line that ends at `end` goes on in the next (RFC 3261 §7.3.1).
#[inline(always)]
fn is_fold(bytes: &[u8], end: usize) -> bool {
    matches!(bytes.get(end + 2), Some(b' ' | b'\t'))
}

/// Where the last of the folded lines ends, the first of which ends at `end`.
#[cold]
#[inline(never)]
fn folded_end(bytes: &[u8], mut end: usize) -> Result<usize, Broken> {
    let mut lines = Lines::new(bytes);
    while is_fold(bytes, end) {
        end = lines.end(end + 2)?;
    }
    Ok(end)
}

/// The length of a name that is not known as it stands: without the spaces and tabs that may stand before the colon,
/// where a fold may not (RFC 3261 §25.1 `HCOLON`); 0 where it is no name.
#[inline(never)]
fn odd_name(mut name: &[u8]) -> usize {
    while let [rest @ .., b' ' | b'\t'] = name {
        name = rest;
    }
    let is_name = grammar::is_token(name) && name.len() <= usize::from(u16::MAX);
    if is_name { name.len() } else { 0 }
}

/// Where the start line begins: empty lines before it are passed over (RFC 3261 §7.5).
pub(crate) fn skip_empty_lines(bytes: &[u8]) -> usize {
    let mut at = 0;
    while bytes[at..].starts_with(b"\r\n") {
        at += 2;
    }
    at
}
