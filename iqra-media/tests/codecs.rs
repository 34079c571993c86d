//! What holds of every codec behind the two traits: any octets, any frame, and how much of a voice comes through.
#![allow(clippy::unwrap_used)] // test helpers

#[path = "common/surfaces.rs"]
mod surfaces;

use iqra_media::codec::{CodecError, CodecSpec, Decoder, Encoder, Settings, g722, l16};
use proptest::prelude::*;
use surfaces::registry;

/// Octets of the longest frame here: half a second of G.722, 60 ms of L16 at 48 kHz.
const ROOM: usize = 6_000;

/// Something like a voice: harmonics of a gliding pitch under two formants, in syllables, and a little noise.
fn voice(rate: u32, ms: u32) -> Vec<i16> {
    let (mut phase, mut random) = (0.0f64, fastrand::Rng::with_seed(3));
    let sample = |n: u32| {
        let t = f64::from(n) / f64::from(rate);
        let pitch = 120.0 + 25.0 * (t * 2.0).sin();
        phase += pitch / f64::from(rate);
        let harmonics = 1..(3_300.0 / pitch) as u32;
        let tone: f64 = harmonics
            .map(|h| {
                let f = f64::from(h) * pitch;
                let formant = |at: f64, width: f64| 1.0 / (1.0 + ((f - at) / width).powi(2));
                (formant(500.0, 120.0) + 0.5 * formant(1_500.0, 200.0))
                    * (std::f64::consts::TAU * phase * f64::from(h)).sin()
            })
            .sum();
        let syllable = 0.55 - 0.45 * (std::f64::consts::TAU * 4.0 * t).cos();
        (tone * syllable * 6_000.0 + random.f64() * 20.0) as i16
    };
    (0..rate / 1_000 * ms).map(sample).collect()
}

fn made(spec: &CodecSpec, settings: &Settings<'_>) -> (Box<dyn Encoder>, Box<dyn Decoder>) {
    let registry = registry();
    (registry.encoder(spec, settings).unwrap(), registry.decoder(spec, settings).unwrap())
}

fn through(encoder: &mut dyn Encoder, decoder: &mut dyn Decoder, pcm: &[i16], ms: u32) -> Vec<i16> {
    let (mut payload, mut out) = ([0; ROOM], vec![0; 11_520]);
    let mut heard = Vec::new();
    for frame in pcm.chunks_exact(encoder.spec().samples(ms)) {
        let octets = encoder.encode(frame, &mut payload).unwrap();
        assert_eq!(decoder.duration(&payload[..octets]), encoder.spec().duration(ms));
        let samples = decoder.decode(&payload[..octets], &mut out).unwrap();
        heard.extend_from_slice(&out[..samples]);
    }
    heard
}

/// Signal to noise in dB at the delay where it is best, after the first 100 ms.
fn snr(said: &[i16], heard: &[i16], rate: u32, most_delay: usize) -> f64 {
    let skipped = rate as usize / 10;
    let at = |delay: usize| {
        let pairs = said[skipped..].iter().zip(&heard[skipped + delay..]);
        let (mut signal, mut noise) = (0.0, 0.0);
        for (&s, &h) in pairs {
            signal += f64::from(s).powi(2);
            noise += (f64::from(s) - f64::from(h)).powi(2);
        }
        10.0 * (signal / noise.max(1e-9)).log10()
    };
    (0..=most_delay).map(at).fold(f64::MIN, f64::max)
}

#[test]
fn a_voice_comes_through() {
    // What is measured, less a decibel or so: enough to see a codec break.
    for (spec, least) in registry().specs().iter().filter_map(|spec| {
        let least = match spec.name {
            "PCMU" | "PCMA" => 35.0,
            "G722" => 25.0,
            "L16" => 200.0,
            _ => return None,
        };
        Some((*spec, least))
    }) {
        let (mut encoder, mut decoder) = made(&spec, &Settings::default());
        let rate = encoder.spec().sample_rate;
        let said = voice(rate, 1_000);
        for ms in [10, 20, 30, 60] {
            let heard = through(&mut *encoder, &mut *decoder, &said, ms);
            let snr = snr(&said[..heard.len()], &heard, rate, 40);
            assert!(snr > least, "{spec:?} in {ms} ms: {snr:.1} dB");
        }
    }
}

#[test]
fn a_frame_that_does_not_fit_is_refused_before_anything_is_consumed() {
    for spec in registry().specs() {
        let (mut encoder, mut decoder) = made(&spec, &Settings::default());
        let pcm = voice(encoder.spec().sample_rate, 20);
        let mut payload = [0; ROOM];
        let octets = encoder.encode(&pcm, &mut payload).unwrap();
        let mut out = vec![0; decoder.spec().samples(20)];
        let short = decoder.decode(&payload[..octets], &mut out[1..]);
        assert!(matches!(short, Err(CodecError::OutputTooSmall { .. })), "{spec:?}: {short:?}");
        assert_eq!(decoder.decode(&payload[..octets], &mut out), Ok(out.len()), "{spec:?}");
        assert!(encoder.encode(&pcm, &mut []).is_err(), "{spec:?}");
    }
}

#[test]
fn frames_of_any_length_make_the_same_stream() {
    let said = voice(16_000, 500);
    let coded = |ms: u32| {
        let (mut encoder, mut octets) = (g722::G722Encoder::new(), [0; ROOM]);
        let frames = said.chunks(ms as usize * 16).map(|frame| {
            let coded = encoder.encode(frame, &mut octets).unwrap();
            octets[..coded].to_vec()
        });
        frames.collect::<Vec<_>>().concat()
    };
    assert_eq!(coded(20), coded(50));
    assert_eq!(coded(10), coded(7));
    assert_eq!(coded(10), coded(500));
}

#[test]
fn a_reset_decoder_is_as_new() {
    for spec in registry().specs() {
        let (mut encoder, mut used) = made(&spec, &Settings::default());
        let said = voice(encoder.spec().sample_rate, 200);
        through(&mut *encoder, &mut *used, &said, 20);
        used.reset();
        let (mut encoder, mut fresh) = made(&spec, &Settings::default());
        let (mut again, _) = made(&spec, &Settings::default());
        let expected = through(&mut *encoder, &mut *fresh, &said, 20);
        assert_eq!(through(&mut *again, &mut *used, &said, 20), expected, "{spec:?}");
    }
}

#[test]
fn every_rate_of_l16_is_told_apart() {
    let rates = [l16::HZ_8000, l16::HZ_16000, l16::HZ_24000, l16::HZ_48000].map(|spec| {
        let (encoder, decoder) = made(&spec, &Settings::default());
        assert_eq!(encoder.spec(), decoder.spec());
        (decoder.spec().payload_type, decoder.spec().sample_rate)
    });
    assert_eq!(rates, [(112, 8_000), (113, 16_000), (114, 24_000), (115, 48_000)]);
}

proptest! {
    #[test]
    fn no_octets_break_a_decoder(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        surfaces::decoders(&data);
    }

    #[test]
    fn no_samples_break_an_encoder(seed: u64, loud: bool) {
        let mut random = fastrand::Rng::with_seed(seed);
        for spec in registry().specs() {
            let (mut encoder, mut decoder) = made(&spec, &Settings { fmtp: "useinbandfec=1", ..Settings::default() });
            let mut sample = || if loud { [i16::MIN, i16::MAX][usize::from(random.bool())] } else { random.i16(..) };
            let pcm: Vec<i16> = (0..encoder.spec().samples(60)).map(|_| sample()).collect();
            through(&mut *encoder, &mut *decoder, &pcm, 20);
        }
    }
}
