//! The E-model (ITU-T G.107): from codec, losses and delay to an R factor and a mean opinion score.
//!
//! All impairments that a network end cannot know (loudness, echo, room noise) stand at the values that G.107 gives as
//! defaults, which leaves R = 93.2 - Idd - Ie,eff. The scale is that of narrow-band telephony: a wide-band codec is
//! rated as one without impairment and so at most 4.4; what it sounds better than G.711 is not in the figure.
//!
//! **Codecs.** ITU-T G.113 Appendix I publishes both figures of a codec for a handful of them (Table I.4), and what it
//! costs without losses for some more (Table I.1). For the others, and for how those withstand losses, something has to
//! be assumed; [`Impairment::of`] says what. G.113 has figures for G.722 and other wide-band codecs on the scale of
//! G.107.1 only, which goes up to 129 and cannot be mixed with this one.
//!
//! **Bursts.** Losses that come together cost more (burst ratio, G.107 §7.5). The ratio of what we hear is counted where
//! packets are due; that of the far end follows from its VoIP metrics, where it sends them. The model was validated up to
//! a ratio of 2, and beyond while less than 2 % are lost; what it says of longer bursts is an extrapolation.

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

    /// Of a codec by its name in SDP.
    ///
    /// Published by G.113 Appendix I, Table I.4: PCMU and PCMA with concealment, G729 and G723 (with the pauses of Annex B
    /// and A; 6.3 kbit/s), GSM-EFR; AMR is taken at 12.2 kbit/s, which is GSM-EFR. Published by Table I.1, but for how
    /// they withstand losses: G726, G728, GSM and GSM-HR-08, for which the least of the coders of speech is assumed, 10.0.
    ///
    /// Assumed: G722 and L16 as G.711, whose concealment they share, and which they follow in what was measured
    /// (docs/quality.md). Opus costs nothing by itself, as measured there, and conceals as well as G.729, which is less
    /// than G.711; frames that came as copies count as not missing. All others, which a program registers, as G.711 with
    /// concealment.
    pub fn of(codec: &str) -> Self {
        let named = |(name, _): &&(&str, Self)| name.eq_ignore_ascii_case(codec);
        CODECS.iter().find(named).map_or(Self::CONCEALED, |(_, impairment)| *impairment)
    }

    const fn new(equipment: f64, robustness: f64) -> Self {
        Self { equipment, robustness }
    }

    /// With losses (`share` 0 to 1; `burst_ratio` 1 or more), G.107 §7.5.
    fn effective(self, share: f64, burst_ratio: f64) -> f64 {
        let percent = share.clamp(0.0, 1.0) * 100.0;
        self.equipment
            + (95.0 - self.equipment) * percent / (percent / burst_ratio.max(1.0) + self.robustness)
    }
}

/// How well a coder of speech withstands losses of which nothing is published: as the worst of those of which there is.
const ASSUMED: f64 = 10.0;

/// What is not as G.711 with concealment.
const CODECS: [(&str, Impairment); 12] = [
    ("G729", Impairment::new(11.0, 19.0)),
    ("G723", Impairment::new(15.0, 16.1)),
    ("GSM-EFR", Impairment::new(5.0, 10.0)),
    ("AMR", Impairment::new(5.0, 10.0)),
    ("opus", Impairment::new(0.0, 19.0)),
    ("G726-40", Impairment::new(2.0, ASSUMED)),
    ("G726-32", Impairment::new(7.0, ASSUMED)),
    ("G726-24", Impairment::new(25.0, ASSUMED)),
    ("G726-16", Impairment::new(50.0, ASSUMED)),
    ("G728", Impairment::new(7.0, ASSUMED)),
    ("GSM", Impairment::new(20.0, ASSUMED)),
    ("GSM-HR-08", Impairment::new(23.0, ASSUMED)),
];

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

    /// What G.113 Appendix I published in 1999 as measured, before the formula was fitted to it.
    #[test]
    fn the_published_impairments_under_losses_come_out() {
        let g711 = [(1.0, 5.0), (5.0, 15.0), (10.0, 25.0), (20.0, 45.0)];
        let g729 =
            [(0.0, 11.0), (0.5, 13.0), (1.0, 15.0), (1.5, 17.0), (2.0, 19.0), (3.0, 23.0), (8.0, 36.0)];
        for (codec, published, within) in [("PCMU", &g711[..], 3.0), ("G729", &g729[..], 0.7)] {
            for &(percent, impairment) in published {
                near(Impairment::of(codec).effective(percent / 100.0, 1.0), impairment, within);
            }
        }
        near(Impairment::of("G729").effective(0.16, 1.0), 49.0, 0.7);
        near(Impairment::of("GSM-EFR").effective(0.05, 1.0), 33.0, 2.1);
    }

    #[test]
    fn codecs_have_the_figures_that_are_published_or_named_as_assumed() {
        for (name, equipment, robustness) in [
            ("PCMU", 0.0, 25.1),
            ("PCMA", 0.0, 25.1),
            ("G729", 11.0, 19.0),
            ("G723", 15.0, 16.1),
            ("GSM-EFR", 5.0, 10.0),
            ("AMR", 5.0, 10.0),
            ("G726-32", 7.0, 10.0),
            ("G728", 7.0, 10.0),
            ("GSM", 20.0, 10.0),
            ("G722", 0.0, 25.1),
            ("L16", 0.0, 25.1),
            ("Opus", 0.0, 19.0),
            ("something-new", 0.0, 25.1),
        ] {
            assert_eq!(Impairment::of(name), Impairment { equipment, robustness }, "{name}");
        }
    }

    /// Of 2 % lost in twos instead of at random, G.711 shows 7.3 in place of 7.0 where losses are concealed, and 35.8 in
    /// place of 30.2 where they are not.
    #[test]
    fn concealment_makes_bursts_matter_less() {
        for (codec, random, in_twos) in [(Impairment::CONCEALED, 7.0, 7.3), (Impairment::SILENCE, 30.2, 35.8)]
        {
            near(codec.effective(0.02, 1.0), random, 0.05);
            near(codec.effective(0.02, 2.0), in_twos, 0.05);
        }
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
