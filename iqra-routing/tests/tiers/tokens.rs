//! Who may answer with which token, and how often.

use std::time::Duration;

use iqra_routing::handover::outcome::{EndedBy, Outcome};
use iqra_routing::handover::token::{Purpose, Token, TokenKeys};
use iqra_routing::time::{SystemClock, Timestamp};
use iqra_sip::{Method, Uri};

use crate::phone::Phone;
use crate::world::{Setup, World, keys, ringing};

const SLOW: Duration = Duration::from_millis(500);

fn token_of(contact: &Uri) -> String {
    contact.param_decoded("X-CallQueue-Id").unwrap().into_owned()
}

async fn answered_with(world: &World, phone: &mut Phone, token: &str) -> u16 {
    let target = format!("sip:1000@{};X-CallQueue-Id={token}", world.backend);
    phone.invite(world.backend, target).await;
    phone.answer().await.status.code()
}

/// A token for the world's entry, changed.
async fn signed(world: &World, keys: &TokenKeys, change: impl FnOnce(&mut Token)) -> String {
    let entry = world.entry().await;
    let mut token = Token {
        entry: entry.id,
        attempt: entry.attempt,
        region: "eu".parse().unwrap(),
        server: "b1".parse().unwrap(),
        expires: entry.offered_until,
        purpose: Purpose::Start,
    };
    change(&mut token);
    keys.sign(&token)
}

#[tokio::test]
async fn a_token_is_refused_with_482_to_any_other_caller() {
    let world = World::new().await;
    let (mut phone, mut other_call) = (Phone::new().await, Phone::new().await);
    let mut other_tag = phone.twin().await;
    other_tag.tag = "another".into();
    let offered = phone.redirected(world.proxies[0]).await;
    phone.follow(&offered[0]).await;
    let ok = phone.answer().await;
    phone.confirm(&ok, "").await;
    for thief in [&mut other_call, &mut other_tag] {
        assert_eq!(answered_with(&world, thief, &token_of(&offered[0])).await, 482);
    }
    phone.bye().await;
    assert_eq!(world.over().await.2, Some(Outcome::Completed(EndedBy::Caller)));
    world.close().await;
}

#[tokio::test]
async fn tokens_that_are_not_good_are_refused_and_burn_nothing() {
    let world = World::new().await;
    let mut phone = Phone::new().await;
    let good = token_of(&phone.redirected(world.proxies[0]).await[0]);
    let mut mutated = good.clone().into_bytes();
    let last = mutated.len() - 1;
    mutated[last / 2] = if mutated[last / 2] == b'a' { b'b' } else { b'a' };
    let long_ago = Timestamp::from_millis(SystemClock::start().now().as_millis() - 600_000);
    let foreign = TokenKeys::new([[8; 32]]).unwrap();
    let bad = [
        String::from_utf8(mutated).unwrap(),
        "nonsense".into(),
        signed(&world, &foreign, |_| {}).await,
        signed(&world, &keys(), |token| token.expires = long_ago).await,
        signed(&world, &keys(), |token| token.server = "b2".parse().unwrap()).await,
        signed(&world, &keys(), |token| token.region = "us".parse().unwrap()).await,
    ];
    for (number, token) in bad.iter().enumerate() {
        assert_eq!(answered_with(&world, &mut phone, token).await, 403, "token {number}");
    }
    assert_eq!(answered_with(&world, &mut phone, &good).await, 200, "the good one still works");
    world.close().await;
}

#[tokio::test]
async fn a_call_without_a_token_is_sent_to_the_proxy() {
    let world = World::new().await;
    let mut phone = Phone::new().await;
    phone.call(world.backend).await;
    let refused = phone.answer().await;
    assert_eq!(refused.status.code(), 404);
    assert!(refused.headers.get("Warning").unwrap().contains("Call the proxy"));
    world.close().await;
}

#[tokio::test]
async fn a_repetition_before_the_answer_is_served_and_the_first_hears_482() {
    let world = World::with(Setup { number: ringing(SLOW), ..Setup::default() }).await;
    let mut first = Phone::new().await;
    let offered = first.redirected(world.proxies[0]).await;
    let mut second = first.twin().await;
    first.follow(&offered[0]).await;
    assert_eq!(first.response(&Method::Invite, 180).await.status.code(), 180);
    second.cseq = first.cseq;
    second.follow(&offered[0]).await;
    assert_eq!(first.answer().await.status.code(), 482);
    let ok = second.answer().await;
    assert_eq!(ok.status.code(), 200);
    second.confirm(&ok, "").await;
    assert_eq!(world.slots().await, 1);
    second.bye().await;
    assert_eq!(world.over().await.2, Some(Outcome::Completed(EndedBy::Caller)));
    world.empty().await;
    world.close().await;
}

#[tokio::test]
async fn a_repetition_after_the_answer_hears_482_and_the_call_goes_on() {
    let world = World::new().await;
    let mut phone = Phone::new().await;
    let offered = phone.redirected(world.proxies[0]).await;
    phone.follow(&offered[0]).await;
    let ok = phone.answer().await;
    phone.confirm(&ok, "").await;
    let mut late = phone.twin().await;
    assert_eq!(answered_with(&world, &mut late, &token_of(&offered[0])).await, 482);
    assert_eq!((world.entry().await.ended, world.slots().await), (None, 1));
    phone.bye().await;
    world.empty().await;
    world.close().await;
}
