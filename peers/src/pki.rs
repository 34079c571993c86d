//! Certificates made for one test: an authority and what it has signed, as PEM files that go with the test.

use std::path::PathBuf;

use iqra_sip::net::{TlsClients, TlsConfig, TlsIdentity, TlsRoots, TlsSettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::scratch::Scratch;

/// An authority that nobody else trusts.
pub struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    scratch: Scratch,
}

impl Pki {
    /// A new authority.
    ///
    /// # Panics
    /// When the temporary directory is not writable.
    #[allow(clippy::new_without_default)] // It writes files.
    pub fn new() -> Self {
        let scratch = Scratch::new("pki");
        let mut params = CertificateParams::new(Vec::new()).expect("no names are no wrong names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("randomness");
        let authority = CertifiedIssuer::self_signed(params, key).expect("signed");
        scratch.write("roots.pem", authority.pem());
        Self { authority, scratch }
    }

    /// The authority's own certificate.
    pub fn roots(&self) -> PathBuf {
        self.scratch.path().join("roots.pem")
    }

    /// Signs a certificate for these names and addresses.
    ///
    /// # Panics
    /// When one is no name.
    pub fn sign(&self, file: &str, names: &[&str]) -> TlsIdentity {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        // OpenSSL takes a certificate for its own issuer where both are called the same.
        params.distinguished_name.push(DnType::CommonName, file);
        let key = KeyPair::generate().expect("randomness");
        let certificate = params.signed_by(&key, &self.authority).expect("signed");
        TlsIdentity {
            certificate: self.scratch.write(&format!("{file}.pem"), certificate.pem()),
            key: self.scratch.write(&format!("{file}.key"), key.serialize_pem()),
        }
    }

    /// What an endpoint of ours at 127.0.0.1 needs; it demands certificates of this authority from its clients.
    ///
    /// # Panics
    /// When the files just written cannot be read.
    pub fn endpoint(&self) -> TlsConfig {
        self.config(TlsClients::Required(self.roots()))
    }

    /// The same for clients without certificates.
    ///
    /// # Panics
    /// As [`endpoint`](Self::endpoint).
    pub fn open_endpoint(&self) -> TlsConfig {
        self.config(TlsClients::Anonymous)
    }

    /// A certificate for 127.0.0.1 followed by its key, in one file.
    ///
    /// # Panics
    /// When the files just written cannot be read.
    pub fn joined(&self, file: &str) -> PathBuf {
        let TlsIdentity { certificate, key } = self.sign(file, &["127.0.0.1"]);
        let parts = [certificate, key].map(|path| std::fs::read_to_string(path).expect("just written"));
        self.scratch.write(&format!("{file}-joined.pem"), parts.concat())
    }

    fn config(&self, clients: TlsClients) -> TlsConfig {
        let settings = TlsSettings {
            identities: vec![self.sign("endpoint", &["127.0.0.1"])],
            roots: TlsRoots::File(self.roots()),
            clients,
            ..TlsSettings::default()
        };
        TlsConfig::load(settings).expect("the files just written")
    }
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pki({})", self.scratch.path().display())
    }
}
