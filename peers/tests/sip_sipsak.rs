//! sipsak: OPTIONS over UDP and TCP, a registration, a redirect, and a flood that the guard keeps from the
//! program. `Cell` lines make the matrix of docs/interop.md.

use std::future::Future;

use iqra_peers::endpoint::{SOON, Us};
use iqra_peers::program::Launch;
use iqra_peers::registrar::bind;
use iqra_peers::wait;
use iqra_sip::guard::{GuardConfig, Rate};
use iqra_sip::net::IncomingRequest;
use iqra_sip::observe::{Direction, DropReason};
use iqra_sip::roles::redirect::{Choice, redirect};
use iqra_sip::{EngineConfig, Method, StatusCode, Transport};

async fn options(us: &mut Us, transport: Transport, more: &[&str]) {
    let target = format!("sip:ping@{}", us.addr_of(transport));
    let sipsak = Launch::new("sipsak", "sipsak").args(["-vv", "-s", &target]).args(more).start();
    let other = us.asked().await;
    assert_eq!((&other.request().method, other.source().transport), (&Method::Options, transport));
    drop(other);
    let ended = sipsak.end(SOON);
    assert!(ended.status.success() && ended.output.contains("SIP/2.0 200"), "{}", ended.output);
}

/// Cell: sipsak | OPTIONS by the peer
#[tokio::test(flavor = "multi_thread")]
async fn sipsak_asks_options_over_udp() {
    let mut us = Us::plain().await;
    options(&mut us, Transport::Udp, &[]).await;
    us.close().await;
}

/// Cell: sipsak | OPTIONS by the peer
#[tokio::test(flavor = "multi_thread")]
async fn sipsak_asks_options_over_tcp() {
    let mut us = Us::plain().await;
    options(&mut us, Transport::Tcp, &["-E", "tcp"]).await;
    us.close().await;
}

/// Cell: sipsak | flood that the guard drops
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_sipsak_is_kept_from_the_program() {
    let new_requests = Rate { per_second: 1, burst: 20 };
    let guard = Some(GuardConfig { new_requests, ..GuardConfig::default() });
    let config = EngineConfig { guard, ..EngineConfig::default() };
    let mut us = Us::with(config).await;
    let target = format!("sip:ping@{}", us.addr());
    let sipsak = Launch::new("sipsak", "sipsak").args(["-F", "-e", "2000", "-s", &target]).start();
    wait::until("drops above the rate", SOON, || {
        (us.endpoint.dropped().of(DropReason::RateNew) > 500).then_some(())
    });
    drop(sipsak);
    let mut served = 0;
    while let Some(request) = us.waiting().await {
        assert!(matches!(request, IncomingRequest::Other(_)), "{request:?}");
        served += 1;
    }
    assert!((1..40).contains(&served), "{served} were served");
    assert!(us.count(Direction::In, "OPTIONS") < 500, "what is kept away is shown to nobody");
    us.close().await;
}

/// Runs it to a good end while `serve` answers.
async fn run(words: &[&str], serve: impl Future<Output = ()>) -> String {
    let sipsak = Launch::new("sipsak", "sipsak").args(words).start();
    serve.await;
    let ended = sipsak.end(SOON);
    assert!(ended.status.success(), "{}", ended.output);
    ended.output
}

/// Cell: sipsak | registration of the peer at us
#[tokio::test(flavor = "multi_thread")]
async fn sipsak_registers() {
    let mut us = Us::plain().await;
    let target = us.uri("phone", Transport::Udp).to_string();
    let words = ["-U", "-C", "sip:phone@127.0.0.1:9", "-x", "60", "-i", "-s", &target];
    let binding = async { drop(bind(us.asked().await)) };
    run(&words, binding).await;
    us.close().await;
}

/// Cell: sipsak | redirect by us, followed by the peer
#[tokio::test(flavor = "multi_thread")]
async fn sipsak_follows_our_redirect() {
    let (mut first, mut second) = (Us::plain().await, Us::plain().await);
    let target = first.uri("ping", Transport::Udp).to_string();
    let away = redirect(
        StatusCode::MOVED_TEMPORARILY,
        [Choice { uri: second.uri("pong", Transport::Udp), q: 1_000 }],
    );
    let serve = async {
        first.asked().await.respond(away.unwrap());
        assert_eq!(second.asked().await.request().uri.user(), Some("pong"));
    };
    let told = run(&["-vv", "-s", &target], serve).await;
    assert!(told.contains("SIP/2.0 200"), "{told}");
    first.close().await;
    second.close().await;
}
