//! The detectors against sounds made by rule: at the limits of the standards, in noise, and among what they must not
//! take for what they look for.
// Helpers of a test are tests.
#![allow(clippy::unwrap_used)]

mod dtmf;
mod machine;
mod progress;
mod signals;
mod voice;

#[path = "../common/sounds.rs"]
mod sounds;

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(60))]
    #[test]
    fn no_sound_breaks_a_detector(data in proptest::collection::vec(proptest::num::u8::ANY, 0..1500)) {
        sounds::detectors(&data);
        sounds::resampler(&data);
    }
}
