//! Client transactions: carrying out what their machines ask, and by which way they leave (RFC 3261 §17.1; RFC 6026 §7.2).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Engine;
use super::challenged::Proof;
use super::client_table::{Cancel, Cause, Client, Machine};
use super::flow::{Owner, Transmit};
use super::outbound::Purpose;
use super::target::Way;
use crate::fault::Fault;
use crate::message::header::Expires;
use crate::message::{HeaderName, Headers, Message, Method, Request, Response, StatusCode};
use crate::observe::TransactionStep;
use crate::transaction::key::ClientKey;
use crate::transaction::timer::{Clocks, Timer};
use crate::transaction::{Action, client, invite_client};

impl Engine {
    /// Signs a request with a branch of its own, sends it and starts its transaction.
    pub(super) fn open_client(
        &mut self,
        now: Instant,
        request: Request,
        way: Way,
        dialog: Option<u64>,
        purpose: Purpose,
    ) -> u64 {
        let (id, proof) = (self.next_serial(), self.proof_within(dialog));
        self.open_client_as(now, id, request, way, dialog, purpose, proof);
        id
    }

    /// The same under a number that is given, with credentials that are.
    #[allow(clippy::too_many_arguments)] // What a transaction is made of.
    pub(super) fn open_client_as(
        &mut self,
        now: Instant,
        id: u64,
        mut request: Request,
        way: Way,
        dialog: Option<u64>,
        purpose: Purpose,
        proof: Proof,
    ) {
        self.authorize(&mut request, &way.flow, &proof);
        let branch = self.random.branch();
        let (mut signed, mut way) = (request.clone(), way);
        self.complete(&mut signed.headers);
        self.sign(&mut signed, &way.flow, &branch);
        let first = way.flow;
        way = self.widen(way, signed.to_bytes().len());
        if way.flow != first {
            signed = request;
            self.complete(&mut signed.headers);
            self.sign(&mut signed, &way.flow, &branch);
        }
        self.start_client_as(now, id, signed, branch, way, dialog, purpose);
        if let Some(client) = self.clients.get_mut(id) {
            client.proof = proof;
        }
    }

    /// Sends a request that carries its Via and starts its transaction; a CANCEL takes the branch of its INVITE.
    pub(super) fn start_client(
        &mut self,
        now: Instant,
        request: Request,
        branch: String,
        way: Way,
        dialog: Option<u64>,
        purpose: Purpose,
    ) -> u64 {
        let id = self.next_serial();
        self.start_client_as(now, id, request, branch, way, dialog, purpose);
        id
    }

    #[allow(clippy::too_many_arguments)] // What a transaction is made of.
    fn start_client_as(
        &mut self,
        now: Instant,
        id: u64,
        request: Request,
        branch: String,
        way: Way,
        dialog: Option<u64>,
        purpose: Purpose,
    ) {
        let invite = request.method == Method::Invite;
        let machine = match invite {
            true => Machine::Invite(invite_client::State::Calling),
            false => Machine::Other(client::State::Trying),
        };
        let key = ClientKey { branch: branch.into(), method: request.method.clone() };
        let lapses = (invite && purpose == Purpose::Program).then(|| lapse_of(now, &request)).flatten();
        let mut client = Client {
            machine,
            key: key.clone(),
            flow: way.flow,
            fallback: way.fallback,
            name: way.name,
            wire: request.to_bytes(),
            clocks: Clocks::default(),
            invite: invite.then(|| Arc::new(request)),
            dialog,
            outlived: None,
            purpose,
            cancel: Cancel::No,
            early: Vec::new(),
            delayed_offer: false,
            settled: false,
            cancel_headers: Headers::new(),
            proof: Proof::default(),
            forks: Vec::new(),
            ack_due: None,
            hops: VecDeque::new(),
            lengthened: 0,
            lapses,
        };
        let end = if invite { Timer::B } else { Timer::F };
        self.timers.start(now, Owner::Client(id), &mut client.clocks, end, false);
        let step = TransactionStep::Created(machine.state());
        self.watch.transaction(|| client.change(id, step, None));
        self.clients.by_key.insert(key, id);
        self.clients.by_id.insert(id, client);
        match dialog.filter(|&serial| way.lookup.is_some() || self.waits_for_name(serial)) {
            Some(serial) => self.hold_request(now, serial, id, way.lookup),
            None => self.send_first(now, id),
        }
    }

    /// Sends a request for the first time by its flow, to be repeated on a datagram transport.
    fn send_first(&mut self, now: Instant, id: u64) {
        let Some(client) = self.clients.by_id.get_mut(&id) else { return };
        let reliable = client.flow.transport.is_reliable();
        let repeat = if client.invite.is_some() { Timer::A } else { Timer::E };
        self.timers.start(now, Owner::Client(id), &mut client.clocks, repeat, reliable);
        self.send_request(id);
    }

    /// Sends a request that waited for its way; without one by that of before.
    pub(super) fn send_held(&mut self, now: Instant, id: u64, way: Option<Way>) {
        let Some(client) = self.clients.get(id).filter(|client| client.is_unanswered()) else { return };
        let (length, before) = (client.wire.len(), client.flow);
        match way.map(|way| self.widen(way, length)).filter(|way| way.flow != before) {
            Some(way) => drop(self.send_by(now, id, way)),
            None => self.send_first(now, id),
        }
    }

    fn send_request(&mut self, id: u64) {
        let Some(client) = self.clients.get(id) else { return };
        let (flow, name, bytes) = (client.flow, client.name.clone(), client.wire.clone());
        let owner = Some(Owner::Client(id));
        self.transmits.push_back(Transmit { flow, fallback: None, name, bytes, owner });
    }

    /// Steps a transaction and does what its machine asks.
    pub(super) fn step_client(&mut self, now: Instant, id: u64, cause: Cause<'_>) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let Some((next, actions)) = client.machine.step(cause) else { return };
        if client.machine != next {
            let step = TransactionStep::Moved(next.state());
            let status = if let Cause::Response(response) = cause { Some(response.status) } else { None };
            self.watch.transaction(|| client.change(id, step, status));
        }
        client.machine = next;
        for &action in actions {
            self.act_client(now, id, action, cause);
        }
        if next.is_terminated() {
            self.close_client(id);
        }
    }

    fn act_client(&mut self, now: Instant, id: u64, action: Action, cause: Cause<'_>) {
        if matches!(action, Action::Again(_)) && self.has(Fault::TimerNotRestarted) {
            return;
        }
        let Some(client) = self.clients.by_id.get_mut(&id) else { return };
        let (owner, reliable) = (Owner::Client(id), client.flow.transport.is_reliable());
        match (action, cause) {
            (Action::Send, _) => self.send_request(id),
            (Action::SendAck, Cause::Response(response)) => self.acknowledge_refusal(id, response),
            (Action::Deliver, Cause::Response(response)) => {
                if !self.target_unavailable(now, id, response) {
                    self.deliver_response(now, id, response);
                }
            }
            (Action::Start(Timer::Ring), _) => {
                let limit = self.config.timings.ring_limit;
                let length = client.lapses.map_or(limit, |at| limit.min(at.saturating_duration_since(now)));
                self.timers.start_for(now, owner, &mut client.clocks, Timer::Ring, length);
            }
            (Action::Start(timer), _) => self.timers.start(now, owner, &mut client.clocks, timer, reliable),
            (Action::Again(timer), _) => self.timers.again(now, owner, &mut client.clocks, timer, reliable),
            (Action::AgainAtT2(timer), _) => {
                self.timers.again_at_t2(now, owner, &mut client.clocks, timer, reliable);
            }
            (Action::Stop(timer), _) => self.timers.stop(owner, &mut client.clocks, timer),
            (Action::TimedOut, _) => self.unanswered(now, id, super::event::Failure::Timeout),
            (Action::TransportFailed, _) => self.unanswered(now, id, super::event::Failure::Transport),
            // Only responses are acknowledged and delivered; a 100 belongs to servers.
            (Action::SendAck | Action::Deliver | Action::SendTrying, _) => {}
        }
    }

    /// Gives a transaction that the layers above are done with another number: a finished one absorbs repeats to its
    /// end, one that nobody answered yet waits once more as long for what comes late.
    pub(super) fn move_client(&mut self, now: Instant, id: u64) {
        let Some(mut client) = self.clients.by_id.remove(&id) else { return };
        let fresh = self.next_serial();
        self.timers.forget(Owner::Client(id), &mut client.clocks);
        let absorb = match (client.invite.is_some(), client.is_unanswered()) {
            (true, true) => Timer::B,
            (true, false) => Timer::D,
            (false, _) => Timer::K,
        };
        let reliable = client.flow.transport.is_reliable();
        self.timers.start(now, Owner::Client(fresh), &mut client.clocks, absorb, reliable);
        let state = client.machine.state();
        self.watch.transaction(|| client.change(id, TransactionStep::Ended, None));
        self.watch.transaction(|| client.change(fresh, TransactionStep::Created(state), None));
        self.clients.by_key.insert(client.key.clone(), fresh);
        self.clients.by_id.insert(fresh, client);
    }

    pub(super) fn close_client(&mut self, id: u64) {
        if let Some(mut client) = self.clients.by_id.remove(&id) {
            self.clients.by_key.remove(&client.key);
            self.watch.transaction(|| client.change(id, TransactionStep::Ended, None));
            self.timers.forget(Owner::Client(id), &mut client.clocks);
            self.close_calling(&client.early);
        }
    }

    pub(super) fn client_fired(&mut self, now: Instant, id: u64, timer: Timer) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.clocks.fire(timer);
        match timer {
            Timer::B if self.has(Fault::InviteNeverTimesOut) => {}
            Timer::Ring => self.send_cancel(now, id),
            Timer::B | Timer::F | Timer::Hop if self.target_silent(now, id, timer) => {}
            Timer::M => {
                self.give_up_on_answer(now, id);
                self.step_client(now, id, Cause::Fired(timer));
            }
            _ => self.step_client(now, id, Cause::Fired(timer)),
        }
    }

    pub(super) fn client_unsent(&mut self, now: Instant, id: u64) {
        let unanswered = self.clients.get(id).is_some_and(Client::is_unanswered);
        if self.take_second_way(now, id).is_none() && !(unanswered && self.fail_over(now, id, false)) {
            self.step_client(now, id, Cause::TransportError);
        }
    }

    /// Sends an unanswered request by its second way.
    fn take_second_way(&mut self, now: Instant, id: u64) -> Option<()> {
        let client = self.clients.by_id.get_mut(&id).filter(|client| client.machine.is_unanswered())?;
        let flow = client.fallback.take()?;
        let way = Way { flow, ..client.way() };
        self.send_by(now, id, way)
    }

    /// Sends an unanswered request by another way. The Via names the transport that carries it, where ACK and CANCEL
    /// follow, and on a datagram transport it is repeated (RFC 3261 §18.1.1).
    fn send_by(&mut self, now: Instant, id: u64, way: Way) -> Option<()> {
        let client = self.clients.get(id)?;
        let (elsewhere, proof) = (client.flow.remote != way.flow.remote, client.proof.clone());
        let Ok(Message::Request(mut request)) = Message::parse_own(client.wire.clone()) else { return None };
        if elsewhere {
            self.authorize(&mut request, &way.flow, &proof);
        }
        let client = self.clients.get(id)?;
        request.headers.set_first(HeaderName::VIA, self.via(&way.flow, client.branch()).to_string());
        let client = self.clients.by_id.get_mut(&id)?;
        (client.flow, client.fallback, client.name) = (way.flow, way.fallback, way.name);
        client.wire = request.to_bytes();
        client.invite = client.invite.is_some().then(|| Arc::new(request));
        self.send_first(now, id);
        Some(())
    }

    /// Repeats an INVITE no more that nobody waits for; what it brings is still taken.
    pub(super) fn hush(&mut self, id: u64) {
        if let Some(client) = self.clients.by_id.get_mut(&id) {
            self.timers.stop(Owner::Client(id), &mut client.clocks, Timer::A);
        }
    }

    /// An INVITE rings: its limit begins anew, unless it is cancelled (RFC 3261 §16.7 step 2).
    pub(super) fn ring_anew(&mut self, now: Instant, id: u64) {
        let ringing = |client: &&mut Client| client.is_ringing() && client.cancel == Cancel::No;
        if let Some(client) = self.clients.by_id.get_mut(&id).filter(ringing) {
            self.timers.start(now, Owner::Client(id), &mut client.clocks, Timer::Ring, true);
        }
    }

    /// A response that we word ourselves, as if the peer had sent it.
    pub(super) fn stand_in(invite: &Request, status: StatusCode) -> Arc<Response> {
        Arc::new(Response::to_request(invite, status))
    }
}

/// When an INVITE that says how long it holds is over.
fn lapse_of(now: Instant, invite: &Request) -> Option<Instant> {
    let expires = invite.headers.typed::<Expires>().ok()?;
    now.checked_add(Duration::from_secs(expires.0.into()))
}
