//! Both tiers in one process, and the demo that calls them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use iqra_media::conversation::{CallContext, ConversationFactory};
use iqra_media::net::{MediaConfig, MediaDriver, Overload};
use iqra_providers::ProviderClient;
use iqra_providers::client::PlaceCall;
use iqra_providers::lifecycle::CallState;
use iqra_providers::sip::{SipMedia, SipProvider};
use iqra_routing::backend::{Backend, Ended};
use iqra_routing::config::{BackendConfig, ProxyConfig};
use iqra_routing::proxy::Proxy;
use iqra_routing::start::{Trace, listeners_line};
use iqra_routing::stores::LiveStores;
use iqra_sip::net::Endpoint;
use iqra_sip::observe::TraceRecord;
use iqra_sip::observe::ladder::{self, Style, Traced};

use crate::counts::Counted;
use crate::demo::agent::{AgentNotes, DemoAgent};
use crate::demo::phone::{DemoPhone, PhoneNotes};
use crate::demo::report::DemoReport;

/// The number of the built-in configuration.
const NUMBER: &str = "+15550100";

/// Both tiers, bound and ready to serve.
pub struct Quickstart {
    proxy: Proxy,
    backend: Backend,
    counted: Counted,
}

/// What sees the SIP messages of the two tiers.
#[derive(Default)]
struct Traces {
    proxy: Option<Trace>,
    backend: Option<Trace>,
}

impl Quickstart {
    /// Binds both tiers: as the two files say, or on 127.0.0.1:5060 and :5080 with one number.
    ///
    /// # Errors
    /// What could not be read or bound, and what to do about it.
    pub async fn start(
        files: Option<(PathBuf, PathBuf)>,
        agent: impl ConversationFactory + 'static,
    ) -> anyhow::Result<Self> {
        let (proxy, backend) = match files {
            Some((proxy, backend)) => (ProxyConfig::load(proxy)?, BackendConfig::load(backend)?),
            None => built_in(5060, 5080)?,
        };
        Self::bind((proxy, backend), agent, Traces::default()).await
    }

    async fn bind(
        (proxy, backend): (ProxyConfig, BackendConfig),
        agent: impl ConversationFactory + 'static,
        traces: Traces,
    ) -> anyhow::Result<Self> {
        let stores = LiveStores::open(&proxy.store, proxy.queue).await?;
        let accounts = proxy.numbers.accounts();
        let backend = Backend::bind(backend, Some(stores.clone()), traces.backend, agent).await?;
        let proxy = Proxy::bind(proxy, Some(stores), traces.proxy).await?;
        let counted = Counted {
            endpoints: vec![proxy.endpoint().clone(), backend.endpoint().clone()],
            media: Some(backend.media().driver().clone()),
            admission: Some((proxy.admission().clone(), accounts)),
            ..Counted::default()
        };
        counted.on_signal()?;
        let backend = backend.on_end(counted.on_end());
        Ok(Self { proxy, backend, counted })
    }

    /// The line that says where both tiers listen.
    #[must_use]
    pub fn ready(&self) -> String {
        let proxy = listeners_line(self.proxy.endpoint().listeners());
        format!("ready: proxy {proxy} backend {}", listeners_line(self.backend.endpoint().listeners()))
    }

    /// How to call the number of the built-in configuration.
    #[must_use]
    pub fn how_to_call(&self) -> String {
        let at = self.proxy.endpoint().listeners().first().map(|listener| listener.addr.to_string());
        let uri = format!("sip:{NUMBER}@{}", at.unwrap_or_default());
        format!(
            "call {uri} from a softphone on this machine, for instance:\n  \
             baresip -e \"/dial {uri}\"\n  linphonec: call {uri}\nstop with Ctrl-C"
        )
    }

    /// Serves until `stop`, drains, and gives the line of counts. While the backend finishes, the proxy refuses.
    pub async fn serve_until(self, stop: impl Future<Output = ()>) -> String {
        let Self { proxy, backend, counted } = self;
        let admission = proxy.admission().clone();
        let (finished, wait) = tokio::sync::oneshot::channel::<()>();
        let proxy = tokio::spawn(proxy.serve_until(async {
            let _ = wait.await;
        }));
        backend
            .serve_until(async {
                stop.await;
                admission.drain();
            })
            .await;
        drop(finished);
        let _ = proxy.await;
        counted.line().await
    }
}

/// A configuration for loopback: one number that takes calls from this machine.
fn built_in(proxy_port: u16, backend_port: u16) -> anyhow::Result<(ProxyConfig, BackendConfig)> {
    let key: String = std::iter::repeat_with(fastrand::alphanumeric).take(48).collect();
    let proxy = format!(
        r#"
        [node]
        id = "proxy"
        [listen]
        udp = ["127.0.0.1:{proxy_port}"]
        tcp = ["127.0.0.1:{proxy_port}"]
        [tokens]
        keys = ["{key}"]
        [[accounts]]
        id = "quickstart"
        concurrent_calls = 10
        [[businesses]]
        id = "1"
        account = "quickstart"
        [[trunks]]
        id = "loopback"
        allowed_sources = ["127.0.0.0/8"]
        [[regions]]
        id = "local"
        [[numbers]]
        business = "1"
        id = "demo"
        dialled = "{NUMBER}"
        provider = "sip"
        region = "local"
        route = "demo"
        trunk = "loopback"
        "#
    );
    let backend = format!(
        r#"
        [backend]
        id = "backend"
        region = "local"
        capacity = 10
        [listen]
        udp = ["127.0.0.1:{backend_port}"]
        tcp = ["127.0.0.1:{backend_port}"]
        [tokens]
        keys = ["{key}"]
        [media.overload]
        refuse = false # a demonstration takes its calls however slow the machine is
        "#
    );
    Ok((ProxyConfig::parse("built-in proxy", &proxy)?, BackendConfig::parse("built-in backend", &backend)?))
}

/// Collects SIP messages.
#[derive(Clone, Default)]
struct Messages(Arc<Mutex<Vec<TraceRecord>>>);

impl Messages {
    fn trace(&self) -> Trace {
        let messages = self.0.clone();
        Arc::new(move |record| messages.lock().unwrap_or_else(PoisonError::into_inner).push(record.clone()))
    }

    fn taken(&self) -> Vec<TraceRecord> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The messages of one call with a rail per party.
fn ladder(call_id: &str, at_proxy: &[TraceRecord], at_backend: &[TraceRecord]) -> String {
    let tiers = [
        Traced { name: "proxy tier", records: at_proxy },
        Traced { name: "backend tier", records: at_backend },
    ];
    let style = Style { width: RAILS_APART, ..Style::default() };
    ladder::draw_several("phone", &tiers, call_id, style)
}

/// Three rails, their names and the times fit into 100 columns.
const RAILS_APART: usize = 40;

/// Places a call through both tiers and reports.
///
/// # Errors
/// When the tiers or the phone could not be started; a call that fails is in the report.
pub async fn demo(recording: PathBuf) -> anyhow::Result<DemoReport> {
    let (at_proxy, at_backend) = (Messages::default(), Messages::default());
    let traces = Traces { proxy: Some(at_proxy.trace()), backend: Some(at_backend.trace()) };
    let agent_notes = Arc::new(Mutex::new(AgentNotes::default()));
    let notes = agent_notes.clone();
    let agent = move |_: CallContext| {
        let agent = DemoAgent::new(notes.clone());
        async move { Ok(agent) }
    };
    let mut tiers = Quickstart::bind(built_in(0, 0)?, agent, traces).await?;
    let (reports, mut reported) = tokio::sync::mpsc::channel(1);
    tiers.backend = tiers.backend.on_end(Arc::new(move |over: &Ended| {
        let _ = reports.try_send(over.report.clone());
    }));
    let target = tiers.proxy.endpoint().listeners().first().context("the proxy has no listener")?.addr;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(tiers.serve_until(async {
        let _ = stopped.await;
    }));
    let called = call(&format!("sip:{NUMBER}@{target}"), recording.clone()).await?;
    let backend = tokio::time::timeout(REPORT_WAIT, reported.recv()).await.ok().flatten();
    drop(stop);
    serving.await.context("the tiers panicked")?;
    let agent = agent_notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(DemoReport {
        ladder: ladder(&called.call_id, &at_proxy.taken(), &at_backend.taken()),
        set_up: called.set_up,
        end: called.end,
        backend,
        phone: called.notes,
        agent,
        recording,
    })
}

/// How long the backend's report may take after the phone's.
const REPORT_WAIT: Duration = Duration::from_secs(7);

/// What the phone knows of its call.
struct Called {
    call_id: String,
    set_up: Option<Duration>,
    end: String,
    notes: PhoneNotes,
}

/// The phone: an endpoint of its own with media of its own.
async fn call(to: &str, recording: PathBuf) -> anyhow::Result<Called> {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let (endpoint, _incoming) = Endpoint::builder().udp((loopback, 0)).bind().await?;
    let overload = Overload { refuse: false, ..Overload::default() };
    let media = MediaConfig { ports: 30_000..=39_999, bind: loopback, overload, ..MediaConfig::default() };
    let media = MediaDriver::start(media)?;
    let phone = SipProvider::new(endpoint.clone(), SipMedia::new(media, loopback));
    let notes = Arc::new(Mutex::new(PhoneNotes::default()));
    let heard = notes.clone();
    let factory = move |_: CallContext| {
        let phone = DemoPhone::new(heard.clone());
        async move { Ok(phone) }
    };
    let mut request = PlaceCall::new(to, format!("sip:phone@{loopback}"), Arc::new(factory));
    request.max_duration = Duration::from_secs(60);
    request.recording = Some(recording);
    let began = Instant::now();
    let mut placed = phone.place(request).await?;
    let (mut set_up, mut end) = (None, String::from("lost"));
    while let Some(state) = placed.states.recv().await {
        match state {
            CallState::Answered => set_up = Some(began.elapsed()),
            CallState::Ended(cause) => end = cause.to_string(),
            _ => {}
        }
    }
    endpoint.shutdown(Duration::from_secs(1)).await;
    let notes = notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Called { call_id: placed.id.0.to_string(), set_up, end, notes })
}
