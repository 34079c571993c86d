//! The media driver: ports, threads, and the calls spread over them.
//!
//! In: a negotiation. Out: a [`Line`] for the conversation and a [`Leg`] for the signalling side.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::leg::Leg;
use super::ports::{MediaPort, Ports, PortsExhausted};
use super::thread::{Call, Order, Sweeper};
use crate::codec::Registry;
use crate::conversation::{Formats, Limits, Line, line};
use crate::quality::MediaReport;
#[cfg(feature = "webrtc")]
use crate::rtp::dtls::Certificate;
#[cfg(feature = "webrtc")]
use crate::sdp::IceLite;
use crate::sdp::Negotiated;
use crate::session::recording::Tap;
use crate::session::{Config, MediaSession, Plan, PlanError};

/// How a driver is set up.
#[derive(Debug, Clone)]
pub struct MediaConfig {
    /// RTP ports; even ones are used. Default 20000-29999, five thousand calls.
    pub ports: RangeInclusive<u16>,
    /// The address that ports are bound to. Default 0.0.0.0.
    pub bind: IpAddr,
    /// Threads that own the calls. Default 1, which carries hundreds.
    pub threads: usize,
    /// The beat on which sockets are swept. Default 5 ms; it delays a packet by half of that on average.
    pub tick: Duration,
    /// The codecs that negotiations may name.
    pub codecs: Registry,
    /// What this side shows in handshakes of DTLS; its fingerprint goes into the SDP. Default `None`: no DTLS.
    #[cfg(feature = "webrtc")]
    pub certificate: Option<Certificate>,
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            ports: 20_000..=29_999,
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            threads: 1,
            tick: Duration::from_millis(5),
            codecs: Registry::default(),
            #[cfg(feature = "webrtc")]
            certificate: None,
        }
    }
}

/// What one call may want differently.
#[derive(Debug, Default)]
pub struct CallOptions {
    /// What its line may hold.
    pub limits: Limits,
    /// How its media is handled.
    pub session: Config,
    /// Records both directions.
    pub recording: Option<Tap>,
    /// The ICE credentials that our SDP names; the checks of the far end are answered.
    #[cfg(feature = "webrtc")]
    pub ice: Option<IceLite>,
}

/// What is open, for tests and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Media sessions.
    pub sessions: usize,
    /// Ports reserved or in a session; resting ports do not count.
    pub ports: usize,
}

/// What plans are made from.
pub(super) struct PlanParts {
    codecs: Registry,
    #[cfg(feature = "webrtc")]
    certificate: Option<Certificate>,
}

impl PlanParts {
    #[cfg_attr(not(feature = "webrtc"), expect(unused_variables, reason = "DTLS and ICE alone ask for them"))]
    pub(super) fn plan(
        &self,
        negotiated: Negotiated,
        formats: Formats,
        options: &CallOptions,
        now: Instant,
    ) -> Result<Plan, PlanError> {
        #[cfg(feature = "webrtc")]
        if let Some(certificate) = &self.certificate {
            let ice = options.ice.as_ref();
            return Plan::webrtc(negotiated, formats, &self.codecs, certificate, ice, now);
        }
        Plan::new(negotiated, formats, &self.codecs)
    }
}

struct Worker {
    orders: Sender<Order>,
    load: Arc<AtomicUsize>,
}

/// What handles and legs share; the last one to go stops the threads.
pub(super) struct Inner {
    ports: Ports,
    pub(super) parts: PlanParts,
    workers: Vec<Worker>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    last_id: AtomicU64,
}

impl Inner {
    fn stop(&self) {
        for worker in &self.workers {
            let _ = worker.orders.send(Order::Stop);
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("threads", &self.workers.len()).finish_non_exhaustive()
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
    /// When the system refuses a thread, or `bind` is none of its addresses.
    pub fn start(config: MediaConfig) -> io::Result<Self> {
        check_address(config.bind)?;
        let mut threads = Vec::new();
        let mut workers = Vec::new();
        for number in 0..config.threads.max(1) {
            let (orders, to_obey) = channel();
            let load = Arc::new(AtomicUsize::new(0));
            let beat = config.tick.max(Duration::from_millis(1));
            let sweeper = Sweeper { orders: to_obey, beat, load: load.clone(), calls: Vec::new() };
            let name = format!("iqra-media-{number}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || sweeper.run())?);
            workers.push(Worker { orders, load });
        }
        let ports = Ports::new(config.bind, &config.ports);
        let (threads, last_id) = (Mutex::new(threads), AtomicU64::new(0));
        let parts = PlanParts {
            codecs: config.codecs,
            #[cfg(feature = "webrtc")]
            certificate: config.certificate,
        };
        Ok(Self { inner: Arc::new(Inner { ports, parts, workers, threads, last_id }) })
    }

    /// Binds a free port, so that SDP can name it. Dropping it unused frees it.
    ///
    /// # Errors
    /// [`PortsExhausted`], which names the range.
    pub fn reserve(&self) -> Result<MediaPort, PortsExhausted> {
        self.inner.ports.reserve()
    }

    /// The codecs that negotiations may name, for `sdp::Capabilities`.
    pub fn codecs(&self) -> &Registry {
        &self.inner.parts.codecs
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
        let plan = self.inner.parts.plan(negotiated, formats, &options, now)?;
        let (line, end, commands) = line(formats, &options.limits);
        let (seed, wall) = (fastrand::u64(..), SystemTime::now());
        let session = MediaSession::new(plan, options.session, end, options.recording, seed, now, wall);
        let report = Arc::new(Mutex::new(MediaReport::default()));
        let id = self.inner.last_id.fetch_add(1, Ordering::Relaxed);
        let orders =
            self.take_on(Call { id, port, session, report: report.clone(), report_at: now, rtcp_at: now });
        let speaking = line.speaking().clone();
        let driver = self.inner.clone();
        Ok((line, Leg { id, orders, commands, speaking, report, formats, driver }))
    }

    fn take_on(&self, call: Call) -> Sender<Order> {
        let workers = &self.inner.workers;
        let worker = workers.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed));
        let worker = worker.expect("a driver has at least one thread");
        worker.load.fetch_add(1, Ordering::Relaxed);
        if worker.orders.send(Order::Open(Box::new(call))).is_err() {
            worker.load.fetch_sub(1, Ordering::Relaxed);
        }
        worker.orders.clone()
    }

    /// What is open.
    pub fn counts(&self) -> Counts {
        let sessions = self.inner.workers.iter().map(|worker| worker.load.load(Ordering::Relaxed)).sum();
        Counts { sessions, ports: self.inner.ports.in_use() }
    }

    /// Ends every call at once and waits for the threads, one beat at most. Calls should have been hung up before.
    /// Calls opened afterwards end immediately.
    pub fn shutdown(&self) {
        self.inner.stop();
        let threads = std::mem::take(&mut *self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a media thread had panicked");
            }
        }
    }
}

/// A wrong address would otherwise look like a range without free ports.
fn check_address(bind: IpAddr) -> io::Result<()> {
    let explain = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("media cannot bind {bind}: {error}; bind 0.0.0.0 or a local address"),
        )
    };
    UdpSocket::bind((bind, 0)).map(drop).map_err(explain)
}
