//! A proxy and a backend as two processes have it: nothing in common but a SQLite file and the token keys.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "helpers of a test, too, fail it by unwrapping")]

use std::sync::Arc;

use iqra_routing::admission::{Admission, Answer, Settings, Stores};
use iqra_routing::backends::{BackendState, BackendStatus, STATUS_LIFE};
use iqra_routing::config::{ProxyConfig, Store};
use iqra_routing::handover::claim::Claims;
use iqra_routing::handover::outcome::{EndedBy, Outcome};
use iqra_routing::identity::{Asked, CallerKey, Incarnation};
use iqra_routing::limits::LEASE_LIFE;
use iqra_routing::queue::{Holder, Node, QueueLimits};
use iqra_routing::select::LeastLoad;
use iqra_routing::stores::LiveStores;
use iqra_routing::time::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

const PROXY: &str = r#"
[node]
id = "p1"
[listen]
udp = ["127.0.0.1:0"]
[tokens]
keys = ["0123456789abcdef0123456789abcdef"]
[[accounts]]
id = "acme"
concurrent_calls = 1
[[businesses]]
id = "7"
account = "acme"
[[regions]]
id = "eu"
[[numbers]]
business = "7"
id = "desk"
dialled = "1000"
region = "eu"
route = "front"
allow_any_source = true
"#;

async fn proxy(store: &Store) -> Admission {
    let config = ProxyConfig::parse("proxy.toml", PROXY).unwrap();
    let tokens = config.token_keys.keys().unwrap();
    let LiveStores { queue, limits, backends, .. } = LiveStores::open(store, config.queue).await.unwrap();
    let stores = Stores { numbers: Arc::new(config.numbers), queue, limits, backends };
    let settings = Settings {
        node: Node { id: config.node, incarnation: Incarnation(1) },
        trusted_proxies: config.trusted_proxies,
        token_life: config.token_life,
        most_choices: config.most_choices,
    };
    Admission::new(stores, Arc::new(LeastLoad), config.regions, tokens, settings, 1)
}

async fn backend(store: &Store) -> Claims {
    let tokens = ProxyConfig::parse("proxy.toml", PROXY).unwrap().token_keys.keys().unwrap();
    let LiveStores { queue, limits, backends, .. } =
        LiveStores::open(store, QueueLimits::default()).await.unwrap();
    let me = Holder { backend: "b1".parse().unwrap(), incarnation: Incarnation(9) };
    let status = BackendStatus {
        id: me.backend.clone(),
        region: "eu".parse().unwrap(),
        incarnation: me.incarnation,
        sip_uris: ["sip:127.0.0.1:5080".to_owned()].into(),
        media_url: None,
        capacity: 5,
        calls: 0,
        cpu: 0.0,
        state: BackendState::Running,
        development: false,
    };
    backends.report(status, STATUS_LIFE, NOW).await.unwrap();
    Claims { queue, limits, tokens, me, region: "eu".parse().unwrap(), lease_life: LEASE_LIFE }
}

fn asked(call_id: &str) -> Asked<'_> {
    Asked {
        user: Some("1000"),
        uri_params: &[],
        uri_headers: &[],
        headers: &[],
        call_id,
        from_tag: "tag",
        cseq: 1,
        branch: "z9hG4bK1",
        peer: [127, 0, 0, 1].into(),
        via: &[],
    }
}

#[tokio::test]
async fn a_call_admitted_by_one_process_is_answered_and_freed_by_the_other() {
    let path = std::env::temp_dir().join(format!("iqra-two-processes-{}.db", std::process::id()));
    let store = Store::Sqlite(path.clone());
    let proxy = proxy(&store).await;
    let backend = backend(&store).await;
    let Answer::Offer(offer) = proxy.admit(&asked("one"), NOW).await else { panic!("the call is offered") };
    let caller = CallerKey::sip("one", "tag").unwrap();
    let claim = backend.claim(Some(&offer.choices[0].token), &caller, NOW).await.unwrap();
    backend.commit(&claim, NOW).await.unwrap();
    assert!(matches!(proxy.admit(&asked("two"), NOW).await, Answer::Reject(_)), "the only line is taken");
    let record = backend.finish(&claim, Outcome::Completed(EndedBy::Caller), NOW).await.unwrap();
    assert_eq!(record.id, offer.entry.id);
    assert!(matches!(proxy.admit(&asked("three"), NOW).await, Answer::Offer(_)), "and free again");
    for suffix in ["", "-wal", "-shm"] {
        let _gone = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
}
