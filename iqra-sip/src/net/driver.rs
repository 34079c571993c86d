//! The tasks of an endpoint: the timers, and one reader for each socket.

use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use super::tcp::Acceptor;
use super::{tcp, udp};

/// What the timer task sleeps when no timer runs.
const IDLE: Duration = Duration::from_secs(3_600);

/// Starts every task but those of connections.
pub(super) fn start(shared: &Arc<Shared>, listeners: Vec<Acceptor>) {
    shared.tasks.spawn(run_timers(shared.clone()));
    for index in 0..shared.udp.len() {
        shared.tasks.spawn(udp::receive(shared.clone(), index));
    }
    for listener in listeners {
        shared.tasks.spawn(tcp::accept(shared.clone(), listener));
    }
}

/// Wakes the engine at its deadlines.
async fn run_timers(shared: Arc<Shared>) {
    loop {
        let sleep = match shared.arm() {
            Some(deadline) => tokio::time::sleep_until(deadline.into()),
            None => tokio::time::sleep(IDLE),
        };
        tokio::select! {
            () = sleep => shared.enter(|core, now| core.engine.handle_timeout(now)),
            () = shared.wake.notified() => {}
            () = shared.stop.cancelled() => break,
        }
    }
}
