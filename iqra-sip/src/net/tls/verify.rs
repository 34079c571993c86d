//! Whether a certificate is that of the peer we mean: its path to a root as in RFC 5280, its names as in RFC 5922 §7.

use std::net::IpAddr;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use webpki::EndEntityCert;

/// Checks the certificates of servers that we connect to.
#[derive(Debug)]
pub(super) struct PeerIs {
    pub(super) roots: RootCertStore,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) wildcards: bool,
}

impl ServerCertVerifier for PeerIs {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        let certificate = read(end_entity).ok_or(CertificateError::BadEncoding)?;
        match is_for(&certificate, server_name, self.wildcards) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::NotValidForNameContext {
                expected: server_name.to_owned(),
                presented: presented(&certificate),
            }
            .into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Our certificates; a client sees the first that holds the name it asks for, else the first of all.
#[derive(Debug)]
pub(super) struct Shown(pub(super) Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let holds = |identity: &&Arc<CertifiedKey>| {
            let certificate = identity.cert.first().and_then(read);
            let asked = asked.as_ref().zip(certificate);
            asked.is_some_and(|(name, certificate)| {
                is_for_host(&certificate, name) || is_for(&certificate, name, false)
            })
        };
        self.0.iter().find(holds).or(self.0.first()).cloned()
    }
}

fn read<'a>(certificate: &'a CertificateDer<'_>) -> Option<EndEntityCert<'a>> {
    EndEntityCert::try_from(certificate).ok()
}

/// RFC 5922 §7.2: names are compared whole, `*` stands for nothing.
fn is_for(certificate: &EndEntityCert<'_>, wanted: &ServerName<'_>, wildcards: bool) -> bool {
    let ServerName::DnsName(domain) = wanted else {
        return certificate.verify_is_valid_for_subject_name(wanted).is_ok();
    };
    let named = domains(certificate).iter().any(|name| name.eq_ignore_ascii_case(domain.as_ref()));
    let starred = || by_uri(certificate).next().is_none() && is_for_host(certificate, wanted);
    named || wildcards && starred()
}

/// As any other use of TLS has it: a DNS name or a star, beside whatever URIs.
fn is_for_host(certificate: &EndEntityCert<'_>, wanted: &ServerName<'_>) -> bool {
    certificate.verify_is_valid_for_subject_name(wanted).is_ok()
}

/// RFC 5922 §7.1: the domains that stand as `sip:` URIs in the subjectAltName; where there is none, those that stand as
/// DNS names. The common name is not looked at.
fn domains<'a>(certificate: &'a EndEntityCert<'_>) -> Vec<&'a str> {
    let by_uri: Vec<_> = by_uri(certificate).collect();
    match by_uri.is_empty() {
        true => certificate.valid_dns_names().collect(),
        false => by_uri,
    }
}

fn by_uri<'a>(certificate: &'a EndEntityCert<'_>) -> impl Iterator<Item = &'a str> {
    certificate.valid_uri_names().filter_map(domain_of)
}

/// The host of a `sip:` URI without a user part, which would name a user and no domain.
fn domain_of(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once(':').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("sip"))?;
    let host = match rest.strip_prefix('[') {
        Some(address) => address.split_once(']')?.0,
        None => rest.split([':', ';', '?']).next()?,
    };
    (!host.is_empty() && !rest.contains('@')).then_some(host)
}

fn presented(certificate: &EndEntityCert<'_>) -> Vec<String> {
    domains(certificate).into_iter().map(str::to_owned).collect()
}

/// What a checked certificate proves its holder to be: its domains, and its address where the certificate holds that.
pub(super) fn names(certificate: &CertificateDer<'_>, address: IpAddr) -> Vec<Arc<str>> {
    let Some(certificate) = read(certificate) else { return Vec::new() };
    let mut names: Vec<Arc<str>> = domains(&certificate).into_iter().map(Arc::from).collect();
    if certificate.verify_is_valid_for_subject_name(&ServerName::IpAddress(address.into())).is_ok() {
        names.push(address.to_string().into());
    }
    names
}
