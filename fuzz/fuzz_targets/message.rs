//! Any octets as a message: `cargo +nightly fuzz run message`.
//! What must hold is in the shared entry file, which the property tests of `iqra-sip` run too.
#![no_main]

#[path = "../../iqra-sip/tests/common/entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = entry::message(data);
});
