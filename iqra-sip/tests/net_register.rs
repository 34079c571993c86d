//! Registrations on real sockets: by an outbound proxy, with Path and a service route that calls and requests then take,
//! through refusals and back-off (RFC 3261 §10.2, RFC 3327, RFC 3608, RFC 5626 §4.5).

#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::time::Duration;

use iqra_sip::auth::{Backoff, Binding, Registration, RegistrationError, RegistrationState};
use iqra_sip::event::Reply;
use iqra_sip::message::NameAddr;
use iqra_sip::message::header::Route;
use iqra_sip::net::{
    Answer, CallEvent, CallPolicy, Endpoint, Incoming, IncomingOther, IncomingRequest, Registered,
};
use iqra_sip::{EngineConfig, HeaderName, Headers, Method, Request, StatusCode, Transport};

#[path = "common/loopback.rs"]
mod loopback;
use loopback::{answered, call_to, closed, end, invited, uri_of};

/// A client, and one that is registrar, outbound proxy and callee at once.
async fn pair(transport: Transport) -> (Endpoint, Endpoint, Incoming) {
    let (client, _) = end(transport, EngineConfig::default()).await;
    let (server, incoming) = end(transport, EngineConfig::default()).await;
    (client, server, incoming)
}

/// The server's hop with a name of its own.
fn hop(server: &Endpoint, user: &str) -> NameAddr {
    NameAddr::new(uri_of(server, user).with_param("lr", None))
}

/// At a registrar that only the outbound proxy can find.
fn registration(server: &Endpoint) -> Registration {
    let asked = Registration::new(
        "sip:registrar.invalid".parse().unwrap(),
        "sip:alice@registrar.invalid".parse().unwrap(),
    );
    Registration { routes: vec![Route(hop(server, "edge"))], ..asked }
}

async fn asked(incoming: &mut Incoming, method: &Method) -> IncomingOther {
    match incoming.next().await {
        Some(IncomingRequest::Other(other)) if other.request().method == *method => other,
        other => panic!("no {method}: {other:?}"),
    }
}

fn granted(register: &Request) -> Reply {
    let contact = register.headers.get(HeaderName::CONTACT).unwrap();
    Reply::new(StatusCode::OK).header(HeaderName::CONTACT, format!("{contact};expires=600"))
}

fn routes(request: &Request) -> Vec<String> {
    let routes = request.headers.typed_all::<Route>().flatten();
    routes.map(|route| route.0.uri.user().unwrap_or("nobody").to_owned()).collect()
}

async fn bound(registered: &mut Registered) -> iqra_sip::auth::Bound {
    loop {
        match registered.state() {
            RegistrationState::Registered(bound) => return bound,
            _ => drop(registered.changed().await.unwrap()),
        }
    }
}

/// Leaves the registrar, which agrees.
async fn leave(registered: Registered, incoming: &mut Incoming) {
    let agreeing = async {
        let register = asked(incoming, &Method::Register).await;
        let reply = Reply::new(StatusCode::OK);
        register.respond(reply);
    };
    tokio::join!(registered.unregister(), agreeing);
}

#[tokio::test]
async fn calls_and_requests_by_a_registration_take_its_service_route() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let (client, server, mut incoming) = pair(transport).await;
        let mut registered = client.register(registration(&server)).unwrap();
        let register = asked(&mut incoming, &Method::Register).await;
        assert_eq!(routes(register.request()), ["edge"]);
        let supported = register.request().headers.get(HeaderName::SUPPORTED).unwrap().into_owned();
        assert_eq!(supported, "path");
        assert!(registered.service_route().is_empty());
        let reply = granted(register.request())
            .header(HeaderName::PATH, hop(&server, "edge").to_string())
            .header(HeaderName::SERVICE_ROUTE, hop(&server, "home").to_string())
            .header(HeaderName::SERVICE_ROUTE, hop(&server, "service").to_string());
        register.respond(reply);
        assert_eq!(bound(&mut registered).await.path.len(), 1);
        assert_eq!(registered.service_route().len(), 2);

        // The callee's host is nobody's: only the route leads there.
        let mut to_bob = call_to(&server);
        to_bob.uri = "sip:bob@registrar.invalid".parse().unwrap();
        let mut call = registered.call(to_bob.clone(), CallPolicy::default()).await.unwrap();
        let invite = invited(&mut incoming).await;
        assert_eq!(routes(invite.request()), ["edge", "home", "service"], "{transport:?}");
        let mut theirs = invite.accept(Answer::sdp("v=0\r\n")).await.unwrap();
        answered(&mut call).await.hangup(Headers::new()).await.unwrap();
        while !matches!(theirs.next().await, Some(CallEvent::Ended(_))) {}

        let mut message = Request::new(Method::Message, to_bob.uri.clone());
        message.headers.push(HeaderName::FROM, "<sip:alice@registrar.invalid>");
        let answering = async {
            let message = asked(&mut incoming, &Method::Message).await;
            let routes = routes(message.request());
            message.respond(Reply::new(StatusCode::OK));
            routes
        };
        let (response, taken) = tokio::join!(registered.request(message), answering);
        assert_eq!(response.unwrap().status, StatusCode::OK);
        assert_eq!(taken, ["edge", "home", "service"]);

        // Whoever names a route means it.
        to_bob.headers.push_typed(&Route(hop(&server, "own")));
        let mut call = registered.call(to_bob, CallPolicy::default()).await.unwrap();
        let invite = invited(&mut incoming).await;
        assert_eq!(routes(invite.request()), ["own"]);
        assert!(invite.reject(Reply::new(StatusCode::BUSY_HERE)));
        call.next().await;

        // A refresh that brings no service route takes it back; the outbound proxy stays.
        registered.refresh();
        let register = asked(&mut incoming, &Method::Register).await;
        assert_eq!(routes(register.request()), ["edge"], "REGISTER goes by our own route alone");
        let reply = granted(register.request());
        register.respond(reply);
        registered.changed().await.unwrap();
        assert!(registered.service_route().is_empty());
        leave(registered, &mut incoming).await;
        closed([client, server]).await;
    }
}

#[tokio::test]
async fn a_failed_refresh_keeps_the_service_route_while_the_binding_lasts() {
    let (client, server, mut incoming) = pair(Transport::Udp).await;
    let mut registered = client.register(registration(&server)).unwrap();
    let register = asked(&mut incoming, &Method::Register).await;
    let route = hop(&server, "home").to_string();
    let reply = granted(register.request()).header(HeaderName::SERVICE_ROUTE, route);
    register.respond(reply);
    bound(&mut registered).await;
    registered.refresh();
    let register = asked(&mut incoming, &Method::Register).await;
    register.respond(Reply::new(StatusCode::SERVER_INTERNAL_ERROR));
    let Some(RegistrationState::Failed(failure)) = registered.changed().await else { panic!("not failed") };
    assert_eq!(failure.cause, RegistrationError::Refused(StatusCode::SERVER_INTERNAL_ERROR));
    assert_eq!(registered.service_route().len(), 1);
    leave(registered, &mut incoming).await;
    closed([client, server]).await;
}

#[tokio::test]
async fn a_first_hop_that_keeps_no_flows_is_registered_through_without_them() {
    let (client, server, mut incoming) = pair(Transport::Udp).await;
    let instance = Some(String::from("urn:uuid:00000000-0000-1000-8000-000a95a0e128"));
    let binding = Binding { instance, reg_id: Some(1), ..Binding::default() };
    let asked_for = Registration { bindings: vec![binding], ..registration(&server) };
    let mut registered = client.register(asked_for).unwrap();
    let register = asked(&mut incoming, &Method::Register).await;
    assert!(register.request().headers.get(HeaderName::CONTACT).unwrap().contains("reg-id=1"));
    register.respond(Reply::new(StatusCode::FIRST_HOP_LACKS_OUTBOUND_SUPPORT));
    let register = asked(&mut incoming, &Method::Register).await;
    let headers = &register.request().headers;
    assert!(!headers.get(HeaderName::CONTACT).unwrap().contains("reg-id"));
    assert_eq!(headers.get(HeaderName::SUPPORTED).unwrap(), "path");
    let reply = granted(register.request());
    register.respond(reply);
    bound(&mut registered).await;
    leave(registered, &mut incoming).await;
    closed([client, server]).await;
}

#[tokio::test]
async fn refusals_are_waited_out_longer_each_time_and_then_it_is_registered() {
    let (client, server, mut incoming) = pair(Transport::Udp).await;
    let backoff = Backoff { base: Duration::from_millis(20), ..Backoff::default() };
    let mut registered = client.register(Registration { backoff, ..registration(&server) }).unwrap();
    for _ in 0..3 {
        let register = asked(&mut incoming, &Method::Register).await;
        register.respond(Reply::new(StatusCode::SERVICE_UNAVAILABLE));
        let Some(RegistrationState::Failed(failure)) = registered.changed().await else {
            panic!("not failed")
        };
        assert_eq!(failure.cause, RegistrationError::Refused(StatusCode::SERVICE_UNAVAILABLE));
    }
    let register = asked(&mut incoming, &Method::Register).await;
    let reply = granted(register.request());
    register.respond(reply);
    bound(&mut registered).await;
    leave(registered, &mut incoming).await;
    closed([client, server]).await;
}
