//! A call over the stores, from what a request asks to its record, and what is left when it goes wrong.

#![allow(clippy::unwrap_used, reason = "helpers of a test, too, fail it by unwrapping")]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use iqra_routing::admission::{Admission, Answer, Offer, Settings, Stores};
use iqra_routing::backends::{
    BackendRegistry, BackendState, BackendStatus, MemoryBackends, Report, STATUS_LIFE,
};
use iqra_routing::error::StoreError;
use iqra_routing::handover::claim::{Claim, Claims};
use iqra_routing::handover::outcome::{EndedBy, Outcome, sweep, write_lost};
use iqra_routing::handover::table::Expect;
use iqra_routing::handover::token::TokenKeys;
use iqra_routing::identity::{AccountId, Asked, BackendId, CallerKey, EntryId, Incarnation, Named, RegionId};
use iqra_routing::limits::{Ask, LEASE_LIFE, MemoryLimits, PlanLimits, Renewal, Slot};
use iqra_routing::number::{Account, Business, HandOver, MemoryNumbers, Number, Provider, Trunk};
use iqra_routing::queue::{CallQueue, Filter, Holder, MemoryQueue, Node, State};
use iqra_routing::reason::Reason;
use iqra_routing::select::{ByRegion, LeastLoad, Region, Regions};
use iqra_routing::source::{SourceList, ViaHop, parse_network};
use iqra_routing::time::Timestamp;

const START: Timestamp = Timestamp::from_millis(1_000_000);
const TOKEN_LIFE: Duration = Duration::from_secs(30);
const PARAMS: &[Named<'_>] = &[("X-Business-Id", "7"), ("X-Phone-Id", "desk")];

struct World {
    admission: Admission,
    queue: Arc<MemoryQueue>,
    limits: Arc<MemoryLimits>,
    backends: Arc<MemoryBackends>,
}

fn numbers() -> MemoryNumbers {
    let numbers = MemoryNumbers::default();
    let acme: iqra_routing::identity::AccountId = "acme".parse().unwrap();
    numbers.set_account(Account {
        id: acme.clone(),
        active: true,
        concurrent_calls: 2,
        minutes_left: None,
        admin: false,
    });
    numbers.set_business(Business { id: "7".parse().unwrap(), account: acme, active: true });
    numbers.set_trunk(Trunk {
        id: "carrier".parse().unwrap(),
        allowed_sources: SourceList::new([parse_network("192.0.2.0/24").unwrap()]),
        uri_headers: false,
        token_in_user: false,
        hand_over: HandOver::Redirect,
    });
    numbers.set_number(number()).unwrap();
    numbers
}

fn number() -> Number {
    Number {
        business: "7".parse().unwrap(),
        phone: "desk".parse().unwrap(),
        dialled: "1000".to_owned().try_into().unwrap(),
        provider: Provider::Sip,
        region: "eu".parse().unwrap(),
        route: Some("front".parse().unwrap()),
        voice: true,
        trunk: Some("carrier".parse().unwrap()),
        allowed_sources: None,
        allow_any_source: false,
        codecs: ["PCMU".to_owned()].into(),
        answer_delay: Duration::ZERO,
        max_duration: None,
        hand_over: None,
    }
}

fn status(id: &str) -> BackendStatus {
    BackendStatus {
        id: id.parse().unwrap(),
        region: "eu".parse().unwrap(),
        incarnation: Incarnation(1),
        sip_uris: [format!("sip:{id}.example:5080")].into(),
        media_url: None,
        capacity: 10,
        calls: 0,
        cpu: 0.0,
        state: BackendState::Running,
        development: false,
    }
}

fn keys() -> TokenKeys {
    TokenKeys::new([[7; 32]]).unwrap()
}

impl World {
    async fn new() -> Self {
        let (queue, limits, backends) = (Arc::default(), Arc::default(), Arc::default());
        let stores = Stores {
            numbers: Arc::new(numbers()),
            queue: Arc::<MemoryQueue>::clone(&queue),
            limits: Arc::<MemoryLimits>::clone(&limits),
            backends: Arc::<MemoryBackends>::clone(&backends),
        };
        let settings = Settings {
            node: Node { id: "p1".parse().unwrap(), incarnation: Incarnation(1) },
            trusted_proxies: SourceList::new([parse_network("10.0.0.0/8").unwrap()]),
            token_life: TOKEN_LIFE,
            most_choices: 3,
        };
        let regions = Regions::new([("eu".parse().unwrap(), Region { enabled: true, fallback: Vec::new() })]);
        let selector = Arc::new(ByRegion(LeastLoad));
        let world = Self {
            admission: Admission::new(stores, selector, regions, keys(), settings, 1),
            queue,
            limits,
            backends,
        };
        world.report(START).await;
        world
    }

    async fn report(&self, now: Timestamp) {
        for id in ["b1", "b2"] {
            self.backends.report(status(id), STATUS_LIFE, now).await.unwrap();
        }
    }

    async fn ask(&self, call_id: &str) -> Answer {
        self.admission.admit(&asked(call_id), START).await
    }

    async fn offered(&self, call_id: &str) -> Offer {
        match self.ask(call_id).await {
            Answer::Offer(offer) => offer,
            other => panic!("expected an offer, got {other:?}"),
        }
    }

    fn claims(&self, backend: &str) -> Claims {
        Claims {
            queue: self.queue.clone(),
            limits: self.limits.clone(),
            tokens: keys(),
            me: Holder { backend: backend.parse().unwrap(), incarnation: Incarnation(1) },
            region: "eu".parse().unwrap(),
            lease_life: LEASE_LIFE,
        }
    }

    async fn used(&self, now: Timestamp) -> u32 {
        self.limits.used(&"acme".parse().unwrap(), now).await.unwrap()
    }

    async fn in_state(&self, state: State) -> usize {
        self.queue.count(&Filter { state: Some(state), ..Filter::default() }).await.unwrap()
    }
}

fn asked(call_id: &str) -> Asked<'_> {
    Asked {
        user: Some("1000"),
        uri_params: PARAMS,
        uri_headers: &[],
        headers: &[],
        call_id,
        from_tag: "tag",
        cseq: 1,
        branch: "z9hG4bK1",
        peer: IpAddr::from([192, 0, 2, 1]),
        via: &[],
    }
}

fn caller(call_id: &str) -> CallerKey {
    CallerKey::sip(call_id, "tag").unwrap()
}

fn reason(answer: &Answer) -> Option<Reason> {
    match answer {
        Answer::Reject(rejection) => Some(rejection.reason),
        _ => None,
    }
}

const DONE: Outcome = Outcome::Completed(EndedBy::Caller);

#[tokio::test]
async fn a_call_is_offered_claimed_answered_and_recorded() {
    let world = World::new().await;
    let offer = world.offered("one").await;
    assert_eq!((offer.choices.len(), offer.entry.state), (2, State::ProcessedProxy));
    assert!(offer.choices[0].q > offer.choices[1].q);
    let first = &offer.choices[0];
    let claims = world.claims(first.backend.id.as_str());
    let claim = claims.claim(Some(&first.token), &caller("one"), START).await.unwrap();
    assert_eq!(*claim.entry.terms.codecs, ["PCMU"]);
    claims.commit(&claim, START).await.unwrap();
    claims.renew(&claim, START + TOKEN_LIFE / 2).await.unwrap();
    assert_eq!(world.used(START + TOKEN_LIFE).await, 1, "the renewed slot outlives the token");
    let end = START + Duration::from_secs(40);
    let record = claims.finish(&claim, DONE, end).await.unwrap();
    assert_eq!((record.id, record.talked), (offer.entry.id, Duration::from_secs(40)));
    assert_eq!(claims.finish(&claim, DONE, end).await.unwrap(), record, "a repeat gives the same record");
    assert_eq!(world.used(end).await, 0);
}

/// Limits that do not answer the first release.
struct AwayAtRelease(Arc<MemoryLimits>, AtomicBool);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl PlanLimits for AwayAtRelease {
    async fn reserve(&self, ask: Ask<'_>, now: Timestamp) -> Result<Slot, StoreError> {
        self.0.reserve(ask, now).await
    }

    async fn take_over(&self, ask: Ask<'_>, owner: Expect, now: Timestamp) -> Result<Slot, StoreError> {
        self.0.take_over(ask, owner, now).await
    }

    async fn renew(
        &self,
        lease: EntryId,
        owner: Expect,
        life: Duration,
        now: Timestamp,
    ) -> Result<Renewal, StoreError> {
        self.0.renew(lease, owner, life, now).await
    }

    async fn release(&self, lease: EntryId, owner: Expect, now: Timestamp) -> Result<bool, StoreError> {
        if self.1.swap(false, Ordering::Relaxed) {
            return Err(StoreError::Away { store: "limits", why: "a test says so".to_owned() });
        }
        self.0.release(lease, owner, now).await
    }

    async fn free(&self, lease: EntryId, now: Timestamp) -> Result<bool, StoreError> {
        self.0.free(lease, now).await
    }

    async fn used(&self, account: &AccountId, now: Timestamp) -> Result<u32, StoreError> {
        self.0.used(account, now).await
    }

    async fn sweep(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.0.sweep(now).await
    }
}

#[tokio::test]
async fn a_call_is_finished_only_when_its_slot_is_free_too() {
    let world = World::new().await;
    let offer = world.offered("one").await;
    let first = &offer.choices[0];
    let limits = Arc::new(AwayAtRelease(world.limits.clone(), AtomicBool::new(true)));
    let claims = Claims { limits, ..world.claims(first.backend.id.as_str()) };
    let claim = claims.claim(Some(&first.token), &caller("one"), START).await.unwrap();
    claims.commit(&claim, START).await.unwrap();
    assert_eq!(claims.finish(&claim, DONE, START).await, Err(Reason::StoreAway), "to be repeated");
    assert_eq!(world.used(START).await, 1);
    assert!(claims.finish(&claim, DONE, START).await.is_ok());
    assert_eq!(world.used(START).await, 0);
}

#[tokio::test]
async fn a_call_beyond_the_plan_is_refused_and_leaves_a_failed_entry_and_no_slot() {
    let world = World::new().await;
    let _first = world.offered("one").await;
    let second = world.offered("two").await;
    assert_eq!(reason(&world.ask("three").await), Some(Reason::PlanLimit));
    assert_eq!((world.used(START).await, world.in_state(State::Failed).await), (2, 1));
    assert!(world.admission.cancelled(&second.entry, START).await);
    assert_eq!((world.used(START).await, world.in_state(State::Canceled).await), (1, 1));
    assert_eq!(reason(&world.ask("three").await), None, "the freed line takes the retry");
}

#[tokio::test]
async fn whatever_fails_after_the_entry_ends_it_and_frees_the_slot() {
    let world = World::new().await;
    for id in ["b1", "b2"] {
        world.backends.withdraw(&id.parse().unwrap(), Incarnation(1), START).await.unwrap();
    }
    assert_eq!(reason(&world.ask("one").await), Some(Reason::NoBackend));
    assert_eq!((world.used(START).await, world.in_state(State::Failed).await), (0, 1));
}

#[tokio::test]
async fn an_unlisted_source_causes_no_write_whatever_it_names() {
    let world = World::new().await;
    let stranger = IpAddr::from([203, 0, 113, 1]);
    let bad: &[Named<'_>] = &[("X-Business-Id", "7")];
    for params in [PARAMS, bad, &[]] {
        let asked = Asked { peer: stranger, uri_params: params, ..asked("one") };
        assert_eq!(reason(&world.admission.admit(&asked, START).await), Some(Reason::SourceNotAllowed));
    }
    assert_eq!(world.queue.count(&Filter::default()).await, Ok(0));
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_hop_before_it_counts() {
    let world = World::new().await;
    let hop = |address: [u8; 4]| ViaHop { received: Some(address.into()), sent_by: None };
    let via = [hop([10, 0, 0, 1]), hop([192, 0, 2, 7])];
    let asked = Asked { peer: [10, 0, 0, 1].into(), via: &via, ..asked("one") };
    assert!(matches!(world.admission.admit(&asked, START).await, Answer::Offer(_)));
    let bare = Asked { via: &via[..1], ..asked };
    assert_eq!(reason(&world.admission.admit(&bare, START).await), Some(Reason::SourceNotAllowed));
}

#[tokio::test]
async fn a_repeat_with_a_higher_cseq_is_offered_again_in_the_same_slot() {
    let world = World::new().await;
    let first = world.offered("one").await;
    let repeat = Asked { cseq: 2, branch: "z9hG4bK2", ..asked("one") };
    let Answer::Offer(again) = world.admission.admit(&repeat, START).await else {
        panic!("the repeat is adopted")
    };
    assert_eq!((again.entry.id, again.entry.attempt), (first.entry.id, 1));
    assert_eq!(world.used(START).await, 1);
    let merged = Asked { branch: "z9hG4bK3", ..repeat };
    assert_eq!(reason(&world.admission.admit(&merged, START).await), Some(Reason::Merged));
}

#[tokio::test]
async fn tokens_are_refused_with_the_reason_that_helps() {
    let world = World::new().await;
    let offer = world.offered("one").await;
    let (mine, other) = (&offer.choices[0], &offer.choices[1]);
    let claims = world.claims(mine.backend.id.as_str());
    let why = async |token: Option<&str>, caller: &CallerKey, at| claims.claim(token, caller, at).await.err();
    let one = caller("one");
    assert_eq!(why(None, &one, START).await, Some(Reason::TokenMissing));
    assert_eq!(why(Some("nonsense"), &one, START).await, Some(Reason::TokenForged));
    assert_eq!(why(Some(&other.token), &one, START).await, Some(Reason::WrongServer));
    let late = START + TOKEN_LIFE + Duration::from_millis(1);
    assert_eq!(why(Some(&mine.token), &one, late).await, Some(Reason::TokenExpired));
    assert_eq!(why(Some(&mine.token), &one, START).await, None);
    assert_eq!(why(Some(&mine.token), &one, START).await, None, "the same caller gets the same claim");
    assert_eq!(why(Some(&mine.token), &caller("two"), START).await, Some(Reason::ClaimedByAnother));
    let elsewhere = World::new().await.claims(mine.backend.id.as_str());
    let unknown = elsewhere.claim(Some(&mine.token), &one, START).await;
    assert_eq!(unknown.err(), Some(Reason::TokenUnknown));
}

#[tokio::test]
async fn a_refusal_lets_the_next_backend_try_and_the_last_one_ends_the_call() {
    let world = World::new().await;
    let offer = world.offered("one").await;
    let mut states = Vec::new();
    for choice in &offer.choices {
        let claims = world.claims(choice.backend.id.as_str());
        let claim = claims.claim(Some(&choice.token), &caller("one"), START).await.unwrap();
        states.push(claims.release(&claim, 503, Reason::NoMediaPort, START).await.unwrap());
    }
    assert_eq!(states, [State::ProcessedProxy, State::Failed]);
    assert_eq!(world.used(START).await, 0);
}

#[tokio::test]
async fn the_displaced_backend_cannot_answer() {
    let world = World::new().await;
    let offer = world.offered("one").await;
    let [first, second] = &offer.choices[..] else { panic!("two backends are offered") };
    let slow = world.claims(first.backend.id.as_str());
    let fast = world.claims(second.backend.id.as_str());
    let displaced = slow.claim(Some(&first.token), &caller("one"), START).await.unwrap();
    let claim = fast.claim(Some(&second.token), &caller("one"), START).await.unwrap();
    assert_eq!(slow.commit(&displaced, START).await, Err(Reason::Superseded));
    assert_eq!(fast.commit(&claim, START).await, Ok(()));
    assert_eq!(slow.cancelled(&displaced, START).await, Err(Reason::Superseded));
    assert_eq!(fast.cancelled(&claim, START).await, Err(Reason::AlreadyAnswered));
    assert_eq!(world.used(START).await, 1, "the displaced one has freed nothing");
}

#[tokio::test]
async fn a_call_that_nobody_comes_for_expires_and_frees_its_slot() {
    let world = World::new().await;
    world.offered("one").await;
    let due = START + TOKEN_LIFE;
    assert_eq!(sweep(&*world.queue, &*world.limits, due - Duration::from_millis(1)).await, Ok(0));
    assert_eq!(world.used(due - Duration::from_millis(1)).await, 1);
    assert_eq!(sweep(&*world.queue, &*world.limits, due).await, Ok(1));
    assert_eq!((world.used(due).await, world.in_state(State::Expired).await), (0, 1));
}

#[tokio::test]
async fn a_call_is_lost_only_when_its_backend_was_silent_for_a_whole_status_life() {
    let world = World::new().await;
    let offer = world.offered("one").await;
    let choice = &offer.choices[0];
    let claims = world.claims(choice.backend.id.as_str());
    let claim = claims.claim(Some(&choice.token), &caller("one"), START).await.unwrap();
    claims.commit(&claim, START).await.unwrap();
    let lost = async |since, now| {
        let stores =
            (&*world.queue as &dyn CallQueue, &*world.limits as &dyn PlanLimits, &*world.backends as &_);
        write_lost(stores, since, STATUS_LIFE, now).await.unwrap()
    };
    let silent = START + STATUS_LIFE;
    assert_eq!(lost(START, silent - Duration::from_millis(1)).await, 0, "its report still counts");
    assert_eq!(lost(silent, silent).await, 0, "the registry was away itself");
    assert_eq!((lost(START, silent).await, world.used(silent).await), (1, 0));
    let record = claims.finish(&claim, DONE, silent).await.unwrap();
    assert_eq!(record.outcome, Some(DONE), "the owner's later word is a correction");
}

/// A registry that knows nobody, and while it says so a backend that has just started answers a call.
struct Meanwhile<'a> {
    claims: &'a Claims,
    claim: &'a Claim,
}

#[async_trait]
impl BackendRegistry for Meanwhile<'_> {
    async fn report(&self, _: BackendStatus, _: Duration, _: Timestamp) -> Result<Report, StoreError> {
        unreachable!("nobody reports")
    }

    async fn list(
        &self,
        _: Option<&RegionId>,
        now: Timestamp,
    ) -> Result<Vec<Arc<BackendStatus>>, StoreError> {
        self.claims.commit(self.claim, now).await.unwrap();
        Ok(Vec::new())
    }

    async fn withdraw(&self, _: &BackendId, _: Incarnation, _: Timestamp) -> Result<bool, StoreError> {
        unreachable!("nobody leaves")
    }
}

#[tokio::test]
async fn a_call_that_is_answered_after_it_was_asked_who_lives_is_not_lost() {
    let world = World::new().await;
    let offer = world.offered("one").await;
    let choice = &offer.choices[0];
    let claims = world.claims(choice.backend.id.as_str());
    let claim = claims.claim(Some(&choice.token), &caller("one"), START).await.unwrap();
    let registry = Meanwhile { claims: &claims, claim: &claim };
    let stores = (&*world.queue as &dyn CallQueue, &*world.limits as &dyn PlanLimits, &registry as &_);
    assert_eq!(write_lost(stores, START - STATUS_LIFE, STATUS_LIFE, START).await, Ok(0));
    assert_eq!(world.used(START).await, 1);
}

#[tokio::test]
async fn explain_names_the_rule_and_writes_nothing() {
    let world = World::new().await;
    let good = world.admission.explain(&asked("one"), START).await.unwrap();
    assert!(good.refused.is_none() && good.backends.len() == 2);
    let unknown = Asked { uri_params: &[("X-Business-Id", "7"), ("X-Phone-Id", "till")], ..asked("one") };
    let told = world.admission.explain(&unknown, START).await.unwrap();
    let (rule, rejection) = told.refused.unwrap();
    assert_eq!((rule, rejection.reason), ("the number exists", Reason::NumberUnknown));
    assert!(told.passed.contains(&"the business is active"));
    world.offered("one").await;
    world.offered("two").await;
    let told = world.admission.explain(&asked("three"), START).await.unwrap();
    assert_eq!(told.refused.map(|(rule, _)| rule), Some("the account has a free line"));
    assert_eq!(world.queue.count(&Filter::default()).await, Ok(2));
}

#[tokio::test]
async fn a_draining_proxy_takes_no_new_call() {
    let world = World::new().await;
    world.admission.drain();
    assert_eq!(reason(&world.ask("one").await), Some(Reason::Draining));
    assert_eq!(world.queue.count(&Filter::default()).await, Ok(0));
}
