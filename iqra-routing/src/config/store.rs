//! Where a node keeps what it shares with others: `store`, the sections `[database]` and `[cache]`, and `numbers_in`.
//!
//! Only read here; whether the store is there shows when [`LiveStores`](crate::stores::LiveStores) opens it. A database's
//! password need not stand in the file: it is taken from a file of its own, or from [`PASSWORD_ENV`], before that of the
//! URL.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::Store;
use super::check::{Checked, Source};
use super::file::ProxyFile;
use crate::number::CacheLimits;

/// The environment variable that holds the store's password.
pub const PASSWORD_ENV: &str = "IQRA_STORE_PASSWORD";

/// How PostgreSQL is reached. Debug shows neither the URL nor the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Postgres {
    /// `postgres://user@host/database?sslmode=require` with whatever libpq's URLs have. Without `sslmode` TLS is required
    /// but for Unix sockets and loopback. With TLS the server's certificate is always verified, its name too.
    pub url: String,
    /// A file whose first line is the password; without it [`PASSWORD_ENV`], and without that the URL's.
    pub password_file: Option<PathBuf>,
    /// A PEM file of the roots that the server's certificate leads to; without it the system's.
    pub roots: Option<PathBuf>,
    /// How many connections this process opens at most, 1 to 1,000; default 10. One more listens for changes of numbers.
    pub connections: usize,
    /// How long a call waits for a free connection, 50 ms to 30 s; default 1 s.
    pub acquire: Duration,
    /// How long opening a connection may take, 50 ms to 30 s; default 2 s.
    pub connect: Duration,
    /// How long one step on the store may take, 50 ms to 60 s; default 2 s. The server gives up as well.
    pub statement: Duration,
}

impl Postgres {
    /// The server of this URL, with the defaults.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password_file: None,
            roots: None,
            connections: 10,
            acquire: Duration::from_secs(1),
            connect: Duration::from_secs(2),
            statement: Duration::from_secs(2),
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Postgres")
            .field("url", &format_args!("<url>"))
            .field("password_file", &self.password_file)
            .field("roots", &self.roots)
            .field("connections", &self.connections)
            .field("acquire", &self.acquire)
            .field("connect", &self.connect)
            .field("statement", &self.statement)
            .finish()
    }
}

/// The section `[database]`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct DatabaseFile {
    password_file: Option<Spanned<String>>,
    roots: Option<Spanned<String>>,
    connections: Option<Spanned<u64>>,
    acquire_ms: Option<Spanned<u64>>,
    connect_ms: Option<Spanned<u64>>,
    statement_ms: Option<Spanned<u64>>,
}

/// What `store` and `[database]` name.
pub(super) fn store(
    source: &Source<'_>,
    text: Option<&Spanned<String>>,
    database: Option<&Spanned<DatabaseFile>>,
) -> Checked<Store> {
    let store = match text.map(|text| (text, text.get_ref().as_str())) {
        None | Some((_, "memory")) => Store::Memory,
        Some((_, url)) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            let section = DatabaseFile::default();
            let section = database.map_or(&section, Spanned::get_ref);
            return Ok(Store::Postgres(Box::new(postgres(source, url, section)?)));
        }
        Some((text, other)) => match other.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Store::Sqlite(path.into()),
            _ => return Err(no_store(source, text)),
        },
    };
    match database {
        Some(section) => {
            Err(source.fault(section, "database", "is of use with store = \"postgres://...\" only"))
        }
        None => Ok(store),
    }
}

/// A text that is no store; one that may hold a password is not repeated.
fn no_store(source: &Source<'_>, text: &Spanned<String>) -> super::ConfigError {
    let given = if text.get_ref().contains('@') { "what is written" } else { text.get_ref() };
    let why = format!(
        "\"{given}\" is no store; write \"memory\", \"sqlite:PATH\" or \"postgres://USER@HOST/DATABASE\""
    );
    source.fault(text, "store", why)
}

/// Where a proxy's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NumbersIn {
    /// In the configuration (default).
    #[default]
    File,
    /// In the store, with accounts, businesses and trunks.
    Store,
}

/// The section `[cache]`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct CacheFile {
    entries: Option<Spanned<u64>>,
    age_s: Option<Spanned<u64>>,
    missing_s: Option<Spanned<u64>>,
    stale_s: Option<Spanned<u64>>,
}

/// Where the numbers are, and how long what is known of them counts.
pub(super) fn numbers(
    source: &Source<'_>,
    file: &ProxyFile,
    store: &Store,
) -> Checked<(NumbersIn, CacheLimits)> {
    let limits = cache(source, &file.cache)?;
    let Some(place) = file.numbers_in.as_ref().filter(|place| *place.get_ref() == NumbersIn::Store) else {
        return Ok((NumbersIn::File, limits));
    };
    if *store == Store::Memory {
        let why = "\"store\" needs store = \"sqlite:PATH\" or \"postgres://...\"; or write \"file\"";
        return Err(source.fault(place, "numbers_in", why));
    }
    let listed = [file.accounts.len(), file.businesses.len(), file.trunks.len(), file.numbers.len()];
    if listed.iter().any(|count| *count > 0) {
        let why = "\"store\" does not go with accounts, businesses, trunks or numbers in this file; move them to the \
                   store, or write \"file\"";
        return Err(source.fault(place, "numbers_in", why));
    }
    Ok((NumbersIn::Store, limits))
}

fn cache(source: &Source<'_>, file: &CacheFile) -> Checked<CacheLimits> {
    let default = CacheLimits::default();
    let seconds = |value: Option<&Spanned<u64>>, key: &str, most: u64, default: Duration| {
        source.seconds(value, key, 0..=most, default.as_secs())
    };
    let entries = source.count(file.entries.as_ref(), "cache.entries", 1..=10_000_000, 100_000)?;
    Ok(CacheLimits {
        entries: usize::try_from(entries).unwrap_or(default.entries),
        age: seconds(file.age_s.as_ref(), "cache.age_s", 86_400, default.age)?,
        missing: seconds(file.missing_s.as_ref(), "cache.missing_s", 3_600, default.missing)?,
        stale: seconds(file.stale_s.as_ref(), "cache.stale_s", 86_400, default.stale)?,
    })
}

/// The server that `url` and the section name.
fn postgres(source: &Source<'_>, url: &str, file: &DatabaseFile) -> Checked<Postgres> {
    let default = Postgres::new(url);
    let millis = |value: Option<&Spanned<u64>>, key: &str, most: u64, default: Duration| {
        let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
        source.within(value, key, 50..=most, default).map(Duration::from_millis)
    };
    let connections = source.count(file.connections.as_ref(), "database.connections", 1..=1_000, 10)?;
    Ok(Postgres {
        password_file: file.password_file.as_ref().map(|path| path.get_ref().into()),
        roots: file.roots.as_ref().map(|path| path.get_ref().into()),
        connections: usize::try_from(connections).unwrap_or(default.connections),
        acquire: millis(file.acquire_ms.as_ref(), "database.acquire_ms", 30_000, default.acquire)?,
        connect: millis(file.connect_ms.as_ref(), "database.connect_ms", 30_000, default.connect)?,
        statement: millis(file.statement_ms.as_ref(), "database.statement_ms", 60_000, default.statement)?,
        ..default
    })
}
