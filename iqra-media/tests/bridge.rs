//! Two calls joined: four media sessions on a virtual clock, the far ends of which hear each other.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // test helpers

mod link;

use std::time::Duration;

use iqra_media::codec::g711::PCMA;
use iqra_media::codec::g722::G722;
use iqra_media::conversation::{AudioFormat, Bridge, EndReason, Event, Formats, HangUpReason, Heard, Party};
use iqra_media::conversation::{Command, Line};
use iqra_media::detect::dtmf::{Detector, KeyEvent};
use iqra_media::detect::goertzel::{amplitude, purity};
use iqra_media::pcm::tone::Tone;
use link::{Call, Setup, Weather};

/// Two calls; the near sides, A of each, are bridged, and B of each is a far end.
struct Calls {
    first: Call,
    second: Call,
    bridge: Option<Bridge>,
}

fn taken(call: &mut Call) -> Line {
    // The near side's own line goes into the bridge; what takes its place hears nothing.
    let (spare, _, _) = iqra_media::conversation::line(call.a.line.formats(), &Default::default());
    std::mem::replace(&mut call.a.line, spare)
}

impl Calls {
    fn new(first: &Setup, second: &Setup, with_agent: bool) -> Self {
        let (mut first, mut second) = (Call::new(first), Call::new(second));
        second.now = first.now;
        let lines = (taken(&mut first), taken(&mut second));
        let bridge = if with_agent { Bridge::with_agent } else { Bridge::new };
        Self { bridge: Some(bridge(lines.0, lines.1)), first, second }
    }

    fn bridge(&self) -> &Bridge {
        self.bridge.as_ref().unwrap()
    }

    /// Both calls go on, beat by beat.
    fn run(&mut self, millis: u64) {
        for _ in 0..millis / 5 {
            self.first.run_deaf(5);
            self.second.run_deaf(5);
            self.first.b.listen();
            self.second.b.listen();
        }
    }

    /// A far end hums while time passes, as long as it lasts; gives what the other heard meanwhile.
    fn hum(&mut self, from: Party, frequency: f64, millis: u64) -> Vec<i16> {
        let (speaks, hears) = match from {
            Party::First => (&self.first.b, &self.second.b),
            Party::Second => (&self.second.b, &self.first.b),
        };
        speaks.hum(frequency, millis as u32);
        let before = hears.heard.len();
        self.run(millis);
        match from {
            Party::First => self.second.b.heard.split_off(before),
            Party::Second => self.first.b.heard.split_off(before),
        }
    }
}

fn g711() -> Setup {
    Setup::default()
}

fn wide() -> Setup {
    let formats = Formats { hears: AudioFormat::HZ_16000, speaks: AudioFormat::HZ_24000 };
    Setup { codec: G722, formats, seed: 7, ..Setup::default() }
}

/// How much of the middle of what was heard is a tone.
fn middle(heard: &[i16], rate: u32, frequency: f64) -> f64 {
    let half = rate as usize / 2;
    purity(&heard[half..half + half], rate, frequency)
}

#[test]
fn far_ends_hear_each_other_across_codecs_and_rates() {
    let mut calls = Calls::new(&g711(), &wide(), false);
    calls.run(500);
    let heard = calls.hum(Party::First, 600.0, 1_500);
    let found = middle(&heard, 16_000, 600.0);
    assert!(found > 0.98, "{found}");
    let heard = calls.hum(Party::Second, 1_100.0, 1_500);
    let found = middle(&heard, 8_000, 1_100.0);
    assert!(found > 0.98, "{found}");
    let onset = heard.iter().position(|sample| sample.unsigned_abs() > 1_000).unwrap();
    assert!(onset <= 8 * 250, "the tone needed {} ms", onset / 8);
    assert_eq!(calls.bridge().passed(Party::First).left_out, 0);
}

#[test]
fn nobody_hears_themselves_and_the_agent_is_heard_by_both() {
    let mut calls = Calls::new(&g711(), &Setup { codec: PCMA, seed: 9, ..g711() }, true);
    calls.run(500);
    let mut tone = vec![0; 12_000];
    Tone::new(2_000.0, 8_000, 4_000).fill(&mut tone);
    for party in [Party::First, Party::Second] {
        assert_eq!(calls.bridge().play(party, &tone), tone.len());
    }
    let before = calls.first.b.heard.len();
    let heard = calls.hum(Party::First, 500.0, 1_400);
    let own = &calls.first.b.heard[before..];
    let level = |heard: &[i16], frequency| amplitude(&heard[4_000..8_000], 8_000, frequency);
    assert!((7_000.0..9_000.0).contains(&level(&heard, 500.0)), "the second hears the first");
    assert!((3_500.0..4_500.0).contains(&level(&heard, 2_000.0)), "and the agent");
    assert!((3_500.0..4_500.0).contains(&level(own, 2_000.0)), "the first hears the agent");
    assert!(level(own, 500.0) < 100.0, "and not itself");
}

/// What the agent hears of both: audio samples and events per party.
fn drain(bridge: &mut Bridge) -> ([usize; 2], Vec<(Party, Event)>) {
    let (mut audio, mut events) = ([0; 2], Vec::new());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(Some((party, heard))) = std::pin::pin!(bridge.next()).poll(&mut context)
    {
        match heard {
            Heard::Audio(frame) => audio[party as usize] += frame.len(),
            Heard::Event(event) => events.push((party, event)),
        }
    }
    (audio, events)
}

#[tokio::test]
async fn the_agent_hears_each_party_apart_or_neither() {
    let mut calls = Calls::new(&g711(), &g711(), true);
    calls.run(600);
    let (audio, _) = drain(calls.bridge.as_mut().unwrap());
    assert!(audio.iter().all(|&samples| samples > 3_000), "{audio:?}");
    calls.bridge().listen(false);
    calls.run(600);
    let (audio, _) = drain(calls.bridge.as_mut().unwrap());
    assert_eq!(audio, [0; 2]);
    assert_eq!(calls.first.a.session.report().unheard, Duration::ZERO, "nothing is lost that nobody wanted");
}

async fn press(call: &Call, keys: &str) {
    call.b.line.speaking().send_dtmf(keys).await.unwrap();
}

#[tokio::test]
async fn keys_pass_unless_they_are_a_secret() {
    let mut calls = Calls::new(&g711(), &wide(), false);
    calls.run(500);
    calls.first.b.hum(500.0, 2_000);
    calls.second.b.hum(500.0, 2_000);
    press(&calls.first, "12").await;
    calls.run(3_500);
    assert_eq!(calls.second.b.keys(), "12");
    let secret = calls.bridge().speaking(Party::First).keep_secret();
    press(&calls.first, "34").await;
    calls.first.b.hum(500.0, 1_000);
    let before = calls.second.b.heard.len();
    calls.run(1_500);
    assert_eq!(calls.second.b.keys(), "12", "a secret is nobody's business");
    let quiet = &calls.second.b.heard[before..];
    assert!(quiet.iter().all(|sample| sample.unsigned_abs() < 100), "nor is what sounds with it");
    drop(secret);
    calls.run(500);
    press(&calls.first, "5").await;
    press(&calls.second, "6").await;
    calls.run(1_000);
    assert_eq!((calls.second.b.keys().as_str(), calls.first.b.keys().as_str()), ("125", "6"));
}

#[test]
fn a_key_in_the_audio_is_pressed_once() {
    let setup = g711();
    let without_events = |negotiated: iqra_media::sdp::Negotiated, _| {
        let negotiated = iqra_media::sdp::Negotiated { telephone_event: None, ..negotiated };
        iqra_media::session::Plan::new(negotiated, setup.formats, &link::codecs()).unwrap()
    };
    let (mut first, mut second) = (Call::planned(&setup, without_events), Call::new(&g711()));
    second.now = first.now;
    let lines = (taken(&mut first), taken(&mut second));
    let mut calls = Calls { bridge: Some(Bridge::new(lines.0, lines.1)), first, second };
    calls.run(500);
    let mut sound = vec![0; 4_000];
    let pace = iqra_media::detect::dtmf::Pace { tone: Duration::from_millis(120), ..Default::default() };
    let mut generator = iqra_media::detect::dtmf::Generator::new(8_000, pace);
    for key in ['7', '7'] {
        assert!(generator.press(iqra_media::rtp::telephone_event::Digit::from_char(key).unwrap()));
    }
    generator.fill(&mut sound);
    calls.first.b.line.speaking().play(&sound);
    calls.run(1_500);
    assert_eq!(calls.second.b.keys(), "77");
    let (mut detector, mut heard) = (Detector::new(8_000), 0);
    detector
        .process(&calls.second.b.heard, |event| heard += usize::from(matches!(event, KeyEvent::Down { .. })));
    assert_eq!(heard, 0, "in the audio it would be a second press");
}

#[test]
fn a_hold_is_silent_and_leaves_no_delay() {
    let mut calls = Calls::new(&g711(), &g711(), false);
    calls.run(500);
    calls.bridge().hold();
    let heard = calls.hum(Party::First, 500.0, 1_000);
    assert!(heard.iter().all(|sample| sample.unsigned_abs() < 100));
    calls.bridge().resume();
    calls.run(500);
    let heard = calls.hum(Party::First, 500.0, 1_000);
    let onset = heard.iter().position(|sample| sample.unsigned_abs() > 1_000).unwrap();
    assert!(onset <= 8 * 220, "the tone needed {} ms", onset / 8);
    assert!(middle(&heard, 8_000, 500.0) > 0.98);
}

#[tokio::test]
async fn who_is_left_is_hung_up_and_lines_that_part_are_quiet() {
    let mut calls = Calls::new(&g711(), &g711(), false);
    calls.run(500);
    let running = tokio::spawn(calls.bridge.take().unwrap().run());
    tokio::task::yield_now().await;
    calls.first.a.session.end(EndReason::FarEnd);
    let bridged = running.await.unwrap();
    assert_eq!((bridged.ended, bridged.reason), (Party::First, EndReason::FarEnd));
    let asked = calls.second.a.commands.next().await;
    assert!(matches!(asked, Some(Command::HangUp(HangUpReason::Asked(_)))), "{asked:?}");

    let mut calls = Calls::new(&g711(), &g711(), false);
    calls.run(500);
    let (first, second) = calls.bridge.take().unwrap().part();
    (calls.first.a.line, calls.second.a.line) = (first, second);
    let heard = calls.hum(Party::First, 500.0, 1_000);
    assert!(heard[2_400..].iter().all(|sample| sample.unsigned_abs() < 100), "they are apart");
    calls.first.a.listen();
    assert!(!calls.first.a.heard.is_empty(), "and the conversation hears its far end again");
}

/// Two minutes in which one session's clock runs 1000 ppm faster than the other's, over a network with jitter.
#[test]
fn clocks_that_drift_make_no_delay() {
    let weather =
        Weather { delay: Duration::from_millis(10), jitter: Duration::from_millis(15), ..Weather::default() };
    let mut calls = Calls::new(&Setup { weather, ..g711() }, &Setup { weather, ..wide() }, false);
    let mut behind = 0.0;
    for _ in 0..120 {
        for _ in 0..200 {
            calls.first.run_deaf(5);
            behind += 5.0 * (1.0 - 1_000e-6);
            while behind >= 5.0 {
                calls.second.run_deaf(5);
                behind -= 5.0;
            }
            calls.first.b.listen();
            calls.second.b.listen();
        }
        calls.first.b.heard.clear();
        calls.second.b.heard.clear();
    }
    for from in [Party::First, Party::Second] {
        let passed = calls.bridge().passed(from);
        assert_eq!(passed.left_out, 0, "{from:?}");
        assert!(passed.gaps <= 20, "{} gaps from {from:?}", passed.gaps);
    }
    let heard = calls.hum(Party::First, 500.0, 1_000);
    let onset = heard.iter().position(|sample| sample.unsigned_abs() > 1_000).unwrap();
    assert!(onset <= 16 * 250, "the tone needs {} ms after two minutes", onset / 16);
}
