//! What a client proves itself with: users, passwords and the realms they are for (RFC 3261 §22.2, §22.3).

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::digest::{Algorithm, Covered, Qop, same};
use super::mutual::Voucher;
use crate::message::header::{Challenge, DigestResponse};
use crate::message::{Request, Text};

/// A user and a password, for one realm or any. Cheap to clone; the password is wiped with the last copy and shows
/// nowhere.
#[derive(Clone)]
pub struct Credentials {
    username: Arc<str>,
    password: Arc<Zeroizing<String>>,
    realm: Option<Arc<str>>,
}

impl Credentials {
    /// Credentials for whatever realm asks.
    #[must_use]
    pub fn new(username: &str, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: Arc::new(Zeroizing::new(password.into())), realm: None }
    }

    /// The same for one realm only. Safer where requests may reach strangers, who could otherwise choose the realm.
    #[must_use]
    pub fn for_realm(self, realm: &str) -> Self {
        Self { realm: Some(realm.into()), ..self }
    }

    pub(super) fn username(&self) -> &Arc<str> {
        &self.username
    }

    /// Whether these are the same user and password, for whatever realm.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.username == other.username && same(self.password.as_bytes(), other.password.as_bytes())
    }

    /// The answer to a challenge that [`usable`] gave these two for.
    pub(super) fn answer(
        &self,
        challenge: &Challenge,
        (algorithm, qop): (Algorithm, Option<Qop>),
        (cnonce, nc): (&str, u32),
        request: &Request,
    ) -> DigestResponse {
        let (username, uri) = (escaped(&self.username), request.uri.as_str());
        let ha1 = self.ha1(algorithm, &challenge.realm);
        let covered = Covered {
            algorithm,
            nonce: challenge.nonce.as_bytes(),
            qop,
            cnonce: cnonce.as_bytes(),
            nc,
            method: request.method.as_str(),
            uri: uri.as_bytes(),
            body: &request.body,
        };
        let shown = match challenge.userhash {
            true => userhash(algorithm, &username, &challenge.realm),
            false => username,
        };
        let counted = qop.is_some();
        DigestResponse {
            username: shown.into(),
            realm: challenge.realm.clone(),
            nonce: challenge.nonce.clone(),
            uri: uri.into(),
            response: covered.response(&ha1).as_str().into(),
            algorithm: challenge.algorithm.clone(),
            cnonce: (counted || algorithm.is_session()).then(|| cnonce.into()),
            opaque: challenge.opaque.clone(),
            qop: qop.map(|qop| Text::from_static(qop.as_str())),
            nc: counted.then_some(nc),
            userhash: challenge.userhash,
        }
    }
}

impl Credentials {
    fn ha1(&self, algorithm: Algorithm, realm: &Text) -> Zeroizing<String> {
        let username = escaped(&self.username);
        algorithm.hash(&[username.as_bytes(), realm.as_bytes(), self.password.as_bytes()])
    }
}

fn userhash(algorithm: Algorithm, username: &str, realm: &Text) -> String {
    algorithm.hash(&[username.as_bytes(), realm.as_bytes()]).to_string()
}

/// A user name as it stands between quotes; that form is what is hashed (RFC 7616 §3.4.1, `unq`).
pub(super) fn escaped(username: &str) -> String {
    username.chars().flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c])).collect()
}

/// The algorithm and the quality with which a challenge can be answered; `None` where we know neither. `auth` goes
/// before `auth-int`, for elements on the way may change a body.
pub(super) fn usable(challenge: &Challenge) -> Option<(Algorithm, Option<Qop>)> {
    let name = challenge.algorithm.as_ref().map(Text::to_str);
    let algorithm = Algorithm::named(name.as_deref())?;
    let Some(offered) = &challenge.qop else { return Some((algorithm, None)) };
    let offered = offered.to_str();
    let words = || offered.split([',', ' ', '\t']).filter(|word| !word.is_empty());
    let offers = |wanted: Qop| words().any(|word| Qop::named(word) == Some(wanted));
    match (offers(Qop::Auth), offers(Qop::AuthInt)) {
        (true, _) => Some((algorithm, Some(Qop::Auth))),
        (false, true) => Some((algorithm, Some(Qop::AuthInt))),
        // An empty list offers what RFC 2069 has.
        (false, false) => words().next().is_none().then_some((algorithm, None)),
    }
}

/// Shows for which realm, not for whom.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials(realm {:?})", self.realm)
    }
}

/// Several credentials, of which each realm finds its own. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Keyring(Arc<[Credentials]>);

impl Keyring {
    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those for this realm: named for it, else the first for any.
    pub(super) fn find(&self, realm: &Text) -> Option<&Credentials> {
        let named = |c: &&Credentials| c.realm.as_ref().is_some_and(|r| r.as_bytes() == realm.as_bytes());
        self.0.iter().find(named).or_else(|| self.0.iter().find(|c| c.realm.is_none()))
    }

    /// Whose of these users a request has named, by its name or the hash of it, and the algorithm.
    pub(super) fn signed(&self, sent: &DigestResponse) -> Option<(&Credentials, Algorithm)> {
        let credentials = self.find(&sent.realm)?;
        let algorithm = Algorithm::named(sent.algorithm.as_ref().map(Text::to_str).as_deref())?;
        let username = escaped(&credentials.username);
        let shown = match sent.userhash {
            true => userhash(algorithm, &username, &sent.realm),
            false => username,
        };
        (sent.username == *shown).then_some((credentials, algorithm))
    }

    /// What the answer to a request with these credentials has to prove, where they are ours.
    pub(super) fn voucher(&self, sent: &DigestResponse) -> Option<Voucher> {
        let (credentials, algorithm) = self.signed(sent)?;
        let ha1 = credentials.ha1(algorithm, &sent.realm);
        let a1 = algorithm.a1(&ha1, sent.nonce.as_bytes(), sent.cnonce.as_ref()?.as_bytes());
        Voucher::of(sent, algorithm, a1)
    }
}

impl From<Credentials> for Keyring {
    fn from(one: Credentials) -> Self {
        Self(Arc::from([one]))
    }
}

impl FromIterator<Credentials> for Keyring {
    fn from_iter<I: IntoIterator<Item = Credentials>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(qop: Option<&'static str>, algorithm: Option<&'static str>) -> Challenge {
        Challenge {
            realm: Text::from_static("r"),
            nonce: Text::from_static("n"),
            opaque: None,
            algorithm: algorithm.map(Text::from_static),
            qop: qop.map(Text::from_static),
            stale: false,
            userhash: false,
            domain: None,
        }
    }

    #[test]
    fn a_named_realm_goes_before_any() {
        let ring: Keyring =
            [Credentials::new("any", "1"), Credentials::new("own", "2").for_realm("r")].into_iter().collect();
        assert_eq!(&**ring.find(&Text::from("r")).unwrap().username(), "own");
        assert_eq!(&**ring.find(&Text::from("other")).unwrap().username(), "any");
        let only: Keyring = Credentials::new("own", "2").for_realm("r").into();
        assert!(only.find(&Text::from("R")).is_none());
    }

    #[test]
    fn auth_goes_before_auth_int_and_what_is_unknown_is_not_answered() {
        let quality = |qop| usable(&challenge(qop, None));
        assert_eq!(quality(Some("auth-int, auth")), Some((Algorithm::Md5, Some(Qop::Auth))));
        assert_eq!(quality(Some("AUTH-INT")), Some((Algorithm::Md5, Some(Qop::AuthInt))));
        assert_eq!(quality(None), Some((Algorithm::Md5, None)));
        assert_eq!(quality(Some("")), Some((Algorithm::Md5, None)));
        assert_eq!(quality(Some("auth-conf")), None);
        assert_eq!(usable(&challenge(None, Some("SHA-999"))), None);
    }

    #[test]
    fn debug_shows_neither_user_nor_password() {
        let ring: Keyring = Credentials::new("u53r", "s3cret").into();
        let text = format!("{ring:?}");
        assert!(!text.contains("u53r") && !text.contains("s3cret"), "{text}");
    }
}
