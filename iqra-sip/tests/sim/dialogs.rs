//! Requests inside calls: re-INVITE, glare, INFO, and a peer that is gone (RFC 3261 §12.2, §14).

use std::time::Duration;

use iqra_sip::event::{Body, EndReason, Event, Failure, Reliability, Reply, ServerTx};
use iqra_sip::{
    DialogId, EngineConfig, Flow, HeaderName, Headers, Method, Request, StatusCode, Transport, Uri,
};

use crate::callee::header;
use crate::calls::{connect, hang_up};
use crate::network::{CALLEE, CALLER, Network, Weather};
use crate::seeds::checks::dangling;
use crate::wire::{Wire, request, starts, tag_of};

fn ask(net: &mut Network, node: usize, dialog: &DialogId, method: Method) {
    let (engine, now) = net.engine(node);
    engine.dialog_request(now, dialog, method, &Headers::new(), None).unwrap();
}

fn status(event: Event) -> StatusCode {
    let Event::Response { response, .. } = event else { panic!("{event:?}") };
    response.status
}

#[test]
fn a_reinvite_is_delivered_answered_and_acknowledged() {
    let mut net = Network::calm();
    let (ours, theirs) = connect(&mut net);
    net.lose_first(CALLER, "ACK");
    ask(&mut net, CALLER, &ours, Method::Invite);
    let Event::DialogRequest { dialog, tx, .. } = net.event(CALLEE) else { panic!("no re-INVITE") };
    assert_eq!(dialog, theirs);
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, tx, Reply::new(StatusCode::OK)).unwrap();
    assert_eq!(status(net.event(CALLER)), StatusCode::OK);
    net.run(Duration::from_secs(2));
    assert_eq!(
        net.count(CALLER, "ACK"),
        3,
        "one for the call, two for the re-INVITE, the first of them lost"
    );
    assert!(net.nodes.iter().all(|node| node.events.is_empty() && node.engine.counts().dialogs == 1));
}

#[test]
fn reinvites_that_cross_are_both_answered_491() {
    let config = EngineConfig { glare_retries: 0, ..EngineConfig::default() };
    let mut net = Network::of(1, Weather::default(), Transport::Udp, config);
    let (ours, theirs) = connect(&mut net);
    ask(&mut net, CALLER, &ours, Method::Invite);
    ask(&mut net, CALLEE, &theirs, Method::Invite);
    assert_eq!(status(net.event(CALLER)), StatusCode::REQUEST_PENDING);
    assert_eq!(status(net.event(CALLEE)), StatusCode::REQUEST_PENDING);
    assert_eq!(net.nodes[CALLER].engine.counts().dialogs, 1);
}

#[test]
fn a_reinvite_that_waits_when_the_call_ends_is_answered_487() {
    let mut net = Network::calm();
    let (ours, theirs) = connect(&mut net);
    ask(&mut net, CALLER, &ours, Method::Invite);
    let Event::DialogRequest { .. } = net.event(CALLEE) else { panic!("no re-INVITE") };
    let (engine, now) = net.engine(CALLEE);
    engine.bye(now, &theirs, Headers::new()).unwrap();
    assert_eq!(status(net.event(CALLER)), StatusCode::REQUEST_TERMINATED);
    assert!(matches!(net.event(CALLER), Event::Ended { .. }));
    net.settle();
}

#[test]
fn a_481_inside_the_call_ends_it() {
    let mut net = Network::calm();
    let (ours, theirs) = connect(&mut net);
    net.lose(|from, text| from == CALLEE && text.starts_with("BYE "));
    let (engine, now) = net.engine(CALLEE);
    engine.bye(now, &theirs, Headers::new()).unwrap();
    ask(&mut net, CALLER, &ours, Method::Info);
    let ended = |event| matches!(event, Event::Ended { reason: EndReason::Unreachable, .. });
    assert!(ended(net.event(CALLER)));
    assert_eq!(status(net.event(CALLER)), StatusCode::CALL_DOES_NOT_EXIST);
    net.settle();
}

#[test]
fn silence_inside_the_call_ends_it() {
    let mut net = Network::calm();
    let (ours, _) = connect(&mut net);
    net.lose(|from, text| from == CALLEE && text.contains("INFO"));
    ask(&mut net, CALLER, &ours, Method::Info);
    let Event::DialogRequest { .. } = net.event(CALLEE) else { panic!("no INFO") };
    let event = net.event(CALLER);
    assert!(matches!(event, Event::Ended { reason: EndReason::Unreachable, .. }), "{event:?}");
    assert!(matches!(net.event(CALLER), Event::Failed { failure: Failure::Timeout, .. }));
    assert!(matches!(net.event(CALLEE), Event::Ended { .. }));
}

#[test]
fn a_dialog_that_is_over_takes_no_commands() {
    let mut net = Network::calm();
    let (ours, _) = connect(&mut net);
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &ours, Headers::new()).unwrap();
    assert!(engine.bye(now, &ours, Headers::new()).is_err());
    assert!(engine.dialog_request(now, &ours, Method::Info, &Headers::new(), None).is_err());
}

#[test]
fn a_reinvite_whose_2xx_comes_twice_after_the_end_has_one_response() {
    let mut net = Network::calm();
    let (ours, _) = connect(&mut net);
    net.lose(|from, text| from == CALLEE && text.contains("CSeq: 2 INVITE"));
    ask(&mut net, CALLER, &ours, Method::Invite);
    let Event::DialogRequest { tx, .. } = net.event(CALLEE) else { panic!("no re-INVITE") };
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, tx, Reply::new(StatusCode::OK)).unwrap();
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &ours, Headers::new()).unwrap();
    net.run(Duration::from_secs(1));
    let late = net.newest(CALLEE, "200").to_owned();
    let (local, remote) = (net.nodes[CALLER].addr, net.nodes[CALLEE].addr);
    let flow = Flow { transport: Transport::Udp, local, remote, connection: None };
    for _ in 0..2 {
        let (engine, now) = net.engine(CALLER);
        engine.handle_message(now, &flow, late.clone().into());
    }
    net.settle();
    assert_eq!(net.nodes[CALLER].events.len(), 1, "{:?}", net.nodes[CALLER].events);
}

/// The 2xx of the peer to a request of ours.
pub(crate) fn accepted(request: &str, extra: &str) -> String {
    let names = ["Via", "From", "To", "Call-ID", "CSeq"];
    let copied = request.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
    let copied: String = copied.map(|line| format!("{line}\r\n")).collect();
    format!("SIP/2.0 200 OK\r\n{copied}Contact: <sip:caller@198.51.100.7:5060>\r\n{extra}")
}

/// RFC 3261 §13.2.2.4, RFC 5407 §3.2.4: else the peer repeats it for 32 s.
#[test]
fn a_2xx_to_a_reinvite_is_acknowledged_each_time_though_its_call_is_over() {
    for ours in [false, true] {
        let mut wire = Wire::new(EngineConfig::default());
        let (dialog, _) = wire.take_call("Record-Route: <sip:198.51.100.7;lr>\r\n");
        let offer = Some(Body::sdp("v=0\r\n"));
        let (engine, now) = (&mut wire.engine, wire.now);
        engine.dialog_request(now, &dialog, Method::Invite, &Headers::new(), offer).unwrap();
        let reinvite = wire.out().remove(0);
        match ours {
            true => {
                wire.engine.bye(wire.now, &dialog, Headers::new()).unwrap();
                let bye = wire.out().remove(0);
                wire.say(accepted(&bye, "Content-Length: 0\r\n\r\n"));
            }
            false => {
                assert_eq!(starts(&wire.say(request("BYE", "b9", "9", &tag_of(&dialog), ""))), ["200"]);
            }
        }
        assert_eq!(wire.engine.counts().dialogs, 0);
        let ok = accepted(&reinvite, "Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n");
        let first = wire.say(ok.clone());
        assert!(first[0].starts_with("ACK sip:caller@198.51.100.7:5060 "), "{first:?}");
        assert_eq!((header(&first[0], "Route"), first.len()), ("<sip:198.51.100.7;lr>", 1));
        assert_eq!(header(&first[0], "CSeq").split(' ').next(), header(&reinvite, "CSeq").split(' ').next());
        assert_eq!(wire.say(ok), first, "as often as it comes");
        wire.wait(Duration::from_secs(60));
        assert_eq!(wire.engine.counts(), Default::default());
    }
}

/// A BYE of the peer ends our wait for the program's answer, and the peer's for the ACK.
#[test]
fn a_2xx_whose_offer_nobody_has_answered_is_acknowledged_when_the_peer_hangs_up() {
    let mut wire = Wire::new(EngineConfig::default());
    let (dialog, _) = wire.take_call("");
    wire.engine.dialog_request(wire.now, &dialog, Method::Invite, &Headers::new(), None).unwrap();
    let reinvite = wire.out().remove(0);
    let ok = accepted(&reinvite, "Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n");
    assert!(wire.say(ok.clone()).is_empty(), "the program answers");
    let out = wire.say(request("BYE", "b9", "9", &tag_of(&dialog), ""));
    assert!(out.iter().any(|text| text.starts_with("ACK ")), "{out:?}");
    assert!(wire.say(ok)[0].starts_with("ACK "));
}

#[test]
fn headers_of_our_own_on_a_bye_reach_the_other_side() {
    for node in [CALLER, CALLEE] {
        let mut net = Network::calm();
        let (ours, theirs) = connect(&mut net);
        let name = HeaderName::from_static("X-Outcome");
        let mut headers = Headers::new();
        headers.push(&name, "transferred; queue=\"two words\"");
        let (engine, now) = net.engine(node);
        engine.bye(now, if node == CALLER { &ours } else { &theirs }, headers).unwrap();
        let event = net.event(1 - node);
        let Event::Ended { reason: EndReason::Remote { headers }, .. } = event else { panic!("{event:?}") };
        assert_eq!(headers.get(&name).as_deref(), Some("transferred; queue=\"two words\""));
    }
}

/// Answers the request that a node has got, and says what it carried.
fn served(net: &mut Network, node: usize) -> String {
    let (tx, request) = match net.event(node) {
        Event::Request { tx, request, .. } | Event::DialogRequest { tx, request, .. } => (tx, request),
        event => panic!("{event:?}"),
    };
    assert_eq!(request.method, Method::Message);
    let (engine, now) = net.engine(node);
    engine.respond(now, tx, Reply::new(StatusCode::OK)).unwrap();
    String::from_utf8_lossy(&request.body).into_owned()
}

#[test]
fn a_message_is_answered_outside_calls_and_inside() {
    let mut net = Network::calm();
    let to: Uri = format!("sip:callee@{}", net.nodes[CALLEE].addr).parse().unwrap();
    let mut request = Request::new(Method::Message, to);
    request.headers.push(HeaderName::FROM, "<sip:caller@example.org>");
    request.headers.push(HeaderName::CONTENT_TYPE, "text/plain");
    request.body = "outside".into();
    let (engine, now) = net.engine(CALLER);
    engine.request(now, request, None).unwrap();
    assert_eq!(served(&mut net, CALLEE), "outside");
    assert_eq!(status(net.event(CALLER)), StatusCode::OK);

    let (_, theirs) = connect(&mut net);
    let body = Body { content_type: "text/plain".into(), bytes: "inside".into() };
    let (engine, now) = net.engine(CALLEE);
    engine.dialog_request(now, &theirs, Method::Message, &Headers::new(), Some(body)).unwrap();
    assert_eq!(served(&mut net, CALLER), "inside");
    assert_eq!(status(net.event(CALLEE)), StatusCode::OK);
}

#[test]
fn every_request_of_ours_asks_for_rport() {
    let mut net = Network::calm();
    let (ours, _) = connect(&mut net);
    hang_up(&mut net, CALLER, &ours);
    net.run(Duration::from_secs(1));
    for method in ["INVITE", "ACK", "BYE"] {
        let via = net.newest(CALLER, method).lines().find(|line| line.starts_with("Via: ")).unwrap();
        assert!(via.ends_with(";rport") || via.contains(";rport;"), "{via}");
    }
}

/// A request of the peer, an offer in it, as the program gets it.
fn offered(wire: &mut Wire, dialog: &DialogId, method: &str, number: &str, extra: &str) -> ServerTx {
    let extra = format!("{extra}Content-Type: application/sdp\r\n");
    let offer = request(method, &format!("within{number}"), number, &tag_of(dialog), &extra);
    let out = wire.say(offer.replace("Content-Length: 0\r\n\r\n", "Content-Length: 5\r\n\r\nv=0\r\n"));
    assert!(out.is_empty(), "{out:?}");
    let Some(Event::DialogRequest { tx, .. }) = wire.event() else { panic!("no {method}") };
    tx
}

#[test]
fn a_reinvite_whose_answer_cannot_be_sent_keeps_no_other_away() {
    for status in [StatusCode::RINGING, StatusCode::SESSION_PROGRESS] {
        let reliability = Reliability::IfSupported;
        let mut wire = Wire::new(EngineConfig { reliability, ..EngineConfig::default() });
        let (dialog, _) = wire.take_call("");
        let tx = offered(&mut wire, &dialog, "INVITE", "2", "Supported: 100rel\r\n");
        let body = (status == StatusCode::SESSION_PROGRESS).then(|| Body::sdp("v=0\r\n"));
        wire.engine.respond(wire.now, tx, Reply { body, ..Reply::new(status) }).unwrap();
        let unsent = wire.engine.poll_transmit().unwrap();
        wire.engine.handle_transport_error(wire.now, &unsent);
        assert!(matches!(wire.event(), Some(Event::Cancelled { .. })));
        assert_eq!(dangling(&wire.engine), [""; 0]);
        let out = wire.wait(Duration::from_secs(40));
        assert!(out.is_empty() && wire.event().is_none(), "nothing of it is left: {out:?}");
        let again = offered(&mut wire, &dialog, "INVITE", "3", "");
        wire.engine.respond(wire.now, again, Reply::new(StatusCode::NOT_ACCEPTABLE_HERE)).unwrap();
        assert_eq!(starts(&wire.out()), ["488"]);
        let offer = Some(Body::sdp("v=0\r\n"));
        wire.engine.dialog_request(wire.now, &dialog, Method::Invite, &Headers::new(), offer).unwrap();
    }
}

#[test]
fn a_request_that_the_program_forgets_keeps_no_other_away() {
    let mut wire = Wire::new(EngineConfig::default());
    let (dialog, _) = wire.take_call("");
    for (number, method) in ["UPDATE", "INVITE", "UPDATE", "INVITE"].into_iter().enumerate() {
        let tx = offered(&mut wire, &dialog, method, &(number + 2).to_string(), "");
        wire.engine.forget(tx);
        assert_eq!(dangling(&wire.engine), [""; 0]);
    }
    let offer = Some(Body::sdp("v=0\r\n"));
    wire.engine.dialog_request(wire.now, &dialog, Method::Invite, &Headers::new(), offer).unwrap();
}

#[test]
fn a_call_that_ends_while_an_ack_is_due_ends_once() {
    let mut wire = Wire::new(EngineConfig::default());
    let (dialog, _) = wire.take_call("");
    wire.engine.dialog_request(wire.now, &dialog, Method::Info, &Headers::new(), None).unwrap();
    wire.wait(Duration::from_secs(10));
    let tx = offered(&mut wire, &dialog, "INVITE", "2", "");
    wire.engine.respond(wire.now, tx, Reply::new(StatusCode::OK)).unwrap();
    let sent = wire.wait(Duration::from_secs(120));
    let numbers = sent.iter().filter(|text| text.starts_with("BYE ")).map(|bye| header(bye, "CSeq"));
    assert_eq!(numbers.collect::<std::collections::BTreeSet<_>>().len(), 1, "one BYE");
    let bye = sent.iter().position(|text| text.starts_with("BYE ")).unwrap();
    assert!(!starts(&sent[bye..]).contains(&"200"), "the 2xx goes out no more");
    let ends = wire.events().into_iter().filter(|event| matches!(event, Event::Ended { .. })).count();
    assert_eq!(ends, 1);
    assert_eq!(wire.engine.counts(), Default::default());
}
