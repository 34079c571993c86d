//! Compound packets as they come (RFC 3550 §6.1 and appendix A.2): checked whole, then walked over.
//!
//! A compound begins with a report, unless it is of reduced size (RFC 5506), which is taken as well since it does no
//! harm. Lengths must add up to the datagram, and only the last packet may be padded. What is of no use to a call
//! (descriptions, feedback, APP) is passed over.

use super::{NtpTime, ReportBlock, SenderInfo, VoipMetrics, kind};
use crate::rtp::word;

/// Octets of a packet's head, its SSRC not counted.
const HEAD: usize = 4;

/// Why a datagram is no RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RTCP packet: {0}; drop it")]
pub struct RtcpError(&'static str);

/// One packet of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RtcpPacket<'a> {
    /// What a sender says of itself and of what it receives.
    SenderReport {
        /// Who says it.
        ssrc: u32,
        /// Of itself.
        info: SenderInfo,
        /// Of what it receives.
        blocks: Blocks<'a>,
    },
    /// What a receiver says of what it receives.
    ReceiverReport {
        /// Who says it.
        ssrc: u32,
        /// What it says.
        blocks: Blocks<'a>,
    },
    /// Streams end.
    Bye {
        /// Which ones.
        sources: Sources<'a>,
    },
    /// VoIP metrics of an extended report; its other blocks are passed over.
    VoipMetrics {
        /// Who says it.
        ssrc: u32,
        /// What it measured.
        metrics: VoipMetrics,
    },
    /// A packet that is of no use to a call, by its type.
    Other(u8),
}

/// Checks a datagram and gives its packets.
///
/// # Errors
/// [`RtcpError`] where RFC 3550 appendix A.2 would drop it.
pub fn compound(datagram: &[u8]) -> Result<Packets<'_>, RtcpError> {
    let mut rest = datagram;
    if rest.is_empty() {
        return Err(RtcpError("it is empty"));
    }
    while !rest.is_empty() {
        let (packet, after) = split(rest)?;
        if packet[0] & PADDED != 0 && !after.is_empty() {
            return Err(RtcpError("padding before the last packet"));
        }
        check_counts(packet)?;
        rest = after;
    }
    Ok(Packets { rest: datagram })
}

const PADDED: u8 = 0b0010_0000;

fn split(octets: &[u8]) -> Result<(&[u8], &[u8]), RtcpError> {
    let head: &[u8; HEAD] = octets.first_chunk().ok_or(RtcpError("a head is cut off"))?;
    if head[0] >> 6 != 2 {
        return Err(RtcpError("the version is not 2"));
    }
    let length = (usize::from(u16::from_be_bytes([head[2], head[3]])) + 1) * 4;
    octets.split_at_checked(length).ok_or(RtcpError("a packet is longer than the datagram"))
}

/// That what the head counts is there.
fn check_counts(packet: &[u8]) -> Result<(), RtcpError> {
    let body = body(packet).ok_or(RtcpError("padding that is longer than its packet"))?;
    let needed = match packet[1] {
        kind::SENDER_REPORT => 24 + 24 * count(packet),
        kind::RECEIVER_REPORT => 4 + 24 * count(packet),
        kind::BYE => 4 * count(packet),
        kind::EXTENDED => 4,
        _ => 0,
    };
    if body.len() < needed {
        return Err(RtcpError("a packet is shorter than its counts say"));
    }
    Ok(())
}

fn count(packet: &[u8]) -> usize {
    usize::from(packet[0] & 0x1f)
}

/// What comes after the head, without padding.
fn body(packet: &[u8]) -> Option<&[u8]> {
    let body = packet.get(HEAD..)?;
    if packet[0] & PADDED == 0 {
        return Some(body);
    }
    let padding = usize::from(*body.last()?);
    (padding > 0).then(|| body.len().checked_sub(padding)).flatten().and_then(|end| body.get(..end))
}

/// The packets of a compound that was checked.
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = RtcpPacket<'a>;

    fn next(&mut self) -> Option<RtcpPacket<'a>> {
        let (packet, after) = split(self.rest).ok()?;
        self.rest = after;
        Some(one(packet).unwrap_or(RtcpPacket::Other(packet[1])))
    }
}

fn one(packet: &[u8]) -> Option<RtcpPacket<'_>> {
    let body = body(packet)?;
    let blocks = |from: usize| body.get(from..from + 24 * count(packet)).map(|octets| Blocks { octets });
    let ssrc = word(body, 0);
    Some(match packet[1] {
        kind::SENDER_REPORT => {
            RtcpPacket::SenderReport { ssrc: ssrc?, info: sender(body)?, blocks: blocks(24)? }
        }
        kind::RECEIVER_REPORT => RtcpPacket::ReceiverReport { ssrc: ssrc?, blocks: blocks(4)? },
        kind::BYE => RtcpPacket::Bye { sources: Sources { octets: body.get(..4 * count(packet))? } },
        kind::EXTENDED => RtcpPacket::VoipMetrics { ssrc: ssrc?, metrics: voip_metrics(body.get(4..)?)? },
        other => RtcpPacket::Other(other),
    })
}

fn sender(body: &[u8]) -> Option<SenderInfo> {
    let ntp = NtpTime(u64::from(word(body, 4)?) << 32 | u64::from(word(body, 8)?));
    Some(SenderInfo { ntp, rtp: word(body, 12)?, packets: word(body, 16)?, octets: word(body, 20)? })
}

/// The first VoIP metrics among the blocks of an extended report.
fn voip_metrics(mut blocks: &[u8]) -> Option<VoipMetrics> {
    loop {
        let (head, after) = blocks.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
        let (block, rest) = after.split_at_checked(length)?;
        if head[0] == kind::VOIP_METRICS {
            return VoipMetrics::read(block);
        }
        blocks = rest;
    }
}

/// The report blocks of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks<'a> {
    octets: &'a [u8],
}

impl Blocks<'_> {
    /// The block about the stream of this SSRC.
    pub fn about(self, ssrc: u32) -> Option<ReportBlock> {
        self.iter().find(|block| block.ssrc == ssrc)
    }

    /// All of them, in order; at most 31.
    pub fn iter(self) -> impl Iterator<Item = ReportBlock> {
        self.octets.chunks_exact(24).filter_map(|block| {
            let [loss, a, b, c] = word(block, 4)?.to_be_bytes();
            Some(ReportBlock {
                ssrc: word(block, 0)?,
                fraction_lost: loss,
                // 24 bits with a sign, moved up and down again so that the sign spreads.
                cumulative_lost: i32::from_be_bytes([a, b, c, 0]) >> 8,
                highest_sequence: word(block, 8)?,
                jitter: word(block, 12)?,
                last_report: word(block, 16)?,
                delay: word(block, 20)?,
            })
        })
    }
}

/// The streams that a BYE ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources<'a> {
    octets: &'a [u8],
}

impl Sources<'_> {
    /// Whether this stream is among them.
    pub fn contains(self, ssrc: u32) -> bool {
        self.octets.chunks_exact(4).any(|source| source == ssrc.to_be_bytes())
    }
}
