//! `Authorization` and `Proxy-Authorization`: the answer to a challenge (RFC 3261 §20.7, §20.28; RFC 7616 §3.4).

use std::fmt;

use super::auth_params::{AuthParams, Printer, count};
use super::{TypedHeader, Values};
use crate::message::name::HeaderName;
use crate::message::text::Text;

/// Digest credentials. Text values are what stands between the quotes, escapes included.
#[derive(Clone, PartialEq, Eq)]
pub struct DigestResponse {
    /// The user, or the hash of user and realm where `userhash` is set.
    pub username: Text,
    /// The realm of the challenge.
    pub realm: Text,
    /// The nonce of the challenge.
    pub nonce: Text,
    /// The Request-URI as its sender knew it.
    pub uri: Text,
    /// The digest, in hexadecimal.
    pub response: Text,
    /// The algorithm as it is spelled; absent means MD5.
    pub algorithm: Option<Text>,
    /// The client's own value.
    pub cnonce: Option<Text>,
    /// The opaque value of the challenge.
    pub opaque: Option<Text>,
    /// The quality of protection that was chosen; absent from clients after RFC 2069.
    pub qop: Option<Text>,
    /// How many requests have used the nonce, this one included.
    pub nc: Option<u32>,
    /// `username` is a hash.
    pub userhash: bool,
}

impl DigestResponse {
    fn read(values: &mut Values<'_>) -> Option<Result<DigestResponse, &'static str>> {
        Some(values.stretch(AuthParams::read)?.and_then(|params| DigestResponse::of(&params)))
    }

    fn of(params: &AuthParams) -> Result<DigestResponse, &'static str> {
        if !params.is_digest() {
            return Err("has another scheme than Digest");
        }
        Ok(DigestResponse {
            username: params.get("username").ok_or("has no username")?,
            realm: params.get("realm").ok_or("has no realm")?,
            nonce: params.get("nonce").ok_or("has no nonce")?,
            uri: params.get("uri").ok_or("has no uri")?,
            response: params.get("response").ok_or("has no response")?,
            algorithm: params.get("algorithm"),
            cnonce: params.get("cnonce"),
            opaque: params.get("opaque"),
            qop: params.get("qop"),
            nc: params.get("nc").map(|nc| count(&nc)).transpose()?,
            userhash: params.is_true("userhash"),
        })
    }
}

impl fmt::Display for DigestResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest ")?;
        let mut out = Printer::new(f);
        out.quoted("username", &self.username)?;
        out.quoted("realm", &self.realm)?;
        out.quoted("nonce", &self.nonce)?;
        out.quoted("uri", &self.uri)?;
        out.quoted("response", &self.response)?;
        out.token_if("algorithm", self.algorithm.as_ref())?;
        out.quoted_if("cnonce", self.cnonce.as_ref())?;
        out.quoted_if("opaque", self.opaque.as_ref())?;
        out.token_if("qop", self.qop.as_ref())?;
        if let Some(nc) = self.nc {
            out.bare("nc", format_args!("{nc:08x}"))?;
        }
        out.flag_if("userhash", self.userhash)
    }
}

/// Shows the realm alone.
impl fmt::Debug for DigestResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DigestResponse({})", self.realm)
    }
}

macro_rules! credentials_header {
    ($(#[$doc:meta])* $name:ident, $constant:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(pub DigestResponse);

        impl TypedHeader for $name {
            const NAME: HeaderName = HeaderName::$constant;

            fn read(values: &mut Values<'_>) -> Option<Result<$name, &'static str>> {
                DigestResponse::read(values).map(|response| response.map($name))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

credentials_header! {
    /// Credentials for a user agent or registrar.
    Authorization, AUTHORIZATION
}
credentials_header! {
    /// Credentials for a proxy.
    ProxyAuthorization, PROXY_AUTHORIZATION
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    fn read(text: &str) -> Result<DigestResponse, String> {
        let mut headers = Headers::new();
        headers.push(HeaderName::AUTHORIZATION, text);
        headers.typed::<Authorization>().map(|header| header.0).map_err(|error| error.to_string())
    }

    #[test]
    fn credentials_print_as_they_were_read() {
        let text = "Digest username=\"a\", realm=\"b\", nonce=\"c\", uri=\"sip:d\", response=\"0f\", \
                    algorithm=SHA-256, cnonce=\"e\", opaque=\"\", qop=auth, nc=0000000a, userhash=true";
        let found = read(text).unwrap();
        assert_eq!(found.to_string(), text);
        assert_eq!(found.nc, Some(10));
    }

    #[test]
    fn quoted_words_and_short_counts_are_understood() {
        let found = read("DIGEST username=a,realm=b,nonce=c,uri=sip:d;x=y,response=0F,qop=\"auth\",nc=\"1\"");
        let found = found.unwrap();
        assert_eq!((found.nc, found.qop.unwrap().to_string()), (Some(1), "auth".into()));
        assert_eq!(found.uri, "sip:d;x=y");
    }

    #[test]
    fn a_count_that_is_none_is_refused() {
        for nc in ["", "+1", "000000001", "xyz"] {
            let text =
                format!("Digest username=\"a\",realm=\"b\",nonce=\"c\",uri=\"d\",response=\"e\",nc={nc}");
            assert!(read(&text).is_err(), "{nc}");
        }
    }

    #[test]
    fn debug_shows_no_credentials() {
        let found =
            read("Digest username=\"u53r\",realm=\"b\",nonce=\"c\",uri=\"d\",response=\"e\"").unwrap();
        assert!(!format!("{found:?}").contains("u53r"));
    }
}
