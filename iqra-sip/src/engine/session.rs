//! Session timers in the engine: agreed with INVITE and UPDATE, kept by refreshes, ended by a BYE when those stay away
//! (RFC 4028).
//!
//! Each hook is one call from where requests and answers pass: `check_session` before a request is delivered,
//! `grant_session` before its 2xx leaves, `ask_session` before a request of ours leaves, `session_answered` when its 2xx
//! comes. A refresh is an UPDATE without a body where the peer allows UPDATE, else a re-INVITE with the description that
//! we sent last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Engine;
use super::client_table::Cancel;
use super::event::{Body, EndReason, Event, Failure, Reply};
use super::flow::Owner;
use super::outbound::Purpose;
use super::retry;
use crate::dialog::session_timer::{self, Side, Terms, Verdict};
use crate::dialog::{Dialog, Phase, Session};
use crate::fault::Fault;
use crate::message::header::{Allow, CSeq, RetryAfter, SessionExpires};
use crate::message::{HeaderName, Headers, Method, Request, Response, StatusCode};
use crate::transaction::timer::Timer;

/// A refresh that was refused for a reason of its own is tried again after this, until the session's end.
const RETRY: Duration = Duration::from_secs(10);
/// How often a request or refresh that is refused with 422 goes out again at once. Two proxies and the callee may each want
/// more than the one before, but whoever always wants more is given up, or asked later.
const MOST_LENGTHENED: u8 = 2;

impl Engine {
    /// Refuses an INVITE or UPDATE whose session interval is too short (RFC 4028 §9).
    pub(super) fn check_session(&self, request: &Request) -> Result<(), Box<Reply>> {
        if !refreshes(&request.method) || self.config.session.judge(&request.headers) != Verdict::TooShort {
            return Ok(());
        }
        let mut reply = Reply::new(StatusCode::SESSION_INTERVAL_TOO_SMALL);
        self.config.session.refuse(&mut reply.headers);
        Err(Box::new(reply))
    }

    /// A refresh without a body changes nothing that the program decides on: the engine answers it. True when it did.
    pub(super) fn takes_refresh(&mut self, now: Instant, id: u64, serial: u64, request: &Request) -> bool {
        let Some(dialog) = self.dialogs.get(serial) else { return false };
        let known = dialog.session.terms.is_some() || request.headers.contains(HeaderName::SESSION_EXPIRES);
        let bare = request.method == Method::Update && request.body.is_empty();
        if !(bare && known && self.config.session.is_on()) {
            return false;
        }
        let mut reply = Reply::new(StatusCode::OK);
        self.prepare_reply_within(now, id, serial, &mut reply, request);
        self.answer(now, id, reply);
        true
    }

    /// Writes into the 2xx to an INVITE or UPDATE what holds from now on, and starts the clocks.
    pub(super) fn grant_session(&mut self, now: Instant, serial: u64, request: &Request, reply: &mut Reply) {
        let verdict = self.config.session.judge(&request.headers);
        self.hear_peer(serial, &request.headers);
        let terms = match verdict {
            Verdict::Granted { terms, require } => {
                session_timer::grant(&mut reply.headers, terms, require);
                Some(terms)
            }
            Verdict::Without | Verdict::TooShort => None,
        };
        self.run_session(now, serial, terms);
    }

    /// Words the session interval of a re-INVITE or UPDATE of ours.
    pub(super) fn ask_session(&self, serial: u64, headers: &mut Headers) {
        if let Some(dialog) = self.dialogs.get(serial).filter(|dialog| dialog.origin.is_none()) {
            self.config.session.ask(headers, dialog.session.terms, dialog.session.floor);
        }
    }

    /// Keeps the description of a request or response of ours, for a refresh by re-INVITE.
    pub(super) fn keep_description(&mut self, dialog: Option<u64>, body: Option<&Body>) {
        let Some(dialog) = dialog.and_then(|serial| self.dialogs.get_mut(serial)) else { return };
        if let Some(body) = body.filter(|_| self.config.session.is_on()) {
            dialog.session.description = Some(body.clone());
        }
    }

    /// The 2xx to an INVITE or UPDATE of ours, with the body that the request had.
    pub(super) fn session_answered(
        &mut self,
        now: Instant,
        serial: u64,
        offered: Option<Body>,
        response: &Response,
    ) {
        self.keep_description(Some(serial), offered.as_ref());
        self.hear_peer(serial, &response.headers);
        let terms = self.config.session.granted(&response.headers);
        self.run_session(now, serial, terms);
    }

    /// The answer to an UPDATE of ours, the program's or a refresh.
    pub(super) fn update_answered(&mut self, now: Instant, client: u64, response: &Response) {
        let update = self.clients.get(client).filter(|client| *client.method() == Method::Update);
        let serial = update.and_then(|client| client.dialog).filter(|_| response.status.is_success());
        if let Some(serial) = serial {
            self.session_answered(now, serial, None, response);
        }
    }

    fn hear_peer(&mut self, serial: u64, headers: &Headers) {
        let allows = headers.typed_all::<Allow>().flatten().any(|allow| allow.0.contains(&Method::Update));
        if let Some(dialog) = self.dialogs.get_mut(serial).filter(|_| headers.contains(HeaderName::ALLOW)) {
            dialog.session.peer_updates = allows;
        }
    }

    /// Starts the clocks of these terms in place of those that ran.
    fn run_session(&mut self, now: Instant, serial: u64, terms: Option<Terms>) {
        // Before the call is answered there is no session to time.
        let answered = |dialog: &&mut Dialog| dialog.origin.is_none();
        let Some(dialog) = self.dialogs.get_mut(serial).filter(answered) else { return };
        let (owner, session) = (Owner::Dialog(serial), &mut dialog.session);
        (session.terms, session.lengthened) = (terms, 0);
        self.timers.forget(owner, &mut session.clocks);
        let Some(terms) = terms else { return };
        if terms.refresher == Side::Us {
            self.timers.start_for(now, owner, &mut session.clocks, Timer::Refresh, terms.refresh_after());
        }
        self.timers.start_for(now, owner, &mut session.clocks, Timer::SessionEnd, terms.give_up_after());
    }

    /// A clock of the session: time to refresh, or to give up.
    pub(super) fn session_fired(&mut self, now: Instant, serial: u64, timer: Timer) {
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        dialog.session.clocks.fire(timer);
        if !matches!(dialog.phase, Phase::Live) {
            return;
        }
        match timer {
            Timer::Refresh => self.refresh(now, serial),
            _ => self.end_dialog(now, serial, EndReason::SessionExpired),
        }
    }

    fn refresh(&mut self, now: Instant, serial: u64) {
        if self.has(Fault::RefreshNotSent) {
            return;
        }
        let Some(dialog) = self.dialogs.get(serial) else { return };
        let description = dialog.session.description.clone();
        // Without a description there is nothing to put into a re-INVITE.
        let by_update = dialog.session.peer_updates || description.is_none();
        let busy = super::update::has_invite(dialog);
        let sent = match by_update {
            true => self.send_within(now, serial, Method::Update, &Headers::new(), None, Purpose::Refresh),
            false if busy || self.is_full_to_the_brim() => None,
            false => {
                self.send_within(now, serial, Method::Invite, &Headers::new(), description, Purpose::Refresh)
            }
        };
        if sent.is_none() {
            self.refresh_later(now, serial, RETRY);
        }
    }

    fn refresh_later(&mut self, now: Instant, serial: u64, wait: Duration) {
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        if dialog.session.terms.is_some_and(|terms| terms.refresher == Side::Us) {
            let owner = Owner::Dialog(serial);
            self.timers.start_for(now, owner, &mut dialog.session.clocks, Timer::Refresh, wait);
        }
    }

    /// What became of a refresh of ours. 408, 481 and silence have ended the dialog (RFC 4028 §7.2).
    pub(super) fn refresh_answered(
        &mut self,
        now: Instant,
        serial: u64,
        method: &Method,
        result: Result<&Arc<Response>, Failure>,
    ) {
        let Ok(response) = result else { return };
        match response.status {
            status if status.is_success() => self.tell_refreshed(serial, response),
            StatusCode::SESSION_INTERVAL_TOO_SMALL => self.refresh_longer(now, serial, response),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED if *method == Method::Update => {
                if let Some(dialog) = self.dialogs.get_mut(serial) {
                    dialog.session.peer_updates = false;
                }
                let known = self.dialogs.get(serial).is_some_and(|d| d.session.description.is_some());
                self.refresh_later(now, serial, if known { Duration::ZERO } else { RETRY });
            }
            StatusCode::REQUEST_PENDING => {
                let steps = self.random.up_to(retry::STEPS);
                let wait = self.dialogs.get(serial).map(|dialog| retry::wait(dialog, steps));
                self.refresh_later(now, serial, wait.unwrap_or(RETRY));
            }
            _ => {
                let asked = response.headers.typed::<RetryAfter>().map(|after| after.0.into());
                self.refresh_later(now, serial, asked.map_or(RETRY, Duration::from_secs));
            }
        }
    }

    /// A refresh by re-INVITE was answered with a description: the program may have to follow it.
    fn tell_refreshed(&mut self, serial: u64, response: &Arc<Response>) {
        let Some(dialog) = self.dialogs.get(serial).filter(|_| !response.body.is_empty()) else { return };
        let (dialog, response) = (dialog.id.clone(), response.clone());
        self.events.push_back(Event::Refreshed { dialog, response });
    }

    /// A refresh was refused with 422 (RFC 4028 §7.4). Whoever wants more each time is asked at the pace of other refusals.
    fn refresh_longer(&mut self, now: Instant, serial: u64, refusal: &Response) {
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        let Some(terms) = dialog.session.terms else { return };
        let raised = session_timer::raised(&refusal.headers, terms.seconds.max(dialog.session.floor));
        match raised {
            Some(minimum) if dialog.session.lengthened < MOST_LENGTHENED => {
                (dialog.session.floor, dialog.session.lengthened) = (minimum, dialog.session.lengthened + 1);
                self.refresh(now, serial);
            }
            Some(_) | None => self.refresh_later(now, serial, RETRY),
        }
    }

    /// A request of the program was refused with 422: it goes out again with the interval that the peer wants, as the
    /// same request for the program, with the targets that are left (RFC 4028 §7.3, §7.4). True when it did.
    pub(super) fn retry_longer(&mut self, now: Instant, id: u64, refusal: &Response) -> bool {
        self.config.session.is_on() && self.repeat_longer(now, id, refusal).is_some()
    }

    fn repeat_longer(&mut self, now: Instant, id: u64, refusal: &Response) -> Option<()> {
        let within = self.clients.get(id)?.dialog.is_some();
        let room = !self.has_no_room(within);
        let client = self.clients.get(id)?;
        let ours = client.purpose == Purpose::Program && client.cancel == Cancel::No;
        let (hops, times) = (client.hops.clone(), client.lengthened);
        let may = ours && room && times < MOST_LENGTHENED;
        let mut again = client.request().filter(|request| may && refreshes(&request.method))?;
        let asked = again.headers.typed::<SessionExpires>().map_or(0, |asked| asked.seconds);
        let minimum = session_timer::raised(&refusal.headers, asked)?;
        let way = client.way();
        let (dialog, proof, delayed_offer) = (client.dialog, client.proof.clone(), client.delayed_offer);
        for name in [HeaderName::VIA, HeaderName::SESSION_EXPIRES, HeaderName::MIN_SE] {
            again.headers.remove(name);
        }
        let (number, running) = match dialog.and_then(|serial| self.dialogs.get_mut(serial)) {
            Some(dialog) if !matches!(dialog.phase, Phase::Live) || dialog.origin.is_some() => return None,
            Some(dialog) => {
                dialog.session.floor = dialog.session.floor.max(minimum);
                (dialog.next_sequence(), dialog.session.terms)
            }
            None => (again.headers.typed::<CSeq>().ok()?.number.wrapping_add(1), None),
        };
        again.headers.set(HeaderName::CSEQ, format!("{number} {}", again.method));
        self.config.session.ask(&mut again.headers, running, minimum);
        self.release_early(id);
        self.move_client(now, id);
        self.open_client_as(now, id, again, way, dialog, Purpose::Program, proof);
        self.keep_hops(now, id, hops);
        self.set_delayed_offer(id, delayed_offer);
        if let Some(client) = self.clients.get_mut(id) {
            client.lengthened = times + 1;
        }
        Some(())
    }
}

impl Session {
    /// The body of a request with its type.
    pub(super) fn body_of(request: &Request) -> Option<Body> {
        let content_type = request.headers.get(HeaderName::CONTENT_TYPE)?.into_owned();
        (!request.body.is_empty()).then(|| Body { content_type, bytes: request.body.clone() })
    }
}

/// Session refresh requests are INVITE and UPDATE (RFC 4028 §2).
fn refreshes(method: &Method) -> bool {
    matches!(method, Method::Invite | Method::Update)
}
