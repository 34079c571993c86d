//! Offer and answer: what callers and carriers send, what we say to it, and what both then use.

#![allow(clippy::unwrap_used)] // helpers of tests may unwrap like tests

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use iqra_media::codec::CodecSpec;
use iqra_media::codec::g711::{PCMA, PCMU};
use iqra_media::sdp::{
    Agreement, Alternative, Capabilities, Direction, Limits, Negotiated, Order, Refusal, TelephoneEvent,
    accept_answer, answer, offer,
};

/// A dynamic codec, to see that nothing is special about G.711.
const WIDE: CodecSpec = CodecSpec {
    name: "L16",
    payload_type: 97,
    clock_rate: 16_000,
    sample_rate: 16_000,
    channels: 1,
    fmtp: "",
};

fn ours() -> Capabilities {
    Capabilities::new(vec![PCMU, PCMA], IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), 40_000, 42)
}

/// An offer with these m-lines (and what belongs to them).
fn from_caller(media: &str) -> String {
    format!("v=0\r\no=alice 7 3 IN IP4 192.0.2.5\r\ns=call\r\nc=IN IP4 192.0.2.5\r\nt=0 0\r\n{media}")
}

fn answered(media: &str) -> (String, Negotiated) {
    with(&ours(), media)
}

fn with(ours: &Capabilities, media: &str) -> (String, Negotiated) {
    parts(answer(from_caller(media).as_bytes(), ours).unwrap())
}

fn parts(agreed: Agreement) -> (String, Negotiated) {
    (agreed.local(), agreed.negotiated)
}

/// What an answer with these m-lines to our offer comes to.
fn accepted(ours: &Capabilities, media: &str) -> Result<Negotiated, Refusal> {
    accept_answer(ours, &offer(ours), from_caller(media).as_bytes()).map(|agreed| agreed.negotiated)
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
    let remote = SocketAddr::from(([192, 0, 2, 5], 5004));
    let telephone_event = Some(TelephoneEvent::new(101, 101, 8000));
    assert_eq!(negotiated, Negotiated { telephone_event, ..Negotiated::new(PCMU, remote) });
    assert_eq!(negotiated.remote_rtcp.port(), 5005);
}

#[test]
fn what_an_answer_lists_beside_its_first_codec_may_come_too() {
    let ours = Capabilities { codecs: vec![PCMU, PCMA, WIDE], ..ours() };
    let other = |codec, receive_payload, fmtp: &str| Alternative {
        codec,
        receive_payload,
        remote_fmtp: fmtp.to_owned(),
    };
    let media = "m=audio 5004 RTP/AVP 8 120 18 0 120 101\r\na=rtpmap:120 L16/16000\r\na=fmtp:120 x=1\r\n";
    let negotiated = accepted(&ours, media).unwrap();
    assert_eq!((negotiated.codec, negotiated.receive_payload), (PCMA, 8));
    assert_eq!(negotiated.alternatives, [other(WIDE, 97, "x=1"), other(PCMU, 0, "")]);
    assert_eq!(accepted(&ours, "m=audio 5004 RTP/AVP 0 101\r\n").unwrap().alternatives, []);
    assert_eq!(with(&ours, "m=audio 5004 RTP/AVP 0 8\r\n").1.alternatives, [], "our answers name one codec");
}

#[test]
fn our_preference_decides() {
    let alaw_first = Capabilities { codecs: vec![PCMA, PCMU], ..ours() };
    assert_eq!(with(&alaw_first, "m=audio 5004 RTP/AVP 0 8\r\n").1.codec, PCMA);
    let theirs = Capabilities { order: Order::Theirs, ..alaw_first };
    assert_eq!(with(&theirs, "m=audio 5004 RTP/AVP 18 0 8\r\n").1.codec, PCMU);
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
    let (_, negotiated) = with(&wide, media);
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
    let (sdp, negotiated) = with(&mute, PLAIN);
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
    let (sdp, negotiated) = parts(answer(offer.as_bytes(), &six).unwrap());
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
fn a_hold_of_ours_counts_too() {
    for (theirs, ours, both) in [
        ("sendrecv", Direction::SendOnly, Direction::SendOnly),
        ("recvonly", Direction::SendOnly, Direction::SendOnly),
        ("sendonly", Direction::SendOnly, Direction::Inactive),
        ("inactive", Direction::SendOnly, Direction::Inactive),
        ("sendrecv", Direction::Inactive, Direction::Inactive),
        ("sendonly", Direction::RecvOnly, Direction::RecvOnly),
    ] {
        let held = Capabilities { direction: ours, ..self::ours() };
        let (sdp, negotiated) = with(&held, &format!("m=audio 5004 RTP/AVP 0\r\na={theirs}\r\n"));
        assert_eq!(negotiated.direction, both, "{theirs} to {ours:?}");
        assert!(sdp.ends_with(&format!("a={}\r\n", both.as_str())), "{sdp}");
        assert!(offer(&held).ends_with(&format!("a={}\r\n", ours.as_str())));
    }
}

#[test]
fn an_answer_cannot_undo_our_hold() {
    let held = Capabilities { direction: Direction::SendOnly, ..ours() };
    for (said, both) in [("sendrecv", Direction::SendOnly), ("inactive", Direction::Inactive)] {
        let negotiated = accepted(&held, &format!("m=audio 5004 RTP/AVP 0\r\na={said}\r\n")).unwrap();
        assert_eq!(negotiated.direction, both, "{said}");
    }
}

#[test]
fn the_session_s_direction_holds_where_the_stream_has_none() {
    let session = "v=0\r\no=- 1 1 IN IP4 192.0.2.5\r\ns=-\r\nc=IN IP4 192.0.2.5\r\nt=0 0\r\na=sendonly\r\n";
    let of =
        |media: &str| answer(format!("{session}{media}").as_bytes(), &ours()).unwrap().negotiated.direction;
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
    let of_v6 = answered("m=audio 5004 RTP/AVP 0\r\nc=IN IP6 ::\r\n").1;
    assert_eq!(of_v6.direction, Direction::RecvOnly);
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
        let negotiated = answer(&bytes, &ours()).unwrap_or_else(|e| panic!("{name}: {e}")).negotiated;
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
        ("too long", from_caller(&"a=x\r\n".repeat(5000)), 400, 399, "16384 octets"),
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
    let long = "x".repeat(9_000);
    for name in ["\"x\\\u{7}\"", &long] {
        let offer = from_caller(&format!("m=audio 5004 RTP/AVP 96\r\na=rtpmap:96 {name}/8000\r\n"));
        let (_, text) = refused(&offer).warning();
        assert!(!text.contains(['"', '\\', '\r', '\n']) && !text.chars().any(char::is_control), "{text}");
        assert!(text.len() < 400, "{}", text.len());
    }
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
    let offer = offer(&caller);
    let (sdp, callee_view) = parts(answer(offer.as_bytes(), &ours()).unwrap());
    let caller_view = accept_answer(&caller, &offer, sdp.as_bytes()).unwrap().negotiated;
    assert_eq!((callee_view.codec, caller_view.codec), (PCMA, PCMA));
    assert_eq!((callee_view.remote.port(), caller_view.remote.port()), (50_000, 40_000));
    assert_eq!(callee_view.telephone_event, caller_view.telephone_event);
}

#[test]
fn an_answer_may_use_other_numbers_than_the_offer() {
    let wide = Capabilities { codecs: vec![WIDE], ..ours() };
    let answer = "m=audio 5004 RTP/AVP 110 111\r\na=rtpmap:110 l16/16000\r\n\
        a=rtpmap:111 telephone-event/16000\r\na=ptime:40\r\n";
    let negotiated = accepted(&wide, answer).unwrap();
    assert_eq!((negotiated.send_payload, negotiated.receive_payload, negotiated.ptime_ms), (110, 97, 30));
    assert_eq!(negotiated.telephone_event, Some(TelephoneEvent::new(111, 101, 16_000)));
}

#[test]
fn of_an_answer_with_several_codecs_the_first_counts() {
    assert_eq!(accepted(&ours(), "m=audio 5004 RTP/AVP 8 0\r\n").unwrap().codec, PCMA);
}

#[test]
fn an_answer_that_refuses_our_audio_is_a_refusal() {
    assert_eq!(accepted(&ours(), "m=audio 0 RTP/AVP 0\r\n").unwrap_err(), Refusal::Declined);
    assert_eq!(accepted(&ours(), "").unwrap_err(), Refusal::Declined);
    assert!(matches!(accepted(&ours(), "m=audio 9 RTP/SAVP 0\r\n"), Err(Refusal::Transport { .. })));
    assert!(matches!(accepted(&ours(), "m=audio 9 RTP/AVP 18\r\n"), Err(Refusal::Codec { .. })));
}

#[test]
fn of_several_refused_streams_the_one_that_came_closest_says_why() {
    let refusal =
        refused(&from_caller("m=audio 5004 RTP/SAVP 0\r\nm=audio 5004 RTP/AVP 18\r\nm=audio 1 X 0\r\n"));
    assert!(matches!(refusal, Refusal::Codec { .. }), "{refusal}");
}

#[test]
fn the_limits_are_the_caller_s_to_set() {
    let tight = |limits| Capabilities { limits, ..ours() };
    let default = ours().limits;
    let offer = from_caller(PLAIN);
    for (limits, word) in [
        (Limits { octets: offer.len() - 1, ..default }, "octets"),
        (Limits { streams: 0, ..default }, "m-lines"),
        (Limits { attributes: 2, ..default }, "attributes"),
        (Limits { formats: 2, ..default }, "formats"),
    ] {
        let refusal = answer(offer.as_bytes(), &tight(limits)).unwrap_err();
        assert!(refusal.status() == 400 && refusal.to_string().contains(word), "{refusal}");
    }
}

#[test]
fn a_static_number_needs_no_rtpmap_and_names_its_codec_in_a_refusal() {
    let g722 = CodecSpec { name: "G722", payload_type: 96, clock_rate: 8000, sample_rate: 16_000, ..PCMU };
    let wide = Capabilities { codecs: vec![g722], ..ours() };
    assert_eq!(with(&wide, "m=audio 5004 RTP/AVP 0 9\r\n").1.send_payload, 9);
    let text = refused(&from_caller("m=audio 5004 RTP/AVP 18 3 20\r\n")).to_string();
    assert!(text.contains("offered G729, GSM, 20"), "{text}");
}

#[test]
fn opus_is_answered_with_its_fmtp_and_with_events_of_its_own_clock() {
    let opus = CodecSpec {
        name: "opus",
        payload_type: 107,
        clock_rate: 48_000,
        sample_rate: 48_000,
        channels: 1,
        fmtp: "useinbandfec=1",
    };
    let wide = Capabilities { codecs: vec![opus, PCMU], comfort_noise: true, ..ours() };
    let media = "m=audio 5004 RTP/AVP 111 0 13 110 126\r\na=rtpmap:111 OPUS/48000/2\r\n\
        a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:110 telephone-event/48000\r\n\
        a=fmtp:110 0-11,16\r\na=rtpmap:126 telephone-event/8000\r\na=ptime:30\r\n";
    let (sdp, negotiated) = with(&wide, media);
    assert_eq!((negotiated.codec, negotiated.send_payload, negotiated.ptime_ms), (opus, 111, 20));
    assert_eq!(negotiated.remote_fmtp, "minptime=10;useinbandfec=1");
    let events = negotiated.telephone_event.unwrap();
    assert_eq!((events.send_payload, events.clock_rate, events.accepted), (110, 48_000, 0x0fff));
    assert_eq!(negotiated.comfort_noise, None, "a codec of 48 kHz has its own silence");
    let lines = "m=audio 40000 RTP/AVP 111 110\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=1\r\n\
        a=rtpmap:110 telephone-event/48000\r\na=fmtp:110 0-15\r\n";
    assert!(sdp.contains(lines), "{sdp}");
    let at_8000 = media.replace("110 telephone-event/48000", "110 x/48000");
    assert_eq!(with(&wide, &at_8000).1.telephone_event, Some(TelephoneEvent::new(126, 126, 8000)));
    let narrow = Capabilities { codecs: vec![PCMU], ..wide.clone() };
    assert_eq!(with(&narrow, media).1.comfort_noise.unwrap().send_payload, 13);
    assert!(with(&narrow, media).0.contains("m=audio 40000 RTP/AVP 0 13 126\r\n"));
    let expected = "m=audio 40000 RTP/AVP 107 0 13 101 96\r\na=rtpmap:107 opus/48000/2\r\n";
    assert!(offer(&wide).contains(expected), "{}", offer(&wide));
}

#[test]
fn rtcp_goes_where_the_peer_says() {
    for (attribute, expected) in [
        ("", "192.0.2.5:5005"),
        ("a=rtcp:6000\r\n", "192.0.2.5:6000"),
        ("a=rtcp:6000 IN IP4 192.0.2.9\r\n", "192.0.2.9:6000"),
        ("a=rtcp:6000 IN IP6 2001:db8::9\r\n", "[2001:db8::9]:6000"),
        ("a=rtcp:none\r\n", "192.0.2.5:5005"),
        ("a=rtcp-mux\r\n", "192.0.2.5:5005"),
        ("a=rtcp-mux\r\na=rtcp-mux-only\r\n", "192.0.2.5:5004"),
    ] {
        let negotiated = answered(&format!("m=audio 5004 RTP/AVP 0\r\n{attribute}")).1;
        assert_eq!(negotiated.remote_rtcp, expected.parse().unwrap(), "{attribute:?}");
    }
    assert_eq!(answered("m=audio 65535 RTP/AVP 0\r\n").1.remote_rtcp.port(), 0, "there is none above");
    let own = Capabilities { rtcp_port: Some(41_000), rtcp_mux: true, ..ours() };
    assert!(with(&own, "m=audio 5004 RTP/AVP 0\r\n").0.contains("a=rtcp:41000\r\n"));
    let (sdp, negotiated) = with(&own, "m=audio 5004 RTP/AVP 0\r\na=rtcp-mux\r\n");
    let unasked = accepted(&ours(), "m=audio 5004 RTP/AVP 0\r\na=rtcp-mux\r\n").unwrap();
    assert!(!unasked.rtcp_mux && unasked.remote_rtcp.port() == 5005);
    assert!(negotiated.rtcp_mux && sdp.contains("a=rtcp-mux\r\n") && !sdp.contains("a=rtcp:"), "{sdp}");
}
