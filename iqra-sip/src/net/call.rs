//! A call: one dialog, in either role, until one side hangs up.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::router::Router;
use super::shared::{Core, Handle};
use super::transfer::{IncomingRefer, Referral};
use crate::dialog::DialogId;
use crate::engine::flow::Flow;
use crate::event::{Body, EndReason, Refer, Reply, ServerTx};
use crate::message::{HeaderName, Headers, Method, Request, Response, StatusCode};

/// Events of one call that wait for the program; a request above it is answered as if it had been dropped.
const EVENT_QUEUE: usize = 32;

/// A call. Dropping it sends BYE.
pub struct Call {
    handle: CallHandle,
    flow: Option<Flow>,
    events: mpsc::Receiver<CallEvent>,
    ended: Option<oneshot::Receiver<EndReason>>,
}

/// What happens in a call.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallEvent {
    /// The ACK of our answer came; its body is the answer where the offer was ours. Once for a call that we accepted,
    /// and for each re-INVITE whose ACK has a body.
    Confirmed(Arc<Request>),
    /// A reliable provisional response of ours was acknowledged; the PRACK's body is the answer where that carried an
    /// offer. Only before the call is taken.
    Acknowledged(Arc<Request>),
    /// A request of the peer: re-INVITE, INFO, UPDATE and the like.
    Request(InDialogRequest),
    /// The peer asks us to call somebody. Only with [`TransferConfig::refer`](crate::TransferConfig).
    Referred(IncomingRefer),
    /// A reliable provisional response to a re-INVITE of ours without an offer makes one, which [`CallHandle::prack`]
    /// answers. Without its answer the peer gives the re-INVITE up after 64*T1 (32 s); the call goes on.
    Offered(Arc<Response>),
    /// A refresh of the session timer by re-INVITE was answered: the 2xx has the peer's session description.
    Refreshed(Arc<Response>),
    /// The call is over.
    Ended(EndReason),
}

/// Both ends of the way on which a call's events come.
pub(super) type Channel = (mpsc::Sender<CallEvent>, mpsc::Receiver<CallEvent>);

pub(super) fn channel() -> Channel {
    mpsc::channel(EVENT_QUEUE)
}

/// The router's end of a [`Call`].
pub(super) struct CallSlot {
    pub(super) events: mpsc::Sender<CallEvent>,
    pub(super) ended: oneshot::Sender<EndReason>,
}

impl Call {
    /// `events` is the channel of its early dialog, where it had one.
    pub(super) fn open(
        handle: Handle,
        id: DialogId,
        flow: Option<Flow>,
        router: &mut Router,
        events: Option<Channel>,
    ) -> Self {
        let (events, events_end) = events.unwrap_or_else(channel);
        let (ended, ended_end) = oneshot::channel();
        router.calls.insert(id.clone(), CallSlot { events, ended });
        Self { handle: CallHandle { handle, id }, flow, events: events_end, ended: Some(ended_end) }
    }

    /// The dialog.
    #[must_use]
    pub fn id(&self) -> &DialogId {
        &self.handle.id
    }

    /// Between which ends the INVITE travelled; `None` where the call ended before it was looked at.
    #[must_use]
    pub fn remote_flow(&self) -> Option<&Flow> {
        self.flow.as_ref()
    }

    /// A handle to act on the call from elsewhere. It does not keep the call up.
    #[must_use]
    pub fn handle(&self) -> CallHandle {
        self.handle.clone()
    }

    /// The next event; `None` after [`CallEvent::Ended`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<CallEvent> {
        let ended = self.ended.as_mut()?;
        let reason = tokio::select! {
            biased;
            Some(event) = self.events.recv() => return Some(event),
            reason = ended => reason.unwrap_or(EndReason::Shutdown),
        };
        self.ended = None;
        Some(CallEvent::Ended(reason))
    }

    /// Hangs up; returns when the BYE is on its way, or waits for the ACK that must come before it.
    ///
    /// # Errors
    /// [`Error::Engine`] when the call is over already.
    pub async fn hangup(mut self, headers: Headers) -> Result<(), Error> {
        self.ended = None;
        self.handle.hangup(headers)
    }

    /// Answers the offer of a 2xx in its ACK; see [`CallHandle::acknowledge`].
    ///
    /// # Errors
    /// As there.
    pub fn acknowledge(&self, headers: &Headers, body: Option<Body>) -> Result<(), Error> {
        self.handle.acknowledge(headers, body)
    }

    /// Answers the offer of a reliable provisional response in its PRACK; see [`CallHandle::prack`].
    ///
    /// # Errors
    /// As there.
    pub async fn prack(&self, headers: Headers, body: Option<Body>) -> Result<Arc<Response>, Error> {
        self.handle.prack(headers, body).await
    }

    /// Sends a request inside the call and waits for its final answer; see [`CallHandle::request`].
    ///
    /// # Errors
    /// As there.
    pub async fn request(
        &self,
        method: Method,
        headers: Headers,
        body: Option<Body>,
    ) -> Result<Arc<Response>, Error> {
        self.handle.request(method, headers, body).await
    }
}

impl Call {
    /// Asks the peer to call somebody; see [`CallHandle::refer`].
    ///
    /// # Errors
    /// As there.
    pub fn refer(&self, refer: Refer) -> Result<Referral, Error> {
        self.handle.refer(refer)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.ended.is_some() {
            // The peer may have hung up meanwhile.
            let _ = self.handle.hangup(Headers::new());
        }
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Call({:?})", self.id())
    }
}

/// Acts on a call from elsewhere.
#[derive(Clone)]
pub struct CallHandle {
    handle: Handle,
    id: DialogId,
}

impl CallHandle {
    pub(super) fn endpoint(&self) -> &Handle {
        &self.handle
    }

    /// The dialog.
    #[must_use]
    pub fn id(&self) -> &DialogId {
        &self.id
    }

    /// Hangs up. The owner of the [`Call`] sees [`EndReason::Local`].
    ///
    /// # Errors
    /// [`Error::Engine`] when the call is over already.
    pub fn hangup(&self, headers: Headers) -> Result<(), Error> {
        let ended = self.handle.enter(|core, now| {
            let slot = core.router.calls.remove(&self.id);
            core.engine.bye(now, &self.id, headers).map(|()| slot)
        })?;
        if let Some(slot) = ended {
            let _ = slot.ended.send(EndReason::Local);
        }
        Ok(())
    }

    /// Acknowledges a call that was placed with [`delayed_offer`](crate::event::CallOptions::delayed_offer), or a re-INVITE
    /// of ours without an offer: `body` answers the offer of the 2xx. Where that does not happen within 64*T1 (32 s) after
    /// the 2xx, the call ends with [`EndReason::AckTimeout`], unless the peer, which waits as long, hangs up first.
    ///
    /// # Errors
    /// [`Error::Engine`] when the call is over, or nothing waits for its ACK.
    pub fn acknowledge(&self, headers: &Headers, body: Option<Body>) -> Result<(), Error> {
        Ok(self.handle.enter(|core, now| core.engine.acknowledge(now, &self.id, headers, body))?)
    }

    /// Answers the offer that [`CallEvent::Offered`] brought, and waits for the answer to the PRACK (RFC 3262 §5).
    ///
    /// # Errors
    /// [`Error::Engine`] when no offer waits, [`Error::Timeout`], [`Error::Transport`].
    pub async fn prack(&self, headers: Headers, body: Option<Body>) -> Result<Arc<Response>, Error> {
        self.handle.answered(|core, now| Ok(core.engine.prack(now, &self.id, &headers, body)?)).await
    }

    /// Sends a request inside the call and waits for its final answer. A 2xx to a re-INVITE is acknowledged, unless the
    /// re-INVITE had no offer and the 2xx makes one: [`acknowledge`](Self::acknowledge) is then to answer it. An offer in a
    /// provisional response comes as [`CallEvent::Offered`].
    ///
    /// # Errors
    /// [`Error::Engine`] when the call is over or another INVITE is under way in it, [`Error::Timeout`],
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
}

/// A request of the peer inside a call. Dropped unanswered, a re-INVITE or UPDATE is answered 488 (the session stays as
/// it is), OPTIONS and an UPDATE without a body 200, INFO 469 where it names an Info Package and else 415, NOTIFY 481 or 489,
/// and everything else 405.
pub struct InDialogRequest {
    handle: Handle,
    tx: ServerTx,
    request: Arc<Request>,
    settled: bool,
}

impl InDialogRequest {
    pub(super) fn new(handle: Handle, tx: ServerTx, request: Arc<Request>) -> Self {
        Self { handle, tx, request, settled: false }
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Answers it, once and finally.
    ///
    /// # Errors
    /// [`Error::Engine`] where the peer cancelled it meanwhile, or the call is over: nothing that the answer says came
    /// about, and the session stays as it was (RFC 3261 §14.1).
    pub fn respond(mut self, reply: Reply) -> Result<(), Error> {
        self.settled = true;
        Ok(self.handle.enter(|core, now| core.engine.respond(now, self.tx, reply))?)
    }
}

impl Drop for InDialogRequest {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let method = &self.request.method;
        let _ = self.handle.enter(|core, now| {
            let reply = match method {
                Method::Update if self.request.body.is_empty() => Reply::new(StatusCode::OK),
                Method::Invite | Method::Update => Reply::new(StatusCode::NOT_ACCEPTABLE_HERE),
                Method::Options => core.engine.capabilities(),
                // Nobody said that packages are taken: the empty Recv-Info says so again (RFC 6086 §4.2.2).
                Method::Info if self.request.headers.contains("Info-Package") => {
                    Reply::new(StatusCode::BAD_INFO_PACKAGE).header("Recv-Info".into(), "")
                }
                // Its list of what is taken instead is empty (RFC 3261 §20.1, §21.4.13).
                Method::Info => Reply::new(StatusCode::UNSUPPORTED_MEDIA_TYPE).header(HeaderName::ACCEPT, ""),
                _ => core.engine.not_served(&self.request),
            };
            core.engine.respond(now, self.tx, reply)
        });
    }
}

impl std::fmt::Debug for InDialogRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InDialogRequest({:?})", self.request)
    }
}
