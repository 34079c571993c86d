//! What the programs of a play do when its time has come: answer, hang up, refresh, transfer.

use std::time::Duration;

use iqra_sip::event::{Body, Refer, Reply, ServerTx};
use iqra_sip::message::header::Replaces;
use iqra_sip::{HeaderName, Headers, Method, Request, StatusCode};

use super::checks::{END, Seen, T2};
use super::script::{Kind, Verdict};
use super::world::{A, Asked, B, Offer, THIRD, World, reachable};
use crate::network::{CALLEE, CALLER};
use crate::relay::POOL;
use crate::streams::Cut;

/// An address that nobody has.
pub(super) const NOWHERE: &str = "10.0.0.99:5060";

/// Whom nobody knows.
const STRANGER: &str = "10.0.0.66:5060";

/// What a program has planned.
pub(super) enum Deed {
    Ring(usize, ServerTx),
    Answer(usize, ServerTx),
    GoAway(usize, ServerTx),
    Cancel(usize),
    HangUp(usize),
    /// It is too late for anybody to be in this call.
    Bedtime(usize),
    /// Nothing gets through any more.
    Break,
    /// A peer that goes on repeating a 2xx to INVITE where its dialog is over, until the ACK comes: the place on the tape,
    /// and after how long it does so again.
    Insist(usize, Duration),
    /// Another call to the callee.
    Call(usize),
    /// A stranger sends the callee what a guard minds.
    Offend,
    /// Every connection ends.
    Cut(Cut),
    /// Nobody can be dialled from now on.
    Close,
    /// They can again.
    Open,
    Within(usize, Method),
    /// A re-INVITE without an offer.
    Offerless(usize),
    /// The answer to an offer in a 2xx.
    Agree(usize),
    /// OPTIONS or MESSAGE outside a dialog; to nobody where nobody is named.
    Ask(usize, Option<usize>),
    /// A late answer to one.
    Reply(usize, ServerTx, Reply),
    Refer,
    Replace,
    /// The pool's other proxy takes over, once this one has nothing under way.
    MovePool,
    Unregister,
}

impl World {
    pub(super) fn perform(&mut self, deed: Deed) {
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
                if self.legs[index].is_open() && !self.script.loses_what_is_sent_once() {
                    self.wrong(format!("node {}: a call that was hung up goes on", self.legs[index].node));
                }
                self.hang_up(index);
            }
            Deed::Break => self.net.lose(|_, _| true),
            Deed::Insist(place, gap) => self.insist(place, gap),
            Deed::Call(from) => {
                let call = self.net.invite();
                self.call(from, call, None);
            }
            Deed::Offend => self.offend(),
            Deed::Cut(cut) => self.net.cut_streams(cut),
            Deed::Close => self.dials_reach(Vec::new()),
            Deed::Open => self.dials_reach(reachable(&self.script)),
            Deed::Within(node, method) => {
                let offer = matches!(method, Method::Invite | Method::Update);
                self.ask_within(node, method, offer.then(|| Body::sdp("v=0\r\n")));
            }
            Deed::Offerless(node) => self.ask_within(node, Method::Invite, None),
            Deed::Agree(index) => self.agree(index),
            Deed::Ask(from, to) => self.ask(from, to),
            Deed::Reply(node, tx, reply) => {
                self.net.nodes[node].engine.respond(now, tx, reply).unwrap();
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

    fn offend(&mut self) {
        self.serial += 1;
        let serial = self.serial;
        // The source of a datagram may be forged.
        let from =
            if self.random.u8(0..4) == 0 { self.net.nodes[CALLER].addr } else { STRANGER.parse().unwrap() };
        let head = |method: &str, to: &str| {
            format!(
                "{method} sip:callee@10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKo{serial}\r\n\
                 From: <sip:x@{STRANGER}>;tag=x\r\nTo: <sip:callee@10.0.0.2>{to}\r\nCall-ID: o{serial}\r\n\
                 CSeq: 1 {method}\r\nMax-Forwards: 70\r\n"
            )
        };
        let message = match self.random.usize(0..5) {
            0 => String::from("nothing that anybody understands\r\n\r\n"),
            1 => format!("{}User-Agent: friendly-scanner\r\n\r\n", head("OPTIONS", "")),
            2 => format!("{}\r\n", head("BYE", ";tag=gone")),
            3 => format!("{}\r\n", head("CANCEL", "")),
            _ => format!("{}\r\n", head("OPTIONS", "")),
        };
        self.net.inject(from, CALLEE, message);
    }

    /// Repeats a 2xx that the engine has left off: at its pace, and for as long as it would (RFC 3261 §13.3.1.4).
    fn insist(&mut self, place: usize, gap: Duration) {
        let tape = self.net.tape.as_deref().unwrap_or_default();
        let (first, text) = (Seen::of(&tape[place]), tape[place].text.clone());
        let (peer, own) = (tape[place].peer, self.net.nodes[first.node].addr);
        let to = self.net.nodes.iter().position(|node| node.addr == peer);
        let since = tape[place..].iter().map(Seen::of).filter(|one| one.is_beside(&first));
        let (mut over, mut acknowledged) = (false, false);
        since.for_each(|one| {
            over |= one.is_request("BYE");
            let same = (one.number, &one.to_tag) == (first.number, &first.to_tag);
            acknowledged |= one.came && one.is_request("ACK") && same;
        });
        let Some(to) = to.filter(|_| !acknowledged && self.net.now - first.at < END) else { return };
        if over {
            self.net.inject(own, to, text);
        }
        self.plan(gap, Deed::Insist(place, (gap * 2).min(T2)));
    }

    fn dials_reach(&mut self, nodes: Vec<usize>) {
        self.net.streams.iter_mut().for_each(|streams| streams.reachable = nodes.clone());
    }

    fn ask_within(&mut self, node: usize, method: Method, body: Option<Body>) {
        let Some(id) = self.open_leg(node) else { return };
        let (engine, now) = self.net.engine(node);
        // Another may be under way.
        if let Ok(tx) = engine.dialog_request(now, &id, method, &Headers::new(), body) {
            self.asked.push(Asked { node, tx, ends: 0, astray: false });
        }
    }

    fn ask(&mut self, node: usize, to: Option<usize>) {
        let addr = to.map_or(NOWHERE.parse().unwrap(), |to| self.net.nodes[to].addr);
        let method = if self.random.bool() { Method::Options } else { Method::Message };
        let mut request = Request::new(method, format!("sip:someone@{addr}").parse().unwrap());
        request.headers.push(HeaderName::FROM, "<sip:someone@example.org>");
        let hop = (self.net.transport, addr).into();
        let (engine, now) = self.net.engine(node);
        let tx = engine.request(now, request, [hop]).unwrap();
        self.asked.push(Asked { node, tx, ends: 0, astray: to.is_none() });
    }

    /// Answers an offer, unless the call is over or was given up for want of this.
    fn agree(&mut self, index: usize) {
        let Offer { node, dialog, .. } = &self.offers[index];
        let (engine, now) = (&mut self.net.nodes[*node].engine, self.net.now);
        let answer = Some(Body::sdp("v=0\r\n"));
        if engine.acknowledge(now, dialog, &Headers::new(), answer).is_ok() {
            self.offers[index].answered = Some(now);
        }
    }

    pub(super) fn answer(&mut self, node: usize, tx: ServerTx) {
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

    pub(super) fn hang_up(&mut self, index: usize) {
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

    /// What follows the answer of the first call.
    pub(super) fn answered(&mut self, node: usize) {
        if node != CALLER || self.calls.len() > 1 {
            return;
        }
        let second = Duration::from_secs(1);
        match self.script.kind {
            Kind::Update | Kind::Challenge | Kind::Relay | Kind::Strict => {
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
            Kind::Delayed => {
                for _ in 0..3 {
                    let after = Duration::from_millis(self.random.u64(0..30_000));
                    let side = if self.random.bool() { CALLER } else { CALLEE };
                    self.plan(after, Deed::Offerless(side));
                }
            }
            Kind::Stream => {
                for _ in 0..5 {
                    let after = Duration::from_millis(self.random.u64(0..9_000));
                    let method =
                        [Method::Info, Method::Update, Method::Invite][self.random.usize(0..3)].clone();
                    let side = if self.random.bool() { CALLER } else { CALLEE };
                    self.plan(after, Deed::Within(side, method));
                }
            }
            Kind::Message => {
                for _ in 0..6 {
                    let after = Duration::from_millis(self.random.u64(0..8_000));
                    let method = if self.random.bool() { Method::Options } else { Method::Message };
                    let side = if self.random.bool() { CALLER } else { CALLEE };
                    self.plan(after, Deed::Within(side, method));
                }
            }
            Kind::Broken => self.plan(second * 20, Deed::Break),
            Kind::Session => self.plan(second * 45, Deed::Within(CALLEE, Method::Invite)),
            Kind::Transfer => self.plan(second, Deed::Refer),
            Kind::Replace => self.plan(second, Deed::Replace),
            _ => {}
        }
    }
}
