//! STUN as far as keep-alives need it (RFC 5626 §4.4.2, §8): Binding requests, and responses that say how the peer sees
//! the sender (RFC 5389 §6, §15.2). Octets in, octets out; no socket.
//!
//! STUN shares its port with SIP: its first two bits are 0 and its fifth to eighth octet are the magic cookie, and no SIP
//! message begins so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const HEADER: usize = 20;
const COOKIE: u32 = 0x2112_A442;
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;
const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
/// Attributes below this must be understood (RFC 5389 §15).
const OPTIONAL: u16 = 0x8000;
/// Most unknown attributes that a refusal lists.
const MOST_UNKNOWN: usize = 16;

/// What tells one request from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TransactionId(pub(crate) [u8; 12]);

/// What a datagram is that [`looks_like`] STUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stun {
    /// A Binding request, and the attributes in it that we would have to understand.
    Request(TransactionId, Vec<u16>),
    /// A Binding response: how the peer sees us, if it says so.
    Response(TransactionId, Option<SocketAddr>),
}

/// True for a datagram that is STUN and not SIP.
pub(crate) fn looks_like(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER && datagram[0] & 0b1100_0000 == 0 && datagram[4..8] == COOKIE.to_be_bytes()
}

/// Reads a Binding message; `None` for a broken one and for other methods.
pub(crate) fn parse(datagram: &[u8]) -> Option<Stun> {
    let length = usize::from(number(datagram, 2)?);
    if !looks_like(datagram) || !length.is_multiple_of(4) || datagram.len() != HEADER + length {
        return None;
    }
    let id = TransactionId(datagram[8..HEADER].try_into().ok()?);
    let attributes = Attributes(&datagram[HEADER..]);
    match number(datagram, 0)? {
        REQUEST => {
            let unknown = attributes.filter_map(|(kind, _)| (kind < OPTIONAL).then_some(kind));
            Some(Stun::Request(id, unknown.take(MOST_UNKNOWN).collect()))
        }
        SUCCESS => {
            let plain = attributes.clone().find(|(kind, _)| *kind == MAPPED_ADDRESS);
            let xored = attributes.clone().find(|(kind, _)| *kind == XOR_MAPPED_ADDRESS);
            let mapped = xored.and_then(|(_, value)| address(&unmask(value, &id)));
            Some(Stun::Response(id, mapped.or_else(|| address(plain?.1))))
        }
        ERROR => Some(Stun::Response(id, None)),
        _ => None,
    }
}

/// A Binding request without attributes (RFC 5626 §4.4.2).
pub(crate) fn request(id: TransactionId) -> Vec<u8> {
    message(REQUEST, id, &[])
}

/// The answer to a request from `source`: its address, or 420 with what we did not understand (RFC 5389 §7.3.1).
pub(crate) fn answer(id: TransactionId, unknown: &[u16], source: SocketAddr) -> Vec<u8> {
    if unknown.is_empty() {
        let value = mask(source, &id);
        return message(SUCCESS, id, &[(XOR_MAPPED_ADDRESS, &value)]);
    }
    let kinds: Vec<u8> = unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
    message(ERROR, id, &[(ERROR_CODE, b"\0\0\x04\x14Unknown Attribute"), (UNKNOWN_ATTRIBUTES, &kinds)])
}

/// The attributes of a message, up to the first that does not fit.
#[derive(Clone)]
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, length) = (number(self.0, 0)?, usize::from(number(self.0, 2)?));
        let value = self.0.get(4..4 + length)?;
        self.0 = self.0.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn message(kind: u16, id: TransactionId, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, value) in attributes {
        body.extend(kind.to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend(kind.to_be_bytes());
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(COOKIE.to_be_bytes());
    out.extend(id.0);
    out.extend(body);
    out
}

/// The value of MAPPED-ADDRESS: family, port, address (RFC 5389 §15.1).
fn address(value: &[u8]) -> Option<SocketAddr> {
    let port = number(value, 2)?;
    let ip: IpAddr = match (value.get(1)?, value.get(4..)?) {
        (1, ip) => Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).into(),
        (2, ip) => Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// XOR-MAPPED-ADDRESS hides the address from NATs that rewrite what looks like one (RFC 5389 §15.2).
fn mask(source: SocketAddr, id: &TransactionId) -> Vec<u8> {
    let mut value = vec![0, if source.is_ipv4() { 1 } else { 2 }];
    value.extend(source.port().to_be_bytes());
    match source.ip() {
        IpAddr::V4(ip) => value.extend(ip.octets()),
        IpAddr::V6(ip) => value.extend(ip.octets()),
    }
    unmask(&value, id)
}

fn unmask(value: &[u8], id: &TransactionId) -> Vec<u8> {
    let cookie = COOKIE.to_be_bytes();
    let key = cookie[..2].iter().chain(&cookie).chain(&id.0);
    let (head, rest) = value.split_at(value.len().min(2));
    head.iter().copied().chain(rest.iter().zip(key).map(|(octet, key)| octet ^ key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TransactionId = TransactionId(*b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae");

    #[test]
    fn a_request_is_answered_with_the_address_it_came_from() {
        for source in ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"] {
            let source: SocketAddr = source.parse().unwrap();
            let Some(Stun::Request(id, unknown)) = parse(&request(ID)) else { panic!("no request") };
            assert_eq!(parse(&answer(id, &unknown, source)), Some(Stun::Response(ID, Some(source))));
        }
    }

    /// The address and transaction of RFC 5769 §2.2.
    #[test]
    fn the_address_is_masked_as_the_standard_shows() {
        let response = answer(ID, &[], "192.0.2.1:32853".parse().unwrap());
        assert_eq!(response[HEADER..], *b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43");
    }

    #[test]
    fn what_must_be_understood_and_is_not_is_refused_by_name() {
        let asked = message(REQUEST, ID, &[(0x0003, &[0, 0, 0, 2]), (0x8022, b"test")]);
        assert_eq!(parse(&asked), Some(Stun::Request(ID, vec![3])));
        let refusal = answer(ID, &[3], "192.0.2.1:1".parse().unwrap());
        assert_eq!(parse(&refusal), Some(Stun::Response(ID, None)));
        assert!(refusal.ends_with(b"\x00\x0a\x00\x02\x00\x03\x00\x00"));
    }

    #[test]
    fn neither_sip_nor_a_cut_message_is_stun() {
        assert!(!looks_like(b"OPTIONS sip:a@192.0.2.1 SIP/2.0\r\n"));
        let whole = answer(ID, &[], "192.0.2.1:32853".parse().unwrap());
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length} octets");
        }
        let mut lying = whole.clone();
        lying[HEADER + 3] = 200;
        assert_eq!(parse(&lying), Some(Stun::Response(ID, None)), "an attribute longer than the message");
    }
}
