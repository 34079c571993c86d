//! An answered call: signalling, media and a conversation joined until one of them ends.
//!
//! In: the dialog, the agreed media, a conversation. Out: a [`CallReport`]. Whatever ends the call, all three end
//! with it: BYE is sent or was received, the line tells the conversation, the port is free again.

use std::time::{Duration, Instant};

use iqra_media::conversation::{self, Command, ConversationSink, EndReason as LineEnd, HangUpReason};
use iqra_media::net::{CallOptions as OpenOptions, Leg, MediaPort};
use iqra_media::quality::MediaReport;
use iqra_media::rtp::telephone_event::Digit;
use iqra_media::sdp::{self, Agreement, Capabilities, Change, Negotiated};
use iqra_media::session::recording::{self, Recording, Tap};
use iqra_sip::event::{Body, EndReason, Reply};
use iqra_sip::message::dtmf::{KeyPress, KeyPressError};
use iqra_sip::message::header::ContentType;
use iqra_sip::net::{Call, CallEvent, InDialogRequest};
use iqra_sip::{HeaderName, Headers, Method, StatusCode};
use tokio_util::sync::CancellationToken;

use super::offer::{Exchange, SipMedia, check_type, renew};
use super::refusal::Refused;
use crate::lifecycle::EndCause;

/// Methods that a call answers (RFC 3261 §20.5).
pub(super) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO";

/// What bounds a call, besides the people on it.
#[derive(Debug, Clone)]
pub struct CallOptions {
    /// Hang up after this long; `None` for no limit.
    pub max_duration: Option<Duration>,
    /// Record both directions so: left the far end, right the conversation.
    pub recording: Option<recording::Settings>,
    /// Cancelled when the call has to end.
    pub stop: CancellationToken,
    /// What it ends for then. Default [`EndCause::Shutdown`].
    pub stop_cause: EndCause,
}

impl Default for CallOptions {
    fn default() -> Self {
        let stop = CancellationToken::new();
        Self { max_duration: None, recording: None, stop, stop_cause: EndCause::Shutdown }
    }
}

/// What is known of a call when it is over.
#[derive(Debug, Clone)]
pub struct CallReport {
    /// Why it ended.
    pub cause: EndCause,
    /// From the answer to the end.
    pub duration: Duration,
    /// What the media saw; `None` when media never began.
    pub media: Option<MediaReport>,
    /// What the conversation failed with, if it did.
    pub conversation_error: Option<String>,
}

/// An answered call whose conversation has not begun.
pub struct LiveCall {
    call: Call,
    media: SipMedia,
    exchange: Exchange,
    port: MediaPort,
    capabilities: Capabilities,
}

impl LiveCall {
    pub(super) fn new(
        call: Call,
        media: SipMedia,
        exchange: Exchange,
        port: MediaPort,
        capabilities: Capabilities,
    ) -> Self {
        Self { call, media, exchange, port, capabilities }
    }

    /// Runs the call to its end.
    pub async fn run(self, sink: Box<dyn ConversationSink>, options: CallOptions) -> CallReport {
        let answered = Instant::now();
        let Self { mut call, media, exchange, port, capabilities } = self;
        let agreed = tokio::select! {
            agreed = agree(&mut call, exchange, &capabilities) => agreed,
            () = options.stop.cancelled() => Err(options.stop_cause),
        };
        let agreed = match agreed {
            Ok(agreed) => agreed,
            Err(cause) => return abandon(call, cause, answered).await,
        };
        let negotiated = agreed.negotiated.clone();
        let formats = sink.formats(&negotiated);
        let (recording, tap) =
            options.recording.clone().and_then(|settings| record(settings, &negotiated)).unzip();
        let session = media.session_config();
        let opened = OpenOptions { recording: tap, session, ..OpenOptions::default() };
        let (line, leg) = match media.driver().open_with(port, negotiated, formats, opened) {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(%error, "media not opened");
                return abandon(call, EndCause::Signalling, answered).await;
            }
        };
        let conversation = tokio::spawn(conversation::run(sink, line));
        let mut running = Running { call, leg, agreed, capabilities, offered: None };
        let cause = running.until_end(&options).await;
        let report = running.finish(cause, conversation, answered).await;
        if let Some(recording) = recording {
            finish(recording).await;
        }
        report
    }
}

/// Starts a recording; a call whose recording cannot be made goes on without one.
fn record(settings: recording::Settings, negotiated: &Negotiated) -> Option<(Recording, Tap)> {
    let started = Recording::create(settings, negotiated.codec.sample_rate);
    started.map_err(|error| tracing::warn!(%error, "the call goes on without a recording")).ok()
}

/// Waits until the file is whole.
async fn finish(recording: Recording) {
    match tokio::task::spawn_blocking(|| recording.finish()).await {
        Ok(Ok(recorded)) if recorded.lost_samples > 0 => {
            tracing::warn!(samples = recorded.lost_samples, "the disk was too slow for the recording");
        }
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the recording is not whole"),
        Err(_) => tracing::warn!("the recording's writer panicked"),
    }
}

/// What was agreed; waits for the ACK when it brings the answer.
async fn agree(
    call: &mut Call,
    exchange: Exchange,
    capabilities: &Capabilities,
) -> Result<Agreement, EndCause> {
    let offer = match exchange {
        Exchange::Answered(agreed) => return Ok(*agreed),
        Exchange::Offered(offer) => offer,
    };
    loop {
        match call.next().await {
            Some(CallEvent::Confirmed(ack)) => {
                let agreed = sdp::accept_answer(capabilities, &offer, &ack.body);
                return agreed.map_err(|refusal| {
                    tracing::warn!(%refusal, "the ACK's SDP cannot be taken");
                    EndCause::Signalling
                });
            }
            Some(CallEvent::Request(request)) => {
                // A peer that cancelled it asks for no answer.
                let _ = request.respond(Reply::new(StatusCode::REQUEST_PENDING));
            }
            Some(CallEvent::Ended(reason)) => return Err(cause_of(&reason)),
            Some(_) => {}
            None => return Err(EndCause::Signalling),
        }
    }
}

async fn abandon(call: Call, cause: EndCause, answered: Instant) -> CallReport {
    hang_up(call, cause).await;
    CallReport { cause, duration: answered.elapsed(), media: None, conversation_error: None }
}

async fn hang_up(call: Call, cause: EndCause) {
    let mut headers = Headers::new();
    headers.push(HeaderName::REASON, format!("Q.850;cause={};text=\"{cause}\"", cause.q850()));
    // A dialog that is already over needs no BYE.
    let _ = call.hangup(headers).await;
}

/// A call with media.
struct Running {
    call: Call,
    leg: Leg,
    agreed: Agreement,
    capabilities: Capabilities,
    /// Our offer that the next ACK answers.
    offered: Option<String>,
}

impl Running {
    /// Serves both sides until one of them, or a limit, ends the call.
    async fn until_end(&mut self, options: &CallOptions) -> EndCause {
        let limit = tokio::time::sleep(options.max_duration.unwrap_or(Duration::MAX / 4));
        tokio::pin!(limit);
        loop {
            tokio::select! {
                event = self.call.next() => match event {
                    Some(CallEvent::Confirmed(ack)) => self.confirmed(&ack.body),
                    Some(CallEvent::Request(request)) => self.request(request),
                    Some(CallEvent::Ended(reason)) => return cause_of(&reason),
                    Some(_) => {}
                    None => return EndCause::Signalling,
                },
                command = self.leg.next_command() => match command {
                    Some(Command::HangUp(reason)) => return cause_of_hang_up(&reason),
                    // Dropping the reply tells the conversation that this leg cannot transfer.
                    Some(_) => {}
                    None => return EndCause::ConversationFailed,
                },
                () = &mut limit => return EndCause::DurationLimit,
                () = options.stop.cancelled() => return options.stop_cause,
            }
        }
    }

    /// The ACK of a re-INVITE that brought no offer holds the answer to ours.
    fn confirmed(&mut self, body: &[u8]) {
        let Some(offer) = self.offered.take().filter(|_| !body.is_empty()) else { return };
        match self.agreed.accept_answer(&self.capabilities, &offer, body) {
            Ok(next) => {
                self.change(next);
            }
            Err(refusal) => tracing::warn!(%refusal, "answer in ACK ignored, media goes on as before"),
        }
    }

    /// Whether the media took the change; otherwise it goes on as before.
    fn change(&mut self, (agreed, change): (Agreement, Change)) -> bool {
        let taken = change.is_none() || self.update(agreed.negotiated.clone());
        if taken {
            self.agreed = agreed;
        }
        taken
    }

    fn update(&self, negotiated: Negotiated) -> bool {
        let changed = self.leg.update(negotiated);
        changed.map_err(|error| tracing::warn!(%error, "media goes on as before")).is_ok()
    }

    fn request(&mut self, request: InDialogRequest) {
        let (before, offered) = (self.agreed.clone(), self.offered.clone());
        let reply = match &request.request().method {
            Method::Invite | Method::Update => self.renegotiate(request.request()),
            Method::Options => with_allow(StatusCode::OK),
            // What is no key the stack refuses by itself.
            Method::Info => match self.key(request.request()) {
                Some(reply) => reply,
                None => return,
            },
            _ => with_allow(StatusCode::METHOD_NOT_ALLOWED),
        };
        if request.respond(reply).is_err() {
            self.go_back(before, offered);
        }
    }

    /// The peer cancelled its request before the answer left: the session is what it was (RFC 3261 §14.1).
    fn go_back(&mut self, before: Agreement, offered: Option<String>) {
        self.offered = offered;
        if self.update(before.negotiated.clone()) {
            self.agreed = before;
        }
    }

    /// The key in an INFO goes to the conversation; a flash is none.
    fn key(&self, info: &iqra_sip::Request) -> Option<Reply> {
        let kind = info.headers.typed::<ContentType>().ok()?;
        match KeyPress::read(&kind, &info.body) {
            Ok(press) => {
                if let Some(digit) = Digit::from_char(press.key()) {
                    self.leg.press(digit);
                }
                Some(Reply::new(StatusCode::OK))
            }
            Err(KeyPressError::Type) => None,
            Err(fault) => Some(Reply::new(StatusCode::BAD_REQUEST).reason(fault.to_string())),
        }
    }

    /// A new offer changes the media (hold, another address); none in a re-INVITE asks for ours.
    fn renegotiate(&mut self, request: &iqra_sip::Request) -> Reply {
        let kind = request.headers.get(HeaderName::CONTENT_TYPE);
        if request.body.is_empty() {
            return match request.method {
                Method::Update => Reply::new(StatusCode::OK),
                _ => self.offer(),
            };
        }
        let renewed = check_type(kind.as_deref()).and_then(|()| renew(&mut self.capabilities));
        let next = renewed
            .and_then(|()| self.agreed.answer(&request.body, &self.capabilities).map_err(Refused::Sdp));
        match next.map(|next| self.change(next)) {
            Ok(true) => ok_with(self.agreed.local()),
            Ok(false) => Reply::new(StatusCode::NOT_ACCEPTABLE_HERE),
            Err(refused) => refused.reply(),
        }
    }

    fn offer(&mut self) -> Reply {
        let offer = self.agreed.reoffer(&self.capabilities);
        self.offered = Some(offer.clone());
        ok_with(offer)
    }

    async fn finish(
        self,
        cause: EndCause,
        conversation: tokio::task::JoinHandle<Result<(), conversation::SinkError>>,
        answered: Instant,
    ) -> CallReport {
        let duration = answered.elapsed();
        self.leg.end(line_end(cause));
        hang_up(self.call, cause).await;
        // `conversation::run` gives up by itself 5 s after the line's end.
        let conversation_error = match conversation.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the conversation's task was aborted".to_owned()),
        };
        let media = Some(self.leg.close().await);
        CallReport { cause, duration, media, conversation_error }
    }
}

fn ok_with(sdp: String) -> Reply {
    let mut reply = Reply::new(StatusCode::OK);
    reply.body = Some(Body::sdp(sdp));
    reply
}

fn with_allow(status: StatusCode) -> Reply {
    let mut reply = Reply::new(status);
    reply.headers.push(HeaderName::ALLOW, ALLOW);
    reply
}

fn cause_of(reason: &EndReason) -> EndCause {
    match reason {
        EndReason::Remote { .. } => EndCause::CallerHungUp,
        _ => EndCause::Signalling,
    }
}

fn cause_of_hang_up(reason: &HangUpReason) -> EndCause {
    match reason {
        HangUpReason::Completed | HangUpReason::Asked(_) => EndCause::AgentHungUp,
        HangUpReason::MediaTimeout => EndCause::MediaTimeout,
        HangUpReason::MediaSecurity(_) => EndCause::MediaSecurity,
        _ => EndCause::ConversationFailed,
    }
}

fn line_end(cause: EndCause) -> LineEnd {
    match cause {
        EndCause::CallerHungUp => LineEnd::FarEnd,
        EndCause::MediaTimeout => LineEnd::MediaTimeout,
        EndCause::Shutdown => LineEnd::Shutdown,
        EndCause::Signalling => LineEnd::Failed,
        _ => LineEnd::HungUp,
    }
}
