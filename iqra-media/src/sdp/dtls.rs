//! DTLS-SRTP in SDP: certificate fingerprints (RFC 8122), who connects (`a=setup`, RFC 4145, RFC 5763 §5), and the
//! association's name (`a=tls-id`, RFC 8842).

use std::fmt;

/// The SHA-256 of a certificate. Other hashes are not taken: RFC 8122 §5 names this one as the one to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// From the attribute's value, `sha-256 12:AB:..`; `None` for another hash or form.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let (hash, hex) = value.trim().split_once(' ')?;
        let mut octets = [0; 32];
        let mut pairs = hex.trim().split(':');
        for octet in &mut octets {
            let two_digits = |pair: &&str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
            let pair = pairs.next().filter(two_digits)?;
            *octet = u8::from_str_radix(pair, 16).ok()?;
        }
        (hash.eq_ignore_ascii_case("sha-256") && pairs.next().is_none()).then_some(Self(octets))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha-256 ")?;
        self.0.iter().enumerate().try_for_each(|(at, octet)| {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{octet:02X}")
        })
    }
}

/// Which side of the handshake we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DtlsRole {
    /// We send the ClientHello (`a=setup:active`).
    #[default]
    Client,
    /// We wait for it (`a=setup:passive`).
    Server,
}

/// Our certificate in SDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalDtls {
    /// Of the certificate that we show.
    pub fingerprint: Fingerprint,
    /// What we are when an offer leaves the choice to us. RFC 5763 §5 recommends [`DtlsRole::Client`], the default.
    pub role: DtlsRole,
    /// Name of the DTLS association, 20 to 255 random letters and digits; a new one asks for a new handshake
    /// (RFC 8842 §4). `None` leaves it out.
    pub tls_id: Option<String>,
}

impl LocalDtls {
    /// The client where there is a choice, without a `tls-id`.
    pub fn new(fingerprint: Fingerprint) -> Self {
        Self { fingerprint, role: DtlsRole::default(), tls_id: None }
    }
}

/// `a=setup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    ActPass,
    Active,
    Passive,
    HoldConn,
}

impl Setup {
    pub(super) fn parse(value: &str) -> Option<Self> {
        [Self::ActPass, Self::Active, Self::Passive, Self::HoldConn]
            .into_iter()
            .find(|setup| setup.as_str().eq_ignore_ascii_case(value.trim()))
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ActPass => "actpass",
            Self::Active => "active",
            Self::Passive => "passive",
            Self::HoldConn => "holdconn",
        }
    }

    /// Our role in answer to this, if it allows one.
    pub(super) fn answered_with(self, wish: DtlsRole) -> Option<DtlsRole> {
        match self {
            Self::ActPass => Some(wish),
            Self::Active => Some(DtlsRole::Server),
            Self::Passive => Some(DtlsRole::Client),
            Self::HoldConn => None,
        }
    }
}

impl From<DtlsRole> for Setup {
    fn from(role: DtlsRole) -> Self {
        match role {
            DtlsRole::Client => Self::Active,
            DtlsRole::Server => Self::Passive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_comes_back_and_other_hashes_and_lengths_do_not() {
        let mut octets = [0xAB; 32];
        octets[0] = 1;
        let text = Fingerprint(octets).to_string();
        assert!(text.starts_with("sha-256 01:AB:AB:") && text.len() == 8 + 32 * 3 - 1, "{text}");
        assert_eq!(Fingerprint::parse(&text.to_lowercase()), Some(Fingerprint(octets)));
        for bad in [
            "sha-1 01:AB",
            &text[..text.len() - 3],
            &format!("{text}:00"),
            &text.replace("01", "+1"),
            "",
            "sha-256",
        ] {
            assert_eq!(Fingerprint::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn roles_follow_the_offer_s_setup() {
        let answers =
            |setup: &str| Setup::parse(setup).and_then(|setup| setup.answered_with(DtlsRole::Client));
        assert_eq!(answers("actpass"), Some(DtlsRole::Client));
        assert_eq!(answers("ACTIVE "), Some(DtlsRole::Server));
        assert_eq!(answers("passive"), Some(DtlsRole::Client));
        assert_eq!((answers("holdconn"), answers("x")), (None, None));
    }
}
