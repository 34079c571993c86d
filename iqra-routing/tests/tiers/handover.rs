//! From the INVITE at the proxy to the BYE at the backend.

use std::sync::Arc;
use std::time::Duration;

use iqra_media::conversation::{EndReason, Event};
use iqra_routing::handover::outcome::{EndedBy, Outcome};
use iqra_routing::identity::{CallerKey, EntryId, Incarnation};
use iqra_routing::number::Number;
use iqra_routing::queue::{CallKey, CallQueue, Mode, NewEntry, Node, State, Terms};
use iqra_routing::source::check;
use iqra_routing::time::SystemClock;

use crate::phone::{Phone, Voice};
use crate::world::{Note, World, number};

const CALLER_LEFT: Option<Outcome> = Some(Outcome::Completed(EndedBy::Caller));

#[tokio::test]
async fn a_call_is_redirected_answered_heard_both_ways_and_leaves_nothing() {
    let mut world = World::new().await;
    let (mut phone, driver) = (Phone::new().await, Voice::driver());
    let mut voice = Voice::new(&driver);
    phone.body.0 = voice.offer();
    let ok = phone.connected(world.proxies[0]).await;
    let Note::Made(parameters) = world.note().await else { panic!("the conversation is made first") };
    let named: Vec<_> = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(named, [("business", "7"), ("phone", "desk"), ("route", "front")]);
    voice.hears_the_agent(&ok.body).await;
    world.noted(Note::HeardTone).await;
    assert_eq!((world.slots().await, world.entry().await.state), (1, State::ProcessedBackend));
    phone.bye().await;
    world.noted(Note::Event(Event::End(EndReason::FarEnd))).await;
    assert_eq!(world.over().await, (State::ProcessedBackend, None, CALLER_LEFT));
    world.empty().await;
    world.close().await;
}

#[tokio::test]
async fn a_retransmitted_invite_gets_the_same_302_and_makes_one_entry() {
    let world = World::new().await;
    let mut phone = Phone::new().await;
    phone.call(world.proxies[0]).await;
    phone.repeat().await;
    let first = phone.response(&iqra_sip::Method::Invite, 300).await;
    phone.repeat().await;
    let second = phone.response(&iqra_sip::Method::Invite, 300).await;
    assert_eq!(first.to_bytes(), second.to_bytes());
    world.entry().await;
    world.close().await;
}

#[tokio::test]
async fn a_call_repeated_at_the_other_listener_is_adopted_and_both_offers_work() {
    for which in 0..2 {
        let world = World::new().await;
        let mut phone = Phone::new().await;
        let first = phone.redirected(world.proxies[0]).await;
        let second = phone.redirected(world.proxies[1]).await;
        phone.follow(&[first, second][which][0]).await;
        let ok = phone.answer().await;
        assert_eq!(ok.status.code(), 200, "offer {which}");
        phone.confirm(&ok, "").await;
        assert_eq!((world.entry().await.log.len() > 2, world.slots().await), (true, 1));
        phone.bye().await;
        assert_eq!(world.over().await.2, CALLER_LEFT);
        world.empty().await;
        world.close().await;
    }
}

/// The entry that another proxy has just made of this phone's call.
fn made_elsewhere(phone: &Phone) -> NewEntry {
    let (now, number) = (SystemClock::start().now(), Number { allow_any_source: true, ..number() });
    let source = check([127, 0, 0, 1].into(), &number, None).unwrap();
    let terms = Terms {
        account: "acme".parse().unwrap(),
        concurrent_calls: 1,
        region: number.region,
        route: number.route.unwrap(),
        codecs: number.codecs,
        answer_delay: Duration::ZERO,
        max_duration: None,
        mode: Mode::Redirect,
        proves: None,
    };
    let caller = CallerKey::sip(&phone.call_id, &phone.tag).unwrap();
    NewEntry {
        id: EntryId::new(now, &mut fastrand::Rng::with_seed(99)),
        key: CallKey { business: number.business, phone: number.phone, caller },
        source,
        terms: Arc::new(terms),
        node: Node { id: "p2".parse().unwrap(), incarnation: Incarnation(1) },
        cseq: phone.cseq,
        branch: phone.branch.as_str().into(),
        deadline: now + Duration::from_secs(30),
    }
}

#[tokio::test]
async fn a_retransmission_that_reaches_another_proxy_is_not_answered_and_leaves_nothing() {
    let world = World::new().await;
    let mut phone = Phone::new().await;
    (phone.cseq, phone.branch) = (1, "z9hG4bK-elsewhere".into());
    phone.target = (world.proxies[0], format!("sip:1000@{};{}", world.proxies[0], crate::phone::DESK));
    world.queue.enter(made_elsewhere(&phone), SystemClock::start().now()).await.unwrap();
    phone.repeat().await;
    assert!(phone.hears_nothing(Duration::from_millis(400)).await, "nor a 100 after 200 ms");
    assert_eq!((world.proxy_transactions(), world.entry().await.state), (0, State::ProcessingProxy));
    world.close().await;
}
