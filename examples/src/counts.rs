//! What a program holds at a moment, as a line of `name=number` words: printed on SIGUSR1 and at the end, so that a
//! leaked call, slot, port, task or entry shows.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use iqra_media::net::MediaDriver;
use iqra_routing::admission::Admission;
use iqra_routing::backend::OnEnd;
use iqra_routing::identity::AccountId;
use iqra_routing::queue::Filter;
use iqra_routing::time::SystemClock;
use iqra_sip::net::Endpoint;

/// The parts of a program that are counted; what it does not have stays empty.
#[derive(Clone, Default)]
pub struct Counted {
    /// Its SIP endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Its media threads.
    pub media: Option<MediaDriver>,
    /// Its proxy tier, with the accounts whose slots are counted.
    pub admission: Option<(Arc<Admission>, Vec<AccountId>)>,
    /// Calls that were answered and are over.
    pub ended: Arc<AtomicU64>,
}

impl Counted {
    /// The counts of one endpoint, to add to.
    #[must_use]
    pub fn of_endpoint(endpoint: &Endpoint) -> Self {
        Self { endpoints: vec![endpoint.clone()], ..Self::default() }
    }

    /// Counts the calls that are over.
    #[must_use]
    pub fn on_end(&self) -> OnEnd {
        let ended = self.ended.clone();
        Arc::new(move |_| {
            ended.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// `counts: calls=0 …`
    pub async fn line(&self) -> String {
        let mut line = String::from("counts:");
        let mut word = |name: &str, count: usize| {
            let _ = write!(line, " {name}={count}");
        };
        let sip: Vec<_> = self.endpoints.iter().map(Endpoint::counts).collect();
        word("transactions", sip.iter().map(|c| c.server_transactions + c.client_transactions).sum());
        word("dialogs", sip.iter().map(|c| c.dialogs).sum());
        word("connections", sip.iter().map(|c| c.connections).sum());
        if let Some(media) = &self.media {
            let counts = media.counts();
            word("calls", counts.sessions);
            word("media_sessions", counts.sessions);
            word("ports", counts.ports);
            word("media_refused", usize::try_from(counts.refused).unwrap_or(usize::MAX));
            word("media_busy_percent", (media.load().busy * 100.0).round() as usize);
            let ended = usize::try_from(self.ended.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
            word("calls_total", ended + counts.sessions);
        }
        if let Some((admission, accounts)) = &self.admission {
            let live = Filter { live: Some(true), ..Filter::default() };
            word("entries_live", admission.queue.count(&live).await.unwrap_or(usize::MAX));
            word("entries_total", admission.queue.count(&Filter::default()).await.unwrap_or(usize::MAX));
            let now = SystemClock::start().now();
            let mut slots = 0;
            for account in accounts {
                slots += admission.limits.used(account, now).await.unwrap_or(u32::MAX) as usize;
            }
            word("slots", slots);
        }
        word("tasks", tokio::runtime::Handle::current().metrics().num_alive_tasks());
        line
    }

    /// Prints the line whenever SIGUSR1 comes, for as long as the program runs.
    ///
    /// # Errors
    /// When the handler cannot be installed.
    pub fn on_signal(&self) -> anyhow::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut asked = signal(SignalKind::user_defined1())?;
        let counted = self.clone();
        tokio::spawn(async move {
            while asked.recv().await.is_some() {
                crate::say(&counted.line().await);
            }
        });
        Ok(())
    }
}
