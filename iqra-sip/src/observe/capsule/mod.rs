//! Capsules: all that entered an engine for one call, and all that it said, in a text that replays. The form of a bug
//! report.
//!
//! An engine that keeps capsules ([`CapsuleConfig`]) writes down each input that concerns a call: its messages, the
//! program's commands, timers, failures to send. What else a call depends on is not the call's own: random numbers, the
//! numbers of its transactions, and what other calls have led to (the engine is full, a target is avoided, the guard's
//! verdict, a nonce is known). These [`facts`] are noted with the input that asked for them and given back by
//! [`Capsule::replay`], which feeds a fresh engine and names the first entry that differs. So one call is cut out of a
//! running endpoint, whatever the others do, and the seed of the endpoint stays secret.
//!
//! Secrets are replaced before anything is kept, and both sides are compared without them. Phone numbers stay, unless
//! [`Capsule::mask_numbers`] replaces them.
//!
//! ```text
//! iqra-capsule 1
//! incarnation 0
//! listen UDP 192.0.2.1:5060 192.0.2.1:5060
//! 0.000000000 message UDP 192.0.2.1:5060 198.51.100.7:5060 -
//! = n1
//! = r81985529216486895
//! | OPTIONS sip:a@192.0.2.1 SIP/2.0
//! 0.000000000 event Request
//! ```
//! Times are seconds since the first entry; `message` names transport, our socket, the peer's and the connection; lines
//! with `=` are facts; lines with a bar are the text, octets that do not print as `\xNN`.

mod command;
mod facts;
mod input;
mod numbers;
mod tape;

use std::fmt::{self, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::engine::Engine;
use crate::engine::config::EngineConfig;
use crate::engine::flow::{Listener, Transport};
pub(crate) use command::Command;
pub(crate) use facts::Facts;
pub(crate) use input::{Given, Input};
pub use tape::{CapsuleConfig, Pick};
pub(crate) use tape::{Queues, Tape};

/// The first line: what it is, and the version of the form.
const HEADING: &str = "iqra-capsule 1";

/// One thing that entered the engine or left it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) at: Duration,
    words: String,
    pub(crate) text: Bytes,
    /// What an input asked for.
    pub(crate) facts: Vec<String>,
}

impl Entry {
    /// What the engine said, not what it was told.
    fn is_output(&self) -> bool {
        ["sent ", "event ", "dropped "].iter().any(|word| self.words.starts_with(word))
    }

    fn size(&self) -> usize {
        let facts: usize = self.facts.iter().map(|fact| fact.len() + size_of::<String>()).sum();
        size_of::<Entry>() + self.text.len() + self.words.len() + facts
    }

    /// The facts are what a replay is given, not what it says.
    fn is_same(&self, other: &Entry) -> bool {
        (self.at, &self.words, &self.text) == (other.at, &other.words, &other.text)
    }
}

/// A recorded call. [`Display`](fmt::Display) writes it down; `Debug` shows its size alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Capsule {
    pub(crate) listeners: Vec<Listener>,
    /// Of the relay, which what it signs carries.
    pub(crate) incarnation: u32,
    entries: Vec<Entry>,
    /// Entries that found no room; such a capsule replays up to there.
    left_out: usize,
}

impl fmt::Debug for Capsule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capsule({} entries, {} left out)", self.entries.len(), self.left_out)
    }
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
    /// What the capsule has there: its time, its words and the first line that differs; empty at its end.
    pub recorded: String,
    /// What the engine did.
    pub replayed: String,
}

impl Capsule {
    /// Times begin with the first entry.
    pub(crate) fn of(
        listeners: Vec<Listener>,
        incarnation: u32,
        (mut entries, left_out): (Vec<Entry>, usize),
    ) -> Self {
        let start = entries.first().map_or(Duration::ZERO, |first| first.at);
        entries.iter_mut().for_each(|entry| entry.at = entry.at.saturating_sub(start));
        Self { listeners, incarnation, entries, left_out }
    }

    /// How many entries found no room.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Gives a fresh engine everything that was recorded; `config` is what the recorded one had, credentials and guard
    /// aside.
    ///
    /// # Errors
    /// The first place where the engine did something else than was recorded.
    pub fn replay(&self, config: &EngineConfig) -> Result<(), Box<Divergence>> {
        let (start, mut engine) = (Instant::now(), Engine::replaying(config, self));
        for entry in self.entries.iter().filter(|entry| !entry.is_output()) {
            engine.replay(start, entry);
        }
        let again = engine.replayed();
        let most = if self.left_out > 0 { self.entries.len() } else { self.entries.len().max(again.len()) };
        let pairs = (0..most).map(|index| (self.entries.get(index), again.get(index)));
        let differs = |one: Option<&Entry>, other: Option<&Entry>| match (one, other) {
            (Some(one), Some(other)) => !one.is_same(other),
            _ => true,
        };
        match pairs.enumerate().find(|(_, (one, other))| differs(*one, *other)) {
            None => Ok(()),
            Some((index, (recorded, replayed))) => Err(Box::new(Divergence {
                entry: index + 1,
                recorded: brief(recorded, replayed),
                replayed: brief(replayed, recorded),
            })),
        }
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    ///
    /// # Errors
    /// The line that is no line of a capsule.
    pub fn parse(text: &str) -> Result<Capsule, CapsuleError> {
        let mut capsule = Capsule::of(Vec::new(), 0, (Vec::new(), 0));
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
        if let Some(fact) = line.strip_prefix("= ") {
            let entry = self.entries.last_mut().ok_or("a fact without an entry")?;
            entry.facts.push(fact.to_owned());
            return Ok(());
        }
        let (first, words) = line.split_once(' ').ok_or("a single word")?;
        match first {
            "incarnation" => {
                self.incarnation = words.parse().map_err(|_| "incarnation is a number")?;
            }
            "left_out" => self.left_out = words.parse().map_err(|_| "left_out is a number")?,
            "listen" => {
                self.listeners
                    .push(read_listener(words).ok_or("listen wants a transport and two addresses")?);
            }
            at => {
                let at = read_time(at).ok_or("an entry begins with seconds and nine decimals")?;
                self.entries.push(Entry {
                    at,
                    words: words.to_owned(),
                    text: Bytes::new(),
                    facts: Vec::new(),
                });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Capsule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADING}\nincarnation {}", self.incarnation)?;
        for Listener { transport, addr, advertised } in &self.listeners {
            writeln!(f, "listen {transport} {addr} {advertised}")?;
        }
        for Entry { at, words, text, facts } in &self.entries {
            writeln!(f, "{}.{:09} {words}", at.as_secs(), at.subsec_nanos())?;
            facts.iter().try_for_each(|fact| writeln!(f, "= {fact}"))?;
            write_text(f, text)?;
        }
        if self.left_out > 0 {
            writeln!(f, "left_out {}", self.left_out)?;
        }
        Ok(())
    }
}

/// Time, words and the first line that `other` has not.
fn brief(entry: Option<&Entry>, other: Option<&Entry>) -> String {
    let Some(entry) = entry else { return String::new() };
    let other = other.map(|other| String::from_utf8_lossy(&other.text)).unwrap_or_default();
    let (text, mut others) = (String::from_utf8_lossy(&entry.text), other.split("\r\n"));
    let line = text.split("\r\n").find(|line| others.next() != Some(line)).unwrap_or_default();
    format!("{:?} {} {line}", entry.at, entry.words)
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
