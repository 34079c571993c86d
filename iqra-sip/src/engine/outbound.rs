//! Requests of ours and what becomes of their answers: calls placed, cancelled, acknowledged
//! (RFC 3261 §8.1, §9.1, §13.2, §17.1.1.3).

use std::sync::Arc;
use std::time::Instant;

use super::Engine;
use super::client::{Cancel, Cause};
use super::event::{Body, ClientTx, EndReason, EngineError, Event, Failure, OutgoingInvite};
use super::flow::{Hop, Transmit};
use super::reliable::Heard;
use super::target::{self, Way};
use crate::auth::Keyring;
use crate::dialog::{Dialog, Phase, Session};
use crate::fault::Fault;
use crate::message::header::{CSeq, From, To};
use crate::message::{HeaderName, Headers, Method, NameAddr, Request, Response, StatusCode};
use crate::observe::{DialogStep, DropReason};

/// Who wants to know how a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The program: it gets events.
    Program,
    /// The engine alone: a CANCEL, a BYE.
    Engine,
    /// The server transaction of this number, whose request it carries on.
    Relay(u64),
    /// The session timer.
    Refresh,
    /// A REFER of ours, by its subscription.
    Refer(u64),
    /// A NOTIFY of ours, by its subscription.
    Notify(u64),
}

/// Appends headers.
pub(super) fn add_headers(to: &mut Headers, from: &Headers) {
    for (name, value) in from.iter() {
        to.push(name, value);
    }
}

/// Sets the body with its type.
pub(super) fn add_body(request: &mut Request, body: Option<Body>) {
    if let Some(body) = body {
        request.headers.set(HeaderName::CONTENT_TYPE, body.content_type);
        request.body = body.bytes;
    }
}

impl Engine {
    /// Places a call. Answers come as [`Event::Response`], [`Event::Answered`] or [`Event::Failed`].
    ///
    /// # Errors
    /// [`EngineError::Unresolved`] and [`EngineError::NoListener`] when there is no way to the peer;
    /// [`EngineError::Full`].
    pub fn invite(&mut self, now: Instant, call: OutgoingInvite) -> Result<ClientTx, EngineError> {
        self.invite_with(now, call, Keyring::default())
    }

    /// Places a call that answers challenges with credentials of its own, in its dialog too; none means those of
    /// [`EngineConfig::auth`](crate::EngineConfig).
    ///
    /// # Errors
    /// As [`invite`](Self::invite).
    pub fn invite_with(
        &mut self,
        now: Instant,
        mut call: OutgoingInvite,
        credentials: Keyring,
    ) -> Result<ClientTx, EngineError> {
        if self.is_full() {
            return Err(EngineError::Full("max_transactions"));
        }
        if self.dialogs.len() >= self.config.max_dialogs {
            return Err(EngineError::Full("max_dialogs"));
        }
        let delayed_offer = call.options.delayed_offer && call.body.is_none();
        let hops = std::mem::take(&mut call.hops);
        let (way, hops) = self.ways_to(now, hops, &call.headers, &call.uri)?;
        let (request, id) = (self.word_invite(call, &way), self.next_serial());
        self.open_client_as(now, id, request, way, None, Purpose::Program, credentials.into());
        self.keep_hops(now, id, hops);
        self.set_delayed_offer(id, delayed_offer);
        Ok(ClientTx(id))
    }

    /// Gives a call its From tag and Call-ID where it has none, so that a later INVITE can belong to it.
    pub fn name_call(&mut self, call: &mut OutgoingInvite) {
        if call.from.tag().is_none() {
            call.from = call.from.clone().with_tag(&self.random.tag());
        }
        if call.call_id.is_none() {
            call.call_id = Some(self.random.call_id());
        }
    }

    fn word_invite(&mut self, call: OutgoingInvite, way: &Way) -> Request {
        let tagged =
            |from: NameAddr, tag: String| if from.tag().is_some() { from } else { from.with_tag(&tag) };
        let secure = target::asks_for_sips(&call.uri, &call.headers);
        let contact = self.contact(&way.flow, call.from.uri.user(), secure);
        let mut request = Request::new(Method::Invite, call.uri);
        let headers = &mut request.headers;
        headers.push(HeaderName::FROM, tagged(call.from, self.random.tag()).to_string());
        headers.push(HeaderName::TO, call.to.to_string());
        headers.push(HeaderName::CALL_ID, call.call_id.unwrap_or_else(|| self.random.call_id()));
        headers.push(HeaderName::CSEQ, format!("{} INVITE", call.cseq));
        add_headers(headers, &call.headers);
        if !headers.contains(HeaderName::CONTACT) {
            headers.push(HeaderName::CONTACT, contact);
        }
        if !headers.contains(HeaderName::ALLOW) {
            headers.push(HeaderName::ALLOW, self.allow());
        }
        self.config.session.ask(headers, None, 0);
        self.ask_for_reliable(headers, call.options.reliability);
        self.add_supported(headers);
        add_body(&mut request, call.body);
        request
    }

    /// Sends a request outside a dialog: OPTIONS, MESSAGE, REGISTER and the like. What is missing of From tag, To,
    /// Call-ID, CSeq and Max-Forwards is filled in. `hops` are tried in order, as those of an [`OutgoingInvite`].
    ///
    /// # Errors
    /// [`EngineError::Header`] when From is missing; [`EngineError::Misuse`] for INVITE, ACK and CANCEL; else as
    /// [`invite`](Self::invite).
    pub fn request(
        &mut self,
        now: Instant,
        request: Request,
        hops: impl IntoIterator<Item = Hop>,
    ) -> Result<ClientTx, EngineError> {
        self.request_with(now, request, hops, Keyring::default())
    }

    /// The same with credentials of its own; none means those of [`EngineConfig::auth`](crate::EngineConfig).
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn request_with(
        &mut self,
        now: Instant,
        mut request: Request,
        hops: impl IntoIterator<Item = Hop>,
        credentials: Keyring,
    ) -> Result<ClientTx, EngineError> {
        if matches!(request.method, Method::Invite | Method::Ack | Method::Cancel) {
            return Err(EngineError::Misuse(
                "INVITE goes by invite; ACK and CANCEL are the engine's to send",
            ));
        }
        if self.is_full() {
            return Err(EngineError::Full("max_transactions"));
        }
        let (way, hops) = self.ways_to(now, hops, &request.headers, &request.uri)?;
        let from: From = request.headers.typed().map_err(|_| EngineError::Header("From"))?;
        let headers = &mut request.headers;
        if from.tag().is_none() {
            headers.set(HeaderName::FROM, from.0.with_tag(&self.random.tag()).to_string());
        }
        if !headers.contains(HeaderName::TO) {
            headers.push(HeaderName::TO, format!("<{}>", request.uri));
        }
        if !headers.contains(HeaderName::CALL_ID) {
            headers.push(HeaderName::CALL_ID, self.random.call_id());
        }
        if !headers.contains(HeaderName::CSEQ) {
            headers.push(HeaderName::CSEQ, format!("{} {}", self.random.sequence(), request.method));
        }
        let id = self.next_serial();
        self.open_client_as(now, id, request, way, None, Purpose::Program, credentials.into());
        self.keep_hops(now, id, hops);
        Ok(ClientTx(id))
    }

    /// Cancels an INVITE; its end then comes as a response, 487 as a rule. A CANCEL waits for the first provisional
    /// response, and a 2xx that crosses it is acknowledged and hung up (RFC 3261 §9.1). `headers` go into the CANCEL,
    /// Reason among them.
    ///
    /// # Errors
    /// [`EngineError::TransactionOver`] after the final response.
    pub fn cancel(&mut self, now: Instant, tx: ClientTx, headers: Headers) -> Result<(), EngineError> {
        let client = self.clients.get_mut(tx.0).ok_or(EngineError::TransactionOver)?;
        if client.cancel == Cancel::No {
            client.cancel_headers = headers;
        }
        match client.cancel {
            Cancel::No if client.is_calling() => client.cancel = Cancel::Wanted,
            Cancel::No if client.is_ringing() => self.send_cancel(now, tx.0),
            Cancel::Wanted | Cancel::Sent => {}
            Cancel::No => return Err(EngineError::TransactionOver),
        }
        Ok(())
    }

    pub(super) fn send_cancel(&mut self, now: Instant, id: u64) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let Some(invite) = client.invite.clone().filter(|_| client.cancel != Cancel::Sent) else { return };
        client.cancel = Cancel::Sent;
        if self.has(Fault::CancelLost) {
            return;
        }
        let Some(client) = self.clients.get_mut(id) else { return };
        let way = Way { flow: client.flow, fallback: None, name: client.name.clone() };
        let branch = client.branch().to_owned();
        let headers = std::mem::replace(&mut client.cancel_headers, Headers::new());
        let to = invite.headers.get(HeaderName::TO).unwrap_or_default();
        let mut cancel = about_invite(&invite, Method::Cancel, to);
        add_headers(&mut cancel.headers, &headers);
        self.start_client(now, cancel, branch, way, None, Purpose::Engine);
        self.step_client(now, id, Cause::CancelSent);
    }

    /// The ACK of a response other than 2xx: same branch, same Request-URI, its To tag (RFC 3261 §17.1.1.3).
    pub(super) fn acknowledge_refusal(&mut self, id: u64, response: &Response) {
        let Some(client) = self.clients.get(id) else { return };
        let Some(invite) = &client.invite else { return };
        let ack = about_invite(invite, Method::Ack, response.headers.get(HeaderName::TO).unwrap_or_default());
        let (flow, name, bytes) = (client.flow, client.name.clone(), ack.to_bytes());
        self.transmits.push_back(Transmit { flow, fallback: None, name, bytes, owner: None });
    }

    /// A response for the layer above.
    pub(super) fn deliver_response(&mut self, now: Instant, id: u64, response: &Arc<Response>) {
        if response.status.is_final() && self.answers_challenge(now, id, response) {
            return;
        }
        let Some(client) = self.clients.get(id) else { return };
        let (status, purpose, wants_cancel) =
            (response.status, client.purpose, client.cancel == Cancel::Wanted);
        if let Purpose::Relay(server) = purpose {
            return self.relayed_response(now, id, server, response);
        }
        let (invite, dialog) = (client.invite.is_some(), client.dialog);
        if invite && status.is_success() {
            return self.answered(now, id, response);
        }
        if status == StatusCode::SESSION_INTERVAL_TOO_SMALL && self.retry_longer(now, id, response) {
            return;
        }
        if status.is_provisional() {
            if wants_cancel {
                self.send_cancel(now, id);
            }
            return self.deliver_provisional(now, id, response);
        }
        if self.retries_glare(now, id, response) {
            return;
        }
        self.release_early(id);
        self.finished_within(now, id, dialog, Some(status));
        self.refreshed(id, response);
        self.update_answered(now, id, response);
        if purpose == Purpose::Program {
            let (tx, response) = (ClientTx(id), response.clone());
            self.events.push_back(Event::Response { tx, response, early: None, offer: false });
        } else {
            self.usage_answered(now, id, Ok(response));
        }
    }

    /// 101 to 199 for the program, and for the early dialog that it makes.
    fn deliver_provisional(&mut self, now: Instant, id: u64, response: &Arc<Response>) {
        let Some(client) = self.clients.get(id) else { return };
        let (invite, purpose, within) = (client.invite.is_some(), client.purpose, client.dialog);
        if response.status == StatusCode::TRYING {
            return;
        }
        let serial = match invite {
            true => within.or_else(|| self.progressed(id, response)),
            false => None,
        };
        let heard = match serial {
            Some(serial) => self.hear_provisional(now, id, serial, response),
            None => Heard::New,
        };
        if heard == Heard::Stale || purpose != Purpose::Program {
            return;
        }
        let early = serial.and_then(|serial| self.dialogs.get(serial));
        let early = early.filter(|dialog| matches!(dialog.phase, Phase::Early) && within.is_none());
        self.events.push_back(Event::Response {
            tx: ClientTx(id),
            response: response.clone(),
            early: early.map(|dialog| dialog.id.clone()),
            offer: heard == Heard::Offer,
        });
    }

    /// A 2xx to an UPDATE refreshes the target (RFC 3311 §5.1).
    fn refreshed(&mut self, id: u64, response: &Response) {
        let Some(client) = self.clients.get(id) else { return };
        let update = *client.method() == Method::Update && response.status.is_success();
        let dialog = client.dialog.filter(|_| update);
        if let Some(dialog) = dialog.and_then(|serial| self.dialogs.get_mut(serial)) {
            dialog.refresh_target(&response.headers);
        }
    }

    /// No response came, or the request never left.
    pub(super) fn unanswered(&mut self, now: Instant, id: u64, failure: Failure) {
        let Some(client) = self.clients.get(id) else { return };
        let (purpose, dialog, tx) = (client.purpose, client.dialog, ClientTx(id));
        if let Purpose::Relay(server) = purpose {
            return self.relayed_failure(now, id, server, failure);
        }
        let cancelled = client.invite.clone().filter(|_| client.cancel == Cancel::Sent);
        self.finished_within(now, id, dialog, None);
        self.usage_answered(now, id, Err(failure));
        if purpose == Purpose::Program {
            self.events.push_back(match cancelled {
                Some(invite) => {
                    let response = Self::stand_in(&invite, StatusCode::REQUEST_TERMINATED);
                    Event::Response { tx, response, early: None, offer: false }
                }
                None => Event::Failed { tx, failure },
            });
        }
    }

    /// What the end of a request means for its dialog: an answered BYE closes it, 408, 481 or silence end it
    /// (RFC 3261 §12.2.1.2, §15.1.1).
    fn finished_within(&mut self, now: Instant, id: u64, dialog: Option<u64>, status: Option<StatusCode>) {
        let (Some(serial), Some(client)) = (dialog, self.clients.get(id)) else { return };
        if *client.method() == Method::Bye {
            self.close_dialog(now, serial);
            return;
        }
        if let Some(dialog) = self.dialogs.get_mut(serial) {
            dialog.invite_out = dialog.invite_out.filter(|&invite| invite != id);
            dialog.update_out = dialog.update_out.filter(|update| update.client != id);
            dialog.glare.take_if(|glare| glare.client == id);
        }
        if *client.method() == Method::Prack && status.is_some() {
            return;
        }
        let gone = [StatusCode::REQUEST_TIMEOUT, StatusCode::CALL_DOES_NOT_EXIST];
        // A subscription may be gone without its call (RFC 5057 §5.1).
        let notify = matches!(client.purpose, Purpose::Notify(_));
        if !notify && status.is_none_or(|status| gone.contains(&status)) {
            self.end_dialog(now, serial, EndReason::Unreachable);
        }
    }

    /// A 2xx to INVITE: acknowledged each time it comes, and each branch once looked at (RFC 3261 §13.2.2.4).
    fn answered(&mut self, now: Instant, id: u64, response: &Arc<Response>) {
        let Some(client) = self.clients.get(id) else { return };
        let Some(invite) = client.invite.clone() else { return };
        let tag =
            response.headers.typed::<To>().ok().and_then(|to| to.tag().map(std::borrow::Cow::into_owned));
        let tag = tag.unwrap_or_default();
        let known = |known: &str| *known == *tag || self.has(Fault::AckOfOtherBranch);
        if let Some((_, ack)) = client.forks.iter().find(|(tag, _)| known(tag)) {
            if self.has(Fault::AckNotRepeated) {
                return;
            }
            self.transmits.extend(ack.clone());
            return;
        }
        if client.forks.len() >= self.config.max_forks {
            self.watch.discard(DropReason::Forks);
            return;
        }
        match client.dialog {
            Some(serial) => self.answered_within(now, id, serial, &invite, &tag, response),
            None => self.answered_outside(now, id, &invite, &tag, response),
        }
    }

    /// A re-INVITE of ours was accepted.
    fn answered_within(
        &mut self,
        now: Instant,
        id: u64,
        serial: u64,
        invite: &Request,
        tag: &str,
        response: &Arc<Response>,
    ) {
        self.finished_within(now, id, Some(serial), Some(response.status));
        if let Some(dialog) = self.dialogs.get_mut(serial) {
            dialog.refresh_target(&response.headers);
        }
        let branch = self.random.branch();
        let ack = self
            .dialogs
            .get(serial)
            .map(|dialog| self.word_ack(dialog, invite, &branch, &Headers::new(), None));
        match ack {
            Some(ack) => self.send_ack(id, tag, ack),
            // The dialog ended meanwhile; repeats are to be known all the same.
            None => {
                if let Some(client) = self.clients.get_mut(id) {
                    client.forks.push((tag.into(), None));
                }
            }
        }
        self.session_answered(now, serial, Session::body_of(invite), response);
        match self.clients.get(id).map(|client| client.purpose) {
            Some(Purpose::Program) => {
                let response = response.clone();
                self.events.push_back(Event::Response {
                    tx: ClientTx(id),
                    response,
                    early: None,
                    offer: false,
                });
            }
            _ => self.usage_answered(now, id, Ok(response)),
        }
    }

    /// A call of ours was answered: the first answer makes the call, unless it was cancelled or has ended; every other
    /// branch is acknowledged and hung up.
    fn answered_outside(
        &mut self,
        now: Instant,
        id: u64,
        invite: &Request,
        tag: &str,
        response: &Arc<Response>,
    ) {
        let Some(client) = self.clients.get(id) else { return };
        let (first, cancelled) = (!client.settled, client.cancel != Cancel::No);
        let for_program = client.purpose == Purpose::Program;
        let Some((serial, mut dialog)) = self.take_branch(id, invite, tag, response) else {
            self.watch.discard(DropReason::Malformed);
            return;
        };
        let (early, wanted) = (dialog.origin.is_some(), first && !cancelled && dialog.phase.is_open());
        dialog.confirm(response);
        if wanted && self.delays_ack(id, &dialog, response) {
            self.hold_ack(id, serial, tag, &mut dialog);
        } else {
            let branch = self.random.branch();
            let ack = self.word_ack(&dialog, invite, &branch, &Headers::new(), None);
            self.send_ack(id, tag, ack);
        }
        self.release_early(id);
        let tx = ClientTx(id);
        if wanted {
            let dialog_id = dialog.id.clone();
            if !early {
                self.watch.dialog(&dialog_id, DialogStep::Created);
            }
            self.watch.dialog(&dialog_id, DialogStep::Confirmed);
            self.dialogs.insert(serial, dialog);
            self.session_answered(now, serial, Session::body_of(invite), response);
            self.events.push_back(Event::Answered { tx, dialog: dialog_id, response: response.clone() });
            return;
        }
        if early {
            self.watch.dialog(&dialog.id, DialogStep::Ended(dialog.end));
        }
        self.hang_up_unwanted(now, dialog);
        if first && for_program {
            let response = Self::stand_in(invite, StatusCode::REQUEST_TERMINATED);
            self.events.push_back(Event::Response { tx, response, early: None, offer: false });
        }
    }

    /// BYE to a branch that nobody wants; no dialog is kept for it.
    fn hang_up_unwanted(&mut self, now: Instant, mut dialog: Dialog) {
        let sequence = dialog.next_sequence();
        let (bye, way) = (dialog.request(Method::Bye, sequence), self.way_within(&dialog));
        let id = self.next_serial();
        self.open_client_as(now, id, bye, way, None, Purpose::Engine, dialog.proof.anew());
    }

    /// The ACK of a 2xx: inside the dialog, a branch of its own, the INVITE's number and credentials
    /// (RFC 3261 §13.2.2.4).
    pub(super) fn word_ack(
        &self,
        dialog: &Dialog,
        invite: &Request,
        branch: &str,
        headers: &Headers,
        body: Option<Body>,
    ) -> Transmit {
        let sequence = invite.headers.typed::<CSeq>().map_or(0, |cseq| cseq.number);
        let mut ack = dialog.request(Method::Ack, sequence);
        ack.headers.copy_from(&invite.headers, &[HeaderName::AUTHORIZATION, HeaderName::PROXY_AUTHORIZATION]);
        add_headers(&mut ack.headers, headers);
        add_body(&mut ack, body);
        let Way { flow, fallback, name } = self.way_within(dialog);
        self.sign(&mut ack, &flow, branch);
        Transmit { flow, fallback, name, bytes: ack.to_bytes(), owner: None }
    }

    pub(super) fn send_ack(&mut self, id: u64, tag: &str, ack: Transmit) {
        self.transmits.push_back(ack.clone());
        let Some(client) = self.clients.get_mut(id) else { return };
        match client.forks.iter_mut().find(|(known, _)| **known == *tag) {
            Some((_, held)) => *held = Some(ack),
            None => client.forks.push((tag.into(), Some(ack))),
        }
    }
}

/// An ACK or CANCEL of an INVITE: its Request-URI, topmost Via, From, Call-ID, Routes and CSeq number
/// (RFC 3261 §9.1, §17.1.1.3).
fn about_invite(invite: &Request, method: Method, to: std::borrow::Cow<'_, str>) -> Request {
    let number = invite.headers.typed::<CSeq>().map_or(0, |cseq| cseq.number);
    let mut request = Request::new(method, invite.uri.clone());
    let headers = &mut request.headers;
    headers.push(HeaderName::VIA, invite.headers.get(HeaderName::VIA).unwrap_or_default());
    headers.push(HeaderName::MAX_FORWARDS, "70");
    headers.copy_from(&invite.headers, &[HeaderName::FROM, HeaderName::CALL_ID, HeaderName::ROUTE]);
    headers.push(HeaderName::TO, to);
    headers.push(HeaderName::CSEQ, format!("{number} {}", request.method));
    request
}
