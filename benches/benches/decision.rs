//! How many calls a second one core decides: identity, source, rules, entry, slot, selection and tokens over the stores
//! in memory, which is all of a redirected INVITE but its parsing and printing; and the tokens by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use iqra_routing::admission::{Admission, Answer, Settings, Stores};
use iqra_routing::backends::FixedBackends;
use iqra_routing::config::ProxyConfig;
use iqra_routing::handover::token::{Purpose, Token, TokenKeys};
use iqra_routing::identity::{Asked, EntryId, Incarnation};
use iqra_routing::limits::MemoryLimits;
use iqra_routing::queue::{MemoryQueue, Node, QueueLimits};
use iqra_routing::select::{ByRegion, LeastLoad};
use iqra_routing::time::Timestamp;

fn main() {
    divan::main();
}

const START: Timestamp = Timestamp::from_millis(1_000_000_000_000);

/// One account with 1,000 numbers, ten backends.
fn config() -> ProxyConfig {
    let mut text = String::from(
        r#"[node]
id = "p1"
[listen]
udp = ["127.0.0.1:5060"]
[tokens]
keys = ["0123456789abcdef0123456789abcdef"]
[[accounts]]
id = "acme"
concurrent_calls = 4000000000
[[businesses]]
id = "7"
account = "acme"
[[trunks]]
id = "carrier"
allowed_sources = ["192.0.2.0/24", "198.51.100.7", "2001:db8::/32"]
[[regions]]
id = "eu"
"#,
    );
    for n in 0..1000 {
        text += &format!(
            "[[numbers]]\nbusiness = \"7\"\nid = \"n{n}\"\ndialled = \"{n}\"\nregion = \"eu\"\nroute = \"r\"\ntrunk = \"carrier\"\n"
        );
    }
    for n in 0..10 {
        text += &format!(
            "[[backends]]\nid = \"b{n}\"\nregion = \"eu\"\nsip_uris = [\"sip:192.0.2.{n}:5080\"]\ncapacity = 100\n"
        );
    }
    ProxyConfig::parse("bench", &text).expect("the bench's configuration is sound")
}

fn admission() -> Admission {
    let config = config();
    let tokens = config.token_keys.keys().expect("the keys are long enough");
    let limits = QueueLimits { live: 10_000_000, ..QueueLimits::default() };
    let stores = Stores {
        numbers: Arc::new(config.numbers),
        queue: Arc::new(MemoryQueue::new(limits)),
        limits: Arc::new(MemoryLimits::default()),
        backends: Arc::new(FixedBackends::new(config.backends)),
    };
    let settings = Settings {
        node: Node { id: config.node, incarnation: Incarnation(1) },
        trusted_proxies: config.trusted_proxies,
        token_life: config.token_life,
        most_choices: config.most_choices,
    };
    Admission::new(stores, Arc::new(ByRegion(LeastLoad)), config.regions, tokens, settings, 1)
}

/// A new call each time; every fourth one is for another number.
#[divan::bench(sample_count = 50, sample_size = 500)]
fn admit_new_calls(bencher: Bencher<'_, '_>) {
    let admission = admission();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    let next = AtomicU64::new(0);
    bencher.counter(ItemsCount::new(1u32)).bench(|| {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let (call_id, phone) = (format!("{n}@caller.example"), format!("n{}", n / 4 % 1000));
        let asked = Asked {
            user: Some("1000"),
            uri_params: &[("X-Business-Id", "7"), ("X-Phone-Id", &phone)],
            uri_headers: &[],
            headers: &[],
            call_id: &call_id,
            from_tag: "1928301774",
            cseq: 1,
            branch: "z9hG4bK776asdhds",
            peer: [192, 0, 2, 1].into(),
            via: &[],
        };
        let answer = runtime.block_on(admission.admit(&asked, START + Duration::from_micros(100 * n)));
        assert!(matches!(answer, Answer::Offer(_)));
    });
}

/// A source that no list has: the cheapest refusal, as under a scan.
#[divan::bench]
fn refuse_an_unlisted_source(bencher: Bencher<'_, '_>) {
    let admission = admission();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    bencher.counter(ItemsCount::new(1u32)).bench(|| {
        let asked = Asked {
            user: Some("1000"),
            uri_params: &[],
            uri_headers: &[],
            headers: &[],
            call_id: "scan",
            from_tag: "",
            cseq: 1,
            branch: "z9hG4bK1",
            peer: [203, 0, 113, 1].into(),
            via: &[],
        };
        runtime.block_on(admission.admit(&asked, START))
    });
}

fn token() -> Token {
    Token {
        entry: EntryId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        attempt: 1,
        region: "eu".parse().expect("an id"),
        server: "backend-1".parse().expect("an id"),
        expires: START + Duration::from_secs(30),
        purpose: Purpose::Start,
    }
}

#[divan::bench]
fn sign_a_token(bencher: Bencher<'_, '_>) {
    let (keys, token) = (TokenKeys::new([[7; 32]]).expect("a key"), token());
    bencher.counter(ItemsCount::new(1u32)).bench(|| keys.sign(divan::black_box(&token)));
}

#[divan::bench]
fn verify_a_token(bencher: Bencher<'_, '_>) {
    let keys = TokenKeys::new([[7; 32]]).expect("a key");
    let text = keys.sign(&token());
    bencher.counter(ItemsCount::new(1u32)).bench(|| keys.verify(divan::black_box(&text), START));
}
