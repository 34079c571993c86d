//! Whole calls between two engines on a simulated network: virtual time, seeded weather, no socket.

#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

mod auth;
mod callee;
mod calls;
mod cancel;
mod capsule;
mod dialogs;
mod early;
mod failover;
mod guard;
mod ladders;
mod matching;
mod mutual;
mod names;
mod network;
mod prack;
#[cfg(feature = "quirks")]
mod quirks;
mod redirects;
mod refer;
mod register;
mod relay;
mod replaces;
mod seeds;
mod session;
mod storm;
mod streams;
mod strict;
mod transport;
mod update;
mod way;
mod wire;
