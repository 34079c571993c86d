//! Numbers in PostgreSQL. Every row has its JSON, and columns for what is searched; triggers tell who keeps copies.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;

use super::stored::{networks_of, standing};
use super::{Account, Business, CacheLimits, CachedNumbers, Found, Number, NumberStore, Trunk, UpsertError};
use crate::error::StoreError;
use crate::identity::{AccountId, BusinessId, Dialled, Identity, PhoneId, TrunkId};
use crate::postgres::{Database, Done, Fault, Session, broken_constraint};
use crate::source::{SourceList, Standing};

const STORE: &str = "numbers";

/// What a look-up gives, from a number (`n`) and a business (`b`) on. A join would rather read all trunks.
const FACTS: &str = "SELECT b.body, (SELECT body FROM iqra.accounts a WHERE a.id = b.account), n.body,
    (SELECT body FROM iqra.trunks t WHERE t.id = n.trunk)";

/// A [`NumberStore`] on a PostgreSQL server. Businesses, accounts and trunks are set by its own methods. It has no limit
/// of its own: whoever may write to the server fills it.
#[derive(Clone)]
pub struct PostgresNumbers {
    database: Database,
}

impl PostgresNumbers {
    /// The numbers of this server.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// These numbers behind a cache that hears of every change, by whatever program it was made. Needs a runtime: a task
    /// follows the changes until the cache is dropped.
    #[must_use]
    pub fn cached(self, limits: CacheLimits) -> Arc<CachedNumbers<Self>> {
        let database = self.database.clone();
        let cached = Arc::new(CachedNumbers::new(self, limits));
        let weak = Arc::downgrade(&cached);
        let gone = cached.dropped();
        tokio::spawn(async move {
            let changes = database.follow(|change| {
                if let Some(cached) = weak.upgrade() {
                    cached.changed(&change);
                }
            });
            tokio::select! {
                () = changes => {}
                () = gone => {}
            }
        });
        cached
    }

    /// Stores an account.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    pub async fn set_account(&self, account: &Account) -> Result<(), StoreError> {
        let put = "INSERT INTO iqra.accounts VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = $2";
        let done = self.database.run(STORE, |mut session| async move {
            session.execute(put, &[&account.id.as_str(), &serde_json::to_string(account)?]).await?;
            Ok((session, ()))
        });
        done.await
    }

    /// Stores a business.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    pub async fn set_business(&self, business: &Business) -> Result<(), StoreError> {
        let put = "INSERT INTO iqra.businesses VALUES ($1, $2, $3)
            ON CONFLICT (id) DO UPDATE SET account = $2, body = $3";
        let done = self.database.run(STORE, |mut session| async move {
            let body = serde_json::to_string(business)?;
            session.execute(put, &[&business.id.as_str(), &business.account.as_str(), &body]).await?;
            Ok((session, ()))
        });
        done.await
    }

    /// Stores a trunk; its sources count from now on.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    pub async fn set_trunk(&self, trunk: &Trunk) -> Result<(), StoreError> {
        self.database.run(STORE, |session| set_trunk(session, trunk)).await
    }

    /// The ids of all accounts, in order.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    pub async fn accounts(&self) -> Result<Vec<AccountId>, StoreError> {
        let accounts = self.database.run(STORE, |mut session| async move {
            let rows = session.rows("SELECT body FROM iqra.accounts ORDER BY id", &[]).await?;
            let ids: Result<_, Fault> =
                rows.iter().map(|row| body::<Account>(row, 0).map(|account| account.id)).collect();
            Ok((session, ids?))
        });
        accounts.await
    }
}

/// A stored body that must be there.
fn body<T: DeserializeOwned>(row: &Row, column: usize) -> Result<T, Fault> {
    Ok(serde_json::from_str(row.try_get(column)?)?)
}

/// A stored body that an outer join may have left out.
fn optional<T: DeserializeOwned>(row: &Row, column: usize) -> Result<Option<Arc<T>>, Fault> {
    let body: Option<&str> = row.try_get(column)?;
    Ok(body.map(|body| serde_json::from_str(body).map(Arc::new)).transpose()?)
}

fn texts(list: &SourceList) -> Vec<String> {
    list.networks().iter().map(ToString::to_string).collect()
}

async fn set_trunk(mut session: Session, trunk: &Trunk) -> Done<()> {
    let (id, networks) = (trunk.id.as_str(), texts(&trunk.allowed_sources));
    let put = "INSERT INTO iqra.trunks VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = $2";
    let list = "INSERT INTO iqra.trunk_networks SELECT DISTINCT unnest($2::text[]), $1::text";
    session.say("BEGIN").await?;
    // The row first: whoever sets the same trunk waits here.
    session.execute(put, &[&id, &serde_json::to_string(trunk)?]).await?;
    session.execute("DELETE FROM iqra.trunk_networks WHERE trunk = $1", &[&id]).await?;
    session.execute(list, &[&id, &networks]).await?;
    session.say("COMMIT").await?;
    Ok((session, ()))
}

async fn read_standing(mut session: Session, source: IpAddr) -> Done<Standing> {
    let networks = networks_of(source);
    let of_trunks = "SELECT n.network, (SELECT body FROM iqra.trunks t WHERE t.id = n.trunk)
        FROM iqra.trunk_networks n WHERE n.network = ANY ($1)";
    let of_numbers = "SELECT EXISTS (SELECT FROM iqra.number_networks WHERE network = ANY ($1))";
    let rows = session.rows(of_trunks, &[&networks]).await?;
    let trunks: Result<Vec<_>, Fault> =
        rows.iter().map(|row| Ok((row.try_get(0)?, body::<Trunk>(row, 1)?))).collect();
    let listed = session.row(of_numbers, &[&networks]).await?;
    let listed = listed.map(|row| row.try_get(0)).transpose()?.unwrap_or(false);
    Ok((session, standing(source, trunks?, listed)))
}

fn found(row: Option<&Row>) -> Result<Found, Fault> {
    let Some(row) = row else { return Ok(Found::default()) };
    Ok(Found {
        business: optional(row, 0)?,
        account: optional(row, 1)?,
        number: optional(row, 2)?,
        trunk: optional(row, 3)?,
    })
}

async fn look_up_named(mut session: Session, business: &BusinessId, phone: &PhoneId) -> Done<Found> {
    let sql = format!(
        "{FACTS} FROM iqra.businesses b LEFT JOIN iqra.numbers n ON n.business = b.id AND n.phone = $2 WHERE b.id = $1"
    );
    let row = session.row(&sql, &[&business.as_str(), &phone.as_str()]).await?;
    Ok((session, found(row.as_ref())?))
}

/// The number on the first of the trunks that has it, else one that takes the source by itself.
async fn look_up_dialled(mut session: Session, dialled: &Dialled, standing: &Standing) -> Done<Found> {
    let sql = format!(
        "{FACTS} FROM iqra.numbers n JOIN iqra.businesses b ON b.id = n.business
         WHERE n.dialled = $1 AND (n.trunk = ANY ($2) OR n.any_source OR n.trunk IS NULL AND EXISTS (
             SELECT FROM iqra.number_networks l
             WHERE l.business = n.business AND l.phone = n.phone AND l.network = ANY ($3)))
         ORDER BY array_position($2, n.trunk) NULLS LAST, n.business, n.phone LIMIT 1"
    );
    let trunks: Vec<&str> = standing.trunks.iter().map(|trunk| trunk.id.as_str()).collect();
    let networks = networks_of(standing.source);
    let row = session.row(&sql, &[&dialled.as_str().as_bytes(), &trunks, &networks]).await?;
    Ok((session, found(row.as_ref())?))
}

/// Stores a number; the constraints say what is in the way.
async fn upsert(mut session: Session, number: &Number) -> Done<Result<(), UpsertError>> {
    session.say("BEGIN").await?;
    match put(&mut session, number).await {
        Ok(()) => {
            session.say("COMMIT").await?;
            Ok((session, Ok(())))
        }
        Err(fault) => {
            let Some(constraint) = broken_constraint(&fault).map(str::to_owned) else { return Err(fault) };
            session.say("ROLLBACK").await?;
            let obstacle = obstacle(&mut session, &constraint, number, fault).await?;
            Ok((session, Err(obstacle)))
        }
    }
}

async fn put(session: &mut Session, number: &Number) -> Result<(), Fault> {
    let (business, phone) = (number.business.as_str(), number.phone.as_str());
    let row = "INSERT INTO iqra.numbers VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (business, phone)
        DO UPDATE SET dialled = $3, trunk = $4, any_source = $5, body = $6";
    let forget = "DELETE FROM iqra.number_networks WHERE business = $1 AND phone = $2";
    let list = "INSERT INTO iqra.number_networks SELECT DISTINCT unnest($3::text[]), $1::text, $2::text";
    let trunk = number.trunk.as_ref().map(TrunkId::as_str);
    let dialled = number.dialled.as_str().as_bytes();
    let body = serde_json::to_string(number)?;
    session.execute(row, &[&business, &phone, &dialled, &trunk, &number.allow_any_source, &body]).await?;
    session.execute(forget, &[&business, &phone]).await?;
    if let Some(own) = &number.allowed_sources {
        session.execute(list, &[&business, &phone, &texts(own)]).await?;
    }
    Ok(())
}

/// What a broken constraint says; the fault itself where it says nothing.
async fn obstacle(
    session: &mut Session,
    constraint: &str,
    number: &Number,
    fault: Fault,
) -> Result<UpsertError, Fault> {
    match (constraint, &number.trunk) {
        ("numbers_business", _) => Ok(UpsertError::NoBusiness(number.business.clone())),
        ("numbers_trunk", Some(trunk)) => Ok(UpsertError::NoTrunk(trunk.clone())),
        ("numbers_on_trunk", Some(trunk)) => {
            // This constraint is looked at first.
            let business = "SELECT FROM iqra.businesses WHERE id = $1";
            if session.row(business, &[&number.business.as_str()]).await?.is_none() {
                return Ok(UpsertError::NoBusiness(number.business.clone()));
            }
            let holder = "SELECT body FROM iqra.numbers WHERE trunk = $1 AND dialled = $2";
            let row = session.row(holder, &[&trunk.as_str(), &number.dialled.as_str().as_bytes()]).await?;
            let Some(row) = row else { return Err(fault) }; // deleted meanwhile: try again
            let Number { business, phone, .. } = body(&row, 0)?;
            Ok(UpsertError::Taken { business, phone })
        }
        _ => Err(fault),
    }
}

#[async_trait]
impl NumberStore for PostgresNumbers {
    async fn standing(&self, source: IpAddr) -> Result<Standing, StoreError> {
        self.database.run(STORE, |session| read_standing(session, source)).await
    }

    async fn look_up(&self, identity: &Identity, standing: &Standing) -> Result<Found, StoreError> {
        match identity {
            Identity::Named { business, phone } => {
                self.database.run(STORE, |session| look_up_named(session, business, phone)).await
            }
            Identity::Dialled(dialled) => {
                self.database.run(STORE, |session| look_up_dialled(session, dialled, standing)).await
            }
        }
    }

    async fn number(
        &self,
        business: &BusinessId,
        phone: &PhoneId,
    ) -> Result<Option<Arc<Number>>, StoreError> {
        let select = "SELECT body FROM iqra.numbers WHERE business = $1 AND phone = $2";
        let number = self.database.run(STORE, |mut session| async move {
            let row = session.row(select, &[&business.as_str(), &phone.as_str()]).await?;
            let number = row.map(|row| body(&row, 0).map(Arc::new)).transpose()?;
            Ok((session, number))
        });
        number.await
    }

    async fn list(
        &self,
        business: &BusinessId,
        after: Option<&PhoneId>,
        most: usize,
    ) -> Result<Vec<Arc<Number>>, StoreError> {
        let select =
            "SELECT body FROM iqra.numbers WHERE business = $1 AND phone > $2 ORDER BY phone LIMIT $3";
        let (after, most) = (after.map_or("", PhoneId::as_str), i64::try_from(most).unwrap_or(i64::MAX));
        let list = self.database.run(STORE, |mut session| async move {
            let rows = session.rows(select, &[&business.as_str(), &after, &most]).await?;
            let list: Result<_, Fault> = rows.iter().map(|row| body(row, 0).map(Arc::new)).collect();
            Ok((session, list?))
        });
        list.await
    }

    async fn upsert(&self, number: Number) -> Result<(), UpsertError> {
        self.database.run(STORE, |session| upsert(session, &number)).await?
    }

    async fn delete(&self, business: &BusinessId, phone: &PhoneId) -> Result<bool, StoreError> {
        let delete = "DELETE FROM iqra.numbers WHERE business = $1 AND phone = $2";
        let deleted = self.database.run(STORE, |mut session| async move {
            let deleted = session.execute(delete, &[&business.as_str(), &phone.as_str()]).await?;
            Ok((session, deleted > 0))
        });
        deleted.await
    }
}
