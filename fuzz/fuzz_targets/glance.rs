//! Any octets as a message that the guard looks at first: `cargo +nightly fuzz run glance`.
//! What must hold is in the shared entry file, which the property tests of `iqra-sip` run too.
#![no_main]

#[path = "../../iqra-sip/tests/common/entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    entry::glance(data);
});
