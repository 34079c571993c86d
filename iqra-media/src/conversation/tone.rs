//! A conversation that hums one note until the call ends: hold tones, line checks, tests.

use async_trait::async_trait;

use super::{ConversationSink, Formats, Line, SinkError};
use crate::pcm::tone;
use crate::sdp::Negotiated;

/// A sine of one frequency.
#[derive(Debug, Clone, Copy)]
pub struct Tone {
    frequency: f64,
    amplitude: i16,
}

impl Tone {
    /// A tone in Hz, at a quarter of full scale. One above half the codec's sample rate (4 kHz for G.711) is not heard.
    pub fn new(frequency: f64) -> Self {
        Self { frequency, amplitude: 8_000 }
    }
}

#[async_trait]
impl ConversationSink for Tone {
    fn formats(&self, line: &Negotiated) -> Formats {
        Formats::of_codec(line)
    }

    async fn converse(self: Box<Self>, line: Line) -> Result<(), SinkError> {
        let (_, speaking) = line.split();
        let rate = speaking.format();
        let mut sine = tone::Tone::new(self.frequency, rate.sample_rate(), self.amplitude);
        let mut samples = vec![0; rate.samples_in_millis(100)];
        loop {
            sine.fill(&mut samples);
            if speaking.play_all(&samples).await < samples.len() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{AudioFormat, EndReason, Limits, line};
    use crate::detect::goertzel;

    #[tokio::test]
    async fn hums_until_the_end() {
        let (line, mut end, _commands) = line(Formats::both(AudioFormat::HZ_16000), &Limits::default());
        let humming = tokio::spawn(Box::new(Tone::new(1_000.0)).converse(line));
        let mut out = [0; 1600];
        while end.take_audio(&mut out) < out.len() {
            tokio::task::yield_now().await;
        }
        assert!(goertzel::purity(&out, 16_000, 1_000.0) > 0.99);
        end.end(EndReason::FarEnd);
        assert!(humming.await.unwrap().is_ok());
    }
}
