//! The guard: asked about every message before a transaction is made, it keeps scanners, floods and overload away.
//!
//! Goes in: the time, the source, the octets, the load. Comes out: a [`Verdict`]. Knows no socket and answers nothing
//! itself; a message that passes costs it a walk over the lines of its head and no allocation.
//!
//! In order: an allowed source passes whatever it sends, a peer wherever the load permits; a banned one is dropped; then
//! the token bucket of its kind of message, the signatures of scanners, and for new requests the load. Sources are told
//! apart by address, IPv6 by network, for a subscriber has a whole one. A carrier sends everybody's calls from one
//! address, and **UDP sources can be forged**: list those that matter in `peers` or `allow`, so that no rate stops them
//! and nobody gets them banned.

mod bans;
pub(crate) mod glance;
mod network;
mod overload;
mod scanner;
mod sources;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::observe::DropReason;
use bans::Bans;
pub use glance::Kind;
use glance::{Glance, finds};
pub use network::{Network, NetworkError, Networks};
use overload::Overload;
pub use overload::{Load, OverloadConfig};
pub use scanner::{Action, Part, Signature};
pub use sources::Rate;
use sources::Sources;

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
    /// Requests inside dialogs, ACK and CANCEL, from one source. Default 500 a second, 1,000 at once.
    pub in_dialog: Rate,
    /// Responses from one source. Default 500 a second, 1,000 at once.
    pub responses: Rate,
    /// What is done with a message above its rate. A `Forbid` answers requests alone. Default [`Action::Drop`].
    pub above_rate: Action,
    /// What scanners are known by, the first that matches counts. Default [`Signature::known`].
    pub signatures: Vec<Signature>,
    /// Offences (malformed messages, streams that carry none, failed handshakes, signatures) that a source may commit; one more bans it. Default 20 at once and
    /// one a second in the long run.
    pub offences: Rate,
    /// How long a source is banned for its offences. Default 10 minutes; zero bans nobody.
    pub ban: Duration,
    /// Most sources that are remembered; the quiet ones are forgotten first. Default 65,536, about 10 MB.
    pub max_sources: usize,
    /// Most learnt bans; above it the one that would end first ends. Default 16,384.
    pub max_bans: usize,
    /// Leading bits of an IPv6 address that make a source, 1 to 128. Default 64.
    pub ipv6_prefix: u8,
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
            in_dialog: many,
            responses: many,
            above_rate: Action::Drop,
            signatures: Signature::known(),
            offences: Rate { per_second: 1, burst: 20 },
            ban: Duration::from_secs(600),
            max_sources: 65_536,
            max_bans: 16_384,
            ipv6_prefix: 64,
            overload: Some(OverloadConfig::default()),
        }
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
    bans: Bans,
    overload: Overload,
}

impl Guard {
    /// A guard that knows no source yet.
    #[must_use]
    pub fn new(config: GuardConfig) -> Self {
        Self { config, sources: Sources::default(), bans: Bans::default(), overload: Overload::default() }
    }

    /// Takes new settings; what was learnt stays.
    pub fn reload(&mut self, config: GuardConfig) {
        self.config = config;
    }

    /// Judges one message.
    pub fn judge(&mut self, now: Instant, source: IpAddr, message: &[u8], load: &Load) -> Verdict {
        if self.config.allow.contains(source) {
            return Verdict::Pass;
        }
        if self.config.peers.contains(source) {
            return self.judge_load(&Glance::at(message), load);
        }
        if self.is_banned(now, source) {
            return Verdict::Drop(DropReason::Banned);
        }
        let (key, glance) = (self.key(source), Glance::at(message));
        let (rate, reason) = match glance.kind {
            Kind::New => (self.config.new_requests, DropReason::RateNew),
            Kind::Within => (self.config.in_dialog, DropReason::RateDialog),
            Kind::Response => (self.config.responses, DropReason::RateResponse),
        };
        if !self.sources.take(now, key, self.config.max_sources, glance.kind, rate) {
            return self.act(now, key, self.config.above_rate, reason);
        }
        if let Some(action) = self.signature(&glance) {
            self.offend(now, key);
            return self.act(now, key, action, DropReason::Scanner);
        }
        self.judge_load(&glance, load)
    }

    /// Notes that what this source sent could not be read: a message, a stream or a handshake.
    pub fn malformed(&mut self, now: Instant, source: IpAddr) {
        if !self.is_known(source) {
            self.offend(now, self.key(source));
        }
    }

    /// True where nothing of this source is heard; its connections are closed.
    #[must_use]
    pub fn is_banned(&self, now: Instant, source: IpAddr) -> bool {
        let banned = self.config.deny.contains(source) || self.bans.holds(now, self.key(source));
        banned && !self.is_known(source)
    }

    fn is_known(&self, source: IpAddr) -> bool {
        self.config.allow.contains(source) || self.config.peers.contains(source)
    }

    /// Bans a source.
    pub fn ban(&mut self, now: Instant, source: IpAddr, time: Duration) {
        self.ban_key(now, self.key(source), time);
    }

    /// Ends a learnt ban; false where there was none.
    pub fn unban(&mut self, source: IpAddr) -> bool {
        let key = self.key(source);
        self.bans.remove(key)
    }

    /// The learnt bans that hold, the first to end first.
    pub fn bans(&self, now: Instant) -> impl Iterator<Item = (Network, Instant)> + '_ {
        self.bans.iter().filter(move |(_, until)| now < *until)
    }

    /// How many sources are remembered.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// True while new requests are refused for the load.
    #[must_use]
    pub fn sheds(&self) -> bool {
        self.overload.sheds
    }

    fn key(&self, source: IpAddr) -> Network {
        Network::of(source, 32, self.config.ipv6_prefix)
    }

    fn signature(&self, glance: &Glance<'_>) -> Option<Action> {
        let found = self.config.signatures.iter().find(|signature| signature.matches(glance));
        found.filter(|_| glance.kind != Kind::Response).map(|signature| signature.action)
    }

    fn act(&mut self, now: Instant, key: Network, action: Action, reason: DropReason) -> Verdict {
        match action {
            Action::Drop => Verdict::Drop(reason),
            Action::Forbid => Verdict::Forbid(reason),
            Action::Ban(time) => {
                self.ban_key(now, key, time);
                Verdict::Drop(reason)
            }
        }
    }

    fn offend(&mut self, now: Instant, key: Network) {
        if self.sources.offend(now, key, self.config.max_sources, self.config.offences) {
            self.ban_key(now, key, self.config.ban);
        }
    }

    fn ban_key(&mut self, now: Instant, key: Network, time: Duration) {
        let Some(until) = now.checked_add(time).filter(|until| *until > now) else { return };
        if !self.bans.holds(now, key) {
            tracing::info!(source = %key, seconds = time.as_secs(), "source banned");
        }
        self.bans.insert(now, key, until, self.config.max_bans);
    }

    /// Traffic inside dialogs goes on; what is new waits outside.
    fn judge_load(&mut self, glance: &Glance<'_>, load: &Load) -> Verdict {
        let Some(config) = &self.config.overload else { return Verdict::Pass };
        let sheds = self.overload.judge(config, load) && glance.kind == Kind::New;
        if !sheds || (config.spare_emergency && finds(glance.start_line, b" urn:service:sos")) {
            return Verdict::Pass;
        }
        let (least, most) = config.retry_after;
        Verdict::Shed(least, most.max(least))
    }
}

#[cfg(test)]
mod tests;
