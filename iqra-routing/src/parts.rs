//! An INVITE becomes what it asks, the input of the proxy's decision.

use std::borrow::Cow;
use std::net::IpAddr;

use iqra_sip::message::Host;
use iqra_sip::message::header::{CSeq, Via};
use iqra_sip::{HeaderName, Request};

use crate::identity::{Asked, BUSINESS_ID, Named, PHONE_ID};
use crate::sip::from_tag;
use crate::source::ViaHop;

/// The texts of a request that [`Asked`] borrows from.
pub(crate) struct Parts<'a> {
    user: Option<Cow<'a, str>>,
    uri_params: Vec<(&'a str, Cow<'a, str>)>,
    uri_headers: Vec<(&'a str, Cow<'a, str>)>,
    headers: Vec<(&'a str, Cow<'a, str>)>,
    call_id: Cow<'a, str>,
    from_tag: String,
    cseq: u32,
    branch: String,
    via: Vec<ViaHop>,
    peer: IpAddr,
}

/// The named values among [`Parts`], in the form that [`Asked`] takes.
pub(crate) struct Names<'a> {
    uri_params: Vec<Named<'a>>,
    uri_headers: Vec<Named<'a>>,
    headers: Vec<Named<'a>>,
}

impl<'a> Parts<'a> {
    /// Reads what identifies a call. What cannot be read is left out, and refused where it is needed.
    pub(crate) fn of(request: &'a Request, peer: IpAddr) -> Self {
        // Behind a Via that cannot be read nobody knows who wrote what: none of those counts.
        let via: Vec<Via> = request.headers.typed_all().map_while(Result::ok).collect();
        let uri = &request.uri;
        let decoded = |name: &str| uri.param_decoded(name).unwrap_or_default();
        let id_values = |name: &'static str| request.headers.all(name).map(move |value| (name, value));
        Self {
            user: uri.user_decoded(),
            uri_params: uri.params().filter(is_id).map(|(name, _)| (name, decoded(name))).collect(),
            uri_headers: uri
                .headers()
                .filter(|(name, _)| is_id(&(name, None)))
                .map(|(name, _)| (name, uri.header(name).unwrap_or_default()))
                .collect(),
            headers: id_values(BUSINESS_ID).chain(id_values(PHONE_ID)).collect(),
            call_id: request.headers.get(HeaderName::CALL_ID).unwrap_or_default(),
            from_tag: from_tag(&request.headers),
            cseq: request.headers.typed::<CSeq>().map(|cseq| cseq.number).unwrap_or_default(),
            branch: via.first().and_then(Via::branch).map(Cow::into_owned).unwrap_or_default(),
            via: via.iter().map(hop).collect(),
            peer,
        }
    }

    pub(crate) fn names(&self) -> Names<'_> {
        Names {
            uri_params: borrowed(&self.uri_params),
            uri_headers: borrowed(&self.uri_headers),
            headers: borrowed(&self.headers),
        }
    }

    pub(crate) fn asked<'b>(&'b self, names: &'b Names<'b>) -> Asked<'b> {
        Asked {
            user: self.user.as_deref(),
            uri_params: &names.uri_params,
            uri_headers: &names.uri_headers,
            headers: &names.headers,
            call_id: &self.call_id,
            from_tag: &self.from_tag,
            cseq: self.cseq,
            branch: &self.branch,
            peer: self.peer,
            via: &self.via,
        }
    }
}

fn is_id((name, _): &(&str, Option<&str>)) -> bool {
    name.eq_ignore_ascii_case(BUSINESS_ID) || name.eq_ignore_ascii_case(PHONE_ID)
}

fn borrowed<'a>(pairs: &'a [(&'a str, Cow<'a, str>)]) -> Vec<Named<'a>> {
    pairs.iter().map(|(name, value)| (*name, value.as_ref())).collect()
}

fn hop(via: &Via) -> ViaHop {
    let sent_by = match via.host() {
        Host::Ip(address) => Some(address),
        Host::Name(_) => None,
    };
    ViaHop { received: via.received(), sent_by }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use iqra_sip::Message;

    fn invite(uri: &str, extra: &str) -> Request {
        let text = format!(
            "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5062;branch=z9hG4bKa;received=198.51.100.4\r\n\
             Max-Forwards: 70\r\nFrom: <sip:ann@example.net>;tag=f1\r\nTo: <sip:bob@example.org>\r\n\
             Call-ID: c1\r\nCSeq: 7 INVITE\r\n{extra}Content-Length: 0\r\n\r\n"
        );
        match Message::parse(Bytes::from(text)).unwrap() {
            Message::Request(request) => request,
            Message::Response(_) => unreachable!("the text is a request"),
        }
    }

    #[test]
    fn a_request_becomes_what_it_asks() {
        let request =
            invite("sip:%2B15550100@192.0.2.1;x-business-id=b%31;X-PHONE-ID=p1", "X-Phone-Id: p2\r\n");
        let parts = Parts::of(&request, "198.51.100.4".parse().unwrap());
        let names = parts.names();
        let asked = parts.asked(&names);
        assert_eq!(asked.user, Some("+15550100"));
        assert_eq!(asked.uri_params, [("x-business-id", "b1"), ("X-PHONE-ID", "p1")]);
        assert_eq!(asked.headers, [("X-Phone-Id", "p2")]);
        assert_eq!((asked.call_id, asked.from_tag, asked.cseq, asked.branch), ("c1", "f1", 7, "z9hG4bKa"));
        assert_eq!(asked.via[0].received, Some("198.51.100.4".parse().unwrap()));
    }

    #[test]
    fn what_stands_below_an_unreadable_via_does_not_count() {
        let mut request = invite("sip:1@192.0.2.1", "");
        request.headers.push(HeaderName::VIA, "nonsense");
        request.headers.push(HeaderName::VIA, "SIP/2.0/UDP 203.0.113.1;branch=z9hG4bKb");
        let parts = Parts::of(&request, "198.51.100.4".parse().unwrap());
        let names = parts.names();
        assert_eq!(parts.asked(&names).via.len(), 1);
    }
}
