//! A packet in steady state costs no allocation: through the session, to the conversation, and back.
#![cfg(feature = "tokio")]
// Helpers of a test are tests.
#![allow(clippy::unwrap_used)]
// Counting what the allocator is asked for takes a global allocator, which is an unsafe trait. It hands every call on
// to the system's allocator unchanged.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::f64::consts::TAU;
use std::net::{SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use iqra_media::codec::g711::{self, G711, PCMU};
use iqra_media::codec::{CodecError, CodecSpec, Encoder, Registry, Settings, comfort_noise, g722, l16};
use iqra_media::conversation::{AudioFormat, Bridge, Direction, Formats, Heard, Limits, Line, Party, line};
use iqra_media::detect::{machine, voice};
use iqra_media::net::{MediaConfig, MediaDriver, Overload, Reading};
use iqra_media::pcm::agc;
use iqra_media::rtp::packet::Header;
use iqra_media::sdp::{Alternative, CryptoSuite, Negotiated, Security, SrtpKey, TelephoneEvent};
use iqra_media::session::recording::{self, Recording};
use iqra_media::session::{Config, Detect, MediaSession, Plan, Port};

thread_local! {
    /// Allocations and deallocations of this thread.
    static TOUCHED: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // A thread that is being torn down has no counter any more.
    let _ = TOUCHED.try_with(|touched| touched.set(touched.get() + 1));
}

// SAFETY: every method hands its arguments on to `System`, which upholds the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A far end that sends one packet per 20 ms: half a second of a tone, half a second of nothing.
struct Far {
    sequence: u16,
    packet: [u8; 172],
}

impl Far {
    fn next(&mut self) -> &mut [u8] {
        self.sequence = self.sequence.wrapping_add(1);
        let timestamp = u32::from(self.sequence) * 160;
        let header = Header { payload_type: 0, marker: false, sequence: self.sequence, timestamp, ssrc: 7 };
        let (mut pcm, mut payload) = ([0; 160], [0; 160]);
        if (self.sequence / 25).is_multiple_of(2) {
            pcm = std::array::from_fn(|n| ((n as f64 / 160.0 * TAU * 9.0).sin() * 8_000.0) as i16);
        }
        G711::ulaw().encode(&pcm, &mut payload).unwrap();
        header.write(&payload, &mut self.packet).unwrap();
        &mut self.packet
    }
}

/// Echoes all that waits; gives the frames heard, and the events.
fn converse(line: &mut Line) -> (u64, u64) {
    let (mut frames, mut events) = (0, 0);
    while let Some(heard) = line.try_next() {
        if let Heard::Audio(frame) = heard {
            assert_eq!(line.speaking().play(&frame), frame.len());
            frames += 1;
        } else {
            events += 1;
        }
    }
    (frames, events)
}

#[test]
fn thousands_of_packets_touch_no_memory_manager() {
    let all = Detect {
        speech: Some(voice::Config::default()),
        progress: true,
        machine: Some(machine::Config::default()),
        ..Detect::default()
    };
    for (rate, lost_every, detect) in [
        (8_000, u16::MAX, Detect::default()),
        (16_000, 50, Detect::default()),
        (24_000, u16::MAX, Detect::default()),
        (8_000, 50, all.clone()),
        (16_000, u16::MAX, all.clone()),
        (24_000, 50, all),
    ] {
        let formats = Formats::both(AudioFormat::new(rate).unwrap());
        let from = SocketAddr::from(([192, 0, 2, 1], 4_000));
        let negotiated = Negotiated::new(PCMU, from);
        let (mut line, end, _commands) = line(formats, &Limits::default());
        let plan = Plan::new(negotiated, formats, &Registry::default()).unwrap();
        let mut now = Instant::now();
        let detects = detect.progress;
        let config = Config { detect, ..Config::default() };
        let mut session = MediaSession::new(plan, config, end, None, 1, now, SystemTime::UNIX_EPOCH);
        let mut far = Far { sequence: 0, packet: [0; 172] };
        let mut out = [0; 1_500];
        let (mut heard, mut told, mut sent, mut reports, mut before) = (0, 0, 0, 0, 0);
        for packet in 0..3_000 {
            if packet == 500 {
                (heard, told, sent, reports, before) = (0, 0, 0, 0, TOUCHED.get());
                assert!(before > 0, "the counter counts");
            }
            now += Duration::from_millis(20);
            let datagram = far.next();
            if packet % lost_every != lost_every - 1 {
                session.handle_packet(now, from, Port::Rtp, datagram);
            }
            session.tick(now);
            while let Some(transmit) = session.poll_transmit(&mut out) {
                let count = if transmit.port == Port::Rtp { &mut sent } else { &mut reports };
                *count += 1;
            }
            let (frames, events) = converse(&mut line);
            (heard, told) = (heard + frames, told + events);
        }
        assert_eq!(TOUCHED.get() - before, 0, "at {rate} Hz");
        assert!(heard >= 2_490 && sent == 2_500, "{heard} frames heard, {sent} packets sent");
        assert_eq!(told > 20, detects, "{told} events at {rate} Hz");
        assert!(reports >= 7, "{reports} reports of RTCP");
    }
}

/// A session of Opus with keys of its own, which hears the other one of a call.
struct Protected {
    session: MediaSession,
    line: Line,
}

impl Protected {
    fn new(local: SrtpKey, remote: SrtpKey, now: Instant) -> Self {
        let codecs = Registry::default();
        let codec = codecs.specs()[0];
        let from = SocketAddr::from(([192, 0, 2, 1], 4_000));
        let negotiated = Negotiated {
            security: Security::Sdes { local, remote },
            telephone_event: Some(TelephoneEvent::new(101, 101, codec.clock_rate)),
            remote_fmtp: "useinbandfec=1;usedtx=1".into(),
            rtcp_mux: true,
            ..Negotiated::new(codec, from)
        };
        let formats = Formats::both(AudioFormat::HZ_16000);
        let (line, end, _commands) = line(formats, &Limits::default());
        let plan = Plan::new(negotiated, formats, &codecs).unwrap();
        let config = Config { agc: Some(agc::Config::default()), ..Config::default() };
        Self { session: MediaSession::new(plan, config, end, None, 1, now, SystemTime::UNIX_EPOCH), line }
    }

    /// Hands all that is due over to the other side; gives how many datagrams that were.
    fn deliver(&mut self, to: &mut Self, now: Instant) -> u64 {
        let (mut out, mut sent) = ([0; 1_500], 0);
        self.session.tick(now);
        while let Some(transmit) = self.session.poll_transmit(&mut out) {
            to.session.handle_packet(now, transmit.to, Port::Rtp, &mut out[..transmit.length]);
            sent += 1;
        }
        sent
    }
}

/// SRTP of every suite, Opus (where it is built) with pauses, keys sent and received, and gain.
#[test]
fn a_protected_session_that_sends_keys_touches_no_memory_manager() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for suite in CryptoSuite::ALL {
        let key = |seed: u8| SrtpKey::new(suite, &vec![seed; suite.material_len()]).unwrap();
        let mut now = Instant::now();
        let (mut a, mut b) = (Protected::new(key(1), key(2), now), Protected::new(key(2), key(1), now));
        let voice = [4_000, -4_000, 1_000, -1_000].repeat(80);
        let (mut sent, mut keys, mut touched) = (0, 0, 0);
        for packet in 0..2_100 {
            // What the conversations do is not counted, as on threads of their own.
            if packet % 300 == 100 {
                assert!(runtime.block_on(a.line.speaking().send_dtmf("0123456789*#")).is_ok());
            }
            if packet % 100 < 50 {
                b.line.speaking().play(&voice);
            }
            if packet == 800 {
                assert!(touched > 0, "the counter counts");
                (sent, keys, touched) = (0, 0, 0);
            }
            let before = TOUCHED.get();
            now += Duration::from_millis(20);
            sent += a.deliver(&mut b, now) + b.deliver(&mut a, now);
            // At first they listen late now and then, so that as many frames as ever wait have been made.
            if packet >= 700 || packet % 10 == 9 {
                while let Some(heard) = b.line.try_next() {
                    keys += u64::from(matches!(heard, Heard::Event(_)));
                }
                while a.line.try_next().is_some() {}
            }
            touched += TOUCHED.get() - before;
        }
        assert_eq!(touched, 0, "{suite:?}");
        assert!(sent > 1_000 && keys >= 36, "{sent} datagrams, {keys} keys with {suite:?}");
    }
}

/// Among codecs of one clock and of several.
#[test]
fn a_far_end_that_changes_its_codec_touches_no_memory_manager() {
    let mut codecs = Registry::default();
    l16::register(&mut codecs);
    let sorts = [PCMU, g711::PCMA, g722::G722, l16::HZ_16000];
    let alternative = |codec: &CodecSpec| Alternative {
        codec: *codec,
        receive_payload: codec.payload_type,
        remote_fmtp: String::new(),
    };
    let from = SocketAddr::from(([192, 0, 2, 1], 4_000));
    let alternatives = sorts[1..].iter().map(alternative).collect();
    let formats = Formats::both(AudioFormat::HZ_24000);
    let plan =
        Plan::new(Negotiated { alternatives, ..Negotiated::new(PCMU, from) }, formats, &codecs).unwrap();
    let (mut line, end, _commands) = line(formats, &Limits::default());
    let mut now = Instant::now();
    let mut session = MediaSession::new(plan, Config::default(), end, None, 1, now, SystemTime::UNIX_EPOCH);
    let (mut timestamp, mut heard, mut before) = (0, 0, 0);
    for packet in 0..3_000_u16 {
        if packet == 500 {
            (heard, before) = (0, TOUCHED.get());
            assert!(before > 0, "the counter counts");
        }
        let codec = sorts[usize::from(packet / 40 % 4)];
        let length = if codec == l16::HZ_16000 { 640 } else { 160 };
        let header =
            Header { payload_type: codec.payload_type, marker: false, sequence: packet, timestamp, ssrc: 7 };
        let mut datagram = [0; 700];
        let length = header.write(&[0x55; 640][..length], &mut datagram).unwrap();
        session.handle_packet(now, from, Port::Rtp, &mut datagram[..length]);
        timestamp += codec.duration(20);
        now += Duration::from_millis(20);
        session.tick(now);
        while session.poll_transmit(&mut [0; 1_500]).is_some() {}
        heard += converse(&mut line).0;
    }
    assert_eq!(TOUCHED.get() - before, 0);
    assert!(heard > 2_000, "{heard} frames heard");
}

/// Two calls that are bridged, one of them recorded, which hear and say something all the time.
#[test]
fn a_bridge_and_a_recording_touch_no_memory_manager() {
    let path = std::env::temp_dir().join(format!("iqra-allocations-{}.wav", std::process::id()));
    let (recording, tap) = Recording::create(recording::Settings::new(&path), 8_000).unwrap();
    let mut tap = Some(tap);
    let from = SocketAddr::from(([192, 0, 2, 1], 4_000));
    let mut now = Instant::now();
    let (mut sessions, mut lines) = (Vec::new(), Vec::new());
    for rate in [8_000, 24_000] {
        let formats = Formats::both(AudioFormat::new(rate).unwrap());
        let (line, end, _commands) = line(formats, &Limits::default());
        let plan = Plan::new(Negotiated::new(PCMU, from), formats, &Registry::default()).unwrap();
        let wall = SystemTime::UNIX_EPOCH;
        sessions.push(MediaSession::new(plan, Config::default(), end, tap.take(), 1, now, wall));
        lines.push(line);
    }
    let (second, first) = (lines.pop().unwrap(), lines.pop().unwrap());
    let bridge = Bridge::new(first, second);
    let secret = bridge.speaking(Party::First).keep_secret();
    let (mut far, mut out, mut before) = (Far { sequence: 0, packet: [0; 172] }, [0; 1_500], 0);
    for packet in 0..3_000 {
        if packet == 500 {
            before = TOUCHED.get();
            assert!(before > 0, "the counter counts");
        }
        now += Duration::from_millis(20);
        far.next();
        for session in &mut sessions {
            session.handle_packet(now, from, Port::Rtp, &mut far.packet.clone());
            session.tick(now);
            while session.poll_transmit(&mut out).is_some() {}
        }
    }
    assert_eq!(TOUCHED.get() - before, 0);
    assert!(bridge.passed(Party::Second).samples > 24_000 * 59, "{:?}", bridge.passed(Party::Second));
    drop((secret, bridge, sessions));
    recording.finish().unwrap();
    std::fs::remove_file(path).unwrap();
}

/// libopus takes its memory from the C library, which is not counted here; it takes none per frame.
#[test]
fn no_codec_touches_the_memory_manager_for_a_frame() {
    let mut registry = Registry::default();
    l16::register(&mut registry);
    for spec in registry.specs() {
        let settings = Settings { fmtp: "useinbandfec=1;usedtx=1", ..Settings::default() };
        let mut encoder = registry.encoder(&spec, &settings).unwrap();
        let mut decoder = registry.decoder(&spec, &settings).unwrap();
        let pcm = vec![1_000; encoder.spec().samples(20)];
        let (mut payload, mut out) = ([0; 2_000], vec![0; decoder.spec().samples(20)]);
        let before = TOUCHED.get();
        for frame in 0..200 {
            let octets = encoder.encode(&pcm, &mut payload).unwrap();
            if octets > 0 && frame % 10 != 9 {
                assert_eq!(decoder.decode(&payload[..octets], &mut out), Ok(out.len()));
            } else if !decoder.recover(&payload[..octets], &mut out) {
                decoder.conceal(&mut out);
            }
            encoder.set_expected_loss(frame % 100);
        }
        decoder.reset();
        assert_eq!(TOUCHED.get() - before, 0, "{spec:?}");
    }
    let (mut noise, mut pcm, before) = (comfort_noise::Generator::new(), [0; 160], TOUCHED.get());
    assert!(noise.describe(&[40, 100, 130, 127]));
    noise.fill(&mut pcm);
    assert_eq!((TOUCHED.get() - before, comfort_noise::describe(&pcm).len()), (0, 1));
}

#[test]
fn detectors_gain_and_mixing_touch_no_memory_manager() {
    use iqra_media::detect::dtmf::{Detector, Generator, Pace};
    use iqra_media::detect::machine::{self, MachineDetector};
    use iqra_media::detect::progress::ProgressDetector;
    use iqra_media::detect::voice::{Energy, VoiceActivity};
    use iqra_media::pcm::agc::{self, Agc};
    use iqra_media::pcm::mix::MixMinus;
    use iqra_media::rtp::telephone_event::Digit;

    for rate in [8_000, 16_000, 48_000] {
        let mut keys = Detector::new(rate);
        let mut progress = ProgressDetector::new(rate);
        let mut voice = VoiceActivity::new(rate, Energy::new(8_000)).unwrap();
        let mut machine =
            MachineDetector::new(rate, Energy::new(16_000), machine::Config::default()).unwrap();
        let mut generator = Generator::new(rate, Pace::default());
        let (mut agc, mut mix) = (Agc::new(rate, agc::Config::default()), MixMinus::new(rate as usize / 50));
        let (mut frame, mut told, mut before) = (vec![0; rate as usize / 50], 0, 0);
        for n in 0..300 {
            if n == 50 {
                before = TOUCHED.get();
                assert!(before > 0, "the counter counts");
            }
            if n % 20 == 0 {
                assert!(generator.press(Digit::from_event((n / 20 % 16) as u8).unwrap()));
            }
            frame.fill(0);
            generator.fill(&mut frame);
            keys.process(&frame, |_| told += 1);
            progress.process(&frame, |_| told += 1);
            voice.process(&frame, |_| told += 1);
            machine.process(&frame, |_| told += 1);
            agc.process(&mut frame);
            mix.start(frame.len());
            mix.add(&frame);
            mix.all(&mut frame);
        }
        assert_eq!(TOUCHED.get() - before, 0, "at {rate} Hz");
        assert!(told >= 30, "{told} events at {rate} Hz");
    }
}

/// PCMU that tells how many allocations and deallocations its thread has made.
struct Telling(G711, Arc<AtomicU64>);

impl Encoder for Telling {
    fn spec(&self) -> CodecSpec {
        PCMU
    }

    fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        self.1.store(TOUCHED.get(), Ordering::Relaxed);
        self.0.encode(pcm, out)
    }
}

/// Has the far end send a packet for each that it hears; gives the frames that the conversation heard.
fn exchange(socket: &UdpSocket, to: SocketAddr, packets: usize, far: &mut Far, line: &mut Line) -> u64 {
    let mut heard = [0; 2_048];
    let frames = (0..packets).map(|_| {
        socket.recv_from(&mut heard).unwrap();
        socket.send_to(far.next(), to).unwrap();
        converse(line).0
    });
    frames.sum()
}

fn a_media_thread_touches_no_memory_manager(reading: Reading, ports: RangeInclusive<u16>) {
    let touched = Arc::new(AtomicU64::new(0));
    let (mut codecs, telling) = (Registry::empty(), touched.clone());
    codecs.register(
        PCMU,
        move |_| Ok(Box::new(Telling(G711::ulaw(), telling.clone()))),
        |_| Ok(Box::new(G711::ulaw())),
    );
    let bind = [127, 0, 0, 1].into();
    // The machine that tests may be as slow as it likes.
    let overload = Overload { refuse: false, ..Overload::default() };
    let config = MediaConfig { ports, bind, codecs, reading, overload, ..MediaConfig::default() };
    let driver = MediaDriver::start(config).unwrap();
    let socket = UdpSocket::bind((bind, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let port = driver.reserve(Direction::Inbound).unwrap();
    let to = port.local_addr();
    let negotiated = Negotiated::new(PCMU, socket.local_addr().unwrap());
    let (mut line, leg) = driver.open(port, negotiated, Formats::both(AudioFormat::HZ_8000)).unwrap();
    let mut far = Far { sequence: 0, packet: [0; 172] };
    // Nobody listens at first, so that the line has all the buffers that it may have: later the machine may be slow.
    let mut heard = [0; 2_048];
    for _ in 0..150 {
        socket.recv_from(&mut heard).unwrap();
        socket.send_to(far.next(), to).unwrap();
    }
    exchange(&socket, to, 50, &mut far, &mut line);
    let before = touched.load(Ordering::Relaxed);
    let frames = exchange(&socket, to, 100, &mut far, &mut line);
    assert_eq!(touched.load(Ordering::Relaxed) - before, 0);
    assert!(before > 0 && frames > 80, "{frames} frames heard");
    drop(leg);
}

#[test]
fn a_media_thread_on_a_tick_touches_no_memory_manager() {
    a_media_thread_touches_no_memory_manager(Reading::Tick(Duration::from_millis(5)), 34_700..=34_709);
}

#[cfg(target_os = "linux")]
#[test]
fn a_media_thread_with_events_touches_no_memory_manager() {
    a_media_thread_touches_no_memory_manager(Reading::Events, 34_710..=34_719);
}
