//! The messages of the double: requests as a profile words them, quirks included, so as text and not by the printer of
//! this crate.

use std::net::SocketAddr;

use bytes::Bytes;

use super::{Contact, Profile, SessionTimer, yes};
use crate::message::{HeaderName, Request, Uri};

/// The private address that leads nowhere (RFC 1918).
const PRIVATE: &str = "10.255.0.9:5060";

/// What a request is made of.
pub(super) struct Parts<'a> {
    pub(super) method: &'a str,
    pub(super) uri: &'a str,
    /// Values of Via, the topmost first.
    pub(super) vias: Vec<String>,
    pub(super) from_tag: &'a str,
    pub(super) to: String,
    pub(super) call_id: &'a str,
    pub(super) cseq: u32,
    /// Whole lines.
    pub(super) extra: String,
    /// A session description, or nothing.
    pub(super) body: &'a str,
}

pub(super) fn print(parts: &Parts<'_>) -> Bytes {
    let vias: String = parts.vias.iter().map(|via| format!("Via: {via}\r\n")).collect();
    let kind = if parts.body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    // The CSeq of an ACK or a CANCEL bears their own method with the number of the INVITE.
    let text = format!(
        "{method} {uri} SIP/2.0\r\n{vias}Max-Forwards: 69\r\nFrom: <sip:peer@peer.example>;tag={tag}\r\nTo: {to}\r\n\
         Call-ID: {call}\r\nCSeq: {cseq} {method}\r\n{extra}{kind}Content-Length: {length}\r\n\r\n{body}",
        method = parts.method,
        uri = parts.uri,
        tag = parts.from_tag,
        to = parts.to,
        call = parts.call_id,
        cseq = parts.cseq,
        extra = parts.extra,
        length = parts.body.len(),
        body = parts.body,
    );
    Bytes::from(text)
}

impl Profile {
    /// The URI as this peer writes it into a Request-URI.
    pub(super) fn request_uri(&self, uri: &Uri) -> String {
        if yes(self.lowers_uri_params) { lower_params(uri.as_str()) } else { uri.as_str().to_owned() }
    }

    /// The To of a first request.
    pub(super) fn to(&self, uri: &Uri) -> String {
        if yes(self.bare_to) { uri.as_str().to_owned() } else { format!("<{uri}>") }
    }

    /// Contact, and the Record-Routes that go with it, as lines.
    pub(super) fn contact_lines(&self, seen: SocketAddr, transport: &str) -> String {
        let param = self.contact_param.map(|fact| format!(";{}=5f3a", fact.value)).unwrap_or_default();
        let contact = |at: &str| format!("Contact: <sip:peer@{at}{param}>\r\n");
        match self.contact.map(|fact| fact.value) {
            None | Some(Contact::Reachable) => contact(&format!("{seen};transport={transport}")),
            Some(Contact::BehindNat) => contact(PRIVATE),
            Some(Contact::Invalid) => contact(&format!("df7jal23ls0d.invalid;transport={transport};ob")),
            Some(Contact::BehindRoutes) => format!(
                "Record-Route: <sip:{seen};lr;hop=2>\r\nRecord-Route: <sip:{seen};lr;hop=1>\r\n{}",
                contact(PRIVATE)
            ),
        }
    }

    /// What an INVITE says of session timers, as lines.
    pub(super) fn timer_lines(&self) -> String {
        match self.session_timer.map(|fact| fact.value) {
            None | Some(SessionTimer::None) => String::new(),
            Some(SessionTimer::Supported) => String::from("Supported: timer\r\n"),
            Some(SessionTimer::Asked { expires, minimum }) => {
                let minimum = if minimum == 0 { String::new() } else { format!("Min-SE: {minimum}\r\n") };
                format!("Supported: timer\r\nSession-Expires: {expires}\r\n{minimum}")
            }
        }
    }

    /// Whether a request inside a call finds its way to it: by the routes, and by the parameter of the Contact.
    pub(super) fn is_reached_by(&self, request: &Request) -> bool {
        let routed = self.contact.is_none_or(|fact| fact.value != Contact::BehindRoutes)
            || request.headers.all(HeaderName::ROUTE).count() > 0;
        routed && self.contact_param.is_none_or(|fact| request.uri.param(fact.value).is_some())
    }

    /// The Reason of its BYE and CANCEL, as a line.
    pub(super) fn reason_line(&self) -> &'static str {
        if yes(self.bye_reason) { "Reason: Q.850;cause=16\r\n" } else { "" }
    }

    /// A session description, PCMU and telephone events.
    pub(super) fn session(&self, seen: SocketAddr) -> String {
        let kind = if seen.is_ipv6() { "IP6" } else { "IP4" };
        let (ip, events) = (seen.ip(), self.telephone_event.map_or(101, |fact| fact.value));
        format!(
            "v=0\r\no=- 1 1 IN {kind} {ip}\r\ns=-\r\nc=IN {kind} {ip}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 {events}\r\n\
             a=rtpmap:{events} telephone-event/8000\r\n"
        )
    }
}

/// Lower-cases the names of the URI's parameters and leaves their values.
fn lower_params(uri: &str) -> String {
    let host = uri.find('@').map_or(0, |at| at + 1);
    let Some(params) = uri[host..].find(';').map(|at| host + at) else { return uri.to_owned() };
    let end = uri[params..].find('?').map_or(uri.len(), |at| params + at);
    let lower = |param: &str| match param.split_once('=') {
        Some((name, value)) => format!("{}={value}", name.to_ascii_lowercase()),
        None => param.to_ascii_lowercase(),
    };
    let lowered: Vec<_> = uri[params..end].split(';').map(lower).collect();
    format!("{}{}{}", &uri[..params], lowered.join(";"), &uri[end..])
}

#[cfg(test)]
mod tests {
    use super::lower_params;

    #[test]
    fn names_of_parameters_are_lowered_and_nothing_else() {
        for (given, lowered) in [
            ("sip:A;B=C@Host;X-Id=Q0;Flag?H=V", "sip:A;B=C@Host;x-id=Q0;flag?H=V"),
            ("sip:Host", "sip:Host"),
            ("sip:Host;LR", "sip:Host;lr"),
        ] {
            assert_eq!(lower_params(given), lowered);
        }
    }
}
