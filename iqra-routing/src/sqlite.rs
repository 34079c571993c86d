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

/// How many jobs may wait for the connection.
const LINE: usize = 1024;
/// How long a job waits while another process writes.
const BUSY: Duration = Duration::from_secs(5);
/// What makes version n of version n - 1, from 1 on. A script that was released is never changed.
const SCRIPTS: [&str; 2] = [CALLS, NUMBERS];
/// The version of the tables that this program works with.
const VERSION: usize = SCRIPTS.len();

const CALLS: &str = "
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

const NUMBERS: &str = r#"
UPDATE entries SET state = trim(state, '"');
CREATE TABLE following_trunks (trunk TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE accounts (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE businesses (id TEXT PRIMARY KEY, account TEXT NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE trunks (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE trunk_networks (network TEXT, trunk TEXT, PRIMARY KEY (network, trunk)) WITHOUT ROWID;
CREATE INDEX trunk_networks_trunk ON trunk_networks (trunk);
CREATE TABLE numbers (
    business TEXT,
    phone TEXT,
    dialled TEXT NOT NULL,
    trunk TEXT,
    any_source INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (business, phone)
) WITHOUT ROWID;
CREATE UNIQUE INDEX numbers_on_trunk ON numbers (trunk, dialled) WHERE trunk IS NOT NULL;
CREATE INDEX numbers_dialled ON numbers (dialled);
CREATE TABLE number_networks (network TEXT, business TEXT, phone TEXT, PRIMARY KEY (network, business, phone))
    WITHOUT ROWID;
CREATE INDEX number_networks_number ON number_networks (business, phone);
"#;

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
        if version > VERSION {
            let why = format!(
                "{} has tables of version {version} and this program knows {VERSION}; update this program as the one \
                 that brought them there was",
                path.display()
            );
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

/// Settings and tables; the version of the tables that are there then.
fn prepare(connection: &mut Connection) -> rusqlite::Result<usize> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version >= VERSION {
        return Ok(version);
    }
    for script in &SCRIPTS[version..] {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "user_version", i64::try_from(VERSION).unwrap_or(i64::MAX))?;
    transaction.commit()?;
    Ok(VERSION)
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

    #[tokio::test]
    async fn a_file_of_an_earlier_version_is_brought_to_this_one() {
        let scratch = Scratch::new();
        let old = Connection::open(&scratch.0).unwrap();
        old.execute_batch(CALLS).unwrap();
        old.execute(
            "INSERT INTO entries VALUES ('i', NULL, 'b', 'p', '\"failed\"', NULL, 1, NULL, 2, 0, '{}')",
            [],
        )
        .unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let database = scratch.open();
        let read = database.run("test", |tx| {
            let numbers: i64 = tx.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0))?;
            let state: String = tx.query_row("SELECT state FROM entries", [], |row| row.get(0))?;
            Ok((numbers, state))
        });
        assert_eq!(read.await, Ok((0, "failed".to_owned())));
    }

    #[test]
    fn a_file_of_another_version_and_a_path_that_cannot_be_are_named() {
        let scratch = Scratch::new();
        drop(scratch.open());
        Connection::open(&scratch.0).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Database::open(&scratch.0).unwrap_err();
        assert!(error.to_string().contains("version 99") && error.to_string().contains("update"), "{error}");
        let error = Database::open("/no/such/folder/calls.db").unwrap_err();
        assert!(error.to_string().contains("/no/such/folder"), "{error}");
    }
}
