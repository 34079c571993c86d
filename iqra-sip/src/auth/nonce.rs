//! The server's nonces: signed with their time, so that none has to be kept, and the counts of those in use
//! (RFC 7616 §3.3, §5.4, §5.5).
//!
//! A nonce is `time, serial number, HMAC-SHA-256 of both and the realm` in hexadecimal. Only credentials that were right
//! make an entry in the table of counts, so that strangers cannot fill it; when it is full, the oldest nonce goes and
//! every nonce of its age or older counts as run out, so that forgetting never lets a replay in. For the same reason the
//! time that nonces are made and judged by never goes back, whatever the wall clock does ([`Steady`]).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::digest::{hex, same};

/// Octets of the HMAC that a nonce carries.
const SIGNATURE: usize = 16;

/// When a nonce was made, in milliseconds since 1970, and its number among those.
pub(super) type Stamp = (u64, u64);

/// How far the wall clock may lag behind before it counts as set back, in milliseconds; callers read it at about the
/// same time, and not in order.
const SLACK: u64 = 1_000;

/// The wall clock, made one that never goes back: where it is set back, time goes on from the latest that was read, at its
/// pace, until it is past that by itself.
#[derive(Default)]
pub(super) struct Steady {
    latest: u64,
    /// What the wall clock lacks.
    shift: u64,
}

impl Steady {
    pub(super) fn read(&mut self, wall: SystemTime) -> SystemTime {
        let wall = millis(wall);
        if wall >= self.latest {
            self.shift = 0;
        } else if wall.saturating_add(self.shift).saturating_add(SLACK) < self.latest {
            self.shift = self.latest - wall;
        }
        self.latest = self.latest.max(wall.saturating_add(self.shift));
        UNIX_EPOCH + Duration::from_millis(self.latest)
    }
}

/// Makes nonces and knows its own again.
pub(super) struct Mint {
    key: Zeroizing<[u8; 32]>,
    realm: String,
    serial: u64,
}

impl Mint {
    pub(super) fn new(key: [u8; 32], realm: String) -> Self {
        Self { key: Zeroizing::new(key), realm, serial: 0 }
    }

    pub(super) fn make(&mut self, now: SystemTime) -> String {
        self.serial += 1;
        self.spell((millis(now), self.serial))
    }

    fn spell(&self, stamp: Stamp) -> String {
        format!("{:016x}{:016x}{}", stamp.0, stamp.1, hex(&self.sign(stamp)[..SIGNATURE]))
    }

    fn sign(&self, (time, serial): Stamp) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key).expect("HMAC takes keys of any length");
        mac.update(&time.to_be_bytes());
        mac.update(&serial.to_be_bytes());
        mac.update(self.realm.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The stamp of a nonce that is ours.
    pub(super) fn read(&self, nonce: &str) -> Option<Stamp> {
        let number = |range| u64::from_str_radix(nonce.get(range)?, 16).ok();
        let stamp = (number(0..16)?, number(16..32)?);
        same(self.spell(stamp).as_bytes(), nonce.as_bytes()).then_some(stamp)
    }
}

fn millis(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Longest cnonce that is kept with its nonce, in octets; a session that begins with a longer one is known by the
/// reading that needs none to be kept.
const MAX_CNONCE: usize = 128;

/// Which counts of one nonce have been seen: the highest, and the 64 up to it. Requests may overtake each other.
#[derive(Default)]
struct Window {
    highest: u32,
    seen: u64,
    /// The client's nonce that a session began with.
    cnonce: Option<Box<[u8]>>,
}

impl Window {
    /// Notes a count; false where it was seen before or is too old to tell.
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            self.seen = self.seen.checked_shl(count - self.highest).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let bit = 1u64.checked_shl(self.highest - count).unwrap_or(0);
        let fresh = bit != 0 && count != 0 && self.seen & bit == 0;
        self.seen |= bit;
        fresh
    }
}

/// How a use of a nonce is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Fresh,
    RunOut,
    Replayed,
}

/// The counts of the nonces in use.
pub(super) struct Uses {
    windows: BTreeMap<Stamp, Window>,
    /// Nonces up to this one that have no window were forgotten.
    floor: Stamp,
    life: Duration,
    most: usize,
}

impl Uses {
    pub(super) fn new(life: Duration, most: usize) -> Self {
        Self { windows: BTreeMap::new(), floor: (0, 0), life, most: most.max(1) }
    }

    /// Judges a use with credentials that are right.
    pub(super) fn take(&mut self, now: SystemTime, stamp: Stamp, count: u32) -> Use {
        let expired = millis(now).saturating_sub(self.life.as_millis() as u64);
        while self.windows.first_key_value().is_some_and(|(oldest, _)| oldest.0 < expired) {
            self.windows.pop_first();
        }
        if stamp.0 < expired || (stamp <= self.floor && !self.windows.contains_key(&stamp)) {
            return Use::RunOut;
        }
        let fresh = self.windows.entry(stamp).or_default().take(count);
        if self.windows.len() > self.most {
            self.floor = self.windows.pop_first().map_or(self.floor, |(oldest, _)| oldest.max(self.floor));
        }
        if fresh { Use::Fresh } else { Use::Replayed }
    }

    /// The client's nonce that the session of this nonce began with.
    pub(super) fn session(&self, stamp: Stamp) -> Option<&[u8]> {
        self.windows.get(&stamp)?.cnonce.as_deref()
    }

    /// Notes with which client's nonce the session of a nonce in use began; the first one stays.
    pub(super) fn begin_session(&mut self, stamp: Stamp, cnonce: &[u8]) {
        let window = self.windows.get_mut(&stamp).filter(|_| cnonce.len() <= MAX_CNONCE);
        if let Some(window) = window {
            window.cnonce.get_or_insert_with(|| cnonce.into());
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_nonce_is_known_again_and_a_bent_or_foreign_one_is_not() {
        let mut mint = Mint::new([7; 32], "r".into());
        let now = UNIX_EPOCH + SECOND * 1_000;
        let nonce = mint.make(now);
        assert_eq!(mint.read(&nonce), Some((1_000_000, 1)));
        assert_ne!(mint.make(now), nonce);
        let other = Mint::new([8; 32], "r".into());
        let realm = Mint::new([7; 32], "s".into());
        assert!(other.read(&nonce).is_none() && realm.read(&nonce).is_none());
        for bent in ["", "zz", &nonce[1..], &nonce.replacen('0', "1", 1), &nonce.to_uppercase(), "é"] {
            assert!(mint.read(bent).is_none(), "{bent}");
        }
    }

    #[test]
    fn time_goes_on_where_the_wall_clock_is_set_back() {
        let at = |seconds| UNIX_EPOCH + SECOND * seconds;
        let mut steady = Steady::default();
        let mut read = |wall| steady.read(at(wall)).duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert_eq!([1_000, 1_010].map(&mut read), [1_000, 1_010]);
        assert_eq!([100, 105, 105].map(&mut read), [1_010, 1_015, 1_015], "set back by a quarter of an hour");
        assert_eq!([50, 60].map(&mut read), [1_015, 1_025], "and again");
        assert_eq!([1_026, 1_027].map(&mut read), [1_026, 1_027], "set right");
        let late = UNIX_EPOCH + SECOND * 1_026;
        for _ in 0..100 {
            assert_eq!(steady.read(late + SECOND / 2), at(1_027), "read a little late");
            assert_eq!(steady.read(at(1_027)), at(1_027));
        }
    }

    #[test]
    fn a_count_is_taken_once_in_any_order_within_the_window() {
        let mut window = Window::default();
        assert!(window.take(1) && window.take(3) && window.take(2));
        assert!(!window.take(2) && !window.take(3) && !window.take(0));
        assert!(window.take(100) && !window.take(100) && window.take(99));
        assert!(!window.take(36), "64 behind is too old to tell");
        assert!(window.take(37) && window.take(u32::MAX) && !window.take(100));
    }

    #[test]
    fn a_full_table_forgets_the_oldest_and_never_lets_it_in_again() {
        let now = UNIX_EPOCH + SECOND * 1_000;
        let mut uses = Uses::new(SECOND * 60, 2);
        let stamps = [(999_000, 1), (999_000, 2), (999_500, 3)];
        for stamp in stamps {
            assert_eq!(uses.take(now, stamp, 1), Use::Fresh);
        }
        assert_eq!(uses.len(), 2);
        assert_eq!(uses.take(now, stamps[0], 1), Use::RunOut);
        assert_eq!(uses.take(now, stamps[0], 2), Use::RunOut);
        assert_eq!(uses.take(now, stamps[1], 1), Use::Replayed);
        assert_eq!(uses.take(now, stamps[1], 2), Use::Fresh);
    }

    #[test]
    fn a_session_is_known_by_its_first_cnonce_as_long_as_its_nonce() {
        let now = UNIX_EPOCH + SECOND * 1_000;
        let mut uses = Uses::new(SECOND * 60, 1);
        let stamp = (1_000_000, 1);
        uses.begin_session(stamp, b"early");
        assert_eq!(uses.session(stamp), None, "of a nonce that nobody used rightly nothing is kept");
        uses.take(now, stamp, 1);
        uses.begin_session(stamp, &[b'x'; MAX_CNONCE + 1]);
        assert_eq!(uses.session(stamp), None);
        uses.begin_session(stamp, b"one");
        uses.begin_session(stamp, b"two");
        assert_eq!(uses.session(stamp), Some(&b"one"[..]));
        uses.take(now, (1_000_000, 2), 1);
        assert_eq!(uses.session(stamp), None);
    }

    #[test]
    fn an_old_nonce_has_run_out() {
        let mut uses = Uses::new(SECOND * 60, 100);
        let start = UNIX_EPOCH + SECOND * 1_000;
        let stamp = (1_000_000, 1);
        assert_eq!(uses.take(start, stamp, 1), Use::Fresh);
        assert_eq!(uses.take(start + SECOND * 60, stamp, 2), Use::Fresh);
        assert_eq!(uses.take(start + SECOND * 61, stamp, 3), Use::RunOut);
        assert_eq!(uses.len(), 0);
    }
}
