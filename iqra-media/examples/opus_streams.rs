//! Decodes streams in the format of `opus_demo` and compares the decoder's range with the encoder's, packet by packet.
//!
//! ```text
//! cargo run -p iqra-media --features opus --example opus_streams -- path/to/folder
//! ```
//! A `.bit` file holds for each packet its length and the encoder's final range, both 32-bit big-endian, and then the
//! packet. Each is decoded to 48 kHz stereo and to 8 kHz mono. Prints a line per stream and closes with `N passed, N
//! failed`; the exit status is 0 only when all passed.

#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is its purpose

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use iqra_media::codec::CodecError;
use iqra_media::codec::opus::{Backend, Libopus, packet};

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: opus_streams <folder with .bit files>");
        return ExitCode::from(2);
    };
    let streams = match streams(Path::new(&folder)) {
        Ok(streams) => streams,
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            return ExitCode::from(2);
        }
    };
    let failed = streams.iter().filter(|path| !passed(path)).count();
    println!("{} passed, {failed} failed", streams.len() - failed);
    if failed == 0 && !streams.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn streams(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let paths = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "bit"));
    paths.sort();
    Ok(paths)
}

fn passed(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().display();
    match std::fs::read(path).map_err(Into::into).and_then(|stream| decoded(&stream)) {
        Ok(Differences { packets, lengths, ranges }) => {
            println!("{name}: {packets} packets, {lengths} lengths and {ranges} ranges differ");
            packets > 0 && lengths == 0 && ranges == 0
        }
        Err(error) => {
            println!("{name}: {error}");
            false
        }
    }
}

#[derive(Default)]
struct Differences {
    packets: usize,
    lengths: usize,
    ranges: usize,
}

fn decoded(mut stream: &[u8]) -> Result<Differences, Box<dyn std::error::Error>> {
    let (mut wide, mut narrow) = (Libopus.decoder(48_000, 2)?, Libopus.decoder(8_000, 1)?);
    let (mut pcm, mut found) = ([0; 11_520], Differences::default());
    while let Some((payload, range, rest)) = next(stream) {
        stream = rest;
        found.packets += 1;
        let units = packet::duration(payload) as usize;
        // A packet that was lost on the way has no octets; the decoder makes something up for the usual 20 ms.
        if payload.is_empty() {
            wide.conceal(&mut pcm[..1_920]);
            narrow.conceal(&mut pcm[..160]);
            continue;
        }
        let (at_48, at_8) = (wide.decode(payload, &mut pcm)?, narrow.decode(payload, &mut pcm)?);
        found.lengths += usize::from(at_48 != 2 * units) + usize::from(at_8 != units / 6);
        let ranges = [wide.final_range(), narrow.final_range()];
        found.ranges += ranges.iter().filter(|&&ours| ours != Some(range)).count();
    }
    if stream.is_empty() { Ok(found) } else { Err(Box::new(CodecError::Malformed { codec: "opus" })) }
}

fn next(stream: &[u8]) -> Option<(&[u8], u32, &[u8])> {
    let (length, rest) = stream.split_first_chunk()?;
    let (range, rest) = rest.split_first_chunk()?;
    let (payload, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    Some((payload, u32::from_be_bytes(*range), rest))
}
