//! Numbers in the shared SQLite file. Every row has its JSON, and columns for what is searched.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Params, Transaction, params};
use serde::de::DeserializeOwned;

use super::stored::{networks_of, standing};
use super::{Account, Business, Found, Number, NumberStore, Trunk, UpsertError};
use crate::error::StoreError;
use crate::identity::{AccountId, BusinessId, Dialled, Identity, PhoneId, TrunkId};
use crate::source::{SourceList, Standing};
use crate::sqlite::{Database, Fault};

const STORE: &str = "numbers";

/// A [`NumberStore`] in a SQLite file. Businesses, accounts and trunks are set by its own methods. It has no limit of its
/// own: whoever may write to the file fills it.
#[derive(Debug, Clone)]
pub struct SqliteNumbers {
    database: Database,
}

impl SqliteNumbers {
    /// The numbers in this file.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Stores an account.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    pub async fn set_account(&self, account: &Account) -> Result<(), StoreError> {
        let account = account.clone();
        let done = self.database.run(STORE, move |tx| {
            let mut put = tx.prepare_cached("INSERT OR REPLACE INTO accounts VALUES (?, ?)")?;
            put.execute(params![account.id.as_str(), serde_json::to_string(&account)?])?;
            Ok(())
        });
        done.await
    }

    /// Stores a business.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    pub async fn set_business(&self, business: &Business) -> Result<(), StoreError> {
        let business = business.clone();
        let done = self.database.run(STORE, move |tx| {
            let (id, account) = (business.id.as_str(), business.account.as_str());
            let mut put = tx.prepare_cached("INSERT OR REPLACE INTO businesses VALUES (?, ?, ?)")?;
            put.execute(params![id, account, serde_json::to_string(&business)?])?;
            Ok(())
        });
        done.await
    }

    /// Stores a trunk; its sources count from now on.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    pub async fn set_trunk(&self, trunk: &Trunk) -> Result<(), StoreError> {
        let trunk = trunk.clone();
        self.database.run(STORE, move |tx| set_trunk(tx, &trunk)).await
    }

    /// The ids of all accounts, in order.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    pub async fn accounts(&self) -> Result<Vec<AccountId>, StoreError> {
        let accounts = self.database.run(STORE, |tx| {
            let all: Vec<Account> = bodies(tx, "SELECT body FROM accounts ORDER BY id", [])?;
            Ok(all.into_iter().map(|account| account.id).collect())
        });
        accounts.await
    }
}

/// The bodies that a query gives.
fn bodies<T: DeserializeOwned>(tx: &Transaction<'_>, sql: &str, by: impl Params) -> Result<Vec<T>, Fault> {
    let texts: Vec<String> =
        tx.prepare_cached(sql)?.query_map(by, |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(texts.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?)
}

fn one<T: DeserializeOwned>(tx: &Transaction<'_>, sql: &str, by: impl Params) -> Result<Option<T>, Fault> {
    Ok(bodies(tx, sql, by)?.into_iter().next())
}

/// Texts as one parameter, which `json_each` takes apart.
fn array(texts: &[String]) -> Result<String, Fault> {
    Ok(serde_json::to_string(texts)?)
}

fn texts(list: &SourceList) -> Vec<String> {
    list.networks().iter().map(ToString::to_string).collect()
}

fn set_trunk(tx: &Transaction<'_>, trunk: &Trunk) -> Result<(), Fault> {
    let id = trunk.id.as_str();
    tx.prepare_cached("INSERT OR REPLACE INTO trunks VALUES (?, ?)")?
        .execute(params![id, serde_json::to_string(trunk)?])?;
    tx.prepare_cached("DELETE FROM trunk_networks WHERE trunk = ?")?.execute([id])?;
    tx.prepare_cached("INSERT OR IGNORE INTO trunk_networks SELECT value, ?1 FROM json_each(?2)")?
        .execute(params![id, array(&texts(&trunk.allowed_sources))?])?;
    Ok(())
}

fn read_standing(tx: &Transaction<'_>, source: IpAddr) -> Result<Standing, Fault> {
    let networks = array(&networks_of(source))?;
    let rows: Vec<(String, String)> = tx
        .prepare_cached(
            "SELECT n.network, t.body FROM trunk_networks n JOIN trunks t ON t.id = n.trunk
             WHERE n.network IN (SELECT value FROM json_each(?))",
        )?
        .query_map([&networks], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let trunks = rows.into_iter().map(|(network, body)| Ok((network, serde_json::from_str(&body)?)));
    let trunks: Result<Vec<(String, Trunk)>, Fault> = trunks.collect();
    let listed = tx
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM number_networks WHERE network IN (SELECT value FROM json_each(?)))",
        )?
        .query_row([&networks], |row| row.get(0))?;
    Ok(standing(source, trunks?, listed))
}

fn stored_number(
    tx: &Transaction<'_>,
    business: &BusinessId,
    phone: &PhoneId,
) -> Result<Option<Number>, Fault> {
    let select = "SELECT body FROM numbers WHERE business = ? AND phone = ?";
    one(tx, select, params![business.as_str(), phone.as_str()])
}

/// The number on the first of the trunks that has it, else one that takes the source by itself.
fn dialled_number(
    tx: &Transaction<'_>,
    dialled: &Dialled,
    standing: &Standing,
) -> Result<Option<Number>, Fault> {
    for trunk in &standing.trunks {
        let on_trunk = "SELECT body FROM numbers WHERE trunk = ? AND dialled = ?";
        if let Some(number) = one(tx, on_trunk, params![trunk.id.as_str(), dialled.as_str()])? {
            return Ok(Some(number));
        }
    }
    let bare = "SELECT body FROM numbers n WHERE dialled = ?1 AND (any_source OR trunk IS NULL AND EXISTS (
            SELECT 1 FROM number_networks l WHERE l.business = n.business AND l.phone = n.phone
            AND l.network IN (SELECT value FROM json_each(?2))))
        ORDER BY business, phone LIMIT 1";
    one(tx, bare, params![dialled.as_str(), array(&networks_of(standing.source))?])
}

fn look_up(tx: &Transaction<'_>, identity: &Identity, standing: &Standing) -> Result<Found, Fault> {
    let (business, number) = match identity {
        Identity::Named { business, phone } => (Some(business.clone()), stored_number(tx, business, phone)?),
        Identity::Dialled(dialled) => {
            let number = dialled_number(tx, dialled, standing)?;
            (number.as_ref().map(|number| number.business.clone()), number)
        }
    };
    let business: Option<Business> = match &business {
        Some(id) => one(tx, "SELECT body FROM businesses WHERE id = ?", [id.as_str()])?,
        None => None,
    };
    let account: Option<Account> = match &business {
        Some(business) => one(tx, "SELECT body FROM accounts WHERE id = ?", [business.account.as_str()])?,
        None => None,
    };
    let trunk: Option<Trunk> = match number.as_ref().and_then(|number| number.trunk.as_ref()) {
        Some(id) => one(tx, "SELECT body FROM trunks WHERE id = ?", [id.as_str()])?,
        None => None,
    };
    Ok(Found {
        business: business.map(Arc::new),
        account: account.map(Arc::new),
        number: number.map(Arc::new),
        trunk: trunk.map(Arc::new),
    })
}

fn is_there(tx: &Transaction<'_>, sql: &str, id: &str) -> Result<bool, Fault> {
    Ok(tx.prepare_cached(sql)?.query_row([id], |_| Ok(())).optional()?.is_some())
}

/// What is in the way of storing a number.
fn obstacle(tx: &Transaction<'_>, number: &Number) -> Result<Option<UpsertError>, Fault> {
    if !is_there(tx, "SELECT 1 FROM businesses WHERE id = ?", number.business.as_str())? {
        return Ok(Some(UpsertError::NoBusiness(number.business.clone())));
    }
    let Some(trunk) = &number.trunk else { return Ok(None) };
    if !is_there(tx, "SELECT 1 FROM trunks WHERE id = ?", trunk.as_str())? {
        return Ok(Some(UpsertError::NoTrunk(trunk.clone())));
    }
    let on_trunk = "SELECT body FROM numbers WHERE trunk = ? AND dialled = ?";
    let holder: Option<Number> = one(tx, on_trunk, params![trunk.as_str(), number.dialled.as_str()])?;
    let other = holder.filter(|held| (&held.business, &held.phone) != (&number.business, &number.phone));
    Ok(other.map(|Number { business, phone, .. }| UpsertError::Taken { business, phone }))
}

fn put(tx: &Transaction<'_>, number: &Number) -> Result<(), Fault> {
    let (business, phone) = (number.business.as_str(), number.phone.as_str());
    tx.prepare_cached("INSERT OR REPLACE INTO numbers VALUES (?, ?, ?, ?, ?, ?)")?.execute(params![
        business,
        phone,
        number.dialled.as_str(),
        number.trunk.as_ref().map(TrunkId::as_str),
        number.allow_any_source,
        serde_json::to_string(number)?,
    ])?;
    tx.prepare_cached("DELETE FROM number_networks WHERE business = ? AND phone = ?")?
        .execute([business, phone])?;
    let own = number.allowed_sources.as_ref().map(texts).unwrap_or_default();
    tx.prepare_cached("INSERT OR IGNORE INTO number_networks SELECT value, ?1, ?2 FROM json_each(?3)")?
        .execute(params![business, phone, array(&own)?])?;
    Ok(())
}

fn delete(tx: &Transaction<'_>, business: &BusinessId, phone: &PhoneId) -> Result<bool, Fault> {
    let by = [business.as_str(), phone.as_str()];
    tx.prepare_cached("DELETE FROM number_networks WHERE business = ? AND phone = ?")?.execute(by)?;
    Ok(tx.prepare_cached("DELETE FROM numbers WHERE business = ? AND phone = ?")?.execute(by)? > 0)
}

#[async_trait]
impl NumberStore for SqliteNumbers {
    async fn standing(&self, source: IpAddr) -> Result<Standing, StoreError> {
        self.database.run(STORE, move |tx| read_standing(tx, source)).await
    }

    async fn look_up(&self, identity: &Identity, standing: &Standing) -> Result<Found, StoreError> {
        let (identity, standing) = (identity.clone(), standing.clone());
        self.database.run(STORE, move |tx| look_up(tx, &identity, &standing)).await
    }

    async fn number(
        &self,
        business: &BusinessId,
        phone: &PhoneId,
    ) -> Result<Option<Arc<Number>>, StoreError> {
        let (business, phone) = (business.clone(), phone.clone());
        let number = self.database.run(STORE, move |tx| stored_number(tx, &business, &phone));
        Ok(number.await?.map(Arc::new))
    }

    async fn list(
        &self,
        business: &BusinessId,
        after: Option<&PhoneId>,
        most: usize,
    ) -> Result<Vec<Arc<Number>>, StoreError> {
        let (business, after) = (business.clone(), after.map_or("", PhoneId::as_str).to_owned());
        let list = self.database.run(STORE, move |tx| {
            let select = "SELECT body FROM numbers WHERE business = ? AND phone > ? ORDER BY phone LIMIT ?";
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            bodies::<Number>(tx, select, params![business.as_str(), after, most])
        });
        Ok(list.await?.into_iter().map(Arc::new).collect())
    }

    async fn upsert(&self, number: Number) -> Result<(), UpsertError> {
        let stored = self.database.run(STORE, move |tx| match obstacle(tx, &number)? {
            Some(obstacle) => Ok(Err(obstacle)),
            None => Ok(Ok(put(tx, &number)?)),
        });
        stored.await?
    }

    async fn delete(&self, business: &BusinessId, phone: &PhoneId) -> Result<bool, StoreError> {
        let (business, phone) = (business.clone(), phone.clone());
        self.database.run(STORE, move |tx| delete(tx, &business, &phone)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::sample;
    use crate::sqlite::tests::Scratch;

    /// The store that the suite starts from.
    async fn filled(scratch: &Scratch) -> SqliteNumbers {
        let store = SqliteNumbers::new(scratch.open());
        store.set_account(&sample::account()).await.unwrap();
        store.set_business(&sample::business()).await.unwrap();
        store.set_trunk(&sample::trunk()).await.unwrap();
        store
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let scratch = Scratch::new();
        crate::number::conformance::conforms(&filled(&scratch).await).await;
    }

    #[tokio::test]
    async fn what_one_process_stores_another_one_finds() {
        let scratch = Scratch::new();
        let (one, other) = (filled(&scratch).await, SqliteNumbers::new(scratch.open()));
        one.upsert(sample::number()).await.unwrap();
        let number = sample::number();
        let found = other.number(&number.business, &number.phone).await.unwrap();
        assert_eq!(found.as_deref(), Some(&number));
        assert_eq!(other.accounts().await, Ok(vec![sample::account().id]));
    }
}
