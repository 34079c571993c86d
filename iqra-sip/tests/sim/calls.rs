//! Calls that are answered, with and without losses.

use std::time::Duration;

use iqra_sip::event::{EndReason, Event, Failure, Reply};
use iqra_sip::{DialogId, Engine, EngineConfig, HeaderName, Headers, StatusCode};

use crate::network::{CALLEE, CALLER, Network, Weather};
use crate::wire::{Wire, request, starts, tag_of};

/// Places a call and answers it; the dialog as each side sees it.
pub(crate) fn connect(net: &mut Network) -> (DialogId, DialogId) {
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let (engine, now) = net.engine(CALLEE);
    let theirs = engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    let Event::Answered { dialog: ours, .. } = net.event(CALLER) else { panic!("no answer") };
    let Event::Confirmed { dialog, .. } = net.event(CALLEE) else { panic!("no ACK") };
    assert_eq!(dialog, theirs);
    (ours, theirs)
}

pub(crate) fn hang_up(net: &mut Network, node: usize, dialog: &DialogId) {
    let (engine, now) = net.engine(node);
    Engine::bye(engine, now, dialog, Headers::new()).unwrap();
}

fn assert_ended_by_peer(event: Event) {
    assert!(matches!(event, Event::Ended { reason: EndReason::Remote { .. }, .. }), "{event:?}");
}

#[test]
fn a_plain_call_takes_five_messages_and_leaves_nothing() {
    let mut net = Network::calm();
    let (ours, _) = connect(&mut net);
    hang_up(&mut net, CALLER, &ours);
    assert_ended_by_peer(net.event(CALLEE));
    net.settle();
    assert_eq!(net.sent.len(), 5, "INVITE, 200, ACK, BYE, 200");
    assert!(net.nodes.iter().all(|node| node.events.is_empty()));
}

#[test]
fn the_callee_can_hang_up() {
    let mut net = Network::calm();
    let (_, theirs) = connect(&mut net);
    hang_up(&mut net, CALLEE, &theirs);
    assert_ended_by_peer(net.event(CALLER));
    net.settle();
}

#[test]
fn one_lost_message_of_any_kind_is_repeated() {
    for (node, what) in
        [(CALLER, "INVITE"), (CALLEE, "200"), (CALLER, "ACK"), (CALLER, "BYE"), (CALLEE, "200 BYE")]
    {
        let mut net = Network::calm();
        net.lose_first(node, what);
        let (ours, _) = connect(&mut net);
        hang_up(&mut net, CALLER, &ours);
        assert_ended_by_peer(net.event(CALLEE));
        net.settle();
        assert!(net.count(node, what) >= 2, "{what} was lost once and so sent twice");
        assert!(net.nodes.iter().all(|node| node.events.is_empty()), "{what}: nothing is told twice");
    }
}

#[test]
fn a_repeated_invite_makes_one_event_and_gets_the_response_again() {
    let mut net = Network::new(3, Weather { duplicate: 1.0, ..Weather::default() });
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    net.run(Duration::from_secs(2));
    assert!(net.nodes[CALLEE].events.is_empty());
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, tx, Reply::new(StatusCode::BUSY_HERE)).unwrap();
    let Event::Response { response, .. } = net.event(CALLER) else { panic!("no response") };
    assert_eq!(response.status, StatusCode::BUSY_HERE);
    net.settle();
    assert!(net.nodes.iter().all(|node| node.events.is_empty()));
}

#[test]
fn a_silent_program_lets_100_go_out_after_200_ms() {
    let mut net = Network::calm();
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { .. } = net.event(CALLEE) else { panic!("no INVITE") };
    net.run(Duration::from_millis(199));
    assert_eq!(net.count(CALLEE, "100"), 0);
    net.run(Duration::from_millis(2));
    assert_eq!(net.count(CALLEE, "100"), 1);
    net.run(Duration::from_secs(10));
    assert_eq!(net.count(CALLER, "INVITE"), 1, "the 100 stops the repeats");
}

#[test]
fn a_redirect_is_acknowledged_with_the_branch_of_the_invite() {
    let mut net = Network::calm();
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let contact = "<sip:callee@10.0.0.9;x-callqueue-id=abc>";
    let (engine, now) = net.engine(CALLEE);
    let reply = Reply::new(StatusCode::MOVED_TEMPORARILY).header(HeaderName::CONTACT, contact);
    engine.respond(now, tx, reply).unwrap();
    let Event::Response { response, .. } = net.event(CALLER) else { panic!("no response") };
    assert_eq!(response.headers.get(HeaderName::CONTACT).unwrap(), contact);
    net.settle();
    let via = |what| {
        let (_, text) = net.sent.iter().find(|(_, text)| crate::network::is(text, what)).unwrap();
        text.lines().find(|line| line.starts_with("Via:")).unwrap().to_owned()
    };
    assert_eq!(via("INVITE"), via("ACK"));
    assert_eq!((net.count(CALLEE, "302"), net.count(CALLER, "ACK")), (1, 1));
}

#[test]
fn without_any_ack_the_call_ends_with_a_bye_after_64_t1() {
    let mut net = Network::calm();
    net.lose(|_, text| text.starts_with("ACK "));
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let (engine, answered) = net.engine(CALLEE);
    engine.accept(answered, tx, Reply::new(StatusCode::OK)).unwrap();
    let Event::Answered { .. } = net.event(CALLER) else { panic!("no answer") };
    let event = net.event(CALLEE);
    assert!(matches!(event, Event::Ended { reason: EndReason::AckTimeout, .. }), "{event:?}");
    assert_eq!(net.now - answered, Duration::from_secs(32));
    assert_eq!(net.count(CALLEE, "200"), 11, "T1 doubling to T2 for 64*T1 (RFC 3261 §13.3.1.4)");
    assert_eq!(net.count(CALLER, "ACK"), 11, "every repeated 2xx is acknowledged again");
    assert_ended_by_peer(net.event(CALLER));
    net.settle();
}

#[test]
fn a_hang_up_before_the_ack_waits_for_it() {
    let mut net = Network::calm();
    net.lose_first(CALLER, "ACK");
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let (engine, now) = net.engine(CALLEE);
    let dialog = engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    engine.bye(now, &dialog, Headers::new()).unwrap();
    net.run(Duration::from_millis(400));
    assert_eq!(net.count(CALLEE, "BYE"), 0);
    let Event::Answered { .. } = net.event(CALLER) else { panic!("no answer") };
    assert_ended_by_peer(net.event(CALLER));
    net.settle();
    assert!(net.nodes[CALLEE].events.is_empty());
}

#[test]
fn nobody_there_is_a_timeout_after_64_t1() {
    let mut net = Network::new(1, Weather { loss: 1.0, ..Weather::default() });
    let call = net.invite();
    let (engine, start) = net.engine(CALLER);
    engine.invite(start, call).unwrap();
    let event = net.event(CALLER);
    assert!(matches!(event, Event::Failed { failure: Failure::Timeout, .. }), "{event:?}");
    assert_eq!(net.now - start, Duration::from_secs(32));
    assert_eq!(net.count(CALLER, "INVITE"), 7);
    net.settle();
}

#[test]
fn two_byes_that_cross_end_the_call_quietly() {
    let mut net = Network::calm();
    let (ours, theirs) = connect(&mut net);
    hang_up(&mut net, CALLER, &ours);
    hang_up(&mut net, CALLEE, &theirs);
    net.settle();
    assert_eq!((net.count(CALLEE, "200 BYE"), net.count(CALLER, "200 BYE")), (1, 1));
    assert!(net.nodes.iter().all(|node| node.events.is_empty()));
}

#[test]
fn an_invitation_lapses_when_its_expires_is_over_and_not_once_it_is_answered() {
    for answered in [false, true] {
        let mut wire = Wire::new(EngineConfig::default());
        assert!(wire.say(request("INVITE", "b1", "1", "", "Expires: 20\r\n")).is_empty());
        let Some(Event::Invite { tx, .. }) = wire.event() else { panic!("no INVITE") };
        let start = wire.now;
        wire.engine.respond(wire.now, tx, Reply::new(StatusCode::RINGING)).unwrap();
        if answered {
            let dialog = wire.engine.accept(wire.now, tx, Reply::new(StatusCode::OK)).unwrap();
            assert!(wire.say(request("ACK", "b2", "1", &tag_of(&dialog), "")).len() == 2, "180 and 200");
            assert!(matches!(wire.event(), Some(Event::Confirmed { .. })));
        }
        let mut sent = wire.out();
        while let Some(next) =
            wire.engine.poll_timeout().filter(|next| *next < start + Duration::from_secs(21))
        {
            assert!(answered || next - start >= Duration::from_secs(20) || sent.len() == 1, "{sent:?}");
            wire.now = next;
            wire.engine.handle_timeout(next);
            sent.extend(wire.out());
        }
        let told = matches!(wire.event(), Some(Event::Cancelled { tx: told, by: None }) if told == tx);
        assert_eq!((told, starts(&sent).contains(&"487")), (!answered, !answered));
    }
}
