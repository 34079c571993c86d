//! The tables of ITU-T G.722, in the units of its §3: fractions of 2^15, gains in steps of 2^-12.

/// Thresholds of the 60-level quantiser of the lower band (table 14, Q6), as shares of the step in 2^-12. Behind three
/// zeros, which every magnitude reaches, so that 32 comparisons make whole vectors.
pub(super) const LOWER_THRESHOLDS: [u16; 32] = [
    0, 0, 0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023,
    1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];

/// Codes of the lower band for a magnitude that reaches `n` thresholds beyond the zeros, for differences from 0 up
/// (table 17, ILP) and below 0 (ILN).
pub(super) const LOWER_CODES: [[u8; 30]; 2] = [
    [
        61, 60, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50, 49, 48, 47, 46, 45, 44, 43, 42, 41, 40, 39, 38, 37,
        36, 35, 34, 33, 32,
    ],
    [
        63, 62, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8,
        7, 6, 5, 4,
    ],
];

/// Threshold between the two magnitudes of the higher band (table 15, Q2).
pub(super) const HIGHER_THRESHOLD: i32 = 564;

/// Inverse quantiser of 4 bits, which also adapts (table 17, QM4).
pub(super) const INVERSE_4: [i16; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
/// Inverse quantiser of 5 bits (QM5).
pub(super) const INVERSE_5: [i16; 32] = [
    -280, -280, -23352, -17560, -14120, -11664, -9752, -8184, -6864, -5712, -4696, -3784, -2960, -2208,
    -1520, -880, 23352, 17560, 14120, 11664, 9752, 8184, 6864, 5712, 4696, 3784, 2960, 2208, 1520, 880, 280,
    -280,
];
/// Inverse quantiser of 6 bits (QM6).
pub(super) const INVERSE_6: [i16; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360,
    -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688,
    -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856,
    7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136,
    -432, -136,
];
/// Inverse quantiser of the higher band, 2 bits (QM2).
pub(super) const INVERSE_2: [i16; 4] = [-7408, -1616, 7408, 1616];

/// Change of the lower band's logarithmic step by its 4-bit code (WL through RL42).
pub(super) const LOWER_CHANGES: [i16; 16] =
    [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
/// Change of the higher band's logarithmic step by its code (WH through RH2).
pub(super) const HIGHER_CHANGES: [i16; 4] = [798, -214, 798, -214];

/// 2^11 times the powers of 2 in steps of 1/32 (table 18, ILB).
pub(super) const POWERS: [i16; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896,
    2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

/// One half of the symmetric 24-tap QMF (table 11), every second tap; the other half is the same backwards.
pub(super) const QMF: [i16; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];
