//! The stores that a configuration names, opened: what proxy and backend share of the calls in progress.

use std::sync::Arc;

use crate::backends::{BackendRegistry, MemoryBackends};
use crate::config::Store;
use crate::error::StoreError;
use crate::limits::{MemoryLimits, PlanLimits};
use crate::queue::{CallQueue, MemoryQueue, QueueLimits};

/// The stores of the calls in progress. Clones share them.
#[derive(Clone)]
pub struct LiveStores {
    /// The calls.
    pub queue: Arc<dyn CallQueue>,
    /// The accounts' slots.
    pub limits: Arc<dyn PlanLimits>,
    /// The backends that live.
    pub backends: Arc<dyn BackendRegistry>,
}

impl LiveStores {
    /// Opens what `store` names; the queue keeps as much as `keeps` says.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be used, or this build has no SQLite.
    pub fn open(store: &Store, keeps: QueueLimits) -> Result<Self, StoreError> {
        match store {
            Store::Memory => Ok(Self::in_memory(keeps)),
            #[cfg(feature = "sqlite")]
            Store::Sqlite(path) => {
                let database = crate::sqlite::Database::open(path)?;
                Ok(Self {
                    queue: Arc::new(crate::queue::SqliteQueue::new(database.clone(), keeps)),
                    limits: Arc::new(crate::limits::SqliteLimits::new(database.clone())),
                    backends: Arc::new(crate::backends::SqliteBackends::new(database)),
                })
            }
            #[cfg(not(feature = "sqlite"))]
            Store::Sqlite(path) => {
                let why =
                    format!("{} needs a build with the feature \"sqlite\" of iqra-routing", path.display());
                Err(StoreError::Away { store: "sqlite", why })
            }
        }
    }

    /// Stores in this process.
    pub fn in_memory(keeps: QueueLimits) -> Self {
        Self {
            queue: Arc::new(MemoryQueue::new(keeps)),
            limits: Arc::new(MemoryLimits::default()),
            backends: Arc::new(MemoryBackends::default()),
        }
    }
}
