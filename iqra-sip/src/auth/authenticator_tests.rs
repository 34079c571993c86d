//! Challenges made, answers judged, nonces that age, replays: the authenticator against our own client.

use std::cell::Cell;
use std::time::UNIX_EPOCH;

use super::*;
use crate::auth::Keyring;
use crate::auth::credentials::{Credentials, usable};
use crate::message::HeaderName;

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn accounts(username: &str, realm: &str) -> Option<Secret> {
    (username == "alice" && realm == "voice.example").then(|| Secret::password("opensesame"))
}

fn authenticator(change: impl FnOnce(&mut AuthenticatorConfig)) -> Authenticator {
    let mut config = AuthenticatorConfig::new("voice.example");
    change(&mut config);
    Authenticator::new(config, [3; 32])
}

fn request() -> Request {
    let mut request = Request::new(Method::Invite, "sip:bob@voice.example".parse().unwrap());
    request.body = bytes::Bytes::from_static(b"v=0\r\n");
    request
}

/// The challenge for one algorithm in a reply.
fn challenge(reply: &Reply, algorithm: Algorithm) -> Challenge {
    let mut all = reply.headers.typed_all::<WwwAuthenticate>().flatten().map(|header| header.0);
    all.find(|c| Algorithm::named(c.algorithm.as_ref().map(Text::to_str).as_deref()) == Some(algorithm))
        .unwrap()
}

fn answered(challenge: &Challenge, credentials: &Credentials, nc: u32) -> Request {
    let mut request = request();
    let answer = credentials.answer(challenge, usable(challenge).unwrap(), ("c0ffee", nc), &request);
    request.headers.push_typed(&Authorization(answer));
    request
}

fn alice() -> Credentials {
    Credentials::new("alice", "opensesame")
}

#[test]
fn a_clock_that_is_set_back_lets_no_replay_in_and_keeps_nobody_out() {
    let mut auth = authenticator(|_| {});
    let asked = |auth: &mut Authenticator, at| {
        let denied = auth.check(at, &request(), &accounts).unwrap_err();
        challenge(&denied.reply, Algorithm::Sha256)
    };
    let first = answered(&asked(&mut auth, start()), &alice(), 1);
    assert!(auth.check(start(), &first, &accounts).is_ok());
    let later = start() + Duration::from_secs(301);
    let second = asked(&mut auth, later);
    assert!(auth.check(later, &answered(&second, &alice(), 1), &accounts).is_ok(), "the first is forgotten");
    assert_eq!(reason(auth.check(start(), &first, &accounts)), Reason::Stale, "and not let in again");
    let third = asked(&mut auth, start() - Duration::from_secs(3_600));
    let after = |seconds: u64| start() - Duration::from_secs(3_600 - seconds);
    assert!(auth.check(after(299), &answered(&third, &alice(), 1), &accounts).is_ok());
    assert_eq!(reason(auth.check(after(302), &answered(&third, &alice(), 2), &accounts)), Reason::Stale);
}

fn reason(result: Result<Identity, Box<Denied>>) -> Reason {
    result.unwrap_err().reason
}

#[test]
fn every_algorithm_and_quality_lets_the_right_password_in_and_no_other() {
    for algorithm in [
        Algorithm::Md5,
        Algorithm::Md5Sess,
        Algorithm::Sha256,
        Algorithm::Sha256Sess,
        Algorithm::Sha512Trunc,
        Algorithm::Sha512TruncSess,
    ] {
        for qop in [Qop::Auth, Qop::AuthInt] {
            let mut auth = authenticator(|c| (c.algorithms, c.qop) = (vec![algorithm], vec![qop]));
            let denied = auth.check(start(), &request(), &accounts).unwrap_err();
            assert_eq!((denied.reason, denied.reply.status.code()), (Reason::Missing, 401));
            let asked = challenge(&denied.reply, algorithm);
            assert!(!asked.stale);
            let wrong = answered(&asked, &Credentials::new("alice", "open"), 1);
            assert_eq!(reason(auth.check(start(), &wrong, &accounts)), Reason::Wrong);
            let right = answered(&asked, &alice(), 1);
            assert_eq!(auth.check(start(), &right, &accounts).unwrap().username(), "alice");
        }
    }
}

#[test]
fn auth_int_notices_another_body() {
    let mut auth = authenticator(|c| c.qop = vec![Qop::AuthInt]);
    let asked = challenge(&auth.check(start(), &request(), &accounts).unwrap_err().reply, Algorithm::Sha256);
    let mut bent = answered(&asked, &alice(), 1);
    bent.body = bytes::Bytes::from_static(b"v=1\r\n");
    assert_eq!(reason(auth.check(start(), &bent, &accounts)), Reason::Wrong);
}

#[test]
fn challenges_are_offered_best_first_and_as_a_proxy_by_407() {
    let mut auth = authenticator(|c| c.role = Role::Proxy);
    let reply = auth.check(start(), &request(), &accounts).unwrap_err().reply;
    assert_eq!(reply.status, StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    let lines: Vec<_> = reply.headers.all(HeaderName::PROXY_AUTHENTICATE).collect();
    assert!(lines[0].contains("algorithm=SHA-256") && lines[1].contains("algorithm=MD5"), "{lines:?}");
}

#[test]
fn a_stored_ha1_serves_its_own_algorithm_only() {
    let stored = |_: &str, realm: &str| {
        let ha1 = Algorithm::Md5.ha1("alice", realm, "opensesame");
        Some(Secret::Ha1(Algorithm::Md5, ha1))
    };
    let mut auth = authenticator(|_| {});
    let reply = auth.check(start(), &request(), &stored).unwrap_err().reply;
    let md5 = answered(&challenge(&reply, Algorithm::Md5), &alice(), 1);
    let sha = answered(&challenge(&reply, Algorithm::Sha256), &alice(), 1);
    assert!(auth.check(start(), &md5, &stored).is_ok());
    assert_eq!(reason(auth.check(start(), &sha, &stored)), Reason::Wrong);
}

#[test]
fn a_replay_is_refused_and_a_higher_count_is_not() {
    let mut auth = authenticator(|_| {});
    let asked = challenge(&auth.check(start(), &request(), &accounts).unwrap_err().reply, Algorithm::Sha256);
    let [first, second] = [1, 2].map(|nc| answered(&asked, &alice(), nc));
    assert!(auth.check(start(), &first, &accounts).is_ok());
    let denied = auth.check(start(), &first, &accounts).unwrap_err();
    assert_eq!(denied.reason, Reason::Replayed);
    assert!(challenge(&denied.reply, Algorithm::Sha256).stale, "the client may ask again with a fresh nonce");
    assert!(auth.check(start(), &second, &accounts).is_ok());
}

#[test]
fn an_old_or_foreign_nonce_is_stale_only_with_the_right_password() {
    let mut auth = authenticator(|_| {});
    let asked = challenge(&auth.check(start(), &request(), &accounts).unwrap_err().reply, Algorithm::Sha256);
    let later = start() + Duration::from_secs(301);
    let denied = auth.check(later, &answered(&asked, &alice(), 1), &accounts).unwrap_err();
    assert_eq!(denied.reason, Reason::Stale);
    assert!(challenge(&denied.reply, Algorithm::Sha256).stale);
    let wrong = answered(&asked, &Credentials::new("alice", "x"), 1);
    let denied = auth.check(later, &wrong, &accounts).unwrap_err();
    assert_eq!(denied.reason, Reason::Wrong);
    assert!(!challenge(&denied.reply, Algorithm::Sha256).stale);
    let mut foreign = asked.clone();
    foreign.nonce = Text::from_static("1234");
    assert_eq!(reason(auth.check(start(), &answered(&foreign, &alice(), 1), &accounts)), Reason::Stale);
}

#[test]
fn an_unknown_user_is_looked_up_and_answered_like_a_known_one() {
    let asked_for = Cell::new(0);
    let counting = |username: &str, realm: &str| {
        asked_for.set(asked_for.get() + 1);
        accounts(username, realm)
    };
    let mut auth = authenticator(|_| {});
    let asked = challenge(&auth.check(start(), &request(), &counting).unwrap_err().reply, Algorithm::Sha256);
    let answers = ["alice", "mallory"].map(|user| {
        let request = answered(&asked, &Credentials::new(user, "guess"), 1);
        let denied = auth.check(start(), &request, &counting).unwrap_err();
        let mut shape = challenge(&denied.reply, Algorithm::Sha256);
        shape.nonce = Text::default();
        (denied.reason, denied.reply.status, denied.reply.headers.len(), shape)
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(asked_for.get(), 2);
}

#[test]
fn credentials_without_qop_serve_once_or_not_at_all() {
    let mut auth = authenticator(|c| c.algorithms = vec![Algorithm::Md5]);
    let mut asked = challenge(&auth.check(start(), &request(), &accounts).unwrap_err().reply, Algorithm::Md5);
    asked.qop = None;
    let old = answered(&asked, &alice(), 1);
    assert!(auth.check(start(), &old, &accounts).is_ok());
    assert_eq!(reason(auth.check(start(), &old, &accounts)), Reason::Replayed);
    let mut strict = authenticator(|c| {
        (c.algorithms, c.allow_without_qop) = (vec![Algorithm::Md5], false);
    });
    assert_eq!(reason(strict.check(start(), &old, &accounts)), Reason::Unusable);
}

#[test]
fn credentials_for_another_target_or_realm_do_not_serve() {
    let mut auth = authenticator(|_| {});
    let asked = challenge(&auth.check(start(), &request(), &accounts).unwrap_err().reply, Algorithm::Sha256);
    let mut moved = answered(&asked, &alice(), 1);
    moved.uri = "sip:carol@voice.example".parse().unwrap();
    let denied = auth.check(start(), &moved, &accounts).unwrap_err();
    assert_eq!((denied.reason, denied.reply.status.code()), (Reason::OtherUri, 400));
    moved.uri = "sip:bob@VOICE.example:5070;transport=tcp".parse().unwrap();
    assert!(auth.check(start(), &moved, &accounts).is_ok(), "ports and parameters change on the way");
    let mut other = asked;
    other.realm = Text::from_static("other.example");
    assert_eq!(reason(auth.check(start(), &answered(&other, &alice(), 1), &accounts)), Reason::Missing);
}

#[test]
fn an_algorithm_that_was_not_offered_is_not_taken() {
    let mut auth = authenticator(|c| c.algorithms = vec![Algorithm::Sha256]);
    let mut asked =
        challenge(&auth.check(start(), &request(), &accounts).unwrap_err().reply, Algorithm::Sha256);
    asked.algorithm = Some(Text::from_static("MD5"));
    assert_eq!(reason(auth.check(start(), &answered(&asked, &alice(), 1), &accounts)), Reason::Unusable);
}

/// An account store with an index of hashes.
struct Hashed;

impl Accounts for Hashed {
    fn secret(&self, username: &str, realm: &str) -> Option<Secret> {
        accounts(username, realm)
    }

    fn by_hash(&self, algorithm: Algorithm, hash: &str, realm: &str) -> Option<(String, Secret)> {
        let known = algorithm.userhash("alice", realm);
        (hash == known).then(|| (String::from("alice"), Secret::password("opensesame")))
    }
}

#[test]
fn a_user_is_found_by_the_hash_of_its_name_where_that_is_offered() {
    let mut auth = authenticator(|c| c.userhash = true);
    let reply = auth.check(start(), &request(), &Hashed).unwrap_err().reply;
    for (algorithm, nc) in [(Algorithm::Sha256, 1), (Algorithm::Md5, 1)] {
        let asked = challenge(&reply, algorithm);
        assert!(asked.userhash);
        let hidden = answered(&asked, &alice(), nc);
        let text = hidden.headers.get(HeaderName::AUTHORIZATION).unwrap();
        assert!(!text.contains("alice") && text.contains("userhash=true"), "{text}");
        let hash = algorithm.userhash("alice", "voice.example");
        assert_eq!(auth.claimed(&hidden), Some(Claim::Hash(algorithm, hash)));
        assert_eq!(
            reason(auth.check(start(), &hidden, &accounts)),
            Reason::Wrong,
            "a store without an index"
        );
        assert_eq!(auth.check(start(), &hidden, &Hashed).unwrap().username(), "alice");
        let stranger = answered(&asked, &Credentials::new("mallory", "opensesame"), 2);
        assert_eq!(reason(auth.check(start(), &stranger, &Hashed)), Reason::Wrong);
        let mut open = asked;
        open.userhash = false;
        assert_eq!(auth.check(start(), &answered(&open, &alice(), 3), &Hashed).unwrap().username(), "alice");
    }
}

#[test]
fn a_hash_that_was_not_asked_for_is_not_taken() {
    let mut auth = authenticator(|_| {});
    let mut asked =
        challenge(&auth.check(start(), &request(), &Hashed).unwrap_err().reply, Algorithm::Sha256);
    assert!(!asked.userhash);
    asked.userhash = true;
    assert_eq!(reason(auth.check(start(), &answered(&asked, &alice(), 1), &Hashed)), Reason::Unusable);
}

#[test]
fn an_answer_is_vouched_for_as_an_agent_and_with_a_quality_only() {
    let info = |change: fn(&mut AuthenticatorConfig), qop: bool| {
        let mut auth = authenticator(change);
        let reply = auth.check(start(), &request(), &accounts).unwrap_err().reply;
        let mut asked = match reply.headers.typed::<WwwAuthenticate>() {
            Ok(asked) => asked.0,
            Err(_) => reply.headers.typed::<ProxyAuthenticate>().unwrap().0,
        };
        if !qop {
            asked.qop = None;
        }
        let mut proving = answered(&asked, &alice(), 1);
        if reply.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            let own = proving.headers.typed::<Authorization>().unwrap().0;
            proving.headers.push_typed(&ProxyAuthorization(own));
        }
        let mut headers = Headers::new();
        auth.check(start(), &proving, &accounts).unwrap().vouch(&mut headers, None);
        headers.get(HeaderName::AUTHENTICATION_INFO).map(std::borrow::Cow::into_owned)
    };
    let vouched = info(|_| {}, true).unwrap();
    assert!(
        vouched.starts_with("qop=auth, rspauth=\"") && vouched.ends_with("cnonce=\"c0ffee\", nc=00000001")
    );
    assert_eq!(info(|_| {}, false), None, "RFC 2069 has no proof of the server");
    assert_eq!(info(|c| c.role = Role::Proxy, true), None);
}

#[test]
fn debug_and_the_claimed_user_keep_secrets() {
    let mut auth = authenticator(|_| {});
    let asked = challenge(&auth.check(start(), &request(), &accounts).unwrap_err().reply, Algorithm::Md5);
    let proving = answered(&asked, &alice(), 1);
    assert_eq!(auth.claimed(&proving), Some(Claim::User("alice".into())));
    assert_eq!(format!("{:?}", auth.claimed(&proving)), "Some(User(***))");
    assert_eq!(format!("{:?}", auth.check(start(), &proving, &accounts).unwrap()), "Identity(***)");
    assert_eq!(format!("{auth:?}"), "Authenticator(voice.example)");
    assert!(!format!("{:?}", Secret::password("opensesame")).contains("sesame"));
    assert!(!format!("{:?}", Keyring::from(alice())).contains("alice"));
}

/// Counts 1 to 3 with a client's nonce each, `one`, `two`, `three`, and their digests: of an A1 made once of `one`, and of
/// an A1 made each time of the request's own. Computed apart, from the formulas of RFC 7616 §3.4.
const SESSION: [(&str, u32, &str, &str); 3] = [
    ("one", 1, "7ae9c0c7b7579d7fb83ad56aed05e191", "7ae9c0c7b7579d7fb83ad56aed05e191"),
    ("two", 2, "d2706059dbd35ec5466d0aa8761e0130", "d07d40074773705626e7ff9da15b5d6f"),
    ("three", 3, "0bbd662e2aec029a586245efb091ebd8", "08cb9c0bd5fecd00fece3fe27e70c03c"),
];

/// The nonce that the first challenge of [`start`] has under the key of [`authenticator`].
const FIRST_NONCE: &str = "000001a3185c500000000000000000018031882f903749f5feaf69a7a824452a";

/// The proofs of the answers to them, where A1 is made once.
const RSPAUTH: [&str; 3] = [
    "fdae621d82e2c76e884184fe5b2d9118",
    "9c3377b55f395356ba039d71d1846dea",
    "cdd2801b18d529548254ac2bcf93bef0",
];

#[test]
fn a_session_goes_on_with_the_cnonce_that_it_began_with_or_with_each_requests_own() {
    for reading in [0, 1] {
        let mut auth = authenticator(|c| c.algorithms = vec![Algorithm::Md5Sess]);
        let asked =
            challenge(&auth.check(start(), &request(), &accounts).unwrap_err().reply, Algorithm::Md5Sess);
        assert_eq!(asked.nonce, *FIRST_NONCE);
        for (cnonce, nc, once, each) in SESSION {
            let answer = alice().answer(&asked, usable(&asked).unwrap(), (cnonce, nc), &request());
            let response = Text::from([once, each][reading]);
            let mut sent = request();
            sent.headers.push_typed(&Authorization(DigestResponse { response, ..answer.clone() }));
            assert_eq!(auth.check(start(), &sent, &accounts).unwrap().username(), "alice", "{reading} {nc}");
            assert_eq!(reason(auth.check(start(), &sent, &accounts)), Reason::Replayed);
            let mut bent = request();
            let response = Text::from(once.replacen(['0', '7', 'd'], "1", 1));
            bent.headers.push_typed(&Authorization(DigestResponse { response, ..answer }));
            assert_eq!(reason(auth.check(start(), &bent, &accounts)), Reason::Wrong);
        }
    }
}

#[test]
fn an_answer_in_a_session_is_vouched_for_with_the_a1_that_the_request_had() {
    let mut auth = authenticator(|c| c.algorithms = vec![Algorithm::Md5Sess]);
    let asked = challenge(&auth.check(start(), &request(), &accounts).unwrap_err().reply, Algorithm::Md5Sess);
    let proofs: Vec<_> = SESSION
        .map(|(cnonce, nc, once, _)| {
            let answer = alice().answer(&asked, usable(&asked).unwrap(), (cnonce, nc), &request());
            let mut sent = request();
            sent.headers.push_typed(&Authorization(DigestResponse { response: once.into(), ..answer }));
            let mut headers = Headers::new();
            auth.check(start(), &sent, &accounts).unwrap().vouch(&mut headers, None);
            headers.get("Authentication-Info").unwrap().into_owned()
        })
        .into();
    for (proof, digest) in proofs.iter().zip(RSPAUTH) {
        assert!(proof.contains(digest), "{proof}");
    }
}
