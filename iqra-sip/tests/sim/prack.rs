//! Reliable provisional responses and their PRACKs (RFC 3262), in both roles.

use std::time::Duration;

use iqra_sip::event::{Body, CallOptions, EndReason, Event, OutgoingInvite, Reliability, Reply, ServerTx};
use iqra_sip::{
    DialogId, Engine, EngineConfig, HeaderName, Headers, Listener, Method, StatusCode, Transport,
};

use crate::network::{CALLEE, CALLER, Network, Weather};

const PROGRESS: StatusCode = StatusCode::SESSION_PROGRESS;

fn network(weather: Weather) -> Network {
    let config = EngineConfig { reliability: Reliability::IfSupported, ..EngineConfig::default() };
    Network::of(9, weather, Transport::Udp, config)
}

fn sdp() -> Option<Body> {
    Some(Body::sdp("v=0\r\n"))
}

fn with_sdp(status: StatusCode) -> Reply {
    Reply { body: sdp(), ..Reply::new(status) }
}

/// Calls; the INVITE at the callee.
fn call(net: &mut Network) -> ServerTx {
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    tx
}

fn respond(net: &mut Network, tx: ServerTx, reply: Reply) {
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, tx, reply).unwrap();
}

fn assert_acknowledged(event: Event, invite: ServerTx) {
    assert!(matches!(event, Event::Acknowledged { tx, .. } if tx == invite), "{event:?}");
}

fn hang_up(net: &mut Network) {
    let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &dialog, Headers::new()).unwrap();
    net.settle();
}

#[test]
fn one_lost_message_of_any_kind_is_repeated_and_told_once() {
    for (node, what) in [
        (CALLER, "none"),
        (CALLEE, "183"),
        (CALLER, "PRACK"),
        (CALLEE, "200 PRACK"),
        (CALLEE, "200"),
        (CALLER, "ACK"),
    ] {
        let mut net = network(Weather::default());
        net.lose_first(node, what);
        let tx = call(&mut net);
        respond(&mut net, tx, with_sdp(PROGRESS));
        let Event::Response { response, early: Some(_), .. } = net.event(CALLER) else { panic!("{what}") };
        assert_eq!(response.headers.get(HeaderName::REQUIRE).unwrap(), "100rel");
        assert_acknowledged(net.event(CALLEE), tx);
        let (engine, now) = net.engine(CALLEE);
        engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
        hang_up(&mut net);
        let said: Vec<_> = net.nodes.iter().map(|node| node.events.len()).collect();
        let ends = if what == "ACK" { 1 } else { 2 };
        assert_eq!(
            said,
            [0, ends],
            "{what}: Ended, before it Confirmed unless the BYE was first, and nothing twice"
        );
    }
}

#[test]
fn duplicates_and_reordering_are_told_once_and_in_order() {
    let mut net =
        network(Weather { duplicate: 1.0, jitter: Duration::from_millis(900), ..Weather::default() });
    let tx = call(&mut net);
    for status in [PROGRESS, StatusCode::RINGING, PROGRESS] {
        respond(&mut net, tx, Reply::new(status));
    }
    let mut heard = Vec::new();
    for _ in 0..3 {
        let Event::Response { response, .. } = net.event(CALLER) else { panic!("no response") };
        heard.push(response.status.code());
    }
    assert_eq!(heard, [183, 180, 183], "one waits for the PRACK of the one before");
    net.run(Duration::from_secs(3));
    assert!(net.nodes[CALLER].events.is_empty());
    let rseq = |text: &str| text.lines().find(|line| line.starts_with("RSeq:")).map(str::to_owned);
    let numbers: std::collections::BTreeSet<_> = net.sent.iter().filter_map(|(_, text)| rseq(text)).collect();
    assert_eq!(numbers.len(), 3);
}

#[test]
fn without_a_prack_the_response_doubles_its_pace_and_the_call_is_refused_after_64_t1() {
    let mut net = network(Weather::default());
    net.lose(|_, text| text.starts_with("PRACK "));
    let tx = call(&mut net);
    let start = net.now;
    respond(&mut net, tx, Reply::new(PROGRESS));
    assert!(matches!(net.event(CALLEE), Event::Cancelled { by: None, .. }));
    assert_eq!(net.now - start, Duration::from_secs(32));
    assert_eq!(net.count(CALLEE, "183"), 7, "at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s");
    let Event::Response { early: Some(_), .. } = net.event(CALLER) else { panic!("no 183") };
    let Event::Response { response, .. } = net.event(CALLER) else { panic!("no end") };
    assert_eq!(response.status, StatusCode::SERVER_TIMEOUT);
    net.settle();
}

#[test]
fn a_2xx_waits_for_the_prack_of_a_session_description() {
    let mut net = network(Weather::default());
    net.lose_first(CALLER, "PRACK");
    let tx = call(&mut net);
    respond(&mut net, tx, with_sdp(PROGRESS));
    let (engine, now) = net.engine(CALLEE);
    engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    assert!(engine.accept(now, tx, Reply::new(StatusCode::OK)).is_err());
    net.run(Duration::from_millis(100));
    assert_eq!(net.count(CALLEE, "200"), 0);
    assert_acknowledged(net.event(CALLEE), tx);
    let Event::Response { .. } = net.event(CALLER) else { panic!("no 183") };
    hang_up(&mut net);
}

#[test]
fn a_2xx_does_not_wait_for_a_response_without_one_and_its_prack_is_still_answered() {
    let mut net = network(Weather::default());
    let tx = call(&mut net);
    respond(&mut net, tx, Reply::new(StatusCode::RINGING));
    let (engine, now) = net.engine(CALLEE);
    engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    let Event::Response { .. } = net.event(CALLER) else { panic!("no 180") };
    assert_acknowledged(net.event(CALLEE), tx);
    hang_up(&mut net);
    assert_eq!((net.count(CALLEE, "180"), net.count(CALLEE, "200 PRACK")), (1, 1));
}

#[test]
fn a_call_that_was_taken_while_its_2xx_waits_can_be_cancelled_or_taken_back() {
    for cancel in [true, false] {
        let mut net = network(Weather::default());
        net.lose(|_, text| text.starts_with("PRACK "));
        let outgoing = net.invite();
        let (engine, now) = net.engine(CALLER);
        let ours = engine.invite(now, outgoing).unwrap();
        let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
        respond(&mut net, tx, with_sdp(PROGRESS));
        let (engine, now) = net.engine(CALLEE);
        let dialog = engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
        let Event::Response { .. } = net.event(CALLER) else { panic!("no 183") };
        if cancel {
            let (engine, now) = net.engine(CALLER);
            engine.cancel(now, ours, Headers::new()).unwrap();
            let event = net.event(CALLEE);
            assert!(matches!(event, Event::Ended { reason: EndReason::Cancelled { .. }, .. }), "{event:?}");
        } else {
            let (engine, now) = net.engine(CALLEE);
            engine.bye(now, &dialog, Headers::new()).unwrap();
        }
        let Event::Response { response, .. } = net.event(CALLER) else { panic!("no end") };
        assert_eq!(response.status.code(), if cancel { 487 } else { 480 });
        net.settle();
    }
}

#[test]
fn a_taken_call_whose_prack_never_comes_ends() {
    let mut net = network(Weather::default());
    net.lose(|_, text| text.starts_with("PRACK "));
    let tx = call(&mut net);
    respond(&mut net, tx, with_sdp(PROGRESS));
    let (engine, now) = net.engine(CALLEE);
    engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    assert!(matches!(net.event(CALLEE), Event::Ended { reason: EndReason::PrackTimeout, .. }));
    net.settle();
}

#[test]
fn an_offer_in_a_provisional_response_is_answered_in_the_prack() {
    let mut net = network(Weather::default());
    let options = CallOptions { delayed_offer: true, ..CallOptions::default() };
    let outgoing = OutgoingInvite { body: None, options, ..net.invite() };
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, outgoing).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    respond(&mut net, tx, with_sdp(PROGRESS));
    let Event::Response { early: Some(early), offer: true, .. } = net.event(CALLER) else {
        panic!("no offer")
    };
    assert_eq!(net.count(CALLER, "PRACK"), 0, "the program has the answer");
    let (engine, now) = net.engine(CALLER);
    engine.prack(now, &early, &Headers::new(), sdp()).unwrap();
    assert!(engine.prack(now, &early, &Headers::new(), sdp()).is_err(), "once");
    let Event::Acknowledged { prack, .. } = net.event(CALLEE) else { panic!("no PRACK") };
    assert_eq!(&*prack.body, b"v=0\r\n");
    let Event::Response { response, .. } = net.event(CALLER) else { panic!("no answer to the PRACK") };
    assert_eq!(response.status, StatusCode::OK);
}

#[test]
fn policies_meet_as_the_rfc_says() {
    use Reliability::{IfSupported, Never, Required};
    for (caller, callee, outcome) in [
        (Never, Never, "180"),
        (IfSupported, Never, "180"),
        (Never, IfSupported, "180"),
        (IfSupported, IfSupported, "180 reliable"),
        (Required, IfSupported, "180 reliable"),
        (Required, Never, "180 reliable"),
        (Never, Required, "421"),
        (IfSupported, Required, "180 reliable"),
    ] {
        let mut net = Network::calm();
        let config = EngineConfig { reliability: callee, ..EngineConfig::default() };
        net.nodes[CALLEE].engine = Engine::new(config, 3);
        let listener = Listener::new(Transport::Udp, net.nodes[CALLEE].addr, None);
        net.nodes[CALLEE].engine.add_listener(listener);
        let options = CallOptions { reliability: Some(caller), ..CallOptions::default() };
        let outgoing = OutgoingInvite { options, ..net.invite() };
        let (engine, now) = net.engine(CALLER);
        engine.invite(now, outgoing).unwrap();
        net.run(Duration::from_millis(50));
        if let Some(Event::Invite { tx, .. }) = net.nodes[CALLEE].events.pop() {
            respond(&mut net, tx, Reply::new(StatusCode::RINGING));
        }
        let Event::Response { response, .. } = net.event(CALLER) else { panic!("no response") };
        let reliable = if response.headers.contains(HeaderName::RSEQ) { " reliable" } else { "" };
        assert_eq!(format!("{}{reliable}", response.status.code()), outcome, "{caller:?} calls {callee:?}");
    }
}

#[test]
fn a_call_that_requires_100rel_is_served_and_answered_though_we_do_not_offer_it() {
    let mut net = Network::calm();
    let options = CallOptions { reliability: Some(Reliability::Required), ..CallOptions::default() };
    let outgoing = OutgoingInvite { options, ..net.invite() };
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, outgoing).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    respond(&mut net, tx, with_sdp(PROGRESS));
    assert_acknowledged(net.event(CALLEE), tx);
    let supported =
        net.newest(CALLEE, "183").lines().find(|line| line.starts_with("Supported:")).map(str::to_owned);
    assert!(supported.is_none_or(|tags| !tags.contains("100rel")));
    let (engine, now) = net.engine(CALLEE);
    engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    assert!(matches!(net.event(CALLER), Event::Response { .. }));
    hang_up(&mut net);
}

#[test]
fn a_reinvite_can_ring_reliably() {
    let mut net = network(Weather::default());
    let (ours, _) = crate::calls::connect(&mut net);
    let (engine, now) = net.engine(CALLER);
    let mut headers = Headers::new();
    headers.push(HeaderName::SUPPORTED, "100rel");
    engine.dialog_request(now, &ours, Method::Invite, &headers, sdp()).unwrap();
    let Event::DialogRequest { tx, .. } = net.event(CALLEE) else { panic!("no re-INVITE") };
    respond(&mut net, tx, Reply::new(PROGRESS));
    assert_acknowledged(net.event(CALLEE), tx);
    respond(&mut net, tx, Reply::new(StatusCode::OK));
    net.run(Duration::from_secs(5));
    let counts = [net.count(CALLEE, "183"), net.count(CALLER, "PRACK"), net.count(CALLEE, "200")];
    assert_eq!(counts, [1, 1, 2], "one 2xx for the call, one for the re-INVITE");
}

/// A re-INVITE of the caller without an offer, at the callee; the caller's dialog.
fn asked_to_offer(net: &mut Network, ours: &DialogId) -> ServerTx {
    let (engine, now) = net.engine(CALLER);
    engine.dialog_request(now, ours, Method::Invite, &Headers::new(), None).unwrap();
    let Event::DialogRequest { tx, .. } = net.event(CALLEE) else { panic!("no re-INVITE") };
    tx
}

/// The status of the caller's next response, and whether its offer is the program's to answer.
fn heard(net: &mut Network) -> (u16, bool) {
    match net.event(CALLER) {
        Event::Response { response, offer, .. } => (response.status.code(), offer),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_offer_in_a_provisional_response_to_a_reinvite_is_answered_in_the_prack() {
    for (lost, repeated) in [("none", true), ("none", false), ("PRACK", false), ("200 PRACK", true)] {
        let mut net = network(Weather::default());
        let (ours, _) = crate::calls::connect(&mut net);
        let tx = asked_to_offer(&mut net, &ours);
        net.lose_first(if lost == "PRACK" { CALLER } else { CALLEE }, lost);
        respond(&mut net, tx, with_sdp(PROGRESS));
        let Event::Response { early: Some(within), offer: true, .. } = net.event(CALLER) else {
            panic!("no offer")
        };
        assert_eq!((&within, net.count(CALLER, "PRACK")), (&ours, 0), "the program has the answer");
        let (engine, now) = net.engine(CALLER);
        let another = engine.dialog_request(now, &ours, Method::Update, &Headers::new(), sdp());
        assert!(another.is_err(), "an offer waits for its answer");
        engine.prack(now, &ours, &Headers::new(), sdp()).unwrap();
        assert!(engine.prack(now, &ours, &Headers::new(), sdp()).is_err(), "once");
        let Event::Acknowledged { prack, .. } = net.event(CALLEE) else { panic!("no PRACK") };
        assert_eq!(&*prack.body, b"v=0\r\n");
        assert_eq!(heard(&mut net), (200, false), "the answer to the PRACK");
        // A description that later responses repeat is no offer.
        respond(&mut net, tx, if repeated { with_sdp(PROGRESS) } else { Reply::new(StatusCode::RINGING) });
        assert_eq!(heard(&mut net), (if repeated { 183 } else { 180 }, false));
        assert_acknowledged(net.event(CALLEE), tx);
        respond(&mut net, tx, if repeated { with_sdp(StatusCode::OK) } else { Reply::new(StatusCode::OK) });
        assert_eq!(heard(&mut net), (200, false));
        net.run(Duration::from_secs(1));
        assert_eq!(net.count(CALLER, "ACK"), 2, "nothing is left to answer");
        // The next one begins anew.
        let tx = asked_to_offer(&mut net, &ours);
        respond(&mut net, tx, with_sdp(StatusCode::OK));
        assert_eq!(heard(&mut net), (200, false));
        net.run(Duration::from_secs(1));
        assert_eq!(net.count(CALLER, "ACK"), 2, "the program has the answer");
        let (engine, now) = net.engine(CALLER);
        engine.acknowledge(now, &ours, &Headers::new(), sdp()).unwrap();
        assert!(matches!(net.event(CALLEE), Event::Confirmed { .. }));
        engine_bye(&mut net, &ours);
    }
}

fn engine_bye(net: &mut Network, dialog: &DialogId) {
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, dialog, Headers::new()).unwrap();
    net.settle();
}

#[test]
fn an_offer_to_a_reinvite_that_the_program_never_answers_fails_the_reinvite_alone() {
    let mut net = network(Weather::default());
    let (ours, _) = crate::calls::connect(&mut net);
    let tx = asked_to_offer(&mut net, &ours);
    respond(&mut net, tx, with_sdp(PROGRESS));
    assert_eq!(heard(&mut net), (183, true));
    assert!(matches!(net.event(CALLEE), Event::Cancelled { by: None, .. }), "no PRACK");
    assert_eq!(heard(&mut net), (504, false));
    let (engine, now) = net.engine(CALLER);
    assert!(engine.prack(now, &ours, &Headers::new(), sdp()).is_err(), "it is too late");
    engine.dialog_request(now, &ours, Method::Update, &Headers::new(), sdp()).unwrap();
    let Event::DialogRequest { tx, .. } = net.event(CALLEE) else { panic!("the offer does not leave") };
    respond(&mut net, tx, with_sdp(StatusCode::OK));
    assert_eq!(heard(&mut net), (200, false));
    engine_bye(&mut net, &ours);
}

#[test]
fn the_2xx_of_a_reinvite_waits_for_the_prack_of_a_session_description() {
    for (lost, outcome) in [("PRACK", 200), ("all", 504), ("all", 487)] {
        let mut net = network(Weather::default());
        let (ours, theirs) = crate::calls::connect(&mut net);
        let (engine, now) = net.engine(CALLER);
        let again = engine.dialog_request(now, &ours, Method::Invite, &Headers::new(), sdp()).unwrap();
        let Event::DialogRequest { tx, .. } = net.event(CALLEE) else { panic!("no re-INVITE") };
        let mut left = if lost == "all" { usize::MAX } else { 1 };
        net.lose(move |_, text| {
            let hit = text.starts_with("PRACK ") && left > 0;
            left -= usize::from(hit);
            hit
        });
        let before = net.count(CALLEE, "200");
        respond(&mut net, tx, with_sdp(PROGRESS));
        respond(&mut net, tx, Reply::new(StatusCode::OK));
        let (engine, now) = net.engine(CALLEE);
        assert!(engine.respond(now, tx, Reply::new(StatusCode::OK)).is_err(), "it was answered");
        assert_eq!(heard(&mut net), (183, false));
        assert_eq!(net.count(CALLEE, "200"), before);
        if outcome == 487 {
            let (engine, now) = net.engine(CALLER);
            engine.cancel(now, again, Headers::new()).unwrap();
        }
        match outcome {
            200 => assert_acknowledged(net.event(CALLEE), tx),
            _ => assert!(matches!(net.event(CALLEE), Event::Cancelled { tx: told, .. } if told == tx)),
        }
        assert_eq!(heard(&mut net), (outcome, false));
        net.run(Duration::from_secs(1));
        assert_eq!(net.count(CALLEE, "200"), before + usize::from(outcome == 200));
        assert_eq!(net.count(CALLER, "ACK"), 2, "one for each INVITE");
        let (engine, now) = net.engine(CALLEE);
        // Whose PRACK was answered by nobody has hung up before.
        let hung_up = engine.bye(now, &theirs, Headers::new());
        assert_eq!(hung_up.is_ok(), outcome != 504);
        net.settle();
    }
}

#[test]
fn an_offer_in_the_2xx_is_answered_in_the_ack() {
    for lost in ["none", "ACK"] {
        let mut net = Network::calm();
        net.lose_first(CALLER, lost);
        let options = CallOptions { delayed_offer: true, ..CallOptions::default() };
        let outgoing = OutgoingInvite { body: None, options, ..net.invite() };
        let (engine, now) = net.engine(CALLER);
        engine.invite(now, outgoing).unwrap();
        let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
        let (engine, now) = net.engine(CALLEE);
        engine.accept(now, tx, with_sdp(StatusCode::OK)).unwrap();
        let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
        net.run(Duration::from_secs(1));
        assert_eq!(net.count(CALLER, "ACK"), 0, "the program has the answer");
        let (engine, _) = net.engine(CALLER);
        engine.acknowledge(now, &dialog, &Headers::new(), sdp()).unwrap();
        assert!(engine.acknowledge(now, &dialog, &Headers::new(), sdp()).is_err(), "once");
        let Event::Confirmed { ack, .. } = net.event(CALLEE) else { panic!("no ACK") };
        assert_eq!(&*ack.body, b"v=0\r\n");
        let (engine, now) = net.engine(CALLER);
        engine.bye(now, &dialog, Headers::new()).unwrap();
        assert!(matches!(net.event(CALLEE), Event::Ended { .. }));
        net.settle();
    }
}

#[test]
fn an_offer_that_the_program_never_answers_ends_the_call() {
    for hang_up in [true, false] {
        let mut net = Network::calm();
        let options = CallOptions { delayed_offer: true, ..CallOptions::default() };
        let outgoing = OutgoingInvite { body: None, options, ..net.invite() };
        let (engine, now) = net.engine(CALLER);
        engine.invite(now, outgoing).unwrap();
        let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
        let (engine, now) = net.engine(CALLEE);
        engine.accept(now, tx, with_sdp(StatusCode::OK)).unwrap();
        let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
        let (engine, now) = net.engine(CALLER);
        if hang_up {
            engine.bye(now, &dialog, Headers::new()).unwrap();
            net.run(Duration::from_millis(1));
            assert_eq!((net.count(CALLER, "ACK"), net.count(CALLER, "BYE")), (1, 1));
        }
        net.settle();
    }
}

/// A re-INVITE without a session description, accepted with one; the caller's dialog.
fn reinvited(net: &mut Network) -> DialogId {
    let (ours, _) = crate::calls::connect(net);
    let (engine, now) = net.engine(CALLER);
    engine.dialog_request(now, &ours, Method::Invite, &Headers::new(), None).unwrap();
    let Event::DialogRequest { tx, .. } = net.event(CALLEE) else { panic!("no re-INVITE") };
    respond(net, tx, with_sdp(StatusCode::OK));
    let Event::Response { response, .. } = net.event(CALLER) else { panic!("no answer") };
    assert_eq!((response.status, &*response.body), (StatusCode::OK, &b"v=0\r\n"[..]));
    ours
}

#[test]
fn an_offer_in_the_2xx_of_a_reinvite_is_answered_in_the_ack() {
    for lost in ["none", "ACK"] {
        let mut net = Network::calm();
        let ours = reinvited(&mut net);
        net.run(Duration::from_secs(1));
        assert_eq!(net.count(CALLER, "ACK"), 1, "that of the call: the program has the answer");
        net.lose_first(CALLER, lost);
        let (engine, now) = net.engine(CALLER);
        let another = engine.dialog_request(now, &ours, Method::Invite, &Headers::new(), sdp());
        assert!(another.is_err(), "an offer waits for its answer");
        engine.acknowledge(now, &ours, &Headers::new(), sdp()).unwrap();
        assert!(engine.acknowledge(now, &ours, &Headers::new(), sdp()).is_err(), "once");
        let Event::Confirmed { ack, .. } = net.event(CALLEE) else { panic!("no ACK") };
        assert_eq!(&*ack.body, b"v=0\r\n");
        net.run(Duration::from_secs(60));
        assert!(net.nodes.iter().all(|node| node.engine.counts().dialogs == 1), "the call goes on");
        let (engine, now) = net.engine(CALLER);
        engine.bye(now, &ours, Headers::new()).unwrap();
        net.settle();
    }
}

#[test]
fn an_offer_in_the_2xx_of_a_reinvite_that_nobody_answers_ends_the_call() {
    for hang_up in [true, false] {
        let mut net = Network::calm();
        let ours = reinvited(&mut net);
        let (engine, now) = net.engine(CALLER);
        if hang_up {
            engine.bye(now, &ours, Headers::new()).unwrap();
            net.run(Duration::from_millis(1));
            assert_eq!((net.count(CALLER, "ACK"), net.count(CALLER, "BYE")), (2, 1), "the ACK goes first");
        } else {
            net.lose(|from, text| from == CALLEE && text.starts_with("BYE "));
            let event = net.event(CALLER);
            assert!(matches!(event, Event::Ended { reason: EndReason::AckTimeout, .. }), "{event:?}");
        }
        net.settle();
    }
}

#[test]
fn the_end_of_an_earlier_invite_leaves_an_offer_that_waits_alone() {
    let mut net = Network::calm();
    let ours = reinvited(&mut net);
    let (engine, now) = net.engine(CALLER);
    engine.acknowledge(now, &ours, &Headers::new(), sdp()).unwrap();
    assert!(matches!(net.event(CALLEE), Event::Confirmed { .. }));
    net.run(Duration::from_secs(30));
    let (engine, now) = net.engine(CALLER);
    engine.dialog_request(now, &ours, Method::Invite, &Headers::new(), None).unwrap();
    let Event::DialogRequest { tx, .. } = net.event(CALLEE) else { panic!("no re-INVITE") };
    respond(&mut net, tx, with_sdp(StatusCode::OK));
    let Event::Response { .. } = net.event(CALLER) else { panic!("no answer") };
    // Timer M of the first re-INVITE fires after 32 s.
    net.run(Duration::from_secs(5));
    let (engine, now) = net.engine(CALLER);
    engine.acknowledge(now, &ours, &Headers::new(), sdp()).unwrap();
    let Event::Confirmed { ack, .. } = net.event(CALLEE) else { panic!("no ACK") };
    assert_eq!(&*ack.body, b"v=0\r\n");
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &ours, Headers::new()).unwrap();
    net.settle();
}

#[test]
fn a_2xx_without_an_offer_is_acknowledged_at_once() {
    let mut net = Network::calm();
    let (ours, _) = crate::calls::connect(&mut net);
    let (engine, now) = net.engine(CALLER);
    engine.dialog_request(now, &ours, Method::Invite, &Headers::new(), None).unwrap();
    let Event::DialogRequest { tx, .. } = net.event(CALLEE) else { panic!("no re-INVITE") };
    respond(&mut net, tx, Reply::new(StatusCode::OK));
    net.run(Duration::from_secs(1));
    assert_eq!(net.count(CALLER, "ACK"), 2);
}
