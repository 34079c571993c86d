//! Bans that were learnt: who, until when, and of what; the list is bounded and in the order of expiry. What changes is
//! told once.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::network::Network;

/// Most changes that wait to be told; the oldest go untold.
const MOST_UNTOLD: usize = 1_024;

/// What a ban keeps away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Requests in datagrams that belong to no dialog and no transaction. Whoever sent what led to it may have forged the
    /// source, and must not silence the calls of somebody else.
    NewDatagrams,
    /// Everything.
    All,
}

/// One ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    /// Who.
    pub network: Network,
    /// Its end.
    pub until: Instant,
    /// Of what.
    pub scope: Scope,
}

/// A ban that was made or lifted; one that ran out is not told, for it was said when it would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanChange {
    /// Who.
    pub network: Network,
    /// For how long and of what; `None` where the ban was lifted before its time.
    pub banned: Option<(Duration, Scope)>,
}

/// How many bans were made and lifted so far; each only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BanCounts {
    /// Made, longer or wider ones of sources that were banned already aside.
    pub made: u64,
    /// Ended before their time, by hand or because the list was full.
    pub lifted: u64,
}

/// Sources that are not heard until their time has come.
#[derive(Debug, Default)]
pub(super) struct Bans {
    by_network: HashMap<Network, (Instant, Scope)>,
    order: BTreeSet<(Instant, Network)>,
    untold: VecDeque<BanChange>,
    pub(super) counts: BanCounts,
}

impl Bans {
    /// Bans a source. One that is banned already stays so as long and as widely as either says. Where the list is full,
    /// the ban that would end first ends now.
    pub(super) fn insert(&mut self, now: Instant, ban: Ban, most: usize) {
        self.expire(now);
        let Ban { network, mut until, mut scope } = ban;
        let before = self.forget(network);
        if let Some((old, wide)) = before {
            (until, scope) = (until.max(old), scope.max(wide));
        }
        while self.by_network.len() >= most.max(1) {
            let Some(&(_, first)) = self.order.first() else { break };
            self.remove(first);
        }
        self.by_network.insert(network, (until, scope));
        self.order.insert((until, network));
        if before.is_none_or(|(_, wide)| wide < scope) {
            self.counts.made += 1;
            let banned = Some((until.saturating_duration_since(now), scope));
            self.tell(BanChange { network, banned });
        }
    }

    /// Lifts a ban; false where there was none.
    pub(super) fn remove(&mut self, network: Network) -> bool {
        let found = self.forget(network).is_some();
        if found {
            self.counts.lifted += 1;
            self.tell(BanChange { network, banned: None });
        }
        found
    }

    /// Of what a source is banned.
    pub(super) fn scope(&self, now: Instant, network: Network) -> Option<Scope> {
        self.by_network.get(&network).filter(|(until, _)| now < *until).map(|(_, scope)| *scope)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(until, network)) = self.order.first().filter(|(until, _)| *until <= now) {
            self.order.remove(&(until, network));
            self.by_network.remove(&network);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Ban> + '_ {
        self.order.iter().filter_map(|&(until, network)| {
            self.by_network.get(&network).map(|&(_, scope)| Ban { network, until, scope })
        })
    }

    /// The next change that was not told yet.
    pub(super) fn next_change(&mut self) -> Option<BanChange> {
        self.untold.pop_front()
    }

    fn forget(&mut self, network: Network) -> Option<(Instant, Scope)> {
        let found = self.by_network.remove(&network)?;
        self.order.remove(&(found.0, network));
        Some(found)
    }

    fn tell(&mut self, change: BanChange) {
        if self.untold.len() >= MOST_UNTOLD {
            self.untold.pop_front();
        }
        self.untold.push_back(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(n: u8) -> Network {
        Network::of(std::net::IpAddr::from([192, 0, 2, n]), 32, 64)
    }

    fn ban(n: u8, until: Instant, scope: Scope) -> Ban {
        Ban { network: network(n), until, scope }
    }

    #[test]
    fn bans_end_in_time_and_a_full_list_lets_the_first_to_end_go() {
        let (mut bans, now) = (Bans::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut insert = |n, until| bans.insert(now, ban(n, until, Scope::All), 2);
        insert(1, at(10));
        insert(2, at(5));
        insert(3, at(20));
        let holds = |bans: &Bans, n, at| bans.scope(at, network(n)).is_some();
        assert!(!holds(&bans, 2, now), "it would have ended first");
        assert!(holds(&bans, 1, now) && holds(&bans, 3, now));
        assert!(holds(&bans, 1, at(9)) && !holds(&bans, 1, at(10)));
        bans.expire(at(10));
        assert_eq!(bans.iter().collect::<Vec<_>>(), [ban(3, at(20), Scope::All)]);
        assert!(bans.remove(network(3)) && !bans.remove(network(3)));
        assert_eq!(bans.counts, BanCounts { made: 3, lifted: 2 });
        let told: Vec<_> = std::iter::from_fn(|| bans.next_change()).map(|change| change.banned).collect();
        let made = |seconds| Some((Duration::from_secs(seconds), Scope::All));
        assert_eq!(told, [made(10), made(5), None, made(20), None]);
    }

    #[test]
    fn a_second_ban_makes_the_first_neither_shorter_nor_narrower() {
        let (mut bans, now) = (Bans::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        bans.insert(now, ban(1, at(60), Scope::All), 8);
        bans.insert(now, ban(1, at(10), Scope::NewDatagrams), 8);
        assert_eq!(bans.iter().collect::<Vec<_>>(), [ban(1, at(60), Scope::All)]);
        bans.insert(now, ban(2, at(10), Scope::NewDatagrams), 8);
        bans.insert(now, ban(2, at(20), Scope::NewDatagrams), 8);
        bans.insert(now, ban(2, at(5), Scope::All), 8);
        assert_eq!(bans.iter().next(), Some(ban(2, at(20), Scope::All)));
        assert_eq!(bans.counts.made, 3, "longer is no other one, wider is");
    }

    #[test]
    fn changes_that_nobody_asks_for_are_bounded() {
        let (mut bans, now) = (Bans::default(), Instant::now());
        for n in 0..2_000_u64 {
            bans.insert(now, ban(1, now + Duration::from_secs(n + 1), Scope::All), 8);
            bans.remove(network(1));
        }
        assert_eq!(std::iter::from_fn(|| bans.next_change()).count(), MOST_UNTOLD);
    }
}
