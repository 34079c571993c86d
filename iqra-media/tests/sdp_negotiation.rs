//! Offer and answer: what callers and carriers send, what we say to it, and what both then use.

#![allow(clippy::unwrap_used)] // helpers of tests may unwrap like tests

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use iqra_media::codec::CodecSpec;
use iqra_media::codec::g711::{PCMA, PCMU};
use iqra_media::sdp::{
    Capabilities, Direction, Negotiated, Refusal, TelephoneEvent, accept_answer, answer, offer, revise,
};
use proptest::prelude::*;

/// A dynamic codec, to see that nothing is special about G.711.
const WIDE: CodecSpec =
    CodecSpec { name: "L16", payload_type: 97, clock_rate: 16_000, sample_rate: 16_000, channels: 1 };

fn ours() -> Capabilities {
    Capabilities::new(vec![PCMU, PCMA], IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), 40_000, 42)
}

/// An offer with these m-lines (and what belongs to them).
fn from_caller(media: &str) -> String {
    format!("v=0\r\no=alice 7 3 IN IP4 192.0.2.5\r\ns=call\r\nc=IN IP4 192.0.2.5\r\nt=0 0\r\n{media}")
}

fn answered(media: &str) -> (String, Negotiated) {
    answer(from_caller(media).as_bytes(), &ours()).unwrap()
}

fn refused(sdp: &str) -> Refusal {
    answer(sdp.as_bytes(), &ours()).unwrap_err()
}

const PLAIN: &str =
    "m=audio 5004 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n";

#[test]
fn a_plain_offer_gets_this_answer() {
    let (sdp, negotiated) = answered(PLAIN);
    let expected = "v=0\r\no=- 42 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n\
        m=audio 40000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
        a=fmtp:101 0-15\r\na=ptime:20\r\na=maxptime:60\r\na=sendrecv\r\n";
    assert_eq!(sdp, expected);
    let events = TelephoneEvent { send_payload: 101, receive_payload: 101, clock_rate: 8000 };
    assert_eq!(
        negotiated,
        Negotiated {
            codec: PCMU,
            send_payload: 0,
            receive_payload: 0,
            ptime_ms: 20,
            telephone_event: Some(events),
            remote: SocketAddr::from(([192, 0, 2, 5], 5004)),
            direction: Direction::SendRecv,
        }
    );
}

#[test]
fn our_preference_decides() {
    let alaw_first = Capabilities { codecs: vec![PCMA, PCMU], ..ours() };
    let offer = from_caller("m=audio 5004 RTP/AVP 0 8\r\n");
    assert_eq!(answer(offer.as_bytes(), &alaw_first).unwrap().1.codec, PCMA);
}

#[test]
fn a_codec_is_known_by_its_rtpmap_in_any_case_and_number() {
    for (map, payload) in [("a=rtpmap:96 pcma/8000", 96), ("a=rtpmap:111 PCMA/8000/1", 111)] {
        let (sdp, negotiated) = answered(&format!("m=audio 5004 RTP/AVP {payload}\r\n{map}\r\n"));
        assert_eq!(
            (negotiated.codec, negotiated.send_payload, negotiated.receive_payload),
            (PCMA, payload, payload)
        );
        assert!(sdp.contains(&format!("a=rtpmap:{payload} PCMA/8000\r\n")), "{sdp}");
    }
}

#[test]
fn a_static_number_that_is_mapped_to_something_else_is_something_else() {
    let offer = from_caller("m=audio 5004 RTP/AVP 0\r\na=rtpmap:0 G729/8000\r\n");
    assert!(matches!(refused(&offer), Refusal::Codec { .. }));
}

#[test]
fn a_dynamic_codec_is_told_from_another_rate_of_its_name() {
    let wide = Capabilities { codecs: vec![WIDE], ..ours() };
    let media = "m=audio 5004 RTP/AVP 100 102 103\r\na=rtpmap:100 L16/8000\r\na=rtpmap:102 L16/16000/2\r\n\
        a=rtpmap:103 L16/16000\r\n";
    let (_, negotiated) = answer(from_caller(media).as_bytes(), &wide).unwrap();
    assert_eq!((negotiated.codec, negotiated.send_payload), (WIDE, 103));
}

#[test]
fn telephone_events_have_the_audio_clock_rate_and_the_offer_s_number() {
    let maps = "m=audio 5004 RTP/AVP 0 126 120\r\na=rtpmap:126 telephone-event/48000\r\n\
        a=rtpmap:120 TELEPHONE-EVENT/8000\r\n";
    let (sdp, negotiated) = answered(maps);
    let events = negotiated.telephone_event.unwrap();
    assert_eq!((events.send_payload, events.receive_payload, events.clock_rate), (120, 120, 8000));
    assert!(sdp.contains("m=audio 40000 RTP/AVP 0 120\r\n"), "{sdp}");
    assert_eq!(answered("m=audio 5004 RTP/AVP 0\r\n").1.telephone_event, None);
}

#[test]
fn without_our_support_events_are_not_answered() {
    let mute = Capabilities { telephone_event: false, ..ours() };
    let (sdp, negotiated) = answer(from_caller(PLAIN).as_bytes(), &mute).unwrap();
    assert_eq!(negotiated.telephone_event, None);
    assert!(!sdp.contains("telephone-event"));
}

#[test]
fn refused_streams_keep_their_place_with_port_0() {
    let media = "m=video 6000 RTP/AVP 31 34\r\na=rtpmap:31 H261/90000\r\nm=audio 7000 RTP/SAVP 0\r\n\
        m=audio 5004/2 RTP/AVP 0\r\nm=image 8000 udptl t38\r\nm=audio 5008 RTP/AVP 8\r\nm=message 0 TCP/MSRP *\r\n";
    let (sdp, negotiated) = answered(media);
    let lines: Vec<_> = sdp.lines().filter(|l| l.starts_with("m=")).collect();
    let expected = [
        "m=video 0 RTP/AVP 31 34",
        "m=audio 0 RTP/SAVP 0",
        "m=audio 40000 RTP/AVP 0",
        "m=image 0 udptl t38",
        "m=audio 0 RTP/AVP 8",
        "m=message 0 TCP/MSRP *",
    ];
    assert_eq!(lines, expected);
    assert_eq!(negotiated.remote.port(), 5004);
}

#[test]
fn the_stream_s_own_connection_counts_before_the_session_s() {
    let (_, negotiated) = answered("m=audio 5004 RTP/AVP 0\r\nc=IN IP4 203.0.113.9\r\n");
    assert_eq!(negotiated.remote, SocketAddr::from(([203, 0, 113, 9], 5004)));
}

#[test]
fn ipv6_is_answered_in_ipv6() {
    let six = Capabilities { address: "2001:db8::7".parse().unwrap(), ..ours() };
    let offer = "v=0\r\no=- 1 1 IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\nt=0 0\r\nm=audio 5004 RTP/AVP 0\r\n";
    let (sdp, negotiated) = answer(offer.as_bytes(), &six).unwrap();
    assert_eq!(negotiated.remote, "[2001:db8::1]:5004".parse().unwrap());
    assert!(
        sdp.contains("o=- 42 1 IN IP6 2001:db8::7\r\n") && sdp.contains("c=IN IP6 2001:db8::7\r\n"),
        "{sdp}"
    );
    assert_eq!(refused(offer).warning().0, 301, "IPv6 offered to an IPv4 listener");
}

#[test]
fn directions_are_reversed() {
    for (theirs, ours) in [
        ("sendrecv", Direction::SendRecv),
        ("sendonly", Direction::RecvOnly),
        ("recvonly", Direction::SendOnly),
        ("inactive", Direction::Inactive),
    ] {
        let (sdp, negotiated) = answered(&format!("m=audio 5004 RTP/AVP 0\r\na={theirs}\r\n"));
        assert_eq!(negotiated.direction, ours, "{theirs}");
        assert!(sdp.ends_with(&format!("a={}\r\n", ours.as_str())), "{sdp}");
    }
}

#[test]
fn the_session_s_direction_holds_where_the_stream_has_none() {
    let session = "v=0\r\no=- 1 1 IN IP4 192.0.2.5\r\ns=-\r\nc=IN IP4 192.0.2.5\r\nt=0 0\r\na=sendonly\r\n";
    let of = |media: &str| answer(format!("{session}{media}").as_bytes(), &ours()).unwrap().1.direction;
    assert_eq!(of("m=audio 5004 RTP/AVP 0\r\n"), Direction::RecvOnly);
    assert_eq!(of("m=audio 5004 RTP/AVP 0\r\na=sendrecv\r\n"), Direction::SendRecv);
}

#[test]
fn an_old_hold_means_that_we_must_not_send() {
    let hold =
        |attribute: &str| answered(&format!("m=audio 5004 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n{attribute}")).1;
    assert_eq!(hold("").direction, Direction::RecvOnly);
    assert_eq!(hold("a=recvonly\r\n").direction, Direction::Inactive);
    assert!(hold("").remote.ip().is_unspecified());
}

#[test]
fn the_offer_s_packet_time_is_obeyed_within_bounds() {
    for (attributes, expected) in [
        ("", 20),
        ("a=ptime:30\r\n", 30),
        ("a=ptime:60\r\n", 60),
        ("a=ptime:10\r\n", 10),
        ("a=ptime:120\r\n", 60),
        ("a=ptime:5\r\n", 10),
        ("a=ptime:25\r\n", 20),
        ("a=ptime:20.0\r\n", 20),
        ("a=ptime:0\r\n", 20),
        ("a=ptime:soon\r\n", 20),
        ("a=ptime:99999999999\r\n", 20),
        ("a=maxptime:10\r\n", 10),
        ("a=ptime:40\r\na=maxptime:30\r\n", 30),
    ] {
        let (sdp, negotiated) = answered(&format!("m=audio 5004 RTP/AVP 0\r\n{attributes}"));
        assert_eq!(negotiated.ptime_ms, expected, "{attributes:?}");
        assert!(sdp.contains(&format!("a=ptime:{expected}\r\n")));
    }
}

#[test]
fn form_is_taken_leniently() {
    let crlf = from_caller(PLAIN);
    let variants = [
        ("LF only", crlf.replace("\r\n", "\n").into_bytes()),
        ("no last line end", crlf.trim_end().as_bytes().to_vec()),
        (
            "blank line and blanks",
            crlf.replace("a=ptime", "\r\na=ptime").replace(":20", ":20  ").into_bytes(),
        ),
        ("NUL at the end", [crlf.as_bytes(), &[0]].concat()),
        (
            "Latin-1 in the subject",
            [
                &b"v=0\r\no=- 1 1 IN IP4 192.0.2.5\r\ns=caf\xE9\r\n"[..],
                &crlf.as_bytes()[crlf.find("c=").unwrap()..],
            ]
            .concat(),
        ),
        ("no s= and t=", crlf.replace("s=call\r\n", "").replace("t=0 0\r\n", "").into_bytes()),
        ("feedback profile", crlf.replace("RTP/AVP", "RTP/AVPF").into_bytes()),
    ];
    for (name, bytes) in variants {
        let negotiated = answer(&bytes, &ours()).unwrap_or_else(|e| panic!("{name}: {e}")).1;
        assert_eq!((negotiated.codec, negotiated.telephone_event.is_some()), (PCMU, true), "{name}");
    }
}

#[test]
fn refusals_have_a_status_a_warning_and_a_remedy() {
    let with = |from: &str, to: &str| from_caller(PLAIN).replace(from, to);
    let cases = [
        ("not SDP", "hello".to_owned(), 400, 399, "malformed"),
        ("empty", String::new(), 400, 399, "malformed"),
        ("no address", with("c=IN IP4 192.0.2.5\r\n", ""), 400, 399, "no c= line"),
        ("too long", from_caller(&"a=x\r\n".repeat(5000)), 400, 399, "16 KiB"),
        ("too many streams", from_caller(&"m=audio 1 RTP/AVP 0\r\n".repeat(33)), 400, 399, "32"),
        ("no media", from_caller(""), 488, 304, "m=audio"),
        ("video only", with("m=audio", "m=video"), 488, 304, "m=audio"),
        ("port 0", with("5004", "0"), 488, 304, "m=audio"),
        ("SRTP only", with("RTP/AVP", "RTP/SAVP"), 488, 302, "RTP/SAVP"),
        ("WebRTC", with("RTP/AVP", "UDP/TLS/RTP/SAVPF"), 488, 302, "offer RTP/AVP"),
        ("host name", with("c=IN IP4 192.0.2.5", "c=IN IP4 media.example"), 488, 301, "media.example"),
        ("multicast", with("c=IN IP4 192.0.2.5", "c=IN IP4 233.252.0.1/127"), 488, 301, "unicast"),
        ("no codec", with("8 0 101", "18 101"), 488, 305, "supported PCMU, PCMA"),
        ("events only", with("8 0 101", "101"), 488, 305, "telephone-event"),
    ];
    for (name, sdp, status, code, word) in cases {
        let refusal = refused(&sdp);
        let (warning, text) = refusal.warning();
        assert_eq!((refusal.status(), warning), (status, code), "{name}: {text}");
        assert!(text.contains(word) && !text.contains('"'), "{name}: {text}");
    }
}

#[test]
fn a_refusal_s_text_cannot_break_a_header() {
    let refusal = refused(&from_caller("m=audio 5004 RTP/AVP 96\r\na=rtpmap:96 \"x\\\u{7}\"/8000\r\n"));
    let (_, text) = refusal.warning();
    assert!(!text.contains(['"', '\\', '\r', '\n']) && !text.chars().any(char::is_control), "{text}");
}

#[test]
fn our_offer_lists_everything_in_order() {
    let sdp = offer(&Capabilities { codecs: vec![PCMA, PCMU], ptime_ms: 30, ..ours() });
    assert!(
        sdp.contains("m=audio 40000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n")
    );
    assert!(
        sdp.contains("a=ptime:30\r\n") && sdp.contains("t=0 0\r\n") && sdp.ends_with("a=sendrecv\r\n"),
        "{sdp}"
    );
}

#[test]
fn two_of_us_agree() {
    let caller = Capabilities { port: 50_000, codecs: vec![PCMA], ..ours() };
    let (sdp, callee_view) = answer(offer(&caller).as_bytes(), &ours()).unwrap();
    let caller_view = accept_answer(&caller, sdp.as_bytes()).unwrap();
    assert_eq!((callee_view.codec, caller_view.codec), (PCMA, PCMA));
    assert_eq!((callee_view.remote.port(), caller_view.remote.port()), (50_000, 40_000));
    assert_eq!(callee_view.telephone_event, caller_view.telephone_event);
}

#[test]
fn an_answer_may_use_other_numbers_than_the_offer() {
    let wide = Capabilities { codecs: vec![WIDE], ..ours() };
    let answer = from_caller(
        "m=audio 5004 RTP/AVP 110 111\r\na=rtpmap:110 l16/16000\r\na=rtpmap:111 telephone-event/16000\r\na=ptime:40\r\n",
    );
    let negotiated = accept_answer(&wide, answer.as_bytes()).unwrap();
    assert_eq!((negotiated.send_payload, negotiated.receive_payload, negotiated.ptime_ms), (110, 97, 40));
    let events = TelephoneEvent { send_payload: 111, receive_payload: 101, clock_rate: 16_000 };
    assert_eq!(negotiated.telephone_event, Some(events));
}

#[test]
fn of_an_answer_with_several_codecs_the_first_counts() {
    let negotiated = accept_answer(&ours(), from_caller("m=audio 5004 RTP/AVP 8 0\r\n").as_bytes()).unwrap();
    assert_eq!(negotiated.codec, PCMA);
}

#[test]
fn an_answer_that_refuses_our_audio_is_a_refusal() {
    let error = accept_answer(&ours(), from_caller("m=audio 0 RTP/AVP 0\r\n").as_bytes()).unwrap_err();
    assert_eq!(error, Refusal::NoAudio);
}

#[test]
fn a_re_offer_keeps_the_session_and_raises_the_version_when_something_changed() {
    let (first, _) = answered(PLAIN);
    let again = revise(&first, answered(PLAIN).0);
    assert_eq!(again, first, "nothing changed");
    let other_call = Capabilities { session_id: 99, ..ours() };
    let hold = from_caller(PLAIN) + "a=sendonly\r\n";
    let second = revise(&first, answer(hold.as_bytes(), &other_call).unwrap().0);
    assert!(second.contains("o=- 42 2 IN IP4") && second.contains("a=recvonly"), "{second}");
    let third = revise(&second, answered(PLAIN).0);
    assert!(third.contains("o=- 42 3 IN IP4"), "{third}");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = answer(&bytes, &ours());
        let _ = accept_answer(&ours(), &bytes);
    }

    /// Mutations of a good offer reach deeper than noise.
    #[test]
    fn no_mutation_panics_and_every_answer_can_be_read(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = from_caller(PLAIN).into_bytes();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 200);
        if let Ok((sdp, negotiated)) = answer(&bytes, &ours()) {
            let mirrored = Capabilities { codecs: vec![negotiated.codec], ..ours() };
            prop_assert!(accept_answer(&mirrored, sdp.as_bytes()).is_ok(), "{sdp}");
        }
    }
}
