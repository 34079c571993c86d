//! What a call's media was like, in numbers: for the call's record, the log, and tests.

use std::fmt;
use std::time::Duration;

/// The quality of one call so far. Counts are of this side: what was received, and what was sent from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
    /// Packets that came too late to be played.
    pub late: u64,
    /// Packets that came twice.
    pub duplicate: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Datagrams that were no RTP.
    pub malformed: u64,
    /// RTCP packets that came to the RTP port; they are ignored.
    pub rtcp_ignored: u64,
    /// RTP packets of strangers, refused (symmetric RTP).
    pub refused: u64,
    /// Interarrival jitter (RFC 3550 §6.4.1).
    pub jitter: Duration,
    /// How long the last packet played had waited in the jitter buffer.
    pub delay: Duration,
    /// Audio made up in place of packets that were missing.
    pub concealed: Duration,
    /// Keys received.
    pub dtmf_received: u64,
    /// Keys sent.
    pub dtmf_sent: u64,
    /// Keys that could not be sent because the far end takes no telephone-events.
    pub dtmf_refused: u64,
    /// From the opening of the session to the first packet played to the conversation.
    pub first_audio_in: Option<Duration>,
    /// From the opening of the session to the first packet with something said.
    pub first_audio_out: Option<Duration>,
    /// Audio that the conversation was too slow to hear.
    pub unheard: Duration,
    /// Packets left out because this program stalled.
    pub skipped: u64,
}

impl MediaReport {
    /// Lost packets as a share of all that were sent to us, 0 to 1.
    pub fn loss(&self) -> f64 {
        let expected = self.packets_received + self.lost;
        if expected == 0 { 0.0 } else { self.lost as f64 / expected as f64 }
    }
}

impl fmt::Display for MediaReport {
    /// One line of `name=value`, times in milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "codec={} sent={} received={} lost={} late={} duplicate={} reordered={} refused={} jitter_ms={:.1} \
             delay_ms={} concealed_ms={} unheard_ms={} dtmf_in={} dtmf_out={}",
            self.codec,
            self.packets_sent,
            self.packets_received,
            self.lost,
            self.late,
            self.duplicate,
            self.reordered,
            self.refused,
            self.jitter.as_secs_f64() * 1_000.0,
            self.delay.as_millis(),
            self.concealed.as_millis(),
            self.unheard.as_millis(),
            self.dtmf_received,
            self.dtmf_sent,
        )?;
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
