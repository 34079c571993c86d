//! Slot leases in PostgreSQL. A function of the database's own reserves: one round trip, and no lock that outlives it.

use std::time::Duration;

use async_trait::async_trait;

use super::{Ask, PlanLimits, Renewal, Slot};
use crate::columns::bits;
use crate::error::StoreError;
use crate::handover::table::Expect;
use crate::identity::{AccountId, EntryId};
use crate::postgres::{CLOCK, Database, Done, Session, StoreClock};
use crate::time::Timestamp;

const STORE: &str = "limits";

/// A [`PlanLimits`] on a PostgreSQL server.
#[derive(Clone)]
pub struct PostgresLimits {
    database: Database,
    clock: StoreClock,
}

/// An owner as columns.
type Owner = (Option<i64>, Option<i64>, Option<i64>);

fn owner_columns(owner: Option<Expect>) -> Owner {
    let owner = owner.map(|owner| (owner.attempt.into(), owner.claim_no.into(), bits(owner.incarnation.0)));
    (owner.map(|owner| owner.0), owner.map(|owner| owner.1), owner.map(|owner| owner.2))
}

fn key(lease: EntryId) -> [u8; 16] {
    lease.0.to_be_bytes()
}

fn span(life: Duration) -> i64 {
    i64::try_from(life.as_millis()).unwrap_or(i64::MAX / 2)
}

impl PostgresLimits {
    /// The leases on this server.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, clock: StoreClock::default() }
    }

    /// The same by another clock.
    #[must_use]
    pub fn clock(self, clock: StoreClock) -> Self {
        Self { clock, ..self }
    }

    async fn lease(&self, ask: Ask<'_>, owner: Option<Expect>, now: Timestamp) -> Result<Slot, StoreError> {
        let sql = format!(
            "SELECT iqra.lease($1, $2, $3, coalesce($4, {CLOCK}), coalesce($4, {CLOCK}) + $5, $6, $7, $8)"
        );
        let (attempt, claim_no, incarnation) = owner_columns(owner);
        let (limit, at) = (i64::from(ask.limit), self.clock.parameter(now));
        let leased = self.database.run(STORE, |mut session| {
            let sql = &sql;
            async move {
                let lease = key(ask.lease);
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 8] = [
                    &&lease[..],
                    &ask.account.as_str(),
                    &limit,
                    &at,
                    &span(ask.life),
                    &attempt,
                    &claim_no,
                    &incarnation,
                ];
                let row = session.row(sql, &values).await?;
                let leased = row.map(|row| row.try_get::<_, bool>(0)).transpose()?;
                Ok((session, leased.unwrap_or(false)))
            }
        });
        Ok(if leased.await? { Slot::Reserved } else { Slot::Full })
    }

    async fn renew_in(
        &self,
        mut session: Session,
        lease: EntryId,
        owner: Expect,
        life: Duration,
        now: Timestamp,
    ) -> Done<Renewal> {
        let extend = format!(
            "UPDATE iqra.leases SET expires = coalesce($2, {CLOCK}) + $3 WHERE lease = $1
             AND expires > coalesce($2, {CLOCK}) AND attempt = $4 AND claim_no = $5 AND incarnation = $6"
        );
        let there = format!("SELECT FROM iqra.leases WHERE lease = $1 AND expires > coalesce($2, {CLOCK})");
        let (at, lease) = (self.clock.parameter(now), key(lease));
        let (attempt, claim_no, incarnation) = owner_columns(Some(owner));
        let extended = session
            .execute(&extend, &[&&lease[..], &at, &span(life), &attempt, &claim_no, &incarnation])
            .await?;
        if extended > 0 {
            return Ok((session, Renewal::Renewed));
        }
        let renewal = match session.row(&there, &[&&lease[..], &at]).await? {
            Some(_) => Renewal::NotOwner,
            None => Renewal::Lost,
        };
        Ok((session, renewal))
    }

    async fn release_in(
        &self,
        mut session: Session,
        lease: EntryId,
        owner: Expect,
        now: Timestamp,
    ) -> Done<bool> {
        let delete = format!(
            "DELETE FROM iqra.leases WHERE lease = $1 AND expires > coalesce($2, {CLOCK})
             AND attempt = $3 AND claim_no = $4 AND incarnation = $5"
        );
        let (attempt, claim_no, incarnation) = owner_columns(Some(owner));
        let at = self.clock.parameter(now);
        let deleted =
            session.execute(&delete, &[&&key(lease)[..], &at, &attempt, &claim_no, &incarnation]).await?;
        Ok((session, deleted > 0))
    }

    async fn used_in(&self, mut session: Session, account: &AccountId, now: Timestamp) -> Done<u32> {
        let count = format!(
            "SELECT count(*) FROM iqra.leases WHERE account = $1 AND expires > coalesce($2, {CLOCK})"
        );
        let row = session.row(&count, &[&account.as_str(), &self.clock.parameter(now)]).await?;
        let count: i64 = row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
        Ok((session, u32::try_from(count).unwrap_or(u32::MAX)))
    }

    async fn sweep_in(&self, mut session: Session, now: Timestamp) -> Done<usize> {
        // Nodes that sweep at once leave each other's rows alone.
        let sweep = format!(
            "DELETE FROM iqra.leases WHERE ctid = ANY (ARRAY (
                 SELECT ctid FROM iqra.leases WHERE expires <= coalesce($1, {CLOCK}) FOR UPDATE SKIP LOCKED))"
        );
        let swept = session.execute(&sweep, &[&self.clock.parameter(now)]).await?;
        Ok((session, usize::try_from(swept).unwrap_or(usize::MAX)))
    }
}

#[async_trait]
impl PlanLimits for PostgresLimits {
    async fn reserve(&self, ask: Ask<'_>, now: Timestamp) -> Result<Slot, StoreError> {
        self.lease(ask, None, now).await
    }

    async fn take_over(&self, ask: Ask<'_>, owner: Expect, now: Timestamp) -> Result<Slot, StoreError> {
        self.lease(ask, Some(owner), now).await
    }

    async fn renew(
        &self,
        lease: EntryId,
        owner: Expect,
        life: Duration,
        now: Timestamp,
    ) -> Result<Renewal, StoreError> {
        self.database.run(STORE, |session| self.renew_in(session, lease, owner, life, now)).await
    }

    async fn release(&self, lease: EntryId, owner: Expect, now: Timestamp) -> Result<bool, StoreError> {
        self.database.run(STORE, |session| self.release_in(session, lease, owner, now)).await
    }

    async fn free(&self, lease: EntryId, _now: Timestamp) -> Result<bool, StoreError> {
        let freed = self.database.run(STORE, |mut session| async move {
            let delete = "DELETE FROM iqra.leases WHERE lease = $1";
            let freed = session.execute(delete, &[&&key(lease)[..]]).await?;
            Ok((session, freed > 0))
        });
        freed.await
    }

    async fn used(&self, account: &AccountId, now: Timestamp) -> Result<u32, StoreError> {
        self.database.run(STORE, |session| self.used_in(session, account, now)).await
    }

    async fn sweep(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.database.run(STORE, |session| self.sweep_in(session, now)).await
    }
}
