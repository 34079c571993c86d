//! What a target hears of who the caller is: headers that a proxy takes off (RFC 3325).

use iqra_sip::event::{EngineError, Event};
use iqra_sip::roles::relay::Trusted;
use iqra_sip::{HeaderName, Request};

use super::*;

/// The INVITE of a caller with these headers, at A.
fn called_with(net: &mut Network, headers: &[(&str, &str)]) -> (ServerTx, std::sync::Arc<Request>) {
    let mut call = invite(net);
    headers.iter().for_each(|(name, value)| call.headers.push(*name, *value));
    let (engine, now) = net.engine(CALLER);
    engine.invite(now, call).unwrap();
    match net.event(A) {
        Event::Invite { tx, request, .. } => (tx, request),
        other => panic!("{other:?}"),
    }
}

/// A's INVITE to a target.
fn went(net: &mut Network, tx: ServerTx, target: Target) -> String {
    let (engine, now) = net.engine(A);
    engine.relay(now, tx, Plan::new([target])).unwrap();
    invited(net, ONE);
    first(net, A, "INVITE")
}

#[test]
fn a_target_does_not_get_what_is_taken_off() {
    let mut net = calm();
    let headers =
        [("Diversion", "<sip:a@b>"), ("Diversion", "<sip:c@d>"), ("X-Cost", "7"), ("Subject", "hello")];
    let (tx, _) = called_with(&mut net, &headers);
    let mut target = target(&net, ONE);
    target.without = vec![HeaderName::DIVERSION, "x-cost".into(), HeaderName::SUBJECT];
    target.headers.push(HeaderName::SUBJECT, "ours");
    let went = went(&mut net, tx, target);
    assert!(header(&went, "Diversion").is_empty() && header(&went, "X-Cost").is_empty(), "{went}");
    assert_eq!(header(&went, "Subject"), ["ours"]);
    net.run(Duration::from_secs(1));
}

#[test]
fn what_a_request_cannot_be_without_stays() {
    let kept = ["Via", "f", "To", "Call-ID", "CSeq", "Max-Forwards"];
    for name in kept {
        let mut net = calm();
        let (tx, _) = called_with(&mut net, &[]);
        let bare = Target { without: vec![name.into()], ..target(&net, ONE) };
        let whole = target(&net, TWO);
        let (engine, now) = net.engine(A);
        let refused = engine.relay(now, tx, Plan::new([whole.clone(), bare.clone()]));
        assert!(matches!(refused, Err(EngineError::Misuse(_))), "{name}");
        engine.relay(now, tx, Plan::new([whole])).unwrap();
        assert!(matches!(engine.relay_to(now, tx, &bare), Err(EngineError::Misuse(_))), "{name}");
        invited(&mut net, TWO);
    }
}

/// RFC 3325 §5 to §7: who trusts whom, what Privacy says, and whether the proxy has an identity of its own to tell.
#[test]
fn an_identity_goes_from_and_to_those_who_are_trusted() {
    const CLAIMED: &str = "<sip:ceo@bank.example>";
    const OURS: &str = "<sip:alice@example.org>";
    let cases = [
        // caller, target, Privacy, we know better, what goes
        (true, true, None, false, Some(CLAIMED)),
        (true, true, Some("id"), false, Some(CLAIMED)),
        (true, false, None, false, Some(CLAIMED)),
        (true, false, Some("none"), false, Some(CLAIMED)),
        (true, false, Some("user;id"), false, None),
        (false, true, None, false, None),
        (false, true, Some("id"), true, Some(OURS)),
        (false, false, None, true, Some(OURS)),
        (false, false, Some("id"), true, None),
    ];
    for (caller, trusted, privacy, known, goes) in cases {
        let mut net = calm();
        let mut headers = vec![("P-Asserted-Identity", CLAIMED), ("P-Preferred-Identity", CLAIMED)];
        headers.extend(privacy.map(|wish| ("Privacy", wish)));
        let (tx, request) = called_with(&mut net, &headers);
        let mut target = target(&net, ONE);
        if known {
            target.headers.push(HeaderName::P_ASSERTED_IDENTITY, OURS);
        }
        let guarded = target.guarding_identity(&request.headers, Trusted { caller, target: trusted });
        let went = went(&mut net, tx, guarded);
        let case = format!("{caller} {trusted} {privacy:?} {known}");
        assert_eq!(header(&went, "P-Asserted-Identity"), goes.as_slice(), "{case}");
        assert!(header(&went, "P-Preferred-Identity").is_empty(), "{case}");
        assert_eq!(header(&went, "Privacy"), privacy.as_slice(), "{case}");
    }
}
