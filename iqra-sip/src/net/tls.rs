//! TLS on connections (RFC 3261 §26.2.1): who we are, whom we trust, and that a peer is who it should be (RFC 5922).
//!
//! A [`TlsConfig`] is read from PEM files and can be read again while it is in use: connections that are up go on, new
//! ones show the new certificate.

mod files;
mod verify;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::connections::Lane;
use super::shared::Shared;
use super::tcp::Side;
use crate::engine::flow::{Flow, Transport};
use crate::message::header::Via;
use crate::message::{Host, Message};

pub use files::TlsError;

/// A certificate with its key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The certificate, followed by those that lead to its root.
    pub certificate: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Whose certificates are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TlsRoots {
    /// Those of the operating system.
    #[default]
    System,
    /// Those in a PEM file.
    File(PathBuf),
}

/// What clients that connect to us must show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TlsClients {
    /// Nothing.
    #[default]
    Anonymous,
    /// A certificate, if they have one, that leads to a root in this PEM file; a wrong one is refused.
    Optional(PathBuf),
    /// A certificate that leads to a root in this PEM file: mutual TLS.
    Required(PathBuf),
}

/// Settings of TLS. All fields have defaults; listeners need an identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// Who we are. A client that names a server is shown the first certificate that holds that name, any other the first.
    /// The first is also what we show when a server that we connect to asks. Default none.
    pub identities: Vec<TlsIdentity>,
    /// Whom we trust when we connect. Default the operating system's roots.
    pub roots: TlsRoots,
    /// What clients must show. Default nothing.
    pub clients: TlsClients,
    /// Takes `*.example.org` for `sip.example.org` in the certificates of servers. RFC 5922 §7.2 forbids it, some carriers
    /// need it. Default false.
    pub wildcards: bool,
}

/// TLS as an endpoint uses it. Clones are handles of one configuration.
#[derive(Clone)]
pub struct TlsConfig(Arc<Inner>);

struct Inner {
    settings: TlsSettings,
    current: RwLock<Current>,
}

/// What the files held when they were read last.
#[derive(Clone)]
struct Current {
    server: Option<Arc<ServerConfig>>,
    client: Arc<ClientConfig>,
}

impl TlsConfig {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what to do about it.
    pub fn load(settings: TlsSettings) -> Result<Self, TlsError> {
        let current = RwLock::new(files::read(&settings)?);
        Ok(Self(Arc::new(Inner { settings, current })))
    }

    /// Reads the files again: new connections use what they hold now. Blocks while it reads.
    ///
    /// # Errors
    /// As [`load`](Self::load); what was read before then stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let new = files::read(&self.0.settings)?;
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Whether it can serve as well as connect: there is an identity.
    #[must_use]
    pub fn has_identity(&self) -> bool {
        !self.0.settings.identities.is_empty()
    }

    fn current(&self) -> Current {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TlsConfig").field(&self.0.settings).finish()
    }
}

/// Makes a connection secure, and notes what its peer has proven to be.
pub(super) async fn secure<S>(lane: &Lane, flow: &Flow, stream: S, side: &Side) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(config) = &lane.shared.tls else {
        return Err(io::Error::other("no TLS settings: give tls_config"));
    };
    let (server, client) = (config.current().server, config.current().client);
    let (secured, mut names) = match side {
        Side::Server => {
            let server =
                server.ok_or_else(|| io::Error::other("no certificate: give TlsSettings::identities"))?;
            (TlsStream::Server(TlsAcceptor::from(server).accept(stream).await?), Vec::new())
        }
        Side::Client(name) => {
            let name = name.clone().unwrap_or_else(|| flow.remote.ip().to_string().into());
            let server = ServerName::try_from(name.to_string())
                .map_err(|_| io::Error::other(format!("{name} is no name that a certificate can hold")))?;
            (TlsStream::Client(TlsConnector::from(client).connect(server, stream).await?), vec![name])
        }
    };
    let shown = secured.get_ref().1.peer_certificates().and_then(<[CertificateDer<'_>]>::first);
    names.extend(shown.map(|shown| verify::names(shown, flow.remote.ip())).unwrap_or_default());
    lane.shared.streams.prove(lane.id, names.into());
    Ok(secured)
}

/// RFC 5923 §5: a peer that has proven a name may ask, with `alias` in its Via, that requests to its sent-by take this
/// connection. The name in sent-by, or its address, must be one that it has proven.
pub(super) fn learn_alias(shared: &Shared, flow: &Flow, message: &Bytes) {
    let Some(id) = flow.connection.filter(|_| flow.transport == Transport::Tls) else { return };
    if memchr::memmem::find(message, b"alias").is_none() {
        return;
    }
    let names = shared.streams.names(id);
    let Ok(Message::Request(request)) = Message::parse_within(message.clone(), &shared.limits) else {
        return;
    };
    let Ok(via) = request.headers.typed::<Via>() else { return };
    if via.params.get("alias").is_none() {
        return;
    }
    let sent_by = match via.host() {
        Host::Name(name) => name.to_owned(),
        Host::Ip(ip) => ip.to_string(),
    };
    if names.iter().any(|name| name.eq_ignore_ascii_case(&sent_by)) {
        let port = via.port.unwrap_or(Transport::Tls.default_port());
        shared.streams.alias(id, SocketAddr::new(flow.remote.ip(), port));
    }
}
