//! Dialogs: the state two user agents share about one call (RFC 3261 §12).
//!
//! On a call's path it stands above the transactions: a provisional response or a 2xx to INVITE makes a [`Dialog`], which
//! then words every request inside the call and judges those of the peer. Pure values; the engine sends and receives.

mod build;
mod exchange;
mod id;
mod prack;
pub(crate) mod refer;
pub(crate) mod replaces;
mod route_set;
pub(crate) mod session_timer;

pub(crate) use build::contact_uri;
pub(crate) use exchange::{FirstOffer, Glare, UpdateOut, has_session};
pub use id::DialogId;
pub(crate) use prack::{Outstanding, Reliable};
pub use session_timer::{SessionTimerMode, SessionTimers, Side};

use std::sync::Arc;

use crate::message::{HeaderName, Headers, Method, Request, Response, Scheme, Text, Uri};
use crate::observe::DialogEnd;
use crate::transaction::timer::Clocks;
use route_set::RouteSet;

use crate::engine::challenged::Proof;
use crate::engine::event::Body;
use crate::engine::flow::Flow;
use crate::engine::lookup::Found;

/// One side of a dialog, early or confirmed.
#[derive(Debug)]
pub(crate) struct Dialog {
    pub(crate) id: DialogId,
    /// Our From value in requests, tag included.
    local: Text,
    /// Our To value in requests, tag included.
    remote: Text,
    /// Where requests are addressed: the peer's Contact.
    target: Uri,
    routes: RouteSet,
    /// The CSeq number of the peer's request that refreshed the target last.
    refreshed_by: Option<u32>,
    local_sequence: u32,
    remote_sequence: Option<u32>,
    /// Between which ends the INVITE travelled; requests go there where the peer's Contact leads nowhere.
    pub(crate) flow: Flow,
    /// The hops of its next hop, where that is a name.
    pub(crate) found: Option<Box<Found>>,
    /// The domain that the peer had to prove for our INVITE, where its transport was secure.
    pub(crate) peer: Option<Arc<str>>,
    /// Our user part and parameters in Contact.
    pub(crate) contact: Text,
    /// The 2xx that waits for its ACK, by transaction and CSeq number.
    pub(crate) unacknowledged: Option<Unacknowledged>,
    /// The initial 2xx was acknowledged.
    pub(crate) confirmed: bool,
    /// The server transaction of a re-INVITE that the program has not answered.
    pub(crate) invite_in: Option<u64>,
    /// Our own re-INVITE under way.
    pub(crate) invite_out: Option<u64>,
    /// The server transaction of an UPDATE that the program has not answered.
    pub(crate) update_in: Option<u64>,
    pub(crate) update_out: Option<UpdateOut>,
    pub(crate) first_offer: FirstOffer,
    /// Our INVITE, the first or a later one, whose ACK waits for the program's answer to the offer of the 2xx.
    pub(crate) ack_due: Option<u64>,
    pub(crate) reliable: Reliable,
    /// A request of ours that met one of the peer's.
    pub(crate) glare: Option<Box<Glare>>,
    /// We drew the Call-ID.
    pub(crate) owns_call_id: bool,
    /// The INVITE that makes it, while it is early.
    pub(crate) origin: Option<Origin>,
    /// With what our requests answer challenges.
    pub(crate) proof: Proof,
    /// The session timer.
    pub(crate) session: Session,
    /// The REFERs, of either side, whose outcome is still to be told.
    pub(crate) subscriptions: Vec<u64>,
    /// A REFER of the peer was accepted before: the next one's NOTIFYs name it.
    pub(crate) referred: bool,
    pub(crate) phase: Phase,
    /// Why it ends, for observers.
    pub(crate) end: DialogEnd,
    pub(crate) clocks: Clocks,
}

/// The INVITE of an early dialog, by its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Ours, which may make several dialogs.
    Calling(u64),
    /// Theirs.
    Called(u64),
}

/// The session timer of a dialog (RFC 4028).
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// What holds, if there is a session timer.
    pub(crate) terms: Option<session_timer::Terms>,
    /// The largest Min-SE that a 422 named, in seconds.
    pub(crate) floor: u32,
    /// How often a refresh was lengthened since the last that was granted.
    pub(crate) lengthened: u8,
    /// The session description that we sent last.
    pub(crate) description: Option<Body>,
    /// The peer's Allow names UPDATE.
    pub(crate) peer_updates: bool,
    pub(crate) clocks: Clocks,
}

/// A 2xx of ours without its ACK.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unacknowledged {
    pub(crate) server: u64,
    pub(crate) sequence: u32,
    /// It carries an offer, which the ACK answers.
    pub(crate) offer: bool,
}

/// How far a dialog is from its end.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Its INVITE has provisional responses only (RFC 3261 §12).
    Early,
    /// It lives.
    Live,
    /// The program wants a BYE, which may not leave before the ACK (RFC 3261 §15): its headers.
    HangUpAfterAck(Headers),
    /// Our BYE is out; only the peer's own BYE is still welcome.
    ByeSent,
    /// An early dialog that the call did not take, kept until its INVITE is forgotten: a late 2xx of the same branch is
    /// hung up with the next CSeq number.
    Released,
    /// The call is over; subscriptions still use it (RFC 5057 §4).
    Subscribed,
}

impl Phase {
    /// True while requests may be sent and taken.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Phase::Early | Phase::Live)
    }
}

impl Dialog {
    /// Where the next request goes: the first route, else the target (RFC 3261 §12.2.1.1).
    pub(crate) fn next_hop(&self) -> &Uri {
        self.routes.first().unwrap_or(&self.target)
    }

    /// The peer's Contact, where no route stands before it.
    pub(crate) fn direct_target(&self) -> Option<&Uri> {
        self.routes.first().is_none().then_some(&self.target)
    }

    /// Whether requests have to be secure at every hop.
    pub(crate) fn is_sips(&self) -> bool {
        self.next_hop().scheme() == Scheme::Sips || self.target.scheme() == Scheme::Sips
    }

    /// The CSeq number of our newest request.
    pub(crate) fn last_sequence(&self) -> u32 {
        self.local_sequence
    }

    /// Takes the CSeq number of a new request inside the dialog.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.local_sequence = self.local_sequence.wrapping_add(1);
        self.local_sequence
    }

    /// The next request inside the dialog, without Via.
    pub(crate) fn next_request(&mut self, method: Method) -> Request {
        let sequence = self.next_sequence();
        self.request(method, sequence)
    }

    /// A request inside the dialog, without Via (RFC 3261 §12.2.1.1). An ACK takes the number of its INVITE.
    pub(crate) fn request(&self, method: Method, sequence: u32) -> Request {
        let (uri, routes) = self.routes.addressed(&self.target);
        let mut headers = Headers::new();
        for route in routes {
            headers.push(HeaderName::ROUTE, route);
        }
        headers.push(HeaderName::MAX_FORWARDS, "70");
        headers.push(HeaderName::FROM, self.local.clone());
        headers.push(HeaderName::TO, self.remote.clone());
        headers.push(HeaderName::CALL_ID, self.id.call_id());
        headers.push(HeaderName::CSEQ, format!("{sequence} {method}"));
        Request { method, uri, headers, body: bytes::Bytes::new() }
    }

    /// Notes the CSeq number of a request by the peer; `false` where it does not rise and is to be answered 500.
    /// Gaps are accepted (RFC 3261 §12.2.2).
    #[must_use]
    pub(crate) fn takes_sequence(&mut self, number: u32) -> bool {
        let rises = self.remote_sequence.is_none_or(|last| number > last);
        if rises {
            self.remote_sequence = Some(number);
        }
        rises
    }

    /// Takes the 2xx of its INVITE: the route set and the target are those of the 2xx (RFC 3261 §13.2.2.4).
    pub(crate) fn confirm(&mut self, response: &Response) {
        self.routes = RouteSet::of_response(&response.headers);
        self.refresh_target(&response.headers);
        self.settle();
    }

    /// The INVITE was answered 2xx: the dialog is early no more, and the INVITE's offer is answered.
    pub(crate) fn settle(&mut self) {
        (self.phase, self.origin, self.first_offer) = (Phase::Live, None, FirstOffer::Settled);
    }

    /// Takes the Contact of a target refresh of the peer that was accepted (RFC 3261 §12.2.2, RFC 3311 §5.2), unless a later
    /// one was before it: an UPDATE while a re-INVITE waits.
    pub(crate) fn accept_target(&mut self, request: &Request) {
        let number = request.sequence();
        if self.refreshed_by.is_none_or(|last| last <= number) {
            self.refreshed_by = Some(number);
            self.refresh_target(&request.headers);
        }
    }

    /// Takes the Contact of a message that refreshes the target (RFC 3261 §12.2.1.2, RFC 3311 §5.1).
    pub(crate) fn refresh_target(&mut self, headers: &Headers) {
        if let Some(uri) = contact_uri(headers) {
            self.target = uri.for_request_line();
        }
    }
}
