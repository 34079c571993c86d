//! `WWW-Authenticate` and `Proxy-Authenticate`: what a server asks credentials for (RFC 3261 §20.27, §20.44;
//! RFC 7616 §3.3). One header line is one challenge; lines are in the server's order of preference (RFC 8760 §2.3).

use std::fmt;

use super::auth_params::{AuthParams, Printer};
use super::{TypedHeader, Values};
use crate::message::name::HeaderName;
use crate::message::text::Text;

/// A Digest challenge. Text values are what stands between the quotes, escapes included.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    /// What the credentials are for; compared octet for octet.
    pub realm: Text,
    /// The server's value to mix into the digest.
    pub nonce: Text,
    /// To be sent back as it is.
    pub opaque: Option<Text>,
    /// The algorithm as it was spelled; absent means MD5.
    pub algorithm: Option<Text>,
    /// The list of qualities of protection, `auth,auth-int`; absent from servers after RFC 2069.
    pub qop: Option<Text>,
    /// The nonce of the refused request was too old, its credentials were right.
    pub stale: bool,
    /// The server takes a hash in place of the user name.
    pub userhash: bool,
    /// The URIs that share the credentials.
    pub domain: Option<Text>,
}

impl Challenge {
    fn read(values: &mut Values<'_>) -> Option<Result<Challenge, &'static str>> {
        Some(values.stretch(AuthParams::read)?.and_then(|params| Challenge::of(&params)))
    }

    fn of(params: &AuthParams) -> Result<Challenge, &'static str> {
        if !params.is_digest() {
            return Err("has another scheme than Digest");
        }
        Ok(Challenge {
            realm: params.get("realm").ok_or("has no realm")?,
            nonce: params.get("nonce").ok_or("has no nonce")?,
            opaque: params.get("opaque"),
            algorithm: params.get("algorithm"),
            qop: params.get("qop"),
            stale: params.is_true("stale"),
            userhash: params.is_true("userhash"),
            domain: params.get("domain"),
        })
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest ")?;
        let mut out = Printer::new(f);
        out.quoted("realm", &self.realm)?;
        out.quoted_if("domain", self.domain.as_ref())?;
        out.quoted("nonce", &self.nonce)?;
        out.quoted_if("opaque", self.opaque.as_ref())?;
        out.flag_if("stale", self.stale)?;
        out.token_if("algorithm", self.algorithm.as_ref())?;
        out.quoted_if("qop", self.qop.as_ref())?;
        out.flag_if("userhash", self.userhash)
    }
}

/// Shows what is asked for, not the nonce.
impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = self.algorithm.as_ref().map(Text::to_str);
        write!(f, "Challenge({}, {algorithm:?}, stale: {})", self.realm, self.stale)
    }
}

macro_rules! challenge_header {
    ($(#[$doc:meta])* $name:ident, $constant:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(pub Challenge);

        impl TypedHeader for $name {
            const NAME: HeaderName = HeaderName::$constant;

            fn read(values: &mut Values<'_>) -> Option<Result<$name, &'static str>> {
                Challenge::read(values).map(|challenge| challenge.map($name))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

challenge_header! {
    /// The challenge of a user agent or registrar, in a 401.
    WwwAuthenticate, WWW_AUTHENTICATE
}
challenge_header! {
    /// The challenge of a proxy, in a 407.
    ProxyAuthenticate, PROXY_AUTHENTICATE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    fn challenges(lines: &[&str]) -> Vec<Result<Challenge, String>> {
        let mut headers = Headers::new();
        lines.iter().for_each(|line| headers.push(HeaderName::WWW_AUTHENTICATE, *line));
        let read = headers.typed_all::<WwwAuthenticate>();
        read.map(|read| read.map(|header| header.0).map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn a_challenge_prints_as_it_was_read() {
        let text = "Digest realm=\"a, \\\"b\\\"\", nonce=\"n/=\", opaque=\"\", stale=true, \
                    algorithm=SHA-512-256, qop=\"auth,auth-int\", userhash=true";
        let challenge = challenges(&[text]).remove(0).unwrap();
        assert_eq!(challenge.to_string(), text);
        assert_eq!(challenge.realm, "a, \\\"b\\\"");
        assert!(challenge.stale && challenge.userhash);
    }

    #[test]
    fn sloppy_peers_are_understood() {
        let text =
            "digest Realm = voice.example ,,nonce=abc==,ALGORITHM=\"md5\" , qop=auth, stale=\"TRUE\",x=";
        let challenge = challenges(&[text]).remove(0).unwrap();
        assert_eq!(
            (challenge.realm.to_string(), challenge.nonce.to_string()),
            ("voice.example".into(), "abc==".into())
        );
        assert_eq!(challenge.algorithm.unwrap(), "md5");
        assert_eq!(challenge.qop.unwrap(), "auth");
        assert!(challenge.stale);
    }

    #[test]
    fn several_challenges_come_one_by_one_also_from_one_line() {
        let found = challenges(&[
            "Digest realm=\"a\", nonce=\"1\", Digest realm=\"b\", nonce=\"2\"",
            "Basic realm=\"c\"",
            "Digest realm=\"d\", nonce=\"3\"",
        ]);
        let realms: Vec<_> = found.iter().map(|c| c.as_ref().map(|c| c.realm.to_string()).ok()).collect();
        assert_eq!(realms, [Some("a".into()), Some("b".into()), None, Some("d".into())]);
    }

    #[test]
    fn what_could_be_read_two_ways_or_not_at_all_is_refused() {
        for text in [
            "",
            "Digest",
            "Digest realm=\"a\"",
            "Digest nonce=\"a\"",
            "Digest realm=\"a\", realm=\"b\", nonce=\"c\"",
            "Digest realm=\"a, nonce=b",
            "Digest realm=\"a\" nonce=\"b\" ;c",
            "=",
        ] {
            assert!(challenges(&[text]).iter().all(Result::is_err), "{text}");
        }
    }

    #[test]
    fn a_value_cannot_break_out_of_its_quotes() {
        let mut challenge = challenges(&["Digest realm=\"a\", nonce=\"1\""]).remove(0).unwrap();
        challenge.realm = Text::from("x\", nonce=\"2\\");
        let again = challenges(&[&challenge.to_string()]).remove(0).unwrap();
        assert_eq!(again.nonce, "1");
    }
}
