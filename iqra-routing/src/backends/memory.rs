//! Backends' reports in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{BackendRegistry, BackendStatus, Report};
use crate::error::StoreError;
use crate::identity::{BackendId, Incarnation, RegionId};
use crate::time::Timestamp;

/// The most backends that [`MemoryBackends`] holds by default.
const MOST: usize = 10_000;

/// A [`BackendRegistry`] in memory.
#[derive(Debug)]
pub struct MemoryBackends {
    most: usize,
    statuses: Mutex<BTreeMap<BackendId, (Timestamp, Arc<BackendStatus>)>>,
}

impl Default for MemoryBackends {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl MemoryBackends {
    /// A registry of at most `most` backends (default 10,000).
    pub fn new(most: usize) -> Self {
        Self { most, statuses: Mutex::default() }
    }

    fn statuses(&self) -> MutexGuard<'_, BTreeMap<BackendId, (Timestamp, Arc<BackendStatus>)>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BackendRegistry for MemoryBackends {
    async fn report(
        &self,
        status: BackendStatus,
        life: Duration,
        now: Timestamp,
    ) -> Result<Report, StoreError> {
        let mut statuses = self.statuses();
        if let Some((until, last)) = statuses.get(&status.id) {
            if *until > now && last.incarnation > status.incarnation {
                return Ok(Report::Superseded);
            }
        } else if statuses.len() >= self.most {
            statuses.retain(|_, (until, _)| *until > now);
            if statuses.len() >= self.most {
                return Ok(Report::Full);
            }
        }
        statuses.insert(status.id.clone(), (now + life, Arc::new(status)));
        Ok(Report::Taken)
    }

    async fn list(
        &self,
        region: Option<&RegionId>,
        now: Timestamp,
    ) -> Result<Vec<Arc<BackendStatus>>, StoreError> {
        let statuses = self.statuses();
        let counting = statuses.values().filter(|(until, _)| *until > now).map(|(_, status)| status);
        Ok(counting.filter(|status| region.is_none_or(|region| status.region == *region)).cloned().collect())
    }

    async fn withdraw(
        &self,
        id: &BackendId,
        incarnation: Incarnation,
        _now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut statuses = self.statuses();
        let present = statuses.get(id).is_some_and(|(_, status)| status.incarnation == incarnation);
        Ok(present && statuses.remove(id).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::sample;

    #[tokio::test]
    async fn it_keeps_the_contract() {
        crate::backends::conformance::conforms(&MemoryBackends::default()).await;
    }

    #[tokio::test]
    async fn a_full_registry_makes_room_of_expired_reports() {
        let registry = MemoryBackends::new(1);
        let start = Timestamp::from_millis(0);
        let life = Duration::from_secs(1);
        assert_eq!(registry.report(sample::status("a", "eu"), life, start).await, Ok(Report::Taken));
        assert_eq!(registry.report(sample::status("b", "eu"), life, start).await, Ok(Report::Full));
        assert_eq!(registry.report(sample::status("b", "eu"), life, start + life).await, Ok(Report::Taken));
    }
}
