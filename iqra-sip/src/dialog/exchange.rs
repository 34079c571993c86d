//! Which offers of a dialog wait for their answer, and what a further one then meets (RFC 3264 §4, RFC 3261 §14.1,
//! RFC 3311 §5.1, §5.2).

use std::sync::Arc;

use super::Dialog;
use crate::message::{HeaderName, Headers, Request, Response};
use crate::transaction::timer::Clocks;

/// Who made the offer of the first INVITE, while it is unanswered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum FirstOffer {
    /// There is none, or it is answered.
    #[default]
    Settled,
    /// We.
    Ours,
    /// The peer.
    Theirs,
}

/// An UPDATE of ours under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UpdateOut {
    pub(crate) client: u64,
    /// It carries an offer.
    pub(crate) offer: bool,
}

/// A request of ours that was answered 491 and goes out again.
#[derive(Debug)]
pub(crate) struct Glare {
    /// Its name for the program.
    pub(crate) client: u64,
    pub(crate) request: Request,
    /// How often it was planned again.
    pub(crate) tried: u8,
    /// The 491, while it waits.
    pub(crate) refusal: Option<Arc<Response>>,
    pub(crate) clocks: Clocks,
}

/// Whether a message carries a session description: SDP, alone or in a multipart body.
pub(crate) fn has_session(headers: &Headers, body: &[u8]) -> bool {
    let kind = headers.get(HeaderName::CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
    !body.is_empty() && ["application/sdp", "multipart/"].iter().any(|known| kind.starts_with(known))
}

impl Dialog {
    /// True while an offer of ours has no answer.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.first_offer == FirstOffer::Ours
            || self.update_out.is_some_and(|update| update.offer)
            || self.invite_out.is_some()
            || self.unacknowledged.is_some_and(|waiting| waiting.offer)
            || self.reliable.outstanding().is_some_and(|outstanding| outstanding.offer)
    }

    /// True while we owe an answer to an offer of the peer.
    pub(crate) fn owes_answer(&self) -> bool {
        self.first_offer == FirstOffer::Theirs
            || self.update_in.is_some()
            || self.invite_in.is_some()
            || self.reliable.due.is_some()
            || self.reliable.offer_in().is_some()
            || self.ack_due.is_some()
    }
}
