//! What must hold of RTP, RTCP, SRTP and a whole media session for any datagrams. Shared by the fuzz targets, which
//! choose the octets, and by the property tests.
#![allow(dead_code)] // Each user runs some of it.

use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime};

use iqra_media::codec::{CodecSpec, Registry, g711, g722, l16};
use iqra_media::conversation::{AudioFormat, Commands, EndReason, Formats, Heard, Limits, Line, line};
use iqra_media::rtp::packet::{Header, Packet};
use iqra_media::rtp::reception::{Reception, Verdict};
use iqra_media::rtp::rtcp::{Reporter, ReporterConfig, read};
use iqra_media::rtp::source::SymmetricRtp;
use iqra_media::rtp::srtp::{CryptoSuite, Incoming, MasterKey, Outgoing};
use iqra_media::rtp::telephone_event::Receiver;
use iqra_media::sdp::{Direction, Negotiated, TelephoneEvent};
use iqra_media::session::{Config, MAX_BURST, MediaSession, Plan, Port};

const SSRC: u32 = 0x5151_0001;

/// Any octets as one RTP packet: what is read lies within them, and reads the same when it is written anew.
pub(crate) fn rtp(data: &[u8]) {
    let Ok(packet) = Packet::parse(data) else { return };
    let payload = packet.payload();
    assert!(data.as_ptr_range().contains(&payload.as_ptr()) || payload.is_empty());
    let (sequence, timestamp, ssrc) = (packet.sequence(), packet.timestamp(), packet.ssrc());
    let header =
        Header { payload_type: packet.payload_type(), marker: packet.marker(), sequence, timestamp, ssrc };
    let mut out = vec![0; data.len()];
    let length = header.write(payload, &mut out).expect("no longer than it was");
    let again = Packet::parse(&out[..length]).expect("ours reads");
    assert_eq!((again.sequence(), again.timestamp(), again.ssrc()), (sequence, timestamp, ssrc));
    assert_eq!((again.payload_type(), again.marker()), (packet.payload_type(), packet.marker()));
    assert_eq!(again.payload(), payload);
}

/// Any octets as the steps of a stream: sequence numbers, timestamps and key events in any order.
pub(crate) fn stream(data: &[u8]) {
    let mut now = Instant::now();
    let (mut reception, mut keys) = (Reception::new(8_000), Receiver::new(8_000));
    let (mut accepted, mut presses) = (0, 0);
    for step in data.chunks_exact(9) {
        now += Duration::from_millis(step[0].into());
        let mut datagram = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, step[1] & 1, 0, 0, 0, 0];
        datagram[2..8].copy_from_slice(&step[1..7]);
        datagram[12..16].copy_from_slice(&step[5..9]);
        let packet = Packet::parse(&datagram).expect("is one");
        accepted += u64::from(matches!(reception.receive(now, &packet), Verdict::Accepted(..)));
        keys.receive(now, packet.timestamp(), packet.payload());
        keys.handle_timeout(now);
        presses += std::iter::from_fn(|| keys.poll()).count();
        assert!(presses <= accepted as usize + data.len() / 9, "a packet presses one key at most");
    }
    assert!(reception.received() <= data.len() as u64 / 9);
}

/// Any octets as a compound of RTCP, to a reporter that then reports.
pub(crate) fn rtcp(data: &[u8]) {
    let Ok(packets) = read::compound(data) else { return };
    let walked = packets.clone().count();
    assert!(walked >= 1 && walked <= data.len() / 4, "each packet has a head");
    let now = Instant::now();
    let mut random = fastrand::Rng::with_seed(data.len() as u64);
    let config = ReporterConfig::new(&mut random);
    let mut reporter = Reporter::new(config, random, now, SystemTime::UNIX_EPOCH);
    reporter.handle(now + Duration::from_secs(1), packets, SSRC);
    if let Some(view) = reporter.far_view() {
        assert!((0.0..=1.0).contains(&view.loss), "{view:?}");
    }
}

fn key(octet: u8, suite: CryptoSuite) -> MasterKey {
    MasterKey::new(suite, &vec![octet; suite.material_len()]).expect("of the right length")
}

fn suite(choice: u8) -> CryptoSuite {
    let all = [
        CryptoSuite::AesCm128HmacSha1_80,
        CryptoSuite::AesCm128HmacSha1_32,
        CryptoSuite::AeadAes128Gcm,
        CryptoSuite::AeadAes256Gcm,
    ];
    all[usize::from(choice) % all.len()]
}

/// The first octets choose the suite and what happens to a protected packet, the rest is the packet. What was not
/// tampered with opens once to what it was; whatever else came is refused and leaves the context as it was.
pub(crate) fn srtp(data: &[u8]) {
    let [choice, place, mask, datagram @ ..] = data else { return };
    let (suite, rtcp) = (suite(*choice), choice & 0x80 != 0);
    let (mut outgoing, mut incoming) = (Outgoing::new(&key(1, suite)), Incoming::new(&key(1, suite)));
    let mut stray = datagram.to_vec();
    // Nobody guesses a tag.
    assert!(opened(&mut incoming, rtcp, &mut stray).is_none());

    let mut packet = datagram.to_vec();
    packet.resize(datagram.len() + 64, 0);
    let protected = match rtcp {
        true => outgoing.protect_rtcp(&mut packet, datagram.len()),
        false => outgoing.protect(&mut packet, datagram.len()),
    };
    let Ok(length) = protected else { return };
    packet.truncate(length);
    if *mask != 0 {
        let mut forged = packet.clone();
        let at = usize::from(*place) * 7 % length;
        forged[at] ^= mask;
        assert!(
            opened(&mut incoming, rtcp, &mut forged).is_none(),
            "a changed octet {at} of {length} passed"
        );
    }
    let again = packet.clone();
    let clear = opened(&mut incoming, rtcp, &mut packet).expect("what we protected opens");
    assert_eq!(packet[..clear], *datagram);
    assert!(opened(&mut incoming, rtcp, &mut again.clone()).is_none(), "a replay passed");
}

fn opened(incoming: &mut Incoming, rtcp: bool, packet: &mut [u8]) -> Option<usize> {
    if rtcp { incoming.open_rtcp(packet).ok() } else { incoming.open(packet).ok() }
}

/// A call at whose ports anything arrives.
struct Call {
    session: MediaSession,
    line: Line,
    _commands: Commands,
    formats: Formats,
    negotiated: Negotiated,
    symmetric: SymmetricRtp,
    far: SocketAddr,
    sequence: u16,
    timestamp: u32,
    now: Instant,
    opened: Instant,
    handed: u64,
    heard: usize,
}

/// The first octets choose what the call is like, the rest are steps: time, packets of the far end and of strangers,
/// re-INVITEs, speech, keys, the end.
pub(crate) fn session(data: &[u8]) {
    let [setup, codec, steps @ ..] = data else { return };
    let mut steps = steps;
    let mut call = Call::new(*setup, *codec);
    while let [step, value, rest @ ..] = steps {
        steps = call.step(*step, *value, rest);
    }
    call.close();
}

fn codec(choice: u8) -> CodecSpec {
    [g711::PCMU, g711::PCMA, g722::G722, l16::HZ_16000][usize::from(choice) % 4]
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    l16::register(&mut registry);
    registry
}

impl Call {
    fn new(setup: u8, choice: u8) -> Self {
        let rate = [8_000, 16_000, 24_000, 48_000][usize::from(choice >> 2 & 3)];
        let formats = Formats::both(AudioFormat::new(rate).expect("a rate of the line"));
        let far = SocketAddr::from(([192, 0, 2, 1], 4_000));
        let mut negotiated = Negotiated::new(codec(choice), far);
        negotiated.rtcp_mux = setup & 1 != 0;
        if setup & 2 != 0 {
            let clock_rate = negotiated.codec.clock_rate;
            negotiated.telephone_event = Some(TelephoneEvent::new(101, 101, clock_rate));
        }
        let symmetric =
            [SymmetricRtp::Auto, SymmetricRtp::On, SymmetricRtp::Off][usize::from(setup >> 2 & 3) % 3];
        let config = Config { symmetric_rtp: symmetric, ..Config::default() };
        let plan = Plan::new(negotiated.clone(), formats, &registry()).expect("is registered");
        let (line, end, commands) = line(formats, &Limits::default());
        let now = Instant::now();
        let session = MediaSession::new(plan, config, end, None, 1, now, SystemTime::UNIX_EPOCH);
        Self {
            session,
            line,
            _commands: commands,
            formats,
            negotiated,
            symmetric,
            far,
            sequence: 0,
            timestamp: 0,
            now,
            opened: now,
            handed: 0,
            heard: 0,
        }
    }

    fn step<'a>(&mut self, step: u8, value: u8, rest: &'a [u8]) -> &'a [u8] {
        let stranger = SocketAddr::from(([198, 51, 100, value & 3], 4_000 + u16::from(value >> 2)));
        match step % 12 {
            0 | 1 => self.pass_time(Duration::from_millis(value.into())),
            2 | 3 => self.packet(self.far, 0, 0, value),
            4 => self.packet(self.far, value, rest.first().copied().unwrap_or(0), 160),
            5 => self.packet(stranger, 0, 0, 160),
            6 => {
                let (datagram, rest) = rest.split_at(rest.len().min(value.into()));
                let port = if step & 0x80 == 0 { Port::Rtp } else { Port::Rtcp };
                let from = if step & 0x40 == 0 { self.far } else { stranger };
                self.datagram(from, port, &mut datagram.to_vec());
                return rest;
            }
            7 => self.reinvite(value),
            8 => drop(self.line.speaking().play(&vec![i16::from(value) * 100; usize::from(value) * 16])),
            9 => self.press(value),
            10 => self.listen(),
            _ => self.pass_time(Duration::from_millis(20)),
        }
        rest
    }

    fn pass_time(&mut self, time: Duration) {
        self.now += time;
        self.session.tick(self.now);
        let mut out = [0; 1_500];
        let mut sent = 0;
        while let Some(transmit) = self.session.poll_transmit(&mut out) {
            sent += 1;
            assert!(transmit.length <= out.len() && transmit.length >= 8);
            // A burst, a report, and a BYE for each SSRC that was given up.
            assert!(sent <= MAX_BURST as usize + 8, "{sent} datagrams at once");
            if self.symmetric == SymmetricRtp::Off {
                assert_eq!(transmit.to.ip(), self.far.ip(), "another address without leave");
            }
        }
        assert!(self.session.poll_timeout() > self.now, "it is due again at once");
    }

    fn packet(&mut self, from: SocketAddr, jump: u8, other: u8, octets: u8) {
        self.sequence = self.sequence.wrapping_add(1).wrapping_add(u16::from(jump) * 97);
        self.timestamp = self.timestamp.wrapping_add(160).wrapping_add(u32::from(other) * 1_601);
        let types = [self.negotiated.receive_payload, 101, 13, other & 0x7f];
        let payload_type = types[usize::from(other) % 4];
        let (sequence, timestamp, ssrc) = (self.sequence, self.timestamp, 7 + u32::from(jump >> 6));
        let header = Header { payload_type, marker: other & 1 != 0, sequence, timestamp, ssrc };
        let mut datagram = [0; 300];
        let length = header.write(&vec![other ^ 0x35; octets.into()], &mut datagram).expect("it fits");
        self.datagram(from, Port::Rtp, &mut datagram[..length]);
    }

    fn datagram(&mut self, from: SocketAddr, port: Port, datagram: &mut [u8]) {
        self.handed += 1;
        self.session.handle_packet(self.now, from, port, datagram);
    }

    fn reinvite(&mut self, value: u8) {
        self.negotiated.direction =
            [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
                [usize::from(value & 3)];
        self.negotiated.codec = codec(value >> 2);
        self.negotiated.receive_payload = self.negotiated.codec.payload_type;
        self.negotiated.send_payload = self.negotiated.codec.payload_type;
        self.negotiated.ptime_ms = [10, 20, 30, 40][usize::from(value >> 4 & 3)];
        let plan = Plan::new(self.negotiated.clone(), self.formats, &registry()).expect("is registered");
        self.session.update(self.now, plan);
    }

    fn press(&mut self, value: u8) {
        let keys = ["1", "*#", "0123456789ABCD", "x"][usize::from(value) % 4];
        let future = pin!(self.line.speaking().send_dtmf(keys));
        // What finds no room is not waited for.
        let _ = future.poll(&mut Context::from_waker(Waker::noop()));
    }

    fn listen(&mut self) {
        while let Some(heard) = self.line.try_next() {
            if let Heard::Audio(frame) = heard {
                self.heard += frame.len();
            }
        }
    }

    fn close(mut self) {
        self.pass_time(Duration::from_millis(500));
        self.listen();
        let report = self.session.report();
        assert!(report.packets_received + report.malformed <= self.handed, "{report}");
        assert!((1.0..=5.0).contains(&report.mos_in), "{report}");
        assert!(report.delay <= Duration::from_secs(2), "{report}");
        // What is heard lasts as long as the call at most, give or take what waited in the buffer.
        let rate = self.formats.hears.sample_rate() as f64;
        let lasted = (self.now - self.opened).as_secs_f64();
        assert!(self.heard as f64 <= rate * (lasted + 2.0), "{} samples in {lasted} s", self.heard);
        self.session.close();
        self.session.end(EndReason::HungUp);
        while self.session.poll_transmit(&mut [0; 1_500]).is_some() {}
    }
}
