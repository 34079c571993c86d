//! Numbers, and what they belong to: businesses, accounts with their plan, trunks. The store that looks them up.
//!
//! In: an [`Identity`] and what is known of the source. Out: facts ([`Found`]) that [`decide`](crate::decide) turns
//! into a decision; a store itself decides nothing, so every implementation refuses alike.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::StoreError;
use crate::identity::{AccountId, BusinessId, Dialled, Identity, PhoneId, RegionId, RouteId, TrunkId};
use crate::source::{SourceList, Standing};

#[cfg(feature = "cache")]
mod cached;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod stored;

#[cfg(feature = "cache")]
pub use cached::{CachedNumbers, Change};
pub use memory::{Limits, MemoryNumbers};
#[cfg(feature = "postgres")]
pub use postgres::PostgresNumbers;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteNumbers;

/// Who carries a number's calls to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Provider {
    /// A SIP trunk, directly.
    Sip,
    /// Twilio.
    Twilio,
    /// Telnyx.
    Telnyx,
    /// Vonage.
    Vonage,
}

/// How calls are to reach their backend, as it is configured for a trunk or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HandOver {
    /// The caller is sent there with 302 (default).
    #[default]
    Redirect,
    /// The proxy stays in the path of the signalling.
    Relay,
    /// As [`Relay`](Self::Relay) until the trunk is known to follow redirects
    /// ([`CallQueue::redirects_followed`](crate::queue::CallQueue::redirects_followed)), then as
    /// [`Redirect`](Self::Redirect).
    Auto,
}

/// A number that can be called.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Number {
    /// The business that it belongs to.
    pub business: BusinessId,
    /// Its id within the business.
    pub phone: PhoneId,
    /// What is dialled to reach it, where calls do not name the ids.
    pub dialled: Dialled,
    /// Who carries its calls.
    pub provider: Provider,
    /// Where its calls are answered.
    pub region: RegionId,
    /// What answers; `None` refuses calls.
    pub route: Option<RouteId>,
    /// Whether it takes voice calls.
    pub voice: bool,
    /// The trunk that its calls come from.
    pub trunk: Option<TrunkId>,
    /// Who may send its calls; `None` leaves that to its trunk.
    pub allowed_sources: Option<SourceList>,
    /// Whether anybody may send its calls.
    pub allow_any_source: bool,
    /// Codecs in order of preference, as SDP names them (`PCMU`, `PCMA`); empty leaves the choice to the backend.
    pub codecs: Arc<[String]>,
    /// How long it rings before it is answered.
    pub answer_delay: Duration,
    /// How long a call may last; `None` for no limit of its own.
    pub max_duration: Option<Duration>,
    /// How its calls reach their backend; `None` leaves that to its trunk.
    pub hand_over: Option<HandOver>,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Business {
    /// Its id.
    pub id: BusinessId,
    /// Who pays for it.
    pub account: AccountId,
    /// Whether it takes calls.
    pub active: bool,
}

/// Who pays, and the plan.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Whether its subscription is active.
    pub active: bool,
    /// How many calls may be up at once.
    pub concurrent_calls: u32,
    /// How many minutes are left; `None` for a plan without such a limit.
    pub minutes_left: Option<u64>,
    /// Whether its calls may go to development backends.
    pub admin: bool,
}

/// A carrier or PBX that sends calls from known addresses.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Trunk {
    /// Its id.
    pub id: TrunkId,
    /// Where its calls come from.
    pub allowed_sources: SourceList,
    /// Whether ids are read from headers inside the Request-URI (RFC 4475 §3.1.2.11 shows why this is off by default).
    pub uri_headers: bool,
    /// Whether the token goes into the user part of the Contact, for carriers that drop URI parameters.
    pub token_in_user: bool,
    /// How its calls reach their backend, where the number says nothing else.
    pub hand_over: HandOver,
}

/// What a look-up found. A fact that is `None` was not there; which refusal follows is for
/// [`decide`](crate::decide::decide) to say.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The business that was named, or that owns the number.
    pub business: Option<Arc<Business>>,
    /// The business's account.
    pub account: Option<Arc<Account>>,
    /// The number.
    pub number: Option<Arc<Number>>,
    /// The number's trunk.
    pub trunk: Option<Arc<Trunk>>,
}

/// A number cannot be stored as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpsertError {
    /// The business does not exist.
    #[error("the number's business {0} does not exist; create it first")]
    NoBusiness(BusinessId),
    /// The trunk does not exist.
    #[error("the number's trunk {0} does not exist; create it first")]
    NoTrunk(TrunkId),
    /// Another number has the same dialled form on the same trunk.
    #[error("the dialled number is taken on this trunk by {business}/{phone}; change one of them")]
    Taken {
        /// Whose it is.
        business: BusinessId,
        /// Which one it is.
        phone: PhoneId,
    },
    /// The store holds as many numbers as it may.
    #[error("the store holds its maximum of {0} numbers; delete some or raise the limit")]
    Full(usize),
    /// The store is away.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How much a copy of a store's answers keeps, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Answers; beyond, those are forgotten that nobody asks for. Default 100,000 (about 1 KiB each).
    pub entries: usize,
    /// How old an answer may be; default 30 s.
    pub age: Duration,
    /// How old an answer may be that found nothing; default 2 s.
    pub missing: Duration,
    /// How old an answer may be while the store is away; default 5 min, zero for none.
    pub stale: Duration,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            entries: 100_000,
            age: Duration::from_secs(30),
            missing: Duration::from_secs(2),
            stale: Duration::from_secs(300),
        }
    }
}

/// Finds numbers and what they belong to.
///
/// # Contract
/// - [`standing`](Self::standing) is asked first, for every call: it lists the trunks whose networks contain the
///   address, the narrowest network first, and says whether any number's own list contains it. IPv4-mapped addresses
///   are IPv4 addresses.
/// - [`look_up`](Self::look_up) reports what is there and leaves out what is not; it never refuses. A `Named` identity
///   finds the business even where the number is missing. A `Dialled` identity finds a number whose trunk is one of
///   `standing.trunks` (the first that has it), else one that takes any source, or that has no trunk and lists the
///   source itself.
/// - The pair (business, phone) is unique, and so is (trunk, dialled) among numbers with a trunk;
///   [`upsert`](Self::upsert) refuses what would break that and changes nothing then.
/// - [`list`](Self::list) is ordered by phone id and pages by the last one seen.
/// - What one caller stored, every later caller sees. A caching wrapper says how much later.
#[async_trait]
pub trait NumberStore: Send + Sync {
    /// What is known of an address.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn standing(&self, source: IpAddr) -> Result<Standing, StoreError>;

    /// The facts for one call.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn look_up(&self, identity: &Identity, standing: &Standing) -> Result<Found, StoreError>;

    /// One number.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn number(&self, business: &BusinessId, phone: &PhoneId)
    -> Result<Option<Arc<Number>>, StoreError>;

    /// A business's numbers after `after`, at most `most`.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn list(
        &self,
        business: &BusinessId,
        after: Option<&PhoneId>,
        most: usize,
    ) -> Result<Vec<Arc<Number>>, StoreError>;

    /// Stores a number, in place of one with the same business and phone id.
    ///
    /// # Errors
    /// [`UpsertError`] says what is in the way.
    async fn upsert(&self, number: Number) -> Result<(), UpsertError>;

    /// Deletes a number; whether there was one.
    ///
    /// # Errors
    /// [`StoreError`] when the store is away.
    async fn delete(&self, business: &BusinessId, phone: &PhoneId) -> Result<bool, StoreError>;
}

/// Values that suites and tests start from.
#[cfg(any(test, feature = "conformance"))]
pub mod sample {
    use super::{Account, Business, HandOver, Number, Provider, Trunk};
    use crate::identity::Dialled;
    use crate::source::{SourceList, parse_network};
    use std::time::Duration;

    fn id<T: std::str::FromStr>(text: &str) -> T
    where
        T::Err: std::fmt::Debug,
    {
        text.parse().expect("sample ids are well formed")
    }

    /// Account `acme`, 2 calls at once.
    pub fn account() -> Account {
        Account { id: id("acme"), active: true, concurrent_calls: 2, minutes_left: None, admin: false }
    }

    /// Business `7` of [`account`].
    pub fn business() -> Business {
        Business { id: id("7"), account: id("acme"), active: true }
    }

    /// Trunk `carrier` that sends from 192.0.2.0/24.
    pub fn trunk() -> Trunk {
        let network = parse_network("192.0.2.0/24").expect("sample network is well formed");
        Trunk {
            id: id("carrier"),
            allowed_sources: SourceList::new([network]),
            uri_headers: false,
            token_in_user: false,
            hand_over: HandOver::Redirect,
        }
    }

    /// Number `desk` of [`business`], dialled 1000, on [`trunk`], in region `eu`.
    pub fn number() -> Number {
        Number {
            business: id("7"),
            phone: id("desk"),
            dialled: Dialled::parse("1000").expect("sample number is well formed"),
            provider: Provider::Sip,
            region: id("eu"),
            route: Some(id("front")),
            voice: true,
            trunk: Some(id("carrier")),
            allowed_sources: None,
            allow_any_source: false,
            codecs: [].into(),
            answer_delay: Duration::ZERO,
            max_duration: None,
            hand_over: None,
        }
    }
}
