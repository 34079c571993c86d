//! The tasks of an endpoint: the timers, and one reader for each socket.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::shards::{self, ShardId};
use super::shared::Shared;
use super::tcp::Acceptor;
use super::{tcp, udp};

/// What the timer task sleeps when no timer runs.
const IDLE: Duration = Duration::from_secs(3_600);

/// How long the timer task rests after a round. Where calls come densely each has a deadline of its own, and a wake-up for
/// every one of them would cost as much as their messages; a timer that stands alone is on time.
const ROUND: Duration = Duration::from_millis(10);

/// Starts every task but those of connections.
pub(super) fn start(shared: &Arc<Shared>, listeners: Vec<Acceptor>) {
    for id in shared.ids() {
        shared.tasks.spawn(run_timers(shared.clone(), id));
        if shared.spread.count() > 1 {
            shared.tasks.spawn(shards::work(shared.clone(), id));
        }
        for index in 0..shared.shard(id).udp.len() {
            shared.tasks.spawn(udp::receive(shared.clone(), id, index));
        }
    }
    for listener in listeners {
        shared.tasks.spawn(tcp::accept(shared.clone(), listener));
    }
}

/// Wakes the engine at its deadlines.
async fn run_timers(shared: Arc<Shared>, id: ShardId) {
    let mut rested = Instant::now();
    loop {
        let deadline = shared.arm(id).map_or_else(|| Instant::now() + IDLE, Instant::from);
        tokio::select! {
            () = sleep_until(deadline.max(rested)) => {
                shared.enter(id, |core, now| core.engine.handle_timeout(now));
                rested = Instant::now() + ROUND;
            }
            () = shared.shard(id).wake.notified() => {}
            () = shared.stop.cancelled() => break,
        }
    }
}
