//! Numbers in memory, filled from the configuration: two hash look-ups per call.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;
use ipnet::IpNet;

use super::{Account, Business, Found, Number, NumberStore, Trunk, UpsertError};
use crate::error::StoreError;
use crate::identity::{AccountId, BusinessId, Dialled, Identity, PhoneId, TrunkId};
use crate::source::{SourceList, Standing};

/// How much [`MemoryNumbers`] holds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Numbers; default 1,000,000.
    pub numbers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { numbers: 1_000_000 }
    }
}

/// A [`NumberStore`] in memory. Businesses, accounts and trunks are set by its own methods.
#[derive(Debug, Default)]
pub struct MemoryNumbers {
    limits: Limits,
    tables: RwLock<Tables>,
}

/// A dialled form on a trunk, or on none.
type DialledKey = (Option<TrunkId>, Dialled);

#[derive(Debug, Default)]
struct Tables {
    accounts: HashMap<AccountId, Arc<Account>>,
    businesses: HashMap<BusinessId, Arc<Business>>,
    trunks: HashMap<TrunkId, Arc<Trunk>>,
    numbers: HashMap<BusinessId, BTreeMap<PhoneId, Arc<Number>>>,
    count: usize,
    /// Trunk (or none) and dialled form to the numbers; more than one only under no trunk.
    dialled: HashMap<DialledKey, Vec<(BusinessId, PhoneId)>>,
    sources: SourceIndex,
}

/// Which trunks, and how many number lists, have a network.
#[derive(Debug, Default)]
struct SourceIndex {
    networks: HashMap<IpNet, Listing>,
    /// The prefix lengths in use, of IPv4 and IPv6, with how many networks have each.
    prefixes: [BTreeMap<u8, usize>; 2],
}

#[derive(Debug, Default)]
struct Listing {
    trunks: BTreeSet<TrunkId>,
    numbers: usize,
}

/// Where a number is found by what is dialled: on its trunk, and from anywhere else if it takes any source.
fn dialled_keys(number: &Number) -> impl Iterator<Item = DialledKey> {
    let from_anywhere = number.trunk.is_some() && number.allow_any_source;
    let trunks = [Some(number.trunk.clone()), from_anywhere.then_some(None)];
    let dialled = number.dialled.clone();
    trunks.into_iter().flatten().map(move |trunk| (trunk, dialled.clone()))
}

fn family(net: &IpNet) -> usize {
    usize::from(matches!(net, IpNet::V6(_)))
}

impl SourceIndex {
    fn add(&mut self, net: IpNet) -> &mut Listing {
        let prefixes = &mut self.prefixes[family(&net)];
        self.networks.entry(net).or_insert_with(|| {
            *prefixes.entry(net.prefix_len()).or_default() += 1;
            Listing::default()
        })
    }

    fn change(&mut self, net: IpNet, change: impl FnOnce(&mut Listing)) {
        let listing = self.add(net);
        change(listing);
        if listing.trunks.is_empty() && listing.numbers == 0 {
            self.networks.remove(&net);
            let prefixes = &mut self.prefixes[family(&net)];
            if let Some(count) = prefixes.get_mut(&net.prefix_len()) {
                *count -= 1;
                if *count == 0 {
                    prefixes.remove(&net.prefix_len());
                }
            }
        }
    }

    /// The listings that have the address, the narrowest network first.
    fn find(&self, address: IpAddr) -> impl Iterator<Item = &Listing> {
        let family = usize::from(address.is_ipv6());
        self.prefixes[family].keys().rev().filter_map(move |prefix| {
            let net = IpNet::new(address, *prefix).ok()?.trunc();
            self.networks.get(&net)
        })
    }
}

impl Tables {
    fn standing(&self, source: IpAddr) -> Standing {
        let source = source.to_canonical();
        let mut standing = Standing { source, trunks: Vec::new(), in_a_number_list: false };
        for listing in self.sources.find(source) {
            standing.in_a_number_list |= listing.numbers > 0;
            for trunk in listing.trunks.iter().filter_map(|id| self.trunks.get(id)) {
                if !standing.trunks.iter().any(|known| known.id == trunk.id) {
                    standing.trunks.push(trunk.clone());
                }
            }
        }
        standing
    }

    fn number(&self, business: &BusinessId, phone: &PhoneId) -> Option<&Arc<Number>> {
        self.numbers.get(business)?.get(phone)
    }

    fn dialled(&self, dialled: &Dialled, standing: &Standing) -> Option<&Arc<Number>> {
        let on = |trunk: Option<TrunkId>| self.dialled.get(&(trunk, dialled.clone())).into_iter().flatten();
        let by_trunk = standing.trunks.iter().flat_map(|trunk| on(Some(trunk.id.clone())));
        let lists_source = |number: &&Arc<Number>| {
            number.allow_any_source
                || number.allowed_sources.as_ref().is_some_and(|list| list.contains(standing.source))
        };
        by_trunk.filter_map(|(business, phone)| self.number(business, phone)).next().or_else(|| {
            let mut bare = on(None).filter_map(|(business, phone)| self.number(business, phone));
            bare.find(lists_source)
        })
    }

    fn look_up(&self, identity: &Identity, standing: &Standing) -> Found {
        let (business, number) = match identity {
            Identity::Named { business, phone } => (Some(business), self.number(business, phone)),
            Identity::Dialled(dialled) => {
                let number = self.dialled(dialled, standing);
                (number.map(|number| &number.business), number)
            }
        };
        let business = business.and_then(|id| self.businesses.get(id));
        Found {
            account: business.and_then(|business| self.accounts.get(&business.account)).cloned(),
            trunk: number.and_then(|n| n.trunk.as_ref()).and_then(|id| self.trunks.get(id)).cloned(),
            business: business.cloned(),
            number: number.cloned(),
        }
    }

    /// What is in the way of storing a number.
    fn obstacle(&self, number: &Number, most: usize) -> Option<UpsertError> {
        if !self.businesses.contains_key(&number.business) {
            return Some(UpsertError::NoBusiness(number.business.clone()));
        }
        if let Some(trunk) = number.trunk.as_ref().filter(|id| !self.trunks.contains_key(*id)) {
            return Some(UpsertError::NoTrunk(trunk.clone()));
        }
        let known = self.number(&number.business, &number.phone).is_some();
        if !known && self.count >= most {
            return Some(UpsertError::Full(most));
        }
        number.trunk.as_ref()?;
        let holders = self.dialled.get(&(number.trunk.clone(), number.dialled.clone()))?;
        let other = holders.iter().find(|(b, p)| (b, p) != (&number.business, &number.phone))?;
        Some(UpsertError::Taken { business: other.0.clone(), phone: other.1.clone() })
    }

    fn insert(&mut self, number: Number) {
        self.remove(&number.business.clone(), &number.phone.clone());
        for net in number.allowed_sources.iter().flat_map(SourceList::networks) {
            self.sources.change(*net, |listing| listing.numbers += 1);
        }
        for key in dialled_keys(&number) {
            self.dialled.entry(key).or_default().push((number.business.clone(), number.phone.clone()));
        }
        self.count += 1;
        let phones = self.numbers.entry(number.business.clone()).or_default();
        phones.insert(number.phone.clone(), Arc::new(number));
    }

    fn remove(&mut self, business: &BusinessId, phone: &PhoneId) -> bool {
        let Some(number) = self.numbers.get_mut(business).and_then(|phones| phones.remove(phone)) else {
            return false;
        };
        self.count -= 1;
        for net in number.allowed_sources.iter().flat_map(SourceList::networks) {
            self.sources.change(*net, |listing| listing.numbers = listing.numbers.saturating_sub(1));
        }
        for key in dialled_keys(&number) {
            if let Some(holders) = self.dialled.get_mut(&key) {
                holders.retain(|(b, p)| (b, p) != (business, phone));
                if holders.is_empty() {
                    self.dialled.remove(&key);
                }
            }
        }
        true
    }

    fn set_trunk(&mut self, trunk: Trunk) {
        if let Some(old) = self.trunks.remove(&trunk.id) {
            for net in old.allowed_sources.networks() {
                self.sources.change(*net, |listing| listing.trunks.retain(|id| *id != old.id));
            }
        }
        for net in trunk.allowed_sources.networks() {
            self.sources.change(*net, |listing| listing.trunks.extend([trunk.id.clone()]));
        }
        self.trunks.insert(trunk.id.clone(), Arc::new(trunk));
    }
}

impl MemoryNumbers {
    /// An empty store that holds at most so much.
    pub fn new(limits: Limits) -> Self {
        Self { limits, tables: RwLock::default() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids of all accounts, in order.
    pub fn accounts(&self) -> Vec<AccountId> {
        let mut ids: Vec<_> = self.read().accounts.keys().cloned().collect();
        ids.sort();
        ids
    }

    /// Stores an account.
    pub fn set_account(&self, account: Account) {
        self.write().accounts.insert(account.id.clone(), Arc::new(account));
    }

    /// Stores a business.
    pub fn set_business(&self, business: Business) {
        self.write().businesses.insert(business.id.clone(), Arc::new(business));
    }

    /// Stores a trunk; its sources count from now on.
    pub fn set_trunk(&self, trunk: Trunk) {
        self.write().set_trunk(trunk);
    }

    /// Stores a number, as [`NumberStore::upsert`] does, without waiting.
    ///
    /// # Errors
    /// [`UpsertError`] says what is in the way.
    pub fn set_number(&self, number: Number) -> Result<(), UpsertError> {
        let mut tables = self.write();
        match tables.obstacle(&number, self.limits.numbers) {
            Some(obstacle) => Err(obstacle),
            None => {
                tables.insert(number);
                Ok(())
            }
        }
    }
}

#[async_trait]
impl NumberStore for MemoryNumbers {
    async fn standing(&self, source: IpAddr) -> Result<Standing, StoreError> {
        Ok(self.read().standing(source))
    }

    async fn look_up(&self, identity: &Identity, standing: &Standing) -> Result<Found, StoreError> {
        Ok(self.read().look_up(identity, standing))
    }

    async fn number(
        &self,
        business: &BusinessId,
        phone: &PhoneId,
    ) -> Result<Option<Arc<Number>>, StoreError> {
        Ok(self.read().number(business, phone).cloned())
    }

    async fn list(
        &self,
        business: &BusinessId,
        after: Option<&PhoneId>,
        most: usize,
    ) -> Result<Vec<Arc<Number>>, StoreError> {
        let tables = self.read();
        let phones = tables.numbers.get(business).into_iter().flatten();
        let later = phones.filter(|(phone, _)| after.is_none_or(|after| *phone > after));
        Ok(later.take(most).map(|(_, number)| number.clone()).collect())
    }

    async fn upsert(&self, number: Number) -> Result<(), UpsertError> {
        self.set_number(number)
    }

    async fn delete(&self, business: &BusinessId, phone: &PhoneId) -> Result<bool, StoreError> {
        Ok(self.write().remove(business, phone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::sample;
    use crate::source::parse_network;

    /// The store that the suite starts from.
    fn filled() -> MemoryNumbers {
        let store = MemoryNumbers::default();
        store.set_account(sample::account());
        store.set_business(sample::business());
        store.set_trunk(sample::trunk());
        store
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        crate::number::conformance::conforms(&filled()).await;
    }

    #[test]
    fn it_holds_no_more_than_its_limit() {
        let store = MemoryNumbers::new(Limits { numbers: 1 });
        store.set_business(sample::business());
        store.set_trunk(sample::trunk());
        store.set_number(sample::number()).unwrap();
        store.set_number(Number { voice: false, ..sample::number() }).unwrap();
        let second = Number { phone: "till".parse().unwrap(), ..sample::number() };
        assert_eq!(store.set_number(second), Err(UpsertError::Full(1)));
    }

    #[test]
    fn a_changed_trunk_list_counts_at_once_and_leaves_nothing_behind() {
        let store = filled();
        let moved = parse_network("2001:db8::/32").unwrap();
        store.set_trunk(Trunk { allowed_sources: SourceList::new([moved]), ..sample::trunk() });
        let tables = store.read();
        assert!(!tables.standing("192.0.2.1".parse().unwrap()).is_listed());
        assert!(tables.standing("2001:db8::1".parse().unwrap()).is_listed());
        assert_eq!(tables.sources.networks.len(), 1);
        assert!(tables.sources.prefixes[0].is_empty());
    }
}
