//! The stores on PostgreSQL against a real server: their contracts, many nodes at once, a server that goes and comes, what
//! is heard of changes, hostile texts, and that indexes are used.

#![allow(clippy::unwrap_used, reason = "helpers of a test, too, fail it by unwrapping")]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iqra_peers::pki::Pki;
use iqra_peers::postgres::{PASSWORD, Postgres as Server};
use iqra_routing::backends::PostgresBackends;
use iqra_routing::config::Postgres;
use iqra_routing::error::StoreError;
use iqra_routing::handover::table::{Event, Writer};
use iqra_routing::handover::token::{Purpose, Token};
use iqra_routing::identity::{CallerKey, Dialled, EntryId, Identity, Incarnation};
use iqra_routing::limits::{Ask, PlanLimits, PostgresLimits};
use iqra_routing::number::{
    CacheLimits, CachedNumbers, Number, NumberStore, PostgresNumbers, Provider, Trunk,
};
use iqra_routing::postgres::{Database, StoreClock};
use iqra_routing::queue::{CallQueue, Entered, Filter, Holder, NewEntry, Page, PostgresQueue, QueueError};
use iqra_routing::queue::{QueueLimits, State};
use iqra_routing::reason::Reason;
use iqra_routing::source::{SourceList, Standing, parse_network};
use iqra_routing::time::{SystemClock, Timestamp};
use iqra_routing::{backends, limits, number, queue};

const START: Timestamp = Timestamp::from_millis(1_000_000);
const LIFE: Duration = Duration::from_secs(30);

/// One more node on a database.
async fn node(url: &str) -> Database {
    Database::open(Postgres::new(url)).await.unwrap()
}

/// The queue of a node, by the clock of the test.
async fn virtual_queue(url: &str, limits: QueueLimits) -> PostgresQueue {
    PostgresQueue::new(node(url).await, limits).clock(StoreClock::Caller)
}

/// The store that the suite of numbers starts from.
async fn numbers(url: &str) -> PostgresNumbers {
    let store = PostgresNumbers::new(node(url).await);
    store.set_account(&number::sample::account()).await.unwrap();
    store.set_business(&number::sample::business()).await.unwrap();
    store.set_trunk(&number::sample::trunk()).await.unwrap();
    store
}

fn new(n: u128) -> NewEntry {
    NewEntry { id: EntryId(n), ..queue::sample::new_entry(&format!("call-{n}"), START + LIFE) }
}

fn fail(n: u128) -> Event {
    Event::End { writer: Writer::Proxy { node: new(n).node, attempt: 1 }, reason: Reason::NoBackend }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Waits until something asynchronous holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_stores_keep_their_contracts() {
    let server = Server::start();
    let url = server.database("suites");
    queue::conformance::conforms(Arc::new(virtual_queue(&url, QueueLimits::default()).await)).await;
    number::conformance::conforms(&numbers(&url).await).await;
    let cached = CachedNumbers::new(numbers(&url).await, CacheLimits::default());
    number::conformance::conforms(&cached).await;
    let leases = PostgresLimits::new(node(&url).await).clock(StoreClock::Caller);
    limits::conformance::conforms(Arc::new(leases)).await;
    backends::conformance::conforms(&PostgresBackends::new(node(&url).await).clock(StoreClock::Caller)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_nodes_start_at_once_and_a_newer_database_is_refused() {
    let server = Server::start();
    let url = server.database("fresh");
    let mut nodes = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let url = url.clone();
        nodes.spawn(async move { Database::open(Postgres::new(url)).await.map(drop) });
    }
    assert!(nodes.join_all().await.iter().all(Result::is_ok));
    assert_eq!(server.sql("fresh", "SELECT version FROM iqra.versions"), "1", "each script ran once");
    server.sql("fresh", "INSERT INTO iqra.versions VALUES (99, now())");
    let Err(error) = Database::open(Postgres::new(&url)).await else { panic!("a newer database was taken") };
    assert!(matches!(error, StoreError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("version 99") && error.to_string().contains("update"), "{error}");
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0");
    let url = server.database("utf8").replace("/utf8", "/latin");
    let Err(error) = Database::open(Postgres::new(url)).await else { panic!("it was taken") };
    assert!(error.to_string().contains("LATIN1") && error.to_string().contains("UTF8"), "{error}");
}

#[tokio::test]
async fn the_password_may_be_in_a_file_and_is_never_shown() {
    let server = Server::start();
    let url = server.database("secret").replace(":of%20the%20test@", "@");
    let file = std::env::temp_dir().join(format!("iqra-peers-password-{}", std::process::id()));
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let settings = Postgres { password_file: Some(file.clone()), ..Postgres::new(&url) };
    let opened = Database::open(settings).await.map(drop);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(opened, Ok(()));
    let wrong = url.replace("postgres@", "postgres:guessed@");
    let Err(error) = Database::open(Postgres::new(wrong)).await else { panic!("a wrong password was taken") };
    assert!(error.to_string().contains("password") && !error.to_string().contains("guessed"), "{error}");
}

#[tokio::test]
async fn connections_are_secure_and_the_server_proves_itself() {
    let (pki, other) = (Pki::new(), Pki::new());
    let own = pki.sign("server", &["127.0.0.1"]);
    let server = Server::start_secure(&own.certificate, &own.key);
    let url = format!("{}?sslmode=require", server.database("secure"));
    let open = async |url: &str, pki: &Pki| {
        Database::open(Postgres { roots: Some(pki.roots()), ..Postgres::new(url) }).await
    };
    let database = open(&url, &pki).await.map_err(|error| error.to_string()).unwrap();
    assert_eq!(server.sql("secure", "SELECT count(*) FROM pg_stat_ssl WHERE ssl"), "1");
    drop(database);
    let refused = [
        (open(&url, &other).await, "certificate"),
        (open(&url.replace("127.0.0.1", "localhost"), &pki).await, "certificate"),
        (
            open(&Server::start().database("plain").replace("plain", "plain?sslmode=require"), &pki).await,
            "TLS",
        ),
    ];
    for (opened, why) in refused {
        let Err(error) = opened else { panic!("it was taken, {why} or not") };
        assert!(error.to_string().contains(why), "{error}");
    }
}

fn offer(n: u128) -> Event {
    let backends = ["b1".parse().unwrap(), "b2".parse().unwrap()].into();
    Event::Offer { node: new(n).node, attempt: 1, backends, until: START + LIFE }
}

fn claim(n: u128, backend: &str) -> Event {
    let token = Token {
        entry: EntryId(n),
        attempt: 1,
        region: "eu".parse().unwrap(),
        server: backend.parse().unwrap(),
        expires: START + LIFE,
        purpose: Purpose::Start,
    };
    let caller = CallerKey::sip(&format!("{backend}-{n}"), "t").unwrap();
    let holder = Holder { backend: token.server.clone(), incarnation: Incarnation(5) };
    Event::Claim { region: token.region.clone(), token, caller, holder }
}

/// Nodes race for each of many calls: to enter it, to offer, claim and answer it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_several_nodes_one_enters_and_one_answers_each_call() {
    const CALLS: u128 = 40;
    let server = Server::start();
    let url = server.database("race");
    let mut nodes = tokio::task::JoinSet::new();
    for (node, backend) in [(0, "b1"), (1, "b2"), (2, "b1"), (3, "b2")] {
        let queue = virtual_queue(&url, QueueLimits::default()).await;
        nodes.spawn(async move {
            let (mut entered, mut answered) = (0, 0);
            for n in 1..=CALLS {
                let branch = format!("z9hG4bK{node}").into();
                let request = NewEntry { id: EntryId(n + 1000 * node), branch, ..new(n) };
                entered += usize::from(matches!(queue.enter(request, START).await.unwrap(), Entered::New(_)));
                let open =
                    Filter { live: Some(true), state: Some(State::ProcessingProxy), ..Filter::default() };
                for call in queue.list(&open, Page::default()).await.unwrap() {
                    let _one_of_us = queue.apply(call.id, &offer(call.id.0), START).await;
                    let claimed = queue.apply(call.id, &claim(call.id.0, backend), START).await;
                    // The nodes of one backend bring the same call there: the same claim.
                    let Some(expect) = claimed.ok().and_then(|entry| entry.expect()) else { continue };
                    answered +=
                        usize::from(queue.apply(call.id, &Event::Commit(expect), START).await.is_ok());
                }
            }
            (entered, answered)
        });
    }
    let counts = nodes.join_all().await;
    assert_eq!(counts.iter().map(|(entered, _)| entered).sum::<usize>(), CALLS as usize);
    assert!(counts.iter().map(|(_, answered)| answered).sum::<usize>() >= CALLS as usize);
    let queue = virtual_queue(&url, QueueLimits::default()).await;
    let answered = Filter { state: Some(State::ProcessedBackend), ..Filter::default() };
    let page = Page { most: 1000, ..Page::default() };
    let answered = queue.list(&answered, page).await.unwrap();
    assert_eq!(answered.len(), CALLS as usize);
    assert!(answered.iter().all(|entry| entry.claim_no == 1), "each was claimed once");
}

/// Runs a statement for a second while `meanwhile` waits for what it locks.
async fn locked<T>(server: &Server, database: &str, lock: &str, meanwhile: impl Future<Output = T>) -> T {
    std::thread::scope(|scope| {
        let lock = format!("BEGIN; {lock}; SELECT pg_sleep(1); COMMIT");
        scope.spawn(move || server.sql(database, &lock));
        let held = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        iqra_peers::wait::until("the lock", Duration::from_secs(20), || {
            (server.sql(database, held) == "1").then_some(())
        });
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(meanwhile))
    })
}

/// Both have read before one of them writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_that_read_the_same_one_writes() {
    let server = Server::start();
    let url = server.database("sharp");
    let queue = virtual_queue(&url, QueueLimits::default()).await;
    queue.enter(new(1), START).await.unwrap();
    queue.apply(EntryId(1), &offer(1), START).await.unwrap();
    let (one, other) = (claim(1, "b1"), claim(1, "b2"));
    let claims =
        async { tokio::join!(queue.apply(EntryId(1), &one, START), queue.apply(EntryId(1), &other, START)) };
    let (one, other) = locked(&server, "sharp", "SELECT FROM iqra.entries FOR UPDATE", claims).await;
    assert_ne!(one.is_ok(), other.is_ok(), "{one:?} {other:?}");

    let leases = PostgresLimits::new(node(&url).await).clock(StoreClock::Caller);
    let account = "acme".parse().unwrap();
    let ask = |lease| Ask { lease: EntryId(lease), account: &account, limit: 1, life: LIFE };
    let slots = async { tokio::join!(leases.reserve(ask(1), START), leases.reserve(ask(2), START)) };
    let lock = "LOCK TABLE iqra.leases IN SHARE MODE";
    let (one, other) = locked(&server, "sharp", lock, slots).await;
    assert_ne!(one.unwrap(), other.unwrap(), "one slot for two calls");
}

#[tokio::test]
async fn the_bounds_hold_and_the_first_to_finish_go_first() {
    let server = Server::start();
    let url = server.database("bounds");
    let limits = QueueLimits { live: 3, finished: 1, retention: Duration::from_secs(60) };
    let queue = virtual_queue(&url, limits).await;
    for n in 1..=3 {
        queue.enter(new(n), START).await.unwrap();
    }
    assert_eq!(queue.enter(new(4), START).await, Err(QueueError::Full(3)));
    for n in [2, 1] {
        queue.apply(EntryId(n), &fail(n), START + Duration::from_millis(n as u64 ^ 3)).await.unwrap();
    }
    let kept = async || {
        let list = queue.list(&Filter::default(), Page::default()).await.unwrap();
        list.iter().map(|entry| entry.id.0).collect::<Vec<_>>()
    };
    queue.trim(START).await.unwrap();
    assert_eq!(kept().await, [3, 1], "the first to finish went first");
    queue.enter(new(4), START).await.unwrap();
    queue.trim(START + Duration::from_secs(61)).await.unwrap();
    assert_eq!(kept().await, [4, 3], "and the other one after the retention; the live ones stay");
    let node = virtual_queue(&url, QueueLimits { live: 2, ..limits }).await;
    assert_eq!(
        node.enter(new(5), START).await,
        Err(QueueError::Full(2)),
        "another node counts what is there"
    );
    assert_eq!(queue.sweep(START + LIFE, 10).await.unwrap().len(), 2);
    assert_eq!(kept().await, [4], "a sweep trims by itself");
}

/// Nodes whose clocks are an hour wrong agree about what has expired.
#[tokio::test]
async fn expiry_is_by_the_clock_of_the_server() {
    let server = Server::start();
    let url = server.database("clock");
    let queue = PostgresQueue::new(node(&url).await, QueueLimits::default());
    let clock = SystemClock::start();
    let hour = Duration::from_secs(3600);
    let (slow, fast) = (|| clock.now() - hour, || clock.now() + hour);
    let entered = queue.enter(NewEntry { deadline: slow() + LIFE, ..new(1) }, slow()).await.unwrap();
    let Entered::New(entry) = entered else { panic!("it is new") };
    assert!(clock.now().since(entry.created) < Duration::from_secs(20), "written by the server's clock");
    assert!(queue.sweep(fast(), 10).await.unwrap().is_empty(), "a fast node expires nothing early");
    let short = NewEntry { deadline: fast() + Duration::from_millis(50), ..new(2) };
    queue.enter(short, fast()).await.unwrap();
    until("the short one to expire", async || queue.sweep(slow(), 10).await.unwrap().len() == 1).await;
    let live = Filter { live: Some(true), ..Filter::default() };
    assert_eq!(queue.count(&live).await, Ok(1));
}

/// A step on each store; whether all of them worked, and how long the slowest took.
async fn steps(
    queue: &PostgresQueue,
    numbers: &PostgresNumbers,
    n: u128,
) -> (Result<(), StoreError>, Duration) {
    let began = Instant::now();
    let entered = queue.enter(new(n), START).await.map(drop).map_err(|error| match error {
        QueueError::Store(error) => error,
        other => panic!("{other}"),
    });
    let found = numbers.standing(ip("192.0.2.1")).await.map(drop);
    (entered.and(found), began.elapsed() / 2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_stops_is_away_for_a_bounded_time_and_comes_back_by_itself() {
    let mut server = Server::start();
    let url = server.database("restart");
    let limit = Duration::from_millis(400);
    let settings = Postgres { statement: limit, connect: limit, acquire: limit, ..Postgres::new(&url) };
    let most = Duration::from_secs(3); // acquire, statement and connect, on a busy machine
    let database = Database::open(settings).await.unwrap();
    let queue = PostgresQueue::new(database.clone(), QueueLimits::default()).clock(StoreClock::Caller);
    let numbers = PostgresNumbers::new(database);
    until("the first steps", async || steps(&queue, &numbers, 1).await.0.is_ok()).await;

    server.stop();
    for n in 10..20 {
        let (done, took) = steps(&queue, &numbers, n).await;
        assert!(matches!(done, Err(StoreError::Away { .. })), "{done:?}");
        assert!(took < most, "{took:?}");
    }
    server.resume();
    until("the stores after a restart", async || steps(&queue, &numbers, 20).await.0.is_ok()).await;

    server.freeze();
    let (done, took) = steps(&queue, &numbers, 30).await;
    server.thaw();
    assert!(matches!(done, Err(StoreError::Away { .. })), "{done:?}");
    assert!(took < most, "{took:?}");
    until("the stores after a pause", async || steps(&queue, &numbers, 40).await.0.is_ok()).await;

    server.stop();
    server.resume();
    let (done, _) = steps(&queue, &numbers, 50).await;
    assert_eq!(done, Ok(()), "dead connections are replaced without the caller noticing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_beyond_the_connections_wait_and_are_refused_in_bounded_time() {
    let server = Server::start();
    let url = server.database("crowded");
    let acquire = Duration::from_millis(300);
    let settings =
        Postgres { connections: 1, acquire, statement: Duration::from_secs(20), ..Postgres::new(&url) };
    let queue = PostgresQueue::new(Database::open(settings).await.unwrap(), QueueLimits::default());
    server.freeze();
    let all = Filter::default();
    let mut held = std::pin::pin!(queue.count(&all));
    tokio::select! {
        biased; // so the only connection is taken by the first one
        counted = &mut held => panic!("a frozen server answered: {counted:?}"),
        entry = queue.entry(EntryId(1)) => assert!(matches!(entry, Err(StoreError::Away { .. })), "{entry:?}"),
    }
    server.thaw();
    assert_eq!(held.await, Ok(0));
    assert_eq!(queue.entry(EntryId(1)).await, Ok(None));
}

/// What a call to the sample number finds.
async fn voice(cached: &CachedNumbers<PostgresNumbers>) -> Option<bool> {
    let sample = number::sample::number();
    let named = Identity::Named { business: sample.business, phone: sample.phone };
    let standing = cached.standing(ip("192.0.2.1")).await.ok()?;
    cached.look_up(&named, &standing).await.ok()?.number.map(|number| number.voice)
}

/// The cache never asks again by itself, so whatever it learns it was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_several_hosts_one_that_is_silent_keeps_nobody_from_the_next() {
    let server = Server::start();
    let url = server.database("second");
    // It takes connections, and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = format!("@{},", silent.local_addr().unwrap());
    let connect = Duration::from_millis(300);
    let database =
        Database::open(Postgres { connect, ..Postgres::new(url.replace('@', &first)) }).await.unwrap();
    let queue = PostgresQueue::new(database, QueueLimits::default()).clock(StoreClock::Caller);
    assert!(matches!(queue.enter(new(1), START).await, Ok(Entered::New(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_another_version_wrote_holds_up_nothing_else() {
    let server = Server::start();
    let url = server.database("mixed");
    let queue = virtual_queue(&url, QueueLimits::default()).await;
    for n in 1..=3 {
        queue.enter(new(n), START).await.unwrap();
    }
    let backends = PostgresBackends::new(node(&url).await).clock(StoreClock::Caller);
    for status in ["b1", "b2"].map(|id| backends::sample::status(id, "eu")) {
        backends::BackendRegistry::report(&backends, status, LIFE, START).await.unwrap();
    }
    let newer =
        "UPDATE iqra.entries SET body = '{}' WHERE id = (SELECT id FROM iqra.entries ORDER BY id LIMIT 1)";
    server.sql("mixed", newer);
    server.sql("mixed", "UPDATE iqra.backends SET body = '{}' WHERE id = 'b1'");
    let alive = backends::BackendRegistry::list(&backends, None, START).await.unwrap();
    let seen: Vec<_> =
        alive.iter().map(|status| (status.id.as_str(), status.incarnation, status.state)).collect();
    let (quiet, takes) = (backends::BackendState::Maintenance, backends::BackendState::Running);
    assert_eq!(
        seen,
        [("b1", Incarnation(1), quiet), ("b2", Incarnation(1), takes)],
        "it lives, and gets no calls"
    );
    assert_eq!(queue.list(&Filter::default(), Page::default()).await.unwrap().len(), 2);
    assert_eq!(queue.sweep(START + LIFE * 100, 10).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_are_heard_of_on_every_node_also_after_a_restart() {
    let mut server = Server::start();
    let url = server.database("changes");
    let for_ever = Duration::from_secs(86_400);
    let limits = CacheLimits { age: for_ever, missing: for_ever, stale: for_ever, ..CacheLimits::default() };
    let writer = numbers(&url).await;
    let cached = PostgresNumbers::new(node(&url).await).cached(limits);
    let put = async |voice| writer.upsert(Number { voice, ..number::sample::number() }).await;
    let sees = |expected| {
        let cached = cached.clone();
        async move || voice(&cached).await == expected
    };
    assert_eq!(voice(&cached).await, None);
    put(true).await.unwrap();
    until("a new number", sees(Some(true))).await;
    put(false).await.unwrap();
    until("a changed number", sees(Some(false))).await;
    server
        .sql("changes", "UPDATE iqra.numbers SET body = replace(body, '\"voice\":false', '\"voice\":true')");
    until("what another program changed", sees(Some(true))).await;
    let moved = SourceList::new([parse_network("198.51.100.0/24").unwrap()]);
    assert!(cached.standing(ip("192.0.2.1")).await.unwrap().is_listed());
    writer.set_trunk(&Trunk { allowed_sources: moved, ..number::sample::trunk() }).await.unwrap();
    until("a moved trunk", async || !cached.standing(ip("192.0.2.1")).await.unwrap().is_listed()).await;

    assert_eq!(voice(&cached).await, Some(true));
    server.stop();
    assert!(writer.standing(ip("192.0.2.1")).await.is_err());
    // That the address is in no list may be wrong by now.
    until("the loss of the connection that listens", sees(None)).await;
    let sample = number::sample::number();
    let desk = Identity::Named { business: sample.business.clone(), phone: sample.phone.clone() };
    let known = Standing { source: ip("192.0.2.1"), trunks: vec![], in_a_number_list: false };
    let found = cached.look_up(&desk, &known).await.unwrap();
    assert!(found.number.is_some(), "what was found is given while the server is away");
    server.resume();
    until("the writer", async || put(false).await.is_ok()).await;
    until("a change after the restart", sees(Some(false))).await;
    assert_eq!(cached.store().delete(&sample.business, &sample.phone).await, Ok(true));
    until("a deleted number", sees(None)).await;
}

/// Whatever a text holds, it is stored and found as a value, and the tables are there afterwards.
#[tokio::test]
async fn texts_with_sql_in_them_are_values() {
    let server = Server::start();
    let url = server.database("hostile");
    let store = numbers(&url).await;
    let queue = virtual_queue(&url, QueueLimits::default()).await;
    let hostile = [
        "'; DROP SCHEMA iqra CASCADE; --",
        "' OR '1'='1",
        "$1 $$ \\' \" %s {} \u{0}\u{1f}\u{7f}",
        "E'\\x00'::bytea || pg_sleep(9)",
        "ü\u{202e}\u{1f600}",
    ];
    for (n, text) in (1u128..).zip(hostile) {
        let dialled = Dialled::parse(text).unwrap();
        let number = Number {
            phone: format!("p{n}").parse().unwrap(),
            dialled: dialled.clone(),
            provider: Provider::Telnyx,
            codecs: [text.to_owned()].into(),
            ..number::sample::number()
        };
        store.upsert(number.clone()).await.unwrap();
        let standing = store.standing(ip("192.0.2.1")).await.unwrap();
        let found = store.look_up(&Identity::Dialled(dialled), &standing).await.unwrap();
        assert_eq!(found.number.as_deref(), Some(&number), "{text:?}");
        let twin = Number { phone: "twin".parse().unwrap(), ..number };
        assert!(store.upsert(twin).await.is_err(), "{text:?} is taken");

        let mut call = new(n);
        call.key.caller = CallerKey::sip(text, text).unwrap();
        call.branch = text.into();
        let Entered::New(entered) = queue.enter(call.clone(), START).await.unwrap() else {
            panic!("{text:?}")
        };
        assert_eq!(queue.entry(call.id).await.unwrap(), Some(entered.clone()));
        let repeat = NewEntry { id: EntryId(n + 100), ..call };
        assert_eq!(queue.enter(repeat, START).await, Ok(Entered::Absorbed), "{text:?} is the same call");
    }
    // Ids hold no such text; what looks like SQL among them is one all the same.
    let filter = Filter { business: Some("null".parse().unwrap()), ..Filter::default() };
    assert_eq!(queue.count(&filter).await, Ok(0));
    assert_eq!(queue.count(&Filter::default()).await, Ok(hostile.len()));
    // The longest Call-ID and tag, in characters that JSON writes six times as long.
    let mut call = new(50);
    call.key.caller = CallerKey::sip(&"\u{1}".repeat(256), &"\u{2}".repeat(256)).unwrap();
    assert!(matches!(queue.enter(call, START).await, Ok(Entered::New(_))));
}

/// Every way of listing, counting, sweeping and looking up reads what it needs by an index, among many rows.
#[tokio::test]
async fn indexes_are_used() {
    let server = Server::start();
    let url = server.database("many");
    let queue = virtual_queue(&url, QueueLimits { live: 3_000_000, ..QueueLimits::default() }).await;
    let store = numbers(&url).await;
    store.upsert(number::sample::number()).await.unwrap();
    queue.enter(new(1), START).await.unwrap();
    let fill = "
        INSERT INTO iqra.entries SELECT decode(lpad(to_hex(n), 32, '0'), 'hex'), 0,
            CASE WHEN n % 50 = 0 THEN decode(md5(n::text), 'hex') END, 'b' || n % 500, 'p' || n % 7,
            CASE n % 4 WHEN 0 THEN 'processed_backend' WHEN 1 THEN 'failed' WHEN 2 THEN 'canceled' ELSE 'expired' END,
            'k' || n % 200, 1000000 + n, CASE WHEN n % 50 = 1 THEN 5000000 + n END, 2000000 + n, e.body
            FROM generate_series(1000, 60000) AS n, (SELECT body FROM iqra.entries LIMIT 1) AS e;
        INSERT INTO iqra.numbers SELECT business, 'q' || n, convert_to('d' || n, 'UTF8'), trunk, false, body
            FROM generate_series(1, 30000) AS n, (SELECT * FROM iqra.numbers LIMIT 1) AS e;
        INSERT INTO iqra.number_networks SELECT '10.' || n / 250 || '.' || n % 250 || '.0/24', '7', 'q' || n
            FROM generate_series(1, 30000) AS n;
        INSERT INTO iqra.trunks SELECT 't' || n, body FROM generate_series(1, 5000) AS n, iqra.trunks;
        INSERT INTO iqra.trunk_networks SELECT '192.' || n / 250 || '.' || n % 250 || '.0/24', 't' || n % 5000 + 1
            FROM generate_series(1, 40000) AS n;
        ";
    server.sql("many", fill);
    server.sql("many", "VACUUM ANALYZE");
    server.sql("many", "ALTER DATABASE many SET auto_explain.log_min_duration = 0");
    let queue = virtual_queue(&url, QueueLimits { live: 3_000_000, ..queue_limits() }).await;
    let store = PostgresNumbers::new(node(&url).await);
    let before = server.log().len();
    let only = Filter::default;
    let filters = [
        only(),
        Filter { business: Some("b7".parse().unwrap()), ..only() },
        Filter { business: Some("b7".parse().unwrap()), phone: Some("p3".parse().unwrap()), ..only() },
        Filter { state: Some(State::ProcessedBackend), live: Some(true), ..only() },
        Filter { backend: Some("k9".parse().unwrap()), ..only() },
        Filter { since: Some(START), until: Some(START + Duration::from_secs(2)), ..only() },
    ];
    for filter in &filters {
        let first = queue.list(filter, Page { before: Some(EntryId(50_000)), most: 10 }).await.unwrap();
        assert!(!first.is_empty(), "{filter:?}");
        if filter.business.is_some() || filter.live.is_some() || filter.backend.is_some() {
            queue.count(filter).await.unwrap();
        }
    }
    queue.apply(EntryId(1), &offer(1), START).await.unwrap();
    queue.enter(new(2), START).await.unwrap();
    queue.sweep(START, 100).await.unwrap();
    queue.trim(START).await.unwrap();
    for source in ["192.0.2.1", "10.3.7.1", "2001:db8::1"] {
        let standing = store.standing(ip(source)).await.unwrap();
        for dialled in ["1000", "d77"] {
            store.look_up(&Identity::Dialled(Dialled::parse(dialled).unwrap()), &standing).await.unwrap();
        }
    }
    let sample = number::sample::number();
    store.list(&sample.business, Some(&sample.phone), 10).await.unwrap();
    store.number(&sample.business, &sample.phone).await.unwrap();
    let log = &server.log()[before..];
    assert!(log.contains("Index"), "the plans are in the log: {log}");
    let read_all =
        ["Seq Scan on entries", "Seq Scan on numbers", "Seq Scan on number_networks", "Seq Scan on trunk"];
    for plan in read_all {
        assert!(!log.contains(plan), "{plan}\n{log}");
    }
}

/// Bounds that keep what the test filled in.
fn queue_limits() -> QueueLimits {
    QueueLimits { finished: 1_000_000, retention: Duration::from_secs(86_400), ..QueueLimits::default() }
}
