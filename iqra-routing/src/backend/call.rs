//! One call at the backend: claim, prepare, ring, commit, answer, converse, finish.
//!
//! Whatever fails, the claim is given back or finished with the reason, so entry and slot end with the call. A
//! repetition of the INVITE before the answer displaces the first: it is served and the first hears 482.

use std::time::Duration;

use iqra_media::conversation::{ConversationSink, SinkRefusal};
use iqra_providers::lifecycle::EndCause;
use iqra_providers::sip::{CallOptions, CallReport, Inbound, LiveCall, Refused, Rung, SipMedia};
use iqra_sip::net::IncomingInvite;
use iqra_sip::{HeaderName, Headers, Request};
use tokio_util::sync::CancellationToken;

use super::{Ended, Gate, Shared};
use crate::handover::claim::{Claim, Claims};
use crate::handover::outcome::{CallRecord, EndedBy, Outcome};
use crate::handover::token::MIN_TOKEN;
use crate::reason::Reason;
use crate::sip::{ALLOW, TOKEN_PARAM, caller};

/// How often an outcome is written again while the store is away, and how long between.
const FINISH_TRIES: u32 = 30;
const FINISH_PAUSE: Duration = Duration::from_secs(1);

impl Shared {
    pub(super) async fn call(&self, invite: IncomingInvite) {
        match &self.gate {
            Gate::Open => self.open_call(invite).await,
            Gate::Claims(gate) => self.claimed_call(&gate.0, invite).await,
        }
    }

    /// A call without a proxy: nothing to claim, nothing to write.
    async fn open_call(&self, invite: IncomingInvite) {
        let (inbound, sink) = match self.prepare(invite, &self.media).await {
            Ok(prepared) => prepared,
            Err((refusing, refused)) => return refusing.reject(&refused),
        };
        let Rung::Answer(inbound) = inbound.ring(Duration::ZERO, &self.stop).await else { return };
        if let Ok(live) = inbound.accept(answer_headers()).await {
            let report = live.run(sink, self.options(None, None)).await;
            self.tell(Ended { report, record: None });
        }
    }

    async fn claimed_call(&self, claims: &Claims, invite: IncomingInvite) {
        let claim = match self.claim(claims, invite.request()).await {
            Ok(claim) => claim,
            Err(reason) => {
                tracing::info!(reason = reason.label(), fix = reason.row().fix, "refused");
                return invite.reject(self.settings.refusals.reply(&reason.into()));
            }
        };
        let Some(displaced) = self.answering.begin(claim.entry.id) else {
            return invite.reject(self.settings.refusals.reply(&Reason::AlreadyAnswered.into()));
        };
        if let Some((live, sink)) = self.answer(claims, &claim, invite, &displaced).await {
            let report = self.converse(claims, &claim, live, sink).await;
            let record = self.finish(claims, &claim, outcome(report.cause)).await;
            self.tell(Ended { report, record });
        }
        self.answering.end(claim.entry.id, &displaced);
    }

    async fn claim(&self, claims: &Claims, request: &Request) -> Result<Claim, Reason> {
        let caller = caller(&request.headers).map_err(|_| Reason::Malformed)?;
        let param = request.uri.param_decoded(TOKEN_PARAM);
        let user = request.uri.user_decoded().filter(|user| user.len() >= MIN_TOKEN);
        claims.claim(param.or(user).as_deref(), &caller, self.clock.now()).await
    }

    /// From the claim to the 200; `None` when the call was refused or given up, and then the claim is dealt with.
    async fn answer(
        &self,
        claims: &Claims,
        claim: &Claim,
        invite: IncomingInvite,
        displaced: &CancellationToken,
    ) -> Option<(LiveCall, Box<dyn ConversationSink>)> {
        let terms = claim.entry.terms.clone();
        let media = self.media.preferring(&terms.codecs);
        let (inbound, sink) = match self.prepare(invite, &media).await {
            Ok(prepared) => prepared,
            Err((refusing, refused)) => {
                self.release(claims, claim, &refused).await;
                refusing.reject(&refused);
                return None;
            }
        };
        let inbound = match inbound.ring(terms.answer_delay, displaced).await {
            Rung::Answer(inbound) if self.answering.settle(claim.entry.id, displaced) => inbound,
            Rung::Cancelled => {
                self.cancelled(claims, claim).await;
                return None;
            }
            Rung::Answer(inbound) | Rung::Stopped(inbound) => {
                inbound.reject(self.settings.refusals.reply(&Reason::Superseded.into()));
                return None;
            }
        };
        if let Err(reason) = claims.commit(claim, self.clock.now()).await {
            inbound.reject(self.settings.refusals.reply(&reason.into()));
            return None;
        }
        match inbound.accept(answer_headers()).await {
            Ok(live) => Some((live, sink)),
            Err(_) => {
                self.finish(claims, claim, Outcome::Failed(Reason::Cancelled)).await;
                None
            }
        }
    }

    /// The media half and the conversation; nothing was answered when either refuses.
    async fn prepare(
        &self,
        invite: IncomingInvite,
        media: &SipMedia,
    ) -> Result<(Inbound, Box<dyn ConversationSink>), (Refusing, Refused)> {
        let inbound = Inbound::prepare(invite, media)
            .map_err(|(invite, refused)| (Refusing::Invite(invite), refused))?;
        match self.factory.conversation(&inbound.context()).await {
            Ok(sink) => Ok((inbound, sink)),
            Err(refusal) => Err((Refusing::Inbound(inbound), refused_by(&refusal))),
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
            self.settings.recordings.as_ref().map(|folder| folder.join(format!("{}.wav", claim.entry.id)));
        let run = live.run(sink, self.options(claim.entry.terms.max_duration, recording));
        tokio::pin!(run);
        let mut renewal = tokio::time::interval(claims.lease_life / 3);
        loop {
            tokio::select! {
                report = &mut run => return report,
                _ = renewal.tick() => {
                    if let Err(reason) = claims.renew(claim, self.clock.now()).await {
                        tracing::warn!(entry = %claim.entry.id, %reason, "slot not renewed; tried again");
                    }
                }
            }
        }
    }

    fn options(&self, max_duration: Option<Duration>, recording: Option<std::path::PathBuf>) -> CallOptions {
        let limit = self.settings.max_duration;
        let max_duration = Some(max_duration.map_or(limit, |own| own.min(limit)));
        CallOptions { max_duration, recording, stop: self.stop.clone() }
    }

    async fn release(&self, claims: &Claims, claim: &Claim, refused: &Refused) {
        let reason = match refused {
            Refused::Ports(_) => Reason::NoMediaPort,
            Refused::Conversation { .. } => Reason::ConversationRefused,
            _ => Reason::UnsupportedMedia,
        };
        tracing::info!(entry = %claim.entry.id, reason = reason.label(), why = %refused, "refused after the claim");
        if let Err(error) = claims.release(claim, refused.status(), reason, self.clock.now()).await {
            tracing::info!(entry = %claim.entry.id, %error, "claim was not there to give back");
        }
    }

    async fn cancelled(&self, claims: &Claims, claim: &Claim) {
        if let Err(error) = claims.cancelled(claim, self.clock.now()).await {
            tracing::info!(entry = %claim.entry.id, %error, "cancelled call was not there to end");
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
        tracing::error!(entry = %claim.entry.id, "outcome lost: the store stayed away for {FINISH_TRIES} tries");
        None
    }

    fn tell(&self, ended: Ended) {
        tracing::info!(cause = %ended.report.cause, seconds = ended.report.duration.as_secs(), "call over");
        if let Some(on_end) = &self.on_end {
            on_end(&ended);
        }
    }
}

/// What is refused: before or after its media was prepared.
enum Refusing {
    Invite(IncomingInvite),
    Inbound(Inbound),
}

impl Refusing {
    fn reject(self, refused: &Refused) {
        match self {
            Self::Invite(invite) => invite.reject(refused.reply()),
            Self::Inbound(inbound) => inbound.reject(refused.reply()),
        }
    }
}

fn refused_by(refusal: &SinkRefusal) -> Refused {
    Refused::Conversation { status: refusal.status, reason: refusal.reason.clone() }
}

fn answer_headers() -> Headers {
    let mut headers = Headers::new();
    headers.push(HeaderName::ALLOW, ALLOW);
    headers
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
