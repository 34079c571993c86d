//! Which calls are being answered here: a repetition before the answer displaces the first, one after it is refused.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::identity::EntryId;

/// The calls between their claim and their end, at most one per entry.
#[derive(Debug, Default)]
pub(super) struct Answering(Mutex<HashMap<EntryId, Stage>>);

#[derive(Debug)]
enum Stage {
    /// Not answered yet; cancelled when a repetition takes its place.
    Ringing(CancellationToken),
    Answered,
}

impl Answering {
    /// A claimed INVITE comes in: what cancels when it is displaced; `None` when the call is answered already.
    pub(super) fn begin(&self, id: EntryId) -> Option<CancellationToken> {
        let mut calls = self.calls();
        match calls.get(&id) {
            Some(Stage::Answered) => return None,
            Some(Stage::Ringing(earlier)) => earlier.cancel(),
            None => {}
        }
        let displaced = CancellationToken::new();
        calls.insert(id, Stage::Ringing(displaced.clone()));
        Some(displaced)
    }

    /// Whether this INVITE may be answered: it was not displaced, and from now on cannot be.
    pub(super) fn settle(&self, id: EntryId, displaced: &CancellationToken) -> bool {
        let mut calls = self.calls();
        if displaced.is_cancelled() {
            return false;
        }
        calls.insert(id, Stage::Answered);
        true
    }

    /// The INVITE, or the call that came of it, is over.
    pub(super) fn end(&self, id: EntryId, displaced: &CancellationToken) {
        let mut calls = self.calls();
        if !displaced.is_cancelled() {
            calls.remove(&id);
        }
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<EntryId, Stage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: EntryId = EntryId(1);

    #[test]
    fn a_repetition_before_the_answer_displaces_the_first() {
        let answering = Answering::default();
        let first = answering.begin(ID).unwrap();
        let second = answering.begin(ID).unwrap();
        assert!(first.is_cancelled() && !second.is_cancelled());
        assert!(!answering.settle(ID, &first));
        answering.end(ID, &first);
        assert!(answering.settle(ID, &second));
    }

    #[test]
    fn a_repetition_after_the_answer_is_refused_until_the_call_is_over() {
        let answering = Answering::default();
        let first = answering.begin(ID).unwrap();
        assert!(answering.settle(ID, &first));
        assert!(answering.begin(ID).is_none());
        answering.end(ID, &first);
        assert!(answering.begin(ID).is_some());
    }
}
