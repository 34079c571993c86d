//! From a message to its octets. Untouched headers are copied as they came; Content-Length always states the body
//! that follows, whatever the headers say.

use bytes::{BufMut, Bytes, BytesMut};

use super::headers::{Field, Headers};
use super::name::Known;
use super::request::Request;
use super::response::Response;

pub(crate) fn request(request: &Request) -> Bytes {
    let mut out = buffer(&request.headers, &request.body, request.uri.as_str().len());
    put(
        &mut out,
        &[request.method.as_str().as_bytes(), b" ", request.uri.as_str().as_bytes(), b" SIP/2.0\r\n"],
    );
    finish(out, &request.headers, &request.body)
}

pub(crate) fn response(response: &Response) -> Bytes {
    let mut out = buffer(&response.headers, &response.body, response.reason.as_bytes().len());
    let reason = response.reason.clone().in_one_line();
    let mut digits = Digits::default();
    put(&mut out, &[b"SIP/2.0 ", digits.of(response.status.code().into()), b" ", reason.as_bytes(), b"\r\n"]);
    finish(out, &response.headers, &response.body)
}

/// A buffer that will not have to grow, in most cases.
fn buffer(headers: &Headers, body: &Bytes, start_line: usize) -> BytesMut {
    let lines: usize = headers.fields().iter().map(|field| field_len(headers, field)).sum();
    BytesMut::with_capacity(start_line + 64 + lines + body.len() + 32)
}

fn field_len(headers: &Headers, field: &Field) -> usize {
    match field {
        Field::Wire(wire) => wire.line_range().len() + 2,
        Field::Owned(_) => headers.value(field).len() + 32,
    }
}

fn finish(mut out: BytesMut, headers: &Headers, body: &Bytes) -> Bytes {
    let mut measured = false;
    for field in headers.fields() {
        if !headers.is_known(field, Known::ContentLength) {
            put_field(&mut out, headers, field);
        } else if !measured {
            put_length(&mut out, headers, field, body.len());
            measured = true;
        }
    }
    if !measured {
        put(&mut out, &[b"Content-Length: ", Digits::default().of(body.len()), b"\r\n"]);
    }
    put(&mut out, &[b"\r\n", body]);
    out.freeze()
}

fn put_field(out: &mut BytesMut, headers: &Headers, field: &Field) {
    match field {
        Field::Wire(wire) => put(out, &[&headers.wire()[wire.line_range()], b"\r\n"]),
        Field::Owned(_) => {
            put(out, &[headers.name(field).as_str().as_bytes(), b": ", headers.value(field), b"\r\n"]);
        }
    }
}

/// The header as it came if it tells the truth, else a true one in its place.
fn put_length(out: &mut BytesMut, headers: &Headers, field: &Field, len: usize) {
    let mut digits = Digits::default();
    let digits = digits.of(len);
    if matches!(field, Field::Wire(_)) && headers.value(field) == digits {
        put_field(out, headers, field);
    } else {
        put(out, &[b"Content-Length: ", digits, b"\r\n"]);
    }
}

fn put(out: &mut BytesMut, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.put_slice(part));
}

/// A number in decimal digits, without allocation.
#[derive(Default)]
struct Digits([u8; 20]);

impl Digits {
    fn of(&mut self, mut number: usize) -> &[u8] {
        let mut at = self.0.len();
        loop {
            at -= 1;
            self.0[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return &self.0[at..];
            }
        }
    }
}
