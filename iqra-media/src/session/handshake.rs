//! DTLS on a call's media port, until it gives the keys of SRTP; kept afterwards, since the far end may ask for the last
//! flight again.

use std::net::SocketAddr;
use std::time::Instant;

use super::protection::Srtp;
use crate::rtp::dtls::{Certificate, DtlsKeys, Handshake, HandshakeError};
use crate::sdp::{DtlsRole, Fingerprint};

/// What SDP agreed on; another one means a new handshake (RFC 8842 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) fingerprint: Fingerprint,
    pub(super) role: DtlsRole,
    pub(super) tls_id: Option<String>,
}

pub(super) struct Dtls {
    agreed: Agreed,
    handshake: Handshake,
    /// Where the far end's flights come from: behind a NAT it is not what SDP says.
    from: Option<SocketAddr>,
    pub(super) srtp: Option<Srtp>,
}

impl Dtls {
    pub(super) fn new(
        agreed: Agreed,
        certificate: &Certificate,
        now: Instant,
    ) -> Result<Self, HandshakeError> {
        let is_client = agreed.role == DtlsRole::Client;
        let handshake = Handshake::new(certificate, is_client, agreed.fingerprint.0, now)?;
        Ok(Self { agreed, handshake, from: None, srtp: None })
    }

    pub(super) fn is_for(&self, other: &Self) -> bool {
        self.agreed == other.agreed
    }

    pub(super) fn handle_packet(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.from = Some(from);
        self.handshake.handle_packet(now, datagram);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.handshake.poll_timeout().is_some_and(|at| at <= now) {
            self.handshake.handle_timeout(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.handshake.poll_timeout()
    }

    /// The next flight, for where the far end's came from, else for `peer`; takes the keys once they are there.
    pub(super) fn poll_transmit(&mut self, peer: SocketAddr, out: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let length = self.handshake.poll_transmit(out);
        if self.srtp.is_none() {
            let keys = self.handshake.keys().cloned();
            self.srtp = keys.map(|DtlsKeys { ours, theirs }| Srtp::new(ours, theirs, Vec::new()));
        }
        length.map(|length| (length, self.from.unwrap_or(peer)))
    }

    pub(super) fn failure(&self) -> Option<&HandshakeError> {
        self.handshake.failure()
    }
}
