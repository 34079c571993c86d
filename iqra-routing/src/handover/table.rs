//! The table of a call between the tiers: what each event does to an entry in each state, and what the caller hears.
//!
//! In: an entry, an [`Event`] and the time. Out: the entry to store, or that nothing changes, or the [`Reason`] that the
//! sender of the event hears. Pure; every store runs it inside its own atomic step.
//!
//! ```text
//!                  Offer           Raise           Claim            Commit         Release          End(reason)     Expire     Finish
//! Queued           ProcessedProxy  ProcessingProxy superseded       superseded     superseded       Failed/Canceled Expired    superseded
//! ProcessingProxy  ProcessedProxy  attempt + 1     superseded       superseded     superseded       Failed/Canceled Expired    superseded
//! ProcessedProxy   offer again     ProcessingProxy ProcessingBackend superseded    same | superseded Failed/Canceled Expired   superseded
//! ProcessingBackend offer kept     ProcessingProxy same | take over ProcessedBackend ProcessedProxy | Failed  by owner Expired superseded
//!                                                  | claimed by another                               | by relay
//! ProcessedBackend answered        answered        resume | answered same          superseded       answered        answered   outcome
//! final            finished        finished        finished         finished       same | finished  same | finished same       finished
//! ```
//!
//! - The proxy's events name its node and the attempt, the claimant's the attempt, the claim number and its start; one
//!   that does not match is `superseded` (482).
//! - An event that was applied may be repeated: it succeeds and changes nothing.
//! - `Claim` also refuses the wrong server or region (403), an expired offer (403) and any other caller (482).
//! - The proxy of a relayed call follows it to its answer: it also ends one that is claimed (the caller gave up, its
//!   backend died), and no commit can follow. Before each further backend it raises the attempt, so that one it has
//!   given up cannot commit; where the commit came first, that backend's answer stands. Of a redirected call the proxy
//!   hears nothing after the claim, which is the claimant's then.
//! - A repeat of the same CSeq finds a redirected call answered (302), and a relayed one not: see [`repeat`].
//! - `Release` after 401, 407, 415, 420 or 422 keeps the claim, because the caller comes back with a higher CSeq.

use std::sync::Arc;
use std::time::Duration;

use crate::handover::outcome::Outcome;
use crate::handover::token::{Purpose, Token};
use crate::identity::{BackendId, CallerKey, Incarnation, RegionId};
use crate::queue::{Entry, Happened, Holder, Mode, NewEntry, Node, State};
use crate::reason::Reason;
use crate::time::Timestamp;

/// How long a proxy may take from entering a call to its answer; after that it counts as gone.
pub const PROXY_LIFE: Duration = Duration::from_secs(10);
/// How long a backend may take from the claim to its answer: as long as a caller may ring (RFC 3261 §16.6 timer C).
pub const CLAIM_LIFE: Duration = Duration::from_secs(180);

/// What a claimant names to write: which claim it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Expect {
    /// The attempt.
    pub attempt: u32,
    /// The claim.
    pub claim_no: u32,
    /// The start of the backend that holds it.
    pub incarnation: Incarnation,
}

/// Who ends a call before its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writer {
    /// The proxy, until the claim.
    Proxy {
        /// Which one.
        node: Node,
        /// At which attempt.
        attempt: u32,
    },
    /// The backend that holds the claim.
    Owner(Expect),
}

/// What happens to an entry after it was entered.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The proxy offers the call to backends; stored before the 302 or the relayed request leaves.
    Offer {
        /// The proxy.
        node: Node,
        /// At which attempt.
        attempt: u32,
        /// To whom, best first.
        backends: Arc<[BackendId]>,
        /// Until when the tokens are valid.
        until: Timestamp,
    },
    /// The proxy goes on to the next backend: older tokens are void.
    Raise {
        /// The proxy.
        node: Node,
        /// The attempt that is given up.
        attempt: u32,
    },
    /// A backend got the call with a token.
    Claim {
        /// The token, its signature checked.
        token: Token,
        /// Who brought it.
        caller: CallerKey,
        /// The backend that claims.
        holder: Holder,
        /// Its region.
        region: RegionId,
    },
    /// The claimant is about to answer.
    Commit(Expect),
    /// The claimant refuses the call with a final status.
    Release {
        /// Its claim.
        expect: Expect,
        /// The SIP status that it sends, 300 to 699.
        status: u16,
        /// Why.
        reason: Reason,
    },
    /// The call ends before an answer: refused, failed, or (with [`Reason::Cancelled`]) given up.
    End {
        /// Who says so.
        writer: Writer,
        /// Why.
        reason: Reason,
    },
    /// Time is up.
    Expire,
    /// An answered call ended.
    Finish {
        /// The owner's claim.
        expect: Expect,
        /// How.
        outcome: Outcome,
    },
}

/// What a step gives: the entry to store, or `None` where the event was applied before.
type Step = Result<Option<Entry>, Reason>;

/// Applies an event.
///
/// # Errors
/// The reason that the sender of the event hears.
pub fn step(entry: &Entry, event: &Event, now: Timestamp) -> Step {
    match event {
        Event::Offer { node, attempt, backends, until } => {
            offer(entry, (node, *attempt), backends, *until, now)
        }
        Event::Raise { node, attempt } => raise(entry, node, *attempt, now),
        Event::Claim { token, caller, holder, region } => claim(entry, token, caller, holder, region, now),
        Event::Commit(expect) => commit(entry, *expect, now),
        Event::Release { expect, status, reason } => release(entry, *expect, *status, *reason, now),
        Event::End { writer, reason } => end(entry, writer, *reason, now),
        Event::Expire => expire(entry, now),
        Event::Finish { expect, outcome } => finish(entry, *expect, outcome, now),
    }
}

/// What a refused event of the proxy hears.
fn proxy_may(entry: &Entry, node: &Node, attempt: u32) -> Result<(), Reason> {
    match entry.state {
        State::ProcessedBackend => Err(Reason::AlreadyAnswered),
        state if state.is_final() => Err(Reason::Finished),
        _ if entry.node != *node || entry.attempt != attempt => Err(Reason::Superseded),
        _ => Ok(()),
    }
}

/// What a refused event of the claimant hears.
fn owner_may(entry: &Entry, expect: Expect) -> Result<(), Reason> {
    match entry.state {
        state if state.is_final() => Err(Reason::Finished),
        State::ProcessingBackend | State::ProcessedBackend if entry.expect() == Some(expect) => Ok(()),
        _ => Err(Reason::Superseded),
    }
}

/// The entry after a change, with its line in the log.
fn changed(entry: &Entry, now: Timestamp, what: Happened, change: impl FnOnce(&mut Entry)) -> Entry {
    let mut next = entry.clone();
    change(&mut next);
    let reason = next.reason;
    next.note(now, what, reason);
    next
}

fn offer(
    entry: &Entry,
    by: (&Node, u32),
    backends: &Arc<[BackendId]>,
    until: Timestamp,
    now: Timestamp,
) -> Step {
    proxy_may(entry, by.0, by.1)?;
    let offered = entry.state != State::ProcessingProxy && entry.state != State::Queued;
    if offered && entry.offered == *backends && entry.offered_until == until {
        return Ok(None);
    }
    Ok(Some(changed(entry, now, Happened::Offered, |next| {
        next.offered = backends.clone();
        next.offered_until = until;
        next.tried.clear();
        if next.state != State::ProcessingBackend {
            next.state = State::ProcessedProxy;
            next.deadline = Some(until);
        }
    })))
}

fn raise(entry: &Entry, node: &Node, attempt: u32, now: Timestamp) -> Step {
    let raised = entry.attempt == attempt + 1 && entry.state == State::ProcessingProxy && entry.node == *node;
    if raised {
        return Ok(None);
    }
    proxy_may(entry, node, attempt)?;
    Ok(Some(changed(entry, now, Happened::Raised, |next| {
        next.state = State::ProcessingProxy;
        next.attempt += 1;
        next.holder = None;
        next.deadline = Some(now + CLAIM_LIFE);
    })))
}

fn claim(
    entry: &Entry,
    token: &Token,
    caller: &CallerKey,
    holder: &Holder,
    region: &RegionId,
    now: Timestamp,
) -> Step {
    if token.server != holder.backend || token.region != *region {
        return Err(Reason::WrongServer);
    }
    if !entry.is_live() {
        return Err(if entry.state == State::Expired { Reason::TokenExpired } else { Reason::Finished });
    }
    if entry.attempt != token.attempt {
        return Err(Reason::Superseded);
    }
    if entry.bound.as_ref().is_some_and(|bound| bound != caller) {
        return Err(Reason::ClaimedByAnother);
    }
    let held = entry.holder.as_ref() == Some(holder);
    match (entry.state, token.purpose) {
        (State::ProcessedBackend, purpose)
            if held && (purpose == Purpose::Resume || caller.is_provider()) =>
        {
            Ok(None)
        }
        (State::ProcessedBackend, _) => Err(Reason::AlreadyAnswered),
        (State::ProcessedProxy | State::ProcessingBackend, Purpose::Start) if held => Ok(None),
        (State::ProcessedProxy | State::ProcessingBackend, Purpose::Start) => {
            take(entry, token, caller, holder, now)
        }
        _ => Err(Reason::Superseded),
    }
}

/// A claim by a backend that does not hold the call yet.
fn take(entry: &Entry, token: &Token, caller: &CallerKey, holder: &Holder, now: Timestamp) -> Step {
    if now > token.expires {
        return Err(Reason::TokenExpired);
    }
    let what = if entry.holder.is_some() { Happened::TakenOver } else { Happened::Claimed };
    Ok(Some(changed(entry, now, what, |next| {
        next.state = State::ProcessingBackend;
        next.claim_no += 1;
        next.bound = Some(caller.clone());
        next.holder = Some(holder.clone());
        next.deadline = Some(now + CLAIM_LIFE);
    })))
}

fn commit(entry: &Entry, expect: Expect, now: Timestamp) -> Step {
    owner_may(entry, expect)?;
    if entry.state == State::ProcessedBackend {
        return if entry.outcome.is_none() { Ok(None) } else { Err(Reason::Finished) };
    }
    Ok(Some(changed(entry, now, Happened::Committed, |next| {
        next.state = State::ProcessedBackend;
        next.answered = Some(now);
        next.deadline = None;
    })))
}

/// Whether a final status leaves the claim where it is: the caller is expected to ask again.
pub(crate) fn keeps_claim(status: u16) -> bool {
    matches!(status, 401 | 407 | 415 | 420 | 422)
}

fn release(entry: &Entry, expect: Expect, status: u16, reason: Reason, now: Timestamp) -> Step {
    let by_this_claim = entry.attempt == expect.attempt && entry.claim_no == expect.claim_no;
    let released = entry.state == State::ProcessedProxy && entry.holder.is_none();
    let failed = entry.state == State::Failed && entry.reason == Some(reason);
    if by_this_claim && (released || failed) {
        return Ok(None);
    }
    owner_may(entry, expect)?;
    if entry.state != State::ProcessingBackend {
        return Err(Reason::Superseded);
    }
    if keeps_claim(status) {
        return Ok(None);
    }
    if status >= 600 || !has_another_way(entry, now) {
        return Ok(Some(ended(entry, State::Failed, reason, Happened::Released, now)));
    }
    let mut next = entry.clone();
    next.note(now, Happened::Released, Some(reason));
    next.tried.extend(next.holder.take().map(|holder| holder.backend));
    next.state = State::ProcessedProxy;
    next.deadline = Some(if next.terms.mode == Mode::Relay { now + CLAIM_LIFE } else { next.offered_until });
    Ok(Some(next))
}

/// Whether the call can go on elsewhere: the proxy relays it, or a Contact is left whose token is valid.
fn has_another_way(entry: &Entry, now: Timestamp) -> bool {
    let refuses = entry.holder.as_ref().map(|holder| &holder.backend);
    let mut left =
        entry.offered.iter().filter(|backend| Some(*backend) != refuses && !entry.tried.contains(backend));
    entry.terms.mode == Mode::Relay || (now < entry.offered_until && left.next().is_some())
}

fn ended(entry: &Entry, state: State, reason: Reason, what: Happened, now: Timestamp) -> Entry {
    changed(entry, now, what, |next| {
        next.state = state;
        next.reason = Some(reason);
        next.deadline = None;
        next.ended = Some(now);
    })
}

fn end(entry: &Entry, writer: &Writer, reason: Reason, now: Timestamp) -> Step {
    let state = if reason == Reason::Cancelled { State::Canceled } else { State::Failed };
    if entry.state == state && entry.reason == Some(reason) {
        return Ok(None);
    }
    match writer {
        Writer::Proxy { node, attempt } => {
            proxy_may(entry, node, *attempt)?;
            if entry.state == State::ProcessingBackend && entry.terms.mode == Mode::Redirect {
                return Err(Reason::Superseded); // the claimant's now
            }
        }
        Writer::Owner(expect) => {
            owner_may(entry, *expect)?;
            if entry.state == State::ProcessedBackend {
                return Err(Reason::AlreadyAnswered);
            }
        }
    }
    Ok(Some(ended(entry, state, reason, Happened::Ended, now)))
}

fn expire(entry: &Entry, now: Timestamp) -> Step {
    match entry.state {
        State::Expired => Ok(None),
        State::ProcessedBackend => Err(Reason::AlreadyAnswered),
        state if state.is_final() => Err(Reason::Finished),
        _ if entry.deadline.is_none_or(|deadline| deadline > now) => Err(Reason::Superseded),
        _ => Ok(Some(ended(entry, State::Expired, Reason::NobodyCame, Happened::Expired, now))),
    }
}

fn finish(entry: &Entry, expect: Expect, outcome: &Outcome, now: Timestamp) -> Step {
    owner_may(entry, expect)?;
    if entry.state != State::ProcessedBackend {
        return Err(Reason::Superseded);
    }
    match (&entry.outcome, &entry.correction) {
        (None, _) => Ok(Some(changed(entry, now, Happened::Finished, |next| {
            next.outcome = Some(*outcome);
            next.ended = Some(now);
        }))),
        (Some(known), _) if known == outcome => Ok(None),
        (Some(Outcome::Lost), None) => Ok(Some(changed(entry, now, Happened::Corrected, |next| {
            next.correction = Some(*outcome);
        }))),
        (Some(Outcome::Lost), Some(known)) if known == outcome => Ok(None),
        _ => Err(Reason::Finished),
    }
}

/// What a request is to a live entry with the same key.
#[derive(Debug, Clone, PartialEq)]
pub enum Repeat {
    /// The very insert that made it, sent again because its reply was lost.
    Same,
    /// It goes on with the entry, which changes to this.
    Adopt(Box<Entry>),
    /// A retransmission: send nothing.
    Absorb,
    /// Refuse it.
    Refuse(Reason),
}

/// Decides what a repeat of a live call is (RFC 3261 §8.2.2.2; a higher CSeq follows a challenge, §8.1.3.5).
pub fn repeat(entry: &Entry, new: &NewEntry, now: Timestamp) -> Repeat {
    if entry.id == new.id {
        return Repeat::Same;
    }
    if entry.state == State::ProcessedBackend {
        return Repeat::Refuse(Reason::AlreadyAnswered);
    }
    if new.cseq > entry.cseq {
        return adopt(entry, new, now);
    }
    if new.cseq < entry.cseq {
        return Repeat::Refuse(Reason::Merged);
    }
    let same_branch = new.branch == entry.branch;
    let same_node = entry.node == new.node;
    match entry.state {
        _ if is_unanswered(entry) && owner_is_deciding(entry, new, now) => match same_branch {
            true => Repeat::Absorb,
            false => Repeat::Refuse(Reason::Merged),
        },
        State::ProcessedProxy | State::ProcessingBackend if same_node && !same_branch => {
            Repeat::Refuse(Reason::Merged)
        }
        _ => adopt(entry, new, now),
    }
}

/// Whether the proxy has sent no final answer: it decides, or it relays.
fn is_unanswered(entry: &Entry) -> bool {
    entry.state == State::ProcessingProxy || entry.terms.mode == Mode::Relay
}

/// Whether the proxy that entered the call may still be about to answer it: it has not started anew, and has had its
/// time only in part.
fn owner_is_deciding(entry: &Entry, new: &NewEntry, now: Timestamp) -> bool {
    let restarted = entry.node.id == new.node.id && entry.node.incarnation != new.node.incarnation;
    !restarted && now.since(entry.changed) < PROXY_LIFE
}

fn adopt(entry: &Entry, new: &NewEntry, now: Timestamp) -> Repeat {
    Repeat::Adopt(Box::new(changed(entry, now, Happened::Adopted, |next| {
        next.node = new.node.clone();
        next.cseq = new.cseq;
        next.branch = new.branch.clone();
        if next.state == State::ProcessingProxy {
            next.deadline = Some(new.deadline);
        }
    })))
}

#[cfg(test)]
mod tests;
