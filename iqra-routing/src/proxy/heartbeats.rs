//! Which backends report, looked at once for all calls that are being relayed.
//!
//! In: the registry's list, at regular intervals. Out: whoever waits for it hears that a backend's reports have expired.
//! After the registry did not answer, silence says nothing until every backend has had the time to report again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::backends::{BackendRegistry, BackendStatus, STATUS_LIFE};
use crate::time::{SystemClock, Timestamp};

/// What the registry said last.
#[derive(Default)]
struct Look {
    /// When it was asked.
    at: Timestamp,
    reporting: Vec<Arc<BackendStatus>>,
}

/// The looks at the registry.
pub(super) struct Heartbeats(watch::Sender<Look>);

impl Heartbeats {
    pub(super) fn new() -> Self {
        Self(watch::Sender::default())
    }

    /// Looks every `every`, for as long as it is polled.
    pub(super) async fn keep_looking(
        &self,
        registry: &dyn BackendRegistry,
        clock: SystemClock,
        every: Duration,
    ) {
        let mut look = tokio::time::interval(every);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut gap: Option<Timestamp> = None;
        loop {
            look.tick().await;
            let at = clock.now();
            match registry.list(None, at).await {
                Err(_) => gap = Some(clock.now()),
                Ok(_) if gap.is_some_and(|gap| at.since(gap) < STATUS_LIFE) => {}
                Ok(reporting) => drop(self.0.send_replace(Look { at, reporting })),
            }
        }
    }

    /// Resolves when a backend that was chosen at `since` does not report any more, or has started anew.
    pub(super) async fn lost(&self, backend: &BackendStatus, since: Timestamp) {
        let mut looks = self.0.subscribe();
        let is_same =
            |other: &Arc<BackendStatus>| (&other.id, other.incarnation) == (&backend.id, backend.incarnation);
        let is_gone = |look: &Look| look.at > since && !look.reporting.iter().any(is_same);
        if looks.wait_for(is_gone).await.is_err() {
            std::future::pending::<()>().await; // nobody looks any more
        }
    }
}
