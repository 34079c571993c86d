//! From a master key to the keys of the packets (RFC 3711 §4.3 with a derivation rate of 0; RFC 7714 §11).

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes256, Block};

use super::{Kind, MasterKey};

/// What a key is for (RFC 3711 §4.3.2); SRTCP counts on from SRTP.
#[derive(Clone, Copy)]
enum Label {
    Cipher = 0,
    Authentication = 1,
    Salt = 2,
}

/// The keys of one direction and protocol.
pub(super) struct SessionKeys {
    /// As many octets as the suite's master key has.
    pub(super) cipher: [u8; 32],
    pub(super) authentication: [u8; 20],
    pub(super) salt: [u8; 14],
}

impl SessionKeys {
    pub(super) fn derive(master: &MasterKey, kind: Kind) -> Self {
        let (key, salt) = master.halves();
        let mut keys = Self { cipher: [0; 32], authentication: [0; 20], salt: [0; 14] };
        let offset = if kind == Kind::Rtp { 0 } else { 3 };
        let generate = |label: Label, out: &mut [u8]| keystream(key, block(salt, label as u8 + offset), out);
        generate(Label::Cipher, &mut keys.cipher[..key.len()]);
        generate(Label::Authentication, &mut keys.authentication);
        generate(Label::Salt, &mut keys.salt[..salt.len()]);
        keys
    }
}

impl Drop for SessionKeys {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.cipher.zeroize();
        self.authentication.zeroize();
        self.salt.zeroize();
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
    let encrypt: &dyn Fn(&mut Block) = match key.len() {
        32 => &{
            let aes = Aes256::new_from_slice(key).expect("32 octets");
            move |block: &mut Block| aes.encrypt_block(block)
        },
        _ => &{
            let aes = Aes128::new_from_slice(key).expect("16 octets");
            move |block: &mut Block| aes.encrypt_block(block)
        },
    };
    for (count, out) in out.chunks_mut(16).enumerate() {
        let mut block = first;
        block[14..].copy_from_slice(&(count as u16).to_be_bytes());
        let mut block = Block::from(block);
        encrypt(&mut block);
        out.copy_from_slice(&block[..out.len()]);
    }
}
