//! Proves that a [`CallQueue`] keeps its contract: what the table in [`handover::table`](crate::handover::table) says
//! (its own test has every cell) holds in the store, also when many write at once.

use std::sync::Arc;
use std::time::Duration;

use super::{CallQueue, Entered, Entry, Filter, Holder, NewEntry, Page, QueueError, State, sample};
use crate::handover::outcome::{EndedBy, Outcome};
use crate::handover::table::{Event, Expect, Writer};
use crate::handover::token::{Purpose, Token};
use crate::identity::{CallerKey, EntryId, Incarnation};
use crate::reason::Reason;
use crate::time::Timestamp;

const START: Timestamp = Timestamp::from_millis(1_000_000);
const LIFE: Duration = Duration::from_secs(30);

/// Runs every check against a queue that is empty and keeps at least 200 live and 200 finished entries. The queue is
/// shared between tasks, so it comes in an `Arc`; use a runtime with several threads.
///
/// # Panics
/// On the first promise that the queue breaks.
pub async fn conforms(queue: Arc<dyn CallQueue>) {
    a_call_goes_from_entry_to_outcome(&*queue).await;
    repeats_adopt_or_are_refused(&*queue).await;
    an_ended_call_frees_its_key(&*queue).await;
    the_sweep_expires_what_nobody_came_for(&*queue).await;
    listing_filters_and_pages(&*queue).await;
    a_trunk_that_follows_redirects_is_remembered(&*queue).await;
    of_racing_entries_one_is_new(queue.clone()).await;
    of_racing_claims_and_commits_one_wins(queue).await;
}

/// A new call of this name.
fn call(name: &str, cseq: u32, branch: &str, id: u128) -> NewEntry {
    NewEntry { cseq, branch: branch.into(), id: EntryId(id), ..sample::new_entry(name, START + LIFE) }
}

async fn enter(queue: &dyn CallQueue, new: NewEntry) -> Arc<Entry> {
    match queue.enter(new, START).await.expect("the queue answers") {
        Entered::New(entry) => entry,
        other => panic!("expected a new entry, got {other:?}"),
    }
}

fn offer(new: &NewEntry) -> Event {
    let backends = ["b1", "b2"].map(|id| id.parse().expect("a test id")).into();
    Event::Offer { node: new.node.clone(), attempt: 1, backends, until: START + LIFE }
}

fn claim(entry: EntryId, backend: &str, caller: &CallerKey) -> Event {
    let server: crate::identity::BackendId = backend.parse().expect("a test id");
    let region: crate::identity::RegionId = "eu".parse().expect("a test id");
    Event::Claim {
        token: Token {
            entry,
            attempt: 1,
            region: region.clone(),
            server: server.clone(),
            expires: START + LIFE,
            purpose: Purpose::Start,
        },
        caller: caller.clone(),
        holder: Holder { backend: server, incarnation: Incarnation(5) },
        region,
    }
}

fn expect(claim_no: u32) -> Expect {
    Expect { attempt: 1, claim_no, incarnation: Incarnation(5) }
}

async fn apply(queue: &dyn CallQueue, id: EntryId, event: &Event) -> Result<Arc<Entry>, Reason> {
    queue.apply(id, event, START).await.map_err(|error| error.reason())
}

fn done() -> Outcome {
    Outcome::Completed(EndedBy::Caller)
}

/// Takes a call to its outcome.
async fn complete(queue: &dyn CallQueue, new: &NewEntry) {
    let steps = [
        offer(new),
        claim(new.id, "b1", &new.key.caller),
        Event::Commit(expect(1)),
        Event::Finish { expect: expect(1), outcome: done() },
    ];
    for step in &steps {
        let entry = apply(queue, new.id, step).await.expect("the step is taken");
        assert_eq!(apply(queue, new.id, step).await.as_ref(), Ok(&entry), "a repeated step changes nothing");
    }
}

async fn a_call_goes_from_entry_to_outcome(queue: &dyn CallQueue) {
    let new = call("suite-whole", 1, "b", 1);
    let entry = enter(queue, new.clone()).await;
    assert_eq!(entry.state, State::ProcessingProxy);
    assert_eq!(enter(queue, new.clone()).await, entry, "an insert whose reply was lost can be repeated");
    complete(queue, &new).await;
    let over = queue.entry(new.id).await.expect("the queue answers").expect("the entry is kept");
    assert_eq!((over.state, over.outcome, over.is_live()), (State::ProcessedBackend, Some(done()), false));
    assert_eq!(apply(queue, EntryId(404), &Event::Expire).await, Err(Reason::TokenUnknown));
}

async fn repeats_adopt_or_are_refused(queue: &dyn CallQueue) {
    let new = call("suite-repeat", 1, "b1", 10);
    let repeat = async |cseq, branch, id| {
        queue.enter(call("suite-repeat", cseq, branch, id), START).await.expect("the queue answers")
    };
    enter(queue, new.clone()).await;
    assert_eq!(repeat(1, "b1", 11).await, Entered::Absorbed);
    assert_eq!(repeat(1, "b2", 12).await, Entered::Refused(Reason::Merged));
    apply(queue, new.id, &offer(&new)).await.expect("the offer is stored");
    match repeat(2, "b3", 13).await {
        Entered::Adopted(entry) => assert_eq!((entry.id, entry.attempt, entry.cseq), (new.id, 1, 2)),
        other => panic!("a higher CSeq adopts, got {other:?}"),
    }
    assert_eq!(repeat(1, "b1", 14).await, Entered::Refused(Reason::Merged), "an older CSeq is late");
    complete_from_offer(queue, &new).await;
    assert_eq!(repeat(3, "b4", 15).await, Entered::Refused(Reason::AlreadyAnswered));
    apply(queue, new.id, &Event::Finish { expect: expect(1), outcome: done() }).await.expect("the call ends");
}

async fn complete_from_offer(queue: &dyn CallQueue, new: &NewEntry) {
    apply(queue, new.id, &claim(new.id, "b1", &new.key.caller)).await.expect("the claim is taken");
    apply(queue, new.id, &Event::Commit(expect(1))).await.expect("the commit is taken");
}

async fn an_ended_call_frees_its_key(queue: &dyn CallQueue) {
    let first = call("suite-again", 1, "b1", 20);
    enter(queue, first.clone()).await;
    let writer = Writer::Proxy { node: first.node.clone(), attempt: 1 };
    let end = Event::End { writer, reason: Reason::PlanLimit };
    let failed = apply(queue, first.id, &end).await.expect("the proxy ends it");
    assert_eq!((failed.state, failed.reason), (State::Failed, Some(Reason::PlanLimit)));
    let second = enter(queue, call("suite-again", 1, "b1", 21)).await;
    assert_eq!(second.id, EntryId(21));
    let writer = Writer::Proxy { node: first.node.clone(), attempt: 1 };
    let cancel = Event::End { writer, reason: Reason::Cancelled };
    assert_eq!(apply(queue, second.id, &cancel).await.map(|entry| entry.state), Ok(State::Canceled));
    assert_eq!(apply(queue, second.id, &offer(&first)).await, Err(Reason::Finished));
}

async fn the_sweep_expires_what_nobody_came_for(queue: &dyn CallQueue) {
    let new = call("suite-orphan", 1, "b1", 30);
    enter(queue, new.clone()).await;
    apply(queue, new.id, &offer(&new)).await.expect("the offer is stored");
    let early = queue.sweep(START + LIFE - Duration::from_millis(1), 10).await.expect("the queue answers");
    assert!(early.is_empty());
    let swept = queue.sweep(START + LIFE, 10).await.expect("the queue answers");
    assert_eq!(
        swept.iter().map(|entry| (entry.id, entry.state)).collect::<Vec<_>>(),
        [(new.id, State::Expired)]
    );
    let late = queue.apply(new.id, &claim(new.id, "b1", &new.key.caller), START + LIFE).await;
    assert_eq!(late, Err(QueueError::Refused(Reason::TokenExpired)));
    assert!(queue.sweep(START + LIFE, 10).await.expect("the queue answers").is_empty());
}

async fn listing_filters_and_pages(queue: &dyn CallQueue) {
    let business = "suite-list";
    let of_business = |n: u128| {
        let mut new = call(&format!("suite-list-{n}"), 1, "b", 40 + n);
        new.key.business = business.parse().expect("a test id");
        new
    };
    for n in 0..5 {
        enter(queue, of_business(n)).await;
    }
    complete(queue, &of_business(2)).await;
    let filter = Filter { business: Some(business.parse().expect("a test id")), ..Filter::default() };
    let first = queue.list(&filter, Page { before: None, most: 3 }).await.expect("the queue answers");
    let page = Page { before: first.last().map(|entry| entry.id), most: 3 };
    let rest = queue.list(&filter, page).await.expect("the queue answers");
    let ids: Vec<_> = first.iter().chain(&rest).map(|entry| entry.id.0).collect();
    assert_eq!(ids, [44, 43, 42, 41, 40], "newest first, each once");
    let live = Filter { live: Some(true), ..filter.clone() };
    assert_eq!((queue.count(&filter).await, queue.count(&live).await), (Ok(5), Ok(4)));
    for n in [0, 1, 3, 4] {
        complete(queue, &of_business(n)).await;
    }
    let held = Filter { backend: Some("b1".parse().expect("a test id")), ..filter };
    assert_eq!(queue.count(&held).await, Ok(5));
}

async fn a_trunk_that_follows_redirects_is_remembered(queue: &dyn CallQueue) {
    let [one, other]: [crate::identity::TrunkId; 2] =
        ["suite-follows", "suite-unknown"].map(|id| id.parse().expect("a test id"));
    let followed = async |trunk| queue.redirects_followed(trunk).await.expect("the queue answers");
    assert!(!followed(&one).await, "nothing is known at first");
    for _ in 0..2 {
        queue.note_redirect_followed(&one).await.expect("the queue answers");
        assert!(followed(&one).await && !followed(&other).await);
    }
}

async fn of_racing_entries_one_is_new(queue: Arc<dyn CallQueue>) {
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..32 {
        let queue = queue.clone();
        calls.spawn(
            async move { queue.enter(call("suite-race", 1, &format!("b{n}"), 1000 + n), START).await },
        );
    }
    let entered = calls.join_all().await;
    let new = entered.iter().filter(|entered| matches!(entered, Ok(Entered::New(_)))).count();
    let merged = entered.iter().filter(|entered| **entered == Ok(Entered::Refused(Reason::Merged))).count();
    assert_eq!((new, merged), (1, 31));
}

async fn of_racing_claims_and_commits_one_wins(queue: Arc<dyn CallQueue>) {
    let new = call("suite-claims", 1, "b", 2000);
    enter(&*queue, new.clone()).await;
    apply(&*queue, new.id, &offer(&new)).await.expect("the offer is stored");
    let mut claims = tokio::task::JoinSet::new();
    for n in 0..32u32 {
        let queue = queue.clone();
        let caller = CallerKey::sip(&format!("suite-claimer-{n}"), "t").expect("a test key");
        claims.spawn(async move {
            let claimed = queue.apply(EntryId(2000), &claim(EntryId(2000), "b1", &caller), START).await;
            claimed.map_err(|error| error.reason())
        });
    }
    let claimed = claims.join_all().await;
    assert_eq!(claimed.iter().filter(|claim| claim.is_ok()).count(), 1, "one caller gets the call");
    assert!(
        claimed
            .iter()
            .flat_map(|claim| claim.as_ref().err())
            .all(|reason| *reason == Reason::ClaimedByAnother)
    );
    take_over_against_commit(queue, claimed.into_iter().flatten().next().expect("one caller has the call"))
        .await;
}

/// The same caller comes to the other backend while the first one commits: whoever is first, one of them commits.
async fn take_over_against_commit(queue: Arc<dyn CallQueue>, claimed: Arc<Entry>) {
    let id = claimed.id;
    let caller = claimed.bound.clone().expect("a claimed entry is bound to its caller");
    let first = tokio::spawn({
        let queue = queue.clone();
        async move { queue.apply(id, &Event::Commit(expect(1)), START).await.map(drop) }
    });
    let second = tokio::spawn({
        let queue = queue.clone();
        async move {
            queue.apply(id, &claim(id, "b2", &caller), START).await?;
            queue.apply(id, &Event::Commit(expect(2)), START).await.map(drop)
        }
    });
    let (first, second) = (first.await.expect("no panic"), second.await.expect("no panic"));
    assert_ne!(first.is_ok(), second.is_ok(), "one of them answers the call: {first:?} {second:?}");
    let owner = if first.is_ok() { expect(1) } else { expect(2) };
    let ended = queue.apply(id, &Event::Finish { expect: owner, outcome: done() }, START).await;
    assert!(ended.is_ok_and(|entry| !entry.is_live()));
}
