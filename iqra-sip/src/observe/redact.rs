//! Takes secrets out of a message before anyone stores it: digest credentials (RFC 3261 §22), media keys (RFC 4568,
//! RFC 4566 §5.12, RFC 4567, RFC 8839 §5.4) and the keys that a caller presses (DTMF in INFO and NOTIFY bodies).
//!
//! Works on lines, so that malformed messages are redacted too. The same message always gives the same result, and a
//! body keeps its length, so that what is redacted still parses: a capsule replays it.

use bytes::Bytes;

const SECRET_HEADERS: [&[u8]; 4] =
    [b"authorization", b"proxy-authorization", b"authentication-info", b"proxy-authentication-info"];
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

/// The message with its secrets replaced; the same buffer where it holds none.
#[must_use]
pub fn redact(message: &Bytes) -> Bytes {
    let head = head_length(message);
    let (names, keys) = (&message[..head], names_keys(&message[..head]));
    let secret_head = lines(names).any(|line| secret_header(line).is_some());
    let secret_body = keys || lines(message).any(|line| secret_line(line).is_some());
    if !secret_head && !secret_body {
        return message.clone();
    }
    let mut clean = redact_head(names);
    for line in lines(&message[head..]) {
        match secret_line(line) {
            Some(start) => hide(line, start, &mut clean),
            None if keys => hide_keys(line, &mut clean),
            None => clean.extend_from_slice(line),
        }
    }
    Bytes::from(clean)
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&b| b == b'\n')
}

/// Where the body begins.
fn head_length(message: &[u8]) -> usize {
    let mut length = 0;
    for line in lines(message) {
        length += line.len();
        if line.trim_ascii().is_empty() {
            break;
        }
    }
    length
}

fn redact_head(head: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(head.len());
    let mut hiding = false;
    for line in lines(head) {
        if hiding && matches!(line.first(), Some(b' ' | b'\t')) {
            continue;
        }
        let secret = secret_header(line);
        hiding = secret.is_some();
        clean.extend_from_slice(&line[..secret.unwrap_or(line.len())]);
        if hiding {
            clean.extend_from_slice(REPLACEMENT);
        }
    }
    clean
}

/// Where the value of a secret header starts.
fn secret_header(line: &[u8]) -> Option<usize> {
    let colon = line.iter().position(|&b| b == b':')?;
    let name = line[..colon].trim_ascii();
    SECRET_HEADERS.iter().any(|secret| name.eq_ignore_ascii_case(secret)).then_some(colon + 1)
}

/// Where the secret of a body's line starts.
fn secret_line(line: &[u8]) -> Option<usize> {
    SECRET_LINES.iter().find(|start| line.starts_with(start)).map(|start| start.len())
}

/// True where the Content-Type says that the body names pressed keys.
fn names_keys(head: &[u8]) -> bool {
    lines(head).any(|line| {
        let Some(colon) = line.iter().position(|&b| b == b':') else { return false };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii_start());
        let content_type = name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"c");
        let starts = |kind: &&[u8]| value.get(..kind.len()).is_some_and(|v| v.eq_ignore_ascii_case(kind));
        content_type && KEY_BODIES.iter().any(starts)
    })
}

/// `Signal=5` keeps its name, `Duration=160` all of it, and a bare `5` nothing.
fn hide_keys(line: &[u8], clean: &mut Vec<u8>) {
    let start = line.iter().position(|&b| b == b'=').map_or(0, |equals| equals + 1);
    if line.get(..8).is_some_and(|name| name.eq_ignore_ascii_case(b"duration")) {
        clean.extend_from_slice(line);
    } else {
        hide(line, start, clean);
    }
}

/// Everything visible from `start` on becomes `x`.
fn hide(line: &[u8], start: usize, clean: &mut Vec<u8>) {
    clean.extend_from_slice(&line[..start]);
    clean.extend(line[start..].iter().map(|&b| if b.is_ascii_whitespace() { b } else { b'x' }));
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
