//! From one target of a request to the next (RFC 3263 §4.3), and which targets are better left alone for a while.
//!
//! A request outside a dialog comes with a list of hops. Where the transport fails, nobody answers in time, or the
//! answer is 503, it goes to the next of them: the same request with a branch of its own, and without the credentials that
//! the last one asked for. What a target that was given up answers later is cancelled, or acknowledged and hung up.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Engine;
use super::challenged::Proof;
use super::client_table::{Cancel, Client};
use super::event::EngineError;
use super::flow::{Flow, Hop, Owner, Transport};
use super::outbound::Purpose;
use super::target::{self, Way};
use crate::message::header::{From, RetryAfter};
use crate::message::{HeaderName, Headers, Message, Request, Response, StatusCode, Uri};
use crate::transaction::timer::Timer;

/// How long targets that failed are avoided. An avoided target comes after all others, so one that is alone is still
/// asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverConfig {
    /// After silence or a transport error. Zero remembers nothing. Default 30 s.
    pub avoid_silent: Duration,
    /// The most that a Retry-After of a 503 counts for (RFC 3261 §21.5.4). Default 1 hour.
    pub max_retry_after: Duration,
    /// Most targets that are remembered; what is soonest forgiven makes room. Default 1,024.
    pub max_avoided: usize,
}

impl Default for FailoverConfig {
    fn default() -> Self {
        Self {
            avoid_silent: Duration::from_secs(30),
            max_retry_after: Duration::from_secs(3_600),
            max_avoided: 1_024,
        }
    }
}

/// Targets that failed, and until when they are avoided.
#[derive(Default)]
pub(super) struct Avoided(HashMap<(Transport, SocketAddr), Instant>);

impl Avoided {
    fn is(&self, now: Instant, hop: &Hop) -> bool {
        self.0.get(&(hop.transport, hop.addr)).is_some_and(|until| now < *until)
    }

    fn note(&mut self, now: Instant, flow: &Flow, length: Duration, most: usize) {
        let Some(until) = now.checked_add(length).filter(|_| !length.is_zero() && most > 0) else { return };
        let target = (flow.transport, flow.remote);
        if self.0.len() >= most && !self.0.contains_key(&target) {
            self.0.retain(|_, until| now < *until);
            let soonest = self.0.iter().min_by_key(|(_, until)| **until).map(|(target, _)| *target);
            if let Some(soonest) = soonest.filter(|_| self.0.len() >= most) {
                self.0.remove(&soonest);
            }
        }
        self.0.insert(target, until);
    }

    /// A target that answers is avoided no longer.
    fn forgive(&mut self, flow: &Flow) {
        self.0.remove(&(flow.transport, flow.remote));
    }
}

impl Engine {
    /// The first way to a peer outside a dialog, and the hops that are left for when it fails.
    pub(super) fn ways_to(
        &mut self,
        now: Instant,
        hops: impl IntoIterator<Item = Hop>,
        headers: &Headers,
        uri: &Uri,
    ) -> Result<(Way, VecDeque<Hop>), EngineError> {
        let mut hops = self.by_health(now, hops);
        let mut refusal = None;
        while let Some(hop) = hops.pop_front() {
            match self.way_to(Some(hop), headers, uri) {
                Ok(way) => return Ok((way, hops)),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        match refusal {
            Some(error) => Err(error),
            None => Ok((self.way_to(None, headers, uri)?, hops)),
        }
    }

    /// Gives a new transaction the hops to go on with. The last one has all the time of Timer B or F.
    pub(super) fn keep_hops(&mut self, now: Instant, id: u64, hops: VecDeque<Hop>) {
        let Some(client) = self.clients.get_mut(id).filter(|_| !hops.is_empty()) else { return };
        client.hops = hops;
        self.timers.start(now, Owner::Client(id), &mut client.clocks, Timer::Hop, false);
    }

    /// A target was silent for as long as one of several may be, or to the end. True where the request goes on: to the
    /// next target, or for want of one with this, until Timer B or F.
    pub(super) fn target_silent(&mut self, now: Instant, id: u64, timer: Timer) -> bool {
        if self.clients.get(id).is_some_and(Client::is_unanswered) && self.fail_over(now, id, true) {
            return true;
        }
        let Some(client) = self.clients.get_mut(id).filter(|_| timer == Timer::Hop) else { return false };
        let last = if client.invite.is_some() { Timer::B } else { Timer::F };
        self.timers.start(now, Owner::Client(id), &mut client.clocks, last, false);
        true
    }

    /// A 503: the next target is asked instead (RFC 3263 §4.3), and this one avoided for as long as it says.
    pub(super) fn target_unavailable(&mut self, now: Instant, id: u64, response: &Response) -> bool {
        let Some(client) = self.clients.get(id).filter(|client| client.dialog.is_none()) else {
            return false;
        };
        let (flow, for_program) = (client.flow, client.is_for_program());
        if response.status != StatusCode::SERVICE_UNAVAILABLE {
            self.avoided.forgive(&flow);
            return false;
        }
        if let Ok(RetryAfter(seconds)) = response.headers.typed() {
            let config = &self.config.failover;
            let length = Duration::from_secs(seconds.into()).min(config.max_retry_after);
            self.avoided.note(now, &flow, length, config.max_avoided);
        }
        for_program && self.take_next_hop(now, id, Leaving::Answered)
    }

    /// The hops in their order, but those that failed of late behind the others. One that two names lead to stands there
    /// once: to a second copy whoever answered 503 would say 482, which ends the request.
    pub(super) fn by_health(&mut self, now: Instant, hops: impl IntoIterator<Item = Hop>) -> VecDeque<Hop> {
        let Self { avoided, random, .. } = self;
        let mut seen = HashSet::new();
        let once = hops.into_iter().filter(|hop| seen.insert((hop.transport, hop.addr, hop.flow)));
        let (avoided, mut hops): (VecDeque<_>, VecDeque<_>) =
            once.partition(|hop| random.facts.whether('v', avoided.is(now, hop)));
        hops.extend(avoided);
        hops
    }

    /// A target said nothing, or could not be reached: it is avoided for a while.
    pub(super) fn avoid_silent(&mut self, now: Instant, id: u64) {
        if let Some(client) = self.clients.get(id) {
            let config = &self.config.failover;
            self.avoided.note(now, &client.flow, config.avoid_silent, config.max_avoided);
        }
    }

    /// A target that said nothing, or could not be reached: remembered, and the next one tried.
    pub(super) fn fail_over(&mut self, now: Instant, id: u64, silent: bool) -> bool {
        self.avoid_silent(now, id);
        if self.clients.get(id).is_none_or(|client| client.dialog.is_some()) {
            return false;
        }
        self.take_next_hop(now, id, if silent { Leaving::Silent } else { Leaving::Unreachable })
    }

    fn take_next_hop(&mut self, now: Instant, id: u64, leaving: Leaving) -> bool {
        let delayed_offer = self.clients.get(id).is_some_and(|client| client.delayed_offer);
        while let Some((hop, request)) = self.next_target(id) {
            let Ok(way) = self.way_to(Some(hop), &request.headers, &request.uri) else { continue };
            let request = self.reword(id, request, &way);
            let Some(Carried { hops, purpose, proof }) = self.leave(now, id, leaving) else { return false };
            self.open_client_as(now, id, request, way, None, purpose, proof);
            self.set_delayed_offer(id, delayed_offer);
            self.keep_hops(now, id, hops);
            return true;
        }
        false
    }

    /// The next hop and the request without our Via; none for what is cancelled or was answered by somebody.
    fn next_target(&mut self, id: u64) -> Option<(Hop, Request)> {
        let client = self.clients.get_mut(id)?;
        if client.cancel != Cancel::No || !client.forks.is_empty() {
            return None;
        }
        let hop = client.hops.pop_front()?;
        match Message::parse_own(client.wire.clone()) {
            Ok(Message::Request(mut request)) => {
                request.headers.take_first(HeaderName::VIA);
                Some((hop, request))
            }
            _ => None,
        }
    }

    /// Our Contact names the listener of the flow; one that the program gave stays.
    fn reword(&self, id: u64, mut request: Request, way: &Way) -> Request {
        let user = request.headers.typed::<From>().ok().and_then(|from| from.uri.user().map(str::to_owned));
        let secure = target::asks_for_sips(&request.uri, &request.headers);
        let ours = |flow| self.contact(flow, user.as_deref(), secure);
        let old = self.clients.get(id).map(|client| ours(&client.flow).to_string());
        let contact = request.headers.get(HeaderName::CONTACT);
        if old.is_some() && old.as_deref() == contact.as_deref() {
            request.headers.set(HeaderName::CONTACT, ours(&way.flow));
        }
        request
    }

    /// Takes the transaction of a target that is given up out of the way. An INVITE lives on by itself: after a 503 to
    /// repeat its ACK, after silence to cancel what comes late.
    fn leave(&mut self, now: Instant, id: u64, leaving: Leaving) -> Option<Carried> {
        self.release_early(id);
        let client = self.clients.get_mut(id)?;
        let (hops, proof) = (std::mem::take(&mut client.hops), client.proof.anew());
        let purpose = std::mem::replace(&mut client.purpose, Purpose::Engine);
        match leaving {
            Leaving::Answered => self.move_client(now, id),
            Leaving::Silent if client.invite.is_some() => {
                client.cancel = Cancel::Wanted;
                self.move_client(now, id);
            }
            Leaving::Silent | Leaving::Unreachable => self.close_client(id),
        }
        Some(Carried { hops, purpose, proof })
    }
}

/// What a request takes along to its next target.
struct Carried {
    hops: VecDeque<Hop>,
    purpose: Purpose,
    proof: Proof,
}

/// Why a target is given up.
#[derive(Clone, Copy)]
enum Leaving {
    Silent,
    Unreachable,
    Answered,
}
