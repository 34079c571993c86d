//! The answer in the ACK: an INVITE of ours without an offer, whose 2xx carries it (RFC 3261 §13.2.1, §14.1).
//!
//! For a call the program asks for this by its options; a re-INVITE is always answered so. An offer that came in a reliable
//! provisional response before was answered in its PRACK ([`super::reliable`]); a 2xx that repeats it makes none. The ACK
//! waits for the program.
//! Until then repeats of the 2xx are passed over; a BYE, of either side, sends the ACK without an answer first, and so does
//! the end of the INVITE's transaction, by when the peer has given up: that ends the call.

use std::sync::Arc;
use std::time::Instant;

use super::Engine;
use super::event::{Body, EndReason, EngineError};
use super::outbound::Purpose;
use crate::dialog::{Dialog, DialogId, has_session};
use crate::fault::Fault;
use crate::message::{Headers, Request, Response};
use crate::observe::capsule::{Command, Input};

impl Engine {
    /// True where the program answers the offer of whoever hears this INVITE of ours: a call's options say so, and for a
    /// re-INVITE without an offer it is always so.
    pub(super) fn leaves_answer(&self, client: u64) -> bool {
        let Some(client) = self.clients.get(client) else { return false };
        let offers = |invite: &Arc<Request>| has_session(&invite.headers, &invite.body);
        match client.dialog {
            None => client.delayed_offer,
            Some(_) => client.purpose == Purpose::Program && !client.invite.as_ref().is_none_or(offers),
        }
    }

    /// True where the program has to answer the offer of this 2xx: one that no PRACK has answered.
    pub(super) fn delays_ack(&self, client: u64, dialog: &Dialog, response: &Response) -> bool {
        let free = dialog.phase.is_open() && dialog.ack_due.is_none();
        free && self.leaves_answer(client) && dialog.reliable.is_offer(response)
    }

    /// The ACK to this branch waits in a dialog, which has to note it too.
    pub(super) fn hold_ack(&mut self, client: u64, serial: u64, tag: &str) {
        if let Some(client) = self.clients.get_mut(client) {
            client.ack_due = Some(serial);
            client.forks.push((tag.into(), None));
        }
    }

    /// Acknowledges the 2xx of a call with [`delayed_offer`](super::event::CallOptions::delayed_offer), or of a re-INVITE
    /// without an offer: `body` is the answer to the offer of the 2xx. Where it does not come within 64*T1 (32 s) after
    /// the 2xx, the call ends with [`EndReason::AckTimeout`], unless the peer, which waits as long, hangs up first.
    ///
    /// # Errors
    /// [`EngineError::DialogOver`]; [`EngineError::Misuse`] where no 2xx waits.
    pub fn acknowledge(
        &mut self,
        now: Instant,
        dialog: &DialogId,
        headers: &Headers,
        body: Option<Body>,
    ) -> Result<(), EngineError> {
        self.record(None, || {
            Input::command(Command::Acknowledge(dialog.clone(), headers.clone(), body.clone()))
        });
        let (serial, _) = self.dialogs.live(dialog)?;
        match self.send_late_ack(now, serial, headers, body) {
            Some(()) => Ok(()),
            None => Err(EngineError::Misuse("no 2xx waits for its ACK in this dialog")),
        }
    }

    /// The ACK that waits in a dialog.
    pub(super) fn send_late_ack(
        &mut self,
        now: Instant,
        serial: u64,
        headers: &Headers,
        body: Option<Body>,
    ) -> Option<()> {
        let client = self.dialogs.get_mut(serial)?.ack_due.take()?;
        let branch = self.random.branch();
        let body = body.filter(|_| !self.has(Fault::AnswerLost));
        let dialog = self.dialogs.get(serial)?;
        let invite = self.clients.get(client)?.invite.clone()?;
        let ack = self.word_ack(dialog, &invite, branch, headers, body);
        let tag = dialog.id.remote_tag().to_owned();
        self.send_ack_within(now, serial, client, &tag, ack);
        Some(())
    }

    /// The transaction of an INVITE ends, and with it what the callee waits for.
    pub(super) fn give_up_on_answer(&mut self, now: Instant, client: u64) {
        let due = self.clients.get(client).and_then(|client| client.ack_due);
        // By now it may be the answer to a later INVITE that is waited for.
        let waits = |serial: &u64| self.dialogs.get(*serial).is_some_and(|d| d.ack_due == Some(client));
        let waiting = due.filter(waits);
        if let Some(serial) = waiting.filter(|_| !self.has(Fault::AnswerAwaitedForEver)) {
            self.end_dialog(now, serial, EndReason::AckTimeout);
        }
    }
}
