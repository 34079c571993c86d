//! Relayed calls: from the INVITE at the proxy to an answer, a refusal or the caller's CANCEL.

use std::sync::atomic::Ordering;
use std::time::Duration;

use iqra_media::conversation::{EndReason, Event};
use iqra_routing::backends::BackendRegistry;
use iqra_routing::handover::outcome::{EndedBy, Outcome, sweep};
use iqra_routing::handover::table::CLAIM_LIFE;
use iqra_routing::identity::Incarnation;
use iqra_routing::number::Number;
use iqra_routing::proxy::RelaySettings;
use iqra_routing::queue::{Happened, State};
use iqra_routing::reason::Reason;
use iqra_sip::{HeaderName, Method, Response};

use crate::fleet::{Asked, Fleet, POOL, Plan, Played};
use crate::phone::{Phone, Voice};
use crate::world::{Acts, Note, number, ringing};

const CALLER_LEFT: Option<Outcome> = Some(Outcome::Completed(EndedBy::Caller));

/// So many backends that the test plays, then a real one.
fn played(played: usize) -> Plan {
    Plan { played, ..Plan::default() }
}

/// So many backends that the test plays, and no other.
fn only_played(played: usize) -> Plan {
    Plan { played, real: Vec::new(), ..Plan::default() }
}

/// A call up to the first played backend.
async fn asked(fleet: &Fleet, phone: &mut Phone) -> Asked {
    phone.call(fleet.proxy("p1")).await;
    fleet.played[0].asked().await
}

async fn holder(fleet: &Fleet) -> (String, u32) {
    let entry = fleet.entry().await;
    (entry.holder.as_ref().unwrap().backend.to_string(), entry.attempt)
}

fn warning(response: &Response) -> String {
    response.headers.get(HeaderName::WARNING).unwrap().into_owned()
}

/// Acknowledges the call that is up, and hangs it up.
async fn hang_up(phone: &mut Phone, ok: &Response) {
    assert_eq!(ok.status.code(), 200, "{ok:?}");
    phone.confirm(ok, "").await;
    phone.bye().await;
}

#[tokio::test]
async fn a_call_is_relayed_answered_heard_both_ways_and_leaves_nothing() {
    let mut fleet = Fleet::new(Plan::default()).await;
    let (mut phone, driver) = (Phone::new().await, Voice::driver());
    let mut voice = Voice::new(&driver);
    phone.body.0 = voice.offer();
    let ok = phone.connected_through(fleet.proxy("p1")).await;
    assert!(ok.headers.get(HeaderName::RECORD_ROUTE).unwrap().contains(POOL), "the pool's name is recorded");
    voice.hears_the_agent(&ok.body).await;
    fleet.noted(Note::HeardTone).await;
    let entry = fleet.entry().await;
    assert_eq!((entry.state, entry.attempt, fleet.slots().await), (State::ProcessedBackend, 1, 1));
    phone.bye().await;
    fleet.noted(Note::Event(Event::End(EndReason::FarEnd))).await;
    assert_eq!(fleet.over().await, (State::ProcessedBackend, None));
    assert_eq!(fleet.entry().await.outcome, CALLER_LEFT);
    fleet.close().await;
}

#[tokio::test]
async fn a_silent_backend_gives_way_to_the_next_and_its_token_is_void() {
    let fleet = Fleet::new(played(1)).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    let ok = phone.answer().await;
    assert_eq!(holder(&fleet).await, ("b2".to_owned(), 2));
    assert_eq!(fleet.played[0].claim(&first).await.unwrap_err(), Reason::Superseded);
    hang_up(&mut phone, &ok).await;
    fleet.close().await;
}

#[tokio::test]
async fn a_backend_that_refuses_with_5xx_gives_way_to_the_next() {
    let fleet = Fleet::new(played(2)).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    let claim = fleet.played[0].claim(&first).await.unwrap();
    fleet.played[0].refuse(&first, &claim, 503).await;
    let second = fleet.played[1].asked().await;
    assert_ne!(second.token(), first.token(), "a token of its own for each attempt");
    fleet.played[1].respond(&second, 500, "").await;
    let ok = phone.answer().await;
    assert_eq!(holder(&fleet).await, ("b3".to_owned(), 3));
    hang_up(&mut phone, &ok).await;
    let raised = fleet.entry().await.log.iter().filter(|line| line.what == Happened::Raised).count();
    assert_eq!(raised, 2);
    fleet.close().await;
}

#[tokio::test]
async fn a_late_commit_of_a_backend_that_was_given_up_is_refused() {
    let fleet = Fleet::new(played(1)).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    let late = fleet.played[0].claim(&first).await.unwrap();
    fleet.played[0].respond(&first, 100, "").await;
    let ok = phone.answer().await;
    assert_eq!(holder(&fleet).await, ("b2".to_owned(), 2));
    assert_eq!(fleet.played[0].commit(&late).await, Err(Reason::Superseded), "so it sends no 2xx");
    fleet.played[0].respond(&first, 482, "").await;
    assert_eq!(fleet.slots().await, 1);
    hang_up(&mut phone, &ok).await;
    assert_eq!(fleet.over().await, (State::ProcessedBackend, None));
    fleet.close().await;
}

#[tokio::test]
async fn a_2xx_whose_commit_came_before_the_next_backend_is_the_answer() {
    let fleet = Fleet::new(played(1)).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    let claim = fleet.played[0].claim(&first).await.unwrap();
    fleet.played[0].respond(&first, 100, "").await;
    fleet.played[0].commit(&claim).await.unwrap();
    fleet.played[0].cancelled().await; // the proxy has given it up
    fleet.played[0].respond(&first, 200, &phone.sdp("sendrecv")).await;
    let ok = phone.answer().await;
    assert_eq!(ok.status.code(), 200);
    assert_eq!(holder(&fleet).await, ("b1".to_owned(), 1));
    finished(&fleet, &fleet.played[0], &claim).await;
    fleet.close().await;
}

/// A played backend's answered call ends.
async fn finished(fleet: &Fleet, backend: &Played, claim: &iqra_routing::handover::claim::Claim) {
    backend.claims.finish(claim, CALLER_LEFT.unwrap(), fleet.clock.now()).await.unwrap();
}

#[tokio::test]
async fn a_committed_backend_whose_2xx_never_comes_ends_the_call_when_it_has_ended_there() {
    let fleet = Fleet::new(only_played(2)).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    let claim = fleet.played[0].claim(&first).await.unwrap();
    fleet.played[0].commit(&claim).await.unwrap();
    finished(&fleet, &fleet.played[0], &claim).await;
    let refused = phone.answer().await;
    assert_eq!(refused.status.code(), 503);
    assert!(warning(&refused).contains(Reason::BackendLost.row().warning), "{refused:?}");
    fleet.close().await;
}

#[tokio::test]
async fn when_no_backend_takes_the_call_it_is_refused_and_its_entry_says_why() {
    let fleet = Fleet::new(only_played(2)).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    fleet.played[0].respond(&first, 503, "").await;
    let second = fleet.played[1].asked().await;
    let claim = fleet.played[1].claim(&second).await.unwrap();
    fleet.played[1].refuse(&second, &claim, 500).await;
    let refused = phone.answer().await;
    assert_eq!(refused.status.code(), 503);
    assert!(warning(&refused).contains(Reason::RelaysExhausted.row().warning), "{refused:?}");
    assert!(!refused.headers.contains(HeaderName::RETRY_AFTER));
    assert_eq!(fleet.over().await, (State::Failed, Some(Reason::RelaysExhausted)));
    fleet.close().await;
}

#[tokio::test]
async fn no_more_backends_are_tried_than_most_choices_says() {
    let fleet = Fleet::new(only_played(4)).await;
    let mut phone = Phone::new().await;
    phone.call(fleet.proxy("p1")).await;
    for backend in &fleet.played[..3] {
        let asked = backend.asked().await;
        backend.respond(&asked, 503, "").await;
    }
    assert_eq!(phone.answer().await.status.code(), 503);
    assert!(fleet.played[3].is_not_asked(Duration::from_millis(100)).await);
    fleet.close().await;
}

#[tokio::test]
async fn a_refusal_of_the_backend_reaches_the_caller_and_ends_the_entry_with_its_reason() {
    let fleet = Fleet::new(Plan { real: vec![Acts::Refused, Acts::Hums], ..Plan::default() }).await;
    let mut phone = Phone::new().await;
    phone.call(fleet.proxy("p1")).await;
    assert_eq!(phone.answer().await.status.code(), 480);
    assert_eq!(fleet.over().await, (State::Failed, Some(Reason::ConversationRefused)));
    assert_eq!(fleet.entry().await.attempt, 1, "the other one was not asked");
    fleet.close().await;
}

#[tokio::test]
async fn a_ringing_call_whose_backend_dies_ends() {
    let fleet = Fleet::new(only_played(2)).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    let claim = fleet.played[0].claim(&first).await.unwrap();
    fleet.played[0].respond(&first, 180, "").await;
    assert_eq!(phone.response(&Method::Invite, 180).await.status.code(), 180);
    fleet.backends.withdraw(&"b1".parse().unwrap(), Incarnation(1), fleet.clock.now()).await.unwrap();
    let refused = phone.answer().await;
    assert_eq!(refused.status.code(), 503);
    assert!(warning(&refused).contains(Reason::BackendLost.row().warning), "{refused:?}");
    assert_eq!(fleet.over().await, (State::Failed, Some(Reason::BackendLost)));
    assert_eq!(fleet.played[0].commit(&claim).await, Err(Reason::Finished));
    assert!(fleet.played[1].is_not_asked(Duration::from_millis(100)).await, "nobody after a ringing one");
    fleet.close().await;
}

#[tokio::test]
async fn a_backend_that_dies_after_its_100_gives_way_to_the_next_at_once() {
    let mut plan = played(1);
    plan.relay.timings.trying = Duration::from_secs(60);
    let fleet = Fleet::new(plan).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    fleet.played[0].respond(&first, 100, "").await;
    fleet.backends.withdraw(&"b1".parse().unwrap(), Incarnation(1), fleet.clock.now()).await.unwrap();
    let ok = phone.answer().await;
    assert_eq!(holder(&fleet).await, ("b2".to_owned(), 2));
    hang_up(&mut phone, &ok).await;
    fleet.close().await;
}

#[tokio::test]
async fn a_caller_that_gives_up_hears_487_at_once_and_no_commit_follows() {
    let fleet = Fleet::new(only_played(1)).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    let claim = fleet.played[0].claim(&first).await.unwrap();
    phone.cancel().await; // nothing came of the backend yet: it may not be cancelled before it has answered
    assert_eq!(phone.answer().await.status.code(), 487);
    assert_eq!(fleet.over().await, (State::Canceled, Some(Reason::Cancelled)));
    assert_eq!(fleet.played[0].commit(&claim).await, Err(Reason::Finished));
    fleet.played[0].respond(&first, 180, "").await;
    fleet.played[0].cancelled().await;
    fleet.played[0].respond(&first, 487, "").await;
    fleet.close().await;
}

#[tokio::test]
async fn a_ringing_call_that_is_cancelled_leaves_nothing() {
    let number = ringing(Duration::from_secs(30));
    let fleet = Fleet::new(Plan { numbers: vec![number], ..Plan::default() }).await;
    let mut phone = Phone::new().await;
    phone.call(fleet.proxy("p1")).await;
    assert_eq!(phone.response(&Method::Invite, 180).await.status.code(), 180);
    phone.cancel().await;
    assert_eq!(phone.answer().await.status.code(), 487);
    assert_eq!(fleet.over().await, (State::Canceled, Some(Reason::Cancelled)));
    fleet.close().await;
}

#[tokio::test]
async fn a_cancel_that_comes_after_the_commit_gives_way_to_the_2xx() {
    let fleet = Fleet::new(only_played(1)).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    let claim = fleet.played[0].claim(&first).await.unwrap();
    fleet.played[0].respond(&first, 180, "").await;
    phone.response(&Method::Invite, 180).await;
    fleet.played[0].commit(&claim).await.unwrap();
    phone.cancel().await;
    fleet.played[0].cancelled().await;
    fleet.played[0].respond(&first, 200, &phone.sdp("sendrecv")).await;
    assert_eq!(phone.answer().await.status.code(), 200);
    assert_eq!((fleet.entry().await.state, fleet.slots().await), (State::ProcessedBackend, 1));
    finished(&fleet, &fleet.played[0], &claim).await;
    fleet.close().await;
}

#[tokio::test]
async fn a_step_whose_reply_the_store_lost_is_repeated() {
    let fleet = Fleet::new(played(1)).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    fleet.lost_replies.store(2, Ordering::Relaxed);
    fleet.played[0].respond(&first, 503, "").await;
    let ok = phone.answer().await;
    assert_eq!(holder(&fleet).await.0, "b2");
    hang_up(&mut phone, &ok).await;
    fleet.close().await;
}

#[tokio::test]
async fn what_a_backend_says_while_it_is_given_up_does_not_count_against_the_next() {
    let mut plan = only_played(3);
    (plan.relay.timings.silent, plan.relay.timings.trying) =
        (Duration::from_secs(60), Duration::from_secs(60));
    let fleet = Fleet::new(plan).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    fleet.lost_replies.store(2, Ordering::Relaxed); // so the step takes a while
    fleet.backends.withdraw(&"b1".parse().unwrap(), Incarnation(1), fleet.clock.now()).await.unwrap();
    let begun = async |fleet: &Fleet| fleet.lost_replies.load(Ordering::Relaxed) < 2;
    fleet.until("the first is being given up", begun).await;
    fleet.played[0].respond(&first, 503, "").await;
    let second = fleet.played[1].asked().await;
    assert!(fleet.played[2].is_not_asked(Duration::from_millis(300)).await);
    fleet.played[1].respond(&second, 486, "").await;
    assert_eq!(phone.answer().await.status.code(), 486);
    fleet.close().await;
}

#[tokio::test]
async fn while_the_store_is_away_no_other_backend_is_asked_and_the_call_is_refused_in_the_end() {
    let fleet = Fleet::new(only_played(2)).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    fleet.lost_replies.store(u32::MAX, Ordering::Relaxed);
    fleet.played[0].respond(&first, 503, "").await;
    let refused = phone.answer().await;
    assert_eq!(refused.status.code(), 503);
    assert!(warning(&refused).contains(Reason::StoreAway.row().warning), "{refused:?}");
    assert!(fleet.played[1].is_not_asked(Duration::from_millis(100)).await);
    let later = fleet.clock.now() + CLAIM_LIFE;
    sweep(&*fleet.queue, &*fleet.limits, later).await.unwrap();
    assert_eq!(fleet.over().await.0, State::Expired, "what could not be written ends by itself");
    fleet.close().await;
}

#[tokio::test]
async fn a_cancelled_call_is_left_to_its_backend_while_the_store_is_away() {
    let fleet = Fleet::new(only_played(1)).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    let claim = fleet.played[0].claim(&first).await.unwrap();
    fleet.played[0].respond(&first, 180, "").await;
    phone.response(&Method::Invite, 180).await;
    fleet.lost_replies.store(u32::MAX, Ordering::Relaxed);
    phone.cancel().await;
    fleet.played[0].cancelled().await;
    let _ = fleet.played[0].claims.cancelled(&claim, fleet.clock.now()).await;
    fleet.played[0].respond(&first, 487, "").await;
    assert_eq!(phone.answer().await.status.code(), 487);
    assert_eq!(fleet.over().await, (State::Canceled, Some(Reason::Cancelled)));
    fleet.close().await;
}

#[tokio::test]
async fn a_proxy_that_stops_ends_what_nobody_has_answered() {
    let mut fleet = Fleet::new(only_played(1)).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    let claim = fleet.played[0].claim(&first).await.unwrap();
    fleet.played[0].respond(&first, 180, "").await;
    phone.response(&Method::Invite, 180).await;
    let (answer, ()) = tokio::join!(phone.answer(), fleet.stop_proxy("p1"));
    assert_eq!(answer.status.code(), 503);
    assert_eq!(fleet.over().await, (State::Failed, Some(Reason::Draining)));
    assert_eq!(fleet.played[0].commit(&claim).await, Err(Reason::Finished));
    fleet.close().await;
}

#[tokio::test]
async fn no_more_calls_are_relayed_at_a_time_than_the_settings_say() {
    let plan = only_played(1);
    let relay = RelaySettings { most: 1, ..plan.relay };
    let fleet = Fleet::new(Plan { relay, ..plan }).await;
    let (mut first, mut second) = (Phone::new().await, Phone::new().await);
    let ringing = asked(&fleet, &mut first).await;
    second.call(fleet.proxy("p1")).await;
    let refused = second.answer().await;
    assert_eq!((refused.status.code(), fleet.slots().await), (503, 1));
    assert!(refused.headers.contains(HeaderName::RETRY_AFTER));
    fleet.played[0].respond(&ringing, 603, "").await;
    assert_eq!(first.answer().await.status.code(), 603);
    fleet.close().await;
}

#[tokio::test]
async fn the_token_rides_where_a_contact_would_have_it() {
    let own = Number { dialled: "2000".to_owned().try_into().unwrap(), ..number() };
    let fleet = Fleet::new(Plan { numbers: vec![own], ..only_played(1) }).await;
    let mut phone = Phone::new().await;
    let first = asked(&fleet, &mut phone).await;
    assert_eq!(first.request.uri.user(), Some("1000"), "the user that the caller dialled");
    assert!(first.request.uri.param("X-Business-Id").is_none() && !first.token().is_empty());
    fleet.played[0].respond(&first, 486, "").await;
    assert_eq!(phone.answer().await.status.code(), 486);
    assert_eq!(fleet.over().await.0, State::Failed);
    fleet.close().await;
}
