//! An engine that writes down all that enters and leaves it.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::{Capsule, Command, Done, Entry, read_flow, write_flow};
use crate::engine::Engine;
use crate::engine::config::EngineConfig;
use crate::engine::flow::{Flow, Listener, Transmit};
use crate::event::{EngineError, Event};
use crate::observe::redact;

/// Drives an engine as its own driver would, and records it. Driven like an [`Engine`].
pub struct Recorder {
    engine: Engine,
    capsule: Capsule,
    start: Instant,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

impl Recorder {
    /// An engine with these listeners; its seed is written into the capsule, so never use the one of a live endpoint.
    #[must_use]
    pub fn new(config: EngineConfig, seed: u64, listeners: Vec<Listener>, start: Instant) -> Self {
        let mut engine = Engine::new(config, seed);
        listeners.iter().for_each(|listener| engine.add_listener(*listener));
        let capsule = Capsule::new(seed, listeners);
        Self { engine, capsule, start, transmits: VecDeque::new(), events: VecDeque::new() }
    }

    /// [`Engine::handle_message`].
    pub fn handle_message(&mut self, now: Instant, flow: &Flow, bytes: Bytes) {
        self.note(now, format!("message {}", write_flow(flow)), redact(&bytes));
        self.engine.handle_message(now, flow, bytes);
        self.drain(now);
    }

    /// [`Engine::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.engine.poll_timeout().is_some_and(|due| due <= now) {
            self.note(now, String::from("timeout -"), Bytes::new());
            self.engine.handle_timeout(now);
            self.drain(now);
        }
    }

    /// Gives the engine a command.
    ///
    /// # Errors
    /// What the engine says.
    pub fn command(&mut self, now: Instant, command: Command) -> Result<Done, EngineError> {
        let (words, text) = command.write();
        self.note(now, words, redact(&text));
        let done = command.run(&mut self.engine, now);
        if let Err(error) = &done {
            self.note(now, format!("refused {error}"), Bytes::new());
        }
        self.drain(now);
        done
    }

    /// [`Engine::poll_transmit`].
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// [`Engine::poll_event`].
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// [`Engine::poll_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.engine.poll_timeout()
    }

    /// What was recorded.
    #[must_use]
    pub fn into_capsule(self) -> Capsule {
        self.capsule
    }

    /// Takes an entry of a capsule; one that is no input changes nothing, which the comparison then shows.
    pub(super) fn feed(&mut self, now: Instant, words: &str, text: &Bytes) {
        match words.split_once(' ') {
            Some(("message", flow)) => {
                if let Some(flow) = read_flow(flow) {
                    self.handle_message(now, &flow, text.clone());
                }
            }
            Some(("timeout", _)) => self.handle_timeout(now),
            _ => {
                if let Some(command) = Command::read(words, text) {
                    // A refusal is an entry of its own.
                    let _ = self.command(now, command);
                }
            }
        }
    }

    fn note(&mut self, now: Instant, words: String, text: Bytes) {
        self.capsule.push(Entry { at: now.saturating_duration_since(self.start), words, text });
    }

    fn drain(&mut self, now: Instant) {
        while let Some(transmit) = self.engine.poll_transmit() {
            self.note(now, format!("sent {}", write_flow(&transmit.flow)), redact(&transmit.bytes));
            self.transmits.push_back(transmit);
        }
        while let Some(event) = self.engine.poll_event() {
            // The name of the variant: the message that it carries is in the capsule already.
            let name: String = format!("{event:?}").chars().take_while(char::is_ascii_alphanumeric).collect();
            self.note(now, format!("event {name}"), Bytes::new());
            self.events.push_back(event);
        }
    }
}
