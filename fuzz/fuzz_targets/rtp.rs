//! Any octets as an RTP packet, and as the steps of a stream: `cargo +nightly fuzz run rtp`.
//! What must hold is in the shared file, which the property tests of `iqra-media` run too.
#![no_main]

#[path = "../../iqra-media/tests/common/packets.rs"]
mod packets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    packets::rtp(data);
    packets::stream(data);
});
