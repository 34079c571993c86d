//! Routes that a caller has put into its INVITE before it came here (RFC 3261 §16.4 to §16.6): ours are taken off, others
//! lead nowhere unless the plan says so.

use iqra_sip::event::Event;
use iqra_sip::{HeaderName, Uri};

use super::*;

/// Names of the pool besides its address.
const POOL_NAME: &str = "pool.example";
/// Where the caller's own Route leads.
const STRANGER: &str = "10.0.0.66:5060";

/// A pool that has a name too, and a stranger who answers to nobody.
fn named_pool() -> (Network, usize) {
    let mut net = calm();
    let mut config = proxy("a");
    let name = PoolName { transport: Transport::Udp, host: String::from(POOL_NAME), port: 5060 };
    config.relay.as_mut().unwrap().pool.push(name);
    let sockets = [(Transport::Udp, "10.0.0.8:5060"), (Transport::Tcp, "10.0.0.8:5060")];
    let node = net.add_node(&sockets, config);
    net.alias(POOL, node);
    net.tape = Some(Vec::new());
    (net, node)
}

/// The caller calls by this Route; the INVITE at the proxy.
fn call_by(net: &mut Network, node: usize, route: &str) -> ServerTx {
    let mut call = invite(net);
    call.headers.push(HeaderName::ROUTE, route);
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    invited(net, node)
}

fn to_a_name() -> Target {
    Target { uri: Some("sip:callee@backend.example".parse().unwrap()), ..Target::default() }
}

fn by_hops(net: &Network, node: usize) -> Target {
    Target { hops: vec![(Transport::Udp, net.nodes[node].addr).into()], ..to_a_name() }
}

/// The proxy asks where this leads, and hears: to these nodes.
fn found(net: &mut Network, proxy: usize, uri: &str, nodes: &[usize]) {
    loop {
        match net.event(proxy) {
            Event::Lookup(lookup) => {
                assert_eq!(lookup.uri, uri.parse::<Uri>().unwrap());
                let hops = nodes.iter().map(|node| (Transport::Udp, net.nodes[*node].addr).into()).collect();
                let (engine, now) = net.engine(proxy);
                return engine.looked_up(now, *lookup, hops);
            }
            Event::Relay { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Where the proxy sent its INVITEs, and the Routes in them.
fn invites(net: &Network, proxy: usize) -> Vec<(String, Vec<String>)> {
    let left = |passage: &&crate::network::Passage| {
        passage.node == proxy && !passage.came && is(&passage.text, "INVITE")
    };
    let routes = |text: &str| header(text, "Route").into_iter().map(String::from).collect();
    let tape = net.tape.as_ref().unwrap().iter().filter(left);
    tape.map(|passage| (passage.peer.to_string(), routes(&passage.text))).collect()
}

const FOREIGN: [&str; 5] = [
    "<sip:10.0.0.66:5060;lr>",
    "<sip:10.0.0.66:5060>",
    "<sip:stranger.example;lr>",
    "<sip:10.0.0.100:5060;lr>, <sip:10.0.0.66:5060;lr>",
    "<sip:pool.example;lr>, <sip:stranger.example;lr>",
];

const OWN: [&str; 4] = [
    "<sip:10.0.0.100:5060;lr>",
    "<sip:10.0.0.8:5060;lr>",
    "<sip:pool.example;lr>",
    "<sip:POOL.example:5060;lr>, <sip:10.0.0.8;lr>",
];

#[test]
fn a_caller_s_routes_lead_to_the_plan_s_targets_alone() {
    for route in FOREIGN.into_iter().chain(OWN) {
        for (first_named, second_named) in [(true, false), (false, true), (true, true), (false, false)] {
            let (mut net, proxy) = named_pool();
            let tx = call_by(&mut net, proxy, route);
            let target =
                |net: &Network, named: bool, node| if named { to_a_name() } else { by_hops(net, node) };
            let plan = Plan::new([target(&net, first_named, ONE), target(&net, second_named, TWO)]);
            let (engine, now) = net.engine(proxy);
            engine.relay(now, tx, plan).unwrap();
            if first_named {
                found(&mut net, proxy, "sip:callee@backend.example", &[ONE]);
            }
            let refused = invited(&mut net, ONE);
            answer(&mut net, ONE, refused, 503);
            let next = loop {
                match net.event(proxy) {
                    Event::Relay { event: RelayEvent::NextTarget { target: Some(next), .. }, .. } => {
                        break next;
                    }
                    Event::Relay { .. } => {}
                    other => panic!("{other:?}"),
                }
            };
            let (engine, now) = net.engine(proxy);
            engine.relay_to(now, tx, &next).unwrap();
            if second_named {
                found(&mut net, proxy, "sip:callee@backend.example", &[TWO]);
            }
            let taken = invited(&mut net, TWO);
            accept(&mut net, TWO, taken);
            assert!(matches!(net.event(CALLER), Event::Answered { .. }));
            let sent = [ONE, TWO].map(|node| (net.nodes[node].addr.to_string(), Vec::new()));
            assert_eq!(invites(&net, proxy), sent, "{route}");
        }
    }
}

#[test]
fn a_target_that_leaves_the_uri_as_it_is_follows_no_route_either() {
    let (mut net, proxy) = named_pool();
    let mut call = invite(&net);
    call.uri = format!("sip:callee@{}", net.nodes[ONE].addr).parse().unwrap();
    call.headers.push(HeaderName::ROUTE, format!("<sip:{STRANGER};lr>"));
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let tx = invited(&mut net, proxy);
    let (engine, now) = net.engine(proxy);
    engine.relay(now, tx, Plan::new([Target::default()])).unwrap();
    invited(&mut net, ONE);
}

#[test]
fn a_plan_may_follow_the_caller_s_routes() {
    for (route, next) in [
        ("<sip:10.0.0.66:5060;lr>", None),
        ("<sip:10.0.0.8:5060;lr>, <sip:10.0.0.66:5060;lr>", None),
        ("<sip:pool.example;lr>, <sip:stranger.example;lr>", Some("sip:stranger.example;lr")),
    ] {
        let (mut net, proxy) = named_pool();
        net.alias(STRANGER, TWO);
        let tx = call_by(&mut net, proxy, route);
        let plan = Plan { follow_routes: true, ..Plan::new([to_a_name()]) };
        let (engine, now) = net.engine(proxy);
        engine.relay(now, tx, plan).unwrap();
        if let Some(next) = next {
            found(&mut net, proxy, next, &[TWO]);
        }
        invited(&mut net, TWO);
        let sent = invites(&net, proxy);
        assert_eq!(sent[0].1, [route.split(", ").last().unwrap()], "{sent:?}");
    }
}

#[test]
fn a_route_of_the_target_is_its_path() {
    let (mut net, proxy) = named_pool();
    net.alias(STRANGER, TWO);
    let tx = call_by(&mut net, proxy, "<sip:stranger.example;lr>");
    let mut target = to_a_name();
    target.headers.push(HeaderName::ROUTE, format!("<sip:{STRANGER};lr>"));
    let (engine, now) = net.engine(proxy);
    engine.relay(now, tx, Plan::new([target])).unwrap();
    invited(&mut net, TWO);
    assert_eq!(invites(&net, proxy), [(STRANGER.to_owned(), vec![format!("<sip:{STRANGER};lr>")])]);
}
