//! SDP offer and answer (RFC 3264, RFC 8866), as pure functions from bytes to bytes: no clock, no socket, and random
//! keys are the caller's.
//!
//! An INVITE's body goes into [`answer`]; out comes an [`Agreement`], our SDP and what was [`Negotiated`], or a
//! [`Refusal`] that knows its SIP status. An INVITE without SDP gets [`offer`] in the 200, and the ACK's body goes into
//! [`accept_answer`]. In a re-INVITE the agreement does the same and says what it [`Change`]s:
//!
//! ```text
//!  INVITE with offer ──▶ answer ────────▶ Agreement ──┬─▶ answer(their re-offer) ──▶ (Agreement, Change)
//!  INVITE without ─▶ offer ─▶ 200, ACK ──▶ Agreement ─┴─▶ reoffer ─▶ accept_answer ─▶ (Agreement, Change)
//! ```
//!
//! One audio stream is taken; every other m-line is refused with port 0, in order. Whether it is encrypted decides the
//! [`SecurityPolicy`]: keys in the SDP (`crypto`), or a certificate's fingerprint and ICE-lite (`dtls`, `ice`) as
//! browsers have it. Not supported: host names in `c=`, multicast, several audio streams at once, bundling of more
//! than one stream.

mod agreement;
mod audio;
mod capabilities;
mod compose;
mod crypto;
mod description;
mod dtls;
mod format;
mod ice;
mod negotiate;
mod negotiated;
mod refusal;
mod security;

pub use crate::rtp::srtp::CryptoSuite;
pub use agreement::{Agreement, accept_answer, answer, offer};
pub use capabilities::{Capabilities, DEFAULT_PTIME_MS, Order, PTIME_RANGE_MS, TELEPHONE_EVENT_PAYLOAD_TYPE};
pub use crypto::{MasterKeyIdentifier, SrtpKey};
pub use description::{Description, Limits};
pub use dtls::{DtlsRole, Fingerprint, LocalDtls};
pub use ice::{Candidate, CandidateKind, IceLite, RemoteIce};
pub use negotiated::{Alternative, Change, ComfortNoise, Direction, Negotiated, TelephoneEvent};
pub use refusal::Refusal;
pub use security::{Profile, Security, SecurityPolicy, SecuritySettings};

use audio::Audio;
