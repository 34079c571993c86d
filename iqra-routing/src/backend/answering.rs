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
    /// Not decided yet; cancelled when a repetition takes its place.
    Open(CancellationToken),
    /// Being answered, refused or given up; or answered.
    Settled,
}

/// An INVITE's place in [`Answering`], given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    calls: &'a Answering,
    id: EntryId,
    displaced: CancellationToken,
}

impl Answering {
    /// A claimed INVITE comes in and displaces an earlier one; `None` when that one is settled already.
    pub(super) fn begin(&self, id: EntryId) -> Option<Turn<'_>> {
        let mut calls = self.calls();
        match calls.get(&id) {
            Some(Stage::Settled) => return None,
            Some(Stage::Open(earlier)) => earlier.cancel(),
            None => {}
        }
        let displaced = CancellationToken::new();
        calls.insert(id, Stage::Open(displaced.clone()));
        Some(Turn { calls: self, id, displaced })
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<EntryId, Stage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Resolves when a repetition has taken this INVITE's place.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Whether this INVITE decides the call: it was not displaced, and from now on cannot be.
    pub(super) fn settle(&self) -> bool {
        let mut calls = self.calls.calls();
        let mine = !self.displaced.is_cancelled();
        if mine {
            calls.insert(self.id, Stage::Settled);
        }
        mine
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut calls = self.calls.calls();
        if !self.displaced.is_cancelled() {
            calls.remove(&self.id);
        }
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
        assert!(!first.settle());
        drop(first);
        assert!(second.settle());
        drop(second);
        assert!(answering.calls().is_empty());
    }

    #[test]
    fn a_repetition_after_the_answer_is_refused_until_the_call_is_over() {
        let answering = Answering::default();
        let first = answering.begin(ID).unwrap();
        assert!(first.settle());
        assert!(answering.begin(ID).is_none());
        drop(first);
        assert!(answering.begin(ID).is_some());
    }
}
