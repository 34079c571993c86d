//! Networks of addresses, as lists in a configuration name them: `192.0.2.7`, `198.51.100.0/24`, `2001:db8::/32`.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Bits that an IPv4 address gains when it is written as an IPv6 one (RFC 4291 §2.5.5.2).
const MAPPED: u8 = 96;

/// An address with the length of its prefix, IPv4 or IPv6; the bits behind the prefix are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    bits: u128,
    /// Of the address as an IPv6 one.
    prefix: u8,
}

/// Why a text names no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network: write an address, or an address and a prefix such as 198.51.100.0/24")]
pub struct NetworkError(String);

impl Network {
    /// The network of an address: its first `v4` or `v6` bits.
    #[must_use]
    pub fn of(ip: IpAddr, v4: u8, v6: u8) -> Self {
        let prefix = match ip.to_canonical() {
            IpAddr::V4(_) => MAPPED + v4.min(32),
            IpAddr::V6(_) => v6.min(128),
        };
        Self { bits: bits(ip) & mask(prefix), prefix }
    }

    /// True where the address is in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        bits(ip) & mask(self.prefix) == self.bits
    }
}

/// IPv4 addresses are looked at as IPv6 ones, which they are on a socket for both.
fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || NetworkError(text.to_owned());
        let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
        let ip: IpAddr = ip.parse().map_err(|_| error())?;
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), str::parse::<u8>).map_err(|_| error())?;
        if prefix > longest {
            return Err(error());
        }
        let prefix = if ip.is_ipv4() { MAPPED + prefix } else { prefix };
        Ok(Self { bits: bits(ip) & mask(prefix), prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v6 = Ipv6Addr::from_bits(self.bits);
        match v6.to_ipv4_mapped().filter(|_| self.prefix >= MAPPED) {
            Some(v4) => write!(f, "{v4}/{}", self.prefix - MAPPED),
            None => write!(f, "{v6}/{}", self.prefix),
        }
    }
}

/// A list of networks, looked up with one probe for each length of prefix in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    by_prefix: Vec<(u8, HashSet<u128>)>,
}

impl Networks {
    /// True where one of them holds the address.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let bits = bits(ip);
        self.by_prefix.iter().any(|(prefix, networks)| networks.contains(&(bits & mask(*prefix))))
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let mut by_prefix: Vec<(u8, HashSet<u128>)> = Vec::new();
        for Network { bits, prefix } in networks {
            match by_prefix.iter_mut().find(|(known, _)| *known == prefix) {
                Some((_, set)) => drop(set.insert(bits)),
                None => by_prefix.push((prefix, HashSet::from([bits]))),
            }
        }
        Self { by_prefix }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Networks {
        list.iter().map(|text| text.parse::<Network>().unwrap()).collect()
    }

    #[test]
    fn a_list_holds_what_its_prefixes_cover_whichever_the_family() {
        let list = networks(&["198.51.100.0/24", "192.0.2.7", "2001:db8:1::/48", "10.0.0.0/8"]);
        for inside in ["198.51.100.255", "192.0.2.7", "2001:db8:1:2::3", "10.9.8.7", "::ffff:192.0.2.7"] {
            assert!(list.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["198.51.101.0", "192.0.2.8", "2001:db8:2::1", "::c000:207", "11.0.0.0"] {
            assert!(!list.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!(!networks(&[]).contains("192.0.2.7".parse().unwrap()));
        assert!(networks(&["0.0.0.0/0"]).contains("203.0.113.1".parse().unwrap()));
        assert!(!networks(&["0.0.0.0/0"]).contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn a_network_prints_as_it_is_written_and_nonsense_is_refused() {
        for text in ["198.51.100.0/24", "2001:db8::/32", "192.0.2.7/32", "::/0"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("198.51.100.9/24".parse::<Network>().unwrap().to_string(), "198.51.100.0/24");
        for text in ["", "example.org", "192.0.2.7/33", "2001:db8::/129", "192.0.2.7/", "192.0.2/24"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
