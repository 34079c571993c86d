//! Shards: the calls of an endpoint, spread over engines that do not wait for each other.
//!
//! A [`Shard`] is an engine with its router, its timers and its UDP sockets, behind a lock of its own. Whose a message
//! is says its Call-ID, by a hash under a key that is drawn with the endpoint: nobody can choose Call-IDs that all meet
//! at one shard. So an INVITE, its CANCEL, ACK and BYE meet at one engine from whatever address and by whatever
//! transport they come, and a carrier that sends all its calls from one address loads every shard. A message without
//! one usable Call-ID stays with the shard that received it: a socket's own, a connection's by its number. What is no
//! message (STUN, CRLF) is answered where it comes in. Call-IDs of ours are drawn until they hash to the shard that
//! makes them; a request with a Call-ID that the program chose starts at that one's shard, any other at the next in turn.
//!
//! **Handing over.** A wake-up costs more than a message. So a shard's few messages are handled by whoever received
//! them, who enters that shard's lock for it; more than [`FEW`] from one wake-up, which is load, are put into the shard's
//! bounded queue and its own task works them off on another core. Whoever finds the queue full works on it himself
//! until there is room: nothing is dropped here, and what cannot be handled in time waits in the socket's buffer as with
//! a single shard. While anything is in the queue everything goes by it, and it is emptied under the shard's lock: what
//! one socket or connection received for a call is handled in the order in which it came.
//!
//! **Replaces** (RFC 3891) names a dialog by another Call-ID, whose shard may be another. That shard is asked when the
//! INVITE comes in, and told by [`Shared::replaced`] once it was accepted, where it judges anew: no lock is ever held
//! while another is waited for. As with one engine, the answer at the beginning is what was true at a moment before the
//! program hears of the INVITE, and the acceptance ends what can still be replaced then, if anything: the two steps are
//! apart by the program's decision anyway, each is done under the lock of the shard that has the dialog, and of two
//! INVITEs that replace the same dialog one finds it there.
//!
//! **Shared by all**: connections and their limits, keep-alives, registrations, the queue to the program, and the guard
//! with its rates, bans and measures of load. **Each its own**: transactions and dialogs (their limits are divided; the
//! hash keeps the shares even), and which targets failed lately.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

use super::datagrams::BATCH;
use super::shared::{Core, Shared};
use super::udp;
use crate::dialog::DialogId;
use crate::engine::Engine;
use crate::engine::config::EngineConfig;
use crate::engine::flow::{ConnectionId, Flow};
use crate::engine::random::Seed;
use crate::engine::share::{self, Judged, Owns};
use crate::guard::glance;
use crate::message::header::Replaces;
use crate::message::{HeaderName, Headers, Limits, Request};
use crate::observe::Direction;

/// Most messages for one shard that their receiver handles himself.
const FEW: usize = 4;
/// Messages that wait for a shard's own task.
const QUEUE: usize = 1_024;
/// Most shards of an endpoint: more than machines have cores.
const MOST: usize = if share::MOST < 256 { share::MOST } else { 256 };

/// Names a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShardId(pub(super) usize);

/// The rule by which calls are spread.
#[derive(Clone)]
pub(crate) struct Spread {
    count: usize,
    key: RandomState,
    turn: Arc<AtomicUsize>,
}

impl Spread {
    pub(super) fn new(asked: usize) -> Self {
        Self { count: asked.clamp(1, MOST), key: RandomState::new(), turn: Arc::default() }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The shard of a call.
    pub(crate) fn of(&self, call_id: &[u8]) -> ShardId {
        match self.count {
            1 => ShardId(0),
            // The remainder is below the count.
            count => ShardId((self.key.hash_one(call_id) % count as u64) as usize),
        }
    }

    /// The shard of a request of ours.
    pub(crate) fn of_ours(&self, call_id: Option<&str>) -> ShardId {
        match call_id {
            Some(call_id) => self.of(call_id.as_bytes()),
            None => ShardId(self.turn.fetch_add(1, Ordering::Relaxed) % self.count),
        }
    }

    /// The same by the request's headers.
    pub(crate) fn of_headers(&self, headers: &Headers) -> ShardId {
        self.of_ours(headers.get(HeaderName::CALL_ID).as_deref())
    }

    /// The shard that received something on a connection.
    pub(crate) fn home(&self, number: u64) -> ShardId {
        ShardId((number % self.count as u64) as usize)
    }

    fn of_message(&self, message: &[u8], limits: &Limits, home: ShardId) -> ShardId {
        glance::only_call_id(message, limits).map_or(home, |call_id| self.of(call_id))
    }

    /// What the engine of a shard draws its Call-IDs by.
    fn owns(&self, shard: ShardId) -> Owns {
        let spread = self.clone();
        Arc::new(move |call_id| spread.of(call_id.as_bytes()) == shard)
    }

    /// The engines of all shards: each has its part of the limits, and all have the guard of the first.
    pub(super) fn engines(
        &self,
        config: &EngineConfig,
        seed: impl Fn() -> io::Result<Seed>,
    ) -> io::Result<Vec<Engine>> {
        let part = EngineConfig {
            max_transactions: config.max_transactions.div_ceil(self.count),
            max_dialogs: config.max_dialogs.div_ceil(self.count),
            ..config.clone()
        };
        let mut engines: Vec<Engine> = Vec::with_capacity(self.count);
        for place in 0..self.count {
            let mut engine = Engine::new(part.clone(), seed()?);
            if self.count > 1 {
                engine.join(place, self.owns(ShardId(place)), engines.first());
            }
            engines.push(engine);
        }
        Ok(engines)
    }
}

/// One engine and what is its own.
pub(crate) struct Shard {
    core: Mutex<Core>,
    pub(super) udp: Vec<udp::Socket>,
    /// Rung when a deadline comes before the one that the timer task sleeps for.
    pub(super) wake: Notify,
    /// Held while messages leave; taken before the engine is let go, so that their order is that of its acts.
    pub(super) sending: Mutex<()>,
    queue: Mutex<VecDeque<Arrival>>,
    /// Rung when the queue was filled.
    filled: Notify,
}

/// A message on its way to its shard.
struct Arrival {
    flow: Flow,
    bytes: Bytes,
    /// What the shard says that has the dialog named in Replaces.
    judged: Option<Judged>,
}

impl Shard {
    pub(super) fn new(core: Core, udp: Vec<udp::Socket>) -> Self {
        Self {
            core: Mutex::new(core),
            udp,
            wake: Notify::new(),
            sending: Mutex::default(),
            queue: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// A poisoned lock is taken over: the engine is left consistent between its calls.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Arrival>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub(crate) fn shard(&self, id: ShardId) -> &Shard {
        &self.shards[id.0]
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards.len()).map(ShardId)
    }

    /// The shard that receives what comes by a connection.
    pub(crate) fn home(&self, flow: &Flow) -> ShardId {
        self.spread.home(flow.connection.map_or(0, |ConnectionId(number)| number))
    }

    /// Takes messages that a socket or connection of `home` received.
    pub(crate) fn receive(
        self: &Arc<Self>,
        home: ShardId,
        messages: impl IntoIterator<Item = (Flow, Bytes)>,
    ) {
        if self.shards.len() == 1 {
            let all = messages.into_iter().map(|(flow, bytes)| Arrival { flow, bytes, judged: None });
            return self.take(home, all);
        }
        let mut parts: Vec<Vec<Arrival>> = self.shards.iter().map(|_| Vec::new()).collect();
        for (flow, bytes) in messages {
            let shard = self.spread.of_message(&bytes, &self.limits, home);
            let judged = self.judge(shard, &bytes);
            parts[shard.0].push(Arrival { flow, bytes, judged });
        }
        for (shard, part) in self.ids().zip(parts).filter(|(_, part)| !part.is_empty()) {
            self.hand_over(shard, part, home);
        }
    }

    fn hand_over(self: &Arc<Self>, to: ShardId, part: Vec<Arrival>, home: ShardId) {
        let shard = self.shard(to);
        let mut queue = shard.queue();
        if queue.is_empty() && (part.len() <= FEW || to == home) {
            drop(queue);
            return self.take(to, part);
        }
        for arrival in part {
            while queue.len() >= QUEUE {
                drop(queue);
                self.work_off(to);
                queue = shard.queue();
            }
            queue.push_back(arrival);
        }
        drop(queue);
        shard.filled.notify_one();
    }

    /// Handles what waits in a shard's queue, up to a batch; false where that was all.
    fn work_off(self: &Arc<Self>, id: ShardId) -> bool {
        self.enter(id, |core, now| {
            let mut queue = self.shard(id).queue();
            let batch: Vec<_> = (0..BATCH).map_while(|_| queue.pop_front()).collect();
            let more = !queue.is_empty();
            drop(queue);
            self.handle(core, now, batch);
            more
        })
    }

    fn take(self: &Arc<Self>, shard: ShardId, arrivals: impl IntoIterator<Item = Arrival>) {
        self.enter(shard, |core, now| self.handle(core, now, arrivals));
    }

    /// Gives messages to an engine; those that its guard did not keep away are shown to the observers.
    fn handle(&self, core: &mut Core, now: Instant, arrivals: impl IntoIterator<Item = Arrival>) {
        core.engine.note_queued(core.router.queued());
        for Arrival { flow, bytes, judged } in arrivals {
            let seen = (!self.observers.is_empty()).then(|| bytes.clone());
            core.engine.handle_judged(now, &flow, bytes, judged);
            if let Some(bytes) = seen.filter(|_| !core.engine.kept_away()) {
                self.record(Direction::In, &flow, &bytes);
            }
        }
    }

    /// Asks the shard of the dialog that an INVITE replaces, where that is another.
    fn judge(&self, shard: ShardId, message: &[u8]) -> Option<Judged> {
        if !self.replaces || !message.starts_with(b"INVITE ") {
            return None;
        }
        let value = std::str::from_utf8(glance::only(message, &[b"Replaces"], &self.limits)?).ok()?;
        let asked = Replaces::parse(String::from(value)).ok()?;
        let other = self.spread.of(asked.call_id().as_bytes());
        (other != shard).then(|| self.shard(other).lock().engine.judge_replaces(&asked))
    }

    /// An INVITE of `shard` was accepted: ends what it replaces in another.
    pub(super) fn replaced(self: &Arc<Self>, shard: ShardId, invite: &Request, by: &DialogId) {
        let asked = self.replaces.then(|| invite.headers.typed::<Replaces>().ok()).flatten();
        let other = asked.map(|asked| self.spread.of(asked.call_id().as_bytes()));
        if let Some(other) = other.filter(|other| *other != shard) {
            self.enter(other, |core, now| core.engine.replace(now, invite, by));
        }
    }

    /// Forgets what no shard has looked at.
    pub(super) fn clear_queues(&self) {
        self.shards.iter().for_each(|shard| shard.queue().clear());
    }
}

/// Works off a shard's queue until the endpoint stops.
pub(super) async fn work(shared: Arc<Shared>, id: ShardId) {
    loop {
        tokio::select! {
            () = shared.shard(id).filled.notified() => {}
            () = shared.stop.cancelled() => break,
        }
        while shared.work_off(id) {
            tokio::task::yield_now().await;
        }
    }
}
