//! Makes a configuration of a file: ranges, references and duplicates, each fault with its line and remedy.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use toml::Spanned;

#[cfg(any(feature = "proxy", feature = "backend"))]
use super::edge;
use super::file::{
    AccountFile, BackendFile, BackendNodeFile, BusinessFile, MediaFile, MediaOverloadFile, NumberFile,
    ProxyFile, QueueFile, RecordingFile, RegionFile, TokensFile, TrunkFile,
};
#[cfg(feature = "proxy")]
use super::relay;
use super::{
    BackendConfig, ConfigError, KeySource, Media, MediaOverload, ProxyConfig, RecordingConfig, SrtpKeys,
    listen, store,
};
use crate::backends::{BackendState, BackendStatus};
use crate::identity::{Dialled, Incarnation, RegionId};
use crate::limits::LEASE_LIFE;
use crate::number::{Account, Business, HandOver, MemoryNumbers, Number, Trunk};
use crate::queue::QueueLimits;
use crate::reason::PlanLimitStatus;
use crate::select::{Region, Regions};
use crate::source::{SourceList, parse_network};

pub(super) type Checked<T> = Result<T, ConfigError>;

/// A file's name and text, which errors point into.
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    fn read<T: DeserializeOwned>(&self) -> Checked<T> {
        toml::from_str(self.text).map_err(|error| {
            let line = error.span().map(|span| self.line(span.start));
            let why = format!("{}; docs/config has a sample with every key", error.message());
            ConfigError { file: self.name.to_owned(), line, key: String::new(), why }
        })
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    /// The fault of one value.
    pub(super) fn fault<T>(&self, at: &Spanned<T>, key: &str, why: impl Into<String>) -> ConfigError {
        let line = Some(self.line(at.span().start));
        ConfigError { file: self.name.to_owned(), line, key: key.to_owned(), why: why.into() }
    }

    /// A number within a range, or the default.
    pub(super) fn within<T>(
        &self,
        value: Option<&Spanned<T>>,
        key: &str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Checked<u64>
    where
        T: Copy + Into<u64>,
    {
        let Some(value) = value else { return Ok(default) };
        let number: u64 = (*value.get_ref()).into();
        if range.contains(&number) {
            return Ok(number);
        }
        Err(self.fault(
            value,
            key,
            format!("{number} is out of range; write {} to {}", range.start(), range.end()),
        ))
    }

    /// The same as 32 bits; the range must fit into them.
    pub(super) fn count(
        &self,
        value: Option<&Spanned<u64>>,
        key: &str,
        range: RangeInclusive<u64>,
        default: u32,
    ) -> Checked<u32> {
        let number = self.within(value, key, range, default.into())?;
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// A share of at least `least` percent, or the default.
    fn percent(&self, value: Option<&Spanned<u64>>, key: &str, least: u64, default: u8) -> Checked<u8> {
        let number = self.within(value, key, least..=100, default.into())?;
        Ok(u8::try_from(number).unwrap_or(default))
    }

    pub(super) fn seconds(
        &self,
        value: Option<&Spanned<u64>>,
        key: &str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Checked<Duration> {
        self.within(value, key, range, default).map(Duration::from_secs)
    }

    fn sources(&self, networks: &[Spanned<String>], key: &str) -> Checked<SourceList> {
        let parsed = networks
            .iter()
            .map(|text| parse_network(text.get_ref()).map_err(|why| self.fault(text, key, why)));
        parsed.collect::<Checked<Vec<_>>>().map(SourceList::new)
    }

    /// That a reference names something that is there.
    fn refers<K: Hash + Eq + Display, V>(
        &self,
        to: &Spanned<K>,
        key: &str,
        known: &HashMap<K, V>,
    ) -> Checked<()> {
        if known.contains_key(to.get_ref()) {
            return Ok(());
        }
        let table = key.rsplit('.').next().unwrap_or(key);
        let why = format!("there is no {table} \"{}\"; define it, or correct the name here", to.get_ref());
        Err(self.fault(to, key, why))
    }

    /// The ids of a list, each of which may be there once.
    fn unique<'f, T, K: Hash + Eq + Clone + Display + 'f>(
        &self,
        list: &'f [T],
        key: &str,
        id: impl Fn(&'f T) -> &'f Spanned<K>,
    ) -> Checked<HashMap<K, usize>> {
        let mut lines = HashMap::new();
        for item in list {
            let id = id(item);
            let line = self.line(id.span().start);
            if let Some(first) = lines.insert(id.get_ref().clone(), line) {
                let why = format!(
                    "\"{}\" is there twice, first in line {first}; rename or remove one",
                    id.get_ref()
                );
                return Err(self.fault(id, key, why));
            }
        }
        Ok(lines)
    }

    /// A hand-over mode.
    fn mode(&self, mode: Option<&Spanned<String>>, key: &str) -> Checked<Option<HandOver>> {
        let Some(mode) = mode else { return Ok(None) };
        match mode.get_ref().as_str() {
            "redirect" => Ok(Some(HandOver::Redirect)),
            "relay" => Ok(Some(HandOver::Relay)),
            "auto" => Ok(Some(HandOver::Auto)),
            other => {
                let why = format!("\"{other}\" is no mode; write \"redirect\", \"relay\" or \"auto\"");
                Err(self.fault(mode, key, why))
            }
        }
    }

    /// Where the keys of a section come from: what it lists, else the variable that it names, else this one.
    pub(super) fn keys(
        &self,
        (env, keys): (&Option<Spanned<String>>, &Option<Spanned<Vec<String>>>),
        section: &str,
        default: &str,
    ) -> Checked<KeySource> {
        match (env, keys) {
            (Some(env), Some(_)) => {
                Err(self.fault(env, section, "env and keys are both there; keep one of them"))
            }
            (None, Some(keys)) => Ok(KeySource::Listed(keys.get_ref().clone())),
            (env, None) => {
                let name = env.as_ref().map_or(default, |env| env.get_ref().as_str());
                Ok(KeySource::Env(name.to_owned()))
            }
        }
    }
}

/// A proxy's configuration.
pub(super) fn proxy(source: &Source<'_>) -> Checked<ProxyConfig> {
    let file: ProxyFile = source.read()?;
    let regions = regions(source, &file.regions)?;
    let known = source.unique(&file.regions, "regions.id", |region| &region.id)?;
    let (token_keys, token_life) = tokens(source, &file.tokens)?;
    let admission = &file.admission;
    let choices = source.within(admission.most_choices.as_ref(), "admission.most_choices", 1..=8, 3)?;
    let store = store::store(source, file.store.as_ref(), file.database.as_ref())?;
    let (numbers_in, cache) = store::numbers(source, &file, &store)?;
    Ok(ProxyConfig {
        #[cfg(any(feature = "proxy", feature = "backend"))]
        edge: edge::of_proxy(source, &file)?,
        #[cfg(feature = "proxy")]
        relay: relay::check(source, &file, token_life)?,
        listen: listen::check(source, &file.listen)?,
        store,
        numbers_in,
        cache,
        token_keys,
        token_life,
        trusted_proxies: source.sources(&admission.trusted_proxies, "admission.trusted_proxies")?,
        most_choices: usize::try_from(choices).unwrap_or(usize::MAX),
        selector: admission.selector,
        plan_limit: plan_limit(source, admission.plan_limit_status.as_ref())?,
        drain_limit: source.seconds(file.node.drain_limit_s.as_ref(), "node.drain_limit_s", 0..=3600, 5)?,
        queue: queue(source, &file.queue)?,
        numbers: numbers(source, &file, &known)?,
        backends: backends(source, &file.backends, &known)?,
        node: file.node.id,
        regions,
    })
}

/// A backend's configuration.
pub(super) fn backend(source: &Source<'_>) -> Checked<BackendConfig> {
    let file: BackendNodeFile = source.read()?;
    let (token_keys, _) = tokens(source, &file.tokens)?;
    let section = &file.backend;
    let lease = LEASE_LIFE.as_secs();
    let capacity = capacity(source, &section.capacity, "backend.capacity")?;
    Ok(BackendConfig {
        id: section.id.clone(),
        region: section.region.clone(),
        #[cfg(any(feature = "proxy", feature = "backend"))]
        edge: edge::of_backend(source, &file, capacity)?,
        listen: listen::check(source, &file.listen)?,
        store: store::store(source, file.store.as_ref(), file.database.as_ref())?,
        token_keys,
        capacity,
        sip_uris: sip_uris(source, &section.sip_uris, "backend.sip_uris")?,
        development: section.development,
        drain_limit: source.seconds(
            section.drain_limit_s.as_ref(),
            "backend.drain_limit_s",
            0..=86_400,
            600,
        )?,
        lease_life: source.seconds(section.lease_life_s.as_ref(), "backend.lease_life_s", 6..=600, lease)?,
        queue: queue(source, &file.queue)?,
        media: media(source, &file.media)?,
        recording: file.recording.as_ref().map(|section| recording(source, section)).transpose()?,
    })
}

fn tokens(source: &Source<'_>, file: &TokensFile) -> Checked<(KeySource, Duration)> {
    let life = source.seconds(file.life_s.as_ref(), "tokens.life_s", 5..=600, 30)?;
    let found = source.keys((&file.env, &file.keys), "tokens", "IQRA_TOKEN_KEYS")?;
    if let (KeySource::Listed(_), Some(at)) = (&found, &file.keys) {
        found.keys().map_err(|error| source.fault(at, "tokens.keys", error.to_string()))?;
    }
    Ok((found, life))
}

fn plan_limit(source: &Source<'_>, status: Option<&Spanned<u64>>) -> Checked<PlanLimitStatus> {
    match status.map(|status| (status, *status.get_ref())) {
        None | Some((_, 486)) => Ok(PlanLimitStatus::Busy),
        Some((_, 503)) => Ok(PlanLimitStatus::Unavailable),
        Some((status, other)) => {
            let why = format!("{other} is no status for a reached plan limit; write 486 or 503");
            Err(source.fault(status, "admission.plan_limit_status", why))
        }
    }
}

fn queue(source: &Source<'_>, file: &QueueFile) -> Checked<QueueLimits> {
    let default = QueueLimits::default();
    let live = source.within(file.live.as_ref(), "queue.live", 1..=10_000_000, default.live as u64)?;
    let finished =
        source.within(file.finished.as_ref(), "queue.finished", 0..=10_000_000, default.finished as u64)?;
    let day = 86_400;
    let retention = default.retention.as_secs();
    Ok(QueueLimits {
        live: usize::try_from(live).unwrap_or(usize::MAX),
        finished: usize::try_from(finished).unwrap_or(usize::MAX),
        retention: source.seconds(file.retention_s.as_ref(), "queue.retention_s", 0..=30 * day, retention)?,
    })
}

fn recording(source: &Source<'_>, file: &RecordingFile) -> Checked<RecordingConfig> {
    if file.folder.get_ref().is_empty() {
        return Err(source.fault(&file.folder, "recording.folder", "the folder has no name".to_owned()));
    }
    if let Some(key) = file.key.as_ref().filter(|_| !cfg!(feature = "encryption")) {
        let why = "this program cannot encrypt; build it with the feature \"encryption\"";
        return Err(source.fault(key, "recording.key", why.to_owned()));
    }
    let days = source.within(file.max_age_days.as_ref(), "recording.max_age_days", 0..=36_500, 0)?;
    let gib = source.within(file.max_gib.as_ref(), "recording.max_gib", 0..=1_000_000, 0)?;
    Ok(RecordingConfig {
        folder: file.folder.get_ref().into(),
        consent: file.consent,
        max_age: (days > 0).then(|| Duration::from_secs(days * 86_400)),
        max_octets: (gib > 0).then_some(gib << 30),
        key: file.key.as_ref().map(|key| (key.get_ref().id.clone(), key.get_ref().env.clone())),
    })
}

fn media(source: &Source<'_>, file: &MediaFile) -> Checked<Media> {
    let tick = source.within(file.tick_ms.as_ref(), "media.tick_ms", 0..=20, 5)?;
    let threads = source.count(file.threads.as_ref(), "media.threads", 1..=256, 1)?;
    let (inbound_reserve_percent, outbound_reserve_percent) = reserves(source, file)?;
    let keys = srtp_keys(source, file.keys.as_ref())?;
    Ok(Media {
        ports: ports(source, file.ports.as_ref())?,
        inbound_reserve_percent,
        outbound_reserve_percent,
        threads: usize::try_from(threads).unwrap_or(1),
        tick: (tick > 0).then(|| Duration::from_millis(tick)),
        srtp: file.srtp,
        ice_lite: ice_lite(source, file.ice_lite.as_ref(), keys.contains(&SrtpKeys::Dtls))?,
        keys,
        overload: media_overload(source, &file.overload)?,
    })
}

/// Keys in the SDP, unless something else is said.
fn srtp_keys(source: &Source<'_>, keys: Option<&Spanned<Vec<SrtpKeys>>>) -> Checked<Vec<SrtpKeys>> {
    const KEY: &str = "media.keys";
    let Some(said) = keys else { return Ok(vec![SrtpKeys::Sdes]) };
    let keys = said.get_ref();
    if keys.is_empty() {
        let why = "no way to keys is left; write [\"sdes\"], or leave encryption out by srtp = \"never\"";
        return Err(source.fault(said, KEY, why.to_owned()));
    }
    if keys.contains(&SrtpKeys::Dtls) && !cfg!(feature = "webrtc") {
        return Err(source.fault(said, KEY, without_webrtc("DTLS")));
    }
    Ok(keys.clone())
}

/// On where there is DTLS, since who has that has ICE too.
fn ice_lite(source: &Source<'_>, said: Option<&Spanned<bool>>, dtls: bool) -> Checked<bool> {
    match said {
        Some(said) if *said.get_ref() && !cfg!(feature = "webrtc") => {
            Err(source.fault(said, "media.ice_lite", without_webrtc("ICE")))
        }
        said => Ok(said.map_or(dtls, |said| *said.get_ref())),
    }
}

fn without_webrtc(what: &str) -> String {
    format!("this program has no {what}; build it with the feature \"webrtc\"")
}

fn reserves(source: &Source<'_>, file: &MediaFile) -> Checked<(u8, u8)> {
    const KEYS: [&str; 2] = ["media.inbound_reserve_percent", "media.outbound_reserve_percent"];
    let said = [file.inbound_reserve_percent.as_ref(), file.outbound_reserve_percent.as_ref()];
    let [inbound, outbound] = [0, 1].map(|of| source.percent(said[of], KEYS[of], 0, 10));
    let (inbound, outbound) = (inbound?, outbound?);
    match [1, 0].into_iter().find_map(|of| Some((said[of]?, KEYS[of]))) {
        Some((at, key)) if inbound + outbound > 100 => {
            let why = format!(
                "{inbound} % for inbound calls and {outbound} % for outbound ones are more than all ports; lower one"
            );
            Err(source.fault(at, key, why))
        }
        _ => Ok((inbound, outbound)),
    }
}

fn ports(source: &Source<'_>, ports: Option<&Spanned<String>>) -> Checked<RangeInclusive<u16>> {
    let Some(ports) = ports else { return Ok(10_000..=19_999) };
    let bounds = ports
        .get_ref()
        .split_once('-')
        .and_then(|(low, high)| Some((low.trim().parse::<u16>().ok()?, high.trim().parse::<u16>().ok()?)));
    match bounds {
        Some((low, high)) if low >= 1024 && low.next_multiple_of(2) < high => Ok(low..=high),
        _ => {
            let why = format!(
                "\"{}\" is no range of ports from 1024 with an even one and the one above; write for instance \
                 \"10000-19999\"",
                ports.get_ref()
            );
            Err(source.fault(ports, "media.ports", why))
        }
    }
}

fn media_overload(source: &Source<'_>, file: &MediaOverloadFile) -> Checked<MediaOverload> {
    let busy = source.percent(file.busy_percent.as_ref(), "media.overload.busy_percent", 10, 80)?;
    let late = source.within(file.late_ms.as_ref(), "media.overload.late_ms", 1..=1_000, 20)?;
    Ok(MediaOverload {
        refuse: file.refuse.unwrap_or(true),
        busy: f32::from(busy) / 100.0,
        late: Duration::from_millis(late),
    })
}

fn regions(source: &Source<'_>, list: &[RegionFile]) -> Checked<Regions> {
    let known = source.unique(list, "regions.id", |region| &region.id)?;
    for region in list {
        for id in &region.fallback {
            source.refers(id, "regions.fallback.region", &known)?;
        }
    }
    let fallback = |region: &RegionFile| region.fallback.iter().map(|id| id.get_ref().clone()).collect();
    let entry = |region: &RegionFile| {
        (region.id.get_ref().clone(), Region { enabled: region.enabled, fallback: fallback(region) })
    };
    Ok(Regions::new(list.iter().map(entry)))
}

fn capacity(source: &Source<'_>, value: &Spanned<u32>, key: &str) -> Checked<u32> {
    let number = source.within(Some(value), key, 1..=100_000, 1)?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

fn sip_uris(source: &Source<'_>, list: &[Spanned<String>], key: &str) -> Checked<Vec<String>> {
    let check = |uri: &Spanned<String>| {
        let text = uri.get_ref();
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'?'));
        if plain && text.len() > 4 && text.starts_with("sip:") {
            return Ok(text.clone());
        }
        let why =
            format!("\"{text}\" is no SIP URI; write for instance \"sip:192.0.2.20:5080;transport=udp\"");
        Err(source.fault(uri, key, why))
    };
    list.iter().map(check).collect()
}

fn backends(
    source: &Source<'_>,
    list: &[BackendFile],
    regions: &HashMap<RegionId, usize>,
) -> Checked<Vec<BackendStatus>> {
    source.unique(list, "backends.id", |backend| &backend.id)?;
    let status = |backend: &BackendFile| {
        source.refers(&backend.region, "backends.region", regions)?;
        Ok(BackendStatus {
            id: backend.id.get_ref().clone(),
            region: backend.region.get_ref().clone(),
            incarnation: Incarnation(0),
            sip_uris: sip_uris(source, &backend.sip_uris, "backends.sip_uris")?.into(),
            media_url: None,
            capacity: capacity(source, &backend.capacity, "backends.capacity")?,
            calls: 0,
            cpu: 0.0,
            state: BackendState::Running,
            development: backend.development,
        })
    };
    list.iter().map(status).collect()
}

/// The number store, filled.
fn numbers(
    source: &Source<'_>,
    file: &ProxyFile,
    regions: &HashMap<RegionId, usize>,
) -> Checked<MemoryNumbers> {
    let store = MemoryNumbers::default();
    let accounts = source.unique(&file.accounts, "accounts.id", |account: &AccountFile| &account.id)?;
    let businesses =
        source.unique(&file.businesses, "businesses.id", |business: &BusinessFile| &business.id)?;
    let trunks = source.unique(&file.trunks, "trunks.id", |trunk: &TrunkFile| &trunk.id)?;
    for account in &file.accounts {
        store.set_account(self::account(account));
    }
    for business in &file.businesses {
        source.refers(&business.account, "businesses.account", &accounts)?;
        let (id, account) = (business.id.get_ref().clone(), business.account.get_ref().clone());
        store.set_business(Business { id, account, active: business.active });
    }
    for trunk in &file.trunks {
        store.set_trunk(self::trunk(source, trunk)?);
    }
    let mut seen = HashMap::new();
    for number in &file.numbers {
        source.refers(&number.business, "numbers.business", &businesses)?;
        source.refers(&number.region, "numbers.region", regions)?;
        if let Some(trunk) = &number.trunk {
            source.refers(trunk, "numbers.trunk", &trunks)?;
        }
        let line = source.line(number.id.span().start);
        let key = (number.business.get_ref().clone(), number.id.get_ref().clone());
        if let Some(first) = seen.insert(key, line) {
            let why =
                format!("this business has a number \"{}\" in line {first}; rename one", number.id.get_ref());
            return Err(source.fault(&number.id, "numbers.id", why));
        }
        let taken = |error: crate::number::UpsertError| {
            source.fault(&number.dialled, "numbers.dialled", error.to_string())
        };
        store.set_number(self::number(source, number)?).map_err(taken)?;
    }
    Ok(store)
}

fn account(file: &AccountFile) -> Account {
    Account {
        id: file.id.get_ref().clone(),
        active: file.active,
        concurrent_calls: file.concurrent_calls,
        minutes_left: file.minutes_left,
        admin: file.admin,
    }
}

fn trunk(source: &Source<'_>, file: &TrunkFile) -> Checked<Trunk> {
    Ok(Trunk {
        id: file.id.get_ref().clone(),
        allowed_sources: source.sources(&file.allowed_sources, "trunks.allowed_sources")?,
        uri_headers: file.uri_headers,
        token_in_user: file.token_in_user,
        hand_over: source.mode(file.mode.as_ref(), "trunks.mode")?.unwrap_or_default(),
    })
}

fn number(source: &Source<'_>, file: &NumberFile) -> Checked<Number> {
    let hand_over = source.mode(file.mode.as_ref(), "numbers.mode")?;
    if let Some(mode) =
        file.mode.as_ref().filter(|_| hand_over == Some(HandOver::Auto) && file.trunk.is_none())
    {
        let why = "\"auto\" asks whether the number's trunk follows redirects, and it has none; add trunk, or write \
                   \"relay\" or \"redirect\"";
        return Err(source.fault(mode, "numbers.mode", why));
    }
    let own = file
        .allowed_sources
        .as_ref()
        .map(|list| source.sources(list, "numbers.allowed_sources"))
        .transpose()?;
    if file.allow_any_source && own.is_some() {
        let why = "allowed_sources and allow_any_source = true contradict each other; keep one of them";
        return Err(source.fault(&file.id, "numbers.allow_any_source", why));
    }
    let dialled = Dialled::parse(file.dialled.get_ref())
        .map_err(|error| source.fault(&file.dialled, "numbers.dialled", format!("the {error}")))?;
    let delay = source.within(file.answer_delay_ms.as_ref(), "numbers.answer_delay_ms", 0..=60_000, 0)?;
    let longest = source.seconds(file.max_duration_s.as_ref(), "numbers.max_duration_s", 1..=86_400, 0)?;
    Ok(Number {
        business: file.business.get_ref().clone(),
        phone: file.id.get_ref().clone(),
        dialled,
        provider: file.provider,
        region: file.region.get_ref().clone(),
        route: file.route.clone(),
        voice: file.voice,
        trunk: file.trunk.as_ref().map(|trunk| trunk.get_ref().clone()),
        allowed_sources: own,
        allow_any_source: file.allow_any_source,
        codecs: codecs(source, &file.codecs)?,
        answer_delay: Duration::from_millis(delay),
        max_duration: file.max_duration_s.as_ref().map(|_| longest),
        hand_over,
    })
}

/// Codec names in the spelling of SDP; which of them exist is for the backend to say.
fn codecs(source: &Source<'_>, list: &[Spanned<String>]) -> Checked<Arc<[String]>> {
    let check = |name: &Spanned<String>| {
        let text = name.get_ref();
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let why = || format!("\"{text}\" is no codec name; write for instance \"PCMU\" or \"PCMA\"");
        if plain { Ok(text.to_ascii_uppercase()) } else { Err(source.fault(name, "numbers.codecs", why())) }
    };
    list.iter().map(check).collect::<Checked<Vec<_>>>().map(Into::into)
}
