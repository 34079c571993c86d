//! Framed messages on a stream, TCP or TLS (RFC 3261 §18.3), with the keep-alives of RFC 5626 §4.4.1.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::connections::Lane;
use super::shared::Shared;
use crate::engine::flow::{Flow, Transmit};
use crate::framing::{Frame, Framer};

/// Room for one read.
const READ: usize = 8_192;
/// Asks for a sign of life (RFC 5626 §4.4.1).
pub(super) const PING: &[u8] = b"\r\n\r\n";
/// What answers a ping.
pub(super) const PONG: &[u8] = b"\r\n";

/// Reads and writes one connection until either fails, or the endpoint stops.
pub(super) async fn run(
    lane: &mut Lane,
    flow: Flow,
    reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
) {
    let (shared, heard) = (lane.shared.clone(), lane.heard.clone());
    tokio::select! {
        () = read(&shared, flow, reader, &heard) => flush(lane, &mut writer).await,
        () = write(lane, &mut writer) => {}
        () = shared.stop.cancelled() => flush(lane, &mut writer).await,
    }
    // Says goodbye where the transport has a word for it.
    let _ = timeout(shared.config.write, writer.shutdown()).await;
}

/// Writes what is queued already, the answer to a broken message for instance.
async fn flush(lane: &mut Lane, writer: &mut (impl AsyncWrite + Unpin)) {
    while let Some(transmit) = lane.queued() {
        if !put(lane, writer, transmit).await {
            return;
        }
    }
}

async fn write(lane: &mut Lane, writer: &mut (impl AsyncWrite + Unpin)) {
    while let Some(transmit) = lane.next().await {
        if !put(lane, writer, transmit).await {
            return;
        }
    }
}

/// Writes one message.
async fn put(lane: &mut Lane, writer: &mut (impl AsyncWrite + Unpin), transmit: Transmit) -> bool {
    let written = async {
        writer.write_all(&transmit.bytes).await?;
        writer.flush().await
    };
    match timeout(lane.shared.config.write, written).await {
        Ok(Ok(())) => {
            lane.wrote(transmit);
            return true;
        }
        Ok(Err(error)) => {
            tracing::debug!(remote = %transmit.flow.remote, %error, "a message was not written");
        }
        Err(_) => lane.shared.streams.count(|closed| closed.slow_reader += 1),
    }
    lane.broke(transmit);
    false
}

/// Reads frames. An idle connection ends after `idle`, a message that trickles in after `partial_message`.
async fn read(shared: &Arc<Shared>, flow: Flow, mut reader: impl AsyncRead + Unpin, heard: &AtomicBool) {
    let (mut buffer, mut framer) = (BytesMut::new(), Framer::new(shared.limits.clone()));
    let mut deadline = Instant::now() + shared.config.idle;
    loop {
        buffer.reserve(READ);
        match timeout_at(deadline, reader.read_buf(&mut buffer)).await {
            Ok(Ok(1..)) => heard.store(true, Ordering::Relaxed),
            Ok(_) => return,
            Err(_) if buffer.is_empty() => return shared.streams.count(|closed| closed.idle += 1),
            Err(_) => return shared.streams.count(|closed| closed.slow_sender += 1),
        }
        let waiting = deadline;
        let Some(frames) = take_frames(shared, flow, &mut framer, &mut buffer) else { return };
        deadline = match (buffer.is_empty(), frames) {
            (true, _) => Instant::now() + shared.config.idle,
            (false, 0) => waiting.min(Instant::now() + shared.config.partial_message),
            (false, _) => Instant::now() + shared.config.partial_message,
        };
    }
}

/// Hands over every whole frame in the buffer and says how many; `None` when the stream cannot be read on.
fn take_frames(
    shared: &Arc<Shared>,
    flow: Flow,
    framer: &mut Framer,
    buffer: &mut BytesMut,
) -> Option<usize> {
    let mut frames = 0;
    loop {
        match framer.next_frame(buffer) {
            Ok(Some(Frame::Message(bytes))) => {
                if !take_message(shared, flow, bytes) {
                    return None;
                }
            }
            Ok(Some(Frame::Ping)) => pong(shared, flow),
            Ok(Some(Frame::Pong)) => shared.keepers.heard(&flow),
            Ok(None) => return Some(frames),
            Err(error) => {
                shared.streams.count(|closed| closed.unframed += 1);
                shared.receive_unframed(&flow, Some(error));
                return None;
            }
        }
        frames += 1;
    }
}

/// One message of a connection; false when its source is banned for it.
pub(super) fn take_message(shared: &Arc<Shared>, flow: Flow, bytes: Bytes) -> bool {
    #[cfg(feature = "tls")]
    super::tls::learn_alias(shared, &flow, &bytes);
    let home = shared.home(&flow);
    shared.receive(home, [(flow, bytes)]);
    let banned = shared.is_banned(home, flow.remote.ip());
    if banned {
        shared.streams.count(|closed| closed.banned += 1);
    }
    !banned
}

/// Answers a ping. A full queue means that the peer gets enough signs of life.
pub(super) fn pong(shared: &Shared, flow: Flow) {
    let bytes = Bytes::from_static(PONG);
    if let Some(id) = flow.connection {
        shared.streams.queue(id, Transmit { flow, fallback: None, name: None, bytes, owner: None });
    }
}
