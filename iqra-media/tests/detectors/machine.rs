//! Who answered: greetings as people and machines speak them, and tones.

use iqra_media::detect::machine::{Answerer, Config, GreetingEnd, MachineDetector, MachineEvent, Reason};
use iqra_media::detect::voice::Energy;

use crate::signals::{Sound, add, at_level, noise, pcm, samples, silence, tones, word};

/// Speech of about this length, without long pauses.
fn greeting(rate: u32, ms: u64, seed: u64) -> Sound {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut talk = Vec::new();
    while talk.len() < samples(rate, ms) {
        talk.extend(word(rate, &mut random));
    }
    talk.truncate(samples(rate, ms));
    at_level(talk, -18.0)
}

fn events(rate: u32, sound: &[f64], frame: usize) -> Vec<MachineEvent> {
    let mut noisy = sound.to_vec();
    add(&mut noisy, &noise(rate, 1000 * sound.len() as u64 / u64::from(rate) + 1, -55.0, 1));
    let mut detector = MachineDetector::new(rate, Energy::new(rate), Config::default()).unwrap();
    let mut events = Vec::new();
    pcm(&noisy).chunks(frame).for_each(|frame| detector.process(frame, |event| events.push(event)));
    events
}

type Decisions = Vec<(Answerer, Reason)>;
type Ends = Vec<(GreetingEnd, u64)>;

/// Decisions and ends of greetings, the latter in milliseconds.
fn told(rate: u32, sound: &[f64]) -> (Decisions, Ends) {
    let (mut decided, mut ended) = (Vec::new(), Vec::new());
    for event in events(rate, sound, rate as usize / 50) {
        match event {
            MachineEvent::Decided { answerer, reason, .. } => decided.push((answerer, reason)),
            MachineEvent::GreetingEnded { end, at } => ended.push((end, at * 1000 / u64::from(rate))),
        }
    }
    (decided, ended)
}

#[test]
fn a_short_greeting_and_silence_is_a_human() {
    for rate in [8000, 16_000] {
        for seed in 0..12 {
            let sound =
                [silence(rate, 700), greeting(rate, 500 + 100 * seed, seed), silence(rate, 3_000)].concat();
            assert_eq!(
                told(rate, &sound),
                (vec![(Answerer::Human, Reason::ShortGreeting)], vec![]),
                "{seed}"
            );
        }
    }
}

#[test]
fn a_long_greeting_is_a_machine_and_its_beep_the_place_for_the_message() {
    for rate in [8000, 16_000, 48_000] {
        for seed in 0..8 {
            let talk = [silence(rate, 500), greeting(rate, 6_000, seed), silence(rate, 300)].concat();
            let beep = tones(rate, 400, &[(1000.0, -15.0)], 0.0);
            let sound = [talk, beep, silence(rate, 2_000)].concat();
            let (decided, ended) = told(rate, &sound);
            assert_eq!(decided, [(Answerer::Machine, Reason::LongGreeting)], "{seed}");
            let &[(GreetingEnd::Beep, at)] = &ended[..] else { panic!("seed {seed}: {ended:?}") };
            assert!(at.abs_diff(7_200) <= 25, "{at}");
        }
    }
}

#[test]
fn a_machine_without_a_beep_is_over_by_silence() {
    let sound = [silence(8000, 500), greeting(8000, 4_000, 1), silence(8000, 4_000)].concat();
    let (decided, ended) = told(8000, &sound);
    assert_eq!(decided, [(Answerer::Machine, Reason::LongGreeting)]);
    let &[(GreetingEnd::Silence, at)] = &ended[..] else { panic!("{ended:?}") };
    assert!(at.abs_diff(6_500) <= 200, "{at}");
}

#[test]
fn a_beep_corrects_what_a_short_greeting_said() {
    let beep = tones(8000, 300, &[(1400.0, -15.0)], 0.0);
    let sound =
        [silence(8000, 500), greeting(8000, 900, 4), silence(8000, 1_500), beep, silence(8000, 1_000)]
            .concat();
    let (decided, ended) = told(8000, &sound);
    assert_eq!(decided, [(Answerer::Human, Reason::ShortGreeting), (Answerer::Machine, Reason::Beep)]);
    assert!(matches!(ended[..], [(GreetingEnd::Beep, _)]), "{ended:?}");
}

#[test]
fn many_words_are_a_machine() {
    let mut sound = silence(8000, 300);
    for seed in 0..9 {
        sound.extend([greeting(8000, 170, seed), silence(8000, 170)].concat());
    }
    assert_eq!(told(8000, &sound).0, [(Answerer::Machine, Reason::ManyWords)]);
}

#[test]
fn nothing_and_endless_pauses_are_unknown() {
    assert_eq!(told(8000, &silence(8000, 20_000)), (vec![(Answerer::Unknown, Reason::Silence)], vec![]));
    let late = [silence(8000, 6_000), greeting(8000, 900, 2), silence(8000, 3_000)].concat();
    assert_eq!(told(8000, &late).0, [(Answerer::Unknown, Reason::Silence)]);
}

#[test]
fn a_fax_machine_is_one() {
    let answer =
        [silence(8000, 300), tones(8000, 2_600, &[(2100.0, -14.0)], 0.0), silence(8000, 100)].concat();
    assert_eq!(told(8000, &answer), (vec![(Answerer::Fax, Reason::FaxTone)], vec![]));
}

#[test]
fn an_announcement_of_the_network_is_a_machine() {
    let mut sound = silence(8000, 200);
    for (frequency, ms) in [(913.8, 274), (1370.6, 274), (1776.7, 380)] {
        sound.extend(tones(8000, ms, &[(frequency, -16.0)], 0.0));
    }
    sound.extend([silence(8000, 200), greeting(8000, 3_000, 5), silence(8000, 3_000)].concat());
    let (decided, ended) = told(8000, &sound);
    assert_eq!(decided, [(Answerer::Machine, Reason::SpecialInformation)]);
    assert!(matches!(ended[..], [(GreetingEnd::Silence, _)]), "{ended:?}");
}

#[test]
fn how_the_stream_is_cut_changes_nothing() {
    let beep = tones(16_000, 400, &[(1000.0, -15.0)], 0.0);
    let sound = [silence(16_000, 500), greeting(16_000, 4_000, 3), beep, silence(16_000, 800)].concat();
    let whole = events(16_000, &sound, 320);
    assert_eq!(whole.len(), 2);
    for frame in [1, 77, 160, 1_000, sound.len()] {
        assert_eq!(events(16_000, &sound, frame), whole, "{frame}");
    }
}
