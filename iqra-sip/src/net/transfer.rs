//! Transfers: the outcome of a REFER that we sent, and a REFER that we got (RFC 3515).

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::call::CallHandle;
use super::router::Router;
use super::shared::Handle;
use crate::event::{ClientTx, Refer, ReferTarget, ReferralEnd, ReferralEvent, ReferralId, Reply, ServerTx};
use crate::message::{Request, StatusCode};

/// Progress that waits for a program that does not read it; more is dropped, the end never.
const PROGRESS_QUEUE: usize = 16;

/// A transfer that we asked for. It goes on when this is dropped, and when the call ends.
pub struct Referral {
    progress: mpsc::Receiver<ReferralEvent>,
    last: Option<oneshot::Receiver<ReferralEvent>>,
}

/// The router's end of a [`Referral`].
pub(super) struct ReferralSlot {
    progress: mpsc::Sender<ReferralEvent>,
    last: oneshot::Sender<ReferralEvent>,
}

impl Referral {
    fn open(tx: ClientTx, router: &mut Router) -> Self {
        let (progress, progress_end) = mpsc::channel(PROGRESS_QUEUE);
        let (last, last_end) = oneshot::channel();
        router.referrals.insert(tx, ReferralSlot { progress, last });
        Self { progress: progress_end, last: Some(last_end) }
    }

    /// What happens next; `None` after [`ReferralEvent::Ended`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<ReferralEvent> {
        let last = self.last.as_mut()?;
        let shut_down = || ReferralEvent::Ended(ReferralEnd::Unknown { reason: None });
        let event = tokio::select! {
            biased;
            Some(event) = self.progress.recv() => return Some(event),
            last = last => last.unwrap_or_else(|_| shut_down()),
        };
        self.last = None;
        Some(event)
    }
}

impl Router {
    pub(super) fn route_referral(&mut self, tx: ClientTx, event: ReferralEvent) {
        if matches!(event, ReferralEvent::Ended(_)) {
            if let Some(slot) = self.referrals.remove(&tx) {
                // Nobody may be waiting any more.
                let _ = slot.last.send(event);
            }
        } else if let Some(slot) = self.referrals.get(&tx) {
            let _ = slot.progress.try_send(event);
        }
    }
}

impl CallHandle {
    /// Asks the peer to call somebody, by REFER; the call stays up until one side hangs up.
    ///
    /// # Errors
    /// [`Error::Engine`] when the call is over, or too many transfers are under way in it.
    pub fn refer(&self, refer: Refer) -> Result<Referral, Error> {
        self.endpoint().enter(|core, now| {
            let tx = core.engine.refer(now, self.id(), refer)?;
            Ok(Referral::open(tx, &mut core.router))
        })
    }
}

/// The peer asks us to call somebody. Dropped unanswered it is declined with 603.
pub struct IncomingRefer {
    handle: Handle,
    tx: ServerTx,
    request: Arc<Request>,
    target: Box<ReferTarget>,
    settled: bool,
}

impl IncomingRefer {
    pub(super) fn new(handle: Handle, tx: ServerTx, request: Arc<Request>, target: Box<ReferTarget>) -> Self {
        Self { handle, tx, request, target, settled: false }
    }

    /// The REFER.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Whom to call, and with what: [`ReferTarget::invite_headers`] go into the INVITE.
    #[must_use]
    pub fn target(&self) -> &ReferTarget {
        &self.target
    }

    /// Takes the task: 202, and `100 Trying` is told. Placing the call is the program's.
    ///
    /// # Errors
    /// [`Error::Engine`] when the call has ended, or too many transfers are under way in it, which is answered 500.
    pub fn accept(mut self) -> Result<TransferReport, Error> {
        let id = self.handle.enter(|core, now| core.engine.accept_refer(now, self.tx));
        match id {
            Ok(id) => {
                self.settled = true;
                Ok(TransferReport { handle: self.handle.clone(), id })
            }
            Err(error) => {
                self.refuse(Reply::new(StatusCode::SERVER_INTERNAL_ERROR));
                Err(error.into())
            }
        }
    }

    /// Refuses it.
    pub fn reject(mut self, reply: Reply) {
        self.refuse(reply);
    }

    fn refuse(&mut self, reply: Reply) {
        self.settled = true;
        let _ = self.handle.enter(|core, now| core.engine.respond(now, self.tx, reply));
    }
}

impl Drop for IncomingRefer {
    fn drop(&mut self) {
        if !self.settled {
            self.refuse(Reply::new(StatusCode::DECLINE));
        }
    }
}

/// Hides whom it is about.
impl std::fmt::Debug for IncomingRefer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IncomingRefer({:?})", self.request)
    }
}

/// Tells the peer how the call goes that it asked for. Dropped before a final status the peer hears of a timeout when
/// its subscription ends.
pub struct TransferReport {
    handle: Handle,
    id: Option<ReferralId>,
}

impl TransferReport {
    /// Tells a status of the new call; a final one is the last. Does nothing where the peer wants to hear nothing.
    ///
    /// # Errors
    /// [`Error::Engine`] after a final status, or when the peer listens no more.
    pub fn notify(&self, status: StatusCode) -> Result<(), Error> {
        let Some(id) = self.id else { return Ok(()) };
        Ok(self.handle.enter(|core, now| core.engine.notify(now, id, status))?)
    }
}
