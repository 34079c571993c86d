//! Requests other than INVITE outside dialogs, relayed by the same plans (RFC 3261 §16; RFC 4320 §4; RFC 6665 §4.3).

use iqra_sip::event::Event;
use iqra_sip::roles::relay::AttemptFailure;
use iqra_sip::{Flow, HeaderName, Method, Request};

use super::*;

/// The caller asks something by way of the pool.
fn ask(net: &mut Network, method: Method, headers: &[(&str, &str)]) {
    let uri: Uri = format!("sip:callee@{POOL}").parse().unwrap();
    let mut request = Request::new(method, uri);
    request.headers.push(HeaderName::FROM, "<sip:caller@example.org>");
    for (name, value) in headers {
        request.headers.push(HeaderName::from(*name), *value);
    }
    let hop = Hop::from((Transport::Udp, POOL.parse().unwrap()));
    let (engine, now) = net.engine(CALLER);
    engine.request(now, request, [hop]).unwrap();
}

fn asked(net: &mut Network, node: usize) -> ServerTx {
    match net.event(node) {
        Event::Request { tx, .. } => tx,
        other => panic!("{other:?}"),
    }
}

/// The caller asks, and A relays it to these nodes.
fn relayed(net: &mut Network, method: Method, headers: &[(&str, &str)], nodes: &[usize]) -> ServerTx {
    ask(net, method, headers);
    let tx = asked(net, A);
    let plan = plan(net, nodes);
    let (engine, now) = net.engine(A);
    engine.relay(now, tx, plan).unwrap();
    assert!(matches!(step(net), RelayEvent::Trying { attempt: 1 }));
    tx
}

/// Responses that A sent.
fn responses(net: &Network) -> Vec<&str> {
    let sent = net.sent.iter().filter(|(from, text)| *from == A && text.starts_with("SIP/2.0 "));
    sent.map(|(_, text)| &text[8..11]).collect()
}

#[test]
fn every_method_goes_to_its_target_and_only_what_opens_a_dialog_is_recorded() {
    let others = [Method::Message, Method::Options, Method::Register, Method::Publish, Method::Notify];
    for method in others.into_iter().chain([Method::Subscribe, Method::Refer]) {
        for record in [true, false] {
            let mut net = calm();
            ask(&mut net, method.clone(), &[("Contact", "<sip:caller@10.0.0.1:5060>")]);
            let tx = asked(&mut net, A);
            let plan = Plan { record_route: record, ..plan(&net, &[ONE]) };
            let (engine, now) = net.engine(A);
            engine.relay(now, tx, plan).unwrap();
            let there = asked(&mut net, ONE);
            let went = first(&net, A, method.as_str());
            assert!(
                went.starts_with(&format!("{method} sip:callee@10.0.0.2:5060;token=t1 SIP/2.0")),
                "{went}"
            );
            assert_eq!((header(&went, "Via").len(), header(&went, "Max-Forwards")), (2, vec!["69"]));
            let opens = matches!(method, Method::Subscribe | Method::Refer);
            assert_eq!(header(&went, "Record-Route").len(), usize::from(opens && record), "{went}");
            answer(&mut net, ONE, there, 200);
            assert_eq!(heard(&mut net), 200);
            assert!(matches!(step(&mut net), RelayEvent::Trying { attempt: 1 }));
            assert!(matches!(step(&mut net), RelayEvent::Answered(_)));
            net.settle();
        }
    }
}

#[test]
fn a_refusal_passes_and_a_provisional_response_or_a_408_does_not() {
    let mut net = calm();
    relayed(&mut net, Method::Message, &[], &[ONE]);
    let there = asked(&mut net, ONE);
    answer(&mut net, ONE, there, 183);
    net.run(Duration::from_secs(1));
    answer(&mut net, ONE, there, 404);
    assert_eq!(heard(&mut net), 404);
    assert!(matches!(step(&mut net), RelayEvent::Refused(_)));
    assert_eq!(responses(&net), ["404"]);
    net.settle();

    let mut net = calm();
    relayed(&mut net, Method::Message, &[], &[ONE]);
    let there = asked(&mut net, ONE);
    answer(&mut net, ONE, there, 408);
    let event = step(&mut net);
    let silent = RelayEvent::NextTarget { attempt: 1, failure: AttemptFailure::Silent, target: None };
    assert_eq!(format!("{event:?}"), format!("{silent:?}"));
    assert!(responses(&net).is_empty());
}

#[test]
fn silence_at_the_last_target_ends_in_silence_when_the_sender_waits_no_longer() {
    let mut net = calm();
    net.lose(|from, _| from == ONE);
    let start = net.now;
    relayed(&mut net, Method::Options, &[], &[ONE]);
    assert!(matches!(step(&mut net), RelayEvent::Ended));
    assert_eq!((net.now - start).as_secs(), 32);
    assert!(matches!(net.event(CALLER), Event::Failed { .. }));
    assert!(responses(&net).is_empty());
    net.run(Duration::from_secs(40));
    assert_eq!(net.nodes[A].engine.counts(), Default::default());
}

#[test]
fn a_slow_answer_of_the_last_target_is_waited_for() {
    let mut net = calm();
    relayed(&mut net, Method::Message, &[], &[ONE]);
    let there = asked(&mut net, ONE);
    net.run(Duration::from_secs(20));
    answer(&mut net, ONE, there, 202);
    assert_eq!(heard(&mut net), 202);
    assert_eq!(net.nodes[TWO].events.len(), 0);
}

#[test]
fn from_one_target_to_the_next_by_silence_and_by_503() {
    for refused in [Some(503), Some(500), None] {
        let mut net = calm();
        if refused.is_none() {
            net.lose(|from, _| from == ONE);
        }
        let start = net.now;
        let tx = relayed(&mut net, Method::Message, &[], &[ONE, TWO]);
        if let Some(status) = refused {
            let there = asked(&mut net, ONE);
            answer(&mut net, ONE, there, status);
        }
        go_on(&mut net, tx);
        assert_eq!((net.now - start).as_secs(), if refused.is_some() { 0 } else { 2 });
        assert!(matches!(step(&mut net), RelayEvent::Trying { attempt: 2 }));
        let there = asked(&mut net, TWO);
        answer(&mut net, TWO, there, 200);
        assert_eq!(heard(&mut net), 200);
        assert!(matches!(step(&mut net), RelayEvent::Answered(_)));
        assert_eq!(responses(&net), ["200"]);
        assert_eq!(net.count(A, "CANCEL"), 0);
    }
}

#[test]
fn every_hop_of_a_target_is_tried_and_its_name_is_looked_up() {
    let mut net = calm();
    net.lose(|from, _| from == B);
    ask(&mut net, Method::Message, &[("Route", "<sip:10.0.0.100:5060;lr>, <sip:stranger.example;lr>")]);
    let tx = asked(&mut net, A);
    let named = Target { uri: Some("sip:callee@backend.example".parse().unwrap()), ..Target::default() };
    let (engine, now) = net.engine(A);
    engine.relay(now, tx, Plan::new([named])).unwrap();
    let Event::Lookup(lookup) = net.event(A) else { panic!("no name is asked for") };
    assert_eq!(lookup.uri.to_string(), "sip:callee@backend.example");
    let hops = [B, ONE].map(|node| Hop::from((Transport::Udp, net.nodes[node].addr)));
    let (engine, now) = net.engine(A);
    engine.looked_up(now, *lookup, hops.into());
    let there = asked(&mut net, ONE);
    answer(&mut net, ONE, there, 200);
    assert_eq!(heard(&mut net), 200);
}

#[test]
fn the_program_ends_the_search_by_the_best_answer_or_its_own() {
    let mut net = calm();
    let tx = relayed(&mut net, Method::Message, &[], &[ONE]);
    let there = asked(&mut net, ONE);
    answer(&mut net, ONE, there, 503);
    assert!(matches!(step(&mut net), RelayEvent::NextTarget { target: None, .. }));
    let (engine, now) = net.engine(A);
    engine.relay_best(now, tx).unwrap();
    assert_eq!(heard(&mut net), 503);
    assert!(matches!(step(&mut net), RelayEvent::Refused(_)));
    let mut net = calm();
    let tx = relayed(&mut net, Method::Message, &[], &[ONE]);
    let late = asked(&mut net, ONE);
    let (engine, now) = net.engine(A);
    engine.give_up(now, tx, Reply::new(StatusCode::TEMPORARILY_UNAVAILABLE)).unwrap();
    assert_eq!(heard(&mut net), 480);
    answer(&mut net, ONE, late, 200);
    net.settle();
    assert_eq!(responses(&net), ["480"]);
}

#[test]
fn what_may_pass_no_proxy_is_refused_when_it_is_relayed_and_can_be_answered_here() {
    for (headers, status) in [
        ([("Max-Forwards", "0"), ("X-A", "b")], 483),
        ([("Max-Forwards", "9"), ("Proxy-Require", "foo")], 420),
    ] {
        let mut net = calm();
        ask(&mut net, Method::Options, &headers);
        let tx = asked(&mut net, A);
        let there = plan(&net, &[ONE]);
        let (engine, now) = net.engine(A);
        engine.relay(now, tx, there).unwrap();
        assert_eq!(heard(&mut net), status);
        assert!(matches!(step(&mut net), RelayEvent::Refused(_)));
        net.settle();
        let mut net = calm();
        ask(&mut net, Method::Options, &headers);
        let tx = asked(&mut net, A);
        answer(&mut net, A, tx, 200);
        assert_eq!(heard(&mut net), 200, "a ping of the proxy itself");
    }
}

#[test]
fn require_is_the_target_s_to_judge_and_ours_where_we_answer() {
    let mut net = calm();
    relayed(&mut net, Method::Message, &[("Require", "anything")], &[ONE]);
    assert_eq!(heard(&mut net), 420, "the target's engine lacks it");
    let mut net = calm();
    ask(&mut net, Method::Message, &[("Require", "anything")]);
    let tx = asked(&mut net, A);
    answer(&mut net, A, tx, 200);
    assert_eq!(heard(&mut net), 420);
}

#[test]
fn a_loop_of_any_method_ends() {
    let mut net = calm();
    ask(&mut net, Method::Message, &[]);
    let tx = asked(&mut net, A);
    let same = Target { hops: vec![(Transport::Udp, net.nodes[A].addr).into()], ..Target::default() };
    let (engine, now) = net.engine(A);
    engine.relay(now, tx, Plan::new([same])).unwrap();
    end_by_the_best(&mut net, tx);
    assert_eq!(heard(&mut net), 482);
}

/// A hears a message from a node; what it sends, and where to.
fn tell(net: &mut Network, from: usize, text: String) -> Vec<(String, String)> {
    let remote = net.nodes[from].addr;
    let flow = Flow { transport: Transport::Udp, local: POOL.parse().unwrap(), remote, connection: None };
    let before = net.tape.as_ref().unwrap().len();
    let (engine, now) = net.engine(A);
    engine.handle_message(now, &flow, text.into());
    net.run(Duration::from_millis(1));
    let tape =
        net.tape.as_ref().unwrap()[before..].iter().filter(|passage| passage.node == A && !passage.came);
    tape.map(|passage| (passage.peer.to_string(), passage.text.clone())).collect()
}

/// The head of a request in the subscription: from the caller, or from the notifier.
fn within(net: &Network, method: &str, uri: &str, routes: &[String], by_caller: bool) -> String {
    let asked = first(net, CALLER, "SUBSCRIBE");
    let answered = first(net, ONE, "200 SUBSCRIBE");
    let ends = [header(&asked, "From")[0], header(&answered, "To")[0]];
    let (from, to, node) = if by_caller { (ends[0], ends[1], CALLER) } else { (ends[1], ends[0], ONE) };
    let routes: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{};rport\r\nMax-Forwards: 70\r\n\
         From: {from}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: 9 {method}\r\n{routes}Contact: <sip:n@10.0.0.78:5060>\r\n\
         Event: presence\r\nSubscription-State: active\r\nContent-Length: 0\r\n\r\n",
        net.nodes[node].addr,
        net.sent.len(),
        header(&asked, "Call-ID")[0],
    )
}

fn owned(values: Vec<&str>) -> Vec<String> {
    values.into_iter().map(String::from).collect()
}

#[test]
fn a_subscription_is_a_dialog_through_us_that_its_notify_opens() {
    let mut net = calm();
    net.tape = Some(Vec::new());
    let contact = ("Contact", "<sip:caller@10.0.0.1:5060>");
    relayed(&mut net, Method::Subscribe, &[contact, ("Event", "presence")], &[ONE]);
    let there = asked(&mut net, ONE);
    let elsewhere = Reply::new(StatusCode::OK).header(HeaderName::CONTACT, "<sip:n@10.0.0.77:5060>");
    let route = owned(header(&first(&net, A, "SUBSCRIBE"), "Record-Route"));
    let (engine, now) = net.engine(ONE);
    engine.respond(now, there, elsewhere).unwrap();
    assert_eq!(heard(&mut net), 200);
    // The notifier's way to the subscriber.
    let notify = within(&net, "NOTIFY", "sip:caller@10.0.0.1:5060", &route, false);
    let sent = tell(&mut net, ONE, notify);
    assert!(sent[0].0 == "10.0.0.1:5060" && sent[0].1.starts_with("NOTIFY "), "{sent:?}");
    let from_notify = owned(header(&sent[0].1, "Record-Route"));
    assert!(!from_notify.is_empty() && header(&sent[0].1, "Route").is_empty(), "{sent:?}");
    // The subscriber's way back, as the NOTIFY and as the 2xx say it.
    let from_answer = owned(header(&first(&net, A, "200 SUBSCRIBE"), "Record-Route"));
    for (route, notifier) in [(&from_notify, "10.0.0.78"), (&from_answer, "10.0.0.77")] {
        let uri = format!("sip:n@{notifier}:5060");
        let refresh = within(&net, "SUBSCRIBE", &uri, route, true);
        let sent = tell(&mut net, CALLER, refresh);
        assert_eq!(sent[0].0, format!("{notifier}:5060"), "{sent:?}");
        assert!(header(&sent[0].1, "Record-Route").is_empty(), "{sent:?}");
        let victim = within(&net, "SUBSCRIBE", "sip:x@10.0.0.5:5060", route, true);
        let sent = tell(&mut net, CALLER, victim);
        assert!(sent[0].1.starts_with("SIP/2.0 403"), "{sent:?}");
    }
    // A NOTIFY against the direction is forwarded, and opens nothing.
    let against = within(&net, "NOTIFY", "sip:n@10.0.0.77:5060", &from_answer, true);
    let sent = tell(&mut net, CALLER, against);
    assert!(sent[0].0 == "10.0.0.77:5060" && header(&sent[0].1, "Record-Route").is_empty(), "{sent:?}");
}

#[test]
fn relayed_requests_end_in_bad_weather_too() {
    for seed in 0..60 {
        let weather = Weather { loss: 0.25, duplicate: 0.1, jitter: Duration::from_millis(400) };
        let mut net = pool(seed, weather);
        ask(&mut net, Method::Message, &[]);
        for _ in 0..800 {
            net.run(Duration::from_millis(100));
            for event in std::mem::take(&mut net.nodes[A].events) {
                let there = plan(&net, &[ONE, TWO]);
                let (engine, now) = net.engine(A);
                match event {
                    Event::Request { tx, .. } => engine.relay(now, tx, there).unwrap(),
                    Event::Relay { tx, event: RelayEvent::NextTarget { target: Some(next), .. } } => {
                        engine.relay_to(now, tx, &next).unwrap();
                    }
                    Event::Relay { tx, event: RelayEvent::NextTarget { .. } } => {
                        engine.relay_best(now, tx).unwrap();
                    }
                    Event::Relay { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            for node in [ONE, TWO] {
                for event in std::mem::take(&mut net.nodes[node].events) {
                    let Event::Request { tx, .. } = event else { panic!("{event:?}") };
                    answer(&mut net, node, tx, if seed % 2 == 0 { 200 } else { 503 });
                }
            }
        }
        let ends = net.nodes[CALLER].events.iter().filter(|event| {
            matches!(event, Event::Failed { .. })
                || matches!(event, Event::Response { response, .. } if response.status.is_final())
        });
        assert_eq!(ends.count(), 1, "seed {seed}: {:?}", net.nodes[CALLER].events);
        for node in [CALLER, A, ONE, TWO] {
            assert_eq!(net.nodes[node].engine.counts(), Default::default(), "seed {seed}, node {node}");
        }
    }
}
