//! Reads a SIP message, asks it a few things, and writes the answer.
//!
//! Run: `cargo run -p iqra-sip --example parse`. Expected:
//! ```text
//! INVITE for desk at voice.example, call c1@pbx.example
//! from Reception
//! X-Phone-Id: desk
//!
//! SIP/2.0 486 Busy Here
//! Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKa1
//! From: "Reception" <sip:front@pbx.example>;tag=ab
//! To: <sip:desk@voice.example>;tag=1f9a
//! Call-ID: c1@pbx.example
//! CSeq: 7 INVITE
//! Content-Length: 0
//!
//! refused with 400: the header Call-ID is missing; add it
//! ```
#![allow(clippy::print_stdout)] // What it prints is what it is for.

use bytes::Bytes;
use iqra_sip::message::header::{CallId, From, To};
use iqra_sip::{Message, Response, StatusCode};

const INVITE: &str = "INVITE sip:desk@voice.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKa1\r\n\
    From: \"Reception\" <sip:front@pbx.example>;tag=ab\r\n\
    To: <sip:desk@voice.example>\r\n\
    Call-ID: c1@pbx.example\r\n\
    CSeq: 7 INVITE\r\n\
    X-Phone-Id: desk\r\n\
    Content-Length: 0\r\n\r\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Message::Request(invite) = Message::parse(Bytes::from_static(INVITE.as_bytes()))? else {
        return Err("a request was expected".into());
    };

    // Names compare without case and in their short forms; a typed header is read when it is asked for.
    let user = invite.uri.user().unwrap_or("nobody");
    let host = invite.uri.host().ok_or("the Request-URI has no host")?;
    println!("{} for {user} at {host}, call {}", invite.method, invite.headers.typed::<CallId>()?);
    let from: From = invite.headers.typed()?;
    println!("from {}", from.display_name().unwrap_or_default());
    println!("X-Phone-Id: {}\n", invite.headers.get("x-phone-id").unwrap_or_default());

    // An answer copies what the request says and adds a tag to To (RFC 3261 §8.2.6.2).
    let mut busy = Response::to_request(&invite, StatusCode::BUSY_HERE);
    let to: To = invite.headers.typed()?;
    busy.headers.set_typed(&To(to.0.with_tag("1f9a")));
    print!("{}", String::from_utf8_lossy(&busy.to_bytes()).replace("\r\n", "\n"));

    // What is wrong with a message is said with the status to answer it with.
    let broken = INVITE.replace("Call-ID: c1@pbx.example\r\n", "");
    if let Err(error) = Message::parse(Bytes::from(broken)) {
        println!("refused with {}: {error}", error.status);
    }
    Ok(())
}
