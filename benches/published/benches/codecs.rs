//! Our codecs per frame of 20 ms beside published ones, in one run: G.711 and G.722 of `audio-codec`, G.722 of
//! `ezk-g722` and, with feature `spandsp`, of spandsp (needs libspandsp-dev); Opus beside the crate `opus`, which
//! builds the same libopus, so that the difference is what our layers cost.
//!
//! ```text
//! cargo bench --manifest-path benches/published/Cargo.toml --bench codecs
//! ```
//! Before it measures, it says how many G.722 octets of each differ from ours, which are exact with the vectors of the
//! ITU-T.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A bench, and what it prints is what it is for.

use audio_codec::{CodecType, create_decoder, create_encoder};
use divan::{Bencher, black_box};
use ezk_g722::libg722;
use iqra_media::codec::g722::{G722Decoder, G722Encoder};
use iqra_media::codec::{Decoder, Encoder, Registry, Settings, g711, opus as ours};

const FRAMES: usize = 200;

fn main() {
    let octets = g722_octets();
    let differing = |name: &str, theirs: Vec<u8>| {
        let differ = octets.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        println!("{name}: {differ} of {} octets differ from ours", octets.len());
    };
    differing("audio-codec", create_encoder(CodecType::G722).encode(&voice(16_000)));
    differing("ezk-g722", ezk_encoder().encode(&voice(16_000)));
    #[cfg(feature = "spandsp")]
    differing("spandsp", spandsp::Codec::new().encode(&voice(16_000)));
    divan::main();
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

fn g722_octets() -> Vec<u8> {
    let pcm = voice(16_000);
    let mut octets = vec![0; pcm.len() / 2];
    G722Encoder::new().encode(&pcm, &mut octets).unwrap();
    octets
}

/// Goes through the frames of an input in turn.
fn each<T, R>(bencher: Bencher<'_, '_>, input: &[T], frame: usize, mut run: impl FnMut(&[T]) -> R) {
    let mut at = 0;
    bencher.bench_local(|| {
        at = (at + 1) % FRAMES;
        run(black_box(&input[at * frame..][..frame]))
    });
}

fn ezk_encoder() -> libg722::encoder::Encoder {
    libg722::encoder::Encoder::new(libg722::Bitrate::Mode1_64000, false, false)
}

mod g722_encode {
    use super::*;

    #[divan::bench]
    fn iqra(bencher: Bencher<'_, '_>) {
        let (mut encoder, mut out) = (G722Encoder::new(), [0; 160]);
        each(bencher, &voice(16_000), 320, |pcm| encoder.encode(pcm, black_box(&mut out)));
    }

    #[divan::bench]
    fn audio_codec(bencher: Bencher<'_, '_>) {
        let (mut encoder, mut out) = (create_encoder(CodecType::G722), [0; 400]);
        each(bencher, &voice(16_000), 320, |pcm| encoder.encode_into(pcm, black_box(&mut out)).is_ok());
    }

    #[divan::bench]
    fn ezk(bencher: Bencher<'_, '_>) {
        let mut encoder = ezk_encoder();
        each(bencher, &voice(16_000), 320, |pcm| encoder.encode(pcm));
    }

    #[cfg(feature = "spandsp")]
    #[divan::bench]
    fn spandsp(bencher: Bencher<'_, '_>) {
        let mut codec = super::spandsp::Codec::new();
        each(bencher, &voice(16_000), 320, |pcm| codec.encode(pcm));
    }
}

mod g722_decode {
    use super::*;

    #[divan::bench]
    fn iqra(bencher: Bencher<'_, '_>) {
        let (mut decoder, mut out) = (G722Decoder::default(), [0; 320]);
        each(bencher, &g722_octets(), 160, |octets| decoder.decode(octets, black_box(&mut out)));
    }

    #[divan::bench]
    fn audio_codec(bencher: Bencher<'_, '_>) {
        let (mut decoder, mut out) = (create_decoder(CodecType::G722), [0; 400]);
        each(bencher, &g722_octets(), 160, |octets| decoder.decode_into(octets, black_box(&mut out)).is_ok());
    }

    #[divan::bench]
    fn ezk(bencher: Bencher<'_, '_>) {
        let mut decoder = libg722::decoder::Decoder::new(libg722::Bitrate::Mode1_64000, false, false);
        each(bencher, &g722_octets(), 160, |octets| decoder.decode(octets));
    }

    #[cfg(feature = "spandsp")]
    #[divan::bench]
    fn spandsp(bencher: Bencher<'_, '_>) {
        let mut codec = super::spandsp::Codec::new();
        each(bencher, &g722_octets(), 160, |octets| codec.decode(octets));
    }
}

mod pcmu_encode {
    use super::*;

    #[divan::bench]
    fn iqra(bencher: Bencher<'_, '_>) {
        let mut out = [0; 160];
        each(bencher, &voice(8_000), 160, |pcm| g711::encode_ulaw(pcm, black_box(&mut out)));
    }

    #[divan::bench]
    fn audio_codec(bencher: Bencher<'_, '_>) {
        let (mut encoder, mut out) = (create_encoder(CodecType::PCMU), [0; 160]);
        each(bencher, &voice(8_000), 160, |pcm| encoder.encode_into(pcm, black_box(&mut out)).is_ok());
    }
}

mod pcmu_decode {
    use super::*;

    #[divan::bench]
    fn iqra(bencher: Bencher<'_, '_>) {
        let mut out = [0; 160];
        each(bencher, &g722_octets(), 160, |octets| g711::decode_ulaw(octets, black_box(&mut out)));
    }

    #[divan::bench]
    fn audio_codec(bencher: Bencher<'_, '_>) {
        let (mut decoder, mut out) = (create_decoder(CodecType::PCMU), [0; 160]);
        each(bencher, &g722_octets(), 160, |octets| decoder.decode_into(octets, black_box(&mut out)).is_ok());
    }
}

mod opus_wideband {
    use super::*;

    const SETTINGS: Settings<'_> = Settings { fmtp: "", ptime_ms: 20, sample_rate: 16_000, channels: 1 };

    fn packets() -> Vec<Vec<u8>> {
        let mut encoder = Registry::default().encoder(&ours::OPUS, &SETTINGS).unwrap();
        let (pcm, mut out) = (voice(16_000), [0; 1_500]);
        let coded = |frame| encoder.encode(frame, &mut out).map(|length| out[..length].to_vec()).unwrap();
        pcm.chunks_exact(320).map(coded).collect()
    }

    /// The crate, set as ours is.
    fn theirs() -> opus::Encoder {
        let mut encoder = opus::Encoder::new(16_000, opus::Channels::Mono, opus::Application::Voip).unwrap();
        encoder.set_complexity(5).unwrap();
        encoder.set_bitrate(opus::Bitrate::Bits(20_000)).unwrap();
        encoder.set_signal(opus::Signal::Voice).unwrap();
        encoder
    }

    #[divan::bench]
    fn encode_iqra(bencher: Bencher<'_, '_>) {
        let mut encoder = Registry::default().encoder(&ours::OPUS, &SETTINGS).unwrap();
        let mut out = [0; 1_500];
        each(bencher, &voice(16_000), 320, |pcm| encoder.encode(pcm, black_box(&mut out)));
    }

    #[divan::bench]
    fn encode_opus(bencher: Bencher<'_, '_>) {
        let (mut encoder, mut out) = (theirs(), [0; 1_500]);
        each(bencher, &voice(16_000), 320, |pcm| encoder.encode(pcm, black_box(&mut out)));
    }

    #[divan::bench]
    fn decode_iqra(bencher: Bencher<'_, '_>) {
        let mut decoder = Registry::default().decoder(&ours::OPUS, &SETTINGS).unwrap();
        let mut out = [0; 320];
        each(bencher, &packets(), 1, |packet| decoder.decode(&packet[0], black_box(&mut out)));
    }

    #[divan::bench]
    fn decode_opus(bencher: Bencher<'_, '_>) {
        let mut decoder = opus::Decoder::new(16_000, opus::Channels::Mono).unwrap();
        let mut out = [0; 320];
        each(bencher, &packets(), 1, |packet| decoder.decode(&packet[0], black_box(&mut out), false));
    }
}

/// The four functions of spandsp that code G.722.
#[cfg(feature = "spandsp")]
mod spandsp {
    use std::ffi::{c_int, c_void};
    use std::ptr::null_mut;

    #[link(name = "spandsp")]
    unsafe extern "C" {
        fn g722_encode_init(state: *mut c_void, rate: c_int, options: c_int) -> *mut c_void;
        fn g722_decode_init(state: *mut c_void, rate: c_int, options: c_int) -> *mut c_void;
        fn g722_encode(state: *mut c_void, octets: *mut u8, pcm: *const i16, samples: c_int) -> c_int;
        fn g722_decode(state: *mut c_void, pcm: *mut i16, octets: *const u8, count: c_int) -> c_int;
    }

    /// Both directions. Never freed: a bench ends soon.
    pub(super) struct Codec {
        encoder: *mut c_void,
        decoder: *mut c_void,
        octets: Vec<u8>,
        pcm: Vec<i16>,
    }

    impl Codec {
        pub(super) fn new() -> Self {
            // SAFETY: without a state given, both make one.
            let (encoder, decoder) =
                unsafe { (g722_encode_init(null_mut(), 64_000, 0), g722_decode_init(null_mut(), 64_000, 0)) };
            Self { encoder, decoder, octets: vec![0; 40_000], pcm: vec![0; 2_000] }
        }

        pub(super) fn encode(&mut self, pcm: &[i16]) -> Vec<u8> {
            // SAFETY: two samples make one octet, and there is room for four seconds of them.
            let coded = unsafe {
                g722_encode(self.encoder, self.octets.as_mut_ptr(), pcm.as_ptr(), pcm.len() as c_int)
            };
            self.octets[..coded as usize].to_vec()
        }

        pub(super) fn decode(&mut self, octets: &[u8]) -> i16 {
            // SAFETY: one octet makes two samples, and there is room for those of a frame.
            unsafe { g722_decode(self.decoder, self.pcm.as_mut_ptr(), octets.as_ptr(), octets.len() as c_int) };
            self.pcm[0]
        }
    }
}
