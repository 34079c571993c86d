//! baresip: what each side plays reaches the other, in every codec that both have, in the clear and by SRTP.
//! `Cell` lines make the matrix of docs/interop.md.

use iqra_peers::baresip::{Codec, Phone, Profile};
use iqra_peers::g711::Law;
use iqra_peers::media::Keys;
use iqra_peers::talks::{Terms, each_way};

/// Calls with a phone of this codec, whose account says this of SRTP.
async fn calls(codec: Codec, terms: Terms, encryption: &str) {
    let plain = Profile::default();
    let account = format!("{}{encryption}", plain.account);
    let config = vec![String::from("module srtp.so")];
    let profile = Profile { codec, account, config, ..plain };
    let mut phone = Phone::configured(&profile, &terms.theirs.samples(codec.rate, 60));
    each_way(&mut phone, terms).await;
    phone.quit();
}

/// Cell: baresip | PCMU
/// Cell: baresip | keys by RFC 4733
#[tokio::test(flavor = "multi_thread")]
async fn pcmu_with_baresip() {
    calls(Law::Mu.into(), Terms::narrow("PCMU"), "").await;
}

/// Cell: baresip | PCMA
#[tokio::test(flavor = "multi_thread")]
async fn pcma_with_baresip() {
    calls(Law::A.into(), Terms::narrow("PCMA"), "").await;
}

/// Cell: baresip | G.722
#[tokio::test(flavor = "multi_thread")]
async fn g722_with_baresip() {
    let codec = Codec { module: "g722", name: "G722/16000/1", rate: 16_000, channels: 1 };
    calls(codec, Terms::wide("G722", 8_000), "").await;
}

/// Cell: baresip | L16
#[tokio::test(flavor = "multi_thread")]
async fn l16_with_baresip() {
    let codec = Codec { module: "l16", name: "L16/16000/1", rate: 16_000, channels: 1 };
    calls(codec, Terms::wide("L16", 16_000), "").await;
}

/// Cell: baresip | Opus
#[tokio::test(flavor = "multi_thread")]
async fn opus_with_baresip() {
    let codec = Codec { module: "opus", name: "opus/48000/2", rate: 48_000, channels: 2 };
    calls(codec, Terms::wide("opus", 48_000), "").await;
}

/// Cell: baresip | SRTP, keys in the SDP
#[tokio::test(flavor = "multi_thread")]
async fn keys_in_the_sdp_of_baresip() {
    calls(Law::Mu.into(), Terms::narrow("PCMU").secured(Keys::Sdes), ";mediaenc=srtp-mand").await;
}
