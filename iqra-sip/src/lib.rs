//! A sans-IO SIP stack (RFC 3261): messages, transactions, dialogs, and a tokio driver for UDP and TCP.

#[cfg(feature = "tokio")]
pub mod codec;
mod dialog;
mod engine;
pub mod framing;
pub mod message;
mod transaction;

pub use dialog::DialogId;
pub use engine::Engine;
pub use engine::config::EngineConfig;
pub use engine::event;
pub use engine::flow::{ConnectionId, Flow, Listener, Transmit, Transport};
pub use engine::random::Seed;
pub use message::{HeaderName, Headers, Message, Method, Request, Response, StatusCode, Uri};
pub use transaction::timer::Timings;
