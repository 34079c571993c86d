//! Backends' reports in the shared SQLite file.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Transaction, params};

use super::{BackendRegistry, BackendStatus, Report};
use crate::columns::{bits, from_bits, millis};
use crate::error::StoreError;
use crate::identity::{BackendId, Incarnation, RegionId};
use crate::sqlite::{Database, Fault};
use crate::time::Timestamp;

const STORE: &str = "backends";
/// The most backends that the file holds.
const MOST: i64 = 10_000;

/// A [`BackendRegistry`] in a SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteBackends {
    database: Database,
}

impl SqliteBackends {
    /// The reports in this file.
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

/// Until when the last report counts, and of which incarnation it is.
fn last(tx: &Transaction<'_>, id: &BackendId) -> Result<Option<(i64, Incarnation)>, Fault> {
    let last = tx.prepare_cached("SELECT until, incarnation FROM backends WHERE id = ?")?.query_row(
        [id.as_str()],
        |row| {
            let incarnation = from_bits(row.get(1)?);
            Ok((row.get(0)?, Incarnation(incarnation)))
        },
    );
    Ok(last.optional()?)
}

fn has_room(tx: &Transaction<'_>, now: Timestamp) -> Result<bool, Fault> {
    tx.prepare_cached("DELETE FROM backends WHERE until <= ?")?.execute([millis(now)])?;
    let count: i64 = tx.prepare_cached("SELECT count(*) FROM backends")?.query_row([], |row| row.get(0))?;
    Ok(count < MOST)
}

fn report(
    tx: &Transaction<'_>,
    status: &BackendStatus,
    until: Timestamp,
    now: Timestamp,
) -> Result<Report, Fault> {
    match last(tx, &status.id)? {
        Some((last_until, incarnation)) if last_until > millis(now) && incarnation > status.incarnation => {
            return Ok(Report::Superseded);
        }
        None if !has_room(tx, now)? => return Ok(Report::Full),
        _ => {}
    }
    tx.prepare_cached("INSERT OR REPLACE INTO backends VALUES (?, ?, ?, ?, ?)")?.execute(params![
        status.id.as_str(),
        status.region.as_str(),
        millis(until),
        bits(status.incarnation.0),
        serde_json::to_string(status)?,
    ])?;
    Ok(Report::Taken)
}

#[async_trait]
impl BackendRegistry for SqliteBackends {
    async fn report(
        &self,
        status: BackendStatus,
        life: Duration,
        now: Timestamp,
    ) -> Result<Report, StoreError> {
        self.database.run(STORE, move |tx| report(tx, &status, now + life, now)).await
    }

    async fn list(
        &self,
        region: Option<&RegionId>,
        now: Timestamp,
    ) -> Result<Vec<Arc<BackendStatus>>, StoreError> {
        let region = region.map(|region| region.as_str().to_owned());
        let list = self.database.run(STORE, move |tx| {
            let bodies: Vec<String> = tx
                .prepare_cached(
                    "SELECT body FROM backends WHERE until > ?1 AND (?2 IS NULL OR region = ?2) ORDER BY id",
                )?
                .query_map(params![millis(now), region], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok(bodies
                .iter()
                .map(|body| serde_json::from_str(body).map(Arc::new))
                .collect::<Result<_, _>>()?)
        });
        list.await
    }

    async fn withdraw(
        &self,
        id: &BackendId,
        incarnation: Incarnation,
        _now: Timestamp,
    ) -> Result<bool, StoreError> {
        let id = id.clone();
        let withdrawn = self.database.run(STORE, move |tx| {
            let mut delete = tx.prepare_cached("DELETE FROM backends WHERE id = ? AND incarnation = ?")?;
            Ok(delete.execute(params![id.as_str(), bits(incarnation.0)])? > 0)
        });
        withdrawn.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::sample;
    use crate::sqlite::tests::Scratch;

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let scratch = Scratch::new();
        crate::backends::conformance::conforms(&SqliteBackends::new(scratch.open())).await;
    }

    #[tokio::test]
    async fn what_one_process_reports_another_one_sees() {
        let scratch = Scratch::new();
        let (backend, proxy) = (SqliteBackends::new(scratch.open()), SqliteBackends::new(scratch.open()));
        let start = Timestamp::from_millis(0);
        let status =
            BackendStatus { cpu: 0.25, incarnation: Incarnation(u64::MAX), ..sample::status("b1", "eu") };
        backend.report(status.clone(), Duration::from_secs(8), start).await.unwrap();
        assert_eq!(proxy.list(None, start).await, Ok(vec![Arc::new(status)]));
    }
}
