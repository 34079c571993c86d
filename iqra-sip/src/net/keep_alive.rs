//! Keeps the way to a server open, and notices when it is gone (RFC 5626 §4.4): a ping of two line breaks on
//! connections, a STUN request on UDP, each answered in time or the flow has failed.
//!
//! [`Pinger`] decides, knowing neither socket nor clock; [`KeepAlive`] is a task that lends it both.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::shards::ShardId;
use super::shared::{Shared, now};
use super::stream::PING;
use super::stun::{self, TransactionId};
use super::udp;
use crate::engine::flow::{ConnectionId, Flow, Transmit, Transport};
use crate::engine::random::Random;

/// How long a pong may take (RFC 5626 §4.4.1).
const PONG_WAIT: Duration = Duration::from_secs(10);
/// The first wait for a STUN response, doubled with each repeat (RFC 5389 §7.2.1).
const STUN_WAIT: Duration = Duration::from_millis(500);
/// How often a STUN request is sent before the flow has failed.
const STUN_TRIES: u32 = 7;
/// What the last one waits for, in units of [`STUN_WAIT`].
const STUN_LAST: u32 = 16;

/// Sends keep-alives along a flow until it is dropped.
#[derive(Debug)]
pub struct KeepAlive {
    failed: oneshot::Receiver<()>,
    every: watch::Sender<Duration>,
    _stop: DropGuard,
}

impl KeepAlive {
    /// Starts to send them, at most `every` apart.
    pub(super) fn start(shared: &Arc<Shared>, flow: Flow, every: Duration, random: Random) -> Self {
        let (fail, failed) = oneshot::channel();
        let stop = shared.stop.child_token();
        let bound = udp::as_bound(shared.shard(ShardId(0)), flow);
        let (pinger, heard) =
            (Pinger::new(flow.transport, every, now(), random), shared.keepers.enter(&bound));
        let (every, asked) = watch::channel(every);
        shared.tasks.spawn(keep(shared.clone(), flow, pinger, heard, asked, fail, stop.clone()));
        Self { failed, every, _stop: stop.drop_guard() }
    }

    /// Sends them at most `every` apart from now on, counted from the last sign of life: what the newest Flow-Timer of the
    /// server allows (RFC 5626 §4.4).
    pub fn set_interval(&self, every: Duration) {
        self.every.send_replace(every);
    }

    /// Returns when the flow has failed: nobody answered, the connection is gone, or a NAT now gives us another address.
    /// The connection is then closed; what used the flow registers anew (RFC 5626 §4.2.2). Never returns after the
    /// endpoint was shut down. Cancel-safe.
    pub async fn failed(&mut self) {
        if (&mut self.failed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn keep(
    shared: Arc<Shared>,
    flow: Flow,
    mut pinger: Pinger,
    mut heard: mpsc::Receiver<Heard>,
    mut asked: watch::Receiver<Duration>,
    fail: oneshot::Sender<()>,
    stop: CancellationToken,
) {
    let failed = loop {
        match pinger.poll(now()) {
            Step::Send(bytes) => {
                if !ping(&shared, flow, bytes) {
                    break true;
                }
            }
            Step::Failed => break true,
            Step::Wait(until) => tokio::select! {
                heard = heard.recv() => match heard {
                    Some(heard) => pinger.heard(now(), heard),
                    None => break true,
                },
                Ok(()) = asked.changed() => pinger.set_interval(*asked.borrow_and_update()),
                () = tokio::time::sleep_until(until.into()) => {}
                () = stop.cancelled() => break false,
            },
        }
    };
    shared.keepers.leave(&udp::as_bound(shared.shard(ShardId(0)), flow));
    if failed {
        tracing::debug!(remote = %flow.remote, transport = %flow.transport, "the flow has failed");
        if let Some(id) = flow.connection {
            shared.streams.close(id);
        }
        // Nobody may wait for it.
        let _ = fail.send(());
    }
}

fn ping(shared: &Shared, flow: Flow, bytes: Bytes) -> bool {
    let transmit = Transmit { flow, fallback: None, name: None, bytes, owner: None };
    match flow.connection {
        Some(id) => shared.streams.queue(id, transmit),
        None => flow.transport == Transport::Udp && udp::send(shared.shard(ShardId(0)), transmit).is_ok(),
    }
}

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// On a connection.
    Pong,
    /// On UDP: to which request, and how the peer sees us.
    Stun(TransactionId, Option<SocketAddr>),
}

/// Who waits for signs of life on which flow: a connection, or a UDP socket and the peer's address.
#[derive(Default)]
pub(crate) struct Keepers(Mutex<HashMap<Flow, mpsc::Sender<Heard>>>);

impl Keepers {
    fn enter(&self, flow: &Flow) -> mpsc::Receiver<Heard> {
        let (sender, receiver) = mpsc::channel(4);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key(flow), sender);
        receiver
    }

    /// Nobody waits any more, or the connection has ended and its keeper learns of it.
    pub(super) fn leave(&self, flow: &Flow) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(flow));
    }

    /// A pong came.
    pub(super) fn heard(&self, flow: &Flow) {
        self.tell(flow, Heard::Pong);
    }

    /// A sign of life came; one too many is not needed.
    pub(super) fn tell(&self, flow: &Flow, heard: Heard) {
        let keepers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keepers.get(&key(flow)) {
            let _ = keeper.try_send(heard);
        }
    }
}

/// A connection is known by its number alone.
fn key(flow: &Flow) -> Flow {
    match flow.connection {
        Some(ConnectionId(_)) => Flow { local: UNKNOWN, remote: UNKNOWN, ..*flow },
        None => *flow,
    }
}

const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// What is to be done for a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// This goes out; poll again.
    Send(Bytes),
    /// Nothing until then, or until something is heard.
    Wait(Instant),
    /// The flow is gone.
    Failed,
}

/// When to ping, and when an answer is overdue.
struct Pinger {
    every: Duration,
    stun: bool,
    random: Random,
    state: State,
    /// How the peer saw us first.
    mapped: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Idle { since: Instant, until: Instant },
    Waiting { id: TransactionId, tries: u32, until: Instant },
    Failed,
}

impl Pinger {
    fn new(transport: Transport, every: Duration, now: Instant, random: Random) -> Self {
        let stun = transport == Transport::Udp;
        let mut pinger = Self { every, stun, random, state: State::Failed, mapped: None };
        pinger.rest(now);
        pinger
    }

    /// The next ping comes after 80 to 100 % of the interval, so that flows do not ping in step (RFC 5626 §4.4).
    fn rest(&mut self, now: Instant) {
        let [draw] = self.random.octets();
        let part = 0.8 + 0.2 * f64::from(draw) / 255.0;
        self.state = State::Idle { since: now, until: now + self.every.mul_f64(part) };
    }

    fn set_interval(&mut self, every: Duration) {
        self.every = every;
        if let State::Idle { since, .. } = self.state {
            self.rest(since);
        }
    }

    fn poll(&mut self, now: Instant) -> Step {
        match self.state {
            State::Failed => Step::Failed,
            State::Idle { until, .. } | State::Waiting { until, .. } if now < until => Step::Wait(until),
            State::Idle { .. } => {
                let id = TransactionId(self.random.octets());
                self.send(now, id, 1)
            }
            State::Waiting { id, tries, .. } if self.stun && tries < STUN_TRIES => {
                self.send(now, id, tries + 1)
            }
            State::Waiting { .. } => {
                self.state = State::Failed;
                Step::Failed
            }
        }
    }

    fn send(&mut self, now: Instant, id: TransactionId, tries: u32) -> Step {
        let wait = match (self.stun, tries) {
            (false, _) => PONG_WAIT,
            (true, STUN_TRIES) => STUN_WAIT * STUN_LAST,
            (true, tries) => STUN_WAIT * 2_u32.pow(tries - 1),
        };
        self.state = State::Waiting { id, tries, until: now + wait };
        Step::Send(if self.stun { stun::request(id).into() } else { Bytes::from_static(PING) })
    }

    fn heard(&mut self, now: Instant, heard: Heard) {
        let State::Waiting { id, .. } = self.state else { return };
        match heard {
            Heard::Pong if !self.stun => self.rest(now),
            Heard::Stun(answered, mapped) if self.stun && answered == id => self.mapped(now, mapped),
            _ => {}
        }
    }

    /// Another address than before: the NAT has forgotten us, and so has everyone behind it (RFC 5626 §4.4.2).
    fn mapped(&mut self, now: Instant, mapped: Option<SocketAddr>) {
        let first = self.mapped.or(mapped);
        if mapped.is_some() && mapped != first {
            self.state = State::Failed;
            return;
        }
        self.mapped = first;
        self.rest(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(100);

    fn pinger(transport: Transport) -> (Pinger, Instant) {
        let now = Instant::now();
        (Pinger::new(transport, EVERY, now, Random::new(7.into())), now)
    }

    /// Lets time pass until something is to be sent, or the flow has failed.
    fn next(pinger: &mut Pinger, now: &mut Instant) -> Option<Bytes> {
        loop {
            match pinger.poll(*now) {
                Step::Send(bytes) => return Some(bytes),
                Step::Wait(until) => *now = until,
                Step::Failed => return None,
            }
        }
    }

    #[test]
    fn a_connection_is_pinged_within_the_interval_and_lives_while_it_answers() {
        let (mut pinger, mut now) = pinger(Transport::Tcp);
        for _ in 0..3 {
            let before = now;
            assert_eq!(next(&mut pinger, &mut now).as_deref(), Some(PING));
            assert!((EVERY.mul_f64(0.8)..=EVERY).contains(&(now - before)), "{:?}", now - before);
            pinger.heard(now, Heard::Pong);
        }
    }

    #[test]
    fn another_interval_counts_from_the_last_sign_of_life() {
        let (mut pinger, start) = pinger(Transport::Tcp);
        pinger.set_interval(EVERY / 2);
        let mut now = start + EVERY / 4;
        pinger.set_interval(EVERY / 2);
        next(&mut pinger, &mut now);
        assert!((EVERY.mul_f64(0.4)..=EVERY / 2).contains(&(now - start)), "{:?}", now - start);
        pinger.set_interval(EVERY);
        assert!(matches!(pinger.state, State::Waiting { .. }), "a pong is waited for all the same");
        pinger.heard(now, Heard::Pong);
        let before = now;
        next(&mut pinger, &mut now);
        assert!(now - before >= EVERY.mul_f64(0.8));
    }

    #[test]
    fn a_connection_without_a_pong_fails_after_ten_seconds() {
        let (mut pinger, mut now) = pinger(Transport::Tls);
        next(&mut pinger, &mut now);
        let sent = now;
        assert_eq!(next(&mut pinger, &mut now), None);
        assert_eq!(now - sent, Duration::from_secs(10));
        pinger.heard(now, Heard::Pong);
        assert_eq!(pinger.poll(now), Step::Failed, "for good");
    }

    #[test]
    fn a_stun_request_is_repeated_seven_times_in_all() {
        let (mut pinger, mut now) = pinger(Transport::Udp);
        let request = next(&mut pinger, &mut now).unwrap();
        let sent = now;
        for _ in 1..7 {
            assert_eq!(next(&mut pinger, &mut now).as_ref(), Some(&request));
        }
        assert_eq!(next(&mut pinger, &mut now), None);
        assert_eq!(now - sent, Duration::from_millis(39_500));
    }

    #[test]
    fn a_changed_address_fails_the_flow_and_a_strangers_answer_does_nothing() {
        let (mut pinger, mut now) = pinger(Transport::Udp);
        let at = |port| Some(SocketAddr::from(([198, 51, 100, 1], port)));
        for (port, lives) in [(1, true), (1, true), (2, false)] {
            let request = next(&mut pinger, &mut now).unwrap();
            let Some(stun::Stun::Request(id, _)) = stun::parse(&request) else { panic!("no request") };
            pinger.heard(now, Heard::Stun(TransactionId([9; 12]), at(3)));
            assert!(matches!(pinger.state, State::Waiting { .. }));
            pinger.heard(now, Heard::Stun(id, at(port)));
            assert_eq!(matches!(pinger.state, State::Idle { .. }), lives);
        }
    }
}
