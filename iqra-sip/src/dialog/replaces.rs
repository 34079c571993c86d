//! Replaces: which dialog an INVITE may take the place of (RFC 3891 §3).
//!
//! In comes the one Replaces header of an INVITE and the dialog that it names, if there is one; out comes what is
//! replaced, or the status that refuses.

use super::{Dialog, DialogId, Origin, Phase};
use crate::engine::event::ClientTx;
use crate::message::header::Replaces;
use crate::message::{HeaderName, Headers, StatusCode};

/// The option tag (RFC 3891 §6.2).
pub(crate) const TAG: &str = "replaces";

/// What an INVITE takes the place of, once it is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaced {
    /// A call that has been answered: it is hung up.
    Call(DialogId),
    /// A call of ours that still rings at the peer: it is cancelled.
    Ringing(ClientTx),
}

/// The one Replaces header; several, or one that cannot be read, are answered 400.
pub(crate) fn read(headers: &Headers) -> Result<Option<Replaces>, StatusCode> {
    let mut all = headers.typed_all::<Replaces>();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(Ok(replaces)), None) if headers.all(HeaderName::REPLACES).count() == 1 => Ok(Some(replaces)),
        _ => Err(StatusCode::BAD_REQUEST),
    }
}

/// Whether the dialog that a Replaces names may be replaced.
pub(crate) fn judge(dialog: Option<&Dialog>, early_only: bool) -> Result<Replaced, StatusCode> {
    let dialog = dialog.ok_or(StatusCode::CALL_DOES_NOT_EXIST)?;
    match (&dialog.phase, dialog.origin) {
        (Phase::Early, Some(Origin::Calling(client))) => Ok(Replaced::Ringing(ClientTx(client))),
        // A call that rings here is the caller's own to give up.
        (Phase::Early, _) => Err(StatusCode::CALL_DOES_NOT_EXIST),
        (Phase::Live, _) if early_only => Err(StatusCode::BUSY_HERE),
        (Phase::Live, _) => Ok(Replaced::Call(dialog.id.clone())),
        _ => Err(StatusCode::DECLINE),
    }
}
