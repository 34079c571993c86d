//! What a call's media was like, in numbers: for the call's record, the log, and tests.

use std::fmt;
use std::time::Duration;

use super::bursts::{BurstCounts, ratio};
use super::e_model::{self, Impairment};
use crate::jitter::Lateness;

/// The quality of one call so far. Counts are of this side: what was received, and what was sent from here.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct MediaReport {
    /// The codec's name, such as `PCMU`.
    pub codec: &'static str,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// Bytes in them, headers included.
    pub bytes_sent: u64,
    /// RTP packets accepted from the far end, duplicates included.
    pub packets_received: u64,
    /// Bytes in them, headers included.
    pub bytes_received: u64,
    /// Packets that never came (RFC 3550 A.3).
    pub lost: u64,
    /// Packets that were lost or late, and of which the packet after them held a copy (in-band FEC of Opus).
    pub recovered: u64,
    /// Packets that came too late to be played, or were left out because too many waited.
    pub late: u64,
    /// Packets that were too long to be taken, or more than can wait at once.
    pub overflow: u64,
    /// Packets that came twice.
    pub duplicate: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Datagrams that were no RTP.
    pub malformed: u64,
    /// RTP packets of payload types that nobody agreed on.
    pub unknown: u64,
    /// RTCP compounds taken from the far end.
    pub rtcp_received: u64,
    /// RTCP compounds sent.
    pub rtcp_sent: u64,
    /// RTCP compounds of strangers, refused.
    pub rtcp_refused: u64,
    /// Packets that were protected and did not open, or were not protected although that was agreed.
    pub not_authentic: u64,
    /// RTP packets of strangers, refused (symmetric RTP).
    pub refused: u64,
    /// Interarrival jitter (RFC 3550 §6.4.1).
    pub jitter: Duration,
    /// How much audio a packet of the far end holds.
    pub packet_time: Duration,
    /// Share of packets that were missing when they were due, lost or late and without a copy, 0 to 1.
    pub missing: f64,
    /// How much longer losses in a row are than if they fell at random; 1 or more, 0 before anything was played.
    pub burst_ratio: f64,
    /// How losses come together (RFC 3611 §4.7.2).
    pub bursts: BurstCounts,
    /// The latest round trip between the two ends by RTCP; `None` where the far end does not report.
    pub round_trip: Option<Duration>,
    /// R factor of what we hear, 0 to 93.2 (ITU-T G.107), the way included.
    pub r_factor_in: f64,
    /// The mean opinion score of it, 1 to 4.5.
    pub mos_in: f64,
    /// Share of our packets that the far end lost of late, by its reports.
    pub far_loss: Option<f64>,
    /// Packets of ours that the far end lost, by its reports.
    pub far_lost: u64,
    /// The mean opinion score of what the far end hears: as it says itself (RFC 3611), else reckoned from its losses.
    pub mos_out: Option<f64>,
    /// How long nothing came of the far end although media was agreed both ways, in silences of two seconds or more that
    /// comfort noise did not announce.
    pub nothing_came: Duration,
    /// How long the far end heard nothing of us meanwhile, by its reports.
    pub nothing_arrived: Duration,
    /// How much later than the fastest one packets came, over the whole call.
    pub lateness: Lateness,
    /// How long the last packet played had waited in the jitter buffer.
    pub delay: Duration,
    /// The delay that the jitter buffer aims at.
    pub target_delay: Duration,
    /// The delay up to which the jitter buffer goes before it drops packets.
    pub delay_limit: Duration,
    /// Time put in by lengthening audio, to bring the delay up to its target.
    pub stretched: Duration,
    /// Time taken out by shortening audio, to bring the delay down to its target.
    pub shortened: Duration,
    /// How often the jitter buffer had no audio of the far end when it was due, although it had been sent.
    pub underruns: u64,
    /// Audio made up in place of packets that were missing.
    pub concealed: Duration,
    /// Keys received.
    pub dtmf_received: u64,
    /// Keys sent, as telephone-events or as tones.
    pub dtmf_sent: u64,
    /// From the opening of the session to the first packet played to the conversation.
    pub first_audio_in: Option<Duration>,
    /// From the opening of the session to the first packet with something said.
    pub first_audio_out: Option<Duration>,
    /// Audio that the conversation was too slow to hear.
    pub unheard: Duration,
    /// How often the play queue ran dry within an utterance: the conversation was too slow to feed it, and the far end
    /// heard a gap of less than a second.
    pub playout_underruns: u64,
    /// Silence that the far end heard in these gaps.
    pub playout_gaps: Duration,
    /// Packets left out because this program stalled.
    pub skipped: u64,
}

impl MediaReport {
    /// Lost packets as a share of all that were sent to us, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.share_of_expected(self.lost)
    }

    /// The same after what copies made up for (RFC 3611 §4.7.1).
    pub fn loss_after_recovery(&self) -> f64 {
        self.share_of_expected(self.lost.saturating_sub(self.recovered))
    }

    /// Packets that came too late as a share of all that were sent to us, 0 to 1.
    pub fn discarded(&self) -> f64 {
        self.share_of_expected(self.late)
    }

    fn share_of_expected(&self, packets: u64) -> f64 {
        ratio(packets, self.packets_received + self.lost)
    }

    /// R factor of what we hear without the way that it takes.
    pub fn listening_r_factor(&self) -> f64 {
        e_model::r_factor(Impairment::of(self.codec), self.missing, self.burst_ratio, Duration::ZERO)
    }

    /// Whether one end heard nothing for two seconds or more although media was agreed both ways: a caller who hears
    /// nothing, or is not heard.
    pub fn is_one_way(&self) -> bool {
        !(self.nothing_came.is_zero() && self.nothing_arrived.is_zero())
    }
}

impl fmt::Display for MediaReport {
    /// One line of `name=value`, times in milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "codec={} sent={} received={} lost={} recovered={} late={} overflow={} duplicate={} reordered={} refused={} unknown={} jitter_ms={:.1} \
             late_p50_ms={} late_p95_ms={} late_max_ms={} delay_ms={} target_ms={} concealed_ms={} stretched_ms={} \
             shortened_ms={} underruns={} unheard_ms={} playout_underruns={} playout_gaps_ms={} dtmf_in={} dtmf_out={}",
            self.codec,
            self.packets_sent,
            self.packets_received,
            self.lost,
            self.recovered,
            self.late,
            self.overflow,
            self.duplicate,
            self.reordered,
            self.refused,
            self.unknown,
            self.jitter.as_secs_f64() * 1_000.0,
            self.lateness.p50.as_millis(),
            self.lateness.p95.as_millis(),
            self.lateness.max.as_millis(),
            self.delay.as_millis(),
            self.target_delay.as_millis(),
            self.concealed.as_millis(),
            self.stretched.as_millis(),
            self.shortened.as_millis(),
            self.underruns,
            self.unheard.as_millis(),
            self.playout_underruns,
            self.playout_gaps.as_millis(),
            self.dtmf_received,
            self.dtmf_sent,
        )?;
        write!(f, " mos_in={:.2}", self.mos_in)?;
        if let Some(mos) = self.mos_out {
            write!(f, " mos_out={mos:.2}")?;
        }
        if let Some(round_trip) = self.round_trip {
            write!(f, " rtt_ms={}", round_trip.as_millis())?;
        }
        for (name, silent) in
            [("nothing_came_ms", self.nothing_came), ("nothing_arrived_ms", self.nothing_arrived)]
        {
            if !silent.is_zero() {
                write!(f, " {name}={}", silent.as_millis())?;
            }
        }
        for (name, first) in [("first_in_ms", self.first_audio_in), ("first_out_ms", self.first_audio_out)] {
            if let Some(after) = first {
                write!(f, " {name}={}", after.as_millis())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_a_share_of_what_was_sent() {
        let report = MediaReport { packets_received: 95, lost: 5, ..MediaReport::default() };
        assert!((report.loss() - 0.05).abs() < 1e-9);
        assert!(MediaReport::default().loss().abs() < 1e-9);
        let recovered = MediaReport { recovered: 4, ..report };
        assert!((recovered.loss_after_recovery() - 0.01).abs() < 1e-9);
    }

    #[test]
    fn audio_in_one_direction_alone_is_told() {
        let [nothing, some] = [Duration::ZERO, Duration::from_millis(2_500)];
        for (nothing_came, nothing_arrived, shown) in [
            (nothing, nothing, ""),
            (some, nothing, " nothing_came_ms=2500"),
            (nothing, some, " nothing_arrived_ms=2500"),
        ] {
            let report = MediaReport { nothing_came, nothing_arrived, ..MediaReport::default() };
            assert_eq!(report.is_one_way(), !shown.is_empty());
            assert!(report.to_string().ends_with(shown), "{report}");
            assert_eq!(report.to_string().contains("nothing"), report.is_one_way());
        }
    }

    #[test]
    fn display_is_one_line_of_pairs() {
        let report = MediaReport {
            codec: "PCMU",
            first_audio_in: Some(Duration::from_millis(60)),
            ..Default::default()
        };
        let shown = report.to_string();
        assert!(shown.starts_with("codec=PCMU sent=0") && shown.ends_with("first_in_ms=60"), "{shown}");
        assert!(shown.split(' ').all(|pair| pair.contains('=')));
    }
}
