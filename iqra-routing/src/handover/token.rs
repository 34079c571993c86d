//! The token (`X-CallQueue-Id`): what a caller carries from the proxy to the backend that may answer it.
//!
//! In: which entry, attempt, region, server and until when. Out: a text that survives a Request-URI: lowercase base32
//! (RFC 4648 §6, no padding), because URI parameters compare without case (RFC 3261 §19.1.4). Signed with HMAC-SHA-256
//! (RFC 2104, 128 bits of it kept, §5 there); any key of the ring verifies, the first one signs.
//!
//! ```text
//! version 1 | key id 2 | purpose 1 | entry 16 | attempt 4 | expires 8 | region 1+n | server 1+n | mac 16
//! ```

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use data_encoding::{Encoding, Specification};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::identity::{BackendId, EntryId, RegionId};
use crate::reason::Reason;
use crate::time::Timestamp;

/// How far the clocks of two nodes may be apart: a signature is good for so long after the expiry that it names. The
/// queue's claim enforces the expiry itself.
pub const SKEW: Duration = Duration::from_secs(120);
/// The shortest key, in bytes.
pub const MIN_KEY: usize = 32;
/// The most keys in a ring.
pub const MAX_KEYS: usize = 8;
/// The longest token, in characters; longer ones are not looked at.
pub const MAX_TOKEN: usize = 320;
/// No token is shorter, in characters: a user part that is, is a user and no token.
pub const MIN_TOKEN: usize = (HEAD + MAC) * 8 / 5;

const VERSION: u8 = 1;
const HEAD: usize = 32;
const MAC: usize = 16;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Purpose {
    /// To begin the call at the backend.
    Start,
    /// To go on with it there, when a provider opens its media anew.
    Resume,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token {
    /// The queue entry.
    pub entry: EntryId,
    /// The attempt that it belongs to.
    pub attempt: u32,
    /// The region that may answer.
    pub region: RegionId,
    /// The backend that may answer.
    pub server: BackendId,
    /// Until when.
    pub expires: Timestamp,
    /// What for.
    pub purpose: Purpose,
}

/// Why a token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It cannot be read.
    #[error("the token cannot be read: it was cut or changed on its way, or is of another version")]
    Unreadable,
    /// None of the keys made it.
    #[error("the token's signature is wrong: give proxy and backend the same token keys")]
    Forged,
    /// It is past its expiry and the skew allowed.
    #[error("the token has expired")]
    Expired,
}

impl TokenError {
    /// What the caller hears.
    pub fn reason(self) -> Reason {
        match self {
            Self::Unreadable | Self::Forged => Reason::TokenForged,
            Self::Expired => Reason::TokenExpired,
        }
    }
}

/// Why there are no usable keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The environment variable is not there.
    #[error(
        "the environment variable {0} is not set; set it to one or more keys, comma separated (openssl rand -hex 32)"
    )]
    NotSet(String),
    /// There is no key.
    #[error("there is no token key; give 1 to 8 keys of at least 32 bytes (openssl rand -hex 32)")]
    None,
    /// A key is too short.
    #[error("token key number {0} is shorter than 32 bytes; make one with: openssl rand -hex 32")]
    Short(usize),
    /// There are too many.
    #[error("there are {0} token keys; keep 1 to 8, the first signs and the others are still accepted")]
    Many(usize),
    /// The system gave no randomness.
    #[error("the system gave no random bytes for a token key")]
    NoRandomness,
}

/// The keys in an environment variable, separated by commas.
pub(crate) fn from_env(name: &str) -> Result<Vec<String>, KeyError> {
    let text = std::env::var(name).map_err(|_| KeyError::NotSet(name.to_owned()))?;
    Ok(text.split(',').map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned).collect())
}

static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.translate.from.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    spec.translate.to.push_str("abcdefghijklmnopqrstuvwxyz");
    spec.encoding().expect("the alphabet has 32 distinct symbols")
});

#[derive(Clone)]
struct Key {
    id: [u8; 2],
    mac: Hmac<Sha256>,
}

/// The keys that sign and verify tokens. Debug shows their ids only.
#[derive(Clone)]
pub struct TokenKeys {
    /// Never empty; the first signs.
    keys: Vec<Key>,
}

impl TokenKeys {
    /// A ring of these keys: the first signs, all verify, so a key is replaced by putting the new one first and
    /// dropping the old one when its tokens have expired.
    ///
    /// # Errors
    /// [`KeyError`] when there are none, more than [`MAX_KEYS`], or one shorter than [`MIN_KEY`].
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Result<Self, KeyError> {
        let mut ring = Vec::new();
        for (index, key) in keys.into_iter().enumerate() {
            let key = key.as_ref();
            if key.len() < MIN_KEY {
                return Err(KeyError::Short(index + 1));
            }
            let digest = Sha256::digest(key);
            let mac = Hmac::new_from_slice(key).map_err(|_| KeyError::Short(index + 1))?;
            ring.push(Key { id: [digest[0], digest[1]], mac });
        }
        match ring.len() {
            0 => Err(KeyError::None),
            1..=MAX_KEYS => Ok(Self { keys: ring }),
            many => Err(KeyError::Many(many)),
        }
    }

    /// The ring in an environment variable: keys separated by commas, each of at least 32 characters.
    ///
    /// # Errors
    /// [`KeyError`] when it is not set or holds no usable ring.
    pub fn from_env(name: &str) -> Result<Self, KeyError> {
        Self::new(from_env(name)?)
    }

    /// A ring of one random key, for a proxy and a backend in one process. Tokens do not outlive it.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn random() -> Result<Self, KeyError> {
        let mut key = [0; MIN_KEY];
        getrandom::fill(&mut key).map_err(|_| KeyError::NoRandomness)?;
        Self::new([key])
    }

    /// Writes and signs a token.
    pub fn sign(&self, token: &Token) -> String {
        let key = &self.keys[0];
        let mut bytes =
            Vec::with_capacity(HEAD + token.region.as_str().len() + token.server.as_str().len() + 2 + MAC);
        bytes.push(VERSION);
        bytes.extend(key.id);
        bytes.push(u8::from(token.purpose == Purpose::Resume));
        bytes.extend(token.entry.0.to_be_bytes());
        bytes.extend(token.attempt.to_be_bytes());
        bytes.extend(token.expires.as_millis().to_be_bytes());
        for name in [token.region.as_str(), token.server.as_str()] {
            bytes.push(u8::try_from(name.len()).expect("ids have at most 64 bytes"));
            bytes.extend(name.as_bytes());
        }
        let mac = key.mac.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend(&mac[..MAC]);
        BASE32.encode(&bytes)
    }

    /// Reads a token and checks its signature (in constant time) and its expiry, [`SKEW`] allowed. Takes any input.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, text: &str, now: Timestamp) -> Result<Token, TokenError> {
        if text.len() > MAX_TOKEN {
            return Err(TokenError::Unreadable);
        }
        let bytes = BASE32.decode(text.as_bytes()).map_err(|_| TokenError::Unreadable)?;
        let signed = bytes.len().checked_sub(MAC).ok_or(TokenError::Unreadable)?;
        let (body, mac) = bytes.split_at(signed);
        let token = parse(body).ok_or(TokenError::Unreadable)?;
        let mut named = self.keys.iter().filter(|key| key.id == body[1..3]);
        if !named.any(|key| key.mac.clone().chain_update(body).verify_truncated_left(mac).is_ok()) {
            return Err(TokenError::Forged);
        }
        if now > token.expires + SKEW { Err(TokenError::Expired) } else { Ok(token) }
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.keys.iter().map(|key| format!("{:02x}{:02x}", key.id[0], key.id[1]));
        out.debug_list().entries(ids).finish()
    }
}

/// Reads what is signed; `None` for anything that [`TokenKeys::sign`] does not write.
fn parse(body: &[u8]) -> Option<Token> {
    let (head, names) = body.split_at_checked(HEAD)?;
    let (region, rest) = name(names)?;
    let (server, rest) = name(rest)?;
    let purpose = match head[3] {
        0 => Purpose::Start,
        1 => Purpose::Resume,
        _ => return None,
    };
    if head[0] != VERSION || !rest.is_empty() {
        return None;
    }
    Some(Token {
        entry: EntryId(u128::from_be_bytes(head[4..20].try_into().ok()?)),
        attempt: u32::from_be_bytes(head[20..24].try_into().ok()?),
        expires: Timestamp::from_millis(u64::from_be_bytes(head[24..32].try_into().ok()?)),
        region: region.parse().ok()?,
        server: server.parse().ok()?,
        purpose,
    })
}

/// A length and so many bytes of text, and what follows.
fn name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn keys(first: u8) -> TokenKeys {
        TokenKeys::new([[first; 32]]).unwrap()
    }

    fn token() -> Token {
        Token {
            entry: EntryId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            attempt: 3,
            region: "eu-west".parse().unwrap(),
            server: "backend-1".parse().unwrap(),
            expires: NOW + Duration::from_secs(30),
            purpose: Purpose::Start,
        }
    }

    #[test]
    fn a_token_reads_back_in_either_case_and_is_fit_for_a_uri() {
        let text = keys(1).sign(&token());
        assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{text}");
        assert!(text.len() <= MAX_TOKEN);
        assert_eq!(keys(1).verify(&text, NOW), Ok(token()));
        assert_eq!(keys(1).verify(&text.to_uppercase(), NOW), Ok(token()));
    }

    #[test]
    fn the_longest_ids_fit() {
        let long = Token {
            region: "r".repeat(64).parse().unwrap(),
            server: "s".repeat(64).parse().unwrap(),
            ..token()
        };
        let text = keys(1).sign(&long);
        assert!(text.len() <= MAX_TOKEN);
        assert_eq!(keys(1).verify(&text, NOW), Ok(long));
    }

    #[test]
    fn a_ring_signs_with_its_first_key_and_accepts_all() {
        let both = TokenKeys::new([[2; 32], [1; 32]]).unwrap();
        assert_eq!(both.verify(&keys(1).sign(&token()), NOW), Ok(token()));
        assert_eq!(keys(2).verify(&both.sign(&token()), NOW), Ok(token()));
        assert_eq!(keys(1).verify(&both.sign(&token()), NOW), Err(TokenError::Forged));
    }

    #[test]
    fn expiry_allows_the_skew_and_no_more() {
        let text = keys(1).sign(&token());
        let last = token().expires + SKEW;
        assert_eq!(keys(1).verify(&text, last), Ok(token()));
        assert_eq!(keys(1).verify(&text, last + Duration::from_millis(1)), Err(TokenError::Expired));
    }

    #[test]
    fn any_changed_character_is_refused() {
        let text = keys(1).sign(&token());
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(keys(1).verify(&changed, NOW).is_err(), "position {at}");
        }
    }

    #[test]
    fn unusable_rings_say_what_to_do() {
        assert_eq!(TokenKeys::new([[0; 31]]).unwrap_err(), KeyError::Short(1));
        assert_eq!(TokenKeys::new::<&str>([]).unwrap_err(), KeyError::None);
        assert_eq!(TokenKeys::new(vec![[7; 32]; 9]).unwrap_err(), KeyError::Many(9));
        let missing = TokenKeys::from_env("IQRA_TEST_NO_SUCH_VARIABLE").unwrap_err();
        assert!(missing.to_string().contains("IQRA_TEST_NO_SUCH_VARIABLE"));
    }

    #[test]
    fn debug_shows_no_key() {
        let keys = TokenKeys::new(["correct horse battery staple correct"]).unwrap();
        let shown = format!("{keys:?}");
        assert!(!shown.contains("horse") && shown.len() < 12, "{shown}");
        assert_ne!(TokenKeys::random().unwrap().sign(&token()), TokenKeys::random().unwrap().sign(&token()));
    }

    proptest! {
        #[test]
        fn verify_takes_any_text(text in ".{0,400}") {
            prop_assert!(keys(1).verify(&text, NOW).is_err());
        }

        #[test]
        fn verify_takes_any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), versioned: bool) {
            if versioned && !bytes.is_empty() {
                bytes[0] = VERSION;
            }
            prop_assert!(keys(1).verify(&BASE32.encode(&bytes), NOW).is_err());
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_signed_verifies(entry: u128, attempt: u32, region in "[a-z0-9-]{1,64}", server in "[A-Z0-9._]{1,64}", resume: bool) {
            let token = Token {
                entry: EntryId(entry),
                attempt,
                region: region.parse().unwrap(),
                server: server.parse().unwrap(),
                expires: NOW,
                purpose: if resume { Purpose::Resume } else { Purpose::Start },
            };
            prop_assert_eq!(keys(9).verify(&keys(9).sign(&token), NOW), Ok(token));
        }
    }
}
