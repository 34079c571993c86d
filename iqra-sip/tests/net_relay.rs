//! A proxy on sockets: callers' Routes, and requests other than INVITE (RFC 3261 §16).
#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

#[path = "common/loopback.rs"]
mod loopback;

use std::sync::Arc;

use iqra_sip::event::{OutgoingInvite, Reply};
use iqra_sip::net::{
    Answer, Builder, CallEvent, Endpoint, FixedResolver, Incoming, IncomingOther, IncomingRequest, Relayed,
};
use iqra_sip::roles::relay::{Plan, RelayConfig, RelayEvent, RelayKeys, Target};
use iqra_sip::{EngineConfig, HeaderName, Headers, Hop, Method, Request, StatusCode, Transport};
use loopback::{LOOPBACK, answered, bound, call_to, closed, end, invited, uri_of};

fn proxying(builder: Builder) -> Builder {
    let relay = RelayConfig::new("a", RelayKeys::new([[7; 32]]).unwrap());
    builder.config(EngineConfig { relay: Some(relay), ..EngineConfig::default() })
}

fn hop(endpoint: &Endpoint) -> Hop {
    let listener = endpoint.listeners()[0];
    (listener.transport, listener.addr).into()
}

async fn asked(incoming: &mut Incoming) -> IncomingOther {
    match incoming.next().await {
        Some(IncomingRequest::Other(other)) => other,
        other => panic!("{other:?}"),
    }
}

fn request(method: Method, uri: &str) -> Request {
    let mut request = Request::new(method, uri.parse().unwrap());
    request.headers.push(HeaderName::FROM, "<sip:caller@example.org>");
    request
}

/// The last event of what is relayed, which is not told of another target.
async fn outcome(relayed: &mut Relayed) -> RelayEvent {
    let mut last = None;
    while let Some(event) = relayed.next().await {
        assert!(!matches!(event, RelayEvent::NextTarget { .. }), "{event:?}");
        last = Some(event);
    }
    last.unwrap()
}

/// By an outbound proxy's own address, by a name of its own that it was not told of, and by a stranger's.
#[tokio::test]
async fn a_target_by_name_is_reached_whatever_route_the_caller_gives() {
    let resolver = FixedResolver::default()
        .address("proxy.example", [127, 0, 0, 1])
        .address("backend.example", [127, 0, 0, 1]);
    let builder = proxying(Endpoint::builder().udp(LOOPBACK)).resolver(Arc::new(resolver));
    let (proxy, mut calls) = bound(builder).await;
    let (backend, mut taken) = end(Transport::Udp, EngineConfig::default()).await;
    let (stranger, mut lured) = end(Transport::Udp, EngineConfig::default()).await;
    let (caller, _) = end(Transport::Udp, EngineConfig::default()).await;
    let port = |endpoint: &Endpoint| endpoint.listeners()[0].addr.port();
    let target = format!("sip:desk@backend.example:{}", port(&backend));
    for route in [
        format!("<sip:127.0.0.1:{};lr>", port(&proxy)),
        format!("<sip:proxy.example:{};lr>", port(&proxy)),
        format!("<sip:127.0.0.1:{};lr>", port(&stranger)),
    ] {
        let mut call = OutgoingInvite { hops: vec![hop(&proxy)], ..call_to(&proxy) };
        call.headers.push(HeaderName::ROUTE, route);
        let mut placed = caller.invite(call).await.unwrap();
        let target = Target { uri: Some(target.parse().unwrap()), ..Target::default() };
        let mut relayed = invited(&mut calls).await.relay(Plan::new([target])).await.unwrap();
        let invite = invited(&mut taken).await;
        assert!(!invite.request().headers.contains(HeaderName::ROUTE));
        let mut theirs = invite.accept(Answer::sdp("v=0\r\n")).await.unwrap();
        let ours = answered(&mut placed).await;
        assert!(matches!(outcome(&mut relayed).await, RelayEvent::Answered(_)));
        assert!(matches!(theirs.next().await, Some(CallEvent::Confirmed(_))));
        ours.hangup(Headers::new()).await.unwrap();
        assert!(theirs.next().await.is_none());
    }
    closed([caller, proxy, backend, stranger]).await;
    assert!(lured.next().await.is_none(), "nothing came to the stranger");
}

#[tokio::test]
async fn a_message_is_relayed_and_its_answer_comes_back() {
    let (proxy, mut incoming) = bound(proxying(Endpoint::builder().udp(LOOPBACK))).await;
    let (backend, mut taken) = end(Transport::Udp, EngineConfig::default()).await;
    let (caller, _) = end(Transport::Udp, EngineConfig::default()).await;
    for status in [StatusCode::OK, StatusCode::NOT_FOUND] {
        let (endpoint, way) = (caller.clone(), hop(&proxy));
        let sent = tokio::spawn(async move {
            endpoint.request(request(Method::Message, "sip:desk@voice.example"), Some(way)).await
        });
        let target = Target { uri: Some(uri_of(&backend, "desk")), ..Target::default() };
        let mut relayed = asked(&mut incoming).await.relay(Plan::new([target])).await.unwrap();
        let there = asked(&mut taken).await;
        assert_eq!((&there.request().method, there.request().uri.user()), (&Method::Message, Some("desk")));
        there.respond(Reply::new(status));
        assert_eq!(sent.await.unwrap().unwrap().status, status);
        let last = outcome(&mut relayed).await;
        assert_eq!(matches!(last, RelayEvent::Answered(_)), status.is_success(), "{last:?}");
    }
    let (endpoint, way) = (caller.clone(), hop(&proxy));
    let sent = tokio::spawn(async move {
        endpoint.request(request(Method::Message, "sip:desk@voice.example"), Some(way)).await
    });
    assert!(asked(&mut incoming).await.relay(Plan::new([])).await.is_err());
    assert_eq!(sent.await.unwrap().unwrap().status, StatusCode::SERVER_INTERNAL_ERROR);
    closed([caller, proxy, backend]).await;
}
