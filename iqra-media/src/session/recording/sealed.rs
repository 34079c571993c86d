//! Recordings that are encrypted on disk: chunks under XChaCha20-Poly1305, joined by the STREAM construction (Hoang,
//! Reyhanitabar, Rogaway and Vizár, 2015) as `aead-stream` has it, so that chunks cannot be changed, left out, put in
//! another order or taken from another file, and a missing end is seen.
//!
//! ```text
//! octets   what
//! 8        "iqrawav1"
//! 1, n     length of the key's id, 1 to 64, and the id in UTF-8
//! 4        sample rate in Hz, little endian
//! 19       nonce, random for each file
//! 16       chunk 0, empty: its tag shows whether the key is right
//! 32,784   chunk: 32,768 octets of stereo samples (16 bits, little endian), and a tag of 16
//! ...
//! -        the last chunk, flagged as such: up to 32,768 octets and a tag
//! ```
//! All before chunk 0 is associated data of every chunk. A chunk is a second at 8 kHz, which is what a crash costs.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use aead_stream::{NewStream, StreamBE32, StreamPrimitive};
use chacha20poly1305::XChaCha20Poly1305;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::pcm::wav::{Recorder, WavError};

const MAGIC: [u8; 8] = *b"iqrawav1";
/// The longest id of a key.
const LONGEST_ID: usize = 64;
const NONCE: usize = 19;
const TAG: usize = 16;
/// Octets of samples in a chunk.
const CHUNK: usize = 32_768;

/// A key of 256 bits that recordings are sealed with, and its id, which stands in the clear in each file, so that keys can
/// be changed. `Debug` shows the id; the key is wiped when it is dropped.
#[derive(Clone)]
pub struct Key {
    id: String,
    secret: Zeroizing<[u8; 32]>,
}

/// An id that is empty or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the id of a key is 1 to {LONGEST_ID} octets long")]
pub struct BadKeyId;

impl Key {
    /// A key from a cryptographic generator of random numbers: `openssl rand 32`.
    ///
    /// # Errors
    /// [`BadKeyId`] unless the id is 1 to 64 octets long.
    pub fn new(id: impl Into<String>, secret: [u8; 32]) -> Result<Self, BadKeyId> {
        let (id, secret) = (id.into(), Zeroizing::new(secret));
        if id.is_empty() || id.len() > LONGEST_ID { Err(BadKeyId) } else { Ok(Self { id, secret }) }
    }

    /// What it is called in the files.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

type Stream = StreamBE32<XChaCha20Poly1305>;

fn stream(key: &Key, nonce: &[u8; NONCE]) -> Stream {
    Stream::new((&*key.secret).into(), nonce.into())
}

/// What precedes the chunks.
struct Head {
    octets: Vec<u8>,
    key_id: String,
    rate: u32,
    nonce: [u8; NONCE],
}

impl Head {
    fn new(key: &Key, rate: u32) -> io::Result<Self> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let id = key.id.as_bytes();
        let octets = [&MAGIC[..], &[id.len() as u8], id, &rate.to_le_bytes(), &nonce].concat();
        Ok(Self { octets, key_id: key.id.clone(), rate, nonce })
    }

    fn read(from: &mut impl Read) -> Result<Self, UnsealError> {
        let mut octets = vec![0; MAGIC.len() + 1];
        fill(from, &mut octets)?;
        let length = usize::from(octets[MAGIC.len()]);
        if octets[..MAGIC.len()] != MAGIC || !(1..=LONGEST_ID).contains(&length) {
            return Err(UnsealError::NotSealed);
        }
        let mut rest = vec![0; length + 4 + NONCE];
        fill(from, &mut rest)?;
        octets.extend_from_slice(&rest);
        let (id, rest) = rest.split_at(length);
        let key_id = String::from_utf8(id.to_vec()).map_err(|_| UnsealError::NotSealed)?;
        let rate = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&rest[4..]);
        Ok(Self { octets, key_id, rate, nonce })
    }
}

/// All of the buffer, or no sealed file.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<(), UnsealError> {
    from.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => UnsealError::NotSealed,
        _ => UnsealError::Read(error),
    })
}

/// Writes a sealed file.
pub(super) struct Sealer<W> {
    file: W,
    head: Vec<u8>,
    stream: Stream,
    position: u32,
    chunk: Vec<u8>,
}

impl<W: Write> Sealer<W> {
    pub(super) fn begin(mut file: W, key: &Key, rate: u32) -> io::Result<Self> {
        let head = Head::new(key, rate)?;
        file.write_all(&head.octets)?;
        let stream = stream(key, &head.nonce);
        let chunk = Vec::with_capacity(CHUNK + TAG);
        let mut sealer = Self { file, head: head.octets, stream, position: 0, chunk };
        sealer.seal(false)?;
        Ok(sealer)
    }

    /// Appends both sides, which are equally long.
    pub(super) fn record(&mut self, heard: &[i16], spoken: &[i16]) -> io::Result<()> {
        for (&heard, &spoken) in heard.iter().zip(spoken) {
            // Only now: the last chunk may be a full one.
            if self.chunk.len() == CHUNK {
                self.seal(false)?;
            }
            self.chunk.extend_from_slice(&heard.to_le_bytes());
            self.chunk.extend_from_slice(&spoken.to_le_bytes());
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.seal(true)?;
        self.file.flush()
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let sealed = self.stream.encrypt_in_place(self.position, last, &self.head, &mut self.chunk);
        sealed.map_err(|_| io::Error::other("a chunk cannot be sealed"))?;
        self.file.write_all(&self.chunk)?;
        self.chunk.clear();
        self.position += 1;
        Ok(())
    }
}

/// Why a sealed file cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UnsealError {
    /// It cannot be read.
    #[error("the sealed recording cannot be read: {0}")]
    Read(#[source] io::Error),
    /// It is something else.
    #[error("this is no sealed recording: its head is missing or damaged")]
    NotSealed,
    /// The key is not there.
    #[error("the recording is sealed with the key {0:?}, which was not given")]
    UnknownKey(String),
    /// The key of that id is another one, or the head was changed.
    #[error(
        "the key {0:?} does not open this recording: it is another key of that id, or the file was changed"
    )]
    WrongKey(String),
    /// A chunk was changed, left out or put elsewhere.
    #[error("chunk {0} is not as it was sealed: the file was changed")]
    Changed(u32),
    /// The audio cannot be written.
    #[error(transparent)]
    Write(#[from] WavError),
}

/// What was unsealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsealed {
    /// In Hz.
    pub sample_rate: u32,
    /// Samples of each side.
    pub samples: u64,
    /// Whether the end is there. If not, the program died while it recorded, or somebody cut the file off; what there is
    /// of it was sealed as it is.
    pub is_complete: bool,
}

/// Opens a sealed recording with one of `keys` and writes it as a WAV file, which is made, or overwritten. What an error
/// interrupts stays as far as it is proven.
///
/// # Errors
/// [`UnsealError`].
pub fn unseal(
    sealed: impl AsRef<Path>,
    keys: &[Key],
    wav: impl AsRef<Path>,
) -> Result<Unsealed, UnsealError> {
    let file = File::open(sealed).map_err(UnsealError::Read)?;
    let mut opener = Opener::new(BufReader::new(file), keys)?;
    let mut recorder = Recorder::create(wav, opener.head.rate)?;
    let unsealed = opener.run(|heard, spoken| recorder.record(heard, spoken));
    recorder.finish()?;
    unsealed
}

/// Reads a sealed file chunk by chunk.
struct Opener<R> {
    file: R,
    head: Head,
    stream: Stream,
    position: u32,
}

impl<R: Read> Opener<R> {
    fn new(mut file: R, keys: &[Key]) -> Result<Self, UnsealError> {
        let head = Head::read(&mut file)?;
        let key = keys.iter().find(|key| key.id == head.key_id);
        let Some(key) = key else { return Err(UnsealError::UnknownKey(head.key_id)) };
        let stream = stream(key, &head.nonce);
        let mut first = vec![0; TAG];
        fill(&mut file, &mut first)?;
        let mut opener = Self { file, head, stream, position: 0 };
        match opener.open(false, &mut first) {
            true => Ok(opener),
            false => Err(UnsealError::WrongKey(opener.head.key_id)),
        }
    }

    /// Gives all samples to `take`, both sides apart.
    fn run(
        &mut self,
        mut take: impl FnMut(&[i16], &[i16]) -> Result<(), WavError>,
    ) -> Result<Unsealed, UnsealError> {
        let mut unsealed = Unsealed { sample_rate: self.head.rate, samples: 0, is_complete: false };
        let (mut chunk, mut next) = (self.chunk()?, self.chunk()?);
        loop {
            let at_end = next.is_empty();
            match self.open_chunk(&mut chunk, at_end)? {
                Some(last) => unsealed.is_complete = last,
                None => return Ok(unsealed),
            }
            let (heard, spoken) = sides(&chunk);
            take(&heard, &spoken)?;
            unsealed.samples += heard.len() as u64;
            if at_end {
                return Ok(unsealed);
            }
            (chunk, next) = (next, self.chunk()?);
        }
    }

    /// Opens a chunk and tells whether it is flagged as the last; `None` where the file was cut off within it.
    fn open_chunk(&mut self, chunk: &mut Vec<u8>, at_end: bool) -> Result<Option<bool>, UnsealError> {
        let is_full = chunk.len() == CHUNK + TAG;
        if at_end {
            let mut copy = chunk.clone();
            if self.open(true, &mut copy) {
                *chunk = copy;
                return Ok(Some(true));
            }
        }
        match self.open(false, chunk) {
            true if is_full => Ok(Some(false)),
            _ if at_end && !is_full => Ok(None),
            _ => Err(UnsealError::Changed(self.position)),
        }
    }

    fn open(&mut self, last: bool, chunk: &mut Vec<u8>) -> bool {
        let opened = self.stream.decrypt_in_place(self.position, last, &self.head.octets, chunk).is_ok();
        self.position += u32::from(opened);
        opened
    }

    /// The next chunk as far as there is one.
    fn chunk(&mut self) -> Result<Vec<u8>, UnsealError> {
        let mut chunk = Vec::with_capacity(CHUNK + TAG);
        let limit = (CHUNK + TAG) as u64;
        self.file.by_ref().take(limit).read_to_end(&mut chunk).map_err(UnsealError::Read)?;
        Ok(chunk)
    }
}

fn sides(chunk: &[u8]) -> (Vec<i16>, Vec<i16>) {
    let sample = |octets: &[u8]| i16::from_le_bytes([octets[0], octets[1]]);
    chunk.chunks_exact(4).map(|frame| (sample(frame), sample(&frame[2..]))).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new("2026-11", [7; 32]).unwrap()
    }

    /// A recording of so many samples, sealed.
    fn sealed(samples: usize) -> (Vec<u8>, Vec<i16>) {
        let heard: Vec<i16> = (0..samples).map(|n| n as i16).collect();
        let mut file = Vec::new();
        let mut sealer = Sealer::begin(&mut file, &key(), 8_000).unwrap();
        for part in heard.chunks(999) {
            sealer.record(part, &vec![-1; part.len()]).unwrap();
        }
        sealer.finish().unwrap();
        (file, heard)
    }

    fn opened(file: &[u8], keys: &[Key]) -> Result<(Unsealed, Vec<i16>), UnsealError> {
        let mut all = Vec::new();
        let unsealed = Opener::new(file, keys)?.run(|heard, spoken| {
            assert!(spoken.iter().all(|&sample| sample == -1));
            all.extend_from_slice(heard);
            Ok(())
        });
        Ok((unsealed?, all))
    }

    const HEAD: usize = 8 + 1 + 7 + 4 + NONCE;
    /// Samples of each side in a chunk.
    const IN_CHUNK: usize = CHUNK / 4;

    #[test]
    fn what_was_sealed_opens_at_every_length() {
        for samples in [0, 1, IN_CHUNK - 1, IN_CHUNK, IN_CHUNK + 1, 3 * IN_CHUNK] {
            let (file, heard) = sealed(samples);
            let expected = Unsealed { sample_rate: 8_000, samples: samples as u64, is_complete: true };
            assert_eq!(opened(&file, &[key()]).unwrap(), (expected, heard), "{samples}");
        }
    }

    #[test]
    fn a_file_that_was_cut_off_opens_to_its_last_whole_chunk_and_says_so() {
        let (file, heard) = sealed(2 * IN_CHUNK + 50);
        let chunks = HEAD + TAG;
        let near = |at: usize| at - 2..=at + 2;
        let cuts =
            (chunks..file.len()).step_by(997).chain(near(chunks + CHUNK + TAG)).chain([file.len() - 1]);
        for cut in cuts {
            let (unsealed, all) = opened(&file[..cut], &[key()]).unwrap();
            let whole = (cut - chunks) / (CHUNK + TAG);
            assert!(!unsealed.is_complete, "cut at {cut}");
            assert_eq!(all, heard[..whole * IN_CHUNK], "cut at {cut}");
        }
        for cut in 0..chunks {
            assert!(matches!(opened(&file[..cut], &[key()]), Err(UnsealError::NotSealed)), "cut at {cut}");
        }
    }

    #[test]
    fn what_was_changed_is_refused() {
        let (file, _) = sealed(2 * IN_CHUNK + 50);
        for at in [0, 8, 9, 15, 16, 20, HEAD - 1, HEAD, HEAD + 20, file.len() - CHUNK] {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(opened(&changed, &[key()]).is_err(), "octet {at}");
        }
        let (first, chunk) = (HEAD + TAG, CHUNK + TAG);
        let swapped =
            [&file[..first], &file[first + chunk..first + 2 * chunk], &file[first..first + chunk]].concat();
        assert!(matches!(opened(&swapped, &[key()]), Err(UnsealError::Changed(1))));
        let left_out = [&file[..first], &file[first + chunk..]].concat();
        assert!(matches!(opened(&left_out, &[key()]), Err(UnsealError::Changed(1))));
        let mut last = file.clone();
        *last.last_mut().unwrap() ^= 1;
        assert!(!opened(&last, &[key()]).unwrap().0.is_complete, "as if it had been cut off");
    }

    #[test]
    fn only_the_key_opens_it() {
        let (file, _) = sealed(10);
        let other = Key::new("2026-11", [8; 32]).unwrap();
        let later = Key::new("2026-12", [7; 32]).unwrap();
        let refused = opened(&file, std::slice::from_ref(&later)).unwrap_err().to_string();
        assert!(refused.contains("2026-11"), "{refused}");
        assert!(matches!(opened(&file, &[other]), Err(UnsealError::WrongKey(_))));
        assert!(opened(&file, &[later, key()]).is_ok());
        assert_ne!(sealed(10).0, file, "no file looks like another");
        assert!(!format!("{:?}", key()).contains('7'), "{:?}", key());
        assert!(Key::new("", [0; 32]).is_err() && Key::new("k".repeat(65), [0; 32]).is_err());
    }

    #[test]
    fn no_audio_is_in_the_file() {
        let (file, _) = sealed(IN_CHUNK);
        assert!(!file.windows(6).any(|octets| octets == [5, 0, 255, 255, 6, 0]));
    }
}
