//! Watching calls: the events of an engine, every message that passed the wire, and a ladder of one call made of them.

pub mod capsule;
mod drops;
mod events;
pub mod hep;
pub mod ladder;
mod numbers;
mod outline;
mod redact;
mod traces;
mod uris;
mod watch;

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;

use crate::engine::flow::Flow;
pub use drops::{Discarded, DropReason, DropRow, Dropped};
pub use events::{
    DialogChange, DialogEnd, DialogStep, Feed, Observed, Observer, Observers, Side, TransactionChange,
    TransactionState, TransactionStep, feed,
};
pub(crate) use outline::Outline;
pub use redact::redact;
pub use traces::{TraceLimits, Traces};
pub(crate) use watch::Watch;

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To us.
    In,
    /// From us.
    Out,
}

/// One message on the wire. Its `Debug` shows the kind and the size of the message, nothing that it says.
#[derive(Clone)]
pub struct TraceRecord {
    /// When.
    pub at: SystemTime,
    /// Which way.
    pub direction: Direction,
    /// Between which ends.
    pub flow: Flow,
    /// The message. Credentials and media keys are replaced unless secrets were asked for; phone numbers are left in,
    /// so a trace is not a log.
    pub bytes: Bytes,
}

impl fmt::Debug for TraceRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, direction, flow, bytes } = self;
        write!(f, "TraceRecord({at:?} {direction:?} {flow:?} {:?})", Outline(bytes))
    }
}
