//! What we know of one sender's stream: extended sequence numbers and timestamps, loss, interarrival jitter
//! (RFC 3550 §6.4.1 and appendices A.1, A.3, A.8).
//!
//! Every packet of the stream passes here, events as well as audio, since they share one sequence space. A packet
//! that does not fit (another SSRC, a jump of the sequence) is held off until a second one confirms it, so that one
//! stray packet cannot reset a call.

use std::time::{Duration, Instant};

use super::packet::Packet;
use super::rtcp::Heard;

/// The sequence may run ahead by less than this without being a restart (RFC 3550 A.1, `MAX_DROPOUT`).
pub const MAX_DROPOUT: u16 = 3000;
/// A packet may be this much behind and still count as reordered (RFC 3550 A.1, `MAX_MISORDER`).
pub const MAX_MISORDER: u16 = 100;

/// Where extended counters start, so that packets before the first one do not underflow.
const FIRST_CYCLE: u64 = 1 << 40;

/// A packet's place in its stream, with numbers that do not wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Extended sequence number.
    pub sequence: u64,
    /// Extended timestamp in clock units.
    pub timestamp: u64,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It continues the stream.
    Accepted(Position),
    /// A new stream begins with it (new SSRC, or the sender restarted): reset what was built on the old one.
    Restarted(Position),
    /// It fits no stream yet; drop it. The next one may confirm a restart.
    Probation,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    ssrc: u32,
    first_sequence: u64,
    highest: Position,
    received: u64,
    last_timestamp: u32,
    /// `None` after a change of the clock.
    last_transit: Option<i64>,
}

/// Reception state of one media stream.
#[derive(Clone, Debug)]
pub struct Reception {
    clock_rate: u32,
    epoch: Option<Instant>,
    stream: Option<Stream>,
    /// SSRC and sequence number that would confirm a restart.
    candidate: Option<(u32, u16)>,
    jitter: f64,
    received_before: u64,
    lost_before: u64,
}

impl Reception {
    /// A receiver that has heard nothing. `clock_rate` is the RTP clock in Hz.
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            epoch: None,
            stream: None,
            candidate: None,
            jitter: 0.0,
            received_before: 0,
            lost_before: 0,
        }
    }

    /// Takes one packet that arrived at `now`. The first packet of all is `Accepted`.
    pub fn receive(&mut self, now: Instant, packet: &Packet<'_>) -> Verdict {
        let epoch = *self.epoch.get_or_insert(now);
        let arrival = units(now.saturating_duration_since(epoch), self.clock_rate);
        match &mut self.stream {
            None => Verdict::Accepted(self.begin(packet, arrival)),
            Some(stream) if stream.ssrc == packet.ssrc() => match stream.position(packet) {
                Some(position) => {
                    self.candidate = None;
                    self.jitter += stream.accept(packet, position, arrival, self.jitter);
                    Verdict::Accepted(position)
                }
                None => self.confirm(packet, arrival),
            },
            Some(_) => self.confirm(packet, arrival),
        }
    }

    /// The sender changed to a codec with another clock, in Hz: the jitter is that of before until two packets with the
    /// new one have come (RFC 7160 §4.2).
    pub fn change_clock(&mut self, clock_rate: u32) {
        self.jitter *= f64::from(clock_rate) / f64::from(self.clock_rate);
        self.clock_rate = clock_rate;
        if let Some(stream) = &mut self.stream {
            stream.last_transit = None;
        }
    }

    /// The stream's SSRC, once a packet came.
    pub fn ssrc(&self) -> Option<u32> {
        self.stream.map(|s| s.ssrc)
    }

    /// Interarrival jitter (RFC 3550 §6.4.1).
    pub fn jitter(&self) -> Duration {
        Duration::from_secs_f64(self.jitter / f64::from(self.clock_rate))
    }

    /// Packets received, all streams together; duplicates count (RFC 3550 A.3).
    pub fn received(&self) -> u64 {
        self.received_before + self.stream.map_or(0, |s| s.received)
    }

    /// Packets lost by the sequence numbers, all streams together; never negative.
    pub fn lost(&self) -> u64 {
        self.lost_before + self.stream.map_or(0, |s| s.lost())
    }

    /// The present stream, for a report block (RFC 3550 §6.4.1).
    pub fn heard(&self) -> Option<Heard> {
        let stream = self.stream?;
        Some(Heard {
            ssrc: stream.ssrc,
            received: stream.received,
            expected: stream.highest.sequence + 1 - stream.first_sequence,
            // Cycles count from the first packet.
            highest_sequence: (stream.highest.sequence - FIRST_CYCLE) as u32,
            jitter: self.jitter as u32,
        })
    }

    fn begin(&mut self, packet: &Packet<'_>, arrival: i64) -> Position {
        if let Some(old) = self.stream.take() {
            self.received_before += old.received;
            self.lost_before += old.lost();
        }
        let position = Position {
            sequence: FIRST_CYCLE + u64::from(packet.sequence()),
            timestamp: FIRST_CYCLE + u64::from(packet.timestamp()),
        };
        self.candidate = None;
        self.stream = Some(Stream {
            ssrc: packet.ssrc(),
            first_sequence: position.sequence,
            highest: position,
            received: 1,
            last_timestamp: packet.timestamp(),
            last_transit: Some(arrival - position.timestamp as i64),
        });
        position
    }

    fn confirm(&mut self, packet: &Packet<'_>, arrival: i64) -> Verdict {
        if self.candidate == Some((packet.ssrc(), packet.sequence())) {
            return Verdict::Restarted(self.begin(packet, arrival));
        }
        self.candidate = Some((packet.ssrc(), packet.sequence().wrapping_add(1)));
        Verdict::Probation
    }
}

impl Stream {
    /// The packet's place, or `None` when its sequence number jumped too far.
    fn position(&self, packet: &Packet<'_>) -> Option<Position> {
        let ahead = packet.sequence().wrapping_sub(self.highest.sequence as u16);
        if (MAX_DROPOUT..=u16::MAX - MAX_MISORDER).contains(&ahead) {
            return None;
        }
        let later = packet.timestamp().wrapping_sub(self.highest.timestamp as u32) as i32;
        Some(Position {
            sequence: self.highest.sequence.wrapping_add_signed(i64::from(ahead as i16)),
            timestamp: self.highest.timestamp.wrapping_add_signed(i64::from(later)),
        })
    }

    /// Counts the packet and returns by how much the jitter estimate changes.
    fn accept(&mut self, packet: &Packet<'_>, position: Position, arrival: i64, jitter: f64) -> f64 {
        self.received += 1;
        if position.sequence > self.highest.sequence {
            self.highest = position;
        }
        // The packets of one telephone-event share a timestamp and say nothing about transit (RFC 4733 §2.5.1).
        if packet.timestamp() == self.last_timestamp {
            return 0.0;
        }
        let transit = arrival - position.timestamp as i64;
        self.last_timestamp = packet.timestamp();
        let before = self.last_transit.replace(transit);
        before.map_or(0.0, |before| (transit.abs_diff(before) as f64 - jitter) / 16.0)
    }

    fn lost(&self) -> u64 {
        (self.highest.sequence + 1 - self.first_sequence).saturating_sub(self.received)
    }
}

/// A span in clock units; a call is far shorter than what fits.
fn units(span: Duration, clock_rate: u32) -> i64 {
    (span.as_nanos() * u128::from(clock_rate) / 1_000_000_000) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::packet::Header;
    use Verdict::{Accepted, Probation, Restarted};

    struct Peer {
        reception: Reception,
        start: Instant,
    }

    impl Peer {
        fn new() -> Self {
            Self { reception: Reception::new(8000), start: Instant::now() }
        }

        fn send(&mut self, ms: u64, ssrc: u32, sequence: u16, timestamp: u32) -> Verdict {
            let header = Header { payload_type: 0, marker: false, sequence, timestamp, ssrc };
            let mut bytes = [0; 64];
            let len = header.write(&[], &mut bytes).unwrap();
            let packet = Packet::parse(&bytes[..len]).unwrap();
            self.reception.receive(self.start + Duration::from_millis(ms), &packet)
        }
    }

    fn sequence(verdict: Verdict) -> u64 {
        match verdict {
            Accepted(position) | Restarted(position) => position.sequence,
            Probation => panic!("held off"),
        }
    }

    #[test]
    fn sequence_and_timestamp_go_on_through_their_wraps() {
        let mut peer = Peer::new();
        let Accepted(before) = peer.send(0, 1, 65535, u32::MAX - 79) else { panic!("first packet") };
        let Accepted(after) = peer.send(20, 1, 0, 80) else { panic!("second packet") };
        assert_eq!((after.sequence - before.sequence, after.timestamp - before.timestamp), (1, 160));
        let Accepted(late) = peer.send(21, 1, 65534, u32::MAX - 239) else { panic!("reordered packet") };
        assert_eq!((before.sequence - late.sequence, before.timestamp - late.timestamp), (1, 160));
    }

    #[test]
    fn loss_is_what_the_sequence_lacks() {
        let mut peer = Peer::new();
        for sequence in [10, 11, 14, 13, 20] {
            peer.send(0, 1, sequence, u32::from(sequence) * 160);
        }
        assert_eq!((peer.reception.received(), peer.reception.lost()), (5, 6));
    }

    #[test]
    fn one_stray_packet_does_not_change_the_stream() {
        let mut peer = Peer::new();
        let first = sequence(peer.send(0, 1, 10, 0));
        assert_eq!(peer.send(5, 99, 500, 0), Probation);
        assert_eq!(peer.send(6, 1, 40_000, 0), Probation);
        assert_eq!(sequence(peer.send(20, 1, 11, 160)) - first, 1);
        assert_eq!(peer.reception.ssrc(), Some(1));
    }

    #[test]
    fn two_packets_in_order_confirm_a_new_ssrc() {
        let mut peer = Peer::new();
        peer.send(0, 1, 10, 0);
        peer.send(1, 1, 12, 320);
        assert_eq!(peer.send(20, 2, 7, 0), Probation);
        assert!(matches!(peer.send(40, 2, 8, 160), Restarted(_)));
        assert_eq!(peer.reception.ssrc(), Some(2));
        assert_eq!((peer.reception.received(), peer.reception.lost()), (3, 1), "the old stream still counts");
    }

    #[test]
    fn two_packets_in_order_confirm_a_sequence_jump() {
        let mut peer = Peer::new();
        peer.send(0, 1, 10, 0);
        assert_eq!(peer.send(20, 1, 30_000, 160), Probation);
        assert!(matches!(peer.send(40, 1, 30_001, 320), Restarted(_)));
    }

    #[test]
    fn an_even_stream_has_no_jitter() {
        let mut peer = Peer::new();
        for n in 0..50u16 {
            peer.send(u64::from(n) * 20, 1, n, u32::from(n) * 160);
        }
        assert_eq!(peer.reception.jitter(), Duration::ZERO);
    }

    #[test]
    fn jitter_converges_to_the_mean_difference() {
        let mut peer = Peer::new();
        // Every other packet is 10 ms late: successive transits differ by 10 ms each time.
        for n in 0..400u16 {
            let late = if n % 2 == 0 { 0 } else { 10 };
            peer.send(u64::from(n) * 20 + late, 1, n, u32::from(n) * 160);
        }
        let jitter = peer.reception.jitter().as_secs_f64() * 1000.0;
        assert!((jitter - 10.0).abs() < 0.1, "{jitter} ms");
    }

    #[test]
    fn the_packets_of_one_event_do_not_count_as_jitter() {
        let mut peer = Peer::new();
        peer.send(0, 1, 0, 0);
        for n in 1..8u16 {
            peer.send(u64::from(n) * 20, 1, n, 160);
        }
        assert_eq!(peer.reception.jitter(), Duration::ZERO);
    }
}
