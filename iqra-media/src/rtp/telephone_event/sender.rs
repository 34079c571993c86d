//! Sending keys: a queue of digits becomes event packets at the pace of the audio (RFC 4733 §2.5.1).
//!
//! Once per packet interval the sender is asked with the timestamp that audio would carry. While a key is down it
//! returns a packet that goes out *instead of* audio: fixed start timestamp, growing duration, marker on the first,
//! the last one three times with the end bit. Between two keys it returns nothing for at least the gap.
//!
//! Timestamps are the audio's. Where events have another clock than the audio, as those of 8 kHz beside Opus have with
//! far ends that list no others (which RFC 4733 §2.1 rules out, but many do), only the durations are in units of that.

use std::collections::VecDeque;

use super::{Digit, PAYLOAD_LEN, Payload};

/// Keys waiting to be sent; more are refused.
pub const MAX_QUEUED: usize = 64;
/// How long a key is down unless set otherwise, in milliseconds.
pub const DEFAULT_DURATION_MS: u16 = 100;
/// Shortest and longest press: ITU-T Q.24 wants 40 ms, the 16-bit duration ends at 8 s.
pub const DURATION_RANGE_MS: std::ops::RangeInclusive<u16> = 40..=5000;
/// Least silence between two keys, in milliseconds (Q.24 wants 40).
pub const GAP_MS: u16 = 60;
/// Power level in -dBm0 (RFC 4733 §2.3.4).
const VOLUME: u8 = 10;
/// How often the end of an event is sent (RFC 4733 §2.5.1.4).
const END_PACKETS: u8 = 3;

/// What to send instead of audio in one packet interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPacket {
    /// RTP timestamp: the start of the press.
    pub timestamp: u32,
    /// RTP marker: set on the first packet of a press.
    pub marker: bool,
    payload: [u8; PAYLOAD_LEN],
}

impl EventPacket {
    /// The RTP payload. Hidden in `Debug` like the digit that it holds.
    pub fn payload(&self) -> [u8; PAYLOAD_LEN] {
        self.payload
    }
}

#[derive(Clone, Copy)]
struct Down {
    digit: Digit,
    start: u32,
    duration: u32,
    ends_sent: u8,
}

/// Turns queued digits into packets.
pub struct Sender {
    /// Clock of durations in Hz, and that of timestamps.
    clock_rate: u32,
    audio_rate: u32,
    interval: u32,
    duration: u32,
    queue: VecDeque<Digit>,
    down: Option<Down>,
    /// Timestamp before which no further key may start.
    quiet_until: Option<u32>,
}

impl Sender {
    /// A sender for events with this clock rate in Hz beside audio with that one, asked every `ptime_ms` milliseconds.
    pub fn new(clock_rate: u32, audio_rate: u32, ptime_ms: u8) -> Self {
        let interval = clock_rate / 1000 * u32::from(ptime_ms);
        let mut sender = Self {
            clock_rate,
            audio_rate: audio_rate.max(1),
            interval,
            duration: 0,
            queue: VecDeque::with_capacity(MAX_QUEUED),
            down: None,
            quiet_until: None,
        };
        sender.set_duration(DEFAULT_DURATION_MS);
        sender
    }

    /// How long each key is held, in milliseconds; clamped to [`DURATION_RANGE_MS`]. Applies from the next key on.
    pub fn set_duration(&mut self, ms: u16) {
        let ms = ms.clamp(*DURATION_RANGE_MS.start(), *DURATION_RANGE_MS.end());
        self.duration = units(self.clock_rate, ms).min(u32::from(u16::MAX));
    }

    /// Queues a key; `false` when [`MAX_QUEUED`] are waiting.
    #[must_use]
    pub fn press(&mut self, digit: Digit) -> bool {
        let room = self.queue.len() < MAX_QUEUED;
        if room {
            self.queue.push_back(digit);
        }
        room
    }

    /// Asked once per packet interval with the timestamp of that interval: `Some` goes out instead of audio.
    pub fn poll(&mut self, timestamp: u32) -> Option<EventPacket> {
        if self.down.is_none() {
            self.down = self.next_key(timestamp);
        }
        let mut down = self.down?;
        let elapsed = convert(timestamp.wrapping_sub(down.start), self.audio_rate, self.clock_rate);
        let held = elapsed.saturating_add(self.interval).min(down.duration);
        let end = held >= down.duration;
        down.ends_sent += u8::from(end);
        self.down = (down.ends_sent < END_PACKETS).then_some(down);
        let payload = Payload { event: down.digit.event(), end, volume: VOLUME, duration: held as u16 };
        Some(EventPacket { timestamp: down.start, marker: timestamp == down.start, payload: payload.bytes() })
    }

    /// Whether a key is down or waiting.
    pub fn is_active(&self) -> bool {
        self.down.is_some() || !self.queue.is_empty()
    }

    fn next_key(&mut self, timestamp: u32) -> Option<Down> {
        let quiet = self.quiet_until.is_some_and(|until| (timestamp.wrapping_sub(until) as i32) < 0);
        if quiet {
            return None;
        }
        let digit = self.queue.pop_front()?;
        let down = convert(self.duration, self.clock_rate, self.audio_rate);
        self.quiet_until = Some(timestamp.wrapping_add(down + units(self.audio_rate, GAP_MS)));
        Some(Down { digit, start: timestamp, duration: self.duration, ends_sent: 0 })
    }
}

fn units(clock_rate: u32, ms: u16) -> u32 {
    clock_rate / 1000 * u32::from(ms)
}

/// A span in units of one clock in those of another.
fn convert(span: u32, from: u32, to: u32) -> u32 {
    u32::try_from(u64::from(span) * u64::from(to) / u64::from(from.max(1))).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Receiver;
    use super::*;
    use std::time::{Duration, Instant};

    fn digit(key: char) -> Digit {
        Digit::from_char(key).unwrap()
    }

    /// Polls `ticks` times every 20 ms from `timestamp` on.
    fn run(sender: &mut Sender, timestamp: u32, ticks: u32) -> Vec<Option<EventPacket>> {
        (0..ticks).map(|n| sender.poll(timestamp.wrapping_add(n * 160))).collect()
    }

    fn seen(packet: &EventPacket) -> (bool, bool, u16) {
        let payload = Payload::parse(&packet.payload).unwrap();
        (packet.marker, payload.end, payload.duration)
    }

    #[test]
    fn one_key_is_five_packets_of_growing_duration_with_three_ends() {
        let mut sender = Sender::new(8000, 8000, 20);
        assert!(sender.press(digit('7')));
        let packets: Vec<_> = run(&mut sender, 4000, 20).into_iter().flatten().collect();
        let expected = [
            (true, false, 160),
            (false, false, 320),
            (false, false, 480),
            (false, false, 640),
            (false, true, 800),
            (false, true, 800),
            (false, true, 800),
        ];
        assert_eq!(packets.iter().map(seen).collect::<Vec<_>>(), expected);
        assert!(packets.iter().all(|p| p.timestamp == 4000 && p.payload[..1] == [7]));
        assert!(!sender.is_active());
    }

    #[test]
    fn two_keys_are_kept_apart_by_the_gap() {
        let mut sender = Sender::new(8000, 8000, 20);
        assert!(sender.press(digit('1')) && sender.press(digit('1')));
        let starts: Vec<_> =
            run(&mut sender, 0, 40).into_iter().flatten().filter(|p| p.marker).map(|p| p.timestamp).collect();
        assert_eq!(starts.len(), 2);
        let silence = starts[1] - starts[0] - 800;
        assert!((480..=640).contains(&silence), "{silence} units between the keys");
    }

    #[test]
    fn keys_are_as_long_and_as_far_apart_beside_a_faster_clock() {
        let mut sender = Sender::new(8000, 48_000, 20);
        assert!(sender.press(digit('1')) && sender.press(digit('1')));
        let packets: Vec<_> = (0..20).map(|n| sender.poll(n * 960)).collect();
        let starts: Vec<_> = (0..20).filter(|n| packets[*n].is_some_and(|packet| packet.marker)).collect();
        assert_eq!(starts, [0, 8], "at 0 and 160 ms");
        let first: Vec<_> = packets[..8].iter().flatten().map(|packet| seen(packet).2).collect();
        assert_eq!(first, [160, 320, 480, 640, 800, 800, 800]);
        assert!(packets[..8].iter().flatten().all(|packet| packet.timestamp == 0));
    }

    #[test]
    fn our_receiver_hears_what_we_send_across_the_wrap() {
        let (mut sender, mut receiver) = (Sender::new(8000, 8000, 20), Receiver::new(8000));
        let (keys, now) = ("0123456789*#ABCD", Instant::now());
        assert!(keys.chars().all(|k| sender.press(digit(k))));
        for packet in run(&mut sender, u32::MAX - 3000, 300).into_iter().flatten() {
            receiver.receive(now, packet.timestamp, &packet.payload());
        }
        let presses: Vec<_> = std::iter::from_fn(|| receiver.poll()).collect();
        assert_eq!(presses.iter().map(|p| p.digit.as_char()).collect::<String>(), keys);
        assert!(presses.iter().all(|p| p.duration == Duration::from_millis(100)));
    }

    #[test]
    fn a_press_is_never_shorter_than_a_receiver_needs() {
        let mut sender = Sender::new(8000, 8000, 20);
        sender.set_duration(5);
        assert!(sender.press(digit('1')));
        let last = run(&mut sender, 0, 10).into_iter().flatten().last().unwrap();
        assert_eq!(seen(&last), (false, true, 320));
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut sender = Sender::new(8000, 8000, 20);
        assert!((0..MAX_QUEUED).all(|_| sender.press(digit('1'))));
        assert!(!sender.press(digit('1')));
    }
}
