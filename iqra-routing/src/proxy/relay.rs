//! Relayed calls at the proxy: [`handover::relay`](crate::handover::relay) decides, this carries it out.
//!
//! In: an INVITE and the call that it was admitted as. Out: one task per call until its final response. Requests inside
//! the dialog pass the endpoint without this, at any proxy of the pool.

use std::sync::Arc;
use std::time::Duration;

use iqra_sip::event::EngineError;
use iqra_sip::net::{Error, IncomingInvite, Relayed};
use iqra_sip::roles::relay::{AttemptFailure, Plan, RelayEvent, RelayTimings, Target};
use tokio::time::MissedTickBehavior;

use super::{Caller, Shared, target};
use crate::admission::Relaying;
use crate::handover::relay::{Act, News, Stage, after_end, after_next, step};
use crate::reason::Reason;
use crate::time::Timestamp;

/// How often the store is asked again within one step of a call while it is away, and how long between.
const STORE_TRIES: u32 = 5;
const STORE_PAUSE: Duration = Duration::from_millis(200);

/// How a proxy relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelaySettings {
    /// When a backend that does not answer gives way to the next. Default 2 s without any response, 5 s after a 100.
    pub timings: RelayTimings,
    /// How often it is looked whether the backends of relayed calls still report. Default 1 s.
    pub heartbeat: Duration,
    /// Calls being relayed at a time that have no final response yet; one more is refused as overload. Default 10,000.
    pub most: usize,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self { timings: RelayTimings::default(), heartbeat: Duration::from_secs(1), most: 10_000 }
    }
}

impl Shared {
    /// Relays the call to its first backend and follows it.
    pub(super) async fn relay(self: &Arc<Self>, invite: IncomingInvite, call: Relaying) {
        if self.relaying.len() >= self.settings.relay.most {
            return self.give_back(invite, &call, Reason::Overload).await;
        }
        let caller = Caller::of(invite.request());
        let Some(first) = target_of(&call, &caller) else {
            tracing::error!(entry = %call.entry.id, "the backend has no usable URI; correct its sip_uris");
            return self.give_back(invite, &call, Reason::NoBackend).await;
        };
        let plan = Plan { timings: self.settings.relay.timings, ..Plan::new([first]) };
        match invite.relay(plan).await {
            Ok(relayed) => {
                let (shared, since) = (self.clone(), self.clock.now());
                let (targets, stage) = (1, Stage::Asking);
                let followed = Followed { shared, relayed, call, caller, since, targets, stage };
                self.relaying.spawn(followed.follow());
            }
            Err(error) => self.not_relayed(&call, &error).await,
        }
    }

    /// Ends a call that was not relayed, and refuses it.
    async fn give_back(&self, invite: IncomingInvite, call: &Relaying, reason: Reason) {
        self.admission.failed(&call.entry, reason, self.clock.now()).await;
        self.refuse(invite, &reason.into());
    }

    /// The caller has its answer: 487 where it gave up, else 500.
    async fn not_relayed(&self, call: &Relaying, error: &Error) {
        let reason = match error {
            Error::Engine(EngineError::TransactionOver) => Reason::Cancelled,
            _ => Reason::Internal,
        };
        if reason == Reason::Internal {
            tracing::error!(entry = %call.entry.id, %error, "not relayed; a proxy that relays needs [relay]");
        }
        self.admission.failed(&call.entry, reason, self.clock.now()).await;
    }
}

/// The backend that a call names, as it goes into the Request-URI.
fn target_of(call: &Relaying, caller: &Caller) -> Option<Target> {
    let uri = target(&call.choice, caller, call.token_in_user)?;
    Some(Target { uri: Some(uri), ..Target::default() })
}

/// A call that is being relayed.
struct Followed {
    shared: Arc<Shared>,
    relayed: Relayed,
    call: Relaying,
    caller: Caller,
    /// When its backend was chosen.
    since: Timestamp,
    /// How many targets the endpoint was given.
    targets: u32,
    stage: Stage,
}

impl Followed {
    /// Until the caller has its final response.
    async fn follow(mut self) {
        loop {
            let news = self.news().await;
            let (stage, act) = step(self.stage, news);
            self.stage = stage;
            match self.carry_out(act).await {
                Act::Refuse(reason) => return self.refuse(reason),
                Act::Finish(status) => {
                    let now = self.shared.clock.now();
                    return self.shared.admission.refused(&self.call, status, now).await;
                }
                Act::Done => {
                    let backend = &self.call.choice.backend.id;
                    return tracing::debug!(entry = %self.call.entry.id, %backend, "relayed");
                }
                _ => {}
            }
        }
    }

    /// What happens next.
    async fn news(&mut self) -> News {
        let (shared, call, relayed) = (&*self.shared, &self.call, &mut self.relayed);
        let backend = &call.choice.backend;
        loop {
            let event = tokio::select! {
                biased;
                event = relayed.next() => event,
                () = shared.heartbeats.lost(backend, self.since), if self.stage != Stage::Answering => {
                    return News::Lost;
                }
                () = over(shared, call), if self.stage == Stage::Answering => return News::Over,
                () = shared.stop.cancelled() => return News::Stopped,
            };
            match event {
                Some(RelayEvent::Trying { .. }) => {}
                // One that was given up before its answer came.
                Some(RelayEvent::NextTarget { attempt, .. }) if attempt != self.targets => {}
                Some(RelayEvent::NextTarget { failure, .. }) => {
                    let why = word(&failure);
                    tracing::info!(entry = %call.entry.id, backend = %backend.id, why, "backend given up");
                    return News::Failed;
                }
                Some(RelayEvent::Provisional(_)) => return News::Rang,
                Some(RelayEvent::Answered(_)) => return News::Answered,
                Some(RelayEvent::Refused(response)) => return News::Refused(response.status.code()),
                Some(RelayEvent::Cancelled(_)) => return News::Cancelled,
                Some(RelayEvent::Ended) | None => return News::Gone,
            }
        }
    }

    /// Carries out what writes to the store, again where its reply was lost; what is left to do then.
    async fn carry_out(&mut self, act: Act) -> Act {
        let (shared, mut act, mut tries) = (self.shared.clone(), act, STORE_TRIES);
        loop {
            let (admission, now) = (&shared.admission, shared.clock.now());
            (self.stage, act) = match act {
                Act::Next => match admission.next_backend(&mut self.call, now).await {
                    Err(Reason::StoreAway) if again(&mut tries).await => continue,
                    Ok(()) if !self.try_next().await => (self.stage, Act::Next),
                    next => after_next(next),
                },
                Act::End(reason) => match admission.end_relayed(&self.call, reason, now).await {
                    Err(Reason::StoreAway) if again(&mut tries).await => continue,
                    ended => after_end(reason, ended),
                },
                done => return done,
            };
        }
    }

    /// Sends the INVITE to the backend that the call names now; false where it has no usable URI. A caller that gave up
    /// meanwhile is told of by the next event.
    async fn try_next(&mut self) -> bool {
        self.since = self.shared.clock.now();
        let Some(target) = target_of(&self.call, &self.caller) else { return false };
        match self.relayed.try_target(target).await {
            Ok(()) => self.targets += 1,
            Err(error) => {
                tracing::debug!(entry = %self.call.entry.id, %error, "the next backend was not asked");
            }
        }
        true
    }

    fn refuse(self, reason: Reason) {
        tracing::info!(entry = %self.call.entry.id, reason = reason.label(), fix = reason.row().fix, "relayed call refused");
        self.relayed.give_up(self.shared.settings.refusals.reply(&reason.into()));
    }
}

/// Waits for another try, if one is left.
async fn again(tries: &mut u32) -> bool {
    if *tries == 0 {
        return false;
    }
    *tries -= 1;
    tokio::time::sleep(STORE_PAUSE).await;
    true
}

/// A failure without what the backend said: that may have numbers in it.
fn word(failure: &AttemptFailure) -> &'static str {
    match failure {
        AttemptFailure::Refused(_) => "refused",
        AttemptFailure::Silent => "silent",
        AttemptFailure::Stalled => "nothing after its 100",
        AttemptFailure::Unreachable | AttemptFailure::FlowGone => "unreachable",
    }
}

/// Resolves when the store says that nothing more can come of the call.
async fn over(shared: &Shared, call: &Relaying) {
    let mut look = tokio::time::interval(shared.settings.relay.heartbeat);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if shared.admission.is_over(call).await {
            return;
        }
    }
}
