//! Proves that a [`PlanLimits`] keeps its contract. An implementation that counts nothing, as
//! [`Unlimited`](super::Unlimited), does not.

use std::sync::Arc;
use std::time::Duration;

use super::{Ask, PlanLimits, Renewal, Slot};
use crate::handover::table::Expect;
use crate::identity::{AccountId, EntryId, Incarnation};
use crate::time::Timestamp;

/// The suite's first moment. It uses accounts and entries of its own and frees them all.
const START: Timestamp = Timestamp::from_millis(1_000_000);
const LIFE: Duration = Duration::from_secs(10);

/// Runs every check. The store is shared between tasks, so it comes in an `Arc`; use a runtime with several threads.
///
/// # Panics
/// On the first promise that the store breaks.
pub async fn conforms(limits: Arc<dyn PlanLimits>) {
    a_repeat_holds_one_slot(&*limits).await;
    leases_expire_by_themselves(&*limits).await;
    a_claim_owns_its_slot(&*limits).await;
    a_lost_lease_comes_back_only_within_the_limit(&*limits).await;
    racing_reservations_never_exceed_the_limit(limits).await;
}

fn account(name: &str) -> AccountId {
    name.parse().expect("a test id")
}

fn owner(attempt: u32, claim_no: u32) -> Expect {
    Expect { attempt, claim_no, incarnation: Incarnation(7) }
}

fn ask(account: &AccountId, lease: u128, limit: u32) -> Ask<'_> {
    Ask { lease: EntryId(lease), account, limit, life: LIFE }
}

async fn used(limits: &dyn PlanLimits, account: &AccountId, now: Timestamp) -> u32 {
    limits.used(account, now).await.expect("the store answers")
}

async fn a_repeat_holds_one_slot(limits: &dyn PlanLimits) {
    let acme = account("suite-repeat");
    for _ in 0..3 {
        assert_eq!(limits.reserve(ask(&acme, 101, 1), START).await, Ok(Slot::Reserved));
    }
    assert_eq!(limits.reserve(ask(&acme, 102, 1), START).await, Ok(Slot::Full));
    assert_eq!(used(limits, &acme, START).await, 1);
    assert_eq!(limits.reserve(ask(&account("suite-other"), 103, 1), START).await, Ok(Slot::Reserved));
    assert_eq!(limits.reserve(ask(&account("suite-zero"), 104, 0), START).await, Ok(Slot::Full));
    assert_eq!(limits.free(EntryId(101), START).await, Ok(true));
    assert_eq!(limits.free(EntryId(101), START).await, Ok(false));
    assert_eq!(limits.free(EntryId(103), START).await, Ok(true));
    assert_eq!(used(limits, &acme, START).await, 0);
}

async fn leases_expire_by_themselves(limits: &dyn PlanLimits) {
    let acme = account("suite-expiry");
    let half = START + LIFE / 2;
    assert_eq!(limits.reserve(ask(&acme, 201, 2), START).await, Ok(Slot::Reserved));
    assert_eq!(limits.reserve(ask(&acme, 202, 2), START).await, Ok(Slot::Reserved));
    assert_eq!(
        limits.reserve(ask(&acme, 202, 2), half).await,
        Ok(Slot::Reserved),
        "a repeat starts its life anew"
    );
    assert_eq!(used(limits, &acme, START + LIFE).await, 1);
    assert_eq!(limits.reserve(ask(&acme, 203, 2), START + LIFE).await, Ok(Slot::Reserved));
    let late = START + LIFE * 3;
    let swept = limits.sweep(late).await.expect("the store answers");
    assert!(swept >= 2, "the sweep forgets what has expired, and may have forgotten the first before");
    assert_eq!(used(limits, &acme, late).await, 0);
}

async fn a_claim_owns_its_slot(limits: &dyn PlanLimits) {
    let acme = account("suite-owner");
    let (first, second) = (owner(1, 1), owner(1, 2));
    assert_eq!(limits.reserve(ask(&acme, 301, 1), START).await, Ok(Slot::Reserved));
    assert_eq!(limits.take_over(ask(&acme, 301, 1), first, START).await, Ok(Slot::Reserved));
    let half = START + LIFE / 2;
    assert_eq!(limits.renew(EntryId(301), first, LIFE, half).await, Ok(Renewal::Renewed));
    assert_eq!(used(limits, &acme, START + LIFE).await, 1, "a renewal counts from when it was asked");
    assert_eq!(
        limits.take_over(ask(&acme, 301, 1), second, half).await,
        Ok(Slot::Reserved),
        "the later claim wins"
    );
    assert_eq!(
        limits.take_over(ask(&acme, 301, 1), first, half).await,
        Ok(Slot::Full),
        "the earlier does not"
    );
    assert_eq!(limits.renew(EntryId(301), first, LIFE, half).await, Ok(Renewal::NotOwner));
    assert_eq!(limits.release(EntryId(301), first, half).await, Ok(false));
    assert_eq!(
        limits.reserve(ask(&acme, 301, 1), half).await,
        Ok(Slot::Reserved),
        "a proxy's repeat is harmless"
    );
    assert_eq!(
        limits.renew(EntryId(301), second, LIFE, half).await,
        Ok(Renewal::Renewed),
        "and takes nothing away"
    );
    assert_eq!(limits.release(EntryId(301), second, half).await, Ok(true));
    assert_eq!(limits.release(EntryId(301), second, half).await, Ok(false));
    assert_eq!(used(limits, &acme, half).await, 0);
}

async fn a_lost_lease_comes_back_only_within_the_limit(limits: &dyn PlanLimits) {
    let acme = account("suite-lost");
    let mine = owner(1, 1);
    assert_eq!(
        limits.take_over(ask(&acme, 401, 1), mine, START).await,
        Ok(Slot::Reserved),
        "without a reservation"
    );
    let late = START + LIFE;
    assert_eq!(
        limits.renew(EntryId(401), mine, LIFE, late).await,
        Ok(Renewal::Lost),
        "an expired lease is gone"
    );
    assert_eq!(limits.reserve(ask(&acme, 402, 1), late).await, Ok(Slot::Reserved));
    assert_eq!(limits.take_over(ask(&acme, 401, 1), mine, late).await, Ok(Slot::Full));
    assert_eq!(limits.free(EntryId(402), late).await, Ok(true));
    assert_eq!(limits.take_over(ask(&acme, 401, 1), mine, late).await, Ok(Slot::Reserved));
    assert_eq!(limits.release(EntryId(401), mine, late).await, Ok(true));
}

async fn racing_reservations_never_exceed_the_limit(limits: Arc<dyn PlanLimits>) {
    const LIMIT: u32 = 5;
    const CALLS: u128 = 64;
    let acme = account("suite-race");
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..CALLS {
        let (limits, acme) = (limits.clone(), acme.clone());
        calls.spawn(async move {
            let slot = limits.reserve(ask(&acme, 500 + n, LIMIT), START).await.expect("the store answers");
            let seen = limits.used(&acme, START).await.expect("the store answers");
            assert!(seen <= LIMIT, "{seen} leases of {LIMIT}");
            (slot == Slot::Reserved).then_some(500 + n)
        });
    }
    let reserved: Vec<u128> = calls.join_all().await.into_iter().flatten().collect();
    assert_eq!(reserved.len(), LIMIT as usize, "exactly the limit is reserved");
    for lease in reserved {
        assert_eq!(limits.free(EntryId(lease), START).await, Ok(true));
    }
    assert_eq!(used(&*limits, &acme, START).await, 0, "after all calls have ended there are no leases");
}
