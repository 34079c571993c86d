//! The proxy tier as a service: INVITEs in, 302 with tokens out, or relayed, or the refusal that the decision gave.
//!
//! In: requests of an [`Endpoint`]. Out: responses; everything in between is [`Admission`]. An INVITE whose stores do not
//! answer at once becomes a task, so that a slow store delays only its own call; one that is relayed is a task until its
//! final response ([`relay`]).

use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use iqra_sip::event::Reply;
use iqra_sip::message::header::Via;
use iqra_sip::net::{Endpoint, Incoming, IncomingInvite, IncomingRequest};
use iqra_sip::{HeaderName, Request, StatusCode, Uri};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, Answer, Choice, Offer, Settings, Stores};
use crate::backends::{BackendRegistry, FixedBackends, STATUS_LIFE};
use crate::config::{NumbersIn, ProxyConfig, Selector};
use crate::handover::outcome::{sweep, write_lost};
use crate::identity::Incarnation;
use crate::number::NumberStore;
use crate::parts::Parts;
use crate::queue::Node;
use crate::reason::{Reason, Rejection};
use crate::select::{BackendSelector, ByRegion, LeastLoad, Rendezvous, RoundRobin};
use crate::sip::{RefusalStyle, TOKEN_PARAM, other};
use crate::start::{self, StartError, Trace};
use crate::stores::LiveStores;
use crate::time::{SystemClock, Timestamp};

mod heartbeats;
mod relay;

use heartbeats::Heartbeats;
pub use relay::RelaySettings;

/// How a proxy serves.
#[derive(Debug, Clone, Copy)]
pub struct ProxySettings {
    /// How refusals are worded.
    pub refusals: RefusalStyle,
    /// INVITEs being decided at a time; one more is refused as overload. Default 10,000.
    pub most_pending: usize,
    /// How long new calls are refused after the stop signal before the sockets close, so that callers learn where
    /// not to go; ends early when no transaction is left. Default 10 s.
    pub drain: Duration,
    /// Whether backends report themselves, so that one that is silent has lost its calls. Default yes; must be no
    /// over [`FixedBackends`].
    pub backends_report: bool,
    /// How calls are relayed.
    pub relay: RelaySettings,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            refusals: RefusalStyle::default(),
            most_pending: 10_000,
            drain: Duration::from_secs(10),
            backends_report: true,
            relay: RelaySettings::default(),
        }
    }
}

/// The proxy tier on one endpoint.
pub struct Proxy {
    endpoint: Endpoint,
    incoming: Incoming,
    shared: Arc<Shared>,
}

struct Shared {
    admission: Arc<Admission>,
    settings: ProxySettings,
    clock: SystemClock,
    /// One per INVITE that is being decided.
    pending: TaskTracker,
    /// One per call that is being relayed.
    relaying: TaskTracker,
    heartbeats: Heartbeats,
    /// Cancelled when relayed calls without a final response have to end now.
    stop: CancellationToken,
}

impl Proxy {
    /// Binds a proxy as its configuration says, on `stores` (shared with a backend in the same program) or on those
    /// that the configuration names. `trace` sees every SIP message.
    ///
    /// # Errors
    /// [`StartError`] says what could not be opened or bound.
    pub async fn bind(
        config: ProxyConfig,
        given: Option<LiveStores>,
        trace: Option<Trace>,
    ) -> Result<Self, StartError> {
        let tokens = config.token_keys.keys()?;
        let live = start::stores(given, &config.store, config.queue).await?;
        let pool = config.relay.as_ref().map(|relay| relay.pool(&config.node)).transpose()?;
        let (endpoint, incoming) = start::bind(&config.listen, config.edge.clone(), pool, trace).await?;
        let clock = SystemClock::start();
        let settings = Settings {
            node: Node { id: config.node.clone(), incarnation: Incarnation::starting(clock.now()) },
            trusted_proxies: config.trusted_proxies.clone(),
            token_life: config.token_life,
            most_choices: config.most_choices,
        };
        let backends: Arc<dyn BackendRegistry> = match config.backends.as_slice() {
            [] => live.backends.clone(),
            listed => Arc::new(FixedBackends::new(listed.iter().cloned())),
        };
        let chosen_by = selector(&config);
        let numbers: Arc<dyn NumberStore> = match config.numbers_in {
            NumbersIn::File => Arc::new(config.numbers),
            NumbersIn::Store => live.numbers(config.cache).ok_or(StartError::NoNumbers)?,
        };
        let serving = ProxySettings {
            refusals: RefusalStyle { plan_limit: config.plan_limit, ..RefusalStyle::default() },
            drain: config.drain_limit,
            backends_report: config.backends.is_empty(),
            relay: config.relay.as_ref().map(|relay| relay.serving).unwrap_or_default(),
            ..ProxySettings::default()
        };
        let stores = Stores { numbers, queue: live.queue, limits: live.limits, backends };
        let seed = fastrand::u64(..);
        let admission = Admission::new(stores, chosen_by, config.regions, tokens, settings, seed);
        Ok(Self::new((endpoint, incoming), Arc::new(admission), serving))
    }

    /// The endpoint: its listeners and counts.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What admits the calls; drain it to refuse new ones while a backend in the same program finishes.
    #[must_use]
    pub fn admission(&self) -> &Arc<Admission> {
        &self.shared.admission
    }

    /// A proxy that admits calls by `admission`; [`Admission::drain`] drains it from outside.
    #[must_use]
    pub fn new(
        (endpoint, incoming): (Endpoint, Incoming),
        admission: Arc<Admission>,
        settings: ProxySettings,
    ) -> Self {
        let shared = Shared {
            admission,
            settings,
            clock: SystemClock::start(),
            pending: TaskTracker::new(),
            relaying: TaskTracker::new(),
            heartbeats: Heartbeats::new(),
            stop: CancellationToken::new(),
        };
        Self { endpoint, incoming, shared: Arc::new(shared) }
    }

    /// Serves until `stop` resolves, then refuses new calls for [`ProxySettings::drain`] and closes.
    pub async fn serve_until(self, stop: impl Future<Output = ()>) {
        let Self { endpoint, incoming, shared } = self;
        let upkeep = tokio::spawn(shared.clone().upkeep());
        let looking = tokio::spawn(shared.clone().look());
        // A task of its own: whoever awaits this stands on a thread of its own as a rule, and a call that changes
        // threads costs more than its decision.
        let taking = tokio::spawn(shared.clone().take_all(incoming));
        stop.await;
        shared.admission.drain();
        idle(endpoint.clone(), &shared).await;
        shared.stop.cancel();
        shared.pending.close();
        shared.relaying.close();
        // What a store that hangs keeps here cannot be answered any more.
        let ended = async { tokio::join!(shared.pending.wait(), shared.relaying.wait()) };
        let _ = tokio::time::timeout(Duration::from_secs(1), ended).await;
        for task in [upkeep, looking] {
            task.abort();
            let _ = task.await;
        }
        shared.last_sweep().await;
        endpoint.shutdown(Duration::from_secs(1)).await;
        let _ = taking.await;
    }
}

/// Resolves when no transaction is left, or after [`ProxySettings::drain`].
async fn idle(endpoint: Endpoint, shared: &Shared) {
    let quiet = async {
        let mut look = tokio::time::interval(Duration::from_millis(100));
        loop {
            look.tick().await;
            if shared.pending.is_empty()
                && shared.relaying.is_empty()
                && endpoint.counts().server_transactions == 0
            {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(shared.settings.drain, quiet).await;
}

impl Shared {
    /// Takes what callers ask until the endpoint closes.
    async fn take_all(self: Arc<Self>, mut incoming: Incoming) {
        while let Some(request) = incoming.next().await {
            match request {
                IncomingRequest::Invite(invite) => self.take(invite),
                IncomingRequest::Other(request) => {
                    let draining = self.admission.is_draining();
                    let reply = other(&request.request().method, draining, &self.settings.refusals);
                    request.respond(reply);
                }
            }
        }
    }

    fn take(self: &Arc<Self>, invite: IncomingInvite) {
        if self.pending.len() >= self.settings.most_pending {
            return self.refuse(invite, &Reason::Overload.into());
        }
        let shared = self.clone();
        let mut decided = Box::pin(async move { shared.decide(invite).await });
        // Stores in memory answer at once, and then a task would cost more than the decision.
        if decided.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.pending.spawn(decided);
        }
    }

    async fn decide(self: &Arc<Self>, invite: IncomingInvite) {
        let answer = {
            let parts = Parts::of(invite.request(), invite.source().remote.ip());
            let names = parts.names();
            self.admission.admit(&parts.asked(&names), self.clock.now()).await
        };
        match answer {
            Answer::Reject(rejection) => {
                tracing::info!(
                    reason = rejection.reason.label(),
                    fix = rejection.reason.row().fix,
                    "refused"
                );
                self.refuse(invite, &rejection);
            }
            Answer::Absorb => invite.ignore(),
            Answer::Offer(offer) => self.redirect(invite, &offer).await,
            Answer::Relay(call) => self.relay(invite, *call).await,
        }
    }

    /// Refuses; a caller that gave up meanwhile has its answer.
    fn refuse(&self, invite: IncomingInvite, rejection: &Rejection) {
        invite.reject(self.settings.refusals.reply(rejection));
    }

    /// Sends the offer, or ends the call when the caller is gone or there is nowhere to send it.
    async fn redirect(&self, invite: IncomingInvite, offer: &Offer) {
        let reply = redirect(invite.request(), offer);
        let now = self.clock.now();
        if !reply.headers.contains(HeaderName::CONTACT) {
            tracing::error!(entry = %offer.entry.id, "no backend offered has a usable URI; correct their sip_uris");
            self.admission.failed(&offer.entry, Reason::NoBackend, now).await;
            self.refuse(invite, &Reason::NoBackend.into());
        } else if invite.reject(reply) {
            tracing::debug!(entry = %offer.entry.id, backends = offer.choices.len(), "redirected");
        } else {
            self.admission.cancelled(&offer.entry, now).await;
        }
    }

    /// Once a second: what nobody came for expires, and what a dead backend left is written off.
    async fn upkeep(self: Arc<Self>) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reachable_since = self.clock.now();
        loop {
            second.tick().await;
            let now = self.clock.now();
            if let Err(error) = self.round(reachable_since, now).await {
                tracing::warn!(%error, "a store is away; upkeep goes on when it is back");
                reachable_since = now;
            }
        }
    }

    /// Looks for the backends that report, where they do.
    async fn look(self: Arc<Self>) {
        if self.settings.backends_report {
            let registry = &*self.admission.backends;
            self.heartbeats.keep_looking(registry, self.clock, self.settings.relay.heartbeat).await;
        }
    }

    /// What expired since the last round is written before the program ends: perhaps nobody else comes to do it.
    async fn last_sweep(&self) {
        let Admission { queue, limits, .. } = &*self.admission;
        let swept = sweep(&**queue, &**limits, self.clock.now());
        match tokio::time::timeout(Duration::from_secs(1), swept).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "calls that nobody came for are left to the next sweep"),
            Err(_) => {
                tracing::warn!("a store is slow; calls that nobody came for are left to the next sweep");
            }
        }
    }

    async fn round(
        &self,
        reachable_since: Timestamp,
        now: Timestamp,
    ) -> Result<(), crate::error::StoreError> {
        let Admission { queue, limits, backends, .. } = &*self.admission;
        sweep(&**queue, &**limits, now).await?;
        if self.settings.backends_report {
            write_lost((&**queue, &**limits, &**backends), reachable_since, STATUS_LIFE, now).await?;
        }
        Ok(())
    }
}

/// 302 with a Contact per backend.
fn redirect(request: &Request, offer: &Offer) -> Reply {
    let mut reply = Reply::new(StatusCode::MOVED_TEMPORARILY);
    let caller = Caller::of(request);
    for choice in &offer.choices {
        if let Some(uri) = target(choice, &caller, offer.token_in_user) {
            let contact = ["<", uri.as_str(), ">;q=", &qvalue(choice.q)].concat();
            reply.headers.push(HeaderName::CONTACT, contact);
        }
    }
    reply
}

/// Thousandths as a qvalue (RFC 3261 §25.1): `1`, `0.95`.
fn qvalue(thousandths: u16) -> String {
    if thousandths >= 1000 {
        return String::from("1");
    }
    let mut text = format!("0.{thousandths:03}");
    text.truncate(text.trim_end_matches('0').len());
    text
}

/// What of a caller's request goes into the URI of its backend.
struct Caller {
    /// The user that it dialled, escapes undone.
    user: Option<String>,
    transport: String,
}

impl Caller {
    fn of(request: &Request) -> Self {
        let via = request.headers.typed::<Via>();
        Self {
            user: request.uri.user_decoded().map(Cow::into_owned),
            transport: via.map(|via| via.transport().into_owned()).unwrap_or_default(),
        }
    }
}

/// The backend's URI for the caller's transport, else its first, with the dialled user and the token.
fn target(choice: &Choice, caller: &Caller, token_in_user: bool) -> Option<Uri> {
    let suits = |uri: &Uri| uri.transport().unwrap_or("udp").eq_ignore_ascii_case(&caller.transport);
    let readable = |uri: &String| uri.parse().ok().filter(|uri: &Uri| uri.host().is_some());
    let mut uris = choice.backend.sip_uris.iter().filter_map(readable);
    let first = uris.next()?;
    let base = if suits(&first) { first } else { uris.find(suits).unwrap_or(first) };
    Some(match token_in_user {
        true => base.with_user(Some(&choice.token)),
        false => base.with_user(caller.user.as_deref()).with_param(TOKEN_PARAM, Some(&choice.token)),
    })
}

/// The choice that the configuration names, the number's own region first.
fn selector(config: &ProxyConfig) -> Arc<dyn BackendSelector> {
    match config.selector {
        Selector::LeastLoad => Arc::new(ByRegion(LeastLoad)),
        Selector::RoundRobin => Arc::new(ByRegion(RoundRobin::default())),
        Selector::Rendezvous => Arc::new(ByRegion(Rendezvous)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qvalue_has_no_more_digits_than_it_needs() {
        assert_eq!([1000, 950, 900, 5, 1].map(qvalue), ["1", "0.95", "0.9", "0.005", "0.001"]);
    }
}
