//! Any octets as steps of a caller and a proxy behind a guard: `cargo +nightly fuzz run relay`.
//! What must hold is in the shared file, which the property tests of `iqra-sip` run too.
#![no_main]

#[path = "../../iqra-sip/tests/common/steps.rs"]
mod steps;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    steps::play_relayed(data, |_| {});
});
