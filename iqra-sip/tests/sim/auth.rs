//! Requests that are challenged: calls and requests in them between our client and our authenticator, with losses and
//! with peers that misbehave (RFC 3261 §22, RFC 7616).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use iqra_sip::auth::{
    Algorithm, Authenticator, AuthenticatorConfig, Credentials, Denied, Identity, Keyring, Role, Secret,
};
use iqra_sip::event::{ClientTx, Event, Reply, ServerTx};
use iqra_sip::message::header::{Authorization, CSeq, ProxyAuthorization};
use iqra_sip::{DialogId, HeaderName, Headers, Method, Request, StatusCode};

use crate::network::{CALLEE, CALLER, Network};

pub(crate) fn alice() -> Keyring {
    Credentials::new("alice", "opensesame").into()
}

/// The callee's guard: virtual time, one authenticator.
pub(crate) struct Guard {
    auth: Authenticator,
    start: Instant,
    /// Whom it knows, all by one password.
    known: &'static str,
}

impl Guard {
    pub(crate) fn new(net: &Network, change: impl FnOnce(&mut AuthenticatorConfig)) -> Self {
        let mut config = AuthenticatorConfig::new("voice.example");
        change(&mut config);
        Self { auth: Authenticator::new(config, [9; 32]), start: net.now, known: "alice" }
    }

    fn wall(&self, now: Instant) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000) + (now - self.start)
    }

    pub(crate) fn check(&mut self, now: Instant, request: &Request) -> Result<(), Box<Denied>> {
        self.identify(now, request).map(drop)
    }

    pub(crate) fn identify(&mut self, now: Instant, request: &Request) -> Result<Identity, Box<Denied>> {
        let accounts =
            |username: &str, _: &str| (username == self.known).then(|| Secret::password("opensesame"));
        self.auth.check(self.wall(now), request, &accounts)
    }
}

fn place(net: &mut Network, credentials: Keyring) -> ClientTx {
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    engine.invite_with(now, call, credentials).unwrap()
}

fn next_invite(net: &mut Network) -> (ServerTx, std::sync::Arc<Request>) {
    match net.event(CALLEE) {
        Event::Invite { tx, request, .. } => (tx, request),
        other => panic!("{other:?}"),
    }
}

/// Answers INVITEs with challenges until one is let in; how many were refused.
fn let_in(net: &mut Network, guard: &mut Guard) -> (ServerTx, usize) {
    for refused in 0..10 {
        let (tx, request) = next_invite(net);
        match guard.check(net.now, &request) {
            Ok(()) => return (tx, refused),
            Err(denied) => respond(net, tx, denied.reply),
        }
    }
    panic!("never let in");
}

fn respond(net: &mut Network, tx: ServerTx, reply: Reply) {
    let (engine, now) = net.engine(CALLEE);
    engine.respond(now, tx, reply).unwrap();
}

fn connect(net: &mut Network, guard: &mut Guard) -> (DialogId, DialogId) {
    let ours = place(net, alice());
    let (tx, _) = let_in(net, guard);
    let (engine, now) = net.engine(CALLEE);
    let theirs = engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
    let Event::Answered { tx, dialog, .. } = net.event(CALLER) else { panic!("no answer") };
    assert_eq!(tx, ours, "the program sees one call");
    let Event::Confirmed { .. } = net.event(CALLEE) else { panic!("no ACK") };
    (dialog, theirs)
}

fn requests(net: &Network, method: &str) -> Vec<Request> {
    let sent = net.sent.iter().filter(|(from, text)| *from == CALLER && crate::network::is(text, method));
    sent.map(|(_, text)| match iqra_sip::Message::parse(text.clone().into()) {
        Ok(iqra_sip::Message::Request(request)) => request,
        other => panic!("{other:?}"),
    })
    .collect()
}

fn status(event: Event) -> StatusCode {
    let Event::Response { response, .. } = event else { panic!("{event:?}") };
    response.status
}

#[test]
fn a_challenged_call_is_repeated_with_credentials_in_the_same_call() {
    let mut net = Network::calm();
    let mut guard = Guard::new(&net, |_| {});
    let (dialog, _) = connect(&mut net, &mut guard);
    let invites = requests(&net, "INVITE");
    let [first, second] = [&invites[0], &invites[1]];
    for same in [HeaderName::CALL_ID, HeaderName::FROM, HeaderName::TO, HeaderName::CONTACT] {
        assert_eq!(first.headers.get(&same), second.headers.get(&same), "{same}");
    }
    assert_eq!((first.uri.clone(), first.body.clone()), (second.uri.clone(), second.body.clone()));
    let numbers = [first, second].map(|invite| invite.headers.typed::<CSeq>().unwrap().number);
    assert_eq!(numbers, [1, 2]);
    assert_ne!(first.headers.get(HeaderName::VIA), second.headers.get(HeaderName::VIA));
    let credentials: Authorization = second.headers.typed().unwrap();
    assert_eq!(credentials.0.algorithm.unwrap(), "SHA-256", "the strongest that was offered");
    let acks = requests(&net, "ACK");
    assert_eq!(
        acks.last().unwrap().headers.get(HeaderName::AUTHORIZATION),
        second.headers.get(HeaderName::AUTHORIZATION),
        "the ACK carries the INVITE's credentials (RFC 3261 §22.1)"
    );
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &dialog, Headers::new()).unwrap();
    assert!(matches!(net.event(CALLEE), Event::Ended { .. }));
    let bye: Authorization = requests(&net, "BYE")[0].headers.typed().unwrap();
    assert_eq!(bye.0.nc, Some(2), "the BYE brings them unasked, with the next count");
    net.settle();
}

#[test]
fn any_lost_message_of_a_challenged_call_is_repeated() {
    for (node, what, nth) in [
        (CALLER, "INVITE", 1),
        (CALLEE, "401", 1),
        (CALLER, "ACK", 1),
        (CALLER, "INVITE", 2),
        (CALLEE, "200", 1),
    ] {
        let mut net = Network::calm();
        let mut seen = 0;
        net.lose(move |from, text| {
            seen += usize::from(from == node && crate::network::is(text, what));
            from == node && crate::network::is(text, what) && seen == nth
        });
        let mut guard = Guard::new(&net, |_| {});
        let (ours, _) = connect(&mut net, &mut guard);
        let (engine, now) = net.engine(CALLER);
        engine.bye(now, &ours, Headers::new()).unwrap();
        assert!(matches!(net.event(CALLEE), Event::Ended { .. }), "{what}");
        net.settle();
        assert!(net.nodes.iter().all(|node| node.events.is_empty()), "{what}: nothing is told twice");
    }
}

#[test]
fn a_wrong_password_is_tried_once_and_the_refusal_is_told() {
    let mut net = Network::calm();
    let mut guard = Guard::new(&net, |_| {});
    place(&mut net, Credentials::new("alice", "wrong").into());
    for _ in 0..2 {
        let (tx, request) = next_invite(&mut net);
        let denied = guard.check(net.now, &request).unwrap_err();
        respond(&mut net, tx, denied.reply);
    }
    assert_eq!(status(net.event(CALLER)), StatusCode::UNAUTHORIZED);
    net.settle();
    assert_eq!(net.count(CALLER, "INVITE"), 2);
}

/// Answers every INVITE as the guard says, for this long.
fn guarded(net: &mut Network, guard: &mut Guard, seconds: u64) {
    let end = net.now + Duration::from_secs(seconds);
    while net.now < end {
        net.run(Duration::from_millis(100));
        for event in std::mem::take(&mut net.nodes[CALLEE].events) {
            let Event::Invite { tx, request, .. } = event else { continue };
            let checked = guard.check(net.now, &request);
            respond(
                net,
                tx,
                checked.map_or_else(|denied| denied.reply, |()| Reply::new(StatusCode::BUSY_HERE)),
            );
        }
    }
}

/// The INVITEs with credentials since the last time, and what the caller was told.
fn tried(net: &mut Network, before: &mut usize) -> (usize, Vec<u16>) {
    let all =
        requests(net, "INVITE").iter().filter(|one| one.headers.contains(HeaderName::AUTHORIZATION)).count();
    let told = std::mem::take(&mut net.nodes[CALLER].events).into_iter().map(|event| status(event).code());
    (all - std::mem::replace(before, all), told.collect())
}

#[test]
fn of_many_calls_with_a_wrong_password_each_tries_once_and_later_ones_do_not_until_it_has_rested() {
    let mut net = Network::calm();
    let (mut guard, mut before) = (Guard::new(&net, |_| {}), 0);
    let wrong = || Keyring::from(Credentials::new("alice", "wrong"));
    for _ in 0..8 {
        place(&mut net, wrong());
    }
    guarded(&mut net, &mut guard, 2);
    assert_eq!(tried(&mut net, &mut before), (8, vec![401; 8]), "all were challenged before one was refused");
    for _ in 0..20 {
        place(&mut net, wrong());
        guarded(&mut net, &mut guard, 1);
    }
    assert_eq!(tried(&mut net, &mut before), (0, vec![401; 20]), "told at once");
    place(&mut net, alice());
    guarded(&mut net, &mut guard, 1);
    assert_eq!(tried(&mut net, &mut before), (1, vec![486]), "another password is another matter");
}

#[test]
fn refused_credentials_are_tried_by_one_call_in_30_s_and_by_all_once_they_are_taken() {
    let mut net = Network::calm();
    let (mut guard, mut before) = (Guard::new(&net, |_| {}), 0);
    let bob = || Keyring::from(Credentials::new("bob", "opensesame"));
    for round in 0..3 {
        for _ in 0..3 {
            place(&mut net, bob());
            guarded(&mut net, &mut guard, 1);
        }
        assert_eq!(tried(&mut net, &mut before), (1, vec![401; 3]), "{round}");
        net.run(Duration::from_secs(30));
    }
    guard.known = "bob";
    place(&mut net, bob());
    guarded(&mut net, &mut guard, 1);
    assert_eq!(tried(&mut net, &mut before), (1, vec![486]));
    for _ in 0..3 {
        place(&mut net, bob());
        guarded(&mut net, &mut guard, 1);
    }
    assert_eq!(tried(&mut net, &mut before), (3, vec![486; 3]), "unasked");
}

#[test]
fn without_credentials_for_the_realm_the_challenge_is_told() {
    for ring in [Keyring::default(), Credentials::new("alice", "opensesame").for_realm("other").into()] {
        let mut net = Network::calm();
        let mut guard = Guard::new(&net, |_| {});
        place(&mut net, ring);
        let (tx, request) = next_invite(&mut net);
        let denied = guard.check(net.now, &request).unwrap_err();
        respond(&mut net, tx, denied.reply);
        assert_eq!(status(net.event(CALLER)), StatusCode::UNAUTHORIZED);
        net.settle();
    }
}

#[test]
fn a_proxy_and_the_callee_are_answered_one_after_the_other() {
    let mut net = Network::calm();
    let mut proxy = Guard::new(&net, |c| (c.role, c.realm) = (Role::Proxy, "proxy.example".into()));
    let mut callee = Guard::new(&net, |_| {});
    place(&mut net, alice());
    for expected in [407, 401, 200] {
        let (tx, request) = next_invite(&mut net);
        let checked = proxy.check(net.now, &request).and_then(|()| callee.check(net.now, &request));
        let code = checked.as_ref().map_or_else(|denied| denied.reply.status.code(), |()| 200);
        assert_eq!(code, expected);
        match checked {
            Err(denied) => respond(&mut net, tx, denied.reply),
            Ok(()) => respond(&mut net, tx, Reply::new(StatusCode::BUSY_HERE)),
        }
    }
    assert_eq!(status(net.event(CALLER)), StatusCode::BUSY_HERE);
    let last = requests(&net, "INVITE").pop().unwrap();
    let proxied: ProxyAuthorization = last.headers.typed().unwrap();
    let direct: Authorization = last.headers.typed().unwrap();
    assert_eq!((proxied.0.nc, direct.0.nc), (Some(2), Some(1)), "no count is used twice");
    net.settle();
}

#[test]
fn challenges_of_several_realms_in_one_response_are_answered_at_once() {
    let mut net = Network::calm();
    place(&mut net, alice());
    let (tx, _) = next_invite(&mut net);
    let challenge = |realm: &str| format!("Digest realm=\"{realm}\", nonce=\"n-{realm}\", qop=\"auth\"");
    let reply = Reply::new(StatusCode::PROXY_AUTHENTICATION_REQUIRED)
        .header(HeaderName::PROXY_AUTHENTICATE, challenge("one"))
        .header(HeaderName::PROXY_AUTHENTICATE, challenge("two"))
        .header(HeaderName::WWW_AUTHENTICATE, challenge("three"));
    respond(&mut net, tx, reply);
    let (tx, request) = next_invite(&mut net);
    let realms: Vec<_> = request
        .headers
        .typed_all::<ProxyAuthorization>()
        .flatten()
        .map(|h| h.0.realm.to_string())
        .chain(request.headers.typed_all::<Authorization>().flatten().map(|h| h.0.realm.to_string()))
        .collect();
    assert_eq!(realms, ["one", "two", "three"]);
    respond(&mut net, tx, Reply::new(StatusCode::BUSY_HERE));
    assert_eq!(status(net.event(CALLER)), StatusCode::BUSY_HERE);
    net.settle();
}

#[test]
fn a_server_that_calls_every_nonce_stale_is_given_up() {
    let mut net = Network::calm();
    place(&mut net, alice());
    for round in 1..=6 {
        let (tx, _) = next_invite(&mut net);
        let value = format!("Digest realm=\"r\", nonce=\"n{round}\", qop=\"auth\", stale=true");
        respond(
            &mut net,
            tx,
            Reply::new(StatusCode::UNAUTHORIZED).header(HeaderName::WWW_AUTHENTICATE, value),
        );
    }
    assert_eq!(status(net.event(CALLER)), StatusCode::UNAUTHORIZED);
    net.settle();
    assert_eq!(net.count(CALLER, "INVITE"), 6, "max_challenges is 5");
}

#[test]
fn a_nonce_that_ran_out_in_a_long_call_is_replaced_on_the_way() {
    let mut net = Network::calm();
    let mut guard = Guard::new(&net, |c| c.nonce_life = Duration::from_secs(60));
    let (ours, theirs) = connect(&mut net, &mut guard);
    net.run(Duration::from_secs(90));
    let (engine, now) = net.engine(CALLER);
    let asked = engine.dialog_request(now, &ours, Method::Info, &Headers::new(), None).unwrap();
    let mut answers = Vec::new();
    while answers.last() != Some(&200) {
        let Event::DialogRequest { dialog, tx, request, .. } = net.event(CALLEE) else { panic!("no INFO") };
        assert_eq!(dialog, theirs);
        let reply = guard
            .check(net.now, &request)
            .map_or_else(|denied| denied.reply, |()| Reply::new(StatusCode::OK));
        answers.push(reply.status.code());
        respond(&mut net, tx, reply);
    }
    assert_eq!(answers, [401, 200]);
    let Event::Response { tx, response, .. } = net.event(CALLER) else { panic!("no answer") };
    assert_eq!((tx, response.status), (asked, StatusCode::OK));
    let numbers: Vec<_> =
        requests(&net, "INFO").iter().map(|info| info.headers.typed::<CSeq>().unwrap().number).collect();
    assert_eq!(numbers, [3, 4], "behind the INVITE's 2");
}

#[test]
fn a_challenged_reinvite_and_a_challenged_bye_go_through() {
    let mut net = Network::calm();
    let (ours, _) = connect(&mut net, &mut Guard::new(&Network::calm(), |_| {}));
    let mut later = Guard::new(&net, |c| c.realm = "later.example".into());
    let (engine, now) = net.engine(CALLER);
    engine.dialog_request(now, &ours, Method::Invite, &Headers::new(), None).unwrap();
    for _ in 0..2 {
        let Event::DialogRequest { tx, request, .. } = net.event(CALLEE) else { panic!("no re-INVITE") };
        let reply = later
            .check(net.now, &request)
            .map_or_else(|denied| denied.reply, |()| Reply::new(StatusCode::OK));
        respond(&mut net, tx, reply);
    }
    assert_eq!(status(net.event(CALLER)), StatusCode::OK);
    let (engine, now) = net.engine(CALLER);
    engine.bye(now, &ours, Headers::new()).unwrap();
    assert!(matches!(net.event(CALLEE), Event::Ended { .. }));
    net.settle();
}

#[test]
fn a_cancelled_call_is_not_repeated() {
    let mut net = Network::calm();
    let mut guard = Guard::new(&net, |_| {});
    let ours = place(&mut net, alice());
    let (tx, request) = next_invite(&mut net);
    let (engine, now) = net.engine(CALLER);
    engine.cancel(now, ours, Headers::new()).unwrap();
    let denied = guard.check(net.now, &request).unwrap_err();
    respond(&mut net, tx, denied.reply);
    assert_eq!(status(net.event(CALLER)), StatusCode::UNAUTHORIZED);
    net.settle();
    assert_eq!(net.count(CALLER, "INVITE"), 1);
}

#[test]
fn a_call_is_cancelled_under_its_name_after_it_was_repeated() {
    let mut net = Network::calm();
    let mut guard = Guard::new(&net, |_| {});
    let ours = place(&mut net, alice());
    let (tx, refused) = let_in(&mut net, &mut guard);
    assert_eq!(refused, 1);
    respond(&mut net, tx, Reply::new(StatusCode::RINGING));
    assert_eq!(status(net.event(CALLER)), StatusCode::RINGING);
    let (engine, now) = net.engine(CALLER);
    engine.cancel(now, ours, Headers::new()).unwrap();
    assert!(matches!(net.event(CALLEE), Event::Cancelled { .. }));
    assert_eq!(status(net.event(CALLER)), StatusCode::REQUEST_TERMINATED);
    net.settle();
    let cancel = &requests(&net, "CANCEL")[0];
    assert_eq!(cancel.headers.typed::<CSeq>().unwrap().number, 2);
}

#[test]
fn the_next_call_to_the_same_server_brings_credentials_unasked() {
    let mut net = Network::calm();
    let mut guard = Guard::new(&net, |c| c.algorithms = vec![Algorithm::Md5]);
    connect(&mut net, &mut guard);
    place(&mut net, alice());
    let (_, refused) = let_in(&mut net, &mut guard);
    assert_eq!(refused, 0);
    place(&mut net, Keyring::default());
    let (_, request) = next_invite(&mut net);
    assert!(!request.headers.contains(HeaderName::AUTHORIZATION), "another call's credentials are its own");
}

#[test]
fn a_challenge_that_is_no_challenge_is_told_and_breaks_nothing() {
    for value in
        ["", "Digest", "Basic realm=\"x\"", "Digest realm=\"r\", nonce=\"n\", algorithm=ROT13", "\u{2e2}=a"]
    {
        let mut net = Network::calm();
        place(&mut net, alice());
        let (tx, _) = next_invite(&mut net);
        respond(
            &mut net,
            tx,
            Reply::new(StatusCode::UNAUTHORIZED).header(HeaderName::WWW_AUTHENTICATE, value),
        );
        assert_eq!(status(net.event(CALLER)), StatusCode::UNAUTHORIZED, "{value}");
        net.settle();
    }
}
