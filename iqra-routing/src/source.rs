//! Second step of a call at the proxy: whether whoever sent it may send it.
//!
//! In: the peer's address, the Via values, what the number store knows of the address. Out: a [`TrustedSource`], which
//! only [`check`] can make and which a queue entry needs, or a refusal. Behind a session border controller the sender is
//! found by walking Via: a trusted proxy vouches for the value below its own (RFC 3261 §18.2.1).

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::number::{Number, Trunk};
use crate::reason::Reason;

/// Addresses and networks that may send, IPv4 and IPv6. An IPv4-mapped IPv6 address is its IPv4 address.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(from = "Vec<IpNet>", into = "Vec<IpNet>")]
pub struct SourceList(Vec<IpNet>);

impl From<Vec<IpNet>> for SourceList {
    fn from(networks: Vec<IpNet>) -> Self {
        Self::new(networks)
    }
}

impl From<SourceList> for Vec<IpNet> {
    fn from(list: SourceList) -> Self {
        list.0
    }
}

impl SourceList {
    /// The list of these networks.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(networks.into_iter().map(|net| canonical_net(net.trunc())).collect())
    }

    /// Whether the address is in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// The networks.
    pub fn networks(&self) -> &[IpNet] {
        &self.0
    }

    /// Whether nobody may send.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32` or `::ffff:192.0.2.7`.
///
/// # Errors
/// A text that names what was given and what would do.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let net = match IpAddr::from_str(text) {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => IpNet::from_str(text).map_err(|_| {
            format!("\"{text}\" is no address or network; write for instance 192.0.2.7 or 2001:db8::/32")
        })?,
    };
    Ok(canonical_net(net.trunc()))
}

/// A network of IPv4-mapped addresses is the IPv4 network.
fn canonical_net(net: IpNet) -> IpNet {
    let IpAddr::V4(v4) = net.network().to_canonical() else { return net };
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => IpNet::new(v4.into(), v6.prefix_len() - 96).unwrap_or(net),
        _ => net,
    }
}

/// One Via value, as far as it says where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ViaHop {
    /// The `received` parameter, put there by whoever received the request.
    pub received: Option<IpAddr>,
    /// The sent-by host where it is an address; `None` where it is a name.
    pub sent_by: Option<IpAddr>,
}

/// Who sent a request: the peer, or, where the peer is a trusted proxy, the topmost hop that is none.
///
/// # Errors
/// [`Reason::SourceNotAllowed`] when trusted proxies are all there is, or the Via value says no address.
pub fn sender(peer: IpAddr, via: &[ViaHop], trusted: &SourceList) -> Result<IpAddr, Reason> {
    let mut address = peer.to_canonical();
    let mut below = via.iter().skip(1); // the topmost value is the peer's own
    while trusted.contains(address) {
        let hop = below.next().ok_or(Reason::SourceNotAllowed)?;
        address = hop.received.or(hop.sent_by).ok_or(Reason::SourceNotAllowed)?.to_canonical();
    }
    Ok(address)
}

/// What is known of an address before anything is known of the call: is it in any list at all?
#[derive(Debug, Clone)]
pub struct Standing {
    /// The address.
    pub source: IpAddr,
    /// The trunks whose list has it, the narrowest network first.
    pub trunks: Vec<Arc<Trunk>>,
    /// Whether some number's own list has it.
    pub in_a_number_list: bool,
}

impl Standing {
    /// Whether any trunk or number lists the address. One that is listed nowhere learns nothing: it hears 403.
    pub fn is_listed(&self) -> bool {
        self.in_a_number_list || !self.trunks.is_empty()
    }

    /// Whether a trunk of this address enables ids as headers inside the Request-URI.
    pub fn uri_headers(&self) -> bool {
        self.trunks.iter().any(|trunk| trunk.uri_headers)
    }
}

/// Which rule let a source in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// The number's own list.
    ByNumber,
    /// The list of the number's trunk.
    ByTrunk,
    /// The number says `allow_any_source = true`.
    ByAnySource,
}

/// An address that may call this number. Only [`check`] makes one; what needs the check takes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedSource {
    address: IpAddr,
    rule: Admitted,
}

impl TrustedSource {
    /// The address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The rule that let it in.
    pub fn rule(&self) -> Admitted {
        self.rule
    }
}

/// Checks the source against the number's list, else its trunk's list; neither means refused, unless the number says
/// `allow_any_source`.
///
/// # Errors
/// [`Reason::SourceNotAllowed`].
pub fn check(source: IpAddr, number: &Number, trunk: Option<&Trunk>) -> Result<TrustedSource, Reason> {
    let source = source.to_canonical();
    let (listed, rule) = if number.allow_any_source {
        (true, Admitted::ByAnySource)
    } else if let Some(own) = &number.allowed_sources {
        (own.contains(source), Admitted::ByNumber)
    } else {
        (trunk.is_some_and(|trunk| trunk.allowed_sources.contains(source)), Admitted::ByTrunk)
    };
    if listed { Ok(TrustedSource { address: source, rule }) } else { Err(Reason::SourceNotAllowed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::sample;

    fn list(networks: &[&str]) -> SourceList {
        SourceList::new(networks.iter().map(|net| parse_network(net).unwrap()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn lists_take_addresses_networks_and_mapped_addresses() {
        let list = list(&["192.0.2.0/28", "198.51.100.7", "2001:db8::/32", "::ffff:203.0.113.0/120"]);
        for inside in ["192.0.2.15", "::ffff:192.0.2.1", "198.51.100.7", "2001:db8:1::9", "203.0.113.200"] {
            assert!(list.contains(ip(inside)), "{inside}");
        }
        for outside in ["192.0.2.16", "198.51.100.8", "2001:db9::1", "203.0.114.1"] {
            assert!(!list.contains(ip(outside)), "{outside}");
        }
        assert!(parse_network("192.0.2.0/33").unwrap_err().contains("192.0.2.0/33"));
    }

    #[test]
    fn the_peer_is_the_sender_unless_it_is_a_trusted_proxy() {
        let via = [
            ViaHop { received: None, sent_by: Some(ip("10.0.0.1")) },
            ViaHop { received: Some(ip("10.0.0.2")), sent_by: None },
            ViaHop { received: Some(ip("192.0.2.1")), sent_by: Some(ip("203.0.113.9")) },
        ];
        let trusted = list(&["10.0.0.0/8"]);
        assert_eq!(sender(ip("198.51.100.1"), &via, &trusted), Ok(ip("198.51.100.1")));
        assert_eq!(sender(ip("10.0.0.1"), &via, &trusted), Ok(ip("192.0.2.1")));
        assert_eq!(sender(ip("10.0.0.1"), &via, &SourceList::default()), Ok(ip("10.0.0.1")));
    }

    #[test]
    fn a_via_that_says_no_address_is_refused() {
        let trusted = list(&["10.0.0.0/8"]);
        let named = [ViaHop::default(), ViaHop::default()];
        assert_eq!(sender(ip("10.0.0.1"), &named, &trusted), Err(Reason::SourceNotAllowed));
        assert_eq!(sender(ip("10.0.0.1"), &[], &trusted), Err(Reason::SourceNotAllowed));
        let received = [ViaHop::default(), ViaHop { received: None, sent_by: Some(ip("192.0.2.3")) }];
        assert_eq!(sender(ip("10.0.0.1"), &received, &trusted), Ok(ip("192.0.2.3")));
    }

    #[test]
    fn the_number_list_applies_else_the_trunk_list_else_nobody() {
        let trunk = Trunk { allowed_sources: list(&["192.0.2.0/24"]), ..sample::trunk() };
        let bare = Number { allowed_sources: None, ..sample::number() };
        let own = Number { allowed_sources: Some(list(&["198.51.100.1"])), ..sample::number() };
        let open = Number { allow_any_source: true, ..bare.clone() };
        let rule = |number: &Number, trunk: Option<&Trunk>, from: &str| {
            check(ip(from), number, trunk).ok().map(|trusted| trusted.rule())
        };
        assert_eq!(rule(&bare, Some(&trunk), "::ffff:192.0.2.9"), Some(Admitted::ByTrunk));
        assert_eq!(rule(&bare, None, "192.0.2.9"), None);
        assert_eq!(rule(&own, Some(&trunk), "192.0.2.9"), None);
        assert_eq!(rule(&own, Some(&trunk), "198.51.100.1"), Some(Admitted::ByNumber));
        assert_eq!(rule(&open, None, "203.0.113.1"), Some(Admitted::ByAnySource));
    }
}
