//! Proves that a [`BackendRegistry`] keeps its contract.

use std::time::Duration;

use super::{BackendRegistry, BackendState, BackendStatus, Report, sample};
use crate::identity::{Incarnation, RegionId};
use crate::time::Timestamp;

const START: Timestamp = Timestamp::from_millis(1_000_000);
const LIFE: Duration = Duration::from_secs(8);

/// Runs every check against a registry that is empty. It leaves nothing behind that counts.
///
/// # Panics
/// On the first promise that the registry breaks.
pub async fn conforms(registry: &dyn BackendRegistry) {
    reports_count_for_their_life(registry).await;
    a_later_start_replaces_an_earlier_one(registry).await;
    the_list_is_by_region_and_ordered(registry).await;
}

async fn ids(registry: &dyn BackendRegistry, region: Option<&str>, now: Timestamp) -> Vec<String> {
    let region = region.map(|region| region.parse::<RegionId>().expect("a test id"));
    let list = registry.list(region.as_ref(), now).await.expect("the registry answers");
    list.iter().map(|status| status.id.to_string()).collect()
}

async fn report(registry: &dyn BackendRegistry, status: BackendStatus, now: Timestamp) -> Report {
    registry.report(status, LIFE, now).await.expect("the registry answers")
}

async fn reports_count_for_their_life(registry: &dyn BackendRegistry) {
    let status = sample::status("suite-a", "eu");
    assert_eq!(report(registry, status.clone(), START).await, Report::Taken);
    assert_eq!(ids(registry, None, START + LIFE - Duration::from_millis(1)).await, ["suite-a"]);
    assert!(ids(registry, None, START + LIFE).await.is_empty());
    let later = START + LIFE / 2;
    let draining = BackendStatus { state: BackendState::Draining, calls: 4, ..status };
    report(registry, draining.clone(), later).await;
    let list = registry.list(None, START + LIFE).await.expect("the registry answers");
    assert_eq!(
        list.iter().map(|status| (**status).clone()).collect::<Vec<_>>(),
        [draining],
        "the last report counts"
    );
    assert_eq!(registry.withdraw(&list[0].id, Incarnation(1), START + LIFE).await, Ok(true));
    assert_eq!(registry.withdraw(&list[0].id, Incarnation(1), START + LIFE).await, Ok(false));
    assert!(ids(registry, None, later).await.is_empty());
}

async fn a_later_start_replaces_an_earlier_one(registry: &dyn BackendRegistry) {
    let first = sample::status("suite-a", "eu");
    let second = BackendStatus { incarnation: Incarnation(2), ..first.clone() };
    report(registry, first.clone(), START).await;
    assert_eq!(report(registry, second, START).await, Report::Taken);
    assert_eq!(report(registry, first.clone(), START).await, Report::Superseded);
    assert_eq!(registry.withdraw(&first.id, Incarnation(1), START).await, Ok(false));
    assert_eq!(ids(registry, None, START).await, ["suite-a"]);
    assert_eq!(registry.withdraw(&first.id, Incarnation(2), START).await, Ok(true));
}

async fn the_list_is_by_region_and_ordered(registry: &dyn BackendRegistry) {
    for (id, region) in [("suite-c", "us"), ("suite-b", "eu"), ("suite-a", "us")] {
        report(registry, sample::status(id, region), START).await;
    }
    assert_eq!(ids(registry, None, START).await, ["suite-a", "suite-b", "suite-c"]);
    assert_eq!(ids(registry, Some("us"), START).await, ["suite-a", "suite-c"]);
    assert!(ids(registry, Some("none"), START).await.is_empty());
    for id in ["suite-a", "suite-b", "suite-c"] {
        let id = id.parse().expect("a test id");
        assert_eq!(registry.withdraw(&id, Incarnation(1), START).await, Ok(true));
    }
}
