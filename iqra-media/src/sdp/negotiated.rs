//! What an offer and its answer come to, and what changed when they are made anew.

use std::net::SocketAddr;

use super::{DEFAULT_PTIME_MS, IceLite, RemoteIce, Security};
use crate::codec::CodecSpec;

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
    pub(super) const ALL: [Self; 4] = [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive];

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

    /// What is left of this when both have to agree.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::new(self.sends() && other.sends(), self.receives() && other.receives())
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
    /// Clock rate in Hz: the audio's; 8000 where the peer has events at that rate alone.
    pub clock_rate: u32,
    /// The keys that the peer takes, a bit per event code: 0-9, then `*`, `#`, A-D (RFC 4733 §3.2).
    pub accepted: u16,
}

impl TelephoneEvent {
    /// All sixteen keys, under these payload types, at this clock rate.
    pub fn new(send_payload: u8, receive_payload: u8, clock_rate: u32) -> Self {
        Self { send_payload, receive_payload, clock_rate, accepted: u16::MAX }
    }
}

/// Comfort noise (RFC 3389), as negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComfortNoise {
    /// Payload type of noise that we send.
    pub send_payload: u8,
    /// Payload type of noise that we receive.
    pub receive_payload: u8,
}

/// A codec beside the one in use, which the peer may change to without a word since its answer lists it (RFC 3264 §7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The codec.
    pub codec: CodecSpec,
    /// Payload type of audio that we receive.
    pub receive_payload: u8,
    /// The peer's `a=fmtp` text for the codec.
    pub remote_fmtp: String,
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
    /// The peer's `a=fmtp` text for the codec, without the payload type: how it wants to be sent to. Empty where it
    /// has none.
    pub remote_fmtp: String,
    /// What else the peer may send, in its order: the other codecs of its answer. Empty where we answered, since our
    /// answers name one codec.
    pub alternatives: Vec<Alternative>,
    /// Packet time that we send, in milliseconds.
    pub ptime_ms: u8,
    /// Keys as events; `None` when a side cannot.
    pub telephone_event: Option<TelephoneEvent>,
    /// Comfort noise; `None` when a side has none.
    pub comfort_noise: Option<ComfortNoise>,
    /// Where the peer receives, by its SDP. Unspecified (0.0.0.0) on an old-style hold: do not send; or with
    /// [`ice`](Self::ice), whose checks will find the address.
    pub remote: SocketAddr,
    /// Where the peer receives RTCP: [`remote`](Self::remote) itself when [`rtcp_mux`](Self::rtcp_mux) is set.
    pub remote_rtcp: SocketAddr,
    /// Whether RTP and RTCP share a port, both ways (RFC 5761).
    pub rtcp_mux: bool,
    /// Which way media flows, seen from us.
    pub direction: Direction,
    /// How the audio is protected.
    pub security: Security,
    /// The peer's ICE side; `None` when a side has none.
    pub ice: Option<RemoteIce>,
    /// Our ICE side, as our SDP names it; `None` when a side has none.
    pub local_ice: Option<IceLite>,
}

impl Negotiated {
    /// Plain RTP both ways in packets of 20 ms, with the codec's own payload type and without telephone-events.
    pub fn new(codec: CodecSpec, remote: SocketAddr) -> Self {
        Self {
            codec,
            send_payload: codec.payload_type,
            receive_payload: codec.payload_type,
            remote_fmtp: String::new(),
            alternatives: Vec::new(),
            ptime_ms: DEFAULT_PTIME_MS,
            telephone_event: None,
            comfort_noise: None,
            remote,
            remote_rtcp: above(remote),
            rtcp_mux: false,
            direction: Direction::SendRecv,
            security: Security::Plain,
            ice: None,
            local_ice: None,
        }
    }
}

/// The port above, where RTCP goes unless said otherwise (RFC 3550 §11); above the last one is none, so 0.
pub(super) fn above(rtp: SocketAddr) -> SocketAddr {
    SocketAddr::new(rtp.ip(), rtp.port().checked_add(1).unwrap_or(0))
}

/// What a new agreement changes of the one before, for the media session to act on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Where we send RTP or RTCP, or whether they share a port.
    pub address: bool,
    /// The codec, its payload types, its parameters, its alternatives, or comfort noise.
    pub codec: bool,
    /// Telephone-events.
    pub events: bool,
    /// Who sends: hold and resume.
    pub direction: bool,
    /// Keys, certificate or role of SRTP.
    pub keys: bool,
    /// Packet time.
    pub ptime: bool,
    /// ICE credentials (a restart) or candidates.
    pub ice: bool,
}

impl Change {
    /// What differs.
    pub fn between(before: &Negotiated, after: &Negotiated) -> Self {
        let codec = |n: &Negotiated| (n.codec, n.send_payload, n.receive_payload, n.comfort_noise);
        Self {
            address: (before.remote, before.remote_rtcp, before.rtcp_mux)
                != (after.remote, after.remote_rtcp, after.rtcp_mux),
            codec: codec(before) != codec(after)
                || (&before.remote_fmtp, &before.alternatives) != (&after.remote_fmtp, &after.alternatives),
            events: before.telephone_event != after.telephone_event,
            direction: before.direction != after.direction,
            keys: before.security != after.security,
            ptime: before.ptime_ms != after.ptime_ms,
            ice: (&before.ice, &before.local_ice) != (&after.ice, &after.local_ice),
        }
    }

    /// Whether all stays as it was, as after a session refresh (RFC 4028 §7.4).
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}
