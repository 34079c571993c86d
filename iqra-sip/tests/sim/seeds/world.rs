//! Plays a script: who is in the world, what happens next, and what is left of it at the end.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use iqra_sip::auth::{Registering, Registration};
use iqra_sip::event::{ClientTx, OutgoingInvite, ReferralId, Reliability, ServerTx};
use iqra_sip::{DialogId, EngineConfig, SessionTimerMode, SessionTimers, TransferConfig, Transport, Uri};

use super::checks::{Seen, T1, dangling, is_proxy};
use super::deeds::Deed;
use super::script::{Kind, Script};
use crate::auth::{Guard, alice};
use crate::network::{CALLEE, CALLER, FORK, Network, Passage, is};
use crate::relay::{POOL, proxy};
use crate::streams::Streams;
use crate::strict::STRICT;
use iqra_sip::guard::{GuardConfig, Load, OverloadConfig, Rate};

/// The proxies, and the third party.
pub(crate) const A: usize = 2;
pub(crate) const B: usize = 3;
pub(crate) const THIRD: usize = 4;
/// Who answers every call 503, where there is somebody.
pub(crate) const BUSY: usize = 5;
/// No play takes longer, and none has more to say.
const LONGEST: Duration = Duration::from_secs(3_000);
const MOST_MESSAGES: usize = 1_500;
/// When a guard has nothing against anybody any more.
pub(super) const LATE: Duration = Duration::from_secs(120);
/// Whoever is still in a call after this hangs up, and whoever still rings does so no more.
pub(super) const BEDTIME: Duration = Duration::from_secs(300);

/// A call that was placed.
pub(crate) struct Call {
    pub(super) node: usize,
    pub(super) tx: ClientTx,
    pub(crate) call_id: String,
    pub(super) ends: u32,
    pub(super) answered: bool,
    /// When it was cancelled.
    pub(crate) cancelled: Option<Instant>,
    /// The REFER that asked for it.
    pub(super) referral: Option<ReferralId>,
    /// When its program was told of its end.
    pub(super) over: Option<Instant>,
    pub(super) placed: Instant,
}

/// One side of a dialog.
pub(crate) struct Leg {
    pub(crate) node: usize,
    pub(crate) id: DialogId,
    pub(super) asked: bool,
    pub(super) ends: u32,
    /// It was called.
    pub(crate) called: bool,
    /// When this side hung up or heard of the end, whichever came first.
    pub(crate) over: Option<Instant>,
    /// The numbers of the ACKs that its program heard of.
    pub(crate) confirmed: Vec<u32>,
}

/// A request that a program sent, calls aside.
pub(crate) struct Asked {
    pub(super) node: usize,
    pub(super) tx: ClientTx,
    pub(super) ends: u32,
    /// It goes to where nobody is.
    pub(super) astray: bool,
}

/// An offer that came in a 2xx.
pub(crate) struct Offer {
    pub(super) node: usize,
    pub(super) dialog: DialogId,
    /// The INVITE's.
    pub(super) number: u32,
    /// When the program answered it.
    pub(super) answered: Option<Instant>,
}

impl Leg {
    pub(super) fn is_open(&self) -> bool {
        !self.asked && self.ends == 0
    }
}

pub(crate) struct World {
    pub(crate) net: Network,
    pub(crate) script: Script,
    pub(crate) calls: Vec<Call>,
    /// What went wrong, in words.
    pub(crate) wrongs: Vec<String>,
    pub(super) start: Instant,
    pub(super) deeds: BTreeMap<(Instant, u64), Deed>,
    pub(super) serial: u64,
    pub(crate) legs: Vec<Leg>,
    pub(super) invited: HashMap<(usize, String), u32>,
    /// The Call-ID of each INVITE that came.
    pub(super) invites: HashMap<(usize, ServerTx), String>,
    /// Who was told when that the caller of this Call-ID gave up.
    pub(crate) given_up: Vec<(usize, String, Instant)>,
    pub(super) referrals: Vec<(ClientTx, u32)>,
    pub(super) asked: Vec<Asked>,
    /// How often a program was told of a request other than INVITE.
    pub(super) heard: HashMap<(usize, String), u32>,
    pub(super) offers: Vec<Offer>,
    pub(super) guard: Guard,
    pub(super) registering: Option<(Registering, Option<ClientTx>)>,
    /// How much of the tape was looked through for a 2xx that may be insisted on.
    listened: usize,
    pub(super) random: fastrand::Rng,
}

fn config(script: &Script, node: usize) -> EngineConfig {
    let mode = if node == CALLER { SessionTimerMode::Request } else { SessionTimerMode::Accept };
    let session = match script.kind {
        Kind::Session | Kind::Broken => {
            SessionTimers { mode, interval: Duration::from_secs(90), ..SessionTimers::default() }
        }
        _ => SessionTimers::default(),
    };
    EngineConfig {
        session,
        glare_retries: 3,
        guard: (script.kind == Kind::Guarded && node == CALLEE).then(guard),
        transfer: TransferConfig { refer: true, replaces: true, ..TransferConfig::default() },
        reliability: if script.reliable { Reliability::IfSupported } else { Reliability::Never },
        ..EngineConfig::default()
    }
}

/// A guard that soon has enough: of one source, of scanners and of calls that wait for the program.
fn guard() -> GuardConfig {
    let start = Load { waiting: 4, ..OverloadConfig::default().start };
    let end = Load { waiting: 2, ..OverloadConfig::default().end };
    GuardConfig {
        new_requests: Rate { per_second: 1, burst: 5 },
        offences: Rate { per_second: 1, burst: 3 },
        ban: Duration::from_secs(10),
        overload: Some(OverloadConfig { start, end, ..OverloadConfig::default() }),
        ..GuardConfig::default()
    }
}

/// Who can be dialled. A WebSocket client cannot.
pub(super) fn reachable(script: &Script) -> Vec<usize> {
    if script.transport == Transport::Ws { vec![CALLEE] } else { vec![CALLER, CALLEE] }
}

impl World {
    pub(crate) fn new(seed: u64, script: Script) -> Self {
        let both = [CALLER, CALLEE].map(|node| config(&script, node));
        let mut net = Network::among(seed, script.weather, script.transport, both.into());
        for (name, at) in [("a", "10.0.0.3:5060"), ("b", "10.0.0.4:5060")] {
            net.add_node(&[(Transport::Udp, at), (Transport::Tcp, at)], proxy(name));
        }
        net.add_node(&[(Transport::Udp, "10.0.0.5:5060")], config(&script, THIRD));
        if script.kind == Kind::Hops {
            net.add_node(&[(Transport::Udp, "10.0.0.6:5060")], EngineConfig::default());
        }
        net.alias(POOL, A);
        net.tape = Some(Vec::new());
        if script.kind == Kind::Stream {
            net.streams = Some(Streams::new(reachable(&script)));
        }
        match script.kind {
            Kind::Fork => net.branches = vec![CALLEE, THIRD],
            Kind::Merge => net.branches = vec![CALLEE, CALLEE],
            Kind::Strict => {
                let (count, relayed) = script.strict;
                let behind = if relayed { POOL } else { "10.0.0.2:5060" };
                net.behind_strict = Some((String::from(behind), count));
            }
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
            heard: HashMap::new(),
            offers: Vec::new(),
            guard,
            registering: None,
            listened: 0,
            random: fastrand::Rng::with_seed(seed ^ 0x5eed),
        }
    }

    /// From the first message to the last timer.
    pub(crate) fn play(&mut self) {
        self.begin();
        loop {
            self.net.flush();
            self.attend();
            self.listen();
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

    /// Peers insist on each 2xx to INVITE that goes straight to its caller.
    fn listen(&mut self) {
        let tape = self.net.tape.as_deref().unwrap_or_default();
        let insisted = |(_, one): &(usize, &Passage)| {
            let seen = Seen::of(one);
            let direct = seen.responds_to(one.peer) && !is_proxy(one.node);
            !one.came && seen.is_success() && seen.method == "INVITE" && direct
        };
        let new = tape.iter().enumerate().skip(self.listened).filter(insisted);
        let places: Vec<usize> = new.map(|(place, _)| place).collect();
        self.listened = tape.len();
        for place in places {
            let tape = self.net.tape.as_deref().unwrap_or_default();
            let repeat = tape[..place].iter().any(|one| one.text == tape[place].text && !one.came);
            if !repeat {
                self.plan(T1, Deed::Insist(place, T1 * 2));
            }
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let planned = self.deeds.keys().map(|(at, _)| *at).next();
        let registering = self.registering.as_ref().and_then(|(one, _)| one.poll_timeout(self.net.now));
        [planned, self.net.next(), registering].into_iter().flatten().min()
    }

    pub(super) fn begin(&mut self) {
        if self.script.kind == Kind::Register {
            let uri = |text: &str| text.parse::<Uri>().unwrap();
            let mut asked = Registration::new(uri("sip:voice.example"), uri("sip:alice@voice.example"));
            asked.expires = Duration::from_secs(60);
            self.registering = Some((Registering::new(asked.credentials(alice()), 7), None));
            self.plan(Duration::from_secs(150), Deed::Unregister);
        }
        if let Some((from, to)) = self.script.closed {
            self.plan(from, Deed::Close);
            self.plan(to, Deed::Open);
            if from.is_zero() {
                self.perform(Deed::Close);
            }
        }
        let mut call = self.net.invite();
        let address = match self.script.kind {
            Kind::Fork | Kind::Merge => FORK,
            Kind::Relay | Kind::Hops => POOL,
            Kind::Strict => STRICT[0],
            _ => "10.0.0.2:5060",
        };
        call.hops = vec![(self.net.transport, address.parse().unwrap()).into()];
        if self.script.kind == Kind::Delayed {
            call.body = None;
            call.options.delayed_offer = true;
        }
        self.call(CALLER, call, None);
        if let Some(after) = self.script.cancels {
            self.plan(after, Deed::Cancel(0));
        }
        for (after, cut) in self.script.cuts.clone() {
            self.plan(after, Deed::Cut(cut));
        }
        if self.script.kind == Kind::Guarded {
            self.crowd();
        }
        if self.script.kind == Kind::Message {
            for _ in 0..5 {
                let after = Duration::from_millis(self.random.u64(0..12_000));
                let (from, to) =
                    [(CALLER, Some(CALLEE)), (CALLEE, Some(CALLER)), (CALLER, None)][self.random.usize(0..3)];
                self.plan(after, Deed::Ask(from, to));
            }
        }
    }

    /// More calls than a guard lets in, a stranger who offends it, and calls long after that.
    fn crowd(&mut self) {
        for _ in 0..8 {
            let after = Duration::from_millis(self.random.u64(0..4_000));
            let from = if self.random.bool() { CALLER } else { THIRD };
            self.plan(after, Deed::Call(from));
        }
        for _ in 0..8 {
            let after = Duration::from_millis(self.random.u64(0..4_000));
            self.plan(after, Deed::Offend);
        }
        for from in [CALLER, THIRD] {
            let after = LATE + Duration::from_millis(self.random.u64(0..9_000));
            self.plan(after, Deed::Call(from));
        }
    }

    pub(super) fn call(&mut self, node: usize, call: OutgoingInvite, referral: Option<ReferralId>) {
        let call_id = format!("call{}", self.calls.len());
        let call = OutgoingInvite { call_id: Some(call_id.clone()), ..call };
        let (engine, now) = self.net.engine(node);
        let tx = match self.script.kind {
            Kind::Challenge => engine.invite_with(now, call, alice()).unwrap(),
            _ => engine.invite(now, call).unwrap(),
        };
        let (ends, answered, cancelled) = (0, false, None);
        self.calls.push(Call {
            node,
            tx,
            call_id,
            ends,
            answered,
            cancelled,
            referral,
            over: None,
            placed: now,
        });
    }

    pub(super) fn plan(&mut self, after: Duration, deed: Deed) {
        self.serial += 1;
        self.deeds.insert((self.net.now + after, self.serial), deed);
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.wrongs.push(what);
    }

    /// Every program takes what its engine tells.
    pub(super) fn attend(&mut self) {
        for node in 0..self.net.nodes.len() {
            for event in std::mem::take(&mut self.net.nodes[node].events) {
                self.react(node, event);
            }
        }
        self.register();
        self.net.flush();
    }

    pub(super) fn register(&mut self) {
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

    /// Whether a 2xx has an offer that the program has not answered by then.
    pub(super) fn is_to_agree(&self, response: &Seen) -> bool {
        self.offers.iter().any(|offer| {
            let same = offer.node == response.node && offer.dialog.call_id() == response.call_id;
            let waits = offer.answered.is_none_or(|at| at > response.at);
            same && offer.number == response.number && waits
        })
    }

    /// Who sent what, and what arrived.
    #[allow(clippy::print_stdout)] // For whoever asked for it by `SEED`.
    pub(crate) fn print(&self) {
        println!("{:?}", self.script);
        for one in self.net.tape.iter().flatten() {
            let first = one.text.lines().next().unwrap_or_default();
            let line =
                |name: &str| one.text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let (call, cseq) = (line("Call-ID: "), line("CSeq: "));
            let (at, way) = ((one.at - self.start).as_millis(), if one.came { "<-" } else { "->" });
            let failed = if one.failed { " (failed)" } else { "" };
            println!("{at:>8} {} {way} {} {first} | {call} {cseq}{failed}", one.node, one.peer);
        }
    }

    /// What has to be true at the end, by what the programs were told.
    pub(super) fn judge(&mut self) {
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
        for asked in self.asked.iter().filter(|asked| asked.ends != 1) {
            wrongs.push(format!("node {}: a request has {} ends", asked.node, asked.ends));
        }
        if self.referrals.iter().any(|(_, ends)| *ends != 1) {
            wrongs.push("a REFER has not one end".into());
        }
        if self.registering.as_ref().is_some_and(|(machine, _)| !machine.is_over()) {
            wrongs.push("the registration is not over".into());
        }
        let certain = match self.script.kind {
            Kind::Refuse | Kind::Cancel | Kind::Silence | Kind::Fork | Kind::Merge | Kind::Relay => false,
            Kind::Hops => self.script.leads_there(),
            // Those that nothing keeps away any more.
            Kind::Guarded => {
                let late = |call: &&Call| call.placed - self.start >= LATE;
                let refused =
                    self.script.is_calm() && self.calls.iter().filter(late).any(|call| !call.answered);
                if refused {
                    wrongs.push("a call fails long after the crowd is gone".into());
                }
                false
            }
            _ => true,
        };
        let wanted = self.script.is_calm() && self.script.cancels.is_none() && certain;
        if wanted && self.calls.iter().any(|call| !call.answered) {
            wrongs.push("a call fails though nothing was lost".into());
        }
        self.wrongs.append(&mut wrongs);
    }
}
