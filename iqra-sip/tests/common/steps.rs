//! Two engines, their programs and the path between them, all at the mercy of some octets: the transaction and dialog
//! layers as a sequence of steps. Shared by the fuzz target `transactions` and the property tests.
//!
//! Each step is an octet for what happens and one or two for where: a program asks, answers, cancels or hangs up; a
//! message arrives, is lost, comes again, late, bent or with a header of another message in it; time goes by; a socket
//! fails. Whatever the steps, nothing panics; each request that an engine took has its end, and one that is no INVITE
//! exactly one; and when nobody does anything any more, no engine keeps anything.
#![allow(dead_code)] // Each user runs some of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iqra_sip::event::{Body, CallOptions, ClientTx, Event, OutgoingInvite, Refer, Reply, ServerTx};
use iqra_sip::guard::GuardConfig;
use iqra_sip::message::NameAddr;
use iqra_sip::roles::relay::{Plan, RelayConfig, RelayEvent, RelayKeys, Target};
use iqra_sip::{
    DialogId, Engine, EngineConfig, Flow, HeaderName, Headers, Listener, Method, Request, StatusCode,
    TransferConfig, Transmit, Transport, Uri,
};

const ADDRESSES: [&str; 2] = ["10.0.0.1:5060", "10.0.0.2:5060"];
/// More steps make a run slow and find nothing more.
const MOST_STEPS: usize = 200;
/// So many messages are kept to come again.
const MOST_KEPT: usize = 64;
/// Timers that may fire once nobody does anything; a request is sent 11 times at most.
const MOST_TIMERS: usize = 20_000;

/// Plays the steps that the octets say, between engines that `prepare` has set up.
pub(crate) fn play(octets: &[u8], prepare: impl FnMut(&mut Engine)) {
    let mut world = World::new();
    world.engines.iter_mut().for_each(prepare);
    world.play(octets);
}

/// The same with the second engine as a proxy behind a guard.
pub(crate) fn play_relayed(octets: &[u8], mut prepare: impl FnMut(&mut Engine)) {
    let relay = RelayConfig::new("a", RelayKeys::new([[9; 32]]).expect("a key"));
    let config = EngineConfig { relay: Some(relay), guard: Some(GuardConfig::default()), ..World::config() };
    let mut world = World::new();
    world.engines[1] = World::engine(1, config);
    world.engines.iter_mut().for_each(&mut prepare);
    world.play(octets);
}

/// What is left of the input.
struct Octets<'a>(&'a [u8]);

impl Octets<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Zero where the input is at its end.
    fn octet(&mut self) -> usize {
        self.next().unwrap_or_default().into()
    }

    /// One of a list, if there is any.
    fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        let at = self.octet();
        among.get(at.checked_rem(among.len())?)
    }
}

/// A request of a program, and how often it came to an end.
struct Asked {
    node: usize,
    tx: ClientTx,
    invite: bool,
    ends: u32,
}

struct World {
    now: Instant,
    engines: [Engine; 2],
    /// On their way, with who sent them.
    flying: Vec<(usize, Transmit)>,
    /// All that ever flew, the newest.
    kept: Vec<(usize, Flow, Bytes)>,
    asked: Vec<Asked>,
    invited: Vec<(usize, ServerTx)>,
    /// INVITEs that the proxy has forwarded.
    relayed: Vec<ServerTx>,
    waiting: Vec<(usize, ServerTx)>,
    referred: Vec<(usize, ServerTx)>,
    dialogs: Vec<(usize, DialogId)>,
}

impl World {
    fn config() -> EngineConfig {
        let transfer = TransferConfig { refer: true, replaces: true, ..TransferConfig::default() };
        EngineConfig { transfer, ..EngineConfig::default() }
    }

    fn engine(node: usize, config: EngineConfig) -> Engine {
        let mut engine = Engine::new(config, node as u64);
        for transport in [Transport::Udp, Transport::Tcp] {
            engine.add_listener(Listener::new(transport, address(node), None));
        }
        engine
    }

    fn play(mut self, octets: &[u8]) {
        let mut octets = Octets(octets);
        for _ in 0..MOST_STEPS {
            let Some(step) = octets.next() else { break };
            self.step(step, &mut octets);
            self.listen();
        }
        self.rest();
        self.judge();
    }

    fn new() -> Self {
        Self {
            now: Instant::now(),
            engines: [0, 1].map(|node| Self::engine(node, Self::config())),
            relayed: Vec::new(),
            flying: Vec::new(),
            kept: Vec::new(),
            asked: Vec::new(),
            invited: Vec::new(),
            waiting: Vec::new(),
            referred: Vec::new(),
            dialogs: Vec::new(),
        }
    }

    fn step(&mut self, step: u8, octets: &mut Octets<'_>) {
        match step % 16 {
            0 => self.invite(octets.octet()),
            1 => self.request(octets.octet()),
            2 | 3 => self.arrive(octets),
            4 => drop(self.take(octets)),
            5 => self.again(octets, |_, bytes, _| bytes),
            6 => self.again(octets, bend),
            7 => self.again(octets, exchange),
            8 => self.answer(octets),
            9 => self.respond(octets),
            10 => self.cancel(octets),
            11 => self.hang_up(octets),
            12 => self.within(octets),
            13 => self.fail(octets),
            14 => self.pass(Duration::from_millis(50) * u32::try_from(octets.octet()).unwrap_or_default()),
            _ => self.wait_for_timer(),
        }
    }

    /// Takes what the engines say.
    fn listen(&mut self) {
        for node in 0..2 {
            while let Some(event) = self.engines[node].poll_event() {
                self.hear(node, event);
            }
            while let Some(transmit) = self.engines[node].poll_transmit() {
                if self.kept.len() == MOST_KEPT {
                    self.kept.remove(0);
                }
                self.kept.push((node, transmit.flow, transmit.bytes.clone()));
                self.flying.push((node, transmit));
            }
        }
    }

    fn hear(&mut self, node: usize, event: Event) {
        match event {
            Event::Invite { tx, .. } => self.invited.push((node, tx)),
            Event::Request { tx, .. } | Event::DialogRequest { tx, .. } => self.waiting.push((node, tx)),
            Event::Referred { tx, .. } => self.referred.push((node, tx)),
            Event::Cancelled { tx, .. } => self.invited.retain(|one| *one != (node, tx)),
            Event::Response { tx, response, .. } if response.status.is_final() => self.end(node, tx),
            Event::Answered { tx, dialog, .. } => {
                self.end(node, tx);
                self.dialogs.push((node, dialog));
            }
            Event::Failed { tx, .. } => self.end(node, tx),
            Event::Relay { tx, event } => self.relay(node, tx, event),
            Event::Ended { dialog, .. } => self.dialogs.retain(|one| *one != (node, dialog.clone())),
            _ => {}
        }
    }

    /// The proxy goes on with its next target, or with the best answer.
    fn relay(&mut self, node: usize, tx: ServerTx, event: RelayEvent) {
        let (now, engine) = (self.now, &mut self.engines[node]);
        match event {
            RelayEvent::NextTarget { target: Some(target), .. } => drop(engine.relay_to(now, tx, &target)),
            RelayEvent::NextTarget { target: None, .. } => drop(engine.relay_best(now, tx)),
            RelayEvent::Answered(_) | RelayEvent::Refused(_) | RelayEvent::Ended => {
                self.relayed.retain(|one| *one != tx);
            }
            _ => {}
        }
    }

    fn end(&mut self, node: usize, tx: ClientTx) {
        let asked = self.asked.iter_mut().find(|asked| (asked.node, asked.tx) == (node, tx));
        asked.expect("an end is of something that was begun").ends += 1;
    }

    fn begun(&mut self, node: usize, tx: ClientTx, invite: bool) {
        self.asked.push(Asked { node, tx, invite, ends: 0 });
    }

    fn invite(&mut self, how: usize) {
        let node = how % 2;
        let call = OutgoingInvite {
            uri: uri(1 - node),
            hops: vec![(transport(how), address(1 - node)).into()],
            from: NameAddr::new(uri(node)),
            to: NameAddr::new(uri(1 - node)),
            call_id: None,
            cseq: 1,
            headers: Headers::new(),
            body: Some(Body::sdp("v=0\r\n")),
            options: CallOptions::default(),
        };
        let tx = self.engines[node].invite(self.now, call).expect("room for a call");
        self.begun(node, tx, true);
    }

    fn request(&mut self, how: usize) {
        let node = how % 2;
        let method = [Method::Options, Method::Message, Method::Register, Method::Info];
        let mut request = Request::new(method[how / 4 % 4].clone(), uri(1 - node));
        request.headers.push(HeaderName::FROM, format!("<{}>", uri(node)));
        request.headers.push(HeaderName::TO, format!("<{}>", uri(1 - node)));
        let hop = (transport(how), address(1 - node)).into();
        let tx = self.engines[node].request(self.now, request, Some(hop)).expect("room for a request");
        self.begun(node, tx, false);
    }

    fn take(&mut self, octets: &mut Octets<'_>) -> Option<(usize, Transmit)> {
        let at = octets.octet();
        at.checked_rem(self.flying.len()).map(|at| self.flying.remove(at))
    }

    fn arrive(&mut self, octets: &mut Octets<'_>) {
        if let Some((from, transmit)) = self.take(octets) {
            self.deliver(from, transmit.flow, transmit.bytes);
        }
    }

    fn deliver(&mut self, from: usize, flow: Flow, bytes: Bytes) {
        let arriving = Flow { local: flow.remote, remote: flow.local, ..flow };
        self.engines[1 - from].handle_message(self.now, &arriving, bytes);
    }

    /// A message that flew before comes, perhaps not as it was; to the one it was for, or to the one who sent it.
    fn again(
        &mut self,
        octets: &mut Octets<'_>,
        change: impl FnOnce(&[(usize, Flow, Bytes)], Bytes, &mut Octets<'_>) -> Bytes,
    ) {
        let Some((from, flow, bytes)) = octets.pick(&self.kept).cloned() else { return };
        let bytes = change(&self.kept, bytes, octets);
        let from = if octets.octet() % 8 == 7 { 1 - from } else { from };
        self.deliver(from, flow, bytes);
    }

    fn answer(&mut self, octets: &mut Octets<'_>) {
        let Some(&(node, tx)) = octets.pick(&self.invited) else { return };
        let (now, engine) = (self.now, &mut self.engines[node]);
        let way = octets.octet();
        if node == 1 && !way.is_multiple_of(4) {
            let targets = (0..way % 3 + 1).map(|at| Target {
                uri: Some(uri(at % 2)),
                hops: vec![(transport(way), address(at % 2)).into()],
                ..Target::default()
            });
            if engine.relay(now, tx, Plan::new(targets)).is_ok() {
                self.invited.retain(|one| *one != (node, tx));
                return self.relayed.push(tx);
            }
        }
        let status = [180, 183, 200, 200, 200, 302, 486, 603][way % 8];
        let reply = Reply { body: Some(Body::sdp("v=0\r\n")), ..Reply::new(status_of(status)) };
        let answered = if status == 200 {
            let accepted = engine.accept(now, tx, reply);
            self.dialogs.extend(accepted.iter().map(|dialog| (node, dialog.clone())));
            accepted.is_ok()
        } else {
            engine.respond(now, tx, reply).is_ok() && status >= 200
        };
        if answered {
            self.invited.retain(|one| *one != (node, tx));
        }
    }

    fn respond(&mut self, octets: &mut Octets<'_>) {
        if let Some(&(node, tx)) = octets.pick(&self.referred) {
            self.referred.retain(|one| *one != (node, tx));
            match self.engines[node].accept_refer(self.now, tx) {
                Ok(Some(referral)) => drop(self.engines[node].notify(self.now, referral, StatusCode::OK)),
                Ok(None) => {}
                Err(_) => self.waiting.push((node, tx)),
            }
        } else if let Some(&(node, tx)) = octets.pick(&self.waiting) {
            self.waiting.retain(|one| *one != (node, tx));
            let status = [200, 200, 404, 481, 491, 500, 408, 503][octets.octet() % 8];
            drop(self.engines[node].respond(self.now, tx, Reply::new(status_of(status))));
        }
    }

    fn cancel(&mut self, octets: &mut Octets<'_>) {
        if let Some(&Asked { node, tx, .. }) = octets.pick(&self.asked) {
            drop(self.engines[node].cancel(self.now, tx, Headers::new()));
        }
    }

    fn hang_up(&mut self, octets: &mut Octets<'_>) {
        let Some((node, dialog)) = octets.pick(&self.dialogs).cloned() else { return };
        drop(self.engines[node].bye(self.now, &dialog, Headers::new()));
        self.dialogs.retain(|one| *one != (node, dialog.clone()));
    }

    fn within(&mut self, octets: &mut Octets<'_>) {
        let Some((node, dialog)) = octets.pick(&self.dialogs).cloned() else { return };
        let (now, engine) = (self.now, &mut self.engines[node]);
        let method = match octets.octet() % 5 {
            0 => Method::Invite,
            1 => Method::Update,
            2 => Method::Info,
            3 => Method::Options,
            _ => return drop(engine.refer(now, &dialog, Refer::to(uri(node)))),
        };
        let (invite, body) = (method == Method::Invite, Some(Body::sdp("v=0\r\n")));
        if let Ok(tx) = engine.dialog_request(now, &dialog, method, &Headers::new(), body) {
            self.begun(node, tx, invite);
        }
    }

    /// The socket refuses a message.
    fn fail(&mut self, octets: &mut Octets<'_>) {
        if let Some((from, transmit)) = self.take(octets) {
            match transmit.by_fallback() {
                Some(second) => self.flying.push((from, second)),
                None => self.engines[from].handle_transport_error(self.now, &transmit),
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.engines.iter_mut().for_each(|engine| engine.handle_timeout(self.now));
    }

    fn wait_for_timer(&mut self) {
        let next = self.engines.iter().filter_map(Engine::poll_timeout).min();
        self.pass(next.map_or(Duration::ZERO, |next| next.saturating_duration_since(self.now)));
    }

    /// Everybody leaves: what waits is refused, what stands is hung up, and no message arrives any more.
    fn rest(&mut self) {
        let refuse = || Reply::new(StatusCode::SERVER_INTERNAL_ERROR);
        for _ in 0..MOST_TIMERS {
            for (node, tx) in std::mem::take(&mut self.invited) {
                drop(self.engines[node].respond(self.now, tx, refuse()));
            }
            let waiting = std::mem::take(&mut self.waiting).into_iter();
            for (node, tx) in waiting.chain(std::mem::take(&mut self.referred)) {
                drop(self.engines[node].respond(self.now, tx, refuse()));
            }
            for tx in std::mem::take(&mut self.relayed) {
                drop(self.engines[1].give_up(self.now, tx, refuse()));
            }
            for (node, dialog) in std::mem::take(&mut self.dialogs) {
                drop(self.engines[node].bye(self.now, &dialog, Headers::new()));
            }
            self.listen();
            self.flying.clear();
            let idle = self.engines.iter().all(|engine| engine.poll_timeout().is_none());
            if idle && self.invited.is_empty() && self.waiting.is_empty() && self.dialogs.is_empty() {
                return;
            }
            self.wait_for_timer();
        }
        panic!("the engines never come to rest");
    }

    fn judge(&self) {
        for engine in &self.engines {
            assert_eq!(engine.counts(), Default::default(), "something is left behind");
        }
        for asked in &self.asked {
            let right = if asked.invite { asked.ends >= 1 } else { asked.ends == 1 };
            assert!(right, "a request (INVITE: {}) has {} ends", asked.invite, asked.ends);
        }
    }
}

/// One octet of the message is another.
fn bend(_: &[(usize, Flow, Bytes)], bytes: Bytes, octets: &mut Octets<'_>) -> Bytes {
    let (at, to) = (octets.octet() * 256 + octets.octet(), octets.octet());
    let mut bytes = bytes.to_vec();
    if let Some(at) = at.checked_rem(bytes.len()) {
        bytes[at] = u8::try_from(to).unwrap_or_default();
    }
    bytes.into()
}

/// One line of the message is that of another message: a CSeq, a tag, a branch, or the start line.
fn exchange(kept: &[(usize, Flow, Bytes)], bytes: Bytes, octets: &mut Octets<'_>) -> Bytes {
    const NAMES: [&str; 8] =
        ["SIP/2.0 ", "Via:", "From:", "To:", "Call-ID:", "CSeq:", "Contact:", "Content-Length:"];
    let name = NAMES[octets.octet() % NAMES.len()];
    let (Some((_, _, other)), Ok(text)) = (octets.pick(kept), std::str::from_utf8(&bytes)) else {
        return bytes;
    };
    let other = String::from_utf8_lossy(other);
    let line = |text: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    match (line(text), line(&other)) {
        (Some(old), Some(new)) => text.replacen(&old, &new, 1).into(),
        _ => bytes,
    }
}

fn address(node: usize) -> SocketAddr {
    ADDRESSES[node].parse().expect("an address")
}

fn uri(node: usize) -> Uri {
    format!("sip:node@{}", ADDRESSES[node]).parse().expect("a URI")
}

fn transport(how: usize) -> Transport {
    if how & 2 == 0 { Transport::Udp } else { Transport::Tcp }
}

fn status_of(code: u16) -> StatusCode {
    StatusCode::new(code).expect("a status")
}
