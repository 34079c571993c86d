//! SDP per call set-up: reading an offer and composing the answer, in the clear and with keys; a session refresh; the
//! other side's answer. Prints descriptions and bytes per second.
//!
//! ```text
//! cargo bench -p iqra-benches --bench sdp
//! ```

use std::net::{IpAddr, Ipv4Addr};

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use iqra_media::codec::Registry;
use iqra_media::sdp::{
    Capabilities, CryptoSuite, Description, SecurityPolicy, SecuritySettings, SrtpKey, accept_answer, answer,
    offer,
};

/// A softphone's offer: six codecs, events, a refused video stream.
const OFFER: &str = "v=0\r\no=phone 3724394400 3724394405 IN IP4 192.0.2.30\r\ns=-\r\nc=IN IP4 192.0.2.30\r\nt=0 0\r\n\
    m=audio 49170 RTP/AVP 96 9 18 8 0 101\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n\
    a=rtpmap:9 G722/8000\r\na=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\na=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n\
    a=maxptime:40\r\na=sendrecv\r\nm=video 49172 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\n";

fn main() {
    divan::main();
}

fn ours() -> Capabilities {
    Capabilities::new(Registry::default().specs(), IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), 40_000, 1)
}

#[divan::bench]
fn answer_an_offer(bencher: Bencher<'_, '_>) {
    let ours = ours();
    bencher
        .counter(ItemsCount::new(1u32))
        .counter(BytesCount::of_str(OFFER))
        .bench_local(|| answer(black_box(OFFER.as_bytes()), &ours).expect("a good offer"));
}

#[divan::bench]
fn answer_an_offer_with_keys(bencher: Bencher<'_, '_>) {
    let suite = CryptoSuite::AesCm128HmacSha1_80;
    let key = SrtpKey::new(suite, &vec![7; suite.material_len()]).expect("as long as the suite says");
    let ours =
        Capabilities { security: SecuritySettings::sdes(SecurityPolicy::Required, vec![key]), ..ours() };
    let offered = offer(&ours);
    bencher
        .counter(ItemsCount::new(1u32))
        .counter(BytesCount::of_str(&offered))
        .bench_local(|| answer(black_box(offered.as_bytes()), &ours).expect("a good offer"));
}

#[divan::bench]
fn answer_a_session_refresh(bencher: Bencher<'_, '_>) {
    let ours = ours();
    let agreed = answer(OFFER.as_bytes(), &ours).expect("a good offer");
    bencher
        .counter(ItemsCount::new(1u32))
        .bench_local(|| agreed.answer(black_box(OFFER.as_bytes()), &ours).expect("the same offer"));
}

#[divan::bench]
fn accept_an_answer(bencher: Bencher<'_, '_>) {
    let ours = ours();
    let offered = offer(&ours);
    let reply = answer(offered.as_bytes(), &ours).expect("a good offer").local();
    bencher
        .counter(ItemsCount::new(1u32))
        .bench_local(|| accept_answer(&ours, &offered, black_box(reply.as_bytes())).expect("a good answer"));
}

#[divan::bench]
fn parse_and_print(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(1u32)).counter(BytesCount::of_str(OFFER)).bench_local(|| {
        let mut description = Description::parse(black_box(OFFER.as_bytes())).expect("a good offer");
        // Else what came is what is printed.
        description.model_mut();
        description.to_string()
    });
}

#[divan::bench]
fn make_an_offer(bencher: Bencher<'_, '_>) {
    let ours = ours();
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| offer(black_box(&ours)));
}
