//! Our endpoint around Kamailio: in front of it, behind it, at its registrar, and with our own proxy on the path too.
//! `Cell` lines make the matrix of docs/interop.md.

#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::time::Duration;

use iqra_peers::endpoint::{
    LOOPBACK, SDP, Us, answered, ask_in, confirmed, dtmf, invite, refused, request, requested, ringing, soon,
    until_the_peer_hangs_up,
};
use iqra_peers::kamailio::Kamailio;
use iqra_peers::phone::serve;
use iqra_peers::pki::Pki;
use iqra_peers::registrar::{ACCOUNT, REALM};
use iqra_peers::relay::{Faults, Relay};
use iqra_sip::auth::{Binding, Credentials, Keyring, Registration, RegistrationState};
use iqra_sip::event::{Body, OutgoingInvite, Reliability, Reply};
use iqra_sip::net::{Answer, CallEvent, CallPolicy, Endpoint, OutgoingCall};
use iqra_sip::roles::relay::Target;
use iqra_sip::{EngineConfig, HeaderName, Headers, Hop, Method, StatusCode, Transport, Uri};

/// A proxy that stays on the path and sends each request where its Request-URI or Route says.
const PROXY: &str = r#"
request_route {
    if (!mf_process_maxfwd_header("10")) {
        sl_send_reply("483", "Too Many Hops");
        exit;
    }
    if (is_method("CANCEL")) {
        if (t_check_trans()) t_relay();
        exit;
    }
    if (has_totag()) {
        if (loose_route()) {
            t_relay();
        } else if (is_method("ACK")) {
            if (t_check_trans()) t_relay();
        } else {
            sl_send_reply("404", "Not Here");
        }
        exit;
    }
    t_check_trans();
    route(FIRST);
}
"#;

/// What [`PROXY`] does with a new request, by default.
const STRAIGHT: &str = "route[FIRST] { if (is_method(\"INVITE\")) record_route(); t_relay(); }\n";

/// A registrar that asks for the password, and a proxy to those registered that asks callers for it too.
const REGISTRAR: &str = r#"
route[FIRST] {
    if (is_method("REGISTER")) {
        if (!pv_www_authenticate("voice.example", "opensesame", "0")) {
            www_challenge("voice.example", "1");
            exit;
        }
        save("location");
        exit;
    }
    if (!pv_proxy_authenticate("voice.example", "opensesame", "0")) {
        proxy_challenge("voice.example", "1");
        exit;
    }
    consume_credentials();
    if (!lookup("location")) {
        sl_send_reply("404", "Nobody Here");
        exit;
    }
    record_route();
    t_relay();
}
"#;

/// A proxy that follows redirects in the place of its caller.
const FOLLOWING: &str = r#"
route[FIRST] {
    record_route();
    t_on_failure("REDIRECTED");
    t_relay();
}
failure_route[REDIRECTED] {
    if (t_is_canceled()) exit;
    if (t_check_status("30[0-9]") && get_redirects("*")) {
        t_relay();
    }
}
"#;

fn proxy(pki: Option<&Pki>) -> Kamailio {
    Kamailio::start(&[], &format!("{PROXY}{STRAIGHT}"), pki)
}

fn registrar(algorithm: &str) -> Kamailio {
    let algorithm = format!("modparam(\"auth\", \"algorithm\", \"{algorithm}\")");
    let modules =
        ["loadmodule \"auth.so\"", &algorithm, "loadmodule \"usrloc.so\"", "loadmodule \"registrar.so\""];
    Kamailio::start(&modules, &format!("{PROXY}{REGISTRAR}"), None)
}

/// On UDP, TCP and TLS.
async fn secured(pki: &Pki) -> Us {
    Us::bind(Endpoint::builder().udp(LOOPBACK).tcp(LOOPBACK).tls(LOOPBACK).tls_config(pki.endpoint())).await
}

/// The way to Kamailio over a transport.
fn hop(kamailio: &Kamailio, transport: Transport) -> Hop {
    let secure = transport == Transport::Tls;
    let addr = if secure { kamailio.tls_address() } else { kamailio.address() };
    Hop::from((transport, addr))
}

fn through(kamailio: &Kamailio, transport: Transport, to: Uri) -> OutgoingInvite {
    OutgoingInvite { hops: vec![hop(kamailio, transport)], ..invite(to) }
}

/// A call through one or more proxies that is answered, changed by either side, and hung up by the caller or the callee.
async fn converse(mut placed: OutgoingCall, callee: &mut Us, callee_hangs_up: bool) {
    let incoming = callee.called().await;
    incoming.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
    ringing(&mut placed).await;
    let mut theirs = incoming.accept(Answer::sdp(SDP)).await.unwrap();
    let (mut ours, answer) = answered(&mut placed).await;
    assert!(answer.headers.contains(HeaderName::RECORD_ROUTE));
    confirmed(&mut theirs).await;
    let handle = theirs.handle();
    let reinvite =
        tokio::spawn(
            async move { handle.request(Method::Invite, Headers::new(), Some(Body::sdp(SDP))).await },
        );
    let request = requested(&mut ours).await;
    request.respond(Reply { body: Some(Body::sdp(SDP)), ..Reply::new(StatusCode::OK) }).unwrap();
    assert_eq!(soon("the 2xx", reinvite).await.unwrap().unwrap().status, StatusCode::OK);
    let (first, mut other) = if callee_hangs_up { (theirs, ours) } else { (ours, theirs) };
    first.hangup(Headers::new()).await.unwrap();
    until_the_peer_hangs_up(&mut other).await;
}

async fn both_ways(kamailio: &Kamailio, transport: Transport, caller: &Us, callee: &mut Us, last: Transport) {
    for callee_hangs_up in [false, true] {
        let placed = caller.call(through(kamailio, transport, callee.uri("service", last))).await;
        converse(placed, callee, callee_hangs_up).await;
    }
}

/// Cell: Kamailio | call through the peer's record-routing proxy
/// Cell: Kamailio | loose routing
/// Cell: Kamailio | re-INVITE by us
#[tokio::test(flavor = "multi_thread")]
async fn a_call_through_a_proxy_over_udp() {
    let kamailio = proxy(None);
    let (caller, mut callee) = (Us::plain().await, Us::plain().await);
    both_ways(&kamailio, Transport::Udp, &caller, &mut callee, Transport::Udp).await;
}

/// Cell: Kamailio | call over TCP
/// Cell: Kamailio | call through the peer's record-routing proxy
#[tokio::test(flavor = "multi_thread")]
async fn a_call_through_a_proxy_over_tcp_and_on_over_udp() {
    let kamailio = proxy(None);
    let (caller, mut callee) = (Us::plain().await, Us::plain().await);
    both_ways(&kamailio, Transport::Tcp, &caller, &mut callee, Transport::Tcp).await;
    both_ways(&kamailio, Transport::Tcp, &caller, &mut callee, Transport::Udp).await;
}

/// Both sides of each connection show certificates, and each looks at the other's.
///
/// Cell: Kamailio | call over TLS
/// Cell: Kamailio | call through the peer's record-routing proxy
#[tokio::test(flavor = "multi_thread")]
async fn a_call_through_a_proxy_over_tls_and_on_over_udp() {
    let pki = Pki::new();
    let kamailio = proxy(Some(&pki));
    let (caller, mut callee) = (secured(&pki).await, secured(&pki).await);
    both_ways(&kamailio, Transport::Tls, &caller, &mut callee, Transport::Tls).await;
    both_ways(&kamailio, Transport::Tls, &caller, &mut callee, Transport::Udp).await;
}

/// Cell: Kamailio | CANCEL through the peer's proxy
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_through_a_proxy() {
    let kamailio = proxy(None);
    let (caller, mut callee) = (Us::plain().await, Us::plain().await);
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut placed = caller.call(through(&kamailio, transport, callee.uri("service", transport))).await;
        let mut incoming = callee.called().await;
        incoming.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
        ringing(&mut placed).await;
        placed.cancel(Headers::new()).await;
        soon("the CANCEL", incoming.cancelled()).await;
        assert_eq!(refused(&mut placed).await.status, StatusCode::REQUEST_TERMINATED);
    }
}

/// Cell: Kamailio | call refused by us
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_comes_through_a_proxy() {
    let kamailio = proxy(None);
    let (caller, mut callee) = (Us::plain().await, Us::plain().await);
    let mut placed =
        caller.call(through(&kamailio, Transport::Udp, callee.uri("service", Transport::Udp))).await;
    callee.called().await.reject(Reply::new(StatusCode::BUSY_HERE));
    assert_eq!(refused(&mut placed).await.status, StatusCode::BUSY_HERE);
}

/// Cell: Kamailio | redirect by us, followed by the peer
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_of_ours_is_followed_by_a_proxy() {
    let modules = [
        "loadmodule \"acc.so\"", // uac_redirect wants it there.
        "loadmodule \"uac_redirect.so\"",
        "modparam(\"uac_redirect\", \"default_filter\", \"accept\")",
    ];
    let kamailio = Kamailio::start(&modules, &format!("{PROXY}{FOLLOWING}"), None);
    let (caller, mut server, mut callee) = (Us::plain().await, Us::plain().await, Us::plain().await);
    let placed = caller.call(through(&kamailio, Transport::Udp, server.uri("service", Transport::Udp))).await;
    let moved = Reply::new(StatusCode::MOVED_TEMPORARILY);
    let contact = format!("<{}>", callee.uri("service", Transport::Udp));
    assert!(server.called().await.reject(moved.header(HeaderName::CONTACT, contact)));
    converse(placed, &mut callee, true).await;
}

/// Cell: Kamailio | 503 of one server, the next is tried
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_tried_after_a_server_that_is_down() {
    let kamailio = proxy(None);
    let (caller, mut down, mut callee) = (Us::plain().await, Us::plain().await, Us::plain().await);
    for transport in [Transport::Udp, Transport::Tcp] {
        let hops = vec![Hop::from((transport, down.addr_of(transport))), hop(&kamailio, transport)];
        let call = OutgoingInvite { hops, ..invite(callee.uri("service", transport)) };
        let placed = caller.call(call).await;
        assert!(down.called().await.reject(Reply::new(StatusCode::SERVICE_UNAVAILABLE)));
        converse(placed, &mut callee, true).await;
    }
}

/// Cell: Kamailio | 503 of one server, the next is tried
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_passes_over_one_of_ours_that_is_down() {
    let (caller, mut down, mut callee) = (Us::plain().await, Us::plain().await, Us::plain().await);
    let next = format!(
        r#"
route[FIRST] {{ record_route(); t_on_failure("NEXT"); t_relay(); }}
failure_route[NEXT] {{
    if (t_is_canceled()) exit;
    if (t_check_status("503")) {{ $ru = "{}"; t_relay(); }}
}}
"#,
        callee.uri("service", Transport::Udp)
    );
    let kamailio = Kamailio::start(&[], &format!("{PROXY}{next}"), None);
    let placed = caller.call(through(&kamailio, Transport::Udp, down.uri("service", Transport::Udp))).await;
    assert!(down.called().await.reject(Reply::new(StatusCode::SERVICE_UNAVAILABLE)));
    converse(placed, &mut callee, false).await;
}

/// Cell: Kamailio | redirect by the peer, followed by us
/// Cell: Kamailio | several Contacts of a redirect tried in turn
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_of_a_server_is_followed_by_us() {
    let (caller, mut busy, mut callee) = (Us::plain().await, Us::plain().await, Us::plain().await);
    let contacts = [(&busy, 0.9), (&callee, 0.2)]
        .map(|(us, q)| format!("<{}>;q={q}", us.uri("service", Transport::Udp)))
        .join(", ");
    let moved = format!(
        "route[FIRST] {{ append_to_reply(\"Contact: {contacts}\\r\\n\"); sl_send_reply(\"302\", \"Moved\"); }}\n"
    );
    let kamailio = Kamailio::start(&[], &format!("{PROXY}{moved}"), None);
    let call = invite(format!("sip:service@{}", kamailio.address()).parse().unwrap());
    let mut placed = caller.endpoint.call(call, CallPolicy::default()).await.unwrap();
    let pursued = tokio::spawn(async move { answered(&mut placed).await.0 });
    assert!(busy.called().await.reject(Reply::new(StatusCode::BUSY_HERE)));
    let mut theirs = callee.take_call().await;
    soon("the answer", pursued).await.unwrap().hangup(Headers::new()).await.unwrap();
    until_the_peer_hangs_up(&mut theirs).await;
}

/// Cell: Kamailio | call forked, one branch answers
#[tokio::test(flavor = "multi_thread")]
async fn a_call_forked_by_a_proxy_is_answered_once() {
    let (caller, mut other, mut callee) = (Us::plain().await, Us::plain().await, Us::plain().await);
    let fork = format!(
        "route[FIRST] {{ record_route(); append_branch(\"{}\"); t_relay(); }}\n",
        other.uri("service", Transport::Udp)
    );
    let kamailio = Kamailio::start(&["loadmodule \"corex.so\""], &format!("{PROXY}{fork}"), None);
    let to = callee.uri("service", Transport::Udp);
    let mut placed = caller.call(through(&kamailio, Transport::Udp, to)).await;
    let mut left = other.called().await;
    let taken = callee.called().await;
    for invite in [&left, &taken] {
        invite.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
        ringing(&mut placed).await;
    }
    let mut theirs = taken.accept(Answer::sdp(SDP)).await.unwrap();
    let (ours, _) = answered(&mut placed).await;
    confirmed(&mut theirs).await;
    soon("the CANCEL", left.cancelled()).await;
    ours.hangup(Headers::new()).await.unwrap();
    until_the_peer_hangs_up(&mut theirs).await;
}

/// Cell: Kamailio | reliable provisional responses of ours
/// Cell: Kamailio | UPDATE by us
/// Cell: Kamailio | INFO with DTMF by us
#[tokio::test(flavor = "multi_thread")]
async fn every_request_in_a_call_passes_a_proxy() {
    let kamailio = proxy(None);
    let config = || EngineConfig { reliability: Reliability::IfSupported, ..EngineConfig::default() };
    let (caller, mut callee) = (Us::with(config()).await, Us::with(config()).await);
    for transport in [Transport::Udp, Transport::Tcp] {
        let to = callee.uri("service", transport);
        let mut placed = caller.call(through(&kamailio, transport, to)).await;
        let mut incoming = callee.called().await;
        incoming.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
        ringing(&mut placed).await;
        let event = soon("the PRACK", incoming.next()).await;
        assert!(matches!(&event, Some(CallEvent::Acknowledged(_))), "{event:?}");
        let mut theirs = incoming.accept(Answer::sdp(SDP)).await.unwrap();
        let (ours, _) = answered(&mut placed).await;
        confirmed(&mut theirs).await;
        let served = tokio::spawn(serve(theirs));
        for (method, body) in [(Method::Update, Some(Body::sdp(SDP))), (Method::Info, Some(dtmf()))] {
            assert_eq!(ask_in(&ours, method, body).await, StatusCode::OK);
        }
        ours.hangup(Headers::new()).await.unwrap();
        soon("the end", served).await.unwrap();
    }
}

/// Cell: Kamailio | datagrams lost, repeated and out of order
#[tokio::test(flavor = "multi_thread")]
async fn calls_reach_a_proxy_over_a_path_that_loses_and_repeats() {
    let kamailio = proxy(None);
    let (caller, mut callee) = (Us::plain().await, Us::plain().await);
    let path = Relay::start(kamailio.address(), Faults::losing_first(2), Faults::rough(0.2), 7);
    for _ in 0..4 {
        let hops = vec![Hop::from((Transport::Udp, path.address()))];
        let call = OutgoingInvite { hops, ..invite(callee.uri("service", Transport::Udp)) };
        let mut placed = caller.call(call).await;
        let incoming = callee.called().await;
        let mut theirs = incoming.accept(Answer::sdp(SDP)).await.unwrap();
        let (ours, _) = answered(&mut placed).await;
        confirmed(&mut theirs).await;
        ours.hangup(Headers::new()).await.unwrap();
        until_the_peer_hangs_up(&mut theirs).await;
    }
    assert!(path.to_server().lost == 2, "{:?}", path.to_server());
}

fn alice() -> Keyring {
    Credentials::new(ACCOUNT.0, ACCOUNT.1).for_realm(REALM).into()
}

/// Cell: Kamailio | registration of ours at the peer
/// Cell: Kamailio | digest: the peer asks our caller
/// Cell: Kamailio | call refused by the peer
#[tokio::test(flavor = "multi_thread")]
async fn a_registered_endpoint_is_called_until_it_leaves() {
    for algorithm in ["MD5", "SHA-256"] {
        let kamailio = registrar(algorithm);
        let (caller, mut callee) = (Us::plain().await, Us::plain().await);
        let domain: Uri = format!("sip:{}", kamailio.address()).parse().unwrap();
        let address: Uri = format!("sip:alice@{}", kamailio.address()).parse().unwrap();
        let mut asked = Registration::new(domain, address.clone()).credentials(alice());
        asked.bindings = vec![Binding { q: Some(500), ..Binding::default() }];
        let mut registered = callee.endpoint.register(asked).unwrap();
        let state = soon("the registration", registered.changed()).await;
        assert!(matches!(state, Some(RegistrationState::Registered(_))), "{state:?}");
        let policy = || CallPolicy { credentials: alice(), ..CallPolicy::default() };
        let placed = caller.endpoint.call(invite(address.clone()), policy()).await.unwrap();
        converse(placed, &mut callee, false).await;
        soon("the end of the registration", registered.unregister()).await;
        let mut placed = caller.endpoint.call(invite(address), policy()).await.unwrap();
        assert_eq!(refused(&mut placed).await.status, StatusCode::NOT_FOUND);
    }
}

/// Cell: Kamailio | digest: the peer asks our caller
#[tokio::test(flavor = "multi_thread")]
async fn another_password_is_refused_by_a_registrar() {
    let kamailio = registrar("SHA-256");
    let us = Us::plain().await;
    let domain: Uri = format!("sip:{}", kamailio.address()).parse().unwrap();
    let address: Uri = format!("sip:alice@{}", kamailio.address()).parse().unwrap();
    let wrong = Credentials::new(ACCOUNT.0, "opensesam").for_realm(REALM);
    let asked = Registration::new(domain, address).credentials(wrong);
    let mut registered = us.endpoint.register(asked).unwrap();
    let state = soon("the refusal", registered.changed()).await;
    assert!(!matches!(state, None | Some(RegistrationState::Registered(_))), "{state:?}");
}

/// Cell: Kamailio | OPTIONS by us
/// Cell: Kamailio | MESSAGE by us
#[tokio::test(flavor = "multi_thread")]
async fn requests_outside_calls_pass_a_proxy() {
    let kamailio = proxy(None);
    let (caller, mut callee) = (Us::plain().await, Us::plain().await);
    for method in [Method::Options, Method::Message] {
        let request = request(method.clone(), callee.uri("service", Transport::Udp));
        let endpoint = caller.endpoint.clone();
        let hop = hop(&kamailio, Transport::Udp);
        let asked = tokio::spawn(async move { endpoint.request(request, Some(hop)).await });
        let incoming = callee.asked().await;
        assert_eq!(incoming.request().method, method);
        incoming.respond(Reply::new(StatusCode::OK));
        assert_eq!(soon("the answer", asked).await.unwrap().unwrap().status, StatusCode::OK);
    }
}

async fn relay() -> Us {
    Us::relay(Endpoint::builder().udp(LOOPBACK)).await
}

/// Relays the next call to Kamailio, which takes it to the Request-URI.
async fn relay_one(relay: &mut Us, kamailio: &Kamailio) {
    relay.relays(Target { hops: vec![hop(kamailio, Transport::Udp)], ..Target::default() }).await;
}

/// Cell: Kamailio | call through our record-routing proxy
#[tokio::test(flavor = "multi_thread")]
async fn a_call_through_our_proxy_and_then_the_peers() {
    let kamailio = proxy(None);
    let (caller, mut ours, mut callee) = (Us::plain().await, relay().await, Us::plain().await);
    for callee_hangs_up in [false, true] {
        let hops = vec![Hop::from((Transport::Udp, ours.addr()))];
        let call = OutgoingInvite { hops, ..invite(callee.uri("service", Transport::Udp)) };
        let placed = caller.call(call).await;
        relay_one(&mut ours, &kamailio).await;
        converse(placed, &mut callee, callee_hangs_up).await;
    }
}

/// Cell: Kamailio | call through our record-routing proxy
#[tokio::test(flavor = "multi_thread")]
async fn a_call_through_the_peers_proxy_and_then_ours() {
    let (mut ours, mut callee) = (relay().await, Us::plain().await);
    let onwards = format!("route[FIRST] {{ record_route(); $du = \"sip:{}\"; t_relay(); }}\n", ours.addr());
    let kamailio = Kamailio::start(&[], &format!("{PROXY}{onwards}"), None);
    let caller = Us::plain().await;
    for callee_hangs_up in [false, true] {
        let placed =
            caller.call(through(&kamailio, Transport::Udp, callee.uri("service", Transport::Udp))).await;
        ours.relays(Target::default()).await;
        converse(placed, &mut callee, callee_hangs_up).await;
    }
}

/// Cell: Kamailio | CANCEL through the peer's proxy
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_through_our_proxy_and_then_the_peers() {
    let kamailio = proxy(None);
    let (caller, mut ours, mut callee) = (Us::plain().await, relay().await, Us::plain().await);
    let hops = vec![Hop::from((Transport::Udp, ours.addr()))];
    let mut placed =
        caller.call(OutgoingInvite { hops, ..invite(callee.uri("service", Transport::Udp)) }).await;
    relay_one(&mut ours, &kamailio).await;
    let mut incoming = callee.called().await;
    incoming.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
    ringing(&mut placed).await;
    placed.cancel(Headers::new()).await;
    soon("the CANCEL", incoming.cancelled()).await;
    assert_eq!(refused(&mut placed).await.status, StatusCode::REQUEST_TERMINATED);
    ours.endpoint.clone().shutdown(Duration::ZERO).await;
}
