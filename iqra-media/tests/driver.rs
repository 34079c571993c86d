//! The media driver over real sockets on loopback.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // test helpers

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use iqra_media::codec::g711::PCMU;
use iqra_media::conversation::{
    AudioFormat, Command, Echo, EndReason, Event, Formats, HangUpReason, Heard, Line, Tone, run,
};
use iqra_media::detect::goertzel;
use iqra_media::net::{CallOptions, Counts, Leg, MediaConfig, MediaDriver, MediaPort};
use iqra_media::pcm::wav;
use iqra_media::sdp::Negotiated;
use iqra_media::session::recording::{Recording, Settings};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn driver(ports: std::ops::RangeInclusive<u16>) -> MediaDriver {
    MediaDriver::start(MediaConfig { ports, bind: LOOPBACK, ..MediaConfig::default() }).unwrap()
}

fn negotiated(remote: SocketAddr) -> Negotiated {
    Negotiated::new(PCMU, remote)
}

fn open(driver: &MediaDriver, port: MediaPort, remote: SocketAddr) -> (Line, Leg) {
    driver.open(port, negotiated(remote), Formats::both(AudioFormat::HZ_16000)).unwrap()
}

/// A call between two drivers.
fn call(a: &MediaDriver, b: &MediaDriver) -> ((Line, Leg), (Line, Leg)) {
    let (at_a, at_b) = (a.reserve().unwrap(), b.reserve().unwrap());
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
    let (a, b) = (driver(34_200..=34_240), driver(34_250..=34_290));
    let ((mut line, leg), (echo_line, echo_leg)) = call(&a, &b);
    let echo = tokio::spawn(run(Box::new(Echo::default()), echo_line));
    let speaking = line.speaking().clone();
    let mut samples = vec![0; 16_000];
    iqra_media::pcm::tone::Tone::new(700.0, 16_000, 8_000).fill(&mut samples);
    assert_eq!(speaking.play_all(&samples).await, samples.len());
    let heard = hear(&mut line, 12_800).await;
    assert!(holds_tone(&heard, 16_000, 700.0));
    assert_eq!(a.counts(), Counts { sessions: 1, ports: 1 });

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
    let port = driver.reserve().unwrap();
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
    let (here, there) = (driver.reserve().unwrap(), driver.reserve().unwrap());
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
    let _held: Vec<_> = std::iter::from_fn(|| driver.reserve().ok()).collect();
    let refused = driver.reserve().unwrap_err();
    assert!(refused.to_string().contains("34500-34503"), "{refused}");
    driver.shutdown();
}

#[tokio::test]
async fn silence_is_noticed() {
    let driver = driver(34_510..=34_540);
    let port = driver.reserve().unwrap();
    let session =
        iqra_media::session::Config { media_timeout: Duration::from_millis(60), ..Default::default() };
    let options = CallOptions { session, ..CallOptions::default() };
    let remote = SocketAddr::new(LOOPBACK, 9);
    let formats = Formats::both(AudioFormat::HZ_8000);
    let (_line, mut leg) = driver.open_with(port, negotiated(remote), formats, options).unwrap();
    assert!(matches!(leg.next_command().await, Some(Command::HangUp(HangUpReason::MediaTimeout))));
}
