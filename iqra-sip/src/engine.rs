//! The engine: SIP as a state machine without sockets or clocks.
//!
//! Messages come in by [`Engine::handle_message`], time by [`Engine::handle_timeout`], the program's will by commands;
//! out come messages to send, the next deadline and events. Below it are the transactions (RFC 3261 §17, RFC 6026),
//! beside it the dialogs (§12); here they are matched to messages and joined.

mod answers;
pub(crate) mod challenged;
mod client;
mod client_table;
pub(crate) mod config;
mod delayed;
mod dialog_table;
mod dialogs;
mod early;
pub mod event;
pub(crate) mod extensions;
pub(crate) mod failover;
pub(crate) mod flow;
mod inbound;
pub(crate) mod lookup;
mod matching;
pub(crate) mod nat;
mod outbound;
mod protect;
pub(crate) mod random;
pub(crate) mod record;
mod refer;
pub(crate) mod relay;
mod reliable;
mod retry;
mod ringing;
mod server;
mod session;
pub(crate) mod share;
mod stateless;
pub(crate) mod target;
mod update;
mod via;
mod wording;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;

use crate::auth::Wallet;
use crate::fault::Fault;
use crate::message::{Message, ParseError};
use crate::observe::capsule::{Input, Tape};
use crate::observe::{DropReason, Dropped, Observer, Watch};
use crate::transaction::timer::TimerQueue;
use client_table::Clients;
use config::EngineConfig;
use dialog_table::Dialogs;
use event::{EngineCounts, Event};
use failover::Avoided;
use flow::Owner;
use flow::{Flow, Listener, Transmit};
use lookup::Lookups;
use protect::Protection;
use random::Random;
use random::Seed;
use refer::Subscriptions;
use relay::Relays;
use server::Servers;
use share::Share;

/// Transactions and dialogs of one process, or of one shard of it.
///
/// # Driving it
/// After every call that takes `now`: send everything that [`poll_transmit`](Self::poll_transmit) yields, handle
/// everything that [`poll_event`](Self::poll_event) yields, and call [`handle_timeout`](Self::handle_timeout) when
/// [`poll_timeout`](Self::poll_timeout) is reached. `now` never goes back. No call blocks, and none panics on what the
/// network sent. With the same seed, the same calls give the same results.
pub struct Engine {
    config: EngineConfig,
    random: Random,
    listeners: Vec<Listener>,
    timers: TimerQueue<Owner>,
    servers: Servers,
    clients: Clients,
    dialogs: Dialogs,
    wallet: Wallet,
    relays: Relays,
    lookups: Lookups,
    avoided: Avoided,
    subscriptions: Subscriptions,
    serial: u64,
    share: Share,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    watch: Watch,
    tape: Option<Box<Tape>>,
    protection: Option<Arc<Mutex<Protection>>>,
    shed: Option<(u32, u32)>,
    #[cfg(feature = "faults")]
    pub(crate) fault: Option<crate::fault::Fault>,
}

impl Engine {
    /// An engine without listeners. The seed of a program that faces a network is 32 random bytes; see [`Seed`].
    #[must_use]
    pub fn new(config: EngineConfig, seed: impl Into<Seed>) -> Self {
        let mut random = Random::new(seed.into());
        let relays = Relays::new(if config.relay.is_some() { random.up_to(u32::MAX) } else { 0 });
        Self {
            timers: TimerQueue::new(config.timings.clone()),
            protection: config.guard.clone().map(|guard| Protection::shared(guard, &config.limits)),
            config,
            random,
            listeners: Vec::new(),
            servers: Servers::default(),
            clients: Clients::default(),
            dialogs: Dialogs::default(),
            wallet: Wallet::default(),
            relays,
            lookups: Lookups::default(),
            avoided: Avoided::default(),
            subscriptions: Subscriptions::default(),
            serial: 0,
            share: Share::default(),
            shed: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            watch: Watch::default(),
            tape: None,
            #[cfg(feature = "faults")]
            fault: None,
        }
    }

    /// Adds a socket from which requests may leave; the first that fits is taken.
    pub fn add_listener(&mut self, listener: Listener) {
        self.listeners.push(listener);
    }

    /// Tells `observer` of every transaction, dialog and drop from now on, in place of the one before. Messages are told
    /// by whoever moves their octets.
    pub fn observe(&mut self, observer: Arc<dyn Observer>) {
        self.watch.observe(observer);
    }

    /// Takes one framed message.
    pub fn handle_message(&mut self, now: Instant, flow: &Flow, bytes: Bytes) {
        self.record(Some(now), || Input::Message(flow, &bytes));
        self.watch.arrives(now, flow);
        if !self.admits(now, flow, &bytes) {
            return;
        }
        match Message::parse_within(bytes, &self.config.limits) {
            Ok(Message::Request(request)) => self.handle_request(now, flow, request),
            Ok(Message::Response(response)) => self.handle_response(now, flow, response),
            Err(error) => {
                let answered = !self.offended(now, flow) && self.refuse_malformed(flow, error);
                self.watch.discard(if answered { DropReason::Refused } else { DropReason::Malformed });
            }
        }
    }

    /// Fires every timer that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.fire(now) {}
    }

    /// Fires the first timer that is due; false where none is.
    fn fire(&mut self, now: Instant) -> bool {
        let Some((owner, timer)) = self.timers.pop(now) else { return false };
        self.record(Some(now), || Input::Timeout(owner, timer));
        match owner {
            Owner::Server(id) => self.server_fired(now, id, timer),
            Owner::Client(id) => self.client_fired(now, id, timer),
            Owner::Dialog(serial) => self.dialog_fired(now, serial, timer),
            Owner::Relay(id) => self.relay_fired(now, id, timer),
            Owner::Subscription(id) => self.subscription_fired(now, id, timer),
            Owner::Lookup(serial) => self.lookup_fired(now, serial),
        }
        true
    }

    /// Learns that a message could be sent neither by its flow nor by its fallback. A request with a second way goes out
    /// by that.
    pub fn handle_transport_error(&mut self, now: Instant, failed: &Transmit) {
        if let Some(owner) = failed.owner {
            self.record(Some(now), || Input::Unsent(owner));
            self.unsent(now, owner);
        }
    }

    fn unsent(&mut self, now: Instant, owner: Owner) {
        match owner {
            Owner::Server(id) => self.server_unsent(now, id),
            Owner::Client(_) if self.has(Fault::UnsentIgnored) => {}
            Owner::Client(id) => self.client_unsent(now, id),
            Owner::Dialog(_) | Owner::Relay(_) | Owner::Subscription(_) | Owner::Lookup(_) => {}
        }
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.recorded();
        self.transmits.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.recorded();
        self.events.pop_front()
    }

    /// How much state there is.
    #[must_use]
    pub fn counts(&self) -> EngineCounts {
        EngineCounts {
            server_transactions: self.servers.len(),
            client_transactions: self.clients.len(),
            dialogs: self.dialogs.count(),
            timers: self.timers.len(),
        }
    }

    /// What was left unanswered so far.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.watch.dropped()
    }

    /// True when nothing waits for the program or the peer any more: what is left only absorbs repeats.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.dialogs.are_quiet() && self.servers.are_quiet() && self.clients.are_quiet()
    }

    /// Learns that a stream carried what is no message: an offence of its source, like a malformed message. Answers it
    /// where `error` holds enough of a request. The connection is then to be closed, for the next message cannot be found in it.
    pub fn handle_unframed(&mut self, now: Instant, flow: &Flow, error: Option<ParseError>) {
        self.recorded();
        self.watch.arrives(now, flow);
        self.watch.discard(DropReason::Unframed);
        let banned = self.offended(now, flow);
        if let Some(error) = error.filter(|_| !banned) {
            self.refuse_malformed(flow, error);
        }
    }

    /// Learns that a connection was closed in its TLS or WebSocket handshake: an offence of its source too.
    pub fn handle_failed_handshake(&mut self, now: Instant, flow: &Flow) {
        self.recorded();
        self.watch.arrives(now, flow);
        self.watch.discard(DropReason::Handshake);
        self.offended(now, flow);
    }

    /// Forgets every transaction and dialog without a word to anyone: the last step of a shutdown.
    pub fn clear(&mut self) {
        self.recorded();
        self.timers = TimerQueue::new(self.config.timings.clone());
        self.servers = Servers::default();
        self.clients = Clients::default();
        self.dialogs = Dialogs::default();
        self.wait_for_nothing();
        self.relays.clear();
        self.lookups = Lookups::default();
        self.subscriptions = Subscriptions::default();
        self.transmits.clear();
        self.events.clear();
    }

    fn is_full(&mut self) -> bool {
        let full = self.servers.len() + self.clients.len() >= self.config.max_transactions;
        self.random.facts.whether('f', full)
    }

    /// The same for what belongs to a call that is up, of either side, relayed or ours, and for CANCEL: they have a reserve.
    /// A relayed request takes two places of it.
    fn is_full_to_the_brim(&mut self) -> bool {
        let most = self.config.max_transactions.saturating_add(self.config.max_transactions / 8).max(1);
        let full = self.servers.len() + self.clients.len() >= most;
        self.random.facts.whether('f', full)
    }

    /// Whether there is no room for a request of ours, `within` a dialog or not.
    fn has_no_room(&mut self, within: bool) -> bool {
        if within { self.is_full_to_the_brim() } else { self.is_full() }
    }

    /// How full the table of transactions is, in percent.
    fn fill(&self) -> u8 {
        let percent = (self.servers.len() + self.clients.len()) * 100 / self.config.max_transactions.max(1);
        u8::try_from(percent).unwrap_or(u8::MAX)
    }

    fn is_full_of_dialogs(&mut self) -> bool {
        let full = self.dialogs.len() >= self.config.max_dialogs;
        self.random.facts.whether('d', full)
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.random.facts.number('n', || self.serial)
    }
}
