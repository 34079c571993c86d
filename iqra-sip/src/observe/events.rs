//! The stream of events: messages, transactions, dialogs and drops, as an [`Observer`] sees them.
//!
//! The engine tells of transactions, dialogs and drops; whoever moves the octets (`net`) tells of messages. Nothing is
//! made for an event that nobody watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::{Discarded, TraceRecord};
use crate::dialog::DialogId;
use crate::engine::flow::Flow;
use crate::event::EndReason;
use crate::guard::BanChange;
use crate::message::{Method, StatusCode};

/// Watches an engine. Every method does nothing unless it is overridden.
///
/// # Contract
/// Called on the path of the messages, some of it under the engine's lock: a method returns at once, neither blocks
/// nor panics, and never calls the engine or the endpoint. What takes longer goes through a bounded queue, such as
/// [`feed`].
pub trait Observer: Send + Sync {
    /// A message that came in and that the guard let pass, after what it led to and before anything leaves for it; or one
    /// that leaves. What the guard keeps away is told by [`dropped`](Self::dropped) alone, so that a flood does not push
    /// out what is kept of honest calls. Secrets are taken out.
    fn message(&self, _record: &TraceRecord) {}
    /// A transaction was made, moved or ended.
    fn transaction(&self, _change: &TransactionChange) {}
    /// A dialog was made, confirmed or ended.
    fn dialog(&self, _change: &DialogChange) {}
    /// A message was dropped, or refused without a transaction.
    fn dropped(&self, _drop: &Discarded) {}
    /// A source was banned, or its ban lifted.
    fn banned(&self, _change: &BanChange) {}
}

/// Who started a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The peer asks, we answer.
    Server,
    /// We ask.
    Client,
}

/// The states of all four machines (RFC 3261 §17, RFC 6026 §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The RFC's own names.
pub enum TransactionState {
    Calling,
    Trying,
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
    Terminated,
}

/// What happened to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionStep {
    /// It began, in this state.
    Created(TransactionState),
    /// It went to this state.
    Moved(TransactionState),
    /// It is gone.
    Ended,
}

/// A change of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionChange {
    /// Its number, never used again by its engine.
    pub id: u64,
    /// Who asks.
    pub side: Side,
    /// The method of its request.
    pub method: Method,
    /// What happened.
    pub step: TransactionStep,
    /// The Call-ID of its request. `None` for a server transaction that began before anybody watched.
    pub call_id: Option<Arc<str>>,
    /// The branch of its request's topmost Via, lower case where the peer drew it. `None` where the peer sent none that
    /// is unique (RFC 3261 §17.2.3).
    pub branch: Option<Arc<str>>,
    /// Between which ends its messages travel.
    pub flow: Flow,
    /// The status of the response that moved it. `None` where something else did.
    pub status: Option<StatusCode>,
}

/// Why a dialog is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum DialogEnd {
    /// The program hung up, or never wanted it.
    #[default]
    Local,
    /// The peer hung up.
    Remote,
    /// No ACK came (RFC 3261 §13.3.1.4).
    AckTimeout,
    /// The peer does not know it any more or does not answer (RFC 3261 §12.2.1.2).
    Unreachable,
    /// For another reason, which the program's own event tells.
    Other,
}

impl From<&EndReason> for DialogEnd {
    fn from(reason: &EndReason) -> Self {
        match reason {
            EndReason::Remote { .. } => DialogEnd::Remote,
            EndReason::AckTimeout => DialogEnd::AckTimeout,
            EndReason::Unreachable => DialogEnd::Unreachable,
            EndReason::Local | EndReason::Shutdown => DialogEnd::Local,
            _ => DialogEnd::Other,
        }
    }
}

/// What happened to a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DialogStep {
    /// It was made.
    Created,
    /// Its first 2xx was acknowledged.
    Confirmed,
    /// It is gone, its BYE answered.
    Ended(DialogEnd),
}

/// A change of one dialog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialogChange {
    /// Which.
    pub id: DialogId,
    /// What happened.
    pub step: DialogStep,
}

/// One event, owned: what a [`feed`] carries.
#[derive(Debug, Clone)]
pub enum Observed {
    /// A message.
    Message(TraceRecord),
    /// A transaction.
    Transaction(TransactionChange),
    /// A dialog.
    Dialog(DialogChange),
    /// A drop.
    Dropped(Discarded),
    /// A ban.
    Banned(BanChange),
}

/// Several observers as one.
#[derive(Default, Clone)]
pub struct Observers(Vec<Arc<dyn Observer>>);

impl Observers {
    /// With one more.
    pub fn push(&mut self, observer: Arc<dyn Observer>) {
        self.0.push(observer);
    }

    /// True where nobody watches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Observer for Observers {
    fn message(&self, record: &TraceRecord) {
        self.0.iter().for_each(|observer| observer.message(record));
    }

    fn transaction(&self, change: &TransactionChange) {
        self.0.iter().for_each(|observer| observer.transaction(change));
    }

    fn dialog(&self, change: &DialogChange) {
        self.0.iter().for_each(|observer| observer.dialog(change));
    }

    fn dropped(&self, drop: &Discarded) {
        self.0.iter().for_each(|observer| observer.dropped(drop));
    }

    fn banned(&self, change: &BanChange) {
        self.0.iter().for_each(|observer| observer.banned(change));
    }
}

/// Puts events into a bounded queue; those that find it full are lost and counted. See [`feed`].
#[derive(Debug)]
pub struct Feed {
    queue: SyncSender<Observed>,
    lost: AtomicU64,
}

/// An observer and the queue that it fills, of at most `capacity` events, 1 at least.
#[must_use]
pub fn feed(capacity: usize) -> (Arc<Feed>, Receiver<Observed>) {
    let (queue, events) = sync_channel(capacity.max(1));
    (Arc::new(Feed { queue, lost: AtomicU64::new(0) }), events)
}

impl Feed {
    /// How many events found the queue full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn offer(&self, event: Observed) {
        if self.queue.try_send(event).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Observer for Feed {
    fn message(&self, record: &TraceRecord) {
        self.offer(Observed::Message(record.clone()));
    }

    fn transaction(&self, change: &TransactionChange) {
        self.offer(Observed::Transaction(change.clone()));
    }

    fn dialog(&self, change: &DialogChange) {
        self.offer(Observed::Dialog(change.clone()));
    }

    fn dropped(&self, drop: &Discarded) {
        self.offer(Observed::Dropped(*drop));
    }

    fn banned(&self, change: &BanChange) {
        self.offer(Observed::Banned(*change));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flow::Transport;

    #[test]
    fn a_full_feed_loses_the_newest_counts_them_and_never_waits() {
        let (observer, events) = feed(2);
        let addr = "192.0.2.1:5060".parse().unwrap();
        let change = |id| TransactionChange {
            id,
            side: Side::Server,
            method: Method::Options,
            step: TransactionStep::Ended,
            call_id: None,
            branch: None,
            flow: Flow { transport: Transport::Udp, local: addr, remote: addr, connection: None },
            status: None,
        };
        (1..=5).for_each(|id| observer.transaction(&change(id)));
        assert_eq!(observer.lost(), 3);
        let ids: Vec<_> = events
            .try_iter()
            .filter_map(|event| match event {
                Observed::Transaction(change) => Some(change.id),
                _ => None,
            })
            .collect();
        assert_eq!(ids, [1, 2]);
    }
}
