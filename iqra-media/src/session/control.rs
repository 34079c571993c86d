//! The RTCP of one call: what comes, when a report of ours is due, and what both say of the call's quality.
//!
//! It goes over the RTP port where that was agreed (RFC 5761), else over the port beside it. Only from whom we take RTP
//! do we take RTCP; where it comes by a port of its own, [`Beside`] says from which ones, and where ours goes.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::Port;
use crate::quality::MediaReport;
use crate::quality::e_model::{self, Impairment};
use crate::rtp::rtcp::read;
use crate::rtp::rtcp::{Farewell, Heard, Reporter, ReporterConfig, Sent, Told, VoipMetrics};
use crate::rtp::source::SymmetricRtp;

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

/// How long nothing must have come from a port that was learnt before another may be: five reports (RFC 3550 §6.3.5).
const RELEARN_SILENCE: Duration = Duration::from_secs(25);

/// RTCP on a port of its own. A NAT gives that one another number than SDP says, so it is learnt: from a compound that
/// proved itself where there is SRTP, can be read, and is of the far end whose RTP we hear, which only who hears the
/// call can name. Once learnt it stays, unless the signalled one speaks up, nothing comes from it for
/// [`RELEARN_SILENCE`], or the far end proves that it moved (SRTP). `SymmetricRtp::Off` knows the signalled one alone.
struct Beside {
    mode: SymmetricRtp,
    signalled: SocketAddr,
    learnt: Option<(SocketAddr, Instant)>,
}

impl Beside {
    fn accepts(&self, from: SocketAddr, peer: SocketAddr) -> bool {
        match self.mode {
            SymmetricRtp::Off => from == self.signalled,
            SymmetricRtp::Auto | SymmetricRtp::On => from.ip() == peer.ip(),
        }
    }

    fn learn(&mut self, now: Instant, from: SocketAddr, is_authentic: bool) {
        let free = self.learnt.is_none_or(|(known, heard)| {
            known == from || now.saturating_duration_since(heard) >= RELEARN_SILENCE
        });
        if self.mode != SymmetricRtp::Off && (free || is_authentic || from == self.signalled) {
            self.learnt = Some((from, now));
        }
    }

    fn knows(&self, from: SocketAddr) -> bool {
        from == self.signalled || self.learnt.is_some_and(|(known, _)| known == from)
    }

    fn target(&self, peer: SocketAddr) -> Option<SocketAddr> {
        let learnt = self.learnt.map(|(known, _)| known).filter(|known| known.ip() == peer.ip());
        // Behind a NAT the signalled address is as useless for RTCP as for RTP.
        let guessed = || match self.signalled.ip() == peer.ip() || self.mode == SymmetricRtp::Off {
            true => Some(self.signalled),
            false => Some(SocketAddr::new(peer.ip(), peer.port().checked_add(1)?)),
        };
        learnt.or_else(guessed)
    }
}

/// A compound that is for us and in the clear, and how it came.
#[derive(Clone, Copy)]
pub(super) struct Arrived<'a> {
    pub(super) now: Instant,
    pub(super) from: SocketAddr,
    pub(super) own_port: bool,
    /// SRTP vouches for it.
    pub(super) is_authentic: bool,
    pub(super) compound: &'a [u8],
}

pub(super) struct Control {
    reporter: Reporter,
    mode: SymmetricRtp,
    /// `None` where it shares the RTP port.
    beside: Option<Beside>,
    /// When the far end last reported, and how often since the direction of media changed.
    lived: Option<(Instant, u32)>,
    farewell: Option<(Farewell, Known)>,
    counts: Counts,
}

impl Control {
    /// `signalled` is where RTCP goes by what SDP says, `None` where it shares the RTP port.
    pub(super) fn new(
        mode: SymmetricRtp,
        signalled: Option<SocketAddr>,
        seed: u64,
        now: Instant,
        wall: SystemTime,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let config = ReporterConfig::new(&mut random);
        let reporter = Reporter::new(config, random, now, wall);
        let mut control =
            Self { reporter, mode, beside: None, lived: None, farewell: None, counts: Counts::default() };
        control.update(signalled);
        control
    }

    /// Takes over a re-INVITE.
    pub(super) fn update(&mut self, signalled: Option<SocketAddr>) {
        if signalled != self.beside.as_ref().map(|beside| beside.signalled) {
            let mode = self.mode;
            self.beside = signalled.map(|signalled| Beside { mode, signalled, learnt: None });
        }
    }

    pub(super) fn has_own_port(&self) -> bool {
        self.beside.is_some()
    }

    /// Whether RTCP from here is for us, while RTP goes to `peer`. Nothing is learnt from it yet.
    pub(super) fn accepts(&mut self, from: SocketAddr, peer: SocketAddr, own_port: bool) -> bool {
        let beside = self.beside.as_ref().filter(|_| own_port);
        let accepted = beside.map_or(!own_port && from == peer, |beside| beside.accepts(from, peer));
        self.counts.refused += u64::from(!accepted);
        accepted
    }

    /// Takes a compound; `heard` is the stream that we hear and `ours` our SSRC.
    pub(super) fn receive(&mut self, arrived: Arrived<'_>, heard: Option<u32>, ours: u32) -> Told {
        let Arrived { now, from, own_port, is_authentic, compound } = arrived;
        let Ok(packets) = read::compound(compound) else {
            self.counts.malformed += 1;
            return Told::default();
        };
        self.counts.received += 1;
        let told = self.reporter.handle(now, packets, ours);
        let is_of_stream = told.sender.is_some() && told.sender == heard;
        let mut is_known = is_authentic || is_of_stream;
        if let Some(beside) = self.beside.as_mut().filter(|_| own_port) {
            if is_of_stream {
                beside.learn(now, from, is_authentic);
            }
            is_known |= beside.knows(from);
        } else {
            is_known = true;
        }
        if is_known && !told.bye {
            let reports = self.lived.map_or(0, |(_, reports)| reports);
            self.lived = Some((now, reports + 1));
        }
        told
    }

    /// How long the far end reported nothing, or its stream ended; `None` where it never did.
    pub(super) fn silent_for(&self, now: Instant) -> Option<Duration> {
        self.lived.map(|(at, _)| now.saturating_duration_since(at))
    }

    /// Whether it reports in the present direction of media; one report may have been under way before.
    pub(super) fn reports_on(&self) -> bool {
        self.lived.is_some_and(|(_, reports)| reports >= 2)
    }

    /// Media flows in other directions from here on.
    pub(super) fn turned(&mut self) {
        if let Some((_, reports)) = &mut self.lived {
            *reports = 0;
        }
    }

    /// Share of our packets that the far end lost of late, by its reports.
    pub(super) fn far_loss(&self) -> Option<f32> {
        self.reporter.far_view().map(|view| view.loss)
    }

    /// Where RTCP goes, and by which socket; `None` where the far end cannot be reached.
    pub(super) fn target(&self, peer: SocketAddr) -> Option<(SocketAddr, Port)> {
        match &self.beside {
            None => Some((peer, Port::Rtp)),
            Some(beside) => beside.target(peer).map(|target| (target, Port::Rtcp)),
        }
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
            loss_rate: part(rated.loss_after_recovery()),
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
        // Who does not say it may still say more than what was lost.
        let (missing, ratio) =
            view.metrics.map_or((lost, 1.0), |metrics| (metrics.missing(), metrics.burst_ratio()));
        let reckoned = || e_model::mos(e_model::r_factor(codec, missing, ratio, network + FAR_DELAY));
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
