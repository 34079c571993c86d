//! One media thread: serves its calls in rounds, on a beat or when something happened, and sleeps while it has none.
//!
//! In: orders by a channel, of which a call has a handful. A round serves every call on a tick, and those that packets or
//! deadlines are there for with events; how long it took and how late it began is measured ([`load`](super::load)).

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::call::{Call, CallId, Room, Word};
use super::config::Overload;
use super::events::{Agenda, Bell, Events};
use super::load::{Gauge, Meter};
use crate::quality::MediaReport;

/// With events, a call is served again for a deadline after so long at the soonest, whatever it says.
const SOONEST: Duration = Duration::from_millis(1);

/// What a thread is told.
pub(super) enum Order {
    Open(Box<Call>),
    To(CallId, Word),
    Close(CallId, Option<oneshot::Sender<MediaReport>>),
    Stop,
}

/// The way to a thread.
#[derive(Clone)]
pub(super) struct Orders {
    pub(super) channel: Sender<Order>,
    pub(super) bell: Bell,
}

impl Orders {
    /// Whether the thread is still there.
    pub(super) fn send(&self, order: Order) -> bool {
        let sent = self.channel.send(order).is_ok();
        self.bell.ring();
        sent
    }
}

/// What a thread waits for.
pub(super) enum Waking {
    /// A beat.
    Tick(Duration),
    /// Packets and deadlines.
    Events(Events),
}

/// The calls of a thread, in a row and by name.
#[derive(Default)]
struct Calls {
    list: Vec<Call>,
    places: HashMap<CallId, usize>,
}

impl Calls {
    fn add(&mut self, call: Call) {
        self.places.insert(call.id, self.list.len());
        self.list.push(call);
    }

    fn get(&mut self, id: CallId) -> Option<&mut Call> {
        self.list.get_mut(*self.places.get(&id)?)
    }

    fn remove(&mut self, id: CallId) -> Option<Call> {
        let place = self.places.remove(&id)?;
        let call = self.list.swap_remove(place);
        if let Some(moved) = self.list.get(place) {
            self.places.insert(moved.id, place);
        }
        Some(call)
    }
}

/// A thread before it runs.
pub(super) struct Worker {
    pub(super) orders: Receiver<Order>,
    pub(super) waking: Waking,
    pub(super) gauge: Arc<Gauge>,
    pub(super) overload: Overload,
}

impl Worker {
    /// Runs until it is told to stop, or nobody can tell it anything any more.
    pub(super) fn run(self) {
        let Self { orders, waking, gauge, overload } = self;
        let meter = Meter::new(&gauge, overload, Instant::now());
        let shift = Shift { orders, meter, calls: Calls::default(), room: Room::new(), stopped: false };
        match waking {
            Waking::Tick(beat) => shift.on_tick(beat),
            Waking::Events(events) => shift.on_events(events),
        }
    }
}

/// A thread at work.
struct Shift<'g> {
    orders: Receiver<Order>,
    meter: Meter<'g>,
    calls: Calls,
    room: Room,
    stopped: bool,
}

impl Shift<'_> {
    fn on_tick(mut self, beat: Duration) {
        let mut due = Instant::now();
        while self.obey(|_| {}) {
            if self.calls.list.is_empty() {
                self.rest();
                due = Instant::now();
                continue;
            }
            let began = Instant::now();
            self.sweep();
            let ended = Instant::now();
            self.meter.round(due, began, ended);
            due = (due + beat).max(began);
            std::thread::sleep(due.saturating_duration_since(ended));
        }
        self.close_all();
    }

    /// Serves every call once.
    fn sweep(&mut self) {
        let mut place = 0;
        while let Some(call) = self.calls.list.get(place) {
            let id = call.id;
            place += usize::from(self.serve(id, place).is_some());
        }
    }

    fn on_events(mut self, mut events: Events) {
        let mut agenda = Agenda::default();
        while self.obey(|call| {
            events.watch(call);
            agenda.add(Instant::now(), call.id);
        }) {
            if self.calls.list.is_empty() {
                self.meter.rest();
                events.wait(None);
                self.meter.wake(Instant::now());
                continue;
            }
            let due = agenda.first();
            events.wait(due);
            let began = Instant::now();
            for id in events.ready() {
                self.serve_by_name(id, &mut agenda);
            }
            while let Some(id) = agenda.due(began) {
                self.serve_by_name(id, &mut agenda);
            }
            self.meter.round(due.map_or(began, |due| due.min(began)), began, Instant::now());
        }
        self.close_all();
    }

    /// Serves a call, if it is still there, and notes when it has to be served again.
    fn serve_by_name(&mut self, id: CallId, agenda: &mut Agenda) {
        let Some(place) = self.calls.places.get(&id).copied() else { return };
        if let Some(due) = self.serve(id, place) {
            agenda.add(due.max(Instant::now() + SOONEST), id);
        }
    }

    /// One that panics (codecs can be anybody's code) is closed; the others go on.
    fn serve(&mut self, id: CallId, place: usize) -> Option<Instant> {
        let call = &mut self.calls.list[place];
        let served = catch_unwind(AssertUnwindSafe(|| call.serve(&mut self.room)));
        if served.is_err() {
            tracing::error!(call = id, "the media session of a call panicked; the call ends");
            drop(self.calls.remove(id));
        }
        served.ok()
    }

    /// Sleeps until there is an order.
    fn rest(&mut self) {
        self.meter.rest();
        match self.orders.recv() {
            Ok(order) => self.carry_out(order, &mut |_| {}),
            Err(_) => self.stopped = true,
        }
        self.meter.wake(Instant::now());
    }

    /// Carries out what was ordered; `false` to stop.
    fn obey(&mut self, mut watch: impl FnMut(&Call)) -> bool {
        while !self.stopped {
            match self.orders.try_recv() {
                Ok(order) => self.carry_out(order, &mut watch),
                Err(TryRecvError::Disconnected) => self.stopped = true,
                Err(TryRecvError::Empty) => break,
            }
        }
        !self.stopped
    }

    fn carry_out(&mut self, order: Order, watch: &mut impl FnMut(&Call)) {
        match order {
            Order::Open(call) => {
                watch(&call);
                self.calls.add(*call);
            }
            Order::To(id, word) => {
                if let Some(call) = self.calls.get(id) {
                    call.hear(Instant::now(), word);
                }
            }
            Order::Close(id, reply) => self.close(id, reply),
            Order::Stop => self.stopped = true,
        }
    }

    fn close(&mut self, id: CallId, reply: Option<oneshot::Sender<MediaReport>>) {
        let Some(call) = self.calls.remove(id) else { return };
        let closed = catch_unwind(AssertUnwindSafe(|| call.close(&mut self.room)));
        if let (Ok(report), Some(reply)) = (closed, reply) {
            let _ = reply.send(report);
        }
    }

    /// The far ends hear that it is over, the legs have their reports.
    fn close_all(&mut self) {
        while let Some(id) = self.calls.list.last().map(|call| call.id) {
            self.close(id, None);
        }
    }
}
