//! By which way requests inside a call leave: never in the clear where the call came or went by TLS, unless the target
//! asks for it (RFC 3261 §12.2.1.1, §26.2.2; RFC 5923 §7).

use iqra_sip::event::{Body, Event, Reply};
use iqra_sip::{
    ConnectionId, DialogId, EngineConfig, Flow, Headers, Listener, Method, StatusCode, Transport,
};

use crate::callee::{SDP, answer_to, outgoing, place, text};
use crate::wire::{Wire, request, tag_of};

/// Where a re-INVITE and then the BYE of a call go.
fn later(wire: &mut Wire, dialog: &DialogId) -> [Flow; 2] {
    let body = Some(Body::sdp(SDP));
    wire.engine.dialog_request(wire.now, dialog, Method::Invite, &Headers::new(), body).unwrap();
    let again = wire.transmits().remove(0).flow;
    wire.engine.bye(wire.now, dialog, Headers::new()).unwrap();
    [again, wire.transmits().remove(0).flow]
}

#[test]
fn inside_a_call_of_ours_the_target_is_asked_as_the_call_was_unless_it_says_otherwise() {
    use Transport::{Tcp, Tls, Udp};
    let near = "sip:b@198.51.100.7";
    for (placed, contact, routes, expected) in [
        (Tls, "sip:b@198.51.100.7:5061", "", (Tls, "198.51.100.7:5061")),
        (Tls, near, "", (Tls, "198.51.100.7:5061")),
        (Tcp, near, "", (Tcp, "198.51.100.7:5060")),
        (Udp, near, "", (Udp, "198.51.100.7:5060")),
        (Tls, "sip:b@203.0.113.9", "", (Tls, "203.0.113.9:5061")),
        (Tcp, "sip:b@203.0.113.9:5070", "", (Tcp, "203.0.113.9:5070")),
        (Udp, "sip:b@203.0.113.9:5070", "", (Udp, "203.0.113.9:5070")),
        (Tls, "sip:b@203.0.113.9;transport=udp", "", (Udp, "203.0.113.9:5060")),
        (Tls, "sip:b@203.0.113.9;transport=tcp", "", (Tcp, "203.0.113.9:5060")),
        (Udp, "sip:b@203.0.113.9;transport=tls", "", (Tls, "203.0.113.9:5061")),
        (Udp, "sips:b@203.0.113.9", "", (Tls, "203.0.113.9:5061")),
        (Tls, "sip:b@10.0.0.9", "<sip:198.51.100.7:5061;lr>", (Tls, "198.51.100.7:5061")),
        (Tls, "sip:b@10.0.0.9", "<sip:198.51.100.7;lr>", (Tls, "198.51.100.7:5061")),
        (Tls, "sip:b@10.0.0.9", "<sip:198.51.100.7>", (Tls, "198.51.100.7:5061")),
        (Tls, "sip:b@10.0.0.9", "<sip:203.0.113.9;lr>", (Tls, "203.0.113.9:5061")),
        (Tls, "sip:b@10.0.0.9", "<sip:203.0.113.9;transport=tcp;lr>", (Tcp, "203.0.113.9:5060")),
        // What is sips goes as if its Route were.
        (Tls, "sips:b@10.0.0.9", "<sip:198.51.100.7;transport=tcp;lr>", (Tls, "198.51.100.7:5061")),
    ] {
        let (mut wire, _, invite) = place(EngineConfig::default(), outgoing(placed));
        let routes = if routes.is_empty() { String::new() } else { format!("Record-Route: {routes}\r\n") };
        let extra = format!("{routes}Contact: <{contact}>\r\n");
        let (dialog, ack) = wire.answered(answer_to(&invite, "200 OK", "b", &extra, ""));
        assert!(text(&ack).starts_with("ACK "));
        let [again, bye] = later(&mut wire, &dialog);
        for flow in [ack.flow, again, bye] {
            let went = (flow.transport, flow.remote.to_string());
            assert_eq!(went, (expected.0, expected.1.to_owned()), "{placed} {contact} {routes}");
        }
    }
}

/// A call that came by a connection of the caller's.
fn taken(transport: Transport, contact: &str) -> (Wire, DialogId) {
    let mut wire = Wire::new(EngineConfig::default());
    let local = format!("192.0.2.1:{}", transport.default_port()).parse().unwrap();
    wire.engine.add_listener(Listener::new(transport, local, None));
    let remote = "198.51.100.7:40000".parse().unwrap();
    wire.flow = Flow { transport, local, remote, connection: Some(ConnectionId(3)) };
    let came = |message: String| {
        message
            .replace("SIP/2.0/UDP", &format!("SIP/2.0/{transport}"))
            .replace("sip:caller@198.51.100.7:5060", contact)
    };
    assert!(wire.say(came(request("INVITE", "b1", "1", "", ""))).is_empty());
    let Some(Event::Invite { tx, .. }) = wire.event() else { panic!("no INVITE") };
    let dialog = wire.engine.accept(wire.now, tx, Reply::new(StatusCode::OK)).unwrap();
    wire.out();
    wire.say(came(request("ACK", "b2", "1", &tag_of(&dialog), "")));
    assert!(matches!(wire.event(), Some(Event::Confirmed { .. })));
    (wire, dialog)
}

#[test]
fn inside_a_call_that_came_by_a_connection_requests_go_back_by_it() {
    for transport in [Transport::Tls, Transport::Tcp, Transport::Wss] {
        for contact in ["sip:caller@198.51.100.7:5060", "sip:caller@198.51.100.7"] {
            let (mut wire, dialog) = taken(transport, contact);
            for flow in later(&mut wire, &dialog) {
                assert_eq!(flow, wire.flow, "{transport} {contact}");
            }
        }
    }
}

#[test]
fn a_connection_that_is_gone_is_opened_anew_to_the_contact_and_nothing_secure_goes_on_in_the_clear() {
    for (contact, anew) in [
        ("sip:caller@198.51.100.7:5071", "198.51.100.7:5071"),
        ("sip:caller@198.51.100.7", "198.51.100.7:5061"),
    ] {
        let (mut wire, dialog) = taken(Transport::Tls, contact);
        wire.engine.bye(wire.now, &dialog, Headers::new()).unwrap();
        let mut last = wire.transmits().remove(0);
        assert_eq!(last.flow, wire.flow);
        wire.engine.handle_transport_error(wire.now, &last);
        last = wire.transmits().remove(0);
        assert_eq!((last.flow.transport, last.flow.connection), (Transport::Tls, None));
        assert_eq!(last.flow.remote, anew.parse().unwrap());
        wire.engine.handle_transport_error(wire.now, &last);
        assert!(wire.transmits().is_empty());
    }
}
