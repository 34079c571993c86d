//! A request that is relayed: the program is told of every step and says where it goes next.

use std::time::Instant;

use tokio::sync::mpsc;

use super::Error;
use super::incoming::{IncomingInvite, IncomingOther};
use super::router::Router;
use super::shared::{Core, Handle};
use crate::event::{EngineError, Reply, ServerTx};
use crate::message::StatusCode;
use crate::roles::relay::{Plan, RelayEvent, Target};

/// Events of one request that wait for the program.
const EVENT_QUEUE: usize = 32;
/// Room in the queue that provisional responses leave to the rest, each of which waits for the program.
const RESERVED: usize = 8;

/// A request that is being relayed, until its final response. Dropping it before answers the caller 500 and cancels the
/// target.
pub struct Relayed {
    handle: Handle,
    tx: ServerTx,
    events: mpsc::Receiver<RelayEvent>,
    over: bool,
}

/// The router's end of a [`Relayed`].
pub(super) struct RelaySlot(mpsc::Sender<RelayEvent>);

impl RelaySlot {
    /// Hands an event over. A program that does not look at its ringing loses the newest of it, nothing else.
    pub(super) fn tell(&self, event: RelayEvent) {
        if !matches!(event, RelayEvent::Provisional(_)) || self.0.capacity() > RESERVED {
            let _ = self.0.try_send(event);
        }
    }
}

/// Whether nothing follows an event.
pub(super) fn is_last(event: &RelayEvent) -> bool {
    matches!(event, RelayEvent::Answered(_) | RelayEvent::Refused(_) | RelayEvent::Ended)
}

impl IncomingInvite {
    /// Relays the call to the first target of a plan; see [`Relayed::next`] for what becomes of it. Requests inside
    /// the dialog pass without the program.
    ///
    /// # Errors
    /// [`Error::Engine`] when the call was cancelled meanwhile, the plan is empty or
    /// [`EngineConfig::relay`](crate::EngineConfig::relay) is not set.
    pub async fn relay(self, plan: Plan) -> Result<Relayed, Error> {
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let (handle, tx) = self.hand_over(|core, now, tx| core.relay(now, tx, plan, sender))?;
        Ok(Relayed { handle, tx, events, over: false })
    }
}

impl IncomingOther {
    /// Relays the request to the first target of a plan, as [`IncomingInvite::relay`] does a call: its caller hears
    /// neither provisional responses nor a 408 (RFC 4320 §4). SUBSCRIBE and REFER open dialogs, whose requests pass
    /// without the program, as long as the plan records our route.
    ///
    /// # Errors
    /// [`Error::Engine`] when the plan is empty or [`EngineConfig::relay`](crate::EngineConfig::relay) is not set; the
    /// request is answered 500 then.
    pub async fn relay(self, plan: Plan) -> Result<Relayed, Error> {
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let (handle, tx) = self.hand_over(|core, now, tx| core.relay(now, tx, plan, sender))?;
        Ok(Relayed { handle, tx, events, over: false })
    }
}

impl Core {
    fn relay(
        &mut self,
        now: Instant,
        tx: ServerTx,
        plan: Plan,
        events: mpsc::Sender<RelayEvent>,
    ) -> Result<(), EngineError> {
        self.router.relays.insert(tx, RelaySlot(events));
        self.engine.relay(now, tx, plan).inspect_err(|_| drop(self.router.relays.remove(&tx)))
    }
}

impl Relayed {
    /// The next event; `None` after the last one. After [`RelayEvent::NextTarget`] the request waits for
    /// [`try_target`](Self::try_target), [`best`](Self::best) or [`give_up`](Self::give_up). Cancel-safe.
    pub async fn next(&mut self) -> Option<RelayEvent> {
        if self.over {
            return None;
        }
        let event = self.events.recv().await;
        self.over = event.as_ref().is_none_or(is_last);
        event
    }

    /// Goes on with this target; one that is still being tried is given up. A target whose name has no address counts
    /// as one that failed.
    ///
    /// # Errors
    /// [`Error::Engine`] after the final response, a CANCEL, or once a target has rung.
    pub async fn try_target(&self, target: Target) -> Result<(), Error> {
        Ok(self.handle.enter(|core, now| core.engine.relay_to(now, self.tx, &target))?)
    }

    /// Tries no further target: the caller gets the best response so far, or 408, 430 or 503 where none came, as
    /// [`Engine::relay_best`](crate::Engine::relay_best) says.
    ///
    /// # Errors
    /// [`Error::Engine`] after the final response.
    pub fn best(&self) -> Result<(), Error> {
        Ok(self.handle.enter(|core, now| core.engine.relay_best(now, self.tx))?)
    }

    /// Answers the caller at once, 300 or more, and cancels the target: 487 for a call that was cancelled, 503 for one
    /// whose target died. Gives whether the answer left.
    pub fn give_up(mut self, reply: Reply) -> bool {
        self.end(reply)
    }

    fn end(&mut self, reply: Reply) -> bool {
        self.over = true;
        self.handle.enter(|core, now| {
            core.router.relays.remove(&self.tx);
            core.engine.give_up(now, self.tx, reply).is_ok()
        })
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        if !self.over {
            self.end(Reply::new(StatusCode::SERVER_INTERNAL_ERROR));
        }
    }
}

impl std::fmt::Debug for Relayed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Relayed({:?})", self.tx)
    }
}

impl Router {
    /// Hands an event to the relayed request it is about.
    pub(super) fn tell_relay(&mut self, tx: ServerTx, event: RelayEvent) {
        let last = is_last(&event);
        if let Some(slot) = self.relays.get(&tx) {
            slot.tell(event);
        }
        if last {
            self.relays.remove(&tx);
        }
    }
}
