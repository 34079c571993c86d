//! The proxy's part of a relayed call over the stores, without SIP: from backend to backend until one answers.
//!
//! In: a call that [`Admission::admit`] wants relayed, and what became of the backend that was asked. Out: the next
//! backend with a token of its own, or the reason that the call ends with. The attempt is raised in the store before a
//! further backend is asked, so of all that were asked one at most commits; what the store answers says which.

use std::sync::Arc;

use super::{Admission, Choice, Search};
use crate::handover::table::{Event, keeps_claim};
use crate::identity::BackendId;
use crate::queue::{Entry, Happened};
use crate::reason::Reason;
use crate::time::Timestamp;

/// A relayed call that nobody has answered yet.
#[derive(Debug, Clone)]
pub struct Relaying {
    /// The entry as the newest offer left it.
    pub entry: Arc<Entry>,
    /// The backend that is asked, and its token.
    pub choice: Choice,
    /// Whether the token goes into the user part of the Request-URI instead of a parameter.
    pub token_in_user: bool,
    /// Those that were asked before.
    tried: Vec<BackendId>,
    admin: bool,
    key: Box<str>,
}

impl Relaying {
    pub(super) fn new(
        entry: Arc<Entry>,
        choice: Choice,
        admin: bool,
        key: &str,
        token_in_user: bool,
    ) -> Self {
        Self { entry, choice, token_in_user, tried: Vec::new(), admin, key: key.into() }
    }
}

impl Admission {
    /// A repeat goes on with an entry: where it is relayed, what was given out before is void first.
    pub(super) async fn taken_up(&self, entry: Arc<Entry>, now: Timestamp) -> Result<Arc<Entry>, Reason> {
        match entry.terms.mode {
            crate::queue::Mode::Redirect => Ok(entry),
            crate::queue::Mode::Relay => self.raise(&entry, now).await,
        }
    }

    async fn raise(&self, entry: &Entry, now: Timestamp) -> Result<Arc<Entry>, Reason> {
        let raise = Event::Raise { node: self.settings.node.clone(), attempt: entry.attempt };
        self.queue.apply(entry.id, &raise, now).await.map_err(|error| error.reason())
    }

    /// Gives the present backend up and goes on to another one, which `call` names then. From here on the former one
    /// cannot commit any more, whatever this gives. Harmless to repeat where the store was away.
    ///
    /// # Errors
    /// [`Reason::AlreadyAnswered`]: the present backend has committed, its answer stands and is on its way.
    /// [`Reason::RelaysExhausted`]: there is no other. [`Reason::StoreAway`]: nobody knows, so no other may be asked.
    /// [`Reason::Superseded`] and [`Reason::Finished`]: the call is not this proxy's any more.
    pub async fn next_backend(&self, call: &mut Relaying, now: Timestamp) -> Result<(), Reason> {
        call.entry = self.raise(&call.entry, now).await?;
        if !call.tried.contains(&call.choice.backend.id) {
            call.tried.push(call.choice.backend.id.clone());
        }
        if call.tried.len() >= self.settings.most_choices {
            return Err(Reason::RelaysExhausted);
        }
        let search = Search { admin: call.admin, key: &call.key, excluded: &call.tried, most: 1 };
        let offered = self.offer(&call.entry, search, now).await;
        let (entry, choices) = offered.map_err(|reason| match reason {
            Reason::NoBackend | Reason::RegionOff => Reason::RelaysExhausted,
            other => other,
        })?;
        call.choice = choices.into_iter().next().ok_or(Reason::RelaysExhausted)?;
        call.entry = entry;
        Ok(())
    }

    /// Ends a relayed call before its answer, claimed or not, and frees its slot: no backend can commit it any more.
    /// Harmless to repeat.
    ///
    /// # Errors
    /// [`Reason::AlreadyAnswered`]: a backend has committed, its answer stands and is on its way. Otherwise the reason why
    /// the call is not this proxy's to end.
    pub async fn end_relayed(&self, call: &Relaying, reason: Reason, now: Timestamp) -> Result<(), Reason> {
        self.end(&call.entry, reason, now).await
    }

    /// A backend's final refusal went to the caller: the call ends with the reason that it was given back with, unless
    /// the caller is expected to come back (401, 407, 415, 420, 422).
    pub async fn refused(&self, call: &Relaying, status: u16, now: Timestamp) {
        if keeps_claim(status) {
            return;
        }
        match self.queue.entry(call.entry.id).await {
            Ok(Some(entry)) if entry.state.is_uncommitted() => {
                let reason = match status {
                    487 => Reason::Cancelled,
                    _ => given_back_with(&entry).unwrap_or(Reason::RelaysExhausted),
                };
                self.end_or_leave(&call.entry, reason, now).await;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(entry = %call.entry.id, %error, "entry not ended; it expires by itself");
            }
        }
    }

    /// Whether nothing more can come of a call. A store that is away does not know: no.
    pub async fn is_over(&self, call: &Relaying) -> bool {
        match self.queue.entry(call.entry.id).await {
            Ok(entry) => entry.is_none_or(|entry| !entry.is_live()),
            Err(_) => false,
        }
    }
}

/// Why the newest claim was given back.
fn given_back_with(entry: &Entry) -> Option<Reason> {
    let released = entry.log.iter().rev().find(|line| line.what == Happened::Released);
    released.and_then(|line| line.reason)
}
