//! RTCP of whole calls between two media sessions on a virtual clock: reports, round trip, marks, BYE, collisions.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // test helpers

mod link;

use std::net::SocketAddr;
use std::time::Duration;

use iqra_media::codec::g711::PCMU;
use iqra_media::conversation::{Command, HangUpReason};
use iqra_media::quality::MediaReport;
use iqra_media::rtp::packet::Packet;
use iqra_media::rtp::rtcp::VoipMetrics;
use iqra_media::rtp::rtcp::read::{self, RtcpPacket};
use iqra_media::rtp::rtcp::write::Writer;
use iqra_media::rtp::source::SymmetricRtp;
use iqra_media::sdp::{Direction, Negotiated};
use iqra_media::session::{Config, Plan, Port, Transmit};
use link::{Call, Setup, Weather, address, codecs, negotiated};

fn call(weather: Weather) -> Call {
    Call::new(&Setup { weather, ..Setup::default() })
}

fn reports(call: &Call) -> [MediaReport; 2] {
    [call.a.session.report(), call.b.session.report()]
}

#[test]
fn both_ends_report_every_five_seconds_and_learn_the_round_trip() {
    let delay = Duration::from_millis(40);
    let mut call = call(Weather { delay, ..Weather::default() });
    call.talk(60_000);
    for report in reports(&call) {
        assert!((9..=22).contains(&report.rtcp_sent), "{report}");
        assert!((9..=22).contains(&report.rtcp_received), "{report}");
        assert!(report.round_trip.unwrap().abs_diff(delay * 2) <= Duration::from_millis(11), "{report}");
        assert_eq!((report.far_loss, report.far_lost, report.malformed), (Some(0.0), 0, 0));
        assert!(report.mos_in > 4.3 && report.mos_out.unwrap() > 4.3, "{report}");
    }
}

#[test]
fn loss_is_told_to_who_sent_and_costs_marks_in_both_directions() {
    let mut call = call(Weather { loss: 0.05, delay: Duration::from_millis(30), ..Weather::default() });
    call.talk(60_000);
    for [here, there] in [reports(&call), {
        let [a, b] = reports(&call);
        [b, a]
    }] {
        assert!((100..=220).contains(&here.lost), "{here}");
        assert!(here.far_lost.abs_diff(there.lost) < 40, "{here} {there}");
        assert!((3.2..4.1).contains(&here.mos_in), "{here}");
        assert!((here.mos_out.unwrap() - there.mos_in).abs() < 0.4, "{here} {there}");
        assert!((0.03..0.08).contains(&here.missing) && here.burst_ratio < 1.3, "{here}");
    }
}

#[test]
fn delay_costs_marks_although_nothing_is_lost() {
    let mut call = call(Weather { delay: Duration::from_millis(300), ..Weather::default() });
    call.talk(30_000);
    let [report, _] = reports(&call);
    assert_eq!(report.lost, 0);
    assert!(report.mos_in < 4.0, "{report}");
}

#[test]
fn voip_metrics_tell_the_concealment_and_the_bounds_of_the_buffer() {
    let mut call = call(Weather::default());
    call.talk(10_000);
    let target = call.a.session.report().target_delay;
    let metrics =
        call.a.reports.iter().flat_map(|report| read::compound(report).unwrap()).filter_map(|packet| {
            if let RtcpPacket::VoipMetrics { metrics, .. } = packet { Some(metrics) } else { None }
        });
    let metrics = metrics.last().unwrap();
    assert_eq!(metrics.receiver, 0b1011_0000, "enhanced, adaptive (RFC 3611 §4.7.6)");
    assert_eq!(u128::from(metrics.buffer_nominal), target.as_millis());
    assert_eq!((metrics.buffer_maximum, metrics.buffer_limit), (200, 200));
}

#[test]
fn a_far_end_that_gives_no_mark_of_its_own_is_marked_by_what_it_lost_discarded_and_in_which_bursts() {
    let mark_of = |metrics: VoipMetrics| {
        let mut call = call(Weather::default());
        call.talk(10_000);
        let ours = Packet::parse(call.b.sent.last().unwrap()).unwrap().ssrc();
        let theirs = stream_of_a(&call);
        let mut report = [0; 200];
        let mut writer = Writer::new(&mut report);
        writer.receiver_report(theirs, None);
        writer.voip_metrics(theirs, &VoipMetrics { ssrc: ours, ..metrics });
        let length = writer.finish().unwrap();
        call.b.session.handle_packet(call.now, other_port(4_001), Port::Rtcp, &mut report[..length]);
        call.b.session.report().mos_out.unwrap()
    };
    let (whole, random) =
        (VoipMetrics::default(), VoipMetrics { gap_duration: 10_000, ..VoipMetrics::default() });
    // 5 % discarded: at random, and three fourths of what was sent in bursts of 200 ms.
    let random = VoipMetrics { discard_rate: 13, gap_density: 13, ..random };
    let bursts = VoipMetrics {
        discard_rate: 13,
        burst_density: 192,
        burst_duration: 200,
        gap_duration: 2_800,
        ..whole
    };
    let [whole, random, bursts] = [whole, random, bursts].map(mark_of);
    assert!(
        whole > 4.3 && (3.8..4.0).contains(&random) && bursts < random - 0.05,
        "{whole} {random} {bursts}"
    );
    let said = VoipMetrics { mos_conversational: 31, ..VoipMetrics::default() };
    assert!((mark_of(said) - 3.1).abs() < 1e-9);
}

/// What is in the last compound, by kind.
fn kinds(compound: &[u8]) -> Vec<&'static str> {
    let kind = |packet| match packet {
        RtcpPacket::SenderReport { .. } => "SR",
        RtcpPacket::ReceiverReport { .. } => "RR",
        RtcpPacket::Bye { .. } => "BYE",
        RtcpPacket::VoipMetrics { .. } => "XR",
        _ => "SDES",
    };
    read::compound(compound).unwrap().map(kind).collect()
}

#[test]
fn a_report_holds_all_three_and_the_last_one_a_bye() {
    let mut call = call(Weather::default());
    call.talk(10_000);
    assert_eq!(kinds(call.a.reports.last().unwrap()), ["SR", "SDES", "XR"]);
    call.a.session.close();
    call.run(50);
    assert_eq!(kinds(call.a.reports.last().unwrap()), ["SR", "SDES", "BYE"]);
}

#[test]
fn the_sender_report_ties_the_wall_clock_to_the_timestamps_of_rtp() {
    let mut call = call(Weather::default());
    call.talk(20_000);
    let infos: Vec<_> = call
        .a
        .reports
        .iter()
        .filter_map(|compound| {
            let RtcpPacket::SenderReport { info, .. } = read::compound(compound).unwrap().next().unwrap()
            else {
                return None;
            };
            Some(info)
        })
        .collect();
    let [first, .., last] = &infos[..] else { panic!("too few reports") };
    let seconds = (last.ntp.0 - first.ntp.0) as f64 / 2f64.powi(32);
    let units = last.rtp.wrapping_sub(first.rtp);
    assert!((f64::from(units) / 8_000.0 - seconds).abs() < 0.011, "{units} units in {seconds} s");
    assert_eq!(last.octets, last.packets * 160);
}

#[test]
fn rtcp_of_strangers_is_refused() {
    let mut call = call(Weather::default());
    call.talk(10_000);
    let mut bye = [0; 100];
    let mut writer = Writer::new(&mut bye);
    writer.receiver_report(1, None);
    let length = writer.finish().unwrap();
    let before = call.b.session.report();
    for (from, port) in [(address(66), Port::Rtp), (address(66), Port::Rtcp)] {
        call.b.session.handle_packet(call.now, from, port, &mut bye[..length]);
    }
    let report = call.b.session.report();
    assert_eq!(report.rtcp_refused, 2);
    assert_eq!(report.rtcp_received, before.rtcp_received);
    assert_eq!(report.refused, 0, "no RTP was refused");
}

#[test]
fn rtcp_that_shares_the_rtp_port_is_taken_from_the_peer_as_well() {
    let mut call = call(Weather::default());
    call.talk(6_000);
    let mut report = call.a.reports.last().unwrap().clone();
    let before = call.b.session.report().rtcp_received;
    call.b.session.handle_packet(call.now, address(1), Port::Rtp, &mut report);
    assert_eq!(call.b.session.report().rtcp_received, before + 1);
}

#[test]
fn a_far_end_with_our_ssrc_makes_us_take_another_and_say_so() {
    let mut call = call(Weather::default());
    call.talk(1_000);
    let ours = Packet::parse(call.a.sent.last().unwrap()).unwrap().ssrc();
    let mut looped = call.a.sent.last().unwrap().clone();
    call.a.session.handle_packet(call.now, address(2), Port::Rtp, &mut looped);
    call.talk(200);
    let now = Packet::parse(call.a.sent.last().unwrap()).unwrap().ssrc();
    assert_ne!(now, ours);
    let last = call.a.reports.last().unwrap();
    let bye = read::compound(last)
        .unwrap()
        .any(|p| matches!(p, RtcpPacket::Bye { sources } if sources.contains(ours)));
    assert!(bye, "{:?}", kinds(last));
    call.talk(1_000);
    assert!(call.b.session.report().lost < 5, "the far end follows: {}", call.b.session.report());
}

#[test]
fn a_far_end_that_echoes_our_packets_is_fled_from_once() {
    let mut call = call(Weather::default());
    call.talk(1_000);
    let mut ours = std::collections::BTreeSet::new();
    for _ in 0..10 {
        call.talk(100);
        let mut echoed = call.a.sent.last().unwrap().clone();
        ours.insert(Packet::parse(&echoed).unwrap().ssrc());
        call.a.session.handle_packet(call.now, address(2), Port::Rtp, &mut echoed);
    }
    assert_eq!(ours.len(), 2, "{ours:?}");
    let byes = call.a.reports.iter().filter(|report| {
        read::compound(report).unwrap().any(|packet| matches!(packet, RtcpPacket::Bye { .. }))
    });
    assert_eq!(byes.count(), 1);
}

/// A port of the far end's address that SDP does not name.
fn other_port(port: u16) -> SocketAddr {
    SocketAddr::new(address(1).ip(), port)
}

/// Hands B a report by the stream `ssrc` from that port.
fn reports_from(call: &mut Call, port: u16, ssrc: u32) {
    let mut report = [0; 100];
    let mut writer = Writer::new(&mut report);
    writer.receiver_report(ssrc, None);
    let length = writer.finish().unwrap();
    call.b.session.handle_packet(call.now, other_port(port), Port::Rtcp, &mut report[..length]);
}

/// Where the next report of B goes, by the port beside that of RTP.
fn report_goes_to(call: &mut Call) -> SocketAddr {
    call.b.session.close();
    let mut out = [0; 1_500];
    let sent = std::iter::from_fn(|| call.b.session.poll_transmit(&mut out)).last();
    let Some(Transmit { to, port: Port::Rtcp, .. }) = sent else { panic!("{sent:?}") };
    to
}

fn stream_of_a(call: &Call) -> u32 {
    Packet::parse(call.a.sent.last().unwrap()).unwrap().ssrc()
}

#[test]
fn a_port_that_a_nat_gave_rtcp_is_learnt() {
    let mut call = call(Weather::default());
    call.talk(1_000);
    let theirs = stream_of_a(&call);
    reports_from(&mut call, 61_000, theirs);
    assert_eq!(report_goes_to(&mut call), other_port(61_000));
    reports_from(&mut call, 62_000, theirs);
    assert_eq!(report_goes_to(&mut call), other_port(61_000), "who was learnt stays while it reports");
    call.now += Duration::from_secs(25);
    reports_from(&mut call, 62_000, theirs);
    assert_eq!(report_goes_to(&mut call), other_port(62_000), "a NAT gave it yet another");
    reports_from(&mut call, 4_001, theirs);
    assert_eq!(report_goes_to(&mut call), other_port(4_001), "SDP names this one");
}

#[test]
fn rtcp_that_is_not_of_the_stream_that_we_hear_turns_ours_nowhere() {
    let mut call = call(Weather::default());
    call.talk(1_000);
    reports_from(&mut call, 6_666, 9);
    for junk in [&[0x80, 200, 0, 0][..], &[0x80, 201, 0, 1, 0, 0, 0]] {
        call.b.session.handle_packet(call.now, other_port(6_666), Port::Rtcp, &mut junk.to_vec());
    }
    assert_eq!(call.b.session.report().malformed, 2);
    assert_eq!(report_goes_to(&mut call), other_port(4_001));
}

#[test]
fn without_symmetric_rtp_the_signalled_port_alone_is_heard_and_reported_to() {
    let config = Config { symmetric_rtp: SymmetricRtp::Off, ..Config::default() };
    let mut call = Call::new(&Setup { config, ..Setup::default() });
    call.talk(1_000);
    let theirs = stream_of_a(&call);
    reports_from(&mut call, 6_666, theirs);
    assert_eq!(call.b.session.report().rtcp_refused, 1);
    assert_eq!(report_goes_to(&mut call), other_port(4_001));
    call.talk(10_000);
    assert!(call.b.session.report().rtcp_received > 0);
}

fn wants_to_hang_up(call: &mut Call) -> [bool; 2] {
    [&mut call.a, &mut call.b]
        .map(|side| matches!(side.asked(), Some(Command::HangUp(HangUpReason::MediaTimeout))))
}

fn hold(call: &mut Call) {
    for (side, direction, remote) in
        [(&mut call.a, Direction::Inactive, 2), (&mut call.b, Direction::SendOnly, 1)]
    {
        let negotiated = Negotiated { direction, ..negotiated(PCMU, 20, address(remote)) };
        let plan = Plan::new(negotiated, Setup::default().formats, &codecs()).unwrap();
        side.session.update(call.now, plan);
    }
}

#[test]
fn reports_are_a_sign_of_life_of_a_far_end_that_says_nothing() {
    let mut call = call(Weather::default());
    call.deaf = [true, true];
    call.talk(130_000);
    assert_eq!(wants_to_hang_up(&mut call), [false, false]);
    call.weather.loss = 1.0;
    call.talk(50_000);
    assert_eq!(wants_to_hang_up(&mut call), [false, false]);
    call.talk(12_000);
    assert_eq!(wants_to_hang_up(&mut call), [true, true]);
}

#[test]
fn a_far_end_that_reports_on_hold_is_missed_when_it_stops() {
    let mut call = call(Weather::default());
    call.talk(10_000);
    hold(&mut call);
    call.talk(130_000);
    assert_eq!(wants_to_hang_up(&mut call), [false, false], "held for long");
    call.weather.loss = 1.0;
    call.talk(70_000);
    assert_eq!(wants_to_hang_up(&mut call), [true, true]);
}

#[test]
fn a_far_end_that_does_not_report_on_hold_is_not_missed() {
    let mut call = call(Weather::default());
    call.talk(10_000);
    hold(&mut call);
    let theirs = stream_of_a(&call);
    reports_from(&mut call, 4_001, theirs);
    call.weather.loss = 1.0;
    call.talk(200_000);
    assert_eq!(wants_to_hang_up(&mut call), [false, false]);
}

#[test]
fn reports_of_strangers_and_of_a_stream_that_ended_are_no_sign_of_life() {
    let mut call = call(Weather::default());
    call.talk(1_000);
    let theirs = stream_of_a(&call);
    call.weather.loss = 1.0;
    let mut bye = [0; 100];
    let mut writer = Writer::new(&mut bye);
    writer.receiver_report(theirs, None);
    writer.bye(theirs, "");
    let length = writer.finish().unwrap();
    call.b.session.close();
    call.talk(200);
    for _ in 0..12 {
        call.talk(5_000);
        reports_from(&mut call, 6_666, 9);
        call.b.session.handle_packet(call.now, other_port(4_001), Port::Rtcp, &mut bye[..length]);
    }
    call.talk(1_000);
    assert!(wants_to_hang_up(&mut call)[1]);
}

#[test]
fn a_call_that_both_hear_is_not_one_way_whatever_the_weather_and_however_long_it_is_held() {
    let jitter = Duration::from_millis(40);
    let mut call =
        call(Weather { loss: 0.2, delay: Duration::from_millis(200), jitter, ..Weather::default() });
    call.talk(30_000);
    hold(&mut call);
    call.talk(30_000);
    assert!(reports(&call).iter().all(|report| !report.is_one_way()));
}

#[test]
fn who_hears_nothing_knows_it_and_who_is_not_heard_learns_it_by_reports() {
    for after in [0, 5_000] {
        let mut call = call(Weather { delay: Duration::from_millis(50), ..Weather::default() });
        call.talk(after);
        call.deaf = [true, false];
        call.talk(20_000);
        let [a, b] = reports(&call);
        let seconds = |time: Duration| time.as_secs();
        assert!((19..=20).contains(&seconds(a.nothing_came)) && a.nothing_arrived.is_zero(), "{a}");
        assert!((5..=21).contains(&seconds(b.nothing_arrived)) && b.nothing_came.is_zero(), "{b}");
        call.deaf = [false, false];
        call.talk(20_000);
        let [later, there] = reports(&call);
        assert!(later.is_one_way() && later.nothing_came - a.nothing_came < Duration::from_millis(100));
        assert!(there.nothing_arrived - b.nothing_arrived < Duration::from_secs(9), "{there}");
    }
}

#[test]
fn a_call_that_goes_deaf_in_its_middle_is_one_way() {
    let mut call = call(Weather::default());
    call.talk(200);
    call.weather.loss = 1.0;
    call.talk(1_900);
    assert!(!call.a.session.report().is_one_way(), "a gap");
    call.talk(18_000);
    assert!(call.a.session.report().is_one_way());
}
