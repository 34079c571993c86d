//! The backend's part of a call over the stores, without SIP: the claim of a token, and what follows until the record.
//!
//! In: the token and the caller. Out: a [`Claim`], the right to answer; commit it before any 2xx, then finish it when
//! the call ends. A claim that is given back goes through [`Claims::release`]. Entry and slot end with the call,
//! whatever failed; what a lost process leaves behind, the sweep takes (see [`outcome`](super::outcome)).

use std::sync::Arc;
use std::time::Duration;

use crate::handover::outcome::{CallRecord, Outcome};
use crate::handover::table::{Event, Expect};
use crate::handover::token::{TokenError, TokenKeys};
use crate::identity::{CallerKey, RegionId};
use crate::limits::{Ask, PlanLimits, Renewal, Slot};
use crate::queue::{CallQueue, Entry, Holder, State};
use crate::reason::Reason;
use crate::time::Timestamp;

/// What a backend claims calls with.
#[derive(Clone)]
pub struct Claims {
    /// The calls.
    pub queue: Arc<dyn CallQueue>,
    /// The accounts' slots.
    pub limits: Arc<dyn PlanLimits>,
    /// What verifies the tokens.
    pub tokens: TokenKeys,
    /// This backend, as it reports itself.
    pub me: Holder,
    /// Its region.
    pub region: RegionId,
    /// How long a slot lasts without [`Claims::renew`]; renew at a third of it. Default
    /// [`LEASE_LIFE`](crate::limits::LEASE_LIFE), 30 s.
    pub lease_life: Duration,
}

/// The right to answer a call.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The call as it was claimed; its `terms` say how to answer it.
    pub entry: Arc<Entry>,
    /// Whether the call was answered before and goes on (a provider's second media stream).
    pub resumed: bool,
    expect: Expect,
}

impl Claim {
    /// What the claim's writes name.
    pub fn expect(&self) -> Expect {
        self.expect
    }
}

impl Claims {
    /// Claims the call that a token names, for a caller, and takes its slot over.
    ///
    /// # Errors
    /// The reason that the caller hears. A refusal before the claim burns nothing; one for a full account gives the
    /// claim back.
    pub async fn claim(
        &self,
        token: Option<&str>,
        caller: &CallerKey,
        now: Timestamp,
    ) -> Result<Claim, Reason> {
        let token = token.ok_or(Reason::TokenMissing)?;
        let token = self.tokens.verify(token, now).map_err(TokenError::reason)?;
        let id = token.entry;
        let event = Event::Claim {
            token,
            caller: caller.clone(),
            holder: self.me.clone(),
            region: self.region.clone(),
        };
        let entry = self.queue.apply(id, &event, now).await.map_err(|error| error.reason())?;
        let expect = entry.expect().ok_or(Reason::Superseded)?;
        let resumed = entry.state == State::ProcessedBackend;
        self.note_proof(&entry).await;
        let claim = Claim { entry, resumed, expect };
        match self.limits.take_over(self.ask(&claim), expect, now).await {
            Ok(Slot::Reserved) => Ok(claim),
            Ok(Slot::Full) => Err(self.give_back(&claim, Reason::PlanLimit, now).await),
            Err(_) => Err(self.give_back(&claim, Reason::StoreAway, now).await),
        }
    }

    /// Commits a claim; only then may a 2xx be sent. Harmless to repeat.
    ///
    /// # Errors
    /// [`Reason::Superseded`] when another backend or attempt has the call by now, [`Reason::Finished`] when it is
    /// over, [`Reason::StoreAway`]: send no 2xx.
    pub async fn commit(&self, claim: &Claim, now: Timestamp) -> Result<(), Reason> {
        let committed = self.queue.apply(claim.entry.id, &Event::Commit(claim.expect), now).await;
        committed.map(drop).map_err(|error| error.reason())
    }

    /// Gives a claim back because the call is refused with `status` (300 to 699). 401, 407, 415, 420 and 422 keep it;
    /// any other one lets the caller try another Contact or ends the call. Frees the slot of a call that ended.
    ///
    /// # Errors
    /// The reason why the claim was not there to give back; nothing more is to be done then.
    pub async fn release(
        &self,
        claim: &Claim,
        status: u16,
        reason: Reason,
        now: Timestamp,
    ) -> Result<State, Reason> {
        let event = Event::Release { expect: claim.expect, status, reason };
        let entry = self.queue.apply(claim.entry.id, &event, now).await.map_err(|error| error.reason())?;
        if entry.state.is_final() {
            self.free(claim, now).await;
        }
        Ok(entry.state)
    }

    /// The caller gave up before the answer: ends the entry and frees the slot.
    ///
    /// # Errors
    /// [`Reason::AlreadyAnswered`] when the commit came first: answer, and hang up when the ACK is in.
    pub async fn cancelled(&self, claim: &Claim, now: Timestamp) -> Result<(), Reason> {
        let writer = crate::handover::table::Writer::Owner(claim.expect);
        let event = Event::End { writer, reason: Reason::Cancelled };
        self.queue.apply(claim.entry.id, &event, now).await.map_err(|error| error.reason())?;
        self.free(claim, now).await;
        Ok(())
    }

    /// Keeps the slot of a call that is up; call it every third of `lease_life`. A lost lease is asked for anew, within
    /// the plan's limit, where the call is still this claim's: the slot of one that the proxy has ended, or another
    /// backend, is free for good. `Lost` means that there was no room and the call goes on uncounted.
    ///
    /// # Errors
    /// [`Reason::StoreAway`]: the call goes on, try again.
    pub async fn renew(&self, claim: &Claim, now: Timestamp) -> Result<Renewal, Reason> {
        let away = |_| Reason::StoreAway;
        let id = claim.entry.id;
        match self.limits.renew(id, claim.expect, self.lease_life, now).await.map_err(away)? {
            Renewal::Lost if !self.holds(claim).await? => Ok(Renewal::NotOwner),
            Renewal::Lost => {
                match self.limits.take_over(self.ask(claim), claim.expect, now).await.map_err(away)? {
                    Slot::Reserved => Ok(Renewal::Renewed),
                    Slot::Full => Ok(Renewal::Lost),
                }
            }
            renewal => Ok(renewal),
        }
    }

    /// Whether the call is still this claim's.
    async fn holds(&self, claim: &Claim) -> Result<bool, Reason> {
        let entry = self.queue.entry(claim.entry.id).await.map_err(|_| Reason::StoreAway)?;
        Ok(entry.is_some_and(|entry| entry.is_live() && entry.expect() == Some(claim.expect)))
    }

    /// Writes how an answered call ended, frees its slot and gives its record. Harmless to repeat.
    ///
    /// # Errors
    /// The reason why the outcome was not written or the slot not freed; after [`Reason::StoreAway`] repeat it later
    /// with the same outcome.
    pub async fn finish(
        &self,
        claim: &Claim,
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<CallRecord, Reason> {
        let freed = self.free(claim, now).await;
        let event = Event::Finish { expect: claim.expect, outcome };
        let entry = self.queue.apply(claim.entry.id, &event, now).await.map_err(|error| error.reason())?;
        if !freed {
            return Err(Reason::StoreAway); // both or neither: the slot is not to stay taken until it expires
        }
        CallRecord::of(&entry).ok_or(Reason::Internal)
    }

    /// A claim by the token of a 302 shows that the caller's trunk follows redirects, where a proxy asks for that.
    async fn note_proof(&self, entry: &Entry) {
        let Some(trunk) = &entry.terms.proves else { return };
        if let Err(error) = self.queue.note_redirect_followed(trunk).await {
            tracing::warn!(%trunk, %error, "not noted that the trunk follows redirects; the next such call does it");
        }
    }

    fn ask<'a>(&self, claim: &'a Claim) -> Ask<'a> {
        let terms = &claim.entry.terms;
        let limit = terms.concurrent_calls;
        Ask { lease: claim.entry.id, account: &terms.account, limit, life: self.lease_life }
    }

    /// Frees the slot; whether the store took it.
    async fn free(&self, claim: &Claim, now: Timestamp) -> bool {
        let freed = self.limits.release(claim.entry.id, claim.expect, now).await;
        if let Err(error) = &freed {
            tracing::warn!(entry = %claim.entry.id, %error, "slot not freed; it expires by itself");
        }
        freed.is_ok()
    }

    /// Gives back a claim that got no slot; what the caller hears.
    async fn give_back(&self, claim: &Claim, reason: Reason, now: Timestamp) -> Reason {
        let status = reason.row().status;
        match self.release(claim, status, reason, now).await {
            Ok(_) => reason,
            Err(other) => other,
        }
    }
}
