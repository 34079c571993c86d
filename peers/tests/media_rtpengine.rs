//! rtpengine between two sessions of ours: SRTP on one side and none on the other, and another codec on each side.
//! `Cell` lines make the matrix of docs/interop.md.

use iqra_media::sdp::Security;
use iqra_peers::media::{Keys, Media};
use iqra_peers::melody::Melody;
use iqra_peers::rtpengine::{Rtpengine, Value};

type Codec = (&'static str, u32);

const PCMU: Codec = ("PCMU", 8_000);
const G722: Codec = ("G722", 8_000);

/// What one side of a call is like.
#[derive(Clone, Copy)]
struct End {
    codec: Codec,
    keys: Keys,
}

/// How a side with these keys is spoken to.
fn transport(keys: Keys) -> Value {
    Value::from(match keys {
        Keys::None => "RTP/AVP",
        Keys::Sdes | Keys::SdesBy(_) => "RTP/SAVP",
        Keys::Dtls => "UDP/TLS/RTP/SAVPF",
    })
}

/// A call in which each side hears the other, and its keys.
async fn between(caller: End, called: End, further: Vec<(&'static str, Value)>) {
    let (media, mut engine) = (Media::start(), Rtpengine::start());
    let offering = media.side(caller.codec, caller.keys);
    let called_side = media.side(called.codec, called.keys);
    let (offering_port, called_port) = (offering.ours.port, called_side.ours.port);
    let offer = offering.offer();
    let further = further.into_iter().chain([("transport-protocol", transport(called.keys))]).collect();
    let passed_on = engine.offer(&offer, further);
    let (answer, called_talk) = called_side.answer(passed_on.as_bytes(), Melody::THEIRS);
    let answer = engine.answer(&answer, Vec::new());
    let talk = offering.answered(&offer, answer.as_bytes(), Melody::OURS);
    for (end, talk, other) in [(caller, &talk, called_port), (called, &called_talk, offering_port)] {
        let secured = match talk.negotiated.security {
            Security::Plain => end.keys == Keys::None,
            Security::Sdes { .. } => matches!(end.keys, Keys::Sdes | Keys::SdesBy(_)),
            Security::Dtls { .. } => end.keys == Keys::Dtls,
        };
        assert!(secured, "{:?}", talk.negotiated.security);
        assert_ne!(talk.negotiated.remote.port(), other, "past rtpengine");
    }
    talk.hears(Melody::THEIRS);
    called_talk.hears(Melody::OURS);
    talk.presses("4#").await;
    called_talk.hears_keys("4#");
    called_talk.presses("*8").await;
    talk.hears_keys("*8");
    talk.close().await;
    called_talk.close().await;
    engine.stop();
}

async fn secured(caller: Keys, called: Keys) {
    between(End { codec: PCMU, keys: caller }, End { codec: PCMU, keys: called }, Vec::new()).await;
}

async fn transcoded(caller: Codec, called: Codec) {
    let codec = Value::dict([("mask", Value::words(&[caller.0])), ("transcode", Value::words(&[called.0]))]);
    let (caller, called) = (End { codec: caller, keys: Keys::None }, End { codec: called, keys: Keys::None });
    between(caller, called, vec![("codec", codec)]).await;
}

/// Cell: rtpengine | PCMU
/// Cell: rtpengine | keys by RFC 4733
#[tokio::test(flavor = "multi_thread")]
async fn relayed_as_it_is() {
    secured(Keys::None, Keys::None).await;
}

/// Cell: rtpengine | SRTP, keys in the SDP
#[tokio::test(flavor = "multi_thread")]
async fn keys_in_the_sdp_of_the_caller() {
    secured(Keys::Sdes, Keys::None).await;
}

/// Cell: rtpengine | SRTP, keys in the SDP
#[tokio::test(flavor = "multi_thread")]
async fn keys_in_the_sdp_of_the_called() {
    secured(Keys::None, Keys::Sdes).await;
}

/// Cell: rtpengine | SRTP, keys by DTLS
#[tokio::test(flavor = "multi_thread")]
async fn keys_by_dtls_of_the_caller() {
    secured(Keys::Dtls, Keys::None).await;
}

/// Cell: rtpengine | SRTP, keys by DTLS
/// Cell: rtpengine | SRTP, keys in the SDP
#[tokio::test(flavor = "multi_thread")]
async fn keys_by_dtls_of_the_called_and_in_the_sdp_of_the_caller() {
    secured(Keys::Sdes, Keys::Dtls).await;
}

/// Cell: rtpengine | G.722
/// Cell: rtpengine | another codec on the other side
#[tokio::test(flavor = "multi_thread")]
async fn g722_and_pcmu() {
    transcoded(G722, PCMU).await;
}

/// Cell: rtpengine | Opus
/// Cell: rtpengine | another codec on the other side
#[tokio::test(flavor = "multi_thread")]
async fn pcmu_and_opus() {
    transcoded(PCMU, ("opus", 48_000)).await;
}

/// Cell: rtpengine | PCMA
/// Cell: rtpengine | another codec on the other side
#[tokio::test(flavor = "multi_thread")]
async fn pcma_and_g722() {
    transcoded(("PCMA", 8_000), G722).await;
}
