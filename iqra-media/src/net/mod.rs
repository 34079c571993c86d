//! Sockets and threads: the only input and output of this crate besides files.
//!
//! [`MediaDriver`] owns a few threads; each sweeps the sockets of many calls on a short beat, so that a call costs
//! memory and arithmetic but no wake-ups of its own. A call is a [`MediaPort`], then a
//! [`Line`](crate::conversation::Line) and a [`Leg`].

mod driver;
mod leg;
mod ports;
mod thread;

pub use driver::{CallOptions, Counts, MediaConfig, MediaDriver};
pub use leg::Leg;
pub use ports::{MediaPort, PortsExhausted, QUARANTINE};
