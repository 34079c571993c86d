//! Round robin: each call starts one backend further.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{BackendSelector, SelectionRequest};
use crate::backends::BackendStatus;

/// Takes the backends in turn, in the order of their ids.
#[derive(Debug, Default)]
pub struct RoundRobin {
    next: AtomicUsize,
}

impl BackendSelector for RoundRobin {
    fn order(
        &self,
        mut candidates: Vec<Arc<BackendStatus>>,
        request: &SelectionRequest<'_>,
        _rng: &mut fastrand::Rng,
    ) -> Vec<Arc<BackendStatus>> {
        if candidates.is_empty() {
            return candidates;
        }
        candidates.sort_by(|a, b| a.id.cmp(&b.id));
        let start = self.next.fetch_add(1, Ordering::Relaxed) % candidates.len();
        candidates.rotate_left(start);
        candidates.truncate(request.most);
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::sample;
    use crate::select::tests::{ids, request};

    #[test]
    fn each_call_starts_one_further() {
        let selector = RoundRobin::default();
        let all: Vec<_> = ["c", "a", "b"].map(|id| Arc::new(sample::status(id, "eu"))).to_vec();
        let regions = ["eu".parse().unwrap()];
        let order = || {
            let order = selector.order(all.clone(), &request(&regions, 2), &mut fastrand::Rng::with_seed(0));
            ids(&order).join("")
        };
        assert_eq!([order(), order(), order(), order()], ["ab", "bc", "ca", "ab"]);
        assert!(
            selector.order(Vec::new(), &request(&regions, 2), &mut fastrand::Rng::with_seed(0)).is_empty()
        );
    }
}
