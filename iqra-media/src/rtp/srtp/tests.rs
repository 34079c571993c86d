//! SRTP against the vectors of its RFCs, and what it does with packets that are changed, repeated, lost or short.

use super::cipher::{Cipher, Place};
use super::keys::SessionKeys;
use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn key(suite: CryptoSuite, fill: u8) -> MasterKey {
    let octets: Vec<u8> =
        (0..suite.key_len() + suite.salt_len()).map(|n| fill.wrapping_add(n as u8)).collect();
    MasterKey::new(suite, &octets).unwrap()
}

fn packet(sequence: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let header =
        super::super::packet::Header { payload_type: 0, marker: false, sequence, timestamp: 160, ssrc };
    let mut out = vec![0; 1_500];
    let length = header.write(payload, &mut out).unwrap();
    out.truncate(length);
    out
}

fn protected(outgoing: &mut Outgoing, plain: &[u8]) -> Vec<u8> {
    let mut buffer = [plain, &[0; MAX_OVERHEAD]].concat();
    let length = outgoing.protect(&mut buffer, plain.len()).unwrap();
    buffer.truncate(length);
    buffer
}

fn opened(incoming: &mut Incoming, protected: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut buffer = protected.to_vec();
    incoming.open(&mut buffer).map(|length| buffer[..length].to_vec())
}

struct Ends {
    outgoing: Outgoing,
    incoming: Incoming,
}

fn ends(suite: CryptoSuite) -> Ends {
    let key = key(suite, 7);
    Ends { outgoing: Outgoing::new(&key), incoming: Incoming::new(&key) }
}

/// RFC 3711 appendix B.3.
#[test]
fn keys_are_derived_as_the_rfc_shows() {
    let octets = hex("E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6");
    let master = MasterKey::new(CryptoSuite::AesCm128HmacSha1_80, &octets).unwrap();
    let keys = SessionKeys::derive(&master, Kind::Rtp);
    assert_eq!(keys.cipher[..16], hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(keys.salt[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
    assert_eq!(keys.authentication[..], hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
}

fn with_session_key(suite: CryptoSuite, kind: Kind, cipher: &str, salt: &str) -> Cipher {
    let mut keys = SessionKeys::default();
    keys.cipher[..suite.key_len()].copy_from_slice(&hex(cipher));
    keys.salt[..12].copy_from_slice(&hex(salt));
    Cipher::with(suite, kind, &keys)
}

const GCM_SALT: &str = "517569642070726f2071756f";

/// RFC 7714 §16.1.1.
#[test]
fn gcm_protects_rtp_as_the_rfc_shows() {
    let cipher =
        with_session_key(CryptoSuite::AeadAes128Gcm, Kind::Rtp, "000102030405060708090a0b0c0d0e0f", GCM_SALT);
    let plain = [&hex("8040f17b 8041f8d3 5501a0b2")[..], b"Gallia est omnis divisa in partes tres"].concat();
    let mut packet = plain.clone();
    let place = Place { ssrc: 0x5501_a0b2, index: 0xf17b };
    let tag = cipher.seal(place, &mut packet, 12, [0; 4]);
    let expected = "f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833";
    assert_eq!(packet[12..], hex(expected));
    assert_eq!(tag[..], hex("899d7f27 beb16a91 52cf765e e4390cce"));
    cipher.open(place, &mut packet, 12, [0; 4], &tag).unwrap();
    assert_eq!(packet, plain);
}

/// RFC 7714 §17.2: the compound, its 256-bit key, and what becomes of it.
#[test]
fn gcm_protects_rtcp_as_the_rfc_shows() {
    let key = "000102030405060708090a0b0c0d0e0f 101112131415161718191a1b1c1d1e1f";
    let cipher = with_session_key(CryptoSuite::AeadAes256Gcm, Kind::Rtcp, key, GCM_SALT);
    let plain = "81c8000d4d617273 4e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef";
    let mut packet = hex(plain);
    let tail = hex("800005d4").try_into().unwrap();
    let tag = cipher.seal(Place { ssrc: 0x4d61_7273, index: 0x5d4 }, &mut packet, 8, tail);
    let expected = "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be";
    assert_eq!([&packet[..], &tag[..]].concat(), hex(expected));
    let mut behind = [0; 20];
    cipher.lay_out_rtcp(&mut behind, tail, &tag);
    assert_eq!(behind[16..], tail, "the index comes last");
}

/// The key of RFC 3711 appendix B.3 over a packet that other implementations test with too.
#[test]
fn counter_mode_and_sha1_protect_as_other_implementations_do() {
    let octets = hex("e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6");
    let master = MasterKey::new(CryptoSuite::AesCm128HmacSha1_80, &octets).unwrap();
    let plain = hex("800f1234 decafbad cafebabe abababab abababab abababab abababab");
    let expected = "800f1234 decafbad cafebabe 4e55dc4c e79978d8 8ca4d215 949d2402 b78d6acc 99ea179b 8dbb";
    assert_eq!(protected(&mut Outgoing::new(&master), &plain), hex(expected));
    assert_eq!(opened(&mut Incoming::new(&master), &hex(expected)).unwrap(), plain);
}

#[test]
fn what_is_protected_opens_again_in_every_suite() {
    for suite in CryptoSuite::ALL {
        let mut ends = ends(suite);
        for sequence in 0..300 {
            let plain = packet(sequence, 5, b"what was said");
            let sealed = protected(&mut ends.outgoing, &plain);
            assert_eq!(sealed.len(), plain.len() + suite.tag_len(Kind::Rtp));
            assert_ne!(sealed[12..plain.len()], plain[12..]);
            assert_eq!(opened(&mut ends.incoming, &sealed).unwrap(), plain);
        }
    }
}

#[test]
fn a_header_with_csrcs_and_an_extension_stays_in_the_clear() {
    for suite in CryptoSuite::ALL {
        let mut ends = ends(suite);
        let mut plain = vec![0b1011_0010, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        plain.extend([1; 8]);
        plain.extend([0xbe, 0xde, 0, 1, 9, 9, 9, 9]);
        plain.extend([5, 5, 5, 1]);
        let sealed = protected(&mut ends.outgoing, &plain);
        assert_eq!(sealed[..28], plain[..28]);
        assert_eq!(opened(&mut ends.incoming, &sealed).unwrap(), plain);
    }
}

#[test]
fn every_changed_bit_is_found() {
    for suite in CryptoSuite::ALL {
        let mut ends = ends(suite);
        let sealed = protected(&mut ends.outgoing, &packet(100, 5, b"abc"));
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(opened(&mut ends.incoming, &changed).is_err(), "{suite:?} bit {bit}");
        }
        assert_eq!(ends.incoming.refused(), sealed.len() as u64 * 8);
        assert!(ends.incoming.streams.iter().all(Option::is_none), "strangers made no state");
        assert!(opened(&mut ends.incoming, &sealed).is_ok());
    }
}

#[test]
fn a_packet_opens_once_and_not_when_it_is_too_old() {
    let mut ends = ends(CryptoSuite::AeadAes128Gcm);
    let sealed: Vec<_> =
        (0..400).map(|sequence| protected(&mut ends.outgoing, &packet(sequence, 5, b"x"))).collect();
    assert!(opened(&mut ends.incoming, &sealed[200]).is_ok());
    assert_eq!(opened(&mut ends.incoming, &sealed[200]), Err(SrtpError::Replayed));
    assert!(opened(&mut ends.incoming, &sealed[73]).is_ok(), "127 below the highest");
    assert_eq!(opened(&mut ends.incoming, &sealed[73]), Err(SrtpError::Replayed));
    assert_eq!(opened(&mut ends.incoming, &sealed[72]), Err(SrtpError::Replayed), "128 below");
    assert!(opened(&mut ends.incoming, &sealed[399]).is_ok(), "a jump beyond the window");
    assert!(opened(&mut ends.incoming, &sealed[398]).is_ok());
    assert_eq!(opened(&mut ends.incoming, &sealed[200]), Err(SrtpError::Replayed));
}

#[test]
fn sequence_numbers_may_wrap_and_cross_while_they_do() {
    for suite in CryptoSuite::ALL {
        let mut ends = ends(suite);
        let order = [65_534, 65_535, 0, 1, 2].map(|sequence| {
            let plain = packet(sequence, 5, b"wrap");
            (protected(&mut ends.outgoing, &plain), plain)
        });
        for at in [0, 2, 1, 4, 3] {
            let (sealed, plain) = &order[at];
            assert_eq!(opened(&mut ends.incoming, sealed).as_ref(), Ok(plain), "{suite:?} {at}");
        }
    }
}

#[test]
fn another_ssrc_is_another_stream_and_the_oldest_is_forgotten() {
    let mut ends = ends(CryptoSuite::AesCm128HmacSha1_80);
    for ssrc in 0..100 {
        let sealed = protected(&mut ends.outgoing, &packet(9, ssrc, b"x"));
        assert!(opened(&mut ends.incoming, &sealed).is_ok());
        assert_eq!(opened(&mut ends.incoming, &sealed), Err(SrtpError::Replayed));
    }
    assert_eq!(ends.incoming.streams.iter().flatten().count(), MAX_STREAMS);
}

#[test]
fn rtcp_opens_once_and_only_encrypted() {
    for suite in CryptoSuite::ALL {
        let mut ends = ends(suite);
        let mut out = [0; 100];
        let mut writer = crate::rtp::rtcp::write::Writer::new(&mut out);
        writer.receiver_report(5, None);
        writer.cname(5, "somebody");
        let length = writer.finish().unwrap();
        let plain = out[..length].to_vec();
        for round in 0..3u8 {
            out[..length].copy_from_slice(&plain);
            let total = ends.outgoing.protect_rtcp(&mut out, length).unwrap();
            assert_eq!(total, length + suite.tag_len(Kind::Rtcp) + 4);
            assert_ne!(out[8..length], plain[8..]);
            let mut buffer = out[..total].to_vec();
            assert_eq!(ends.incoming.open_rtcp(&mut buffer), Ok(length), "{suite:?} {round}");
            assert_eq!(buffer[..length], plain);
            assert_eq!(ends.incoming.open_rtcp(&mut out[..total].to_vec()), Err(SrtpError::Replayed));
            let flag = if suite.salt_len() == 12 { total - 4 } else { length };
            let mut clear = out[..total].to_vec();
            clear[flag] &= 0x7f;
            assert_eq!(ends.incoming.open_rtcp(&mut clear), Err(SrtpError::InClear));
        }
    }
}

#[test]
fn a_key_identifier_is_taken_out_and_has_to_be_the_one_agreed_on() {
    for suite in CryptoSuite::ALL {
        let (key, mki) = (key(suite, 7), [1, 2]);
        let mut outgoing = Outgoing::new(&key);
        let plain = packet(1, 5, b"abc");
        let sealed = protected(&mut outgoing, &plain);
        let behind = if suite.salt_len() == 12 { 0 } else { suite.tag_len(Kind::Rtp) };
        let (front, tag) = sealed.split_at(sealed.len() - behind);
        let named = [front, &mki, tag].concat();
        assert_eq!(opened(&mut Incoming::with_mki(&key, &mki), &named).as_ref(), Ok(&plain), "{suite:?}");
        assert_eq!(opened(&mut Incoming::with_mki(&key, &[1, 3]), &named), Err(SrtpError::NotAuthentic));
        assert!(opened(&mut Incoming::with_mki(&key, &mki), &sealed).is_err());
        assert!(opened(&mut Incoming::with_mki(&key, &mki), &[]).is_err());
    }
}

#[test]
fn short_packets_and_short_buffers_are_errors() {
    for suite in CryptoSuite::ALL {
        let mut ends = ends(suite);
        let plain = packet(1, 5, b"abc");
        for length in 0..plain.len() + MAX_OVERHEAD {
            assert!(opened(&mut ends.incoming, &vec![0x90; length]).is_err());
            assert!(ends.incoming.open_rtcp(&mut vec![0x90; length]).is_err());
        }
        let mut tight = plain.clone();
        let needed = plain.len() + suite.tag_len(Kind::Rtp);
        let expected = Err(SrtpError::BufferTooSmall { needed, available: plain.len() });
        assert_eq!(ends.outgoing.protect(&mut tight, plain.len()), expected);
        assert_eq!(tight, plain);
        assert_eq!(ends.outgoing.protect(&mut [0x80; 11], 11), Err(SrtpError::TooShort));
        assert_eq!(ends.outgoing.protect_rtcp(&mut [0x80; 7], 7), Err(SrtpError::TooShort));
    }
}

#[test]
fn names_and_lengths_are_those_of_sdp() {
    for suite in CryptoSuite::ALL {
        assert_eq!(CryptoSuite::by_name(suite.name()), Some(suite));
        let needed = suite.key_len() + suite.salt_len();
        let error = MasterKey::new(suite, &vec![0; needed - 1]).unwrap_err();
        assert!(error.to_string().contains(suite.name()), "{error}");
    }
    assert_eq!(CryptoSuite::by_name("F8_128_HMAC_SHA1_80"), None);
    let shown = format!("{:?}", key(CryptoSuite::AeadAes128Gcm, 0x41));
    assert_eq!(shown, "MasterKey { suite: AeadAes128Gcm, .. }");
}

/// Ends whose stream 9 has passed a wrap of its sequence numbers, and the outgoing half of a new key.
fn past_a_wrap(suite: CryptoSuite) -> (Ends, MasterKey) {
    let mut ends = ends(suite);
    for sequence in [0xfffe, 0xffff, 0, 1] {
        let packet = protected(&mut ends.outgoing, &packet(sequence, 9, b"before"));
        opened(&mut ends.incoming, &packet).unwrap();
    }
    (ends, key(suite, 8))
}

#[test]
fn a_new_key_counts_on_past_a_wrap() {
    for suite in CryptoSuite::ALL {
        let (before, key) = past_a_wrap(suite);
        let (mut outgoing, mut incoming) = (Outgoing::new(&key), Incoming::new(&key));
        outgoing.count_on_from(&before.outgoing);
        incoming.count_on_from(&before.incoming);
        let next = protected(&mut outgoing, &packet(2, 9, b"after"));
        assert!(opened(&mut Incoming::new(&key), &next).is_err(), "a counter of 0 does not open it");
        assert!(opened(&mut incoming, &next).is_ok(), "{suite:?}");
        assert_eq!(opened(&mut incoming, &next), Err(SrtpError::Replayed));
        let mut stale = Ends { outgoing: before.outgoing, incoming };
        let old = protected(&mut stale.outgoing, &packet(3, 9, b"old key"));
        assert_eq!(opened(&mut stale.incoming, &old), Err(SrtpError::NotAuthentic));
    }
}

#[test]
fn a_far_end_that_begins_anew_with_a_new_key_is_understood_and_then_holds_to_it() {
    for suite in CryptoSuite::ALL {
        let (before, key) = past_a_wrap(suite);
        let (mut outgoing, mut incoming) = (Outgoing::new(&key), Incoming::new(&key));
        incoming.count_on_from(&before.incoming);
        for sequence in 2..5 {
            let next = protected(&mut outgoing, &packet(sequence, 9, b"after"));
            assert!(opened(&mut incoming, &next).is_ok(), "{suite:?} {sequence}");
            assert_eq!(opened(&mut incoming, &next), Err(SrtpError::Replayed));
        }
        let mut counts_on = Outgoing::new(&key);
        counts_on.count_on_from(&before.outgoing);
        let other = protected(&mut counts_on, &packet(5, 9, b"after"));
        assert_eq!(opened(&mut incoming, &other), Err(SrtpError::NotAuthentic), "one of the two, not both");
    }
}

#[test]
fn a_new_key_does_not_begin_the_index_of_reports_anew() {
    let suite = CryptoSuite::AesCm128HmacSha1_80;
    let mut before = Outgoing::new(&key(suite, 7));
    let mut report = [0; 100];
    report[..2].copy_from_slice(&[0x80, 201]);
    for _ in 0..3 {
        before.protect_rtcp(&mut report.clone(), 8).unwrap();
    }
    let mut after = Outgoing::new(&key(suite, 8));
    after.count_on_from(&before);
    after.protect_rtcp(&mut report, 8).unwrap();
    assert_eq!(report[8..12], [0x80, 0, 0, 3]);
}
