//! What the transport changes: no repeats on streams, long requests by TCP, failures to send.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use iqra_sip::event::{Body, CallOptions, ClientTx, EngineError, Event, Failure, OutgoingInvite, Reply};
use iqra_sip::{
    ConnectionId, Engine, EngineConfig, Flow, FlowConfig, FlowFirst, HeaderName, Headers, Listener,
    StatusCode, Transmit, Transport,
};

use crate::callee::{SDP, SDP_TYPE, answer_to, outgoing, place, text};
use crate::calls::connect;
use crate::network::{CALLEE, CALLER, Network, Weather};

#[test]
fn on_a_stream_nothing_but_the_2xx_is_ever_repeated() {
    let mut net = Network::of(1, Weather::default(), Transport::Tcp, EngineConfig::default());
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    net.lose(|_, text| text.starts_with("ACK "));
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, tx, Reply::new(StatusCode::NOT_FOUND)).unwrap();
    net.settle();
    assert_eq!((net.count(CALLER, "INVITE"), net.count(CALLEE, "404")), (1, 1));
}

#[test]
fn a_call_over_a_stream_ends_without_lingering() {
    let mut net = Network::of(1, Weather::default(), Transport::Tcp, EngineConfig::default());
    let (ours, _) = connect(&mut net);
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &ours, Headers::new()).unwrap();
    net.event(CALLEE);
    net.run(Duration::from_millis(100));
    assert_eq!(net.nodes[CALLEE].engine.counts().dialogs, 0);
    net.settle();
}

#[test]
fn a_sips_uri_goes_by_tls_and_asks_to_be_called_back_so() {
    let (mut engine, call) = both_transports();
    let addr: SocketAddr = "10.0.0.1:5061".parse().unwrap();
    engine.add_listener(Listener::new(Transport::Tls, addr, None));
    for (uri, route) in [
        ("sips:a@10.0.0.2", None),
        ("sips:a@10.0.0.2;transport=tcp", None),
        ("sips:a@10.0.0.9", Some("<sip:10.0.0.2;lr>")),
        ("sips:a@10.0.0.9", Some("<sip:10.0.0.2;transport=tcp;lr>")),
    ] {
        let mut call = OutgoingInvite { uri: uri.parse().unwrap(), hops: Vec::new(), ..call.clone() };
        route.into_iter().for_each(|route| call.headers.push(HeaderName::ROUTE, route));
        engine.invite(Instant::now(), call).unwrap();
        let invite = engine.poll_transmit().unwrap();
        assert_eq!(invite.flow.transport, Transport::Tls);
        assert_eq!(invite.flow.remote, "10.0.0.2:5061".parse().unwrap());
        let text = String::from_utf8_lossy(&invite.bytes).into_owned();
        assert!(text.contains("Via: SIP/2.0/TLS 10.0.0.1:5061"), "{text}");
        assert!(text.contains("@10.0.0.1:5061>") && text.contains("Contact: <sips:"), "{text}");
    }
    let call =
        OutgoingInvite { uri: "sips:a@10.0.0.2;transport=udp".parse().unwrap(), hops: Vec::new(), ..call };
    assert!(matches!(engine.invite(Instant::now(), call), Err(EngineError::Misuse(_))));
}

#[test]
fn a_long_request_tries_tcp_also_where_we_listen_on_udp_alone() {
    let mut engine = Engine::new(EngineConfig::default(), 1);
    engine.add_listener(Listener::new(Transport::Udp, "10.0.0.1:5060".parse().unwrap(), None));
    let call = OutgoingInvite { body: Some(Body::sdp(vec![b'x'; 1_300])), ..Network::calm().invite() };
    engine.invite(Instant::now(), call).unwrap();
    let by_tcp = engine.poll_transmit().unwrap();
    assert_eq!(by_tcp.flow.transport, Transport::Tcp);
    let text = String::from_utf8_lossy(&by_tcp.bytes).into_owned();
    assert!(text.contains("@10.0.0.1:5060>") && !text.contains("transport=tcp>"), "{text}");
    engine.handle_transport_error(Instant::now(), &by_tcp);
    assert_eq!(engine.poll_transmit().unwrap().flow.transport, Transport::Udp);
}

fn both_transports() -> (Engine, OutgoingInvite) {
    let mut engine = Engine::new(EngineConfig::default(), 1);
    let addr: SocketAddr = "10.0.0.1:5060".parse().unwrap();
    engine.add_listener(Listener::new(Transport::Udp, addr, None));
    engine.add_listener(Listener::new(Transport::Tcp, addr, None));
    (engine, Network::calm().invite())
}

/// An INVITE of this length, on its way.
fn calling(sdp_bytes: usize) -> (Engine, Instant, ClientTx, Transmit) {
    let (mut engine, short) = both_transports();
    let call = OutgoingInvite { body: Some(Body::sdp(vec![b'x'; sdp_bytes])), ..short };
    let now = Instant::now();
    let tx = engine.invite(now, call).unwrap();
    let transmit = engine.poll_transmit().unwrap();
    (engine, now, tx, transmit)
}

#[test]
fn a_long_request_goes_by_tcp() {
    let (_, _, _, short) = calling(10);
    assert_eq!(short.flow.transport, Transport::Udp);
    let (_, _, _, long) = calling(1_300);
    assert_eq!(long.flow.transport, Transport::Tcp);
    assert!(String::from_utf8_lossy(&long.bytes).contains("Via: SIP/2.0/TCP 10.0.0.1:5060"));
}

#[test]
fn where_there_is_no_tcp_a_long_request_becomes_a_datagram_in_every_respect() {
    let (mut engine, now, tx, by_tcp) = calling(1_300);
    engine.handle_transport_error(now, &by_tcp);
    let by_udp = engine.poll_transmit().unwrap();
    assert_eq!(by_udp.flow.transport, Transport::Udp);
    let text = String::from_utf8_lossy(&by_udp.bytes).into_owned();
    assert!(text.contains("Via: SIP/2.0/UDP 10.0.0.1:5060") && !text.contains("/TCP"), "{text}");

    let now = now + Duration::from_millis(500);
    engine.handle_timeout(now);
    assert_eq!(engine.poll_transmit().as_ref(), Some(&by_udp), "it is repeated");
    engine.cancel(now, tx, Headers::new()).unwrap();
    for (answer, method) in [("180 Ringing", "CANCEL "), ("486 Busy Here", "ACK ")] {
        engine.handle_message(now, &by_udp.flow, response_to(&text, answer).into());
        let next = engine.poll_transmit().unwrap();
        assert!(next.bytes.starts_with(method.as_bytes()));
        assert_eq!(next.flow.transport, Transport::Udp, "{method}goes the way of its INVITE");
    }
}

#[test]
fn a_request_that_neither_way_carries_fails_once() {
    let (mut engine, now, _, by_tcp) = calling(1_300);
    engine.handle_transport_error(now, &by_tcp);
    let by_udp = engine.poll_transmit().unwrap();
    engine.handle_transport_error(now, &by_udp);
    assert!(matches!(engine.poll_event(), Some(Event::Failed { failure: Failure::Transport, .. })));
    assert!(engine.poll_event().is_none() && engine.poll_transmit().is_none());
    assert_eq!(engine.counts(), Default::default());
}

/// What a callee answers to a request of ours.
fn response_to(request: &str, status: &str) -> String {
    let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let lines = request.lines().filter(|line| copied.iter().any(|name| line.starts_with(name)));
    let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
    format!("SIP/2.0 {status}\r\n{lines}Content-Length: 0\r\n\r\n")
        .replace("\r\nCall-ID", ";tag=b\r\nCall-ID")
}

#[test]
fn a_request_that_cannot_be_sent_fails_at_once() {
    let (mut engine, call) = both_transports();
    let now = Instant::now();
    let tx = engine.invite(now, call).unwrap();
    let transmit = engine.poll_transmit().unwrap();
    engine.handle_transport_error(now, &transmit);
    let event = engine.poll_event();
    assert!(matches!(event, Some(Event::Failed { tx: failed, failure: Failure::Transport }) if failed == tx));
    assert_eq!(engine.counts(), Default::default());
}

#[test]
fn a_name_and_a_missing_listener_are_refused_with_the_remedy() {
    let (mut engine, call) = both_transports();
    let named =
        OutgoingInvite { uri: "sip:a@example.org".parse().unwrap(), hops: Vec::new(), ..call.clone() };
    let error = engine.invite(Instant::now(), named).unwrap_err();
    assert_eq!(error, EngineError::Unresolved("example.org".into()));
    let secure = OutgoingInvite { uri: "sips:a@10.0.0.2".parse().unwrap(), hops: Vec::new(), ..call.clone() };
    let udp = (Transport::Udp, "10.0.0.2:5060".parse().unwrap());
    let open = OutgoingInvite { hops: vec![udp.into()], ..secure };
    assert!(engine.invite(Instant::now(), open).is_err(), "never in the clear");
    let udp = (Transport::Udp, "[::1]:5060".parse().unwrap());
    let v6 = OutgoingInvite { hops: vec![udp.into()], ..call };
    assert!(matches!(engine.invite(Instant::now(), v6), Err(EngineError::NoListener(_))));
}

/// An engine with a call from `contact`, seen at a public address, that it then hangs up: where the BYE goes.
fn bye_to(contact: &str, transport: Transport, config: EngineConfig) -> Transmit {
    let mut engine = Engine::new(config, 1);
    let local: SocketAddr = "192.0.2.1:5060".parse().unwrap();
    engine.add_listener(Listener::new(transport, local, None));
    let connection = transport.is_reliable().then_some(ConnectionId(7));
    let flow = Flow { transport, local, remote: "198.51.100.7:4321".parse().unwrap(), connection };
    let invite = format!(
        "INVITE sip:a@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/{transport} 10.1.1.1;rport;branch=z9hG4bKx\r\n\
         Max-Forwards: 70\r\nFrom: <sip:b@c>;tag=f\r\nTo: <sip:a@c>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\
         Contact: <{contact}>\r\nContent-Length: 0\r\n\r\n"
    );
    let now = Instant::now();
    engine.handle_message(now, &flow, invite.clone().into());
    let Some(Event::Invite { tx, .. }) = engine.poll_event() else { panic!("no INVITE") };
    let dialog = engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    engine.bye(now, &dialog, Headers::new()).unwrap();
    let accepted = std::iter::from_fn(|| engine.poll_transmit()).last().unwrap();
    let text = String::from_utf8_lossy(&accepted.bytes).into_owned();
    let to = text.lines().find(|line| line.starts_with("To:")).unwrap();
    let ack = invite.replace("INVITE", "ACK").replace("z9hG4bKx", "z9hG4bKy").replace("To: <sip:a@c>", to);
    engine.handle_message(now, &flow, ack.into());
    let bye = std::iter::from_fn(|| engine.poll_transmit()).last().unwrap();
    assert!(bye.bytes.starts_with(b"BYE "));
    bye
}

#[test]
fn a_peer_behind_a_nat_is_hung_up_along_its_flow_and_any_other_at_its_contact() {
    let remote =
        |contact, transport| bye_to(contact, transport, EngineConfig::default()).flow.remote.to_string();
    assert_eq!(remote("sip:b@10.1.1.1:5060", Transport::Udp), "198.51.100.7:4321");
    assert_eq!(remote("sip:b@203.0.113.9:5070", Transport::Udp), "203.0.113.9:5070");
    assert_eq!(remote("sip:b@203.0.113.9:5070;ob", Transport::Udp), "198.51.100.7:4321");
    let flows = FlowConfig { first: FlowFirst::Never, ..FlowConfig::default() };
    let never =
        bye_to("sip:b@10.1.1.1:5060", Transport::Udp, EngineConfig { flows, ..EngineConfig::default() });
    assert_eq!(never.flow.remote.to_string(), "10.1.1.1:5060");
    let by_tcp = bye_to("sip:b@10.1.1.1:5060;transport=tcp", Transport::Tcp, EngineConfig::default());
    assert_eq!(by_tcp.flow.connection, Some(ConnectionId(7)));
}

/// RFC 3261 §19.1.1, RFC 3263 §4: `maddr` is where, whatever the host is, and with the port of the URI.
#[test]
fn a_contact_with_maddr_is_asked_there() {
    for (contact, remote) in [
        ("sip:b@203.0.113.9;maddr=203.0.113.10", "203.0.113.10:5060"),
        ("sip:b@203.0.113.9:5070;maddr=203.0.113.10", "203.0.113.10:5070"),
        ("sip:b@name.example;maddr=203.0.113.10", "203.0.113.10:5060"),
        ("sip:b@203.0.113.9;maddr=10.1.1.1", "198.51.100.7:4321"),
        ("sip:b@10.1.1.1;maddr=203.0.113.10", "203.0.113.10:5060"),
    ] {
        let bye = bye_to(contact, Transport::Udp, EngineConfig::default());
        assert_eq!(bye.flow.remote.to_string(), remote, "{contact}");
    }
}

#[test]
fn a_contact_of_a_client_behind_a_nat_asks_for_its_flow() {
    let flows = FlowConfig { outbound: true, ..FlowConfig::default() };
    let mut net =
        Network::of(1, Weather::default(), Transport::Udp, EngineConfig { flows, ..EngineConfig::default() });
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let invite = engine.poll_transmit().unwrap();
    assert!(String::from_utf8_lossy(&invite.bytes).contains("@10.0.0.1:5060;ob>"));
}

#[test]
fn a_long_ack_goes_by_tcp_and_a_short_one_by_udp() {
    for (lines, transport) in [(1, Transport::Udp), (300, Transport::Tcp)] {
        let options = CallOptions { delayed_offer: true, ..CallOptions::default() };
        let call = OutgoingInvite { body: None, options, ..outgoing(Transport::Udp) };
        let (mut wire, _, invite) = place(EngineConfig::default(), call);
        let extra = format!("Contact: <sip:b@198.51.100.7>\r\n{SDP_TYPE}");
        assert!(wire.say(answer_to(&invite, "200 OK", "b", &extra, SDP)).is_empty());
        let Some(Event::Answered { dialog, .. }) = wire.event() else { panic!("no answer") };
        let answer = Some(Body::sdp("a=x\r\n".repeat(lines)));
        wire.engine.acknowledge(wire.now, &dialog, &Headers::new(), answer).unwrap();
        let ack = wire.transmits().remove(0);
        assert_eq!(ack.flow.transport, transport);
        assert!(text(&ack).contains(&format!("Via: SIP/2.0/{transport} 192.0.2.1:5060")));
        let by_udp = ack.fallback.map(|flow| flow.transport);
        assert_eq!(by_udp, (transport == Transport::Tcp).then_some(Transport::Udp));
    }
}
