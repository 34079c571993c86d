//! A sans-IO SIP stack (RFC 3261): messages, transactions, dialogs, and a tokio driver for UDP, TCP, TLS and
//! WebSocket.
//!
//! It carries bodies as octets: no SDP, no media. It decides nothing about who gets a call: no registrar, no routing
//! by number.
//!
//! Entry points: [`Message`] to read and write messages alone, [`Engine`] to run transactions and dialogs over
//! transports of one's own, `net` to have both on sockets.
//!
//! Around the engine, all without I/O:
//! - [`auth`]: Digest of both sides, and the upkeep of a registration.
//! - [`guard`]: rates, bans, signatures and shedding, asked before a transaction is made.
//! - [`resolve`]: the procedure of RFC 3263, which asks its driver for DNS records.
//! - [`roles`]: following redirects, answering with them, and relaying calls as a record-routing proxy.
//! - [`observe`]: events, drop reasons, traces, ladders, HEP packets, and capsules that replay.
//!
//! # Data path
//! ```text
//!  datagram ──────────────┐
//!  stream ── framing ─────┤                        events, requests, responses
//!            (Framer)     ▼                                    ▲
//!                  message::parse ── transaction ── dialog ────┤
//!                  (one index,       (RFC 3261 §17)            ▼
//!                   read on demand)                     commands: respond,
//!  octets ◄──────── message::print ◄───────────────────── invite, cancel, bye
//! ```
//! [`framing`] is the one authority on where a line, a head and a body end; datagrams and streams both ask it.
//!
//! # Driving contract
//! The [`Engine`] knows no socket, clock or source of randomness. Whoever drives it hands in octets and the time
//! (`handle_message`, `handle_timeout`), then drains `poll_transmit` and `poll_event` until both give `None`, then
//! sleeps until `poll_timeout` or the next octets, whichever comes first. Time never runs backwards. A [`Message`]
//! needs no driving: what parses is checked as far as matching and routing depend on it, and no call on it panics
//! whatever the peer sent.
//!
//! # Features
//! - `tokio` (default): `net`, the sockets and timers, and `codec`, the framing for `tokio_util`. Without it the crate
//!   has no I/O and no runtime.
//! - `tls`: TLS 1.2 and 1.3 by rustls. `ws`: WebSocket; with `tls` also the secure one.
//! - `quirks`: profiles of real peers, and a caller that behaves like them, for tests.

pub mod auth;
#[cfg(feature = "tokio")]
pub mod codec;
mod dialog;
mod engine;
#[cfg(feature = "faults")]
pub mod fault;
#[cfg(not(feature = "faults"))]
#[allow(dead_code, unreachable_pub)] // Nothing is planted, and nobody outside can.
mod fault;
pub mod framing;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod guard;
mod lines;
pub mod message;
#[cfg(feature = "tokio")]
pub mod net;
pub mod observe;
mod octets;
#[cfg(feature = "quirks")]
pub mod quirks;
pub mod resolve;
pub mod roles;
mod transaction;

pub use dialog::{DialogId, SessionTimerMode, SessionTimers, Side};
pub use engine::Engine;
pub use engine::config::{EngineConfig, TransferConfig};
pub use engine::event;
pub use engine::failover::FailoverConfig;
pub use engine::flow::{ConnectionId, Flow, Hop, Listener, Transmit, Transport};
pub use engine::nat::{FlowConfig, FlowFirst};
pub use engine::random::Seed;
pub use message::{HeaderName, Headers, Message, Method, Request, Response, StatusCode, Uri};
pub use transaction::timer::Timings;
