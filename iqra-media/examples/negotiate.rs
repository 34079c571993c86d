//! An SDP offer, its answer, and what both sides then agree on; and an offer that has to be refused.
//!
//! Run: `cargo run -p iqra-media --example negotiate`. Expected:
//! ```text
//! offer:
//! v=0
//! o=- 1 1 IN IP4 192.0.2.7
//! s=-
//! c=IN IP4 192.0.2.7
//! t=0 0
//! m=audio 40000 RTP/AVP 8 0 101
//! a=rtpmap:8 PCMA/8000
//! a=rtpmap:0 PCMU/8000
//! a=rtpmap:101 telephone-event/8000
//! a=fmtp:101 0-15
//! a=ptime:20
//! a=maxptime:60
//! a=sendrecv
//!
//! answer:
//! v=0
//! o=- 2 1 IN IP4 192.0.2.1
//! s=-
//! c=IN IP4 192.0.2.1
//! t=0 0
//! m=audio 10000 RTP/AVP 0 101
//! a=rtpmap:0 PCMU/8000
//! a=rtpmap:101 telephone-event/8000
//! a=fmtp:101 0-15
//! a=ptime:20
//! a=maxptime:60
//! a=sendrecv
//!
//! we: PCMU every 20 ms to 192.0.2.7:40000, keys as events
//! the caller: PCMU every 20 ms to 192.0.2.1:10000, keys as events
//! on hold: we are recvonly; changed: direction true, codec false
//! refused with 488: no codec in common: offered G729, telephone-event; supported PCMU, PCMA
//! ```
#![allow(clippy::print_stdout)] // What it prints is what it is for.

use iqra_media::codec::CodecSpec;
use iqra_media::codec::g711::{PCMA, PCMU};
use iqra_media::sdp::{self, Capabilities, Direction, Negotiated};

fn main() -> Result<(), sdp::Refusal> {
    // The caller prefers A-law, we prefer µ-law: the side that answers decides (RFC 3264 §6.1).
    let caller = Capabilities::new(vec![PCMA, PCMU], [192, 0, 2, 7].into(), 40_000, 1);
    let us = Capabilities::new(vec![PCMU, PCMA], [192, 0, 2, 1].into(), 10_000, 2);
    let offer = sdp::offer(&caller);
    println!("offer:\n{}", offer.replace("\r\n", "\n"));
    let ours = sdp::answer(offer.as_bytes(), &us)?;
    println!("answer:\n{}", ours.local().replace("\r\n", "\n"));
    let theirs = sdp::accept_answer(&caller, &offer, ours.local().as_bytes())?;
    show("we", &ours.negotiated);
    show("the caller", &theirs.negotiated);

    // The caller puts us on hold: its next SDP, and what that changes for us.
    let hold = theirs.reoffer(&Capabilities { direction: Direction::SendOnly, ..caller });
    let (held, change) = ours.answer(hold.as_bytes(), &us)?;
    println!(
        "on hold: we are {}; changed: direction {}, codec {}",
        held.negotiated.direction.as_str(),
        change.direction,
        change.codec
    );

    // Nothing in common: the refusal knows the SIP status to answer with.
    let other = CodecSpec { name: "G729", payload_type: 18, ..PCMU };
    let stranger = Capabilities::new(vec![other], [192, 0, 2, 9].into(), 40_000, 3);
    if let Err(refusal) = sdp::answer(sdp::offer(&stranger).as_bytes(), &us) {
        println!("refused with {}: {refusal}", refusal.status());
    }
    Ok(())
}

fn show(who: &str, negotiated: &Negotiated) {
    let keys = if negotiated.telephone_event.is_some() { "as events" } else { "not at all" };
    println!(
        "{who}: {} every {} ms to {}, keys {keys}",
        negotiated.codec.name, negotiated.ptime_ms, negotiated.remote
    );
}
