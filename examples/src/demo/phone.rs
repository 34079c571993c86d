//! The demo's phone: hears the greeting, speaks over it, waits for silence and then for the answer, presses keys,
//! hangs up. What it heard decides whether the demo worked.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use iqra_media::conversation::{ConversationSink, Formats, Heard, Hearing, Line, SinkError, Speaking};
use iqra_media::detect::goertzel::purity;
use iqra_media::sdp::Negotiated;

use super::voice::{ANSWER, CALLER, Ear, FORMAT, GREETING, KEY, RATE, note};

/// The keys that the phone presses.
pub const KEYS: &str = "42#";

/// What the phone heard, with times since its conversation began (the answer).
#[derive(Debug, Default, Clone)]
pub struct PhoneNotes {
    /// The first audio above the floor.
    pub first_audio: Option<Duration>,
    /// How long it took the agent to fall silent after the phone began to speak.
    pub stopped_after: Option<Duration>,
    /// How long after the phone had finished the answer began.
    pub answered_after: Option<Duration>,
    /// Whether the greeting's notes were recognised.
    pub greeting: bool,
    /// How many key confirmations were recognised.
    pub confirmations: usize,
    /// What it waited for in vain.
    pub missed: Option<String>,
}

impl PhoneNotes {
    /// Whether everything that should be heard was.
    #[must_use]
    pub fn worked(&self) -> bool {
        self.greeting
            && self.stopped_after.is_some()
            && self.answered_after.is_some()
            && self.confirmations == KEYS.len()
    }
}

/// The phone of one call.
#[derive(Debug)]
pub struct DemoPhone {
    notes: Arc<Mutex<PhoneNotes>>,
}

/// How long the phone waits for any one thing.
const PATIENCE: Duration = Duration::from_secs(5);

impl DemoPhone {
    /// A phone that writes into `notes`.
    pub fn new(notes: Arc<Mutex<PhoneNotes>>) -> Self {
        Self { notes }
    }

    fn note(&self, write: impl FnOnce(&mut PhoneNotes)) {
        write(&mut self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    async fn talk(&self, hearing: &mut Hearing, speaking: &Speaking) -> Result<(), SinkError> {
        let answered = Instant::now();
        until(hearing, "the greeting", Ear::is_loud).await?;
        self.note(|notes| notes.first_audio = Some(answered.elapsed()));
        for hz in GREETING {
            until(hearing, "the greeting's notes", |frame| holds(frame, hz)).await?;
        }
        self.note(|notes| notes.greeting = true);

        let began = Instant::now();
        speaking.play_all(&note(CALLER, Duration::from_millis(800))).await;
        silence(hearing).await?;
        self.note(|notes| notes.stopped_after = Some(began.elapsed().saturating_sub(SILENCE)));
        speaking.played_out().await;

        let finished = Instant::now();
        until(hearing, "the answer", |frame| holds(frame, ANSWER)).await?;
        self.note(|notes| notes.answered_after = Some(finished.elapsed()));
        silence(hearing).await?;

        for key in KEYS.chars() {
            speaking
                .send_dtmf(key.encode_utf8(&mut [0; 4]))
                .await
                .map_err(|error| SinkError::new(error.to_string()))?;
            until(hearing, "a key's confirmation", |frame| holds(frame, KEY)).await?;
            self.note(|notes| notes.confirmations += 1);
            silence(hearing).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl ConversationSink for DemoPhone {
    fn formats(&self, _line: &Negotiated) -> Formats {
        Formats::both(FORMAT)
    }

    async fn converse(self: Box<Self>, line: Line) -> Result<(), SinkError> {
        let (mut hearing, speaking) = line.split();
        let talked = self.talk(&mut hearing, &speaking).await;
        self.note(|notes| notes.missed = talked.as_ref().err().map(ToString::to_string));
        talked
    }
}

/// How long a pause has to be to count as silence.
const SILENCE: Duration = Duration::from_millis(100);

async fn silence(hearing: &mut Hearing) -> Result<(), SinkError> {
    let mut quiet = 0;
    until(hearing, "silence", |frame| {
        quiet = if Ear::is_loud(frame) { 0 } else { quiet + frame.len() };
        quiet as u128 * 1000 >= SILENCE.as_millis() * u128::from(RATE)
    })
    .await
}

/// Listens until a frame is what was waited for.
async fn until(
    hearing: &mut Hearing,
    what: &str,
    mut found: impl FnMut(&[i16]) -> bool,
) -> Result<(), SinkError> {
    let listen = async {
        while let Some(heard) = hearing.next().await {
            match heard {
                Heard::Audio(frame) if found(&frame) => return true,
                _ => {}
            }
        }
        false
    };
    match tokio::time::timeout(PATIENCE, listen).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(SinkError::new(format!("the call ended before {what} was heard"))),
        Err(_) => Err(SinkError::new(format!("{what} was not heard within {PATIENCE:?}"))),
    }
}

/// Whether most of a loud frame's energy is at this pitch.
fn holds(frame: &[i16], hz: f64) -> bool {
    Ear::is_loud(frame) && purity(frame, RATE, hz) > 0.6
}
