//! The sections `sip`, `connections` and `dns`: how the SIP stack behaves and what it is bounded by. What is left out has
//! the stack's own default.

use std::net::SocketAddr;
use std::time::Duration;

use iqra_sip::message::Limits;
use iqra_sip::net::NetConfig;
use iqra_sip::resolve::ResolveLimits;
use iqra_sip::{EngineConfig, Timings};
use serde::Deserialize;
use toml::Spanned;

use super::check::{Checked, Source};

/// What of the stack's settings a file can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SipSettings {
    /// As [`EngineConfig::sips_by_tls_only`].
    pub sips_by_tls_only: bool,
    /// As [`EngineConfig::max_datagram_request`], bytes.
    pub max_datagram_request: usize,
    /// As [`EngineConfig::product`].
    pub product: Option<String>,
    /// As [`EngineConfig::max_transactions`].
    pub max_transactions: usize,
    /// As [`EngineConfig::max_dialogs`].
    pub max_dialogs: usize,
    /// As [`EngineConfig::limits`].
    pub limits: Limits,
    /// As [`Timings::target_limit`].
    pub target_limit: Duration,
    /// As [`EngineConfig::name_wait`].
    pub name_wait: Duration,
    /// As [`NetConfig::max_connections`].
    pub max_connections: usize,
    /// As [`NetConfig::max_connections_per_source`].
    pub max_connections_per_source: usize,
    /// As [`NetConfig::max_connections_per_wide_source`].
    pub max_connections_per_wide_source: usize,
    /// As [`NetConfig::idle`].
    pub idle: Duration,
    /// As [`NetConfig::partial_message`].
    pub partial_message: Duration,
    /// As [`NetConfig::handshake`].
    pub handshake: Duration,
    /// As [`NetConfig::connect`].
    pub connect: Duration,
    /// As [`NetConfig::websocket_ping`].
    pub websocket_ping: Duration,
    /// As [`NetConfig::origins`].
    pub origins: Vec<String>,
}

impl Default for SipSettings {
    fn default() -> Self {
        let (engine, net) = (EngineConfig::default(), NetConfig::default());
        Self {
            sips_by_tls_only: engine.sips_by_tls_only,
            max_datagram_request: engine.max_datagram_request,
            product: engine.product,
            max_transactions: engine.max_transactions,
            max_dialogs: engine.max_dialogs,
            limits: engine.limits,
            target_limit: engine.timings.target_limit,
            name_wait: engine.name_wait,
            max_connections: net.max_connections,
            max_connections_per_source: net.max_connections_per_source,
            max_connections_per_wide_source: net.max_connections_per_wide_source,
            idle: net.idle,
            partial_message: net.partial_message,
            handshake: net.handshake,
            connect: net.connect,
            websocket_ping: net.websocket_ping,
            origins: net.origins,
        }
    }
}

impl SipSettings {
    /// The settings of an engine.
    #[must_use]
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            sips_by_tls_only: self.sips_by_tls_only,
            max_datagram_request: self.max_datagram_request,
            product: self.product.clone(),
            max_transactions: self.max_transactions,
            max_dialogs: self.max_dialogs,
            limits: self.limits.clone(),
            timings: Timings { target_limit: self.target_limit, ..Timings::default() },
            name_wait: self.name_wait,
            ..EngineConfig::default()
        }
    }

    /// The bounds of its sockets.
    #[must_use]
    pub fn net(&self, dns: Option<&Dns>) -> NetConfig {
        let default = ResolveLimits::default();
        let patience = dns.map_or(default.patience, |dns| dns.patience);
        NetConfig {
            max_connections: self.max_connections,
            max_connections_per_source: self.max_connections_per_source,
            max_connections_per_wide_source: self.max_connections_per_wide_source,
            idle: self.idle,
            partial_message: self.partial_message,
            handshake: self.handshake,
            connect: self.connect,
            websocket_ping: self.websocket_ping,
            origins: self.origins.clone(),
            resolve: ResolveLimits { patience, ..default },
            ..NetConfig::default()
        }
    }
}

/// Who is asked for names by NAPTR and SRV; it needs the feature `dns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// The name servers; none for those of the system.
    pub servers: Vec<SocketAddr>,
    /// How long looking up one name may take.
    pub patience: Duration,
}

pub(super) fn settings(source: &Source<'_>, sip: &SipFile, net: &ConnectionsFile) -> Checked<SipSettings> {
    let default = SipSettings::default();
    let count = |value: Option<&Spanned<u64>>, key: &str, most: u64, default: usize| {
        let default = u32::try_from(default).unwrap_or(u32::MAX);
        source.count(value, key, 1..=most, default).map(|found| found as usize)
    };
    let seconds = |value: Option<&Spanned<u64>>, key: &str, range, default: Duration| {
        source.seconds(value, key, range, default.as_secs())
    };
    let datagram = u32::try_from(default.max_datagram_request).unwrap_or(u32::MAX);
    let datagram = source.count(sip.max_datagram.as_ref(), "sip.max_datagram", 0..=65_535, datagram)?;
    Ok(SipSettings {
        sips_by_tls_only: sip.sips_by_tls_only.unwrap_or(default.sips_by_tls_only),
        max_datagram_request: datagram as usize,
        product: product(source, sip.product.as_ref())?,
        max_transactions: count(
            sip.transactions.as_ref(),
            "sip.transactions",
            10_000_000,
            default.max_transactions,
        )?,
        max_dialogs: count(sip.dialogs.as_ref(), "sip.dialogs", 10_000_000, default.max_dialogs)?,
        limits: limits(source, sip)?,
        target_limit: seconds(
            sip.target_limit_s.as_ref(),
            "sip.target_limit_s",
            1..=32,
            default.target_limit,
        )?,
        name_wait: seconds(sip.name_wait_s.as_ref(), "sip.name_wait_s", 0..=16, default.name_wait)?,
        max_connections: count(net.most.as_ref(), "connections.most", 1_000_000, default.max_connections)?,
        max_connections_per_source: count(
            net.most_per_source.as_ref(),
            "connections.most_per_source",
            1_000_000,
            default.max_connections_per_source,
        )?,
        max_connections_per_wide_source: count(
            net.most_per_wide_source.as_ref(),
            "connections.most_per_wide_source",
            1_000_000,
            default.max_connections_per_wide_source,
        )?,
        idle: seconds(net.idle_s.as_ref(), "connections.idle_s", 10..=86_400, default.idle)?,
        partial_message: seconds(
            net.partial_message_s.as_ref(),
            "connections.partial_message_s",
            1..=300,
            default.partial_message,
        )?,
        handshake: seconds(net.handshake_s.as_ref(), "connections.handshake_s", 1..=60, default.handshake)?,
        connect: seconds(net.connect_s.as_ref(), "connections.connect_s", 1..=60, default.connect)?,
        websocket_ping: seconds(
            net.websocket_ping_s.as_ref(),
            "connections.websocket_ping_s",
            1..=3_600,
            default.websocket_ping,
        )?,
        origins: origins(source, &net.origins)?,
    })
}

/// How large a message may be.
fn limits(source: &Source<'_>, sip: &SipFile) -> Checked<Limits> {
    let mut limits = Limits::default();
    for (value, key, range, limit) in [
        (&sip.max_message, "sip.max_message", 1_024..=1_048_576, &mut limits.message_bytes),
        (&sip.max_head, "sip.max_head", 1_024..=1_048_576, &mut limits.head_bytes),
        (&sip.max_headers, "sip.max_headers", 16..=4_096, &mut limits.headers),
        (&sip.max_uri, "sip.max_uri", 64..=65_536, &mut limits.uri_bytes),
    ] {
        let default = u32::try_from(*limit).unwrap_or(u32::MAX);
        *limit = source.count(value.as_ref(), key, range, default)? as usize;
    }
    Ok(limits)
}

/// Server and User-Agent are one line of text.
fn product(source: &Source<'_>, text: Option<&Spanned<String>>) -> Checked<Option<String>> {
    let Some(text) = text.filter(|text| !text.get_ref().is_empty()) else { return Ok(None) };
    if text.get_ref().bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Ok(Some(text.get_ref().clone()));
    }
    Err(source.fault(text, "sip.product", "it is no plain text; write for instance \"example-pbx/1.2\""))
}

fn origins(source: &Source<'_>, list: &[Spanned<String>]) -> Checked<Vec<String>> {
    let check = |origin: &Spanned<String>| {
        let text = origin.get_ref();
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        if host.is_some_and(|host| !host.is_empty() && !host.contains(['/', ' '])) {
            return Ok(text.clone());
        }
        let why = format!("\"{text}\" is no origin; write for instance \"https://phone.example.org\"");
        Err(source.fault(origin, "connections.origins", why))
    };
    list.iter().map(check).collect()
}

pub(super) fn dns(source: &Source<'_>, section: Option<&Spanned<DnsFile>>) -> Checked<Option<Dns>> {
    let Some(section) = section else { return Ok(None) };
    if !cfg!(feature = "dns") {
        let why =
            "this program cannot ask name servers; build it with the feature dns, or remove the section";
        return Err(source.fault(section, "dns", why));
    }
    let file = section.get_ref();
    let server = |text: &Spanned<String>| {
        let bare = || text.get_ref().parse().map(|ip| SocketAddr::new(ip, 53));
        text.get_ref().parse().or_else(|_| bare()).map_err(|_| {
            let why = format!("\"{}\" is no address; write for instance \"192.0.2.53\"", text.get_ref());
            source.fault(text, "dns.servers", why)
        })
    };
    let default = ResolveLimits::default().patience.as_secs();
    Ok(Some(Dns {
        servers: file.servers.iter().map(server).collect::<Checked<_>>()?,
        patience: source.seconds(file.patience_s.as_ref(), "dns.patience_s", 1..=30, default)?,
    }))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct SipFile {
    sips_by_tls_only: Option<bool>,
    max_datagram: Option<Spanned<u64>>,
    product: Option<Spanned<String>>,
    transactions: Option<Spanned<u64>>,
    dialogs: Option<Spanned<u64>>,
    max_message: Option<Spanned<u64>>,
    max_head: Option<Spanned<u64>>,
    max_headers: Option<Spanned<u64>>,
    max_uri: Option<Spanned<u64>>,
    target_limit_s: Option<Spanned<u64>>,
    name_wait_s: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectionsFile {
    most: Option<Spanned<u64>>,
    most_per_source: Option<Spanned<u64>>,
    most_per_wide_source: Option<Spanned<u64>>,
    idle_s: Option<Spanned<u64>>,
    partial_message_s: Option<Spanned<u64>>,
    handshake_s: Option<Spanned<u64>>,
    connect_s: Option<Spanned<u64>>,
    websocket_ping_s: Option<Spanned<u64>>,
    #[serde(default)]
    origins: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DnsFile {
    #[serde(default)]
    servers: Vec<Spanned<String>>,
    patience_s: Option<Spanned<u64>>,
}
