//! Plays a script: the programs on every node, and what they may count on from their engines.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use iqra_sip::auth::{Registering, Registration};
use iqra_sip::event::{
    Body, ClientTx, EndReason, Event, OutgoingInvite, Refer, ReferralEvent, ReferralId, Reliability, Reply,
    ServerTx,
};
use iqra_sip::message::header::Replaces;
use iqra_sip::roles::relay::{Plan, RelayEvent, Target};
use iqra_sip::{
    DialogId, EngineConfig, HeaderName, Headers, Method, Request, SessionTimerMode, SessionTimers,
    StatusCode, TransferConfig, Transport, Uri,
};

use super::checks::dangling;
use super::script::{Kind, Script, Verdict};
use crate::auth::{Guard, alice};
use crate::network::{CALLEE, CALLER, FORK, Network, is};
use crate::relay::{POOL, proxy};

/// The proxies, and the third party.
pub(crate) const A: usize = 2;
pub(crate) const B: usize = 3;
pub(crate) const THIRD: usize = 4;
/// No play takes longer, and none has more to say.
const LONGEST: Duration = Duration::from_secs(3_000);
const MOST_MESSAGES: usize = 1_500;
/// Whoever is still in a call after this hangs up, and whoever still rings does so no more.
const BEDTIME: Duration = Duration::from_secs(300);

/// What a program has planned.
enum Deed {
    Ring(usize, ServerTx),
    Answer(usize, ServerTx),
    GoAway(usize, ServerTx),
    Cancel(usize),
    HangUp(usize),
    /// It is too late for anybody to be in this call.
    Bedtime(usize),
    /// Nothing gets through any more.
    Break,
    Within(usize, Method),
    Refer,
    Replace,
    /// The pool's other proxy takes over, once this one has nothing under way.
    MovePool,
    Unregister,
}

/// A call that was placed.
pub(crate) struct Call {
    node: usize,
    tx: ClientTx,
    pub(crate) call_id: String,
    ends: u32,
    answered: bool,
    /// When it was cancelled.
    pub(crate) cancelled: Option<Instant>,
    /// The REFER that asked for it.
    referral: Option<ReferralId>,
}

/// One side of a dialog.
pub(crate) struct Leg {
    pub(crate) node: usize,
    pub(crate) id: DialogId,
    asked: bool,
    ends: u32,
    /// It was called.
    pub(crate) called: bool,
    /// When this side hung up or heard of the end, whichever came first.
    pub(crate) over: Option<Instant>,
    /// How often its program heard of an ACK.
    pub(crate) confirmed: u32,
}

impl Leg {
    fn is_open(&self) -> bool {
        !self.asked && self.ends == 0
    }
}

pub(crate) struct World {
    pub(crate) net: Network,
    pub(crate) script: Script,
    pub(crate) calls: Vec<Call>,
    /// What went wrong, in words.
    pub(crate) wrongs: Vec<String>,
    start: Instant,
    deeds: BTreeMap<(Instant, u64), Deed>,
    serial: u64,
    pub(crate) legs: Vec<Leg>,
    invited: HashMap<(usize, String), u32>,
    /// The Call-ID of each INVITE that came.
    invites: HashMap<(usize, ServerTx), String>,
    /// Who was told when that the caller of this Call-ID gave up.
    pub(crate) given_up: Vec<(usize, String, Instant)>,
    referrals: Vec<(ClientTx, u32)>,
    /// Requests inside dialogs, and how many ends each has.
    asked: Vec<(usize, ClientTx, u32)>,
    guard: Guard,
    registering: Option<(Registering, Option<ClientTx>)>,
    random: fastrand::Rng,
}

fn config(script: &Script, node: usize) -> EngineConfig {
    let mode = if node == CALLER { SessionTimerMode::Request } else { SessionTimerMode::Accept };
    let session = match script.kind {
        Kind::Session | Kind::Broken => {
            SessionTimers { mode, interval: Duration::from_secs(90), ..SessionTimers::default() }
        }
        _ => SessionTimers::default(),
    };
    let reliable = script.kind == Kind::Reliable;
    EngineConfig {
        session,
        glare_retries: 3,
        transfer: TransferConfig { refer: true, replaces: true, ..TransferConfig::default() },
        reliability: if reliable { Reliability::IfSupported } else { Reliability::Never },
        ..EngineConfig::default()
    }
}

impl World {
    pub(crate) fn new(seed: u64, script: Script) -> Self {
        let both = [CALLER, CALLEE].map(|node| config(&script, node));
        let mut net = Network::among(seed, script.weather, Transport::Udp, both.into());
        for (name, at) in [("a", "10.0.0.3:5060"), ("b", "10.0.0.4:5060")] {
            net.add_node(&[(Transport::Udp, at), (Transport::Tcp, at)], proxy(name));
        }
        net.add_node(&[(Transport::Udp, "10.0.0.5:5060")], config(&script, THIRD));
        net.alias(POOL, A);
        net.tape = Some(Vec::new());
        match script.kind {
            Kind::Fork => net.branches = vec![CALLEE, THIRD],
            Kind::Merge => net.branches = vec![CALLEE, CALLEE],
            Kind::Unacknowledged => net.lose(|from, text| from == CALLER && is(text, "ACK")),
            Kind::Silence => net.lose(|from, text| from == CALLER && is(text, "INVITE")),
            _ => {}
        }
        let guard = Guard::new(&net, |_| {});
        Self {
            start: net.now,
            net,
            script,
            calls: Vec::new(),
            wrongs: Vec::new(),
            deeds: BTreeMap::new(),
            serial: 0,
            legs: Vec::new(),
            invited: HashMap::new(),
            invites: HashMap::new(),
            given_up: Vec::new(),
            referrals: Vec::new(),
            asked: Vec::new(),
            guard,
            registering: None,
            random: fastrand::Rng::with_seed(seed ^ 0x5eed),
        }
    }

    /// From the first message to the last timer.
    pub(crate) fn play(&mut self) {
        self.begin();
        loop {
            self.net.flush();
            self.attend();
            self.wrongs.extend(self.net.nodes.iter().flat_map(|node| dangling(&node.engine)));
            let Some(next) = self.next() else { break };
            if next - self.start > LONGEST || self.net.sent.len() > MOST_MESSAGES {
                return self.wrong("it never comes to rest".into());
            }
            match self.deeds.first_entry().filter(|entry| entry.key().0 <= next) {
                Some(entry) => {
                    self.net.now = self.net.now.max(entry.key().0);
                    let deed = entry.remove();
                    self.perform(deed);
                }
                None if self.net.next().is_some_and(|at| at <= next) => drop(self.net.step()),
                None => self.net.now = self.net.now.max(next),
            }
        }
        self.judge();
    }

    fn next(&self) -> Option<Instant> {
        let planned = self.deeds.keys().map(|(at, _)| *at).next();
        let registering = self.registering.as_ref().and_then(|(one, _)| one.poll_timeout(self.net.now));
        [planned, self.net.next(), registering].into_iter().flatten().min()
    }

    fn begin(&mut self) {
        if self.script.kind == Kind::Register {
            let uri = |text: &str| text.parse::<Uri>().unwrap();
            let mut asked = Registration::new(uri("sip:voice.example"), uri("sip:alice@voice.example"));
            asked.expires = Duration::from_secs(60);
            self.registering = Some((Registering::new(asked.credentials(alice()), 7), None));
            self.plan(Duration::from_secs(150), Deed::Unregister);
        }
        let mut call = self.net.invite();
        let address = match self.script.kind {
            Kind::Fork | Kind::Merge => FORK,
            Kind::Relay => POOL,
            _ => "10.0.0.2:5060",
        };
        call.hops = vec![(Transport::Udp, address.parse().unwrap()).into()];
        self.call(CALLER, call, None);
        if let Some(after) = self.script.cancels {
            self.plan(after, Deed::Cancel(0));
        }
    }

    fn call(&mut self, node: usize, call: OutgoingInvite, referral: Option<ReferralId>) {
        let call_id = format!("call{}", self.calls.len());
        let call = OutgoingInvite { call_id: Some(call_id.clone()), ..call };
        let (engine, now) = self.net.engine(node);
        let tx = match self.script.kind {
            Kind::Challenge => engine.invite_with(now, call, alice()).unwrap(),
            _ => engine.invite(now, call).unwrap(),
        };
        let (ends, answered, cancelled) = (0, false, None);
        self.calls.push(Call { node, tx, call_id, ends, answered, cancelled, referral });
    }

    fn plan(&mut self, after: Duration, deed: Deed) {
        self.serial += 1;
        self.deeds.insert((self.net.now + after, self.serial), deed);
    }

    fn wrong(&mut self, what: String) {
        self.wrongs.push(what);
    }

    /// Every program takes what its engine tells.
    fn attend(&mut self) {
        for node in 0..self.net.nodes.len() {
            for event in std::mem::take(&mut self.net.nodes[node].events) {
                self.react(node, event);
            }
        }
        self.register();
        self.net.flush();
    }

    fn register(&mut self) {
        let Some((machine, asked)) = &mut self.registering else { return };
        if machine.poll_timeout(self.net.now).is_none_or(|at| at > self.net.now) {
            return;
        }
        let hop = (Transport::Udp, self.net.nodes[CALLEE].addr).into();
        let (engine, now) = (&mut self.net.nodes[CALLER].engine, self.net.now);
        let own = "sip:alice@10.0.0.1:5060".parse().unwrap();
        if let Some(request) = machine.poll_request(now, &own) {
            *asked = Some(engine.request_with(now, request, Some(hop), alice()).unwrap());
        }
    }

    fn react(&mut self, node: usize, event: Event) {
        let (engine, now) = (&mut self.net.nodes[node].engine, self.net.now);
        match event {
            Event::Invite { tx, .. } if node == A || node == B => {
                let target = |at: &str| Target {
                    uri: Some(format!("sip:callee@{at}").parse().unwrap()),
                    ..Target::default()
                };
                let plan = Plan::new(["10.0.0.2:5060", "10.0.0.5:5060"].map(target));
                engine.relay(now, tx, plan).unwrap();
            }
            Event::Invite { tx, request, .. } => self.invited(node, tx, &request),
            Event::Relay { tx, event: RelayEvent::NextTarget { target: Some(target), .. } } => {
                drop(engine.relay_to(now, tx, &target));
            }
            Event::Relay { tx, event: RelayEvent::NextTarget { target: None, .. } } => {
                drop(engine.relay_best(now, tx));
            }
            Event::Request { tx, request, .. } => {
                let reply = self.admit(&request).unwrap_or_else(|| grant(&request));
                self.net.nodes[node].engine.respond(now, tx, reply).unwrap();
            }
            Event::DialogRequest { tx, request, .. } => self.asked_within(node, tx, &request),
            Event::Response { tx, response, .. } => {
                let invite = response.headers.get(HeaderName::CSEQ).unwrap_or_default().ends_with(" INVITE");
                if response.status.is_final() {
                    self.registered(tx, Ok(&response));
                    self.ended(node, tx, response.status, invite);
                }
            }
            Event::Failed { tx, failure } => {
                if self.script.is_calm() && !matches!(self.script.kind, Kind::Silence | Kind::Broken) {
                    self.wrong(format!("node {node}: {failure:?} though nothing was lost"));
                }
                self.registered(tx, Err(failure));
                self.ended(node, tx, StatusCode::REQUEST_TIMEOUT, true);
            }
            Event::Answered { tx, dialog, .. } => {
                self.ended(node, tx, StatusCode::OK, true);
                self.begin_leg(node, dialog, false);
                self.answered(node);
            }
            Event::Ended { dialog, reason } => self.end_leg(node, &dialog, &reason),
            Event::Confirmed { dialog, .. } => {
                match self.legs.iter_mut().find(|leg| leg.node == node && leg.id == dialog) {
                    Some(leg) => leg.confirmed += 1,
                    None => self.wrong(format!("node {node}: the ACK of a dialog that nobody knows")),
                }
            }
            Event::Cancelled { tx, .. } => {
                let call = self.invites.get(&(node, tx)).cloned().unwrap_or_default();
                self.given_up.push((node, call, now));
            }
            Event::Referred { tx, target, .. } => {
                if let Ok(referral) = engine.accept_refer(now, tx) {
                    let invite = self.net.invite_to(THIRD);
                    let call = OutgoingInvite {
                        uri: target.uri.clone(),
                        headers: target.invite_headers(),
                        ..invite
                    };
                    self.call(node, call, referral);
                }
            }
            Event::Referral { tx, event: ReferralEvent::Ended(_) } => {
                match self.referrals.iter_mut().find(|(one, _)| *one == tx) {
                    Some((_, ends)) => *ends += 1,
                    None => self.wrong(format!("node {node}: the end of a REFER that nobody sent")),
                }
            }
            Event::Lookup(_) => self.wrong("a request in a dialog has nowhere to go".into()),
            _ => {}
        }
    }

    /// A challenge, where the script wants one and the request does not answer it.
    fn admit(&mut self, request: &Request) -> Option<Reply> {
        let guarded = matches!(self.script.kind, Kind::Challenge) || request.method == Method::Register;
        let denied = guarded.then(|| self.guard.check(self.net.now, request).err()).flatten();
        denied.map(|denied| denied.reply)
    }

    fn invited(&mut self, node: usize, tx: ServerTx, request: &Request) {
        let name = |name| request.headers.get(name).unwrap_or_default().into_owned();
        self.invites.insert((node, tx), name(HeaderName::CALL_ID));
        let key = (node, format!("{} {}", name(HeaderName::CALL_ID), name(HeaderName::CSEQ)));
        let times = self.invited.entry(key).or_default();
        *times += 1;
        if *times > 1 {
            self.wrong(format!("node {node} is told of an INVITE twice"));
        }
        if let Some(reply) = self.admit(request) {
            self.net.nodes[node].engine.respond(self.net.now, tx, reply).unwrap();
            return;
        }
        let verdict = self.script.verdicts[usize::from(node == THIRD)];
        self.plan(BEDTIME, Deed::GoAway(node, tx));
        let ring = self.script.rings.or((verdict == Verdict::Ring).then_some(Duration::ZERO));
        match ring.filter(|_| verdict != Verdict::Nothing) {
            Some(after) => self.plan(after, Deed::Ring(node, tx)),
            None if matches!(verdict, Verdict::Accept | Verdict::Refuse(_)) => {}
            None => return,
        }
        if matches!(verdict, Verdict::Accept | Verdict::Refuse(_)) {
            let more = Duration::from_millis(self.random.u64(0..500));
            self.plan(self.script.answers + ring.unwrap_or_default() + more, Deed::Answer(node, tx));
        }
    }

    fn asked_within(&mut self, node: usize, tx: ServerTx, request: &Request) {
        let call = request.headers.get(HeaderName::CALL_ID).unwrap_or_default().into_owned();
        self.invites.insert((node, tx), call);
        let reply = self.admit(request).unwrap_or_else(|| {
            let session = !request.body.is_empty();
            Reply { body: session.then(|| Body::sdp("v=0\r\n")), ..Reply::new(StatusCode::OK) }
        });
        // The request may have been given up meanwhile.
        drop(self.net.nodes[node].engine.respond(self.net.now, tx, reply));
    }

    fn registered(&mut self, tx: ClientTx, result: Result<&iqra_sip::Response, iqra_sip::event::Failure>) {
        let Some((machine, asked)) = self.registering.as_mut().filter(|(_, asked)| *asked == Some(tx)) else {
            return;
        };
        *asked = None;
        match result {
            Ok(response) => machine.handle_response(self.net.now, response),
            Err(failure) => machine.handle_failure(self.net.now, failure),
        }
    }

    /// A request has its final event; that of a call is counted.
    fn ended(&mut self, node: usize, tx: ClientTx, status: StatusCode, invite: bool) {
        if let Some((.., ends)) = self.asked.iter_mut().find(|(at, one, _)| (*at, *one) == (node, tx)) {
            *ends += 1;
        }
        let Some(call) = self.calls.iter_mut().find(|call| call.node == node && call.tx == tx) else {
            return;
        };
        call.ends += 1;
        call.answered = status.is_success();
        let referral = call.referral;
        if !invite {
            self.wrong(format!("node {node}: an INVITE is ended by the answer to something else"));
        }
        if let Some(referral) = referral {
            // The call that asked for it may be over.
            drop(self.net.nodes[node].engine.notify(self.net.now, referral, status));
        }
    }

    fn begin_leg(&mut self, node: usize, id: DialogId, called: bool) {
        let index = self.legs.len();
        self.legs.push(Leg { node, id, asked: false, ends: 0, called, over: None, confirmed: 0 });
        let caller = node == CALLER || (node == THIRD && self.script.kind == Kind::Replace);
        if let Some(after) = self.script.hangs_up[usize::from(!caller)] {
            self.plan(after, Deed::HangUp(index));
        }
        self.plan(BEDTIME, Deed::Bedtime(index));
    }

    fn end_leg(&mut self, node: usize, id: &DialogId, reason: &EndReason) {
        use EndReason::{AckTimeout, PrackTimeout, SessionExpired, Unreachable};
        let broken = matches!(self.script.kind, Kind::Unacknowledged | Kind::Broken);
        let calm = self.script.is_calm() && !broken;
        if calm && matches!(reason, AckTimeout | PrackTimeout | SessionExpired | Unreachable) {
            self.wrong(format!("node {node}: a dialog ends by {reason:?} though nothing was lost"));
        }
        match self.legs.iter_mut().find(|leg| leg.node == node && leg.id == *id) {
            Some(leg) => {
                leg.ends += 1;
                leg.over.get_or_insert(self.net.now);
                if matches!(reason, EndReason::Cancelled { .. } | PrackTimeout) {
                    self.given_up.push((node, id.call_id().to_owned(), self.net.now));
                }
            }
            None => self.wrong(format!("node {node}: the end of a dialog that nobody knows")),
        }
    }

    /// What follows the answer of the first call.
    fn answered(&mut self, node: usize) {
        if node != CALLER || self.calls.len() > 1 {
            return;
        }
        let second = Duration::from_secs(1);
        match self.script.kind {
            Kind::Update | Kind::Challenge | Kind::Relay => {
                for _ in 0..4 {
                    let after = Duration::from_millis(self.random.u64(100..5_000));
                    let method = if self.random.bool() { Method::Info } else { Method::Update };
                    let side = if self.random.bool() { CALLER } else { CALLEE };
                    self.plan(after, Deed::Within(side, method));
                }
                if self.script.kind == Kind::Relay {
                    self.plan(second, Deed::MovePool);
                }
            }
            Kind::Glare => {
                for after in [second, second * 4] {
                    self.plan(after, Deed::Within(CALLER, Method::Invite));
                    self.plan(after, Deed::Within(CALLEE, Method::Invite));
                }
            }
            Kind::Broken => self.plan(second * 20, Deed::Break),
            Kind::Session => self.plan(second * 45, Deed::Within(CALLEE, Method::Invite)),
            Kind::Transfer => self.plan(second, Deed::Refer),
            Kind::Replace => self.plan(second, Deed::Replace),
            _ => {}
        }
    }

    fn open_leg(&self, node: usize) -> Option<DialogId> {
        self.legs.iter().find(|leg| leg.node == node && leg.is_open()).map(|leg| leg.id.clone())
    }

    fn perform(&mut self, deed: Deed) {
        let now = self.net.now;
        match deed {
            Deed::Ring(node, tx) => {
                let status =
                    if self.random.bool() { StatusCode::RINGING } else { StatusCode::SESSION_PROGRESS };
                let body = (status == StatusCode::SESSION_PROGRESS).then(|| Body::sdp("v=0\r\n"));
                let reply = Reply { body, ..Reply::new(status) };
                drop(self.net.nodes[node].engine.respond(now, tx, reply));
            }
            Deed::Answer(node, tx) => self.answer(node, tx),
            Deed::GoAway(node, tx) => {
                let reply = Reply::new(StatusCode::TEMPORARILY_UNAVAILABLE);
                let open = self.net.nodes[node].engine.respond(now, tx, reply).is_ok();
                let verdict = self.script.verdicts[usize::from(node == THIRD)];
                if open && !matches!(verdict, Verdict::Ring | Verdict::Nothing) {
                    self.wrong(format!("node {node}: an INVITE that was answered still waits"));
                }
            }
            Deed::Cancel(index) => {
                let call = &mut self.calls[index];
                let cancelled = self.net.nodes[call.node].engine.cancel(now, call.tx, Headers::new());
                call.cancelled = cancelled.is_ok().then_some(now);
            }
            Deed::HangUp(index) => self.hang_up(index),
            Deed::Bedtime(index) => {
                if self.legs[index].is_open() {
                    self.wrong(format!("node {}: a call that was hung up goes on", self.legs[index].node));
                }
                self.hang_up(index);
            }
            Deed::Break => self.net.lose(|_, _| true),
            Deed::Within(node, method) => {
                let Some(id) = self.open_leg(node) else { return };
                let offer = matches!(method, Method::Invite | Method::Update);
                let body = offer.then(|| Body::sdp("v=0\r\n"));
                // Another may be under way.
                let engine = &mut self.net.nodes[node].engine;
                if let Ok(tx) = engine.dialog_request(now, &id, method, &Headers::new(), body) {
                    self.asked.push((node, tx, 0));
                }
            }
            Deed::Refer => {
                let Some(id) = self.open_leg(CALLEE) else { return };
                let to = format!("sip:third@{}", self.net.nodes[THIRD].addr).parse().unwrap();
                if let Ok(tx) = self.net.nodes[CALLEE].engine.refer(now, &id, Refer::to(to)) {
                    self.referrals.push((tx, 0));
                }
            }
            Deed::Replace => {
                let Some(id) = self.open_leg(CALLER) else { return };
                let mut call = self.net.invite();
                call.headers.push(HeaderName::REPLACES, Replaces::of_peer(&id).to_string());
                self.call(THIRD, call, None);
            }
            Deed::MovePool if self.net.nodes[A].engine.counts() == Default::default() => {
                self.net.alias(POOL, B);
            }
            Deed::MovePool => self.plan(Duration::from_secs(1), Deed::MovePool),
            Deed::Unregister => {
                if let Some((machine, _)) = &mut self.registering {
                    machine.unregister();
                }
            }
        }
    }

    fn answer(&mut self, node: usize, tx: ServerTx) {
        let (engine, now) = (&mut self.net.nodes[node].engine, self.net.now);
        if let Verdict::Refuse(status) = self.script.verdicts[usize::from(node == THIRD)] {
            return drop(engine.respond(now, tx, Reply::new(StatusCode::new(status).unwrap())));
        }
        let mut reply = Reply { body: Some(Body::sdp("v=0\r\n")), ..Reply::new(StatusCode::OK) };
        if !self.script.updates {
            reply = reply.header(HeaderName::ALLOW, "INVITE, ACK, BYE, CANCEL, REFER, NOTIFY");
        }
        if let Ok(dialog) = engine.accept(now, tx, reply) {
            self.begin_leg(node, dialog, true);
        }
    }

    fn hang_up(&mut self, index: usize) {
        let leg = &mut self.legs[index];
        if !leg.is_open() {
            return;
        }
        let (node, id) = (leg.node, leg.id.clone());
        leg.asked = true;
        leg.over = Some(self.net.now);
        if let Err(error) = self.net.nodes[node].engine.bye(self.net.now, &id, Headers::new()) {
            self.wrong(format!("node {node} cannot hang up: {error}"));
        }
    }

    /// Who sent what, and what arrived.
    #[allow(clippy::print_stdout)] // For whoever asked for it by `SEED`.
    pub(crate) fn print(&self) {
        println!("{:?}", self.script);
        for one in self.net.tape.iter().flatten() {
            let first = one.text.lines().next().unwrap_or_default();
            let cseq = one.text.lines().find(|line| line.starts_with("CSeq")).unwrap_or_default();
            let (at, way) = ((one.at - self.start).as_millis(), if one.came { "<-" } else { "->" });
            println!("{at:>8} {} {way} {} {first} | {cseq}", one.node, one.peer);
        }
    }

    /// What has to be true at the end, by what the programs were told.
    fn judge(&mut self) {
        let mut wrongs = Vec::new();
        for (index, node) in self.net.nodes.iter().enumerate() {
            let counts = node.engine.counts();
            if counts != Default::default() {
                wrongs.push(format!("node {index} keeps {counts:?}"));
            }
        }
        for call in &self.calls {
            if call.ends != 1 {
                wrongs.push(format!("{} has {} ends", call.call_id, call.ends));
            }
        }
        for leg in &self.legs {
            let ends = leg.ends + u32::from(leg.asked);
            if ends != 1 {
                wrongs.push(format!("node {}: a dialog has {ends} ends", leg.node));
            }
        }
        if self.asked.iter().any(|(.., ends)| *ends != 1) {
            wrongs.push("a request inside a dialog has not one end".into());
        }
        if self.referrals.iter().any(|(_, ends)| *ends != 1) {
            wrongs.push("a REFER has not one end".into());
        }
        if self.registering.as_ref().is_some_and(|(machine, _)| !machine.is_over()) {
            wrongs.push("the registration is not over".into());
        }
        let certain = !matches!(
            self.script.kind,
            Kind::Refuse | Kind::Cancel | Kind::Silence | Kind::Fork | Kind::Merge | Kind::Relay
        );
        let wanted = self.script.is_calm() && self.script.cancels.is_none() && certain;
        if wanted && self.calls.iter().any(|call| !call.answered) {
            wrongs.push("a call fails though nothing was lost".into());
        }
        self.wrongs.append(&mut wrongs);
    }
}

/// A registrar's 200.
fn grant(request: &Request) -> Reply {
    let header = |name| request.headers.get(name).unwrap_or_default().into_owned();
    let contact = format!("{};expires={}", header(HeaderName::CONTACT), header(HeaderName::EXPIRES));
    Reply::new(StatusCode::OK).header(HeaderName::CONTACT, contact)
}
