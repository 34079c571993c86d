//! Our endpoint against peers that behave like real ones, in both roles: each profile that calls is answered, hung up by
//! either side and redirected as far as it goes along, each that is called answers, refuses, redirects, refreshes and is
//! hung up, and each oddity of theirs is lived with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iqra_sip::event::{Body, CallOptions, ClientTx, EndReason, Event, OutgoingInvite, Reply, ServerTx};
use iqra_sip::message::NameAddr;
use iqra_sip::message::header::To;
use iqra_sip::quirks::profiles::{
    ALL, ASTERISK, GATEWAY, GENESYS, JSSIP, LIVEKIT, PJSUA2, TELNYX, TWILIO, UNKNOWN,
};
use iqra_sip::quirks::{
    Addresses, CallState, Callee, CalleeState, Contact, Peer, Profile, Redirects, SessionTimer, fact,
};
use iqra_sip::{
    ConnectionId, DialogId, Engine, EngineConfig, Flow, HeaderName, Headers, Listener, Method, Request,
    SessionTimerMode, SessionTimers, StatusCode, Transport, Uri,
};

use crate::ladders::Ladder;

const OWN: &str = "198.51.100.7:5060";
const OTHER: &str = "198.51.100.8:5060";
const FRONT: &str = "203.0.113.1:5060";
const BACK: &str = "203.0.113.2:5060";
const INSIDE: &str = "10.0.0.2:5060";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// One engine with a socket for each of our tiers, and a peer that calls it.
struct Line {
    engine: Engine,
    peer: Peer,
    now: Instant,
    events: Vec<Event>,
    /// Where messages went that no socket of the peer gets.
    lost: Vec<SocketAddr>,
    /// What the engine sent.
    said: Vec<String>,
    ladder: Ladder,
    /// Where INVITEs came from.
    callers: Vec<SocketAddr>,
}

impl Line {
    fn new(profile: Profile) -> Self {
        let at = Addresses { own: addr(OWN), other: addr(OTHER), target: addr(FRONT) };
        let peer = Peer::new(profile, at);
        let mut engine = Engine::new(EngineConfig::default(), 5);
        for ours in [FRONT, BACK, INSIDE] {
            engine.add_listener(Listener::new(peer.transport(), addr(ours), None));
        }
        let (now, events, lost) = (Instant::now(), Vec::new(), Vec::new());
        Self {
            engine,
            peer,
            now,
            events,
            lost,
            said: Vec::new(),
            ladder: Ladder::default(),
            callers: Vec::new(),
        }
    }

    fn called(profile: Profile, uri: &str) -> Self {
        let mut line = Self::new(profile);
        line.peer.call(&uri.parse().unwrap());
        line.run();
        line
    }

    /// Carries messages both ways until both are silent.
    fn run(&mut self) {
        loop {
            while let Some(sent) = self.peer.poll() {
                let transport = self.peer.transport();
                let connection = transport.is_reliable().then_some(ConnectionId(1));
                let flow = Flow { transport, local: sent.to, remote: sent.from, connection };
                if sent.bytes.starts_with(b"INVITE") {
                    self.callers.push(sent.from);
                }
                self.ladder.hears(self.now, &flow, &sent.bytes);
                self.engine.handle_message(self.now, &flow, sent.bytes);
            }
            let Some(transmit) = self.engine.poll_transmit() else { break };
            self.ladder.sends(self.now, &transmit);
            self.said.push(String::from_utf8(transmit.bytes.to_vec()).unwrap());
            match [addr(OWN), addr(OTHER)].contains(&transmit.flow.remote) {
                true => self.peer.handle(&transmit.bytes),
                false => self.lost.push(transmit.flow.remote),
            }
        }
        self.events.extend(std::iter::from_fn(|| self.engine.poll_event()));
    }

    /// Takes the INVITE that waits; there is one and no other.
    fn invite(&mut self) -> (ServerTx, Arc<Request>) {
        let Some(Event::Invite { tx, request, .. }) = self.events.pop() else { panic!("no INVITE") };
        assert!(self.events.is_empty(), "{:?}", self.events);
        (tx, request)
    }

    fn accept(&mut self) -> (DialogId, Arc<Request>) {
        let (tx, request) = self.invite();
        let reply = Reply { body: Some(Body::sdp("v=0\r\nours\r\n")), ..Reply::new(StatusCode::OK) };
        let dialog = self.engine.accept(self.now, tx, reply).unwrap();
        self.run();
        (dialog, request)
    }

    fn answer(&mut self, tx: ServerTx, reply: Reply) {
        self.engine.respond(self.now, tx, reply).unwrap();
        self.run();
    }

    fn redirect(&mut self, to: &str) {
        let (tx, _) = self.invite();
        let contact = format!("<sip:did@{to};X-CallQueue-Id=q0>");
        self.answer(tx, Reply::new(StatusCode::MOVED_TEMPORARILY).header(HeaderName::CONTACT, contact));
    }

    /// Nothing is left once the last timer fired, and nothing went astray.
    fn close(mut self) {
        self.now += Duration::from_secs(40);
        self.engine.handle_timeout(self.now);
        self.run();
        assert_eq!(self.engine.counts(), Default::default());
        assert_eq!(self.lost, []);
    }
}

const CALLEE: &str = "sip:did@203.0.113.1;X-Business-Id=7";

#[test]
fn every_peer_is_answered_and_hangs_up() {
    for profile in ALL {
        let mut line = Line::called(profile, CALLEE);
        line.accept();
        assert_eq!(line.peer.state(), CallState::Answered, "{}", profile.name);
        assert!(matches!(line.events[..], [Event::Confirmed { .. }]), "{}", profile.name);
        line.peer.hang_up();
        line.run();
        let Some(Event::Ended { reason: EndReason::Remote { headers }, .. }) = line.events.pop() else {
            panic!("{} still there", profile.name)
        };
        assert_eq!(headers.contains(HeaderName::REASON), profile.bye_reason.is_some(), "{}", profile.name);
        line.close();
    }
}

#[test]
fn every_peer_is_hung_up_whatever_its_contact_says() {
    let phone = Profile { contact: fact(Contact::BehindNat, "a phone behind a NAT"), ..UNKNOWN };
    for profile in ALL.into_iter().chain([phone]) {
        let mut line = Line::called(profile, CALLEE);
        let (dialog, _) = line.accept();
        line.engine.bye(line.now, &dialog, Headers::new()).unwrap();
        line.run();
        assert_eq!(line.peer.state(), CallState::Ended, "{}: {:#?}", profile.name, line.said);
        line.close();
    }
}

#[test]
fn a_redirect_is_followed_by_those_who_do_and_seen_to_fail_with_the_others() {
    let followers = [PJSUA2, TWILIO, LIVEKIT, ASTERISK, UNKNOWN];
    for (profile, follows) in followers.into_iter().zip([true, true, false, false, false]) {
        let mut line = Line::called(profile, CALLEE);
        line.redirect(BACK);
        if follows {
            let (_, request) = line.accept();
            assert_eq!(request.uri.param("x-callqueue-id"), Some(Some("q0")), "{}", profile.name);
            assert_eq!(line.peer.state(), CallState::Answered, "{}", profile.name);
            continue;
        }
        // No second INVITE comes. The program falls back and answers the next call where it arrives.
        assert_eq!(line.peer.state(), CallState::Failed(StatusCode::MOVED_TEMPORARILY), "{}", profile.name);
        assert!(line.events.is_empty(), "{}", profile.name);
        line.peer.call(&CALLEE.parse().unwrap());
        line.run();
        line.accept();
        assert_eq!(line.peer.state(), CallState::Answered, "{}", profile.name);
    }
}

#[test]
fn a_redirect_to_a_private_address_ends_there_with_a_peer_that_refuses_those() {
    for (profile, state) in [
        (TWILIO, CallState::Failed(StatusCode::MOVED_TEMPORARILY)),
        (Profile { redirects: fact(Redirects::Followed, "a PBX inside"), ..UNKNOWN }, CallState::Calling),
    ] {
        let mut line = Line::called(profile, CALLEE);
        line.redirect(INSIDE);
        assert_eq!(line.peer.state(), state, "{}", profile.name);
        assert_eq!(line.callers.len(), if state == CallState::Calling { 2 } else { 1 });
    }
}

#[test]
fn of_an_invite_that_comes_by_two_proxies_one_is_answered_and_one_merged() {
    let mut line = Line::called(GATEWAY, CALLEE);
    assert_eq!(line.callers, [addr(OWN), addr(OTHER)]);
    line.accept();
    assert_eq!((line.peer.state(), line.peer.merged()), (CallState::Answered, 1));
    assert_eq!(line.said.iter().filter(|text| text.starts_with("SIP/2.0 482")).count(), 1);
}

#[test]
fn parameters_in_lower_case_are_found_under_their_own_names() {
    let mut line = Line::called(JSSIP, CALLEE);
    let (_, request) = line.invite();
    assert!(request.uri.as_str().contains(";x-business-id=7"), "{}", request.uri);
    assert_eq!(request.uri.param("X-Business-Id"), Some(Some("7")));
}

#[test]
fn a_to_without_brackets_gives_its_parameters_to_the_header_and_the_request_uri_keeps_them() {
    let mut line = Line::called(PJSUA2, CALLEE);
    let (_, request) = line.accept();
    let to = request.headers.typed::<To>().unwrap().0;
    assert_eq!(to.uri.param("X-Business-Id"), None);
    assert_eq!(to.params.value("X-Business-Id").as_deref(), Some("7"));
    assert_eq!(request.uri.param("X-Business-Id"), Some(Some("7")));
    line.peer.hang_up();
    line.run();
    assert_eq!(line.peer.state(), CallState::Ended);
    assert!(line.said.last().unwrap().starts_with("SIP/2.0 200"), "the tag was found beside the parameters");
}

#[test]
fn an_invite_without_an_offer_gets_ours_and_its_ack_the_answer() {
    let mut line = Line::called(GENESYS, CALLEE);
    let (_, request) = line.accept();
    assert!(request.body.is_empty());
    let Some(Event::Confirmed { ack, .. }) = line.events.pop() else { panic!("no ACK") };
    assert!(ack.body.starts_with(b"v=0"));
}

#[test]
fn a_cancel_from_another_address_reaches_its_invite() {
    let elsewhere = Profile { cancels_elsewhere: fact(true, "a pool of proxies"), ..GENESYS };
    let mut line = Line::called(elsewhere, CALLEE);
    line.invite();
    line.peer.cancel();
    line.run();
    assert!(matches!(line.events[..], [Event::Cancelled { .. }]), "{:?}", line.events);
    assert_eq!(line.peer.state(), CallState::Failed(StatusCode::REQUEST_TERMINATED));
    line.close();
}

#[test]
fn a_refusal_brings_the_call_back_from_the_second_address_only_for_the_statuses_that_do() {
    for (status, callers) in [
        (StatusCode::SERVICE_UNAVAILABLE, vec![addr(OWN), addr(OTHER)]),
        (StatusCode::BUSY_HERE, vec![addr(OWN)]),
    ] {
        let mut line = Line::called(TELNYX, CALLEE);
        let (tx, _) = line.invite();
        line.answer(tx, Reply::new(status));
        assert_eq!(line.callers, callers);
        if callers.len() == 2 {
            line.accept();
            assert_eq!(line.peer.state(), CallState::Answered);
        } else {
            assert_eq!(line.peer.state(), CallState::Failed(status));
        }
    }
}

#[test]
fn a_second_try_out_of_silence_is_a_new_call_beside_the_first() {
    let mut line = Line::called(TWILIO, CALLEE);
    let (_, first) = line.invite();
    line.peer.give_up_waiting();
    line.run();
    let (_, second) = line.accept();
    assert_ne!(first.headers.get(HeaderName::CALL_ID), second.headers.get(HeaderName::CALL_ID));
    assert_eq!(line.peer.state(), CallState::Answered);
}

#[test]
fn a_second_try_with_the_same_call_id_is_no_merged_request() {
    let keeps = Profile { keeps_call_id: fact(true, "the strict kind"), ..TWILIO };
    let mut line = Line::called(keeps, CALLEE);
    line.invite();
    line.peer.give_up_waiting();
    line.run();
    line.accept();
    assert_eq!((line.peer.state(), line.peer.merged()), (CallState::Answered, 0));
}

#[test]
fn a_ping_reaches_the_program() {
    let mut line = Line::new(ASTERISK);
    line.peer.ping();
    line.run();
    let Some(Event::Request { tx, request, .. }) = line.events.pop() else { panic!("no OPTIONS") };
    assert_eq!(request.method, Method::Options);
    line.answer(tx, Reply::new(StatusCode::OK));
    assert_eq!(line.peer.pongs(), 1);
}

#[test]
fn who_asks_for_a_session_timer_gets_the_interval() {
    for profile in ALL {
        let mut line = Line::called(profile, CALLEE);
        line.accept();
        let granted = line.said.iter().any(|text| text.contains("\r\nSession-Expires: "));
        let asked =
            matches!(profile.session_timer, Some(fact) if matches!(fact.value, SessionTimer::Asked { .. }));
        assert_eq!(granted, asked, "{}", profile.name);
    }
}

#[test]
fn headers_of_the_program_pass_within_the_names_and_the_budget() {
    let mut line = Line::new(TWILIO);
    assert!(line.peer.add_header("X-Order", "42"));
    assert!(!line.peer.add_header("Subject", "no"));
    assert!(!line.peer.add_header("X-Long", &"x".repeat(1_100)));
    line.peer.call(&CALLEE.parse::<Uri>().unwrap());
    line.run();
    let (_, request) = line.invite();
    assert_eq!(request.headers.get("X-Order").as_deref(), Some("42"));
    assert!(!request.headers.contains("Subject") && !request.headers.contains("X-Long"));
}

#[test]
fn the_offer_names_the_payload_type_of_telephone_events() {
    for (profile, payload) in [(ASTERISK, 101), (PJSUA2, 120), (JSSIP, 126)] {
        let (_, request) = Line::called(profile, CALLEE).invite();
        let offer = String::from_utf8(request.body.to_vec()).unwrap();
        assert!(offer.contains(&format!("a=rtpmap:{payload} telephone-event/8000")), "{offer}");
    }
}

#[test]
fn a_peer_uses_the_transport_it_is_known_for() {
    assert_eq!(Line::new(JSSIP).peer.transport(), Transport::Ws);
    assert_eq!(Line::new(UNKNOWN).peer.transport(), Transport::Udp);
}

/// One engine that calls a peer.
struct Outbound {
    engine: Engine,
    callee: Callee,
    now: Instant,
    events: Vec<Event>,
    said: Vec<String>,
    ladder: Ladder,
    heard: Vec<String>,
    tx: ClientTx,
}

impl Outbound {
    fn calling(profile: Profile, session: SessionTimers) -> Self {
        let at = Addresses { own: addr(OWN), other: addr(OTHER), target: addr(FRONT) };
        let callee = Callee::new(profile, at);
        let transport = callee.transport();
        let mut engine = Engine::new(EngineConfig { session, ..EngineConfig::default() }, 5);
        engine.add_listener(Listener::new(transport, addr(FRONT), None));
        let to: Uri = format!("sip:callee@{OWN}").parse().unwrap();
        let call = OutgoingInvite {
            uri: to.clone(),
            hops: vec![(transport, addr(OWN)).into()],
            from: NameAddr::new("sip:caller@example.org".parse().unwrap()),
            to: NameAddr::new(to),
            call_id: None,
            cseq: 1,
            headers: Headers::new(),
            body: Some(Body::sdp("v=0\r\n")),
            options: CallOptions::default(),
        };
        let now = Instant::now();
        let tx = engine.invite(now, call).unwrap();
        let (events, said, heard) = (Vec::new(), Vec::new(), Vec::new());
        let ladder = Ladder::default();
        let mut line = Self { engine, callee, now, events, said, ladder, heard, tx };
        line.run();
        line
    }

    fn answered(profile: Profile) -> (Self, DialogId) {
        let mut line = Self::calling(profile, SessionTimers::default());
        line.callee.ring();
        line.callee.answer();
        line.run();
        let Some(Event::Answered { dialog, response, .. }) = line.events.pop() else {
            panic!("{}: {:?}", profile.name, line.events)
        };
        assert!(!response.body.is_empty(), "{}", profile.name);
        assert!(matches!(&line.events[..], [Event::Response { response, .. }]
            if response.status == StatusCode::RINGING));
        assert_eq!(line.callee.state(), CalleeState::Answered, "{}: {:#?}", profile.name, line.said);
        line.events.clear();
        (line, dialog)
    }

    /// Carries messages both ways until both are silent; everything that the engine sends reaches the callee's socket.
    fn run(&mut self) {
        loop {
            let mut moved = false;
            while let Some(transmit) = self.engine.poll_transmit() {
                self.ladder.sends(self.now, &transmit);
                assert_eq!(transmit.flow.remote, addr(OWN), "{}", String::from_utf8_lossy(&transmit.bytes));
                self.said.push(String::from_utf8(transmit.bytes.to_vec()).unwrap());
                self.callee.handle(&transmit.bytes);
                moved = true;
            }
            while let Some(sent) = self.callee.poll() {
                let transport = self.callee.transport();
                let connection = transport.is_reliable().then_some(ConnectionId(1));
                let flow = Flow { transport, local: sent.to, remote: sent.from, connection };
                self.heard.push(String::from_utf8(sent.bytes.to_vec()).unwrap());
                self.ladder.hears(self.now, &flow, &sent.bytes);
                self.engine.handle_message(self.now, &flow, sent.bytes);
                moved = true;
            }
            if !moved {
                break;
            }
        }
        self.events.extend(std::iter::from_fn(|| self.engine.poll_event()));
    }

    fn close(mut self) {
        self.now += Duration::from_secs(40);
        self.engine.handle_timeout(self.now);
        self.run();
        assert_eq!(self.engine.counts(), Default::default());
    }
}

#[test]
fn every_peer_that_is_called_answers_and_hangs_up() {
    for profile in ALL {
        let (mut line, _) = Outbound::answered(profile);
        line.callee.hang_up();
        line.run();
        let Some(Event::Ended { reason: EndReason::Remote { headers }, .. }) = line.events.pop() else {
            panic!("{}: {:?}", profile.name, line.heard)
        };
        assert_eq!(headers.contains(HeaderName::REASON), profile.bye_reason.is_some(), "{}", profile.name);
        assert_eq!(line.callee.state(), CalleeState::Ended, "{}", profile.name);
        line.close();
    }
}

#[test]
fn every_peer_that_was_called_is_hung_up_whatever_its_contact_says() {
    for profile in ALL {
        let (mut line, dialog) = Outbound::answered(profile);
        line.engine.bye(line.now, &dialog, Headers::new()).unwrap();
        line.run();
        assert_eq!(line.callee.state(), CalleeState::Ended, "{}: {:#?}", profile.name, line.said);
        line.close();
    }
}

#[test]
fn every_peer_that_was_called_refreshes_the_session() {
    for profile in ALL {
        let (mut line, _) = Outbound::answered(profile);
        line.callee.refresh();
        line.run();
        let Some(Event::DialogRequest { tx, request, .. }) = line.events.pop() else {
            panic!("{}: {:?}", profile.name, line.events)
        };
        assert_eq!(request.method, Method::Invite);
        let reply = Reply { body: Some(Body::sdp("v=0\r\nours\r\n")), ..Reply::new(StatusCode::OK) };
        line.engine.respond(line.now, tx, reply).unwrap();
        line.run();
        assert_eq!(line.callee.refreshes(), 1, "{}", profile.name);
        line.callee.hang_up();
        line.run();
        line.close();
    }
}

#[test]
fn every_peer_that_is_called_may_refuse_redirect_or_be_given_up() {
    for profile in ALL {
        for (act, status) in [("refuse", 486), ("redirect", 302), ("cancel", 487)] {
            let mut line = Outbound::calling(profile, SessionTimers::default());
            line.callee.ring();
            line.run();
            match act {
                "refuse" => line.callee.refuse(StatusCode::BUSY_HERE),
                "redirect" => line.callee.redirect(&format!("sip:other@{OTHER}").parse().unwrap()),
                _ => line.engine.cancel(line.now, line.tx, Headers::new()).unwrap(),
            }
            line.run();
            let Some(Event::Response { response, .. }) = line.events.pop() else {
                panic!("{} {act}: {:?}", profile.name, line.events)
            };
            assert_eq!(response.status.code(), status, "{} {act}", profile.name);
            assert_eq!(response.headers.contains(HeaderName::CONTACT), status == 302);
            assert_eq!(line.callee.state(), CalleeState::Refused(response.status), "{}", profile.name);
            line.close();
        }
    }
}

#[test]
fn a_callee_takes_part_in_session_timers_as_far_as_it_is_known_to() {
    let asking = SessionTimers { mode: SessionTimerMode::Request, ..SessionTimers::default() };
    for profile in ALL {
        let mut line = Outbound::calling(profile, asking.clone());
        line.callee.answer();
        line.run();
        let expected = match profile.session_timer.map(|fact| fact.value) {
            None | Some(SessionTimer::None) => None,
            Some(SessionTimer::Supported) => Some(1_800),
            Some(SessionTimer::Asked { expires, .. }) => Some(expires),
        };
        assert_eq!(line.callee.interval(), expected, "{}", profile.name);
    }
    // One that wants more is asked again with as much (RFC 4028 §7.3).
    let slow = SessionTimer::Asked { expires: 3_600, minimum: 3_000 };
    let mut line = Outbound::calling(Profile { session_timer: fact(slow, "a slow one"), ..UNKNOWN }, asking);
    assert!(line.heard.iter().any(|text| text.starts_with("SIP/2.0 422")), "{:?}", line.heard);
    line.callee.answer();
    line.run();
    assert_eq!(line.callee.interval(), Some(3_000));
    assert!(matches!(line.events[..], [Event::Answered { .. }]), "{:?}", line.events);
}

/// The table of the documentation, from the data.
fn table() -> Vec<String> {
    let mut lines = Vec::new();
    for profile in ALL {
        let mut unknown = Vec::new();
        for row in profile.rows() {
            match row.value {
                Some(fact) => lines.push(format!(
                    "| {} | `{}` | {} | {} |",
                    profile.name, row.field, fact.value, fact.source
                )),
                None => unknown.push(format!("`{}`", row.field)),
            }
        }
        lines.push(format!("| {} | not known | {} | |", profile.name, unknown.join(", ")));
    }
    lines
}

#[test]
fn the_documentation_lists_every_fact_with_its_source_and_what_is_not_known() {
    let page = include_str!("../../../docs/quirks.md");
    let documented: Vec<_> =
        page.lines().filter(|line| line.starts_with("| ")).skip(1).map(String::from).collect();
    assert_eq!(documented, table(), "expected:\n{}", table().join("\n"));
}
