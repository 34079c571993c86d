//! Waiting for packets and deadlines instead of a beat: epoll of Linux, and a queue of when each call has to be served.
//!
//! The sockets are watched for as long as something waits at them (level-triggered), so that what a flood leaves for the
//! next round is not forgotten. An error on a socket is taken off it by reading, so that it wakes once. Only RTP wakes:
//! RTCP is looked at when a call is served, which its send clock sees to every packet time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Instant;

use super::call::CallId;

pub(super) use system::{Bell, Events};

/// When calls have to be served, each once: an earlier time takes the place of a later one.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    queue: BinaryHeap<Reverse<(Instant, CallId)>>,
    /// What counts; the queue may hold later times of a call as well.
    times: HashMap<CallId, Instant>,
}

impl Agenda {
    /// The call is to be served at `due` at the latest.
    pub(super) fn add(&mut self, due: Instant, call: CallId) {
        if self.times.get(&call).is_none_or(|time| due < *time) {
            self.times.insert(call, due);
            self.queue.push(Reverse((due, call)));
        }
    }

    pub(super) fn first(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((due, _))| *due)
    }

    /// The next call that was to be served by `now`.
    pub(super) fn due(&mut self, now: Instant) -> Option<CallId> {
        while self.first().is_some_and(|due| due <= now) {
            let Reverse((due, call)) = self.queue.pop()?;
            if self.times.get(&call) == Some(&due) {
                self.times.remove(&call);
                return Some(call);
            }
        }
        None
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::super::call::{Call, CallId};
    use crate::session::Port;

    /// Sockets of one look; the others are found by the next.
    const MOST: usize = 256;
    /// The bell's name among the calls.
    const BELL: CallId = CallId::MAX;

    /// Wakes a thread that waits for events; on a tick there is none.
    #[derive(Debug, Clone, Default)]
    pub(in super::super) struct Bell(Option<Arc<EventFd>>);

    impl Bell {
        pub(in super::super) fn ring(&self) {
            if let Some(bell) = &self.0 {
                // Each writing wakes, whatever the count is by then.
                let _ = bell.write(1);
            }
        }
    }

    /// What a thread waits at.
    pub(in super::super) struct Events {
        epoll: Epoll,
        ready: Vec<EpollEvent>,
        count: usize,
    }

    impl Events {
        /// # Errors
        /// When the system has no descriptor left.
        pub(in super::super) fn new() -> io::Result<(Self, Bell)> {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
            epoll.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, BELL))?;
            let ready = vec![EpollEvent::empty(); MOST];
            Ok((Self { epoll, ready, count: 0 }, Bell(Some(Arc::new(bell)))))
        }

        /// Watches a call's RTP until its socket is closed.
        pub(in super::super) fn watch(&self, call: &Call) {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, call.id);
            if let Err(error) = self.epoll.add(call.port.socket(Port::Rtp), event) {
                tracing::warn!(%error, call = call.id, "a call is not woken by its packets, but served once a packet time");
            }
        }

        /// Waits until something comes, the bell rings, or `until`; for ever where that is `None`.
        pub(in super::super) fn wait(&mut self, until: Option<Instant>) {
            let patience = until.map(|until| millis(until.saturating_duration_since(Instant::now())));
            let timeout = patience.map_or(EpollTimeout::NONE, EpollTimeout::from);
            self.count = self.epoll.wait(&mut self.ready, timeout).unwrap_or(0);
        }

        /// Whose packets wait.
        pub(in super::super) fn ready(&self) -> impl Iterator<Item = CallId> {
            self.ready[..self.count].iter().map(EpollEvent::data).filter(|call| *call != BELL)
        }
    }

    /// Rounded up, so that nobody wakes too early over and over.
    fn millis(patience: Duration) -> u16 {
        u16::try_from(patience.as_micros().div_ceil(1_000)).unwrap_or(u16::MAX)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::time::Instant;

    use super::super::call::{Call, CallId};

    /// There is nobody to wake.
    #[derive(Debug, Clone, Default)]
    pub(in super::super) struct Bell;

    impl Bell {
        pub(in super::super) fn ring(&self) {}
    }

    /// There are none here.
    pub(in super::super) enum Events {}

    impl Events {
        pub(in super::super) fn new() -> io::Result<(Self, Bell)> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(in super::super) fn watch(&self, _: &Call) {
            match *self {}
        }

        pub(in super::super) fn wait(&mut self, _: Option<Instant>) {
            match *self {}
        }

        pub(in super::super) fn ready(&self) -> impl Iterator<Item = CallId> {
            std::iter::empty()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn calls_are_due_in_the_order_of_their_times_and_each_once() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut agenda = Agenda::default();
        for (ms, call) in [(30, 1), (10, 2), (20, 3), (10, 1), (15, 1)] {
            agenda.add(at(ms), call);
        }
        assert_eq!((agenda.first(), agenda.due(at(9))), (Some(at(10)), None));
        let due: Vec<_> = std::iter::from_fn(|| agenda.due(at(20))).collect();
        assert_eq!(due, [1, 2, 3]);
        agenda.add(at(40), 1);
        assert_eq!(agenda.due(at(39)), None, "the time that gave way is gone");
        assert_eq!((agenda.due(at(40)), agenda.first()), (Some(1), None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_bell_wakes_and_each_ring_is_heard() {
        let (mut events, bell) = Events::new().unwrap();
        for _ in 0..3 {
            let ringing = bell.clone();
            let ringer = std::thread::spawn(move || ringing.ring());
            events.wait(None);
            assert_eq!(events.ready().count(), 0, "a bell is no call");
            ringer.join().unwrap();
        }
    }
}
