//! Requests of ours that a server answers with 401 or 407: repeated with credentials, under the same name
//! (RFC 3261 §8.1.3.5, §22.2, §22.3).
//!
//! A response comes in; where its challenges can be answered, the request goes out again with the next CSeq number and
//! a branch of its own, and the layers above never hear of the refusal: the new transaction takes the number of the old
//! one, which lives on under another to absorb repeats. Each request also brings the credentials that its next hop is
//! known to want, before it asks.
//!
//! A 2xx to credentials may bring the server's own proof (RFC 7616 §3.5). One that is wrong, or missing where it is
//! required, fails the request: a call is acknowledged and hung up, as one that was cancelled; a re-INVITE or UPDATE ends
//! its dialog, for nobody knows what the session is now.

use std::time::Instant;

use super::Engine;
use super::client_table::Cancel;
use super::event::{ClientTx, EndReason, Event, Failure};
use super::flow::Flow;
use super::outbound::Purpose;
use crate::auth::mutual::{self, Proven};
use crate::auth::{Bounds, Keyring, Learned, ServerProof};
use crate::message::header::CSeq;
use crate::message::{HeaderName, Message, Method, Request, Response, StatusCode};

/// With what the requests of a call prove themselves, and how often one request did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proof {
    /// `None` takes those of the engine.
    keyring: Option<Keyring>,
    /// Challenges that this request has answered.
    challenges: u8,
}

/// What a request proves itself by.
const CREDENTIALS: [HeaderName; 2] = [HeaderName::AUTHORIZATION, HeaderName::PROXY_AUTHORIZATION];

impl From<Keyring> for Proof {
    /// An empty ring takes that of the engine.
    fn from(keyring: Keyring) -> Self {
        Self { keyring: (!keyring.is_empty()).then_some(keyring), challenges: 0 }
    }
}

impl Proof {
    /// For another request of the same call.
    pub(super) fn anew(&self) -> Self {
        Self { keyring: self.keyring.clone(), challenges: 0 }
    }
}

impl Engine {
    /// With what a request in this dialog proves itself.
    pub(super) fn proof_within(&self, dialog: Option<u64>) -> Proof {
        let dialog = dialog.and_then(|serial| self.dialogs.get(serial));
        dialog.map(|dialog| dialog.proof.anew()).unwrap_or_default()
    }

    fn keyring(&self, proof: &Proof) -> Keyring {
        proof.keyring.clone().unwrap_or_else(|| self.config.auth.credentials.clone())
    }

    /// Adds the credentials that the next hop is known to want. CANCEL and ACK take none of their own
    /// (RFC 3261 §22.1).
    pub(super) fn authorize(&mut self, request: &mut Request, flow: &Flow, proof: &Proof) {
        if self.random.facts.are_given() {
            return self.authorize_as_given(request);
        }
        let keyring = self.keyring(proof);
        if !keyring.is_empty() && !matches!(request.method, Method::Ack | Method::Cancel) {
            #[cfg(feature = "faults")]
            if self.has(crate::fault::Fault::NonceCountStays) {
                self.wallet.rewind();
            }
            let Self { wallet, random, .. } = self;
            let count = |request: &Request| CREDENTIALS.map(|name| request.headers.all(&name).count());
            let before = count(request);
            wallet.authorize(flow.remote, request, &keyring, || random.unnoted_tag());
            for ((name, before), now) in CREDENTIALS.iter().zip(before).zip(count(request)) {
                random.facts.seldom('a', || (before + now > 0).then(|| format!("{name} {now}")));
            }
        }
    }

    /// A replay has no secrets: what is redacted afterwards stands for them.
    fn authorize_as_given(&mut self, request: &mut Request) {
        while let Some(given) = self.random.facts.seldom('a', || None) {
            let Some((name, count)) = given.split_once(' ') else { continue };
            let name = HeaderName::from(name);
            request.headers.remove(&name);
            for _ in 0..count.parse().unwrap_or(0) {
                request.headers.push(&name, "Digest redacted");
            }
        }
    }

    /// Looks at a final response; true where the request went out again and its end is still to come.
    pub(super) fn answers_challenge(&mut self, now: Instant, id: u64, response: &Response) -> bool {
        let refused =
            matches!(response.status, StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        if response.status.is_success() && response.headers.contains(HeaderName::AUTHENTICATION_INFO) {
            self.take_next_nonce(id, response);
        }
        if !refused && shows_acceptance(response.status) && self.wallet.has_doubts() {
            self.note_accepted(id);
        }
        refused && self.repeat_with_credentials(now, id, response).is_some()
    }

    /// Whether the server fails to prove itself by this response, as far as it has to. A replay, which has no secrets, is
    /// told.
    pub(super) fn is_unproven(&mut self, id: u64, response: &Response) -> bool {
        let wanted = match self.config.auth.server_proof {
            ServerProof::Ignored => false,
            ServerProof::Checked => response.headers.contains(HeaderName::AUTHENTICATION_INFO),
            ServerProof::Required => true,
        };
        let asked = wanted && response.status.is_success();
        let unproven =
            asked && !self.random.facts.are_given() && self.judge_server(id, response) == Some(true);
        self.random.facts.whether('u', unproven)
    }

    fn judge_server(&self, id: u64, response: &Response) -> Option<bool> {
        let client = self.clients.get(id).filter(|client| !matches!(client.purpose, Purpose::Relay(_)))?;
        Some(match mutual::judge(&client.request()?, response, &self.keyring(&client.proof)) {
            Proven::Wrong => true,
            Proven::Missing => self.config.auth.server_proof == ServerProof::Required,
            Proven::Right | Proven::NotAsked => false,
        })
    }

    /// A request was answered by a server that has not proven itself.
    pub(super) fn unproven(&mut self, now: Instant, id: u64, response: &Response) {
        let Some(client) = self.clients.get(id) else { return };
        let (dialog, purpose, tx) = (client.dialog, client.purpose, ClientTx(id));
        let changes = matches!(client.method(), Method::Invite | Method::Update);
        self.finished_within(now, id, dialog, Some(response.status));
        self.usage_answered(now, id, Err(Failure::Unproven));
        if purpose == Purpose::Program {
            self.events.push_back(Event::Failed { tx, failure: Failure::Unproven });
        }
        if let Some(serial) = dialog.filter(|_| changes) {
            self.end_dialog(now, serial, EndReason::Unproven);
        }
    }

    fn take_next_nonce(&mut self, id: u64, response: &Response) {
        let Some((flow, request)) = self.clients.get(id).and_then(|c| Some((c.flow, c.request()?))) else {
            return;
        };
        self.wallet.note_success(flow.remote, &request, response);
    }

    fn note_accepted(&mut self, id: u64) {
        let Some(client) = self.clients.get(id).filter(|client| !matches!(client.purpose, Purpose::Relay(_)))
        else {
            return;
        };
        let (hop, keyring) = (client.flow.remote, self.keyring(&client.proof));
        if let Some(request) = client.request() {
            self.wallet.note_accepted(hop, &request, &keyring);
        }
    }

    fn repeat_with_credentials(&mut self, now: Instant, id: u64, response: &Response) -> Option<()> {
        let client = self.clients.get(id)?;
        let ours = !matches!(client.purpose, Purpose::Relay(_));
        let wanted = client.cancel == Cancel::No && *client.method() != Method::Cancel;
        let within = client.proof.challenges < self.config.auth.max_challenges;
        let dialog = client.dialog;
        if !(ours && wanted && within) || self.has_no_room(dialog.is_some()) {
            return None;
        }
        let client = self.clients.get(id)?;
        let (request, flow, keyring) = (client.request()?, client.flow, self.keyring(&client.proof));
        let repeated = client.proof.challenges > 0;
        let bounds = Bounds { most: self.config.auth.max_nonces, rest: self.config.auth.refused_rest };
        let learned = self.wallet.learn(now, flow.remote, (&request, repeated), response, &keyring, bounds);
        match self.random.facts.whether('l', learned == Learned::Fresh) {
            true => self.repeat(now, id, request),
            false => None,
        }
    }

    fn repeat(&mut self, now: Instant, id: u64, mut request: Request) -> Option<()> {
        let client = self.clients.get_mut(id)?;
        client.proof.challenges += 1;
        let hops = std::mem::take(&mut client.hops);
        let delayed_offer = client.delayed_offer;
        let (dialog, purpose, proof) = (client.dialog, client.purpose, client.proof.clone());
        let way = client.way();
        let number = match dialog.and_then(|serial| self.dialogs.get_mut(serial)) {
            Some(dialog) => dialog.next_sequence(),
            None => request.headers.typed::<CSeq>().ok()?.number.wrapping_add(1),
        };
        request.headers.set(HeaderName::CSEQ, format!("{number} {}", request.method));
        request.headers.remove(HeaderName::VIA);
        self.release_early(id);
        self.move_client(now, id);
        self.open_client_as(now, id, request, way, dialog, purpose, proof);
        self.keep_hops(now, id, hops);
        self.set_delayed_offer(id, delayed_offer);
        Some(())
    }
}

/// Whether a final response shows that the server took the credentials of its request: 403 may refuse them, and what is
/// too late or too much says nothing.
fn shows_acceptance(status: StatusCode) -> bool {
    !matches!(status.code(), 403 | 408 | 500..=599)
}

impl super::client_table::Client {
    /// The request as it went out, Via included.
    pub(super) fn request(&self) -> Option<Request> {
        match Message::parse_own(self.wire.clone()) {
            Ok(Message::Request(request)) => Some(request),
            _ => None,
        }
    }
}
