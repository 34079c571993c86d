//! Going out of service with calls up, calls under way and calls that come too late.

use std::time::Duration;

use iqra_routing::backend::BackendSettings;
use iqra_routing::handover::outcome::{EndedBy, Outcome};
use iqra_routing::queue::{CallQueue, Filter, State};
use iqra_routing::reason::Reason;
use iqra_sip::{HeaderName, Method};

use crate::phone::Phone;
use crate::world::{Setup, World, ringing};

fn drained_within(drain: Duration) -> Setup {
    let serving = BackendSettings { drain, ..BackendSettings::default() };
    Setup { serving, ..Setup::default() }
}

#[tokio::test]
async fn a_draining_backend_finishes_its_calls_and_serves_those_under_way() {
    let world = World::with(drained_within(Duration::from_secs(8))).await;
    let (mut up, mut under_way) = (Phone::new().await, Phone::new().await);
    up.connected(world.proxies[0]).await;
    let offered = under_way.redirected(world.proxies[0]).await;
    world.stop_backend();
    world
        .until("the backend says that it drains", async || {
            Phone::new().await.options(world.backend).await.status.code() == 503
        })
        .await;
    let mut stranger = Phone::new().await;
    stranger.call(world.backend).await;
    let refused = stranger.answer().await;
    assert_eq!(refused.status.code(), 503, "a call without a token is a new call");
    assert_eq!(refused.headers.get(HeaderName::RETRY_AFTER).as_deref(), Some("10"));
    under_way.follow(&offered[0]).await;
    let ok = under_way.answer().await;
    assert_eq!(ok.status.code(), 200);
    under_way.confirm(&ok, "").await;
    up.bye().await;
    under_way.bye().await;
    world.empty().await;
    world.close().await;
}

#[tokio::test]
async fn a_draining_backend_is_offered_to_nobody() {
    let world = World::with(drained_within(Duration::from_secs(8))).await;
    let mut up = Phone::new().await;
    up.connected(world.proxies[0]).await;
    world.stop_backend();
    world
        .until("the proxy knows", async || {
            let mut phone = Phone::new().await;
            phone.call(world.proxies[0]).await;
            phone.answer().await.status.code() == 503
        })
        .await;
    up.bye().await;
    world.close().await;
}

#[tokio::test]
async fn a_draining_proxy_refuses_new_calls_and_says_when_to_come_back() {
    let world = World::new().await;
    let mut phone = Phone::new().await;
    // The transaction of a call keeps the proxy open for its drain time.
    phone.call(world.proxies[0]).await;
    phone.response(&Method::Invite, 300).await;
    world.stop_proxy();
    let (mut asking, mut calling) = (Phone::new().await, Phone::new().await);
    world
        .until("OPTIONS hears it", async || {
            let answer = asking.options(world.proxies[0]).await;
            answer.status.code() == 503 && answer.headers.contains(HeaderName::RETRY_AFTER)
        })
        .await;
    calling.call(world.proxies[0]).await;
    let refused = calling.answer().await;
    assert_eq!(refused.status.code(), 503);
    assert!(refused.headers.contains(HeaderName::RETRY_AFTER));
    world.close().await;
}

#[tokio::test]
async fn a_proxy_that_stops_writes_off_who_never_came() {
    // Too short for the upkeep of once a second to come between.
    for _ in 0..5 {
        let world = World::with(Setup { token_life: Duration::from_millis(20), ..Setup::default() }).await;
        let queue = world.queue.clone();
        Phone::new().await.redirected(world.proxies[0]).await;
        world.close().await;
        let live = Filter { live: Some(true), ..Filter::default() };
        assert_eq!(queue.count(&live).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn past_the_drain_limit_calls_are_hung_up() {
    let world = World::with(drained_within(Duration::from_millis(200))).await;
    let mut phone = Phone::new().await;
    phone.connected(world.proxies[0]).await;
    world.stop_backend();
    let bye = phone.hung_up().await;
    assert!(bye.headers.get(HeaderName::REASON).unwrap().contains("program stopped"));
    assert_eq!(world.over().await.2, Some(Outcome::Completed(EndedBy::Drain)));
    world.empty().await;
    world.close().await;
}

#[tokio::test]
async fn past_the_drain_limit_a_ringing_call_is_refused_and_ended() {
    let number = ringing(Duration::from_secs(30));
    let world = World::with(Setup { number, ..drained_within(Duration::from_millis(200)) }).await;
    let mut phone = Phone::new().await;
    let offered = phone.redirected(world.proxies[0]).await;
    phone.follow(&offered[0]).await;
    phone.response(&Method::Invite, 180).await;
    world.stop_backend();
    assert_eq!(phone.answer().await.status.code(), 503);
    assert_eq!(world.over().await, (State::Failed, Some(Reason::Draining), None));
    world.empty().await;
    world.close().await;
}
