//! Early dialogs: what a provisional response to an INVITE makes, in both roles (RFC 3261 §12.1, §13.2.2.4).
//!
//! A call that we take has one; a call that we place has one for each branch that answers 101 to 199 with a To tag. The
//! 2xx confirms the one it comes from; the others are released: they take no requests any more, but stay known until the
//! INVITE is forgotten, so that a late 2xx of theirs is hung up in order.

use std::borrow::Cow;

use super::Engine;
use super::event::{EngineError, Reply, ServerTx};
use crate::dialog::{Dialog, DialogId, Origin, Phase};
use crate::message::header::To;
use crate::message::{HeaderName, Request, Response, StatusCode, Text};
use crate::observe::{DialogStep, DropReason};

impl Engine {
    /// True for an INVITE that came in outside dialogs; its own early dialog does not count.
    pub(super) fn is_initial(&self, server: u64) -> bool {
        match self.servers.get(server).and_then(|server| server.dialog) {
            Some(serial) => {
                self.dialogs.get(serial).is_some_and(|dialog| dialog.origin == Some(Origin::Called(server)))
            }
            None => true,
        }
    }

    /// The early dialog of an INVITE that came in, once a provisional response made it.
    #[must_use]
    pub fn early_dialog(&self, tx: ServerTx) -> Option<DialogId> {
        let dialog = self.dialogs.get(self.servers.get(tx.0)?.dialog?)?;
        (dialog.origin == Some(Origin::Called(tx.0))).then(|| dialog.id.clone())
    }

    /// Before a reply to an INVITE outside dialogs: one of 101 to 199 makes the early dialog. An INVITE whose Contact
    /// cannot be read gets its provisional responses without one.
    pub(super) fn prepare_reply_outside(
        &mut self,
        server: u64,
        invite: &Request,
        reply: &mut Reply,
    ) -> Result<(), EngineError> {
        let early = self.servers.get(server).and_then(|server| self.dialogs.get(server.dialog?));
        if early.is_some_and(|dialog| dialog.reliable.holds_answer()) {
            return Err(EngineError::TransactionOver);
        }
        if reply.status.is_success() {
            return Err(EngineError::Misuse("a 2xx to an INVITE goes by accept"));
        }
        if reply.status.is_provisional() && reply.status != StatusCode::TRYING {
            let early = self.early_called(server, invite);
            early.into_iter().for_each(|serial| self.add_reply_headers(reply, serial));
        }
        Ok(())
    }

    /// The early dialog of an INVITE that came in, made where there is none.
    fn early_called(&mut self, server: u64, invite: &Request) -> Option<u64> {
        if let Some(known) = self.servers.get(server)?.dialog {
            return Some(known);
        }
        if self.is_full_of_dialogs() {
            return None;
        }
        let serial = self.open_called(server, invite).ok()?;
        let dialog = self.dialogs.get_mut(serial)?;
        (dialog.phase, dialog.origin) = (Phase::Early, Some(Origin::Called(server)));
        Some(serial)
    }

    /// An INVITE that came in was refused, or is forgotten: its early dialog is over.
    pub(super) fn close_called(&mut self, server: u64, dialog: Option<u64>) {
        let early = |serial: &u64| {
            self.dialogs.get(*serial).is_some_and(|dialog| dialog.origin == Some(Origin::Called(server)))
        };
        if let Some(serial) = dialog.filter(early) {
            self.forget_dialog(serial);
        }
    }

    /// A provisional response to an INVITE of ours: the early dialog that it makes or belongs to.
    pub(super) fn progressed(&mut self, client: u64, response: &Response) -> Option<u64> {
        let tag = response.headers.typed::<To>().ok()?.tag().map(Cow::into_owned)?;
        let known = self.clients.get(client)?.early.iter().find(|(known, _)| **known == *tag);
        match known {
            Some((_, serial)) => Some(*serial),
            None => self.early_calling(client, &tag, response),
        }
    }

    /// Without a Contact, which a provisional response may leave out (RFC 3261 §20, table 2), it is the URI that was called
    /// that requests go to.
    fn early_calling(&mut self, id: u64, tag: &str, response: &Response) -> Option<u64> {
        if response.status == StatusCode::TRYING {
            return None;
        }
        let forks = self.clients.get(id)?.early.len();
        if forks >= self.config.max_forks || self.is_full_of_dialogs() {
            self.watch.discard(DropReason::Forks);
            return None;
        }
        let invite = self.clients.get(id)?.invite.clone()?;
        let mut dialog = self.dialog_of_response(id, &invite, response)?;
        (dialog.phase, dialog.origin) = (Phase::Early, Some(Origin::Calling(id)));
        let serial = self.next_serial();
        self.watch.dialog(&dialog.id, DialogStep::Created);
        self.dialogs.insert(serial, dialog);
        self.clients.get_mut(id)?.early.push((tag.into(), serial));
        Some(serial)
    }

    fn dialog_of_response(&self, client: u64, invite: &Request, response: &Response) -> Option<Dialog> {
        let contact = Text::from(invite.headers.get(HeaderName::CONTACT).unwrap_or_default().into_owned());
        let client = self.clients.get(client)?;
        let mut dialog = Dialog::calling(invite, response, client.flow, contact).ok()?;
        dialog.proof = client.proof.anew();
        dialog.peer.clone_from(&client.name);
        Some(dialog)
    }

    /// The dialog of the branch that answered 2xx, out of the table: its early one, or a new one.
    pub(super) fn take_branch(
        &mut self,
        client: u64,
        invite: &Request,
        tag: &str,
        response: &Response,
    ) -> Option<(u64, Dialog)> {
        let early = &mut self.clients.get_mut(client)?.early;
        let known = early.iter().position(|(known, _)| **known == *tag).map(|at| early.swap_remove(at).1);
        match known {
            Some(serial) => self.dialogs.remove(serial).map(|dialog| (serial, dialog)),
            None => {
                let dialog = self.dialog_of_response(client, invite, response)?;
                Some((self.next_serial(), dialog))
            }
        }
    }

    /// The dialog of a branch that is not kept: its early one, to be put back, or one that is known for the moment.
    pub(super) fn borrow_branch(
        &mut self,
        client: u64,
        invite: &Request,
        tag: &str,
        response: &Response,
    ) -> Option<(Option<u64>, Dialog)> {
        let mut early = self.clients.get(client)?.early.iter();
        match early.find(|(known, _)| **known == *tag).map(|(_, serial)| *serial) {
            Some(serial) => Some((Some(serial), self.dialogs.remove(serial)?)),
            None => Some((None, self.dialog_of_response(client, invite, response)?)),
        }
    }

    /// An INVITE of ours has its final event: none of its early dialogs is wanted any more.
    pub(super) fn release_early(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.settled = true;
        for (_, serial) in client.early.clone() {
            let dialog = self.dialogs.get_mut(serial);
            if let Some(dialog) = dialog.filter(|dialog| matches!(dialog.phase, Phase::Early)) {
                dialog.phase = Phase::Released;
            }
        }
    }

    /// An INVITE of ours is forgotten, and its early dialogs with it.
    pub(super) fn close_calling(&mut self, early: &[(Box<str>, u64)]) {
        for (_, serial) in early {
            self.forget_dialog(*serial);
        }
    }
}
