//! Any octets as a compound of RTCP: `cargo +nightly fuzz run rtcp`.
//! What must hold is in the shared file, which the property tests of `iqra-media` run too.
#![no_main]

#[path = "../../iqra-media/tests/common/packets.rs"]
mod packets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    packets::rtcp(data);
});
