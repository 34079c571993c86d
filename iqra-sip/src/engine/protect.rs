//! The guard in the engine: what it refuses is answered here without state, and the load that it judges by is measured
//! here. The driver notes what it alone sees: its queue to the program, and how long it has read without an end.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Engine;
use super::event::Reply;
use super::flow::Flow;
use super::via::{self, ReplyPath};
use super::wording::word;
use crate::fault::Fault;
use crate::guard::{CROWD, Guard, GuardConfig, Load, Sender, Verdict};
use crate::message::header::Via;
use crate::message::{Limits, Message, Method, Request, Response, StatusCode};
use crate::observe::DropReason;

/// A guard and its measures: one for all engines of a process, for a source must not get its rate from each of them.
/// Its lock is the last that is taken, and held for one question.
pub(crate) struct Protection {
    guard: Guard,
    /// Requests that the program has not answered at all, by engine and by the number of their transaction: the first
    /// is an engine's oldest.
    waiting: Vec<BTreeMap<u64, Instant>>,
    queued: usize,
    /// Since when each reader of the driver has not read its socket empty.
    backlogs: BTreeMap<usize, Instant>,
}

impl Protection {
    fn new(config: GuardConfig, limits: &Limits) -> Self {
        Self {
            guard: Guard::new(config).within(limits),
            waiting: Vec::new(),
            queued: 0,
            backlogs: BTreeMap::new(),
        }
    }

    pub(super) fn shared(config: GuardConfig, limits: &Limits) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self::new(config, limits)))
    }

    fn waiting(&mut self, place: usize) -> &mut BTreeMap<u64, Instant> {
        if self.waiting.len() <= place {
            self.waiting.resize_with(place + 1, BTreeMap::new);
        }
        &mut self.waiting[place]
    }

    fn load(&self, now: Instant, fill: u8) -> Load {
        let age = |since: Instant| now.saturating_duration_since(since);
        Load {
            waiting: self.waiting.iter().map(BTreeMap::len).sum(),
            queued: self.queued,
            stalled: self.stalled_since().map(age).unwrap_or_default(),
            behind: self.backlogs.values().min().copied().map(age).unwrap_or_default(),
            fill,
        }
    }

    /// Since when as many as make a crowd wait: the first of each engine are its oldest.
    fn stalled_since(&self) -> Option<Instant> {
        if let [only] = &self.waiting[..] {
            return only.values().nth(CROWD - 1).copied();
        }
        if self.waiting.iter().map(BTreeMap::len).sum::<usize>() < CROWD {
            return None;
        }
        let mut oldest: Vec<_> =
            self.waiting.iter().flat_map(|all| all.values().take(CROWD)).copied().collect();
        Some(*oldest.select_nth_unstable(CROWD - 1).1)
    }
}

/// The guard behind its lock.
struct Held<'a>(MutexGuard<'a, Protection>);

impl Deref for Held<'_> {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.0.guard
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Guard {
        &mut self.0.guard
    }
}

/// A poisoned lock is taken over: a guard is left consistent between its questions.
fn hold(protection: &Mutex<Protection>) -> MutexGuard<'_, Protection> {
    protection.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Sets the guard up, or gives a running one new settings: bans and buckets stay. `None` takes it away.
    pub fn set_guard(&mut self, config: Option<GuardConfig>) {
        match (&self.protection, config) {
            (Some(protection), Some(config)) => hold(protection).guard.reload(config),
            (_, config) => {
                self.protection = config.map(|config| Protection::shared(config, &self.config.limits));
            }
        }
    }

    /// The guard as the engines of a process share it.
    #[cfg(feature = "tokio")]
    pub(crate) fn guard_of_all(&self) -> Option<Arc<Mutex<Protection>>> {
        self.protection.clone()
    }

    /// Takes the guard of another engine, or goes without one as that does.
    #[cfg(feature = "tokio")]
    pub(crate) fn share_guard(&mut self, guard: Option<Arc<Mutex<Protection>>>) {
        self.protection = guard;
    }

    /// The guard, where there is one: to look at its bans.
    #[must_use]
    pub fn guard(&self) -> Option<impl Deref<Target = Guard> + '_> {
        self.protection.as_deref().map(|protection| Held(hold(protection)))
    }

    /// The guard, where there is one: to ban and unban.
    pub fn guard_mut(&mut self) -> Option<impl DerefMut<Target = Guard> + '_> {
        self.protection.as_deref().map(|protection| Held(hold(protection)))
    }

    /// Learns how many events of the engine wait for the program in the driver's queue: one of the measures of load.
    pub fn note_queued(&mut self, queued: usize) {
        if let Some(protection) = &self.protection {
            hold(protection).queued = queued;
        }
    }

    /// Learns since when a reader of the driver has found more to read each time it looked; `None` once it has read its
    /// socket empty. Readers are told apart by numbers of the driver's own. One of the measures of load.
    pub fn note_backlog(&mut self, reader: usize, since: Option<Instant>) {
        let Some(protection) = &self.protection else { return };
        match since {
            Some(since) => drop(hold(protection).backlogs.insert(reader, since)),
            None => drop(hold(protection).backlogs.remove(&reader)),
        }
    }

    /// The load that the guard judges by; all zero without a guard.
    #[must_use]
    pub fn load(&self, now: Instant) -> Load {
        self.protection.as_ref().map(|protection| hold(protection).load(now, self.fill())).unwrap_or_default()
    }

    /// Whether the guard kept the last message away, so that it concerns no call.
    #[cfg(feature = "tokio")]
    pub(crate) fn kept_away(&self) -> bool {
        self.watch.kept_away()
    }

    /// Asks the guard about a STUN Binding request; false where it is not to be answered.
    #[cfg(feature = "tokio")]
    pub(crate) fn admits_keep_alive(&mut self, now: Instant, flow: &Flow) -> bool {
        self.watch.arrives(now, flow);
        let Some(protection) = &self.protection else { return true };
        let verdict = hold(protection).guard.judge_keep_alive(now, Sender::of(flow));
        match verdict {
            Verdict::Drop(reason) => {
                self.watch.discard(reason);
                false
            }
            _ => true,
        }
    }

    /// Tells the observer of bans that were made or lifted; with the next message at the latest.
    pub(crate) fn tell_bans(&mut self) {
        let Some(protection) = &self.protection else { return };
        while let Some(change) = hold(protection).guard.poll_change() {
            self.watch.banned(&change);
        }
    }

    /// Asks the guard about a message that came in; false where that is all that becomes of it.
    pub(super) fn admits(&mut self, now: Instant, flow: &Flow, message: &bytes::Bytes) -> bool {
        self.shed = None;
        let verdict = self.judge(now, flow, message);
        self.tell_bans();
        match verdict {
            Verdict::Pass => return true,
            Verdict::Shed(least, most) => {
                self.shed = Some((least, most));
                return true;
            }
            Verdict::Drop(_) if self.has(Fault::DropNotCounted) => {}
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
        self.ask_guard('g', |guard, fill| {
            let load = guard.load(now, fill);
            guard.guard.judge(now, Sender::of(flow), message, &load)
        })
    }

    fn ask_guard(&mut self, kind: char, ask: impl FnOnce(&mut Protection, u8) -> Verdict) -> Verdict {
        let fill = self.fill();
        let Self { protection, random, .. } = self;
        let Some(protection) = protection else { return Verdict::Pass };
        let verdict = random.facts.seldom(kind, || ask(&mut hold(protection), fill).word());
        verdict.and_then(|word| Verdict::read(&word)).unwrap_or(Verdict::Pass)
    }

    /// Refuses a request that claims to be inside a dialog or to cancel another, and is not; nothing is kept for it. It
    /// costs what a new one costs, and where that is too much it gets no answer.
    pub(super) fn refuse_stray(
        &mut self,
        now: Instant,
        flow: &Flow,
        request: &Request,
        (via, path): (&Via, ReplyPath),
        refusal: Reply,
    ) {
        let verdict = self.ask_guard('s', |guard, fill| {
            let load = guard.load(now, fill);
            guard.guard.judge_stray(now, Sender::of(flow), &load)
        });
        self.tell_bans();
        match verdict {
            Verdict::Pass => {
                let gone = refusal.status == StatusCode::CALL_DOES_NOT_EXIST;
                self.watch.discard(if gone { DropReason::NoDialog } else { DropReason::Unroutable });
                self.send_stateless(word(request, refusal), via, path);
            }
            Verdict::Drop(reason) => self.watch.discard(reason),
            Verdict::Forbid(reason) => {
                self.watch.discard(reason);
                self.send_stateless(Response::to_request(request, StatusCode::FORBIDDEN), via, path);
            }
            Verdict::Shed(least, most) => self.refuse_for_load(request, via, path, (least, most)),
        }
    }

    fn forbid(&mut self, flow: &Flow, message: bytes::Bytes) {
        let Ok(Message::Request(mut request)) = Message::parse_within(message, &self.config.limits) else {
            return;
        };
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
        let Some(seconds) = self.shed.take() else { return false };
        self.refuse_for_load(request, via, path, seconds);
        true
    }

    fn refuse_for_load(&mut self, request: &Request, via: &Via, path: ReplyPath, (least, most): (u32, u32)) {
        self.watch.discard(DropReason::Shed);
        let reply = self.unavailable_for(least..=most);
        self.send_stateless(word(request, reply), via, path);
    }

    /// What this source sent could not be read; true where it is banned and needs no answer.
    pub(super) fn offended(&mut self, now: Instant, flow: &Flow) -> bool {
        let Some(protection) = &self.protection else { return false };
        let banned = hold(protection).guard.malformed(now, Sender::of(flow));
        self.tell_bans();
        banned
    }

    /// A request waits for the program.
    pub(super) fn waits(&mut self, now: Instant, server: u64) {
        if let Some(protection) = &self.protection {
            hold(protection).waiting(self.share.place).insert(server, now);
        }
    }

    /// The program has said something to it, or nobody asks any more.
    pub(super) fn waits_no_more(&mut self, server: u64) {
        if let Some(protection) = self.protection.as_ref().filter(|_| !self.has(Fault::WaitingKept)) {
            hold(protection).waiting(self.share.place).remove(&server);
        }
    }

    pub(super) fn wait_for_nothing(&mut self) {
        if let Some(protection) = &self.protection {
            hold(protection).waiting(self.share.place).clear();
        }
    }
}
