//! Digest authentication in both roles, and the registration client (RFC 7616, RFC 8760, RFC 3261 §10, §22).
//!
//! In: challenges, credentials, time. Out: credentials, verdicts, REGISTER requests. No sockets and no clock here: the
//! engine repeats what was challenged, `net` moves the octets.
//!
//! A program that calls hands [`Credentials`] over in [`AuthConfig`] or per request as a [`Keyring`]; one that is called
//! asks an [`Authenticator`] about each request outside dialogs.

mod authenticator;
mod backoff;
mod credentials;
mod digest;
pub(crate) mod mutual;
mod nonce;
mod register;
mod wallet;

pub use authenticator::{
    Accounts, Authenticator, AuthenticatorConfig, Claim, Denied, Identity, Reason, Role, Secret,
};
pub use backoff::Backoff;
pub use credentials::{Credentials, Keyring};
pub use digest::{Algorithm, Qop};
pub use mutual::ServerProof;
pub use register::{
    Binding, Bound, Registering, Registration, RegistrationError, RegistrationFailure, RegistrationState,
};
pub(crate) use wallet::{Bounds, Learned, Wallet};

use std::time::Duration;

/// How an engine answers challenges. All fields have defaults.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// The credentials for requests that bring none of their own. Default none.
    pub credentials: Keyring,
    /// Most nonces that are kept to answer before being asked; the one longest unused goes first. Default 1,024.
    pub max_nonces: usize,
    /// Most challenges that are answered for one request; several proxies on the way ask one after the other.
    /// Default 5.
    pub max_challenges: u8,
    /// How long credentials rest that a server refused: requests are told its 401 or 407 at once and do not repeat them,
    /// until one tries again. Other credentials may be tried meanwhile. Zero has each request try once. Default 30 s.
    pub refused_rest: Duration,
    /// What a server has to prove with its answer to credentials (RFC 7616 §3.5). Default [`ServerProof::Checked`].
    pub server_proof: ServerProof,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            credentials: Keyring::default(),
            max_nonces: 1_024,
            max_challenges: 5,
            refused_rest: Duration::from_secs(30),
            server_proof: ServerProof::default(),
        }
    }
}
