//! Keys in the audio: every key at the limits of ITU-T Q.24, and what must not be taken for a key.

use std::time::Duration;

use iqra_media::detect::dtmf::{Config, Detector, Generator, KeyEvent, Pace, frequencies};
use iqra_media::rtp::telephone_event::Digit;
use proptest::prelude::*;

use crate::signals::{Sound, add, at_level, level, music, noise, pcm, rates, seeds, silence, speech, tones};

const KEYS: &str = "0123456789*#ABCD";
const RATES: [u32; 4] = [8000, 16_000, 44_100, 48_000];

/// What is heard: key, start and duration in milliseconds.
fn heard(rate: u32, samples: &[i16]) -> Vec<(char, f64, f64)> {
    let (mut detector, mut heard, mut down) = (Detector::new(rate), Vec::new(), Vec::new());
    let mut tell = |event| match event {
        KeyEvent::Down { digit, start } => down.push((digit, start)),
        KeyEvent::Up { digit, start, duration } => {
            assert_eq!(down.pop(), Some((digit, start)), "down once before it is up");
            let ms = 1000.0 * start as f64 / f64::from(rate);
            heard.push((digit.as_char(), ms, duration.as_secs_f64() * 1000.0));
        }
    };
    samples.chunks(rate as usize / 50).for_each(|frame| detector.process(frame, &mut tell));
    detector.finish().into_iter().for_each(&mut tell);
    assert!(down.is_empty());
    heard
}

fn keys(rate: u32, sound: &[f64]) -> String {
    heard(rate, &pcm(sound)).iter().map(|key| key.0).collect()
}

/// A key as a sound of its own making: levels of both tones, deviation of both frequencies, milliseconds.
#[derive(Clone, Copy)]
struct Key {
    low: f64,
    high: f64,
    off: [f64; 2],
    ms: u64,
}

const PLAIN: Key = Key { low: -12.0, high: -12.0, off: [1.0, 1.0], ms: 60 };

impl Key {
    fn sound(self, rate: u32, label: char, phase: f64) -> Sound {
        let (low, high) = frequencies(Digit::from_char(label).unwrap());
        tones(rate, self.ms, &[(low * self.off[0], self.low), (high * self.off[1], self.high)], phase)
    }

    /// Between silences.
    fn alone(self, rate: u32, label: char, phase: f64) -> Sound {
        [silence(rate, 83), self.sound(rate, label, phase), silence(rate, 100)].concat()
    }
}

/// Asks for every key at every rate and some phases whether it is heard once.
#[track_caller]
fn every(key: Key, taken: bool, what: &str) {
    for rate in rates() {
        for label in KEYS.chars() {
            for phase in [0.0, 0.55] {
                let got = keys(rate, &key.alone(rate, label, phase));
                let expected = if taken { label.to_string() } else { String::new() };
                assert_eq!(got, expected, "{what}: {label} at {rate} Hz, phase {phase}");
            }
        }
    }
}

#[test]
fn frequencies_within_1_8_percent_are_taken_and_from_3_percent_on_refused() {
    for (low, high) in [(0.018, 0.018), (-0.018, 0.018), (0.018, -0.018), (-0.018, -0.018)] {
        every(Key { off: [1.0 + low, 1.0 + high], ..PLAIN }, true, "1.8 %");
    }
    for (low, high) in [(0.03, 0.0), (-0.03, 0.0), (0.0, 0.03), (0.0, -0.03), (0.05, 0.05), (-0.07, 0.0)] {
        every(Key { off: [1.0 + low, 1.0 + high], ms: 200, ..PLAIN }, false, "3 %");
    }
}

#[test]
fn far_from_every_key_nothing_is_heard() {
    for rate in [8000, 48_000] {
        for low in (600..1100).step_by(9) {
            let nearest = [697.0, 770.0, 852.0, 941.0].map(|f: f64| (f64::from(low) / f - 1.0).abs());
            if nearest.iter().all(|&off| off > 0.03) {
                let sound = tones(rate, 300, &[(f64::from(low), -10.0), (1336.0, -10.0)], 0.0);
                assert_eq!(keys(rate, &sound), "", "{low} Hz");
            }
        }
    }
}

#[test]
fn levels_from_0_to_minus_30_are_heard() {
    for (low, high) in [(-3.0, -3.0), (-25.0, -25.0), (-30.0, -30.0), (-30.0, -20.0), (-20.0, -30.0)] {
        every(Key { low, high, ms: 50, ..PLAIN }, true, "level");
    }
    every(Key { low: -38.0, high: -38.0, ms: 200, ..PLAIN }, false, "too weak");
    // Tones of 0 dBm0 each are beyond full scale together: clipped, and still a key.
    every(Key { low: 0.0, high: 0.0, ..PLAIN }, true, "clipped");
}

#[test]
fn twist_up_to_10_db_is_taken_and_from_13_on_refused() {
    for (low, high) in [(-20.0, -10.0), (-10.0, -20.0), (-12.0, -8.0), (-8.0, -16.0)] {
        every(Key { low, high, ms: 50, ..PLAIN }, true, "twist");
    }
    for (low, high) in [(-23.0, -10.0), (-10.0, -23.0)] {
        every(Key { low, high, ms: 200, ..PLAIN }, false, "too much twist");
    }
    let strict = Config { high_stronger: 4.0, high_weaker: 8.0, ..Config::default() };
    let count = |low, high| {
        let (mut detector, mut downs) = (Detector::with(8000, strict), 0);
        let sound = pcm(&Key { low, high, ..PLAIN }.alone(8000, '5', 0.0));
        detector.process(&sound, |event| downs += u32::from(matches!(event, KeyEvent::Down { .. })));
        downs
    };
    assert_eq!(
        [count(-14.0, -11.0), count(-15.0, -10.0), count(-10.0, -17.0), count(-10.0, -19.0)],
        [1, 0, 1, 0]
    );
}

#[test]
fn tones_of_40_ms_are_keys_and_those_of_23_are_not() {
    for ms in [40, 45, 65] {
        every(Key { ms, ..PLAIN }, true, "long enough");
        every(Key { ms, low: -30.0, high: -22.0, off: [1.015, 0.985] }, true, "long enough at the limits");
    }
    for ms in [10, 15, 20, 23] {
        every(Key { ms, ..PLAIN }, false, "too short");
        every(Key { ms, low: -3.0, high: -3.0, ..PLAIN }, false, "loud and too short");
    }
}

#[test]
fn pauses_of_30_ms_part_keys_and_gaps_of_10_do_not() {
    for rate in rates() {
        for label in KEYS.chars() {
            let other = if label == '7' { 'B' } else { '7' };
            for shift in [0, 2, 4] {
                let key = Key { ms: 50, ..PLAIN };
                let pressed = |label, gap| {
                    let (first, second) = (key.sound(rate, label, 0.3), key.sound(rate, label, 0.0));
                    [silence(rate, 60 + shift), first, silence(rate, gap), second, silence(rate, 90)].concat()
                };
                let twice = format!("{label}{label}");
                assert_eq!(keys(rate, &pressed(label, 30)), twice, "{label} {rate} 30 ms");
                assert_eq!(keys(rate, &pressed(label, 40)), twice, "{label} {rate} 40 ms");
                assert_eq!(keys(rate, &pressed(label, 10)), label.to_string(), "{label} {rate} 10 ms");
                let run =
                    [key.sound(rate, label, 0.1), key.sound(rate, other, 0.9), silence(rate, 90)].concat();
                assert_eq!(keys(rate, &run), format!("{label}{other}"), "without a pause");
            }
        }
    }
}

#[test]
fn keys_are_heard_15_db_above_noise() {
    for rate in [8000, 16_000] {
        for (seed, label) in (0..).zip(KEYS.chars().cycle().take(16 * 12)) {
            let key = Key { low: -18.0, high: -22.0, off: [1.015, 0.985], ms: 45 };
            let mut sound = key.alone(rate, label, f64::from(seed as u32) * 0.13);
            let power = level(&key.sound(rate, label, 0.0));
            add(&mut sound, &noise(rate, 300, power - 15.0, seed));
            assert_eq!(keys(rate, &sound), label.to_string(), "{label} at {rate} Hz, seed {seed}");
        }
    }
}

#[test]
fn a_dial_tone_as_loud_as_the_key_does_not_hide_it() {
    for (first, second) in [(350.0, 440.0), (425.0, 0.0)] {
        for rate in rates() {
            for label in KEYS.chars() {
                let mut sound = Key { low: -14.0, high: -14.0, ms: 50, ..PLAIN }.alone(rate, label, 0.4);
                let sines: Vec<_> =
                    [first, second].into_iter().filter(|&f| f > 0.0).map(|f| (f, -14.0)).collect();
                add(&mut sound, &tones(rate, 400, &sines, 0.7));
                assert_eq!(
                    keys(rate, &sound),
                    label.to_string(),
                    "{first}+{second} Hz, {label} at {rate} Hz"
                );
            }
        }
    }
}

#[test]
fn speech_and_music_press_no_keys() {
    for rate in [8000, 16_000] {
        for seed in seeds(80) {
            for loud in [-10.0, -25.0] {
                let voice = keys(rate, &speech(rate, 15_000, loud, seed));
                assert_eq!(voice, "", "speech of seed {seed} at {rate} Hz");
                let chords = keys(rate, &music(rate, 8_000, loud, seed));
                assert_eq!(chords, "", "music of seed {seed} at {rate} Hz");
            }
            assert_eq!(keys(rate, &noise(rate, 10_000, -15.0, seed)), "", "noise of seed {seed}");
        }
    }
}

#[test]
fn keys_between_words_are_all_found() {
    for rate in [8000, 16_000, 48_000] {
        let (mut sound, mut expected) = (Vec::new(), String::new());
        for (seed, label) in (0..).zip(KEYS.chars().cycle().take(48)) {
            let key = match seed % 3 {
                0 => Key { low: -25.0, high: -25.0, ms: 40, off: [1.015, 1.015] },
                1 => Key { low: -27.0, high: -23.0, ms: 40, off: [0.985, 1.0] },
                _ => Key { low: -17.0, high: -25.0, ms: 40, off: [1.0, 0.985] },
            };
            let talk = speech(rate, 900, -16.0, 100 + seed);
            sound.extend([talk, silence(rate, 45), key.sound(rate, label, 0.0), silence(rate, 45)].concat());
            expected.push(label);
        }
        add(&mut sound, &noise(rate, 60_000, -45.0, 3));
        assert_eq!(keys(rate, &sound), expected, "at {rate} Hz");
    }
}

#[test]
fn start_and_duration_are_right_within_8_ms() {
    for rate in rates() {
        for (label, shift) in KEYS.chars().zip((0..16).cycle()) {
            for ms in [40, 100, 250] {
                let key = Key { ms, ..PLAIN }.sound(rate, label, 0.1);
                let sound = [silence(rate, 100 + shift), key, silence(rate, 100)].concat();
                let got = heard(rate, &pcm(&sound));
                let &[(_, start, length)] = &got[..] else { panic!("{label} {rate} {ms}: {got:?}") };
                assert!((start - (100 + shift) as f64).abs() <= 8.0, "{label} {rate}: starts at {start}");
                assert!((length - ms as f64).abs() <= 8.0, "{label} {rate} {ms}: lasts {length}");
            }
        }
    }
}

#[test]
fn what_is_down_can_be_asked_and_ends_with_the_stream() {
    let mut detector = Detector::new(8000);
    let sound = pcm(&Key { ms: 500, ..PLAIN }.sound(8000, '#', 0.0));
    detector.process(&sound, |event| assert!(matches!(event, KeyEvent::Down { .. })));
    assert_eq!(detector.pressed().map(Digit::as_char), Some('#'));
    let Some(KeyEvent::Up { duration, .. }) = detector.finish() else { panic!("it was down") };
    assert!(duration.abs_diff(Duration::from_millis(500)) <= Duration::from_millis(8));
    assert_eq!((detector.finish(), detector.pressed()), (None, None));
}

#[test]
fn the_generator_has_levels_edges_and_pauses() {
    use iqra_media::detect::goertzel::amplitude;
    use iqra_media::pcm::level::peak_of_dbm0;
    let mut generator = Generator::new(8000, Pace::default());
    assert!(generator.press(Digit::from_char('6').unwrap()));
    let mut out = [1; 2000];
    assert_eq!(generator.fill(&mut out), 1280, "100 ms and 60 ms");
    let (low, high) = (amplitude(&out[80..720], 8000, 770.0), amplitude(&out[80..720], 8000, 1477.0));
    assert!((low / f64::from(peak_of_dbm0(-11.0)) - 1.0).abs() < 0.02, "{low}");
    assert!((high / f64::from(peak_of_dbm0(-9.0)) - 1.0).abs() < 0.02, "{high}");
    assert!(out[..4].iter().chain(&out[796..800]).all(|s| s.abs() < 1_500), "edges");
    assert!(out[800..1280].iter().all(|&s| s == 0), "pause");
    assert!(!generator.is_active() && generator.fill(&mut out) == 0);
    let queued = (0..100).filter(|_| generator.press(Digit::from_char('1').unwrap())).count();
    assert_eq!(queued, iqra_media::detect::dtmf::MAX_QUEUED);
    assert!(!format!("{generator:?}").contains("Digit"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn what_is_generated_is_heard(
        typed in "[0-9A-D*#]{1,20}",
        rate in prop::sample::select(RATES.to_vec()),
        tone in 40u64..200,
        pause in 40u64..120,
        lead in 0usize..400,
        cuts in prop::collection::vec(1usize..2000, 1..20),
    ) {
        let pace = Pace { tone: Duration::from_millis(tone), pause: Duration::from_millis(pause), ..Pace::default() };
        let mut generator = Generator::new(rate, pace);
        typed.chars().for_each(|label| assert!(generator.press(Digit::from_char(label).unwrap())));
        let mut samples = vec![0; lead];
        for cut in cuts.iter().cycle() {
            let at = samples.len();
            samples.resize(at + cut, 0);
            let written = generator.fill(&mut samples[at..]);
            samples.truncate(at + written);
            if written < *cut {
                break;
            }
        }
        samples.resize(samples.len() + rate as usize / 10, 0);
        let got: String = heard(rate, &samples).iter().map(|key| key.0).collect();
        prop_assert_eq!(got, typed);
    }
}

#[test]
fn a_quiet_voice_does_not_become_a_key_by_gain() {
    let sound = at_level(speech(8000, 20_000, -20.0, 77), -5.0);
    assert_eq!(keys(8000, &sound), "");
}
