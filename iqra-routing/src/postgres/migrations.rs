//! The tables' versions: numbered scripts, each run once, by one node, however many start at the same time.

use tokio_postgres::Client;

use super::Fault;
use crate::error::StoreError;

/// What makes version n of version n - 1, from 1 on. A script that was released is never changed.
const SCRIPTS: [&str; 1] = [include_str!("1.sql")];
/// The version that this program works with.
const VERSION: usize = SCRIPTS.len();
/// The advisory lock under which scripts run: "iqra" in ASCII.
const LOCK: i64 = 0x6971_7261;
/// How long a node waits for another one's scripts, and a script may take: indexes are built over what is there.
const PATIENCE: &str = "SET LOCAL statement_timeout = '10min'; SET LOCAL lock_timeout = '10min'";

/// Brings the tables to [`VERSION`].
pub(super) async fn run(client: &Client) -> Result<(), Fault> {
    check_encoding(client).await?;
    if version(client).await? == VERSION {
        return Ok(()); // nothing to write: a node without the right to make tables may start
    }
    client.batch_execute("BEGIN").await?;
    client.batch_execute(PATIENCE).await?;
    client.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let script = "CREATE SCHEMA IF NOT EXISTS iqra;
        CREATE TABLE IF NOT EXISTS iqra.versions (version integer PRIMARY KEY, made timestamptz NOT NULL)";
    client.batch_execute(script).await?;
    for (number, script) in (1i32..).zip(SCRIPTS).skip(version(client).await?) {
        client.batch_execute(script).await?;
        client.execute("INSERT INTO iqra.versions VALUES ($1, now())", &[&number]).await?;
        tracing::info!(version = number, "the database's tables were brought to a new version");
    }
    Ok(client.batch_execute("COMMIT").await?)
}

/// The tables' version, 0 where there are none.
async fn version(client: &Client) -> Result<usize, Fault> {
    let there = client.query_one("SELECT to_regclass('iqra.versions') IS NOT NULL", &[]).await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let newest = client.query_one("SELECT coalesce(max(version), 0) FROM iqra.versions", &[]).await?;
    let newest = usize::try_from(newest.try_get::<_, i32>(0)?).unwrap_or(usize::MAX);
    if newest > VERSION {
        let why = format!(
            "the database's tables are of version {newest} and this program knows {VERSION}; update this program as \
             the one that brought them there was"
        );
        return Err(Fault::Told(StoreError::Unreadable { store: "postgres", why }));
    }
    Ok(newest)
}

async fn check_encoding(client: &Client) -> Result<(), Fault> {
    let row = client.query_one("SHOW server_encoding", &[]).await?;
    let encoding: String = row.try_get(0)?;
    if encoding == "UTF8" {
        return Ok(());
    }
    let why =
        format!("the database's encoding is {encoding}; create it with ENCODING 'UTF8' TEMPLATE template0");
    Err(Fault::Told(StoreError::Unreadable { store: "postgres", why }))
}
