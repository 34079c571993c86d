//! Calls that are redirected: the Contacts of 3xx followed in their order and within limits (RFC 3261 §8.1.3.4), and
//! refusals that say what to change (§8.1.3.5).

use std::sync::Arc;

use iqra_sip::event::{Body, CallOptions, Event, OutgoingInvite, Reply};
use iqra_sip::message::NameAddr;
use iqra_sip::roles::uac::{Hosts, Outcome, Pursuit, Redirects};
use iqra_sip::{HeaderName, Headers, Request, Response, StatusCode, Uri};

use crate::auth::{Guard, alice};
use crate::network::{CALLEE, CALLER, Network};

fn uri(text: &str) -> Uri {
    text.parse().unwrap()
}

fn invite(to: &str) -> OutgoingInvite {
    OutgoingInvite {
        uri: uri(to),
        hops: Vec::new(),
        from: NameAddr::new(uri("sip:alice@voice.example")).with_tag("f"),
        to: NameAddr::new(uri(to)),
        call_id: Some("c".into()),
        cseq: 1,
        headers: Headers::new(),
        body: None,
        options: CallOptions::default(),
    }
}

fn response(invite: &OutgoingInvite, status: StatusCode, headers: &[(HeaderName, &str)]) -> Outcome {
    let mut request = Request::new(iqra_sip::Method::Invite, invite.uri.clone());
    request.headers.push(HeaderName::CSEQ, format!("{} INVITE", invite.cseq));
    let mut response = Response::to_request(&request, status);
    headers.iter().for_each(|(name, value)| response.headers.push(name, *value));
    Outcome::Refused(Arc::new(response))
}

fn moved(invite: &OutgoingInvite, contacts: &str) -> Outcome {
    response(invite, StatusCode::MOVED_TEMPORARILY, &[(HeaderName::CONTACT, contacts)])
}

fn busy(invite: &OutgoingInvite) -> Outcome {
    response(invite, StatusCode::BUSY_HERE, &[])
}

fn code(outcome: Option<Outcome>) -> u16 {
    match outcome {
        Some(Outcome::Refused(response)) => response.status.code(),
        Some(Outcome::Timeout) => 1,
        Some(Outcome::Unsent) => 2,
        None => 0,
    }
}

/// The places that are tried when each answers as `answer` says.
fn tried(redirects: Redirects, answer: impl Fn(&OutgoingInvite) -> Outcome) -> (Vec<String>, u16) {
    let mut now = invite("sip:b@start.example");
    let mut pursuit = Pursuit::new(now.clone(), redirects);
    let mut places = vec![now.uri.to_string()];
    while let Some(next) = pursuit.next(answer(&now)) {
        assert!(next.cseq > now.cseq);
        places.push(next.uri.to_string());
        now = next;
    }
    (places, code(pursuit.result()))
}

#[test]
fn contacts_are_tried_in_the_order_of_q_and_equals_as_they_stand() {
    let (places, end) = tried(Redirects::default(), |invite| match invite.uri.as_str() {
        "sip:b@start.example" => moved(
            invite,
            "<sip:low@x.example>;q=0.1, <sip:first@x.example>, <sip:second@x.example>, <sip:mid@x.example>;q=0.5",
        ),
        _ => busy(invite),
    });
    let users: Vec<_> = places.iter().map(|place| place.split(['@', ':']).nth(1).unwrap()).collect();
    assert_eq!((users, end), (vec!["b", "first", "second", "mid", "low"], 486));
}

#[test]
fn a_redirect_within_a_redirect_goes_first_and_depth_is_limited() {
    let (places, _) = tried(Redirects::default(), |invite| match invite.uri.as_str() {
        "sip:b@start.example" => moved(invite, "<sip:one@x.example>, <sip:two@x.example>"),
        "sip:one@x.example" => moved(invite, "<sip:inner@x.example>"),
        _ => busy(invite),
    });
    assert_eq!(places[1..], ["sip:one@x.example", "sip:inner@x.example", "sip:two@x.example"]);
    let endless = |invite: &OutgoingInvite| moved(invite, &format!("<sip:n{}@x.example>", invite.cseq));
    let (places, end) = tried(Redirects { depth: 3, ..Redirects::default() }, endless);
    assert_eq!((places.len(), end), (4, 302));
    let (places, _) = tried(Redirects { depth: 200, attempts: 7, ..Redirects::default() }, endless);
    assert_eq!(places.len(), 7);
    assert_eq!(tried(Redirects::none(), endless).0.len(), 1);
}

#[test]
fn loops_foreign_schemes_and_foreign_hosts_are_not_followed() {
    let contacts = "<sip:b@START.example>, <tel:+15550100>, <mailto:b@x.example>, <sip:b@x.example;method=BYE>, \
                    <sip:b@y.example>, <sip:d@start.example;maddr=z.example>, <sip:c@start.example>";
    let answer = |invite: &OutgoingInvite| moved(invite, contacts);
    let anywhere = ["sip:b@y.example", "sip:d@start.example;maddr=z.example", "sip:c@start.example"];
    assert_eq!(tried(Redirects::default(), answer).0[1..], anywhere);
    let only = |hosts| Redirects { hosts, ..Redirects::default() };
    assert_eq!(tried(only(Hosts::Same), answer).0[1..], ["sip:c@start.example"]);
    let listed = only(Hosts::Listed(vec!["Y.example".into()]));
    assert_eq!(tried(listed, answer).0.len(), 3);
    let secure = invite("sips:b@start.example");
    let mut pursuit = Pursuit::new(secure.clone(), Redirects::default());
    let next = pursuit.next(moved(&secure, "<sip:plain@x.example>, <sips:safe@x.example>")).unwrap();
    assert_eq!(next.uri, uri("sips:safe@x.example"), "a secure call stays secure");
}

#[test]
fn the_same_place_with_another_token_is_another_place() {
    let (places, _) = tried(Redirects::default(), |invite| match invite.uri.as_str() {
        "sip:b@start.example" => {
            moved(invite, "<sip:b@start.example;x-token=1>;q=0.9, <sip:b@start.example;x-token=2>")
        }
        _ => busy(invite),
    });
    assert_eq!(places[1..], ["sip:b@start.example;x-token=2", "sip:b@start.example;x-token=1"]);
}

#[test]
fn a_contact_is_called_as_its_user_part_spells_it() {
    for (contact, place) in [
        ("<sip:b?x@x.example;method=INVITE;p?Subject=hi>", "sip:b?x@x.example;p"),
        ("<sip:b;method=BYE@x.example>", "sip:b;method=BYE@x.example"),
    ] {
        let first = invite("sip:b@start.example");
        let next = Pursuit::new(first.clone(), Redirects::default()).next(moved(&first, contact)).unwrap();
        assert_eq!(next.uri.as_str(), place);
        assert_eq!(next.uri.host().unwrap().to_string(), "x.example");
    }
}

#[test]
fn harmless_uri_headers_are_taken_over_and_others_never() {
    let first = invite("sip:b@start.example");
    let mut pursuit = Pursuit::new(first.clone(), Redirects::default());
    let contact = "<sip:b@x.example;method=INVITE;x=y?X-Token=a%20b&Route=%3Csip:evil%3E&From=%3Csip:m%3E&Subject=hi&body=x>";
    let next = pursuit.next(moved(&first, contact)).unwrap();
    assert_eq!(next.uri.as_str(), "sip:b@x.example;x=y");
    let taken: Vec<_> = next.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(taken, ["X-Token: a b", "Subject: hi"]);
    let then = pursuit.next(busy(&next));
    assert!(then.is_none());
}

#[test]
fn a_6xx_ends_the_pursuit_and_silence_does_not() {
    let (places, end) = tried(Redirects::default(), |invite| match invite.uri.as_str() {
        "sip:b@start.example" => moved(invite, "<sip:1@x.example>, <sip:2@x.example>, <sip:3@x.example>"),
        "sip:1@x.example" => Outcome::Timeout,
        _ => response(invite, StatusCode::DECLINE, &[]),
    });
    assert_eq!((places.len(), end), (3, 603));
    let (places, end) = tried(Redirects::default(), |invite| match invite.uri.as_str() {
        "sip:b@start.example" => moved(invite, "<sip:1@x.example>, <sip:2@x.example>"),
        "sip:1@x.example" => response(invite, StatusCode::SERVICE_UNAVAILABLE, &[]),
        _ => Outcome::Timeout,
    });
    assert_eq!((places.len(), end), (3, 503), "an answer is told before silence");
}

#[test]
fn unsupported_extensions_are_left_out_once() {
    let mut first = invite("sip:b@start.example");
    first.headers.push(HeaderName::REQUIRE, "100rel, timer");
    let mut pursuit = Pursuit::new(first.clone(), Redirects::default());
    let refused = |invite: &OutgoingInvite| {
        response(invite, StatusCode::BAD_EXTENSION, &[(HeaderName::UNSUPPORTED, "100rel")])
    };
    let next = pursuit.next(refused(&first)).unwrap();
    assert_eq!(next.headers.get(HeaderName::REQUIRE).unwrap(), "timer");
    assert!(pursuit.next(refused(&next)).is_none());
    assert_eq!(code(pursuit.result()), 420);
}

#[test]
fn a_number_is_spelled_as_a_sip_uri_where_tel_is_unknown() {
    let mut first = invite("sip:ignored@start.example");
    first.uri = uri("tel:+1-555-0100");
    let mut pursuit = Pursuit::new(first.clone(), Redirects::default());
    let next = pursuit.next(response(&first, StatusCode::UNSUPPORTED_URI_SCHEME, &[])).unwrap();
    assert_eq!(next.uri.as_str(), "sip:+15550100@start.example;user=phone");
}

/// An offer of two kinds in one body, which may be refused for either's sake.
fn mixed() -> OutgoingInvite {
    let kind = "multipart/mixed;boundary=b".into();
    let mut first = invite("sip:b@start.example");
    first.body = Some(Body { content_type: kind, bytes: "--b\r\n\r\nv=0\r\n\r\n--b--".into() });
    first.headers.push(HeaderName::CONTENT_ENCODING, "gzip");
    first
}

#[test]
fn another_body_goes_out_where_its_type_is_taken_or_the_first_is_too_large() {
    let kinds = [Body { content_type: "text/plain".into(), bytes: "v".into() }, Body::sdp("v=0\r\n")];
    let pursuit = || Pursuit::new(mixed(), Redirects::default()).with_alternatives(kinds.to_vec());
    let accept = |kinds| vec![(HeaderName::ACCEPT, kinds)];
    let (media, large) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, StatusCode::REQUEST_ENTITY_TOO_LARGE);
    for (status, headers, sent) in [
        (media, accept("application/sdp"), Some("application/sdp")),
        (media, accept("text/*, application/sdp"), Some("text/plain")),
        (media, accept("application/cpim"), None),
        (media, vec![], Some("application/sdp")),
        (large, vec![], Some("text/plain")),
        (large, vec![(HeaderName::RETRY_AFTER, "60")], None),
    ] {
        let (mut pursuit, first) = (pursuit(), mixed());
        let next = pursuit.next(response(&first, status, &headers));
        let kind = next.as_ref().and_then(|next| next.body.as_ref()).map(|body| &*body.content_type);
        assert_eq!(kind, sent, "{status} {headers:?}");
        let Some(next) = next else { continue };
        assert!(!next.headers.contains(HeaderName::CONTENT_ENCODING) && next.cseq > first.cseq);
        assert_eq!((&next.uri, &next.call_id), (&first.uri, &first.call_id));
        assert!(pursuit.next(response(&next, status, &headers)).is_none(), "once");
        assert_eq!(code(pursuit.result()), status.code());
    }
}

#[test]
fn without_another_body_and_where_somebody_has_to_choose_the_program_hears_of_it() {
    for status in [
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        StatusCode::REQUEST_ENTITY_TOO_LARGE,
        StatusCode::AMBIGUOUS,
        StatusCode::SERVICE_UNAVAILABLE,
    ] {
        let first = mixed();
        let mut pursuit = Pursuit::new(first.clone(), Redirects::default());
        let headers = [(HeaderName::CONTACT, "<sip:lee@x.example>"), (HeaderName::RETRY_AFTER, "1")];
        assert!(pursuit.next(response(&first, status, &headers)).is_none(), "{status}");
        assert_eq!(code(pursuit.result()), status.code());
    }
}

#[test]
fn a_redirected_and_then_challenged_call_stays_one_call_on_the_wire() {
    let mut net = Network::calm();
    let mut guard = Guard::new(&net, |c| c.check_uri = false);
    let mut call = net.invite();
    (call.from, call.call_id) = (call.from.with_tag("f1"), Some("one-call".into()));
    let contact = format!("<sip:moved@{}>", net.nodes[CALLEE].addr);
    let mut pursuit = Pursuit::new(call.clone(), Redirects::default());
    let (engine, now) = net.engine(CALLER);
    engine.invite_with(now, call, alice()).unwrap();
    let mut answered = Vec::new();
    while answered.last() != Some(&486) {
        let Event::Invite { tx, request, .. } = net.event(CALLEE) else { panic!("no INVITE") };
        let reply = match (request.uri.user(), guard.check(net.now, &request)) {
            (Some("callee"), _) => {
                Reply::new(StatusCode::MOVED_TEMPORARILY).header(HeaderName::CONTACT, contact.clone())
            }
            (_, Err(denied)) => denied.reply,
            (_, Ok(())) => Reply::new(StatusCode::BUSY_HERE),
        };
        answered.push(reply.status.code());
        let (engine, now) = net.engine(CALLEE);
        engine.respond(now, tx, reply).unwrap();
        if answered.last() == Some(&302) {
            let Event::Response { response, .. } = net.event(CALLER) else { panic!("no 302") };
            let next = pursuit.next(Outcome::Refused(response)).unwrap();
            let (engine, now) = net.engine(CALLER);
            engine.invite_with(now, next, alice()).unwrap();
        }
    }
    let Event::Response { response, .. } = net.event(CALLER) else { panic!("no 486") };
    assert!(pursuit.next(Outcome::Refused(response)).is_none());
    net.settle();
    assert_eq!(answered, [302, 401, 486]);
    let sent: Vec<_> = net.sent.iter().filter(|(_, text)| text.starts_with("INVITE ")).collect();
    let line = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    for name in ["Call-ID:", "From:", "To:"] {
        assert!(sent.iter().all(|(_, text)| line(text, name) == line(&sent[0].1, name)), "{name}");
    }
    let numbers: Vec<_> = sent.iter().map(|(_, text)| line(text, "CSeq:")).collect();
    assert_eq!(numbers, ["CSeq: 1 INVITE", "CSeq: 2 INVITE", "CSeq: 3 INVITE"]);
    assert_eq!(code(pursuit.result()), 486);
}
