//! pjsua2: what each side plays reaches the other, in every codec that both have, in the clear and by SRTP.
//! `Cell` lines make the matrix of docs/interop.md.

use iqra_peers::media::Keys;
use iqra_peers::pjsua2::{Pjsua2, Profile};
use iqra_peers::talks::{Terms, each_way};

/// Calls with a phone of this profile.
async fn calls(codec: &str, rate: u32, terms: Terms) {
    let samples = terms.theirs.samples(rate, 60);
    let mut phone = Pjsua2::start(&Profile { codec, rate, secured: terms.keys != Keys::None }, &samples);
    each_way(&mut phone, terms).await;
    phone.quit();
}

/// Cell: pjsua2 | PCMU
/// Cell: pjsua2 | keys by RFC 4733
#[tokio::test(flavor = "multi_thread")]
async fn pcmu_with_pjsua2() {
    calls("PCMU/8000", 8_000, Terms::narrow("PCMU")).await;
}

/// Cell: pjsua2 | PCMA
#[tokio::test(flavor = "multi_thread")]
async fn pcma_with_pjsua2() {
    calls("PCMA/8000", 8_000, Terms::narrow("PCMA")).await;
}

/// Cell: pjsua2 | G.722
#[tokio::test(flavor = "multi_thread")]
async fn g722_with_pjsua2() {
    calls("G722/16000", 16_000, Terms::wide("G722", 8_000)).await;
}

/// Cell: pjsua2 | SRTP, keys in the SDP
#[tokio::test(flavor = "multi_thread")]
async fn keys_in_the_sdp_of_pjsua2() {
    calls("PCMU/8000", 8_000, Terms::narrow("PCMU").secured(Keys::Sdes)).await;
}
