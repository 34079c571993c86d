//! Call providers behind one face: whatever carries a call, the rest of a program sees the same two things, call
//! control and a conversation with the caller.
//!
//! What it does not do: decide who may call (`iqra-routing`), know how SIP or RTP work (`iqra-sip`, `iqra-media`).
//!
//! ```text
//!  INVITE ──▶ sip::Inbound::prepare ──▶ ring ──▶ accept ──▶ LiveCall::run ──▶ CallReport
//!                 SDP answer, port        180       200 OK     signalling + media + conversation
//!  place  ──▶ sip::SipProvider (a ProviderClient) ──▶ INVITE, 3xx followed ──▶ LiveCall::run
//! ```
//!
//! # Features
//! - `media`: what runs a conversation on a call.
//! - `sip` (default): calls over direct SIP, in and out.

#[cfg(feature = "media")]
pub mod client;
pub mod lifecycle;
#[cfg(feature = "sip")]
pub mod sip;

#[cfg(feature = "media")]
pub use client::ProviderClient;
