//! A call that we place, from the INVITE to its final answer.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::call::Call;
use super::router::Router;
use super::shared::Handle;
use crate::event::ClientTx;
use crate::message::Response;

/// Provisional responses that wait for a program that does not read them; more are dropped.
const PROVISIONAL_QUEUE: usize = 16;

/// A call that we place. Dropped before its final answer it is cancelled; an answer that crosses is hung up.
pub struct OutgoingCall {
    handle: Handle,
    tx: ClientTx,
    provisional: mpsc::Receiver<Arc<Response>>,
    last: Option<oneshot::Receiver<OutgoingEvent>>,
}

/// How a call that we place goes.
#[derive(Debug)]
#[non_exhaustive]
pub enum OutgoingEvent {
    /// It rings, or early media begins: 101 to 199.
    Provisional(Arc<Response>),
    /// 3xx: the program decides whether to follow.
    Redirected(Arc<Response>),
    /// 4xx to 6xx; 487 after [`OutgoingCall::cancel`].
    Failed(Arc<Response>),
    /// 2xx; the ACK has been sent.
    Answered(Call, Arc<Response>),
    /// Nobody answered within 64*T1.
    Timeout,
    /// The INVITE could not be sent.
    TransportError,
}

/// The router's end of an [`OutgoingCall`].
pub(super) struct OutgoingSlot {
    pub(super) provisional: mpsc::Sender<Arc<Response>>,
    pub(super) last: oneshot::Sender<OutgoingEvent>,
}

impl OutgoingCall {
    pub(super) fn open(handle: Handle, tx: ClientTx, router: &mut Router) -> Self {
        let (provisional, provisional_end) = mpsc::channel(PROVISIONAL_QUEUE);
        let (last, last_end) = oneshot::channel();
        router.outgoing.insert(tx, OutgoingSlot { provisional, last });
        Self { handle, tx, provisional: provisional_end, last: Some(last_end) }
    }

    /// The next event; `None` after the final one. Cancel-safe.
    pub async fn next(&mut self) -> Option<OutgoingEvent> {
        let last = self.last.as_mut()?;
        let event = tokio::select! {
            biased;
            Some(response) = self.provisional.recv() => return Some(OutgoingEvent::Provisional(response)),
            last = last => last.unwrap_or(OutgoingEvent::TransportError),
        };
        self.last = None;
        Some(event)
    }

    /// Gives up. The end still comes by [`next`](Self::next): 487 as a rule, also where a 2xx crossed the CANCEL (that
    /// call is hung up).
    pub async fn cancel(&mut self) {
        self.cancel_now();
    }

    fn cancel_now(&self) {
        // An INVITE that is over cannot be cancelled, and need not be.
        let _ = self.handle.enter(|core, now| core.engine.cancel(now, self.tx));
    }
}

impl Drop for OutgoingCall {
    fn drop(&mut self) {
        if self.last.is_some() {
            self.cancel_now();
        }
    }
}
