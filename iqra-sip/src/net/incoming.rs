//! Requests of callers, outside dialogs: what an [`Incoming`] yields, each to be answered once.

use std::borrow::Cow;
use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::call::{self, Call, CallEvent};
use super::early::Early;
use super::router::busy;
use super::shared::{Core, Handle, Shared};
use crate::engine::flow::Flow;
use crate::event::{Body, EngineError, Replaced, Reply, ServerTx};
use crate::message::header::From;
use crate::message::{HeaderName, Headers, Method, Request, StatusCode};

/// The requests that arrive outside dialogs. When it is not read, new ones are answered 503; when it is dropped, those that
/// nobody took are too.
pub struct Incoming {
    requests: mpsc::Receiver<IncomingRequest>,
    shared: Weak<Shared>,
}

impl Incoming {
    pub(super) fn new(requests: mpsc::Receiver<IncomingRequest>, shared: &Arc<Shared>) -> Self {
        Self { requests, shared: Arc::downgrade(shared) }
    }

    /// The next request; `None` once the endpoint has been shut down. Cancel-safe.
    pub async fn next(&mut self) -> Option<IncomingRequest> {
        self.requests.recv().await
    }
}

/// Empties the queue, for what stays in it would be dropped with its last sender, by whoever that is. A place in it is given
/// and filled under the lock of one shard: once each lock was free after the queue has closed, nothing follows.
impl Drop for Incoming {
    fn drop(&mut self) {
        self.requests.close();
        if let Some(shared) = self.shared.upgrade() {
            shared.ids().for_each(|id| drop(shared.shard(id).lock()));
        }
        while let Ok(request) = self.requests.try_recv() {
            request.abandon();
        }
    }
}

/// A request outside a dialog.
#[derive(Debug)]
pub enum IncomingRequest {
    /// Somebody calls.
    Invite(IncomingInvite),
    /// OPTIONS, MESSAGE, REGISTER and the like.
    Other(IncomingOther),
}

impl IncomingRequest {
    /// Nobody takes it.
    fn abandon(self) {
        match self {
            IncomingRequest::Invite(invite) => {
                let tx = invite.tx;
                invite.reject(busy(tx));
            }
            IncomingRequest::Other(request) => {
                let tx = request.tx;
                request.respond(busy(tx));
            }
        }
    }
}

/// The 2xx to an INVITE.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Further headers. A Contact given here replaces the endpoint's.
    pub headers: Headers,
    /// The answer, or the offer where the INVITE had none.
    pub body: Option<Body>,
}

impl Answer {
    /// An answer with a session description.
    #[must_use]
    pub fn sdp(bytes: impl Into<bytes::Bytes>) -> Self {
        Self { headers: Headers::new(), body: Some(Body::sdp(bytes)) }
    }
}

/// An INVITE that waits for its answer. The caller hears 100 after 200 ms of silence; dropping it unanswered rejects it
/// with 500.
pub struct IncomingInvite {
    handle: Handle,
    tx: ServerTx,
    request: Arc<Request>,
    flow: Flow,
    gone: oneshot::Receiver<Option<Arc<Request>>>,
    cancel: Option<Arc<Request>>,
    events: Option<mpsc::Receiver<CallEvent>>,
    replaces: Option<Replaced>,
    settled: bool,
}

/// The router's end of an [`IncomingInvite`]. The channel is made with the early dialog.
pub(super) struct InviteSlot {
    pub(super) gone: oneshot::Sender<Option<Arc<Request>>>,
    pub(super) events: Option<mpsc::Sender<CallEvent>>,
    events_end: Option<mpsc::Receiver<CallEvent>>,
}

impl InviteSlot {
    pub(super) fn new(gone: oneshot::Sender<Option<Arc<Request>>>) -> Self {
        Self { gone, events: None, events_end: None }
    }

    fn open(&mut self) {
        if self.events.is_none() {
            let (events, events_end) = call::channel();
            (self.events, self.events_end) = (Some(events), Some(events_end));
        }
    }
}

impl IncomingInvite {
    pub(super) fn new(
        handle: Handle,
        tx: ServerTx,
        request: Arc<Request>,
        flow: Flow,
        gone: oneshot::Receiver<Option<Arc<Request>>>,
        replaces: Option<Replaced>,
    ) -> Self {
        let (cancel, events) = (None, None);
        Self { handle, tx, request, flow, gone, cancel, events, replaces, settled: false }
    }

    /// The INVITE.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Where it came from.
    #[must_use]
    pub fn source(&self) -> &Flow {
        &self.flow
    }

    /// The call that it takes the place of once it is accepted (RFC 3891); whether the caller may is the program's to
    /// say. Only with [`TransferConfig::replaces`](crate::TransferConfig).
    #[must_use]
    pub fn replaces(&self) -> Option<&Replaced> {
        self.replaces.as_ref()
    }

    /// Its Call-ID.
    #[must_use]
    pub fn call_id(&self) -> Cow<'_, str> {
        self.request.headers.get(HeaderName::CALL_ID).unwrap_or_default()
    }

    /// The caller's tag; empty for a caller after RFC 2543.
    #[must_use]
    pub fn from_tag(&self) -> String {
        let from = self.request.headers.typed::<From>().ok();
        from.and_then(|from| from.tag().map(Cow::into_owned)).unwrap_or_default()
    }

    /// Sends a provisional response, 180 or 183. It makes the early dialog, [`early`](Self::early).
    ///
    /// # Errors
    /// [`Error::Engine`] when the INVITE was cancelled, or the status is not 101 to 199.
    pub async fn provisional(
        &self,
        status: StatusCode,
        headers: Headers,
        body: Option<Body>,
    ) -> Result<(), Error> {
        if !status.is_provisional() {
            return Err(EngineError::Misuse("provisional takes a status from 101 to 199").into());
        }
        let reply = Reply { headers, body, ..Reply::new(status) };
        self.handle.enter(|core, now| {
            core.engine.respond(now, self.tx, reply)?;
            if let Some(slot) = core.router.invites.get_mut(&self.tx) {
                slot.open();
            }
            Ok(())
        })
    }

    /// The early dialog, once a provisional response was sent.
    #[must_use]
    pub fn early(&self) -> Option<Early> {
        let dialog = self.handle.enter(|core, _| core.engine.early_dialog(self.tx))?;
        Some(Early::new(self.handle.clone(), dialog))
    }

    /// The next event of the early dialog; `None` once the caller gave up, as [`cancelled`](Self::cancelled). What is
    /// left unread when the call is taken comes by [`Call::next`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<CallEvent> {
        if self.settled {
            return None;
        }
        if self.events.is_none() {
            self.events =
                self.handle.enter(|core, _| core.router.invites.get_mut(&self.tx)?.events_end.take());
        }
        let events = &mut self.events;
        tokio::select! {
            biased;
            Some(event) = async { events.as_mut()?.recv().await } => Some(event),
            cancel = &mut self.gone => {
                (self.cancel, self.settled) = (cancel.ok().flatten(), true);
                None
            }
        }
    }

    /// Waits until the caller cancels (487 has been sent then) or the transport fails. Cancel-safe.
    pub async fn cancelled(&mut self) {
        if !self.settled {
            let cancel = (&mut self.gone).await;
            (self.cancel, self.settled) = (cancel.ok().flatten(), true);
        }
    }

    /// What the caller gave up with, after [`cancelled`](Self::cancelled): the CANCEL, or the BYE inside the early dialog.
    /// Its Reason says why.
    #[must_use]
    pub fn cancel_request(&self) -> Option<&Request> {
        self.cancel.as_deref()
    }

    /// Refuses the call, or redirects it. The status is 300 or more; anything else becomes 500. Gives whether the
    /// answer left: one that the caller cancelled meanwhile has its 487.
    pub fn reject(mut self, reply: Reply) -> bool {
        let refuses = reply.status.code() >= 300;
        let reply = if refuses { reply } else { Reply::new(StatusCode::SERVER_INTERNAL_ERROR) };
        self.refuse(reply)
    }

    /// Leaves the INVITE to what `act` starts; where that fails it is refused as if it had been dropped.
    pub(super) fn hand_over(
        mut self,
        act: impl FnOnce(&mut Core, Instant, ServerTx) -> Result<(), EngineError>,
    ) -> Result<(Handle, ServerTx), EngineError> {
        self.handle.enter(|core, now| {
            act(core, now, self.tx)?;
            core.router.invites.remove(&self.tx);
            Ok(())
        })?;
        self.settled = true;
        Ok((self.handle.clone(), self.tx))
    }

    /// Sends nothing and keeps nothing, because another element answers this INVITE.
    pub fn ignore(mut self) {
        self.settled = true;
        self.handle.enter(|core, _| {
            core.router.invites.remove(&self.tx);
            core.engine.forget(self.tx);
        });
    }

    fn refuse(&mut self, reply: Reply) -> bool {
        self.settled = true;
        self.handle.enter(|core, now| {
            core.router.invites.remove(&self.tx);
            core.engine.respond(now, self.tx, reply).is_ok()
        })
    }

    /// Takes the call. The 2xx is repeated until the ACK comes, which [`CallEvent::Confirmed`](super::CallEvent) tells.
    ///
    /// # Errors
    /// [`Error::Engine`] when the call was cancelled meanwhile or its INVITE has no usable Contact, which is answered
    /// 400.
    pub async fn accept(mut self, answer: Answer) -> Result<Call, Error> {
        let Answer { headers, body } = answer;
        let reply = Reply { headers, body, ..Reply::new(StatusCode::OK) };
        let accepted = self.handle.enter(|core, now| {
            let dialog = core.engine.accept(now, self.tx, reply)?;
            let slot = core.router.invites.remove(&self.tx);
            let events = slot.and_then(|slot| slot.events.zip(slot.events_end.or(self.events.take())));
            Ok(Call::open(self.handle.clone(), dialog, Some(self.flow), &mut core.router, events))
        });
        match accepted {
            Err(EngineError::Header(header)) => {
                self.refuse(Reply::new(StatusCode::BAD_REQUEST).reason(format!("Unusable {header}")));
                Err(EngineError::Header(header).into())
            }
            settled => {
                self.settled = true;
                let call = settled?;
                self.handle.shared().replaced(self.handle.shard(), &self.request, call.id());
                Ok(call)
            }
        }
    }
}

impl Drop for IncomingInvite {
    fn drop(&mut self) {
        if !self.settled {
            self.refuse(Reply::new(StatusCode::SERVER_INTERNAL_ERROR));
        }
    }
}

/// Shows where it came from; the request's Debug hides values.
impl std::fmt::Debug for IncomingInvite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IncomingInvite({:?} from {})", self.request, self.flow.remote)
    }
}

/// Any other request outside a dialog. Dropped unanswered, OPTIONS is answered 200 and everything else 405.
pub struct IncomingOther {
    handle: Handle,
    tx: ServerTx,
    request: Arc<Request>,
    flow: Flow,
    settled: bool,
}

impl IncomingOther {
    pub(super) fn new(handle: Handle, tx: ServerTx, request: Arc<Request>, flow: Flow) -> Self {
        Self { handle, tx, request, flow, settled: false }
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Where it came from.
    #[must_use]
    pub fn source(&self) -> &Flow {
        &self.flow
    }

    /// Answers it, once and finally.
    pub fn respond(mut self, reply: Reply) {
        self.settle(reply);
    }

    fn settle(&mut self, reply: Reply) {
        self.settled = true;
        let _ = self.handle.enter(|core, now| core.engine.respond(now, self.tx, reply));
    }

    /// Leaves the request to what `act` starts; where that fails it is answered 500.
    pub(super) fn hand_over(
        mut self,
        act: impl FnOnce(&mut Core, Instant, ServerTx) -> Result<(), EngineError>,
    ) -> Result<(Handle, ServerTx), EngineError> {
        let started = self.handle.enter(|core, now| act(core, now, self.tx));
        if let Err(error) = started {
            self.settle(Reply::new(StatusCode::SERVER_INTERNAL_ERROR));
            return Err(error);
        }
        self.settled = true;
        Ok((self.handle.clone(), self.tx))
    }
}

impl Drop for IncomingOther {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let _ = self.handle.enter(|core, now| {
            let reply = match self.request.method {
                Method::Options => core.engine.capabilities(),
                _ => core.engine.not_served(&self.request),
            };
            core.engine.respond(now, self.tx, reply)
        });
    }
}

/// Shows where it came from; the request's Debug hides values.
impl std::fmt::Debug for IncomingOther {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IncomingOther({:?} from {})", self.request, self.flow.remote)
    }
}
