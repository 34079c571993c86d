//! An INVITE that waits for its answer ends when the caller said that it would (RFC 3261 §13.3.1, Expires). A relay
//! leaves that to the other end.

use std::time::{Duration, Instant};

use super::Engine;
use super::event::{EndReason, Reply};
use super::flow::Owner;
use super::server::Server;
use crate::message::header::Expires;
use crate::message::{Headers, Method, Request, StatusCode};
use crate::transaction::timer::Timer;

impl Engine {
    /// An INVITE outside a dialog ends at the time that it names, if it names one.
    pub(super) fn limit_ringing(&mut self, now: Instant, server: u64, request: &Request) {
        if request.method != Method::Invite {
            return;
        }
        let Ok(expires) = request.headers.typed::<Expires>() else { return };
        let Some(clocks) = self.servers.clocks(server) else { return };
        let time = Duration::from_secs(expires.0.into());
        self.timers.start_for(now, Owner::Server(server), clocks, Timer::Lapse, time);
    }

    /// The final response is about to go out.
    pub(super) fn stop_ringing(&mut self, server: u64) {
        let Some(clocks) = self.servers.clocks(server) else { return };
        self.timers.stop(Owner::Server(server), clocks, Timer::Lapse);
    }

    pub(super) fn lapse(&mut self, now: Instant, server: u64) {
        if self.servers.get(server).is_some_and(Server::is_pending_invite) {
            self.tell_given_up(server, None, EndReason::Cancelled { headers: Headers::new() });
            self.answer(now, server, Reply::new(StatusCode::REQUEST_TERMINATED));
        }
    }
}
