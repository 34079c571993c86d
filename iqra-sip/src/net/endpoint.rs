//! The handle of an endpoint: what a program asks of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Error;
use super::builder::{Builder, os_seed};
use super::connections::Closed;
use super::incoming::IncomingRequest;
use super::keep_alive::KeepAlive;
use super::outgoing::{Attempt, OutgoingCall};
use super::pursue::{CallPolicy, Chase};
use super::register::Registered;
use super::resolve;
use super::shards::{Shard, ShardId};
use super::shared::{Core, Handle};
use crate::auth::{Keyring, Registration};
use crate::engine::flow::{Flow, Hop, Listener};
use crate::engine::random::Random;
use crate::event::OutgoingInvite;
use crate::guard::{Guard, GuardConfig};
use crate::message::{Headers, Request, Response, Uri};
use crate::observe::Dropped;
use crate::observe::capsule::Capsule;
use crate::roles::uac::Pursuit;

/// SIP on sockets. Cheap to clone; the sockets close when the last handle, call and request is dropped, or by
/// [`shutdown`](Self::shutdown).
#[derive(Clone)]
pub struct Endpoint {
    handle: Handle,
}

/// What an endpoint holds; all zero after [`Endpoint::shutdown`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Server transactions, finished ones included until their last timer.
    pub server_transactions: usize,
    /// Client transactions, likewise.
    pub client_transactions: usize,
    /// Dialogs.
    pub dialogs: usize,
    /// Stream connections.
    pub connections: usize,
    /// Tasks.
    pub tasks: usize,
}

impl Endpoint {
    /// Settings of a new endpoint.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn new(handle: Handle) -> Self {
        Self { handle }
    }

    #[cfg(test)]
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The bound sockets, UDP first, with their real ports.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.handle.shared().listeners
    }

    /// What it shows and trusts on secure transports, to [reload](super::TlsConfig::reload) it.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls_config(&self) -> Option<super::TlsConfig> {
        self.handle.shared().tls.clone()
    }

    /// Places a call.
    ///
    /// # Errors
    /// [`Error::Resolve`], [`Error::Engine`] and [`Error::Closed`]; what happens on the wire comes by
    /// [`OutgoingCall::next`].
    pub async fn invite(&self, call: OutgoingInvite) -> Result<OutgoingCall, Error> {
        let attempt = self.attempt(call, Keyring::default()).await?;
        Ok(OutgoingCall::open(attempt))
    }

    /// Places a call with credentials of its own that follows redirects; [`OutgoingCall::next`] leads it from one place
    /// to the next.
    ///
    /// # Errors
    /// As [`invite`](Self::invite), about the first place.
    pub async fn call(&self, mut call: OutgoingInvite, policy: CallPolicy) -> Result<OutgoingCall, Error> {
        let named = self.handle.at(self.shard_of(call.call_id.as_deref()));
        named.enter(|core, _| core.engine.name_call(&mut call));
        let pursuit = Pursuit::new(call.clone(), policy.redirects).with_alternatives(policy.alternatives);
        let attempt = self.attempt(call, policy.credentials.clone()).await?;
        let chase = Chase::new(self.clone(), pursuit, policy.credentials);
        Ok(OutgoingCall::chasing(attempt, chase))
    }

    /// Sends one INVITE.
    pub(super) async fn attempt(
        &self,
        mut call: OutgoingInvite,
        credentials: Keyring,
    ) -> Result<Attempt, Error> {
        if call.hops.is_empty() {
            call.hops = self.hops(&call.headers, &call.uri).await?;
        }
        let handle = self.handle.at(self.shard_of(call.call_id.as_deref()));
        handle.enter(|core, now| {
            if core.router.is_closing() {
                return Err(Error::Closed);
            }
            let tx = core.engine.invite_with(now, call, credentials)?;
            Ok(Attempt::open(&handle, tx, &mut core.router))
        })
    }

    /// Where a request of ours with this Call-ID starts.
    fn shard_of(&self, call_id: Option<&str>) -> ShardId {
        self.handle.shared().spread.of_ours(call_id)
    }

    /// Sends a request outside a dialog (OPTIONS, MESSAGE, REGISTER) and waits for its final answer. What is missing of
    /// From tag, To, Call-ID, CSeq and Max-Forwards is filled in.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Transport`]; else as [`invite`](Self::invite).
    pub async fn request(
        &self,
        request: Request,
        hops: impl IntoIterator<Item = Hop>,
    ) -> Result<Arc<Response>, Error> {
        self.request_with(request, hops, Keyring::default()).await
    }

    /// The same with credentials of its own for the challenges that come; none means those of
    /// [`EngineConfig::auth`](crate::EngineConfig).
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn request_with(
        &self,
        request: Request,
        hops: impl IntoIterator<Item = Hop>,
        credentials: Keyring,
    ) -> Result<Arc<Response>, Error> {
        let mut hops: Vec<_> = hops.into_iter().collect();
        if hops.is_empty() {
            hops = self.hops(&request.headers, &request.uri).await?;
        }
        let handle = self.handle.at(self.handle.shared().spread.of_headers(&request.headers));
        let ask = |core: &mut Core, now| match core.router.is_closing() {
            true => Err(Error::Closed),
            false => Ok(core.engine.request_with(now, request, hops, credentials)?),
        };
        handle.answered(ask).await
    }

    /// Registers an address and keeps it registered until the handle is dropped or told to unregister.
    ///
    /// # Errors
    /// [`Error::Closed`]; what the registrar says comes by the handle.
    pub fn register(&self, registration: Registration) -> Result<Registered, Error> {
        Registered::start(self.clone(), &self.handle, registration)
    }

    /// Where a request goes that names no hops; none where its Route or URI has an address.
    pub(super) async fn hops(&self, headers: &Headers, uri: &Uri) -> Result<Vec<Hop>, Error> {
        resolve::hops(self.handle.shared(), headers, uri).await
    }

    /// Our own contact as a request that goes this way would carry it.
    pub(super) fn own_contact(
        &self,
        next_hop: Option<Hop>,
        headers: &Headers,
        uri: &Uri,
        user: Option<&str>,
    ) -> Result<Uri, Error> {
        Ok(self.first().lock().engine.own_contact(next_hop, headers, uri, user)?)
    }

    /// What it holds, for tests of leaks and for metrics.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let shared = self.handle.shared();
        let mut counts =
            Counts { connections: shared.streams.len(), tasks: shared.tasks.len(), ..Counts::default() };
        for shard in &shared.shards {
            let engine = shard.lock().engine.counts();
            counts.server_transactions += engine.server_transactions;
            counts.client_transactions += engine.client_transactions;
            counts.dialogs += engine.dialogs;
        }
        counts
    }

    /// For what is the same in every shard.
    fn first(&self) -> &Shard {
        self.handle.shared().shard(ShardId(0))
    }

    /// Gives the guard new settings, or sets one up; what it has learnt stays. `None` takes it away.
    pub fn set_guard(&self, config: Option<GuardConfig>) {
        let (first, others) = self.handle.shared().shards.split_first().expect("an endpoint has a shard");
        let mut core = first.lock();
        core.engine.set_guard(config);
        let guard = core.engine.guard_of_all();
        drop(core);
        others.iter().for_each(|shard| shard.lock().engine.share_guard(guard.clone()));
    }

    /// Looks at the guard, bans or unbans; `None` where there is none. `act` is called under an engine's lock and must
    /// not call the endpoint.
    pub fn with_guard<R>(&self, act: impl FnOnce(&mut Guard) -> R) -> Option<R> {
        let mut core = self.first().lock();
        let result = core.engine.guard_mut().map(|mut guard| act(&mut guard));
        core.engine.tell_bans();
        result
    }

    /// Why connections were refused or closed so far, other than by the peer.
    #[must_use]
    pub fn closed(&self) -> Closed {
        self.handle.shared().streams.closed()
    }

    /// The domains that the peer of a connection has proven by its certificate, and its address where the certificate
    /// holds that; none for UDP, for clients without one, and where the connection is gone.
    #[must_use]
    pub fn proven_names(&self, flow: &Flow) -> Vec<Arc<str>> {
        let names = flow.connection.filter(|_| flow.transport.is_secure());
        names.map(|id| self.handle.shared().streams.names(id).to_vec()).unwrap_or_default()
    }

    /// Keeps a flow open, that of a registration for instance, with a ping at most `every` apart, and says when it has
    /// failed (RFC 5626 §4.4). 120 s are usual on connections, 29 s on UDP, whose NATs forget sooner; a server asks for
    /// less by Flow-Timer ([`Bound::flow_timer`](crate::auth::Bound::flow_timer)), and
    /// [`KeepAlive::set_interval`] obeys a later one.
    ///
    /// # Errors
    /// [`Error::Closed`] without randomness from the operating system, or after the shutdown.
    pub fn keep_alive(&self, flow: Flow, every: Duration) -> Result<KeepAlive, Error> {
        let shared = self.handle.shared();
        let seed = os_seed().ok().filter(|_| !shared.stop.is_cancelled()).ok_or(Error::Closed)?;
        Ok(KeepAlive::start(shared, flow, every, Random::new(seed)))
    }

    /// The capsule of a call so far, where [`Builder::capsules`] keeps it.
    #[must_use]
    pub fn capsule(&self, call_id: &str) -> Option<Capsule> {
        let shared = self.handle.shared();
        shared.shard(shared.spread.of(call_id.as_bytes())).lock().engine.capsule(call_id)
    }

    /// The Call-IDs whose capsules are kept, in no order.
    #[must_use]
    pub fn capsules(&self) -> Vec<String> {
        let shared = self.handle.shared();
        shared.ids().flat_map(|id| shared.shard(id).lock().engine.capsules()).collect()
    }

    /// What was left unanswered so far.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        let all = self.handle.shared().shards.iter().map(|shard| shard.lock().engine.dropped());
        all.fold(Dropped::default(), Dropped::and)
    }

    /// Closes: new requests are answered 503 at once; calls and transactions may finish within `limit`, then calls
    /// that are left get a BYE and the sockets close. [`Incoming`](super::Incoming) ends, and so does every call.
    pub async fn shutdown(self, limit: Duration) {
        let shared = self.handle.shared().clone();
        let end = tokio::time::Instant::now() + limit;
        // Registrations are removed while requests may still leave.
        shared.registrations.leave(end).await;
        for id in shared.ids() {
            drop(shared.enter(id, |core, _| core.router.close()));
        }
        let _ = tokio::time::timeout_at(end, self.finished()).await;
        for id in shared.ids() {
            drop(shared.enter(id, Core::end_calls));
        }
        shared.stop.cancel();
        shared.tasks.close();
        shared.tasks.wait().await;
        shared.clear_queues();
        for id in shared.ids() {
            shared.enter(id, |core, _| core.engine.clear());
        }
    }

    async fn finished(&self) {
        let shared = self.handle.shared();
        loop {
            let rung = shared.quiet.notified();
            if shared.shards.iter().all(|shard| shard.lock().engine.is_quiet()) {
                return;
            }
            rung.await;
        }
    }
}

impl Core {
    /// Hangs up what is left.
    fn end_calls(&mut self, now: Instant) -> Option<mpsc::Sender<IncomingRequest>> {
        let left: Vec<_> = self.router.calls.keys().cloned().collect();
        for dialog in left {
            // A call that is over needs no BYE.
            let _ = self.engine.bye(now, &dialog, Headers::new());
        }
        self.router.end_all()
    }
}
