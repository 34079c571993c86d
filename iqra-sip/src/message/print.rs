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
        Field::Wire(wire) => wire.line_range().len(),
        Field::Owned(_) => headers.value(field).len() + 32,
    }
}

/// Headers, the empty line and the body. Header lines that stand side by side in the buffer they came in are copied in
/// one piece. A Content-Length that tells the truth prints where it stands, any other is left out.
fn finish(mut out: BytesMut, headers: &Headers, body: &Bytes) -> Bytes {
    let mut digits = Digits::default();
    let length = digits.of(body.len());
    let (mut measured, mut run) = (false, 0..0);
    for field in headers.fields() {
        if headers.is_known(field, Known::ContentLength) {
            if measured || headers.value(field) != length {
                continue;
            }
            measured = true;
        }
        match field {
            Field::Wire(wire) if wire.line_range().start == run.end => run.end = wire.line_range().end,
            Field::Wire(wire) => {
                put(&mut out, &[&headers.wire()[std::mem::replace(&mut run, wire.line_range())]]);
            }
            Field::Owned(_) => {
                put(&mut out, &[&headers.wire()[std::mem::take(&mut run)]]);
                put(
                    &mut out,
                    &[headers.name(field).as_str().as_bytes(), b": ", headers.value(field), b"\r\n"],
                );
            }
        }
    }
    put(&mut out, &[&headers.wire()[run]]);
    if !measured {
        put(&mut out, &[b"Content-Length: ", length, b"\r\n"]);
    }
    put(&mut out, &[b"\r\n", body]);
    out.freeze()
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::{HeaderName, Message};

    const BYE: &str = "BYE sip:a@h.example SIP/2.0\r\nv: SIP/2.0/UDP h\r\nf: sip:a@h;tag=1\r\nt: sip:b@h\r\ni: 1\r\n\
        l : 2\r\nX-Odd:  as   it came \t\r\n  folded\r\nCSeq: 1 BYE\r\n\r\nab";

    #[test]
    fn a_changed_body_changes_content_length_alone() {
        let Message::Request(mut bye) = Message::parse(Bytes::from(BYE)).unwrap() else {
            panic!("is a request")
        };
        assert_eq!(bye.to_bytes(), BYE);
        bye.body = Bytes::from("three");
        bye.headers.push(HeaderName::CONTENT_LENGTH, "77");
        let expected =
            BYE.replace("l : 2\r\n", "").replace("\r\n\r\nab", "\r\nContent-Length: 5\r\n\r\nthree");
        assert_eq!(bye.to_bytes(), expected);
    }

    #[test]
    fn a_removed_and_an_added_header_leave_the_others_as_they_came() {
        let Message::Request(mut bye) = Message::parse(Bytes::from(BYE)).unwrap() else {
            panic!("is a request")
        };
        bye.headers.remove(HeaderName::FROM);
        bye.headers.push_front(HeaderName::VIA, "SIP/2.0/UDP us");
        let expected = BYE.replace("f: sip:a@h;tag=1\r\n", "").replace("v: ", "Via: SIP/2.0/UDP us\r\nv: ");
        assert_eq!(bye.to_bytes(), expected);
    }
}
