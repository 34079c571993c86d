//! UDP: one message per datagram (RFC 3261 §18).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::net::UdpSocket;

use super::builder::named;
use super::keep_alive::Heard;
use super::shared::{Shared, now};
use super::stun::{self, Stun};
use crate::engine::flow::{Flow, Transmit, Transport};
use crate::framing::is_keep_alive;

/// Most datagrams that one wake-up reads, so that one socket does not starve the other tasks.
const BATCH: usize = 64;
/// The largest datagram.
const MAX_DATAGRAM: usize = 65_536;

/// A bound socket.
pub(crate) struct Socket {
    pub(super) local: SocketAddr,
    socket: UdpSocket,
}

/// Binds a socket with a large receive buffer; less than asked for is accepted.
pub(super) fn bind(addr: SocketAddr, receive_buffer: usize) -> io::Result<Socket> {
    let bound = || {
        let socket = socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if let Err(error) = socket.set_recv_buffer_size(receive_buffer) {
            tracing::debug!(%addr, %error, "the receive buffer keeps its size");
        }
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Socket { local: socket.local_addr()?, socket })
    };
    bound().map_err(|error: io::Error| named(addr, &error))
}

/// Reads datagrams in batches and hands each batch to the engine at once.
pub(super) async fn receive(shared: Arc<Shared>, index: usize) {
    let Some(Socket { local, socket }) = shared.udp.get(index) else { return };
    let mut buffer = vec![0; MAX_DATAGRAM];
    let mut batch = Vec::with_capacity(BATCH);
    let mut unread_since = None;
    loop {
        tokio::select! {
            ready = socket.readable() => if ready.is_err() { break },
            () = shared.stop.cancelled() => break,
        }
        let mut emptied = false;
        for _ in 0..BATCH {
            match socket.try_recv_from(&mut buffer) {
                Ok((length, remote)) => batch.extend(message(&shared, *local, remote, &buffer[..length])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    emptied = true;
                    break;
                }
                Err(error) => tracing::debug!(%local, %error, "a datagram was not received"),
            }
        }
        let since = (!emptied).then(|| unread_since.unwrap_or_else(now));
        if since != unread_since {
            unread_since = since;
            shared.note_backlog(index, since);
        }
        shared.receive(batch.drain(..));
        if !emptied {
            // A ready socket costs nothing of tokio's budget: under a flood nobody else would have a turn.
            tokio::task::yield_now().await;
        }
    }
}

/// A datagram, in a buffer of its own size; nothing for one that only keeps a NAT binding open.
fn message(shared: &Shared, local: SocketAddr, remote: SocketAddr, datagram: &[u8]) -> Option<(Flow, Bytes)> {
    let flow = Flow { transport: Transport::Udp, local, remote, connection: None };
    if stun::looks_like(datagram) {
        take_stun(shared, flow, datagram);
        return None;
    }
    (!is_keep_alive(datagram)).then(|| (flow, Bytes::copy_from_slice(datagram)))
}

/// Answers a keep-alive, or hands on the answer to one of ours (RFC 5626 §8).
fn take_stun(shared: &Shared, flow: Flow, datagram: &[u8]) {
    match stun::parse(datagram) {
        Some(Stun::Request(..)) if !shared.admits_keep_alive(&flow) => {}
        Some(Stun::Request(id, unknown)) => {
            let bytes = stun::answer(id, &unknown, flow.remote).into();
            // One that is lost is asked for again.
            let _ = send(shared, Transmit { flow, fallback: None, name: None, bytes, owner: None });
        }
        Some(Stun::Response(id, mapped)) => shared.keepers.tell(&flow, Heard::Stun(id, mapped)),
        None => {}
    }
}

/// Sends a datagram. A full socket buffer loses it as the network might; the timers repeat it. The system is asked
/// directly: tokio takes a socket for full until its reactor has first seen it writable, which would lose the first
/// message of every endpoint.
pub(super) fn send(shared: &Shared, transmit: Transmit) -> Result<(), Box<Transmit>> {
    let Some(Socket { socket, .. }) = shared.udp.iter().find(|socket| socket.local == transmit.flow.local)
    else {
        return Err(Box::new(transmit));
    };
    match SockRef::from(socket).send_to(&transmit.bytes, &transmit.flow.remote.into()) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
            tracing::debug!(remote = %transmit.flow.remote, %error, "a datagram was not sent");
            Err(Box::new(transmit))
        }
        _ => Ok(()),
    }
}
