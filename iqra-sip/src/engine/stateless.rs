//! Answers without a transaction: to what could not be parsed, and to what there is no room for (RFC 3261 §8.2.7).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;

use super::Engine;
use super::event::Reply;
use super::flow::{Flow, Transmit};
use super::via::{self, ReplyPath};
use super::wording::{set_to_tag, word};
use crate::message::header::Via;
use crate::message::{HeaderName, Method, ParseError, Request, Response, StatusCode, Text};
use crate::observe::DropReason;

/// Seconds after which a client may come back when we are full (RFC 3261 §21.5.4): one of these, so that not all come back
/// at once.
const RETRY_AFTER: RangeInclusive<u32> = 2..=10;

impl Engine {
    /// Answers a malformed request where enough of it could be read, saying what is wrong with it; false where not.
    pub(super) fn refuse_malformed(&mut self, flow: &Flow, error: ParseError) -> bool {
        tracing::debug!(remote = %flow.remote, %error, "malformed message");
        let Some(mut request) = error.reply else { return false };
        let Ok((via, path)) = via::receive(&mut request, flow) else { return false };
        let mut response = Response::to_request(&request, error.status);
        response.reason = Text::from(error.fault.to_string());
        self.send_stateless(response, &via, path);
        true
    }

    /// Answers 503 without keeping anything; an ACK is never answered.
    pub(super) fn refuse_overload(&mut self, request: &Request, via: &Via, path: ReplyPath) {
        self.watch.discard(DropReason::Full);
        if request.method == Method::Ack {
            return;
        }
        let reply = self.overloaded();
        self.send_stateless(word(request, reply), via, path);
    }

    /// The 503 of one who is full.
    pub(super) fn overloaded(&mut self) -> Reply {
        self.unavailable_for(RETRY_AFTER)
    }

    /// A 503 with a Retry-After out of these seconds.
    pub(super) fn unavailable_for(&mut self, seconds: RangeInclusive<u32>) -> Reply {
        let (least, span) = (*seconds.start(), seconds.end().saturating_sub(*seconds.start()));
        let seconds = least.saturating_add(self.random.up_to(span));
        Reply::new(StatusCode::SERVICE_UNAVAILABLE).header(HeaderName::RETRY_AFTER, seconds.to_string())
    }

    /// Sends an answer for which nothing is kept.
    pub(super) fn send_stateless(&mut self, mut response: Response, via: &Via, path: ReplyPath) {
        set_to_tag(&mut response.headers, &stateless_tag(via));
        let ReplyPath { flow, fallback } = path;
        self.transmits.push_back(Transmit {
            flow,
            fallback,
            name: None,
            bytes: response.to_bytes(),
            owner: None,
        });
    }
}

/// A stateless answer must carry the same tag each time (RFC 3261 §8.2.7), so it follows from the Via.
fn stateless_tag(via: &Via) -> String {
    let mut hasher = DefaultHasher::new();
    via.to_string().hash(&mut hasher);
    format!("{:x}", hasher.finish())
}

/// Whether an ACK acknowledges a stateless answer: it has its tag, and the Via of the INVITE (RFC 3261 §17.1.1.3).
pub(super) fn is_acknowledged(via: &Via, to_tag: Option<&str>) -> bool {
    to_tag.is_some_and(|tag| tag == stateless_tag(via))
}
