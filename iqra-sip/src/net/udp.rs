//! UDP: one message per datagram (RFC 3261 §18).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use socket2::{Domain, Protocol, SockRef, Type};

use super::builder::named;
use super::datagrams::{self, BATCH, Room, Watched};
use super::keep_alive::Heard;
use super::shards::{Shard, ShardId};
use super::shared::{Shared, now};
use super::stun::{self, Stun};
use crate::engine::flow::{Flow, Transmit, Transport, is_bound_for};
use crate::framing::is_keep_alive;

/// A bound socket.
pub(crate) struct Socket {
    pub(super) local: SocketAddr,
    socket: Watched,
}

/// The socket that has an address, best one that has no other.
fn socket_at(shard: &Shard, local: SocketAddr) -> Option<&Socket> {
    let sockets = shard.udp.iter().filter(|socket| is_bound_for(socket.local, local));
    sockets.max_by_key(|socket| socket.local == local)
}

/// Whether what leaves from these addresses leaves by one socket.
pub(super) fn by_one_socket(shard: &Shard, one: SocketAddr, other: SocketAddr) -> bool {
    let socket = |local| socket_at(shard, local).map(|socket| socket.local);
    one == other || socket(one) == socket(other)
}

/// The flow by its socket, whatever address of ours the peer writes to.
pub(super) fn as_bound(shard: &Shard, flow: Flow) -> Flow {
    match socket_at(shard, flow.local) {
        Some(socket) if flow.transport == Transport::Udp => Flow { local: socket.local, ..flow },
        _ => flow,
    }
}

/// Binds a socket for every shard. The first is alone with its address until it has it, so that nobody else's is shared;
/// then the system spreads what comes in over all of them (SO_REUSEPORT), by the addresses of both ends.
pub(super) fn bind_all(addr: SocketAddr, receive_buffer: usize, count: usize) -> io::Result<Vec<Socket>> {
    let first = bind(addr, receive_buffer, false)?;
    let addr = first.local;
    let mut all = vec![first];
    if count > 1 {
        share(all[0].socket.socket()).map_err(|error| named(addr, &error))?;
    }
    for _ in 1..count {
        all.push(bind(addr, receive_buffer, true)?);
    }
    Ok(all)
}

#[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))))]
fn share<'s>(socket: impl Into<SockRef<'s>>) -> io::Result<()> {
    socket.into().set_reuse_port(true)
}

#[cfg(not(all(unix, not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin")))))]
fn share<'s>(_: impl Into<SockRef<'s>>) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "no SO_REUSEPORT here: set shards to 1"))
}

/// Binds a socket with a large receive buffer; less than asked for is accepted.
fn bind(addr: SocketAddr, receive_buffer: usize, shared: bool) -> io::Result<Socket> {
    let bound = || {
        let socket = socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if let Err(error) = socket.set_recv_buffer_size(receive_buffer) {
            tracing::debug!(%addr, %error, "the receive buffer keeps its size");
        }
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if shared {
            share(&socket)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        let socket = std::net::UdpSocket::from(socket);
        if addr.ip().is_unspecified() {
            datagrams::tell_addresses(&socket, addr)?;
        }
        Ok(Socket { local: socket.local_addr()?, socket: Watched::new(socket)? })
    };
    bound().map_err(|error: io::Error| named(addr, &error))
}

/// Reads datagrams in batches and hands each batch to the engine at once.
pub(super) async fn receive(shared: Arc<Shared>, id: ShardId, index: usize) {
    let Some(Socket { local, socket }) = shared.shard(id).udp.get(index) else { return };
    let (mut room, mut batch) = (Room::new(*local), Vec::with_capacity(BATCH));
    let mut unread_since = None;
    loop {
        tokio::select! {
            ready = socket.readable() => if ready.is_err() { break },
            () = shared.stop.cancelled() => break,
        }
        let take = |local, remote, octets: &[u8]| batch.extend(message(&shared, id, local, remote, octets));
        let emptied = datagrams::receive(socket, &mut room, take).unwrap_or_else(|error| {
            tracing::debug!(%local, %error, "a datagram was not received");
            false
        });
        let since = (!emptied).then(|| unread_since.unwrap_or_else(now));
        if since != unread_since {
            unread_since = since;
            shared.note_backlog(id, index, since);
        }
        shared.receive(id, batch.drain(..));
        if !emptied {
            // A ready socket costs nothing of tokio's budget: under a flood nobody else would have a turn.
            tokio::task::yield_now().await;
        }
    }
}

/// A datagram, in a buffer of its own size; nothing for one that only keeps a NAT binding open.
fn message(
    shared: &Shared,
    id: ShardId,
    local: SocketAddr,
    remote: SocketAddr,
    datagram: &[u8],
) -> Option<(Flow, Bytes)> {
    let flow = Flow { transport: Transport::Udp, local, remote, connection: None };
    if stun::looks_like(datagram) {
        take_stun(shared, id, flow, datagram);
        return None;
    }
    (!is_keep_alive(datagram)).then(|| (flow, Bytes::copy_from_slice(datagram)))
}

/// Answers a keep-alive, or hands on the answer to one of ours (RFC 5626 §8).
fn take_stun(shared: &Shared, received_by: ShardId, flow: Flow, datagram: &[u8]) {
    match stun::parse(datagram) {
        Some(Stun::Request(..)) if !shared.admits_keep_alive(received_by, &flow) => {}
        Some(Stun::Request(id, unknown)) => {
            let bytes = stun::answer(id, &unknown, flow.remote).into();
            // One that is lost is asked for again.
            let _ = send(
                shared.shard(received_by),
                Transmit { flow, fallback: None, name: None, bytes, owner: None },
            );
        }
        Some(Stun::Response(id, mapped)) => {
            shared.keepers.tell(&as_bound(shared.shard(received_by), flow), Heard::Stun(id, mapped));
        }
        None => {}
    }
}

/// Sends one datagram.
pub(super) fn send(shard: &Shard, transmit: Transmit) -> Result<(), Box<Transmit>> {
    let sent = socket_at(shard, transmit.flow.local).is_some_and(|Socket { local, socket }| {
        datagrams::send_one(socket.socket(), *local, &transmit).is_ok()
    });
    if sent { Ok(()) } else { Err(Box::new(transmit)) }
}

/// Sends datagrams of the socket that has `local`, as [`datagrams::send`] does; gives back those that did not leave.
pub(super) fn send_all(shard: &Shard, local: SocketAddr, transmits: Vec<Transmit>) -> Vec<Transmit> {
    match socket_at(shard, local) {
        Some(Socket { local, socket }) => datagrams::send(socket.socket(), *local, transmits),
        None => transmits,
    }
}
