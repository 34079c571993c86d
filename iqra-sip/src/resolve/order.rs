//! In which order records are used: NAPTR by order and preference (RFC 3403 §4.1), SRV by priority and, within one
//! priority, by lot according to the weights (RFC 2782).

use super::record::{Data, Naptr, Srv};
use crate::engine::flow::Transport;
use crate::engine::random::Random;

/// Puts the records of one answer in order. Addresses keep theirs.
pub(super) fn arrange(mut data: Vec<Data>, random: &mut Random) -> Vec<Data> {
    data.sort_by_key(|data| match data {
        Data::Naptr(naptr) => (naptr.order, naptr.preference),
        // Within a priority the weightless come first, so that they keep a small chance (RFC 2782).
        Data::Srv(srv) => (srv.priority, u16::from(srv.weight > 0)),
        Data::Address(_) | Data::Alias(_) => (0, 0),
    });
    let mut drawn = Vec::with_capacity(data.len());
    while !data.is_empty() {
        let next = lot(&data, random);
        drawn.push(data.remove(next));
    }
    drawn
}

/// Which of the first priority comes next: each with the chance of its weight. The first for what has no weights.
fn lot(data: &[Data], random: &mut Random) -> usize {
    let weight = |data: &Data| if let Data::Srv(srv) = data { u32::from(srv.weight) } else { 0 };
    let Some(Data::Srv(Srv { priority: first, .. })) = data.first() else { return 0 };
    let group = data.iter().take_while(|data| matches!(data, Data::Srv(srv) if srv.priority == *first));
    let sum: u32 = group.clone().map(weight).sum();
    let drawn = random.up_to(sum);
    let mut running = 0;
    group
        .map(|data| {
            running += weight(data);
            running
        })
        .position(|running| running >= drawn)
        .unwrap_or(0)
}

/// The transport that a NAPTR record offers over SRV (RFC 3263 §4.1, RFC 7118 §10); `None` for other services and for
/// records of other forms.
pub(super) fn offered(naptr: &Naptr) -> Option<Transport> {
    if !naptr.flags.eq_ignore_ascii_case("s") || !naptr.regexp.is_empty() {
        return None;
    }
    let services = [
        ("SIP+D2U", Transport::Udp),
        ("SIP+D2T", Transport::Tcp),
        ("SIPS+D2T", Transport::Tls),
        ("SIP+D2W", Transport::Ws),
        ("SIPS+D2W", Transport::Wss),
    ];
    let named = services.into_iter().find(|(service, _)| service.eq_ignore_ascii_case(&naptr.service));
    named.map(|(_, transport)| transport)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, target: &str) -> Data {
        Data::Srv(Srv { priority, weight, port: 5060, target: target.into() })
    }

    fn targets(data: &[Data]) -> Vec<String> {
        let target = |data: &Data| if let Data::Srv(srv) = data { srv.target.clone() } else { String::new() };
        data.iter().map(target).collect()
    }

    #[test]
    fn priorities_come_in_order_and_weights_by_lot() {
        let records =
            vec![srv(20, 0, "last"), srv(10, 3, "often"), srv(10, 1, "seldom"), srv(10, 0, "never")];
        let mut random = Random::new(7.into());
        let mut first = std::collections::HashMap::<String, u32>::new();
        for _ in 0..4_000 {
            let drawn = targets(&arrange(records.clone(), &mut random));
            assert_eq!((drawn.len(), drawn[3].as_str()), (4, "last"));
            *first.entry(drawn[0].clone()).or_default() += 1;
        }
        // Of the lots 0 to 4: 0 draws "never", 1 to 3 "often", 4 "seldom" (RFC 2782's running sum, in this order).
        assert!((2_200..2_600).contains(&first["often"]), "{first:?}");
        assert!((650..950).contains(&first["seldom"]), "{first:?}");
        assert!((650..950).contains(&first["never"]), "{first:?}");
    }

    #[test]
    fn the_same_seed_draws_the_same_order() {
        let records: Vec<_> = (0..8).map(|n| srv(1, n, &n.to_string())).collect();
        let draw = |seed: u64| targets(&arrange(records.clone(), &mut Random::new(seed.into())));
        assert_eq!(draw(5), draw(5));
        assert!((0..20).any(|seed| draw(seed) != draw(5)));
    }

    #[test]
    fn a_naptr_of_another_form_or_service_offers_nothing() {
        let naptr = |flags: &str, service: &str, regexp: &str| Naptr {
            order: 1,
            preference: 1,
            flags: flags.into(),
            service: service.into(),
            regexp: regexp.into(),
            replacement: "_sip._udp.example.org".into(),
        };
        assert_eq!(offered(&naptr("S", "sip+d2u", "")), Some(Transport::Udp));
        assert_eq!(offered(&naptr("s", "SIPS+D2T", "")), Some(Transport::Tls));
        assert_eq!(offered(&naptr("s", "SIPS+D2W", "")), Some(Transport::Wss));
        assert_eq!(offered(&naptr("u", "SIP+D2U", "")), None);
        assert_eq!(offered(&naptr("s", "SIP+D2S", "")), None, "no SCTP");
        assert_eq!(offered(&naptr("s", "E2U+sip", "")), None);
        assert_eq!(offered(&naptr("s", "SIP+D2U", "!^.*$!sip:x@y!")), None);
    }
}
