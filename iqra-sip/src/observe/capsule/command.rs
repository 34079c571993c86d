//! What a program asks of an engine, as a value that can be written down: one line of words and the text of a message.

use std::str::FromStr;
use std::time::Instant;

use bytes::Bytes;

use crate::dialog::DialogId;
use crate::engine::Engine;
use crate::engine::flow::{Hop, Transport};
use crate::event::{Body, CallOptions, ClientTx, EngineError, OutgoingInvite, Reliability, Reply, ServerTx};
use crate::message::header::{From, To};
use crate::message::{HeaderName, Headers, Method, StatusCode};

/// A command to an [`Engine`].
#[derive(Debug, Clone)]
pub enum Command {
    /// [`Engine::respond`].
    Respond(ServerTx, Reply),
    /// [`Engine::accept`].
    Accept(ServerTx, Reply),
    /// [`Engine::forget`].
    Forget(ServerTx),
    /// [`Engine::invite`].
    Invite(Box<OutgoingInvite>),
    /// [`Engine::cancel`].
    Cancel(ClientTx, Headers),
    /// [`Engine::bye`].
    Bye(DialogId, Headers),
    /// [`Engine::dialog_request`].
    Request(DialogId, Method, Headers, Option<Body>),
}

/// What a command gives back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Nothing.
    Plainly,
    /// The transaction of a new request.
    Asked(ClientTx),
    /// The dialog of an accepted call.
    Accepted(DialogId),
}

impl Command {
    /// Gives the command to an engine.
    pub(super) fn run(self, engine: &mut Engine, now: Instant) -> Result<Done, EngineError> {
        match self {
            Command::Respond(tx, reply) => engine.respond(now, tx, reply).map(|()| Done::Plainly),
            Command::Accept(tx, reply) => engine.accept(now, tx, reply).map(Done::Accepted),
            Command::Forget(tx) => {
                engine.forget(tx);
                Ok(Done::Plainly)
            }
            Command::Invite(call) => engine.invite(now, *call).map(Done::Asked),
            Command::Cancel(tx, headers) => engine.cancel(now, tx, headers).map(|()| Done::Plainly),
            Command::Bye(dialog, headers) => engine.bye(now, &dialog, headers).map(|()| Done::Plainly),
            Command::Request(dialog, method, headers, body) => {
                engine.dialog_request(now, &dialog, method, &headers, body).map(Done::Asked)
            }
        }
    }

    /// The words and the text.
    pub(super) fn write(&self) -> (String, Bytes) {
        match self {
            Command::Respond(tx, reply) => {
                (format!("respond {} {}", tx.0, policy(reply.reliability)), write_reply(reply))
            }
            Command::Accept(tx, reply) => (format!("accept {}", tx.0), write_reply(reply)),
            Command::Forget(tx) => (format!("forget {}", tx.0), Bytes::new()),
            Command::Cancel(tx, headers) => (format!("cancel {}", tx.0), part("CANCEL", headers, None)),
            Command::Bye(dialog, headers) => (format!("bye {}", name(dialog)), part("BYE", headers, None)),
            Command::Request(dialog, method, headers, body) => {
                (format!("request {}", name(dialog)), part(method.as_str(), headers, body.as_ref()))
            }
            Command::Invite(call) => (write_way(call), write_invite(call)),
        }
    }

    /// Reads what [`write`](Self::write) gave; `None` where the words are no command.
    pub(super) fn read(words: &str, text: &Bytes) -> Option<Command> {
        let mut words = words.split(' ');
        let verb = words.next()?;
        let rest: Vec<_> = words.collect();
        let (start, headers, body) = unpart(text)?;
        let server = || Some(ServerTx(rest.first()?.parse().ok()?));
        let dialog = || match rest[..] {
            [call_id, local, remote] => Some(DialogId::new(call_id, local, remote)),
            _ => None,
        };
        Some(match verb {
            "respond" => {
                let reply = read_reply(&start, headers, body)?;
                Command::Respond(server()?, Reply { reliability: read_policy(rest.get(1)?)?, ..reply })
            }
            "accept" => Command::Accept(server()?, read_reply(&start, headers, body)?),
            "forget" => Command::Forget(server()?),
            "cancel" => Command::Cancel(ClientTx(server()?.0), headers),
            "bye" => Command::Bye(dialog()?, headers),
            "request" => Command::Request(dialog()?, Method::new(start)?, headers, body),
            "invite" => Command::Invite(Box::new(read_invite(&rest, &start, headers, body)?)),
            _ => return None,
        })
    }
}

fn name(dialog: &DialogId) -> String {
    format!("{} {} {}", dialog.call_id(), dialog.local_tag(), dialog.remote_tag())
}

fn write_reply(reply: &Reply) -> Bytes {
    let reason = reply.reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
    part(&format!("SIP/2.0 {}{reason}", reply.status.code()), &reply.headers, reply.body.as_ref())
}

fn read_reply(start: &str, headers: Headers, body: Option<Body>) -> Option<Reply> {
    let status = start.strip_prefix("SIP/2.0 ")?;
    let (code, reason) = status.split_once(' ').map_or((status, None), |(code, reason)| (code, Some(reason)));
    let status = StatusCode::new(code.parse().ok()?)?;
    Some(Reply { status, reason: reason.map(str::to_owned), headers, body, reliability: None })
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

fn write_way(call: &OutgoingInvite) -> String {
    let word = |hop: &Hop| format!(" {} {} {}", hop.transport, hop.addr, hop.name.as_deref().unwrap_or("-"));
    let CallOptions { reliability, delayed_offer } = call.options;
    let hops = call.hops.iter().map(word).collect::<String>();
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

fn read_invite(
    words: &[&str],
    start: &str,
    mut headers: Headers,
    body: Option<Body>,
) -> Option<OutgoingInvite> {
    let [cseq, reliability, delayed_offer, ways @ ..] = words else { return None };
    let options =
        CallOptions { reliability: read_policy(reliability)?, delayed_offer: delayed_offer.parse().ok()? };
    let hops = ways.chunks(3).map(read_hop).collect::<Option<_>>()?;
    let (from, to) = (headers.typed::<From>().ok()?, headers.typed::<To>().ok()?);
    let call_id = headers.get(HeaderName::CALL_ID).map(std::borrow::Cow::into_owned);
    for name in [HeaderName::FROM, HeaderName::TO, HeaderName::CALL_ID] {
        headers.remove(name);
    }
    Some(OutgoingInvite {
        uri: FromStr::from_str(start.strip_prefix("INVITE ")?).ok()?,
        hops,
        from: from.0,
        to: to.0,
        call_id,
        cseq: cseq.parse().ok()?,
        headers,
        body,
        options,
    })
}

fn read_hop(words: &[&str]) -> Option<Hop> {
    let [transport, addr, name] = words else { return None };
    let hop = <Hop as std::convert::From<_>>::from((Transport::named(transport)?, addr.parse().ok()?));
    Some(if *name == "-" { hop } else { hop.named(name) })
}

/// A message in the making: start, headers, and the body with its type.
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

fn unpart(text: &Bytes) -> Option<(String, Headers, Option<Body>)> {
    if text.is_empty() {
        return Some((String::new(), Headers::new(), None));
    }
    let end = text.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&text[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let start = lines.next()?.to_owned();
    let (mut headers, mut content_type) = (Headers::new(), None);
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        let name = HeaderName::from(name);
        if name == HeaderName::CONTENT_TYPE {
            content_type = Some(value.to_owned());
        } else {
            headers.push(name, value.to_owned());
        }
    }
    let bytes = text.slice(end + 4..);
    Some((start, headers, content_type.map(|content_type| Body { content_type, bytes })))
}
