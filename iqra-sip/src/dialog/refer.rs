//! REFER: what one says, what one asks, and how its outcome travels in NOTIFY (RFC 3515, RFC 4488, RFC 3892, RFC 5589).
//!
//! Pure values, both ways: a [`Refer`] becomes headers, a REFER of the peer becomes a [`ReferTarget`], and a status
//! becomes a `message/sipfrag` body (RFC 3420) and back. [`crate::engine`] keeps the subscriptions.

use std::sync::Arc;

use bytes::Bytes;

use super::DialogId;
use crate::engine::event::{Body, Failure};
use crate::message::header::{ReferSub, ReferTo, ReferredBy, Replaces};
use crate::message::{HeaderName, Headers, Method, NameAddr, Request, Response, StatusCode, Uri};

/// The event package of a REFER's outcome (RFC 3515 §3).
pub(crate) const PACKAGE: &str = "refer";
/// The option tag (RFC 4488 §8).
pub(crate) const TAG: &str = "norefersub";
/// The type of a NOTIFY's body (RFC 3515 §2.4.4).
const SIPFRAG: &str = "message/sipfrag;version=2.0";

/// A transfer to ask for: whom the peer shall call.
#[derive(Debug, Clone)]
pub struct Refer {
    /// Whom to call. URI headers go into the new INVITE.
    pub to: Uri,
    /// Who asks (RFC 3892); the peer shows it to the new callee.
    pub referred_by: Option<NameAddr>,
    /// Asks for no NOTIFYs (RFC 4488); the outcome then stays unknown.
    pub quiet: bool,
    /// Further headers of the REFER.
    pub headers: Headers,
}

impl Refer {
    /// A blind transfer to `uri`.
    #[must_use]
    pub fn to(uri: Uri) -> Refer {
        Refer { to: uri, referred_by: None, quiet: false, headers: Headers::new() }
    }

    /// An attended transfer: the peer's INVITE takes the place of `dialog`, our own call with the party at `uri`
    /// (RFC 5589 §7).
    #[must_use]
    pub fn replacing(uri: &Uri, dialog: &DialogId) -> Refer {
        let replaces = escaped(&Replaces::of_peer(dialog).to_string());
        let join = if uri.headers().next().is_some() { '&' } else { '?' };
        let text = format!("{uri}{join}Replaces={replaces}");
        Refer::to(Uri::parse(text).unwrap_or_else(|_| uri.clone()))
    }

    /// Says who asks.
    #[must_use]
    pub fn referred_by(self, who: NameAddr) -> Refer {
        Refer { referred_by: Some(who), ..self }
    }

    /// Asks for no NOTIFYs.
    #[must_use]
    pub fn quiet(self) -> Refer {
        Refer { quiet: true, ..self }
    }

    /// The headers of the REFER.
    pub(crate) fn into_headers(self) -> Headers {
        let mut headers = self.headers;
        headers.push_typed(&ReferTo(NameAddr::new(self.to)));
        if let Some(who) = self.referred_by {
            headers.push_typed(&ReferredBy(who));
        }
        if self.quiet {
            headers.push_typed(&ReferSub::new("false"));
            headers.push(HeaderName::SUPPORTED, TAG);
        }
        headers
    }
}

/// Whom a REFER of the peer wants called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferTarget {
    /// The URI without its headers and its method.
    pub uri: Uri,
    /// What to send there; INVITE unless the URI says otherwise.
    pub method: Method,
    /// The dialog that the new call takes the place of at its callee (RFC 3891).
    pub replaces: Option<Replaces>,
    /// Who asks, where it is said (RFC 3892).
    pub referred_by: Option<ReferredBy>,
}

impl ReferTarget {
    /// Reads the one Refer-To of a REFER. Of the URI's headers only Replaces is taken over: the others could forge
    /// what the new request says (RFC 3261 §19.1.5).
    ///
    /// # Errors
    /// A phrase for the 400 (RFC 3515 §2.4.2).
    pub fn of(refer: &Request) -> Result<ReferTarget, &'static str> {
        let mut all = refer.headers.typed_all::<ReferTo>();
        let to = match (all.next(), all.next()) {
            (Some(Ok(to)), None) => to,
            (None, _) => return Err("Refer-To is missing"),
            (_, Some(_)) => return Err("More than one Refer-To"),
            (Some(Err(_)), None) => return Err("Malformed Refer-To"),
        };
        let replaces = to.uri.header("Replaces").map(|value| Replaces::parse(value.into_owned())).transpose();
        let method = to
            .uri
            .param("method")
            .flatten()
            .and_then(|name| Method::new(name.to_owned()))
            .unwrap_or(Method::Invite);
        Ok(ReferTarget {
            uri: to.uri.for_request_line().detached(),
            method,
            replaces: replaces.map_err(|_| "Malformed Replaces in Refer-To")?,
            referred_by: refer.headers.typed().ok(),
        })
    }

    /// What the new INVITE has to carry: Replaces and Referred-By (RFC 3515 §2.4.3, RFC 3892 §2.2).
    #[must_use]
    pub fn invite_headers(&self) -> Headers {
        let mut headers = Headers::new();
        if let Some(replaces) = &self.replaces {
            headers.push_typed(replaces);
        }
        if let Some(who) = &self.referred_by {
            headers.push_typed(who);
        }
        headers
    }
}

/// A status that a NOTIFY reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The status of the call that the peer placed for us.
    pub status: StatusCode,
    /// Its reason phrase; may be empty.
    pub reason: String,
}

/// How a REFER of ours goes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReferralEvent {
    /// The peer takes the task; what becomes of it follows.
    Accepted,
    /// The new call is under way.
    Progress(Outcome),
    /// Nothing follows any more.
    Ended(ReferralEnd),
}

/// The end of a REFER of ours.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReferralEnd {
    /// The new call got this final response: 2xx, and the transfer is done.
    Reported(Outcome),
    /// The peer does not do it: its final response to the REFER.
    Refused(Arc<Response>),
    /// Nobody answered the REFER.
    Unanswered(Failure),
    /// The peer took the task and never says what became of it: it was asked not to, its subscription ended before a
    /// final status (the reason of RFC 6665 §4.1.3, where one was given), or no NOTIFY came in time.
    Unknown {
        /// `timeout`, `noresource`, `giveup` and the like.
        reason: Option<String>,
    },
}

/// The body of a NOTIFY: a status line and nothing else (RFC 3515 §2.4.5).
pub(crate) fn fragment(status: StatusCode) -> Body {
    let line = format!("SIP/2.0 {} {}\r\n", status.code(), status.reason());
    Body { content_type: String::from(SIPFRAG), bytes: Bytes::from(line) }
}

/// The status line at the front of a NOTIFY's body.
pub(crate) fn outcome(body: &[u8]) -> Option<Outcome> {
    let line = body.split(|b| matches!(b, b'\r' | b'\n')).find(|line| !line.is_empty())?;
    let line = String::from_utf8_lossy(line);
    let (code, reason) = line.strip_prefix("SIP/2.0 ")?.split_at_checked(3)?;
    let status = StatusCode::new(code.parse().ok()?)?;
    Some(Outcome { status, reason: reason.trim().to_owned() })
}

/// Escapes what a URI header's value may not hold (RFC 3261 §19.1.1).
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 16);
    for b in value.bytes() {
        match b {
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'!' | b'~' | b'*') => {
                out.push(char::from(b));
            }
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refer(lines: &[(&str, &str)]) -> Request {
        let mut request = Request::new(Method::Refer, "sip:a@192.0.2.1".parse().unwrap());
        lines.iter().for_each(|(name, value)| request.headers.push(*name, *value));
        request
    }

    #[test]
    fn an_attended_transfer_is_read_as_it_was_worded() {
        let dialog = DialogId::new("c@1/x", "us=1", "them");
        let by = NameAddr::new("sip:boss@example.org".parse().unwrap());
        let asked =
            Refer::replacing(&"sip:third@192.0.2.9;lr".parse().unwrap(), &dialog).referred_by(by).quiet();
        let mut request = refer(&[]);
        request.headers = asked.into_headers();
        let value = request.headers.get("Refer-To").unwrap().into_owned();
        assert_eq!(value, "<sip:third@192.0.2.9;lr?Replaces=c%401%2Fx%3Bto-tag%3Dthem%3Bfrom-tag%3Dus%3D1>");
        let target = ReferTarget::of(&request).unwrap();
        assert_eq!(target.uri.to_string(), "sip:third@192.0.2.9;lr");
        assert_eq!(target.replaces.as_ref().unwrap().dialog(), DialogId::new("c@1/x", "them", "us=1"));
        let carried = target.invite_headers();
        assert_eq!(carried.get("Replaces").unwrap(), "c@1/x;to-tag=them;from-tag=us=1");
        assert_eq!(carried.get("Referred-By").unwrap(), "<sip:boss@example.org>");
        assert!(request.headers.typed::<ReferSub>().unwrap().is_none());
    }

    #[test]
    fn exactly_one_refer_to_that_can_be_read_is_wanted() {
        let bad: [&[(&str, &str)]; 4] = [
            &[],
            &[("Refer-To", "<sip:a@h>"), ("r", "<sip:b@h>")],
            &[("Refer-To", "no uri")],
            &[("Refer-To", "<sip:a@h?Replaces=nonsense>")],
        ];
        for lines in bad {
            assert!(ReferTarget::of(&refer(lines)).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn headers_that_would_forge_the_new_request_are_left_out() {
        let target = ReferTarget::of(&refer(&[("Refer-To", "<sip:a@h?From=x%40y&Route=z>")])).unwrap();
        assert_eq!(target.uri.to_string(), "sip:a@h");
        assert!(target.invite_headers().is_empty());
        assert_eq!(target.method, Method::Invite);
    }

    #[test]
    fn what_a_user_part_may_hold_ends_neither_it_nor_the_uri() {
        for (to, uri) in [
            ("<sip:alice?x@good.example>", "sip:alice?x@good.example"),
            ("<sip:a?b;method=BYE@good.example;method=INVITE;p?From=x>", "sip:a?b;method=BYE@good.example;p"),
        ] {
            let target = ReferTarget::of(&refer(&[("Refer-To", to)])).unwrap();
            assert_eq!(target.uri.as_str(), uri);
            assert_eq!(target.uri.host().unwrap().to_string(), "good.example");
            assert_eq!(target.method, Method::Invite);
        }
    }

    #[test]
    fn a_fragment_carries_a_status_there_and_back() {
        let body = fragment(StatusCode::BUSY_HERE);
        assert_eq!(&body.bytes[..], b"SIP/2.0 486 Busy Here\r\n");
        let read =
            |text: &str| outcome(text.as_bytes()).map(|outcome| (outcome.status.code(), outcome.reason));
        assert_eq!(read("SIP/2.0 486 Busy Here\r\n"), Some((486, "Busy Here".into())));
        assert_eq!(read("\r\nSIP/2.0 200\nContact: <sip:x@y>\n"), Some((200, String::new())));
        assert_eq!(read(""), None);
        assert_eq!(read("INVITE sip:a SIP/2.0"), None);
        assert_eq!(read("SIP/2.0 2"), None);
    }
}
