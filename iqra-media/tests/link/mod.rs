//! Two media sessions back to back over a simulated network, on a virtual clock: a scenario takes no wall time and
//! repeats exactly by its seed.
#![allow(dead_code)] // Each user runs some of it.

pub(crate) mod nat;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use iqra_media::codec::g711::PCMU;
use iqra_media::codec::{CodecSpec, Registry, l16};
use iqra_media::conversation::{AudioFormat, Command, Commands, Event, Formats, Heard, Limits, Line, line};
use iqra_media::pcm::tone::Tone;
use iqra_media::rtp::telephone_event::Digit;
use iqra_media::sdp::{Negotiated, TelephoneEvent};
use iqra_media::session::recording::Tap;
use iqra_media::session::{Config, MediaSession, Plan, Port, Transmit};

use nat::Nat;

/// What the network does to packets.
#[derive(Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Share of packets lost.
    pub(crate) loss: f64,
    /// Share of packets delivered twice.
    pub(crate) duplicates: f64,
    /// Delay of every packet.
    pub(crate) delay: Duration,
    /// Up to so much more, at random for each packet.
    pub(crate) jitter: Duration,
}

/// What a call is like.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) codec: CodecSpec,
    pub(crate) ptime_ms: u8,
    pub(crate) formats: Formats,
    pub(crate) limits: Limits,
    pub(crate) config: Config,
    pub(crate) weather: Weather,
    pub(crate) seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            codec: PCMU,
            ptime_ms: 20,
            formats: Formats::both(AudioFormat::HZ_8000),
            limits: Limits::default(),
            config: Config::default(),
            weather: Weather { delay: Duration::from_millis(10), ..Weather::default() },
            seed: 1,
        }
    }
}

/// One end of the call.
pub(crate) struct Side {
    pub(crate) session: MediaSession,
    pub(crate) line: Line,
    pub(crate) commands: Commands,
    /// What came out of the line so far.
    pub(crate) heard: Vec<i16>,
    pub(crate) events: Vec<Event>,
    /// How much was heard before each event.
    pub(crate) heard_before: Vec<usize>,
    /// RTP packets that left.
    pub(crate) sent: Vec<Vec<u8>>,
    /// RTCP compounds that left.
    pub(crate) reports: Vec<Vec<u8>>,
}

impl Side {
    fn new(setup: &Setup, plan: Plan, tap: Option<Tap>, seed: u64, now: Instant) -> Self {
        let (line, end, commands) = line(setup.formats, &setup.limits);
        let config = setup.config.clone();
        let session = MediaSession::new(plan, config, end, tap, seed, now, SystemTime::UNIX_EPOCH);
        Self {
            session,
            line,
            commands,
            heard: Vec::new(),
            events: Vec::new(),
            heard_before: Vec::new(),
            sent: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// Takes everything that waits on the line.
    pub(crate) fn listen(&mut self) {
        while let Some(heard) = self.line.try_next() {
            match heard {
                Heard::Audio(frame) => self.heard.extend_from_slice(&frame),
                Heard::Event(event) => {
                    self.events.push(event);
                    self.heard_before.push(self.heard.len());
                }
            }
        }
    }

    /// Says a tone and gives its samples.
    pub(crate) fn hum(&self, frequency: f64, millis: u32) -> Vec<i16> {
        let format = self.line.speaking().format();
        let mut samples = vec![0; format.samples_in_millis(millis)];
        Tone::new(frequency, format.sample_rate(), 8_000).fill(&mut samples);
        assert_eq!(self.line.speaking().play(&samples), samples.len());
        samples
    }

    /// What the session asked the call for since the last look.
    pub(crate) fn asked(&mut self) -> Option<Command> {
        match pin!(self.commands.next()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(command) => command,
            Poll::Pending => None,
        }
    }

    /// The keys heard, as text.
    pub(crate) fn keys(&self) -> String {
        let key = |event: &Event| if let Event::Dtmf(digit) = event { Some(digit.as_char()) } else { None };
        self.events.iter().filter_map(key).collect()
    }
}

/// Both ends and the network between them.
pub(crate) struct Call {
    pub(crate) a: Side,
    pub(crate) b: Side,
    pub(crate) now: Instant,
    pub(crate) weather: Weather,
    /// Whether RTP gets lost on its way to A and to B, while RTCP arrives.
    pub(crate) deaf: [bool; 2],
    /// What is in front of A and of B; whose address is then a private one that nobody else reaches.
    pub(crate) nats: [Option<Nat>; 2],
    random: fastrand::Rng,
    underway: Vec<Underway>,
}

/// A datagram that is to arrive.
struct Underway {
    arrival: Instant,
    from: SocketAddr,
    to: SocketAddr,
    port: Port,
    packet: Vec<u8>,
}

/// The beat of the simulation.
const BEAT: Duration = Duration::from_millis(5);

impl Call {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self::planned(setup, |negotiated, _| Plan::new(negotiated, setup.formats, &codecs()).unwrap())
    }

    /// A call that A records.
    pub(crate) fn recorded(setup: &Setup, tap: Tap) -> Self {
        Self::made(setup, Some(tap), |negotiated, _| Plan::new(negotiated, setup.formats, &codecs()).unwrap())
    }

    /// A call whose plans are made from what SDP would have agreed on: first that of A, whose far end is at address 2.
    pub(crate) fn planned(setup: &Setup, plan: impl FnMut(Negotiated, Instant) -> Plan) -> Self {
        Self::made(setup, None, plan)
    }

    pub(crate) fn made(
        setup: &Setup,
        tap: Option<Tap>,
        mut plan: impl FnMut(Negotiated, Instant) -> Plan,
    ) -> Self {
        let now = Instant::now();
        let mut side = |remote, tap, seed| {
            let plan = plan(negotiated(setup.codec, setup.ptime_ms, address(remote)), now);
            Side::new(setup, plan, tap, seed, now)
        };
        Self {
            a: side(2, tap, setup.seed),
            b: side(1, None, setup.seed + 1),
            now,
            weather: setup.weather,
            deaf: [false; 2],
            nats: [None, None],
            random: fastrand::Rng::with_seed(setup.seed),
            underway: Vec::new(),
        }
    }

    /// Lets time pass with both conversations listening.
    pub(crate) fn run(&mut self, millis: u64) {
        self.run_deaf(millis);
        self.a.listen();
        self.b.listen();
    }

    /// Lets time pass with nobody listening until its end, except when the queues would overflow: they do.
    pub(crate) fn run_deaf(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while self.now < end {
            self.now += BEAT;
            self.deliver();
            for at_a in [true, false] {
                self.drive(at_a);
            }
        }
    }

    /// Lets time pass in small steps, so that no queue overflows.
    pub(crate) fn talk(&mut self, millis: u64) {
        for _ in 0..millis / 100 {
            self.run(100);
        }
    }

    fn drive(&mut self, at_a: bool) {
        let (side, from) = if at_a { (&mut self.a, address(1)) } else { (&mut self.b, address(2)) };
        if side.session.poll_timeout() <= self.now {
            side.session.tick(self.now);
        }
        let mut packet = [0; 1_500];
        while let Some(Transmit { length, to, port }) = side.session.poll_transmit(&mut packet) {
            match port {
                Port::Rtp => side.sent.push(packet[..length].to_vec()),
                Port::Rtcp => side.reports.push(packet[..length].to_vec()),
            }
            let copies = 1 + usize::from(self.random.f64() < self.weather.duplicates);
            let lost = self.random.f64() < self.weather.loss;
            for _ in 0..if lost { 0 } else { copies } {
                let jitter = self.weather.jitter.mul_f64(self.random.f64());
                let arrival = self.now + self.weather.delay + jitter;
                let (inside, packet) = (beside(from, port), packet[..length].to_vec());
                let nat = &mut self.nats[usize::from(!at_a)];
                let from = nat.as_mut().map_or(inside, |nat| nat.out(inside, to));
                self.underway.push(Underway { arrival, from, to, port, packet });
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        self.underway.sort_by_key(|underway| underway.arrival);
        let due = self.underway.partition_point(|underway| underway.arrival <= now);
        let due: Vec<_> = self.underway.drain(..due).collect();
        for Underway { arrival, from, to, port, mut packet } in due {
            let Some(at_a) = self.reaches(from, to) else { continue };
            if port == Port::Rtp && self.deaf[usize::from(!at_a)] {
                continue;
            }
            let side = if at_a { &mut self.a } else { &mut self.b };
            side.session.handle_packet(arrival.max(now), from, port, &mut packet);
        }
    }
}

impl Call {
    /// Whether a packet gets to A, or to B, or nowhere.
    fn reaches(&self, from: SocketAddr, to: SocketAddr) -> Option<bool> {
        let host = |at_b: usize| address(1 + at_b as u8).ip();
        let gets_to = |at_b: usize| match &self.nats[at_b] {
            None => to.ip() == host(at_b),
            Some(nat) => nat.inward(from, to, host(at_b)).is_some(),
        };
        [0, 1].into_iter().find(|at_b| gets_to(*at_b)).map(|at_b| at_b == 0)
    }
}

/// All codecs that sessions are tried with.
pub(crate) fn codecs() -> Registry {
    let mut codecs = Registry::default();
    l16::register(&mut codecs);
    codecs
}

/// Documentation addresses, one per side.
pub(crate) fn address(side: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, side], 4_000))
}

/// The RTCP port is the next one.
fn beside(rtp: SocketAddr, port: Port) -> SocketAddr {
    SocketAddr::new(rtp.ip(), rtp.port() + u16::from(port == Port::Rtcp))
}

/// What SDP would have agreed on.
pub(crate) fn negotiated(codec: CodecSpec, ptime_ms: u8, remote: SocketAddr) -> Negotiated {
    let events = TelephoneEvent::new(101, 101, codec.clock_rate);
    Negotiated { ptime_ms, telephone_event: Some(events), ..Negotiated::new(codec, remote) }
}

/// The event of a key.
pub(crate) fn key(label: char) -> Event {
    Event::Dtmf(Digit::from_char(label).unwrap())
}
