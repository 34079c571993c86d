//! Where a bound backend is reached: its own URIs, and its media.

use std::net::{IpAddr, SocketAddr};

use iqra_media::net::{MediaConfig, MediaDriver, Overload, PortReserves, Reading};
#[cfg(feature = "webrtc")]
use iqra_media::rtp::dtls::{Certificate, HandshakeError};
use iqra_media::sdp::SecurityPolicy;
use iqra_providers::sip::{KeyExchange, SipMedia};
use iqra_sip::net::Endpoint;
use iqra_sip::{Listener, Transport};

use crate::config::{Media, Srtp, SrtpKeys};
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
    let keys = config.keys.iter().filter_map(key_exchange).collect::<Vec<_>>();
    #[cfg(feature = "webrtc")]
    let ice_lite = config.ice_lite;
    let config = MediaConfig {
        #[cfg(feature = "webrtc")]
        certificate: certificate(config)?,
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
    let media = SipMedia::new(driver, address).secured(security).keyed(&keys);
    #[cfg(feature = "webrtc")]
    let media = media.ice_lite(ice_lite);
    Ok(media)
}

/// What this program has of it; the configuration was checked for the rest.
fn key_exchange(keys: &SrtpKeys) -> Option<KeyExchange> {
    match keys {
        SrtpKeys::Sdes => Some(KeyExchange::Sdes),
        #[cfg(feature = "webrtc")]
        SrtpKeys::Dtls => Some(KeyExchange::Dtls),
        #[cfg(not(feature = "webrtc"))]
        SrtpKeys::Dtls => None,
    }
}

/// One for this process, where handshakes may come; the SDP vouches for it.
#[cfg(feature = "webrtc")]
fn certificate(config: &Media) -> Result<Option<Certificate>, StartError> {
    let wanted = config.srtp != Srtp::Never && config.keys.contains(&SrtpKeys::Dtls);
    let failed = |error: HandshakeError| StartError::Media(std::io::Error::other(error));
    wanted.then(Certificate::generate).transpose().map_err(failed)
}
