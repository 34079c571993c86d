//! From one target to the next: RFC 3263 §4.3 on the virtual clock, one engine against targets written by hand.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use iqra_sip::auth::{Credentials, Keyring};
use iqra_sip::event::{Body, ClientTx, Event, Failure, OutgoingInvite};
use iqra_sip::message::NameAddr;
use iqra_sip::{
    Engine, EngineConfig, Flow, Headers, Hop, Listener, Method, Request, Timings, Transmit, Transport,
};

use crate::ladders::Ladder;

const TARGETS: [&str; 3] = ["10.0.0.2:5060", "10.0.0.3:5060", "10.0.0.4:5060"];

struct World {
    engine: Engine,
    now: Instant,
    /// What was sent and not yet looked at.
    sent: Vec<Transmit>,
    ladder: Ladder,
}

impl World {
    fn new() -> Self {
        Self::of(EngineConfig::default())
    }

    fn of(config: EngineConfig) -> Self {
        let mut engine = Engine::new(config, 1);
        let addr = "10.0.0.1:5060".parse().unwrap();
        engine.add_listener(Listener::new(Transport::Udp, addr, None));
        engine.add_listener(Listener::new(Transport::Tcp, addr, None));
        Self { engine, now: Instant::now(), sent: Vec::new(), ladder: Ladder::default() }
    }

    fn call(&mut self, transport: Transport) -> ClientTx {
        self.call_as(transport, Keyring::default())
    }

    fn call_as(&mut self, transport: Transport, ring: Keyring) -> ClientTx {
        let call = OutgoingInvite {
            uri: "sip:bob@example.org".parse().unwrap(),
            hops: hops(transport),
            from: NameAddr::new("sip:alice@example.org".parse().unwrap()),
            to: NameAddr::new("sip:bob@example.org".parse().unwrap()),
            call_id: None,
            cseq: 7,
            headers: Headers::new(),
            body: Some(Body::sdp("v=0\r\n")),
            options: Default::default(),
        };
        let tx = self.engine.invite_with(self.now, call, ring).unwrap();
        self.drain();
        tx
    }

    /// A request that proves itself, to these hops.
    fn ask_as_alice(&mut self, method: Method, hops: Vec<Hop>) {
        let mut request = Request::new(method, "sip:example.org".parse().unwrap());
        request.headers.push("From", "<sip:alice@example.org>");
        self.engine.request_with(self.now, request, hops, alice()).unwrap();
        self.drain();
    }

    /// The target challenges the newest request; what goes out then.
    fn challenge(&mut self, nonce: &str) -> Transmit {
        let asked = self.last();
        let challenge = format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\"\r\n");
        self.answer(&asked, "401 Unauthorized", &challenge);
        self.sent.pop().expect("the challenge is not answered")
    }

    fn options(&mut self) -> ClientTx {
        let mut request = Request::new(Method::Options, "sip:example.org".parse().unwrap());
        request.headers.push("From", "<sip:alice@example.org>");
        let tx = self.engine.request(self.now, request, hops(Transport::Udp)).unwrap();
        self.drain();
        tx
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.engine.poll_transmit() {
            self.ladder.sends(self.now, &transmit);
            self.sent.push(transmit);
        }
    }

    /// Lets time pass, firing every timer at its moment.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.engine.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.engine.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// The newest message; earlier ones are forgotten.
    fn last(&mut self) -> Transmit {
        let last = self.sent.pop().expect("nothing was sent");
        self.sent.clear();
        last
    }

    /// The target answers a request of ours.
    fn answer(&mut self, request: &Transmit, status: &str, more: &str) {
        let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
        let text = text(request);
        let lines = text.lines().filter(|line| copied.iter().any(|name| line.starts_with(name)));
        let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
        let lines = lines.replace("\r\nCall-ID", ";tag=t\r\nCall-ID");
        let contact = format!("Contact: <sip:{}>\r\n", request.flow.remote);
        let answer = format!("SIP/2.0 {status}\r\n{lines}{contact}{more}Content-Length: 0\r\n\r\n");
        let Flow { transport, local, remote, .. } = request.flow;
        let flow = Flow { transport, local, remote, connection: None };
        self.ladder.hears(self.now, &flow, answer.as_bytes());
        self.engine.handle_message(self.now, &flow, answer.into());
        self.drain();
    }

    fn fail(&mut self, transmit: &Transmit) {
        self.engine.handle_transport_error(self.now, transmit);
        self.drain();
    }

    /// Nothing is left once every timer has run.
    fn settle(mut self) {
        self.pass(Duration::from_secs(1_000));
        assert_eq!(self.engine.counts(), Default::default());
    }
}

fn hops(transport: Transport) -> Vec<Hop> {
    TARGETS.iter().map(|addr| Hop::from((transport, addr.parse::<SocketAddr>().unwrap()))).collect()
}

fn text(transmit: &Transmit) -> String {
    String::from_utf8(transmit.bytes.to_vec()).unwrap()
}

fn to(transmit: &Transmit) -> String {
    transmit.flow.remote.to_string()
}

fn line(transmit: &Transmit, name: &str) -> String {
    text(transmit).lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned()
}

fn alice() -> Keyring {
    Credentials::new("alice", "opensesame").into()
}

/// The nonce of the credentials that a request carries.
fn nonce(transmit: &Transmit) -> Option<String> {
    let line = line(transmit, "Authorization:");
    line.split("nonce=\"").nth(1)?.split('"').next().map(str::to_owned)
}

fn quick() -> EngineConfig {
    let timings = Timings { target_limit: Duration::from_secs(4), ..Timings::default() };
    EngineConfig { timings, ..EngineConfig::default() }
}

#[test]
fn a_target_that_cannot_be_reached_is_followed_by_the_next_with_a_branch_of_its_own() {
    let mut world = World::new();
    let tx = world.call(Transport::Tcp);
    let first = world.last();
    world.fail(&first);
    let second = world.last();
    assert_eq!([to(&first), to(&second)], [TARGETS[0], TARGETS[1]]);
    for same in ["INVITE", "From:", "To:", "Call-ID:", "CSeq:", "Contact:"] {
        assert_eq!(line(&first, same), line(&second, same));
    }
    assert_ne!(line(&first, "Via:"), line(&second, "Via:"));
    assert_eq!(text(&second).matches("Via:").count(), 1);
    world.fail(&second);
    let third = world.last();
    assert_eq!(to(&third), TARGETS[2]);
    assert!(world.engine.poll_event().is_none(), "not given up yet");
    world.fail(&third);
    let event = world.engine.poll_event();
    assert!(matches!(event, Some(Event::Failed { tx: failed, failure: Failure::Transport }) if failed == tx));
    world.settle();
}

#[test]
fn silence_until_timer_b_leads_to_the_next_target() {
    let mut world = World::new();
    let tx = world.call(Transport::Udp);
    world.pass(Duration::from_millis(31_900));
    assert!(world.sent.iter().all(|sent| to(sent) == TARGETS[0]));
    world.pass(Duration::from_millis(200));
    let second = world.last();
    assert_eq!(to(&second), TARGETS[1]);
    world.answer(&second, "200 OK", "");
    let ack = world.last();
    assert!(text(&ack).starts_with("ACK ") && to(&ack) == TARGETS[1]);
    assert!(
        matches!(world.engine.poll_event(), Some(Event::Answered { tx: answered, .. }) if answered == tx)
    );
}

#[test]
fn the_last_target_has_all_the_time_and_silence_of_all_is_one_timeout() {
    let mut world = World::of(quick());
    let tx = world.call(Transport::Udp);
    world.pass(Duration::from_secs(9));
    assert_eq!(to(&world.last()), TARGETS[2]);
    world.pass(Duration::from_secs(30));
    assert!(world.engine.poll_event().is_none());
    world.pass(Duration::from_secs(2));
    let event = world.engine.poll_event();
    assert!(matches!(event, Some(Event::Failed { tx: failed, failure: Failure::Timeout }) if failed == tx));
    assert!(world.engine.poll_event().is_none());
    world.settle();
}

#[test]
fn a_request_other_than_invite_moves_on_too() {
    let mut world = World::of(quick());
    let tx = world.options();
    world.pass(Duration::from_millis(4_100));
    let second = world.last();
    assert_eq!(to(&second), TARGETS[1]);
    world.answer(&second, "200 OK", "");
    assert!(
        matches!(world.engine.poll_event(), Some(Event::Response { tx: answered, .. }) if answered == tx)
    );
    world.settle();
}

#[test]
fn a_target_that_has_said_something_is_not_left_for_its_slowness() {
    let mut world = World::of(quick());
    world.call(Transport::Udp);
    let first = world.last();
    world.answer(&first, "100 Trying", "");
    world.pass(Duration::from_secs(60));
    assert!(world.sent.is_empty(), "{:?}", world.sent);

    let tx = world.options();
    let first = world.last();
    world.answer(&first, "100 Trying", "");
    world.pass(Duration::from_secs(34));
    assert!(world.sent.iter().all(|sent| to(sent) == TARGETS[0]), "repeats go where they went");
    world.pass(Duration::from_secs(3));
    let failed = std::iter::from_fn(|| world.engine.poll_event())
        .any(|event| matches!(event, Event::Failed { tx: failed, .. } if failed == tx));
    assert!(failed, "Timer F still ends it");
}

#[test]
fn a_503_is_acknowledged_and_the_next_target_asked() {
    let mut world = World::new();
    let tx = world.call(Transport::Udp);
    let first = world.last();
    world.answer(&first, "503 Service Unavailable", "");
    let [ack, second] = &world.sent[..] else { panic!("{:?}", world.sent) };
    let (ack, second) = (ack.clone(), second.clone());
    assert!(text(&ack).starts_with("ACK ") && to(&ack) == TARGETS[0]);
    assert_eq!(line(&ack, "Via:"), line(&first, "Via:"));
    assert!(text(&second).starts_with("INVITE ") && to(&second) == TARGETS[1]);

    world.sent.clear();
    world.answer(&first, "503 Service Unavailable", "");
    let again = world.last();
    assert_eq!(text(&again), text(&ack), "a repeated 503 is acknowledged again, by its own branch");

    world.answer(&second, "486 Busy Here", "");
    let ack = world.last();
    assert_eq!((to(&ack).as_str(), line(&ack, "Via:")), (TARGETS[1], line(&second, "Via:")));
    let event = world.engine.poll_event();
    assert!(
        matches!(event, Some(Event::Response { tx: busy, response, .. }) if busy == tx && response.status.code() == 486),
        "a refusal is final"
    );
    world.settle();
}

#[test]
fn the_503_of_the_last_target_reaches_the_program() {
    let mut world = World::new();
    let tx = world.options();
    for _ in TARGETS {
        let request = world.last();
        world.answer(&request, "503 Service Unavailable", "");
    }
    let event = world.engine.poll_event();
    assert!(
        matches!(event, Some(Event::Response { tx: last, response, .. }) if last == tx && response.status.code() == 503)
    );
    assert!(world.engine.poll_event().is_none());
    world.settle();
}

#[test]
fn a_target_is_avoided_for_as_long_as_its_retry_after_says() {
    let mut world = World::new();
    world.options();
    let first = world.last();
    world.answer(&first, "503 Service Unavailable", "Retry-After: 20\r\n");
    assert_eq!(to(&world.last()), TARGETS[1]);
    world.pass(Duration::from_secs(19));
    world.options();
    assert_eq!(to(&world.sent.pop().unwrap()), TARGETS[1]);
    world.pass(Duration::from_secs(2));
    world.options();
    assert_eq!(to(&world.sent.pop().unwrap()), TARGETS[0]);
}

#[test]
fn a_silent_target_is_not_waited_for_by_the_next_call() {
    let mut world = World::of(quick());
    world.options();
    world.pass(Duration::from_millis(4_100));
    let second = world.last();
    world.answer(&second, "200 OK", "");
    world.options();
    assert_eq!(to(&world.last()), TARGETS[1]);
    world.pass(Duration::from_secs(31));
    world.options();
    assert_eq!(to(&world.last()), TARGETS[0], "after half a minute it has another chance");
}

#[test]
fn a_cancel_ends_the_search_and_follows_the_branch_that_rings() {
    let mut world = World::of(quick());
    let tx = world.call(Transport::Udp);
    world.pass(Duration::from_millis(4_100));
    let second = world.last();
    world.engine.cancel(world.now, tx, Headers::new()).unwrap();
    world.pass(Duration::from_secs(20));
    assert!(world.sent.iter().all(|sent| to(sent) == TARGETS[1]), "no third target");
    world.sent.clear();
    world.answer(&second, "180 Ringing", "");
    let cancel = world.last();
    assert!(text(&cancel).starts_with("CANCEL ") && to(&cancel) == TARGETS[1]);
    assert_eq!(line(&cancel, "Via:"), line(&second, "Via:"));
    world.answer(&second, "487 Request Terminated", "");
    let ended = std::iter::from_fn(|| world.engine.poll_event())
        .filter(|event| matches!(event, Event::Response { response, .. } if response.status.code() == 487))
        .count();
    assert_eq!(ended, 1);
    world.settle();
}

#[test]
fn a_cancelled_503_is_final() {
    let mut world = World::new();
    let tx = world.call(Transport::Udp);
    let first = world.last();
    world.engine.cancel(world.now, tx, Headers::new()).unwrap();
    world.answer(&first, "503 Service Unavailable", "");
    assert!(text(&world.last()).starts_with("ACK "));
    assert!(matches!(world.engine.poll_event(), Some(Event::Response { .. })));
    world.settle();
}

#[test]
fn a_target_given_up_that_rings_late_is_cancelled() {
    let mut world = World::of(quick());
    world.call(Transport::Udp);
    let first = world.last();
    world.pass(Duration::from_millis(4_100));
    let second = world.last();
    world.answer(&first, "180 Ringing", "");
    let cancel = world.last();
    assert!(text(&cancel).starts_with("CANCEL ") && to(&cancel) == TARGETS[0]);
    world.answer(&second, "180 Ringing", "");
    let events: Vec<_> = std::iter::from_fn(|| world.engine.poll_event()).collect();
    assert_eq!(events.len(), 1, "the program hears of the second alone: {events:?}");
}

#[test]
fn a_target_given_up_that_answers_late_is_hung_up() {
    let mut world = World::of(quick());
    world.call(Transport::Udp);
    let first = world.last();
    world.pass(Duration::from_millis(4_100));
    world.sent.clear();
    world.answer(&first, "200 OK", "");
    let said: Vec<_> = world.sent.iter().map(|sent| text(sent)[..3].to_owned()).collect();
    assert_eq!(said, ["ACK", "BYE"]);
    assert!(world.sent.iter().all(|sent| to(sent) == TARGETS[0]));
    assert!(world.engine.poll_event().is_none());
    assert_eq!(world.engine.counts().dialogs, 0);
}

#[test]
fn our_contact_follows_the_transport_and_one_of_the_program_stays() {
    let mut world = World::new();
    let tcp = Hop::from((Transport::Tcp, TARGETS[0].parse::<SocketAddr>().unwrap()));
    let udp = Hop::from((Transport::Udp, TARGETS[1].parse::<SocketAddr>().unwrap()));
    let call = |headers: Headers| OutgoingInvite {
        uri: "sip:bob@example.org".parse().unwrap(),
        hops: vec![tcp.clone(), udp.clone()],
        from: NameAddr::new("sip:alice@example.org".parse().unwrap()),
        to: NameAddr::new("sip:bob@example.org".parse().unwrap()),
        call_id: None,
        cseq: 1,
        headers,
        body: None,
        options: Default::default(),
    };
    let mut given = Headers::new();
    given.push("Contact", "<sip:me@198.51.100.1>");
    for (headers, contact) in
        [(Headers::new(), "Contact: <sip:alice@10.0.0.1:5060>"), (given, "Contact: <sip:me@198.51.100.1>")]
    {
        world.engine = World::new().engine;
        world.engine.invite(world.now, call(headers)).unwrap();
        world.drain();
        let first = world.last();
        world.fail(&first);
        let second = world.last();
        assert_eq!(line(&second, "Contact:"), contact);
        assert!(line(&second, "Via:").starts_with("Via: SIP/2.0/UDP"));
    }
}

/// Limits are for what comes from others.
#[test]
fn a_request_with_more_headers_than_we_would_take_fails_over_too() {
    let mut world = World::new();
    let mut request = Request::new(Method::Options, "sip:example.org".parse().unwrap());
    request.headers.push("From", "<sip:alice@example.org>");
    (0..300).for_each(|_| request.headers.push("X-More", "x"));
    world.engine.request(world.now, request, hops(Transport::Tcp)).unwrap();
    world.drain();
    let first = world.last();
    world.fail(&first);
    let second = world.last();
    assert_eq!((to(&second).as_str(), text(&second).matches("X-More").count()), (TARGETS[1], 300));
}

#[test]
fn a_hop_that_is_named_twice_is_asked_once() {
    let mut world = World::new();
    let mut request = Request::new(Method::Options, "sip:example.org".parse().unwrap());
    request.headers.push("From", "<sip:alice@example.org>");
    let [first, second, _] = <[Hop; 3]>::try_from(hops(Transport::Udp)).unwrap();
    let named = [first.clone(), first.clone(), second, first];
    let tx = world.engine.request(world.now, request, named).unwrap();
    world.drain();
    for target in [TARGETS[0], TARGETS[1]] {
        let sent = world.last();
        assert_eq!(to(&sent), target);
        world.fail(&sent);
    }
    let Some(Event::Failed { tx: failed, failure: Failure::Transport }) = world.engine.poll_event() else {
        panic!("a hop is asked again");
    };
    assert_eq!(failed, tx);
}

#[test]
fn hops_that_no_listener_reaches_are_passed_over() {
    let mut world = World::new();
    let v6 = Hop::from((Transport::Udp, "[2001:db8::1]:5060".parse::<SocketAddr>().unwrap()));
    let mut request = Request::new(Method::Options, "sip:example.org".parse().unwrap());
    request.headers.push("From", "<sip:alice@example.org>");
    let v4 = hops(Transport::Udp).remove(0);
    world.engine.request(world.now, request.clone(), [v6.clone(), v4]).unwrap();
    world.drain();
    assert_eq!(to(&world.last()), TARGETS[0]);
    assert!(world.engine.request(world.now, request, [v6]).is_err());
}

/// RFC 3261 §22.3: credentials are for who asked for them. To a server that never gave their nonce they look refused.
#[test]
fn after_a_challenge_and_a_503_the_next_target_challenges_anew_and_is_answered() {
    let mut world = World::new();
    world.call_as(Transport::Udp, alice());
    let proven = world.challenge("first");
    assert_eq!(nonce(&proven).as_deref(), Some("first"));
    world.answer(&proven, "503 Service Unavailable", "");
    let second = world.sent.last().unwrap();
    assert_eq!((to(second).as_str(), nonce(second)), (TARGETS[1], None));
    let proven = world.challenge("second");
    assert_eq!((to(&proven).as_str(), nonce(&proven).as_deref()), (TARGETS[1], Some("second")));
    world.answer(&proven, "486 Busy Here", "");
    let Some(Event::Response { response, .. }) = world.engine.poll_event() else { panic!("no answer") };
    assert_eq!(response.status.code(), 486);
    world.settle();
}

#[test]
fn a_registration_whose_registrar_falls_silent_after_its_challenge_proves_itself_to_the_next() {
    let mut world = World::of(quick());
    world.ask_as_alice(Method::Register, hops(Transport::Udp));
    world.challenge("first");
    world.pass(Duration::from_secs(4));
    let second = world.sent.last().unwrap();
    assert_eq!((to(second).as_str(), nonce(second)), (TARGETS[1], None));
    let proven = world.challenge("second");
    assert_eq!((to(&proven).as_str(), nonce(&proven).as_deref()), (TARGETS[1], Some("second")));
    world.answer(&proven, "200 OK", "");
    world.settle();
}

#[test]
fn right_credentials_do_not_rest_at_a_target_that_was_failed_over_to() {
    let mut world = World::new();
    world.ask_as_alice(Method::Options, hops(Transport::Udp));
    let proven = world.challenge("first");
    world.answer(&proven, "503 Service Unavailable", "");
    world.challenge("second");
    world.ask_as_alice(Method::Options, hops(Transport::Udp).split_off(1));
    assert_eq!(nonce(&world.challenge("third")).as_deref(), Some("third"));
}
