//! SDP offer and answer (RFC 3264, RFC 8866), as pure functions from bytes to bytes.
//!
//! An INVITE's body goes into [`answer`]; out come our SDP and what was [`Negotiated`], or a [`Refusal`] that knows
//! its SIP status. An INVITE without SDP gets [`offer`] in the 200, and the ACK's body goes into [`accept_answer`].
//! A re-INVITE runs the same functions and [`revise`] keeps the session's identity.
//!
//! One audio stream over plain RTP is taken; every other m-line is refused with port 0, in order. Not supported:
//! SRTP (RTP/SAVP), host names in `c=`, multicast, rtcp-mux, bundling.

mod compose;
mod read;
mod refusal;

pub use compose::revise;
pub use refusal::Refusal;

use std::net::{IpAddr, SocketAddr};

use crate::codec::CodecSpec;
use read::{Audio, Description};

/// Packet time that we ask for and send unless the peer wants another one, in milliseconds.
pub const DEFAULT_PTIME_MS: u8 = 20;
/// Shortest and longest packet time that we send, in milliseconds; in between multiples of 10 are used.
pub const PTIME_RANGE_MS: std::ops::RangeInclusive<u8> = 10..=60;
/// Payload type that we offer for telephone-event.
pub const TELEPHONE_EVENT_PAYLOAD_TYPE: u8 = 101;

/// What we can do on one call, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Codecs in preference order; the first one that an offer contains is taken.
    pub codecs: Vec<CodecSpec>,
    /// Whether keys go as telephone-events (RFC 4733).
    pub telephone_event: bool,
    /// Packet time in milliseconds when the peer names none; see [`PTIME_RANGE_MS`].
    pub ptime_ms: u8,
    /// Address where we receive, as the peer can reach it.
    pub address: IpAddr,
    /// RTP port where we receive.
    pub port: u16,
    /// Session id of our `o=` line, unique per call.
    pub session_id: u64,
}

impl Capabilities {
    /// Telephone-events on, packets of 20 ms.
    pub fn new(codecs: Vec<CodecSpec>, address: IpAddr, port: u16, session_id: u64) -> Self {
        Self { codecs, telephone_event: true, ptime_ms: DEFAULT_PTIME_MS, address, port, session_id }
    }
}

/// Which way media flows, seen from the side that says it (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// That side only sends.
    SendOnly,
    /// That side only receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// From the two halves.
    pub fn new(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// Whether that side sends.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether that side receives.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same flow seen from the other side (RFC 3264 §6.1).
    #[must_use]
    pub fn reversed(self) -> Self {
        Self::new(self.receives(), self.sends())
    }

    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

/// Keys as RTP events (RFC 4733), as negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// Payload type of events that we send.
    pub send_payload: u8,
    /// Payload type of events that we receive.
    pub receive_payload: u8,
    /// Clock rate in Hz, the audio's.
    pub clock_rate: u32,
}

/// The outcome of an offer and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The audio codec.
    pub codec: CodecSpec,
    /// Payload type of audio that we send.
    pub send_payload: u8,
    /// Payload type of audio that we receive.
    pub receive_payload: u8,
    /// Packet time that we send, in milliseconds.
    pub ptime_ms: u8,
    /// Keys as events; `None` when a side cannot.
    pub telephone_event: Option<TelephoneEvent>,
    /// Where the peer receives, by its SDP. Unspecified (0.0.0.0) on an old-style hold: do not send.
    pub remote: SocketAddr,
    /// Which way media flows, seen from us.
    pub direction: Direction,
}

/// Answers an offer: our SDP, and what both sides now use.
///
/// # Errors
/// A [`Refusal`] when the offer is malformed (400) or holds nothing that we can take (488).
pub fn answer(offer: &[u8], ours: &Capabilities) -> Result<(String, Negotiated), Refusal> {
    let description = Description::parse(offer)?;
    let (taken, negotiated) = description.first_acceptable(|audio| negotiate_offer(audio, ours))?;
    Ok((compose::answer(&description, taken, ours, &negotiated), negotiated))
}

/// Our offer: all codecs, in preference order.
pub fn offer(ours: &Capabilities) -> String {
    compose::offer(ours)
}

/// Reads the answer to our [`offer`].
///
/// # Errors
/// A [`Refusal`] when the answer is malformed, refuses our audio, or answers with something that was not offered.
pub fn accept_answer(ours: &Capabilities, answer: &[u8]) -> Result<Negotiated, Refusal> {
    let description = Description::parse(answer)?;
    description.first_acceptable(|audio| negotiate_answer(audio, ours)).map(|(_, negotiated)| negotiated)
}

/// Our preference decides; payload types are those of the offer in both directions (RFC 3264 §6.1).
fn negotiate_offer(audio: &Audio<'_>, ours: &Capabilities) -> Result<Negotiated, Refusal> {
    let remote = audio.remote(ours.address)?;
    let (codec, payload) = ours
        .codecs
        .iter()
        .find_map(|codec| audio.payload_type_of(codec).map(|payload| (*codec, payload)))
        .ok_or_else(|| no_common_codec(audio, ours))?;
    let events = ours.telephone_event.then(|| audio.telephone_event(codec.clock_rate)).flatten();
    Ok(Negotiated {
        codec,
        send_payload: payload,
        receive_payload: payload,
        ptime_ms: ptime(audio, ours),
        telephone_event: events.map(|payload| TelephoneEvent {
            send_payload: payload,
            receive_payload: payload,
            clock_rate: codec.clock_rate,
        }),
        remote,
        direction: audio.direction().reversed(),
    })
}

/// The peer's order decides, since it sends what it lists first; we receive under the numbers that we offered.
fn negotiate_answer(audio: &Audio<'_>, ours: &Capabilities) -> Result<Negotiated, Refusal> {
    let remote = audio.remote(ours.address)?;
    let (codec, payload) = audio
        .payload_types()
        .find_map(|payload| audio.codec_of(payload, &ours.codecs).map(|codec| (codec, payload)))
        .ok_or_else(|| no_common_codec(audio, ours))?;
    let events = ours.telephone_event.then(|| audio.telephone_event(codec.clock_rate)).flatten();
    Ok(Negotiated {
        codec,
        send_payload: payload,
        receive_payload: codec.payload_type,
        ptime_ms: ptime(audio, ours),
        telephone_event: events.map(|payload| TelephoneEvent {
            send_payload: payload,
            receive_payload: TELEPHONE_EVENT_PAYLOAD_TYPE,
            clock_rate: codec.clock_rate,
        }),
        remote,
        direction: audio.direction().reversed(),
    })
}

/// What the peer wants to receive, within `a=maxptime` and our range, in steps of 10 ms.
fn ptime(audio: &Audio<'_>, ours: &Capabilities) -> u8 {
    let (shortest, longest) = (*PTIME_RANGE_MS.start(), *PTIME_RANGE_MS.end());
    let wanted = audio.ptime().unwrap_or(ours.ptime_ms).min(audio.maxptime().unwrap_or(longest));
    let wanted = wanted.clamp(shortest, longest);
    wanted - wanted % 10
}

fn no_common_codec(audio: &Audio<'_>, ours: &Capabilities) -> Refusal {
    let ours = ours.codecs.iter().map(|c| c.name).collect::<Vec<_>>().join(", ");
    Refusal::Codec { theirs: audio.codec_names(), ours }
}
