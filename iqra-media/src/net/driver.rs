//! The media driver: ports, threads, and the calls spread over them.
//!
//! In: a negotiation. Out: a [`Line`] for the conversation and a [`Leg`] for the signalling side.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use super::call::Call;
use super::config::{MediaConfig, Overload, Reading};
use super::events::{Bell, Events};
use super::leg::Leg;
use super::load::{Gauge, Load};
use super::ports::{MediaPort, Ports, PortsExhausted};
use super::thread::{Order, Orders, Waking, Worker};
use crate::codec::Registry;
use crate::conversation::{Direction, Formats, Limits, Line, line};
use crate::quality::MediaReport;
#[cfg(feature = "webrtc")]
use crate::rtp::dtls::Certificate;
#[cfg(feature = "webrtc")]
use crate::sdp::Fingerprint;
use crate::sdp::Negotiated;
use crate::session::recording::Tap;
use crate::session::{Config, MediaSession, Plan, PlanError};

/// What one call may want differently.
#[derive(Debug, Default)]
pub struct CallOptions {
    /// What its line may hold.
    pub limits: Limits,
    /// How its media is handled.
    pub session: Config,
    /// Records both directions.
    pub recording: Option<Tap>,
}

/// What is open and what was refused, for tests and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Media sessions.
    pub sessions: usize,
    /// Ports reserved or in a session; resting ports do not count.
    pub ports: usize,
    /// Calls refused for overload since the start.
    pub refused: u64,
}

/// Why a call gets no media.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The media threads have as much to do as they can.
    #[error(
        "the media threads are overloaded: {:.0} % busy, up to {:?} late; add threads or machines, lower the capacity, \
         or raise the limits of overload",
        .0.busy * 100.0, .0.late
    )]
    Overloaded(Load),
    /// No port is free.
    #[error(transparent)]
    Ports(#[from] PortsExhausted),
}

/// What plans are made from.
pub(super) struct PlanParts {
    codecs: Registry,
    #[cfg(feature = "webrtc")]
    certificate: Option<Certificate>,
}

impl PlanParts {
    #[cfg_attr(not(feature = "webrtc"), expect(unused_variables, reason = "DTLS alone asks for the time"))]
    pub(super) fn plan(
        &self,
        negotiated: Negotiated,
        formats: Formats,
        now: Instant,
    ) -> Result<Plan, PlanError> {
        #[cfg(feature = "webrtc")]
        if let Some(certificate) = &self.certificate {
            return Plan::webrtc(negotiated, formats, &self.codecs, certificate, now);
        }
        Plan::new(negotiated, formats, &self.codecs)
    }
}

struct Thread {
    orders: Orders,
    gauge: Arc<Gauge>,
}

/// What handles and legs share; the last one to go stops the threads.
pub(super) struct Inner {
    ports: Ports,
    pub(super) parts: PlanParts,
    threads: Vec<Thread>,
    running: Mutex<Vec<JoinHandle<()>>>,
    last_id: AtomicU64,
    overload: Overload,
    turned_away: AtomicBool,
    refused: AtomicU64,
}

impl Inner {
    fn stop(&self) {
        for thread in &self.threads {
            thread.orders.send(Order::Stop);
        }
    }

    fn is_overloaded(&self, now: Instant) -> bool {
        let turned_away = self.turned_away.load(Ordering::Relaxed);
        turned_away
            || (self.overload.refuse && self.threads.iter().all(|thread| thread.gauge.is_overloaded(now)))
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The media side of a program: clones are handles on the same threads. The threads stop when the last handle and
/// the last [`Leg`] are gone, or at [`shutdown`](Self::shutdown).
#[derive(Debug, Clone)]
pub struct MediaDriver {
    inner: Arc<Inner>,
}

impl MediaDriver {
    /// Starts the threads; they sleep until there is a call.
    ///
    /// # Errors
    /// Of the kind `InvalidInput` with a [`ConfigFault`](super::ConfigFault) when the configuration cannot be, else what
    /// the system refuses: a thread, or a descriptor to wait at.
    pub fn start(config: MediaConfig) -> io::Result<Self> {
        config.check().map_err(|fault| io::Error::new(io::ErrorKind::InvalidInput, fault))?;
        let (mut threads, mut running) = (Vec::new(), Vec::new());
        for number in 0..config.threads {
            let (thread, worker) = prepare(&config)?;
            let name = format!("iqra-media-{number}");
            running.push(std::thread::Builder::new().name(name).spawn(move || worker.run())?);
            threads.push(thread);
        }
        let parts = PlanParts {
            codecs: config.codecs,
            #[cfg(feature = "webrtc")]
            certificate: config.certificate,
        };
        let inner = Inner {
            ports: Ports::new(config.bind, &config.ports, config.reserves),
            parts,
            threads,
            running: Mutex::new(running),
            last_id: AtomicU64::new(0),
            overload: config.overload,
            turned_away: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Admits a call and binds a free port for it, so that SDP can name it. Dropping it unused frees it.
    ///
    /// # Errors
    /// [`Unavailable::Overloaded`] while every thread is, [`Unavailable::Ports`] when no port is free for a call of this
    /// direction.
    pub fn reserve(&self, direction: Direction) -> Result<MediaPort, Unavailable> {
        let now = Instant::now();
        if self.inner.is_overloaded(now) {
            self.inner.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Unavailable::Overloaded(self.load_at(now)));
        }
        Ok(self.inner.ports.reserve(direction)?)
    }

    /// How busy the busiest thread is, and whether further calls are refused.
    pub fn load(&self) -> Load {
        self.load_at(Instant::now())
    }

    fn load_at(&self, now: Instant) -> Load {
        let loads = self.inner.threads.iter().map(|thread| thread.gauge.load(now));
        let busiest = loads.fold(Load::default(), |a, b| Load {
            busy: a.busy.max(b.busy),
            late: a.late.max(b.late),
            overloaded: false,
        });
        Load { overloaded: self.inner.is_overloaded(now), ..busiest }
    }

    /// Turns further calls away as under overload, until told otherwise: for programs that measure what media threads do
    /// not see, such as the memory or the processors that conversations take.
    pub fn turn_away(&self, further_calls: bool) {
        self.inner.turned_away.store(further_calls, Ordering::Relaxed);
    }

    /// The codecs that negotiations may name, for `sdp::Capabilities`.
    pub fn codecs(&self) -> &Registry {
        &self.inner.parts.codecs
    }

    /// What its certificate is called in SDP; `None` without one.
    #[cfg(feature = "webrtc")]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.inner.parts.certificate.as_ref().map(|certificate| Fingerprint(certificate.fingerprint()))
    }

    /// Opens a call's media on the thread with the fewest calls.
    ///
    /// # Errors
    /// [`PlanError`] when the codec is not among the driver's.
    pub fn open(
        &self,
        port: MediaPort,
        negotiated: Negotiated,
        formats: Formats,
    ) -> Result<(Line, Leg), PlanError> {
        self.open_with(port, negotiated, formats, CallOptions::default())
    }

    /// [`open`](Self::open) with options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        &self,
        port: MediaPort,
        negotiated: Negotiated,
        formats: Formats,
        options: CallOptions,
    ) -> Result<(Line, Leg), PlanError> {
        let now = Instant::now();
        let plan = self.inner.parts.plan(negotiated, formats, now)?;
        let (line, end, commands) = line(formats, &options.limits);
        let (seed, wall) = (fastrand::u64(..), SystemTime::now());
        let session = MediaSession::new(plan, options.session, end, options.recording, seed, now, wall);
        let report = Arc::new(Mutex::new(MediaReport::default()));
        let id = self.inner.last_id.fetch_add(1, Ordering::Relaxed);
        let thread = self.thread_for_one_more(now);
        let call = Call::new(id, port, session, report.clone(), thread.gauge.count(), now);
        thread.orders.send(Order::Open(Box::new(call)));
        let orders = thread.orders.clone();
        let speaking = line.speaking().clone();
        let driver = self.inner.clone();
        Ok((line, Leg { id, orders, commands, speaking, report, formats, driver }))
    }

    /// A call that has a port was admitted: it gets a thread even if all are overloaded by now.
    fn thread_for_one_more(&self, now: Instant) -> &Thread {
        let threads = self.inner.threads.iter();
        let best = threads.min_by_key(|thread| (thread.gauge.is_overloaded(now), thread.gauge.calls()));
        best.expect("a driver has at least one thread")
    }

    /// What is open.
    pub fn counts(&self) -> Counts {
        let sessions = self.inner.threads.iter().map(|thread| thread.gauge.calls()).sum();
        let refused = self.inner.refused.load(Ordering::Relaxed);
        Counts { sessions, ports: self.inner.ports.in_use(), refused }
    }

    /// Ends every call with a BYE of RTCP and waits for the threads, one beat at most. Calls should have been hung up before.
    /// Calls opened afterwards end immediately.
    pub fn shutdown(&self) {
        self.inner.stop();
        let threads = std::mem::take(&mut *self.inner.running.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a media thread had panicked");
            }
        }
    }
}

/// A thread before it is started, and the way to it.
fn prepare(config: &MediaConfig) -> io::Result<(Thread, Worker)> {
    let (channel, orders) = channel();
    let (waking, bell) = match config.reading {
        Reading::Tick(beat) => (Waking::Tick(beat), Bell::default()),
        Reading::Events => {
            let (events, bell) = Events::new()?;
            (Waking::Events(events), bell)
        }
    };
    let gauge = Arc::new(Gauge::new(Instant::now()));
    let worker = Worker { orders, waking, gauge: gauge.clone(), overload: config.overload };
    Ok((Thread { orders: Orders { channel, bell }, gauge }, worker))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::load::Meter;
    use super::*;
    use crate::codec::g711::PCMU;
    use crate::conversation::AudioFormat;

    /// Its threads find themselves overloaded by nothing that a machine under tests does to them.
    fn driver(ports: std::ops::RangeInclusive<u16>, threads: usize, refuse: bool) -> MediaDriver {
        let overload = Overload { refuse, busy: 1.0, late: Duration::from_secs(1) };
        let config =
            MediaConfig { ports, threads, overload, bind: [127, 0, 0, 1].into(), ..MediaConfig::default() };
        MediaDriver::start(config).unwrap()
    }

    /// As if this thread had been at work for a second without a pause, ending now.
    fn overload(driver: &MediaDriver, thread: usize) {
        let now = Instant::now();
        let begun = now - Duration::from_secs(1);
        let mut meter = Meter::new(&driver.inner.threads[thread].gauge, Overload::default(), begun);
        meter.round(begun, begun, now);
    }

    #[test]
    fn a_call_is_refused_while_every_thread_is_overloaded() {
        let driver = driver(34_600..=34_619, 2, true);
        overload(&driver, 0);
        assert!(driver.reserve(Direction::Inbound).is_ok() && !driver.load().overloaded, "one has room");
        overload(&driver, 1);
        let refused = driver.reserve(Direction::Inbound).unwrap_err();
        assert!(matches!(refused, Unavailable::Overloaded(load) if load.busy > 0.99), "{refused}");
        assert!(
            refused.to_string().contains("100 % busy") && refused.to_string().contains("add"),
            "{refused}"
        );
        assert_eq!((driver.counts().refused, driver.load().overloaded), (1, true));
    }

    #[test]
    fn a_driver_that_refuses_nobody_still_tells() {
        let driver = driver(34_620..=34_639, 1, false);
        overload(&driver, 0);
        assert!(driver.reserve(Direction::Outbound).is_ok());
        assert!(driver.load().busy > 0.99 && !driver.load().overloaded);
    }

    #[test]
    fn calls_go_to_the_thread_with_the_fewest_that_is_not_overloaded() {
        let driver = driver(34_640..=34_659, 3, true);
        overload(&driver, 1);
        let open = || {
            let port = driver.reserve(Direction::Inbound).unwrap();
            let negotiated = Negotiated::new(PCMU, ([127, 0, 0, 1], 9).into());
            driver.open(port, negotiated, Formats::both(AudioFormat::HZ_8000)).unwrap()
        };
        let _open: Vec<_> = (0..4).map(|_| open()).collect();
        let calls: Vec<_> = driver.inner.threads.iter().map(|thread| thread.gauge.calls()).collect();
        assert_eq!(calls, [2, 0, 2]);
    }

    #[test]
    fn a_program_may_turn_calls_away() {
        let driver = driver(34_660..=34_679, 1, true);
        driver.turn_away(true);
        assert!(matches!(driver.reserve(Direction::Inbound), Err(Unavailable::Overloaded(_))));
        assert!(driver.load().overloaded);
        driver.turn_away(false);
        assert!(driver.reserve(Direction::Inbound).is_ok());
    }
}
