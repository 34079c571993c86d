//! TLS on real sockets: who is let in, who is taken for whom, and certificates that change.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

#[path = "common/pki.rs"]
mod pki;

use std::sync::Arc;
use std::time::Duration;

use iqra_sip::event::OutgoingInvite;
use iqra_sip::message::NameAddr;
use iqra_sip::net::{
    Answer, Endpoint, Error, Incoming, IncomingRequest, NetConfig, OutgoingEvent, TlsClients, TlsConfig,
    TlsSettings,
};
use iqra_sip::{Headers, Hop, Method, Request, Response, StatusCode, Transport};
use pki::Pki;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
const BOTH: &[&str] = &["sip.example.org", "127.0.0.1"];

async fn bound(tls: TlsConfig, net: NetConfig) -> (Endpoint, Incoming) {
    Endpoint::builder().tls(LOOPBACK).tls_config(tls).net(net).bind().await.unwrap()
}

/// A server that answers OPTIONS.
async fn server(tls: TlsConfig, net: NetConfig) -> Endpoint {
    let (endpoint, mut incoming) = bound(tls, net).await;
    tokio::spawn(async move { while incoming.next().await.is_some() {} });
    endpoint
}

async fn client(tls: TlsConfig) -> Endpoint {
    bound(tls, NetConfig::default()).await.0
}

fn hop(endpoint: &Endpoint, name: &str) -> Hop {
    Hop::from((Transport::Tls, endpoint.listeners()[0].addr)).named(name)
}

async fn options(from: &Endpoint, to: &Endpoint, name: &str) -> Result<Arc<Response>, Error> {
    let mut request = Request::new(Method::Options, "sips:sip.example.org".parse().unwrap());
    request.headers.push(iqra_sip::HeaderName::FROM, "<sip:a@example.org>");
    from.request(request, Some(hop(to, name))).await
}

fn assert_ok(answer: Result<Arc<Response>, Error>) {
    assert_eq!(answer.unwrap().status, StatusCode::OK);
}

fn assert_refused(answer: Result<Arc<Response>, Error>) {
    assert!(matches!(answer, Err(Error::Transport)), "{answer:?}");
}

#[tokio::test]
async fn a_call_is_placed_answered_and_ended_over_tls() {
    let pki = Pki::new();
    let (callee, mut incoming) = bound(pki.config("callee", BOTH), NetConfig::default()).await;
    let caller = client(pki.config("caller", BOTH)).await;
    let call = OutgoingInvite {
        uri: "sips:callee@sip.example.org".parse().unwrap(),
        hops: vec![hop(&callee, "sip.example.org")],
        from: NameAddr::new("sips:caller@example.org".parse().unwrap()),
        to: NameAddr::new("sips:callee@sip.example.org".parse().unwrap()),
        call_id: None,
        cseq: 1,
        headers: Headers::new(),
        body: None,
        options: iqra_sip::event::CallOptions::default(),
    };
    let mut call = caller.invite(call).await.unwrap();
    let Some(IncomingRequest::Invite(invite)) = incoming.next().await else { panic!("no INVITE") };
    let mut answered = invite.accept(Answer::default()).await.unwrap();
    let contact = |headers: &Headers| headers.get(iqra_sip::HeaderName::CONTACT).unwrap().into_owned();
    let ours = loop {
        match call.next().await {
            Some(OutgoingEvent::Answered(call, response)) => {
                assert!(contact(&response.headers).starts_with("<sips:"));
                break call;
            }
            Some(OutgoingEvent::Provisional { .. }) => {}
            other => panic!("{other:?}"),
        }
    };
    let names = callee.proven_names(answered.remote_flow().unwrap());
    assert!(names.iter().any(|name| &**name == "sip.example.org"), "{names:?}");
    answered.next().await;
    answered.hangup(Headers::new()).await.unwrap();
    let mut ours = ours;
    while ours.next().await.is_some() {}
    assert_eq!((caller.counts().connections, callee.counts().connections), (1, 1), "both ways by one");
}

#[tokio::test]
async fn a_server_with_another_domain_is_not_spoken_to() {
    let pki = Pki::new();
    let server = server(pki.config("server", &["other.example.net"]), NetConfig::default()).await;
    let client = client(pki.config("client", BOTH)).await;
    assert_refused(options(&client, &server, "sip.example.org").await);
    assert_eq!(client.closed().handshake, 1);
    assert_ok(options(&client, &server, "other.example.net").await);
    assert_refused(options(&client, &server, "sip.example.org").await);
}

#[tokio::test]
async fn a_sip_uri_in_the_certificate_names_a_domain_and_a_user_or_a_star_does_not() {
    let pki = Pki::new();
    let client = client(pki.config("client", BOTH)).await;
    for (name, taken) in
        [("sip:sip.example.org", true), ("sip:a@sip.example.org", false), ("*.example.org", false)]
    {
        let server = server(pki.config("server", &[name]), NetConfig::default()).await;
        assert_eq!(options(&client, &server, "sip.example.org").await.is_ok(), taken, "{name}");
    }
    let settings = TlsSettings { wildcards: true, ..pki.settings("lenient", BOTH) };
    let client = self::client(TlsConfig::load(settings).unwrap()).await;
    let server = server(pki.config("server", &["*.example.org"]), NetConfig::default()).await;
    assert_ok(options(&client, &server, "sip.example.org").await);
}

#[tokio::test]
async fn a_dns_name_or_a_star_names_a_domain_only_where_no_sip_uri_does() {
    let pki = Pki::new();
    let lenient = TlsSettings { wildcards: true, ..pki.settings("lenient", BOTH) };
    let clients = [pki.config("client", BOTH), TlsConfig::load(lenient).unwrap()];
    for (names, taken) in [
        (["sip:other.example.net", "sip.example.org"], [false, false]),
        (["sip:other.example.net", "*.example.org"], [false, false]),
        (["sip:a@other.example.net", "sip.example.org"], [true, true]), // a user is no domain
        (["sip:a@other.example.net", "*.example.org"], [false, true]),
    ] {
        let server = server(pki.config("server", &names), NetConfig::default()).await;
        for (tls, taken) in clients.iter().zip(taken) {
            let client = client(tls.clone()).await;
            assert_eq!(options(&client, &server, "sip.example.org").await.is_ok(), taken, "{names:?}");
        }
    }
}

#[tokio::test]
async fn a_port_or_parameters_of_a_sip_uri_do_not_hide_its_domain() {
    let pki = Pki::new();
    let client = client(pki.config("client", BOTH)).await;
    for uri in ["sip:sip.example.org:5061", "SIP:sip.example.org;transport=tls", "sip:sip.example.org?a=b"] {
        let server = server(pki.config("server", &[uri]), NetConfig::default()).await;
        assert_ok(options(&client, &server, "sip.example.org").await);
    }
    let server = server(pki.config("server", &["sip:a@sip.example.org:5061"]), NetConfig::default()).await;
    assert_refused(options(&client, &server, "sip.example.org").await);
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_spoken_to() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let server = server(stranger.config("server", BOTH), NetConfig::default()).await;
    let client = client(pki.config("client", BOTH)).await;
    assert_refused(options(&client, &server, "sip.example.org").await);
}

#[tokio::test]
async fn mutual_tls_lets_in_who_has_a_certificate_of_ours_and_nobody_else() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let required = TlsSettings { clients: TlsClients::Required(pki.roots()), ..pki.settings("server", BOTH) };
    let server = server(TlsConfig::load(required).unwrap(), NetConfig::default()).await;
    let known = client(pki.config("known", BOTH)).await;
    assert_ok(options(&known, &server, "sip.example.org").await);
    let bare = TlsSettings { identities: Vec::new(), ..pki.settings("bare", BOTH) };
    let forged =
        TlsSettings { identities: vec![stranger.sign("forged", BOTH)], ..pki.settings("forged", BOTH) };
    for settings in [bare, forged] {
        let tls = TlsConfig::load(settings).unwrap();
        let (client, _incoming) = Endpoint::builder().tcp(LOOPBACK).tls_config(tls).bind().await.unwrap();
        assert_refused(options(&client, &server, "sip.example.org").await);
    }
    assert_eq!(server.closed().handshake, 2);
}

#[tokio::test]
async fn a_certificate_is_replaced_without_a_restart_and_a_broken_one_is_not_taken() {
    let pki = Pki::new();
    let tls = pki.config("server", &["old.example.org"]);
    let server = server(tls.clone(), NetConfig::default()).await;
    let first = client(pki.config("first", BOTH)).await;
    assert_ok(options(&first, &server, "old.example.org").await);
    pki.sign("server", &["new.example.org"]);
    tls.reload().unwrap();
    assert_ok(options(&first, &server, "old.example.org").await); // by the connection that is up
    let second = client(pki.config("second", BOTH)).await;
    assert_ok(options(&second, &server, "new.example.org").await);
    std::fs::write(pki.file("server.key"), "no key").unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("server.key"));
    let third = client(pki.config("third", BOTH)).await;
    assert_ok(options(&third, &server, "new.example.org").await);
}

#[tokio::test]
async fn each_name_is_shown_its_own_certificate() {
    let pki = Pki::new();
    let mut settings = pki.settings("one", &["one.example.org"]);
    settings.identities.push(pki.sign("two", &["two.example.org"]));
    let server = server(TlsConfig::load(settings).unwrap(), NetConfig::default()).await;
    for name in ["one.example.org", "two.example.org"] {
        let client = client(pki.config("client", BOTH)).await;
        assert_ok(options(&client, &server, name).await);
    }
}

#[tokio::test]
async fn names_of_one_address_take_one_connection_each_however_they_alternate() {
    let pki = Pki::new();
    let mut settings = pki.settings("one", &["one.example.org"]);
    settings.identities.push(pki.sign("two", &["two.example.org"]));
    let server = server(TlsConfig::load(settings).unwrap(), NetConfig::default()).await;
    let client = client(pki.config("client", BOTH)).await;
    for _ in 0..3 {
        for name in ["one.example.org", "two.example.org"] {
            assert_ok(options(&client, &server, name).await);
        }
    }
    assert_eq!((client.counts().connections, server.counts().connections), (2, 2));
}

#[tokio::test]
async fn a_handshake_that_is_never_finished_is_given_up() {
    let pki = Pki::new();
    let net = NetConfig { handshake: Duration::from_millis(50), ..NetConfig::default() };
    let server = server(pki.config("server", BOTH), net).await;
    let mut silent = TcpStream::connect(server.listeners()[0].addr).await.unwrap();
    silent.write_all(b"\x16\x03\x01").await.unwrap();
    assert_eq!(silent.read(&mut [0; 64]).await.unwrap_or(0), 0, "closed");
    assert_eq!(server.closed().handshake, 1);
    let mut plain = TcpStream::connect(server.listeners()[0].addr).await.unwrap();
    plain.write_all(b"OPTIONS sip:a@127.0.0.1 SIP/2.0\r\n").await.unwrap();
    while plain.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
    assert_eq!(server.counts().connections, 0);
}

/// RFC 5923: the callee's requests take the caller's connection, because the caller has proven its sent-by.
#[tokio::test]
async fn a_proven_peer_is_reached_by_the_connection_that_it_opened() {
    let pki = Pki::new();
    let (proxy, mut incoming) = bound(pki.config("proxy", BOTH), NetConfig::default()).await;
    let (peer, mut at_peer) = bound(pki.config("peer", BOTH), NetConfig::default()).await;
    tokio::spawn(async move { while incoming.next().await.is_some() {} });
    tokio::spawn(async move { while at_peer.next().await.is_some() {} });
    assert_ok(options(&peer, &proxy, "sip.example.org").await);
    assert_ok(options(&proxy, &peer, "sip.example.org").await);
    assert_eq!((proxy.counts().connections, peer.counts().connections), (1, 1));
    assert_refused(options(&proxy, &peer, "other.example.org").await); // not by that one, nor by another
}

/// RFC 5922 §7.1 holds for who connects, too: a DNS name beside a `sip:` URI proves no sent-by.
#[tokio::test]
async fn what_a_certificate_proves_of_a_client_is_its_sip_uri_where_it_has_one() {
    let pki = Pki::new();
    let (proxy, mut incoming) = bound(pki.config("proxy", BOTH), NetConfig::default()).await;
    let peer = client(pki.config("peer", &["sip:other.example.net:5061", "sip.example.org"])).await;
    let heard = async {
        let Some(IncomingRequest::Other(other)) = incoming.next().await else { panic!("no OPTIONS") };
        proxy.proven_names(other.source())
    };
    let (answer, names) = tokio::join!(options(&peer, &proxy, "sip.example.org"), heard);
    assert_ok(answer);
    assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["other.example.net"]);
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_with_file_and_remedy() {
    let (pki, other) = (Pki::new(), Pki::new());
    let good = pki.settings("good", BOTH);
    let error = |change: &dyn Fn(&mut TlsSettings)| {
        let mut settings = good.clone();
        change(&mut settings);
        TlsConfig::load(settings).unwrap_err().to_string()
    };
    let missing = error(&|settings| settings.identities[0].certificate = pki.file("missing.pem"));
    assert!(missing.contains("missing.pem") && missing.contains("give the path"), "{missing}");
    let empty = error(&|settings| settings.identities[0].certificate = pki.file("good.key"));
    assert!(empty.contains("good.key") && empty.contains("no certificate in it"), "{empty}");
    let keyless = error(&|settings| settings.identities[0].key = pki.file("good.pem"));
    assert!(keyless.contains("good.pem") && keyless.contains("no private key in it"), "{keyless}");
    let foreign = other.sign("other", BOTH).key;
    let mismatched = error(&|settings| settings.identities[0].key = foreign.clone());
    assert!(
        mismatched.contains("other.key") && mismatched.contains("belongs to the certificate"),
        "{mismatched}"
    );
    let bare = Endpoint::builder().tls(LOOPBACK).bind().await.err().unwrap().to_string();
    assert!(bare.contains("tls_config"), "{bare}");
}
