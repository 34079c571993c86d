//! Proves that a [`NumberStore`] keeps its contract.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Found, Number, NumberStore, UpsertError, sample};
use crate::identity::{Dialled, Identity};
use crate::source::{SourceList, parse_network};

/// Runs every check against a store that holds the account, the business and the trunk of [`sample`] and no number. It
/// leaves no number behind.
///
/// # Panics
/// On the first promise that the store breaks.
pub async fn conforms(store: &dyn NumberStore) {
    stored_numbers_are_found(store).await;
    upsert_refuses_what_breaks_the_rules(store).await;
    dialled_numbers_are_found_by_their_trunk(store).await;
    sources_are_known_while_a_list_has_them(store).await;
    listing_pages_in_order(store).await;
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a test address")
}

fn named(phone: &str) -> Identity {
    Identity::Named { business: sample::business().id, phone: phone.parse().expect("a test id") }
}

async fn look_up(store: &dyn NumberStore, identity: &Identity, source: &str) -> Found {
    let standing = store.standing(ip(source)).await.expect("the store answers");
    store.look_up(identity, &standing).await.expect("the store answers")
}

async fn put(store: &dyn NumberStore, number: Number) {
    store.upsert(number).await.expect("a good number is stored");
}

async fn drop_all(store: &dyn NumberStore) {
    let business = sample::business().id;
    for number in store.list(&business, None, 100).await.expect("the store answers") {
        assert_eq!(store.delete(&business, &number.phone).await, Ok(true), "a listed number can be deleted");
    }
}

async fn stored_numbers_are_found(store: &dyn NumberStore) {
    let missing = look_up(store, &named("desk"), "192.0.2.1").await;
    assert!(missing.number.is_none() && missing.trunk.is_none());
    assert_eq!(
        missing.business.as_deref(),
        Some(&sample::business()),
        "the business is found without the number"
    );
    put(store, sample::number()).await;
    let found = look_up(store, &named("desk"), "192.0.2.1").await;
    assert_eq!(found.number.as_deref(), Some(&sample::number()));
    assert_eq!(found.account.as_deref(), Some(&sample::account()));
    assert_eq!(found.trunk.as_deref(), Some(&sample::trunk()));
    put(store, Number { voice: false, ..sample::number() }).await;
    let direct =
        store.number(&sample::business().id, &sample::number().phone).await.expect("the store answers");
    assert!(direct.is_some_and(|number| !number.voice), "the last upsert counts");
    let stranger =
        Identity::Named { business: "nobody".parse().expect("a test id"), phone: sample::number().phone };
    let nothing = look_up(store, &stranger, "192.0.2.1").await;
    assert!(nothing.business.is_none() && nothing.number.is_none() && nothing.account.is_none());
    drop_all(store).await;
    assert_eq!(store.delete(&sample::business().id, &sample::number().phone).await, Ok(false));
}

async fn upsert_refuses_what_breaks_the_rules(store: &dyn NumberStore) {
    put(store, sample::number()).await;
    let nowhere = "nowhere";
    let stray = Number { business: nowhere.parse().expect("a test id"), ..sample::number() };
    assert!(matches!(store.upsert(stray).await, Err(UpsertError::NoBusiness(_))));
    let loose = Number { trunk: Some(nowhere.parse().expect("a test id")), ..sample::number() };
    assert!(matches!(store.upsert(loose).await, Err(UpsertError::NoTrunk(_))));
    let twin = Number { phone: "twin".parse().expect("a test id"), ..sample::number() };
    assert!(matches!(store.upsert(twin).await, Err(UpsertError::Taken { .. })));
    assert_eq!(look_up(store, &named("desk"), "192.0.2.1").await.number.as_deref(), Some(&sample::number()));
    assert!(look_up(store, &named("twin"), "192.0.2.1").await.number.is_none(), "a refusal stores nothing");
    drop_all(store).await;
}

async fn dialled_numbers_are_found_by_their_trunk(store: &dyn NumberStore) {
    let dialled = Identity::Dialled(Dialled::parse("1000").expect("a test number"));
    put(store, sample::number()).await;
    let own = SourceList::new([parse_network("198.51.100.0/24").expect("a test network")]);
    let bare = Number {
        phone: "bare".parse().expect("a test id"),
        trunk: None,
        allowed_sources: Some(own),
        ..sample::number()
    };
    put(store, bare).await;
    let phone = |found: Found| found.number.map(|number| number.phone.to_string());
    assert_eq!(phone(look_up(store, &dialled, "192.0.2.9").await).as_deref(), Some("desk"));
    assert_eq!(phone(look_up(store, &dialled, "198.51.100.3").await).as_deref(), Some("bare"));
    assert_eq!(phone(look_up(store, &dialled, "203.0.113.1").await), None);
    put(store, Number { allow_any_source: true, ..sample::number() }).await;
    assert_eq!(
        phone(look_up(store, &dialled, "203.0.113.1").await).as_deref(),
        Some("desk"),
        "it takes any source"
    );
    let moved = Number { dialled: Dialled::parse("2000").expect("a test number"), ..sample::number() };
    put(store, moved).await;
    assert_eq!(phone(look_up(store, &dialled, "192.0.2.9").await), None, "the old dialled form is forgotten");
    drop_all(store).await;
}

async fn sources_are_known_while_a_list_has_them(store: &dyn NumberStore) {
    let trunk = store.standing(ip("::ffff:192.0.2.200")).await.expect("the store answers");
    assert_eq!(trunk.trunks, [Arc::new(sample::trunk())], "a mapped address is its IPv4 address");
    let listed = async |at: &str| store.standing(ip(at)).await.expect("the store answers").is_listed();
    assert!(!listed("2001:db8::7").await);
    let own = SourceList::new([parse_network("2001:db8::/64").expect("a test network")]);
    put(store, Number { allowed_sources: Some(own), ..sample::number() }).await;
    assert!(listed("2001:db8::7").await);
    assert!(!listed("2001:db8:1::7").await);
    put(store, sample::number()).await;
    assert!(!listed("2001:db8::7").await, "a list that is gone counts no more");
    drop_all(store).await;
}

async fn listing_pages_in_order(store: &dyn NumberStore) {
    for n in [3, 1, 2] {
        let dialled = Dialled::parse(&format!("10{n}")).expect("a test number");
        put(
            store,
            Number { phone: format!("p{n}").parse().expect("a test id"), dialled, ..sample::number() },
        )
        .await;
    }
    let business = sample::business().id;
    let first = store.list(&business, None, 2).await.expect("the store answers");
    let rest =
        store.list(&business, first.last().map(|number| &number.phone), 2).await.expect("the store answers");
    let phones: Vec<_> = first.iter().chain(&rest).map(|number| number.phone.as_str()).collect();
    assert_eq!(phones, ["p1", "p2", "p3"]);
    drop_all(store).await;
}
