//! The media driver over real sockets on loopback.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // test helpers

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use iqra_media::codec::g711::PCMU;
use iqra_media::conversation::{
    AudioFormat, Command, Direction, Echo, EndReason, Event, Formats, HangUpReason, Heard, Line, Tone, run,
};
use iqra_media::detect::goertzel;
use iqra_media::net::{CallOptions, Counts, Leg, MediaConfig, MediaDriver, MediaPort, Overload, Reading};
use iqra_media::pcm::wav;
use iqra_media::rtp::packet::{Header, Protocol};
use iqra_media::sdp::Negotiated;
use iqra_media::session::recording::{Recording, Settings};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn driver(ports: std::ops::RangeInclusive<u16>) -> MediaDriver {
    MediaDriver::start(config(ports)).unwrap()
}

/// On loopback, and never overloaded: the machine that tests may be as slow as it likes.
fn config(ports: std::ops::RangeInclusive<u16>) -> MediaConfig {
    let overload = Overload { refuse: false, ..Overload::default() };
    MediaConfig { ports, bind: LOOPBACK, overload, ..MediaConfig::default() }
}

fn reserve(driver: &MediaDriver) -> MediaPort {
    driver.reserve(Direction::Inbound).unwrap()
}

fn negotiated(remote: SocketAddr) -> Negotiated {
    Negotiated::new(PCMU, remote)
}

fn open(driver: &MediaDriver, port: MediaPort, remote: SocketAddr) -> (Line, Leg) {
    driver.open(port, negotiated(remote), Formats::both(AudioFormat::HZ_16000)).unwrap()
}

/// A call between two drivers.
fn call(a: &MediaDriver, b: &MediaDriver) -> ((Line, Leg), (Line, Leg)) {
    let (at_a, at_b) = (reserve(a), reserve(b));
    let (a_addr, b_addr) = (at_a.local_addr(), at_b.local_addr());
    (open(a, at_a, b_addr), open(b, at_b, a_addr))
}

async fn hear(line: &mut Line, samples: usize) -> Vec<i16> {
    let mut heard = Vec::new();
    while heard.len() < samples {
        match line.next().await {
            Some(Heard::Audio(frame)) => heard.extend_from_slice(&frame),
            Some(Heard::Event(_)) => {}
            None => panic!("the line ended"),
        }
    }
    heard
}

/// Whether some fifth of a second is a clean tone: a busy machine may stall a media thread now and then.
fn holds_tone(samples: &[i16], rate: u32, frequency: f64) -> bool {
    samples.chunks(rate as usize / 5).any(|fifth| goertzel::purity(fifth, rate, frequency) > 0.9)
}

#[tokio::test]
async fn a_tone_is_echoed_and_everything_is_given_back() {
    is_echoed(driver(34_200..=34_240), driver(34_250..=34_290)).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_tone_is_echoed_by_events() {
    let by_events =
        |ports| MediaDriver::start(MediaConfig { reading: Reading::Events, ..config(ports) }).unwrap();
    is_echoed(by_events(34_550..=34_569), by_events(34_570..=34_589)).await;
}

async fn is_echoed(a: MediaDriver, b: MediaDriver) {
    let ((mut line, leg), (echo_line, echo_leg)) = call(&a, &b);
    let echo = tokio::spawn(run(Box::new(Echo::default()), echo_line));
    let speaking = line.speaking().clone();
    let mut samples = vec![0; 16_000];
    iqra_media::pcm::tone::Tone::new(700.0, 16_000, 8_000).fill(&mut samples);
    assert_eq!(speaking.play_all(&samples).await, samples.len());
    let heard = hear(&mut line, 12_800).await;
    assert!(holds_tone(&heard, 16_000, 700.0));
    assert_eq!(a.counts(), Counts { sessions: 1, ports: 1, ..Counts::default() });

    echo_leg.end(EndReason::FarEnd);
    assert!(echo.await.unwrap().is_ok());
    let report = leg.close().await;
    assert!(report.packets_received > 30 && report.first_audio_in.is_some(), "{report}");
    echo_leg.close().await;
    assert_eq!((a.counts(), b.counts()), (Counts::default(), Counts::default()));
}

#[tokio::test]
async fn a_dropped_leg_ends_the_line_and_frees_the_port() {
    let driver = driver(34_300..=34_340);
    let port = reserve(&driver);
    let (mut line, leg) = open(&driver, port, SocketAddr::new(LOOPBACK, 9));
    drop(leg);
    while let Some(heard) = line.next().await {
        assert!(matches!(heard, Heard::Event(Event::End(EndReason::Shutdown))));
    }
    driver.shutdown();
    assert_eq!(driver.counts(), Counts::default());
}

#[tokio::test]
async fn a_finished_conversation_asks_to_hang_up() {
    let driver = driver(34_350..=34_390);
    let ((line, mut leg), _far) = call(&driver, &driver);
    let play = iqra_media::conversation::Play::samples(vec![100; 1_600], AudioFormat::HZ_16000);
    let running = tokio::spawn(run(Box::new(play), line));
    assert!(matches!(leg.next_command().await, Some(Command::HangUp(HangUpReason::Completed))));
    assert!(running.await.unwrap().is_ok());
    assert!(leg.close().await.packets_sent >= 5, "a tenth of a second takes five packets");
}

#[tokio::test]
async fn a_shutdown_ends_every_call() {
    let driver = driver(34_400..=34_440);
    let ((mut line, leg), far) = call(&driver, &driver);
    driver.shutdown();
    assert!(matches!(line.next().await, Some(Heard::Event(Event::End(EndReason::Shutdown)))));
    leg.close().await;
    drop(far);
    assert_eq!(driver.counts(), Counts::default());
}

#[tokio::test]
async fn a_recording_holds_both_sides() {
    let driver = driver(34_450..=34_490);
    let path = std::env::temp_dir().join(format!("iqra-call-{}.wav", std::process::id()));
    let (recording, tap) = Recording::create(Settings::new(&path), 8_000).unwrap();
    let (here, there) = (reserve(&driver), reserve(&driver));
    let (here_addr, there_addr) = (here.local_addr(), there.local_addr());
    let options = CallOptions { recording: Some(tap), ..CallOptions::default() };
    let formats = Formats::both(AudioFormat::HZ_8000);
    let (mut line, leg) = driver.open_with(here, negotiated(there_addr), formats, options).unwrap();
    let (far_line, far_leg) = driver.open(there, negotiated(here_addr), formats).unwrap();
    let far = tokio::spawn(run(Box::new(Tone::new(500.0)), far_line));
    let speaking = line.speaking().clone();
    let mut samples = vec![0; 16_000];
    iqra_media::pcm::tone::Tone::new(1_200.0, 8_000, 8_000).fill(&mut samples);
    speaking.play_all(&samples).await;
    hear(&mut line, 8_000).await;
    leg.close().await;
    far_leg.close().await;
    assert!(far.await.unwrap().is_ok());
    let recorded = tokio::task::spawn_blocking(|| recording.finish()).await.unwrap().unwrap();
    assert_eq!(recorded.lost_samples, 0);
    let wav = wav::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let (left, right): (Vec<_>, Vec<_>) = wav.samples.chunks_exact(2).map(|s| (s[0], s[1])).unzip();
    assert!(left.len() >= 8_000, "about a second, not {} samples", left.len());
    assert!(holds_tone(&left, 8_000, 500.0), "the caller is left");
    assert!(holds_tone(&right, 8_000, 1_200.0), "the agent is right");
}

#[test]
fn exhausted_ports_are_an_error_that_helps() {
    let driver = driver(34_500..=34_503);
    let _held: Vec<_> = std::iter::from_fn(|| driver.reserve(Direction::Inbound).ok()).collect();
    let refused = driver.reserve(Direction::Inbound).unwrap_err();
    assert!(refused.to_string().contains("34500-34503"), "{refused}");
    driver.shutdown();
}

#[tokio::test]
async fn silence_is_noticed() {
    let driver = driver(34_510..=34_540);
    let port = reserve(&driver);
    let session =
        iqra_media::session::Config { media_timeout: Duration::from_millis(60), ..Default::default() };
    let options = CallOptions { session, ..CallOptions::default() };
    let remote = SocketAddr::new(LOOPBACK, 9);
    let formats = Formats::both(AudioFormat::HZ_8000);
    let (_line, mut leg) = driver.open_with(port, negotiated(remote), formats, options).unwrap();
    assert!(matches!(leg.next_command().await, Some(Command::HangUp(HangUpReason::MediaTimeout))));
}

#[test]
fn a_driver_that_cannot_be_is_not_started() {
    let fault = MediaDriver::start(MediaConfig { threads: 0, ..MediaConfig::default() }).unwrap_err();
    assert_eq!(fault.kind(), std::io::ErrorKind::InvalidInput);
    assert!(fault.to_string().contains("1 to 256"), "{fault}");
}

/// A far end on a bare socket.
struct Far {
    socket: UdpSocket,
    sequence: u16,
    begun: Instant,
}

impl Far {
    fn new() -> Self {
        let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { socket, sequence: 0, begun: Instant::now() }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Sends a packet whose timestamp is the time: it has no jitter, whenever it leaves.
    fn send(&mut self, to: SocketAddr) {
        self.sequence += 1;
        let timestamp = (self.begun.elapsed().as_micros() * 8 / 1_000) as u32;
        let header = Header { payload_type: 0, marker: false, sequence: self.sequence, timestamp, ssrc: 7 };
        let mut packet = [0xff; 172];
        header.write(&[0xff; 160], &mut packet).unwrap();
        self.socket.send_to(&packet, to).unwrap();
    }

    fn next(&self) -> Vec<u8> {
        let mut datagram = [0; 2_048];
        let length = self.socket.recv(&mut datagram).unwrap();
        datagram[..length].to_vec()
    }
}

/// A beat of 20 ms alone would make a jitter of five.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn jitter_is_that_of_the_network_and_not_of_the_beat() {
    let reading = Reading::Tick(Duration::from_millis(20));
    let config = MediaConfig { reading, ..config(34_590..=34_599) };
    let driver = MediaDriver::start(config).unwrap();
    let (mut far, port) = (Far::new(), reserve(&driver));
    let to = port.local_addr();
    let (_line, leg) = open(&driver, port, far.address());
    for _ in 0..150 {
        far.send(to);
        std::thread::sleep(Duration::from_millis(3));
    }
    // What comes back was sent after what came before was read.
    far.next();
    let report = leg.close().await;
    assert!(report.packets_received > 100, "{report}");
    assert!(report.jitter < Duration::from_millis(2), "{:?}", report.jitter);
}

#[tokio::test]
async fn a_far_end_that_is_not_there_yet_is_sent_to_when_it_comes() {
    let driver = driver(34_680..=34_689);
    let (gone, port) = (Far::new(), reserve(&driver));
    let (address, to) = (gone.address(), port.local_addr());
    drop(gone);
    let (_line, leg) = open(&driver, port, address);
    // ICMP says for each packet until then that nobody is there.
    while leg.report().packets_sent < 5 {
        tokio::task::yield_now().await;
    }
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut far = Far { socket, ..Far::new() };
    assert_eq!(Protocol::of(&far.next()), Protocol::Rtp);
    far.send(to);
    far.send(to);
    while leg.report().packets_received < 2 {
        tokio::task::yield_now().await;
    }
    leg.close().await;
}

#[tokio::test]
async fn a_shutdown_says_bye_and_leaves_the_report() {
    let driver = driver(34_690..=34_699);
    let (far, port) = (Far::new(), reserve(&driver));
    let negotiated = Negotiated { rtcp_mux: true, ..negotiated(far.address()) };
    let (_line, leg) = driver.open(port, negotiated, Formats::both(AudioFormat::HZ_8000)).unwrap();
    let first = far.next();
    assert_eq!(Protocol::of(&first), Protocol::Rtp);
    driver.shutdown();
    let last =
        std::iter::repeat_with(|| far.next()).find(|sent| Protocol::of(sent) == Protocol::Rtcp).unwrap();
    let packets = rtcp_types::Compound::parse(&last).unwrap();
    assert!(packets.flatten().any(|packet| matches!(packet, rtcp_types::Packet::Bye(_))), "{last:?}");
    assert!(leg.report().packets_sent >= 1);
    assert_eq!(driver.counts(), Counts::default());
}
