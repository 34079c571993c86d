//! Copies of a slow store's answers: most calls are decided without asking it.
//!
//! In: the two questions of every call, and [`Change`]s that somebody hears of. Out: the store's answers, at most
//! [`CacheLimits::age`] old; what a change names is forgotten at once. Of calls that ask the same at a time one asks the
//! store. Listing and writing go through to it.
//!
//! **While the store is away**, what was once found is given for [`CacheLimits::stale`] more, so that calls to known
//! numbers go on; a no is not, since the caller would be told for good what may be wrong by now: such calls hear 503. The
//! store is asked again once a second by one call, and the others do not wait for it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use quick_cache::sync::Cache;
use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;

use super::{CacheLimits, Found, Number, NumberStore, UpsertError};
use crate::error::StoreError;
use crate::identity::{AccountId, BusinessId, Dialled, Identity, PhoneId, TrunkId};
use crate::source::Standing;

/// How long a store that is away is left alone where an old answer does.
const REST: Duration = Duration::from_secs(1);

/// What somebody changed in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Anything: nobody knows. What is kept counts as too old, and is asked for again.
    All,
    /// An account.
    Account(AccountId),
    /// A business.
    Business(BusinessId),
    /// A trunk.
    Trunk(TrunkId),
    /// A number.
    Number {
        /// Whose it is.
        business: BusinessId,
        /// Its id.
        phone: PhoneId,
        /// What is, or was, dialled to reach it, where that is known.
        dialled: Option<Dialled>,
    },
}

impl Change {
    /// Reads `all`, `account ID`, `business ID`, `trunk ID` or `number BUSINESS PHONE DIALLED-IN-HEX`. Whatever it cannot
    /// read could mean anything.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let read = match words[..] {
            ["account", id] => id.parse().ok().map(Self::Account),
            ["business", id] => id.parse().ok().map(Self::Business),
            ["trunk", id] => id.parse().ok().map(Self::Trunk),
            ["number", business, phone, dialled] => number(business, phone, dialled),
            _ => None,
        };
        read.unwrap_or(Self::All)
    }

    /// Whether an answer could be another one by now.
    fn concerns(&self, question: &Question, answer: &Answer) -> bool {
        let Answer::Found(found) = answer else {
            return !matches!(self, Self::Account(_) | Self::Business(_));
        };
        let number = found.number.as_deref();
        match (self, question) {
            (Self::All, _) | (Self::Trunk(_), Question::Dialled(..)) => true,
            (Self::Account(id), _) => found.business.as_ref().is_some_and(|business| business.account == *id),
            (Self::Business(id), Question::Named(business, _)) => business == id,
            (Self::Business(id), _) => number.is_some_and(|number| number.business == *id),
            (Self::Trunk(id), _) => number.is_some_and(|number| number.trunk.as_ref() == Some(id)),
            (Self::Number { business, phone, .. }, Question::Named(b, p)) => (b, p) == (business, phone),
            (Self::Number { business, phone, dialled }, question) => {
                let is_it = number.is_some_and(|found| (&found.business, &found.phone) == (business, phone));
                let asked =
                    matches!(question, Question::Dialled(asked, _) if dialled.as_ref() == Some(asked));
                is_it || asked
            }
        }
    }
}

fn number(business: &str, phone: &str, dialled: &str) -> Option<Change> {
    let octets = data_encoding::HEXLOWER.decode(dialled.as_bytes()).ok()?;
    let dialled = Some(Dialled::parse(std::str::from_utf8(&octets).ok()?).ok()?);
    Some(Change::Number { business: business.parse().ok()?, phone: phone.parse().ok()?, dialled })
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Question {
    Standing(IpAddr),
    Named(BusinessId, PhoneId),
    /// A dialled number depends on who asks.
    Dialled(Dialled, IpAddr),
}

#[derive(Clone)]
enum Answer {
    Standing(Standing),
    Found(Found),
}

impl Answer {
    fn says_no(&self) -> bool {
        match self {
            Self::Standing(standing) => !standing.is_listed(),
            Self::Found(found) => found.number.is_none(),
        }
    }
}

/// An answer that is kept.
struct Kept {
    answer: Answer,
    asked: Instant,
    /// How many changes were known when the store was asked.
    changes: u64,
}

/// One question on its way to the store, for all who ask it.
type Flight = Arc<OnceCell<Result<Answer, StoreError>>>;

/// A [`NumberStore`] that keeps what the one behind it answered. Whoever shares the store with others should tell it what
/// they change ([`changed`](Self::changed)); its own writes it knows.
pub struct CachedNumbers<S> {
    store: S,
    limits: CacheLimits,
    kept: Cache<Question, Arc<Kept>>,
    flights: Mutex<HashMap<Question, Flight>>,
    changes: AtomicU64,
    /// Which change was the last that could mean anything.
    all: AtomicU64,
    /// When the store was last found away, or asked whether it still is.
    away: Mutex<Option<Instant>>,
    alive: watch::Sender<()>,
}

/// Takes a question off the list when nobody waits for its answer any more.
struct Waiting<'c, S> {
    cache: &'c CachedNumbers<S>,
    question: Question,
    flight: Flight,
}

impl<S> Drop for Waiting<'_, S> {
    fn drop(&mut self) {
        let mut flights = locked(&self.cache.flights);
        let mine = flights.get(&self.question).is_some_and(|listed| Arc::ptr_eq(listed, &self.flight));
        let alone = Arc::strong_count(&self.flight) <= 2; // the list's and this one
        if mine && (alone || self.flight.initialized()) {
            flights.remove(&self.question);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S> CachedNumbers<S> {
    /// An empty cache in front of a store.
    pub fn new(store: S, limits: CacheLimits) -> Self {
        Self {
            store,
            limits,
            kept: Cache::new(limits.entries),
            flights: Mutex::default(),
            changes: AtomicU64::new(0),
            all: AtomicU64::new(0),
            away: Mutex::default(),
            alive: watch::Sender::new(()),
        }
    }

    /// The store behind it.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Forgets what a change may have made untrue.
    pub fn changed(&self, change: &Change) {
        let mut flights = locked(&self.flights);
        let now = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
        flights.clear(); // whoever asks from now on asks anew
        match change {
            Change::All => self.all.store(now, Ordering::Release),
            change => self.kept.retain(|question, kept| !change.concerns(question, &kept.answer)),
        }
    }

    /// Resolves when the cache is dropped.
    #[cfg(feature = "postgres")]
    pub(crate) fn dropped(&self) -> impl Future<Output = ()> + Send + use<S> {
        let mut alive = self.alive.subscribe();
        async move { while alive.changed().await.is_ok() {} }
    }

    fn is_fresh(&self, kept: &Kept) -> bool {
        let age = if kept.answer.says_no() { self.limits.missing } else { self.limits.age };
        kept.changes >= self.all.load(Ordering::Acquire) && kept.asked.elapsed() < age
    }

    fn serves_stale(&self, kept: &Kept) -> bool {
        !kept.answer.says_no() && kept.asked.elapsed() < self.limits.stale
    }

    async fn ask<Fut>(&self, question: Question, fetch: impl FnOnce() -> Fut) -> Result<Answer, StoreError>
    where
        Fut: Future<Output = Result<Answer, StoreError>>,
    {
        let kept = self.kept.get(&question);
        if let Some(kept) = kept.as_ref().filter(|kept| self.is_fresh(kept)) {
            return Ok(kept.answer.clone());
        }
        let old = kept.filter(|kept| self.serves_stale(kept));
        if let Some(old) = &old
            && !self.is_to_ask()
        {
            return Ok(old.answer.clone());
        }
        match (self.share(question, fetch).await, old) {
            (Err(StoreError::Away { .. }), Some(old)) => Ok(old.answer.clone()),
            (answer, _) => answer,
        }
    }

    /// Whether the store is thought to be there, or it is time to see, which this caller then does.
    fn is_to_ask(&self) -> bool {
        let mut away = locked(&self.away);
        match *away {
            Some(since) if since.elapsed() < REST => false,
            Some(_) => {
                *away = Some(Instant::now());
                true
            }
            None => true,
        }
    }

    /// Asks the store, or waits for whoever does.
    async fn share<Fut>(&self, question: Question, fetch: impl FnOnce() -> Fut) -> Result<Answer, StoreError>
    where
        Fut: Future<Output = Result<Answer, StoreError>>,
    {
        let flight = locked(&self.flights).entry(question.clone()).or_default().clone();
        let waiting = Waiting { cache: self, question, flight };
        let asked = async {
            let (changes, asked) = (self.changes.load(Ordering::Acquire), Instant::now());
            let answer = fetch().await;
            let is_away = matches!(answer, Err(StoreError::Away { .. }));
            *locked(&self.away) = is_away.then(Instant::now);
            if let Ok(answer) = &answer {
                self.keep(&waiting.question, Kept { answer: answer.clone(), asked, changes });
            }
            answer
        };
        waiting.flight.get_or_init(|| asked).await.clone()
    }

    /// Keeps an answer unless something changed while it was on its way.
    fn keep(&self, question: &Question, kept: Kept) {
        let _no_change_meanwhile = locked(&self.flights);
        if kept.changes == self.changes.load(Ordering::Acquire) {
            self.kept.insert(question.clone(), Arc::new(kept));
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: NumberStore> NumberStore for CachedNumbers<S> {
    async fn standing(&self, source: IpAddr) -> Result<Standing, StoreError> {
        let source = source.to_canonical();
        let fetch = async || self.store.standing(source).await.map(Answer::Standing);
        match self.ask(Question::Standing(source), fetch).await? {
            Answer::Standing(standing) => Ok(standing),
            Answer::Found(_) => self.store.standing(source).await,
        }
    }

    async fn look_up(&self, identity: &Identity, standing: &Standing) -> Result<Found, StoreError> {
        let question = match identity {
            Identity::Named { business, phone } => Question::Named(business.clone(), phone.clone()),
            Identity::Dialled(dialled) => Question::Dialled(dialled.clone(), standing.source),
        };
        let fetch = async || self.store.look_up(identity, standing).await.map(Answer::Found);
        match self.ask(question, fetch).await? {
            Answer::Found(found) => Ok(found),
            Answer::Standing(_) => self.store.look_up(identity, standing).await,
        }
    }

    async fn number(
        &self,
        business: &BusinessId,
        phone: &PhoneId,
    ) -> Result<Option<Arc<Number>>, StoreError> {
        self.store.number(business, phone).await
    }

    async fn list(
        &self,
        business: &BusinessId,
        after: Option<&PhoneId>,
        most: usize,
    ) -> Result<Vec<Arc<Number>>, StoreError> {
        self.store.list(business, after, most).await
    }

    async fn upsert(&self, number: Number) -> Result<(), UpsertError> {
        let (business, phone) = (number.business.clone(), number.phone.clone());
        let change = Change::Number { business, phone, dialled: Some(number.dialled.clone()) };
        let stored = self.store.upsert(number).await;
        self.changed(&change); // also after an error: it may have been stored
        stored
    }

    async fn delete(&self, business: &BusinessId, phone: &PhoneId) -> Result<bool, StoreError> {
        let deleted = self.store.delete(business, phone).await;
        // Where it was found by what is dialled, the answer names it.
        self.changed(&Change::Number { business: business.clone(), phone: phone.clone(), dialled: None });
        deleted
    }
}

#[cfg(test)]
mod tests;
