//! What is remembered of each source: its token buckets and its offences, in a table of fixed size.
//!
//! The table has two halves. A source that is seen goes to the young half; when that is full, the old half is emptied
//! and the two change places. So whoever was quiet longest is forgotten first, at no cost per message, and a flood of
//! invented sources only gives everybody a full bucket again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::glance::Kind;
use super::network::Network;

/// A token bucket: so many at once, so many a second in the long run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Messages a second in the long run, 1 or more.
    pub per_second: u32,
    /// Messages at once, 1 or more.
    pub burst: u32,
}

/// When a bucket would be full again, which is all there is to know of it (the generic cell rate algorithm of
/// ITU-T I.371).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket(Option<Instant>);

impl Bucket {
    /// Takes a token; false where there is none.
    pub(super) fn take(&mut self, now: Instant, rate: Rate) -> bool {
        let one = Duration::from_secs(1) / rate.per_second.max(1);
        let full_at = self.0.map_or(now, |at| at.max(now)) + one;
        let fits = full_at - now <= one * rate.burst.max(1);
        if fits {
            self.0 = Some(full_at);
        }
        fits
    }
}

/// One source.
#[derive(Debug, Clone, Copy)]
struct Source {
    buckets: [Bucket; 4],
    offences: Bucket,
}

const FRESH: Source = Source { buckets: [Bucket(None); 4], offences: Bucket(None) };

/// All sources.
#[derive(Debug, Default)]
pub(super) struct Sources {
    young: HashMap<Network, Source>,
    old: HashMap<Network, Source>,
}

impl Sources {
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Takes a token of the source's bucket for this kind of message.
    pub(super) fn take(&mut self, now: Instant, key: Network, most: usize, kind: Kind, rate: Rate) -> bool {
        self.source(key, most).buckets[kind as usize].take(now, rate)
    }

    /// Notes an offence; true where it is one too many.
    pub(super) fn offend(&mut self, now: Instant, key: Network, most: usize, allowed: Rate) -> bool {
        !self.source(key, most).offences.take(now, allowed)
    }

    fn source(&mut self, key: Network, most: usize) -> &mut Source {
        if !self.young.contains_key(&key) {
            if self.young.len() >= (most / 2).max(1) {
                std::mem::swap(&mut self.young, &mut self.old);
                self.young.clear();
            }
            let known = self.old.remove(&key).unwrap_or(FRESH);
            self.young.insert(key, known);
        }
        self.young.entry(key).or_insert(FRESH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Network {
        Network::of(std::net::IpAddr::V4(n.into()), 32, 64)
    }

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_its_rate_in_the_long_run() {
        let (start, rate) = (Instant::now(), Rate { per_second: 10, burst: 5 });
        let mut bucket = Bucket(None);
        let taken = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take(at, rate)).count();
        assert_eq!(taken(&mut bucket, start), 5);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(99)), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(100)), 1);
        assert_eq!(
            taken(&mut bucket, start + Duration::from_secs(60)),
            5,
            "no more than the burst is saved up"
        );
    }

    #[test]
    fn the_table_keeps_its_size_and_forgets_the_quiet_first() {
        let (now, rate) = (Instant::now(), Rate { per_second: 1, burst: 1 });
        let mut sources = Sources::default();
        assert!(sources.take(now, key(0), 100, Kind::New, rate));
        for n in 1..10_000 {
            sources.take(now, key(n), 100, Kind::New, rate);
            assert!(!sources.take(now, key(0), 100, Kind::New, rate), "{n}: still known, for it is heard");
            assert!(sources.len() <= 101);
        }
        assert!(sources.take(now, key(1), 100, Kind::New, rate), "forgotten");
    }
}
