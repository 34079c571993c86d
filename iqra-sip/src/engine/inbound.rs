//! Requests that come in: matched to a transaction or a dialog, checked, and handed on or refused
//! (RFC 3261 §8.2, §9.2, §12.2.2, §17.2.3).

use std::sync::Arc;
use std::time::Instant;

use super::Engine;
use super::event::{EndReason, Event, Reply, ServerTx};
use super::flow::Flow;
use super::relay::Passage;
use super::server::{Cause, Server};
use super::stateless::is_acknowledged;
use super::via;
use crate::dialog::refer;
use crate::fault::Fault;
use crate::message::header::{CSeq, Event as EventHeader, From, Via};
use crate::message::{HeaderName, Method, Request, Scheme, StatusCode};
use crate::observe::DropReason;
use crate::transaction::key::{MergeKey, ServerKey};

/// What Allow says besides the methods of the configuration.
const ALWAYS_ALLOWED: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, NOTIFY";

/// What a request that begins a transaction belongs to.
enum Standing {
    /// To nothing yet.
    New,
    /// To this dialog.
    Within(u64),
    /// To the request of this transaction, which it would cancel.
    Cancel(u64),
    /// To a call that another end answers.
    Relayed(Box<Passage>),
}

impl Engine {
    pub(super) fn handle_request(&mut self, now: Instant, flow: &Flow, mut request: Request) {
        let received = via::receive(&mut request, flow);
        let keyed = received.and_then(|(via, path)| Ok((ServerKey::of(&request, &via)?, via, path)));
        let Ok((key, via, mut path)) = keyed else {
            self.watch.discard(DropReason::Malformed);
            return;
        };
        path.fallback = path.fallback.filter(|_| !self.has(Fault::ReplyNotRedialled));
        if request.method == Method::Ack {
            return self.handle_ack(now, &key, &via, request);
        }
        if let Some(id) = self.servers.find(&key) {
            self.step_server(now, id, Cause::Request);
            return;
        }
        let standing = match self.standing(&key, &request) {
            Ok(standing) => standing,
            Err(refusal) => return self.refuse_stray(now, flow, &request, (&via, path), *refusal),
        };
        if self.shed(&request, &via, path) {
            return;
        }
        let full = match standing {
            Standing::New => {
                self.is_full() || (request.method == Method::Invite && self.is_full_of_dialogs())
            }
            _ => self.is_full_to_the_brim(),
        };
        if full {
            return self.refuse_overload(&request, &via, path);
        }
        let request = Arc::new(request);
        let id = self.open_server(now, key, path, request.clone());
        let placed = match standing {
            Standing::New => self.place(now, id, request, flow),
            Standing::Within(serial) => self.place_within(now, id, serial, request),
            Standing::Cancel(about) => return self.handle_cancel(now, id, about, &request),
            Standing::Relayed(passage) => self.relay_through(now, id, *passage),
        };
        if let Err(refusal) = placed {
            self.answer(now, id, *refusal);
        }
    }

    /// Finds out what a request that begins a transaction belongs to, before anything is kept for it: a claim to a dialog,
    /// to an INVITE or to a call of the relay that nothing bears out is refused (RFC 3261 §9.2, §12.2.2).
    fn standing(&mut self, key: &ServerKey, request: &Request) -> Result<Standing, Box<Reply>> {
        let gone = || Box::new(Reply::new(StatusCode::CALL_DOES_NOT_EXIST));
        if request.method == Method::Cancel {
            return self.servers.cancelled_by(key).map(Standing::Cancel).ok_or_else(gone);
        }
        if self.to_tag(request).is_none() {
            return Ok(Standing::New);
        }
        if self.is_for_relay(request) {
            return self.passage(request).map(|passage| Standing::Relayed(Box::new(passage)));
        }
        self.dialogs.find(request).map(Standing::Within).ok_or_else(gone)
    }

    /// The number of a request that is refused for what it asks counts too (RFC 3261 §12.2.2).
    fn place_within(
        &mut self,
        now: Instant,
        id: u64,
        serial: u64,
        request: Arc<Request>,
    ) -> Result<(), Box<Reply>> {
        self.servers.set_dialog(id, serial);
        let dialog = self.dialogs.get_mut(serial);
        if !dialog.is_none_or(|dialog| dialog.takes_sequence(request.sequence())) {
            let out_of_order = Reply::new(StatusCode::SERVER_INTERNAL_ERROR).reason("CSeq out of order");
            return Err(Box::new(out_of_order));
        }
        self.check_extensions(&request)?;
        self.check_session(&request)?;
        self.handle_within(now, id, serial, request)
    }

    /// Hands a request outside dialogs to the program; `Err` is the answer that refuses it.
    fn place(&mut self, now: Instant, id: u64, request: Arc<Request>, flow: &Flow) -> Result<(), Box<Reply>> {
        check_scheme(&request)?;
        self.check_secure(&request, flow)?;
        self.check_method(&request)?;
        let mut replaces = None;
        if self.config.relay.is_some() {
            match request.method {
                Method::Invite => self.check_relayable(id, &request)?,
                _ => self.check_ways(id, &request)?,
            }
        } else {
            check_contact(&request)?;
            self.check_merged(id, &request)?;
            self.check_extensions(&request)?;
            self.check_session(&request)?;
            replaces = self.check_replaces(&request)?;
            self.limit_ringing(now, id, &request);
        }
        let (tx, flow) = (ServerTx(id), *flow);
        self.events.push_back(match request.method {
            Method::Invite => Event::Invite { tx, request, flow, replaces },
            _ => Event::Request { tx, request, flow },
        });
        Ok(())
    }

    /// Methods that only make sense in a dialog are answered as such; others as the configuration says
    /// (RFC 3261 §8.2.1, §15.1.2; RFC 3262 §3; RFC 3311 §5.2; RFC 6086 §4.2.2).
    fn check_method(&self, request: &Request) -> Result<(), Box<Reply>> {
        if matches!(request.method, Method::Bye | Method::Prack | Method::Update | Method::Info) {
            return Err(Box::new(Reply::new(StatusCode::CALL_DOES_NOT_EXIST)));
        }
        match &self.config.accepted_methods {
            Some(accepted) if request.method != Method::Invite && !accepted.contains(&request.method) => {
                Err(Box::new(self.not_served(request)))
            }
            _ => Ok(()),
        }
    }

    /// RFC 3261 §8.2.2.2: the same request by another path is answered once, by the first.
    pub(super) fn check_merged(&mut self, id: u64, request: &Request) -> Result<(), Box<Reply>> {
        let merge = MergeKey::of(request).map_err(|_| Reply::new(StatusCode::BAD_REQUEST))?;
        if self.servers.is_merged(&merge) && !self.has(Fault::MergedAccepted) {
            return Err(Box::new(Reply::new(StatusCode::LOOP_DETECTED)));
        }
        self.servers.remember_merge(id, merge);
        Ok(())
    }

    /// A sips request that came in the clear is refused unless the configuration takes it (RFC 5630 §5.3).
    fn check_secure(&self, request: &Request, flow: &Flow) -> Result<(), Box<Reply>> {
        let clear = request.uri.scheme() == Scheme::Sips && !flow.transport.is_secure();
        match clear && self.config.sips_by_tls_only {
            true => Err(Box::new(Reply::new(StatusCode::FORBIDDEN).reason("SIPS over an insecure hop"))),
            false => Ok(()),
        }
    }

    /// The answer to OPTIONS of a program that has none of its own: what we take and know (RFC 3261 §11.2).
    #[must_use]
    pub fn capabilities(&self) -> Reply {
        let reply = Reply::new(StatusCode::OK).header(HeaderName::ALLOW, self.allow());
        let mut reply = reply
            .header(HeaderName::ACCEPT, "application/sdp")
            .header(HeaderName::ACCEPT_ENCODING, "identity")
            .header(HeaderName::ACCEPT_LANGUAGE, "en");
        self.add_supported(&mut reply.headers);
        reply
    }

    /// The answer to a request that nobody takes: 405 with the methods that are (RFC 3261 §8.2.1, §21.4.6). NOTIFY is
    /// one of those, for the outcome of a REFER of ours comes by it: one that belongs to no subscription is answered 481,
    /// and 489 where it is of another event (RFC 6665 §4.1.3).
    #[must_use]
    pub fn not_served(&self, request: &Request) -> Reply {
        if request.method == Method::Notify {
            let event = request.headers.typed::<EventHeader>();
            return match event.is_ok_and(|event| event.package() == refer::PACKAGE) {
                true => Reply::new(StatusCode::CALL_DOES_NOT_EXIST),
                false => Reply::new(StatusCode::BAD_EVENT).header(HeaderName::ALLOW_EVENTS, refer::PACKAGE),
            };
        }
        let allow = self.allow();
        let others = allow.split(", ").filter(|method| *method != request.method.as_str());
        let others = others.collect::<Vec<_>>().join(", ");
        Reply::new(StatusCode::METHOD_NOT_ALLOWED).header(HeaderName::ALLOW, others)
    }

    /// The value of Allow.
    #[must_use]
    pub fn allow(&self) -> String {
        let mut allow = String::from(ALWAYS_ALLOWED);
        if self.config.transfer.refer {
            allow.push_str(", REFER");
        }
        for method in self.config.accepted_methods.iter().flatten() {
            if !allow.split(", ").any(|known| known == method.as_str()) {
                allow.extend([", ", method.as_str()]);
            }
        }
        allow
    }

    /// RFC 3261 §9.2: the CANCEL is answered 200 where its request is known, and an INVITE 487 if it still can be; other
    /// requests go on.
    fn handle_cancel(&mut self, now: Instant, id: u64, about: u64, cancel: &Arc<Request>) {
        self.servers.share_tag(about, id);
        self.answer(now, id, Reply::new(StatusCode::OK));
        let Some(invite) = Some(about).filter(|&id| self.servers.get(id).is_some_and(Server::is_invite))
        else {
            return;
        };
        if self.relays.contains(invite) {
            return self.relay_cancelled(now, invite, cancel);
        }
        if self.servers.get(invite).is_some_and(Server::is_pending_invite) {
            self.given_up_by_peer(now, invite, cancel);
        }
    }

    /// The caller wants no answer any more: 487 (RFC 3261 §9.2, §15.1.2).
    pub(super) fn given_up_by_peer(&mut self, now: Instant, invite: u64, by: &Arc<Request>) {
        self.tell_given_up(invite, Some(by), EndReason::Cancelled { headers: by.headers.clone() });
        self.answer(now, invite, Reply::new(StatusCode::REQUEST_TERMINATED));
    }

    /// An ACK ends an INVITE transaction (non-2xx) or confirms a dialog (2xx, whose ACK has a branch of its own).
    fn handle_ack(&mut self, now: Instant, key: &ServerKey, via: &Via, ack: Request) {
        let serial = match self.servers.find(&key.of_invite()) {
            Some(invite) if !self.is_to_us(invite, &ack) => return self.watch.discard(DropReason::StrayAck),
            Some(invite) if self.step_server(now, invite, Cause::Ack) => {
                self.servers.get(invite).and_then(|server| server.dialog)
            }
            Some(_) => return,
            None => self.dialogs.find(&ack),
        };
        let sequence = ack.headers.typed::<CSeq>().map(|cseq| cseq.number);
        match (serial, sequence) {
            (Some(serial), Ok(sequence)) => self.acknowledged(now, serial, sequence, ack),
            (None, _) if self.relay_ack(&ack) => {}
            (None, _) if is_acknowledged(via, self.to_tag(&ack).as_deref()) => {}
            _ => self.watch.discard(DropReason::StrayAck),
        }
    }

    /// Where a proxy without state forks, the ACK of another branch's refusal comes by the same transaction as ours.
    fn is_to_us(&self, invite: u64, ack: &Request) -> bool {
        let dialog = self.servers.get(invite).and_then(|server| self.dialogs.get(server.dialog?));
        dialog.is_none_or(|dialog| self.to_tag(ack).as_deref() == Some(dialog.id.local_tag()))
    }

    pub(super) fn to_tag(&self, request: &Request) -> Option<String> {
        let to: crate::message::header::To = request.headers.typed().ok()?;
        to.tag().map(std::borrow::Cow::into_owned)
    }
}

/// RFC 3261 §8.1.1.8: an INVITE says where its caller is reached; without that no dialog can be made. A proxy needs no
/// Contact, and a caller of RFC 2543, whose From needs no tag, did not have to give one: the program decides.
fn check_contact(request: &Request) -> Result<(), Box<Reply>> {
    let missing = || crate::dialog::contact_uri(&request.headers).is_none();
    let tagged = || request.headers.typed::<From>().is_ok_and(|from| from.tag().is_some());
    match request.method == Method::Invite && missing() && tagged() {
        true => Err(Box::new(Reply::new(StatusCode::BAD_REQUEST).reason("No Usable Contact"))),
        false => Ok(()),
    }
}

/// RFC 3261 §8.2.2.1: a scheme that is not understood is answered 416. The URNs of services are (RFC 5031 §5).
fn check_scheme(request: &Request) -> Result<(), Box<Reply>> {
    match request.uri.scheme() {
        Scheme::Other(scheme) if !scheme.eq_ignore_ascii_case("urn") => {
            Err(Box::new(Reply::new(StatusCode::UNSUPPORTED_URI_SCHEME)))
        }
        _ => Ok(()),
    }
}
