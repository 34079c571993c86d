//! What an engine is told at its start: its timers, its limits and its manners. Every bound is here, with its default.

use super::failover::FailoverConfig;
use crate::auth::AuthConfig;
use crate::engine::nat::FlowConfig;
use crate::guard::GuardConfig;
use crate::message::Method;
use crate::roles::relay::RelayConfig;
use crate::transaction::timer::Timings;

/// The settings of an [`Engine`](crate::Engine). All fields have defaults: `EngineConfig { .., ..Default::default() }`.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The timers' base intervals.
    pub timings: Timings,
    /// Most server and client transactions together, finished ones included until their last timer fires. A new
    /// request above it is answered 503 without state; our own fails with [`EngineError::Full`](crate::event::EngineError).
    /// Default 400,000 (32 s at 12,000 calls per second).
    pub max_transactions: usize,
    /// Most dialogs. A new INVITE above it is answered 503, an answer fails. Default 100,000.
    pub max_dialogs: usize,
    /// Most answering branches of one forked INVITE that are acknowledged and hung up; more are ignored.
    /// Default 16.
    pub max_forks: usize,
    /// Methods that the program takes outside dialogs, besides INVITE; others are answered 405 with Allow. `None`
    /// delivers them all. Default `None`.
    pub accepted_methods: Option<Vec<Method>>,
    /// Option tags (`timer`, `100rel`) that the program honours: a request that requires another is answered 420.
    /// Default none.
    pub supported: Vec<String>,
    /// The value of the Server and User-Agent headers; `None` sends neither. Default `None`, which tells a scanner
    /// nothing.
    pub product: Option<String>,
    /// What lets this engine relay calls, and forward what belongs to calls that any proxy of its pool relayed.
    /// Default `None`: it does neither.
    pub relay: Option<RelayConfig>,
    /// Requests longer than this go by TCP first, in bytes (RFC 3261 §18.1.1); where that fails, by UDP. For peers whose
    /// firewall lets TCP time out, `usize::MAX` keeps everything on UDP. Default 1,300.
    pub max_datagram_request: usize,
    /// How peers behind NATs are reached.
    pub flows: FlowConfig,
    /// Credentials of this endpoint, and the bounds of answering challenges.
    pub auth: AuthConfig,
    /// Keeps scanners, floods and overload away. Default none: every message is served.
    pub guard: Option<GuardConfig>,
    /// Which targets that failed are avoided, and how long.
    pub failover: FailoverConfig,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            timings: Timings::default(),
            max_transactions: 400_000,
            max_dialogs: 100_000,
            max_forks: 16,
            accepted_methods: None,
            supported: Vec::new(),
            product: None,
            relay: None,
            max_datagram_request: 1_300,
            flows: FlowConfig::default(),
            auth: AuthConfig::default(),
            guard: None,
            failover: FailoverConfig::default(),
        }
    }
}
