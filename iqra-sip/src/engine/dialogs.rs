//! Dialogs in the engine: made by 2xx (early ones: [`super::early`]), confirmed by ACK, used by requests either way,
//! ended by BYE (RFC 3261 §12, §13, §14, §15).

use std::sync::Arc;
use std::time::Instant;

use super::Engine;
use super::event::{Body, ClientTx, EndReason, EngineError, Event, InviteTx, Reply, ServerTx};
use super::flow::{Flow, Owner};
use super::outbound::{Purpose, add_body, add_headers};
use super::server::Cause;
use super::{target, update};
use crate::dialog::{Dialog, DialogId, Origin, Phase, Unacknowledged, has_session};
use crate::fault::Fault;
use crate::message::{HeaderName, Headers, Method, Request, StatusCode};
use crate::observe::capsule::{Command, Input};
use crate::observe::{DialogEnd, DialogStep};
use crate::transaction::timer::Timer;

/// Seconds within which a second INVITE may be tried again (RFC 3261 §14.2: a random value from 0 to 10).
const RETRY_SECONDS: u32 = 10;
/// The timers of a 2xx that waits for its ACK.
const REPEATED: [Timer; 2] = [Timer::Success, Timer::AckWait];

impl Engine {
    /// Accepts an INVITE: makes the dialog, sends the 2xx and repeats it until the ACK (RFC 3261 §13.3.1.4). It waits for
    /// the PRACK where a reliable provisional response with a session description has none yet (RFC 3262 §3).
    /// [`Event::Confirmed`] tells of the ACK; without one the dialog ends with [`EndReason::AckTimeout`].
    ///
    /// # Errors
    /// [`EngineError::TransactionOver`] when it was answered or cancelled, [`EngineError::Header`] when the INVITE has
    /// no usable Contact (it is then still to be answered), [`EngineError::Misuse`] for any other request or status.
    pub fn accept(&mut self, now: Instant, tx: ServerTx, reply: Reply) -> Result<DialogId, EngineError> {
        self.record(Some(now), || Input::command(Command::Accept(tx, reply.clone())));
        let server = self.servers.get(tx.0).ok_or(EngineError::TransactionOver)?;
        let invite = server.request.clone().ok_or(EngineError::TransactionOver)?;
        if invite.method != Method::Invite || !reply.status.is_success() || !self.is_initial(tx.0) {
            return Err(EngineError::Misuse("accept takes an INVITE outside a dialog and a 2xx"));
        }
        let serial = match self.servers.get(tx.0).and_then(|server| server.dialog) {
            Some(early) => early,
            None => self.open_called(tx.0, &invite)?,
        };
        let dialog = self.dialogs.get(serial).ok_or(EngineError::DialogOver)?;
        let id = dialog.id.clone();
        if !self.holds_back(tx.0, serial, &reply)? {
            self.send_answer(now, tx.0, serial, &invite, reply);
        }
        Ok(id)
    }

    /// Sends the 2xx of an INVITE outside dialogs.
    pub(super) fn send_answer(
        &mut self,
        now: Instant,
        server: u64,
        serial: u64,
        invite: &Request,
        mut reply: Reply,
    ) {
        self.stop_reliable(serial);
        if let Some(dialog) = self.dialogs.get_mut(serial) {
            dialog.reliable.stop();
            dialog.settle();
        }
        self.add_reply_headers(&mut reply, serial);
        self.grant_session(now, serial, invite, &mut reply);
        self.await_ack(now, server, serial, invite);
        self.answer(now, server, reply);
        if let Some(id) = self.dialogs.get(serial).map(|dialog| dialog.id.clone()) {
            self.replace(now, invite, &id);
        }
    }

    /// Makes the dialog of an INVITE that came in.
    pub(super) fn open_called(&mut self, server: u64, invite: &Request) -> Result<u64, EngineError> {
        let waiting = self.servers.get(server).ok_or(EngineError::TransactionOver)?;
        let (flow, tag) = (waiting.path().flow, waiting.tag().to_owned());
        let contact = self.contact(&flow, invite.uri.user(), target::comes_by_sips(invite));
        let sequence = self.random.sequence();
        let dialog = Dialog::called(invite, &tag, sequence, flow, contact)
            .map_err(|_| EngineError::Header("Contact, From or CSeq of the INVITE"))?;
        let serial = self.next_serial();
        self.watch.dialog(&dialog.id, DialogStep::Created);
        self.dialogs.insert(serial, dialog);
        self.servers.set_dialog(server, serial);
        Ok(serial)
    }

    /// What a response that makes or refreshes a dialog says of us (RFC 3261 §12.1.1).
    pub(super) fn add_reply_headers(&self, reply: &mut Reply, serial: u64) {
        if self.dialogs.get(serial).is_none() {
            return;
        }
        self.add_contact(&mut reply.headers, Some(serial));
        if !reply.headers.contains(HeaderName::ALLOW) {
            reply.headers.push(HeaderName::ALLOW, self.allow());
        }
        self.add_supported(&mut reply.headers);
    }

    /// Where this side of a dialog is reached.
    pub(super) fn add_contact(&self, headers: &mut Headers, serial: Option<u64>) {
        let dialog = serial.and_then(|serial| self.dialogs.get(serial));
        if let Some(dialog) = dialog.filter(|_| !headers.contains(HeaderName::CONTACT)) {
            headers.push(HeaderName::CONTACT, dialog.contact.clone());
        }
    }

    /// Starts repeating the 2xx that is about to be sent. That of an earlier INVITE needs its ACK no more: the peer had it
    /// before it sent this one (RFC 3261 §14.1).
    fn await_ack(&mut self, now: Instant, server: u64, serial: u64, invite: &Request) {
        self.stop_success(serial);
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        let sequence = invite.sequence();
        let offer = !has_session(&invite.headers, &invite.body);
        dialog.unacknowledged = Some(Unacknowledged { server, sequence, offer });
        self.start_within(now, serial, REPEATED);
    }

    /// Starts timers of a dialog.
    pub(super) fn start_within(&mut self, now: Instant, serial: u64, timers: [Timer; 2]) {
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        for timer in timers {
            self.timers.start(now, Owner::Dialog(serial), &mut dialog.clocks, timer, false);
        }
    }

    /// Stops them.
    pub(super) fn stop_within(&mut self, serial: u64, timers: [Timer; 2]) {
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        for timer in timers {
            self.timers.stop(Owner::Dialog(serial), &mut dialog.clocks, timer);
        }
    }

    /// Before a reply inside a dialog: a 2xx to INVITE or UPDATE takes the peer's new target (RFC 6141) and carries Contact
    /// (RFC 3261 §12.1.1, RFC 3311 §5.2), and a re-INVITE is repeated like the first.
    pub(super) fn prepare_reply_within(
        &mut self,
        now: Instant,
        server: u64,
        serial: u64,
        reply: &mut Reply,
        request: &Request,
    ) {
        let invite = request.method == Method::Invite;
        if reply.status.is_success() && (invite || request.method == Method::Update) {
            self.accept_target(serial, request);
            self.add_reply_headers(reply, serial);
            self.grant_session(now, serial, request, reply);
            if invite {
                self.await_ack(now, server, serial, request);
            }
        }
    }

    /// A target refresh of the peer is accepted: by a 2xx, or by a reliable provisional response to a re-INVITE. One that is
    /// refused leaves the target as it was (RFC 6141).
    pub(super) fn accept_target(&mut self, serial: u64, request: &Request) {
        if let Some(dialog) = self.dialogs.get_mut(serial) {
            dialog.accept_target(request);
        }
    }

    /// A request of the peer gets its final answer, or is `forgotten`: what it kept from others in its dialog is free again.
    pub(super) fn settle_within(&mut self, server: u64, dialog: Option<u64>, forgotten: bool) {
        let Some(serial) = dialog else { return };
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        dialog.invite_in = dialog.invite_in.filter(|&id| id != server);
        dialog.update_in = dialog.update_in.filter(|&id| id != server);
        let waited = match forgotten {
            true => dialog.reliable.forget(server),
            false => dialog.reliable.settle(server),
        };
        if waited {
            self.stop_reliable(serial);
        }
    }

    /// A request of the peer inside a dialog; `Err` is the answer that refuses it.
    pub(super) fn handle_within(
        &mut self,
        now: Instant,
        id: u64,
        serial: u64,
        request: Arc<Request>,
    ) -> Result<(), Box<Reply>> {
        let retry = self.random.sequence() % (RETRY_SECONDS + 1);
        if request.method == Method::Bye {
            self.answer(now, id, Reply::new(StatusCode::OK));
            self.ended_by_peer(now, serial, &request);
            return Ok(());
        }
        if self.takes_usage(now, id, serial, &request, retry)? {
            return Ok(());
        }
        let Some(dialog) = self.dialogs.get_mut(serial) else { return Ok(()) };
        if matches!(dialog.phase, Phase::ByeSent | Phase::Released | Phase::Subscribed) {
            return Err(Box::new(Reply::new(StatusCode::CALL_DOES_NOT_EXIST)));
        }
        match request.method {
            Method::Prack => return self.handle_prack(now, id, serial, request),
            Method::Invite => update::admit_reinvite(dialog, id, retry)?,
            Method::Update => update::admit_update(dialog, id, &request, retry)?,
            _ => {}
        }
        if self.takes_refresh(now, id, serial, &request) {
            return Ok(());
        }
        self.deliver_within(serial, id, request);
        Ok(())
    }

    pub(super) fn deliver_within(&mut self, serial: u64, id: u64, request: Arc<Request>) {
        let Some(dialog) = self.dialogs.get(serial) else { return };
        let invite = dialog.origin.map(InviteTx::from);
        let (dialog, tx) = (dialog.id.clone(), ServerTx(id));
        self.events.push_back(Event::DialogRequest { dialog, tx, request, invite });
    }

    fn ended_by_peer(&mut self, now: Instant, serial: u64, bye: &Arc<Request>) {
        if let Some(Origin::Called(invite)) = self.dialogs.get(serial).and_then(|dialog| dialog.origin) {
            return self.given_up_by_peer(now, invite, bye);
        }
        let asked_for = self.dialogs.get(serial).is_some_and(|dialog| !dialog.phase.is_open());
        let reason = EndReason::Remote { headers: bye.headers.clone() };
        if !asked_for {
            self.note_end(serial, &reason);
        }
        if self.has(Fault::DialogKept) {
            return;
        }
        // A 2xx whose offer the program has not answered is not left without its ACK.
        let _ = self.send_late_ack(now, serial, &Headers::new(), None);
        let Some(dialog) = self.close_dialog(now, serial) else { return };
        if !asked_for {
            self.events.push_back(Event::Ended { dialog, reason });
        }
    }

    /// The ACK of a 2xx.
    pub(super) fn acknowledged(&mut self, now: Instant, serial: u64, sequence: u32, ack: Request) {
        let told = !self.has(Fault::ConfirmedNotTold);
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        let waiting = dialog.unacknowledged.filter(|waiting| waiting.sequence == sequence);
        let Some(Unacknowledged { server, .. }) = waiting else {
            return self.acknowledged_late(serial, sequence, ack);
        };
        dialog.unacknowledged = None;
        self.timers.forget(Owner::Dialog(serial), &mut dialog.clocks);
        let first = !std::mem::replace(&mut dialog.confirmed, true);
        if first {
            self.watch.dialog(&dialog.id, DialogStep::Confirmed);
        }
        match std::mem::replace(&mut dialog.phase, Phase::Live) {
            Phase::HangUpAfterAck(headers) => self.send_bye(now, serial, &headers),
            over @ (Phase::ByeSent | Phase::Released | Phase::Subscribed) => dialog.phase = over,
            // That of a re-INVITE matters where it answers our offer.
            Phase::Early | Phase::Live if told && (first || !ack.body.is_empty()) => {
                let dialog = dialog.id.clone();
                self.events.push_back(Event::Confirmed { dialog, ack: Arc::new(ack) });
            }
            Phase::Early | Phase::Live => {}
        }
        self.release_response(server);
    }

    /// The ACK of the call, which a later INVITE of the peer has overtaken: nothing waits for it but the program.
    fn acknowledged_late(&mut self, serial: u64, sequence: u32, ack: Request) {
        let told = !self.has(Fault::ConfirmedNotTold);
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        let overtaken = dialog.unacknowledged.is_none_or(|waiting| sequence < waiting.sequence);
        if dialog.confirmed || !overtaken || !matches!(dialog.phase, Phase::Live) {
            return;
        }
        dialog.confirmed = true;
        self.watch.dialog(&dialog.id, DialogStep::Confirmed);
        if told {
            let dialog = dialog.id.clone();
            self.events.push_back(Event::Confirmed { dialog, ack: Arc::new(ack) });
        }
    }

    /// The 2xx goes out again, or the ACK never came (RFC 3261 §13.3.1.4).
    pub(super) fn dialog_fired(&mut self, now: Instant, serial: u64, timer: Timer) {
        if timer == Timer::Glare {
            return self.retry_fired(now, serial);
        }
        if matches!(timer, Timer::Refresh | Timer::SessionEnd) {
            return self.session_fired(now, serial, timer);
        }
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        dialog.clocks.fire(timer);
        if matches!(timer, Timer::Reliable | Timer::PrackWait) {
            return self.reliable_fired(now, serial, timer);
        }
        let Some(Unacknowledged { server, .. }) = dialog.unacknowledged else { return };
        if timer == Timer::AckWait {
            return self.give_up_on_ack(now, serial);
        }
        self.timers.again(now, Owner::Dialog(serial), &mut dialog.clocks, timer, false);
        if !self.has(Fault::SuccessNotRepeated) {
            self.step_server(now, server, Cause::Answer(StatusCode::OK));
        }
    }

    /// A 2xx of ours is repeated no more, though its ACK has not come.
    pub(super) fn stop_success(&mut self, serial: u64) {
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        let Some(Unacknowledged { server, .. }) = dialog.unacknowledged.take() else { return };
        self.stop_within(serial, REPEATED);
        self.release_response(server);
    }

    fn give_up_on_ack(&mut self, now: Instant, serial: u64) {
        let stays = self.has(Fault::AckAwaitedForEver);
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        dialog.unacknowledged = None;
        self.timers.forget(Owner::Dialog(serial), &mut dialog.clocks);
        match std::mem::replace(&mut dialog.phase, Phase::Live) {
            Phase::HangUpAfterAck(headers) => self.send_bye(now, serial, &headers),
            phase if stays => dialog.phase = phase,
            phase => {
                dialog.phase = phase;
                self.end_dialog(now, serial, EndReason::AckTimeout);
            }
        }
    }

    /// Ends a dialog that the program did not ask to end: BYE to the peer, the reason to the program.
    pub(super) fn end_dialog(&mut self, now: Instant, serial: u64, reason: EndReason) {
        let Some(dialog) = self.dialogs.get(serial) else { return };
        if !matches!(dialog.phase, Phase::Live) {
            return;
        }
        let dialog = dialog.id.clone();
        self.note_end(serial, &reason);
        match self.has(Fault::ByeNotSent) {
            true => drop(self.close_dialog(now, serial)),
            false => self.send_bye(now, serial, &Headers::new()),
        }
        self.events.push_back(Event::Ended { dialog, reason });
    }

    /// Hangs up. Before the ACK of our 2xx the BYE waits for it. An early dialog of an INVITE of ours is given up alone;
    /// the INVITE and its other branches go on (RFC 3261 §15). No [`Event::Ended`] follows.
    ///
    /// # Errors
    /// [`EngineError::DialogOver`] when the call has ended already; [`EngineError::Misuse`] for an early dialog of an
    /// INVITE that came in, which is to be refused.
    pub fn bye(&mut self, now: Instant, dialog: &DialogId, headers: Headers) -> Result<(), EngineError> {
        self.record(Some(now), || Input::command(Command::Bye(dialog.clone(), headers.clone())));
        self.hang_up(now, dialog, headers)
    }

    pub(super) fn hang_up(
        &mut self,
        now: Instant,
        dialog: &DialogId,
        headers: Headers,
    ) -> Result<(), EngineError> {
        let (serial, dialog) = self.dialogs.live(dialog)?;
        if matches!(dialog.origin, Some(Origin::Called(_))) {
            return self.take_back_answer(now, serial);
        }
        if dialog.unacknowledged.is_some() {
            dialog.phase = Phase::HangUpAfterAck(headers);
        } else {
            self.send_bye(now, serial, &headers);
        }
        Ok(())
    }

    fn send_bye(&mut self, now: Instant, serial: u64, headers: &Headers) {
        self.refuse_pending_invite(now, serial);
        // The BYE may not overtake the ACK; one without an answer is better than none.
        let _ = self.send_late_ack(now, serial, &Headers::new(), None);
        self.drop_retry(serial);
        self.stop_success(serial);
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        dialog.phase = Phase::ByeSent;
        let mut request = dialog.next_request(Method::Bye);
        add_headers(&mut request.headers, headers);
        self.open_within(now, serial, request, Purpose::Engine);
    }

    /// Sends a request inside a dialog by the dialog's way.
    pub(super) fn open_within(
        &mut self,
        now: Instant,
        serial: u64,
        request: Request,
        purpose: Purpose,
    ) -> Option<u64> {
        let way = self.way_within(self.dialogs.get(serial)?);
        Some(self.open_client(now, request, way, Some(serial), purpose))
    }

    /// Sends a request inside a dialog, early or not: INFO, UPDATE, re-INVITE and the like. The answer comes as
    /// [`Event::Response`]; a 2xx to a re-INVITE is acknowledged by the engine, unless the re-INVITE had no offer and its 2xx
    /// makes one: [`acknowledge`](Self::acknowledge) is then to send the answer.
    ///
    /// # Errors
    /// [`EngineError::DialogOver`]; [`EngineError::Misuse`] for ACK, CANCEL, BYE and PRACK, for a re-INVITE while another
    /// INVITE of either side is under way (RFC 3261 §14.1), and for an offer while another waits for its answer, or our
    /// answer for its PRACK (RFC 3311 §5.1); [`EngineError::Full`].
    pub fn dialog_request(
        &mut self,
        now: Instant,
        dialog: &DialogId,
        method: Method,
        headers: &Headers,
        body: Option<Body>,
    ) -> Result<ClientTx, EngineError> {
        self.record(Some(now), || {
            Input::command(Command::Request(dialog.clone(), method.clone(), headers.clone(), body.clone()))
        });
        if matches!(method, Method::Ack | Method::Cancel | Method::Bye | Method::Prack) {
            return Err(EngineError::Misuse(
                "ACK, CANCEL and PRACK are the engine's to send, BYE goes by bye",
            ));
        }
        if self.is_full_to_the_brim() {
            return Err(EngineError::Full("max_transactions"));
        }
        let (serial, dialog) = self.dialogs.live(dialog)?;
        let offer = body.as_ref().is_some_and(Body::is_session);
        update::check_glare(dialog, &method, offer)?;
        let sent = self.send_within(now, serial, method, headers, body, Purpose::Program);
        sent.map(ClientTx).ok_or(EngineError::DialogOver)
    }

    /// Words a request inside a dialog and sends it; none where it would meet another (RFC 3261 §14.1, RFC 3311 §5.1).
    pub(super) fn send_within(
        &mut self,
        now: Instant,
        serial: u64,
        method: Method,
        headers: &Headers,
        body: Option<Body>,
        purpose: Purpose,
    ) -> Option<u64> {
        let offer = body.as_ref().is_some_and(Body::is_session);
        let dialog = self.dialogs.get_mut(serial)?;
        update::check_glare(dialog, &method, offer).ok()?;
        let mut request = dialog.next_request(method.clone());
        add_headers(&mut request.headers, headers);
        let refresh = matches!(method, Method::Invite | Method::Update);
        if refresh || subscribes(&method) || method == Method::Notify {
            self.add_contact(&mut request.headers, Some(serial));
        }
        if refresh {
            self.add_supported(&mut request.headers);
            self.ask_session(serial, &mut request.headers);
        }
        if method == Method::Update {
            self.keep_description(Some(serial), body.as_ref());
        }
        add_body(&mut request, body);
        let id = self.open_within(now, serial, request, purpose)?;
        self.note_glare(serial, id, &method, offer);
        Some(id)
    }

    /// Between which ends the INVITE of a dialog travelled.
    #[must_use]
    pub fn dialog_flow(&self, id: &DialogId) -> Option<Flow> {
        self.dialogs.named(id).map(|dialog| dialog.flow)
    }

    /// Remembers for observers why a dialog is about to end.
    fn note_end(&mut self, serial: u64, reason: &EndReason) {
        if let Some(dialog) = self.dialogs.get_mut(serial) {
            dialog.end = DialogEnd::from(reason);
        }
    }

    fn refuse_pending_invite(&mut self, now: Instant, serial: u64) {
        let pending = self.dialogs.get_mut(serial).and_then(|dialog| dialog.invite_in.take());
        if let Some(server) = pending {
            self.answer(now, server, Reply::new(StatusCode::REQUEST_TERMINATED));
        }
    }

    /// Forgets a dialog; a re-INVITE that waits in it is answered 487 (RFC 3261 §15.1.2). An early one of ours stays known
    /// until its INVITE is forgotten.
    pub(super) fn close_dialog(&mut self, now: Instant, serial: u64) -> Option<DialogId> {
        self.refuse_pending_invite(now, serial);
        if let Some(early) = self.dialogs.get_mut(serial).filter(|dialog| dialog.origin.is_some()) {
            early.phase = Phase::Released;
            return Some(early.id.clone());
        }
        self.end_call(now, serial).or_else(|| self.forget_dialog(serial))
    }

    /// Nothing finds it any more. A re-INVITE of ours that is still under way keeps it for its ACK: a 2xx to that is
    /// acknowledged, however late it comes (RFC 3261 §13.2.2.4, RFC 5407 §3.2.4).
    pub(super) fn forget_dialog(&mut self, serial: u64) -> Option<DialogId> {
        self.drop_retry(serial);
        let mut dialog = self.dialogs.remove(serial)?;
        self.timers.forget(Owner::Dialog(serial), &mut dialog.session.clocks);
        self.watch.dialog(&dialog.id, DialogStep::Ended(dialog.end));
        self.timers.forget(Owner::Dialog(serial), &mut dialog.clocks);
        let id = dialog.id.clone();
        if let Some(invite) = dialog.invite_out.and_then(|invite| self.clients.get_mut(invite)) {
            invite.outlived = Some(Box::new(dialog));
        }
        Some(id)
    }
}

/// Whether the 2xx to a request says where its notifications come from (RFC 3515 §2.2, RFC 6665 §3.1.2).
pub(super) fn subscribes(method: &Method) -> bool {
    matches!(method, Method::Refer | Method::Subscribe)
}
