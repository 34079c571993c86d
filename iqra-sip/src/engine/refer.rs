//! REFER and Replaces in the engine: who asked whom to call whom, and what is told of it (RFC 3515, RFC 3891, RFC 4488,
//! RFC 6665 for the notifications).
//!
//! A REFER inside a call makes a subscription in the same dialog. It lives on its own (RFC 5057): after the BYE the
//! dialog takes and sends nothing but its NOTIFYs, and it is forgotten when the last subscription ends, which
//! [`TransferConfig::lifetime`](super::config::TransferConfig) bounds. One NOTIFY is under way at a time; of what happens
//! meanwhile the newest is told next.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Engine;
use super::event::{
    ClientTx, EndReason, EngineError, Event, Failure, Refer, ReferTarget, ReferralEnd, ReferralEvent,
    ReferralId, Replaced, Reply, ServerTx,
};
use super::flow::Owner;
use super::outbound::Purpose;
use super::update::too_early;
use crate::dialog::{DialogId, Phase, refer, replaces};
use crate::message::header::{CSeq, Event as EventHeader, Expires, ReferSub, SubscriptionState};
use crate::message::{HeaderName, Headers, Method, Request, Response, StatusCode};
use crate::observe::capsule::{Command, Input};
use crate::transaction::timer::{Clocks, Timer};

/// All subscriptions of REFERs, by number.
#[derive(Default)]
pub(super) struct Subscriptions(HashMap<u64, Subscription>);

/// The subscription that a REFER makes.
struct Subscription {
    dialog: u64,
    /// The CSeq number of the REFER, which names the subscription.
    sequence: u32,
    role: Role,
    clocks: Clocks,
}

/// Which side this is.
enum Role {
    /// We sent the REFER.
    Referrer { tx: ClientTx, ended: bool },
    /// We carry it out.
    Notifier(Notifier),
}

/// What a notifier has told and is to tell.
struct Notifier {
    /// The event header has an `id`: it is not the dialog's first REFER.
    named: bool,
    status: StatusCode,
    until: Instant,
    /// A NOTIFY is under way.
    busy: bool,
    /// There is news since.
    news: bool,
    /// One was answered 500 and sent again.
    repeated: bool,
    /// The newest NOTIFY is the last: why.
    over: Option<&'static str>,
}

impl Engine {
    /// Asks the peer to call somebody. What becomes of it comes as [`Event::Referral`].
    ///
    /// # Errors
    /// [`EngineError::DialogOver`]; [`EngineError::Misuse`] before the call is answered; [`EngineError::Full`].
    pub fn refer(&mut self, now: Instant, dialog: &DialogId, refer: Refer) -> Result<ClientTx, EngineError> {
        self.refer_by(now, dialog, refer.into_headers())
    }

    /// The same with the headers of the REFER.
    pub(crate) fn refer_by(
        &mut self,
        now: Instant,
        dialog: &DialogId,
        headers: Headers,
    ) -> Result<ClientTx, EngineError> {
        self.record(Some(now), || Input::command(Command::Refer(dialog.clone(), headers.clone())));
        if self.is_full_to_the_brim() {
            return Err(EngineError::Full("max_transactions"));
        }
        let most = self.config.transfer.max_referrals;
        let (serial, dialog) = self.dialogs.live(dialog)?;
        if dialog.origin.is_some() {
            return Err(EngineError::Misuse("a call is transferred once it is answered"));
        }
        if dialog.subscriptions.len() >= most {
            return Err(EngineError::Full("max_referrals"));
        }
        let (id, sequence) =
            (self.next_serial(), self.dialogs.get(serial).map_or(0, |d| d.last_sequence() + 1));
        let sent = self.send_within(now, serial, Method::Refer, &headers, None, Purpose::Refer(id));
        let tx = ClientTx(sent.ok_or(EngineError::DialogOver)?);
        self.subscribe(id, serial, sequence, Role::Referrer { tx, ended: false });
        Ok(tx)
    }

    fn subscribe(&mut self, id: u64, serial: u64, sequence: u32, role: Role) {
        if let Some(dialog) = self.dialogs.get_mut(serial) {
            dialog.subscriptions.push(id);
            let subscription = Subscription { dialog: serial, sequence, role, clocks: Clocks::default() };
            self.subscriptions.0.insert(id, subscription);
        }
    }

    fn unsubscribe(&mut self, id: u64) {
        let Some(mut gone) = self.subscriptions.0.remove(&id) else { return };
        self.timers.forget(Owner::Subscription(id), &mut gone.clocks);
        let Some(dialog) = self.dialogs.get_mut(gone.dialog) else { return };
        dialog.subscriptions.retain(|&one| one != id);
        if dialog.subscriptions.is_empty() && matches!(dialog.phase, Phase::Subscribed) {
            self.forget_dialog(gone.dialog);
        }
    }

    /// A call is over, but subscriptions still use its dialog (RFC 5057 §4.2).
    pub(super) fn end_call(&mut self, now: Instant, serial: u64) -> Option<DialogId> {
        let dialog = self.dialogs.get_mut(serial).filter(|dialog| !dialog.subscriptions.is_empty())?;
        dialog.phase = Phase::Subscribed;
        let owner = Owner::Dialog(serial);
        self.timers.forget(owner, &mut dialog.clocks);
        self.timers.forget(owner, &mut dialog.session.clocks);
        let id = dialog.id.clone();
        for waiting in dialog.subscriptions.clone() {
            if self.notifier(waiting).is_some_and(|notifier| notifier.news && !notifier.busy) {
                self.send_notify(now, waiting);
            }
        }
        Some(id)
    }

    fn await_end(&mut self, now: Instant, id: u64, length: Duration) {
        if let Some(subscription) = self.subscriptions.0.get_mut(&id) {
            let owner = Owner::Subscription(id);
            self.timers.start_for(now, owner, &mut subscription.clocks, Timer::Subscription, length);
        }
    }

    /// The answer to a request that serves a usage of the dialog rather than the program.
    pub(super) fn usage_answered(
        &mut self,
        now: Instant,
        client: u64,
        result: Result<&Arc<Response>, Failure>,
    ) {
        let Some(client) = self.clients.get(client) else { return };
        let (dialog, method) = (client.dialog, client.method().clone());
        match (client.purpose, dialog) {
            (Purpose::Refresh, Some(serial)) => self.refresh_answered(now, serial, &method, result),
            (Purpose::Refer(id), _) => self.refer_answered(now, id, result),
            (Purpose::Notify(id), _) => self.notify_answered(now, id, result),
            _ => {}
        }
    }

    // ---- The side that asked ----

    fn refer_answered(&mut self, now: Instant, id: u64, result: Result<&Arc<Response>, Failure>) {
        let end = match result {
            Ok(response) if response.status.is_success() => {
                self.name_referral(id, response);
                self.tell_referral(id, ReferralEvent::Accepted);
                let quiet = response.headers.typed::<ReferSub>().is_ok_and(|asked| asked.is_none());
                // RFC 6665 §4.1.2.4: the first NOTIFY comes within 64*T1, or there is no subscription.
                let first = self.config.timings.t1 * 64;
                return match quiet {
                    true => self.end_referral(id, ReferralEnd::Unknown { reason: None }),
                    false => self.await_notify(now, id, first),
                };
            }
            Ok(response) => ReferralEnd::Refused(response.clone()),
            Err(failure) => ReferralEnd::Unanswered(failure),
        };
        self.end_referral(id, end);
    }

    /// The REFER that was accepted names the subscription; credentials gave it a number of its own.
    fn name_referral(&mut self, id: u64, response: &Response) {
        let number = response.headers.typed::<CSeq>().map(|cseq| cseq.number);
        if let (Some(subscription), Ok(number)) = (self.subscriptions.0.get_mut(&id), number) {
            subscription.sequence = number;
        }
    }

    /// Waits no shorter than a NOTIFY that came before the 2xx has asked for.
    fn await_notify(&mut self, now: Instant, id: u64, first: Duration) {
        let running = self.subscriptions.0.get(&id).is_some_and(|subscription| subscription.clocks.runs());
        if !running {
            self.await_end(now, id, first);
        }
    }

    /// Tells how a REFER of ours goes; nothing after its end.
    fn tell_referral(&mut self, id: u64, event: ReferralEvent) {
        let Some(Subscription { role: Role::Referrer { tx, ended }, .. }) = self.subscriptions.0.get_mut(&id)
        else {
            return;
        };
        if !std::mem::replace(ended, *ended || matches!(event, ReferralEvent::Ended(_))) {
            self.events.push_back(Event::Referral { tx: *tx, event });
        }
    }

    fn end_referral(&mut self, id: u64, end: ReferralEnd) {
        self.tell_referral(id, ReferralEvent::Ended(end));
        self.unsubscribe(id);
    }

    /// A NOTIFY of the peer (RFC 3515 §2.4.4, §2.4.5): what it reports, and how long the subscription goes on.
    fn notified(&mut self, now: Instant, id: u64, server: u64, notify: &Request) {
        self.answer(now, server, Reply::new(StatusCode::OK));
        let state: Option<SubscriptionState> = notify.headers.typed().ok();
        if let Some(outcome) = refer::outcome(&notify.body) {
            self.tell_referral(
                id,
                match outcome.status.is_provisional() {
                    true => ReferralEvent::Progress(outcome),
                    false => ReferralEvent::Ended(ReferralEnd::Reported(outcome)),
                },
            );
        }
        match state {
            Some(state) if state.is_terminated() => {
                let reason = state.reason().map(std::borrow::Cow::into_owned);
                self.end_referral(id, ReferralEnd::Unknown { reason });
            }
            state => {
                let asked = state.and_then(|state| state.expires()).map(u64::from).map(Duration::from_secs);
                let most = self.config.transfer.lifetime;
                self.await_end(now, id, asked.map_or(most, |asked| asked.min(most)));
            }
        }
    }

    // ---- The side that carries it out ----

    /// Accepts a REFER with 202 and tells `100 Trying`. `None` where the peer wants no NOTIFYs (RFC 4488).
    ///
    /// # Errors
    /// [`EngineError::TransactionOver`] when it was answered; [`EngineError::Misuse`] for any other request;
    /// [`EngineError::Full`] above [`TransferConfig::max_referrals`](super::config::TransferConfig), which leaves it
    /// to be answered.
    pub fn accept_refer(&mut self, now: Instant, tx: ServerTx) -> Result<Option<ReferralId>, EngineError> {
        self.record(Some(now), || Input::command(Command::AcceptRefer(tx)));
        let server = self.servers.get(tx.0).ok_or(EngineError::TransactionOver)?;
        let request = server.request.clone().ok_or(EngineError::TransactionOver)?;
        let serial = server.dialog.filter(|_| request.method == Method::Refer);
        let serial = serial.ok_or(EngineError::Misuse("accept_refer takes a REFER inside a dialog"))?;
        if request.headers.typed::<ReferSub>().is_ok_and(|asked| asked.is_none()) {
            let reply = Reply::new(StatusCode::ACCEPTED).header(HeaderName::REFER_SUB, "false");
            self.answer(now, tx.0, reply);
            return Ok(None);
        }
        let dialog = self.dialogs.get_mut(serial).ok_or(EngineError::DialogOver)?;
        if dialog.subscriptions.len() >= self.config.transfer.max_referrals {
            return Err(EngineError::Full("max_referrals"));
        }
        let named = std::mem::replace(&mut dialog.referred, true);
        let sequence = request.sequence();
        let (id, lifetime) = (self.next_serial(), self.config.transfer.lifetime);
        let notifier = Notifier {
            named,
            status: StatusCode::TRYING,
            until: now + lifetime,
            busy: false,
            news: false,
            repeated: false,
            over: None,
        };
        self.answer(now, tx.0, Reply::new(StatusCode::ACCEPTED));
        self.subscribe(id, serial, sequence, Role::Notifier(notifier));
        self.await_end(now, id, lifetime);
        self.send_notify(now, id);
        Ok(Some(ReferralId(id)))
    }

    /// Tells the peer how the call that it asked for goes: a provisional status, or the final one, after which nothing
    /// more can be told.
    ///
    /// # Errors
    /// [`EngineError::TransactionOver`] after a final status, or when the peer has ended the subscription.
    pub fn notify(&mut self, now: Instant, id: ReferralId, status: StatusCode) -> Result<(), EngineError> {
        self.record(Some(now), || Input::command(Command::Notify(id, status)));
        let notifier = self.notifier(id.0).ok_or(EngineError::TransactionOver)?;
        if notifier.over.is_some() {
            return Err(EngineError::TransactionOver);
        }
        notifier.status = status;
        notifier.over = status.is_final().then_some("noresource");
        self.send_notify(now, id.0);
        Ok(())
    }

    fn notifier(&mut self, id: u64) -> Option<&mut Notifier> {
        match &mut self.subscriptions.0.get_mut(&id)?.role {
            Role::Notifier(notifier) => Some(notifier),
            Role::Referrer { .. } => None,
        }
    }

    /// Sends the newest state, or leaves that to the end of the NOTIFY or BYE that is under way: a BYE that a NOTIFY
    /// overtakes would be refused for its CSeq number.
    fn send_notify(&mut self, now: Instant, id: u64) {
        let serial = self.subscriptions.0.get(&id).map_or(0, |subscription| subscription.dialog);
        let hanging_up =
            self.dialogs.get(serial).is_some_and(|dialog| matches!(dialog.phase, Phase::ByeSent));
        let Some(Subscription { sequence, role: Role::Notifier(notifier), .. }) =
            self.subscriptions.0.get_mut(&id)
        else {
            return;
        };
        if notifier.busy || hanging_up {
            notifier.news = true;
            return;
        }
        (notifier.busy, notifier.news) = (true, false);
        let event = EventHeader::new(refer::PACKAGE);
        let mut headers = Headers::new();
        headers.push_typed(&match notifier.named {
            true => event.with_param("id", Some(&sequence.to_string())),
            false => event,
        });
        let left = notifier.until.saturating_duration_since(now).as_secs().to_string();
        headers.push_typed(&match notifier.over {
            Some(reason) => SubscriptionState::new("terminated").with_param("reason", Some(reason)),
            None => SubscriptionState::new("active").with_param("expires", Some(&left)),
        });
        let body = refer::fragment(notifier.status);
        let sent = self.send_within(now, serial, Method::Notify, &headers, Some(body), Purpose::Notify(id));
        if sent.is_none() {
            self.unsubscribe(id);
        }
    }

    /// 481 and silence end the subscription (RFC 6665 §4.2.2), and so does the answer to the last NOTIFY.
    fn notify_answered(&mut self, now: Instant, id: u64, result: Result<&Arc<Response>, Failure>) {
        let Some(notifier) = self.notifier(id) else { return };
        let gone = match result {
            Ok(response) => response.status == StatusCode::CALL_DOES_NOT_EXIST,
            Err(_) => true,
        };
        // Overtaken by another request of ours: once more, with a number of its own.
        let late = result.is_ok_and(|response| response.status == StatusCode::SERVER_INTERNAL_ERROR);
        let again = late && !std::mem::replace(&mut notifier.repeated, true);
        notifier.busy = false;
        match (gone, notifier.news || again, notifier.over) {
            (false, true, _) => self.send_notify(now, id),
            (false, false, None) => {}
            _ => self.unsubscribe(id),
        }
    }

    // ---- Both ----

    /// The time of a subscription is over.
    pub(super) fn subscription_fired(&mut self, now: Instant, id: u64, timer: Timer) {
        let Some(subscription) = self.subscriptions.0.get_mut(&id) else { return };
        subscription.clocks.fire(timer);
        match &mut subscription.role {
            Role::Referrer { .. } => {
                self.end_referral(id, ReferralEnd::Unknown { reason: Some(String::from("timeout")) });
            }
            Role::Notifier(notifier) if notifier.over.is_none() => {
                notifier.over = Some("timeout");
                self.send_notify(now, id);
            }
            // The last NOTIFY is under way, and its transaction ends.
            Role::Notifier(_) => {}
        }
    }

    /// A request of the peer that serves a REFER: taken here and not by the program. `Err` refuses it.
    pub(super) fn takes_usage(
        &mut self,
        now: Instant,
        id: u64,
        serial: u64,
        request: &Arc<Request>,
        retry: u32,
    ) -> Result<bool, Box<Reply>> {
        match request.method {
            Method::Refer => self.referred(id, serial, request, retry).map(|()| true),
            Method::Notify | Method::Subscribe => {
                let event = request.headers.typed::<EventHeader>().ok();
                let Some(event) = event.filter(|event| event.package() == refer::PACKAGE) else {
                    return Ok(false);
                };
                let found = self.subscription(serial, &event, request.method == Method::Notify);
                let gone = || Box::new(Reply::new(StatusCode::CALL_DOES_NOT_EXIST));
                let subscription = found.ok_or_else(gone)?;
                match request.method {
                    Method::Notify => self.notified(now, subscription, id, request),
                    _ => self.resubscribed(now, subscription, id, request),
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The subscription that an Event header means: by its `id`, else the oldest (RFC 3515 §2.4.6).
    fn subscription(&self, serial: u64, event: &EventHeader, ours: bool) -> Option<u64> {
        let named: Option<u32> = event.id().map(|id| id.parse().unwrap_or(u32::MAX));
        let fits = |id: &&u64| {
            self.subscriptions.0.get(id).is_some_and(|one| {
                matches!(one.role, Role::Referrer { .. }) == ours
                    && named.is_none_or(|named| named == one.sequence)
            })
        };
        self.dialogs.get(serial)?.subscriptions.iter().find(fits).copied()
    }

    /// A call is transferred once it is answered: before that, and while its end waits for an ACK, a REFER comes too early.
    /// A 481 would end the dialog of the peer with it (RFC 5057 §5.1).
    fn referred(
        &mut self,
        id: u64,
        serial: u64,
        request: &Arc<Request>,
        retry: u32,
    ) -> Result<(), Box<Reply>> {
        if !self.config.transfer.refer {
            return Err(Box::new(self.not_served(request)));
        }
        let Some(dialog) = self.dialogs.get(serial) else { return Ok(()) };
        match dialog.phase {
            Phase::Live => {}
            Phase::Early | Phase::HangUpAfterAck(_) => return too_early(retry),
            Phase::ByeSent | Phase::Released | Phase::Subscribed => {
                return Err(Box::new(Reply::new(StatusCode::CALL_DOES_NOT_EXIST)));
            }
        }
        let bad = |fault: &str| Box::new(Reply::new(StatusCode::BAD_REQUEST).reason(fault));
        let target = Box::new(ReferTarget::of(request).map_err(bad)?);
        let (dialog, tx, request) = (dialog.id.clone(), ServerTx(id), request.clone());
        self.events.push_back(Event::Referred { dialog, tx, request, target });
        Ok(())
    }

    /// The peer prolongs its subscription, or ends it with `Expires: 0` (RFC 6665 §4.2.1).
    fn resubscribed(&mut self, now: Instant, id: u64, server: u64, request: &Request) {
        let most = self.config.transfer.lifetime;
        let asked = request.headers.typed::<Expires>().map_or(most, |e| Duration::from_secs(e.0.into()));
        let lifetime = asked.min(most);
        let reply = Reply::new(StatusCode::OK);
        self.answer(now, server, reply.header(HeaderName::EXPIRES, lifetime.as_secs().to_string()));
        let Some(notifier) = self.notifier(id) else { return };
        notifier.until = now + lifetime;
        if lifetime.is_zero() && notifier.over.is_none() {
            notifier.over = Some("timeout");
        }
        self.await_end(now, id, lifetime.max(Duration::from_secs(1)));
        self.send_notify(now, id);
    }

    // ---- Replaces ----

    /// What an INVITE outside dialogs would replace; `Err` refuses it (RFC 3891 §3).
    pub(super) fn check_replaces(&mut self, request: &Request) -> Result<Option<Replaced>, Box<Reply>> {
        if !self.config.transfer.replaces {
            return Ok(None);
        }
        let refused = |status| Box::new(Reply::new(status));
        let Some(asked) = replaces::read(&request.headers).map_err(refused)? else { return Ok(None) };
        if request.method != Method::Invite {
            return Err(refused(StatusCode::BAD_REQUEST));
        }
        self.joins(asked.dialog().call_id());
        self.judge_replaces_anywhere(&asked).map(Some).map_err(refused)
    }

    /// An INVITE was accepted: what it replaces, as it stands now, ends (RFC 3891 §3).
    pub(crate) fn replace(&mut self, now: Instant, invite: &Request, by: &DialogId) {
        match self.check_replaces(invite) {
            Ok(Some(Replaced::Call(dialog))) => {
                if self.hang_up(now, &dialog, Headers::new()).is_ok() {
                    let reason = EndReason::Replaced { by: by.clone() };
                    self.events.push_back(Event::Ended { dialog, reason });
                }
            }
            Ok(Some(Replaced::Ringing(tx))) => {
                // One that was answered or given up this moment needs no CANCEL.
                let _ = self.call_off(now, tx, Headers::new());
            }
            Ok(None) | Err(_) => {}
        }
    }
}
