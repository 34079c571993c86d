//! A PostgreSQL server that the machines of a fleet share: its connections, its tables, and what its errors mean here.
//!
//! In: jobs on a [`Session`]. Out: what they return, or [`StoreError::Away`] within a bounded time. A job that fails
//! loses its connection, so that nothing half-done is left on one, and what the next one gets is as new. A connection that
//! turns out to be dead (the server was restarted) is replaced and the job repeated once; every step of the stores may be
//! repeated. While the server refuses connections, jobs are refused at once, and it is asked again four times a second.
//!
//! | bound | default | beyond it |
//! |---|---|---|
//! | connections | 10 | jobs wait |
//! | acquire | 1 s | the job is refused |
//! | connect | 2 s | the job is refused, and the next ones for 250 ms |
//! | statement | 2 s | the server gives the statement up, or else this side does, and the connection is closed |
//!
//! Statements are prepared once per connection, so a pooler in between must keep sessions (`pool_mode = session`). Values
//! go as parameters, never into the text of a statement; names of tables and columns are this program's own.

mod listen;
mod migrations;
mod tls;

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Connection, Row, Socket, Statement};

use crate::config::{PASSWORD_ENV, Postgres};
use crate::error::StoreError;
use crate::time::Timestamp;
use tls::Secure;

/// How long nobody tries to connect after the server refused.
const REST: Duration = Duration::from_millis(250);
/// How many statements a connection keeps prepared.
const PREPARED: usize = 256;
/// What the name is under which connections show in `pg_stat_activity`.
const APPLICATION: &str = "iqra";
/// How long the network may hide that the server's machine is gone.
const SILENCE: Duration = Duration::from_secs(10);

/// The server's clock in SQL, as a column: the start of the transaction.
pub(crate) const CLOCK: &str = "(extract(epoch FROM now()) * 1000)::bigint";

/// Whose clock a shared store goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreClock {
    /// The server's: `now` of a call, and moments that it names, count as how far they are apart. So nodes whose clocks
    /// differ agree about what has expired. Default.
    #[default]
    Server,
    /// The caller's, as stores in memory do; for tests on virtual time.
    Caller,
}

impl StoreClock {
    /// The time of a step: `server` is what [`CLOCK`] said in it.
    pub(crate) fn now(self, caller: Timestamp, server: i64) -> Timestamp {
        match self {
            Self::Caller => caller,
            Self::Server => Timestamp::from_millis(u64::try_from(server).unwrap_or_default()),
        }
    }

    /// The time of a step as a parameter, null for the server's.
    pub(crate) fn parameter(self, caller: Timestamp) -> Option<i64> {
        (self == Self::Caller).then(|| crate::columns::millis(caller))
    }
}

/// A server's database, ready. Clones share the connections.
#[derive(Clone)]
pub struct Database(Arc<Shared>);

struct Shared {
    hosts: Vec<Config>,
    /// Which of them answered last.
    answered: AtomicUsize,
    tls: Secure,
    settings: Postgres,
    room: Semaphore,
    idle: Mutex<Vec<Session>>,
    /// Since when the server refuses, and how.
    refusing: Mutex<Option<(Instant, String)>>,
}

/// A new connection, and what moves its octets.
type Dialled = (Client, Connection<Socket, tls::Secured<Socket>>);

/// One connection, in the hands of one job.
pub(crate) struct Session {
    client: Client,
    prepared: HashMap<String, Statement>,
    used: bool,
}

/// What a job comes back with: its session, still usable, and what it found.
pub(crate) type Done<T> = Result<(Session, T), Fault>;

/// What can go wrong inside a job.
pub(crate) enum Fault {
    /// The server's error, or the connection's.
    Sql(tokio_postgres::Error),
    /// A stored body that cannot be read, or a value that cannot be written.
    Body(serde_json::Error),
    /// It took too long.
    Late(Duration),
    /// So many others wrote the same row that this one was never in time.
    Contended,
    /// Anything else, as the caller hears it.
    Told(StoreError),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
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
            Self::Sql(error) => StoreError::Away { store, why: told(&error) },
            Self::Body(error) => StoreError::Unreadable { store, why: error.to_string() },
            Self::Late(limit) => StoreError::Away { store, why: format!("no answer within {limit:?}") },
            Self::Contended => StoreError::Away { store, why: "too many writers of one row".to_owned() },
            Self::Told(StoreError::Away { why, .. }) => StoreError::Away { store, why },
            Self::Told(other) => other,
        }
    }

    /// Whether the connection was lost, or the server asks to repeat what it undid.
    fn may_be_repeated(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        let lost =
            error.is_closed() || error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
        lost || error.code().is_some_and(|code| {
            let restart = [
                SqlState::ADMIN_SHUTDOWN,
                SqlState::CRASH_SHUTDOWN,
                SqlState::T_R_DEADLOCK_DETECTED,
                SqlState::T_R_SERIALIZATION_FAILURE,
                SqlState::READ_ONLY_SQL_TRANSACTION, // the primary has become a standby
            ];
            restart.contains(code)
        })
    }
}

/// An error without the values that the server's details may repeat.
fn told(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => format!("{} (SQLSTATE {})", said.message(), said.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Database {
    /// Connects, and brings the tables to this program's version; many nodes may do so at the same time.
    ///
    /// # Errors
    /// [`StoreError`] when the URL or a file is not usable, the server does not answer, or its tables are newer than this
    /// program.
    pub async fn open(settings: Postgres) -> Result<Self, StoreError> {
        let fault = |why| StoreError::Away { store: "postgres", why };
        let config = config(&settings).map_err(fault)?;
        let tls = Secure::new(settings.roots.as_deref()).map_err(fault)?;
        let room = Semaphore::new(settings.connections);
        let (idle, refusing, answered) = Default::default();
        let shared = Shared { hosts: each_host(&config), answered, tls, settings, room, idle, refusing };
        let session = shared.connect().await.map_err(|fault| fault.of("postgres"))?;
        migrations::run(&session.client).await.map_err(|fault| fault.of("postgres"))?;
        locked(&shared.idle).push(session);
        Ok(Self(Arc::new(shared)))
    }

    /// Runs a job, in autocommit unless it says otherwise.
    pub(crate) async fn run<T, F, Fut>(&self, store: &'static str, job: F) -> Result<T, StoreError>
    where
        F: Fn(Session) -> Fut,
        Fut: Future<Output = Done<T>>,
    {
        self.0.run(job).await.map_err(|fault| fault.of(store))
    }
}

impl Shared {
    async fn run<T, F, Fut>(&self, job: F) -> Result<T, Fault>
    where
        F: Fn(Session) -> Fut,
        Fut: Future<Output = Done<T>>,
    {
        let acquire = self.settings.acquire;
        let room = timeout(acquire, self.room.acquire()).await.map_err(|_| Fault::Late(acquire))?;
        let _room = room.map_err(|_| Fault::Late(acquire))?; // never closed
        let session = self.session().await?;
        let reused = session.used;
        match self.once(&job, session).await {
            Err(fault) if reused && fault.may_be_repeated() => {
                locked(&self.idle).clear(); // all of them are as old
                self.once(&job, self.session().await?).await
            }
            done => done,
        }
    }

    async fn once<T, Fut>(&self, job: &impl Fn(Session) -> Fut, session: Session) -> Result<T, Fault>
    where
        Fut: Future<Output = Done<T>>,
    {
        // The server's own limit comes first and says more; this one is for a server that is silent.
        let limit = self.settings.statement + Duration::from_millis(200);
        let (mut session, value) = timeout(limit, job(session)).await.map_err(|_| Fault::Late(limit))??;
        session.used = true;
        locked(&self.idle).push(session);
        Ok(value)
    }

    /// A connection that is idle, the last one used first, or a new one.
    async fn session(&self) -> Result<Session, Fault> {
        loop {
            let idle = locked(&self.idle).pop();
            match idle {
                Some(session) if !session.client.is_closed() => return Ok(session),
                Some(_) => {}
                None => return self.connect().await,
            }
        }
    }

    async fn connect(&self) -> Result<Session, Fault> {
        if let Some((since, why)) = &*locked(&self.refusing)
            && since.elapsed() < REST
        {
            return Err(Fault::Told(StoreError::Away { store: "postgres", why: why.clone() }));
        }
        let limit = self.settings.connect;
        let connected = self.handshake().await;
        let refused = connected.as_ref().err().map(|fault| match fault {
            Fault::Sql(error) => told(error),
            _ => format!("no connection within {limit:?}"),
        });
        *locked(&self.refusing) = refused.map(|why| (Instant::now(), why));
        connected
    }

    /// A connection to the first host that answers in time, from the one on that answered last.
    async fn dial(&self) -> Result<Dialled, Fault> {
        let (limit, first) = (self.settings.connect, self.answered.load(Ordering::Relaxed));
        let mut fault = Fault::Late(limit);
        for at in (0..self.hosts.len()).map(|step| (first + step) % self.hosts.len()) {
            fault = match timeout(limit, self.hosts[at].connect(self.tls.clone())).await {
                Ok(Ok(dialled)) => {
                    self.answered.store(at, Ordering::Relaxed);
                    return Ok(dialled);
                }
                Ok(Err(error)) => error.into(),
                Err(_) => Fault::Late(limit),
            };
        }
        Err(fault)
    }

    async fn handshake(&self) -> Result<Session, Fault> {
        let (client, connection) = self.dial().await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = told(&error), "a connection to the database ended");
            }
        });
        let session = Session { client, prepared: HashMap::new(), used: false };
        let limit = self.settings.statement.as_millis();
        // A job that was given up between two statements holds its locks no longer than this.
        // Each statement has to see what was done before it, whatever the database's owner chose.
        let words = format!(
            "SET statement_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit};
             SET default_transaction_isolation = 'read committed'"
        );
        let connect = self.settings.connect;
        timeout(connect, session.client.batch_execute(&words)).await.map_err(|_| Fault::Late(connect))??;
        Ok(session)
    }
}

impl Session {
    /// The rows that a statement gives.
    pub(crate) async fn rows(
        &mut self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Fault> {
        let statement = self.statement(sql).await?;
        Ok(self.client.query(&statement, values).await?)
    }

    /// The only row, if there is one.
    pub(crate) async fn row(
        &mut self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, Fault> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// How many rows a statement changed.
    pub(crate) async fn execute(&mut self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Fault> {
        let statement = self.statement(sql).await?;
        Ok(self.client.execute(&statement, values).await?)
    }

    /// Runs a word of transaction control.
    pub(crate) async fn say(&mut self, word: &'static str) -> Result<(), Fault> {
        Ok(self.client.batch_execute(word).await?)
    }

    async fn statement(&mut self, sql: &str) -> Result<Statement, Fault> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        if self.prepared.len() >= PREPARED {
            self.prepared.clear();
        }
        let statement = self.client.prepare(sql).await?;
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// The constraint that a refused statement would have broken.
pub(crate) fn broken_constraint(fault: &Fault) -> Option<&str> {
    match fault {
        Fault::Sql(error) => error.as_db_error()?.constraint(),
        _ => None,
    }
}

/// What the driver is told: the URL and the password.
fn config(settings: &Postgres) -> Result<Config, String> {
    let fault = |why: String| format!("the URL of the store is not usable: {why}; see docs/config");
    let mut config: Config = settings.url.parse().map_err(|error| fault(told(&error)))?;
    if let Some(password) = password(settings)? {
        config.password(password);
    }
    // An address beside a host is what is connected to.
    let near = config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
    let local = near && config.get_hosts().iter().all(is_local);
    if !settings.url.contains("sslmode=") {
        config.ssl_mode(if local { SslMode::Disable } else { SslMode::Require });
    }
    if config.get_application_name().is_none() {
        config.application_name(APPLICATION);
    }
    Ok(config)
}

/// The same for each of its hosts alone, so that each has its own time to answer, with bounds on silence.
fn each_host(config: &Config) -> Vec<Config> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let alone = |at: usize| {
        let mut one = Config::new();
        one.ssl_mode(config.get_ssl_mode()).ssl_negotiation(config.get_ssl_negotiation());
        one.channel_binding(config.get_channel_binding());
        one.target_session_attrs(config.get_target_session_attrs());
        one.keepalives(config.get_keepalives()).keepalives_idle(SILENCE / 2);
        one.keepalives_interval(SILENCE / 5).keepalives_retries(3).tcp_user_timeout(SILENCE);
        config.get_user().map(|user| one.user(user));
        config.get_password().map(|password| one.password(password));
        config.get_dbname().map(|name| one.dbname(name));
        config.get_options().map(|options| one.options(options));
        config.get_application_name().map(|name| one.application_name(name));
        match hosts.get(at) {
            Some(Host::Tcp(name)) => drop(one.host(name)),
            #[cfg(unix)]
            Some(Host::Unix(path)) => drop(one.host_path(path)),
            None => {}
        }
        addresses.get(at).map(|address| one.hostaddr(*address));
        ports.get(at).or(ports.first()).map(|port| one.port(*port));
        one
    };
    (0..hosts.len().max(addresses.len())).map(alone).collect()
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// The password from its file, else from the environment; `None` leaves the URL's.
fn password(settings: &Postgres) -> Result<Option<String>, String> {
    let Some(file) = &settings.password_file else { return Ok(std::env::var(PASSWORD_ENV).ok()) };
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.lines().next().unwrap_or_default().to_owned())),
        Err(error) => Err(format!("database.password_file: {} cannot be read: {error}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_required_but_for_this_machine() {
        let mode = |url: &str| config(&Postgres::new(url)).map(|config| config.get_ssl_mode()).unwrap();
        for local in
            ["postgres://iqra@localhost/iqra", "postgres://127.0.0.1/x", "postgres:///iqra?host=/run/pg"]
        {
            assert_eq!(mode(local), SslMode::Disable, "{local}");
        }
        assert_eq!(mode("postgres://iqra@localhost/iqra?hostaddr=192.0.2.5"), SslMode::Require);
        assert_eq!(mode("postgres:///iqra?user=iqra&hostaddr=192.0.2.5"), SslMode::Require);
        assert_eq!(mode("postgres://iqra@db.example/iqra"), SslMode::Require);
        assert_eq!(mode("postgres://iqra@127.0.0.1,db.example/iqra"), SslMode::Require);
        assert_eq!(mode("postgres://iqra@db.example/iqra?sslmode=disable"), SslMode::Disable);
    }

    #[test]
    fn the_password_comes_from_its_file_before_the_url_and_is_not_shown() {
        let file = std::env::temp_dir().join(format!("iqra-password-{}", std::process::id()));
        std::fs::write(&file, "of the file\n").unwrap();
        let url = "postgres://iqra:of-the-url@localhost/iqra";
        let settings = Postgres { password_file: Some(file.clone()), ..Postgres::new(url) };
        let read = config(&settings).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(read.get_password(), Some("of the file".as_bytes()));
        assert_eq!(config(&Postgres::new(url)).unwrap().get_password(), Some("of-the-url".as_bytes()));
        assert!(config(&settings).is_err_and(|why| why.contains("iqra-password")), "the file is named");
        assert!(!format!("{settings:?}").contains("of-the-url"));
    }

    #[test]
    fn a_url_that_is_none_is_named_without_its_password() {
        let why = config(&Postgres::new("postgres://iqra:secret@localhost:port/iqra")).unwrap_err();
        assert!(why.contains("URL") && !why.contains("secret"), "{why}");
    }
}
