//! What a proxy refuses: loops, spent hops, foreign extensions, forged Routes (RFC 3261 §16.3, §26).

use iqra_sip::event::Event;
use iqra_sip::{Flow, Headers};

use super::*;

fn flow(net: &Network, from: usize) -> Flow {
    Flow {
        transport: Transport::Udp,
        local: POOL.parse().unwrap(),
        remote: net.nodes[from].addr,
        connection: None,
    }
}

/// What A says to a message, all of it.
fn tell(net: &mut Network, text: String) -> Vec<String> {
    let (flow, before) = (flow(net, CALLER), net.sent.len());
    let (engine, now) = net.engine(A);
    engine.handle_message(now, &flow, text.into());
    net.run(Duration::from_millis(1));
    net.sent[before..].iter().filter(|(from, _)| *from == A).map(|(_, text)| text.clone()).collect()
}

fn starts(texts: &[String]) -> Vec<&str> {
    texts.iter().map(|text| text.split(' ').nth(1).unwrap()).collect()
}

/// The INVITE of the caller, which has not arrived.
fn unsent_invite(net: &mut Network) -> String {
    net.lose(|from, _| from == CALLER);
    let call = invite(net);
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    net.run(Duration::from_millis(1));
    first(net, CALLER, "INVITE")
}

#[test]
fn spent_hops_foreign_extensions_and_merged_requests_are_refused() {
    let mut net = calm();
    let invite = unsent_invite(&mut net);
    let out = tell(&mut net, invite.replace("Max-Forwards: 70", "Max-Forwards: 0"));
    assert_eq!(starts(&out), ["483"]);
    let out = tell(
        &mut net,
        invite.replace("z9hG4bK", "z9hG4bKx").replace("Allow:", "Proxy-Require: foo, bar\r\nAllow:"),
    );
    assert_eq!(starts(&out), ["420"]);
    assert_eq!(header(&out[0], "Unsupported"), ["foo, bar"]);
    let required = invite.replace("z9hG4bK", "z9hG4bKy").replace("Allow:", "Require: anything\r\nAllow:");
    assert!(tell(&mut net, required).is_empty(), "Require is for the other end to judge");
    assert!(matches!(net.event(A), Event::Invite { .. }));
    assert_eq!(starts(&tell(&mut net, invite.replace("z9hG4bK", "z9hG4bKz"))), ["482"], "by another way");
}

#[test]
fn a_proxy_require_that_cannot_be_read_does_not_pass() {
    for asked in ["foo, b@d", "foo;x=y"] {
        let mut net = calm();
        let odd = format!("Proxy-Require: {asked}\r\nContent-Length:");
        let invite = unsent_invite(&mut net);
        assert_eq!(starts(&tell(&mut net, invite.replace("Content-Length:", &odd))), ["400"], "{asked}");
        let mut net = calm();
        let bye = unsent_bye(&mut net);
        assert_eq!(starts(&tell(&mut net, bye.replace("Content-Length:", &odd))), ["400"], "{asked}");
        assert_eq!(net.count(A, "BYE"), 0);
    }
}

#[test]
fn a_loop_is_refused_and_a_spiral_passes() {
    let mut net = calm();
    let call = invite(&net);
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(A) else { panic!("no INVITE") };
    let same = Target { hops: vec![(Transport::Udp, net.nodes[A].addr).into()], ..Target::default() };
    let other = Target {
        uri: Some(format!("sip:other@{}", net.nodes[A].addr).parse().unwrap()),
        ..Target::default()
    };
    let (engine, now) = net.engine(A);
    engine.relay(now, tx, Plan::new([other])).unwrap();
    assert!(matches!(step(&mut net), RelayEvent::Trying { .. }));
    let Event::Invite { tx: again, .. } = net.event(A) else { panic!("the spiral does not pass") };
    let (engine, now) = net.engine(A);
    engine.relay(now, again, Plan::new([same])).unwrap();
    for tx in [again, tx] {
        end_by_the_best(&mut net, tx);
    }
    assert_eq!(heard(&mut net), 482);
    net.settle();
}

#[test]
fn a_spiral_s_dialog_passes_through_all_its_routes() {
    let mut net = calm();
    let call = invite(&net);
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(A) else { panic!("no INVITE") };
    let other = Target {
        uri: Some(format!("sip:other@{}", net.nodes[A].addr).parse().unwrap()),
        ..Target::default()
    };
    let (engine, now) = net.engine(A);
    engine.relay(now, tx, Plan::new([other])).unwrap();
    assert!(matches!(step(&mut net), RelayEvent::Trying { .. }));
    let Event::Invite { tx: again, .. } = net.event(A) else { panic!("the spiral does not pass") };
    let last = plan(&net, &[ONE]);
    let (engine, now) = net.engine(A);
    engine.relay(now, again, last).unwrap();
    let taken = invited(&mut net, ONE);
    accept(&mut net, ONE, taken);
    let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
    assert!(matches!(net.event(ONE), Event::Confirmed { .. }));
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &dialog, Headers::new()).unwrap();
    net.settle();
    assert_eq!((net.count(CALLER, "BYE"), net.count(A, "BYE")), (1, 1));
}

/// A BYE of the caller that has not arrived.
fn unsent_bye(net: &mut Network) -> String {
    let (ours, _) = connect(net);
    net.lose(|from, text| from == CALLER && is(text, "BYE"));
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &ours, Headers::new()).unwrap();
    net.run(Duration::from_millis(1));
    first(net, CALLER, "BYE")
}

#[test]
fn a_route_that_the_pool_did_not_make_for_this_call_is_refused() {
    let mut net = calm();
    let bye = unsent_bye(&mut net);
    let route = header(&bye, "Route")[0].to_owned();
    let stamp = route.trim_start_matches("<sip:").split('@').next().unwrap().to_owned();
    let anew = |text: &str, n: u8| text.replacen("z9hG4bK", &format!("z9hG4bK{n}"), 1);
    let forged = [
        bye.replace(&stamp, &stamp.to_lowercase()),
        bye.replace(&format!("{stamp}@"), ""),
        bye.replace(&format!("{stamp}@"), "someone@"),
        bye.replace("Call-ID: ", "Call-ID: another"),
    ];
    for (n, text) in (0..).zip(&forged) {
        assert_eq!(starts(&tell(&mut net, anew(text, n))), ["403"], "{text}");
    }
    let ack = forged[0].replace("BYE", "ACK");
    assert!(tell(&mut net, anew(&ack, 8)).is_empty(), "an ACK is never answered");
    assert_eq!(net.nodes[A].engine.dropped().of(iqra_sip::observe::DropReason::Unroutable), 5);
    let elsewhere = bye.replace(&route, "<sip:198.51.100.9;lr>");
    assert_eq!(starts(&tell(&mut net, anew(&elsewhere, 9))), ["481"], "nor is another's Route followed");
    assert_eq!(net.count(A, "BYE"), 0);
    let out = tell(&mut net, bye);
    assert!(out[0].starts_with("BYE "), "the true one passes: {out:?}");
}

#[test]
fn a_looping_request_inside_a_dialog_ends() {
    let mut net = calm();
    let bye = unsent_bye(&mut net);
    // Its target is the pool itself.
    let uri = bye.split(' ').nth(1).unwrap().to_owned();
    let looping = bye.replacen(&uri, &format!("sip:callee@{POOL}"), 1);
    tell(&mut net, looping);
    net.run(Duration::from_secs(60));
    assert!(net.count(A, "BYE") <= 2, "{}", ladder(&net));
}

/// What somebody who has made one call can make of its Route: nothing that leads out of the call.
#[test]
fn a_route_of_a_call_leads_to_the_ends_of_that_call_alone() {
    let mut net = calm();
    let bye = unsent_bye(&mut net);
    let victim = net.nodes[TWO].addr;
    let uri = bye.split(' ').nth(1).unwrap().to_owned();
    let route = format!("Route: {}", header(&bye, "Route")[0]);
    let from = header(&bye, "From")[0].to_owned();
    let (tag, to) = (from.split("tag=").nth(1).unwrap().to_owned(), header(&bye, "To")[0].to_owned());
    let anew = |text: &str, n: u8| text.replacen("z9hG4bK", &format!("z9hG4bK{n}"), 1);
    let elsewhere = format!("sip:x@{victim}");
    let abuses = [
        bye.replacen(&uri, &elsewhere, 1),
        bye.replacen(&uri, &elsewhere, 1).replace("BYE", "INVITE"),
        bye.replacen(&uri, &elsewhere, 1).replace("BYE", "MESSAGE"),
        bye.replacen(&uri, "sip:x@victim.example", 1),
        bye.replacen(&uri, &format!("{uri};maddr={}", victim.ip()), 1),
        bye.replacen(&uri, &format!("{uri};maddr=victim.example"), 1),
        bye.replacen(&route, &format!("{route}, <sip:{victim};lr>"), 1),
        bye.replacen(&route, &format!("{route}, <sip:{victim}>"), 1),
        // A call of his own under the same Call-ID, and the callee's place called from the wrong side.
        bye.replace(&tag, "another"),
        bye.replace(&from, "F").replace(&to, &from).replace("From: F", &format!("From: {to}")),
    ];
    for (n, text) in (10..).zip(&abuses) {
        assert_eq!(starts(&tell(&mut net, anew(text, n))), ["403"], "{text}");
    }
    let ack = abuses[0].replace("BYE", "ACK");
    assert!(tell(&mut net, anew(&ack, 40)).is_empty());
    assert!(net.nodes[TWO].events.is_empty());
    let (refused, sent) = (iqra_sip::observe::DropReason::Unroutable, net.nodes[A].engine.dropped());
    assert_eq!(sent.of(refused), abuses.len() as u64 + 1);
    let to_caller = bye.replacen(&uri, &format!("sip:caller@{}", net.nodes[CALLER].addr), 1);
    assert_eq!(starts(&tell(&mut net, anew(&to_caller, 50))), ["403"], "nor back to where it comes from");
    let out = tell(&mut net, bye);
    assert!(out[0].starts_with("BYE "), "the true one passes: {out:?}");
}

#[test]
fn networks_that_the_program_names_are_open_to_requests_inside_calls() {
    let mut config = proxy("a");
    config.relay.as_mut().unwrap().networks = ["10.0.0.5/32".parse().unwrap()].into_iter().collect();
    let mut net = calm();
    let bye = unsent_bye(&mut net);
    let node = net.add_node(&[(Transport::Udp, "10.0.0.3:5060"), (Transport::Tcp, "10.0.0.3:5060")], config);
    net.alias(POOL, node);
    let uri = bye.split(' ').nth(1).unwrap().to_owned();
    let flow = flow(&net, CALLER);
    let mut statuses = Vec::new();
    for moved in ["10.0.0.5", "10.0.0.6"] {
        let text = bye.replacen(&uri, &format!("sip:x@{moved}:5060"), 1);
        let text = text.replacen("z9hG4bK", &format!("z9hG4bK{}", moved.len() + statuses.len()), 1);
        let before = net.sent.len();
        let (engine, now) = net.engine(node);
        engine.handle_message(now, &flow, text.into());
        net.run(Duration::from_millis(1));
        let own = |(from, text): &&(usize, String)| *from == node && !text.contains(" 100 ");
        statuses.extend(net.sent[before..].iter().filter(own).map(|(_, text)| text[..11].to_owned()));
    }
    assert_eq!(statuses, ["BYE sip:x@1", "SIP/2.0 403"]);
}
