//! What enters an engine, as words and text and back.

use std::net::SocketAddr;

use bytes::Bytes;

use super::tape::clean;
use super::{Command, Entry};
use crate::engine::flow::{ConnectionId, Flow, Owner, Transport};
use crate::event::Event;
use crate::guard::glance::call_id;
use crate::transaction::timer::Timer;

/// What enters.
pub(crate) enum Input<'a> {
    /// A message.
    Message(&'a Flow, &'a Bytes),
    /// A command of the program.
    Command(Box<Command>),
    /// A timer of somebody's.
    Timeout(Owner, Timer),
    /// A message of somebody's could not be sent.
    Unsent(Owner),
}

/// An input that was read.
pub(crate) enum Given {
    Message(Flow),
    Command(Box<Command>),
    Timeout,
    Unsent(Owner),
}

/// What an input concerns.
pub(super) enum Subject {
    /// The call of this Call-ID.
    Call(String),
    /// The call that this number was drawn for.
    Number(u64),
    /// A call that has no name yet.
    Unnamed,
}

impl Input<'_> {
    pub(crate) fn command(command: Command) -> Self {
        Input::Command(Box::new(command))
    }

    pub(super) fn subject(&self) -> Subject {
        match self {
            // What names no call gets a name that no call has.
            Input::Message(_, bytes) => {
                call_id(bytes).map_or(Subject::Number(0), |id| Subject::Call(id.into()))
            }
            Input::Command(command) => command.subject(),
            Input::Timeout(owner, _) | Input::Unsent(owner) => Subject::Number(number(*owner)),
        }
    }

    pub(super) fn write(&self) -> (String, Bytes) {
        match self {
            Input::Message(flow, bytes) => (format!("message {}", write_flow(flow)), clean(bytes)),
            Input::Command(command) => {
                let (words, text) = command.write();
                (words, clean(&text))
            }
            Input::Timeout(owner, timer) => {
                (format!("timeout {} {timer:?}", write_owner(*owner)), Bytes::new())
            }
            Input::Unsent(owner) => (format!("unsent {}", write_owner(*owner)), Bytes::new()),
        }
    }
}

impl Entry {
    /// The input that this is, if it is one.
    pub(crate) fn input(&self) -> Option<Given> {
        match self.words.split_once(' ') {
            Some(("message", flow)) => Some(Given::Message(read_flow(flow)?)),
            Some(("timeout", _)) => Some(Given::Timeout),
            Some(("unsent", owner)) => Some(Given::Unsent(read_owner(owner)?)),
            _ => Some(Given::Command(Box::new(Command::read(&self.words, &self.text)?))),
        }
    }
}

fn number(owner: Owner) -> u64 {
    let (Owner::Server(id)
    | Owner::Client(id)
    | Owner::Dialog(id)
    | Owner::Relay(id)
    | Owner::Subscription(id)
    | Owner::Lookup(id)) = owner;
    id
}

fn write_owner(owner: Owner) -> String {
    let kind = match owner {
        Owner::Server(_) => "server",
        Owner::Client(_) => "client",
        Owner::Dialog(_) => "dialog",
        Owner::Relay(_) => "relay",
        Owner::Subscription(_) => "subscription",
        Owner::Lookup(_) => "lookup",
    };
    format!("{kind} {}", number(owner))
}

fn read_owner(words: &str) -> Option<Owner> {
    let (kind, id) = words.split_once(' ')?;
    let id = id.parse().ok()?;
    Some(match kind {
        "server" => Owner::Server(id),
        "client" => Owner::Client(id),
        "dialog" => Owner::Dialog(id),
        "relay" => Owner::Relay(id),
        "subscription" => Owner::Subscription(id),
        "lookup" => Owner::Lookup(id),
        _ => return None,
    })
}

/// The name of an event: the message that it carries is in the capsule already.
pub(super) fn name_of(event: &Event) -> &'static str {
    match event {
        Event::Invite { .. } => "Invite",
        Event::Request { .. } => "Request",
        Event::Cancelled { .. } => "Cancelled",
        Event::Acknowledged { .. } => "Acknowledged",
        Event::Confirmed { .. } => "Confirmed",
        Event::DialogRequest { .. } => "DialogRequest",
        Event::Referred { .. } => "Referred",
        Event::Referral { .. } => "Referral",
        Event::Refreshed { .. } => "Refreshed",
        Event::Ended { .. } => "Ended",
        Event::Response { .. } => "Response",
        Event::Answered { .. } => "Answered",
        Event::Relay { .. } => "Relay",
        Event::Lookup(_) => "Lookup",
        Event::Failed { .. } => "Failed",
    }
}

pub(super) fn write_flow(flow: &Flow) -> String {
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
