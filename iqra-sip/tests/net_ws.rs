//! WebSocket on real sockets: what a browser sends, what it must not send, and signs of life.
#![cfg(feature = "ws")]
#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

#[cfg(feature = "tls")]
#[path = "common/pki.rs"]
mod pki;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use iqra_sip::event::Reply;
use iqra_sip::net::{Answer, CallEvent, Endpoint, Incoming, IncomingRequest, NetConfig};
use iqra_sip::{HeaderName, Headers, Hop, Method, Request, StatusCode, Transport};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

async fn bound(net: NetConfig) -> (Endpoint, Incoming) {
    Endpoint::builder().ws(LOOPBACK).net(net).bind().await.unwrap()
}

/// A server that answers OPTIONS.
async fn server(net: NetConfig) -> Endpoint {
    let (endpoint, mut incoming) = bound(net).await;
    tokio::spawn(async move { while incoming.next().await.is_some() {} });
    endpoint
}

/// A browser's connection, with these headers in its handshake.
async fn browser(
    to: &Endpoint,
    headers: &[(&'static str, &str)],
) -> Result<WebSocketStream<TcpStream>, Error> {
    let addr = to.listeners()[0].addr;
    let mut request = format!("ws://{addr}/").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(addr).await.unwrap();
    client_async(request, stream).await.map(|(socket, _)| socket)
}

async fn phone(to: &Endpoint) -> WebSocketStream<TcpStream> {
    browser(to, &[("sec-websocket-protocol", "sip")]).await.unwrap()
}

fn message(method: &str, call: &str) -> String {
    format!(
        "{method} sip:callee@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK{call};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@example.org>;tag=f1\r\nTo: <sip:callee@127.0.0.1>\r\n\
         Call-ID: {call}\r\nCSeq: 1 {method}\r\nContact: <sip:caller@df7jal23ls0d.invalid;transport=ws>\r\n\r\n"
    )
}

/// The next SIP message that comes.
async fn reply(phone: &mut WebSocketStream<TcpStream>) -> String {
    loop {
        match phone.next().await.unwrap().unwrap() {
            Message::Text(text) => return text.to_string(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn text_and_binary_messages_are_answered_and_content_length_is_not_needed() {
    let server = server(NetConfig::default()).await;
    let mut phone = phone(&server).await;
    phone.send(Message::text(message("OPTIONS", "one"))).await.unwrap();
    let answer = reply(&mut phone).await;
    assert!(answer.starts_with("SIP/2.0 200") && answer.contains(";received=127.0.0.1"), "{answer}");
    phone.send(Message::binary(message("OPTIONS", "two").into_bytes())).await.unwrap();
    assert!(reply(&mut phone).await.contains("Call-ID: two"));
}

#[tokio::test]
async fn a_call_of_a_browser_is_hung_up_by_its_own_connection() {
    let (endpoint, mut incoming) = bound(NetConfig::default()).await;
    let mut phone = phone(&endpoint).await;
    phone.send(Message::text(message("INVITE", "call"))).await.unwrap();
    let Some(IncomingRequest::Invite(invite)) = incoming.next().await else { panic!("no INVITE") };
    let mut call = invite.accept(Answer::default()).await.unwrap();
    let accepted = reply(&mut phone).await;
    assert!(accepted.starts_with("SIP/2.0 200") && accepted.contains(";transport=ws>"), "{accepted}");
    let tag = accepted.lines().find(|line| line.starts_with("To:")).unwrap().split("tag=").nth(1).unwrap();
    let ack = message("ACK", "call")
        .replace("<sip:callee@127.0.0.1>\r\nCall", &format!("<sip:callee@127.0.0.1>;tag={tag}\r\nCall"));
    phone.send(Message::text(ack.replace("branch=z9hG4bKcall", "branch=z9hG4bKack"))).await.unwrap();
    assert!(matches!(call.next().await, Some(CallEvent::Confirmed(_))));
    call.hangup(Headers::new()).await.unwrap();
    let bye = reply(&mut phone).await;
    assert!(bye.starts_with("BYE sip:caller@df7jal23ls0d.invalid"), "{bye}");
    assert!(bye.contains("Via: SIP/2.0/WS 127.0.0.1:"), "{bye}");
}

#[tokio::test]
async fn a_client_without_the_subprotocol_and_a_page_of_another_origin_are_refused() {
    let net = NetConfig { origins: vec!["https://phone.example.org".into()], ..NetConfig::default() };
    let server = server(net).await;
    let status = |refused: Result<_, Error>| match refused {
        Err(Error::Http(response)) => response.status().as_u16(),
        _ => 0,
    };
    assert_eq!(status(browser(&server, &[]).await), 400);
    let sip = ("sec-websocket-protocol", "sip");
    assert_eq!(status(browser(&server, &[sip, ("origin", "https://evil.example.net")]).await), 403);
    assert!(browser(&server, &[sip, ("origin", "https://phone.example.org")]).await.is_ok());
    assert!(browser(&server, &[sip]).await.is_ok(), "not a page");
    assert_eq!(server.closed().handshake, 2);
}

#[tokio::test]
async fn a_message_above_the_limit_closes_its_connection() {
    let server = server(NetConfig::default()).await;
    let mut phone = phone(&server).await;
    let long = message("OPTIONS", "long") + &"x".repeat(70_000);
    phone.send(Message::text(long)).await.unwrap();
    while let Some(Ok(message)) = phone.next().await {
        assert!(message.is_close(), "{message:?}");
    }
    assert_eq!(server.closed().unframed, 1);
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_given_up_when_it_does_not_answer() {
    let net = NetConfig { websocket_ping: Duration::from_millis(30), ..NetConfig::default() };
    let server = server(net).await;
    let mut lively = phone(&server).await;
    for _ in 0..4 {
        assert!(lively.next().await.unwrap().unwrap().is_ping()); // reading it answers it
    }
    let _deaf = phone(&server).await;
    while server.closed().idle == 0 {
        lively.next().await.unwrap().unwrap();
    }
    assert_eq!(server.counts().connections, 1);
}

#[tokio::test]
async fn line_breaks_are_a_keep_alive_too() {
    let server = server(NetConfig::default()).await;
    let mut phone = phone(&server).await;
    phone.send(Message::text("\r\n\r\n")).await.unwrap();
    assert_eq!(reply(&mut phone).await, "\r\n");
}

#[tokio::test]
async fn pongs_and_line_breaks_keep_a_connection_open_beyond_the_time_of_an_idle_one() {
    let idle = Duration::from_millis(400);
    let net = NetConfig { idle, websocket_ping: Duration::from_millis(150), ..NetConfig::default() };
    let server = server(net).await;
    let mut answering = phone(&server).await;
    for _ in 0..4 {
        assert!(answering.next().await.unwrap().unwrap().is_ping()); // reading it answers it
    }
    let net = NetConfig { idle, ..NetConfig::default() };
    let server = self::server(net).await;
    let (mut breaking, mut pace) = (phone(&server).await, tokio::time::interval(idle / 4));
    for _ in 0..8 {
        pace.tick().await;
        breaking.send(Message::text("\r\n\r\n")).await.unwrap();
        assert_eq!(reply(&mut breaking).await, "\r\n");
    }
    assert_eq!(server.closed().idle, 0);
    while breaking.next().await.is_some_and(|came| came.is_ok()) {}
    assert_eq!(server.closed().idle, 1, "silence ends it");
}

#[tokio::test]
async fn a_message_whose_fragments_trickle_in_closes_its_connection_for_all_its_pongs() {
    let net = NetConfig { partial_message: Duration::from_millis(200), ..NetConfig::default() };
    let server = server(net).await;
    let mut phone = phone(&server).await;
    let part = |opcode| Message::Frame(Frame::message("OPTIONS sip:", OpCode::Data(opcode), false));
    phone.send(part(Data::Text)).await.unwrap();
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let trickle = async {
        loop {
            tokio::select! {
                came = phone.next() => match came {
                    Some(Ok(_)) => {}
                    _ => break,
                },
                _ = pace.tick() => {
                    // Its connection may be gone.
                    let _ = phone.send(Message::Pong(bytes::Bytes::new())).await;
                    let _ = phone.send(part(Data::Continue)).await;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), trickle).await.unwrap();
    assert_eq!(server.closed().slow_sender, 1);
}

async fn asks_options(client: &Endpoint, hop: Hop, uri: &str) -> StatusCode {
    let mut request = Request::new(Method::Options, uri.parse().unwrap());
    request.headers.push(HeaderName::FROM, "<sip:a@example.org>");
    client.request(request, Some(hop)).await.unwrap().status
}

#[tokio::test]
async fn an_endpoint_connects_to_a_server_too() {
    let server = server(NetConfig::default()).await;
    let (client, _incoming) = bound(NetConfig::default()).await;
    let hop = Hop::from((Transport::Ws, server.listeners()[0].addr));
    assert_eq!(asks_options(&client, hop, "sip:sip.example.org").await, StatusCode::OK);
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_sips_request_goes_by_secure_websocket() {
    let pki = pki::Pki::new();
    let names = &["sip.example.org"];
    let builder = || Endpoint::builder().wss(LOOPBACK);
    let (server, mut incoming) = builder().tls_config(pki.config("server", names)).bind().await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = incoming.next().await {
            if let IncomingRequest::Other(other) = request {
                other.respond(Reply::new(StatusCode::ACCEPTED));
            }
        }
    });
    let (client, _incoming) = builder().tls_config(pki.config("client", names)).bind().await.unwrap();
    let hop = Hop::from((Transport::Wss, server.listeners()[0].addr)).named("sip.example.org");
    let status = asks_options(&client, hop, "sips:sip.example.org;transport=ws").await;
    assert_eq!(status, StatusCode::ACCEPTED);
}
