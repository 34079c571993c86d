//! Client transactions: the table of them, and carrying out what their machines ask (RFC 3261 §17.1; RFC 6026 §7.2).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Engine;
use super::challenged::Proof;
use super::flow::{Flow, Hop, Owner, Transmit};
use super::outbound::Purpose;
use super::target::Way;
use crate::fault::Fault;
use crate::guard::glance::call_id;
use crate::message::{HeaderName, Headers, Message, Method, Request, Response, StatusCode};
use crate::observe::{Side, TransactionChange, TransactionState, TransactionStep};
use crate::transaction::key::ClientKey;
use crate::transaction::timer::{Clocks, Timer};
use crate::transaction::{Action, Step, client, invite_client};

/// One client transaction.
pub(crate) struct Client {
    machine: Machine,
    key: ClientKey,
    pub(super) flow: Flow,
    fallback: Option<Flow>,
    /// The domain that the peer has to prove.
    pub(super) name: Option<Arc<str>>,
    pub(super) wire: Bytes,
    pub(super) clocks: Clocks,
    /// The INVITE, from which ACK and CANCEL are made.
    pub(super) invite: Option<Arc<Request>>,
    /// The dialog that the request is in.
    pub(super) dialog: Option<u64>,
    pub(super) purpose: Purpose,
    pub(super) cancel: Cancel,
    /// The early dialogs that its responses made: To tag and dialog.
    pub(super) early: Vec<(Box<str>, u64)>,
    /// The program answers the offer of the 2xx, or of a reliable provisional response.
    pub(super) delayed_offer: bool,
    /// The program has the final event.
    pub(super) settled: bool,
    /// Further headers of the CANCEL.
    pub(super) cancel_headers: Headers,
    pub(super) proof: Proof,
    /// One for each branch that answered 2xx: its To tag and the ACK to repeat, where it was sent.
    pub(super) forks: Vec<(Box<str>, Option<Transmit>)>,
    /// The dialog whose ACK waits for the program.
    pub(super) ack_due: Option<u64>,
    /// Where it goes next when this target fails (RFC 3263 §4.3).
    pub(super) hops: VecDeque<Hop>,
    /// How often its session interval was lengthened for a 422.
    pub(super) lengthened: u8,
}

impl Client {
    fn change(&self, id: u64, step: TransactionStep, status: Option<StatusCode>) -> TransactionChange {
        TransactionChange {
            id,
            side: Side::Client,
            method: self.key.method.clone(),
            step,
            call_id: call_id(&self.wire).map(Arc::from),
            branch: Some(Arc::from(&*self.key.branch)),
            flow: self.flow,
            status,
        }
    }
}

/// How far a wish to cancel has come. A CANCEL may not leave before a provisional response (RFC 3261 §9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancel {
    No,
    Wanted,
    Sent,
}

/// Which of the two machines it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Machine {
    Invite(invite_client::State),
    Other(client::State),
}

/// What happens to a transaction, whichever its machine.
#[derive(Clone, Copy)]
pub(super) enum Cause<'a> {
    Response(&'a Arc<Response>),
    CancelSent,
    Fired(Timer),
    TransportError,
}

impl Machine {
    fn step(self, cause: Cause<'_>) -> Step<Machine> {
        match self {
            Machine::Invite(state) => {
                let (state, actions) = invite_client::step(state, invite_input(cause))?;
                Some((Machine::Invite(state), actions))
            }
            Machine::Other(state) => {
                let (state, actions) = client::step(state, other_input(cause)?)?;
                Some((Machine::Other(state), actions))
            }
        }
    }

    fn is_terminated(self) -> bool {
        matches!(
            self,
            Machine::Invite(invite_client::State::Terminated) | Machine::Other(client::State::Terminated)
        )
    }

    fn state(self) -> TransactionState {
        use TransactionState::{Accepted, Calling, Completed, Proceeding, Terminated, Trying};
        use {client::State as Other, invite_client::State as Invite};
        match self {
            Machine::Invite(Invite::Calling) => Calling,
            Machine::Other(Other::Trying) => Trying,
            Machine::Invite(Invite::Proceeding) | Machine::Other(Other::Proceeding) => Proceeding,
            Machine::Invite(Invite::Completed) | Machine::Other(Other::Completed) => Completed,
            Machine::Invite(Invite::Accepted) => Accepted,
            Machine::Invite(Invite::Terminated) | Machine::Other(Other::Terminated) => Terminated,
        }
    }

    /// True while no response has come at all.
    fn is_unanswered(self) -> bool {
        matches!(self, Machine::Invite(invite_client::State::Calling) | Machine::Other(client::State::Trying))
    }

    fn is_quiet(self) -> bool {
        use invite_client::State as Invite;
        matches!(
            self,
            Machine::Invite(Invite::Completed | Invite::Accepted) | Machine::Other(client::State::Completed)
        )
    }
}

fn invite_input(cause: Cause<'_>) -> invite_client::Input {
    use invite_client::Input;
    match cause {
        Cause::Response(response) if response.status.is_provisional() => Input::Provisional,
        Cause::Response(response) if response.status.is_success() => Input::Success,
        Cause::Response(_) => Input::Failure,
        Cause::CancelSent => Input::CancelSent,
        Cause::Fired(timer) => Input::Fired(timer),
        Cause::TransportError => Input::TransportError,
    }
}

fn other_input(cause: Cause<'_>) -> Option<client::Input> {
    use client::Input;
    Some(match cause {
        Cause::Response(response) if response.status.is_provisional() => Input::Provisional,
        Cause::Response(_) => Input::Final,
        Cause::CancelSent => return None,
        Cause::Fired(timer) => Input::Fired(timer),
        Cause::TransportError => Input::TransportError,
    })
}

/// All client transactions, by number and by key.
#[derive(Default)]
pub(super) struct Clients {
    by_id: HashMap<u64, Client>,
    by_key: HashMap<ClientKey, u64>,
}

impl Clients {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn are_quiet(&self) -> bool {
        self.by_id.values().all(|client| client.machine.is_quiet() || client.is_given_up())
    }

    pub(super) fn find(&self, key: &ClientKey) -> Option<u64> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, id: u64) -> Option<&Client> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Client> {
        self.by_id.get_mut(&id)
    }
}

impl Client {
    /// True while an INVITE has no response at all: a CANCEL has to wait.
    pub(super) fn is_calling(&self) -> bool {
        self.machine == Machine::Invite(invite_client::State::Calling)
    }

    /// True while an INVITE has provisional responses only.
    pub(super) fn is_ringing(&self) -> bool {
        self.machine == Machine::Invite(invite_client::State::Proceeding)
    }

    /// True while no response has come at all.
    pub(super) fn is_unanswered(&self) -> bool {
        self.machine.is_unanswered()
    }

    /// True for the INVITE to a target that was silent, kept in case it answers after all.
    fn is_given_up(&self) -> bool {
        self.is_calling() && self.purpose == Purpose::Engine && self.cancel == Cancel::Wanted
    }

    /// True for a request of the program outside dialogs.
    pub(super) fn is_for_program(&self) -> bool {
        self.purpose == Purpose::Program && self.dialog.is_none()
    }

    pub(super) fn branch(&self) -> &str {
        &self.key.branch
    }

    pub(super) fn method(&self) -> &Method {
        &self.key.method
    }
}

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
        let (flow, name) = (client.fallback.take()?, client.name.clone());
        self.send_by(now, id, Way { flow, fallback: None, name, pinned: false, lookup: None })
    }

    /// Sends an unanswered request by another way. The Via names the transport that carries it, where ACK and CANCEL
    /// follow, and on a datagram transport it is repeated (RFC 3261 §18.1.1).
    fn send_by(&mut self, now: Instant, id: u64, way: Way) -> Option<()> {
        let client = self.clients.get(id)?;
        let Ok(Message::Request(mut request)) = Message::parse(client.wire.clone()) else { return None };
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
