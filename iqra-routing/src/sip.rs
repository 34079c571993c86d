//! Where SIP meets the decisions: a request becomes what it asks, a reason becomes a response.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use iqra_sip::event::Reply;
use iqra_sip::message::Host;
use iqra_sip::message::header::{CSeq, From, Via};
use iqra_sip::{HeaderName, Headers, Method, Request, StatusCode};

use crate::identity::{Asked, BUSINESS_ID, CallerKey, IdentityFault, Named, PHONE_ID};
use crate::reason::{PlanLimitStatus, Reason, Rejection};
use crate::source::ViaHop;

/// The methods that both tiers take outside of a dialog.
pub(crate) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS";

/// The URI parameter that carries the token to a backend (names compare case-insensitively, RFC 3261 §19.1.4).
pub const TOKEN_PARAM: &str = "X-CallQueue-Id";

/// How refusals are worded.
#[derive(Debug, Clone, Copy)]
pub struct RefusalStyle {
    /// What a call beyond its plan's limit hears.
    pub plan_limit: PlanLimitStatus,
    /// What goes into Retry-After where a refusal has one; default 10 s.
    pub retry_after: Duration,
}

impl Default for RefusalStyle {
    fn default() -> Self {
        Self { plan_limit: PlanLimitStatus::default(), retry_after: Duration::from_secs(10) }
    }
}

impl RefusalStyle {
    /// The final response to a rejection: status, Reason (RFC 6432), Warning, Retry-After.
    pub(crate) fn reply(&self, rejection: &Rejection) -> Reply {
        let status = rejection.reason.status(self.plan_limit);
        let mut reply = Reply::new(StatusCode::new(status).unwrap_or(StatusCode::SERVER_INTERNAL_ERROR));
        reply.headers.push(HeaderName::REASON, format!("Q.850;cause={}", rejection.reason.row().cause));
        reply.headers.push(HeaderName::WARNING, format!("399 iqra \"{}\"", quotable(rejection.warning())));
        if rejection.reason.row().retry_after {
            reply.headers.push(HeaderName::RETRY_AFTER, self.retry_after.as_secs().to_string());
        }
        reply
    }
}

/// A response that has its status already, with the catalogue's Reason, and its Warning where there is none yet;
/// `words` go into the Reason.
#[cfg(feature = "backend")]
pub(crate) fn refused_with(mut reply: Reply, reason: Reason, words: Option<&str>) -> Reply {
    let row = reason.row();
    let text = words.map(|words| format!(";text=\"{}\"", quotable(words))).unwrap_or_default();
    reply.headers.push(HeaderName::REASON, format!("Q.850;cause={}{text}", row.cause));
    if !reply.headers.contains(HeaderName::WARNING) {
        reply.headers.push(HeaderName::WARNING, format!("399 iqra \"{}\"", row.warning));
    }
    reply
}

/// A text as it may stand between quotation marks in a header.
fn quotable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '"' | '\\') { '\'' } else { c }).collect()
}

/// The texts of a request that [`Asked`] borrows from.
pub(crate) struct Parts<'a> {
    user: Option<Cow<'a, str>>,
    uri_params: Vec<(&'a str, Cow<'a, str>)>,
    uri_headers: Vec<(&'a str, Cow<'a, str>)>,
    headers: Vec<(&'a str, Cow<'a, str>)>,
    call_id: Cow<'a, str>,
    from_tag: String,
    cseq: u32,
    branch: String,
    via: Vec<ViaHop>,
    peer: IpAddr,
}

/// The named values among [`Parts`], in the form that [`Asked`] takes.
pub(crate) struct Names<'a> {
    uri_params: Vec<Named<'a>>,
    uri_headers: Vec<Named<'a>>,
    headers: Vec<Named<'a>>,
}

impl<'a> Parts<'a> {
    /// Reads what identifies a call. What cannot be read is left out, and refused where it is needed.
    pub(crate) fn of(request: &'a Request, peer: IpAddr) -> Self {
        // Behind a Via that cannot be read nobody knows who wrote what: none of those counts.
        let via: Vec<Via> = request.headers.typed_all().map_while(Result::ok).collect();
        let uri = &request.uri;
        let decoded = |name: &str| uri.param_decoded(name).unwrap_or_default();
        let id_values = |name: &'static str| request.headers.all(name).map(move |value| (name, value));
        Self {
            user: uri.user_decoded(),
            uri_params: uri.params().filter(is_id).map(|(name, _)| (name, decoded(name))).collect(),
            uri_headers: uri
                .headers()
                .filter(|(name, _)| is_id(&(name, None)))
                .map(|(name, _)| (name, uri.header(name).unwrap_or_default()))
                .collect(),
            headers: id_values(BUSINESS_ID).chain(id_values(PHONE_ID)).collect(),
            call_id: request.headers.get(HeaderName::CALL_ID).unwrap_or_default(),
            from_tag: from_tag(&request.headers),
            cseq: request.headers.typed::<CSeq>().map(|cseq| cseq.number).unwrap_or_default(),
            branch: via.first().and_then(Via::branch).map(Cow::into_owned).unwrap_or_default(),
            via: via.iter().map(hop).collect(),
            peer,
        }
    }

    pub(crate) fn names(&self) -> Names<'_> {
        Names {
            uri_params: borrowed(&self.uri_params),
            uri_headers: borrowed(&self.uri_headers),
            headers: borrowed(&self.headers),
        }
    }

    pub(crate) fn asked<'b>(&'b self, names: &'b Names<'b>) -> Asked<'b> {
        Asked {
            user: self.user.as_deref(),
            uri_params: &names.uri_params,
            uri_headers: &names.uri_headers,
            headers: &names.headers,
            call_id: &self.call_id,
            from_tag: &self.from_tag,
            cseq: self.cseq,
            branch: &self.branch,
            peer: self.peer,
            via: &self.via,
        }
    }
}

/// Who calls, by Call-ID and From tag.
pub(crate) fn caller(headers: &Headers) -> Result<CallerKey, IdentityFault> {
    CallerKey::sip(&headers.get(HeaderName::CALL_ID).unwrap_or_default(), &from_tag(headers))
}

fn from_tag(headers: &Headers) -> String {
    headers.typed::<From>().ok().and_then(|from| from.0.tag().map(Cow::into_owned)).unwrap_or_default()
}

fn is_id((name, _): &(&str, Option<&str>)) -> bool {
    name.eq_ignore_ascii_case(BUSINESS_ID) || name.eq_ignore_ascii_case(PHONE_ID)
}

fn borrowed<'a>(pairs: &'a [(&'a str, Cow<'a, str>)]) -> Vec<Named<'a>> {
    pairs.iter().map(|(name, value)| (*name, value.as_ref())).collect()
}

fn hop(via: &Via) -> ViaHop {
    let sent_by = match via.host() {
        Host::Ip(address) => Some(address),
        Host::Name(_) => None,
    };
    ViaHop { received: via.received(), sent_by }
}

/// Answers what is no INVITE: OPTIONS with 200, or 503 while draining, anything else with 405.
pub(crate) fn other(method: &Method, draining: bool, style: &RefusalStyle) -> Reply {
    let mut reply = match method {
        Method::Options if draining => return style.reply(&Reason::Draining.into()),
        Method::Options => Reply::new(StatusCode::OK),
        _ => Reply::new(StatusCode::METHOD_NOT_ALLOWED),
    };
    reply.headers.push(HeaderName::ALLOW, ALLOW);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use iqra_sip::Message;

    fn invite(uri: &str, extra: &str) -> Request {
        let text = format!(
            "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5062;branch=z9hG4bKa;received=198.51.100.4\r\n\
             Max-Forwards: 70\r\nFrom: <sip:ann@example.net>;tag=f1\r\nTo: <sip:bob@example.org>\r\n\
             Call-ID: c1\r\nCSeq: 7 INVITE\r\n{extra}Content-Length: 0\r\n\r\n"
        );
        match Message::parse(Bytes::from(text)).unwrap() {
            Message::Request(request) => request,
            Message::Response(_) => unreachable!("the text is a request"),
        }
    }

    #[test]
    fn a_request_becomes_what_it_asks() {
        let request =
            invite("sip:%2B15550100@192.0.2.1;x-business-id=b%31;X-PHONE-ID=p1", "X-Phone-Id: p2\r\n");
        let parts = Parts::of(&request, "198.51.100.4".parse().unwrap());
        let names = parts.names();
        let asked = parts.asked(&names);
        assert_eq!(asked.user, Some("+15550100"));
        assert_eq!(asked.uri_params, [("x-business-id", "b1"), ("X-PHONE-ID", "p1")]);
        assert_eq!(asked.headers, [("X-Phone-Id", "p2")]);
        assert_eq!((asked.call_id, asked.from_tag, asked.cseq, asked.branch), ("c1", "f1", 7, "z9hG4bKa"));
        assert_eq!(asked.via[0].received, Some("198.51.100.4".parse().unwrap()));
    }

    #[test]
    fn a_rejection_carries_cause_warning_and_retry_after() {
        let style = RefusalStyle { plan_limit: PlanLimitStatus::Unavailable, ..RefusalStyle::default() };
        let draining = style.reply(&Reason::Draining.into());
        assert_eq!(draining.status.code(), 503);
        assert_eq!(draining.headers.get(HeaderName::RETRY_AFTER).as_deref(), Some("10"));
        let full = style.reply(&Reason::PlanLimit.into());
        assert_eq!(full.status.code(), 503);
        assert!(!full.headers.contains(HeaderName::RETRY_AFTER), "a tenant's limit must not empty the trunk");
        assert_eq!(full.headers.get(HeaderName::REASON).as_deref(), Some("Q.850;cause=17"));
    }
}
