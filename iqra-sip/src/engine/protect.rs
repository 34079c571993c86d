//! The guard in the engine: what it refuses is answered here without state, and the load that it judges by is measured
//! here.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Engine;
use super::flow::Flow;
use super::via::{self, ReplyPath};
use crate::guard::{Guard, GuardConfig, Load, Verdict};
use crate::message::header::Via;
use crate::message::{HeaderName, Message, Method, Request, Response, StatusCode};
use crate::observe::DropReason;

/// A guard and its measures.
pub(super) struct Protection {
    guard: Guard,
    /// Requests that the program has not answered at all, by the number of their transaction: the first is the oldest.
    waiting: BTreeMap<u64, Instant>,
    queued: usize,
    /// The message under way is to be shed, with a Retry-After between these seconds, unless it is a repeat.
    shed: Option<(u32, u32)>,
}

impl Protection {
    pub(super) fn new(config: GuardConfig) -> Self {
        Self { guard: Guard::new(config), waiting: BTreeMap::new(), queued: 0, shed: None }
    }

    fn load(&self, now: Instant) -> Load {
        let oldest = self.waiting.first_key_value().map(|(_, since)| now.saturating_duration_since(*since));
        Load { waiting: self.waiting.len(), queued: self.queued, oldest: oldest.unwrap_or(Duration::ZERO) }
    }
}

impl Engine {
    /// Sets the guard up, or gives a running one new settings: bans and buckets stay. `None` takes it away.
    pub fn set_guard(&mut self, config: Option<GuardConfig>) {
        match (&mut self.protection, config) {
            (Some(protection), Some(config)) => protection.guard.reload(config),
            (protection, config) => *protection = config.map(Protection::new),
        }
    }

    /// The guard, where there is one: to look at its bans.
    #[must_use]
    pub fn guard(&self) -> Option<&Guard> {
        self.protection.as_ref().map(|protection| &protection.guard)
    }

    /// The guard, where there is one: to ban and unban.
    pub fn guard_mut(&mut self) -> Option<&mut Guard> {
        self.protection.as_mut().map(|protection| &mut protection.guard)
    }

    /// Learns how many events of the engine wait for the program in the driver's queue: one of the measures of load.
    pub fn note_queued(&mut self, queued: usize) {
        if let Some(protection) = &mut self.protection {
            protection.queued = queued;
        }
    }

    /// The load that the guard judges by; all zero without a guard.
    #[must_use]
    pub fn load(&self, now: Instant) -> Load {
        self.protection.as_ref().map(|protection| protection.load(now)).unwrap_or_default()
    }

    /// Asks the guard about a message that came in; false where that is all that becomes of it.
    pub(super) fn admits(&mut self, now: Instant, flow: &Flow, message: &bytes::Bytes) -> bool {
        let verdict = self.judge(now, flow, message);
        let Some(protection) = &mut self.protection else { return true };
        protection.shed = None;
        match verdict {
            Verdict::Pass => return true,
            Verdict::Shed(least, most) => {
                protection.shed = Some((least, most));
                return true;
            }
            Verdict::Drop(reason) => self.watch.discard(reason),
            Verdict::Forbid(reason) => {
                self.watch.discard(reason);
                self.forbid(flow, message.clone());
            }
        }
        false
    }

    /// What the guard says; it looks at other calls too, so a replay is told.
    fn judge(&mut self, now: Instant, flow: &Flow, message: &bytes::Bytes) -> Verdict {
        let Self { protection, random, .. } = self;
        let Some(protection) = protection else { return Verdict::Pass };
        let verdict = random.facts.seldom('g', || {
            let load = protection.load(now);
            protection.guard.judge(now, flow.remote.ip(), message, &load).word()
        });
        verdict.and_then(|word| Verdict::read(&word)).unwrap_or(Verdict::Pass)
    }

    fn forbid(&mut self, flow: &Flow, message: bytes::Bytes) {
        let Ok(Message::Request(mut request)) = Message::parse(message) else { return };
        if request.method == Method::Ack {
            return;
        }
        if let Ok((via, path)) = via::receive(&mut request, flow) {
            self.send_stateless(Response::to_request(&request, StatusCode::FORBIDDEN), &via, path);
        }
    }

    /// Answers a new request 503 where the guard sheds load. Repeats never come here, so that what was begun is
    /// finished.
    pub(super) fn shed(&mut self, request: &Request, via: &Via, path: ReplyPath) -> bool {
        let Some((least, most)) = self.protection.as_mut().and_then(|protection| protection.shed.take())
        else {
            return false;
        };
        self.watch.discard(DropReason::Shed);
        let span = most.saturating_sub(least).saturating_add(1);
        let seconds = least.saturating_add(self.random.sequence() % span);
        let mut response = Response::to_request(request, StatusCode::SERVICE_UNAVAILABLE);
        response.headers.push(HeaderName::RETRY_AFTER, seconds.to_string());
        self.send_stateless(response, via, path);
        true
    }

    /// What this source sent could not be read.
    pub(super) fn offended(&mut self, now: Instant, flow: &Flow) {
        if let Some(protection) = &mut self.protection {
            protection.guard.malformed(now, flow.remote.ip());
        }
    }

    /// A request waits for the program.
    pub(super) fn waits(&mut self, now: Instant, server: u64) {
        if let Some(protection) = &mut self.protection {
            protection.waiting.insert(server, now);
        }
    }

    /// The program has said something to it, or nobody asks any more.
    pub(super) fn waits_no_more(&mut self, server: u64) {
        if let Some(protection) = &mut self.protection {
            protection.waiting.remove(&server);
        }
    }

    pub(super) fn wait_for_nothing(&mut self) {
        if let Some(protection) = &mut self.protection {
            protection.waiting.clear();
        }
    }
}
