//! The handshake that agrees on the keys of SRTP (DTLS-SRTP, RFC 5763, RFC 5764), on the media's own port.
//!
//! The far end's certificate is whatever it likes; what counts is that its hash is the one in the SDP. Until it is, no
//! keys come out. Octets and time in, octets out: the protocol itself is the `dimpl` crate's, DTLS 1.2 and 1.3.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, DtlsCertificate, Output, SrtpProfile};
use sha2::{Digest, Sha256};

use super::srtp::{CryptoSuite, MasterKey};

/// Within this time a handshake has to be through; the far end is told nothing of it, the call has to end.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest datagram that a handshake sends: what passes everywhere.
const MTU: usize = 1_200;

/// Why there are no keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The far end's certificate is not the one of its SDP.
    #[error(
        "the certificate of the media's handshake is not the one that the SDP names by a=fingerprint: somebody is in \
         between, or the peer sends one certificate and names another; end the call"
    )]
    Fingerprint,
    /// The protocol failed.
    #[error("the DTLS handshake of the media failed: {0}; end the call")]
    Protocol(String),
    /// It took too long.
    #[error(
        "the DTLS handshake of the media was not through after {} s: does the peer reach the media port?",
        HANDSHAKE_TIMEOUT.as_secs()
    )]
    TimedOut,
    /// No certificate could be made.
    #[error("no certificate for DTLS could be made: {0}")]
    Certificate(String),
}

/// The certificate that we show, made for this process and worth nothing outside of it: the SDP vouches for it.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    key: Vec<u8>,
    fingerprint: [u8; 32],
}

impl Certificate {
    /// A new one, self-signed, with an ECDSA key on P-256.
    ///
    /// # Errors
    /// [`HandshakeError::Certificate`] when the system gives no randomness.
    pub fn generate() -> Result<Self, HandshakeError> {
        let failed = |error: rcgen::Error| HandshakeError::Certificate(error.to_string());
        let pair = rcgen::KeyPair::generate().map_err(failed)?;
        let params = rcgen::CertificateParams::new(Vec::new()).map_err(failed)?;
        let der = params.self_signed(&pair).map_err(failed)?.der().to_vec();
        let fingerprint = Sha256::digest(&der).into();
        Ok(Self { der, key: pair.serialize_der(), fingerprint })
    }

    /// SHA-256 of it, for `a=fingerprint:sha-256`.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// Keys of both directions, as the handshake gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DtlsKeys {
    /// Protects what we send.
    pub ours: MasterKey,
    /// Protects what we receive.
    pub theirs: MasterKey,
}

/// One side of a handshake.
pub struct Handshake {
    dtls: Dtls,
    is_client: bool,
    expected: [u8; 32],
    /// The far end's first message came.
    begun: bool,
    proven: bool,
    deadline: Instant,
    timeout: Instant,
    keys: Option<DtlsKeys>,
    failed: Option<HandshakeError>,
}

impl Handshake {
    /// Begins at `now`. A client sends at once, a server waits; `expected` is the far end's fingerprint by its SDP.
    ///
    /// # Errors
    /// [`HandshakeError::Protocol`] when the certificate does not serve.
    pub fn new(
        certificate: &Certificate,
        is_client: bool,
        expected: [u8; 32],
        now: Instant,
    ) -> Result<Self, HandshakeError> {
        let config =
            Config::builder().mtu(MTU).handshake_timeout(HANDSHAKE_TIMEOUT).build().map_err(protocol)?;
        let shown =
            DtlsCertificate { certificate: certificate.der.clone(), private_key: certificate.key.clone() };
        let mut dtls = Dtls::new_auto(Arc::new(config), shown, now);
        dtls.set_active(is_client);
        dtls.handle_timeout(now).map_err(protocol)?;
        let deadline = now + HANDSHAKE_TIMEOUT;
        let (keys, failed) = (None, None);
        Ok(Self {
            dtls,
            is_client,
            expected,
            begun: false,
            proven: false,
            deadline,
            timeout: now,
            keys,
            failed,
        })
    }

    /// Takes a datagram that is DTLS; what cannot be of this handshake is passed over, and so is an alert that nothing
    /// vouches for (RFC 6347 §4.1.2.7): anybody can send one. Only who has the certificate gets on.
    ///
    /// A handshake is with one far end: the caller hands in what comes from one address, and makes another handshake for
    /// another one. Gives whether it has the form of what comes next; an error is told by [`failure`](Self::failure).
    pub fn handle_packet(&mut self, now: Instant, datagram: &[u8]) -> bool {
        let records = records(datagram);
        if records.is_empty() || !(self.begun || self.begins(records)) {
            return false;
        }
        self.begun = true;
        let taken = self.dtls.handle_timeout(now).and_then(|()| self.dtls.handle_packet(records));
        self.settle(taken);
        true
    }

    /// The library gives up where much comes that is no handshake: one begins with a hello.
    fn begins(&self, records: &[u8]) -> bool {
        let hellos: &[u8] = if self.is_client { &[2, 3, 6] } else { &[1] };
        records[0] == HANDSHAKE && records.get(HEADER).is_some_and(|message| hellos.contains(message))
    }

    /// Whether the datagram begins a handshake with a server.
    pub fn is_client_hello(datagram: &[u8]) -> bool {
        records(datagram)
            .first_chunk::<{ HEADER + 1 }>()
            .is_some_and(|head| (head[0], head[HEADER]) == (HANDSHAKE, 1))
    }

    /// Repeats what was not answered, or gives up.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.deadline && self.keys.is_none() {
            self.failed.get_or_insert(HandshakeError::TimedOut);
            return;
        }
        let taken = self.dtls.handle_timeout(now);
        self.settle(taken);
    }

    fn settle(&mut self, taken: Result<(), dimpl::Error>) {
        if let Err(error) = taken
            && self.keys.is_none()
            && !is_nothing(&error)
        {
            self.failed.get_or_insert(protocol(error));
        }
    }

    /// Writes the next datagram into `out`, which should hold 1,500 octets; `None` when there is none.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> Option<usize> {
        while self.failed.is_none() {
            let (material, profile) = match self.dtls.poll_output(out) {
                Output::Packet(packet) => return Some(packet.len()),
                Output::Timeout(at) => {
                    self.timeout = at;
                    return None;
                }
                Output::PeerCert(der) => {
                    self.proven = self.expected == <[u8; 32]>::from(Sha256::digest(der));
                    if !self.proven {
                        self.failed = Some(HandshakeError::Fingerprint);
                    }
                    continue;
                }
                Output::KeyingMaterial(material, profile) => (material, profile),
                Output::BufferTooSmall { .. } => return None,
                _ => continue,
            };
            if self.proven {
                self.keys = keys(&material, profile, self.is_client);
            }
        }
        None
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do; `None` once the handshake failed. It goes on
    /// after the keys are there, since the far end may have missed the last flight.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let at = if self.keys.is_none() { self.timeout.min(self.deadline) } else { self.timeout };
        self.failed.is_none().then_some(at)
    }

    /// The keys, once the far end has proven itself.
    pub fn keys(&self) -> Option<&DtlsKeys> {
        self.keys.as_ref()
    }

    /// Why there will be none.
    pub fn failure(&self) -> Option<&HandshakeError> {
        self.failed.as_ref()
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("is_client", &self.is_client)
            .field("done", &self.keys.is_some())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// The content types of records in the clear (RFC 6347 §4.1, RFC 9147 §4), and octets of their header.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const HEADER: usize = 13;

/// The whole records at the start of a datagram, up to the first that is cut off, unknown, or an alert in the clear.
fn records(datagram: &[u8]) -> &[u8] {
    let mut at = 0;
    while let Some(length) = record_len(&datagram[at..]) {
        at += length;
    }
    &datagram[..at]
}

/// Octets of the first record.
fn record_len(octets: &[u8]) -> Option<usize> {
    const CONNECTION_ID: u8 = 0x10;
    const LONG_NUMBER: u8 = 0x08;
    const HAS_LENGTH: u8 = 0x04;
    let first = *octets.first()?;
    let length = match first {
        20..=26 => {
            let header = octets.first_chunk::<HEADER>()?;
            let in_clear = header[3..5] == [0, 0];
            let body = usize::from(u16::from_be_bytes([header[11], header[12]]));
            let taken = header[1] == 0xfe && body > 0 && !(first == ALERT && in_clear);
            HEADER + taken.then_some(body)?
        }
        // The header of RFC 9147 §4; we agree on no connection identifiers.
        32..=63 if first & CONNECTION_ID == 0 => {
            let number = if first & LONG_NUMBER == 0 { 2 } else { 3 };
            match first & HAS_LENGTH {
                0 => octets.len(),
                _ => {
                    let body = octets.get(number..number + 2)?;
                    number + 2 + usize::from(u16::from_be_bytes([body[0], body[1]]))
                }
            }
        }
        _ => return None,
    };
    (length <= octets.len()).then_some(length)
}

/// Whether the error says no more than that a datagram was no answer to our first one: anybody can send such a one.
fn is_nothing(error: &dimpl::Error) -> bool {
    use dimpl::UnexpectedMessageError::UnrecognizedAutoServerResponse;
    matches!(error, dimpl::Error::UnexpectedMessage(UnrecognizedAutoServerResponse))
}

fn protocol(error: dimpl::Error) -> HandshakeError {
    HandshakeError::Protocol(error.to_string())
}

/// RFC 5764 §4.2: both keys, then both salts, the client's first.
fn keys(material: &[u8], profile: SrtpProfile, is_client: bool) -> Option<DtlsKeys> {
    let suite = match profile {
        SrtpProfile::AES128_CM_SHA1_80 => CryptoSuite::AesCm128HmacSha1_80,
        SrtpProfile::AEAD_AES_128_GCM => CryptoSuite::AeadAes128Gcm,
        SrtpProfile::AEAD_AES_256_GCM => CryptoSuite::AeadAes256Gcm,
        _ => return None,
    };
    let (keys, salts) = material.split_at_checked(2 * suite.key_len())?;
    let half = |of_client: bool| {
        let at = usize::from(!of_client);
        let key = keys.get(at * suite.key_len()..)?.get(..suite.key_len())?;
        let salt = salts.get(at * suite.salt_len()..)?.get(..suite.salt_len())?;
        MasterKey::new(suite, &[key, salt].concat()).ok()
    };
    Some(DtlsKeys { ours: half(is_client)?, theirs: half(!is_client)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::srtp::{Incoming, Outgoing};

    struct Ends {
        now: Instant,
        client: Handshake,
        server: Handshake,
        random: fastrand::Rng,
        loss: f64,
    }

    impl Ends {
        fn new(loss: f64, seed: u64, honest: bool) -> Self {
            let (ours, theirs) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
            let now = Instant::now();
            let expected = if honest { theirs.fingerprint() } else { [7; 32] };
            let client = Handshake::new(&ours, true, expected, now).unwrap();
            let server = Handshake::new(&theirs, false, ours.fingerprint(), now).unwrap();
            Self { now, client, server, random: fastrand::Rng::with_seed(seed), loss }
        }

        fn exchange(&mut self) {
            let mut out = [0; 1_500];
            loop {
                let mut moved = false;
                for from_client in [true, false] {
                    let (from, to) = match from_client {
                        true => (&mut self.client, &mut self.server),
                        false => (&mut self.server, &mut self.client),
                    };
                    while let Some(length) = from.poll_transmit(&mut out) {
                        assert!(length <= MTU + 100, "{length}");
                        if self.random.f64() >= self.loss {
                            to.handle_packet(self.now, &out[..length]);
                        }
                        moved = true;
                    }
                }
                if !moved {
                    return;
                }
            }
        }

        fn run(&mut self) {
            for _ in 0..500 {
                self.exchange();
                let ends = [&self.client, &self.server];
                if ends.iter().all(|end| end.keys().is_some() || end.failure().is_some()) {
                    return;
                }
                let next = ends.into_iter().filter_map(Handshake::poll_timeout).min().unwrap();
                self.now = self.now.max(next);
                self.client.handle_timeout(self.now);
                self.server.handle_timeout(self.now);
            }
            panic!("the handshake does not end");
        }
    }

    #[test]
    fn both_ends_get_each_others_keys_and_packets_pass() {
        let mut ends = Ends::new(0.0, 1, true);
        ends.run();
        let (client, server) = (ends.client.keys().unwrap(), ends.server.keys().unwrap());
        assert_eq!((&client.ours, &client.theirs), (&server.theirs, &server.ours));
        let mut packet = [&[0x80, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3][..], b"hello", &[0; 16]].concat();
        let length = Outgoing::new(&client.ours).protect(&mut packet, 17).unwrap();
        assert_eq!(Incoming::new(&server.theirs).open(&mut packet[..length]), Ok(17));
        assert_eq!(&packet[12..17], b"hello");
    }

    #[test]
    fn loss_delays_and_does_not_prevent() {
        for seed in 0..20 {
            let mut ends = Ends::new(0.2, seed, true);
            ends.run();
            assert_eq!((ends.client.failure(), ends.server.failure()), (None, None), "{seed}");
        }
    }

    #[test]
    fn another_certificate_than_the_sdp_names_gives_no_keys() {
        let mut ends = Ends::new(0.0, 1, false);
        ends.exchange();
        assert_eq!(ends.client.failure(), Some(&HandshakeError::Fingerprint));
        assert_eq!(ends.client.keys(), None);
        assert_eq!(ends.client.poll_timeout(), None);
    }

    #[test]
    fn nobody_there_is_told_after_a_while() {
        let mut ends = Ends::new(1.0, 1, true);
        let began = ends.now;
        ends.run();
        assert!(ends.client.failure().is_some() && ends.server.failure().is_some());
        assert!(ends.now - began <= HANDSHAKE_TIMEOUT);
    }

    /// A record in the clear with this body.
    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, body.len() as u8], body].concat()
    }

    #[test]
    fn an_alert_in_the_clear_ends_nothing_whatever_it_comes_with() {
        let [fatal, close] = [[2, 40], [1, 0]].map(|alert| record(ALERT, &alert));
        for alert in [fatal.clone(), close, [record(20, &[1]), fatal].concat()] {
            let mut ends = Ends::new(0.0, 1, true);
            let mut out = [0; 1_500];
            for step in 0..4 {
                ends.client.handle_packet(ends.now, &alert);
                ends.server.handle_packet(ends.now, &alert);
                let (from, to) = match step % 2 {
                    0 => (&mut ends.client, &mut ends.server),
                    _ => (&mut ends.server, &mut ends.client),
                };
                while let Some(length) = from.poll_transmit(&mut out) {
                    to.handle_packet(ends.now, &out[..length]);
                }
            }
            ends.run();
            assert_eq!((ends.client.failure(), ends.server.failure()), (None, None), "{alert:?}");
        }
    }

    #[test]
    fn records_are_taken_up_to_the_first_that_is_none() {
        let hello = record(HANDSHAKE, &[1, 0, 0]);
        let cut = &record(HANDSHAKE, &[1, 0])[..14];
        for rest in [&record(ALERT, &[2, 40])[..], cut, &[22], &[0x3f, 0], &[200; 20]] {
            assert_eq!(records(&[&hello, rest].concat()), hello, "{rest:?}");
        }
        let sealed =
            [&[ALERT, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1, 0, 2, 9, 9][..], &[0x2c, 1, 2, 0, 1, 7]].concat();
        assert_eq!(records(&sealed), sealed);
        assert_eq!(records(&[0x20, 1, 7, 7]), [0x20, 1, 7, 7], "without a length it is the last");
        assert!(Handshake::is_client_hello(&hello) && !Handshake::is_client_hello(&record(HANDSHAKE, &[2])));
    }

    #[test]
    fn junk_does_not_stop_a_handshake() {
        let mut ends = Ends::new(0.0, 1, true);
        let mut random = fastrand::Rng::with_seed(9);
        for length in 0..300 {
            let mut junk: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            if let Some(first) = junk.first_mut() {
                *first = 20 + *first % 44;
            }
            ends.server.handle_packet(ends.now, &junk);
            ends.client.handle_packet(ends.now, &junk);
        }
        ends.run();
        assert_eq!((ends.client.failure(), ends.server.failure()), (None, None));
    }
}
