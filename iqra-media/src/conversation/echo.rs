//! A conversation that says what it hears: the simplest way to test a call.

use async_trait::async_trait;

use super::{ConversationSink, Event, Formats, Heard, Line, SinkError};
use crate::sdp::Negotiated;

/// Plays back what it hears, and with [`with_keys`](Self::with_keys) presses each key that was pressed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo {
    keys: bool,
}

impl Echo {
    /// Echoes keys as well.
    pub fn with_keys() -> Self {
        Self { keys: true }
    }
}

#[async_trait]
impl ConversationSink for Echo {
    fn formats(&self, line: &Negotiated) -> Formats {
        Formats::of_codec(line)
    }

    async fn converse(self: Box<Self>, line: Line) -> Result<(), SinkError> {
        let (mut hearing, speaking) = line.split();
        while let Some(heard) = hearing.next().await {
            match heard {
                // What finds no room is dropped: an echo of half a minute ago helps nobody.
                Heard::Audio(frame) => drop(speaking.play(&frame)),
                Heard::Event(Event::Dtmf(digit)) if self.keys => {
                    let key = digit.as_char().to_string();
                    speaking
                        .send_dtmf(&key)
                        .await
                        .map_err(|error| SinkError::because("echo of a key", error))?;
                }
                Heard::Event(Event::Resume) => drop(speaking.clear().await),
                Heard::Event(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{AudioFormat, EndReason, Limits, line};

    #[tokio::test]
    async fn says_what_it_hears() {
        let (line, mut end, _commands) = line(Formats::both(AudioFormat::HZ_8000), &Limits::default());
        end.give_audio(&[5; 160], false);
        let echo = tokio::spawn(Box::new(Echo::default()).converse(line));
        let mut out = [0; 160];
        while end.take_audio(&mut out) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(out, [5; 160]);
        end.end(EndReason::FarEnd);
        assert!(echo.await.unwrap().is_ok());
    }
}
