//! The stamp: the user part of our Record-Route, by which any proxy of the pool knows a Route for its own
//! (RFC 3261 §16.6 step 4), finds the connection of a peer that no new one reaches (RFC 5626 §5.3), and knows where
//! requests of this call may go.
//!
//! ```text
//! version 2 | key id 2 | count 1 | place 6, count times | flow? | mac 16; base64url (RFC 4648 §5)
//! place: a keyed mark of the call, the side and a host
//! flow: transport 1+n | local | remote | connection 8 | incarnation 4 | node, local and remote: length 1 | octets
//! mac: over all of it, the Call-ID and the tag of the caller
//! ```
//!
//! # What it keeps from whom
//! Whoever is in a call learns its stamps, and could wrap anything into a Route with them: with a signature over the
//! Call-ID alone the pool would be an open relay for everybody who has made one call. So a stamp says more:
//!
//! - One of the two tags of a request has to be the caller's, and which one it is tells the direction.
//! - The next hop of a request to the callee has to be a host of the callee's side, and likewise for the caller: the next
//!   Record-Route or the Contact on that side, the place that the INVITE was sent to, or the one it came from. What the
//!   callee's side is called is known from the response, where the stamp that the caller will use is written anew
//!   (RFC 3261 §16.7 step 8) if the INVITE's did not have it. Hosts stand in the stamp as marks of six octets, which
//!   show nobody who is behind a proxy.
//! - Beyond that only the networks that the program names
//!   ([`RelayConfig::networks`](super::RelayConfig::networks)): for peers whose Contact moves to another host within a
//!   call, which no Route can know of.
//!
//! # What is left
//! - The hosts of a call hear from us whatever its ends send with the tags of the call, for as long as the key is in the
//!   ring; a user agent answers 481 where it has no such dialog. The rates of the
//!   [guard](crate::guard::GuardConfig::in_dialog) bound it, a new key ends it.
//! - A caller chooses its own Contact, so for each call that the program let in it may name one host that requests with
//!   the tags of that call reach, if it sends them itself, as if it were the callee. Where its Contact is a name, its DNS
//!   says where that leads. A callee may do the same by its Contact.
//! - Ports are not bound: a host is reached at all of them.
//! - Every network that the program names is open to all who have a call.

use std::net::{IpAddr, SocketAddr};

use data_encoding::BASE64URL_NOPAD;

use super::keys::{KeyId, MAC, RelayKeys};
use crate::engine::flow::{ConnectionId, Flow, Transport};
use crate::message::{Host, Uri};

pub(crate) const VERSION: u8 = 2;
const HEAD: usize = 4;
/// Octets of a place.
const PLACE: usize = 6;
/// Most places of one stamp, of both sides together.
const MAX_PLACES: usize = 8;
/// Separates these signatures from all others of the same keys.
const LABEL: &[u8] = b"iqra record-route";
const PLACE_LABEL: &[u8] = b"iqra place";
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

/// The call that a stamp is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StampedCall {
    pub(crate) call_id: Vec<u8>,
    /// The From tag of the INVITE.
    pub(crate) caller: String,
}

/// One of the two sides of a call, seen from the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Caller,
    Callee,
}

/// What a stamp says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    key: KeyId,
    places: Vec<[u8; PLACE]>,
    pub(crate) flow: Option<OwnedFlow>,
}

impl Stamp {
    /// One that leads nowhere yet.
    pub(crate) fn new(keys: &RelayKeys, flow: Option<OwnedFlow>) -> Self {
        Self { key: keys.id(), places: Vec::new(), flow }
    }

    /// The same for the other side of the call, which is reached by this flow, or by any.
    pub(crate) fn with_flow(self, flow: Option<OwnedFlow>) -> Self {
        Self { flow, ..self }
    }

    /// Lets requests of the call go to this host on this side.
    pub(crate) fn allow(&mut self, keys: &RelayKeys, call: &StampedCall, side: Side, host: &str) {
        let place = keys.mark(&place(call, side, host));
        if self.places.len() < MAX_PLACES && !self.places.contains(&place) {
            self.places.push(place);
        }
    }

    /// Whether requests of the call may go to this host on this side.
    pub(crate) fn allows(&self, keys: &RelayKeys, call: &StampedCall, side: Side, host: &str) -> bool {
        let parts = place(call, side, host);
        self.places.iter().any(|place| keys.marked(self.key, &parts, place))
    }

    /// Whether it is of the key that signs now, so that hosts can be added.
    pub(crate) fn is_current(&self, keys: &RelayKeys) -> bool {
        self.key == keys.id()
    }

    /// The user part.
    pub(crate) fn word(&self, keys: &RelayKeys, call: &StampedCall) -> String {
        let mut octets = vec![VERSION];
        octets.extend(self.key);
        octets.push(self.places.len() as u8);
        octets.extend(self.places.iter().flatten());
        if let Some(owned) = &self.flow {
            put_flow(&mut octets, owned);
        }
        signed(&octets, keys, call)
    }

    /// What a user part says; `None` where no key of ours made it for this call.
    pub(crate) fn read(keys: &RelayKeys, call: &StampedCall, user: &str) -> Option<Self> {
        let octets = decode(user)?;
        let (signed, mac) = octets.split_at(octets.len() - MAC);
        let key = [signed[1], signed[2]];
        if !keys.verify(key, &[LABEL, signed, &call.call_id, call.caller.as_bytes()], mac) {
            return None;
        }
        let (places, mut flow) = signed[HEAD..].split_at_checked(PLACE * usize::from(signed[3]))?;
        let places = places.chunks_exact(PLACE).map(|place| place.try_into().expect("as long as it is"));
        let flow = match flow {
            [] => None,
            _ => Some(take_flow(&mut flow)?),
        };
        Some(Self { key, places: places.collect(), flow })
    }
}

/// These octets with their signature, as a user part.
pub(crate) fn signed(octets: &[u8], keys: &RelayKeys, call: &StampedCall) -> String {
    let mac = keys.sign(&[LABEL, octets, &call.call_id, call.caller.as_bytes()]);
    BASE64URL_NOPAD.encode(&[octets, &mac].concat())
}

/// The host that a request to this URI goes to, in one form.
pub(crate) fn host(uri: &Uri) -> Option<String> {
    uri.target_host().map(in_one_form)
}

/// Addresses and names as they are compared.
pub(crate) fn in_one_form(host: Host<'_>) -> String {
    match host {
        Host::Ip(ip) => ip.to_canonical().to_string(),
        Host::Name(name) => name.trim_end_matches('.').to_ascii_lowercase(),
    }
}

fn place<'a>(call: &'a StampedCall, side: Side, host: &'a str) -> [&'a [u8]; 5] {
    let side: &[u8] = match side {
        Side::Caller => b"caller",
        Side::Callee => b"callee",
    };
    [PLACE_LABEL, side, &call.call_id, call.caller.as_bytes(), host.as_bytes()]
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

    fn call(id: &str, caller: &str) -> StampedCall {
        StampedCall { call_id: id.as_bytes().to_vec(), caller: caller.to_owned() }
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

    fn stamp(flow: Option<OwnedFlow>, hosts: &[&str]) -> Stamp {
        let mut stamp = Stamp::new(&keys(), flow);
        hosts.iter().for_each(|host| stamp.allow(&keys(), &call("call", "tag"), Side::Callee, host));
        stamp
    }

    #[test]
    fn a_stamp_says_what_was_put_in_and_fits_a_user_part() {
        for owned in [None, Some(flow(Some(9), "192.0.2.9:4321")), Some(flow(None, "[2001:db8::2]:1"))] {
            let said = stamp(owned, &["192.0.2.1", "a.example"]);
            let word = said.word(&keys(), &call("call", "tag"));
            assert!(word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')), "{word}");
            assert!(word.len() < 170, "{word}");
            assert_eq!(Stamp::read(&keys(), &call("call", "tag"), &word), Some(said));
        }
    }

    #[test]
    fn a_stamp_is_good_for_its_call_and_unchanged_alone() {
        let word =
            stamp(Some(flow(Some(9), "192.0.2.9:4321")), &["192.0.2.1"]).word(&keys(), &call("c", "t"));
        assert!(Stamp::read(&keys(), &call("c", "t"), &word).is_some());
        assert_eq!(Stamp::read(&keys(), &call("another", "t"), &word), None);
        assert_eq!(Stamp::read(&keys(), &call("c", "another"), &word), None);
        assert_eq!(Stamp::read(&RelayKeys::new([[4; 32]]).unwrap(), &call("c", "t"), &word), None);
        for at in 0..word.len() {
            let mut forged = word.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(Stamp::read(&keys(), &call("c", "t"), &forged), None, "octet {at} changed");
            assert_eq!(Stamp::read(&keys(), &call("c", "t"), &word[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_host_is_allowed_for_its_call_and_side_alone() {
        let stamp = stamp(None, &["192.0.2.1", "a.example"]);
        let allows = |id, tag, side, host| stamp.allows(&keys(), &call(id, tag), side, host);
        assert!(allows("call", "tag", Side::Callee, "192.0.2.1"));
        assert!(allows("call", "tag", Side::Callee, "a.example"));
        assert!(!allows("call", "tag", Side::Caller, "192.0.2.1"));
        assert!(!allows("call", "tag", Side::Callee, "192.0.2.2"));
        assert!(!allows("other", "tag", Side::Callee, "192.0.2.1"));
        assert!(!allows("call", "other", Side::Callee, "192.0.2.1"));
    }

    #[test]
    fn places_outlive_the_key_that_marked_them_and_are_bounded() {
        let (old, new) = ([3; 32], [4; 32]);
        let word = stamp(None, &["192.0.2.1"]).word(&keys(), &call("call", "tag"));
        let both = RelayKeys::new([new, old]).unwrap();
        let mut read = Stamp::read(&both, &call("call", "tag"), &word).unwrap();
        assert!(read.allows(&both, &call("call", "tag"), Side::Callee, "192.0.2.1"));
        (0..20)
            .for_each(|n| read.allow(&keys(), &call("call", "tag"), Side::Caller, &format!("192.0.2.{n}")));
        assert_eq!(read.places.len(), MAX_PLACES);
    }

    #[test]
    fn a_host_has_one_form_and_maddr_stands_in_for_it() {
        let host = |uri: &str| host(&uri.parse().unwrap());
        assert_eq!(host("sip:a@Example.ORG.:5070").as_deref(), Some("example.org"));
        assert_eq!(host("sip:a@[::ffff:192.0.2.1]").as_deref(), Some("192.0.2.1"));
        assert_eq!(host("sip:a@example.org;maddr=192.0.2.9").as_deref(), Some("192.0.2.9"));
        assert_eq!(
            host("sip:a@example.org;maddr=Other.example").as_deref(),
            Some("other.example"),
            "as it is sent"
        );
        assert_eq!(host("sip:a@example.org;maddr").as_deref(), Some("example.org"));
        assert_eq!(host("tel:+12025550100"), None);
    }

    #[test]
    fn no_user_part_breaks_the_reader() {
        for user in ["", "alice", "Ag", &"A".repeat(10_000), "%00", &BASE64URL_NOPAD.encode(&[2; 40])] {
            assert_eq!(Stamp::read(&keys(), &call("c", "t"), user), None);
        }
        assert!(!resembles("alice") && resembles(&stamp(None, &[]).word(&keys(), &call("c", "t"))));
    }
}
