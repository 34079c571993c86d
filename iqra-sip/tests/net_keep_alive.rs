//! Keep-alives on real sockets, in both roles, and listeners side by side.

#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::time::Duration;

use iqra_sip::net::{Bind, Endpoint};
use iqra_sip::{ConnectionId, Flow, HeaderName, Hop, Method, Request, Transport};
use tokio::net::UdpSocket;

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
const OFTEN: Duration = Duration::from_millis(20);

/// Both transports, answering OPTIONS.
async fn endpoint() -> Endpoint {
    let (endpoint, mut incoming) = Endpoint::builder().udp(LOOPBACK).tcp(LOOPBACK).bind().await.unwrap();
    tokio::spawn(async move { while incoming.next().await.is_some() {} });
    endpoint
}

fn udp_flow(from: &Endpoint, to: &Endpoint) -> Flow {
    let (local, remote) = (from.listeners()[0].addr, to.listeners()[0].addr);
    Flow { transport: Transport::Udp, local, remote, connection: None }
}

async fn options(from: &Endpoint, to: &Endpoint, listener: usize) {
    let listener = to.listeners()[listener];
    let mut request = Request::new(Method::Options, "sip:a@example.org".parse().unwrap());
    request.headers.push(HeaderName::FROM, "<sip:b@example.org>");
    from.request(request, Some(Hop::from((listener.transport, listener.addr)))).await.unwrap();
}

#[tokio::test]
async fn a_binding_request_is_answered_with_the_address_it_came_from() {
    let server = endpoint().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let request = b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";
    socket.send_to(request, server.listeners()[0].addr).await.unwrap();
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).await.unwrap();
    assert_eq!((length, &answer[..2], &answer[8..20]), (32, &b"\x01\x01"[..], &b"abcdefghijkl"[..]));
    let port = socket.local_addr().unwrap().port() ^ 0x2112;
    assert_eq!(answer[26..28], port.to_be_bytes());
}

#[tokio::test]
async fn a_flow_fails_when_its_server_goes_and_not_before() {
    let (client, server) = (endpoint().await, endpoint().await);
    options(&client, &server, 1).await;
    let server_tcp = server.listeners()[1].addr;
    let tcp = Flow {
        transport: Transport::Tcp,
        local: client.listeners()[1].addr,
        remote: server_tcp,
        connection: Some(ConnectionId(1)),
    };
    let mut by_tcp = client.keep_alive(tcp, OFTEN).unwrap();
    let mut by_udp = client.keep_alive(udp_flow(&client, &server), OFTEN).unwrap();
    for flow in [&mut by_tcp, &mut by_udp] {
        assert!(tokio::time::timeout(OFTEN * 10, flow.failed()).await.is_err(), "it lives");
    }
    server.shutdown(Duration::ZERO).await;
    by_tcp.failed().await;
    assert_eq!(client.counts().connections, 0);
}

#[tokio::test]
async fn listeners_of_both_families_stand_side_by_side_under_the_addresses_they_advertise() {
    let bind = |transport, addr: &str, public: &str| {
        let addr: std::net::SocketAddr = addr.parse().unwrap();
        Bind::new(transport, addr).advertise(public.parse::<std::net::SocketAddr>().unwrap())
    };
    let (endpoint, _incoming) = Endpoint::builder()
        .listen(bind(Transport::Udp, "127.0.0.1:0", "192.0.2.1:5080"))
        .listen(bind(Transport::Udp, "[::1]:0", "[2001:db8::1]:5080"))
        .listen(bind(Transport::Tcp, "[::1]:0", "[2001:db8::1]:5090"))
        .bind()
        .await
        .unwrap();
    let advertised: Vec<_> = endpoint.listeners().iter().map(|l| l.advertised.to_string()).collect();
    assert_eq!(advertised, ["192.0.2.1:5080", "[2001:db8::1]:5080", "[2001:db8::1]:5090"]);
    let taken = endpoint.listeners()[0].addr;
    let error = Endpoint::builder().udp(taken).bind().await.err().unwrap().to_string();
    assert!(error.contains(&taken.to_string()) && error.contains("another port"), "{error}");
    let unspecified: std::net::SocketAddr = "[::]:0".parse().unwrap();
    let v4 = "192.0.2.1".parse().unwrap();
    let error = Endpoint::builder().udp(unspecified).advertise(v4).bind().await.err().unwrap().to_string();
    assert!(error.contains("of its family"), "{error}");
}
