//! Any octets as the answers of the DNS: `cargo +nightly fuzz run dns`.
//! What must hold is in the shared file, which the property tests of `iqra-sip` run too.
#![no_main]

#[path = "../../iqra-sip/tests/common/surfaces.rs"]
mod surfaces;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    surfaces::dns(data);
});
