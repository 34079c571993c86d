//! Calls across NATs, between two sessions on a virtual clock: A is the far end, B is us. Both hear each other, and RTCP
//! flows both ways, whatever SDP says of addresses.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // test helpers

mod link;

use std::net::SocketAddr;
use std::time::Duration;

use iqra_media::detect::goertzel;
use iqra_media::rtp::source::RELOCK_SILENCE;
use iqra_media::sdp::{CryptoSuite, Negotiated, Security, SrtpKey};
use iqra_media::session::{Plan, Port};
use link::nat::{Kind, Nat};
use link::{Call, Setup, address, codecs};

/// The public addresses of NATs.
const OF_A: u8 = 101;
const OF_B: u8 = 102;

/// The address of that host, at the port of RTP.
fn public(host: u8) -> SocketAddr {
    address(host)
}

/// A call in which SDP names the addresses `a` and `b`, with these NATs in front of the two.
fn call([a, b]: [SocketAddr; 2], nats: [Option<Kind>; 2], security: [Security; 2]) -> Call {
    let setup = Setup::default();
    let mut named = [(b, security[0].clone()), (a, security[1].clone())].into_iter();
    let mut call = Call::planned(&setup, |negotiated, _| {
        let (remote, security) = named.next().unwrap();
        let remote_rtcp = SocketAddr::new(remote.ip(), remote.port() + 1);
        let negotiated = Negotiated { remote, remote_rtcp, security, ..negotiated };
        Plan::new(negotiated, setup.formats, &codecs()).unwrap()
    });
    let [of_a, of_b] = nats;
    call.nats = [
        of_a.map(|kind| Nat::new(kind, public(OF_A).ip())),
        of_b.map(|kind| Nat::new(kind, public(OF_B).ip())),
    ];
    call
}

fn in_clear(named: [SocketAddr; 2], nats: [Option<Kind>; 2]) -> Call {
    call(named, nats, [Security::Plain, Security::Plain])
}

/// A says 1000 Hz and B 600 Hz; both hear all of it but what the lock's probation takes.
fn both_hear_each_other(call: &mut Call) {
    call.a.heard.clear();
    call.b.heard.clear();
    call.a.hum(1_000.0, 1_500);
    call.b.hum(600.0, 1_500);
    call.talk(1_400);
    for (side, frequency) in [(&call.b, 1_000.0), (&call.a, 600.0)] {
        let purity = goertzel::purity(&side.heard[4_000..8_000], 8_000, frequency);
        assert!(purity > 0.99, "{frequency} Hz: {purity}");
    }
}

fn reports_flow_both_ways(call: &mut Call) {
    let before = [call.a.session.report().rtcp_received, call.b.session.report().rtcp_received];
    call.talk(30_000);
    for (side, before) in [&call.a, &call.b].into_iter().zip(before) {
        let report = side.session.report();
        assert!(report.rtcp_received >= before + 2 && report.round_trip.is_some(), "{report}");
        assert!(report.lost == 0 && report.rtcp_refused <= 1, "{report}");
    }
}

#[test]
fn both_ends_are_public() {
    let mut call = in_clear([address(1), address(2)], [None, None]);
    both_hear_each_other(&mut call);
    reports_flow_both_ways(&mut call);
    assert_eq!(call.b.session.report().refused, 0);
}

#[test]
fn the_far_end_is_behind_a_nat_and_names_its_private_address() {
    let mut call = in_clear([address(1), address(2)], [Some(Kind::PortRestricted), None]);
    both_hear_each_other(&mut call);
    reports_flow_both_ways(&mut call);
    assert_eq!(call.b.session.report().refused, 2, "probation");
}

/// Ours maps its ports one to one, and our SDP names its public address.
#[test]
fn both_ends_are_behind_nats() {
    let nats = [Some(Kind::PortRestricted), Some(Kind::Static)];
    let mut call = in_clear([address(1), public(OF_B)], nats);
    both_hear_each_other(&mut call);
    reports_flow_both_ways(&mut call);
}

/// What it learnt of itself by STUN is a port that we never see.
#[test]
fn the_far_end_is_behind_a_symmetric_nat_and_names_a_port_that_is_not_ours() {
    let mut call = in_clear([public(OF_A), address(2)], [Some(Kind::Symmetric), None]);
    both_hear_each_other(&mut call);
    reports_flow_both_ways(&mut call);
}

fn sdes() -> [Security; 2] {
    let suite = CryptoSuite::AeadAes128Gcm;
    let [ours, theirs] = [1, 2].map(|seed| SrtpKey::new(suite, &vec![seed; suite.material_len()]).unwrap());
    let with =
        |local: &SrtpKey, remote: &SrtpKey| Security::Sdes { local: local.clone(), remote: remote.clone() };
    [with(&ours, &theirs), with(&theirs, &ours)]
}

/// Where the first packets of A's NAT come from: SDP names them, as with a NAT that rewrites SDP.
fn first_port() -> SocketAddr {
    SocketAddr::new(public(OF_A).ip(), 40_007)
}

#[test]
fn the_nat_of_the_far_end_gives_it_another_port_in_the_call() {
    let clear = [Security::Plain, Security::Plain];
    for (security, deaf) in [(clear, RELOCK_SILENCE), (sdes(), Duration::ZERO)] {
        for named in [first_port(), address(1)] {
            let mut call = call([named, address(2)], [Some(Kind::PortRestricted), None], security.clone());
            both_hear_each_other(&mut call);
            let before = call.b.session.report().packets_received;
            call.nats[0].as_mut().unwrap().forget();
            call.talk(deaf.as_millis() as u64 + 200);
            let heard = call.b.session.report().packets_received - before;
            assert!((4..=20).contains(&heard), "{heard} packets");
            both_hear_each_other(&mut call);
            call.talk(30_000);
            let before = call.a.session.report().rtcp_received;
            call.talk(20_000);
            assert!(call.a.session.report().rtcp_received > before, "RTCP found its new port as well");
        }
    }
}

/// Two of them take turns, with packets of streams of their own, from before the far end's first packet on.
#[test]
fn strangers_who_take_turns_do_not_keep_out_a_far_end_behind_a_nat() {
    let mut call = in_clear([address(1), address(2)], [Some(Kind::PortRestricted), None]);
    call.a.hum(1_000.0, 1_500);
    for n in 0..200_u16 {
        let mut packet = [0x80, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0xff, 0xff];
        packet[2..4].copy_from_slice(&n.wrapping_mul(40_503).to_be_bytes());
        call.b.session.handle_packet(call.now, address(66 + (n % 2) as u8), Port::Rtp, &mut packet);
        call.run(5);
    }
    let purity = goertzel::purity(&call.b.heard[3_000..6_000], 8_000, 1_000.0);
    assert!(purity > 0.99, "{purity}");
    assert_eq!(call.b.session.report().malformed, 0);
}
