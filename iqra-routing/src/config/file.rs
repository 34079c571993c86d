//! What stands in the files, key by key; `check` makes a configuration of it. The sample files say what each key means.

use serde::Deserialize;
use toml::Spanned;

#[cfg(any(feature = "proxy", feature = "backend"))]
use super::edge::{GuardFile, HepFile};
use super::listen::ListenFile;
#[cfg(feature = "proxy")]
use super::relay::RelayFile;
#[cfg(any(feature = "proxy", feature = "backend"))]
use super::sip::{ConnectionsFile, DnsFile, SipFile};
use super::store::{CacheFile, DatabaseFile, NumbersIn};
use super::{Selector, Srtp, SrtpKeys};
use crate::identity::{AccountId, BackendId, BusinessId, NodeId, PhoneId, RegionId, RouteId, TrunkId};
use crate::number::Provider;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProxyFile {
    pub(super) store: Option<Spanned<String>>,
    pub(super) database: Option<Spanned<DatabaseFile>>,
    pub(super) numbers_in: Option<Spanned<NumbersIn>>,
    #[serde(default)]
    pub(super) cache: CacheFile,
    pub(super) node: ProxyNode,
    pub(super) listen: Spanned<ListenFile>,
    #[serde(default)]
    pub(super) tokens: TokensFile,
    #[serde(default)]
    pub(super) admission: AdmissionFile,
    #[serde(default)]
    pub(super) queue: QueueFile,
    #[cfg(any(feature = "proxy", feature = "backend"))]
    pub(super) guard: Option<GuardFile>,
    #[cfg(any(feature = "proxy", feature = "backend"))]
    pub(super) hep: Option<HepFile>,
    #[cfg(any(feature = "proxy", feature = "backend"))]
    #[serde(default)]
    pub(super) sip: SipFile,
    #[cfg(any(feature = "proxy", feature = "backend"))]
    #[serde(default)]
    pub(super) connections: ConnectionsFile,
    #[cfg(any(feature = "proxy", feature = "backend"))]
    pub(super) dns: Option<Spanned<DnsFile>>,
    #[cfg(feature = "proxy")]
    pub(super) relay: Option<RelayFile>,
    #[serde(default)]
    pub(super) accounts: Vec<AccountFile>,
    #[serde(default)]
    pub(super) businesses: Vec<BusinessFile>,
    #[serde(default)]
    pub(super) trunks: Vec<TrunkFile>,
    #[serde(default)]
    pub(super) numbers: Vec<NumberFile>,
    #[serde(default)]
    pub(super) regions: Vec<RegionFile>,
    #[serde(default)]
    pub(super) backends: Vec<BackendFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackendNodeFile {
    pub(super) store: Option<Spanned<String>>,
    pub(super) database: Option<Spanned<DatabaseFile>>,
    pub(super) backend: BackendSection,
    pub(super) listen: Spanned<ListenFile>,
    #[serde(default)]
    pub(super) tokens: TokensFile,
    #[serde(default)]
    pub(super) media: MediaFile,
    pub(super) recording: Option<RecordingFile>,
    #[serde(default)]
    pub(super) queue: QueueFile,
    #[cfg(any(feature = "proxy", feature = "backend"))]
    pub(super) guard: Option<GuardFile>,
    #[cfg(any(feature = "proxy", feature = "backend"))]
    pub(super) hep: Option<HepFile>,
    #[cfg(any(feature = "proxy", feature = "backend"))]
    #[serde(default)]
    pub(super) sip: SipFile,
    #[cfg(any(feature = "proxy", feature = "backend"))]
    #[serde(default)]
    pub(super) connections: ConnectionsFile,
    #[cfg(any(feature = "proxy", feature = "backend"))]
    pub(super) dns: Option<Spanned<DnsFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProxyNode {
    pub(super) id: NodeId,
    pub(super) drain_limit_s: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackendSection {
    pub(super) id: BackendId,
    pub(super) region: RegionId,
    pub(super) capacity: Spanned<u32>,
    #[serde(default)]
    pub(super) sip_uris: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) development: bool,
    pub(super) drain_limit_s: Option<Spanned<u64>>,
    pub(super) lease_life_s: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct TokensFile {
    pub(super) env: Option<Spanned<String>>,
    pub(super) keys: Option<Spanned<Vec<String>>>,
    pub(super) life_s: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct AdmissionFile {
    #[serde(default)]
    pub(super) trusted_proxies: Vec<Spanned<String>>,
    pub(super) most_choices: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) selector: Selector,
    pub(super) plan_limit_status: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct QueueFile {
    pub(super) live: Option<Spanned<u64>>,
    pub(super) finished: Option<Spanned<u64>>,
    pub(super) retention_s: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordingFile {
    pub(super) folder: Spanned<String>,
    #[serde(default)]
    pub(super) consent: bool,
    pub(super) max_age_days: Option<Spanned<u64>>,
    pub(super) max_gib: Option<Spanned<u64>>,
    pub(super) key: Option<Spanned<RecordingKeyFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordingKeyFile {
    pub(super) id: String,
    pub(super) env: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct MediaFile {
    pub(super) ports: Option<Spanned<String>>,
    pub(super) inbound_reserve_percent: Option<Spanned<u64>>,
    pub(super) outbound_reserve_percent: Option<Spanned<u64>>,
    pub(super) threads: Option<Spanned<u64>>,
    pub(super) tick_ms: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) srtp: Srtp,
    pub(super) keys: Option<Spanned<Vec<SrtpKeys>>>,
    pub(super) ice_lite: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) overload: MediaOverloadFile,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct MediaOverloadFile {
    pub(super) refuse: Option<bool>,
    pub(super) busy_percent: Option<Spanned<u64>>,
    pub(super) late_ms: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountFile {
    pub(super) id: Spanned<AccountId>,
    #[serde(default = "yes")]
    pub(super) active: bool,
    pub(super) concurrent_calls: u32,
    pub(super) minutes_left: Option<u64>,
    #[serde(default)]
    pub(super) admin: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BusinessFile {
    pub(super) id: Spanned<BusinessId>,
    pub(super) account: Spanned<AccountId>,
    #[serde(default = "yes")]
    pub(super) active: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrunkFile {
    pub(super) id: Spanned<TrunkId>,
    pub(super) allowed_sources: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) uri_headers: bool,
    #[serde(default)]
    pub(super) token_in_user: bool,
    pub(super) mode: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NumberFile {
    pub(super) business: Spanned<BusinessId>,
    pub(super) id: Spanned<PhoneId>,
    pub(super) dialled: Spanned<String>,
    #[serde(default = "sip")]
    pub(super) provider: Provider,
    pub(super) region: Spanned<RegionId>,
    pub(super) route: Option<RouteId>,
    #[serde(default = "yes")]
    pub(super) voice: bool,
    pub(super) trunk: Option<Spanned<TrunkId>>,
    pub(super) allowed_sources: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) allow_any_source: bool,
    #[serde(default)]
    pub(super) codecs: Vec<Spanned<String>>,
    pub(super) answer_delay_ms: Option<Spanned<u64>>,
    pub(super) max_duration_s: Option<Spanned<u64>>,
    pub(super) mode: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegionFile {
    pub(super) id: Spanned<RegionId>,
    #[serde(default = "yes")]
    pub(super) enabled: bool,
    #[serde(default)]
    pub(super) fallback: Vec<Spanned<RegionId>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackendFile {
    pub(super) id: Spanned<BackendId>,
    pub(super) region: Spanned<RegionId>,
    pub(super) sip_uris: Vec<Spanned<String>>,
    pub(super) capacity: Spanned<u32>,
    #[serde(default)]
    pub(super) development: bool,
}

fn yes() -> bool {
    true
}

fn sip() -> Provider {
    Provider::Sip
}
