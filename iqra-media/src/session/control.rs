//! The RTCP of one call: what comes, when a report of ours is due, and what both say of the call's quality.
//!
//! It goes over the RTP port where that was agreed (RFC 5761), else over the port beside it. Only from whom we take RTP
//! do we take RTCP; where it comes by a port of its own, that port is learnt as the RTP port was, since a NAT gives it
//! another number.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::Port;
use crate::quality::MediaReport;
use crate::quality::e_model::{self, Impairment};
use crate::rtp::rtcp::read;
use crate::rtp::rtcp::{Farewell, Heard, Reporter, ReporterConfig, Sent, Told, VoipMetrics};

/// What a far end that says nothing of it is taken to add to the way: its jitter buffer and its packet time.
const FAR_DELAY: Duration = Duration::from_millis(60);

/// What our half of the call knows, for a report.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) heard: Option<Heard>,
    pub(super) sent: Sent,
    pub(super) quality: MediaReport,
}

#[derive(Debug, Default)]
struct Counts {
    received: u64,
    refused: u64,
    malformed: u64,
    sent: u64,
}

pub(super) struct Control {
    reporter: Reporter,
    /// Where RTCP goes by what SDP says; `None` where it shares the RTP port.
    signalled: Option<SocketAddr>,
    learnt: Option<SocketAddr>,
    farewell: Option<(Farewell, Known)>,
    counts: Counts,
}

impl Control {
    pub(super) fn new(signalled: Option<SocketAddr>, seed: u64, now: Instant, wall: SystemTime) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let config = ReporterConfig::new(&mut random);
        let reporter = Reporter::new(config, random, now, wall);
        Self { reporter, signalled, learnt: None, farewell: None, counts: Counts::default() }
    }

    /// Takes over a re-INVITE.
    pub(super) fn update(&mut self, signalled: Option<SocketAddr>) {
        if signalled != self.signalled {
            self.signalled = signalled;
            self.learnt = None;
        }
    }

    pub(super) fn has_own_port(&self) -> bool {
        self.signalled.is_some()
    }

    /// Whether RTCP from here is for us, while RTP goes to `peer`. On a port of its own the address alone must be the
    /// peer's, and its port is learnt.
    pub(super) fn accepts(&mut self, from: SocketAddr, peer: SocketAddr, own_port: bool) -> bool {
        let accepted = if own_port { from.ip() == peer.ip() } else { from == peer };
        self.counts.refused += u64::from(!accepted);
        if accepted && own_port {
            self.learnt = Some(from);
        }
        accepted
    }

    /// Takes a compound that is for us and in the clear.
    pub(super) fn receive(&mut self, now: Instant, datagram: &[u8], ours: u32) -> Told {
        let Ok(packets) = read::compound(datagram) else {
            self.counts.malformed += 1;
            return Told::default();
        };
        self.counts.received += 1;
        self.reporter.handle(now, packets, ours)
    }

    /// Share of our packets that the far end lost of late, by its reports.
    pub(super) fn far_loss(&self) -> Option<f32> {
        self.reporter.far_view().map(|view| view.loss)
    }

    /// Where RTCP goes, and by which socket; `None` where the far end cannot be reached.
    pub(super) fn target(&self, peer: SocketAddr) -> Option<(SocketAddr, Port)> {
        let Some(signalled) = self.signalled else { return Some((peer, Port::Rtp)) };
        // Behind a NAT the signalled address is as useless for RTCP as for RTP.
        let guessed = || match signalled.ip() == peer.ip() {
            true => Some(signalled),
            false => Some(SocketAddr::new(peer.ip(), peer.port().checked_add(1)?)),
        };
        self.learnt.or_else(guessed).map(|target| (target, Port::Rtcp))
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.reporter.poll_timeout()
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.farewell.is_some() || self.reporter.poll_timeout() <= now
    }

    /// Lets the next compound end our stream as it is `known` now.
    pub(super) fn bid_farewell(&mut self, why: Farewell, known: Known) {
        self.farewell = Some((why, known));
    }

    /// Writes the compound that is due.
    pub(super) fn poll(&mut self, now: Instant, known: Known, out: &mut [u8]) -> Option<usize> {
        let written = match self.farewell.take() {
            Some((why, known)) => self.reporter.farewell(now, known.heard, known.sent, why, out),
            None => {
                let metrics = known.heard.map(|heard| self.metrics(heard.ssrc, known.quality));
                self.reporter.poll_report(now, known.heard, known.sent, metrics, out)
            }
        };
        self.counts.sent += u64::from(written.is_some());
        written
    }

    /// RFC 3611 §4.7 of what we hear.
    fn metrics(&self, ssrc: u32, mut rated: MediaReport) -> VoipMetrics {
        self.report(&mut rated);
        let bursts = &rated.bursts;
        VoipMetrics {
            ssrc,
            loss_rate: part(rated.loss()),
            discard_rate: part(rated.discarded()),
            burst_density: part(bursts.burst_density),
            gap_density: part(bursts.gap_density),
            burst_duration: ms(rated.packet_time.mul_f64(bursts.burst_length)),
            gap_duration: ms(rated.packet_time.mul_f64(bursts.gap_length)),
            round_trip: rated.round_trip.map_or(0, ms),
            end_system_delay: ms(rated.delay + rated.packet_time),
            r_factor: rated.r_factor_in.round() as u8,
            mos_listening: tenths(e_model::mos(rated.listening_r_factor())),
            mos_conversational: tenths(rated.mos_in),
            receiver: VoipMetrics::ADAPTIVE_AND_CONCEALED,
            buffer_nominal: ms(rated.target_delay),
            buffer_maximum: ms(rated.delay_limit),
            buffer_limit: ms(rated.delay_limit),
            ..VoipMetrics::default()
        }
    }

    /// Adds what RTCP knows, and the marks of both directions.
    pub(super) fn report(&self, report: &mut MediaReport) {
        report.rtcp_received = self.counts.received;
        report.rtcp_sent = self.counts.sent;
        report.rtcp_refused = self.counts.refused;
        report.malformed += self.counts.malformed;
        report.round_trip = self.reporter.round_trip();
        let codec = Impairment::of(report.codec);
        let network = report.round_trip.unwrap_or_default() / 2;
        let one_way = network + report.delay + report.packet_time;
        report.r_factor_in = e_model::r_factor(codec, report.missing, report.burst_ratio, one_way);
        report.mos_in = e_model::mos(report.r_factor_in);
        let Some(view) = self.reporter.far_view() else { return };
        report.far_loss = Some(f64::from(view.loss));
        report.far_lost = view.lost;
        let lost = view.lost as f64 / report.packets_sent.max(1) as f64;
        let said = view.metrics.map(|metrics| f64::from(metrics.mos_conversational) / 10.0);
        let reckoned = || e_model::mos(e_model::r_factor(codec, lost, 1.0, network + FAR_DELAY));
        report.mos_out = said.filter(|mos| (1.0..=5.0).contains(mos)).or_else(|| Some(reckoned()));
    }
}

/// A share in 1/256, saturating (RFC 3611 §4.7.1).
fn part(share: f64) -> u8 {
    (share * 256.0) as u8
}

fn tenths(mos: f64) -> u8 {
    (mos * 10.0).round() as u8
}

fn ms(time: Duration) -> u16 {
    u16::try_from(time.as_millis()).unwrap_or(u16::MAX)
}
