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
fn a_loop_is_refused_and_a_spiral_passes() {
    let mut net = calm();
    let call = invite(&net);
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(A) else { panic!("no INVITE") };
    let same = Target { next_hop: Some((Transport::Udp, net.nodes[A].addr).into()), ..Target::default() };
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
