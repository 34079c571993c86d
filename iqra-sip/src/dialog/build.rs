//! How a dialog is made, on either side of an INVITE (RFC 3261 §12.1.1 called, §12.1.2 calling).

use super::route_set::RouteSet;
use super::{Dialog, DialogId, FirstOffer, Phase, Reliable, Session, has_session};
use crate::engine::challenged::Proof;
use crate::engine::flow::Flow;
use crate::message::header::{CSeq, CallId, Contact, From, To};
use crate::message::{HeaderError, HeaderName, Headers, Request, Response, Text, Uri};
use crate::transaction::timer::Clocks;

/// The first URI in Contact.
pub(crate) fn contact_uri(headers: &Headers) -> Option<Uri> {
    headers
        .typed_all::<Contact>()
        .flatten()
        .find_map(|contact| contact.address().map(|address| address.uri.clone()))
}

/// A copy of a header's value that does not keep the whole message alive.
fn owned(headers: &Headers, name: HeaderName) -> Text {
    Text::from(headers.get(name).unwrap_or_default().into_owned())
}

/// Whose offer the INVITE carries, if any.
fn first_offer(invite: &Request, whose: FirstOffer) -> FirstOffer {
    if has_session(&invite.headers, &invite.body) { whose } else { FirstOffer::Settled }
}

impl Dialog {
    /// The dialog of an INVITE that we accept with `local_tag`.
    pub(crate) fn called(
        invite: &Request,
        local_tag: &str,
        local_sequence: u32,
        flow: Flow,
        contact: Text,
    ) -> Result<Self, HeaderError> {
        let call_id: CallId = invite.headers.typed()?;
        let from: From = invite.headers.typed()?;
        let cseq: CSeq = invite.headers.typed()?;
        let target = contact_uri(&invite.headers).ok_or(HeaderError::Missing(HeaderName::CONTACT))?;
        let remote_tag = from.tag().unwrap_or_default();
        let to = invite.headers.get(HeaderName::TO).unwrap_or_default();
        Ok(Self {
            id: DialogId::new(&call_id.to_string(), local_tag, &remote_tag),
            local: Text::from(format!("{to};tag={local_tag}")),
            remote: owned(&invite.headers, HeaderName::FROM),
            target: target.for_request_line().detached(),
            routes: RouteSet::of_request(&invite.headers),
            refreshed_by: None,
            local_sequence,
            remote_sequence: Some(cseq.number),
            flow,
            found: None,
            peer: None,
            contact,
            unacknowledged: None,
            confirmed: false,
            invite_in: None,
            invite_out: None,
            update_in: None,
            update_out: None,
            first_offer: first_offer(invite, FirstOffer::Theirs),
            ack_due: None,
            reliable: Reliable::default(),
            glare: None,
            owns_call_id: false,
            origin: None,
            proof: Proof::default(),
            session: Session::default(),
            subscriptions: Vec::new(),
            referred: false,
            phase: Phase::Live,
            end: crate::observe::DialogEnd::default(),
            clocks: Clocks::default(),
        })
    }

    /// The dialog that a response to our INVITE made.
    pub(crate) fn calling(
        invite: &Request,
        response: &Response,
        flow: Flow,
        contact: Text,
    ) -> Result<Self, HeaderError> {
        let call_id: CallId = invite.headers.typed()?;
        let from: From = invite.headers.typed()?;
        let to: To = response.headers.typed()?;
        let cseq: CSeq = invite.headers.typed()?;
        let target = contact_uri(&response.headers).unwrap_or_else(|| invite.uri.clone());
        let [local_tag, remote_tag] = [from.tag(), to.tag()].map(Option::unwrap_or_default);
        Ok(Self {
            id: DialogId::new(&call_id.to_string(), &local_tag, &remote_tag),
            local: owned(&invite.headers, HeaderName::FROM),
            remote: owned(&response.headers, HeaderName::TO),
            target: target.for_request_line().detached(),
            routes: RouteSet::of_response(&response.headers),
            refreshed_by: None,
            local_sequence: cseq.number,
            remote_sequence: None,
            flow,
            found: None,
            peer: None,
            contact,
            unacknowledged: None,
            confirmed: true,
            invite_in: None,
            invite_out: None,
            update_in: None,
            update_out: None,
            first_offer: first_offer(invite, FirstOffer::Ours),
            ack_due: None,
            reliable: Reliable::default(),
            glare: None,
            owns_call_id: true,
            origin: None,
            proof: Proof::default(),
            session: Session::default(),
            subscriptions: Vec::new(),
            referred: false,
            phase: Phase::Live,
            end: crate::observe::DialogEnd::default(),
            clocks: Clocks::default(),
        })
    }
}
