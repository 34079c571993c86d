//! URIs of SIP messages: `sip:` and `sips:` in full (RFC 3261 §19.1), `tel:` (RFC 3966), any other scheme as an
//! opaque text. The text is checked once and kept as it came; its parts are looked up where they stand.

mod equivalent;
mod scan;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use bytes::Bytes;

use super::grammar::{self, USER};
use scan::Kind;
pub(crate) use scan::{Parts, scan, scan_host, scan_prefix};

/// A URI. Prints byte for byte as it came; equality is that of the text, [`Uri::equivalent`] is that of
/// RFC 3261 §19.1.4.
#[derive(Clone)]
pub struct Uri {
    text: Bytes,
    parts: Parts,
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
    /// `transport`, `maddr` or `lr` more than once, in which elements on the way could differ.
    Repeated,
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
            UriError::Port => "has a malformed port; write 0 to 65535",
            UriError::Repeated => "has a URI that repeats transport, maddr or lr; write each once",
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

    /// The same URI in a buffer of its own, for what outlives the message it came in: a slice keeps all of it.
    #[must_use]
    pub fn detached(&self) -> Uri {
        Uri { text: Bytes::copy_from_slice(&self.text), parts: self.parts }
    }

    /// A `sip:` URI of its parts. The user part is escaped; IPv6 addresses get their brackets. What can be no
    /// host at all becomes the name `invalid`, which never resolves (RFC 6761 §6.4).
    #[must_use]
    pub fn sip(user: Option<&str>, host: impl fmt::Display, port: Option<u16>) -> Uri {
        let mut text = String::from("sip:");
        if let Some(user) = user.filter(|user| !user.is_empty()) {
            escape(&mut text, user, is_user_char);
            text.push('@');
        }
        text.push_str(&host_text(&host.to_string()));
        if let Some(port) = port {
            text.push_str(&format!(":{port}"));
        }
        Uri::parse(text).expect("escaped user, checked host and a number make a URI")
    }

    /// The same URI for another user, or none; a password goes with the user it belonged to. The user part is escaped.
    /// A URI of a scheme without users stays as it is.
    #[must_use]
    pub fn with_user(self, user: Option<&str>) -> Uri {
        if self.parts.host.0 == self.parts.host.1 {
            return self;
        }
        let user = user.unwrap_or_default();
        let mut out = String::with_capacity(self.text.len() + user.len() + 8);
        out.push_str(self.slice(0, self.parts.scheme));
        out.push(':');
        if !user.is_empty() {
            escape(&mut out, user, is_user_char);
            out.push('@');
        }
        out.push_str(self.slice(self.parts.host.0, self.text.len() as u16));
        Uri::parse(out).unwrap_or(self)
    }

    /// The same URI without its headers (`?name=value`).
    #[must_use]
    pub fn without_headers(&self) -> Uri {
        Uri { text: self.text.slice(..usize::from(self.parts.headers)), parts: self.parts }
    }

    /// The same URI without what may not stand in a Request-URI: headers and `method` (RFC 3261 §19.1.1, table 1).
    #[must_use]
    pub fn for_request_line(&self) -> Uri {
        self.without_headers().without_param("method")
    }

    /// The same URI without the parameter of this name, however it is spelled.
    #[must_use]
    pub fn without_param(self, name: &str) -> Uri {
        if self.param(name).is_none() {
            return self;
        }
        let mut out = self.text_without(name);
        out.push_str(self.slice(self.parts.headers, self.text.len() as u16));
        Uri::parse(out).unwrap_or(self)
    }

    /// The text up to the headers, without a parameter.
    fn text_without(&self, name: &str) -> String {
        let mut out = String::with_capacity(self.text.len() + name.len() + 24);
        out.push_str(self.slice(0, self.parts.params));
        for param in self.raw_params().filter(|param| !is_named(split_pair(param).0, name)) {
            out.push(';');
            out.push_str(param);
        }
        out
    }

    /// The same URI with a parameter set, in the place of one of the same name. The value is escaped; `None`
    /// makes a flag.
    #[must_use]
    pub fn with_param(self, name: &str, value: Option<&str>) -> Uri {
        let mut out = self.text_without(name);
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
        self.params().find(|(found, _)| is_named(found, name)).map(|(_, value)| value)
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
        self.headers().find(|(found, _)| is_named(found, name)).map(|(_, value)| decode(value))
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

    /// The host that a request to this URI is sent to: `maddr` where it has one, else its host (RFC 3261 §19.1.1; the
    /// TARGET of RFC 3263 §4). Who judges where a request may go has to judge this one. A `maddr` without a value counts
    /// as none.
    #[must_use]
    pub fn target_host(&self) -> Option<Host<'_>> {
        let host = self.host()?;
        Some(self.param("maddr").flatten().filter(|maddr| !maddr.is_empty()).map_or(host, Host::of))
    }

    /// Where to send to without a look-up: [`target_host`](Self::target_host) if it is an IP address, with the port or
    /// `default_port`.
    #[must_use]
    pub fn socket_addr(&self, default_port: u16) -> Option<SocketAddr> {
        match self.target_host()? {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port().unwrap_or(default_port))),
            Host::Name(_) => None,
        }
    }

    /// User and password with the `@`, empty when there are none.
    fn userinfo(&self) -> &str {
        let (user, host) = (self.parts.user, self.parts.host);
        if user.0 == user.1 { "" } else { self.slice(user.0, host.0) }
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

/// In any case and with or without escapes (RFC 3261 §19.1.4).
fn is_named(found: &str, name: &str) -> bool {
    found.eq_ignore_ascii_case(name) || decode(found).eq_ignore_ascii_case(name)
}

fn is_user_char(b: u8) -> bool {
    grammar::is(b, USER) && b != b'#'
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
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| !plain(b)) {
        out.push_str(&rest[..at]);
        // A character outside ASCII is escaped octet by octet.
        let special = rest[at..].chars().next().map_or(1, char::len_utf8);
        rest[at..at + special].bytes().for_each(|b| out.push_str(&format!("%{b:02X}")));
        rest = &rest[at + special..];
    }
    out.push_str(rest);
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
        let user = match self.scheme() {
            Scheme::Tel => "***",
            _ if self.user().is_some() => "***@",
            _ => "",
        };
        let (start, end) = self.parts.host;
        write!(f, "{}:{user}{}", self.slice(0, self.parts.scheme), self.slice(start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_uri_escapes_what_would_be_read_otherwise() {
        let uri = Uri::sip(Some("a b@c:d#1"), "2001:db8::1".parse::<IpAddr>().unwrap(), Some(5070));
        assert_eq!(uri.to_string(), "sip:a%20b%40c%3Ad%231@[2001:db8::1]:5070");
        assert_eq!(uri.user_decoded().unwrap(), "a b@c:d#1");
        assert_eq!(uri.socket_addr(5060), Some("[2001:db8::1]:5070".parse().unwrap()));
        assert_eq!(Uri::sip(None, "no host>", None).to_string(), "sip:invalid");
    }

    #[test]
    fn another_user_takes_the_place_of_the_old_with_its_password() {
        let uri = Uri::from_str("sips:old:secret@[2001:db8::1]:5070;lr?a=b").unwrap();
        assert_eq!(uri.clone().with_user(Some("né")).as_str(), "sips:n%C3%A9@[2001:db8::1]:5070;lr?a=b");
        assert_eq!(uri.with_user(None).as_str(), "sips:[2001:db8::1]:5070;lr?a=b");
        let tel = Uri::from_str("tel:+15550100").unwrap();
        assert_eq!(tel.clone().with_user(Some("a")), tel);
    }

    #[test]
    fn parameters_are_found_in_any_case_and_set_in_place_of_the_old() {
        let uri = Uri::from_str("sip:a@h.example;x-id=1;lr?Subject=y").unwrap();
        assert_eq!(uri.param("X-Id"), Some(Some("1")));
        assert_eq!(uri.param("LR"), Some(None));
        let uri = uri.with_param("X-ID", Some("a;b"));
        assert_eq!(uri.to_string(), "sip:a@h.example;lr;X-ID=a%3Bb?Subject=y");
        assert_eq!(uri.param_decoded("x-id").unwrap(), "a;b");
        assert_eq!(uri.header("subject").unwrap(), "y");
        let uri = Uri::from_str("sip:a?b;m=1@h.example;lr;%4D=2;x?m=3").unwrap();
        assert_eq!(uri.clone().without_param("m").as_str(), "sip:a?b;m=1@h.example;lr;x?m=3");
        assert_eq!(uri.without_headers().as_str(), "sip:a?b;m=1@h.example;lr;%4D=2;x");
    }

    #[test]
    fn a_request_is_sent_to_maddr_and_by_the_port_of_the_host() {
        for (uri, host, addr) in [
            ("sip:a@192.0.2.1:5070;maddr=192.0.2.9", "192.0.2.9", Some("192.0.2.9:5070")),
            ("sip:a@name.example;MADDR=[2001:db8::1]", "[2001:db8::1]", Some("[2001:db8::1]:5060")),
            ("sip:a@192.0.2.1;maddr=other.example", "other.example", None),
            ("sip:a@192.0.2.1;maddr", "192.0.2.1", Some("192.0.2.1:5060")),
            ("sip:a@192.0.2.1;maddr=", "192.0.2.1", Some("192.0.2.1:5060")),
        ] {
            let uri = Uri::from_str(uri).unwrap();
            assert_eq!(uri.target_host().unwrap().to_string(), host, "{uri}");
            assert_eq!(uri.socket_addr(5060), addr.map(|addr| addr.parse().unwrap()), "{uri}");
        }
        assert_eq!(Uri::from_str("tel:+15550100;maddr=192.0.2.9").unwrap().target_host(), None);
    }

    #[test]
    fn a_tel_uri_has_a_number_for_its_user_and_no_host() {
        let uri = Uri::from_str("tel:+1-555-0100;phone-context=example.org").unwrap();
        assert_eq!((uri.user(), uri.host()), (Some("+1-555-0100"), None));
        assert_eq!(uri.param("phone-context"), Some(Some("example.org")));
        assert_eq!(format!("{uri:?}"), "tel:***");
    }
}
