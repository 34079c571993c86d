//! One engine against hand-written messages: what a server must refuse and how (RFC 3261 §8.2, §9.2, §12.2.2,
//! §17.2.3, §18.2), and what no message may do to it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use iqra_sip::event::{EngineError, Event, Replaced, Reply, ServerTx};
use iqra_sip::observe::DropReason;
use iqra_sip::{
    DialogId, Engine, EngineConfig, Flow, Headers, Listener, Method, StatusCode, TransferConfig, Transport,
};

use crate::ladders::Ladder;

pub(crate) struct Wire {
    pub(crate) engine: Engine,
    pub(crate) flow: Flow,
    pub(crate) now: Instant,
    ladder: Ladder,
}

impl Wire {
    pub(crate) fn new(config: EngineConfig) -> Self {
        let local: SocketAddr = "192.0.2.1:5060".parse().unwrap();
        let mut engine = Engine::new(config, 5);
        engine.add_listener(Listener::new(Transport::Udp, local, None));
        let remote = "198.51.100.7:5060".parse().unwrap();
        Self {
            engine,
            flow: Flow { transport: Transport::Udp, local, remote, connection: None },
            now: Instant::now(),
            ladder: Ladder::default(),
        }
    }

    /// Sends a message in and takes what comes out.
    pub(crate) fn say(&mut self, message: impl Into<bytes::Bytes>) -> Vec<String> {
        let message: bytes::Bytes = message.into();
        self.ladder.hears(self.now, &self.flow, &message);
        self.engine.handle_message(self.now, &self.flow, message);
        self.out()
    }

    pub(crate) fn out(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.engine.poll_transmit())
            .map(|transmit| {
                self.ladder.sends(self.now, &transmit);
                String::from_utf8_lossy(&transmit.bytes).into_owned()
            })
            .collect()
    }

    pub(crate) fn event(&mut self) -> Option<Event> {
        self.engine.poll_event()
    }

    /// Takes a call with these further headers in its INVITE.
    pub(crate) fn take_call(&mut self, extra: &str) -> (DialogId, String) {
        assert!(self.say(request("INVITE", "b1", "1", "", extra)).is_empty());
        let Some(Event::Invite { tx, .. }) = self.event() else { panic!("no INVITE") };
        let dialog = self.engine.accept(self.now, tx, Reply::new(StatusCode::OK)).unwrap();
        let answer = self.out().remove(0);
        assert!(self.say(request("ACK", "b2", "1", &tag_of(&dialog), "")).is_empty());
        assert!(matches!(self.event(), Some(Event::Confirmed { .. })));
        (dialog, answer)
    }
}

pub(crate) fn tag_of(dialog: &DialogId) -> String {
    format!(";tag={}", dialog.local_tag())
}

pub(crate) fn request(method: &str, branch: &str, cseq: &str, to_tag: &str, extra: &str) -> String {
    format!(
        "{method} sip:callee@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK{branch}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@example.org>;tag=f1\r\nTo: <sip:callee@192.0.2.1>{to_tag}\r\n\
         Call-ID: c1\r\nCSeq: {cseq} {method}\r\nContact: <sip:caller@198.51.100.7:5060>\r\n{extra}\
         Content-Length: 0\r\n\r\n"
    )
}

pub(crate) fn starts(out: &[String]) -> Vec<&str> {
    out.iter().map(|text| &text[8..11]).collect()
}

#[test]
fn a_stray_cancel_gets_481() {
    let mut wire = Wire::new(EngineConfig::default());
    assert_eq!(starts(&wire.say(request("CANCEL", "x", "1", "", ""))), ["481"]);
}

/// RFC 3261 §9.2: the CANCEL of whatever is known is answered 200; but for an INVITE it changes nothing.
#[test]
fn a_cancel_of_any_known_request_gets_200_and_only_an_invite_hears_of_it() {
    for method in ["OPTIONS", "REGISTER", "DANCE"] {
        let mut wire = Wire::new(EngineConfig::default());
        assert!(wire.say(request(method, "b1", "1", "", "")).is_empty());
        let Some(Event::Request { tx, .. }) = wire.event() else { panic!("not delivered") };
        let out = wire.say(request("CANCEL", "b1", "1", "", ""));
        assert_eq!(starts(&out), ["200"], "{method}");
        assert!(wire.event().is_none());
        wire.engine.respond(wire.now, tx, Reply::new(StatusCode::OK)).unwrap();
        let tag = |text: &str| text.lines().find(|line| line.starts_with("To: ")).map(str::to_owned);
        assert_eq!(tag(&wire.out()[0]), tag(&out[0]), "{method}");
        wire.wait(Duration::from_secs(40));
        assert_eq!(starts(&wire.say(request("CANCEL", "b1", "1", "", ""))), ["481"], "{method} is forgotten");
    }
}

#[test]
fn a_call_of_a_peer_without_a_tag_is_replaced_by_a_tag_of_0() {
    let transfer = TransferConfig { replaces: true, ..TransferConfig::default() };
    let mut wire = Wire::new(EngineConfig { transfer, ..EngineConfig::default() });
    let untagged = |text: String| text.replace(";tag=f1", "");
    assert!(wire.say(untagged(request("INVITE", "b1", "1", "", ""))).is_empty());
    let Some(Event::Invite { tx, .. }) = wire.event() else { panic!("no INVITE") };
    let dialog = wire.engine.accept(wire.now, tx, Reply::new(StatusCode::OK)).unwrap();
    wire.out();
    wire.say(untagged(request("ACK", "b2", "1", &tag_of(&dialog), "")));
    assert!(matches!(wire.event(), Some(Event::Confirmed { .. })));
    for (tag, found) in [("0", true), ("1", false)] {
        let replaces = format!("Replaces: c1;to-tag={};from-tag={tag}\r\n", dialog.local_tag());
        let invite = request("INVITE", &format!("r{tag}"), "1", "", &replaces);
        let refused = wire.say(invite.replace("Call-ID: c1", "Call-ID: c2"));
        assert_eq!(refused.is_empty(), found, "{refused:?}");
        match wire.event() {
            Some(Event::Invite { replaces, .. }) => {
                assert_eq!(replaces, Some(Replaced::Call(dialog.clone())));
            }
            other => assert!(!found && other.is_none(), "{other:?}"),
        }
    }
}

#[test]
fn a_request_inside_an_unknown_dialog_gets_481() {
    let mut wire = Wire::new(EngineConfig::default());
    for method in ["BYE", "INVITE", "INFO"] {
        assert_eq!(starts(&wire.say(request(method, method, "1", ";tag=none", ""))), ["481"], "{method}");
    }
    assert_eq!(starts(&wire.say(request("BYE", "y", "1", "", ""))), ["481"], "nor without any tag");
    assert!(wire.event().is_none());
}

#[test]
fn a_stray_ack_is_never_answered() {
    let mut wire = Wire::new(EngineConfig::default());
    assert!(wire.say(request("ACK", "x", "1", ";tag=none", "")).is_empty());
    assert_eq!(wire.engine.dropped().of(DropReason::StrayAck), 1);
}

#[test]
fn a_merged_request_gets_482() {
    let mut wire = Wire::new(EngineConfig::default());
    assert!(wire.say(request("INVITE", "path1", "1", "", "")).is_empty());
    assert_eq!(starts(&wire.say(request("INVITE", "path2", "1", "", ""))), ["482"]);
    assert!(matches!(wire.event(), Some(Event::Invite { .. })));
    assert!(wire.event().is_none());
    assert!(wire.say(request("INVITE", "again", "2", "", "")).is_empty(), "a higher CSeq is a new request");
}

#[test]
fn an_unknown_method_is_delivered_or_answered_405_with_allow() {
    let mut wire = Wire::new(EngineConfig::default());
    assert!(wire.say(request("DANCE", "x", "1", "", "")).is_empty());
    let Some(Event::Request { tx, .. }) = wire.event() else { panic!("not delivered") };
    wire.engine.respond(wire.now, tx, Reply::new(StatusCode::NOT_IMPLEMENTED)).unwrap();
    assert_eq!(starts(&wire.out()), ["501"]);

    let strict = EngineConfig { accepted_methods: Some(vec![Method::Options]), ..EngineConfig::default() };
    let mut wire = Wire::new(strict);
    let out = wire.say(request("DANCE", "x", "1", "", ""));
    assert_eq!(starts(&out), ["405"]);
    assert!(out[0].contains("\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS"), "{}", out[0]);
}

/// RFC 3261 §21.4.6, RFC 6665 §4.1.3.
#[test]
fn no_405_allows_what_it_refuses_and_a_notify_of_nothing_gets_481_or_489() {
    let strict = EngineConfig { accepted_methods: Some(vec![Method::Message]), ..EngineConfig::default() };
    let mut wire = Wire::new(strict);
    let out = wire.say(request("OPTIONS", "o", "1", "", ""));
    assert_eq!(starts(&out), ["405"]);
    let allow = "\r\nAllow: INVITE, ACK, CANCEL, BYE, INFO, UPDATE, PRACK, NOTIFY, MESSAGE\r\n";
    assert!(out[0].contains(allow), "{}", out[0]);
    for (event, status) in [("message-summary", "489"), ("refer", "481"), ("refer;id=7", "481")] {
        let branch = format!("n{}", event.len());
        let state = format!("Event: {event}\r\nSubscription-State: active\r\n");
        let out = wire.say(request("NOTIFY", &branch, "1", "", &state));
        assert_eq!(
            (starts(&out), out[0].contains("\r\nAllow-Events: refer\r\n")),
            (vec![status], status == "489")
        );
    }
    assert_eq!(starts(&wire.say(request("NOTIFY", "bare", "1", "", ""))), ["489"]);
    assert!(wire.event().is_none());
}

#[test]
fn a_required_extension_that_is_unknown_gets_420_naming_it() {
    let supported = EngineConfig { supported: vec!["timer".into()], ..EngineConfig::default() };
    let mut wire = Wire::new(supported);
    let out = wire.say(request("INVITE", "x", "1", "", "Require: timer, precondition\r\n"));
    assert_eq!(starts(&out), ["420"]);
    assert!(out[0].contains("\r\nUnsupported: precondition\r\n"), "{}", out[0]);
    assert!(wire.say(request("INVITE", "y", "2", "", "Require: timer\r\n")).is_empty());
}

#[test]
fn a_scheme_that_is_not_understood_gets_416_and_a_service_is_understood() {
    let mut wire = Wire::new(EngineConfig::default());
    for (branch, scheme) in ["nobody", "soap.beep"].iter().enumerate() {
        let strange = request("INVITE", &branch.to_string(), "1", "", "");
        let strange = strange.replace("INVITE sip:callee@192.0.2.1", &format!("INVITE {scheme}:callee"));
        assert_eq!(starts(&wire.say(strange)), ["416"], "{scheme}");
    }
    assert!(wire.event().is_none());
    let service =
        request("INVITE", "s", "2", "", "").replace("INVITE sip:callee@192.0.2.1", "INVITE urn:service:sos");
    assert!(wire.say(service).is_empty());
    assert!(matches!(wire.event(), Some(Event::Invite { .. })));
}

#[test]
fn what_is_left_of_a_malformed_via_is_the_way_back() {
    let mut wire = Wire::new(EngineConfig::default());
    let newer = request("OPTIONS", "x", "1", "", "").replace("SIP/2.0", "SIP/7.0");
    let out = wire.say(newer);
    assert_eq!(starts(&out), ["505"]);
    assert!(out[0].contains("Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bKx\r\n"), "{}", out[0]);
    let broken = request("INVITE", "y", "1", "", "").replace(";branch=z9hG4bKy", ";;,;,,");
    assert_eq!(starts(&wire.say(broken)), ["400"]);
    let bare =
        "INVITE sip:a@b SIP/2.0\r\nCSeq: 4 INVITE\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bKz\r\n\r\n";
    let out = wire.say(bare);
    assert_eq!(starts(&out), ["400"]);
    assert!(out[0].contains("CSeq: 4 INVITE") && !out[0].contains("Call-ID"), "{}", out[0]);
    assert_eq!(wire.engine.counts(), Default::default());
}

#[test]
fn a_to_with_a_flag_for_a_tag_is_refused_and_comes_back_as_it_was() {
    let mut wire = Wire::new(EngineConfig::default());
    let out = wire.say(request("BYE", "x", "1", ";tag", ""));
    assert_eq!(starts(&out), ["400"]);
    assert!(out[0].contains("\r\nTo: <sip:callee@192.0.2.1>;tag\r\n"), "{}", out[0]);
    let twice = request("INVITE", "y", "2", "", "Contact: <sip:other@198.51.100.8>\r\n");
    assert_eq!(starts(&wire.say(twice)), ["400"]);
    assert_eq!(wire.engine.counts(), Default::default());
}

#[test]
fn malformed_and_foreign_versions_are_answered_where_they_can_be() {
    let mut wire = Wire::new(EngineConfig::default());
    let bad = request("INVITE", "x", "1", "", "").replace("CSeq: 1 INVITE", "CSeq: 1 OPTIONS");
    assert_eq!(starts(&wire.say(bad)), ["400"]);
    let future = request("INVITE", "y", "1", "", "").replace(" SIP/2.0\r\nVia", " SIP/7.0\r\nVia");
    assert_eq!(starts(&wire.say(future)), ["505"]);
    assert!(wire.say("not sip at all\r\n\r\n").is_empty());
    assert_eq!(wire.engine.dropped().of(DropReason::Malformed), 1);
    assert_eq!(wire.engine.counts(), Default::default());
}

#[test]
fn a_branch_of_the_bare_cookie_is_matched_by_the_rules_of_rfc_2543() {
    let mut wire = Wire::new(EngineConfig::default());
    let first = request("INVITE", "", "1", "", "");
    assert!(wire.say(first.clone()).is_empty());
    let Some(Event::Invite { tx, .. }) = wire.event() else { panic!("no INVITE") };
    wire.engine.respond(wire.now, tx, Reply::new(StatusCode::BUSY_HERE)).unwrap();
    assert_eq!(starts(&wire.out()), ["486"]);
    assert_eq!(starts(&wire.say(first)), ["486"], "the repeat finds its transaction");
    let other = request("INVITE", "", "1", "", "").replace("Call-ID: c1", "Call-ID: c2");
    assert!(wire.say(other).is_empty());
    assert!(matches!(wire.event(), Some(Event::Invite { .. })), "another call is another transaction");
    wire.say(request("ACK", "", "1", ";tag=any", ""));
    wire.engine.handle_timeout(wire.now + Duration::from_millis(600));
    assert!(!wire.out().iter().any(|text| text.starts_with("SIP/2.0 486")), "the ACK stopped the repeats");
}

#[test]
fn a_lower_cseq_gets_500_and_a_gap_is_accepted() {
    let mut wire = Wire::new(EngineConfig::default());
    let (dialog, _) = wire.take_call("");
    let tag = tag_of(&dialog);
    assert!(wire.say(request("INFO", "i9", "9", &tag, "")).is_empty());
    assert!(matches!(wire.event(), Some(Event::DialogRequest { .. })));
    assert_eq!(starts(&wire.say(request("INFO", "i5", "5", &tag, ""))), ["500"]);
    assert!(wire.event().is_none());
}

/// RFC 3261 §12.2.2: what was refused for what it asks has been here all the same.
#[test]
fn a_request_older_than_one_that_was_refused_gets_500() {
    for refused in ["Require: foo\r\n", "Require: \"\r\n"] {
        let mut wire = Wire::new(EngineConfig::default());
        let (dialog, _) = wire.take_call("");
        let tag = tag_of(&dialog);
        assert!(["420", "400"].contains(&starts(&wire.say(request("INFO", "i5", "5", &tag, refused)))[0]));
        assert_eq!(starts(&wire.say(request("INFO", "i4", "4", &tag, ""))), ["500"]);
        assert!(wire.event().is_none());
    }
    let mut wire = Wire::new(EngineConfig::default());
    let (dialog, _) = wire.take_call("");
    let tag = tag_of(&dialog);
    let brief = "Supported: timer\r\nSession-Expires: 10\r\n";
    assert_eq!(starts(&wire.say(request("UPDATE", "u5", "5", &tag, brief))), ["422"]);
    assert_eq!(starts(&wire.say(request("INFO", "i4", "4", &tag, ""))), ["500"]);
}

/// RFC 3261 §12.2.1.1, §19.1.1: a Request-URI has no headers and no method, whoever named it.
#[test]
fn what_may_not_stand_in_a_request_line_is_left_out_of_it() {
    let request_line = |routes: &str, contact: &str| {
        let mut wire = Wire::new(EngineConfig::default());
        let invite = request("INVITE", "b1", "1", "", routes);
        assert!(wire.say(invite.replace("sip:caller@198.51.100.7:5060", contact)).is_empty());
        let Some(Event::Invite { tx, .. }) = wire.event() else { panic!("no INVITE") };
        let dialog = wire.engine.accept(wire.now, tx, Reply::new(StatusCode::OK)).unwrap();
        wire.out();
        wire.say(request("ACK", "b2", "1", &tag_of(&dialog), ""));
        wire.engine.bye(wire.now, &dialog, Headers::new()).unwrap();
        let bye = wire.out().remove(0);
        let route = bye.lines().find(|line| line.starts_with("Route: ")).unwrap_or_default().to_owned();
        (bye.lines().next().unwrap_or_default().to_owned(), route)
    };
    let strict = "Record-Route: <sip:p@198.51.100.7;method=INVITE?Subject=x>\r\n";
    let contact = "sip:caller@198.51.100.7:5060;method=BYE;x=1?Reason=y";
    let (line, route) = request_line(strict, contact);
    assert_eq!(line, "BYE sip:p@198.51.100.7 SIP/2.0");
    assert_eq!(route, "Route: <sip:caller@198.51.100.7:5060;x=1>");
    let (line, _) = request_line("", contact);
    assert_eq!(line, "BYE sip:caller@198.51.100.7:5060;x=1 SIP/2.0");
}

#[test]
fn record_route_comes_back_in_the_answer_and_rules_the_way_of_the_bye() {
    let routes = "Record-Route: <sip:10.9.9.1:5070;lr>, <sip:10.9.9.2;lr>\r\n";
    let mut wire = Wire::new(EngineConfig::default());
    let (dialog, answer) = wire.take_call(routes);
    assert!(answer.contains(routes), "{answer}");
    wire.engine.bye(wire.now, &dialog, Headers::new()).unwrap();
    let transmit = wire.engine.poll_transmit().unwrap();
    assert_eq!(transmit.flow.remote, "10.9.9.1:5070".parse().unwrap());
    let bye = String::from_utf8(transmit.bytes.to_vec()).unwrap();
    assert!(bye.starts_with("BYE sip:caller@198.51.100.7:5060 SIP/2.0"), "{bye}");
    assert!(bye.contains("\r\nRoute: <sip:10.9.9.1:5070;lr>\r\nRoute: <sip:10.9.9.2;lr>\r\n"), "{bye}");
}

/// A target refresh of the peer, which moves to this address; as the program gets it.
fn moves(
    wire: &mut Wire,
    dialog: &DialogId,
    (method, number, to): (&str, &str, &str),
    extra: &str,
) -> ServerTx {
    let moved = request(method, &format!("moves{number}"), number, &tag_of(dialog), extra)
        .replace("caller@198.51.100.7:5060>\r\n", &format!("m@{to}>\r\n"));
    assert!(wire.say(moved).is_empty());
    let Some(Event::DialogRequest { tx, .. }) = wire.event() else { panic!("no {method}") };
    tx
}

/// Where the next request inside a dialog goes.
fn target(wire: &mut Wire, dialog: &DialogId) -> String {
    wire.engine.dialog_request(wire.now, dialog, Method::Info, &Headers::new(), None).unwrap();
    wire.engine.poll_transmit().unwrap().flow.remote.ip().to_string()
}

#[test]
fn a_target_refresh_counts_when_it_is_accepted_and_a_refused_one_never() {
    for method in ["UPDATE", "INVITE"] {
        for (status, goes) in [(200, "203.0.113.5"), (488, "198.51.100.7"), (500, "198.51.100.7")] {
            let mut wire = Wire::new(EngineConfig::default());
            let (dialog, _) = wire.take_call("");
            let tx = moves(&mut wire, &dialog, (method, "2", "203.0.113.5"), "");
            assert_eq!(target(&mut wire, &dialog), "198.51.100.7", "{method} waits");
            wire.engine.respond(wire.now, tx, Reply::new(StatusCode::new(status).unwrap())).unwrap();
            wire.out();
            assert_eq!(target(&mut wire, &dialog), goes, "{method} {status}");
        }
    }
}

#[test]
fn a_target_refresh_that_glare_refuses_moves_nothing() {
    let mut wire = Wire::new(EngineConfig::default());
    let (dialog, _) = wire.take_call("");
    wire.engine.dialog_request(wire.now, &dialog, Method::Invite, &Headers::new(), None).unwrap();
    wire.out();
    let moved =
        request("INVITE", "x", "2", &tag_of(&dialog), "").replace("caller@198.51.100.7", "m@203.0.113.5");
    assert_eq!(starts(&wire.say(moved)), ["491"]);
    assert_eq!(target(&mut wire, &dialog), "198.51.100.7");
}

#[test]
fn a_reliable_provisional_response_accepts_a_target_refresh_and_a_later_one_is_not_undone() {
    let mut wire = Wire::new(EngineConfig::default());
    let (dialog, _) = wire.take_call("");
    let invite = moves(&mut wire, &dialog, ("INVITE", "2", "203.0.113.5"), "Require: 100rel\r\n");
    wire.engine.respond(wire.now, invite, Reply::new(StatusCode::SESSION_PROGRESS)).unwrap();
    wire.out();
    assert_eq!(target(&mut wire, &dialog), "203.0.113.5");
    let update = moves(&mut wire, &dialog, ("UPDATE", "3", "203.0.113.6"), "");
    wire.engine.respond(wire.now, update, Reply::new(StatusCode::OK)).unwrap();
    wire.out();
    assert_eq!(target(&mut wire, &dialog), "203.0.113.6");
    wire.engine.respond(wire.now, invite, Reply::new(StatusCode::NOT_ACCEPTABLE_HERE)).unwrap();
    wire.out();
    assert_eq!(target(&mut wire, &dialog), "203.0.113.6");
    let invite = moves(&mut wire, &dialog, ("INVITE", "4", "203.0.113.7"), "");
    let update = moves(&mut wire, &dialog, ("UPDATE", "5", "203.0.113.8"), "");
    for waiting in [update, invite] {
        wire.engine.respond(wire.now, waiting, Reply::new(StatusCode::OK)).unwrap();
        wire.out();
        assert_eq!(target(&mut wire, &dialog), "203.0.113.8");
    }
}

#[test]
fn a_require_that_cannot_be_read_is_no_leave_to_ignore_it() {
    for (n, require) in ["foo, b@d", "b@d, timer", "foo;x=y", "timer;x", "\"timer\""].iter().enumerate() {
        let mut wire = Wire::new(EngineConfig::default());
        let extra = format!("Require: {require}\r\n");
        for method in ["OPTIONS", "INVITE"] {
            let out = wire.say(request(method, &format!("m{n}"), "1", "", &extra));
            assert_eq!(starts(&out), ["400"], "{method} {require}");
        }
        assert!(wire.event().is_none(), "{require}");
        let mut wire = Wire::new(EngineConfig::default());
        let (dialog, _) = wire.take_call("");
        assert_eq!(starts(&wire.say(request("INFO", "in", "2", &tag_of(&dialog), &extra))), ["400"]);
    }
}

#[test]
fn a_full_engine_answers_503_without_state() {
    let mut wire = Wire::new(EngineConfig { max_transactions: 2, ..EngineConfig::default() });
    for n in 1..=5 {
        let call = request("INVITE", &format!("b{n}"), "1", "", "")
            .replace("Call-ID: c1", &format!("Call-ID: c{n}"));
        let out = wire.say(call);
        assert_eq!(starts(&out), if n <= 2 { vec![] } else { vec!["503"] });
    }
    assert_eq!(wire.engine.counts().server_transactions, 2);
    assert_eq!(wire.engine.dropped().of(DropReason::Full), 3);
}

/// RFC 3261 §21.5.4: those who are told the same come back all at once.
#[test]
fn a_full_engine_does_not_ask_everybody_back_at_once() {
    let mut wire = Wire::new(EngineConfig { max_transactions: 0, ..EngineConfig::default() });
    let waits: std::collections::BTreeSet<u32> = (0..100)
        .map(|n| {
            let out = wire.say(request("OPTIONS", &format!("b{n}"), "1", "", ""));
            let wait = out[0].lines().find_map(|line| line.strip_prefix("Retry-After: "));
            wait.and_then(|wait| wait.parse().ok()).expect("a number of seconds")
        })
        .collect();
    assert!(waits.len() > 5 && waits.iter().all(|wait| (2..=10).contains(wait)), "{waits:?}");
}

#[test]
fn a_full_engine_still_asks_inside_its_calls_and_no_end_of_that() {
    let mut wire = Wire::new(EngineConfig { max_transactions: 8, ..EngineConfig::default() });
    let (dialog, _) = wire.take_call("");
    for n in 0..8 {
        let other = request("OPTIONS", &format!("o{n}"), "1", "", "");
        wire.say(other.replace("Call-ID: c1", &format!("Call-ID: o{n}")));
    }
    let mut ask = || wire.engine.dialog_request(wire.now, &dialog, Method::Info, &Headers::new(), None);
    assert!(ask().is_ok());
    assert!(matches!(ask(), Err(EngineError::Full("max_transactions"))));
}

#[test]
fn a_full_house_of_dialogs_refuses_new_calls_and_serves_the_old() {
    let mut wire = Wire::new(EngineConfig { max_dialogs: 1, ..EngineConfig::default() });
    let (dialog, _) = wire.take_call("");
    let other = request("INVITE", "n", "1", "", "").replace("Call-ID: c1", "Call-ID: c2");
    assert_eq!(starts(&wire.say(other)), ["503"]);
    assert_eq!(starts(&wire.say(request("BYE", "bye", "2", &tag_of(&dialog), ""))), ["200"]);
}

#[test]
fn a_finished_transaction_forgets_its_request() {
    let mut wire = Wire::new(EngineConfig::default());
    wire.say(request("INVITE", "x", "1", "", ""));
    let Some(Event::Invite { tx, request: invite, .. }) = wire.event() else { panic!("no INVITE") };
    assert!(std::sync::Arc::strong_count(&invite) > 1);
    wire.engine.respond(wire.now, tx, Reply::new(StatusCode::MOVED_TEMPORARILY)).unwrap();
    assert_eq!(std::sync::Arc::strong_count(&invite), 1);
    assert!(wire.engine.respond(wire.now, tx, Reply::new(StatusCode::OK)).is_err());
}

#[test]
fn no_message_breaks_the_engine_and_its_state_stays_bounded() {
    let mut wire =
        Wire::new(EngineConfig { max_transactions: 50, max_dialogs: 20, ..EngineConfig::default() });
    let (dialog, answer) = wire.take_call("Record-Route: <sip:10.9.9.1;lr>\r\n");
    let tag = tag_of(&dialog);
    let methods = ["INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "UPDATE", "PRACK", "DANCE"];
    let mut seeds: Vec<String> =
        methods.iter().flat_map(|m| [request(m, "s", "3", "", ""), request(m, "t", "4", &tag, "")]).collect();
    seeds.push(answer);
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..20_000 {
        let mut bytes = random.choice(&seeds).unwrap().clone().into_bytes();
        for _ in 0..random.usize(0..4) {
            let at = random.usize(0..bytes.len());
            match random.u8(0..3) {
                0 => bytes[at] = random.u8(..),
                1 => drop(bytes.drain(at..(at + random.usize(0..20)).min(bytes.len()))),
                _ => bytes.insert(at, *random.choice(b"\r\n;<>\",:= \0z9").unwrap()),
            }
            if bytes.is_empty() {
                bytes.push(b'x');
            }
        }
        wire.say(bytes::Bytes::from(bytes));
        while let Some(event) = wire.event() {
            match event {
                Event::Invite { tx, .. } if random.bool() => {
                    let _ = wire.engine.accept(wire.now, tx, Reply::new(StatusCode::OK));
                }
                Event::Invite { tx, .. } | Event::Request { tx, .. } | Event::DialogRequest { tx, .. } => {
                    let _ = wire.engine.respond(wire.now, tx, Reply::new(StatusCode::NOT_FOUND));
                }
                _ => {}
            }
        }
        wire.now += Duration::from_millis(random.u64(0..100));
        wire.engine.handle_timeout(wire.now);
        wire.out();
        let counts = wire.engine.counts();
        assert!(counts.server_transactions + counts.client_transactions <= 75, "{counts:?}");
        assert!(counts.dialogs <= 20, "{counts:?}");
    }
}

#[test]
fn a_sips_request_in_the_clear_is_refused_unless_the_configuration_takes_it() {
    let lenient = EngineConfig { sips_by_tls_only: false, ..EngineConfig::default() };
    for (config, answer) in [(EngineConfig::default(), vec!["403"]), (lenient, vec![])] {
        let mut wire = Wire::new(config);
        let text = request("INVITE", "s", "1", "", "").replacen("INVITE sip:", "INVITE sips:", 1);
        assert_eq!(starts(&wire.say(text)), answer);
    }
}

#[test]
fn options_tells_what_we_take_and_know() {
    let config =
        EngineConfig { reliability: iqra_sip::event::Reliability::IfSupported, ..EngineConfig::default() };
    let mut wire = Wire::new(config);
    assert!(wire.say(request("OPTIONS", "o", "1", "", "")).is_empty());
    let Some(Event::Request { tx, .. }) = wire.event() else { panic!("no OPTIONS") };
    let reply = wire.engine.capabilities();
    wire.engine.respond(wire.now, tx, reply).unwrap();
    let out = wire.out().remove(0);
    for header in ["Allow: INVITE, ACK", "PRACK", "Accept: application/sdp", "Supported: timer, 100rel"] {
        assert!(out.contains(header), "{header}: {out}");
    }
    for header in ["Accept-Encoding: identity", "Accept-Language: en"] {
        assert!(out.contains(&format!("\r\n{header}\r\n")), "{header}: {out}");
    }
}

#[test]
fn a_prack_for_what_is_unknown_gets_481_and_one_without_rack_400() {
    let mut wire = Wire::new(EngineConfig::default());
    let (dialog, _) = wire.take_call("");
    let tag = tag_of(&dialog);
    assert_eq!(starts(&wire.say(request("PRACK", "p1", "2", &tag, "RAck: 1 1 INVITE\r\n"))), ["481"]);
    assert_eq!(starts(&wire.say(request("PRACK", "p2", "3", &tag, ""))), ["400"]);
    assert_eq!(starts(&wire.say(request("PRACK", "p3", "4", ";tag=none", "RAck: 1 1 INVITE\r\n"))), ["481"]);
}

#[test]
fn the_100_says_when_its_request_was_sent_and_how_long_it_waited() {
    for (timestamp, repeated) in [("54", "54 0.2"), ("54.25 1", "54.25 0.2"), ("when?", "when?")] {
        let mut wire = Wire::new(EngineConfig::default());
        wire.say(request("INVITE", "x", "1", "", &format!("Timestamp: {timestamp}\r\n")));
        let Some(Event::Invite { tx, .. }) = wire.event() else { panic!("no INVITE") };
        let trying = wire.wait(Duration::from_millis(300)).remove(0);
        assert!(trying.starts_with("SIP/2.0 100 "), "{trying}");
        assert!(trying.contains(&format!("\r\nTimestamp: {repeated}\r\n")), "{trying}");
        wire.engine.respond(wire.now, tx, Reply::new(StatusCode::RINGING)).unwrap();
        assert!(!wire.out()[0].contains("Timestamp"), "the 100 alone");
    }
    let mut wire = Wire::new(EngineConfig::default());
    wire.say(request("INVITE", "x", "1", "", "Timestamp: 54\r\n"));
    let Some(Event::Invite { tx, .. }) = wire.event() else { panic!("no INVITE") };
    wire.engine.respond(wire.now, tx, Reply::new(StatusCode::TRYING)).unwrap();
    assert!(wire.out()[0].contains("\r\nTimestamp: 54\r\n"), "no delay to tell of");
}

#[test]
fn an_invite_that_cannot_make_a_dialog_gets_400() {
    let mut wire = Wire::new(EngineConfig::default());
    let contact = "Contact: <sip:caller@198.51.100.7:5060>\r\n";
    for (branch, unusable) in ["", "Contact: *\r\n", "Contact: <<>>\r\n"].into_iter().enumerate() {
        let invite = request("INVITE", &branch.to_string(), "1", "", "").replace(contact, unusable);
        assert_eq!(starts(&wire.say(invite.replace("Call-ID: c1", &format!("Call-ID: u{branch}")))), ["400"]);
        assert!(wire.event().is_none(), "{unusable}");
    }
    let old = request("INVITE", "old", "1", "", "").replace(contact, "").replace(";tag=f1", "");
    assert!(wire.say(old.replace("Call-ID: c1", "Call-ID: old")).is_empty());
    assert!(matches!(wire.event(), Some(Event::Invite { .. })), "a caller of RFC 2543");
    let plain = request("OPTIONS", "o", "1", "", "").replace(contact, "");
    assert!(wire.say(plain).is_empty() && matches!(wire.event(), Some(Event::Request { .. })));
}
