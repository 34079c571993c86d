//! Session timers: agreed, refreshed, refused, and given up (RFC 4028).

use std::time::Duration;

use iqra_sip::event::{Body, EndReason, Event, Reply};
use iqra_sip::{
    DialogId, EngineConfig, HeaderName, Headers, Method, SessionTimerMode, SessionTimers, Side, StatusCode,
    Transport,
};

use crate::callee::{answer_to, outgoing, place};
use crate::calls::connect;
use crate::network::{CALLEE, CALLER, Network, Weather};

fn config(session: SessionTimers) -> EngineConfig {
    EngineConfig { session, ..EngineConfig::default() }
}

/// Asks for an interval of 90 s.
fn asking() -> SessionTimers {
    SessionTimers {
        mode: SessionTimerMode::Request,
        interval: Duration::from_secs(90),
        ..SessionTimers::default()
    }
}

fn between(weather: Weather, caller: SessionTimers, callee: SessionTimers) -> Network {
    Network::among(1, weather, Transport::Udp, vec![config(caller), config(callee)])
}

fn calm(caller: SessionTimers, callee: SessionTimers) -> Network {
    between(Weather::default(), caller, callee)
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|one| one == line)
}

/// The 2xx started the clock, the ACK came a little later.
fn ends_at_60_s(since_the_ack: Duration) -> bool {
    (59_900..=60_100).contains(&since_the_ack.as_millis())
}

fn both_live(net: &Network) -> bool {
    net.nodes.iter().all(|node| node.events.is_empty() && node.engine.counts().dialogs == 1)
}

#[test]
fn the_caller_asks_the_callee_grants_and_the_caller_refreshes_by_update() {
    let mut net = calm(asking(), SessionTimers::default());
    connect(&mut net);
    assert!(has(net.newest(CALLER, "INVITE"), "Session-Expires: 90"));
    assert!(has(net.newest(CALLER, "INVITE"), "Supported: timer"));
    assert!(has(net.newest(CALLEE, "200"), "Session-Expires: 90;refresher=uac"));
    assert!(has(net.newest(CALLEE, "200"), "Require: timer"));
    let start = net.sent.len();
    net.run(Duration::from_secs(44));
    assert_eq!(net.ladder(start), "");
    net.run(Duration::from_secs(2));
    assert_eq!(net.ladder(start), "0 UPDATE\n1 200 UPDATE", "at half of the interval");
    assert!(has(net.newest(CALLER, "UPDATE"), "Session-Expires: 90;refresher=uac"));
    assert!(has(net.newest(CALLER, "UPDATE"), "Content-Length: 0"));
    net.run(Duration::from_secs(600));
    assert!(both_live(&net), "refreshes tell the program nothing");
}

#[test]
fn the_callee_refreshes_where_it_wants_to() {
    let mut net = calm(asking(), SessionTimers { refresher: Side::Us, ..SessionTimers::default() });
    connect(&mut net);
    assert!(has(net.newest(CALLEE, "200"), "Session-Expires: 90;refresher=uas"));
    net.run(Duration::from_secs(300));
    assert!(net.count(CALLEE, "UPDATE") >= 6);
    assert_eq!(net.count(CALLER, "UPDATE"), 0);
    assert!(has(net.newest(CALLEE, "UPDATE"), "Session-Expires: 90;refresher=uac"), "the roles stay");
    assert!(both_live(&net));
}

#[test]
fn one_side_without_session_timers_does_well_with_one_that_has_them() {
    let off = || SessionTimers { mode: SessionTimerMode::Off, ..SessionTimers::default() };
    for (caller, callee, refreshes) in [(asking(), off(), false), (off(), asking(), true)] {
        let mut net = calm(caller, callee);
        connect(&mut net);
        for _ in 0..200 {
            net.run(Duration::from_secs(1));
            for event in std::mem::take(&mut net.nodes[CALLER].events) {
                // Without session timers a refresh is a request like others.
                let Event::DialogRequest { tx, .. } = event else { panic!("{event:?}") };
                let (engine, now) = net.engine(CALLER);
                engine.respond(now, tx, Reply::new(StatusCode::OK)).unwrap();
            }
        }
        assert_eq!(net.count(CALLEE, "UPDATE") > 0, refreshes);
        assert!(net.nodes.iter().all(|node| node.engine.counts().dialogs == 1));
    }
}

/// Answers with an Allow that lacks UPDATE.
fn connect_without_update(net: &mut Network) -> DialogId {
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let (engine, now) = net.engine(CALLEE);
    let reply = Reply::new(StatusCode::OK).header(HeaderName::ALLOW, "INVITE, ACK, BYE, CANCEL");
    engine.accept(now, tx, reply).unwrap();
    let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
    let Event::Confirmed { .. } = net.event(CALLEE) else { panic!("no ACK") };
    dialog
}

#[test]
fn without_update_a_reinvite_repeats_the_last_description() {
    let mut net = calm(asking(), SessionTimers::default());
    let ours = connect_without_update(&mut net);
    let Event::DialogRequest { tx, request, .. } = net.event(CALLEE) else { panic!("no refresh") };
    assert_eq!((&request.method, &request.body[..]), (&Method::Invite, &b"v=0\r\n"[..]));
    let (engine, now) = net.engine(CALLEE);
    let reply = Reply::new(StatusCode::OK).header(HeaderName::ALLOW, "INVITE, ACK, BYE, CANCEL");
    let reply = Reply { body: Some(Body::sdp("v=0\r\ns=again\r\n")), ..reply };
    engine.respond(now, tx, reply).unwrap();
    let Event::Refreshed { dialog, response } = net.event(CALLER) else { panic!("nothing told") };
    assert_eq!((dialog, &response.body[..]), (ours, &b"v=0\r\ns=again\r\n"[..]));
    assert!(has(net.newest(CALLEE, "200"), "Session-Expires: 90;refresher=uac"));
    let Event::DialogRequest { .. } = net.event(CALLEE) else { panic!("no second refresh") };
    assert_eq!(net.count(CALLER, "ACK"), 2);
}

#[test]
fn a_refresh_that_meets_491_is_tried_again() {
    let mut net = calm(asking(), SessionTimers::default());
    connect_without_update(&mut net);
    for status in [StatusCode::REQUEST_PENDING, StatusCode::SERVER_INTERNAL_ERROR, StatusCode::OK] {
        let Event::DialogRequest { tx, .. } = net.event(CALLEE) else { panic!("no refresh") };
        let (engine, now) = net.engine(CALLEE);
        engine.respond(now, tx, Reply::new(status)).unwrap();
    }
    net.run(Duration::from_secs(5));
    assert!(both_live(&net));
}

#[test]
fn refreshes_that_meet_491_keep_the_waits_of_glare() {
    for (refresher, waits) in [(CALLER, 2_000..=4_100), (CALLEE, 0..=2_100)] {
        let mut net = connect_with_refresher(refresher);
        let mut refused = Vec::new();
        while let Event::DialogRequest { tx, .. } = net.event(1 - refresher) {
            let (engine, now) = net.engine(1 - refresher);
            engine.respond(now, tx, Reply::new(StatusCode::REQUEST_PENDING)).unwrap();
            refused.push(now);
        }
        let gaps: Vec<_> = refused.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        assert!(gaps.len() >= 3 && gaps.iter().all(|gap| waits.contains(gap)), "{refresher}: {gaps:?}");
        assert!(gaps.iter().any(|gap| *gap != gaps[0]), "drawn each time");
    }
}

#[test]
fn a_refresh_that_is_refused_until_the_end_ends_the_call_before_it() {
    let mut net = calm(asking(), SessionTimers::default());
    connect_without_update(&mut net);
    let start = net.now;
    let mut refused = 0;
    loop {
        match net.event(CALLEE) {
            Event::DialogRequest { tx, .. } => {
                let (engine, now) = net.engine(CALLEE);
                engine.respond(now, tx, Reply::new(StatusCode::NOT_ACCEPTABLE_HERE)).unwrap();
                refused += 1;
            }
            Event::Ended { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(refused >= 2);
    assert!(ends_at_60_s(net.now - start), "32 s or a third before the end");
    net.settle();
}

#[test]
fn a_refresher_that_falls_silent_is_hung_up_before_the_end() {
    let mut net = calm(asking(), SessionTimers::default());
    connect(&mut net);
    net.lose(|_, text| text.contains("CSeq: ") && text.contains(" UPDATE\r\n"));
    let start = net.now;
    let event = net.event(CALLEE);
    assert!(matches!(event, Event::Ended { reason: EndReason::SessionExpired, .. }), "{event:?}");
    assert!(ends_at_60_s(net.now - start));
    let event = net.event(CALLER);
    assert!(matches!(event, Event::Ended { .. }), "{event:?}");
    net.settle();
}

#[test]
fn a_refresh_answered_481_ends_the_call() {
    let mut net = calm(asking(), SessionTimers::default());
    let (_, theirs) = connect(&mut net);
    net.lose(|from, text| from == CALLEE && text.starts_with("BYE "));
    let (engine, now) = net.engine(CALLEE);
    engine.bye(now, &theirs, Headers::new()).unwrap();
    net.run(Duration::from_secs(33));
    assert_eq!(net.nodes[CALLEE].engine.counts().dialogs, 0);
    let event = net.event(CALLER);
    assert!(matches!(event, Event::Ended { reason: EndReason::Unreachable, .. }), "{event:?}");
    net.settle();
}

#[test]
fn an_interval_that_is_too_short_is_asked_again_as_the_same_call() {
    let long = SessionTimers { minimum: Duration::from_secs(300), ..SessionTimers::default() };
    for lost in [None, Some((CALLEE, "422")), Some((CALLER, "ACK")), Some((CALLER, "INVITE"))] {
        let mut net = calm(asking(), long.clone());
        if let Some((node, what)) = lost {
            net.lose_first(node, what);
        }
        let call = net.invite();
        let (engine, now) = net.engine(CALLER);
        let ours = engine.invite(now, call).unwrap();
        let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
        assert!(has(net.newest(CALLEE, "422"), "Min-SE: 300"));
        let again = net.newest(CALLER, "INVITE");
        for line in ["Session-Expires: 300", "Min-SE: 300", "CSeq: 2 INVITE"] {
            assert!(has(again, line), "{line}: {again}");
        }
        let (engine, now) = net.engine(CALLEE);
        let theirs = engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
        let Event::Answered { tx, dialog, .. } = net.event(CALLER) else { panic!("no answer") };
        assert_eq!(tx, ours, "the program knows one call");
        net.run(Duration::from_secs(400));
        assert!(net.nodes.iter().all(|node| node.engine.counts().dialogs == 1));
        let (engine, now) = net.engine(CALLER);
        engine.bye(now, &dialog, Headers::new()).unwrap();
        net.settle();
        assert_eq!(theirs.call_id(), dialog.call_id());
    }
}

#[test]
fn a_422_that_asks_for_no_more_is_told() {
    let mut net = calm(asking(), SessionTimers::default());
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let (engine, now) = net.engine(CALLEE);
    let reply = Reply::new(StatusCode::SESSION_INTERVAL_TOO_SMALL).header(HeaderName::MIN_SE, "90");
    engine.respond(now, tx, reply).unwrap();
    let Event::Response { response, .. } = net.event(CALLER) else { panic!("no response") };
    assert_eq!(response.status, StatusCode::SESSION_INTERVAL_TOO_SMALL);
    net.settle();
}

/// Neither side allows UPDATE, so that the program sees the refreshes; `refresher` is who sends them.
fn connect_with_refresher(refresher: usize) -> Network {
    let callee = SessionTimers {
        refresher: if refresher == CALLEE { Side::Us } else { Side::Peer },
        ..SessionTimers::default()
    };
    let mut net = calm(asking(), callee);
    let mut call = net.invite();
    call.headers.push(HeaderName::ALLOW, "INVITE, ACK, BYE, CANCEL");
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let (engine, now) = net.engine(CALLEE);
    let reply = Reply::new(StatusCode::OK).header(HeaderName::ALLOW, "INVITE, ACK, BYE, CANCEL");
    engine.accept(now, tx, Reply { body: Some(Body::sdp("v=0\r\ns=b\r\n")), ..reply }).unwrap();
    let Event::Answered { .. } = net.event(CALLER) else { panic!("no answer") };
    let Event::Confirmed { .. } = net.event(CALLEE) else { panic!("no ACK") };
    net
}

/// UPDATE stays unknown.
fn agreed() -> Reply {
    Reply::new(StatusCode::OK).header(HeaderName::ALLOW, "INVITE, ACK, BYE, CANCEL")
}

fn too_small(seconds: &'static str) -> Reply {
    Reply::new(StatusCode::SESSION_INTERVAL_TOO_SMALL).header(HeaderName::MIN_SE, seconds)
}

fn respond(net: &mut Network, node: usize, reply: Reply) -> std::sync::Arc<iqra_sip::Request> {
    let Event::DialogRequest { tx, request, .. } = net.event(node) else { panic!("no request") };
    let (engine, now) = net.engine(node);
    engine.respond(now, tx, reply).unwrap();
    request
}

#[test]
fn a_refresh_refused_422_goes_out_again_with_the_longer_interval() {
    for refresher in [CALLER, CALLEE] {
        let other = 1 - refresher;
        for lost in [None, Some((other, "422")), Some((refresher, "ACK"))] {
            let mut net = connect_with_refresher(refresher);
            if let Some((node, what)) = lost {
                net.lose_first(node, what);
            }
            let refused = respond(&mut net, other, too_small("300"));
            let again = respond(&mut net, other, agreed());
            net.run(Duration::from_secs(1));
            assert_eq!(again.body, refused.body);
            let text = net.newest(refresher, "INVITE");
            for line in ["Session-Expires: 300;refresher=uac", "Min-SE: 300"] {
                assert!(has(text, line), "{refresher}, {lost:?}: {text}");
            }
            assert!(has(net.newest(other, "200"), "Session-Expires: 300;refresher=uac"), "{refresher}");
            let invites = net.count(refresher, "INVITE");
            net.run(Duration::from_secs(144));
            assert_eq!(net.count(refresher, "INVITE"), invites, "the next one is due after 150 s");
            let later = respond(&mut net, other, agreed());
            assert_eq!(
                later.headers.get(HeaderName::MIN_SE).unwrap(),
                "300",
                "kept for the rest of the call"
            );
            net.run(Duration::from_secs(1));
            assert!(both_live(&net), "refreshes tell the program nothing");
        }
    }
}

#[test]
fn a_refresh_refused_422_with_nothing_to_raise_is_tried_until_the_end() {
    let mut net = connect_with_refresher(CALLER);
    respond(&mut net, CALLEE, too_small("90"));
    let start = net.now;
    respond(&mut net, CALLEE, Reply::new(StatusCode::OK));
    assert!(net.now - start >= Duration::from_secs(9), "not at once");
    net.run(Duration::from_secs(5));
    assert!(both_live(&net));
}

#[test]
fn a_refresh_that_is_to_be_longer_each_time_is_lengthened_twice_and_then_waits() {
    let mut net = connect_with_refresher(CALLER);
    let start = net.now;
    for minimum in ["100", "200", "300"] {
        respond(&mut net, CALLEE, too_small(minimum));
    }
    assert!(net.now - start < Duration::from_secs(46));
    let text = net.newest(CALLER, "INVITE");
    assert!(has(text, "Session-Expires: 200;refresher=uac"), "{text}");
    let refused = net.now;
    respond(&mut net, CALLEE, agreed());
    assert!(net.now - refused >= Duration::from_secs(9), "not at once");
    net.run(Duration::from_secs(1));
    assert!(both_live(&net));
    respond(&mut net, CALLEE, too_small("300"));
    let again = respond(&mut net, CALLEE, agreed());
    assert_eq!(again.headers.get(HeaderName::MIN_SE).unwrap(), "300", "a granted one counts anew");
}

#[test]
fn a_request_of_the_program_that_is_refused_422_goes_out_again_as_the_same_request() {
    for (method, what) in [(Method::Invite, "INVITE"), (Method::Update, "UPDATE")] {
        for node in [CALLER, CALLEE] {
            let mut net = calm(asking(), SessionTimers::default());
            let (ours, theirs) = connect(&mut net);
            let dialog = if node == CALLER { ours } else { theirs };
            for round in 0..2 {
                let (engine, now) = net.engine(node);
                let body = Some(Body::sdp("v=0\r\ns=again\r\n"));
                let asked =
                    engine.dialog_request(now, &dialog, method.clone(), &Headers::new(), body).unwrap();
                if round == 0 {
                    respond(&mut net, 1 - node, too_small("300"));
                }
                let again = respond(&mut net, 1 - node, Reply::new(StatusCode::OK));
                assert_eq!(&again.body[..], b"v=0\r\ns=again\r\n");
                let sent = net.newest(node, what);
                assert!(
                    sent.contains("Session-Expires: 300;refresher=") && has(sent, "Min-SE: 300"),
                    "{sent}"
                );
                let Event::Response { tx, response, .. } = net.event(node) else { panic!("no answer") };
                assert_eq!((tx, response.status), (asked, StatusCode::OK), "one request for the program");
            }
            net.run(Duration::from_secs(100));
            assert!(both_live(&net), "{what} of {node}");
            let (engine, now) = net.engine(node);
            engine.bye(now, &dialog, Headers::new()).unwrap();
            net.event(1 - node);
            net.settle();
        }
    }
}

#[test]
fn a_refresh_of_the_peer_that_is_too_short_is_refused_and_the_call_goes_on() {
    let off = SessionTimers { mode: SessionTimerMode::Off, ..SessionTimers::default() };
    let long = SessionTimers { minimum: Duration::from_secs(300), ..SessionTimers::default() };
    let mut net = calm(off, long);
    let (ours, _) = connect(&mut net);
    let (engine, now) = net.engine(CALLER);
    let mut headers = Headers::new();
    headers.push(HeaderName::SUPPORTED, "timer");
    headers.push(HeaderName::SESSION_EXPIRES, "299");
    engine.dialog_request(now, &ours, Method::Update, &headers, None).unwrap();
    let Event::Response { response, .. } = net.event(CALLER) else { panic!("no answer") };
    assert_eq!(response.status, StatusCode::SESSION_INTERVAL_TOO_SMALL);
    assert_eq!(response.headers.get(HeaderName::MIN_SE).unwrap(), "300");
    net.run(Duration::from_secs(1));
    assert!(both_live(&net));
}

#[test]
fn a_refresh_survives_the_loss_of_each_of_its_messages() {
    for (node, what) in [(CALLER, "UPDATE"), (CALLEE, "200 UPDATE")] {
        let mut net = calm(asking(), SessionTimers::default());
        connect(&mut net);
        net.lose_first(node, what);
        net.run(Duration::from_secs(80));
        assert!(net.count(node, what) >= 2, "{what}");
        assert!(both_live(&net), "{what}");
    }
}

#[test]
fn in_a_storm_a_session_lives_on_or_ends_on_both_sides() {
    let weather = Weather { loss: 0.4, duplicate: 0.1, jitter: Duration::from_millis(700) };
    for seed in 0..60 {
        let configs = vec![config(asking()), config(SessionTimers::default())];
        let mut net = Network::among(seed, Weather::default(), Transport::Udp, configs);
        let (ours, _) = connect(&mut net);
        net.worsen(weather);
        net.run(Duration::from_secs(900));
        net.worsen(Weather::default());
        net.run(Duration::from_secs(120));
        let live: Vec<_> = net.nodes.iter().map(|node| node.engine.counts().dialogs).collect();
        assert!(live == [1, 1] || live == [0, 0], "seed {seed}: {live:?}");
        let (engine, now) = net.engine(CALLER);
        let _ = engine.bye(now, &ours, Headers::new());
        net.settle();
    }
}

fn refused_with(minimum: u32, invite: &str) -> String {
    answer_to(invite, "422 Session Interval Too Small", "b", &format!("Min-SE: {minimum}\r\n"), "")
}

fn invites(sent: Vec<String>) -> Vec<String> {
    sent.into_iter().filter(|text| text.starts_with("INVITE ")).collect()
}

#[test]
fn a_callee_that_wants_more_and_more_is_followed_twice() {
    let (mut wire, tx, mut invite) = place(config(asking()), outgoing(Transport::Udp));
    for minimum in [100, 200] {
        let again = invites(wire.say(refused_with(minimum, &invite)));
        assert_eq!(again.len(), 1);
        assert!(has(&again[0], &format!("Session-Expires: {minimum}")), "{}", again[0]);
        invite = again.into_iter().next().unwrap();
    }
    assert!(invites(wire.say(refused_with(300, &invite))).is_empty());
    let Some(Event::Response { tx: refused, response, .. }) = wire.event() else { panic!("no 422") };
    assert_eq!((refused, response.status), (tx, StatusCode::SESSION_INTERVAL_TOO_SMALL));
    assert!(wire.event().is_none());
}

#[test]
fn an_interval_past_a_day_is_not_asked_for() {
    for (minimum, followed) in [(86_400, 1), (86_401, 0), (u32::MAX, 0)] {
        let (mut wire, _, invite) = place(config(asking()), outgoing(Transport::Udp));
        assert_eq!(invites(wire.say(refused_with(minimum, &invite))).len(), followed, "{minimum}");
        assert_eq!(wire.event().is_some(), followed == 0);
    }
}

#[test]
fn a_call_with_a_longer_interval_keeps_its_further_targets() {
    let mut call = outgoing(Transport::Udp);
    let second = "198.51.100.8:5060".parse().unwrap();
    call.hops.push((Transport::Udp, second).into());
    let (mut wire, _, invite) = place(config(asking()), call);
    let again = invites(wire.say(refused_with(120, &invite))).remove(0);
    let response = answer_to(&again, "503 Service Unavailable", "b", "", "");
    wire.engine.handle_message(wire.now, &wire.flow, response.into());
    let onward = wire.transmits().into_iter().find(|one| one.bytes.starts_with(b"INVITE ")).unwrap();
    assert_eq!(onward.flow.remote, second);
}

#[test]
fn a_full_engine_tells_of_a_422() {
    let full = EngineConfig { max_transactions: 1, ..config(asking()) };
    let (mut wire, _, invite) = place(full, outgoing(Transport::Udp));
    assert!(invites(wire.say(refused_with(120, &invite))).is_empty());
    assert!(matches!(wire.event(), Some(Event::Response { .. })));
}
