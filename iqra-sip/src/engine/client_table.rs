//! Client transactions: what is kept of one, how far it has come, and the table of them (RFC 3261 §17.1; RFC 6026 §7.2).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::challenged::Proof;
use super::flow::{Flow, Hop, Transmit};
use super::outbound::Purpose;
use super::target::Way;
use crate::dialog::Dialog;
use crate::guard::glance::call_id;
use crate::message::{Headers, Method, Request, Response, StatusCode};
use crate::observe::{Side, TransactionChange, TransactionState, TransactionStep};
use crate::transaction::key::ClientKey;
use crate::transaction::timer::{Clocks, Timer};
use crate::transaction::{Step, client, invite_client};

/// One client transaction.
pub(crate) struct Client {
    pub(super) machine: Machine,
    pub(super) key: ClientKey,
    pub(super) flow: Flow,
    pub(super) fallback: Option<Flow>,
    /// The domain that the peer has to prove.
    pub(super) name: Option<Arc<str>>,
    pub(super) wire: Bytes,
    pub(super) clocks: Clocks,
    /// The INVITE, from which ACK and CANCEL are made.
    pub(super) invite: Option<Arc<Request>>,
    /// The dialog that the request is in.
    pub(super) dialog: Option<u64>,
    /// The same, where it has ended before its re-INVITE: what a 2xx is acknowledged by.
    pub(super) outlived: Option<Box<Dialog>>,
    pub(super) purpose: Purpose,
    pub(super) cancel: Cancel,
    /// The early dialogs that its responses made: To tag and dialog.
    pub(super) early: Vec<(Box<str>, u64)>,
    /// The program answers the offer of the 2xx, or of a reliable provisional response.
    pub(super) delayed_offer: bool,
    /// The program has the final event.
    pub(super) settled: bool,
    /// Further headers of the CANCEL.
    pub(super) cancel_headers: Headers,
    pub(super) proof: Proof,
    /// One for each branch that answered 2xx: its To tag and the ACK to repeat, where it was sent.
    pub(super) forks: Vec<(Box<str>, Option<Transmit>)>,
    /// The dialog whose ACK waits for the program.
    pub(super) ack_due: Option<u64>,
    /// Where it goes next when this target fails (RFC 3263 §4.3).
    pub(super) hops: VecDeque<Hop>,
    /// How often its session interval was lengthened for a 422.
    pub(super) lengthened: u8,
    /// When the INVITE of the program is over by its own Expires (RFC 3261 §13.2.1).
    pub(super) lapses: Option<Instant>,
}

impl Client {
    pub(super) fn change(
        &self,
        id: u64,
        step: TransactionStep,
        status: Option<StatusCode>,
    ) -> TransactionChange {
        TransactionChange {
            id,
            side: Side::Client,
            method: self.key.method.clone(),
            step,
            call_id: call_id(&self.wire).map(Arc::from),
            branch: Some(Arc::from(&*self.key.branch)),
            flow: self.flow,
            status,
        }
    }
}

/// How far a wish to cancel has come. A CANCEL may not leave before a provisional response (RFC 3261 §9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancel {
    No,
    Wanted,
    Sent,
}

/// Which of the two machines it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    Invite(invite_client::State),
    Other(client::State),
}

/// What happens to a transaction, whichever its machine.
#[derive(Clone, Copy)]
pub(super) enum Cause<'a> {
    Response(&'a Arc<Response>),
    CancelSent,
    Fired(Timer),
    TransportError,
}

impl Machine {
    pub(super) fn step(self, cause: Cause<'_>) -> Step<Machine> {
        match self {
            Machine::Invite(state) => {
                let (state, actions) = invite_client::step(state, invite_input(cause))?;
                Some((Machine::Invite(state), actions))
            }
            Machine::Other(state) => {
                let (state, actions) = client::step(state, other_input(cause)?)?;
                Some((Machine::Other(state), actions))
            }
        }
    }

    pub(super) fn is_terminated(self) -> bool {
        matches!(
            self,
            Machine::Invite(invite_client::State::Terminated) | Machine::Other(client::State::Terminated)
        )
    }

    pub(super) fn state(self) -> TransactionState {
        use TransactionState::{Accepted, Calling, Completed, Proceeding, Terminated, Trying};
        use {client::State as Other, invite_client::State as Invite};
        match self {
            Machine::Invite(Invite::Calling) => Calling,
            Machine::Other(Other::Trying) => Trying,
            Machine::Invite(Invite::Proceeding) | Machine::Other(Other::Proceeding) => Proceeding,
            Machine::Invite(Invite::Completed) | Machine::Other(Other::Completed) => Completed,
            Machine::Invite(Invite::Accepted) => Accepted,
            Machine::Invite(Invite::Terminated) | Machine::Other(Other::Terminated) => Terminated,
        }
    }

    /// True while no response has come at all.
    pub(super) fn is_unanswered(self) -> bool {
        matches!(self, Machine::Invite(invite_client::State::Calling) | Machine::Other(client::State::Trying))
    }

    fn is_quiet(self) -> bool {
        use invite_client::State as Invite;
        matches!(
            self,
            Machine::Invite(Invite::Completed | Invite::Accepted) | Machine::Other(client::State::Completed)
        )
    }
}

fn invite_input(cause: Cause<'_>) -> invite_client::Input {
    use invite_client::Input;
    match cause {
        Cause::Response(response) if response.status.is_provisional() => Input::Provisional,
        Cause::Response(response) if response.status.is_success() => Input::Success,
        Cause::Response(_) => Input::Failure,
        Cause::CancelSent => Input::CancelSent,
        Cause::Fired(timer) => Input::Fired(timer),
        Cause::TransportError => Input::TransportError,
    }
}

fn other_input(cause: Cause<'_>) -> Option<client::Input> {
    use client::Input;
    Some(match cause {
        Cause::Response(response) if response.status.is_provisional() => Input::Provisional,
        Cause::Response(_) => Input::Final,
        Cause::CancelSent => return None,
        Cause::Fired(timer) => Input::Fired(timer),
        Cause::TransportError => Input::TransportError,
    })
}

/// All client transactions, by number and by key.
#[derive(Default)]
pub(super) struct Clients {
    pub(super) by_id: HashMap<u64, Client>,
    pub(super) by_key: HashMap<ClientKey, u64>,
}

impl Clients {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn are_quiet(&self) -> bool {
        self.by_id.values().all(|client| client.machine.is_quiet() || client.is_given_up())
    }

    pub(super) fn find(&self, key: &ClientKey) -> Option<u64> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, id: u64) -> Option<&Client> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Client> {
        self.by_id.get_mut(&id)
    }
}

impl Client {
    /// True while an INVITE has no response at all: a CANCEL has to wait.
    pub(super) fn is_calling(&self) -> bool {
        self.machine == Machine::Invite(invite_client::State::Calling)
    }

    /// True while an INVITE has provisional responses only.
    pub(super) fn is_ringing(&self) -> bool {
        self.machine == Machine::Invite(invite_client::State::Proceeding)
    }

    /// True while no response has come at all.
    pub(super) fn is_unanswered(&self) -> bool {
        self.machine.is_unanswered()
    }

    /// True for the INVITE to a target that was silent, kept in case it answers after all.
    fn is_given_up(&self) -> bool {
        self.is_calling() && self.purpose == Purpose::Engine && self.cancel == Cancel::Wanted
    }

    /// True for a request of the program outside dialogs.
    pub(super) fn is_for_program(&self) -> bool {
        self.purpose == Purpose::Program && self.dialog.is_none()
    }

    /// The way that it went, and no other.
    pub(super) fn way(&self) -> Way {
        Way { flow: self.flow, fallback: None, name: self.name.clone(), pinned: false, lookup: None }
    }

    pub(super) fn branch(&self) -> &str {
        &self.key.branch
    }

    pub(super) fn method(&self) -> &Method {
        &self.key.method
    }
}
