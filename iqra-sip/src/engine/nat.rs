//! Which way a request inside a dialog tries first: to the peer's Contact, or back along the flow that its INVITE came by
//! (RFC 3261 §12.2.1.1; RFC 5626 §5.3 for Contacts that say `ob`).
//!
//! A peer behind a NAT writes an address into Contact that leads nowhere, but its flow leads back to it. A peer behind a
//! proxy that does not stay in the path must not be answered along the flow, which ends at that proxy.

use std::net::{IpAddr, SocketAddr};

use crate::message::{Host, Uri};

/// How peers behind NATs are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlowConfig {
    /// Whose flow is tried before their Contact. Default [`FlowFirst::Private`].
    pub first: FlowFirst,
    /// Our own Contacts say `ob`: requests to us come back along our flow (RFC 5626 §4.3). Default false; for a client
    /// behind a NAT whose server knows RFC 5626.
    pub outbound: bool,
}

/// Whose flow is tried before their Contact. A Contact with `ob` always asks for it, and where the dialog has a route set
/// the route is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlowFirst {
    /// Nobody's: the Contact is right, whatever it says.
    Never,
    /// Those whose Contact is a private address while their packets come from a public one.
    #[default]
    Private,
    /// Those whose packets come from another address than their Contact's. Only for peers that are known to have no
    /// proxy in between.
    Differing,
}

impl FlowFirst {
    /// Whether a peer that is seen at `source` and wants to be called at `contact` is tried by its flow first.
    pub(super) fn applies(self, contact: &Uri, source: SocketAddr) -> bool {
        let Some(Host::Ip(ip)) = contact.target_host() else { return contact.param("ob").is_some() };
        contact.param("ob").is_some() || self.hides(ip, source)
    }

    /// Whether a peer that is seen at `source` cannot be called at this address of its own.
    pub(super) fn hides(self, ip: IpAddr, source: SocketAddr) -> bool {
        match self {
            FlowFirst::Never => false,
            FlowFirst::Private => is_private(ip) && !is_private(source.ip()),
            FlowFirst::Differing => ip != source.ip(),
        }
    }
}

/// An address that no NAT lets through: private, shared, link-local or loopback (RFC 1918, 6598, 3927, 4193, 4291).
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0b1100_0000 == 64;
            shared || ip.is_private() || ip.is_link_local() || ip.is_loopback()
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_contact_seen_from_outside_and_a_contact_that_asks_go_by_the_flow() {
        let source: SocketAddr = "198.51.100.7:4321".parse().unwrap();
        for (contact, never, private, differing) in [
            ("sip:a@198.51.100.7:5060", false, false, false),
            ("sip:a@203.0.113.1", false, false, true),
            ("sip:a@10.1.2.3:5060", false, true, true),
            ("sip:a@172.16.0.1", false, true, true),
            ("sip:a@100.64.0.1", false, true, true),
            ("sip:a@[fd00::1]", false, true, true),
            ("sip:a@203.0.113.1;ob", true, true, true),
            ("sip:a@df7jal23ls0d.invalid;ob", true, true, true),
            ("sip:a@phone.example.org", false, false, false),
        ] {
            let uri: Uri = contact.parse().unwrap();
            let applies = [FlowFirst::Never, FlowFirst::Private, FlowFirst::Differing]
                .map(|first| first.applies(&uri, source));
            assert_eq!(applies, [never, private, differing], "{contact}");
        }
        let inside: SocketAddr = "10.9.9.9:5060".parse().unwrap();
        assert!(!FlowFirst::Private.applies(&"sip:a@10.1.2.3".parse().unwrap(), inside), "no NAT in between");
    }
}
