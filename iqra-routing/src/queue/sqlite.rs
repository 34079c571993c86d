//! The queue in the shared SQLite file: an entry is one row with its JSON, and columns for what is searched.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Transaction, named_params, params};

use super::{CallQueue, Entered, Entry, Filter, MAX_PAGE, NewEntry, Page, QueueError, QueueLimits};
use crate::columns::{millis, state_name};
use crate::error::StoreError;
use crate::handover::table::{self, Event, Repeat};
use crate::identity::{BackendId, BusinessId, EntryId, PhoneId, TrunkId};
use crate::sqlite::{Database, Fault};
use crate::time::Timestamp;

const STORE: &str = "queue";

/// A [`CallQueue`] in a SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteQueue {
    database: Database,
    limits: QueueLimits,
}

/// A step that the table or the queue may refuse; nothing is written then.
type Refusable<T> = Result<Result<T, QueueError>, Fault>;

/// What a [`Filter`] says in SQL.
const SHOWN: &str = "
    (:business IS NULL OR business = :business) AND (:phone IS NULL OR phone = :phone)
    AND (:state IS NULL OR state = :state) AND (:backend IS NULL OR backend = :backend)
    AND (:live IS NULL OR (key IS NOT NULL) = :live)
    AND (:since IS NULL OR created >= :since) AND (:until IS NULL OR created < :until)
    AND (:before IS NULL OR id < :before)";

impl SqliteQueue {
    /// The queue in this file, which keeps so much. Every process says the same.
    pub fn new(database: Database, limits: QueueLimits) -> Self {
        Self { database, limits }
    }
}

fn id_bytes(id: EntryId) -> [u8; 16] {
    id.0.to_be_bytes()
}

fn load(tx: &Transaction<'_>, id: EntryId) -> Result<Option<Entry>, Fault> {
    let body = tx.prepare_cached("SELECT body FROM entries WHERE id = ?")?;
    read_one(body, params![id_bytes(id)])
}

fn read_one(
    mut select: rusqlite::CachedStatement<'_>,
    by: &[&dyn rusqlite::ToSql],
) -> Result<Option<Entry>, Fault> {
    let body: Option<String> = select.query_row(by, |row| row.get(0)).optional()?;
    Ok(body.map(|body| serde_json::from_str(&body)).transpose()?)
}

/// Stores an entry in place of what it was, and keeps the counts true.
fn put(tx: &Transaction<'_>, before: Option<&Entry>, entry: &Entry, now: Timestamp) -> Result<(), Fault> {
    let key = entry.is_live().then(|| serde_json::to_string(&entry.key)).transpose()?;
    let was_live = before.is_some_and(Entry::is_live);
    let ends = was_live && !entry.is_live();
    if was_live != entry.is_live() {
        let (live, finished) = if ends { (-1, 1) } else { (1, 0) };
        tx.prepare_cached("UPDATE counts SET live = live + ?, finished = finished + ?, next = next + 1")?
            .execute([live, finished])?;
    }
    tx.prepare_cached(
        "INSERT INTO entries VALUES (:id, :key, :business, :phone, :state, :backend, :created, :deadline,
            CASE WHEN :ends THEN :now END, CASE WHEN :ends THEN (SELECT next FROM counts) END, :body)
         ON CONFLICT (id) DO UPDATE SET key = :key, state = :state, backend = :backend, deadline = :deadline,
            finished = coalesce(finished, excluded.finished),
            finish_order = coalesce(finish_order, excluded.finish_order), body = :body",
    )?
    .execute(named_params! {
        ":id": id_bytes(entry.id),
        ":key": key,
        ":business": entry.key.business.as_str(),
        ":phone": entry.key.phone.as_str(),
        ":state": state_name(entry.state)?,
        ":backend": entry.holder.as_ref().map(|holder| holder.backend.as_str()),
        ":created": millis(entry.created),
        ":deadline": entry.deadline.map(millis),
        ":ends": ends,
        ":now": millis(now),
        ":body": serde_json::to_string(entry)?,
    })?;
    Ok(())
}

fn apply(tx: &Transaction<'_>, id: EntryId, event: &Event, now: Timestamp) -> Refusable<Arc<Entry>> {
    let Some(entry) = load(tx, id)? else { return Ok(Err(QueueError::Unknown(id))) };
    match table::step(&entry, event, now) {
        Err(reason) => Ok(Err(QueueError::Refused(reason))),
        Ok(None) => Ok(Ok(Arc::new(entry))),
        Ok(Some(changed)) => {
            put(tx, Some(&entry), &changed, now)?;
            Ok(Ok(Arc::new(changed)))
        }
    }
}

fn enter(tx: &Transaction<'_>, new: &NewEntry, limits: &QueueLimits, now: Timestamp) -> Refusable<Entered> {
    let key = serde_json::to_string(&new.key)?;
    let same_key = tx.prepare_cached("SELECT body FROM entries WHERE key = ?")?;
    if let Some(entry) = read_one(same_key, params![key])? {
        return Ok(Ok(match table::repeat(&entry, new, now) {
            Repeat::Same => Entered::New(Arc::new(entry)),
            Repeat::Absorb => Entered::Absorbed,
            Repeat::Refuse(reason) => Entered::Refused(reason),
            Repeat::Adopt(adopted) => {
                put(tx, Some(&entry), &adopted, now)?;
                Entered::Adopted(Arc::new(*adopted))
            }
        }));
    }
    let live: i64 = tx.prepare_cached("SELECT live FROM counts")?.query_row([], |row| row.get(0))?;
    if usize::try_from(live).is_ok_and(|live| live >= limits.live) {
        return Ok(Err(QueueError::Full(limits.live)));
    }
    let entry = Entry::begin(new, now);
    put(tx, None, &entry, now)?;
    Ok(Ok(Entered::New(Arc::new(entry))))
}

/// Drops finished entries beyond the bounds, the first to finish first.
fn evict(tx: &Transaction<'_>, limits: &QueueLimits, now: Timestamp) -> Result<(), Fault> {
    let kept = i64::try_from(limits.finished).unwrap_or(i64::MAX);
    let dropped = tx
        .prepare_cached(
            "DELETE FROM entries WHERE id IN (
                SELECT id FROM entries WHERE finish_order IS NOT NULL ORDER BY finish_order
                LIMIT max(0, (SELECT finished FROM counts) - ?))",
        )?
        .execute([kept])?;
    // Finish times rise with the order but for clocks that differ, so the first 100 say whether any is too old.
    let aged = tx
        .prepare_cached(
            "DELETE FROM entries WHERE id IN (
                SELECT id FROM entries WHERE finish_order IS NOT NULL ORDER BY finish_order LIMIT 100)
             AND finished < ?",
        )?
        .execute([millis(now - limits.retention)])?;
    if dropped + aged > 0 {
        tx.execute(
            "UPDATE counts SET finished = finished - ?",
            [i64::try_from(dropped + aged).unwrap_or(i64::MAX)],
        )?;
    }
    Ok(())
}

fn sweep(tx: &Transaction<'_>, now: Timestamp, most: usize) -> Result<Vec<Arc<Entry>>, Fault> {
    let due: Vec<[u8; 16]> = tx
        .prepare_cached("SELECT id FROM entries WHERE deadline <= ? ORDER BY deadline, id LIMIT ?")?
        .query_map(params![millis(now), i64::try_from(most).unwrap_or(i64::MAX)], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut expired = Vec::new();
    for id in due {
        expired.extend(apply(tx, EntryId(u128::from_be_bytes(id)), &Event::Expire, now)?.ok());
    }
    Ok(expired)
}

/// Runs a query that begins with `select` over the entries that a filter shows.
fn shown<T>(
    tx: &Transaction<'_>,
    (select, order): (&str, &str),
    filter: &Filter,
    before: Option<EntryId>,
    row: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Fault> {
    let state = filter.state.map(state_name).transpose()?;
    let mut statement = tx.prepare_cached(&format!("{select} WHERE {SHOWN} {order}"))?;
    let rows = statement.query_map(
        named_params! {
            ":business": filter.business.as_ref().map(BusinessId::as_str),
            ":phone": filter.phone.as_ref().map(PhoneId::as_str),
            ":state": state,
            ":backend": filter.backend.as_ref().map(BackendId::as_str),
            ":live": filter.live,
            ":since": filter.since.map(millis),
            ":until": filter.until.map(millis),
            ":before": before.map(id_bytes),
        },
        row,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[async_trait]
impl CallQueue for SqliteQueue {
    async fn enter(&self, new: NewEntry, now: Timestamp) -> Result<Entered, QueueError> {
        let limits = self.limits;
        let entered = self.database.run(STORE, move |tx| {
            evict(tx, &limits, now)?;
            enter(tx, &new, &limits, now)
        });
        entered.await?
    }

    async fn apply(&self, id: EntryId, event: &Event, now: Timestamp) -> Result<Arc<Entry>, QueueError> {
        let (limits, event) = (self.limits, event.clone());
        let applied = self.database.run(STORE, move |tx| {
            let applied = apply(tx, id, &event, now)?;
            if applied.as_ref().is_ok_and(|entry| !entry.is_live()) {
                evict(tx, &limits, now)?;
            }
            Ok(applied)
        });
        applied.await?
    }

    async fn entry(&self, id: EntryId) -> Result<Option<Arc<Entry>>, StoreError> {
        self.database.run(STORE, move |tx| Ok(load(tx, id)?.map(Arc::new))).await
    }

    async fn list(&self, filter: &Filter, page: Page) -> Result<Vec<Arc<Entry>>, StoreError> {
        let filter = filter.clone();
        let order = format!("ORDER BY id DESC LIMIT {}", page.most.min(MAX_PAGE));
        let list = self.database.run(STORE, move |tx| {
            let body = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
            let bodies = shown(tx, ("SELECT body FROM entries", &order), &filter, page.before, body)?;
            Ok(bodies
                .iter()
                .map(|body| serde_json::from_str(body).map(Arc::new))
                .collect::<Result<_, _>>()?)
        });
        list.await
    }

    async fn count(&self, filter: &Filter) -> Result<usize, StoreError> {
        let filter = filter.clone();
        let count = self.database.run(STORE, move |tx| {
            let count = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
            let counts = shown(tx, ("SELECT count(*) FROM entries", ""), &filter, None, count)?;
            Ok(counts.first().and_then(|count| usize::try_from(*count).ok()).unwrap_or_default())
        });
        count.await
    }

    async fn sweep(&self, now: Timestamp, most: usize) -> Result<Vec<Arc<Entry>>, StoreError> {
        let limits = self.limits;
        let expired = self.database.run(STORE, move |tx| {
            let expired = sweep(tx, now, most)?;
            evict(tx, &limits, now)?;
            Ok(expired)
        });
        expired.await
    }

    async fn note_redirect_followed(&self, trunk: &TrunkId) -> Result<(), StoreError> {
        let trunk = trunk.clone();
        let noted = self.database.run(STORE, move |tx| {
            tx.execute("INSERT OR IGNORE INTO following_trunks VALUES (?)", [trunk.as_str()])?;
            Ok(())
        });
        noted.await
    }

    async fn redirects_followed(&self, trunk: &TrunkId) -> Result<bool, StoreError> {
        let trunk = trunk.clone();
        let known = self.database.run(STORE, move |tx| {
            let mut select = tx.prepare_cached("SELECT 1 FROM following_trunks WHERE trunk = ?")?;
            Ok(select.exists([trunk.as_str()])?)
        });
        known.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::table::{Expect, Writer};
    use crate::handover::token::{Purpose, Token};
    use crate::identity::{CallerKey, Incarnation};
    use crate::queue::{Holder, State, sample};
    use crate::reason::Reason;
    use crate::sqlite::tests::Scratch;
    use std::time::Duration;

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
        let scratch = Scratch::new();
        let queue = SqliteQueue::new(scratch.open(), QueueLimits::default());
        crate::queue::conformance::conforms(Arc::new(queue)).await;
    }

    #[tokio::test]
    async fn its_bounds_hold_and_it_is_there_when_it_is_opened_again() {
        let scratch = Scratch::new();
        let limits = QueueLimits { live: 3, finished: 1, retention: Duration::from_secs(60) };
        let queue = SqliteQueue::new(scratch.open(), limits);
        for n in 1..=3 {
            queue.enter(new(n), START).await.unwrap();
        }
        assert_eq!(queue.enter(new(4), START).await, Err(QueueError::Full(3)));
        for n in [2, 1] {
            queue.apply(EntryId(n), &fail(n), START).await.unwrap();
        }
        drop(queue);
        let queue = SqliteQueue::new(scratch.open(), limits);
        let kept = async || {
            let list = queue.list(&Filter::default(), Page::default()).await.unwrap();
            list.iter().map(|entry| entry.id.0).collect::<Vec<_>>()
        };
        assert_eq!(kept().await, [3, 1], "the first to finish went first");
        queue.enter(new(4), START + Duration::from_secs(61)).await.unwrap();
        assert_eq!(kept().await, [4, 3], "and the other one after the retention");
    }

    fn claim(n: u128, backend: &str) -> Event {
        let token = Token {
            entry: EntryId(n),
            attempt: 1,
            region: "eu".parse().unwrap(),
            server: backend.parse().unwrap(),
            expires: START + Duration::from_secs(30),
            purpose: Purpose::Start,
        };
        let caller = CallerKey::sip(&format!("{backend}-{n}"), "t").unwrap();
        let holder = Holder { backend: token.server.clone(), incarnation: Incarnation(5) };
        Event::Claim { region: token.region.clone(), token, caller, holder }
    }

    /// Two processes race for each of many calls: to enter it, to claim it, and to answer it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_two_processes_one_enters_and_one_answers_each_call() {
        const CALLS: u128 = 40;
        let scratch = Scratch::new();
        let race = |backend: &'static str, branch: &'static str, id: u128| {
            let queue = SqliteQueue::new(scratch.open(), QueueLimits::default());
            tokio::spawn(async move {
                let (mut entered, mut answered) = (0, 0);
                for n in 1..=CALLS {
                    let request = NewEntry { id: EntryId(n + id), branch: branch.into(), ..new(n) };
                    let own = queue.enter(request, START).await.unwrap();
                    entered += usize::from(matches!(own, Entered::New(_)));
                    let live =
                        Filter { live: Some(true), state: Some(State::ProcessingProxy), ..Filter::default() };
                    for call in queue.list(&live, Page::default()).await.unwrap() {
                        let backends = ["b1".parse().unwrap(), "b2".parse().unwrap()].into();
                        let until = START + Duration::from_secs(30);
                        let offer = Event::Offer { node: new(n).node, attempt: 1, backends, until };
                        let _one_of_us = queue.apply(call.id, &offer, START).await;
                        let claimed = queue.apply(call.id, &claim(call.id.0, backend), START).await;
                        let Some(expect) = claimed.ok().and_then(|entry| entry.expect()) else { continue };
                        assert_eq!(expect, Expect { attempt: 1, claim_no: 1, incarnation: Incarnation(5) });
                        answered +=
                            usize::from(queue.apply(call.id, &Event::Commit(expect), START).await.is_ok());
                    }
                }
                (entered, answered)
            })
        };
        let (first, second) = (race("b1", "x", 1000), race("b2", "y", 2000));
        let (first, second) = (first.await.unwrap(), second.await.unwrap());
        assert_eq!((first.0 + second.0, first.1 + second.1), (CALLS as usize, CALLS as usize));
    }
}
