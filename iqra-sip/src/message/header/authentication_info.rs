//! `Authentication-Info`: what a server says after credentials were right (RFC 3261 §20.6; RFC 7616 §3.5).

use std::fmt;

use super::auth_params::{AuthParams, Printer, count};
use super::{TypedHeader, Values};
use crate::message::name::HeaderName;
use crate::message::text::Text;

/// The nonce to use next, and the server's own proof. Text values are what stands between the quotes.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct AuthenticationInfo {
    /// The nonce for the next request.
    pub next_nonce: Option<Text>,
    /// The server's digest over its answer.
    pub response: Option<Text>,
    /// The quality of protection of that digest.
    pub qop: Option<Text>,
    /// The cnonce of the request.
    pub cnonce: Option<Text>,
    /// The nonce count of the request.
    pub nc: Option<u32>,
}

impl TypedHeader for AuthenticationInfo {
    const NAME: HeaderName = HeaderName::AUTHENTICATION_INFO;

    fn read(values: &mut Values<'_>) -> Option<Result<AuthenticationInfo, &'static str>> {
        let text = values.line()?;
        Some(AuthParams::read_bare(&text).and_then(|params| {
            Ok(AuthenticationInfo {
                next_nonce: params.get("nextnonce"),
                response: params.get("rspauth"),
                qop: params.get("qop"),
                cnonce: params.get("cnonce"),
                nc: params.get("nc").map(|nc| count(&nc)).transpose()?,
            })
        }))
    }
}

impl fmt::Display for AuthenticationInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Printer::new(f);
        out.quoted_if("nextnonce", self.next_nonce.as_ref())?;
        out.token_if("qop", self.qop.as_ref())?;
        out.quoted_if("rspauth", self.response.as_ref())?;
        out.quoted_if("cnonce", self.cnonce.as_ref())?;
        self.nc.map_or(Ok(()), |nc| out.bare("nc", format_args!("{nc:08x}")))
    }
}

/// Shows nothing of it.
impl fmt::Debug for AuthenticationInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthenticationInfo")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    #[test]
    fn the_next_nonce_is_read_and_printed() {
        let mut headers = Headers::new();
        headers.push(
            HeaderName::AUTHENTICATION_INFO,
            "nextnonce=\"n2\", qop=auth, rspauth=\"ab\", cnonce=\"c\", nc=0000001f",
        );
        let info: AuthenticationInfo = headers.typed().unwrap();
        assert_eq!(info.next_nonce.as_ref().unwrap(), &"n2");
        assert_eq!(info.nc, Some(31));
        let printed = "nextnonce=\"n2\", qop=auth, rspauth=\"ab\", cnonce=\"c\", nc=0000001f";
        assert_eq!(info.to_string(), printed);
    }
}
