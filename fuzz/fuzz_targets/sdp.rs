//! Any octets as an SDP: an offer, an answer, a re-offer: `cargo +nightly fuzz run sdp`.
//! What must hold is in the shared file, which the property tests of `iqra-media` run too.
#![no_main]

#[path = "../../iqra-media/tests/common/sdp.rs"]
mod common;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    common::sdp(data);
});
