//! Offers inside a call, from either side: what stays, what changes, and what the change is called.

#![allow(clippy::unwrap_used)] // helpers of tests may unwrap like tests

use iqra_media::codec::CodecSpec;
use iqra_media::codec::g711::{PCMA, PCMU};
use iqra_media::sdp::{
    Agreement, Capabilities, Change, Direction, Order, Refusal, accept_answer, answer, offer,
};

const L16: CodecSpec = CodecSpec { name: "L16", payload_type: 96, sample_rate: 8000, ..PCMU };

fn ours() -> Capabilities {
    Capabilities::new(vec![PCMU, PCMA], [198, 51, 100, 7].into(), 40_000, 42)
}

fn theirs() -> Capabilities {
    Capabilities::new(vec![PCMA, PCMU], [192, 0, 2, 5].into(), 5_004, 7)
}

/// A description of the caller's, of this version, with these m-lines.
fn from_caller(version: u32, media: &str) -> String {
    format!("v=0\r\no=alice 7 {version} IN IP4 192.0.2.5\r\ns=call\r\nc=IN IP4 192.0.2.5\r\nt=0 0\r\n{media}")
}

const PLAIN: &str = "m=audio 5004 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n";

fn first() -> Agreement {
    answer(from_caller(3, PLAIN).as_bytes(), &ours()).unwrap()
}

/// What a re-offer with these m-lines changes, and the agreement after it.
fn again(agreed: &Agreement, media: &str) -> (Agreement, Change) {
    agreed.answer(from_caller(4, media).as_bytes(), &ours()).unwrap()
}

fn version(sdp: &str) -> &str {
    sdp.lines().find_map(|line| line.strip_prefix("o=")).unwrap().split(' ').nth(2).unwrap()
}

#[test]
fn an_unchanged_offer_gets_the_same_answer() {
    let agreed = first();
    for repeated in [from_caller(3, PLAIN), from_caller(4, PLAIN)] {
        let (next, change) = agreed.answer(repeated.as_bytes(), &ours()).unwrap();
        assert_eq!((next.local(), change), (agreed.local(), Change::default()));
        assert!(change.is_none());
    }
}

#[test]
fn each_change_has_its_name_and_raises_the_version_only_if_we_say_something_new() {
    let none = Change::default();
    let cases = [
        (format!("{PLAIN}a=sendonly\r\n"), Change { direction: true, ..none }, "2"),
        (format!("{PLAIN}a=inactive\r\n"), Change { direction: true, ..none }, "2"),
        (PLAIN.replace("5004", "5006"), Change { address: true, ..none }, "1"),
        (PLAIN.replace("8 0 101", "8 101"), Change { codec: true, ..none }, "2"),
        (PLAIN.replace("8 0 101", "8 0"), Change { events: true, ..none }, "2"),
        (PLAIN.replace("ptime:20", "ptime:30"), Change { ptime: true, ..none }, "2"),
        (format!("{PLAIN}c=IN IP4 0.0.0.0\r\n"), Change { address: true, direction: true, ..none }, "2"),
        (format!("{PLAIN}m=image 6000 udptl t38\r\n"), none, "2"),
    ];
    for (media, expected, raised) in cases {
        let (next, change) = again(&first(), &media);
        assert_eq!((change, version(&next.local())), (expected, raised), "{media}");
        let (_, back) = again(&next, PLAIN);
        let kept = Change { codec: false, ..expected };
        assert_eq!(back, kept, "the way back changes the same, but for the codec, which stays: {media}");
    }
}

#[test]
fn a_hold_whose_version_did_not_rise_is_a_hold() {
    let hold = from_caller(3, &format!("{PLAIN}a=sendonly\r\n"));
    let (held, change) = first().answer(hold.as_bytes(), &ours()).unwrap();
    assert!(change.direction && held.negotiated.direction == Direction::RecvOnly);
}

#[test]
fn the_identity_stays_and_the_version_rises_by_one_each_time() {
    let other_id = Capabilities { session_id: 99, ..ours() };
    let hold = from_caller(4, &format!("{PLAIN}a=sendonly\r\n"));
    let (second, _) = first().answer(hold.as_bytes(), &other_id).unwrap();
    assert!(second.local().contains("o=- 42 2 IN IP4 198.51.100.7\r\n"), "{}", second.local());
    let (third, _) = second.answer(from_caller(5, PLAIN).as_bytes(), &other_id).unwrap();
    assert!(third.local().contains("o=- 42 3 IN IP4 198.51.100.7\r\n"), "{}", third.local());
}

#[test]
fn the_codec_in_use_stays_while_it_is_offered() {
    let (alaw, change) = again(&first(), "m=audio 5004 RTP/AVP 8\r\n");
    assert!(change.codec && alaw.negotiated.codec == PCMA);
    let (kept, change) = again(&alaw, "m=audio 5004 RTP/AVP 0 8\r\n");
    assert!(change.is_none() && kept.negotiated.codec == PCMA, "though we prefer the other");
    let by_them = Capabilities { order: Order::Theirs, ..ours() };
    let (moved, _) =
        alaw.answer(from_caller(5, "m=audio 5004 RTP/AVP 0 8\r\n").as_bytes(), &by_them).unwrap();
    assert_eq!(moved.negotiated.codec, PCMU, "their order moves it");
}

#[test]
fn a_refused_re_offer_leaves_all_as_it_was() {
    let agreed = first();
    let refusal =
        agreed.answer(from_caller(4, "m=audio 5004 RTP/AVP 18\r\n").as_bytes(), &ours()).unwrap_err();
    assert!(matches!(refusal, Refusal::Codec { .. }));
    assert_eq!(again(&agreed, PLAIN).1, Change::default());
}

#[test]
fn we_hold_and_resume_and_both_sides_see_it() {
    let first_offer = offer(&theirs());
    let callee = answer(first_offer.as_bytes(), &ours()).unwrap();
    let caller = accept_answer(&theirs(), &first_offer, callee.local().as_bytes()).unwrap();
    let held = Capabilities { direction: Direction::SendOnly, ..ours() };
    let hold = callee.reoffer(&held);
    assert_eq!(version(&hold), "2");
    let (caller, seen) = caller.answer(hold.as_bytes(), &theirs()).unwrap();
    let (callee, change) = callee.accept_answer(&held, &hold, caller.local().as_bytes()).unwrap();
    assert_eq!((seen, change), (Change { direction: true, ..Change::default() }, seen));
    assert_eq!(
        (callee.negotiated.direction, caller.negotiated.direction),
        (Direction::SendOnly, Direction::RecvOnly)
    );
    let resume = callee.reoffer(&ours());
    assert_eq!(version(&resume), "3");
    let (caller, _) = caller.answer(resume.as_bytes(), &theirs()).unwrap();
    let (callee, change) = callee.accept_answer(&ours(), &resume, caller.local().as_bytes()).unwrap();
    assert!(change.direction && callee.negotiated.direction == Direction::SendRecv);
}

#[test]
fn a_re_offer_keeps_every_line_in_its_place() {
    let media = "m=video 6000 RTP/AVP 31\r\na=mid:v\r\nm=audio 5004 RTP/AVP 0\r\na=mid:a\r\nm=image 7000 udptl t38\r\n";
    let agreed = answer(from_caller(3, media).as_bytes(), &ours()).unwrap();
    let again = agreed.reoffer(&ours());
    let lines: Vec<_> = again.lines().filter(|l| l.starts_with("m=") || l.starts_with("a=mid")).collect();
    let expected = [
        "m=video 0 RTP/AVP 31",
        "a=mid:v",
        "m=audio 40000 RTP/AVP 0 8 101",
        "a=mid:a",
        "m=image 0 udptl t38",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_payload_type_of_the_session_never_comes_to_mean_something_else() {
    // The caller's 96 is not our L16, its 111 is our A-law, and its 101 is no telephone-event.
    let media = "m=audio 5004 RTP/AVP 0 96 111 101\r\na=rtpmap:96 speex/8000\r\na=rtpmap:111 PCMA/8000\r\n\
        a=rtpmap:101 iLBC/8000\r\n";
    let agreed = answer(from_caller(3, media).as_bytes(), &ours()).unwrap();
    let wide = Capabilities { codecs: vec![L16, PCMA, PCMU], ..ours() };
    let again = agreed.reoffer(&wide);
    let expected = "m=audio 40000 RTP/AVP 97 111 0 98\r\na=rtpmap:97 L16/8000\r\na=rtpmap:111 PCMA/8000\r\n\
        a=rtpmap:0 PCMU/8000\r\na=rtpmap:98 telephone-event/8000\r\n";
    assert!(again.contains(expected), "{again}");
    let reply = from_caller(
        4,
        "m=audio 5004 RTP/AVP 97 98\r\na=rtpmap:97 L16/8000\r\na=rtpmap:98 telephone-event/8000\r\n",
    );
    let (next, change) = agreed.accept_answer(&wide, &again, reply.as_bytes()).unwrap();
    assert!(change.codec && change.events && next.negotiated.receive_payload == 97);
}

#[test]
fn a_late_offer_is_answered_in_the_ack() {
    let in_200 = offer(&ours());
    let in_ack = answer(in_200.as_bytes(), &theirs()).unwrap();
    let agreed = accept_answer(&ours(), &in_200, in_ack.local().as_bytes()).unwrap();
    assert_eq!((agreed.negotiated.codec, agreed.local()), (PCMA, in_200));
    // A re-INVITE without SDP later on: the offer in its 200 says what the one before did.
    assert_eq!(agreed.reoffer(&ours()), agreed.local());
}

#[test]
fn an_answer_in_a_session_is_read_against_the_offer_that_it_answers() {
    let agreed =
        answer(from_caller(3, "m=audio 5004 RTP/AVP 99\r\na=rtpmap:99 PCMA/8000\r\n").as_bytes(), &ours())
            .unwrap();
    let again = agreed.reoffer(&ours());
    assert!(again.contains("m=audio 40000 RTP/AVP 0 99 101\r\n"), "{again}");
    let reply = from_caller(4, "m=audio 5004 RTP/AVP 8 120\r\na=rtpmap:120 telephone-event/8000\r\n");
    let (next, _) = agreed.accept_answer(&ours(), &again, reply.as_bytes()).unwrap();
    assert_eq!((next.negotiated.send_payload, next.negotiated.receive_payload), (8, 99), "asymmetric");
    let events = next.negotiated.telephone_event.unwrap();
    assert_eq!((events.send_payload, events.receive_payload), (120, 101));
}
