//! Questions to the DNS and what is believed of the answers (RFC 1034 §3.6.2, RFC 2782, RFC 3403).
//!
//! In comes what a resolver said; out go only the records that belong to the name asked, or to the end of its aliases:
//! whatever else an answer carries, kindly or not, is left aside.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::order;
use crate::engine::random::Random;

/// What kind of record is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Which services a domain offers (RFC 3403).
    Naptr,
    /// Where one service is (RFC 2782).
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Naptr => "NAPTR",
            Kind::Srv => "SRV",
            Kind::A => "A",
            Kind::Aaaa => "AAAA",
        })
    }
}

/// One question to the DNS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// The full name, in lower case, without a dot at its end.
    pub name: String,
    /// The kind of record.
    pub kind: Kind,
}

impl Question {
    /// A question; the name may be spelled in any case and end in a dot.
    #[must_use]
    pub fn new(name: &str, kind: Kind) -> Self {
        Self { name: plain(name), kind }
    }
}

/// A name as it is compared: lower case, no dot at its end (RFC 4343).
pub(super) fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// A record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub name: String,
    /// How long it may be kept.
    pub ttl: Duration,
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A service of the domain (RFC 3403 §4.1).
    Naptr(Naptr),
    /// A server of the service (RFC 2782).
    Srv(Srv),
    /// An address of the host, of either family.
    Address(IpAddr),
    /// Another name to ask for (CNAME).
    Alias(String),
}

/// The fields of a NAPTR record (RFC 3403 §4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naptr {
    /// Lower ones must be tried first.
    pub order: u16,
    /// Among equal orders, lower ones are preferred.
    pub preference: u16,
    /// `s` where the replacement is the name of SRV records.
    pub flags: String,
    /// The service, `SIP+D2U`.
    pub service: String,
    /// A rewriting rule; empty for SIP.
    pub regexp: String,
    /// The name to ask for next.
    pub replacement: String,
}

/// The fields of an SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// Lower ones must be tried first.
    pub priority: u16,
    /// The share of calls among equal priorities.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host; `.` where the service is not offered.
    pub target: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The DNS says that there is no such record, or no such name.
    #[error("no such record")]
    NoRecords {
        /// How long that may be believed, where it was said (RFC 2308).
        ttl: Option<Duration>,
    },
    /// The question failed: no server, no answer in time, SERVFAIL.
    #[error("{0}")]
    Failed(String),
}

/// Most aliases that lead from the name asked to the records (the resolver follows most of them itself).
const MAX_ALIASES: usize = 8;

/// What is believed of one answer.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// NAPTR and SRV records in the order in which they are to be used.
    pub(super) records: Vec<Data>,
    /// How long it holds.
    pub(super) ttl: Option<Duration>,
    /// Why nothing is known.
    pub(super) failure: Option<String>,
    /// The answer ends in this alias, whose records are still to be asked for.
    pub(super) alias: Option<String>,
}

impl Known {
    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self { failure: Some(why.into()), ..Self::default() }
    }

    /// Reads an answer: follows the aliases in it, drops what was not asked for, orders the rest and cuts it to `most`.
    pub(super) fn read(
        question: &Question,
        answer: Result<Vec<Record>, LookupError>,
        most: usize,
        random: &mut Random,
    ) -> Self {
        let records = match answer {
            Ok(records) => records,
            Err(LookupError::NoRecords { ttl }) => return Self { ttl, ..Self::default() },
            Err(LookupError::Failed(why)) => return Self::failed(why),
        };
        let Some((owner, alias_ttl)) = follow(&question.name, &records) else {
            return Self::failed(format!("the aliases of {} never end", question.name));
        };
        let ours = records.into_iter().filter(|record| plain(&record.name) == owner);
        let (ttls, data): (Vec<_>, Vec<_>) = ours
            .filter(|record| record.data.is_of(question.kind))
            .map(|record| (record.ttl, record.data))
            .unzip();
        let ttl = ttls.into_iter().chain(alias_ttl).min();
        let alias = (data.is_empty() && owner != question.name).then_some(owner);
        let mut records = order::arrange(data, random);
        records.truncate(most);
        Self { records, ttl, failure: None, alias }
    }
}

/// The end of the chain of aliases that begins at `name`, and the shortest life of any on it; `None` for a circle.
fn follow(name: &str, records: &[Record]) -> Option<(String, Option<Duration>)> {
    let (mut at, mut ttl, mut seen) = (name.to_owned(), None, HashSet::new());
    while let Some((next, life)) = records.iter().find_map(|record| match &record.data {
        Data::Alias(to) if plain(&record.name) == at => Some((plain(to), record.ttl)),
        _ => None,
    }) {
        ttl = ttl.into_iter().chain([life]).min();
        if !seen.insert(std::mem::replace(&mut at, next)) || seen.len() > MAX_ALIASES {
            return None;
        }
    }
    Some((at, ttl))
}

impl Data {
    /// Whether it is of the kind that was asked for; an alias is of none.
    pub(crate) fn is_of(&self, kind: Kind) -> bool {
        match (kind, self) {
            (Kind::Naptr, Data::Naptr(_)) | (Kind::Srv, Data::Srv(_)) => true,
            (Kind::A, Data::Address(ip)) => ip.is_ipv4(),
            (Kind::Aaaa, Data::Address(ip)) => ip.is_ipv6(),
            _ => false,
        }
    }
}
