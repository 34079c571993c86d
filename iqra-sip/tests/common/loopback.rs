//! Two or more endpoints on sockets of the loopback interface, and calls between them.
#![allow(dead_code)] // Each test binary uses some of it.

use std::time::Duration;

use iqra_sip::event::{Body, CallOptions, OutgoingInvite};
use iqra_sip::message::NameAddr;
use iqra_sip::net::{
    Answer, Builder, Call, CallEvent, Endpoint, Incoming, IncomingInvite, IncomingRequest, NetConfig,
    OutgoingCall, OutgoingEvent,
};
use iqra_sip::{EngineConfig, Headers, Transport, Uri};

pub(crate) const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// Four shards where the tests run as a module of `net_shards`.
pub(crate) async fn bound(builder: Builder) -> (Endpoint, Incoming) {
    let spread = NetConfig { shards: 4, ..NetConfig::default() };
    let builder = if module_path!().contains("net_shards::net::") { builder.net(spread) } else { builder };
    builder.bind().await.unwrap()
}

/// An endpoint of one transport.
pub(crate) async fn end(transport: Transport, config: EngineConfig) -> (Endpoint, Incoming) {
    let builder = match transport {
        Transport::Udp => Endpoint::builder().udp(LOOPBACK),
        _ => Endpoint::builder().tcp(LOOPBACK),
    };
    bound(builder.config(config)).await
}

pub(crate) async fn pair(transport: Transport) -> (Endpoint, Endpoint, Incoming) {
    let (caller, _) = end(transport, EngineConfig::default()).await;
    let (callee, incoming) = end(transport, EngineConfig::default()).await;
    (caller, callee, incoming)
}

pub(crate) fn uri_of(endpoint: &Endpoint, user: &str) -> Uri {
    let listener = endpoint.listeners()[0];
    let uri = Uri::sip(Some(user), listener.addr.ip(), Some(listener.addr.port()));
    if listener.transport == Transport::Tcp { uri.with_param("transport", Some("tcp")) } else { uri }
}

pub(crate) fn call_to(callee: &Endpoint) -> OutgoingInvite {
    OutgoingInvite {
        uri: uri_of(callee, "callee"),
        hops: Vec::new(),
        from: NameAddr::new("sip:caller@example.org".parse().unwrap()),
        to: NameAddr::new(uri_of(callee, "callee")),
        call_id: None,
        cseq: 1,
        headers: Headers::new(),
        body: Some(Body::sdp("v=0\r\n")),
        options: CallOptions::default(),
    }
}

pub(crate) async fn invited(incoming: &mut Incoming) -> IncomingInvite {
    match incoming.next().await {
        Some(IncomingRequest::Invite(invite)) => invite,
        other => panic!("expected an INVITE, got {other:?}"),
    }
}

pub(crate) async fn answered(call: &mut OutgoingCall) -> Call {
    loop {
        match call.next().await {
            Some(OutgoingEvent::Answered(call, _)) => return call,
            Some(OutgoingEvent::Provisional { .. }) => {}
            other => panic!("expected an answer, got {other:?}"),
        }
    }
}

pub(crate) async fn connect(caller: &Endpoint, callee: &Endpoint, incoming: &mut Incoming) -> (Call, Call) {
    let mut outgoing = caller.invite(call_to(callee)).await.unwrap();
    let mut theirs = invited(incoming).await.accept(Answer::sdp("v=0\r\n")).await.unwrap();
    let ours = answered(&mut outgoing).await;
    assert!(matches!(theirs.next().await, Some(CallEvent::Confirmed(_))));
    (ours, theirs)
}

/// Closes them, and nothing is left.
pub(crate) async fn closed(endpoints: impl IntoIterator<Item = Endpoint>) {
    for endpoint in endpoints {
        let witness = endpoint.clone();
        endpoint.shutdown(Duration::from_secs(2)).await;
        assert_eq!(witness.counts(), iqra_sip::net::Counts::default());
    }
}
