//! The topmost Via of a request that came in: what we saw is written into it, and where the response goes follows
//! from it (RFC 3261 §18.2.1, §18.2.2; RFC 3581 §4).

use std::net::SocketAddr;

use super::flow::{Flow, Transport};
use crate::message::grammar::element_end;
use crate::message::header::Via;
use crate::message::{HeaderError, HeaderName, Host, Request};

/// Where responses to one request go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplyPath {
    pub(crate) flow: Flow,
    pub(crate) fallback: Option<Flow>,
}

/// Fills `received` and `rport` into the topmost Via and says where responses go.
///
/// `maddr` is not followed (RFC 3261 §18.2.2 would have it): it would let anyone aim our responses at a third party, and
/// no unicast client sends it.
pub(crate) fn receive(request: &mut Request, flow: &Flow) -> Result<(Via, ReplyPath), HeaderError> {
    let via: Via = request.headers.typed()?;
    let source = flow.remote;
    let wants_port = via.rport().is_some();
    let differs = via.host() != Host::Ip(source.ip());
    if wants_port || differs {
        let mut seen = via.clone();
        seen.params.set("received", Some(&source.ip().to_string()));
        if wants_port {
            seen.params.set("rport", Some(&source.port().to_string()));
        }
        let line = request.headers.raw(HeaderName::VIA).unwrap_or_default();
        let mut text = String::with_capacity(line.len() + 64);
        seen.print(&mut text);
        text.push_str(&String::from_utf8_lossy(&line[element_end(line)..]));
        request.headers.set_first(HeaderName::VIA, text);
    }
    let path = reply_path(&via, flow);
    Ok((via, path))
}

/// RFC 3261 §18.2.2: on UDP to the source address and, without `rport`, the port of sent-by; on a stream by the
/// connection, else by a new one to sent-by's port.
fn reply_path(via: &Via, flow: &Flow) -> ReplyPath {
    let port = via.port.unwrap_or(flow.transport.default_port());
    let sent_by = SocketAddr::new(flow.remote.ip(), port);
    match flow.transport {
        Transport::Udp if via.rport().is_some() => ReplyPath { flow: *flow, fallback: None },
        Transport::Udp => ReplyPath { flow: Flow { remote: sent_by, ..*flow }, fallback: None },
        // A WebSocket client cannot be called back.
        Transport::Ws | Transport::Wss => ReplyPath { flow: *flow, fallback: None },
        Transport::Tcp | Transport::Tls => {
            let fallback = Flow { remote: sent_by, connection: None, ..*flow };
            ReplyPath { flow: *flow, fallback: Some(fallback) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn received(via: &str, transport: Transport) -> (String, ReplyPath) {
        let text = format!(
            "OPTIONS sip:a@192.0.2.1 SIP/2.0\r\nVia: {via}\r\nFrom: <sip:b@c>;tag=1\r\nTo: <sip:a@c>\r\n\
             Call-ID: x\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\r\n"
        );
        let Ok(Message::Request(mut request)) = Message::parse(text.into()) else { panic!() };
        let flow = Flow {
            transport,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: "198.51.100.7:4321".parse().unwrap(),
            connection: None,
        };
        let (_, path) = receive(&mut request, &flow).unwrap();
        (request.headers.get(HeaderName::VIA).unwrap().into_owned(), path)
    }

    #[test]
    fn a_client_that_asks_for_rport_is_answered_at_its_source_port() {
        let (via, path) = received("SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bKx", Transport::Udp);
        assert!(via.contains("received=198.51.100.7") && via.contains("rport=4321"), "{via}");
        assert_eq!(path.flow.remote.port(), 4321);
    }

    #[test]
    fn a_client_that_does_not_is_answered_at_the_port_it_sent() {
        let (via, path) = received("SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKx", Transport::Udp);
        assert!(via.contains("received=198.51.100.7") && !via.contains("rport"), "{via}");
        assert_eq!(path.flow.remote, "198.51.100.7:5070".parse().unwrap());
        let (_, path) = received("SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKx", Transport::Udp);
        assert_eq!(path.flow.remote.port(), 5060);
    }

    #[test]
    fn nobody_aims_our_responses_at_another_by_maddr() {
        for transport in [Transport::Udp, Transport::Tcp] {
            let via = format!("SIP/2.0/{transport} 198.51.100.7:4321;maddr=198.51.100.99;branch=z9hG4bKx");
            let (_, path) = received(&via, transport);
            assert_eq!(path.flow.remote, "198.51.100.7:4321".parse().unwrap());
            assert!(path.fallback.is_none_or(|other| other.remote.ip() == path.flow.remote.ip()));
        }
    }

    #[test]
    fn a_via_that_tells_the_truth_is_left_alone_and_the_hops_behind_it_stay() {
        let (via, _) = received("SIP/2.0/UDP 198.51.100.7:4321;branch=z9hG4bKx", Transport::Udp);
        assert_eq!(via, "SIP/2.0/UDP 198.51.100.7:4321;branch=z9hG4bKx");
        let (via, _) = received(
            "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKx , SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKy",
            Transport::Udp,
        );
        assert!(via.ends_with("SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKy"), "{via}");
        assert!(via.contains("branch=z9hG4bKx;received=198.51.100.7"), "{via}");
    }

    #[test]
    fn a_response_on_a_stream_falls_back_to_a_new_connection() {
        let (_, path) = received("SIP/2.0/TCP 198.51.100.7:5070;branch=z9hG4bKx", Transport::Tcp);
        assert_eq!(path.flow.remote.port(), 4321);
        assert_eq!(path.fallback.unwrap().remote.port(), 5070);
    }
}
