//! RTP, RTCP, SRTP and whole sessions under any datagrams.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // test helpers

#[path = "common/packets.rs"]
mod packets;

use proptest::collection::vec;
use proptest::prelude::*;

/// Octets with a head of RTP or RTCP in front, so that more than the first check is met.
fn headed(
    first: impl Strategy<Value = u8>,
    second: impl Strategy<Value = u8>,
) -> impl Strategy<Value = Vec<u8>> {
    (first, second, vec(any::<u8>(), 0..200)).prop_map(|(first, second, rest)| {
        let mut datagram = vec![first, second];
        datagram.extend(rest);
        datagram
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_octets_are_an_rtp_packet_or_none(data in headed(0x80u8..0xc0, any::<u8>())) {
        packets::rtp(&data);
    }

    #[test]
    fn a_stream_may_jump_as_it_likes(data in vec(any::<u8>(), 0..900)) {
        packets::stream(&data);
    }

    #[test]
    fn any_octets_are_a_compound_or_none(data in headed(0x80u8..0xc0, 200u8..=207), words in 0u16..40) {
        packets::rtcp(&data);
        let mut whole = data;
        whole.resize(4 + usize::from(words) * 4, 0x41);
        whole[2..4].copy_from_slice(&words.to_be_bytes());
        packets::rtcp(&whole);
    }

    #[test]
    fn srtp_opens_what_was_protected_and_nothing_else(choice in any::<[u8; 3]>(), data in headed(Just(0x80), any::<u8>())) {
        packets::srtp(&[&choice[..], &data].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_session_takes_any_datagrams_at_any_time(data in vec(any::<u8>(), 0..600)) {
        packets::session(&data);
    }
}
