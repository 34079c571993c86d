//! The backend tier as a service: INVITEs with a token in, conversations held, outcomes written.
//!
//! In: requests of an [`Endpoint`], a factory of conversations. Out: answered calls. [`Backend::claiming`] takes calls
//! that a proxy admitted; [`Backend::without_proxy`] answers every INVITE, for a trunk that is trusted by other means.
//! One task per call ([`call`]); a status report every few seconds tells proxies how full this backend is.

mod addresses;
mod answering;
mod call;
mod recordings;
mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use iqra_media::conversation::ConversationFactory;
use iqra_providers::sip::{CallReport, SipMedia};
use iqra_sip::net::{Endpoint, Incoming, IncomingInvite, IncomingRequest};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::BackendConfig;
use crate::handover::claim::Claims;
use crate::handover::outcome::CallRecord;
use crate::identity::Incarnation;
use crate::queue::Holder;
use crate::reason::Reason;
use crate::sip::{RefusalStyle, other};
use crate::start::{self, StartError, Trace};
use crate::stores::LiveStores;
use crate::time::SystemClock;

use answering::Answering;
pub use recordings::Recordings;
pub use report::Identity;

/// How a backend serves.
#[derive(Debug, Clone)]
pub struct BackendSettings {
    /// Calls at a time; one more is refused with 503. Default 500.
    pub capacity: u32,
    /// How long calls in progress and INVITEs with a valid token may go on after the stop signal. Default 60 s.
    pub drain: Duration,
    /// How long a call may last that has no limit of its own. Default 4 h.
    pub max_duration: Duration,
    /// How refusals are worded.
    pub refusals: RefusalStyle,
    /// How calls are recorded; `None` records none.
    pub recordings: Option<Recordings>,
}

impl Default for BackendSettings {
    fn default() -> Self {
        Self {
            capacity: 500,
            drain: Duration::from_secs(60),
            max_duration: Duration::from_secs(4 * 3600),
            refusals: RefusalStyle::default(),
            recordings: None,
        }
    }
}

/// A call that is over.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What the call itself saw.
    pub report: CallReport,
    /// Its record; `None` without a proxy, or when the store did not take the outcome.
    pub record: Option<CallRecord>,
}

/// Told of every call that is over; runs on the call's task and must not block.
pub type OnEnd = Arc<dyn Fn(&Ended) + Send + Sync>;

/// The name of the business in [`CallContext::parameters`](iqra_media::conversation::CallContext) of a call that a proxy
/// handed over.
pub const PARAM_BUSINESS: &str = "business";
/// There the name of the number, by its phone id.
pub const PARAM_PHONE: &str = "phone";
/// There the name of the number's route, by which a factory chooses the conversation.
pub const PARAM_ROUTE: &str = "route";

/// Where calls come from.
enum Gate {
    /// A proxy's tokens.
    Claims(Box<(Claims, Identity)>),
    /// Anybody's INVITE.
    Open,
}

/// The backend tier on one endpoint.
pub struct Backend {
    endpoint: Endpoint,
    incoming: Incoming,
    shared: Shared,
}

struct Shared {
    media: SipMedia,
    factory: Arc<dyn ConversationFactory>,
    gate: Gate,
    settings: BackendSettings,
    clock: SystemClock,
    on_end: Option<OnEnd>,
    calls: AtomicUsize,
    /// Cancelled when calls have to end now.
    stop: CancellationToken,
    draining: CancellationToken,
    changed: Notify,
    answering: Answering,
    tasks: TaskTracker,
}

impl Backend {
    /// Binds a backend as its configuration says, on `given` stores (shared with a proxy in the same program) or on
    /// those that the configuration names. `trace` sees every SIP message.
    ///
    /// # Errors
    /// [`StartError`] says what could not be opened or bound.
    pub async fn bind(
        config: BackendConfig,
        given: Option<LiveStores>,
        trace: Option<Trace>,
        factory: impl ConversationFactory + 'static,
    ) -> Result<Self, StartError> {
        let tokens = config.token_keys.keys()?;
        let live = start::stores(given, &config.store, config.queue).await?;
        let (endpoint, incoming) = start::bind(&config.listen, config.edge.clone(), None, trace).await?;
        let media = addresses::media(&endpoint, &config.media)?;
        let clock = SystemClock::start();
        let claims = Claims {
            queue: live.queue,
            limits: live.limits,
            tokens,
            me: Holder { backend: config.id.clone(), incarnation: Incarnation::starting(clock.now()) },
            region: config.region.clone(),
            lease_life: config.lease_life,
        };
        let sip_uris =
            if config.sip_uris.is_empty() { addresses::own_uris(&endpoint) } else { config.sip_uris.clone() };
        let identity =
            Identity { registry: live.backends, sip_uris: sip_uris.into(), development: config.development };
        let settings = BackendSettings {
            capacity: config.capacity,
            drain: config.drain_limit,
            recordings: config.recording.as_ref().map(Recordings::open).transpose()?,
            ..BackendSettings::default()
        };
        let backend =
            Self::claiming((endpoint, incoming), media, claims, identity, factory).settings(settings);
        // A proxy that is ready because this is bound finds it at once; INVITEs wait until it is served.
        backend.shared.report().await;
        Ok(backend)
    }

    /// The endpoint: its listeners and counts.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The media: its sessions and ports.
    #[must_use]
    pub fn media(&self) -> &SipMedia {
        &self.shared.media
    }

    /// A backend that takes the calls that proxies hand over.
    #[must_use]
    pub fn claiming(
        (endpoint, incoming): (Endpoint, Incoming),
        media: SipMedia,
        claims: Claims,
        identity: Identity,
        factory: impl ConversationFactory + 'static,
    ) -> Self {
        let gate = Gate::Claims(Box::new((claims, identity)));
        Self { endpoint, incoming, shared: Shared::new(media, gate, Arc::new(factory)) }
    }

    /// A backend that answers any INVITE.
    #[must_use]
    pub fn without_proxy(
        (endpoint, incoming): (Endpoint, Incoming),
        media: SipMedia,
        factory: impl ConversationFactory + 'static,
    ) -> Self {
        Self { endpoint, incoming, shared: Shared::new(media, Gate::Open, Arc::new(factory)) }
    }

    /// The same with these settings.
    #[must_use]
    pub fn settings(mut self, settings: BackendSettings) -> Self {
        self.shared.settings = settings;
        self
    }

    /// The same, telling `on_end` of every call that is over.
    #[must_use]
    pub fn on_end(mut self, on_end: OnEnd) -> Self {
        self.shared.on_end = Some(on_end);
        self
    }

    /// Serves until `stop` resolves, then drains: no new calls but those with a valid token, until nothing is left or
    /// [`BackendSettings::drain`] has passed; then the remaining calls are hung up.
    pub async fn serve_until(self, stop: impl Future<Output = ()>) {
        let Self { endpoint, mut incoming, shared } = self;
        let shared = Arc::new(shared);
        shared.report().await;
        let reporting = tokio::spawn(shared.clone().keep_reporting());
        let sweeping =
            shared.settings.recordings.clone().map(|recordings| tokio::spawn(recordings.keep_sweeping()));
        shared.serve(&mut incoming, stop).await;
        shared.draining.cancel();
        // One task reports, so that an older report cannot come after this one.
        shared.changed.notify_one();
        shared.serve(&mut incoming, shared.drained()).await;
        shared.stop.cancel();
        shared.tasks.close();
        shared.serve(&mut incoming, shared.tasks.wait()).await;
        reporting.abort();
        let _ = reporting.await;
        if let Some(sweeping) = sweeping {
            sweeping.abort();
        }
        shared.withdraw().await;
        endpoint.shutdown(Duration::from_secs(2)).await;
    }
}

impl Shared {
    fn new(media: SipMedia, gate: Gate, factory: Arc<dyn ConversationFactory>) -> Self {
        Self {
            media,
            factory,
            gate,
            settings: BackendSettings::default(),
            clock: SystemClock::start(),
            on_end: None,
            calls: AtomicUsize::new(0),
            stop: CancellationToken::new(),
            draining: CancellationToken::new(),
            changed: Notify::new(),
            answering: Answering::default(),
            tasks: TaskTracker::new(),
        }
    }

    async fn serve(self: &Arc<Self>, incoming: &mut Incoming, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return,
                request = incoming.next() => match request {
                    None => return,
                    Some(IncomingRequest::Invite(invite)) => self.take(invite),
                    Some(IncomingRequest::Other(request)) => {
                        let draining = self.draining.is_cancelled();
                        let reply = other(&request.request().method, draining, &self.settings.refusals);
                        request.respond(reply);
                    }
                },
            }
        }
    }

    /// Starts a call's task, or refuses when this backend is full or past its drain.
    fn take(self: &Arc<Self>, invite: IncomingInvite) {
        if self.stop.is_cancelled() || (self.draining.is_cancelled() && matches!(self.gate, Gate::Open)) {
            return self.refuse(invite, Reason::Draining);
        }
        let place = Place::new(self);
        if place.before >= self.settings.capacity as usize {
            return self.refuse(invite, Reason::BackendFull);
        }
        self.tasks.spawn(async move { place.shared.call(invite).await });
    }

    /// Resolves when no call is left and no valid offer names this backend, or when the drain limit has passed.
    async fn drained(self: &Arc<Self>) {
        let empty = async {
            let mut look = tokio::time::interval(Duration::from_millis(100));
            loop {
                look.tick().await;
                if self.calls.load(Ordering::Relaxed) == 0 && !self.is_awaited().await {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(self.settings.drain, empty).await;
    }
}

/// A call's place within the capacity, free again when it is dropped.
struct Place {
    shared: Arc<Shared>,
    /// How many calls there were without it.
    before: usize,
}

impl Place {
    fn new(shared: &Arc<Shared>) -> Self {
        let before = shared.calls.fetch_add(1, Ordering::Relaxed);
        shared.changed.notify_one();
        Self { shared: shared.clone(), before }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.calls.fetch_sub(1, Ordering::Relaxed);
        self.shared.changed.notify_one();
    }
}
