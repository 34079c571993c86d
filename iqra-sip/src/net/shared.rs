//! What every task and handle shares: the engine behind its lock, and the way out of it.
//!
//! [`Shared::enter`] is the one place where the engine is touched: lock, act, route events, unlock, then send. Handles
//! lock the engine again when they are dropped, so nothing that may be a last handle is dropped under the lock.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
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
use super::{tcp, udp};
use crate::engine::Engine;
use crate::engine::flow::{Flow, Listener, Transmit, Transport};
use crate::event::ClientTx;
use crate::message::{ParseError, Response};
use crate::observe::{Direction, Observer, Observers, TraceRecord, redact};

/// What the tasks of an endpoint share.
pub(crate) struct Shared {
    core: Mutex<Core>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) udp: Vec<udp::Socket>,
    pub(crate) streams: Connections,
    pub(crate) keepers: Keepers,
    pub(crate) registrations: Registrations,
    pub(crate) config: NetConfig,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<super::tls::TlsConfig>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) observers: Observers,
    pub(crate) trace_secrets: bool,
    /// Rung when a deadline comes before the one that the timer task sleeps for.
    pub(crate) wake: Notify,
    /// Rung when a closing endpoint has nothing left to do.
    pub(crate) quiet: Notify,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Held while messages leave; taken before the engine is let go, so that their order is that of its acts.
    sending: Mutex<()>,
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

/// A share of the endpoint; every public type holds one.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Guard>);

impl Handle {
    pub(crate) fn new(shared: Shared) -> Self {
        let guard = Arc::new(Guard(Arc::new(shared)));
        guard.0.handle.get_or_init(|| Arc::downgrade(&guard));
        Self(guard)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    pub(crate) fn enter<R>(&self, act: impl FnOnce(&mut Core, Instant) -> R) -> R {
        self.shared().enter(act)
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
    pub(crate) fn new(engine: Engine, router: Router) -> Mutex<Self> {
        Mutex::new(Self { engine, router, armed: None })
    }
}

/// The clock, which tokio's tests can pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Shared {
    pub(crate) fn new(
        core: Mutex<Core>,
        listeners: Vec<Listener>,
        udp: Vec<udp::Socket>,
        config: NetConfig,
    ) -> Self {
        Self {
            core,
            listeners,
            udp,
            streams: Connections::default(),
            keepers: Keepers::default(),
            registrations: Registrations::default(),
            config,
            #[cfg(feature = "tls")]
            tls: None,
            resolver: Arc::new(SystemResolver),
            observers: Observers::default(),
            trace_secrets: false,
            wake: Notify::new(),
            quiet: Notify::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            sending: Mutex::default(),
            handle: OnceLock::new(),
        }
    }

    /// A poisoned lock is taken over: the engine is left consistent between its calls.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts on the engine, then routes its events and sends its messages, in the order in which it worded them: whoever
    /// hears of an answer and hangs up finds the ACK on the wire before its BYE.
    pub(crate) fn enter<R>(self: &Arc<Self>, act: impl FnOnce(&mut Core, Instant) -> R) -> R {
        let handle = self.handle.get().and_then(Weak::upgrade).map(Handle);
        let mut spare = Vec::new();
        let mut guard = self.lock();
        let (core, now) = (&mut *guard, now());
        let result = act(core, now);
        core.engine.handle_timeout(now);
        while let Some(event) = core.engine.poll_event() {
            core.route(event, handle.as_ref(), now, &mut spare);
        }
        let transmits: Vec<_> = std::iter::from_fn(|| core.engine.poll_transmit()).collect();
        self.notify(core);
        let turn =
            (!transmits.is_empty()).then(|| self.sending.lock().unwrap_or_else(PoisonError::into_inner));
        drop(guard);
        let unsent: Vec<_> = transmits.into_iter().filter_map(|transmit| self.send(transmit).err()).collect();
        drop(turn);
        drop(spare);
        unsent.into_iter().for_each(|failed| self.unsent(*failed));
        result
    }

    fn notify(&self, core: &mut Core) {
        let next = core.engine.poll_timeout();
        if next.is_some_and(|next| core.armed.is_none_or(|armed| next < armed)) {
            core.armed = next;
            self.wake.notify_one();
        }
        if core.router.is_closing() && core.engine.is_quiet() {
            self.quiet.notify_one();
        }
    }

    /// What the timer task sleeps for next.
    pub(crate) fn arm(&self) -> Option<Instant> {
        let mut core = self.lock();
        core.armed = core.engine.poll_timeout();
        core.armed
    }

    /// Takes messages that a socket received.
    pub(crate) fn receive(self: &Arc<Self>, messages: impl IntoIterator<Item = (Flow, Bytes)>) {
        self.enter(|core, now| {
            core.engine.note_queued(core.router.queued());
            for (flow, bytes) in messages {
                let seen = (!self.observers.is_empty()).then(|| bytes.clone());
                core.engine.handle_message(now, &flow, bytes);
                if let Some(bytes) = seen.filter(|_| !core.engine.kept_away()) {
                    self.record(Direction::In, &flow, &bytes);
                }
            }
        });
    }

    /// Notes since when a socket has not been read empty.
    pub(crate) fn note_backlog(&self, reader: usize, since: Option<Instant>) {
        self.lock().engine.note_backlog(reader, since);
    }

    /// Whether a STUN request of this flow is answered.
    pub(crate) fn admits_keep_alive(&self, flow: &Flow) -> bool {
        self.lock().engine.admits_keep_alive(now(), flow)
    }

    /// True where the guard hears nothing of this source: its connections are closed.
    pub(crate) fn is_banned(&self, source: IpAddr) -> bool {
        self.lock().engine.guard().is_some_and(|guard| guard.is_banned(now(), source))
    }

    /// Takes what a stream carried in place of a message.
    pub(crate) fn receive_unframed(self: &Arc<Self>, flow: &Flow, error: Option<ParseError>) {
        self.enter(|core, now| core.engine.handle_unframed(now, flow, error));
    }

    /// Learns that a client's connection agreed on neither TLS nor WebSocket.
    #[cfg(any(feature = "tls", feature = "ws"))]
    pub(crate) fn handshake_failed(self: &Arc<Self>, flow: &Flow) {
        self.enter(|core, now| core.engine.handle_failed_handshake(now, flow));
    }

    /// Puts a message on the wire, or queues it on its connection; gives it back where that fails.
    fn send(self: &Arc<Self>, transmit: Transmit) -> Result<(), Box<Transmit>> {
        self.record(Direction::Out, &transmit.flow, &transmit.bytes);
        match transmit.flow.transport {
            Transport::Udp => udp::send(self, transmit),
            _ => tcp::send(self, transmit),
        }
    }

    /// Tries the second way, then tells the engine.
    pub(crate) fn unsent(self: &Arc<Self>, mut failed: Transmit) {
        while let Some(second) = failed.by_fallback() {
            match self.send(second) {
                Ok(()) => return,
                Err(again) => failed = *again,
            }
        }
        self.enter(|core, now| core.engine.handle_transport_error(now, &failed));
    }

    pub(crate) fn record(&self, direction: Direction, flow: &Flow, bytes: &Bytes) {
        if self.observers.is_empty() {
            return;
        }
        let bytes = if self.trace_secrets { bytes.clone() } else { redact(bytes) };
        self.observers.message(&TraceRecord { at: SystemTime::now(), direction, flow: *flow, bytes });
    }
}
