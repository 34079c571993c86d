//! A first look at the octets of a message, before anything is parsed: what kind it is and where it would be matched.
//!
//! Reads lines without allocating and believes nothing; what it gets wrong only puts a message into another bucket.

use memchr::memchr;

/// Lines that are looked at. A message of ours has a fraction of it.
const MAX_LINES: usize = 64;

/// What a message is, for its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A request outside any dialog: what costs most.
    New,
    /// A request inside a dialog, an ACK, or a CANCEL.
    Within,
    /// A response.
    Response,
}

/// What a signature or a bucket looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glance<'a> {
    pub(crate) kind: Kind,
    pub(crate) start_line: &'a [u8],
    pub(crate) user_agent: &'a [u8],
    pub(crate) head: &'a [u8],
}

impl<'a> Glance<'a> {
    pub(crate) fn at(message: &'a [u8]) -> Self {
        let (start_line, mut at) = line(message, 0);
        let method = start_line.split(|&b| b == b' ').next().unwrap_or_default();
        let mut glance = Glance { kind: Kind::New, start_line, user_agent: &[], head: message };
        let mut tagged = matches!(method, b"ACK" | b"CANCEL");
        for _ in 0..MAX_LINES {
            let (header, next) = line(message, at);
            if header.is_empty() {
                break;
            }
            if let Some(value) = value_of(header, b"To").or_else(|| value_of(header, b"t")) {
                tagged |= has_tag(value);
            } else if let Some(value) = value_of(header, b"User-Agent") {
                glance.user_agent = value;
            }
            at = next;
        }
        glance.head = &message[..at];
        if method == b"SIP/2.0" {
            glance.kind = Kind::Response;
        } else if tagged {
            glance.kind = Kind::Within;
        }
        glance
    }
}

/// The Call-ID of a message that may be malformed: the first there is.
pub(crate) fn call_id(message: &[u8]) -> Option<&str> {
    let (_, mut at) = line(message, 0);
    loop {
        let (header, next) = line(message, at);
        if header.is_empty() {
            return None;
        }
        if let Some(value) = value_of(header, b"Call-ID").or_else(|| value_of(header, b"i")) {
            return std::str::from_utf8(value).ok();
        }
        at = next;
    }
}

/// The line at `at` without its end, and where the next one starts.
fn line(message: &[u8], at: usize) -> (&[u8], usize) {
    let rest = message.get(at..).unwrap_or_default();
    let length = memchr(b'\n', rest).unwrap_or(rest.len());
    let line = &rest[..length];
    (line.strip_suffix(b"\r").unwrap_or(line), (at + length + 1).min(message.len()))
}

/// The value of a header line of this name, whatever its case.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let value = rest.trim_ascii_start().strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn has_tag(to: &[u8]) -> bool {
    finds(to, b";tag=") || finds(to, b"; tag=")
}

/// Whether `text` holds `lower`, which is in lower case, whatever the case of the text.
pub(crate) fn finds(text: &[u8], lower: &[u8]) -> bool {
    lower.is_empty() || text.windows(lower.len()).any(|window| window.eq_ignore_ascii_case(lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(message: &str) -> Kind {
        Glance::at(message.as_bytes()).kind
    }

    #[test]
    fn requests_outside_dialogs_inside_them_and_responses_are_told_apart() {
        assert_eq!(kind("INVITE sip:a@b SIP/2.0\r\nTo: <sip:a@b>\r\n\r\n"), Kind::New);
        assert_eq!(kind("INVITE sip:a@b SIP/2.0\r\nt : <sip:a@b>;TAG=x\r\n\r\n"), Kind::Within);
        assert_eq!(
            kind("BYE sip:a@b SIP/2.0\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>; tag=x\r\n\r\n"),
            Kind::Within
        );
        assert_eq!(kind("ACK sip:a@b SIP/2.0\r\nTo: <sip:a@b>\r\n\r\n"), Kind::Within);
        assert_eq!(kind("SIP/2.0 200 OK\r\nTo: <sip:a@b>;tag=1\r\n\r\n"), Kind::Response);
        assert_eq!(
            kind("OPTIONS sip:a@b SIP/2.0\r\nTo: <sip:a@b>\r\n\r\nTo: x;tag=1\r\n"),
            Kind::New,
            "body"
        );
        for nonsense in ["", "\r\n", ":", "INVITE", "\n\n\n", "To:;tag="] {
            assert_eq!(kind(nonsense), Kind::New, "{nonsense:?}");
        }
    }

    #[test]
    fn the_call_id_is_found_in_either_form_and_only_in_the_head() {
        assert_eq!(call_id(b"OPTIONS x SIP/2.0\r\ni: a1 \r\n\r\n"), Some("a1"));
        assert_eq!(call_id(b"OPTIONS x SIP/2.0\r\nCALL-ID : a2\r\n\r\n"), Some("a2"));
        assert_eq!(call_id(b"OPTIONS x SIP/2.0\r\n\r\nCall-ID: a2\r\n"), None);
    }
}
