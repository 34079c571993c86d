//! Recordings of whole calls on a virtual clock: what stands where, and what a secret leaves.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // test helpers

mod link;

use std::path::PathBuf;

use iqra_media::codec::g711::PCMU;
use iqra_media::conversation::{AudioFormat, Formats, Secret};
use iqra_media::detect::dtmf::{Detector, Generator, KeyEvent, Pace};
use iqra_media::detect::goertzel::amplitude;
use iqra_media::pcm::{tone::Tone, wav};
use iqra_media::rtp::telephone_event::Digit;
use iqra_media::sdp::Negotiated;
use iqra_media::session::Plan;
use iqra_media::session::recording::{Recording, Settings};
use link::{Call, Setup};

/// A call that A records into a file of its own.
struct Recorded {
    call: Call,
    recording: Recording,
    path: PathBuf,
}

impl Recorded {
    fn new(name: &str, setup: &Setup) -> Self {
        Self::made(name, |tap| Call::recorded(setup, tap))
    }

    fn made(name: &str, call: impl FnOnce(iqra_media::session::recording::Tap) -> Call) -> Self {
        let path = std::env::temp_dir().join(format!("iqra-calls-{}-{name}.wav", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let (recording, tap) = Recording::create(Settings::new(&path), 8_000).unwrap();
        Self { call: call(tap), recording, path }
    }

    /// Lets time pass no faster than the writer follows, which has no virtual clock.
    fn talk(&mut self, millis: u64) {
        for _ in 0..millis / 100 {
            while self.recording.waiting() > std::time::Duration::from_secs(2) {
                std::thread::yield_now();
            }
            self.call.run(100);
        }
    }

    /// Both sides of the file.
    fn end(self) -> (Vec<i16>, Vec<i16>) {
        drop(self.call);
        let recorded = self.recording.finish().unwrap();
        assert_eq!((recorded.files, recorded.lost_samples), (vec![self.path.clone()], 0));
        let samples = wav::read(&self.path).unwrap().samples;
        std::fs::remove_file(self.path).unwrap();
        samples.chunks_exact(2).map(|frame| (frame[0], frame[1])).unzip()
    }
}

/// Where it is first louder than a whisper.
fn onset(side: &[i16]) -> usize {
    side.iter().position(|sample| sample.unsigned_abs() > 1_000).unwrap()
}

#[test]
fn both_sides_stand_at_the_time_at_which_they_were_heard() {
    for (codec_formats, seed) in
        [(Formats::both(AudioFormat::HZ_8000), 3), (Formats::both(AudioFormat::HZ_24000), 4)]
    {
        let setup = Setup { formats: codec_formats, seed, ..Setup::default() };
        let mut recorded = Recorded::new(&format!("aligned-{seed}"), &setup);
        recorded.talk(1_000);
        recorded.call.b.hum(700.0, 500);
        recorded.talk(1_000);
        let said = recorded.call.a.heard.len();
        recorded.call.a.hum(900.0, 500);
        recorded.talk(21_000);
        recorded.call.a.hum(900.0, 500);
        recorded.talk(1_000);
        let rate = setup.formats.hears.sample_rate() as usize;
        // The conversation heard it where it stands: frames come without a gap from the first on.
        let heard = onset(&recorded.call.a.heard[..said]) * 8_000 / rate;
        let (left, right) = recorded.end();
        let (left_at, right_at) = (onset(&left), onset(&right));
        assert!(
            (8_000..8_000 + 480).contains(&left_at),
            "heard at {left_at}, and by the conversation at {heard}"
        );
        assert!((16_000..16_000 + 200).contains(&right_at), "spoken at {right_at}");
        let again = 20_500 + onset(&right[20_500..]);
        assert_eq!(again - right_at, 21_000 * 8, "later there is no drift");
        assert!(left.len().abs_diff(24_000 * 8) < 4_000 && left.len() == right.len(), "{}", left.len());
    }
}

fn keys_in(side: &[i16]) -> usize {
    let (mut detector, mut keys) = (Detector::new(8_000), 0);
    detector.process(side, |event| keys += usize::from(matches!(event, KeyEvent::Down { .. })));
    keys
}

/// Whether the caller's hum is there, tenth of a second by tenth.
fn hums(side: &[i16]) -> Vec<bool> {
    side.chunks_exact(800).map(|tenth| amplitude(tenth, 8_000, 300.0) > 2_000.0).collect()
}

/// The caller hums, quietly enough for keys to be heard over it where `keys` sound in the audio; each second one key, for
/// 400 ms.
fn typing(keys: &str, seconds: usize) -> Vec<i16> {
    let mut sound = vec![0; seconds * 8_000];
    Tone::new(300.0, 8_000, 4_000).fill(&mut sound);
    for (n, key) in keys.chars().enumerate() {
        let mut generator =
            Generator::new(8_000, Pace { tone: std::time::Duration::from_millis(400), ..Pace::default() });
        assert!(generator.press(Digit::from_char(key).unwrap()));
        let start = (n + 1) * 8_000;
        sound[start..start + 3_200].fill(0);
        generator.fill(&mut sound[start..start + 3_200]);
    }
    sound
}

/// A call in which B types four keys, at seconds 1 to 4; the input is a secret from 0.5 s until it has four keys.
fn secret_call(name: &str, events: bool) -> (Vec<i16>, usize) {
    let setup = Setup::default();
    let plan = |negotiated: Negotiated| {
        let telephone_event = negotiated.telephone_event.filter(|_| events);
        Plan::new(Negotiated { telephone_event, ..negotiated }, setup.formats, &link::codecs()).unwrap()
    };
    let mut recorded =
        Recorded::made(name, |tap| Call::made(&setup, Some(tap), |negotiated, _| plan(negotiated)));
    let mut secret: Option<Secret> = None;
    assert_eq!(recorded.call.b.line.speaking().play(&typing("1593", 8)), 64_000);
    for tenth in 0..80 {
        if tenth == 5 {
            secret = Some(recorded.call.a.line.speaking().keep_secret());
        }
        // In the audio keys are told when they are pressed; the last one sounds on. Elsewhere it is told late.
        if tenth >= 41 && (!events || tenth >= 45) {
            secret = None;
        }
        recorded.talk(100);
    }
    drop(secret);
    let keys = recorded.call.a.keys().len();
    let (left, _) = recorded.end();
    (left, keys)
}

#[test]
fn a_secret_leaves_no_tone_in_the_recording() {
    for (name, events, told) in [("tones", false, 4), ("leaked", true, 0)] {
        let (left, keys) = secret_call(name, events);
        assert_eq!(keys, told, "{name}: what the conversation was told");
        assert_eq!(keys_in(&left), 0, "{name}: what is in the recording");
        let hums = hums(&left);
        assert!(hums[1..9].iter().all(|&hums| hums), "{name}: before the first key {hums:?}");
        assert!(!hums[10..45].iter().any(|&hums| hums), "{name}: from the first key on {hums:?}");
        assert!(hums[51..78].iter().all(|&hums| hums), "{name}: after the end {hums:?}");
        // Not only is nothing detected: there is nothing.
        assert!(left[8_400..4 * 8_000 + 3_200].iter().all(|&sample| sample == 0), "{name}");
    }
}

#[test]
fn without_a_secret_keys_are_recorded() {
    let setup = Setup::default();
    let mut recorded = Recorded::new("open", &setup);
    assert_eq!(recorded.call.b.line.speaking().play(&typing("1593", 6)), 48_000);
    recorded.talk(6_000);
    assert_eq!(keys_in(&recorded.end().0), 4);
}

#[test]
fn telephone_events_silence_what_sounds_beside_them() {
    let setup = Setup { codec: PCMU, ..Setup::default() };
    let mut recorded = Recorded::new("events", &setup);
    let mut hum = vec![0; 8_000];
    Tone::new(300.0, 8_000, 4_000).fill(&mut hum);
    let secret = recorded.call.a.line.speaking().keep_secret();
    let speaking = recorded.call.b.line.speaking().clone();
    assert_eq!(speaking.play(&hum), hum.len());
    let mut press = std::pin::pin!(speaking.send_dtmf("12"));
    let polled = press.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert!(polled.is_ready());
    assert_eq!(speaking.play(&hum), hum.len());
    assert_eq!(speaking.play(&hum), hum.len());
    recorded.talk(2_000);
    assert_eq!(recorded.call.a.keys(), "12");
    drop(secret);
    recorded.talk(2_000);
    let hums = hums(&recorded.end().0);
    assert!(hums[1..8].iter().all(|&hums| hums), "{hums:?}");
    assert!(!hums[11..20].iter().any(|&hums| hums), "{hums:?}");
    assert!(hums[24..32].iter().all(|&hums| hums), "{hums:?}");
}
