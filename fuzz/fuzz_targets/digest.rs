//! Any octets as a challenge and as credentials: `cargo +nightly fuzz run digest`.
//! What must hold is in the shared entry file, which the property tests of `iqra-sip` run too.
#![no_main]

#[path = "../../iqra-sip/tests/common/entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    entry::digest(data);
});
