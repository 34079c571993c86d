//! Servers that prove themselves with their answers, and others that do not (RFC 7616 §3.5).

use std::time::Duration;

use iqra_sip::auth::{AuthConfig, AuthenticatorConfig, Qop, ServerProof};
use iqra_sip::event::{Body, EndReason, Event, Failure, Reply};
use iqra_sip::message::header::AuthenticationInfo;
use iqra_sip::{DialogId, EngineConfig, HeaderName, Headers, Method, Request, StatusCode, Transport};

use crate::auth::{Guard, alice};
use crate::network::{CALLEE, CALLER, Network, Weather};

/// A callee that asks for credentials, and whose proof `bend` may change.
struct Server {
    guard: Guard,
    bend: fn(&mut Headers),
}

fn honest(_: &mut Headers) {}

fn silent(headers: &mut Headers) {
    headers.remove(HeaderName::AUTHENTICATION_INFO);
}

fn wrong(headers: &mut Headers) {
    let info: AuthenticationInfo = headers.typed().unwrap();
    headers.set_typed(&AuthenticationInfo {
        response: Some("0123456789abcdef0123456789abcdef".into()),
        next_nonce: Some("planted".into()),
        ..info
    });
}

impl Server {
    fn new(net: &Network, bend: fn(&mut Headers)) -> Self {
        let int = |config: &mut AuthenticatorConfig| config.qop = vec![Qop::AuthInt];
        Self { guard: Guard::new(net, int), bend }
    }

    /// What a request gets: a challenge, or 200 with a body and the proof of both.
    fn reply(&mut self, net: &Network, request: &Request) -> Reply {
        match self.guard.identify(net.now, request) {
            Err(denied) => denied.reply,
            Ok(identity) => {
                let mut reply =
                    Reply { body: Some(Body::sdp("v=0\r\ns=b\r\n")), ..Reply::new(StatusCode::OK) };
                identity.vouch(&mut reply.headers, reply.body.as_ref());
                (self.bend)(&mut reply.headers);
                reply
            }
        }
    }
}

fn network(server_proof: ServerProof) -> Network {
    let auth = AuthConfig { credentials: alice(), server_proof, ..AuthConfig::default() };
    let caller = EngineConfig { auth, ..EngineConfig::default() };
    Network::among(1, Weather::default(), Transport::Udp, vec![caller, EngineConfig::default()])
}

/// Places a call and answers it, challenges first.
fn call(net: &mut Network, server: &mut Server) -> DialogId {
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    loop {
        let Event::Invite { tx, request, .. } = net.event(CALLEE) else { panic!("no INVITE") };
        let reply = server.reply(net, &request);
        let (engine, now) = net.engine(CALLEE);
        match reply.status.is_success() {
            true => return engine.accept(now, tx, reply).unwrap(),
            false => engine.respond(now, tx, reply).unwrap(),
        }
    }
}

/// Answers a request inside the dialog.
fn answer_within(net: &mut Network, server: &mut Server) {
    let Event::DialogRequest { tx, request, .. } = net.event(CALLEE) else { panic!("no request") };
    let reply = server.reply(net, &request);
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, tx, reply).unwrap();
}

#[test]
fn a_server_that_proves_itself_is_believed_and_one_that_says_nothing_where_it_may() {
    for (mode, bend, taken) in [
        (ServerProof::Checked, honest as fn(&mut Headers), true),
        (ServerProof::Checked, silent, true),
        (ServerProof::Checked, wrong, false),
        (ServerProof::Required, honest, true),
        (ServerProof::Required, silent, false),
        (ServerProof::Required, wrong, false),
        (ServerProof::Ignored, wrong, true),
    ] {
        let mut net = network(mode);
        let mut server = Server::new(&net, bend);
        call(&mut net, &mut server);
        match (net.event(CALLER), taken) {
            (Event::Answered { dialog, .. }, true) => {
                let (engine, now) = net.engine(CALLER);
                engine.bye(now, &dialog, Headers::new()).unwrap();
            }
            (Event::Failed { failure: Failure::Unproven, .. }, false) => {}
            (other, _) => panic!("{mode:?}: {other:?}"),
        }
        net.settle();
    }
}

#[test]
fn a_call_answered_by_an_impostor_is_acknowledged_and_hung_up_whatever_is_lost() {
    for (node, what) in [(CALLER, "nothing"), (CALLEE, "200"), (CALLER, "ACK"), (CALLER, "BYE")] {
        let mut net = network(ServerProof::Checked);
        let mut server = Server::new(&net, wrong);
        net.lose_first(node, what);
        let theirs = call(&mut net, &mut server);
        let Event::Failed { failure: Failure::Unproven, .. } = net.event(CALLER) else { panic!("{what}") };
        let Event::Confirmed { .. } = net.event(CALLEE) else { panic!("no ACK: {what}") };
        let Event::Ended { dialog, reason: EndReason::Remote { .. } } = net.event(CALLEE) else {
            panic!("{what}")
        };
        assert_eq!(dialog, theirs);
        assert!(net.nodes[CALLER].events.is_empty(), "told once");
        net.settle();
    }
}

#[test]
fn a_body_that_was_changed_on_the_way_fails_the_call() {
    let mut net = network(ServerProof::Checked);
    let mut server = Server::new(&net, honest);
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    for _ in 0..2 {
        let Event::Invite { tx, request, .. } = net.event(CALLEE) else { panic!("no INVITE") };
        let mut reply = server.reply(&net, &request);
        let (engine, now) = net.engine(CALLEE);
        if reply.status.is_success() {
            reply.body = Some(Body::sdp("v=0\r\ns=c\r\n"));
            engine.accept(now, tx, reply).unwrap();
        } else {
            engine.respond(now, tx, reply).unwrap();
        }
    }
    assert!(matches!(net.event(CALLER), Event::Failed { failure: Failure::Unproven, .. }));
    net.run(Duration::from_secs(1));
    assert_eq!((net.count(CALLER, "ACK"), net.count(CALLER, "BYE")), (2, 1), "one ACK was for the 401");
}

#[test]
fn a_change_of_the_session_that_an_impostor_answers_ends_the_call() {
    for method in [Method::Invite, Method::Update] {
        let mut net = network(ServerProof::Checked);
        let mut server = Server::new(&net, honest);
        call(&mut net, &mut server);
        let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
        let Event::Confirmed { .. } = net.event(CALLEE) else { panic!("no ACK") };
        server.bend = wrong;
        let (engine, now) = net.engine(CALLER);
        let body = Some(Body::sdp("v=0\r\ns=again\r\n"));
        let asked = engine.dialog_request(now, &dialog, method, &Headers::new(), body).unwrap();
        answer_within(&mut net, &mut server);
        let event = net.event(CALLER);
        assert!(
            matches!(event, Event::Failed { tx, failure: Failure::Unproven } if tx == asked),
            "{event:?}"
        );
        let event = net.event(CALLER);
        assert!(matches!(event, Event::Ended { reason: EndReason::Unproven, .. }), "{event:?}");
        while !matches!(net.event(CALLEE), Event::Ended { reason: EndReason::Remote { .. }, .. }) {}
        net.settle();
    }
}

#[test]
fn other_requests_fail_alone_and_the_nonce_of_an_impostor_is_not_taken() {
    let mut net = network(ServerProof::Checked);
    let mut server = Server::new(&net, honest);
    call(&mut net, &mut server);
    let Event::Answered { dialog, .. } = net.event(CALLER) else { panic!("no answer") };
    let Event::Confirmed { .. } = net.event(CALLEE) else { panic!("no ACK") };
    for (bend, proven) in [(wrong as fn(&mut Headers), false), (honest, true)] {
        server.bend = bend;
        let (engine, now) = net.engine(CALLER);
        let body = Some(Body { content_type: "text/plain".into(), bytes: "1".into() });
        engine.dialog_request(now, &dialog, Method::Info, &Headers::new(), body).unwrap();
        answer_within(&mut net, &mut server);
        match net.event(CALLER) {
            Event::Failed { failure: Failure::Unproven, .. } if !proven => {}
            Event::Response { response, .. } if proven => assert_eq!(response.status, StatusCode::OK),
            other => panic!("{other:?}"),
        }
    }
    assert!(!net.newest(CALLER, "INFO").contains("planted"));
    assert_eq!(net.count(CALLEE, "401 INFO"), 0, "the nonce of before still serves");
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &dialog, Headers::new()).unwrap();
    net.settle();
}
