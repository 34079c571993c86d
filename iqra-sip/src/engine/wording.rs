//! Wording responses (RFC 3261 §8.2.6).

use std::time::Duration;

use super::event::Reply;
use crate::message::header::To;
use crate::message::{HeaderName, Headers, Request, Response, Text};

/// The response that a reply makes of the request (RFC 3261 §8.2.6), without a tag of ours.
pub(super) fn word(request: &Request, reply: Reply) -> Response {
    let mut response = Response::to_request(request, reply.status);
    if let Some(reason) = reply.reason {
        response.reason = Text::from(reason);
    }
    for (name, value) in reply.headers.iter() {
        response.headers.push(name, value);
    }
    if let Some(body) = reply.body {
        response.headers.push(HeaderName::CONTENT_TYPE, body.content_type);
        response.body = body.bytes;
    }
    response
}

/// Sets our tag in To where there is none yet (RFC 3261 §8.2.6.2).
pub(super) fn set_to_tag(headers: &mut Headers, tag: &str) {
    let tagless = headers.typed::<To>().is_ok_and(|to| to.tag().is_none());
    if let Some(to) = headers.get(HeaderName::TO).filter(|_| tagless) {
        let tagged = format!("{to};tag={tag}");
        headers.set(HeaderName::TO, tagged);
    }
}

/// A Timestamp as it goes back: with the seconds that its request waited for the answer (RFC 3261 §20.38).
pub(super) fn with_delay(sent: &str, waited: Duration) -> String {
    let time = sent.split_ascii_whitespace().next().unwrap_or_default();
    match time.starts_with(|first: char| first.is_ascii_digit()) && !waited.is_zero() {
        true => format!("{time} {}", (waited.as_secs_f64() * 1_000.0).round() / 1_000.0),
        false => String::from(sent),
    }
}
