//! The queue in PostgreSQL: an entry is one row with its JSON, and columns for what is searched.
//!
//! A step reads the row, runs the table, and writes the row if nobody else has since (its `version` is the one that was
//! read); else it begins again. That is one atomic step per entry, as a row lock held from the read to the write would be,
//! at two round trips instead of four, and a node that dies or hangs in between holds nothing up. Repeats of a call meet at
//! the unique index over the keys of live entries.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::{CallKey, CallQueue, Entered, Entry, Filter, MAX_PAGE, NewEntry, Page, QueueError, QueueLimits};
use crate::columns::{millis, state_name};
use crate::error::StoreError;
use crate::handover::table::{self, Event, Repeat};
use crate::identity::{EntryId, TrunkId};
use crate::postgres::{CLOCK, Database, Done, Fault, Session, StoreClock};
use crate::time::Timestamp;

const STORE: &str = "queue";
/// How often a step begins again; each time another one has succeeded.
const TRIES: u32 = 64;
/// How old the count of live entries may be that the bound is checked against.
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// The same when the bound is reached.
const RECOUNT: Duration = Duration::from_millis(200);
/// How many finished entries one statement drops.
const BATCH: i64 = 10_000;
/// How many such statements one round has.
const BATCHES: usize = 20;

/// A [`CallQueue`] on a PostgreSQL server.
///
/// The bound on live entries is checked against a count that is up to 10 s old plus what came and went here since, so
/// several nodes together may exceed it by what they enter in that time. Finished entries beyond theirs go at a sweep, once
/// in 10 s, on whichever node comes first.
#[derive(Clone)]
pub struct PostgresQueue {
    database: Database,
    limits: QueueLimits,
    clock: StoreClock,
    live: Arc<Mutex<Live>>,
}

/// How many live entries there are, as far as this node knows.
#[derive(Debug, Default)]
struct Live {
    count: i64,
    counted: Option<Instant>,
}

/// A row as it was read.
struct Stored {
    version: i64,
    entry: Entry,
}

impl PostgresQueue {
    /// The queue on this server, which keeps so much. Every node says the same.
    #[must_use]
    pub fn new(database: Database, limits: QueueLimits) -> Self {
        Self { database, limits, clock: StoreClock::default(), live: Arc::default() }
    }

    /// The same by another clock.
    #[must_use]
    pub fn clock(self, clock: StoreClock) -> Self {
        Self { clock, ..self }
    }

    /// Drops finished entries beyond the bounds, the first to finish first; [`sweep`](CallQueue::sweep) does so by itself.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    pub async fn trim(&self, now: Timestamp) -> Result<(), StoreError> {
        for _ in 0..BATCHES {
            if self.database.run(STORE, |session| self.trim_some(session, now)).await? < BATCH.unsigned_abs()
            {
                break;
            }
        }
        Ok(())
    }

    async fn trim_some(&self, mut session: Session, now: Timestamp) -> Done<u64> {
        let aged = format!(
            "DELETE FROM iqra.entries WHERE ctid = ANY (ARRAY (
                 SELECT ctid FROM iqra.entries WHERE finished < coalesce($1, {CLOCK}) - $2::bigint
                 ORDER BY finished, id LIMIT $3))"
        );
        let beyond = "DELETE FROM iqra.entries WHERE ctid = ANY (ARRAY (
            SELECT ctid FROM iqra.entries WHERE finished IS NOT NULL ORDER BY finished, id LIMIT least($2::bigint,
                greatest(0, (SELECT count(*) FROM iqra.entries WHERE finished IS NOT NULL) - $1::bigint))))";
        let retention = i64::try_from(self.limits.retention.as_millis()).unwrap_or(i64::MAX / 2);
        let kept = i64::try_from(self.limits.finished).unwrap_or(i64::MAX);
        let aged = session.execute(&aged, &[&self.clock.parameter(now), &retention, &BATCH]).await?;
        let beyond = session.execute(beyond, &[&kept, &BATCH]).await?;
        Ok((session, aged.max(beyond)))
    }

    /// Whether this node is the one to trim now.
    async fn is_to_trim(&self, mut session: Session) -> Done<bool> {
        let claim =
            "UPDATE iqra.upkeep SET done = now() WHERE task = 'trim' AND done < now() - interval '10 s'";
        let claimed = session.execute(claim, &[]).await?;
        Ok((session, claimed > 0))
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more live entry may be there.
    async fn has_room(&self, session: &mut Session) -> Result<bool, Fault> {
        let bound = i64::try_from(self.limits.live).unwrap_or(i64::MAX);
        let is_recent = {
            let live = self.live();
            let age = if live.count >= bound { RECOUNT } else { COUNT_EVERY };
            live.counted.is_some_and(|counted| counted.elapsed() < age)
        };
        if !is_recent {
            self.live().counted = Some(Instant::now()); // others go by the old one meanwhile
            let count = "SELECT count(*) FROM iqra.entries WHERE key IS NOT NULL";
            if let Some(row) = session.row(count, &[]).await? {
                self.live().count = row.try_get(0)?;
            }
        }
        Ok(self.live().count < bound)
    }

    async fn enter_in(
        &self,
        mut session: Session,
        new: &NewEntry,
        now: Timestamp,
    ) -> Done<Result<Entered, QueueError>> {
        let key = key(&new.key)?;
        let same_key = format!(
            "SELECT {CLOCK}, e.version, e.body FROM (VALUES (1)) AS one (n) LEFT JOIN iqra.entries e ON e.key = $1"
        );
        for _ in 0..TRIES {
            let Some(row) = session.row(&same_key, &[&key]).await? else { break };
            let at = self.clock.now(now, row.try_get(0)?);
            let new = &NewEntry { deadline: at + new.deadline.since(now), ..new.clone() };
            let entered = match row.try_get::<_, Option<i64>>(1)? {
                Some(_) => self.repeat(&mut session, &stored(&row)?, new, at).await?,
                None if !self.has_room(&mut session).await? => {
                    return Ok((session, Err(QueueError::Full(self.limits.live))));
                }
                None => self.insert(&mut session, new, at).await?,
            };
            if let Some(entered) = entered {
                return Ok((session, Ok(entered)));
            }
        }
        Err(Fault::Contended)
    }

    /// What a repeat of a live call becomes; `None` where another writer was faster.
    async fn repeat(
        &self,
        session: &mut Session,
        stored: &Stored,
        new: &NewEntry,
        at: Timestamp,
    ) -> Result<Option<Entered>, Fault> {
        Ok(Some(match table::repeat(&stored.entry, new, at) {
            Repeat::Same => Entered::New(Arc::new(stored.entry.clone())),
            Repeat::Absorb => Entered::Absorbed,
            Repeat::Refuse(reason) => Entered::Refused(reason),
            Repeat::Adopt(adopted) => {
                if !self.write(session, stored, &adopted, at).await? {
                    return Ok(None);
                }
                Entered::Adopted(Arc::new(*adopted))
            }
        }))
    }

    /// Enters a new call; `None` where another one with its key was faster.
    async fn insert(
        &self,
        session: &mut Session,
        new: &NewEntry,
        at: Timestamp,
    ) -> Result<Option<Entered>, Fault> {
        let insert =
            "INSERT INTO iqra.entries (id, version, key, business, phone, state, created, deadline, body)
            VALUES ($1, 0, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
        let entry = Entry::begin(new, at);
        let inserted = session
            .execute(
                insert,
                &[
                    &&id_bytes(entry.id)[..],
                    &key(&entry.key)?,
                    &entry.key.business.as_str(),
                    &entry.key.phone.as_str(),
                    &state_name(entry.state)?,
                    &millis(entry.created),
                    &entry.deadline.map(millis),
                    &serde_json::to_string(&entry)?,
                ],
            )
            .await?;
        if inserted > 0 {
            self.live().count += 1;
            return Ok(Some(Entered::New(Arc::new(entry))));
        }
        // The very insert may have been there before, and its call be over by now.
        let known = read(session, entry.id).await?;
        Ok(known
            .filter(|(_, known)| !known.entry.is_live())
            .map(|(_, known)| Entered::New(Arc::new(known.entry))))
    }

    async fn apply_in(
        &self,
        mut session: Session,
        id: EntryId,
        event: &Event,
        now: Timestamp,
    ) -> Done<Result<Arc<Entry>, QueueError>> {
        for _ in 0..TRIES {
            let Some((server, stored)) = read(&mut session, id).await? else {
                return Ok((session, Err(QueueError::Unknown(id))));
            };
            let at = self.clock.now(now, server);
            match table::step(&stored.entry, &by_clock(event, now, at), at) {
                Err(reason) => return Ok((session, Err(QueueError::Refused(reason)))),
                Ok(None) => return Ok((session, Ok(Arc::new(stored.entry)))),
                Ok(Some(changed)) => {
                    if self.write(&mut session, &stored, &changed, at).await? {
                        return Ok((session, Ok(Arc::new(changed))));
                    }
                }
            }
        }
        Err(Fault::Contended)
    }

    /// Stores an entry in place of what was read; whether that was still there.
    async fn write(
        &self,
        session: &mut Session,
        before: &Stored,
        entry: &Entry,
        at: Timestamp,
    ) -> Result<bool, Fault> {
        let update = "UPDATE iqra.entries SET version = version + 1, key = $3, state = $4, backend = $5, deadline = $6,
            finished = coalesce(finished, $7), body = $8 WHERE id = $1 AND version = $2";
        let ends = before.entry.is_live() && !entry.is_live();
        let written = session
            .execute(
                update,
                &[
                    &&id_bytes(entry.id)[..],
                    &before.version,
                    &entry.is_live().then(|| key(&entry.key)).transpose()?,
                    &state_name(entry.state)?,
                    &entry.holder.as_ref().map(|holder| holder.backend.as_str()),
                    &entry.deadline.map(millis),
                    &ends.then(|| millis(at)),
                    &serde_json::to_string(entry)?,
                ],
            )
            .await?;
        if written > 0 && ends {
            self.live().count -= 1;
        }
        Ok(written > 0)
    }

    async fn sweep_in(&self, mut session: Session, now: Timestamp, most: usize) -> Done<Vec<Arc<Entry>>> {
        let due = format!(
            "SELECT {CLOCK}, version, body, id FROM iqra.entries WHERE deadline <= coalesce($1, {CLOCK})
             ORDER BY deadline, id LIMIT $2"
        );
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let mut expired = Vec::new();
        for row in session.rows(&due, &[&self.clock.parameter(now), &most]).await? {
            // What a newer version wrote is its nodes' to expire.
            let Some(stored) = readable(&row, 3, stored(&row))? else { continue };
            let at = self.clock.now(now, row.try_get(0)?);
            // One that another node was faster with is that node's to tell of.
            if let Ok(Some(over)) = table::step(&stored.entry, &Event::Expire, at)
                && self.write(&mut session, &stored, &over, at).await?
            {
                expired.push(Arc::new(over));
            }
        }
        Ok((session, expired))
    }
}

fn id_bytes(id: EntryId) -> [u8; 16] {
    id.0.to_be_bytes()
}

/// What makes it the same call, in a size that an index takes whatever a caller puts into its Call-ID.
fn key(key: &CallKey) -> Result<Vec<u8>, Fault> {
    Ok(Sha256::digest(serde_json::to_vec(key)?).to_vec())
}

/// What a row holds, if it can be read; one that cannot, as of a newer version, holds up no other. `id` is the column of
/// its id.
fn readable<T>(row: &Row, id: usize, read: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Fault::Body(_)) => {
            let entry = HEXLOWER.encode(row.try_get::<_, &[u8]>(id)?);
            tracing::warn!(entry, "an entry cannot be read by this version, and is passed over");
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

/// The entry in a row of clock, version and body.
fn stored(row: &Row) -> Result<Stored, Fault> {
    Ok(Stored { version: row.try_get(1)?, entry: serde_json::from_str(row.try_get(2)?)? })
}

/// The server's clock and an entry.
async fn read(session: &mut Session, id: EntryId) -> Result<Option<(i64, Stored)>, Fault> {
    let select = format!("SELECT {CLOCK}, version, body FROM iqra.entries WHERE id = $1");
    let row = session.row(&select, &[&&id_bytes(id)[..]]).await?;
    row.map(|row| Ok((row.try_get(0)?, stored(&row)?))).transpose()
}

/// An event whose moments are by the sender's clock, `from`, by the clock that says `to` at the same time.
fn by_clock(event: &Event, from: Timestamp, to: Timestamp) -> Cow<'_, Event> {
    match event {
        Event::Offer { node, attempt, backends, until } if from != to => Cow::Owned(Event::Offer {
            node: node.clone(),
            attempt: *attempt,
            backends: backends.clone(),
            until: to + until.since(from),
        }),
        other => Cow::Borrowed(other),
    }
}

/// The conditions of a filter, each with its parameter.
struct Conditions {
    sql: String,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Conditions {
    fn of(filter: &Filter, before: Option<EntryId>) -> Result<Self, Fault> {
        let mut all = Self { sql: String::from("true"), values: Vec::new() };
        all.add("business =", filter.business.as_ref().map(|id| id.as_str().to_owned()));
        all.add("phone =", filter.phone.as_ref().map(|id| id.as_str().to_owned()));
        all.add("state =", filter.state.map(state_name).transpose()?);
        all.add("backend =", filter.backend.as_ref().map(|id| id.as_str().to_owned()));
        all.add("created >=", filter.since.map(millis));
        all.add("created <", filter.until.map(millis));
        all.add("id <", before.map(|id| id_bytes(id).to_vec()));
        match filter.live {
            None => {}
            Some(true) => all.sql.push_str(" AND key IS NOT NULL"),
            Some(false) => all.sql.push_str(" AND key IS NULL"),
        }
        Ok(all)
    }

    fn add(&mut self, condition: &'static str, value: Option<impl ToSql + Sync + Send + 'static>) {
        if let Some(value) = value {
            self.values.push(Box::new(value));
            self.sql.push_str(&format!(" AND {condition} ${}", self.values.len()));
        }
    }

    fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| -> &(dyn ToSql + Sync) { &**value }).collect()
    }
}

async fn list(mut session: Session, filter: &Filter, page: Page) -> Done<Vec<Arc<Entry>>> {
    let conditions = Conditions::of(filter, page.before)?;
    let most = i64::try_from(page.most.min(MAX_PAGE)).unwrap_or(i64::MAX);
    let (sql, mut values) = (&conditions.sql, conditions.values());
    values.push(&most);
    let sql =
        format!("SELECT body, id FROM iqra.entries WHERE {sql} ORDER BY id DESC LIMIT ${}", values.len());
    let rows = session.rows(&sql, &values).await?;
    let mut list = Vec::with_capacity(rows.len());
    for row in &rows {
        let entry = serde_json::from_str(row.try_get(0)?).map_err(Fault::from);
        list.extend(readable(row, 1, entry)?.map(Arc::new));
    }
    Ok((session, list))
}

async fn count(mut session: Session, filter: &Filter) -> Done<usize> {
    let conditions = Conditions::of(filter, None)?;
    let sql = format!("SELECT count(*) FROM iqra.entries WHERE {}", conditions.sql);
    let row = session.row(&sql, &conditions.values()).await?;
    let count: i64 = row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    Ok((session, usize::try_from(count).unwrap_or_default()))
}

#[async_trait]
impl CallQueue for PostgresQueue {
    async fn enter(&self, new: NewEntry, now: Timestamp) -> Result<Entered, QueueError> {
        self.database.run(STORE, |session| self.enter_in(session, &new, now)).await?
    }

    async fn apply(&self, id: EntryId, event: &Event, now: Timestamp) -> Result<Arc<Entry>, QueueError> {
        self.database.run(STORE, |session| self.apply_in(session, id, event, now)).await?
    }

    async fn entry(&self, id: EntryId) -> Result<Option<Arc<Entry>>, StoreError> {
        let entry = self.database.run(STORE, |mut session| async move {
            let entry = read(&mut session, id).await?.map(|(_, stored)| Arc::new(stored.entry));
            Ok((session, entry))
        });
        entry.await
    }

    async fn list(&self, filter: &Filter, page: Page) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.database.run(STORE, |session| list(session, filter, page)).await
    }

    async fn count(&self, filter: &Filter) -> Result<usize, StoreError> {
        self.database.run(STORE, |session| count(session, filter)).await
    }

    async fn sweep(&self, now: Timestamp, most: usize) -> Result<Vec<Arc<Entry>>, StoreError> {
        let expired = self.database.run(STORE, |session| self.sweep_in(session, now, most)).await?;
        if self.database.run(STORE, |session| self.is_to_trim(session)).await.unwrap_or(false) {
            // What expired has to be told, whatever becomes of the rest.
            if let Err(error) = self.trim(now).await {
                tracing::warn!(%error, "finished entries beyond the bounds stay for now");
            }
        }
        Ok(expired)
    }

    async fn note_redirect_followed(&self, trunk: &TrunkId) -> Result<(), StoreError> {
        let noted = self.database.run(STORE, |mut session| async move {
            let insert = "INSERT INTO iqra.following_trunks VALUES ($1) ON CONFLICT DO NOTHING";
            session.execute(insert, &[&trunk.as_str()]).await?;
            Ok((session, ()))
        });
        noted.await
    }

    async fn redirects_followed(&self, trunk: &TrunkId) -> Result<bool, StoreError> {
        let known = self.database.run(STORE, |mut session| async move {
            let select = "SELECT 1 FROM iqra.following_trunks WHERE trunk = $1";
            let row = session.row(select, &[&trunk.as_str()]).await?;
            Ok((session, row.is_some()))
        });
        known.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::sample;

    #[test]
    fn moments_of_an_event_keep_their_distance_by_another_clock() {
        let (from, to) = (Timestamp::from_millis(1_000_000), Timestamp::from_millis(9_000_000));
        let until = from + Duration::from_secs(30);
        let node = sample::new_entry("c", until).node;
        let offer = Event::Offer { node, attempt: 1, backends: [].into(), until };
        assert_eq!(*by_clock(&offer, from, from), offer);
        let Event::Offer { until, .. } = &*by_clock(&offer, from, to) else { panic!("it stays an offer") };
        assert_eq!(*until, to + Duration::from_secs(30));
    }

    #[test]
    fn a_condition_stands_for_each_field_of_a_filter_and_no_value_in_the_text() {
        let filter = Filter {
            business: Some("b-in".parse().unwrap()),
            phone: Some("p-in".parse().unwrap()),
            state: Some(super::super::State::Failed),
            live: Some(false),
            backend: Some("k-in".parse().unwrap()),
            since: Some(Timestamp::from_millis(777)),
            until: Some(Timestamp::from_millis(888)),
        };
        let all = Conditions::of(&filter, Some(EntryId(999))).map_err(|_| "conditions").unwrap();
        assert_eq!(all.values().len(), 7);
        let text = "true AND business = $1 AND phone = $2 AND state = $3 AND backend = $4 AND created >= $5 \
                    AND created < $6 AND id < $7 AND key IS NULL";
        assert_eq!(all.sql, text);
    }
}
