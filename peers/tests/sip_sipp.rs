//! Our endpoint and sipp, each in either role: a scenario of sipp per behaviour, in which whatever is not as the
//! scenario says fails the run. `Cell` lines make the matrix of docs/interop.md.

#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::net::Ipv6Addr;
use std::time::Duration;

use iqra_peers::endpoint::{
    SDP, Us, agree, answered, confirmed, dtmf, ended, invite, refused, request, requested, ringing, soon,
    until_the_peer_hangs_up, uri,
};
use iqra_peers::registrar::{ACCOUNT, Registrar};
use iqra_peers::relay::{Faults, Relay};
use iqra_peers::sipp::{Running, Sipp};
use iqra_sip::auth::{Algorithm, Credentials, Keyring, Role};
use iqra_sip::event::{Body, EndReason, Refer, ReferralEnd, ReferralEvent, Reliability, Reply};
use iqra_sip::message::header::Expires;
use iqra_sip::net::{Answer, CallEvent, CallPolicy, Endpoint, OutgoingEvent};
use iqra_sip::{
    EngineConfig, HeaderName, Headers, Hop, Method, SessionTimerMode, SessionTimers, StatusCode, Timings,
    TransferConfig, Transport,
};

/// When a run of sipp has to be over.
const LIMIT: Duration = Duration::from_secs(25);

/// sipp calls us.
fn caller(us: &Us, scenario: &'static str) -> Running {
    caller_of(us, scenario).start()
}

/// The credentials of sipp are for `sip:<address>` where it is not told what it calls.
fn caller_of(us: &Us, scenario: &'static str) -> Sipp {
    let service = format!("service@{}", us.addr());
    Sipp::calling(us.addr(), scenario).within(LIMIT).option(&["-auth_uri", &service])
}

/// sipp is called: one call, and it ends.
fn called(scenario: &'static str) -> Running {
    called_by(scenario).start()
}

fn called_by(scenario: &'static str) -> Sipp {
    Sipp::answering(scenario).within(LIMIT).option(&["-m", "1", "-recv_timeout", "20000"])
}

fn finish(run: Running) {
    run.finish(LIMIT + Duration::from_secs(5)).assert_all_succeeded();
}

/// Cell: sipp | call from the peer, its BYE
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_hangs_up() {
    let mut us = Us::plain().await;
    let run = caller(&us, "caller_hangs_up");
    let mut call = us.take_call().await;
    until_the_peer_hangs_up(&mut call).await;
    finish(run);
}

/// Cell: sipp | call from the peer, our BYE
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_hung_up() {
    let mut us = Us::plain().await;
    let run = caller(&us, "caller_is_hung_up");
    us.take_call().await.hangup(Headers::new()).await.unwrap();
    finish(run);
}

/// Cell: sipp | call to the peer, our BYE
#[tokio::test(flavor = "multi_thread")]
async fn we_call_and_hang_up() {
    let us = Us::plain().await;
    let run = called("called_takes");
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    answered(&mut call).await.0.hangup(Headers::new()).await.unwrap();
    finish(run);
}

/// Cell: sipp | call to the peer, its BYE
#[tokio::test(flavor = "multi_thread")]
async fn we_call_and_are_hung_up() {
    let us = Us::plain().await;
    let run = called("called_hangs_up");
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    let (mut call, _) = answered(&mut call).await;
    until_the_peer_hangs_up(&mut call).await;
    finish(run);
}

/// Cell: sipp | call over TCP
#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_tcp_each_way() {
    let mut us = Us::plain().await;
    let run = Sipp::calling(us.addr_of(Transport::Tcp), "caller_is_hung_up").within(LIMIT).tcp().start();
    let call = us.take_call().await;
    assert_eq!(call.remote_flow().unwrap().transport, Transport::Tcp);
    call.hangup(Headers::new()).await.unwrap();
    finish(run);
    let run = called_by("called_hangs_up").tcp().start();
    let mut call = us.call(invite(uri(run.address(), ";transport=tcp"))).await;
    let (mut call, _) = answered(&mut call).await;
    assert_eq!(call.remote_flow().unwrap().transport, Transport::Tcp);
    until_the_peer_hangs_up(&mut call).await;
    finish(run);
}

/// Cell: sipp | call over IPv6
#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_ipv6_each_way() {
    let here = (Ipv6Addr::LOCALHOST, 0);
    let mut us = Us::bind(Endpoint::builder().udp(here).tcp(here)).await;
    let run = Sipp::calling(us.addr(), "caller_is_hung_up").ipv6().within(LIMIT).start();
    us.take_call().await.hangup(Headers::new()).await.unwrap();
    finish(run);
    let run = called_by("called_hangs_up").ipv6().tcp().start();
    let mut call = us.call(invite(uri(run.address(), ";transport=tcp"))).await;
    let (mut call, _) = answered(&mut call).await;
    until_the_peer_hangs_up(&mut call).await;
    finish(run);
}

/// Cell: sipp | 2xx of several branches, one is kept
#[tokio::test(flavor = "multi_thread")]
async fn the_second_branch_that_answers_is_hung_up() {
    let us = Us::plain().await;
    let run = called("called_forks");
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    let (call, answer) = answered(&mut call).await;
    assert!(answer.headers.get(HeaderName::TO).unwrap().ends_with("-a"));
    assert!(us.received("200 to BYE").contains("-b"));
    us.hang_up(call).await;
    finish(run);
}

/// Cell: sipp | datagrams lost, repeated and out of order
#[tokio::test(flavor = "multi_thread")]
async fn calls_come_through_a_path_that_loses_and_repeats() {
    const CALLS: u32 = 10;
    let mut us = Us::plain().await;
    // Nothing is overtaken on the way back: sipp takes a 180 behind its 200 for an error.
    let back = Faults { reorder: 0.0, ..Faults::rough(0.1) };
    let path = Relay::start(us.addr(), Faults::rough(0.1), back, 5);
    let run = Sipp::calling(path.address(), "caller_hangs_up").calls(CALLS, 10).within(LIMIT).start();
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        calls.push(us.called().await.accept(Answer::sdp(SDP)).await.unwrap());
    }
    for mut call in calls {
        until_the_peer_hangs_up(&mut call).await;
    }
    finish(run);
    assert!(path.to_server().lost > 0 && path.to_peer().lost > 0, "{path:?}");
}

/// Cell: sipp | CANCEL by the peer before the answer
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_gives_up() {
    let mut us = Us::plain().await;
    let run = caller(&us, "caller_cancels");
    let mut invite = us.called().await;
    invite.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
    soon("the CANCEL", invite.cancelled()).await;
    assert!(invite.cancel_request().is_some());
    finish(run);
}

/// Cell: sipp | 2xx that crosses a CANCEL
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_gives_up_too_late() {
    let mut us = Us::plain().await;
    let run = caller(&us, "caller_cancels_late");
    let mut call = us.take_call().await;
    until_the_peer_hangs_up(&mut call).await;
    finish(run);
}

/// Cell: sipp | CANCEL by us before the answer
#[tokio::test(flavor = "multi_thread")]
async fn we_give_up() {
    let us = Us::plain().await;
    let run = called("called_is_cancelled");
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    ringing(&mut call).await;
    call.cancel(Headers::new()).await;
    assert_eq!(refused(&mut call).await.status, StatusCode::REQUEST_TERMINATED);
    finish(run);
}

/// Cell: sipp | 2xx that crosses a CANCEL
#[tokio::test(flavor = "multi_thread")]
async fn we_give_up_too_late() {
    let us = Us::plain().await;
    let run = called("called_answers_late");
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    ringing(&mut call).await;
    call.cancel(Headers::new()).await;
    finish(run);
}

/// Cell: sipp | call refused by us
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_refused() {
    let mut us = Us::plain().await;
    let run = caller_of(&us, "caller_is_refused").key("status", 486).start();
    us.called().await.reject(Reply::new(StatusCode::BUSY_HERE));
    finish(run);
}

/// Cell: sipp | call refused by the peer
#[tokio::test(flavor = "multi_thread")]
async fn we_are_refused() {
    let us = Us::plain().await;
    let run = called_by("called_refuses").key("status", "603 Decline").start();
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    assert_eq!(refused(&mut call).await.status, StatusCode::DECLINE);
    finish(run);
}

/// Cell: sipp | unknown extension, refused by us
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_extension_is_refused() {
    let us = Us::plain().await;
    finish(caller(&us, "requires_unknown"));
}

/// Cell: sipp | re-INVITE by the peer
#[tokio::test(flavor = "multi_thread")]
async fn the_peer_changes_the_session() {
    let mut us = Us::plain().await;
    let run = caller(&us, "caller_reinvites");
    let mut call = us.take_call().await;
    assert_eq!(agree(requested(&mut call).await), Method::Invite);
    until_the_peer_hangs_up(&mut call).await;
    finish(run);
    let run = called("called_reinvites");
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    let (mut call, _) = answered(&mut call).await;
    assert_eq!(agree(requested(&mut call).await), Method::Invite);
    // The ACK of the re-INVITE comes before whatever we do next is looked at.
    wait_for(&us, "ACK ", 2).await;
    call.hangup(Headers::new()).await.unwrap();
    finish(run);
}

/// Until so many messages of that beginning were seen.
async fn wait_for(us: &Us, start: &str, count: usize) {
    soon(start, async {
        while us.saw(start) < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Cell: sipp | re-INVITE by us
#[tokio::test(flavor = "multi_thread")]
async fn we_change_the_session() {
    let mut us = Us::plain().await;
    let run = caller(&us, "caller_is_reinvited");
    let mut call = us.take_call().await;
    let reinvite = call.request(Method::Invite, Headers::new(), Some(Body::sdp(SDP)));
    assert_eq!(soon("the 2xx", reinvite).await.unwrap().status, StatusCode::OK);
    until_the_peer_hangs_up(&mut call).await;
    finish(run);
    let run = called("called_is_reinvited");
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    let (call, _) = answered(&mut call).await;
    let reinvite = call.request(Method::Invite, Headers::new(), Some(Body::sdp(SDP)));
    assert_eq!(soon("the 2xx", reinvite).await.unwrap().status, StatusCode::OK);
    call.hangup(Headers::new()).await.unwrap();
    finish(run);
}

/// Cell: sipp | offer in the 2xx
#[tokio::test(flavor = "multi_thread")]
async fn the_offer_is_ours() {
    let mut us = Us::plain().await;
    let run = caller(&us, "caller_without_offer");
    let invite = us.called().await;
    assert!(invite.request().body.is_empty());
    let mut call = invite.accept(Answer::sdp(SDP)).await.unwrap();
    assert!(confirmed(&mut call).await.body.starts_with(b"v=0"));
    until_the_peer_hangs_up(&mut call).await;
    finish(run);
}

/// Cell: sipp | ACK that never comes
#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_ack_ends() {
    let t1 = Duration::from_millis(25);
    let timings = Timings { t1, t2: 8 * t1, ..Timings::default() };
    let mut us = Us::with(EngineConfig { timings, ..EngineConfig::default() }).await;
    let run = caller(&us, "caller_never_acks");
    let mut call = us.called().await.accept(Answer::sdp(SDP)).await.unwrap();
    assert!(matches!(ended(&mut call).await, EndReason::AckTimeout));
    finish(run);
}

/// Cell: sipp | loose routing
#[tokio::test(flavor = "multi_thread")]
async fn the_route_of_a_call_is_kept_each_way() {
    let mut us = Us::plain().await;
    let run = caller(&us, "caller_behind_proxies");
    us.take_call().await.hangup(Headers::new()).await.unwrap();
    finish(run);
    let run = called("called_behind_proxies");
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    answered(&mut call).await.0.hangup(Headers::new()).await.unwrap();
    finish(run);
}

async fn take_after_challenge(us: &mut Us, role: Role) {
    let mut registrar = Registrar::new(Algorithm::Md5, role);
    let first = us.called().await;
    let challenge = registrar.check(first.request()).unwrap_err();
    first.reject(*challenge);
    let second = us.called().await;
    registrar.check(second.request()).unwrap();
    let mut call = second.accept(Answer::sdp(SDP)).await.unwrap();
    confirmed(&mut call).await;
    until_the_peer_hangs_up(&mut call).await;
}

/// Cell: sipp | digest: we ask a caller
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_proves_itself() {
    let mut us = Us::plain().await;
    for (role, status) in [(Role::Agent, 401), (Role::Proxy, 407)] {
        let run =
            caller_of(&us, "caller_is_challenged").key("status", status).key("password", ACCOUNT.1).start();
        take_after_challenge(&mut us, role).await;
        finish(run);
    }
}

/// Cell: sipp | digest: we ask a caller
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_with_another_password_is_kept_out() {
    let mut us = Us::plain().await;
    let run = caller(&us, "caller_has_wrong_password");
    let mut registrar = Registrar::new(Algorithm::Md5, Role::Agent);
    for _ in 0..2 {
        let invite = us.called().await;
        let challenge = registrar.check(invite.request()).unwrap_err();
        invite.reject(*challenge);
    }
    finish(run);
}

/// Cell: sipp | digest: the peer asks our caller
#[tokio::test(flavor = "multi_thread")]
async fn we_prove_ourselves() {
    let us = Us::plain().await;
    for scenario in ["called_challenges", "called_challenges_as_proxy"] {
        let run = called(scenario);
        let credentials: Keyring = Credentials::new(ACCOUNT.0, ACCOUNT.1).for_realm("sipp").into();
        let policy = CallPolicy { credentials, ..CallPolicy::default() };
        let mut call = us.endpoint.call(invite(uri(run.address(), "")), policy).await.unwrap();
        answered(&mut call).await.0.hangup(Headers::new()).await.unwrap();
        finish(run);
    }
}

/// Cell: sipp | registration of the peer at us
/// Cell: sipp | digest: we ask a request other than INVITE
#[tokio::test(flavor = "multi_thread")]
async fn the_peer_registers_and_leaves() {
    let mut us = Us::plain().await;
    let run = caller_of(&us, "registers").key("password", ACCOUNT.1).start();
    let mut registrar = Registrar::new(Algorithm::Md5, Role::Agent);
    let mut granted = Vec::new();
    for _ in 0..3 {
        let asked = us.asked().await;
        let contact = asked.request().headers.get(HeaderName::CONTACT).unwrap().into_owned();
        let seconds = asked.request().headers.typed::<Expires>().unwrap().0;
        let bound =
            Reply::new(StatusCode::OK).header(HeaderName::CONTACT, format!("{contact};expires={seconds}"));
        let checked = registrar.check(asked.request());
        granted.extend(checked.is_ok().then_some(seconds));
        asked.respond(checked.map_or_else(|challenge| *challenge, |()| bound));
    }
    assert_eq!(granted, [300, 0]);
    finish(run);
}

/// Cell: sipp | OPTIONS by the peer
#[tokio::test(flavor = "multi_thread")]
async fn the_peer_asks_what_we_can() {
    let mut us = Us::plain().await;
    let run = caller(&us, "asks_options");
    drop(us.asked().await);
    finish(run);
}

/// Cell: sipp | OPTIONS by us
#[tokio::test(flavor = "multi_thread")]
async fn we_ask_what_the_peer_can() {
    let us = Us::plain().await;
    let run = called("is_asked_options");
    let answer = us.ask(request(Method::Options, uri(run.address(), ""))).await;
    assert!(answer.headers.get(HeaderName::ALLOW).unwrap().contains("MESSAGE"));
    finish(run);
}

/// Cell: sipp | MESSAGE by the peer
#[tokio::test(flavor = "multi_thread")]
async fn the_peer_sends_a_message() {
    let mut us = Us::plain().await;
    let run = caller(&us, "sends_message");
    let message = us.asked().await;
    assert_eq!((&message.request().method, &message.request().body[..5]), (&Method::Message, &b"hello"[..]));
    message.respond(Reply::new(StatusCode::OK));
    finish(run);
}

/// Cell: sipp | MESSAGE by us
#[tokio::test(flavor = "multi_thread")]
async fn we_send_a_message() {
    let us = Us::plain().await;
    let run = called("gets_message");
    let mut message = request(Method::Message, uri(run.address(), ""));
    message.headers.push(HeaderName::CONTENT_TYPE, "text/plain");
    message.body = "hello".into();
    assert_eq!(us.ask(message).await.status, StatusCode::OK);
    finish(run);
}

/// Cell: sipp | INFO with DTMF by the peer
/// Cell: sipp | INFO with DTMF by us
#[tokio::test(flavor = "multi_thread")]
async fn digits_travel_in_info_each_way() {
    let mut us = Us::plain().await;
    let run = caller(&us, "caller_by_info");
    let mut call = us.take_call().await;
    let info = requested(&mut call).await;
    assert!(info.request().body.starts_with(b"Signal=5"));
    assert_eq!(agree(info), Method::Info);
    let answer = soon("the answer", call.request(Method::Info, Headers::new(), Some(dtmf()))).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    until_the_peer_hangs_up(&mut call).await;
    finish(run);
    let run = called("called_by_info");
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    let (mut call, _) = answered(&mut call).await;
    soon("the answer", call.request(Method::Info, Headers::new(), Some(dtmf()))).await.unwrap();
    assert_eq!(agree(requested(&mut call).await), Method::Info);
    call.hangup(Headers::new()).await.unwrap();
    finish(run);
}

/// Cell: sipp | redirect by the peer, followed by us
/// Cell: sipp | several Contacts of a redirect tried in turn
#[tokio::test(flavor = "multi_thread")]
async fn redirects_lead_to_the_contact_that_answers() {
    let us = Us::plain().await;
    let taker = called("called_takes");
    let busy = called_by("called_refuses").key("status", "486 Busy Here").start();
    let contacts = |first, second| format!("<sip:a@{first}>;q=0.9, <sip:b@{second}>;q=0.2");
    let second =
        called_by("called_redirects").key("contacts", contacts(busy.address(), taker.address())).start();
    let first =
        called_by("called_redirects").key("contacts", format!("<sip:c@{}>", second.address())).start();
    let mut call = us.endpoint.call(invite(uri(first.address(), "")), CallPolicy::default()).await.unwrap();
    answered(&mut call).await.0.hangup(Headers::new()).await.unwrap();
    for run in [first, second, busy, taker] {
        finish(run);
    }
}

/// Cell: sipp | 503 of one server, the next is tried
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_passed_over() {
    let us = Us::plain().await;
    let taker = called("called_takes");
    let down = called_by("called_refuses").key("status", "503 Service Unavailable").start();
    let mut call = invite(uri(down.address(), ""));
    call.hops = [&down, &taker].map(|run| Hop::from((Transport::Udp, run.address()))).into();
    let mut call = us.call(call).await;
    answered(&mut call).await.0.hangup(Headers::new()).await.unwrap();
    finish(down);
    finish(taker);
}

/// Cell: sipp | reliable provisional responses of ours
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_acknowledges_our_ringing() {
    let config = EngineConfig { reliability: Reliability::IfSupported, ..EngineConfig::default() };
    let mut us = Us::with(config).await;
    let run = caller(&us, "caller_pracks");
    let mut invite = us.called().await;
    let progress = StatusCode::new(183).unwrap();
    invite.provisional(progress, Headers::new(), Some(Body::sdp(SDP))).await.unwrap();
    let Some(CallEvent::Acknowledged(prack)) = soon("the PRACK", invite.next()).await else {
        panic!("no PRACK")
    };
    assert_eq!(prack.method, Method::Prack);
    let mut call = invite.accept(Answer::default()).await.unwrap();
    confirmed(&mut call).await;
    until_the_peer_hangs_up(&mut call).await;
    finish(run);
}

/// Cell: sipp | reliable provisional responses of the peer
#[tokio::test(flavor = "multi_thread")]
async fn we_acknowledge_the_ringing_of_the_peer() {
    let config = EngineConfig { reliability: Reliability::IfSupported, ..EngineConfig::default() };
    let us = Us::with(config).await;
    let run = called("called_is_reliable");
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    ringing(&mut call).await;
    answered(&mut call).await.0.hangup(Headers::new()).await.unwrap();
    assert_eq!(us.saw("PRACK "), 1);
    finish(run);
}

/// Cell: sipp | UPDATE by the peer
/// Cell: sipp | UPDATE by us
#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_updated_each_way() {
    let mut us = Us::plain().await;
    let run = caller(&us, "caller_updates");
    let mut call = us.take_call().await;
    assert_eq!(agree(requested(&mut call).await), Method::Update);
    let update = call.request(Method::Update, Headers::new(), Some(Body::sdp(SDP)));
    assert_eq!(soon("the 2xx", update).await.unwrap().status, StatusCode::OK);
    until_the_peer_hangs_up(&mut call).await;
    finish(run);
}

/// Cell: sipp | UPDATE by the peer
/// Cell: sipp | UPDATE by us
/// Cell: sipp | reliable provisional responses of the peer
#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_updated_before_its_answer() {
    let config = EngineConfig { reliability: Reliability::IfSupported, ..EngineConfig::default() };
    let us = Us::with(config).await;
    let run = called("called_updates_early");
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    ringing(&mut call).await;
    let Some(OutgoingEvent::Request { request, early }) = soon("the UPDATE", call.next()).await else {
        panic!("no UPDATE")
    };
    assert_eq!(agree(request), Method::Update);
    let update = early.request(Method::Update, Headers::new(), Some(Body::sdp(SDP)));
    assert_eq!(soon("the 2xx", update).await.unwrap().status, StatusCode::OK);
    answered(&mut call).await.0.hangup(Headers::new()).await.unwrap();
    finish(run);
}

/// Cell: sipp | session interval refused by us
/// Cell: sipp | session refreshed by the peer
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_keeps_the_session_up() {
    let mut us = Us::plain().await;
    let run = caller(&us, "caller_asks_too_short");
    let mut call = us.take_call().await;
    loop {
        match soon("refreshes and the end", call.next()).await {
            Some(CallEvent::Request(request)) => drop(agree(request)),
            Some(CallEvent::Confirmed(_)) => {}
            Some(CallEvent::Ended(EndReason::Remote { .. })) => break,
            other => panic!("{other:?}"),
        }
    }
    finish(run);
}

/// Cell: sipp | REFER by the peer
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_itself_transferred() {
    let transfer = TransferConfig { refer: true, ..TransferConfig::default() };
    let mut us = Us::with(EngineConfig { transfer, ..EngineConfig::default() }).await;
    let run = caller(&us, "caller_refers");
    let mut call = us.take_call().await;
    let Some(CallEvent::Referred(refer)) = soon("the REFER", call.next()).await else { panic!("no REFER") };
    assert_eq!(refer.target().uri.user(), Some("bob"));
    let report = refer.accept().unwrap();
    report.notify(StatusCode::OK).unwrap();
    until_the_peer_hangs_up(&mut call).await;
    finish(run);
}

/// Cell: sipp | REFER by us
#[tokio::test(flavor = "multi_thread")]
async fn we_transfer_the_peer() {
    let us = Us::plain().await;
    let run = called("called_is_referred");
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    let (call, _) = answered(&mut call).await;
    let mut referral = call.refer(Refer::to("sip:bob@voice.example".parse().unwrap())).unwrap();
    let end = loop {
        match soon("the outcome", referral.next()).await {
            Some(ReferralEvent::Ended(end)) => break end,
            Some(_) => {}
            None => panic!("no end"),
        }
    };
    assert!(matches!(end, ReferralEnd::Reported(outcome) if outcome.status == StatusCode::OK));
    call.hangup(Headers::new()).await.unwrap();
    finish(run);
}

/// Cell: sipp | Replaces by the peer
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_takes_over_the_call_of_another() {
    let transfer = TransferConfig { replaces: true, ..TransferConfig::default() };
    let mut us = Us::with(EngineConfig { transfer, ..EngineConfig::default() }).await;
    let first = caller(&us, "caller_is_hung_up");
    let old = us.take_call().await;
    let id = old.id();
    let dialog = format!("{};to-tag={};from-tag={}", id.call_id(), id.local_tag(), id.remote_tag());
    let second = caller_of(&us, "caller_replaces").key("dialog", dialog).start();
    let invite = us.called().await;
    assert!(invite.replaces().is_some());
    let mut call = invite.accept(Answer::sdp(SDP)).await.unwrap();
    finish(first);
    until_the_peer_hangs_up(&mut call).await;
    finish(second);
}

/// Cell: sipp | Replaces by us
#[tokio::test(flavor = "multi_thread")]
async fn our_call_takes_the_place_of_another() {
    let us = Us::plain().await;
    let run = called_by("called_is_replaced").key("dialog", "one@voice.example;to-tag=a;from-tag=b").start();
    let mut call = invite(uri(run.address(), ""));
    call.headers.push(HeaderName::REPLACES, "one@voice.example;to-tag=a;from-tag=b");
    let mut call = us.call(call).await;
    answered(&mut call).await.0.hangup(Headers::new()).await.unwrap();
    finish(run);
}

/// Cell: sipp | session interval refused by the peer
#[tokio::test(flavor = "multi_thread")]
async fn we_ask_for_a_longer_session_where_the_peer_wants_it() {
    let session = SessionTimers {
        mode: SessionTimerMode::Request,
        interval: Duration::from_secs(90),
        ..SessionTimers::default()
    };
    let us = Us::with(EngineConfig { session, ..EngineConfig::default() }).await;
    let run = called_by("called_asks_longer").key("minimum", 120).start();
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    let (call, answer) = answered(&mut call).await;
    assert_eq!(answer.headers.get(HeaderName::SESSION_EXPIRES).unwrap(), "120;refresher=uac");
    call.hangup(Headers::new()).await.unwrap();
    finish(run);
}

/// Moves the clock of this side on; what falls due is done before the test goes on. The peer's clock stands by.
async fn later(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Half of the interval is 45 s, then 60 s, which this side's clock skips: so the test has a runtime of one thread.
///
/// Cell: sipp | session refreshed by us
#[tokio::test]
async fn we_keep_the_session_up() {
    let session = SessionTimers {
        mode: SessionTimerMode::Request,
        interval: Duration::from_secs(90),
        ..SessionTimers::default()
    };
    let us = Us::with(EngineConfig { session, ..EngineConfig::default() }).await;
    let run = called("called_is_kept_up");
    let mut call = us.call(invite(uri(run.address(), ""))).await;
    let (mut call, _) = answered(&mut call).await;
    for by_reinvite in ["taken", "refused with 422, and then taken"] {
        later(Duration::from_secs(46)).await;
        let event = soon("the refresh", call.next()).await;
        assert!(matches!(event, Some(CallEvent::Refreshed(_))), "{by_reinvite}: {event:?}");
    }
    later(Duration::from_secs(61)).await;
    until_the_peer_hangs_up(&mut call).await;
    finish(run);
}
