//! Capsules: all that entered an engine, and all that it said, in a text that replays. The form of a bug report.
//!
//! A [`Recorder`] drives an engine of its own and writes down the time, the messages, the commands and the timeouts,
//! each followed by what the engine sent and told. [`Capsule::replay`] gives the same to a fresh engine of the same
//! seed and says whether it does the same. Secrets are replaced before anything is written, and both sides are compared
//! without them; phone numbers stay, so look at a capsule before you hand it on.
//!
//! ```text
//! iqra-capsule 1
//! seed 7
//! listen UDP 192.0.2.1:5060 192.0.2.1:5060
//! 0.000000000 message UDP 192.0.2.1:5060 198.51.100.7:5060 -
//! | OPTIONS sip:a@192.0.2.1 SIP/2.0
//! 0.000000000 event Request
//! ```
//! Times are seconds since the recorder was made; `message` names transport, our socket, the peer's and the
//! connection; lines with a bar are the text, octets that do not print as `\xNN`.

mod command;
mod recorder;

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::engine::config::EngineConfig;
use crate::engine::flow::{ConnectionId, Flow, Listener, Transport};
pub use command::{Command, Done};
pub use recorder::Recorder;

/// The first line: what it is, and the version of the form.
const HEADING: &str = "iqra-capsule 1";
/// Entries of one capsule; later ones are left out.
const MAX_ENTRIES: usize = 10_000;
/// Octets of their messages; what does not fit is left out.
const MAX_BYTES: usize = 4 << 20;

/// One thing that entered the engine or left it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    at: Duration,
    words: String,
    text: Bytes,
}

impl Entry {
    /// What the engine said, not what it was told.
    fn is_output(&self) -> bool {
        ["sent ", "event ", "refused "].iter().any(|word| self.words.starts_with(word))
    }
}

/// A recorded run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capsule {
    seed: u64,
    listeners: Vec<Listener>,
    entries: Vec<Entry>,
    bytes: usize,
    /// Entries that found no room; such a capsule replays up to there.
    left_out: usize,
}

/// Why a text is no capsule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the capsule: {why}")]
pub struct CapsuleError {
    /// Which, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Where a replay went another way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {entry}: recorded {recorded:?}, replayed {replayed:?}")]
pub struct Divergence {
    /// Which entry, from 1.
    pub entry: usize,
    /// What the capsule has there, in its first line; empty at its end.
    pub recorded: String,
    /// What the engine did.
    pub replayed: String,
}

impl Capsule {
    fn new(seed: u64, listeners: Vec<Listener>) -> Self {
        Self { seed, listeners, entries: Vec::new(), bytes: 0, left_out: 0 }
    }

    fn push(&mut self, entry: Entry) {
        let size = entry.text.len() + entry.words.len();
        if self.left_out > 0 || self.entries.len() >= MAX_ENTRIES || self.bytes + size > MAX_BYTES {
            self.left_out += 1;
            return;
        }
        self.bytes += size;
        self.entries.push(entry);
    }

    /// How many entries found no room.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Gives a fresh engine everything that was recorded; `config` is what the recorded one had.
    ///
    /// # Errors
    /// The first place where the engine did something else than was recorded.
    pub fn replay(&self, config: EngineConfig) -> Result<(), Box<Divergence>> {
        let start = Instant::now();
        let mut recorder = Recorder::new(config, self.seed, self.listeners.clone(), start);
        for entry in self.entries.iter().filter(|entry| !entry.is_output()) {
            recorder.feed(start + entry.at, &entry.words, &entry.text);
        }
        let again = recorder.into_capsule().entries;
        let most = self.entries.len().max(if self.left_out > 0 { 0 } else { again.len() });
        let differs = (0..most).find(|&index| self.entries.get(index) != again.get(index));
        match differs {
            None => Ok(()),
            Some(index) => Err(Box::new(Divergence {
                entry: index + 1,
                recorded: brief(self.entries.get(index)),
                replayed: brief(again.get(index)),
            })),
        }
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    ///
    /// # Errors
    /// The line that is no line of a capsule.
    pub fn parse(text: &str) -> Result<Capsule, CapsuleError> {
        let mut capsule = Capsule::new(0, Vec::new());
        for (index, line) in text.lines().enumerate() {
            let read = match index {
                0 if line == HEADING => Ok(()),
                0 => Err("not a capsule of version 1"),
                _ => capsule.read_line(line),
            };
            read.map_err(|why| CapsuleError { line: index + 1, why })?;
        }
        Ok(capsule)
    }

    fn read_line(&mut self, line: &str) -> Result<(), &'static str> {
        if let Some(text) = line.strip_prefix('|') {
            let entry = self.entries.last_mut().ok_or("text without an entry")?;
            return read_text(text, entry).ok_or("text is | or |-, a space, and escapes as \\xNN");
        }
        let (first, words) = line.split_once(' ').ok_or("a single word")?;
        match first {
            "seed" => self.seed = words.parse().map_err(|_| "the seed is a number")?,
            "left_out" => self.left_out = words.parse().map_err(|_| "left_out is a number")?,
            "listen" => {
                self.listeners
                    .push(read_listener(words).ok_or("listen wants a transport and two addresses")?);
            }
            at => {
                let at = read_time(at).ok_or("an entry begins with seconds and nine decimals")?;
                self.push(Entry { at, words: words.to_owned(), text: Bytes::new() });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Capsule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADING}\nseed {}", self.seed)?;
        for Listener { transport, addr, advertised } in &self.listeners {
            writeln!(f, "listen {transport} {addr} {advertised}")?;
        }
        for Entry { at, words, text } in &self.entries {
            writeln!(f, "{}.{:09} {words}", at.as_secs(), at.subsec_nanos())?;
            write_text(f, text)?;
        }
        if self.left_out > 0 {
            writeln!(f, "left_out {}", self.left_out)?;
        }
        Ok(())
    }
}

fn brief(entry: Option<&Entry>) -> String {
    entry.map_or_else(String::new, |entry| {
        let first = entry.text.split(|&b| b == b'\r').next().unwrap_or_default();
        format!("{:?} {} {}", entry.at, entry.words, String::from_utf8_lossy(first))
    })
}

/// Each line with its CRLF as `| line`, a last one without as `|- line`.
fn write_text(f: &mut fmt::Formatter<'_>, mut text: &[u8]) -> fmt::Result {
    while !text.is_empty() {
        let end = text.windows(2).position(|window| window == b"\r\n");
        f.write_str(if end.is_some() { "| " } else { "|- " })?;
        for &octet in &text[..end.unwrap_or(text.len())] {
            match octet {
                b'\\' | ..0x20 | 0x7f.. => write!(f, "\\x{octet:02x}")?,
                _ => f.write_char(char::from(octet))?,
            }
        }
        f.write_char('\n')?;
        text = &text[end.map_or(text.len(), |end| end + 2)..];
    }
    Ok(())
}

fn read_text(line: &str, entry: &mut Entry) -> Option<()> {
    let (line, ends) = match line.strip_prefix("- ") {
        Some(line) => (line, false),
        None => (line.strip_prefix(' ').unwrap_or(line), true),
    };
    let mut text = entry.text.to_vec();
    let mut rest = line.as_bytes();
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        if octet != b'\\' {
            text.push(octet);
            continue;
        }
        let digits = rest.strip_prefix(b"x")?.get(..2)?;
        text.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &rest[3..];
    }
    if ends {
        text.extend_from_slice(b"\r\n");
    }
    entry.text = text.into();
    Some(())
}

fn read_time(text: &str) -> Option<Duration> {
    let (seconds, nanos) = text.split_once('.')?;
    let nanos: u32 = nanos.parse().ok().filter(|&nanos: &u32| nanos < 1_000_000_000)?;
    Some(Duration::new(seconds.parse().ok().filter(|&s: &u64| s < 1 << 32)?, nanos))
}

fn read_listener(words: &str) -> Option<Listener> {
    let mut words = words.split(' ');
    let (transport, addr) = (Transport::named(words.next()?)?, words.next()?.parse().ok()?);
    Some(Listener { transport, addr, advertised: words.next()?.parse().ok()? })
}

fn write_flow(flow: &Flow) -> String {
    let connection = flow.connection.map_or_else(|| String::from("-"), |id| id.0.to_string());
    format!("{} {} {} {connection}", flow.transport, flow.local, flow.remote)
}

fn read_flow(words: &str) -> Option<Flow> {
    let mut words = words.split(' ');
    let transport = Transport::named(words.next()?)?;
    let (local, remote): (SocketAddr, SocketAddr) =
        (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let connection = match words.next()? {
        "-" => None,
        id => Some(ConnectionId(id.parse().ok()?)),
    };
    Some(Flow { transport, local, remote, connection })
}
