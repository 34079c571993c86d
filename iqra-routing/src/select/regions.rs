//! Regions: which exist and take calls, which help out, and a selector that keeps to that order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{BackendSelector, SelectionRequest};
use crate::backends::BackendStatus;
use crate::identity::RegionId;

/// A region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Whether it takes calls.
    pub enabled: bool,
    /// Where its calls go when it has no room, in this order; empty keeps them at home.
    pub fallback: Vec<RegionId>,
}

/// The regions of a deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Regions(BTreeMap<RegionId, Region>);

impl Regions {
    /// These regions.
    pub fn new(regions: impl IntoIterator<Item = (RegionId, Region)>) -> Self {
        Self(regions.into_iter().collect())
    }

    /// The regions that may answer a call of `home`, `home` first; empty when `home` is unknown or switched off.
    pub fn order(&self, home: &RegionId) -> Vec<RegionId> {
        let Some(region) = self.0.get(home).filter(|region| region.enabled) else { return Vec::new() };
        let mut order = vec![home.clone()];
        for id in &region.fallback {
            if self.0.get(id).is_some_and(|other| other.enabled) && !order.contains(id) {
                order.push(id.clone());
            }
        }
        order
    }

    /// One region.
    pub fn region(&self, id: &RegionId) -> Option<&Region> {
        self.0.get(id)
    }
}

/// Orders by region first, in the request's order, and within a region by another selector.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByRegion<S>(pub S);

impl<S: BackendSelector> BackendSelector for ByRegion<S> {
    fn order(
        &self,
        candidates: Vec<Arc<BackendStatus>>,
        request: &SelectionRequest<'_>,
        rng: &mut fastrand::Rng,
    ) -> Vec<Arc<BackendStatus>> {
        if request.regions.len() <= 1 {
            return self.0.order(candidates, request, rng);
        }
        let mut order = Vec::new();
        for region in request.regions {
            let here = candidates.iter().filter(|status| status.region == *region).cloned().collect();
            let left = request.most - order.len();
            order.extend(self.0.order(here, &SelectionRequest { most: left, ..*request }, rng));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::sample;
    use crate::select::LeastLoad;
    use crate::select::tests::{ids, request};

    fn region(enabled: bool, fallback: &[&str]) -> Region {
        Region { enabled, fallback: fallback.iter().map(|id| id.parse().unwrap()).collect() }
    }

    #[test]
    fn fallbacks_come_in_order_and_only_where_enabled() {
        let regions = Regions::new([
            ("eu".parse().unwrap(), region(true, &["off", "us", "eu", "none"])),
            ("us".parse().unwrap(), region(true, &[])),
            ("off".parse().unwrap(), region(false, &["eu"])),
        ]);
        let order = |home: &str| {
            regions.order(&home.parse().unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(order("eu"), ["eu", "us"]);
        assert_eq!(order("us"), ["us"]);
        assert!(order("off").is_empty() && order("none").is_empty());
    }

    #[test]
    fn the_home_region_comes_first_even_when_it_is_fuller() {
        let full = BackendStatus { calls: 9, ..sample::status("home", "eu") };
        let all = vec![Arc::new(sample::status("far", "us")), Arc::new(full)];
        let regions = ["eu".parse().unwrap(), "us".parse().unwrap()];
        let mut rng = fastrand::Rng::with_seed(1);
        let order = ByRegion(LeastLoad).order(all.clone(), &request(&regions, 3), &mut rng);
        assert_eq!(ids(&order), ["home", "far"]);
        let order = ByRegion(LeastLoad).order(all, &request(&regions, 1), &mut rng);
        assert_eq!(ids(&order), ["home"]);
    }
}
