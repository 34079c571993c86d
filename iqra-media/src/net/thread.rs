//! One media thread: sweeps the sockets of its calls on a beat, and sleeps without one while it has no call.
//!
//! A packet's arrival is the time of the sweep that read it, so jitter figures carry up to one beat of error (kernel
//! receive timestamps would take that out). Orders come by a channel that only moves a handful per call.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::ports::MediaPort;
use crate::conversation::EndReason;
use crate::quality::MediaReport;
use crate::session::{MediaSession, Plan, Port, Transmit};

/// Datagrams that one call may deliver per sweep; a flood waits in the kernel's buffer and is lost there.
const MOST_PER_SWEEP: usize = 32;
/// How often a port of RTCP alone is looked at; its packets are seconds apart.
const RTCP_BEAT: Duration = Duration::from_millis(50);
/// RTCP compounds that one call may deliver per look.
const MOST_RTCP: usize = 4;
/// The largest datagram that is read whole; longer ones are no telephone audio.
const DATAGRAM: usize = 2_048;
/// How often a call's report is made visible to its leg.
const REPORTING: Duration = Duration::from_millis(100);

/// What a thread is told.
pub(super) enum Order {
    Open(Box<Call>),
    Update(CallId, Box<Plan>),
    End(CallId, EndReason),
    Close(CallId, Option<oneshot::Sender<MediaReport>>),
    Stop,
}

/// Names a call within its driver.
pub(super) type CallId = u64;

/// A call's latest report. The media thread only ever tries the lock.
pub(super) type SharedReport = Arc<Mutex<MediaReport>>;

/// A call on its thread.
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) port: MediaPort,
    pub(super) session: MediaSession,
    pub(super) report: SharedReport,
    pub(super) report_at: Instant,
    pub(super) rtcp_at: Instant,
}

impl Call {
    fn sweep(&mut self, now: Instant, buffer: &mut [u8]) {
        self.take(now, Port::Rtp, MOST_PER_SWEEP, buffer);
        if self.rtcp_at <= now && self.session.has_rtcp_port() {
            self.rtcp_at = now + RTCP_BEAT;
            self.take(now, Port::Rtcp, MOST_RTCP, buffer);
        }
        if self.session.poll_timeout() <= now {
            self.session.tick(now);
        }
        self.send_due(buffer);
        self.publish(now);
    }

    fn take(&mut self, now: Instant, port: Port, most: usize, buffer: &mut [u8]) {
        for _ in 0..most {
            let Some((length, from)) = receive(self.port.socket(port), buffer) else { break };
            self.session.handle_packet(now, from, port, &mut buffer[..length]);
        }
    }

    /// A full buffer or an unreachable peer costs a packet, as the network might.
    fn send_due(&mut self, buffer: &mut [u8]) {
        while let Some(Transmit { length, to, port }) = self.session.poll_transmit(buffer) {
            let _ = self.port.socket(port).send_to(&buffer[..length], to);
        }
    }

    fn publish(&mut self, now: Instant) {
        if now < self.report_at {
            return;
        }
        self.report_at = now + REPORTING;
        if let Ok(mut report) = self.report.try_lock() {
            *report = self.session.report();
        }
    }

    /// The last report, after a BYE; the line, the sockets and the port go.
    fn close(mut self, buffer: &mut [u8]) -> MediaReport {
        self.session.close();
        self.send_due(buffer);
        let report = self.session.report();
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
        report
    }
}

/// The next datagram. An ICMP error reported on the socket is not the end of what waits there.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    match socket.recv_from(buffer) {
        Ok(received) => Some(received),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(_) => socket.recv_from(buffer).ok(),
    }
}

/// The calls of one thread.
pub(super) struct Sweeper {
    pub(super) orders: Receiver<Order>,
    pub(super) beat: Duration,
    pub(super) load: Arc<AtomicUsize>,
    pub(super) calls: Vec<Call>,
}

impl Sweeper {
    /// Runs until it is told to stop, or nobody can tell it anything any more.
    pub(super) fn run(mut self) {
        let mut buffer = vec![0; DATAGRAM];
        let mut next = Instant::now();
        while self.obey(&mut buffer) {
            self.sweep(Instant::now(), &mut buffer);
            let now = Instant::now();
            next = (next + self.beat).max(now);
            std::thread::sleep(next.saturating_duration_since(now));
        }
        self.load.fetch_sub(self.calls.len(), Ordering::Relaxed);
    }

    /// Serves every call once. One that panics (codecs can be anybody's code) is closed; the others go on.
    fn sweep(&mut self, now: Instant, buffer: &mut [u8]) {
        let mut at = 0;
        while let Some(call) = self.calls.get_mut(at) {
            if catch_unwind(AssertUnwindSafe(|| call.sweep(now, buffer))).is_ok() {
                at += 1;
                continue;
            }
            tracing::error!(call = call.id, "the media session of a call panicked; the call ends");
            drop(self.calls.swap_remove(at));
            self.load.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Carries out all orders; blocks while there is no call. `false` to stop.
    fn obey(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            let order = if self.calls.is_empty() {
                self.orders.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.orders.try_recv()
            };
            match order {
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return false,
                Ok(order) => self.carry_out(order, buffer),
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn carry_out(&mut self, order: Order, buffer: &mut [u8]) {
        match order {
            Order::Open(call) => self.calls.push(*call),
            Order::Update(id, plan) => self.with(id, |call| call.session.update(Instant::now(), *plan)),
            Order::End(id, reason) => self.with(id, |call| call.session.end(reason)),
            Order::Close(id, reply) => self.close(id, reply, buffer),
            Order::Stop => {}
        }
    }

    fn with(&mut self, id: CallId, act: impl FnOnce(&mut Call)) {
        if let Some(call) = self.calls.iter_mut().find(|call| call.id == id) {
            act(call);
        }
    }

    fn close(&mut self, id: CallId, reply: Option<oneshot::Sender<MediaReport>>, buffer: &mut [u8]) {
        let Some(at) = self.calls.iter().position(|call| call.id == id) else { return };
        let report = self.calls.swap_remove(at).close(buffer);
        self.load.fetch_sub(1, Ordering::Relaxed);
        if let Some(reply) = reply {
            let _ = reply.send(report);
        }
    }
}
