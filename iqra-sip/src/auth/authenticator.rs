//! The server's side: who is it that asks (RFC 3261 §22.1, §22.2, §22.3; RFC 7616 §3.4.6; RFC 8760 §2.4).
//!
//! In: a request, the time, and where secrets are looked up. Out: an [`Identity`], which nothing else can make and which
//! words the server's own proof for the answer, or a [`Denied`] with the response that challenges. Whether a user exists shows neither in the answer nor in the work: for
//! one that does not, the digest is computed over a secret that nobody has.

use std::fmt;
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::credentials::escaped;
use super::digest::{Algorithm, Covered, Qop, hex, same};
use super::mutual::Voucher;
use super::nonce::{Mint, Steady, Use, Uses};
use crate::event::{Body, Reply};
use crate::message::header::{
    Authorization, Challenge, DigestResponse, ProxyAuthenticate, ProxyAuthorization, WwwAuthenticate,
};
use crate::message::{Headers, Method, Request, StatusCode, Text, Uri, grammar};

/// As what the authenticator asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// A user agent or registrar: 401, WWW-Authenticate, Authorization.
    #[default]
    Agent,
    /// A proxy: 407, Proxy-Authenticate, Proxy-Authorization.
    Proxy,
}

/// How requests are authenticated. All fields but the realm have defaults: see [`AuthenticatorConfig::new`].
#[derive(Debug, Clone)]
pub struct AuthenticatorConfig {
    /// What the credentials are for; users see it.
    pub realm: String,
    /// Default [`Role::Agent`].
    pub role: Role,
    /// What is offered, best first; each makes one challenge (RFC 8760 §2.4). Default SHA-256, then MD5 for the many
    /// peers that know nothing else.
    pub algorithms: Vec<Algorithm>,
    /// What is offered in each challenge. Default `auth`; a proxy on the way may change bodies.
    pub qop: Vec<Qop>,
    /// Takes credentials without qop too, each nonce once (RFC 2069). Default true.
    pub allow_without_qop: bool,
    /// How long a nonce lasts; afterwards the client is asked again with `stale=true`. Default 5 minutes.
    pub nonce_life: Duration,
    /// Most nonces whose counts are kept; above it the oldest run out early. With `-sess` each keeps the
    /// client's nonce too, at most 128 octets. Default 65,536.
    pub max_nonces: usize,
    /// Refuses credentials for another user or host than that of the Request-URI. False where a proxy in front rewrites
    /// the Request-URI. Default true.
    pub check_uri: bool,
    /// Offers clients to send a hash in place of the user name (RFC 7616 §3.4.4), so that who listens does not learn it;
    /// [`Accounts::by_hash`] then has to find users by it. Default false.
    pub userhash: bool,
}

impl AuthenticatorConfig {
    /// The defaults for this realm.
    #[must_use]
    pub fn new(realm: impl Into<String>) -> Self {
        Self {
            realm: realm.into(),
            role: Role::Agent,
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            qop: vec![Qop::Auth],
            allow_without_qop: true,
            nonce_life: Duration::from_secs(300),
            max_nonces: 65_536,
            check_uri: true,
            userhash: false,
        }
    }
}

/// What an account proves itself with.
pub enum Secret {
    /// The password itself; fits every algorithm.
    Password(Zeroizing<String>),
    /// A stored HA1, as [`Algorithm::ha1`] makes it, of an algorithm without session; fits that algorithm and its session
    /// variant.
    Ha1(Algorithm, Zeroizing<String>),
}

impl Secret {
    /// A password.
    #[must_use]
    pub fn password(password: impl Into<String>) -> Self {
        Secret::Password(Zeroizing::new(password.into()))
    }

    fn ha1(&self, algorithm: Algorithm, username: &[u8], realm: &str) -> Option<Zeroizing<String>> {
        match self {
            Secret::Password(password) => {
                Some(algorithm.hash(&[username, realm.as_bytes(), password.as_bytes()]))
            }
            Secret::Ha1(of, ha1) if of.plain() == algorithm.plain() => {
                Some(Zeroizing::new(ha1.to_ascii_lowercase()))
            }
            Secret::Ha1(..) => None,
        }
    }
}

/// Shows which kind.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Secret::Password(_) => "Password(***)",
            Secret::Ha1(..) => "Ha1(***)",
        })
    }
}

/// Where secrets are looked up; any `Fn(username, realm) -> Option<Secret>` is one that knows no hashes.
///
/// # Contract
/// Called once for each request that brings credentials. It must not block; a program whose accounts are in a database
/// reads the user by [`Authenticator::claimed`] first and hands a closure over the result. An implementation that takes
/// longer for users it knows gives them away.
pub trait Accounts {
    /// The secret of a user in a realm; `None` where there is no such user.
    fn secret(&self, username: &str, realm: &str) -> Option<Secret>;

    /// The user whose [`Algorithm::userhash`] in a realm this is, in lowercase, and the secret. Asked in place of
    /// [`secret`](Self::secret) for clients that take up [`AuthenticatorConfig::userhash`]; an index over that hash, one
    /// for each algorithm that is offered, is the account store's to keep. Default nobody.
    fn by_hash(&self, algorithm: Algorithm, hash: &str, realm: &str) -> Option<(String, Secret)> {
        let _ = (algorithm, hash, realm);
        None
    }
}

impl<F: Fn(&str, &str) -> Option<Secret>> Accounts for F {
    fn secret(&self, username: &str, realm: &str) -> Option<Secret> {
        self(username, realm)
    }
}

/// Whom a request claims to be from.
#[derive(Clone, PartialEq, Eq)]
pub enum Claim {
    /// This user.
    User(String),
    /// The user with this hash, which goes to [`Accounts::by_hash`].
    Hash(Algorithm, String),
}

/// Hides the user: it may be a phone number.
impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Claim::User(_) => "User(***)",
            Claim::Hash(..) => "Hash(***)",
        })
    }
}

/// Who it is: made by [`Authenticator::check`] alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    username: String,
    voucher: Option<Voucher>,
}

impl Identity {
    /// The user.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Adds Authentication-Info to the headers of a 2xx with this body: our proof that we know the secret, too, and with
    /// `auth-int` that the body is ours (RFC 7616 §3.5). Nothing is added for credentials without qop, and none as a
    /// proxy, for which SIP has no such header.
    pub fn vouch(&self, headers: &mut Headers, body: Option<&Body>) {
        if let Some(voucher) = &self.voucher {
            headers.set_typed(&voucher.info(body.map_or(&[], |body| &body.bytes)));
        }
    }
}

/// Hides the user: it may be a phone number.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(***)")
    }
}

/// Why a request was not let in; for metrics and logs, not for the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// It brought no credentials for this realm: the first request of every client.
    #[error("no credentials")]
    Missing,
    /// They are out of form, or of an algorithm or quality that was not offered.
    #[error("credentials that were not asked for")]
    Unusable,
    /// No such user, or another password.
    #[error("wrong credentials")]
    Wrong,
    /// They are right, and their nonce is too old or not ours.
    #[error("nonce run out")]
    Stale,
    /// They are right, and were used before.
    #[error("credentials replayed")]
    Replayed,
    /// They are right for another user or host.
    #[error("credentials for another URI")]
    OtherUri,
}

/// A request that is not let in.
#[derive(Debug, Clone)]
pub struct Denied {
    /// Why.
    pub reason: Reason,
    /// What to answer: 401 or 407 with fresh challenges, or 400 where the URI does not fit.
    pub reply: Reply,
}

/// Asks for credentials and checks them.
pub struct Authenticator {
    config: AuthenticatorConfig,
    clock: Steady,
    mint: Mint,
    uses: Uses,
    /// What an unknown user is checked against.
    nobody: Secret,
}

impl Authenticator {
    /// An authenticator that signs its nonces with `key`: 32 random octets, drawn at the start of the process. Processes
    /// behind one name may share a key; each then counts the uses that it sees.
    #[must_use]
    pub fn new(config: AuthenticatorConfig, key: [u8; 32]) -> Self {
        let nobody = Secret::Password(Algorithm::Sha256.hash(&[b"nobody", hex(&key).as_bytes()]));
        let uses = Uses::new(config.nonce_life, config.max_nonces);
        Self { clock: Steady::default(), mint: Mint::new(key, config.realm.clone()), uses, nobody, config }
    }

    /// Whom a request claims to be from, unproven: to look up the secret beforehand.
    #[must_use]
    pub fn claimed(&self, request: &Request) -> Option<Claim> {
        let credentials = self.credentials(request)?;
        let shown = plain(&credentials.username);
        match credentials.userhash {
            true => Some(Claim::Hash(algorithm(&credentials)?, shown.to_ascii_lowercase())),
            false => Some(Claim::User(shown)),
        }
    }

    /// Checks a request outside dialogs. ACK and CANCEL cannot be challenged and are not to be checked
    /// (RFC 3261 §22.1). `now` is the wall clock; where it is set back, nonces age on and none is good for a second time.
    ///
    /// # Errors
    /// [`Denied`], with the response to send.
    pub fn check(
        &mut self,
        now: SystemTime,
        request: &Request,
        accounts: &dyn Accounts,
    ) -> Result<Identity, Box<Denied>> {
        let now = self.clock.read(now);
        let verdict = match self.credentials(request) {
            None => Err(Reason::Missing),
            Some(credentials) => self.judge(now, request, &credentials, accounts),
        };
        verdict.map_err(|reason| Box::new(Denied { reason, reply: self.reply(now, reason) }))
    }

    fn credentials(&self, request: &Request) -> Option<DigestResponse> {
        let headers = &request.headers;
        let ours = |response: &DigestResponse| response.realm == *self.config.realm.as_str();
        match self.config.role {
            Role::Agent => headers.typed_all::<Authorization>().flatten().map(|h| h.0).find(ours),
            Role::Proxy => headers.typed_all::<ProxyAuthorization>().flatten().map(|h| h.0).find(ours),
        }
    }

    fn judge(
        &mut self,
        now: SystemTime,
        request: &Request,
        credentials: &DigestResponse,
        accounts: &dyn Accounts,
    ) -> Result<Identity, Reason> {
        let covered = self.covered(request, credentials).ok_or(Reason::Unusable)?;
        let stamp = self.mint.read(&credentials.nonce.to_str());
        let session = stamp.and_then(|stamp| self.uses.session(stamp));
        let proven = self.proves(credentials, &covered, session, accounts);
        let (username, a1) = proven.ok_or(Reason::Wrong)?;
        let stamp = stamp.ok_or(Reason::Stale)?;
        if self.config.check_uri && !same_target(&credentials.uri, &request.uri) {
            return Err(Reason::OtherUri);
        }
        match self.uses.take(now, stamp, covered.nc) {
            Use::Fresh => {
                if covered.algorithm.is_session() {
                    self.uses.begin_session(stamp, covered.cnonce);
                }
                Ok(self.identity(username, a1, credentials, covered.algorithm))
            }
            Use::RunOut => Err(Reason::Stale),
            Use::Replayed => Err(Reason::Replayed),
        }
    }

    fn identity(
        &self,
        username: String,
        a1: Zeroizing<String>,
        credentials: &DigestResponse,
        algorithm: Algorithm,
    ) -> Identity {
        let voucher = match self.config.role {
            Role::Agent => Voucher::of(credentials, algorithm, a1),
            Role::Proxy => None,
        };
        Identity { username, voucher }
    }

    /// What the digest has to cover; `None` where the credentials are of no kind that was offered.
    fn covered<'a>(&self, request: &'a Request, credentials: &'a DigestResponse) -> Option<Covered<'a>> {
        let algorithm = algorithm(credentials).filter(|a| self.config.algorithms.contains(a))?;
        if credentials.userhash && !self.config.userhash {
            return None;
        }
        let cnonce = credentials.cnonce.as_ref().map(Text::as_bytes);
        let (qop, nc) = match &credentials.qop {
            Some(word) => {
                let qop = Qop::named(&word.to_str()).filter(|qop| self.config.qop.contains(qop))?;
                cnonce?;
                (Some(qop), credentials.nc?)
            }
            None if self.config.allow_without_qop && !algorithm.is_session() => (None, 1),
            None => return None,
        };
        Some(Covered {
            algorithm,
            nonce: credentials.nonce.as_bytes(),
            qop,
            cnonce: cnonce.unwrap_or_default(),
            nc,
            method: request.method.as_str(),
            uri: credentials.uri.as_bytes(),
            body: &request.body,
        })
    }

    /// The user and what A1 hashes to, where the digest is right. With `-sess` A1 is made once, of the client's nonce that
    /// the `session` began with (RFC 7616 §3.4.2); that of the request itself is taken too, as many clients have it.
    fn proves(
        &self,
        credentials: &DigestResponse,
        covered: &Covered<'_>,
        session: Option<&[u8]>,
        accounts: &dyn Accounts,
    ) -> Option<(String, Zeroizing<String>)> {
        let (realm, algorithm) = (self.config.realm.as_str(), covered.algorithm);
        let shown = plain(&credentials.username);
        let (username, secret) = match credentials.userhash {
            true => accounts.by_hash(algorithm, &shown.to_ascii_lowercase(), realm).unzip(),
            false => (None, accounts.secret(&shown, realm)),
        };
        // The digest covers the user name itself, as it would stand between quotes.
        let spelled = username.as_deref().map_or(credentials.username.to_string(), escaped);
        let of = |secret: &Secret| secret.ha1(algorithm, spelled.as_bytes(), realm);
        let real = secret.as_ref().and_then(of);
        let known = real.is_some();
        let ha1 = real.or_else(|| of(&self.nobody)).unwrap_or_default();
        let given = credentials.response.to_str().to_ascii_lowercase();
        let in_session = |cnonce: &[u8]| {
            let a1 = algorithm.a1(&ha1, covered.nonce, cnonce);
            same(covered.response_in(&a1).as_bytes(), given.as_bytes()).then_some(a1)
        };
        let begun = session.filter(|cnonce| algorithm.is_session() && *cnonce != covered.cnonce);
        let a1 = in_session(covered.cnonce).or_else(|| in_session(begun?));
        a1.filter(|_| known).map(|a1| (username.unwrap_or(shown), a1))
    }

    fn reply(&mut self, now: SystemTime, reason: Reason) -> Reply {
        if reason == Reason::OtherUri {
            return Reply::new(StatusCode::BAD_REQUEST).reason("Credentials Are For Another URI");
        }
        let stale = matches!(reason, Reason::Stale | Reason::Replayed);
        let status = match self.config.role {
            Role::Agent => StatusCode::UNAUTHORIZED,
            Role::Proxy => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        };
        let mut reply = Reply::new(status);
        for algorithm in self.config.algorithms.clone() {
            let challenge = self.challenge(now, algorithm, stale);
            match self.config.role {
                Role::Agent => reply.headers.push_typed(&WwwAuthenticate(challenge)),
                Role::Proxy => reply.headers.push_typed(&ProxyAuthenticate(challenge)),
            }
        }
        reply
    }

    fn challenge(&mut self, now: SystemTime, algorithm: Algorithm, stale: bool) -> Challenge {
        let qop: Vec<_> = self.config.qop.iter().map(|qop| qop.as_str()).collect();
        Challenge {
            realm: Text::from(self.config.realm.as_str()),
            nonce: Text::from(self.mint.make(now)),
            opaque: None,
            algorithm: Some(Text::from_static(algorithm.as_str())),
            qop: (!qop.is_empty()).then(|| Text::from(qop.join(","))),
            stale,
            userhash: self.config.userhash,
            domain: None,
        }
    }
}

impl Authenticator {
    /// True for every method but ACK and CANCEL (RFC 3261 §22.1).
    #[must_use]
    pub fn may_challenge(method: &Method) -> bool {
        !matches!(method, Method::Ack | Method::Cancel)
    }
}

/// Shows the realm alone.
impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authenticator({})", self.config.realm)
    }
}

fn algorithm(credentials: &DigestResponse) -> Option<Algorithm> {
    Algorithm::named(credentials.algorithm.as_ref().map(Text::to_str).as_deref())
}

/// A value from between quotes without its escapes.
fn plain(value: &Text) -> String {
    grammar::unquote(format!("\"{value}\"").into()).into_owned()
}

/// Same user and host; ports and parameters change on the way.
fn same_target(given: &Text, asked: &Uri) -> bool {
    let Ok(given) = given.to_str().parse::<Uri>() else { return false };
    let host = |uri: &Uri| uri.host().map(|host| host.to_string().to_ascii_lowercase());
    given.user_decoded() == asked.user_decoded() && host(&given) == host(asked)
}

#[cfg(test)]
#[path = "authenticator_tests.rs"]
mod tests;
