//! Whole calls between two media sessions on a virtual clock.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // test helpers

mod link;

use std::time::{Duration, Instant};

use iqra_media::codec::g711::{G711, PCMA, PCMU};
use iqra_media::codec::g722::G722;
use iqra_media::codec::l16;
use iqra_media::codec::{Decoder, Registry};
use iqra_media::conversation::{
    AudioFormat, Command, EndReason, Event, Extent, Formats, HangUpReason, Limits, Speaking,
};
use iqra_media::detect::dtmf::{Generator, Pace};
use iqra_media::detect::goertzel;
use iqra_media::rtp::packet::{Header, Packet};
use iqra_media::rtp::telephone_event::Digit;
use iqra_media::sdp::{Direction, Negotiated};
use iqra_media::session::{MAX_BURST, Plan, Port};
use link::{Call, Setup, Weather, address, codecs, key, negotiated};
use proptest::prelude::*;

fn plan(negotiated: Negotiated) -> Plan {
    Plan::new(negotiated, Formats::both(AudioFormat::HZ_8000), &Registry::default()).unwrap()
}

fn directed(direction: Direction, remote: u8) -> Plan {
    plan(Negotiated { direction, ..negotiated(PCMU, 20, address(remote)) })
}

/// How much of what was heard, after half a second to settle, is a tone.
fn purity(heard: &[i16], rate: u32, frequency: f64) -> f64 {
    let settled = &heard[rate as usize / 2..];
    goertzel::purity(&settled[..rate as usize / 2], rate, frequency)
}

#[test]
fn a_tone_is_heard_in_both_laws_at_every_rate() {
    for codec in [PCMU, PCMA] {
        for rate in [8_000, 16_000, 24_000, 48_000] {
            let formats = Formats::both(AudioFormat::new(rate).unwrap());
            let mut call = Call::new(&Setup { codec, formats, ..Setup::default() });
            call.a.hum(1_000.0, 1_500);
            call.talk(1_400);
            let found = purity(&call.b.heard, rate, 1_000.0);
            assert!(found > 0.99, "{} at {rate}: {found}", codec.name);
            let level = goertzel::amplitude(&call.b.heard[rate as usize / 2..rate as usize], rate, 1_000.0);
            assert!((7_800.0..8_200.0).contains(&level), "{} at {rate}: {level}", codec.name);
        }
    }
}

#[test]
fn hearing_and_speaking_may_differ_in_rate() {
    let formats = Formats { hears: AudioFormat::HZ_16000, speaks: AudioFormat::HZ_24000 };
    let mut call = Call::new(&Setup { formats, ..Setup::default() });
    call.a.hum(440.0, 1_500);
    call.talk(1_400);
    assert!(purity(&call.b.heard, 16_000, 440.0) > 0.99);
}

#[test]
fn a_tone_survives_five_percent_loss_and_jitter() {
    for (seed, codec) in [(7, PCMU), (8, PCMA), (9, PCMU)] {
        let (delay, jitter) = (Duration::from_millis(30), Duration::from_millis(25));
        let weather = Weather { loss: 0.05, delay, jitter, ..Weather::default() };
        let mut call = Call::new(&Setup { codec, weather, seed, ..Setup::default() });
        call.a.hum(800.0, 10_000);
        call.talk(9_000);
        let tenths = call.b.heard[4_000..].chunks_exact(800);
        let clean = tenths.clone().filter(|tenth| goertzel::purity(tenth, 8_000, 800.0) > 0.9).count();
        assert!(clean * 100 > tenths.len() * 60, "seed {seed}: {clean} of {} tenths", tenths.len());
        let report = call.b.session.report();
        assert!((0.02..0.09).contains(&report.loss()), "seed {seed}: {report}");
        assert!(report.concealed > Duration::from_millis(100) && report.jitter > Duration::from_millis(2));
    }
}

#[test]
fn every_packet_time_keeps_its_pace() {
    for ptime_ms in [10, 20, 30, 40, 60] {
        let mut call = Call::new(&Setup { ptime_ms, ..Setup::default() });
        call.a.hum(1_000.0, 1_500);
        call.talk(1_200);
        let expected = 1_200 / u64::from(ptime_ms);
        assert!(call.a.session.report().packets_sent.abs_diff(expected) <= 1, "{ptime_ms} ms");
        assert_eq!(call.a.sent[0].len(), 12 + 8 * usize::from(ptime_ms));
        assert!(purity(&call.b.heard, 8_000, 1_000.0) > 0.99, "{ptime_ms} ms");
    }
}

#[test]
fn silence_is_sent_when_nothing_is_said() {
    let mut call = Call::new(&Setup::default());
    call.talk(1_000);
    assert!(call.a.sent.len() >= 49 && call.b.sent.len() >= 49);
    assert!(call.b.heard.iter().all(|&sample| sample.abs() < 16));
    let heard = call.b.heard.len();
    assert!((7_200..=8_000).contains(&heard), "the heard time line has no gaps: {heard} samples");
}

#[tokio::test]
async fn each_key_arrives_once_under_heavy_loss() {
    for seed in 0..20 {
        let weather = Weather {
            loss: 0.2,
            duplicates: 0.1,
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(30),
        };
        let mut call = Call::new(&Setup { weather, seed, ..Setup::default() });
        call.a.line.speaking().send_dtmf("1159#*0AD").await.unwrap();
        call.talk(3_000);
        assert_eq!(call.b.keys(), "1159#*0AD", "seed {seed}");
        assert_eq!(call.a.session.report().dtmf_sent, 9);
    }
}

#[tokio::test]
async fn keys_wait_for_speech_and_speech_for_keys() {
    let mut call = Call::new(&Setup::default());
    call.a.hum(1_000.0, 400);
    call.a.line.speaking().send_dtmf("5").await.unwrap();
    let mark = call.a.line.speaking().mark().await.unwrap();
    call.a.hum(2_000.0, 400);
    call.talk(1_200);
    assert_eq!(call.b.keys(), "5");
    assert_eq!(call.a.events, [Event::Mark(mark)]);
    let kinds: Vec<u8> = call.a.sent.iter().map(|sent| Packet::parse(sent).unwrap().payload_type()).collect();
    let keys = kinds.iter().filter(|&&kind| kind == 101).count();
    assert_eq!(kinds[..20], [0; 20], "first what was said before");
    assert!(kinds[20..20 + keys].iter().all(|&kind| kind == 101), "then the key, without audio between");
    assert!(goertzel::purity(&call.b.heard[5_200..7_200], 8_000, 2_000.0) > 0.9, "then what was said after");
}

#[tokio::test]
async fn speech_that_ends_within_a_packet_is_said_before_the_key() {
    let mut call = Call::new(&Setup::default());
    let speech = [8_000; 3 * 160 + 40];
    assert_eq!(call.a.line.speaking().play(&speech), speech.len());
    call.a.line.speaking().send_dtmf("5").await.unwrap();
    call.talk(500);
    let audio = call.a.sent.iter().map(|bytes| Packet::parse(bytes).unwrap());
    let audio = audio.filter(|packet| packet.payload_type() == 0);
    let said: usize = audio.map(|packet| packet.payload().iter().filter(|&&byte| byte != 0xFF).count()).sum();
    assert_eq!((said, call.b.keys().as_str()), (speech.len(), "5"));
}

/// A call without telephone-events.
fn without_events(setup: &Setup) -> Call {
    Call::planned(setup, |negotiated, _| {
        let negotiated = Negotiated { telephone_event: None, ..negotiated };
        Plan::new(negotiated, setup.formats, &codecs()).unwrap()
    })
}

#[tokio::test]
async fn keys_are_tones_for_a_far_end_without_events() {
    for codec in [PCMU, PCMA, G722, l16::HZ_16000] {
        for ptime_ms in [10, 20, 30] {
            let mut call = without_events(&Setup { codec, ptime_ms, ..Setup::default() });
            call.a.line.speaking().send_dtmf("1159#*0AD").await.unwrap();
            call.talk(2_500);
            assert_eq!(call.b.keys(), "1159#*0AD", "{} in {ptime_ms} ms", codec.name);
            assert_eq!(call.a.session.report().dtmf_sent, 9);
        }
    }
}

#[tokio::test]
async fn tones_of_keys_wait_for_speech_and_speech_for_them() {
    let mut call = without_events(&Setup::default());
    call.a.hum(1_000.0, 410);
    call.a.line.speaking().send_dtmf("57").await.unwrap();
    let mark = call.a.line.speaking().mark().await.unwrap();
    call.a.hum(2_000.0, 400);
    call.talk(1_500);
    assert_eq!((call.b.keys().as_str(), call.a.events.as_slice()), ("57", &[Event::Mark(mark)][..]));
    let sound: Vec<Vec<i16>> = call.a.sent.iter().map(|sent| decoded(sent)).collect();
    let tone = |packet: usize, hz| goertzel::purity(&sound[packet], 8_000, hz) > 0.9;
    assert!((0..20).all(|packet| tone(packet, 1_000.0)), "first what was said before");
    // A key sounds for 100 ms and is followed by 60 ms of silence, as if it were sent as events; then the next begins.
    let power = |packet: usize| sound[packet].iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / 160.0;
    let loud: Vec<bool> = (21..37).map(|packet| power(packet) > 1e5).collect();
    assert_eq!(loud, [[true; 5].as_slice(), &[false; 3], &[true; 5], &[false; 3]].concat());
    assert!((37..57).all(|packet| tone(packet, 2_000.0)), "then what was said after");
    assert!(call.a.sent.iter().all(|sent| Packet::parse(sent).unwrap().payload_type() == 0));
}

/// The samples of a packet of PCMU.
fn decoded(packet: &[u8]) -> Vec<i16> {
    let payload = Packet::parse(packet).unwrap().payload().to_vec();
    let mut pcm = vec![0; payload.len()];
    G711::ulaw().decode(&payload, &mut pcm).unwrap();
    pcm
}

#[tokio::test]
async fn keys_under_way_follow_a_renegotiation_to_tones_and_back() {
    let mut call = Call::new(&Setup::default());
    call.a.line.speaking().send_dtmf("123456").await.unwrap();
    for (events, millis) in [(true, 330), (false, 320), (true, 1_000)] {
        for at_a in [true, false] {
            let (side, remote) = if at_a { (&mut call.a, 2) } else { (&mut call.b, 1) };
            let negotiated = negotiated(PCMU, 20, address(remote));
            let telephone_event = negotiated.telephone_event.filter(|_| events);
            side.session.update(call.now, plan(Negotiated { telephone_event, ..negotiated }));
        }
        call.run(millis);
    }
    let keys = call.b.keys();
    assert!(keys.starts_with("12") && keys.ends_with("6"), "{keys}");
    assert_eq!(call.a.session.report().dtmf_sent, 6);
}

/// Begins `clear`, lets the media thread run, and gives the result.
async fn clear(call: &mut Call, speaking: &Speaking) -> iqra_media::conversation::Cleared {
    let speaking = speaking.clone();
    let clearing = tokio::spawn(async move { speaking.clear().await });
    tokio::task::yield_now().await;
    call.run(40);
    clearing.await.unwrap()
}

#[tokio::test]
async fn clear_tells_exactly_how_much_was_played() {
    let formats = Formats::both(AudioFormat::HZ_24000);
    let mut call = Call::new(&Setup { formats, ..Setup::default() });
    let first = call.a.line.speaking().new_utterance();
    let second = first.new_utterance();
    let third = first.new_utterance();
    assert_eq!(first.play(&[3_000; 24_000]), 24_000);
    assert_eq!(second.play(&[4_000; 24_000]), 24_000);
    assert_eq!(third.play(&[5_000; 24_000]), 24_000);
    call.run_deaf(1_500);
    let said = call.a.sent.len() as u64 * 480;
    let cleared = clear(&mut call, &first).await;
    let fade = 192;
    assert_eq!(cleared.played(first.utterance()), None, "it was played to its end");
    assert_eq!(cleared.played(second.utterance()), Some(Extent::Exact(said - 24_000 + fade)));
    assert_eq!(cleared.played(third.utterance()), Some(Extent::Exact(0)));
    call.run(100);
    let after = call.a.sent.last().unwrap();
    assert!(Packet::parse(after).unwrap().payload().iter().all(|&byte| byte == 0xff), "silence follows");
}

#[tokio::test]
async fn an_utterance_in_parts_is_counted_from_its_beginning() {
    let mut call = Call::new(&Setup::default());
    let speaking = call.a.line.speaking().new_utterance();
    assert_eq!(speaking.play(&[900; 1_600]), 1_600);
    call.run(400);
    assert_eq!(speaking.play(&[900; 8_000]), 8_000);
    let before = call.a.sent.len();
    call.run(200);
    let parts = (call.a.sent.len() - before) as u64 * 160;
    let cleared = clear(&mut call, &speaking).await;
    assert_eq!(cleared.played(speaking.utterance()), Some(Extent::Exact(1_600 + parts + 64)));
    assert_eq!(speaking.play(&[900; 800]), 800);
    let again = clear(&mut call, &speaking).await;
    let more = again.played(speaking.utterance()).unwrap().samples();
    assert_eq!(more, 1_600 + parts + 64 + 64, "and goes on from where it was cut");
}

#[tokio::test]
async fn clear_with_nothing_to_clear_answers_at_once() {
    let call = Call::new(&Setup::default());
    assert!(call.a.line.speaking().clear().await.utterances.is_empty());
}

#[tokio::test]
async fn clear_forgets_marks_keys_and_who_waits_for_room() {
    let limits = Limits { speaking: Duration::from_millis(500), ..Limits::default() };
    let mut call = Call::new(&Setup { limits, ..Setup::default() });
    let speaking = call.a.line.speaking().clone();
    assert!(speaking.play(&[700; 3_000]) == 3_000);
    speaking.mark().await.unwrap();
    speaking.send_dtmf("7").await.unwrap();
    let waiting = speaking.clone();
    let waiting = tokio::spawn(async move { waiting.play_all(&[700; 8_000]).await });
    tokio::task::yield_now().await;
    let cleared = clear(&mut call, &speaking).await;
    assert_eq!(cleared.utterances.len(), 1);
    assert!(waiting.await.unwrap() < 8_000, "what waited for room is not said afterwards");
    call.talk(1_000);
    assert_eq!((call.a.events.len(), call.b.keys().as_str()), (0, ""));
}

#[tokio::test]
async fn play_all_waits_for_room_and_played_out_for_the_end() {
    let limits = Limits { speaking: Duration::from_millis(200), ..Limits::default() };
    let mut call = Call::new(&Setup { limits, ..Setup::default() });
    let speaking = call.a.line.speaking().clone();
    assert_eq!(speaking.play(&[500; 4_000]), 1_600, "a queue of 200 ms takes 200 ms");
    let playing = tokio::spawn(async move {
        let taken = speaking.play_all(&[500; 8_000]).await;
        speaking.played_out().await;
        taken
    });
    let mut elapsed = 0;
    while !playing.is_finished() {
        tokio::task::yield_now().await;
        call.run(20);
        elapsed += 20;
        assert!(elapsed < 3_000);
    }
    assert_eq!(playing.await.unwrap(), 8_000);
    assert!((1_180..=1_260).contains(&elapsed), "1.2 s of audio take 1.2 s, not {elapsed} ms");
}

#[tokio::test]
async fn a_slow_conversation_loses_the_oldest_audio_and_no_event() {
    let mut call = Call::new(&Setup::default());
    call.a.line.speaking().send_dtmf("123456").await.unwrap();
    call.run_deaf(3_000);
    call.b.listen();
    assert_eq!(call.b.keys(), "123456");
    assert_eq!(call.b.heard.len(), 50 * 160, "a second of audio waited");
    let unheard = call.b.session.report().unheard;
    assert!((1_800..=2_000).contains(&unheard.as_millis()), "the rest is counted: {unheard:?}");
}

/// Plays `parts` of 200 ms, each `gap` ms after the one before was played to its end; tells the underruns and the gaps.
fn spoken_in_parts(call: &mut Call, speaking: &Speaking, parts: usize, gap: u64) -> (u64, Duration) {
    for _ in 0..parts {
        assert_eq!(speaking.play(&[900; 1_600]), 1_600);
        call.run(200 + gap);
    }
    let report = call.a.session.report();
    (report.playout_underruns, report.playout_gaps)
}

#[test]
fn a_conversation_too_slow_to_feed_its_utterance_is_an_underrun_of_playout() {
    let mut call = Call::new(&Setup::default());
    let speaking = call.a.line.speaking().new_utterance();
    let (underruns, gaps) = spoken_in_parts(&mut call, &speaking, 4, 100);
    assert!(underruns == 3 && (280..=340).contains(&gaps.as_millis()), "{underruns} of {gaps:?}");
    let report = call.b.session.report();
    assert_eq!((report.playout_underruns, report.underruns), (0, 0), "{report}");
    assert!(call.a.session.report().to_string().contains(" playout_underruns=3 playout_gaps_ms=3"));
}

#[tokio::test]
async fn what_ended_or_was_interrupted_is_no_underrun_of_playout() {
    let none = (0, Duration::ZERO);
    let mut call = Call::new(&Setup::default());
    let speaking = call.a.line.speaking().new_utterance();
    assert_eq!(spoken_in_parts(&mut call, &speaking, 2, 1_000), none, "it had been silent for a second");
    for _ in 0..3 {
        let next = speaking.new_utterance();
        assert_eq!(spoken_in_parts(&mut call, &next, 1, 60), none, "each is another utterance");
    }
    let cleared = speaking.new_utterance();
    spoken_in_parts(&mut call, &cleared, 1, 60);
    assert!(cleared.clear().await.utterances.is_empty());
    assert_eq!(spoken_in_parts(&mut call, &cleared, 1, 60), none, "nothing was left to clear");
    let keys = speaking.new_utterance();
    spoken_in_parts(&mut call, &keys, 1, 0);
    keys.send_dtmf("5").await.unwrap();
    call.run(300);
    assert_eq!(spoken_in_parts(&mut call, &keys, 1, 60), none, "a key was pressed");
    for direction in [Direction::RecvOnly, Direction::SendRecv] {
        call.a.session.update(call.now, directed(direction, 2));
        call.run(200);
    }
    assert_eq!(spoken_in_parts(&mut call, &keys, 1, 1_000), none, "the call was on hold");
}

#[test]
fn hold_pauses_what_is_said() {
    let mut call = Call::new(&Setup::default());
    call.a.hum(1_000.0, 1_000);
    call.talk(400);
    let said = call.a.sent.len();
    call.a.session.update(call.now, directed(Direction::RecvOnly, 2));
    call.b.session.update(call.now, directed(Direction::SendOnly, 1));
    call.talk(1_000);
    assert_eq!(call.a.sent.len(), said, "nothing is sent on hold");
    assert_eq!((call.a.events.as_slice(), call.b.events.len()), (&[Event::Hold][..], 0));
    call.a.session.update(call.now, directed(Direction::SendRecv, 2));
    call.b.session.update(call.now, directed(Direction::SendRecv, 1));
    call.talk(1_000);
    assert_eq!(call.a.events, [Event::Hold, Event::Resume]);
    assert_eq!(spoken_packets(&call.a.sent), 50, "what was left is said afterwards");
}

#[tokio::test]
async fn clear_works_on_hold() {
    let mut call = Call::new(&Setup::default());
    call.a.hum(1_000.0, 1_000);
    call.a.session.update(call.now, directed(Direction::Inactive, 2));
    let speaking = call.a.line.speaking().clone();
    let cleared = clear(&mut call, &speaking).await;
    assert_eq!(cleared.played(speaking.utterance()), Some(Extent::Exact(0)));
}

#[test]
fn a_renegotiation_may_change_codec_and_packet_time() {
    let mut call = Call::new(&Setup::default());
    call.a.hum(1_000.0, 3_000);
    call.talk(1_000);
    call.a.session.update(call.now, plan(negotiated(PCMA, 30, address(2))));
    call.b.session.update(call.now, plan(negotiated(PCMA, 30, address(1))));
    call.b.heard.clear();
    call.talk(1_500);
    assert!(purity(&call.b.heard, 8_000, 1_000.0) > 0.99);
    assert_eq!(call.a.sent.last().unwrap().len(), 12 + 240);
    assert_eq!(call.a.session.report().codec, "PCMA");
}

#[test]
fn strangers_are_not_heard() {
    let mut call = Call::new(&Setup::default());
    call.talk(500);
    let replayed = call.a.sent.last().unwrap().clone();
    for _ in 0..50 {
        call.b.session.handle_packet(call.now, address(66), Port::Rtp, &mut replayed.clone());
        call.run(20);
    }
    let report = call.b.session.report();
    assert_eq!(report.refused, 50);
    assert_eq!(report.duplicate, 0);
}

#[test]
fn a_stall_is_made_up_for_without_a_burst_and_loses_no_speech() {
    let mut call = Call::new(&Setup::default());
    call.a.hum(1_000.0, 1_000);
    call.talk(200);
    let (before, last) = (call.a.sent.len(), timestamp(call.a.sent.last().unwrap()));
    call.now += Duration::from_secs(1);
    let mut left_at = Vec::new();
    for beat in 0..40 {
        let sent = call.a.sent.len();
        call.run(5);
        left_at.extend(vec![beat * 5; call.a.sent.len() - sent]);
    }
    assert!(left_at.windows(2).all(|pair| pair[1] - pair[0] >= 10), "half a packet time apart: {left_at:?}");
    let (made_up, regular) = (MAX_BURST as usize, 10);
    assert_eq!(call.a.sent.len() - before, made_up + regular, "{left_at:?}");
    let now = timestamp(call.a.sent.last().unwrap());
    assert!((59 * 160..=61 * 160).contains(&now.wrapping_sub(last)), "the clock went on");
    call.talk(1_000);
    assert_eq!(call.a.session.report().first_audio_out, Some(Duration::from_millis(5)));
    assert_eq!(spoken_packets(&call.a.sent), 50);
}

/// Packets that are not all silence.
fn spoken_packets(sent: &[Vec<u8>]) -> usize {
    sent.iter().filter(|packet| packet[12..].iter().any(|&byte| byte != 0xff)).count()
}

fn timestamp(packet: &[u8]) -> u32 {
    Packet::parse(packet).unwrap().timestamp()
}

#[tokio::test]
async fn a_minute_of_silence_asks_for_a_hang_up_but_not_on_hold() {
    let mut call =
        Call::new(&Setup { weather: Weather { loss: 1.0, ..Weather::default() }, ..Setup::default() });
    call.a.session.update(call.now, directed(Direction::RecvOnly, 2));
    call.talk(61_000);
    let mut side = call.b;
    assert!(matches!(side.commands.next().await, Some(Command::HangUp(HangUpReason::MediaTimeout))));
    drop(call.a.session);
    drop(call.a.line);
    assert!(call.a.commands.next().await.is_none());
}

#[test]
fn the_end_comes_last_and_with_its_reason() {
    let mut call = Call::new(&Setup::default());
    call.talk(200);
    call.a.session.end(EndReason::FarEnd);
    call.run(20);
    assert_eq!(call.a.events, [Event::End(EndReason::FarEnd)]);
    assert_eq!(call.a.line.speaking().play(&[0; 160]), 0);
}

#[tokio::test]
async fn a_key_reaches_the_conversation_as_an_event() {
    let mut call = Call::new(&Setup::default());
    call.a.line.speaking().send_dtmf("#").await.unwrap();
    call.talk(500);
    assert_eq!(call.b.events, [key('#')]);
}

#[tokio::test]
async fn a_press_that_comes_beside_the_media_too_is_heard_once() {
    let mut call = Call::new(&Setup::default());
    let press = |call: &mut Call| call.b.session.press(call.now, Digit::from_char('#').unwrap());
    call.a.line.speaking().send_dtmf("#").await.unwrap();
    call.talk(100);
    press(&mut call);
    call.talk(500);
    assert_eq!(call.b.events, [key('#')]);
    press(&mut call);
    press(&mut call);
    call.talk(100);
    assert_eq!(call.b.events, [key('#'), key('#'), key('#')]);
    assert_eq!(call.b.session.report().dtmf_received, 3);
}

#[test]
fn keys_in_the_audio_are_heard_where_the_far_end_has_no_events_and_not_beside_them() {
    for (events, heard) in [(false, "147*0#"), (true, "")] {
        let setup = Setup::default();
        let mut call = Call::planned(&setup, |negotiated, _| {
            let telephone_event = negotiated.telephone_event.filter(|_| events);
            plan(Negotiated { telephone_event, ..negotiated })
        });
        let mut keys = Generator::new(8_000, Pace::default());
        for label in "147*0#".chars() {
            assert!(keys.press(Digit::from_char(label).unwrap()));
        }
        let mut samples = vec![0; 12_000];
        keys.fill(&mut samples);
        call.a.line.speaking().play(&samples);
        call.talk(2_000);
        assert_eq!(call.b.keys(), heard);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_datagram_panics(datagrams in prop::collection::vec(datagram(), 1..60), steps in prop::collection::vec(0u64..500, 60)) {
        let mut call = Call::new(&Setup::default());
        for (bytes, millis) in datagrams.iter().zip(steps) {
            call.b.session.handle_packet(call.now, address(1), Port::Rtp, &mut bytes.to_vec());
            call.run(millis);
        }
    }
}

/// Anything at all, or a packet of a known kind with anything inside.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let rtp = (
        any::<[u8; 10]>(),
        prop::sample::select(vec![0_u8, 8, 13, 101, 128]),
        prop::collection::vec(any::<u8>(), 0..1_480),
    );
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        rtp.prop_map(|(rest, kind, payload)| [&[0x80, kind][..], &rest, &payload].concat()),
    ]
}

#[test]
fn a_run_repeats_by_its_seed() {
    let run = || {
        let weather = Weather { loss: 0.1, jitter: Duration::from_millis(40), ..Weather::default() };
        let mut call = Call::new(&Setup { weather, seed: 42, ..Setup::default() });
        call.a.hum(500.0, 2_000);
        call.talk(2_000);
        call.b.heard
    };
    let started = Instant::now();
    assert_eq!(run(), run());
    assert!(started.elapsed() < Duration::from_secs(4), "virtual time takes no wall time");
}

#[test]
fn a_packet_counts_from_when_it_arrived_and_not_from_when_it_was_read() {
    let mut call = Call::new(&Setup::default());
    let begun = call.now;
    let (mut next, mut packet) = (0_u16, [0xff; 172]);
    for beat in 1..200 {
        let now = begun + Duration::from_millis(15 * beat);
        while begun + Duration::from_millis(20 * u64::from(next)) <= now {
            let timestamp = u32::from(next) * 160;
            let header = Header { payload_type: 0, marker: false, sequence: next, timestamp, ssrc: 7 };
            header.write(&[0xff; 160], &mut packet).unwrap();
            let arrival = begun + Duration::from_millis(20 * u64::from(next));
            call.a.session.handle_packet(arrival, address(2), Port::Rtp, &mut packet);
            next += 1;
        }
        call.a.session.tick(now);
        call.a.listen();
    }
    let report = call.a.session.report();
    assert_eq!((report.late, report.underruns, report.lost), (0, 0, 0), "{report}");
    assert!(report.packets_received > 140 && report.jitter.is_zero(), "{report}");
}
