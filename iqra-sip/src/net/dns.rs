//! The DNS itself (feature `dns`): NAPTR, SRV and addresses by `hickory-resolver`, which caches and repeats questions.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{self, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};

use super::resolver::Resolver;
use crate::resolve::{Data, Kind, LookupError, Naptr, Question, Record, Srv};

/// Asks name servers. Answers are kept for as long as they say, so one resolver serves all endpoints of a program.
pub struct DnsResolver(TokioResolver);

/// A [`DnsResolver`] cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("no resolver can be made of these name servers: {0}; check them, or the system's configuration")]
pub struct DnsConfigError(String);

impl DnsResolver {
    /// With the name servers of the system (`/etc/resolv.conf` on Unix).
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn system() -> Result<Self, DnsConfigError> {
        let built = TokioResolver::builder_tokio().and_then(ResolverBuilder::build);
        built.map(Self).map_err(|error| DnsConfigError(error.to_string()))
    }

    /// With these name servers, over UDP, and TCP for what is too long for a datagram. They are asked for names as they
    /// are, without a search list.
    ///
    /// # Errors
    /// When no resolver can be made of them.
    pub fn of(servers: impl IntoIterator<Item = SocketAddr>) -> Result<Self, DnsConfigError> {
        let server = |addr: SocketAddr| {
            let mut both = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            both.iter_mut().for_each(|connection| connection.port = addr.port());
            NameServerConfig::new(addr.ip(), true, both)
        };
        let config = ResolverConfig::from_name_servers(servers.into_iter().map(server).collect());
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.build().map(Self).map_err(|error| DnsConfigError(error.to_string()))
    }
}

impl std::fmt::Debug for DnsResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DnsResolver")
    }
}

#[async_trait]
impl Resolver for DnsResolver {
    async fn look_up(&self, question: &Question) -> Result<Vec<Record>, LookupError> {
        let kind = match question.kind {
            Kind::Naptr => RecordType::NAPTR,
            Kind::Srv => RecordType::SRV,
            Kind::A => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
        };
        // A dot at the end: no search list.
        let found = self.0.lookup(format!("{}.", question.name), kind).await.map_err(failed)?;
        Ok(found.answers().iter().filter_map(record).collect())
    }
}

fn failed(error: NetError) -> LookupError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            LookupError::NoRecords { ttl: none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into())) }
        }
        other => LookupError::Failed(other.to_string()),
    }
}

/// What this crate reads of a record.
fn record(record: &rr::Record) -> Option<Record> {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let data = match &record.data {
        RData::A(ip) => Data::Address(ip.0.into()),
        RData::AAAA(ip) => Data::Address(ip.0.into()),
        RData::CNAME(name) => Data::Alias(name.0.to_ascii()),
        RData::SRV(srv) => Data::Srv(Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: srv.target.to_ascii(),
        }),
        RData::NAPTR(naptr) => Data::Naptr(Naptr {
            order: naptr.order,
            preference: naptr.preference,
            flags: text(&naptr.flags),
            service: text(&naptr.services),
            regexp: text(&naptr.regexp),
            replacement: naptr.replacement.to_ascii(),
        }),
        _ => return None,
    };
    Some(Record { name: record.name.to_ascii(), ttl: Duration::from_secs(record.ttl.into()), data })
}
