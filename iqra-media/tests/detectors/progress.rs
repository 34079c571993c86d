//! Tones of networks, fax and answering machines: each with its tolerances, in noise, and none where there is none.

use iqra_media::detect::progress::{Progress, ProgressDetector, Special};

use crate::signals::{Sound, add, level, music, noise, pcm, rates, samples, seeds, silence, speech, tones};

fn heard(rate: u32, sound: &[f64]) -> Vec<Progress> {
    let (mut detector, mut heard) = (ProgressDetector::new(rate), Vec::new());
    let samples = pcm(sound);
    samples.chunks(rate as usize / 50).for_each(|frame| detector.process(frame, |event| heard.push(event)));
    heard
}

fn names(rate: u32, sound: &[f64]) -> Vec<String> {
    let name =
        |event: &Progress| format!("{event:?}").split([' ', '{']).next().unwrap_or_default().to_owned();
    heard(rate, sound).iter().map(name).collect()
}

/// A tone on and off for some times.
fn cadence(rate: u32, frequencies: &[f64], level: f64, on: u64, off: u64, times: usize) -> Sound {
    let sines: Vec<_> = frequencies.iter().map(|&f| (f, level)).collect();
    let mut sound = silence(rate, 200);
    for n in 0..times {
        sound.extend(tones(rate, on, &sines, n as f64 * 0.3));
        sound.extend(silence(rate, off));
    }
    sound
}

/// The sound at several levels and rates, clean and with noise 20 dB below it, is heard as this.
#[track_caller]
fn always(make: impl Fn(u32, f64) -> Sound, expected: &[&str], what: &str) {
    for rate in rates() {
        for loud in [-8.0, -20.0, -30.0] {
            let mut sound = make(rate, loud);
            assert_eq!(names(rate, &sound), expected, "{what} at {rate} Hz, {loud} dBm0");
            let length = 1000 * sound.len() as u64 / u64::from(rate) + 1;
            add(&mut sound, &noise(rate, length, loud - 17.0, 5));
            assert_eq!(names(rate, &sound), expected, "{what} in noise at {rate} Hz, {loud} dBm0");
        }
    }
}

#[test]
fn dial_tones_are_heard() {
    for off in [0.985, 1.0, 1.015] {
        always(
            |rate, loud| cadence(rate, &[350.0 * off, 440.0 * off], loud, 2_500, 0, 1),
            &["Dial"],
            "American",
        );
        always(|rate, loud| cadence(rate, &[425.0 * off], loud, 4_000, 0, 1), &["Dial"], "European");
    }
}

#[test]
fn every_ring_is_heard() {
    let twice = ["Ringing", "Ringing"];
    for off in [0.99, 1.01] {
        let pair = |low: f64, high: f64| [low * off, high * off];
        always(|rate, loud| cadence(rate, &pair(440.0, 480.0), loud, 2_000, 4_000, 2), &twice, "American");
        always(|rate, loud| cadence(rate, &pair(400.0, 450.0), loud, 400, 200, 2), &twice, "British");
        always(|rate, loud| cadence(rate, &[425.0 * off], loud, 1_000, 4_000, 2), &twice, "European");
    }
}

#[test]
fn busy_and_congestion_are_told_apart_by_their_rhythm() {
    for times in [2, 5] {
        for (on, off) in [(500, 500), (450, 550)] {
            always(|rate, loud| cadence(rate, &[480.0, 620.0], loud, on, off, times), &["Busy"], "American");
        }
        for (on, off) in [(500, 500), (480, 480), (375, 375)] {
            always(|rate, loud| cadence(rate, &[425.0], loud, on, off, times), &["Busy"], "European");
        }
        always(
            |rate, loud| cadence(rate, &[480.0, 620.0], loud, 250, 250, times),
            &["Congestion"],
            "American",
        );
        always(|rate, loud| cadence(rate, &[425.0], loud, 240, 240, times), &["Congestion"], "European");
    }
    always(|rate, loud| cadence(rate, &[480.0, 620.0], loud, 500, 500, 1), &[], "one is no rhythm");
}

#[test]
fn special_information_says_what_its_frequencies_mean() {
    let tones_of = |rate, loud, parts: [(f64, u64); 3]| -> Sound {
        let mut sound = silence(rate, 300);
        parts.iter().for_each(|&(f, ms)| sound.extend(tones(rate, ms, &[(f, loud)], 0.0)));
        [sound, silence(rate, 500)].concat()
    };
    let cases = [
        ([(913.8, 274), (1370.6, 274), (1776.7, 380)], Special::Intercept),
        ([(985.2, 380), (1370.6, 274), (1776.7, 380)], Special::VacantCode),
        ([(913.8, 274), (1428.5, 380), (1776.7, 380)], Special::Reorder),
        ([(985.2, 380), (1428.5, 380), (1776.7, 380)], Special::NoCircuit),
        ([(950.0, 330), (1400.0, 330), (1800.0, 330)], Special::Unsaid),
    ];
    for rate in rates() {
        for (parts, expected) in cases {
            let got = heard(rate, &tones_of(rate, -14.0, parts));
            let &[Progress::SpecialInformation { start, meaning }] = &got[..] else {
                panic!("{parts:?}: {got:?}")
            };
            assert_eq!(meaning, expected);
            assert!(
                start.abs_diff(samples(rate, 300) as u64) <= samples(rate, 20) as u64,
                "{start} at {rate}"
            );
        }
        let reversed = tones_of(rate, -14.0, [(1776.7, 380), (1370.6, 274), (913.8, 274)]);
        assert_eq!(names(rate, &reversed), [""; 0]);
    }
}

#[test]
fn a_fax_machine_that_calls_is_heard_at_its_first_tone() {
    for frequency in [1062.0, 1100.0, 1138.0] {
        always(|rate, loud| cadence(rate, &[frequency], loud, 500, 3_000, 1), &["FaxCalling"], "CNG");
    }
    for (frequency, on) in [(1040.0, 500), (1160.0, 500), (1100.0, 350), (1100.0, 700), (1100.0, 3_000)] {
        always(|rate, loud| cadence(rate, &[frequency], loud, on, 1_000, 1), &[], "no CNG");
    }
}

#[test]
fn a_fax_machine_that_answers_is_heard_with_and_without_reversals() {
    always(|rate, loud| cadence(rate, &[2100.0], loud, 3_000, 100, 1), &["FaxAnswering"], "CED");
    let answer = |rate: u32, loud: f64| -> Sound {
        let mut sound = silence(rate, 100);
        for n in 0..7 {
            sound.extend(tones(rate, 450, &[(2100.0, loud)], f64::from(n % 2) / 2.0));
        }
        // ANSam: 15 Hz of amplitude modulation, a fifth deep.
        let swell = |n: usize| 1.0 + 0.2 * (std::f64::consts::TAU * 15.0 * n as f64 / f64::from(rate)).sin();
        let swollen: Sound = sound.iter().enumerate().map(|(n, &sample)| sample * swell(n)).collect();
        [swollen, silence(rate, 100)].concat()
    };
    always(answer, &["FaxAnswering"], "ANSam");
    always(|rate, loud| cadence(rate, &[2100.0], loud, 500, 500, 1), &[], "too short");
    always(|rate, loud| cadence(rate, &[2000.0], loud, 2_000, 500, 1), &[], "another frequency");
}

#[test]
fn the_beep_after_a_greeting_is_heard_where_it_ends() {
    for rate in rates() {
        for (frequency, on, seed) in
            [(800.0, 300, 1), (1000.0, 120, 2), (1400.0, 500, 3), (2000.0, 1_400, 4), (1100.0, 500, 5)]
        {
            for pause in [0, 40, 700] {
                let talk = [speech(rate, 2_500, -18.0, seed), silence(rate, pause)].concat();
                let beep = tones(rate, on, &[(frequency, -14.0)], 0.0);
                let (from, to) = (talk.len() as u64, (talk.len() + beep.len()) as u64);
                let mut sound = [talk, beep, silence(rate, 600)].concat();
                add(&mut sound, &noise(rate, 6_000, -50.0, 9));
                let beeps: Vec<_> =
                    heard(rate, &sound).into_iter().filter(|e| matches!(e, Progress::Beep { .. })).collect();
                let &[Progress::Beep { start, end, frequency: told }] = &beeps[..] else {
                    panic!("{frequency} Hz, {on} ms at {rate} Hz, pause {pause}: {beeps:?}")
                };
                assert!((f64::from(told) - frequency).abs() <= 5.0, "{told}");
                let near = samples(rate, 25) as u64;
                assert!(
                    start.abs_diff(from) <= near && end.abs_diff(to) <= near,
                    "{start}..{end}, not {from}..{to}"
                );
            }
        }
    }
}

#[test]
fn what_is_no_beep_is_none() {
    for rate in [8000, 16_000] {
        let beep = |ms| tones(rate, ms, &[(1000.0, -14.0)], 0.0);
        let talk = || speech(rate, 2_500, -18.0, 3);
        let mut voice = fastrand::Rng::with_seed(4);
        let cases: [(&str, Sound); 6] = [
            ("without speech before", [silence(rate, 500), beep(400), silence(rate, 500)].concat()),
            ("too short", [talk(), silence(rate, 100), beep(50), silence(rate, 500)].concat()),
            ("too long", [talk(), silence(rate, 100), beep(2_500), silence(rate, 500)].concat()),
            (
                "speech goes on",
                [talk(), silence(rate, 100), beep(400), crate::signals::word(rate, &mut voice)].concat(),
            ),
            (
                "a key",
                [talk(), tones(rate, 300, &[(941.0, -10.0), (1336.0, -12.0)], 0.0), silence(rate, 500)]
                    .concat(),
            ),
            (
                "a melody",
                [
                    talk(),
                    silence(rate, 300),
                    beep(300),
                    tones(rate, 300, &[(1122.0, -14.0)], 0.0),
                    silence(rate, 500),
                ]
                .concat(),
            ),
        ];
        for (what, sound) in cases {
            assert_eq!(names(rate, &sound), [""; 0], "{what} at {rate} Hz");
        }
    }
}

#[test]
fn speech_music_noise_and_keys_are_no_tones_of_the_network() {
    for seed in seeds(40) {
        for rate in [8000, 16_000] {
            assert_eq!(names(rate, &speech(rate, 15_000, -15.0, seed)), [""; 0], "speech of seed {seed}");
            assert_eq!(names(rate, &noise(rate, 10_000, -20.0, seed)), [""; 0], "noise of seed {seed}");
            assert_eq!(names(rate, &music(rate, 10_000, -15.0, seed)), [""; 0], "music of seed {seed}");
        }
    }
    for low in [697.0, 770.0, 852.0, 941.0] {
        for high in [1209.0, 1336.0, 1477.0, 1633.0] {
            for (weak, strong) in [(-12.0, -12.0), (-20.0, -12.0), (-12.0, -20.0)] {
                let key = tones(8000, 120, &[(low, weak), (high, strong)], 0.0);
                let sound =
                    [speech(8000, 2_000, -20.0, 8), silence(8000, 200), key, silence(8000, 300)].concat();
                assert_eq!(names(8000, &sound), [""; 0], "{low} + {high} Hz");
            }
        }
    }
    assert!(level(&speech(8000, 5_000, -15.0, 1)) > -16.0, "there was speech");
}
