//! The client's memory of nonces: which challenges were met where, and how often each nonce was used
//! (RFC 3261 §22.2, §22.3; RFC 7616 §3.3, §3.5).
//!
//! In: challenges that came, requests that go out. Out: the credentials for a request, those that are known to be
//! needed before anybody asks. One per engine, because a nonce count must never be used twice. Bounded: what is longest
//! unused is forgotten and costs one more challenge.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::credentials::{Keyring, usable};
use super::digest::{Algorithm, Qop};
use crate::message::header::{
    AuthenticationInfo, Authorization, Challenge, ProxyAuthenticate, ProxyAuthorization, WwwAuthenticate,
};
use crate::message::{HeaderName, Headers, Method, Request, Response, StatusCode, Text};

/// Who asks for credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Asker {
    /// A user agent or registrar, by 401.
    Agent,
    /// A proxy, by 407.
    Proxy,
}

impl Asker {
    fn header(self) -> HeaderName {
        match self {
            Asker::Agent => HeaderName::AUTHORIZATION,
            Asker::Proxy => HeaderName::PROXY_AUTHORIZATION,
        }
    }
}

/// Where credentials are valid: the next hop stands for the domain behind it. Registrations are apart from calls, for
/// the same server asks for the one as a registrar and for the other as a proxy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Space {
    hop: SocketAddr,
    registers: bool,
    asker: Asker,
    realm: Box<[u8]>,
    username: Arc<str>,
}

/// A nonce and how often it was used.
struct Known {
    challenge: Challenge,
    with: (Algorithm, Option<Qop>),
    uses: u32,
    /// The nonce of ours that a session began with: A1 is made of it as long as the challenge holds (RFC 7616 §3.4.2), and
    /// as every request carries it again, a server that makes A1 of each request's own comes to the same.
    cnonce: Option<String>,
    /// When it was used last, by the wallet's own count.
    used: u64,
}

/// All nonces that an engine knows.
#[derive(Default)]
pub(crate) struct Wallet {
    known: BTreeMap<Space, Known>,
    clock: u64,
}

/// What became of the challenges in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learned {
    /// At least one can be answered with a nonce that the request did not carry.
    Fresh,
    /// The credentials were refused, or there are none.
    Nothing,
}

impl Wallet {
    /// Learns the challenges in a response to `request`.
    pub(crate) fn learn(
        &mut self,
        hop: SocketAddr,
        request: &Request,
        response: &Response,
        keyring: &Keyring,
        most: usize,
    ) -> Learned {
        let mut learned = Learned::Nothing;
        for (asker, challenge) in strongest(response, keyring) {
            let carried = carried(&request.headers, asker, &challenge.realm);
            let refused = carried.is_some_and(|nonce| self.is_refusal(&nonce, &challenge));
            if !refused && self.keep(hop, &request.method, asker, challenge, keyring, most) {
                learned = Learned::Fresh;
            }
        }
        learned
    }

    /// Whether a challenge to a request that carried `nonce` refuses its credentials: it brings nothing new, or the nonce
    /// was used for the first time and the server does not call it stale. An older nonce may just have run out.
    fn is_refusal(&self, nonce: &Text, challenge: &Challenge) -> bool {
        let first = self.known.values().any(|known| known.challenge.nonce == *nonce && known.uses <= 1);
        *nonce == challenge.nonce || (first && !challenge.stale)
    }

    fn keep(
        &mut self,
        hop: SocketAddr,
        method: &Method,
        asker: Asker,
        challenge: Challenge,
        keyring: &Keyring,
        most: usize,
    ) -> bool {
        let Some(with) = usable(&challenge) else { return false };
        let Some(credentials) = keyring.find(&challenge.realm) else { return false };
        let space = Space {
            hop,
            registers: *method == Method::Register,
            asker,
            realm: challenge.realm.as_bytes().into(),
            username: credentials.username().clone(),
        };
        self.clock += 1;
        let known = Known { challenge: detached(&challenge), with, uses: 0, cnonce: None, used: self.clock };
        self.known.insert(space, known);
        self.forget_oldest(most.max(1));
        true
    }

    fn forget_oldest(&mut self, most: usize) {
        while self.known.len() > most {
            let oldest =
                self.known.iter().min_by_key(|(_, known)| known.used).map(|(space, _)| space.clone());
            let Some(oldest) = oldest else { return };
            self.known.remove(&oldest);
        }
    }

    /// Replaces the credentials of `request` by those that its next hop is known to want, each with its next count.
    pub(crate) fn authorize(
        &mut self,
        hop: SocketAddr,
        request: &mut Request,
        keyring: &Keyring,
        mut cnonce: impl FnMut() -> String,
    ) {
        let registers = request.method == Method::Register;
        let first =
            Space { hop, registers, asker: Asker::Agent, realm: Box::default(), username: Arc::from("") };
        let here = |space: &Space| (space.hop, space.registers) == (hop, registers);
        for (space, known) in self.known.range_mut(first..).take_while(|(space, _)| here(space)) {
            let credentials = keyring.find(&known.challenge.realm);
            let Some(credentials) = credentials.filter(|c| *c.username() == space.username) else { continue };
            self.clock += 1;
            (known.uses, known.used) = (known.uses.saturating_add(1), self.clock);
            let cnonce = match known.with.0.is_session() {
                true => known.cnonce.get_or_insert_with(&mut cnonce).clone(),
                false => cnonce(),
            };
            let answer = credentials.answer(&known.challenge, known.with, (&cnonce, known.uses), request);
            drop_credentials(&mut request.headers, space.asker, &known.challenge.realm);
            request.headers.push(space.asker.header(), answer.to_string());
        }
    }

    /// A planted fault: every count begins anew.
    #[cfg(feature = "faults")]
    pub(crate) fn rewind(&mut self) {
        self.known.values_mut().for_each(|known| known.uses = 0);
    }

    /// Takes the next nonce that a server gives with its answer (RFC 7616 §3.5). A session stays with the nonce that it
    /// began with, as its A1 does (§3.4.2).
    pub(crate) fn note_success(&mut self, hop: SocketAddr, request: &Request, response: &Response) {
        let Ok(info) = response.headers.typed::<AuthenticationInfo>() else { return };
        let (Some(nonce), Ok(sent)) = (info.next_nonce, request.headers.typed::<Authorization>()) else {
            return;
        };
        let registers = request.method == Method::Register;
        let same = |space: &Space, known: &Known| {
            (space.hop, space.registers, space.asker) == (hop, registers, Asker::Agent)
                && known.challenge.nonce == sent.0.nonce
                && !known.with.0.is_session()
        };
        if let Some((_, known)) = self.known.iter_mut().find(|(space, known)| same(space, known)) {
            known.challenge.nonce = owned(&nonce);
            known.uses = 0;
        }
    }

    /// How many nonces are known.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.known.len()
    }
}

/// One challenge for each asker and realm for which there are credentials: the strongest of those we know, the first of
/// equals. Only the header that the status stands for is read, and after a fork both may be there (RFC 3261 §22.3).
fn strongest(response: &Response, keyring: &Keyring) -> Vec<(Asker, Challenge)> {
    let headers = &response.headers;
    let asks =
        matches!(response.status, StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    let agents = headers.typed_all::<WwwAuthenticate>().flatten().map(|header| (Asker::Agent, header.0));
    let proxies = headers.typed_all::<ProxyAuthenticate>().flatten().map(|header| (Asker::Proxy, header.0));
    let mut best: Vec<(Asker, Challenge)> = Vec::new();
    for (asker, challenge) in agents.chain(proxies).filter(|_| asks) {
        if usable(&challenge).is_none() || keyring.find(&challenge.realm).is_none() {
            continue;
        }
        match best.iter_mut().find(|(known, old)| *known == asker && old.realm == challenge.realm) {
            Some((_, old)) if strength(old) < strength(&challenge) => *old = challenge,
            Some(_) => {}
            None => best.push((asker, challenge)),
        }
    }
    best
}

fn strength(challenge: &Challenge) -> Option<Algorithm> {
    usable(challenge).map(|(algorithm, _)| algorithm)
}

/// The nonce that a request has carried for a realm.
fn carried(headers: &Headers, asker: Asker, realm: &Text) -> Option<Text> {
    let mut agents = headers.typed_all::<Authorization>().flatten().map(|header| header.0);
    let mut proxies = headers.typed_all::<ProxyAuthorization>().flatten().map(|header| header.0);
    match asker {
        Asker::Agent => agents.find(|sent| sent.realm == *realm),
        Asker::Proxy => proxies.find(|sent| sent.realm == *realm),
    }
    .map(|sent| sent.nonce)
}

/// Takes the credentials for a realm out of a request, and leaves those for others.
fn drop_credentials(headers: &mut Headers, asker: Asker, realm: &Text) {
    if carried(headers, asker, realm).is_none() {
        return;
    }
    let name = asker.header();
    let of_realm = |line: &str| {
        let mut one = Headers::new();
        one.push(&name, line);
        carried(&one, asker, realm).is_some()
    };
    let kept: Vec<String> =
        headers.all(&name).filter(|line| !of_realm(line)).map(std::borrow::Cow::into_owned).collect();
    headers.remove(&name);
    kept.into_iter().for_each(|line| headers.push(&name, line));
}

/// A copy that does not keep the whole message alive.
fn owned(text: &Text) -> Text {
    Text::from(bytes::Bytes::copy_from_slice(text.as_bytes()))
}

fn detached(challenge: &Challenge) -> Challenge {
    Challenge {
        realm: owned(&challenge.realm),
        nonce: owned(&challenge.nonce),
        opaque: challenge.opaque.as_ref().map(owned),
        algorithm: challenge.algorithm.as_ref().map(owned),
        qop: challenge.qop.as_ref().map(owned),
        stale: challenge.stale,
        userhash: challenge.userhash,
        domain: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::credentials::Credentials;
    use super::*;

    fn challenged(realm: &str, nonce: &str) -> Response {
        let mut response = Response::new(StatusCode::UNAUTHORIZED);
        let value = format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", qop=\"auth\"");
        response.headers.push(HeaderName::WWW_AUTHENTICATE, value);
        response
    }

    fn request() -> Request {
        Request::new(Method::Invite, "sip:b@h.example".parse().unwrap())
    }

    fn hop(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 5060))
    }

    fn sent(wallet: &mut Wallet, ring: &Keyring) -> Vec<String> {
        let mut request = request();
        wallet.authorize(hop(1), &mut request, ring, || "c".into());
        let sent = request.headers.typed_all::<Authorization>().flatten();
        sent.map(|sent| format!("{} {}", sent.0.nonce, sent.0.nc.unwrap_or(0))).collect()
    }

    #[test]
    fn a_known_nonce_is_used_with_rising_counts_towards_its_own_hop_and_user_only() {
        let (mut wallet, ring) = (Wallet::default(), Keyring::from(Credentials::new("a", "p")));
        wallet.learn(hop(1), &request(), &challenged("r", "n1"), &ring, 8);
        assert_eq!(sent(&mut wallet, &ring), ["n1 1"]);
        assert_eq!(sent(&mut wallet, &ring), ["n1 2"]);
        assert!(sent(&mut wallet, &Credentials::new("b", "p").into()).is_empty());
        let mut elsewhere = request();
        wallet.authorize(hop(2), &mut elsewhere, &ring, || "c".into());
        assert!(!elsewhere.headers.contains(HeaderName::AUTHORIZATION));
        let mut register = Request::new(Method::Register, "sip:h.example".parse().unwrap());
        wallet.authorize(hop(1), &mut register, &ring, || "c".into());
        assert!(!register.headers.contains(HeaderName::AUTHORIZATION), "a registrar is asked for itself");
    }

    #[test]
    fn the_longest_unused_nonce_is_forgotten_first() {
        let (mut wallet, ring) = (Wallet::default(), Keyring::from(Credentials::new("a", "p")));
        for (at, realm) in ["r1", "r2", "r3"].into_iter().enumerate() {
            wallet.learn(hop(1), &request(), &challenged(realm, &format!("n{at}")), &ring, 2);
        }
        assert_eq!(wallet.len(), 2);
        assert_eq!(sent(&mut wallet, &ring), ["n1 1", "n2 1"]);
    }

    #[test]
    fn the_strongest_algorithm_of_a_realm_is_answered() {
        let ring = Keyring::from(Credentials::new("a", "p"));
        let mut response = challenged("r", "md5");
        for (algorithm, nonce) in [("SHA-256", "sha"), ("SHA-512-256", "best"), ("SHA3-512", "unknown")] {
            let value = format!("Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\", algorithm={algorithm}");
            response.headers.push(HeaderName::WWW_AUTHENTICATE, value);
        }
        let found = strongest(&response, &ring);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1.nonce, "best");
    }

    #[test]
    fn a_refusal_is_told_from_a_nonce_that_ran_out() {
        let (mut wallet, ring) = (Wallet::default(), Keyring::from(Credentials::new("a", "p")));
        let learn = |request: &Request, wallet: &mut Wallet, nonce: &str| {
            wallet.learn(hop(1), request, &challenged("r", nonce), &ring, 8)
        };
        assert_eq!(learn(&request(), &mut wallet, "n1"), Learned::Fresh);
        let mut first = request();
        wallet.authorize(hop(1), &mut first, &ring, || "c".into());
        assert_eq!(learn(&first, &mut wallet, "n2"), Learned::Nothing, "refused at its first use");
        let mut later = request();
        wallet.authorize(hop(1), &mut later, &ring, || "c".into());
        assert_eq!(learn(&later, &mut wallet, "n1"), Learned::Nothing, "the same nonce again");
        assert_eq!(learn(&later, &mut wallet, "n3"), Learned::Fresh, "an older one may have run out");
    }

    #[test]
    fn the_next_nonce_of_an_answer_is_taken() {
        let (mut wallet, ring) = (Wallet::default(), Keyring::from(Credentials::new("a", "p")));
        wallet.learn(hop(1), &request(), &challenged("r", "n1"), &ring, 8);
        let mut used = request();
        wallet.authorize(hop(1), &mut used, &ring, || "c".into());
        let mut response = Response::new(StatusCode::OK);
        response.headers.push(HeaderName::AUTHENTICATION_INFO, "nextnonce=\"n2\"");
        wallet.note_success(hop(1), &used, &response);
        assert_eq!(sent(&mut wallet, &ring), ["n2 1"]);
    }

    #[test]
    fn a_session_keeps_the_cnonce_that_it_began_with() {
        let (mut wallet, ring) = (Wallet::default(), Keyring::from(Credentials::new("a", "p")));
        let mut response = Response::new(StatusCode::UNAUTHORIZED);
        let asked = "Digest realm=\"r\", nonce=\"n1\", qop=\"auth\", algorithm=MD5-sess";
        response.headers.push(HeaderName::WWW_AUTHENTICATE, asked);
        wallet.learn(hop(1), &request(), &response, &ring, 8);
        let mut drawn = 0;
        // By the formulas of RFC 7616 §3.4, computed apart.
        for (nc, digest) in [
            (1, "6402727b496f2f1ae2cc2a320ab73197"),
            (2, "62a8acc4fca9c9a5f8f777a2316a31aa"),
            (3, "e8d31c38aae655d4bbf789ba30f8bbdf"),
        ] {
            let mut request = request();
            wallet.authorize(hop(1), &mut request, &ring, || {
                drawn += 1;
                format!("c{drawn}")
            });
            let sent = request.headers.typed::<Authorization>().unwrap().0;
            assert_eq!((sent.nc, sent.cnonce.unwrap()), (Some(nc), Text::from("c1")));
            assert_eq!(sent.response, *digest);
        }
        let mut used = request();
        wallet.authorize(hop(1), &mut used, &ring, || "c".into());
        let mut ok = Response::new(StatusCode::OK);
        ok.headers.push(HeaderName::AUTHENTICATION_INFO, "nextnonce=\"n2\"");
        wallet.note_success(hop(1), &used, &ok);
        assert_eq!(sent(&mut wallet, &ring), ["n1 5"], "its A1 is of the first nonce");
    }

    #[test]
    fn credentials_for_another_realm_that_the_program_gave_stay() {
        let (mut wallet, ring) = (Wallet::default(), Keyring::from(Credentials::new("a", "p")));
        wallet.learn(hop(1), &request(), &challenged("r", "n1"), &ring, 8);
        let mut own = request();
        let value = "Digest username=\"x\", realm=\"mine\", nonce=\"m\", uri=\"sip:h\", response=\"0\"";
        own.headers.push(HeaderName::AUTHORIZATION, value);
        wallet.authorize(hop(1), &mut own, &ring, || "c".into());
        wallet.authorize(hop(1), &mut own, &ring, || "c".into());
        let realms: Vec<_> =
            own.headers.typed_all::<Authorization>().flatten().map(|sent| sent.0.realm.to_string()).collect();
        assert_eq!(realms, ["mine", "r"]);
    }
}
