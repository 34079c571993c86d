//! Connections of the simulated network: who dialled whom, in which order messages arrive, and what a cut does to them.

use std::net::SocketAddr;
use std::time::Instant;

use iqra_sip::{ConnectionId, Flow};

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both ends close it: what is on its way arrives, and the next message finds it gone.
    Close,
    /// The path breaks: what is on its way is lost, and so is the next message of each end, which is written all the same.
    Break,
}

/// All connections of a network whose streams are to be cut.
pub(crate) struct Streams {
    open: Vec<Connection>,
    serial: u64,
    /// Who can be dialled; of WebSocket only the server.
    pub(crate) reachable: Vec<usize>,
}

struct Connection {
    id: ConnectionId,
    /// Who dialled, and who was.
    ends: [End; 2],
}

struct End {
    node: usize,
    addr: SocketAddr,
    /// When the last message for it arrives.
    due: Instant,
    /// Its next message is lost, and then the connection is gone.
    broken: bool,
}

/// Where a message goes.
pub(crate) struct Carried {
    pub(crate) to: usize,
    /// As the receiver sees it.
    pub(crate) flow: Flow,
    /// When it arrives; `None` where it is lost.
    pub(crate) at: Option<Instant>,
}

impl Streams {
    pub(crate) fn new(reachable: Vec<usize>) -> Self {
        Self { open: Vec::new(), serial: 0, reachable }
    }

    /// Carries a message of `from`; it is `soonest` at the other end. `None` where its connection is gone, or there is
    /// none and none can be opened.
    pub(crate) fn carry(
        &mut self,
        (from, now, soonest): (usize, Instant, Instant),
        flow: &Flow,
        nodes: &[SocketAddr],
    ) -> Option<Carried> {
        let known = self.open.iter().position(|one| {
            let ends = [[0, 1], [1, 0]].into_iter();
            ends.into_iter().any(|[near, far]| {
                let leads = one.ends[near].node == from && one.ends[far].addr == flow.remote;
                leads && flow.connection.is_none_or(|id| id == one.id)
            })
        });
        let index = match known {
            Some(index) => index,
            None if flow.connection.is_some() => return None,
            None => self.dial(from, now, flow, nodes)?,
        };
        let connection = &mut self.open[index];
        let near = usize::from(connection.ends[0].node != from);
        if connection.ends[near].broken {
            let far = &connection.ends[1 - near];
            let lost = Carried { to: far.node, flow: *flow, at: None };
            self.open.remove(index);
            return Some(lost);
        }
        let id = connection.id;
        let remote = connection.ends[near].addr;
        let far = &mut connection.ends[1 - near];
        far.due = far.due.max(soonest);
        let flow = Flow { transport: flow.transport, local: nodes[far.node], remote, connection: Some(id) };
        Some(Carried { to: far.node, flow, at: Some(far.due) })
    }

    fn dial(&mut self, from: usize, now: Instant, flow: &Flow, nodes: &[SocketAddr]) -> Option<usize> {
        let to = nodes.iter().position(|addr| *addr == flow.remote)?;
        if !self.reachable.contains(&to) {
            return None;
        }
        self.serial += 1;
        let port = 40_000 + u16::try_from(self.serial % 20_000).unwrap();
        let end = |node, addr| End { node, addr, due: now, broken: false };
        let ends = [end(from, SocketAddr::new(nodes[from].ip(), port)), end(to, flow.remote)];
        self.open.push(Connection { id: ConnectionId(self.serial), ends });
        Some(self.open.len() - 1)
    }

    /// Ends every connection; gives those whose messages are lost.
    pub(crate) fn cut(&mut self, cut: Cut) -> Vec<ConnectionId> {
        if cut == Cut::Close {
            self.open.clear();
            return Vec::new();
        }
        self.open.iter_mut().flat_map(|one| &mut one.ends).for_each(|end| end.broken = true);
        self.open.iter().map(|one| one.id).collect()
    }
}
