//! A first look at the octets of a message, before anything is parsed: what it claims to be and where it would be matched.
//!
//! Lines, names and the tag of To are read by the functions of the parser, so that a fold, a quoted `;tag=`, an empty line
//! in front or a hundred headers show the guard what the parser will see. Nothing is allocated. That a message claims to
//! be inside a dialog is not believed: the engine asks again ([`Guard::judge_stray`](super::Guard::judge_stray)) where it
//! knows no such dialog.

use memchr::memchr;

use crate::framing::{self, HeaderLine};
use crate::lines::Lines;
use crate::message::grammar::{Cursor, is_space};
use crate::message::{Known, Limits, name_addr};

/// What a message claims to be, for its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A request outside any dialog: what costs most.
    New,
    /// A request with a tag in To, an ACK, or a CANCEL.
    Within,
    /// A response.
    Response,
    /// A STUN Binding request, which keeps a flow open (RFC 5626 §4.4.2).
    KeepAlive,
}

impl Kind {
    /// What a SIP message claims to be, within the default [`Limits`](crate::message::Limits).
    #[must_use]
    pub fn of(message: &[u8]) -> Kind {
        Glance::at(message).kind
    }
}

/// What a signature or a bucket looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glance<'a> {
    pub(crate) kind: Kind,
    pub(crate) start_line: &'a [u8],
    /// From the first User-Agent to the end of the last: the value of the one that there should be.
    pub(crate) user_agent: &'a [u8],
    pub(crate) head: &'a [u8],
}

impl<'a> Glance<'a> {
    /// By the default limits.
    pub(crate) fn at(message: &'a [u8]) -> Self {
        Self::within(message, Limits::DEFAULT.headers)
    }

    /// Looks at so many header lines.
    pub(crate) fn within(message: &'a [u8], headers: usize) -> Self {
        let mut lines = Lines::new(message);
        let begin = framing::skip_empty_lines(message);
        // The parser refuses what has no line or an unfit break in it.
        let end = lines.end(begin).unwrap_or(message.len());
        let start_line = &message[begin..end];
        let mut glance = Glance { kind: claim(start_line), start_line, user_agent: &[], head: message };
        let (mut at, mut agent) = ((end + 2).min(message.len()), None);
        for _ in 0..=headers {
            match framing::header_line(&mut lines, at) {
                Ok(HeaderLine::Field(field)) => {
                    let value = field.value_range();
                    match field.known {
                        Some(Known::To) if glance.kind == Kind::New && has_tag(&message[value.clone()]) => {
                            glance.kind = Kind::Within;
                        }
                        Some(Known::UserAgent) => {
                            glance.user_agent = &message[*agent.get_or_insert(value.start)..value.end];
                        }
                        _ => {}
                    }
                    at = field.end as usize + 2;
                }
                Ok(HeaderLine::Unreadable { next }) => at = next,
                Ok(HeaderLine::End { .. }) | Err(_) => break,
            }
        }
        glance.head = &message[begin..at.max(begin)];
        glance
    }
}

/// What the first line says by itself.
fn claim(start_line: &[u8]) -> Kind {
    if start_line.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"SIP/")) {
        return Kind::Response;
    }
    match start_line.split(|&b| b == b' ').next() {
        Some(b"ACK" | b"CANCEL") => Kind::Within,
        _ => Kind::New,
    }
}

/// Whether this value of To has a tag behind its address; one in quotes, or of the URI, is none.
fn has_tag(to: &[u8]) -> bool {
    let mut cursor = Cursor::new(to);
    let Ok(params) = name_addr::scan_params(&mut cursor) else { return false };
    let mut params = Cursor::new(&to[params]);
    while let Ok(Some(param)) = params.param() {
        if params.bytes[param.name].eq_ignore_ascii_case(b"tag") {
            return param.value.is_some();
        }
    }
    false
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

/// The one Call-ID of a message; none where it has none, or two lines of them, or one of several words. Long header
/// fields may go on in the next line (RFC 3261 §7.3.1).
#[cfg(feature = "tokio")]
pub(crate) fn only_call_id<'a>(message: &'a [u8], limits: &Limits) -> Option<&'a [u8]> {
    only(message, &[b"Call-ID", b"i"], limits).filter(|value| !value.is_empty() && !value.contains(&b' '))
}

/// The one value of a header field by any of its names, as [`only_call_id`] has it.
#[cfg(feature = "tokio")]
pub(crate) fn only<'a>(message: &'a [u8], names: &[&[u8]], limits: &Limits) -> Option<&'a [u8]> {
    let (_, mut at) = line(message, 0);
    let mut found = None;
    // The field that is being read is the one.
    let (mut open, mut headers) = (false, 0);
    while at < limits.head_bytes && headers <= limits.headers {
        let (header, next) = line(message, at);
        let Some(first) = header.first() else { return found };
        headers += usize::from(!matches!(first, b' ' | b'\t'));
        if matches!(first, b' ' | b'\t') {
            match (open, header.trim_ascii()) {
                (false, _) | (true, b"") => {}
                (true, more) if found == Some(&[][..]) => found = Some(more),
                (true, _) => return None,
            }
        } else if let Some(value) = names.iter().find_map(|name| value_of(header, name)) {
            if found.replace(value).is_some() {
                return None;
            }
            open = true;
        } else {
            open = false;
        }
        at = next;
    }
    // The parser refuses it for its length.
    None
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

/// Whether `text` holds `lower`, which is in lower case, whatever the case of the text. A space stands for any white
/// space, folds included (RFC 3261 §7.3.1).
pub(crate) fn finds(text: &[u8], lower: &[u8]) -> bool {
    let Some((&first, rest)) = lower.split_first() else { return true };
    let starts = |at: usize| text[at].to_ascii_lowercase() == first && begins(&text[at + 1..], rest);
    match first {
        b' ' => (0..text.len()).any(|at| is_space(text[at]) && begins(&text[at + 1..], rest)),
        _ => (0..text.len()).any(starts),
    }
}

fn begins(mut text: &[u8], lower: &[u8]) -> bool {
    for &b in lower {
        let Some((&next, rest)) = text.split_first() else { return false };
        text = match b {
            b' ' if is_space(next) => rest.trim_ascii_start(),
            _ if next.to_ascii_lowercase() == b => rest,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(message: &str) -> Kind {
        Kind::of(message.as_bytes())
    }

    fn to(method: &str, to: &str) -> Kind {
        kind(&format!("{method} sip:a@b SIP/2.0\r\n{to}\r\nCall-ID: 1\r\n\r\nTo: x;tag=1\r\n"))
    }

    #[test]
    fn requests_outside_dialogs_inside_them_and_responses_are_told_apart() {
        for within in [
            "t : <sip:a@b>;TAG=x",
            "From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>; tag=x",
            "To: <sip:a@b>;  tag=x",
            "To: <sip:a@b>;\ttag=x",
            "To: <sip:a@b>;tag =x",
            "To: <sip:a@b>;x=\";tag\";tag=\t\"x\"",
            "To: <sip:a@b>\r\n ;tag=x",
            "To:\r\n\t<sip:a@b>\r\n ;\r\n tag\r\n =\r\n x",
            "To: sip:a@b;tag=x",
            "To: sip:a;tag=1@b",
        ] {
            assert_eq!(to("INVITE", within), Kind::Within, "{within:?}");
        }
        for new in [
            "To: <sip:a@b>",
            "To: \";tag=\" <sip:a@b>",
            "To: \"\\\";tag=\" <sip:a@b>",
            "To: <sip:a;tag=1@b>",
            "To: <sip:a@b;tag=1>",
            "To: <sip:a@b>;x=\";tag=1\"",
            "To: <sip:a@b>;tag",
            "To: <sip:a@b>;mytag=1",
            "From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>",
            "X-To: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nTo2: <sip:a@b>;tag=2",
        ] {
            assert_eq!(to("INVITE", new), Kind::New, "{new:?}");
        }
        assert_eq!(to("ACK", "To: <sip:a@b>"), Kind::Within);
        assert_eq!(to("CANCEL", "To: <sip:a@b>"), Kind::Within);
        let far = format!("{}To: <sip:a@b>;tag=x", "X-A: b\r\n".repeat(200));
        assert_eq!(to("BYE", &far), Kind::Within, "behind 200 lines");
        assert_eq!(kind("sip/2.0 200 OK\r\nTo: <sip:a@b>;tag=1\r\n\r\n"), Kind::Response);
        assert_eq!(kind("\r\n\r\nBYE sip:a@b SIP/2.0\r\nTo: <sip:a@b>;tag=1\r\n\r\n"), Kind::Within);
        for nonsense in ["", "\r\n", ":", "INVITE", "\n\n\n", "To:;tag=", "INVITE\r", "x\r\nTo: <sip:a@b"] {
            assert_eq!(kind(nonsense), Kind::New, "{nonsense:?}");
        }
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn only_a_call_id_that_stands_alone_says_whose_a_message_is() {
        let of = |head: &str| {
            let message = format!("OPTIONS x SIP/2.0\r\n{head}\r\n\r\ni: body\r\n");
            only_call_id(message.as_bytes(), &Limits::DEFAULT)
                .map(|found| String::from_utf8(found.to_vec()).unwrap())
        };
        for usable in
            ["Call-ID: a@b", "i:a@b", "To: x\r\nI : a@b ", "call-id:\r\n a@b", "i: a@b\r\n \r\nTo: x"]
        {
            assert_eq!(of(usable).as_deref(), Some("a@b"), "{usable:?}");
        }
        for unusable in [
            "To: x",
            "i:",
            "i: a\r\ni: a",
            "i: a\r\nCall-ID: b",
            "i: a b",
            "i: a\r\n b",
            " i: a",
            "x: y\r\n i: a",
        ] {
            assert_eq!(of(unusable), None, "{unusable:?}");
        }
        assert_eq!(of(""), None);
        assert_eq!(only_call_id(b"", &Limits::DEFAULT), None);
    }

    #[test]
    fn one_looks_as_far_as_the_parser_reads() {
        let wide = Limits { headers: 300, ..Limits::DEFAULT };
        let message =
            format!("BYE x SIP/2.0\r\n{}i: a\r\nTo: <sip:a@b>;tag=x\r\n\r\n", "X-A: b\r\n".repeat(290));
        let kind = |limits: &Limits| Glance::within(message.as_bytes(), limits.headers).kind;
        assert_eq!((kind(&Limits::DEFAULT), kind(&wide)), (Kind::New, Kind::Within));
        #[cfg(feature = "tokio")]
        {
            assert_eq!(only_call_id(message.as_bytes(), &Limits::DEFAULT), None);
            assert_eq!(only_call_id(message.as_bytes(), &wide), Some(&b"a"[..]));
        }
    }

    #[test]
    fn a_text_is_found_across_folds_and_in_any_case() {
        assert!(finds(b"a Scan\r\n\t  Tool/1", b"scan tool"));
        assert!(finds(b"x\r\n y", b" y") && finds(b"xay", b"ay") && finds(b"x", b""));
        assert!(!finds(b"scantool", b"scan tool") && !finds(b"scan ", b"scan tool") && !finds(b"", b"x"));
    }

    #[test]
    fn the_call_id_is_found_in_either_form_and_only_in_the_head() {
        assert_eq!(call_id(b"OPTIONS x SIP/2.0\r\ni: a1 \r\n\r\n"), Some("a1"));
        assert_eq!(call_id(b"OPTIONS x SIP/2.0\r\nCALL-ID : a2\r\n\r\n"), Some("a2"));
        assert_eq!(call_id(b"OPTIONS x SIP/2.0\r\n\r\nCall-ID: a2\r\n"), None);
    }
}
