//! DTLS on a call's media port, until it gives the keys of SRTP; kept afterwards, since the far end may ask for the last
//! flight again.
//!
//! Anybody can send to the port, so no datagram turns the handshake round or ends it by itself:
//! - the address that we would send media to ([`Peer`]) has a handshake of its own, which no other address can touch;
//!   with ICE, every address that proved itself by a check shares it;
//! - another address that says hello to a server, as a far end behind a NAT does, gets a handshake beside it, of at most
//!   [`MAX_BESIDE`] that each may be replaced after [`PATIENCE`];
//! - a client listens to another address only once its own has been silent for [`PATIENCE`] since the hello;
//! - whoever shows the certificate first is the far end, and the others are forgotten;
//! - an error before that costs its sender's handshake alone; that of the peer begins anew, [`MAX_RESTARTS`] times. The
//!   call ends when the peer itself shows another certificate than SDP names, or time is up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::protection::Srtp;
use crate::rtp::dtls::{Certificate, DtlsKeys, HANDSHAKE_TIMEOUT, Handshake, HandshakeError};
use crate::sdp::{DtlsRole, Fingerprint};

/// Handshakes with other addresses than the peer's that go on at the same time.
const MAX_BESIDE: usize = 3;
/// How long an address has before another may take its place.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the handshake with the peer begins anew after an error.
const MAX_RESTARTS: u8 = 8;

/// What SDP agreed on; another one means a new handshake (RFC 8842 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) fingerprint: Fingerprint,
    pub(super) role: DtlsRole,
    pub(super) tls_id: Option<String>,
}

/// Whom a datagram came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) from: SocketAddr,
    /// Whether media goes there, or ICE proved that the far end is there.
    pub(super) is_known: bool,
}

/// The handshake with one address.
struct Attempt {
    handshake: Handshake,
    /// `None` as long as nothing came.
    with: Option<SocketAddr>,
    began: Instant,
}

pub(super) struct Dtls {
    agreed: Agreed,
    certificate: Certificate,
    /// With the peer; once the keys are there, with whom they were agreed.
    main: Attempt,
    beside: Vec<Attempt>,
    /// Since when a client takes the answers of an address that is not the peer's.
    astray: Option<Instant>,
    restarts: u8,
    deadline: Instant,
    /// What went wrong last.
    error: Option<HandshakeError>,
    failed: Option<HandshakeError>,
    pub(super) srtp: Option<Srtp>,
}

impl Dtls {
    pub(super) fn new(
        agreed: Agreed,
        certificate: &Certificate,
        now: Instant,
    ) -> Result<Self, HandshakeError> {
        Ok(Self {
            main: attempt(&agreed, certificate, None, now)?,
            agreed,
            certificate: certificate.clone(),
            beside: Vec::new(),
            astray: None,
            restarts: 0,
            deadline: now + HANDSHAKE_TIMEOUT,
            error: None,
            failed: None,
            srtp: None,
        })
    }

    pub(super) fn is_for(&self, other: &Self) -> bool {
        self.agreed == other.agreed
    }

    fn is_client(&self) -> bool {
        self.agreed.role == DtlsRole::Client
    }

    pub(super) fn handle_packet(&mut self, now: Instant, peer: Peer, datagram: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.srtp.is_some() {
            if peer.is_known || self.main.with == Some(peer.from) {
                self.main.handshake.handle_packet(now, datagram);
            }
            return;
        }
        if peer.is_known && self.astray.is_some() {
            // It speaks up after all.
            self.restart(now);
        }
        if peer.is_known {
            self.main.handshake.handle_packet(now, datagram);
            self.main.with = Some(peer.from);
        } else if self.listens_to(now, peer.from) {
            if self.main.handshake.handle_packet(now, datagram) {
                self.main.with = Some(peer.from);
                self.astray.get_or_insert(now);
            }
        } else if let Some(at) = self.beside(now, peer.from, datagram) {
            self.beside[at].handshake.handle_packet(now, datagram);
        }
        self.settle(now);
    }

    /// Whether a client takes the answers of this address for those of its silent peer.
    fn listens_to(&self, now: Instant, from: SocketAddr) -> bool {
        let is_silent = now.saturating_duration_since(self.main.began) >= PATIENCE;
        self.is_client() && self.main.with.map_or(is_silent, |with| self.astray.is_some() && with == from)
    }

    /// The place of a server's handshake with an address that is not the peer's, begun by its hello.
    fn beside(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<usize> {
        if self.is_client() {
            return None;
        }
        let is_over = |attempt: &Attempt| now.saturating_duration_since(attempt.began) >= PATIENCE;
        let known = self.beside.iter().position(|attempt| attempt.with == Some(from));
        if let Some(at) = known.filter(|&at| self.beside[at].handshake.failure().is_none()) {
            return Some(at);
        }
        if !Handshake::is_client_hello(datagram) {
            return None;
        }
        let full = self.beside.len() == MAX_BESIDE;
        let replaced = known.or_else(|| full.then(|| self.beside.iter().position(is_over)).flatten());
        match replaced {
            Some(at) if is_over(&self.beside[at]) => drop(self.beside.remove(at)),
            None if !full => {}
            _ => return None,
        }
        let begun = attempt(&self.agreed, &self.certificate, Some(from), now).ok()?;
        self.beside.push(begun);
        Some(self.beside.len() - 1)
    }

    fn restart(&mut self, now: Instant) {
        self.astray = None;
        match attempt(&self.agreed, &self.certificate, None, now) {
            Ok(anew) => self.main = anew,
            Err(error) => self.failed = Some(error),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.failed.is_some() {
            return;
        }
        if self.srtp.is_none() && now >= self.deadline {
            self.failed = self.error.take().or(Some(HandshakeError::TimedOut));
            return;
        }
        if self.astray.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE) {
            self.restart(now);
        }
        let all = self.beside.iter_mut().chain([&mut self.main]);
        for attempt in all.filter(|a| a.handshake.poll_timeout().is_some_and(|at| at <= now)) {
            attempt.handshake.handle_timeout(now);
        }
        self.settle(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.failed.is_some() {
            return None;
        }
        let deadline = self.srtp.is_none().then_some(self.deadline);
        let all = self.beside.iter().chain([&self.main]);
        all.filter_map(|attempt| attempt.handshake.poll_timeout()).chain(deadline).min()
    }

    /// The next flight, for where the far end's came from, else for `peer`; takes the keys once they are there.
    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        out: &mut [u8],
    ) -> Option<(usize, SocketAddr)> {
        if self.failed.is_some() {
            return None;
        }
        let mut flight_of = |attempt: &mut Attempt| {
            let length = attempt.handshake.poll_transmit(out)?;
            Some((length, attempt.with.unwrap_or(peer)))
        };
        let flight = flight_of(&mut self.main).or_else(|| self.beside.iter_mut().find_map(flight_of));
        self.settle(now);
        flight
    }

    /// Sees whose handshake is through, and whose went wrong.
    fn settle(&mut self, now: Instant) {
        if self.srtp.is_some() || self.failed.is_some() {
            return;
        }
        if let Some(at) = self.beside.iter().position(|attempt| attempt.handshake.keys().is_some()) {
            self.main = self.beside.swap_remove(at);
        }
        if let Some(DtlsKeys { ours, theirs }) = self.main.handshake.keys().cloned() {
            self.srtp = Some(Srtp::new(ours, theirs, Vec::new()));
            self.beside = Vec::new();
            return;
        }
        let wrong = self.beside.iter().find_map(|attempt| attempt.handshake.failure());
        let Some(failure) = self.main.handshake.failure() else {
            self.error = wrong.or(self.error.as_ref()).cloned();
            return;
        };
        self.error = Some(failure.clone());
        let is_final = *failure == HandshakeError::Fingerprint || self.restarts == MAX_RESTARTS;
        if self.astray.is_none() {
            if is_final {
                self.failed = self.error.take();
                return;
            }
            self.restarts += 1;
        }
        self.restart(now);
    }

    pub(super) fn failure(&self) -> Option<&HandshakeError> {
        self.failed.as_ref()
    }
}

fn attempt(
    agreed: &Agreed,
    certificate: &Certificate,
    with: Option<SocketAddr>,
    now: Instant,
) -> Result<Attempt, HandshakeError> {
    let is_client = agreed.role == DtlsRole::Client;
    let handshake = Handshake::new(certificate, is_client, agreed.fingerprint.0, now)?;
    Ok(Attempt { handshake, with, began: now })
}
