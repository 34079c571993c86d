//! The media path of one call, without the sockets: a packet in until its frame is heard, and a tick until its packet
//! is written. One item is one 20 ms frame of G.711; 50 items a second are one call.
//!
//! Run: `cargo bench -p iqra-benches --bench rtp_pipeline`

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use divan::Bencher;
use divan::counter::ItemsCount;
use iqra_media::codec::Registry;
use iqra_media::codec::g711::PCMU;
use iqra_media::conversation::{AudioFormat, Commands, Formats, Heard, Limits, Line, line};
use iqra_media::rtp::packet::Header;
use iqra_media::sdp::{Direction, Negotiated};
use iqra_media::session::{Config, MediaSession, Plan, Port};

/// Frames per measured step: a second.
const FRAMES: usize = 50;
const FRAME: Duration = Duration::from_millis(20);
const RATES: [u32; 3] = [8_000, 16_000, 24_000];

fn main() {
    divan::main();
}

/// A call whose far end sends one packet per frame.
struct Call {
    session: MediaSession,
    line: Line,
    _commands: Commands,
    far: SocketAddr,
    now: Instant,
    sequence: u16,
    timestamp: u32,
    speech: Vec<i16>,
    packet: [u8; 1_500],
}

impl Call {
    fn new(direction: Direction, rate: u32) -> Self {
        let formats = Formats::both(AudioFormat::new(rate).expect("a rate of RATES"));
        let far = SocketAddr::from(([192, 0, 2, 1], 4_000));
        let negotiated = Negotiated { direction, ..Negotiated::new(PCMU, far) };
        let (line, end, commands) = line(formats, &Limits::default());
        let plan = Plan::new(negotiated, formats, &Registry::default()).expect("PCMU is registered");
        let now = Instant::now();
        let session = MediaSession::new(plan, Config::default(), end, None, 1, now, SystemTime::UNIX_EPOCH);
        let speech = (0..rate / 50).map(|n| (n * 37 % 2_000) as i16).collect();
        let (sequence, timestamp) = (0, 0);
        Self { session, line, _commands: commands, far, now, sequence, timestamp, speech, packet: [0; 1_500] }
    }

    fn packet_in(&mut self) {
        let (sequence, timestamp) = (self.sequence, self.timestamp);
        let header = Header { payload_type: 0, marker: false, sequence, timestamp, ssrc: 7 };
        let length = header.write(&[0x35; 160], &mut self.packet).expect("it fits");
        self.session.handle_packet(self.now, self.far, Port::Rtp, &mut self.packet[..length]);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(160);
    }

    fn tick(&mut self) {
        self.now += FRAME;
        self.session.tick(self.now);
    }

    fn hear(&mut self) -> usize {
        let mut samples = 0;
        while let Some(heard) = self.line.try_next() {
            if let Heard::Audio(frame) = heard {
                samples += frame.len();
            }
        }
        samples
    }

    fn speak(&self) {
        self.line.speaking().play(&self.speech);
    }

    fn packets_out(&mut self) -> usize {
        std::iter::from_fn(|| self.session.poll_transmit(&mut self.packet)).map(|sent| sent.length).sum()
    }
}

#[divan::bench(args = RATES)]
fn packet_in_to_frame_heard(bencher: Bencher<'_, '_>, rate: u32) {
    let mut call = Call::new(Direction::RecvOnly, rate);
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        (0..FRAMES).fold(0, |heard, _| {
            call.packet_in();
            call.tick();
            heard + call.hear()
        })
    });
}

#[divan::bench(args = RATES)]
fn speech_to_packet_out(bencher: Bencher<'_, '_>, rate: u32) {
    let mut call = Call::new(Direction::SendOnly, rate);
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        (0..FRAMES).fold(0, |sent, _| {
            call.speak();
            call.tick();
            sent + call.packets_out()
        })
    });
}

#[divan::bench(args = RATES)]
fn both_ways(bencher: Bencher<'_, '_>, rate: u32) {
    let mut call = Call::new(Direction::SendRecv, rate);
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        (0..FRAMES).fold(0, |sum, _| {
            call.packet_in();
            call.speak();
            call.tick();
            sum + call.hear() + call.packets_out()
        })
    });
}
