//! G.711 in both laws, the harness's own: written from ITU-T G.711 tables 1a and 2a, sharing nothing with the
//! codec under test.

/// Which of the two laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// μ-law, PCMU, RTP payload type 0 (RFC 3551 §6).
    Mu,
    /// A-law, PCMA, RTP payload type 8 (RFC 3551 §6).
    A,
}

impl Law {
    /// Both, for tests of each.
    pub const BOTH: [Self; 2] = [Self::Mu, Self::A];

    /// The encoding name of SDP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mu => "PCMU",
            Self::A => "PCMA",
        }
    }

    /// The static RTP payload type.
    pub fn payload_type(self) -> u8 {
        match self {
            Self::Mu => 0,
            Self::A => 8,
        }
    }

    /// One sample to its code.
    pub fn encode(self, sample: i16) -> u8 {
        match self {
            Self::Mu => mu_encode(sample),
            Self::A => a_encode(sample),
        }
    }

    /// One code to its sample.
    pub fn decode(self, code: u8) -> i16 {
        match self {
            Self::Mu => mu_decode(code),
            Self::A => a_decode(code),
        }
    }
}

/// Half a step of the finest μ-law segment, at 16 bits: the offset that makes every segment a power of two.
const MU_BIAS: i32 = 132;

fn mu_encode(sample: i16) -> u8 {
    let magnitude = i32::from(sample).abs().min(32_635) + MU_BIAS;
    let segment = magnitude.ilog2() - 7;
    let step = (magnitude >> (segment + 3)) & 0xF;
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | (segment << 4) as u8 | step as u8)
}

fn mu_decode(code: u8) -> i16 {
    let code = !code;
    let (segment, step) = (u32::from(code >> 4 & 7), i32::from(code & 0xF));
    let magnitude = (((step << 3) + MU_BIAS) << segment) - MU_BIAS;
    signed(magnitude, code & 0x80 != 0)
}

/// A-law inverts the even bits on the line.
const A_TOGGLE: u8 = 0x55;

fn a_encode(sample: i16) -> u8 {
    let magnitude = if sample < 0 { !i32::from(sample) } else { i32::from(sample) } >> 4;
    let code = match magnitude.checked_ilog2() {
        Some(top @ 4..) => ((top - 3) << 4) | ((magnitude as u32 >> (top - 4)) & 0xF),
        _ => magnitude as u32,
    };
    let sign = if sample < 0 { 0 } else { 0x80 };
    (sign | code as u8) ^ A_TOGGLE
}

fn a_decode(code: u8) -> i16 {
    let code = code ^ A_TOGGLE;
    let (segment, step) = (u32::from(code >> 4 & 7), i32::from(code & 0xF));
    let magnitude = match segment {
        0 => (step << 4) + 8,
        _ => ((step << 4) + 0x108) << (segment - 1),
    };
    signed(magnitude, code & 0x80 == 0)
}

fn signed(magnitude: i32, negative: bool) -> i16 {
    (if negative { -magnitude } else { magnitude }) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corners_of_the_tables() {
        assert_eq!((mu_decode(0xFF), mu_decode(0x80), mu_decode(0x00)), (0, 32_124, -32_124));
        assert_eq!(
            (a_decode(0xD5), a_decode(0x55), a_decode(0xAA), a_decode(0x2A)),
            (8, -8, 32_256, -32_256)
        );
        assert_eq!((mu_encode(0), a_encode(0)), (0xFF, 0xD5));
    }

    #[test]
    fn every_code_survives_a_round_trip() {
        for law in Law::BOTH {
            for code in 0..=255u8 {
                let again = law.decode(law.encode(law.decode(code)));
                assert_eq!(again, law.decode(code), "{law:?} {code:#x}");
            }
        }
    }

    #[test]
    fn the_error_stays_within_half_a_step() {
        for law in Law::BOTH {
            for sample in (-32_000..32_000i16).step_by(7) {
                let error = i32::from(law.decode(law.encode(sample))) - i32::from(sample);
                let bound = i32::from(sample).abs() / 30 + 16;
                assert!(error.abs() <= bound, "{law:?} {sample}: off by {error}");
            }
        }
    }

    #[test]
    fn the_laws_are_not_each_other() {
        assert_ne!(mu_encode(5000), a_encode(5000));
    }
}
