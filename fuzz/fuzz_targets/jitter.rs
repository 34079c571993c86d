//! Any order of packets, times and restarts: nothing panics, nothing comes twice or backwards, and every packet has
//! exactly one fate. Decoded frames go through concealment and stretching, whose lengths must agree.
#![no_main]

use std::time::{Duration, Instant};

use iqra_media::jitter::conceal::Concealer;
use iqra_media::jitter::stretch::Stretch;
use iqra_media::jitter::{Adjustment, Buffer, Config, Frame};
use iqra_media::rtp::reception::Position;
use libfuzzer_sys::fuzz_target;

struct Listener {
    buffer: Buffer,
    concealer: Concealer,
    stretch: Stretch,
    pcm: Vec<i16>,
    highest: u64,
}

impl Listener {
    fn listen(&mut self, now: Instant) {
        for _ in 0..2_000 {
            let Some(frame) = self.buffer.pop(now) else { return };
            match frame {
                Frame::Audio { payload, .. } => {
                    let (sequence, samples) = payload.split_first_chunk().expect("it begins with its number");
                    let sequence = u64::from_be_bytes(*sequence);
                    assert!(sequence > self.highest, "twice or backwards");
                    self.highest = sequence;
                    self.pcm = samples.iter().map(|&octet| (i16::from(octet) - 128) * 200).collect();
                    self.concealer.heard(&mut self.pcm);
                    let (wanted, before) = (self.buffer.adjustment(), self.pcm.len());
                    let done = self.stretch.process(&mut self.pcm, wanted);
                    assert_eq!(done == Adjustment::Keep, before == self.pcm.len());
                    self.buffer.adjusted(done);
                }
                Frame::Lost { samples } | Frame::Dry { samples } => {
                    self.pcm.resize(samples.min(5_760) as usize, 0);
                    self.concealer.conceal(&mut self.pcm);
                }
                Frame::Silence { .. } => self.concealer.reset(),
            }
        }
    }
}

fuzz_target!(|operations: &[u8]| {
    let start = Instant::now();
    let mut now = start;
    let mut listener = Listener {
        buffer: Buffer::new(Config::default(), start),
        concealer: Concealer::new(8000),
        stretch: Stretch::new(8000),
        pcm: Vec::new(),
        highest: 0,
    };
    let (mut sequence, mut timestamp, mut pushed, mut others) = (1u64 << 40, 1u64 << 40, 0, 0);
    for operation in operations.chunks_exact(2) {
        let value = u64::from(operation[1]);
        match operation[0] % 8 {
            0 | 1 => now += Duration::from_millis(value),
            2 => {
                (sequence, timestamp) = (sequence + 1, timestamp + 160);
            }
            3 => sequence += value % 4,
            4 => timestamp += value * 160,
            5 if value == 0 => {
                listener.buffer.reset();
                listener.highest = 0;
                sequence += 5_000;
            }
            kind => {
                let back = value % 16;
                let position =
                    Position { sequence: sequence - back, timestamp: timestamp - back * 160 };
                let duration = [160, 160, 80, 240, 1, 0][(value / 16) as usize % 6];
                if kind == 6 || duration == 0 {
                    listener.buffer.push_other(now, position);
                    others += 1;
                } else {
                    let mut payload = [operation[1]; 168];
                    payload[..8].copy_from_slice(&position.sequence.to_be_bytes());
                    listener.buffer.push(now, position, duration, &payload);
                    pushed += 1;
                }
            }
        }
        listener.listen(now);
    }
    let counts = listener.buffer.counts();
    let told = counts.played + counts.late + counts.duplicate + counts.overflow + counts.dropped + counts.forgotten;
    let waiting = listener.buffer.len() as u64;
    assert!(told <= pushed + others && pushed <= told + waiting, "{counts:?}, {waiting} wait, {pushed} pushed");
});
