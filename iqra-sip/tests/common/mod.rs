//! A small valid request to bend, and short ways to parse.
#![allow(dead_code)] // Each test binary uses some of it.

use bytes::Bytes;
use iqra_sip::Message;
use iqra_sip::message::{ParseError, Request};

/// An OPTIONS as small as it may be; its header lines are bent by the tests.
pub(crate) fn options() -> &'static str {
    "OPTIONS sip:ping@voice.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKp1\r\n\
    Max-Forwards: 70\r\n\
    From: <sip:u@h.example>;tag=f1\r\n\
    To: sip:ping@voice.example\r\n\
    Call-ID: p1@h.example\r\n\
    CSeq: 7 OPTIONS\r\n\
    l: 0\r\n\r\n"
}

/// [`options`] with the line that begins with `prefix` replaced.
pub(crate) fn options_with(prefix: &str, line: &str) -> Request {
    let old = options().split("\r\n").find(|line| line.starts_with(prefix)).expect("the line to bend");
    request(&options().replace(old, line))
}

pub(crate) fn message(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub(crate) fn request(text: &str) -> Request {
    match message(text) {
        Message::Request(request) => request,
        Message::Response(_) => panic!("is a request"),
    }
}

pub(crate) fn refused(text: &str) -> ParseError {
    match Message::parse(Bytes::copy_from_slice(text.as_bytes())) {
        Ok(_) => panic!("was accepted: {text}"),
        Err(error) => error,
    }
}
