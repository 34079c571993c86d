//! Which calls are being answered here: a repetition before the answer displaces the first, one after it is refused.
//!
//! INVITEs of one caller are looked at side by side, so the later one may come here first: their CSeq says which it is.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::identity::EntryId;
use crate::reason::Reason;

/// The calls between their claim and their end, at most one per entry.
#[derive(Debug, Default)]
pub(super) struct Answering(Mutex<HashMap<EntryId, Stage>>);

#[derive(Debug)]
enum Stage {
    /// Not decided yet, with the CSeq number of its INVITE; cancelled when a repetition takes its place.
    Open(u32, CancellationToken),
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
    /// A claimed INVITE comes in and displaces an earlier one.
    ///
    /// # Errors
    /// [`Reason::AlreadyAnswered`] when another is settled, [`Reason::Superseded`] when a later one is here.
    pub(super) fn begin(&self, id: EntryId, cseq: u32) -> Result<Turn<'_>, Reason> {
        let mut calls = self.calls();
        match calls.get(&id) {
            Some(Stage::Settled) => return Err(Reason::AlreadyAnswered),
            Some(Stage::Open(later, _)) if *later > cseq => return Err(Reason::Superseded),
            Some(Stage::Open(_, earlier)) => earlier.cancel(),
            None => {}
        }
        let displaced = CancellationToken::new();
        calls.insert(id, Stage::Open(cseq, displaced.clone()));
        Ok(Turn { calls: self, id, displaced })
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
        let first = answering.begin(ID, 1).unwrap();
        let second = answering.begin(ID, 2).unwrap();
        assert!(!first.settle());
        drop(first);
        assert!(second.settle());
        drop(second);
        assert!(answering.calls().is_empty());
    }

    #[test]
    fn a_first_invite_that_is_looked_at_late_displaces_nothing() {
        let answering = Answering::default();
        let second = answering.begin(ID, 2).unwrap();
        assert_eq!(answering.begin(ID, 1).unwrap_err(), Reason::Superseded);
        assert!(second.settle());
    }

    #[test]
    fn a_repetition_after_the_answer_is_refused_until_the_call_is_over() {
        let answering = Answering::default();
        let first = answering.begin(ID, 1).unwrap();
        assert!(first.settle());
        assert_eq!(answering.begin(ID, 2).unwrap_err(), Reason::AlreadyAnswered);
        drop(first);
        assert!(answering.begin(ID, 3).is_ok());
    }
}
