//! Which backend gets the call: an order of the candidates, pure and repeatable with a seed.
//!
//! In: the registry's list and what the call asks. Out: the backends to offer, best first.

use std::sync::Arc;

use crate::backends::{BackendState, BackendStatus};
use crate::identity::{BackendId, RegionId};

mod least_load;
mod regions;
mod rendezvous;
mod round_robin;

pub use least_load::LeastLoad;
pub use regions::{ByRegion, Region, Regions};
pub use rendezvous::Rendezvous;
pub use round_robin::RoundRobin;

/// What a call asks of the selection.
#[derive(Debug, Clone, Copy)]
pub struct SelectionRequest<'a> {
    /// The regions that may answer, the preferred one first.
    pub regions: &'a [RegionId],
    /// Whether the account may use development backends.
    pub admin: bool,
    /// Backends that failed already.
    pub excluded: &'a [BackendId],
    /// What stays the same over the call's repeats, for selectors that keep a call where it was (the Call-ID).
    pub key: &'a str,
    /// How many backends to offer at most.
    pub most: usize,
}

/// Orders backends.
///
/// # Contract
/// - [`order`](Self::order) gets candidates that are eligible (see [`eligible`]) and returns at most `request.most` of
///   them, each once, best first. It adds none and waits for nothing.
/// - With the same candidates, request, generator and own state it returns the same order.
pub trait BackendSelector: Send + Sync {
    /// The backends to offer, best first.
    fn order(
        &self,
        candidates: Vec<Arc<BackendStatus>>,
        request: &SelectionRequest<'_>,
        rng: &mut fastrand::Rng,
    ) -> Vec<Arc<BackendStatus>>;
}

/// The candidates that may take the call: running, with room, in a region that may answer, not excluded, and a
/// development backend only for administrators.
pub fn eligible(
    statuses: Vec<Arc<BackendStatus>>,
    request: &SelectionRequest<'_>,
) -> Vec<Arc<BackendStatus>> {
    let mut statuses = statuses;
    statuses.retain(|status| {
        status.state == BackendState::Running
            && status.calls < status.capacity
            && !status.sip_uris.is_empty()
            && (request.admin || !status.development)
            && request.regions.contains(&status.region)
            && !request.excluded.contains(&status.id)
    });
    statuses
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::backends::sample;

    /// A request for `most` backends of region `eu`.
    pub(crate) fn request<'a>(regions: &'a [RegionId], most: usize) -> SelectionRequest<'a> {
        SelectionRequest { regions, admin: false, excluded: &[], key: "call", most }
    }

    pub(crate) fn ids(statuses: &[Arc<BackendStatus>]) -> Vec<&str> {
        statuses.iter().map(|status| status.id.as_str()).collect()
    }

    #[test]
    fn only_who_may_take_the_call_is_eligible() {
        let base = sample::status("ok", "eu");
        let cases = [
            base.clone(),
            BackendStatus { id: "full".parse().unwrap(), calls: 10, ..base.clone() },
            BackendStatus { id: "away".parse().unwrap(), region: "us".parse().unwrap(), ..base.clone() },
            BackendStatus { id: "drain".parse().unwrap(), state: BackendState::Draining, ..base.clone() },
            BackendStatus { id: "start".parse().unwrap(), state: BackendState::Starting, ..base.clone() },
            BackendStatus { id: "failed".parse().unwrap(), ..base.clone() },
            BackendStatus { id: "mute".parse().unwrap(), sip_uris: [].into(), ..base.clone() },
            BackendStatus { id: "dev".parse().unwrap(), development: true, ..base },
        ];
        let all: Vec<_> = cases.into_iter().map(Arc::new).collect();
        let regions = ["eu".parse().unwrap()];
        let excluded = ["failed".parse().unwrap()];
        let asked = SelectionRequest { excluded: &excluded, ..request(&regions, 9) };
        assert_eq!(ids(&eligible(all.clone(), &asked)), ["ok"]);
        assert_eq!(ids(&eligible(all, &SelectionRequest { admin: true, ..asked })), ["ok", "dev"]);
    }
}
