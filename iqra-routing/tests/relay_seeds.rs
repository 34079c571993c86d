//! Relayed calls in many orders on a virtual clock, without SIP: a caller, a proxy, three backends and the store, whose
//! steps a seed puts in order. Whatever the order, one backend at most commits, none that was given up and none after the
//! caller was refused, and nothing is left when all have ended.

#![allow(clippy::unwrap_used, reason = "helpers of a test, too, fail it by unwrapping")]

use std::sync::Arc;
use std::time::Duration;

use iqra_routing::admission::{Admission, Answer, Relaying, Settings, Stores};
use iqra_routing::backends::{BackendRegistry, BackendState, BackendStatus, MemoryBackends};
use iqra_routing::handover::claim::{Claim, Claims};
use iqra_routing::handover::outcome::{EndedBy, Outcome, sweep};
use iqra_routing::handover::relay::{Act, News, Stage, after_end, after_next, step};
use iqra_routing::handover::token::TokenKeys;
use iqra_routing::identity::{Asked, CallerKey, Incarnation};
use iqra_routing::limits::{LEASE_LIFE, MemoryLimits, PlanLimits};
use iqra_routing::number::{Account, Business, HandOver, MemoryNumbers, Number, Provider};
use iqra_routing::queue::{CallQueue, Filter, Holder, MemoryQueue, Node, Page, State};
use iqra_routing::reason::Reason;
use iqra_routing::select::{LeastLoad, Region, Regions};
use iqra_routing::source::SourceList;
use iqra_routing::time::Timestamp;

const START: Timestamp = Timestamp::from_millis(1_000_000);
const SEEDS: u64 = 2_000;

/// A backend that was asked.
struct Backend {
    claims: Claims,
    token: String,
    at: At,
}

/// How far it is.
enum At {
    Asked,
    Claimed(Claim),
    Committed(Claim),
    Done,
}

/// What the caller has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    Answer,
    Refusal,
}

struct World {
    rng: fastrand::Rng,
    now: Timestamp,
    queue: Arc<MemoryQueue>,
    limits: Arc<MemoryLimits>,
    admission: Admission,
    call: Relaying,
    stage: Stage,
    heard: Heard,
    asked: Vec<Backend>,
    commits: usize,
    cancelled: bool,
}

fn numbers() -> MemoryNumbers {
    let numbers = MemoryNumbers::default();
    numbers.set_account(Account {
        id: "acme".parse().unwrap(),
        active: true,
        concurrent_calls: 1,
        minutes_left: None,
        admin: false,
    });
    numbers.set_business(Business {
        id: "7".parse().unwrap(),
        account: "acme".parse().unwrap(),
        active: true,
    });
    let number = Number {
        business: "7".parse().unwrap(),
        phone: "desk".parse().unwrap(),
        dialled: "1000".to_owned().try_into().unwrap(),
        provider: Provider::Sip,
        region: "eu".parse().unwrap(),
        route: Some("front".parse().unwrap()),
        voice: true,
        trunk: None,
        allowed_sources: None,
        allow_any_source: true,
        codecs: [].into(),
        answer_delay: Duration::ZERO,
        max_duration: None,
        hand_over: Some(HandOver::Relay),
    };
    numbers.set_number(number).unwrap();
    numbers
}

fn keys() -> TokenKeys {
    TokenKeys::new([[7; 32]]).unwrap()
}

async fn report(backends: &MemoryBackends, id: &str) {
    let status = BackendStatus {
        id: id.parse().unwrap(),
        region: "eu".parse().unwrap(),
        incarnation: Incarnation(1),
        sip_uris: [format!("sip:{id}.example")].into(),
        media_url: None,
        capacity: 5,
        calls: 0,
        cpu: 0.0,
        state: BackendState::Running,
        development: false,
    };
    backends.report(status, Duration::from_secs(600), START).await.unwrap();
}

const CALL: Asked<'_> = Asked {
    user: Some("1000"),
    uri_params: &[],
    uri_headers: &[],
    headers: &[],
    call_id: "call",
    from_tag: "tag",
    cseq: 1,
    branch: "z9hG4bK1",
    peer: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    via: &[],
};

impl World {
    async fn new(seed: u64) -> Self {
        let (queue, limits) = (Arc::<MemoryQueue>::default(), Arc::<MemoryLimits>::default());
        let backends = Arc::<MemoryBackends>::default();
        for id in ["b1", "b2", "b3"] {
            report(&backends, id).await;
        }
        let numbers = Arc::new(numbers());
        let stores = Stores { numbers, queue: queue.clone(), limits: limits.clone(), backends };
        let settings = Settings {
            node: Node { id: "p1".parse().unwrap(), incarnation: Incarnation(1) },
            trusted_proxies: SourceList::default(),
            token_life: Duration::from_secs(30),
            most_choices: 3,
        };
        let regions = Regions::new([("eu".parse().unwrap(), Region { enabled: true, fallback: Vec::new() })]);
        let admission = Admission::new(stores, Arc::new(LeastLoad), regions, keys(), settings, seed);
        let Answer::Relay(call) = admission.admit(&CALL, START).await else { panic!("the call is relayed") };
        let mut world = Self {
            rng: fastrand::Rng::with_seed(seed),
            now: START,
            queue,
            limits,
            admission,
            call: *call,
            stage: Stage::Asking,
            heard: Heard::Nothing,
            asked: Vec::new(),
            commits: 0,
            cancelled: false,
        };
        world.ask();
        world
    }

    /// The INVITE goes to the backend that the call names.
    fn ask(&mut self) {
        let claims = Claims {
            queue: self.queue.clone(),
            limits: self.limits.clone(),
            tokens: keys(),
            me: Holder { backend: self.call.choice.backend.id.clone(), incarnation: Incarnation(1) },
            region: "eu".parse().unwrap(),
            lease_life: LEASE_LIFE,
        };
        self.asked.push(Backend { claims, token: self.call.choice.token.clone(), at: At::Asked });
    }

    /// The proxy hears something of the call, as its service carries it out.
    async fn proxy(&mut self, news: News) {
        let (stage, mut act) = step(self.stage, news);
        self.stage = stage;
        loop {
            (self.stage, act) = match act {
                Act::Next => {
                    let next = self.admission.next_backend(&mut self.call, self.now).await;
                    if next.is_ok() {
                        self.ask();
                    }
                    after_next(next)
                }
                Act::End(reason) => {
                    after_end(reason, self.admission.end_relayed(&self.call, reason, self.now).await)
                }
                Act::Refuse(_) => return self.hear(Heard::Refusal),
                Act::Finish(status) => {
                    self.hear(Heard::Refusal);
                    return self.admission.refused(&self.call, status, self.now).await;
                }
                Act::Done => return self.hear(Heard::Answer),
                Act::Wait => return,
            };
        }
    }

    fn hear(&mut self, heard: Heard) {
        assert_eq!(self.heard, Heard::Nothing, "one final response");
        self.heard = heard;
    }

    /// One step of a backend. What it sends reaches the proxy only from the one that is asked now, but for a 2xx.
    async fn backend(&mut self, which: usize) {
        let current = which + 1 == self.asked.len() && self.heard == Heard::Nothing;
        let (now, turn) = (self.now, self.rng.u8(..10));
        let Backend { claims, token, at } = &mut self.asked[which];
        let (claims, token, at) = (claims.clone(), token.clone(), std::mem::replace(at, At::Done));
        let caller = CallerKey::sip("call", "tag").unwrap();
        let mut news = None;
        let next = match at {
            At::Asked => match claims.claim(Some(&token), &caller, now).await {
                Ok(claim) => At::Claimed(claim),
                Err(_) => At::Done,
            },
            At::Claimed(claim) if turn == 0 => {
                let _ = claims.release(&claim, 503, Reason::BackendFull, now).await;
                news = match self.stage {
                    Stage::Asking => Some(News::Failed),
                    _ => Some(News::Refused(503)),
                };
                At::Done
            }
            At::Claimed(claim) if turn < 3 && self.stage == Stage::Asking => {
                news = Some(News::Rang);
                At::Claimed(claim)
            }
            At::Claimed(claim) if turn < 4 => {
                let _ = claims.renew(&claim, now).await;
                At::Claimed(claim)
            }
            At::Claimed(claim) => match claims.commit(&claim, now).await {
                Ok(()) => {
                    assert_ne!(self.heard, Heard::Refusal, "no commit after the caller was refused");
                    assert_eq!(which + 1, self.asked.len(), "no commit of a backend that was given up");
                    self.commits += 1;
                    At::Committed(claim)
                }
                Err(_) => {
                    let _ = claims.cancelled(&claim, now).await; // the CANCEL reaches it
                    At::Done
                }
            },
            At::Committed(claim) => {
                if self.heard == Heard::Nothing {
                    self.proxy(News::Answered).await; // its 2xx goes through whatever was before
                }
                self.finish(which, &claim).await;
                return;
            }
            At::Done => At::Done,
        };
        self.asked[which].at = next;
        if let Some(news) = news.filter(|_| current) {
            self.proxy(news).await;
        }
    }

    async fn finish(&mut self, which: usize, claim: &Claim) {
        let outcome = Outcome::Completed(EndedBy::Caller);
        self.asked[which].claims.finish(claim, outcome, self.now).await.unwrap();
    }

    /// One step of somebody.
    async fn turn(&mut self) {
        self.now = self.now + Duration::from_millis(self.rng.u64(1..1_500));
        match self.rng.u8(..10) {
            0 if self.heard == Heard::Nothing && self.stage == Stage::Asking => {
                self.proxy(News::Failed).await;
            }
            1 if self.heard == Heard::Nothing && !self.cancelled => {
                self.cancelled = true;
                self.proxy(News::Cancelled).await;
            }
            2 if self.heard == Heard::Nothing && self.rng.u8(..4) == 0 => {
                self.proxy(News::Lost).await;
            }
            _ => {
                let which = self.rng.usize(..self.asked.len());
                self.backend(which).await;
            }
        }
        assert!(self.commits <= 1, "one commit");
        let used = self.limits.used(&"acme".parse().unwrap(), self.now).await.unwrap();
        assert!(used <= 1, "one slot");
    }

    async fn is_over(&self) -> bool {
        self.heard != Heard::Nothing && self.asked.iter().all(|backend| matches!(backend.at, At::Done))
    }

    async fn check_the_end(&self) {
        let entries = self.queue.list(&Filter::default(), Page::default()).await.unwrap();
        let entry = &entries[0];
        assert_eq!((entries.len(), entry.is_live()), (1, false), "{entry:?}");
        match self.commits {
            0 => assert!(entry.state.is_final() && self.heard == Heard::Refusal, "{entry:?}"),
            _ => assert_eq!(entry.state, State::ProcessedBackend),
        }
        let used = self.limits.used(&"acme".parse().unwrap(), self.now).await.unwrap();
        assert_eq!(used, 0, "no slot is left: {entry:?}");
    }
}

#[tokio::test]
async fn whatever_the_order_one_backend_at_most_answers_and_nothing_is_left() {
    let mut seen = [0; 3];
    for seed in 0..SEEDS {
        let mut world = World::new(seed).await;
        let mut turns = 0;
        while !world.is_over().await {
            world.turn().await;
            turns += 1;
            assert!(turns < 2_000, "seed {seed} does not end: {:?} {:?}", world.stage, world.call.entry);
        }
        sweep(&*world.queue, &*world.limits, world.now).await.unwrap();
        world.check_the_end().await;
        seen[0] += world.commits;
        seen[1] += usize::from(world.asked.len() > 1);
        seen[2] += usize::from(world.cancelled);
    }
    assert!(seen.iter().all(|&often| often > 100), "commits, second backends, cancels: {seen:?}");
}
