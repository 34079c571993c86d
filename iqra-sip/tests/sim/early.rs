//! Early dialogs: made by provisional responses, used by requests either way, confirmed by one 2xx
//! (RFC 3261 §12.1, §13.2.2.4, §15).

use std::time::Duration;

use iqra_sip::event::{ClientTx, Event, InviteTx, Reply, ServerTx};
use iqra_sip::{DialogId, EngineConfig, Flow, HeaderName, Headers, Method, StatusCode, Transport};

use crate::callee::{answer_to, outgoing, place};
use crate::network::{CALLEE, CALLER, Network, is};

/// Rings; the early dialog as each side sees it.
pub(crate) fn ring(net: &mut Network) -> (ClientTx, ServerTx, DialogId, DialogId) {
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    let ours = engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, tx, Reply::new(StatusCode::RINGING)).unwrap();
    let theirs = engine.early_dialog(tx).expect("180 makes an early dialog");
    let Event::Response { early: Some(early), .. } = net.event(CALLER) else { panic!("no early dialog") };
    (ours, tx, early, theirs)
}

fn ask(net: &mut Network, node: usize, dialog: &DialogId, method: Method) -> ClientTx {
    let (engine, now) = net.engine(node);
    engine.dialog_request(now, dialog, method, &Headers::new(), None).unwrap()
}

fn grant(net: &mut Network, node: usize) -> (DialogId, Option<InviteTx>) {
    let Event::DialogRequest { dialog, tx, invite, .. } = net.event(node) else { panic!("no request") };
    let (engine, now) = net.engine(node);
    engine.respond(now, tx, Reply::new(StatusCode::OK)).unwrap();
    (dialog, invite)
}

fn status(event: Event) -> u16 {
    let Event::Response { response, .. } = event else { panic!("{event:?}") };
    response.status.code()
}

/// The first response with this status of the callee, as another branch of the fork would have sent it.
fn of_other_branch(net: &Network, status: &str, theirs: &DialogId, tag: &str) -> String {
    let (_, text) = net.sent.iter().find(|(_, text)| is(text, status)).unwrap();
    text.replace(theirs.local_tag(), tag)
}

fn hear(net: &mut Network, text: String) {
    let (local, remote) = (net.nodes[CALLER].addr, net.nodes[CALLEE].addr);
    let flow = Flow { transport: Transport::Udp, local, remote, connection: None };
    let (engine, now) = net.engine(CALLER);
    engine.handle_message(now, &flow, text.into());
}

#[test]
fn requests_go_both_ways_before_the_answer() {
    let mut net = Network::calm();
    let (ours, tx, early, theirs) = ring(&mut net);
    ask(&mut net, CALLER, &early, Method::Info);
    assert_eq!(grant(&mut net, CALLEE), (theirs.clone(), Some(InviteTx::Theirs(tx))));
    assert_eq!(status(net.event(CALLER)), 200);
    ask(&mut net, CALLEE, &theirs, Method::Info);
    assert_eq!(grant(&mut net, CALLER), (early.clone(), Some(InviteTx::Ours(ours))));
    assert_eq!(status(net.event(CALLEE)), 200);

    let (engine, now) = net.engine(CALLEE);
    assert_eq!(engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap(), theirs);
    let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
    assert_eq!(dialog, early, "the 2xx confirms the early dialog");
    assert!(matches!(net.event(CALLEE), Event::Confirmed { .. }));
    ask(&mut net, CALLER, &early, Method::Info);
    assert_eq!(grant(&mut net, CALLEE), (theirs, None));
    assert_eq!(status(net.event(CALLER)), 200);
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &early, Headers::new()).unwrap();
    assert!(matches!(net.event(CALLEE), Event::Ended { .. }));
    net.settle();
}

#[test]
fn a_refusal_ends_the_early_dialog_on_both_sides() {
    let mut net = Network::calm();
    let (_, tx, early, theirs) = ring(&mut net);
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, tx, Reply::new(StatusCode::BUSY_HERE)).unwrap();
    assert!(engine.dialog_request(now, &theirs, Method::Info, &Headers::new(), None).is_err());
    assert_eq!(status(net.event(CALLER)), 486);
    let (engine, now) = net.engine(CALLER);
    assert!(engine.dialog_request(now, &early, Method::Info, &Headers::new(), None).is_err());
    net.settle();
}

#[test]
fn a_bye_of_the_caller_ends_the_branch_and_its_invite_with_487() {
    for lost in ["BYE", "none"] {
        let mut net = Network::calm();
        let (_, tx, early, _) = ring(&mut net);
        net.lose_first(CALLER, lost);
        let mut reason = Headers::new();
        reason.push(HeaderName::REASON, "SIP;cause=200");
        let (engine, now) = net.engine(CALLER);
        engine.bye(now, &early, reason).unwrap();
        let Event::Cancelled { tx: given_up, by: Some(bye) } = net.event(CALLEE) else { panic!("no end") };
        assert_eq!(given_up, tx);
        assert_eq!(bye.headers.get(HeaderName::REASON).unwrap(), "SIP;cause=200");
        assert_eq!(status(net.event(CALLER)), 487);
        net.settle();
        assert!(net.nodes.iter().all(|node| node.events.is_empty()));
    }
}

#[test]
fn the_callee_may_not_hang_up_before_it_answered() {
    let mut net = Network::calm();
    let (_, _, _, theirs) = ring(&mut net);
    let (engine, now) = net.engine(CALLEE);
    assert!(engine.bye(now, &theirs, Headers::new()).is_err());
}

#[test]
fn every_branch_of_a_fork_makes_a_dialog_and_the_one_that_answers_keeps_it() {
    let mut net = Network::calm();
    let (_, tx, early, theirs) = ring(&mut net);
    let other = of_other_branch(&net, "180", &theirs, "other");
    hear(&mut net, other);
    let Event::Response { early: Some(second), .. } = net.event(CALLER) else { panic!("no early dialog") };
    assert_eq!((second.remote_tag(), second == early), ("other", false));
    ask(&mut net, CALLER, &second, Method::Info);
    net.run(Duration::from_millis(1));
    let (engine, now) = net.engine(CALLEE);
    engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
    assert_eq!(dialog, early);
    let (engine, now) = net.engine(CALLER);
    assert!(engine.dialog_request(now, &second, Method::Info, &Headers::new(), None).is_err());

    let late = of_other_branch(&net, "200", &theirs, "other");
    hear(&mut net, late);
    net.run(Duration::from_millis(1));
    let cseq_of = |what: &str| {
        let (_, text) =
            net.sent.iter().find(|(_, text)| is(text, what) && text.contains("tag=other")).unwrap();
        text.lines().find(|line| line.starts_with("CSeq:")).unwrap().to_owned()
    };
    assert_eq!(cseq_of("ACK"), "CSeq: 1 ACK");
    assert_eq!((cseq_of("INFO"), cseq_of("BYE")), ("CSeq: 2 INFO".into(), "CSeq: 3 BYE".into()));
}

#[test]
fn a_200_of_another_branch_after_a_refusal_is_acknowledged_and_hung_up() {
    let mut net = Network::calm();
    let (_, tx, _, theirs) = ring(&mut net);
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, tx, Reply::new(StatusCode::DECLINE)).unwrap();
    assert_eq!(status(net.event(CALLER)), 603);
    let refusal = of_other_branch(&net, "603", &theirs, "late");
    let contact = "Contact: <sip:late@10.0.0.2>\r\nContent-Length";
    let late = refusal.replace("603 Decline", "200 OK").replace("Content-Length", contact);
    hear(&mut net, late);
    net.run(Duration::from_millis(1));
    assert_eq!((net.count(CALLER, "ACK"), net.count(CALLER, "BYE")), (2, 1));
    assert!(net.nodes[CALLER].events.is_empty(), "the program has its final event");
}

/// RFC 3261 §12.1: the To tag makes it; Contact is optional in provisional responses (§20, table 2).
#[test]
fn ringing_without_a_contact_makes_an_early_dialog_towards_the_uri_that_was_called() {
    let mut net = Network::calm();
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    net.lose(|from, text| from == CALLEE && is(text, "180"));
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, tx, Reply::new(StatusCode::RINGING)).unwrap();
    net.run(Duration::from_millis(1));
    let bare: String = net
        .newest(CALLEE, "180")
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("Contact:"))
        .collect();
    hear(&mut net, bare);
    let Event::Response { early: Some(early), .. } = net.event(CALLER) else { panic!("no early dialog") };
    ask(&mut net, CALLER, &early, Method::Info);
    grant(&mut net, CALLEE);
    assert_eq!(status(net.event(CALLER)), 200);
    assert!(net.newest(CALLER, "INFO").starts_with("INFO sip:callee@10.0.0.2:5060 "));
    let (engine, now) = net.engine(CALLEE);
    engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("not answered") };
    assert_eq!(dialog, early);
}

#[test]
fn a_fork_without_end_makes_only_so_many_dialogs() {
    let mut net = Network::calm();
    let (_, _, _, theirs) = ring(&mut net);
    for branch in 0..40 {
        let other = of_other_branch(&net, "180", &theirs, &format!("branch{branch}"));
        hear(&mut net, other);
    }
    assert_eq!(net.nodes[CALLER].engine.counts().dialogs, 16);
    assert_eq!(net.nodes[CALLER].engine.dropped().of(iqra_sip::observe::DropReason::Forks), 25);
}

#[test]
fn a_cancel_shows_its_reason_to_the_callee() {
    let mut net = Network::calm();
    let (ours, _, _, _) = ring(&mut net);
    let mut headers = Headers::new();
    headers.push(HeaderName::REASON, "Q.850;cause=16");
    headers.push("X-Why", "lunch");
    let (engine, now) = net.engine(CALLER);
    engine.cancel(now, ours, headers).unwrap();
    let Event::Cancelled { by: Some(cancel), .. } = net.event(CALLEE) else { panic!("no CANCEL") };
    assert_eq!(cancel.headers.get(HeaderName::REASON).unwrap(), "Q.850;cause=16");
    assert_eq!(cancel.headers.get("X-Why").unwrap(), "lunch");
    assert_eq!(status(net.event(CALLER)), 487);
    net.settle();
}

#[test]
fn the_ack_of_another_branch_s_refusal_confirms_nothing() {
    let mut net = Network::calm();
    net.lose(|from, text| from == CALLER && is(text, "ACK"));
    let (_, tx, _, theirs) = ring(&mut net);
    let (engine, now) = net.engine(CALLEE);
    engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    // A forking proxy without state passes it to every branch, by the transaction of each.
    let invite =
        net.newest(CALLER, "INVITE").replace("INVITE sip", "ACK sip").replace(" INVITE\r\n", " ACK\r\n");
    let to = invite.lines().find(|line| line.starts_with("To: ")).unwrap().to_owned();
    let (local, remote) = (net.nodes[CALLEE].addr, net.nodes[CALLER].addr);
    let flow = Flow { transport: Transport::Udp, local, remote, connection: None };
    let (engine, now) = net.engine(CALLEE);
    engine.handle_message(now, &flow, invite.replace(&to, &format!("{to};tag=other")).into());
    net.run(Duration::from_secs(1));
    assert!(net.nodes[CALLEE].events.is_empty());
    assert_eq!(net.count(CALLEE, "200"), 2, "the 2xx is still repeated");
    let (engine, now) = net.engine(CALLEE);
    engine.handle_message(
        now,
        &flow,
        invite.replace(&to, &format!("{to};tag={}", theirs.local_tag())).into(),
    );
    assert!(matches!(net.event(CALLEE), Event::Confirmed { .. }));
}

#[test]
fn branches_past_the_limit_are_acknowledged_and_hung_up_without_state() {
    let config = EngineConfig { max_forks: 2, ..EngineConfig::default() };
    let (mut wire, _, invite) = place(config, outgoing(Transport::Udp));
    let answer = |branch: &str, ring: &str| {
        let extra = format!("Contact: <sip:{branch}@203.0.113.9>\r\n");
        answer_to(&invite, ring, branch, &extra, "")
    };
    wire.say(answer("ringing", "180 Ringing"));
    wire.answered(answer("first", "200 OK"));
    assert_eq!(wire.say(answer("second", "200 OK")).len(), 2);
    let held = wire.engine.counts();
    for branch in ["third", "third", "ringing", "fourth"] {
        wire.engine.handle_message(wire.now, &wire.flow, answer(branch, "200 OK").into());
        let sent = wire.transmits();
        let texts: Vec<_> = sent.iter().map(|one| String::from_utf8_lossy(&one.bytes)).collect();
        for (text, method) in texts.iter().zip(["ACK", "BYE"]) {
            assert!(text.starts_with(&format!("{method} sip:{branch}@203.0.113.9 ")), "{text}");
            assert!(text.contains(&format!(";tag={branch}\r\n")), "{text}");
        }
        assert_eq!((texts.len(), sent[1].flow.remote), (2, "203.0.113.9:5060".parse().unwrap()));
        assert_eq!(wire.engine.counts(), held, "{branch}");
    }
    assert_eq!(wire.engine.dropped().of(iqra_sip::observe::DropReason::Forks), 4);
}
