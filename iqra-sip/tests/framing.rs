//! Streams (RFC 3261 §18.3, RFC 5626 §4.4.1): where messages end, and that nobody can make it look otherwise.

mod common;

use bytes::{Bytes, BytesMut};
use common::options;
use iqra_sip::Message;
use iqra_sip::framing::{Frame, Framer, is_keep_alive};
use iqra_sip::message::{Fault, Limits, ParseError};

/// All frames of a stream that comes octet by octet, and the error that ended it.
fn frames(stream: &[u8]) -> (Vec<Frame>, Option<ParseError>) {
    let (mut framer, mut buffer, mut frames) = (Framer::default(), BytesMut::new(), Vec::new());
    for &octet in stream {
        buffer.extend_from_slice(&[octet]);
        match framer.next_frame(&mut buffer) {
            Ok(frame) => frames.extend(frame),
            Err(error) => return (frames, Some(error)),
        }
    }
    (frames, None)
}

fn with_length(line: &str, body: &str) -> String {
    format!("{}{body}", options().replace("l: 0", line))
}

#[test]
fn messages_come_whole_however_they_are_cut() {
    let one = with_length("l: 7", "\r\n\r\nabc");
    let stream = format!("{one}{}", options());
    let expected = [one.clone(), options().to_owned()].map(|text| Frame::Message(Bytes::from(text)));
    assert_eq!(frames(stream.as_bytes()).0, expected);
    let mut whole = BytesMut::from(stream.as_bytes());
    let mut framer = Framer::default();
    assert_eq!(framer.next_frame(&mut whole).unwrap(), Some(expected[0].clone()));
    assert_eq!(framer.next_frame(&mut whole).unwrap(), Some(expected[1].clone()));
    assert_eq!(framer.next_frame(&mut whole).unwrap(), None);
}

#[test]
fn every_spelling_of_content_length_takes_the_body_with_it() {
    let body = options();
    let len = body.len();
    for line in [
        format!("Content-Length : {len}"),
        format!("Content-Length\t:\t{len}"),
        format!("content-length:\r\n {len}"),
        format!("Content-Length:{len}  "),
        format!("L : {len}"),
        format!("l:000{len}"),
    ] {
        let (found, error) = frames(with_length(&line, body).as_bytes());
        assert!(error.is_none());
        let [Frame::Message(bytes)] = &found[..] else {
            panic!("the body became a request of its own: {line}")
        };
        assert_eq!(Message::parse(bytes.clone()).unwrap().body(), body);
    }
}

#[test]
fn a_content_length_that_can_be_read_two_ways_ends_the_connection() {
    for line in [
        "l: 0\r\nContent-Length: 40",
        "l: 40\r\nl: 40",
        "l: +4",
        "l: -4",
        "l: 4 4",
        "l: 4,4",
        "l: 0x4",
        "l:",
        "l: 18446744073709551615",
        "l: 4294967296",
        "l: 1\r\n 0",
    ] {
        let (found, error) = frames(with_length(line, options()).as_bytes());
        assert!(found.is_empty(), "{line}");
        let error = error.unwrap_or_else(|| panic!("{line} was framed"));
        assert!(error.reply.is_some(), "can be answered before the connection ends");
        assert_eq!(error.status.code(), 400);
    }
}

#[test]
fn a_stream_needs_a_content_length_and_a_datagram_does_not() {
    let without = options().replace("l: 0\r\n", "");
    let error = frames(without.as_bytes()).1.unwrap();
    assert_eq!((error.fault, error.reply.is_some()), (Fault::NoContentLength, true));
    assert!(Message::parse(Bytes::from(without)).is_ok());
}

#[test]
fn a_name_that_only_looks_like_content_length_is_not_one() {
    for line in [
        "Content_Length: 4\r\nl: 0",
        "X: a\r\n l: 4\r\nl: 0",
        "Content-Length\r\n : 4\r\nl: 0",
        "Content-Length-X: 4\r\nl: 0",
    ] {
        let (found, error) = frames(with_length(line, "").as_bytes());
        assert_eq!((found.len(), error.is_none()), (1, true), "{line}");
    }
}

#[test]
fn pings_and_pongs_come_as_frames_between_messages() {
    let mut framer = Framer::default();
    let mut buffer = BytesMut::from(&format!("\r\n\r\n{}\r\n{}", options(), options())[..]);
    let mut kinds = Vec::new();
    while let Some(frame) = framer.next_frame(&mut buffer).unwrap() {
        kinds.push(match frame {
            Frame::Ping => "ping",
            Frame::Pong => "pong",
            Frame::Message(_) => "message",
        });
    }
    assert_eq!(kinds, ["ping", "message", "pong", "message"]);
}

#[test]
fn a_ping_in_two_parts_is_still_a_ping() {
    assert_eq!(frames(b"\r\n\r\n").0, [Frame::Pong, Frame::Ping]);
}

#[test]
fn a_head_without_end_is_cut_off_at_the_limit() {
    let endless = format!("OPTIONS sip:a@b SIP/2.0\r\n{}", "X: y\r\n".repeat(10_000));
    assert_eq!(frames(endless.as_bytes()).1.unwrap().fault, Fault::TooLarge(32_768));
}

#[test]
fn a_body_past_the_limit_is_refused_before_it_is_sent() {
    let (_, error) = frames(options().replace("l: 0", "l: 70000").as_bytes());
    let error = error.unwrap();
    assert_eq!((error.fault, error.status.code()), (Fault::TooLarge(65_536), 513));
    assert!(error.reply.is_some());
}

#[test]
fn limits_are_the_callers_to_set() {
    let mut limits = Limits::default();
    limits.message_bytes = 100;
    let error = Framer::new(limits).next_frame(&mut BytesMut::from(options())).unwrap_err();
    assert_eq!(error.fault, Fault::TooLarge(100));
}

#[test]
fn lone_line_feeds_end_the_connection_at_once() {
    assert_eq!(frames(b"OPTIONS sip:a@b SIP/2.0\nl: 0\n\n").1.unwrap().fault, Fault::LineBreak);
}

#[test]
fn a_carriage_return_that_begins_no_line_break_ends_the_connection() {
    for stream in [&b"\rOPTIONS"[..], b"\r\r\n", b"\r\n\r\0"] {
        assert_eq!(frames(stream).1.unwrap().fault, Fault::LineBreak, "{stream:?}");
    }
}

#[test]
fn what_keeps_a_binding_open_is_no_message() {
    assert!(is_keep_alive(b"\r\n\r\n") && is_keep_alive(b"\0") && is_keep_alive(b""));
    assert!(!is_keep_alive(b"\r\nOPTIONS"));
}
