//! The engine's hooks for capsules: what enters is written down as it enters, what leaves as it is about to be fetched.
//!
//! [`Engine::record`] is the first line of everything that enters; [`Engine::recorded`] closes that input before the next
//! one and before anything is fetched, so that what stands in the queues since then belongs to it. Nothing that enters is
//! called by the engine itself. Without capsules each is one branch.

use std::time::Instant;

use super::Engine;
use super::config::EngineConfig;
use super::relay::Relays;
use crate::guard::GuardConfig;
use crate::observe::capsule::{Capsule, CapsuleConfig, Entry, Given, Input, Queues, Tape};

impl Engine {
    /// Keeps capsules of the calls to come. Those that were kept before are forgotten.
    pub fn keep_capsules(&mut self, config: CapsuleConfig) {
        self.recorded();
        self.tape = Some(Box::new(Tape::new(config)));
    }

    /// What entered and left for one call so far, and for those that took its place (RFC 3891); `None` where it is not
    /// kept.
    pub fn capsule(&mut self, call_id: &str) -> Option<Capsule> {
        self.recorded();
        let (listeners, incarnation) = (self.listeners.clone(), self.relays.incarnation());
        let entries = self.tape.as_ref()?.entries_of(call_id)?;
        Some(Capsule::of(listeners, incarnation, entries))
    }

    /// The Call-IDs whose capsules are kept, in no order.
    pub fn capsules(&mut self) -> Vec<String> {
        self.recorded();
        self.tape.as_ref().map(|tape| tape.calls()).unwrap_or_default()
    }

    /// Begins an input. `now` is unknown for what needs no time.
    pub(super) fn record<'a>(&mut self, now: Option<Instant>, input: impl FnOnce() -> Input<'a>) {
        if self.tape.is_some() {
            self.recorded();
            let (queues, dropped) = (Queues::of(&self.transmits, &self.events), self.watch.dropped());
            if let Some(tape) = &mut self.tape {
                tape.open(now, input(), queues, dropped, &mut self.random.facts);
            }
        }
    }

    /// Ends the input under way.
    pub(super) fn recorded(&mut self) {
        if let Some(tape) = &mut self.tape {
            tape.close(&self.transmits, &self.events, self.watch.dropped(), &mut self.random.facts);
        }
    }

    /// The input under way concerns this other call too.
    pub(super) fn joins(&mut self, call_id: &str) {
        if let Some(tape) = &mut self.tape {
            tape.join(call_id);
        }
    }

    /// An engine that is given the inputs of a capsule. Its guard decides nothing: what it said is among the facts.
    pub(crate) fn replaying(config: &EngineConfig, capsule: &Capsule) -> Engine {
        let config = EngineConfig { guard: Some(GuardConfig::default()), ..config.clone() };
        let mut engine = Engine::new(config, 0);
        engine.relays = Relays::new(capsule.incarnation);
        capsule.listeners.iter().for_each(|listener| engine.add_listener(*listener));
        engine.tape = Some(Box::new(Tape::of_everything()));
        engine
    }

    /// Takes one input of a capsule; `entry` is one.
    pub(crate) fn replay(&mut self, start: Instant, entry: &Entry) {
        self.recorded();
        self.random.facts.give(&entry.facts);
        let now = start + entry.at;
        if let Some(tape) = &mut self.tape {
            tape.passes(now);
        }
        match entry.input() {
            Some(Given::Message(flow)) => self.handle_message(now, &flow, entry.text.clone()),
            Some(Given::Timeout) => {
                self.fire(now);
            }
            Some(Given::Unsent(owner)) => {
                self.record(Some(now), || Input::Unsent(owner));
                self.unsent(now, owner);
            }
            // A refusal leaves nothing, as it did then.
            Some(Given::Command(command)) => command.run(self, now),
            // What is no input changes nothing, which the comparison shows.
            None => {}
        }
        self.recorded();
        while self.poll_transmit().is_some() || self.poll_event().is_some() {}
    }

    /// All that a replay has done.
    pub(crate) fn replayed(&mut self) -> Vec<Entry> {
        self.recorded();
        self.tape.take().map(|tape| tape.everything()).unwrap_or_default()
    }
}
