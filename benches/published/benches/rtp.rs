//! What a packet of RTP costs beside published parts, in one run and in turn: SRTP beside `rtc-srtp` and, with feature
//! `native`, libsrtp; the jitter buffer beside that of speexdsp.
//!
//! ```text
//! cargo bench --features native --bench rtp
//! ```
//! A packet has 160 octets of payload. `open` goes through packets that were protected before, each once, since a replay
//! is refused: so it is one batch long, and every round starts a new context.
#![allow(clippy::unwrap_used)] // A bench.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use iqra_benches_published::Race;
#[cfg(feature = "native")]
use iqra_benches_published::native;
use iqra_media::jitter::{self, Buffer};
use iqra_media::rtp::reception::Position;
use iqra_media::rtp::srtp::{CryptoSuite, Incoming, MasterKey, Outgoing};
use rtc_crypto::providers::RingCrypto;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

const KEY: [u8; 30] = [7; 30];
const LENGTH: usize = 12 + 160;

fn main() {
    protect("SRTP protect, AES_CM_128_HMAC_SHA1_80", false);
    protect("SRTP protect, AEAD_AES_128_GCM", true);
    open("SRTP open, AES_CM_128_HMAC_SHA1_80", false);
    open("SRTP open, AEAD_AES_128_GCM", true);
    jitter();
}

fn packet(sequence: u16) -> [u8; 256] {
    let mut packet = [0x35; 256];
    packet[..12].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet
}

fn master_key(gcm: bool) -> MasterKey {
    let suite = if gcm { CryptoSuite::AeadAes128Gcm } else { CryptoSuite::AesCm128HmacSha1_80 };
    MasterKey::new(suite, &KEY[..suite.material_len()]).unwrap()
}

fn rtc(gcm: bool) -> Context {
    let profile = if gcm { ProtectionProfile::AeadAes128Gcm } else { ProtectionProfile::Aes128CmHmacSha1_80 };
    let (key, salt) = KEY.split_at(16);
    Context::new(key, &salt[..profile.salt_len()], profile, None, None, &RingCrypto::default()).unwrap()
}

/// The sequence numbers of a stream.
fn counter() -> impl FnMut() -> u16 {
    let mut next = 0u16;
    move || {
        next = next.wrapping_add(1);
        next
    }
}

fn protect(title: &'static str, gcm: bool) {
    let mut race = Race::new(title, 101, 500);
    let (mut outgoing, mut next) = (Outgoing::new(&master_key(gcm)), counter());
    race.add("iqra-media", move || {
        let mut packet = packet(next());
        outgoing.protect(black_box(&mut packet), LENGTH).unwrap()
    });
    let (mut context, mut next) = (rtc(gcm), counter());
    race.add("rtc-srtp", move || {
        let packet = packet(next());
        context.encrypt_rtp(black_box(&packet[..LENGTH])).unwrap()
    });
    #[cfg(feature = "native")]
    {
        let (mut session, mut next) = (native::Srtp::outgoing(gcm, &KEY), counter());
        race.add("libsrtp", move || {
            let mut packet = packet(next());
            session.pass(black_box(&mut packet), LENGTH)
        });
    }
    race.run();
}

/// As many packets as a second has, protected.
fn protected(gcm: bool) -> Vec<([u8; 256], usize)> {
    let mut outgoing = Outgoing::new(&master_key(gcm));
    let protect = |sequence| {
        let mut packet = packet(sequence);
        let length = outgoing.protect(&mut packet, LENGTH).unwrap();
        (packet, length)
    };
    (1..=500).map(protect).collect()
}

fn open(title: &'static str, gcm: bool) {
    let packets = protected(gcm);
    let packets = &packets[..];
    let mut race = Race::new(title, 101, 1);
    race.add("iqra-media (500)", move || {
        let mut incoming = Incoming::new(&master_key(gcm));
        for (packet, length) in packets {
            let mut packet = *packet;
            black_box(incoming.open(&mut packet[..*length]).unwrap());
        }
    });
    race.add("rtc-srtp (500)", move || {
        let mut context = rtc(gcm);
        for (packet, length) in packets {
            let packet = *packet;
            let opened: BytesMut = context.decrypt_rtp(&packet[..*length]).unwrap();
            black_box(opened);
        }
    });
    #[cfg(feature = "native")]
    race.add("libsrtp (500)", move || {
        let mut session = native::Srtp::incoming(gcm, &KEY);
        for (packet, length) in packets {
            let mut packet = *packet;
            black_box(session.pass(&mut packet, *length));
        }
    });
    race.run();
}

fn jitter() {
    let mut race = Race::new("jitter buffer, a packet in and out", 101, 500);
    let mut now = Instant::now();
    let mut buffer = Buffer::new(jitter::Config::default(), now);
    let mut position = Position { sequence: 1 << 40, timestamp: 1 << 40 };
    race.add("iqra-media", move || {
        buffer.push(now, position, 160, black_box(&[0x35; 160]));
        position.sequence += 1;
        position.timestamp += 160;
        now += Duration::from_millis(20);
        while let Some(frame) = buffer.pop(now) {
            black_box(frame);
        }
    });
    #[cfg(feature = "native")]
    {
        let (mut buffer, mut timestamp, mut out) = (native::Jitter::speexdsp(160), 0, [0; 2_048]);
        race.add("speexdsp", move || {
            timestamp += 160;
            buffer.step(black_box(&[0x35; 160]), timestamp, 160, &mut out)
        });
    }
    race.run();
}
