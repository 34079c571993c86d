//! Rendezvous hashing: a call's repeats go where the call went, whichever proxy decides, and a backend that goes away
//! moves only its own calls (highest random weight, Thaler and Ravishankar 1998).

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{BackendSelector, SelectionRequest};
use crate::backends::BackendStatus;

/// Orders backends by a hash of the call's key and their id, weighted by capacity.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rendezvous;

/// The weight of a backend for a key: `-capacity / ln(h)` with `h` uniform in (0, 1).
fn weight(key: &str, status: &BackendStatus) -> f64 {
    let digest =
        Sha256::new().chain_update(key).chain_update([0]).chain_update(status.id.as_str()).finalize();
    let bits = u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
    let uniform = ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(status.capacity.max(1)) / uniform.ln()
}

impl BackendSelector for Rendezvous {
    fn order(
        &self,
        candidates: Vec<Arc<BackendStatus>>,
        request: &SelectionRequest<'_>,
        _rng: &mut fastrand::Rng,
    ) -> Vec<Arc<BackendStatus>> {
        let mut weighed: Vec<_> =
            candidates.into_iter().map(|status| (weight(request.key, &status), status)).collect();
        weighed.sort_by(|a, b| b.0.total_cmp(&a.0));
        weighed.into_iter().take(request.most).map(|(_, status)| status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::sample;
    use crate::select::tests::request;

    fn chosen(key: &str, candidates: &[Arc<BackendStatus>]) -> String {
        let regions = ["eu".parse().unwrap()];
        let asked = SelectionRequest { key, ..request(&regions, 1) };
        let order = Rendezvous.order(candidates.to_vec(), &asked, &mut fastrand::Rng::with_seed(0));
        order[0].id.to_string()
    }

    #[test]
    fn a_key_keeps_its_backend_and_only_a_gone_ones_calls_move() {
        let all: Vec<_> = ["a", "b", "c", "d"].map(|id| Arc::new(sample::status(id, "eu"))).to_vec();
        let mut counts = [0; 4];
        for n in 0..1000 {
            let key = format!("call-{n}");
            let before = chosen(&key, &all);
            counts[usize::from(before.as_bytes()[0] - b'a')] += 1;
            let after = chosen(&key, &all[..3]);
            assert!(before == after || before == "d");
        }
        assert!(counts.iter().all(|count| (180..320).contains(count)), "{counts:?}");
    }
}
