//! Calls through a pool of two proxies in front of two backends (RFC 3261 §16; RFC 5658 for two Record-Routes).

mod failover;
mod flows;
mod full;
mod giving_up;
mod identity;
mod passing;
mod refusals;
mod requests;
mod routes;
mod storm;
mod ways;

use std::time::Duration;

use iqra_sip::event::{ClientTx, Event, OutgoingInvite, Reply, ServerTx};
use iqra_sip::roles::relay::{Plan, PoolName, RelayConfig, RelayEvent, RelayKeys, Target};
use iqra_sip::{DialogId, EngineConfig, Hop, StatusCode, Timings, Transport, Uri};

use crate::network::{CALLEE as ONE, CALLER, Network, Weather, is};

const A: usize = 2;
const B: usize = 3;
const TWO: usize = 4;
/// The address of the pool, which leads to either proxy.
pub(crate) const POOL: &str = "10.0.0.100:5060";

pub(crate) fn proxy(node: &str) -> EngineConfig {
    let mut relay = RelayConfig::new(node, RelayKeys::new([[9; 32]]).unwrap());
    let name = |transport| PoolName { transport, host: String::from("10.0.0.100"), port: 5060 };
    relay.pool = vec![name(Transport::Udp), name(Transport::Tcp)];
    let peers = [("a", "10.0.0.3:5060"), ("b", "10.0.0.4:5060")];
    let hop = |addr: &str| Hop::from((Transport::Udp, addr.parse().unwrap()));
    relay.peers = peers.iter().map(|(name, addr)| (String::from(*name), hop(addr))).collect();
    let timings = Timings { ring_limit: Duration::from_secs(190), ..Timings::default() };
    EngineConfig { relay: Some(relay), timings, ..EngineConfig::default() }
}

/// A caller and a backend on UDP, both proxies on UDP and TCP, and another backend.
fn pool(seed: u64, weather: Weather) -> Network {
    let mut net = Network::new(seed, weather);
    net.add_node(&[(Transport::Udp, "10.0.0.3:5060"), (Transport::Tcp, "10.0.0.3:5060")], proxy("a"));
    net.add_node(&[(Transport::Udp, "10.0.0.4:5060"), (Transport::Tcp, "10.0.0.4:5060")], proxy("b"));
    net.add_node(&[(Transport::Udp, "10.0.0.5:5060")], EngineConfig::default());
    net.alias(POOL, A);
    net
}

fn calm() -> Network {
    pool(1, Weather::default())
}

fn invite(net: &Network) -> OutgoingInvite {
    let to: Uri = format!("sip:callee@{POOL}").parse().unwrap();
    OutgoingInvite { uri: to, hops: vec![(net.transport, POOL.parse().unwrap()).into()], ..net.invite() }
}

fn target(net: &Network, node: usize) -> Target {
    let uri = format!("sip:callee@{};token=t{node}", net.nodes[node].addr);
    Target { uri: Some(uri.parse().unwrap()), ..Target::default() }
}

fn plan(net: &Network, nodes: &[usize]) -> Plan {
    Plan::new(nodes.iter().map(|node| target(net, *node)))
}

/// The caller calls and proxy A relays to these nodes; gives the caller's INVITE and A's.
fn relay(net: &mut Network, nodes: &[usize]) -> (ClientTx, ServerTx) {
    let call = invite(net);
    let (engine, now) = net.engine(CALLER);
    let ours = engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(A) else { panic!("no INVITE") };
    let plan = plan(net, nodes);
    let (engine, now) = net.engine(A);
    engine.relay(now, tx, plan).unwrap();
    assert!(matches!(step(net), RelayEvent::Trying { attempt: 1 }));
    (ours, tx)
}

/// The next event of the relayed call at A.
fn step(net: &mut Network) -> RelayEvent {
    match net.event(A) {
        Event::Relay { event, .. } => event,
        other => panic!("{other:?}"),
    }
}

/// The next target, as the plan has it.
fn go_on(net: &mut Network, tx: ServerTx) {
    let RelayEvent::NextTarget { target: Some(target), .. } = step(net) else { panic!("no next target") };
    let (engine, now) = net.engine(A);
    engine.relay_to(now, tx, &target).unwrap();
}

/// A has no further target for this request.
fn end_by_the_best(net: &mut Network, tx: ServerTx) {
    while !matches!(step(net), RelayEvent::NextTarget { target: None, .. }) {}
    let (engine, now) = net.engine(A);
    engine.relay_best(now, tx).unwrap();
}

fn invited(net: &mut Network, node: usize) -> ServerTx {
    match net.event(node) {
        Event::Invite { tx, .. } => tx,
        other => panic!("{other:?}"),
    }
}

fn answer(net: &mut Network, node: usize, tx: ServerTx, status: u16) {
    let (engine, now) = net.engine(node);
    engine.respond(now, tx, Reply::new(StatusCode::new(status).unwrap())).unwrap();
}

fn accept(net: &mut Network, node: usize, tx: ServerTx) -> DialogId {
    let (engine, now) = net.engine(node);
    engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap()
}

/// A whole call to backend one; both ends of its dialog.
fn connect(net: &mut Network) -> (DialogId, DialogId) {
    relay(net, &[ONE]);
    let tx = invited(net, ONE);
    let theirs = accept(net, ONE, tx);
    let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
    assert!(matches!(net.event(ONE), Event::Confirmed { .. }));
    assert!(matches!(step(net), RelayEvent::Answered(_)));
    (dialog, theirs)
}

/// The status of the caller's next response.
fn heard(net: &mut Network) -> u16 {
    match net.event(CALLER) {
        Event::Response { response, .. } => response.status.code(),
        other => panic!("{other:?}"),
    }
}

/// What a node sent first of a kind.
fn first(net: &Network, node: usize, what: &str) -> String {
    let found = net.sent.iter().find(|(from, text)| *from == node && is(text, what));
    found.unwrap_or_else(|| panic!("node {node} sent no {what}")).1.clone()
}

fn header<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

/// Who sent what, in order.
fn ladder(net: &Network) -> String {
    let name = |node: usize| ["caller", "one", "a", "b", "two"][node];
    let line = |text: &str| match text.strip_prefix("SIP/2.0 ") {
        Some(rest) => format!("{} to {}", &rest[..3], header(text, "CSeq")[0].split(' ').nth(1).unwrap()),
        None => text.split(' ').next().unwrap().to_owned(),
    };
    net.sent.iter().map(|(from, text)| format!("{}: {}\n", name(*from), line(text))).collect()
}
