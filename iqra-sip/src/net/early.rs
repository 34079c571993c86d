//! An early dialog: what can be done in a call before it is answered.

use std::sync::Arc;

use super::Error;
use super::shared::{Core, Handle};
use crate::dialog::DialogId;
use crate::event::Body;
use crate::message::{Headers, Method, Response};

/// An early dialog, in either role: one branch of a call that we place, or a call that waits for our answer. A handle; the
/// dialog lives as long as its INVITE does.
#[derive(Clone)]
pub struct Early {
    handle: Handle,
    id: DialogId,
}

impl Early {
    pub(super) fn new(handle: Handle, id: DialogId) -> Self {
        Self { handle, id }
    }

    /// The dialog; the call keeps it when this branch answers.
    #[must_use]
    pub fn id(&self) -> &DialogId {
        &self.id
    }

    /// Sends a request inside the early dialog (UPDATE, INFO) and waits for its final answer.
    ///
    /// # Errors
    /// [`Error::Engine`] when the dialog is over or the request does not fit it, [`Error::Timeout`],
    /// [`Error::Transport`].
    pub async fn request(
        &self,
        method: Method,
        headers: Headers,
        body: Option<Body>,
    ) -> Result<Arc<Response>, Error> {
        let ask =
            |core: &mut Core, now| Ok(core.engine.dialog_request(now, &self.id, method, &headers, body)?);
        self.handle.answered(ask).await
    }

    /// Answers the offer of a reliable provisional response, which the event marked, and waits for the answer to the PRACK
    /// (RFC 3262 §5).
    ///
    /// # Errors
    /// [`Error::Engine`] when no offer waits, [`Error::Timeout`], [`Error::Transport`].
    pub async fn prack(&self, headers: Headers, body: Option<Body>) -> Result<Arc<Response>, Error> {
        self.handle.answered(|core, now| Ok(core.engine.prack(now, &self.id, &headers, body)?)).await
    }

    /// Gives up this branch alone, by BYE; the INVITE goes on with the others (RFC 3261 §15).
    ///
    /// # Errors
    /// [`Error::Engine`] when the dialog is over, or the call is one that we have to answer.
    pub fn hangup(&self, headers: Headers) -> Result<(), Error> {
        Ok(self.handle.enter(|core, now| core.engine.bye(now, &self.id, headers))?)
    }
}

impl std::fmt::Debug for Early {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Early({:?})", self.id)
    }
}
