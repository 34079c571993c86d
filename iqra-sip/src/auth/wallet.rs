//! The client's memory of nonces: which challenges were met where, and how often each nonce was used
//! (RFC 3261 §22.2, §22.3; RFC 7616 §3.3, §3.5).
//!
//! In: challenges that came, requests that go out. Out: the credentials for a request, those that are known to be
//! needed before anybody asks. One per engine, because a nonce count must never be used twice. Bounded: what is longest
//! unused is forgotten and costs one more challenge.
//!
//! Credentials that were refused rest: no request brings or repeats them to that server for a while, whatever it is asked,
//! and then one does, to see. So many requests at once, or one every second, do not become as many wrong passwords, for
//! which servers lock accounts and ban addresses. Other credentials for the same user are not concerned.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::credentials::{Credentials, Keyring, usable};
use super::digest::{Algorithm, Qop};
use crate::message::header::{
    AuthenticationInfo, Authorization, Challenge, DigestResponse, ProxyAuthenticate, ProxyAuthorization,
    WwwAuthenticate,
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

impl Space {
    fn of(hop: SocketAddr, request: &Request, asker: Asker, realm: &Text, credentials: &Credentials) -> Self {
        let (registers, username) = (request.method == Method::Register, credentials.username().clone());
        Self { hop, registers, asker, realm: realm.as_bytes().into(), username }
    }
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
    refused: Option<Refused>,
}

/// Credentials that a server does not take.
struct Refused {
    credentials: Credentials,
    /// Until then nobody tries them again.
    until: Instant,
    /// The request that is about to be repeated may.
    trial: bool,
}

impl Known {
    /// The refusal of these credentials.
    fn refusal_of(&mut self, credentials: &Credentials) -> Option<&mut Refused> {
        self.refused.as_mut().filter(|refused| refused.credentials.is_same(credentials))
    }
}

/// What bounds the answering of challenges.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Most nonces.
    pub(crate) most: usize,
    /// How long refused credentials rest.
    pub(crate) rest: Duration,
}

/// All nonces that an engine knows.
#[derive(Default)]
pub(crate) struct Wallet {
    known: BTreeMap<Space, Known>,
    clock: u64,
    /// Some credentials may be refused.
    doubts: bool,
}

/// What became of the challenges in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learned {
    /// At least one can be answered with a nonce that the request did not carry.
    Fresh,
    /// The credentials were refused, now or of late, or there are none.
    Nothing,
}

impl Wallet {
    /// Learns the challenges in a response to `request`, which has answered one before or not.
    pub(crate) fn learn(
        &mut self,
        now: Instant,
        hop: SocketAddr,
        (request, repeated): (&Request, bool),
        response: &Response,
        keyring: &Keyring,
        bounds: Bounds,
    ) -> Learned {
        let mut learned = Learned::Nothing;
        for (asker, challenge) in strongest(response, keyring) {
            let (Some(with), Some(credentials)) = (usable(&challenge), keyring.find(&challenge.realm)) else {
                continue;
            };
            let space = Space::of(hop, request, asker, &challenge.realm, credentials);
            let sent = carried(&request.headers, asker, &challenge.realm);
            let until = now + bounds.rest;
            if sent.is_some_and(|sent| self.is_refusal(&sent, &challenge, repeated)) {
                tracing::warn!(remote = %hop, realm = %challenge.realm, "credentials are refused");
                self.refuse(
                    space,
                    &challenge,
                    with,
                    Refused { credentials: credentials.clone(), until, trial: false },
                );
            } else if challenge.stale || self.may_try(&space, credentials, now, until) {
                self.keep(space, &challenge, with, credentials);
                learned = Learned::Fresh;
            }
        }
        self.forget_oldest(bounds.most.max(1));
        learned
    }

    /// Whether a challenge refuses the credentials that a request carried: it brings nothing new, or their nonce was used
    /// for the first time and the server does not call it stale. An older nonce may just have run out.
    fn is_refusal(&self, sent: &DigestResponse, challenge: &Challenge, repeated: bool) -> bool {
        let unused = |known: &Known| known.challenge.nonce == sent.nonce && known.uses <= 1;
        let first = match sent.nc {
            Some(count) => count == 1,
            None => repeated || self.known.values().any(unused),
        };
        sent.nonce == challenge.nonce || (first && !challenge.stale)
    }

    /// Whether these credentials are to be tried where they may have been refused: one request does after each rest.
    fn may_try(&mut self, space: &Space, credentials: &Credentials, now: Instant, until: Instant) -> bool {
        let refused = self.known.get_mut(space).and_then(|known| known.refusal_of(credentials));
        let Some(refused) = refused else { return true };
        let rested = now >= refused.until;
        if rested {
            refused.until = until;
        }
        rested
    }

    fn refuse(
        &mut self,
        space: Space,
        challenge: &Challenge,
        with: (Algorithm, Option<Qop>),
        refused: Refused,
    ) {
        self.doubts = true;
        self.enter(space, challenge, with, Some(refused));
    }

    fn keep(
        &mut self,
        space: Space,
        challenge: &Challenge,
        with: (Algorithm, Option<Qop>),
        credentials: &Credentials,
    ) {
        let known = self.known.get_mut(&space);
        let refused =
            known.and_then(|known| known.refused.take_if(|one| one.credentials.is_same(credentials)));
        self.enter(space, challenge, with, refused.map(|refused| Refused { trial: true, ..refused }));
    }

    fn enter(
        &mut self,
        space: Space,
        challenge: &Challenge,
        with: (Algorithm, Option<Qop>),
        refused: Option<Refused>,
    ) {
        self.clock += 1;
        let challenge = detached(challenge);
        self.known.insert(space, Known { challenge, with, uses: 0, cnonce: None, used: self.clock, refused });
    }

    /// True where credentials are refused somewhere, so that [`note_accepted`](Self::note_accepted) is worth its while.
    pub(crate) fn has_doubts(&self) -> bool {
        self.doubts
    }

    /// A server took what this request carried.
    pub(crate) fn note_accepted(&mut self, hop: SocketAddr, request: &Request, keyring: &Keyring) {
        for asker in [Asker::Agent, Asker::Proxy] {
            for sent in all_carried(&request.headers, asker) {
                let Some(credentials) = keyring.find(&sent.realm) else { continue };
                let space = Space::of(hop, request, asker, &sent.realm, credentials);
                let Some(known) = self.known.get_mut(&space) else { continue };
                known.refused.take_if(|refused| refused.credentials.is_same(credentials));
            }
        }
        self.doubts = self.known.values().any(|known| known.refused.is_some());
    }

    fn forget_oldest(&mut self, most: usize) {
        while self.known.len() > most {
            let oldest =
                self.known.iter().min_by_key(|(_, known)| known.used).map(|(space, _)| space.clone());
            let Some(oldest) = oldest else { return };
            self.known.remove(&oldest);
        }
    }

    /// Replaces the credentials of `request` by those that its next hop is known to want, each with its next count. What it
    /// carries of the users of `keyring` was made for an earlier copy: another hop has never given that nonce, and the same hop
    /// has seen that count (RFC 3261 §22.3, RFC 7616 §3.4). What the program gave of other users stays.
    pub(crate) fn authorize(
        &mut self,
        hop: SocketAddr,
        request: &mut Request,
        keyring: &Keyring,
        mut cnonce: impl FnMut() -> String,
    ) {
        for asker in [Asker::Agent, Asker::Proxy] {
            drop_credentials(&mut request.headers, asker, |sent| keyring.signed(sent).is_some());
        }
        let registers = request.method == Method::Register;
        let first =
            Space { hop, registers, asker: Asker::Agent, realm: Box::default(), username: Arc::from("") };
        let here = |space: &Space| (space.hop, space.registers) == (hop, registers);
        for (space, known) in self.known.range_mut(first..).take_while(|(space, _)| here(space)) {
            let credentials = keyring.find(&known.challenge.realm);
            let Some(credentials) = credentials.filter(|c| *c.username() == space.username) else { continue };
            let refused = known.refusal_of(credentials);
            if refused.is_some_and(|refused| !std::mem::take(&mut refused.trial)) {
                continue;
            }
            self.clock += 1;
            (known.uses, known.used) = (known.uses.saturating_add(1), self.clock);
            let cnonce = match known.with.0.is_session() {
                true => known.cnonce.get_or_insert_with(&mut cnonce).clone(),
                false => cnonce(),
            };
            let answer = credentials.answer(&known.challenge, known.with, (&cnonce, known.uses), request);
            let realm = &known.challenge.realm;
            drop_credentials(&mut request.headers, space.asker, |sent| sent.realm == *realm);
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

/// What a request has carried for a realm.
fn carried(headers: &Headers, asker: Asker, realm: &Text) -> Option<DigestResponse> {
    all_carried(headers, asker).into_iter().find(|sent| sent.realm == *realm)
}

/// What a request has carried.
fn all_carried(headers: &Headers, asker: Asker) -> Vec<DigestResponse> {
    match asker {
        Asker::Agent => headers.typed_all::<Authorization>().flatten().map(|header| header.0).collect(),
        Asker::Proxy => headers.typed_all::<ProxyAuthorization>().flatten().map(|header| header.0).collect(),
    }
}

/// Takes those credentials out of a request, and leaves all others.
fn drop_credentials(headers: &mut Headers, asker: Asker, those: impl Fn(&DigestResponse) -> bool) {
    if !all_carried(headers, asker).iter().any(&those) {
        return;
    }
    let name = asker.header();
    let is_theirs = |line: &str| {
        let mut one = Headers::new();
        one.push(&name, line);
        all_carried(&one, asker).iter().any(&those)
    };
    let kept: Vec<String> =
        headers.all(&name).filter(|line| !is_theirs(line)).map(std::borrow::Cow::into_owned).collect();
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
#[path = "wallet_tests.rs"]
mod tests;
