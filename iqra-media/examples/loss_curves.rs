//! What lost packets do to speech: log-spectral distance with zero-fill, repetition and this crate's concealment, for
//! 0 to 20 % of random and of bursty loss, in packets of 20 ms.
//!
//! Run: `cargo run --release -p iqra-media --example loss_curves` (a voice made of tones and noise), or with a mono WAV
//! file, and then a folder to write what was heard, and which packets were lost, for other measures. See
//! docs/quality.md.
#![allow(clippy::print_stdout)] // the result of a program

use std::error::Error;
use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use iqra_media::jitter::conceal::Concealer;
use iqra_media::pcm::wav::{self, Wav};

const RATES: [u32; 7] = [0, 1, 3, 5, 10, 15, 20];
/// Packets that a burst of losses lasts on average.
const BURST: f64 = 3.0;

type Method = (&'static str, fn(&[i16], &[bool], u32) -> Vec<i16>);
const METHODS: [Method; 3] = [("zero", zero_fill), ("repeat", repeat), ("iqra", conceal)];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (rate, speech) = match arguments.next() {
        Some(path) => {
            let file = wav::read(path)?;
            (file.sample_rate, file.into_mono())
        }
        None => (8000, voice(8000, 4)),
    };
    let folder = arguments.next();
    println!("log-spectral distance in dB, {} s at {rate} Hz", speech.len() / rate as usize);
    println!("loss        {:>8}{:>8}{:>8}", METHODS[0].0, METHODS[1].0, METHODS[2].0);
    for bursty in [false, true] {
        for percent in RATES {
            let lost = losses(speech.len().div_ceil(rate as usize / 50), f64::from(percent) / 100.0, bursty);
            let kind = if bursty { "bursty" } else { "random" };
            print!("{kind} {percent:>3} %");
            for (name, method) in METHODS {
                let heard = method(&speech, &lost, rate);
                print!("{:>8.2}", distance(&speech, &heard, rate));
                if let Some(folder) = &folder {
                    save(folder, &format!("{name}-{kind}-{percent}.wav"), rate, heard)?;
                }
            }
            println!();
            if let Some(folder) = &folder {
                let flags: String = lost.iter().map(|&lost| if lost { '1' } else { '0' }).collect();
                std::fs::write(folder.join(format!("{kind}-{percent}.txt")), flags)?;
            }
        }
    }
    Ok(())
}

fn save(folder: &Path, name: &str, sample_rate: u32, samples: Vec<i16>) -> Result<(), Box<dyn Error>> {
    Ok(wav::write(folder.join(name), &Wav { sample_rate, channels: 1, samples })?)
}

/// Which packets are lost: each for itself, or in bursts (Gilbert's model). The first five never are.
fn losses(packets: usize, share: f64, bursty: bool) -> Vec<bool> {
    let mut random = fastrand::Rng::with_seed(11);
    let (stay, begin) =
        if bursty { (1.0 - 1.0 / BURST, share / (BURST * (1.0 - share))) } else { (share, share) };
    let mut lost = false;
    (0..packets)
        .map(|n| {
            lost = n >= 5 && random.f64() < if lost { stay } else { begin };
            lost
        })
        .collect()
}

fn zero_fill(speech: &[i16], lost: &[bool], rate: u32) -> Vec<i16> {
    let mut heard = speech.to_vec();
    for (frame, _) in heard.chunks_mut(rate as usize / 50).zip(lost).filter(|(_, lost)| **lost) {
        frame.fill(0);
    }
    heard
}

fn repeat(speech: &[i16], lost: &[bool], rate: u32) -> Vec<i16> {
    let length = rate as usize / 50;
    let mut heard = speech.to_vec();
    for (n, _) in lost.iter().enumerate().filter(|&(n, &lost)| lost && n > 0) {
        let end = ((n + 1) * length).min(heard.len());
        heard.copy_within((n - 1) * length..end - length, n * length);
    }
    heard
}

fn conceal(speech: &[i16], lost: &[bool], rate: u32) -> Vec<i16> {
    let mut concealer = Concealer::new(rate);
    let mut heard = speech.to_vec();
    for (frame, &lost) in heard.chunks_mut(rate as usize / 50).zip(lost) {
        if lost { concealer.conceal(frame) } else { concealer.heard(frame) }
    }
    heard
}

/// Mean over windows of 32 ms, every 16 ms, of the root mean square difference of the spectra in dB; what is quieter
/// than one step of a sample counts as that.
fn distance(speech: &[i16], heard: &[i16], rate: u32) -> f64 {
    let length = rate as usize * 32 / 1000;
    let waves: Vec<(f64, f64)> = (0..length).map(|n| (TAU * n as f64 / length as f64).sin_cos()).collect();
    let windows = speech.windows(length).zip(heard.windows(length)).step_by(length / 2);
    let distances: Vec<f64> =
        windows.map(|(a, b)| if a == b { 0.0 } else { one_distance(a, b, &waves) }).collect();
    distances.iter().sum::<f64>() / distances.len().max(1) as f64
}

fn one_distance(a: &[i16], b: &[i16], waves: &[(f64, f64)]) -> f64 {
    let (a, b) = (spectrum(a, waves), spectrum(b, waves));
    let squares: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
    (squares / a.len() as f64).sqrt()
}

/// Decibels per bin under a Hann window.
fn spectrum(samples: &[i16], waves: &[(f64, f64)]) -> Vec<f64> {
    let length = samples.len();
    let windowed: Vec<f64> =
        samples.iter().zip(waves).map(|(&sample, wave)| f64::from(sample) * (0.5 - 0.5 * wave.1)).collect();
    let bin = |k: usize| {
        let (re, im) = windowed.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, sample)| {
            let (sin, cos) = waves[n * k % length];
            (re + sample * cos, im - sample * sin)
        });
        10.0 * ((re * re + im * im) / length as f64 + 1.0).log10()
    };
    (1..length / 2).map(bin).collect()
}

/// Something like a voice: vowels of gliding pitch, hisses and pauses in turn.
fn voice(rate: u32, seconds: u32) -> Vec<i16> {
    let mut random = fastrand::Rng::with_seed(3);
    let mut phase = 0.0;
    let sample = |n: u32| {
        let time = f64::from(n) / f64::from(rate);
        let hiss = 2.0 * random.f64() - 1.0;
        let swell = (time * 4.0).fract().mul_add(-2.0, 1.0).abs().mul_add(-1.0, 1.0);
        phase += (130.0 + 40.0 * (time * 5.0).sin()) / f64::from(rate);
        let vowel: f64 = (1..16).map(|k| (TAU * phase * f64::from(k)).sin() / f64::from(k)).sum();
        let said = match (time * 4.0) as u32 % 4 {
            0 | 1 => 5000.0 * vowel,
            2 => 2500.0 * hiss,
            _ => 0.0,
        };
        (said * swell + 12.0 * hiss) as i16
    };
    (0..rate * seconds).map(sample).collect()
}
