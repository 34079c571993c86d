//! What the conversation's side wants of the media thread from now on: to record, to keep a secret, to join a bridge.
//!
//! In: [`Speaking`](super::Speaking), any task. Out: [`LineEnd`](super::LineEnd), which looks at each frame.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use crossbeam_queue::ArrayQueue;

use super::patch::Patch;
use super::queue::Shared;

/// What the conversation says of the recording of its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordingWish {
    /// The far end may be recorded: it consented, or nobody has to ask.
    pub allowed: bool,
    /// Not now.
    pub paused: bool,
}

/// Orders that wait for the media thread, and patches that it is done with.
const ORDERS: usize = 4;

/// What a line is to do about bridges.
pub(super) enum Order {
    Join(Box<Patch>),
    Part,
}

pub(super) struct Switch {
    allowed: AtomicBool,
    paused: AtomicBool,
    secrets: AtomicUsize,
    ordered: AtomicBool,
    orders: ArrayQueue<Order>,
    /// The media thread frees nothing.
    spent: ArrayQueue<Box<Patch>>,
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            allowed: AtomicBool::default(),
            paused: AtomicBool::default(),
            secrets: AtomicUsize::default(),
            ordered: AtomicBool::default(),
            orders: ArrayQueue::new(ORDERS),
            spent: ArrayQueue::new(ORDERS),
        }
    }
}

impl Switch {
    pub(super) fn allow_recording(&self) {
        self.allowed.store(true, SeqCst);
    }

    pub(super) fn pause_recording(&self, paused: bool) {
        self.paused.store(paused, SeqCst);
    }

    pub(super) fn recording(&self) -> RecordingWish {
        RecordingWish { allowed: self.allowed.load(SeqCst), paused: self.paused.load(SeqCst) }
    }

    /// Gives the media thread an order; with several at once, the last counts.
    pub(super) fn order(&self, order: Order) {
        while self.spent.pop().is_some() {}
        drop(self.orders.force_push(order));
        self.ordered.store(true, SeqCst);
    }

    /// The next order; in steady state a load.
    pub(super) fn next_order(&self) -> Option<Order> {
        if !self.ordered.load(SeqCst) {
            return None;
        }
        let order = self.orders.pop();
        if order.is_none() {
            self.ordered.store(false, SeqCst);
            return self.orders.pop();
        }
        order
    }

    pub(super) fn give_back(&self, patch: Box<Patch>) {
        let _ = self.spent.push(patch);
    }

    pub(super) fn is_secret(&self) -> bool {
        self.secrets.load(SeqCst) > 0
    }
}

/// While one of these exists, what the caller types is a secret: see
/// [`Speaking::keep_secret`](super::Speaking::keep_secret).
#[must_use = "the secret is kept until this is dropped"]
pub struct Secret(Arc<Shared>);

impl Secret {
    pub(super) fn of(shared: Arc<Shared>) -> Self {
        shared.switch.secrets.fetch_add(1, SeqCst);
        Self(shared)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.switch.secrets.fetch_sub(1, SeqCst);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
