//! From a configuration to a tier that is bound and ready to serve.
//!
//! Binding reports what is wrong before any call comes in; a bound tier knows its real ports.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use iqra_sip::net::{Endpoint, Incoming};
use iqra_sip::observe::TraceRecord;
use iqra_sip::{Listener, Transport};

use crate::config::{ConfigError, Listen, ProxyConfig, Selector};
use crate::error::StoreError;
use crate::handover::token::KeyError;
use crate::select::{BackendSelector, ByRegion, LeastLoad, Rendezvous, RoundRobin};
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
    /// The stores could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A socket could not be bound.
    #[error("cannot listen on {what}: {error}; is another program using the port?")]
    Bind {
        /// The addresses.
        what: String,
        /// What the system said.
        error: io::Error,
    },
}

/// Binds every address of a configuration.
pub(crate) async fn bind(listen: &Listen, trace: Option<Trace>) -> Result<(Endpoint, Incoming), StartError> {
    let mut builder = Endpoint::builder();
    builder = listen.udp.iter().fold(builder, |builder, addr| builder.udp(*addr));
    builder = listen.tcp.iter().fold(builder, |builder, addr| builder.tcp(*addr));
    if let Some(address) = listen.advertise {
        builder = builder.advertise(address);
    }
    if let Some(trace) = trace {
        builder = builder.trace(trace);
    }
    builder.bind().await.map_err(|error| StartError::Bind { what: addresses(listen), error })
}

/// Sees every SIP message of an endpoint.
pub type Trace = Arc<dyn Fn(&TraceRecord) + Send + Sync>;

fn addresses(listen: &Listen) -> String {
    let all: Vec<String> = listen
        .udp
        .iter()
        .map(|addr| format!("udp {addr}"))
        .chain(listen.tcp.iter().map(|addr| format!("tcp {addr}")))
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

/// Where callers reach an endpoint: a URI per listener, UDP first.
pub(crate) fn own_uris(endpoint: &Endpoint) -> Vec<String> {
    let of = |transport: Transport| {
        let named = transport.as_str().to_lowercase();
        endpoint
            .listeners()
            .iter()
            .filter(move |listener| listener.transport == transport)
            .map(move |listener| format!("sip:{};transport={named}", listener.advertised))
    };
    of(Transport::Udp).chain(of(Transport::Tcp)).collect()
}

/// The address that peers send media to.
pub(crate) fn media_address(endpoint: &Endpoint) -> IpAddr {
    let first = endpoint.listeners().first().map(|listener| listener.advertised);
    first.map_or(IpAddr::from([127, 0, 0, 1]), |addr: SocketAddr| addr.ip())
}

/// Starts the media threads of a backend.
#[cfg(feature = "backend")]
pub(crate) fn media(
    endpoint: &Endpoint,
    config: &crate::config::Media,
) -> Result<iqra_providers::sip::SipMedia, StartError> {
    use iqra_media::net::{MediaConfig, MediaDriver};
    let address = media_address(endpoint);
    let bind = endpoint.listeners().first().map_or(address, |listener| listener.addr.ip());
    let config =
        MediaConfig { ports: config.ports.clone(), tick: config.tick, bind, ..MediaConfig::default() };
    let what = format!("RTP ports {:?}", config.ports);
    let driver = MediaDriver::start(config).map_err(|error| StartError::Bind { what, error })?;
    Ok(iqra_providers::sip::SipMedia::new(driver, address))
}

/// The choice that the configuration names, the number's own region first.
pub(crate) fn selector(config: &ProxyConfig) -> Arc<dyn BackendSelector> {
    match config.selector {
        Selector::LeastLoad => Arc::new(ByRegion(LeastLoad)),
        Selector::RoundRobin => Arc::new(ByRegion(RoundRobin::default())),
        Selector::Rendezvous => Arc::new(ByRegion(Rendezvous)),
    }
}

/// A tier's stores: those given, or those that its configuration names.
pub(crate) fn stores(
    given: Option<LiveStores>,
    store: &crate::config::Store,
    limits: crate::queue::QueueLimits,
) -> Result<LiveStores, StartError> {
    match given {
        Some(stores) => Ok(stores),
        None => Ok(LiveStores::open(store, limits)?),
    }
}
