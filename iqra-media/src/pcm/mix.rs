//! Mixing for a conference: everybody hears all the others and not themselves ("mix-minus").
//!
//! The frames of all are summed once, in 32 bits, and each party's own frame is taken from the sum: for n parties that
//! is 2 n additions a sample, where mixing each party's mix by itself takes n².

/// A frame of a conference.
///
/// # Contract
/// For each frame [`start`](Self::start), [`add`](Self::add) of everybody who spoke, then [`all`](Self::all) and
/// [`without`](Self::without) for everybody who hears. Allocates only where a frame is longer than all before it.
/// Up to 65,536 parties cannot overflow the sum.
#[derive(Clone, Debug, Default)]
pub struct MixMinus {
    sum: Vec<i32>,
}

impl MixMinus {
    /// For frames up to this many samples.
    pub fn new(longest: usize) -> Self {
        Self { sum: Vec::with_capacity(longest) }
    }

    /// Begins a frame of this many samples, in silence.
    pub fn start(&mut self, samples: usize) {
        self.sum.clear();
        self.sum.resize(samples, 0);
    }

    /// Adds a party's frame; what is longer than the frame is left out, what is shorter goes on in silence.
    pub fn add(&mut self, frame: &[i16]) {
        self.sum.iter_mut().zip(frame).for_each(|(sum, &sample)| *sum = sum.saturating_add(sample.into()));
    }

    /// What somebody hears who only listens, clipped to 16 bits. Writes as many samples as both have, and gives the number.
    pub fn all(&self, out: &mut [i16]) -> usize {
        out.iter_mut().zip(&self.sum).for_each(|(out, &sum)| *out = clipped(sum));
        out.len().min(self.sum.len())
    }

    /// What the party hears whose frame this was: all but it, clipped to 16 bits. `own` as it was added. Writes as many
    /// samples as both have, and gives the number.
    pub fn without(&self, own: &[i16], out: &mut [i16]) -> usize {
        let own = own.iter().copied().chain(std::iter::repeat(0));
        let mixed = self.sum.iter().zip(own).map(|(&sum, own)| clipped(sum.saturating_sub(own.into())));
        out.iter_mut().zip(mixed).for_each(|(out, mixed)| *out = mixed);
        out.len().min(self.sum.len())
    }
}

fn clipped(sum: i32) -> i16 {
    sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_hears_all_others_and_not_themselves() {
        let frames = [[100, -5, 30_000], [7, 8, 30_000], [-1000, 1, 5]];
        let mut mix = MixMinus::new(3);
        mix.start(3);
        frames.iter().for_each(|frame| mix.add(frame));
        for (own, expected) in frames.iter().zip([[-993, 9, 30_005], [-900, -4, 30_005], [107, 3, i16::MAX]])
        {
            let mut out = [0; 3];
            assert_eq!(mix.without(own, &mut out), 3);
            assert_eq!(out, expected);
        }
        let mut out = [0; 3];
        mix.all(&mut out);
        assert_eq!(out, [-893, 4, i16::MAX]);
    }

    #[test]
    fn a_clipped_sum_still_gives_each_their_part() {
        let mut mix = MixMinus::default();
        mix.start(1);
        (0..100).for_each(|_| mix.add(&[i16::MAX]));
        (0..100).for_each(|_| mix.add(&[i16::MIN]));
        let mut out = [1];
        mix.without(&[i16::MAX], &mut out);
        assert_eq!(out, [i16::MIN], "-100 - 32,767, clipped");
    }

    #[test]
    fn frames_of_other_lengths_are_cut_or_filled_up() {
        let mut mix = MixMinus::new(4);
        mix.start(4);
        mix.add(&[1, 2]);
        mix.add(&[10, 10, 10, 10, 10]);
        let (mut out, mut short) = ([9; 6], [9; 2]);
        assert_eq!(mix.without(&[1, 2], &mut out), 4);
        assert_eq!(out, [10, 10, 10, 10, 9, 9]);
        assert_eq!(mix.all(&mut short), 2);
        assert_eq!(short, [11, 12]);
        mix.start(2);
        assert_eq!((mix.all(&mut out), out[0]), (2, 0), "a new frame is silent");
    }
}
