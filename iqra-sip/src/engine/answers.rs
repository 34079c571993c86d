//! What becomes of the answers to requests of ours: told to the program, taken by a dialog, acknowledged
//! (RFC 3261 §12.2.1.2, §13.2.2).

use std::sync::Arc;
use std::time::Instant;

use super::Engine;
use super::client_table::Cancel;
use super::event::{Body, ClientTx, EndReason, Event, Failure};
use super::flow::Transmit;
use super::lookup::Ack;
use super::outbound::{Purpose, add_body, add_headers};
use super::reliable::Heard;
use super::target::Way;
use crate::dialog::{Dialog, Phase, Session};
use crate::fault::Fault;
use crate::message::header::To;
use crate::message::{HeaderName, Headers, Method, Request, Response, StatusCode};
use crate::observe::{DialogStep, DropReason};

impl Engine {
    /// A response for the layer above.
    pub(super) fn deliver_response(&mut self, now: Instant, id: u64, response: &Arc<Response>) {
        let unproven = self.is_unproven(id, response);
        if response.status.is_final() && !unproven && self.answers_challenge(now, id, response) {
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
            return self.answered(now, id, response, unproven);
        }
        if unproven {
            return self.unproven(now, id, response);
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
        let offer = heard == Heard::Offer;
        let early = |dialog: &&Dialog| matches!(dialog.phase, Phase::Early) && within.is_none();
        let dialog =
            serial.and_then(|serial| self.dialogs.get(serial)).filter(|dialog| offer || early(dialog));
        self.events.push_back(Event::Response {
            tx: ClientTx(id),
            response: response.clone(),
            early: dialog.map(|dialog| dialog.id.clone()),
            offer,
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
        let invite = client.invite.is_some();
        let cancelled = client.invite.clone().filter(|_| client.cancel == Cancel::Sent);
        self.finished_within(now, id, dialog, None);
        self.usage_answered(now, id, Err(failure));
        let told = invite || dialog.is_some() || !self.has(Fault::SilenceNotTold);
        if purpose == Purpose::Program && told {
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
    pub(super) fn finished_within(
        &mut self,
        now: Instant,
        id: u64,
        dialog: Option<u64>,
        status: Option<StatusCode>,
    ) {
        let (Some(serial), Some(client)) = (dialog, self.clients.get(id)) else { return };
        if *client.method() == Method::Bye {
            self.close_dialog(now, serial);
            return;
        }
        if let Some(dialog) = self.dialogs.get_mut(serial) {
            // An offer to it that the program has not answered is void.
            if dialog.invite_out.take_if(|invite| *invite == id).is_some() {
                dialog.reliable.due = None;
            }
            dialog.update_out = dialog.update_out.filter(|update| update.client != id);
            dialog.glare.take_if(|glare| glare.client == id);
        }
        if *client.method() == Method::Prack && status.is_some() {
            return;
        }
        let gone = [StatusCode::REQUEST_TIMEOUT, StatusCode::CALL_DOES_NOT_EXIST];
        // A subscription may be gone without its call (RFC 5057 §5.1).
        let notify = matches!(client.purpose, Purpose::Notify(_));
        let apart = matches!(client.method(), Method::Options | Method::Message);
        let refused =
            apart && status.is_some_and(|status| !status.is_success()) && self.has(Fault::RefusalEndsCall);
        if !notify && (refused || status.is_none_or(|status| gone.contains(&status))) {
            self.end_dialog(now, serial, EndReason::Unreachable);
        }
    }

    /// A 2xx to INVITE: acknowledged each time it comes, and each branch once looked at (RFC 3261 §13.2.2.4).
    fn answered(&mut self, now: Instant, id: u64, response: &Arc<Response>, unproven: bool) {
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
            return self.hang_up_once(id, &invite, &tag, response);
        }
        match client.dialog {
            Some(serial) => self.answered_within(now, id, serial, &invite, &tag, response, unproven),
            None => self.answered_outside(now, id, &invite, &tag, response, unproven),
        }
    }

    /// A re-INVITE of ours was accepted.
    #[allow(clippy::too_many_arguments)] // What is known of an answer.
    fn answered_within(
        &mut self,
        now: Instant,
        id: u64,
        serial: u64,
        invite: &Request,
        tag: &str,
        response: &Arc<Response>,
        unproven: bool,
    ) {
        self.finished_within(now, id, Some(serial), Some(response.status));
        if let Some(dialog) = self.dialogs.get_mut(serial) {
            dialog.refresh_target(&response.headers);
        }
        let delays = self.dialogs.get(serial).is_some_and(|dialog| self.delays_ack(id, dialog, response));
        if !unproven && delays {
            self.dialogs.get_mut(serial).into_iter().for_each(|dialog| dialog.ack_due = Some(id));
            self.hold_ack(id, serial, tag);
        } else {
            self.acknowledge_within(now, id, serial, invite, tag);
        }
        if unproven {
            return self.unproven(now, id, response);
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

    fn acknowledge_within(&mut self, now: Instant, id: u64, serial: u64, invite: &Request, tag: &str) {
        let branch = self.random.branch();
        let dialog = self.dialogs.get(serial);
        let ack = dialog.map(|dialog| self.word_ack(dialog, invite, branch.clone(), &Headers::new(), None));
        match ack {
            Some(ack) => self.send_ack_within(now, serial, id, tag, ack),
            None => self.acknowledge_outlived(id, invite, tag, branch),
        }
    }

    /// A 2xx to a re-INVITE whose dialog has ended meanwhile. Nobody looks its name up any more: it goes by the flow.
    fn acknowledge_outlived(&mut self, id: u64, invite: &Request, tag: &str, branch: String) {
        let dialog = self.clients.get_mut(id).and_then(|client| client.outlived.take());
        match dialog.filter(|_| !self.has(Fault::LateSuccessIgnored)) {
            Some(dialog) => {
                let ack = self.word_ack(&dialog, invite, branch, &Headers::new(), None);
                self.send_ack(id, tag, ack);
            }
            // Repeats are to be known all the same.
            None => self.note_branch(id, tag, None),
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
        unproven: bool,
    ) {
        let Some(client) = self.clients.get(id) else { return };
        let (first, cancelled) = (!client.settled, client.cancel != Cancel::No);
        let for_program = client.purpose == Purpose::Program;
        let Some((serial, mut dialog)) = self.take_branch(id, invite, tag, response) else {
            self.watch.discard(DropReason::Malformed);
            return;
        };
        let early = dialog.origin.is_some();
        let wanted = first && !cancelled && !unproven && dialog.phase.is_open();
        dialog.confirm(response);
        if wanted && self.delays_ack(id, &dialog, response) {
            dialog.ack_due = Some(id);
            self.hold_ack(id, serial, tag);
        } else {
            let branch = self.random.branch();
            let ack = self.word_ack(&dialog, invite, branch, &Headers::new(), None);
            match wanted {
                true => self.send_ack_within(now, serial, id, tag, ack),
                false => self.send_ack(id, tag, ack),
            }
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
        if first && for_program && unproven && !cancelled {
            self.events.push_back(Event::Failed { tx, failure: Failure::Unproven });
        } else if first && for_program {
            let response = Self::stand_in(invite, StatusCode::REQUEST_TERMINATED);
            self.events.push_back(Event::Response { tx, response, early: None, offer: false });
        }
    }

    /// BYE to a branch that nobody wants; no dialog is kept for it, so a name is gone to by the flow.
    fn hang_up_unwanted(&mut self, now: Instant, mut dialog: Dialog) {
        let (bye, way) = (dialog.next_request(Method::Bye), self.way_within(&dialog));
        let id = self.next_serial();
        self.open_client_as(now, id, bye, way, None, Purpose::Engine, dialog.proof.anew());
    }

    /// ACK and BYE to a branch past `max_forks`, without state: each 2xx of it gets both anew.
    fn hang_up_once(&mut self, id: u64, invite: &Request, tag: &str, response: &Response) {
        let Some((early, mut dialog)) = self.borrow_branch(id, invite, tag, response) else { return };
        let [of_ack, of_bye] = [self.random.branch(), self.random.branch()];
        let (phase, origin) = (std::mem::replace(&mut dialog.phase, Phase::Live), dialog.origin);
        dialog.confirm(response);
        let Ack { request, branch, way } = self.word_ack(&dialog, invite, of_ack, &Headers::new(), None);
        let ack = self.word_once(request, way, &branch);
        let (mut bye, way) = (dialog.next_request(Method::Bye), self.way_within(&dialog));
        self.authorize(&mut bye, &way.flow, &dialog.proof.anew());
        let bye = self.word_once(bye, way, &of_bye);
        self.transmits.extend([ack, bye]);
        (dialog.phase, dialog.origin) = (phase, origin);
        if let Some(serial) = early {
            self.dialogs.insert(serial, dialog);
        }
    }

    /// The ACK of a 2xx: inside the dialog, a branch of its own, the INVITE's number and credentials
    /// (RFC 3261 §13.2.2.4). A long one goes by TCP like any request (§18.1.1).
    pub(super) fn word_ack(
        &self,
        dialog: &Dialog,
        invite: &Request,
        branch: String,
        headers: &Headers,
        body: Option<Body>,
    ) -> Ack {
        let sequence = invite.sequence();
        let mut request = dialog.request(Method::Ack, sequence);
        let credentials = [HeaderName::AUTHORIZATION, HeaderName::PROXY_AUTHORIZATION];
        request.headers.copy_from(&invite.headers, &credentials);
        add_headers(&mut request.headers, headers);
        add_body(&mut request, body);
        Ack { request, branch, way: self.way_within(dialog) }
    }

    /// A request that no transaction repeats, signed for the way that its length asks for.
    fn word_once(&mut self, mut request: Request, way: Way, branch: &str) -> Transmit {
        let first = way.flow;
        self.sign(&mut request, &first, branch);
        let Way { flow, fallback, name, .. } = self.widen(way, request.to_bytes().len());
        if flow != first {
            request.headers.set_first(HeaderName::VIA, self.via(&flow, branch).to_string());
        }
        Transmit { flow, fallback, name, bytes: request.to_bytes(), owner: None }
    }

    /// Sends the ACK of a dialog that lives on, once its way is known.
    pub(super) fn send_ack_within(&mut self, now: Instant, serial: u64, id: u64, tag: &str, ack: Ack) {
        if ack.way.lookup.is_none() && !self.waits_for_name(serial) {
            return self.send_ack(id, tag, ack);
        }
        self.note_branch(id, tag, None);
        self.hold_back_ack(now, serial, id, tag, ack);
    }

    /// Sends an ACK now, and keeps it to be repeated with each repeat of the 2xx.
    pub(super) fn send_ack(&mut self, id: u64, tag: &str, ack: Ack) {
        let Ack { request, branch, way } = ack;
        let ack = self.word_once(request, way, &branch);
        self.transmits.push_back(ack.clone());
        self.note_branch(id, tag, Some(ack));
    }

    /// A branch of a call of ours has answered; its ACK, where it was sent.
    fn note_branch(&mut self, id: u64, tag: &str, ack: Option<Transmit>) {
        let Some(client) = self.clients.get_mut(id) else { return };
        match client.forks.iter_mut().find(|(known, _)| **known == *tag) {
            Some((_, held)) => *held = ack,
            None => client.forks.push((tag.into(), ack)),
        }
    }
}
