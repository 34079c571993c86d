//! What the message layer costs on a typical INVITE: 13 headers and SDP, some 900 octets.
//!
//! `cargo bench -p iqra-benches --bench sip_message`
//!
//! - `bare_index`: the floor. Finds lines, colons, values and the body, keeps slices, checks nothing.
//! - `parse`: [`Message::parse`], that is the index with the grammar of the start line and of Via, From, To, Call-ID,
//!   CSeq, Max-Forwards and Contact checked. To stay under 1.6 times the floor.
//! - `parse_six_headers_print`: what a server does with a request at least: parse, six typed headers, print.
#![allow(clippy::print_stdout)] // A bench prints its figures.

use bytes::Bytes;
use divan::Bencher;
use divan::counter::BytesCount;
use iqra_sip::Message;
use iqra_sip::message::header::{CSeq, CallId, Contact, From, To, Via};

#[path = "shared/invite.rs"]
mod invite;
use invite::{index, invite};

fn main() {
    println!("one INVITE of {} octets", invite().len());
    divan::main();
}

/// The buffer as a socket gives it: shared, so that slices of it cost no allocation.
fn datagram() -> Bytes {
    let bytes = Bytes::from(invite());
    drop(bytes.clone());
    bytes
}

#[divan::bench(sample_size = 500, sample_count = 400)]
fn bare_index(bencher: Bencher<'_, '_>) {
    let bytes = datagram();
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| divan::black_box(index(divan::black_box(&bytes))).is_some());
}

#[divan::bench(sample_size = 500, sample_count = 400)]
fn parse(bencher: Bencher<'_, '_>) {
    let bytes = datagram();
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| divan::black_box(Message::parse(divan::black_box(bytes.clone()))).is_ok());
}

#[divan::bench(sample_size = 500, sample_count = 400)]
fn parse_six_headers_print(bencher: Bencher<'_, '_>) {
    let bytes = datagram();
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| divan::black_box(serve(divan::black_box(bytes.clone()))).len());
}

fn serve(bytes: Bytes) -> Bytes {
    let message = Message::parse(bytes).expect("the INVITE is well-formed");
    let headers = message.headers();
    divan::black_box((
        headers.typed::<Via>().is_ok(),
        headers.typed::<From>().is_ok(),
        headers.typed::<To>().is_ok(),
        headers.typed::<CallId>().is_ok(),
        headers.typed::<CSeq>().is_ok(),
        headers.typed::<Contact>().is_ok(),
    ));
    message.to_bytes()
}

#[test]
fn the_floor_indexes_what_the_parser_does() {
    let bytes = datagram();
    let bare = index(&bytes).expect("indexes");
    let message = Message::parse(bytes.clone()).expect("parses");
    assert_eq!(bare.count, message.headers().len());
    assert_eq!(bare.body, &message.body()[..]);
    assert!(bare.start.starts_with(b"INVITE") && bare.fields[0].0 == b"Via");
}
