//! The AI's side of a call: what a conversation is, and who makes one for a call.
//!
//! In: a [`Line`] with audio and events. Out: audio, digits and commands through the same line. The factory runs
//! before the call is answered, so that its refusal becomes a SIP status (RFC 3261 §21) and not a silent call.

use std::error::Error;
use std::fmt;
use std::future::Future;

use async_trait::async_trait;

use super::Line;
use crate::sdp::Negotiated;

/// Mono 16-bit linear audio at one of the rates that a conversation can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AudioFormat {
    sample_rate: u32,
}

impl AudioFormat {
    /// 8 kHz, what G.711 carries.
    pub const HZ_8000: Self = Self { sample_rate: 8_000 };
    /// 16 kHz, what most speech recognisers want.
    pub const HZ_16000: Self = Self { sample_rate: 16_000 };
    /// 24 kHz, what most speech synthesisers give.
    pub const HZ_24000: Self = Self { sample_rate: 24_000 };
    /// 48 kHz, what Opus carries.
    pub const HZ_48000: Self = Self { sample_rate: 48_000 };

    /// The format of a sample rate in Hz.
    ///
    /// # Errors
    /// [`UnsupportedRate`] unless the rate is 8000, 16000, 24000 or 48000.
    pub fn new(sample_rate: u32) -> Result<Self, UnsupportedRate> {
        match sample_rate {
            8_000 | 16_000 | 24_000 | 48_000 => Ok(Self { sample_rate }),
            _ => Err(UnsupportedRate(sample_rate)),
        }
    }

    /// Samples per second.
    pub fn sample_rate(self) -> u32 {
        self.sample_rate
    }

    /// How many samples last `millis` milliseconds.
    pub fn samples_in_millis(self, millis: u32) -> usize {
        (u64::from(self.sample_rate) * u64::from(millis) / 1_000) as usize
    }
}

/// A sample rate that a line does not convert to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line speaks 8000, 16000, 24000 or 48000 Hz, not {0}: convert the audio to one of these first")]
pub struct UnsupportedRate(pub u32);

/// What a conversation hears and what it speaks; they may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    /// The format of the frames that [`Hearing`](super::Hearing) gives.
    pub hears: AudioFormat,
    /// The format of the samples that [`Speaking`](super::Speaking) takes.
    pub speaks: AudioFormat,
}

impl Formats {
    /// The same format in both directions.
    pub const fn both(format: AudioFormat) -> Self {
        Self { hears: format, speaks: format }
    }

    /// The rate of the negotiated codec in both directions, so that nothing needs resampling; 48 kHz for a codec
    /// whose rate a line does not offer.
    pub fn of_codec(line: &Negotiated) -> Self {
        Self::both(AudioFormat::new(line.codec.sample_rate).unwrap_or(AudioFormat::HZ_48000))
    }
}

/// The AI's side of one call.
///
/// # Contract
/// 1. [`formats`](Self::formats) is called once, when the codec is known and before the line exists.
/// 2. [`converse`](Self::converse) is then called once and runs for the length of the call, usually by
///    [`run`](super::run).
/// 3. `Ok` lets everything that was spoken play out and then hangs up; `Err` or a panic hangs up at once with the
///    reason.
/// 4. After [`Event::End`](super::Event::End) the conversation has 5 seconds to return; then its future is dropped.
/// 5. A conversation that does not listen loses the oldest audio (counted), never an event, and never slows the call.
#[async_trait]
pub trait ConversationSink: Send {
    /// What it wants to hear and what it speaks, given what was negotiated.
    fn formats(&self, line: &Negotiated) -> Formats;

    /// Holds the conversation.
    ///
    /// # Errors
    /// Whatever ended it early; the call is then hung up with the error's reason.
    async fn converse(self: Box<Self>, line: Line) -> Result<(), SinkError>;
}

/// Makes the conversation of each call.
///
/// # Contract
/// Called once per call before anything is answered. A refusal is sent to the caller as its SIP status. The call may
/// be gone when it returns; the conversation is then dropped without having conversed.
///
/// Closures that return a future are factories: `|_call| async { Ok(Echo::default()) }`.
#[async_trait]
pub trait ConversationFactory: Send + Sync {
    /// The conversation for `call`.
    ///
    /// # Errors
    /// [`SinkRefusal`] when this call shall not be taken.
    async fn conversation(&self, call: &CallContext) -> Result<Box<dyn ConversationSink>, SinkRefusal>;
}

#[async_trait]
impl<F, Making, S> ConversationFactory for F
where
    F: Fn(CallContext) -> Making + Send + Sync,
    Making: Future<Output = Result<S, SinkRefusal>> + Send,
    S: ConversationSink + 'static,
{
    async fn conversation(&self, call: &CallContext) -> Result<Box<dyn ConversationSink>, SinkRefusal> {
        let sink = self(call.clone()).await?;
        Ok(Box::new(sink))
    }
}

/// Who began a call, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Someone called us.
    #[default]
    Inbound,
    /// We called someone.
    Outbound,
}

/// What is known of a call when its conversation is made. `Debug` shows no numbers and no parameter values.
#[derive(Clone, Default)]
pub struct CallContext {
    /// The id of the call in logs and records.
    pub id: String,
    /// Who began it.
    pub direction: Direction,
    /// The caller's number or SIP user part, where it was given.
    pub caller: Option<String>,
    /// The dialled number or SIP user part.
    pub called: Option<String>,
    /// What the provider or the route adds (business, phone id, custom parameters), as name and value.
    pub parameters: Vec<(String, String)>,
}

impl CallContext {
    /// The value of the first parameter of that name; names compare without case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.parameters.iter().map(|(name, _)| name).collect();
        f.debug_struct("CallContext")
            .field("id", &self.id)
            .field("direction", &self.direction)
            .field("parameters", &names)
            .finish_non_exhaustive()
    }
}

/// A call that no conversation is made for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no conversation for this call: {reason} (answer {status})")]
pub struct SinkRefusal {
    /// The SIP status to answer with, 400 to 699.
    pub status: u16,
    /// Why, for the log and the `Reason` header; no numbers, no credentials.
    pub reason: String,
}

impl SinkRefusal {
    /// A refusal with a SIP status; one outside 400 to 699 becomes 500.
    pub fn new(status: u16, reason: impl Into<String>) -> Self {
        let status = if (400..700).contains(&status) { status } else { 500 };
        Self { status, reason: reason.into() }
    }

    /// Not now: 480 (RFC 3261 §21.4.18).
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::new(480, reason)
    }
}

/// Why a conversation ended before its time.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct SinkError {
    reason: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl SinkError {
    /// An error in words; no numbers, no credentials, since it is logged.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), source: None }
    }

    /// An error with its cause.
    pub fn because(reason: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { reason: reason.into(), source: Some(source.into()) }
    }
}

impl From<std::io::Error> for SinkError {
    fn from(error: std::io::Error) -> Self {
        Self { reason: error.to_string(), source: Some(Box::new(error)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::Echo;

    async fn made_by(factory: impl ConversationFactory) -> Result<Box<dyn ConversationSink>, SinkRefusal> {
        factory.conversation(&CallContext { id: "c1".into(), ..CallContext::default() }).await
    }

    #[tokio::test]
    async fn a_closure_is_a_factory() {
        assert!(made_by(|_call| async { Ok(Echo::default()) }).await.is_ok());
    }

    #[tokio::test]
    async fn a_closure_reads_the_call_and_refuses() {
        let refusal = made_by(|call: CallContext| async move {
            if call.caller.is_none() {
                return Err(SinkRefusal::new(433, "anonymous callers are not taken"));
            }
            Ok(Echo::default())
        });
        assert_eq!(refusal.await.err().unwrap().status, 433);
    }

    #[test]
    fn debug_of_a_call_shows_no_number() {
        let call = CallContext {
            caller: Some("+15550001".into()),
            parameters: vec![("X-Key".into(), "secret".into())],
            ..CallContext::default()
        };
        let shown = format!("{call:?}");
        assert!(!shown.contains("5550001") && !shown.contains("secret"), "{shown}");
        assert_eq!(call.parameter("x-key"), Some("secret"));
    }

    #[test]
    fn only_the_four_rates_are_formats() {
        assert_eq!(AudioFormat::new(44_100), Err(UnsupportedRate(44_100)));
        assert_eq!(AudioFormat::new(24_000).map(|f| f.samples_in_millis(20)), Ok(480));
    }

    #[test]
    fn a_status_that_is_no_refusal_becomes_500() {
        assert_eq!(SinkRefusal::new(200, "no").status, 500);
    }
}
