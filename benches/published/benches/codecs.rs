//! Our codecs per frame of 20 ms beside published ones, in one run and in turn: G.711 and G.722 of `audio-codec`, G.722
//! of `ezk-g722`, Opus of the crate `opus`, which builds the same libopus, so that the difference is what our layers
//! cost; with feature `native` also G.711 and G.722 of spandsp and libavcodec and the system's libopus.
//!
//! ```text
//! cargo bench --features native --bench codecs
//! ```
//! Before it measures, it says how many G.722 octets of each differ from ours, which are exact with the vectors of the
//! ITU-T, and that each Opus decoder takes what the other's encoder makes.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A bench, and what it prints is what it is for.

use std::hint::black_box;

use audio_codec::{CodecType, create_decoder, create_encoder};
use ezk_g722::libg722;
use iqra_benches_published::Race;
#[cfg(feature = "native")]
use iqra_benches_published::native;
use iqra_media::codec::g722::{G722Decoder, G722Encoder};
use iqra_media::codec::{Decoder, Encoder, Registry, Settings, g711, opus as ours};

const FRAMES: usize = 200;
const ROUNDS: usize = 101;
const WIDEBAND: Settings<'_> = Settings { fmtp: "", ptime_ms: 20, sample_rate: 16_000, channels: 1 };

fn main() {
    let (narrow, wide) = (voice(8_000), voice(16_000));
    g711_encode(&narrow, CodecType::PCMU, g711::encode_ulaw);
    g711_encode(&narrow, CodecType::PCMA, g711::encode_alaw);
    let octets: Vec<u8> = (0..FRAMES * 160).map(|n| (n * n % 251) as u8).collect();
    g711_decode(&octets, CodecType::PCMU, g711::decode_ulaw);
    g711_decode(&octets, CodecType::PCMA, g711::decode_alaw);
    let octets = g722_octets(&wide);
    say_what_differs(&wide, &octets);
    g722_encode(&wide);
    g722_decode(&octets);
    let packets = opus_packets(&wide);
    opus_encode(&wide);
    opus_decode(&packets);
}

/// Four seconds of a pitch that glides, with overtones.
fn voice(rate: u32) -> Vec<i16> {
    let sample = |n: u32| {
        let t = f64::from(n) / f64::from(rate);
        let phase = std::f64::consts::TAU * (120.0 * t + 15.0 * t * t);
        let tone: f64 = (1..20).map(|h| (phase * f64::from(h)).sin() / f64::from(h)).sum();
        (tone * (1.2 - (t * 25.0).cos()) * 4_000.0) as i16
    };
    (0..4 * rate).map(sample).collect()
}

/// Work on the frames of an input, one after the other and over again.
fn each<'a, T, R>(
    input: &'a [T],
    frame: usize,
    mut work: impl FnMut(&[T]) -> R + 'a,
) -> impl FnMut() -> R + 'a {
    let mut at = 0;
    move || {
        at = (at + 1) % FRAMES;
        work(black_box(&input[at * frame..][..frame]))
    }
}

fn g711_encode(pcm: &[i16], codec: CodecType, ours: fn(&[i16], &mut [u8])) {
    let (law, title) = if codec == CodecType::PCMU { (b'u', "PCMU encode") } else { (b'a', "PCMA encode") };
    let mut race = Race::new(title, ROUNDS, 2_000);
    let (mut out, mut theirs, mut theirs_out) = ([0; 160], create_encoder(codec), [0; 160]);
    race.add("iqra-media", each(pcm, 160, move |pcm| ours(pcm, black_box(&mut out))));
    race.add(
        "audio-codec",
        each(pcm, 160, move |pcm| theirs.encode_into(pcm, black_box(&mut theirs_out)).is_ok()),
    );
    #[cfg(feature = "native")]
    {
        let name = if law == b'u' { c"pcm_mulaw" } else { c"pcm_alaw" };
        add_encoder(&mut race, "spandsp", native::Encoder::spandsp_g711(law), pcm, 160);
        add_encoder(&mut race, "libavcodec", native::Encoder::avcodec(name, 8_000), pcm, 160);
    }
    let _ = law;
    race.run();
}

fn g711_decode(octets: &[u8], codec: CodecType, ours: fn(&[u8], &mut [i16])) {
    let (law, title) = if codec == CodecType::PCMU { (b'u', "PCMU decode") } else { (b'a', "PCMA decode") };
    let mut race = Race::new(title, ROUNDS, 2_000);
    let (mut out, mut theirs, mut theirs_out) = ([0; 160], create_decoder(codec), [0; 160]);
    race.add("iqra-media", each(octets, 160, move |octets| ours(octets, black_box(&mut out))));
    race.add(
        "audio-codec",
        each(octets, 160, move |octets| theirs.decode_into(octets, black_box(&mut theirs_out)).is_ok()),
    );
    #[cfg(feature = "native")]
    {
        let name = if law == b'u' { c"pcm_mulaw" } else { c"pcm_alaw" };
        add_decoder(&mut race, "spandsp", native::Decoder::spandsp_g711(law), octets, 160);
        add_decoder(&mut race, "libavcodec", native::Decoder::avcodec(name, 8_000), octets, 160);
    }
    let _ = law;
    race.run();
}

#[cfg(feature = "native")]
fn add_encoder<'a>(
    race: &mut Race<'a>,
    name: &'static str,
    mut encoder: native::Encoder,
    pcm: &'a [i16],
    frame: usize,
) {
    let mut out = [0; 1_500];
    race.add(name, each(pcm, frame, move |pcm| encoder.encode(pcm, black_box(&mut out))));
}

#[cfg(feature = "native")]
fn add_decoder<'a>(
    race: &mut Race<'a>,
    name: &'static str,
    mut decoder: native::Decoder,
    octets: &'a [u8],
    frame: usize,
) {
    let mut out = [0; 1_000];
    race.add(name, each(octets, frame, move |octets| decoder.decode(octets, black_box(&mut out))));
}

fn g722_octets(pcm: &[i16]) -> Vec<u8> {
    let mut octets = vec![0; pcm.len() / 2];
    G722Encoder::new().encode(pcm, &mut octets).unwrap();
    octets
}

fn ezk_encoder() -> libg722::encoder::Encoder {
    libg722::encoder::Encoder::new(libg722::Bitrate::Mode1_64000, false, false)
}

fn say_what_differs(pcm: &[i16], octets: &[u8]) {
    let say = |name: &str, theirs: Vec<u8>| {
        let differ = octets.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        println!("G.722 of {name}: {differ} of {} octets differ from ours", octets.len());
    };
    say("audio-codec", create_encoder(CodecType::G722).encode(pcm));
    say("ezk-g722", ezk_encoder().encode(pcm));
    #[cfg(feature = "native")]
    for (name, mut encoder) in [
        ("spandsp", native::Encoder::spandsp_g722()),
        ("libavcodec", native::Encoder::avcodec(c"g722", 16_000)),
    ] {
        let mut out = [0; 1_500];
        let mut coded = Vec::new();
        for frame in pcm.chunks_exact(320) {
            let length = encoder.encode(frame, &mut out);
            coded.extend_from_slice(&out[..length]);
        }
        say(name, coded);
    }
}

fn g722_encode(pcm: &[i16]) {
    let mut race = Race::new("G.722 encode", ROUNDS, 200);
    let (mut encoder, mut out) = (G722Encoder::new(), [0; 160]);
    race.add("iqra-media", each(pcm, 320, move |pcm| encoder.encode(pcm, black_box(&mut out))));
    let (mut encoder, mut out) = (create_encoder(CodecType::G722), [0; 400]);
    race.add("audio-codec", each(pcm, 320, move |pcm| encoder.encode_into(pcm, black_box(&mut out)).is_ok()));
    let mut encoder = ezk_encoder();
    race.add("ezk-g722", each(pcm, 320, move |pcm| encoder.encode(pcm)));
    #[cfg(feature = "native")]
    {
        add_encoder(&mut race, "spandsp", native::Encoder::spandsp_g722(), pcm, 320);
        add_encoder(&mut race, "libavcodec", native::Encoder::avcodec(c"g722", 16_000), pcm, 320);
    }
    race.run();
}

fn g722_decode(octets: &[u8]) {
    let mut race = Race::new("G.722 decode", ROUNDS, 200);
    let (mut decoder, mut out) = (G722Decoder::default(), [0; 320]);
    race.add("iqra-media", each(octets, 160, move |octets| decoder.decode(octets, black_box(&mut out))));
    let (mut decoder, mut out) = (create_decoder(CodecType::G722), [0; 400]);
    race.add(
        "audio-codec",
        each(octets, 160, move |octets| decoder.decode_into(octets, black_box(&mut out)).is_ok()),
    );
    let mut decoder = libg722::decoder::Decoder::new(libg722::Bitrate::Mode1_64000, false, false);
    race.add("ezk-g722", each(octets, 160, move |octets| decoder.decode(octets)));
    #[cfg(feature = "native")]
    {
        add_decoder(&mut race, "spandsp", native::Decoder::spandsp_g722(), octets, 160);
        add_decoder(&mut race, "libavcodec", native::Decoder::avcodec(c"g722", 16_000), octets, 160);
    }
    race.run();
}

fn opus_packets(pcm: &[i16]) -> Vec<Vec<u8>> {
    let mut encoder = Registry::default().encoder(&ours::OPUS, &WIDEBAND).unwrap();
    let mut out = [0; 1_500];
    let coded = |frame| encoder.encode(frame, &mut out).map(|length| out[..length].to_vec()).unwrap();
    pcm.chunks_exact(320).map(coded).collect()
}

/// The crate, set as ours is.
fn crate_opus() -> opus::Encoder {
    let mut encoder = opus::Encoder::new(16_000, opus::Channels::Mono, opus::Application::Voip).unwrap();
    encoder.set_complexity(5).unwrap();
    encoder.set_bitrate(opus::Bitrate::Bits(20_000)).unwrap();
    encoder.set_signal(opus::Signal::Voice).unwrap();
    encoder
}

fn opus_encode(pcm: &[i16]) {
    let mut race = Race::new("Opus encode, 16 kHz, 20 kbit/s", ROUNDS, 20);
    let (mut encoder, mut out) = (Registry::default().encoder(&ours::OPUS, &WIDEBAND).unwrap(), [0; 1_500]);
    race.add("iqra-media", each(pcm, 320, move |pcm| encoder.encode(pcm, black_box(&mut out))));
    let (mut encoder, mut out) = (crate_opus(), [0; 1_500]);
    race.add("opus", each(pcm, 320, move |pcm| encoder.encode(pcm, black_box(&mut out))));
    #[cfg(feature = "native")]
    add_encoder(&mut race, "libopus of the system", native::Encoder::libopus(), pcm, 320);
    race.run();
}

fn opus_decode(packets: &[Vec<u8>]) {
    let mut race = Race::new("Opus decode to 16 kHz", ROUNDS, 50);
    let (mut decoder, mut out) = (Registry::default().decoder(&ours::OPUS, &WIDEBAND).unwrap(), [0; 320]);
    race.add("iqra-media", each(packets, 1, move |packet| decoder.decode(&packet[0], black_box(&mut out))));
    let (mut decoder, mut out) = (opus::Decoder::new(16_000, opus::Channels::Mono).unwrap(), [0; 320]);
    race.add("opus", each(packets, 1, move |packet| decoder.decode(&packet[0], black_box(&mut out), false)));
    #[cfg(feature = "native")]
    {
        let (mut decoder, mut out) = (native::Decoder::libopus(), [0; 2_000]);
        race.add(
            "libopus of the system",
            each(packets, 1, move |packet| decoder.decode(&packet[0], black_box(&mut out))),
        );
    }
    race.run();
}
