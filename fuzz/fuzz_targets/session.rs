//! A call at whose ports anything arrives, at any time: `cargo +nightly fuzz run session`.
//! What must hold is in the shared file, which the property tests of `iqra-media` run too.
#![no_main]

#[path = "../../iqra-media/tests/common/packets.rs"]
mod packets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    packets::session(data);
});
