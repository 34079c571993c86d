//! Names that the engine asks for: by [`Event::Lookup`], answered by [`Engine::looked_up`] (RFC 3263 §4).
//!
//! Three ask: a target of a relayed call, a relayed request inside a dialog, and a dialog of our own whose next hop, the
//! first Route or the peer's Contact, is a name. Requests of such a dialog wait in their order, the ACK of a 2xx among
//! them; what was found is kept in the dialog. Where nothing is found, or no answer comes within
//! [`EngineConfig::name_wait`](super::config::EngineConfig::name_wait), they go back along the flow that the INVITE took:
//! a call can always be hung up.
//!
//! Whoever asks is bounded: a target and a request by their server transactions, a dialog by its own. The ACK of a 2xx that
//! is relayed has neither, and each repeat of it asks anew, so [`EngineConfig::max_ack_lookups`] bounds them; one above that
//! is dropped, and comes again with the repeat of its 2xx.
//!
//! [`EngineConfig::max_ack_lookups`]: super::config::EngineConfig::max_ack_lookups

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::Engine;
use super::event::Event;
use super::flow::{Hop, Owner};
use super::target::{self, Way};
use crate::message::{Host, Request, Scheme, Uri};
use crate::observe::DropReason;
use crate::observe::capsule::{Command, Input};
use crate::transaction::timer::{Clocks, Timer};

/// A name whose hops are wanted: its URI goes through the procedure of RFC 3263, and the answer to
/// [`Engine::looked_up`].
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The Route or Request-URI with the name.
    pub uri: Uri,
    /// Only secure hops will do (RFC 3261 §26.2.2).
    pub secure: bool,
    pub(crate) asker: Asker,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) enum Asker {
    /// A target of a relayed call.
    Target { server: u64, attempt: u32 },
    /// A relayed request inside a dialog, by its server transaction.
    Through(u64, Arc<Request>),
    /// A relayed ACK of a 2xx.
    Ack(Arc<Request>),
    /// A dialog of ours.
    Dialog(u64),
}

impl Lookup {
    /// Of the next hop of a request.
    pub(super) fn of_request(request: &Request, uri: Uri, asker: Asker) -> Self {
        Self { uri, secure: target::asks_for_sips(&request.uri, &request.headers), asker }
    }
}

/// A name to be looked up.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    pub(super) uri: Uri,
    pub(super) secure: bool,
}

/// What a dialog has found out about its next hop.
#[derive(Debug)]
pub(crate) struct Found {
    pub(super) uri: Uri,
    /// None where nobody knows it; those that had failed of late stand last.
    pub(super) hops: VecDeque<Hop>,
}

/// Who waits for an address.
#[derive(Default)]
pub(super) struct Lookups {
    /// Dialogs, by number.
    dialogs: HashMap<u64, Waiting>,
    /// Relayed ACKs whose names are being looked up.
    acks: usize,
}

struct Waiting {
    held: Vec<Held>,
    clocks: Clocks,
}

/// A message that waits.
enum Held {
    /// A request, by its client transaction.
    Request(u64),
    /// The ACK of a 2xx.
    Ack(Box<HeldAck>),
}

struct HeldAck {
    client: u64,
    tag: String,
    ack: Ack,
}

/// The ACK of a 2xx without our Via, and its way.
pub(super) struct Ack {
    pub(super) request: Request,
    pub(super) branch: String,
    pub(super) way: Way,
}

impl Engine {
    pub(super) fn ask(&mut self, lookup: Lookup) {
        self.events.push_back(Event::Lookup(Box::new(lookup)));
    }

    /// Asks for the next hop of a relayed ACK, unless too many are asked for.
    pub(super) fn ask_for_ack(&mut self, ack: Arc<Request>, uri: Uri) {
        let full = self.lookups.acks >= self.config.max_ack_lookups;
        if self.random.facts.whether('k', full) {
            return self.watch.discard(DropReason::Lookups);
        }
        self.lookups.acks += 1;
        self.ask(Lookup::of_request(&ack, uri, Asker::Ack(ack.clone())));
    }

    /// Answers an [`Event::Lookup`]: the hops in the order to try them, none where the name cannot be found. An answer
    /// that comes too late changes nothing.
    pub fn looked_up(&mut self, now: Instant, lookup: Lookup, hops: Vec<Hop>) {
        self.record(Some(now), || Input::command(Command::LookedUp(Box::new(lookup.clone()), hops.clone())));
        let hops = match lookup.secure {
            true => hops.into_iter().filter(|hop| hop.transport.is_secure()).collect(),
            false => hops,
        };
        match lookup.asker {
            Asker::Target { server, attempt } => self.target_found(now, server, attempt, hops),
            Asker::Through(server, request) => self.through_found(now, server, request, hops),
            Asker::Ack(ack) => {
                self.lookups.acks = self.lookups.acks.saturating_sub(1);
                self.ack_found(now, &ack, hops);
            }
            Asker::Dialog(serial) => self.dialog_found(now, serial, lookup.uri, hops),
        }
    }

    /// Whether a dialog's next hop has to be looked up: a name, where somebody is there to look. What ends in `invalid`
    /// is meant to lead nowhere (RFC 2606 §2), as the Contacts of browsers do (RFC 7118 §5.2).
    pub(super) fn is_to_look_up(&self, uri: &Uri) -> bool {
        let Some(Host::Name(name)) = uri.target_host() else { return false };
        let known = matches!(uri.scheme(), Scheme::Sip | Scheme::Sips);
        let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        known && !self.config.name_wait.is_zero() && !last.eq_ignore_ascii_case("invalid")
    }

    /// Whether messages of a dialog wait: what follows waits behind them.
    pub(super) fn waits_for_name(&self, serial: u64) -> bool {
        self.lookups.dialogs.contains_key(&serial)
    }

    /// Holds a request back until its dialog knows where to.
    pub(super) fn hold_request(&mut self, now: Instant, serial: u64, id: u64, name: Option<Name>) {
        self.hold(now, serial, name, Held::Request(id));
    }

    /// The same for the ACK of a 2xx.
    pub(super) fn hold_back_ack(&mut self, now: Instant, serial: u64, client: u64, tag: &str, ack: Ack) {
        let name = ack.way.lookup.clone();
        let held = HeldAck { client, tag: tag.to_owned(), ack };
        self.hold(now, serial, name, Held::Ack(Box::new(held)));
    }

    fn hold(&mut self, now: Instant, serial: u64, name: Option<Name>, held: Held) {
        if let Some(waiting) = self.lookups.dialogs.get_mut(&serial) {
            return waiting.held.push(held);
        }
        let mut waiting = Waiting { held: vec![held], clocks: Clocks::default() };
        let (owner, wait) = (Owner::Lookup(serial), self.config.name_wait.min(self.config.timings.t1 * 32));
        self.timers.start_for(now, owner, &mut waiting.clocks, Timer::Lookup, wait);
        self.lookups.dialogs.insert(serial, waiting);
        if let Some(Name { uri, secure }) = name {
            self.ask(Lookup { uri, secure, asker: Asker::Dialog(serial) });
        }
    }

    /// No answer came in time: along the flow, as long as none comes.
    pub(super) fn lookup_fired(&mut self, now: Instant, serial: u64) {
        let Some(waiting) = self.lookups.dialogs.get_mut(&serial) else { return };
        waiting.clocks.fire(Timer::Lookup);
        if let Some(uri) = self.dialogs.get(serial).map(|dialog| dialog.next_hop().clone()) {
            self.dialog_found(now, serial, uri, Vec::new());
        }
        self.let_go(now, serial);
    }

    fn dialog_found(&mut self, now: Instant, serial: u64, uri: Uri, hops: Vec<Hop>) {
        let hops = self.by_health(now, hops);
        if let Some(dialog) = self.dialogs.get_mut(serial) {
            dialog.found = Some(Box::new(Found { uri, hops }));
        }
        self.let_go(now, serial);
    }

    /// Sends what waited, in order: by what was found, or as it would have gone without.
    fn let_go(&mut self, now: Instant, serial: u64) {
        let Some(mut waiting) = self.lookups.dialogs.remove(&serial) else { return };
        self.timers.forget(Owner::Lookup(serial), &mut waiting.clocks);
        for held in waiting.held {
            let way = self.dialogs.get(serial).map(|dialog| self.way_within(dialog));
            match held {
                Held::Request(id) => self.send_held(now, id, way),
                Held::Ack(held) => {
                    let HeldAck { client, tag, ack } = *held;
                    self.send_ack(client, &tag, Ack { way: way.unwrap_or(ack.way), ..ack });
                }
            }
        }
    }
}
