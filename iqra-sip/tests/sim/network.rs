//! A network on a virtual clock: engines at addresses, packets that are late, lost, doubled or out of order by a seed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iqra_sip::event::{Body, CallOptions, Event, OutgoingInvite};
use iqra_sip::message::NameAddr;
use iqra_sip::observe::capsule::{Capsule, CapsuleConfig};
use iqra_sip::{ConnectionId, Engine, EngineConfig, Flow, Headers, Listener, Transmit, Transport, Uri};

use crate::ladders::Ladder;
use crate::streams::{Cut, Streams};
use crate::strict::{self, STRICT};

pub(crate) const CALLER: usize = 0;
pub(crate) const CALLEE: usize = 1;
/// Where a forking proxy without state stands, if there is one.
pub(crate) const FORK: &str = "10.0.0.50:5060";
/// No scenario takes longer, by the virtual clock.
const PATIENCE: Duration = Duration::from_secs(1_000);

/// How bad the network is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Share of packets lost, 0 to 1.
    pub(crate) loss: f64,
    /// Share of packets that arrive twice.
    pub(crate) duplicate: f64,
    /// Longest delay on top of the 10 ms that every packet takes; packets overtake each other.
    pub(crate) jitter: Duration,
}

/// One engine and what it said.
pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) addr: SocketAddr,
    pub(crate) events: Vec<Event>,
    /// What the engine began with.
    pub(crate) config: EngineConfig,
}

/// A message on its way out of a node, or into it.
pub(crate) struct Passage {
    pub(crate) at: Instant,
    pub(crate) node: usize,
    pub(crate) came: bool,
    /// The other end.
    pub(crate) peer: SocketAddr,
    pub(crate) text: String,
    /// No connection took it.
    pub(crate) failed: bool,
    /// How often the receiver counted it as dropped.
    pub(crate) dropped: u64,
}

type Filter = Box<dyn FnMut(usize, &str) -> bool>;

pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) transport: Transport,
    /// Everything that was sent: by whom, and the text.
    pub(crate) sent: Vec<(usize, String)>,
    weather: Weather,
    random: fastrand::Rng,
    flying: BTreeMap<(Instant, u64), (usize, Flow, Bytes)>,
    serial: u64,
    filter: Option<Filter>,
    /// Further addresses of nodes; a later entry of an address replaces the earlier.
    aliases: HashMap<SocketAddr, usize>,
    /// Peers whose connections are gone.
    cut: HashSet<SocketAddr>,
    /// Connections, where streams are more than a way without loss.
    pub(crate) streams: Option<Streams>,
    /// Everything that left and reached a node, where somebody wants to know.
    pub(crate) tape: Option<Vec<Passage>>,
    ladder: Ladder,
    /// The nodes behind [`FORK`]; one that is named twice gets each request by two ways.
    pub(crate) branches: Vec<usize>,
    /// Where the last of the strict routers sends a call, and how many there are.
    pub(crate) behind_strict: Option<(String, usize)>,
}

impl Network {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        Self::of(seed, weather, Transport::Udp, EngineConfig::default())
    }

    pub(crate) fn calm() -> Self {
        Self::new(1, Weather::default())
    }

    pub(crate) fn of(seed: u64, weather: Weather, transport: Transport, config: EngineConfig) -> Self {
        Self::among(seed, weather, transport, vec![config.clone(), config])
    }

    /// Engines that are set up differently, two or more.
    pub(crate) fn among(
        seed: u64,
        weather: Weather,
        transport: Transport,
        configs: Vec<EngineConfig>,
    ) -> Self {
        let node = |(index, config): (usize, EngineConfig)| {
            let index = index as u64;
            let addr: SocketAddr = format!("10.0.0.{}:5060", index + 1).parse().unwrap();
            let mut engine = Engine::new(config.clone(), seed * 2 + index);
            engine.add_listener(Listener::new(transport, addr, None));
            engine.keep_capsules(CapsuleConfig::default());
            Node { engine, addr, events: Vec::new(), config }
        };
        Self {
            now: Instant::now(),
            nodes: configs.into_iter().enumerate().map(node).collect(),
            transport,
            sent: Vec::new(),
            weather,
            random: fastrand::Rng::with_seed(seed),
            flying: BTreeMap::new(),
            serial: 0,
            filter: None,
            aliases: HashMap::new(),
            cut: HashSet::new(),
            streams: None,
            tape: None,
            ladder: Ladder::default(),
            branches: Vec::new(),
            behind_strict: None,
        }
    }

    /// Adds a node with these sockets; the first one is its address.
    pub(crate) fn add_node(&mut self, sockets: &[(Transport, &str)], config: EngineConfig) -> usize {
        let index = self.nodes.len();
        // None that a network of another seed has too: its branches would be the same.
        let mut engine = Engine::new(config.clone(), u64::MAX - index as u64);
        engine.keep_capsules(CapsuleConfig::default());
        for (transport, addr) in sockets {
            let addr = addr.parse().unwrap();
            engine.add_listener(Listener::new(*transport, addr, None));
            self.aliases.insert(addr, index);
        }
        self.nodes.push(Node { engine, addr: sockets[0].1.parse().unwrap(), events: Vec::new(), config });
        index
    }

    /// What is sent to `addr` goes to `node` from now on.
    pub(crate) fn alias(&mut self, addr: &str, node: usize) {
        self.aliases.insert(addr.parse().unwrap(), node);
    }

    /// Closes every connection to a peer.
    pub(crate) fn cut(&mut self, remote: SocketAddr) {
        self.cut.insert(remote);
    }

    /// Ends every connection there is.
    pub(crate) fn cut_streams(&mut self, cut: Cut) {
        let lost = self.streams.as_mut().map(|streams| streams.cut(cut)).unwrap_or_default();
        self.flying.retain(|_, (_, flow, _)| flow.connection.is_none_or(|id| !lost.contains(&id)));
    }

    /// A datagram of somebody who is no node reaches one.
    pub(crate) fn inject(&mut self, from: SocketAddr, to: usize, text: String) {
        let flow =
            Flow { transport: Transport::Udp, local: from, remote: self.nodes[to].addr, connection: None };
        self.deliver(to, flow, &text.into());
    }

    /// Loses the packets that `lose` picks: sender and text.
    pub(crate) fn lose(&mut self, lose: impl FnMut(usize, &str) -> bool + 'static) {
        self.filter = Some(Box::new(lose));
    }

    /// Loses the first packet from `node` that is of this method, or a response of this status to an INVITE.
    pub(crate) fn lose_first(&mut self, node: usize, what: &'static str) {
        let mut done = false;
        self.lose(move |from, text| {
            let hit = !done && from == node && is(text, what);
            done |= hit;
            hit
        });
    }

    /// Changes the weather.
    pub(crate) fn worsen(&mut self, weather: Weather) {
        self.weather = weather;
    }

    pub(crate) fn engine(&mut self, node: usize) -> (&mut Engine, Instant) {
        (&mut self.nodes[node].engine, self.now)
    }

    /// The INVITE that the caller sends to the callee.
    pub(crate) fn invite(&self) -> OutgoingInvite {
        self.invite_to(CALLEE)
    }

    /// An INVITE to any node.
    pub(crate) fn invite_to(&self, node: usize) -> OutgoingInvite {
        let to: Uri = format!("sip:callee@{}", self.nodes[node].addr).parse().unwrap();
        OutgoingInvite {
            uri: to.clone(),
            hops: vec![(self.transport, self.nodes[node].addr).into()],
            from: NameAddr::new("sip:caller@example.org".parse().unwrap()),
            to: NameAddr::new(to),
            call_id: None,
            cseq: 1,
            headers: Headers::new(),
            body: Some(Body::sdp("v=0\r\n")),
            options: CallOptions::default(),
        }
    }

    /// How many messages of this kind a node sent.
    pub(crate) fn count(&self, node: usize, what: &str) -> usize {
        self.sent.iter().filter(|(from, text)| *from == node && is(text, what)).count()
    }

    /// What was sent from message `start` on, a line each: the node, and the method or the status and its method.
    pub(crate) fn ladder(&self, start: usize) -> String {
        let line = |(node, text): &(usize, String)| {
            let first = text.lines().next().unwrap();
            let method = text.lines().find_map(|line| line.strip_prefix("CSeq: ")?.split(' ').nth(1));
            match first.strip_prefix("SIP/2.0 ") {
                Some(status) => format!("{node} {} {}", &status[..3], method.unwrap()),
                None => format!("{node} {}", method.unwrap()),
            }
        };
        self.sent[start..].iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The newest message of this kind from a node.
    pub(crate) fn newest(&self, node: usize, what: &str) -> &str {
        let mut found = self.sent.iter().rev().filter(|(from, text)| *from == node && is(text, what));
        &found.next().unwrap_or_else(|| panic!("node {node} sent no {what}")).1
    }

    /// Runs until a node says something.
    pub(crate) fn event(&mut self, node: usize) -> Event {
        let limit = self.now + PATIENCE;
        loop {
            self.flush();
            if !self.nodes[node].events.is_empty() {
                return self.nodes[node].events.remove(0);
            }
            assert!(self.step() && self.now < limit, "node {node} stays silent; sent: {:#?}", self.sent);
        }
    }

    /// Runs for a while.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.flush();
        while self.next().is_some_and(|next| next <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Runs until nothing is left to happen, and asserts that nothing is left behind.
    pub(crate) fn settle(&mut self) {
        let limit = self.now + PATIENCE;
        self.flush();
        while self.step() {
            assert!(self.now < limit, "the network never settles");
        }
        for node in &self.nodes {
            assert_eq!(node.engine.counts(), Default::default(), "{} leaks", node.addr);
        }
        self.replay();
    }

    /// Cuts every call out of every node, and asserts that each does the same again, its numbers masked too.
    pub(crate) fn replay(&mut self) {
        for node in &mut self.nodes {
            for call in node.engine.capsules() {
                let capsule = node.engine.capsule(&call).unwrap();
                let text = capsule.to_string();
                let read = Capsule::parse(&text).unwrap();
                assert_eq!(read, capsule);
                for capsule in [read.clone(), read.mask_numbers()] {
                    let same = capsule.replay(&node.config);
                    same.unwrap_or_else(|differs| panic!("{} {call}: {differs}\n{capsule}", node.addr));
                }
            }
        }
    }

    /// When the next thing happens.
    pub(crate) fn next(&self) -> Option<Instant> {
        let timers = self.nodes.iter().filter_map(|node| node.engine.poll_timeout());
        timers.chain(self.flying.keys().map(|(at, _)| *at).take(1)).min()
    }

    /// Goes to the next thing that happens; false when there is none.
    pub(crate) fn step(&mut self) -> bool {
        let Some(next) = self.next() else { return false };
        self.now = self.now.max(next);
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (node, flow, bytes) = entry.remove();
            self.note(node, true, flow.remote, &bytes);
            let before = self.nodes[node].engine.dropped().total();
            self.nodes[node].engine.handle_message(self.now, &flow, bytes);
            let dropped = self.nodes[node].engine.dropped().total() - before;
            self.tape.iter_mut().filter_map(|tape| tape.last_mut()).for_each(|last| last.dropped = dropped);
            self.flush();
        }
        for node in &mut self.nodes {
            node.engine.handle_timeout(self.now);
        }
        self.flush();
        true
    }

    pub(crate) fn flush(&mut self) {
        for index in 0..self.nodes.len() {
            while let Some(transmit) = self.nodes[index].engine.poll_transmit() {
                let Transmit { flow, bytes, .. } = &transmit;
                let second = || transmit.by_fallback();
                if !self.send(index, flow, bytes)
                    && !second().is_some_and(|second| self.send(index, &second.flow, &second.bytes))
                {
                    self.nodes[index].engine.handle_transport_error(self.now, &transmit);
                }
            }
            while let Some(event) = self.nodes[index].engine.poll_event() {
                self.nodes[index].events.push(event);
            }
        }
    }

    /// Puts a message on its way; false where its connection is gone.
    fn send(&mut self, from: usize, flow: &Flow, bytes: &Bytes) -> bool {
        if self.streams.is_some() && flow.transport.is_reliable() {
            return self.stream(from, flow, bytes);
        }
        if flow.connection.is_some() && self.cut.contains(&flow.remote) {
            return false;
        }
        self.fly(from, *flow, bytes.clone());
        true
    }

    fn stream(&mut self, from: usize, flow: &Flow, bytes: &Bytes) -> bool {
        let delay = Duration::from_millis(10) + self.weather.jitter.mul_f64(self.random.f64());
        let nodes: Vec<_> = self.nodes.iter().map(|node| node.addr).collect();
        let (now, soonest) = (self.now, self.now + delay);
        let carried =
            self.streams.as_mut().and_then(|streams| streams.carry((from, now, soonest), flow, &nodes));
        self.note(from, false, flow.remote, bytes);
        let Some(carried) = carried else {
            self.tape.iter_mut().filter_map(|tape| tape.last_mut()).for_each(|last| last.failed = true);
            return false;
        };
        self.sent.push((from, String::from_utf8_lossy(bytes).into_owned()));
        if let Some(at) = carried.at {
            self.serial += 1;
            self.flying.insert((at, self.serial), (carried.to, carried.flow, bytes.clone()));
        }
        true
    }

    fn note(&mut self, node: usize, came: bool, peer: SocketAddr, bytes: &Bytes) {
        if let Some(tape) = &mut self.tape {
            let text = String::from_utf8_lossy(bytes).into_owned();
            tape.push(Passage { at: self.now, node, came, peer, text, failed: false, dropped: 0 });
        }
    }

    fn fly(&mut self, from: usize, flow: Flow, bytes: Bytes) {
        self.note(from, false, flow.remote, &bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lost = self.filter.as_mut().is_some_and(|filter| filter(from, &text));
        if !lost && !self.branches.is_empty() && flow.remote == FORK.parse().unwrap() {
            self.fork(flow, &text);
        }
        if !lost && self.behind_strict.is_some() {
            self.route_strictly(flow, &text);
        }
        let at = self.nodes.iter().position(|node| node.addr == flow.remote);
        let to = self.aliases.get(&flow.remote).copied().or(at);
        let arrives = to.filter(|_| !lost && self.random.f64() >= self.weather.loss);
        if self.tape.is_none() {
            let ends = [self.nodes[from].addr, to.map_or(flow.remote, |to| self.nodes[to].addr)];
            let forked = !self.branches.is_empty() && to.is_none() && !lost;
            self.ladder.note(self.now, ends, flow.transport, &text, arrives.is_none() && !forked);
        }
        self.sent.push((from, text));
        if let Some(to) = arrives {
            self.deliver(to, flow, &bytes);
        }
    }

    /// A forking proxy that keeps nothing: each request to every branch, each response back by its Via.
    fn fork(&mut self, flow: Flow, text: &str) {
        if self.random.f64() < self.weather.loss {
            return;
        }
        let branch =
            |via: &str| via.split("branch=z9hG4bK").nth(1).unwrap().split(';').next().unwrap().to_owned();
        let mut vias = text.lines().filter(|line| line.starts_with("Via: "));
        let top = vias.next().unwrap();
        if text.starts_with("SIP/2.0 ") {
            let address = vias.next().unwrap().split(' ').nth(2).unwrap().split(';').next().unwrap();
            let back = text.replacen(&format!("{top}\r\n"), "", 1);
            let onward = Flow { local: flow.remote, remote: address.parse().unwrap(), ..flow };
            let to = self.nodes.iter().position(|node| node.addr == onward.remote).unwrap();
            return self.deliver(to, onward, &back.into());
        }
        for (index, to) in self.branches.clone().into_iter().enumerate() {
            let via = format!("Via: SIP/2.0/UDP {FORK};branch=z9hG4bK{index}x{}\r\n{top}", branch(top));
            let onward = Flow { local: flow.remote, remote: self.nodes[to].addr, ..flow };
            self.deliver(to, onward, &text.replacen(top, &via, 1).into());
        }
    }

    /// Through strict routers, as long as there is another.
    fn route_strictly(&mut self, flow: Flow, text: &str) {
        let (mut flow, mut text) = (flow, text.to_owned());
        while let Some(place) = STRICT.iter().position(|addr| flow.remote == addr.parse().unwrap()) {
            let (last, count) = self.behind_strict.as_ref().unwrap();
            let onward = if place + 1 < *count { STRICT[place + 1] } else { last };
            let Some((next, passed)) = strict::pass(STRICT[place], onward, &text) else { return };
            (flow, text) = (Flow { local: flow.remote, remote: next, ..flow }, passed);
            let at = self.nodes.iter().position(|node| node.addr == next);
            if let Some(to) = self.aliases.get(&next).copied().or(at) {
                self.deliver(to, flow, &text.clone().into());
            }
        }
    }

    fn deliver(&mut self, to: usize, flow: Flow, bytes: &Bytes) {
        let copies = if self.random.f64() < self.weather.duplicate { 2 } else { 1 };
        let connection = (flow.transport == Transport::Tcp).then_some(ConnectionId(1));
        let arriving = Flow { transport: flow.transport, local: flow.remote, remote: flow.local, connection };
        for _ in 0..copies {
            let delay = Duration::from_millis(10) + self.weather.jitter.mul_f64(self.random.f64());
            self.serial += 1;
            self.flying.insert((self.now + delay, self.serial), (to, arriving, bytes.clone()));
        }
    }
}

/// Whether a message is a request of this method, or a response of this status to an INVITE (`200`) or to another
/// method (`200 BYE`).
pub(crate) fn is(text: &str, what: &str) -> bool {
    let Some(rest) = text.strip_prefix("SIP/2.0 ") else { return text.starts_with(&format!("{what} ")) };
    let (status, method) = what.split_once(' ').unwrap_or((what, "INVITE"));
    rest.starts_with(status) && text.lines().any(|line| line.starts_with("CSeq:") && line.ends_with(method))
}
