//! Transfers by REFER, blind and attended, and how their outcome is told (RFC 3515, RFC 4488, RFC 5589, RFC 6665).

use std::time::Duration;

use iqra_sip::event::{
    ClientTx, EngineError, Event, Failure, OutgoingInvite, Refer, ReferTarget, ReferralEnd, ReferralEvent,
    ReferralId, Replaced, Reply,
};
use iqra_sip::{
    DialogId, EngineConfig, HeaderName, Headers, Method, StatusCode, TransferConfig, Transport, Uri,
};

use crate::calls::connect;
use crate::network::{CALLEE, CALLER, Network, Weather};
use crate::wire::{Wire, request, starts, tag_of};

/// The one to whom the caller is transferred.
const THIRD: usize = 2;

fn config() -> EngineConfig {
    let transfer = TransferConfig { refer: true, replaces: true, ..TransferConfig::default() };
    EngineConfig { transfer, ..EngineConfig::default() }
}

fn three() -> Network {
    Network::among(1, Weather::default(), Transport::Udp, vec![config(), config(), config()])
}

fn third(net: &Network) -> Uri {
    format!("sip:third@{}", net.nodes[THIRD].addr).parse().unwrap()
}

fn refer(net: &mut Network, dialog: &DialogId, refer: Refer) -> ClientTx {
    let (engine, now) = net.engine(CALLEE);
    engine.refer(now, dialog, refer).unwrap()
}

/// The caller takes the REFER on.
fn take(net: &mut Network) -> (Option<ReferralId>, ReferTarget) {
    let Event::Referred { tx, target, .. } = net.event(CALLER) else { panic!("no REFER") };
    let (engine, now) = net.engine(CALLER);
    (engine.accept_refer(now, tx).unwrap(), *target)
}

fn tell(net: &mut Network, id: ReferralId, status: StatusCode) {
    let (engine, now) = net.engine(CALLER);
    engine.notify(now, id, status).unwrap();
}

fn referral(net: &mut Network) -> ReferralEvent {
    match net.event(CALLEE) {
        Event::Referral { event, .. } => event,
        other => panic!("{other:?}"),
    }
}

/// Runs to the end of a referral; the statuses told on the way.
fn outcome(net: &mut Network) -> (Vec<u16>, ReferralEnd) {
    let mut told = Vec::new();
    loop {
        match referral(net) {
            ReferralEvent::Accepted => {}
            ReferralEvent::Progress(outcome) => told.push(outcome.status.code()),
            ReferralEvent::Ended(end) => return (told, end),
            other => panic!("{other:?}"),
        }
    }
}

fn reported(end: &ReferralEnd) -> u16 {
    let ReferralEnd::Reported(outcome) = end else { panic!("{end:?}") };
    outcome.status.code()
}

fn unknown(end: ReferralEnd) -> Option<String> {
    let ReferralEnd::Unknown { reason } = end else { panic!("{end:?}") };
    reason
}

fn hang_up(net: &mut Network, node: usize, dialog: &DialogId) {
    let (engine, now) = net.engine(node);
    engine.bye(now, dialog, Headers::new()).unwrap();
}

/// The INVITE that a REFER asks for.
fn invite_of(net: &Network, target: &ReferTarget) -> OutgoingInvite {
    let invite = net.invite_to(THIRD);
    OutgoingInvite { uri: target.uri.clone(), headers: target.invite_headers(), ..invite }
}

#[test]
fn a_blind_transfer_is_carried_out_and_its_outcome_told() {
    let mut net = three();
    let (ours, theirs) = connect(&mut net);
    let start = net.sent.len();
    let asked = Refer::to(third(&net)).referred_by("<sip:agent@example.org>".parse_address());
    refer(&mut net, &theirs, asked);
    let (id, target) = take(&mut net);
    let call = invite_of(&net, &target);
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, request, .. } = net.event(THIRD) else { panic!("no INVITE") };
    assert_eq!(request.headers.get(HeaderName::REFERRED_BY).unwrap(), "<sip:agent@example.org>");
    let (engine, now) = net.engine(THIRD);
    engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    let Event::Answered { dialog: new, .. } = net.event(CALLER) else { panic!("no answer") };
    tell(&mut net, id.unwrap(), StatusCode::OK);
    let (told, end) = outcome(&mut net);
    assert_eq!((told, reported(&end)), (vec![100], 200));
    hang_up(&mut net, CALLEE, &theirs);
    let Event::Ended { dialog, .. } = net.event(CALLER) else { panic!("no end") };
    assert_eq!(dialog, ours);
    assert_eq!(
        net.ladder(start),
        "1 REFER\n0 202 REFER\n0 NOTIFY\n0 INVITE\n1 200 NOTIFY\n2 200 INVITE\n0 ACK\n0 NOTIFY\n1 200 NOTIFY\n\
         1 BYE\n0 200 BYE"
    );
    let last = net.newest(CALLER, "NOTIFY");
    for line in ["Event: refer", "Subscription-State: terminated;reason=noresource", "SIP/2.0 200 OK"] {
        assert!(last.lines().any(|one| one == line), "{line}: {last}");
    }
    let Event::Confirmed { .. } = net.event(THIRD) else { panic!("no ACK") };
    hang_up(&mut net, CALLER, &new);
    net.settle();
}

trait ParseAddress {
    fn parse_address(&self) -> iqra_sip::message::NameAddr;
}

impl ParseAddress for str {
    fn parse_address(&self) -> iqra_sip::message::NameAddr {
        iqra_sip::message::NameAddr::parse(self).unwrap()
    }
}

/// RFC 3515 §2.2, RFC 6665 §3.1: whoever takes part in a subscription says where it is reached.
#[test]
fn a_refer_its_202_its_notifications_and_their_refresh_have_one_contact_each() {
    let mut net = three();
    let (ours, theirs) = connect(&mut net);
    let asked = Refer::to(third(&net));
    refer(&mut net, &theirs, asked);
    take(&mut net);
    net.run(Duration::from_millis(100));
    let mut event = Headers::new();
    event.push(HeaderName::EVENT, "refer");
    let (engine, now) = net.engine(CALLEE);
    engine.dialog_request(now, &theirs, Method::Subscribe, &event, None).unwrap();
    net.run(Duration::from_millis(100));
    hang_up(&mut net, CALLER, &ours);
    net.run(Duration::from_millis(100));
    let contacts = |text: &str| text.lines().filter(|line| line.starts_with("Contact: ")).count();
    let of = |from: usize, start: &str, method: &str| {
        let own = |(node, text): &&(usize, String)| {
            *node == from && text.starts_with(start) && text.contains(&format!(" {method}\r\n"))
        };
        net.sent.iter().filter(own).map(|(_, text)| contacts(text)).collect::<Vec<_>>()
    };
    assert_eq!(of(CALLEE, "REFER", "REFER"), [1]);
    assert_eq!(of(CALLER, "SIP/2.0 202", "REFER"), [1]);
    assert_eq!(of(CALLEE, "SUBSCRIBE", "SUBSCRIBE"), [1]);
    assert_eq!(of(CALLER, "SIP/2.0 200", "SUBSCRIBE"), [1]);
    assert_eq!(of(CALLER, "NOTIFY", "NOTIFY"), [1, 1]);
    assert_eq!(of(CALLER, "BYE", "BYE"), [0], "a BYE moves no target");
}

#[test]
fn an_attended_transfer_takes_the_place_of_the_consultation() {
    let mut net = three();
    let (_, theirs) = connect(&mut net);
    // The callee asks the third party first.
    let consult = net.invite_to(THIRD);
    let (engine, now) = net.engine(CALLEE);
    engine.invite(now, consult).unwrap();
    let Event::Invite { tx, .. } = net.event(THIRD) else { panic!("no INVITE") };
    let (engine, now) = net.engine(THIRD);
    let at_third = engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    let Event::Answered { dialog: consultation, .. } = net.event(CALLEE) else { panic!("no answer") };
    let Event::Confirmed { .. } = net.event(THIRD) else { panic!("no ACK") };

    let asked = Refer::replacing(&third(&net), &consultation);
    refer(&mut net, &theirs, asked);
    let (id, target) = take(&mut net);
    let call = invite_of(&net, &target);
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, replaces, .. } = net.event(THIRD) else { panic!("no INVITE") };
    assert_eq!(replaces, Some(Replaced::Call(at_third.clone())));
    let (engine, now) = net.engine(THIRD);
    let new = engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    let Event::Ended { dialog, reason } = net.event(THIRD) else { panic!("the consultation goes on") };
    assert_eq!(dialog, at_third);
    assert!(matches!(reason, iqra_sip::event::EndReason::Replaced { by } if by == new));
    let Event::Answered { .. } = net.event(CALLER) else { panic!("no answer") };
    tell(&mut net, id.unwrap(), StatusCode::OK);
    let mut ended = 0;
    loop {
        match net.event(CALLEE) {
            Event::Ended { dialog, .. } => {
                assert_eq!(dialog, consultation);
                ended += 1;
            }
            Event::Referral { event: ReferralEvent::Ended(end), .. } => {
                assert_eq!(reported(&end), 200);
                break;
            }
            _ => {}
        }
    }
    assert_eq!(ended, 1);
    hang_up(&mut net, CALLEE, &theirs);
    hang_up(&mut net, THIRD, &new);
    net.settle();
}

#[test]
fn one_lost_message_of_any_kind_changes_no_outcome() {
    for (node, what) in [(CALLEE, "REFER"), (CALLER, "202 REFER"), (CALLER, "NOTIFY"), (CALLEE, "200 NOTIFY")]
    {
        let mut net = three();
        let (_, theirs) = connect(&mut net);
        net.lose_first(node, what);
        let asked = Refer::to(third(&net));
        refer(&mut net, &theirs, asked);
        let (id, _) = take(&mut net);
        for status in [StatusCode::RINGING, StatusCode::SESSION_PROGRESS, StatusCode::BUSY_HERE] {
            tell(&mut net, id.unwrap(), status);
        }
        let (told, end) = outcome(&mut net);
        assert_eq!((told, reported(&end)), (vec![100], 486), "{what}: the newest is told next");
        hang_up(&mut net, CALLEE, &theirs);
        net.settle();
    }
}

#[test]
fn the_outcome_comes_after_the_call_has_ended() {
    for node in [CALLEE, CALLER] {
        let mut net = three();
        let (ours, theirs) = connect(&mut net);
        let asked = Refer::to(third(&net));
        refer(&mut net, &theirs, asked);
        let (id, _) = take(&mut net);
        assert!(matches!(referral(&mut net), ReferralEvent::Accepted));
        hang_up(&mut net, node, if node == CALLEE { &theirs } else { &ours });
        net.run(Duration::from_secs(5));
        assert!(net.nodes[CALLER].engine.counts().dialogs == 1, "the subscription keeps its dialog");
        let (engine, now) = net.engine(CALLER);
        let info = engine.dialog_request(now, &ours, Method::Info, &Headers::new(), None);
        assert!(matches!(info, Err(EngineError::DialogOver)));
        tell(&mut net, id.unwrap(), StatusCode::DECLINE);
        net.nodes[CALLEE].events.retain(|event| !matches!(event, Event::Ended { .. }));
        let (_, end) = outcome(&mut net);
        assert_eq!(reported(&end), 603);
        net.settle();
    }
}

#[test]
fn a_refused_or_unanswered_refer_has_one_end() {
    let mut net = three();
    let (_, theirs) = connect(&mut net);
    let asked = Refer::to(third(&net));
    refer(&mut net, &theirs, asked.clone());
    let Event::Referred { tx, .. } = net.event(CALLER) else { panic!("no REFER") };
    let (engine, now) = net.engine(CALLER);
    engine.respond(now, tx, Reply::new(StatusCode::DECLINE)).unwrap();
    let (_, ReferralEnd::Refused(response)) = outcome(&mut net) else { panic!("not refused") };
    assert_eq!(response.status, StatusCode::DECLINE);
    net.lose(|_, text| text.contains("REFER"));
    refer(&mut net, &theirs, asked);
    let Event::Ended { .. } = net.event(CALLEE) else { panic!("silence ends the call") };
    let (_, end) = outcome(&mut net);
    assert!(matches!(end, ReferralEnd::Unanswered(Failure::Timeout)), "{end:?}");
    net.settle();
}

#[test]
fn a_refer_may_ask_to_hear_nothing() {
    let mut net = three();
    let (_, theirs) = connect(&mut net);
    let asked = Refer::to(third(&net)).quiet();
    refer(&mut net, &theirs, asked);
    let (id, _) = take(&mut net);
    assert_eq!(id, None);
    let (told, end) = outcome(&mut net);
    assert_eq!((told, unknown(end)), (vec![], None));
    assert_eq!(net.count(CALLER, "NOTIFY"), 0);
    hang_up(&mut net, CALLEE, &theirs);
    net.settle();
}

#[test]
fn notifications_that_never_come_end_in_a_timeout() {
    let mut net = three();
    let (_, theirs) = connect(&mut net);
    net.lose(|_, text| text.starts_with("NOTIFY "));
    let asked = Refer::to(third(&net));
    refer(&mut net, &theirs, asked);
    take(&mut net);
    let (told, end) = outcome(&mut net);
    assert_eq!((told, unknown(end).as_deref()), (vec![], Some("timeout")));
    net.run(Duration::from_secs(1));
    assert_eq!(net.nodes[CALLER].engine.counts().dialogs, 1, "the call goes on");
    hang_up(&mut net, CALLEE, &theirs);
    net.settle();
}

#[test]
fn a_subscription_ends_at_its_lifetime() {
    let mut net = three();
    let (_, theirs) = connect(&mut net);
    let asked = Refer::to(third(&net));
    refer(&mut net, &theirs, asked);
    let (id, _) = take(&mut net);
    let start = net.now;
    let (_, end) = outcome(&mut net);
    assert_eq!(unknown(end).as_deref(), Some("timeout"));
    assert!((179..=181).contains(&(net.now - start).as_secs()), "{:?}", net.now - start);
    net.run(Duration::from_secs(40));
    let (engine, now) = net.engine(CALLER);
    assert!(engine.notify(now, id.unwrap(), StatusCode::OK).is_err());
    hang_up(&mut net, CALLEE, &theirs);
    net.settle();
}

#[test]
fn transfers_of_one_call_are_told_apart_and_limited() {
    let mut net = three();
    let (_, theirs) = connect(&mut net);
    let mut taken = Vec::new();
    let asked = Refer::to(third(&net));
    for _ in 0..4 {
        let tx = refer(&mut net, &theirs, asked.clone());
        taken.push((tx, take(&mut net).0.unwrap()));
    }
    let (engine, now) = net.engine(CALLEE);
    assert_eq!(engine.refer(now, &theirs, asked), Err(EngineError::Full("max_referrals")));
    net.run(Duration::from_secs(1));
    net.nodes[CALLEE].events.clear();
    for (status, (tx, id)) in [404, 486, 200, 603].into_iter().zip(taken) {
        tell(&mut net, id, StatusCode::new(status).unwrap());
        let Event::Referral { tx: told, event: ReferralEvent::Ended(end) } = net.event(CALLEE) else {
            panic!("no end");
        };
        assert_eq!((told, reported(&end)), (tx, status));
    }
    hang_up(&mut net, CALLEE, &theirs);
    net.settle();
}

#[test]
fn a_refer_that_says_nothing_usable_gets_400_and_one_that_nobody_wants_405() {
    let mut net = three();
    let (_, theirs) = connect(&mut net);
    let (engine, now) = net.engine(CALLEE);
    engine.dialog_request(now, &theirs, Method::Refer, &Headers::new(), None).unwrap();
    let Event::Response { response, .. } = net.event(CALLEE) else { panic!("no response") };
    assert_eq!(response.status, StatusCode::BAD_REQUEST);

    let mut net = Network::calm();
    let (_, theirs) = connect(&mut net);
    let asked = Refer::to("sip:any@192.0.2.1".parse().unwrap());
    refer(&mut net, &theirs, asked);
    let (_, ReferralEnd::Refused(response)) = outcome(&mut net) else { panic!("not refused") };
    assert_eq!(response.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(!response.headers.get(HeaderName::ALLOW).unwrap().contains("REFER"));
}

/// RFC 5057 §5.1: a 481 would end the call that rings.
#[test]
fn a_refer_before_the_answer_comes_too_early_and_ends_nothing() {
    let mut wire = Wire::new(config());
    wire.say(request("INVITE", "b1", "1", "", ""));
    let Some(Event::Invite { tx, .. }) = wire.event() else { panic!("no INVITE") };
    wire.engine.respond(wire.now, tx, Reply::new(StatusCode::RINGING)).unwrap();
    wire.out();
    let dialog = wire.engine.early_dialog(tx).unwrap();
    let to = "Refer-To: <sip:c@192.0.2.3>\r\n";
    let refused = wire.say(request("REFER", "b2", "2", &tag_of(&dialog), to));
    assert_eq!(starts(&refused), ["500"]);
    assert!(refused[0].contains("\r\nRetry-After: "), "{}", refused[0]);
    assert!(wire.event().is_none());
    let dialog = wire.engine.accept(wire.now, tx, Reply::new(StatusCode::OK)).unwrap();
    wire.out();
    wire.say(request("ACK", "b3", "1", &tag_of(&dialog), ""));
    assert!(matches!(wire.event(), Some(Event::Confirmed { .. })));
    wire.say(request("REFER", "b4", "3", &tag_of(&dialog), to));
    assert!(matches!(wire.event(), Some(Event::Referred { .. })));
}

#[test]
fn the_referrer_may_end_its_subscription() {
    let mut net = three();
    let (_, theirs) = connect(&mut net);
    let asked = Refer::to(third(&net));
    refer(&mut net, &theirs, asked);
    let (id, _) = take(&mut net);
    net.run(Duration::from_secs(1));
    let mut headers = Headers::new();
    headers.push(HeaderName::EVENT, "refer");
    headers.push(HeaderName::EXPIRES, "0");
    let (engine, now) = net.engine(CALLEE);
    engine.dialog_request(now, &theirs, Method::Subscribe, &headers, None).unwrap();
    net.nodes[CALLEE].events.clear();
    net.run(Duration::from_secs(1));
    assert!(net.newest(CALLER, "NOTIFY").contains("terminated;reason=timeout"));
    let (engine, now) = net.engine(CALLER);
    assert!(engine.notify(now, id.unwrap(), StatusCode::OK).is_err());
}

#[test]
fn transfers_in_a_storm_have_one_end_each_and_leave_nothing() {
    let weather = Weather { loss: 0.25, duplicate: 0.1, jitter: Duration::from_millis(700) };
    for seed in 0..150 {
        let mut net = Network::among(seed, Weather::default(), Transport::Udp, vec![config(); 3]);
        let (ours, theirs) = connect(&mut net);
        net.worsen(weather);
        let asked = Refer::to(third(&net));
        refer(&mut net, &theirs, asked);
        let mut ends = 0;
        for round in 0..500 {
            net.run(Duration::from_millis(500));
            for event in std::mem::take(&mut net.nodes[CALLER].events) {
                if let Event::Referred { tx, .. } = event {
                    let (engine, now) = net.engine(CALLER);
                    let id = engine.accept_refer(now, tx).unwrap().unwrap();
                    engine.notify(now, id, StatusCode::RINGING).unwrap();
                    engine.notify(now, id, StatusCode::OK).unwrap();
                }
            }
            for event in std::mem::take(&mut net.nodes[CALLEE].events) {
                ends += u32::from(matches!(event, Event::Referral { event: ReferralEvent::Ended(_), .. }));
            }
            if round == seed % 7 {
                let (engine, now) = net.engine(CALLER);
                let _ = engine.bye(now, &ours, Headers::new());
            }
        }
        assert_eq!(ends, 1, "seed {seed}");
        net.settle();
    }
}
