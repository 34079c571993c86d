//! Where a bound backend is reached: its own URIs, and its media.

use std::net::{IpAddr, SocketAddr};

use iqra_media::net::{MediaConfig, MediaDriver};
use iqra_providers::sip::SipMedia;
use iqra_sip::Transport;
use iqra_sip::net::Endpoint;

use crate::config::Media;
use crate::start::StartError;

/// Where callers reach an endpoint: a URI per listener, UDP first.
pub(super) fn own_uris(endpoint: &Endpoint) -> Vec<String> {
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
fn media_address(endpoint: &Endpoint) -> IpAddr {
    let first = endpoint.listeners().first().map(|listener| listener.advertised);
    first.map_or(IpAddr::from([127, 0, 0, 1]), |addr: SocketAddr| addr.ip())
}

/// Starts the media threads of a backend.
pub(super) fn media(endpoint: &Endpoint, config: &Media) -> Result<SipMedia, StartError> {
    let address = media_address(endpoint);
    let bind = endpoint.listeners().first().map_or(address, |listener| listener.addr.ip());
    let config =
        MediaConfig { ports: config.ports.clone(), tick: config.tick, bind, ..MediaConfig::default() };
    let what = format!("RTP ports {:?}", config.ports);
    let driver = MediaDriver::start(config).map_err(|error| StartError::Bind { what, error })?;
    Ok(SipMedia::new(driver, address))
}
