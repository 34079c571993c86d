//! What we can do on one call, and where: the side of a negotiation that is ours.

use std::net::IpAddr;

use super::{Direction, IceLite, Limits, SecuritySettings};
use crate::codec::CodecSpec;

/// Packet time that we ask for and send unless the peer wants another one, in milliseconds.
pub const DEFAULT_PTIME_MS: u8 = 20;
/// Shortest and longest packet time that we send, in milliseconds; in between multiples of 10 are used.
pub const PTIME_RANGE_MS: std::ops::RangeInclusive<u8> = 10..=60;
/// Payload type that we offer for telephone-event at the first codec's clock rate.
pub const TELEPHONE_EVENT_PAYLOAD_TYPE: u8 = 101;

/// Whose preference chooses among the codecs that both sides have (RFC 3264 §6.1 leaves it to who answers).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The order of [`Capabilities::codecs`]; within a call the codec in use stays while it is offered.
    #[default]
    Ours,
    /// The order of the offer.
    Theirs,
}

/// What we can do on one call, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Codecs in preference order.
    pub codecs: Vec<CodecSpec>,
    /// Whose order decides when we answer. Default [`Order::Ours`].
    pub order: Order,
    /// Whether keys go as telephone-events (RFC 4733). Default yes.
    pub telephone_event: bool,
    /// Whether comfort noise (RFC 3389, payload type 13) is taken beside codecs of 8 kHz. Default no.
    pub comfort_noise: bool,
    /// Packet time in milliseconds when the peer names none; see [`PTIME_RANGE_MS`].
    pub ptime_ms: u8,
    /// Longest packet that we take and send, in milliseconds. Default the end of [`PTIME_RANGE_MS`]; less where
    /// [`codecs`](Self::codecs) holds one of which so much does not fit a datagram (L16).
    pub maxptime_ms: u8,
    /// What we want to do: `SendOnly` or `Inactive` for a hold from our side. Default both ways.
    pub direction: Direction,
    /// Encryption of the audio: policy, profile and keys. Default: never.
    pub security: SecuritySettings,
    /// Our ICE candidates, and credentials for a session of ICE that begins; `None` (the default) leaves ICE out. In a
    /// call the credentials stay those of the agreement ([`Negotiated::local_ice`](super::Negotiated::local_ice)) until
    /// one side restarts ICE: give fresh ones with each offer and answer ([`IceLite::random`]).
    pub ice: Option<IceLite>,
    /// Whether RTCP shares the port of RTP where the peer wants that too (RFC 5761). Default no; a peer that insists
    /// (`a=rtcp-mux-only`, RFC 8858) gets it anyway.
    pub rtcp_mux: bool,
    /// Our RTCP port where it is not the one above the RTP port (RFC 3605). Default `None`.
    pub rtcp_port: Option<u16>,
    /// Address where we receive, as the peer can reach it.
    pub address: IpAddr,
    /// RTP port where we receive.
    pub port: u16,
    /// Session id of our `o=` line, unique per call.
    pub session_id: u64,
    /// What we read of an SDP at most.
    pub limits: Limits,
}

impl Capabilities {
    /// Plain RTP both ways with telephone-events and packets of 20 ms; every other field has its default.
    pub fn new(codecs: Vec<CodecSpec>, address: IpAddr, port: u16, session_id: u64) -> Self {
        Self {
            codecs,
            order: Order::default(),
            telephone_event: true,
            comfort_noise: false,
            ptime_ms: DEFAULT_PTIME_MS,
            maxptime_ms: *PTIME_RANGE_MS.end(),
            direction: Direction::SendRecv,
            security: SecuritySettings::default(),
            ice: None,
            rtcp_mux: false,
            rtcp_port: None,
            address,
            port,
            session_id,
            limits: Limits::default(),
        }
    }

    /// The longest packet that we handle, whatever was configured.
    pub(super) fn longest_ms(&self) -> u8 {
        self.maxptime_ms.clamp(*PTIME_RANGE_MS.start(), *PTIME_RANGE_MS.end())
    }

    /// What codecs we have, for a refusal's text.
    pub(super) fn codec_names(&self) -> String {
        self.codecs.iter().map(|codec| codec.name).collect::<Vec<_>>().join(", ")
    }
}
