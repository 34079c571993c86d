//! A registrar of one account that asks for Digest, and lets callers in who prove the account.

use std::time::SystemTime;

use iqra_sip::auth::{Algorithm, Authenticator, AuthenticatorConfig, Role, Secret};
use iqra_sip::event::Reply;
use iqra_sip::net::{IncomingOther, IncomingRequest};
use iqra_sip::{Flow, HeaderName, Method, Request, StatusCode};

use crate::endpoint::Us;

/// The user and the password that the peers have.
pub const ACCOUNT: (&str, &str) = ("alice", "opensesame");

/// What [`ACCOUNT`] is for.
pub const REALM: &str = "voice.example";

/// The registrar.
pub struct Registrar {
    auth: Authenticator,
}

impl Registrar {
    /// Asks with this algorithm, as a server by 401 or as a proxy by 407.
    pub fn new(algorithm: Algorithm, role: Role) -> Self {
        let algorithms = vec![algorithm];
        let config = AuthenticatorConfig { role, algorithms, ..AuthenticatorConfig::new(REALM) };
        Self { auth: Authenticator::new(config, [7; 32]) }
    }

    /// Whether the request proves its account; else what to answer.
    ///
    /// # Errors
    /// The challenge.
    pub fn check(&mut self, request: &Request) -> Result<(), Box<Reply>> {
        let accounts = |user: &str, _: &str| (user == ACCOUNT.0).then(|| Secret::password(ACCOUNT.1));
        let checked = self.auth.check(SystemTime::now(), request, &accounts);
        checked.map(drop).map_err(|denied| Box::new(denied.reply))
    }

    /// Challenges requests until one proves its account, and leaves that one to be answered.
    ///
    /// # Panics
    /// When none does within three.
    pub async fn admit(&mut self, us: &mut Us) -> IncomingRequest {
        for _ in 0..3 {
            let request = us.incoming().await;
            let head = match &request {
                IncomingRequest::Invite(invite) => invite.request(),
                IncomingRequest::Other(other) => other.request(),
            };
            match (self.check(head), request) {
                (Ok(()), request) => return request,
                (Err(reply), IncomingRequest::Invite(invite)) => drop(invite.reject(*reply)),
                (Err(reply), IncomingRequest::Other(other)) => other.respond(*reply),
            }
        }
        panic!("no request proved its account")
    }

    /// Takes one registration, or its end, of a phone that is asked for its password.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn register(&mut self, us: &mut Us) -> Binding {
        match self.admit(us).await {
            IncomingRequest::Other(other) => bind(other),
            IncomingRequest::Invite(invite) => panic!("no REGISTER but {invite:?}"),
        }
    }
}

impl std::fmt::Debug for Registrar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registrar")
    }
}

/// A registration that was granted, or its end.
#[derive(Debug)]
pub struct Binding {
    /// The REGISTER.
    pub request: Request,
    /// The way that it came.
    pub flow: Flow,
}

/// Grants a registration, or its end.
///
/// # Panics
/// When the request is no REGISTER.
pub fn bind(register: IncomingOther) -> Binding {
    let (request, flow) = (register.request().clone(), *register.source());
    assert_eq!(request.method, Method::Register);
    let contact = request.headers.get(HeaderName::CONTACT).unwrap_or_default().into_owned();
    let expires = request.headers.get(HeaderName::EXPIRES).map_or("600".into(), std::borrow::Cow::into_owned);
    let bound = if contact.contains("expires=") { contact } else { format!("{contact};expires={expires}") };
    let granted = Reply::new(StatusCode::OK);
    let leaves = bound.ends_with("expires=0");
    register.respond(if leaves { granted } else { granted.header(HeaderName::CONTACT, bound) });
    Binding { request, flow }
}
