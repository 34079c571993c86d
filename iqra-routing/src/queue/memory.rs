//! The queue in memory: one lock, held for a few map operations and never across an await.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{CallKey, CallQueue, Entered, Entry, Filter, MAX_PAGE, NewEntry, Page, QueueError};
use crate::error::StoreError;
use crate::handover::table::{self, Event, Repeat};
use crate::identity::{EntryId, TrunkId};
use crate::time::Timestamp;

/// How much a queue keeps.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Live entries; a call beyond is refused. Default 200,000 (about 1 KiB each).
    pub live: usize,
    /// Finished entries; beyond, the first to finish are dropped. Default 20,000.
    pub finished: usize,
    /// How long a finished entry is kept at most. Default 1 h.
    pub retention: Duration,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { live: 200_000, finished: 20_000, retention: Duration::from_secs(3600) }
    }
}

/// A [`CallQueue`] in memory.
#[derive(Debug, Default)]
pub struct MemoryQueue {
    limits: QueueLimits,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    entries: BTreeMap<EntryId, Arc<Entry>>,
    /// The keys of live entries.
    keys: HashMap<CallKey, EntryId>,
    /// When uncommitted entries expire.
    deadlines: BTreeSet<(Timestamp, EntryId)>,
    /// Finished entries in the order of finishing.
    finished: VecDeque<(Timestamp, EntryId)>,
    /// The trunks that follow redirects.
    following: HashSet<TrunkId>,
}

impl Tables {
    /// Stores an entry in place of what it was, and keeps the indexes true.
    fn put(&mut self, entry: Arc<Entry>, now: Timestamp) {
        let before = self.entries.insert(entry.id, entry.clone());
        if let Some(deadline) = before.as_ref().and_then(|entry| entry.deadline) {
            self.deadlines.remove(&(deadline, entry.id));
        }
        if let Some(deadline) = entry.deadline {
            self.deadlines.insert((deadline, entry.id));
        }
        let was_live = before.is_some_and(|before| before.is_live());
        match (was_live, entry.is_live()) {
            (false, true) => drop(self.keys.insert(entry.key.clone(), entry.id)),
            (true, false) => {
                self.keys.remove(&entry.key);
                self.finished.push_back((now, entry.id));
            }
            _ => {}
        }
    }

    fn apply(&mut self, id: EntryId, event: &Event, now: Timestamp) -> Result<Arc<Entry>, QueueError> {
        let entry = self.entries.get(&id).ok_or(QueueError::Unknown(id))?;
        let Some(changed) = table::step(entry, event, now).map_err(QueueError::Refused)? else {
            return Ok(entry.clone());
        };
        let changed = Arc::new(changed);
        self.put(changed.clone(), now);
        Ok(changed)
    }

    /// Drops finished entries beyond the bounds, the first to finish first.
    fn evict(&mut self, limits: &QueueLimits, now: Timestamp) {
        while let Some((at, id)) = self.finished.front().copied() {
            if self.finished.len() <= limits.finished && now.since(at) <= limits.retention {
                return;
            }
            self.finished.pop_front();
            self.entries.remove(&id);
        }
    }

    fn enter(&mut self, new: &NewEntry, limits: &QueueLimits, now: Timestamp) -> Result<Entered, QueueError> {
        if let Some(entry) = self.keys.get(&new.key).and_then(|id| self.entries.get(id)) {
            let entry = entry.clone();
            return Ok(match table::repeat(&entry, new, now) {
                Repeat::Same => Entered::New(entry),
                Repeat::Absorb => Entered::Absorbed,
                Repeat::Refuse(reason) => Entered::Refused(reason),
                Repeat::Adopt(adopted) => {
                    let adopted = Arc::new(*adopted);
                    self.put(adopted.clone(), now);
                    Entered::Adopted(adopted)
                }
            });
        }
        if self.keys.len() >= limits.live {
            return Err(QueueError::Full(limits.live));
        }
        let entry = Arc::new(Entry::begin(new, now));
        self.put(entry.clone(), now);
        Ok(Entered::New(entry))
    }

    fn sweep(&mut self, now: Timestamp, most: usize) -> Vec<Arc<Entry>> {
        let due: Vec<EntryId> =
            self.deadlines.iter().take_while(|(at, _)| *at <= now).take(most).map(|(_, id)| *id).collect();
        due.into_iter().filter_map(|id| self.apply(id, &Event::Expire, now).ok()).collect()
    }
}

impl MemoryQueue {
    /// An empty queue that keeps so much.
    pub fn new(limits: QueueLimits) -> Self {
        Self { limits, tables: Mutex::default() }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl CallQueue for MemoryQueue {
    async fn enter(&self, new: NewEntry, now: Timestamp) -> Result<Entered, QueueError> {
        let mut tables = self.tables();
        tables.evict(&self.limits, now);
        tables.enter(&new, &self.limits, now)
    }

    async fn apply(&self, id: EntryId, event: &Event, now: Timestamp) -> Result<Arc<Entry>, QueueError> {
        let mut tables = self.tables();
        let applied = tables.apply(id, event, now);
        tables.evict(&self.limits, now);
        applied
    }

    async fn entry(&self, id: EntryId) -> Result<Option<Arc<Entry>>, StoreError> {
        Ok(self.tables().entries.get(&id).cloned())
    }

    async fn list(&self, filter: &Filter, page: Page) -> Result<Vec<Arc<Entry>>, StoreError> {
        let upper = page.before.map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.tables();
        let older = tables.entries.range((Bound::Unbounded, upper)).rev().map(|(_, entry)| entry);
        Ok(older.filter(|entry| filter.shows(entry)).take(page.most.min(MAX_PAGE)).cloned().collect())
    }

    async fn count(&self, filter: &Filter) -> Result<usize, StoreError> {
        Ok(self.tables().entries.values().filter(|entry| filter.shows(entry)).count())
    }

    async fn sweep(&self, now: Timestamp, most: usize) -> Result<Vec<Arc<Entry>>, StoreError> {
        let mut tables = self.tables();
        let expired = tables.sweep(now, most);
        tables.evict(&self.limits, now);
        Ok(expired)
    }

    async fn note_redirect_followed(&self, trunk: &TrunkId) -> Result<(), StoreError> {
        self.tables().following.insert(trunk.clone());
        Ok(())
    }

    async fn redirects_followed(&self, trunk: &TrunkId) -> Result<bool, StoreError> {
        Ok(self.tables().following.contains(trunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::table::Writer;
    use crate::queue::{NewEntry, sample};
    use crate::reason::Reason;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn new(n: u128) -> NewEntry {
        NewEntry {
            id: EntryId(n),
            ..sample::new_entry(&format!("call-{n}"), START + Duration::from_secs(30))
        }
    }

    fn fail(n: u128) -> Event {
        Event::End { writer: Writer::Proxy { node: new(n).node, attempt: 1 }, reason: Reason::NoBackend }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn it_keeps_the_contract() {
        crate::queue::conformance::conforms(Arc::new(MemoryQueue::default())).await;
    }

    #[tokio::test]
    async fn a_queue_full_of_live_entries_refuses_and_makes_room_when_one_ends() {
        let queue = MemoryQueue::new(QueueLimits { live: 2, ..QueueLimits::default() });
        queue.enter(new(1), START).await.unwrap();
        queue.enter(new(2), START).await.unwrap();
        assert_eq!(queue.enter(new(3), START).await, Err(QueueError::Full(2)));
        queue.apply(EntryId(1), &fail(1), START).await.unwrap();
        assert!(matches!(queue.enter(new(3), START).await, Ok(Entered::New(_))));
    }

    #[tokio::test]
    async fn the_first_to_finish_are_dropped_first_and_all_after_the_retention() {
        let limits =
            QueueLimits { finished: 2, retention: Duration::from_secs(60), ..QueueLimits::default() };
        let queue = MemoryQueue::new(limits);
        for n in 1..=4 {
            queue.enter(new(n), START).await.unwrap();
        }
        for n in [3, 1, 2] {
            queue.apply(EntryId(n), &fail(n), START).await.unwrap();
        }
        let kept = async || {
            let list = queue.list(&Filter::default(), Page::default()).await.unwrap();
            list.iter().map(|entry| entry.id.0).collect::<Vec<_>>()
        };
        assert_eq!(kept().await, [4, 2, 1]);
        queue.sweep(START + Duration::from_secs(29), 10).await.unwrap();
        queue.apply(EntryId(4), &fail(4), START + Duration::from_secs(61)).await.unwrap();
        assert_eq!(kept().await, [4], "the live one was never dropped");
    }

    #[tokio::test]
    async fn nothing_is_left_in_the_indexes_when_all_calls_have_ended() {
        let queue = MemoryQueue::new(QueueLimits { finished: 0, ..QueueLimits::default() });
        for n in 1..=20 {
            queue.enter(new(n), START).await.unwrap();
        }
        for n in 1..=10 {
            queue.apply(EntryId(n), &fail(n), START).await.unwrap();
        }
        assert_eq!(queue.sweep(START + Duration::from_secs(30), 100).await.unwrap().len(), 10);
        let tables = queue.tables();
        assert!(tables.entries.is_empty() && tables.keys.is_empty());
        assert!(tables.deadlines.is_empty() && tables.finished.is_empty());
    }
}
