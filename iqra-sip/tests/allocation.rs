//! Parsing costs one allocation, the index of the headers; what passes the guard costs none.
//!
//! Its own binary, as it counts with an allocator of its own.
#![allow(unsafe_code)] // GlobalAlloc is an unsafe trait; each method only counts and hands on to the system's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use iqra_sip::guard::{Guard, GuardConfig, Load, Network, Sender, Verdict};
use iqra_sip::message::header::{CSeq, CallId, Contact, From, To, Via};
use iqra_sip::{HeaderName, Message};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed on unchanged to the system allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = COUNT.get();
    let out = run();
    (out, COUNT.get() - before)
}

/// A request with `vias` hops, in a buffer as a receive loop makes it.
fn received(vias: usize) -> Bytes {
    let vias: String =
        (0..vias).map(|n| format!("Via: SIP/2.0/UDP 192.0.2.{n};branch=z9hG4bK{n}\r\n")).collect();
    let text = format!(
        "INVITE sip:+15550199@voice.example SIP/2.0\r\n{vias}Max-Forwards: 70\r\n\
        From: \"Desk\" <sip:+15550123@h.example>;tag=f1\r\nTo: <sip:+15550199@voice.example>\r\n\
        Call-ID: c1@h.example\r\nCSeq: 1 INVITE\r\nContact: <sip:+15550123@192.0.2.9>\r\n\
        X-Folded: one\r\n two\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n"
    );
    let mut buffer = BytesMut::with_capacity(65_536);
    buffer.extend_from_slice(text.as_bytes());
    buffer.split().freeze()
}

#[test]
fn parsing_allocates_the_index_and_nothing_else() {
    for vias in [1, 2, 40] {
        let bytes = received(vias);
        let (message, count) = allocations(|| Message::parse(bytes).expect("parses"));
        assert_eq!(count, 1, "with {vias} Vias");
        assert!(message.headers().contains(HeaderName::VIA));
    }
}

#[test]
fn typed_headers_of_a_parsed_message_allocate_nothing() {
    let message = Message::parse(received(1)).expect("parses");
    let headers = message.headers();
    let (good, count) = allocations(|| {
        headers.typed::<Via>().is_ok()
            && headers.typed::<From>().is_ok_and(|from| from.tag().is_some())
            && headers.typed::<To>().is_ok()
            && headers.typed::<CallId>().is_ok()
            && headers.typed::<CSeq>().is_ok()
            && headers.typed::<Contact>().is_ok()
    });
    assert!(good);
    assert_eq!(count, 0);
}

#[test]
fn printing_allocates_the_buffer_and_its_share() {
    let message = Message::parse(received(1)).expect("parses");
    let (printed, count) = allocations(|| message.to_bytes());
    assert!(count <= 2, "{count} allocations");
    assert!(!printed.is_empty());
}

#[test]
fn what_passes_the_guard_allocates_nothing() {
    let (message, now) = (received(2), Instant::now());
    let peers = ["198.51.100.1".parse::<Network>().expect("a network")].into_iter().collect();
    let mut guard = Guard::new(GuardConfig { peers, ..GuardConfig::default() });
    let load = Load::default();
    for source in ["192.0.2.9", "2001:db8::9", "198.51.100.1"] {
        let source = Sender { ip: source.parse().expect("an address"), forgeable: true };
        // A source that is met for the first time takes its place in the table.
        assert_eq!(guard.judge(now, source, &message, &load), Verdict::Pass);
        let (verdict, count) = allocations(|| guard.judge(now, source, &message, &load));
        assert_eq!((verdict, count), (Verdict::Pass, 0), "{source:?}");
    }
}
