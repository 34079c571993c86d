//! The programs as processes: how they start, what they refuse, how they stop, and calls through them.

#![allow(clippy::unwrap_used, reason = "helpers of a test, too, fail it by unwrapping")]

mod demo;
mod process;
mod refusals;
mod signals;
mod two_tiers;
