//! Reliable provisional responses and PRACK on the wire, in both roles (RFC 3262).
//!
//! As callee: a response of 101 to 199 goes out with RSeq, is repeated from T1 doubling, and after 64*T1 without a PRACK
//! the INVITE is refused with 504. A 2xx waits while a session description is unacknowledged. As caller: each is taken
//! once and in order, and acknowledged by the engine, or by the program where it carries an offer that the program asked
//! to answer. In a re-INVITE each accepts the target refresh of either side, whatever the final response says (RFC 6141).
//!
//! An INVITE that requires `100rel` gets all of its responses of 101 to 199 reliably whatever the policy: `Never` is for
//! callers who leave the choice to us. RFC 3262 §3 would let us refuse it with 420 instead, which loses a call that we can
//! serve.

use std::sync::Arc;
use std::time::Instant;

use super::Engine;
use super::event::{Body, ClientTx, EndReason, EngineError, Event, Reliability, Reply, ServerTx};
use super::extensions::{self, RELIABLE};
use super::flow::Owner;
use super::outbound::{Purpose, add_body, add_headers};
use crate::dialog::{DialogId, FirstOffer, Origin, Outstanding, Phase, has_session};
use crate::fault::Fault;
use crate::message::header::{CSeq, RAck, RSeq};
use crate::message::{HeaderName, Headers, Method, Request, Response, StatusCode};
use crate::observe::capsule::{Command, Input};
use crate::transaction::timer::Timer;

/// The timers of a response that waits for its PRACK.
const REPEATED: [Timer; 2] = [Timer::Reliable, Timer::PrackWait];

impl Engine {
    /// Sends a provisional response to an INVITE, reliably where the policy and the caller have it so.
    pub(super) fn send_provisional(
        &mut self,
        now: Instant,
        server: u64,
        invite: &Request,
        reply: Reply,
    ) -> Result<(), EngineError> {
        let policy = reply.reliability.unwrap_or(self.config.reliability);
        let offered = extensions::offers(&invite.headers, RELIABLE);
        if policy == Reliability::Required && !offered {
            return Err(EngineError::Misuse(
                "the caller does not support 100rel: answer 421 or send it plainly",
            ));
        }
        let wanted = extensions::requires(&invite.headers, RELIABLE) || policy != Reliability::Never;
        let dialog = self.servers.get(server).and_then(|server| server.dialog);
        match dialog.filter(|_| wanted && offered && reply.status != StatusCode::TRYING) {
            Some(serial) => self.send_reliable(now, server, serial, invite, reply),
            None => {
                self.answer(now, server, reply);
                Ok(())
            }
        }
    }

    fn send_reliable(
        &mut self,
        now: Instant,
        server: u64,
        serial: u64,
        invite: &Request,
        reply: Reply,
    ) -> Result<(), EngineError> {
        let drawn = self.random.sequence();
        let Some(dialog) = self.dialogs.get_mut(serial) else { return Err(EngineError::DialogOver) };
        if dialog.reliable.outstanding().is_some_and(|waiting| waiting.server == server) {
            let room = dialog.reliable.queue(reply);
            return if room { Ok(()) } else { Err(EngineError::Full("responses that wait for a PRACK")) };
        }
        let response = dialog.reliable.number(drawn);
        let session = reply.body.as_ref().is_some_and(Body::is_session);
        let offer = session && !has_session(&invite.headers, &invite.body);
        if session && dialog.first_offer == FirstOffer::Theirs {
            dialog.first_offer = FirstOffer::Settled;
        }
        let sequence = invite.sequence();
        if !self.is_initial(server) {
            self.accept_target(serial, invite);
            // Whoever sent this INVITE has the 2xx to the one before.
            self.stop_success(serial);
        }
        self.answer(
            now,
            server,
            reply.header(HeaderName::REQUIRE, RELIABLE).header(HeaderName::RSEQ, response.to_string()),
        );
        let wire = self.servers.get(server).and_then(super::server::Server::wire).unwrap_or_default();
        let Some(dialog) = self.dialogs.get_mut(serial) else { return Ok(()) };
        dialog.reliable.sent(Outstanding { server, sequence, response, session, offer, wire });
        self.start_within(now, serial, REPEATED);
        Ok(())
    }

    /// The response goes out again, or its PRACK never came.
    pub(super) fn reliable_fired(&mut self, now: Instant, serial: u64, timer: Timer) {
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        let Some(waiting) = dialog.reliable.outstanding().cloned() else { return };
        if timer == Timer::PrackWait {
            return self.give_up_on_prack(now, serial, waiting.server);
        }
        self.timers.again(now, Owner::Dialog(serial), &mut dialog.clocks, timer, false);
        self.send_again(waiting.server, waiting.wire);
    }

    /// RFC 3262 §3: after 64*T1 the INVITE is refused.
    fn give_up_on_prack(&mut self, now: Instant, serial: u64, server: u64) {
        self.stop_reliable(serial);
        self.tell_given_up(server, None, EndReason::PrackTimeout);
        self.answer(now, server, Reply::new(StatusCode::SERVER_TIMEOUT).reason("No PRACK"));
    }

    /// The program learns that an INVITE needs no answer any more, or that the call it took will not be.
    pub(super) fn tell_given_up(&mut self, server: u64, by: Option<&Arc<Request>>, reason: EndReason) {
        if self.has(Fault::CancelledNotTold) {
            return;
        }
        let dialog = self.servers.get(server).and_then(|server| server.dialog);
        let dialog = dialog.and_then(|serial| self.dialogs.get(serial));
        let taken =
            |dialog: &&crate::dialog::Dialog| dialog.origin.is_some() && dialog.reliable.holds_answer();
        self.events.push_back(match dialog.filter(taken) {
            Some(dialog) => Event::Ended { dialog: dialog.id.clone(), reason },
            None => Event::Cancelled { tx: ServerTx(server), by: by.cloned() },
        });
    }

    /// Nothing reliable is repeated any more.
    pub(super) fn stop_reliable(&mut self, serial: u64) {
        self.stop_within(serial, REPEATED);
    }

    /// Keeps a 2xx that has to wait for the PRACK of a session description (RFC 3262 §3); false where it may leave.
    ///
    /// # Errors
    /// [`EngineError::TransactionOver`] where one waits already, whatever comes after it.
    pub(super) fn holds_back(
        &mut self,
        server: u64,
        serial: u64,
        reply: &Reply,
    ) -> Result<bool, EngineError> {
        let Some(dialog) = self.dialogs.get_mut(serial) else { return Ok(false) };
        if dialog.reliable.holds_answer() {
            return Err(EngineError::TransactionOver);
        }
        let waiting = dialog.reliable.outstanding();
        let waits = waiting.is_some_and(|waiting| waiting.server == server && waiting.session);
        let holds = waits && reply.status.is_success();
        if holds {
            dialog.reliable.hold(reply.clone());
        }
        Ok(holds)
    }

    /// A PRACK: answered here, unless it carries an offer, which is for the program.
    pub(super) fn handle_prack(
        &mut self,
        now: Instant,
        id: u64,
        serial: u64,
        request: Arc<Request>,
    ) -> Result<(), Box<Reply>> {
        let malformed = || Box::new(Reply::new(StatusCode::BAD_REQUEST).reason("Unusable RAck"));
        let rack: RAck = request.headers.typed().map_err(|_| malformed())?;
        let unknown = || Box::new(Reply::new(StatusCode::CALL_DOES_NOT_EXIST));
        let dialog = self.dialogs.get_mut(serial).ok_or_else(unknown)?;
        let waiting = dialog.reliable.acknowledge(&rack).ok_or_else(unknown)?;
        let offer = has_session(&request.headers, &request.body) && !waiting.offer;
        self.stop_reliable(serial);
        self.events.push_back(Event::Acknowledged { tx: ServerTx(waiting.server), prack: request.clone() });
        if offer {
            if let Some(dialog) = self.dialogs.get_mut(serial) {
                dialog.reliable.offered(Some(id));
            }
            self.deliver_within(serial, id, request);
        } else {
            self.answer(now, id, Reply::new(StatusCode::OK));
        }
        self.send_waiting(now, serial, waiting.server);
        Ok(())
    }

    /// After a PRACK: the 2xx that waited for it, or the next provisional response.
    fn send_waiting(&mut self, now: Instant, serial: u64, server: u64) {
        let invite = self.servers.get(server).and_then(|server| server.request.clone());
        let (Some(dialog), Some(invite)) = (self.dialogs.get_mut(serial), invite) else { return };
        if let Some(mut answer) = dialog.reliable.take_answer() {
            if self.is_initial(server) {
                return self.send_answer(now, server, serial, &invite, answer);
            }
            self.prepare_reply_within(now, server, serial, &mut answer, &invite);
            self.answer(now, server, answer);
        } else if let Some(next) = dialog.reliable.next_queued() {
            // There is room: nothing is outstanding now.
            let _ = self.send_reliable(now, server, serial, &invite, next);
        }
    }

    /// As caller, a provisional response inside `serial`: whether it is to be told, and whether its offer is the
    /// program's to answer.
    pub(super) fn hear_provisional(
        &mut self,
        now: Instant,
        client: u64,
        serial: u64,
        response: &Response,
    ) -> Heard {
        let (Ok(number), Ok(cseq)) = (response.headers.typed::<RSeq>(), response.headers.typed::<CSeq>())
        else {
            return Heard::New;
        };
        if !extensions::requires(&response.headers, RELIABLE) {
            return Heard::New;
        }
        let asked = self.leaves_answer(client);
        let within = self.clients.get(client).is_some_and(|client| client.dialog.is_some());
        let Some(dialog) = self.dialogs.get_mut(serial).filter(|dialog| dialog.phase.is_open()) else {
            return Heard::Stale;
        };
        if !dialog.reliable.takes(cseq.number, number.0) {
            return Heard::Stale;
        }
        if within {
            dialog.refresh_target(&response.headers);
        }
        let rack = RAck { response: number.0, number: cseq.number, method: cseq.method };
        let session = has_session(&response.headers, &response.body);
        let waits = within || matches!(dialog.phase, Phase::Early);
        if session && dialog.first_offer == FirstOffer::Ours {
            dialog.first_offer = FirstOffer::Settled;
        } else if asked && waits && dialog.reliable.is_offer(response) {
            dialog.reliable.due = Some(rack);
            return Heard::Offer;
        }
        self.send_prack(now, serial, &rack, None, Purpose::Engine);
        Heard::New
    }

    /// The program answers the offer of whoever is called by this INVITE.
    pub(super) fn set_delayed_offer(&mut self, client: u64, delayed: bool) {
        if let Some(client) = self.clients.get_mut(client) {
            client.delayed_offer = delayed;
        }
    }

    fn send_prack(
        &mut self,
        now: Instant,
        serial: u64,
        rack: &RAck,
        words: Option<(&Headers, Option<Body>)>,
        purpose: Purpose,
    ) -> Option<u64> {
        if self.has(Fault::PrackNotSent) {
            return None;
        }
        let dialog = self.dialogs.get_mut(serial)?;
        let mut request = dialog.next_request(Method::Prack);
        request.headers.push_typed(rack);
        if let Some((headers, body)) = words {
            add_headers(&mut request.headers, headers);
            add_body(&mut request, body);
        }
        self.open_within(now, serial, request, purpose)
    }

    /// Answers the offer of a reliable provisional response, which [`Event::Response`] marked: the PRACK carries the
    /// answer (RFC 3262 §5).
    ///
    /// # Errors
    /// [`EngineError::DialogOver`]; [`EngineError::Misuse`] where no offer waits.
    pub fn prack(
        &mut self,
        now: Instant,
        dialog: &DialogId,
        headers: &Headers,
        body: Option<Body>,
    ) -> Result<ClientTx, EngineError> {
        self.record(Some(now), || {
            Input::command(Command::Prack(dialog.clone(), headers.clone(), body.clone()))
        });
        let (serial, dialog) = self.dialogs.live(dialog)?;
        let due = dialog.reliable.due.take();
        let rack =
            due.ok_or(EngineError::Misuse("no offer of a provisional response waits for its PRACK"))?;
        dialog.reliable.answered = Some(rack.number);
        let id = self.send_prack(now, serial, &rack, Some((headers, body)), Purpose::Program);
        id.map(ClientTx).ok_or(EngineError::DialogOver)
    }

    /// A call that was taken while its 2xx still waits is refused instead of hung up.
    pub(super) fn take_back_answer(&mut self, now: Instant, serial: u64) -> Result<(), EngineError> {
        let dialog = self.dialogs.get(serial).ok_or(EngineError::DialogOver)?;
        match dialog.origin {
            Some(Origin::Called(server)) if dialog.reliable.holds_answer() => {
                self.answer(now, server, Reply::new(StatusCode::TEMPORARILY_UNAVAILABLE));
                Ok(())
            }
            _ => Err(EngineError::Misuse("a call that is not answered is refused, not hung up")),
        }
    }
}

/// What a provisional response is to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    New,
    /// New, and its offer is the program's to answer.
    Offer,
    /// A repeat, out of order, or of a branch that nobody wants.
    Stale,
}
