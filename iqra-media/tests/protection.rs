//! Calls whose media is protected, between two sessions on a virtual clock: SRTP with keys from the SDP, and with keys
//! from a DTLS handshake on the media port, ICE checks answered beside it.
#![cfg(feature = "webrtc")]
#![allow(clippy::unwrap_used)] // test helpers

mod link;

use std::net::SocketAddr;
use std::time::Duration;

use iqra_media::conversation::{Command, HangUpReason};
use iqra_media::detect::goertzel;
use iqra_media::rtp::dtls::{Certificate, HANDSHAKE_TIMEOUT, Handshake};
use iqra_media::rtp::packet::{Packet, Protocol};
use iqra_media::sdp::{
    CryptoSuite, DtlsRole, Fingerprint, IceLite, Negotiated, RemoteIce, Security, SrtpKey,
};
use iqra_media::session::{Plan, PlanError, Port};
use link::nat::{Kind, Nat};
use link::{Call, Setup, Weather, address, codecs, negotiated};

fn key(suite: CryptoSuite, seed: u8) -> SrtpKey {
    let octets: Vec<u8> =
        (0..suite.material_len() as u8).map(|at| at.wrapping_mul(7).wrapping_add(seed)).collect();
    SrtpKey::new(suite, &octets).unwrap()
}

/// A call with keys by SDP; A protects with the first.
fn sdes(suite: CryptoSuite, setup: &Setup) -> Call {
    let mut keys = [key(suite, 1), key(suite, 2)];
    Call::planned(setup, |negotiated, _| {
        let [local, remote] = keys.clone();
        keys.reverse();
        let security = Security::Sdes { local, remote };
        Plan::new(Negotiated { security, ..negotiated }, setup.formats, &codecs()).unwrap()
    })
}

fn hears_a_tone(call: &mut Call) {
    call.a.hum(1_000.0, 1_500);
    call.b.heard.clear();
    call.talk(1_400);
    let purity = goertzel::purity(&call.b.heard[4_000..8_000], 8_000, 1_000.0);
    assert!(purity > 0.99, "{purity}");
}

#[test]
fn every_suite_carries_a_call_and_its_reports() {
    for suite in CryptoSuite::ALL {
        let mut call = sdes(suite, &Setup::default());
        hears_a_tone(&mut call);
        call.talk(10_000);
        let report = call.b.session.report();
        assert_eq!((report.not_authentic, report.lost, report.malformed), (0, 0, 0), "{suite:?}");
        assert!(report.rtcp_received > 0 && report.round_trip.is_some(), "{suite:?} {report}");
        let speech =
            call.a.sent.iter().filter(|packet| packet[12..172].iter().all(|&octet| octet == 0xff)).count();
        assert_eq!(speech, 0, "silence does not show");
    }
}

#[test]
fn who_has_no_key_is_not_heard_whatever_address_he_sends_from() {
    let mut call = sdes(CryptoSuite::AesCm128HmacSha1_80, &Setup::default());
    call.talk(500);
    let before = call.b.session.report();
    for at in 0..50_u16 {
        let mut packet = call.a.sent.last().unwrap().clone();
        packet[2..4].copy_from_slice(&(5_000 + at).to_be_bytes());
        let from = if at % 2 == 0 { address(1) } else { address(66) };
        call.b.session.handle_packet(call.now, from, Port::Rtp, &mut packet);
        call.b.session.handle_packet(call.now, from, Port::Rtp, &mut [0x80; 172]);
    }
    let report = call.b.session.report();
    assert_eq!(report.not_authentic, 100);
    assert_eq!((report.packets_received, report.refused), (before.packets_received, before.refused));
}

#[test]
fn reports_without_the_key_turn_ours_nowhere_and_with_it_they_do() {
    let mut call = sdes(CryptoSuite::AeadAes128Gcm, &Setup::default());
    call.talk(8_000);
    let mut report_goes_to = |forged: &mut [u8], port| {
        let from = SocketAddr::new(address(1).ip(), port);
        call.b.session.handle_packet(call.now, from, Port::Rtcp, forged);
        call.b.session.close();
        let mut out = [0; 1_500];
        std::iter::from_fn(|| call.b.session.poll_transmit(&mut out)).last().unwrap().to.port()
    };
    assert_eq!(report_goes_to(&mut [0x80, 200, 0, 0], 6_666), 4_001);
    let mut changed = call.a.reports.last().unwrap().clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(report_goes_to(&mut changed, 6_666), 4_001);
    // The next one of A, which did not arrive yet.
    call.a.session.close();
    let mut out = [0; 1_500];
    let sent = std::iter::from_fn(|| call.a.session.poll_transmit(&mut out)).last().unwrap();
    assert_eq!(report_goes_to(&mut out[..sent.length], 61_000), 61_000);
    assert_eq!(call.b.session.report().not_authentic, 2);
}

#[test]
fn packets_in_the_clear_are_refused_where_srtp_was_agreed() {
    let mut call = sdes(CryptoSuite::AeadAes128Gcm, &Setup::default());
    let mut clear = Call::new(&Setup::default());
    clear.talk(100);
    for packet in &clear.a.sent {
        call.b.session.handle_packet(call.now, address(1), Port::Rtp, &mut packet.clone());
    }
    assert_eq!(call.b.session.report().packets_received, 0);
}

#[test]
fn a_new_key_in_a_renegotiation_is_taken_over_and_the_same_one_counts_on() {
    let suite = CryptoSuite::AesCm128HmacSha1_80;
    let mut call = sdes(suite, &Setup::default());
    let plan = |remote, local, theirs| {
        let security = Security::Sdes { local: key(suite, local), remote: key(suite, theirs) };
        let negotiated = negotiated(iqra_media::codec::g711::PCMU, 20, address(remote));
        Plan::new(Negotiated { security, ..negotiated }, Setup::default().formats, &codecs()).unwrap()
    };
    hears_a_tone(&mut call);
    for (a, b) in [(1, 2), (9, 2)] {
        call.a.session.update(call.now, plan(2, a, b));
        call.b.session.update(call.now, plan(1, b, a));
        hears_a_tone(&mut call);
    }
    let refused = call.b.session.report().not_authentic;
    assert!(refused <= 2, "{refused} packets: those that were under way");
}

/// Our stream passes a wrap of its sequence numbers before the key changes; with the far end's address the count of
/// wraps begins anew, without it it goes on.
#[test]
fn the_roll_over_counter_outlives_a_new_key_but_not_a_new_address() {
    use iqra_media::rtp::srtp::Incoming;
    let suite = CryptoSuite::AesCm128HmacSha1_80;
    let setup = Setup::default();
    let with = |ours: u8, remote: u8| {
        let security = Security::Sdes { local: key(suite, ours), remote: key(suite, 99) };
        let negotiated = negotiated(iqra_media::codec::g711::PCMU, 20, address(remote));
        Plan::new(Negotiated { security, ..negotiated }, setup.formats, &codecs()).unwrap()
    };
    let mut call = Call::planned(&setup, |_, _| with(1, 2));
    let mut out = [0; 1_500];
    let mut last = 0;
    let mut next = |call: &mut Call| loop {
        call.now += Duration::from_millis(20);
        call.a.session.tick(call.now);
        while let Some(sent) = call.a.session.poll_transmit(&mut out) {
            if sent.port == Port::Rtp {
                return out[..sent.length].to_vec();
            }
        }
    };
    loop {
        let packet = next(&mut call);
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        if sequence < std::mem::replace(&mut last, sequence) {
            break;
        }
    }
    for (ours, remote, begins_anew) in [(2, 2, false), (3, 9, true)] {
        call.a.session.update(call.now, with(ours, remote));
        let mut packet = next(&mut call);
        let opened = Incoming::new(key(suite, ours).master()).open(&mut packet);
        assert_eq!(opened.is_ok(), begins_anew, "{remote}");
    }
}

struct Browser {
    call: Call,
}

/// A call by DTLS; `honest` is whether the SDP names the certificates that are shown.
fn browser(weather: Weather, honest: bool) -> Browser {
    let setup = Setup { weather, ..Setup::default() };
    let certificates = [Certificate::generate().unwrap(), Certificate::generate().unwrap()];
    let mut at_a = true;
    let call = Call::planned(&setup, |negotiated, now| {
        let [ours, theirs] = if at_a { [0, 1] } else { [1, 0] };
        let role = if at_a { DtlsRole::Client } else { DtlsRole::Server };
        at_a = false;
        let fingerprint = if honest { certificates[theirs].fingerprint() } else { [3; 32] };
        let security = Security::Dtls { fingerprint: Fingerprint(fingerprint), role, tls_id: None };
        let negotiated = Negotiated { security, rtcp_mux: true, ..negotiated };
        Plan::webrtc(negotiated, setup.formats, &codecs(), &certificates[ours], now).unwrap()
    });
    Browser { call }
}

#[test]
fn what_is_said_while_hands_are_shaken_is_heard_whole() {
    let mut call = browser(Weather { delay: Duration::from_millis(50), ..Weather::default() }, true).call;
    let said = call.a.hum(1_000.0, 1_000);
    call.talk(2_000);
    let heard = call.b.heard.iter().filter(|sample| sample.unsigned_abs() > 500).count();
    let loud = said.iter().filter(|sample| sample.unsigned_abs() > 500).count();
    assert!(heard.abs_diff(loud) < 200, "{heard} of {loud} loud samples");
    let kinds: Vec<_> = call.a.sent.iter().map(|packet| Protocol::of(packet)).collect();
    assert_eq!(kinds[0], Protocol::Dtls);
    assert!(kinds.iter().skip_while(|kind| **kind == Protocol::Dtls).all(|kind| *kind != Protocol::Dtls));
}

#[test]
fn loss_does_not_prevent_a_handshake_and_reports_share_the_port() {
    let mut call =
        browser(Weather { loss: 0.15, delay: Duration::from_millis(20), ..Weather::default() }, true).call;
    call.talk(30_000);
    assert!(call.a.reports.is_empty() && call.b.reports.is_empty(), "RTCP is multiplexed");
    for report in [call.a.session.report(), call.b.session.report()] {
        assert!(report.packets_received > 500 && report.rtcp_received > 0, "{report}");
        assert_eq!(report.not_authentic, 0);
    }
}

#[tokio::test]
async fn another_certificate_than_the_sdp_names_ends_the_call_and_no_audio_leaves() {
    let mut call = browser(Weather::default(), false).call;
    call.a.hum(1_000.0, 1_000);
    call.talk(2_000);
    assert!(call.a.sent.iter().all(|packet| Protocol::of(packet) == Protocol::Dtls));
    let Some(Command::HangUp(HangUpReason::MediaSecurity(why))) = call.a.commands.next().await else {
        panic!("goes on")
    };
    assert!(why.contains("a=fingerprint"), "{why}");
}

#[tokio::test]
async fn a_far_end_that_shakes_no_hands_ends_the_call_in_time() {
    let mut call = browser(Weather { loss: 1.0, ..Weather::default() }, true).call;
    call.talk(HANDSHAKE_TIMEOUT.as_millis() as u64 + 1_000);
    let command = call.b.commands.next().await;
    assert!(matches!(command, Some(Command::HangUp(HangUpReason::MediaSecurity(_)))), "{command:?}");
}

/// A record of DTLS in the clear with this body.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, body.len() as u8], body].concat()
}

/// What anybody can send without having seen anything.
fn forged() -> Vec<Vec<u8>> {
    let mut hello = vec![0; 1_500];
    let stranger = Certificate::generate().unwrap();
    let mut begun = Handshake::new(&stranger, true, [1; 32], std::time::Instant::now()).unwrap();
    let length = begun.poll_transmit(&mut hello).unwrap();
    hello.truncate(length);
    let server_hello =
        [&[2, 0, 0, 38, 0, 0, 0, 0, 0, 0, 0, 38, 0xfe, 0xfd][..], &[7; 32], &[0, 0xc0, 0x2b, 0]];
    vec![
        vec![22],
        record(21, &[2, 40]),
        record(21, &[1, 0]),
        record(22, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        record(22, &server_hello.concat()),
        record(22, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        record(20, &[1]),
        [record(20, &[1]), record(21, &[2, 40])].concat(),
        hello,
    ]
}

fn distant() -> Call {
    browser(Weather { delay: Duration::from_millis(50), ..Weather::default() }, true).call
}

/// Hands both ends a datagram of somebody else.
fn intrude(call: &mut Call, from: u8, datagram: &[u8]) {
    call.a.session.handle_packet(call.now, address(from), Port::Rtp, &mut datagram.to_vec());
    call.b.session.handle_packet(call.now, address(from), Port::Rtp, &mut datagram.to_vec());
}

/// That the call goes on: packets pass both ways, and nobody hangs up.
fn goes_on(call: &mut Call, why: &str) {
    call.talk(1_000);
    for side in [&call.a, &call.b] {
        let report = side.session.report();
        assert!(report.packets_received > 20 && report.not_authentic == 0, "{why}: {report}");
    }
    assert!(call.a.asked().is_none() && call.b.asked().is_none(), "{why}");
}

#[test]
fn a_stranger_turns_no_flight_of_a_handshake_round() {
    for datagram in forged() {
        let mut call = distant();
        intrude(&mut call, 66, &datagram);
        call.a.session.tick(call.now);
        let sent = call.a.session.poll_transmit(&mut [0; 1_500]).unwrap();
        assert_eq!(sent.to, address(2), "after {datagram:?}");
    }
}

#[test]
fn no_datagram_of_a_stranger_ends_a_handshake_or_its_media_whenever_it_comes() {
    for datagram in forged() {
        for at in [0, 60, 110, 160, 2_000] {
            let mut call = distant();
            call.run(at);
            intrude(&mut call, 66, &datagram);
            goes_on(&mut call, &format!("{datagram:?} at {at} ms"));
        }
    }
}

#[test]
fn strangers_who_never_stop_do_not_keep_the_far_end_from_shaking_hands() {
    let forged = forged();
    let mut call = distant();
    for n in 0..200 {
        intrude(&mut call, 60 + n % 7, &forged[usize::from(n) % forged.len()]);
        call.run(5);
    }
    goes_on(&mut call, "under fire");
}

/// An alert that the far end's address seems to send is nobody's either (RFC 6347 §4.1.2.7), and a handshake that it
/// spoils begins anew.
#[test]
fn what_comes_in_the_far_end_s_name_delays_a_handshake_and_does_not_end_the_call() {
    for datagram in forged() {
        for at in [0, 60] {
            let mut call = distant();
            call.run(at);
            call.a.session.handle_packet(call.now, address(2), Port::Rtp, &mut datagram.clone());
            call.talk(1_000);
            assert!(call.a.asked().is_none() && call.b.asked().is_none(), "{datagram:?} at {at} ms");
        }
    }
}

#[test]
fn a_client_behind_a_nat_shakes_hands_from_where_its_nat_put_it() {
    let mut call = distant();
    call.nats[0] = Some(Nat::new(Kind::PortRestricted, address(101).ip()));
    goes_on(&mut call, "behind a NAT");
    for (from, octets) in [(66, &forged()[0]), (101, &record(21, &[2, 40]))] {
        intrude(&mut call, from, octets);
        goes_on(&mut call, "afterwards");
    }
}

/// A server that answers from another address than SDP names is taken once that one was silent for long.
#[test]
fn a_client_takes_answers_from_elsewhere_while_its_peer_is_silent() {
    let [ours, theirs] = [(); 2].map(|()| Certificate::generate().unwrap());
    let setup = Setup { weather: Weather { loss: 1.0, ..Weather::default() }, ..Setup::default() };
    let mut call = Call::planned(&setup, |negotiated, now| {
        let fingerprint = Fingerprint(theirs.fingerprint());
        let security = Security::Dtls { fingerprint, role: DtlsRole::Client, tls_id: None };
        let negotiated = Negotiated { security, rtcp_mux: true, ..negotiated };
        Plan::webrtc(negotiated, setup.formats, &codecs(), &ours, now).unwrap()
    });
    let began = call.now;
    let mut server = Handshake::new(&theirs, false, ours.fingerprint(), began).unwrap();
    let (mut seen, mut out) = (0, [0; 1_500]);
    while !call.a.sent.iter().any(|packet| Protocol::of(packet) == Protocol::Rtp) {
        assert!(call.now - began < Duration::from_secs(15), "no keys");
        for flight in call.a.sent.split_off(seen) {
            server.handle_packet(call.now, &flight);
            call.a.sent.push(flight);
        }
        seen = call.a.sent.len();
        server.handle_timeout(call.now);
        while let Some(length) = server.poll_transmit(&mut out) {
            call.a.session.handle_packet(call.now, address(9), Port::Rtp, &mut out[..length]);
        }
        call.run(5);
    }
    assert!(call.now - began >= Duration::from_secs(3), "{:?}", call.now - began);
    assert!(call.a.asked().is_none());
}

#[test]
fn a_plan_without_a_certificate_is_refused_for_dtls() {
    let security = Security::Dtls { fingerprint: Fingerprint([1; 32]), role: DtlsRole::Client, tls_id: None };
    let negotiated = negotiated(iqra_media::codec::g711::PCMU, 20, address(1));
    let refused = Plan::new(Negotiated { security, ..negotiated }, Setup::default().formats, &codecs());
    assert!(matches!(refused, Err(PlanError::NoCertificate)), "{refused:?}");
}

fn ours() -> IceLite {
    IceLite { ufrag: "ours".into(), pwd: "p".repeat(22), candidates: Vec::new() }
}

fn theirs(ufrag: &str) -> RemoteIce {
    let (ufrag, pwd, options) = (ufrag.to_owned(), ufrag.repeat(6), vec!["trickle".into()]);
    RemoteIce { ufrag, pwd, lite: false, options, candidates: Vec::new() }
}

/// A check of the far end that nominates the address it comes from.
fn nominating(ice: &IceLite) -> Vec<u8> {
    use stun_types::attribute::{AttributeType, RawAttribute, Username};
    use stun_types::message::{
        BINDING, IntegrityAlgorithm, Message, MessageWrite, MessageWriteExt, MessageWriteVec,
        ShortTermCredentials,
    };
    let mut check = Message::builder_request(BINDING, MessageWriteVec::new());
    check.add_attribute(&Username::new(&format!("{}:theirs", ice.ufrag)).unwrap()).unwrap();
    check.add_attribute(&RawAttribute::new(AttributeType::new(0x25), &[])).unwrap();
    check
        .add_message_integrity(&ShortTermCredentials::new(ice.pwd.clone()).into(), IntegrityAlgorithm::Sha1)
        .unwrap();
    check.finish()
}

#[test]
fn a_check_that_nominates_turns_the_media_round() {
    let setup = Setup::default();
    let (certificate, ice) = (Certificate::generate().unwrap(), ours());
    let mut call = Call::planned(&setup, |negotiated, now| {
        let negotiated = Negotiated { local_ice: Some(ice.clone()), ..negotiated };
        Plan::webrtc(negotiated, setup.formats, &codecs(), &certificate, now).unwrap()
    });
    call.run(100);
    let nat = address(9);
    call.a.session.handle_packet(call.now, nat, Port::Rtp, &mut nominating(&ice));
    let mut out = [0; 1_500];
    let answer = call.a.session.poll_transmit(&mut out).unwrap();
    assert_eq!((answer.to, Protocol::of(&out[..answer.length])), (nat, Protocol::Stun));
    call.now += Duration::from_millis(20);
    call.a.session.tick(call.now);
    let audio = call.a.session.poll_transmit(&mut out).unwrap();
    assert_eq!((audio.to, Protocol::of(&out[..audio.length])), (nat, Protocol::Rtp));
}

/// A browser that trickles its candidates says `c=IN IP4 0.0.0.0`.
#[test]
fn a_far_end_that_ice_finds_later_is_sent_to_and_misses_nothing() {
    let setup = Setup::default();
    let (certificate, ice) = (Certificate::generate().unwrap(), ours());
    let theirs = theirs("theirs");
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 9));
    let plan = |negotiated: Negotiated, now| {
        let (theirs, ours) = (Some(theirs.clone()), Some(ice.clone()));
        let found_later =
            Negotiated { remote: nowhere, rtcp_mux: true, ice: theirs, local_ice: ours, ..negotiated };
        Plan::webrtc(found_later, setup.formats, &codecs(), &certificate, now).unwrap()
    };
    let mut call = Call::planned(&setup, plan);
    call.a.hum(800.0, 100);
    call.run(500);
    assert_eq!((call.a.sent.len(), call.a.session.report().packets_sent), (0, 0));

    let browser = address(9);
    call.a.session.handle_packet(call.now, browser, Port::Rtp, &mut nominating(&ice));
    let mut out = [0; 1_500];
    let mut audio = Vec::new();
    let mut talk = |call: &mut Call, millis: u64| {
        for _ in 0..millis / 5 {
            call.now += Duration::from_millis(5);
            call.a.session.tick(call.now);
            while let Some(sent) = call.a.session.poll_transmit(&mut out) {
                assert_eq!(sent.to, browser);
                if let Ok(packet) = Packet::parse(&out[..sent.length]) {
                    audio.push(packet.payload().to_vec());
                }
            }
        }
        audio.len()
    };
    assert!((9..=11).contains(&talk(&mut call, 200)));

    // A further offer with the same credentials says the same useless address.
    let again = plan(negotiated(iqra_media::codec::g711::PCMU, 20, address(2)), call.now);
    call.a.session.update(call.now, again);
    assert!((19..=21).contains(&talk(&mut call, 200)));
    let loud = audio.iter().filter(|payload| payload.iter().any(|sample| *sample != 0xff)).count();
    assert_eq!(loud, 5, "the tenth of a second that was spoken before anybody could hear it");
}

/// The far end restarts ICE, since its network changed: media goes on where it went until a check under the new
/// credentials chooses anew, whatever the SDP says meanwhile.
#[test]
fn media_goes_on_over_a_restart_of_ice_until_the_far_end_chose_anew() {
    let setup = Setup::default();
    let certificate = Certificate::generate().unwrap();
    let (first, anew) = (ours(), IceLite::random(&[5; 24]));
    let plan = |negotiated: Negotiated, ours: &IceLite, far_end: &str, now| {
        let negotiated =
            Negotiated { ice: Some(theirs(far_end)), local_ice: Some(ours.clone()), ..negotiated };
        Plan::webrtc(negotiated, setup.formats, &codecs(), &certificate, now).unwrap()
    };
    let mut call = Call::planned(&setup, |negotiated, now| plan(negotiated, &first, "theirs", now));
    let (wifi, mobile) = (address(9), address(10));
    let mut out = [0; 1_500];
    let mut check = |call: &mut Call, from: SocketAddr, ice: &IceLite| {
        call.a.session.handle_packet(call.now, from, Port::Rtp, &mut nominating(ice));
        let answer = call.a.session.poll_transmit(&mut out);
        let is_answered = answer.is_some_and(|sent| Protocol::of(&out[..sent.length]) == Protocol::Stun);
        call.now += Duration::from_millis(20);
        call.a.session.tick(call.now);
        let audio = std::iter::from_fn(|| call.a.session.poll_transmit(&mut out));
        (is_answered, audio.last().unwrap().to)
    };
    assert_eq!(check(&mut call, wifi, &first), (true, wifi));
    let restarted = negotiated(iqra_media::codec::g711::PCMU, 20, address(2));
    let update = plan(restarted, &anew, "other", call.now);
    call.a.session.update(call.now, update);
    assert_eq!(check(&mut call, wifi, &first), (true, wifi), "the session before goes on");
    assert_eq!(check(&mut call, mobile, &anew), (true, mobile));
    assert_eq!(check(&mut call, wifi, &first), (false, mobile), "and is over now");
}
