//! The shape of losses: bursts and the gaps between them (RFC 3611 §4.7.2), and how far losses come together
//! (ITU-T G.107 §7.6, burst ratio).
//!
//! A burst begins and ends with a missing packet and holds no [`GAP_MINIMUM`] packets in a row that came. A missing
//! packet with that many good ones on either side lies in a gap. Before the first packet and after the last one there
//! are taken to be enough good ones.

/// Packets in a row that end a burst: the value that RFC 3611 §4.7.2 recommends.
pub const GAP_MINIMUM: u8 = 16;

/// Missing packets that may still become a burst.
#[derive(Clone, Copy, Debug)]
struct Open {
    first: u64,
    last: u64,
    missing: u64,
}

/// Counts packets in the order in which they are played.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bursts {
    packets: u64,
    missing: u64,
    runs: u64,
    last_missing: bool,
    open: Option<Open>,
    bursts: u64,
    burst_packets: u64,
    burst_missing: u64,
}

/// Bursts and gaps so far. Shares are 0 to 1, lengths in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BurstCounts {
    /// Bursts.
    pub bursts: u64,
    /// Share of packets that were missing within bursts.
    pub burst_density: f64,
    /// Share of packets that were missing within gaps.
    pub gap_density: f64,
    /// Mean length of a burst.
    pub burst_length: f64,
    /// Mean length of a gap.
    pub gap_length: f64,
}

impl Bursts {
    /// A packet was there when it was due.
    pub fn came(&mut self) {
        self.packets += 1;
        self.last_missing = false;
        if self.open.is_some_and(|open| self.packets - open.last >= GAP_MINIMUM.into()) {
            self.close();
        }
    }

    /// A packet was missing when it was due: lost, or too late.
    pub fn missing(&mut self) {
        self.packets += 1;
        self.missing += 1;
        self.runs += u64::from(!self.last_missing);
        self.last_missing = true;
        let at = self.packets;
        let open = self.open.get_or_insert(Open { first: at, last: at, missing: 0 });
        open.last = at;
        open.missing += 1;
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        if open.missing > 1 {
            self.bursts += 1;
            self.burst_packets += open.last - open.first + 1;
            self.burst_missing += open.missing;
        }
    }

    /// What there was so far; what may become a burst counts as if the call ended now.
    pub fn counts(&self) -> BurstCounts {
        let mut ended = *self;
        ended.close();
        let Self { packets, missing, bursts, burst_packets, burst_missing, .. } = ended;
        BurstCounts {
            bursts,
            burst_density: ratio(burst_missing, burst_packets),
            gap_density: ratio(missing - burst_missing, packets - burst_packets),
            burst_length: ratio(burst_packets, bursts),
            gap_length: ratio(packets - burst_packets, bursts + 1),
        }
    }

    /// Share of packets that were missing, 0 to 1.
    pub fn missing_share(&self) -> f64 {
        ratio(self.missing, self.packets)
    }

    /// How much longer losses in a row are than if they fell at random: 1 or more.
    pub fn burst_ratio(&self) -> f64 {
        (ratio(self.missing, self.runs) * (1.0 - self.missing_share())).max(1.0)
    }
}

/// 0 where there is nothing.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `x` is missing, anything else came; a number repeats what follows.
    fn played(pattern: &[(usize, &str)]) -> Bursts {
        let mut bursts = Bursts::default();
        for packet in pattern.iter().flat_map(|(times, packets)| packets.repeat(*times).into_bytes()) {
            if packet == b'x' { bursts.missing() } else { bursts.came() }
        }
        bursts
    }

    #[track_caller]
    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn nothing_played_is_nothing_missing() {
        assert_eq!(Bursts::default().counts(), BurstCounts::default());
        near(Bursts::default().burst_ratio(), 1.0);
    }

    #[test]
    fn a_single_loss_among_good_packets_lies_in_a_gap() {
        let counts = played(&[(20, "."), (1, "x"), (29, ".")]).counts();
        assert_eq!(counts.bursts, 0);
        near(counts.gap_density, 0.02);
        near(counts.gap_length, 50.0);
    }

    #[test]
    fn losses_closer_than_sixteen_good_packets_are_one_burst() {
        let counts = played(&[(30, "."), (1, "x"), (15, "."), (1, "x"), (53, ".")]).counts();
        assert_eq!(counts.bursts, 1);
        near(counts.burst_length, 17.0);
        near(counts.burst_density, 2.0 / 17.0);
        near(counts.gap_density, 0.0);
        near(counts.gap_length, 83.0 / 2.0);
    }

    #[test]
    fn sixteen_good_packets_part_two_losses() {
        let counts = played(&[(30, "."), (1, "x"), (16, "."), (1, "x"), (30, ".")]).counts();
        assert_eq!(counts.bursts, 0);
        near(counts.gap_density, 2.0 / 78.0);
    }

    #[test]
    fn a_burst_at_the_end_counts_although_it_may_go_on() {
        assert_eq!(played(&[(30, "."), (3, "x")]).counts().bursts, 1);
        let counts = played(&[(4, "x")]).counts();
        assert_eq!(counts.bursts, 1);
        near(counts.burst_density, 1.0);
        near(counts.gap_length, 0.0);
    }

    #[test]
    fn losses_in_a_row_raise_the_ratio_and_scattered_ones_do_not() {
        near(played(&[(10, "x........."), (1, ".")]).burst_ratio(), 1.0);
        near(played(&[(10, "xxxxx..............."), (100, ".")]).burst_ratio(), 5.0 * (1.0 - 50.0 / 300.0));
    }
}
