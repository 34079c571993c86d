//! The E-model (ITU-T G.107): from codec, losses and delay to an R factor and a mean opinion score.
//!
//! All impairments that a network end cannot know (loudness, echo, room noise) stand at the values that G.107 gives as
//! defaults, which leaves R = 93.2 - Idd - Ie,eff. The scale is that of narrow-band telephony: a wide-band codec is
//! rated as one without impairment and so at most 4.4; what it sounds better than G.711 is not in the figure.

use std::time::Duration;

/// R with every value at its default (G.107 §7.7).
const BEST: f64 = 93.2;

/// What a codec costs by itself (`Ie`) and how well it withstands losses (`Bpl`), from ITU-T G.113 Appendix I.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairment {
    /// Equipment impairment, 0 to 95.
    pub equipment: f64,
    /// Packet-loss robustness; more is better.
    pub robustness: f64,
}

impl Impairment {
    /// G.711 whose losses are concealed (G.113 Appendix I with the concealment of G.711 Appendix I).
    pub const CONCEALED: Self = Self { equipment: 0.0, robustness: 25.1 };
    /// G.711 whose losses are silence.
    pub const SILENCE: Self = Self { equipment: 0.0, robustness: 4.3 };

    /// Of a codec by its name in SDP. G.113 gives figures for G.711 alone among those that are built in; the others,
    /// whose losses are concealed as well, are taken to withstand as much.
    pub fn of(codec: &str) -> Self {
        match codec {
            "G729" => Self { equipment: 11.0, robustness: 19.0 },
            _ => Self::CONCEALED,
        }
    }

    /// With losses (`share` 0 to 1; `burst_ratio` 1 or more), G.107 §7.5.
    fn effective(self, share: f64, burst_ratio: f64) -> f64 {
        let percent = share.clamp(0.0, 1.0) * 100.0;
        self.equipment
            + (95.0 - self.equipment) * percent / (percent / burst_ratio.max(1.0) + self.robustness)
    }
}

/// The R factor, 0 to 93.2, of one direction: packets missing when they were due, and the way from mouth to ear.
pub fn r_factor(codec: Impairment, missing: f64, burst_ratio: f64, one_way: Duration) -> f64 {
    (BEST - delay_impairment(one_way) - codec.effective(missing, burst_ratio)).clamp(0.0, BEST)
}

/// Idd of G.107 §7.4, for listeners of default sensitivity.
fn delay_impairment(one_way: Duration) -> f64 {
    let ms = one_way.as_secs_f64() * 1_000.0;
    if ms <= 100.0 {
        return 0.0;
    }
    let x = (ms / 100.0).log2();
    let root = |x: f64| (1.0 + x.powi(6)).powf(1.0 / 6.0);
    25.0 * (root(x) - 3.0 * root(x / 3.0) + 2.0)
}

/// The mean opinion score of an R factor, 1 to 4.5 (G.107 Annex B).
pub fn mos(r: f64) -> f64 {
    if r >= 100.0 {
        return 4.5;
    }
    let r = r.max(0.0);
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    #[track_caller]
    fn near(a: f64, b: f64, within: f64) {
        assert!((a - b).abs() < within, "{a} is not {b}");
    }

    #[test]
    fn the_marks_are_those_of_annex_b() {
        for (r, expected) in
            [(93.2, 4.41), (90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)]
        {
            near(mos(r), expected, 0.01);
        }
        near(mos(-5.0), 1.0, 1e-9);
        near(mos(3.0), 1.0, 1e-9);
        near(mos(120.0), 4.5, 1e-9);
    }

    #[test]
    fn delay_costs_nothing_up_to_a_tenth_of_a_second_and_much_beyond_a_quarter() {
        let r = |ms| r_factor(Impairment::CONCEALED, 0.0, 1.0, Duration::from_millis(ms));
        near(r(100), 93.2, 1e-9);
        assert!(r(150) > 92.0 && r(250) < 88.0 && r(400) < 72.0, "{} {} {}", r(150), r(250), r(400));
    }

    #[test]
    fn losses_cost_more_unconcealed_and_in_bursts() {
        let r = |codec, missing, ratio| r_factor(codec, missing, ratio, SOON);
        near(r(Impairment::CONCEALED, 0.05, 1.0), 93.2 - 95.0 * 5.0 / 30.1, 1e-9);
        near(r(Impairment::SILENCE, 0.05, 1.0), 93.2 - 95.0 * 5.0 / 9.3, 1e-9);
        assert!(r(Impairment::CONCEALED, 0.05, 3.0) < r(Impairment::CONCEALED, 0.05, 1.0));
        near(r(Impairment::CONCEALED, 1.0, 1.0), 93.2 - 95.0 * 100.0 / 125.1, 1e-9);
        near(r(Impairment::SILENCE, 1.0, 9.0), 0.0, 1e-9);
    }
}
