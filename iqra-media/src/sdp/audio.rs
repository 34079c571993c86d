//! One audio m-line of an SDP and what belongs to it: what it says, strictly in meaning.
//!
//! Attributes that a stream lacks count from the session where their RFC says so. Payload types without `a=rtpmap`
//! have their static meaning.

use std::net::{IpAddr, SocketAddr};

use sdp_types::{Attribute, Media, Session};

use super::crypto::{Crypto, Fault};
use super::dtls::Setup;
use super::format::{Encoding, event_codes, parameters_fit};
use super::negotiated::above;
use super::{Direction, Fingerprint, Profile, Refusal, RemoteIce};
use crate::codec::CodecSpec;

/// One audio stream that is not switched off.
#[derive(Clone, Copy)]
pub(super) struct Audio<'a> {
    pub(super) session: &'a Session,
    pub(super) media: &'a Media,
}

/// Transport: where, over what.
impl<'a> Audio<'a> {
    pub(super) fn proto(&self) -> &'a str {
        &self.media.proto
    }

    pub(super) fn profile(&self) -> Option<Profile> {
        Profile::parse(&self.media.proto)
    }

    /// Where the peer receives: the stream's `c=`, else the session's. With ICE it is a first guess, and no more.
    pub(super) fn remote(&self, ours: IpAddr, ice: bool) -> Result<SocketAddr, Refusal> {
        let text =
            self.address().ok_or_else(|| Refusal::Malformed("no c= line for the audio stream".into()))?;
        let refused = |why| Refusal::Address { address: text.to_owned(), why };
        let address: IpAddr =
            text.parse().map_err(|_| refused("host names are not resolved; send an IP address"))?;
        if address.is_multicast() || text == "255.255.255.255" {
            return Err(refused("only unicast is supported"));
        }
        if !ice && !address.is_unspecified() && address.is_ipv4() != ours.is_ipv4() {
            return Err(refused("the other IP version is not available on this listener"));
        }
        Ok(SocketAddr::new(address, self.media.port))
    }

    /// Where the peer receives RTCP: `a=rtcp:<port> [IN IP4 <address>]` (RFC 3605), else the port above.
    pub(super) fn remote_rtcp(&self, rtp: SocketAddr) -> SocketAddr {
        let said = || {
            let mut words = self.value("rtcp")?.split_ascii_whitespace();
            let port = words.next()?.parse().ok()?;
            let address = words.nth(2).map_or(Some(rtp.ip()), |address| address.parse().ok())?;
            Some(SocketAddr::new(address, port))
        };
        said().unwrap_or_else(|| above(rtp))
    }

    /// Whether the peer can receive RTCP on the port of RTP, and whether nowhere else (RFC 5761, RFC 8858).
    pub(super) fn rtcp_mux(&self) -> (bool, bool) {
        let only = self.has("rtcp-mux-only");
        (only || self.has("rtcp-mux"), only)
    }

    /// The stream's direction. `c=0.0.0.0` is a hold of RFC 2543: it does not want to receive (RFC 3264 §8.4), unless
    /// ICE is to find the address (RFC 8839 §4.3.1).
    pub(super) fn direction(&self, ice: bool) -> Direction {
        let said = self.said_direction();
        let held = self.address().and_then(|a| a.parse::<IpAddr>().ok()).is_some_and(|a| a.is_unspecified());
        Direction::new(said.sends(), said.receives() && (ice || !held))
    }

    fn address(&self) -> Option<&'a str> {
        let connection = self.media.connections.first().or(self.session.connection.as_ref())?;
        connection.connection_address.split('/').next()
    }

    fn said_direction(&self) -> Direction {
        let of = |name: &str| Direction::ALL.into_iter().find(|d| d.as_str().eq_ignore_ascii_case(name));
        let first = |attributes: &[Attribute]| attributes.iter().find_map(|a| of(&a.attribute));
        first(&self.media.attributes).or_else(|| first(&self.session.attributes)).unwrap_or_default()
    }
}

/// Formats.
impl<'a> Audio<'a> {
    /// The m-line's payload types in the peer's order.
    pub(super) fn payload_types(&self) -> impl Iterator<Item = u8> + use<'a> {
        let formats = self.media.fmt.split_ascii_whitespace().filter_map(|f| f.parse().ok());
        formats.filter(|&payload| payload < 128)
    }

    /// What a payload type means here.
    pub(super) fn encoding(&self, payload: u8) -> Option<Encoding<'a>> {
        let mapped = self.values("rtpmap").filter_map(Encoding::parse).find(|(number, _)| *number == payload);
        mapped.map(|(_, encoding)| encoding).or_else(|| Encoding::of_static(payload))
    }

    /// The payload types and their meanings, without those that have none.
    pub(super) fn encodings(&self) -> impl Iterator<Item = (u8, Encoding<'a>)> {
        self.payload_types().filter_map(|payload| Some((payload, self.encoding(payload)?)))
    }

    /// The payload type under which the peer lists this codec, the first one if several.
    pub(super) fn payload_type_of(&self, codec: &CodecSpec) -> Option<u8> {
        self.payload_types().find(|&payload| self.means(payload, codec))
    }

    /// Which of these codecs a payload type means.
    pub(super) fn codec_of(&self, payload: u8, codecs: &[CodecSpec]) -> Option<CodecSpec> {
        codecs.iter().find(|codec| self.means(payload, codec)).copied()
    }

    /// The payload type of telephone-events, their clock rate and the keys among them. The rate is the audio's (RFC
    /// 4733 §2.1), else 8000: many list events at 8 kHz alone beside Opus.
    pub(super) fn telephone_event(&self, clock_rate: u32) -> Option<(u8, u32, u16)> {
        let at = |rate: u32| self.encodings().find(|(_, e)| e.is_events() && e.clock_rate == rate);
        let (payload, encoding) = at(clock_rate).or_else(|| at(8000))?;
        Some((payload, encoding.clock_rate, event_codes(self.parameters(payload))))
    }

    /// The payload type of comfort noise.
    pub(super) fn comfort_noise(&self) -> Option<u8> {
        self.encodings().find_map(|(payload, encoding)| encoding.is_noise().then_some(payload))
    }

    /// The `a=fmtp` text of a payload type, empty for none.
    pub(super) fn parameters(&self, payload: u8) -> &'a str {
        let of = |value: &'a str| {
            let (number, text) = value.trim().split_once(char::is_whitespace)?;
            (number.parse() == Ok(payload)).then(|| text.trim())
        };
        self.values("fmtp").find_map(of).unwrap_or_default()
    }

    /// `a=ptime` in milliseconds: how much per packet the peer would like to receive.
    pub(super) fn ptime(&self) -> Option<u8> {
        self.milliseconds("ptime")
    }

    /// `a=maxptime` in milliseconds.
    pub(super) fn maxptime(&self) -> Option<u8> {
        self.milliseconds("maxptime")
    }

    /// What the peer lists, for a refusal's text.
    pub(super) fn codec_names(&self) -> String {
        let name =
            |payload| self.encoding(payload).map_or_else(|| payload.to_string(), |e| e.name.to_owned());
        self.payload_types().take(16).map(name).collect::<Vec<_>>().join(", ")
    }

    fn means(&self, payload: u8, codec: &CodecSpec) -> bool {
        let is_codec = match self.encoding(payload) {
            Some(encoding) => encoding.is(codec),
            None => payload < 96 && payload == codec.payload_type,
        };
        is_codec && parameters_fit(codec, self.parameters(payload))
    }

    /// A fraction is rounded down; values of 0 or unreadable ones count as not given.
    fn milliseconds(&self, name: &'static str) -> Option<u8> {
        let whole: u32 = self.value(name)?.trim().split('.').next()?.parse().ok()?;
        (whole > 0).then(|| u8::try_from(whole).unwrap_or(u8::MAX))
    }
}

/// Keys, certificates, ICE, grouping.
impl<'a> Audio<'a> {
    /// Every `a=crypto`, in order.
    pub(super) fn crypto(&self) -> impl Iterator<Item = Result<Crypto, Fault>> + use<'a> {
        self.values("crypto").map(Crypto::parse)
    }

    /// The first SHA-256 fingerprint; `Some(None)` where there are others alone.
    pub(super) fn fingerprint(&self) -> Option<Option<Fingerprint>> {
        let stream = values_of(&self.media.attributes, "fingerprint");
        let mut all = stream.chain(values_of(&self.session.attributes, "fingerprint")).peekable();
        all.peek()?;
        Some(all.find_map(Fingerprint::parse))
    }

    /// `a=setup`, or what its absence means: active in an offer, passive in an answer (RFC 4145 §4.1).
    pub(super) fn setup(&self, absent: Setup) -> Setup {
        self.inherited("setup").and_then(Setup::parse).unwrap_or(absent)
    }

    pub(super) fn tls_id(&self) -> Option<String> {
        self.inherited("tls-id").map(|id| id.chars().take(255).collect())
    }

    /// The peer's ICE side, if it has one that can be used.
    pub(super) fn ice(&self) -> Option<RemoteIce> {
        let (ufrag, pwd) = (self.inherited("ice-ufrag")?, self.inherited("ice-pwd")?);
        let lite = self.session.attributes.iter().any(|a| a.attribute.eq_ignore_ascii_case("ice-lite"));
        RemoteIce::new(ufrag, pwd, lite, self.inherited("ice-options"), self.values("candidate"))
    }

    /// `a=mid` (RFC 5888 §4).
    pub(super) fn mid(&self) -> Option<&'a str> {
        self.value("mid").map(str::trim)
    }

    /// Whether this stream is in a BUNDLE group (RFC 8843).
    pub(super) fn is_bundled(&self) -> bool {
        let Some(mid) = self.mid() else { return false };
        let mut groups = values_of(&self.session.attributes, "group");
        groups.any(|group| {
            let mut words = group.split_ascii_whitespace();
            words.next().is_some_and(|kind| kind.eq_ignore_ascii_case("BUNDLE")) && words.any(|m| m == mid)
        })
    }

    fn has(&self, name: &'static str) -> bool {
        self.media.attributes.iter().any(|a| a.attribute.eq_ignore_ascii_case(name))
    }

    fn value(&self, name: &'static str) -> Option<&'a str> {
        self.values(name).next()
    }

    fn inherited(&self, name: &'static str) -> Option<&'a str> {
        self.value(name).or_else(|| values_of(&self.session.attributes, name).next())
    }

    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a str> + use<'a> {
        values_of(&self.media.attributes, name)
    }
}

fn values_of<'a>(attributes: &'a [Attribute], name: &'static str) -> impl Iterator<Item = &'a str> + use<'a> {
    attributes
        .iter()
        .filter(move |a| a.attribute.eq_ignore_ascii_case(name))
        .filter_map(|a| a.value.as_deref())
}
