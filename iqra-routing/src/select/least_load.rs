//! Least load of two random choices, weighted by capacity: close to the best backend, without every proxy choosing the
//! same one between two reports.

use std::sync::Arc;

use super::{BackendSelector, SelectionRequest};
use crate::backends::BackendStatus;

/// Above this share of its processors a backend counts as fuller than its calls say.
const BUSY_CPU: f32 = 0.85;

/// Takes two backends at random, a bigger one more often, and offers the less loaded one first. The default.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeastLoad;

/// How full a backend would be with this call, 0 to 1 by calls; busy processors add up to 1 more.
fn load(status: &BackendStatus) -> f32 {
    let by_calls = (status.calls as f32 + 1.0) / (status.capacity.max(1) as f32);
    let busy = (status.cpu.clamp(0.0, 1.0) - BUSY_CPU).max(0.0) / (1.0 - BUSY_CPU);
    by_calls + busy
}

/// A random index, weighted by capacity, other than `not`.
fn pick(from: &[Arc<BackendStatus>], not: Option<usize>, rng: &mut fastrand::Rng) -> Option<usize> {
    let weight = |(index, status): (usize, &Arc<BackendStatus>)| {
        if Some(index) == not { 0 } else { u64::from(status.capacity.max(1)) }
    };
    let total: u64 = from.iter().enumerate().map(weight).sum();
    if total == 0 {
        return None;
    }
    let mut left = rng.u64(..total);
    from.iter().enumerate().map(weight).position(|weight| {
        let here = left < weight;
        left = left.saturating_sub(weight);
        here
    })
}

impl BackendSelector for LeastLoad {
    fn order(
        &self,
        mut candidates: Vec<Arc<BackendStatus>>,
        request: &SelectionRequest<'_>,
        rng: &mut fastrand::Rng,
    ) -> Vec<Arc<BackendStatus>> {
        let mut order = Vec::with_capacity(request.most.min(candidates.len()));
        while order.len() < request.most {
            let Some(first) = pick(&candidates, None, rng) else { break };
            let best = match pick(&candidates, Some(first), rng) {
                Some(second) if load(&candidates[second]) < load(&candidates[first]) => second,
                _ => first,
            };
            order.push(candidates.swap_remove(best));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::sample;
    use crate::select::tests::{ids, request};

    fn with_calls(id: &str, calls: u32, capacity: u32) -> Arc<BackendStatus> {
        Arc::new(BackendStatus { calls, capacity, ..sample::status(id, "eu") })
    }

    fn first_of(candidates: &[Arc<BackendStatus>], seed: u64) -> String {
        let regions = ["eu".parse().unwrap()];
        let mut rng = fastrand::Rng::with_seed(seed);
        let order = LeastLoad.order(candidates.to_vec(), &request(&regions, 1), &mut rng);
        order[0].id.to_string()
    }

    #[test]
    fn of_two_the_less_loaded_is_always_first() {
        let both = [with_calls("small", 4, 10), with_calls("large", 30, 100)];
        assert!((0..200).all(|seed| first_of(&both, seed) == "large"));
        let hot = Arc::new(BackendStatus { cpu: 1.0, ..sample::status("hot", "eu") });
        assert!((0..200).all(|seed| first_of(&[hot.clone(), with_calls("cool", 8, 10)], seed) == "cool"));
    }

    #[test]
    fn bigger_backends_get_more_calls() {
        let three = [with_calls("a", 0, 10), with_calls("b", 0, 10), with_calls("big", 0, 80)];
        let big = (0..1000).filter(|seed| first_of(&three, *seed) == "big").count();
        assert!(big > 700, "{big} of 1000");
    }

    #[test]
    fn a_seed_repeats_and_each_backend_comes_once() {
        let all: Vec<_> = (0..5).map(|n| with_calls(&format!("b{n}"), n, 10)).collect();
        let regions = ["eu".parse().unwrap()];
        let run = || LeastLoad.order(all.clone(), &request(&regions, 9), &mut fastrand::Rng::with_seed(7));
        let order = run();
        assert_eq!(ids(&order), ids(&run()));
        let mut sorted = ids(&order);
        sorted.sort_unstable();
        assert_eq!(sorted, ["b0", "b1", "b2", "b3", "b4"]);
    }
}
