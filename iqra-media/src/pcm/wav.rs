//! WAV files: prompts to play, calls to record. PCM of 8 or 16 bits, mono or stereo, over the `hound` crate.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
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

/// Reads a whole file. 8-bit samples are raised to 16 bits. Of a file that was cut off, whose header names more than
/// there is, it reads what there is.
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
///
/// The header names what is in the file as of the last [`flush`](Self::flush), and is written after it: a process that
/// dies leaves a valid file, whenever that happens.
pub struct Recorder<W: Write + Seek = File> {
    path: std::path::PathBuf,
    writer: WavWriter<BufWriter<W>>,
}

impl Recorder {
    /// Makes the file, or overwrites it.
    ///
    /// # Errors
    /// [`WavError::Io`].
    pub fn create(path: impl AsRef<Path>, sample_rate: u32) -> Result<Self, WavError> {
        let path = path.as_ref();
        let file = File::create(path).map_err(|source| io_error(path, source))?;
        Self::over(path, file, sample_rate)
    }
}

impl<W: Write + Seek> Recorder<W> {
    /// Writes to an open file, which is empty; `path` is what errors call it.
    ///
    /// # Errors
    /// [`WavError::Io`].
    pub fn over(path: impl AsRef<Path>, file: W, sample_rate: u32) -> Result<Self, WavError> {
        let path = path.as_ref().to_owned();
        let writer = WavWriter::new(BufWriter::new(file), spec(sample_rate, 2));
        let writer = writer.map_err(|e| hound_error(&path, e))?;
        let mut recorder = Self { path, writer };
        recorder.flush()?;
        Ok(recorder)
    }

    /// Appends a stretch of time; the shorter side is filled up with silence.
    ///
    /// # Errors
    /// [`WavError::Io`]. The file must not grow to WAV's 4 GiB: begin another one before.
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
    let samples = reader.samples::<i16>().take_while(|sample| !is_cut_off(sample));
    let samples: Result<Vec<i16>, _> = samples.map(|sample| sample.map(|s| s << shift)).collect();
    let mut samples = samples.map_err(|e| hound_error(path, e))?;
    samples.truncate(samples.len() - samples.len() % usize::from(channels));
    Ok(Wav { sample_rate, channels, samples })
}

/// `hound` says so with an error that has no cause in the operating system.
fn is_cut_off<T>(sample: &hound::Result<T>) -> bool {
    matches!(sample, Err(hound::Error::IoError(error)) if error.raw_os_error().is_none())
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

    type Log = Vec<(u64, Vec<u8>)>;

    /// A file that logs what reaches it, as a list of (place, octets).
    #[derive(Clone, Default)]
    struct Logged {
        at: u64,
        log: std::rc::Rc<std::cell::RefCell<Log>>,
    }

    impl Write for Logged {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.log.borrow_mut().push((self.at, octets.to_vec()));
            self.at += octets.len() as u64;
            Ok(octets.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Logged {
        fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
            match to {
                std::io::SeekFrom::Start(at) => self.at = at,
                std::io::SeekFrom::Current(by) => self.at = self.at.wrapping_add_signed(by),
                std::io::SeekFrom::End(_) => unreachable!("nobody asks for the end"),
            }
            Ok(self.at)
        }
    }

    fn strictly(bytes: &[u8]) -> Option<Vec<i16>> {
        WavReader::new(bytes).ok()?.samples::<i16>().collect::<Result<_, _>>().ok()
    }

    /// The process dies after each octet of each write of audio and between the writes of the header (none of which is
    /// longer than a number): a strict reader finds a valid file that holds what was flushed.
    #[test]
    fn whenever_the_process_dies_the_file_is_valid() {
        let file = Logged::default();
        let mut recorder = Recorder::over("call.wav", file.clone(), 8_000).unwrap();
        let mut flushed = vec![(file.log.borrow().len(), 0)];
        let mut said = Vec::new();
        for second in 0..20 {
            let heard: Vec<i16> = (0..997).map(|n| n * 3 + second * 7 + 1).collect();
            recorder.record(&heard, &[-5; 997]).unwrap();
            said.extend(heard.iter().flat_map(|&sample| [sample, -5]));
            recorder.flush().unwrap();
            flushed.push((file.log.borrow().len(), said.len()));
        }
        let log = file.log.borrow();
        let (mut disk, mut died) = (Vec::new(), 0);
        for (number, (at, octets)) in log.iter().enumerate() {
            for (n, &octet) in octets.iter().enumerate() {
                let place = *at as usize + n;
                disk.resize(disk.len().max(place + 1), 0);
                disk[place] = octet;
                let sure = flushed.iter().rev().find(|(writes, _)| *writes <= number);
                if *at < 44 && n + 1 < octets.len() {
                    continue;
                }
                // Until the first header is written there is no file to speak of.
                let Some((_, sure)) = sure else { continue };
                died += 1;
                let read = strictly(&disk).unwrap_or_else(|| panic!("invalid after {n} of write {number}"));
                assert!(read.len() >= *sure && said.starts_with(&read), "{} of {sure}", read.len());
            }
        }
        assert!(died > 60_000, "{died} deaths");
    }

    #[test]
    fn of_a_file_that_was_cut_off_all_is_read_that_is_there() {
        let path = in_temp("cut.wav");
        let mut recorder = Recorder::create(&path, 8_000).unwrap();
        recorder.record(&[7; 500], &[-7; 500]).unwrap();
        recorder.finish().unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 44..whole.len() {
            let wav = decoded(&whole[..length]).unwrap();
            assert_eq!(wav.samples.len(), (length - 44) / 4 * 2, "cut after {length} octets");
            assert!(wav.samples.chunks_exact(2).all(|frame| frame == [7, -7]));
        }
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
