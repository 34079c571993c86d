//! Receiving keys: many packets in, one [`KeyPress`] per key out (RFC 4733 §2.5.2).
//!
//! Packets of one press share a timestamp. Any of them opens the press (marker and first packets may be lost); it is
//! over with the end bit, with the start of another press, or when no packet came for [`END_TIMEOUT`] (all end
//! packets lost). Further packets of a finished press, its end retransmissions, are recognised by their timestamp.
//! A packet of the same key that begins inside the running press continues it: that is how presses too long for the
//! 16-bit duration go on (§2.5.1.3), and what senders do that move the timestamp along.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Digit, Payload};

/// A press without news for this long has ended.
pub const END_TIMEOUT: Duration = Duration::from_millis(200);
/// Finished presses kept for the caller; older ones are dropped.
pub const MAX_PENDING: usize = 32;
/// A timestamp this many seconds back is a new time line, not an old packet.
const MAX_AGE_SECONDS: u32 = 10;

/// One finished press of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPress {
    /// The key.
    pub digit: Digit,
    /// How long it was held, as far as heard.
    pub duration: Duration,
}

#[derive(Clone, Copy)]
struct Press {
    digit: Digit,
    start: u32,
    duration: u32,
    heard: Instant,
    ended: bool,
}

/// Collects the events of one stream.
pub struct Receiver {
    clock_rate: u32,
    press: Option<Press>,
    finished: VecDeque<KeyPress>,
}

impl Receiver {
    /// A receiver for events with this clock rate in Hz.
    pub fn new(clock_rate: u32) -> Self {
        Self { clock_rate, press: None, finished: VecDeque::with_capacity(MAX_PENDING) }
    }

    /// Takes an event packet with its RTP timestamp. Short payloads and events other than keys are ignored.
    pub fn receive(&mut self, now: Instant, timestamp: u32, payload: &[u8]) {
        let Some(payload) = Payload::parse(payload) else { return };
        let Some(digit) = Digit::from_event(payload.event) else { return };
        match self.press {
            Some(press) if press.covers(digit, timestamp) => {}
            Some(press) if self.is_old(press, timestamp) => return,
            _ => self.begin(now, digit, timestamp),
        }
        self.extend(now, timestamp, payload);
    }

    /// The next finished press, oldest first.
    pub fn poll(&mut self) -> Option<KeyPress> {
        self.finished.pop_front()
    }

    /// Ends a press whose packets stopped coming.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.finish();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.press.filter(|p| !p.ended).map(|p| p.heard + END_TIMEOUT)
    }

    /// Whether a key is down.
    pub fn is_pressed(&self) -> bool {
        self.press.is_some_and(|press| !press.ended)
    }

    /// Forgets the time line: the stream restarted. A running press is finished first.
    pub fn restart(&mut self) {
        self.finish();
        self.press = None;
    }

    fn begin(&mut self, now: Instant, digit: Digit, start: u32) {
        self.finish();
        self.press = Some(Press { digit, start, duration: 0, heard: now, ended: false });
    }

    fn extend(&mut self, now: Instant, timestamp: u32, payload: Payload) {
        let Some(press) = self.press.as_mut().filter(|p| !p.ended) else { return };
        let until = timestamp.wrapping_sub(press.start).saturating_add(u32::from(payload.duration));
        press.duration = press.duration.max(until);
        press.heard = now;
        if payload.end {
            self.finish();
        }
    }

    fn finish(&mut self) {
        let Some(press) = self.press.as_mut().filter(|p| !p.ended) else { return };
        press.ended = true;
        let duration = Duration::from_secs_f64(f64::from(press.duration) / f64::from(self.clock_rate));
        if self.finished.len() == MAX_PENDING {
            self.finished.pop_front();
        }
        self.finished.push_back(KeyPress { digit: press.digit, duration });
    }

    fn is_old(&self, press: Press, timestamp: u32) -> bool {
        let behind = press.start.wrapping_sub(timestamp);
        behind != 0 && behind < MAX_AGE_SECONDS.saturating_mul(self.clock_rate)
    }
}

impl Press {
    /// Whether a packet belongs to this press: same timestamp, or the same key inside its time.
    fn covers(&self, digit: Digit, timestamp: u32) -> bool {
        let offset = timestamp.wrapping_sub(self.start);
        let inside = if self.ended { offset < self.duration } else { offset <= self.duration };
        offset == 0 || (digit == self.digit && inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Line {
        receiver: Receiver,
        now: Instant,
    }

    impl Line {
        fn new() -> Self {
            Self { receiver: Receiver::new(8000), now: Instant::now() }
        }

        fn packet(&mut self, key: char, timestamp: u32, duration: u16, end: bool) {
            self.now += Duration::from_millis(20);
            let event = Digit::from_char(key).unwrap().event();
            let payload = Payload { event, end, volume: 10, duration };
            self.receiver.receive(self.now, timestamp, &payload.bytes());
        }

        /// A whole press of 100 ms in 20 ms packets, with three end packets.
        fn press(&mut self, key: char, timestamp: u32) {
            for n in 1..5 {
                self.packet(key, timestamp, n * 160, false);
            }
            for _ in 0..3 {
                self.packet(key, timestamp, 800, true);
            }
        }

        fn heard(&mut self) -> String {
            std::iter::from_fn(|| self.receiver.poll()).map(|p| p.digit.as_char()).collect()
        }
    }

    #[test]
    fn one_press_of_many_packets_is_one_event_with_its_duration() {
        let mut line = Line::new();
        line.press('5', 1000);
        let press = line.receiver.poll().unwrap();
        assert_eq!((press.digit.as_char(), press.duration), ('5', Duration::from_millis(100)));
        assert_eq!(line.receiver.poll(), None);
    }

    #[test]
    fn the_same_key_twice_is_two_events() {
        let mut line = Line::new();
        line.press('1', 0);
        line.press('1', 1200);
        assert_eq!(line.heard(), "11");
    }

    #[test]
    fn a_single_end_packet_is_enough() {
        let mut line = Line::new();
        line.packet('#', 500, 800, true);
        assert_eq!(line.heard(), "#");
    }

    #[test]
    fn a_press_whose_end_was_lost_ends_with_the_next_one() {
        let mut line = Line::new();
        line.packet('1', 0, 160, false);
        line.press('2', 1600);
        assert_eq!(line.heard(), "12");
    }

    #[test]
    fn a_press_whose_end_was_lost_ends_by_timeout() {
        let mut line = Line::new();
        line.packet('*', 0, 320, false);
        let due = line.receiver.poll_timeout().unwrap();
        assert_eq!(due, line.now + END_TIMEOUT);
        line.receiver.handle_timeout(due - Duration::from_millis(1));
        assert_eq!(line.heard(), "");
        line.receiver.handle_timeout(due);
        assert_eq!(line.receiver.poll().unwrap().duration, Duration::from_millis(40));
        assert_eq!(line.receiver.poll_timeout(), None);
    }

    #[test]
    fn end_packets_after_the_timeout_are_no_second_press() {
        let mut line = Line::new();
        line.packet('3', 0, 320, false);
        line.receiver.handle_timeout(line.now + END_TIMEOUT);
        line.packet('3', 0, 800, true);
        assert_eq!(line.heard(), "3");
    }

    #[test]
    fn packets_that_arrive_out_of_order_are_no_further_press() {
        let mut line = Line::new();
        line.press('1', 0);
        line.packet('2', 1600, 160, false);
        line.packet('1', 0, 480, false);
        line.packet('2', 1600, 320, true);
        assert_eq!(line.heard(), "12");
    }

    #[test]
    fn a_press_longer_than_the_duration_field_is_one_event() {
        let mut line = Line::new();
        line.packet('9', 0, 0xFFFF, false);
        line.packet('9', 0xFFFF, 160, false);
        line.packet('9', 0xFFFF, 320, true);
        let press = line.receiver.poll().unwrap();
        assert_eq!(press.duration, Duration::from_secs_f64(f64::from(0xFFFF + 320) / 8000.0));
        assert_eq!(line.receiver.poll(), None);
    }

    #[test]
    fn a_sender_that_moves_the_timestamp_along_is_one_event() {
        let mut line = Line::new();
        for n in 0..5 {
            line.packet('4', n * 160, 160, n == 4);
        }
        line.packet('4', 4 * 160, 160, true);
        assert_eq!(line.heard(), "4");
    }

    #[test]
    fn presses_go_on_through_the_wrap_of_the_timestamp() {
        let mut line = Line::new();
        line.press('1', u32::MAX - 100);
        line.press('2', 1500);
        assert_eq!(line.heard(), "12");
    }

    #[test]
    fn after_a_restart_the_old_time_line_does_not_count() {
        let mut line = Line::new();
        line.press('1', 50_000);
        line.receiver.restart();
        line.press('2', 48_000);
        assert_eq!(line.heard(), "12");
    }

    #[test]
    fn events_that_are_no_keys_are_ignored() {
        let mut line = Line::new();
        line.receiver.receive(line.now, 0, &[16, 0x80, 1, 0]);
        line.receiver.receive(line.now, 0, &[5, 0x80]);
        assert_eq!(line.heard(), "");
    }

    #[test]
    fn unread_presses_are_bounded() {
        let mut line = Line::new();
        for n in 0..100u32 {
            line.packet('1', n * 1600, 800, true);
        }
        assert_eq!(line.heard().len(), MAX_PENDING);
    }

    proptest! {
        #[test]
        fn no_payload_panics(packets in proptest::collection::vec((any::<u32>(), any::<Vec<u8>>()), 0..40)) {
            let (mut receiver, now) = (Receiver::new(8000), Instant::now());
            for (timestamp, payload) in packets {
                receiver.receive(now, timestamp, &payload);
            }
            receiver.handle_timeout(now + END_TIMEOUT);
            while receiver.poll().is_some() {}
        }
    }
}
