//! Requests that change a session: UPDATE in early and confirmed dialogs, and those that meet (RFC 3311,
//! RFC 3261 §14.1, §14.2).

use std::time::Duration;

use iqra_sip::event::{Body, EngineError, Event, Reliability, Reply, ServerTx};
use iqra_sip::{DialogId, EngineConfig, HeaderName, Headers, Method, StatusCode, Transport};

use crate::calls::connect;
use crate::dialogs::accepted;
use crate::network::{CALLEE, CALLER, Network, Weather, is};
use crate::wire::{Wire, request, starts, tag_of};

fn offer(net: &mut Network, node: usize, dialog: &DialogId, method: Method) {
    let (engine, now) = net.engine(node);
    engine.dialog_request(now, dialog, method, &Headers::new(), Some(Body::sdp("v=0\r\n"))).unwrap();
}

fn asked(net: &mut Network, node: usize) -> ServerTx {
    let Event::DialogRequest { tx, .. } = net.event(node) else { panic!("no request") };
    tx
}

fn grant(net: &mut Network, node: usize, tx: ServerTx) {
    let (engine, now) = net.engine(node);
    engine.respond(now, tx, Reply::new(StatusCode::OK)).unwrap();
}

fn status(event: Event) -> u16 {
    let Event::Response { response, .. } = event else { panic!("{event:?}") };
    response.status.code()
}

fn retrying(seed: u64, glare_retries: u8) -> Network {
    let config = EngineConfig { glare_retries, ..EngineConfig::default() };
    Network::of(seed, Weather::default(), Transport::Udp, config)
}

#[test]
fn an_update_is_answered_with_contact_and_moves_the_target() {
    for lost in ["UPDATE", "none"] {
        let mut net = Network::calm();
        let (ours, _) = connect(&mut net);
        net.lose_first(CALLER, lost);
        offer(&mut net, CALLER, &ours, Method::Update);
        let tx = asked(&mut net, CALLEE);
        let moved = "<sip:moved@10.0.0.2:5060>";
        let (engine, now) = net.engine(CALLEE);
        engine.respond(now, tx, Reply::new(StatusCode::OK).header(HeaderName::CONTACT, moved)).unwrap();
        assert_eq!(status(net.event(CALLER)), 200);
        let (engine, now) = net.engine(CALLER);
        engine.bye(now, &ours, Headers::new()).unwrap();
        assert!(matches!(net.event(CALLEE), Event::Ended { .. }));
        let (_, bye) = net.sent.iter().find(|(_, text)| is(text, "BYE")).unwrap();
        assert!(bye.starts_with("BYE sip:moved@10.0.0.2:5060 "), "{bye}");
        net.settle();
    }
}

#[test]
fn updates_with_offers_that_cross_are_both_answered_491() {
    let mut net = retrying(1, 0);
    let (ours, theirs) = connect(&mut net);
    offer(&mut net, CALLER, &ours, Method::Update);
    offer(&mut net, CALLEE, &theirs, Method::Update);
    assert_eq!((status(net.event(CALLER)), status(net.event(CALLEE))), (491, 491));
}

#[test]
fn a_second_offer_is_kept_from_leaving_while_one_waits() {
    let mut net = Network::calm();
    let (ours, theirs) = connect(&mut net);
    offer(&mut net, CALLER, &ours, Method::Update);
    let tx = asked(&mut net, CALLEE);
    for (node, dialog) in [(CALLER, &ours), (CALLEE, &theirs)] {
        for method in [Method::Update, Method::Invite] {
            let (engine, now) = net.engine(node);
            let body = Some(Body::sdp("v=0\r\n"));
            assert!(engine.dialog_request(now, dialog, method, &Headers::new(), body).is_err());
        }
    }
    grant(&mut net, CALLEE, tx);
    assert_eq!(status(net.event(CALLER)), 200);
    offer(&mut net, CALLEE, &theirs, Method::Update);
    let tx = asked(&mut net, CALLER);
    grant(&mut net, CALLER, tx);
    assert_eq!(status(net.event(CALLEE)), 200);
}

#[test]
fn an_early_dialog_takes_an_offer_by_update_once_the_first_is_answered() {
    let config = EngineConfig { reliability: Reliability::IfSupported, ..EngineConfig::default() };
    let mut net = Network::of(4, Weather::default(), Transport::Udp, config);
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx: invite, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let progress = |body| Reply { body, ..Reply::new(StatusCode::SESSION_PROGRESS) };
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, invite, progress(None)).unwrap();
    let Event::Response { early: Some(early), .. } = net.event(CALLER) else { panic!("no early dialog") };
    let body = || Some(Body::sdp("v=0\r\n"));
    let (engine, now) = net.engine(CALLER);
    let early_offer = engine.dialog_request(now, &early, Method::Update, &Headers::new(), body());
    assert!(early_offer.is_err(), "the offer of the INVITE has no answer yet");
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, invite, progress(body())).unwrap();
    let Event::Response { early: Some(_), .. } = net.event(CALLER) else { panic!("no answer") };
    offer(&mut net, CALLER, &early, Method::Update);
    net.nodes[CALLEE].events.retain(|event| !matches!(event, Event::Acknowledged { .. }));
    let update = loop {
        match net.event(CALLEE) {
            Event::DialogRequest { tx, .. } => break tx,
            Event::Acknowledged { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    grant(&mut net, CALLEE, update);
    assert_eq!(status(net.event(CALLER)), 200);
}

/// With a description.
fn describing(text: String) -> String {
    let body = "Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";
    text.replace("Content-Length: 0\r\n\r\n", body)
}

/// A call that was answered 183 reliably, by an offer or an answer of ours; its early dialog, transaction and RSeq.
fn progressing(offered: bool, body: bool) -> (Wire, DialogId, ServerTx, String) {
    let mut wire =
        Wire::new(EngineConfig { reliability: Reliability::IfSupported, ..EngineConfig::default() });
    let invite = request("INVITE", "b1", "1", "", "Supported: 100rel\r\n");
    assert!(wire.say(if offered { describing(invite) } else { invite }).is_empty());
    let Some(Event::Invite { tx, .. }) = wire.event() else { panic!("no INVITE") };
    let body = body.then(|| Body::sdp("v=0\r\n"));
    wire.engine.respond(wire.now, tx, Reply { body, ..Reply::new(StatusCode::SESSION_PROGRESS) }).unwrap();
    let sent = wire.out().remove(0);
    let rseq = sent.lines().find_map(|line| line.strip_prefix("RSeq: ")).unwrap().to_owned();
    let dialog = wire.engine.early_dialog(tx).unwrap();
    (wire, dialog, tx, rseq)
}

/// What an UPDATE with an offer is answered at once; the seconds to wait, which have to be 0 to 10, where there are some.
fn update(wire: &mut Wire, dialog: &DialogId, number: &str) -> (Option<u16>, bool) {
    let text = describing(request("UPDATE", &format!("u{number}"), number, &tag_of(dialog), ""));
    let Some(answer) = wire.say(text).into_iter().next() else { return (None, false) };
    let wait =
        answer.lines().find_map(|line| line.strip_prefix("Retry-After: ")).map(|wait| wait.parse().unwrap());
    assert!(wait.is_none_or(|wait: u32| wait <= 10));
    (Some(answer[8..11].parse().unwrap()), wait.is_some())
}

fn prack(dialog: &DialogId, number: &str, rseq: &str) -> String {
    describing(bare_prack(dialog, number, rseq))
}

/// One without a description.
fn bare_prack(dialog: &DialogId, number: &str, rseq: &str) -> String {
    let rack = format!("RAck: {rseq} 1 INVITE\r\n");
    request("PRACK", &format!("p{number}"), number, &tag_of(dialog), &rack)
}

#[test]
fn an_update_meets_our_offer_that_a_prack_is_to_answer() {
    let (mut wire, dialog, ..) = progressing(false, true);
    assert_eq!(update(&mut wire, &dialog, "2"), (Some(491), false));
    let (mut wire, dialog, _, rseq) = progressing(false, true);
    assert_eq!(starts(&wire.say(prack(&dialog, "2", &rseq))), ["200"]);
    assert_eq!(update(&mut wire, &dialog, "3"), (None, false), "answered");
}

/// RFC 3311 §5.1: until then nobody knows whether the caller has the answer to its own.
#[test]
fn a_callee_makes_no_offer_before_its_reliable_answer_has_its_prack() {
    let (mut wire, dialog, _, rseq) = progressing(true, true);
    let ask = |wire: &mut Wire, body| {
        wire.engine.dialog_request(wire.now, &dialog, Method::Update, &Headers::new(), body).map(drop)
    };
    let offer = || Some(Body::sdp("v=0\r\n"));
    assert!(matches!(ask(&mut wire, offer()), Err(EngineError::Misuse(_))));
    assert!(ask(&mut wire, None).is_ok(), "one without an offer may go");
    let update = wire.out().remove(0);
    wire.say(accepted(&update, "Content-Length: 0\r\n\r\n"));
    assert_eq!(starts(&wire.say(bare_prack(&dialog, "2", &rseq))), ["200"]);
    assert!(ask(&mut wire, offer()).is_ok());
}

#[test]
fn an_update_meets_the_offer_of_its_own_side_that_we_have_not_answered() {
    let (mut wire, dialog, ..) = progressing(true, false);
    assert_eq!(update(&mut wire, &dialog, "2"), (Some(500), true), "that of the INVITE");
    let (mut wire, dialog, _, rseq) = progressing(true, true);
    assert!(wire.say(prack(&dialog, "2", &rseq)).is_empty(), "its offer is the program's to answer");
    assert_eq!(update(&mut wire, &dialog, "3"), (Some(500), true), "that of the PRACK");
    let prack = loop {
        match wire.event() {
            Some(Event::DialogRequest { tx, .. }) => break tx,
            Some(_) => {}
            None => panic!("no PRACK"),
        }
    };
    wire.engine
        .respond(wire.now, prack, Reply { body: Some(Body::sdp("v=0\r\n")), ..Reply::new(StatusCode::OK) })
        .unwrap();
    assert_eq!(starts(&wire.out()), ["200"]);
    assert_eq!(update(&mut wire, &dialog, "4"), (None, false));
    assert_eq!(update(&mut wire, &dialog, "5"), (Some(500), true), "that of the UPDATE before");
}

#[test]
fn an_update_meets_our_offer_in_a_2xx_until_the_ack() {
    let mut wire = Wire::new(EngineConfig::default());
    assert!(wire.say(request("INVITE", "b1", "1", "", "")).is_empty());
    let Some(Event::Invite { tx, .. }) = wire.event() else { panic!("no INVITE") };
    let offer = Reply { body: Some(Body::sdp("v=0\r\n")), ..Reply::new(StatusCode::OK) };
    let dialog = wire.engine.accept(wire.now, tx, offer).unwrap();
    wire.out();
    assert_eq!(update(&mut wire, &dialog, "2"), (Some(491), false));
    assert!(wire.say(describing(request("ACK", "a", "1", &tag_of(&dialog), ""))).is_empty());
    assert_eq!(update(&mut wire, &dialog, "3"), (None, false));
}

#[test]
fn glare_is_resolved_by_the_engines_and_the_callee_goes_first() {
    for (seed, method) in [(1, Method::Invite), (2, Method::Update), (3, Method::Invite), (4, Method::Update)]
    {
        let mut net = retrying(seed, 3);
        let (ours, theirs) = connect(&mut net);
        offer(&mut net, CALLER, &ours, method.clone());
        offer(&mut net, CALLEE, &theirs, method.clone());
        let start = net.now;
        let tx = asked(&mut net, CALLER);
        assert!(net.now - start < Duration::from_millis(2_100), "0 to 2 s for the side without the Call-ID");
        grant(&mut net, CALLER, tx);
        assert_eq!(status(net.event(CALLEE)), 200);
        let tx = asked(&mut net, CALLEE);
        assert!(net.now - start >= Duration::from_millis(2_100), "2.1 to 4 s for the other");
        assert!(net.now - start < Duration::from_millis(4_100));
        grant(&mut net, CALLEE, tx);
        assert_eq!(status(net.event(CALLER)), 200);
        let (engine, now) = net.engine(CALLER);
        engine.bye(now, &ours, Headers::new()).unwrap();
        net.settle();
    }
}

#[test]
fn a_call_that_ends_while_a_request_waits_tells_of_its_491_once() {
    let mut net = retrying(5, 3);
    let (ours, theirs) = connect(&mut net);
    offer(&mut net, CALLER, &ours, Method::Invite);
    offer(&mut net, CALLEE, &theirs, Method::Invite);
    net.run(Duration::from_millis(25));
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &ours, Headers::new()).unwrap();
    assert_eq!(status(net.event(CALLER)), 491);
    net.settle();
    assert!(net.nodes[CALLER].events.is_empty());
    let told =
        net.nodes[CALLEE].events.iter().filter(|event| matches!(event, Event::Response { .. })).count();
    assert_eq!(told, 1);
}

#[test]
fn a_reinvite_that_meets_another_goes_out_again_by_default() {
    let mut net = Network::calm();
    let (ours, theirs) = connect(&mut net);
    offer(&mut net, CALLER, &ours, Method::Invite);
    offer(&mut net, CALLEE, &theirs, Method::Invite);
    let tx = asked(&mut net, CALLER);
    grant(&mut net, CALLER, tx);
    assert_eq!(status(net.event(CALLEE)), 200, "the side that was called waits the shorter time");
    let tx = asked(&mut net, CALLEE);
    grant(&mut net, CALLEE, tx);
    assert_eq!(status(net.event(CALLER)), 200);
}

/// Takes a call with this INVITE by a 2xx with a description; no ACK comes.
fn unacknowledged(invite: String) -> (Wire, DialogId) {
    let mut wire = Wire::new(EngineConfig::default());
    assert!(wire.say(invite).is_empty());
    let Some(Event::Invite { tx, .. }) = wire.event() else { panic!("no INVITE") };
    let answer = Reply { body: Some(Body::sdp("v=0\r\n")), ..Reply::new(StatusCode::OK) };
    let dialog = wire.engine.accept(wire.now, tx, answer).unwrap();
    assert_eq!(starts(&wire.out()), ["200"]);
    (wire, dialog)
}

/// RFC 5407 §3.1.4 and §3.1.5: only where our 2xx has an offer does a re-INVITE that overtakes the ACK meet one.
#[test]
fn a_reinvite_that_overtakes_the_ack_is_taken_where_offer_and_answer_are_done() {
    let (mut wire, dialog) = unacknowledged(describing(request("INVITE", "b1", "1", "", "")));
    let tag = tag_of(&dialog);
    assert!(wire.say(describing(request("INVITE", "b3", "2", &tag, ""))).is_empty());
    let Some(Event::DialogRequest { tx, .. }) = wire.event() else { panic!("no re-INVITE") };
    let refused = wire.engine.dialog_request(wire.now, &dialog, Method::Invite, &Headers::new(), None);
    assert!(refused.is_err(), "one INVITE at a time");
    let answer = Reply { body: Some(Body::sdp("v=0\r\n")), ..Reply::new(StatusCode::OK) };
    wire.engine.respond(wire.now, tx, answer).unwrap();
    assert_eq!(starts(&wire.out()), ["200"]);
    assert!(wire.say(request("ACK", "b2", "1", &tag, "")).is_empty());
    assert!(matches!(wire.event(), Some(Event::Confirmed { .. })), "late, and told all the same");
    let repeated = wire.wait(Duration::from_secs(3));
    assert!(
        !repeated.is_empty() && repeated.iter().all(|text| text.contains("CSeq: 2 INVITE")),
        "{repeated:?}"
    );
    assert!(wire.say(request("ACK", "b4", "2", &tag, "")).is_empty());
    assert!(wire.event().is_none(), "once");
    assert!(wire.wait(Duration::from_secs(60)).is_empty());
    assert_eq!(starts(&wire.say(request("BYE", "b5", "3", &tag, ""))), ["200"]);
}

#[test]
fn a_reinvite_that_overtakes_the_ack_and_is_refused_leaves_the_2xx_waiting_for_it() {
    let (mut wire, dialog) = unacknowledged(describing(request("INVITE", "b1", "1", "", "")));
    let tag = tag_of(&dialog);
    wire.say(describing(request("INVITE", "b3", "2", &tag, "")));
    let Some(Event::DialogRequest { tx, .. }) = wire.event() else { panic!("no re-INVITE") };
    wire.engine.respond(wire.now, tx, Reply::new(StatusCode::NOT_ACCEPTABLE_HERE)).unwrap();
    assert_eq!(starts(&wire.out()), ["488"]);
    assert!(wire.say(request("ACK", "b3", "2", &tag, "")).is_empty());
    assert_eq!(starts(&wire.wait(Duration::from_millis(500))), ["200"]);
    assert!(wire.say(request("ACK", "b2", "1", &tag, "")).is_empty());
    assert!(matches!(wire.event(), Some(Event::Confirmed { .. })));
}

#[test]
fn a_reinvite_that_overtakes_the_ack_meets_the_offer_of_our_2xx_and_our_wish_to_hang_up() {
    let (mut wire, dialog) = unacknowledged(request("INVITE", "b1", "1", "", ""));
    let tag = tag_of(&dialog);
    assert_eq!(starts(&wire.say(describing(request("INVITE", "b3", "2", &tag, "")))), ["491"]);
    let (mut wire, dialog) = unacknowledged(describing(request("INVITE", "b1", "1", "", "")));
    wire.engine.bye(wire.now, &dialog, Headers::new()).unwrap();
    assert!(wire.out().is_empty(), "the BYE waits for the ACK");
    let tag = tag_of(&dialog);
    assert_eq!(starts(&wire.say(describing(request("INVITE", "b3", "2", &tag, "")))), ["500"]);
    assert!(wire.say(request("ACK", "b2", "1", &tag, ""))[0].starts_with("BYE "));
}
