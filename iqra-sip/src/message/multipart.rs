//! Bodies of several parts (RFC 5621, RFC 2046 §5.1): an offer may come with other data around it, and then stands in
//! one part of a `multipart/mixed` body.

use std::fmt;

use bytes::Bytes;

use super::header::ContentType;
use super::headers::{Field, Headers};
use crate::framing::{self, HeaderLine};
use crate::lines::Lines;

/// Parts that are read of one body; more are left out.
const MOST_PARTS: usize = 32;

/// Levels of multipart bodies within each other that are looked into.
const MOST_LEVELS: usize = 4;

/// One part of a body. Its `Debug` shows no more of the octets than their count.
#[derive(Clone, PartialEq, Eq)]
pub struct Part {
    /// The part's own headers: Content-Type, Content-Disposition, Content-ID and the like.
    pub headers: Headers,
    /// Its octets.
    pub body: Bytes,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({:?} body {})", self.headers, self.body.len())
    }
}

/// The first body of a media type: the whole body where `Content-Type` says so, else the first such part of a multipart
/// body, which may stand within another. `None` where there is none.
#[must_use]
pub fn find(headers: &Headers, body: &Bytes, kind: &str, subtype: &str) -> Option<Bytes> {
    find_within(headers, body, (kind, subtype), MOST_LEVELS)
}

fn find_within(headers: &Headers, body: &Bytes, wanted: (&str, &str), levels: usize) -> Option<Bytes> {
    let content: ContentType = headers.typed().ok()?;
    if content.is(wanted.0, wanted.1) {
        return Some(body.clone());
    }
    if levels == 0 {
        return None;
    }
    parts(&content, body).iter().find_map(|part| find_within(&part.headers, &part.body, wanted, levels - 1))
}

/// The parts of a multipart body in order. Empty where the type is no multipart, names no boundary, or the boundary
/// does not stand in the body; a part without its closing boundary is left out, and so is one whose headers cannot be
/// read.
#[must_use]
pub fn parts(content: &ContentType, body: &Bytes) -> Vec<Part> {
    let boundary =
        content.params.value("boundary").filter(|_| content.kind().eq_ignore_ascii_case("multipart"));
    let Some(boundary) = boundary.filter(|boundary| !boundary.is_empty()) else { return Vec::new() };
    let delimiter = format!("\r\n--{boundary}");
    let mut found = Vec::new();
    let mut from = match body.starts_with(&delimiter.as_bytes()[2..]) {
        true => delimiter.len() - 2,
        false => match memchr::memmem::find(body, delimiter.as_bytes()) {
            Some(at) => at + delimiter.len(),
            None => return found,
        },
    };
    while found.len() < MOST_PARTS && !body[from..].starts_with(b"--") {
        // White space may stand behind the boundary.
        let Some(line) = memchr::memmem::find(&body[from..], b"\r\n") else { break };
        let start = from + line;
        let Some(length) = memchr::memmem::find(&body[start..], delimiter.as_bytes()) else { break };
        found.extend(part(body.slice((start + 2).min(start + length)..start + length)));
        from = start + length + delimiter.len();
    }
    found
}

/// Headers, an empty line, and the rest.
fn part(bytes: Bytes) -> Option<Part> {
    let mut fields: Vec<Field> = Vec::new();
    let mut lines = Lines::new(&bytes);
    let mut at = 0;
    let body = loop {
        match framing::header_line(&mut lines, at).ok()? {
            HeaderLine::End { body } => break body,
            HeaderLine::Unreadable { next } => at = next,
            HeaderLine::Field(field) => {
                at = field.end as usize + 2;
                fields.push(field);
            }
        }
    };
    let body = bytes.slice(body..);
    Some(Part { headers: Headers::from_wire(bytes, fields), body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(content_type: &str, text: &str) -> Option<String> {
        let mut headers = Headers::new();
        headers.push("Content-Type", content_type);
        let found = find(&headers, &Bytes::from(text.to_owned()), "application", "sdp")?;
        Some(String::from_utf8(found.to_vec()).unwrap())
    }

    #[test]
    fn an_offer_is_found_alone_and_among_other_parts() {
        assert_eq!(body("application/sdp", "v=0\r\n").unwrap(), "v=0\r\n");
        let mixed = "preamble\r\n--b1 \r\nContent-Type: text/plain\r\n\r\nhello\r\n\
            --b1\r\nc: application/SDP\r\nContent-Disposition: session\r\n\r\nv=0\r\ns=-\r\n\r\n--b1--\r\nepilogue";
        assert_eq!(body("multipart/mixed;boundary=\"b1\"", mixed).unwrap(), "v=0\r\ns=-\r\n");
        let nested = format!("--o\r\nContent-Type: multipart/mixed;boundary=b1\r\n\r\n{mixed}\r\n--o--");
        assert_eq!(body("multipart/related; boundary=o", &nested).unwrap(), "v=0\r\ns=-\r\n");
    }

    #[test]
    fn what_is_no_multipart_has_no_parts() {
        for (content_type, text) in [
            ("text/plain", "v=0"),
            ("multipart/mixed", "--b1\r\n\r\nx\r\n--b1--"),
            ("multipart/mixed;boundary=b1", "nothing"),
            ("multipart/mixed;boundary=b1", "--b1"),
            ("multipart/mixed;boundary=b1", "--b1\r\n"),
            ("multipart/mixed;boundary=b1", "--b1\r\n--b1--"),
            ("multipart/mixed;boundary=b1", "--b1\r\nContent-Type: application/sdp\r\n\r\nunclosed"),
        ] {
            assert_eq!(body(content_type, text), None, "{content_type} {text}");
        }
    }
}
