//! Which extensions we have: what Supported and Require say, and what a request that needs more is answered
//! (RFC 3261 §8.2.2.3, §20.32, §20.37; RFC 3262 §3, §4).

use super::Engine;
use super::event::{Reliability, Reply};
use crate::message::header::{Require, Supported, TypedHeader};
use crate::message::{HeaderName, Headers, Method, Request, StatusCode, Text};

/// The option tag of reliable provisional responses.
pub(super) const RELIABLE: &str = "100rel";

/// Whether a message lists an option tag as supported or required.
pub(super) fn offers(headers: &Headers, tag: &str) -> bool {
    requires(headers, tag) || headers.typed::<Supported>().is_ok_and(|supported| supported.contains(tag))
}

pub(super) fn requires(headers: &Headers, tag: &str) -> bool {
    headers.typed::<Require>().is_ok_and(|require| require.contains(tag))
}

/// All tags that a header requires, of a user agent or a proxy; 400 where they cannot be read, for an extension that was
/// asked for must not pass for none.
pub(crate) fn required<H: TypedHeader>(
    headers: &Headers,
    tags: impl Fn(H) -> Vec<Text>,
) -> Result<Vec<String>, Box<Reply>> {
    let mut all = Vec::new();
    for line in headers.typed_all::<H>() {
        let line = line.map_err(|error| Reply::new(StatusCode::BAD_REQUEST).reason(error.to_string()))?;
        all.extend(tags(line).iter().map(ToString::to_string));
    }
    Ok(all)
}

impl Engine {
    /// Adds the extensions that Supported does not list yet.
    pub(super) fn add_supported(&self, headers: &mut Headers) {
        let tags: Vec<_> = self.config.option_tags().collect();
        let said = |tag: &&str| headers.typed::<Supported>().is_ok_and(|supported| supported.contains(tag));
        let unsaid: Vec<_> = tags.into_iter().filter(|tag| !said(tag)).collect();
        if !unsaid.is_empty() {
            headers.push(HeaderName::SUPPORTED, unsaid.join(", "));
        }
    }

    /// What an INVITE of ours says of reliable provisional responses.
    pub(super) fn ask_for_reliable(&self, headers: &mut Headers, policy: Option<Reliability>) {
        let known = offers(headers, RELIABLE);
        match policy.unwrap_or(self.config.reliability) {
            Reliability::Required if !requires(headers, RELIABLE) => {
                headers.push(HeaderName::REQUIRE, RELIABLE);
            }
            Reliability::IfSupported if !known && self.config.reliability == Reliability::Never => {
                headers.push(HeaderName::SUPPORTED, RELIABLE);
            }
            _ => {}
        }
    }

    /// RFC 3261 §8.2.2.3: every extension that is required must be one that we have, and one that cannot be read is none;
    /// and an INVITE must offer those that we insist on (421).
    pub(super) fn check_extensions(&self, request: &Request) -> Result<(), Box<Reply>> {
        let ours: Vec<_> = self.config.option_tags().collect();
        let required = required::<Require>(&request.headers, |require| require.0)?;
        // We can send reliably even where we do not offer to.
        let known = |tag: &str| ours.iter().chain([&RELIABLE]).any(|s| s.eq_ignore_ascii_case(tag));
        let unknown: Vec<_> = required.into_iter().filter(|tag| !known(tag)).collect();
        if !unknown.is_empty() {
            let reply = Reply::new(StatusCode::BAD_EXTENSION);
            return Err(Box::new(reply.header(HeaderName::UNSUPPORTED, unknown.join(", "))));
        }
        let new_call = request.method == Method::Invite && self.to_tag(request).is_none();
        let insists = new_call && self.config.reliability == Reliability::Required;
        if insists && !offers(&request.headers, RELIABLE) {
            let reply = Reply::new(StatusCode::EXTENSION_REQUIRED);
            return Err(Box::new(reply.header(HeaderName::REQUIRE, RELIABLE)));
        }
        Ok(())
    }
}
