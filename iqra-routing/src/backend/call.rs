//! One call at the backend: claim, weigh, commit, answer, converse, finish.
//!
//! Whatever fails, the claim is given back or finished with the reason, so entry and slot end with the call. A
//! repetition of the INVITE before the answer displaces the first: it is served and the first hears 482. The slot is
//! renewed from the claim on, for a call may ring longer than a lease lives.

use std::convert::Infallible;
use std::time::Duration;

use iqra_media::conversation::{CallContext, ConversationSink, SinkRefusal};
use iqra_media::session::recording::Settings;
use iqra_providers::lifecycle::EndCause;
use iqra_providers::sip::{CallOptions, CallReport, Inbound, LiveCall, Refused, Rung};
use iqra_sip::event::{EngineError, Reply};
use iqra_sip::message::header::CSeq;
use iqra_sip::net::{Error, IncomingInvite};
use iqra_sip::{Headers, Request};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::task::AbortOnDropHandle;

use super::{Ended, Gate, PARAM_BUSINESS, PARAM_PHONE, PARAM_ROUTE, Shared};
use crate::handover::claim::{Claim, Claims};
use crate::handover::outcome::{CallRecord, EndedBy, Outcome};
use crate::handover::token::MIN_TOKEN;
use crate::queue::Entry;
use crate::reason::Reason;
use crate::sip::{TOKEN_PARAM, caller};

/// How often an outcome is written again while the store is away, and how long between.
const FINISH_TRIES: u32 = 30;
const FINISH_PAUSE: Duration = Duration::from_secs(1);
/// How long a factory may take to make a conversation.
const FACTORY_LIMIT: Duration = Duration::from_secs(30);

/// What is to be done with an INVITE.
enum Verdict {
    /// Answer it.
    Answer(Box<Inbound>, Box<dyn ConversationSink>),
    /// Refuse it.
    Refuse(IncomingInvite, Refused),
    /// The caller gave up, and has heard 487.
    Cancelled,
    /// A repetition took its place, or the drain limit passed.
    Stopped(IncomingInvite),
}

impl Shared {
    pub(super) async fn call(&self, invite: IncomingInvite) {
        match &self.gate {
            Gate::Open => self.open_call(invite).await,
            Gate::Claims(gate) => self.claimed_call(&gate.0, invite).await,
        }
    }

    /// A call without a proxy: nothing to claim, nothing to write.
    async fn open_call(&self, invite: IncomingInvite) {
        match self.weigh(invite, None, self.stop.cancelled()).await {
            Verdict::Answer(inbound, sink) => {
                if let Ok(live) = inbound.accept(Headers::new()).await {
                    let report = live.run(sink, self.options(None, None)).await;
                    self.tell(Ended { report, record: None });
                }
            }
            Verdict::Refuse(invite, refused) => {
                invite.reject(self.refusal(&refused));
            }
            Verdict::Cancelled => {}
            Verdict::Stopped(invite) => self.refuse(invite, Reason::Draining),
        }
    }

    async fn claimed_call(&self, claims: &Claims, invite: IncomingInvite) {
        let claim = match self.claim(claims, invite.request()).await {
            Ok(claim) => claim,
            Err(reason) => {
                tracing::info!(reason = reason.label(), fix = reason.row().fix, "refused");
                return self.refuse(invite, reason);
            }
        };
        let cseq = invite.request().headers.typed::<CSeq>().map_or(0, |cseq| cseq.number);
        let turn = match self.answering.begin(claim.entry.id, cseq) {
            Ok(turn) => turn,
            Err(reason) => return self.refuse(invite, reason),
        };
        let over = async {
            tokio::select! {
                () = turn.displaced() => {}
                () = self.stop.cancelled() => {}
            }
        };
        let verdict = tokio::select! {
            verdict = self.weigh(invite, Some(&claim.entry), over) => verdict,
            never = self.keep_slot(claims, &claim) => match never {},
        };
        if turn.settle() {
            self.carry_out(verdict, claims, &claim).await;
        } else {
            verdict.reject(self.reply(Reason::Superseded));
        }
    }

    async fn claim(&self, claims: &Claims, request: &Request) -> Result<Claim, Reason> {
        let caller = caller(&request.headers).map_err(|_| Reason::Malformed)?;
        let param = request.uri.param_decoded(TOKEN_PARAM);
        let user = request.uri.user_decoded().filter(|user| user.len() >= MIN_TOKEN);
        let token = param.or(user);
        if token.is_none() && self.draining.is_cancelled() {
            return Err(Reason::Draining);
        }
        claims.claim(token.as_deref(), &caller, self.clock.now()).await
    }

    /// Media, conversation and ringing: all that may take time or refuse before the call is decided. `over` ends it.
    async fn weigh(
        &self,
        invite: IncomingInvite,
        entry: Option<&Entry>,
        over: impl Future<Output = ()>,
    ) -> Verdict {
        tokio::pin!(over);
        let mut inbound = match self.prepare(invite, entry) {
            Ok(inbound) => inbound,
            Err((invite, refused)) => return Verdict::Refuse(invite, refused),
        };
        let context = context(&inbound, entry);
        let made = tokio::select! {
            biased;
            () = inbound.cancelled() => return Verdict::Cancelled,
            () = &mut over => return Verdict::Stopped(inbound.into_invite()),
            made = self.conversation(context) => made,
        };
        let sink = match made {
            Ok(sink) => sink,
            Err(refusal) => return Verdict::Refuse(inbound.into_invite(), refused_by(&refusal)),
        };
        let delay = entry.map(|entry| entry.terms.answer_delay).unwrap_or_default();
        match inbound.ring(delay, over).await {
            Rung::Answer(inbound) => Verdict::Answer(Box::new(inbound), sink),
            Rung::Cancelled => Verdict::Cancelled,
            Rung::Stopped(inbound) => Verdict::Stopped(inbound.into_invite()),
        }
    }

    #[allow(clippy::result_large_err)] // As there.
    fn prepare(
        &self,
        invite: IncomingInvite,
        entry: Option<&Entry>,
    ) -> Result<Inbound, (IncomingInvite, Refused)> {
        let codecs = entry.map(|entry| &*entry.terms.codecs).unwrap_or_default();
        match self.media.preferring(codecs) {
            Ok(media) => Inbound::prepare(invite, &media),
            Err(refused) => Err((invite, refused)),
        }
    }

    /// The conversation. A factory that panics or takes too long refuses the call.
    async fn conversation(&self, context: CallContext) -> Result<Box<dyn ConversationSink>, SinkRefusal> {
        let factory = self.factory.clone();
        let making = tokio::spawn(async move { factory.conversation(&context).await });
        match tokio::time::timeout(FACTORY_LIMIT, AbortOnDropHandle::new(making)).await {
            Ok(Ok(made)) => made,
            Ok(Err(_)) => Err(SinkRefusal::new(500, "the factory of conversations panicked")),
            Err(_) => Err(SinkRefusal::unavailable("the conversation was not ready in time")),
        }
    }

    async fn carry_out(&self, verdict: Verdict, claims: &Claims, claim: &Claim) {
        match verdict {
            Verdict::Answer(inbound, sink) => self.answer(claims, claim, *inbound, sink).await,
            Verdict::Refuse(invite, refused) => {
                let reason = reason_of(&refused);
                tracing::info!(entry = %claim.entry.id, reason = reason.label(), why = %refused, "refused after the claim");
                self.release(claims, claim, refused.status(), reason).await;
                invite.reject(self.refusal(&refused));
            }
            Verdict::Cancelled => {
                if let Err(error) = claims.cancelled(claim, self.clock.now()).await {
                    tracing::info!(entry = %claim.entry.id, %error, "cancelled call was not there to end");
                }
            }
            Verdict::Stopped(invite) => {
                self.release(claims, claim, 503, Reason::Draining).await;
                self.refuse(invite, Reason::Draining);
            }
        }
    }

    /// Commit, 200, the call itself, its outcome.
    async fn answer(
        &self,
        claims: &Claims,
        claim: &Claim,
        inbound: Inbound,
        sink: Box<dyn ConversationSink>,
    ) {
        if let Err(reason) = claims.commit(claim, self.clock.now()).await {
            inbound.reject(self.reply(reason));
            if reason == Reason::StoreAway {
                // The commit may count, and only its reply be lost: nobody else would end the entry then.
                self.finish(claims, claim, Outcome::Failed(reason)).await;
            }
            return;
        }
        match inbound.accept(Headers::new()).await {
            Ok(live) => {
                let report = self.converse(claims, claim, live, sink).await;
                let record = self.finish(claims, claim, outcome(report.cause)).await;
                self.tell(Ended { report, record });
            }
            Err(error) => drop(self.finish(claims, claim, Outcome::Failed(unanswered(&error))).await),
        }
    }

    /// Runs the call and keeps its slot.
    async fn converse(
        &self,
        claims: &Claims,
        claim: &Claim,
        live: LiveCall,
        sink: Box<dyn ConversationSink>,
    ) -> CallReport {
        let recording =
            self.settings.recordings.as_ref().and_then(|recordings| recordings.of(claim.entry.id));
        tokio::select! {
            report = live.run(sink, self.options(claim.entry.terms.max_duration, recording)) => report,
            never = self.keep_slot(claims, claim) => match never {},
        }
    }

    /// Renews the slot for as long as it is polled.
    async fn keep_slot(&self, claims: &Claims, claim: &Claim) -> Infallible {
        let every = (claims.lease_life / 3).max(Duration::from_millis(10));
        let mut renewal = interval_at(Instant::now() + every, every);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            renewal.tick().await;
            if let Err(reason) = claims.renew(claim, self.clock.now()).await {
                tracing::warn!(entry = %claim.entry.id, %reason, "slot not renewed; tried again");
            }
        }
    }

    fn options(&self, max_duration: Option<Duration>, recording: Option<Settings>) -> CallOptions {
        let limit = self.settings.max_duration;
        let max_duration = Some(max_duration.map_or(limit, |own| own.min(limit)));
        CallOptions { max_duration, recording, stop: self.stop.clone(), ..CallOptions::default() }
    }

    async fn release(&self, claims: &Claims, claim: &Claim, status: u16, reason: Reason) {
        if let Err(error) = claims.release(claim, status, reason, self.clock.now()).await {
            tracing::info!(entry = %claim.entry.id, %error, "claim was not there to give back");
        }
    }

    /// Writes the outcome, again and again while the store is away.
    async fn finish(&self, claims: &Claims, claim: &Claim, outcome: Outcome) -> Option<CallRecord> {
        for _ in 0..FINISH_TRIES {
            match claims.finish(claim, outcome, self.clock.now()).await {
                Ok(record) => return Some(record),
                Err(Reason::StoreAway) => tokio::time::sleep(FINISH_PAUSE).await,
                Err(error) => {
                    tracing::warn!(entry = %claim.entry.id, %error, "outcome not written");
                    return None;
                }
            }
        }
        tracing::error!(entry = %claim.entry.id, "outcome or slot not written: a store stayed away for {FINISH_TRIES} tries");
        None
    }

    /// Refuses; a caller that gave up meanwhile has its answer.
    pub(super) fn refuse(&self, invite: IncomingInvite, reason: Reason) {
        invite.reject(self.reply(reason));
    }

    fn reply(&self, reason: Reason) -> Reply {
        self.settings.refusals.reply(&reason.into())
    }

    /// The response to what the media half or the conversation refused.
    fn refusal(&self, refused: &Refused) -> Reply {
        let words = match refused {
            Refused::Conversation { reason, .. } => Some(reason.as_str()),
            _ => None,
        };
        self.settings.refusals.refused_with(refused.reply(), reason_of(refused), words)
    }

    fn tell(&self, ended: Ended) {
        tracing::info!(cause = %ended.report.cause, seconds = ended.report.duration.as_secs(), "call over");
        if let Some(on_end) = &self.on_end {
            on_end(&ended);
        }
    }
}

impl Verdict {
    /// Refuses whatever was decided, unless the caller gave up.
    fn reject(self, reply: Reply) {
        match self {
            Self::Answer(inbound, _) => inbound.reject(reply),
            Self::Refuse(invite, _) | Self::Stopped(invite) => {
                invite.reject(reply);
            }
            Self::Cancelled => {}
        }
    }
}

/// What a factory is told of a call; a proxy's entry adds its id and what the number says.
fn context(inbound: &Inbound, entry: Option<&Entry>) -> CallContext {
    let context = inbound.context();
    let Some(entry) = entry else { return context };
    let named = [
        (PARAM_BUSINESS, entry.key.business.as_str()),
        (PARAM_PHONE, entry.key.phone.as_str()),
        (PARAM_ROUTE, entry.terms.route.as_str()),
    ];
    let parameters = named.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    CallContext { id: entry.id.to_string(), parameters, ..context }
}

fn refused_by(refusal: &SinkRefusal) -> Refused {
    Refused::Conversation { status: refusal.status, reason: refusal.reason.clone() }
}

fn reason_of(refused: &Refused) -> Reason {
    match refused {
        Refused::Overloaded(_) => Reason::Overload,
        Refused::Ports(_) | Refused::Keys(_) => Reason::NoMediaPort,
        Refused::Conversation { .. } => Reason::ConversationRefused,
        _ => Reason::UnsupportedMedia,
    }
}

/// Why a call that was committed got no 200.
fn unanswered(error: &Error) -> Reason {
    match error {
        Error::Engine(EngineError::Header(_)) => Reason::Malformed,
        _ => Reason::Cancelled,
    }
}

fn outcome(cause: EndCause) -> Outcome {
    match cause {
        EndCause::CallerHungUp => Outcome::Completed(EndedBy::Caller),
        EndCause::AgentHungUp => Outcome::Completed(EndedBy::Conversation),
        EndCause::DurationLimit => Outcome::Completed(EndedBy::DurationLimit),
        EndCause::Shutdown => Outcome::Completed(EndedBy::Drain),
        EndCause::ConversationFailed => Outcome::Failed(Reason::Internal),
        _ => Outcome::Completed(EndedBy::Network),
    }
}
