//! SRTP and SRTCP (RFC 3711, RFC 7714): packets are encrypted and authenticated in place, in the caller's buffer.
//!
//! [`Outgoing`] protects the stream that we send, [`Incoming`] opens those that come. Both take a [`MasterKey`], from
//! `a=crypto` (RFC 4568) or a DTLS handshake (RFC 5764). Nothing allocates per packet; nothing that a packet says makes
//! state before the packet has proven itself, and the streams of one call are few and bounded.
//!
//! ```text
//! MasterKey ─▶ keys (derivation, RFC 3711 §4.3) ─▶ cipher (one packet) ─▶ Outgoing / Incoming (index, replay)
//! ```

mod cipher;
mod incoming;
mod keys;
mod outgoing;

use std::fmt;

use zeroize::Zeroizing;

pub use incoming::{Incoming, MAX_STREAMS};
pub use outgoing::Outgoing;

/// The longest that a packet grows by protection: 16 octets of tag and 4 of SRTCP index.
pub const MAX_OVERHEAD: usize = 20;

/// How packets are protected; the names are those of `a=crypto` (RFC 4568 §6.2, RFC 7714 §14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CryptoSuite {
    /// `AES_CM_128_HMAC_SHA1_80`, which every implementation has.
    AesCm128HmacSha1_80,
    /// `AES_CM_128_HMAC_SHA1_32`: 32 bits of tag on RTP, 80 on RTCP.
    AesCm128HmacSha1_32,
    /// `AEAD_AES_128_GCM`.
    AeadAes128Gcm,
    /// `AEAD_AES_256_GCM`.
    AeadAes256Gcm,
}

impl CryptoSuite {
    /// All of them, the strongest first.
    pub const ALL: [Self; 4] =
        [Self::AeadAes256Gcm, Self::AeadAes128Gcm, Self::AesCm128HmacSha1_80, Self::AesCm128HmacSha1_32];

    /// The name in SDP.
    pub fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// By the name in SDP, in whatever case.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name().eq_ignore_ascii_case(name))
    }

    /// Octets of key and salt together: how much randomness a key needs.
    pub fn material_len(self) -> usize {
        self.key_len() + self.salt_len()
    }

    /// Octets of the master key.
    pub fn key_len(self) -> usize {
        if self == Self::AeadAes256Gcm { 32 } else { 16 }
    }

    /// Octets of the master salt.
    pub fn salt_len(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
        }
    }

    fn tag_len(self, kind: Kind) -> usize {
        match (self, kind) {
            (Self::AesCm128HmacSha1_32, Kind::Rtp) => 4,
            (Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32, _) => 10,
            (Self::AeadAes128Gcm | Self::AeadAes256Gcm, _) => 16,
        }
    }
}

/// A master key with its salt. `Debug` shows the suite alone, and the octets are wiped when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    suite: CryptoSuite,
    octets: Zeroizing<[u8; Self::MAX]>,
}

impl MasterKey {
    /// Octets of the longest key and salt.
    pub const MAX: usize = 44;

    /// The key followed by its salt, as `inline:` carries them once they are out of Base64 (RFC 4568 §6.1).
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] unless the octets are as many as the suite wants.
    pub fn new(suite: CryptoSuite, octets: &[u8]) -> Result<Self, SrtpError> {
        let needed = suite.material_len();
        if octets.len() != needed {
            return Err(SrtpError::KeyLength { suite: suite.name(), needed, given: octets.len() });
        }
        let mut key = Self { suite, octets: Zeroizing::new([0; Self::MAX]) };
        key.octets[..needed].copy_from_slice(octets);
        Ok(key)
    }

    /// The suite that it is for.
    pub fn suite(&self) -> CryptoSuite {
        self.suite
    }

    /// The key followed by its salt.
    pub fn octets(&self) -> &[u8] {
        &self.octets[..self.suite.material_len()]
    }

    fn halves(&self) -> (&[u8], &[u8]) {
        self.octets().split_at(self.suite.key_len())
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// Why a packet was not protected or not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SrtpError {
    /// A master key of another length.
    #[error("a key of {given} octets: {suite} wants {needed}, key and salt together")]
    KeyLength {
        /// The suite.
        suite: &'static str,
        /// Octets wanted.
        needed: usize,
        /// Octets given.
        given: usize,
    },
    /// The packet has no whole header, or is too short for its tag.
    #[error("too short for a protected packet; drop it")]
    TooShort,
    /// It was changed, or made by somebody without the key.
    #[error("the packet does not prove itself; drop it")]
    NotAuthentic,
    /// It came before, or is too old to say (RFC 3711 §3.3.2).
    #[error("the packet came before, or is too old; drop it")]
    Replayed,
    /// The buffer has no room for the tag.
    #[error("the protected packet needs {needed} octets but the buffer holds {available}")]
    BufferTooSmall {
        /// Octets needed.
        needed: usize,
        /// Octets given.
        available: usize,
    },
    /// As many packets as one key may protect were sent (RFC 3711 §9.2).
    #[error("the key is used up; negotiate a new one")]
    KeyUsedUp,
    /// RTCP without encryption, which we never agree to (`UNENCRYPTED_SRTCP`, RFC 4568 §6.3.2).
    #[error("RTCP that is not encrypted; drop it")]
    InClear,
}

/// Which of the two protocols a packet is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rtp,
    Rtcp,
}

/// Octets of an RTP header with its CSRCs and extension; `None` when the packet does not hold it.
fn header_len(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let csrcs = super::packet::HEADER_LEN + 4 * usize::from(first & 0x0f);
    let length = match first & 0x10 {
        0 => csrcs,
        _ => {
            let words = packet.get(csrcs + 2..csrcs + 4)?;
            csrcs + 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]))
        }
    };
    (length <= packet.len()).then_some(length)
}

#[cfg(test)]
mod tests;
