//! Compares G.722 with the test sequences of the ITU-T Software Tool Library (G.191, folder `g722/test_data`).
//!
//! ```text
//! cargo run -p iqra-media --no-default-features --example g722_vectors -- path/to/g722/test_data
//! ```
//! The files hold 16-bit little-endian words; a code is the low byte of its word. Prints a line per sequence and
//! closes with `N passed, N failed`; the exit status is 0 only when all passed.

#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is its purpose

use std::path::Path;
use std::process::ExitCode;

use iqra_media::codec::g722::{G722Decoder, G722Encoder, Mode};
use iqra_media::codec::{Decoder, Encoder};

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: g722_vectors <folder with inpsp.bin, codspw.cod and outsp1.bin to outsp3.bin>");
        return ExitCode::from(2);
    };
    let folder = Path::new(&folder);
    let checks = [
        ("encode", encoded(folder)),
        ("decode, mode 1", decoded(folder, Mode::Kbit64, "outsp1.bin")),
        ("decode, mode 2", decoded(folder, Mode::Kbit56, "outsp2.bin")),
        ("decode, mode 3", decoded(folder, Mode::Kbit48, "outsp3.bin")),
    ];
    let failed = checks.iter().filter(|(name, result)| !passed(name, result)).count();
    println!("{} passed, {failed} failed", checks.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type Check = Result<(usize, usize), Box<dyn std::error::Error>>;

fn passed(name: &str, result: &Check) -> bool {
    match result {
        Ok((compared, differing)) => println!("{name}: {compared} compared, {differing} differ"),
        Err(error) => println!("{name}: {error}"),
    }
    matches!(result, Ok((compared, 0)) if *compared > 40_000)
}

/// Frames of 20 ms, as a call has them.
fn encoded(folder: &Path) -> Check {
    let (pcm, expected) = (words(folder, "inpsp.bin")?, codes(folder)?);
    let (mut encoder, mut octets) = (G722Encoder::new(), vec![0; pcm.len() / 2]);
    for (frame, octets) in pcm.chunks(320).zip(octets.chunks_mut(160)) {
        encoder.encode(frame, octets)?;
    }
    Ok(differing(&octets, &expected))
}

fn decoded(folder: &Path, mode: Mode, expected: &str) -> Check {
    let (octets, expected) = (codes(folder)?, words(folder, expected)?);
    let (mut decoder, mut pcm) = (G722Decoder::new(mode), vec![0; 2 * octets.len()]);
    for (octets, frame) in octets.chunks(160).zip(pcm.chunks_mut(320)) {
        decoder.decode(octets, frame)?;
    }
    Ok(differing(&pcm, &expected))
}

/// Values compared, and how many of them differ. The library's programs stop at the last whole frame, so the shorter
/// of the two counts, up to a frame.
fn differing<T: PartialEq>(ours: &[T], theirs: &[T]) -> (usize, usize) {
    let unequal = ours.iter().zip(theirs).filter(|(a, b)| a != b).count();
    let missing = ours.len().abs_diff(theirs.len());
    (ours.len().min(theirs.len()), unequal + if missing < 320 { 0 } else { missing })
}

fn codes(folder: &Path) -> std::io::Result<Vec<u8>> {
    Ok(words(folder, "codspw.cod")?.into_iter().map(|word| word as u8).collect())
}

fn words(folder: &Path, name: &str) -> std::io::Result<Vec<i16>> {
    let path = folder.join(name);
    let bytes = std::fs::read(&path)
        .map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    Ok(bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect())
}
