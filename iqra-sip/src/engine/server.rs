//! Server transactions: the table of them, and carrying out what their machines ask (RFC 3261 §17.2; RFC 6026 §7.1).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Engine;
use super::dialogs::subscribes;
use super::event::{EngineError, Reply, ServerTx};
use super::flow::{Owner, Transmit};
use super::via::ReplyPath;
use super::wording::{set_to_tag, with_delay, word};
use crate::fault::Fault;
use crate::message::header::CallId;
use crate::message::{HeaderName, Method, Request, Response, StatusCode};
use crate::observe::capsule::{Command, Input};
use crate::observe::{DropReason, Side, TransactionChange, TransactionState, TransactionStep};
use crate::transaction::key::{MergeKey, ServerKey};
use crate::transaction::timer::{Clocks, Timer};
use crate::transaction::{Action, Step, invite_server, server};

/// One server transaction. After the final response only its octets are kept, for repeating it.
pub(crate) struct Server {
    machine: Machine,
    key: ServerKey,
    merge: Option<MergeKey>,
    path: ReplyPath,
    tag: Box<str>,
    came: Instant,
    /// The request, until its final response.
    pub(super) request: Option<Arc<Request>>,
    /// The newest response.
    wire: Option<Bytes>,
    /// The dialog that the request is in, or that its 2xx made.
    pub(super) dialog: Option<u64>,
    clocks: Clocks,
    /// Kept where somebody watches: its events name it after the request is gone.
    call_id: Option<Arc<str>>,
}

impl Server {
    fn change(&self, id: u64, step: TransactionStep, status: Option<StatusCode>) -> TransactionChange {
        TransactionChange {
            id,
            side: Side::Server,
            method: self.key.method().clone(),
            step,
            call_id: self.call_id.clone(),
            branch: self.key.branch().map(Arc::from),
            flow: self.path.flow,
            status,
        }
    }
}

/// Which of the two machines it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Machine {
    Invite(invite_server::State),
    Other(server::State),
}

/// What happens to a transaction, whichever its machine.
#[derive(Clone, Copy)]
pub(super) enum Cause {
    Request,
    Ack,
    Answer(StatusCode),
    Fired(Timer),
    TransportError,
}

impl Machine {
    fn step(self, cause: Cause) -> Step<Machine> {
        match self {
            Machine::Invite(state) => {
                let (state, actions) = invite_server::step(state, invite_input(cause))?;
                Some((Machine::Invite(state), actions))
            }
            Machine::Other(state) => {
                let (state, actions) = server::step(state, other_input(cause)?)?;
                Some((Machine::Other(state), actions))
            }
        }
    }

    fn is_terminated(self) -> bool {
        matches!(
            self,
            Machine::Invite(invite_server::State::Terminated) | Machine::Other(server::State::Terminated)
        )
    }

    fn state(self) -> TransactionState {
        use TransactionState::{Accepted, Completed, Confirmed, Proceeding, Terminated, Trying};
        use {invite_server::State as Invite, server::State as Other};
        match self {
            Machine::Other(Other::Trying) => Trying,
            Machine::Invite(Invite::Proceeding) | Machine::Other(Other::Proceeding) => Proceeding,
            Machine::Invite(Invite::Completed) | Machine::Other(Other::Completed) => Completed,
            Machine::Invite(Invite::Confirmed) => Confirmed,
            Machine::Invite(Invite::Accepted) => Accepted,
            Machine::Invite(Invite::Terminated) | Machine::Other(Other::Terminated) => Terminated,
        }
    }

    /// True once it only absorbs repeats.
    fn is_quiet(self) -> bool {
        use invite_server::State as Invite;
        matches!(
            self,
            Machine::Invite(Invite::Confirmed | Invite::Accepted) | Machine::Other(server::State::Completed)
        )
    }
}

fn invite_input(cause: Cause) -> invite_server::Input {
    use invite_server::Input;
    match cause {
        Cause::Request => Input::Invite,
        Cause::Ack => Input::Ack,
        Cause::Answer(status) if status.is_provisional() => Input::Provisional,
        Cause::Answer(status) if status.is_success() => Input::Success,
        Cause::Answer(_) => Input::Failure,
        Cause::Fired(timer) => Input::Fired(timer),
        Cause::TransportError => Input::TransportError,
    }
}

fn other_input(cause: Cause) -> Option<server::Input> {
    use server::Input;
    Some(match cause {
        Cause::Request => Input::Request,
        Cause::Ack => return None,
        Cause::Answer(status) if status.is_provisional() => Input::Provisional,
        Cause::Answer(_) => Input::Final,
        Cause::Fired(timer) => Input::Fired(timer),
        Cause::TransportError => Input::TransportError,
    })
}

/// All server transactions, by number, by key and by what makes a request a merged one.
#[derive(Default)]
pub(super) struct Servers {
    by_id: HashMap<u64, Server>,
    by_key: HashMap<ServerKey, u64>,
    /// Those of requests that a CANCEL may name though it changes nothing for them: INVITE and CANCEL aside.
    by_branch: HashMap<ServerKey, u64>,
    by_merge: HashMap<MergeKey, u64>,
}

impl Servers {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn are_quiet(&self) -> bool {
        self.by_id.values().all(|server| server.machine.is_quiet())
    }

    pub(super) fn find(&self, key: &ServerKey) -> Option<u64> {
        self.by_key.get(key).copied()
    }

    /// The transaction that a CANCEL is about, whatever its method (RFC 3261 §9.2).
    pub(super) fn cancelled_by(&self, cancel: &ServerKey) -> Option<u64> {
        self.find(&cancel.of_invite()).or_else(|| self.by_branch.get(cancel).copied())
    }

    pub(super) fn get(&self, id: u64) -> Option<&Server> {
        self.by_id.get(&id)
    }

    /// Answers a CANCEL with the To tag of its INVITE (RFC 3261 §9.2): a caller may take the tag of its dialog from there.
    pub(super) fn share_tag(&mut self, invite: u64, cancel: u64) {
        let Some(tag) = self.by_id.get(&invite).map(|server| server.tag.clone()) else { return };
        if let Some(cancel) = self.by_id.get_mut(&cancel) {
            cancel.tag = tag;
        }
    }

    /// True where the same request is being served along another path (RFC 3261 §8.2.2.2).
    pub(super) fn is_merged(&self, merge: &MergeKey) -> bool {
        self.by_merge.contains_key(merge)
    }

    /// Remembers a request outside dialogs by what a merged one would share with it.
    pub(super) fn remember_merge(&mut self, id: u64, merge: MergeKey) {
        if let Some(server) = self.by_id.get_mut(&id) {
            server.merge = Some(merge.clone());
            self.by_merge.insert(merge, id);
        }
    }

    pub(super) fn clocks(&mut self, id: u64) -> Option<&mut Clocks> {
        self.by_id.get_mut(&id).map(|server| &mut server.clocks)
    }

    pub(super) fn set_dialog(&mut self, id: u64, serial: u64) {
        if let Some(server) = self.by_id.get_mut(&id) {
            server.dialog = Some(serial);
        }
    }

    fn remove(&mut self, id: u64) -> Option<Server> {
        let server = self.by_id.remove(&id)?;
        self.by_key.remove(&server.key);
        if let Some(cancel) = server.key.of_cancel() {
            self.by_branch.remove(&cancel);
        }
        if let Some(merge) = &server.merge {
            self.by_merge.remove(merge);
        }
        Some(server)
    }
}

impl Server {
    pub(super) fn is_invite(&self) -> bool {
        matches!(self.machine, Machine::Invite(_))
    }

    /// True for an INVITE that waits for its final response.
    pub(super) fn is_pending_invite(&self) -> bool {
        self.machine == Machine::Invite(invite_server::State::Proceeding)
    }

    pub(super) fn wire(&self) -> Option<Bytes> {
        self.wire.clone()
    }

    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    pub(super) fn path(&self) -> ReplyPath {
        self.path
    }

    /// The response that a reply makes of the request, with our tag; a 100 repeats its Timestamp (RFC 3261 §8.2.6.1).
    fn word(&self, now: Instant, request: &Request, reply: Reply) -> Response {
        let trying = reply.status == StatusCode::TRYING;
        let mut response = word(request, reply);
        if !trying {
            set_to_tag(&mut response.headers, &self.tag);
        } else if let Some(sent) = request.headers.get(HeaderName::TIMESTAMP) {
            let waited = now.saturating_duration_since(self.came);
            response.headers.push(HeaderName::TIMESTAMP, with_delay(&sent, waited));
        }
        response
    }
}

impl Engine {
    /// Starts the transaction of a new request.
    pub(super) fn open_server(
        &mut self,
        now: Instant,
        key: ServerKey,
        path: ReplyPath,
        request: Arc<Request>,
    ) -> u64 {
        let id = self.next_serial();
        let mut clocks = Clocks::default();
        let invite = request.method == Method::Invite;
        let machine = match invite {
            true => Machine::Invite(invite_server::State::Proceeding),
            false => Machine::Other(server::State::Trying),
        };
        if invite {
            let reliable = path.flow.transport.is_reliable();
            self.timers.start(now, Owner::Server(id), &mut clocks, Timer::AutoTrying, reliable);
        }
        let server = Server {
            machine,
            key: key.clone(),
            merge: None,
            path,
            tag: self.random.tag().into(),
            came: now,
            call_id: self.call_id_to_tell(&request),
            request: Some(request),
            wire: None,
            dialog: None,
            clocks,
        };
        let step = TransactionStep::Created(machine.state());
        self.watch.transaction(|| server.change(id, step, None));
        if let Some(cancel) = key.of_cancel() {
            self.servers.by_branch.insert(cancel, id);
        }
        self.servers.by_key.insert(key, id);
        self.servers.by_id.insert(id, server);
        self.waits(now, id);
        id
    }

    fn call_id_to_tell(&self, request: &Request) -> Option<Arc<str>> {
        let watched = self.watch.is_watched();
        watched.then(|| request.headers.typed().ok().map(|id: CallId| id.to_string().into())).flatten()
    }

    /// Steps a transaction and does what its machine asks. True where the layer above has to look at the cause.
    pub(super) fn step_server(&mut self, now: Instant, id: u64, cause: Cause) -> bool {
        if matches!(cause, Cause::Answer(_)) {
            self.waits_no_more(id);
        }
        let Some(server) = self.servers.by_id.get_mut(&id) else { return false };
        let Some((next, actions)) = server.machine.step(cause) else { return false };
        if server.machine != next {
            let step = TransactionStep::Moved(next.state());
            let status = if let Cause::Answer(status) = cause { Some(status) } else { None };
            self.watch.transaction(|| server.change(id, step, status));
        }
        server.machine = next;
        let mut delivered = false;
        for &action in actions {
            delivered |= self.act_server(now, id, action);
        }
        if next.is_terminated() {
            self.close_server(id);
        } else if next.is_quiet() && matches!(cause, Cause::Ack) {
            self.release_response(id);
        }
        delivered
    }

    fn act_server(&mut self, now: Instant, id: u64, action: Action) -> bool {
        let Some(server) = self.servers.by_id.get_mut(&id) else { return false };
        let (owner, reliable) = (Owner::Server(id), server.path.flow.transport.is_reliable());
        match action {
            Action::Send => self.send_response(id),
            Action::SendTrying => self.send_trying(now, id),
            Action::Start(timer) => self.timers.start(now, owner, &mut server.clocks, timer, reliable),
            Action::Again(timer) => self.timers.again(now, owner, &mut server.clocks, timer, reliable),
            Action::AgainAtT2(timer) => {
                self.timers.again_at_t2(now, owner, &mut server.clocks, timer, reliable);
            }
            Action::Stop(timer) => self.timers.stop(owner, &mut server.clocks, timer),
            Action::TransportFailed => self.abandon_invite(now, id),
            Action::Deliver => return true,
            // A caller that never acknowledges a refusal leaves nothing to do; SendAck belongs to clients.
            Action::TimedOut | Action::SendAck => {}
        }
        false
    }

    fn send_response(&mut self, id: u64) {
        if let Some(bytes) = self.servers.by_id.get(&id).and_then(Server::wire) {
            self.send_again(id, bytes);
        }
    }

    /// Sends a response that was worded before.
    pub(super) fn send_again(&mut self, id: u64, bytes: Bytes) {
        let Some(server) = self.servers.by_id.get(&id) else { return };
        let ReplyPath { flow, fallback } = server.path;
        let owner = Some(Owner::Server(id));
        self.transmits.push_back(Transmit { flow, fallback, name: None, bytes, owner });
    }

    fn send_trying(&mut self, now: Instant, id: u64) {
        let Some(server) = self.servers.by_id.get_mut(&id) else { return };
        let Some(request) = server.request.clone() else { return };
        server.wire = Some(server.word(now, &request, Reply::new(StatusCode::TRYING)).to_bytes());
        self.send_response(id);
    }

    /// The transport failed before the answer: the program learns that there is nobody to answer.
    fn abandon_invite(&mut self, now: Instant, id: u64) {
        if self.relay_orphaned(now, id) {
            return;
        }
        let pending = self.servers.get(id).is_some_and(|server| server.request.is_some());
        if pending {
            self.tell_given_up(id, None, super::event::EndReason::Unreachable);
        }
    }

    /// An acknowledged response is not repeated any more; its octets need not wait for the last timer.
    pub(super) fn release_response(&mut self, id: u64) {
        if let Some(server) = self.servers.by_id.get_mut(&id) {
            server.wire = None;
        }
    }

    fn close_server(&mut self, id: u64) {
        self.waits_no_more(id);
        if let Some(mut server) = self.servers.remove(id) {
            self.timers.forget(Owner::Server(id), &mut server.clocks);
            self.watch.transaction(|| server.change(id, TransactionStep::Ended, None));
            self.close_called(id, server.dialog);
            self.settle_within(id, server.dialog, true);
        }
    }

    pub(super) fn server_fired(&mut self, now: Instant, id: u64, timer: Timer) {
        if let Some(server) = self.servers.by_id.get_mut(&id) {
            server.clocks.fire(timer);
            if timer == Timer::Lapse {
                return self.lapse(now, id);
            }
            self.step_server(now, id, Cause::Fired(timer));
        }
    }

    pub(super) fn server_unsent(&mut self, now: Instant, id: u64) {
        self.step_server(now, id, Cause::TransportError);
    }

    /// Words a reply, sends it and steps the transaction; the request is dropped with the final response.
    pub(super) fn answer(&mut self, now: Instant, id: u64, mut reply: Reply) {
        let Some(server) = self.servers.by_id.get_mut(&id) else { return };
        let status = reply.status;
        let Some(request) = server.request.clone() else { return };
        if let Some(product) =
            self.config.product.as_ref().filter(|_| !reply.headers.contains(HeaderName::SERVER))
        {
            reply.headers.push(HeaderName::SERVER, product);
        }
        let (dialog, body) = (server.dialog, reply.body.clone());
        if status.is_success() && subscribes(&request.method) {
            self.add_contact(&mut reply.headers, dialog);
        }
        let Some(server) = self.servers.by_id.get_mut(&id) else { return };
        server.wire = Some(server.word(now, &request, reply).to_bytes());
        if matches!(request.method, Method::Invite | Method::Update) && status.code() < 300 {
            self.keep_description(dialog, body.as_ref());
        }
        let Some(server) = self.servers.by_id.get_mut(&id) else { return };
        if status.is_final() {
            server.request = None;
            let dialog = server.dialog;
            self.close_called(id, dialog);
            self.settle_within(id, dialog, false);
            self.stop_ringing(id);
        }
        self.step_server(now, id, Cause::Answer(status));
    }

    /// Passes a response on that another element worded, without its topmost Via, which is ours (RFC 3261 §16.7). A 2xx
    /// to INVITE goes even where the transaction has another answer, past it.
    pub(super) fn forward_response(&mut self, now: Instant, id: u64, response: &Response) {
        if self.servers.get(id).is_none() {
            return self.watch.discard(DropReason::StrayResponse);
        }
        let mut response = response.clone();
        if !self.has(Fault::ViaKept) {
            response.headers.take_first(HeaderName::VIA);
        }
        let Some(server) = self.servers.by_id.get_mut(&id) else { return };
        // A peer that copied ours alone: without any, the caller could not tell whose answer it is.
        if let Some(request) = server.request.as_ref().filter(|_| !response.headers.contains(HeaderName::VIA))
        {
            response.headers.copy_from(&request.headers, &[HeaderName::VIA]);
        }
        let (bytes, cause) = (response.to_bytes(), Cause::Answer(response.status));
        if server.machine.step(cause).is_none() {
            let ReplyPath { flow, fallback } = server.path;
            if response.status.is_success() {
                self.transmits.push_back(Transmit { flow, fallback, name: None, bytes, owner: None });
            }
            return;
        }
        server.wire = Some(bytes);
        if response.status.is_final() {
            server.request = None;
        }
        self.step_server(now, id, cause);
        if matches!(
            self.servers.get(id),
            Some(Server { machine: Machine::Invite(invite_server::State::Accepted), .. })
        ) {
            self.release_response(id);
        }
    }

    /// Answers a request. Provisional responses may be sent any number of times before the one final response;
    /// one of 101 to 199 to an INVITE makes an early dialog. Where requests can be relayed, Require is looked at only
    /// now: one that asks for an extension that we lack hears 420 in place of a 2xx (RFC 3261 §8.2.2.3).
    ///
    /// # Errors
    /// [`EngineError::TransactionOver`] after the final response or a CANCEL; [`EngineError::Misuse`] for a 2xx to an
    /// INVITE outside a dialog, which [`accept`](Self::accept) answers.
    pub fn respond(&mut self, now: Instant, tx: ServerTx, mut reply: Reply) -> Result<(), EngineError> {
        self.record(Some(now), || Input::command(Command::Respond(tx, reply.clone())));
        let server = self.servers.get(tx.0).ok_or(EngineError::TransactionOver)?;
        let request = server.request.clone().ok_or(EngineError::TransactionOver)?;
        let invite = request.method == Method::Invite;
        match server.dialog {
            _ if invite && self.is_initial(tx.0) => self.prepare_reply_outside(tx.0, &request, &mut reply)?,
            Some(serial) => {
                if invite && self.holds_back(tx.0, serial, &reply)? {
                    return Ok(());
                }
                self.prepare_reply_within(now, tx.0, serial, &mut reply, &request);
            }
            None if reply.status.is_success() && self.config.relay.is_some() => {
                reply = self.check_extensions(&request).map_or_else(|refusal| *refusal, |()| reply);
            }
            None => {}
        }
        if invite && reply.status.is_provisional() {
            return self.send_provisional(now, tx.0, &request, reply);
        }
        self.answer(now, tx.0, reply);
        Ok(())
    }

    /// Drops a request without answering it, as if it had never come: another element answers it. A retransmission
    /// is a new request. Harmless when the transaction is over.
    pub fn forget(&mut self, tx: ServerTx) {
        self.record(None, || Input::command(Command::Forget(tx)));
        self.drop_server(tx.0);
    }

    pub(super) fn drop_server(&mut self, id: u64) {
        if self.servers.get(id).is_some_and(|server| server.request.is_some()) {
            self.close_server(id);
        }
    }
}
