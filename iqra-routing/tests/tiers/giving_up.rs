//! Callers that go away before the call is up.

use std::time::Duration;

use iqra_routing::handover::outcome::{EndedBy, Outcome};
use iqra_routing::queue::State;
use iqra_routing::reason::Reason;
use iqra_sip::Method;

use crate::phone::Phone;
use crate::world::{Acts, Setup, World, ringing};

async fn cancelled(setup: Setup) {
    let world = World::with(setup).await;
    let mut phone = Phone::new().await;
    let offered = phone.redirected(world.proxies[0]).await;
    phone.follow(&offered[0]).await;
    phone.response(&Method::Invite, 100).await;
    phone.cancel().await;
    assert_eq!(phone.answer().await.status.code(), 487);
    assert_eq!(world.over().await, (State::Canceled, Some(Reason::Cancelled), None));
    world.empty().await;
    world.close().await;
}

#[tokio::test]
async fn a_call_cancelled_while_it_rings_is_over() {
    cancelled(Setup { number: ringing(Duration::from_secs(30)), ..Setup::default() }).await;
}

#[tokio::test]
async fn a_call_cancelled_while_its_conversation_is_made_is_over() {
    cancelled(Setup { acts: Acts::FactoryHangs, ..Setup::default() }).await;
}

#[tokio::test]
async fn a_caller_that_never_follows_loses_its_place() {
    let setup = Setup { token_life: Duration::from_millis(300), ..Setup::default() };
    let world = World::with(setup).await;
    let mut phone = Phone::new().await;
    let offered = phone.redirected(world.proxies[0]).await;
    assert_eq!(world.slots().await, 1);
    assert_eq!(world.over().await, (State::Expired, Some(Reason::NobodyCame), None));
    world.empty().await;
    phone.follow(&offered[0]).await;
    assert_eq!(phone.answer().await.status.code(), 403, "too late");
    world.close().await;
}

#[tokio::test]
async fn an_answer_that_nobody_acknowledges_is_hung_up() {
    let world = World::with(Setup { t1: Duration::from_millis(10), ..Setup::default() }).await;
    let mut phone = Phone::new().await;
    let offered = phone.redirected(world.proxies[0]).await;
    phone.follow(&offered[0]).await;
    assert_eq!(phone.answer().await.status.code(), 200);
    phone.hung_up().await;
    assert_eq!(world.over().await.2, Some(Outcome::Completed(EndedBy::Network)));
    world.empty().await;
    world.close().await;
}
