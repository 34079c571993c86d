//! Where SIP meets the decisions: a reason becomes a response, a request its caller.

use std::borrow::Cow;
use std::time::Duration;

use iqra_sip::event::Reply;
use iqra_sip::message::header::From;
use iqra_sip::{HeaderName, Headers, Method, StatusCode};

#[cfg(feature = "backend")]
use crate::identity::{CallerKey, IdentityFault};
use crate::reason::{PlanLimitStatus, Reason, Rejection};

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
        self.put_off(&mut reply, rejection.reason);
        reply
    }

    /// A response that has its status already, with the catalogue's Reason and Retry-After, and its Warning where there
    /// is none yet; `words` go into the Reason.
    #[cfg(feature = "backend")]
    pub(crate) fn refused_with(&self, mut reply: Reply, reason: Reason, words: Option<&str>) -> Reply {
        let row = reason.row();
        let text = words.map(|words| format!(";text=\"{}\"", quotable(words))).unwrap_or_default();
        reply.headers.push(HeaderName::REASON, format!("Q.850;cause={}{text}", row.cause));
        if !reply.headers.contains(HeaderName::WARNING) {
            reply.headers.push(HeaderName::WARNING, format!("399 iqra \"{}\"", row.warning));
        }
        self.put_off(&mut reply, reason);
        reply
    }

    fn put_off(&self, reply: &mut Reply, reason: Reason) {
        if reason.row().retry_after {
            reply.headers.push(HeaderName::RETRY_AFTER, self.retry_after.as_secs().to_string());
        }
    }
}

/// A text as it may stand between quotation marks in a header.
fn quotable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '"' | '\\') { '\'' } else { c }).collect()
}

/// Who calls, by Call-ID and From tag.
#[cfg(feature = "backend")]
pub(crate) fn caller(headers: &Headers) -> Result<CallerKey, IdentityFault> {
    CallerKey::sip(&headers.get(HeaderName::CALL_ID).unwrap_or_default(), &from_tag(headers))
}

/// The tag of From, empty where there is none.
pub(crate) fn from_tag(headers: &Headers) -> String {
    headers.typed::<From>().ok().and_then(|from| from.0.tag().map(Cow::into_owned)).unwrap_or_default()
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
