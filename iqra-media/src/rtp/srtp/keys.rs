//! From a master key to the keys of the packets (RFC 3711 §4.3 with a derivation rate of 0; RFC 7714 §11).

use aes::{Aes128, Aes256};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use zeroize::Zeroizing;

use super::{Kind, MasterKey};

/// What a key is for (RFC 3711 §4.3.2); SRTCP counts on from SRTP.
#[derive(Clone, Copy)]
enum Label {
    Cipher = 0,
    Authentication = 1,
    Salt = 2,
}

/// The keys of one direction and protocol.
#[derive(Default)]
pub(super) struct SessionKeys {
    /// As many octets as the suite's master key has.
    pub(super) cipher: Zeroizing<[u8; 32]>,
    pub(super) authentication: Zeroizing<[u8; 20]>,
    pub(super) salt: Zeroizing<[u8; 14]>,
}

impl SessionKeys {
    pub(super) fn derive(master: &MasterKey, kind: Kind) -> Self {
        let (key, salt) = master.halves();
        let mut keys = Self::default();
        let offset = if kind == Kind::Rtp { 0 } else { 3 };
        let generate = |label: Label, out: &mut [u8]| keystream(key, block(salt, label as u8 + offset), out);
        generate(Label::Cipher, &mut keys.cipher[..key.len()]);
        generate(Label::Authentication, &mut keys.authentication[..]);
        generate(Label::Salt, &mut keys.salt[..salt.len()]);
        keys
    }
}

/// The first block of the generator: the salt with the label in its eighth octet, and room to count.
fn block(salt: &[u8], label: u8) -> [u8; 16] {
    let mut block = [0; 16];
    block[..salt.len()].copy_from_slice(salt);
    block[7] ^= label;
    block
}

/// AES in counter mode over zeros.
fn keystream(key: &[u8], first: [u8; 16], out: &mut [u8]) {
    const CHECKED: &str = "a master key is as long as its suite wants";
    match key.len() {
        32 => Ctr128BE::<Aes256>::new_from_slices(key, &first).expect(CHECKED).apply_keystream(out),
        _ => Ctr128BE::<Aes128>::new_from_slices(key, &first).expect(CHECKED).apply_keystream(out),
    }
}
