//! What must hold for any octets at all. Run as property tests here and by the fuzz targets in `fuzz/`.
#![allow(dead_code)] // Each user runs some of it.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use iqra_sip::framing::{Frame, Framer};
use iqra_sip::guard::{Action, Guard, GuardConfig, Kind, Load, Part, Sender, Signature, Verdict};
use iqra_sip::message::TypedHeader;
use iqra_sip::message::header::*;
use iqra_sip::observe::DropReason;
use iqra_sip::{HeaderName, Headers, Message, Method, Uri};

/// A message that parses prints as an equal one, once printed it prints the same for ever, and no header panics. Says
/// whether it parsed.
pub(crate) fn message(data: &[u8]) -> bool {
    let Ok(message) = Message::parse(Bytes::copy_from_slice(data)) else { return false };
    read_all(message.headers());
    let printed = message.to_bytes();
    let again = Message::parse(printed.clone()).expect("what was printed parses");
    assert_eq!(again, message);
    assert_eq!(again.to_bytes(), printed);
    true
}

/// The guard's first look sees what the parser sees: what a message is, and each User-Agent in it.
pub(crate) fn glance(data: &[u8]) {
    let claimed = Kind::of(data);
    let Ok(message) = Message::parse(Bytes::copy_from_slice(data)) else { return };
    let tagged = message.headers().typed::<To>().is_ok_and(|to| to.tag().is_some());
    let kind = match &message {
        Message::Response(_) => Kind::Response,
        Message::Request(request) if tagged || matches!(request.method, Method::Ack | Method::Cancel) => {
            Kind::Within
        }
        Message::Request(_) => Kind::New,
    };
    assert_eq!(claimed, kind);
    for (name, value) in message.headers().iter() {
        let odd = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
        if kind == Kind::Response || name != HeaderName::USER_AGENT || value.is_empty() || value.contains(odd)
        {
            continue;
        }
        let signatures = vec![Signature::new(Part::UserAgent, &value, Action::Drop)];
        let mut guard = Guard::new(GuardConfig { signatures, overload: None, ..GuardConfig::default() });
        let sender = Sender { ip: [192, 0, 2, 1].into(), forgeable: true };
        let verdict = guard.judge(Instant::now(), sender, data, &Load::default());
        assert_eq!(verdict, Verdict::Drop(DropReason::Scanner), "{value:?}");
    }
}

/// However a stream is cut into reads, the same frames come out; and the parser sees each frame end where the
/// framer does.
pub(crate) fn stream_framing(data: &[u8]) {
    let Some((&step, stream)) = data.split_first() else { return };
    let (whole, cut) = (frames(stream, stream.len().max(1)), frames(stream, usize::from(step) + 1));
    for frame in messages(&whole.0) {
        let head = frame.windows(4).position(|four| four == b"\r\n\r\n").expect("a frame has a head") + 4;
        if let Ok(message) = Message::parse(frame.clone()) {
            assert_eq!(head + message.body().len(), frame.len(), "framer and parser disagree");
        }
    }
    // A ping cut in two comes as a pong and a ping, so only messages and errors are compared.
    assert_eq!((messages(&cut.0), cut.1), (messages(&whole.0), whole.1));
}

/// A URI that parses prints as it came, and takes a parameter of any value.
pub(crate) fn uri(data: &[u8]) {
    let Ok(uri) = Uri::parse(Bytes::copy_from_slice(data)) else { return };
    assert_eq!(uri.to_string().as_bytes(), data);
    let _ =
        (uri.scheme(), uri.user_decoded(), uri.host(), uri.port(), uri.socket_addr(5060), uri.header("x"));
    let count = uri.params().filter(|(name, _)| !name.eq_ignore_ascii_case("token")).count();
    let value = String::from_utf8_lossy(data);
    let with = uri.with_param("token", Some(&value));
    assert_eq!(with.param_decoded("Token").expect("was set"), value);
    assert_eq!(with.params().count(), count + 1);
}

/// A challenge or credentials that parse print as what reads back, and printing settles at once.
pub(crate) fn digest(data: &[u8]) {
    let mut headers = Headers::new();
    let text = String::from_utf8_lossy(data);
    headers.push(WwwAuthenticate::NAME, &*text);
    headers.push(Authorization::NAME, &*text);
    headers.push(AuthenticationInfo::NAME, &*text);
    settles::<WwwAuthenticate>(&headers);
    settles::<Authorization>(&headers);
    read::<AuthenticationInfo>(&headers);
}

fn settles<H: TypedHeader>(headers: &Headers) {
    for header in headers.typed_all::<H>().flatten() {
        let mut printed = Headers::new();
        printed.push_typed(&header);
        let again: H = printed.typed().expect("what was printed reads back");
        assert_eq!(again.to_string(), header.to_string());
    }
}

fn read_all(headers: &Headers) {
    read::<Via>(headers);
    read::<From>(headers);
    read::<To>(headers);
    read::<Contact>(headers);
    read::<Route>(headers);
    read::<RecordRoute>(headers);
    read::<CSeq>(headers);
    read::<CallId>(headers);
    read::<MaxForwards>(headers);
    read::<ContentLength>(headers);
    read::<ContentType>(headers);
    read::<Expires>(headers);
    read::<SessionExpires>(headers);
    read::<RetryAfter>(headers);
    read::<Reason>(headers);
    read::<Warning>(headers);
    read::<Allow>(headers);
    read::<Supported>(headers);
    read::<Require>(headers);
    read::<Accept>(headers);
    read::<AcceptEncoding>(headers);
    read::<AcceptLanguage>(headers);
    read::<AlertInfo>(headers);
    read::<AllowEvents>(headers);
    read::<AssertedIdentity>(headers);
    read::<Authorization>(headers);
    read::<CallInfo>(headers);
    read::<ContentDisposition>(headers);
    read::<ContentEncoding>(headers);
    read::<ContentId>(headers);
    read::<ContentLanguage>(headers);
    read::<Date>(headers);
    read::<Diversion>(headers);
    read::<ErrorInfo>(headers);
    read::<Event>(headers);
    read::<Geolocation>(headers);
    read::<HistoryInfo>(headers);
    read::<Identity>(headers);
    read::<InReplyTo>(headers);
    read::<MimeVersion>(headers);
    read::<MinExpires>(headers);
    read::<FlowTimer>(headers);
    read::<MinSe>(headers);
    read::<Organization>(headers);
    read::<Path>(headers);
    read::<PreferredIdentity>(headers);
    read::<Priority>(headers);
    read::<Privacy>(headers);
    read::<ProxyAuthenticate>(headers);
    read::<ProxyRequire>(headers);
    read::<ReferTo>(headers);
    read::<ReferredBy>(headers);
    read::<Replaces>(headers);
    read::<ReplyTo>(headers);
    read::<Server>(headers);
    read::<ServiceRoute>(headers);
    read::<Subject>(headers);
    read::<SubscriptionState>(headers);
    read::<Timestamp>(headers);
    read::<Unsupported>(headers);
    read::<UserAgent>(headers);
    read::<UserToUser>(headers);
    read::<WwwAuthenticate>(headers);
}

/// A value that reads prints as one that reads too, and that prints the same.
fn read<H: TypedHeader>(headers: &Headers) {
    for header in headers.typed_all::<H>().flatten() {
        let mut one = Headers::new();
        one.push_typed(&header);
        let again: H = one.typed().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(headers_text(&again), headers_text(&header));
    }
}

/// Folds read as spaces, and an escaped NUL is written as one.
fn headers_text(header: &impl TypedHeader) -> String {
    header.to_string().split(|char: char| char.is_whitespace() || char == '\0').collect()
}

fn frames(stream: &[u8], step: usize) -> (Vec<Frame>, bool) {
    let (mut framer, mut buffer, mut frames) = (Framer::default(), BytesMut::new(), Vec::new());
    for chunk in stream.chunks(step) {
        buffer.extend_from_slice(chunk);
        loop {
            match framer.next_frame(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fn messages(frames: &[Frame]) -> Vec<Bytes> {
    frames
        .iter()
        .filter_map(|frame| if let Frame::Message(bytes) = frame { Some(bytes.clone()) } else { None })
        .collect()
}
