//! Decides a call over stores in memory, and asks why calls that are not made would be refused.
//!
//! Run: `cargo run -p iqra-routing --example explain`. Expected:
//! ```text
//! 100 from the carrier: admitted, go to ["sip:198.51.100.1:5080"] with a token each
//! 100 from the carrier: would pass 15 rules
//! 100 from elsewhere: source_not_allowed by the rule "the source is in some list, or the number takes any source"
//!     add the address to the number's allowed_sources or its trunk's, or list the proxy in front in trusted_proxies
//! 200 from the carrier: business_inactive by the rule "the business is active"
//!     set active = true on the business
//! business 7, phone id sales: number_unknown by the rule "the number exists"
//!     check X-Phone-Id or the dialled number, and that the number names the trunk it comes from
//! ```
#![allow(clippy::print_stdout)] // What it prints is what it is for.

use std::net::IpAddr;
use std::sync::Arc;

use iqra_routing::admission::{Admission, Answer, Settings, Stores};
use iqra_routing::backends::FixedBackends;
use iqra_routing::config::ProxyConfig;
use iqra_routing::identity::{Asked, Incarnation, Named};
use iqra_routing::limits::MemoryLimits;
use iqra_routing::queue::{MemoryQueue, Node};
use iqra_routing::select::RoundRobin;
use iqra_routing::time::SystemClock;

const CONFIG: &str = r#"
    node = { id = "proxy" }
    listen = { udp = ["127.0.0.1:5060"] }
    tokens = { keys = ["a key for this example, not for use"] }
    regions = [{ id = "eu" }]
    accounts = [{ id = "acme", concurrent_calls = 2 }]
    businesses = [{ id = "7", account = "acme" }, { id = "8", account = "acme", active = false }]
    trunks = [{ id = "carrier", allowed_sources = ["192.0.2.0/24"] }]
    numbers = [
        { business = "7", id = "desk", dialled = "100", region = "eu", route = "front", trunk = "carrier" },
        { business = "8", id = "shop", dialled = "200", region = "eu", route = "front", trunk = "carrier" },
    ]
    backends = [{ id = "b1", region = "eu", capacity = 10, sip_uris = ["sip:198.51.100.1:5080"] }]
"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let admission = admission(ProxyConfig::parse("the example's configuration", CONFIG)?)?;
    let now = SystemClock::start().now();

    // By the dialled number, from the carrier: admitted, and on record from here on.
    match admission.admit(&asked("100", &[], [192, 0, 2, 7].into()), now).await {
        Answer::Offer(offer) => {
            let uris: Vec<_> = offer.choices.iter().flat_map(|choice| &*choice.backend.sip_uris).collect();
            println!("100 from the carrier: admitted, go to {uris:?} with a token each");
        }
        other => println!("100 from the carrier: {other:?}"),
    }

    // The same rules without a call: which one decides, and what to do about it.
    let named: &[Named<'_>] = &[("X-Business-Id", "7"), ("X-Phone-Id", "sales")];
    let calls = [
        ("100 from the carrier", asked("100", &[], [192, 0, 2, 8].into())),
        ("100 from elsewhere", asked("100", &[], [203, 0, 113, 9].into())),
        ("200 from the carrier", asked("200", &[], [192, 0, 2, 7].into())),
        ("business 7, phone id sales", asked("anything", named, [192, 0, 2, 7].into())),
    ];
    for (call, asked) in calls {
        let told =
            admission.explain(&asked, now).await.map_err(|rejection| rejection.warning().to_string())?;
        match told.refused {
            None => println!("{call}: would pass {} rules", told.passed.len()),
            Some((rule, rejection)) => {
                let row = rejection.reason.row();
                println!("{call}: {} by the rule \"{rule}\"\n    {}", row.label, row.fix);
            }
        }
    }
    Ok(())
}

/// The proxy's part of a call over stores in memory; a program of two tiers shares them or names a file.
fn admission(config: ProxyConfig) -> Result<Admission, Box<dyn std::error::Error>> {
    let stores = Stores {
        numbers: Arc::new(config.numbers),
        queue: Arc::new(MemoryQueue::new(config.queue)),
        limits: Arc::new(MemoryLimits::default()),
        backends: Arc::new(FixedBackends::new(config.backends)),
    };
    let settings = Settings {
        node: Node { id: config.node, incarnation: Incarnation(1) },
        trusted_proxies: config.trusted_proxies,
        token_life: config.token_life,
        most_choices: config.most_choices,
    };
    let selector = Arc::new(RoundRobin::default());
    Ok(Admission::new(stores, selector, config.regions, config.token_keys.keys()?, settings, 1))
}

/// What an INVITE asks, as whoever speaks SIP reads it.
fn asked<'a>(user: &'a str, uri_params: &'a [Named<'a>], peer: IpAddr) -> Asked<'a> {
    Asked {
        user: Some(user),
        uri_params,
        uri_headers: &[],
        headers: &[],
        call_id: "c1@pbx.example",
        from_tag: "ab",
        cseq: 1,
        branch: "z9hG4bKa1",
        peer,
        via: &[],
    }
}
