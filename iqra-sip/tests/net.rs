//! Calls between endpoints on real sockets of the loopback interface: as a test of its own with one shard, and in
//! `net_shards.rs` with several.

#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use iqra_sip::event::{Body, EndReason, Reply};
use iqra_sip::net::{Answer, CallEvent, Endpoint, OutgoingEvent};
use iqra_sip::observe::{Direction, TraceRecord};
use iqra_sip::{Headers, Method, Request, StatusCode, Transport};

#[path = "common/loopback.rs"]
mod loopback;
use loopback::{LOOPBACK, answered, bound, call_to, closed, connect, invited, pair, uri_of};

async fn calls_and_hangs_up(transport: Transport) {
    let (caller, callee, mut incoming) = pair(transport).await;
    let (mut ours, theirs) = connect(&caller, &callee, &mut incoming).await;
    theirs.hangup(Headers::new()).await.unwrap();
    assert!(matches!(ours.next().await, Some(CallEvent::Ended(EndReason::Remote { .. }))));
    assert!(ours.next().await.is_none());
    closed([caller, callee]).await;
    assert!(incoming.next().await.is_none());
}

#[tokio::test]
async fn a_call_over_udp_is_answered_and_hung_up() {
    calls_and_hangs_up(Transport::Udp).await;
}

#[tokio::test]
async fn on_a_good_network_nothing_is_sent_twice() {
    let sent: Arc<Mutex<Vec<TraceRecord>>> = Arc::default();
    let sink = sent.clone();
    let trace = Arc::new(move |record: &TraceRecord| sink.lock().unwrap().push(record.clone()));
    let (caller, _) = bound(Endpoint::builder().udp(LOOPBACK)).await;
    let (callee, mut incoming) = bound(Endpoint::builder().udp(LOOPBACK).trace(trace)).await;
    let (ours, mut theirs) = connect(&caller, &callee, &mut incoming).await;
    ours.hangup(Headers::new()).await.unwrap();
    assert!(matches!(theirs.next().await, Some(CallEvent::Ended(_))));
    closed([caller, callee]).await;
    assert_eq!(sent.lock().unwrap().len(), 5, "INVITE, 200, ACK, BYE, 200");
}

#[tokio::test]
async fn a_call_over_tcp_is_answered_and_hung_up() {
    calls_and_hangs_up(Transport::Tcp).await;
}

#[tokio::test]
async fn a_redirect_comes_back_with_its_contact() {
    let (caller, callee, mut incoming) = pair(Transport::Udp).await;
    let mut outgoing = caller.invite(call_to(&callee)).await.unwrap();
    let contact = "<sip:callee@192.0.2.9;x-callqueue-id=abc>";
    let reply = Reply::new(StatusCode::MOVED_TEMPORARILY).header(iqra_sip::HeaderName::CONTACT, contact);
    invited(&mut incoming).await.reject(reply);
    let Some(OutgoingEvent::Redirected(response)) = outgoing.next().await else { panic!("not redirected") };
    assert_eq!(response.headers.get(iqra_sip::HeaderName::CONTACT).unwrap(), contact);
    assert!(outgoing.next().await.is_none());
    closed([caller, callee]).await;
}

#[tokio::test]
async fn a_cancelled_call_ends_on_both_sides() {
    let (caller, callee, mut incoming) = pair(Transport::Udp).await;
    let mut outgoing = caller.invite(call_to(&callee)).await.unwrap();
    let mut invite = invited(&mut incoming).await;
    invite.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
    assert!(matches!(outgoing.next().await, Some(OutgoingEvent::Provisional { .. })));
    outgoing.cancel(Headers::new()).await;
    invite.cancelled().await;
    let Some(OutgoingEvent::Failed(response)) = outgoing.next().await else { panic!("not failed") };
    assert_eq!(response.status, StatusCode::REQUEST_TERMINATED);
    assert!(invite.accept(Answer::default()).await.is_err());
    closed([caller, callee]).await;
}

#[tokio::test]
async fn a_dropped_invite_is_rejected_and_a_dropped_call_is_hung_up() {
    let (caller, callee, mut incoming) = pair(Transport::Udp).await;
    let mut outgoing = caller.invite(call_to(&callee)).await.unwrap();
    drop(invited(&mut incoming).await);
    let Some(OutgoingEvent::Failed(response)) = outgoing.next().await else { panic!("not failed") };
    assert_eq!(response.status, StatusCode::SERVER_INTERNAL_ERROR);
    let (ours, mut theirs) = connect(&caller, &callee, &mut incoming).await;
    drop(ours);
    assert!(matches!(theirs.next().await, Some(CallEvent::Ended(EndReason::Remote { .. }))));
    closed([caller, callee]).await;
}

#[tokio::test]
async fn requests_inside_a_call_are_answered() {
    let (caller, callee, mut incoming) = pair(Transport::Udp).await;
    let (ours, mut theirs) = connect(&caller, &callee, &mut incoming).await;
    let answering = async {
        let Some(CallEvent::Request(request)) = theirs.next().await else { panic!("no request") };
        assert_eq!(request.request().method, Method::Invite);
        request.respond(Reply { body: Some(Body::sdp("v=0\r\n")), ..Reply::new(StatusCode::OK) }).unwrap();
    };
    let asking = ours.request(Method::Invite, Headers::new(), Some(Body::sdp("v=0\r\n")));
    let (response, ()) = tokio::join!(asking, answering);
    assert_eq!(response.unwrap().status, StatusCode::OK);
    ours.handle().hangup(Headers::new()).unwrap();
    assert!(matches!(theirs.next().await, Some(CallEvent::Ended(_))));
    closed([caller, callee]).await;
}

#[tokio::test]
async fn the_offer_of_a_reinvite_without_one_is_answered_in_the_ack() {
    let (caller, callee, mut incoming) = pair(Transport::Udp).await;
    let (ours, mut theirs) = connect(&caller, &callee, &mut incoming).await;
    let answering = async {
        let Some(CallEvent::Request(request)) = theirs.next().await else { panic!("no request") };
        request.respond(Reply { body: Some(Body::sdp("v=0\r\n")), ..Reply::new(StatusCode::OK) }).unwrap();
    };
    let (response, ()) = tokio::join!(ours.request(Method::Invite, Headers::new(), None), answering);
    assert_eq!(&*response.unwrap().body, b"v=0\r\n");
    ours.acknowledge(&Headers::new(), Some(Body::sdp("v=0\r\na=answer\r\n"))).unwrap();
    let Some(CallEvent::Confirmed(ack)) = theirs.next().await else { panic!("no ACK") };
    assert_eq!(&*ack.body, b"v=0\r\na=answer\r\n");
    ours.hangup(Headers::new()).await.unwrap();
    assert!(matches!(theirs.next().await, Some(CallEvent::Ended(_))));
    closed([caller, callee]).await;
}

#[tokio::test]
async fn options_outside_a_call_are_answered_even_by_a_program_that_ignores_them() {
    let (caller, callee, mut incoming) = pair(Transport::Tcp).await;
    let ignoring = async { while incoming.next().await.is_some() {} };
    let mut request = Request::new(Method::Options, uri_of(&callee, "ping"));
    request.headers.push(iqra_sip::HeaderName::FROM, "<sip:caller@example.org>");
    let response = tokio::select! {
        response = caller.request(request, None) => response.unwrap(),
        () = ignoring => panic!("the endpoint closed"),
    };
    assert_eq!(response.status, StatusCode::OK);
    assert!(response.headers.contains(iqra_sip::HeaderName::ALLOW));
    closed([caller, callee]).await;
}

/// The program hears of the answer on another thread than the one that sends the ACK.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_that_is_hung_up_at_once_is_acknowledged_before() {
    let sent: Arc<Mutex<Vec<TraceRecord>>> = Arc::default();
    let trace = Arc::clone(&sent);
    let builder = Endpoint::builder().udp(LOOPBACK).trace(Arc::new(move |record: &TraceRecord| {
        trace.lock().unwrap().push(record.clone());
    }));
    let (caller, _) = bound(builder).await;
    let (callee, mut incoming) = bound(Endpoint::builder().udp(LOOPBACK)).await;
    for _ in 0..300 {
        let mut outgoing = caller.invite(call_to(&callee)).await.unwrap();
        let theirs = invited(&mut incoming).await.accept(Answer::default()).await.unwrap();
        answered(&mut outgoing).await.hangup(Headers::new()).await.unwrap();
        drop(theirs);
    }
    let mut acknowledged = HashSet::new();
    for record in sent.lock().unwrap().iter().filter(|record| record.direction == Direction::Out) {
        let text = String::from_utf8_lossy(&record.bytes);
        let call = text.lines().find(|line| line.starts_with("Call-ID:")).unwrap().to_owned();
        assert!(!text.starts_with("BYE ") || acknowledged.contains(&call), "BYE before ACK");
        if text.starts_with("ACK ") {
            acknowledged.insert(call);
        }
    }
    assert_eq!(acknowledged.len(), 300);
    closed([caller, callee]).await;
}
