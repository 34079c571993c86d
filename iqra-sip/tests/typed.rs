//! Every typed header: a value that is read prints as an equal one, alone and in a message of many.

mod common;

use std::collections::BTreeSet;

use bytes::Bytes;
use common::options;
use iqra_sip::message::TypedHeader;
use iqra_sip::message::header::*;
use iqra_sip::{Headers, Message};
use proptest::prelude::*;

/// One value: that it reads, prints as what reads again, and that printing settles at once. Gives the name of the header.
fn round_trip<H: TypedHeader>(value: &str) -> String {
    let mut headers = Headers::new();
    headers.push(H::NAME, value);
    let first: H = headers.typed().unwrap_or_else(|error| panic!("{value}: {error}"));
    let mut printed = Headers::new();
    printed.push_typed(&first);
    let text = printed.get(H::NAME).expect("was printed").into_owned();
    let again: H = printed.typed().unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(again.to_string(), first.to_string(), "{value}");
    assert_eq!(again.to_string(), text, "{value}");
    H::NAME.to_string()
}

/// A value of each typed header, with what reads it.
type Row = (fn(&str) -> String, &'static str);

const ROWS: [Row; 69] = [
    (round_trip::<Accept>, "application/sdp;level=1, */*"),
    (round_trip::<AcceptEncoding>, "gzip;q=0.5, identity"),
    (round_trip::<AcceptLanguage>, "da, en-gb;q=0.8"),
    (round_trip::<AlertInfo>, "<urn:alert:tone:x>;a=b"),
    (round_trip::<Allow>, "INVITE, ACK, NOVEL"),
    (round_trip::<AllowEvents>, "refer, presence"),
    (round_trip::<AssertedIdentity>, "\"Desk\" <sip:+15550100@h.example>, <tel:+15550100>"),
    (
        round_trip::<AuthenticationInfo>,
        "nextnonce=\"a/=\", qop=auth, rspauth=\"0f\", cnonce=\"c\", nc=00000001",
    ),
    (
        round_trip::<Authorization>,
        "Digest username=\"u\", realm=\"r, \\\"s\\\"\", nonce=\"n\", uri=\"sip:h;x=y\", response=\"0f\", qop=auth, \
         cnonce=\"c\", nc=0000000a, algorithm=SHA-256, opaque=\"\"",
    ),
    (round_trip::<CSeq>, "2147483647 NOVEL"),
    (round_trip::<CallId>, "c1@[2001:db8::1]"),
    (round_trip::<CallInfo>, "<https://h.example/x>;purpose=icon"),
    (round_trip::<Contact>, "\"x, y\" <sip:1@[2001:db8::1]:5070;a=b>;q=0.5;expires=60"),
    (round_trip::<Contact>, "*"),
    (round_trip::<ContentDisposition>, "session;handling=optional"),
    (round_trip::<ContentEncoding>, "gzip"),
    (round_trip::<ContentId>, "<a@h.example>"),
    (round_trip::<ContentLanguage>, "en, fr"),
    (round_trip::<ContentLength>, "65535"),
    (round_trip::<ContentType>, "multipart/mixed;boundary=\"a;b\""),
    (round_trip::<Date>, "Fri, 01 Jan 2027 10:00:00 GMT"),
    (round_trip::<Diversion>, "<tel:+15550101>;reason=user-busy;counter=2"),
    (round_trip::<ErrorInfo>, "<sip:sorry@h.example>"),
    (round_trip::<Event>, "refer;id=7"),
    (round_trip::<Expires>, "4294967295"),
    (round_trip::<From>, "\"An \\\"odd\\\" name\" <sip:+15550100@h.example;user=phone>;tag=ab"),
    (round_trip::<Geolocation>, "<cid:a@h.example>;inserted-by=x"),
    (round_trip::<HistoryInfo>, "<sip:a@h?Reason=SIP%3Bcause%3D302>;index=1, <sip:b@h>;index=1.1"),
    (round_trip::<Identity>, "a.b.c;info=<https://c.example/x>;alg=ES256;ppt=shaken"),
    (round_trip::<InReplyTo>, "a@b, c@d"),
    (round_trip::<MaxForwards>, "0070"),
    (round_trip::<MimeVersion>, "1.0"),
    (round_trip::<MinExpires>, "60"),
    (round_trip::<MinSe>, "90;origin=gateway"),
    (round_trip::<Organization>, "Example, \"quoted\""),
    (round_trip::<Path>, "<sip:p.example;lr;ob>"),
    (round_trip::<PreferredIdentity>, "<sip:a@h.example>"),
    (round_trip::<Priority>, "emergency"),
    (round_trip::<Privacy>, "id;header"),
    (
        round_trip::<ProxyAuthenticate>,
        "Digest realm=\"r\", nonce=\"n\", algorithm=MD5, qop=\"auth,auth-int\", stale=TRUE",
    ),
    (
        round_trip::<ProxyAuthorization>,
        "Digest username=\"u\", realm=\"r\", nonce=\"n\", uri=\"sip:h\", response=\"0f\"",
    ),
    (round_trip::<ProxyRequire>, "a, b"),
    (round_trip::<RAck>, "776656 1 INVITE"),
    (round_trip::<RSeq>, "988789"),
    (round_trip::<Reason>, "Q.850;cause=16;text=\"done, well\""),
    (round_trip::<RecordRoute>, "<sip:a.example;lr>, <sip:b.example;lr>"),
    (round_trip::<ReferSub>, "false;x=y"),
    (round_trip::<ReferTo>, "<sip:c@h.example?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc>"),
    (round_trip::<ReferredBy>, "<sip:r@h.example>;cid=\"x@h\""),
    (round_trip::<Replaces>, "a@h;to-tag=b;from-tag=c;early-only"),
    (round_trip::<ReplyTo>, "\"Desk\" <sip:d@h.example>"),
    (round_trip::<Require>, "100rel, timer"),
    (round_trip::<RetryAfter>, "18000 (soon \\( or later);duration=3600"),
    (round_trip::<Route>, "<sip:a.example;lr>;x=y"),
    (round_trip::<Server>, "Example/1.0 (x) y"),
    (round_trip::<ServiceRoute>, "<sip:s.example;lr>"),
    (round_trip::<SessionExpires>, "1800;refresher=uac"),
    (round_trip::<Subject>, "Lunch; at \"one\", or two"),
    (round_trip::<SubscriptionState>, "terminated;reason=noresource;retry-after=9"),
    (round_trip::<Supported>, "timer, 100rel"),
    (round_trip::<TargetDialog>, "a@h;local-tag=b;remote-tag=c"),
    (round_trip::<Timestamp>, "54.5 0.1"),
    (round_trip::<To>, "sip:+15550199@voice.example;tag=t"),
    (round_trip::<Unsupported>, "x"),
    (round_trip::<UserAgent>, "Phone/2 (build 3)"),
    (round_trip::<UserToUser>, "\"00fe\";encoding=hex"),
    (round_trip::<Via>, "SIP/2.0/TCP [2001:db8::7]:5061;received=2001:db8::8;branch=z9hG4bKx;rport"),
    (round_trip::<Warning>, "399 h.example \"w, \\\"v\\\"\""),
    (
        round_trip::<WwwAuthenticate>,
        "Digest realm=\"a, \\\"b\\\"\", nonce=\"c/=\", opaque=\"\", algorithm=SHA-512-256",
    ),
];

#[test]
fn each_typed_header_reads_back_as_it_was_printed() {
    let names: BTreeSet<String> = ROWS.iter().map(|(check, value)| check(value)).collect();
    assert_eq!(names.len(), ROWS.len() - 1, "each header has a row, Contact two");
}

proptest! {
    #[test]
    fn a_message_of_any_typed_headers_reads_back_as_itself(
        chosen in proptest::collection::vec(0..ROWS.len(), 0..24),
        body in any::<Vec<u8>>(),
    ) {
        /// Those that every message of the tests has already, once.
        const ONCE: [&str; 6] = ["From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length"];
        /// Those that may not stand twice.
        const SINGLE: [&str; 6] = ["Content-Type", "Event", "Expires", "RAck", "RSeq", "Session-Expires"];
        let Message::Request(mut request) = common::message(options()) else { panic!("is a request") };
        for (check, value) in chosen.into_iter().map(|row| ROWS[row]) {
            let name = check(value);
            let again = SINGLE.contains(&&*name) && request.headers.contains(&*name);
            if ONCE.contains(&&*name) || again || value == "*" {
                continue;
            }
            request.headers.push(&*name, value);
        }
        request.body = Bytes::from(body);
        let printed = request.to_bytes();
        let again = Message::parse(printed.clone()).unwrap();
        prop_assert_eq!(again.to_bytes(), printed);
        prop_assert_eq!(again, Message::Request(request));
    }
}
