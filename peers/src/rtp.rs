//! One side of a G.711 stream: sends known samples at their pace and keeps what comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::audio::FRAME;
use crate::g711::Law;

/// The length of an RTP header without CSRCs or extension (RFC 3550 §5.1).
const HEADER: usize = 12;

/// The first byte of a plain header: version 2, no padding, no extension, no CSRC.
const VERSION_2: u8 = 2 << 6;

/// How far timestamps may lie apart, in samples, before a packet counts as foreign: ten minutes.
const SPAN: i32 = 600 * 8_000;

/// Time of one frame.
const PTIME: Duration = Duration::from_millis(20);

/// A socket for a stream, bound before the offer that names its port.
#[derive(Debug)]
pub struct RtpPort {
    socket: UdpSocket,
}

/// What came back.
#[derive(Debug, Default)]
pub struct Heard {
    /// Packets of the law's payload type, repeated ones included.
    pub packets: u64,
    /// Packets of a version or payload type that was not negotiated, or of a time far from the others.
    pub foreign: u64,
    /// The sources seen (SSRC).
    pub sources: BTreeSet<u32>,
    /// The samples, put into the order of their timestamps; a missing packet is a gap of silence.
    pub samples: Vec<i16>,
}

impl RtpPort {
    /// Binds a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When there is none.
    pub fn bind() -> Self {
        Self { socket: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback") }
    }

    /// The port to offer.
    ///
    /// # Panics
    /// Never: a bound socket has an address.
    pub fn port(&self) -> u16 {
        self.socket.local_addr().expect("bound").port()
    }

    /// Sends `samples` to `remote`, a frame every 20 ms, and returns all that came until `tail` after the last.
    ///
    /// # Panics
    /// When loopback refuses a packet size, which it does not.
    pub fn talk(&self, remote: SocketAddr, law: Law, samples: &[i16], tail: Duration) -> Heard {
        let mut received = Received::default();
        let start = Instant::now();
        for (number, frame) in samples.chunks_exact(FRAME).enumerate() {
            let packet = packet(law, number, frame);
            // ICMP from a port not yet open is a lost packet.
            let _ = self.socket.send_to(&packet, remote);
            self.receive_until(start + PTIME * (number as u32 + 1), law, &mut received);
        }
        self.receive_until(Instant::now() + tail, law, &mut received);
        received.into_heard(law)
    }

    fn receive_until(&self, deadline: Instant, law: Law, received: &mut Received) {
        let mut bytes = [0; 2048];
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            self.socket.set_read_timeout(Some(left)).expect("not zero");
            if let Ok((length, _)) = self.socket.recv_from(&mut bytes) {
                received.take(law, &bytes[..length]);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Received {
    heard: Heard,
    /// Payload by timestamp, relative to that of the first packet to come.
    payloads: BTreeMap<i32, Vec<u8>>,
    first: Option<u32>,
}

impl Received {
    fn take(&mut self, law: Law, packet: &[u8]) {
        let Some((header, payload)) = packet.split_at_checked(HEADER) else {
            self.heard.foreign += 1;
            return;
        };
        if header[0] != VERSION_2 || header[1] & 0x7F != law.payload_type() {
            self.heard.foreign += 1;
            return;
        }
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let first = *self.first.get_or_insert(word(4));
        let at = word(4).wrapping_sub(first) as i32;
        if !(-SPAN..SPAN).contains(&at) {
            self.heard.foreign += 1;
            return;
        }
        self.heard.packets += 1;
        self.heard.sources.insert(word(8));
        self.payloads.insert(at, payload.to_vec());
    }

    fn into_heard(self, law: Law) -> Heard {
        let mut heard = self.heard;
        let Some(&start) = self.payloads.keys().next() else { return heard };
        for (at, payload) in self.payloads {
            heard.samples.resize((at - start) as usize, 0);
            heard.samples.extend(payload.iter().map(|&code| law.decode(code)));
        }
        heard
    }
}

fn packet(law: Law, number: usize, frame: &[i16]) -> Vec<u8> {
    let marker = if number == 0 { 0x80 } else { 0 };
    let mut packet = vec![VERSION_2, marker | law.payload_type()];
    packet.extend((number as u16).to_be_bytes());
    packet.extend(((number * FRAME) as u32).to_be_bytes());
    packet.extend(0x1A2B_3C4D_u32.to_be_bytes());
    packet.extend(frame.iter().map(|&sample| law.encode(sample)));
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{find_tone, tone};

    #[test]
    fn what_an_echo_returns_is_what_was_sent() {
        for law in Law::BOTH {
            let (port, echo) = (RtpPort::bind(), RtpPort::bind());
            let remote = echo.socket.local_addr().unwrap();
            let echoing = std::thread::spawn(move || {
                let mut bytes = [0; 2048];
                for _ in 0..25 {
                    let (length, from) = echo.socket.recv_from(&mut bytes).unwrap();
                    echo.socket.send_to(&bytes[..length], from).unwrap();
                }
            });
            let heard = port.talk(remote, law, &tone(440.0, 0.5), Duration::from_millis(100));
            echoing.join().unwrap();
            assert_eq!((heard.packets, heard.foreign, heard.sources.len()), (25, 0, 1));
            assert!(find_tone(&heard.samples, 440.0).seconds > 0.45);
        }
    }

    #[test]
    fn order_gaps_and_foreign_packets() {
        let frames: Vec<Vec<u8>> = (0..4).map(|number| packet(Law::Mu, number, &[1000; FRAME])).collect();
        let mut received = Received::default();
        for number in [0, 3, 1, 1] {
            received.take(Law::Mu, &frames[number]);
        }
        received.take(Law::A, &frames[2]);
        received.take(Law::Mu, b"short");
        let heard = received.into_heard(Law::Mu);
        assert_eq!((heard.packets, heard.foreign), (4, 2));
        assert_eq!(heard.samples.len(), 4 * FRAME);
        assert!(heard.samples[..2 * FRAME].iter().all(|&sample| sample > 900));
        assert!(heard.samples[2 * FRAME..3 * FRAME].iter().all(|&sample| sample == 0));
    }
}
