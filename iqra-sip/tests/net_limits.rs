//! How large a message may be, on every transport: what an endpoint is told, it holds to.
#![cfg(feature = "ws")]
#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use iqra_sip::guard::{GuardConfig, Rate};
use iqra_sip::message::Limits;
use iqra_sip::net::{Endpoint, NetConfig};
use iqra_sip::{EngineConfig, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A server of all transports that answers OPTIONS.
async fn server(config: EngineConfig, net: NetConfig) -> Endpoint {
    let builder = Endpoint::builder().udp(LOOPBACK).tcp(LOOPBACK).ws(LOOPBACK);
    let (endpoint, mut incoming) = builder.config(config).net(net).bind().await.unwrap();
    tokio::spawn(async move { while incoming.next().await.is_some() {} });
    endpoint
}

fn limited(change: impl FnOnce(&mut Limits)) -> EngineConfig {
    let mut config = EngineConfig::default();
    change(&mut config.limits);
    config
}

/// With so many headers more than it needs and so long a body.
fn options(transport: &str, tag: &str, more: usize, body: usize) -> String {
    let (headers, length, body) = ("X-More: x\r\n".repeat(more), body, "x".repeat(body));
    format!(
        "OPTIONS sip:callee@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/{transport} 127.0.0.1:9;branch=z9hG4bK{transport}{more}-{length};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@example.org>;tag=f1\r\n{headers}To: <sip:callee@127.0.0.1>{tag}\r\n\
         Call-ID: limits{transport}{more}-{length}\r\nCSeq: 1 OPTIONS\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn addr(endpoint: &Endpoint, transport: Transport) -> std::net::SocketAddr {
    endpoint.listeners().iter().find(|listener| listener.transport == transport).unwrap().addr
}

async fn by_udp(to: &Endpoint, message: &str) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(message.as_bytes(), addr(to, Transport::Udp)).await.unwrap();
    let mut answer = [0; 2_048];
    let length = in_time(socket.recv(&mut answer)).await.unwrap();
    status(&answer[..length])
}

async fn by_tcp(to: &Endpoint, message: &str) -> String {
    let mut stream = TcpStream::connect(addr(to, Transport::Tcp)).await.unwrap();
    stream.write_all(message.as_bytes()).await.unwrap();
    let mut answer = [0; 2_048];
    let length = in_time(stream.read(&mut answer)).await.unwrap();
    status(&answer[..length])
}

/// The status of the answer; none where the connection was closed.
async fn by_ws(to: &Endpoint, message: &str) -> Option<String> {
    let addr = addr(to, Transport::Ws);
    let mut request = format!("ws://{addr}/").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "sip".parse().unwrap());
    let (mut socket, _) = client_async(request, TcpStream::connect(addr).await.unwrap()).await.unwrap();
    socket.send(Message::text(message)).await.unwrap();
    match in_time(socket.next()).await? {
        Ok(Message::Text(text)) => Some(status(text.as_bytes())),
        _ => None,
    }
}

async fn in_time<T>(answer: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), answer).await.expect("an answer")
}

fn status(answer: &[u8]) -> String {
    String::from_utf8_lossy(&answer[8..11]).into_owned()
}

#[tokio::test]
async fn a_message_longer_than_an_endpoint_allows_is_refused_on_every_transport() {
    let server = server(limited(|limits| limits.message_bytes = 1_000), NetConfig::default()).await;
    assert_eq!(by_udp(&server, &options("UDP", "", 0, 9)).await, "200");
    assert_eq!(by_udp(&server, &options("UDP", "", 0, 900)).await, "513");
    assert_eq!(by_tcp(&server, &options("TCP", "", 0, 9)).await, "200");
    assert_eq!(by_tcp(&server, &options("TCP", "", 0, 900)).await, "513");
    assert_eq!(by_ws(&server, &options("WS", "", 0, 9)).await.as_deref(), Some("200"));
    assert_eq!(by_ws(&server, &options("WS", "", 0, 900)).await, None);
    assert_eq!(server.closed().unframed, 2, "of TCP and WebSocket");
}

#[tokio::test]
async fn more_headers_than_an_endpoint_allows_are_refused_on_every_transport() {
    let server = server(limited(|limits| limits.headers = 10), NetConfig::default()).await;
    assert_eq!(by_udp(&server, &options("UDP", "", 10, 0)).await, "400");
    assert_eq!(by_tcp(&server, &options("TCP", "", 10, 0)).await, "400");
    assert_eq!(by_ws(&server, &options("WS", "", 10, 0)).await.as_deref(), Some("400"));
}

/// By the parser, the framer, the shards, which go by the Call-ID, and the guard, to which each of these is one new
/// request, since they name no dialog of ours: it has three to give, and six would be asked for if it did not see the tag.
#[tokio::test]
async fn what_an_endpoint_allows_above_the_default_is_taken_by_all_of_its_parts() {
    let three = Rate { per_second: 1, burst: 3 };
    let guard = Some(GuardConfig { new_requests: three, ..GuardConfig::default() });
    let limits = limited(|limits| (limits.headers, limits.message_bytes) = (400, 100_000)).limits;
    let config = EngineConfig { guard, limits, ..EngineConfig::default() };
    let server = server(config, NetConfig { shards: 4, ..NetConfig::default() }).await;
    let request = |transport, body| options(transport, ";tag=t1", 350, body);
    assert_eq!(by_udp(&server, &request("UDP", 0)).await, "481");
    assert_eq!(by_tcp(&server, &request("TCP", 80_000)).await, "481");
    assert_eq!(by_ws(&server, &request("WS", 80_000)).await.as_deref(), Some("481"));
}
