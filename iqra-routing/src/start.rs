//! From a configuration to a tier that is bound and ready to serve.
//!
//! Binding reports what is wrong before any call comes in; a bound tier knows its real ports.

use std::io;
use std::sync::Arc;

#[cfg(feature = "dns")]
use iqra_sip::net::DnsResolver;
use iqra_sip::net::{Bind, Endpoint, HepExporter, Incoming, NetConfig};
#[cfg(feature = "tls")]
use iqra_sip::net::{TlsClients, TlsConfig, TlsIdentity, TlsSettings};
use iqra_sip::observe::TraceRecord;
use iqra_sip::roles::relay::RelayConfig;
use iqra_sip::{EngineConfig, Listener, Transport};

use crate::config::{ConfigError, Edge, Listen, Socket};
use crate::error::StoreError;
use crate::handover::token::KeyError;
use crate::stores::LiveStores;

/// Why a tier did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The token keys are not usable.
    #[error("token keys: {0}")]
    Keys(#[from] KeyError),
    /// The keys of the pool of proxies are not there.
    #[cfg(feature = "proxy")]
    #[error("relay keys: {0}")]
    RelayKeys(KeyError),
    /// The keys of the pool of proxies are not usable.
    #[cfg(feature = "proxy")]
    #[error("relay: {0}")]
    Pool(iqra_sip::roles::relay::KeyError),
    /// The stores could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Numbers are to be in stores that hold none.
    #[error("numbers_in = \"store\" needs a store of sqlite or postgres; stores in memory were given")]
    NoNumbers,
    /// The certificate is not usable.
    #[cfg(feature = "tls")]
    #[error("listen.identity: {0}")]
    Tls(#[from] iqra_sip::net::TlsError),
    /// The name servers are not usable.
    #[cfg(feature = "dns")]
    #[error("dns: {0}")]
    Dns(#[from] iqra_sip::net::DnsConfigError),
    /// The socket for exported messages could not be bound.
    #[error("hep: {0}")]
    Hep(io::Error),
    /// Calls cannot be recorded as configured.
    #[error("recording: {0}")]
    Recording(String),
    /// The media threads could not be started.
    #[error("media: {0}")]
    Media(io::Error),
    /// A socket could not be bound.
    #[error("cannot listen on {what}: {error}")]
    Bind {
        /// The addresses.
        what: String,
        /// What the system said.
        error: io::Error,
    },
}

/// Binds every address of a configuration; `pool` makes it one of the proxies that relay together.
pub(crate) async fn bind(
    listen: &Listen,
    edge: Edge,
    pool: Option<RelayConfig>,
    trace: Option<Trace>,
) -> Result<(Endpoint, Incoming), StartError> {
    let Edge { guard, hep, sip, dns } = edge;
    let mut builder = Endpoint::builder().config(EngineConfig { guard, relay: pool, ..sip.engine() });
    builder = builder.net(NetConfig { shards: listen.shards, ..sip.net(dns.as_ref()) });
    #[cfg(feature = "dns")]
    if let Some(dns) = &dns {
        builder = builder.resolver(Arc::new(resolver(dns)?));
    }
    if let Some(config) = hep {
        builder = builder.observe(HepExporter::start(config).await.map_err(StartError::Hep)?);
    }
    for (transport, socket) in sockets(listen) {
        let bind = Bind::new(transport, socket.bind);
        builder = builder.listen(socket.advertise.map_or(bind, |addr| bind.advertise(addr)));
    }
    #[cfg(feature = "tls")]
    if let Some(identity) = &listen.identity {
        builder = builder.tls_config(tls(identity)?);
    }
    for address in &listen.advertise {
        builder = builder.advertise(*address);
    }
    if let Some(trace) = trace {
        builder = builder.trace(trace);
    }
    builder.bind().await.map_err(|error| StartError::Bind { what: addresses(listen), error })
}

/// Sees every SIP message of an endpoint.
pub type Trace = Arc<dyn Fn(&TraceRecord) + Send + Sync>;

/// Who the node is, and what its clients must show.
#[cfg(feature = "tls")]
fn tls(identity: &crate::config::Identity) -> Result<TlsConfig, StartError> {
    let clients = identity.client_roots.clone().map_or(TlsClients::Anonymous, TlsClients::Required);
    let own = TlsIdentity { certificate: identity.certificate.clone(), key: identity.key.clone() };
    Ok(TlsConfig::load(TlsSettings { identities: vec![own], clients, ..TlsSettings::default() })?)
}

/// Who is asked for names.
#[cfg(feature = "dns")]
fn resolver(dns: &crate::config::Dns) -> Result<DnsResolver, StartError> {
    let resolver = match dns.servers.as_slice() {
        [] => DnsResolver::system(),
        servers => DnsResolver::of(servers.iter().copied()),
    };
    Ok(resolver?)
}

fn sockets(listen: &Listen) -> impl Iterator<Item = (Transport, Socket)> {
    let all = [
        (Transport::Udp, &listen.udp),
        (Transport::Tcp, &listen.tcp),
        (Transport::Tls, &listen.tls),
        (Transport::Ws, &listen.ws),
        (Transport::Wss, &listen.wss),
    ];
    all.into_iter().flat_map(|(transport, sockets)| sockets.iter().map(move |one| (transport, *one)))
}

fn addresses(listen: &Listen) -> String {
    let all: Vec<String> = sockets(listen)
        .map(|(transport, socket)| format!("{} {}", transport.as_str().to_lowercase(), socket.bind))
        .collect();
    all.join(", ")
}

/// `udp:192.0.2.1:5060 tcp:192.0.2.1:5060`: the listeners of a tier, as programs print them.
#[must_use]
pub fn listeners_line(listeners: &[Listener]) -> String {
    let words: Vec<String> = listeners
        .iter()
        .map(|listener| format!("{}:{}", listener.transport.as_str().to_lowercase(), listener.addr))
        .collect();
    words.join(" ")
}

/// A tier's stores: those given, or those that its configuration names.
pub(crate) async fn stores(
    given: Option<LiveStores>,
    store: &crate::config::Store,
    limits: crate::queue::QueueLimits,
) -> Result<LiveStores, StartError> {
    match given {
        Some(stores) => Ok(stores),
        None => Ok(LiveStores::open(store, limits).await?),
    }
}
