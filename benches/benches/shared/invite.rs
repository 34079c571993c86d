//! One INVITE, and the floor that parsers are held against. Shared by the benches here and beside the published crates.

/// An INVITE as a carrier sends it.
pub(crate) fn invite() -> String {
    let sdp = "v=0\r\no=- 482910 1 IN IP4 198.51.100.24\r\ns=a call through the example carrier\r\nc=IN IP4 198.51.100.24\r\nt=0 0\r\n\
        m=audio 30412 RTP/AVP 8 0 18 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
        a=rtpmap:18 G729/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\na=label:front-desk\r\n";
    format!(
        "INVITE sip:+15550199@voice.example.net:5060;transport=udp SIP/2.0\r\n\
        Via: SIP/2.0/UDP 198.51.100.24:5060;branch=z9hG4bK7c2a91e04b6d;rport\r\n\
        Max-Forwards: 70\r\n\
        From: \"Front Desk\" <sip:+15550123@carrier.example.org>;tag=8f31c7aa02\r\n\
        To: <sip:+15550199@voice.example.net>\r\n\
        Call-ID: 5d0e6b2f91a84c77@198.51.100.24\r\n\
        CSeq: 102 INVITE\r\n\
        Contact: <sip:+15550123@198.51.100.24:5060>\r\n\
        Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, UPDATE, INFO\r\n\
        Supported: timer, replaces, 100rel\r\n\
        User-Agent: ExampleCarrier SBC 7.4\r\n\
        X-Account: 7741-220\r\n\
        Content-Type: application/sdp\r\n\
        Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}

/// Name and value of every header line, and the body.
#[allow(dead_code)] // Only the test reads it; the bench pays for filling it.
pub(crate) struct Bare<'a> {
    pub(crate) start: &'a [u8],
    pub(crate) fields: [(&'a [u8], &'a [u8]); 32],
    pub(crate) count: usize,
    pub(crate) body: &'a [u8],
}

pub(crate) fn index(bytes: &[u8]) -> Option<Bare<'_>> {
    let start_end = memchr::memchr(b'\n', bytes)?;
    let mut at = start_end + 1;
    let mut fields = [(&b""[..], &b""[..]); 32];
    let mut count = 0;
    let mut length = None;
    loop {
        let mut end = at + memchr::memchr(b'\n', &bytes[at..])?;
        if end <= at + 1 {
            let body = &bytes[end + 1..];
            let body = &body[..length.unwrap_or(body.len()).min(body.len())];
            return Some(Bare { start: &bytes[..start_end], fields, count, body });
        }
        while matches!(bytes.get(end + 1), Some(b' ' | b'\t')) {
            end += 1 + memchr::memchr(b'\n', &bytes[end + 1..])?;
        }
        let line = &bytes[at..end];
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = (line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"Content-Length") || name.eq_ignore_ascii_case(b"l") {
            length = std::str::from_utf8(value).ok()?.parse().ok();
        }
        *fields.get_mut(count)? = (name, value);
        count += 1;
        at = end + 1;
    }
}
