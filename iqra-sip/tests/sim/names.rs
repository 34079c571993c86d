//! Names in Contacts and Record-Routes of our own calls: asked for, waited for a little, and never in the way of a BYE
//! (RFC 3261 §12.2.1.1, RFC 3263).

use std::time::Duration;

use iqra_sip::event::{Event, Lookup, Reply};
use iqra_sip::{DialogId, EngineConfig, HeaderName, Headers, Hop, Method, StatusCode, Transport};

use crate::network::{CALLEE, CALLER, Network, Weather, is};

/// Where the callee's name leads; what is sent to the address of its flow is lost.
const NAMED: &str = "10.0.0.33:5060";
const CONTACT: &str = "<sip:callee@phone.example>";

/// A call whose callee is called by a name in this header; the caller's dialog.
fn answered(net: &mut Network, header: HeaderName, value: &str) -> DialogId {
    net.alias(NAMED, CALLEE);
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let (engine, now) = net.engine(CALLEE);
    engine.accept(now, tx, Reply::new(StatusCode::OK).header(header, value)).unwrap();
    // What the ACK asks for comes before the answer.
    let mut before = Vec::new();
    loop {
        match net.event(CALLER) {
            Event::Answered { dialog, .. } => {
                net.nodes[CALLER].events.splice(0..0, before);
                return dialog;
            }
            other => before.push(other),
        }
    }
}

fn asked(net: &mut Network, node: usize) -> Box<Lookup> {
    match net.event(node) {
        Event::Lookup(lookup) => lookup,
        other => panic!("{other:?}"),
    }
}

fn found(net: &mut Network, node: usize, lookup: Lookup, addr: &str) {
    let hop = Hop::from((Transport::Udp, addr.parse().unwrap()));
    let (engine, now) = net.engine(node);
    engine.looked_up(now, lookup, vec![hop]);
}

fn hang_up(net: &mut Network, node: usize, dialog: &DialogId) {
    let (engine, now) = net.engine(node);
    engine.bye(now, dialog, Headers::new()).unwrap();
}

/// To where node 0 sent its messages of a kind.
fn sent_to(net: &Network, what: &str) -> Vec<String> {
    let tape = net.tape.as_ref().unwrap().iter();
    let of_caller = tape.filter(|passage| passage.node == CALLER && !passage.came && is(&passage.text, what));
    of_caller.map(|passage| passage.peer.to_string()).collect()
}

fn taped() -> Network {
    let mut net = Network::calm();
    net.tape = Some(Vec::new());
    net
}

#[test]
fn the_ack_waits_for_the_address_of_a_contact_and_later_requests_know_it() {
    for (header, value) in
        [(HeaderName::CONTACT, CONTACT), (HeaderName::RECORD_ROUTE, "<sip:edge.example;lr>")]
    {
        let mut net = taped();
        let dialog = answered(&mut net, header, value);
        let lookup = asked(&mut net, CALLER);
        let named = if value == CONTACT { "sip:callee@phone.example" } else { "sip:edge.example;lr" };
        assert_eq!((lookup.uri.to_string().as_str(), lookup.secure), (named, false));
        net.run(Duration::from_millis(600));
        assert_eq!(
            (net.count(CALLER, "ACK"), net.count(CALLEE, "200")),
            (0, 2),
            "it waits, the 2xx is repeated"
        );
        found(&mut net, CALLER, *lookup, NAMED);
        assert!(matches!(net.event(CALLEE), Event::Confirmed { .. }));
        let (engine, now) = net.engine(CALLER);
        engine.dialog_request(now, &dialog, Method::Info, &Headers::new(), None).unwrap();
        let Event::DialogRequest { tx, .. } = net.event(CALLEE) else { panic!("no INFO") };
        let (engine, now) = net.engine(CALLEE);
        engine.respond(now, tx, Reply::new(StatusCode::OK)).unwrap();
        hang_up(&mut net, CALLER, &dialog);
        net.settle();
        for what in ["ACK", "INFO", "BYE"] {
            assert!(
                sent_to(&net, what).iter().all(|peer| peer == NAMED),
                "{what}: {:?}",
                sent_to(&net, what)
            );
        }
        assert_eq!(net.count(CALLEE, "200 BYE"), 1);
        let lookups = |event: &&Event| matches!(event, Event::Lookup(_));
        assert_eq!(net.nodes[CALLER].events.iter().filter(lookups).count(), 0, "asked for once");
    }
}

#[test]
fn a_name_that_is_not_known_or_never_answered_leaves_the_way_back_along_the_flow() {
    for answer in [true, false] {
        let mut net = taped();
        let dialog = answered(&mut net, HeaderName::CONTACT, CONTACT);
        let lookup = asked(&mut net, CALLER);
        let start = net.now;
        hang_up(&mut net, CALLER, &dialog);
        if answer {
            let (engine, now) = net.engine(CALLER);
            engine.looked_up(now, *lookup, Vec::new());
        }
        assert!(matches!(net.event(CALLEE), Event::Confirmed { .. }), "the ACK is first");
        assert!(matches!(net.event(CALLEE), Event::Ended { .. }));
        assert_eq!((net.now - start).as_secs(), if answer { 0 } else { 2 });
        net.settle();
        let flow = net.nodes[CALLEE].addr.to_string();
        assert_eq!((sent_to(&net, "ACK")[0].clone(), sent_to(&net, "BYE")), (flow.clone(), vec![flow]));
    }
}

#[test]
fn what_waits_goes_out_in_its_order() {
    let mut net = taped();
    let dialog = answered(&mut net, HeaderName::CONTACT, CONTACT);
    let lookup = asked(&mut net, CALLER);
    let (engine, now) = net.engine(CALLER);
    for _ in 0..3 {
        engine.dialog_request(now, &dialog, Method::Info, &Headers::new(), None).unwrap();
    }
    engine.bye(now, &dialog, Headers::new()).unwrap();
    found(&mut net, CALLER, *lookup, NAMED);
    net.run(Duration::from_millis(100));
    let sent: Vec<_> = net.sent.iter().filter(|(node, _)| *node == CALLER).skip(1).collect();
    let methods: Vec<_> = sent.iter().map(|(_, text)| text.split(' ').next().unwrap()).take(5).collect();
    assert_eq!(methods, ["ACK", "INFO", "INFO", "INFO", "BYE"]);
}

#[test]
fn a_callee_looks_its_caller_s_name_up_and_a_refreshed_one_anew() {
    let mut net = Network::calm();
    net.alias("10.0.0.44:5060", CALLER);
    let mut call = net.invite();
    call.headers.push(HeaderName::CONTACT, "<sip:caller@one.example>");
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    let Event::Invite { tx, .. } = net.event(CALLEE) else { panic!("no INVITE") };
    let (engine, now) = net.engine(CALLEE);
    let theirs = engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    let Event::Answered { dialog: ours, .. } = net.event(CALLER) else { panic!("no answer") };
    assert!(matches!(net.event(CALLEE), Event::Confirmed { .. }));
    let info = |net: &mut Network| {
        let (engine, now) = net.engine(CALLEE);
        engine.dialog_request(now, &theirs, Method::Info, &Headers::new(), None).unwrap();
        let lookup = asked(net, CALLEE);
        let name = lookup.uri.to_string();
        found(net, CALLEE, *lookup, "10.0.0.44:5060");
        let Event::DialogRequest { tx, .. } = net.event(CALLER) else { panic!("no INFO") };
        let (engine, now) = net.engine(CALLER);
        engine.respond(now, tx, Reply::new(StatusCode::OK)).unwrap();
        assert!(matches!(net.event(CALLEE), Event::Response { .. }));
        name
    };
    assert_eq!(info(&mut net), "sip:caller@one.example");
    let mut headers = Headers::new();
    headers.push(HeaderName::CONTACT, "<sip:caller@two.example>");
    let (engine, now) = net.engine(CALLER);
    engine.dialog_request(now, &ours, Method::Update, &headers, None).unwrap();
    let Event::DialogRequest { tx, .. } = net.event(CALLEE) else { panic!("no UPDATE") };
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, tx, Reply::new(StatusCode::OK)).unwrap();
    assert!(matches!(net.event(CALLER), Event::Response { .. }));
    assert_eq!(info(&mut net), "sip:caller@two.example");
    hang_up(&mut net, CALLER, &ours);
    net.settle();
}

#[test]
fn names_that_lead_nowhere_and_endpoints_without_anybody_to_ask_take_the_flow_at_once() {
    let silent = EngineConfig { name_wait: Duration::ZERO, ..EngineConfig::default() };
    for (config, contact) in [
        (EngineConfig::default(), "<sip:callee@df7jal23ls0d.invalid>"),
        (EngineConfig::default(), "<sip:callee@phone.example;ob>"),
        (silent, CONTACT),
    ] {
        let mut net = Network::of(1, Weather::default(), Transport::Udp, config);
        let dialog = answered(&mut net, HeaderName::CONTACT, contact);
        hang_up(&mut net, CALLER, &dialog);
        assert!(matches!(net.event(CALLEE), Event::Confirmed { .. }));
        assert!(matches!(net.event(CALLEE), Event::Ended { .. }));
        net.settle();
        assert!(net.nodes[CALLER].events.is_empty(), "{contact}: {:?}", net.nodes[CALLER].events);
    }
}

#[test]
fn a_sips_name_is_not_gone_to_in_the_clear() {
    let mut net = taped();
    let dialog = answered(&mut net, HeaderName::CONTACT, "<sips:callee@phone.example>");
    let lookup = asked(&mut net, CALLER);
    assert!(lookup.secure);
    found(&mut net, CALLER, *lookup, NAMED);
    hang_up(&mut net, CALLER, &dialog);
    net.settle();
    assert!(!sent_to(&net, "BYE").contains(&NAMED.to_owned()));
    assert_eq!(net.count(CALLEE, "200 BYE"), 1);
}

#[test]
fn calls_to_names_end_in_bad_weather_too() {
    for seed in 0..60 {
        let weather = Weather { loss: 0.2, duplicate: 0.1, jitter: Duration::from_millis(300) };
        let mut net = Network::new(seed, Weather::default());
        let dialog = answered(&mut net, HeaderName::CONTACT, CONTACT);
        net.worsen(weather);
        let lookup = asked(&mut net, CALLER);
        net.run(Duration::from_millis(seed * 50));
        match seed % 3 {
            0 => found(&mut net, CALLER, *lookup, NAMED),
            1 => found(&mut net, CALLER, *lookup, "10.9.9.9:5060"),
            _ => {}
        }
        net.run(Duration::from_millis(seed * 70));
        let (engine, now) = net.engine(CALLER);
        let _ = engine.bye(now, &dialog, Headers::new());
        net.run(Duration::from_secs(200));
        assert_eq!(net.nodes[CALLER].engine.counts(), Default::default(), "seed {seed}");
        let wrong = seed % 3 == 1;
        assert!(
            wrong || net.nodes[CALLEE].engine.counts().dialogs == 0,
            "seed {seed}: the BYE did not arrive"
        );
    }
}
