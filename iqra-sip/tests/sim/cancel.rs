//! Calls that are given up before they are answered, and forks (RFC 3261 §9, §13.2.2.4).

use std::time::Duration;

use iqra_sip::event::{CallOptions, ClientTx, EndReason, Event, OutgoingInvite, Reply, ServerTx};
use iqra_sip::message::NameAddr;
use iqra_sip::{EngineConfig, Flow, HeaderName, Headers, StatusCode, Transport, Uri};

use crate::network::{CALLEE, CALLER, Network};
use crate::wire::Wire;

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

/// An INVITE of ours to a peer that is a piece of text, with Expires of 10 s; what is sent in the 60 s after the answers
/// of `answers`, and how long after the INVITE.
fn sent_after(answers: &[(u64, &str)]) -> Vec<(u64, String)> {
    let mut wire = Wire::new(EngineConfig::default());
    let mut headers = Headers::new();
    headers.push(HeaderName::EXPIRES, "10");
    let uri: Uri = "sip:bob@198.51.100.7".parse().unwrap();
    let call = OutgoingInvite {
        uri: uri.clone(),
        hops: vec![(Transport::Udp, wire.flow.remote).into()],
        from: NameAddr::parse("<sip:alice@192.0.2.1>").unwrap(),
        to: NameAddr::new(uri),
        call_id: None,
        cseq: 1,
        headers,
        body: None,
        options: CallOptions::default(),
    };
    let start = wire.now;
    wire.engine.invite(wire.now, call).unwrap();
    let invite = wire.out().remove(0);
    let mut sent = Vec::new();
    let mut answers = answers.iter().peekable();
    while let Some(next) = wire.engine.poll_timeout().filter(|next| *next < start + Duration::from_secs(60)) {
        let due = answers.peek().map(|(at, _)| start + Duration::from_secs(*at)).filter(|at| *at <= next);
        wire.now = due.unwrap_or(next);
        let out = match due.and_then(|_| answers.next()) {
            Some((_, line)) => wire.say(answer_to(&invite, line)),
            None => {
                wire.engine.handle_timeout(wire.now);
                wire.out()
            }
        };
        let methods = out.iter().map(|text| text.split(' ').next().unwrap_or_default().to_owned());
        sent.extend(methods.map(|method| ((wire.now - start).as_secs(), method)));
    }
    sent.retain(|(_, method)| method != "INVITE");
    sent
}

fn answer_to(invite: &str, line: &str) -> String {
    let copied = |line: &&str| ["Via", "From", "Call-ID", "CSeq"].contains(&line.split(':').next().unwrap());
    let copied: Vec<&str> = invite.lines().filter(copied).collect();
    format!(
        "SIP/2.0 {line}\r\n{}\r\nTo: <sip:bob@198.51.100.7>;tag=b\r\nContact: <sip:bob@198.51.100.7>\r\n\
         Content-Length: 0\r\n\r\n",
        copied.join("\r\n")
    )
}

#[test]
fn an_invite_of_ours_is_cancelled_when_its_expires_is_over_and_not_once_it_is_answered() {
    let first = |sent: Vec<(u64, String)>| sent.into_iter().next();
    assert_eq!(first(sent_after(&[(1, "180 Ringing")])), Some((10, "CANCEL".into())));
    assert_eq!(first(sent_after(&[(20, "180 Ringing")])), Some((20, "CANCEL".into())), "late, so at once");
    assert_eq!(first(sent_after(&[])), None, "nothing to cancel without any response");
    assert_eq!(first(sent_after(&[(1, "180 Ringing"), (9, "200 OK")])), Some((9, "ACK".into())));
    assert!(sent_after(&[(1, "180 Ringing"), (9, "200 OK")]).iter().all(|(_, method)| method == "ACK"));
}
