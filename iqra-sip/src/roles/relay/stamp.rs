//! The stamp: the user part of our Record-Route, by which any proxy of the pool knows a Route for its own
//! (RFC 3261 §16.6 step 4), and finds the connection of a peer that no new one reaches (RFC 5626 §5.3).
//!
//! ```text
//! version 1 | key id 2 | flow? | mac 16, over all of it and the Call-ID; base64url (RFC 4648 §5)
//! flow: transport 1+n | local | remote | connection 8 | incarnation 4 | node, local and remote: length 1 | octets
//! ```

use std::net::{IpAddr, SocketAddr};

use data_encoding::BASE64URL_NOPAD;

use super::keys::{MAC, RelayKeys};
use crate::engine::flow::{ConnectionId, Flow, Transport};

const VERSION: u8 = 1;
const HEAD: usize = 3;
/// Separates these signatures from all others of the same keys.
const LABEL: &[u8] = b"iqra record-route";
/// The longest stamp that is looked at, in characters; ours are shorter.
const MAX_STAMP: usize = 256;
/// The longest name of a proxy, in octets.
pub(super) const MAX_NODE: usize = 32;

/// The flow of a peer, at the proxy that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnedFlow {
    /// Whose it is.
    pub(crate) node: String,
    /// Which run of that proxy: connection numbers begin anew with each.
    pub(crate) incarnation: u32,
    pub(crate) flow: Flow,
}

/// The stamp for this call.
pub(crate) fn word(keys: &RelayKeys, call_id: &[u8], flow: Option<&OwnedFlow>) -> String {
    let mut octets = vec![VERSION];
    octets.extend(keys.id());
    if let Some(owned) = flow {
        put_flow(&mut octets, owned);
    }
    let mac = keys.sign(&[LABEL, &octets, call_id]);
    octets.extend(mac);
    BASE64URL_NOPAD.encode(&octets)
}

/// What a stamp says; `None` where no key of ours made it for this call.
#[allow(clippy::option_option)] // Not ours, ours without a flow, ours with one.
pub(crate) fn read(keys: &RelayKeys, call_id: &[u8], user: &str) -> Option<Option<OwnedFlow>> {
    let octets = decode(user)?;
    let (signed, mac) = octets.split_at(octets.len() - MAC);
    if !keys.verify([signed[1], signed[2]], &[LABEL, signed, call_id], mac) {
        return None;
    }
    match &signed[HEAD..] {
        [] => Some(None),
        flow => take_flow(&mut &*flow).map(Some),
    }
}

/// Whether a user part has the form of a stamp, true or forged.
pub(crate) fn resembles(user: &str) -> bool {
    decode(user).is_some()
}

fn decode(user: &str) -> Option<Vec<u8>> {
    let text = (user.len() <= MAX_STAMP).then_some(user)?;
    let octets = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    (octets.len() >= HEAD + MAC && octets[0] == VERSION).then_some(octets)
}

fn put_flow(out: &mut Vec<u8>, owned: &OwnedFlow) {
    let Flow { transport, local, remote, connection } = owned.flow;
    put_text(out, transport.as_str());
    put_addr(out, local);
    put_addr(out, remote);
    out.extend(connection.map_or(u64::MAX, |id| id.0).to_be_bytes());
    out.extend(owned.incarnation.to_be_bytes());
    out.extend(owned.node.bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
}

fn put_addr(out: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(16);
            out.extend(ip.octets());
        }
    }
    out.extend(addr.port().to_be_bytes());
}

fn take_flow(from: &mut &[u8]) -> Option<OwnedFlow> {
    let length = usize::from(take::<1>(from)?[0]);
    let transport = Transport::named(std::str::from_utf8(from.split_off(..length)?).ok()?)?;
    let (local, remote) = (take_addr(from)?, take_addr(from)?);
    let connection = u64::from_be_bytes(take(from)?);
    let connection = (connection != u64::MAX).then_some(ConnectionId(connection));
    let incarnation = u32::from_be_bytes(take(from)?);
    let node = String::from_utf8(from.to_vec()).ok()?;
    Some(OwnedFlow { node, incarnation, flow: Flow { transport, local, remote, connection } })
}

fn take_addr(from: &mut &[u8]) -> Option<SocketAddr> {
    let ip: IpAddr = match take::<1>(from)?[0] {
        4 => take::<4>(from)?.into(),
        16 => take::<16>(from)?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(take(from)?)))
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    from.split_off(..N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> RelayKeys {
        RelayKeys::new([[3; 32]]).unwrap()
    }

    fn flow(connection: Option<u64>, remote: &str) -> OwnedFlow {
        let flow = Flow {
            transport: Transport::Tcp,
            local: "[2001:db8::1]:5060".parse().unwrap(),
            remote: remote.parse().unwrap(),
            connection: connection.map(ConnectionId),
        };
        OwnedFlow { node: String::from("proxy-a"), incarnation: 7, flow }
    }

    #[test]
    fn a_stamp_says_what_was_put_in_and_fits_a_user_part() {
        for owned in [None, Some(flow(Some(9), "192.0.2.9:4321")), Some(flow(None, "[2001:db8::2]:1"))] {
            let stamp = word(&keys(), b"call", owned.as_ref());
            assert!(stamp.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')), "{stamp}");
            assert!(stamp.len() < 150, "{stamp}");
            assert_eq!(read(&keys(), b"call", &stamp), Some(owned));
        }
    }

    #[test]
    fn a_stamp_is_good_for_its_call_and_unchanged_alone() {
        let stamp = word(&keys(), b"call", Some(&flow(Some(9), "192.0.2.9:4321")));
        assert_eq!(read(&keys(), b"another call", &stamp), None);
        assert_eq!(read(&RelayKeys::new([[4; 32]]).unwrap(), b"call", &stamp), None);
        for at in 0..stamp.len() {
            let mut forged = stamp.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(read(&keys(), b"call", &forged), None, "octet {at} changed");
            assert_eq!(read(&keys(), b"call", &stamp[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn no_user_part_breaks_the_reader() {
        for user in ["", "alice", "AQ", &"A".repeat(10_000), "%00", &BASE64URL_NOPAD.encode(&[1; 40])] {
            assert_eq!(read(&keys(), b"call", user), None);
        }
        assert!(!resembles("alice") && resembles(&word(&keys(), b"c", None)));
    }
}
