//! By which transport a request inside a dialog goes on (RFC 3261 §16.6 steps 6 and 7, §18.1.1, §26.2.2; RFC 3263 §4.1).

use iqra_sip::event::Event;
use iqra_sip::{Flow, HeaderName, Headers, Method, Transmit};

use super::*;

/// A BYE of the caller inside a call through A, which has not arrived.
fn unsent_bye(net: &mut Network) -> String {
    let (ours, _) = connect(net);
    net.lose(|from, text| from == CALLER && is(text, "BYE"));
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &ours, Headers::new()).unwrap();
    net.run(Duration::from_millis(1));
    first(net, CALLER, "BYE")
}

/// The same request to this URI, by this Route after ours, with a body that makes it long.
fn turned(bye: &str, method: &str, uri: &str, route: &str, long: bool) -> String {
    let (head, _) = bye.split_once("\r\n\r\n").unwrap();
    let old = bye.split(' ').nth(1).unwrap();
    let ours = format!("Route: {}", header(bye, "Route")[0]);
    let routes = if route.is_empty() { ours.clone() } else { format!("{ours}, {route}") };
    let body = if long { "x".repeat(1_400) } else { String::new() };
    let head = head.replacen(old, uri, 1).replacen(&ours, &routes, 1).replace("BYE", method);
    let head = head.replace("Content-Length: 0", &format!("Content-Length: {}", body.len()));
    format!("{head}\r\n\r\n{body}")
}

/// Where A sends what it hears, and by which transport by its own Via.
fn onward(net: &mut Network, text: String) -> Vec<(String, String)> {
    let remote = net.nodes[CALLER].addr;
    let flow = Flow { transport: Transport::Udp, local: POOL.parse().unwrap(), remote, connection: None };
    net.tape = Some(Vec::new());
    let (engine, now) = net.engine(A);
    engine.handle_message(now, &flow, text.into());
    net.run(Duration::from_millis(1));
    let passed = net.tape.take().unwrap().into_iter().filter(|p| p.node == A && !p.came);
    let requests = passed.filter(|passage| !header(&passage.text, "Via").is_empty());
    let way = |text: &str| match text.starts_with("SIP/2.0 ") {
        true => text[8..11].to_owned(),
        false => header(text, "Via")[0].split(' ').next().unwrap()[8..].to_owned(),
    };
    requests.map(|passage| (way(&passage.text), passage.peer.to_string())).collect()
}

#[test]
fn the_next_uri_says_by_which_transport_a_request_goes_on_and_its_length_whether_by_tcp() {
    let callee = "sip:callee@10.0.0.2";
    for (uri, route, long, way, to) in [
        (callee, "", false, "UDP", "10.0.0.2:5060"),
        (callee, "", true, "TCP", "10.0.0.2:5060"),
        ("sip:callee@10.0.0.2:5070", "", true, "TCP", "10.0.0.2:5070"),
        ("sip:callee@10.0.0.2;transport=tcp", "", false, "TCP", "10.0.0.2:5060"),
        ("sip:callee@10.0.0.2;transport=tls", "", false, "TLS", "10.0.0.2:5061"),
        ("sips:callee@10.0.0.2", "", false, "TLS", "10.0.0.2:5061"),
        ("sips:callee@10.0.0.2;transport=ws", "", false, "WSS", "10.0.0.2:443"),
        (callee, "<sip:10.0.0.2:5080;transport=tcp;lr>", false, "TCP", "10.0.0.2:5080"),
        (callee, "<sips:10.0.0.2;lr>", false, "TLS", "10.0.0.2:5061"),
        (callee, "<sip:10.0.0.2:5080;lr>", true, "TCP", "10.0.0.2:5080"),
        // What is sips goes as if its Route were.
        ("sips:callee@10.0.0.2", "<sip:10.0.0.2;lr>", false, "TLS", "10.0.0.2:5061"),
        ("sips:callee@10.0.0.2", "<sip:10.0.0.2:5080;lr>", false, "TLS", "10.0.0.2:5080"),
        ("sips:callee@10.0.0.2", "<sip:10.0.0.2;transport=tcp;lr>", false, "TLS", "10.0.0.2:5061"),
        ("sips:callee@10.0.0.2", "<sip:10.0.0.2;maddr=10.0.0.2;lr>", false, "TLS", "10.0.0.2:5061"),
        ("sips:callee@10.0.0.2", "<sip:10.0.0.2;transport=udp;lr>", false, "416", ""),
    ] {
        for method in ["BYE", "ACK"] {
            let mut net = calm();
            let bye = unsent_bye(&mut net);
            let went = onward(&mut net, turned(&bye, method, uri, route, long));
            let expected = match way {
                "416" if method == "ACK" => Vec::new(),
                "416" => vec![(way.to_owned(), net.nodes[CALLER].addr.to_string())],
                _ => vec![(way.to_owned(), to.to_owned())],
            };
            assert_eq!(went, expected, "{method} {uri} {route} {long}");
        }
    }
}

/// What A sends of a request that it hears from a node, before it is on the wire.
fn unsent(net: &mut Network, from: usize, text: String) -> Transmit {
    let remote = net.nodes[from].addr;
    let flow = Flow { transport: Transport::Udp, local: POOL.parse().unwrap(), remote, connection: None };
    let (engine, now) = net.engine(A);
    engine.handle_message(now, &flow, text.into());
    engine.poll_transmit().unwrap()
}

#[test]
fn a_flow_that_is_gone_gives_way_to_the_contact_and_never_to_what_is_less_secure() {
    use Transport::{Tcp, Tls, Udp};
    for (by, contact, second) in [
        (Tcp, "<sip:phone@10.0.0.7>", Some((Udp, "10.0.0.7:5060"))),
        (Tcp, "<sip:phone@10.0.0.7:5070;transport=tcp>", Some((Tcp, "10.0.0.7:5070"))),
        (Tls, "<sip:phone@10.0.0.7>", Some((Tls, "10.0.0.7:5061"))),
        (Tls, "<sip:phone@10.0.0.7:5071>", Some((Tls, "10.0.0.7:5071"))),
        (Tls, "<sip:phone@10.0.0.7;transport=tcp>", None),
        (Tcp, "<sip:phone@192.168.1.9>", None),
    ] {
        let mut net = calm();
        let phone = net.add_node(&[(by, "10.0.0.7:49152")], EngineConfig::default());
        let mut call = invite(&net);
        call.hops = vec![(by, net.nodes[A].addr).into()];
        call.headers.push(HeaderName::CONTACT, contact);
        let (engine, now) = net.engine(phone);
        engine.invite(now, call).unwrap();
        let tx = invited(&mut net, A);
        let plan = plan(&net, &[ONE]);
        let (engine, now) = net.engine(A);
        engine.relay(now, tx, plan).unwrap();
        let taken = invited(&mut net, ONE);
        let theirs = accept(&mut net, ONE, taken);
        assert!(matches!(net.event(ONE), Event::Confirmed { .. }));
        net.lose(|from, text| from == ONE && is(text, "INFO"));
        let (engine, now) = net.engine(ONE);
        engine.dialog_request(now, &theirs, Method::Info, &Headers::new(), None).unwrap();
        net.run(Duration::from_millis(1));
        let info = first(&net, ONE, "INFO");
        let went = unsent(&mut net, ONE, info);
        assert_eq!((went.flow.transport, went.flow.remote), (by, net.nodes[phone].addr), "{by} {contact}");
        let (engine, now) = net.engine(A);
        engine.handle_transport_error(now, &went);
        let next = engine.poll_transmit().unwrap();
        let text = String::from_utf8_lossy(&next.bytes);
        match second {
            Some((transport, addr)) => {
                let flow = (next.flow.transport, next.flow.remote);
                assert!(
                    is(&text, "INFO") && flow == (transport, addr.parse().unwrap()),
                    "{by} {contact}: {flow:?}"
                );
            }
            None => assert!(is(&text, "430 INFO"), "{by} {contact}: {text}"),
        }
    }
}

#[test]
fn an_address_that_names_no_transport_is_asked_by_that_of_the_call_on_its_side() {
    for (asked, contact, way, to) in [
        ("tcp", "sip:callee@10.0.0.6", Transport::Tcp, "10.0.0.6:5060"),
        ("tcp", "sip:callee@10.0.0.6:5070", Transport::Tcp, "10.0.0.6:5070"),
        ("tcp", "sip:callee@10.0.0.6;transport=udp", Transport::Udp, "10.0.0.6:5060"),
        ("tls", "sip:callee@10.0.0.6", Transport::Tls, "10.0.0.6:5061"),
        ("tls", "sip:callee@10.0.0.6;transport=tcp", Transport::Tcp, "10.0.0.6:5060"),
    ] {
        let mut net = Network::calm();
        let ears = [Transport::Udp, Transport::Tcp, Transport::Tls];
        let ports = ["10.0.0.3:5060", "10.0.0.3:5060", "10.0.0.3:5061"];
        let sockets: Vec<_> = ears.into_iter().zip(ports).collect();
        assert_eq!(net.add_node(&sockets, proxy("a")), A);
        net.alias(POOL, A);
        let there = [(Transport::Tcp, "10.0.0.6:5060"), (Transport::Tls, "10.0.0.6:5061")];
        let backend = net.add_node(&there, EngineConfig::default());
        let call = invite(&net);
        let (engine, now) = net.engine(CALLER);
        engine.invite(now, call).unwrap();
        let tx = invited(&mut net, A);
        let uri = format!("sip:callee@10.0.0.6;transport={asked}").parse().unwrap();
        let (engine, now) = net.engine(A);
        engine.relay(now, tx, Plan::new([Target { uri: Some(uri), ..Target::default() }])).unwrap();
        let taken = invited(&mut net, backend);
        let reply = Reply::new(StatusCode::OK).header(HeaderName::CONTACT, format!("<{contact}>"));
        let (engine, now) = net.engine(backend);
        engine.accept(now, taken, reply).unwrap();
        let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
        net.run(Duration::from_millis(100));
        net.lose(|from, text| from == CALLER && is(text, "BYE"));
        let (engine, now) = net.engine(CALLER);
        engine.bye(now, &dialog, Headers::new()).unwrap();
        net.run(Duration::from_millis(1));
        let bye = first(&net, CALLER, "BYE");
        let went = unsent(&mut net, CALLER, bye);
        assert_eq!((went.flow.transport, went.flow.remote), (way, to.parse().unwrap()), "{asked} {contact}");
        let (engine, now) = net.engine(A);
        engine.handle_transport_error(now, &went);
        let second = engine.poll_transmit().unwrap();
        let again =
            second.flow.transport == Transport::Udp && is(&String::from_utf8_lossy(&second.bytes), "BYE");
        let by_the_letter = way == Transport::Tcp && !contact.contains("transport");
        assert_eq!(again, by_the_letter, "UDP after TCP, and never after TLS: {asked} {contact}");
    }
}
