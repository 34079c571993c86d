//! Our endpoint and sipp before, after and outside calls, each in either role: how calls come to be or do not, over which
//! paths, Digest, registrations, redirects. `Cell` lines make the matrix of docs/interop.md.

#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::net::Ipv6Addr;
use std::time::Duration;

use iqra_peers::endpoint::{
    SDP, Us, answered, confirmed, ended, hello, invite, refused, request, ringing, soon,
    until_the_peer_hangs_up, uri,
};
use iqra_peers::registrar::{ACCOUNT, Registrar};
use iqra_peers::relay::{Faults, Relay};
use iqra_peers::sipp::{LIMIT, Sipp, called, called_by, caller, caller_of, finish};
use iqra_sip::auth::{Algorithm, Credentials, Keyring, Role};
use iqra_sip::event::{EndReason, Reply};
use iqra_sip::message::header::Expires;
use iqra_sip::net::{Answer, CallPolicy, Endpoint};
use iqra_sip::{EngineConfig, HeaderName, Headers, Hop, Method, StatusCode, Timings, Transport};

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
    assert_eq!(us.ask(hello(uri(run.address(), ""))).await.status, StatusCode::OK);
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
