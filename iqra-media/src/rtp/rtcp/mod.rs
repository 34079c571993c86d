//! RTCP (RFC 3550 §6) and the VoIP metrics of its extended reports (RFC 3611 §4.7): how the far end hears us, and how
//! we hear it.
//!
//! [`read`] walks over a compound packet without copying; [`mod@write`] fills one without allocating. [`Reporter`] is the
//! machine of a call with one far end: what came in by RTP and RTCP goes in, and when a report is due it says what to
//! write. Round trip, and loss and jitter in the direction away from us, are known only from here.
//!
//! ```text
//! RTCP in ─▶ read ─▶ Reporter ─▶ round trip, the far end's view of what we send, BYE
//! timer  ─▶ Reporter ─▶ write ─▶ SR or RR, SDES CNAME, XR VoIP metrics ─▶ RTCP out
//! ```

pub mod read;
mod reporter;
mod voip;
pub mod write;

pub use reporter::{FarView, Farewell, Heard, Reporter, ReporterConfig, Sent, Told};
pub use voip::VoipMetrics;

/// Packet types (RFC 3550 §12.1, RFC 3611 §2).
mod kind {
    pub(super) const SENDER_REPORT: u8 = 200;
    pub(super) const RECEIVER_REPORT: u8 = 201;
    pub(super) const DESCRIPTION: u8 = 202;
    pub(super) const BYE: u8 = 203;
    pub(super) const EXTENDED: u8 = 207;
    /// The block of VoIP metrics in an extended report.
    pub(super) const VOIP_METRICS: u8 = 7;
    /// The item of a description that names who it is about.
    pub(super) const CNAME: u8 = 1;
}

/// A time as RTCP carries it: seconds since 1900 in the upper 32 bits, their fraction in the lower (RFC 3550 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// Seconds between 1900 and 1970.
    const UNIX_EPOCH: u64 = 2_208_988_800;

    /// The wire's form of a system time; what lies before 1900 or after 2036 wraps, as NTP does.
    pub fn of(time: std::time::SystemTime) -> Self {
        let since = time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        Self(since.as_secs().wrapping_add(Self::UNIX_EPOCH) << 32 | fraction)
    }

    /// The middle 32 bits, in units of 1/65,536 s: what reports refer to a time by.
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// A reception report block (RFC 3550 §6.4.1): what one side says of a stream that it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The stream that is meant.
    pub ssrc: u32,
    /// Packets lost since the previous report, in 1/256 of those expected.
    pub fraction_lost: u8,
    /// Packets lost since the beginning; negative where packets came twice. 24 bits, saturating.
    pub cumulative_lost: i32,
    /// Extended highest sequence number: cycles in the upper 16 bits.
    pub highest_sequence: u32,
    /// Interarrival jitter in clock units of the stream.
    pub jitter: u32,
    /// [`NtpTime::middle`] of the last sender report that came; 0 before there was one.
    pub last_report: u32,
    /// From then until this block was sent, in 1/65,536 s.
    pub delay: u32,
}

/// What a sender says of itself (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SenderInfo {
    /// When the report was sent.
    pub ntp: NtpTime,
    /// The same moment on the clock of its RTP timestamps.
    pub rtp: u32,
    /// RTP packets sent since the beginning, modulo 2^32.
    pub packets: u32,
    /// Octets of payload in them, modulo 2^32.
    pub octets: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn ntp_counts_from_1900_in_fractions_of_a_second() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(500);
        assert_eq!(NtpTime::of(time).0, (2_208_988_800 << 32) | 1 << 31);
        assert_eq!(NtpTime::of(time).middle(), (2_208_988_800u64 << 16) as u32 | 1 << 15);
    }
}
