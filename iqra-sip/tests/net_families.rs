//! Over sockets of IPv6 loopback, and of both families side by side.

#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

#[cfg(feature = "tls")]
#[path = "common/pki.rs"]
mod pki;

use std::net::SocketAddr;

use iqra_sip::event::{CallOptions, OutgoingInvite};
use iqra_sip::message::NameAddr;
use iqra_sip::net::{Answer, Bind, CallEvent, Endpoint, Incoming, IncomingRequest, OutgoingEvent};
use iqra_sip::{Flow, HeaderName, Headers, Hop, Transport};

fn loopback(v6: bool) -> SocketAddr {
    if v6 { "[::1]:0".parse().unwrap() } else { "127.0.0.1:0".parse().unwrap() }
}

/// A call to this hop that the other end hangs up: between which ends it went, and the Contact of the callee.
async fn called(caller: &Endpoint, incoming: &mut Incoming, hop: Hop, scheme: &str) -> (Flow, String) {
    let to: iqra_sip::Uri = format!("{scheme}:callee@{}", hop.addr).parse().unwrap();
    let from = format!("{scheme}:caller@example.org").parse().unwrap();
    let mut placed = caller
        .invite(OutgoingInvite {
            uri: to.clone(),
            hops: vec![hop],
            from: NameAddr::new(from),
            to: NameAddr::new(to),
            call_id: None,
            cseq: 1,
            headers: Headers::new(),
            body: None,
            options: CallOptions::default(),
        })
        .await
        .unwrap();
    let Some(IncomingRequest::Invite(invite)) = incoming.next().await else { panic!("no INVITE") };
    let mut answered = invite.accept(Answer::default()).await.unwrap();
    let (mut ours, contact) = loop {
        match placed.next().await.unwrap() {
            OutgoingEvent::Answered(call, response) => {
                break (call, response.headers.get(HeaderName::CONTACT).unwrap().into_owned());
            }
            OutgoingEvent::Provisional { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(answered.next().await, Some(CallEvent::Confirmed(_))));
    let flow = *ours.remote_flow().unwrap();
    answered.hangup(Headers::new()).await.unwrap();
    assert!(matches!(ours.next().await, Some(CallEvent::Ended(_))));
    (flow, contact)
}

#[tokio::test]
async fn calls_go_over_udp_and_tcp_of_ipv6() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let bind = || Endpoint::builder().listen(Bind::new(transport, loopback(true))).bind();
        let ((caller, _none), (callee, mut incoming)) = (bind().await.unwrap(), bind().await.unwrap());
        let addr = callee.listeners()[0].addr;
        let (flow, contact) = called(&caller, &mut incoming, (transport, addr).into(), "sip").await;
        assert_eq!((flow.transport, flow.remote), (transport, addr));
        assert!(contact.contains(&format!("@[::1]:{}", addr.port())), "{contact}");
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_call_goes_over_tls_of_ipv6() {
    let pki = pki::Pki::new();
    let names = &["sip.example.org", "::1"];
    let bind = |file: &str| {
        let tls = pki.config(file, names);
        Endpoint::builder().tls(loopback(true)).tls_config(tls).bind()
    };
    let ((caller, _none), (callee, mut incoming)) =
        (bind("caller").await.unwrap(), bind("callee").await.unwrap());
    let addr = callee.listeners()[0].addr;
    let hop = Hop::from((Transport::Tls, addr)).named("sip.example.org");
    let (flow, contact) = called(&caller, &mut incoming, hop, "sips").await;
    assert_eq!((flow.transport, flow.remote), (Transport::Tls, addr));
    assert!(contact.starts_with("<sips:") && contact.contains("@[::1]:"), "{contact}");
}

#[tokio::test]
async fn one_endpoint_takes_calls_of_both_families_on_several_sockets_at_once() {
    let sockets = [
        (Transport::Udp, false),
        (Transport::Udp, true),
        (Transport::Udp, false),
        (Transport::Tcp, false),
        (Transport::Tcp, true),
    ];
    let mut builder = Endpoint::builder();
    for (transport, v6) in sockets {
        builder = builder.listen(Bind::new(transport, loopback(v6)));
    }
    let (callee, mut incoming) = builder.bind().await.unwrap();
    let builder = Endpoint::builder().udp(loopback(false)).udp(loopback(true));
    let (caller, _none) = builder.tcp(loopback(false)).tcp(loopback(true)).bind().await.unwrap();
    assert_eq!(callee.listeners().len(), sockets.len());
    for listener in callee.listeners().to_vec() {
        let hop = (listener.transport, listener.addr).into();
        let (flow, contact) = called(&caller, &mut incoming, hop, "sip").await;
        assert_eq!((flow.transport, flow.remote), (listener.transport, listener.addr));
        assert!(
            contact.contains(&listener.addr.to_string()),
            "{contact} is that of its socket, {listener:?}"
        );
    }
}

#[tokio::test]
async fn each_family_has_an_address_that_it_advertises() {
    let all = ["0.0.0.0:0", "[::]:0"].map(|addr| addr.parse::<SocketAddr>().unwrap());
    let builder = Endpoint::builder().udp(all[0]).tcp(all[0]).tcp(all[1]);
    let builder = builder.advertise("192.0.2.1".parse().unwrap()).advertise("2001:db8::1".parse().unwrap());
    let (endpoint, _none) = builder.advertise("192.0.2.7".parse().unwrap()).bind().await.unwrap();
    for listener in endpoint.listeners() {
        let ip = if listener.addr.is_ipv4() { "192.0.2.7" } else { "2001:db8::1" };
        assert_eq!(listener.advertised, SocketAddr::new(ip.parse().unwrap(), listener.addr.port()));
    }
}

/// A peer whose socket is connected to one address of ours, as a NAT in front of it would be: it hears that one alone.
#[cfg(target_os = "linux")]
struct Peer(tokio::net::UdpSocket);

#[cfg(target_os = "linux")]
impl Peer {
    async fn of(at: SocketAddr) -> Self {
        let any = if at.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
        let socket = tokio::net::UdpSocket::bind(any).await.unwrap();
        socket.connect(at).await.unwrap();
        Self(socket)
    }

    /// A request of one call of its own.
    async fn says(&self, method: &str, branch: &str, to: &str) {
        let us = self.0.local_addr().unwrap();
        let text = format!(
            "{method} sip:callee@example.org SIP/2.0\r\nVia: SIP/2.0/UDP {us};rport;branch=z9hG4bK{branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:peer@example.org>;tag=p\r\nTo: {to}\r\nCall-ID: of-all\r\n\
             CSeq: 1 {method}\r\nContact: <sip:peer@{us}>\r\nContent-Length: 0\r\n\r\n"
        );
        self.0.send(text.as_bytes()).await.unwrap();
    }

    /// The next message that begins so.
    async fn hears(&self, start: &str) -> String {
        let mut buffer = vec![0; 65_536];
        loop {
            let came = tokio::time::timeout(std::time::Duration::from_secs(5), self.0.recv(&mut buffer));
            let length = came.await.expect("an answer from the address that was written to").unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.starts_with(start) {
                return text;
            }
        }
    }
}

/// RFC 3581 §4: from the address and port that the request came to; so do requests of ours inside the call, and answers to
/// keep-alives.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn bound_to_all_addresses_we_speak_from_the_one_that_was_written_to() {
    for (all, at) in [("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "::1")] {
        let all: SocketAddr = all.parse().unwrap();
        let at: std::net::IpAddr = at.parse().unwrap();
        let (endpoint, mut incoming) = Endpoint::builder().udp(all).advertise(at).bind().await.unwrap();
        let peer = Peer::of(SocketAddr::new(at, endpoint.listeners()[0].addr.port())).await;
        peer.0.send(b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl").await.unwrap();
        let mut pong = [0; 64];
        peer.0.recv(&mut pong).await.unwrap();
        assert_eq!(pong[..2], *b"\x01\x01");
        peer.says("INVITE", "1", "<sip:callee@example.org>").await;
        let Some(IncomingRequest::Invite(invite)) = incoming.next().await else { panic!("no INVITE") };
        let mut call = invite.accept(Answer::default()).await.unwrap();
        let answer = peer.hears("SIP/2.0 200").await;
        let to = answer.lines().find_map(|line| line.strip_prefix("To: ")).unwrap();
        peer.says("ACK", "2", to).await;
        assert!(matches!(call.next().await, Some(CallEvent::Confirmed(_))));
        let hangup = tokio::spawn(async move { call.hangup(Headers::new()).await });
        let bye = peer.hears("BYE ").await;
        let head: Vec<&str> = bye.lines().skip(1).filter(|line| !line.starts_with("Max-Forwards")).collect();
        peer.0
            .send(format!("SIP/2.0 200 OK\r\n{}\r\n\r\n", head.join("\r\n").trim_end()).as_bytes())
            .await
            .unwrap();
        hangup.await.unwrap().unwrap();
    }
}
