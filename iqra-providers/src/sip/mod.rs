//! Direct SIP: a call whose signalling is ours (`iqra-sip`) and whose media is ours (`iqra-media`).
//!
//! [`Inbound`] answers an INVITE, [`SipProvider`] places one; both end in the same [`LiveCall`], which runs a
//! conversation until somebody hangs up.

mod inbound;
mod live;
mod offer;
mod provider;
mod refusal;

pub use inbound::{Inbound, Rung};
pub use live::{CallOptions, CallReport, LiveCall};
pub use offer::{KeyExchange, SipMedia};
pub use provider::SipProvider;
pub use refusal::Refused;
