//! The pool's keys: what proves that a Route was made by one of its proxies.
//!
//! HMAC-SHA-256 (RFC 2104), 128 bits of it kept (§5 there). The first key signs, every key verifies, and each is named
//! by two octets of its hash, so that a new key is brought in by putting it first everywhere and the old one is dropped
//! when the calls of its time have ended.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The shortest key, in bytes.
pub const MIN_KEY: usize = 32;
/// The most keys in a ring.
pub const MAX_KEYS: usize = 8;
/// Bytes of a signature.
pub(crate) const MAC: usize = 16;

/// Which key made a signature.
pub(crate) type KeyId = [u8; 2];

/// Why there are no usable keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is none, or there are too many.
    #[error("there are {0} relay keys: give 1 to 8, the first signs and the others are still accepted")]
    Count(usize),
    /// A key is too short.
    #[error("relay key number {0} is shorter than 32 bytes: make one with openssl rand -hex 32")]
    Short(usize),
}

#[derive(Clone)]
struct Key {
    id: KeyId,
    mac: Hmac<Sha256>,
}

/// The keys that a pool of proxies shares. Debug shows their ids only.
#[derive(Clone)]
pub struct RelayKeys {
    /// Never empty; the first signs.
    keys: Vec<Key>,
}

impl RelayKeys {
    /// A ring of these secrets, of 32 bytes at least, 1 to 8 of them: the first signs, all verify.
    ///
    /// # Errors
    /// [`KeyError`] says which is wrong.
    pub fn new(secrets: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for (at, secret) in secrets.into_iter().enumerate() {
            let secret = secret.as_ref();
            if secret.len() < MIN_KEY {
                return Err(KeyError::Short(at + 1));
            }
            let hash = Sha256::new_with_prefix(b"iqra relay key id").chain_update(secret).finalize();
            let mac = Hmac::new_from_slice(secret).expect("HMAC takes a key of any length");
            keys.push(Key { id: [hash[0], hash[1]], mac });
        }
        match keys.len() {
            1..=MAX_KEYS => Ok(Self { keys }),
            count => Err(KeyError::Count(count)),
        }
    }

    /// The id of the key that signs.
    pub(crate) fn id(&self) -> KeyId {
        self.keys[0].id
    }

    /// Signs with the first key; each part is bound with its length.
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> [u8; MAC] {
        let mut mac = [0; MAC];
        mac.copy_from_slice(&over(&self.keys[0], parts).finalize().into_bytes()[..MAC]);
        mac
    }

    /// The first octets of a signature, for parts of what is signed as a whole besides.
    pub(crate) fn mark<const N: usize>(&self, parts: &[&[u8]]) -> [u8; N] {
        let mut mark = [0; N];
        mark.copy_from_slice(&self.sign(parts)[..N]);
        mark
    }

    /// Whether a key of this id signed these parts so. In constant time for each key.
    pub(crate) fn verify(&self, id: KeyId, parts: &[&[u8]], mac: &[u8]) -> bool {
        mac.len() == MAC && self.marked(id, parts, mac)
    }

    /// Whether a key of this id marked these parts so.
    pub(crate) fn marked(&self, id: KeyId, parts: &[&[u8]], mark: &[u8]) -> bool {
        let mut named = self.keys.iter().filter(|key| key.id == id);
        named.any(|key| over(key, parts).verify_truncated_left(mark).is_ok())
    }
}

fn over(key: &Key, parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = key.mac.clone();
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

impl fmt::Debug for RelayKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| key.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_binds_every_part_and_its_length() {
        let keys = RelayKeys::new([[1; 32]]).unwrap();
        let mac = keys.sign(&[b"ab", b"c"]);
        assert!(keys.verify(keys.id(), &[b"ab", b"c"], &mac));
        assert!(!keys.verify(keys.id(), &[b"a", b"bc"], &mac));
        assert!(!keys.verify(keys.id(), &[b"ab", b"d"], &mac));
        assert!(!keys.verify(keys.id(), &[b"ab", b"c"], &mac[..15]), "nor is a part of it enough");
        assert!(!RelayKeys::new([[2; 32]]).unwrap().verify(keys.id(), &[b"ab", b"c"], &mac));
    }

    #[test]
    fn a_retired_key_verifies_until_it_is_dropped() {
        let (old, new) = ([1; 32], [2; 32]);
        let before = RelayKeys::new([old]).unwrap();
        let mac = before.sign(&[b"x"]);
        assert!(RelayKeys::new([new, old]).unwrap().verify(before.id(), &[b"x"], &mac));
        assert!(!RelayKeys::new([new]).unwrap().verify(before.id(), &[b"x"], &mac));
    }

    #[test]
    fn weak_rings_are_refused_and_secrets_stay_out_of_debug() {
        assert_eq!(RelayKeys::new([[0; 8]]).unwrap_err(), KeyError::Short(1));
        assert_eq!(RelayKeys::new([[0; 32]; 0]).unwrap_err(), KeyError::Count(0));
        assert_eq!(RelayKeys::new([[0; 32]; 9]).unwrap_err(), KeyError::Count(9));
        assert!(!format!("{:?}", RelayKeys::new([[77; 32]]).unwrap()).contains("77, 77, 77"));
    }
}
