//! Backends' reports in PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::Row;

use super::{BackendRegistry, BackendState, BackendStatus, Report};
use crate::error::StoreError;
use crate::identity::{BackendId, Incarnation, RegionId};
use crate::postgres::{CLOCK, Database, Done, Fault, Session, StoreClock};
use crate::time::Timestamp;

const STORE: &str = "backends";
/// The most backends that the table holds.
const MOST: i64 = 10_000;

/// A [`BackendRegistry`] on a PostgreSQL server.
#[derive(Clone)]
pub struct PostgresBackends {
    database: Database,
    clock: StoreClock,
}

/// A start as a column that sorts as it does.
fn start(incarnation: Incarnation) -> i64 {
    (incarnation.0 ^ (1 << 63)).cast_signed()
}

impl PostgresBackends {
    /// The reports on this server.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, clock: StoreClock::default() }
    }

    /// The same by another clock.
    #[must_use]
    pub fn clock(self, clock: StoreClock) -> Self {
        Self { clock, ..self }
    }

    async fn report_in(
        &self,
        mut session: Session,
        status: &BackendStatus,
        life: Duration,
        now: Timestamp,
    ) -> Done<Report> {
        if self.put(&mut session, status, life, now).await? {
            return Ok((session, Report::Taken));
        }
        let known = "SELECT FROM iqra.backends WHERE id = $1";
        if session.row(known, &[&status.id.as_str()]).await?.is_some() {
            return Ok((session, Report::Superseded));
        }
        let expired = format!("DELETE FROM iqra.backends WHERE until <= coalesce($1, {CLOCK})");
        session.execute(&expired, &[&self.clock.parameter(now)]).await?;
        let taken = self.put(&mut session, status, life, now).await?;
        Ok((session, if taken { Report::Taken } else { Report::Full }))
    }

    /// Puts a status in place of the last one, unless that one counts and is of a later start, or there is no room.
    async fn put(
        &self,
        session: &mut Session,
        status: &BackendStatus,
        life: Duration,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        let put = format!(
            "INSERT INTO iqra.backends AS b SELECT $1::text, $2::text, coalesce($3, {CLOCK}) + $4, $5::bigint, $6::text
             WHERE EXISTS (SELECT FROM iqra.backends WHERE id = $1) OR (SELECT count(*) FROM iqra.backends) < $7
             ON CONFLICT (id) DO UPDATE SET region = excluded.region, until = excluded.until,
                 incarnation = excluded.incarnation, body = excluded.body
             WHERE b.until <= coalesce($3, {CLOCK}) OR b.incarnation <= excluded.incarnation"
        );
        let (id, region, body) = (status.id.as_str(), status.region.as_str(), serde_json::to_string(status)?);
        let (at, life) = (self.clock.parameter(now), i64::try_from(life.as_millis()).unwrap_or(i64::MAX / 2));
        let start = start(status.incarnation);
        Ok(session.execute(&put, &[&id, &region, &at, &life, &start, &body, &MOST]).await? > 0)
    }

    async fn list_in(
        &self,
        mut session: Session,
        region: Option<&RegionId>,
        now: Timestamp,
    ) -> Done<Vec<Arc<BackendStatus>>> {
        let all = format!(
            "SELECT body, id, region, incarnation FROM iqra.backends WHERE until > coalesce($1, {CLOCK})"
        );
        let at = self.clock.parameter(now);
        let rows = match region {
            None => session.rows(&format!("{all} ORDER BY id"), &[&at]).await?,
            Some(region) => {
                let of_region = format!("{all} AND region = $2 ORDER BY id");
                session.rows(&of_region, &[&at, &region.as_str()]).await?
            }
        };
        let list: Result<Vec<_>, Fault> = rows
            .iter()
            .map(status)
            .filter_map(Result::transpose)
            .map(|status| Ok(Arc::new(status?)))
            .collect();
        Ok((session, list?))
    }
}

/// The report in a row of body, id, region and incarnation. One that cannot be read, as of a newer version, keeps nobody
/// from the others: its backend lives, and gets no calls.
fn status(row: &Row) -> Result<Option<BackendStatus>, Fault> {
    if let Ok(status) = serde_json::from_str(row.try_get(0)?) {
        return Ok(Some(status));
    }
    let id: &str = row.try_get(1)?;
    tracing::warn!(
        backend = id,
        "a report cannot be read by this version: this backend gets no calls from here"
    );
    let (Ok(id), Ok(region)) = (id.parse(), row.try_get::<_, &str>(2)?.parse()) else { return Ok(None) };
    let incarnation = Incarnation(row.try_get::<_, i64>(3)?.cast_unsigned() ^ (1 << 63));
    let state = BackendState::Maintenance;
    Ok(Some(BackendStatus {
        id,
        region,
        incarnation,
        sip_uris: [].into(),
        media_url: None,
        capacity: 0,
        calls: 0,
        cpu: 0.0,
        state,
        development: false,
    }))
}

#[async_trait]
impl BackendRegistry for PostgresBackends {
    async fn report(
        &self,
        status: BackendStatus,
        life: Duration,
        now: Timestamp,
    ) -> Result<Report, StoreError> {
        self.database.run(STORE, |session| self.report_in(session, &status, life, now)).await
    }

    async fn list(
        &self,
        region: Option<&RegionId>,
        now: Timestamp,
    ) -> Result<Vec<Arc<BackendStatus>>, StoreError> {
        self.database.run(STORE, |session| self.list_in(session, region, now)).await
    }

    async fn withdraw(
        &self,
        id: &BackendId,
        incarnation: Incarnation,
        _now: Timestamp,
    ) -> Result<bool, StoreError> {
        let delete = "DELETE FROM iqra.backends WHERE id = $1 AND incarnation = $2";
        let withdrawn = self.database.run(STORE, |mut session| async move {
            let deleted = session.execute(delete, &[&id.as_str(), &start(incarnation)]).await?;
            Ok((session, deleted > 0))
        });
        withdrawn.await
    }
}
