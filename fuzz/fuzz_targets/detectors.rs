//! Any octets as a sound in any frames, to all detectors and a resampler: `cargo +nightly fuzz run detectors`.
//! What must hold is in the shared file, which the property tests of `iqra-media` run too.
#![no_main]

#[path = "../../iqra-media/tests/common/sounds.rs"]
mod sounds;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sounds::detectors(data);
    sounds::resampler(data);
});
