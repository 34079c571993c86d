//! An INVITE that takes the place of another call, and all that it may not (RFC 3891 §3).

use std::time::Duration;

use iqra_sip::event::{ClientTx, EndReason, Event, OutgoingInvite, Replaced, Reply};
use iqra_sip::message::header::Replaces;
use iqra_sip::{
    DialogId, EngineConfig, HeaderName, Headers, Method, Request, StatusCode, TransferConfig, Transport, Uri,
};

use crate::calls::connect;
use crate::network::{CALLEE, CALLER, Network, Weather};

/// Calls the callee in place of the caller.
const THIRD: usize = 2;

fn three(replaces: bool) -> Network {
    let transfer = TransferConfig { replaces, ..TransferConfig::default() };
    let config = EngineConfig { transfer, ..EngineConfig::default() };
    Network::among(1, Weather::default(), Transport::Udp, vec![config; 3])
}

/// The third party calls the callee with these headers.
fn call(net: &mut Network, replaces: &[String]) {
    let mut headers = Headers::new();
    replaces.iter().for_each(|value| headers.push(HeaderName::REPLACES, value));
    let invite = OutgoingInvite { headers, ..net.invite() };
    let (engine, now) = net.engine(THIRD);
    engine.invite(now, invite).unwrap();
}

/// A call with these headers is refused at once.
fn refused(net: &mut Network, replaces: &[String]) -> u16 {
    call(net, replaces);
    let Event::Response { response, .. } = net.event(THIRD) else { panic!("no response") };
    response.status.code()
}

/// The value that names the callee's dialog, made by the caller.
fn naming(dialog: &DialogId) -> String {
    Replaces::of_peer(dialog).to_string()
}

fn ringing(net: &mut Network, from: usize, to: usize) -> ClientTx {
    let call = net.invite_to(to);
    let (engine, now) = net.engine(from);
    let ours = engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(to) else { panic!("no INVITE") };
    let (engine, now) = net.engine(to);
    engine.respond(now, tx, Reply::new(StatusCode::RINGING)).unwrap();
    let Event::Response { .. } = net.event(from) else { panic!("no 180") };
    ours
}

#[test]
fn an_answered_call_is_replaced_and_hung_up() {
    let mut net = three(true);
    let (ours, theirs) = connect(&mut net);
    let start = net.sent.len();
    call(&mut net, &[naming(&ours)]);
    let Event::Invite { tx, replaces, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    assert_eq!(replaces, Some(Replaced::Call(theirs.clone())));
    let (engine, now) = net.engine(CALLEE);
    let new = engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    let Event::Ended { dialog, reason: EndReason::Replaced { by } } = net.event(CALLEE) else {
        panic!("not replaced")
    };
    assert_eq!((dialog, by), (theirs, new));
    let Event::Ended { reason: EndReason::Remote { .. }, .. } = net.event(CALLER) else { panic!("no BYE") };
    net.run(Duration::from_secs(1));
    assert_eq!(net.ladder(start), "2 INVITE\n1 200 INVITE\n1 BYE\n2 ACK\n0 200 BYE");
    assert_eq!(net.nodes[CALLEE].engine.counts().dialogs, 1);
}

#[test]
fn what_is_not_accepted_replaces_nothing() {
    let mut net = three(true);
    let (ours, _) = connect(&mut net);
    call(&mut net, &[naming(&ours)]);
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, tx, Reply::new(StatusCode::FORBIDDEN)).unwrap();
    net.run(Duration::from_secs(1));
    assert_eq!((net.count(CALLEE, "BYE"), net.nodes[CALLER].engine.counts().dialogs), (0, 1));
}

#[test]
fn a_call_that_ends_before_the_answer_is_not_ended_twice() {
    let mut net = three(true);
    let (ours, _) = connect(&mut net);
    call(&mut net, &[naming(&ours)]);
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &ours, Headers::new()).unwrap();
    let Event::Ended { reason: EndReason::Remote { .. }, .. } = net.event(CALLEE) else { panic!("no end") };
    let (engine, now) = net.engine(CALLEE);
    engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    let Event::Confirmed { .. } = net.event(CALLEE) else { panic!("no ACK") };
    assert_eq!(net.count(CALLEE, "BYE"), 0);
}

#[test]
fn a_call_of_ours_that_rings_is_replaced_and_cancelled() {
    let mut net = three(true);
    let ours = ringing(&mut net, CALLEE, CALLER);
    // Whom the callee's call rings at knows the dialog.
    let invite = net.newest(CALLEE, "INVITE").to_owned();
    let answer = net.newest(CALLER, "180").to_owned();
    let (to, from) = (tag(&answer, "To"), tag(&invite, "From"));
    let call_id = invite.lines().find_map(|line| line.strip_prefix("Call-ID: ")).unwrap();
    let value = format!("{call_id};to-tag={from};from-tag={to}");
    call(&mut net, &[format!("{value};early-only")]);
    let Event::Invite { tx, replaces, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    assert_eq!(replaces, Some(Replaced::Ringing(ours)));
    let (engine, now) = net.engine(CALLEE);
    engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    let Event::Cancelled { .. } = net.event(CALLER) else { panic!("rings on") };
    let refused = |event: &Event| matches!(event, Event::Response { response, .. } if response.status == StatusCode::REQUEST_TERMINATED);
    let told = [net.event(CALLEE), net.event(CALLEE)];
    assert!(told.iter().any(refused), "{told:?}");
    assert!(told.iter().any(|event| matches!(event, Event::Confirmed { .. })), "{told:?}");
    net.run(Duration::from_secs(40));
    assert_eq!(net.nodes[CALLEE].engine.counts().dialogs, 1, "the new call lives");
}

fn tag(message: &str, header: &str) -> String {
    let line = message.lines().find(|line| line.starts_with(&format!("{header}:"))).unwrap();
    line.split(";tag=").nth(1).unwrap().to_owned()
}

#[test]
fn a_call_that_rings_here_is_not_replaced() {
    let mut net = three(true);
    ringing(&mut net, CALLER, CALLEE);
    let invite = net.newest(CALLER, "INVITE").to_owned();
    let (to, from) = (tag(net.newest(CALLEE, "180"), "To"), tag(&invite, "From"));
    let call_id = invite.lines().find_map(|line| line.strip_prefix("Call-ID: ")).unwrap();
    assert_eq!(refused(&mut net, &[format!("{call_id};to-tag={to};from-tag={from}")]), 481);
}

#[test]
fn what_may_not_be_replaced_is_refused_as_the_rfc_says() {
    let mut net = three(true);
    let (ours, theirs) = connect(&mut net);
    let value = naming(&ours);
    assert_eq!(refused(&mut net, &["other;to-tag=a;from-tag=b".into()]), 481);
    assert_eq!(refused(&mut net, &[naming(&theirs)]), 481, "the tags are the callee's view");
    assert_eq!(refused(&mut net, &[format!("{value};early-only")]), 486);
    assert_eq!(refused(&mut net, &[value.clone(), value.clone()]), 400);
    assert_eq!(refused(&mut net, &["nonsense".into()]), 400);
    net.lose(|from, text| from == CALLEE && text.starts_with("BYE "));
    let (engine, now) = net.engine(CALLEE);
    engine.bye(now, &theirs, Headers::new()).unwrap();
    assert_eq!(refused(&mut net, &[value]), 603, "it has ended");
    assert!(net.nodes[CALLEE].events.is_empty(), "the program hears of none of them");
}

#[test]
fn where_it_is_off_the_header_means_nothing() {
    let mut net = three(false);
    let (ours, _) = connect(&mut net);
    call(&mut net, &[naming(&ours)]);
    let Event::Invite { tx, replaces, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    assert_eq!(replaces, None);
    let (engine, now) = net.engine(CALLEE);
    engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    net.run(Duration::from_secs(1));
    assert_eq!(net.nodes[CALLEE].engine.counts().dialogs, 2);
}

#[test]
fn outside_an_invite_it_is_malformed() {
    let mut net = three(true);
    let (_, theirs) = connect(&mut net);
    let to: Uri = format!("sip:callee@{}", net.nodes[CALLEE].addr).parse().unwrap();
    let mut request = Request::new(Method::Options, to);
    request.headers.push(HeaderName::FROM, "<sip:third@example.org>");
    request.headers.push(HeaderName::REPLACES, naming(&theirs));
    let (engine, now) = net.engine(THIRD);
    engine.request(now, request, None).unwrap();
    let Event::Response { response, .. } = net.event(THIRD) else { panic!("no response") };
    assert_eq!(response.status, StatusCode::BAD_REQUEST);
    assert!(!net.nodes[CALLEE].events.iter().any(|event| matches!(event, Event::Request { .. })));
}
