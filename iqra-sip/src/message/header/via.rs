//! `Via`: one hop of the way back of a response (RFC 3261 §20.42, §18.2; `rport` of RFC 3581).

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use bytes::Bytes;

use super::{TypedHeader, Values};
use crate::message::grammar::{self, Cursor, Once, TOKEN, Why};
use crate::message::headers::Slice;
use crate::message::name::HeaderName;
use crate::message::params::Params;
use crate::message::text::Text;
use crate::message::uri::{self, Host};

/// What RFC 3261 §8.1.1.7 puts in front of every branch.
const COOKIE: &str = "z9hG4bK";

/// One Via value. The transport is kept as spelled, known to us or not.
#[derive(Clone, PartialEq, Eq)]
pub struct Via {
    transport: Text,
    host: Text,
    /// The sent-by port, where one was written.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params,
}

/// Where the parts of a Via stand in its value.
pub(crate) struct Parts {
    transport: Range<usize>,
    host: Range<usize>,
    port: Option<u16>,
    params: Range<usize>,
}

impl Via {
    /// A Via of our own: transport (`UDP`, `TCP`...), sent-by address, branch.
    #[must_use]
    pub fn new(transport: &str, sent_by: SocketAddr, branch: &str) -> Via {
        Via {
            transport: Text::from(transport),
            host: Text::from(Host::Ip(sent_by.ip()).to_string()),
            port: Some(sent_by.port()),
            params: Params::EMPTY.with("branch", Some(branch)),
        }
    }

    /// Reads one Via value.
    ///
    /// # Errors
    /// A phrase saying what is wrong with it.
    pub fn parse(text: impl Into<Text>) -> Result<Via, &'static str> {
        let text = text.into();
        let mut cursor = Cursor::new(text.as_bytes());
        let parts = scan(&mut cursor)?;
        if cursor.done() {
            Ok(Via::of(Slice::from(text.bytes()), parts))
        } else {
            Err("holds more than one value; send one")
        }
    }

    #[inline]
    fn of(slice: Slice<'_>, parts: Parts) -> Via {
        let transport = match &slice.bytes()[parts.transport.clone()] {
            b"UDP" => Text::from_static("UDP"),
            _ => slice.text(parts.transport),
        };
        let params = Params::checked(slice.text(parts.params));
        Via { transport, host: slice.text(parts.host), port: parts.port, params }
    }

    /// The transport as it was spelled, `UDP` for instance; compares without case.
    #[must_use]
    pub fn transport(&self) -> Cow<'_, str> {
        self.transport.to_str()
    }

    /// The sent-by host.
    #[must_use]
    pub fn host(&self) -> Host<'_> {
        Host::of(self.host_text())
    }

    /// The branch, which names the transaction (RFC 3261 §17.2.3).
    #[must_use]
    pub fn branch(&self) -> Option<Cow<'_, str>> {
        self.params.value("branch")
    }

    /// True when the branch begins with the cookie of RFC 3261 and goes on after it, so that it alone identifies
    /// the transaction. The bare cookie identifies nothing (RFC 4475 §3.2.1).
    #[must_use]
    pub fn has_unique_branch(&self) -> bool {
        self.branch().is_some_and(|branch| branch.strip_prefix(COOKIE).is_some_and(|rest| !rest.is_empty()))
    }

    /// The address that the next hop saw the request come from; IPv6 with or without brackets (RFC 5118 §4.5).
    #[must_use]
    pub fn received(&self) -> Option<IpAddr> {
        self.params.value("received")?.trim_matches(['[', ']']).parse().ok()
    }

    /// `rport` (RFC 3581): `Some(None)` asks for it, `Some(Some(port))` is the answer.
    #[must_use]
    pub fn rport(&self) -> Option<Option<u16>> {
        self.params.get("rport").map(|value| value.and_then(|port| port.parse().ok()))
    }

    /// Where responses go for a multicast request (RFC 3261 §18.2.2).
    #[must_use]
    pub fn maddr(&self) -> Option<Cow<'_, str>> {
        self.params.value("maddr")
    }

    /// How far a multicast response goes.
    #[must_use]
    pub fn ttl(&self) -> Option<u8> {
        self.params.value("ttl")?.parse().ok()
    }

    /// The same Via with a parameter set; `None` makes a flag.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: Option<&str>) -> Via {
        self.params.set(name, value);
        self
    }
}

impl Via {
    /// sent-by's host as it was spelled.
    pub(crate) fn host_text(&self) -> &str {
        std::str::from_utf8(self.host.as_bytes()).expect("a checked host is ASCII")
    }

    /// Appends the value: what `Display` prints, without a formatter.
    pub(crate) fn print(&self, out: &mut String) {
        for part in ["SIP/2.0/", &self.transport.to_str(), " ", self.host_text()] {
            out.push_str(part);
        }
        if let Some(port) = self.port {
            out.push(':');
            out.push_str(&port.to_string());
        }
        self.params.print(out);
    }
}

impl TypedHeader for Via {
    const NAME: HeaderName = HeaderName::VIA;

    fn read(values: &mut Values<'_>) -> Option<Result<Via, &'static str>> {
        Some(values.scan(scan)?.map(|(slice, parts)| Via::of(slice, parts)))
    }
}

/// The parameters of the topmost Via that say which transaction a message belongs to and where its answers go.
pub(crate) const SINGLE: [&str; 4] = ["branch", "received", "rport", "maddr"];

/// Checks a whole header line of Via values; the first value of the first line is held to more, as it is ours to read.
#[inline(never)]
pub(crate) fn check(value: &[u8], is_topmost: bool) -> Result<(), Why> {
    let mut cursor = Cursor::new(value);
    if is_topmost {
        scan_topmost(&mut cursor)?;
    } else {
        scan(&mut cursor)?;
    }
    while cursor.eat(b',') {
        scan(&mut cursor)?;
    }
    Ok(())
}

/// Reads one Via up to the end or a comma; white space may stand around every separator.
#[inline]
fn scan(cursor: &mut Cursor<'_>) -> Result<Parts, Why> {
    scan_noting(cursor, |_, _| Ok(()))
}

#[inline(always)]
fn scan_topmost(cursor: &mut Cursor<'_>) -> Result<Parts, Why> {
    let mut once = Once::default();
    scan_noting(cursor, |name, _| {
        let is_first = once.is_first(&SINGLE, name);
        if is_first { Ok(()) } else { Err("repeats branch, received, rport or maddr; send each once") }
    })
}

#[inline(always)] // A check alone does not pay for the parts.
fn scan_noting<'a>(
    cursor: &mut Cursor<'a>,
    note: impl FnMut(&'a [u8], bool) -> Result<(), Why>,
) -> Result<Parts, Why> {
    protocol(cursor)?;
    let (transport, host, port) = sent_by(cursor)?;
    let params = cursor.params_noting(false, note)?;
    Ok(Parts { transport, host, port, params })
}

/// The first Via of a malformed line, as far as an answer needs it: of any SIP version, with its parameters up to the
/// first that cannot be read. `None` where it says neither transport nor host.
pub(crate) fn way_back(line: &[u8]) -> Option<Via> {
    let mut cursor = Cursor::new(&line[..grammar::element_end(line)]);
    any_version(&mut cursor)?;
    let (transport, host, port) = sent_by(&mut cursor).ok()?;
    cursor.skip_space();
    let (start, mut end) = (cursor.at, cursor.at);
    while let Ok(Some(_)) = cursor.param() {
        end = cursor.at;
    }
    let line = Bytes::copy_from_slice(line);
    Some(Via::of(Slice::from(&line), Parts { transport, host, port, params: start..end }))
}

fn any_version(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.skip_space();
    let name = cursor.take(TOKEN);
    cursor.skip_space();
    let is_sip = cursor.bytes[name].eq_ignore_ascii_case(b"SIP") && cursor.eat(b'/');
    cursor.skip_space();
    let version = cursor.take(TOKEN);
    cursor.skip_space();
    let is_there = is_sip && !version.is_empty() && cursor.eat(b'/');
    cursor.skip_space();
    is_there.then_some(())
}

/// Transport, host and port.
type SentBy = (Range<usize>, Range<usize>, Option<u16>);

#[inline(always)]
fn sent_by(cursor: &mut Cursor<'_>) -> Result<SentBy, Why> {
    let transport = cursor.take(TOKEN);
    if transport.is_empty() || cursor.take(grammar::SPACE).is_empty() {
        return Err("does not begin with SIP/2.0/TRANSPORT and a space");
    }
    let start = cursor.at;
    let len = uri::scan_host(&cursor.bytes[start..]).map_err(uri::UriError::why)?;
    cursor.at += len;
    let port = port(cursor)?;
    Ok((transport, start..start + len, port))
}

fn protocol(cursor: &mut Cursor<'_>) -> Result<(), Why> {
    if cursor.bytes[cursor.at..].starts_with(b"SIP/2.0/") {
        cursor.at += 8;
        return Ok(());
    }
    for word in [&b"SIP"[..], b"2.0"] {
        cursor.skip_space();
        let found = cursor.take(TOKEN);
        cursor.skip_space();
        if !cursor.bytes[found].eq_ignore_ascii_case(word) || !cursor.eat(b'/') {
            return Err("does not begin with SIP/2.0/TRANSPORT and a space");
        }
    }
    cursor.skip_space();
    Ok(())
}

#[inline]
fn port(cursor: &mut Cursor<'_>) -> Result<Option<u16>, Why> {
    cursor.skip_space();
    if !cursor.eat(b':') {
        return Ok(None);
    }
    cursor.skip_space();
    let port = grammar::leading_number(&cursor.bytes[cursor.at..], u16::MAX.into());
    let (port, len) = port.map_err(|_| uri::UriError::Port.why())?;
    cursor.at += len;
    Ok(Some(port as u16))
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.print(&mut text);
        f.write_str(&text)
    }
}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
