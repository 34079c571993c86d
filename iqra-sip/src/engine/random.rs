//! Randomness: branches, tags and Call-IDs.
//!
//! Whoever guesses the tags and the Call-ID of a dialog can end it with a BYE, so they must not be predictable from
//! those seen before (RFC 3261 §19.3). They come from ChaCha8 under a seed that the caller hands in: a number in
//! tests, which then repeat exactly, and 256 bits of the operating system's randomness in `net`.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use crate::observe::capsule::Facts;

/// What an engine's randomness starts from.
#[derive(Clone)]
pub struct Seed([u8; 32]);

impl From<u64> for Seed {
    /// A seed for tests and replays: a `u64` is too small to keep tags secret.
    fn from(number: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Self(bytes)
    }
}

impl From<[u8; 32]> for Seed {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Twelve characters of 60 bits.
fn spell(bits: u64) -> impl Iterator<Item = char> {
    (0..12).map(move |i| char::from(ALPHABET[(bits >> (5 * i) & 31) as usize]))
}

/// Draws tokens. What it draws are facts, which a replay is given.
pub(crate) struct Random {
    generator: ChaCha8Rng,
    pub(crate) facts: Facts,
}

impl Random {
    pub(crate) fn new(seed: Seed) -> Self {
        Self { generator: ChaCha8Rng::from_seed(seed.0), facts: Facts::default() }
    }

    fn draw(&mut self) -> u64 {
        self.facts.number('r', || self.generator.next_u64())
    }

    /// Twelve characters, 60 bits, appended to `prefix`.
    fn append(&mut self, mut prefix: String) -> String {
        let bits = self.draw();
        prefix.extend(spell(bits));
        prefix
    }

    /// A From or To tag of 60 bits; at least 32 are asked for (RFC 3261 §19.3).
    pub(crate) fn tag(&mut self) -> String {
        self.append(String::new())
    }

    /// A tag that no replay needs.
    pub(crate) fn unnoted_tag(&mut self) -> String {
        let bits = self.generator.next_u64();
        spell(bits).collect()
    }

    /// A Via branch with the magic cookie (RFC 3261 §8.1.1.7).
    pub(crate) fn branch(&mut self) -> String {
        self.append(String::from("z9hG4bK"))
    }

    /// A Call-ID of 120 bits (RFC 3261 §8.1.1.4).
    pub(crate) fn call_id(&mut self) -> String {
        self.call_id_that(|_| true)
    }

    /// The same, drawn until it fits: what was drawn before is no fact.
    pub(crate) fn call_id_that(&mut self, fits: impl Fn(&str) -> bool) -> String {
        let Self { generator, facts } = self;
        let mut draw = || [generator.next_u64(), generator.next_u64()].into_iter().flat_map(spell).collect();
        facts.word('c', || {
            loop {
                let drawn: String = draw();
                if fits(&drawn) {
                    return drawn;
                }
            }
        })
    }

    /// A number from 0 to `most`, both included.
    pub(crate) fn up_to(&mut self, most: u32) -> u32 {
        // The bias of a remainder of 64 bits is below 2^-32.
        u32::try_from(self.draw() % (u64::from(most) + 1)).unwrap_or(most)
    }

    /// Octets without a pattern.
    #[cfg(feature = "tokio")]
    pub(crate) fn octets<const N: usize>(&mut self) -> [u8; N] {
        let mut octets = [0; N];
        self.generator.fill_bytes(&mut octets);
        octets
    }

    /// The first CSeq number of a dialog side, below 2^31 with room to grow (RFC 3261 §8.1.1.5).
    pub(crate) fn sequence(&mut self) -> u32 {
        let drawn = self.facts.number('r', || u64::from(self.generator.next_u32()));
        u32::try_from(drawn).unwrap_or_default() >> 12 | 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_another_seed_something_else() {
        let draw = |seed: u64| {
            let mut random = Random::new(seed.into());
            [random.tag(), random.branch(), random.call_id(), random.sequence().to_string()]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(1)[1].starts_with("z9hG4bK") && draw(1)[1].len() == 19);
    }
}
