//! All dialogs of an engine: found by number, by name, and by a request of the peer (RFC 3261 §12.2.2).

use std::collections::HashMap;

#[cfg(feature = "faults")]
use super::Engine;
use super::event::EngineError;
use crate::dialog::{Dialog, DialogId, Phase};
use crate::message::Request;
use crate::message::header::{CallId, From, To};

/// All dialogs, by number and by name.
#[derive(Default)]
pub(super) struct Dialogs {
    by_serial: HashMap<u64, Dialog>,
    by_id: HashMap<DialogId, u64>,
}

impl Dialogs {
    pub(super) fn len(&self) -> usize {
        self.by_serial.len()
    }

    /// The dialog of this name.
    pub(super) fn named(&self, id: &DialogId) -> Option<&Dialog> {
        self.by_serial.get(self.by_id.get(id)?)
    }

    /// The dialog that a request of the peer belongs to: its To tag is ours (RFC 3261 §12.2.2).
    pub(super) fn find(&self, request: &Request) -> Option<u64> {
        let call_id: CallId = request.headers.typed().ok()?;
        let (from, to) = (request.headers.typed::<From>().ok()?, request.headers.typed::<To>().ok()?);
        let [remote, local] = [from.tag(), to.tag()].map(Option::unwrap_or_default);
        self.by_id.get(&DialogId::new(&call_id.to_str(), &local, &remote)).copied()
    }

    pub(super) fn get(&self, serial: u64) -> Option<&Dialog> {
        self.by_serial.get(&serial)
    }

    pub(super) fn get_mut(&mut self, serial: u64) -> Option<&mut Dialog> {
        self.by_serial.get_mut(&serial)
    }

    /// How many there are, early ones aside that their calls did not take: those go with their INVITE.
    pub(super) fn count(&self) -> usize {
        self.by_serial.values().filter(|dialog| !matches!(dialog.phase, Phase::Released)).count()
    }

    /// True when only early dialogs are left that their calls did not take.
    pub(super) fn are_quiet(&self) -> bool {
        self.by_serial.values().all(|dialog| matches!(dialog.phase, Phase::Released | Phase::Subscribed))
    }

    pub(super) fn remove(&mut self, serial: u64) -> Option<Dialog> {
        let dialog = self.by_serial.remove(&serial)?;
        if self.by_id.get(&dialog.id) == Some(&serial) {
            self.by_id.remove(&dialog.id);
        }
        Some(dialog)
    }

    pub(super) fn insert(&mut self, serial: u64, dialog: Dialog) {
        self.by_id.insert(dialog.id.clone(), serial);
        self.by_serial.insert(serial, dialog);
    }

    #[cfg(feature = "faults")]
    fn iter(&self) -> impl Iterator<Item = &Dialog> {
        self.by_serial.values()
    }

    pub(super) fn live(&mut self, id: &DialogId) -> Result<(u64, &mut Dialog), EngineError> {
        let serial = *self.by_id.get(id).ok_or(EngineError::DialogOver)?;
        let dialog = self.by_serial.get_mut(&serial).ok_or(EngineError::DialogOver)?;
        match dialog.phase.is_open() {
            true => Ok((serial, dialog)),
            false => Err(EngineError::DialogOver),
        }
    }
}

#[cfg(feature = "faults")]
impl Engine {
    /// What dialogs wait for that cannot come any more, in words: transactions that are gone. For tests: there are none.
    #[must_use]
    pub fn dangling(&self) -> Vec<String> {
        let served = |dialog: &Dialog| {
            [
                ("invite_in", dialog.invite_in),
                ("update_in", dialog.update_in),
                ("offer_in", dialog.reliable.offer_in()),
                ("outstanding", dialog.reliable.outstanding().map(|waiting| waiting.server)),
                ("unacknowledged", dialog.unacknowledged.map(|waiting| waiting.server)),
            ]
        };
        let asked = |dialog: &Dialog| {
            [
                ("invite_out", dialog.invite_out),
                ("update_out", dialog.update_out.map(|update| update.client)),
                ("ack_due", dialog.ack_due),
            ]
        };
        let name = |(name, id): (&str, u64)| format!("a dialog's {name} names {id}, which is gone");
        let some = |(name, id): (&'static str, Option<u64>)| Some((name, id?));
        let servers = self.dialogs.iter().flat_map(served).filter_map(some);
        let clients = self.dialogs.iter().flat_map(asked).filter_map(some);
        let servers = servers.filter(|(_, id)| self.servers.get(*id).is_none());
        servers.chain(clients.filter(|(_, id)| self.clients.get(*id).is_none())).map(name).collect()
    }
}
