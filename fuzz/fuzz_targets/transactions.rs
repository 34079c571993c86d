//! Any octets as steps of two engines: `cargo +nightly fuzz run transactions`.
//! What must hold is in the shared file, which the property tests of `iqra-sip` run too.
#![no_main]

#[path = "../../iqra-sip/tests/common/steps.rs"]
mod steps;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    steps::play(data, |_| {});
});
