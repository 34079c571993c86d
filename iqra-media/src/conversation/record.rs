//! A conversation that listens and writes what it hears to a file: voicemail.
//!
//! The file is written on a thread of the runtime's blocking pool, fed by a bounded queue.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use async_trait::async_trait;

use super::{AudioFormat, ConversationSink, Event, Formats, Heard, Line, SinkError};
use crate::pcm::wav::{Recorder, WavError};
use crate::sdp::Negotiated;

/// Batches of audio, half a second each, that may wait for the disk; a disk slower than that ends the recording.
const WAITING: usize = 20;

/// Records what it hears until the call ends.
pub struct Record {
    path: PathBuf,
    file: Recorder,
    format: AudioFormat,
}

impl Record {
    /// Makes the file, or overwrites it: 16-bit stereo at this rate with the caller on the left and silence on the
    /// right, the layout of every recording of this crate.
    ///
    /// # Errors
    /// [`WavError`] when the file cannot be made.
    pub fn create(path: impl AsRef<Path>, format: AudioFormat) -> Result<Self, WavError> {
        let path = path.as_ref();
        let file = Recorder::create(path, format.sample_rate())?;
        Ok(Self { path: path.to_owned(), file, format })
    }
}

#[async_trait]
impl ConversationSink for Record {
    fn formats(&self, _line: &Negotiated) -> Formats {
        Formats::both(self.format)
    }

    async fn converse(self: Box<Self>, line: Line) -> Result<(), SinkError> {
        let Self { path, file, format } = *self;
        let (batches, to_write) = sync_channel(WAITING);
        let writing = tokio::task::spawn_blocking(move || write(file, &to_write));
        let heard = listen(line, format, &batches).await;
        drop(batches);
        let written = writing.await.map_err(|error| SinkError::because("the writer stopped", error))?;
        written.map_err(|error| SinkError::because(format!("cannot record to {}", path.display()), error))?;
        heard
    }
}

/// Gathers frames into batches; sound before the end is never lost to batching.
async fn listen(
    mut line: Line,
    format: AudioFormat,
    batches: &SyncSender<Vec<i16>>,
) -> Result<(), SinkError> {
    let size = format.samples_in_millis(500);
    let mut batch = Vec::with_capacity(size);
    while let Some(heard) = line.next().await {
        match heard {
            Heard::Audio(frame) => batch.extend_from_slice(&frame),
            Heard::Event(Event::End(_)) => break,
            Heard::Event(_) => {}
        }
        if batch.len() >= size {
            send(batches, std::mem::replace(&mut batch, Vec::with_capacity(size)))?;
        }
    }
    send(batches, batch)
}

fn send(batches: &SyncSender<Vec<i16>>, batch: Vec<i16>) -> Result<(), SinkError> {
    match batches.try_send(batch) {
        // A writer that is gone has an error to tell, which the caller collects.
        Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
        Err(TrySendError::Full(_)) => Err(SinkError::new("the disk is too slow for the recording")),
    }
}

fn write(mut file: Recorder, batches: &Receiver<Vec<i16>>) -> Result<(), WavError> {
    for batch in batches {
        file.record(&batch, &[])?;
    }
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{EndReason, Limits, line};
    use crate::pcm::wav;

    #[tokio::test]
    async fn writes_all_that_it_heard() {
        let path = std::env::temp_dir().join(format!("iqra-record-{}.wav", std::process::id()));
        let record = Record::create(&path, AudioFormat::HZ_8000).unwrap();
        let (line, mut end, _commands) = line(Formats::both(AudioFormat::HZ_8000), &Limits::default());
        for n in 0..40 {
            end.give_audio(&[n; 160], false);
        }
        end.end(EndReason::FarEnd);
        assert!(Box::new(record).converse(line).await.is_ok());
        let wav = wav::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!((wav.sample_rate, wav.channels), (8_000, 2));
        let left: Vec<i16> = wav.samples.iter().step_by(2).copied().collect();
        assert_eq!(left, (0..40).flat_map(|n| [n; 160]).collect::<Vec<_>>());
    }

    #[test]
    fn an_impossible_path_is_refused() {
        assert!(Record::create("no-such-folder/a.wav", AudioFormat::HZ_8000).is_err());
    }
}
