//! Any octets as payloads of any codec, with losses between: `cargo +nightly fuzz run decoders`.
//! What must hold is in the shared file, which the property tests of `iqra-media` run too.
#![no_main]

#[path = "../../iqra-media/tests/common/surfaces.rs"]
mod surfaces;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    surfaces::decoders(data);
});
