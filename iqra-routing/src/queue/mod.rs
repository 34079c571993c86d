//! The call queue: one entry per call, from the proxy's admission to the outcome, and the store that keeps them.
//!
//! In: new calls and [`Event`]s. Out: entries as they stand. What an event does to an entry is decided by the pure
//! table in [`handover::table`](crate::handover::table); a store only makes each step atomic, so all stores agree.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::handover::outcome::Outcome;
use crate::handover::table::{Event, Expect};
use crate::identity::{
    AccountId, BackendId, BusinessId, CallerKey, EntryId, Incarnation, NodeId, PhoneId, RegionId, RouteId,
    TrunkId,
};
use crate::reason::Reason;
use crate::source::TrustedSource;
use crate::time::Timestamp;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(test, feature = "conformance"))]
pub mod sample;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use memory::{MemoryQueue, QueueLimits};
#[cfg(feature = "postgres")]
pub use postgres::PostgresQueue;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteQueue;

/// The most log lines that an entry keeps; later ones are counted only.
pub const MAX_LOG: usize = 32;
/// The most entries that one page of a listing holds.
pub const MAX_PAGE: usize = 1000;

/// Where a call stands between the tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for its time (outbound calls).
    Queued,
    /// A proxy is deciding.
    ProcessingProxy,
    /// A proxy has offered it to backends, and wrote so before it answered.
    ProcessedProxy,
    /// A backend has claimed it and not yet answered.
    ProcessingBackend,
    /// A backend has answered it: handed over, not over. The outcome is set when it ends.
    ProcessedBackend,
    /// Refused or failed before an answer.
    Failed,
    /// The caller gave up before an answer.
    Canceled,
    /// Nobody came, or nobody answered, in time.
    Expired,
}

impl State {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::ProcessingProxy,
        Self::ProcessedProxy,
        Self::ProcessingBackend,
        Self::ProcessedBackend,
        Self::Failed,
        Self::Canceled,
        Self::Expired,
    ];

    /// Whether nothing can follow but the end of the call's record.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Canceled | Self::Expired)
    }

    /// Whether a backend has not answered yet and still may.
    pub const fn is_uncommitted(self) -> bool {
        !self.is_final() && !matches!(self, Self::ProcessedBackend)
    }
}

/// What makes two requests the same call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallKey {
    /// The business called.
    pub business: BusinessId,
    /// Its number.
    pub phone: PhoneId,
    /// Who calls.
    pub caller: CallerKey,
}

/// A node and which start of it: the writer of an entry on the proxy's side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The node.
    pub id: NodeId,
    /// Its start.
    pub incarnation: Incarnation,
}

/// How a call reaches its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The caller is sent there with 302; it carries the token.
    Redirect,
    /// The proxy stays in the path and may try one backend after another.
    Relay,
}

/// What a call was admitted under; the backend answers by it and needs no look-up of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// Who pays.
    pub account: AccountId,
    /// How many calls that account may have at once.
    pub concurrent_calls: u32,
    /// The region of the number.
    pub region: RegionId,
    /// What answers.
    pub route: RouteId,
    /// Codecs in order of preference; empty leaves the choice to the backend.
    pub codecs: Arc<[String]>,
    /// How long it rings before it is answered.
    pub answer_delay: Duration,
    /// How long it may last.
    pub max_duration: Option<Duration>,
    /// How it reaches its backend.
    pub mode: Mode,
    /// The trunk that a claim of this redirected call shows to follow redirects, where that is not known yet and asked.
    #[serde(default)]
    pub proves: Option<TrunkId>,
}

/// A call that a proxy wants to enter.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// The id that the entry has if it is new; repeating the insert with it is harmless.
    pub id: EntryId,
    /// What makes it the same call.
    pub key: CallKey,
    /// Where it came from: only a checked source enters.
    pub source: TrustedSource,
    /// What it was admitted under.
    pub terms: Arc<Terms>,
    /// Who enters it.
    pub node: Node,
    /// The number in CSeq.
    pub cseq: u32,
    /// The branch of the topmost Via.
    pub branch: Arc<str>,
    /// When it expires if no offer follows.
    pub deadline: Timestamp,
}

/// Who holds a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The backend.
    pub backend: BackendId,
    /// Its start.
    pub incarnation: Incarnation,
}

/// One call, as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id.
    pub id: EntryId,
    /// What makes it the same call.
    pub key: CallKey,
    /// The address that it came from.
    pub source: IpAddr,
    /// What it was admitted under.
    pub terms: Arc<Terms>,
    /// The proxy that writes it until the claim.
    pub node: Node,
    /// The highest CSeq number seen.
    pub cseq: u32,
    /// The branch that came with it.
    pub branch: Arc<str>,
    /// Where it stands.
    pub state: State,
    /// Which round of offers is valid; raising it voids the tokens of earlier ones.
    pub attempt: u32,
    /// How often it was claimed.
    pub claim_no: u32,
    /// The caller that the first claim bound it to.
    pub bound: Option<CallerKey>,
    /// Who has claimed it.
    pub holder: Option<Holder>,
    /// The backends that the offer names.
    pub offered: Arc<[BackendId]>,
    /// Until when the offer's tokens are valid.
    pub offered_until: Timestamp,
    /// Those of them that gave it back.
    pub tried: Vec<BackendId>,
    /// When it expires uncommitted; `None` once it cannot.
    pub deadline: Option<Timestamp>,
    /// When it was entered.
    pub created: Timestamp,
    /// When it last changed.
    pub changed: Timestamp,
    /// When it was answered.
    pub answered: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it failed, if it did.
    pub reason: Option<Reason>,
    /// How an answered call ended.
    pub outcome: Option<Outcome>,
    /// The truth that the owner reported after others had written `Lost`.
    pub correction: Option<Outcome>,
    /// What happened to it, at most [`MAX_LOG`] lines.
    pub log: Vec<LogLine>,
    /// How many lines did not fit.
    pub log_dropped: u32,
}

/// One line of an entry's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Happened,
    /// The backend that it concerns.
    pub backend: Option<BackendId>,
    /// Why, where it is a refusal.
    pub reason: Option<Reason>,
}

/// What a log line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the meaning; the table in handover explains each step")]
pub enum Happened {
    Entered,
    Adopted,
    Offered,
    Raised,
    Claimed,
    TakenOver,
    Released,
    Committed,
    Ended,
    Expired,
    Finished,
    Corrected,
}

impl Entry {
    /// The entry that a new call starts as.
    pub fn begin(new: &NewEntry, now: Timestamp) -> Self {
        let mut entry = Self {
            id: new.id,
            key: new.key.clone(),
            source: new.source.address(),
            terms: new.terms.clone(),
            node: new.node.clone(),
            cseq: new.cseq,
            branch: new.branch.clone(),
            state: State::ProcessingProxy,
            attempt: 1,
            claim_no: 0,
            bound: None,
            holder: None,
            offered: [].into(),
            offered_until: now,
            tried: Vec::new(),
            deadline: Some(new.deadline),
            created: now,
            changed: now,
            answered: None,
            ended: None,
            reason: None,
            outcome: None,
            correction: None,
            log: Vec::with_capacity(4),
            log_dropped: 0,
        };
        entry.note(now, Happened::Entered, None);
        entry
    }

    /// Whether the call is still up or may still come up: its key is taken and it counts as live.
    pub fn is_live(&self) -> bool {
        !self.state.is_final() && self.outcome.is_none()
    }

    /// What the present claimant must name to write; `None` without a claim.
    pub fn expect(&self) -> Option<Expect> {
        let incarnation = self.holder.as_ref()?.incarnation;
        Some(Expect { attempt: self.attempt, claim_no: self.claim_no, incarnation })
    }

    /// Appends to the log, within its bound.
    pub(crate) fn note(&mut self, at: Timestamp, what: Happened, reason: Option<Reason>) {
        self.changed = at;
        if self.log.len() < MAX_LOG {
            let backend = self.holder.as_ref().map(|holder| holder.backend.clone());
            self.log.push(LogLine { at, what, backend, reason });
        } else {
            self.log_dropped = self.log_dropped.saturating_add(1);
        }
    }
}

/// What became of a call that was to be entered.
#[derive(Debug, Clone, PartialEq)]
pub enum Entered {
    /// It is a new call.
    New(Arc<Entry>),
    /// It is a repeat that goes on with the entry and its lease; offer again at the same attempt.
    Adopted(Arc<Entry>),
    /// It is a retransmission of what this or another proxy is answering: send nothing.
    Absorbed,
    /// It is a repeat that must be refused with this reason.
    Refused(Reason),
}

/// What a queue answers when a step cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The queue has no such entry.
    #[error("the queue has no entry {0}")]
    Unknown(EntryId),
    /// The table refuses the event in the entry's state.
    #[error("refused: {0}")]
    Refused(Reason),
    /// The queue holds its maximum of live entries.
    #[error(
        "the queue holds its maximum of {0} live entries; raise queue.live or find out why calls do not end"
    )]
    Full(usize),
    /// The store is away.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl QueueError {
    /// What the caller hears.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unknown(_) => Reason::TokenUnknown,
            Self::Refused(reason) => *reason,
            Self::Full(_) => Reason::QueueFull,
            Self::Store(_) => Reason::StoreAway,
        }
    }
}

/// Which entries a listing shows. Every field that is set must match.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this business.
    pub business: Option<BusinessId>,
    /// To this number.
    pub phone: Option<PhoneId>,
    /// In this state.
    pub state: Option<State>,
    /// Live (`true`) or over (`false`).
    pub live: Option<bool>,
    /// Held by this backend.
    pub backend: Option<BackendId>,
    /// Entered at or after this.
    pub since: Option<Timestamp>,
    /// Entered before this.
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Whether it shows the entry.
    pub fn shows(&self, entry: &Entry) -> bool {
        let held =
            |backend: &BackendId| entry.holder.as_ref().is_some_and(|holder| holder.backend == *backend);
        self.business.as_ref().is_none_or(|business| entry.key.business == *business)
            && self.phone.as_ref().is_none_or(|phone| entry.key.phone == *phone)
            && self.state.is_none_or(|state| entry.state == state)
            && self.live.is_none_or(|live| entry.is_live() == live)
            && self.backend.as_ref().is_none_or(held)
            && self.since.is_none_or(|since| entry.created >= since)
            && self.until.is_none_or(|until| entry.created < until)
    }
}

/// Which part of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Entries older than this one; `None` starts at the newest.
    pub before: Option<EntryId>,
    /// At most so many, 1 to [`MAX_PAGE`].
    pub most: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self { before: None, most: 100 }
    }
}

/// Keeps the entries of calls.
///
/// # Contract
/// - [`enter`](Self::enter) looks for a live entry with the same key. None: the new one is stored as
///   [`Entry::begin`] makes it. One: [`table::repeat`](crate::handover::table::repeat) decides. Of any number of
///   concurrent calls with one key, exactly one is `New`. Repeating it with the same id gives the same entry.
/// - [`apply`](Self::apply) runs [`table::step`](crate::handover::table::step) on the entry and stores what comes
///   out, as one atomic step per entry; two racing events are taken one after the other. Repeating an event that was
///   applied succeeds and changes nothing.
/// - A live entry is never dropped. A store that is full of live entries refuses new ones ([`QueueError::Full`]).
///   Finished ones are kept up to the store's bound, and the first to finish are dropped first.
/// - [`list`](Self::list) is newest first by id; [`sweep`](Self::sweep) expires uncommitted entries whose deadline has
///   passed and returns them, so that whoever calls it frees their leases.
/// - [`note_redirect_followed`](Self::note_redirect_followed) is for good and may be repeated; it says nothing of other
///   trunks. There are no more trunks than the numbers' store has.
/// - `now` is the caller's clock. Nodes that share a store keep their clocks within
///   [`SKEW`](crate::handover::token::SKEW). A store with a clock of its own may go by that one: then moments that an
///   entry or event names count as how far they are from `now`.
#[async_trait]
pub trait CallQueue: Send + Sync {
    /// Enters a call, or finds the one that it repeats.
    ///
    /// # Errors
    /// [`QueueError::Full`] or [`QueueError::Store`].
    async fn enter(&self, new: NewEntry, now: Timestamp) -> Result<Entered, QueueError>;

    /// Applies an event to an entry, and returns the entry after it.
    ///
    /// # Errors
    /// [`QueueError::Unknown`], [`QueueError::Refused`] with what the table says, or [`QueueError::Store`].
    async fn apply(&self, id: EntryId, event: &Event, now: Timestamp) -> Result<Arc<Entry>, QueueError>;

    /// One entry.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn entry(&self, id: EntryId) -> Result<Option<Arc<Entry>>, StoreError>;

    /// A page of entries.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn list(&self, filter: &Filter, page: Page) -> Result<Vec<Arc<Entry>>, StoreError>;

    /// How many entries the filter shows.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn count(&self, filter: &Filter) -> Result<usize, StoreError>;

    /// Expires at most `most` uncommitted entries whose deadline is at or before `now`, and returns them.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn sweep(&self, now: Timestamp, most: usize) -> Result<Vec<Arc<Entry>>, StoreError>;

    /// Remembers that a caller of this trunk went on from a 302 to a backend.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away; the next such call says it again.
    async fn note_redirect_followed(&self, trunk: &TrunkId) -> Result<(), StoreError>;

    /// Whether that was ever noted of this trunk.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn redirects_followed(&self, trunk: &TrunkId) -> Result<bool, StoreError>;
}
