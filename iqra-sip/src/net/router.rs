//! From the engine's events to the handles that wait for them, by bounded channels.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::call::{Call, CallEvent, CallSlot, InDialogRequest};
use super::early::Early;
use super::incoming::{IncomingInvite, IncomingOther, IncomingRequest, InviteSlot};
use super::outgoing::{OutgoingEvent, OutgoingSlot};
use super::relay::RelaySlot;
use super::shared::{Core, Handle};
use super::transfer::{IncomingRefer, ReferralSlot};
use crate::dialog::DialogId;
use crate::event::{ClientTx, EndReason, Event, Failure, InviteTx, Reply, ServerTx};
use crate::message::{HeaderName, Request, Response, StatusCode};

/// Who waits for what.
pub(crate) struct Router {
    /// Gone once the endpoint closes: new requests are then answered 503.
    incoming: Option<mpsc::Sender<IncomingRequest>>,
    pub(crate) invites: HashMap<ServerTx, InviteSlot>,
    pub(crate) outgoing: HashMap<ClientTx, OutgoingSlot>,
    pub(super) referrals: HashMap<ClientTx, ReferralSlot>,
    pub(crate) requests: HashMap<ClientTx, oneshot::Sender<Result<Arc<Response>, Error>>>,
    pub(crate) calls: HashMap<DialogId, CallSlot>,
    pub(super) relays: HashMap<ServerTx, RelaySlot>,
}

/// What nobody took. Dropped outside the lock, for dropping it answers or hangs up.
#[allow(dead_code)] // Held only to be dropped.
pub(crate) enum Spare {
    Outgoing(Box<OutgoingEvent>),
    Call(Box<CallEvent>),
}

/// The answer to a request that nobody takes. When it may come again differs from request to request, so that not all come
/// at once (RFC 3261 §21.5.4).
pub(super) fn busy(tx: ServerTx) -> Reply {
    let seconds = 2 + tx.0 % 7;
    Reply::new(StatusCode::SERVICE_UNAVAILABLE).header(HeaderName::RETRY_AFTER, seconds.to_string())
}

impl Router {
    pub(crate) fn new(incoming: mpsc::Sender<IncomingRequest>) -> Self {
        Self {
            incoming: Some(incoming),
            invites: HashMap::new(),
            outgoing: HashMap::new(),
            requests: HashMap::new(),
            referrals: HashMap::new(),
            calls: HashMap::new(),
            relays: HashMap::new(),
        }
    }

    /// Takes no new requests any more. Whoever closes drops what it gives back outside the lock, as everything that may
    /// hold a handle: the last sender drops what its queue still holds.
    #[must_use]
    pub(super) fn close(&mut self) -> Option<mpsc::Sender<IncomingRequest>> {
        self.incoming.take()
    }

    /// Requests that wait for the program.
    pub(crate) fn queued(&self) -> usize {
        self.incoming.as_ref().map_or(0, |incoming| incoming.max_capacity() - incoming.capacity())
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.incoming.is_none()
    }

    /// The handle for a new request, and its place in the queue, which other shards fill too; none when the endpoint
    /// closes, or nobody could take the request.
    fn room(&self, handle: Option<&Handle>) -> Option<(Handle, mpsc::Permit<'_, IncomingRequest>)> {
        Some((handle?.clone(), self.incoming.as_ref()?.try_reserve().ok()?))
    }

    /// The caller of an INVITE is gone.
    fn cancelled(&mut self, tx: ServerTx, by: Option<Arc<Request>>) {
        if let Some(slot) = self.invites.remove(&tx) {
            let _ = slot.gone.send(by);
        }
    }

    /// A call is over.
    fn ended(&mut self, dialog: &DialogId, reason: EndReason) {
        if let Some(slot) = self.calls.remove(dialog) {
            let _ = slot.ended.send(reason);
        }
    }

    /// The end of everything: every handle that still waits learns it.
    #[must_use]
    pub(super) fn end_all(&mut self) -> Option<mpsc::Sender<IncomingRequest>> {
        for (_, slot) in self.calls.drain() {
            let _ = slot.ended.send(EndReason::Shutdown);
        }
        self.invites.clear();
        self.outgoing.clear();
        self.requests.clear();
        self.relays.clear();
        self.referrals.clear();
        self.close()
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
            Event::Invite { tx, request, flow, replaces } => {
                let Some((handle, room)) = self.router.room(handle) else { return self.refuse_busy(tx, now) };
                let (gone, gone_end) = oneshot::channel();
                let invite = IncomingInvite::new(handle, tx, request, flow, gone_end, replaces);
                room.send(IncomingRequest::Invite(invite));
                self.router.invites.insert(tx, InviteSlot::new(gone));
            }
            Event::Request { tx, request, flow } => {
                let Some((handle, room)) = self.router.room(handle) else { return self.refuse_busy(tx, now) };
                room.send(IncomingRequest::Other(IncomingOther::new(handle, tx, request, flow)));
            }
            Event::Cancelled { tx, by } => self.router.cancelled(tx, by),
            Event::Acknowledged { tx, prack } => {
                self.tell_invite(tx, CallEvent::Acknowledged(prack), spare);
            }
            Event::Confirmed { dialog, ack } => self.tell_call(&dialog, CallEvent::Confirmed(ack), spare),
            Event::DialogRequest { dialog, tx, request, invite } => {
                if let Some(handle) = handle {
                    let request = InDialogRequest::new(handle.clone(), tx, request);
                    self.route_within(dialog, request, invite, handle, spare);
                }
            }
            Event::Referred { dialog, tx, request, target } => {
                if let Some(handle) = handle {
                    let refer = IncomingRefer::new(handle.clone(), tx, request, target);
                    self.tell_call(&dialog, CallEvent::Referred(refer), spare);
                }
            }
            Event::Referral { tx, event } => self.router.route_referral(tx, event),
            Event::Refreshed { dialog, response } => {
                self.tell_call(&dialog, CallEvent::Refreshed(response), spare);
            }
            Event::Ended { dialog, reason } => self.router.ended(&dialog, reason),
            Event::Response { response, early: Some(dialog), offer: true, .. }
                if self.router.calls.contains_key(&dialog) =>
            {
                self.tell_call(&dialog, CallEvent::Offered(response), spare);
            }
            Event::Response { tx, response, early, offer } if response.status.is_provisional() => {
                let early = early.zip(handle).map(|(id, handle)| Early::new(handle.clone(), id));
                self.tell_caller(tx, OutgoingEvent::Provisional { response, early, offer }, spare);
            }
            Event::Response { tx, response, .. } => self.route_final(tx, response, spare),
            Event::Answered { tx, dialog, response } => {
                self.route_answer(tx, dialog, response, handle, spare);
            }
            Event::Relay { tx, event } => self.router.tell_relay(tx, event),
            Event::Lookup(lookup) => self.look_up(*lookup, handle, now),
            Event::Failed { tx, failure } => self.route_failure(tx, failure, spare),
        }
    }

    fn refuse_busy(&mut self, tx: ServerTx, now: Instant) {
        let _ = self.engine.respond(now, tx, busy(tx));
    }

    /// An event of an INVITE that its program has not answered yet.
    fn tell_invite(&mut self, tx: ServerTx, event: CallEvent, spare: &mut Vec<Spare>) {
        if let Some(slot) = self.router.invites.get(&tx) {
            let refused = slot.events.as_ref().and_then(|events| events.try_send(event).err());
            spare.extend(refused.map(|event| Spare::Call(Box::new(event.into_inner()))));
        }
    }

    fn tell_call(&mut self, dialog: &DialogId, event: CallEvent, spare: &mut Vec<Spare>) {
        let refused = match self.router.calls.get(dialog) {
            Some(slot) => slot.events.try_send(event).err().map(mpsc::error::TrySendError::into_inner),
            None => Some(event),
        };
        spare.extend(refused.map(|event| Spare::Call(Box::new(event))));
    }

    /// A request inside a dialog: to the call, or before there is one to whoever waits for the INVITE.
    fn route_within(
        &mut self,
        dialog: DialogId,
        request: InDialogRequest,
        invite: Option<InviteTx>,
        handle: &Handle,
        spare: &mut Vec<Spare>,
    ) {
        let Some(InviteTx::Ours(tx)) = invite else {
            return self.tell_callee(&dialog, invite, CallEvent::Request(request), spare);
        };
        let event = OutgoingEvent::Request { request, early: Early::new(handle.clone(), dialog) };
        self.tell_caller(tx, event, spare);
    }

    /// An event of a call, or of an early dialog of a call that waits for its answer.
    fn tell_callee(
        &mut self,
        dialog: &DialogId,
        invite: Option<InviteTx>,
        event: CallEvent,
        spare: &mut Vec<Spare>,
    ) {
        let waiting = match invite {
            Some(InviteTx::Theirs(tx)) => self.router.invites.get(&tx),
            _ => None,
        };
        let Some(events) = waiting.and_then(|slot| slot.events.as_ref()) else {
            return self.tell_call(dialog, event, spare);
        };
        if let Err(refused) = events.try_send(event) {
            spare.push(Spare::Call(Box::new(refused.into_inner())));
        }
    }

    /// A caller that does not look at its events loses the newest responses, never the answer.
    fn tell_caller(&mut self, tx: ClientTx, event: OutgoingEvent, spare: &mut Vec<Spare>) {
        let refused = match self.router.outgoing.get(&tx) {
            Some(slot) => slot.events.try_send(event).err().map(mpsc::error::TrySendError::into_inner),
            None => Some(event),
        };
        spare.extend(refused.map(|event| Spare::Outgoing(Box::new(event))));
    }

    fn route_final(&mut self, tx: ClientTx, response: Arc<Response>, spare: &mut Vec<Spare>) {
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
        let call = Call::open(handle.clone(), dialog, flow, &mut self.router, None);
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
            Failure::Unproven => OutgoingEvent::Unproven,
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

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::engine::flow::{Flow, Transport};
    use crate::net::shared::now;
    use crate::net::{Endpoint, Incoming};

    fn request(method: &str) -> Bytes {
        Bytes::from(format!(
            "{method} sip:callee@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bK1\r\n\
             Max-Forwards: 70\r\nFrom: <sip:caller@example.org>;tag=f\r\nTo: <sip:callee@example.org>\r\n\
             Call-ID: 1@example.org\r\nCSeq: 1 {method}\r\nContact: <sip:caller@127.0.0.1:9>\r\n\
             Content-Length: 0\r\n\r\n"
        ))
    }

    /// Puts a request into the queue as its receiver goes.
    fn let_go_meanwhile(handle: &Handle, incoming: Incoming, flow: &Flow, method: &str) {
        let mut core = handle.shared().shard(handle.shard()).lock();
        core.engine.handle_message(now(), flow, request(method));
        let event = core.engine.poll_event().unwrap();
        let (taker, room) = core.router.room(Some(handle)).unwrap();
        let letting_go = std::thread::spawn(move || drop(incoming));
        while !core.router.incoming.as_ref().unwrap().is_closed() {
            std::thread::yield_now();
        }
        let (_, gone) = oneshot::channel();
        room.send(match event {
            Event::Invite { tx, request, flow, replaces } => {
                IncomingRequest::Invite(IncomingInvite::new(taker, tx, request, flow, gone, replaces))
            }
            Event::Request { tx, request, flow } => {
                IncomingRequest::Other(IncomingOther::new(taker, tx, request, flow))
            }
            other => panic!("{other:?}"),
        });
        drop(core);
        letting_go.join().unwrap();
    }

    /// The program lets go of the queue between the moment when a request gets its place and that when it is put there.
    #[tokio::test]
    async fn a_request_that_comes_as_the_program_lets_go_of_the_queue_is_answered_503() {
        for method in ["INVITE", "OPTIONS"] {
            let (endpoint, incoming) = Endpoint::builder().udp(([127, 0, 0, 1], 0)).bind().await.unwrap();
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let (local, remote) = (endpoint.listeners()[0].addr, peer.local_addr().unwrap());
            let flow = Flow { transport: Transport::Udp, local, remote, connection: None };
            let handle = endpoint.handle().clone();

            let_go_meanwhile(&handle, incoming, &flow, method);

            let mut answer = [0; 2_048];
            let length = peer.recv(&mut answer).unwrap();
            let answer = String::from_utf8_lossy(&answer[..length]);
            assert!(answer.starts_with("SIP/2.0 503"), "{answer}");
            drop(handle);
            endpoint.shutdown(Duration::ZERO).await;
        }
    }
}
