//! How the programs of a play take what their engines tell, and what they may count on from them.

use std::net::SocketAddr;
use std::time::Duration;

use iqra_sip::event::{
    Body, ClientTx, EndReason, Event, Failure, OutgoingInvite, ReferralEvent, Reply, ServerTx,
};
use iqra_sip::message::header::CSeq;
use iqra_sip::roles::relay::{Plan, RelayEvent, Target};
use iqra_sip::{DialogId, HeaderName, Headers, Method, Request, Response, StatusCode, Transport};

use super::deeds::{Deed, NOWHERE};
use super::script::{Kind, Place, Verdict};
use super::world::{A, Asked, B, BEDTIME, BUSY, Leg, Offer, THIRD, World};
use crate::network::{CALLEE, CALLER};

impl World {
    pub(super) fn react(&mut self, node: usize, event: Event) {
        let (engine, now) = (&mut self.net.nodes[node].engine, self.net.now);
        match event {
            Event::Invite { tx, .. } if node == A || node == B => {
                let addrs = [CALLEE, THIRD].map(|node| self.net.nodes[node].addr);
                let targets = addrs.iter().zip(&self.script.hops).map(|(addr, hops)| target(*addr, hops));
                let plan = Plan::new(targets);
                self.net.nodes[node].engine.relay(now, tx, plan).unwrap();
            }
            Event::Invite { tx, .. } if node == BUSY => {
                let again = if self.random.bool() { "20" } else { "0" };
                let reply = Reply::new(StatusCode::SERVICE_UNAVAILABLE);
                engine.respond(now, tx, reply.header(HeaderName::RETRY_AFTER, again)).unwrap();
            }
            Event::Invite { tx, request, .. } => self.invited(node, tx, &request),
            Event::Relay { tx, event: RelayEvent::NextTarget { target: Some(target), .. } } => {
                drop(engine.relay_to(now, tx, &target));
            }
            Event::Relay { tx, event: RelayEvent::NextTarget { target: None, .. } } => {
                drop(engine.relay_best(now, tx));
            }
            Event::Request { tx, request, .. } => self.asked_outside(node, tx, &request),
            Event::DialogRequest { tx, request, .. } => self.asked_within(node, tx, &request),
            Event::Response { early: Some(dialog), offer: true, .. } => {
                if let Ok(tx) = engine.prack(now, &dialog, &Headers::new(), Some(Body::sdp("v=0\r\n"))) {
                    self.asked.push(Asked { node, tx, ends: 0, astray: false });
                }
            }
            Event::Response { tx, response, .. } => {
                self.offered_within(node, &response);
                let invite = response.headers.get(HeaderName::CSEQ).unwrap_or_default().ends_with(" INVITE");
                if response.status.is_final() {
                    self.registered(tx, Ok(&response));
                    self.ended(node, tx, response.status, invite);
                }
            }
            Event::Failed { tx, failure } => {
                let nowhere = self.asked.iter().any(|one| (one.node, one.tx) == (node, tx) && one.astray);
                let silent =
                    nowhere || matches!(self.script.kind, Kind::Silence | Kind::Broken | Kind::Guarded);
                if self.script.is_calm() && !silent {
                    self.wrong(format!("node {node}: {failure:?} though nothing was lost"));
                }
                self.registered(tx, Err(failure));
                self.ended(node, tx, StatusCode::REQUEST_TIMEOUT, true);
            }
            Event::Answered { tx, dialog, response } => {
                self.ended(node, tx, StatusCode::OK, true);
                self.begin_leg(node, dialog.clone(), false);
                self.offered(node, dialog, &response);
                self.answered(node);
            }
            Event::Ended { dialog, reason } => self.end_leg(node, &dialog, &reason),
            Event::Confirmed { dialog, ack } => {
                match self.legs.iter_mut().find(|leg| leg.node == node && leg.id == dialog) {
                    Some(leg) => leg.confirmed.push(number(&ack.headers)),
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

    fn asked_outside(&mut self, node: usize, tx: ServerTx, request: &Request) {
        self.hears(node, request);
        let reply = self.admit(request).unwrap_or_else(|| match request.method {
            Method::Options => self.net.nodes[node].engine.capabilities(),
            Method::Message => {
                Reply::new(StatusCode::new([200, 202, 404, 486][self.random.usize(0..4)]).unwrap())
            }
            _ => grant(request),
        });
        let after = match self.script.kind {
            Kind::Message if self.random.bool() => Duration::from_millis(self.random.u64(0..6_000)),
            _ => Duration::ZERO,
        };
        match after.is_zero() {
            true => self.net.nodes[node].engine.respond(self.net.now, tx, reply).unwrap(),
            false => self.plan(after, Deed::Reply(node, tx, reply)),
        }
    }

    /// A program is told of a request once, however often it comes.
    fn hears(&mut self, node: usize, request: &Request) {
        let name = |name| request.headers.get(name).unwrap_or_default().into_owned();
        let key = (node, format!("{} {}", name(HeaderName::CALL_ID), name(HeaderName::CSEQ)));
        let times = self.heard.entry(key).or_default();
        *times += 1;
        if *times > 1 {
            self.wrong(format!("node {node} is told of a {} twice", request.method));
        }
    }

    /// A call without an offer of ours is answered: the program has one to answer, unless it came before.
    fn offered(&mut self, node: usize, dialog: DialogId, response: &Response) {
        if self.script.kind != Kind::Delayed {
            return;
        }
        self.offers.push(Offer { node, dialog, number: number(&response.headers), answered: None });
        if let Some(after) = self.script.agrees {
            self.plan(after, Deed::Agree(self.offers.len() - 1));
        }
    }

    /// The same for a re-INVITE.
    fn offered_within(&mut self, node: usize, response: &Response) {
        let invite = response.headers.get(HeaderName::CSEQ).unwrap_or_default().ends_with(" INVITE");
        if invite
            && response.status.is_success()
            && let Some(dialog) = self.open_leg(node)
        {
            self.offered(node, dialog, response);
        }
    }

    /// A challenge, where the script wants one and the request does not answer it.
    pub(super) fn admit(&mut self, request: &Request) -> Option<Reply> {
        let guarded = matches!(self.script.kind, Kind::Challenge) || request.method == Method::Register;
        let denied = guarded.then(|| self.guard.check(self.net.now, request).err()).flatten();
        denied.map(|denied| denied.reply)
    }

    pub(super) fn invited(&mut self, node: usize, tx: ServerTx, request: &Request) {
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

    pub(super) fn asked_within(&mut self, node: usize, tx: ServerTx, request: &Request) {
        let call = request.headers.get(HeaderName::CALL_ID).unwrap_or_default().into_owned();
        self.invites.insert((node, tx), call);
        self.hears(node, request);
        let reply = self.admit(request).unwrap_or_else(|| {
            if self.script.kind == Kind::Message && request.method != Method::Invite {
                let status = [200, 200, 405, 415, 488, 500][self.random.usize(0..6)];
                return Reply::new(StatusCode::new(status).unwrap());
            }
            let session = !request.body.is_empty() || request.method == Method::Invite;
            Reply { body: session.then(|| Body::sdp("v=0\r\n")), ..Reply::new(StatusCode::OK) }
        });
        // The request may have been given up meanwhile.
        drop(self.net.nodes[node].engine.respond(self.net.now, tx, reply));
    }

    pub(super) fn registered(&mut self, tx: ClientTx, result: Result<&Response, Failure>) {
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
    pub(super) fn ended(&mut self, node: usize, tx: ClientTx, status: StatusCode, invite: bool) {
        if let Some(asked) = self.asked.iter_mut().find(|one| (one.node, one.tx) == (node, tx)) {
            asked.ends += 1;
        }
        let Some(call) = self.calls.iter_mut().find(|call| call.node == node && call.tx == tx) else {
            return;
        };
        call.ends += 1;
        call.over.get_or_insert(self.net.now);
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

    pub(super) fn begin_leg(&mut self, node: usize, id: DialogId, called: bool) {
        let index = self.legs.len();
        self.legs.push(Leg { node, id, asked: false, ends: 0, called, over: None, confirmed: Vec::new() });
        let calls = matches!(self.script.kind, Kind::Replace | Kind::Guarded);
        let caller = node == CALLER || (node == THIRD && calls);
        if let Some(after) = self.script.hangs_up[usize::from(!caller)] {
            self.plan(after, Deed::HangUp(index));
        }
        self.plan(BEDTIME, Deed::Bedtime(index));
    }

    pub(super) fn end_leg(&mut self, node: usize, id: &DialogId, reason: &EndReason) {
        use EndReason::{AckTimeout, PrackTimeout, SessionExpired, Unreachable};
        let broken =
            matches!(self.script.kind, Kind::Unacknowledged | Kind::Broken) || self.script.is_slow_to_agree();
        // Who hung up answers 481 to what crosses the BYE, and on another connection overtakes it.
        let over = |leg: &Leg| leg.node != node && leg.id.call_id() == id.call_id() && leg.over.is_some();
        let crossed = matches!(reason, Unreachable) && self.legs.iter().any(over);
        let calm = self.script.is_calm() && !broken && !crossed;
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

    pub(super) fn open_leg(&self, node: usize) -> Option<DialogId> {
        self.legs.iter().find(|leg| leg.node == node && leg.is_open()).map(|leg| leg.id.clone())
    }
}

/// A target that is reached by these hops.
fn target(addr: SocketAddr, hops: &[Place]) -> Target {
    let at = |place: &Place| match place {
        Place::Silent => NOWHERE.parse().unwrap(),
        Place::Busy => "10.0.0.6:5060".parse().unwrap(),
        Place::There => addr,
    };
    let hops = hops.iter().map(|place| (Transport::Udp, at(place)).into()).collect();
    Target { uri: Some(format!("sip:callee@{addr}").parse().unwrap()), hops, ..Target::default() }
}

/// Of the CSeq.
fn number(headers: &Headers) -> u32 {
    headers.typed::<CSeq>().map(|cseq| cseq.number).unwrap_or_default()
}

/// A registrar's 200.
fn grant(request: &Request) -> Reply {
    let header = |name| request.headers.get(name).unwrap_or_default().into_owned();
    let contact = format!("{};expires={}", header(HeaderName::CONTACT), header(HeaderName::EXPIRES));
    Reply::new(StatusCode::OK).header(HeaderName::CONTACT, contact)
}
