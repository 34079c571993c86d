//! URIs of SIP messages: `sip:` and `sips:` in full (RFC 3261 §19.1), `tel:` (RFC 3966), any other scheme as an
//! opaque text. The text is checked once and kept as it came; its parts are looked up where they stand.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use bytes::Bytes;

use super::grammar::{self, DIGIT, HOST, URI, USER};

/// The longest URI that is read, in octets.
const MAX_BYTES: usize = u16::MAX as usize;

/// The longest scheme that is read, in octets.
const MAX_SCHEME: usize = 256;

/// A URI. Prints byte for byte as it came; equality is that of the text, [`Uri::equivalent`] is that of
/// RFC 3261 §19.1.4.
#[derive(Clone)]
pub struct Uri {
    text: Bytes,
    parts: Parts,
}

/// Where the parts of a checked URI stand.
#[derive(Clone, Copy, Default)]
pub(crate) struct Parts {
    /// The colon after the scheme.
    scheme: u16,
    kind: Kind,
    /// Bounds of the user part, equal when there is none.
    user: (u16, u16),
    /// Bounds of the host, brackets included.
    host: (u16, u16),
    port: Option<u16>,
    /// The first semicolon after the host, or where one would stand.
    params: u16,
    /// The question mark, or the end.
    headers: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    Sip,
    Sips,
    Tel,
    #[default]
    Other,
}

/// The scheme of a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme<'a> {
    /// `sip`
    Sip,
    /// `sips`
    Sips,
    /// `tel`
    Tel,
    /// Any other, as it was spelled.
    Other(&'a str),
}

/// The host of a SIP URI or a Via.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'a> {
    /// A domain name, as it was spelled.
    Name(&'a str),
    /// An IPv4 address, or an IPv6 address from its brackets.
    Ip(IpAddr),
}

/// Why a text is no URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.why())]
#[non_exhaustive]
pub enum UriError {
    /// No `scheme:` in front, or nothing behind it.
    Scheme,
    /// White space, a quote, an angle bracket or an octet outside ASCII.
    Character,
    /// A `%` without two hexadecimal digits.
    Escape,
    /// The user part is empty or holds what it may not.
    User,
    /// No host, a host with odd characters, or an IPv6 address without brackets or out of form.
    Host,
    /// A port that is no number from 0 to 65535.
    Port,
    /// Longer than 65,535 octets.
    TooLong,
}

impl UriError {
    pub(crate) fn why(self) -> &'static str {
        match self {
            UriError::Scheme => "has no URI scheme; write sip:user@host or tel:+number",
            UriError::Character => "holds a character that a URI must escape; write it as %HH",
            UriError::Escape => "has a % in its URI that begins no escape; write it as %25",
            UriError::User => "has a malformed user part; escape its special characters as %HH",
            UriError::Host => "has a malformed host; write a name, an IPv4 address or an [IPv6] address",
            UriError::Port => "has a malformed port; write 1 to 65535",
            UriError::TooLong => "has a URI that is too long; shorten it",
        }
    }
}

impl Uri {
    /// Reads a URI; the whole text must be one.
    ///
    /// # Errors
    /// Says which part of the text is not as RFC 3261 §25.1 or RFC 3966 has it.
    pub fn parse(text: impl Into<Bytes>) -> Result<Uri, UriError> {
        let text = text.into();
        Ok(Uri { parts: scan(&text)?, text })
    }

    /// Takes over text that [`scan`] gave these parts for.
    pub(crate) fn checked(text: Bytes, parts: Parts) -> Uri {
        Uri { text, parts }
    }

    /// A `sip:` URI of its parts. The user part is escaped; IPv6 addresses get their brackets. What can be no
    /// host at all becomes the name `invalid`, which never resolves (RFC 6761 §6.4).
    #[must_use]
    pub fn sip(user: Option<&str>, host: impl fmt::Display, port: Option<u16>) -> Uri {
        let mut text = String::from("sip:");
        if let Some(user) = user.filter(|user| !user.is_empty()) {
            escape(&mut text, user, |b| grammar::is(b, USER) && b != b'#');
            text.push('@');
        }
        text.push_str(&host_text(&host.to_string()));
        if let Some(port) = port {
            text.push_str(&format!(":{port}"));
        }
        Uri::parse(text).expect("escaped user, checked host and a number make a URI")
    }

    /// The same URI with a parameter set, in the place of one of the same name. The value is escaped; `None`
    /// makes a flag.
    #[must_use]
    pub fn with_param(self, name: &str, value: Option<&str>) -> Uri {
        let mut out = String::with_capacity(self.text.len() + name.len() + 24);
        out.push_str(self.slice(0, self.parts.params));
        for param in self.raw_params().filter(|param| !split_pair(param).0.eq_ignore_ascii_case(name)) {
            out.push(';');
            out.push_str(param);
        }
        out.push(';');
        escape(&mut out, name, is_param_char);
        if let Some(value) = value {
            out.push('=');
            escape(&mut out, value, is_param_char);
        }
        out.push_str(self.slice(self.parts.headers, self.text.len() as u16));
        Uri::parse(out).unwrap_or(self)
    }

    /// The text as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str_of(&self.text)
    }

    /// The scheme; schemes compare without case.
    #[must_use]
    pub fn scheme(&self) -> Scheme<'_> {
        match self.parts.kind {
            Kind::Sip => Scheme::Sip,
            Kind::Sips => Scheme::Sips,
            Kind::Tel => Scheme::Tel,
            Kind::Other => Scheme::Other(self.slice(0, self.parts.scheme)),
        }
    }

    /// The user part of a SIP URI without its password, or the number of a `tel:` URI; escapes are left in.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        let (start, end) = self.parts.user;
        (start != end).then(|| self.slice(start, end))
    }

    /// The user part with its escapes decoded.
    #[must_use]
    pub fn user_decoded(&self) -> Option<Cow<'_, str>> {
        self.user().map(decode)
    }

    /// The host of a SIP URI; other schemes have none.
    #[must_use]
    pub fn host(&self) -> Option<Host<'_>> {
        let (start, end) = self.parts.host;
        (start != end).then(|| Host::of(self.slice(start, end)))
    }

    /// The port, where one was written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.parts.port
    }

    /// A parameter by its name, in any case: `None` when it is not there, `Some(None)` when it is a flag.
    /// Escapes are left in the value.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<Option<&str>> {
        self.params()
            .find(|(found, _)| found.eq_ignore_ascii_case(name) || decode(found).eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value of a parameter with its escapes decoded; `None` when it is not there or a flag.
    #[must_use]
    pub fn param_decoded(&self, name: &str) -> Option<Cow<'_, str>> {
        self.param(name).flatten().map(decode)
    }

    /// All parameters as they stand, names and values with their escapes.
    pub fn params(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.raw_params().map(split_pair)
    }

    /// A URI header (`?name=value`) by its name, in any case, decoded.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.headers()
            .find(|(found, _)| found.eq_ignore_ascii_case(name) || decode(found).eq_ignore_ascii_case(name))
            .map(|(_, value)| decode(value))
    }

    /// All URI headers as they stand, names and values with their escapes.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = self.slice(self.parts.headers, self.text.len() as u16);
        text.trim_start_matches('?').split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = split_pair(pair);
            (name, value.unwrap_or(""))
        })
    }

    /// The `transport` parameter.
    #[must_use]
    pub fn transport(&self) -> Option<&str> {
        self.param("transport").flatten()
    }

    /// Where to send to without a look-up: the host if it is an IP address, with its port or `default_port`.
    #[must_use]
    pub fn socket_addr(&self, default_port: u16) -> Option<SocketAddr> {
        match self.host()? {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port().unwrap_or(default_port))),
            Host::Name(_) => None,
        }
    }

    fn raw_params(&self) -> impl Iterator<Item = &str> {
        self.slice(self.parts.params, self.parts.headers).split(';').filter(|param| !param.is_empty())
    }

    fn slice(&self, start: u16, end: u16) -> &str {
        str_of(&self.text[usize::from(start)..usize::from(end)])
    }
}

impl Host<'_> {
    pub(crate) fn of(text: &str) -> Host<'_> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse().map_or(Host::Name(text), Host::Ip)
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Host::Ip(IpAddr::V4(ip)) => ip.fmt(f),
        }
    }
}

fn str_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("a checked URI is ASCII")
}

fn split_pair(pair: &str) -> (&str, Option<&str>) {
    pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)))
}

fn is_param_char(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'-' | b'_'
                | b'.'
                | b'!'
                | b'~'
                | b'*'
                | b'\''
                | b'('
                | b')'
                | b'['
                | b']'
                | b'/'
                | b':'
                | b'&'
                | b'+'
                | b'$'
        )
}

fn host_text(host: &str) -> Cow<'_, str> {
    if host.parse::<Ipv6Addr>().is_ok() {
        return Cow::Owned(format!("[{host}]"));
    }
    match scan_host(host.as_bytes()) {
        Ok(end) if end == host.len() => Cow::Borrowed(host),
        _ => Cow::Borrowed("invalid"),
    }
}

fn escape(out: &mut String, text: &str, plain: impl Fn(u8) -> bool) {
    for b in text.bytes() {
        if plain(b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
}

/// `text` with its `%HH` escapes decoded; what they spell that is not UTF-8 shows as U+FFFD.
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&b, tail)) = rest.split_first() {
        match (b, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(nibble(*high) << 4 | nibble(*low));
                rest = after;
            }
            _ => {
                out.push(b);
                rest = tail;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn nibble(b: u8) -> u8 {
    char::from(b).to_digit(16).map_or(0, |digit| digit as u8)
}

/// Checks that all of `text` is a URI and says where its parts are.
pub(crate) fn scan(text: &[u8]) -> Result<Parts, UriError> {
    let (parts, end) = scan_prefix(text)?;
    if end == text.len() { Ok(parts) } else { Err(UriError::Character) }
}

/// Reads the URI that `text` begins with, up to a character that no URI holds, and says where its parts and its end
/// are.
#[inline]
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
#[inline]
fn scan_sip(text: &[u8], parts: &mut Parts) -> Result<usize, UriError> {
    let mut at = scan_userinfo(text, usize::from(parts.scheme) + 1, parts)?;
    let host_end = at + scan_host(&text[at..])?;
    parts.host = (at as u16, host_end as u16);
    at = host_end;
    if text.get(at) == Some(&b':') {
        let digits = text[at + 1..].iter().take_while(|&&b| grammar::is(b, DIGIT)).count();
        let port = grammar::number(&text[at + 1..at + 1 + digits], u16::MAX.into());
        parts.port = Some(port.map_err(|_| UriError::Port)? as u16);
        at += 1 + digits;
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
#[inline]
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
    match text.iter().take_while(|&&b| grammar::is(b, HOST)).count() {
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
    parts.headers = text[at..end].iter().position(|&b| b == b'?').map_or(end, |found| at + found) as u16;
    Ok(end)
}

/// The end of the run of `class` characters and `%HH` escapes from `at` on.
#[inline]
fn run(text: &[u8], mut at: usize, class: u8) -> Result<usize, UriError> {
    while let Some(&b) = text.get(at) {
        if grammar::is(b, class) {
            at += 1;
        } else if b == b'%' {
            let escaped = text.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
            if !escaped {
                return Err(UriError::Escape);
            }
            at += 3;
        } else {
            break;
        }
    }
    Ok(at)
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Uri, UriError> {
        Uri::parse(text.to_owned())
    }
}

impl PartialEq for Uri {
    fn eq(&self, other: &Uri) -> bool {
        self.text == other.text
    }
}

impl Eq for Uri {}

impl std::hash::Hash for Uri {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Hides the user part: it is a phone number. Parameters may be tokens, so they are hidden too.
impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.user().is_some() { "***@" } else { "" };
        let (start, end) = self.parts.host;
        write!(f, "{}:{user}{}", self.slice(0, self.parts.scheme), self.slice(start, end))
    }
}
