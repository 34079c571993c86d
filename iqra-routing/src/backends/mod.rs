//! The backends that live now: what each reports of itself, and until when that counts.
//!
//! In: a backend's own reports. Out: the list that [`select`](crate::select) orders.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::identity::{BackendId, Incarnation, RegionId};
use crate::time::Timestamp;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use memory::MemoryBackends;
#[cfg(feature = "postgres")]
pub use postgres::PostgresBackends;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteBackends;

/// How often a backend reports by default.
pub const REPORT_EVERY: Duration = Duration::from_secs(2);
/// How long a report counts by default: three more may be lost.
pub const STATUS_LIFE: Duration = Duration::from_secs(8);

/// Whether a backend takes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// It comes up.
    Starting,
    /// It takes calls.
    Running,
    /// It takes none for now.
    Maintenance,
    /// It takes no new ones and ends when the present ones have.
    Draining,
    /// It is gone.
    Stopped,
}

/// What a backend reports of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its id.
    pub id: BackendId,
    /// Its region.
    pub region: RegionId,
    /// Which start of it this is.
    pub incarnation: Incarnation,
    /// Where callers reach it, best first, for instance `sip:192.0.2.10:5080;transport=udp`.
    pub sip_uris: Arc<[String]>,
    /// Where providers' media sockets reach it.
    pub media_url: Option<String>,
    /// How many calls it can have.
    pub capacity: u32,
    /// How many it has.
    pub calls: u32,
    /// How busy its processors are, 0 to 1: the busiest thread of those that carry calls counts, and 1 means overload.
    pub cpu: f32,
    /// Whether it takes calls.
    pub state: BackendState,
    /// Whether only administrators' calls may go there.
    pub development: bool,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// It counts.
    Taken,
    /// A later start of the same backend has reported; this one should stop.
    Superseded,
    /// The registry holds as many backends as it may.
    Full,
}

/// Keeps the backends' reports.
///
/// # Contract
/// - [`report`](Self::report) puts a status in place of the backend's last one, for `life` from `now`. One from an
///   earlier incarnation than the last is refused while that last one counts.
/// - [`list`](Self::list) gives the statuses that count at `now`, of one region or of all, ordered by id. One whose
///   life has passed is not in it. It lists every state; who takes calls is for [`select`](crate::select) to say.
/// - [`withdraw`](Self::withdraw) ends a status at once, if it is still of that incarnation.
#[async_trait]
pub trait BackendRegistry: Send + Sync {
    /// Takes a backend's report.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn report(
        &self,
        status: BackendStatus,
        life: Duration,
        now: Timestamp,
    ) -> Result<Report, StoreError>;

    /// The statuses that count.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn list(
        &self,
        region: Option<&RegionId>,
        now: Timestamp,
    ) -> Result<Vec<Arc<BackendStatus>>, StoreError>;

    /// Ends a backend's status; whether there was one.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn withdraw(
        &self,
        id: &BackendId,
        incarnation: Incarnation,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
}

/// The trivial implementation: a list from the configuration that always counts and takes no reports. It does
/// not know who lives, so [`write_lost`](crate::handover::outcome::write_lost) must not be run over it.
#[derive(Debug, Clone, Default)]
pub struct FixedBackends(Vec<Arc<BackendStatus>>);

impl FixedBackends {
    /// Exactly these.
    pub fn new(statuses: impl IntoIterator<Item = BackendStatus>) -> Self {
        let mut list: Vec<_> = statuses.into_iter().map(Arc::new).collect();
        list.sort_by(|a, b| a.id.cmp(&b.id));
        Self(list)
    }
}

#[async_trait]
impl BackendRegistry for FixedBackends {
    async fn report(&self, _: BackendStatus, _: Duration, _: Timestamp) -> Result<Report, StoreError> {
        Ok(Report::Full)
    }

    async fn list(
        &self,
        region: Option<&RegionId>,
        _: Timestamp,
    ) -> Result<Vec<Arc<BackendStatus>>, StoreError> {
        let of_region = self.0.iter().filter(|status| region.is_none_or(|region| status.region == *region));
        Ok(of_region.cloned().collect())
    }

    async fn withdraw(&self, _: &BackendId, _: Incarnation, _: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }
}

/// Values that suites and tests start from.
#[cfg(any(test, feature = "conformance"))]
pub mod sample {
    use super::{BackendState, BackendStatus};
    use crate::identity::Incarnation;

    /// A running, empty backend in `region` with room for 10 calls.
    ///
    /// # Panics
    /// When `id` or `region` is no id.
    pub fn status(id: &str, region: &str) -> BackendStatus {
        BackendStatus {
            id: id.parse().expect("sample ids are well formed"),
            region: region.parse().expect("sample ids are well formed"),
            incarnation: Incarnation(1),
            sip_uris: [format!("sip:{id}.example:5080")].into(),
            media_url: None,
            capacity: 10,
            calls: 0,
            cpu: 0.0,
            state: BackendState::Running,
            development: false,
        }
    }
}
