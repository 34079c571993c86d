//! The guard before an engine: floods, scanners, bans and overload, and what honest callers notice of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iqra_sip::event::{Event, Reply, ServerTx};
use iqra_sip::guard::{Action, CROWD, GuardConfig, Load, Network, OverloadConfig, Part, Rate, Signature};
use iqra_sip::observe::{DialogEnd, DialogStep, DropReason, Observed, TransactionStep, feed};
use iqra_sip::{Engine, EngineConfig, Flow, Headers, Listener, StatusCode, Transport};

use crate::calls::connect;
use crate::ladders::Ladder;
use crate::network::{CALLEE, CALLER, Network as Wires, Weather};

/// A server behind its guard, on a clock of its own.
struct Server {
    engine: Engine,
    now: Instant,
    serial: u32,
    ladder: Ladder,
}

impl Server {
    fn new(guard: GuardConfig) -> Self {
        Self::of(EngineConfig { guard: Some(guard), ..EngineConfig::default() })
    }

    fn of(config: EngineConfig) -> Self {
        let mut engine = Engine::new(config, 1);
        engine.add_listener(Listener::new(Transport::Udp, "192.0.2.1:5060".parse().unwrap(), None));
        Self { engine, now: Instant::now(), serial: 0, ladder: Ladder::default() }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.engine.handle_timeout(self.now);
    }

    /// Sends what a source says, and takes the answers.
    fn say(&mut self, source: &str, message: impl Into<Bytes>) -> Vec<String> {
        let flow = Flow {
            transport: Transport::Udp,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: format!("{source}:5060").parse().unwrap(),
            connection: None,
        };
        let message = message.into();
        self.ladder.hears(self.now, &flow, &message);
        self.engine.handle_message(self.now, &flow, message);
        std::iter::from_fn(|| self.engine.poll_transmit())
            .inspect(|transmit| self.ladder.sends(self.now, transmit))
            .map(|transmit| String::from_utf8_lossy(&transmit.bytes).into_owned())
            .collect()
    }

    fn options(&mut self, source: &str, extra: &str) -> Vec<String> {
        self.serial += 1;
        let n = self.serial;
        self.say(
            source,
            format!(
                "OPTIONS sip:x@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP {source};branch=z9hG4bK{n}\r\n\
                 From: <sip:a@b>;tag={n}\r\nTo: <sip:x@192.0.2.1>\r\nCall-ID: c{n}\r\nCSeq: 1 OPTIONS\r\n\
                 Max-Forwards: 70\r\n{extra}Content-Length: 0\r\n\r\n"
            ),
        )
    }

    /// A request of a transaction of its own, to this value of To.
    fn request(&mut self, source: &str, method: &str, to: &str) -> Vec<String> {
        self.serial += 1;
        let n = self.serial;
        self.say(
            source,
            format!(
                "{method} sip:x@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP {source};branch=z9hG4bK{n}\r\n\
                 From: <sip:a@b>;tag={n}\r\nTo: {to}\r\nCall-ID: c{n}\r\nCSeq: 1 {method}\r\n\
                 Max-Forwards: 70\r\nContact: <sip:a@{source}>\r\nContent-Length: 0\r\n\r\n"
            ),
        )
    }

    /// A call from this source that the program has accepted: the lines that its further requests have in common.
    fn call(&mut self, source: &str) -> String {
        assert!(self.request(source, "INVITE", "<sip:x@192.0.2.1>").is_empty());
        let Some(Event::Invite { tx, .. }) = self.engine.poll_event() else { panic!("no INVITE") };
        self.engine.accept(self.now, tx, Reply::new(StatusCode::OK)).unwrap();
        let answer = self.engine.poll_transmit().unwrap().bytes;
        let answer = String::from_utf8(answer.to_vec()).unwrap();
        let kept = ["From: ", "To: ", "Call-ID: "];
        let lines = answer.lines().filter(|line| kept.iter().any(|name| line.starts_with(name)));
        lines.fold(String::new(), |all, line| all + line + "\r\n")
    }

    /// A request inside such a call.
    fn within(&mut self, source: &str, call: &str, method: &str) -> Vec<String> {
        self.serial += 1;
        let n = self.serial;
        self.say(
            source,
            format!(
                "{method} sip:x@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP {source};branch=z9hG4bK{n}\r\n{call}\
                 CSeq: {n} {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
            ),
        )
    }

    fn asked(&mut self) -> Option<ServerTx> {
        std::iter::from_fn(|| self.engine.poll_event()).find_map(|event| match event {
            Event::Request { tx, .. } => Some(tx),
            _ => None,
        })
    }

    fn is_served(&mut self, source: &str) -> bool {
        assert!(self.options(source, "").is_empty());
        match self.asked() {
            Some(tx) => {
                self.engine.respond(self.now, tx, Reply::new(StatusCode::OK)).unwrap();
                self.engine.poll_transmit().is_some()
            }
            None => false,
        }
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.engine.dropped().of(reason)
    }
}

#[test]
fn a_flood_from_one_source_costs_honest_callers_nothing() {
    let mut server = Server::new(GuardConfig::default());
    let (mut flood, mut honest) = (0, 0);
    for millisecond in 0..2_000 {
        flood += u32::from(server.is_served("198.51.100.66"));
        if millisecond % 50 == 0 {
            honest += u32::from(server.is_served("198.51.100.7"));
        }
        server.wait(Duration::from_millis(1));
    }
    assert_eq!(honest, 40, "all of them");
    assert!((290..=310).contains(&flood), "the burst and two seconds of the rate: {flood}");
    assert_eq!(server.dropped(DropReason::RateNew), u64::from(2_000 - flood));
    assert!(server.engine.counts().server_transactions <= 340);
}

#[test]
fn a_scanner_hears_nothing_and_a_forbidden_one_403_without_state() {
    let mut server = Server::new(GuardConfig::default());
    let scan = "User-Agent: friendly-scanner\r\n";
    assert!(server.options("198.51.100.66", scan).is_empty() && server.asked().is_none());
    let signatures = vec![Signature::new(Part::UserAgent, "friendly-scanner", Action::Forbid)];
    server.engine.set_guard(Some(GuardConfig { signatures, ..GuardConfig::default() }));
    let answers = server.options("198.51.100.66", scan);
    assert!(answers.len() == 1 && answers[0].starts_with("SIP/2.0 403 "), "{answers:?}");
    assert_eq!(server.dropped(DropReason::Scanner), 2);
    assert_eq!(server.engine.counts(), Default::default());
}

#[test]
fn malformed_messages_lead_to_a_ban_that_ends() {
    let offences = Rate { per_second: 1, burst: 5 };
    let mut server = Server::new(GuardConfig { offences, ..GuardConfig::default() });
    (0..6).for_each(|_| drop(server.say("198.51.100.66", "INVITE\r\n\r\n")));
    assert!(!server.is_served("198.51.100.66"));
    assert!(server.is_served("198.51.100.7"));
    assert_eq!((server.dropped(DropReason::Malformed), server.dropped(DropReason::Banned)), (6, 1));
    let banned: Vec<_> =
        server.engine.guard().unwrap().bans(server.now).map(|ban| ban.network.to_string()).collect();
    assert_eq!(banned, ["198.51.100.66/32"]);
    server.wait(Duration::from_secs(600));
    assert!(server.is_served("198.51.100.66"));
}

#[test]
fn streams_without_messages_and_failed_handshakes_lead_to_a_ban_too() {
    let offences = Rate { per_second: 1, burst: 5 };
    let mut server = Server::new(GuardConfig { offences, ..GuardConfig::default() });
    let flow = |ip: &str| Flow {
        transport: Transport::Tcp,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: format!("{ip}:4000").parse().unwrap(),
        connection: None,
    };
    for _ in 0..3 {
        server.engine.handle_unframed(server.now, &flow("198.51.100.66"), None);
        server.engine.handle_failed_handshake(server.now, &flow("198.51.100.66"));
    }
    server.engine.handle_unframed(server.now, &flow("198.51.100.7"), None);
    assert_eq!((server.dropped(DropReason::Unframed), server.dropped(DropReason::Handshake)), (4, 3));
    let banned = |ip: &str| server.engine.guard().unwrap().is_banned(server.now, ip.parse().unwrap());
    assert!(banned("198.51.100.66") && !banned("198.51.100.7"), "one slip is no ban");
}

#[test]
fn an_allowed_source_is_never_limited_and_never_banned() {
    let allow = ["198.51.100.0/24".parse::<Network>().unwrap()].into_iter().collect();
    let mut server = Server::new(GuardConfig { allow, ..GuardConfig::default() });
    (0..1_000).for_each(|_| drop(server.say("198.51.100.7", "INVITE\r\n\r\n")));
    assert!((0..1_000).all(|_| server.is_served("198.51.100.7")));
    assert_eq!(server.dropped(DropReason::Malformed), server.engine.dropped().total());
}

#[test]
fn overload_is_shed_before_queues_grow_and_ends_below_the_lower_mark() {
    let overload = OverloadConfig {
        start: Load { waiting: 10, queued: 100, ..Load::default() },
        end: Load { waiting: 5, queued: 10, ..Load::default() },
        ..OverloadConfig::default()
    };
    let mut server = Server::new(GuardConfig { overload: Some(overload), ..GuardConfig::default() });
    let mut waiting: Vec<_> = (0..10)
        .map(|_| {
            assert!(server.options("198.51.100.7", "").is_empty());
            server.asked().unwrap()
        })
        .collect();
    let mut seconds = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let answer = server.options("198.51.100.8", "").remove(0);
        assert!(answer.starts_with("SIP/2.0 503 "), "{answer}");
        let after: u32 =
            answer.lines().find_map(|line| line.strip_prefix("Retry-After: ")).unwrap().parse().unwrap();
        seconds.insert(after);
    }
    assert_eq!(seconds, (2..=10).collect(), "callers do not come back all at once");
    assert_eq!(server.engine.counts().server_transactions, 10, "nothing is kept for what was shed");
    let mut answer = |server: &mut Server| {
        server.engine.respond(server.now, waiting.remove(0), Reply::new(StatusCode::OK)).unwrap();
        server.engine.poll_transmit();
    };
    (0..4).for_each(|_| answer(&mut server));
    assert_eq!(server.options("198.51.100.8", "").len(), 1, "6 still wait");
    answer(&mut server);
    assert!(server.is_served("198.51.100.8"));
    assert_eq!(server.dropped(DropReason::Shed), 61);
    server.engine.note_queued(100);
    assert_eq!(server.options("198.51.100.8", "").len(), 1, "the driver's queue counts too");
    server.engine.note_queued(10);
    assert!(server.is_served("198.51.100.8"));
}

#[test]
fn a_call_goes_on_and_a_repeated_request_is_absorbed_while_new_ones_are_shed() {
    let overload = OverloadConfig {
        start: Load { waiting: 1, queued: 1, ..Load::default() },
        end: Load::default(),
        ..OverloadConfig::default()
    };
    let guard = GuardConfig { overload: Some(overload), ..GuardConfig::default() };
    let config = EngineConfig { guard: Some(guard), ..EngineConfig::default() };
    let mut net = Wires::of(1, Weather { duplicate: 1.0, ..Weather::default() }, Transport::Udp, config);
    let (ours, _) = connect(&mut net);
    assert_eq!(net.count(CALLEE, "503"), 0, "the repeated INVITE met its transaction");
    net.nodes[CALLEE].engine.note_queued(1);
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Response { response, .. } = net.event(CALLER) else { panic!("not shed") };
    assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &ours, Headers::new()).unwrap();
    assert!(matches!(net.event(CALLEE), Event::Ended { .. }));
    net.settle();
    let dropped = net.nodes[CALLEE].engine.dropped();
    assert!(dropped.of(DropReason::Shed) >= 1 && dropped.of(DropReason::Banned) == 0);
}

fn starts(answers: &[String]) -> Vec<&str> {
    answers.iter().map(|answer| &answer[8..11]).collect()
}

#[test]
fn a_few_slow_requests_close_the_service_to_nobody_and_many_do() {
    let mut server = Server::new(GuardConfig::default());
    let ask = |server: &mut Server, n: usize| {
        (0..n).for_each(|_| assert!(server.options("198.51.100.9", "").is_empty()));
    };
    ask(&mut server, CROWD - 1);
    server.wait(Duration::from_secs(30));
    assert!(server.options("203.0.113.5", "").is_empty(), "served");
    server.wait(Duration::from_secs(1));
    assert!(server.options("203.0.113.5", "").is_empty(), "the fiftieth waits for a second");
    server.wait(Duration::from_secs(1));
    assert_eq!(starts(&server.options("203.0.113.5", "")), ["503"]);
    assert_eq!(server.engine.load(server.now).stalled, Duration::from_secs(2));
}

#[test]
fn a_forged_tag_makes_no_transaction_and_gains_nothing() {
    let mut server = Server::new(GuardConfig { overload: None, ..GuardConfig::default() });
    let answered = (0..1_000)
        .filter(|_| !server.request("198.51.100.66", "INFO", "<sip:x@192.0.2.1>;tag=forged").is_empty());
    assert_eq!(answered.count(), 200, "as many as new requests");
    assert_eq!(server.engine.counts().server_transactions, 0);
    assert_eq!((server.dropped(DropReason::NoDialog), server.dropped(DropReason::RateNew)), (200, 800));
    for to in ["\";tag=\" <sip:x@192.0.2.1>", "<sip:x;tag=1@192.0.2.1>", "<sip:x@192.0.2.1;tag=1>"] {
        let mut server = Server::new(GuardConfig::default());
        server.engine.note_queued(1_000);
        assert_eq!(starts(&server.request("198.51.100.9", "INVITE", to)), ["503"], "{to}");
        assert!(server.asked().is_none());
    }
    let mut server = Server::new(GuardConfig::default());
    server.engine.note_queued(1_000);
    let shed = server.request("198.51.100.9", "BYE", "<sip:x@192.0.2.1>;tag=forged");
    assert_eq!(starts(&shed), ["503"], "no dialog, no priority");
    assert_eq!(starts(&server.request("198.51.100.9", "CANCEL", "<sip:x@192.0.2.1>")), ["503"]);
}

#[test]
fn a_full_table_has_room_for_calls_that_are_up_and_sheds_before_it_is_full() {
    let guard = GuardConfig { overload: None, ..GuardConfig::default() };
    let config = EngineConfig { max_transactions: 100, guard: Some(guard), ..EngineConfig::default() };
    let mut server = Server::of(config);
    let call = server.call("198.51.100.7");
    while server.options("198.51.100.8", "").is_empty() {}
    assert_eq!(server.engine.counts().server_transactions, 100);
    assert!(server.within("198.51.100.7", &call, "INFO").is_empty(), "the program answers");
    let invite = server.say("198.51.100.7", "CANCEL sip:x@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x@192.0.2.1>\r\nCall-ID: c1\r\nCSeq: 1 CANCEL\r\n\r\n");
    assert_eq!(starts(&invite), ["200"]);
    assert_eq!(starts(&server.request("198.51.100.7", "BYE", "<sip:x@b>;tag=forged")), ["481"]);
    for _ in 0..10 {
        assert!(server.within("198.51.100.7", &call, "INFO").is_empty());
    }
    assert_eq!(starts(&server.within("198.51.100.7", &call, "INFO")), ["503"], "the reserve has an end too");
    let config = EngineConfig {
        max_transactions: 100,
        guard: Some(GuardConfig::default()),
        ..EngineConfig::default()
    };
    let mut server = Server::of(config);
    while server.options("198.51.100.8", "").is_empty() {}
    assert_eq!(server.engine.counts().server_transactions, 80);
    assert_eq!((server.dropped(DropReason::Shed), server.dropped(DropReason::Full)), (1, 0));
}

#[test]
fn forged_datagrams_silence_no_call() {
    let mut server = Server::new(GuardConfig::default());
    let call = server.call("198.51.100.7");
    (0..21).for_each(|_| drop(server.say("198.51.100.7", "x")));
    assert!(server.options("198.51.100.7", "").is_empty());
    assert_eq!((server.dropped(DropReason::Banned), server.asked().is_some()), (1, false));
    assert_eq!(starts(&server.within("198.51.100.7", &call, "BYE")), ["200"]);
    assert!(server.request("198.51.100.7", "BYE", "<sip:x@b>;tag=forged").is_empty());
    assert_eq!(server.dropped(DropReason::Banned), 2);
}

#[test]
fn while_we_are_behind_new_requests_are_dropped_and_calls_go_on() {
    let mut server = Server::new(GuardConfig::default());
    let call = server.call("198.51.100.7");
    server.engine.note_backlog(0, Some(server.now));
    server.engine.note_backlog(1, None);
    server.wait(Duration::from_millis(99));
    assert!(server.options("198.51.100.8", "").is_empty() && server.asked().is_some(), "a burst");
    server.wait(Duration::from_millis(1));
    assert!(server.options("198.51.100.8", "").is_empty() && server.asked().is_none());
    assert!(server.request("198.51.100.8", "BYE", "<sip:x@b>;tag=forged").is_empty());
    assert_eq!(server.dropped(DropReason::Behind), 2);
    assert_eq!(starts(&server.within("198.51.100.7", &call, "BYE")), ["200"]);
    server.engine.note_backlog(0, None);
    server.wait(Duration::from_secs(1));
    assert!(server.options("198.51.100.8", "").is_empty() && server.asked().is_some());
}

#[test]
fn an_ack_of_a_stateless_answer_is_no_stray_one() {
    let mut server = Server::new(GuardConfig::default());
    server.engine.note_queued(1_000);
    for n in 1..=10 {
        let answer = server.request("198.51.100.9", "INVITE", "<sip:x@192.0.2.1>").remove(0);
        let to = answer.lines().find_map(|line| line.strip_prefix("To: ")).unwrap();
        let ack = |via: &str| {
            format!(
                "ACK sip:x@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9;branch=z9hG4bK{via}\r\n\
                 From: <sip:a@b>;tag={n}\r\nTo: {to}\r\nCall-ID: c{n}\r\nCSeq: 1 ACK\r\n\r\n"
            )
        };
        server.say("198.51.100.9", ack(&n.to_string()));
        assert_eq!(server.dropped(DropReason::StrayAck), n - 1);
        server.say("198.51.100.9", ack("other"));
        assert_eq!(server.dropped(DropReason::StrayAck), n);
    }
}

#[test]
fn what_is_malformed_counts_whether_or_not_it_can_be_answered() {
    let mut server = Server::new(GuardConfig::default());
    for _ in 0..20 {
        assert_eq!(starts(&server.options("198.51.100.9", "CSeq: 1 OPTIONS\r\n")), ["400"]);
    }
    assert!(server.options("198.51.100.9", "CSeq: 1 OPTIONS\r\n").is_empty(), "banned for it");
    assert!(server.say("198.51.100.10", "x").is_empty());
    assert_eq!((server.dropped(DropReason::Refused), server.dropped(DropReason::Malformed)), (20, 2));
}

#[test]
fn an_observer_hears_of_bans_and_of_their_end() {
    let mut server = Server::new(GuardConfig::default());
    let (observer, events) = feed(1_000);
    server.engine.observe(observer);
    (0..21).for_each(|_| drop(server.say("198.51.100.66", "x")));
    server.engine.guard_mut().unwrap().unban("198.51.100.66".parse().unwrap());
    server.options("198.51.100.7", "");
    let bans: Vec<_> = events
        .try_iter()
        .filter_map(|event| match event {
            Observed::Banned(change) => {
                Some((change.network.to_string(), change.banned.map(|(time, _)| time)))
            }
            _ => None,
        })
        .collect();
    let source = || String::from("198.51.100.66/32");
    assert_eq!(bans, [(source(), Some(Duration::from_secs(600))), (source(), None)]);
}

#[test]
fn an_observer_sees_every_transaction_and_dialog_begin_and_end() {
    let mut net = Wires::calm();
    let (observer, events) = feed(1_000);
    net.nodes[CALLEE].engine.observe(Arc::clone(&observer) as Arc<_>);
    let (ours, _) = connect(&mut net);
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &ours, Headers::new()).unwrap();
    net.event(CALLEE);
    net.settle();
    let (mut steps, mut dialogs, mut moved) = (Vec::new(), Vec::new(), Vec::new());
    for event in events.try_iter() {
        match event {
            Observed::Transaction(change) => {
                assert_eq!(change.call_id.as_deref(), Some(ours.call_id()), "{change:?}");
                assert!(change.branch.is_some_and(|branch| branch.starts_with("z9hg4bk")));
                moved.extend(change.status.map(StatusCode::code));
                steps.push((change.method.to_string(), change.step));
            }
            Observed::Dialog(change) => dialogs.push(change.step),
            Observed::Message(_) | Observed::Dropped(_) | Observed::Banned(_) => {}
        }
    }
    let begun = steps.iter().filter(|(_, step)| matches!(step, TransactionStep::Created(_))).count();
    let ended = steps.iter().filter(|(_, step)| matches!(step, TransactionStep::Ended)).count();
    assert_eq!((begun, ended, observer.lost()), (2, 2, 0), "INVITE and BYE: {steps:?}");
    assert_eq!(moved, [200, 200]);
    assert_eq!(dialogs, [DialogStep::Created, DialogStep::Confirmed, DialogStep::Ended(DialogEnd::Remote)]);
}
