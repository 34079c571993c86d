//! When to report, what to report, and what the far end's reports say (RFC 3550 §6.2-6.4, appendix A.7).
//!
//! A call has two members, and so little of RTCP's bandwidth that the shortest interval always holds: 5 s, drawn anew
//! between 0.5 and 1.5 times that, so that calls that began together do not report together; half of it before the
//! first report. Reports go on in both directions while a call is on hold, which is how its ends know that the other
//! lives.

use std::time::{Duration, Instant, SystemTime};

use super::read::{Packets, RtcpPacket};
use super::write::Writer;
use super::{NtpTime, ReportBlock, SenderInfo, VoipMetrics};

/// What the mean interval is divided by, since drawing it anew at its end shortens it (RFC 3550 §6.3.1: e - 3/2).
const COMPENSATION: f64 = 1.218_28;
/// A round trip above this is a far end whose clock runs wild, not a network.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(30);

/// How a call reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReporterConfig {
    /// Mean time between reports; RFC 3550 §6.2 wants no less than the default, 5 s.
    pub interval: Duration,
    /// The name of this end (RFC 7022): the same for all streams of a call, and not to be traced to a person.
    pub cname: String,
    /// Whether VoIP metrics are sent along (RFC 3611). Default `true`; who does not know them passes over them.
    pub voip_metrics: bool,
}

impl ReporterConfig {
    /// The defaults, with a name made of 96 random bits (RFC 7022 §4.2).
    pub fn new(random: &mut fastrand::Rng) -> Self {
        let cname = (0..16).map(|_| random.alphanumeric()).collect();
        Self { interval: Duration::from_secs(5), cname, voip_metrics: true }
    }
}

/// What was received of the far end's stream so far, for a report block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The far end's stream.
    pub ssrc: u32,
    /// Packets that came; duplicates count.
    pub received: u64,
    /// Packets that should have come by the sequence numbers.
    pub expected: u64,
    /// Extended highest sequence number.
    pub highest_sequence: u32,
    /// Interarrival jitter in clock units.
    pub jitter: u32,
}

/// What was sent so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Our stream.
    pub ssrc: u32,
    /// Packets.
    pub packets: u64,
    /// Octets of payload.
    pub octets: u64,
    /// The RTP timestamp of this moment.
    pub timestamp: u32,
}

/// What the end of a stream is announced with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// The call is over.
    Over,
    /// Our SSRC was taken; another one follows (RFC 3550 §8.2).
    Collision,
}

/// What a compound of the far end meant for the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Whose report it is.
    pub sender: Option<u32>,
    /// The highest of our sequence numbers that it heard, where it says any.
    pub highest_sequence: Option<u32>,
    /// The far end's stream ended.
    pub bye: bool,
    /// The far end calls itself by our SSRC.
    pub collision: bool,
}

/// How the far end hears us, as it last said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FarView {
    /// Share of our packets that it lost between its last two reports, 0 to 1.
    pub loss: f32,
    /// Packets of ours that it lost in all.
    pub lost: u64,
    /// Jitter that it measured, in clock units of our stream.
    pub jitter: u32,
    /// The VoIP metrics that it sent.
    pub metrics: Option<VoipMetrics>,
}

#[derive(Clone, Copy, Debug)]
struct LastReport {
    ssrc: u32,
    ntp: u32,
    came: Instant,
}

/// The reporting of one call.
#[derive(Clone, Debug)]
pub struct Reporter {
    config: ReporterConfig,
    random: fastrand::Rng,
    began: (Instant, SystemTime),
    next: Instant,
    last_report: Option<LastReport>,
    /// What was expected, received, and of whom, at our previous report.
    before: Option<Heard>,
    sent_before: u64,
    round_trip: Option<Duration>,
    far_view: Option<FarView>,
}

impl Reporter {
    /// Begins at `now`, which is `wall` on the wall clock; `random` spreads the reports of many calls.
    pub fn new(config: ReporterConfig, mut random: fastrand::Rng, now: Instant, wall: SystemTime) -> Self {
        let next = now + interval(config.interval, &mut random) / 2;
        Self {
            config,
            random,
            began: (now, wall),
            next,
            last_report: None,
            before: None,
            sent_before: 0,
            round_trip: None,
            far_view: None,
        }
    }

    /// Takes a compound that came at `now` from the far end; `ours` is our SSRC.
    pub fn handle(&mut self, now: Instant, packets: Packets<'_>, ours: u32) -> Told {
        let mut told = Told::default();
        for packet in packets {
            let (ssrc, blocks) = match packet {
                RtcpPacket::SenderReport { ssrc, info, blocks } => {
                    self.last_report = Some(LastReport { ssrc, ntp: info.ntp.middle(), came: now });
                    (ssrc, blocks)
                }
                RtcpPacket::ReceiverReport { ssrc, blocks } => (ssrc, blocks),
                RtcpPacket::VoipMetrics { metrics, .. } if metrics.ssrc == ours => {
                    self.far_view.get_or_insert_default().metrics = Some(metrics);
                    continue;
                }
                RtcpPacket::Bye { sources } => {
                    told.bye |= self.last_report.is_some_and(|last| sources.contains(last.ssrc))
                        || self.before.is_some_and(|heard| sources.contains(heard.ssrc));
                    continue;
                }
                RtcpPacket::VoipMetrics { .. } | RtcpPacket::Other(_) => continue,
            };
            told.sender.get_or_insert(ssrc);
            told.collision |= ssrc == ours;
            if let Some(block) = blocks.about(ours) {
                told.highest_sequence = Some(block.highest_sequence);
                self.learn(now, &block);
            }
        }
        told
    }

    fn learn(&mut self, now: Instant, block: &ReportBlock) {
        let view = self.far_view.get_or_insert_default();
        view.loss = f32::from(block.fraction_lost) / 256.0;
        view.lost = u64::try_from(block.cumulative_lost).unwrap_or_default();
        view.jitter = block.jitter;
        if block.last_report != 0 {
            let there_and_back = self.ntp(now).middle().wrapping_sub(block.last_report);
            // Half of the range is the past, and rounding may make a short way look negative.
            let units = (there_and_back.wrapping_sub(block.delay) as i32).max(0) as u32;
            let round_trip = Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16);
            if round_trip <= LONGEST_ROUND_TRIP {
                self.round_trip = Some(round_trip);
            }
        }
    }

    /// When the next report is due.
    pub fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Writes the report that is due at `now` into `out` (600 octets suffice); `None` when none is, or it does not fit.
    pub fn poll_report(
        &mut self,
        now: Instant,
        heard: Option<Heard>,
        sent: Sent,
        metrics: Option<VoipMetrics>,
        out: &mut [u8],
    ) -> Option<usize> {
        if now < self.next {
            return None;
        }
        self.next = now + interval(self.config.interval, &mut self.random);
        let mut writer = Writer::new(out);
        self.report(now, heard, sent, &mut writer);
        if let Some(metrics) = metrics.filter(|_| self.config.voip_metrics) {
            writer.voip_metrics(sent.ssrc, &metrics);
        }
        writer.finish()
    }

    /// Writes a last report and the BYE of our stream; no report follows after [`Farewell::Over`] unless asked for.
    pub fn farewell(
        &mut self,
        now: Instant,
        heard: Option<Heard>,
        sent: Sent,
        why: Farewell,
        out: &mut [u8],
    ) -> Option<usize> {
        let mut writer = Writer::new(out);
        self.report(now, heard, sent, &mut writer);
        match why {
            Farewell::Over => writer.bye(sent.ssrc, ""),
            Farewell::Collision => writer.bye(sent.ssrc, "SSRC collision"),
        }
        writer.finish()
    }

    fn report(&mut self, now: Instant, heard: Option<Heard>, sent: Sent, writer: &mut Writer<'_>) {
        let block = heard.map(|heard| self.block(now, &heard));
        self.before = heard;
        if sent.packets > self.sent_before {
            let (packets, octets) = (sent.packets as u32, sent.octets as u32);
            let info = SenderInfo { ntp: self.ntp(now), rtp: sent.timestamp, packets, octets };
            writer.sender_report(sent.ssrc, &info, block.as_ref());
        } else {
            writer.receiver_report(sent.ssrc, block.as_ref());
        }
        self.sent_before = sent.packets;
        writer.cname(sent.ssrc, &self.config.cname);
    }

    /// RFC 3550 appendix A.3.
    fn block(&self, now: Instant, heard: &Heard) -> ReportBlock {
        let before = self.before.filter(|before| before.ssrc == heard.ssrc);
        let (expected, received) = before.map_or((0, 0), |before| (before.expected, before.received));
        let expected = heard.expected.saturating_sub(expected);
        let lost = expected.saturating_sub(heard.received.saturating_sub(received));
        let last = self.last_report.filter(|last| last.ssrc == heard.ssrc);
        ReportBlock {
            ssrc: heard.ssrc,
            fraction_lost: (lost * 256).checked_div(expected).unwrap_or_default().min(255) as u8,
            cumulative_lost: (heard.expected as i64 - heard.received as i64).clamp(-0x80_0000, 0x7f_ffff)
                as i32,
            highest_sequence: heard.highest_sequence,
            jitter: heard.jitter,
            last_report: last.map_or(0, |last| last.ntp),
            delay: last.map_or(0, |last| units(now.saturating_duration_since(last.came))),
        }
    }

    /// The latest round trip between the two ends, once the far end answered one of our reports.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// How the far end hears us, once it said.
    pub fn far_view(&self) -> Option<FarView> {
        self.far_view
    }

    fn ntp(&self, now: Instant) -> NtpTime {
        let (began, wall) = self.began;
        NtpTime::of(wall + now.saturating_duration_since(began))
    }
}

fn interval(mean: Duration, random: &mut fastrand::Rng) -> Duration {
    mean.mul_f64((0.5 + random.f64()) / COMPENSATION)
}

/// In units of 1/65,536 s, saturating at 18 hours.
fn units(time: Duration) -> u32 {
    u32::try_from((time.as_nanos() << 16) / 1_000_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    const OURS: u32 = 0xaaaa_0001;
    const THEIRS: u32 = 0xbbbb_0002;
    const WALL: Duration = Duration::from_secs(1_800_000_000);

    fn end(now: Instant, seed: u64) -> Reporter {
        let mut random = fastrand::Rng::with_seed(seed);
        let config = ReporterConfig::new(&mut random);
        Reporter::new(config, random, now, SystemTime::UNIX_EPOCH + WALL)
    }

    fn heard(ssrc: u32, received: u64, expected: u64) -> Heard {
        Heard { ssrc, received, expected, highest_sequence: 70_000, jitter: 33 }
    }

    fn sent(ssrc: u32, packets: u64) -> Sent {
        Sent { ssrc, packets, octets: packets * 160, timestamp: 8_000 }
    }

    struct Ends {
        now: Instant,
        a: Reporter,
        b: Reporter,
        octets: [u8; 600],
    }

    impl Ends {
        fn new() -> Self {
            let now = Instant::now();
            Self { now, a: end(now, 1), b: end(now, 2), octets: [0; 600] }
        }

        /// The report of A at its time.
        fn a_reports(&mut self, heard: Option<Heard>, packets: u64, metrics: Option<VoipMetrics>) -> Vec<u8> {
            self.now = self.now.max(self.a.poll_timeout());
            let length = self.a.poll_report(self.now, heard, sent(OURS, packets), metrics, &mut self.octets);
            self.octets[..length.unwrap()].to_vec()
        }
    }

    fn read(octets: &[u8]) -> Packets<'_> {
        read::compound(octets).unwrap()
    }

    fn written(fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut octets = [0; 600];
        let mut writer = Writer::new(&mut octets);
        fill(&mut writer);
        let length = writer.finish().unwrap();
        octets[..length].to_vec()
    }

    fn block_of(octets: Vec<u8>) -> ReportBlock {
        let mut found = read(&octets).filter_map(|packet| match packet {
            RtcpPacket::SenderReport { blocks, .. } | RtcpPacket::ReceiverReport { blocks, .. } => {
                blocks.about(THEIRS)
            }
            _ => None,
        });
        found.next().unwrap()
    }

    #[test]
    fn the_first_report_comes_after_half_an_interval_and_the_others_spread_about_five_seconds() {
        let (mut ends, mut seconds) = (Ends::new(), Vec::new());
        let mut previous = ends.now;
        assert_eq!(ends.a.poll_report(ends.now, None, sent(OURS, 0), None, &mut ends.octets), None);
        for _ in 0..400 {
            ends.a_reports(None, 0, None);
            seconds.push((ends.now - previous).as_secs_f64());
            previous = ends.now;
        }
        assert!((1.0..3.1).contains(&seconds[0]), "{}", seconds[0]);
        let (least, most) = (2.5 / COMPENSATION, 7.5 / COMPENSATION);
        assert!(seconds[1..].iter().all(|s| (least..=most).contains(s)), "{seconds:?}");
        let mean = seconds[1..].iter().sum::<f64>() / 399.0;
        assert!((mean - 5.0 / COMPENSATION).abs() < 0.2, "{mean}");
    }

    #[test]
    fn who_sends_reports_as_a_sender_and_who_was_silent_as_a_receiver() {
        let mut ends = Ends::new();
        let is_sender = |octets: Vec<u8>| read(&octets).any(|p| matches!(p, RtcpPacket::SenderReport { .. }));
        assert!(is_sender(ends.a_reports(None, 10, None)));
        assert!(!is_sender(ends.a_reports(None, 10, None)));
        assert!(is_sender(ends.a_reports(None, 11, None)));
    }

    #[test]
    fn loss_is_that_since_the_previous_report_and_in_all() {
        let mut ends = Ends::new();
        let block = block_of(ends.a_reports(Some(heard(THEIRS, 75, 100)), 1, None));
        assert_eq!((block.fraction_lost, block.cumulative_lost), (64, 25));
        let block = block_of(ends.a_reports(Some(heard(THEIRS, 175, 200)), 2, None));
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 25));
        let block = block_of(ends.a_reports(Some(heard(THEIRS, 310, 300)), 3, None));
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, -10), "duplicates make it negative");
        assert_eq!((block.highest_sequence, block.jitter), (70_000, 33));
    }

    #[test]
    fn another_stream_starts_the_loss_over() {
        let mut ends = Ends::new();
        ends.a_reports(Some(heard(9, 500, 500)), 1, None);
        let block = block_of(ends.a_reports(Some(heard(THEIRS, 5, 10)), 1, None));
        assert_eq!((block.fraction_lost, block.cumulative_lost), (128, 5));
    }

    #[test]
    fn the_round_trip_is_known_after_a_report_came_back() {
        let mut ends = Ends::new();
        let way = Duration::from_millis(40);
        let report = ends.a_reports(None, 1, None);
        assert_eq!(read(&report).count(), 2, "a report and a description");
        let arrives = ends.now + way;
        ends.b.handle(arrives, read(&report), THEIRS);
        let answers = ends.b.poll_timeout().max(arrives + Duration::from_secs(1));
        let about = Heard { ssrc: OURS, ..heard(OURS, 95, 100) };
        let mut back = [0; 600];
        let length = ends.b.poll_report(answers, Some(about), sent(THEIRS, 5), None, &mut back).unwrap();
        let told = ends.a.handle(answers + way, read(&back[..length]), OURS);
        let highest_sequence = Some(about.highest_sequence);
        assert_eq!(told, Told { sender: Some(THEIRS), highest_sequence, ..Told::default() });
        let round_trip = ends.a.round_trip().unwrap();
        assert!(round_trip.abs_diff(way * 2) < Duration::from_micros(100), "{round_trip:?}");
        let view = ends.a.far_view().unwrap();
        assert_eq!((view.lost, view.jitter), (5, 33));
        assert!((view.loss - 12.0 / 256.0).abs() < 1e-6, "{view:?}");
    }

    #[test]
    fn a_delay_that_cannot_be_is_no_round_trip() {
        let mut ends = Ends::new();
        let block = ReportBlock { ssrc: OURS, last_report: 1, ..ReportBlock::default() };
        let report = written(|writer| writer.receiver_report(THEIRS, Some(&block)));
        ends.a.handle(ends.now, read(&report), OURS);
        assert_eq!(ends.a.round_trip(), None);
    }

    #[test]
    fn metrics_about_us_are_kept_and_others_are_not() {
        let mut ends = Ends::new();
        for (ssrc, known) in [(THEIRS, false), (OURS, true)] {
            let metrics = VoipMetrics { ssrc, loss_rate: 9, ..VoipMetrics::default() };
            let report = written(|writer| {
                writer.receiver_report(THEIRS, None);
                writer.voip_metrics(THEIRS, &metrics);
            });
            ends.a.handle(ends.now, read(&report), OURS);
            let kept = ends.a.far_view().and_then(|view| view.metrics);
            assert_eq!(kept, known.then_some(metrics));
        }
    }

    #[test]
    fn metrics_are_sent_unless_switched_off() {
        let metrics = VoipMetrics { ssrc: THEIRS, mos_listening: 43, ..VoipMetrics::default() };
        let mut ends = Ends::new();
        let sent = |octets: Vec<u8>| read(&octets).any(|p| matches!(p, RtcpPacket::VoipMetrics { .. }));
        assert!(sent(ends.a_reports(None, 1, Some(metrics))));
        ends.a.config.voip_metrics = false;
        assert!(!sent(ends.a_reports(None, 1, Some(metrics))));
    }

    #[test]
    fn a_farewell_ends_our_stream_and_a_bye_of_a_stranger_ends_nothing() {
        let mut ends = Ends::new();
        let report = ends.a_reports(None, 1, None);
        ends.b.handle(ends.now, read(&report), THEIRS);
        let mut octets = [0; 600];
        for (ssrc, ended) in [(7, false), (OURS, true)] {
            let length = ends.a.farewell(ends.now, None, sent(ssrc, 2), Farewell::Over, &mut octets).unwrap();
            let last = read(&octets[..length]).last();
            assert!(matches!(last, Some(RtcpPacket::Bye { sources }) if sources.contains(ssrc)));
            let bye = written(|writer| writer.bye(ssrc, ""));
            assert_eq!(ends.b.handle(ends.now, read(&bye), THEIRS).bye, ended);
        }
    }

    #[test]
    fn our_own_ssrc_from_the_far_end_is_a_collision() {
        let mut ends = Ends::new();
        let report = ends.a_reports(None, 1, None);
        assert!(ends.b.handle(ends.now, read(&report), OURS).collision);
    }
}
