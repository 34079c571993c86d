//! What must hold for any octets on the smaller surfaces: HEP3, DNS answers, bodies, capsules, redaction, STUN, Routes
//! of relays. Shared by the fuzz targets, which choose the octets, and by the property tests.
#![allow(dead_code)] // Each user runs some of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use iqra_sip::message::dtmf::KeyPress;
use iqra_sip::message::header::ContentType;
use iqra_sip::message::multipart;
use iqra_sip::observe::capsule::Capsule;
use iqra_sip::observe::hep::HepPacket;
use iqra_sip::observe::redact;
use iqra_sip::resolve::{Data, Means, Naptr, Record, Resolution, ResolveLimits, Srv, Target};
use iqra_sip::roles::relay::RelayKeys;
use iqra_sip::{EngineConfig, HeaderName, Headers, Transport, fuzzing};

/// A packet that reads is encoded as one that reads the same.
pub(crate) fn hep(data: &[u8]) {
    let Ok((packet, key)) = HepPacket::decode(data) else { return };
    let Some(again) = packet.encode(key.as_deref()) else { return };
    let (read, same_key) = HepPacket::decode(&again).expect("what was encoded decodes");
    assert_eq!((read, same_key), (packet, key));
}

/// Whatever the DNS says, a resolution ends, its work is bounded, and no hop comes twice.
pub(crate) fn dns(data: &[u8]) {
    let means = Means { transports: Transport::ALL.into(), v4: true, v6: true };
    let target = Target::of(&"sip:a.example".parse().expect("a URI")).expect("a target");
    let now = Instant::now();
    let mut resolution = Resolution::new(now, target, means, ResolveLimits::default(), 1);
    let (mut octets, mut asked) = (data.iter().copied(), 0);
    while let Some(question) = resolution.poll_question() {
        asked += 1;
        let most = octets.next().unwrap_or_default() % 8;
        let records = (0..most).map(|_| record(&mut octets, &question.name));
        resolution.handle_answer(&question, Ok(records.collect()));
    }
    resolution.handle_timeout(now + Duration::from_secs(600));
    assert!(asked < 1_000, "{asked} questions");
    let outcome = resolution.outcome().expect("the time is up");
    let mut hops = outcome.iter().flat_map(|found| &found.hops).collect::<Vec<_>>();
    let all = hops.len();
    hops.dedup();
    assert_eq!(hops.len(), all);
}

fn record(octets: &mut impl Iterator<Item = u8>, asked: &str) -> Record {
    const NAMES: [&str; 8] = [
        "a.example",
        "b.example",
        "_sip._udp.a.example",
        "_sips._tcp.a.example",
        "",
        ".",
        "c.example.",
        "\u{e9}",
    ];
    let mut next = || octets.next().unwrap_or_default();
    let name = |at: u8| NAMES.get(usize::from(at % 12)).copied().unwrap_or(asked).to_owned();
    let data = match next() % 5 {
        0 => Data::Naptr(Naptr {
            order: next().into(),
            preference: next().into(),
            flags: ["s", "S", "a", "u", ""][usize::from(next() % 5)].into(),
            service: ["SIP+D2U", "SIP+D2T", "SIPS+D2T", "sip+d2w", "x"][usize::from(next() % 5)].into(),
            regexp: String::new(),
            replacement: name(next()),
        }),
        1 => Data::Srv(Srv {
            priority: next().into(),
            weight: u16::from(next()) * 257,
            port: next().into(),
            target: name(next()),
        }),
        2 => Data::Address([10, 0, 0, next()].into()),
        3 => Data::Address([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(next())].into()),
        _ => Data::Alias(name(next())),
    };
    Record { name: name(next()), ttl: Duration::from_secs(next().into()), data }
}

/// Bodies: a key that reads is worded as one that reads, parts lie within the body, a status of a NOTIFY holds.
pub(crate) fn bodies(data: &[u8]) {
    for kind in ["application/dtmf-relay", "application/dtmf"] {
        let Ok(press) = KeyPress::read(&content(kind), data) else { continue };
        let relayed = press.relay_body();
        let again = KeyPress::read(&content(&relayed.content_type), &relayed.bytes).expect("it reads back");
        assert_eq!(again.key(), press.key());
    }
    let (split, text) = (data.len().min(12), String::from_utf8_lossy(data));
    let body = Bytes::copy_from_slice(&data[split..]);
    for boundary in ["b", text.get(..4).unwrap_or("--")] {
        let mut headers = Headers::new();
        headers.push(HeaderName::CONTENT_TYPE, format!("multipart/mixed;boundary=\"{boundary}\""));
        let Ok(kind) = headers.typed::<ContentType>() else { continue };
        let parts = multipart::parts(&kind, &body);
        assert!(parts.iter().map(|part| part.body.len()).sum::<usize>() <= body.len());
        let _ = multipart::find(&headers, &body, "application", "sdp");
    }
    fuzzing::sipfrag(data);
}

fn content(kind: &str) -> ContentType {
    let mut headers = Headers::new();
    headers.push(HeaderName::CONTENT_TYPE, kind);
    headers.typed().expect("a type")
}

/// A capsule that reads prints as one that reads the same, and its replay ends.
pub(crate) fn capsule(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(capsule) = Capsule::parse(&text) else { return };
    assert_eq!(Capsule::parse(&capsule.to_string()).expect("what was printed parses"), capsule);
    let _ = capsule.replay(&EngineConfig::default());
    let _ = capsule.mask_numbers().replay(&EngineConfig::default());
}

/// Whatever stands around them, secrets are gone, and what is redacted stays as it is.
pub(crate) fn redaction(data: &[u8]) {
    let any = Bytes::copy_from_slice(data);
    let once = redact(&any);
    assert_eq!(redact(&once), once, "redacted again it is another");
    let (head, body) = data.split_at(data.len() / 2);
    let head: Vec<u8> =
        head.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()).flatten().copied().collect();
    let secret = b"SHIBBOLETH";
    let message = [
        b"INVITE sip:a@b SIP/2.0\r\nX-Any: ",
        &head[..],
        b"\r\nAuthorization: Digest response=\"SHIBBOLETH\",\r\n cnonce=\"SHIBBOLETH\"\r\nSubject: x\r\n\r\n",
        body,
        b"\r\na=crypto:1 X inline:SHIBBOLETH\r\n",
    ];
    if data.windows(secret.len()).any(|window| window == secret) {
        return;
    }
    let clean = redact(&Bytes::from(message.concat()));
    assert!(
        !clean.windows(secret.len()).any(|window| window == secret),
        "{}",
        String::from_utf8_lossy(&clean)
    );
}

/// What shares the port with SIP.
pub(crate) fn stun(data: &[u8]) {
    fuzzing::stun(data);
    let with_head = [
        b"\0\x01",
        &u16::try_from(data.len()).unwrap_or_default().to_be_bytes()[..],
        b"\x21\x12\xa4\x42",
        b"twelve bytes",
        data,
    ];
    fuzzing::stun(&with_head.concat());
}

/// A Route of a relay, made up, or signed over any octets.
pub(crate) fn route(data: &[u8]) {
    let keys = RelayKeys::new([[9; 32]]).expect("a key");
    fuzzing::stamp(&String::from_utf8_lossy(data), &keys);
    let signed = fuzzing::signed(data, &keys);
    fuzzing::stamp(&signed, &keys);
}
