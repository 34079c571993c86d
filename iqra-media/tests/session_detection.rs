//! What is found in the audio of whole calls, on the clock of what the conversation hears.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // test helpers

mod link;
#[allow(dead_code)] // some of it is used here
#[path = "detectors/signals.rs"]
mod signals;

use std::time::Duration;

use iqra_media::codec::g711::PCMU;
use iqra_media::codec::g722::G722;
use iqra_media::conversation::{AudioFormat, EndReason, Event, Formats};
use iqra_media::detect::machine::{self, Answerer, GreetingEnd, MachineEvent, Reason};
use iqra_media::detect::progress::Progress;
use iqra_media::detect::voice::{self, Energy, VoiceEvent};
use iqra_media::sdp::{Direction, Negotiated};
use iqra_media::session::{Config, Detect, Plan, VoiceDetectors};
use link::{Call, Setup, Weather, address, codecs, negotiated};
use signals::{Sound, at_level, pcm, samples, silence, tones, word};

const RATE: u32 = 8_000;

fn all() -> Detect {
    Detect {
        speech: Some(voice::Config::default()),
        progress: true,
        machine: Some(machine::Config::default()),
        ..Detect::default()
    }
}

fn detecting(detect: Detect) -> Setup {
    Setup { config: Config { detect, ..Config::default() }, ..Setup::default() }
}

/// Has A say a sound of at most 30 s, which is made at 8 kHz, and B hear it to its end.
fn say(call: &mut Call, sound: &[f64]) {
    assert_eq!(call.a.line.speaking().play(&pcm(sound)), sound.len());
    call.talk(sound.len() as u64 / 8 + 300);
}

fn from_8000(hears: u32) -> Formats {
    Formats { hears: AudioFormat::new(hears).unwrap(), speaks: AudioFormat::HZ_8000 }
}

fn talk(ms: u64, seed: u64) -> Sound {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut talk = Vec::new();
    while talk.len() < samples(RATE, ms) {
        talk.extend(word(RATE, &mut random));
    }
    talk.truncate(samples(RATE, ms));
    at_level(talk, -18.0)
}

fn busy(times: usize) -> Sound {
    let one = [tones(RATE, 500, &[(480.0, -13.0), (620.0, -13.0)], 0.0), silence(RATE, 500)].concat();
    one.repeat(times)
}

/// Where what was heard is first louder than silence, and where last.
fn bounds(heard: &[i16]) -> (u64, u64) {
    let loud = |sample: &i16| sample.unsigned_abs() > 200;
    let (first, last) = (heard.iter().position(loud).unwrap(), heard.iter().rposition(loud).unwrap());
    (first as u64, last as u64 + 1)
}

fn assert_near(what: &str, rate: u32, one: u64, other: u64, ms: u64) {
    let apart = one.abs_diff(other) * 1_000 / u64::from(rate);
    assert!(apart <= ms, "{what}: {apart} ms apart at {rate} Hz");
}

fn progress(events: &[Event]) -> Vec<Progress> {
    events
        .iter()
        .filter_map(|event| if let Event::Progress(tone) = event { Some(*tone) } else { None })
        .collect()
}

fn machine_events(events: &[Event]) -> Vec<MachineEvent> {
    events
        .iter()
        .filter_map(|event| if let Event::Machine(told) = event { Some(*told) } else { None })
        .collect()
}

#[test]
fn what_nobody_asked_for_is_not_told() {
    let mut call = Call::new(&Setup::default());
    say(&mut call, &[talk(2_000, 1), busy(3)].concat());
    assert_eq!(call.b.events, []);
}

#[test]
fn speech_has_its_bounds_on_the_clock_of_what_is_heard() {
    for (codec, hears) in [(PCMU, 8_000), (PCMU, 16_000), (PCMU, 24_000), (G722, 8_000), (G722, 48_000)] {
        let detect = Detect { speech: Some(voice::Config::default()), ..Detect::default() };
        let setup = Setup { codec, formats: from_8000(hears), ..detecting(detect) };
        let mut call = Call::new(&setup);
        say(&mut call, &[silence(RATE, 1_500), talk(1_500, 3), silence(RATE, 1_000)].concat());
        let (first, last) = bounds(&call.b.heard);
        let &[
            Event::Speech(VoiceEvent::Started { at: from }),
            Event::Speech(VoiceEvent::Ended { at: to, duration }),
        ] = call.b.events.as_slice()
        else {
            panic!("{} at {hears} Hz: {:?}", codec.name, call.b.events)
        };
        assert_near("start", hears, from, first, 100);
        assert_near("end", hears, to, last, 100);
        assert!(duration > Duration::from_millis(1_300), "{duration:?}");
        let told = call.b.heard_before[0] as u64;
        assert!(from < told, "an event follows what it is about");
        assert_near("told", hears, told, from, 200);
    }
}

#[test]
fn tones_of_networks_and_fax_machines_are_told_once_with_their_place() {
    for hears in [8_000, 24_000] {
        let tone = |ms, frequency| [tones(RATE, ms, &[(frequency, -13.0)], 0.0), silence(RATE, 500)].concat();
        let sounds =
            [(busy(3), "Busy"), (tone(500, 1_100.0), "FaxCalling"), (tone(1_500, 2_100.0), "FaxAnswering")];
        for (sound, name) in sounds {
            let detect = Detect { progress: true, ..Detect::default() };
            let mut call = Call::new(&Setup { formats: from_8000(hears), ..detecting(detect) });
            say(&mut call, &[silence(RATE, 700), sound, silence(RATE, 500)].concat());
            let &[found] = progress(&call.b.events).as_slice() else { panic!("{name}: {:?}", call.b.events) };
            let (Progress::Busy { start }
            | Progress::FaxCalling { start }
            | Progress::FaxAnswering { start }) = found
            else {
                panic!("{name}: {found:?}")
            };
            assert!(format!("{found:?}").starts_with(name), "{name}: {found:?}");
            assert_near(name, hears, start, bounds(&call.b.heard).0, 30);
        }
    }
}

#[test]
fn a_jitter_buffer_that_adapts_costs_no_tone() {
    let mut changed = Duration::ZERO;
    for seed in 0..20 {
        let (delay, jitter) = (Duration::from_millis(30), Duration::from_millis(60));
        let weather = Weather { delay, jitter, ..Weather::default() };
        let detect = Detect { progress: true, ..Detect::default() };
        let mut call = Call::new(&Setup { weather, seed, ..detecting(detect) });
        say(&mut call, &talk(3_000, seed));
        call.weather.jitter = Duration::ZERO;
        say(&mut call, &silence(RATE, 500));
        let (from, before) = (call.b.heard.len(), call.b.session.report());
        say(&mut call, &busy(12));
        let told = progress(&call.b.events);
        let &[Progress::Busy { start }] = told.as_slice() else { panic!("seed {seed}: {told:?}") };
        assert_near("busy", RATE, start, from as u64 + bounds(&call.b.heard[from..]).0, 30);
        changed += call.b.session.report().shortened - before.shortened;
    }
    assert!(changed > Duration::ZERO, "the buffer had nothing to adapt");
}

#[test]
fn a_machine_is_told_from_its_greeting_and_its_beep_shows_where_the_message_begins() {
    let detect = Detect { machine: Some(machine::Config::default()), ..Detect::default() };
    let mut call = Call::new(&Setup { formats: from_8000(16_000), ..detecting(detect) });
    let beep = tones(RATE, 400, &[(1_000.0, -13.0)], 0.0);
    say(
        &mut call,
        &[silence(RATE, 500), talk(4_000, 5), silence(RATE, 400), beep, silence(RATE, 1_500)].concat(),
    );
    let told = machine_events(&call.b.events);
    let &[MachineEvent::Decided { answerer, reason, .. }, MachineEvent::GreetingEnded { end, at }] =
        told.as_slice()
    else {
        panic!("{told:?}")
    };
    assert_eq!((answerer, reason, end), (Answerer::Machine, Reason::LongGreeting, GreetingEnd::Beep));
    assert_near("beep", 16_000, at, bounds(&call.b.heard).1, 40);
    assert_eq!(told.len(), call.b.events.len(), "nothing else was asked for");
}

#[test]
fn early_media_shows_the_ringing_and_who_answered_is_asked_from_the_answer_on() {
    let ringing = [tones(RATE, 2_000, &[(440.0, -16.0), (480.0, -16.0)], 0.0), silence(RATE, 2_000)].concat();
    for early in [true, false] {
        let mut call = Call::new(&detecting(Detect { early, ..all() }));
        // An announcement that is longer than any greeting, and a ring.
        say(&mut call, &[talk(4_000, 2), silence(RATE, 3_000), ringing.clone()].concat());
        assert_eq!(progress(&call.b.events).len(), 1, "{:?}", call.b.events);
        assert_eq!(machine_events(&call.b.events).is_empty(), early);
        let answered = call.b.heard.len() as u64;
        call.b.session.answered();
        say(&mut call, &[silence(RATE, 500), talk(900, 4), silence(RATE, 2_000)].concat());
        if early {
            let told = machine_events(&call.b.events);
            let &[MachineEvent::Decided { answerer, at, .. }] = told.as_slice() else { panic!("{told:?}") };
            assert_eq!(answerer, Answerer::Human);
            assert!((answered + 8_000..answered + 24_000).contains(&at), "{at}, answered at {answered}");
        }
    }
}

#[test]
fn who_speaks_has_ended_when_the_call_is_held_or_over() {
    let ended = |event: &Event| matches!(event, Event::Speech(VoiceEvent::Ended { .. }));
    let mut call = Call::new(&detecting(all()));
    say(&mut call, &[silence(RATE, 500), talk(1_500, 3)].concat());
    assert!(!call.b.events.iter().any(ended), "{:?}", call.b.events);
    let plan = |direction, remote| {
        let negotiated = Negotiated { direction, ..negotiated(PCMU, 20, address(remote)) };
        Plan::new(negotiated, Formats::both(AudioFormat::HZ_8000), &codecs()).unwrap()
    };
    call.b.session.update(call.now, plan(Direction::Inactive, 1));
    call.b.listen();
    assert!(
        matches!(call.b.events[..], [.., Event::Speech(VoiceEvent::Ended { .. }), Event::Hold]),
        "{:?}",
        call.b.events
    );
    call.b.session.update(call.now, plan(Direction::SendRecv, 1));
    say(&mut call, &talk(1_500, 3));
    call.b.session.end(EndReason::FarEnd);
    call.b.listen();
    assert!(ended(&call.b.events[call.b.events.len() - 2]), "{:?}", call.b.events);
}

#[test]
fn another_codec_interrupts_no_detector() {
    let mut call = Call::new(&detecting(all()));
    say(&mut call, &[silence(RATE, 500), talk(1_500, 3)].concat());
    let plan = |remote| {
        let formats = Formats::both(AudioFormat::HZ_8000);
        Plan::new(negotiated(G722, 20, address(remote)), formats, &codecs()).unwrap()
    };
    call.a.session.update(call.now, plan(2));
    call.b.session.update(call.now, plan(1));
    say(&mut call, &[silence(RATE, 1_000), busy(3)].concat());
    let tone = progress(&call.b.events);
    let &[Progress::Busy { start }] = tone.as_slice() else { panic!("{:?}", call.b.events) };
    let heard = &call.b.heard[samples(RATE, 2_900)..];
    assert_near("busy", RATE, start, samples(RATE, 2_900) as u64 + bounds(heard).0, 30);
}

#[test]
fn a_program_may_bring_its_own_voice_detector() {
    let own = VoiceDetectors::new(|| Energy::new(16_000)).unwrap();
    assert!(VoiceDetectors::new(|| Energy::new(11_025)).is_err());
    let mut call = Call::new(&detecting(Detect { voice_detectors: own, ..all() }));
    say(&mut call, &[silence(RATE, 1_500), talk(1_500, 3), silence(RATE, 1_000)].concat());
    assert!(matches!(call.b.events[0], Event::Speech(VoiceEvent::Started { .. })), "{:?}", call.b.events);
}
