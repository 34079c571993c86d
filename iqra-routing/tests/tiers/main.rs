//! Calls through both tiers on loopback sockets, one scenario per test.

#![allow(clippy::unwrap_used, reason = "helpers of a test, too, fail it by unwrapping")]

mod draining;
mod endings;
mod giving_up;
mod handover;
mod many;
mod phone;
mod recorded;
mod refusals;
mod tokens;
mod world;
