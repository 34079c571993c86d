//! From the engine's events to the handles that wait for them, by bounded channels.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::call::{Call, CallEvent, CallSlot, InDialogRequest};
use super::incoming::{IncomingInvite, IncomingOther, IncomingRequest};
use super::outgoing::{OutgoingEvent, OutgoingSlot};
use super::shared::{Core, Handle};
use crate::dialog::DialogId;
use crate::event::{ClientTx, EndReason, Event, Failure, Reply, ServerTx};
use crate::message::{HeaderName, Response, StatusCode};

/// Who waits for what.
pub(crate) struct Router {
    /// Gone once the endpoint closes: new requests are then answered 503.
    incoming: Option<mpsc::Sender<IncomingRequest>>,
    pub(crate) invites: HashMap<ServerTx, oneshot::Sender<()>>,
    pub(crate) outgoing: HashMap<ClientTx, OutgoingSlot>,
    pub(crate) requests: HashMap<ClientTx, oneshot::Sender<Result<Arc<Response>, Error>>>,
    pub(crate) calls: HashMap<DialogId, CallSlot>,
}

/// What nobody took. Dropped outside the lock, for dropping it answers or hangs up.
#[allow(dead_code)] // Held only to be dropped.
pub(crate) enum Spare {
    Incoming(IncomingRequest),
    Outgoing(Box<OutgoingEvent>),
    Call(Box<CallEvent>),
}

impl Router {
    pub(crate) fn new(incoming: mpsc::Sender<IncomingRequest>) -> Self {
        Self {
            incoming: Some(incoming),
            invites: HashMap::new(),
            outgoing: HashMap::new(),
            requests: HashMap::new(),
            calls: HashMap::new(),
        }
    }

    pub(crate) fn close(&mut self) {
        self.incoming = None;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.incoming.is_none()
    }

    /// The end of everything: every handle that still waits learns it.
    pub(crate) fn end_all(&mut self) {
        self.close();
        for (_, slot) in self.calls.drain() {
            let _ = slot.ended.send(EndReason::Shutdown);
        }
        self.invites.clear();
        self.outgoing.clear();
        self.requests.clear();
    }
}

impl Core {
    /// Hands an event to whoever waits for it.
    pub(crate) fn route(
        &mut self,
        event: Event,
        handle: Option<&Handle>,
        now: Instant,
        spare: &mut Vec<Spare>,
    ) {
        match event {
            Event::Invite { tx, request, flow } => {
                let Some(handle) = self.admit(tx, handle, now) else { return };
                let (cancel, cancelled) = oneshot::channel();
                self.router.invites.insert(tx, cancel);
                let invite = IncomingInvite::new(handle, tx, request, flow, cancelled);
                self.offer(IncomingRequest::Invite(invite), spare);
            }
            Event::Request { tx, request, flow } => {
                let Some(handle) = self.admit(tx, handle, now) else { return };
                self.offer(IncomingRequest::Other(IncomingOther::new(handle, tx, request, flow)), spare);
            }
            Event::Cancelled { tx } => {
                if let Some(cancel) = self.router.invites.remove(&tx) {
                    let _ = cancel.send(());
                }
            }
            Event::Confirmed { dialog, ack } => self.tell_call(&dialog, CallEvent::Confirmed(ack), spare),
            Event::DialogRequest { dialog, tx, request } => {
                if let Some(handle) = handle {
                    let request = InDialogRequest::new(handle.clone(), tx, request);
                    self.tell_call(&dialog, CallEvent::Request(request), spare);
                }
            }
            Event::Ended { dialog, reason } => {
                if let Some(slot) = self.router.calls.remove(&dialog) {
                    let _ = slot.ended.send(reason);
                }
            }
            Event::Response { tx, response } => self.route_response(tx, response, spare),
            Event::Answered { tx, dialog, response } => {
                self.route_answer(tx, dialog, response, handle, spare);
            }
            Event::Failed { tx, failure } => self.route_failure(tx, failure, spare),
        }
    }

    /// The handle for a new request; none when the endpoint closes, or nobody could take the request.
    fn admit(&mut self, tx: ServerTx, handle: Option<&Handle>, now: Instant) -> Option<Handle> {
        let open = self.router.incoming.as_ref().is_some_and(|incoming| incoming.capacity() > 0);
        if open && handle.is_some() {
            return handle.cloned();
        }
        let busy = Reply::new(StatusCode::SERVICE_UNAVAILABLE).header(HeaderName::RETRY_AFTER, "5");
        let _ = self.engine.respond(now, tx, busy);
        None
    }

    fn offer(&mut self, request: IncomingRequest, spare: &mut Vec<Spare>) {
        let Some(incoming) = &self.router.incoming else { return spare.push(Spare::Incoming(request)) };
        if let Err(refused) = incoming.try_send(request) {
            spare.push(Spare::Incoming(refused.into_inner()));
        }
    }

    fn tell_call(&mut self, dialog: &DialogId, event: CallEvent, spare: &mut Vec<Spare>) {
        let refused = match self.router.calls.get(dialog) {
            Some(slot) => slot.events.try_send(event).err().map(mpsc::error::TrySendError::into_inner),
            None => Some(event),
        };
        spare.extend(refused.map(|event| Spare::Call(Box::new(event))));
    }

    fn route_response(&mut self, tx: ClientTx, response: Arc<Response>, spare: &mut Vec<Spare>) {
        if response.status.is_provisional() {
            if let Some(slot) = self.router.outgoing.get(&tx) {
                // A caller that does not look at its ringing loses the newest of it, never the answer.
                let _ = slot.provisional.try_send(response);
            }
            return;
        }
        if let Some(waiting) = self.router.requests.remove(&tx) {
            let _ = waiting.send(Ok(response));
        } else if response.status.is_redirect() {
            self.finish_outgoing(tx, OutgoingEvent::Redirected(response), spare);
        } else {
            self.finish_outgoing(tx, OutgoingEvent::Failed(response), spare);
        }
    }

    fn route_answer(
        &mut self,
        tx: ClientTx,
        dialog: DialogId,
        response: Arc<Response>,
        handle: Option<&Handle>,
        spare: &mut Vec<Spare>,
    ) {
        let Some(handle) = handle else { return };
        let flow = self.engine.dialog_flow(&dialog);
        let call = Call::open(handle.clone(), dialog, flow, &mut self.router);
        self.finish_outgoing(tx, OutgoingEvent::Answered(call, response), spare);
    }

    fn route_failure(&mut self, tx: ClientTx, failure: Failure, spare: &mut Vec<Spare>) {
        if let Some(waiting) = self.router.requests.remove(&tx) {
            let _ = waiting.send(Err(failure.into()));
            return;
        }
        let event = match failure {
            Failure::Timeout => OutgoingEvent::Timeout,
            Failure::Transport => OutgoingEvent::TransportError,
        };
        self.finish_outgoing(tx, event, spare);
    }

    fn finish_outgoing(&mut self, tx: ClientTx, event: OutgoingEvent, spare: &mut Vec<Spare>) {
        let refused = match self.router.outgoing.remove(&tx) {
            Some(slot) => slot.last.send(event).err(),
            None => Some(event),
        };
        spare.extend(refused.map(|event| Spare::Outgoing(Box::new(event))));
    }
}
