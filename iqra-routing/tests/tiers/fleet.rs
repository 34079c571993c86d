//! A pool of proxies that share their stores and keys, in front of backends: real ones, and ones that a test plays itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use iqra_providers::sip::SipMedia;
use iqra_routing::admission::{Admission, Settings, Stores};
use iqra_routing::backend::{Backend, Identity};
use iqra_routing::backends::{BackendRegistry, BackendState, BackendStatus, MemoryBackends};
use iqra_routing::error::StoreError;
use iqra_routing::handover::claim::{Claim, Claims};
use iqra_routing::handover::table::Event;
use iqra_routing::identity::{CallerKey, EntryId, Incarnation, TrunkId};
use iqra_routing::limits::{LEASE_LIFE, MemoryLimits};
use iqra_routing::number::{HandOver, Number, Trunk};
use iqra_routing::proxy::{Proxy, ProxySettings, RelaySettings};
use iqra_routing::queue::{
    CallQueue, Entered, Entry, Filter, Holder, MemoryQueue, NewEntry, Node, Page, QueueError, State,
};
use iqra_routing::reason::Reason;
use iqra_routing::select::{BackendSelector, Region, Regions, SelectionRequest};
use iqra_routing::source::SourceList;
use iqra_routing::time::{SystemClock, Timestamp};
use iqra_sip::message::header::From;
use iqra_sip::net::Endpoint;
use iqra_sip::roles::relay::{PoolName, RelayConfig, RelayKeys, RelayTimings};
use iqra_sip::{EngineConfig, HeaderName, Message, Method, Request, Response, StatusCode, Transport};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{
    Acts, Agent, LOOPBACK, Note, PATIENCE, Setup, keys, media_config, number, numbers, timings, trunk,
};

/// How long a backend may be silent, and how long a 100 keeps the proxy waiting.
pub(crate) const SILENT: Duration = Duration::from_secs(1);
pub(crate) const TRYING: Duration = Duration::from_secs(2);
/// What the pool is called in Record-Route.
pub(crate) const POOL: &str = "pool.example";

/// Whom a fleet has.
pub(crate) struct Plan {
    pub trunk: HandOver,
    pub numbers: Vec<Number>,
    /// Backends that do this, after those that the test plays.
    pub real: Vec<Acts>,
    /// Backends that the test plays: `b1`, `b2` and so on.
    pub played: usize,
    pub relay: RelaySettings,
    /// How long a proxy drains.
    pub drain: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        let timings = RelayTimings { silent: SILENT, trying: TRYING };
        let heartbeat = Duration::from_millis(50);
        Self {
            trunk: HandOver::Relay,
            numbers: vec![number()],
            real: vec![Acts::Hums],
            played: 0,
            relay: RelaySettings { timings, heartbeat, ..RelaySettings::default() },
            drain: Duration::from_millis(300),
        }
    }
}

/// Backends in the order of their ids, so that a test knows who is asked first.
struct InOrder;

impl BackendSelector for InOrder {
    fn order(
        &self,
        mut candidates: Vec<Arc<BackendStatus>>,
        request: &SelectionRequest<'_>,
        _: &mut fastrand::Rng,
    ) -> Vec<Arc<BackendStatus>> {
        candidates.sort_by(|a, b| a.id.cmp(&b.id));
        candidates.truncate(request.most);
        candidates
    }
}

/// The proxies' view of the queue: of so many further events the reply is lost.
struct Losing(Arc<MemoryQueue>, Arc<AtomicU32>);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CallQueue for Losing {
    async fn enter(&self, new: NewEntry, now: Timestamp) -> Result<Entered, QueueError> {
        self.0.enter(new, now).await
    }

    async fn apply(&self, id: EntryId, event: &Event, now: Timestamp) -> Result<Arc<Entry>, QueueError> {
        let applied = self.0.apply(id, event, now).await;
        let fewer = |left: u32| left.checked_sub(1);
        if self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok() {
            return Err(StoreError::Away { store: "queue", why: "a test says so".to_owned() }.into());
        }
        applied
    }

    async fn entry(&self, id: EntryId) -> Result<Option<Arc<Entry>>, StoreError> {
        self.0.entry(id).await
    }

    async fn list(&self, filter: &Filter, page: Page) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.0.list(filter, page).await
    }

    async fn count(&self, filter: &Filter) -> Result<usize, StoreError> {
        self.0.count(filter).await
    }

    async fn sweep(&self, now: Timestamp, most: usize) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.0.sweep(now, most).await
    }

    async fn note_redirect_followed(&self, trunk: &TrunkId) -> Result<(), StoreError> {
        self.0.note_redirect_followed(trunk).await
    }

    async fn redirects_followed(&self, trunk: &TrunkId) -> Result<bool, StoreError> {
        self.0.redirects_followed(trunk).await
    }
}

/// A tier that runs.
struct Tier {
    endpoint: Endpoint,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Tier {
    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.running).await.expect("the tier returns").unwrap();
        assert_eq!(self.endpoint.counts(), iqra_sip::net::Counts::default());
    }
}

pub(crate) struct Fleet {
    plan: Plan,
    pub queue: Arc<MemoryQueue>,
    pub limits: Arc<MemoryLimits>,
    pub backends: Arc<MemoryBackends>,
    stores: Stores,
    /// Of how many events of the proxies the queue's reply is lost from now on.
    pub lost_replies: Arc<AtomicU32>,
    proxies: BTreeMap<&'static str, Tier>,
    real: Vec<Tier>,
    media: iqra_media::net::MediaDriver,
    pub played: Vec<Played>,
    pub notes: mpsc::UnboundedReceiver<Note>,
    pub clock: SystemClock,
}

impl Fleet {
    pub(crate) async fn new(plan: Plan) -> Self {
        let (queue, limits) = (Arc::<MemoryQueue>::default(), Arc::<MemoryLimits>::default());
        let backends = Arc::<MemoryBackends>::default();
        let known = numbers(&Setup::default());
        known.set_trunk(Trunk { hand_over: plan.trunk, ..trunk("127.0.0.0/8") });
        plan.numbers.iter().for_each(|number| known.set_number(number.clone()).unwrap());
        let lost_replies = Arc::<AtomicU32>::default();
        let stores = Stores {
            numbers: Arc::new(known),
            queue: Arc::new(Losing(queue.clone(), lost_replies.clone())),
            limits: limits.clone(),
            backends: backends.clone(),
        };
        let (notes_in, notes) = mpsc::unbounded_channel();
        let media = iqra_media::net::MediaDriver::start(media_config()).unwrap();
        let clock = SystemClock::start();
        let (proxies, real, played) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut fleet = Self {
            plan,
            queue,
            limits,
            backends,
            stores,
            lost_replies,
            proxies,
            real,
            media,
            played,
            notes,
            clock,
        };
        for n in 1..=fleet.plan.played {
            let played = fleet.play(&format!("b{n}")).await;
            fleet.played.push(played);
        }
        for (n, acts) in fleet.plan.real.clone().into_iter().enumerate() {
            fleet.add_backend(&format!("b{}", fleet.plan.played + n + 1), acts, notes_in.clone()).await;
        }
        for (name, incarnation) in [("p1", 1), ("p2", 1)] {
            fleet.start_proxy(name, incarnation).await;
        }
        let all = fleet.plan.played + fleet.plan.real.len();
        fleet.until("all backends report", async |fleet| fleet.reporting().await == all).await;
        fleet
    }

    async fn reporting(&self) -> usize {
        self.backends.list(None, self.clock.now()).await.unwrap().len()
    }

    fn claims(&self, id: &str) -> Claims {
        Claims {
            queue: self.queue.clone(),
            limits: self.limits.clone(),
            tokens: keys(),
            me: Holder { backend: id.parse().unwrap(), incarnation: Incarnation(1) },
            region: "eu".parse().unwrap(),
            lease_life: LEASE_LIFE,
        }
    }

    /// A backend that the test plays; it reports once, for longer than any test lasts.
    async fn play(&self, id: &str) -> Played {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let status = BackendStatus {
            id: id.parse().unwrap(),
            region: "eu".parse().unwrap(),
            incarnation: Incarnation(1),
            sip_uris: [format!("sip:{}", socket.local_addr().unwrap())].into(),
            media_url: None,
            capacity: 10,
            calls: 0,
            cpu: 0.0,
            state: BackendState::Running,
            development: false,
        };
        self.backends.report(status, Duration::from_secs(600), self.clock.now()).await.unwrap();
        Played { socket, claims: self.claims(id), clock: self.clock }
    }

    async fn add_backend(&mut self, id: &str, acts: Acts, notes: mpsc::UnboundedSender<Note>) {
        let bound = Endpoint::builder().udp(LOOPBACK).config(timings(Duration::from_millis(200)));
        let bound = bound.bind().await.unwrap();
        let (endpoint, at) = (bound.0.clone(), bound.0.listeners()[0].addr);
        let identity = Identity {
            registry: self.backends.clone(),
            sip_uris: [format!("sip:{at};transport=udp")].into(),
            development: false,
        };
        let media = SipMedia::new(self.media.clone(), [127, 0, 0, 1].into());
        let tier = Backend::claiming(bound, media, self.claims(id), identity, Agent { acts, notes });
        let tier = tier.settings(Setup::default().serving);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(async move { tier.serve_until(stopped.cancelled()).await });
        self.real.push(Tier { endpoint, stop, running });
    }

    /// Starts a proxy of the pool; of each its own start.
    pub(crate) async fn start_proxy(&mut self, name: &'static str, incarnation: u64) {
        let mut relay = RelayConfig::new(name, RelayKeys::new([[9; 32]]).unwrap());
        relay.pool = vec![PoolName { transport: Transport::Udp, host: POOL.to_owned(), port: 5060 }];
        let config = EngineConfig { relay: Some(relay), ..timings(Duration::from_millis(200)) };
        let bound = Endpoint::builder().udp(LOOPBACK).config(config).bind().await.unwrap();
        let endpoint = bound.0.clone();
        let settings = Settings {
            node: Node { id: name.parse().unwrap(), incarnation: Incarnation(incarnation) },
            trusted_proxies: SourceList::default(),
            token_life: Duration::from_secs(30),
            most_choices: 3,
        };
        let regions = Regions::new([("eu".parse().unwrap(), Region { enabled: true, fallback: Vec::new() })]);
        let admission = Admission::new(self.stores.clone(), Arc::new(InOrder), regions, keys(), settings, 1);
        let serving =
            ProxySettings { drain: self.plan.drain, relay: self.plan.relay, ..ProxySettings::default() };
        let proxy = Proxy::new(bound, Arc::new(admission), serving);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(async move { proxy.serve_until(stopped.cancelled()).await });
        self.proxies.insert(name, Tier { endpoint, stop, running });
    }

    pub(crate) fn proxy(&self, name: &str) -> SocketAddr {
        self.proxies[name].endpoint.listeners()[0].addr
    }

    /// Ends a proxy and waits for it.
    pub(crate) async fn stop_proxy(&mut self, name: &str) {
        self.proxies.remove(name).unwrap().end().await;
    }

    /// Looks again and again until it is so.
    pub(crate) async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let looking = async {
            while !holds(self).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let looked = tokio::time::timeout(PATIENCE, looking).await;
        looked.unwrap_or_else(|_| panic!("it never came to pass: {what}"));
    }

    /// Skips notes until this one.
    pub(crate) async fn noted(&mut self, wanted: Note) {
        let noted = async { while self.notes.recv().await.unwrap() != wanted {} };
        tokio::time::timeout(PATIENCE, noted).await.expect("the note in time");
    }

    pub(crate) async fn entries(&self) -> Vec<Arc<Entry>> {
        self.queue.list(&Filter::default(), Page::default()).await.unwrap()
    }

    /// The newest entry.
    pub(crate) async fn entry(&self) -> Arc<Entry> {
        self.entries().await[0].clone()
    }

    pub(crate) async fn slots(&self) -> u32 {
        use iqra_routing::limits::PlanLimits;
        self.limits.used(&"acme".parse().unwrap(), self.clock.now()).await.unwrap()
    }

    /// Waits until the newest entry is over, and says how.
    pub(crate) async fn over(&self) -> (State, Option<Reason>) {
        self.until("the entry is over", async |fleet| fleet.entry().await.ended.is_some()).await;
        let entry = self.entry().await;
        (entry.state, entry.reason)
    }

    /// Waits until no call has left anything.
    pub(crate) async fn empty(&self) {
        let empty = async |fleet: &Self| {
            let live = Filter { live: Some(true), ..Filter::default() };
            let dialogs: usize = fleet.real.iter().map(|tier| tier.endpoint.counts().dialogs).sum();
            let media = fleet.media.counts();
            (fleet.queue.count(&live).await.unwrap(), fleet.slots().await, dialogs) == (0, 0, 0)
                && (media.sessions, media.ports) == (0, 0)
        };
        self.until("no call has left anything", empty).await;
    }

    /// Ends all; nothing may be left.
    pub(crate) async fn close(self) {
        self.empty().await;
        for tier in self.proxies.into_values().chain(self.real) {
            tier.end().await;
        }
    }
}

/// A backend that the test plays.
pub(crate) struct Played {
    socket: UdpSocket,
    pub claims: Claims,
    clock: SystemClock,
}

/// An INVITE at a played backend.
pub(crate) struct Asked {
    pub request: Request,
    from: SocketAddr,
}

impl Asked {
    pub(crate) fn token(&self) -> String {
        self.request.uri.param_decoded("X-CallQueue-Id").expect("a token").into_owned()
    }
}

impl Played {
    /// The next request of this method; others are not looked at.
    async fn next(&self, method: &Method) -> Asked {
        let mut octets = vec![0; 65_536];
        loop {
            let received = tokio::time::timeout(PATIENCE, self.socket.recv_from(&mut octets)).await;
            let (length, from) = received.unwrap_or_else(|_| panic!("no {method} in time")).unwrap();
            match Message::parse(Bytes::copy_from_slice(&octets[..length])).unwrap() {
                Message::Request(request) if request.method == *method => return Asked { request, from },
                _ => {}
            }
        }
    }

    pub(crate) async fn asked(&self) -> Asked {
        self.next(&Method::Invite).await
    }

    /// Waits for the CANCEL, and answers it.
    pub(crate) async fn cancelled(&self) {
        let cancel = self.next(&Method::Cancel).await;
        self.respond(&cancel, 200, "").await;
    }

    /// Whether no INVITE comes for so long.
    pub(crate) async fn is_not_asked(&self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.next(&Method::Invite)).await.is_err()
    }

    /// Answers with a tag of its own; a 2xx has a Contact and this body.
    pub(crate) async fn respond(&self, asked: &Asked, status: u16, body: &str) {
        let status = StatusCode::new(status).unwrap();
        let mut response = Response::to_request(&asked.request, status);
        let to = response.headers.get(HeaderName::TO).unwrap().into_owned();
        if status.code() > 100 && !to.contains(";tag=") {
            response.headers.set(HeaderName::TO, format!("{to};tag=played"));
        }
        for route in asked.request.headers.all(HeaderName::RECORD_ROUTE) {
            response.headers.push(HeaderName::RECORD_ROUTE, route);
        }
        if status.code() > 100 && status.code() < 300 {
            let me = self.socket.local_addr().unwrap();
            response.headers.push(HeaderName::CONTACT, format!("<sip:played@{me}>"));
        }
        if !body.is_empty() {
            response.headers.push(HeaderName::CONTENT_TYPE, "application/sdp");
            response.body = Bytes::copy_from_slice(body.as_bytes());
        }
        self.socket.send_to(&response.to_bytes(), asked.from).await.unwrap();
    }

    /// Claims the call as a backend does.
    pub(crate) async fn claim(&self, asked: &Asked) -> Result<Claim, Reason> {
        let headers = &asked.request.headers;
        let tag = headers.typed::<From>().unwrap().tag().unwrap().into_owned();
        let caller = CallerKey::sip(&headers.get(HeaderName::CALL_ID).unwrap(), &tag).unwrap();
        self.claims.claim(Some(&asked.token()), &caller, self.clock.now()).await
    }

    pub(crate) async fn commit(&self, claim: &Claim) -> Result<(), Reason> {
        self.claims.commit(claim, self.clock.now()).await
    }

    /// Gives the claim back and refuses with this status.
    pub(crate) async fn refuse(&self, asked: &Asked, claim: &Claim, status: u16) {
        let reason = Reason::ConversationRefused;
        self.claims.release(claim, status, reason, self.clock.now()).await.unwrap();
        self.respond(asked, status, "").await;
    }
}
