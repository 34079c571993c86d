//! From PEM files to what rustls works with; every error names the file and the remedy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{ClientConfig, DEFAULT_VERSIONS, RootCertStore, ServerConfig};

use super::verify::{PeerIs, Shown};
use super::{Current, TlsClients, TlsIdentity, TlsRoots, TlsSettings};

/// Why TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {error}: give the path of a PEM file that this process may read", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// A file holds no, or broken, PEM.
    #[error("{}: {why}: {remedy}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The operating system has no root certificates.
    #[error("no root certificates on this system ({0}): install its CA bundle, or name a PEM file of roots")]
    NoSystemRoots(String),
    /// What rustls refuses otherwise.
    #[error("TLS settings: {0}")]
    Refused(String),
}

/// Reads everything that the settings name.
pub(super) fn read(settings: &TlsSettings) -> Result<Current, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let identities: Vec<_> = settings
        .identities
        .iter()
        .map(|identity| certified(identity, &provider))
        .collect::<Result<_, _>>()?;
    let server = match identities.is_empty() {
        true => None,
        false => Some(Arc::new(server(settings, identities.clone(), &provider)?)),
    };
    let client = Arc::new(client(settings, identities.first(), &provider)?);
    Ok(Current { server, client })
}

fn server(
    settings: &TlsSettings,
    identities: Vec<Arc<CertifiedKey>>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(DEFAULT_VERSIONS)
        .map_err(refused)?
        .with_client_cert_verifier(clients(&settings.clients, provider)?);
    Ok(builder.with_cert_resolver(Arc::new(Shown(identities))))
}

fn clients(
    clients: &TlsClients,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let (file, required) = match clients {
        TlsClients::Anonymous => return Ok(WebPkiClientVerifier::no_client_auth()),
        TlsClients::Optional(file) => (file, false),
        TlsClients::Required(file) => (file, true),
    };
    let roots = Arc::new(roots_in(file)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
    let verifier = verifier.build().map_err(|error| TlsError::Refused(error.to_string()))?;
    Ok(verifier)
}

fn client(
    settings: &TlsSettings,
    identity: Option<&Arc<CertifiedKey>>,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, TlsError> {
    let roots = match &settings.roots {
        TlsRoots::System => system_roots(identity.is_some())?,
        TlsRoots::File(file) => roots_in(file)?,
    };
    let peer = PeerIs { roots, provider: provider.clone(), wildcards: settings.wildcards };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(DEFAULT_VERSIONS)
        .map_err(refused)?
        .dangerous() // PeerIs checks the path as rustls does, and the name as RFC 5922 wants.
        .with_custom_certificate_verifier(Arc::new(peer));
    Ok(match identity {
        Some(identity) => {
            let shown = SingleCertAndKey::from((**identity).clone());
            builder.with_client_cert_resolver(Arc::new(shown))
        }
        None => builder.with_no_client_auth(),
    })
}

fn refused(error: tokio_rustls::rustls::Error) -> TlsError {
    TlsError::Refused(error.to_string())
}

fn certified(identity: &TlsIdentity, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(&identity.certificate)?;
    let key = read_file(&identity.key)?;
    let content = |why: String, remedy| TlsError::Content { file: identity.key.clone(), why, remedy };
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            content("no private key in it".into(), "give a PEM file with an unencrypted PRIVATE KEY")
        }
        error => content(error.to_string(), "give the key in PEM"),
    })?;
    CertifiedKey::from_der(chain, key, provider).map(Arc::new).map_err(|error| {
        content(
            error.to_string(),
            "give the key that belongs to the certificate, RSA, P-256, P-384 or Ed25519",
        )
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read_file(file)?;
    let content = |why: String| {
        let remedy = "give a PEM file with BEGIN CERTIFICATE, the own one first";
        TlsError::Content { file: file.to_owned(), why, remedy }
    };
    let read = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let chain = read.map_err(|error| content(error.to_string()))?;
    if chain.is_empty() { Err(content("no certificate in it".into())) } else { Ok(chain) }
}

fn roots_in(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| TlsError::Content {
            file: file.to_owned(),
            why: error.to_string(),
            remedy: "give root certificates in PEM",
        })?;
    }
    Ok(roots)
}

/// A server that never connects can do without roots.
fn system_roots(optional: bool) -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() && !optional {
        let why = found.errors.first().map_or_else(|| String::from("none found"), ToString::to_string);
        return Err(TlsError::NoSystemRoots(why));
    }
    Ok(roots)
}

fn read_file(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|error| TlsError::Read { file: file.to_owned(), error })
}
