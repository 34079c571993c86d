//! What holds for any offer that is built, any that is bent, and any octets at all.

#![allow(clippy::unwrap_used)] // helpers of tests may unwrap like tests

#[path = "common/sdp.rs"]
mod common;

use common::{G722, OPUS, are_two_sides, mirrors, narrow, wide};
use iqra_media::codec::CodecSpec;
use iqra_media::codec::g711::{PCMA, PCMU};
use iqra_media::sdp::{
    Capabilities, Description, Direction, Order, Profile, SecurityPolicy, accept_answer, answer, offer,
};
use proptest::prelude::*;

const L16: CodecSpec =
    CodecSpec { name: "L16", payload_type: 97, clock_rate: 16_000, sample_rate: 16_000, ..PCMU };
const DIRECTIONS: [Direction; 4] =
    [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive];

/// A side of a call, of any means. Everybody has PCMU, so that there is something to agree on.
fn side(policy: SecurityPolicy, seed: u8) -> impl Strategy<Value = Capabilities> {
    let codecs = Just(vec![OPUS, G722, PCMA, L16, PCMU]).prop_shuffle();
    const PROFILES: [Profile; 6] =
        [Profile::Avp, Profile::Avpf, Profile::Savp, Profile::Savpf, Profile::TlsSavp, Profile::TlsSavpf];
    let numbers = proptest::collection::vec(90u8..=110, 5);
    let flags = proptest::array::uniform6(any::<bool>());
    (
        codecs,
        0usize..5,
        numbers,
        prop::sample::select(&DIRECTIONS[..]),
        prop::sample::select(&PROFILES[..]),
        flags,
        5u8..80,
    )
        .prop_map(move |(mut codecs, left_out, numbers, direction, profile, flags, ptime_ms)| {
            for (codec, number) in
                codecs.iter_mut().zip(numbers).filter(|(codec, _)| codec.payload_type >= 96)
            {
                codec.payload_type = number;
            }
            let pcmu = codecs.iter().position(|codec| *codec == PCMU).unwrap();
            codecs.swap(0, pcmu);
            codecs.truncate(codecs.len() - left_out);
            let order = if flags[0] { Order::Ours } else { Order::Theirs };
            let mut side = Capabilities { codecs, order, direction, ptime_ms, ..wide(policy, seed) };
            side.security.profile = profile;
            (side.telephone_event, side.comfort_noise, side.rtcp_mux) = (flags[1], flags[2], flags[3]);
            side.ice = side.ice.filter(|_| flags[4]);
            side.rtcp_port = flags[5].then_some(41_000);
            side
        })
}

fn policy() -> impl Strategy<Value = SecurityPolicy> {
    prop::sample::select(&[SecurityPolicy::Never, SecurityPolicy::Optional, SecurityPolicy::Required][..])
}

fn two_sides() -> impl Strategy<Value = (Capabilities, Capabilities)> {
    policy().prop_flat_map(|policy| (side(policy, 1), side(policy, 2)))
}

/// Any offer of a stranger's: some m-lines of any kind with attributes that mean something.
fn strange_offer() -> impl Strategy<Value = String> {
    let attributes = [
        "a=sendonly",
        "a=recvonly",
        "a=inactive",
        "a=mid:x",
        "a=rtcp-mux",
        "a=rtcp-mux-only",
        "a=ptime:35",
        "a=maxptime:5",
        "a=rtcp:7000 IN IP4 192.0.2.9",
        "a=rtpmap:0 PCMA/8000",
        "a=rtpmap:96 opus/48000/2",
        "a=rtpmap:97 pcmu/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=rtpmap:102 telephone-event/48000",
        "a=fmtp:101 0-9,11",
        "a=fmtp:96 x=1",
        "c=IN IP4 0.0.0.0",
        "c=IN IP4 192.0.2.6",
        "a=bundle-only",
        "a=unknown:thing",
        "b=AS:64",
        "i=title",
        "a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd|2^20|9:2",
        "a=setup:passive",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:abcdefghijklmnopqrstuv",
        "a=candidate:1 1 UDP 1 192.0.2.7 9 typ host",
        "a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF",
    ];
    let kinds = ["audio", "audio", "audio", "video", "image", "application"];
    let protos = ["RTP/AVP", "RTP/AVP", "RTP/SAVP", "RTP/AVPF", "UDP/TLS/RTP/SAVPF", "udptl", "TCP/TLS/BFCP"];
    let formats = ["0", "8", "9", "13", "18", "96", "97", "101", "102", "t38", "*", "255"];
    let few = |list: Vec<&'static str>, most| proptest::collection::vec(prop::sample::select(list), 0..most);
    let stream = (
        prop::sample::select(kinds.to_vec()),
        prop::sample::select(vec![0u16, 9, 5004, 65_535]),
        prop::sample::select(protos.to_vec()),
        few(formats.to_vec(), 8),
        few(attributes.to_vec(), 14),
    );
    let stream = stream.prop_map(|(kind, port, proto, formats, attributes)| {
        let lines: String = attributes.iter().map(|line| format!("{line}\r\n")).collect();
        format!("m={kind} {port} {proto} {} 0\r\n{lines}", formats.join(" ")).replace("  ", " ")
    });
    (
        few(vec!["a=group:BUNDLE x y", "a=ice-lite", "a=inactive", "a=setup:active"], 3),
        proptest::collection::vec(stream, 1..5),
    )
        .prop_map(|(session, streams)| {
            let session: String = session.iter().map(|line| format!("{line}\r\n")).collect();
            format!(
                "v=0\r\no=- 1 1 IN IP4 192.0.2.5\r\ns=-\r\nc=IN IP4 192.0.2.5\r\nt=0 0\r\n{session}{}",
                streams.concat()
            )
        })
}

/// A whole SDP as the RFC has it, with every kind of line.
fn canonical() -> impl Strategy<Value = String> {
    let word = "[!-~]([ -~]{0,20}[!-~])?";
    let attribute = proptest::option::of(word).prop_flat_map(|value| {
        ("[a-z][a-z0-9-]{0,12}", Just(value)).prop_map(|(name, value)| match value {
            Some(value) => format!("a={name}:{value}\r\n"),
            None => format!("a={name}\r\n"),
        })
    });
    let attributes = || proptest::collection::vec(attribute.clone(), 0..6).prop_map(|lines| lines.concat());
    let optional = |line: &'static str| prop::sample::select(vec![line, ""]);
    let stream = (
        word,
        any::<u16>(),
        optional("i=title\r\n"),
        optional("c=IN IP6 2001:db8::1\r\n"),
        optional("b=AS:64\r\nb=TIAS:64000\r\n"),
        attributes(),
    )
        .prop_map(|(formats, port, i, c, b, a)| format!("m=audio {port} RTP/AVP {formats}\r\n{i}{c}{b}{a}"));
    let head = (
        any::<u64>(),
        any::<u64>(),
        word,
        optional("i=about\r\nu=http://a.example/\r\ne=a@b.example\r\np=+1 555 0100\r\n"),
        optional("c=IN IP4 233.252.0.1/127\r\nb=X-Y:7\r\n"),
        optional("r=7d 1h 0 25h\r\n"),
    );
    (head, attributes(), proptest::collection::vec(stream, 0..4)).prop_map(
        |((id, version, name, about, c, r), a, streams)| {
            format!(
                "v=0\r\no=jdoe {id} {version} IN IP4 198.51.100.1\r\ns={name}\r\n{about}{c}t=0 0\r\n{r}{a}{}",
                streams.concat()
            )
        },
    )
}

/// The same in the forms that are met: other line ends, blank lines, trailing blanks, lines of unknown types, times in
/// other units, octets that are not UTF-8.
fn bent() -> impl Strategy<Value = Vec<u8>> {
    let ends = ["\r\n", "\n", "\r\n\r\n", " \r\n", "\t\n", "\0\r\n", "\r\nY=unknown\r\n", " \u{e9}\r\n"];
    let ends = proptest::collection::vec(prop::sample::select(ends.to_vec()), 40);
    (canonical(), ends, any::<bool>()).prop_map(|(text, ends, cut)| {
        let lines = text.replace("r=7d 1h 0 25h", "r=604800 3600 0 90000");
        let mut bent = Vec::new();
        for (line, end) in lines.lines().zip(ends.iter().cycle()) {
            // What follows a value of an attribute may be anything; elsewhere it has to be blank.
            let end = if line.starts_with("a=") || !end.starts_with(" \u{e9}") { *end } else { "\r\n" };
            bent.extend_from_slice(line.as_bytes());
            bent.extend(end.chars().map(|c| c as u8));
        }
        bent.truncate(bent.len() - usize::from(cut));
        bent
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_read_is_printed_as_it_was(text in bent()) {
        let description = Description::parse(&text).unwrap();
        prop_assert_eq!(&*description.to_bytes(), text.as_slice());
        prop_assert_eq!(description.to_string(), String::from_utf8_lossy(&text));
    }

    /// A change prints the values, all lines of the RFC among them, and nothing else changes.
    #[test]
    fn what_is_changed_is_printed_with_all_that_was_not(text in canonical(), version in any::<u64>()) {
        let mut description = Description::parse(text.as_bytes()).unwrap();
        let before = std::mem::replace(&mut description.model_mut().origin.sess_version, version);
        let line = |version: u64| format!(" {version} IN IP4 198.51.100.1\r\n");
        prop_assert_eq!(description.to_string(), text.replacen(&line(before), &line(version), 1));
    }

    /// Whatever two sides can do: if the callee answers, both come to the same; and so after holds from either side.
    #[test]
    fn two_sides_agree_through_a_call((caller, callee) in two_sides(), acts in proptest::collection::vec((any::<bool>(), 0usize..4), 0..6)) {
        let sent = offer(&caller);
        let Ok(mut there) = answer(sent.as_bytes(), &callee) else { return Ok(()) };
        mirrors(sent.as_bytes(), &there.local());
        let mut here = accept_answer(&caller, &sent, there.local().as_bytes()).unwrap();
        are_two_sides(&here.negotiated, &there.negotiated);
        let mut meanings = std::collections::HashMap::new();
        for (by_caller, direction) in acts {
            let direction = DIRECTIONS[direction];
            let turned = |side: &Capabilities| Capabilities { direction, ..side.clone() };
            let (near, far, near_means, far_means) =
                if by_caller { (&mut here, &mut there, &caller, &callee) } else { (&mut there, &mut here, &callee, &caller) };
            let again = near.reoffer(&turned(near_means));
            for (payload, meaning) in maps(&again) {
                prop_assert_eq!(meanings.entry(payload).or_insert_with(|| meaning.clone()), &meaning);
            }
            let (next_far, seen) = far.answer(again.as_bytes(), far_means).unwrap();
            let (next_near, change) = near.accept_answer(&turned(near_means), &again, next_far.local().as_bytes()).unwrap();
            are_two_sides(&next_near.negotiated, &next_far.negotiated);
            prop_assert_eq!(seen.direction, change.direction);
            prop_assert!(!seen.keys && !change.keys, "{again}");
            (*near, *far) = (next_near, next_far);
        }
    }

    #[test]
    fn any_offer_is_answered_line_by_line(text in strange_offer()) {
        common::sdp(text.as_bytes());
    }

    #[test]
    fn no_octets_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        common::sdp(&bytes);
    }

    /// Mutations of good offers reach deeper than noise.
    #[test]
    fn no_mutation_panics_and_every_answer_can_be_read(
        secure in any::<bool>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let ours = if secure { wide(SecurityPolicy::Optional, 9) } else { narrow() };
        let mut bytes = offer(&ours).into_bytes();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 200);
        common::sdp(&bytes);
    }
}

/// Payload types and what they are mapped to.
fn maps(sdp: &str) -> impl Iterator<Item = (String, String)> {
    let maps = sdp.lines().filter_map(|line| line.strip_prefix("a=rtpmap:")?.split_once(' '));
    maps.map(|(payload, encoding)| (payload.to_owned(), encoding.to_ascii_lowercase()))
}

/// The seeds of the fuzz target hold too.
#[test]
fn the_corpus_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/sdp");
    let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(seeds.len() >= 12, "{}", seeds.len());
    seeds.iter().for_each(|seed| common::sdp(&std::fs::read(seed).unwrap()));
}
