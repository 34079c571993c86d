//! The section `relay` of a proxy: the pool that it relays calls in, and when a backend gives way to the next.
//!
//! Every proxy of a pool has the same keys and the same names, so that any of them passes on what belongs to a call that
//! another one relayed, also after that one has ended.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use iqra_sip::guard::Networks;
use iqra_sip::roles::relay::{PoolName, RelayConfig, RelayKeys, RelayTimings};
use iqra_sip::{Hop, Transport};
use serde::Deserialize;
use toml::Spanned;

use super::KeySource;
use super::check::{Checked, Source};
use super::edge::networks;
use super::file::ProxyFile;
use crate::identity::NodeId;

/// How much longer a token has to last than a backend is waited for, so that the next one has time to claim the call.
const MARGIN: Duration = Duration::from_secs(2);
use crate::proxy::RelaySettings;
use crate::start::StartError;

/// The variable with the pool's keys where the file names none.
const KEYS_ENV: &str = "IQRA_RELAY_KEYS";
/// A pool has no more other proxies than this, and no more names.
const MOST: usize = 256;

/// How a proxy relays calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Where the pool's keys come from.
    pub keys: KeySource,
    /// As [`RelayConfig::pool`].
    pub names: Vec<PoolName>,
    /// As [`RelayConfig::peers`].
    pub peers: BTreeMap<String, Hop>,
    /// As [`RelayConfig::networks`].
    pub networks: Networks,
    /// Times and bounds.
    pub serving: RelaySettings,
}

impl Relay {
    /// What makes the endpoint of this node one proxy of the pool.
    ///
    /// # Errors
    /// [`StartError`] when the keys are not there or not usable.
    pub fn pool(&self, node: &NodeId) -> Result<RelayConfig, StartError> {
        let keys = RelayKeys::new(self.keys.secrets().map_err(StartError::RelayKeys)?);
        let keys = keys.map_err(StartError::Pool)?;
        let mut pool = RelayConfig::new(node.as_str(), keys);
        pool.pool.clone_from(&self.names);
        pool.peers.clone_from(&self.peers);
        pool.networks.clone_from(&self.networks);
        Ok(pool)
    }
}

/// The section, which every proxy needs that has a trunk or a number whose mode is not `redirect`.
pub(super) fn check(source: &Source<'_>, file: &ProxyFile, token_life: Duration) -> Checked<Option<Relay>> {
    let trunks = file.trunks.iter().map(|trunk| (&trunk.mode, "trunks.mode"));
    let numbers = file.numbers.iter().map(|number| (&number.mode, "numbers.mode"));
    let Some(section) = &file.relay else {
        let relays = |mode: &&Spanned<String>| matches!(mode.get_ref().as_str(), "relay" | "auto");
        for (mode, key) in trunks.chain(numbers) {
            if let Some(mode) = mode.as_ref().filter(relays) {
                let why =
                    "\"relay\" and \"auto\" need the section [relay], with the keys of the pool of proxies";
                return Err(source.fault(mode, key, why));
            }
        }
        return Ok(None);
    };
    let default = RelaySettings::default();
    let millis = |value: Option<&Spanned<u64>>, key: &str, range, default: Duration| {
        let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
        source.within(value, key, range, default).map(Duration::from_millis)
    };
    let timings = RelayTimings {
        silent: millis(section.silent_ms.as_ref(), "relay.silent_ms", 100..=30_000, default.timings.silent)?,
        trying: millis(section.trying_ms.as_ref(), "relay.trying_ms", 100..=60_000, default.timings.trying)?,
    };
    for (at, key, wait) in [
        (&section.silent_ms, "relay.silent_ms", timings.silent),
        (&section.trying_ms, "relay.trying_ms", timings.trying),
    ] {
        // A call whose token has run out has no next backend.
        let at =
            at.as_ref().map(|at| (at, key)).or(file.tokens.life_s.as_ref().map(|at| (at, "tokens.life_s")));
        if let Some((at, key)) = at.filter(|_| wait + MARGIN > token_life) {
            let why = format!(
                "a backend is waited for {wait:?}, and a token lasts {token_life:?}: tokens.life_s has to be longer by \
                 {MARGIN:?}"
            );
            return Err(source.fault(at, key, why));
        }
    }
    let heartbeat =
        millis(section.heartbeat_ms.as_ref(), "relay.heartbeat_ms", 100..=10_000, default.heartbeat)?;
    let most = source.within(section.most.as_ref(), "relay.most", 1..=1_000_000, default.most as u64)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    Ok(Some(Relay {
        keys: keys(source, section)?,
        names: names(source, section)?,
        peers: peers(source, section)?,
        networks: networks(source, &section.networks, "relay.networks")?,
        serving: RelaySettings { timings, heartbeat, most },
    }))
}

fn keys(source: &Source<'_>, file: &RelayFile) -> Checked<KeySource> {
    let found = source.keys((&file.env, &file.keys), "relay", KEYS_ENV)?;
    if let (KeySource::Listed(listed), Some(at)) = (&found, &file.keys) {
        RelayKeys::new(listed).map_err(|error| source.fault(at, "relay.keys", error.to_string()))?;
    }
    Ok(found)
}

fn names(source: &Source<'_>, file: &RelayFile) -> Checked<Vec<PoolName>> {
    if let Some(beyond) = file.pool.get(MOST) {
        return Err(source.fault(beyond, "relay.pool", format!("there are more than {MOST} names")));
    }
    let read = |text: &Spanned<String>| {
        name(text.get_ref()).ok_or_else(|| {
            let why =
                format!("\"{}\" is no name; write for instance \"udp:sip.example.org:5060\"", text.get_ref());
            source.fault(text, "relay.pool", why)
        })
    };
    file.pool.iter().map(read).collect()
}

/// `transport:host:port`; an IPv6 address stands in brackets.
fn name(text: &str) -> Option<PoolName> {
    let (transport, rest) = text.split_once(':')?;
    let (host, port) = rest.rsplit_once(':')?;
    let (transport, port) = (Transport::named(transport)?, port.parse().ok().filter(|port| *port > 0)?);
    let uri: iqra_sip::Uri = format!("sip:{host}:{port}").parse().ok()?;
    uri.host()?;
    let plain =
        host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
    plain.then(|| PoolName { transport, host: host.to_owned(), port })
}

fn peers(source: &Source<'_>, file: &RelayFile) -> Checked<BTreeMap<String, Hop>> {
    let mut peers = BTreeMap::new();
    for (node, text) in &file.peers {
        let address = hop(text.get_ref()).filter(|_| file.peers.len() <= MOST);
        let Some(address) = address else {
            let why = format!(
                "\"{}\" of \"{node}\" is no address of a proxy, or there are more than {MOST}; write for instance \
                 \"udp:192.0.2.11:5060\"",
                text.get_ref()
            );
            return Err(source.fault(text, "relay.peers", why));
        };
        peers.insert(node.as_str().to_owned(), address);
    }
    Ok(peers)
}

/// `transport:address:port`.
fn hop(text: &str) -> Option<Hop> {
    let (transport, address) = text.split_once(':')?;
    let (transport, address): (_, SocketAddr) = (Transport::named(transport)?, address.parse().ok()?);
    let reachable = !address.ip().is_unspecified() && address.port() > 0;
    reachable.then(|| Hop::from((transport, address)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RelayFile {
    env: Option<Spanned<String>>,
    keys: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    pool: Vec<Spanned<String>>,
    #[serde(default)]
    peers: BTreeMap<NodeId, Spanned<String>>,
    #[serde(default)]
    networks: Vec<Spanned<String>>,
    silent_ms: Option<Spanned<u64>>,
    trying_ms: Option<Spanned<u64>>,
    heartbeat_ms: Option<Spanned<u64>>,
    most: Option<Spanned<u64>>,
}
