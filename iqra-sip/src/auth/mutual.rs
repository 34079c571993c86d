//! The server's own proof: `rspauth` in Authentication-Info says that it knows the user's secret too, and with `auth-int`
//! that nobody changed the body of its answer (RFC 7616 §3.5; RFC 3261 §20.6).
//!
//! A [`Voucher`] is what a server keeps of a request that it let in, to word the header of its answer; [`judge`] is what a
//! client makes of that header. Both take the digest of [`super::digest`] with an empty method, which is how A2 of an
//! answer differs from that of a request. Credentials without qop have no such proof.

use std::fmt;

use zeroize::Zeroizing;

use super::credentials::Keyring;
use super::digest::{Algorithm, Covered, Qop, same};
use crate::message::header::{AuthenticationInfo, Authorization, DigestResponse};
use crate::message::{Request, Response, Text};

/// What a client makes of the proof that a server has to bring with a 2xx. Default [`ServerProof::Checked`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerProof {
    /// It is not looked at.
    Ignored,
    /// A wrong one fails the request, as [`Failure::Unproven`](crate::event::Failure); a missing one passes, since few
    /// servers send any. So it finds faults, and no attacker, who would leave it out.
    #[default]
    Checked,
    /// A missing one fails the request too. For servers that are known to send it with every 2xx to credentials.
    Required,
}

/// What the proof in an answer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proven {
    /// It is right.
    Right,
    /// There is none.
    Missing,
    /// It is of another secret, another request or another body.
    Wrong,
    /// The request carried no credentials of ours that ask for one.
    NotAsked,
}

/// A request's part in the proof of its answer.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Voucher {
    pub(super) algorithm: Algorithm,
    pub(super) a1: Zeroizing<String>,
    qop: Qop,
    nonce: Text,
    cnonce: Text,
    nc: u32,
    uri: Text,
}

impl Voucher {
    /// Of credentials that fit, with what their A1 hashes to; `None` where they have no qop.
    pub(super) fn of(
        credentials: &DigestResponse,
        algorithm: Algorithm,
        a1: Zeroizing<String>,
    ) -> Option<Voucher> {
        Some(Voucher {
            algorithm,
            a1,
            qop: Qop::named(&credentials.qop.as_ref()?.to_str())?,
            nonce: credentials.nonce.clone(),
            cnonce: credentials.cnonce.clone()?,
            nc: credentials.nc?,
            uri: credentials.uri.clone(),
        })
    }

    /// The header for an answer with this body.
    pub(super) fn info(&self, body: &[u8]) -> AuthenticationInfo {
        AuthenticationInfo {
            next_nonce: None,
            response: Some(self.response(self.qop, body).as_str().into()),
            qop: Some(Text::from_static(self.qop.as_str())),
            cnonce: Some(self.cnonce.clone()),
            nc: Some(self.nc),
        }
    }

    fn response(&self, qop: Qop, body: &[u8]) -> Zeroizing<String> {
        let covered = Covered {
            algorithm: self.algorithm,
            nonce: self.nonce.as_bytes(),
            qop: Some(qop),
            cnonce: self.cnonce.as_bytes(),
            nc: self.nc,
            method: "",
            uri: self.uri.as_bytes(),
            body,
        };
        covered.response_in(&self.a1)
    }

    /// Whether a header belongs to this request and its digest is right. What it leaves out besides the digest is taken
    /// to be what the request had.
    fn accepts(&self, info: &AuthenticationInfo, given: &Text, body: &[u8]) -> bool {
        let cnonce = info.cnonce.as_ref().is_none_or(|cnonce| *cnonce == self.cnonce);
        let nc = info.nc.is_none_or(|nc| nc == self.nc);
        let qop = info.qop.as_ref().map_or(Some(self.qop), |qop| Qop::named(&qop.to_str()));
        let Some(qop) = qop.filter(|qop| *qop == self.qop && cnonce && nc) else { return false };
        let given = given.to_str().to_ascii_lowercase();
        same(self.response(qop, body).as_bytes(), given.as_bytes())
    }
}

/// Hides all of it: an HA1 is as good as a password.
impl fmt::Debug for Voucher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Voucher(***)")
    }
}

/// Looks at the proof in a 2xx. Where a request carried credentials for several realms, that of any will do: the header
/// names no realm.
pub(crate) fn judge(request: &Request, response: &Response, keyring: &Keyring) -> Proven {
    let sent = request.headers.typed_all::<Authorization>().flatten();
    let vouchers: Vec<Voucher> = sent.filter_map(|sent| keyring.voucher(&sent.0)).collect();
    if vouchers.is_empty() {
        return Proven::NotAsked;
    }
    let Some(info) = response.headers.typed::<AuthenticationInfo>().ok() else { return Proven::Missing };
    match &info.response {
        None => Proven::Missing,
        Some(given) if vouchers.iter().any(|voucher| voucher.accepts(&info, given, &response.body)) => {
            Proven::Right
        }
        Some(_) => Proven::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::super::credentials::{Credentials, usable};
    use super::*;
    use crate::message::header::Challenge;
    use crate::message::{Method, StatusCode};

    fn sent(algorithm: &'static str, qop: Option<&'static str>) -> Request {
        let challenge = Challenge {
            realm: Text::from_static("r"),
            nonce: Text::from_static("n"),
            opaque: None,
            algorithm: Some(Text::from_static(algorithm)),
            qop: qop.map(Text::from_static),
            stale: false,
            userhash: true,
            domain: None,
        };
        let mut request = Request::new(Method::Invite, "sip:b@h.example".parse().unwrap());
        let with = usable(&challenge).unwrap();
        let answer = Credentials::new("a\"b", "p").answer(&challenge, with, ("c", 3), &request);
        request.headers.push_typed(&Authorization(answer));
        request
    }

    fn ring() -> Keyring {
        Credentials::new("a\"b", "p").into()
    }

    fn answer(request: &Request, body: &'static [u8]) -> Response {
        let sent = request.headers.typed::<Authorization>().unwrap().0;
        let named = sent.algorithm.as_ref().map(Text::to_str);
        let algorithm = Algorithm::named(named.as_deref()).unwrap();
        let ha1 = algorithm.ha1("a\\\"b", "r", "p");
        let voucher = Voucher::of(&sent, algorithm, algorithm.a1(&ha1, b"n", b"c")).unwrap();
        let mut response = Response::new(StatusCode::OK);
        response.headers.push_typed(&voucher.info(body));
        response.body = bytes::Bytes::from_static(body);
        response
    }

    #[test]
    fn a_server_that_knows_the_secret_proves_it_by_every_algorithm() {
        for algorithm in ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256", "SHA-512-256-sess"] {
            for qop in ["auth", "auth-int"] {
                let request = sent(algorithm, Some(qop));
                let mut response = answer(&request, b"v=0\r\n");
                assert_eq!(judge(&request, &response, &ring()), Proven::Right, "{algorithm} {qop}");
                response.body = bytes::Bytes::from_static(b"v=1\r\n");
                let changed = if qop == "auth" { Proven::Right } else { Proven::Wrong };
                assert_eq!(judge(&request, &response, &ring()), changed, "{algorithm} {qop}");
            }
        }
    }

    #[test]
    fn another_secret_another_request_and_another_quality_prove_nothing() {
        let request = sent("SHA-256", Some("auth"));
        let right = answer(&request, b"");
        let bent = |change: fn(&mut AuthenticationInfo)| {
            let mut response = right.clone();
            let mut info: AuthenticationInfo = response.headers.typed().unwrap();
            change(&mut info);
            response.headers.set_typed(&info);
            judge(&request, &response, &ring())
        };
        assert_eq!(bent(|_| {}), Proven::Right);
        assert_eq!(bent(|info| info.cnonce = None), Proven::Right, "sloppy, and still right");
        assert_eq!(bent(|info| info.cnonce = Some("other".into())), Proven::Wrong);
        assert_eq!(bent(|info| info.nc = Some(4)), Proven::Wrong);
        assert_eq!(bent(|info| info.qop = Some("auth-int".into())), Proven::Wrong);
        assert_eq!(bent(|info| info.response = Some("00".into())), Proven::Wrong);
        assert_eq!(bent(|info| info.response = None), Proven::Missing);
        // The digest of the request itself, sent back, is none of the answer.
        let echoed = request.headers.typed::<Authorization>().unwrap().0.response;
        let mut response = right.clone();
        let info = AuthenticationInfo { response: Some(echoed), ..response.headers.typed().unwrap() };
        response.headers.set_typed(&info);
        assert_eq!(judge(&request, &response, &ring()), Proven::Wrong);
    }

    #[test]
    fn nothing_is_asked_without_credentials_of_ours_or_without_qop() {
        let bare = Request::new(Method::Invite, "sip:b@h.example".parse().unwrap());
        assert_eq!(judge(&bare, &Response::new(StatusCode::OK), &ring()), Proven::NotAsked);
        let old = sent("MD5", None);
        assert_eq!(judge(&old, &Response::new(StatusCode::OK), &ring()), Proven::NotAsked);
        let own = sent("MD5", Some("auth"));
        let foreign = Credentials::new("somebody", "else").into();
        assert_eq!(judge(&own, &Response::new(StatusCode::OK), &foreign), Proven::NotAsked);
        assert_eq!(judge(&own, &Response::new(StatusCode::OK), &ring()), Proven::Missing);
    }
}
