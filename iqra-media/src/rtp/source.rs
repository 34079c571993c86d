//! Who may send to us, and where we send: symmetric RTP with a lock (RFC 4961; the attacks are those of RFC 7362 §4).
//!
//! SDP names the peer's address, but behind a NAT the packets come from another one and ours must go there. Whoever
//! finds the port first must not get the call, so a source proves itself before we listen to it, and then it is the
//! only one. What a stranger sends is refused: it reaches neither ear nor statistics, and turns nothing round.
//!
//! When the lock may move:
//! - the signalled address takes it with its first packet, from whoever was quicker as well; from then on no other
//!   address gets the lock (`Auto`);
//! - another address may take it after [`PROBATION`] packets in a row with nobody else between them, if nobody has
//!   it or the holder has been silent for [`RELOCK_SILENCE`] (`Auto` and `On`);
//! - a new SDP answer with another address starts over, unless ICE goes on: what it chose stays.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Packets in a row that a source other than the signalled one must send; the last of them is the first accepted.
pub const PROBATION: u8 = 3;
/// How long the holder of the lock must be silent before another source can take it.
pub const RELOCK_SILENCE: Duration = Duration::from_secs(2);

/// How far the address in SDP binds the media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SymmetricRtp {
    /// The signalled address if it sends, else the one that sends (after probation). The default.
    #[default]
    Auto,
    /// Always the address that sends, after probation; the signalled one has no preference.
    On,
    /// Only the signalled address and port.
    Off,
}

/// Answer of [`SourceLock::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From our peer.
    Accept,
    /// From somebody else: drop it.
    Refuse,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    address: SocketAddr,
    heard: Instant,
}

/// The lock on one call's media source.
#[derive(Clone, Debug)]
pub struct SourceLock {
    mode: SymmetricRtp,
    signalled: SocketAddr,
    holder: Option<Holder>,
    candidate: Option<(SocketAddr, u8)>,
    nominated: bool,
    refused: u64,
}

impl SourceLock {
    /// A lock that nobody holds; `signalled` is the address in the peer's SDP.
    pub fn new(mode: SymmetricRtp, signalled: SocketAddr) -> Self {
        Self { mode, signalled, holder: None, candidate: None, nominated: false, refused: 0 }
    }

    /// Judges one packet that arrived at `now` from `from`. Call it only with well-formed RTP, so that junk does not
    /// count as a sign of life.
    pub fn check(&mut self, now: Instant, from: SocketAddr) -> Source {
        let accepted = match self.holder {
            Some(holder) if holder.address == from => true,
            Some(holder) => self.may_move(now, holder, from) && self.proves_itself(from),
            None => self.proves_itself(from),
        };
        if !accepted {
            self.refused += 1;
            return Source::Refuse;
        }
        self.candidate = None;
        self.holder = Some(Holder { address: from, heard: now });
        Source::Accept
    }

    /// Where to send: the locked source, else the signalled address.
    pub fn target(&self) -> SocketAddr {
        self.holder.map_or(self.signalled, |h| h.address)
    }

    /// The source that holds the lock.
    pub fn locked(&self) -> Option<SocketAddr> {
        self.holder.map(|h| h.address)
    }

    /// Packets refused so far.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes the address of a new offer or answer; another one than before starts over.
    pub fn renegotiated(&mut self, signalled: SocketAddr) {
        self.nominated = false;
        if signalled != self.signalled {
            *self = Self { refused: self.refused, ..Self::new(self.mode, signalled) };
        }
    }

    /// The same while ICE goes on: the address in SDP is but a guess once one was nominated.
    pub fn renegotiated_within_ice(&mut self, signalled: SocketAddr) {
        if !self.nominated {
            self.renegotiated(signalled);
        }
    }

    /// The far end chose this address and proved that it is the far end (ICE): it counts as signalled from now on, and
    /// its packets need no probation.
    pub fn nominated(&mut self, address: SocketAddr) {
        if self.signalled != address {
            *self = Self { refused: self.refused, ..Self::new(self.mode, address) };
        }
        self.nominated = true;
    }

    fn may_move(&self, now: Instant, holder: Holder, from: SocketAddr) -> bool {
        let silent = now.saturating_duration_since(holder.heard) >= RELOCK_SILENCE;
        match self.mode {
            SymmetricRtp::Auto if from == self.signalled => true,
            SymmetricRtp::Auto => silent && holder.address != self.signalled,
            SymmetricRtp::On | SymmetricRtp::Off => silent,
        }
    }

    fn proves_itself(&mut self, from: SocketAddr) -> bool {
        match self.mode {
            SymmetricRtp::Off => from == self.signalled,
            SymmetricRtp::Auto if from == self.signalled => true,
            SymmetricRtp::Auto | SymmetricRtp::On => self.passes_probation(from),
        }
    }

    fn passes_probation(&mut self, from: SocketAddr) -> bool {
        let count = match self.candidate {
            Some((address, count)) if address == from => count + 1,
            _ => 1,
        };
        self.candidate = Some((from, count));
        count >= PROBATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Source::{Accept, Refuse};

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    const SIGNALLED: u16 = 4000;

    struct Call {
        lock: SourceLock,
        now: Instant,
    }

    impl Call {
        fn new(mode: SymmetricRtp) -> Self {
            Self { lock: SourceLock::new(mode, at(SIGNALLED)), now: Instant::now() }
        }

        fn hears(&mut self, port: u16) -> Source {
            self.now += Duration::from_millis(20);
            self.lock.check(self.now, at(port))
        }

        fn hears_times(&mut self, count: usize, port: u16) -> Vec<Source> {
            (0..count).map(|_| self.hears(port)).collect()
        }
    }

    #[test]
    fn auto_takes_the_signalled_address_at_once() {
        let mut call = Call::new(SymmetricRtp::Auto);
        assert_eq!(call.hears(SIGNALLED), Accept);
        assert_eq!(call.hears_times(10, 5000), [Refuse; 10]);
        assert_eq!((call.lock.target(), call.lock.refused()), (at(SIGNALLED), 10));
    }

    #[test]
    fn auto_follows_a_nat_after_probation() {
        let mut call = Call::new(SymmetricRtp::Auto);
        assert_eq!(call.hears_times(4, 5000), [Refuse, Refuse, Accept, Accept]);
        assert_eq!(call.lock.target(), at(5000));
    }

    #[test]
    fn auto_never_leaves_the_signalled_address_by_itself() {
        let mut call = Call::new(SymmetricRtp::Auto);
        call.hears(SIGNALLED);
        call.now += RELOCK_SILENCE * 10;
        assert_eq!(call.hears_times(5, 5000), [Refuse; 5]);
    }

    #[test]
    fn packets_of_two_strangers_between_each_other_prove_nothing() {
        let mut call = Call::new(SymmetricRtp::On);
        for _ in 0..10 {
            assert_eq!([call.hears(5000), call.hears(6000)], [Refuse, Refuse]);
        }
        assert_eq!((call.lock.locked(), call.lock.target()), (None, at(SIGNALLED)));
    }

    #[test]
    fn a_stranger_cannot_take_the_lock_while_its_holder_speaks() {
        let mut call = Call::new(SymmetricRtp::On);
        call.hears_times(3, 5000);
        for _ in 0..200 {
            assert_eq!(call.hears(6000), Refuse);
            assert_eq!(call.hears(5000), Accept);
        }
        assert_eq!(call.lock.target(), at(5000));
    }

    #[test]
    fn after_silence_of_the_holder_another_source_can_prove_itself() {
        let mut call = Call::new(SymmetricRtp::On);
        call.hears_times(3, 5000);
        call.now += RELOCK_SILENCE;
        assert_eq!(call.hears_times(3, 6000), [Refuse, Refuse, Accept]);
        assert_eq!(call.hears(5000), Refuse);
    }

    #[test]
    fn the_signalled_address_takes_the_lock_from_a_stranger_who_was_quicker() {
        let mut call = Call::new(SymmetricRtp::Auto);
        assert_eq!(call.hears_times(4, 5000), [Refuse, Refuse, Accept, Accept]);
        assert_eq!(call.hears(SIGNALLED), Accept);
        assert_eq!(call.hears_times(10, 5000), [Refuse; 10]);
        assert_eq!(call.lock.target(), at(SIGNALLED));
    }

    #[test]
    fn off_accepts_the_signalled_address_and_port_only() {
        let mut call = Call::new(SymmetricRtp::Off);
        assert_eq!(call.hears_times(10, 5000), [Refuse; 10]);
        assert_eq!(call.hears(SIGNALLED), Accept);
    }

    #[test]
    fn a_nominated_address_takes_the_lock_at_once_whoever_has_it() {
        for mode in [SymmetricRtp::Auto, SymmetricRtp::Off] {
            let mut call = Call::new(mode);
            call.hears(SIGNALLED);
            call.lock.nominated(at(7000));
            assert_eq!(call.lock.target(), at(7000));
            assert_eq!((call.hears(7000), call.hears(SIGNALLED)), (Accept, Refuse), "{mode:?}");
        }
    }

    #[test]
    fn what_ice_chose_stays_while_ice_goes_on() {
        let mut call = Call::new(SymmetricRtp::Auto);
        call.lock.renegotiated_within_ice(at(6000));
        assert_eq!(call.lock.target(), at(6000), "nothing was chosen yet");
        call.lock.nominated(at(7000));
        call.lock.renegotiated_within_ice(at(SIGNALLED));
        assert_eq!(call.lock.target(), at(7000));
        call.lock.renegotiated(at(7000));
        call.lock.renegotiated_within_ice(at(SIGNALLED));
        assert_eq!(call.lock.target(), at(SIGNALLED), "ICE began anew");
    }

    #[test]
    fn a_new_address_in_sdp_starts_over() {
        let mut call = Call::new(SymmetricRtp::Auto);
        call.hears(SIGNALLED);
        call.lock.renegotiated(at(SIGNALLED));
        assert_eq!(call.lock.locked(), Some(at(SIGNALLED)), "the same address changes nothing");
        call.lock.renegotiated(at(7000));
        assert_eq!((call.lock.locked(), call.lock.target()), (None, at(7000)));
    }
}
