//! A proxy on sockets: callers' Routes, requests other than INVITE, and phones that only their own connection reaches
//! (RFC 3261 §16, RFC 5626 §5.3).
#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

#[path = "common/loopback.rs"]
mod loopback;
#[cfg(all(feature = "tls", feature = "ws"))]
#[path = "common/pki.rs"]
mod pki;

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
        assert!(matches!(theirs.next().await, Some(CallEvent::Ended(_))));
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

#[cfg(all(feature = "tls", feature = "ws"))]
mod by_flow {
    use std::time::Duration;

    use iqra_sip::Flow;
    use iqra_sip::message::NameAddr;
    use iqra_sip::net::{OutgoingEvent, TlsConfig, TlsSettings};
    use iqra_sip::roles::relay::AttemptFailure;
    use pki::Pki;

    use super::*;

    const CONTACT: &str = "sip:phone@df7jal23ls0d.invalid;transport=ws";
    const NAMES: &[&str] = &["sip.example.org", "127.0.0.1"];

    /// A phone that shows no certificate and can be dialled by nobody, and the flow of its registration.
    async fn registered(
        pki: &Pki,
        server: &Endpoint,
        incoming: &mut Incoming,
        transport: Transport,
    ) -> (Endpoint, Incoming, Flow) {
        let settings = TlsSettings { identities: Vec::new(), ..pki.settings("phone", &["unused.example"]) };
        let tls = TlsConfig::load(settings).unwrap();
        let (phone, calls) = bound(Endpoint::builder().udp(LOOPBACK).tls_config(tls)).await;
        let listener = server.listeners().iter().find(|one| one.transport == transport).unwrap();
        let hop = Hop::from((transport, listener.addr)).named("sip.example.org");
        let endpoint = phone.clone();
        let sent = tokio::spawn(async move {
            let mut register = request(Method::Register, "sip:sip.example.org");
            register.headers.push(HeaderName::CONTACT, format!("<{CONTACT}>"));
            endpoint.request(register, Some(hop)).await
        });
        let register = asked(incoming).await;
        let flow = *register.source();
        assert!(server.proven_names(&flow).is_empty(), "it has shown nothing");
        register.respond(Reply::new(StatusCode::OK));
        assert_eq!(sent.await.unwrap().unwrap().status, StatusCode::OK);
        (phone, calls, flow)
    }

    fn call(hops: Vec<Hop>) -> OutgoingInvite {
        OutgoingInvite {
            uri: CONTACT.parse().unwrap(),
            hops,
            from: NameAddr::new("sip:desk@example.org".parse().unwrap()),
            to: NameAddr::new(CONTACT.parse().unwrap()),
            call_id: None,
            cseq: 1,
            headers: Headers::new(),
            body: None,
            options: iqra_sip::event::CallOptions::default(),
        }
    }

    fn answer() -> Answer {
        let mut answer = Answer::sdp("v=0\r\n");
        answer.headers.push(HeaderName::CONTACT, format!("<{CONTACT}>"));
        answer
    }

    /// The phone leaves, and the server has seen it go.
    async fn gone(phone: Endpoint, server: &Endpoint) {
        closed([phone]).await;
        let seen = async {
            while server.counts().connections > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap();
    }

    #[tokio::test]
    async fn a_client_without_a_certificate_is_called_by_the_connection_it_registered_over() {
        let pki = Pki::new();
        for transport in [Transport::Tls, Transport::Wss] {
            let builder = match transport {
                Transport::Tls => Endpoint::builder().tls(LOOPBACK),
                _ => Endpoint::builder().wss(LOOPBACK),
            };
            let (server, mut incoming) = bound(builder.tls_config(pki.config("server", NAMES))).await;
            let (phone, mut calls, flow) = registered(&pki, &server, &mut incoming, transport).await;
            for caller_ends in [true, false] {
                let mut placed = server.invite(call(vec![flow.into()])).await.unwrap();
                let mut theirs = invited(&mut calls).await.accept(answer()).await.unwrap();
                let mut ours = answered(&mut placed).await;
                assert!(matches!(theirs.next().await, Some(CallEvent::Confirmed(_))));
                let (ends, hears) = if caller_ends { (ours, &mut theirs) } else { (theirs, &mut ours) };
                ends.hangup(Headers::new()).await.unwrap();
                assert!(matches!(hears.next().await, Some(CallEvent::Ended(_))));
            }
            let options = server.request(request(Method::Options, CONTACT), Some(flow.into()));
            let (options, _) = tokio::join!(options, async { drop(asked(&mut calls).await) });
            assert_eq!(options.unwrap().status, StatusCode::OK);
            assert_eq!((server.counts().connections, phone.counts().connections), (1, 1), "by the one");
            // Its address alone is not enough: whoever is there has proven nothing.
            let mut placed = server.invite(call(vec![(transport, flow.remote).into()])).await.unwrap();
            assert!(matches!(placed.next().await, Some(OutgoingEvent::TransportError)));
            gone(phone, &server).await;
            let mut placed = server.invite(call(vec![flow.into()])).await.unwrap();
            assert!(matches!(placed.next().await, Some(OutgoingEvent::TransportError)));
            let options = server.request(request(Method::Options, CONTACT), Some(flow.into())).await;
            assert!(matches!(options, Err(iqra_sip::net::Error::Transport)), "{options:?}");
            closed([server]).await;
        }
    }

    #[tokio::test]
    async fn a_call_is_relayed_down_the_connection_a_phone_registered_over() {
        let pki = Pki::new();
        let builder = Endpoint::builder().udp(LOOPBACK).wss(LOOPBACK).tls_config(pki.config("server", NAMES));
        let (proxy, mut incoming) = bound(proxying(builder)).await;
        let (phone, mut calls, flow) = registered(&pki, &proxy, &mut incoming, Transport::Wss).await;
        let (caller, _) = end(Transport::Udp, EngineConfig::default()).await;
        let target =
            || Target { uri: Some(CONTACT.parse().unwrap()), hops: vec![flow.into()], ..Target::default() };
        for caller_ends in [true, false] {
            let mut placed = caller.invite(call_to(&proxy)).await.unwrap();
            let mut relayed = invited(&mut incoming).await.relay(Plan::new([target()])).await.unwrap();
            let mut theirs = invited(&mut calls).await.accept(answer()).await.unwrap();
            let mut ours = answered(&mut placed).await;
            assert!(matches!(outcome(&mut relayed).await, RelayEvent::Answered(_)));
            assert!(matches!(theirs.next().await, Some(CallEvent::Confirmed(_))), "the ACK finds its way");
            let (ends, hears) = if caller_ends { (ours, &mut theirs) } else { (theirs, &mut ours) };
            ends.hangup(Headers::new()).await.unwrap();
            assert!(matches!(hears.next().await, Some(CallEvent::Ended(_))));
        }
        gone(phone, &proxy).await;
        let mut placed = caller.invite(call_to(&proxy)).await.unwrap();
        let mut relayed = invited(&mut incoming).await.relay(Plan::new([target()])).await.unwrap();
        let failure = loop {
            match relayed.next().await {
                Some(RelayEvent::NextTarget { failure, target: None, .. }) => break failure,
                Some(RelayEvent::Trying { .. }) => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(matches!(failure, AttemptFailure::FlowGone), "{failure:?}");
        relayed.best().unwrap();
        match placed.next().await {
            Some(OutgoingEvent::Failed(response)) => assert_eq!(response.status, StatusCode::FLOW_FAILED),
            other => panic!("{other:?}"),
        }
        drop(relayed);
        closed([caller, proxy]).await;
    }
}
