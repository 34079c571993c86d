//! What the SQL stores of numbers have in common: networks as texts that are looked up by equality, and what rows become.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Trunk;
use crate::source::Standing;

/// Every network that has the address, as a [`SourceList`](crate::source::SourceList) writes them: an index finds them
/// by equality, where comparing ranges would read them all.
pub(super) fn networks_of(address: IpAddr) -> Vec<String> {
    let address = address.to_canonical();
    let longest = IpNet::from(address).max_prefix_len();
    let of = |prefix| IpNet::new(address, prefix).ok().map(|net| net.trunc().to_string());
    (0..=longest).filter_map(of).collect()
}

/// What is known of an address whose networks belong to these trunks, given with the network's text.
pub(super) fn standing(source: IpAddr, mut trunks: Vec<(String, Trunk)>, in_a_number_list: bool) -> Standing {
    let width = |network: &str| network.rsplit('/').next().and_then(|prefix| prefix.parse::<u8>().ok());
    trunks.sort_by(|(a, one), (b, other)| width(b).cmp(&width(a)).then_with(|| one.id.cmp(&other.id)));
    let mut standing = Standing {
        source: source.to_canonical(),
        trunks: Vec::with_capacity(trunks.len()),
        in_a_number_list,
    };
    for (_, trunk) in trunks {
        if !standing.trunks.iter().any(|known: &Arc<Trunk>| known.id == trunk.id) {
            standing.trunks.push(Arc::new(trunk));
        }
    }
    standing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::sample;
    use crate::source::parse_network;

    #[test]
    fn an_address_is_found_by_every_network_that_has_it() {
        for (address, network, count) in [
            ("192.0.2.77", "192.0.2.64/26", 33),
            ("::ffff:192.0.2.77", "192.0.2.77", 33),
            ("2001:db8::1", "::/0", 129),
        ] {
            let networks = networks_of(address.parse().unwrap());
            assert!(networks.contains(&parse_network(network).unwrap().to_string()), "{address} {network}");
            assert_eq!(networks.len(), count);
        }
    }

    #[test]
    fn the_narrowest_network_comes_first_and_a_trunk_once() {
        let trunk = |id: &str| Trunk { id: id.parse().unwrap(), ..sample::trunk() };
        let of = |network: &str, id: &str| (network.to_owned(), trunk(id));
        let rows = vec![of("0.0.0.0/0", "a"), of("10.0.0.0/8", "b"), of("10.0.0.7/32", "a")];
        let ids: Vec<_> =
            standing([10, 0, 0, 7].into(), rows, false).trunks.iter().map(|t| t.id.to_string()).collect();
        assert_eq!(ids, ["a", "b"]);
    }
}
