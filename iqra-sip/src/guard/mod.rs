//! The guard: asked about every message before a transaction is made, it keeps scanners, floods and overload away.
//!
//! Goes in: the time, the sender, the octets, the load. Comes out: a [`Verdict`]. Knows no socket and answers nothing
//! itself; a message that passes costs it a walk over the lines of its head and no allocation.
//!
//! **Before the parse** ([`Guard::judge`]), in order: an allowed source passes whatever it sends, a peer wherever the load
//! permits; a banned one is dropped; then the token bucket of what the message claims to be, for new requests those of its
//! IPv6 neighbourhood and of everybody, and the load; then the signatures of scanners.
//!
//! **After the parse** ([`Guard::judge_stray`]): a request that claims to be inside a dialog costs a token of its bucket
//! at once, which bounds the parsing, and is served first. Where neither a dialog nor a transaction nor a stamp of the
//! relay bears it out, it is asked about again as the new request that it is worth, and makes no transaction.
//!
//! **Sources** are told apart by address, IPv6 by network, for a subscriber has a whole one, and again by a wider network,
//! for a customer of a hoster has many. **UDP sources can be forged**, so what datagrams have led to keeps away only new
//! requests in datagrams: nobody silences the calls of somebody else, his streams or his answers. What came by a stream
//! has shown that its source is reached there, and bans it wholly. A carrier sends everybody's calls from one address:
//! list those that matter in `peers` or `allow`, so that no rate stops them and nobody gets them banned.
//!
//! **Load** is the program's (requests that wait for it), the tables', and our own: how long a socket has not been read
//! empty ([`overload`](OverloadConfig)).

mod bans;
pub(crate) mod glance;
mod network;
mod overload;
mod scanner;
mod sources;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::engine::flow::Flow;
use crate::message::Limits;
use crate::observe::DropReason;
use bans::Bans;
pub use bans::{Ban, BanChange, BanCounts, Scope};
pub use glance::Kind;
use glance::{Glance, finds};
pub use network::{Network, NetworkError, Networks};
pub use overload::{CROWD, Load, OverloadConfig};
use overload::{Overload, Pressure};
pub use scanner::{Action, Part, Signature};
pub use sources::Rate;
use sources::{Bucket, Sources};

/// The settings of a [`Guard`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardConfig {
    /// Sources that pass whatever they send, at any load: carriers, emergency gateways. It wins over `deny` and over
    /// every learnt ban. Default none.
    pub allow: Networks,
    /// Sources that are known to send much, a carrier's border or a proxy in front: their rates are not measured and they
    /// are never banned, but under overload their new requests are refused as everybody's. It wins over `deny`. Default
    /// none.
    pub peers: Networks,
    /// Sources that are never heard. Default none.
    pub deny: Networks,
    /// Requests outside dialogs from one source. Default 50 a second, 200 at once.
    pub new_requests: Rate,
    /// The same from one IPv6 network of `ipv6_wide_prefix` bits. Default 500 a second, 2,000 at once.
    pub wide_requests: Rate,
    /// The same from everybody but `allow` and `peers` together, dropped above it. What is more than this program can
    /// serve is kept away by the load anyway; `None` leaves it to that. Default `None`.
    pub total_requests: Option<Rate>,
    /// Requests inside dialogs, ACK and CANCEL, from one source. Default 500 a second, 1,000 at once.
    pub in_dialog: Rate,
    /// Responses from one source. Default 500 a second, 1,000 at once.
    pub responses: Rate,
    /// STUN Binding requests from one source, answered nothing above it. Default 100 a second, 200 at once.
    pub keep_alives: Rate,
    /// What is done with a message above the rate of its source. A `Forbid` answers requests alone. Default [`Action::Drop`].
    pub above_rate: Action,
    /// What scanners are known by, the first that matches counts. Default [`Signature::known`].
    pub signatures: Vec<Signature>,
    /// Offences (malformed messages, streams that carry none, failed handshakes, signatures) that a source may commit; one
    /// more bans it. Default 20 at once and one a second in the long run.
    pub offences: Rate,
    /// How long a source is banned for its offences: from everything where it committed the last one on a stream, from new
    /// requests in datagrams where in a datagram, whose source may be forged. Default 10 minutes; zero bans nobody.
    pub ban: Duration,
    /// Most sources that are remembered; the quiet ones are forgotten first. Default 65,536, about 10 MB.
    pub max_sources: usize,
    /// Most learnt bans; above it the one that would end first ends. Default 16,384.
    pub max_bans: usize,
    /// Leading bits of an IPv6 address that make a source, 1 to 128. Default 64.
    pub ipv6_prefix: u8,
    /// Leading bits of an IPv6 address that have `wide_requests` between them: what one customer gets at most. Default 48.
    pub ipv6_wide_prefix: u8,
    /// When new requests are refused for the load; `None` never does. Default on.
    pub overload: Option<OverloadConfig>,
}

impl Default for GuardConfig {
    fn default() -> Self {
        let many = Rate { per_second: 500, burst: 1_000 };
        Self {
            allow: Networks::default(),
            peers: Networks::default(),
            deny: Networks::default(),
            new_requests: Rate { per_second: 50, burst: 200 },
            wide_requests: Rate { per_second: 500, burst: 2_000 },
            total_requests: None,
            in_dialog: many,
            responses: many,
            keep_alives: Rate { per_second: 100, burst: 200 },
            above_rate: Action::Drop,
            signatures: Signature::known(),
            offences: Rate { per_second: 1, burst: 20 },
            ban: Duration::from_secs(600),
            max_sources: 65_536,
            max_bans: 16_384,
            ipv6_prefix: 64,
            ipv6_wide_prefix: 48,
            overload: Some(OverloadConfig::default()),
        }
    }
}

/// Who sent a message, as far as the network says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// The source address.
    pub ip: IpAddr,
    /// Anybody could have written that address: the message came in a datagram.
    pub forgeable: bool,
}

impl Sender {
    /// The far end of a flow.
    #[must_use]
    pub fn of(flow: &Flow) -> Self {
        Self { ip: flow.remote.ip(), forgeable: !flow.transport.is_reliable() }
    }

    /// What its offences may keep away.
    fn scope(self) -> Scope {
        if self.forgeable { Scope::NewDatagrams } else { Scope::All }
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is served.
    Pass,
    /// It is forgotten.
    Drop(DropReason),
    /// It is answered 403 without state, if it is a request.
    Forbid(DropReason),
    /// It is answered 503 with a Retry-After between these seconds.
    Shed(u32, u32),
}

impl Verdict {
    /// As a capsule notes it; nothing for a message that passes.
    pub(crate) fn word(self) -> Option<String> {
        Some(match self {
            Verdict::Pass => return None,
            Verdict::Drop(reason) => format!("drop {reason}"),
            Verdict::Forbid(reason) => format!("forbid {reason}"),
            Verdict::Shed(least, most) => format!("shed {least} {most}"),
        })
    }

    /// Reads what [`word`](Self::word) gave.
    pub(crate) fn read(word: &str) -> Option<Verdict> {
        let (verb, rest) = word.split_once(' ')?;
        let reason = || DropReason::ALL.into_iter().find(|reason| reason.row().label == rest);
        Some(match verb {
            "drop" => Verdict::Drop(reason()?),
            "forbid" => Verdict::Forbid(reason()?),
            "shed" => {
                let (least, most) = rest.split_once(' ')?;
                Verdict::Shed(least.parse().ok()?, most.parse().ok()?)
            }
            _ => return None,
        })
    }
}

/// Judges messages by their source.
#[derive(Debug)]
pub struct Guard {
    config: GuardConfig,
    sources: Sources,
    total: Bucket,
    bans: Bans,
    overload: Overload,
    /// Header lines of a message that are looked at.
    headers: usize,
}

impl Guard {
    /// A guard that knows no source yet.
    #[must_use]
    pub fn new(config: GuardConfig) -> Self {
        Self {
            config,
            sources: Sources::default(),
            total: Bucket::default(),
            bans: Bans::default(),
            overload: Overload::default(),
            headers: Limits::DEFAULT.headers,
        }
    }

    /// The same for messages within these limits, in place of the default ones: it looks no further than their parser.
    #[must_use]
    pub fn within(self, limits: &Limits) -> Self {
        Self { headers: limits.headers, ..self }
    }

    /// Takes new settings; what was learnt stays.
    pub fn reload(&mut self, config: GuardConfig) {
        self.config = config;
    }

    /// Judges one message before it is parsed.
    pub fn judge(&mut self, now: Instant, sender: Sender, message: &[u8], load: &Load) -> Verdict {
        if self.config.allow.contains(sender.ip) {
            return Verdict::Pass;
        }
        if self.is_banned(now, sender.ip) {
            return Verdict::Drop(DropReason::Banned);
        }
        let (glance, pressure) = (Glance::within(message, self.headers), self.pressure(now, load));
        let spared = glance.kind != Kind::New || self.is_spared(&glance);
        let verdict = if spared { Verdict::Pass } else { self.press(pressure, sender) };
        if self.config.peers.contains(sender.ip) {
            return verdict;
        }
        if glance.kind == Kind::New && self.is_held(now, sender) {
            return Verdict::Drop(DropReason::Banned);
        }
        if let Some(verdict) = self.exceeded(now, sender, glance.kind) {
            return verdict;
        }
        if matches!(verdict, Verdict::Drop(_)) {
            return verdict;
        }
        if let Some(action) = self.signature(&glance) {
            self.offend(now, sender);
            return self.act(now, sender, action, DropReason::Scanner);
        }
        verdict
    }

    /// Judges a request that claimed to be inside a dialog or to cancel another, and is not: as the new one that it costs
    /// as much as.
    pub fn judge_stray(&mut self, now: Instant, sender: Sender, load: &Load) -> Verdict {
        if self.config.allow.contains(sender.ip) {
            return Verdict::Pass;
        }
        let pressure = self.pressure(now, load);
        if !self.config.peers.contains(sender.ip) {
            if self.is_held(now, sender) {
                return Verdict::Drop(DropReason::Banned);
            }
            if let Some(verdict) = self.exceeded(now, sender, Kind::New) {
                return verdict;
            }
        }
        self.press(pressure, sender)
    }

    /// Judges a STUN Binding request.
    pub fn judge_keep_alive(&mut self, now: Instant, sender: Sender) -> Verdict {
        if self.is_known(sender.ip) {
            return Verdict::Pass;
        }
        if self.is_banned(now, sender.ip) {
            return Verdict::Drop(DropReason::Banned);
        }
        match self.takes(now, sender.ip, Kind::KeepAlive, self.config.keep_alives) {
            true => Verdict::Pass,
            false => Verdict::Drop(DropReason::RateKeepAlive),
        }
    }

    /// Notes that what this source sent could not be read: a message, a stream or a handshake. True where it is banned,
    /// so that it needs no answer.
    pub fn malformed(&mut self, now: Instant, sender: Sender) -> bool {
        if self.is_known(sender.ip) {
            return false;
        }
        self.offend(now, sender);
        self.is_banned(now, sender.ip) || self.is_held(now, sender)
    }

    /// True where nothing of this source is heard; its connections are closed.
    #[must_use]
    pub fn is_banned(&self, now: Instant, source: IpAddr) -> bool {
        let banned = || self.bans.scope(now, self.key(source)) == Some(Scope::All);
        (self.config.deny.contains(source) || banned()) && !self.is_known(source)
    }

    /// Bans a source from everything.
    pub fn ban(&mut self, now: Instant, source: IpAddr, time: Duration) {
        self.ban_key(now, self.key(source), time, Scope::All);
    }

    /// Ends a learnt ban; false where there was none.
    pub fn unban(&mut self, source: IpAddr) -> bool {
        let key = self.key(source);
        self.bans.remove(key)
    }

    /// The learnt bans that hold, the first to end first.
    pub fn bans(&self, now: Instant) -> impl Iterator<Item = Ban> + '_ {
        self.bans.iter().filter(move |ban| now < ban.until)
    }

    /// How many bans were made and lifted so far.
    #[must_use]
    pub fn ban_counts(&self) -> BanCounts {
        self.bans.counts
    }

    /// The next ban that was made or lifted and not told yet. An engine asks for its observer.
    pub fn poll_change(&mut self) -> Option<BanChange> {
        self.bans.next_change()
    }

    /// How many sources are remembered, wider networks among them.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// True while new requests are refused or dropped for the load.
    #[must_use]
    pub fn sheds(&self) -> bool {
        self.overload.pressure != Pressure::None
    }

    fn is_known(&self, source: IpAddr) -> bool {
        self.config.allow.contains(source) || self.config.peers.contains(source)
    }

    /// Whether a source is banned from new requests in datagrams, and this came in one.
    fn is_held(&self, now: Instant, sender: Sender) -> bool {
        sender.forgeable && self.bans.scope(now, self.key(sender.ip)).is_some()
    }

    fn key(&self, source: IpAddr) -> Network {
        Network::of(source, 32, self.config.ipv6_prefix)
    }

    fn takes(&mut self, now: Instant, source: IpAddr, kind: Kind, rate: Rate) -> bool {
        let key = self.key(source);
        self.sources.take(now, key, self.config.max_sources, kind, rate)
    }

    /// Takes a token of each bucket that a message needs; the verdict where one has none left. Only who is above a rate of
    /// his own can be banned for it.
    fn exceeded(&mut self, now: Instant, sender: Sender, kind: Kind) -> Option<Verdict> {
        let (rate, reason) = match kind {
            Kind::New => (self.config.new_requests, DropReason::RateNew),
            Kind::Within => (self.config.in_dialog, DropReason::RateDialog),
            Kind::Response => (self.config.responses, DropReason::RateResponse),
            Kind::KeepAlive => (self.config.keep_alives, DropReason::RateKeepAlive),
        };
        if !self.takes(now, sender.ip, kind, rate) {
            return Some(self.act(now, sender, self.config.above_rate, reason));
        }
        if kind != Kind::New {
            return None;
        }
        let (config, wide) = (&self.config, Network::of(sender.ip, 32, self.config.ipv6_wide_prefix));
        let fits = wide == self.key(sender.ip)
            || self.sources.take(now, wide, config.max_sources, kind, config.wide_requests);
        if !fits {
            return Some(Verdict::Drop(DropReason::RateNew));
        }
        let fits = config.total_requests.is_none_or(|rate| self.total.take(now, rate));
        (!fits).then_some(Verdict::Drop(DropReason::RateTotal))
    }

    fn signature(&self, glance: &Glance<'_>) -> Option<Action> {
        let found = self.config.signatures.iter().find(|signature| signature.matches(glance));
        found.filter(|_| glance.kind != Kind::Response).map(|signature| signature.action)
    }

    fn act(&mut self, now: Instant, sender: Sender, action: Action, reason: DropReason) -> Verdict {
        match action {
            Action::Drop => Verdict::Drop(reason),
            Action::Forbid => Verdict::Forbid(reason),
            Action::Ban(time) => {
                self.ban_key(now, self.key(sender.ip), time, sender.scope());
                Verdict::Drop(reason)
            }
        }
    }

    fn offend(&mut self, now: Instant, sender: Sender) {
        let key = self.key(sender.ip);
        if self.sources.offend(now, key, self.config.max_sources, self.config.offences) {
            self.ban_key(now, key, self.config.ban, sender.scope());
        }
    }

    fn ban_key(&mut self, now: Instant, network: Network, time: Duration, scope: Scope) {
        let Some(until) = now.checked_add(time).filter(|until| *until > now) else { return };
        if self.bans.scope(now, network).is_none_or(|held| held < scope) {
            tracing::info!(source = %network, seconds = time.as_secs(), ?scope, "source banned");
        }
        self.bans.insert(now, Ban { network, until, scope }, self.config.max_bans);
    }

    fn pressure(&mut self, now: Instant, load: &Load) -> Pressure {
        let Some(config) = &self.config.overload else { return Pressure::None };
        self.overload.judge(now, config, load)
    }

    fn is_spared(&self, glance: &Glance<'_>) -> bool {
        let spares = self.config.overload.as_ref().is_some_and(|config| config.spare_emergency);
        spares && finds(glance.start_line, b" urn:service:sos")
    }

    /// What becomes of a new request: who can be told to come back later is told. Traffic inside dialogs goes on.
    fn press(&self, pressure: Pressure, sender: Sender) -> Verdict {
        let Some(config) = &self.config.overload else { return Verdict::Pass };
        let (least, most) = config.retry_after;
        match pressure {
            Pressure::None => Verdict::Pass,
            Pressure::Drop if sender.forgeable && !self.config.peers.contains(sender.ip) => {
                Verdict::Drop(DropReason::Behind)
            }
            Pressure::Refuse | Pressure::Drop => Verdict::Shed(least, most.max(least)),
        }
    }
}

#[cfg(test)]
mod tests;
