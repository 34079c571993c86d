//! Targets that are reached by the flow they registered over, and by no other (RFC 5626 §5.3).

use iqra_sip::event::{Body, Event, Failure};
use iqra_sip::roles::relay::AttemptFailure;
use iqra_sip::{Flow, HeaderName, Headers, Method, Request};

use super::*;

const CONTACT: &str = "sip:phone@df7jal23ls0d.invalid;transport=ws";

/// A phone on a stream, or behind a NAT, and the flow that A saw it register over.
fn registered(net: &mut Network, transport: Transport) -> (usize, Flow) {
    let phone = net.add_node(&[(transport, "10.0.0.7:49152")], EngineConfig::default());
    let mut register = Request::new(Method::Register, "sip:10.0.0.3".parse().unwrap());
    register.headers.push(HeaderName::FROM, "<sip:phone@example.org>");
    let hop = Hop::from((transport, net.nodes[A].addr));
    let (engine, now) = net.engine(phone);
    engine.request(now, register, [hop]).unwrap();
    let Event::Request { tx, flow, .. } = net.event(A) else { panic!("no REGISTER") };
    answer(net, A, tx, 200);
    assert!(matches!(net.event(phone), Event::Response { .. }));
    (phone, flow)
}

fn target_by(flow: Flow) -> Target {
    Target { uri: Some(CONTACT.parse().unwrap()), hops: vec![flow.into()], ..Target::default() }
}

/// The caller's INVITE, at A.
fn called(net: &mut Network) -> ServerTx {
    let call = invite(net);
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    invited(net, A)
}

#[test]
fn a_phone_is_called_by_its_flow_through_any_proxy() {
    for (through, caller_ends) in [(A, true), (A, false), (B, true), (B, false)] {
        let mut net = calm();
        let (phone, flow) = registered(&mut net, Transport::Tcp);
        let tx = called(&mut net);
        let (engine, now) = net.engine(A);
        engine.relay(now, tx, Plan::new([target_by(flow)])).unwrap();
        let taken = invited(&mut net, phone);
        let (engine, now) = net.engine(phone);
        let reply = Reply::new(StatusCode::OK).header(HeaderName::CONTACT, format!("<{CONTACT}>"));
        let theirs = engine.accept(now, taken, reply).unwrap();
        let Event::Answered { dialog: ours, .. } = net.event(CALLER) else { panic!("no answer") };
        net.alias(POOL, through);
        assert!(matches!(net.event(phone), Event::Confirmed { .. }), "the ACK too");
        let (from, dialog, to) = if caller_ends { (CALLER, ours, phone) } else { (phone, theirs, CALLER) };
        let (engine, now) = net.engine(from);
        engine.bye(now, &dialog, Headers::new()).unwrap();
        let event = net.event(to);
        assert!(matches!(event, Event::Ended { .. }), "{event:?}");
        net.settle();
        assert!(!net.nodes[A].events.iter().any(|event| matches!(event, Event::Lookup(_))));
    }
}

#[test]
fn a_flow_that_is_gone_gives_way_to_the_next_target_or_430() {
    for another in [true, false] {
        let mut net = calm();
        let (phone, flow) = registered(&mut net, Transport::Tcp);
        net.cut(net.nodes[phone].addr);
        let tx = called(&mut net);
        let mut plan = Plan::new([target_by(flow)]);
        plan.targets.extend(another.then(|| target(&net, TWO)));
        let (engine, now) = net.engine(A);
        engine.relay(now, tx, plan).unwrap();
        assert!(matches!(step(&mut net), RelayEvent::Trying { attempt: 1 }));
        let RelayEvent::NextTarget { failure: AttemptFailure::FlowGone, target, .. } = step(&mut net) else {
            panic!("the flow is not missed")
        };
        match target {
            Some(target) => {
                let (engine, now) = net.engine(A);
                engine.relay_to(now, tx, &target).unwrap();
                invited(&mut net, TWO);
            }
            None => {
                let (engine, now) = net.engine(A);
                engine.relay_best(now, tx).unwrap();
                assert_eq!(heard(&mut net), 430);
            }
        }
    }
    let mut net = calm();
    let (phone, flow) = registered(&mut net, Transport::Tcp);
    net.cut(net.nodes[phone].addr);
    let call = OutgoingInvite { uri: CONTACT.parse().unwrap(), hops: vec![flow.into()], ..net.invite() };
    let (engine, now) = net.engine(A);
    engine.invite(now, call).unwrap();
    assert!(matches!(net.event(A), Event::Failed { failure: Failure::Transport, .. }), "our own call");
}

#[test]
fn a_long_request_stays_on_the_flow_of_its_peer() {
    let mut net = calm();
    let (phone, flow) = registered(&mut net, Transport::Udp);
    net.tape = Some(Vec::new());
    let long = Body::sdp(format!("v=0\r\n{}", "a=long\r\n".repeat(400)));
    let call = OutgoingInvite {
        body: Some(long),
        hops: vec![(Transport::Tcp, net.nodes[A].addr).into()],
        ..invite(&net)
    };
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let tx = invited(&mut net, A);
    let (engine, now) = net.engine(A);
    engine.relay(now, tx, Plan::new([target_by(flow)])).unwrap();
    invited(&mut net, phone);
    let went = first(&net, A, "INVITE");
    assert!(went.len() > 3_000 && header(&went, "Via")[0].starts_with("SIP/2.0/UDP"), "{}", went.len());
}
