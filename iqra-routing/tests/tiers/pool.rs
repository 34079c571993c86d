//! Calls and the pool of proxies: requests by another proxy, repeats, and how a trunk's calls are handed over.

use std::time::Duration;

use iqra_routing::identity::PhoneId;
use iqra_routing::number::{HandOver, Number};
use iqra_routing::queue::{Happened, State};
use iqra_routing::reason::Reason;
use iqra_sip::HeaderName;

use crate::fleet::{Fleet, Plan};
use crate::phone::{Phone, contacts};
use crate::world::{Acts, number};

fn only_played(played: usize) -> Plan {
    Plan { played, real: Vec::new(), ..Plan::default() }
}

#[tokio::test]
async fn a_relayed_call_is_hung_up_by_another_proxy_of_the_pool() {
    let fleet = Fleet::new(Plan::default()).await;
    let mut phone = Phone::new().await;
    phone.connected_through(fleet.proxy("p1")).await;
    phone.target.0 = fleet.proxy("p2");
    phone.bye().await;
    assert_eq!(fleet.over().await, (State::ProcessedBackend, None));
    fleet.close().await;
}

#[tokio::test]
async fn a_relayed_call_outlives_its_proxy_and_is_hung_up_after_the_restart() {
    let mut fleet = Fleet::new(Plan::default()).await;
    let mut phone = Phone::new().await;
    phone.connected_through(fleet.proxy("p1")).await;
    fleet.stop_proxy("p1").await;
    fleet.start_proxy("p1", 2).await;
    assert_eq!(fleet.entry().await.ended, None);
    phone.target.0 = fleet.proxy("p1");
    phone.bye().await;
    assert_eq!(fleet.over().await, (State::ProcessedBackend, None));
    fleet.close().await;
}

#[tokio::test]
async fn a_repeat_at_another_proxy_does_not_disturb_the_one_that_relays() {
    let fleet = Fleet::new(only_played(1)).await;
    let (mut phone, p2) = (Phone::new().await, fleet.proxy("p2"));
    phone.call(fleet.proxy("p1")).await;
    let asked = fleet.played[0].asked().await;
    let p1 = std::mem::replace(&mut phone.target.0, p2);
    phone.repeat().await; // by the same branch: nobody answers it but the first
    phone.target.0 = p1;
    let mut forked = phone.twin().await;
    forked.cseq -= 1;
    forked.call(p2).await;
    assert_eq!(forked.answer().await.status.code(), 482, "another branch of the same INVITE");
    fleet.played[0].respond(&asked, 486, "").await;
    assert_eq!(phone.answer().await.status.code(), 486);
    let adopted = fleet.entry().await.log.iter().any(|line| line.what == Happened::Adopted);
    assert!(!adopted && fleet.entries().await.len() == 1);
    fleet.close().await;
}

#[tokio::test]
async fn a_call_that_comes_back_after_a_challenge_goes_on_with_its_entry_at_a_new_attempt() {
    let fleet = Fleet::new(only_played(1)).await;
    let (mut phone, backend) = (Phone::new().await, &fleet.played[0]);
    phone.call(fleet.proxy("p1")).await;
    let first = backend.asked().await;
    let claim = backend.claim(&first).await.unwrap();
    backend.refuse(&first, &claim, 407).await;
    assert_eq!(phone.answer().await.status.code(), 407);
    fleet
        .until("the first is followed no more", async |fleet| {
            fleet.entry().await.state == State::ProcessingBackend
        })
        .await;
    phone.call(fleet.proxy("p2")).await;
    let second = backend.asked().await;
    assert_eq!(backend.claim(&first).await.unwrap_err(), Reason::Superseded);
    let claim = backend.claim(&second).await.unwrap();
    assert_eq!((claim.entry.attempt, claim.entry.claim_no, fleet.slots().await), (2, 2, 1));
    backend.refuse(&second, &claim, 480).await;
    assert_eq!(phone.answer().await.status.code(), 480);
    assert_eq!(fleet.over().await, (State::Failed, Some(Reason::ConversationRefused)));
    assert_eq!(fleet.entries().await.len(), 1);
    fleet.close().await;
}

/// The number `desk`, which leaves the mode to its trunk, and `test`, which is redirected whatever the trunk says.
fn auto() -> Plan {
    let phone: PhoneId = "test".parse().unwrap();
    let dialled = "2000".to_owned().try_into().unwrap();
    let test = Number { phone, dialled, hand_over: Some(HandOver::Redirect), ..number() };
    Plan { trunk: HandOver::Auto, numbers: vec![number(), test], ..Plan::default() }
}

/// Calls the number that tests whether redirects are followed; the Contacts of its 302.
async fn tested(fleet: &Fleet, phone: &mut Phone) -> Vec<iqra_sip::Uri> {
    let proxy = fleet.proxy("p1");
    phone.invite(proxy, format!("sip:2000@{proxy};X-Business-Id=7;X-Phone-Id=test")).await;
    let response = phone.answer().await;
    assert_eq!(response.status.code(), 302);
    contacts(&response)
}

/// A call to the number of the trunk's mode, through this proxy; whether it was redirected.
async fn is_redirected(fleet: &Fleet, proxy: &str) -> bool {
    let mut phone = Phone::new().await;
    phone.call(fleet.proxy(proxy)).await;
    let mut answer = phone.answer().await;
    let redirected = answer.status.code() == 302;
    if redirected {
        phone.follow(&contacts(&answer)[0]).await;
        answer = phone.answer().await;
    }
    assert_eq!(answer.status.code(), 200);
    phone.confirm(&answer, "").await;
    phone.bye().await;
    redirected
}

#[tokio::test]
async fn an_auto_trunk_is_relayed_until_a_redirect_was_followed_and_every_proxy_knows_it_then() {
    let fleet = Fleet::new(auto()).await;
    for proxy in ["p1", "p1", "p2"] {
        assert!(!is_redirected(&fleet, proxy).await, "no call of a source is the test");
    }
    let mut phone = Phone::new().await;
    let offered = tested(&fleet, &mut phone).await;
    assert!(!is_redirected(&fleet, "p1").await, "an offer that nobody followed proves nothing");
    phone.follow(&offered[0]).await;
    let ok = phone.answer().await;
    phone.confirm(&ok, "").await;
    phone.bye().await;
    for proxy in ["p1", "p2"] {
        assert!(is_redirected(&fleet, proxy).await);
    }
    fleet.close().await;
}

#[tokio::test]
async fn a_relayed_call_is_no_proof_that_redirects_are_followed() {
    let plan = auto();
    let relayed = Number { hand_over: Some(HandOver::Relay), ..plan.numbers[1].clone() };
    let fleet = Fleet::new(Plan { numbers: vec![number(), relayed], ..plan }).await;
    let (mut phone, proxy) = (Phone::new().await, fleet.proxy("p1"));
    phone.invite(proxy, format!("sip:2000@{proxy};X-Business-Id=7;X-Phone-Id=test")).await;
    let ok = phone.answer().await;
    assert_eq!(ok.status.code(), 200);
    phone.confirm(&ok, "").await;
    phone.bye().await;
    assert!(!is_redirected(&fleet, "p1").await);
    fleet.close().await;
}

#[tokio::test]
async fn a_redirect_names_two_backends_with_distinct_q_and_the_second_takes_what_the_first_gives_back() {
    let real = vec![Acts::Refused, Acts::Hums];
    let fleet = Fleet::new(Plan { trunk: HandOver::Redirect, real, ..Plan::default() }).await;
    let mut phone = Phone::new().await;
    phone.call(fleet.proxy("p1")).await;
    let response = phone.answer().await;
    assert_eq!(response.status.code(), 302);
    let shown: Vec<_> = response.headers.all(HeaderName::CONTACT).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown[0].ends_with(">;q=1") && shown[1].ends_with(">;q=0.95"), "{shown:?}");
    let offered = contacts(&response);
    let token = |n: usize| offered[n].param_decoded("X-CallQueue-Id").unwrap().into_owned();
    assert_ne!((token(0), offered[0].port()), (token(1), offered[1].port()), "each its own backend");
    phone.follow(&offered[0]).await;
    assert_eq!(phone.answer().await.status.code(), 480);
    phone.follow(&offered[1]).await;
    let ok = phone.answer().await;
    assert_eq!(ok.status.code(), 200);
    phone.confirm(&ok, "").await;
    let entry = fleet.entry().await;
    assert_eq!(
        (entry.holder.as_ref().unwrap().backend.as_str(), entry.attempt, entry.claim_no),
        ("b2", 1, 2)
    );
    phone.bye().await;
    fleet.close().await;
}

#[tokio::test]
async fn a_token_of_one_contact_is_good_at_its_own_backend_alone() {
    let real = vec![Acts::Hums, Acts::Hums];
    let fleet = Fleet::new(Plan { trunk: HandOver::Redirect, real, ..Plan::default() }).await;
    let mut phone = Phone::new().await;
    let offered = phone.redirected(fleet.proxy("p1")).await;
    let token = offered[1].param_decoded("X-CallQueue-Id").unwrap().into_owned();
    let stolen = offered[0].clone().with_param("X-CallQueue-Id", Some(&token));
    phone.follow(&stolen).await;
    assert_eq!(phone.answer().await.status.code(), 403);
    phone.follow(&offered[1]).await;
    let ok = phone.answer().await;
    phone.confirm(&ok, "").await;
    tokio::time::timeout(Duration::from_secs(5), phone.bye()).await.unwrap();
    fleet.close().await;
}
