//! Our endpoint and sipp in a call, each in either role: a scenario of sipp per behaviour, in which whatever is not as the
//! scenario says fails the run. `Cell` lines make the matrix of docs/interop.md.

#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::time::Duration;

use iqra_peers::endpoint::{
    SDP, Us, agree, answered, confirmed, dtmf, invite, requested, ringing, soon, until_the_peer_hangs_up, uri,
};
use iqra_peers::sipp::{called, called_by, caller, caller_of, finish};
use iqra_sip::event::{Body, EndReason, Refer, ReferralEnd, ReferralEvent, Reliability};
use iqra_sip::net::{Answer, CallEvent, OutgoingEvent};
use iqra_sip::{
    EngineConfig, HeaderName, Headers, Method, SessionTimerMode, SessionTimers, StatusCode, TransferConfig,
};

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
