//! A conversation that plays a file and is over: announcements.

use std::path::Path;

use async_trait::async_trait;

use super::{AudioFormat, ConversationSink, Formats, Line, SinkError, UnsupportedRate};
use crate::pcm::wav::{self, WavError};
use crate::sdp::Negotiated;

/// Why a file cannot be played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnplayableFile {
    /// It cannot be read.
    #[error(transparent)]
    Wav(#[from] WavError),
    /// It has a rate that no line speaks.
    #[error("{path}: {rate}")]
    Rate {
        /// The file.
        path: String,
        /// Its rate.
        rate: UnsupportedRate,
    },
}

/// Plays a WAV file once, then the call is hung up. Clones share nothing but were read once.
#[derive(Debug, Clone)]
pub struct Play {
    samples: Vec<i16>,
    format: AudioFormat,
}

impl Play {
    /// Reads the whole file: 8 or 16 bit PCM, mono or stereo (mixed down), at 8, 16, 24 or 48 kHz.
    ///
    /// # Errors
    /// [`UnplayableFile`] with the path and what to do about it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, UnplayableFile> {
        let file = wav::read(&path)?;
        let format = AudioFormat::new(file.sample_rate)
            .map_err(|rate| UnplayableFile::Rate { path: path.as_ref().display().to_string(), rate })?;
        Ok(Self::samples(file.into_mono(), format))
    }

    /// Plays samples instead of a file.
    pub fn samples(samples: Vec<i16>, format: AudioFormat) -> Self {
        Self { samples, format }
    }
}

#[async_trait]
impl ConversationSink for Play {
    fn formats(&self, _line: &Negotiated) -> Formats {
        Formats::both(self.format)
    }

    async fn converse(self: Box<Self>, line: Line) -> Result<(), SinkError> {
        let (_, speaking) = line.split();
        speaking.play_all(&self.samples).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{Limits, line};
    use crate::pcm::wav::Wav;

    fn file(name: &str, wav: &Wav) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("iqra-play-{}-{name}.wav", std::process::id()));
        wav::write(&path, wav).unwrap();
        path
    }

    #[tokio::test]
    async fn plays_a_file_once() {
        let samples: Vec<i16> = (0..400).collect();
        let path = file("once", &Wav { sample_rate: 16_000, channels: 1, samples: samples.clone() });
        let play = Play::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let (line, mut end, _commands) = line(Formats::both(AudioFormat::HZ_16000), &Limits::default());
        assert!(Box::new(play).converse(line).await.is_ok());
        let mut out = [0; 500];
        assert_eq!(end.take_audio(&mut out), 400);
        assert_eq!(out[..400], samples);
    }

    #[test]
    fn a_bad_file_is_refused_by_name() {
        let path = file("rate", &Wav { sample_rate: 11_025, channels: 1, samples: vec![0; 8] });
        let refused = Play::open(&path).unwrap_err().to_string();
        std::fs::remove_file(path).unwrap();
        assert!(refused.contains("rate.wav") && refused.contains("11025"), "{refused}");
        assert!(Play::open("no-such.wav").unwrap_err().to_string().contains("no-such.wav"));
    }
}
