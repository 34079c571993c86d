//! From one target to the next, and which answer the caller hears.

use iqra_sip::event::{Event, Reply};
use iqra_sip::roles::relay::{AttemptFailure, RelayEvent};
use iqra_sip::{HeaderName, StatusCode};

use super::*;

#[test]
fn a_call_goes_through_and_ends_through_the_proxy() {
    let mut net = calm();
    relay(&mut net, &[ONE]);
    let tx = invited(&mut net, ONE);
    answer(&mut net, ONE, tx, 180);
    assert_eq!(heard(&mut net), 180);
    assert!(matches!(step(&mut net), RelayEvent::Provisional(_)));
    accept(&mut net, ONE, tx);
    let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
    net.run(Duration::from_millis(100));
    assert!(matches!(step(&mut net), RelayEvent::Answered(_)));
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &dialog, iqra_sip::Headers::new()).unwrap();
    net.settle();
    assert_eq!(
        ladder(&net),
        "caller: INVITE\na: INVITE\none: 180 to INVITE\na: 180 to INVITE\none: 200 to INVITE\na: 200 to INVITE\n\
         caller: ACK\na: ACK\ncaller: BYE\na: BYE\none: 200 to BYE\na: 200 to BYE\n"
    );
}

#[test]
fn what_goes_on_is_what_came_but_for_the_hop_itself() {
    let mut net = calm();
    relay(&mut net, &[ONE]);
    invited(&mut net, ONE);
    let (came, went) = (first(&net, CALLER, "INVITE"), first(&net, A, "INVITE"));
    assert!(went.starts_with("INVITE sip:callee@10.0.0.2:5060;token=t1 SIP/2.0\r\n"), "{went}");
    assert_eq!(header(&went, "Via").len(), 2, "{went}");
    assert_eq!((header(&came, "Max-Forwards"), header(&went, "Max-Forwards")), (vec!["70"], vec!["69"]));
    let routes = header(&went, "Record-Route");
    assert_eq!(routes.len(), 1, "{went}");
    assert!(routes[0].ends_with("@10.0.0.100:5060;lr>"), "{went}");
    let hop = ["INVITE", "Via", "Max-Forwards", "Record-Route"];
    let rest = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !hop.iter().any(|name| line.starts_with(name))).map(String::from).collect()
    };
    assert_eq!(rest(&came), rest(&went));
}

#[test]
fn after_a_503_the_next_target_is_tried_and_the_caller_hears_nothing_of_it() {
    let mut net = calm();
    let (_, tx) = relay(&mut net, &[ONE, TWO]);
    let refused = invited(&mut net, ONE);
    answer(&mut net, ONE, refused, 503);
    let RelayEvent::NextTarget { attempt: 1, failure, target: Some(mut target) } = step(&mut net) else {
        panic!("no next target")
    };
    assert!(matches!(failure, AttemptFailure::Refused(response) if response.status.code() == 503));
    target.headers.push(HeaderName::from("X-Attempt"), "2");
    let (engine, now) = net.engine(A);
    engine.relay_to(now, tx, &target).unwrap();
    assert!(matches!(step(&mut net), RelayEvent::Trying { attempt: 2 }));
    let taken = invited(&mut net, TWO);
    assert!(net.sent.iter().any(|(from, text)| *from == A && text.contains("X-Attempt: 2")));
    accept(&mut net, TWO, taken);
    assert!(matches!(net.event(CALLER), Event::Answered { .. }));
    net.run(Duration::from_secs(40));
    assert_eq!((net.count(A, "503"), net.count(A, "200")), (0, 1));
}

#[test]
fn a_target_that_is_silent_for_two_seconds_is_given_up() {
    let mut net = calm();
    net.lose(|from, _| from == ONE);
    let start = net.now;
    let (_, tx) = relay(&mut net, &[ONE, TWO]);
    go_on(&mut net, tx);
    assert_eq!((net.now - start).as_millis(), 2_010);
    let taken = invited(&mut net, TWO);
    accept(&mut net, TWO, taken);
    assert!(matches!(net.event(CALLER), Event::Answered { .. }));
    let before = net.sent.iter().filter(|(_, text)| text.contains("token=t1")).count();
    net.run(Duration::from_secs(40));
    let after = net.sent.iter().filter(|(_, text)| text.contains("token=t1")).count();
    assert_eq!(before, after, "nobody repeats an INVITE that nobody waits for");
}

#[test]
fn a_target_that_says_100_alone_has_five_seconds_more_and_is_cancelled() {
    let mut net = calm();
    let start = net.now;
    let (_, tx) = relay(&mut net, &[ONE, TWO]);
    invited(&mut net, ONE);
    let event = step(&mut net);
    assert!(matches!(event, RelayEvent::NextTarget { failure: AttemptFailure::Stalled, .. }), "{event:?}");
    assert_eq!((net.now - start).as_millis(), 5_230, "the 100 comes by itself after 200 ms");
    let second = target(&net, TWO);
    let (engine, now) = net.engine(A);
    engine.relay_to(now, tx, &second).unwrap();
    assert!(matches!(net.event(ONE), Event::Cancelled { .. }));
    let taken = invited(&mut net, TWO);
    answer(&mut net, TWO, taken, 486);
    assert_eq!(heard(&mut net), 486);
    net.settle();
}

#[test]
fn once_a_target_has_rung_its_answer_is_the_caller_s() {
    let mut net = calm();
    let (_, tx) = relay(&mut net, &[ONE, TWO]);
    let ringing = invited(&mut net, ONE);
    answer(&mut net, ONE, ringing, 180);
    assert_eq!(heard(&mut net), 180);
    net.run(Duration::from_secs(20));
    let second = target(&net, TWO);
    let (engine, now) = net.engine(A);
    assert!(engine.relay_to(now, tx, &second).is_err());
    answer(&mut net, ONE, ringing, 500);
    assert_eq!(heard(&mut net), 500);
    net.settle();
}

#[test]
fn a_refusal_by_the_callee_ends_the_search() {
    for status in [302, 404, 486, 603] {
        let mut net = calm();
        relay(&mut net, &[ONE, TWO]);
        let tx = invited(&mut net, ONE);
        answer(&mut net, ONE, tx, status);
        assert_eq!(heard(&mut net), status);
        assert!(matches!(step(&mut net), RelayEvent::Refused(_)));
        net.settle();
        assert!(net.nodes[TWO].events.is_empty());
    }
}

#[test]
fn when_all_fail_the_best_answer_goes_and_a_503_loses_its_retry_after() {
    for (one, two, heard_at_last) in [(500, 503, 500), (503, 504, 504), (503, 503, 503)] {
        let mut net = calm();
        let (_, tx) = relay(&mut net, &[ONE, TWO]);
        let refuse = |net: &mut Network, node, status| {
            let tx = invited(net, node);
            let (engine, now) = net.engine(node);
            let reply = Reply::new(StatusCode::new(status).unwrap()).header(HeaderName::RETRY_AFTER, "60");
            engine.respond(now, tx, reply).unwrap();
        };
        refuse(&mut net, ONE, one);
        go_on(&mut net, tx);
        assert!(matches!(step(&mut net), RelayEvent::Trying { attempt: 2 }));
        refuse(&mut net, TWO, two);
        assert!(matches!(step(&mut net), RelayEvent::NextTarget { target: None, attempt: 2, .. }));
        let (engine, now) = net.engine(A);
        engine.relay_best(now, tx).unwrap();
        assert_eq!(heard(&mut net), heard_at_last);
        let away = heard_at_last == 503;
        let text = first(&net, A, &heard_at_last.to_string());
        assert_eq!(header(&text, "Retry-After").is_empty(), away, "{text}");
        net.settle();
    }
}

/// A proxy that two targets have to pass knows the request from the first of them.
#[test]
fn a_482_of_a_hop_that_an_earlier_target_has_passed_gives_way_to_the_next() {
    for status in [503, 500] {
        let mut net = calm();
        let (_, tx) = relay(&mut net, &[ONE, ONE, TWO]);
        let refused = invited(&mut net, ONE);
        answer(&mut net, ONE, refused, status);
        go_on(&mut net, tx);
        assert!(matches!(step(&mut net), RelayEvent::Trying { attempt: 2 }));
        go_on(&mut net, tx);
        assert_eq!(net.count(ONE, "482"), 1);
        let taken = invited(&mut net, TWO);
        accept(&mut net, TWO, taken);
        assert!(matches!(net.event(CALLER), Event::Answered { .. }));
        net.run(Duration::from_secs(40));
        assert_eq!(net.count(A, "482"), 0);
    }
}

#[test]
fn a_482_is_heard_where_it_is_the_only_answer_and_no_copy_of_ours_was_there_before() {
    for (first, heard_at_last) in [(Some(503), 503), (Some(500), 500), (None, 408)] {
        let mut net = calm();
        let (_, tx) = relay(&mut net, &[ONE, ONE]);
        let refused = invited(&mut net, ONE);
        first.into_iter().for_each(|status| answer(&mut net, ONE, refused, status));
        go_on(&mut net, tx);
        end_by_the_best(&mut net, tx);
        assert_eq!((heard(&mut net), net.count(ONE, "482")), (heard_at_last, 1));
    }
    for (second, heard_at_last) in [(Some(503), 503), (Some(404), 404), (None, 482)] {
        let mut net = calm();
        let (_, tx) = relay(&mut net, if second.is_some() { &[ONE, TWO] } else { &[ONE] });
        let looped = invited(&mut net, ONE);
        answer(&mut net, ONE, looped, 482);
        if let Some(status) = second {
            go_on(&mut net, tx);
            assert!(matches!(step(&mut net), RelayEvent::Trying { attempt: 2 }));
            let refused = invited(&mut net, TWO);
            answer(&mut net, TWO, refused, status);
        }
        if second != Some(404) {
            end_by_the_best(&mut net, tx);
        }
        assert_eq!(heard(&mut net), heard_at_last);
        net.settle();
    }
}

#[test]
fn two_hops_of_a_target_that_are_one_proxy_give_way_to_its_third() {
    let mut net = calm();
    net.alias("10.0.0.22:5060", ONE);
    relay_to_a_name(&mut net);
    let Event::Lookup(lookup) = net.event(A) else { panic!("no name is asked for") };
    let hops = ["10.0.0.2:5060", "10.0.0.22:5060", "10.0.0.5:5060"];
    let hops = hops.map(|addr| Hop::from((Transport::Udp, addr.parse().unwrap())));
    let (engine, now) = net.engine(A);
    engine.looked_up(now, *lookup, hops.into());
    assert!(matches!(step(&mut net), RelayEvent::Trying { attempt: 1 }));
    let refused = invited(&mut net, ONE);
    answer(&mut net, ONE, refused, 503);
    let taken = invited(&mut net, TWO);
    accept(&mut net, TWO, taken);
    assert!(matches!(net.event(CALLER), Event::Answered { .. }));
    let event = step(&mut net);
    assert!(matches!(event, RelayEvent::Answered(_)), "the program hears of no hop: {event:?}");
    assert_eq!((net.count(ONE, "482"), net.count(A, "482")), (1, 0));
}

/// RFC 3261 §16.7 step 6: 408, or the proxy before us would ask another one for the same silent targets (RFC 3263 §4.3).
#[test]
fn where_every_target_is_silent_the_caller_hears_408() {
    for targets in [&[ONE][..], &[ONE, TWO]] {
        let mut net = calm();
        net.lose(|from, _| from == ONE || from == TWO);
        let (_, tx) = relay(&mut net, targets);
        (1..targets.len()).for_each(|_| go_on(&mut net, tx));
        end_by_the_best(&mut net, tx);
        assert_eq!(heard(&mut net), 408);
    }
}

/// RFC 3261 §16.7 step 6: the lowest class. An answer that says something of the call goes before both.
#[test]
fn silence_goes_before_a_503_and_after_any_other_answer() {
    for (refusal, best) in [(503, 408), (482, 408), (500, 500)] {
        for order in [[ONE, TWO], [TWO, ONE]] {
            let mut net = calm();
            net.lose(|from, _| from == TWO);
            let (_, tx) = relay(&mut net, &order);
            if order[0] == TWO {
                go_on(&mut net, tx);
            }
            let refused = invited(&mut net, ONE);
            answer(&mut net, ONE, refused, refusal);
            if order[0] == ONE {
                go_on(&mut net, tx);
            }
            end_by_the_best(&mut net, tx);
            assert_eq!(heard(&mut net), best, "{refusal}, {order:?}");
        }
    }
}

/// RFC 3261 §16.9: a target that no transport leads to counts as one that answered 503.
#[test]
fn a_target_without_a_way_is_a_503() {
    let mut net = calm();
    let call = invite(&net);
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let tx = invited(&mut net, A);
    let nowhere = Target {
        hops: vec![(Transport::Udp, "[2001:db8::1]:5060".parse().unwrap()).into()],
        ..Target::default()
    };
    let (engine, now) = net.engine(A);
    engine.relay(now, tx, Plan::new([nowhere])).unwrap();
    end_by_the_best(&mut net, tx);
    assert_eq!(heard(&mut net), 503);
}

#[test]
fn an_answer_of_a_target_given_up_is_the_call_s_all_the_same() {
    let mut net = calm();
    let (_, tx) = relay(&mut net, &[ONE, TWO]);
    let late = invited(&mut net, ONE);
    let second = target(&net, TWO);
    let (engine, now) = net.engine(A);
    engine.relay_to(now, tx, &second).unwrap();
    let ringing = invited(&mut net, TWO);
    answer(&mut net, TWO, ringing, 180);
    assert_eq!(heard(&mut net), 180);
    accept(&mut net, ONE, late);
    assert!(matches!(net.event(CALLER), Event::Answered { .. }));
    assert!(matches!(net.event(TWO), Event::Cancelled { .. }), "the other one need not ring on");
    net.run(Duration::from_secs(60));
}

/// The caller calls, and A relays to a name, then to backend two.
fn relay_to_a_name(net: &mut Network) -> ServerTx {
    let call = invite(net);
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(A) else { panic!("no INVITE") };
    let named = Target { uri: Some("sip:callee@backend.example".parse().unwrap()), ..Target::default() };
    let plan = Plan::new([named, target(net, TWO)]);
    let (engine, now) = net.engine(A);
    engine.relay(now, tx, plan).unwrap();
    tx
}

/// What A asks for leads to these nodes.
fn leads_to(net: &mut Network, nodes: &[usize]) {
    let Event::Lookup(lookup) = net.event(A) else { panic!("no name is asked for") };
    assert_eq!((lookup.uri.to_string().as_str(), lookup.secure), ("sip:callee@backend.example", false));
    let hops = nodes.iter().map(|node| (Transport::Udp, net.nodes[*node].addr).into()).collect();
    let (engine, now) = net.engine(A);
    engine.looked_up(now, *lookup, hops);
}

#[test]
fn a_target_without_an_address_counts_as_one_that_failed() {
    let mut net = calm();
    let tx = relay_to_a_name(&mut net);
    leads_to(&mut net, &[]);
    go_on(&mut net, tx);
    invited(&mut net, TWO);
}

#[test]
fn a_name_that_nobody_looks_up_costs_its_target_its_time_and_no_more() {
    let mut net = calm();
    let tx = relay_to_a_name(&mut net);
    let Event::Lookup(late) = net.event(A) else { panic!("no name is asked for") };
    let start = net.now;
    go_on(&mut net, tx);
    assert_eq!((net.now - start).as_secs(), 2);
    let taken = invited(&mut net, TWO);
    let hop = (Transport::Udp, net.nodes[ONE].addr).into();
    let (engine, now) = net.engine(A);
    engine.looked_up(now, *late, vec![hop]);
    accept(&mut net, TWO, taken);
    assert!(matches!(net.event(CALLER), Event::Answered { .. }));
    assert!(net.nodes[ONE].events.is_empty(), "the answer came too late");
}

#[test]
fn every_hop_of_a_target_is_tried_before_the_next_target() {
    let mut net = calm();
    relay_to_a_name(&mut net);
    net.lose(|from, text| from == B && !is(text, "ACK"));
    // B, which is no backend, is silent here; backend one refuses, and two is the name's last hop.
    let Event::Lookup(lookup) = net.event(A) else { panic!("no name is asked for") };
    let hops = ["10.0.0.4:5060", "10.0.0.2:5060", "10.0.0.5:5060"];
    let hops = hops.map(|addr| Hop::from((Transport::Udp, addr.parse().unwrap())));
    let (engine, now) = net.engine(A);
    let start = now;
    engine.looked_up(now, *lookup, hops.into());
    assert!(matches!(step(&mut net), RelayEvent::Trying { attempt: 1 }));
    let refused = invited(&mut net, ONE);
    assert_eq!((net.now - start).as_millis(), 2_010, "one silent hop");
    answer(&mut net, ONE, refused, 503);
    let taken = invited(&mut net, TWO);
    accept(&mut net, TWO, taken);
    assert!(matches!(net.event(CALLER), Event::Answered { .. }));
    let event = step(&mut net);
    assert!(matches!(event, RelayEvent::Answered(_)), "the program hears of no hop: {event:?}");
    let branches: std::collections::BTreeSet<_> = net
        .sent
        .iter()
        .filter(|(from, text)| *from == A && is(text, "INVITE"))
        .map(|(_, text)| header(text, "Via")[0].to_owned())
        .collect();
    assert_eq!(branches.len(), 3, "each hop has a branch of its own");
    assert_eq!(net.count(A, "503"), 0);
}

#[test]
fn when_its_hops_are_spent_a_target_gives_way_to_the_next() {
    let mut net = calm();
    let tx = relay_to_a_name(&mut net);
    net.lose(|from, _| from == ONE);
    net.alias("10.0.0.22:5060", ONE);
    let Event::Lookup(lookup) = net.event(A) else { panic!("no name is asked for") };
    let hops = ["10.0.0.2:5060", "10.0.0.22:5060"];
    let hops = hops.map(|addr| Hop::from((Transport::Udp, addr.parse().unwrap())));
    let (engine, now) = net.engine(A);
    let start = now;
    engine.looked_up(now, *lookup, hops.into());
    assert!(matches!(step(&mut net), RelayEvent::Trying { attempt: 1 }));
    go_on(&mut net, tx);
    assert_eq!((net.now - start).as_millis(), 4_000, "two seconds each");
    assert!(matches!(step(&mut net), RelayEvent::Trying { attempt: 2 }));
    let taken = invited(&mut net, TWO);
    accept(&mut net, TWO, taken);
    assert!(matches!(net.event(CALLER), Event::Answered { .. }));
    net.run(Duration::from_secs(100));
}

#[test]
fn a_cancel_while_a_name_is_looked_up_ends_the_call() {
    let mut net = calm();
    let call = invite(&net);
    let (engine, now) = net.engine(CALLER);
    let ours = engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(A) else { panic!("no INVITE") };
    let named = Target { uri: Some("sip:callee@backend.example".parse().unwrap()), ..Target::default() };
    let (engine, now) = net.engine(A);
    engine.relay(now, tx, Plan::new([named])).unwrap();
    let Event::Lookup(late) = net.event(A) else { panic!("no name is asked for") };
    net.run(Duration::from_millis(300));
    let (engine, now) = net.engine(CALLER);
    engine.cancel(now, ours, iqra_sip::Headers::new()).unwrap();
    assert_eq!(heard(&mut net), 487);
    let hop = (Transport::Udp, net.nodes[ONE].addr).into();
    let (engine, now) = net.engine(A);
    engine.looked_up(now, *late, vec![hop]);
    net.settle();
    assert!(net.nodes[ONE].events.is_empty());
}
