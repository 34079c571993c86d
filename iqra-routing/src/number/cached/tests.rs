//! The cache on virtual time, in front of a store that counts, waits and fails as a test says.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use tokio::sync::Semaphore;
use tokio::time::advance;

use super::*;
use crate::number::{MemoryNumbers, sample};

const LIMITS: CacheLimits = CacheLimits {
    entries: 100,
    age: Duration::from_secs(30),
    missing: Duration::from_secs(2),
    stale: Duration::from_secs(300),
};

struct Store {
    numbers: MemoryNumbers,
    asked: AtomicUsize,
    away: AtomicBool,
    /// A question waits for a permit.
    gate: Semaphore,
}

impl Store {
    async fn ask(&self) -> Result<(), StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.gate.acquire().await.expect("it is never closed").forget();
        let away = self.away.load(Ordering::Relaxed);
        if away { Err(StoreError::Away { store: "test", why: String::new() }) } else { Ok(()) }
    }
}

#[async_trait]
impl NumberStore for Store {
    async fn standing(&self, source: IpAddr) -> Result<Standing, StoreError> {
        self.ask().await?;
        self.numbers.standing(source).await
    }

    async fn look_up(&self, identity: &Identity, standing: &Standing) -> Result<Found, StoreError> {
        let found = self.numbers.look_up(identity, standing).await;
        self.ask().await?;
        found // as it was before the wait
    }

    async fn number(
        &self,
        business: &BusinessId,
        phone: &PhoneId,
    ) -> Result<Option<Arc<Number>>, StoreError> {
        self.numbers.number(business, phone).await
    }

    async fn list(
        &self,
        business: &BusinessId,
        after: Option<&PhoneId>,
        most: usize,
    ) -> Result<Vec<Arc<Number>>, StoreError> {
        self.numbers.list(business, after, most).await
    }

    async fn upsert(&self, number: Number) -> Result<(), UpsertError> {
        self.numbers.upsert(number).await
    }

    async fn delete(&self, business: &BusinessId, phone: &PhoneId) -> Result<bool, StoreError> {
        self.numbers.delete(business, phone).await
    }
}

/// A cache in front of a store that holds the sample number.
fn cached(limits: CacheLimits) -> Arc<CachedNumbers<Store>> {
    let numbers = MemoryNumbers::default();
    numbers.set_account(sample::account());
    numbers.set_business(sample::business());
    numbers.set_trunk(sample::trunk());
    numbers.set_number(sample::number()).unwrap();
    let store = Store {
        numbers,
        asked: AtomicUsize::new(0),
        away: AtomicBool::new(false),
        gate: Semaphore::new(1_000_000),
    };
    Arc::new(CachedNumbers::new(store, limits))
}

fn named(phone: &str) -> Identity {
    Identity::Named { business: sample::business().id, phone: phone.parse().unwrap() }
}

fn dialled(text: &str) -> Identity {
    Identity::Dialled(Dialled::parse(text).unwrap())
}

fn change(dialled: &str) -> Change {
    let Number { business, phone, .. } = sample::number();
    Change::Number { business, phone, dialled: Some(Dialled::parse(dialled).unwrap()) }
}

fn standing() -> Standing {
    Standing {
        source: "192.0.2.1".parse().unwrap(),
        trunks: vec![Arc::new(sample::trunk())],
        in_a_number_list: false,
    }
}

/// Whether a number is found, and voice is on.
async fn voice(cached: &CachedNumbers<Store>, identity: &Identity) -> Result<Option<bool>, StoreError> {
    Ok(cached.look_up(identity, &standing()).await?.number.map(|number| number.voice))
}

fn asked(cached: &CachedNumbers<Store>) -> usize {
    cached.store.asked.load(Ordering::Relaxed)
}

fn put(cached: &CachedNumbers<Store>, voice: bool) {
    cached.store.numbers.set_number(Number { voice, ..sample::number() }).unwrap();
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let cached = cached(LIMITS);
    let Number { business, phone, .. } = sample::number();
    cached.delete(&business, &phone).await.unwrap();
    crate::number::conformance::conforms(&*cached).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_for_its_age_and_a_no_for_less() {
    let cached = cached(LIMITS);
    for (identity, found, age) in [(named("desk"), Some(true), 30), (dialled("404"), None, 2)] {
        let before = asked(&cached);
        for _ in 0..5 {
            assert_eq!(voice(&cached, &identity).await, Ok(found));
        }
        advance(Duration::from_millis(age * 1000 - 1)).await;
        voice(&cached, &identity).await.unwrap();
        assert_eq!(asked(&cached) - before, 1);
        advance(Duration::from_millis(1)).await;
        voice(&cached, &identity).await.unwrap();
        assert_eq!(asked(&cached) - before, 2);
    }
}

#[tokio::test]
async fn of_many_who_ask_the_same_one_asks_the_store() {
    let cached = cached(LIMITS);
    cached.store.gate.forget_permits(1_000_000);
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..20 {
        let cached = cached.clone();
        callers.spawn(async move { voice(&cached, &named("desk")).await.map(|found| (n, found)) });
    }
    while asked(&cached) == 0 {
        tokio::task::yield_now().await;
    }
    cached.store.gate.add_permits(1);
    let answers = callers.join_all().await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Ok((_, Some(true))))).count(), 20);
    assert_eq!(asked(&cached), 1);
    assert!(locked(&cached.flights).is_empty(), "nothing is left of it");
}

#[tokio::test]
async fn who_gives_up_leaves_the_question_to_the_others() {
    let cached = cached(LIMITS);
    cached.store.gate.forget_permits(1_000_000);
    let ask = || {
        let cached = cached.clone();
        tokio::spawn(async move { voice(&cached, &named("desk")).await })
    };
    let first = ask();
    while asked(&cached) == 0 {
        tokio::task::yield_now().await;
    }
    let second = ask();
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.is_err());
    cached.store.gate.add_permits(1);
    assert_eq!(second.await.unwrap(), Ok(Some(true)));
    assert!(locked(&cached.flights).is_empty());
}

#[tokio::test]
async fn what_a_change_names_is_forgotten_and_nothing_else() {
    let by_trunk = sample::trunk().id;
    let rows: [(Change, [bool; 3]); 7] = [
        // asked again: by name, as dialled, another one that is dialled
        (change("1000"), [true, true, false]),
        (change("404"), [true, true, true]), // it was 404 before, or will be
        (Change::Business(sample::business().id), [true, true, false]),
        (Change::Account(sample::account().id), [true, true, false]),
        (Change::Trunk(by_trunk), [true, true, true]),
        (Change::Account("other".parse().unwrap()), [false, false, false]),
        (Change::All, [true, true, true]),
    ];
    for (change, expected) in rows {
        let cached = cached(LIMITS);
        let questions = [named("desk"), dialled("1000"), dialled("404")];
        for question in &questions {
            voice(&cached, question).await.unwrap();
        }
        cached.changed(&change);
        for (question, expected) in questions.iter().zip(expected) {
            let before = asked(&cached);
            voice(&cached, question).await.unwrap();
            assert_eq!(asked(&cached) > before, expected, "{change:?} {:?}", question == &questions[0]);
        }
    }
}

#[tokio::test]
async fn a_change_while_the_question_is_on_its_way_is_not_lost() {
    let cached = cached(LIMITS);
    cached.store.gate.forget_permits(1_000_000);
    let early = tokio::spawn({
        let cached = cached.clone();
        async move { voice(&cached, &named("desk")).await }
    });
    while asked(&cached) == 0 {
        tokio::task::yield_now().await;
    }
    put(&cached, false);
    cached.changed(&change("1000"));
    cached.store.gate.add_permits(2);
    assert_eq!(voice(&cached, &named("desk")).await, Ok(Some(false)), "who asks later does not share it");
    assert_eq!(early.await.unwrap(), Ok(Some(true)));
    assert_eq!(voice(&cached, &named("desk")).await, Ok(Some(false)), "and it is not kept");
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_what_was_found_is_given_for_a_time() {
    let cached = cached(LIMITS);
    assert_eq!(voice(&cached, &named("desk")).await, Ok(Some(true)));
    assert_eq!(voice(&cached, &dialled("404")).await, Ok(None));
    cached.store.away.store(true, Ordering::Relaxed);
    advance(Duration::from_secs(31)).await;
    let before = asked(&cached);
    for _ in 0..50 {
        assert_eq!(voice(&cached, &named("desk")).await, Ok(Some(true)));
    }
    assert_eq!(asked(&cached) - before, 1, "the others do not wait for it");
    assert!(voice(&cached, &dialled("404")).await.is_err(), "a no is not given");
    advance(Duration::from_secs(2)).await;
    voice(&cached, &named("desk")).await.unwrap();
    assert!(asked(&cached) > before + 2, "it is asked again");
    cached.changed(&Change::All);
    assert_eq!(voice(&cached, &named("desk")).await, Ok(Some(true)), "what nobody knows of is given as well");
    advance(Duration::from_secs(300)).await;
    assert!(voice(&cached, &named("desk")).await.is_err(), "but not for ever");
    put(&cached, false);
    cached.store.away.store(false, Ordering::Relaxed);
    assert_eq!(voice(&cached, &named("desk")).await, Ok(Some(false)), "it recovers by itself");
}

#[tokio::test]
async fn what_a_change_names_is_not_given_while_the_store_is_away() {
    let cached = cached(LIMITS);
    assert_eq!(voice(&cached, &named("desk")).await, Ok(Some(true)));
    cached.changed(&change("1000"));
    cached.store.away.store(true, Ordering::Relaxed);
    assert!(voice(&cached, &named("desk")).await.is_err());
}

#[tokio::test]
async fn it_keeps_no_more_than_its_limit() {
    let cached = cached(CacheLimits { entries: 10, ..LIMITS });
    for n in 0..1_000 {
        voice(&cached, &dialled(&format!("7{n}"))).await.unwrap();
    }
    assert!(cached.kept.len() <= 10, "{}", cached.kept.len());
}

#[test]
fn changes_are_read_and_what_is_none_could_mean_anything() {
    assert_eq!(Change::parse("number 7 desk 31303030"), change("1000"));
    assert_eq!(Change::parse("trunk carrier"), Change::Trunk("carrier".parse().unwrap()));
    assert_eq!(Change::parse("business 7"), Change::Business("7".parse().unwrap()));
    assert_eq!(Change::parse("account acme"), Change::Account("acme".parse().unwrap()));
    for any in
        ["all", "", "number", "number 7 desk", "number 7 desk zz", "number 7 desk ", "trunk a b", "trunk !"]
    {
        assert_eq!(Change::parse(any), Change::All, "{any:?}");
    }
}
