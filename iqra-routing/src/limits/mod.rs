//! How many calls an account may have at once: slot leases, one per call, that end by themselves if nobody ends them.
//!
//! In: a queue entry's id, its account and the plan's limit. Out: reserved or full. The proxy reserves for the token's
//! life; the backend's claim takes the lease over and renews it while the call is up.

use std::time::Duration;

use async_trait::async_trait;

use crate::error::StoreError;
use crate::handover::table::Expect;
use crate::identity::{AccountId, EntryId};
use crate::time::Timestamp;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use memory::MemoryLimits;
#[cfg(feature = "postgres")]
pub use postgres::PostgresLimits;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteLimits;

/// How long a backend's lease lasts without being renewed. Default for [`Claims`](crate::handover::claim::Claims).
pub const LEASE_LIFE: Duration = Duration::from_secs(30);

/// A slot that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The call.
    pub lease: EntryId,
    /// Who pays for it.
    pub account: &'a AccountId,
    /// How many slots that account has.
    pub limit: u32,
    /// For how long.
    pub life: Duration,
}

/// Whether a slot was free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The call has one.
    Reserved,
    /// All are taken.
    Full,
}

/// What became of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease goes on.
    Renewed,
    /// There is no such lease any more; [`PlanLimits::take_over`] asks for a new one.
    Lost,
    /// Another claim owns it.
    NotOwner,
}

/// Counts an account's calls.
///
/// # Contract
/// - A lease belongs to an entry: [`reserve`](Self::reserve) repeated for one entry holds one slot, and starts its life
///   anew unless a claim owns it by now, which it leaves alone.
/// - The leases of an account that have not expired never exceed the limit asked with, whatever runs at once. An
///   expired lease is free: it counts no more and cannot be renewed.
/// - [`take_over`](Self::take_over) makes a claim the owner: of the lease, or, where it was lost, of a new one within
///   the limit. Of two claims the later (attempt, claim number) wins; the earlier hears `Full` and owns nothing.
/// - [`renew`](Self::renew) and [`release`](Self::release) do nothing for a claim that is not the owner.
///   [`free`](Self::free) is for whoever ended the entry in the queue's table: it asks no owner.
/// - After every call has ended or expired, [`used`](Self::used) is zero.
#[async_trait]
pub trait PlanLimits: Send + Sync {
    /// Reserves a slot for a call.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn reserve(&self, ask: Ask<'_>, now: Timestamp) -> Result<Slot, StoreError>;

    /// Makes a claim the owner of the call's slot.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn take_over(&self, ask: Ask<'_>, owner: Expect, now: Timestamp) -> Result<Slot, StoreError>;

    /// Keeps an owned slot for another `life`.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn renew(
        &self,
        lease: EntryId,
        owner: Expect,
        life: Duration,
        now: Timestamp,
    ) -> Result<Renewal, StoreError>;

    /// Gives an owned slot back; whether the owner had it.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn release(&self, lease: EntryId, owner: Expect, now: Timestamp) -> Result<bool, StoreError>;

    /// Gives a slot back, whoever owns it; whether there was one.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn free(&self, lease: EntryId, now: Timestamp) -> Result<bool, StoreError>;

    /// How many slots of an account are taken.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn used(&self, account: &AccountId, now: Timestamp) -> Result<u32, StoreError>;

    /// Forgets the expired leases that are still there; how many there were.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn sweep(&self, now: Timestamp) -> Result<usize, StoreError>;
}

/// The trivial implementation: every account has as many slots as it likes, and nothing is counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

#[async_trait]
impl PlanLimits for Unlimited {
    async fn reserve(&self, _: Ask<'_>, _: Timestamp) -> Result<Slot, StoreError> {
        Ok(Slot::Reserved)
    }

    async fn take_over(&self, _: Ask<'_>, _: Expect, _: Timestamp) -> Result<Slot, StoreError> {
        Ok(Slot::Reserved)
    }

    async fn renew(&self, _: EntryId, _: Expect, _: Duration, _: Timestamp) -> Result<Renewal, StoreError> {
        Ok(Renewal::Renewed)
    }

    async fn release(&self, _: EntryId, _: Expect, _: Timestamp) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn free(&self, _: EntryId, _: Timestamp) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn used(&self, _: &AccountId, _: Timestamp) -> Result<u32, StoreError> {
        Ok(0)
    }

    async fn sweep(&self, _: Timestamp) -> Result<usize, StoreError> {
        Ok(0)
    }
}
