//! WebSocket on connections (RFC 7118): the `sip` subprotocol, one SIP message per WebSocket message, pings.
//!
//! Mostly browsers connect to us; the client role is there for tests and gateways. A message goes out as text where it
//! is UTF-8, else as binary (RFC 7118 §5.2.4).

mod frames;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::Request as ClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes, client::IntoClientRequest};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config, client_async_with_config};

use self::frames::Timed;
use super::connections::Lane;
use super::shared::Shared;
use super::stream;
use super::tcp::Side;
use crate::engine::flow::{Flow, Transmit};
use crate::framing::is_keep_alive;

/// The subprotocol of RFC 7118 §4.
const SUBPROTOCOL: &str = "sip";

/// The WebSocket handshake, in either role.
#[allow(clippy::result_large_err)] // The handshake's own type.
pub(super) async fn agree<S>(
    lane: &Lane,
    flow: &Flow,
    stream: S,
    side: &Side,
) -> io::Result<WebSocketStream<Timed<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = Timed::new(stream, lane.shared.config.partial_message);
    let limit = lane.shared.limits.message_bytes;
    let config = WebSocketConfig::default()
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit))
        .read_buffer_size(8_192);
    match side {
        Side::Server => {
            let origins = lane.shared.config.origins.clone();
            let admit = move |request: &Request, response| admit(&origins, request, response);
            accept_hdr_async_with_config(stream, admit, Some(config)).await.map_err(not_agreed)
        }
        Side::Client(name) => {
            let request = request(flow, name.as_deref()).map_err(io::Error::other)?;
            let (socket, response) =
                client_async_with_config(request, stream, Some(config)).await.map_err(io::Error::other)?;
            match speaks_sip(response.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL)) {
                true => Ok(socket),
                false => Err(io::Error::other("the server did not take the subprotocol sip")),
            }
        }
    }
}

/// Tells apart who spoke no WebSocket from who went away, and from a browser on a page that is not allowed.
fn not_agreed(error: Error) -> io::Error {
    let kind = match &error {
        Error::Io(error) => error.kind(),
        Error::ConnectionClosed | Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            io::ErrorKind::UnexpectedEof
        }
        Error::Http(response) if response.status() == StatusCode::FORBIDDEN => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}

fn request(flow: &Flow, name: Option<&str>) -> Result<ClientRequest, Error> {
    let scheme = if flow.transport.is_secure() { "wss" } else { "ws" };
    let host = name.map_or_else(|| flow.remote.to_string(), |name| format!("{name}:{}", flow.remote.port()));
    let mut request = format!("{scheme}://{host}/").into_client_request()?;
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(request)
}

/// Takes a client that speaks `sip` (RFC 7118 §4) and whose page, where it names one, is allowed (RFC 6455 §10.2).
#[allow(clippy::result_large_err)] // The handshake's own type.
fn admit(origins: &[String], request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let refuse = |status, why: &str| {
        let mut refusal = ErrorResponse::new(Some(String::from(why)));
        *refusal.status_mut() = status;
        refusal
    };
    if !speaks_sip(request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL)) {
        return Err(refuse(StatusCode::BAD_REQUEST, "ask for the subprotocol sip"));
    }
    let origin = request.headers().get(header::ORIGIN).map(HeaderValue::as_bytes);
    let allowed = |origin: &[u8]| origins.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(origin));
    if !origins.is_empty() && origin.is_some_and(|origin| !allowed(origin)) {
        return Err(refuse(StatusCode::FORBIDDEN, "this origin is not allowed"));
    }
    let headers = response.headers_mut();
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(response)
}

fn speaks_sip<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> bool {
    let words = values.into_iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    words.into_iter().any(|word| word.trim().eq_ignore_ascii_case(SUBPROTOCOL))
}

/// Reads and writes one connection until either fails, or the endpoint stops.
pub(super) async fn run<S>(lane: &mut Lane, flow: Flow, mut socket: WebSocketStream<Timed<S>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shared = lane.shared.clone();
    let mut life = Life::new(&shared, Instant::now());
    loop {
        let goes_on = tokio::select! {
            came = socket.next() => match came {
                Some(Ok(message)) => {
                    lane.heard.store(true, Ordering::Relaxed);
                    life.heard(Instant::now());
                    take(&shared, flow, message)
                }
                Some(Err(_)) if socket.get_ref().is_late() => {
                    return shared.streams.count(|closed| closed.slow_sender += 1);
                }
                Some(Err(error)) => return failed(&shared, &flow, &error),
                None => return,
            },
            next = lane.next() => match next {
                Some(transmit) => put(lane, &mut socket, transmit).await,
                None => false,
            },
            () = sleep_until(life.deadline()) => match life.pings(Instant::now()) {
                true => write(&shared, &mut socket, Message::Ping(Bytes::new())).await,
                false => {
                    shared.streams.count(|closed| closed.idle += 1);
                    false
                }
            },
            () = shared.stop.cancelled() => false,
        };
        if !goes_on {
            break;
        }
    }
    while let Some(transmit) = lane.queued() {
        if !put(lane, &mut socket, transmit).await {
            return;
        }
    }
    let _ = timeout(shared.config.write, socket.close(None)).await;
}

/// When a connection is pinged and when it is given up: a ping after `websocket_ping` without a sign of life, the end
/// after another one, or after `idle`. Whatever comes is such a sign: messages, line breaks, pings and their answers.
struct Life {
    every: Duration,
    idle: Duration,
    heard: Instant,
    pinged: Option<Instant>,
}

impl Life {
    fn new(shared: &Shared, now: Instant) -> Self {
        let (every, idle) = (shared.config.websocket_ping, shared.config.idle);
        Self { every, idle, heard: now, pinged: None }
    }

    fn heard(&mut self, now: Instant) {
        (self.heard, self.pinged) = (now, None);
    }

    fn deadline(&self) -> Instant {
        (self.pinged.unwrap_or(self.heard) + self.every).min(self.heard + self.idle)
    }

    /// Whether a ping is due at this deadline; else it is the end.
    fn pings(&mut self, now: Instant) -> bool {
        let alive = self.pinged.is_none() && now < self.heard + self.idle;
        self.pinged = Some(now);
        alive
    }
}

/// Takes what came; false at the end of the connection.
fn take(shared: &Arc<Shared>, flow: Flow, message: Message) -> bool {
    let bytes = match message {
        Message::Text(text) => Bytes::from(text),
        Message::Binary(bytes) => bytes,
        Message::Close(_) => return false,
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return true,
    };
    match &bytes[..] {
        stream::PING => stream::pong(shared, flow),
        stream::PONG => shared.keepers.heard(&flow),
        keep_alive if is_keep_alive(keep_alive) => {}
        _ => return stream::take_message(shared, flow, bytes),
    }
    true
}

fn failed(shared: &Arc<Shared>, flow: &Flow, error: &Error) {
    let remote = flow.remote;
    match error {
        // A browser whose page was left says no more.
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            tracing::trace!(%remote, %error, "closed");
        }
        Error::Capacity(_) | Error::Utf8(_) | Error::Protocol(_) => {
            tracing::debug!(%remote, %error, "closed");
            shared.streams.count(|closed| closed.unframed += 1);
            shared.receive_unframed(flow, None);
        }
        error => tracing::trace!(%remote, %error, "closed"),
    }
}

/// Writes one message; what could not be written tries its second way.
async fn put<S>(lane: &mut Lane, socket: &mut WebSocketStream<S>, transmit: Transmit) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let bytes = transmit.bytes.clone();
    let message = match Utf8Bytes::try_from(bytes) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(transmit.bytes.clone()),
    };
    let written = write(&lane.shared, socket, message).await;
    match written {
        true => lane.wrote(transmit),
        false => lane.broke(transmit),
    }
    written
}

async fn write<S>(shared: &Shared, socket: &mut WebSocketStream<S>, message: Message) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(shared.config.write, socket.send(message)).await {
        Ok(written) => written.is_ok(),
        Err(_) => {
            shared.streams.count(|closed| closed.slow_reader += 1);
            false
        }
    }
}
