//! sipsak: OPTIONS over UDP and TCP, and a flood that the guard keeps from the program.

use std::time::Duration;

use iqra_peers::end::{End, LOOPBACK};
use iqra_peers::program::Launch;
use iqra_peers::wait;
use iqra_sip::guard::{GuardConfig, Rate};
use iqra_sip::net::{Endpoint, IncomingRequest};
use iqra_sip::observe::{Direction, DropReason};
use iqra_sip::{EngineConfig, Method, Transport};

const SOON: Duration = Duration::from_secs(15);

fn options(end: &mut End, transport: Transport, more: &[&str]) {
    let target = format!("sip:ping@{}", end.addr(transport));
    let sipsak = Launch::new("sipsak", "sipsak").args(["-vv", "-s", &target]).args(more).start();
    let other = end.other();
    assert_eq!((&other.request().method, other.source().transport), (&Method::Options, transport));
    drop(other);
    let ended = sipsak.end(SOON);
    assert!(ended.status.success() && ended.output.contains("SIP/2.0 200"), "{}", ended.output);
}

/// Cell: sipsak | OPTIONS by the peer
#[test]
fn sipsak_asks_options_over_udp() {
    let mut end = End::udp();
    options(&mut end, Transport::Udp, &[]);
    end.close();
}

/// Cell: sipsak | OPTIONS by the peer
#[test]
fn sipsak_asks_options_over_tcp() {
    let mut end = End::bind(Endpoint::builder().tcp(LOOPBACK));
    options(&mut end, Transport::Tcp, &["-E", "tcp"]);
    end.close();
}

/// Cell: sipsak | flood that the guard drops
#[test]
fn a_flood_of_sipsak_is_kept_from_the_program() {
    let new_requests = Rate { per_second: 1, burst: 20 };
    let guard = Some(GuardConfig { new_requests, ..GuardConfig::default() });
    let config = EngineConfig { guard, ..EngineConfig::default() };
    let mut end = End::bind_with(Endpoint::builder().udp(LOOPBACK), config);
    let target = format!("sip:ping@{}", end.addr(Transport::Udp));
    let sipsak = Launch::new("sipsak", "sipsak").args(["-F", "-e", "2000", "-s", &target]).start();
    wait::until("drops above the rate", SOON, || {
        (end.endpoint().dropped().of(DropReason::RateNew) > 500).then_some(())
    });
    drop(sipsak);
    let mut served = 0;
    while let Some(request) = end.waiting() {
        assert!(matches!(request, IncomingRequest::Other(_)), "{request:?}");
        served += 1;
    }
    assert!((1..40).contains(&served), "{served} were served");
    assert!(end.count(Direction::In, "OPTIONS") > 500);
    end.close();
}
