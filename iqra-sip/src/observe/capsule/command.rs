//! What a program asks of an engine, as a value that can be written down: one line of words and the text of a message.

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::input::Subject;
use crate::auth::Keyring;
use crate::dialog::DialogId;
use crate::engine::Engine;
use crate::engine::flow::{ConnectionId, Flow, Hop, Transport};
use crate::engine::lookup::{Asker, Lookup};
use crate::event::{Body, CallOptions, ClientTx, OutgoingInvite, ReferralId, Reliability, Reply, ServerTx};
use crate::message::header::{CallId, From, To};
use crate::message::{HeaderName, Headers, Message, Method, Request, StatusCode};
use crate::roles::relay::{Plan, RelayTimings, Target};

/// A command to an [`Engine`], by the name of its method. Credentials are no part of it: whether a challenge could be
/// answered is a fact.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Respond(ServerTx, Reply),
    Accept(ServerTx, Reply),
    Forget(ServerTx),
    Invite(Box<OutgoingInvite>),
    Send(Request, Vec<Hop>),
    Cancel(ClientTx, Headers),
    Bye(DialogId, Headers),
    Request(DialogId, Method, Headers, Option<Body>),
    Prack(DialogId, Headers, Option<Body>),
    Acknowledge(DialogId, Headers, Option<Body>),
    Refer(DialogId, Headers),
    AcceptRefer(ServerTx),
    Notify(ReferralId, StatusCode),
    Relay(ServerTx, Plan),
    RelayTo(ServerTx, Target),
    RelayBest(ServerTx),
    GiveUp(ServerTx, Reply),
    LookedUp(Box<Lookup>, Vec<Hop>),
}

/// A message in the making: start, headers and body.
struct Part {
    start: String,
    headers: Headers,
    body: Bytes,
}

impl Command {
    /// Gives the command to an engine. What it refuses leads to nothing, and so it did when it was recorded.
    pub(crate) fn run(self, engine: &mut Engine, now: Instant) {
        match self {
            Command::Respond(tx, reply) => drop(engine.respond(now, tx, reply)),
            Command::Accept(tx, reply) => drop(engine.accept(now, tx, reply)),
            Command::Forget(tx) => engine.forget(tx),
            Command::Invite(call) => drop(engine.invite_with(now, *call, Keyring::default())),
            Command::Send(request, hops) => {
                drop(engine.request_with(now, request, hops, Keyring::default()));
            }
            Command::Cancel(tx, headers) => drop(engine.cancel(now, tx, headers)),
            Command::Bye(dialog, headers) => drop(engine.bye(now, &dialog, headers)),
            Command::Request(dialog, method, headers, body) => {
                drop(engine.dialog_request(now, &dialog, method, &headers, body));
            }
            Command::Prack(dialog, headers, body) => drop(engine.prack(now, &dialog, &headers, body)),
            Command::Acknowledge(dialog, headers, body) => {
                drop(engine.acknowledge(now, &dialog, &headers, body));
            }
            Command::Refer(dialog, headers) => drop(engine.refer_by(now, &dialog, headers)),
            Command::AcceptRefer(tx) => drop(engine.accept_refer(now, tx)),
            Command::Notify(id, status) => drop(engine.notify(now, id, status)),
            Command::Relay(tx, plan) => drop(engine.relay(now, tx, plan)),
            Command::RelayTo(tx, target) => drop(engine.relay_to(now, tx, &target)),
            Command::RelayBest(tx) => drop(engine.relay_best(now, tx)),
            Command::GiveUp(tx, reply) => drop(engine.give_up(now, tx, reply)),
            Command::LookedUp(lookup, hops) => engine.looked_up(now, *lookup, hops),
        }
    }

    /// The call that it concerns.
    pub(super) fn subject(&self) -> Subject {
        match self {
            Command::Respond(tx, _)
            | Command::Accept(tx, _)
            | Command::Forget(tx)
            | Command::AcceptRefer(tx)
            | Command::Relay(tx, _)
            | Command::RelayTo(tx, _)
            | Command::RelayBest(tx)
            | Command::GiveUp(tx, _) => Subject::Number(tx.0),
            Command::Cancel(tx, _) => Subject::Number(tx.0),
            Command::Notify(id, _) => Subject::Number(id.0),
            Command::Bye(dialog, _)
            | Command::Request(dialog, ..)
            | Command::Prack(dialog, ..)
            | Command::Acknowledge(dialog, ..)
            | Command::Refer(dialog, _) => Subject::Call(dialog.call_id().to_owned()),
            Command::Invite(call) => call.call_id.clone().map_or(Subject::Unnamed, Subject::Call),
            Command::Send(request, _) => call_of(request),
            Command::LookedUp(lookup, _) => match &lookup.asker {
                Asker::Target { server: number, .. } | Asker::Through(number, _) | Asker::Dialog(number) => {
                    Subject::Number(*number)
                }
                Asker::Ack(ack) => call_of(ack),
            },
        }
    }

    /// The words and the text.
    pub(super) fn write(&self) -> (String, Bytes) {
        let none = Bytes::new;
        match self {
            Command::Respond(tx, reply) => {
                (format!("respond {} {}", tx.0, policy(reply.reliability)), write_reply(reply))
            }
            Command::Accept(tx, reply) => (format!("accept {}", tx.0), write_reply(reply)),
            Command::GiveUp(tx, reply) => (format!("give_up {}", tx.0), write_reply(reply)),
            Command::Forget(tx) => (format!("forget {}", tx.0), none()),
            Command::AcceptRefer(tx) => (format!("accept_refer {}", tx.0), none()),
            Command::RelayBest(tx) => (format!("relay_best {}", tx.0), none()),
            Command::Notify(id, status) => (format!("notify {} {}", id.0, status.code()), none()),
            Command::Cancel(tx, headers) => (format!("cancel {}", tx.0), part("CANCEL", headers, None)),
            Command::Bye(dialog, headers) => (format!("bye {}", name(dialog)), part("BYE", headers, None)),
            Command::Refer(dialog, headers) => {
                (format!("refer {}", name(dialog)), part("REFER", headers, None))
            }
            Command::Request(dialog, method, headers, body) => {
                (format!("request {}", name(dialog)), part(method.as_str(), headers, body.as_ref()))
            }
            Command::Prack(dialog, headers, body) => {
                (format!("prack {}", name(dialog)), part("PRACK", headers, body.as_ref()))
            }
            Command::Acknowledge(dialog, headers, body) => {
                (format!("acknowledge {}", name(dialog)), part("ACK", headers, body.as_ref()))
            }
            Command::Invite(call) => (write_way(call), write_invite(call)),
            Command::Send(request, hops) => (format!("send{}", write_hops(hops)), write_request(request)),
            Command::Relay(tx, plan) => {
                (write_plan(*tx, plan), plan.targets.iter().map(write_target).collect::<String>().into())
            }
            Command::RelayTo(tx, target) => (format!("relay_to {}", tx.0), write_target(target).into()),
            Command::LookedUp(lookup, hops) => write_looked_up(lookup, hops),
        }
    }

    /// Reads what [`write`](Self::write) gave; `None` where the words are no command.
    pub(super) fn read(words: &str, text: &Bytes) -> Option<Command> {
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        let rest: Vec<_> = rest.split(' ').filter(|word| !word.is_empty()).collect();
        let number = || rest.first()?.parse().ok();
        let server = || number().map(ServerTx);
        match verb {
            "forget" => return Some(Command::Forget(server()?)),
            "accept_refer" => return Some(Command::AcceptRefer(server()?)),
            "relay_best" => return Some(Command::RelayBest(server()?)),
            "notify" => {
                let status = StatusCode::new(rest.get(1)?.parse().ok()?)?;
                return Some(Command::Notify(ReferralId(number()?), status));
            }
            "relay" => return Some(Command::Relay(server()?, read_plan(&rest, text)?)),
            "relay_to" => return Some(Command::RelayTo(server()?, read_targets(text)?.pop()?)),
            "looked_up" => return read_looked_up(&rest, text),
            _ => {}
        }
        let part = unpart(text)?;
        let dialog = || match rest[..] {
            [call_id, local, remote] => Some(DialogId::new(call_id, local, remote)),
            _ => None,
        };
        Some(match verb {
            "respond" => {
                let reply = part.into_reply()?;
                Command::Respond(server()?, Reply { reliability: read_policy(rest.get(1)?)?, ..reply })
            }
            "accept" => Command::Accept(server()?, part.into_reply()?),
            "give_up" => Command::GiveUp(server()?, part.into_reply()?),
            "cancel" => Command::Cancel(ClientTx(number()?), part.headers),
            "bye" => Command::Bye(dialog()?, part.headers),
            "refer" => Command::Refer(dialog()?, part.headers),
            "request" => {
                let (start, headers, body) = part.split();
                Command::Request(dialog()?, Method::new(start)?, headers, body)
            }
            "prack" => {
                let (_, headers, body) = part.split();
                Command::Prack(dialog()?, headers, body)
            }
            "acknowledge" => {
                let (_, headers, body) = part.split();
                Command::Acknowledge(dialog()?, headers, body)
            }
            "invite" => Command::Invite(Box::new(read_invite(&rest, part)?)),
            "send" => Command::Send(part.into_request()?, read_hops(&rest)?),
            _ => return None,
        })
    }
}

fn call_of(request: &Request) -> Subject {
    request.headers.typed::<CallId>().map_or(Subject::Unnamed, |id| Subject::Call(id.to_string()))
}

fn name(dialog: &DialogId) -> String {
    format!("{} {} {}", dialog.call_id(), dialog.local_tag(), dialog.remote_tag())
}

fn write_reply(reply: &Reply) -> Bytes {
    let reason = reply.reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
    part(&format!("SIP/2.0 {}{reason}", reply.status.code()), &reply.headers, reply.body.as_ref())
}

fn policy(reliability: Option<Reliability>) -> &'static str {
    match reliability {
        None => "-",
        Some(Reliability::Never) => "never",
        Some(Reliability::IfSupported) => "supported",
        Some(Reliability::Required) => "required",
    }
}

fn read_policy(word: &str) -> Option<Option<Reliability>> {
    Some(match word {
        "-" => None,
        "never" => Some(Reliability::Never),
        "supported" => Some(Reliability::IfSupported),
        "required" => Some(Reliability::Required),
        _ => return None,
    })
}

fn write_hops<'a>(hops: impl IntoIterator<Item = &'a Hop>) -> String {
    let word = |hop: &Hop| {
        let (name, flow) = (hop.name.as_deref().unwrap_or("-"), write_flow(hop.flow.as_ref()));
        format!(" {} {} {name} {flow}", hop.transport, hop.addr)
    };
    hops.into_iter().map(word).collect()
}

/// The near end and the connection of the flow that a hop names, whose far end is the hop's.
fn write_flow(flow: Option<&Flow>) -> String {
    let Some(Flow { local, connection, .. }) = flow else { return String::from("-") };
    format!("{local}/{}", connection.map_or_else(|| String::from("-"), |id| id.0.to_string()))
}

fn read_flow(word: &str, hop: &Hop) -> Option<Option<Flow>> {
    if word == "-" {
        return Some(None);
    }
    let (local, connection) = word.split_once('/')?;
    let connection = if connection == "-" { None } else { Some(ConnectionId(connection.parse().ok()?)) };
    let Hop { transport, addr: remote, .. } = *hop;
    Some(Some(Flow { transport, local: local.parse().ok()?, remote, connection }))
}

fn read_hops(words: &[&str]) -> Option<Vec<Hop>> {
    words.chunks(4).map(read_hop).collect()
}

fn read_hop(words: &[&str]) -> Option<Hop> {
    let [transport, addr, name, flow] = words else { return None };
    let hop = <Hop as std::convert::From<_>>::from((Transport::named(transport)?, addr.parse().ok()?));
    let flow = read_flow(flow, &hop)?;
    let hop = Hop { flow, ..hop };
    Some(if *name == "-" { hop } else { hop.named(name) })
}

fn write_way(call: &OutgoingInvite) -> String {
    let CallOptions { reliability, delayed_offer } = call.options;
    let hops = write_hops(&call.hops);
    format!("invite {} {} {delayed_offer}{hops}", call.cseq, policy(reliability))
}

/// From, To and, where the program gave one, Call-ID stand first.
fn write_invite(call: &OutgoingInvite) -> Bytes {
    let mut headers = Headers::new();
    headers.push(HeaderName::FROM, call.from.to_string());
    headers.push(HeaderName::TO, call.to.to_string());
    if let Some(call_id) = &call.call_id {
        headers.push(HeaderName::CALL_ID, call_id.clone());
    }
    for (name, value) in call.headers.iter() {
        headers.push(name, value.into_owned());
    }
    part(&format!("INVITE {}", call.uri), &headers, call.body.as_ref())
}

fn read_invite(words: &[&str], part: Part) -> Option<OutgoingInvite> {
    let [cseq, reliability, delayed_offer, ways @ ..] = words else { return None };
    let options =
        CallOptions { reliability: read_policy(reliability)?, delayed_offer: delayed_offer.parse().ok()? };
    let (start, mut headers, body) = part.split();
    let (from, to) = (headers.typed::<From>().ok()?, headers.typed::<To>().ok()?);
    let call_id = headers.get(HeaderName::CALL_ID).map(std::borrow::Cow::into_owned);
    for name in [HeaderName::FROM, HeaderName::TO, HeaderName::CALL_ID] {
        headers.remove(name);
    }
    Some(OutgoingInvite {
        uri: FromStr::from_str(start.strip_prefix("INVITE ")?).ok()?,
        hops: read_hops(ways)?,
        from: from.0,
        to: to.0,
        call_id,
        cseq: cseq.parse().ok()?,
        headers,
        body,
        options,
    })
}

fn write_request(request: &Request) -> Bytes {
    let mut text = part(&format!("{} {}", request.method, request.uri), &request.headers, None).to_vec();
    text.extend_from_slice(&request.body);
    Bytes::from(text)
}

fn write_plan(tx: ServerTx, plan: &Plan) -> String {
    let Plan { record_route, follow_routes, timings: RelayTimings { silent, trying }, .. } = plan;
    format!("relay {} {record_route} {follow_routes} {} {}", tx.0, silent.as_nanos(), trying.as_nanos())
}

fn read_plan(words: &[&str], text: &Bytes) -> Option<Plan> {
    let [_, record_route, follow_routes, silent, trying] = words else { return None };
    let time = |word: &str| word.parse().ok().map(Duration::from_nanos);
    let timings = RelayTimings { silent: time(silent)?, trying: time(trying)? };
    let (record_route, follow_routes) = (record_route.parse().ok()?, follow_routes.parse().ok()?);
    Some(Plan { targets: read_targets(text)?, record_route, follow_routes, timings })
}

/// `TARGET`, the Request-URI or `-`, each header that is taken off behind a `-`, and the hops; then the target's headers.
fn write_target(target: &Target) -> String {
    let uri = target.uri.as_ref().map_or_else(|| String::from("-"), ToString::to_string);
    let without: String = target.without.iter().map(|name| format!(" -{name}")).collect();
    let start = format!("TARGET {uri}{without}{}", write_hops(&target.hops));
    String::from_utf8_lossy(&part(&start, &target.headers, None)).into_owned()
}

fn read_targets(text: &Bytes) -> Option<Vec<Target>> {
    let (mut targets, mut rest) = (Vec::new(), text.clone());
    while !rest.is_empty() {
        let Part { start, headers, body } = unpart(&rest)?;
        let words: Vec<_> = start.strip_prefix("TARGET ")?.split(' ').collect();
        let (uri, words) = words.split_first()?;
        let uri = if *uri == "-" { None } else { Some(FromStr::from_str(uri).ok()?) };
        let taken_off = words.iter().map_while(|word| word.strip_prefix('-'));
        let without: Vec<_> = taken_off.map(HeaderName::from).collect();
        targets.push(Target { uri, hops: read_hops(&words[without.len()..])?, headers, without });
        rest = body;
    }
    Some(targets)
}

/// Who asked with the numbers that name him, the URI, whether only secure hops will do, and the hops.
fn write_looked_up(lookup: &Lookup, hops: &[Hop]) -> (String, Bytes) {
    let (asker, text) = match &lookup.asker {
        Asker::Target { server, attempt } => (format!("target {server} {attempt}"), Bytes::new()),
        Asker::Through(server, request) => (format!("through {server} 0"), request.to_bytes()),
        Asker::Ack(ack) => (String::from("ack 0 0"), ack.to_bytes()),
        Asker::Dialog(serial) => (format!("dialog {serial} 0"), Bytes::new()),
    };
    let Lookup { uri, secure, .. } = lookup;
    (format!("looked_up {asker} {uri} {secure}{}", write_hops(hops)), text)
}

fn read_looked_up(words: &[&str], text: &Bytes) -> Option<Command> {
    let [kind, number, attempt, uri, secure, hops @ ..] = words else { return None };
    let request = || match Message::parse(text.clone()) {
        Ok(Message::Request(request)) => Some(Arc::new(request)),
        _ => None,
    };
    let number = number.parse().ok()?;
    let asker = match *kind {
        "target" => Asker::Target { server: number, attempt: attempt.parse().ok()? },
        "through" => Asker::Through(number, request()?),
        "ack" => Asker::Ack(request()?),
        "dialog" => Asker::Dialog(number),
        _ => return None,
    };
    let lookup = Lookup { uri: FromStr::from_str(uri).ok()?, secure: secure.parse().ok()?, asker };
    Some(Command::LookedUp(Box::new(lookup), read_hops(hops)?))
}

fn part(start: &str, headers: &Headers, body: Option<&Body>) -> Bytes {
    let mut text = format!("{start}\r\n");
    for (name, value) in headers.iter() {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        text.push_str(&format!("Content-Type: {}\r\n", body.content_type));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body.map(|body| &body.bytes[..]).unwrap_or_default());
    Bytes::from(bytes)
}

fn unpart(text: &Bytes) -> Option<Part> {
    let end = text.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&text[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let (start, mut headers) = (lines.next()?.to_owned(), Headers::new());
    for line in lines {
        let (name, value) = line.split_once(':')?;
        headers.push(HeaderName::from(name), value.strip_prefix(' ').unwrap_or(value).to_owned());
    }
    Some(Part { start, headers, body: text.slice(end + 4..) })
}

impl Part {
    /// The body with its type, which is no header then.
    fn split(mut self) -> (String, Headers, Option<Body>) {
        let content_type = self.headers.get(HeaderName::CONTENT_TYPE).map(std::borrow::Cow::into_owned);
        self.headers.remove(HeaderName::CONTENT_TYPE);
        let body = content_type.map(|content_type| Body { content_type, bytes: self.body });
        (self.start, self.headers, body)
    }

    fn into_reply(self) -> Option<Reply> {
        let (start, headers, body) = self.split();
        let status = start.strip_prefix("SIP/2.0 ")?;
        let (code, reason) =
            status.split_once(' ').map_or((status, None), |(code, reason)| (code, Some(reason)));
        let status = StatusCode::new(code.parse().ok()?)?;
        Some(Reply { status, reason: reason.map(str::to_owned), headers, body, reliability: None })
    }

    fn into_request(self) -> Option<Request> {
        let (method, uri) = self.start.split_once(' ')?;
        let uri = FromStr::from_str(uri).ok()?;
        let method = Method::new(method.to_owned())?;
        Some(Request { method, uri, headers: self.headers, body: self.body })
    }
}
