//! Requests of ours: calls placed, cancelled, their refusals acknowledged; the answers: [`super::answers`]
//! (RFC 3261 §8.1, §9.1, §13.2, §17.1.1.3).

use std::time::Instant;

use super::Engine;
use super::client_table::{Cancel, Cause};
use super::event::{Body, ClientTx, EngineError, OutgoingInvite};
use super::flow::{Hop, Transmit};
use super::target::{self, Way};
use crate::auth::Keyring;
use crate::fault::Fault;
use crate::message::header::From;
use crate::message::{HeaderName, Headers, Method, NameAddr, Request, Response};
use crate::observe::capsule::{Command, Input};

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
    /// Places a call. Answers come as [`Event::Response`](super::Event::Response),
    /// [`Event::Answered`](super::Event::Answered) or [`Event::Failed`](super::Event::Failed).
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
        self.record(Some(now), || Input::command(Command::Invite(Box::new(call.clone()))));
        if self.is_full() {
            return Err(EngineError::Full("max_transactions"));
        }
        if self.is_full_of_dialogs() {
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
            call.call_id = Some(self.draw_call_id());
        }
    }

    fn word_invite(&mut self, call: OutgoingInvite, way: &Way) -> Request {
        let tagged =
            |from: NameAddr, tag: String| if from.tag().is_some() { from } else { from.with_tag(&tag) };
        let secure = target::asks_for_sips(&call.uri, &call.headers);
        let contact = self.contact(&way.flow, call.from.uri.user(), secure);
        let mut request = Request::new(Method::Invite, call.uri.for_request_line());
        let headers = &mut request.headers;
        headers.push(HeaderName::FROM, tagged(call.from, self.random.tag()).to_string());
        headers.push(HeaderName::TO, call.to.to_string());
        headers.push(HeaderName::CALL_ID, call.call_id.unwrap_or_else(|| self.draw_call_id()));
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
        let hops: Vec<Hop> = hops.into_iter().collect();
        self.record(Some(now), || Input::command(Command::Send(request.clone(), hops.clone())));
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
            headers.push(HeaderName::CALL_ID, self.draw_call_id());
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
        self.record(Some(now), || Input::command(Command::Cancel(tx, headers.clone())));
        self.call_off(now, tx, headers)
    }

    pub(super) fn call_off(
        &mut self,
        now: Instant,
        tx: ClientTx,
        headers: Headers,
    ) -> Result<(), EngineError> {
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
        let way = client.way();
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
}

/// An ACK or CANCEL of an INVITE: its Request-URI, topmost Via, From, Call-ID, Routes and CSeq number
/// (RFC 3261 §9.1, §17.1.1.3).
fn about_invite(invite: &Request, method: Method, to: std::borrow::Cow<'_, str>) -> Request {
    let number = invite.sequence();
    let mut request = Request::new(method, invite.uri.clone());
    let headers = &mut request.headers;
    headers.push(HeaderName::VIA, invite.headers.get(HeaderName::VIA).unwrap_or_default());
    headers.push(HeaderName::MAX_FORWARDS, "70");
    headers.copy_from(&invite.headers, &[HeaderName::FROM, HeaderName::CALL_ID, HeaderName::ROUTE]);
    headers.push(HeaderName::TO, to);
    headers.push(HeaderName::CSEQ, format!("{number} {}", request.method));
    request
}
