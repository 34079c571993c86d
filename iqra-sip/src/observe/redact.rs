//! Takes secrets out of a message before anyone stores it: digest credentials (RFC 3261 §22) and what else a header or a
//! parameter calls a token, a password or a secret; passwords in URIs (RFC 3261 §19.1.1); media keys (RFC 4568, RFC 4566
//! §5.12, RFC 4567, RFC 8839 §5.4) and the keys that a caller presses (DTMF in INFO and NOTIFY bodies), alone or in a
//! part of a multipart body.
//!
//! Works on lines, so that malformed messages are redacted too; where it is open what a line belongs to, it is redacted.
//! The same message always gives the same result, and a body keeps its length, so that what is redacted still parses: a
//! capsule replays it.

use std::ops::Range;

use bytes::Bytes;
use memchr::memchr_iter;

use super::uris::uris_in;

/// How the names of headers and parameters end that carry secrets. Who holds an `X-CallQueue-Id` may answer or take the
/// call that it names.
const SECRET_NAMES: [&[u8]; 8] = [
    b"authorization",
    b"authentication-info",
    b"token",
    b"cookie",
    b"password",
    b"secret",
    b"api-key",
    b"callqueue-id",
];
const SECRET_LINES: [&[u8]; 4] = [b"a=crypto:", b"a=key-mgmt:", b"a=ice-pwd:", b"k="];
/// Types of bodies that name pressed keys.
const KEY_BODIES: [&[u8]; 5] = [
    b"application/dtmf",
    b"audio/telephone-event",
    b"application/vnd.nortelnetworks.digits",
    b"application/kpml-response",
    b"application/hook-flash",
];
const REPLACEMENT: &[u8] = b" [redacted]\r\n";
/// The longest duration of a key that is left in, in digits.
const DURATION_DIGITS: usize = 5;

/// The message with its secrets replaced; the same buffer where it holds none.
#[must_use]
pub fn redact(message: &Bytes) -> Bytes {
    let secrets = Secrets::of(message);
    if secrets.octets.is_empty() && secrets.values.is_empty() {
        return message.clone();
    }
    let mut clean = message.to_vec();
    for octets in secrets.octets {
        clean[octets].iter_mut().filter(|octet| !octet.is_ascii_whitespace()).for_each(|octet| *octet = b'x');
    }
    for value in secrets.values.into_iter().rev() {
        clean.splice(value, REPLACEMENT.iter().copied());
    }
    Bytes::from(clean)
}

/// What a message hides, and where the walk through it is.
#[derive(Default)]
struct Secrets {
    /// What becomes `x`.
    octets: Vec<Range<usize>>,
    /// Values of headers in the head, which has no length to keep.
    values: Vec<Range<usize>>,
    in_body: bool,
    /// A boundary was passed, and the head of its part has not ended.
    in_part_head: bool,
    multipart: bool,
    /// The body, or the part, names pressed keys.
    keys: bool,
}

impl Secrets {
    fn of(message: &[u8]) -> Self {
        let (mut secrets, mut at) = (Self::default(), 0);
        while at < message.len() {
            let end = field_end(message, at);
            secrets.read(message, at..end);
            at = end;
        }
        secrets
    }

    /// Reads a line with those that are folded into it.
    fn read(&mut self, message: &[u8], field: Range<usize>) {
        let text = &message[field.clone()];
        let (start, name) = (field.start, name_of(text));
        if text.trim_ascii().is_empty() {
            (self.in_body, self.in_part_head) = (true, false);
        } else if self.multipart && self.in_body && text.starts_with(b"--") {
            self.in_part_head = true;
        } else if let Some(colon) = name.filter(|colon| is_secret(&text[..*colon])) {
            let hides = if self.in_body { &mut self.octets } else { &mut self.values };
            hides.push(start + colon + 1..field.end);
            return;
        } else if let Some(colon) = name.filter(|colon| is_content_type(&text[..*colon])) {
            self.content_type(&text[colon + 1..]);
        } else if let Some(length) = secret_line(text) {
            self.octets.push(start + length..field.end);
        } else if self.in_body && self.keys && !(self.in_part_head && name.is_some()) {
            self.hide_keys(message, field.clone());
        }
        let password = |uri: super::uris::Found| start + uri.password.start..start + uri.password.end;
        self.octets.extend(uris_in(text).map(password).filter(|range| !range.is_empty()));
        self.octets.extend(secret_parameters(text).map(|range| start + range.start..start + range.end));
    }

    /// A second type in the head takes nothing back; that of a part does.
    fn content_type(&mut self, value: &[u8]) {
        let starts = |kind: &[u8]| {
            let mut octets = value.iter().filter(|octet| !octet.is_ascii_whitespace());
            kind.iter()
                .all(|expected| octets.next().is_some_and(|octet| octet.eq_ignore_ascii_case(expected)))
        };
        self.multipart |= starts(b"multipart/");
        self.keys = (self.keys && !self.in_part_head) || KEY_BODIES.iter().any(|kind| starts(kind));
    }

    fn hide_keys(&mut self, message: &[u8], field: Range<usize>) {
        let mut at = field.start;
        while at < field.end {
            let end = line_end(message, at);
            let start = keys_start(&message[at..end]);
            self.octets.push(at + start..end);
            at = end;
        }
    }
}

/// Where the line with those that are folded into it ends.
fn field_end(message: &[u8], at: usize) -> usize {
    let mut end = line_end(message, at);
    let blank = message[at..end].trim_ascii().is_empty();
    while !blank && matches!(message.get(end), Some(b' ' | b'\t')) {
        let next = line_end(message, end);
        if message[end..next].trim_ascii().is_empty() {
            break;
        }
        end = next;
    }
    end
}

/// Behind the line break, which may be a lone CR in what is malformed.
fn line_end(message: &[u8], at: usize) -> usize {
    match memchr::memchr2(b'\r', b'\n', &message[at..]).map(|length| at + length) {
        Some(cr) if message[cr..].starts_with(b"\r\n") => cr + 2,
        Some(other) => other + 1,
        None => message.len(),
    }
}

/// Where the colon stands behind the name of a header.
fn name_of(line: &[u8]) -> Option<usize> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii();
    let token = |octet: &u8| octet.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(octet);
    (!name.is_empty() && name.iter().all(token)).then_some(colon)
}

/// True for the name of a header or a parameter that carries a secret.
fn is_secret(name: &[u8]) -> bool {
    let name = name.trim_ascii();
    let ends = |end: &&[u8]| {
        name.len().checked_sub(end.len()).is_some_and(|start| name[start..].eq_ignore_ascii_case(end))
    };
    SECRET_NAMES.iter().any(ends)
}

fn is_content_type(name: &[u8]) -> bool {
    let name = name.trim_ascii();
    name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"c")
}

/// Where the secret of a session description's line starts.
fn secret_line(line: &[u8]) -> Option<usize> {
    let blank = line.len() - line.trim_ascii_start().len();
    let starts = |start: &&&[u8]| {
        line[blank..].get(..start.len()).is_some_and(|octets| octets.eq_ignore_ascii_case(start))
    };
    SECRET_LINES.iter().find(starts).map(|start| blank + start.len())
}

/// The values of parameters, and of headers in URIs, that carry secrets.
fn secret_parameters(text: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    memchr_iter(b'=', text).filter_map(|equals| {
        let name =
            text[..equals].rsplit(|octet| b";?&,".contains(octet) || octet.is_ascii_whitespace()).next()?;
        let quoted = text.get(equals + 1) == Some(&b'"');
        let start = equals + 1 + usize::from(quoted);
        let ends = |octet: &u8| match quoted {
            true => *octet == b'"',
            false => b";?&,<>\"".contains(octet) || octet.is_ascii_whitespace(),
        };
        let length = text[start..].iter().position(ends).unwrap_or(text.len() - start);
        (is_secret(name) && length > 0).then_some(start..start + length)
    })
}

/// `Signal=5` keeps its name, `Duration=160` all of it, and a bare `5` nothing.
fn keys_start(line: &[u8]) -> usize {
    let Some(equals) = memchr::memchr(b'=', line) else { return 0 };
    let (name, value) = (line[..equals].trim_ascii(), line[equals + 1..].trim_ascii());
    let duration = value.len() <= DURATION_DIGITS && name.eq_ignore_ascii_case(b"duration");
    match name.iter().any(|octet| octet.is_ascii_digit() || b"*#".contains(octet)) {
        true => 0,
        false if duration => line.len(),
        false => equals + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(message: &'static str) -> String {
        String::from_utf8(redact(&Bytes::from_static(message.as_bytes())).to_vec()).unwrap()
    }

    #[test]
    fn credentials_and_media_keys_go_and_everything_else_stays() {
        let clean = redacted(
            "INVITE sip:a@b SIP/2.0\r\nproxy-authorization : Digest response=\"secret\",\r\n nonce=\"secret\"\r\n\
             Subject: secretary\r\n\r\na=crypto:1 AES inline:secret\r\na=sendrecv\r\nk=clear:secret\r\n\
             a=ice-pwd:secret\r\n",
        );
        assert!(
            !clean.contains("secret\"") && !clean.contains("inline") && !clean.contains(":secret"),
            "{clean}"
        );
        assert!(clean.contains("Subject: secretary\r\n\r\n") && clean.contains("a=sendrecv"), "{clean}");
    }

    #[test]
    fn pressed_keys_go_and_the_body_keeps_its_length() {
        let relay = "INFO sip:a@b SIP/2.0\r\nc : Application/DTMF-Relay\r\n\r\nSignal=5\r\nDuration=160\r\n";
        assert!(redacted(relay).ends_with("\r\n\r\nSignal=x\r\nDuration=160\r\n"));
        let bare = "INFO sip:a@b SIP/2.0\r\nContent-Type: application/dtmf\r\n\r\n#";
        assert!(redacted(bare).ends_with("\r\n\r\nx"));
        for message in [relay, bare] {
            assert_eq!(redacted(message).len(), message.len());
        }
        let text = "MESSAGE sip:a@b SIP/2.0\r\nContent-Type: text/plain\r\n\r\nSignal=5";
        assert_eq!(redacted(text), text);
    }

    #[test]
    fn keys_are_found_in_parts_and_under_folded_and_spaced_types() {
        let parts = "INFO sip:a@b SIP/2.0\r\nContent-Type: multipart/mixed;boundary=b\r\n\r\n--b\r\n\
                     Content-Type: application/dtmf-relay\r\nContent-ID: <1>\r\n\r\nSignal=5\r\n--b\r\n\
                     Content-Type: application/sdp\r\n\r\nv=0\r\na=crypto:1 k\r\n--b--\r\n";
        let clean = parts.replace("Signal=5", "Signal=x").replace("crypto:1 k", "crypto:x x");
        assert_eq!(redacted(parts), clean);
        for head in ["Content-Type:\r\n application/dtmf", "c: application /\r\n\tdtmf-relay ;x=y"] {
            let message = format!("INFO sip:a@b SIP/2.0\r\n{head}\r\n\r\n5 1\r\n 7=3\r\n");
            let clean = redact(&Bytes::from(message));
            assert!(clean.ends_with(b"\r\n\r\nx x\r\n xxx\r\n"), "{clean:?}");
        }
        let lone = "INFO sip:a@b SIP/2.0\rAuthorization: Digest k\rSubject: s\r\rtext";
        assert!(!redacted(lone).contains("Digest"), "lone CRs");
    }

    #[test]
    fn passwords_and_tokens_in_uris_go_and_the_uri_keeps_its_length() {
        let message = "REFER sip:alice:pw1@h SIP/2.0\r\nRefer-To: <sip:bob:pw2@h?Authorization=Digest%20k>\r\n\
                       m: <sip:a@h;access_token=abc;x=1>, \"c:d\" <sips:c:p,w@h:5061>\r\nX-Api-Token: tok\r\n\r\n\
                       sip:d:pw3@h";
        let clean = "REFER sip:alice:xxx@h SIP/2.0\r\nRefer-To: <sip:bob:xxx@h?Authorization=xxxxxxxxxx>\r\n\
                     m: <sip:a@h;access_token=xxx;x=1>, \"c:d\" <sips:c:xxx@h:5061>\r\nX-Api-Token: [redacted]\r\n\r\n\
                     sip:d:xxx@h";
        assert_eq!(redacted(message), clean);
        let fragment = "NOTIFY sip:a@b SIP/2.0\r\n\r\nSIP/2.0 200 OK\r\nAuthorization: Digest k\r\n";
        assert!(redacted(fragment).ends_with("\r\nAuthorization: xxxxxx x\r\n"), "in a body");
    }

    #[test]
    fn the_token_of_a_queued_call_goes_wherever_it_stands() {
        let message = "INVITE sip:n@h;X-CallQueue-Id=1.abc-_;user=phone SIP/2.0\r\n\
                       m: <sip:n@h?x-callqueue-id=1.abc-_&a=b>\r\nX-CallQueue-Id: 1.abc-_\r\n\r\n";
        let clean = "INVITE sip:n@h;X-CallQueue-Id=xxxxxxx;user=phone SIP/2.0\r\n\
                     m: <sip:n@h?x-callqueue-id=xxxxxxx&a=b>\r\nX-CallQueue-Id: [redacted]\r\n\r\n";
        assert_eq!(redacted(message), clean);
    }

    #[test]
    fn what_is_redacted_stays_as_it_is_when_it_is_redacted_again() {
        let message =
            Bytes::from_static(b"INVITE x SIP/2.0\r\nAuthorization: Digest a\r\n\r\na=crypto:1 x inline:k");
        let once = redact(&message);
        assert_eq!(redact(&once), once);
    }

    #[test]
    fn a_message_without_secrets_is_not_copied() {
        let message = Bytes::from_static(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n");
        assert_eq!(redact(&message).as_ptr(), message.as_ptr());
    }
}
