//! The engine's end of the events: who watches, and the counters of what was dropped.

use std::sync::Arc;
use std::time::Instant;

use super::drops::DropLog;
use super::{DialogChange, DialogStep, Discarded, DropReason, Dropped, Observer, TransactionChange};
use crate::dialog::DialogId;
use crate::engine::flow::Flow;
use crate::guard::BanChange;

/// Held by an engine; each hook is one call that costs a branch where nobody watches.
#[derive(Default)]
pub(crate) struct Watch {
    observer: Option<Arc<dyn Observer>>,
    drops: DropLog,
    /// The message under way: what is dropped is this one.
    arriving: Option<(Instant, Flow)>,
    /// The guard kept it away.
    kept_away: bool,
}

impl Watch {
    pub(crate) fn observe(&mut self, observer: Arc<dyn Observer>) {
        self.observer = Some(observer);
    }

    pub(crate) fn arrives(&mut self, now: Instant, flow: &Flow) {
        self.arriving = Some((now, *flow));
        self.kept_away = false;
    }

    /// Whether the guard kept the last message away.
    #[cfg(feature = "tokio")]
    pub(crate) fn kept_away(&self) -> bool {
        self.kept_away
    }

    pub(crate) fn dropped(&self) -> Dropped {
        self.drops.counts
    }

    /// Counts the message under way as dropped.
    pub(crate) fn discard(&mut self, reason: DropReason) {
        let Some((now, flow)) = self.arriving else { return };
        self.kept_away |= reason.is_of_guard();
        let drop = Discarded { reason, flow };
        self.drops.count(now, &drop);
        if let Some(observer) = &self.observer {
            observer.dropped(&drop);
        }
    }

    pub(crate) fn banned(&self, change: &BanChange) {
        if let Some(observer) = &self.observer {
            observer.banned(change);
        }
    }

    /// True where somebody watches.
    pub(crate) fn is_watched(&self) -> bool {
        self.observer.is_some()
    }

    /// Tells of a transaction; the change is made where somebody watches.
    pub(crate) fn transaction(&self, change: impl FnOnce() -> TransactionChange) {
        if let Some(observer) = &self.observer {
            observer.transaction(&change());
        }
    }

    pub(crate) fn dialog(&self, id: &DialogId, step: DialogStep) {
        if let Some(observer) = &self.observer {
            observer.dialog(&DialogChange { id: id.clone(), step });
        }
    }
}
