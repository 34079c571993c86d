//! Cuts the calls out of a running engine: each input is written down under the call that it concerns.
//!
//! A message names its call by its Call-ID. What else enters names a transaction, dialog or subscription by a number, and
//! a number belongs to the call during whose input it was drawn. A new call of ours has its name from the first message
//! that it sends.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::facts::{NUMBER, VERDICT};
use super::input::{Input, Subject, name_of, write_flow};
use super::{Entry, Facts};
use crate::engine::flow::Transmit;
use crate::event::Event;
use crate::guard::glance::call_id;
use crate::observe::{Dropped, redact};

/// Says of a call, by its Call-ID and its first message, whether it is kept.
pub type Pick = dyn Fn(&str, &[u8]) -> bool + Send + Sync;

/// Which capsules are kept, and their bounds. The defaults hold 64 MiB at most.
#[derive(Clone)]
pub struct CapsuleConfig {
    /// Calls that are kept; the one that began first goes first. Default 64.
    pub calls: usize,
    /// Entries of one call; later ones are left out. Default 2,000.
    pub entries: usize,
    /// Octets of one call; what does not fit is left out. Default 1 MiB.
    pub bytes: usize,
    /// Which calls are kept; asked on the path of the messages, at once for a call that is kept and each time for one
    /// that is not. Default all.
    pub pick: Option<Arc<Pick>>,
}

impl Default for CapsuleConfig {
    fn default() -> Self {
        Self { calls: 64, entries: 2_000, bytes: 1 << 20, pick: None }
    }
}

impl fmt::Debug for CapsuleConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, entries, bytes, pick } = self;
        write!(f, "CapsuleConfig({calls} calls, {entries} entries, {bytes} bytes, picks: {})", pick.is_some())
    }
}

/// The entries of one call and of those that it is joined with, each with its place in the order of all.
#[derive(Default)]
struct Track {
    entries: Vec<(u64, Entry)>,
    bytes: usize,
    left_out: usize,
    names: Vec<Arc<str>>,
    numbers: Vec<u64>,
}

/// How long the queues of an engine are.
#[derive(Clone, Copy)]
pub(crate) struct Queues {
    transmits: usize,
    events: usize,
}

impl Queues {
    pub(crate) fn of(transmits: &VecDeque<Transmit>, events: &VecDeque<Event>) -> Self {
        Self { transmits: transmits.len(), events: events.len() }
    }
}

/// The input under way.
struct Current {
    subject: Subject,
    at: Duration,
    words: String,
    text: Bytes,
    before: Queues,
    dropped: Dropped,
}

/// What is written down of an engine.
pub(crate) struct Tape {
    config: CapsuleConfig,
    /// A replay: there is one call, and all belongs to it.
    whole: bool,
    start: Option<Instant>,
    last: Duration,
    order: u64,
    names: HashMap<Arc<str>, u64>,
    numbers: HashMap<u64, u64>,
    tracks: BTreeMap<u64, Track>,
    current: Option<Current>,
}

impl Tape {
    pub(crate) fn new(config: CapsuleConfig) -> Self {
        Self {
            config,
            whole: false,
            start: None,
            last: Duration::ZERO,
            order: 0,
            names: HashMap::new(),
            numbers: HashMap::new(),
            tracks: BTreeMap::new(),
            current: None,
        }
    }

    pub(crate) fn of_everything() -> Self {
        let config = CapsuleConfig { calls: 1, entries: usize::MAX, bytes: usize::MAX, pick: None };
        Self { whole: true, ..Self::new(config) }
    }

    /// Begins an input; what concerns no call that is kept is passed over.
    pub(crate) fn open(
        &mut self,
        now: Option<Instant>,
        input: Input<'_>,
        before: Queues,
        dropped: Dropped,
        facts: &mut Facts,
    ) {
        if let Some(now) = now {
            self.passes(now);
        }
        let subject = if self.whole { Subject::Unnamed } else { input.subject() };
        let known = !matches!(&subject, Subject::Number(number) if !self.numbers.contains_key(number));
        if known {
            let (words, text) = input.write();
            facts.start();
            self.current = Some(Current { subject, at: self.last, words, text, before, dropped });
        }
    }

    /// Learns the time, for inputs that do not tell it.
    pub(crate) fn passes(&mut self, now: Instant) {
        self.last = now.saturating_duration_since(*self.start.get_or_insert(now));
    }

    /// Ends the input: notes what it took and what it led to.
    pub(crate) fn close(
        &mut self,
        transmits: &VecDeque<Transmit>,
        events: &VecDeque<Event>,
        dropped: Dropped,
        facts: &mut Facts,
    ) {
        let Some(current) = self.current.take() else { return };
        let facts = facts.stop();
        let Current { subject, at, words, text, before, dropped: dropped_before } = current;
        let sent = transmits.iter().skip(before.transmits);
        let first = sent.clone().next().map(|transmit| &transmit.bytes);
        // What was refused at the door, or led to nothing, is no call: a flood, an ACK or an answer to nobody.
        let silent = first.is_none() && events.len() == before.events;
        let nothing = silent || facts.iter().any(|fact| fact.starts_with(VERDICT));
        let Some(id) = self.track(&subject, nothing, &text, first) else { return };
        let Some(track) = self.tracks.get_mut(&id) else { return };
        if track.left_out > 0 {
            // No number is kept either: what it names later is left out as well.
            track.left_out += 1;
            return;
        }
        for number in facts.iter().filter_map(|fact| fact.strip_prefix(NUMBER)?.parse().ok()) {
            self.numbers.insert(number, id);
            track.numbers.push(number);
        }
        self.push(id, Entry { at, words, text, facts });
        for (reason, count) in dropped.iter() {
            if count > dropped_before.of(reason) {
                self.say(id, at, format!("dropped {reason}"), Bytes::new());
            }
        }
        for transmit in sent {
            self.say(id, at, format!("sent {}", write_flow(&transmit.flow)), clean(&transmit.bytes));
        }
        for event in events.iter().skip(before.events) {
            self.say(id, at, format!("event {}", name_of(event)), Bytes::new());
        }
    }

    /// What the input under way belongs to, made where there is none yet and the call is to be kept.
    fn track(&mut self, subject: &Subject, nothing: bool, text: &Bytes, sent: Option<&Bytes>) -> Option<u64> {
        let name = match subject {
            Subject::Number(number) => return self.numbers.get(number).copied(),
            Subject::Unnamed if self.whole => "",
            Subject::Call(name) => name,
            Subject::Unnamed => call_id(sent?)?,
        };
        if let Some(known) = self.names.get(name) {
            return Some(*known);
        }
        let wanted = !nothing && self.config.pick.as_ref().is_none_or(|pick| pick(name, text));
        (self.whole || wanted).then(|| self.begin(name))
    }

    fn begin(&mut self, name: &str) -> u64 {
        while self.tracks.len() >= self.config.calls.max(1) {
            let oldest = self.tracks.first_key_value().map(|(id, _)| *id).unwrap_or_default();
            self.forget(oldest);
        }
        self.order += 1;
        let (id, name) = (self.order, Arc::<str>::from(name));
        self.names.insert(name.clone(), id);
        self.tracks.insert(id, Track { names: vec![name], ..Track::default() });
        id
    }

    fn forget(&mut self, id: u64) -> Track {
        let track = self.tracks.remove(&id).unwrap_or_default();
        for number in &track.numbers {
            self.numbers.remove(number);
        }
        for name in &track.names {
            self.names.remove(name);
        }
        track
    }

    /// The input under way belongs to this call too: from here on both are one.
    pub(crate) fn join(&mut self, call: &str) {
        let Some(Current { subject: Subject::Call(name), .. }) = &self.current else { return };
        let (name, other) = (Arc::<str>::from(name.as_str()), self.names.get(call).copied());
        let room = |other: &u64| self.tracks.get(other).is_some_and(|track| track.left_out == 0);
        let Some(other) = other.filter(room) else { return };
        let mine = self.names.get(&name).copied().filter(|mine| *mine != other);
        let track = mine.map(|mine| self.forget(mine)).unwrap_or_default();
        let Some(joined) = self.tracks.get_mut(&other) else { return };
        self.names.insert(name.clone(), other);
        if !joined.names.contains(&name) {
            joined.names.push(name);
        }
        for name in track.names {
            self.names.insert(name, other);
        }
        self.numbers.extend(track.numbers.iter().map(|number| (*number, other)));
        joined.numbers.extend(track.numbers);
        joined.entries.extend(track.entries);
        joined.entries.sort_by_key(|(order, _)| *order);
        joined.bytes += track.bytes;
        joined.left_out += track.left_out;
    }

    fn say(&mut self, id: u64, at: Duration, words: String, text: Bytes) {
        self.push(id, Entry { at, words, text, facts: Vec::new() });
    }

    fn push(&mut self, id: u64, entry: Entry) {
        self.order += 1;
        let (order, size) = (self.order, entry.size());
        let (entries, bytes) = (self.config.entries, self.config.bytes);
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let full = track.entries.len() >= entries || track.bytes.saturating_add(size) > bytes;
        if full || track.left_out > 0 {
            track.left_out += 1;
            return;
        }
        track.bytes += size;
        track.entries.push((order, entry));
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.names.keys().map(|name| String::from(&**name)).collect()
    }

    /// The entries of a call, and how many found no room.
    pub(crate) fn entries_of(&self, call: &str) -> Option<(Vec<Entry>, usize)> {
        let track = self.tracks.get(self.names.get(call)?)?;
        Some((track.entries.iter().map(|(_, entry)| entry.clone()).collect(), track.left_out))
    }

    pub(crate) fn everything(self) -> Vec<Entry> {
        self.tracks.into_values().flat_map(|track| track.entries).map(|(_, entry)| entry).collect()
    }
}

/// Without secrets, in a buffer of its own: a buffer of the network may be much larger.
pub(super) fn clean(message: &Bytes) -> Bytes {
    let clean = redact(message);
    if clean.as_ptr() == message.as_ptr() { Bytes::copy_from_slice(message) } else { clean }
}
