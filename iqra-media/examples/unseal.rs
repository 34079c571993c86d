//! Opens an encrypted recording: the sealed file, the WAV file to make, and the key's id; the key itself, 64 hexadecimal
//! digits, is in the environment variable RECORDING_KEY. Without arguments it makes, seals and opens a recording of its
//! own.
//!
//! Run: `cargo run -p iqra-media --features encryption --example unseal -- call.wav.sealed call.wav 2026-11`. Expected
//! without arguments:
//! ```text
//! 16000 samples at 8000 Hz, to the end
//! the caller's tone has purity 1.000 on the left, the agent is silent
//! ```
#![allow(clippy::print_stdout)] // What it prints is what it is for.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use iqra_media::codec::Registry;
use iqra_media::codec::g711::PCMU;
use iqra_media::conversation::{AudioFormat, Formats, Limits, line};
use iqra_media::detect::goertzel::purity;
use iqra_media::pcm::{tone::Tone, wav};
use iqra_media::rtp::packet::Header;
use iqra_media::sdp::Negotiated;
use iqra_media::session::recording::sealed::{Key, Unsealed, unseal};
use iqra_media::session::recording::{Recording, Settings};
use iqra_media::session::{Config, MediaSession, Plan, Port};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => demonstrate(),
        [sealed, wav, id] => {
            let key = Key::new(id, secret(&std::env::var("RECORDING_KEY")?)?)?;
            tell(unseal(sealed, &[key], wav)?);
            Ok(())
        }
        _ => Err("give the sealed file, the WAV file to make, and the key's id".into()),
    }
}

/// 64 hexadecimal digits.
fn secret(hex: &str) -> Result<[u8; 32], Box<dyn Error>> {
    let octet =
        |at: usize| hex.get(2 * at..2 * at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let octets: Option<Vec<u8>> = (0..32).map(octet).collect();
    let octets = octets.filter(|_| hex.len() == 64).ok_or("RECORDING_KEY is not 64 hexadecimal digits")?;
    Ok(octets.try_into().map_err(|_| "32 octets")?)
}

fn tell(unsealed: Unsealed) {
    let end = if unsealed.is_complete { "to the end" } else { "its end is missing" };
    println!("{} samples at {} Hz, {end}", unsealed.samples, unsealed.sample_rate);
}

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("iqra-unseal-{}.wav", std::process::id()));
    let key = Key::new("example", [1; 32])?;
    let settings = Settings { key: Some(key.clone()), ..Settings::new(&path) };
    let (recording, tap) = Recording::create(settings, 8_000)?;
    call(tap)?;
    let recorded = recording.finish()?;
    let sealed: &Path = recorded.files.first().ok_or("a recording has a file")?;
    tell(unseal(sealed, &[key], &path)?);
    let samples = wav::read(&path)?.samples;
    let left: Vec<i16> = samples.iter().step_by(2).copied().skip(4_000).take(8_000).collect();
    let silent = samples.iter().skip(1).step_by(2).all(|&sample| sample == 0);
    let agent = if silent { "silent" } else { "not silent" };
    let purity = purity(&left, 8_000, 800.0);
    println!("the caller's tone has purity {purity:.3} on the left, the agent is {agent}");
    std::fs::remove_file(sealed)?;
    std::fs::remove_file(path)?;
    Ok(())
}

/// Two seconds of a caller who hums at 800 Hz, on a virtual clock.
fn call(tap: iqra_media::session::recording::Tap) -> Result<(), Box<dyn Error>> {
    let (far, formats) = (([192, 0, 2, 1], 4_000).into(), Formats::both(AudioFormat::HZ_8000));
    let (_line, end, _commands) = line(formats, &Limits::default());
    let registry = Registry::default();
    let plan = Plan::new(Negotiated::new(PCMU, far), formats, &registry)?;
    let mut now = Instant::now();
    let mut session =
        MediaSession::new(plan, Config::default(), end, Some(tap), 1, now, SystemTime::UNIX_EPOCH);
    let mut encoder = registry.encoder(&PCMU, &Default::default())?;
    let mut hum = Tone::new(800.0, 8_000, 8_000);
    let (mut samples, mut packet, mut out) = ([0; 160], [0; 172], [0; 1_500]);
    for n in 0..100_u16 {
        hum.fill(&mut samples);
        let mut payload = [0; 160];
        encoder.encode(&samples, &mut payload)?;
        let timestamp = u32::from(n) * 160;
        Header { payload_type: 0, marker: n == 0, sequence: n, timestamp, ssrc: 7 }
            .write(&payload, &mut packet)?;
        session.handle_packet(now, far, Port::Rtp, &mut packet);
        session.tick(now);
        while session.poll_transmit(&mut out).is_some() {}
        now += Duration::from_millis(20);
    }
    session.tick(now);
    Ok(())
}
