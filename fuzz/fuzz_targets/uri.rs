//! Any octets as a URI: `cargo +nightly fuzz run uri`.
//! What must hold is in the shared entry file, which the property tests of `iqra-sip` run too.
#![no_main]

#[path = "../../iqra-sip/tests/common/entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    entry::uri(data);
});
