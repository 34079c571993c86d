//! Registrations between our client and a registrar made of an engine and an authenticator (RFC 3261 §10, RFC 5626).

use std::time::{Duration, Instant};

use iqra_sip::auth::{Binding, Credentials, Registering, Registration, RegistrationError, RegistrationState};
use iqra_sip::event::{ClientTx, Event, Failure, Reply};
use iqra_sip::message::NameAddr;
use iqra_sip::message::header::{CSeq, Expires, Route};
use iqra_sip::{HeaderName, Request, Response, StatusCode, Uri};

use crate::auth::{Guard, alice};
use crate::network::{CALLEE, CALLER, Network};

struct Client {
    machine: Registering,
    asked: Option<ClientTx>,
}

impl Client {
    fn new(registration: Registration) -> Self {
        Self { machine: Registering::new(registration, 7), asked: None }
    }

    /// Sends what is due and takes what came back.
    fn drive(&mut self, net: &mut Network) {
        for event in net.nodes[CALLER].events.drain(..).collect::<Vec<_>>() {
            match event {
                Event::Response { tx, response, .. }
                    if self.asked == Some(tx) && response.status.is_final() =>
                {
                    self.machine.handle_response(net.now, &response);
                }
                Event::Failed { tx, failure } if self.asked == Some(tx) => {
                    self.machine.handle_failure(net.now, failure);
                }
                _ => {}
            }
        }
        let hop = (net.transport, net.nodes[CALLEE].addr).into();
        let (engine, now) = net.engine(CALLER);
        let asked = self.machine.registration().clone();
        let user = asked.address.uri.user();
        let own = engine.own_contact(Some(hop), &asked.headers, &asked.registrar, user).unwrap();
        if let Some(request) = self.machine.poll_request(now, &own) {
            let hop = (net.transport, net.nodes[CALLEE].addr).into();
            let (engine, now) = net.engine(CALLER);
            self.asked = Some(engine.request_with(now, request, Some(hop), asked.credentials).unwrap());
        }
    }

    /// Runs client and registrar for a while, in steps of 100 ms.
    fn run(
        &mut self,
        net: &mut Network,
        time: Duration,
        mut registrar: impl FnMut(Instant, &Request) -> Reply,
    ) {
        let end = net.now + time;
        while net.now < end {
            self.drive(net);
            net.run(Duration::from_millis(100));
            for event in net.nodes[CALLEE].events.drain(..).collect::<Vec<_>>() {
                let Event::Request { tx, request, .. } = event else { panic!("{event:?}") };
                let (engine, now) = net.engine(CALLEE);
                engine.respond(now, tx, registrar(now, &request)).unwrap();
            }
        }
        self.drive(net);
    }

    fn is_registered(&self) -> bool {
        matches!(self.machine.state(), RegistrationState::Registered(_))
    }

    fn error(&self) -> RegistrationError {
        match self.machine.state() {
            RegistrationState::Failed(failure) => failure.cause,
            other => panic!("{other:?}"),
        }
    }
}

fn registration() -> Registration {
    let uri = |text: &str| text.parse::<Uri>().unwrap();
    Registration::new(uri("sip:voice.example"), uri("sip:alice@voice.example")).credentials(alice())
}

/// A 200 that grants what was asked, or so many seconds.
fn grant(request: &Request, seconds: Option<u32>) -> Reply {
    let asked = request.headers.typed::<Expires>().unwrap().0;
    let contact = request.headers.get(HeaderName::CONTACT).unwrap();
    let granted = seconds.unwrap_or(asked).min(asked);
    Reply::new(StatusCode::OK).header(HeaderName::CONTACT, format!("{contact};expires={granted}"))
}

fn registers(net: &Network) -> Vec<Request> {
    let sent = net.sent.iter().filter(|(_, text)| text.starts_with("REGISTER "));
    sent.map(|(_, text)| match iqra_sip::Message::parse(text.clone().into()) {
        Ok(iqra_sip::Message::Request(request)) => request,
        other => panic!("{other:?}"),
    })
    .collect()
}

#[test]
fn a_registration_is_challenged_granted_refreshed_and_removed() {
    let mut net = Network::calm();
    let mut guard = Guard::new(&net, |_| {});
    let mut client = Client::new(registration());
    let mut registrar = |now, request: &Request| match guard.check(now, request) {
        Ok(()) => grant(request, Some(600)),
        Err(denied) => denied.reply,
    };
    client.run(&mut net, Duration::from_secs(2), &mut registrar);
    assert!(client.is_registered());
    assert_eq!(registers(&net).len(), 2, "one unproven, one with credentials");
    client.run(&mut net, Duration::from_secs(350), &mut registrar);
    assert_eq!(registers(&net).len(), 2, "600 s were granted");
    client.run(&mut net, Duration::from_secs(148), &mut registrar);
    let sent = registers(&net);
    assert_eq!(sent.len(), 4, "refreshed before the end, its nonce had run out");
    assert!(client.is_registered());
    client.machine.unregister();
    client.run(&mut net, Duration::from_secs(2), &mut registrar);
    assert!(client.machine.is_over());
    assert_eq!(*client.machine.state(), RegistrationState::Unregistered);
    let sent = registers(&net);
    assert_eq!(sent.last().unwrap().headers.typed::<Expires>().unwrap().0, 0);
    let calls: std::collections::HashSet<_> =
        sent.iter().map(|request| request.headers.get(HeaderName::CALL_ID).unwrap().into_owned()).collect();
    assert_eq!(calls.len(), 1, "one Call-ID for all (RFC 3261 §10.2)");
    let numbers: Vec<_> =
        sent.iter().map(|request| request.headers.typed::<CSeq>().unwrap().number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    net.settle();
}

#[test]
fn a_lost_register_or_answer_is_repeated() {
    for (node, what) in [(CALLER, "REGISTER"), (CALLEE, "401 REGISTER"), (CALLEE, "200 REGISTER")] {
        let mut net = Network::calm();
        net.lose_first(node, what);
        let mut guard = Guard::new(&net, |_| {});
        let mut client = Client::new(registration());
        client.run(&mut net, Duration::from_secs(3), |now, request| match guard.check(now, request) {
            Ok(()) => grant(request, None),
            Err(denied) => denied.reply,
        });
        assert!(client.is_registered(), "{what}");
    }
}

#[test]
fn a_lifetime_that_is_too_brief_is_lengthened_once() {
    let mut net = Network::calm();
    let mut asked = registration();
    asked.expires = Duration::from_secs(60);
    let mut client = Client::new(asked);
    client.run(&mut net, Duration::from_secs(2), |_, request| {
        match request.headers.typed::<Expires>().unwrap().0 {
            60 => Reply::new(StatusCode::INTERVAL_TOO_BRIEF).header(HeaderName::MIN_EXPIRES, "300"),
            _ => grant(request, None),
        }
    });
    let RegistrationState::Registered(bound) = client.machine.state() else { panic!() };
    assert!(bound.until > net.now + Duration::from_secs(290));
    let mut client = Client::new(registration());
    let mut net = Network::calm();
    let mut least = 4_000;
    client.run(&mut net, Duration::from_secs(2), |_, _| {
        least += 1_000;
        Reply::new(StatusCode::INTERVAL_TOO_BRIEF).header(HeaderName::MIN_EXPIRES, least.to_string())
    });
    assert_eq!(client.error(), RegistrationError::Refused(StatusCode::INTERVAL_TOO_BRIEF));
    assert_eq!(registers(&net).len(), 2);
}

#[test]
fn wrong_credentials_and_refusals_back_off_longer_each_time() {
    let mut net = Network::calm();
    let mut guard = Guard::new(&net, |_| {});
    let mut client = Client::new(registration().credentials(Credentials::new("alice", "wrong")));
    client.run(&mut net, Duration::from_secs(1_000), |now, request| {
        guard.check(now, request).map_or_else(|denied| denied.reply, |()| panic!("let in"))
    });
    assert_eq!(client.error(), RegistrationError::Refused(StatusCode::UNAUTHORIZED));
    let tries = registers(&net).len();
    assert!((8..=14).contains(&tries), "{tries} REGISTERs in 1,000 s");
}

#[test]
fn a_silent_registrar_is_tried_again_and_retry_after_is_kept() {
    let mut net = Network::calm();
    net.lose(|from, _| from == CALLEE);
    let mut client = Client::new(registration());
    client.run(&mut net, Duration::from_secs(33), |_, request| grant(request, None));
    assert_eq!(client.error(), RegistrationError::Timeout);
    net.lose(|_, _| false);
    client.run(&mut net, Duration::from_secs(61), |_, request| grant(request, None));
    assert!(client.is_registered());

    let mut net = Network::calm();
    let mut client = Client::new(registration());
    client.run(&mut net, Duration::from_secs(590), |_, _| {
        Reply::new(StatusCode::SERVICE_UNAVAILABLE).header(HeaderName::RETRY_AFTER, "600")
    });
    assert_eq!(registers(&net).len(), 1);
}

#[test]
fn a_failed_refresh_says_until_when_the_binding_lasts() {
    let mut machine = Registering::new(registration(), 1);
    let (start, own) = (Instant::now(), "sip:alice@10.0.0.1".parse().unwrap());
    let first = machine.poll_request(start, &own).unwrap();
    let mut ok = Response::to_request(&first, StatusCode::OK);
    ok.headers.push(HeaderName::SERVICE_ROUTE, "<sip:edge.example;lr>, <sip:home.example;lr>");
    ok.headers.push(HeaderName::PATH, "<sip:p.example;lr>");
    ok.headers.push(HeaderName::EXPIRES, "100");
    machine.handle_response(start, &ok);
    let RegistrationState::Registered(bound) = machine.state().clone() else { panic!() };
    assert_eq!(
        (bound.until - start, bound.service_route.len(), bound.path.len()),
        (Duration::from_secs(100), 2, 1)
    );
    let refresh = machine.poll_timeout(start).unwrap();
    assert!((50..=75).contains(&(refresh - start).as_secs()), "{:?}", refresh - start);
    assert!(machine.poll_request(start, &own).is_none());
    machine.poll_request(refresh, &own).unwrap();
    machine.handle_failure(refresh, Failure::Transport);
    let RegistrationState::Failed(failure) = machine.state() else { panic!() };
    assert_eq!((failure.cause, failure.bound_until), (RegistrationError::Transport, Some(bound.until)));
}

/// RFC 5626 §4.4.
#[test]
fn a_flow_timer_says_how_far_apart_keep_alives_may_be() {
    for (value, limit) in [(Some("25"), Some(25)), (Some("0"), None), (Some("soon"), None), (None, None)] {
        let mut machine = Registering::new(registration(), 1);
        let (start, own) = (Instant::now(), "sip:alice@10.0.0.1".parse().unwrap());
        let asked = machine.poll_request(start, &own).unwrap();
        let mut ok = Response::to_request(&asked, StatusCode::OK);
        value.into_iter().for_each(|value| ok.headers.push(HeaderName::FLOW_TIMER, value));
        machine.handle_response(start, &ok);
        let RegistrationState::Registered(bound) = machine.state() else { panic!("{value:?}") };
        assert_eq!(bound.flow_timer, limit.map(Duration::from_secs), "{value:?}");
    }
}

#[test]
fn a_lost_flow_is_renewed_soon() {
    let mut machine = Registering::new(registration(), 1);
    let (start, own) = (Instant::now(), "sip:alice@10.0.0.1".parse().unwrap());
    let first = machine.poll_request(start, &own).unwrap();
    machine.handle_response(start, &Response::to_request(&first, StatusCode::OK));
    machine.flow_failed(start);
    assert!(machine.poll_timeout(start).unwrap() <= start + Duration::from_secs(1));
}

#[test]
fn several_bindings_carry_instance_flow_and_preference_and_the_shortest_grant_rules() {
    let mut asked = registration();
    let instance = Some(String::from("urn:uuid:00000000-0000-1000-8000-000a95a0e128"));
    asked.bindings = vec![
        Binding { instance: instance.clone(), reg_id: Some(1), q: Some(1_000), ..Binding::default() },
        Binding { uri: Some("sip:alice@10.0.0.9".parse().unwrap()), instance, reg_id: Some(2), q: Some(50) },
    ];
    asked.routes = vec![Route(NameAddr::parse("<sip:edge.example;lr>").unwrap())];
    let mut machine = Registering::new(asked, 1);
    let (start, own) = (Instant::now(), "sip:alice@10.0.0.1:5060".parse().unwrap());
    let request = machine.poll_request(start, &own).unwrap();
    let contacts: Vec<_> =
        request.headers.all(HeaderName::CONTACT).map(std::borrow::Cow::into_owned).collect();
    assert_eq!(
        contacts,
        [
            "<sip:alice@10.0.0.1:5060>;q=1.000;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\";reg-id=1",
            "<sip:alice@10.0.0.9>;q=0.050;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\";reg-id=2",
        ]
    );
    assert_eq!(request.headers.get(HeaderName::ROUTE).unwrap(), "<sip:edge.example;lr>");
    assert_eq!(request.headers.get(HeaderName::SUPPORTED).unwrap(), "path, outbound");
    let mut ok = Response::to_request(&request, StatusCode::OK);
    ok.headers.push(HeaderName::CONTACT, format!("{};expires=500", contacts[1]));
    ok.headers.push(HeaderName::CONTACT, format!("{};expires=900", contacts[0]));
    ok.headers.push(HeaderName::CONTACT, "<sip:alice@desk.example>;expires=5");
    ok.headers.push(HeaderName::EXPIRES, "7");
    machine.handle_response(start, &ok);
    let RegistrationState::Registered(bound) = machine.state() else { panic!() };
    assert_eq!(bound.until - start, Duration::from_secs(500));
}

#[test]
fn leaving_before_the_answer_waits_for_it_and_then_leaves() {
    let mut net = Network::calm();
    let mut client = Client::new(registration());
    client.drive(&mut net);
    client.machine.unregister();
    assert!(!client.machine.is_over());
    client.run(&mut net, Duration::from_secs(2), |_, request| grant(request, None));
    assert!(client.machine.is_over());
    let lives: Vec<_> = registers(&net).iter().map(|r| r.headers.typed::<Expires>().unwrap().0).collect();
    assert_eq!(lives, [3_600, 0]);
    net.settle();
}

#[test]
fn a_list_of_others_is_no_registration_and_a_contact_that_a_nat_changed_is_ours() {
    let bound = |own: &str, contacts: &[&str]| {
        let mut machine = Registering::new(registration(), 1);
        let start = Instant::now();
        let request = machine.poll_request(start, &own.parse().unwrap()).unwrap();
        let mut ok = Response::to_request(&request, StatusCode::OK);
        contacts.iter().for_each(|contact| ok.headers.push(HeaderName::CONTACT, *contact));
        machine.handle_response(start, &ok);
        match machine.state() {
            RegistrationState::Registered(bound) => Ok((bound.until - start).as_secs()),
            RegistrationState::Failed(failure) => Err(failure.cause),
            other => panic!("{other:?}"),
        }
    };
    let (desk, car) = ("<sip:desk@192.0.2.7>;expires=60", "<sip:car@192.0.2.8>;expires=70");
    let own = "sip:alice@10.0.0.1:5060";
    assert_eq!(bound(own, &[desk, car]), Err(RegistrationError::NotBound));
    assert_eq!(bound(own, &[desk, "<sip:alice@203.0.113.4:33333>;expires=90", car]), Ok(90));
    assert_eq!(bound("sip:10.0.0.1:5060", &[desk, car]), Err(RegistrationError::NotBound));
    assert_eq!(bound(own, &["<sip:s7fe@203.0.113.4>;expires=80"]), Ok(80), "the only one");
    assert_eq!(bound(own, &[]), Ok(3_600), "a registrar that lists nothing");
}
