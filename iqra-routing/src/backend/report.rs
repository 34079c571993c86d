//! What a backend tells the proxies of itself, and who still waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Gate, Shared};
use crate::backends::{BackendRegistry, BackendState, BackendStatus, REPORT_EVERY, Report, STATUS_LIFE};
use crate::queue::{Entry, Filter, MAX_PAGE, Page, State};

/// How far the clock of the proxy that made an offer may be behind this one, for a drain: longer costs only waiting.
const CLOCKS_APART: Duration = Duration::from_millis(100);

/// What of a backend's status does not change while it runs.
#[derive(Clone)]
pub struct Identity {
    /// Where it reports.
    pub registry: Arc<dyn BackendRegistry>,
    /// Where callers reach it, best first, for instance `sip:192.0.2.10:5080;transport=udp`.
    pub sip_uris: Arc<[String]>,
    /// Whether only administrators' calls may go there.
    pub development: bool,
}

impl Shared {
    /// Reports every [`REPORT_EVERY`] and whenever the number of calls changed.
    pub(super) async fn keep_reporting(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(REPORT_EVERY) => {}
                () = self.changed.notified() => {}
            }
            self.report().await;
        }
    }

    pub(super) async fn report(&self) {
        let Gate::Claims(gate) = &self.gate else { return };
        let (claims, identity) = &**gate;
        let state = if self.draining.is_cancelled() { BackendState::Draining } else { BackendState::Running };
        let status = BackendStatus {
            id: claims.me.backend.clone(),
            region: claims.region.clone(),
            incarnation: claims.me.incarnation,
            sip_uris: identity.sip_uris.clone(),
            media_url: None,
            capacity: self.settings.capacity,
            calls: u32::try_from(self.calls.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
            cpu: self.busy(),
            state,
            development: identity.development,
        };
        match identity.registry.report(status, STATUS_LIFE, self.clock.now()).await {
            Ok(Report::Taken) => {}
            Ok(Report::Superseded) => {
                tracing::warn!(
                    "another process reports as backend {}; give each its own id",
                    claims.me.backend
                );
            }
            Ok(Report::Full) => tracing::warn!("the registry is full: no proxy will choose this backend"),
            Err(error) => tracing::warn!(%error, "status not reported; tried again in {REPORT_EVERY:?}"),
        }
    }

    /// How busy the busiest media thread is; all of it where no further calls are taken, so that proxies choose others.
    fn busy(&self) -> f32 {
        let load = self.media.driver().load();
        if load.overloaded { 1.0 } else { load.busy }
    }

    pub(super) async fn withdraw(&self) {
        let Gate::Claims(gate) = &self.gate else { return };
        let (claims, identity) = &**gate;
        let (me, now) = (&claims.me, self.clock.now());
        if let Err(error) = identity.registry.withdraw(&me.backend, me.incarnation, now).await {
            tracing::warn!(%error, "status not withdrawn; it expires in {STATUS_LIFE:?}");
        }
    }

    /// Whether a caller may be under way with an offer that names this backend. A store that is away says yes: the
    /// drain limit bounds the wait. So does a page that is full.
    pub(super) async fn is_awaited(&self) -> bool {
        let Gate::Claims(gate) = &self.gate else { return false };
        let claims = &gate.0;
        let filter = Filter { state: Some(State::ProcessedProxy), live: Some(true), ..Filter::default() };
        let page = Page { before: None, most: MAX_PAGE };
        let now = self.clock.now();
        let me = &claims.me.backend;
        let awaits = |entry: &Entry| {
            entry.offered_until + CLOCKS_APART >= now
                && entry.offered.contains(me)
                && !entry.tried.contains(me)
        };
        match claims.queue.list(&filter, page).await {
            Ok(entries) => entries.len() == MAX_PAGE || entries.iter().any(|entry| awaits(entry)),
            Err(_) => true,
        }
    }
}
