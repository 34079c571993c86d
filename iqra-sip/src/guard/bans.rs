//! Bans that were learnt: who, until when; the list is bounded and in the order of expiry.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use super::network::Network;

/// Sources that are not heard until their time has come.
#[derive(Debug, Default)]
pub(super) struct Bans {
    until: HashMap<Network, Instant>,
    order: BTreeSet<(Instant, Network)>,
}

impl Bans {
    /// Bans a source; a second ban replaces the first. Where the list is full, the ban that would end first ends now.
    pub(super) fn insert(&mut self, now: Instant, key: Network, until: Instant, most: usize) {
        self.remove(key);
        self.expire(now);
        while self.until.len() >= most.max(1) {
            let Some((_, first)) = self.order.pop_first() else { break };
            self.until.remove(&first);
        }
        self.until.insert(key, until);
        self.order.insert((until, key));
    }

    pub(super) fn remove(&mut self, key: Network) -> bool {
        let until = self.until.remove(&key);
        until.is_some_and(|until| self.order.remove(&(until, key)))
    }

    pub(super) fn holds(&self, now: Instant, key: Network) -> bool {
        self.until.get(&key).is_some_and(|&until| now < until)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(until, key)) = self.order.first().filter(|(until, _)| *until <= now) {
            self.order.remove(&(until, key));
            self.until.remove(&key);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Network, Instant)> + '_ {
        self.order.iter().map(|&(until, key)| (key, until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn bans_end_in_time_and_a_full_list_lets_the_first_to_end_go() {
        let (mut bans, now) = (Bans::default(), Instant::now());
        let key = |n: u8| Network::of(std::net::IpAddr::from([192, 0, 2, n]), 32, 64);
        let at = |seconds| now + Duration::from_secs(seconds);
        bans.insert(now, key(1), at(10), 2);
        bans.insert(now, key(2), at(5), 2);
        bans.insert(now, key(3), at(20), 2);
        assert!(!bans.holds(now, key(2)), "it would have ended first");
        assert!(bans.holds(now, key(1)) && bans.holds(now, key(3)));
        assert!(bans.holds(at(9), key(1)) && !bans.holds(at(10), key(1)));
        bans.expire(at(10));
        assert_eq!(bans.iter().collect::<Vec<_>>(), [(key(3), at(20))]);
        bans.insert(now, key(3), at(30), 2);
        assert_eq!(bans.iter().count(), 1);
        assert!(bans.remove(key(3)) && !bans.remove(key(3)));
    }
}
