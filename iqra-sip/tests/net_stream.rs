//! A raw TCP peer against an endpoint: framing, keep-alives and the bounds of connections.

#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use iqra_sip::event::Reply;
use iqra_sip::guard::{GuardConfig, Rate};
use iqra_sip::net::{Endpoint, Incoming, IncomingRequest, NetConfig};
use iqra_sip::observe::capsule::{Capsule, CapsuleConfig};
use iqra_sip::observe::{DropReason, TraceRecord, ladder};
use iqra_sip::{EngineConfig, HeaderName, Hop, Method, Request, StatusCode, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

async fn endpoint(net: NetConfig) -> (Endpoint, Incoming, TcpStream) {
    let (endpoint, incoming) = Endpoint::builder().tcp(LOOPBACK).net(net).bind().await.unwrap();
    let stream = TcpStream::connect(endpoint.listeners()[0].addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    (endpoint, incoming, stream)
}

fn message(method: &str, call: &str) -> String {
    format!(
        "{method} sip:callee@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK{method}{call}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@example.org>;tag=f1\r\nTo: <sip:callee@127.0.0.1>\r\n\
         Call-ID: {call}\r\nCSeq: 1 {method}\r\nContact: <sip:caller@127.0.0.1:9;transport=tcp>\r\n\
         Proxy-Authorization: Digest response=\"secret\"\r\nContent-Length: 4\r\n\r\nbody"
    )
}

async fn reply(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

/// Answers every request but INVITE by dropping it.
async fn serve(mut incoming: Incoming) {
    while let Some(request) = incoming.next().await {
        if let IncomingRequest::Invite(invite) = request {
            invite.reject(
                Reply::new(StatusCode::MOVED_TEMPORARILY).header(HeaderName::CONTACT, "<sip:a@127.0.0.9>"),
            );
        }
    }
}

#[tokio::test]
async fn messages_cut_anywhere_are_put_together_again() {
    let (endpoint, incoming, mut stream) = endpoint(NetConfig::default()).await;
    let serving = tokio::spawn(serve(incoming));
    let both = message("OPTIONS", "one") + &message("INVITE", "two");
    for (first, second) in both.as_bytes().chunks(7).map(|chunk| chunk.split_at(chunk.len() / 2)) {
        stream.write_all(first).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(second).await.unwrap();
    }
    assert!(reply(&mut stream).await.starts_with("SIP/2.0 200"));
    assert!(reply(&mut stream).await.starts_with("SIP/2.0 302"));
    endpoint.shutdown(Duration::ZERO).await;
    serving.await.unwrap();
}

#[tokio::test]
async fn two_messages_in_one_write_and_a_ping_are_each_answered() {
    let (endpoint, incoming, mut stream) = endpoint(NetConfig::default()).await;
    let serving = tokio::spawn(serve(incoming));
    let both = message("OPTIONS", "one") + &message("OPTIONS", "two");
    stream.write_all(both.as_bytes()).await.unwrap();
    assert!(reply(&mut stream).await.contains("Call-ID: one"));
    assert!(reply(&mut stream).await.contains("Call-ID: two"));
    stream.write_all(b"\r\n\r\n").await.unwrap();
    assert_eq!((stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap()), (b'\r', b'\n'));
    endpoint.shutdown(Duration::ZERO).await;
    serving.await.unwrap();
}

#[tokio::test]
async fn a_stream_that_cannot_be_framed_is_answered_and_closed() {
    let (endpoint, _incoming, mut stream) = endpoint(NetConfig::default()).await;
    let lying =
        message("INVITE", "one").replace("Content-Length: 4", "Content-Length: 4\r\nContent-Length: 9");
    stream.write_all(lying.as_bytes()).await.unwrap();
    assert!(reply(&mut stream).await.starts_with("SIP/2.0 400"));
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
    endpoint.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_message_that_trickles_in_too_slowly_closes_its_connection() {
    let net = NetConfig { partial_message: Duration::from_millis(50), ..NetConfig::default() };
    let (endpoint, _incoming, mut stream) = endpoint(net).await;
    stream.write_all(b"INVITE sip:").await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
    endpoint.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn connections_above_the_limit_are_closed() {
    let net = NetConfig { max_connections: 1, ..NetConfig::default() };
    let (endpoint, incoming, mut first) = endpoint(net).await;
    let serving = tokio::spawn(serve(incoming));
    first.write_all(message("OPTIONS", "one").as_bytes()).await.unwrap();
    assert!(reply(&mut first).await.starts_with("SIP/2.0 200"));
    let mut second = TcpStream::connect(endpoint.listeners()[0].addr).await.unwrap();
    assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
    assert_eq!(endpoint.counts().connections, 1);
    endpoint.shutdown(Duration::ZERO).await;
    serving.await.unwrap();
}

/// A connection of a peer that is up: it was answered.
async fn answered(endpoint: &Endpoint) -> TcpStream {
    let mut stream = TcpStream::connect(endpoint.listeners()[0].addr).await.unwrap();
    stream.write_all(message("OPTIONS", "up").as_bytes()).await.unwrap();
    assert!(reply(&mut stream).await.starts_with("SIP/2.0 200"));
    stream
}

async fn assert_closed(endpoint: &Endpoint) {
    let mut stream = TcpStream::connect(endpoint.listeners()[0].addr).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
}

#[tokio::test]
async fn peers_cannot_take_the_connections_that_are_kept_for_ours() {
    let net = NetConfig { max_connections: 8, ..NetConfig::default() };
    let (endpoint, incoming) = Endpoint::builder().tcp(LOOPBACK).net(net).bind().await.unwrap();
    let serving = tokio::spawn(serve(incoming));
    let mut peers = Vec::new();
    for _ in 0..7 {
        peers.push(answered(&endpoint).await);
    }
    assert_closed(&endpoint).await;
    assert_eq!(endpoint.closed().too_many, 1);
    let callee = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hop = Hop::from((Transport::Tcp, callee.local_addr().unwrap()));
    let mut request = Request::new(Method::Options, "sip:callee@127.0.0.1".parse().unwrap());
    request.headers.push(HeaderName::FROM, "<sip:a@example.org>");
    tokio::select! {
        called = callee.accept() => drop(called.unwrap()),
        refused = endpoint.request(request, Some(hop)) => panic!("{refused:?}"),
    }
    endpoint.shutdown(Duration::ZERO).await;
    serving.await.unwrap();
}

/// Long requests, which may go by UDP only where TCP does not reach the peer (RFC 3261 §18.1.1).
#[tokio::test]
async fn what_a_broken_connection_had_not_written_goes_by_a_new_one() {
    const LONG: usize = 1 << 20;
    let (endpoint, incoming) = Endpoint::builder().tcp(LOOPBACK).udp(LOOPBACK).bind().await.unwrap();
    let callee = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hop = Hop::from((Transport::Tcp, callee.local_addr().unwrap()));
    let mut request = Request::new(Method::Options, "sip:callee@127.0.0.1".parse().unwrap());
    request.headers.push(HeaderName::FROM, "<sip:a@example.org>");
    request.body = vec![b'x'; LONG].into();
    for _ in 0..16 {
        let (endpoint, request, hop) = (endpoint.clone(), request.clone(), hop.clone());
        tokio::spawn(async move { endpoint.request(request, Some(hop)).await });
    }
    let (mut first, _) = callee.accept().await.unwrap();
    // All of them wait by now, and the sockets hold no more than a few.
    first.read_exact(&mut vec![0; LONG]).await.unwrap();
    drop(first);
    let again = tokio::time::timeout(Duration::from_secs(10), callee.accept());
    let (mut second, _) = again.await.expect("a new connection").unwrap();
    let mut start = [0; 8];
    second.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"OPTIONS ");
    drop((second, callee, incoming));
    endpoint.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_network_of_ipv6_sources_has_a_limit_and_its_connections_give_it_back() {
    let net = NetConfig { max_connections_per_wide_source: 2, ..NetConfig::default() };
    let builder = Endpoint::builder().tcp((std::net::Ipv6Addr::LOCALHOST, 0)).net(net.clone());
    let (endpoint, incoming) = builder.bind().await.unwrap();
    let serving = tokio::spawn(serve(incoming));
    let (first, _second) = (answered(&endpoint).await, answered(&endpoint).await);
    assert_closed(&endpoint).await;
    assert_eq!(endpoint.closed().too_many_from_source, 1);
    drop(first);
    while endpoint.counts().connections > 1 {
        tokio::task::yield_now().await;
    }
    answered(&endpoint).await;
    endpoint.shutdown(Duration::ZERO).await;
    serving.await.unwrap();
    let (endpoint, incoming) = Endpoint::builder().tcp(LOOPBACK).net(net).bind().await.unwrap();
    tokio::spawn(serve(incoming));
    let _ipv4 = [answered(&endpoint).await, answered(&endpoint).await, answered(&endpoint).await];
}

#[tokio::test]
async fn a_trace_holds_both_directions_and_no_credentials() {
    let records: Arc<Mutex<Vec<TraceRecord>>> = Arc::default();
    let sink = records.clone();
    let trace = Arc::new(move |record: &TraceRecord| sink.lock().unwrap().push(record.clone()));
    let (endpoint, incoming) = Endpoint::builder().tcp(LOOPBACK).trace(trace).bind().await.unwrap();
    let serving = tokio::spawn(serve(incoming));
    let mut stream = TcpStream::connect(endpoint.listeners()[0].addr).await.unwrap();
    stream.write_all(message("INVITE", "traced").as_bytes()).await.unwrap();
    reply(&mut stream).await;
    endpoint.shutdown(Duration::ZERO).await;
    serving.await.unwrap();
    let records = records.lock().unwrap();
    assert!(!records.iter().any(|record| record.bytes.windows(6).any(|part| part == b"secret")));
    let ladder = ladder::draw(&records, "traced", ladder::Style::default());
    assert_eq!(ladder.lines().count(), 3, "{ladder}");
    assert!(ladder.contains("302 Moved Temporarily (INVITE)"), "{ladder}");
}

#[tokio::test]
async fn an_endpoint_without_handles_closes_its_sockets() {
    let (endpoint, incoming, mut stream) = endpoint(NetConfig::default()).await;
    drop((endpoint, incoming));
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
}

#[tokio::test]
async fn an_address_that_nobody_can_reach_is_refused_with_the_remedy() {
    let error = Endpoint::builder().udp(([0, 0, 0, 0], 0)).bind().await.err().unwrap();
    assert!(error.to_string().contains("advertise"), "{error}");
    assert!(Endpoint::builder().bind().await.is_err());
}

#[tokio::test]
async fn bounds_of_zero_leave_a_working_endpoint() {
    let none = NetConfig { incoming_queue: 0, write_queue: 0, ..NetConfig::default() };
    let (_endpoint, incoming, mut stream) = endpoint(none).await;
    tokio::spawn(serve(incoming));
    stream.write_all(message("OPTIONS", "one").as_bytes()).await.unwrap();
    assert!(reply(&mut stream).await.starts_with("SIP/2.0 200"));
}

#[tokio::test]
async fn a_banned_source_loses_its_connections_and_gets_no_new_one() {
    let (endpoint, incoming, mut stream) = endpoint(NetConfig::default()).await;
    let serving = tokio::spawn(serve(incoming));
    let banned = std::net::IpAddr::from([127, 0, 0, 1]);
    endpoint.set_guard(Some(GuardConfig::default()));
    stream.write_all(message("OPTIONS", "one").as_bytes()).await.unwrap();
    assert!(reply(&mut stream).await.starts_with("SIP/2.0 200"));
    let now = tokio::time::Instant::now().into_std();
    endpoint.with_guard(|guard| guard.ban(now, banned, Duration::from_secs(60))).unwrap();
    stream.write_all(message("OPTIONS", "two").as_bytes()).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed without an answer");
    let mut second = TcpStream::connect(endpoint.listeners()[0].addr).await.unwrap();
    assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed at once");
    assert_eq!(endpoint.dropped().of(DropReason::Banned), 1);
    assert_eq!(endpoint.closed().banned, 2, "one closed, one refused");
    endpoint.with_guard(|guard| guard.unban(banned)).unwrap();
    let mut third = TcpStream::connect(endpoint.listeners()[0].addr).await.unwrap();
    third.write_all(message("OPTIONS", "three").as_bytes()).await.unwrap();
    assert!(reply(&mut third).await.starts_with("SIP/2.0 200"));
    endpoint.shutdown(Duration::ZERO).await;
    serving.await.unwrap();
}

#[tokio::test]
async fn a_source_whose_streams_carry_no_messages_is_banned() {
    let (endpoint, incoming, mut stream) = endpoint(NetConfig::default()).await;
    let serving = tokio::spawn(serve(incoming));
    let offences = Rate { per_second: 1, burst: 2 };
    endpoint.set_guard(Some(GuardConfig { offences, ..GuardConfig::default() }));
    for _ in 0..3 {
        // Some scanner's HTTP, which may be answered 400 before the connection ends.
        stream.write_all(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        stream = TcpStream::connect(endpoint.listeners()[0].addr).await.unwrap();
    }
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed at once");
    assert_eq!(endpoint.dropped().of(DropReason::Unframed), 3);
    assert_eq!(endpoint.with_guard(|guard| guard.bans(std::time::Instant::now()).count()), Some(1));
    endpoint.shutdown(Duration::ZERO).await;
    serving.await.unwrap();
}

#[tokio::test]
async fn the_capsule_of_a_call_is_taken_from_a_running_endpoint_and_replays() {
    let builder = Endpoint::builder().tcp(LOOPBACK).capsules(CapsuleConfig::default());
    let (endpoint, incoming) = builder.bind().await.unwrap();
    let serving = tokio::spawn(serve(incoming));
    let mut streams = Vec::new();
    for call in 0..20 {
        let mut stream = TcpStream::connect(endpoint.listeners()[0].addr).await.unwrap();
        stream.write_all(message("INVITE", &format!("call-{call}")).as_bytes()).await.unwrap();
        streams.push(stream);
    }
    for stream in &mut streams {
        assert!(reply(stream).await.starts_with("SIP/2.0 302"));
    }
    assert_eq!(endpoint.capsules().len(), 20);
    let capsule = endpoint.capsule("call-7").unwrap();
    capsule.replay(&EngineConfig::default()).unwrap();
    let text = capsule.to_string();
    assert!(text.contains(" sent TCP ") && !text.contains("secret") && !text.contains("call-8"), "{text}");
    let altered = Capsule::parse(&text.replacen("SIP/2.0 302", "SIP/2.0 303", 1)).unwrap();
    assert!(altered.replay(&EngineConfig::default()).is_err());
    endpoint.shutdown(Duration::ZERO).await;
    serving.await.unwrap();
}
