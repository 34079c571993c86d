//! A sans-IO SIP stack (RFC 3261): messages, transactions, dialogs, and a tokio driver for UDP and TCP.

#[cfg(feature = "tokio")]
pub mod codec;
pub mod framing;
pub mod message;

pub use message::{HeaderName, Headers, Message, Method, Request, Response, StatusCode, Uri};
