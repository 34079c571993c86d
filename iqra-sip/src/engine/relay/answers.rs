//! What comes back for a relayed request and how it goes on to the caller (RFC 3261 §16.7 to §16.9; RFC 6026 §7 for 2xx;
//! RFC 4320 for requests other than INVITE).

use std::sync::Arc;
use std::time::Instant;

use super::{AttemptFailure, Engine, Kind};
use crate::engine::client_table::Cancel;
use crate::engine::event::{Failure, Reply};
use crate::engine::flow::Owner;
use crate::message::{HeaderName, Method, Response, StatusCode};
use crate::roles::relay::RelayEvent;
use crate::transaction::timer::Timer;

impl Engine {
    /// A response of `client`, which carries a request of the server transaction `id`.
    pub(in crate::engine) fn relayed_response(
        &mut self,
        now: Instant,
        client: u64,
        id: u64,
        response: &Arc<Response>,
    ) {
        let Some(sent) = self.clients.get(client) else { return };
        let (invite, wanted) = (sent.invite.is_some(), sent.cancel == Cancel::Wanted);
        if wanted && response.status.is_provisional() {
            self.send_cancel(now, client);
        }
        let current = self.relays.get_mut(id).is_some_and(|relay| relay.current == Some(client));
        match response.status {
            status if status.is_success() && invite => self.pass_success(now, client, id, response),
            _ if !current => {}
            status if status.is_success() => {
                let response = self.vouch(client, response).into_owned();
                self.target_answered(now, id, &response);
            }
            status if status.is_final() => self.target_answered(now, id, response),
            StatusCode::TRYING => self.target_tries(now, id),
            // RFC 4320 §4.1: no other provisional response to anything but INVITE goes on.
            _ if invite => self.pass_provisional(now, client, id, response),
            _ => self.target_tries(now, id),
        }
    }

    /// A 100 stays here; it gives a silent target more time, where its time is short.
    fn target_tries(&mut self, now: Instant, id: u64) {
        let Some(relay) = self.relays.by_server.get_mut(&id) else { return };
        let waiting = relay.kind.is_followed() && !relay.rang && !relay.trying && relay.clocks.runs();
        relay.trying = true;
        if waiting {
            let time = relay.timings.trying;
            self.timers.start_for(now, Owner::Relay(id), &mut relay.clocks, Timer::Attempt, time);
        }
    }

    /// 101 to 199: forwarded, and from now on no other target is tried. Timer C begins anew (RFC 3261 §16.7 step 2).
    fn pass_provisional(&mut self, now: Instant, client: u64, id: u64, response: &Arc<Response>) {
        let Some(relay) = self.relays.by_server.get_mut(&id) else { return };
        relay.rang = true;
        let kind = relay.kind;
        self.timers.forget(Owner::Relay(id), &mut relay.clocks);
        self.ring_anew(now, client);
        let response = self.vouch(client, response).into_owned();
        self.forward_response(now, id, &response);
        if kind == Kind::Call {
            self.tell(id, RelayEvent::Provisional(response));
        }
    }

    /// A 2xx to INVITE, the first or a further one: always forwarded, whatever was before (RFC 3261 §16.7 step 5).
    fn pass_success(&mut self, now: Instant, client: u64, id: u64, response: &Arc<Response>) {
        let response = self.vouch(client, response).into_owned();
        self.forward_response(now, id, &response);
        let Some(relay) = self.relays.get_mut(id) else { return };
        relay.current = relay.current.filter(|&current| current != client);
        let kind = relay.kind;
        self.end_relay(now, id);
        if kind == Kind::Call {
            self.tell(id, RelayEvent::Answered(response));
        }
    }

    /// The current target refused, or answered something else than an INVITE.
    fn target_answered(&mut self, now: Instant, id: u64, response: &Arc<Response>) {
        let Some(relay) = self.relays.get_mut(id) else { return };
        relay.current = None;
        let goes_on = !relay.rang && !relay.cancelled;
        let (kind, within) = (relay.kind, !relay.kind.is_followed());
        match response.status.code() {
            408 if kind == Kind::Request => self.target_failed(now, id, AttemptFailure::Silent),
            503 if within && goes_on && self.next_hop(now, id) => {}
            482 | 500..=599 if goes_on && !within => {
                self.target_failed(now, id, AttemptFailure::Refused(response.clone()));
            }
            408 if within && self.is_not_invite(id) => self.drop_relayed(now, id),
            _ => self.finish(now, id, Some(response), response.status),
        }
    }

    pub(super) fn is_not_invite(&self, id: u64) -> bool {
        let request = self.servers.get(id).and_then(|server| server.request.as_ref());
        request.is_some_and(|request| request.method != Method::Invite)
    }

    /// RFC 4320 §4.2: a 408 to anything but INVITE comes too late to be of use, so nothing is answered at all.
    pub(super) fn drop_relayed(&mut self, now: Instant, id: u64) {
        let ended = self.end_relay(now, id);
        self.drop_server(id);
        if ended.is_some_and(|relay| relay.kind.is_followed()) {
            self.tell(id, RelayEvent::Ended);
        }
    }

    /// No response came from `client`, or the request never left.
    pub(in crate::engine) fn relayed_failure(
        &mut self,
        now: Instant,
        client: u64,
        id: u64,
        failure: Failure,
    ) {
        let Some(relay) = self.relays.get_mut(id).filter(|relay| relay.current == Some(client)) else {
            return;
        };
        let (kind, rang, cancelled) = (relay.kind, relay.rang, relay.cancelled);
        relay.current = None;
        // Outside dialogs only a hop that names its flow has one already.
        let named = self.clients.get(client).is_some_and(|client| client.flow.connection.is_some());
        let unreachable = if named { AttemptFailure::FlowGone } else { AttemptFailure::Unreachable };
        match (kind, failure) {
            _ if cancelled => self.finish(now, id, None, StatusCode::REQUEST_TERMINATED),
            (Kind::Call, Failure::Timeout) if !rang => self.target_failed(now, id, AttemptFailure::Silent),
            (Kind::Call | Kind::Request, Failure::Transport) if !rang => {
                self.target_failed(now, id, unreachable);
            }
            (Kind::Within { .. }, _) if !rang && self.next_hop(now, id) => {}
            (_, Failure::Timeout) if self.is_not_invite(id) => self.drop_relayed(now, id),
            (_, Failure::Timeout) => self.finish(now, id, None, StatusCode::REQUEST_TIMEOUT),
            (Kind::Within { pinned: true }, _) => self.finish(now, id, None, StatusCode::FLOW_FAILED),
            (_, Failure::Transport | Failure::Unproven) => {
                self.finish(now, id, None, StatusCode::SERVER_INTERNAL_ERROR);
            }
        }
    }

    /// The one final response: this one, else the best of those before, else `status` in our own words.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        id: u64,
        response: Option<&Arc<Response>>,
        status: StatusCode,
    ) {
        let Some(relay) = self.end_relay(now, id) else { return };
        let followed = relay.kind.is_followed();
        let earlier = relay.best.filter(|_| !relay.cancelled).and_then(|(_, response)| response);
        let Some(received) = response.cloned().or(earlier) else {
            return self.refuse_relayed(now, id, status, followed);
        };
        let mut response = received;
        if followed && response.status == StatusCode::SERVICE_UNAVAILABLE {
            Arc::make_mut(&mut response).headers.remove(HeaderName::RETRY_AFTER);
        }
        self.forward_response(now, id, &response);
        match response.status.is_success() {
            _ if !followed => {}
            true => self.tell(id, RelayEvent::Answered(response)),
            false => self.tell(id, RelayEvent::Refused(response)),
        }
    }

    fn refuse_relayed(&mut self, now: Instant, id: u64, status: StatusCode, tell: bool) {
        let Some(request) = self.servers.get(id).and_then(|server| server.request.clone()) else { return };
        self.answer(now, id, Reply::new(status));
        if tell {
            self.tell(id, RelayEvent::Refused(Self::stand_in(&request, status)));
        }
    }
}
