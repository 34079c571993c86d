//! Compares G.711 with the test sequences of the ITU-T Software Tool Library (G.191, folder `g711/test_data`).
//!
//! ```text
//! cargo run -p iqra-media --no-default-features --example g711_vectors -- path/to/g711/test_data
//! ```
//! The files hold 16-bit little-endian words; a code is the low byte of its word. Prints a line per sequence and
//! closes with `N passed, N failed`; the exit status is 0 only when all passed.

#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is its purpose

use std::path::Path;
use std::process::ExitCode;

use iqra_media::codec::g711::{decode_alaw, decode_ulaw, encode_alaw, encode_ulaw};

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!(
            "usage: g711_vectors <folder with sweep.src, sweep-r.u, sweep-r.a and their decoded forms>"
        );
        return ExitCode::from(2);
    };
    let folder = Path::new(&folder);
    let checks = [
        ("µ-law encode", encoded(folder, "sweep.src", "sweep-r.u", encode_ulaw)),
        ("A-law encode", encoded(folder, "sweep.src", "sweep-r.a", encode_alaw)),
        ("µ-law decode", decoded(folder, "sweep-r.u", "sweep-r.u-u", decode_ulaw)),
        ("A-law decode", decoded(folder, "sweep-r.a", "sweep-r.a-a", decode_alaw)),
        ("µ-law encode and decode", both(folder, "sweep.src", "sweep-r.reu", encode_ulaw, decode_ulaw)),
        ("A-law encode and decode", both(folder, "sweep.src", "sweep-r.rea", encode_alaw, decode_alaw)),
    ];
    let failed = checks.iter().filter(|(name, result)| !passed(name, result)).count();
    println!("{} passed, {failed} failed", checks.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type Check = Result<(usize, usize), std::io::Error>;

fn passed(name: &str, result: &Check) -> bool {
    match result {
        Ok((words, differing)) => println!("{name}: {words} words, {differing} differ"),
        Err(error) => println!("{name}: {error}"),
    }
    matches!(result, Ok((words, 0)) if *words > 0)
}

fn encoded(folder: &Path, input: &str, expected: &str, encode: fn(&[i16], &mut [u8])) -> Check {
    let pcm = words(folder, input)?;
    let mut codes = vec![0; pcm.len()];
    encode(&pcm, &mut codes);
    Ok(differing(&codes, &low_bytes(&words(folder, expected)?)))
}

fn decoded(folder: &Path, input: &str, expected: &str, decode: fn(&[u8], &mut [i16])) -> Check {
    let codes = low_bytes(&words(folder, input)?);
    let mut pcm = vec![0; codes.len()];
    decode(&codes, &mut pcm);
    Ok(differing(&pcm, &words(folder, expected)?))
}

fn both(
    folder: &Path,
    input: &str,
    expected: &str,
    encode: fn(&[i16], &mut [u8]),
    decode: fn(&[u8], &mut [i16]),
) -> Check {
    let mut pcm = words(folder, input)?;
    let mut codes = vec![0; pcm.len()];
    encode(&pcm, &mut codes);
    decode(&codes, &mut pcm);
    Ok(differing(&pcm, &words(folder, expected)?))
}

/// Words compared, and how many of them differ; a difference in length counts word by word.
fn differing<T: PartialEq>(ours: &[T], theirs: &[T]) -> (usize, usize) {
    let unequal = ours.iter().zip(theirs).filter(|(a, b)| a != b).count();
    (theirs.len(), unequal + ours.len().abs_diff(theirs.len()))
}

fn words(folder: &Path, name: &str) -> std::io::Result<Vec<i16>> {
    let path = folder.join(name);
    let bytes = std::fs::read(&path)
        .map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    Ok(bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect())
}

fn low_bytes(words: &[i16]) -> Vec<u8> {
    words.iter().map(|&word| word as u8).collect()
}
