//! Takes secrets out of a message before anyone stores it: digest credentials (RFC 3261 §22) and SDES media keys
//! (RFC 4568). Works on lines, so that malformed messages are redacted too.

use bytes::Bytes;

const SECRET_HEADERS: [&str; 4] =
    ["authorization:", "proxy-authorization:", "authentication-info:", "proxy-authentication-info:"];
const REPLACEMENT: &[u8] = b" [redacted]";

/// The message with its secrets replaced; the same buffer where it holds none.
#[must_use]
pub fn redact(message: &Bytes) -> Bytes {
    if !message.split_inclusive(|&b| b == b'\n').any(|line| secret_from(line).is_some()) {
        return message.clone();
    }
    let mut clean = Vec::with_capacity(message.len());
    let mut hiding = false;
    for line in message.split_inclusive(|&b| b == b'\n') {
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        if hiding && folded {
            continue;
        }
        match secret_from(line) {
            Some(start) => {
                clean.extend_from_slice(&line[..start]);
                clean.extend_from_slice(REPLACEMENT);
                clean.extend_from_slice(b"\r\n");
                hiding = true;
            }
            None => {
                clean.extend_from_slice(line);
                hiding = false;
            }
        }
    }
    Bytes::from(clean)
}

/// Where the secret of a line starts.
fn secret_from(line: &[u8]) -> Option<usize> {
    if line.starts_with(b"a=crypto:") {
        return Some(b"a=crypto:".len());
    }
    let colon = line.iter().position(|&b| b == b':')?;
    let name: Vec<u8> = line[..=colon].iter().filter(|b| !b.is_ascii_whitespace()).copied().collect();
    SECRET_HEADERS.iter().any(|secret| name.eq_ignore_ascii_case(secret.as_bytes())).then_some(colon + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_media_keys_go_and_everything_else_stays() {
        let message = Bytes::from_static(
            b"INVITE sip:a@b SIP/2.0\r\nproxy-authorization : Digest response=\"secret\",\r\n nonce=\"secret\"\r\n\
              Subject: secretary\r\n\r\na=crypto:1 AES inline:secret\r\na=sendrecv\r\n",
        );
        let clean = String::from_utf8(redact(&message).to_vec()).unwrap();
        assert!(!clean.contains("secret\""), "{clean}");
        assert!(!clean.contains("inline"), "{clean}");
        assert!(clean.contains("Subject: secretary\r\n\r\n") && clean.contains("a=sendrecv"), "{clean}");
    }

    #[test]
    fn a_message_without_secrets_is_not_copied() {
        let message = Bytes::from_static(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n");
        assert_eq!(redact(&message).as_ptr(), message.as_ptr());
    }
}
