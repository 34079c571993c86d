//! Keys in the signalling: `a=crypto` (SDES, RFC 4568; the AEAD suites by RFC 7714).
//!
//! A key protects what its writer sends. Whoever sees the SDP has the keys: use it over TLS. Lines that ask for less
//! than encrypted and authenticated RTP and RTCP, for forward error correction or for several keys at once, are not
//! taken.

use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD};

use crate::rtp::srtp::{CryptoSuite, MasterKey};

/// Names the key in each packet (RFC 3711 §8.1).
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKeyIdentifier {
    /// Its value, of 1 to 128 octets.
    pub value: Vec<u8>,
}

/// A master key and salt for SRTP, with the suite that uses them. `Debug` shows the suite alone.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKey {
    master: MasterKey,
    mki: Option<MasterKeyIdentifier>,
    lifetime: Option<u64>,
}

impl SrtpKey {
    /// A key from random octets: [`CryptoSuite::material_len`] of them, key first, then salt. `None` for another
    /// length.
    pub fn new(suite: CryptoSuite, random: &[u8]) -> Option<Self> {
        let master = MasterKey::new(suite, random).ok()?;
        Some(Self { master, mki: None, lifetime: None })
    }

    /// The suite that it is for.
    pub fn suite(&self) -> CryptoSuite {
        self.master.suite()
    }

    /// The key with its salt.
    pub fn master(&self) -> &MasterKey {
        &self.master
    }

    /// What each packet carries to name the key, where the peer wants that.
    pub fn mki(&self) -> Option<&MasterKeyIdentifier> {
        self.mki.as_ref()
    }

    /// Packets that it may protect, where the peer said so.
    pub fn lifetime(&self) -> Option<u64> {
        self.lifetime
    }
}

impl fmt::Debug for SrtpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SrtpKey({}, ..)", self.suite().name())
    }
}

impl fmt::Debug for MasterKeyIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKeyIdentifier({} octets)", self.value.len())
    }
}

/// What is wrong with an `a=crypto`, in words without its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Malformed,
    Suite(String),
    Parameter(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("an unreadable line"),
            Self::Suite(name) => f.write_str(name),
            Self::Parameter(name) => write!(f, "a line with {name}"),
        }
    }
}

/// One `a=crypto` (RFC 4568 §9.1): `<tag> <suite> inline:<key||salt>[|lifetime][|MKI:length] [parameters]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crypto {
    pub(super) tag: u32,
    pub(super) key: SrtpKey,
}

impl Crypto {
    pub(super) fn parse(value: &str) -> Result<Self, Fault> {
        let mut words = value.split_ascii_whitespace();
        let mut word = || words.next().ok_or(Fault::Malformed);
        let (tag, suite, keys) = (word()?, word()?, word()?);
        let tag = Some(tag).filter(|t| t.len() <= 9).and_then(|t| t.parse().ok()).ok_or(Fault::Malformed)?;
        let suite = CryptoSuite::by_name(suite).ok_or_else(|| Fault::Suite(speakable(suite)))?;
        words.try_for_each(harmless)?;
        Ok(Self { tag, key: inline(suite, keys)? })
    }
}

impl fmt::Display for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SrtpKey { master, mki, lifetime } = &self.key;
        write!(f, "{} {} inline:{}", self.tag, master.suite().name(), BASE64.encode(master.octets()))?;
        if let Some(lifetime) = lifetime {
            write!(f, "|{lifetime}")?;
        }
        if let Some(MasterKeyIdentifier { value }) = mki {
            let number = value.iter().fold(0u128, |number, &octet| number << 8 | u128::from(octet));
            write!(f, "|{number}:{}", value.len())?;
        }
        Ok(())
    }
}

/// Base64 whose padding may be left out.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    BASE64_NOPAD.decode(digits.as_bytes()).ok().filter(|_| padding <= 2)
}

fn inline(suite: CryptoSuite, keys: &str) -> Result<SrtpKey, Fault> {
    if keys.contains(';') {
        return Err(Fault::Parameter("several keys".into()));
    }
    let (method, info) = keys.split_once(':').ok_or(Fault::Malformed)?;
    if !method.eq_ignore_ascii_case("inline") {
        return Err(Fault::Parameter(format!("the key method {}", speakable(method))));
    }
    let mut parts = info.split('|');
    let material = parts.next().and_then(decode).ok_or(Fault::Malformed)?;
    let mut key = SrtpKey::new(suite, &material).ok_or(Fault::Malformed)?;
    for part in parts {
        match part.split_once(':') {
            Some((value, length)) => key.mki = Some(identifier(value, length).ok_or(Fault::Malformed)?),
            None => key.lifetime = Some(lifetime(part).ok_or(Fault::Malformed)?),
        }
    }
    Ok(key)
}

/// `2^n` or a number of packets.
fn lifetime(text: &str) -> Option<u64> {
    match text.strip_prefix("2^") {
        Some(power) => 1u64.checked_shl(power.parse().ok()?),
        None => text.parse().ok(),
    }
}

/// A number in so many octets. More than 16 nobody uses, though 128 are allowed.
fn identifier(value: &str, length: &str) -> Option<MasterKeyIdentifier> {
    let (number, length): (u128, usize) = (value.parse().ok()?, length.parse().ok()?);
    let octets = number.to_be_bytes();
    let (unused, value) = octets.split_at_checked(octets.len().checked_sub(length)?)?;
    (length > 0 && unused.iter().all(|&octet| octet == 0))
        .then(|| MasterKeyIdentifier { value: value.to_vec() })
}

/// A name as it stands, unless it is too long for one: a line out of order may have a key in its place.
fn speakable(name: &str) -> String {
    let is_name = name.len() <= 26 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_name { name.to_owned() } else { "an unknown name".to_owned() }
}

/// A parameter that changes nothing for us: a hint for the replay window, a key derivation rate of 0, or one that
/// says of itself that it may be ignored (RFC 4568 §6.3).
fn harmless(parameter: &str) -> Result<(), Fault> {
    let name = parameter.split('=').next().unwrap_or_default();
    let ignored = parameter.starts_with('-') || name == "WSH" || parameter == "KDR=0";
    if ignored { Ok(()) } else { Err(Fault::Parameter(speakable(name))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";

    #[test]
    fn every_length_comes_back_and_the_known_texts_are_met() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xfe\xfd", "//79")]
        {
            assert_eq!((BASE64.encode(bytes).as_str(), decode(text).as_deref()), (text, Some(bytes)));
            assert_eq!(decode(text.trim_end_matches('=')).as_deref(), Some(bytes), "padding may be left out");
        }
        let all: Vec<u8> = (0..=255).collect();
        for length in 0..all.len() {
            assert_eq!(decode(&BASE64.encode(&all[..length])).as_deref(), Some(&all[..length]));
        }
    }

    #[test]
    fn what_no_encoder_writes_is_nothing() {
        for text in ["A", "Zh==", "Zm9=", "Zg===", "Z-==", "Z g=", "=Zg=", "\u{e9}A=="] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn lines_are_read_and_printed_again() {
        let short = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw==";
        for line in [
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("2 AES_CM_128_HMAC_SHA1_32 inline:{KEY}|1048576|1:4"),
            format!("999999999 AEAD_AES_128_GCM inline:{short}"),
            format!("3 AEAD_AES_256_GCM inline:{}", BASE64.encode(&[7; 44])),
        ] {
            assert_eq!(Crypto::parse(&line).unwrap().to_string(), line);
        }
        let crypto =
            Crypto::parse(&format!("4 aes_cm_128_hmac_sha1_80 inline:{KEY}|2^31|258:2 WSH=64 -X")).unwrap();
        assert_eq!(
            (
                crypto.tag,
                crypto.key.lifetime(),
                crypto.key.master().octets()[15],
                crypto.key.master().octets()[29]
            ),
            (4, Some(1 << 31), 15, 29)
        );
        assert_eq!(crypto.key.mki().unwrap().value, [1, 2]);
    }

    #[test]
    fn what_weakens_or_cannot_be_read_is_a_fault() {
        let parameter = |name: &str| Fault::Parameter(name.into());
        for (line, fault) in [
            (
                format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP"),
                parameter("UNENCRYPTED_SRTP"),
            ),
            (
                format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTCP"),
                parameter("UNENCRYPTED_SRTCP"),
            ),
            (
                format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNAUTHENTICATED_SRTP"),
                parameter("UNAUTHENTICATED_SRTP"),
            ),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=3"), parameter("KDR")),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY};inline:{KEY}"), parameter("several keys")),
            (format!("1 F8_128_HMAC_SHA1_80 inline:{KEY}"), Fault::Suite("F8_128_HMAC_SHA1_80".into())),
            (format!("1 AEAD_AES_256_GCM inline:{KEY}"), Fault::Malformed),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^64"), Fault::Malformed),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|300:1"), Fault::Malformed),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:999"), Fault::Malformed),
            (format!("1 AES_CM_128_HMAC_SHA1_80 {KEY}"), Fault::Malformed),
            (format!("x AES_CM_128_HMAC_SHA1_80 inline:{KEY}"), Fault::Malformed),
            ("1 AES_CM_128_HMAC_SHA1_80".into(), Fault::Malformed),
        ] {
            assert_eq!(Crypto::parse(&line), Err(fault), "{line}");
        }
    }

    #[test]
    fn a_line_out_of_order_tells_no_key() {
        for line in [
            format!("1 inline:{KEY} AES_CM_128_HMAC_SHA1_80"),
            format!("1 {KEY} inline:{KEY}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 {KEY}:inline"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} {KEY}=1"),
        ] {
            let fault = Crypto::parse(&line).unwrap_err();
            assert!(!format!("{fault} {fault:?}").contains("AAEC"), "{fault}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let crypto = Crypto::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|4711:4")).unwrap();
        let text = format!("{crypto:?}");
        assert!(!text.contains("AAEC") && !text.contains("1, 2, 3") && !text.contains("18"), "{text}");
    }
}
