//! Slot leases in memory, bounded by the plans' limits themselves.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Ask, PlanLimits, Renewal, Slot};
use crate::error::StoreError;
use crate::handover::table::Expect;
use crate::identity::{AccountId, EntryId};
use crate::time::Timestamp;

/// A [`PlanLimits`] in memory.
#[derive(Debug, Default)]
pub struct MemoryLimits {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    leases: HashMap<EntryId, Lease>,
    /// Per account, the leases by expiry. An account without leases is not here.
    accounts: HashMap<AccountId, BTreeSet<(Timestamp, EntryId)>>,
}

#[derive(Debug, Clone)]
struct Lease {
    account: AccountId,
    expires: Timestamp,
    owner: Option<Expect>,
}

impl Tables {
    fn remove(&mut self, lease: EntryId) -> Option<Lease> {
        let gone = self.leases.remove(&lease)?;
        if let Some(slots) = self.accounts.get_mut(&gone.account) {
            slots.remove(&(gone.expires, lease));
            if slots.is_empty() {
                self.accounts.remove(&gone.account);
            }
        }
        Some(gone)
    }

    /// Forgets an account's leases that have expired. A lease lasts up to its expiry, not including it.
    fn purge(&mut self, account: &AccountId, now: Timestamp) -> usize {
        let mut purged = 0;
        while let Some((_, lease)) =
            self.accounts.get(account).and_then(BTreeSet::first).filter(|(at, _)| *at <= now)
        {
            let lease = *lease;
            self.remove(lease);
            purged += 1;
        }
        purged
    }

    fn insert(&mut self, ask: &Ask<'_>, owner: Option<Expect>, now: Timestamp) -> Slot {
        let taken = self.accounts.get(ask.account).map_or(0, BTreeSet::len);
        if u32::try_from(taken).is_ok_and(|taken| taken < ask.limit) {
            let expires = now + ask.life;
            self.leases.insert(ask.lease, Lease { account: ask.account.clone(), expires, owner });
            self.accounts.entry(ask.account.clone()).or_default().insert((expires, ask.lease));
            return Slot::Reserved;
        }
        Slot::Full
    }

    fn extend(&mut self, lease: EntryId, owner: Option<Expect>, expires: Timestamp) {
        let Some(known) = self.leases.get_mut(&lease) else { return };
        let before = std::mem::replace(&mut known.expires, expires);
        known.owner = owner;
        if let Some(slots) = self.accounts.get_mut(&known.account) {
            slots.remove(&(before, lease));
            slots.insert((expires, lease));
        }
    }

    fn reserve(&mut self, ask: &Ask<'_>, now: Timestamp) -> Slot {
        self.purge(ask.account, now);
        match self.leases.get(&ask.lease).map(|lease| lease.owner) {
            Some(None) => self.extend(ask.lease, None, now + ask.life),
            Some(Some(_)) => {}
            None => return self.insert(ask, None, now),
        }
        Slot::Reserved
    }

    fn take_over(&mut self, ask: &Ask<'_>, owner: Expect, now: Timestamp) -> Slot {
        self.purge(ask.account, now);
        match self.leases.get(&ask.lease).map(|lease| lease.owner) {
            Some(Some(present)) if is_later(present, owner) => return Slot::Full,
            Some(_) => self.extend(ask.lease, Some(owner), now + ask.life),
            None => return self.insert(ask, Some(owner), now),
        }
        Slot::Reserved
    }

    fn renew(&mut self, lease: EntryId, owner: Expect, life: Duration, now: Timestamp) -> Renewal {
        match self.leases.get(&lease) {
            Some(known) if known.expires > now && known.owner == Some(owner) => {
                self.extend(lease, Some(owner), now + life);
                Renewal::Renewed
            }
            Some(known) if known.expires > now => Renewal::NotOwner,
            _ => Renewal::Lost,
        }
    }
}

/// Whether `present` is a later claim than `asking`.
fn is_later(present: Expect, asking: Expect) -> bool {
    (present.attempt, present.claim_no) > (asking.attempt, asking.claim_no)
}

impl MemoryLimits {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PlanLimits for MemoryLimits {
    async fn reserve(&self, ask: Ask<'_>, now: Timestamp) -> Result<Slot, StoreError> {
        Ok(self.tables().reserve(&ask, now))
    }

    async fn take_over(&self, ask: Ask<'_>, owner: Expect, now: Timestamp) -> Result<Slot, StoreError> {
        Ok(self.tables().take_over(&ask, owner, now))
    }

    async fn renew(
        &self,
        lease: EntryId,
        owner: Expect,
        life: Duration,
        now: Timestamp,
    ) -> Result<Renewal, StoreError> {
        Ok(self.tables().renew(lease, owner, life, now))
    }

    async fn release(&self, lease: EntryId, owner: Expect, _now: Timestamp) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let owned = tables.leases.get(&lease).is_some_and(|known| known.owner == Some(owner));
        Ok(owned && tables.remove(lease).is_some())
    }

    async fn free(&self, lease: EntryId, _now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.tables().remove(lease).is_some())
    }

    async fn used(&self, account: &AccountId, now: Timestamp) -> Result<u32, StoreError> {
        let mut tables = self.tables();
        tables.purge(account, now);
        let taken = tables.accounts.get(account).map_or(0, BTreeSet::len);
        Ok(u32::try_from(taken).unwrap_or(u32::MAX))
    }

    async fn sweep(&self, now: Timestamp) -> Result<usize, StoreError> {
        let mut tables = self.tables();
        let accounts: Vec<AccountId> = tables.accounts.keys().cloned().collect();
        Ok(accounts.iter().map(|account| tables.purge(account, now)).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn it_keeps_the_contract() {
        crate::limits::conformance::conforms(Arc::new(MemoryLimits::default())).await;
    }

    #[tokio::test]
    async fn nothing_is_left_when_all_calls_have_ended() {
        let limits = MemoryLimits::default();
        let account = "acme".parse().unwrap();
        let start = Timestamp::from_millis(0);
        for n in 0..50 {
            let ask = Ask {
                lease: EntryId(n),
                account: &account,
                limit: 100,
                life: Duration::from_secs(1 + n as u64),
            };
            limits.reserve(ask, start).await.unwrap();
        }
        assert_eq!(limits.sweep(start + Duration::from_secs(60)).await, Ok(50));
        let tables = limits.tables();
        assert!(tables.leases.is_empty() && tables.accounts.is_empty());
    }
}
