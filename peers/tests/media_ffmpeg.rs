//! ffmpeg: what it sends is heard, and what we send it records, in every codec that both have, in the clear and by SRTP.
//! `Cell` lines make the matrix of docs/interop.md.

use iqra_media::sdp::CryptoSuite;
use iqra_peers::ffmpeg::{Codec, Stream};
use iqra_peers::media::{Keys, Media, recorded};
use iqra_peers::talks::Terms;

/// The keys of ffmpeg.
const CRYPTO: &str = "1 AES_CM_128_HMAC_SHA1_80 inline:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5";

/// A stream from it, and one to it.
async fn each_way(codec: Codec, terms: Terms) {
    let media = Media::start();
    let crypto = Some(CRYPTO).filter(|_| terms.keys != Keys::None);

    let (side, stream) = (media.side(terms.codec, terms.keys), Stream::new(codec));
    let port = side.ours.port;
    let (_, talk) = side.answer(stream.description(crypto).as_bytes(), terms.ours);
    let sending = stream.send(&terms.theirs.samples(codec.rate, 60), port, crypto);
    talk.hears(terms.theirs);
    talk.close().await;
    drop(sending);

    let (side, stream) = (media.side(terms.codec, terms.keys), Stream::new(codec));
    let (answer, talk) = side.answer(stream.description(crypto).as_bytes(), terms.ours);
    let ours = answer.lines().find_map(|line| line.strip_prefix("a=crypto:"));
    assert_eq!(ours.is_some(), crypto.is_some(), "{answer}");
    let receiver = stream.receive(ours);
    recorded(terms.ours, || receiver.recording());
    talk.close().await;
}

const PCMU: Codec = Codec { encoder: "pcm_mulaw", rtpmap: "PCMU/8000", payload: 0, rate: 8_000, channels: 1 };

/// Cell: ffmpeg | PCMU
#[tokio::test(flavor = "multi_thread")]
async fn pcmu_with_ffmpeg() {
    each_way(PCMU, Terms::narrow("PCMU")).await;
}

/// Cell: ffmpeg | PCMA
#[tokio::test(flavor = "multi_thread")]
async fn pcma_with_ffmpeg() {
    let codec = Codec { encoder: "pcm_alaw", rtpmap: "PCMA/8000", payload: 8, ..PCMU };
    each_way(codec, Terms::narrow("PCMA")).await;
}

/// Cell: ffmpeg | G.722
#[tokio::test(flavor = "multi_thread")]
async fn g722_with_ffmpeg() {
    let codec = Codec { encoder: "g722", rtpmap: "G722/8000", payload: 9, rate: 16_000, ..PCMU };
    each_way(codec, Terms::wide("G722", 8_000)).await;
}

/// Cell: ffmpeg | L16
#[tokio::test(flavor = "multi_thread")]
async fn l16_with_ffmpeg() {
    let codec = Codec { encoder: "pcm_s16be", rtpmap: "L16/16000", payload: 97, rate: 16_000, ..PCMU };
    each_way(codec, Terms::wide("L16", 16_000)).await;
}

/// Cell: ffmpeg | Opus
#[tokio::test(flavor = "multi_thread")]
async fn opus_with_ffmpeg() {
    let codec = Codec { encoder: "libopus", rtpmap: "opus/48000/2", payload: 97, rate: 48_000, channels: 2 };
    each_way(codec, Terms::wide("opus", 48_000)).await;
}

/// Cell: ffmpeg | SRTP, keys in the SDP
#[tokio::test(flavor = "multi_thread")]
async fn keys_in_the_sdp_of_ffmpeg() {
    let keys = Keys::SdesBy(CryptoSuite::AesCm128HmacSha1_80);
    each_way(PCMU, Terms::narrow("PCMU").secured(keys)).await;
}
