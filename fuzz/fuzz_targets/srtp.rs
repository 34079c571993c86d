//! Any octets as SRTP and SRTCP, and what was protected tampered with: `cargo +nightly fuzz run srtp`.
//! What must hold is in the shared file, which the property tests of `iqra-media` run too.
#![no_main]

#[path = "../../iqra-media/tests/common/packets.rs"]
mod packets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    packets::srtp(data);
});
