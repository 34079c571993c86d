//! Calls that are given up before they are answered, and forks (RFC 3261 §9, §13.2.2.4).

use std::time::Duration;

use iqra_sip::event::{ClientTx, EndReason, Event, Reply, ServerTx};
use iqra_sip::{Flow, Headers, StatusCode, Transport};

use crate::network::{CALLEE, CALLER, Network};

fn ring(net: &mut Network) -> (ClientTx, ServerTx) {
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    let ours = engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, tx, Reply::new(StatusCode::RINGING)).unwrap();
    let Event::Response { response, .. } = net.event(CALLER) else { panic!("no response") };
    assert_eq!(response.status, StatusCode::RINGING);
    (ours, tx)
}

fn assert_terminated(event: Event) {
    let Event::Response { response, .. } = event else { panic!("{event:?}") };
    assert_eq!(response.status, StatusCode::REQUEST_TERMINATED);
}

#[test]
fn a_cancelled_call_is_answered_487_and_told_to_both_sides() {
    let mut net = Network::calm();
    let (ours, theirs) = ring(&mut net);
    let (engine, now) = net.engine(CALLER);
    engine.cancel(now, ours, Headers::new()).unwrap();
    let event = net.event(CALLEE);
    assert!(matches!(event, Event::Cancelled { tx, .. } if tx == theirs), "{event:?}");
    assert_terminated(net.event(CALLER));
    let (engine, now) = net.engine(CALLEE);
    assert!(engine.accept(now, theirs, Reply::new(StatusCode::OK)).is_err());
    net.settle();
    assert_eq!(net.count(CALLEE, "200 CANCEL"), 1);
}

#[test]
fn a_forgotten_invite_is_answered_by_nobody_and_leaves_nothing() {
    let mut net = Network::calm();
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let (engine, _) = net.engine(CALLEE);
    engine.forget(tx);
    let counts = engine.counts();
    assert_eq!((counts.server_transactions, counts.timers), (0, 0));
    net.run(Duration::from_millis(400));
    assert_eq!(net.count(CALLEE, "100 INVITE"), 0);
}

#[test]
fn a_cancel_before_any_response_waits_for_the_first() {
    let mut net = Network::calm();
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    let ours = engine.invite(now, call).unwrap();
    engine.cancel(now, ours, Headers::new()).unwrap();
    let Event::Invite { .. } = net.event(CALLEE) else { panic!("no INVITE") };
    net.run(Duration::from_millis(150));
    assert_eq!(net.count(CALLER, "CANCEL"), 0);
    assert_terminated(net.event(CALLER));
    net.settle();
}

#[test]
fn a_200_that_crosses_the_cancel_is_acknowledged_and_hung_up() {
    let mut net = Network::calm();
    let (ours, theirs) = ring(&mut net);
    let (engine, now) = net.engine(CALLER);
    engine.cancel(now, ours, Headers::new()).unwrap();
    let (engine, now) = net.engine(CALLEE);
    engine.accept(now, theirs, Reply::new(StatusCode::OK)).unwrap();
    assert_terminated(net.event(CALLER));
    assert!(matches!(net.event(CALLEE), Event::Confirmed { .. }));
    let event = net.event(CALLEE);
    assert!(matches!(event, Event::Ended { reason: EndReason::Remote { .. }, .. }), "{event:?}");
    net.settle();
    assert!(net.nodes.iter().all(|node| node.events.is_empty()));
}

#[test]
fn a_cancel_is_answered_with_the_to_tag_of_its_invite() {
    let mut net = Network::calm();
    let (ours, theirs) = ring(&mut net);
    let (engine, now) = net.engine(CALLER);
    engine.cancel(now, ours, Headers::new()).unwrap();
    let (engine, now) = net.engine(CALLEE);
    engine.accept(now, theirs, Reply::new(StatusCode::OK)).unwrap();
    net.settle();
    let answers = net.sent.iter().filter(|(_, text)| text.starts_with("SIP/2.0 200"));
    let to = |text: &str| text.lines().find(|line| line.starts_with("To:")).map(str::to_owned);
    let of = |method: &str| {
        let end = format!(" {method}\r\n");
        to(&answers.clone().find(|(_, text)| text.contains(&end)).unwrap().1)
    };
    assert!(of("CANCEL").unwrap().contains(";tag="));
    assert_eq!(of("CANCEL"), of("INVITE"));
}

#[test]
fn a_cancel_that_brings_no_final_response_ends_the_call_after_64_t1() {
    let mut net = Network::calm();
    let (ours, _) = ring(&mut net);
    net.lose(|from, _| from == CALLEE);
    let (engine, start) = net.engine(CALLER);
    engine.cancel(start, ours, Headers::new()).unwrap();
    assert_terminated(net.event(CALLER));
    assert_eq!(net.now - start, Duration::from_secs(32));
    net.settle();
}

#[test]
fn an_endless_ringing_is_cancelled_at_its_limit() {
    let mut net = Network::calm();
    ring(&mut net);
    assert!(matches!(net.event(CALLEE), Event::Cancelled { .. }));
    assert_terminated(net.event(CALLER));
    net.settle();
}

#[test]
fn a_second_branch_that_answers_is_acknowledged_and_hung_up() {
    let mut net = Network::calm();
    let (_, theirs) = ring(&mut net);
    let (engine, now) = net.engine(CALLEE);
    engine.accept(now, theirs, Reply::new(StatusCode::OK)).unwrap();
    let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
    let (_, answer) = net.sent.iter().find(|(_, text)| text.starts_with("SIP/2.0 200")).unwrap().clone();
    let other = answer.replace(dialog.remote_tag(), "another-branch");
    let flow = Flow {
        transport: Transport::Udp,
        local: net.nodes[CALLER].addr,
        remote: net.nodes[CALLEE].addr,
        connection: None,
    };
    for _ in 0..2 {
        let (engine, now) = net.engine(CALLER);
        engine.handle_message(now, &flow, other.clone().into());
    }
    net.run(Duration::from_millis(5));
    let to_other = |what: &str| {
        net.sent
            .iter()
            .filter(|(_, text)| crate::network::is(text, what) && text.contains("another-branch"))
            .count()
    };
    assert_eq!(to_other("ACK"), 2, "each 2xx is acknowledged");
    assert_eq!(to_other("BYE"), 1, "and the branch hung up once");
    assert_eq!(net.nodes[CALLER].engine.counts().dialogs, 1, "the call itself lives");
    assert!(net.nodes[CALLER].events.is_empty());
}
