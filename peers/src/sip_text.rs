//! The little SIP that the scripted caller needs: read a message, look at its headers, cut a stream into messages.
//!
//! It is deliberately naive, and deliberately not the message layer under test.

use std::net::SocketAddr;

/// A received message.
#[derive(Clone, Debug)]
pub struct Text {
    /// The request line or status line.
    pub start: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Text {
    /// Reads one whole message; `None` when it has no header part.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((full_name(name.trim()), value.trim().to_owned()))
        };
        Some(Self { start, headers: lines.filter_map(header).collect(), body: body.to_owned() })
    }

    /// The status code of a response, else `None`.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The first header of that name, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        let named = self.headers.iter().find(|header| header.0.eq_ignore_ascii_case(name));
        named.map_or("", |header| header.1.as_str())
    }

    /// All headers of that name, in order.
    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |header| header.0.eq_ignore_ascii_case(name));
        named.map(|header| header.1.as_str())
    }

    /// The URI of the first Contact.
    ///
    /// # Panics
    /// When there is none.
    pub fn contact(&self) -> String {
        self.contacts().into_iter().next().unwrap_or_else(|| panic!("no Contact in {self:?}"))
    }

    /// The URIs of all Contact headers, in order.
    pub fn contacts(&self) -> Vec<String> {
        let values = self.headers("Contact").flat_map(|value| value.split(", <"));
        let uri = |value: &str| {
            value.split_once('>').map_or(value, |parts| parts.0).rsplit('<').next().map(str::to_owned)
        };
        values.filter_map(uri).collect()
    }

    /// The sequence number and method of CSeq.
    pub fn cseq(&self) -> (u32, &str) {
        let (number, method) = self.header("CSeq").split_once(' ').unwrap_or_default();
        (number.parse().unwrap_or_default(), method.trim())
    }

    /// Where the SDP in the body wants its audio: address and port.
    ///
    /// # Panics
    /// When it does not say.
    pub fn audio_address(&self) -> SocketAddr {
        let address = self.sdp("c=IN IP4 ").next().unwrap_or_default();
        let port = self.sdp("m=audio ").next().and_then(|line| line.split(' ').next()).unwrap_or_default();
        format!("{address}:{port}").parse().unwrap_or_else(|_| panic!("no audio address in {self:?}"))
    }

    /// The payload types of the audio line of the SDP in the body.
    pub fn audio_payloads(&self) -> Vec<u8> {
        let line = self.sdp("m=audio ").next().unwrap_or_default();
        line.split(' ').skip(2).filter_map(|word| word.parse().ok()).collect()
    }

    fn sdp<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.body.lines().filter_map(move |line| line.trim().strip_prefix(prefix))
    }
}

/// The host and port that a SIP URI with an IPv4 address names; 5060 when it names no port.
///
/// # Panics
/// When it names none.
pub fn address_of(uri: &str) -> SocketAddr {
    let rest = uri.split_once(':').map_or(uri, |parts| parts.1);
    let host = rest.rsplit_once('@').map_or(rest, |parts| parts.1);
    let host = host.split([';', '?']).next().unwrap_or_default();
    let address = host.parse().or_else(|_| format!("{host}:5060").parse());
    address.unwrap_or_else(|_| panic!("no IPv4 address in {uri:?}"))
}

/// Takes the first whole message off the front of what a stream brought, skipping keep-alive line ends.
pub fn take_framed(buffer: &mut Vec<u8>) -> Option<Text> {
    let lead = buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    buffer.drain(..lead);
    let head = buffer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let length: usize = Text::read(&buffer[..head])?.header("Content-Length").parse().unwrap_or(0);
    (buffer.len() >= head + length)
        .then(|| buffer.drain(..head + length).collect::<Vec<_>>())
        .and_then(|m| Text::read(&m))
}

/// The full name of the compact forms (RFC 3261 §7.3.3) that matter here.
fn full_name(name: &str) -> String {
    let full = match name {
        "v" => "Via",
        "f" => "From",
        "t" => "To",
        "i" => "Call-ID",
        "m" => "Contact",
        "l" => "Content-Length",
        "c" => "Content-Type",
        other => other,
    };
    full.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REDIRECT: &str = "SIP/2.0 302 Moved Temporarily\r\nVia: SIP/2.0/UDP a;branch=1\r\nVia: SIP/2.0/UDP b\r\n\
        t: <sip:x@y>;tag=9\r\nCSeq: 7 INVITE\r\nContact: <sip:a@127.0.0.1:5081;x=y>;q=0.9, <sip:127.0.0.2>;q=0.5\r\n\
        Content-Length: 5\r\n\r\nhello";

    #[test]
    fn a_response_is_read() {
        let text = Text::read(REDIRECT.as_bytes()).unwrap();
        assert_eq!(
            (text.status(), text.cseq(), text.header("to")),
            (Some(302), (7, "INVITE"), "<sip:x@y>;tag=9")
        );
        assert_eq!(text.headers("Via").count(), 2);
        assert_eq!(text.contacts(), ["sip:a@127.0.0.1:5081;x=y", "sip:127.0.0.2"]);
        assert_eq!(text.body, "hello");
    }

    #[test]
    fn addresses_are_found_in_uris_and_sdp() {
        assert_eq!(address_of("sip:a@127.0.0.1:5081;x=y"), "127.0.0.1:5081".parse().unwrap());
        assert_eq!(address_of("sip:127.0.0.2"), "127.0.0.2:5060".parse().unwrap());
        let sdp = "SIP/2.0 200 OK\r\n\r\nv=0\r\nc=IN IP4 127.0.0.9\r\nm=audio 4000 RTP/AVP 8 101\r\n";
        let text = Text::read(sdp.as_bytes()).unwrap();
        assert_eq!(text.audio_address(), "127.0.0.9:4000".parse().unwrap());
        assert_eq!(text.audio_payloads(), [8, 101]);
    }

    #[test]
    fn a_stream_is_cut_where_content_length_says() {
        let mut buffer = format!("\r\n\r\n{REDIRECT}{REDIRECT}").into_bytes();
        let end = buffer.split_off(buffer.len() - 3);
        assert!(take_framed(&mut buffer).is_some());
        assert!(take_framed(&mut buffer).is_none());
        buffer.extend(end);
        assert_eq!(take_framed(&mut buffer).unwrap().body, "hello");
        assert!(buffer.is_empty());
    }
}
