//! Checks that a text is a URI and finds its parts, in one pass (RFC 3261 §25.1, RFC 3966 §3).

use std::net::Ipv6Addr;
use std::ops::Range;

use super::UriError;
use crate::message::grammar::{self, HOST, Once, URI, USER};

/// The longest URI that is read, in octets.
const MAX_BYTES: usize = u16::MAX as usize;

/// The longest scheme that is read, in octets.
const MAX_SCHEME: usize = 256;

/// Where the parts of a checked URI stand.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Parts {
    /// The colon after the scheme.
    pub(super) scheme: u16,
    pub(super) kind: Kind,
    /// Bounds of the user part, equal when there is none.
    pub(super) user: (u16, u16),
    /// Bounds of the host, brackets included.
    pub(super) host: (u16, u16),
    pub(super) port: Option<u16>,
    /// The first semicolon after the host, or where one would stand.
    pub(super) params: u16,
    /// The question mark, or the end.
    pub(super) headers: u16,
}

impl Parts {
    /// Of a `sip:` URI that begins at `start` and has no headers: all bounds are counted from where that is counted from.
    #[inline(always)]
    pub(crate) fn sip(
        start: usize,
        user: Range<usize>,
        host: Range<usize>,
        port: Option<u16>,
        params: Range<usize>,
    ) -> Parts {
        let from_start = |at: usize| (at - start) as u16;
        let user = if user.is_empty() { (0, 0) } else { (from_start(user.start), from_start(user.end)) };
        Parts {
            scheme: 3,
            kind: Kind::Sip,
            user,
            host: (from_start(host.start), from_start(host.end)),
            port,
            params: from_start(params.start),
            headers: from_start(params.end),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    Sip,
    Sips,
    Tel,
    #[default]
    Other,
}

/// Checks that all of `text` is a URI and says where its parts are.
pub(crate) fn scan(text: &[u8]) -> Result<Parts, UriError> {
    let (parts, end) = scan_prefix(text)?;
    if end == text.len() { Ok(parts) } else { Err(UriError::Character) }
}

/// Reads the URI that `text` begins with, up to a character that no URI holds, and says where its parts and its end
/// are.
#[inline(always)] // A check alone does not pay for the parts.
pub(crate) fn scan_prefix(text: &[u8]) -> Result<(Parts, usize), UriError> {
    let (scheme, kind) = if text.starts_with(b"sip:") { (3, Kind::Sip) } else { scan_scheme(text)? };
    let mut parts = Parts { scheme: scheme as u16, kind, ..Parts::default() };
    let end = match kind {
        Kind::Sip | Kind::Sips => scan_sip(text, &mut parts)?,
        Kind::Tel | Kind::Other => scan_opaque(text, &mut parts)?,
    };
    if end > MAX_BYTES { Err(UriError::TooLong) } else { Ok((parts, end)) }
}

fn scan_scheme(text: &[u8]) -> Result<(usize, Kind), UriError> {
    let colon = text.iter().take(MAX_SCHEME).position(|&b| b == b':').ok_or(UriError::Scheme)?;
    Ok((colon, kind(&text[..colon])?))
}

fn kind(scheme: &[u8]) -> Result<Kind, UriError> {
    if scheme.eq_ignore_ascii_case(b"sip") {
        return Ok(Kind::Sip);
    }
    if scheme.eq_ignore_ascii_case(b"sips") {
        return Ok(Kind::Sips);
    }
    let (first, rest) = scheme.split_first().ok_or(UriError::Scheme)?;
    let tail = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    if !first.is_ascii_alphabetic() || !rest.iter().all(tail) {
        return Err(UriError::Scheme);
    }
    Ok(if scheme.eq_ignore_ascii_case(b"tel") { Kind::Tel } else { Kind::Other })
}

/// `sip:[user[:password]@]host[:port][;params][?headers]`
#[inline(always)]
fn scan_sip(text: &[u8], parts: &mut Parts) -> Result<usize, UriError> {
    let mut at = scan_userinfo(text, usize::from(parts.scheme) + 1, parts)?;
    let host_end = at + scan_host(&text[at..])?;
    parts.host = (at as u16, host_end as u16);
    at = host_end;
    if text.get(at) == Some(&b':') {
        let port = grammar::leading_number(&text[at + 1..], u16::MAX.into());
        let (port, len) = port.map_err(|_| UriError::Port)?;
        parts.port = Some(port as u16);
        at += 1 + len;
    }
    match text.get(at) {
        Some(b';' | b'?') => scan_tail(text, at, parts),
        Some(&b) if grammar::is(b, URI) => {
            Err(if parts.port.is_some() { UriError::Port } else { UriError::Host })
        }
        _ => {
            (parts.params, parts.headers) = (at as u16, at as u16);
            Ok(at)
        }
    }
}

/// Where the host begins: at `start`, or behind the `@` of a user part, which is noted.
#[inline(always)]
fn scan_userinfo(text: &[u8], start: usize, parts: &mut Parts) -> Result<usize, UriError> {
    let user_end = run(text, start, USER)?;
    let mut end = user_end;
    while text.get(end) == Some(&b':') {
        end = run(text, end + 1, USER)?;
    }
    if text.get(end) != Some(&b'@') {
        return Ok(start);
    }
    if user_end == start {
        return Err(UriError::User);
    }
    parts.user = (start as u16, user_end as u16);
    Ok(end + 1)
}

/// The end of the host that `text` begins with.
#[inline]
pub(crate) fn scan_host(text: &[u8]) -> Result<usize, UriError> {
    if text.first() == Some(&b'[') {
        let close = memchr::memchr(b']', text).ok_or(UriError::Host)?;
        let inner = std::str::from_utf8(&text[1..close]).map_err(|_| UriError::Host)?;
        inner.parse::<Ipv6Addr>().map_err(|_| UriError::Host)?;
        return Ok(close + 1);
    }
    match grammar::run_len(text, HOST) {
        0 => Err(UriError::Host),
        end => Ok(end),
    }
}

fn scan_opaque(text: &[u8], parts: &mut Parts) -> Result<usize, UriError> {
    let start = usize::from(parts.scheme) + 1;
    let end = run(text, start, URI)?;
    if start == end {
        return Err(UriError::Scheme);
    }
    let body_end =
        text[start..end].iter().position(|b| matches!(b, b';' | b'?')).map_or(end, |at| start + at);
    if parts.kind == Kind::Tel {
        parts.user = (start as u16, body_end as u16);
    }
    scan_tail(text, body_end, parts)
}

/// The parameters and headers from `at` on.
fn scan_tail(text: &[u8], at: usize, parts: &mut Parts) -> Result<usize, UriError> {
    let end = run(text, at, URI)?;
    parts.params = at as u16;
    let headers = match &text[at..end] {
        [b';', one @ ..] if memchr::memchr2(b';', b'?', one).is_none() => end,
        tail => at + check_once(tail)?,
    };
    parts.headers = headers as u16;
    Ok(end)
}

/// Where the headers begin in what follows the host. The parameters that say where a request goes stand once
/// (RFC 3261 §19.1.1), however they are spelled.
#[inline(never)]
fn check_once(tail: &[u8]) -> Result<usize, UriError> {
    let end = memchr::memchr(b'?', tail).unwrap_or(tail.len());
    let mut once = Once::default();
    for param in tail[..end].split(|b| *b == b';') {
        let name = param.split(|b| *b == b'=').next().unwrap_or_default();
        let name = super::decode(super::str_of(name));
        if !once.is_first(&["transport", "maddr", "lr"], name.as_bytes()) {
            return Err(UriError::Repeated);
        }
    }
    Ok(end)
}

/// The end of the run of `class` characters and `%HH` escapes from `at` on.
#[inline]
fn run(text: &[u8], mut at: usize, class: u8) -> Result<usize, UriError> {
    loop {
        at = grammar::run(text, at, class);
        if text.get(at) != Some(&b'%') {
            return Ok(at);
        }
        if !text.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
            return Err(UriError::Escape);
        }
        at += 3;
    }
}
