//! sipp: the file that it streams is heard, and what we play comes back from its echo.
//! `Cell` lines make the matrix of docs/interop.md.

use iqra_peers::endpoint::{Us, answered, confirmed, invite, soon, uri};
use iqra_peers::g711::Law;
use iqra_peers::media::Media;
use iqra_peers::melody::Melody;
use iqra_peers::sipp::{called_by, caller_of, finish};
use iqra_peers::talks::Terms;
use iqra_sip::event::{Body, OutgoingInvite};
use iqra_sip::net::Answer;

/// sipp calls, and streams a melody until we hang up.
async fn is_heard(us: &mut Us, media: &Media, law: Law) {
    let terms = Terms::narrow(law.name());
    let codes = terms.theirs.samples(8_000, 60).iter().map(|&sample| law.encode(sample)).collect();
    let run = caller_of(us, "caller_streams").key("law", law.name()).key("payload", law.payload_type());
    let run = run.file("melody.raw", codes).start();
    let invite = us.called().await;
    let (answer, talk) = media.side(terms.codec, terms.keys).answer(&invite.request().body, terms.ours);
    let mut call = soon("room for the answer", invite.accept(Answer::sdp(answer))).await.expect("accepted");
    confirmed(&mut call).await;
    talk.hears(terms.theirs);
    us.hang_up(call).await;
    talk.close().await;
    finish(run);
}

/// sipp is called, and gives back what it gets.
async fn gives_back(us: &Us, media: &Media, law: Law) {
    let terms = Terms::narrow(law.name());
    let run = called_by("answering").key("law", law.name()).key("payload", law.payload_type());
    let run = run.option(&["-rtp_echo"]).start();
    let side = media.side(terms.codec, terms.keys);
    let offer = side.offer();
    let body = Some(Body::sdp(offer.clone()));
    let mut call = us.call(OutgoingInvite { body, ..invite(uri(run.address(), "")) }).await;
    let (call, response) = answered(&mut call).await;
    let talk = side.answered(&offer, &response.body, Melody::OURS);
    talk.hears(Melody::OURS);
    us.hang_up(call).await;
    talk.close().await;
    finish(run);
}

async fn both(law: Law) {
    let (mut us, media) = (Us::plain().await, Media::start());
    is_heard(&mut us, &media, law).await;
    gives_back(&us, &media, law).await;
    us.close().await;
}

/// Cell: sipp | PCMU
#[tokio::test(flavor = "multi_thread")]
async fn pcmu_with_sipp() {
    both(Law::Mu).await;
}

/// Cell: sipp | PCMA
#[tokio::test(flavor = "multi_thread")]
async fn pcma_with_sipp() {
    both(Law::A).await;
}
