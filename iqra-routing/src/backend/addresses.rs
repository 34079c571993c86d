//! Where a bound backend is reached: its own URIs, and its media.

use std::net::{IpAddr, SocketAddr};

use iqra_media::net::{MediaConfig, MediaDriver, Overload, PortReserves, Reading};
use iqra_media::sdp::SecurityPolicy;
use iqra_providers::sip::SipMedia;
use iqra_sip::net::Endpoint;
use iqra_sip::{Listener, Transport};

use crate::config::{Media, Srtp};
use crate::start::StartError;

/// Where callers reach an endpoint: a URI per listener, UDP first. WebSocket is for
/// browsers that call in, not for a 302.
pub(super) fn own_uris(endpoint: &Endpoint) -> Vec<String> {
    let uri = |listener: &Listener| match listener.transport {
        Transport::Tls => format!("sips:{}", listener.advertised),
        transport => format!("sip:{};transport={}", listener.advertised, transport.as_param()),
    };
    let callable = |listener: &&Listener| !listener.transport.is_websocket();
    endpoint.listeners().iter().filter(callable).map(uri).collect()
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
    let security = match config.srtp {
        Srtp::Never => SecurityPolicy::Never,
        Srtp::Optional => SecurityPolicy::Optional,
        Srtp::Required => SecurityPolicy::Required,
    };
    let config = MediaConfig {
        ports: config.ports.clone(),
        reserves: PortReserves {
            inbound_percent: config.inbound_reserve_percent,
            outbound_percent: config.outbound_reserve_percent,
        },
        bind,
        threads: config.threads,
        reading: config.tick.map_or(Reading::Events, Reading::Tick),
        overload: Overload {
            refuse: config.overload.refuse,
            busy: config.overload.busy,
            late: config.overload.late,
        },
        ..MediaConfig::default()
    };
    let driver = MediaDriver::start(config).map_err(StartError::Media)?;
    Ok(SipMedia::new(driver, address).secured(security))
}
