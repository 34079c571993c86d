//! Which responses are taken for answers to a request of ours (RFC 3261 §8.1.3.3, §17.1.3, §18.1.2).

use iqra_sip::observe::DropReason;
use iqra_sip::{ConnectionId, EngineConfig, Transport};

use crate::callee::{answer_to, outgoing, place};
use crate::wire::Wire;

fn called(transport: Transport) -> (Wire, String) {
    let (wire, _, invite) = place(EngineConfig::default(), outgoing(transport));
    let contact = "Contact: <sip:bob@198.51.100.7>\r\n";
    (wire, answer_to(&invite, "200 OK", "b", contact, ""))
}

fn is_dropped(wire: &mut Wire, response: String) {
    let before = wire.engine.dropped().of(DropReason::MisroutedResponse);
    assert!(wire.say(response.clone()).is_empty(), "{response}");
    assert!(wire.event().is_none(), "{response}");
    assert_eq!(wire.engine.dropped().of(DropReason::MisroutedResponse), before + 1, "{response}");
}

fn is_taken(wire: &mut Wire, response: String) {
    let out = wire.say(response.clone());
    assert!(out.first().is_some_and(|ack| ack.starts_with("ACK ")), "{response}: {out:?}");
}

#[test]
fn a_response_whose_via_is_not_ours_is_dropped() {
    let (mut wire, response) = called(Transport::Udp);
    for other in ["UDP 10.66.66.66:999", "UDP 192.0.2.1:5070", "TCP 192.0.2.1:5060", "UDP example.org"] {
        is_dropped(&mut wire, response.replace("UDP 192.0.2.1:5060", other));
    }
    is_taken(&mut wire, response);
}

#[test]
fn a_response_with_a_second_via_is_dropped() {
    let (mut wire, response) = called(Transport::Udp);
    let second = "SIP/2.0/UDP victim.example;branch=z9hG4bKv";
    is_dropped(&mut wire, response.replace("From: ", &format!("Via: {second}\r\nFrom: ")));
    is_dropped(&mut wire, response.replace(";rport\r\n", &format!(";rport, {second}\r\n")));
    is_taken(&mut wire, response);
}

#[test]
fn what_left_by_tls_is_not_answered_in_the_clear() {
    let (mut wire, response) = called(Transport::Tls);
    for clear in [Transport::Udp, Transport::Tcp, Transport::Ws] {
        wire.flow.transport = clear;
        is_dropped(&mut wire, response.clone());
    }
    wire.flow.transport = Transport::Tls;
    wire.flow.connection = Some(ConnectionId(9));
    is_taken(&mut wire, response);
}

#[test]
fn an_answer_by_another_way_back_is_taken() {
    for via in [
        "192.0.2.1:5060;received=203.0.113.1;rport=40001",
        "192.0.2.1;received=203.0.113.1",
        "192.0.2.1 : 5060",
    ] {
        let (mut wire, response) = called(Transport::Udp);
        wire.flow.remote = "203.0.113.5:33000".parse().unwrap();
        is_taken(&mut wire, response.replace("192.0.2.1:5060", via).replace(";rport\r\n", "\r\n"));
    }
    let (mut wire, response) = called(Transport::Udp);
    is_taken(&mut wire, response.replace("SIP/2.0/UDP", "SIP/2.0/udp"));
}
