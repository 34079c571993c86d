//! From a message to its octets. Untouched headers are copied as they came; Content-Length always states the body
//! that follows, whatever the headers say.

use bytes::Bytes;

use super::headers::Headers;
use super::name::Known;
use super::request::Request;
use super::response::Response;

pub(crate) fn request(request: &Request) -> Bytes {
    let (method, uri) = (request.method.as_str().as_bytes(), request.uri.as_str().as_bytes());
    message(&[method, b" ", uri, b" SIP/2.0\r\n"], &request.headers, &request.body)
}

pub(crate) fn response(response: &Response) -> Bytes {
    let reason = response.reason.clone().in_one_line();
    let mut digits = Digits::default();
    let status = digits.of(response.status.code().into());
    message(&[b"SIP/2.0 ", status, b" ", reason.as_bytes(), b"\r\n"], &response.headers, &response.body)
}

/// Measures, then writes into a buffer of just that length.
fn message(start_line: &[&[u8]], headers: &Headers, body: &Bytes) -> Bytes {
    let mut digits = Digits::default();
    let length = digits.of(body.len());
    let mut size = body.len();
    parts(start_line, headers, length, &mut |part| size += part.len());
    let mut out = Vec::with_capacity(size);
    parts(start_line, headers, length, &mut |part| out.extend_from_slice(part));
    out.extend_from_slice(body);
    Bytes::from(out)
}

/// Start line, headers and the empty line, in pieces. Header lines that stand side by side in the buffer they came in
/// are one piece. A Content-Length that tells the truth prints where it stands, any other is left out.
fn parts<'a>(start_line: &[&'a [u8]], headers: &'a Headers, length: &'a [u8], put: &mut impl FnMut(&[u8])) {
    start_line.iter().for_each(|part| put(part));
    let (mut measured, mut run) = (false, 0..0);
    for field in headers.fields() {
        if field.is(Known::ContentLength) {
            if measured || headers.value(field) != length {
                continue;
            }
            measured = true;
        }
        let line = if field.is_owned { 0..0 } else { field.line_range() };
        if line.start == run.end && !field.is_owned {
            run.end = line.end;
            continue;
        }
        put(&headers.wire()[std::mem::replace(&mut run, line)]);
        if field.is_owned {
            let name = headers.name(field);
            [name.as_str().as_bytes(), b": ", headers.value(field), b"\r\n"].into_iter().for_each(&mut *put);
        }
    }
    put(&headers.wire()[run]);
    if !measured {
        [b"Content-Length: ", length, b"\r\n"].into_iter().for_each(&mut *put);
    }
    put(b"\r\n");
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
