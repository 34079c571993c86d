//! The jitter buffer on a virtual clock: what the network does to packets, and the time line that comes out.

use std::time::{Duration, Instant};

use iqra_media::jitter::{Adjustment, Buffer, Config, Counts, Frame, Pushed};
use iqra_media::rtp::reception::Position;
use proptest::prelude::*;

/// Samples in a frame of 20 ms.
const FRAME: u32 = 160;

/// One listener, fed by a scripted network. Packet `n` is sent at `20 n` ms and holds the byte `n`.
struct Line {
    buffer: Buffer,
    start: Instant,
    /// What was heard, one letter per 20 ms: the packet's letter, `.` lost, `_` silence.
    heard: String,
    samples: u64,
    most_delay: Duration,
}

impl Line {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let start = Instant::now();
        Self {
            buffer: Buffer::new(config, start),
            start,
            heard: String::new(),
            samples: 0,
            most_delay: Duration::ZERO,
        }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn push(&mut self, ms: u64, n: u64) -> Pushed {
        self.push_at(ms, n, 100_000 + n * u64::from(FRAME))
    }

    fn push_at(&mut self, ms: u64, n: u64, timestamp: u64) -> Pushed {
        let position = Position { sequence: 1000 + n, timestamp };
        let payload = [b'a' + (n % 26) as u8; FRAME as usize];
        self.buffer.push(self.at(ms), position, FRAME, &payload)
    }

    fn push_event(&mut self, ms: u64, n: u64, timestamp: u64) {
        self.buffer.push_other(self.at(ms), Position { sequence: 1000 + n, timestamp });
    }

    /// Plays what is due. Audio is shortened and lengthened as asked, by 5 ms a frame.
    fn pop_all(&mut self, ms: u64) {
        let now = self.at(ms);
        while let Some(frame) = self.buffer.pop(now) {
            let audio = matches!(frame, Frame::Audio { .. });
            let (letter, samples) = match frame {
                Frame::Audio { payload, .. } => (char::from(payload[0]), payload.len() as u32),
                Frame::Lost { samples } | Frame::Dry { samples } => ('.', samples),
                Frame::Silence { samples } => ('_', samples),
            };
            self.heard.push(letter);
            self.samples += u64::from(samples);
            self.most_delay = self.most_delay.max(self.buffer.delay());
            if audio {
                self.adjust();
            }
        }
    }

    fn adjust(&mut self) {
        let step = Duration::from_millis(5);
        match self.buffer.adjustment() {
            Adjustment::Keep => {}
            Adjustment::Shorten(_) => {
                self.samples -= 40;
                self.buffer.adjusted(Adjustment::Shorten(step));
            }
            Adjustment::Lengthen(_) => {
                self.samples += 40;
                self.buffer.adjusted(Adjustment::Lengthen(step));
            }
        }
    }

    /// Delivers packets `(arrival in ms, n)` with a tick every 5 ms until `end`.
    fn run(&mut self, mut arrivals: Vec<(u64, u64)>, end: u64) {
        arrivals.sort_unstable();
        let mut arrivals = arrivals.into_iter().peekable();
        for tick in (0..=end).step_by(5) {
            while let Some((ms, n)) = arrivals.next_if(|&(ms, _)| ms <= tick) {
                self.push(ms, n);
            }
            self.pop_all(tick);
        }
    }

    fn counts(&self) -> Counts {
        self.buffer.counts()
    }
}

/// Packets `0..count` without jitter.
fn even(count: u64) -> Vec<(u64, u64)> {
    (0..count).map(|n| (n * 20, n)).collect()
}

#[test]
fn a_packet_of_one_sample_is_not_followed_by_pieces_of_one_sample() {
    let mut line = Line::new();
    let position = Position { sequence: 1000, timestamp: 100_000 };
    line.buffer.push(line.start, position, 1, b"a");
    line.pop_all(540);
    assert_eq!(line.heard.trim_matches('_').chars().next(), Some('a'));
    assert!(line.heard.len() <= 110, "{} pieces in half a second", line.heard.len());
}

#[test]
fn an_even_stream_comes_out_whole_after_the_target_delay() {
    let mut line = Line::new();
    line.run(even(20), 35);
    assert_eq!((line.heard.as_str(), line.buffer.poll_timeout()), ("", Some(line.at(40))));
    let mut line = Line::new();
    line.run(even(20), 420);
    assert_eq!(line.heard, "abcdefghijklmnopqrst");
    assert_eq!(line.counts(), Counts { played: 20, ..Counts::default() });
    assert_eq!(line.buffer.delay(), Duration::from_millis(40));
}

#[test]
fn reordered_packets_are_played_in_order() {
    let mut line = Line::new();
    line.run(vec![(0, 0), (20, 2), (21, 1), (60, 3), (80, 5), (81, 4)], 140);
    assert_eq!(line.heard, "abcdef");
    assert_eq!((line.counts().reordered, line.counts().late), (2, 0));
}

#[test]
fn packets_swapped_before_playout_began_are_all_heard() {
    let mut line = Line::new();
    line.run(vec![(0, 1), (1, 0), (40, 2)], 81);
    assert_eq!(line.heard, "abc");
}

#[test]
fn a_lost_packet_leaves_one_gap_to_conceal() {
    let mut line = Line::new();
    let arrivals = even(8).into_iter().filter(|&(_, n)| n != 3).collect();
    line.run(arrivals, 180);
    assert_eq!(line.heard, "abc.efgh");
    assert_eq!((line.counts().lost, line.counts().played), (1, 7));
}

#[test]
fn a_burst_of_losses_keeps_the_time() {
    let mut line = Line::new();
    let arrivals = even(12).into_iter().filter(|&(_, n)| !(3..7).contains(&n)).collect();
    line.run(arrivals, 260);
    assert_eq!(line.heard.len(), 12);
    assert!(line.heard.starts_with("abc....") && line.heard.ends_with("hijkl"), "{}", line.heard);
}

#[test]
fn duplicates_are_heard_once_before_and_after_playout() {
    let mut line = Line::new();
    line.push(0, 0);
    assert_eq!(line.push(1, 0), Pushed::Duplicate);
    line.push(20, 1);
    line.pop_all(60);
    assert_eq!(line.push(61, 0), Pushed::Duplicate);
    assert_eq!((line.heard.as_str(), line.counts().duplicate), ("ab", 2));
}

#[test]
fn a_packet_that_comes_after_a_newer_one_was_played_is_late() {
    let mut line = Line::new();
    line.run(vec![(0, 0), (40, 2), (85, 1), (60, 3)], 140);
    assert!(line.heard.starts_with("a.cd"), "{}", line.heard);
    assert_eq!((line.counts().late, line.counts().lost > 0), (1, true));
}

#[test]
fn a_delay_that_grows_stretches_the_line_instead_of_losing_audio() {
    let mut line = Line::new();
    // From packet 5 on the route is 50 ms longer.
    let arrivals = (0..30).map(|n| (n * 20 + if n < 5 { 0 } else { 50 }, n)).collect();
    line.run(arrivals, 680);
    let letters: String = line.heard.chars().filter(char::is_ascii_lowercase).collect();
    assert_eq!(letters, "abcdefghijklmnopqrstuvwxyzabcd");
    assert_eq!((line.counts().awaited, line.counts().late), (1, 0));
}

#[test]
fn delay_is_taken_away_again_when_it_is_not_needed() {
    let mut line = Line::new();
    // The first packet was 100 ms faster than all others… and then the others speed up by 100 ms.
    let arrivals = (0..900).map(|n| (n * 20 + if (10..20).contains(&n) { 100 } else { 0 }, n)).collect();
    line.run(arrivals, 900 * 20);
    assert!(line.counts().awaited >= 1);
    assert!(line.counts().shortened >= Duration::from_millis(50));
    assert!(line.buffer.delay() <= Duration::from_millis(60), "{:?}", line.buffer.delay());
}

#[test]
fn delay_never_grows_beyond_its_maximum() {
    let mut line = Line::new();
    // Every packet later than the one before by 10 ms, far beyond the maximum.
    let arrivals = (0..60).map(|n| (n * 30, n)).collect();
    line.run(arrivals, 1900);
    let most = Config::default().max + Duration::from_millis(20);
    assert!(line.buffer.delay() <= most, "{:?}", line.buffer.delay());
}

#[test]
fn sequence_and_timestamp_gaps_of_silence_suppression_are_silence_not_loss() {
    let mut line = Line::new();
    line.push_at(0, 0, 100_000);
    // The next packet by number is 60 ms on by timestamp.
    line.push_at(60, 1, 100_000 + u64::from(FRAME) * 3);
    line.pop_all(130);
    assert_eq!((line.heard.as_str(), line.counts().lost), ("a__b.", 0));
}

/// Packets 0 to 4, then nothing for as long as the buffer conceals and longer, then this packet, then evenly on.
fn dry_until(ms: u64, n: u64, timestamp: u64) -> Line {
    let mut line = Line::new();
    line.run(even(5), ms - 5);
    for k in 0..10 {
        line.push_at(ms + 20 * k, n + k, timestamp + k * u64::from(FRAME));
        line.pop_all(ms + 20 * k);
    }
    line
}

#[test]
fn a_pause_without_a_gap_in_the_sequence_is_neither_loss_nor_underrun() {
    for frames in [4, 6, 30] {
        let mut line = dry_until((5 + frames) * 20, 5, 100_000 + (5 + frames) * u64::from(FRAME));
        assert!(line.heard.contains("e."), "nobody knew yet: {}", line.heard);
        let Counts { lost, underruns, late, .. } = line.counts();
        assert_eq!((lost, underruns, late, line.buffer.settle()), (0, 0, 0, 0), "{frames} frames");
    }
}

#[test]
fn what_the_buffer_ran_dry_of_is_missing_where_it_was_sent() {
    let frame = u64::from(FRAME);
    // Lost, of which 80 ms before anybody knew; late by 120 ms; three packets lost, and a pause as long.
    let cases =
        [(11, 100_000 + 11 * frame, 6, 4), (5, 100_000 + 5 * frame, 4, 4), (8, 100_000 + 11 * frame, 3, 3)];
    for (n, timestamp, lost, dry) in cases {
        let mut line = dry_until(220, n, timestamp);
        assert_eq!((line.counts().lost, line.counts().underruns), (lost, 1), "packet {n}: {}", line.heard);
        assert_eq!((line.buffer.settle(), line.buffer.settle()), (dry * FRAME, 0));
    }
}

#[test]
fn a_stream_that_ends_is_not_an_underrun() {
    let mut line = Line::new();
    line.run(even(5), 2_000);
    assert_eq!((line.counts().lost, line.counts().underruns), (0, 0));
}

#[test]
fn after_a_pause_the_next_talk_spurt_starts_with_the_target_delay() {
    let mut line = Line::new();
    line.run(even(3), 1000);
    assert!(line.heard.starts_with("abc....____"), "{}", line.heard);
    line.heard.clear();
    line.push_at(1000, 3, 100_000 + 50 * u64::from(FRAME));
    line.pop_all(1055);
    assert!(line.heard.ends_with('d'), "{}", line.heard);
    assert!(line.buffer.delay() >= Duration::from_millis(40), "{:?}", line.buffer.delay());
    assert_eq!(line.counts().late, 0);
}

#[test]
fn a_timestamp_jump_of_the_sender_does_not_stop_the_audio() {
    for jump in [1_000_000, 3] {
        let mut line = Line::new();
        line.push(0, 0);
        line.push(20, 1);
        line.push_at(40, 2, jump);
        line.push_at(60, 3, jump + u64::from(FRAME));
        line.pop_all(100);
        assert_eq!((line.heard.as_str(), line.counts().jumps), ("abcd", 1));
    }
}

#[test]
fn key_presses_leave_silence_not_loss() {
    let mut line = Line::new();
    line.push(0, 0);
    line.push(20, 1);
    for n in 2..7 {
        line.push_event(n * 20, n, 100_000 + 2 * u64::from(FRAME));
        line.pop_all(n * 20);
    }
    line.push(140, 7);
    line.pop_all(185);
    assert_eq!(line.counts().lost, 0);
    assert!(line.heard.starts_with("ab___") && line.heard.ends_with('h'), "{}", line.heard);
}

#[test]
fn a_reset_starts_anew_with_any_numbers() {
    let mut line = Line::new();
    line.run(even(3), 60);
    line.buffer.reset();
    assert!(line.buffer.is_empty());
    assert_eq!(line.buffer.poll_timeout(), None);
    line.heard.clear();
    line.push_at(100, 0, 5);
    line.pop_all(140);
    assert_eq!((line.heard.as_str(), line.counts().resets), ("a", 1));
}

#[test]
fn a_flood_is_bounded_and_keeps_the_newest() {
    let mut line = Line::new();
    for n in 0..500 {
        line.push(0, n);
    }
    assert_eq!(line.buffer.len(), 64);
    assert_eq!(line.counts().overflow, 436);
    line.pop_all(45);
    assert_eq!(line.heard.chars().next(), Some(char::from(b'a' + (436 % 26) as u8)));
}

#[test]
fn an_oversized_payload_is_dropped() {
    let mut line = Line::new();
    let position = Position { sequence: 1, timestamp: 1 };
    assert_eq!(line.buffer.push(line.start, position, 8000, &[0; 1501]), Pushed::TooLong);
    assert_eq!(line.buffer.poll_timeout(), None);
}

#[test]
fn a_stalled_listener_does_not_replay_the_past() {
    let mut line = Line::new();
    line.run(even(5), 100);
    line.heard.clear();
    line.pop_all(60_000);
    assert!(line.heard.len() <= 4, "{} frames at once", line.heard.len());
}

#[test]
fn a_fast_sender_does_not_pile_up_delay() {
    let mut line = Line::new();
    // 19.9 ms between packets of 20 ms: 5000 ppm, far more than any clock.
    let arrivals = (0..3000).map(|n| (n * 199 / 10, n)).collect();
    line.run(arrivals, 59_000);
    assert!(line.buffer.delay() < Duration::from_millis(200), "{:?}", line.buffer.delay());
    assert!(line.counts().shortened > Duration::from_millis(200));
    assert_eq!((line.counts().dropped, line.counts().lost), (0, 0));
}

proptest! {
    /// However packets are delayed, lost and doubled: time goes on evenly, and order is kept.
    #[test]
    fn the_time_line_has_no_gap_and_never_goes_back(
        delays in proptest::collection::vec((0u64..150, 0u8..10), 2..150),
    ) {
        let mut arrivals = Vec::new();
        for (n, (delay, fate)) in delays.iter().enumerate() {
            let arrival = (n as u64 * 20 + delay, n as u64);
            arrivals.extend(std::iter::repeat_n(arrival, match fate { 0 => 0, 1 => 2, _ => 1 }));
        }
        let first = arrivals.iter().map(|a| a.0).min();
        let mut line = Line::new();
        let end = delays.len() as u64 * 20 + 1000;
        line.run(arrivals, end);
        if let Some(first) = first {
            let given = line.samples / 8;
            let expected = end - first - 40;
            prop_assert!(given + 5 >= expected && given <= expected + 25, "{given} of {expected} ms");
        }
    }

    #[test]
    fn audio_is_never_played_twice_or_backwards(
        arrivals in proptest::collection::vec((0u64..2000, 0u64..100), 1..200),
    ) {
        let mut line = Line::new();
        let mut arrivals = arrivals;
        arrivals.sort_unstable();
        let mut highest = None;
        let mut pending = arrivals.into_iter().peekable();
        for tick in (0..3000).step_by(5) {
            while let Some((ms, n)) = pending.next_if(|&(ms, _)| ms <= tick) {
                line.push(ms, n);
            }
            let now = line.at(tick);
            while let Some(frame) = line.buffer.pop(now) {
                if let Frame::Audio { timestamp, .. } = frame {
                    prop_assert!(highest.is_none_or(|h| timestamp > h));
                    highest = Some(timestamp);
                }
            }
        }
    }

    #[test]
    fn no_numbers_panic(
        packets in proptest::collection::vec((any::<u32>(), any::<u32>(), 0u32..2000, any::<bool>()), 1..200),
    ) {
        let mut line = Line::new();
        for (at, (sequence, timestamp, duration, other)) in packets.into_iter().enumerate() {
            let now = line.at(at as u64 * 7);
            let position = Position { sequence: (1 << 40) + u64::from(sequence % 5000), timestamp: (1 << 40) + u64::from(timestamp) };
            if other {
                line.buffer.push_other(now, position);
            } else {
                line.buffer.push(now, position, duration, &[0; 10]);
            }
            for _ in 0..1000 {
                if line.buffer.pop(now).is_none() {
                    break;
                }
            }
        }
    }
}

#[test]
fn the_next_payload_can_be_seen_after_a_loss() {
    let mut line = Line::new();
    line.push(0, 0);
    line.push(40, 2);
    let now = line.at(60);
    assert!(matches!(line.buffer.pop(now), Some(Frame::Audio { .. })));
    assert!(matches!(line.buffer.pop(now), Some(Frame::Lost { .. } | Frame::Dry { .. })));
    assert_eq!(line.buffer.peek().map(|(_, payload)| payload[0]), Some(b'c'));
    assert!(matches!(line.buffer.pop(line.start + Duration::from_millis(80)), Some(Frame::Audio { .. })));
    assert_eq!(line.buffer.peek(), None);
}

#[test]
fn another_packet_time_goes_on_without_a_gap() {
    let mut line = Line::new();
    let mut timestamp = 100_000;
    for (n, duration) in [160u32, 160, 80, 80, 480, 160].into_iter().enumerate() {
        let position = Position { sequence: 1000 + n as u64, timestamp };
        let now = line.at((timestamp - 100_000) / 8);
        line.buffer.push(now, position, duration, &vec![b'a' + n as u8; duration as usize]);
        timestamp += u64::from(duration);
    }
    line.pop_all(40 + 139);
    assert_eq!((line.heard.as_str(), line.counts().lost, line.counts().underruns), ("abcdef", 0, 0));
}

#[test]
fn an_underrun_is_counted_once_however_long_it_lasts() {
    let mut line = Line::new();
    line.run(even(3), 1000);
    line.push(1000, 50);
    line.pop_all(1100);
    assert_eq!((line.counts().underruns, line.counts().lost), (1, 4));
}

#[test]
fn timestamps_that_stand_still_in_a_pause_do_not_cost_what_follows() {
    let mut line = Line::new();
    // A pause of two seconds that the timestamps do not show.
    let arrivals = (0..300).map(|n| (n * 20 + if n < 50 { 0 } else { 2000 }, n)).collect();
    line.run(arrivals, 8050);
    assert_eq!((line.counts().played, line.counts().late, line.counts().dropped), (300, 0, 0));
    assert!(line.most_delay <= Duration::from_millis(60), "{:?}", line.most_delay);
}

#[test]
fn what_is_left_at_a_reset_is_accounted_for() {
    let mut line = Line::new();
    line.push(0, 0);
    line.push(0, 1);
    line.push_event(0, 2, 100_320);
    line.buffer.reset();
    assert_eq!((line.counts().forgotten, line.counts().resets), (2, 1));
}

#[test]
fn a_gap_of_the_sender_takes_up_what_the_delay_is_off() {
    let mut line = Line::new();
    // After 10 packets the network is 60 ms faster, and then the sender pauses for 200 ms.
    let fast = |n: u64| if n < 10 { 60 } else { 0 };
    for n in 0..20 {
        line.pop_all(n * 20 + fast(n));
        line.push(n * 20 + fast(n), n);
    }
    line.push_at(600, 20, 100_000 + 30 * u64::from(FRAME));
    for ms in (400..700).step_by(5) {
        line.pop_all(ms);
    }
    assert!(line.counts().shortened >= Duration::from_millis(40), "{:?}", line.counts());
    assert!(line.buffer.delay() <= Duration::from_millis(50), "{:?}", line.buffer.delay());
}
