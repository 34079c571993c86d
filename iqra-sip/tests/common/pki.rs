//! Certificates made for one test, in a folder that goes with it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use iqra_sip::net::{TlsClients, TlsConfig, TlsIdentity, TlsRoots, TlsSettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

/// A certificate authority and the files of what it has signed.
pub(crate) struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Pki {
    pub(crate) fn new() -> Pki {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("iqra-sip-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join("roots.pem"), authority.pem()).unwrap();
        Pki { authority, folder }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn roots(&self) -> PathBuf {
        self.file("roots.pem")
    }

    /// Signs a certificate for these names and writes it over the one of the same file name.
    pub(crate) fn sign(&self, file: &str, names: &[&str]) -> TlsIdentity {
        let is_uri = |name: &&&str| name.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("sip:"));
        let plain = names.iter().filter(|name| !is_uri(name));
        let mut params = CertificateParams::new(plain.map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let uris = names.iter().filter(is_uri);
        params.subject_alt_names.extend(uris.map(|uri| SanType::URI((*uri).try_into().unwrap())));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let identity = TlsIdentity {
            certificate: self.file(&format!("{file}.pem")),
            key: self.file(&format!("{file}.key")),
        };
        write(&identity.certificate, &certificate.pem());
        write(&identity.key, &key.serialize_pem());
        identity
    }

    /// Settings that trust this authority and show a certificate for these names.
    pub(crate) fn settings(&self, file: &str, names: &[&str]) -> TlsSettings {
        TlsSettings {
            identities: vec![self.sign(file, names)],
            roots: TlsRoots::File(self.roots()),
            clients: TlsClients::Optional(self.roots()),
            ..TlsSettings::default()
        }
    }

    pub(crate) fn config(&self, file: &str, names: &[&str]) -> TlsConfig {
        TlsConfig::load(self.settings(file, names)).unwrap()
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
