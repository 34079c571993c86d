//! Timers: every wait of the transaction and dialog layers, its length, and one queue for all of them.
//!
//! Goes in: "start this timer of that owner". Comes out: the next deadline, and what fired (RFC 3261 §17, table 4;
//! RFC 6026 §7, §8).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The base intervals from which every timer follows (RFC 3261 §17.1.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timings {
    /// Estimate of the round trip. Default 500 ms; smaller only on closed networks (RFC 3261 §17.1.1.1).
    pub t1: Duration,
    /// Longest interval between retransmissions of a request other than INVITE, and of a response to INVITE.
    /// Default 4 s.
    pub t2: Duration,
    /// Longest time that a message stays in the network. Default 5 s.
    pub t4: Duration,
    /// How long an INVITE waits for an answer by the program before a 100 (Trying) goes out by itself.
    /// Default 200 ms (RFC 3261 §17.2.1).
    pub trying: Duration,
    /// How long an INVITE of ours may ring before it is cancelled. RFC 3261 §16.6 asks more than 3 minutes of a
    /// proxy; a client that never gave up would leak. Default 5 minutes.
    pub ring_limit: Duration,
    /// How long one of several targets of a request may be silent before the next one is tried, 64*T1 at most. Default
    /// 32 s, which is Timer B and F and what RFC 3263 §4.3 asks for; 3 to 6 s is what callers bear.
    pub target_limit: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            trying: Duration::from_millis(200),
            ring_limit: Duration::from_secs(300),
            target_limit: Duration::from_secs(32),
        }
    }
}

/// Every timer of the two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    /// INVITE request retransmission, unreliable only (RFC 3261 §17.1.1.2).
    A,
    /// INVITE client gives up (RFC 3261 §17.1.1.2).
    B,
    /// INVITE client absorbs repeated final responses (RFC 3261 §17.1.1.2).
    D,
    /// Non-INVITE request retransmission, unreliable only (RFC 3261 §17.1.2.2).
    E,
    /// Non-INVITE client gives up (RFC 3261 §17.1.2.2).
    F,
    /// INVITE response retransmission, unreliable only (RFC 3261 §17.2.1).
    G,
    /// INVITE server waits for the ACK (RFC 3261 §17.2.1).
    H,
    /// INVITE server absorbs repeated ACKs (RFC 3261 §17.2.1).
    I,
    /// Non-INVITE server absorbs repeated requests (RFC 3261 §17.2.2).
    J,
    /// Non-INVITE client absorbs repeated responses (RFC 3261 §17.1.2.2).
    K,
    /// INVITE server keeps the accepted transaction (RFC 6026 §7.1).
    L,
    /// INVITE client keeps the accepted transaction (RFC 6026 §7.2).
    M,
    /// The program is silent: send 100 (RFC 3261 §17.2.1).
    AutoTrying,
    /// An INVITE of the peer ends as it said (RFC 3261 §13.3.1).
    Lapse,
    /// Our INVITE has been ringing for too long.
    Ring,
    /// One of several targets is silent (RFC 3263 §4.3).
    Hop,
    /// A cancelled INVITE got no final response (RFC 3261 §9.1).
    Cancelled,
    /// The target of a relayed INVITE has been silent for too long; as long as the plan says.
    Attempt,
    /// Nobody says where the name of a dialog's next hop leads; as long as the configuration says.
    Lookup,
    /// Retransmission of a 2xx to INVITE by the dialog layer, on every transport (RFC 3261 §13.3.1.4).
    Success,
    /// The 2xx to INVITE was never acknowledged (RFC 3261 §13.3.1.4).
    AckWait,
    /// A request that met one of the peer's goes out again (RFC 3261 §14.1).
    Glare,
    /// Time to refresh the session (RFC 4028 §7.4).
    Refresh,
    /// The session was not refreshed (RFC 4028 §10).
    SessionEnd,
    /// The subscription of a REFER ends (RFC 6665 §4.1.2, §4.2.2).
    Subscription,
    /// Retransmission of a reliable provisional response, doubling without bound (RFC 3262 §3).
    Reliable,
    /// The reliable provisional response was never acknowledged (RFC 3262 §3).
    PrackWait,
}

/// An owner has two clocks: one repeats a message, the other ends a state. Starting a timer replaces what ran there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Repeat,
    End,
}

impl Timer {
    pub(crate) fn clock(self) -> Clock {
        match self {
            Timer::A
            | Timer::E
            | Timer::G
            | Timer::AutoTrying
            | Timer::Success
            | Timer::Reliable
            | Timer::Glare
            | Timer::Refresh => Clock::Repeat,
            _ => Clock::End,
        }
    }

    /// How long it runs after `fired` earlier runs; `None` where the transport makes it needless.
    pub(crate) fn length(self, timings: &Timings, reliable: bool, fired: u32) -> Option<Duration> {
        let doubled = timings.t1.saturating_mul(1 << fired.min(16));
        let capped = doubled.min(timings.t2);
        let absorb = |length| if reliable { Duration::ZERO } else { length };
        match self {
            Timer::A => (!reliable).then_some(doubled),
            Timer::E | Timer::G => (!reliable).then_some(capped),
            Timer::Success => Some(capped),
            Timer::Reliable => Some(doubled),
            Timer::B
            | Timer::F
            | Timer::H
            | Timer::L
            | Timer::M
            | Timer::Cancelled
            | Timer::AckWait
            | Timer::PrackWait => Some(timings.t1 * 64),
            Timer::D => Some(absorb(Duration::from_secs(32).max(timings.t1 * 64))),
            Timer::J => Some(absorb(timings.t1 * 64)),
            Timer::I | Timer::K => Some(absorb(timings.t4)),
            Timer::AutoTrying => Some(timings.trying),
            Timer::Ring => Some(timings.ring_limit),
            Timer::Hop => Some(timings.target_limit.min(timings.t1 * 64)),
            // Their lengths are told when they start: see `start_for`.
            Timer::Lapse
            | Timer::Attempt
            | Timer::Lookup
            | Timer::Glare
            | Timer::Refresh
            | Timer::SessionEnd
            | Timer::Subscription => None,
        }
    }
}

/// The two clocks of one owner: what runs, until when, and how often the repeating one has fired.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    repeat: Option<(Timer, Instant)>,
    end: Option<(Timer, Instant)>,
    fired: u32,
}

impl Clocks {
    fn slot(&mut self, clock: Clock) -> &mut Option<(Timer, Instant)> {
        match clock {
            Clock::Repeat => &mut self.repeat,
            Clock::End => &mut self.end,
        }
    }
}

/// One ordered queue of deadlines for every owner `O`; each operation is O(log n) in the timers that run.
#[derive(Debug)]
pub(crate) struct TimerQueue<O: Ord + Copy> {
    queue: BTreeSet<(Instant, O, Timer)>,
    timings: Timings,
}

impl<O: Ord + Copy> TimerQueue<O> {
    pub(crate) fn new(timings: Timings) -> Self {
        Self { queue: BTreeSet::new(), timings }
    }

    /// Starts `timer` at its first interval, or restarts it `fired` doublings on; replaces its clock's timer.
    fn start_at(&mut self, now: Instant, owner: O, clocks: &mut Clocks, timer: Timer, reliable: bool) {
        self.stop_clock(owner, clocks, timer.clock());
        if let Some(length) = timer.length(&self.timings, reliable, clocks.fired) {
            self.run(now + length, owner, clocks, timer);
        }
    }

    fn run(&mut self, until: Instant, owner: O, clocks: &mut Clocks, timer: Timer) {
        *clocks.slot(timer.clock()) = Some((timer, until));
        self.queue.insert((until, owner, timer));
    }

    /// Starts `timer` for a time that the program chose.
    pub(crate) fn start_for(
        &mut self,
        now: Instant,
        owner: O,
        clocks: &mut Clocks,
        timer: Timer,
        length: Duration,
    ) {
        self.stop_clock(owner, clocks, timer.clock());
        self.run(now + length, owner, clocks, timer);
    }

    /// Starts `timer` at its first interval.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        owner: O,
        clocks: &mut Clocks,
        timer: Timer,
        reliable: bool,
    ) {
        if timer.clock() == Clock::Repeat {
            clocks.fired = 0;
        }
        self.start_at(now, owner, clocks, timer, reliable);
    }

    /// Starts a repeating `timer` at twice its last interval.
    pub(crate) fn again(
        &mut self,
        now: Instant,
        owner: O,
        clocks: &mut Clocks,
        timer: Timer,
        reliable: bool,
    ) {
        clocks.fired += 1;
        self.start_at(now, owner, clocks, timer, reliable);
    }

    /// Starts a repeating `timer` at its longest interval.
    pub(crate) fn again_at_t2(
        &mut self,
        now: Instant,
        owner: O,
        clocks: &mut Clocks,
        timer: Timer,
        reliable: bool,
    ) {
        clocks.fired = u32::MAX - 1;
        self.start_at(now, owner, clocks, timer, reliable);
    }

    fn stop_clock(&mut self, owner: O, clocks: &mut Clocks, clock: Clock) {
        if let Some((timer, at)) = clocks.slot(clock).take() {
            self.queue.remove(&(at, owner, timer));
        }
    }

    /// Stops `timer` if it runs.
    pub(crate) fn stop(&mut self, owner: O, clocks: &mut Clocks, timer: Timer) {
        if clocks.slot(timer.clock()).is_some_and(|(running, _)| running == timer) {
            self.stop_clock(owner, clocks, timer.clock());
        }
    }

    /// Stops both clocks of an owner that goes away.
    pub(crate) fn forget(&mut self, owner: O, clocks: &mut Clocks) {
        self.stop_clock(owner, clocks, Clock::Repeat);
        self.stop_clock(owner, clocks, Clock::End);
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|&(at, ..)| at)
    }

    /// Takes one timer that is due; its owner then calls [`Clocks::fire`].
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(O, Timer)> {
        let &(at, owner, timer) = self.queue.first().filter(|&&(at, ..)| at <= now)?;
        self.queue.remove(&(at, owner, timer));
        Some((owner, timer))
    }

    /// How many timers run.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

impl Clocks {
    /// True while either runs.
    pub(crate) fn runs(&self) -> bool {
        self.repeat.is_some() || self.end.is_some()
    }

    /// Notes that `timer` was taken from the queue.
    pub(crate) fn fire(&mut self, timer: Timer) {
        *self.slot(timer.clock()) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(timer: Timer, reliable: bool) -> Vec<u128> {
        let timings = Timings::default();
        (0..6).filter_map(|n| timer.length(&timings, reliable, n)).map(|d| d.as_millis()).collect()
    }

    #[test]
    fn timer_a_doubles_without_bound_and_e_and_g_stop_at_t2() {
        assert_eq!(millis(Timer::A, false), [500, 1000, 2000, 4000, 8000, 16000]);
        assert_eq!(millis(Timer::E, false), [500, 1000, 2000, 4000, 4000, 4000]);
        assert_eq!(millis(Timer::G, false), [500, 1000, 2000, 4000, 4000, 4000]);
    }

    #[test]
    fn a_reliable_transport_never_retransmits_and_absorbs_nothing() {
        assert!(millis(Timer::A, true).is_empty());
        assert!(millis(Timer::E, true).is_empty());
        assert!(millis(Timer::G, true).is_empty());
        for timer in [Timer::D, Timer::I, Timer::J, Timer::K] {
            assert_eq!(millis(timer, true)[0], 0, "{timer:?}");
        }
        assert_eq!(millis(Timer::Success, true)[1], 1000, "a 2xx is repeated on every transport");
    }

    #[test]
    fn starting_a_timer_replaces_the_one_on_its_clock() {
        let (mut queue, mut clocks) = (TimerQueue::new(Timings::default()), Clocks::default());
        let now = Instant::now();
        queue.start(now, 7u64, &mut clocks, Timer::H, false);
        queue.start(now, 7u64, &mut clocks, Timer::I, false);
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.next(), Some(now + Duration::from_secs(5)));
        queue.stop(7, &mut clocks, Timer::H);
        assert_eq!(queue.len(), 1, "stopping a timer that does not run leaves the other alone");
        queue.forget(7, &mut clocks);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn timers_fire_in_the_order_of_their_deadlines_and_only_when_due() {
        let mut queue = TimerQueue::new(Timings::default());
        let (mut one, mut two) = (Clocks::default(), Clocks::default());
        let now = Instant::now();
        queue.start(now, 1u64, &mut one, Timer::B, false);
        queue.start(now, 2u64, &mut two, Timer::A, false);
        assert_eq!(queue.pop(now), None);
        assert_eq!(queue.pop(now + Duration::from_millis(500)), Some((2, Timer::A)));
        two.fire(Timer::A);
        queue.again(now, 2, &mut two, Timer::A, false);
        assert_eq!(queue.next(), Some(now + Duration::from_secs(1)));
        assert_eq!(queue.pop(now + Duration::from_secs(1)), Some((2, Timer::A)));
        assert_eq!(queue.pop(now + Duration::from_secs(40)), Some((1, Timer::B)));
    }
}
