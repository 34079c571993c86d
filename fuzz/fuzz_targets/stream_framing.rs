//! Any octets as a stream, cut two ways: `cargo +nightly fuzz run stream_framing`.
//! What must hold is in the shared entry file, which the property tests of `iqra-sip` run too.
#![no_main]

#[path = "../../iqra-sip/tests/common/entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    entry::stream_framing(data);
});
