//! The configuration of a proxy and of a backend, from TOML files.
//!
//! In: a file. Out: a [`ProxyConfig`] or [`BackendConfig`] whose references all hold, or a [`ConfigError`] that names
//! file, line and key, and what would do. The samples `docs/config/proxy.toml` and `docs/config/backend.toml` explain
//! every key; a test reads both.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::backends::BackendStatus;
use crate::handover::token::{self, KeyError, TokenKeys};
use crate::identity::{BackendId, NodeId, RegionId};
use crate::number::{CacheLimits, MemoryNumbers};
use crate::queue::QueueLimits;
use crate::reason::PlanLimitStatus;
use crate::select::Regions;
use crate::source::SourceList;

mod check;
#[cfg(any(feature = "proxy", feature = "backend"))]
mod edge;
mod file;
mod listen;
#[cfg(feature = "proxy")]
mod relay;
#[cfg(any(feature = "proxy", feature = "backend"))]
mod sip;
mod store;

#[cfg(any(feature = "proxy", feature = "backend"))]
pub use edge::Edge;
#[cfg(feature = "proxy")]
pub use relay::Relay;
#[cfg(any(feature = "proxy", feature = "backend"))]
pub use sip::{Dns, SipSettings};
pub use store::{NumbersIn, PASSWORD_ENV, Postgres};

/// What is wrong with a configuration, where, and what would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1; `None` where the whole file is meant.
    pub line: Option<usize>,
    /// The key, for instance `numbers.region`; empty where the text itself is no TOML.
    pub key: String,
    /// What is wrong and the remedy.
    pub why: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(out, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(out, ": {}", self.key)?;
        }
        write!(out, ": {}", self.why)
    }
}

impl std::error::Error for ConfigError {}

/// Where SIP is listened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// UDP sockets.
    pub udp: Vec<Socket>,
    /// TCP sockets.
    pub tcp: Vec<Socket>,
    /// TLS sockets; they need the feature `tls` and an identity.
    pub tls: Vec<Socket>,
    /// WebSocket sockets; they need the feature `ws`.
    pub ws: Vec<Socket>,
    /// Sockets for WebSocket over TLS; they need both features and an identity.
    pub wss: Vec<Socket>,
    /// Engines that the calls are spread over, 1 to 256
    /// ([`NetConfig::shards`](https://docs.rs/iqra-sip/latest/iqra_sip/net/struct.NetConfig.html#structfield.shards)).
    pub shards: usize,
    /// Who this node is on secure transports.
    pub identity: Option<Identity>,
    /// The addresses that others reach this node at, one for each family, put into Via, Contact and SDP for sockets
    /// without one of their own; none for the address that the socket is bound to.
    pub advertise: Vec<IpAddr>,
}

/// One address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// Where it is bound.
    pub bind: SocketAddr,
    /// What others reach it at, where that is another address or port.
    pub advertise: Option<SocketAddr>,
}

/// The PEM files of a node's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, followed by those that lead to its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Clients must show a certificate that leads to a root in this file; `None` asks for none.
    pub client_roots: Option<PathBuf>,
}

/// Where keys come from. Debug shows no key.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// An environment variable.
    Env(String),
    /// The file itself.
    Listed(Vec<String>),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(out, "Env({name})"),
            Self::Listed(keys) => write!(out, "Listed(<{} keys>)", keys.len()),
        }
    }
}

impl KeySource {
    /// The keys.
    ///
    /// # Errors
    /// [`KeyError`] when the variable is not set or the keys are not usable.
    pub fn keys(&self) -> Result<TokenKeys, KeyError> {
        TokenKeys::new(self.secrets()?)
    }

    /// What the keys are made of.
    pub(crate) fn secrets(&self) -> Result<Vec<String>, KeyError> {
        match self {
            Self::Env(name) => token::from_env(name),
            Self::Listed(keys) => Ok(keys.clone()),
        }
    }
}

/// Where calls, slots and backends' reports are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// In this process: proxy and backend run in it together.
    Memory,
    /// In a file that all processes of one machine share.
    Sqlite(PathBuf),
    /// On a PostgreSQL server that the machines of a fleet share.
    Postgres(Box<Postgres>),
}

/// How a backend is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// Least load of two random choices, weighted by capacity (default).
    #[default]
    LeastLoad,
    /// In turn.
    RoundRobin,
    /// By a hash of the Call-ID.
    Rendezvous,
}

/// A proxy's configuration.
#[derive(Debug)]
pub struct ProxyConfig {
    /// This node.
    pub node: NodeId,
    /// Its SIP addresses.
    pub listen: Listen,
    /// What stands around its endpoint.
    #[cfg(any(feature = "proxy", feature = "backend"))]
    pub edge: Edge,
    /// How calls are relayed, where some are.
    #[cfg(feature = "proxy")]
    pub relay: Option<Relay>,
    /// Where calls are kept.
    pub store: Store,
    /// Where the token keys come from.
    pub token_keys: KeySource,
    /// How long a token is valid, 5 to 600 s.
    pub token_life: Duration,
    /// Proxies in front whose Via is believed.
    pub trusted_proxies: SourceList,
    /// How many backends one redirect names at most, and a relayed call is tried at, 1 to 8.
    pub most_choices: usize,
    /// How a backend is chosen.
    pub selector: Selector,
    /// What a call beyond the plan's limit hears.
    pub plan_limit: PlanLimitStatus,
    /// How long transactions may finish after a drain began.
    pub drain_limit: Duration,
    /// How much the queue keeps.
    pub queue: QueueLimits,
    /// The regions.
    pub regions: Regions,
    /// Where accounts, businesses, trunks and numbers are.
    pub numbers_in: NumbersIn,
    /// Those of the file, ready to use; empty where they are in the store.
    pub numbers: MemoryNumbers,
    /// How long what is known of numbers in the store counts.
    pub cache: CacheLimits,
    /// Backends that are listed here instead of reporting themselves; empty where they report.
    pub backends: Vec<BackendStatus>,
}

/// A backend's configuration.
#[derive(Debug, Clone)]
pub struct BackendConfig {
    /// This backend.
    pub id: BackendId,
    /// Its region.
    pub region: RegionId,
    /// Its SIP addresses.
    pub listen: Listen,
    /// What stands around its endpoint.
    #[cfg(any(feature = "proxy", feature = "backend"))]
    pub edge: Edge,
    /// Where calls are kept.
    pub store: Store,
    /// Where the token keys come from.
    pub token_keys: KeySource,
    /// How many calls it takes.
    pub capacity: u32,
    /// Where callers reach it; empty for its listeners at the advertised address.
    pub sip_uris: Vec<String>,
    /// Whether only administrators' calls may come here.
    pub development: bool,
    /// How long present calls may last after a drain began.
    pub drain_limit: Duration,
    /// How long a slot lasts without being renewed.
    pub lease_life: Duration,
    /// How much the queue keeps, where it is in this process.
    pub queue: QueueLimits,
    /// The media ports.
    pub media: Media,
    /// How calls are recorded, if they are.
    pub recording: Option<RecordingConfig>,
}

/// How a backend records its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingConfig {
    /// Where the files go.
    pub folder: PathBuf,
    /// Whether each conversation has to allow it first.
    pub consent: bool,
    /// Older files are removed.
    pub max_age: Option<Duration>,
    /// The oldest files are removed until all together have no more octets.
    pub max_octets: Option<u64>,
    /// The id of the key that files are sealed with, and the environment variable that holds it.
    pub key: Option<(String, String)>,
}

/// Where and how media is sent and received.
#[derive(Debug, Clone, PartialEq)]
pub struct Media {
    /// The UDP ports, two per call.
    pub ports: RangeInclusive<u16>,
    /// Percent of the ports that only calls coming in get, 0 to 100.
    pub inbound_reserve_percent: u8,
    /// Percent of the ports that only calls being placed get, 0 to 100; both together 100 at most.
    pub outbound_reserve_percent: u8,
    /// Media threads, 1 to 256.
    pub threads: usize,
    /// How often the sockets are read, 1 to 20 ms; `None` whenever something comes.
    pub tick: Option<Duration>,
    /// Whether media is encrypted.
    pub srtp: Srtp,
    /// How peers and we come to the keys, the preferred way first.
    pub keys: Vec<SrtpKeys>,
    /// Whether we have ICE with peers that do.
    pub ice_lite: bool,
    /// When the media threads have too much to do for further calls.
    pub overload: MediaOverload,
}

/// When media threads are overloaded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MediaOverload {
    /// Whether calls are then refused with 503.
    pub refuse: bool,
    /// The share of time that a thread may be busy, 0.1 to 1.
    pub busy: f32,
    /// A round of a thread that begins so much after it was due is late, 1 ms to 1 s; a tenth of them may be.
    pub late: Duration,
}

/// How the keys of SRTP are agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SrtpKeys {
    /// In the SDP (`a=crypto`, RFC 4568).
    Sdes,
    /// By a handshake of DTLS (RFC 5763); a program needs the feature `webrtc` for it.
    Dtls,
}

/// Whether media is encrypted (SRTP).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Srtp {
    /// Not at all.
    #[default]
    Never,
    /// Where the peer offers it.
    Optional,
    /// Calls without it are refused with 488.
    Required,
}

impl ProxyConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the line and the key, and says what would do.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let (name, text) = read(path.as_ref())?;
        Self::parse(&name, &text)
    }

    /// Reads a text; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        check::proxy(&check::Source { name, text })
    }
}

impl BackendConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the line and the key, and says what would do.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let (name, text) = read(path.as_ref())?;
        Self::parse(&name, &text)
    }

    /// Reads a text; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        check::backend(&check::Source { name, text })
    }
}

fn read(path: &Path) -> Result<(String, String), ConfigError> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((file, text)),
        Err(error) => {
            let why = format!("cannot be read: {error}; check the path and its permissions");
            Err(ConfigError { file, line: None, key: String::new(), why })
        }
    }
}
