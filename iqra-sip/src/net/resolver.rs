//! Who answers the questions of [`resolve`](crate::resolve): the system, a table, or the DNS itself (feature `dns`).

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;

use crate::resolve::{Data, Kind, LookupError, Question, Record};

/// Looks names up. The procedure of RFC 3263 and its limit of time are the endpoint's; an implementation answers one
/// question, from a cache of its own where that is worth it.
#[async_trait]
pub trait Resolver: Send + Sync + 'static {
    /// The records of the answer section, aliases included.
    ///
    /// # Errors
    /// [`LookupError::NoRecords`] where there is no such name or record, [`LookupError::Failed`] where nobody knows.
    async fn look_up(&self, question: &Question) -> Result<Vec<Record>, LookupError>;
}

/// The system's resolver, the default: addresses only, from the hosts file or wherever the system has them. It knows
/// neither NAPTR nor SRV, so that a name without a port means the default port.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn look_up(&self, question: &Question) -> Result<Vec<Record>, LookupError> {
        if matches!(question.kind, Kind::Naptr | Kind::Srv) {
            return Err(LookupError::NoRecords { ttl: None });
        }
        let found = tokio::net::lookup_host((question.name.as_str(), 0)).await;
        let found = found.map_err(|error| LookupError::Failed(error.to_string()))?;
        let record =
            |ip| Record { name: question.name.clone(), ttl: Duration::ZERO, data: Data::Address(ip) };
        answer(question.kind, found.map(|addr| record(addr.ip())))
    }
}

/// Records that never change: for tests, and for a few servers whose order a program knows itself.
///
/// ```
/// use iqra_sip::net::FixedResolver;
/// use iqra_sip::resolve::Srv;
/// let servers = FixedResolver::default()
///     .srv("_sip._udp.voice.example", Srv { priority: 1, weight: 1, port: 5060, target: "a.voice.example".into() })
///     .address("a.voice.example", [192, 0, 2, 1]);
/// # drop(servers);
/// ```
#[derive(Debug, Clone, Default)]
pub struct FixedResolver(Vec<Record>);

impl FixedResolver {
    /// Adds a record of any kind.
    #[must_use]
    pub fn record(mut self, name: &str, data: Data) -> Self {
        let name = Question::new(name, Kind::A).name;
        self.0.push(Record { name, ttl: Duration::from_secs(3_600), data });
        self
    }

    /// Adds a server of a service, such as `_sip._udp.voice.example` (RFC 2782).
    #[must_use]
    pub fn srv(self, service: &str, srv: crate::resolve::Srv) -> Self {
        self.record(service, Data::Srv(srv))
    }

    /// Adds an address of a host.
    #[must_use]
    pub fn address(self, host: &str, ip: impl Into<IpAddr>) -> Self {
        self.record(host, Data::Address(ip.into()))
    }
}

#[async_trait]
impl Resolver for FixedResolver {
    async fn look_up(&self, question: &Question) -> Result<Vec<Record>, LookupError> {
        answer(question.kind, self.0.iter().filter(|record| record.name == question.name).cloned())
    }
}

/// What of these records answers a question of this kind.
fn answer(kind: Kind, records: impl Iterator<Item = Record>) -> Result<Vec<Record>, LookupError> {
    let answers = |record: &Record| record.data.is_of(kind) || matches!(record.data, Data::Alias(_));
    let found: Vec<_> = records.filter(answers).collect();
    if found.is_empty() { Err(LookupError::NoRecords { ttl: None }) } else { Ok(found) }
}
