//! The table of a relayed call at its proxy: where it stands, what happens, and what the proxy does then. Pure; the
//! service ([`proxy`](crate::proxy)) carries it out and says what the store answered.
//!
//! ```text
//!            Asking          Ringing           Answering            Cancelled
//! Failed     next backend    end: lost         wait                 refuse: cancelled
//! Lost       next backend    end: lost         wait                 refuse: cancelled
//! Rang       Ringing         -                 -                    -
//! Answered   done            done              done                 done
//! Refused    finish          finish            finish               finish
//! Cancelled  end: cancelled  end: cancelled    wait                 wait
//! Gone       end: cancelled  end: cancelled    done                 done
//! Over       -               -                 refuse: lost         -
//! Stopped    end: draining   end: draining     refuse: draining     refuse: cancelled
//! ```
//!
//! - *Next backend* and *end* write to the store first. Where that says that a backend has committed, the call is
//!   `Answering`: that backend's 2xx is on its way and the only answer that may go to the caller.
//! - *End* is answered to the caller by its reason, by a 487 at once where it gave up. While the store is away a call that
//!   its caller gave up is left to its backend (`Cancelled`), which the CANCEL reaches.
//! - After a response from 101 to 199 has gone to the caller no other backend is asked.

use crate::reason::Reason;

/// Where a relayed call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A backend was asked; the caller has heard nothing but 100.
    Asking,
    /// The caller has heard a response from 101 to 199.
    Ringing,
    /// A backend has committed; its 2xx is on its way.
    Answering,
    /// The caller gave up, and the store does not say whether a backend has committed.
    Cancelled,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 4] = [Self::Asking, Self::Ringing, Self::Answering, Self::Cancelled];
}

/// What happens to a relayed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The backend answered 5xx, or nothing in its time, or cannot be reached.
    Failed,
    /// The backend's reports have expired.
    Lost,
    /// A response from 101 to 199 went to the caller.
    Rang,
    /// A 2xx went to the caller.
    Answered,
    /// Any other final response of a backend went to the caller, with this status.
    Refused(u16),
    /// The caller sent CANCEL.
    Cancelled,
    /// The caller cannot be reached any more.
    Gone,
    /// The store says that the call is over.
    Over,
    /// This proxy ends.
    Stopped,
}

/// What the proxy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Wait,
    /// Raises the attempt and asks the next backend; go on with [`after_next`].
    Next,
    /// Ends the entry with this reason; go on with [`after_end`].
    End(Reason),
    /// Answers the caller by this reason, and follows the call no more.
    Refuse(Reason),
    /// The caller has a refusal with this status: ends the entry, and follows the call no more.
    Finish(u16),
    /// Follows the call no more.
    Done,
}

/// What follows from what happens.
#[must_use]
pub fn step(stage: Stage, news: News) -> (Stage, Act) {
    use Stage::{Answering, Asking, Cancelled, Ringing};
    let act = match (stage, news) {
        (_, News::Answered) | (Answering | Cancelled, News::Gone) => Act::Done,
        (_, News::Refused(status)) => Act::Finish(status),
        (Asking, News::Rang) => return (Ringing, Act::Wait),
        (Asking, News::Failed | News::Lost) => Act::Next,
        (Ringing, News::Failed | News::Lost) => Act::End(Reason::BackendLost),
        (Asking | Ringing, News::Cancelled | News::Gone) => Act::End(Reason::Cancelled),
        (Asking | Ringing, News::Stopped) => Act::End(Reason::Draining),
        // Its 2xx may be on its way, whatever became of its reports: the outcome in the store tells of its end.
        (Answering, News::Over) => Act::Refuse(Reason::BackendLost),
        (Answering, News::Stopped) => Act::Refuse(Reason::Draining),
        (Cancelled, News::Failed | News::Lost | News::Stopped) => Act::Refuse(Reason::Cancelled),
        (_, News::Rang | News::Failed | News::Cancelled | News::Lost | News::Over) => Act::Wait,
    };
    (stage, act)
}

/// What follows from [`Act::Next`], by what [`Admission::next_backend`](crate::admission::Admission::next_backend) gave.
#[must_use]
pub fn after_next(result: Result<(), Reason>) -> (Stage, Act) {
    match result {
        Ok(()) => (Stage::Asking, Act::Wait),
        Err(Reason::AlreadyAnswered) => (Stage::Answering, Act::Wait),
        Err(reason @ (Reason::Superseded | Reason::Finished | Reason::TokenUnknown)) => {
            (Stage::Asking, Act::Refuse(reason))
        }
        Err(reason) => (Stage::Asking, Act::End(reason)),
    }
}

/// What follows from [`Act::End`] with `reason`, by what
/// [`Admission::end_relayed`](crate::admission::Admission::end_relayed) gave.
#[must_use]
pub fn after_end(reason: Reason, result: Result<(), Reason>) -> (Stage, Act) {
    match result {
        Err(Reason::AlreadyAnswered) => (Stage::Answering, Act::Wait),
        Err(Reason::StoreAway) if reason == Reason::Cancelled => (Stage::Cancelled, Act::Wait),
        Ok(()) | Err(_) => (Stage::Asking, Act::Refuse(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_news_at_every_stage_does_what_the_table_says() {
        use Act::{Done, End, Finish, Next, Refuse, Wait};
        use Reason::{BackendLost as Lost, Cancelled, Draining};
        // In the order of Stage::ALL: asking, ringing, answering, cancelled.
        let rows: [(News, [Act; 4]); 9] = [
            (News::Failed, [Next, End(Lost), Wait, Refuse(Cancelled)]),
            (News::Lost, [Next, End(Lost), Wait, Refuse(Cancelled)]),
            (News::Rang, [Wait, Wait, Wait, Wait]),
            (News::Answered, [Done, Done, Done, Done]),
            (News::Refused(486), [Finish(486), Finish(486), Finish(486), Finish(486)]),
            (News::Cancelled, [End(Cancelled), End(Cancelled), Wait, Wait]),
            (News::Gone, [End(Cancelled), End(Cancelled), Done, Done]),
            (News::Over, [Wait, Wait, Refuse(Lost), Wait]),
            (News::Stopped, [End(Draining), End(Draining), Refuse(Draining), Refuse(Cancelled)]),
        ];
        for (news, acts) in rows {
            for (stage, act) in Stage::ALL.into_iter().zip(acts) {
                let rings = stage == Stage::Asking && news == News::Rang;
                let next = if rings { Stage::Ringing } else { stage };
                assert_eq!(step(stage, news), (next, act), "{news:?} at {stage:?}");
            }
        }
    }

    #[test]
    fn what_the_store_says_of_the_next_backend_decides() {
        let rows = [
            (Ok(()), (Stage::Asking, Act::Wait)),
            (Err(Reason::AlreadyAnswered), (Stage::Answering, Act::Wait)),
            (Err(Reason::RelaysExhausted), (Stage::Asking, Act::End(Reason::RelaysExhausted))),
            (Err(Reason::StoreAway), (Stage::Asking, Act::End(Reason::StoreAway))),
            (Err(Reason::PlanLimit), (Stage::Asking, Act::End(Reason::PlanLimit))),
            (Err(Reason::Superseded), (Stage::Asking, Act::Refuse(Reason::Superseded))),
            (Err(Reason::Finished), (Stage::Asking, Act::Refuse(Reason::Finished))),
        ];
        for (result, then) in rows {
            assert_eq!(after_next(result), then, "{result:?}");
        }
    }

    #[test]
    fn what_the_store_says_of_the_end_decides() {
        use Reason::{AlreadyAnswered, Cancelled, Finished, RelaysExhausted, StoreAway, Superseded};
        let rows = [
            (Cancelled, Ok(()), (Stage::Asking, Act::Refuse(Cancelled))),
            (Cancelled, Err(AlreadyAnswered), (Stage::Answering, Act::Wait)),
            (Cancelled, Err(StoreAway), (Stage::Cancelled, Act::Wait)),
            (Cancelled, Err(Finished), (Stage::Asking, Act::Refuse(Cancelled))),
            (RelaysExhausted, Ok(()), (Stage::Asking, Act::Refuse(RelaysExhausted))),
            (RelaysExhausted, Err(AlreadyAnswered), (Stage::Answering, Act::Wait)),
            (RelaysExhausted, Err(StoreAway), (Stage::Asking, Act::Refuse(RelaysExhausted))),
            (RelaysExhausted, Err(Superseded), (Stage::Asking, Act::Refuse(RelaysExhausted))),
        ];
        for (reason, result, then) in rows {
            assert_eq!(after_end(reason, result), then, "{reason:?} {result:?}");
        }
    }
}
