//! The parameters of an `a=fmtp` for Opus (RFC 7587 §6.1): what the far side wishes to receive, and will send.

use crate::codec::parameter;

/// Bitrates that Opus has, in bit/s (RFC 7587 §6.1).
pub(super) const BITRATES: std::ops::RangeInclusive<u32> = 6_000..=510_000;

/// What the far side said. What it did not say, or said in a way that cannot be, has the default of RFC 7587.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// `maxplaybackrate`: the highest sample rate that it plays, in Hz; more need not be sent. Default 48000.
    pub max_playback_rate: u32,
    /// `sprop-maxcapturerate`: the highest sample rate that it captures, in Hz. Default 48000.
    pub max_capture_rate: u32,
    /// `maxaveragebitrate`: the most that it wants to receive, in bit/s. Default: no limit of its own.
    pub max_average_bitrate: Option<u32>,
    /// `stereo`: it prefers to receive two channels. Default false.
    pub stereo: bool,
    /// `sprop-stereo`: it is likely to send two channels. Default false.
    pub sends_stereo: bool,
    /// `cbr`: it wants a constant bitrate. Default false.
    pub constant_bitrate: bool,
    /// `useinbandfec`: it can use copies of lost frames. Default false.
    pub in_band_fec: bool,
    /// `usedtx`: it wants nothing sent where nothing is said. Default false.
    pub dtx: bool,
    /// `minptime`: the shortest packets that it takes, in milliseconds.
    pub min_packet_time_ms: Option<u8>,
    /// `maxptime`, here beside its attribute of SDP: the longest packets that it takes, in milliseconds.
    pub max_packet_time_ms: Option<u8>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self::read("")
    }
}

impl Parameters {
    /// Reads the text of an `a=fmtp` behind the payload type.
    pub fn read(fmtp: &str) -> Self {
        let number = |name: &str, range: std::ops::RangeInclusive<u32>| {
            parameter(fmtp, name)?.parse().ok().filter(|value| range.contains(value))
        };
        let flag = |name: &str| parameter(fmtp, name) == Some("1");
        let milliseconds = |name: &str| number(name, 3..=120).and_then(|ms| u8::try_from(ms).ok());
        Self {
            max_playback_rate: number("maxplaybackrate", 8_000..=48_000).unwrap_or(48_000),
            max_capture_rate: number("sprop-maxcapturerate", 8_000..=48_000).unwrap_or(48_000),
            max_average_bitrate: number("maxaveragebitrate", BITRATES),
            stereo: flag("stereo"),
            sends_stereo: flag("sprop-stereo"),
            constant_bitrate: flag("cbr"),
            in_band_fec: flag("useinbandfec"),
            dtx: flag("usedtx"),
            min_packet_time_ms: milliseconds("minptime"),
            max_packet_time_ms: milliseconds("maxptime"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_read() {
        let read = Parameters::read(
            "maxplaybackrate=16000;sprop-maxcapturerate=24000; maxaveragebitrate=20000; stereo=1;sprop-stereo=1; \
             cbr=1; useinbandfec=1; usedtx=1;minptime=10;maxptime=40",
        );
        let expected = Parameters {
            max_playback_rate: 16_000,
            max_capture_rate: 24_000,
            max_average_bitrate: Some(20_000),
            stereo: true,
            sends_stereo: true,
            constant_bitrate: true,
            in_band_fec: true,
            dtx: true,
            min_packet_time_ms: Some(10),
            max_packet_time_ms: Some(40),
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn what_cannot_be_counts_as_not_said() {
        let odd =
            "maxplaybackrate=7;maxaveragebitrate=99999999999;stereo=yes;usedtx;cbr=2;x-unknown=1;maxptime=-3";
        assert_eq!(Parameters::read(odd), Parameters::default());
        assert_eq!(Parameters::default().max_playback_rate, 48_000);
    }
}
