//! The demo's agent: greets, stops when the caller speaks, answers when the caller has spoken, confirms keys.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use iqra_media::conversation::{ConversationSink, Event, Formats, Heard, Line, SinkError, Speaking};
use iqra_media::sdp::Negotiated;

use super::voice::{ANSWER, Change, Ear, FORMAT, KEY, RATE, greeting, note};

/// How long the greeting is, unless it is interrupted, in seconds.
pub const GREETING_SECONDS: u32 = 8;

/// What the agent noticed.
#[derive(Debug, Default, Clone)]
pub struct AgentNotes {
    /// How much of the greeting had been played when the caller interrupted.
    pub interrupted_after: Option<Duration>,
    /// How often the caller spoke to the end.
    pub turns_heard: u32,
    /// How many keys were pressed.
    pub keys_heard: u32,
}

/// The agent of one call.
#[derive(Debug, Default)]
pub struct DemoAgent {
    notes: Arc<Mutex<AgentNotes>>,
}

impl DemoAgent {
    /// An agent that writes into `notes`.
    pub fn new(notes: Arc<Mutex<AgentNotes>>) -> Self {
        Self { notes }
    }

    fn note(&self, write: impl FnOnce(&mut AgentNotes)) {
        write(&mut self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    async fn change(&self, change: Change, greeting: &Speaking, speaking: &Speaking) {
        match change {
            Change::Started => {
                let cleared = speaking.clear().await;
                if let Some(played) = cleared.played(greeting.utterance()) {
                    let played = Duration::from_millis(played.samples() * 1000 / u64::from(RATE));
                    self.note(|notes| notes.interrupted_after = Some(played));
                }
            }
            Change::Ended => {
                self.note(|notes| notes.turns_heard += 1);
                speaking.new_utterance().play_all(&note(ANSWER, Duration::from_millis(1200))).await;
            }
        }
    }
}

#[async_trait]
impl ConversationSink for DemoAgent {
    fn formats(&self, _line: &Negotiated) -> Formats {
        Formats::both(FORMAT)
    }

    async fn converse(self: Box<Self>, line: Line) -> Result<(), SinkError> {
        let (mut hearing, speaking) = line.split();
        let mut ear = Ear::default();
        let welcome = speaking.new_utterance();
        welcome.play_all(&greeting(GREETING_SECONDS)).await;
        while let Some(heard) = hearing.next().await {
            match heard {
                Heard::Audio(frame) => {
                    if let Some(change) = ear.listen(&frame) {
                        self.change(change, &welcome, &speaking).await;
                    }
                }
                Heard::Event(Event::Dtmf(_)) => {
                    self.note(|notes| notes.keys_heard += 1);
                    speaking.play_all(&note(KEY, Duration::from_millis(200))).await;
                }
                Heard::Event(_) => {}
            }
        }
        Ok(())
    }
}
