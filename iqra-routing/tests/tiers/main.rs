//! Calls through both tiers on loopback sockets, one scenario per test.

#![allow(clippy::unwrap_used, reason = "helpers of a test, too, fail it by unwrapping")]

mod draining;
mod endings;
mod fleet;
mod giving_up;
mod handover;
mod many;
mod phone;
mod pool;
mod recorded;
mod refusals;
mod relayed;
mod tokens;
mod world;
