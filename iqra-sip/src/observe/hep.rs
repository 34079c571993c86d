//! HEP version 3, the encapsulation that Homer collects (also called EEP): one packet for one SIP message.
//!
//! ```text
//!  "HEP3"  total length (2)   then chunks:  vendor (2) | type (2) | length with these six (2) | value
//! ```
//! All numbers are big-endian; vendor 0 is the protocol's own. A decoder passes over chunks that it does not know.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{Direction, Outline, TraceRecord};
use crate::engine::flow::Transport;
use crate::guard::glance::call_id;

const MAGIC: &[u8; 4] = b"HEP3";
const CHUNK_HEAD: usize = 6;
const PROTOCOL_SIP: u8 = 1;
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;
const IP_TCP: u8 = 6;
const IP_UDP: u8 = 17;

/// The types of chunks that are written and read.
mod kind {
    pub(super) const FAMILY: u16 = 1;
    pub(super) const IP_PROTOCOL: u16 = 2;
    pub(super) const SOURCE_V4: u16 = 3;
    pub(super) const TARGET_V4: u16 = 4;
    pub(super) const SOURCE_V6: u16 = 5;
    pub(super) const TARGET_V6: u16 = 6;
    pub(super) const SOURCE_PORT: u16 = 7;
    pub(super) const TARGET_PORT: u16 = 8;
    pub(super) const SECONDS: u16 = 9;
    pub(super) const MICROSECONDS: u16 = 10;
    pub(super) const PROTOCOL: u16 = 11;
    pub(super) const AGENT: u16 = 12;
    pub(super) const KEY: u16 = 14;
    pub(super) const PAYLOAD: u16 = 15;
    pub(super) const CORRELATION: u16 = 17;
}

/// One captured message. Its `Debug` shows the kind and the size of the message, nothing that it says.
#[derive(Clone, PartialEq, Eq)]
pub struct HepPacket {
    /// Who sent it.
    pub source: SocketAddr,
    /// Who got it; of the same family as `source`.
    pub target: SocketAddr,
    /// Whether it came by UDP; else by a stream over TCP.
    pub udp: bool,
    /// When, to the microsecond, within the 136 years that 32 bits of seconds hold.
    pub at: SystemTime,
    /// Which node captured it.
    pub agent: u32,
    /// What the message belongs to: its Call-ID.
    pub correlation: Option<String>,
    /// The message.
    pub payload: Bytes,
}

impl fmt::Debug for HepPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, target, udp, at, agent, correlation: _, payload } = self;
        let outline = Outline(payload);
        write!(f, "HepPacket({at:?} {source} to {target} udp {udp} agent {agent} {outline:?})")
    }
}

/// Why octets are no HEP3 packet of a SIP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no HEP3 packet of a SIP message: {0}")]
pub struct HepError(&'static str);

impl HepPacket {
    /// The packet of a message on the wire. `unspecified` stands in for an address of ours that is bound to all.
    #[must_use]
    pub fn of(record: &TraceRecord, agent: u32, unspecified: Option<IpAddr>) -> Self {
        let (ours, peer) = (record.flow.local, record.flow.remote);
        let instead = unspecified.filter(|ip| ours.ip().is_unspecified() && ip.is_ipv4() == peer.is_ipv4());
        let ours = SocketAddr::new(instead.unwrap_or(ours.ip()), ours.port());
        let (source, target) = match record.direction {
            Direction::In => (peer, ours),
            Direction::Out => (ours, peer),
        };
        Self {
            source,
            target,
            udp: record.flow.transport == Transport::Udp,
            at: record.at,
            agent,
            correlation: call_id(&record.bytes).map(str::to_owned),
            payload: record.bytes.clone(),
        }
    }

    /// Writes the packet; `key` is the collector's password. `None` where the message is too long for one packet.
    #[must_use]
    pub fn encode(&self, key: Option<&str>) -> Option<Vec<u8>> {
        let since = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut out = Vec::with_capacity(self.payload.len() + 160);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0, 0]);
        self.write_addresses(&mut out)?;
        chunk(&mut out, kind::SECONDS, &u32::try_from(since.as_secs()).ok()?.to_be_bytes())?;
        chunk(&mut out, kind::MICROSECONDS, &since.subsec_micros().to_be_bytes())?;
        chunk(&mut out, kind::PROTOCOL, &[PROTOCOL_SIP])?;
        chunk(&mut out, kind::AGENT, &self.agent.to_be_bytes())?;
        if let Some(key) = key {
            chunk(&mut out, kind::KEY, key.as_bytes())?;
        }
        if let Some(correlation) = &self.correlation {
            chunk(&mut out, kind::CORRELATION, correlation.as_bytes())?;
        }
        chunk(&mut out, kind::PAYLOAD, &self.payload)?;
        let total = u16::try_from(out.len()).ok()?;
        out[4..6].copy_from_slice(&total.to_be_bytes());
        Some(out)
    }

    fn write_addresses(&self, out: &mut Vec<u8>) -> Option<()> {
        let protocol = if self.udp { IP_UDP } else { IP_TCP };
        match (self.source.ip().to_canonical(), self.target.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                chunk(out, kind::FAMILY, &[FAMILY_V4])?;
                chunk(out, kind::IP_PROTOCOL, &[protocol])?;
                chunk(out, kind::SOURCE_V4, &source.octets())?;
                chunk(out, kind::TARGET_V4, &target.octets())?;
            }
            _ => {
                chunk(out, kind::FAMILY, &[FAMILY_V6])?;
                chunk(out, kind::IP_PROTOCOL, &[protocol])?;
                chunk(out, kind::SOURCE_V6, &as_v6(self.source).octets())?;
                chunk(out, kind::TARGET_V6, &as_v6(self.target).octets())?;
            }
        }
        chunk(out, kind::SOURCE_PORT, &self.source.port().to_be_bytes())?;
        chunk(out, kind::TARGET_PORT, &self.target.port().to_be_bytes())
    }

    /// Reads a packet and the key in it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(packet: &[u8]) -> Result<(HepPacket, Option<String>), HepError> {
        let mut rest = packet.strip_prefix(MAGIC).ok_or(HepError("it does not begin with HEP3"))?;
        let total = take::<2>(&mut rest).map(u16::from_be_bytes).ok_or(HepError("its length is cut off"))?;
        if usize::from(total) != packet.len() {
            return Err(HepError("its length is not the one that it names"));
        }
        let mut read = Reading::default();
        while !rest.is_empty() {
            read.chunk(&mut rest)?;
        }
        read.finish()
    }
}

fn as_v6(addr: SocketAddr) -> Ipv6Addr {
    match addr.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn chunk(out: &mut Vec<u8>, kind: u16, value: &[u8]) -> Option<()> {
    let length = u16::try_from(value.len() + CHUNK_HEAD).ok()?;
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
    Some(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (value, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*value)
}

/// The chunks of a packet, as far as they were read.
#[derive(Default)]
struct Reading {
    source: Option<IpAddr>,
    target: Option<IpAddr>,
    ports: [u16; 2],
    time: Duration,
    udp: bool,
    protocol: u8,
    agent: u32,
    key: Option<String>,
    correlation: Option<String>,
    payload: Bytes,
}

impl Reading {
    fn chunk(&mut self, rest: &mut &[u8]) -> Result<(), HepError> {
        let cut = HepError("a chunk is cut off");
        let head = take::<CHUNK_HEAD>(rest).ok_or(cut)?;
        let [vendor, kind, length] = [0, 2, 4].map(|at| u16::from_be_bytes([head[at], head[at + 1]]));
        let length = usize::from(length).checked_sub(CHUNK_HEAD).ok_or(cut)?;
        let (value, after) = rest.split_at_checked(length).ok_or(cut)?;
        *rest = after;
        match vendor {
            0 => self.value(kind, value).ok_or(HepError("a chunk has the wrong length")),
            _ => Ok(()),
        }
    }

    fn value(&mut self, kind: u16, value: &[u8]) -> Option<()> {
        let text = || Some(String::from_utf8_lossy(value).into_owned());
        match kind {
            kind::IP_PROTOCOL => self.udp = byte(value)? == IP_UDP,
            kind::SOURCE_V4 => self.source = Some(Ipv4Addr::from(octets(value)?).into()),
            kind::TARGET_V4 => self.target = Some(Ipv4Addr::from(octets(value)?).into()),
            kind::SOURCE_V6 => self.source = Some(v6(value)?),
            kind::TARGET_V6 => self.target = Some(v6(value)?),
            kind::SOURCE_PORT => self.ports[0] = u16::from_be_bytes(octets(value)?),
            kind::TARGET_PORT => self.ports[1] = u16::from_be_bytes(octets(value)?),
            kind::SECONDS => self.time += Duration::from_secs(u32::from_be_bytes(octets(value)?).into()),
            kind::MICROSECONDS => {
                self.time += Duration::from_micros(u32::from_be_bytes(octets(value)?).into());
            }
            kind::PROTOCOL => self.protocol = byte(value)?,
            kind::AGENT => self.agent = u32::from_be_bytes(octets(value)?),
            kind::KEY => self.key = text(),
            kind::CORRELATION => self.correlation = text(),
            kind::PAYLOAD => self.payload = Bytes::copy_from_slice(value),
            _ => {}
        }
        Some(())
    }

    fn finish(self) -> Result<(HepPacket, Option<String>), HepError> {
        let (Some(source), Some(target)) = (self.source, self.target) else {
            return Err(HepError("an address is missing"));
        };
        if self.protocol != PROTOCOL_SIP {
            return Err(HepError("it carries another protocol"));
        }
        let packet = HepPacket {
            source: SocketAddr::new(source, self.ports[0]),
            target: SocketAddr::new(target, self.ports[1]),
            udp: self.udp,
            at: SystemTime::UNIX_EPOCH + self.time,
            agent: self.agent,
            correlation: self.correlation,
            payload: self.payload,
        };
        Ok((packet, self.key))
    }
}

fn octets<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.try_into().ok()
}

/// An IPv4 address that is written as a mapped one, as [`HepPacket::encode`] does beside an IPv6 one, is that address.
fn v6(value: &[u8]) -> Option<IpAddr> {
    Some(IpAddr::from(octets::<16>(value)?).to_canonical())
}

fn byte(value: &[u8]) -> Option<u8> {
    octets::<1>(value).map(|[byte]| byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(source: &str, target: &str) -> HepPacket {
        HepPacket {
            source: source.parse().unwrap(),
            target: target.parse().unwrap(),
            udp: true,
            at: SystemTime::UNIX_EPOCH + Duration::new(1_800_000_000, 123_000),
            agent: 2_001,
            correlation: Some(String::from("c1")),
            payload: Bytes::from_static(b"OPTIONS sip:a SIP/2.0\r\nCall-ID: c1\r\n\r\n"),
        }
    }

    #[test]
    fn the_octets_are_those_of_the_specification() {
        let mut small = packet("192.0.2.1:5060", "198.51.100.7:5062");
        (small.at, small.payload) = (SystemTime::UNIX_EPOCH + Duration::new(0x0102_0304, 7_000), "hi".into());
        #[rustfmt::skip]
        let expected = [
            b'H', b'E', b'P', b'3', 0, 118,
            0, 0, 0, 1, 0, 7, 2,
            0, 0, 0, 2, 0, 7, 17,
            0, 0, 0, 3, 0, 10, 192, 0, 2, 1,
            0, 0, 0, 4, 0, 10, 198, 51, 100, 7,
            0, 0, 0, 7, 0, 8, 0x13, 0xc4,
            0, 0, 0, 8, 0, 8, 0x13, 0xc6,
            0, 0, 0, 9, 0, 10, 1, 2, 3, 4,
            0, 0, 0, 10, 0, 10, 0, 0, 0, 7,
            0, 0, 0, 11, 0, 7, 1,
            0, 0, 0, 12, 0, 10, 0, 0, 7, 0xd1,
            0, 0, 0, 14, 0, 9, b'k', b'e', b'y',
            0, 0, 0, 17, 0, 8, b'c', b'1',
            0, 0, 0, 15, 0, 8, b'h', b'i',
        ];
        assert_eq!(small.encode(Some("key")).unwrap(), expected);
    }

    #[test]
    fn what_is_written_is_read_again_in_all_families_and_strange_chunks_are_passed_over() {
        let addresses = [
            ("192.0.2.1:1", "192.0.2.2:2"),
            ("[2001:db8::1]:1", "[2001:db8::2]:2"),
            ("192.0.2.1:1", "[2001:db8::2]:2"),
            ("[2001:db8::1]:1", "192.0.2.2:2"),
        ];
        for (source, target) in addresses {
            let packet = packet(source, target);
            let mut octets = packet.encode(None).unwrap();
            octets.extend([0, 9, 0, 3, 0, 7, 1, 0, 0, 0, 99, 0, 6]);
            let total = u16::try_from(octets.len()).unwrap();
            octets[4..6].copy_from_slice(&total.to_be_bytes());
            assert_eq!(HepPacket::decode(&octets), Ok((packet, None)));
        }
    }

    #[test]
    fn cut_and_changed_packets_are_refused_and_never_panic() {
        let octets = packet("192.0.2.1:1", "192.0.2.2:2").encode(Some("k")).unwrap();
        for length in 0..octets.len() {
            assert!(HepPacket::decode(&octets[..length]).is_err());
            let mut shorter = octets[..length].to_vec();
            if let (Some(field), Ok(total)) = (shorter.get_mut(4..6), u16::try_from(length)) {
                field.copy_from_slice(&total.to_be_bytes());
            }
            let _ = HepPacket::decode(&shorter);
        }
        for at in 0..octets.len() {
            let mut changed = octets.clone();
            changed[at] ^= 0xff;
            let _ = HepPacket::decode(&changed);
        }
        let long = HepPacket { payload: vec![b'x'; 65_500].into(), ..packet("192.0.2.1:1", "192.0.2.2:2") };
        assert_eq!(long.encode(None), None, "one datagram holds no more");
    }
}
