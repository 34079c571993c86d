//! The wallet: counts of nonces, what is forgotten, refusals and how long they hold.

use super::*;

fn challenged(realm: &str, nonce: &str) -> Response {
    let mut response = Response::new(StatusCode::UNAUTHORIZED);
    let value = format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", qop=\"auth\"");
    response.headers.push(HeaderName::WWW_AUTHENTICATE, value);
    response
}

fn request() -> Request {
    Request::new(Method::Invite, "sip:b@h.example".parse().unwrap())
}

fn hop(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 5060))
}

const BOUNDS: Bounds = Bounds { most: 8, rest: Duration::from_secs(30) };

fn learn(wallet: &mut Wallet, request: &Request, response: &Response, ring: &Keyring) -> Learned {
    wallet.learn(Instant::now(), hop(1), (request, false), response, ring, BOUNDS)
}

fn sent(wallet: &mut Wallet, ring: &Keyring) -> Vec<String> {
    let mut request = request();
    wallet.authorize(hop(1), &mut request, ring, || "c".into());
    let sent = request.headers.typed_all::<Authorization>().flatten();
    sent.map(|sent| format!("{} {}", sent.0.nonce, sent.0.nc.unwrap_or(0))).collect()
}

#[test]
fn a_known_nonce_is_used_with_rising_counts_towards_its_own_hop_and_user_only() {
    let (mut wallet, ring) = (Wallet::default(), Keyring::from(Credentials::new("a", "p")));
    learn(&mut wallet, &request(), &challenged("r", "n1"), &ring);
    assert_eq!(sent(&mut wallet, &ring), ["n1 1"]);
    assert_eq!(sent(&mut wallet, &ring), ["n1 2"]);
    assert!(sent(&mut wallet, &Credentials::new("b", "p").into()).is_empty());
    let mut elsewhere = request();
    wallet.authorize(hop(2), &mut elsewhere, &ring, || "c".into());
    assert!(!elsewhere.headers.contains(HeaderName::AUTHORIZATION));
    let mut register = Request::new(Method::Register, "sip:h.example".parse().unwrap());
    wallet.authorize(hop(1), &mut register, &ring, || "c".into());
    assert!(!register.headers.contains(HeaderName::AUTHORIZATION), "a registrar is asked for itself");
}

#[test]
fn what_was_made_for_one_hop_or_counted_once_never_goes_out_again() {
    let (mut wallet, ring) = (Wallet::default(), Keyring::from(Credentials::new("a", "p")));
    learn(&mut wallet, &request(), &challenged("r", "n1"), &ring);
    let mut moving = request();
    wallet.authorize(hop(1), &mut moving, &ring, || "c".into());
    assert!(moving.headers.contains(HeaderName::AUTHORIZATION));
    wallet.authorize(hop(2), &mut moving, &ring, || "c".into());
    assert!(!moving.headers.contains(HeaderName::AUTHORIZATION), "another hop has not given that nonce");
    wallet.authorize(hop(1), &mut moving, &ring, || "c".into());
    Wallet::default().authorize(hop(1), &mut moving, &ring, || "c".into());
    assert!(
        !moving.headers.contains(HeaderName::AUTHORIZATION),
        "nor is a forgotten nonce's count told twice"
    );
}

#[test]
fn the_longest_unused_nonce_is_forgotten_first() {
    let (mut wallet, ring) = (Wallet::default(), Keyring::from(Credentials::new("a", "p")));
    for (at, realm) in ["r1", "r2", "r3"].into_iter().enumerate() {
        let challenge = challenged(realm, &format!("n{at}"));
        let two = Bounds { most: 2, ..BOUNDS };
        wallet.learn(Instant::now(), hop(1), (&request(), false), &challenge, &ring, two);
    }
    assert_eq!(wallet.len(), 2);
    assert_eq!(sent(&mut wallet, &ring), ["n1 1", "n2 1"]);
}

#[test]
fn the_strongest_algorithm_of_a_realm_is_answered() {
    let ring = Keyring::from(Credentials::new("a", "p"));
    let mut response = challenged("r", "md5");
    for (algorithm, nonce) in [("SHA-256", "sha"), ("SHA-512-256", "best"), ("SHA3-512", "unknown")] {
        let value = format!("Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\", algorithm={algorithm}");
        response.headers.push(HeaderName::WWW_AUTHENTICATE, value);
    }
    let found = strongest(&response, &ring);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1.nonce, "best");
}

/// A wallet that has met a challenge with `n1`, and the request that used it for the `uses`th time.
fn used(ring: &Keyring, uses: u8) -> (Wallet, Request) {
    let mut wallet = Wallet::default();
    assert_eq!(learn(&mut wallet, &request(), &challenged("r", "n1"), ring), Learned::Fresh);
    let mut last = request();
    for _ in 0..uses {
        last = request();
        wallet.authorize(hop(1), &mut last, ring, || "c".into());
    }
    (wallet, last)
}

#[test]
fn a_refusal_is_told_from_a_nonce_that_ran_out() {
    let ring = Keyring::from(Credentials::new("a", "p"));
    for (uses, nonce, learned) in [
        (1, "n2", Learned::Nothing), // Refused at its first use.
        (2, "n1", Learned::Nothing), // The same nonce again.
        (2, "n3", Learned::Fresh),   // An older one may have run out.
    ] {
        let (mut wallet, request) = used(&ring, uses);
        assert_eq!(learn(&mut wallet, &request, &challenged("r", nonce), &ring), learned, "{uses} {nonce}");
    }
}

#[test]
fn refused_credentials_rest_and_others_do_not() {
    let (ring, other) = (Credentials::new("a", "wrong").into(), Credentials::new("a", "right").into());
    let (mut wallet, first) = used(&ring, 1);
    let start = Instant::now();
    let at = |wallet: &mut Wallet, after: u64, nonce: &str, request: &Request, ring: &Keyring| {
        let now = start + Duration::from_secs(after);
        wallet.learn(now, hop(1), (request, false), &challenged("r", nonce), ring, BOUNDS)
    };
    assert_eq!(at(&mut wallet, 0, "n2", &first, &ring), Learned::Nothing);
    assert!(sent(&mut wallet, &ring).is_empty(), "nobody brings them unasked");
    assert_eq!(at(&mut wallet, 29, "n3", &request(), &ring), Learned::Nothing);
    assert_eq!(at(&mut wallet, 30, "n4", &request(), &ring), Learned::Fresh);
    assert_eq!(at(&mut wallet, 30, "n5", &request(), &ring), Learned::Nothing, "one tries");
    assert_eq!(sent(&mut wallet, &ring), ["n4 1"]);
    assert!(sent(&mut wallet, &ring).is_empty());
    assert_eq!(at(&mut wallet, 31, "n6", &request(), &other), Learned::Fresh);
    assert_eq!(sent(&mut wallet, &other), ["n6 1"]);
}

#[test]
fn credentials_that_are_taken_again_rest_no_more() {
    let ring = Keyring::from(Credentials::new("a", "p"));
    let (mut wallet, first) = used(&ring, 1);
    assert!(!wallet.has_doubts());
    learn(&mut wallet, &first, &challenged("r", "n2"), &ring);
    assert!(wallet.has_doubts());
    wallet.note_accepted(hop(1), &first, &Credentials::new("a", "other").into());
    assert!(wallet.has_doubts(), "others");
    wallet.note_accepted(hop(1), &first, &ring);
    assert!(!wallet.has_doubts());
    assert_eq!(sent(&mut wallet, &ring), ["n2 1"]);
}

#[test]
fn the_next_nonce_of_an_answer_is_taken() {
    let (mut wallet, ring) = (Wallet::default(), Keyring::from(Credentials::new("a", "p")));
    learn(&mut wallet, &request(), &challenged("r", "n1"), &ring);
    let mut used = request();
    wallet.authorize(hop(1), &mut used, &ring, || "c".into());
    let mut response = Response::new(StatusCode::OK);
    response.headers.push(HeaderName::AUTHENTICATION_INFO, "nextnonce=\"n2\"");
    wallet.note_success(hop(1), &used, &response);
    assert_eq!(sent(&mut wallet, &ring), ["n2 1"]);
}

#[test]
fn a_session_keeps_the_cnonce_that_it_began_with() {
    let (mut wallet, ring) = (Wallet::default(), Keyring::from(Credentials::new("a", "p")));
    let mut response = Response::new(StatusCode::UNAUTHORIZED);
    let asked = "Digest realm=\"r\", nonce=\"n1\", qop=\"auth\", algorithm=MD5-sess";
    response.headers.push(HeaderName::WWW_AUTHENTICATE, asked);
    learn(&mut wallet, &request(), &response, &ring);
    let mut drawn = 0;
    // By the formulas of RFC 7616 §3.4, computed apart.
    for (nc, digest) in [
        (1, "6402727b496f2f1ae2cc2a320ab73197"),
        (2, "62a8acc4fca9c9a5f8f777a2316a31aa"),
        (3, "e8d31c38aae655d4bbf789ba30f8bbdf"),
    ] {
        let mut request = request();
        wallet.authorize(hop(1), &mut request, &ring, || {
            drawn += 1;
            format!("c{drawn}")
        });
        let sent = request.headers.typed::<Authorization>().unwrap().0;
        assert_eq!((sent.nc, sent.cnonce.unwrap()), (Some(nc), Text::from("c1")));
        assert_eq!(sent.response, *digest);
    }
    let mut used = request();
    wallet.authorize(hop(1), &mut used, &ring, || "c".into());
    let mut ok = Response::new(StatusCode::OK);
    ok.headers.push(HeaderName::AUTHENTICATION_INFO, "nextnonce=\"n2\"");
    wallet.note_success(hop(1), &used, &ok);
    assert_eq!(sent(&mut wallet, &ring), ["n1 5"], "its A1 is of the first nonce");
}

#[test]
fn credentials_for_another_realm_that_the_program_gave_stay() {
    let (mut wallet, ring) = (Wallet::default(), Keyring::from(Credentials::new("a", "p")));
    learn(&mut wallet, &request(), &challenged("r", "n1"), &ring);
    let mut own = request();
    let value = "Digest username=\"x\", realm=\"mine\", nonce=\"m\", uri=\"sip:h\", response=\"0\"";
    own.headers.push(HeaderName::AUTHORIZATION, value);
    wallet.authorize(hop(1), &mut own, &ring, || "c".into());
    wallet.authorize(hop(1), &mut own, &ring, || "c".into());
    let realms: Vec<_> =
        own.headers.typed_all::<Authorization>().flatten().map(|sent| sent.0.realm.to_string()).collect();
    assert_eq!(realms, ["mine", "r"]);
}
