//! One SQLite file that the processes of a machine share: the connection, its thread and its tables.
//!
//! In: closures that work on a transaction. Out: what they return. A thread of its own owns the connection, so waiting
//! for the disk or for another process never holds up calls; its line of jobs is bounded and makes callers wait. Each
//! job is one `BEGIN IMMEDIATE` transaction: it is alone in the file from its first read on, which is all the atomicity
//! that the stores' contracts ask for.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::error::StoreError;
use crate::time::Timestamp;

/// How many jobs may wait for the connection.
const LINE: usize = 1024;
/// How long a job waits while another process writes.
const BUSY: Duration = Duration::from_secs(5);
/// The version of the tables below.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE entries (
    id BLOB PRIMARY KEY,
    key TEXT,               -- of a live entry
    business TEXT NOT NULL,
    phone TEXT NOT NULL,
    state TEXT NOT NULL,
    backend TEXT,
    created INTEGER NOT NULL,
    deadline INTEGER,       -- of an entry that can expire
    finished INTEGER,       -- of an entry that is over
    finish_order INTEGER,
    body TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX entries_key ON entries (key) WHERE key IS NOT NULL;
CREATE INDEX entries_deadline ON entries (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX entries_finished ON entries (finish_order) WHERE finish_order IS NOT NULL;
CREATE TABLE counts (live INTEGER NOT NULL, finished INTEGER NOT NULL, next INTEGER NOT NULL);
INSERT INTO counts VALUES (0, 0, 0);
CREATE TABLE leases (
    lease BLOB PRIMARY KEY,
    account TEXT NOT NULL,
    expires INTEGER NOT NULL,
    attempt INTEGER,        -- the owner's claim; null while it is only reserved
    claim_no INTEGER,
    incarnation INTEGER
) WITHOUT ROWID;
CREATE INDEX leases_account ON leases (account, expires);
CREATE INDEX leases_expires ON leases (expires);
CREATE TABLE backends (
    id TEXT PRIMARY KEY,
    region TEXT NOT NULL,
    until INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    body TEXT NOT NULL
) WITHOUT ROWID;
";

/// Tables that a file of the same version may lack.
const LATER_TABLES: &str = "
CREATE TABLE IF NOT EXISTS following_trunks (trunk TEXT PRIMARY KEY) WITHOUT ROWID;
";

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A shared file, open. Clones share the connection; the last one to go closes it.
#[derive(Debug, Clone)]
pub struct Database {
    jobs: mpsc::Sender<Job>,
}

/// What can go wrong inside a job.
pub(crate) enum Fault {
    /// SQLite's own error.
    Sql(rusqlite::Error),
    /// A stored body that cannot be read, or a value that cannot be written.
    Body(serde_json::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Body(error)
    }
}

impl Fault {
    fn of(self, store: &'static str) -> StoreError {
        match self {
            Self::Sql(error) => StoreError::Away { store, why: error.to_string() },
            Self::Body(error) => StoreError::Unreadable { store, why: error.to_string() },
        }
    }
}

impl Database {
    /// Opens the file, and makes it and its tables where they are not there. Blocks for the disk; call it at the start.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be opened or written, or is of another version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let away = |error: rusqlite::Error| StoreError::Away {
            store: "sqlite",
            why: format!("{} cannot be opened: {error}", path.display()),
        };
        let mut connection = Connection::open(path).map_err(away)?;
        let version = prepare(&mut connection).map_err(away)?;
        if version != VERSION {
            let why = format!("{} has tables of version {version}, not {VERSION}", path.display());
            return Err(StoreError::Unreadable { store: "sqlite", why });
        }
        let (jobs, mut line) = mpsc::channel::<Job>(LINE);
        let thread = std::thread::Builder::new().name("iqra-sqlite".to_owned()).spawn(move || {
            while let Some(job) = line.blocking_recv() {
                job(&mut connection);
            }
        });
        let why = |error: std::io::Error| StoreError::Away { store: "sqlite", why: error.to_string() };
        thread.map_err(why).map(|_| Self { jobs })
    }

    /// Runs a job in a transaction of its own and commits it unless it fails. A job that was handed over is run even
    /// if nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        store: &'static str,
        job: impl FnOnce(&Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Away { store, why: "its thread has ended".to_owned() };
        let (reply, replied) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let _nobody_waits = reply.send(in_transaction(connection, job));
        });
        self.jobs.send(job).await.map_err(|_| gone())?;
        replied.await.map_err(|_| gone())?.map_err(|fault| fault.of(store))
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    job: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = job(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

/// Settings and tables; the version of the tables that are there.
fn prepare(connection: &mut Connection) -> rusqlite::Result<i64> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    } else if version != VERSION {
        return Ok(version);
    }
    transaction.execute_batch(LATER_TABLES)?;
    transaction.commit()?;
    Ok(VERSION)
}

/// A moment as a column.
pub(crate) fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

/// A 64-bit number as a column, bit for bit.
pub(crate) fn bits(number: u64) -> i64 {
    i64::from_ne_bytes(number.to_ne_bytes())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A file of a test, deleted with it.
    pub(crate) struct Scratch(PathBuf);

    impl Scratch {
        pub(crate) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = format!("iqra-{}-{}.db", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            Self(std::env::temp_dir().join(name))
        }

        /// One more connection, as another process would have.
        pub(crate) fn open(&self) -> Database {
            Database::open(&self.0).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            for suffix in ["", "-wal", "-shm"] {
                let _gone = std::fs::remove_file(format!("{}{suffix}", self.0.display()));
            }
        }
    }

    #[tokio::test]
    async fn a_failed_job_leaves_nothing_behind() {
        let scratch = Scratch::new();
        let database = scratch.open();
        let failed = database
            .run("test", |tx| {
                tx.execute("UPDATE counts SET next = 7", [])?;
                tx.execute("UPDATE nothing SET x = 1", [])?;
                Ok(())
            })
            .await;
        assert!(matches!(failed, Err(StoreError::Away { store: "test", .. })));
        let next =
            database.run("test", |tx| Ok(tx.query_row("SELECT next FROM counts", [], |row| row.get(0))?));
        assert_eq!(next.await, Ok(0));
    }

    #[test]
    fn a_file_of_another_version_and_a_path_that_cannot_be_are_named() {
        let scratch = Scratch::new();
        drop(scratch.open());
        Connection::open(&scratch.0).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Database::open(&scratch.0).unwrap_err();
        assert!(error.to_string().contains("version 99"), "{error}");
        let error = Database::open("/no/such/folder/calls.db").unwrap_err();
        assert!(error.to_string().contains("/no/such/folder"), "{error}");
    }
}
