//! What every task and handle shares: the engines behind their locks, and the way out of them.
//!
//! [`Shared::enter`] is the one place where an engine is touched: lock, act, route events, unlock, then send. Handles
//! lock the engine again when they are dropped, so nothing that may be a last handle is dropped under the lock.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;
use super::builder::NetConfig;
use super::connections::Connections;
use super::keep_alive::Keepers;
use super::register::Registrations;
use super::resolver::{Resolver, SystemResolver};
use super::router::Router;
use super::shards::{Shard, ShardId, Spread};
use super::{tcp, udp};
use crate::engine::Engine;
use crate::engine::flow::{Flow, Listener, Owner, Transmit, Transport};
use crate::event::ClientTx;
use crate::message::{Limits, ParseError, Response};
use crate::observe::{Direction, Observer, Observers, TraceRecord, redact};

/// What the tasks of an endpoint share.
pub(crate) struct Shared {
    pub(super) shards: Box<[Shard]>,
    pub(crate) spread: Spread,
    /// How large a message may be: those of the engines.
    pub(super) limits: Limits,
    /// INVITEs may take the place of other calls.
    pub(super) replaces: bool,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) streams: Connections,
    pub(crate) keepers: Keepers,
    pub(crate) registrations: Registrations,
    pub(crate) config: NetConfig,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<super::tls::TlsConfig>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) observers: Observers,
    pub(crate) trace_secrets: bool,
    /// Rung when a shard of a closing endpoint has nothing left to do.
    pub(crate) quiet: Notify,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    handle: OnceLock<Weak<Guard>>,
}

/// The engine and who waits for its events.
pub(crate) struct Core {
    pub(crate) engine: Engine,
    pub(crate) router: Router,
    /// What the timer task sleeps for.
    armed: Option<Instant>,
}

/// Keeps an endpoint's tasks alive: they stop when its last handle is gone.
pub(crate) struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.stop.cancel();
    }
}

/// A share of the endpoint, and the shard that it is about; every public type holds one.
#[derive(Clone)]
pub(crate) struct Handle {
    guard: Arc<Guard>,
    shard: ShardId,
}

impl Handle {
    pub(crate) fn new(shared: Shared) -> Self {
        let guard = Arc::new(Guard(Arc::new(shared)));
        guard.0.handle.get_or_init(|| Arc::downgrade(&guard));
        Self { guard, shard: ShardId(0) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.guard.0
    }

    /// The same share, about another shard.
    pub(crate) fn at(&self, shard: ShardId) -> Self {
        Self { guard: self.guard.clone(), shard }
    }

    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    pub(crate) fn enter<R>(&self, act: impl FnOnce(&mut Core, Instant) -> R) -> R {
        self.shared().enter(self.shard, act)
    }

    /// Sends the request that `ask` words and waits for its final answer.
    pub(crate) async fn answered(
        &self,
        ask: impl FnOnce(&mut Core, Instant) -> Result<ClientTx, Error>,
    ) -> Result<Arc<Response>, Error> {
        let (answer, answered) = oneshot::channel();
        self.enter(|core, now| {
            let tx = ask(core, now)?;
            core.router.requests.insert(tx, answer);
            Ok::<_, Error>(())
        })?;
        answered.await.unwrap_or(Err(Error::Closed))
    }
}

impl Core {
    pub(crate) fn new(engine: Engine, router: Router) -> Self {
        Self { engine, router, armed: None }
    }
}

/// The clock, which tokio's tests can pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Shared {
    pub(crate) fn new(
        (shards, spread): (Vec<Shard>, Spread),
        listeners: Vec<Listener>,
        config: NetConfig,
    ) -> Self {
        Self {
            shards: shards.into(),
            spread,
            limits: Limits::DEFAULT,
            replaces: false,
            listeners,
            streams: Connections::default(),
            keepers: Keepers::default(),
            registrations: Registrations::default(),
            config,
            #[cfg(feature = "tls")]
            tls: None,
            resolver: Arc::new(SystemResolver),
            observers: Observers::default(),
            trace_secrets: false,
            quiet: Notify::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            handle: OnceLock::new(),
        }
    }

    /// Acts on the engine of a shard, then routes its events and sends its messages, in the order in which it worded them: whoever
    /// hears of an answer and hangs up finds the ACK on the wire before its BYE.
    pub(crate) fn enter<R>(self: &Arc<Self>, id: ShardId, act: impl FnOnce(&mut Core, Instant) -> R) -> R {
        let handle = self.handle.get().and_then(Weak::upgrade).map(|guard| Handle { guard, shard: id });
        let mut spare = Vec::new();
        let shard = self.shard(id);
        let mut guard = shard.lock();
        let (core, now) = (&mut *guard, now());
        let result = act(core, now);
        core.engine.handle_timeout(now);
        while let Some(event) = core.engine.poll_event() {
            core.route(event, handle.as_ref(), now, &mut spare);
        }
        let transmits: Vec<_> = std::iter::from_fn(|| core.engine.poll_transmit()).collect();
        self.notify(shard, core);
        let turn =
            (!transmits.is_empty()).then(|| shard.sending.lock().unwrap_or_else(PoisonError::into_inner));
        drop(guard);
        let unsent = self.send_all(id, transmits);
        drop(turn);
        drop(spare);
        unsent.into_iter().for_each(|failed| self.unsent(failed));
        result
    }

    fn notify(&self, shard: &Shard, core: &mut Core) {
        let next = core.engine.poll_timeout();
        if next.is_some_and(|next| core.armed.is_none_or(|armed| next < armed)) {
            core.armed = next;
            shard.wake.notify_one();
        }
        if core.router.is_closing() && core.engine.is_quiet() {
            self.quiet.notify_one();
        }
    }

    /// What the timer task sleeps for next.
    pub(crate) fn arm(&self, id: ShardId) -> Option<Instant> {
        let mut core = self.shard(id).lock();
        core.armed = core.engine.poll_timeout();
        core.armed
    }

    /// Notes since when a socket of a shard has not been read empty.
    pub(crate) fn note_backlog(&self, shard: ShardId, index: usize, since: Option<Instant>) {
        let reader = index * self.shards.len() + shard.0;
        self.shard(shard).lock().engine.note_backlog(reader, since);
    }

    /// Whether a STUN request of this flow is answered.
    pub(crate) fn admits_keep_alive(&self, shard: ShardId, flow: &Flow) -> bool {
        self.shard(shard).lock().engine.admits_keep_alive(now(), flow)
    }

    /// True where the guard hears nothing of this source: its connections are closed. The guard is that of all shards;
    /// a connection asks by way of its own.
    pub(crate) fn is_banned(&self, home: ShardId, source: IpAddr) -> bool {
        self.shard(home).lock().engine.guard().is_some_and(|guard| guard.is_banned(now(), source))
    }

    /// Takes what a stream carried in place of a message.
    pub(crate) fn receive_unframed(self: &Arc<Self>, flow: &Flow, error: Option<ParseError>) {
        self.enter(self.home(flow), |core, now| core.engine.handle_unframed(now, flow, error));
    }

    /// Learns that a client's connection agreed on neither TLS nor WebSocket.
    #[cfg(any(feature = "tls", feature = "ws"))]
    pub(crate) fn handshake_failed(self: &Arc<Self>, flow: &Flow) {
        self.enter(self.home(flow), |core, now| core.engine.handle_failed_handshake(now, flow));
    }

    /// Puts messages on the wire in their order, those of one UDP socket that follow each other by one call; gives back
    /// those where that fails.
    fn send_all(self: &Arc<Self>, from: ShardId, transmits: Vec<Transmit>) -> Vec<Transmit> {
        let (mut unsent, mut transmits) = (Vec::new(), transmits.into_iter().peekable());
        if transmits.len() == 1 {
            return transmits
                .filter_map(|only| self.send(from, only).err())
                .map(|refused| *refused)
                .collect();
        }
        while let Some(first) = transmits.next() {
            if first.flow.transport != Transport::Udp {
                unsent.extend(self.send(from, first).err().map(|refused| *refused));
                continue;
            }
            let local = first.flow.local;
            let mut run = vec![first];
            let by_it = |next: &Transmit| udp::by_one_socket(self.shard(from), local, next.flow.local);
            let joins = |next: &Transmit| next.flow.transport == Transport::Udp && by_it(next);
            run.extend(std::iter::from_fn(|| transmits.next_if(joins)));
            run.iter().for_each(|next| self.record(Direction::Out, &next.flow, &next.bytes));
            unsent.extend(udp::send_all(self.shard(from), local, run));
        }
        unsent
    }

    /// Puts a message on the wire, or queues it on its connection; gives it back where that fails.
    fn send(self: &Arc<Self>, from: ShardId, transmit: Transmit) -> Result<(), Box<Transmit>> {
        self.record(Direction::Out, &transmit.flow, &transmit.bytes);
        match transmit.flow.transport {
            Transport::Udp => udp::send(self.shard(from), transmit),
            _ => tcp::send(self, transmit),
        }
    }

    /// Tries the second way, then tells the engine that worded it.
    pub(crate) fn unsent(self: &Arc<Self>, mut failed: Transmit) {
        // What nobody waits for may leave by any shard's socket.
        let id = ShardId(failed.owner.map_or(0, Owner::place));
        if !self.resend(&mut failed, id) {
            self.enter(id, |core, now| core.engine.handle_transport_error(now, &failed));
        }
    }

    /// Sends what a broken connection had not written. What names its connection has no other.
    pub(super) fn send_anew(self: &Arc<Self>, transmit: Transmit) {
        let from = ShardId(transmit.owner.map_or(0, Owner::place));
        if let Err(refused) = self.send(from, transmit) {
            self.unsent(*refused);
        }
    }

    /// Sends by the second way; false where there is none, or it fails too.
    fn resend(self: &Arc<Self>, failed: &mut Transmit, from: ShardId) -> bool {
        while let Some(second) = failed.by_fallback() {
            match self.send(from, second) {
                Ok(()) => return true,
                Err(again) => *failed = *again,
            }
        }
        false
    }

    pub(crate) fn record(&self, direction: Direction, flow: &Flow, bytes: &Bytes) {
        if self.observers.is_empty() {
            return;
        }
        let bytes = if self.trace_secrets { bytes.clone() } else { redact(bytes) };
        self.observers.message(&TraceRecord { at: SystemTime::now(), direction, flow: *flow, bytes });
    }
}
