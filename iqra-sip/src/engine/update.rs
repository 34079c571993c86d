//! Requests that change a session and meet each other: one INVITE and one UPDATE at a time, one offer at a time
//! (RFC 3261 §14.1, §14.2; RFC 3311 §5.1, §5.2).

use super::Engine;
use super::event::{EngineError, Reply};
use crate::dialog::{Dialog, Origin, Phase, UpdateOut, has_session};
use crate::message::{HeaderName, Method, Request, StatusCode};

/// True while an INVITE of either side is under way, the first one included.
pub(super) fn has_invite(dialog: &Dialog) -> bool {
    asks(dialog) || dialog.invite_in.is_some() || dialog.unacknowledged.is_some()
}

/// True while an INVITE of ours is under way, or the first one of either side.
fn asks(dialog: &Dialog) -> bool {
    dialog.origin.is_some() || dialog.invite_out.is_some() || dialog.ack_due.is_some()
}

/// What comes too early is answered 500 and may come again after `retry` seconds.
pub(super) fn too_early(retry: u32) -> Result<(), Box<Reply>> {
    let reply = Reply::new(StatusCode::SERVER_INTERNAL_ERROR);
    Err(Box::new(reply.header(HeaderName::RETRY_AFTER, retry.to_string())))
}

fn pending() -> Result<(), Box<Reply>> {
    Err(Box::new(Reply::new(StatusCode::REQUEST_PENDING)))
}

/// One INVITE at a time: a second one of theirs is answered 500, one that crosses ours 491 (RFC 3261 §14.2), or that meets
/// the offer of our 2xx (RFC 5407 §3.1.5). One that has overtaken an ACK without a description is taken: offer and answer
/// are done, and who sends it has our 2xx (RFC 5407 §3.1.4).
pub(super) fn admit_reinvite(dialog: &mut Dialog, id: u64, retry: u32) -> Result<(), Box<Reply>> {
    let second = dialog.invite_in.is_some() || dialog.update_in.is_some();
    let leaving = matches!(dialog.phase, Phase::HangUpAfterAck(_));
    if second || leaving || matches!(dialog.origin, Some(Origin::Called(_))) {
        return too_early(retry);
    }
    if asks(dialog) || dialog.awaits_answer() {
        return pending();
    }
    dialog.invite_in = Some(id);
    Ok(())
}

/// A second UPDATE before the answer of the first is answered 500; one with an offer 491 where ours is unanswered, and 500
/// where theirs is (RFC 3311 §5.2).
pub(super) fn admit_update(
    dialog: &mut Dialog,
    id: u64,
    update: &Request,
    retry: u32,
) -> Result<(), Box<Reply>> {
    let offer = has_session(&update.headers, &update.body);
    if dialog.update_in.is_some() {
        return too_early(retry);
    }
    if offer && dialog.awaits_answer() {
        return pending();
    }
    if offer && dialog.owes_answer() {
        return too_early(retry);
    }
    dialog.update_in = Some(id);
    Ok(())
}

/// Whether a request of ours may leave.
pub(super) fn check_glare(dialog: &Dialog, method: &Method, offer: bool) -> Result<(), EngineError> {
    match method {
        Method::Invite if has_invite(dialog) => {
            Err(EngineError::Misuse("another INVITE is under way in this dialog"))
        }
        Method::Update if dialog.update_out.is_some() => {
            Err(EngineError::Misuse("another UPDATE is under way in this dialog"))
        }
        Method::Invite | Method::Update if offer && (dialog.awaits_answer() || dialog.owes_answer()) => {
            Err(EngineError::Misuse("an offer is unanswered in this dialog: wait for its answer"))
        }
        Method::Invite | Method::Update if offer && dialog.reliable.awaits_prack_of_session() => {
            Err(EngineError::Misuse("an answer in this dialog waits for its PRACK: offer after it"))
        }
        _ => Ok(()),
    }
}

impl Engine {
    /// Remembers a re-INVITE or UPDATE of ours until its final answer.
    pub(super) fn note_glare(&mut self, serial: u64, client: u64, method: &Method, offer: bool) {
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        match method {
            Method::Invite => dialog.invite_out = Some(client),
            Method::Update => dialog.update_out = Some(UpdateOut { client, offer }),
            _ => {}
        }
    }
}
