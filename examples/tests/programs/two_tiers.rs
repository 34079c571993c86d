//! Proxy and backend as two processes that share a file, called from here.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use iqra_media::conversation::{AudioFormat, CallContext, ConversationSink, Formats, Heard, Line, SinkError};
use iqra_media::detect::goertzel::purity;
use iqra_media::net::{MediaConfig, MediaDriver, Overload};
use iqra_media::sdp::Negotiated;
use iqra_providers::ProviderClient;
use iqra_providers::client::PlaceCall;
use iqra_providers::lifecycle::{CallState, EndCause};
use iqra_providers::sip::{SipMedia, SipProvider};
use iqra_routing::config::Store;
use iqra_routing::queue::QueueLimits;
use iqra_routing::stores::LiveStores;
use iqra_routing::time::SystemClock;
use iqra_sip::net::Endpoint;

use super::process::{BACKEND, PROXY, Process, folder, tiers};

/// Hangs up as soon as it has heard the backend's steady tone.
struct Listener(Arc<AtomicBool>);

#[async_trait]
impl ConversationSink for Listener {
    fn formats(&self, _line: &Negotiated) -> Formats {
        Formats::both(AudioFormat::HZ_8000)
    }

    async fn converse(self: Box<Self>, mut line: Line) -> Result<(), SinkError> {
        while let Some(heard) = line.next().await {
            match heard {
                Heard::Audio(frame) if purity(&frame, 8_000, 440.0) > 0.9 => {
                    self.0.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(SinkError::new("the call ended before the tone was heard"))
    }
}

/// Where a program listens for UDP, from its line `ready: … udp:ADDRESS tcp:…`.
fn udp(ready: &str) -> String {
    let listener = ready.split_whitespace().find_map(|word| word.strip_prefix("udp:"));
    listener.unwrap_or_else(|| panic!("no UDP in {ready}")).to_owned()
}

/// Starts both; the backend has reported itself to the file.
async fn start(folder: &Path) -> (Process, Process, String) {
    let (proxy, backend) = tiers(folder, "sqlite:calls.db");
    let mut backend = Process::start(BACKEND, &["--config", &backend, "--agent", "tone"], folder);
    backend.line("ready: backend");
    let file = Store::Sqlite(folder.join("calls.db"));
    let stores = LiveStores::open(&file, QueueLimits::default()).await.unwrap();
    while stores.backends.list(None, SystemClock::start().now()).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let mut proxy = Process::start(PROXY, &["--config", &proxy], folder);
    let ready = proxy.line("ready: proxy");
    (proxy, backend, udp(&ready))
}

async fn phone() -> (SipProvider, Endpoint) {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let (endpoint, _incoming) = Endpoint::builder().udp((loopback, 0)).bind().await.unwrap();
    // The machine that tests may be as slow as it likes.
    let overload = Overload { refuse: false, ..Overload::default() };
    let media = MediaConfig { ports: 40_000..=49_999, bind: loopback, overload, ..MediaConfig::default() };
    let media = MediaDriver::start(media);
    (SipProvider::new(endpoint.clone(), SipMedia::new(media.unwrap(), loopback)), endpoint)
}

/// Calls, and gives the states that the call went through and whether the tone was heard.
async fn call(user: &str, at: &str) -> (Vec<CallState>, bool) {
    let (phone, endpoint) = phone().await;
    let heard = Arc::new(AtomicBool::new(false));
    let listener = heard.clone();
    let factory = move |_: CallContext| {
        let listener = Listener(listener.clone());
        async move { Ok(listener) }
    };
    let to = format!("sip:{user}@{at}");
    let mut placed = phone.place(PlaceCall::new(to, "sip:phone@127.0.0.1", Arc::new(factory))).await.unwrap();
    let mut states = Vec::new();
    while let Some(state) = placed.states.recv().await {
        states.push(state);
    }
    endpoint.shutdown(std::time::Duration::from_secs(1)).await;
    (states, heard.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_over_one_file_carry_a_call_and_hold_nothing_afterwards() {
    let folder = folder("two-tiers");
    let (proxy, backend, at) = start(&folder).await;

    let (states, heard) = call("100", &at).await;
    assert!(heard && states.contains(&CallState::Answered), "{states:?}");
    assert_eq!(states.last(), Some(&CallState::Ended(EndCause::AgentHungUp)), "{states:?}");
    let (states, heard) = call("200", &at).await;
    assert_eq!((states.last(), heard), (Some(&CallState::Ended(EndCause::Rejected(404))), false));

    let (code, counts) = backend.terminate();
    assert_eq!((code, counts.held(), counts.count("calls_total")), (Some(0), vec![], 1), "{counts:?}");
    let (code, counts) = proxy.terminate();
    assert_eq!((code, counts.held(), counts.count("entries_total")), (Some(0), vec![], 1), "{counts:?}");
}
