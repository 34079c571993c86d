//! What the engine tells the program, and what the program hands to the engine.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::flow::{Flow, Hop};
pub use super::lookup::Lookup;
pub use crate::dialog::refer::{Outcome, Refer, ReferTarget, ReferralEnd, ReferralEvent};
pub use crate::dialog::replaces::Replaced;
use crate::dialog::{DialogId, Origin, has_session};
use crate::message::{HeaderName, Headers, NameAddr, Request, Response, StatusCode, Uri};
use crate::roles::relay::RelayEvent;

/// A server transaction: a request that we answer. Valid until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerTx(pub(crate) u64);

/// A client transaction: a request of ours. Valid until its final event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientTx(pub(crate) u64);

/// A REFER of the peer that we accepted: its outcome is to be told. Valid until a final status was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReferralId(pub(crate) u64);

/// The INVITE that an early dialog belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InviteTx {
    /// One that we sent.
    Ours(ClientTx),
    /// One that we have to answer.
    Theirs(ServerTx),
}

impl From<Origin> for InviteTx {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Calling(id) => InviteTx::Ours(ClientTx(id)),
            Origin::Called(id) => InviteTx::Theirs(ServerTx(id)),
        }
    }
}

/// Whether provisional responses of 101 to 199 are acknowledged by PRACK (RFC 3262).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reliability {
    /// They are not, unless the caller requires it.
    #[default]
    Never,
    /// They are where the other side can.
    IfSupported,
    /// They are, or the call fails.
    Required,
}

/// What happened, in order. Every variant that carries a [`ServerTx`] and a request waits for
/// [`Engine::respond`](crate::Engine::respond) or, for an INVITE, [`Engine::accept`](crate::Engine::accept).
#[derive(Debug, Clone)]
pub enum Event {
    /// An INVITE outside a dialog.
    Invite {
        /// Answers it.
        tx: ServerTx,
        /// The INVITE, `received` and `rport` filled into its topmost Via.
        request: Arc<Request>,
        /// Where it came from.
        flow: Flow,
        /// What it takes the place of once it is accepted (RFC 3891). Whether the caller may is the program's to say.
        replaces: Option<Replaced>,
    },
    /// Any other request outside a dialog.
    Request {
        /// Answers it.
        tx: ServerTx,
        /// The request.
        request: Arc<Request>,
        /// Where it came from.
        flow: Flow,
    },
    /// The caller gave up on an INVITE (which has been answered 487), never acknowledged a reliable provisional response
    /// (504), its Expires is over (487), or its transport failed. Nothing to answer.
    Cancelled {
        /// The INVITE.
        tx: ServerTx,
        /// The CANCEL, or the BYE inside the early dialog, with its Reason; `None` in the other cases.
        by: Option<Arc<Request>>,
    },
    /// The PRACK of a reliable provisional response came, with the answer where that carried an offer. It has been
    /// answered, unless it carries an offer itself: then it comes as [`Event::DialogRequest`] too.
    Acknowledged {
        /// The INVITE.
        tx: ServerTx,
        /// The PRACK.
        prack: Arc<Request>,
    },
    /// The ACK of an accepted INVITE came: once for a dialog, and for each re-INVITE whose ACK has a body.
    Confirmed {
        /// The dialog.
        dialog: DialogId,
        /// The ACK, with the answer to an offer that went out in the 2xx.
        ack: Arc<Request>,
    },
    /// A request inside a dialog: re-INVITE, INFO, UPDATE and the like. BYE is answered by the engine.
    DialogRequest {
        /// The dialog.
        dialog: DialogId,
        /// Answers it.
        tx: ServerTx,
        /// The request.
        request: Arc<Request>,
        /// The INVITE, where the dialog is early.
        invite: Option<InviteTx>,
    },
    /// The peer wants us to call somebody (RFC 3515). Answered by [`Engine::accept_refer`](crate::Engine::accept_refer),
    /// or refused by [`Engine::respond`](crate::Engine::respond).
    Referred {
        /// The dialog.
        dialog: DialogId,
        /// Answers it.
        tx: ServerTx,
        /// The REFER.
        request: Arc<Request>,
        /// Whom, and with what.
        target: Box<ReferTarget>,
    },
    /// What becomes of a REFER of ours.
    Referral {
        /// The REFER.
        tx: ClientTx,
        /// What happened.
        event: ReferralEvent,
    },
    /// A refresh of the session timer was answered with a session description (RFC 4028).
    Refreshed {
        /// The dialog.
        dialog: DialogId,
        /// The 2xx.
        response: Arc<Response>,
    },
    /// The dialog is gone. Early dialogs that a call does not take end without it, with the INVITE's final event.
    /// Once for a dialog whose end the program did not ask for.
    Ended {
        /// The dialog.
        dialog: DialogId,
        /// Why.
        reason: EndReason,
    },
    /// A provisional or final response to a request of ours; for INVITE outside a dialog never a 2xx.
    Response {
        /// The request.
        tx: ClientTx,
        /// The response.
        response: Arc<Response>,
        /// The early dialog that a provisional response to an INVITE belongs to; each branch of a fork makes one. With
        /// `offer` also the dialog of a re-INVITE.
        early: Option<DialogId>,
        /// It carries an offer that [`Engine::prack`](crate::Engine::prack) has to answer; only for calls with
        /// [`CallOptions::delayed_offer`], and for re-INVITEs without an offer.
        offer: bool,
    },
    /// Our INVITE was answered and acknowledged; with [`CallOptions::delayed_offer`] and an offer in the 2xx,
    /// [`Engine::acknowledge`](crate::Engine::acknowledge) is to send the answer.
    Answered {
        /// The INVITE.
        tx: ClientTx,
        /// The new dialog.
        dialog: DialogId,
        /// The 2xx.
        response: Arc<Response>,
    },
    /// A relayed INVITE went on.
    Relay {
        /// The INVITE.
        tx: ServerTx,
        /// What happened to it.
        event: RelayEvent,
    },
    /// A name has to be looked up: hand it back by [`Engine::looked_up`](crate::Engine::looked_up), with hops or without.
    /// A call to relay and a request to forward wait for it; requests of a call of ours for
    /// [`EngineConfig::name_wait`](crate::EngineConfig::name_wait) at most.
    Lookup(Box<Lookup>),
    /// A request of ours got no final response.
    Failed {
        /// The request.
        tx: ClientTx,
        /// Why.
        failure: Failure,
    },
}

/// Why a request got no final response that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered within 64*T1 (Timers B and F).
    Timeout,
    /// The transport could not send it.
    Transport,
    /// The server answered and did not prove that it knows our secret
    /// ([`AuthConfig::server_proof`](crate::auth::AuthConfig)). A call that it answered has been hung up.
    Unproven,
}

/// Why a dialog ended without the program asking.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EndReason {
    /// The peer sent BYE.
    Remote {
        /// The headers of the BYE, Reason among them.
        headers: Headers,
    },
    /// No ACK came for our 2xx within 64*T1, nor from the program for an offer in theirs, to a call or a re-INVITE of ours
    /// (RFC 3261 §13.3.1.4). A BYE has been sent.
    AckTimeout,
    /// A request of ours inside the dialog was answered 408 or 481, or not at all (RFC 3261 §12.2.1.2). A BYE has
    /// been sent.
    Unreachable,
    /// No refresh came before the session's end (RFC 4028 §10). A BYE has been sent.
    SessionExpired,
    /// Another call took its place (RFC 3891). A BYE has been sent.
    Replaced {
        /// That call.
        by: DialogId,
    },
    /// The caller cancelled while our 2xx waited for a PRACK.
    Cancelled {
        /// The headers of the CANCEL, Reason among them.
        headers: Headers,
    },
    /// No PRACK came within 64*T1 while our 2xx waited for it (RFC 3262 §3). The INVITE has been refused.
    PrackTimeout,
    /// A re-INVITE or UPDATE of ours was answered by a server that did not prove itself
    /// ([`AuthConfig::server_proof`](crate::auth::AuthConfig)). A BYE has been sent.
    Unproven,
    /// This side hung up, by another handle of the same call. Only `net` says so; the engine reports no end that it
    /// was asked for.
    Local,
    /// The endpoint was shut down. Only `net` says so.
    Shutdown,
}

/// The body of a message with its type.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    /// The Content-Type, `application/sdp`.
    pub content_type: String,
    /// The octets.
    pub bytes: Bytes,
}

impl Body {
    /// A session description.
    #[must_use]
    pub fn sdp(bytes: impl Into<Bytes>) -> Self {
        Self { content_type: String::from("application/sdp"), bytes: bytes.into() }
    }

    /// True for a session description, alone or among others.
    pub(crate) fn is_session(&self) -> bool {
        let mut headers = Headers::new();
        headers.push(HeaderName::CONTENT_TYPE, self.content_type.clone());
        has_session(&headers, &self.bytes)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({}, {} bytes)", self.content_type, self.bytes.len())
    }
}

/// A response as the program words it; the engine adds what RFC 3261 §8.2.6 asks for.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The reason phrase; `None` takes the status's own.
    pub reason: Option<String>,
    /// Further headers, Contact among them for a redirect. A Contact given for a 2xx replaces the engine's.
    pub headers: Headers,
    /// The body.
    pub body: Option<Body>,
    /// Whether a provisional response to an INVITE goes reliably; `None` follows
    /// [`EngineConfig::reliability`](crate::EngineConfig::reliability). It always does where the caller requires `100rel`.
    pub reliability: Option<Reliability>,
}

impl Reply {
    /// A response of this status with nothing further.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Self { status, reason: None, headers: Headers::new(), body: None, reliability: None }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl Into<crate::message::Text>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// With a reason phrase.
    #[must_use]
    pub fn reason(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }
}

/// A call to place.
#[derive(Debug, Clone)]
pub struct OutgoingInvite {
    /// The Request-URI.
    pub uri: Uri,
    /// Where the INVITE goes, each tried when the one before fails (RFC 3263 §4.3). None takes the first Route header,
    /// else the URI, which must then name an IP address.
    pub hops: Vec<Hop>,
    /// The caller; a tag is drawn where it has none.
    pub from: NameAddr,
    /// The callee.
    pub to: NameAddr,
    /// The Call-ID; `None` draws one.
    pub call_id: Option<String>,
    /// The CSeq number, 1 or more; a repeat with credentials or after a 3xx takes the next one.
    pub cseq: u32,
    /// Further headers. A Contact given here replaces the engine's.
    pub headers: Headers,
    /// The offer.
    pub body: Option<Body>,
    /// How the call is placed.
    pub options: CallOptions,
}

/// How one call is placed; the default is a plain one.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    /// Whether the callee's provisional responses are asked for reliably; `None` follows
    /// [`EngineConfig::reliability`](crate::EngineConfig::reliability).
    pub reliability: Option<Reliability>,
    /// The INVITE has no body and the callee is to make the offer, which the program answers: by
    /// [`Engine::prack`](crate::Engine::prack) where a reliable provisional response carries it, else by
    /// [`Engine::acknowledge`](crate::Engine::acknowledge). Without it such an offer is acknowledged with no answer.
    pub delayed_offer: bool,
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The transaction is answered, cancelled or timed out already.
    #[error("the transaction is over: it was answered, cancelled or timed out before")]
    TransactionOver,
    /// The dialog has ended.
    #[error("the dialog has ended")]
    DialogOver,
    /// The command does not fit the request, such as a 2xx by `respond` to an INVITE outside a dialog.
    #[error("{0}")]
    Misuse(&'static str),
    /// A header that the message needs is missing or malformed.
    #[error("header {0} is missing or malformed: give it in the form of RFC 3261 §25")]
    Header(&'static str),
    /// The URI names a host, and the engine resolves no names.
    #[error("cannot tell the address of host {0}: give hops or a URI with an IP address")]
    Unresolved(String),
    /// No listener to send from.
    #[error("no listener can send to {0}: bind one of the same address family")]
    NoListener(std::net::SocketAddr),
    /// A limit of [`EngineConfig`](crate::EngineConfig) is reached.
    #[error("{0} is reached: finish some or raise the limit")]
    Full(&'static str),
}

/// How much state an engine holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineCounts {
    /// Server transactions, finished ones included until their last timer.
    pub server_transactions: usize,
    /// Client transactions, likewise.
    pub client_transactions: usize,
    /// Dialogs. An early one that its call did not take is part of its INVITE's transaction.
    pub dialogs: usize,
    /// Timers that run.
    pub timers: usize,
}
