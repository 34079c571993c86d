//! The speaking side's books: what is queued for the media thread, where each utterance lies in it, and what a
//! `clear` cut off.
//!
//! In: samples, marks and digits under the conversation's mutex. Out: a lock-free ring of pieces for
//! [`SpeakingEnd`](super::SpeakingEnd). Back come one position, from which all amounts follow, and the spent buffers.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::speaking::{Cleared, Extent, Mark, Played, Utterance};
use super::switch::Switch;
use super::underruns::Passage;
use super::{AudioFormat, Limits};
use crate::rtp::telephone_event::Digit;

/// Something queued.
pub(super) enum Piece {
    Audio(Passage, Vec<i16>),
    Mark(Mark),
    Digit(Digit),
}

impl Piece {
    /// How far it moves the position.
    pub(super) fn steps(&self) -> u64 {
        match self {
            Self::Audio(_, samples) => samples.len() as u64,
            Self::Mark(_) | Self::Digit(_) => 1,
        }
    }
}

/// An utterance's own count: samples taken, less those cleared.
pub(super) struct Said {
    pub(super) id: Utterance,
    taken: AtomicU64,
}

impl Said {
    pub(super) fn new(id: Utterance) -> Arc<Self> {
        Arc::new(Self { id, taken: AtomicU64::new(0) })
    }
}

/// Where a part of an utterance lies: `length` steps from `start`, beginning `offset` samples into the utterance.
struct Segment {
    utterance: Arc<Said>,
    start: u64,
    length: u64,
    offset: u64,
}

/// A `clear` under way: everything before `target` goes.
struct Clearing {
    target: u64,
    segments: VecDeque<Segment>,
}

/// The speaking side's books, under its mutex.
pub(super) struct Queue {
    pieces: rtrb::Producer<Piece>,
    spent: rtrb::Consumer<Vec<i16>>,
    pub(super) queued: u64,
    segments: VecDeque<Segment>,
    pub(super) clears: u64,
    clearing: Option<Clearing>,
    cleared: Cleared,
    last_id: u64,
}

/// Spare buffers kept for the next pieces; more are freed.
const SPARE_BUFFERS: usize = 16;

impl Queue {
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn take(&mut self, shared: &Shared, utterance: &Arc<Said>, samples: &[i16]) -> usize {
        if shared.is_closed() {
            return 0;
        }
        self.settle(shared);
        self.forget_played(shared.played.load(SeqCst));
        let room = &samples[..samples.len().min(self.room(shared))];
        let passage = Passage { utterance: utterance.id.number(), clears: self.clears };
        let mut taken = 0;
        for chunk in room.chunks(shared.chunk) {
            let buffer = self.buffer_with(chunk);
            if self.push(Piece::Audio(passage, buffer)).is_err() {
                break;
            }
            taken += chunk.len();
        }
        self.book(utterance, taken as u64);
        taken
    }

    fn room(&self, shared: &Shared) -> usize {
        let waiting = self.queued - shared.played.load(SeqCst).min(self.queued);
        shared.capacity.saturating_sub(usize::try_from(waiting).unwrap_or(usize::MAX))
    }

    /// The position at which `wanted` samples, or a quarter of a second of them, find room.
    pub(super) fn room_at(&self, shared: &Shared, wanted: usize) -> u64 {
        let wanted = wanted.min(shared.capacity).min(shared.format.samples_in_millis(250)) as u64;
        let by_samples = (self.queued + wanted).saturating_sub(shared.capacity as u64);
        let next_step = shared.played.load(SeqCst) + 1;
        if wanted == 0 {
            0
        } else if self.pieces.is_full() {
            next_step.max(by_samples)
        } else {
            by_samples
        }
    }

    fn buffer_with(&mut self, samples: &[i16]) -> Vec<i16> {
        while self.spent.slots() > SPARE_BUFFERS {
            let _ = self.spent.pop();
        }
        let mut buffer = self.spent.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(samples);
        buffer
    }

    pub(super) fn push(&mut self, piece: Piece) -> Result<(), Piece> {
        let steps = piece.steps();
        match self.pieces.push(piece) {
            Ok(()) => self.queued += steps,
            Err(rtrb::PushError::Full(piece)) => return Err(piece),
        }
        Ok(())
    }

    fn book(&mut self, utterance: &Arc<Said>, length: u64) {
        if length == 0 {
            return;
        }
        let offset = utterance.taken.fetch_add(length, SeqCst);
        let start = self.queued - length;
        match self.segments.back_mut() {
            Some(last) if Arc::ptr_eq(&last.utterance, utterance) && last.start + last.length == start => {
                last.length += length;
            }
            _ => self.segments.push_back(Segment { utterance: utterance.clone(), start, length, offset }),
        }
    }

    fn forget_played(&mut self, played: u64) {
        while self.segments.front().is_some_and(|segment| segment.start + segment.length <= played) {
            self.segments.pop_front();
        }
    }

    /// Begins a `clear` and gives its target; `Err` with the target of an earlier one that is still under way.
    pub(super) fn request_clear(&mut self, shared: &Shared) -> Result<u64, u64> {
        self.settle(shared);
        if let Some(earlier) = &self.clearing {
            return Err(earlier.target);
        }
        self.forget_played(shared.played.load(SeqCst));
        self.clears += 1;
        self.cleared = Cleared::default();
        let segments = std::mem::take(&mut self.segments);
        self.clearing = Some(Clearing { target: self.queued, segments });
        shared.clear_to.store(self.queued, SeqCst);
        Ok(self.queued)
    }

    pub(super) fn take_cleared(&mut self, shared: &Shared) -> Cleared {
        self.settle(shared);
        std::mem::take(&mut self.cleared)
    }

    /// Closes the books on a `clear` that the media thread has carried out.
    fn settle(&mut self, shared: &Shared) {
        let Some(clearing) = self.clearing.take() else { return };
        let Some(stopped_at) = shared.stopped_at(clearing.target) else {
            self.clearing = Some(clearing);
            return;
        };
        for segment in clearing.segments {
            self.settle_segment(&segment, stopped_at, shared.error.load(SeqCst));
        }
    }

    fn settle_segment(&mut self, segment: &Segment, stopped_at: u64, error: u64) {
        let played = stopped_at.saturating_sub(segment.start).min(segment.length);
        let unplayed = segment.length - played;
        segment.utterance.taken.fetch_sub(unplayed, SeqCst);
        let later =
            self.segments.iter_mut().filter(|later| Arc::ptr_eq(&later.utterance, &segment.utterance));
        later.for_each(|later| later.offset -= unplayed);
        let utterance = segment.utterance.id;
        let listed = self.cleared.utterances.iter_mut().find(|listed| listed.utterance == utterance);
        match listed {
            Some(listed) => listed.extent = extent(listed.extent.samples() + played, error),
            None => {
                let extent = extent(segment.offset + played, error);
                self.cleared.utterances.push(Played { utterance, extent });
            }
        }
    }
}

fn extent(samples: u64, error: u64) -> Extent {
    if error == 0 { Extent::Exact(samples) } else { Extent::Estimated { samples, error } }
}

/// What both sides see.
pub(super) struct Shared {
    pub(super) format: AudioFormat,
    capacity: usize,
    chunk: usize,
    queue: Mutex<Queue>,
    /// Whose turn it is to wait for room.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// One `clear` at a time.
    pub(super) clearing: tokio::sync::Mutex<()>,
    pub(super) played: AtomicU64,
    clear_to: AtomicU64,
    cleared_to: AtomicU64,
    stopped_at: AtomicU64,
    error: AtomicU64,
    wake_at: AtomicU64,
    progress: Notify,
    closed: AtomicBool,
    hung_up: AtomicBool,
    pub(super) switch: Switch,
}

/// The media thread's part.
impl Shared {
    /// Everything up to `position` was played. Waiters are woken only when one wants this position: in steady state
    /// this is a store and a load.
    pub(super) fn publish(&self, position: u64) {
        self.played.store(position, SeqCst);
        if self.wake_at.load(SeqCst) <= position {
            self.wake_at.store(u64::MAX, SeqCst);
            self.progress.notify_waiters();
        }
    }

    pub(super) fn clear_to(&self) -> u64 {
        self.clear_to.load(SeqCst)
    }

    pub(super) fn cleared(&self, target: u64, stopped_at: u64) {
        self.stopped_at.store(stopped_at, SeqCst);
        self.cleared_to.store(target, SeqCst);
    }

    pub(super) fn set_error(&self, error: u64) {
        self.error.store(error, SeqCst);
    }

    /// Whether nobody has asked to hang up before.
    pub(super) fn first_hang_up(&self) -> bool {
        !self.hung_up.swap(true, SeqCst)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, SeqCst);
        self.progress.notify_waiters();
    }
}

/// The conversation's part.
impl Shared {
    /// A task that panicked while it held the lock left the books in order: each step is finished before the next.
    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    /// Where playing stopped for the `clear` with this target, once it did.
    fn stopped_at(&self, target: u64) -> Option<u64> {
        let played = self.played.load(SeqCst);
        if played < target {
            return self.is_closed().then_some(played);
        }
        let cut = self.cleared_to.load(SeqCst) == target;
        Some(if cut { self.stopped_at.load(SeqCst) } else { target })
    }

    /// Waits until `target` was played or cleared, or the line ended.
    pub(super) async fn reached(&self, target: u64) {
        loop {
            let mut progress = pin!(self.progress.notified());
            progress.as_mut().enable();
            self.wake_at.fetch_min(target, SeqCst);
            if self.played.load(SeqCst) >= target || self.is_closed() {
                return;
            }
            progress.await;
        }
    }
}

/// The media thread's ends of the rings: pieces to play, and their buffers on the way back.
pub(super) type Rings = (rtrb::Consumer<Piece>, rtrb::Producer<Vec<i16>>);

impl Queue {
    fn new(pieces: usize) -> (Self, Rings) {
        let (pieces_in, pieces_out) = rtrb::RingBuffer::new(pieces);
        // Every buffer there is fits: those queued, the one being played, and the spare ones.
        let (spent_in, spent_out) = rtrb::RingBuffer::new(pieces + 1 + SPARE_BUFFERS);
        let queue = Self {
            pieces: pieces_in,
            spent: spent_out,
            queued: 0,
            segments: VecDeque::new(),
            clears: 0,
            clearing: None,
            cleared: Cleared::default(),
            last_id: 0,
        };
        (queue, (pieces_out, spent_in))
    }
}

impl Shared {
    pub(super) fn new(format: AudioFormat, limits: &Limits) -> (Arc<Self>, Rings) {
        let (queue, rings) = Queue::new(limits.pieces.max(1));
        let shared = Self {
            format,
            capacity: samples_in(format, limits.speaking).max(1),
            chunk: format.samples_in_millis(100),
            queue: Mutex::new(queue),
            turn: tokio::sync::Mutex::new(()),
            clearing: tokio::sync::Mutex::new(()),
            played: AtomicU64::new(0),
            clear_to: AtomicU64::new(0),
            cleared_to: AtomicU64::new(0),
            stopped_at: AtomicU64::new(0),
            error: AtomicU64::new(0),
            wake_at: AtomicU64::new(u64::MAX),
            progress: Notify::new(),
            closed: AtomicBool::new(false),
            hung_up: AtomicBool::new(false),
            switch: Switch::default(),
        };
        (Arc::new(shared), rings)
    }
}

pub(super) fn samples_in(format: AudioFormat, time: Duration) -> usize {
    format.samples_in_millis(u32::try_from(time.as_millis()).unwrap_or(u32::MAX))
}
