//! Sockets and threads: the only input and output of this crate besides files.
//!
//! [`MediaDriver`] owns a few threads, each of which owns many calls: it reads their sockets on a short beat, so that a
//! call costs memory and arithmetic but no wake-ups of its own, or by events for the lowest delay ([`Reading`]). A call is
//! a [`MediaPort`], then a [`Line`](crate::conversation::Line) and a [`Leg`].

mod arrival;
mod call;
mod config;
mod datagrams;
mod driver;
mod events;
mod leg;
mod load;
mod ports;
mod thread;

pub use config::{
    ConfigFault, MAX_THREADS, MAX_TICK, MIN_TICK, MediaConfig, Overload, PortReserves, Reading,
};
pub use driver::{CallOptions, Counts, MediaDriver, Unavailable};
pub use leg::Leg;
pub use load::Load;
pub use ports::{MediaPort, PortsExhausted, QUARANTINE};
