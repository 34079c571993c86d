//! Reading the peer's SDP: what its audio lines say, leniently in form and strictly in meaning.
//!
//! Lines may end in LF, the last one may lack its end, bytes that are not UTF-8 are replaced. Payload types without
//! `a=rtpmap` have their static meaning (RFC 3551 §6).

use std::net::{IpAddr, SocketAddr};

use sdp_types::{Media, Session};

use super::{Direction, Refusal};
use crate::codec::CodecSpec;

/// Longest SDP that is read, in bytes.
pub(super) const MAX_LEN: usize = 16 * 1024;
/// Most m-lines in one SDP.
pub(super) const MAX_STREAMS: usize = 32;

/// A parsed session description.
pub(super) struct Description {
    pub(super) session: Session,
}

impl Description {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > MAX_LEN {
            return Err(Refusal::TooLarge("more than 16 KiB"));
        }
        let session =
            Session::parse(tidied(bytes).as_bytes()).map_err(|e| Refusal::Malformed(e.to_string()))?;
        if session.medias.len() > MAX_STREAMS {
            return Err(Refusal::TooLarge("more than 32 m-lines"));
        }
        Ok(Self { session })
    }

    /// The first audio stream that `take` accepts, with its index; else the first refusal.
    pub(super) fn first_acceptable<T>(
        &self,
        take: impl Fn(&Audio<'_>) -> Result<T, Refusal>,
    ) -> Result<(usize, T), Refusal> {
        let mut refusal = None;
        for (index, audio) in self.audio() {
            match audio.check_transport().and_then(|()| take(&audio)) {
                Ok(taken) => return Ok((index, taken)),
                Err(why) => refusal = refusal.or(Some(why)),
            }
        }
        Err(refusal.unwrap_or(Refusal::NoAudio))
    }

    /// The audio streams that are not switched off by port 0 (RFC 3264 §5.1).
    fn audio(&self) -> impl Iterator<Item = (usize, Audio<'_>)> {
        self.session
            .medias
            .iter()
            .enumerate()
            .filter(|(_, media)| media.media.eq_ignore_ascii_case("audio") && media.port != 0)
            .map(|(index, media)| (index, Audio { session: &self.session, media }))
    }
}

/// One audio stream of the peer.
pub(super) struct Audio<'a> {
    session: &'a Session,
    media: &'a Media,
}

impl Audio<'_> {
    /// AVPF is AVP with feedback that nobody has to send (RFC 4585 §3.1).
    fn check_transport(&self) -> Result<(), Refusal> {
        let proto = &self.media.proto;
        let plain = ["RTP/AVP", "RTP/AVPF"].iter().any(|p| p.eq_ignore_ascii_case(proto));
        if plain { Ok(()) } else { Err(Refusal::Transport(proto.clone())) }
    }

    /// Where the peer receives: the stream's `c=`, else the session's.
    pub(super) fn remote(&self, ours: IpAddr) -> Result<SocketAddr, Refusal> {
        let text =
            self.address().ok_or_else(|| Refusal::Malformed("no c= line for the audio stream".into()))?;
        let refused = |why| Refusal::Address { address: text.to_owned(), why };
        let address: IpAddr =
            text.parse().map_err(|_| refused("host names are not resolved; send an IP address"))?;
        if address.is_multicast() || text == "255.255.255.255" {
            return Err(refused("only unicast is supported"));
        }
        if !address.is_unspecified() && address.is_ipv4() != ours.is_ipv4() {
            return Err(refused("the other IP version is not available on this listener"));
        }
        Ok(SocketAddr::new(address, self.media.port))
    }

    /// The peer's direction. `c=0.0.0.0` is a hold of RFC 2543: it does not want to receive (RFC 3264 §8.4).
    pub(super) fn direction(&self) -> Direction {
        let said = self.said_direction();
        let held = self.address().and_then(|a| a.parse::<IpAddr>().ok()).is_some_and(|a| a.is_unspecified());
        Direction::new(said.sends(), said.receives() && !held)
    }

    /// The payload type under which the peer lists this codec, the first one if several.
    pub(super) fn payload_type_of(&self, codec: &CodecSpec) -> Option<u8> {
        self.payload_types().find(|&payload| self.means(payload, codec))
    }

    /// Which of these codecs a payload type means.
    pub(super) fn codec_of(&self, payload: u8, codecs: &[CodecSpec]) -> Option<CodecSpec> {
        codecs.iter().find(|codec| self.means(payload, codec)).copied()
    }

    /// The payload type of telephone-events at the audio's clock rate (RFC 4733 §2.1).
    pub(super) fn telephone_event(&self, clock_rate: u32) -> Option<u8> {
        self.payload_types().find(|&payload| {
            self.rtpmap(payload).is_some_and(|map| {
                map.name.eq_ignore_ascii_case("telephone-event") && map.clock_rate == clock_rate
            })
        })
    }

    /// The m-line's payload types in the peer's order.
    pub(super) fn payload_types(&self) -> impl Iterator<Item = u8> {
        self.media
            .fmt
            .split_ascii_whitespace()
            .filter_map(|f| f.parse().ok())
            .filter(|&payload| payload < 128)
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
            |payload| self.rtpmap(payload).map_or_else(|| payload.to_string(), |map| map.name.to_owned());
        self.payload_types().take(16).map(name).collect::<Vec<_>>().join(", ")
    }

    fn address(&self) -> Option<&str> {
        let connection = self.media.connections.first().or(self.session.connection.as_ref())?;
        connection.connection_address.split('/').next()
    }

    fn said_direction(&self) -> Direction {
        let of = |name: &str| {
            [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
                .into_iter()
                .find(|d| d.as_str().eq_ignore_ascii_case(name))
        };
        let media = self.media.attributes.iter().find_map(|a| of(&a.attribute));
        media.or_else(|| self.session.attributes.iter().find_map(|a| of(&a.attribute))).unwrap_or_default()
    }

    fn means(&self, payload: u8, codec: &CodecSpec) -> bool {
        match self.rtpmap(payload) {
            Some(map) => codec.matches(map.name, map.clock_rate, map.channels),
            None => payload < 96 && payload == codec.payload_type,
        }
    }

    fn rtpmap(&self, payload: u8) -> Option<RtpMap<'_>> {
        self.attribute_values("rtpmap")
            .find_map(|value| RtpMap::parse(value).filter(|map| map.payload == payload))
    }

    /// A fraction is rounded down; values of 0 or unreadable ones count as not given.
    fn milliseconds(&self, name: &'static str) -> Option<u8> {
        let value = self.attribute_values(name).next()?.trim();
        let whole: u32 = value.split('.').next()?.parse().ok()?;
        (whole > 0).then(|| u8::try_from(whole).unwrap_or(u8::MAX))
    }

    fn attribute_values(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.media
            .attributes
            .iter()
            .filter(move |a| a.attribute.eq_ignore_ascii_case(name))
            .filter_map(|a| a.value.as_deref())
    }
}

/// `a=rtpmap:<payload> <name>/<rate>[/<channels>]` (RFC 8866 §6.6).
struct RtpMap<'a> {
    payload: u8,
    name: &'a str,
    clock_rate: u32,
    channels: u8,
}

impl<'a> RtpMap<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let (payload, encoding) = value.trim().split_once(char::is_whitespace)?;
        let mut parts = encoding.trim().split('/');
        Some(Self {
            payload: payload.parse().ok()?,
            name: parts.next()?,
            clock_rate: parts.next()?.parse().ok()?,
            channels: parts.next().map_or(Some(1), |c| c.parse().ok())?,
        })
    }
}

/// Text with clean line ends: no blank lines, no trailing blanks or NULs.
fn tidied(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.split(['\n', '\r']).map(|line| line.trim_end_matches([' ', '\t', '\0']));
    let mut out = String::with_capacity(text.len() + 2);
    for line in lines.filter(|line| !line.is_empty()) {
        out.push_str(line);
        out.push_str("\r\n");
    }
    out
}
