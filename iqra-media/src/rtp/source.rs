//! Who may send to us, and where we send: symmetric RTP with a lock (RFC 4961; the attacks are those of RFC 7362 §4).
//!
//! SDP names the peer's address, but behind a NAT the packets come from another one and ours must go there. Whoever
//! finds the port first must not get the call, so a source proves itself before we listen to it, and then it is the
//! only one. What a stranger sends is refused: it reaches neither ear nor statistics, and turns nothing round.
//!
//! When the lock may move:
//! - the signalled address takes it with its first packet, from whoever was quicker as well (`Auto`);
//! - a packet that SRTP vouches for takes it at once, unless ICE has chosen (`Auto` and `On`);
//! - another address may take it by [`PROBATION`] packets of one stream in order, if nobody has it or the holder has
//!   been silent for [`RELOCK_SILENCE`] (`Auto` and `On`). From the signalled address it goes so to another port of the
//!   same address alone, for a stream that goes on where the holder's ended (`Auto`): its NAT gave the far end another
//!   port, and whoever does not hear the call cannot name the stream;
//! - a new SDP answer with another address starts over, unless ICE goes on: what it chose stays.
//!
//! Up to [`CANDIDATES`] addresses prove themselves side by side, so that strangers do not keep the far end out by
//! sending between its packets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::packet::Packet;
use super::reception::MAX_DROPOUT;

/// Packets in a row that a source other than the signalled one must send; the last of them is the first accepted.
pub const PROBATION: u8 = 3;
/// How long the holder of the lock must be silent before another source can take it.
pub const RELOCK_SILENCE: Duration = Duration::from_secs(2);

/// Addresses that may prove themselves at the same time; of one more, the one that was heard longest ago is forgotten.
pub const CANDIDATES: usize = 8;

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

/// What a packet says of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its stream.
    pub ssrc: u32,
    /// Its sequence number.
    pub sequence: u16,
    /// Whether SRTP vouches for it.
    pub is_authentic: bool,
}

impl Claim {
    /// That of a packet that is in the clear by now.
    pub fn of(packet: &Packet<'_>, is_authentic: bool) -> Self {
        Self { ssrc: packet.ssrc(), sequence: packet.sequence(), is_authentic }
    }

    /// Whether the stream of `before` goes on with it.
    fn follows(self, before: Self) -> bool {
        let ahead = self.sequence.wrapping_sub(before.sequence);
        self.ssrc == before.ssrc && (1..MAX_DROPOUT).contains(&ahead)
    }
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
    last: Claim,
}

/// An address that proves itself.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    address: SocketAddr,
    last: Claim,
    packets: u8,
}

/// The lock on one call's media source.
#[derive(Clone, Debug)]
pub struct SourceLock {
    mode: SymmetricRtp,
    signalled: SocketAddr,
    holder: Option<Holder>,
    /// The one heard last comes first.
    candidates: [Option<Candidate>; CANDIDATES],
    nominated: bool,
    refused: u64,
}

impl SourceLock {
    /// A lock that nobody holds; `signalled` is the address in the peer's SDP.
    pub fn new(mode: SymmetricRtp, signalled: SocketAddr) -> Self {
        Self { mode, signalled, holder: None, candidates: [None; CANDIDATES], nominated: false, refused: 0 }
    }

    /// Judges one packet that arrived at `now` from `from`. Call it only with well-formed RTP, so that junk does not
    /// count as a sign of life.
    pub fn check(&mut self, now: Instant, from: SocketAddr, claim: Claim) -> Source {
        let accepted = match self.holder {
            Some(holder) if holder.address == from => true,
            Some(holder) => self.may_move(now, holder, from, claim) && self.proves_itself(from, claim),
            None => self.proves_itself(from, claim),
        };
        if !accepted {
            self.refused += 1;
            return Source::Refuse;
        }
        if self.locked() != Some(from) {
            self.candidates = [None; CANDIDATES];
        }
        self.holder = Some(Holder { address: from, heard: now, last: claim });
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

    fn may_move(&self, now: Instant, holder: Holder, from: SocketAddr, claim: Claim) -> bool {
        let silent = now.saturating_duration_since(holder.heard) >= RELOCK_SILENCE;
        let moved = from.ip() == holder.address.ip() && claim.follows(holder.last);
        match self.mode {
            _ if self.is_vouched_for(from, claim) => true,
            SymmetricRtp::Auto if from == self.signalled => true,
            SymmetricRtp::Auto => silent && (holder.address != self.signalled || moved),
            SymmetricRtp::On | SymmetricRtp::Off => silent,
        }
    }

    fn proves_itself(&mut self, from: SocketAddr, claim: Claim) -> bool {
        match self.mode {
            SymmetricRtp::Off => from == self.signalled,
            _ if self.is_vouched_for(from, claim) => true,
            SymmetricRtp::Auto if from == self.signalled => true,
            SymmetricRtp::Auto | SymmetricRtp::On => self.passes_probation(from, claim),
        }
    }

    /// By SRTP, or by ICE: what that chose is not turned round by packets.
    fn is_vouched_for(&self, from: SocketAddr, claim: Claim) -> bool {
        if self.nominated { from == self.signalled } else { claim.is_authentic }
    }

    fn passes_probation(&mut self, from: SocketAddr, last: Claim) -> bool {
        let known = self.candidates.iter().position(|c| c.is_some_and(|c| c.address == from));
        let at = known.unwrap_or(CANDIDATES - 1);
        let before = self.candidates[at].filter(|c| c.address == from && last.follows(c.last));
        let packets = before.map_or(1, |before| before.packets + 1);
        self.candidates[at] = Some(Candidate { address: from, last, packets });
        self.candidates[..=at].rotate_right(1);
        packets >= PROBATION
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
        /// The next sequence number of every port's stream; the port is its SSRC.
        sequence: u16,
    }

    impl Call {
        fn new(mode: SymmetricRtp) -> Self {
            Self { lock: SourceLock::new(mode, at(SIGNALLED)), now: Instant::now(), sequence: 0 }
        }

        fn hears(&mut self, port: u16) -> Source {
            self.hears_stream(at(port), port.into(), false)
        }

        fn hears_stream(&mut self, from: SocketAddr, ssrc: u32, is_authentic: bool) -> Source {
            self.now += Duration::from_millis(20);
            self.sequence += 1;
            self.lock.check(self.now, from, Claim { ssrc, sequence: self.sequence, is_authentic })
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
    fn strangers_between_its_packets_do_not_keep_the_far_end_out() {
        let mut call = Call::new(SymmetricRtp::Auto);
        for round in 0..3 {
            for stranger in 0..7 {
                // They know no stream that goes on.
                assert_eq!(
                    call.hears_stream(at(6000 + stranger), 10 * round + u32::from(stranger), false),
                    Refuse
                );
            }
            assert_eq!(call.hears(5000), if round == 2 { Accept } else { Refuse });
        }
        assert_eq!(call.lock.target(), at(5000));
    }

    #[test]
    fn packets_that_are_no_stream_prove_nothing() {
        let mut call = Call::new(SymmetricRtp::On);
        for packet in 0..20 {
            assert_eq!(call.hears_stream(at(5000), packet, false), Refuse, "another stream each");
            let repeated = Claim { ssrc: 7, sequence: 9, is_authentic: false };
            assert_eq!(call.lock.check(call.now, at(6000), repeated), Refuse, "the same packet again");
        }
        assert_eq!((call.lock.locked(), call.lock.target()), (None, at(SIGNALLED)));
    }

    #[test]
    fn after_silence_the_signalled_address_may_go_on_from_another_port() {
        let other_host = SocketAddr::from(([192, 0, 2, 9], 5000));
        for (from, ssrc, moves) in [(at(5000), 1, true), (at(5000), 2, false), (other_host, 1, false)] {
            let mut call = Call::new(SymmetricRtp::Auto);
            assert_eq!(call.hears_stream(at(SIGNALLED), 1, false), Accept);
            assert_eq!(call.hears_stream(from, ssrc, false), Refuse, "the signalled one speaks");
            call.now += RELOCK_SILENCE;
            let heard: Vec<_> = (0..4).map(|_| call.hears_stream(from, ssrc, false)).collect();
            assert_eq!(heard[2..] == [Accept, Accept], moves, "{from} as {ssrc}: {heard:?}");
            assert_eq!(call.hears_stream(at(SIGNALLED), 1, false), Accept, "it comes back");
            assert_eq!(call.lock.target(), at(SIGNALLED));
        }
    }

    #[test]
    fn what_srtp_vouches_for_takes_the_lock_at_once_but_not_from_what_ice_or_sdp_chose() {
        let elsewhere = SocketAddr::from(([192, 0, 2, 9], 5000));
        for mode in [SymmetricRtp::Auto, SymmetricRtp::On] {
            let mut call = Call::new(mode);
            call.hears_stream(at(SIGNALLED), 1, true);
            assert_eq!(call.hears_stream(elsewhere, 1, true), Accept, "{mode:?}");
            assert_eq!(call.lock.target(), elsewhere);
            call.lock.nominated(at(7000));
            assert_eq!(call.hears_stream(at(7000), 1, true), Accept);
            assert_eq!(call.hears_stream(elsewhere, 1, true), Refuse, "{mode:?}");
        }
        let mut call = Call::new(SymmetricRtp::Off);
        assert_eq!(call.hears_stream(elsewhere, 1, true), Refuse);
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
