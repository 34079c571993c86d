//! [`SipProvider`]: calls placed straight over SIP.
//!
//! In: a [`PlaceCall`]. Out: an INVITE with our offer, challenges answered and redirects followed (RFC 3261 §8.1.3.4,
//! §22), and on the answer the same [`LiveCall`] that an inbound call becomes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use iqra_media::conversation::{CallContext, ConversationSink, Direction};
use iqra_media::net::MediaPort;
use iqra_media::sdp::{self, Capabilities};
use iqra_media::session::recording;
use iqra_sip::event::{Body, OutgoingInvite};
use iqra_sip::message::NameAddr;
use iqra_sip::net::{CallPolicy, Endpoint, OutgoingCall, OutgoingEvent};
use iqra_sip::{Headers, Response, StatusCode, Uri};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::live::{CallOptions, LiveCall};
use super::offer::{Exchange, SipMedia};
use crate::client::{PlaceCall, PlacedCall, ProviderCallId, ProviderClient, ProviderError};
use crate::lifecycle::{CallState, EndCause};

/// Calls at a time, by default.
const MAX_CALLS: usize = 1_000;

/// Places calls over SIP.
#[derive(Clone)]
pub struct SipProvider {
    endpoint: Endpoint,
    media: SipMedia,
    policy: CallPolicy,
    calls: Calls,
    room: Arc<Semaphore>,
}

type Calls = Arc<Mutex<HashMap<ProviderCallId, Placed>>>;

struct Placed {
    state: watch::Receiver<CallState>,
    stop: CancellationToken,
}

impl SipProvider {
    /// A provider that signals through `endpoint` and has its media on `media`'s ports.
    #[must_use]
    pub fn new(endpoint: Endpoint, media: SipMedia) -> Self {
        let policy = CallPolicy::default();
        Self { endpoint, media, policy, calls: Calls::default(), room: Arc::new(Semaphore::new(MAX_CALLS)) }
    }

    /// The same with room for so many calls at a time; the default is 1,000.
    #[must_use]
    pub fn max_calls(self, calls: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(calls)), ..self }
    }

    /// The same with what a trunk asks for: credentials, and how its redirects are followed. The default is
    /// [`CallPolicy`]'s: the endpoint's credentials.
    #[must_use]
    pub fn policy(self, policy: CallPolicy) -> Self {
        Self { policy, ..self }
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<ProviderCallId, Placed>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The conversation and the port come first: what they refuse costs no call.
    async fn begin(&self, request: &PlaceCall, call_id: &str) -> Result<Attempt, ProviderError> {
        let to = party("to", &request.to)?;
        let from = party("caller_id", &self.caller_uri(&request.caller_id))?;
        let user = |party: &NameAddr| party.uri.user_decoded().map(Cow::into_owned);
        let context = CallContext {
            id: call_id.to_owned(),
            direction: Direction::Outbound,
            caller: user(&from),
            called: user(&to),
            parameters: Vec::new(),
        };
        let sink = request
            .conversation
            .conversation(&context)
            .await
            .map_err(|refusal| ProviderError::Exhausted(refusal.to_string()))?;
        let (port, capabilities) = self
            .media
            .reserve(Direction::Outbound, fastrand::u64(..) >> 2)
            .map_err(|refused| ProviderError::Exhausted(refused.to_string()))?;
        let offer = sdp::offer(&capabilities);
        let invite = OutgoingInvite {
            uri: to.uri.clone(),
            hops: Vec::new(),
            from,
            to,
            call_id: Some(call_id.to_owned()),
            cseq: 1,
            headers: Headers::new(),
            body: Some(Body::sdp(offer.clone())),
            options: Default::default(),
        };
        Ok(Attempt { sink, port, capabilities, offer, invite })
    }

    /// A number becomes a URI of this endpoint.
    fn caller_uri<'a>(&self, caller_id: &'a str) -> Cow<'a, str> {
        let digits = caller_id.strip_prefix('+').unwrap_or_default();
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        match self.endpoint.listeners().first() {
            Some(listener) if is_number => {
                Uri::sip(Some(caller_id), listener.advertised.ip(), None).as_str().to_owned().into()
            }
            _ => caller_id.into(),
        }
    }

    /// A place for one more call.
    fn room(&self) -> Result<OwnedSemaphorePermit, ProviderError> {
        let room = self.room.clone().try_acquire_owned();
        room.map_err(|_| ProviderError::Exhausted("as many calls as allowed are in progress".to_owned()))
    }
}

/// A call before its answer.
struct Attempt {
    sink: Box<dyn ConversationSink>,
    port: MediaPort,
    capabilities: Capabilities,
    offer: String,
    invite: OutgoingInvite,
}

#[async_trait]
impl ProviderClient for SipProvider {
    fn name(&self) -> &'static str {
        "sip"
    }

    async fn place(&self, request: PlaceCall) -> Result<PlacedCall, ProviderError> {
        let room = self.room()?;
        // Unique is all that a Call-ID has to be (RFC 3261 §8.1.1.4).
        let call_id = format!("{:032x}", fastrand::u128(..));
        let attempt = self.begin(&request, &call_id).await?;
        let outgoing = self
            .endpoint
            .call(attempt.invite.clone(), self.policy.clone())
            .await
            .map_err(|error| ProviderError::Transport(error.to_string()))?;
        let id = ProviderCallId(call_id.into());
        let (states, receiver) = mpsc::channel(8);
        let (current, state) = watch::channel(CallState::Dialling);
        let stop = CancellationToken::new();
        self.calls().insert(id.clone(), Placed { state, stop: stop.clone() });
        let dial = Dial { provider: self.clone(), request, states, current, stop };
        let call = id.clone();
        tokio::spawn(async move {
            let cause = dial.run(attempt, outgoing).await;
            dial.tell(CallState::Ended(cause));
            dial.provider.calls().remove(&call);
            drop(room);
        });
        Ok(PlacedCall { id, states: receiver })
    }

    async fn hang_up(&self, call: &ProviderCallId) -> Result<(), ProviderError> {
        if let Some(placed) = self.calls().get(call) {
            placed.stop.cancel();
        }
        Ok(())
    }

    async fn status(&self, call: &ProviderCallId) -> Result<Option<CallState>, ProviderError> {
        Ok(self.calls().get(call).map(|placed| *placed.state.borrow()))
    }
}

/// One call being dialled.
struct Dial {
    provider: SipProvider,
    request: PlaceCall,
    states: mpsc::Sender<CallState>,
    current: watch::Sender<CallState>,
    stop: CancellationToken,
}

/// How one INVITE ended.
enum Dialled {
    Answered(iqra_sip::net::Call, Arc<Response>),
    Ended(EndCause),
}

impl Dial {
    fn tell(&self, state: CallState) {
        self.current.send_replace(state);
        // There are fewer states than places, and nobody has to listen.
        let _ = self.states.try_send(state);
    }

    async fn run(&self, attempt: Attempt, outgoing: OutgoingCall) -> EndCause {
        // Longer than this nobody rings.
        let ring_limit = self.request.ring_limit.min(Duration::from_secs(24 * 3600));
        let deadline = tokio::time::Instant::now() + ring_limit;
        match self.dial(outgoing, deadline).await {
            Dialled::Answered(call, response) => self.answered(attempt, call, &response).await,
            Dialled::Ended(cause) => cause,
        }
    }

    async fn dial(&self, mut outgoing: OutgoingCall, deadline: tokio::time::Instant) -> Dialled {
        let mut gave_up = None;
        loop {
            let event = tokio::select! {
                event = outgoing.next() => event,
                () = tokio::time::sleep_until(deadline), if gave_up.is_none() => {
                    gave_up = Some(EndCause::NoAnswer);
                    outgoing.cancel(Headers::new()).await;
                    continue;
                }
                () = self.stop.cancelled(), if gave_up.is_none() => {
                    gave_up = Some(EndCause::Cancelled);
                    outgoing.cancel(Headers::new()).await;
                    continue;
                }
            };
            let Some(event) = event else { return Dialled::Ended(EndCause::Signalling) };
            match event {
                OutgoingEvent::Provisional { response, .. } if response.status != StatusCode::TRYING => {
                    self.tell(CallState::Ringing);
                }
                OutgoingEvent::Provisional { .. } | OutgoingEvent::Request { .. } => {}
                OutgoingEvent::Following { .. } => {}
                OutgoingEvent::Answered(call, response) => {
                    // An answer that came before our CANCEL: dropping the call hangs it up.
                    return gave_up.map_or_else(|| Dialled::Answered(call, response), Dialled::Ended);
                }
                OutgoingEvent::Failed(response) | OutgoingEvent::Redirected(response) => {
                    return Dialled::Ended(gave_up.unwrap_or_else(|| cause_of(response.status)));
                }
                _ => return Dialled::Ended(gave_up.unwrap_or(EndCause::Signalling)),
            }
        }
    }

    async fn answered(&self, attempt: Attempt, call: iqra_sip::net::Call, response: &Response) -> EndCause {
        let Attempt { sink, port, capabilities, offer, .. } = attempt;
        let agreed = match sdp::accept_answer(&capabilities, &offer, &response.body) {
            Ok(agreed) => agreed,
            Err(refusal) => {
                tracing::warn!(%refusal, "answered with an SDP that cannot be taken");
                let _ = call.hangup(Headers::new()).await;
                return EndCause::Rejected(488);
            }
        };
        self.tell(CallState::Answered);
        let exchange = Exchange::Answered(Box::new(agreed));
        let live = LiveCall::new(call, self.provider.media.clone(), exchange, port, capabilities);
        let options = CallOptions {
            max_duration: Some(self.request.max_duration),
            recording: self.request.recording.as_ref().map(recording::Settings::new),
            stop: self.stop.clone(),
            stop_cause: EndCause::AgentHungUp,
        };
        live.run(sink, options).await.cause
    }
}

fn party(what: &'static str, text: &str) -> Result<NameAddr, ProviderError> {
    let uri: Result<Uri, _> = text.parse();
    uri.map(NameAddr::new).map_err(|error| ProviderError::Invalid {
        what,
        why: format!("is not a URI: {error}"),
        remedy: "write it as sip:user@host",
    })
}

fn cause_of(status: StatusCode) -> EndCause {
    match status.code() {
        486 | 600 => EndCause::Busy,
        408 | 480 => EndCause::NoAnswer,
        487 => EndCause::Cancelled,
        code => EndCause::Rejected(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_status_becomes_a_cause() {
        let cause = |code| cause_of(StatusCode::new(code).unwrap());
        assert_eq!(cause(486), EndCause::Busy);
        assert_eq!(cause(480), EndCause::NoAnswer);
        assert_eq!(cause(404), EndCause::Rejected(404));
    }

    #[test]
    fn what_is_no_uri_is_refused_with_the_argument_named() {
        let error = party("caller_id", "not a uri").unwrap_err().to_string();
        assert!(error.contains("caller_id") && error.contains("sip:user@host"), "{error}");
    }
}
