//! [`ProviderClient`]: control of calls at a provider, the same for a SIP trunk and for a cloud API.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use iqra_media::conversation::ConversationFactory;
use tokio::sync::mpsc;

use crate::lifecycle::CallState;

/// Control of calls at one provider.
///
/// # Contract
/// - [`place`](Self::place) returns as soon as the provider has taken the request; what becomes of the call comes
///   as [`CallState`]s, the last of which is [`CallState::Ended`]. A provider that refuses at once returns an
///   error and leaves no call behind.
/// - [`hang_up`](Self::hang_up) ends a call in any state and is idempotent: a call that is over, or unknown, is
///   not an error.
/// - No method dials twice: a failed `place` is retried by the caller, who knows whether
///   [`ProviderError::is_retryable`] allows it.
#[async_trait]
pub trait ProviderClient: Send + Sync {
    /// The provider's name in configuration and metrics: `sip`, `twilio`, …
    fn name(&self) -> &'static str;

    /// Places a call and, once answered, runs a conversation on it.
    ///
    /// # Errors
    /// What the provider said; [`ProviderError::is_retryable`] tells whether another try or another provider may
    /// succeed.
    async fn place(&self, request: PlaceCall) -> Result<PlacedCall, ProviderError>;

    /// Ends a call: before the answer it is cancelled, after it is hung up.
    ///
    /// # Errors
    /// Only when the provider could not be told.
    async fn hang_up(&self, call: &ProviderCallId) -> Result<(), ProviderError>;

    /// Where a call stands; `None` when the provider does not know it (any more).
    ///
    /// # Errors
    /// When the provider could not be asked.
    async fn status(&self, call: &ProviderCallId) -> Result<Option<CallState>, ProviderError>;
}

/// The provider's own name of a call: a SIP Call-ID, a Twilio call SID, …
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProviderCallId(pub Arc<str>);

/// A call to be placed.
pub struct PlaceCall {
    /// Whom to call: a SIP URI (`sip:+15550100@trunk.example`), or what the provider takes.
    pub to: String,
    /// The caller id to show: a SIP URI or an E.164 number.
    pub caller_id: String,
    /// Makes the conversation once the call is answered.
    pub conversation: Arc<dyn ConversationFactory>,
    /// Give up when nobody answered for this long. Default 60 s.
    pub ring_limit: Duration,
    /// Hang up after this long. Default 1 h.
    pub max_duration: Duration,
    /// Where both directions are recorded as a stereo WAV: left the far end, right our conversation.
    pub recording: Option<std::path::PathBuf>,
}

impl PlaceCall {
    /// A call with the default limits.
    pub fn new(
        to: impl Into<String>,
        caller_id: impl Into<String>,
        conversation: Arc<dyn ConversationFactory>,
    ) -> Self {
        Self {
            to: to.into(),
            caller_id: caller_id.into(),
            conversation,
            ring_limit: Duration::from_secs(60),
            max_duration: Duration::from_secs(3600),
            recording: None,
        }
    }
}

impl fmt::Debug for PlaceCall {
    /// Without the numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaceCall")
            .field("ring_limit", &self.ring_limit)
            .field("max_duration", &self.max_duration)
            .finish_non_exhaustive()
    }
}

/// A call that the provider has taken.
#[derive(Debug)]
pub struct PlacedCall {
    /// The name to hang it up by.
    pub id: ProviderCallId,
    /// Its states in order; closes after [`CallState::Ended`].
    pub states: mpsc::Receiver<CallState>,
}

/// Why a provider did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// The caller's code asked for something that cannot be.
    #[error("{what} {why}; {remedy}")]
    Invalid {
        /// The argument at fault.
        what: &'static str,
        /// What is wrong with it.
        why: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Our own limits are reached: RTP ports, calls.
    #[error("no room for another call: {0}")]
    Exhausted(String),
    /// The network or the provider's transport failed.
    #[error("could not reach the provider: {0}")]
    Transport(String),
}

impl ProviderError {
    /// Whether the same request may succeed later or elsewhere.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Invalid { .. })
    }
}
