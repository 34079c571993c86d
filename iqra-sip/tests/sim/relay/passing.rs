//! Requests inside dialogs, which any proxy of the pool forwards from their Route alone.

use iqra_sip::event::{Event, Reply};
use iqra_sip::observe::DropReason;
use iqra_sip::{Flow, Headers, Method, StatusCode};

use super::*;

fn hang_up(net: &mut Network, node: usize, dialog: &DialogId) {
    let (engine, now) = net.engine(node);
    engine.bye(now, dialog, Headers::new()).unwrap();
}

fn info(net: &mut Network, node: usize, dialog: &DialogId) {
    let (engine, now) = net.engine(node);
    engine.dialog_request(now, dialog, Method::Info, &Headers::new(), None).unwrap();
}

#[test]
fn the_other_proxy_forwards_what_the_first_relayed() {
    for (node, caller_hangs_up) in [(CALLER, true), (ONE, false)] {
        let mut net = calm();
        let (ours, theirs) = connect(&mut net);
        net.alias(POOL, B);
        let dialog = if caller_hangs_up { ours } else { theirs };
        hang_up(&mut net, node, &dialog);
        let event = net.event(if caller_hangs_up { ONE } else { CALLER });
        assert!(matches!(event, Event::Ended { .. }), "{event:?}");
        net.settle();
        assert_eq!((net.count(A, "BYE"), net.count(B, "BYE")), (0, 1));
    }
}

#[test]
fn requests_and_answers_pass_both_ways_and_a_reinvite_with_its_ack() {
    let mut net = calm();
    let (ours, theirs) = connect(&mut net);
    info(&mut net, CALLER, &ours);
    let Event::DialogRequest { tx, .. } = net.event(ONE) else { panic!("no INFO") };
    answer(&mut net, ONE, tx, 200);
    assert_eq!(heard(&mut net), 200);
    let (engine, now) = net.engine(ONE);
    engine.dialog_request(now, &theirs, Method::Invite, &Headers::new(), None).unwrap();
    let Event::DialogRequest { tx, .. } = net.event(CALLER) else { panic!("no re-INVITE") };
    answer(&mut net, CALLER, tx, 200);
    net.run(Duration::from_secs(1));
    assert_eq!((net.count(ONE, "ACK"), net.count(A, "ACK")), (1, 2), "one for each INVITE");
    assert_eq!(net.count(CALLER, "200"), 1, "the ACK arrived");
    hang_up(&mut net, ONE, &theirs);
    net.settle();
}

#[test]
fn a_reinvite_that_nobody_answers_hears_408_and_an_info_hears_nothing() {
    let mut net = calm();
    let (ours, _) = connect(&mut net);
    net.lose(|from, _| from == ONE);
    info(&mut net, CALLER, &ours);
    net.run(Duration::from_secs(100));
    assert_eq!(
        net.sent
            .iter()
            .filter(|(from, text)| *from == A && text.contains("CSeq: 2 INFO") && text.starts_with("SIP/2.0"))
            .count(),
        0
    );
    assert_eq!(net.nodes[A].engine.counts(), Default::default());
    let mut net = calm();
    let (ours, _) = connect(&mut net);
    net.lose(|from, _| from == ONE);
    let (engine, now) = net.engine(CALLER);
    engine.dialog_request(now, &ours, Method::Invite, &Headers::new(), None).unwrap();
    net.run(Duration::from_secs(200));
    assert_eq!(net.count(A, "408"), 1);
    assert_eq!(net.nodes[A].engine.counts(), Default::default());
}

#[test]
fn between_udp_and_tcp_two_record_routes_lead_each_side_to_us() {
    let mut net = calm();
    let backend = net.add_node(&[(Transport::Tcp, "10.0.0.6:5060")], EngineConfig::default());
    let call = invite(&net);
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(A) else { panic!("no INVITE") };
    let uri = "sip:callee@10.0.0.6:5060;transport=tcp".parse().unwrap();
    let plan = Plan::new([Target { uri: Some(uri), ..Target::default() }]);
    let (engine, now) = net.engine(A);
    engine.relay(now, tx, plan).unwrap();
    let taken = invited(&mut net, backend);
    let routes: Vec<String> =
        header(&first(&net, A, "INVITE"), "Record-Route").into_iter().map(String::from).collect();
    assert_eq!(routes.len(), 2, "{routes:?}");
    assert!(routes[0].ends_with("@10.0.0.100:5060;transport=tcp;lr>"), "{routes:?}");
    assert!(routes[1].ends_with("@10.0.0.100:5060;lr>"), "{routes:?}");
    let theirs = accept(&mut net, backend, taken);
    let Event::Answered { dialog: ours, .. } = net.event(CALLER) else { panic!("no answer") };
    assert!(matches!(net.event(backend), Event::Confirmed { .. }));
    info(&mut net, CALLER, &ours);
    let Event::DialogRequest { tx, .. } = net.event(backend) else { panic!("no INFO") };
    answer(&mut net, backend, tx, 200);
    hang_up(&mut net, backend, &theirs);
    net.settle();
    assert_eq!((net.count(CALLER, "200 BYE"), net.count(backend, "200 INFO")), (1, 1));
}

/// A call from a caller on a stream, whose Contact leads nowhere; both ends of its dialog, and the caller's node.
fn connect_by_stream(net: &mut Network) -> (usize, DialogId, DialogId) {
    let phone = net.add_node(&[(Transport::Tcp, "10.0.0.7:49152")], EngineConfig::default());
    let mut call = invite(net);
    call.hops = vec![(Transport::Tcp, net.nodes[A].addr).into()];
    call.headers.push(iqra_sip::HeaderName::CONTACT, "<sip:phone@192.168.1.9:5060;transport=tcp>");
    let (engine, now) = net.engine(phone);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(A) else { panic!("no INVITE") };
    let plan = plan(net, &[ONE]);
    let (engine, now) = net.engine(A);
    engine.relay(now, tx, plan).unwrap();
    let taken = invited(net, ONE);
    let theirs = accept(net, ONE, taken);
    let Event::Answered { dialog, .. } = net.event(phone) else { panic!("no answer") };
    assert!(matches!(net.event(ONE), Event::Confirmed { .. }));
    (phone, dialog, theirs)
}

#[test]
fn a_caller_on_a_stream_is_reached_by_its_own_connection_through_any_proxy() {
    for (through, hops) in [(A, 1), (B, 1)] {
        let mut net = calm();
        let (phone, _, theirs) = connect_by_stream(&mut net);
        net.alias(POOL, through);
        hang_up(&mut net, ONE, &theirs);
        let event = net.event(phone);
        assert!(matches!(event, Event::Ended { .. }), "{event:?}");
        net.settle();
        assert_eq!(net.count(A, "BYE"), hops, "its owner sends it");
        assert_eq!(net.count(B, "BYE"), usize::from(through == B));
    }
}

#[test]
fn a_caller_whose_connection_is_gone_and_whose_contact_is_private_gives_430() {
    let mut net = calm();
    let (phone, ours, theirs) = connect_by_stream(&mut net);
    net.cut(net.nodes[phone].addr);
    info(&mut net, ONE, &theirs);
    let Event::Response { response, .. } = net.event(ONE) else { panic!("no response") };
    assert_eq!(response.status, StatusCode::FLOW_FAILED);
    hang_up(&mut net, phone, &ours);
    let event = net.event(ONE);
    assert!(matches!(event, Event::Ended { .. }), "{event:?}");
}

#[test]
fn a_proxy_that_was_started_anew_has_no_connections_of_before() {
    let mut net = calm();
    let (_, _, theirs) = connect_by_stream(&mut net);
    let fresh =
        net.add_node(&[(Transport::Udp, "10.0.0.3:5060"), (Transport::Tcp, "10.0.0.3:5060")], proxy("a"));
    net.alias(POOL, fresh);
    info(&mut net, ONE, &theirs);
    let Event::Response { response, .. } = net.event(ONE) else { panic!("no response") };
    assert_eq!(response.status, StatusCode::FLOW_FAILED);
}

#[test]
fn a_strict_router_on_the_way_gets_its_request_through() {
    let mut net = calm();
    let (ours, _) = connect(&mut net);
    net.lose(|from, text| from == CALLER && is(text, "BYE"));
    hang_up(&mut net, CALLER, &ours);
    net.run(Duration::from_millis(1));
    let bye = first(&net, CALLER, "BYE");
    let route = header(&bye, "Route")[0].to_owned();
    let uri = bye.split(' ').nth(1).unwrap().to_owned();
    let inner = route.trim_matches(['<', '>']);
    let strict = bye
        .replacen(&format!("BYE {uri} "), &format!("BYE {inner} "), 1)
        .replace(&format!("Route: {route}"), &format!("Route: <{uri}>"));
    let flow = Flow {
        transport: Transport::Udp,
        local: POOL.parse().unwrap(),
        remote: net.nodes[CALLER].addr,
        connection: None,
    };
    let (engine, now) = net.engine(A);
    engine.handle_message(now, &flow, strict.into());
    let event = net.event(ONE);
    assert!(matches!(event, Event::Ended { .. }), "{event:?}");
    let went = first(&net, A, "BYE");
    assert!(went.starts_with(&format!("BYE {uri} SIP/2.0")) && header(&went, "Route").is_empty(), "{went}");
}

#[test]
fn a_contact_that_is_a_name_waits_for_its_address() {
    let mut net = calm();
    let (_, tx) = relay(&mut net, &[ONE]);
    let theirs = invited(&mut net, ONE);
    let reply =
        Reply::new(StatusCode::OK).header(iqra_sip::HeaderName::CONTACT, "<sip:callee@backend.example>");
    let (engine, now) = net.engine(ONE);
    engine.accept(now, theirs, reply).unwrap();
    assert!(matches!(net.event(CALLER), Event::Answered { .. }));
    assert!(matches!(net.event(A), Event::Relay { tx: told, .. } if told == tx));
    let hop = Hop::from((Transport::Udp, net.nodes[ONE].addr));
    found(&mut net, "sip:callee@backend.example", vec![hop]);
    assert!(matches!(net.event(ONE), Event::Confirmed { .. }));
}

#[test]
fn acks_to_names_are_looked_up_within_a_bound_and_pass_again_once_answers_come() {
    let mut net = Network::new(1, Weather::default());
    let bounded = EngineConfig { max_ack_lookups: 3, ..proxy("a") };
    net.add_node(&[(Transport::Udp, "10.0.0.3:5060"), (Transport::Tcp, "10.0.0.3:5060")], bounded);
    net.add_node(&[(Transport::Udp, "10.0.0.4:5060"), (Transport::Tcp, "10.0.0.4:5060")], proxy("b"));
    net.add_node(&[(Transport::Udp, "10.0.0.5:5060")], EngineConfig::default());
    net.alias(POOL, A);
    connect_to_a_name(&mut net);
    let ack = first(&net, CALLER, "ACK");
    for _ in 0..10 {
        net.inject(net.nodes[CALLER].addr, A, ack.clone());
    }
    net.run(Duration::from_secs(1));
    let asked: Vec<_> = std::mem::take(&mut net.nodes[A].events)
        .into_iter()
        .map(|event| match event {
            Event::Lookup(lookup) => *lookup,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((asked.len(), net.nodes[A].engine.dropped().of(DropReason::Lookups)), (3, 7));
    let before = net.count(A, "ACK");
    let hop = Hop::from((Transport::Udp, net.nodes[ONE].addr));
    for lookup in asked {
        let (engine, now) = net.engine(A);
        engine.looked_up(now, lookup, vec![hop.clone()]);
    }
    net.inject(net.nodes[CALLER].addr, A, ack);
    found(&mut net, "sip:callee@backend.example", vec![hop]);
    net.run(Duration::from_millis(50));
    assert_eq!(net.count(A, "ACK"), before + 4);
    assert_eq!(net.nodes[A].engine.dropped().of(DropReason::Lookups), 7);
}

/// A is told where a name leads that it asks for.
fn found(net: &mut Network, name: &str, hops: Vec<Hop>) {
    let Event::Lookup(lookup) = net.event(A) else { panic!("no address is asked for") };
    assert_eq!(lookup.uri.to_string(), name);
    let (engine, now) = net.engine(A);
    engine.looked_up(now, *lookup, hops);
}

/// A call to a backend that calls itself by a name, up to the ACK.
fn connect_to_a_name(net: &mut Network) -> DialogId {
    relay(net, &[ONE]);
    let theirs = invited(net, ONE);
    let reply =
        Reply::new(StatusCode::OK).header(iqra_sip::HeaderName::CONTACT, "<sip:callee@backend.example>");
    let (engine, now) = net.engine(ONE);
    engine.accept(now, theirs, reply).unwrap();
    let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
    assert!(matches!(step(net), RelayEvent::Answered(_)));
    let hop = Hop::from((Transport::Udp, net.nodes[ONE].addr));
    found(net, "sip:callee@backend.example", vec![hop]);
    assert!(matches!(net.event(ONE), Event::Confirmed { .. }));
    dialog
}

#[test]
fn a_request_inside_a_dialog_goes_to_the_next_hop_when_the_first_says_503_or_nothing() {
    for status in [Some(503), None] {
        let mut net = calm();
        let ours = connect_to_a_name(&mut net);
        info(&mut net, CALLER, &ours);
        let hops = [TWO, ONE].map(|node| Hop::from((Transport::Udp, net.nodes[node].addr)));
        // The first of the two knows no such dialog; what it says is made a 503, or lost.
        net.lose(move |from, _| from == TWO);
        found(&mut net, "sip:callee@backend.example", hops.into());
        if status.is_some() {
            net.run(Duration::from_millis(50));
            let there = Flow {
                transport: Transport::Udp,
                local: net.nodes[A].addr,
                remote: net.nodes[TWO].addr,
                connection: None,
            };
            let refusal =
                first(&net, TWO, "481 INFO").replace("481 Call/Transaction Does Not Exist", "503 No");
            assert!(refusal.starts_with("SIP/2.0 503"), "{refusal}");
            let (engine, now) = net.engine(A);
            engine.handle_message(now, &there, refusal.into());
        }
        let start = net.now;
        let event = net.event(ONE);
        let Event::DialogRequest { tx, .. } = event else { panic!("{event:?}") };
        let waited = (net.now - start).as_secs();
        assert_eq!(waited, if status.is_some() { 0 } else { 32 }, "the limit of one target of several");
        answer(&mut net, ONE, tx, 200);
        net.run(Duration::from_millis(100));
        assert!(net.count(A, "200 INFO") > 0);
        assert_eq!(net.count(A, "503 INFO"), 0);
    }
}

#[test]
fn a_name_inside_a_dialog_that_nobody_knows_is_answered_500() {
    let mut net = calm();
    let ours = connect_to_a_name(&mut net);
    info(&mut net, CALLER, &ours);
    found(&mut net, "sip:callee@backend.example", Vec::new());
    assert_eq!(heard(&mut net), 500);
    hang_up(&mut net, CALLER, &ours);
    let hop = Hop::from((Transport::Udp, net.nodes[ONE].addr));
    found(&mut net, "sip:callee@backend.example", vec![hop]);
    net.settle();
}

#[test]
fn a_callee_that_answers_from_elsewhere_is_reached_there_by_any_proxy() {
    let mut net = calm();
    net.alias("10.0.0.77:5060", ONE);
    relay(&mut net, &[ONE]);
    let theirs = invited(&mut net, ONE);
    let contact = "<sip:callee@10.0.0.77:5060>";
    let reply = Reply::new(StatusCode::OK).header(iqra_sip::HeaderName::CONTACT, contact);
    let (engine, now) = net.engine(ONE);
    engine.accept(now, theirs, reply).unwrap();
    let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
    let written = |text: &str| header(text, "Record-Route")[0].to_owned();
    assert_ne!(written(&first(&net, ONE, "200")), written(&first(&net, A, "200")), "our own is written anew");
    assert!(matches!(net.event(ONE), Event::Confirmed { .. }));
    net.alias(POOL, B);
    hang_up(&mut net, CALLER, &dialog);
    assert!(matches!(net.event(ONE), Event::Ended { .. }));
    assert!(net.sent.iter().any(|(from, text)| *from == B && text.starts_with("BYE sip:callee@10.0.0.77")));
    net.settle();
}

#[test]
fn proxies_that_take_each_other_for_a_flow_s_owner_end_the_loop() {
    let mut net = calm();
    let (_, _, theirs) = connect_by_stream(&mut net);
    net.alias(POOL, B);
    let wrong = Hop::from((Transport::Udp, net.nodes[B].addr));
    let (engine, _) = net.engine(B);
    engine.set_relay_peers([(String::from("a"), wrong)].into());
    info(&mut net, ONE, &theirs);
    let Event::Response { response, .. } = net.event(ONE) else { panic!("no response") };
    assert_eq!(response.status, StatusCode::LOOP_DETECTED);
    assert_eq!(net.count(B, "INFO"), 1);
}

#[test]
fn a_flow_whose_owner_nobody_knows_is_gone() {
    let mut net = calm();
    let (_, _, theirs) = connect_by_stream(&mut net);
    net.alias(POOL, B);
    let (engine, _) = net.engine(B);
    engine.set_relay_peers([].into());
    info(&mut net, ONE, &theirs);
    let Event::Response { response, .. } = net.event(ONE) else { panic!("no response") };
    assert_eq!(response.status, StatusCode::FLOW_FAILED);
}

#[test]
fn a_408_to_an_info_is_kept_back() {
    let mut net = calm();
    let (ours, _) = connect(&mut net);
    info(&mut net, CALLER, &ours);
    let Event::DialogRequest { tx, .. } = net.event(ONE) else { panic!("no INFO") };
    answer(&mut net, ONE, tx, 408);
    net.run(Duration::from_secs(10));
    assert_eq!((net.count(ONE, "408 INFO") > 0, net.count(A, "408 INFO")), (true, 0));
}

#[test]
fn a_caller_behind_a_nat_is_reached_where_it_was_seen() {
    let mut net = calm();
    let mut call = invite(&net);
    call.headers.push(iqra_sip::HeaderName::CONTACT, "<sip:phone@192.168.1.9:5060>");
    net.lose(|from, _| from == CALLER);
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    net.run(Duration::from_millis(1));
    // What the NAT makes of it: another source address than its Via says.
    let hidden = first(&net, CALLER, "INVITE").replacen(
        "SIP/2.0/UDP 10.0.0.1:5060",
        "SIP/2.0/UDP 192.168.1.9:5060",
        1,
    );
    let seen = net.nodes[CALLER].addr;
    let flow = Flow { transport: Transport::Udp, local: net.nodes[A].addr, remote: seen, connection: None };
    let (engine, now) = net.engine(A);
    engine.handle_message(now, &flow, hidden.into());
    let Event::Invite { tx, .. } = net.event(A) else { panic!("no INVITE") };
    let plan = plan(&net, &[ONE]);
    let (engine, now) = net.engine(A);
    engine.relay(now, tx, plan).unwrap();
    let taken = invited(&mut net, ONE);
    let theirs = accept(&mut net, ONE, taken);
    net.run(Duration::from_millis(100));
    // Nothing from the caller arrives in this test, so the BYE waits for the ACK in vain, then goes to the place that was seen.
    hang_up(&mut net, ONE, &theirs);
    net.run(Duration::from_secs(35));
    assert!(net.count(A, "BYE") > 0);
    assert!(net.sent.iter().any(|(from, text)| *from == A && text.starts_with("BYE sip:phone@192.168.1.9")));
    assert!(net.count(CALLER, "481 BYE") + net.count(CALLER, "200 BYE") > 0, "it arrived at the caller");
}

/// RFC 3261 §16.7 step 3: without any Via whoever got it could not tell whose it is.
#[test]
fn a_response_that_lost_the_vias_below_ours_gets_them_back() {
    let mut net = calm();
    relay(&mut net, &[ONE]);
    invited(&mut net, ONE);
    let went = first(&net, A, "INVITE");
    let vias = header(&went, "Via");
    assert_eq!(vias.len(), 2);
    let busy = ["Via", "From", "To", "Call-ID", "CSeq"].iter().flat_map(|name| {
        let tag = if *name == "To" { ";tag=zz" } else { "" };
        header(&went, name).into_iter().map(move |value| format!("{name}: {value}{tag}\r\n"))
    });
    let busy = format!("SIP/2.0 486 Busy Here\r\n{}Content-Length: 0\r\n\r\n", busy.collect::<String>());
    let from = net.nodes[ONE].addr;
    net.inject(from, A, busy.replacen(&format!("Via: {}\r\n", vias[1]), "", 1));
    assert!(matches!(step(&mut net), RelayEvent::Refused(response) if response.status.code() == 486));
    assert_eq!(heard(&mut net), 486);
    assert_eq!(header(&first(&net, A, "486"), "Via"), vias[1..]);
}
