//! Connections: taken from listeners, opened for messages, and made TLS or WebSocket where that is asked for
//! (RFC 3261 §18, RFC 7118 §5).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

use super::connections::Lane;
use super::shards::ShardId;
use super::shared::Shared;
use super::stream;
use crate::engine::flow::{Flow, Transmit, Transport};

/// How long `accept` pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// A bound listener.
pub(super) struct Acceptor {
    pub(super) transport: Transport,
    pub(super) listener: TcpListener,
}

/// Which side of a connection we are; only handshakes ask.
#[cfg_attr(not(any(feature = "tls", feature = "ws")), allow(dead_code, reason = "plain TCP shakes no hands"))]
#[derive(Debug, Clone)]
pub(super) enum Side {
    /// The peer opened it.
    Server,
    /// We opened it, to a peer of this domain.
    Client(Option<Arc<str>>),
}

/// Whether the features of this build carry a transport.
pub(super) const fn is_built_in(transport: Transport) -> bool {
    match transport {
        Transport::Udp | Transport::Tcp => true,
        Transport::Tls => cfg!(feature = "tls"),
        Transport::Ws => cfg!(feature = "ws"),
        Transport::Wss => cfg!(all(feature = "tls", feature = "ws")),
    }
}

/// Binds a listener. An address whose last connections are still being forgotten can be bound again.
pub(super) fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    // One socket per family, so that an IPv4 peer is not seen as an IPv6 one.
    if addr.is_ipv6() {
        SockRef::from(&socket).set_only_v6(true)?;
    }
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Queues a message on its connection, which is opened where the flow names none.
pub(super) fn send(shared: &Arc<Shared>, mut transmit: Transmit) -> Result<(), Box<Transmit>> {
    while let Some((id, writer)) = shared.streams.writer(&transmit.flow, transmit.name.as_deref()) {
        transmit = match writer.try_send(transmit) {
            Ok(()) => return Ok(()),
            // It has just ended.
            Err(TrySendError::Closed(transmit)) => transmit,
            // A peer that reads so slowly is as good as gone.
            Err(TrySendError::Full(transmit)) => {
                shared.streams.count(|closed| closed.slow_reader += 1);
                shared.streams.close(id);
                return Err(Box::new(transmit));
            }
        };
        shared.streams.close(id);
    }
    let built_in = is_built_in(transmit.flow.transport);
    if transmit.flow.connection.is_some() || shared.stop.is_cancelled() || !built_in {
        return Err(Box::new(transmit));
    }
    let lane = shared.streams.dial(shared, transmit)?;
    shared.tasks.spawn(connect(lane));
    Ok(())
}

/// Opens the connection that the lane's first message asks for, and runs it.
async fn connect(lane: Lane) {
    let Some(Transmit { flow, name, .. }) = lane.first.clone() else { return lane.close() };
    let shared = lane.shared.clone();
    let connected = tokio::select! {
        connected = timeout(shared.config.connect, dial(flow)) => connected,
        () = shared.stop.cancelled() => return lane.close(),
    };
    match connected {
        Ok(Ok(stream)) => run(lane, flow.transport, stream, Side::Client(name)).await,
        Ok(Err(error)) => {
            tracing::debug!(remote = %flow.remote, %error, "no connection");
            lane.close();
        }
        Err(_) => {
            tracing::debug!(remote = %flow.remote, "no connection in time");
            lane.close();
        }
    }
}

/// Leaves from the listener's address, so that the peer sees the one that it may have listed; from any port.
async fn dial(flow: Flow) -> io::Result<TcpStream> {
    let socket = if flow.remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if !flow.local.ip().is_unspecified() && flow.local.is_ipv4() == flow.remote.is_ipv4() {
        socket.bind(SocketAddr::new(flow.local.ip(), 0))?;
    }
    socket.connect(flow.remote).await
}

/// Takes connections.
pub(super) async fn accept(shared: Arc<Shared>, Acceptor { transport, listener }: Acceptor) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => break,
        };
        match accepted {
            Ok((_, remote)) if shared.is_banned(ShardId(0), remote.ip()) => {
                shared.streams.count(|closed| closed.banned += 1);
            }
            Ok((stream, remote)) => match shared.streams.accept(&shared, transport, remote) {
                Some(lane) => {
                    shared.tasks.spawn(run(lane, transport, stream, Side::Server));
                }
                None => tracing::debug!(%remote, "too many connections: closed"),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Runs one connection, from its handshake to its end.
async fn run(mut lane: Lane, transport: Transport, stream: TcpStream, side: Side) {
    // Without it a response waits for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let remote = lane.first.as_ref().map(|first| first.flow.remote);
    if let (Ok(local), Ok(remote)) = (stream.local_addr(), remote.map_or_else(|| stream.peer_addr(), Ok)) {
        let flow = Flow { transport, local, remote, connection: Some(lane.id) };
        lane.flow = Some(flow);
        if let Err(error) = speak(&mut lane, flow, stream, &side).await {
            lane.shared.streams.count(|closed| closed.handshake += 1);
            #[cfg(any(feature = "tls", feature = "ws"))]
            if matches!(side, Side::Server) && is_offence(&error) {
                lane.shared.handshake_failed(&flow);
            }
            match side {
                Side::Server => tracing::debug!(%remote, %error, "{transport} was not agreed on"),
                Side::Client(_) => tracing::warn!(%remote, %error, "{transport} was not agreed on"),
            }
        }
    }
    lane.close();
}

/// What was said in a handshake was wrong. Who only connects, as a load balancer does to see whether we are there, says
/// nothing wrong, and one that is slow may have a bad line.
#[cfg(any(feature = "tls", feature = "ws"))]
fn is_offence(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// Agrees on what the transport asks for, within its time, and carries messages until the connection ends. An error is
/// one of the agreement.
#[cfg_attr(not(any(feature = "tls", feature = "ws")), allow(unused_variables, reason = "nor has it sides"))]
async fn speak(lane: &mut Lane, flow: Flow, stream: TcpStream, side: &Side) -> io::Result<()> {
    match flow.transport {
        #[cfg(feature = "tls")]
        Transport::Tls => {
            let secured = within(lane, super::tls::secure(lane, &flow, stream, side)).await?;
            let (reader, writer) = tokio::io::split(secured);
            stream::run(lane, flow, reader, writer).await;
        }
        #[cfg(feature = "ws")]
        Transport::Ws => {
            let socket = within(lane, super::ws::agree(lane, &flow, stream, side)).await?;
            super::ws::run(lane, flow, socket).await;
        }
        #[cfg(all(feature = "ws", feature = "tls"))]
        Transport::Wss => {
            let agreed = async {
                let secured = super::tls::secure(lane, &flow, stream, side).await?;
                super::ws::agree(lane, &flow, secured, side).await
            };
            let socket = within(lane, agreed).await?;
            super::ws::run(lane, flow, socket).await;
        }
        _ => {
            let (reader, writer) = stream.into_split();
            stream::run(lane, flow, reader, writer).await;
        }
    }
    Ok(())
}

/// Bounds a handshake, and ends it with the endpoint.
#[cfg(any(feature = "tls", feature = "ws"))]
async fn within<T>(lane: &Lane, agreed: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long");
    tokio::select! {
        agreed = timeout(lane.shared.config.handshake, agreed) => agreed.map_err(|_| late())?,
        () = lane.shared.stop.cancelled() => Err(io::Error::other("the endpoint stops")),
    }
}
