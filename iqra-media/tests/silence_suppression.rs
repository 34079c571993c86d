//! Comfort noise in place of audio while nothing is said, between two media sessions on a virtual clock.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // test helpers

mod link;

use std::time::Duration;

use iqra_media::codec::comfort_noise::PAYLOAD_TYPE;
use iqra_media::codec::g711::PCMU;
use iqra_media::codec::g722::G722;
use iqra_media::conversation::{AudioFormat, Formats};
use iqra_media::detect::goertzel;
use iqra_media::rtp::packet::Packet;
use iqra_media::sdp::{ComfortNoise, Negotiated};
use iqra_media::session::{Config, Plan, SilenceSuppression};
use link::{Call, Setup, codecs};

fn suppressing() -> Config {
    Config { silence_suppression: Some(SilenceSuppression::default()), ..Config::default() }
}

fn call(setup: &Setup, negotiated_noise: bool) -> Call {
    let noise = ComfortNoise { send_payload: PAYLOAD_TYPE, receive_payload: PAYLOAD_TYPE };
    Call::planned(setup, |negotiated, _| {
        let negotiated = Negotiated { comfort_noise: negotiated_noise.then_some(noise), ..negotiated };
        Plan::new(negotiated, setup.formats, &codecs()).unwrap()
    })
}

/// Payload type, marker and packet times since the first, of each packet that A sent.
fn sent(call: &Call) -> Vec<(u8, bool, u32)> {
    let packets: Vec<_> = call.a.sent.iter().map(|sent| Packet::parse(sent).unwrap()).collect();
    let first = packets[0].timestamp();
    packets.iter().map(|p| (p.payload_type(), p.marker(), p.timestamp().wrapping_sub(first) / 160)).collect()
}

fn noise_packets(call: &Call) -> Vec<(u32, u8)> {
    let level = |at: usize| Packet::parse(&call.a.sent[at]).unwrap().payload()[0];
    let numbered = sent(call).into_iter().enumerate();
    numbered
        .filter(|(_, (kind, ..))| *kind == PAYLOAD_TYPE)
        .map(|(at, (.., time))| (time, level(at)))
        .collect()
}

#[test]
fn silence_is_audio_unless_both_ends_want_comfort_noise() {
    for (config, negotiated) in [(Config::default(), true), (suppressing(), false)] {
        let mut call = call(&Setup { config, ..Setup::default() }, negotiated);
        call.talk(2_000);
        assert!(call.a.sent.len() >= 99 && sent(&call).iter().all(|&(kind, ..)| kind == 0));
    }
}

#[test]
fn a_pause_is_a_description_every_400_ms_and_speech_after_it_is_marked() {
    for codec in [PCMU, G722] {
        let mut call = call(&Setup { codec, config: suppressing(), ..Setup::default() }, true);
        call.a.hum(1_000.0, 1_000);
        call.talk(3_000);
        call.a.hum(1_000.0, 1_000);
        call.talk(1_500);
        let sent = sent(&call);
        let audio = codec.payload_type;
        // A second of speech and 200 ms of hang-over.
        let hang_over = sent.iter().position(|&(kind, ..)| kind == PAYLOAD_TYPE).unwrap();
        assert!((60..=62).contains(&hang_over), "{}: {hang_over}", codec.name);
        let (pause, resumed) =
            (&sent[hang_over..], sent[hang_over..].iter().position(|&(kind, ..)| kind == audio).unwrap());
        let times: Vec<u32> = pause[..resumed].iter().map(|&(.., time)| time).collect();
        assert!((4..=7).contains(&times.len()), "{}: {times:?}", codec.name);
        assert!(
            times.windows(2).all(|pair| (5..=20).contains(&(pair[1] - pair[0]))),
            "{}: {times:?}",
            codec.name
        );
        assert!(pause[..resumed].iter().all(|&(_, marker, _)| !marker));
        let (_, marker, time) = pause[resumed];
        assert!(marker && (149..=151).contains(&time), "{}: the clock went on to {time}", codec.name);
        let marked = sent.iter().filter(|&&(_, marker, _)| marker).count();
        assert_eq!(marked, 2, "the first packet, and the first after the pause");
        let report = call.b.session.report();
        assert_eq!((report.lost, report.concealed), (0, Duration::ZERO), "{report}");
        let heard = call.b.heard.len();
        assert!((34_000..=36_000).contains(&heard), "the heard time line has no gaps: {heard} samples");
        let end = &call.b.heard[27_000..31_000];
        assert!(goertzel::purity(end, 8_000, 1_000.0) > 0.99, "{}", codec.name);
    }
}

#[test]
fn a_description_has_the_level_of_the_background_and_follows_its_changes() {
    let mut call = call(&Setup { config: suppressing(), ..Setup::default() }, true);
    // -65 dBov for a second, -75 dBov for another, and then nothing at all.
    for peak in [26, 8] {
        let mut random = fastrand::Rng::with_seed(3);
        let hiss: Vec<i16> = (0..8_000).map(|_| if random.bool() { peak } else { -peak } * 2 / 3).collect();
        assert_eq!(call.a.line.speaking().play(&hiss), hiss.len());
    }
    call.talk(4_000);
    let told = noise_packets(&call);
    let at = |from: u32, to: u32| {
        told.iter().filter(move |(time, _)| (from..to).contains(time)).map(|&(_, level)| level)
    };
    let expected = |peak: f64| (20.0 * (32_767.0 / peak).log10()).round() as u8;
    assert!(at(10, 50).all(|level| level.abs_diff(expected(17.0)) <= 1), "{told:?}");
    assert!(at(70, 100).all(|level| level.abs_diff(expected(5.0)) <= 1), "{told:?}");
    assert!(at(150, 200).all(|level| level == 127), "{told:?}");
    assert!(at(10, 50).count() > 1 && at(70, 100).count() > 0 && at(150, 200).count() > 1, "{told:?}");
    let change = told.iter().find(|&&(time, level)| time >= 50 && level > expected(17.0) + 2).unwrap().0;
    assert!(change <= 58, "a change is told soon: {told:?}");
}

#[tokio::test]
async fn keys_interrupt_a_pause() {
    let mut call = call(&Setup { config: suppressing(), ..Setup::default() }, true);
    call.talk(1_000);
    call.a.line.speaking().send_dtmf("42").await.unwrap();
    call.talk(1_000);
    assert_eq!(call.b.keys(), "42");
}

#[test]
fn a_pause_sends_a_tenth_of_the_packets() {
    let formats = Formats::both(AudioFormat::HZ_24000);
    let mut call = call(&Setup { config: suppressing(), formats, ..Setup::default() }, true);
    call.talk(10_000);
    assert!(call.a.sent.len() < 50, "{}", call.a.sent.len());
    assert!(call.b.heard.iter().all(|&sample| sample.abs() < 16));
}
