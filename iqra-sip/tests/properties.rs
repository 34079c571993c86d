//! What holds for any message that is built, any that is bent, any octets at all, and any steps of two engines.

mod common;
#[path = "common/entry.rs"]
mod entry;
#[path = "common/steps.rs"]
mod steps;
#[cfg(feature = "fuzzing")]
#[path = "common/surfaces.rs"]
mod surfaces;

use bytes::Bytes;
use common::options;
use iqra_sip::{HeaderName, Message, Method, Request, Response, StatusCode, Uri};
use proptest::prelude::*;

const INVITE: &str = "INVITE sip:+15550199@voice.example;transport=udp?Subject=x%20y SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKa1;rport, SIP/2.0/TCP [2001:db8::7];received=2001:db8::8\r\n\
    Max-Forwards : 70\r\n\
    f: \"An \\\"odd\\\" name\" <sip:+15550100@pbx.example;user=phone>;tag=ab\r\n\
    To: sip:+15550199@voice.example\r\n\
    i: c1@pbx\r\nCSeq: 7 INVITE\r\n\
    Route: <sip:a.example;lr>, <sip:b.example;lr>\r\nRecord-Route: <sip:c.example;lr>\r\n\
    m: \"x, y\" <sip:1@[2001:db8::1]:5070;a=b>;q=0.5;expires=60\r\n\
    Allow: INVITE, ACK\r\nk: timer, 100rel\r\nRequire: a\r\nx: 1800;refresher=uac\r\nExpires: 300\r\n\
    Reason: Q.850;cause=16;text=\"done, well\"\r\nWarning: 399 h \"w, \\\"v\\\"\"\r\nRetry-After: 9 (soon)\r\n\
    Diversion: <tel:+15550101>;reason=user-busy\r\nHistory-Info: <sip:a@h?Reason=SIP%3Bcause%3D302>;index=1\r\n\
    User-to-User: \"00fe\";encoding=hex\r\nAccept: application/sdp;level=1, */*\r\nPrivacy: id;header\r\n\
    Alert-Info: <urn:alert:tone:x>\r\nIn-Reply-To: a@b, c@d\r\nContent-Disposition: session;handling=optional\r\n\
    Identity: a.b.c;info=<https://c.example/x>;alg=ES256;ppt=shaken\r\nu: refer, presence\r\nTimestamp: 54.5 0.1\r\n\
    Subject: folded\r\n  twice\r\n\tover\r\nc: application/sdp;x=\"y\"\r\nl: 9\r\n\r\nv=0\r\ns=-\r\n";

/// Words that mean something to the parser, to bend messages with.
const WORDS: [&[u8]; 28] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b"\r\n ",
    b";",
    b",",
    b"<",
    b">",
    b"\"",
    b"\\",
    b"=",
    b":",
    b"@",
    b"%",
    b"%00",
    b"[",
    b"]",
    b"l: 4\r\n",
    b"Content-Length : 1\r\n",
    b"18446744073709551615",
    b"SIP/2.0",
    b"\xff",
    b"?",
    b"tag=",
    b"*",
];

/// Bends `seed` a few times, by positions and words that follow from `rng`.
fn bend(seed: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut octets = seed.to_vec();
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(0..octets.len().max(1)).min(octets.len());
        let end = (at + rng.usize(0..12)).min(octets.len());
        match rng.u8(0..5) {
            0 => drop(octets.splice(at..at, WORDS[rng.usize(0..WORDS.len())].iter().copied())),
            1 => drop(octets.splice(at..end, WORDS[rng.usize(0..WORDS.len())].iter().copied())),
            2 => drop(octets.drain(at..end)),
            3 => octets.get_mut(at).into_iter().for_each(|b| *b = rng.u8(..)),
            _ => octets.extend_from_within(at..),
        }
    }
    octets
}

#[test]
fn ten_thousand_bent_messages_break_nothing() {
    let mut rng = fastrand::Rng::with_seed(0x1417);
    let mut accepted = 0;
    for _ in 0..5_000 {
        for seed in [INVITE, options()] {
            let bent = bend(seed.as_bytes(), &mut rng);
            accepted += usize::from(entry::message(&bent));
            entry::glance(&bent);
            entry::stream_framing(&[&[rng.u8(..)], &bent[..], options().as_bytes()].concat());
        }
    }
    assert!((1_000..9_000).contains(&accepted), "{accepted} accepted: the bending is too hard or too soft");
}

#[test]
fn ten_thousand_bent_uris_break_nothing() {
    let mut rng = fastrand::Rng::with_seed(0x1418);
    let seeds = [
        "sip:a%20b:pw@h.example:5060;lr;x=y?s=t&u=v",
        "tel:+1555;phone-context=x",
        "sips:[2001:db8::1]:1",
        "urn:a:b",
    ];
    for _ in 0..2_500 {
        seeds.iter().for_each(|seed| entry::uri(&bend(seed.as_bytes(), &mut rng)));
    }
}

/// A request whose To and User-Agents are what the guard looks at, to bend.
const GLANCED: &str = "\r\nBYE sip:a@h.example SIP/2.0\r\nv: SIP/2.0/UDP h.example;branch=z9hG4bK1\r\n\
    User-Agent: one\r\n two\r\nf: <sip:a@h.example>;tag=1\r\nTo : \"a;tag=\\\"\" <sip:b;tag=1@h.example;tag=2>\r\n\
    ;x=\";tag=3\";\r\n\ttag\r\n =4\r\nUser-agent:\r\n three\r\ni: c\r\nCSeq: 1 BYE\r\n\r\n";

#[test]
fn ten_thousand_bent_heads_look_to_the_guard_as_they_do_to_the_parser() {
    let mut rng = fastrand::Rng::with_seed(0x1419);
    let seeds = [
        GLANCED.to_owned(),
        GLANCED.replace(";x=\";tag=3\";\r\n\ttag\r\n =4", ""),
        GLANCED.replace("\"a;tag=\\\"\" <sip:b;tag=1@h.example;tag=2>\r\n", "sip:b@h.example"),
    ];
    for seed in &seeds {
        entry::glance(seed.as_bytes());
        (0..3_334).for_each(|_| entry::glance(&bend(seed.as_bytes(), &mut rng)));
    }
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9.!%*_+`'~-]{1,12}"
}

/// Header values without line breaks, which `push` would replace.
fn value() -> impl Strategy<Value = String> {
    "[^\\r\\n\\x00]{0,40}"
}

fn uri() -> impl Strategy<Value = Uri> {
    (any::<Option<String>>(), "[a-z][a-z0-9.-]{0,20}", any::<Option<u16>>(), value()).prop_map(
        |(user, host, port, param)| Uri::sip(user.as_deref(), host, port).with_param("x", Some(&param)),
    )
}

fn request() -> impl Strategy<Value = Request> {
    let headers = proptest::collection::vec((token(), value()), 0..8);
    (token(), uri(), headers, any::<Vec<u8>>()).prop_map(|(method, uri, headers, body)| {
        let mut request = Request::new(Method::new(method).expect("a token"), uri);
        request.headers.push(HeaderName::VIA, "SIP/2.0/UDP h.example;branch=z9hG4bK1");
        request.headers.push(HeaderName::FROM, "<sip:a@h.example>;tag=1");
        request.headers.push(HeaderName::TO, format!("<{}>", request.uri));
        request.headers.push(HeaderName::CALL_ID, "c");
        request.headers.push(HeaderName::CSEQ, format!("1 {}", request.method));
        headers.into_iter().for_each(|(name, value)| request.headers.push(&*format!("X-{name}"), value));
        request.body = Bytes::from(body);
        request
    })
}

proptest! {
    #[test]
    fn a_built_request_reads_back_as_itself(request in request()) {
        let again = Message::parse(request.to_bytes());
        prop_assert_eq!(again.unwrap(), Message::Request(request));
    }

    #[test]
    fn a_header_that_is_set_changes_itself_alone(at in 0usize..7, value in value()) {
        const NAMES: [&str; 7] = ["Subject", "Organization", "X-New", "Server", "Warning", "k", "Diversion"];
        let Message::Request(mut request) = common::message(INVITE) else { panic!("is a request") };
        let others = |text: &[u8]| -> Vec<String> {
            let Ok(Message::Request(request)) = Message::parse(Bytes::copy_from_slice(text)) else { return Vec::new() };
            let name = HeaderName::from(NAMES[at]);
            request.headers.iter().filter(|(found, _)| *found != name).map(|(n, v)| format!("{n}: {v}")).collect()
        };
        request.headers.set(NAMES[at], value);
        let printed = request.to_bytes();
        prop_assert!(!others(&printed).is_empty());
        prop_assert_eq!(others(&printed), others(INVITE.as_bytes()));
        // The lines before the one that was set stand as they came.
        let head = INVITE.split("Reason:").next().unwrap();
        prop_assert!(NAMES[at] == "k" || printed.starts_with(head.as_bytes()));
    }

    #[test]
    fn a_built_response_reads_back_as_itself(request in request(), code in 100u16..700, reason in value()) {
        let mut response = Response::to_request(&request, StatusCode::new(code).unwrap());
        response.reason = reason.into();
        let again = Message::parse(response.to_bytes());
        prop_assert_eq!(again.unwrap(), Message::Response(response));
    }

    #[test]
    fn a_value_never_begins_a_header_of_its_own(value in any::<String>()) {
        let Message::Request(mut request) = common::message(options()) else { panic!("is a request") };
        request.headers.push("X-Any", value);
        let Message::Request(again) = Message::parse(request.to_bytes()).unwrap() else { panic!("is a request") };
        prop_assert_eq!(again.headers.len(), request.headers.len());
    }

    #[test]
    fn any_octets_are_read_without_a_panic(data in any::<Vec<u8>>()) {
        entry::message(&data);
        entry::glance(&data);
        entry::stream_framing(&data);
        entry::uri(&data);
        entry::digest(&data);
    }
}

/// A challenge and credentials in one, to bend.
const DIGEST: &str = "Digest realm=\"a, \\\"b\", nonce=\"c/=\", opaque=\"\", algorithm=SHA-256, qop=\"auth,auth-int\", \
    stale=TRUE, userhash=false, username=\"u\", uri=\"sip:x;y=z\", response=\"0f\", cnonce=d, nc=0000000a";

#[test]
fn ten_thousand_bent_challenges_break_nothing() {
    let mut rng = fastrand::Rng::with_seed(12);
    for _ in 0..10_000 {
        entry::digest(&bend(DIGEST.as_bytes(), &mut rng));
    }
}

/// Whether this many drawn sequences of steps end as they should, and the seed of the first that does not.
fn play_steps(seeds: u64, play: impl Fn(&[u8])) -> Result<(), u64> {
    for seed in 0..seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let octets: Vec<u8> = (0..random.usize(20..400)).map(|_| random.u8(..)).collect();
        let play = std::panic::AssertUnwindSafe(|| play(&octets));
        std::panic::catch_unwind(play).map_err(|_| seed)?;
    }
    Ok(())
}

#[test]
fn two_engines_come_to_rest_whatever_the_steps() {
    assert_eq!(play_steps(3_000, |octets| steps::play(octets, |_| {})), Ok(()), "the first seed that fails");
}

#[test]
fn a_proxy_behind_a_guard_comes_to_rest_whatever_the_steps() {
    assert_eq!(
        play_steps(2_000, |octets| steps::play_relayed(octets, |_| {})),
        Ok(()),
        "the first seed that fails"
    );
}

#[cfg(feature = "faults")]
#[test]
fn steps_find_what_is_left_behind() {
    use iqra_sip::fault::Fault;
    for fault in [Fault::InviteNeverTimesOut, Fault::CancelLost] {
        assert!(
            play_steps(100, |octets| steps::play(octets, |engine| engine.plant(fault))).is_err(),
            "{fault:?} is not found"
        );
    }
}

/// What takes octets, and the octets that are bent.
#[cfg(feature = "fuzzing")]
type Surface = (fn(&[u8]), &'static [u8]);

/// Reads of a surface, and what it is to be bent from.
#[cfg(feature = "fuzzing")]
const SURFACES: [Surface; 7] = [
    (surfaces::hep, b"HEP3\0\x11\0\0\0\x01\0\x07\x02\0\0\0\x02"),
    (surfaces::dns, b"\x02\0\x0a\x01\0\0\x02\x0c\x3c\x04\x01\x0c\x3c\x02\x02\x01\x0c\x3c"),
    (
        surfaces::bodies,
        b"Signal=5\r\nDuration=160\r\n--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b--SIP/2.0 200 OK",
    ),
    (surfaces::capsule, b"iqra-capsule 1\nincarnation 0\nlisten UDP 10.0.0.1:5060 10.0.0.1:5060\n"),
    (surfaces::redaction, b"v: x\r\n\r\na=crypto:1 X inline:Y\r\nk=clear:z\r\nSignal=5\r\n"),
    (surfaces::stun, b"\0\x06\0\x03abc\0\x80\x22\0\0"),
    (surfaces::route, b"\x01aaaaaa\x03UDP\x04\x0a\0\0\x01\x13\xc4"),
];

#[cfg(feature = "fuzzing")]
#[test]
fn no_octets_break_a_smaller_surface() {
    let mut rng = fastrand::Rng::with_seed(0x1419);
    for (read, seed) in SURFACES {
        read(seed);
        for _ in 0..2_000 {
            read(&bend(seed, &mut rng));
            let any: Vec<u8> = (0..rng.usize(0..120)).map(|_| rng.u8(..)).collect();
            read(&any);
        }
    }
}
