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
use iqra_media::jitter::conceal::Concealer;
use iqra_media::jitter::stretch::Stretch;
use iqra_media::jitter::{self, Adjustment, Buffer, Frame};
use iqra_media::rtp::packet::Header;
use iqra_media::rtp::reception::Position;
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

/// The jitter buffer alone, with what it does to decoded samples when the delay is where it should be.
#[divan::bench]
fn jitter_buffer(bencher: Bencher<'_, '_>) {
    let mut now = Instant::now();
    let mut buffer = Buffer::new(jitter::Config::default(), now);
    let (mut concealer, mut stretch) = (Concealer::new(8_000), Stretch::new(8_000));
    let mut position = Position { sequence: 1 << 40, timestamp: 1 << 40 };
    let mut pcm = vec![100; 160];
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        for _ in 0..FRAMES {
            buffer.push(now, position, 160, &[0x35; 160]);
            position.sequence += 1;
            position.timestamp += 160;
            now += FRAME;
            while let Some(frame) = buffer.pop(now) {
                if matches!(frame, Frame::Audio { .. }) {
                    concealer.heard(&mut pcm);
                    let wanted = buffer.adjustment();
                    buffer.adjusted(stretch.process(&mut pcm, wanted));
                    pcm.resize(160, 0);
                }
            }
        }
        buffer.counts().played
    });
}

/// One frame concealed after one heard, with the search for the pitch.
#[divan::bench(args = [8_000, 16_000, 48_000])]
fn conceal(bencher: Bencher<'_, '_>, rate: u32) {
    let mut concealer = Concealer::new(rate);
    let mut pcm: Vec<i16> = (0..rate / 50).map(|n| (n * 8_000 / rate % 55 * 150) as i16).collect();
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        concealer.heard(&mut pcm);
        let mut lost = [0; 960];
        concealer.conceal(&mut lost[..rate as usize / 50]);
        lost[0]
    });
}

/// One frame shortened in a voice, with the search for the join.
#[divan::bench(args = [8_000, 16_000, 48_000])]
fn shorten(bencher: Bencher<'_, '_>, rate: u32) {
    let voice: Vec<i16> = (0..rate / 50).map(|n| (n * 8_000 / rate % 55 * 150) as i16).collect();
    let mut frame = Vec::with_capacity(2_000);
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        let mut stretch = Stretch::new(rate);
        frame.clone_from(&voice);
        stretch.process(&mut frame, Adjustment::Shorten(Duration::from_millis(20)))
    });
}
