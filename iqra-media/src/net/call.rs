//! One call on its media thread: its sockets joined to its session.
//!
//! In: what waits at the sockets, and the time. Out: what the session sends, its report for the leg, and when it has to be
//! served next at the latest.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::arrival::Clocks;
use super::datagrams::{self, BATCH, Inbox};
use super::load::Counted;
use super::ports::MediaPort;
use crate::conversation::EndReason;
use crate::quality::MediaReport;
use crate::rtp::telephone_event::Digit;
use crate::session::{MediaSession, Plan, Port, Transmit};

/// Batches that one call may deliver per round; a flood waits in the kernel's buffer and is lost there.
const MOST_BATCHES: usize = 4;
/// How often a port of RTCP alone is looked at; its packets are seconds apart.
const RTCP_BEAT: Duration = Duration::from_millis(50);
/// How often a call's report is made visible to its leg.
const REPORTING: Duration = Duration::from_millis(100);
/// The longest datagram that a session writes.
const LONGEST: usize = 2_048;

/// Names a call within its driver.
pub(super) type CallId = u64;

/// A call's latest report. The media thread only ever tries the lock.
pub(super) type SharedReport = Arc<Mutex<MediaReport>>;

/// What a leg tells its call.
pub(super) enum Word {
    Update(Box<Plan>),
    Answered,
    Press(Digit),
    End(EndReason),
}

/// What the calls of a thread share.
pub(super) struct Room {
    inbox: Inbox,
    out: Vec<u8>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { inbox: Inbox::new(), out: vec![0; LONGEST] }
    }
}

/// A call on its thread.
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) port: MediaPort,
    pub(super) session: MediaSession,
    report: SharedReport,
    report_at: Instant,
    rtcp_at: Instant,
    rtp_since: Instant,
    rtcp_since: Instant,
    _counted: Counted,
}

impl Call {
    /// A call that begins at `now`.
    pub(super) fn new(
        id: CallId,
        port: MediaPort,
        session: MediaSession,
        report: SharedReport,
        counted: Counted,
        now: Instant,
    ) -> Self {
        Self {
            id,
            port,
            session,
            report,
            report_at: now,
            rtcp_at: now,
            rtp_since: now,
            rtcp_since: now,
            _counted: counted,
        }
    }

    /// Does what its leg says.
    pub(super) fn hear(&mut self, now: Instant, word: Word) {
        match word {
            Word::Update(plan) => self.session.update(now, *plan),
            Word::Answered => self.session.answered(),
            Word::Press(digit) => self.session.press(now, digit),
            Word::End(reason) => self.session.end(reason),
        }
    }

    /// Takes what came, sends what is due, and says when it has to be served again.
    pub(super) fn serve(&mut self, room: &mut Room) -> Instant {
        let begun = Instant::now();
        let (read, since) = self.take(begun, Port::Rtp, self.rtp_since, MOST_BATCHES, &mut room.inbox);
        let mut now = read;
        self.rtp_since = since;
        if self.rtcp_at <= now && self.session.has_rtcp_port() {
            self.rtcp_at = now + RTCP_BEAT;
            (now, self.rtcp_since) = self.take(now, Port::Rtcp, self.rtcp_since, 1, &mut room.inbox);
        }
        if self.session.poll_timeout() <= now {
            self.session.tick(now);
        }
        self.send_due(&mut room.out);
        self.publish(now);
        self.session.poll_timeout()
    }

    /// Takes what waits at a port, which was empty at `since`. Gives the present, and up to when all was taken.
    fn take(
        &mut self,
        mut now: Instant,
        port: Port,
        mut since: Instant,
        most: usize,
        inbox: &mut Inbox,
    ) -> (Instant, Instant) {
        for _ in 0..most {
            let count = inbox.receive(self.port.socket(port));
            if count == 0 {
                return (now, now);
            }
            let clocks = Clocks::read();
            now = clocks.now;
            for (head, octets) in inbox.datagrams() {
                since = clocks.arrival(head.stamp, since);
                self.session.handle_packet(since, head.from, port, octets);
            }
            if count < BATCH {
                return (now, now);
            }
        }
        (now, since)
    }

    fn send_due(&mut self, out: &mut [u8]) {
        while let Some(Transmit { length, to, port }) = self.session.poll_transmit(out) {
            self.send(&out[..length], to, port);
        }
    }

    fn send(&self, datagram: &[u8], to: SocketAddr, port: Port) {
        datagrams::send(self.port.socket(port), self.port.local_addr().is_ipv6(), datagram, to);
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
    pub(super) fn close(mut self, room: &mut Room) -> MediaReport {
        self.session.close();
        self.send_due(&mut room.out);
        let report = self.session.report();
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
        report
    }
}
