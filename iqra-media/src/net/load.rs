//! How much a media thread has to do: measured over windows, and whether it is too much for further calls.
//!
//! In: when each round was due, began and ended. Out: the busy share, the lateness, and a verdict that does not flap:
//! one window over a limit makes a thread overloaded, [`CALM`] windows in a row well below all limits end it.
//!
//! A window is judged at the first round that ends after it; a thread that ends none is found out by who asks
//! ([`Gauge::is_overloaded`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::config::Overload;

/// What is averaged over.
const WINDOW: Duration = Duration::from_millis(500);
/// Windows that must be calm before it is over.
const CALM: u32 = 4;
/// A thread with calls that ends no round for so long hangs.
const STALL: Duration = Duration::from_millis(500);
/// Of the rounds of a window, so many may be late.
const LATE_SHARE: f32 = 0.1;

/// How busy media threads are: one, or the busiest of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Share of the time at work, 0 to 1, in the last window of half a second.
    pub busy: f32,
    /// Most that a round began after it was due, in that window.
    pub late: Duration,
    /// Whether no further call is for it.
    pub overloaded: bool,
}

/// What a thread lets others see of its load.
#[derive(Debug)]
pub(super) struct Gauge {
    origin: Instant,
    calls: AtomicUsize,
    /// In thousandths.
    busy: AtomicU32,
    /// In microseconds.
    late: AtomicU32,
    overloaded: AtomicBool,
    /// Of the last round, in nanoseconds since the origin; [`RESTING`] while there is nothing to do.
    alive: AtomicU64,
}

const RESTING: u64 = u64::MAX;

impl Gauge {
    pub(super) fn new(origin: Instant) -> Self {
        Self {
            origin,
            calls: AtomicUsize::new(0),
            busy: AtomicU32::new(0),
            late: AtomicU32::new(0),
            overloaded: AtomicBool::new(false),
            alive: AtomicU64::new(RESTING),
        }
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Counts one call more for as long as what it gives is there.
    pub(super) fn count(self: &Arc<Self>) -> Counted {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    /// Whether it should get no further call at `now`.
    pub(super) fn is_overloaded(&self, now: Instant) -> bool {
        self.overloaded.load(Ordering::Relaxed) || self.hangs(now)
    }

    fn hangs(&self, now: Instant) -> bool {
        let alive = self.alive.load(Ordering::Relaxed);
        alive != RESTING && self.since_origin(now).saturating_sub(alive) > nanos(STALL)
    }

    pub(super) fn load(&self, now: Instant) -> Load {
        Load {
            busy: self.busy.load(Ordering::Relaxed) as f32 / 1_000.0,
            late: Duration::from_micros(self.late.load(Ordering::Relaxed).into()),
            overloaded: self.is_overloaded(now),
        }
    }

    fn since_origin(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.origin))
    }

    fn show(&self, load: Load) {
        self.busy.store((load.busy * 1_000.0) as u32, Ordering::Relaxed);
        self.late.store(u32::try_from(load.late.as_micros()).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.overloaded.store(load.overloaded, Ordering::Relaxed);
    }
}

/// A call that is counted.
pub(super) struct Counted(Arc<Gauge>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(RESTING - 1)
}

/// One window.
#[derive(Debug, Default)]
struct Window {
    busy: Duration,
    rounds: u32,
    late_rounds: u32,
    worst: Duration,
}

/// Measures one thread.
#[derive(Debug)]
pub(super) struct Meter<'g> {
    gauge: &'g Gauge,
    limits: Overload,
    since: Instant,
    window: Window,
    overloaded: bool,
    calm: u32,
}

impl<'g> Meter<'g> {
    pub(super) fn new(gauge: &'g Gauge, limits: Overload, now: Instant) -> Self {
        Self { gauge, limits, since: now, window: Window::default(), overloaded: false, calm: 0 }
    }

    /// A round that was due at `due`, began at `began` and ended at `ended`.
    pub(super) fn round(&mut self, due: Instant, began: Instant, ended: Instant) {
        let late = began.saturating_duration_since(due);
        self.window.busy += ended.saturating_duration_since(began);
        self.window.rounds += 1;
        self.window.late_rounds += u32::from(late >= self.limits.late);
        self.window.worst = self.window.worst.max(late);
        self.gauge.alive.store(self.gauge.since_origin(ended), Ordering::Relaxed);
        let length = ended.saturating_duration_since(self.since);
        if length >= WINDOW {
            self.judge(length);
            self.since = ended;
        }
    }

    /// There is nothing to do until the next round: the last call is gone.
    pub(super) fn rest(&mut self) {
        self.window = Window::default();
        (self.overloaded, self.calm) = (false, 0);
        self.gauge.show(Load::default());
        self.gauge.alive.store(RESTING, Ordering::Relaxed);
    }

    /// There is something to do again at `now`.
    pub(super) fn wake(&mut self, now: Instant) {
        self.since = now;
        self.gauge.alive.store(self.gauge.since_origin(now), Ordering::Relaxed);
    }

    fn judge(&mut self, length: Duration) {
        let window = std::mem::take(&mut self.window);
        let busy = (window.busy.as_secs_f32() / length.as_secs_f32()).min(1.0);
        let late = window.late_rounds as f32 / window.rounds.max(1) as f32;
        let calm = busy < self.limits.busy * 0.75 && late < LATE_SHARE / 2.0;
        self.calm = if calm { self.calm + 1 } else { 0 };
        if busy >= self.limits.busy || late >= LATE_SHARE {
            self.tell(busy, window.worst);
            self.overloaded = true;
        } else if self.calm >= CALM {
            self.overloaded = false;
        }
        self.gauge.show(Load { busy, late: window.worst, overloaded: self.overloaded });
    }

    fn tell(&self, busy: f32, late: Duration) {
        if !self.overloaded {
            tracing::warn!(
                busy,
                ?late,
                calls = self.gauge.calls(),
                "a media thread is overloaded and gets no further calls; add threads, machines, or lower the capacity"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const TICK: Duration = Duration::from_millis(5);

    struct Thread<'g> {
        meter: Meter<'g>,
        now: Instant,
    }

    impl Thread<'_> {
        /// Half a second of rounds: each 5 ms, late by so much, at work for so long.
        fn window(&mut self, late: Duration, work: Duration) {
            for _ in 0..100 {
                self.now += TICK;
                self.meter.round(self.now - late, self.now, self.now + work);
            }
        }
    }

    fn on_thread(run: impl FnOnce(Thread<'_>, &Gauge)) {
        let now = Instant::now();
        let gauge = Gauge::new(now);
        run(Thread { meter: Meter::new(&gauge, Overload::default(), now), now }, &gauge);
    }

    #[test]
    fn a_thread_with_time_to_spare_is_not_overloaded() {
        on_thread(|mut thread, gauge| {
            (0..20).for_each(|_| thread.window(2 * MS, 3 * MS));
            let load = gauge.load(thread.now);
            assert!((0.55..0.65).contains(&load.busy) && load.late == 2 * MS && !load.overloaded, "{load:?}");
        });
    }

    #[test]
    fn a_busy_thread_is_overloaded_until_it_was_calm_for_two_seconds() {
        on_thread(|mut thread, gauge| {
            thread.window(Duration::ZERO, 5 * MS);
            assert!(gauge.is_overloaded(thread.now));
            (0..10).for_each(|_| thread.window(Duration::ZERO, TICK.mul_f32(0.7)));
            assert!(gauge.is_overloaded(thread.now), "below the limit, but not well below");
            (1..CALM).for_each(|_| thread.window(Duration::ZERO, MS));
            assert!(gauge.is_overloaded(thread.now), "not for long enough");
            (0..2).for_each(|_| thread.window(Duration::ZERO, MS));
            assert!(!gauge.is_overloaded(thread.now));
        });
    }

    #[test]
    fn a_thread_that_is_kept_from_running_is_overloaded() {
        on_thread(|mut thread, gauge| {
            thread.window(22 * MS, MS);
            assert!(gauge.is_overloaded(thread.now));
        });
    }

    #[test]
    fn one_late_round_is_no_overload() {
        on_thread(|mut thread, gauge| {
            thread.meter.round(thread.now, thread.now + 100 * MS, thread.now + 101 * MS);
            thread.now += 100 * MS;
            thread.window(Duration::ZERO, MS);
            let load = gauge.load(thread.now);
            assert!(!load.overloaded && load.late == 100 * MS, "{load:?}");
        });
    }

    #[test]
    fn a_thread_that_hangs_is_found_out_and_one_that_rests_is_not() {
        on_thread(|mut thread, gauge| {
            let later = thread.now + 3_600 * Duration::from_secs(1);
            assert!(!gauge.is_overloaded(later), "it never had a call");
            thread.window(Duration::ZERO, MS);
            assert!(!gauge.is_overloaded(thread.now + 400 * MS));
            assert!(gauge.is_overloaded(thread.now + 600 * MS));
            thread.meter.rest();
            assert!(!gauge.is_overloaded(later));
            thread.meter.wake(later);
            assert!(gauge.is_overloaded(later + 600 * MS), "it woke and did nothing");
        });
    }

    #[test]
    fn rest_forgives() {
        on_thread(|mut thread, gauge| {
            thread.window(Duration::ZERO, 5 * MS);
            thread.meter.rest();
            assert_eq!(gauge.load(thread.now), Load::default());
        });
    }
}
