//! Slot leases in the shared SQLite file.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Transaction, params};

use super::{Ask, PlanLimits, Renewal, Slot};
use crate::columns::{bits, from_bits, millis};
use crate::error::StoreError;
use crate::handover::table::Expect;
use crate::identity::{AccountId, EntryId, Incarnation};
use crate::sqlite::{Database, Fault};
use crate::time::Timestamp;

const STORE: &str = "limits";

/// A [`PlanLimits`] in a SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteLimits {
    database: Database,
}

/// An [`Ask`] that can go to the connection's thread.
struct Owned {
    lease: EntryId,
    account: AccountId,
    limit: u32,
    expires: Timestamp,
}

impl Owned {
    fn of(ask: &Ask<'_>, now: Timestamp) -> Self {
        Self { lease: ask.lease, account: ask.account.clone(), limit: ask.limit, expires: now + ask.life }
    }
}

impl SqliteLimits {
    /// The leases in this file.
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

fn key(lease: EntryId) -> [u8; 16] {
    lease.0.to_be_bytes()
}

/// The owner of a lease that has not expired; the outer `None` where there is no such lease.
fn owner(tx: &Transaction<'_>, lease: EntryId, now: Timestamp) -> Result<Option<Option<Expect>>, Fault> {
    let owner = tx
        .prepare_cached("SELECT attempt, claim_no, incarnation FROM leases WHERE lease = ? AND expires > ?")?
        .query_row(params![key(lease), millis(now)], |row| {
            let Some(attempt) = row.get::<_, Option<u32>>(0)? else { return Ok(None) };
            let incarnation = from_bits(row.get(2)?);
            Ok(Some(Expect { attempt, claim_no: row.get(1)?, incarnation: Incarnation(incarnation) }))
        });
    Ok(owner.optional()?)
}

fn used(tx: &Transaction<'_>, account: &AccountId, now: Timestamp) -> Result<u32, Fault> {
    let mut count = tx.prepare_cached("SELECT count(*) FROM leases WHERE account = ? AND expires > ?")?;
    Ok(count.query_row(params![account.as_str(), millis(now)], |row| row.get(0))?)
}

fn put(tx: &Transaction<'_>, ask: &Owned, owner: Option<Expect>) -> Result<(), Fault> {
    tx.prepare_cached("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?)")?.execute(params![
        key(ask.lease),
        ask.account.as_str(),
        millis(ask.expires),
        owner.map(|owner| owner.attempt),
        owner.map(|owner| owner.claim_no),
        owner.map(|owner| bits(owner.incarnation.0)),
    ])?;
    Ok(())
}

/// A lease that is not there yet, within the limit.
fn insert(tx: &Transaction<'_>, ask: &Owned, owner: Option<Expect>, now: Timestamp) -> Result<Slot, Fault> {
    if used(tx, &ask.account, now)? >= ask.limit {
        return Ok(Slot::Full);
    }
    put(tx, ask, owner)?;
    Ok(Slot::Reserved)
}

fn reserve(tx: &Transaction<'_>, ask: &Owned, now: Timestamp) -> Result<Slot, Fault> {
    match owner(tx, ask.lease, now)? {
        None => return insert(tx, ask, None, now),
        Some(None) => put(tx, ask, None)?,
        Some(Some(_)) => {}
    }
    Ok(Slot::Reserved)
}

fn take_over(tx: &Transaction<'_>, ask: &Owned, asking: Expect, now: Timestamp) -> Result<Slot, Fault> {
    let later = |present: Expect| (present.attempt, present.claim_no) > (asking.attempt, asking.claim_no);
    match owner(tx, ask.lease, now)? {
        None => return insert(tx, ask, Some(asking), now),
        Some(Some(present)) if later(present) => return Ok(Slot::Full),
        Some(_) => put(tx, ask, Some(asking))?,
    }
    Ok(Slot::Reserved)
}

fn renew(
    tx: &Transaction<'_>,
    lease: EntryId,
    asking: Expect,
    expires: Timestamp,
    now: Timestamp,
) -> Result<Renewal, Fault> {
    match owner(tx, lease, now)? {
        None => Ok(Renewal::Lost),
        Some(present) if present != Some(asking) => Ok(Renewal::NotOwner),
        Some(_) => {
            let mut extend = tx.prepare_cached("UPDATE leases SET expires = ? WHERE lease = ?")?;
            extend.execute(params![millis(expires), key(lease)])?;
            Ok(Renewal::Renewed)
        }
    }
}

fn free(tx: &Transaction<'_>, lease: EntryId) -> Result<bool, Fault> {
    Ok(tx.prepare_cached("DELETE FROM leases WHERE lease = ?")?.execute([key(lease)])? > 0)
}

#[async_trait]
impl PlanLimits for SqliteLimits {
    async fn reserve(&self, ask: Ask<'_>, now: Timestamp) -> Result<Slot, StoreError> {
        let ask = Owned::of(&ask, now);
        self.database.run(STORE, move |tx| reserve(tx, &ask, now)).await
    }

    async fn take_over(&self, ask: Ask<'_>, owner: Expect, now: Timestamp) -> Result<Slot, StoreError> {
        let ask = Owned::of(&ask, now);
        self.database.run(STORE, move |tx| take_over(tx, &ask, owner, now)).await
    }

    async fn renew(
        &self,
        lease: EntryId,
        owner: Expect,
        life: Duration,
        now: Timestamp,
    ) -> Result<Renewal, StoreError> {
        self.database.run(STORE, move |tx| renew(tx, lease, owner, now + life, now)).await
    }

    async fn release(&self, lease: EntryId, asking: Expect, now: Timestamp) -> Result<bool, StoreError> {
        let released = self.database.run(STORE, move |tx| {
            let owned = owner(tx, lease, now)? == Some(Some(asking));
            Ok(owned && free(tx, lease)?)
        });
        released.await
    }

    async fn free(&self, lease: EntryId, _now: Timestamp) -> Result<bool, StoreError> {
        self.database.run(STORE, move |tx| free(tx, lease)).await
    }

    async fn used(&self, account: &AccountId, now: Timestamp) -> Result<u32, StoreError> {
        let account = account.clone();
        self.database.run(STORE, move |tx| used(tx, &account, now)).await
    }

    async fn sweep(&self, now: Timestamp) -> Result<usize, StoreError> {
        let swept = self.database.run(STORE, move |tx| {
            Ok(tx.prepare_cached("DELETE FROM leases WHERE expires <= ?")?.execute([millis(now)])?)
        });
        swept.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::tests::Scratch;
    use std::sync::Arc;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn it_keeps_the_contract() {
        let scratch = Scratch::new();
        crate::limits::conformance::conforms(Arc::new(SqliteLimits::new(scratch.open()))).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn two_processes_together_reserve_exactly_the_limit() {
        const LIMIT: u32 = 7;
        let scratch = Scratch::new();
        let start = Timestamp::from_millis(1_000_000);
        let mut calls = tokio::task::JoinSet::new();
        let processes = [scratch.open(), scratch.open()].map(SqliteLimits::new);
        for n in 0..60u128 {
            let limits = processes[(n % 2) as usize].clone();
            calls.spawn(async move {
                let account = "acme".parse().unwrap();
                let ask =
                    Ask { lease: EntryId(n), account: &account, limit: LIMIT, life: Duration::from_secs(9) };
                limits.reserve(ask, start).await.unwrap()
            });
        }
        let reserved = calls.join_all().await.into_iter().filter(|slot| *slot == Slot::Reserved).count();
        assert_eq!(reserved, LIMIT as usize);
        assert_eq!(processes[0].used(&"acme".parse().unwrap(), start).await, Ok(LIMIT));
    }
}
