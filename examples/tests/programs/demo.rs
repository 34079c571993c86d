//! `quickstart --demo`: the call worked, and what it printed and recorded shows it.

use iqra_examples::demo::voice::{ANSWER, CALLER, GREETING, KEY};
use iqra_media::detect::goertzel::{amplitude, purity};
use iqra_media::pcm::wav;

use super::process::{QUICKSTART, folder, run};

/// Whether 50 ms of nothing but this note, and loud, are anywhere in it.
fn holds(samples: &[i16], rate: u32, hz: f64) -> bool {
    samples
        .chunks_exact(rate as usize / 20)
        .any(|window| amplitude(window, rate, hz) > 2000.0 && purity(window, rate, hz) > 0.9)
}

#[test]
fn the_demo_calls_itself_and_leaves_a_recording_of_both_sides() {
    let folder = folder("demo");
    let over = run(QUICKSTART, &["--demo"], &folder);
    assert_eq!(over.status.code(), Some(0), "{}{}", over.stdout, over.stderr);
    for part in ["proxy tier", "302 Moved", "200 OK (INVITE)", "ACK ", "BYE ", "codec  ", "jitter  "] {
        assert!(over.stdout.contains(part), "no {part} in\n{}", over.stdout);
    }
    assert!(over.stdout.ends_with("\nthe call worked\n"), "{}", over.stdout);
    assert!(!over.stdout.contains("NO ") && !over.stdout.contains("5550100"), "{}", over.stdout);

    let recording = wav::read(folder.join("quickstart-demo.wav")).unwrap();
    assert_eq!(recording.channels, 2);
    let side = |first| recording.samples.iter().skip(first).step_by(2).copied().collect::<Vec<i16>>();
    let (agent, caller) = (side(0), side(1));
    for hz in GREETING.into_iter().chain([ANSWER, KEY]) {
        assert!(holds(&agent, recording.sample_rate, hz), "the agent's {hz} Hz");
        assert!(!holds(&caller, recording.sample_rate, hz), "{hz} Hz on the caller's side");
    }
    assert!(holds(&caller, recording.sample_rate, CALLER), "the caller's note");
    assert!(!holds(&agent, recording.sample_rate, CALLER), "the caller's note on the agent's side");
}
