//! One packet: encrypted and authenticated, or checked and opened, under its index.
//!
//! The packet lies in one buffer: header, payload, and room behind it for what protection adds.

use aes::Aes128Enc;
use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::{AeadInOut, Nonce, Tag};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use ctr::cipher::{InnerIvInit, KeyInit, StreamCipher};
use ctr::{Ctr128BE, CtrCore};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::keys::SessionKeys;
use super::outgoing::RTCP_CLEAR;
use super::{CryptoSuite, Kind, MasterKey, SrtpError};

/// What a packet's nonce is made of.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) ssrc: u32,
    /// RTP: roll-over counter and sequence number, 48 bits. RTCP: the SRTCP index, 31 bits.
    pub(super) index: u64,
}

/// The transform of one direction and protocol.
pub(super) struct Cipher {
    suite: CryptoSuite,
    kind: Kind,
    salt: [u8; 14],
    transform: Transform,
}

/// Boxed once per call: the keys are as large as their rounds are many.
enum Transform {
    CounterMode(Box<CounterMode>),
    Gcm128(Box<Aes128Gcm>),
    Gcm256(Box<Aes256Gcm>),
}

struct CounterMode {
    aes: Aes128Enc,
    authentication: Hmac<Sha1>,
}

impl Cipher {
    pub(super) fn new(master: &MasterKey, kind: Kind) -> Self {
        let keys = SessionKeys::derive(master, kind);
        Self::with(master.suite(), kind, &keys)
    }

    pub(super) fn with(suite: CryptoSuite, kind: Kind, keys: &SessionKeys) -> Self {
        let key = &keys.cipher[..suite.key_len()];
        let transform = match suite {
            CryptoSuite::AesCm128HmacSha1_80 | CryptoSuite::AesCm128HmacSha1_32 => {
                Transform::CounterMode(Box::new(CounterMode {
                    aes: Aes128Enc::new_from_slice(key).expect("16 octets"),
                    authentication: Hmac::new_from_slice(&keys.authentication[..]).expect("any length"),
                }))
            }
            CryptoSuite::AeadAes128Gcm => {
                Transform::Gcm128(Box::new(Aes128Gcm::new_from_slice(key).expect("16 octets")))
            }
            CryptoSuite::AeadAes256Gcm => {
                Transform::Gcm256(Box::new(Aes256Gcm::new_from_slice(key).expect("32 octets")))
            }
        };
        Self { suite, kind, salt: *keys.salt, transform }
    }

    /// Octets of the tag.
    pub(super) fn tag_len(&self) -> usize {
        self.suite.tag_len(self.kind)
    }

    /// Encrypts `packet[header..]` and gives the tag; `tail` is authenticated after it: the roll-over counter where
    /// the suite wants it there, or the SRTCP index.
    pub(super) fn seal(&self, place: Place, packet: &mut [u8], header: usize, tail: [u8; 4]) -> [u8; 16] {
        let (aad, payload) = packet.split_at_mut(header);
        match &self.transform {
            Transform::CounterMode(counter) => {
                self.keystream(&counter.aes, place, payload);
                tag(&counter.authentication, packet, tail)
            }
            Transform::Gcm128(gcm) => self.seal_with(gcm.as_ref(), place, aad, payload, tail),
            Transform::Gcm256(gcm) => self.seal_with(gcm.as_ref(), place, aad, payload, tail),
        }
    }

    /// Checks the tag and decrypts `packet[header..]`, which is without the tag; unchanged when it is not authentic.
    pub(super) fn open(
        &self,
        place: Place,
        packet: &mut [u8],
        header: usize,
        tail: [u8; 4],
        found: &[u8],
    ) -> Result<(), SrtpError> {
        match &self.transform {
            Transform::CounterMode(counter) => {
                let mac = authenticated(&counter.authentication, packet, tail);
                mac.verify_truncated_left(found).map_err(|_| SrtpError::NotAuthentic)?;
                self.keystream(&counter.aes, place, &mut packet[header..]);
                Ok(())
            }
            Transform::Gcm128(gcm) => self.open_with(gcm.as_ref(), place, packet, header, tail, found),
            Transform::Gcm256(gcm) => self.open_with(gcm.as_ref(), place, packet, header, tail, found),
        }
    }

    /// AES in counter mode (RFC 3711 §4.1.1): the salt, the SSRC and the index make the first block.
    fn keystream(&self, aes: &Aes128Enc, place: Place, payload: &mut [u8]) {
        let mut block = [0; 16];
        block[..14].copy_from_slice(&self.salt);
        xor(&mut block[4..8], &place.ssrc.to_be_bytes());
        xor(&mut block[8..14], &place.index.to_be_bytes()[2..]);
        let core = CtrCore::inner_iv_init(aes, &block.into());
        Ctr128BE::<&Aes128Enc>::from_core(core).apply_keystream(payload);
    }

    /// RFC 7714 §8.1, §9.1: the nonce holds SSRC and index in different places for RTP and RTCP.
    fn nonce(&self, place: Place) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&self.salt[..12]);
        xor(&mut nonce[2..6], &place.ssrc.to_be_bytes());
        match self.kind {
            Kind::Rtp => xor(&mut nonce[6..], &place.index.to_be_bytes()[2..]),
            Kind::Rtcp => xor(&mut nonce[8..], &place.index.to_be_bytes()[4..]),
        }
        nonce
    }

    fn seal_with<G>(&self, gcm: &G, place: Place, aad: &[u8], payload: &mut [u8], tail: [u8; 4]) -> [u8; 16]
    where
        G: AeadInOut<NonceSize = U12, TagSize = U16>,
    {
        let nonce = Nonce::<G>::from(self.nonce(place));
        let aad = Aad::of(self.kind, aad, tail);
        gcm.encrypt_inout_detached(&nonce, aad.octets(), payload.into()).expect("a packet is short").into()
    }

    fn open_with<G>(
        &self,
        gcm: &G,
        place: Place,
        packet: &mut [u8],
        header: usize,
        tail: [u8; 4],
        found: &[u8],
    ) -> Result<(), SrtpError>
    where
        G: AeadInOut<NonceSize = U12, TagSize = U16>,
    {
        let tag = Tag::<G>::from(*found.first_chunk::<16>().ok_or(SrtpError::TooShort)?);
        let nonce = Nonce::<G>::from(self.nonce(place));
        let (aad, payload) = packet.split_at_mut(header);
        let aad = Aad::of(self.kind, aad, tail);
        gcm.decrypt_inout_detached(&nonce, aad.octets(), payload.into(), &tag)
            .map_err(|_| SrtpError::NotAuthentic)
    }

    /// Lays the index and the tag of an RTCP packet behind it: RFC 3711 §3.4 has the tag last, RFC 7714 §9 the index.
    pub(super) fn lay_out_rtcp(&self, behind: &mut [u8], index: [u8; 4], tag: &[u8; 16]) {
        let tag = &tag[..self.tag_len()];
        let (first, second) = if self.index_is_last() { (tag, &index[..]) } else { (&index[..], tag) };
        behind[..first.len()].copy_from_slice(first);
        behind[first.len()..][..second.len()].copy_from_slice(second);
    }

    /// The length of an RTCP packet without what lies behind it, its index, and its tag.
    pub(super) fn take_apart_rtcp(&self, packet: &[u8]) -> Option<(usize, [u8; 4], [u8; 16])> {
        let tag_len = self.tag_len();
        let length = packet.len().checked_sub(tag_len + 4)?;
        let (index_at, tag_at) = if self.index_is_last() { (tag_len, 0) } else { (0, 4) };
        let behind = &packet[length..];
        let mut tag = [0; 16];
        tag[..tag_len].copy_from_slice(&behind[tag_at..][..tag_len]);
        Some((length, *behind[index_at..].first_chunk()?, tag))
    }

    /// The packet as it would be without a key identifier, which stands before the tag of HMAC-SHA1 (RFC 3711 §3.1) and
    /// behind all else of GCM (RFC 7714 §8.3, §9).
    pub(super) fn without_mki<'p>(
        &self,
        packet: &'p mut [u8],
        mki: &[u8],
    ) -> Result<&'p mut [u8], SrtpError> {
        if mki.is_empty() {
            return Ok(packet);
        }
        let behind = if self.index_is_last() { 0 } else { self.tag_len() };
        let at = packet.len().checked_sub(behind + mki.len()).ok_or(SrtpError::TooShort)?;
        if packet[at..at + mki.len()] != *mki {
            return Err(SrtpError::NotAuthentic);
        }
        packet.copy_within(at + mki.len().., at);
        let length = at + behind;
        Ok(&mut packet[..length])
    }

    fn index_is_last(&self) -> bool {
        matches!(self.transform, Transform::Gcm128(_) | Transform::Gcm256(_))
    }
}

/// What is authenticated but not encrypted: the header of RTP, or the head of RTCP and the index behind the packet.
enum Aad<'a> {
    Rtp(&'a [u8]),
    Rtcp([u8; RTCP_CLEAR + 4]),
}

impl<'a> Aad<'a> {
    fn of(kind: Kind, header: &'a [u8], tail: [u8; 4]) -> Self {
        match (kind, header.first_chunk::<RTCP_CLEAR>()) {
            (Kind::Rtcp, Some(head)) => {
                let mut joined = [0; RTCP_CLEAR + 4];
                joined[..RTCP_CLEAR].copy_from_slice(head);
                joined[RTCP_CLEAR..].copy_from_slice(&tail);
                Self::Rtcp(joined)
            }
            _ => Self::Rtp(header),
        }
    }

    fn octets(&self) -> &[u8] {
        match self {
            Self::Rtp(header) => header,
            Self::Rtcp(joined) => joined,
        }
    }
}

/// HMAC-SHA1 over the packet and what follows it.
fn authenticated(authentication: &Hmac<Sha1>, packet: &[u8], tail: [u8; 4]) -> Hmac<Sha1> {
    let mut mac = authentication.clone();
    mac.update(packet);
    mac.update(&tail);
    mac
}

/// Its first octets, of which a suite takes as many as its tag has.
fn tag(authentication: &Hmac<Sha1>, packet: &[u8], tail: [u8; 4]) -> [u8; 16] {
    let mut tag = [0; 16];
    tag.copy_from_slice(&authenticated(authentication, packet, tail).finalize().into_bytes()[..16]);
    tag
}

fn xor(place: &mut [u8], with: &[u8]) {
    place.iter_mut().zip(with).for_each(|(place, with)| *place ^= with);
}
