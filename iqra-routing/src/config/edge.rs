//! What stands around an endpoint, and the sections `guard` and `hep` of it: what the SIP stack keeps away, and where it
//! sends what it saw.
//!
//! A section that is left out switches its part off. A carrier sends all of its calls from one address, so those that may
//! call are the guard's peers at a proxy, and a backend's rates follow its capacity.

use std::time::Duration;

use iqra_sip::guard::{Action, GuardConfig, Load, Network, Networks, OverloadConfig, Part, Rate, Signature};
use iqra_sip::net::HepConfig;
use serde::Deserialize;
use toml::Spanned;

use super::check::{Checked, Source};
use super::file::{BackendNodeFile, ProxyFile};
use super::listen::ListenFile;
use super::sip::{self, Dns, SipSettings};

/// What stands around an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    /// What keeps scanners, floods and overload away; `None` serves every message.
    pub guard: Option<GuardConfig>,
    /// Where the SIP messages are exported to; `None` for nowhere.
    pub hep: Option<HepConfig>,
    /// How the SIP stack behaves, and its bounds.
    pub sip: SipSettings,
    /// Who is asked for names; `None` for the system's resolver, which knows addresses only.
    pub dns: Option<Dns>,
}

/// At a proxy whoever may send calls is one of the guard's peers.
pub(super) fn of_proxy(source: &Source<'_>, file: &ProxyFile) -> Checked<Edge> {
    let trunks = file.trunks.iter().flat_map(|trunk| &trunk.allowed_sources);
    let numbers = file.numbers.iter().filter_map(|number| number.allowed_sources.as_ref()).flatten();
    let known = trunks.chain(numbers).chain(&file.admission.trusted_proxies);
    let guard = file.guard.as_ref().map(|section| guard(source, section, known, GuardConfig::default()));
    Ok(Edge {
        guard: guard.transpose()?,
        hep: hep(source, file.hep.as_ref(), &file.listen)?,
        sip: sip::settings(source, &file.sip, &file.connections)?,
        dns: sip::dns(source, file.dns.as_ref())?,
    })
}

/// At a backend one source may start as many calls a second as there is room for.
pub(super) fn of_backend(source: &Source<'_>, file: &BackendNodeFile, capacity: u32) -> Checked<Edge> {
    let default = GuardConfig::default();
    let default = GuardConfig {
        new_requests: at_least(default.new_requests, capacity),
        wide_requests: at_least(default.wide_requests, capacity),
        in_dialog: at_least(default.in_dialog, capacity.saturating_mul(10)),
        responses: at_least(default.responses, capacity.saturating_mul(10)),
        ..default
    };
    let guard = file.guard.as_ref().map(|section| guard(source, section, std::iter::empty(), default));
    Ok(Edge {
        guard: guard.transpose()?,
        hep: hep(source, file.hep.as_ref(), &file.listen)?,
        sip: sip::settings(source, &file.sip, &file.connections)?,
        dns: sip::dns(source, file.dns.as_ref())?,
    })
}

fn at_least(rate: Rate, per_second: u32) -> Rate {
    Rate { per_second: rate.per_second.max(per_second), burst: rate.burst.max(per_second.saturating_mul(2)) }
}

fn guard<'f>(
    source: &Source<'_>,
    file: &'f GuardFile,
    known: impl Iterator<Item = &'f Spanned<String>>,
    default: GuardConfig,
) -> Checked<GuardConfig> {
    let ban = source.seconds(file.ban_s.as_ref(), "guard.ban_s", 0..=7 * 86_400, default.ban.as_secs())?;
    let mut signatures = if file.known_scanners.unwrap_or(true) { Signature::known() } else { Vec::new() };
    for one in &file.signatures {
        signatures.push(signature(source, one, ban)?);
    }
    Ok(GuardConfig {
        allow: networks(source, &file.allow, "guard.allow")?,
        peers: networks(source, known.chain(&file.peers), "guard.peers")?,
        deny: networks(source, &file.deny, "guard.deny")?,
        new_requests: rate(source, &file.new_requests, "guard.new_requests", default.new_requests)?,
        wide_requests: rate(source, &file.wide_requests, "guard.wide_requests", default.wide_requests)?,
        total_requests: total(source, file.total_requests.as_ref())?,
        keep_alives: rate(source, &file.keep_alives, "guard.keep_alives", default.keep_alives)?,
        in_dialog: rate(source, &file.in_dialog, "guard.in_dialog", default.in_dialog)?,
        responses: rate(source, &file.responses, "guard.responses", default.responses)?,
        above_rate: action(source, file.above_rate.as_ref(), "guard.above_rate", ban)?,
        offences: rate(source, &file.offences, "guard.offences", default.offences)?,
        overload: overload(source, &file.overload)?,
        signatures,
        ban,
        ..default
    })
}

pub(super) fn networks<'f>(
    source: &Source<'_>,
    list: impl IntoIterator<Item = &'f Spanned<String>>,
    key: &str,
) -> Checked<Networks> {
    let read = |text: &Spanned<String>| {
        let network = text.get_ref().trim().parse::<Network>();
        network.map_err(|error| source.fault(text, key, error.to_string()))
    };
    list.into_iter().map(read).collect()
}

fn rate(source: &Source<'_>, file: &RateFile, key: &str, default: Rate) -> Checked<Rate> {
    let number = |value: Option<&Spanned<u64>>, name: &str, default: u32| {
        source.count(value, &format!("{key}.{name}"), 1..=1_000_000, default)
    };
    Ok(Rate {
        per_second: number(file.per_second.as_ref(), "per_second", default.per_second)?,
        burst: number(file.burst.as_ref(), "burst", default.burst)?,
    })
}

/// No such rate where the section is left out; a burst of twice the rate where only that is given.
fn total(source: &Source<'_>, file: Option<&RateFile>) -> Checked<Option<Rate>> {
    let Some(file) = file else { return Ok(None) };
    let per_second =
        file.per_second.as_ref().map_or(1_000, |given| u32::try_from(*given.get_ref()).unwrap_or(u32::MAX));
    let default = Rate { per_second, burst: per_second.saturating_mul(2) };
    rate(source, file, "guard.total_requests", default).map(Some)
}

fn action(source: &Source<'_>, text: Option<&Spanned<String>>, key: &str, ban: Duration) -> Checked<Action> {
    let Some(text) = text else { return Ok(Action::Drop) };
    match text.get_ref().as_str() {
        "drop" => Ok(Action::Drop),
        "forbid" => Ok(Action::Forbid),
        "ban" if ban.is_zero() => Err(source.fault(
            text,
            key,
            "\"ban\" bans for guard.ban_s, which is 0; raise it or write \"drop\"",
        )),
        "ban" => Ok(Action::Ban(ban)),
        other => {
            let why = format!("\"{other}\" is no action; write \"drop\", \"forbid\" or \"ban\"");
            Err(source.fault(text, key, why))
        }
    }
}

fn signature(source: &Source<'_>, file: &SignatureFile, ban: Duration) -> Checked<Signature> {
    let part = match file.part.get_ref().as_str() {
        "user_agent" => Part::UserAgent,
        "start_line" => Part::StartLine,
        "head" => Part::Head,
        other => {
            let why = format!(
                "\"{other}\" is no part of a message; write \"user_agent\", \"start_line\" or \"head\""
            );
            return Err(source.fault(&file.part, "guard.signatures.part", why));
        }
    };
    if file.text.get_ref().is_empty() {
        let why = "an empty text matches nothing; write what a scanner sends, or remove the signature";
        return Err(source.fault(&file.text, "guard.signatures.text", why));
    }
    let action = action(source, file.action.as_ref(), "guard.signatures.action", ban)?;
    Ok(Signature::new(part, file.text.get_ref(), action))
}

/// Shedding ends at half of the marks where it begins, by the queue and the wait at a quarter, by the table ten percent
/// below.
fn overload(source: &Source<'_>, file: &OverloadFile) -> Checked<Option<OverloadConfig>> {
    let default = OverloadConfig::default();
    let mark = |value: Option<&Spanned<u64>>, name: &str, default: usize| {
        let key = format!("guard.overload.{name}");
        source
            .count(value, &key, 1..=1_000_000, u32::try_from(default).unwrap_or(u32::MAX))
            .map(|mark| mark as usize)
    };
    let waiting = mark(file.waiting.as_ref(), "waiting", default.start.waiting)?;
    let queued = mark(file.queued.as_ref(), "queued", default.start.queued)?;
    let millis = |value: Option<&Spanned<u64>>, name: &str, default: Duration| {
        let default = usize::try_from(default.as_millis()).unwrap_or(usize::MAX);
        mark(value, name, default).map(|mark| Duration::from_millis(mark as u64))
    };
    let stalled = millis(file.stalled_ms.as_ref(), "stalled_ms", default.start.stalled)?;
    let behind = millis(file.behind_ms.as_ref(), "behind_ms", default.start.behind)?;
    let fill = source.count(
        file.fill_percent.as_ref(),
        "guard.overload.fill_percent",
        1..=100,
        default.start.fill.into(),
    )?;
    let fill = u8::try_from(fill).unwrap_or(100);
    let (least, most) = default.retry_after;
    let most = source.count(file.retry_after_s.as_ref(), "guard.overload.retry_after_s", 1..=3_600, most)?;
    let config = OverloadConfig {
        start: Load { waiting, queued, stalled, behind, fill },
        end: Load {
            waiting: waiting / 2,
            queued: queued / 4,
            stalled: stalled / 4,
            behind: Duration::ZERO,
            fill: fill.saturating_sub(10),
        },
        retry_after: (least.min(most), most),
        ..default
    };
    Ok(file.refuse.then_some(config))
}

/// Listeners that are bound to all addresses are shown at the advertised one.
fn hep(
    source: &Source<'_>,
    section: Option<&HepFile>,
    listen: &Spanned<ListenFile>,
) -> Checked<Option<HepConfig>> {
    let Some(file) = section else { return Ok(None) };
    let text = file.collector.get_ref();
    let collector = text.parse().map_err(|_| {
        let why = format!("\"{text}\" is no address with a port; write for instance \"192.0.2.40:9060\"");
        source.fault(&file.collector, "hep.collector", why)
    })?;
    let agent = source.count(file.capture_id.as_ref(), "hep.capture_id", 0..=u32::MAX.into(), 1)?;
    let (key, address) = (file.password.clone(), listen.get_ref().advertised().first().copied());
    Ok(Some(HepConfig { agent, key, address, ..HepConfig::new(collector) }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GuardFile {
    #[serde(default)]
    pub(super) allow: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) peers: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) deny: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) new_requests: RateFile,
    #[serde(default)]
    pub(super) wide_requests: RateFile,
    pub(super) total_requests: Option<RateFile>,
    #[serde(default)]
    pub(super) keep_alives: RateFile,
    #[serde(default)]
    pub(super) in_dialog: RateFile,
    #[serde(default)]
    pub(super) responses: RateFile,
    pub(super) above_rate: Option<Spanned<String>>,
    pub(super) known_scanners: Option<bool>,
    #[serde(default)]
    pub(super) signatures: Vec<SignatureFile>,
    #[serde(default)]
    pub(super) offences: RateFile,
    pub(super) ban_s: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) overload: OverloadFile,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RateFile {
    pub(super) per_second: Option<Spanned<u64>>,
    pub(super) burst: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignatureFile {
    pub(super) part: Spanned<String>,
    pub(super) text: Spanned<String>,
    pub(super) action: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OverloadFile {
    pub(super) refuse: bool,
    pub(super) waiting: Option<Spanned<u64>>,
    pub(super) queued: Option<Spanned<u64>>,
    pub(super) stalled_ms: Option<Spanned<u64>>,
    pub(super) behind_ms: Option<Spanned<u64>>,
    pub(super) fill_percent: Option<Spanned<u64>>,
    pub(super) retry_after_s: Option<Spanned<u64>>,
}

impl Default for OverloadFile {
    fn default() -> Self {
        Self {
            refuse: true,
            waiting: None,
            queued: None,
            stalled_ms: None,
            behind_ms: None,
            fill_percent: None,
            retry_after_s: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HepFile {
    pub(super) collector: Spanned<String>,
    pub(super) capture_id: Option<Spanned<u64>>,
    pub(super) password: Option<String>,
}
