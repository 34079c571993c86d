//! What an engine is told at its start: its timers, its limits and its manners. Every bound is here, with its default.

use std::time::Duration;

use super::event::Reliability;
use super::extensions;
use super::failover::FailoverConfig;
use crate::auth::AuthConfig;
use crate::dialog::session_timer::SessionTimers;
use crate::dialog::{refer, replaces, session_timer};
use crate::engine::nat::FlowConfig;
use crate::guard::GuardConfig;
use crate::message::{Limits, Method};
use crate::roles::relay::RelayConfig;
use crate::transaction::timer::Timings;

/// The settings of an [`Engine`](crate::Engine). All fields have defaults: `EngineConfig { .., ..Default::default() }`.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The timers' base intervals.
    pub timings: Timings,
    /// Most server and client transactions together, finished ones included until their last timer fires. A new
    /// request above it is answered 503 without state; our own fails with [`EngineError::Full`](crate::event::EngineError).
    /// Requests inside dialogs, of either side or relayed, and CANCEL have an eighth more. Default 400,000 (32 s at
    /// 12,000 calls per second).
    pub max_transactions: usize,
    /// Most dialogs. A new INVITE above it is answered 503, an answer fails. Default 100,000.
    pub max_dialogs: usize,
    /// Most answering branches of one forked INVITE that are kept in mind; those of more are acknowledged and hung up
    /// without state, again each time that they come. Default 16.
    pub max_forks: usize,
    /// How large a message from the network may be, on every transport of an endpoint. What is larger is answered as
    /// [`Limits`] says; on a WebSocket a message above `message_bytes` closes its connection.
    pub limits: Limits,
    /// Methods that the program takes outside dialogs, besides INVITE; others are answered 405 with Allow. `None`
    /// delivers them all. Default `None`.
    pub accepted_methods: Option<Vec<Method>>,
    /// Option tags that the program honours, besides those of the extensions that are switched on here: a request that
    /// requires another is answered 420. Default none.
    pub supported: Vec<String>,
    /// Session timers (RFC 4028).
    pub session: SessionTimers,
    /// Transfers (RFC 3515, RFC 3891).
    pub transfer: TransferConfig,
    /// Whether a request for a `sips` URI that did not come over TLS or WSS is answered 403. Such a URI means TLS at every
    /// hop up to the user agent: RFC 5630 §5.3 and its appendix A took back the exception that RFC 3261 §26.2.2 made for
    /// the last one, and whoever answers tells the caller that its call was secure. Off only behind a proxy of one's own
    /// that ends TLS. Default `true`.
    pub sips_by_tls_only: bool,
    /// How often a re-INVITE or UPDATE of ours that met one of the peer's (491) goes out again by itself, after the waits
    /// of RFC 3261 §14.1: up to 4 s for the side that made the call, up to 2 s for the other. The program hears of the last
    /// 491; 0 tells it of the first. Default 2.
    pub glare_retries: u8,
    /// Whether provisional responses go and are asked for reliably (RFC 3262), where the call does not say. An INVITE that
    /// requires `100rel` gets them reliably in any case; one that does not offer it is answered 421 under `Required`. Those
    /// of a peer are acknowledged in any case. Default `Never`, which does not list `100rel` as supported.
    pub reliability: Reliability,
    /// The value of the Server and User-Agent headers; `None` sends neither. Default `None`, which tells a scanner
    /// nothing.
    pub product: Option<String>,
    /// What lets this engine relay calls, and forward what belongs to calls that any proxy of its pool relayed.
    /// Default `None`: it does neither.
    pub relay: Option<RelayConfig>,
    /// Requests longer than this go by TCP first, in bytes (RFC 3261 §18.1.1); where that fails, by UDP. For peers whose
    /// firewall lets TCP time out, `usize::MAX` keeps everything on UDP. Default 1,300.
    pub max_datagram_request: usize,
    /// How long requests inside a dialog wait for the address of a first Route or Contact that is a name
    /// ([`Event::Lookup`](crate::event::Event::Lookup)), 32 T1 at most; after it they go back along the flow of the INVITE.
    /// Zero asks nobody: names are always gone to by the flow. Default 2 s.
    pub name_wait: Duration,
    /// Most ACKs of relayed calls whose next hop, a name, is being looked up at a time; more are dropped, and come again
    /// with the repeats of their 2xx. Default 1,000.
    pub max_ack_lookups: usize,
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
            limits: Limits::DEFAULT,
            accepted_methods: None,
            supported: Vec::new(),
            session: SessionTimers::default(),
            transfer: TransferConfig::default(),
            sips_by_tls_only: true,
            glare_retries: 2,
            reliability: Reliability::Never,
            product: None,
            relay: None,
            max_datagram_request: 1_300,
            name_wait: Duration::from_secs(2),
            max_ack_lookups: 1_000,
            flows: FlowConfig::default(),
            auth: AuthConfig::default(),
            guard: None,
            failover: FailoverConfig::default(),
        }
    }
}

/// What an engine does about REFER and Replaces. Asking the peer for a transfer needs no setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferConfig {
    /// Takes REFER inside calls, as [`Event::Referred`](crate::event::Event::Referred), and lists it in Allow; else it
    /// is answered 405. A peer whose REFER is accepted decides whom we call, and who pays for it. Default off.
    pub refer: bool,
    /// Takes INVITEs with Replaces for what they are (RFC 3891); else the header means nothing. Whoever knows the tags
    /// of a call can take it over, once the program accepts. Default off.
    pub replaces: bool,
    /// How long a REFER's outcome is awaited or told at most, in whole seconds. Default 3 minutes.
    pub lifetime: Duration,
    /// Most REFERs of one call, of both sides together, whose outcome is still to be told. Default 4.
    pub max_referrals: usize,
}

impl Default for TransferConfig {
    fn default() -> Self {
        Self { refer: false, replaces: false, lifetime: Duration::from_secs(180), max_referrals: 4 }
    }
}

impl EngineConfig {
    /// Every option tag that Supported lists. A peer may require these of us, and `100rel`.
    pub(crate) fn option_tags(&self) -> impl Iterator<Item = &str> {
        let timer = self.session.is_on().then_some(session_timer::TAG);
        let replaces = self.transfer.replaces.then_some(replaces::TAG);
        let refer_sub = self.transfer.refer.then_some(refer::TAG);
        let reliable = (self.reliability != Reliability::Never).then_some(extensions::RELIABLE);
        let built_in = [timer, replaces, refer_sub, reliable].into_iter().flatten();
        let more = self.supported.iter().map(String::as_str);
        let known = built_in.clone();
        built_in.chain(more.filter(move |tag| !known.clone().any(|one| one.eq_ignore_ascii_case(tag))))
    }
}
