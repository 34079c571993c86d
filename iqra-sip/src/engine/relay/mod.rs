//! Relaying a request: one target after the other, until one rings or answers (RFC 3261 §16.6 to §16.8, §16.10).
//!
//! In: a request outside a dialog that waits for the program, and its [`Plan`]. Out: a client transaction for each target, whose
//! responses go back by the server transaction ([`answers`]), and [`RelayEvent`]s. Requests inside dialogs pass without
//! the program ([`through`]); what both put into a request is in [`record`].
//!
//! A target is a list of hops (RFC 3263 §4.3), by its name where it has no other: a hop that is silent, unreachable or
//! answers 503 gives way to the next one, and only then the target to the next target. The same holds for the next hop
//! of a request inside a dialog. A 482 is a 503 here: two targets may have to pass one proxy, which takes the second copy
//! for a merged request (RFC 3261 §8.2.2.2), so it is the end of that way and of no other.
//!
//! An INVITE has a caller who hears it ring and may cancel. Any other request has neither: its caller waits for one final
//! response, for 64*T1 and no longer, so the last hop of the last target has all of that time, and where it passes in
//! silence nothing is answered (RFC 4320 §4).

mod answers;
mod record;
mod through;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

pub(in crate::engine) use through::Passage;

use super::Engine;
use super::event::{ClientTx, EngineError, Event, Reply, ServerTx};
use super::flow::{Hop, Owner};
use super::lookup::{Asker, Lookup};
use super::outbound::Purpose;
use super::target::Way;
use crate::fault::Fault;
use crate::message::{HeaderName, Headers, Method, Request, Response, StatusCode};
use crate::observe::capsule::{Command, Input};
use crate::roles::relay::{AttemptFailure, Plan, RelayEvent, RelayTimings, Target, pass};
use crate::transaction::timer::{Clocks, Timer};

/// All requests that are being relayed, by their server transaction, until their final response.
#[derive(Default)]
pub(super) struct Relays {
    by_server: HashMap<u64, Relay>,
    /// This run of this proxy: connection numbers begin anew with each.
    incarnation: u32,
}

/// One request on its way through.
struct Relay {
    kind: Kind,
    /// The targets that are left.
    targets: VecDeque<Target>,
    record_route: bool,
    follow_routes: bool,
    timings: RelayTimings,
    /// The request as it goes on, but for what each hop gets of us.
    onward: Option<Arc<Request>>,
    /// The hops of the current target that are left.
    hops: VecDeque<Hop>,
    /// The client transaction that is waited for.
    current: Option<u64>,
    attempt: u32,
    /// How many copies of it have left.
    copies: u32,
    /// A 100 came from the current target.
    trying: bool,
    /// A response from 101 to 199 was forwarded.
    rang: bool,
    cancelled: bool,
    /// The flow of the last target was gone.
    flow_gone: bool,
    /// The best of what the targets that were given up came to; without a response where none came.
    best: Option<(Worth, Option<Arc<Response>>)>,
    clocks: Clocks,
}

/// What is relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An INVITE outside a dialog, whose way the program follows.
    Call,
    /// Any other request outside a dialog, which the program follows too.
    Request,
    /// A request inside a dialog.
    Within {
        /// It went out by the connection that its peer opened.
        pinned: bool,
    },
}

impl Kind {
    /// Whether the program follows it.
    fn is_followed(self) -> bool {
        !matches!(self, Kind::Within { .. })
    }
}

impl Relays {
    pub(super) fn new(incarnation: u32) -> Self {
        Self { by_server: HashMap::new(), incarnation }
    }

    pub(super) fn incarnation(&self) -> u32 {
        self.incarnation
    }

    fn get_mut(&mut self, id: u64) -> Option<&mut Relay> {
        self.by_server.get_mut(&id)
    }

    pub(super) fn clear(&mut self) {
        self.by_server.clear();
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        self.by_server.contains_key(&id)
    }
}

impl Relay {
    fn new(kind: Kind, plan: Plan) -> Self {
        Self {
            kind,
            targets: plan.targets.into(),
            record_route: plan.record_route,
            follow_routes: plan.follow_routes,
            timings: plan.timings,
            onward: None,
            hops: VecDeque::new(),
            current: None,
            attempt: 0,
            copies: 0,
            trying: false,
            rang: false,
            cancelled: false,
            flow_gone: false,
            best: None,
            clocks: Clocks::default(),
        }
    }

    /// Keeps the best of what became of the targets that were given up (RFC 3261 §16.7 step 6). Silence counts as a 408
    /// (§16.6 step 7), but for a request other than INVITE, which no 408 may answer (RFC 4320 §4.2); a failed transport
    /// counts as a 503 (§16.9). A 482 that follows an earlier copy of ours is not one of them: the two met at a hop that
    /// both targets have, which says nothing of either.
    fn note(&mut self, failure: &AttemptFailure) {
        let (new, response) = match failure {
            AttemptFailure::Refused(response) => (worth(response.status), Some(response)),
            AttemptFailure::Silent | AttemptFailure::Stalled if self.kind == Kind::Call => {
                (Worth::Silence, None)
            }
            AttemptFailure::Unreachable => (Worth::Unavailable, None),
            _ => return,
        };
        let merged = new == Worth::Loop && self.copies > 1;
        let better = self.best.as_ref().is_none_or(|(known, _)| *known < Worth::Answer && *known <= new);
        if better && !merged {
            self.best = Some((new, response.cloned()));
        }
    }

    /// What the caller hears in our own words where no response came.
    fn verdict(&self) -> StatusCode {
        match self.best {
            _ if self.flow_gone => StatusCode::FLOW_FAILED,
            Some((Worth::Silence, _)) => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What the end of a target that was given up is worth to the caller, the least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// 482: this way does not lead to the target.
    Loop,
    /// 503: it takes nothing now.
    Unavailable,
    /// 408: it says nothing. Who hears a 503 asks the next proxy of the pool for the same silent target (RFC 3263 §4.3).
    Silence,
    /// Any other: it was asked.
    Answer,
}

fn worth(status: StatusCode) -> Worth {
    match status {
        StatusCode::LOOP_DETECTED => Worth::Loop,
        StatusCode::SERVICE_UNAVAILABLE => Worth::Unavailable,
        _ => Worth::Answer,
    }
}

impl Engine {
    /// Forwards a request outside a dialog to the first target of a plan. What becomes of it comes as [`Event::Relay`];
    /// one that may pass no proxy, its hops spent or an extension asked of us that we lack, is refused at once.
    ///
    /// # Errors
    /// [`EngineError::TransactionOver`] when it was answered or cancelled; [`EngineError::Misuse`] for a request inside a
    /// dialog, without targets, with one that takes off what no request can be without
    /// ([`Target::without`]), or where [`EngineConfig::relay`](crate::EngineConfig::relay) is not set.
    pub fn relay(&mut self, now: Instant, tx: ServerTx, mut plan: Plan) -> Result<(), EngineError> {
        self.record(Some(now), || Input::command(Command::Relay(tx, plan.clone())));
        let server = self.servers.get(tx.0).ok_or(EngineError::TransactionOver)?;
        let request = server.request.clone().ok_or(EngineError::TransactionOver)?;
        let outside = server.dialog.is_none() && self.to_tag(&request).is_none();
        let fits = outside && !self.relays.contains(tx.0) && self.config.relay.is_some();
        if !fits || plan.targets.is_empty() {
            let need =
                "relay takes a request outside a dialog, a plan with targets and the engine's relay settings";
            return Err(EngineError::Misuse(need));
        }
        plan.targets.iter().try_for_each(check_target)?;
        if let Err(refusal) = pass::check_passage(&request.headers) {
            let refused = Self::stand_in(&request, refusal.status);
            self.answer(now, tx.0, *refusal);
            self.tell(tx.0, RelayEvent::Refused(refused));
            return Ok(());
        }
        let kind = if request.method == Method::Invite { Kind::Call } else { Kind::Request };
        let first = plan.targets.remove(0);
        self.relays.by_server.insert(tx.0, Relay::new(kind, plan));
        self.attempt(now, tx.0, &first);
        Ok(())
    }

    /// Goes on with this target; one that is still being tried is given up.
    ///
    /// # Errors
    /// [`EngineError::TransactionOver`] after the final response, a CANCEL, or once a target has rung;
    /// [`EngineError::Misuse`] for a target that takes off what no request can be without.
    pub fn relay_to(&mut self, now: Instant, tx: ServerTx, target: &Target) -> Result<(), EngineError> {
        self.record(Some(now), || Input::command(Command::RelayTo(tx, target.clone())));
        check_target(target)?;
        let relay = self.followed(tx)?;
        if relay.rang || relay.cancelled {
            return Err(EngineError::TransactionOver);
        }
        self.attempt(now, tx.0, target);
        Ok(())
    }

    /// Tries no further target: the best response so far goes to the caller. Where a target of an INVITE was silent, and
    /// none answered anything but 482 and 503, that is a 408; where there was no way to any, 503; where the flow of the
    /// last target was gone, 430 (RFC 5626 §5.3). A 503 goes without Retry-After, which would keep the caller away from
    /// this proxy (RFC 3261 §16.7 step 6, §21.5.4).
    ///
    /// # Errors
    /// [`EngineError::TransactionOver`] after the final response.
    pub fn relay_best(&mut self, now: Instant, tx: ServerTx) -> Result<(), EngineError> {
        self.record(Some(now), || Input::command(Command::RelayBest(tx)));
        let status = self.followed(tx)?.verdict();
        self.finish(now, tx.0, None, status);
        Ok(())
    }

    /// Answers the caller at once and cancels the target that is being tried: 487 for a call that was cancelled, 503
    /// for one whose target died. No event follows; a 2xx that comes all the same is forwarded.
    ///
    /// # Errors
    /// [`EngineError::TransactionOver`] after the final response; [`EngineError::Misuse`] for a status below 300.
    pub fn give_up(&mut self, now: Instant, tx: ServerTx, reply: Reply) -> Result<(), EngineError> {
        self.record(Some(now), || Input::command(Command::GiveUp(tx, reply.clone())));
        if reply.status.code() < 300 {
            return Err(EngineError::Misuse("give_up takes a status of 300 or more"));
        }
        self.followed(tx)?;
        self.end_relay(now, tx.0);
        self.answer(now, tx.0, reply);
        Ok(())
    }

    /// Names the pool's other proxies anew, as [`RelayConfig::peers`](crate::roles::relay::RelayConfig::peers).
    pub fn set_relay_peers(&mut self, peers: BTreeMap<String, Hop>) {
        if let Some(relay) = &mut self.config.relay {
            relay.peers = peers;
        }
    }

    fn followed(&mut self, tx: ServerTx) -> Result<&mut Relay, EngineError> {
        let relay = self.relays.get_mut(tx.0).filter(|relay| relay.kind.is_followed());
        relay.ok_or(EngineError::TransactionOver)
    }

    fn tell(&mut self, id: u64, event: RelayEvent) {
        self.events.push_back(Event::Relay { tx: ServerTx(id), event });
    }

    /// Begins with a target.
    fn attempt(&mut self, now: Instant, id: u64, target: &Target) {
        self.abandon(now, id);
        let Some(relay) = self.relays.get_mut(id) else { return };
        relay.attempt += 1;
        (relay.onward, relay.hops) = (None, VecDeque::new());
        let (attempt, follow_routes) = (relay.attempt, relay.follow_routes);
        let opened = self.open_target(id, target, follow_routes).and_then(|onward| {
            let found = self.take_hops(now, id, onward, target.hops.clone());
            found.or_else(|error| self.ask_for_target(now, id, error))
        });
        if let Err(error) = opened {
            tracing::debug!(%error, attempt, "no way to a target");
            self.target_failed(now, id, AttemptFailure::Unreachable);
        }
    }

    /// The request as it goes to a target (RFC 3261 §16.6). Its way is the target's: Routes that are not ours stay behind
    /// unless the plan follows them, as nothing shows who wrote them (§26.1).
    fn open_target(
        &self,
        id: u64,
        target: &Target,
        follow_routes: bool,
    ) -> Result<Arc<Request>, EngineError> {
        let server = self.servers.get(id).ok_or(EngineError::TransactionOver)?;
        let received = server.request.clone().ok_or(EngineError::TransactionOver)?;
        let mut request = (*received).clone();
        self.take_own_routes(&mut request);
        if !follow_routes && request.headers.contains(HeaderName::ROUTE) {
            tracing::debug!("a caller's Route is left out: Plan::follow_routes would follow it");
            request.headers.remove(HeaderName::ROUTE);
        }
        let hops =
            pass::next_max_forwards(&request.headers).map_err(|_| EngineError::Header("Max-Forwards"))?;
        request.headers.set(HeaderName::MAX_FORWARDS, hops.to_string());
        pass::aim(&mut request, target);
        Ok(Arc::new(request))
    }

    /// Sends a request to the first of these hops that there is a way to, and keeps the others.
    fn take_hops(
        &mut self,
        now: Instant,
        id: u64,
        onward: Arc<Request>,
        hops: Vec<Hop>,
    ) -> Result<(), EngineError> {
        let found = self.ways_to(now, hops, &onward.headers, &onward.uri);
        let Some(relay) = self.relays.get_mut(id) else { return Ok(()) };
        relay.onward = Some(onward);
        let (way, hops) = found?;
        relay.hops = hops;
        let attempt = relay.attempt;
        self.send_on(now, id, way)?;
        if self.relays.get_mut(id).is_some_and(|relay| relay.kind.is_followed()) {
            self.tell(id, RelayEvent::Trying { attempt });
        }
        Ok(())
    }

    /// A target's name has to be looked up. Its time runs meanwhile.
    fn ask_for_target(&mut self, now: Instant, id: u64, error: EngineError) -> Result<(), EngineError> {
        let Some(relay) = self.relays.by_server.get_mut(&id) else { return Ok(()) };
        let Some(onward) = relay.onward.as_ref().filter(|_| matches!(error, EngineError::Unresolved(_)))
        else {
            return Err(error);
        };
        let (uri, attempt) = (pass::next_uri(onward), relay.attempt);
        let lookup = Lookup::of_request(onward, uri, Asker::Target { server: id, attempt });
        self.timers.start_for(now, Owner::Relay(id), &mut relay.clocks, Timer::Attempt, relay.timings.silent);
        self.ask(lookup);
        Ok(())
    }

    /// The hops of a target; none where nobody knows them.
    pub(super) fn target_found(&mut self, now: Instant, id: u64, attempt: u32, hops: Vec<Hop>) {
        let Some(relay) = self.relays.by_server.get_mut(&id) else { return };
        let waits = relay.attempt == attempt && relay.current.is_none() && relay.clocks.runs();
        let Some(onward) = relay.onward.clone().filter(|_| waits) else { return };
        self.timers.forget(Owner::Relay(id), &mut relay.clocks);
        if hops.is_empty() || self.take_hops(now, id, onward, hops).is_err() {
            self.target_failed(now, id, AttemptFailure::Unreachable);
        }
    }

    /// Goes on with the next hop of the same target; false where there is none.
    fn next_hop(&mut self, now: Instant, id: u64) -> bool {
        self.abandon(now, id);
        if self.has(Fault::HopsForgotten) {
            return false;
        }
        loop {
            let Some(relay) = self.relays.get_mut(id) else { return false };
            let Some((onward, hop)) = relay.onward.clone().zip(relay.hops.pop_front()) else { return false };
            let way = self.way_to(Some(hop), &onward.headers, &onward.uri);
            if way.is_ok_and(|way| self.send_on(now, id, way).is_ok()) {
                return true;
            }
        }
    }

    /// Opens the client transaction of a hop, where there is room: requests inside dialogs have the reserve. An INVITE of a
    /// call has its time from now; any other request that of one hop of several, and at the last one all of Timer B or F.
    fn send_on(&mut self, now: Instant, id: u64, way: Way) -> Result<(), EngineError> {
        let within = self.relays.get_mut(id).is_some_and(|relay| !relay.kind.is_followed());
        if self.has_no_room(within) {
            return Err(EngineError::Full("max_transactions"));
        }
        let server = self.servers.get(id).ok_or(EngineError::TransactionOver)?;
        let (upstream, received) = (server.path().flow, server.request.clone());
        let received = received.ok_or(EngineError::TransactionOver)?;
        let relay = self.relays.by_server.get(&id).ok_or(EngineError::TransactionOver)?;
        let onward = relay.onward.clone().ok_or(EngineError::TransactionOver)?;
        let stays = match relay.kind {
            Kind::Within { .. } => self.stays_for_subscriber(&received, &onward),
            Kind::Call | Kind::Request => relay.record_route && record::forms_dialog(&onward.method),
        };
        let recorded = stays.then_some(upstream);
        let branch = self.relay_branch(&received);
        let (request, way) = self.dress(&onward, way, &branch, recorded.as_ref());
        let client = self.start_client(now, request, branch, way, None, Purpose::Relay(id));
        let Some(relay) = self.relays.by_server.get_mut(&id) else { return Ok(()) };
        (relay.current, relay.trying, relay.copies) = (Some(client), false, relay.copies.saturating_add(1));
        let length = match relay.kind {
            Kind::Call => Some(relay.timings.silent),
            _ if relay.hops.is_empty() && relay.targets.is_empty() => None,
            Kind::Request => Some(relay.timings.silent),
            Kind::Within { .. } => Some(self.config.timings.target_limit),
        };
        if let Some(length) = length {
            self.timers.start_for(now, Owner::Relay(id), &mut relay.clocks, Timer::Attempt, length);
        }
        Ok(())
    }

    /// The current target is out: its answer does not count any more, unless it is a 2xx.
    fn abandon(&mut self, now: Instant, id: u64) {
        let Some(relay) = self.relays.by_server.get_mut(&id) else { return };
        self.timers.forget(Owner::Relay(id), &mut relay.clocks);
        let Some(client) = relay.current.take() else { return };
        if self.clients.get(client).is_some_and(|client| client.invite.is_none() && client.is_unanswered()) {
            return self.close_client(client);
        }
        self.hush(client);
        if self.has(Fault::FailoverNotCancelled) {
            return;
        }
        // Where it has its final response there is nothing to cancel.
        let _ = self.call_off(now, ClientTx(client), Headers::new());
    }

    /// A target is out, unless it has another hop: the program says how to go on. After a CANCEL there is only one way.
    fn target_failed(&mut self, now: Instant, id: u64, failure: AttemptFailure) {
        self.abandon(now, id);
        let Some(relay) = self.relays.get_mut(id) else { return };
        if relay.cancelled {
            return self.finish(now, id, None, StatusCode::REQUEST_TERMINATED);
        }
        relay.flow_gone = matches!(failure, AttemptFailure::FlowGone);
        relay.note(&failure);
        let alive = match &failure {
            AttemptFailure::Refused(response) => worth(response.status) == Worth::Answer,
            AttemptFailure::Stalled => true,
            AttemptFailure::Silent | AttemptFailure::Unreachable | AttemptFailure::FlowGone => false,
        };
        if !alive && self.next_hop(now, id) {
            return;
        }
        let Some(relay) = self.relays.get_mut(id) else { return };
        let (attempt, target) = (relay.attempt, relay.targets.pop_front().map(Box::new));
        self.tell(id, RelayEvent::NextTarget { attempt, failure, target });
    }

    /// Nothing came in time.
    pub(super) fn relay_fired(&mut self, now: Instant, id: u64, timer: Timer) {
        let Some(relay) = self.relays.get_mut(id) else { return };
        relay.clocks.fire(timer);
        let (kind, current) = (relay.kind, relay.current);
        let failure = match (current, relay.trying) {
            (None, _) => AttemptFailure::Unreachable,
            (Some(_), true) => AttemptFailure::Stalled,
            (Some(_), false) => AttemptFailure::Silent,
        };
        if let Some(silent) = current.filter(|_| matches!(failure, AttemptFailure::Silent)) {
            self.avoid_silent(now, silent);
        }
        match kind {
            Kind::Call | Kind::Request => self.target_failed(now, id, failure),
            Kind::Within { .. } if matches!(failure, AttemptFailure::Stalled) => {}
            Kind::Within { .. } if self.next_hop(now, id) => {}
            Kind::Within { .. } if self.is_not_invite(id) => self.drop_relayed(now, id),
            Kind::Within { .. } => self.finish(now, id, None, StatusCode::REQUEST_TIMEOUT),
        }
    }

    /// The caller cancelled; its CANCEL has been answered (RFC 3261 §16.10), and its Reason goes on (RFC 3326 §2).
    pub(super) fn relay_cancelled(&mut self, now: Instant, id: u64, cancel: &Arc<Request>) {
        let Some(relay) = self.relays.get_mut(id) else { return };
        let first = !std::mem::replace(&mut relay.cancelled, true);
        let (kind, current) = (relay.kind, relay.current);
        if first && kind == Kind::Call {
            self.tell(id, RelayEvent::Cancelled(cancel.clone()));
        }
        let mut why = Headers::new();
        why.copy_from(&cancel.headers, &[HeaderName::REASON]);
        match current {
            // A final response on its way here ends it as well.
            Some(client) => drop(self.call_off(now, ClientTx(client), why)),
            None => self.finish(now, id, None, StatusCode::REQUEST_TERMINATED),
        }
    }

    /// The caller's transport failed: there is nobody to answer. False where nothing was relayed.
    pub(super) fn relay_orphaned(&mut self, now: Instant, id: u64) -> bool {
        let Some(relay) = self.end_relay(now, id) else { return false };
        if relay.kind.is_followed() {
            self.tell(id, RelayEvent::Ended);
        }
        true
    }

    /// Forgets the relaying of a request; its transactions go on by themselves.
    fn end_relay(&mut self, now: Instant, id: u64) -> Option<Relay> {
        self.abandon(now, id);
        self.relays.by_server.remove(&id)
    }
}

fn check_target(target: &Target) -> Result<(), EngineError> {
    const NEED: &str = "Via, From, To, Call-ID, CSeq and Max-Forwards cannot be among Target::without";
    pass::is_whole(target).then_some(()).ok_or(EngineError::Misuse(NEED))
}
