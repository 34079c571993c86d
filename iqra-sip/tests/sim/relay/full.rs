//! A proxy whose table of transactions is full: calls that are up go on, by a reserve that ends too.

use iqra_sip::event::Event;
use iqra_sip::observe::DropReason;
use iqra_sip::{Headers, Method};

use super::*;

/// Places of A's table; its reserve has five more.
const PLACES: usize = 40;

/// A call by a proxy that somebody else then fills with new requests.
fn filled() -> (Network, DialogId) {
    let mut net = Network::new(1, Weather::default());
    let small = EngineConfig { max_transactions: PLACES, ..proxy("a") };
    net.add_node(&[(Transport::Udp, "10.0.0.3:5060"), (Transport::Tcp, "10.0.0.3:5060")], small);
    net.add_node(&[(Transport::Udp, "10.0.0.4:5060"), (Transport::Tcp, "10.0.0.4:5060")], proxy("b"));
    net.add_node(&[(Transport::Udp, "10.0.0.5:5060")], EngineConfig::default());
    net.alias(POOL, A);
    let (ours, _) = connect(&mut net);
    for n in 0..PLACES + 5 {
        let options = format!(
            "OPTIONS sip:x@10.0.0.3 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.77:5060;branch=z9hG4bKf{n}\r\n\
             From: <sip:a@example.org>;tag={n}\r\nTo: <sip:x@10.0.0.3>\r\nCall-ID: filling-{n}\r\n\
             CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        net.inject("10.0.0.77:5060".parse().unwrap(), A, options);
    }
    net.run(Duration::from_secs(1));
    assert!(net.nodes[A].engine.dropped().of(DropReason::Full) > 0);
    (net, ours)
}

fn transactions(net: &Network) -> usize {
    let counts = net.nodes[A].engine.counts();
    counts.server_transactions + counts.client_transactions
}

#[test]
fn a_call_that_is_up_is_hung_up_by_the_reserve() {
    let (mut net, ours) = filled();
    assert_eq!(transactions(&net), PLACES);
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &ours, Headers::new()).unwrap();
    assert!(matches!(net.event(ONE), Event::Ended { .. }));
    assert_eq!(net.count(A, "BYE"), 1);
}

#[test]
fn the_reserve_ends_and_says_when_to_come_again() {
    let (mut net, ours) = filled();
    for statuses in [&[][..], &[], &["503"], &["503"]] {
        let before = net.sent.len();
        let (engine, now) = net.engine(CALLER);
        engine.dialog_request(now, &ours, Method::Info, &Headers::new(), None).unwrap();
        net.run(Duration::from_millis(100));
        let by_a = net.sent[before..].iter().filter(|(from, text)| *from == A && text.starts_with("SIP/2.0"));
        let refused: Vec<&str> = by_a.clone().map(|(_, text)| &text[8..11]).collect();
        assert_eq!(refused, statuses);
        assert!(by_a.clone().all(|(_, text)| header(text, "Retry-After")[0].parse::<u32>().is_ok()));
    }
    assert_eq!(transactions(&net), PLACES + 5);
}
