//! A call that we place, from the INVITE to its final answer.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::call::{Call, InDialogRequest};
use super::early::Early;
use super::pursue::Chase;
use super::router::Router;
use super::shared::Handle;
use crate::event::ClientTx;
use crate::message::{Headers, Response, Uri};
use crate::roles::uac::Outcome;

/// Events before the answer that wait for a program that does not read them; more responses are dropped, more requests
/// answered as if they had been.
const EVENT_QUEUE: usize = 16;

/// A call that we place. Dropped before its final answer it is cancelled; an answer that crosses is hung up.
pub struct OutgoingCall {
    attempt: Attempt,
    chase: Option<Box<Chase>>,
}

/// One INVITE of a call.
pub(super) struct Attempt {
    handle: Handle,
    tx: ClientTx,
    events: mpsc::Receiver<OutgoingEvent>,
    last: Option<oneshot::Receiver<OutgoingEvent>>,
}

/// How a call that we place goes.
#[derive(Debug)]
#[non_exhaustive]
pub enum OutgoingEvent {
    /// It rings, or early media begins: 101 to 199.
    Provisional {
        /// The response.
        response: Arc<Response>,
        /// The early dialog of the branch that sent it; the same dialog with each of its responses.
        early: Option<Early>,
        /// It carries an offer to be answered by [`Early::prack`]; only where the call asked for a delayed offer.
        offer: bool,
    },
    /// A request of the callee before the answer: UPDATE, INFO and the like.
    Request {
        /// The request, to be answered.
        request: InDialogRequest,
        /// The early dialog that it came in.
        early: Early,
    },
    /// One place redirected or refused the call, or stayed silent, and the next one is tried. Only for
    /// [`Endpoint::call`](super::Endpoint::call).
    Following {
        /// How the last place ended.
        after: Outcome,
        /// The next one.
        uri: Uri,
    },
    /// 3xx: the program decides whether to follow, or nothing of it may be followed.
    Redirected(Arc<Response>),
    /// 4xx to 6xx; 487 after [`OutgoingCall::cancel`].
    Failed(Arc<Response>),
    /// 2xx; the ACK has been sent.
    Answered(Call, Arc<Response>),
    /// Nobody answered within 64*T1.
    Timeout,
    /// The INVITE could not be sent.
    TransportError,
    /// The server answered and did not prove that it knows our secret
    /// ([`AuthConfig::server_proof`](crate::auth::AuthConfig)); the call has been hung up.
    Unproven,
}

/// The router's end of an [`OutgoingCall`].
pub(super) struct OutgoingSlot {
    pub(super) events: mpsc::Sender<OutgoingEvent>,
    pub(super) last: oneshot::Sender<OutgoingEvent>,
}

impl Attempt {
    pub(super) fn open(handle: &Handle, tx: ClientTx, router: &mut Router) -> Self {
        let (events, events_end) = mpsc::channel(EVENT_QUEUE);
        let (last, last_end) = oneshot::channel();
        router.outgoing.insert(tx, OutgoingSlot { events, last });
        Self { handle: handle.clone(), tx, events: events_end, last: Some(last_end) }
    }

    /// The next event; `None` after the final one. Cancel-safe.
    async fn next(&mut self) -> Option<OutgoingEvent> {
        let last = self.last.as_mut()?;
        let event = tokio::select! {
            biased;
            Some(event) = self.events.recv() => return Some(event),
            last = last => last.unwrap_or(OutgoingEvent::TransportError),
        };
        self.last = None;
        Some(event)
    }
}

impl OutgoingCall {
    pub(super) fn open(attempt: Attempt) -> Self {
        Self { attempt, chase: None }
    }

    pub(super) fn chasing(attempt: Attempt, chase: Chase) -> Self {
        Self { attempt, chase: Some(Box::new(chase)) }
    }

    /// The next event; `None` after the final one. Cancel-safe. A call that follows redirects goes on from here alone.
    pub async fn next(&mut self) -> Option<OutgoingEvent> {
        let Some(chase) = &mut self.chase else { return self.attempt.next().await };
        let event = match chase.set_out().await {
            None => self.attempt.next().await?,
            Some(Ok(attempt)) => {
                self.attempt = attempt;
                self.attempt.next().await?
            }
            Some(Err(_)) => OutgoingEvent::TransportError,
        };
        Some(chase.judge(event))
    }

    /// Gives up. The end still comes by [`next`](Self::next): 487 as a rule, also where a 2xx crossed the CANCEL (that
    /// call is hung up). `headers` go into the CANCEL, Reason among them.
    pub async fn cancel(&mut self, headers: Headers) {
        if let Some(end) = self.chase.take().and_then(|chase| chase.give_up()) {
            // Between two places: there is nothing to cancel, and the first of them was the last.
            let (last, last_end) = oneshot::channel();
            let _ = last.send(end);
            self.attempt.last = Some(last_end);
            return;
        }
        self.cancel_now(headers);
    }

    fn cancel_now(&self, headers: Headers) {
        // An INVITE that is over cannot be cancelled, and need not be.
        let Attempt { handle, tx, .. } = &self.attempt;
        let _ = handle.enter(|core, now| core.engine.cancel(now, *tx, headers));
    }
}

impl Drop for OutgoingCall {
    fn drop(&mut self) {
        if self.attempt.last.is_some() {
            self.cancel_now(Headers::new());
        }
    }
}
