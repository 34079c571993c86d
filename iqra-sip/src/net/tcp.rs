//! TCP: framed messages on connections that either side opened (RFC 3261 §18, RFC 5626 §4.4.1 for keep-alives).
//!
//! Every connection has a task and a bounded queue of messages to write. What a connection could not write goes back to
//! [`Shared::unsent`], which tries the second way.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::shared::Shared;
use crate::engine::flow::{ConnectionId, Flow, Transmit, Transport};
use crate::framing::{Frame, Framer};
use crate::observe::Direction;

/// How long `accept` pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Room for one read.
const READ: usize = 8_192;

/// All connections, by number and by peer.
#[derive(Default)]
pub(crate) struct Streams(Mutex<Table>);

#[derive(Default)]
struct Table {
    by_id: HashMap<ConnectionId, Connection>,
    by_remote: HashMap<SocketAddr, ConnectionId>,
    last: u64,
}

struct Connection {
    remote: SocketAddr,
    writer: mpsc::Sender<Transmit>,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Enters a connection; `None` when there are too many.
    fn open(&self, shared: &Shared, remote: SocketAddr) -> Option<(ConnectionId, mpsc::Receiver<Transmit>)> {
        let mut table = self.lock();
        if table.by_id.len() >= shared.config.max_connections {
            return None;
        }
        table.last += 1;
        let id = ConnectionId(table.last);
        let (writer, queue) = mpsc::channel(shared.config.write_queue.max(1));
        table.by_id.insert(id, Connection { remote, writer });
        table.by_remote.insert(remote, id);
        Some((id, queue))
    }

    fn close(&self, id: ConnectionId) {
        let mut table = self.lock();
        let remote = table.by_id.remove(&id).map(|connection| connection.remote);
        if let Some(remote) = remote.filter(|remote| table.by_remote.get(remote) == Some(&id)) {
            table.by_remote.remove(&remote);
        }
    }

    /// The writer of the connection that a flow names, or of any to its peer.
    fn writer(&self, flow: &Flow) -> Option<(ConnectionId, mpsc::Sender<Transmit>)> {
        let table = self.lock();
        let id = flow.connection.or_else(|| table.by_remote.get(&flow.remote).copied())?;
        Some((id, table.by_id.get(&id)?.writer.clone()))
    }
}

/// Queues a message on its connection, which is opened where the flow names none.
pub(super) fn send(shared: &Arc<Shared>, transmit: Transmit) -> Result<(), Box<Transmit>> {
    if let Some((id, writer)) = shared.streams.writer(&transmit.flow) {
        return writer.try_send(transmit).map_err(|refused| {
            // A peer that reads so slowly is as good as gone.
            shared.streams.close(id);
            Box::new(refused.into_inner())
        });
    }
    if transmit.flow.connection.is_some() || shared.stop.is_cancelled() {
        return Err(Box::new(transmit));
    }
    let Some((id, queue)) = shared.streams.open(shared, transmit.flow.remote) else {
        return Err(Box::new(transmit));
    };
    shared.tasks.spawn(connect(shared.clone(), id, transmit, queue));
    Ok(())
}

/// Opens a connection and runs it; `first` is what it was opened for.
async fn connect(
    shared: Arc<Shared>,
    id: ConnectionId,
    first: Transmit,
    mut queue: mpsc::Receiver<Transmit>,
) {
    let remote = first.flow.remote;
    let connecting = timeout(shared.config.connect, dial(first.flow));
    let connected = tokio::select! {
        connected = connecting => connected.ok().and_then(Result::ok),
        () = shared.stop.cancelled() => None,
    };
    let Some(stream) = connected else {
        tracing::debug!(%remote, "no connection");
        shared.streams.close(id);
        shared.unsent(first);
        return give_back(&shared, &mut queue);
    };
    run(shared, id, stream, Some(first), queue).await;
}

/// Leaves from the listener's address, so that the peer sees the one that it may have listed; from any port.
async fn dial(flow: Flow) -> std::io::Result<TcpStream> {
    let socket = if flow.remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if !flow.local.ip().is_unspecified() && flow.local.is_ipv4() == flow.remote.is_ipv4() {
        socket.bind(SocketAddr::new(flow.local.ip(), 0))?;
    }
    socket.connect(flow.remote).await
}

/// Takes connections.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => break,
        };
        match accepted {
            Ok((_, remote)) if shared.is_banned(remote.ip()) => {}
            Ok((stream, remote)) => match shared.streams.open(&shared, remote) {
                Some((id, queue)) => {
                    shared.tasks.spawn(run(shared.clone(), id, stream, None, queue));
                }
                None => tracing::warn!(%remote, "too many connections: closed"),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Reads and writes one connection until either fails, or the endpoint stops.
async fn run(
    shared: Arc<Shared>,
    id: ConnectionId,
    stream: TcpStream,
    first: Option<Transmit>,
    mut queue: mpsc::Receiver<Transmit>,
) {
    // Without it a response waits for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    if let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) {
        let flow = Flow { transport: Transport::Tcp, local, remote, connection: Some(id) };
        let (reader, mut writer) = stream.into_split();
        tokio::select! {
            () = read(&shared, flow, reader) => flush(&shared, &mut writer, &mut queue).await,
            () = write(&shared, &mut writer, first, &mut queue) => {}
            () = shared.stop.cancelled() => flush(&shared, &mut writer, &mut queue).await,
        }
    }
    shared.streams.close(id);
    give_back(&shared, &mut queue);
}

/// What was queued and not written tries its second way.
fn give_back(shared: &Arc<Shared>, queue: &mut mpsc::Receiver<Transmit>) {
    queue.close();
    while let Ok(transmit) = queue.try_recv() {
        shared.unsent(transmit);
    }
}

/// Writes what is queued already, the answer to a broken message for instance.
async fn flush(shared: &Arc<Shared>, writer: &mut OwnedWriteHalf, queue: &mut mpsc::Receiver<Transmit>) {
    while let Ok(transmit) = queue.try_recv() {
        if !put(shared, writer, &transmit.bytes).await {
            return shared.unsent(transmit);
        }
    }
}

async fn put(shared: &Shared, writer: &mut OwnedWriteHalf, bytes: &Bytes) -> bool {
    matches!(timeout(shared.config.write, writer.write_all(bytes)).await, Ok(Ok(())))
}

async fn write(
    shared: &Arc<Shared>,
    writer: &mut OwnedWriteHalf,
    first: Option<Transmit>,
    queue: &mut mpsc::Receiver<Transmit>,
) {
    let mut next = first;
    loop {
        let Some(transmit) = (match next.take() {
            Some(transmit) => Some(transmit),
            None => queue.recv().await,
        }) else {
            return;
        };
        if !put(shared, writer, &transmit.bytes).await {
            return shared.unsent(transmit);
        }
    }
}

/// Reads frames. An idle connection ends after `idle`, a message that trickles in after `partial_message`.
async fn read(shared: &Arc<Shared>, flow: Flow, mut reader: OwnedReadHalf) {
    let (mut buffer, mut framer) = (BytesMut::new(), Framer::default());
    let mut deadline = Instant::now() + shared.config.idle;
    loop {
        buffer.reserve(READ);
        match timeout_at(deadline, reader.read_buf(&mut buffer)).await {
            Ok(Ok(1..)) => {}
            _ => return,
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
                shared.record(Direction::In, &flow, &bytes);
                shared.receive([(flow, bytes)]);
                if shared.is_banned(flow.remote.ip()) {
                    return None;
                }
            }
            Ok(Some(Frame::Ping)) => pong(shared, flow),
            Ok(Some(Frame::Pong)) => {}
            Ok(None) => return Some(frames),
            Err(error) => {
                shared.receive_unframed(&flow, error);
                return None;
            }
        }
        frames += 1;
    }
}

fn pong(shared: &Arc<Shared>, flow: Flow) {
    if let Some((_, writer)) = shared.streams.writer(&flow) {
        let pong =
            Transmit { flow, fallback: None, name: None, bytes: Bytes::from_static(b"\r\n"), owner: None };
        // A full queue means that the peer gets enough signs of life.
        let _ = writer.try_send(pong);
    }
}
