//! What a caller hears when a call is not taken, and what is left of it then.

use iqra_routing::backend::BackendSettings;
use iqra_routing::number::{Account, Number, Provider};
use iqra_routing::queue::State;
use iqra_routing::reason::{PlanLimitStatus, Reason};
use iqra_routing::sip::RefusalStyle;
use iqra_sip::{HeaderName, Response};

use crate::phone::Phone;
use crate::world::{Acts, Setup, World, number};

/// The proxy's answer to one call.
async fn asked(world: &World, params: &str) -> Response {
    let mut phone = Phone::new().await;
    let proxy = world.proxies[0];
    phone.invite(proxy, format!("sip:1000@{proxy};{params}")).await;
    phone.answer().await
}

fn account(change: impl FnOnce(&mut Account)) -> Setup {
    let mut setup = Setup::default();
    change(&mut setup.account);
    setup
}

fn with_number(number: Number) -> Setup {
    Setup { number, ..Setup::default() }
}

/// The refusal says the row of its reason; the entry, where there is one, has it too, and no slot is left.
async fn refused(setup: Setup, reason: Reason, entered: bool) {
    let world = World::with(setup).await;
    let answer = asked(&world, crate::phone::DESK).await;
    let row = reason.row();
    assert_eq!(answer.status.code(), row.status, "{reason:?}");
    let cause = answer.headers.get(HeaderName::REASON).unwrap();
    assert_eq!(cause, format!("Q.850;cause={}", row.cause), "{reason:?}");
    assert!(answer.headers.get(HeaderName::WARNING).unwrap().contains(row.warning), "{reason:?}");
    assert_eq!(answer.headers.contains(HeaderName::RETRY_AFTER), row.retry_after, "{reason:?}");
    let left: Vec<_> = world.entries().await.iter().map(|entry| (entry.state, entry.reason)).collect();
    let expected = if entered { vec![(State::Failed, Some(reason))] } else { Vec::new() };
    assert_eq!((left, world.slots().await), (expected, 0), "{reason:?}");
    world.close().await;
}

#[tokio::test]
async fn what_the_decision_refuses_writes_nothing() {
    let unlisted = Setup { allowed: "192.0.2.0/24", ..Setup::default() };
    refused(unlisted, Reason::SourceNotAllowed, false).await;
    refused(Setup { business_active: false, ..Setup::default() }, Reason::BusinessInactive, false).await;
    refused(with_number(Number { voice: false, ..number() }), Reason::VoiceDisabled, false).await;
    refused(with_number(Number { route: None, ..number() }), Reason::RouteMissing, false).await;
    let twilio = Number { provider: Provider::Twilio, ..number() };
    refused(with_number(twilio), Reason::OtherProvider, false).await;
    refused(account(|account| account.active = false), Reason::AccountInactive, false).await;
    refused(account(|account| account.minutes_left = Some(0)), Reason::MinutesSpent, false).await;
}

#[tokio::test]
async fn what_is_refused_after_the_entry_ends_it() {
    refused(account(|account| account.concurrent_calls = 0), Reason::PlanLimit, true).await;
    refused(Setup { region_enabled: false, ..Setup::default() }, Reason::RegionOff, true).await;
    refused(Setup { backend: false, ..Setup::default() }, Reason::NoBackend, true).await;
}

#[tokio::test]
async fn unknown_names_are_not_found_and_half_names_are_named() {
    let world = World::new().await;
    for (params, status) in [
        ("X-Business-Id=8;X-Phone-Id=desk", 404),
        ("X-Business-Id=7;X-Phone-Id=till", 404),
        ("X-Phone-Id=desk", 400),
    ] {
        assert_eq!(asked(&world, params).await.status.code(), status, "{params}");
    }
    assert!(world.entries().await.is_empty());
    world.close().await;
}

#[tokio::test]
async fn a_plan_limit_may_be_told_as_503_without_retry_after() {
    let refusals = RefusalStyle { plan_limit: PlanLimitStatus::Unavailable, ..RefusalStyle::default() };
    let world = World::with(Setup { refusals, ..account(|account| account.concurrent_calls = 0) }).await;
    let answer = asked(&world, crate::phone::DESK).await;
    assert_eq!(answer.status.code(), 503);
    assert!(!answer.headers.contains(HeaderName::RETRY_AFTER));
    world.close().await;
}

/// Calls through to the backend with this body; its refusal.
async fn through(world: &World, body: Option<(&str, &'static str)>) -> Response {
    let mut phone = Phone::new().await;
    let offered = phone.redirected(world.proxies[0]).await;
    if let Some((text, kind)) = body {
        phone.body = (text.into(), kind);
    }
    phone.follow(&offered[0]).await;
    phone.answer().await
}

async fn fails(setup: Setup, body: Option<(&str, &'static str)>, status: u16, reason: Reason) {
    let world = World::with(setup).await;
    let answer = through(&world, body).await;
    assert_eq!(answer.status.code(), status);
    let cause = answer.headers.get(HeaderName::REASON).unwrap().into_owned();
    assert!(cause.starts_with(&format!("Q.850;cause={}", reason.row().cause)), "{cause}");
    assert!(answer.headers.contains(HeaderName::WARNING));
    assert_eq!(world.over().await, (State::Failed, Some(reason), None));
    world.empty().await;
    world.close().await;
}

const G729: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                    m=audio 40000 RTP/AVP 18\r\na=rtpmap:18 G729/8000\r\n";

#[tokio::test]
async fn no_codec_in_common_is_488() {
    fails(Setup::default(), Some((G729, "application/sdp")), 488, Reason::UnsupportedMedia).await;
}

#[tokio::test]
async fn a_number_that_wants_only_codecs_nobody_has_is_488_and_names_them() {
    let number = Number { codecs: ["NOSUCH".to_owned()].into(), ..number() };
    let world = World::with(with_number(number)).await;
    let answer = through(&world, None).await;
    assert_eq!(answer.status.code(), 488);
    let warning = answer.headers.get(HeaderName::WARNING).unwrap().into_owned();
    assert!(warning.contains("NOSUCH") && warning.contains("PCMU"), "{warning}");
    assert_eq!(world.over().await.1, Some(Reason::UnsupportedMedia));
    world.close().await;
}

#[tokio::test]
async fn a_body_of_another_type_is_415_and_the_corrected_call_is_taken() {
    let world = World::new().await;
    let mut phone = Phone::new().await;
    let offered = phone.redirected(world.proxies[0]).await;
    let good = std::mem::replace(&mut phone.body, ("hello".into(), "text/plain"));
    phone.follow(&offered[0]).await;
    let refused = phone.answer().await;
    assert_eq!(refused.status.code(), 415);
    assert_eq!(refused.headers.get(HeaderName::ACCEPT).as_deref(), Some("application/sdp"));
    phone.body = good;
    phone.follow(&offered[0]).await;
    assert_eq!(phone.answer().await.status.code(), 200);
    world.close().await;
}

#[tokio::test]
async fn a_conversation_that_refuses_is_480_with_its_words() {
    let world = World::with(Setup { acts: Acts::Refused, ..Setup::default() }).await;
    let answer = through(&world, None).await;
    assert_eq!(answer.status.code(), 480);
    let reason = answer.headers.get(HeaderName::REASON).unwrap().into_owned();
    assert_eq!(reason, "Q.850;cause=18;text=\"nobody is 'in'\"");
    assert_eq!(world.over().await, (State::Failed, Some(Reason::ConversationRefused), None));
    world.empty().await;
    world.close().await;
}

#[tokio::test]
async fn a_factory_that_panics_costs_only_its_call() {
    fails(Setup { acts: Acts::FactoryPanics, ..Setup::default() }, None, 500, Reason::ConversationRefused)
        .await;
}

#[tokio::test]
async fn a_full_backend_refuses_before_the_claim() {
    let serving = BackendSettings { capacity: 1, ..Setup::default().serving };
    let world = World::with(Setup { serving, ..Setup::default() }).await;
    let (mut first, mut second) = (Phone::new().await, Phone::new().await);
    let offered = second.redirected(world.proxies[0]).await;
    first.connected(world.proxies[0]).await;
    second.follow(&offered[0]).await;
    let full = second.answer().await;
    assert_eq!(full.status.code(), 503);
    assert!(!full.headers.contains(HeaderName::RETRY_AFTER));
    first.bye().await;
    world.until("the first call is over", async || world.slots().await == 1).await;
    world
        .until("the place is free", async || {
            second.follow(&offered[0]).await;
            second.answer().await.status.code() == 200
        })
        .await;
    world.close().await;
}

#[tokio::test]
async fn overloaded_media_refuses_with_retry_after_and_takes_calls_again() {
    let world = World::new().await;
    world.media.turn_away(true);
    let refused = through(&world, None).await;
    assert_eq!(refused.status.code(), 503);
    assert_eq!(refused.headers.get(HeaderName::RETRY_AFTER).as_deref(), Some("10"));
    assert!(refused.headers.get(HeaderName::WARNING).unwrap().contains(Reason::Overload.row().warning));
    assert_eq!(world.over().await, (State::Failed, Some(Reason::Overload), None));
    assert_eq!(world.media.counts().refused, 1);
    world.empty().await;
    world.media.turn_away(false);
    Phone::new().await.connected(world.proxies[0]).await;
    world.close().await;
}
