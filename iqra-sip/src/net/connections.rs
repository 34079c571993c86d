//! The table of stream connections: which one a message takes, whose they are, and how many there may be
//! (RFC 3261 §18.1.1, §18.2.2; reuse by RFC 5923).
//!
//! Every connection has a task and a bounded queue of messages to write. A message that names its connection goes by
//! that; any other goes by a connection to its address, on a secure transport only where the peer has proven the name
//! that the message asks for: one address may have a connection for each of its names. Peers cannot take all places: a
//! source and its network have limits, and some places are kept for the connections that we open.
//!
//! What a connection that was up could not write, since it broke, goes by a new one: a peer that was there a moment ago
//! may have started anew, and a long request is not for UDP while TCP reaches its peer (RFC 3261 §18.1.1). What a
//! connection that never carried anything could not write goes back to [`Shared::unsent`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::shared::Shared;
use crate::engine::flow::{ConnectionId, Flow, Transmit, Transport};
use crate::guard::Network;

/// The share of all connections that is kept for those that we open: one of so many.
const OURS: usize = 8;

/// Why connections were refused or closed, other than by the peer; each only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// [`NetConfig::max_connections`](super::NetConfig::max_connections) was reached, or what of it is for peers.
    pub too_many: u64,
    /// One source reached [`NetConfig::max_connections_per_source`](super::NetConfig::max_connections_per_source), or its
    /// network [`NetConfig::max_connections_per_wide_source`](super::NetConfig::max_connections_per_wide_source).
    pub too_many_from_source: u64,
    /// TLS or WebSocket was not agreed on in time, or at all.
    pub handshake: u64,
    /// A message did not become whole in time.
    pub slow_sender: u64,
    /// The peer did not read in time, or the queue of messages for it was full.
    pub slow_reader: u64,
    /// Nothing came for too long.
    pub idle: u64,
    /// What came is no SIP message stream.
    pub unframed: u64,
    /// The guard had banned the source: refused at once, or closed with the message that it was banned for.
    pub banned: u64,
}

/// All connections.
#[derive(Default)]
pub(crate) struct Connections(Mutex<Table>);

#[derive(Default)]
struct Table {
    by_id: HashMap<ConnectionId, Connection>,
    /// Those to one address, the newest last.
    by_peer: HashMap<(Transport, SocketAddr), Vec<ConnectionId>>,
    /// How many connections each network has opened, by the networks that a source counts for.
    accepted: HashMap<Network, usize>,
    /// How many connections peers have opened.
    inbound: usize,
    closed: Closed,
    last: u64,
}

struct Connection {
    transport: Transport,
    remote: SocketAddr,
    /// Where the peer can be reached by this connection too (RFC 5923).
    alias: Option<SocketAddr>,
    /// The peer opened it.
    accepted: bool,
    /// What the peer has proven to be, or has to prove before the first message is written.
    names: Arc<[Arc<str>]>,
    writer: mpsc::Sender<Transmit>,
}

/// The work of one connection: what waits to be written.
pub(super) struct Lane {
    pub(super) shared: Arc<Shared>,
    pub(super) id: ConnectionId,
    /// What the connection was opened for.
    pub(super) first: Option<Transmit>,
    pub(super) queue: mpsc::Receiver<Transmit>,
    /// Its two ends, once it is up.
    pub(super) flow: Option<Flow>,
    /// Set when the peer has said anything.
    pub(super) heard: Arc<AtomicBool>,
    /// What was written to a peer that has said nothing yet. TLS 1.3 refuses a client's certificate after the client has
    /// written: a connection that then ends has carried nothing.
    written: Vec<Transmit>,
    /// Something was written, or the peer opened it.
    carried: bool,
    /// What could not be written.
    unwritten: Vec<Transmit>,
}

impl Lane {
    /// The next message to write; `None` when the connection was given up. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Transmit> {
        match self.first.take() {
            Some(first) => Some(first),
            None => self.queue.recv().await,
        }
    }

    /// What is queued already.
    pub(super) fn queued(&mut self) -> Option<Transmit> {
        self.first.take().or_else(|| self.queue.try_recv().ok())
    }

    /// Remembers what was written, as long as nothing shows that the peer takes it.
    pub(super) fn wrote(&mut self, transmit: Transmit) {
        self.carried = true;
        if self.heard.load(Ordering::Relaxed) {
            self.written = Vec::new();
        } else if self.written.len() < self.shared.config.write_queue {
            self.written.push(transmit);
        }
    }

    /// This message could not be written: the connection is over.
    pub(super) fn broke(&mut self, transmit: Transmit) {
        self.unwritten.push(transmit);
    }

    /// Leaves the table. What was not written goes by a new connection where this one was up; it tries its second way where
    /// not, and so does what was only written to a peer that closed without a word.
    pub(super) fn close(mut self) {
        self.shared.streams.close(self.id);
        if let Some(flow) = self.flow {
            self.shared.keepers.leave(&flow);
        }
        self.queue.close();
        if !self.heard.load(Ordering::Relaxed) {
            self.written.drain(..).for_each(|transmit| self.shared.unsent(transmit));
        }
        let mut unwritten = std::mem::take(&mut self.unwritten);
        unwritten.extend(std::iter::from_fn(|| self.queued()));
        for transmit in unwritten {
            if self.carried { self.shared.send_anew(transmit) } else { self.shared.unsent(transmit) }
        }
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    pub(super) fn closed(&self) -> Closed {
        self.lock().closed
    }

    /// Notes why a connection ends.
    pub(super) fn count(&self, note: impl FnOnce(&mut Closed)) {
        note(&mut self.lock().closed);
    }

    /// Enters a connection that a peer opened; `None` when there are too many.
    pub(super) fn accept(
        &self,
        shared: &Arc<Shared>,
        transport: Transport,
        remote: SocketAddr,
    ) -> Option<Lane> {
        let mut table = self.lock();
        let config = &shared.config;
        let most = [config.max_connections_per_source, config.max_connections_per_wide_source];
        let count = |network| table.accepted.get(&network).copied().unwrap_or(0);
        if networks(remote).zip(most).any(|(network, most)| count(network) >= most) {
            table.closed.too_many_from_source += 1;
            return None;
        }
        if table.inbound >= config.max_connections - config.max_connections / OURS {
            table.closed.too_many += 1;
            return None;
        }
        let lane = table.open(shared, transport, remote, true, Arc::new([]))?;
        table.inbound += 1;
        networks(remote).for_each(|network| *table.accepted.entry(network).or_default() += 1);
        Some(lane)
    }

    /// Enters a connection that we open for a message; gives the message back when there are too many.
    pub(super) fn dial(&self, shared: &Arc<Shared>, first: Transmit) -> Result<Lane, Box<Transmit>> {
        let Flow { transport, remote, .. } = first.flow;
        let name = first.name.clone().unwrap_or_else(|| remote.ip().to_string().into());
        let opened = self.lock().open(shared, transport, remote, false, Arc::new([name]));
        match opened {
            Some(lane) => Ok(Lane { first: Some(first), ..lane }),
            None => Err(Box::new(first)),
        }
    }

    /// Leaves the table; the connection's task writes what is queued and ends.
    pub(super) fn close(&self, id: ConnectionId) {
        let mut table = self.lock();
        let Some(connection) = table.by_id.remove(&id) else { return };
        for addr in [Some(connection.remote), connection.alias].into_iter().flatten() {
            table.leave((connection.transport, addr), id);
        }
        if connection.accepted {
            table.release(connection.remote);
        }
    }

    /// What the peer of a connection has proven to be, once its certificate was checked.
    #[cfg(feature = "tls")]
    pub(super) fn prove(&self, id: ConnectionId, names: Arc<[Arc<str>]>) {
        if let Some(connection) = self.lock().by_id.get_mut(&id) {
            connection.names = names;
        }
    }

    /// The names that the peer of a connection has proven, or that it must prove before anything is written.
    pub(super) fn names(&self, id: ConnectionId) -> Arc<[Arc<str>]> {
        self.lock().by_id.get(&id).map(|connection| connection.names.clone()).unwrap_or_default()
    }

    /// Lets messages to `addr` take this connection, whose peer has proven a name (RFC 5923 §5).
    #[cfg(feature = "tls")]
    pub(super) fn alias(&self, id: ConnectionId, addr: SocketAddr) {
        let mut table = self.lock();
        let Table { by_id, by_peer, .. } = &mut *table;
        let Some(connection) = by_id.get(&id).filter(|found| found.alias.is_none()) else { return };
        let ids = by_peer.entry((connection.transport, addr)).or_default();
        // One for each set of names, so that no peer makes the list long.
        let same = |other| by_id.get(other).is_some_and(|other| other.names == connection.names);
        if ids.iter().any(same) {
            return;
        }
        ids.insert(0, id);
        if let Some(connection) = by_id.get_mut(&id) {
            connection.alias = Some(addr);
        }
    }

    /// The writer of the connection that a flow names, or of one that leads to its peer.
    pub(super) fn writer(
        &self,
        flow: &Flow,
        name: Option<&str>,
    ) -> Option<(ConnectionId, mpsc::Sender<Transmit>)> {
        let table = self.lock();
        if let Some(id) = flow.connection {
            return Some((id, table.by_id.get(&id)?.writer.clone()));
        }
        let ids = table.by_peer.get(&(flow.transport, flow.remote))?;
        ids.iter().rev().find_map(|id| {
            let connection = table.by_id.get(id).filter(|found| found.leads_to(flow, name))?;
            Some((*id, connection.writer.clone()))
        })
    }

    /// Queues a message on its connection, without opening one.
    pub(super) fn queue(&self, id: ConnectionId, transmit: Transmit) -> bool {
        let writer = self.lock().by_id.get(&id).map(|connection| connection.writer.clone());
        writer.is_some_and(|writer| writer.try_send(transmit).is_ok())
    }
}

impl Connection {
    /// On a secure transport the peer must have proven the name (RFC 5923 §7). For want of one its address is enough,
    /// and so is any name that we have dialled it by: it is then the very socket that we mean.
    fn leads_to(&self, flow: &Flow, name: Option<&str>) -> bool {
        let proven = |wanted: &str| self.names.iter().any(|proven| proven.eq_ignore_ascii_case(wanted));
        !self.transport.is_secure()
            || match name {
                Some(name) => proven(name),
                None => !self.accepted || proven(&flow.remote.ip().to_string()),
            }
    }
}

impl Table {
    fn open(
        &mut self,
        shared: &Arc<Shared>,
        transport: Transport,
        remote: SocketAddr,
        accepted: bool,
        names: Arc<[Arc<str>]>,
    ) -> Option<Lane> {
        if self.by_id.len() >= shared.config.max_connections {
            self.closed.too_many += 1;
            return None;
        }
        self.last += 1;
        let id = ConnectionId(self.last);
        let (writer, queue) = mpsc::channel(shared.config.write_queue.max(1));
        self.by_id.insert(id, Connection { transport, remote, alias: None, accepted, names, writer });
        self.by_peer.entry((transport, remote)).or_default().push(id);
        let heard = Arc::new(AtomicBool::new(accepted));
        Some(Lane {
            shared: shared.clone(),
            id,
            first: None,
            queue,
            flow: None,
            heard,
            written: Vec::new(),
            carried: accepted,
            unwritten: Vec::new(),
        })
    }

    fn leave(&mut self, peer: (Transport, SocketAddr), id: ConnectionId) {
        let Some(ids) = self.by_peer.get_mut(&peer) else { return };
        ids.retain(|known| *known != id);
        if ids.is_empty() {
            self.by_peer.remove(&peer);
        }
    }

    fn release(&mut self, remote: SocketAddr) {
        self.inbound -= 1;
        for network in networks(remote) {
            if let Entry::Occupied(mut count) = self.accepted.entry(network) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

/// What counts as one source, an IPv4 address or the /64 that one IPv6 host has to itself, and behind it the /48 that an
/// IPv6 customer is given.
fn networks(remote: SocketAddr) -> impl Iterator<Item = Network> {
    let [source, wide] = [64, 48].map(|v6| Network::of(remote.ip(), 32, v6));
    [Some(source), (wide != source).then_some(wide)].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_counts_for_its_64_and_its_48_and_an_ipv4_address_for_itself() {
        let of = |ip: &str| networks(SocketAddr::new(ip.parse().unwrap(), 5060)).collect::<Vec<_>>();
        let named = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<Network>>();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), named(&["2001:db8:1:2::/64", "2001:db8:1::/48"]));
        assert_eq!(of("192.0.2.7"), named(&["192.0.2.7"]));
        assert_eq!(of("::ffff:192.0.2.7"), named(&["192.0.2.7"]), "the same host");
    }
}
