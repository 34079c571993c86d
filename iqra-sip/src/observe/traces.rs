//! The traces of the last calls, ready to be drawn as ladders. In: messages, as an observer. Bounded in calls, messages
//! and octets; the oldest call goes first. A call begins with a request: a response to nothing that is kept, such as our
//! refusals of a flood and the strays of one, begins none.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ladder::{self, Style};
use super::{Observer, TraceRecord};
use crate::guard::Kind;
use crate::guard::glance::call_id;

/// The bounds of [`Traces`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceLimits {
    /// Calls that are kept. Default 256.
    pub calls: usize,
    /// Messages of one call; later ones are left out. Default 128.
    pub messages: usize,
    /// Octets of the messages of one call; what does not fit is left out. Default 256 KiB.
    pub bytes: usize,
}

impl Default for TraceLimits {
    fn default() -> Self {
        Self { calls: 256, messages: 128, bytes: 256 << 10 }
    }
}

#[derive(Default)]
struct Call {
    records: Vec<TraceRecord>,
    bytes: usize,
    left_out: usize,
}

#[derive(Default)]
struct Table {
    calls: HashMap<String, Call>,
    order: VecDeque<String>,
}

/// Keeps the messages of the last calls, by Call-ID. An observer.
#[derive(Default)]
pub struct Traces {
    limits: TraceLimits,
    table: Mutex<Table>,
}

impl Traces {
    /// An empty collection.
    #[must_use]
    pub fn new(limits: TraceLimits) -> Self {
        Self { limits, table: Mutex::default() }
    }

    /// The Call-IDs that are kept, the oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.lock().order.iter().cloned().collect()
    }

    /// The messages of one call, in order; none where it is not kept.
    #[must_use]
    pub fn of(&self, call_id: &str) -> Vec<TraceRecord> {
        self.lock().calls.get(call_id).map(|call| call.records.clone()).unwrap_or_default()
    }

    /// How many messages of one call were left out for the bounds.
    #[must_use]
    pub fn left_out(&self, call_id: &str) -> usize {
        self.lock().calls.get(call_id).map_or(0, |call| call.left_out)
    }

    /// One call, drawn.
    #[must_use]
    pub fn ladder(&self, call_id: &str, style: Style) -> String {
        ladder::draw(&self.of(call_id), call_id, style)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn call(&mut self, call_id: &str, most: usize) -> &mut Call {
        if !self.calls.contains_key(call_id) {
            while self.order.len() >= most.max(1) {
                let oldest = self.order.pop_front().unwrap_or_default();
                self.calls.remove(&oldest);
            }
            self.order.push_back(call_id.to_owned());
        }
        self.calls.entry(call_id.to_owned()).or_default()
    }
}

impl Observer for Traces {
    fn message(&self, record: &TraceRecord) {
        let Some(call_id) = call_id(&record.bytes) else { return };
        let mut table = self.lock();
        if Kind::of(&record.bytes) == Kind::Response && !table.calls.contains_key(call_id) {
            return;
        }
        let call = table.call(call_id, self.limits.calls);
        let size = record.bytes.len();
        if call.records.len() >= self.limits.messages || call.bytes + size > self.limits.bytes {
            call.left_out += 1;
            return;
        }
        call.bytes += size;
        call.records.push(record.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flow::{Flow, Transport};
    use crate::observe::Direction;
    use std::time::SystemTime;

    fn message(traces: &Traces, call_id: &str, n: usize) {
        let addr = "192.0.2.1:5060".parse().unwrap();
        traces.message(&TraceRecord {
            at: SystemTime::UNIX_EPOCH,
            direction: Direction::In,
            flow: Flow { transport: Transport::Udp, local: addr, remote: addr, connection: None },
            bytes: format!("OPTIONS sip:a SIP/2.0\r\nCall-ID: {call_id}\r\nCSeq: {n} OPTIONS\r\n\r\n").into(),
        });
    }

    #[test]
    fn the_last_calls_are_kept_each_within_its_bounds() {
        let traces = Traces::new(TraceLimits { calls: 2, messages: 3, bytes: 1_000 });
        for n in 0..5 {
            message(&traces, "a", n);
        }
        message(&traces, "b", 1);
        assert_eq!((traces.of("a").len(), traces.left_out("a")), (3, 2));
        message(&traces, "c", 1);
        assert_eq!(traces.calls(), ["b", "c"]);
        assert!(traces.of("a").is_empty());
        assert!(traces.ladder("b", Style::default()).contains("OPTIONS sip:a"));
        let answer = |call_id: &str| {
            let mut record = traces.of("c").remove(0);
            record.bytes = format!("SIP/2.0 503 Busy\r\nCall-ID: {call_id}\r\n\r\n").into();
            traces.message(&record);
        };
        answer("d");
        answer("c");
        assert_eq!((traces.calls(), traces.of("c").len()), (vec!["b".into(), "c".into()], 2));
        let small = Traces::new(TraceLimits { bytes: 80, ..TraceLimits::default() });
        (0..3).for_each(|n| message(&small, "a", n));
        assert_eq!((small.of("a").len(), small.left_out("a")), (1, 2), "in octets");
    }
}
