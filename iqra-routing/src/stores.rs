//! The stores that a configuration names, opened: what proxy and backend share of the calls in progress.

use std::sync::Arc;

use crate::backends::{BackendRegistry, MemoryBackends};
use crate::config::Store;
use crate::error::StoreError;
use crate::limits::{MemoryLimits, PlanLimits};
use crate::number::{CacheLimits, NumberStore};
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
    shared: Shared,
}

/// What may hold numbers as well.
#[derive(Clone)]
enum Shared {
    Nothing,
    #[cfg(feature = "sqlite")]
    Sqlite(crate::sqlite::Database),
    #[cfg(feature = "postgres")]
    Postgres(crate::postgres::Database),
}

impl LiveStores {
    /// Opens what `store` names; the queue keeps as much as `keeps` says.
    ///
    /// # Errors
    /// [`StoreError`] when the file or server cannot be used, or this build has none of its kind.
    pub async fn open(store: &Store, keeps: QueueLimits) -> Result<Self, StoreError> {
        match store {
            Store::Memory => Ok(Self::in_memory(keeps)),
            #[cfg(feature = "sqlite")]
            Store::Sqlite(path) => {
                let database = crate::sqlite::Database::open(path)?;
                Ok(Self {
                    queue: Arc::new(crate::queue::SqliteQueue::new(database.clone(), keeps)),
                    limits: Arc::new(crate::limits::SqliteLimits::new(database.clone())),
                    backends: Arc::new(crate::backends::SqliteBackends::new(database.clone())),
                    shared: Shared::Sqlite(database),
                })
            }
            #[cfg(feature = "postgres")]
            Store::Postgres(settings) => {
                let database = crate::postgres::Database::open((**settings).clone()).await?;
                Ok(Self {
                    queue: Arc::new(crate::queue::PostgresQueue::new(database.clone(), keeps)),
                    limits: Arc::new(crate::limits::PostgresLimits::new(database.clone())),
                    backends: Arc::new(crate::backends::PostgresBackends::new(database.clone())),
                    shared: Shared::Postgres(database),
                })
            }
            #[cfg(not(feature = "sqlite"))]
            Store::Sqlite(_) => Err(not_built("sqlite")),
            #[cfg(not(feature = "postgres"))]
            Store::Postgres(_) => Err(not_built("postgres")),
        }
    }

    /// Stores in this process.
    pub fn in_memory(keeps: QueueLimits) -> Self {
        Self {
            queue: Arc::new(MemoryQueue::new(keeps)),
            limits: Arc::new(MemoryLimits::default()),
            backends: Arc::new(MemoryBackends::default()),
            shared: Shared::Nothing,
        }
    }

    /// The numbers in the same store, behind a cache; `None` for stores in memory, which hold none.
    pub fn numbers(&self, cache: CacheLimits) -> Option<Arc<dyn NumberStore>> {
        let _unused_without_stores = cache;
        match &self.shared {
            Shared::Nothing => None,
            #[cfg(feature = "sqlite")]
            Shared::Sqlite(database) => {
                let numbers = crate::number::SqliteNumbers::new(database.clone());
                Some(Arc::new(crate::number::CachedNumbers::new(numbers, cache)))
            }
            #[cfg(feature = "postgres")]
            Shared::Postgres(database) => {
                Some(crate::number::PostgresNumbers::new(database.clone()).cached(cache))
            }
        }
    }
}

#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
fn not_built(store: &'static str) -> StoreError {
    let why =
        format!("this program was built without it; build with the feature \"{store}\" of iqra-routing");
    StoreError::Away { store, why }
}
