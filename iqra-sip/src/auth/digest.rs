//! The digest itself: what is hashed, in which order, by which algorithm (RFC 7616 §3.4; RFC 8760 §2.1).
//!
//! In: the parts of a request and of a challenge, as octets. Out: lowercase hexadecimal.

use hmac::digest::Digest;
use md5::Md5;
use sha2::{Sha256, Sha512_256};
use zeroize::Zeroizing;

/// A digest algorithm. Ordered by strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// `MD5`: broken as a hash, and still what most peers speak.
    Md5,
    /// `MD5-sess`
    Md5Sess,
    /// `SHA-256`
    Sha256,
    /// `SHA-256-sess`
    Sha256Sess,
    /// `SHA-512-256`
    Sha512Trunc,
    /// `SHA-512-256-sess`
    Sha512TruncSess,
}

impl Algorithm {
    const ALL: [Algorithm; 6] = [
        Algorithm::Md5,
        Algorithm::Md5Sess,
        Algorithm::Sha256,
        Algorithm::Sha256Sess,
        Algorithm::Sha512Trunc,
        Algorithm::Sha512TruncSess,
    ];

    /// The name in a header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Md5Sess => "MD5-sess",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha256Sess => "SHA-256-sess",
            Algorithm::Sha512Trunc => "SHA-512-256",
            Algorithm::Sha512TruncSess => "SHA-512-256-sess",
        }
    }

    /// The algorithm of that name, whatever its case; an absent name is MD5 (RFC 7616 §3.3).
    #[must_use]
    pub fn named(name: Option<&str>) -> Option<Algorithm> {
        let name = name.unwrap_or("MD5");
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name))
    }

    /// True where the hash of the password also covers the nonces of the session.
    #[must_use]
    pub const fn is_session(self) -> bool {
        matches!(self, Algorithm::Md5Sess | Algorithm::Sha256Sess | Algorithm::Sha512TruncSess)
    }

    /// The same hash without sessions: what a stored HA1 is of.
    #[must_use]
    pub const fn plain(self) -> Algorithm {
        match self {
            Algorithm::Md5 | Algorithm::Md5Sess => Algorithm::Md5,
            Algorithm::Sha256 | Algorithm::Sha256Sess => Algorithm::Sha256,
            Algorithm::Sha512Trunc | Algorithm::Sha512TruncSess => Algorithm::Sha512Trunc,
        }
    }

    /// The hash of `parts` with colons between them, in lowercase hexadecimal.
    pub(super) fn hash(self, parts: &[&[u8]]) -> Zeroizing<String> {
        match self.plain() {
            Algorithm::Sha256 => hash::<Sha256>(parts),
            Algorithm::Sha512Trunc => hash::<Sha512_256>(parts),
            _ => hash::<Md5>(parts),
        }
    }

    /// HA1 as it is stored: user, realm and password (RFC 7616 §3.4.2). As good as the password for this realm.
    #[must_use]
    pub fn ha1(self, username: &str, realm: &str, password: &str) -> Zeroizing<String> {
        self.hash(&[username.as_bytes(), realm.as_bytes(), password.as_bytes()])
    }

    /// What A1 hashes to: with `-sess` over the nonces of the session too, the client's being that of its first request
    /// after the challenge (RFC 7616 §3.4.2).
    pub(super) fn a1(self, ha1: &str, nonce: &[u8], cnonce: &[u8]) -> Zeroizing<String> {
        match self.is_session() {
            true => self.hash(&[ha1.as_bytes(), nonce, cnonce]),
            false => Zeroizing::new(ha1.to_owned()),
        }
    }

    /// The hash that stands for a user where the server offers `userhash`, in lowercase hexadecimal
    /// (RFC 7616 §3.4.4): the key of an index from hashes to users.
    #[must_use]
    pub fn userhash(self, username: &str, realm: &str) -> String {
        self.hash(&[username.as_bytes(), realm.as_bytes()]).to_string()
    }
}

fn hash<D: Digest>(parts: &[&[u8]]) -> Zeroizing<String> {
    let mut hasher = D::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            hasher.update(b":");
        }
        hasher.update(part);
    }
    Zeroizing::new(hex(&hasher.finalize()))
}

/// Lowercase hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// What the digest protects (RFC 7616 §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Qop {
    /// `auth`: method and URI.
    Auth,
    /// `auth-int`: the body too.
    AuthInt,
}

impl Qop {
    /// The name in a header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Qop::Auth => "auth",
            Qop::AuthInt => "auth-int",
        }
    }

    /// The quality of that name, whatever its case.
    #[must_use]
    pub fn named(name: &str) -> Option<Qop> {
        [Qop::Auth, Qop::AuthInt].into_iter().find(|qop| qop.as_str().eq_ignore_ascii_case(name))
    }
}

/// Everything that one digest covers.
pub(super) struct Covered<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) nonce: &'a [u8],
    /// `None` for peers after RFC 2069.
    pub(super) qop: Option<Qop>,
    pub(super) cnonce: &'a [u8],
    pub(super) nc: u32,
    pub(super) method: &'a str,
    pub(super) uri: &'a [u8],
    pub(super) body: &'a [u8],
}

impl Covered<'_> {
    /// The `response` for the stored `ha1`, in a session that began with this request's cnonce.
    pub(super) fn response(&self, ha1: &str) -> Zeroizing<String> {
        self.response_in(&self.algorithm.a1(ha1, self.nonce, self.cnonce))
    }

    /// The `response` for a finished A1 (RFC 7616 §3.4.1 to §3.4.3; without qop §3.4.6 and RFC 2069).
    pub(super) fn response_in(&self, a1: &str) -> Zeroizing<String> {
        let (algorithm, a1, ha2) = (self.algorithm, a1.as_bytes(), self.ha2());
        match self.qop {
            None => algorithm.hash(&[a1, self.nonce, ha2.as_bytes()]),
            Some(qop) => {
                let nc = format!("{:08x}", self.nc);
                let middle = [nc.as_bytes(), self.cnonce, qop.as_str().as_bytes()];
                let [nc, cnonce, qop] = middle;
                algorithm.hash(&[a1, self.nonce, nc, cnonce, qop, ha2.as_bytes()])
            }
        }
    }

    fn ha2(&self) -> Zeroizing<String> {
        match self.qop {
            Some(Qop::AuthInt) => {
                let body = self.algorithm.hash(&[self.body]);
                self.algorithm.hash(&[self.method.as_bytes(), self.uri, body.as_bytes()])
            }
            _ => self.algorithm.hash(&[self.method.as_bytes(), self.uri]),
        }
    }
}

/// Compares without telling by its time where the two differ; their length is no secret.
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    let differing =
        one.iter().zip(other).fold(0, |differing, (a, b)| std::hint::black_box(differing | (a ^ b)));
    one.len() == other.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(algorithm: Algorithm) -> String {
        let covered = Covered {
            algorithm,
            nonce: b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            qop: Some(Qop::Auth),
            cnonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            nc: 1,
            method: "GET",
            uri: b"/dir/index.html",
            body: b"",
        };
        let ha1 = algorithm.ha1("Mufasa", "http-auth@example.org", "Circle of Life");
        covered.response(&ha1).to_string()
    }

    #[test]
    fn the_examples_of_rfc_7616_3_9_1_come_out() {
        assert_eq!(http(Algorithm::Md5), "8ca523f5e9506fed4657c9700eebdbec");
        assert_eq!(
            http(Algorithm::Sha256),
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
        );
    }

    #[test]
    fn the_example_of_rfc_7616_3_9_2_comes_out_as_its_errata_have_it() {
        let username = "J\u{e4}s\u{f8}n Doe";
        let algorithm = Algorithm::Sha512Trunc;
        let realm = "api@example.org";
        let userhash = algorithm.userhash(username, realm);
        assert_eq!(userhash, "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b");
        let covered = Covered {
            algorithm,
            nonce: b"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
            qop: Some(Qop::Auth),
            cnonce: b"NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
            nc: 1,
            method: "GET",
            uri: b"/doe.json",
            body: b"",
        };
        let ha1 = algorithm.ha1(username, realm, "Secret, or not?");
        assert_eq!(
            *covered.response(&ha1),
            "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"
        );
    }

    #[test]
    fn sessions_and_bodies_enter_the_digest() {
        let covered = |algorithm, qop, body| Covered {
            algorithm,
            nonce: b"n",
            qop,
            cnonce: b"c",
            nc: 1,
            method: "INVITE",
            uri: b"sip:a@b",
            body,
        };
        let all = [
            covered(Algorithm::Md5, None, b"1".as_slice()),
            covered(Algorithm::Md5, Some(Qop::Auth), b"1"),
            covered(Algorithm::Md5, Some(Qop::AuthInt), b"1"),
            covered(Algorithm::Md5, Some(Qop::AuthInt), b"2"),
            covered(Algorithm::Md5Sess, Some(Qop::Auth), b"1"),
        ];
        let distinct: std::collections::HashSet<_> =
            all.iter().map(|c| c.response("ha1").to_string()).collect();
        assert_eq!(distinct.len(), all.len());
        let [auth, other] = [b"1".as_slice(), b"2"].map(|b| covered(Algorithm::Md5, Some(Qop::Auth), b));
        assert_eq!(auth.response("ha1"), other.response("ha1"), "auth leaves the body out");
    }

    #[test]
    fn names_are_read_in_any_case_and_none_means_md5() {
        assert_eq!(Algorithm::named(Some("sha-512-256-SESS")), Some(Algorithm::Sha512TruncSess));
        assert_eq!(Algorithm::named(None), Some(Algorithm::Md5));
        assert_eq!(Algorithm::named(Some("SHA-1")), None);
        assert!(Algorithm::Sha512Trunc > Algorithm::Sha256 && Algorithm::Sha256 > Algorithm::Md5Sess);
    }

    #[test]
    fn comparison_is_that_of_octets() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd") && !same(b"abc", b"ab") && !same(b"", b"a"));
    }
}
