//! Who gets the call: numbers, plans, access lists, backends and the call queue, and the two tiers on top of them.
//!
//! It does not speak SIP and carries no media in its decisions: what a call asks for comes in as [`identity::Asked`], and
//! what it hears goes out as an offer of backends or a [`reason::Reason`]. The tiers are thin services over that.
//!
//! ```text
//!          identity -> source -> decide ----------> queue entry -> slot -> select -> token ---> 302, or relayed
//! INVITE      |           |         |                   |            |        |        |
//!          who is      who sent   which rule          queue/      limits/  select/  handover/token
//!          called      it         refuses (reason)                         backends/
//!
//! INVITE with the token -> handover/claim -> commit -> the call -> handover/outcome -> call record
//! ```
//!
//! [`admission::Admission`] runs the first line over the stores, [`handover::claim::Claims`] the second. Every store is
//! a small async trait with a `# Contract`, an implementation in memory and, behind the feature `conformance`, a public
//! suite that any other implementation can be proved with.
//!
//! **Time** is handed in as a [`Timestamp`](time::Timestamp) (see [`time`] for why), so a run in a test repeats exactly.
//!
//! Features: `proxy` and `backend` (both default) add the SIP services; without them this crate has no SIP, no media and
//! no socket. `conformance` adds the suites, `sqlite` the stores in a file that
//! the processes of one machine share, `postgres` those on a server that many machines share, `cache` what keeps copies
//! of such a store's numbers.

pub mod admission;
#[cfg(feature = "backend")]
pub mod backend;
pub mod backends;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod columns;
pub mod config;
pub mod decide;
pub mod error;
pub mod handover;
pub mod identity;
pub mod limits;
pub mod number;
#[cfg(feature = "proxy")]
mod parts;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "proxy")]
pub mod proxy;
pub mod queue;
pub mod reason;
pub mod select;
#[cfg(any(feature = "proxy", feature = "backend"))]
pub mod sip;
pub mod source;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "proxy", feature = "backend"))]
pub mod start;
pub mod stores;
pub mod time;
