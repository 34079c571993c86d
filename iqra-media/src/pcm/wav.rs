//! WAV files: prompts to play, calls to record. PCM of 8 or 16 bits, mono or stereo, over the `hound` crate.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::Path;

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use thiserror::Error;

/// Most samples (all channels) that [`read`] takes, 100 MB in memory: about 52 minutes of stereo at 16 kHz.
pub const MAX_SAMPLES: usize = 50_000_000;

/// Why a file could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WavError {
    /// The operating system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What it said.
        source: std::io::Error,
    },
    /// The file is no WAV file or of a kind that is not read.
    #[error("{path}: {what}; convert it to 16-bit PCM, mono or stereo")]
    Unsupported {
        /// The file.
        path: String,
        /// What it is instead.
        what: String,
    },
    /// The file is longer than [`MAX_SAMPLES`].
    #[error("{path}: {samples} samples are more than {MAX_SAMPLES}; split the file")]
    TooLong {
        /// The file.
        path: String,
        /// Samples in it.
        samples: usize,
    },
}

/// A file's audio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wav {
    /// Samples per second and channel.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u16,
    /// Interleaved samples.
    pub samples: Vec<i16>,
}

impl Wav {
    /// One channel: the mean of both, or the only one.
    pub fn into_mono(self) -> Vec<i16> {
        match self.channels {
            2 => self.samples.chunks_exact(2).map(|s| i16::midpoint(s[0], s[1])).collect(),
            _ => self.samples,
        }
    }
}

/// Reads a whole file. 8-bit samples are raised to 16 bits.
///
/// # Errors
/// [`WavError`]; µ-law, A-law, float, more than 16 bits or two channels are `Unsupported`.
pub fn read(path: impl AsRef<Path>) -> Result<Wav, WavError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|source| io_error(path, source))?;
    decode(path, BufReader::new(file))
}

/// Writes a whole file of 16-bit PCM.
///
/// # Errors
/// [`WavError::Io`].
pub fn write(path: impl AsRef<Path>, wav: &Wav) -> Result<(), WavError> {
    let path = path.as_ref();
    let save = || {
        let mut writer = WavWriter::create(path, spec(wav.sample_rate, wav.channels))?;
        wav.samples.iter().try_for_each(|&sample| writer.write_sample(sample))?;
        writer.finalize()
    };
    save().map_err(|e| hound_error(path, e))
}

/// Writes a call as it happens: what was heard on the left, what was spoken on the right.
pub struct Recorder {
    path: std::path::PathBuf,
    writer: WavWriter<BufWriter<File>>,
}

impl Recorder {
    /// Makes the file, or overwrites it.
    ///
    /// # Errors
    /// [`WavError::Io`].
    pub fn create(path: impl AsRef<Path>, sample_rate: u32) -> Result<Self, WavError> {
        let path = path.as_ref();
        let writer = WavWriter::create(path, spec(sample_rate, 2)).map_err(|e| hound_error(path, e))?;
        Ok(Self { path: path.to_owned(), writer })
    }

    /// Appends a stretch of time; the shorter side is filled up with silence.
    ///
    /// # Errors
    /// [`WavError::Io`], also when the file reaches WAV's 4 GB.
    pub fn record(&mut self, heard: &[i16], spoken: &[i16]) -> Result<(), WavError> {
        let at = |side: &[i16], n: usize| side.get(n).copied().unwrap_or(0);
        (0..heard.len().max(spoken.len()))
            .flat_map(|n| [at(heard, n), at(spoken, n)])
            .try_for_each(|sample| self.writer.write_sample(sample))
            .map_err(|e| hound_error(&self.path, e))
    }

    /// Brings the file on disk up to date, so that it is whole even if the process dies.
    ///
    /// # Errors
    /// [`WavError::Io`].
    pub fn flush(&mut self) -> Result<(), WavError> {
        self.writer.flush().map_err(|e| hound_error(&self.path, e))
    }

    /// Ends the file. A dropped recorder does the same but cannot report an error.
    ///
    /// # Errors
    /// [`WavError::Io`].
    pub fn finish(self) -> Result<(), WavError> {
        self.writer.finalize().map_err(|e| hound_error(&self.path, e))
    }
}

fn decode(path: &Path, file: impl Read) -> Result<Wav, WavError> {
    let mut reader = WavReader::new(file).map_err(|e| hound_error(path, e))?;
    let WavSpec { channels, sample_rate, bits_per_sample, sample_format } = reader.spec();
    let unsupported = |what: String| WavError::Unsupported { path: shown(path), what };
    if sample_format != SampleFormat::Int || !matches!(bits_per_sample, 8 | 16) {
        return Err(unsupported(format!("{bits_per_sample}-bit {sample_format:?} samples")));
    }
    if !matches!(channels, 1 | 2) {
        return Err(unsupported(format!("{channels} channels")));
    }
    let samples = reader.len() as usize;
    if samples > MAX_SAMPLES {
        return Err(WavError::TooLong { path: shown(path), samples });
    }
    let shift = 16 - bits_per_sample;
    let samples: Result<Vec<i16>, _> = reader.samples::<i16>().map(|s| s.map(|s| s << shift)).collect();
    Ok(Wav { sample_rate, channels, samples: samples.map_err(|e| hound_error(path, e))? })
}

fn spec(sample_rate: u32, channels: u16) -> WavSpec {
    WavSpec { channels, sample_rate, bits_per_sample: 16, sample_format: SampleFormat::Int }
}

fn hound_error(path: &Path, error: hound::Error) -> WavError {
    match error {
        hound::Error::IoError(source) => io_error(path, source),
        hound::Error::Unsupported => WavError::Unsupported {
            path: shown(path),
            what: "compressed samples (µ-law, A-law or others)".into(),
        },
        other => WavError::Unsupported { path: shown(path), what: other.to_string() },
    }
}

fn io_error(path: &Path, source: std::io::Error) -> WavError {
    WavError::Io { path: shown(path), source }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with this format tag, channels and bits, and the given data.
    fn file(tag: u16, channels: u16, bits: u16, data: &[u8]) -> Vec<u8> {
        let block = channels * bits / 8;
        let mut bytes = Vec::new();
        bytes.extend(b"RIFF");
        bytes.extend((36 + data.len() as u32).to_le_bytes());
        bytes.extend(b"WAVEfmt ");
        bytes.extend(16u32.to_le_bytes());
        bytes.extend(tag.to_le_bytes());
        bytes.extend(channels.to_le_bytes());
        bytes.extend(8000u32.to_le_bytes());
        bytes.extend((8000 * u32::from(block)).to_le_bytes());
        bytes.extend(block.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(b"data");
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes
    }

    fn decoded(bytes: &[u8]) -> Result<Wav, WavError> {
        decode(Path::new("prompt.wav"), bytes)
    }

    fn in_temp(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("iqra-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_written_file_reads_back() {
        let path = in_temp("round-trip.wav");
        let wav = Wav { sample_rate: 16_000, channels: 1, samples: vec![0, 1, -1, i16::MAX, i16::MIN] };
        write(&path, &wav).unwrap();
        assert_eq!(read(&path).unwrap(), wav);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_recording_has_both_sides_and_fills_the_shorter_one() {
        let path = in_temp("recording.wav");
        let mut recorder = Recorder::create(&path, 8000).unwrap();
        recorder.record(&[1, 2], &[-1, -2]).unwrap();
        recorder.flush().unwrap();
        recorder.record(&[3], &[]).unwrap();
        recorder.finish().unwrap();
        let wav = read(&path).unwrap();
        assert_eq!((wav.channels, wav.samples), (2, vec![1, -1, 2, -2, 3, 0]));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn eight_bit_samples_are_raised() {
        let wav = decoded(&file(1, 1, 8, &[0x80, 0xFF, 0x00])).unwrap();
        assert_eq!(wav.samples, [0, 127 << 8, -128 << 8]);
    }

    #[test]
    fn stereo_becomes_mono_by_the_mean() {
        let wav = Wav { sample_rate: 8000, channels: 2, samples: vec![100, 200, i16::MAX, i16::MAX] };
        assert_eq!(wav.into_mono(), [150, i16::MAX]);
    }

    #[test]
    fn other_kinds_are_refused_with_the_file_and_the_remedy() {
        let cases = [
            ("A-law", file(6, 1, 8, &[0; 4])),
            ("µ-law", file(7, 1, 8, &[0; 4])),
            ("24-bit", file(1, 1, 24, &[0; 6])),
            ("3 channels", file(1, 3, 16, &[0; 6])),
            ("not RIFF", b"ID3 and more of it, an MP3 file".to_vec()),
        ];
        for (kind, bytes) in cases {
            let error = decoded(&bytes).expect_err(kind);
            let text = error.to_string();
            assert!(matches!(error, WavError::Unsupported { .. }), "{kind}: {text}");
            assert!(text.starts_with("prompt.wav: ") && text.contains("convert it"), "{kind}: {text}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read("no-such-prompt.wav").unwrap_err();
        assert!(error.to_string().contains("no-such-prompt.wav"), "{error}");
    }
}
