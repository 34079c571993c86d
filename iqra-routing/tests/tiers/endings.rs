//! How calls change and end once they are up.

use std::time::Duration;

use iqra_media::conversation::{EndReason, Event};
use iqra_media::session;
use iqra_routing::handover::outcome::{EndedBy, Outcome};
use iqra_routing::number::Number;
use iqra_routing::reason::Reason;
use iqra_sip::{HeaderName, Method};

use crate::phone::{Phone, Voice};
use crate::world::{Acts, Note, Setup, World, number};

/// A call that the backend ends by itself; the Reason of its BYE.
async fn ended_by_us(setup: Setup, outcome: Outcome) -> String {
    let world = World::with(setup).await;
    let mut phone = Phone::new().await;
    phone.connected(world.proxies[0]).await;
    let bye = phone.hung_up().await;
    assert_eq!(world.over().await.2, Some(outcome));
    world.empty().await;
    world.close().await;
    bye.headers.get(HeaderName::REASON).unwrap().into_owned()
}

fn acting(acts: Acts) -> Setup {
    Setup { acts, ..Setup::default() }
}

#[tokio::test]
async fn a_conversation_that_is_done_hangs_up() {
    let reason = ended_by_us(acting(Acts::Completes), Outcome::Completed(EndedBy::Conversation)).await;
    assert!(reason.starts_with("Q.850;cause=16"), "{reason}");
}

#[tokio::test]
async fn a_conversation_that_fails_hangs_up_and_says_so() {
    for acts in [Acts::Fails, Acts::Panics] {
        let reason = ended_by_us(acting(acts), Outcome::Failed(Reason::Internal)).await;
        assert!(reason.contains("conversation failed"), "{reason}");
    }
}

#[tokio::test]
async fn a_call_ends_at_its_longest() {
    let number = Number { max_duration: Some(Duration::from_millis(200)), ..number() };
    let setup = Setup { number, ..Setup::default() };
    let reason = ended_by_us(setup, Outcome::Completed(EndedBy::DurationLimit)).await;
    assert!(reason.contains("maximum duration"), "{reason}");
}

#[tokio::test]
async fn a_call_without_media_ends() {
    let session = session::Config { media_timeout: Duration::from_millis(300), ..session::Config::default() };
    let setup = Setup { session, ..Setup::default() };
    let reason = ended_by_us(setup, Outcome::Completed(EndedBy::Network)).await;
    assert!(reason.contains("no media"), "{reason}");
}

#[tokio::test]
async fn hold_and_resume_reach_the_conversation() {
    let mut world = World::new().await;
    let mut phone = Phone::new().await;
    phone.connected(world.proxies[0]).await;
    let held = phone.reinvite(phone.sdp("sendonly"), "").await;
    assert!(String::from_utf8_lossy(&held.body).contains("a=recvonly"));
    world.noted(Note::Event(Event::Hold)).await;
    phone.reinvite(phone.sdp("sendrecv"), "").await;
    world.noted(Note::Event(Event::Resume)).await;
    phone.bye().await;
    world.noted(Note::Event(Event::End(EndReason::FarEnd))).await;
    world.empty().await;
    world.close().await;
}

#[tokio::test]
async fn keys_in_info_reach_the_conversation() {
    let mut world = World::new().await;
    let mut phone = Phone::new().await;
    phone.connected(world.proxies[0]).await;
    for (kind, body, status) in [
        ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", 200),
        ("application/dtmf-relay", "Signal=!\r\nDuration=160\r\n", 200),
        ("application/dtmf-relay", "Signal=55\r\n", 400),
        ("application/dtmf", "#", 200),
        ("application/x-other", "6", 415),
        ("application/dtmf", "#", 200),
    ] {
        assert_eq!(phone.info(kind, body).await.status.code(), status, "{kind} {body}");
    }
    let mut keys = String::new();
    while keys.len() < 3 {
        if let Note::Event(Event::Dtmf(digit)) = world.note().await {
            keys.push(digit.as_char());
        }
    }
    assert_eq!(keys, "5##");
    phone.bye().await;
    world.noted(Note::Event(Event::End(EndReason::FarEnd))).await;
    world.empty().await;
    world.close().await;
}

#[tokio::test]
async fn a_reinvite_without_an_offer_is_answered_in_its_ack() {
    let mut world = World::new().await;
    let mut phone = Phone::new().await;
    phone.connected(world.proxies[0]).await;
    let offer = phone.reinvite(String::new(), &phone.sdp("sendonly")).await;
    assert!(String::from_utf8_lossy(&offer.body).contains("m=audio"));
    world.noted(Note::Event(Event::Hold)).await;
    phone.bye().await;
    world.empty().await;
    world.close().await;
}

#[tokio::test]
async fn a_reinvite_that_cannot_be_met_leaves_the_call_as_it_is() {
    let world = World::new().await;
    let mut phone = Phone::new().await;
    phone.connected(world.proxies[0]).await;
    let bad = phone
        .sdp("sendrecv")
        .replace("PCMU", "G729")
        .replace("RTP/AVP 0", "RTP/AVP 18")
        .replace(":0 ", ":18 ");
    assert_eq!(phone.reinvite(bad, "").await.status.code(), 488);
    assert_eq!(world.slots().await, 1);
    phone.bye().await;
    world.empty().await;
    world.close().await;
}

#[tokio::test]
async fn a_call_without_an_offer_gets_ours_and_answers_in_the_ack() {
    let world = World::new().await;
    let (mut phone, driver) = (Phone::new().await, Voice::driver());
    phone.body.0 = String::new();
    let offered = phone.redirected(world.proxies[0]).await;
    phone.follow(&offered[0]).await;
    let ok = phone.answer().await;
    assert!(String::from_utf8_lossy(&ok.body).contains("PCMU"));
    let mut voice = Voice::new(&driver);
    let answer = voice.answer(&ok.body);
    phone.confirm(&ok, &answer).await;
    voice.hears_the_agent(&ok.body).await;
    phone.bye().await;
    world.empty().await;
    world.close().await;
}

#[tokio::test]
async fn a_late_answer_that_cannot_be_read_ends_the_call() {
    let world = World::new().await;
    let mut phone = Phone::new().await;
    phone.body.0 = String::new();
    let offered = phone.redirected(world.proxies[0]).await;
    phone.follow(&offered[0]).await;
    let ok = phone.response(&Method::Invite, 200).await;
    phone.confirm(&ok, "nonsense").await;
    phone.hung_up().await;
    assert_eq!(world.over().await.2, Some(Outcome::Completed(EndedBy::Network)));
    world.empty().await;
    world.close().await;
}
