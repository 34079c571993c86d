//! The VoIP metrics block of an extended report (RFC 3611 §4.7): the quality of a call as one end measured it.

/// Value of a level or an echo loss that was not measured (RFC 3611 §4.7.4, §4.7.5).
const UNAVAILABLE: u8 = 127;
/// Words of the block after its head.
pub(super) const WORDS: u16 = 8;

/// VoIP metrics of one stream, in the units of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoipMetrics {
    /// The stream that is meant.
    pub ssrc: u32,
    /// Packets lost by the network since the beginning, in 1/256.
    pub loss_rate: u8,
    /// Packets that came too late or too early to be played, in 1/256.
    pub discard_rate: u8,
    /// Share of packets lost or discarded within bursts, in 1/256.
    pub burst_density: u8,
    /// The same within the gaps between bursts.
    pub gap_density: u8,
    /// Mean length of a burst in ms.
    pub burst_duration: u16,
    /// Mean length of a gap in ms.
    pub gap_duration: u16,
    /// Latest round trip between the two RTP ends in ms; 0 where unknown.
    pub round_trip: u16,
    /// Delay of this end in ms: buffer, decoding, and what is sent.
    pub end_system_delay: u16,
    /// Level of speech in dBm0, two's complement; 127 where unknown.
    pub signal_level: u8,
    /// Level of noise in silence in dBm0, two's complement; 127 where unknown.
    pub noise_level: u8,
    /// Residual echo return loss in dB; 127 where unknown.
    pub echo_return_loss: u8,
    /// Packets received in a row that end a burst; 16 is recommended.
    pub gap_minimum: u8,
    /// R factor of the call, 0-100; 127 where unknown.
    pub r_factor: u8,
    /// R factor of a segment beyond this one; 127 where unknown.
    pub external_r_factor: u8,
    /// Listening quality in tenths of a MOS, 10-50; 127 where unknown.
    pub mos_listening: u8,
    /// Conversational quality in tenths of a MOS, 10-50; 127 where unknown.
    pub mos_conversational: u8,
    /// Kind of concealment and of jitter buffer, in bits (RFC 3611 §4.7.6).
    pub receiver: u8,
    /// Present delay of the jitter buffer in ms, for a packet that comes on time.
    pub buffer_nominal: u16,
    /// How long the earliest packet that is not discarded would wait now, in ms.
    pub buffer_maximum: u16,
    /// The longest delay that the buffer can reach in ms; no less than `buffer_maximum`.
    pub buffer_limit: u16,
}

impl Default for VoipMetrics {
    /// Nothing lost, and nothing measured.
    fn default() -> Self {
        Self {
            ssrc: 0,
            loss_rate: 0,
            discard_rate: 0,
            burst_density: 0,
            gap_density: 0,
            burst_duration: 0,
            gap_duration: 0,
            round_trip: 0,
            end_system_delay: 0,
            signal_level: UNAVAILABLE,
            noise_level: UNAVAILABLE,
            echo_return_loss: UNAVAILABLE,
            gap_minimum: 16,
            r_factor: UNAVAILABLE,
            external_r_factor: UNAVAILABLE,
            mos_listening: UNAVAILABLE,
            mos_conversational: UNAVAILABLE,
            receiver: 0,
            buffer_nominal: 0,
            buffer_maximum: 0,
            buffer_limit: 0,
        }
    }
}

/// Of 1/256.
fn share(part: u8) -> f64 {
    f64::from(part) / 256.0
}

impl VoipMetrics {
    /// `receiver` of an adaptive jitter buffer whose concealment is more than silence (RFC 3611 §4.7.6: enhanced).
    pub const ADAPTIVE_AND_CONCEALED: u8 = 0b10_11_0000;

    /// Share of packets that were missing when they were due, lost or discarded, 0 to 1.
    pub fn missing(&self) -> f64 {
        (share(self.loss_rate) + share(self.discard_rate)).min(1.0)
    }

    /// How much longer losses in a row are than if they fell at random, 1 or more (ITU-T G.107 §7.5): within bursts, and
    /// within gaps, they are taken to fall at random, which makes a row `1 / (1 - density)` packets long.
    pub fn burst_ratio(&self) -> f64 {
        let part = |density: u8, duration: u16| {
            let missing = share(density) * f64::from(duration);
            (missing, missing * (1.0 - share(density)))
        };
        let bursts = part(self.burst_density, self.burst_duration);
        let gaps = part(self.gap_density, self.gap_duration);
        let (missing, rows) = (bursts.0 + gaps.0, bursts.1 + gaps.1);
        let time = f64::from(self.burst_duration) + f64::from(self.gap_duration);
        if rows > 0.0 { (missing / rows * (1.0 - missing / time)).max(1.0) } else { 1.0 }
    }

    pub(super) fn octets(&self) -> [u8; 4 * WORDS as usize] {
        let mut out = [0; 4 * WORDS as usize];
        let [b, g] = [self.burst_duration, self.gap_duration].map(u16::to_be_bytes);
        let [r, e] = [self.round_trip, self.end_system_delay].map(u16::to_be_bytes);
        let [n, m, l] = [self.buffer_nominal, self.buffer_maximum, self.buffer_limit].map(u16::to_be_bytes);
        out[0..4].copy_from_slice(&self.ssrc.to_be_bytes());
        out[4..8].copy_from_slice(&[self.loss_rate, self.discard_rate, self.burst_density, self.gap_density]);
        out[8..16].copy_from_slice(&[b[0], b[1], g[0], g[1], r[0], r[1], e[0], e[1]]);
        let levels = [self.signal_level, self.noise_level, self.echo_return_loss, self.gap_minimum];
        out[16..20].copy_from_slice(&levels);
        let marks = [self.r_factor, self.external_r_factor, self.mos_listening, self.mos_conversational];
        out[20..24].copy_from_slice(&marks);
        out[24..32].copy_from_slice(&[self.receiver, 0, n[0], n[1], m[0], m[1], l[0], l[1]]);
        out
    }

    pub(super) fn read(block: &[u8]) -> Option<Self> {
        let block: &[u8; 4 * WORDS as usize] = block.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
        Some(Self {
            ssrc: u32::from_be_bytes([block[0], block[1], block[2], block[3]]),
            loss_rate: block[4],
            discard_rate: block[5],
            burst_density: block[6],
            gap_density: block[7],
            burst_duration: word(8),
            gap_duration: word(10),
            round_trip: word(12),
            end_system_delay: word(14),
            signal_level: block[16],
            noise_level: block[17],
            echo_return_loss: block[18],
            gap_minimum: block[19],
            r_factor: block[20],
            external_r_factor: block[21],
            mos_listening: block[22],
            mos_conversational: block[23],
            receiver: block[24],
            buffer_nominal: word(26),
            buffer_maximum: word(28),
            buffer_limit: word(30),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_at_random_have_a_burst_ratio_of_one_and_bursts_more() {
        let ratio = |burst_density, burst_duration, gap_density, gap_duration| {
            let default = VoipMetrics::default();
            VoipMetrics { burst_density, burst_duration, gap_density, gap_duration, ..default }.burst_ratio()
        };
        for (found, expected) in [
            (VoipMetrics::default().burst_ratio(), 1.0),
            (ratio(0, 0, 13, 10_000), 1.0),
            // Rows of four packets, and 7.5 % lost.
            (ratio(192, 200, 0, 1_800), 4.0 * 0.925),
            (ratio(255, u16::MAX, 255, u16::MAX), 1.0),
        ] {
            assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
        }
        let all = VoipMetrics { loss_rate: 200, discard_rate: 200, ..VoipMetrics::default() };
        assert!((all.missing() - 1.0).abs() < 1e-9);
    }
}
