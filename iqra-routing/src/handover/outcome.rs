//! The end of a call's record: how it ended, written once, and the call record that comes of it.
//!
//! In: the owner's word, or the silence of an owner whose status has expired. Out: an [`Outcome`] on the entry and a
//! [`CallRecord`] with a stable id, so that whoever receives one twice can tell.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backends::BackendRegistry;
use crate::error::StoreError;
use crate::handover::table::Event;
use crate::identity::{AccountId, BackendId, BusinessId, EntryId, PhoneId, RouteId};
use crate::limits::PlanLimits;
use crate::queue::{CallQueue, Entry, Filter, MAX_PAGE, Page, State};
use crate::reason::Reason;
use crate::time::Timestamp;

/// Who ended an answered call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The caller hung up.
    Caller,
    /// The conversation hung up.
    Conversation,
    /// Its time was up.
    DurationLimit,
    /// The backend drained and its limit passed.
    Drain,
    /// The signalling or the media path broke.
    Network,
}

/// How an answered call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was held and ended.
    Completed(EndedBy),
    /// It was answered and then failed.
    Failed(Reason),
    /// Its backend is gone and nobody knows.
    Lost,
}

/// One finished call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The entry's id; the same record never has another one.
    pub id: EntryId,
    /// The business called.
    pub business: BusinessId,
    /// Its number.
    pub phone: PhoneId,
    /// Who pays.
    pub account: AccountId,
    /// What answered.
    pub route: RouteId,
    /// The backend that had it last.
    pub backend: Option<BackendId>,
    /// The state that it ended in.
    pub state: State,
    /// When it came in.
    pub created: Timestamp,
    /// When it was answered.
    pub answered: Option<Timestamp>,
    /// When it ended.
    pub ended: Timestamp,
    /// From answer to end; zero when it was not answered.
    pub talked: Duration,
    /// Why it was not answered, where it was not.
    pub reason: Option<Reason>,
    /// How it ended, where it was answered; a correction counts.
    pub outcome: Option<Outcome>,
}

impl CallRecord {
    /// The record of an entry, once it is over.
    pub fn of(entry: &Entry) -> Option<Self> {
        let ended = entry.ended?;
        Some(Self {
            id: entry.id,
            business: entry.key.business.clone(),
            phone: entry.key.phone.clone(),
            account: entry.terms.account.clone(),
            route: entry.terms.route.clone(),
            backend: entry.holder.as_ref().map(|holder| holder.backend.clone()),
            state: entry.state,
            created: entry.created,
            answered: entry.answered,
            ended,
            talked: entry.answered.map(|answered| ended.since(answered)).unwrap_or_default(),
            reason: entry.reason,
            outcome: entry.correction.or(entry.outcome),
        })
    }
}

/// How many entries one round of [`sweep`] or [`write_lost`] handles.
const ROUND: usize = 1000;

/// Expires calls that nobody claimed or answered in time, frees their leases, and returns how many. Run it once a
/// second; what a round leaves over, the next one takes.
///
/// # Errors
/// [`StoreError`] of the queue or the limits; entries already expired stay so, and their leases expire by themselves.
pub async fn sweep(
    queue: &dyn CallQueue,
    limits: &dyn PlanLimits,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let expired = queue.sweep(now, ROUND).await?;
    for entry in &expired {
        limits.free(entry.id, now).await?;
    }
    limits.sweep(now).await?;
    Ok(expired.len())
}

/// Writes `Lost` on answered calls whose backend's status has expired or that has started anew, frees their leases,
/// and returns how many. `reachable_since` is since when the registry has answered without a gap: until it has done so
/// for one whole `status_life`, silence says nothing and nothing is written.
///
/// # Errors
/// [`StoreError`] of the store that did not answer.
pub async fn write_lost(
    (queue, limits, backends): (&dyn CallQueue, &dyn PlanLimits, &dyn BackendRegistry),
    reachable_since: Timestamp,
    status_life: Duration,
    now: Timestamp,
) -> Result<usize, StoreError> {
    if now.since(reachable_since) < status_life {
        return Ok(0);
    }
    let filter = Filter { state: Some(State::ProcessedBackend), live: Some(true), ..Filter::default() };
    let mut page = Page { before: None, most: MAX_PAGE };
    let mut written = 0;
    loop {
        let entries = queue.list(&filter, page).await?;
        let Some(last) = entries.last() else { return Ok(written) };
        page.before = Some(last.id);
        // Asked after the calls: one that a backend took which has just started is that backend's.
        let alive = backends.list(None, now).await?;
        for entry in &entries {
            let owner = entry.holder.as_ref();
            let lives = alive.iter().any(|status| {
                owner.is_some_and(|owner| {
                    owner.backend == status.id && owner.incarnation == status.incarnation
                })
            });
            if !lives && lose(queue, limits, entry, now).await? {
                written += 1;
            }
        }
    }
}

/// Writes `Lost` on one entry; whether it was still open.
async fn lose(
    queue: &dyn CallQueue,
    limits: &dyn PlanLimits,
    entry: &Entry,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(expect) = entry.expect() else { return Ok(false) };
    let event = Event::Finish { expect, outcome: Outcome::Lost };
    if queue.apply(entry.id, &event, now).await.is_err() {
        return Ok(false); // ended by its owner meanwhile
    }
    limits.free(entry.id, now).await?;
    Ok(true)
}
