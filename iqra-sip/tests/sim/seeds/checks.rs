//! What has to be true of a play by what was on the wire: when each message is repeated and when it is not, what answers
//! what, and what must not be said twice. Each check says of which section it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use iqra_sip::Engine;

use super::script::Kind;
use super::world::{A, B, World};
use crate::network::{CALLEE, Passage};

pub(super) const T1: Duration = Duration::from_millis(500);
pub(super) const T2: Duration = Duration::from_secs(4);
/// 64*T1.
pub(super) const END: Duration = Duration::from_secs(32);
/// How long an INVITE may ring.
const RING: Duration = Duration::from_secs(190);

/// A message, as far as it is looked at.
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) node: usize,
    pub(super) came: bool,
    peer: SocketAddr,
    /// Of a response.
    pub(super) status: Option<u16>,
    /// Of its CSeq, but for an ACK its own.
    pub(super) method: String,
    pub(super) number: u32,
    pub(super) branch: String,
    sent_by: String,
    /// By a stream, as its topmost Via says.
    stream: bool,
    /// No connection took it.
    pub(super) failed: bool,
    /// How often it was counted as dropped.
    pub(super) dropped: u64,
    pub(super) call_id: String,
    pub(super) to_tag: String,
    rseq: Option<u32>,
    rack: Option<String>,
    /// Nonce and count.
    proof: Option<String>,
    /// It has a body.
    pub(super) full: bool,
    /// It has Routes to follow.
    routed: bool,
}

impl Seen {
    pub(super) fn of(passage: &Passage) -> Self {
        let text = &passage.text;
        let header = |name: &str| {
            let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            values.next()
        };
        let param = |value: &str, name: &str| {
            let after = value.split(name).nth(1)?;
            Some(after.split([';', ',', '"', '>']).next().unwrap_or_default().to_owned())
        };
        let via = header("Via").unwrap_or_default();
        let (number, method) = header("CSeq").and_then(|cseq| cseq.split_once(' ')).unwrap_or(("0", ""));
        let proof = header("Authorization").map(|value| {
            let part = |name| param(value, name).unwrap_or_default();
            format!("{} {}", part("nonce=\""), part("nc="))
        });
        let reliable = header("Require").is_some_and(|tags| tags.contains("100rel"));
        Self {
            at: passage.at,
            node: passage.node,
            came: passage.came,
            peer: passage.peer,
            status: text.strip_prefix("SIP/2.0 ").and_then(|rest| rest[..3].parse().ok()),
            method: method.to_owned(),
            number: number.parse().unwrap_or_default(),
            branch: param(via, "branch=").unwrap_or_default(),
            sent_by: via.split([' ', ';']).nth(1).unwrap_or_default().to_owned(),
            stream: !via.starts_with("SIP/2.0/UDP"),
            failed: passage.failed,
            dropped: passage.dropped,
            call_id: header("Call-ID").unwrap_or_default().to_owned(),
            to_tag: header("To").and_then(|to| param(to, ";tag=")).unwrap_or_default(),
            rseq: header("RSeq").filter(|_| reliable).and_then(|number| number.parse().ok()),
            rack: header("RAck").map(str::to_owned),
            proof,
            routed: header("Route").is_some(),
            full: !text.ends_with("\r\n\r\n"),
        }
    }

    /// Of the same call at the same node.
    pub(super) fn is_beside(&self, other: &Seen) -> bool {
        self.node == other.node && self.call_id == other.call_id
    }

    pub(super) fn is_request(&self, method: &str) -> bool {
        self.status.is_none() && self.method == method
    }

    pub(super) fn is_final(&self) -> bool {
        self.status.is_some_and(|status| status >= 200)
    }

    pub(super) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// A datagram to whoever its topmost Via names.
    pub(super) fn responds_to(&self, peer: SocketAddr) -> bool {
        !self.stream && self.sent_by == peer.to_string()
    }

    fn is_refusal(&self) -> bool {
        self.status.is_some_and(|status| status >= 300)
    }
}

/// What is wrong with what a play put on the wire.
pub(super) fn wrongs(world: &World) -> Vec<String> {
    let tape = world.net.tape.as_deref().unwrap_or_default();
    let seen: Vec<_> = tape.iter().map(Seen::of).collect();
    let mut record = Record { world, seen, by_branch: HashMap::new(), wrongs: Vec::new() };
    for (index, one) in record.seen.iter().enumerate() {
        let key = (one.node, one.branch.clone());
        record.by_branch.entry(key).or_default().push(index);
    }
    record.requests_are_repeated();
    record.refusals_are_repeated();
    record.successes_are_repeated();
    record.provisionals_are_repeated();
    record.invites_are_acknowledged();
    record.acks_answer_something();
    record.provisionals_are_acknowledged();
    record.calls_are_cancelled();
    record.requests_are_answered();
    record.responses_go_back();
    record.proofs_are_fresh();
    record.glare_is_over_soon();
    record.dialogs_end_once();
    record.offers_are_answered();
    record.calls_that_cannot_leave_are_over();
    record.drops_are_counted();
    record.routes_are_used_up();
    record.wrongs
}

/// What dialogs wait for that cannot come any more; the engine tells with the feature `faults`.
#[cfg_attr(not(feature = "faults"), allow(unused_variables))]
pub(crate) fn dangling(engine: &Engine) -> Vec<String> {
    #[cfg(feature = "faults")]
    return engine.dangling();
    #[cfg(not(feature = "faults"))]
    Vec::new()
}

struct Record<'a> {
    world: &'a World,
    seen: Vec<Seen>,
    by_branch: HashMap<(usize, String), Vec<usize>>,
    wrongs: Vec<String>,
}

/// When a message that is sent at zero goes out again within 64*T1.
fn pace(cap: Option<Duration>) -> Vec<Duration> {
    let (mut at, mut gap, mut times) = (Duration::ZERO, T1, Vec::new());
    while at < END {
        times.push(at);
        at += gap;
        gap = cap.map_or(gap * 2, |cap| cap.min(gap * 2));
    }
    times
}

/// Whether `sent` holds all of `due` before `sure` and nothing that is not due until `latest`.
fn keeps_pace(sent: &[Instant], due: &[Instant], sure: Instant, latest: Instant) -> bool {
    let count = |limit: &dyn Fn(&&Instant) -> bool| due.iter().filter(limit).count();
    let (least, most) = (count(&|at| **at < sure), count(&|at| **at <= latest));
    (least..=most).contains(&sent.len()) && sent.iter().all(|at| due.contains(at))
}

pub(super) fn is_proxy(node: usize) -> bool {
    node == A || node == B
}

impl Record<'_> {
    fn wrong(&mut self, at: Instant, node: usize, what: impl Into<String>) {
        let start = self.seen.first().map_or(at, |first| first.at);
        self.wrongs.push(format!("node {node} at {} ms: {}", (at - start).as_millis(), what.into()));
    }

    /// All of one branch at one node.
    fn branch<'a>(&'a self, node: usize, branch: &str) -> impl Iterator<Item = &'a Seen> {
        let found = self.by_branch.get(&(node, branch.to_owned()));
        found.into_iter().flatten().map(|index| &self.seen[*index])
    }

    fn of_call<'a>(&'a self, node: usize, call_id: &'a str) -> impl Iterator<Item = &'a Seen> {
        self.seen.iter().filter(move |one| one.node == node && one.call_id == call_id)
    }

    /// What nodes sent, each kind of message once: the first of each that `pick` takes, by node, branch, method and
    /// status, and when all of them went out.
    pub(super) fn sent(&self, pick: impl Fn(&Seen) -> bool) -> Vec<(&Seen, Vec<Instant>)> {
        let mut groups: BTreeMap<_, (&Seen, Vec<Instant>)> = BTreeMap::new();
        for (index, one) in self.seen.iter().enumerate().filter(|(_, one)| !one.came && pick(one)) {
            let key = (one.node, &one.branch, &one.method, one.status, one.rseq);
            let group = groups.entry(key).or_insert((&self.seen[index], Vec::new()));
            // What no connection took is no repeat, nor is what takes its second way.
            if !one.stream || group.1.last() != Some(&one.at) {
                group.1.push(one.at);
            }
        }
        groups.into_values().collect()
    }

    /// RFC 3261 §17.1.1.2, §17.1.2.2: a request is repeated at its pace until a response comes, and then no more.
    fn requests_are_repeated(&mut self) {
        let mut wrongs = Vec::new();
        for (first, sent) in
            self.sent(|one| one.status.is_none() && one.method != "ACK" && !is_proxy(one.node))
        {
            let mut answers = self
                .branch(first.node, &first.branch)
                .filter(|one| one.came && one.status.is_some() && one.method == first.method);
            let answered = answers.next().map_or(first.at + END, |one| one.at);
            let cap = (first.method != "INVITE").then_some(T2);
            let mut due: Vec<_> = pace(cap).into_iter().map(|after| first.at + after).collect();
            // A stream repeats by itself.
            due.truncate(if first.stream { 1 } else { due.len() });
            if !keeps_pace(&sent, &due, answered, answered) {
                wrongs.push((first.at, first.node, format!("{} is sent {} times", first.method, sent.len())));
            }
        }
        wrongs.into_iter().for_each(|(at, node, what)| self.wrong(at, node, what));
    }

    /// RFC 3261 §17.2.1: a refusal of an INVITE is repeated at its pace and for each INVITE, until the ACK.
    fn refusals_are_repeated(&mut self) {
        let mut wrongs = Vec::new();
        for (first, sent) in self.sent(|one| one.method == "INVITE" && one.is_refusal()) {
            let came = || self.branch(first.node, &first.branch).filter(|one| one.came);
            let mut acks = came().filter(|one| one.is_request("ACK") && one.at >= first.at);
            let ack = acks.next().map_or(first.at + END, |ack| ack.at).min(first.at + END);
            let again = || {
                let repeats = came().filter(|one| one.is_request("INVITE") && one.at > first.at);
                repeats.filter(|one| !self.is_kept_away(one)).map(|one| one.at)
            };
            let paced = pace(Some(T2)).into_iter().take(if first.stream { 1 } else { usize::MAX });
            let repeated = paced.map(|after| first.at + after).chain(again());
            // What claims a dialog that is gone is refused without state, each time that it comes (§8.2.7), and so is what
            // a guard refuses, which may let a repeat in.
            let within = came().any(|one| one.is_request("INVITE") && !one.to_tag.is_empty());
            let stateless = || {
                let due: Vec<_> = std::iter::once(first.at).chain(again()).collect();
                let gone = first.status == Some(481) && within;
                let guarded = self.is_guarded(first.node) && matches!(first.status, Some(403 | 503));
                let answers = |at: &Instant| due.contains(at);
                (guarded && sent.iter().all(answers))
                    || (gone && keeps_pace(&sent, &due, first.at + END, first.at + END))
            };
            if !keeps_pace(&sent, &repeated.collect::<Vec<_>>(), ack, ack) && !stateless() {
                wrongs.push((first.at, first.node, format!("a refusal is sent {} times", sent.len())));
            }
        }
        wrongs.into_iter().for_each(|(at, node, what)| self.wrong(at, node, what));
    }

    /// RFC 3261 §13.3.1.4: a 2xx to an INVITE is repeated until its ACK comes, the dialog ends, or the next INVITE of the
    /// peer, which has it by then (§14.1), is accepted; and for nothing else.
    fn successes_are_repeated(&mut self) {
        let mut wrongs = Vec::new();
        for (first, sent) in
            self.sent(|one| one.method == "INVITE" && one.is_success() && !is_proxy(one.node))
        {
            let after = || self.of_call(first.node, &first.call_id).filter(|one| one.at >= first.at);
            let mut acks = after().filter(|one| {
                one.came && one.is_request("ACK") && one.number == first.number && one.to_tag == first.to_tag
            });
            let mut ends = after().filter(|one| {
                let next = !one.came && one.method == "INVITE" && one.is_success();
                one.method == "BYE" || (next && one.number > first.number && one.to_tag == first.to_tag)
            });
            let latest = acks.next().map_or(first.at + END, |ack| ack.at).min(first.at + END);
            let sure = ends.next().map_or(latest, |bye| bye.at.min(latest));
            let due: Vec<_> = pace(Some(T2)).into_iter().map(|after| first.at + after).collect();
            if !keeps_pace(&sent, &due, sure, latest) {
                wrongs.push((first.at, first.node, format!("a 2xx is sent {} times", sent.len())));
            }
        }
        wrongs.into_iter().for_each(|(at, node, what)| self.wrong(at, node, what));
    }

    /// RFC 3262 §3: a reliable response is repeated until its PRACK comes or the INVITE has its final response.
    fn provisionals_are_repeated(&mut self) {
        let mut wrongs = Vec::new();
        for (first, sent) in self.sent(|one| one.rseq.is_some() && !is_proxy(one.node)) {
            let rack = format!("{} {} INVITE", first.rseq.unwrap_or_default(), first.number);
            let after = || self.of_call(first.node, &first.call_id).filter(|one| one.at >= first.at);
            let prack = after().find(|one| one.came && one.rack.as_ref() == Some(&rack));
            let answer = after().find(|one| !one.came && one.method == "INVITE" && one.is_final());
            let latest = [prack, answer].into_iter().flatten().map(|one| one.at).min();
            let latest = latest.unwrap_or(first.at + END).min(first.at + END);
            let mut due: Vec<_> = pace(None).into_iter().map(|after| first.at + after).collect();
            let invites = self.branch(first.node, &first.branch).filter(|one| one.at > first.at);
            due.extend(invites.filter(|one| one.came && one.is_request("INVITE")).map(|one| one.at));
            let sent: Vec<_> = sent.into_iter().filter(|at| *at <= latest).collect();
            if !keeps_pace(&sent, &due, latest, latest) {
                wrongs.push((first.at, first.node, format!("a reliable 1xx is sent {} times", sent.len())));
            }
        }
        wrongs.into_iter().for_each(|(at, node, what)| self.wrong(at, node, what));
    }

    /// True while the client transaction of an INVITE of this node has to take a response.
    fn is_alive(&self, node: usize, branch: &str, now: Instant) -> bool {
        let earlier = || self.branch(node, branch).take_while(|one| one.at <= now);
        let Some(start) = earlier().find(|one| !one.came && one.is_request("INVITE")) else { return false };
        let answers = || earlier().filter(|one| one.came && one.method == "INVITE" && one.at < now);
        let heard = answers().next().filter(|one| one.at < start.at + END);
        let cancel = earlier().find(|one| !one.came && one.is_request("CANCEL")).map(|one| one.at + END);
        let last = answers().find(|one| one.is_final()).map(|last| last.at + END);
        let end = match heard {
            Some(_) => last.or(cancel).unwrap_or(start.at + RING),
            None => start.at + END,
        };
        now < end
    }

    /// RFC 3261 §13.2.2.4, §17.1.1.3: each final response to an INVITE is acknowledged each time it comes.
    fn invites_are_acknowledged(&mut self) {
        let mut wrongs = Vec::new();
        for one in self.seen.iter().filter(|one| one.came && one.method == "INVITE" && one.is_final()) {
            let own = |other: &Seen| !other.came && other.is_request("INVITE");
            if !self.branch(one.node, &one.branch).any(own) {
                continue;
            }
            let mut finals =
                self.branch(one.node, &one.branch).filter(|other| other.came && other.is_final());
            let first = finals.find(|other| other.method == "INVITE");
            let absorbed = one.is_refusal() && first.is_some_and(Seen::is_success);
            let relayed = one.is_success() && is_proxy(one.node);
            let asks = one.is_success() && self.world.is_to_agree(one);
            if absorbed || relayed || asks || !self.is_alive(one.node, &one.branch, one.at) {
                continue;
            }
            let acked = self.of_call(one.node, &one.call_id).any(|ack| {
                let fits = if one.is_success() { ack.to_tag == one.to_tag } else { ack.branch == one.branch };
                let now = !ack.came && ack.at == one.at;
                now && ack.is_request("ACK") && ack.number == one.number && fits && ack.to_tag == one.to_tag
            });
            if !acked {
                wrongs.push((one.at, one.node, format!("no ACK to {}", one.status.unwrap_or_default())));
            }
        }
        wrongs.into_iter().for_each(|(at, node, what)| self.wrong(at, node, what));
    }

    /// No ACK without the response that it acknowledges.
    fn acks_answer_something(&mut self) {
        let mut wrongs = Vec::new();
        for ack in self.seen.iter().filter(|one| !one.came && one.is_request("ACK") && !is_proxy(one.node)) {
            let answers = self.of_call(ack.node, &ack.call_id).any(|one| {
                let fits = one.to_tag == ack.to_tag && one.number == ack.number;
                one.came && one.method == "INVITE" && one.is_final() && fits && one.at <= ack.at
            });
            if !answers {
                wrongs.push((ack.at, ack.node, "an ACK of nothing"));
            }
        }
        wrongs.into_iter().for_each(|(at, node, what)| self.wrong(at, node, what));
    }

    /// RFC 3262 §4: each reliable response is acknowledged once it is the next one.
    fn provisionals_are_acknowledged(&mut self) {
        let mut wrongs = Vec::new();
        for one in self.seen.iter().filter(|one| one.came && one.rseq.is_some() && !is_proxy(one.node)) {
            let earlier =
                || self.branch(one.node, &one.branch).filter(|other| other.came && other.at <= one.at);
            let number = one.rseq.unwrap_or_default();
            let next = earlier().all(|other| other.rseq.is_none_or(|known| known >= number));
            let over = earlier().any(|other| other.method == "INVITE" && other.is_final());
            let rack = format!("{number} {} INVITE", one.number);
            let said = |other: &Seen| !other.came && other.rack.as_ref() == Some(&rack) && other.at <= one.at;
            if next && !over && !self.of_call(one.node, &one.call_id).any(said) {
                wrongs.push((one.at, one.node, "no PRACK"));
            }
        }
        wrongs.into_iter().for_each(|(at, node, what)| self.wrong(at, node, what));
    }

    /// RFC 3261 §9.1, §16.10: an INVITE that rings is ended by a final response or by CANCEL: as soon as the program asks
    /// for it, and by a proxy as soon as it goes on to another target.
    fn calls_are_cancelled(&mut self) {
        let mut wrongs = Vec::new();
        for (invite, _) in self.sent(|one| one.is_request("INVITE")) {
            let branch = || self.branch(invite.node, &invite.branch);
            let answer =
                |last: bool| move |one: &&Seen| one.came && one.method == "INVITE" && one.is_final() == last;
            let Some(ringing) = branch().find(answer(false)).map(|one| one.at) else { continue };
            let answered = branch().find(answer(true)).map(|one| one.at);
            let cancelled = branch().find(|one| !one.came && one.is_request("CANCEL")).map(|one| one.at);
            let over = answered.is_some_and(|at| at <= ringing);
            let wanted = self.gives_up(invite).map(|at| at.max(ringing));
            let open = |at: Instant| answered.is_none_or(|answered| at < answered);
            let late = wanted.filter(|at| open(*at)).is_some_and(|at| cancelled.is_none_or(|c| c > at));
            if !over && (late || (answered.is_none() && cancelled.is_none())) {
                wrongs.push((ringing, invite.node, "an INVITE is left ringing"));
            }
        }
        wrongs.into_iter().for_each(|(at, node, what)| self.wrong(at, node, what));
    }

    /// When whoever sent this INVITE wanted it no more.
    fn gives_up(&self, invite: &Seen) -> Option<Instant> {
        if is_proxy(invite.node) {
            let attempts = self.of_call(invite.node, &invite.call_id).filter(|one| one.is_request("INVITE"));
            let mut later = attempts.filter(|one| {
                !one.came && one.number == invite.number && one.at > invite.at && one.branch != invite.branch
            });
            return later.next().map(|one| one.at);
        }
        let call = self.world.calls.iter().find(|call| call.call_id == invite.call_id)?;
        call.cancelled.filter(|at| *at >= invite.at && invite.to_tag.is_empty())
    }

    /// RFC 3261 §17.2.2: whoever gets a request answers it, each time that it comes.
    fn requests_are_answered(&mut self) {
        let mut wrongs = Vec::new();
        let asked = |one: &&Seen| one.came && one.status.is_none() && !is_proxy(one.node);
        for one in self.seen.iter().filter(asked) {
            if matches!(one.method.as_str(), "ACK" | "INVITE") || self.is_kept_away(one) {
                continue;
            }
            let answered = self.branch(one.node, &one.branch).any(|other| {
                !other.came && other.is_final() && other.method == one.method && other.at == one.at
            });
            let later = || {
                let mut finals = self
                    .branch(one.node, &one.branch)
                    .filter(|other| !other.came && other.is_final() && other.method == one.method);
                matches!(one.method.as_str(), "OPTIONS" | "MESSAGE")
                    && finals.next().is_some_and(|first| first.at > one.at)
            };
            if !answered && !later() {
                wrongs.push((one.at, one.node, format!("{} is not answered", one.method)));
            }
        }
        wrongs.into_iter().for_each(|(at, node, what)| self.wrong(at, node, what));
    }

    /// RFC 3261 §18.2.2: a response goes to the element that its topmost Via names.
    fn responses_go_back(&mut self) {
        let astray = |one: &&Seen| {
            let elsewhere = one.sent_by != one.peer.to_string();
            !one.came && !one.stream && one.status.is_some() && elsewhere
        };
        let wrongs: Vec<_> = self.seen.iter().filter(astray).map(|one| (one.at, one.node)).collect();
        wrongs.into_iter().for_each(|(at, node)| self.wrong(at, node, "a response goes astray"));
    }

    /// RFC 7616 §3.4: no nonce count is used twice.
    fn proofs_are_fresh(&mut self) {
        let (mut used, mut wrongs) = (BTreeSet::new(), Vec::new());
        for (one, _) in
            self.sent(|one| one.status.is_none() && !matches!(one.method.as_str(), "ACK" | "CANCEL"))
        {
            if let Some(proof) = &one.proof
                && !used.insert((one.node, proof))
            {
                wrongs.push((one.at, one.node));
            }
        }
        wrongs.into_iter().for_each(|(at, node)| self.wrong(at, node, "a nonce count is used twice"));
    }

    /// RFC 3261 §15: a dialog is hung up once by each side; a challenged BYE goes out again.
    fn dialogs_end_once(&mut self) {
        let mut wrongs = Vec::new();
        for (bye, _) in self.sent(|one| one.is_request("BYE") && !is_proxy(one.node)) {
            let challenged =
                |one: &Seen| self.branch(one.node, &one.branch).any(|other| other.status == Some(401));
            let another = self.of_call(bye.node, &bye.call_id).any(|one| {
                let again = !one.came && one.is_request("BYE") && one.branch != bye.branch;
                again && one.to_tag == bye.to_tag && one.at >= bye.at
            });
            if another && !challenged(bye) {
                wrongs.push((bye.at, bye.node));
            }
        }
        wrongs.into_iter().for_each(|(at, node)| self.wrong(at, node, "a dialog is hung up twice"));
    }

    /// RFC 3261 §8.1.3.1: whoever calls hears at once that no connection takes the call.
    fn calls_that_cannot_leave_are_over(&mut self) {
        let mut wrongs = Vec::new();
        for (invite, _) in self.sent(|one| one.is_request("INVITE") && one.to_tag.is_empty()) {
            let left = self.branch(invite.node, &invite.branch).any(|one| !one.came && !one.failed);
            let call = self.world.calls.iter().find(|call| call.call_id == invite.call_id);
            if !left && call.is_some_and(|call| call.over != Some(invite.at)) {
                wrongs.push((invite.at, invite.node));
            }
        }
        wrongs
            .into_iter()
            .for_each(|(at, node)| self.wrong(at, node, "nobody is told that a call cannot leave"));
    }

    fn is_guarded(&self, node: usize) -> bool {
        self.world.script.kind == Kind::Guarded && node == CALLEE
    }

    /// Dropped by a guard without a word.
    fn is_kept_away(&self, one: &Seen) -> bool {
        let answers = |other: &Seen| !other.came && other.is_final() && other.at == one.at;
        let answered = self.branch(one.node, &one.branch).any(answers);
        self.is_guarded(one.node) && one.dropped > 0 && !answered
    }

    /// RFC 3261 §12.2.1.1, §16.4, §16.6: what reaches the end of its path has no Route left.
    fn routes_are_used_up(&mut self) {
        let astray = |one: &&Seen| one.came && one.status.is_none() && one.routed && !is_proxy(one.node);
        let wrongs: Vec<_> = self.seen.iter().filter(astray).map(|one| (one.at, one.node)).collect();
        wrongs.into_iter().for_each(|(at, node)| self.wrong(at, node, "a request comes with a Route"));
    }

    /// What a guarded node got is served, or counted as dropped, once.
    fn drops_are_counted(&mut self) {
        let mut wrongs = Vec::new();
        for one in
            self.seen.iter().filter(|one| one.came && self.is_guarded(one.node) && one.status.is_none())
        {
            let served = one.method == "ACK"
                || self
                    .branch(one.node, &one.branch)
                    .any(|other| !other.came && other.status.is_some() && other.method == one.method);
            if one.dropped > 1 || (one.dropped == 0 && !served) {
                wrongs.push((one.at, one.node, format!("a {} is counted {} times", one.method, one.dropped)));
            }
        }
        wrongs.into_iter().for_each(|(at, node, what)| self.wrong(at, node, what));
    }

    /// RFC 3261 §13.2.2.4, §14.1: an offer in a 2xx is answered in the ACK, as soon as the program has the answer.
    fn offers_are_answered(&mut self) {
        let mut wrongs = Vec::new();
        for offer in &self.world.offers {
            let Some(at) = offer.answered else { continue };
            let answer = self.of_call(offer.node, offer.dialog.call_id()).any(|one| {
                let ours = !one.came && one.is_request("ACK") && one.number == offer.number;
                ours && one.full && one.at == at
            });
            if !answer {
                wrongs.push((at, offer.node));
            }
        }
        wrongs
            .into_iter()
            .for_each(|(at, node)| self.wrong(at, node, "an offer is acknowledged without its answer"));
    }

    /// RFC 3261 §14.1: what met a 491 goes out again, within 2 s from whoever did not make the call. In calm weather, where
    /// nothing stands in the way.
    fn glare_is_over_soon(&mut self) {
        let pending = |one: &&Seen| one.came && one.node == CALLEE && one.status == Some(491);
        let calm = self.world.script.is_calm();
        let Some(refused) = self.seen.iter().find(pending).filter(|_| calm) else { return };
        let soon = refused.at + Duration::from_millis(2_200);
        let at = refused.at;
        let tried = self.of_call(CALLEE, &refused.call_id).any(|one| {
            let again = !one.came && one.is_request(&refused.method) && one.number > refused.number;
            one.at >= at && one.at <= soon && (one.method == "BYE" || again)
        });
        if !tried {
            self.wrong(at, CALLEE, "what met a 491 is not sent again");
        }
    }
}
