//! What has to have happened by when, by what was on the wire and what the programs were told: whoever is hung up on or
//! left without an ACK is out of the call within 64*T1, and no program waits for what it is never told.

use std::time::Instant;

use super::checks::{END, Seen, is_proxy};
use super::script::Kind;
use super::world::{Leg, World};

/// What came too late or never.
pub(super) fn wrongs(world: &World) -> Vec<String> {
    let seen: Vec<_> = world.net.tape.iter().flatten().map(Seen::of).collect();
    let watch = Watch { world, seen };
    let legs = world.legs.iter();
    legs.flat_map(|leg| [watch.is_confirmed(leg), watch.is_hung_up(leg), watch.hears_the_bye(leg)])
        .chain(watch.seen.iter().map(|one| watch.is_acknowledged(one).or_else(|| watch.is_told(one))))
        .flatten()
        .collect()
}

struct Watch<'a> {
    world: &'a World,
    seen: Vec<Seen>,
}

impl Watch<'_> {
    /// What this side of a dialog sent and got.
    fn of_leg<'a>(&'a self, leg: &'a Leg, method: &'a str) -> impl Iterator<Item = &'a Seen> + Clone {
        self.seen.iter().filter(move |one| {
            let tag = if one.came { leg.id.local_tag() } else { leg.id.remote_tag() };
            one.node == leg.node
                && one.call_id == leg.id.call_id()
                && one.is_request(method)
                && one.to_tag == tag
        })
    }

    /// RFC 3261 §13.3.1.4: the program of whoever was called hears of the ACK once, and so does that of whoever made an
    /// offer in a 2xx of the ACK with the answer.
    fn is_confirmed(&self, leg: &Leg) -> Option<String> {
        let came =
            self.of_leg(leg, "ACK").filter(|one| one.came && leg.over.is_none_or(|over| one.at < over));
        // That of a refusal is one transaction with its INVITE.
        let refused =
            |ack: &Seen| self.seen.iter().any(|one| one.is_request("INVITE") && one.branch == ack.branch);
        let came = came.filter(|ack| !refused(ack));
        let first = came.clone().next().filter(|_| leg.called).map(|ack| ack.number);
        let full = came.filter(|ack| ack.full).map(|ack| ack.number);
        let times = |number: u32| leg.confirmed.iter().filter(|told| **told == number).count();
        let wrong = first.into_iter().chain(full).find(|number| times(*number) != 1)?;
        Some(format!("node {}: an ACK is told {} times", leg.node, times(wrong)))
    }

    /// RFC 3261 §15: a dialog that was made ends with a BYE of one side, at the latest once its ACK is given up.
    fn is_hung_up(&self, leg: &Leg) -> Option<String> {
        let over = leg.over?;
        let answer = |one: &&Seen| one.node == leg.node && one.call_id == leg.id.call_id();
        let success = |one: &&Seen| one.method == "INVITE" && one.is_success();
        let made = self.seen.iter().filter(answer).any(|one| success(&one));
        let bye = self.of_leg(leg, "BYE").any(|one| one.at <= over + END);
        (made && !bye).then(|| format!("node {}: a dialog ends without a BYE", leg.node))
    }

    /// RFC 3261 §15.1: within 64*T1 of the BYE of one side the other one is out of the call too.
    fn hears_the_bye(&self, leg: &Leg) -> Option<String> {
        let bye = self.of_leg(leg, "BYE").find(|one| !one.came)?.at;
        let script = &self.world.script;
        let cut = script.kind == Kind::Broken || script.loses_what_is_sent_once();
        let late = |over: Option<Instant>| over.is_none_or(|over| over > bye + END);
        let other = self.world.legs.iter().find(|other| {
            let same = other.id.call_id() == leg.id.call_id() && other.node != leg.node;
            same && other.id.local_tag() == leg.id.remote_tag() && other.id.remote_tag() == leg.id.local_tag()
        })?;
        (!cut && late(other.over)).then(|| format!("node {}: a BYE does not end the call", other.node))
    }

    /// RFC 3261 §13.3.1.4: a 2xx to INVITE without an ACK ends the dialog.
    fn is_acknowledged(&self, one: &Seen) -> Option<String> {
        if one.came || one.method != "INVITE" || !one.is_success() || is_proxy(one.node) {
            return None;
        }
        let mut later = self.seen.iter().filter(|other| {
            let same = other.node == one.node && other.call_id == one.call_id;
            same && other.at >= one.at && other.at <= one.at + END
        });
        let done = later.any(|other| {
            let ack = other.came && other.is_request("ACK") && other.number == one.number;
            other.is_request("BYE") || ack
        });
        (!done).then(|| format!("node {}: a 2xx without an ACK ends nothing", one.node))
    }

    /// RFC 3261 §9.2, §15.1.2, RFC 3262 §3: whoever was called hears at once that its caller gave up.
    fn is_told(&self, one: &Seen) -> Option<String> {
        let given_up = matches!(one.status, Some(487 | 504)) && one.method == "INVITE";
        if one.came || !given_up || is_proxy(one.node) {
            return None;
        }
        let told = self
            .world
            .given_up
            .iter()
            .any(|(node, call, at)| *node == one.node && *call == one.call_id && *at <= one.at);
        let within = self.seen.iter().any(|invite| {
            invite.is_request("INVITE") && invite.branch == one.branch && !invite.to_tag.is_empty()
        });
        (!told && !within).then(|| format!("node {}: nobody is told that the caller gave up", one.node))
    }
}
