//! Both tiers on loopback with a conversation that tells what happens to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use iqra_media::conversation::{
    CallContext, ConversationFactory, ConversationSink, Event, Formats, Heard, Line, SinkError, SinkRefusal,
};
use iqra_media::detect::goertzel::purity;
use iqra_media::net::{MediaConfig, MediaDriver, Overload};
use iqra_media::pcm::tone;
use iqra_media::sdp::Negotiated;
use iqra_media::session;
use iqra_providers::sip::SipMedia;
use iqra_routing::admission::{Admission, Settings, Stores};
use iqra_routing::backend::{Backend, BackendSettings, Identity};
use iqra_routing::backends::{BackendRegistry, MemoryBackends};
use iqra_routing::handover::claim::Claims;
use iqra_routing::handover::outcome::Outcome;
use iqra_routing::handover::token::TokenKeys;
use iqra_routing::identity::{AccountId, Incarnation};
use iqra_routing::limits::{LEASE_LIFE, MemoryLimits, PlanLimits};
use iqra_routing::number::{Account, Business, HandOver, MemoryNumbers, Number, Provider, Trunk};
use iqra_routing::proxy::{Proxy, ProxySettings};
use iqra_routing::queue::{CallQueue, Entry, Filter, Holder, MAX_PAGE, MemoryQueue, Node, Page, State};
use iqra_routing::reason::Reason;
use iqra_routing::select::{ByRegion, LeastLoad, Region, Regions};
use iqra_routing::sip::RefusalStyle;
use iqra_routing::source::{SourceList, parse_network};
use iqra_routing::time::SystemClock;
use iqra_sip::net::Endpoint;
use iqra_sip::{EngineConfig, Timings};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// What the conversation hums, and what it listens for.
pub(crate) const AGENT_HZ: f64 = 1000.0;
pub(crate) const CALLER_HZ: f64 = 440.0;

/// What a conversation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acts {
    /// Hums until the call ends.
    Hums,
    /// Says 60 ms and returns.
    Completes,
    Fails,
    Panics,
    /// Refused by the factory with 480.
    Refused,
    /// The factory panics.
    FactoryPanics,
    /// The factory never returns.
    FactoryHangs,
}

/// What a conversation tells.
#[derive(Debug, PartialEq)]
pub(crate) enum Note {
    Made(Vec<(String, String)>),
    HeardTone,
    Event(Event),
}

pub(crate) struct Agent {
    pub acts: Acts,
    pub notes: mpsc::UnboundedSender<Note>,
}

#[async_trait]
impl ConversationFactory for Agent {
    async fn conversation(&self, call: &CallContext) -> Result<Box<dyn ConversationSink>, SinkRefusal> {
        let _ = self.notes.send(Note::Made(call.parameters.clone()));
        match self.acts {
            Acts::Refused => return Err(SinkRefusal::unavailable("nobody is \"in\"")),
            Acts::FactoryPanics => panic!("a bug in a factory"),
            Acts::FactoryHangs => std::future::pending().await,
            _ => {}
        }
        Ok(Box::new(Talk { acts: self.acts, notes: self.notes.clone(), hz: (AGENT_HZ, CALLER_HZ) }))
    }
}

/// A conversation that hums one note and listens for another.
pub(crate) struct Talk {
    pub acts: Acts,
    pub notes: mpsc::UnboundedSender<Note>,
    pub hz: (f64, f64),
}

#[async_trait]
impl ConversationSink for Talk {
    fn formats(&self, line: &Negotiated) -> Formats {
        Formats::of_codec(line)
    }

    async fn converse(self: Box<Self>, line: Line) -> Result<(), SinkError> {
        let (mut hearing, speaking) = line.split();
        let millis = if self.acts == Acts::Completes { 60 } else { 2_000 };
        let mut hum = vec![0; speaking.format().samples_in_millis(millis)];
        tone::Tone::new(self.hz.0, speaking.format().sample_rate(), 8_000).fill(&mut hum);
        match self.acts {
            Acts::Fails => return Err(SinkError::new("service away")),
            Acts::Panics => panic!("a bug in a conversation"),
            _ => drop(speaking.play(&hum)),
        }
        if self.acts == Acts::Completes {
            return Ok(());
        }
        let mut heard = false;
        while let Some(next) = hearing.next().await {
            match next {
                Heard::Audio(frame) if !heard && purity(frame.samples(), 8_000, self.hz.1) > 0.8 => {
                    heard = true;
                    let _ = self.notes.send(Note::HeardTone);
                }
                Heard::Audio(_) => {}
                Heard::Event(event) => drop(self.notes.send(Note::Event(event))),
            }
        }
        Ok(())
    }
}

/// What a test may want differently.
pub(crate) struct Setup {
    pub account: Account,
    pub business_active: bool,
    pub allowed: &'static str,
    pub number: Number,
    pub region_enabled: bool,
    pub backend: bool,
    pub acts: Acts,
    pub token_life: Duration,
    pub refusals: RefusalStyle,
    pub serving: BackendSettings,
    pub session: session::Config,
    pub t1: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            account: Account {
                id: "acme".parse().unwrap(),
                active: true,
                concurrent_calls: 1_000,
                minutes_left: None,
                admin: false,
            },
            business_active: true,
            allowed: "127.0.0.0/8",
            number: number(),
            region_enabled: true,
            backend: true,
            acts: Acts::Hums,
            token_life: Duration::from_secs(30),
            refusals: RefusalStyle::default(),
            serving: BackendSettings { drain: Duration::from_millis(300), ..BackendSettings::default() },
            session: session::Config::default(),
            t1: Duration::from_millis(200),
        }
    }
}

pub(crate) fn number() -> Number {
    Number {
        business: "7".parse().unwrap(),
        phone: "desk".parse().unwrap(),
        dialled: "1000".to_owned().try_into().unwrap(),
        provider: Provider::Sip,
        region: "eu".parse().unwrap(),
        route: Some("front".parse().unwrap()),
        voice: true,
        trunk: Some("carrier".parse().unwrap()),
        allowed_sources: None,
        allow_any_source: false,
        codecs: ["PCMU".to_owned()].into(),
        answer_delay: Duration::ZERO,
        max_duration: None,
        hand_over: None,
    }
}

pub(crate) fn keys() -> TokenKeys {
    TokenKeys::new([[7; 32]]).unwrap()
}

/// A number's answer delayed by so much: the call rings.
pub(crate) fn ringing(delay: Duration) -> Number {
    Number { answer_delay: delay, ..number() }
}

/// Both tiers.
pub(crate) struct World {
    /// The proxy's two listeners.
    pub proxies: [SocketAddr; 2],
    pub backend: SocketAddr,
    pub queue: Arc<MemoryQueue>,
    limits: Arc<MemoryLimits>,
    backends: Arc<MemoryBackends>,
    pub media: MediaDriver,
    endpoints: [Endpoint; 2],
    pub notes: mpsc::UnboundedReceiver<Note>,
    clock: SystemClock,
    stops: [CancellationToken; 2],
    tiers: [JoinHandle<()>; 2],
}

pub(crate) const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

pub(crate) fn timings(t1: Duration) -> EngineConfig {
    EngineConfig { timings: Timings { t1, t2: t1 * 4, ..Timings::default() }, ..EngineConfig::default() }
}

pub(crate) fn numbers(setup: &Setup) -> MemoryNumbers {
    let numbers = MemoryNumbers::default();
    let account = setup.account.id.clone();
    numbers.set_account(setup.account.clone());
    numbers.set_business(Business { id: "7".parse().unwrap(), account, active: setup.business_active });
    numbers.set_trunk(trunk(setup.allowed));
    numbers.set_number(setup.number.clone()).unwrap();
    numbers
}

/// The trunk that sends calls from this network.
pub(crate) fn trunk(network: &str) -> Trunk {
    Trunk {
        id: "carrier".parse().unwrap(),
        allowed_sources: SourceList::new([parse_network(network).unwrap()]),
        uri_headers: false,
        token_in_user: false,
        hand_over: HandOver::Redirect,
    }
}

/// Media that takes calls however slow the machine is that the tests run on.
pub(crate) fn media_config() -> MediaConfig {
    let overload = Overload { refuse: false, ..Overload::default() };
    MediaConfig { bind: [127, 0, 0, 1].into(), ports: 20_000..=60_000, overload, ..MediaConfig::default() }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let (notes_in, notes) = mpsc::unbounded_channel();
        let (queue, limits, backends) =
            (Arc::<MemoryQueue>::default(), Arc::<MemoryLimits>::default(), Arc::default());
        let backends: Arc<MemoryBackends> = backends;
        let stores = Stores {
            numbers: Arc::new(numbers(&setup)),
            queue: queue.clone(),
            limits: limits.clone(),
            backends: backends.clone(),
        };
        let settings = Settings {
            node: Node { id: "p1".parse().unwrap(), incarnation: Incarnation(1) },
            trusted_proxies: SourceList::default(),
            token_life: setup.token_life,
            most_choices: 3,
        };
        let region = Region { enabled: setup.region_enabled, fallback: Vec::new() };
        let regions = Regions::new([("eu".parse().unwrap(), region)]);
        let selector = Arc::new(ByRegion(LeastLoad));
        let admission = Arc::new(Admission::new(stores, selector, regions, keys(), settings, 1));
        let builder = Endpoint::builder().udp(LOOPBACK).udp(LOOPBACK).config(timings(setup.t1));
        let front = builder.bind().await.unwrap();
        let back = Endpoint::builder().udp(LOOPBACK).config(timings(setup.t1)).bind().await.unwrap();
        let endpoints = [front.0.clone(), back.0.clone()];
        let proxies = [front.0.listeners()[0].addr, front.0.listeners()[1].addr];
        let backend = back.0.listeners()[0].addr;
        let config = media_config();
        let media = MediaDriver::start(config).unwrap();
        let stops = [CancellationToken::new(), CancellationToken::new()];
        let serving = ProxySettings {
            refusals: setup.refusals,
            drain: Duration::from_millis(300),
            ..ProxySettings::default()
        };
        let proxy = Proxy::new(front, admission, serving);
        let claims = Claims {
            queue: queue.clone(),
            limits: limits.clone(),
            tokens: keys(),
            me: Holder { backend: "b1".parse().unwrap(), incarnation: Incarnation(1) },
            region: "eu".parse().unwrap(),
            lease_life: LEASE_LIFE,
        };
        let identity = Identity {
            registry: backends.clone(),
            sip_uris: [format!("sip:{backend};transport=udp")].into(),
            development: false,
        };
        let sip_media = SipMedia::new(media.clone(), [127, 0, 0, 1].into()).session(setup.session);
        let agent = Agent { acts: setup.acts, notes: notes_in };
        let tier = Backend::claiming(back, sip_media, claims, identity, agent).settings(setup.serving);
        let [stop_front, stop_back] = stops.clone();
        let tiers = [
            tokio::spawn(async move { proxy.serve_until(stop_front.cancelled()).await }),
            tokio::spawn(async move { tier.serve_until(stop_back.cancelled()).await }),
        ];
        let world = Self {
            proxies,
            backend,
            queue,
            limits,
            backends,
            media,
            endpoints,
            notes,
            clock: SystemClock::start(),
            stops,
            tiers,
        };
        world.until("the backend has reported", async || world.reported().await == 1).await;
        if !setup.backend {
            let (id, now) = ("b1".parse().unwrap(), world.clock.now());
            world.backends.withdraw(&id, Incarnation(1), now).await.unwrap();
        }
        world
    }

    async fn reported(&self) -> usize {
        self.backends.list(None, self.clock.now()).await.unwrap().len()
    }

    /// Looks again and again until it is so.
    pub(crate) async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let looking = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .unwrap_or_else(|_| panic!("it never came to pass: {what}"));
    }

    /// The next thing that a conversation tells.
    pub(crate) async fn note(&mut self) -> Note {
        tokio::time::timeout(PATIENCE, self.notes.recv()).await.expect("a note in time").unwrap()
    }

    /// Skips notes until this one.
    pub(crate) async fn noted(&mut self, wanted: Note) {
        while self.note().await != wanted {}
    }

    pub(crate) async fn entries(&self) -> Vec<Arc<Entry>> {
        let page = Page { before: None, most: MAX_PAGE };
        self.queue.list(&Filter::default(), page).await.unwrap()
    }

    /// The one entry that there is.
    pub(crate) async fn entry(&self) -> Arc<Entry> {
        let entries = self.entries().await;
        assert_eq!(entries.len(), 1, "one entry");
        entries[0].clone()
    }

    pub(crate) async fn slots(&self) -> u32 {
        let account: AccountId = "acme".parse().unwrap();
        self.limits.used(&account, self.clock.now()).await.unwrap()
    }

    /// Waits until the only entry is over, and says how.
    pub(crate) async fn over(&self) -> (State, Option<Reason>, Option<Outcome>) {
        self.until("the entry is over", async || self.entry().await.ended.is_some()).await;
        let entry = self.entry().await;
        (entry.state, entry.reason, entry.outcome)
    }

    pub(crate) async fn is_empty(&self) -> bool {
        let media = self.media.counts();
        let dialogs: usize = self.endpoints.iter().map(|endpoint| endpoint.counts().dialogs).sum();
        let live = Filter { live: Some(true), ..Filter::default() };
        let live = self.queue.count(&live).await.unwrap();
        (media.sessions, media.ports, dialogs, self.slots().await, live) == (0, 0, 0, 0, 0)
    }

    pub(crate) fn proxy_transactions(&self) -> usize {
        self.endpoints[0].counts().server_transactions
    }

    /// Waits until no call has left anything.
    pub(crate) async fn empty(&self) {
        self.until("no call has left anything", async || self.is_empty().await).await;
    }

    pub(crate) fn stop_proxy(&self) {
        self.stops[0].cancel();
    }

    pub(crate) fn stop_backend(&self) {
        self.stops[1].cancel();
    }

    /// Ends both tiers; nothing may be left.
    pub(crate) async fn close(self) {
        self.stops.iter().for_each(CancellationToken::cancel);
        for tier in self.tiers {
            tokio::time::timeout(PATIENCE, tier).await.expect("the tier returns").unwrap();
        }
        for endpoint in self.endpoints {
            assert_eq!(endpoint.counts(), iqra_sip::net::Counts::default());
        }
        let media = self.media.counts();
        assert_eq!((media.sessions, media.ports), (0, 0));
    }
}
