//! Spells of speech in silence, steady and growing noise, and among clicks.

use std::time::Duration;

use iqra_media::detect::voice::{Energy, VoiceActivity, VoiceDetector, VoiceEvent};

use crate::signals::{Sound, add, noise, pcm, samples, silence, speech, tones};

/// Spells as milliseconds from and to.
fn spells<D: VoiceDetector>(rate: u32, detector: D, sound: &[f64]) -> Vec<(u64, u64)> {
    let mut activity = VoiceActivity::new(rate, detector).unwrap();
    let (mut spells, mut began) = (Vec::new(), None);
    let ms = |at: u64| at * 1000 / u64::from(rate);
    let mut tell = |event| match event {
        VoiceEvent::Started { at } => assert_eq!(began.replace(at), None, "one after the other"),
        VoiceEvent::Ended { at, duration } => {
            let from = began.take().expect("it had begun");
            assert_eq!(duration, Duration::from_nanos((at - from) * 1_000_000_000 / u64::from(rate)));
            spells.push((ms(from), ms(at)));
        }
    };
    pcm(sound).chunks(rate as usize / 50).for_each(|frame| activity.process(frame, &mut tell));
    activity.finish().into_iter().for_each(&mut tell);
    spells
}

/// Speech without pauses that end a spell, between silences of a second and a half.
fn utterance(rate: u32, ms: u64, loud: f64, seed: u64) -> Sound {
    let mut talk = Vec::new();
    let mut random = fastrand::Rng::with_seed(seed);
    while talk.len() < samples(rate, ms) {
        talk.extend(crate::signals::word(rate, &mut random));
    }
    talk.truncate(samples(rate, ms));
    [silence(rate, 1_500), crate::signals::at_level(talk, loud), silence(rate, 1_500)].concat()
}

fn detectors(rate: u32) -> Vec<(&'static str, Box<dyn VoiceDetector>)> {
    vec![
        ("energy", Box::new(Energy::new(rate))),
        #[cfg(feature = "vad")]
        ("earshot", Box::new(iqra_media::detect::voice::Earshot::new())),
    ]
}

#[test]
fn an_utterance_is_one_spell_with_its_bounds_at_every_rate_and_in_noise() {
    for rate in [8000, 16_000, 24_000, 44_100, 48_000] {
        for below in [60.0, 25.0, 15.0] {
            for seed in 0..6 {
                for (name, detector) in detectors(rate) {
                    let mut sound = utterance(rate, 1_800, -18.0, seed);
                    add(&mut sound, &noise(rate, 10_000, -18.0 - below, seed));
                    let got = spells(rate, detector, &sound);
                    let what = format!("{name}, {rate} Hz, noise {below} dB below, seed {seed}: {got:?}");
                    let (&[first, ..], &[.., last]) = (&got[..], &got[..]) else { panic!("{what}") };
                    assert!(got.len() <= 2, "{what}");
                    // A hiss at the beginning may be softer than the noise, and the network wants a real voice.
                    let late = if below < 20.0 { 500 } else { 150 };
                    assert!(first.0.abs_diff(1_500) <= late, "{what}");
                    assert!(last.1.abs_diff(3_300) <= 200, "{what}");
                }
            }
        }
    }
}

#[test]
fn silence_and_steady_sounds_are_no_speech() {
    for rate in [8000, 16_000, 48_000] {
        for (name, _) in detectors(rate) {
            let quiet = |sound: Sound, what: &str| {
                let (_, detector) = detectors(rate).into_iter().find(|d| d.0 == name).unwrap();
                assert_eq!(spells(rate, detector, &sound), [], "{name}: {what} at {rate} Hz");
            };
            quiet(silence(rate, 10_000), "silence");
            for loud in [-60.0, -45.0, -35.0] {
                quiet(noise(rate, 15_000, loud, 4), "noise");
            }
            quiet(tones(rate, 10_000, &[(100.0, -40.0), (50.0, -40.0)], 0.0), "hum");
            let mut rising = noise(rate, 30_000, -40.0, 6);
            let length = rising.len() as f64;
            rising
                .iter_mut()
                .enumerate()
                .for_each(|(n, s)| *s *= 10f64.powf((n as f64 / length - 1.0) * 1.2));
            quiet(rising, "noise that rises by 24 dB in 30 s");
            let mut clicks = noise(rate, 20_000, -60.0, 2);
            for at in (0..clicks.len()).step_by(samples(rate, 333)) {
                clicks[at..].iter_mut().take(samples(rate, 4)).for_each(|s| *s += 12_000.0);
            }
            quiet(clicks, "clicks");
        }
    }
}

#[test]
fn speech_is_still_heard_after_noise_has_risen() {
    for (name, detector) in detectors(8000) {
        let mut sound = [noise(8000, 10_000, -55.0, 3), noise(8000, 5_000, -42.0, 3)].concat();
        let talk = utterance(8000, 1_500, -18.0, 11);
        sound.extend(talk);
        add(&mut sound[samples(8000, 15_000)..], &noise(8000, 4_500, -42.0, 3));
        let got = spells(8000, detector, &sound);
        let near = |&(from, to): &(u64, u64)| from.abs_diff(16_500) <= 150 && to.abs_diff(18_000) <= 250;
        assert!(got.iter().any(near), "{name}: {got:?}");
    }
}

#[test]
fn how_the_stream_is_cut_changes_nothing() {
    let sound = pcm(&speech(24_000, 6_000, -20.0, 1));
    for (name, _) in detectors(24_000) {
        let events = |frame: usize| {
            let (_, detector) = detectors(24_000).into_iter().find(|d| d.0 == name).unwrap();
            let mut activity = VoiceActivity::new(24_000, detector).unwrap();
            let mut events = Vec::new();
            sound.chunks(frame).for_each(|frame| activity.process(frame, |event| events.push(event)));
            events
        };
        assert!(!events(480).is_empty());
        assert_eq!(events(480), events(7));
        assert_eq!(events(480), events(sound.len()));
    }
}

#[test]
fn a_reset_detector_is_as_new() {
    let sound = pcm(&speech(16_000, 3_000, -20.0, 2));
    for (_, detector) in detectors(16_000) {
        let mut activity = VoiceActivity::new(16_000, detector).unwrap();
        let run = |activity: &mut VoiceActivity<Box<dyn VoiceDetector>>| {
            let mut events = Vec::new();
            activity.process(&sound, |event| events.push(event));
            events
        };
        let first = run(&mut activity);
        activity.reset();
        assert!(!activity.is_speaking());
        assert_eq!(run(&mut activity), first);
    }
}
