//! The thread that writes a recording: it looks at the rings four times a second, puts both sides together and appends
//! them to the file at hand.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[cfg(feature = "encryption")]
use super::sealed::{Key, Sealer};
use super::tap::{SideEnd, Span};
use super::{Settings, Shared, State};
use crate::pcm::wav::{Recorder, WavError};

/// How often the writer looks.
const LOOKING: Duration = Duration::from_millis(250);
/// After so many looks the header is brought up to date: a second.
const LOOKS_TO_FLUSH: u32 = 4;
/// Samples of a side that are written at once.
const BLOCK: usize = 8_192;
/// Octets of a sample of both sides.
const FRAME_OCTETS: u64 = 4;
/// The most that a part may hold.
const MOST_IN_PART: u64 = 4_294_000_000;
/// Names that are tried for one part where files have them already.
const NAMES: u32 = 1_000;

/// What a recording is written to.
pub(super) trait Disk: Write + Seek + Send {}
impl<D: Write + Seek + Send> Disk for D {}

/// Makes a file that was not there.
pub(super) type MakeFile = Box<dyn FnMut(&Path) -> io::Result<Box<dyn Disk>> + Send>;

/// The file at hand.
enum Open {
    Wav(Recorder<Box<dyn Disk>>),
    #[cfg(feature = "encryption")]
    Sealed(Box<Sealer<Box<dyn Disk>>>),
}

/// The files of a recording, one after the other.
pub(super) struct Files {
    path: PathBuf,
    rate: u32,
    limit: u64,
    #[cfg(feature = "encryption")]
    key: Option<Key>,
    make: MakeFile,
    open: Option<Open>,
    /// Octets of audio in it, and how many of them its header tells of.
    octets: u64,
    told: u64,
    number: u32,
    written: Vec<PathBuf>,
}

impl Files {
    pub(super) fn new(settings: &Settings, rate: u32) -> Self {
        Self::made_by(settings, rate, Box::new(make_file))
    }

    pub(super) fn made_by(settings: &Settings, rate: u32, make: MakeFile) -> Self {
        Self {
            path: settings.path.clone(),
            rate,
            limit: settings.part_limit.clamp(FRAME_OCTETS, MOST_IN_PART),
            #[cfg(feature = "encryption")]
            key: settings.key.clone(),
            make,
            open: None,
            octets: 0,
            told: 0,
            number: 0,
            written: Vec::new(),
        }
    }

    /// The first name.
    pub(super) fn first(&self) -> PathBuf {
        self.name(1)
    }

    fn name(&self, number: u32) -> PathBuf {
        let mut path = self.path.clone();
        if number > 1 {
            let end = path.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            path.set_file_name(format!("{stem}.{number}{end}"));
        }
        #[cfg(feature = "encryption")]
        if self.key.is_some() {
            path.as_mut_os_string().push(".sealed");
        }
        path
    }

    /// Ends the file at hand and begins the next, by the first name that is free.
    pub(super) fn open_next(&mut self) -> Result<(), WavError> {
        self.close()?;
        for _ in 0..NAMES {
            self.number += 1;
            let path = self.name(self.number);
            match (self.make)(&path) {
                Ok(disk) => return self.begin(path, disk),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(refused(&path, source)),
            }
        }
        let taken = io::Error::new(io::ErrorKind::AlreadyExists, "so are a thousand names after it");
        Err(refused(&self.first(), taken))
    }

    fn begin(&mut self, path: PathBuf, disk: Box<dyn Disk>) -> Result<(), WavError> {
        self.written.push(path.clone());
        (self.octets, self.told) = (0, 0);
        #[cfg(feature = "encryption")]
        if let Some(key) = &self.key {
            let sealer = Sealer::begin(disk, key, self.rate).map_err(|source| refused(&path, source))?;
            self.open = Some(Open::Sealed(Box::new(sealer)));
            return Ok(());
        }
        self.open = Some(Open::Wav(Recorder::over(path, disk, self.rate)?));
        Ok(())
    }

    /// Appends as much of both sides, which are equally long.
    fn append(&mut self, mut heard: &[i16], mut spoken: &[i16]) -> Result<(), WavError> {
        while !heard.is_empty() {
            let room = ((self.limit - self.octets) / FRAME_OCTETS).min(heard.len() as u64) as usize;
            if room == 0 {
                self.open_next()?;
                continue;
            }
            let (left, right);
            (left, heard) = heard.split_at(room);
            (right, spoken) = spoken.split_at(room);
            match &mut self.open {
                Some(Open::Wav(wav)) => wav.record(left, right)?,
                #[cfg(feature = "encryption")]
                Some(Open::Sealed(sealer)) => {
                    let sealed = sealer.record(left, right);
                    sealed.map_err(|source| refused(&self.name(self.number), source))?;
                }
                None => {}
            }
            self.octets += room as u64 * FRAME_OCTETS;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WavError> {
        // A sealed chunk is written when it is full.
        if let Some(Open::Wav(wav)) = &mut self.open {
            wav.flush()?;
        }
        self.told = self.octets;
        Ok(())
    }

    /// Samples of a side that were handed to a WAV file whose header does not tell of them: after an error, nobody will find
    /// them.
    fn untold(&self) -> u64 {
        match &self.open {
            Some(Open::Wav(_)) => (self.octets - self.told) / FRAME_OCTETS,
            _ => 0,
        }
    }

    fn close(&mut self) -> Result<(), WavError> {
        match self.open.take() {
            Some(Open::Wav(wav)) => wav.finish(),
            #[cfg(feature = "encryption")]
            Some(Open::Sealed(sealer)) => {
                sealer.finish().map_err(|source| refused(&self.name(self.number), source))
            }
            None => Ok(()),
        }
    }

    /// Takes away what was begun, since nothing was recorded.
    fn discard(&mut self) -> Result<(), WavError> {
        self.close()?;
        let remove = |path: PathBuf| std::fs::remove_file(&path).map_err(|source| refused(&path, source));
        self.written.drain(..).try_for_each(remove)
    }
}

fn refused(path: &Path, source: io::Error) -> WavError {
    WavError::Io { path: path.display().to_string(), source }
}

/// A new file that only its owner may read.
fn make_file(path: &Path) -> io::Result<Box<dyn Disk>> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file: File = options.open(path)?;
    Ok(Box::new(file))
}

/// One side on its way to the file.
struct Side {
    end: SideEnd,
    span: Span,
    block: Vec<i16>,
    /// Samples that left.
    passed: u64,
}

impl Side {
    fn new(end: SideEnd) -> Self {
        Self { end, span: Span::default(), block: Vec::with_capacity(BLOCK), passed: 0 }
    }

    /// Fills the block with what there is.
    fn fill(&mut self) {
        while self.block.len() < BLOCK {
            if self.span == Span::default() {
                let Ok(span) = self.end.spans.pop() else { return };
                self.span = span;
            }
            let room = BLOCK - self.block.len();
            let silence = usize::try_from(self.span.silence).unwrap_or(usize::MAX).min(room);
            self.block.resize(self.block.len() + silence, 0);
            self.span.silence -= silence as u64;
            let samples = self.span.samples.min(room - silence);
            self.block.extend(std::iter::from_fn(|| self.end.samples.pop().ok()).take(samples));
            self.span.samples -= samples;
        }
    }

    /// Fills the block with silence, up to the end of the recording.
    fn fill_up(&mut self, length: u64) {
        let missing = length.saturating_sub(self.passed + self.block.len() as u64);
        let room = (BLOCK - self.block.len()) as u64;
        self.block.resize(self.block.len() + missing.min(room) as usize, 0);
    }
}

/// Puts both sides together.
pub(super) struct Writer {
    files: Files,
    left: Side,
    right: Side,
    shared: Arc<Shared>,
}

impl Writer {
    pub(super) fn new(files: Files, [left, right]: [SideEnd; 2], shared: Arc<Shared>) -> Self {
        Self { files, left: Side::new(left), right: Side::new(right), shared }
    }

    /// Writes until the tap is gone; gives the files. After an error the rest is lost.
    pub(super) fn run(mut self) -> Result<Vec<PathBuf>, WavError> {
        let written = self.write();
        if let Err(error) = &written {
            self.shared.set(State::Failed);
            tracing::warn!(%error, "a recording ends early, the call goes on");
            self.shared.lose(2 * self.files.untold());
            self.waste();
        }
        written.map(|()| self.files.written)
    }

    fn write(&mut self) -> Result<(), WavError> {
        let mut looks = 0;
        loop {
            let ended = self.is_ended();
            self.write_waiting(ended)?;
            if ended {
                return self.end();
            }
            looks += 1;
            if looks % LOOKS_TO_FLUSH == 0 {
                self.files.flush()?;
            }
            std::thread::sleep(LOOKING);
        }
    }

    fn is_ended(&self) -> bool {
        self.left.end.spans.is_abandoned() && self.right.end.spans.is_abandoned()
    }

    fn end(&mut self) -> Result<(), WavError> {
        match self.shared.state() {
            State::Waiting => self.files.discard(),
            _ => self.files.close(),
        }
    }

    /// Appends what both sides have; at the end, what either has.
    fn write_waiting(&mut self, ended: bool) -> Result<(), WavError> {
        loop {
            let both = self.fill(ended);
            if both == 0 {
                return Ok(());
            }
            self.files.append(&self.left.block[..both], &self.right.block[..both])?;
            self.pass(both);
        }
    }

    /// Looks at both sides; gives how many samples both have.
    fn fill(&mut self, ended: bool) -> usize {
        let length = self.shared.length.load(Ordering::Acquire);
        for side in [&mut self.left, &mut self.right] {
            side.fill();
            if ended {
                side.fill_up(length);
            }
        }
        self.left.block.len().min(self.right.block.len())
    }

    fn pass(&mut self, samples: usize) {
        for side in [&mut self.left, &mut self.right] {
            side.block.drain(..samples);
            side.passed += samples as u64;
        }
        self.shared.written.fetch_add(samples as u64, Ordering::AcqRel);
    }

    /// Counts what comes until the end of the call; nothing can be done with it.
    fn waste(&mut self) {
        loop {
            let ended = self.is_ended();
            loop {
                let both = self.fill(ended);
                if both == 0 {
                    break;
                }
                self.shared.lose(2 * both as u64);
                self.pass(both);
            }
            if ended {
                return;
            }
            std::thread::sleep(LOOKING);
        }
    }
}
