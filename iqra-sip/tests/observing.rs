//! The table of drop reasons in the documentation is the one in the code, and what may not be seen is seen nowhere.
#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::fmt::Debug;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use iqra_sip::message::header::{Authorization, Contact, ContentType, From, ReferTo, To, TypedHeader};
use iqra_sip::message::multipart::parts;
use iqra_sip::observe::capsule::CapsuleConfig;
use iqra_sip::observe::hep::HepPacket;
use iqra_sip::observe::ladder::{Style, draw};
use iqra_sip::observe::{Direction, DropReason, DropRow, Observed, TraceRecord, redact};
use iqra_sip::{Engine, EngineConfig, Flow, Listener, Message, Request, Transport};
use proptest::prelude::*;

#[test]
fn the_documentation_lists_every_drop_reason_in_order() {
    let page = include_str!("../../docs/observing.md");
    let documented: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let rows = DropReason::ALL.map(|reason| {
        let DropRow { label, help } = reason.row();
        format!("| `{label}` | {help} |")
    });
    assert_eq!(documented, rows);
}

/// What a message hides. Nothing shows the first four; `Debug` and ladders do not show the number either.
#[derive(Debug, Clone)]
struct Planted {
    password: String,
    digest: String,
    keys: String,
    crypto: String,
    /// As it is written, with visual separators.
    number: String,
}

fn planted() -> impl Strategy<Value = Planted> {
    let number = "[+]?[1-9][0-9]([-.]?[0-9]{2}){3,5}";
    ("[A-Za-z][A-Za-z0-9]{9}", "[0-9a-f]{32}", "[0-9]{7,9}#", "[A-Za-z0-9+/]{40}", number).prop_map(
        |(password, digest, keys, crypto, number)| Planted { password, digest, keys, crypto, number },
    )
}

/// Content-Type and body.
fn body(kind: usize, Planted { keys, crypto, .. }: &Planted) -> (&'static str, String) {
    let relay = format!("Signal={keys}\r\nDuration=160\r\n");
    let session =
        format!("v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{crypto}\r\nk=base64:{crypto}\r\n");
    match kind {
        0 => ("application/dtmf-relay", relay),
        1 => ("application/dtmf", keys.clone()),
        2 => ("Application /\r\n\tDTMF-Relay", relay),
        3 => ("application/sdp", session),
        _ => (
            "multipart/mixed;\r\n boundary=b1",
            format!(
                "--b1\r\nContent-Type: application/sdp\r\n\r\n{session}--b1\r\nContent-Type:\r\n application/dtmf-relay\r\n\
                 Content-ID: <k>\r\n\r\n{relay}\r\n--b1--\r\n"
            ),
        ),
    }
}

fn message(method: &str, kind: usize, planted: &Planted) -> Bytes {
    let (content_type, body) = body(kind, planted);
    let Planted { password, digest, number, .. } = planted;
    format!(
        "{method} sip:{number}:{password}@192.0.2.1 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bKa\r\nMax-Forwards: 70\r\n\
         From: \"{number}\" <sip:{number}:{password}@h>;tag=1\r\nTo: <tel:{number}>\r\nCall-ID: c1\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:{number}:{password}@198.51.100.7;access_token={password}>\r\n\
         Refer-To: <sips:{number}:{password}@h>\r\n\
         Authorization : Digest username=\"{number}\",\r\n response=\"{digest}\"\r\n\
         X-Api-Token: {password}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into()
}

fn flow() -> Flow {
    let [local, remote] = ["192.0.2.1:5060", "198.51.100.7:5060"].map(|addr| addr.parse().unwrap());
    Flow { transport: Transport::Udp, local, remote, connection: None }
}

fn shown<H: TypedHeader + Debug>(request: &Request) -> String {
    format!("{:?}", request.headers.typed::<H>())
}

/// All that an engine shows of a message: its events, its answers, its capsule.
fn shown_by_engine(message: &Bytes) -> String {
    let mut engine = Engine::new(EngineConfig::default(), 1);
    engine.add_listener(Listener::new(Transport::Udp, flow().local, None));
    engine.keep_capsules(CapsuleConfig::default());
    engine.handle_message(Instant::now(), &flow(), message.clone());
    let mut shown = String::new();
    while let Some(event) = engine.poll_event() {
        shown += &format!("{event:?}");
    }
    while let Some(transmit) = engine.poll_transmit() {
        shown += &format!("{transmit:?}");
    }
    assert!(!shown.is_empty());
    let capsule = engine.capsule("c1").expect("is kept");
    let text = capsule.to_string();
    let masked = capsule.clone().mask_numbers().to_string();
    assert!(text.contains("sip:"));
    shown + &format!("{capsule:?}") + &masked
}

fn shown_by_types(message: &Bytes) -> String {
    let Ok(Message::Request(request)) = Message::parse(message.clone()) else { panic!("is a request") };
    let content: ContentType = request.headers.typed().unwrap();
    format!("{request:?} {:?} {:?}", request.uri, parts(&content, &request.body))
        + &shown::<To>(&request)
        + &shown::<From>(&request)
        + &shown::<Contact>(&request)
        + &shown::<ReferTo>(&request)
        + &shown::<Authorization>(&request)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_may_not_be_seen_is_seen_nowhere(
        method in prop_oneof![Just("INFO"), Just("INVITE"), Just("REFER")],
        kind in 0usize..5,
        planted in planted(),
    ) {
        let message = message(method, kind, &planted);
        let clean = redact(&message);
        let text = String::from_utf8(clean.to_vec()).unwrap();
        prop_assert!(Message::parse(clean.clone()).is_ok() && redact(&clean) == clean, "{}", text);
        let record = |bytes: &Bytes| TraceRecord {
            at: SystemTime::UNIX_EPOCH,
            direction: Direction::In,
            flow: flow(),
            bytes: bytes.clone(),
        };
        let unredacted = record(&message);
        let hep = HepPacket::of(&unredacted, 1, None);
        let shown = format!("{unredacted:?} {:?} {hep:?} ", Observed::Message(unredacted.clone()))
            + &draw(&[unredacted], "c1", Style { width: 200, ..Style::default() })
            + &shown_by_types(&message)
            + &shown_by_engine(&message);
        let Planted { password, digest, keys, crypto, number } = &planted;
        for secret in [password, digest, crypto, keys] {
            prop_assert!(!text.contains(secret.as_str()), "redact leaves {}: {}", secret, text);
            prop_assert!(!shown.contains(secret.as_str()), "{} is shown: {}", secret, shown);
        }
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        for number in [number.trim_start_matches('+'), &digits] {
            prop_assert!(!shown.contains(&number[..number.len() - 2]), "{} is shown: {}", number, shown);
        }
    }
}
