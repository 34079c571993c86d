//! From the media thread to the conversation: audio frames and events in one order.
//!
//! In: decoded frames and events at [`HearingEnd`]. Out: [`Hearing::next`]. Two bounded queues joined by a sequence
//! number carry them, so that a full audio queue gives up its oldest frame and the events stay. Frames live in pooled
//! buffers that come back when the conversation drops them.

use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;

use super::speaking::Mark;
use super::{AudioFormat, Limits};
use crate::detect::machine::MachineEvent;
use crate::detect::progress::Progress;
use crate::detect::voice::VoiceEvent;
use crate::rtp::telephone_event::Digit;

/// What the conversation hears next.
#[derive(Debug)]
pub enum Heard {
    /// Audio of the far end.
    Audio(AudioFrame),
    /// Something happened.
    Event(Event),
}

/// What happens on a line besides audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A key was pressed; once per key (RFC 4733 §2.5.2).
    Dtmf(Digit),
    /// The far end began to speak, or ended. Told with its position, on the clock of [`AudioFrame::position`]; where
    /// [`Detect::speech`](crate::session::Detect::speech) asks for it.
    Speech(VoiceEvent),
    /// A tone of the network, of a fax machine or an answering machine, with positions on the same clock; where
    /// [`Detect::progress`](crate::session::Detect::progress) asks for it.
    Progress(Progress),
    /// Who answered, or that a machine's greeting is over, with positions on the same clock; where
    /// [`Detect::machine`](crate::session::Detect::machine) asks for it.
    Machine(MachineEvent),
    /// The far end put us on hold: nothing that is spoken is played until [`Resume`](Self::Resume).
    Hold,
    /// The far end took us back.
    Resume,
    /// Everything that was spoken before this mark has been played.
    Mark(Mark),
    /// The call is over; always the last. The conversation has 5 seconds to return.
    End(EndReason),
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The far end hung up.
    FarEnd,
    /// We hung up.
    HungUp,
    /// The far end was transferred away.
    Transferred,
    /// No media came for too long.
    MediaTimeout,
    /// This program is stopping, or the media session went away.
    Shutdown,
    /// The signalling failed.
    Failed,
}

/// One frame of mono audio in the format that the conversation hears. Its buffer returns to the line's pool on drop:
/// copy what is to be kept, since a conversation that holds frames back leaves the line without buffers and so loses
/// audio.
pub struct AudioFrame {
    samples: Vec<i16>,
    position: u64,
    concealed: bool,
    home: Arc<Shared>,
}

impl AudioFrame {
    /// The samples.
    pub fn samples(&self) -> &[i16] {
        &self.samples
    }

    /// How many samples were heard on this line before this frame; a jump shows audio that a slow conversation lost.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether some of it was made up because packets were lost or late.
    pub fn is_concealed(&self) -> bool {
        self.concealed
    }
}

impl Deref for AudioFrame {
    type Target = [i16];

    fn deref(&self) -> &[i16] {
        &self.samples
    }
}

impl fmt::Debug for AudioFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AudioFrame({} samples at {})", self.samples.len(), self.position)
    }
}

impl Drop for AudioFrame {
    fn drop(&mut self) {
        self.home.put_back(std::mem::take(&mut self.samples));
    }
}

/// Frames and samples that a slow conversation lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HearingCounts {
    /// Frames given up.
    pub dropped_frames: u64,
    /// Samples in them, in the format that the conversation hears.
    pub dropped_samples: u64,
}

/// A frame on its way.
struct Queued {
    order: u64,
    position: u64,
    concealed: bool,
    samples: Vec<i16>,
}

struct Shared {
    audio: ArrayQueue<Queued>,
    events: ArrayQueue<(u64, Event)>,
    free: ArrayQueue<Vec<i16>>,
    end: OnceLock<EndReason>,
    waker: AtomicWaker,
    deaf: AtomicBool,
    dropped_frames: AtomicU64,
    dropped_samples: AtomicU64,
}

impl Shared {
    fn put_back(&self, samples: Vec<i16>) {
        let _ = self.free.push(samples);
    }

    fn count_dropped(&self, samples: usize) {
        self.dropped_frames.fetch_add(1, Ordering::Relaxed);
        self.dropped_samples.fetch_add(samples as u64, Ordering::Relaxed);
    }

    fn give_up(&self, frame: Queued) {
        self.count_dropped(frame.samples.len());
        self.put_back(frame.samples);
    }
}

/// The conversation's ear: audio frames and events in the order in which they happened.
pub struct Hearing {
    shared: Arc<Shared>,
    format: AudioFormat,
    next_audio: Option<Queued>,
    next_event: Option<(u64, Event)>,
    over: bool,
}

impl Hearing {
    /// The format of the frames.
    pub fn format(&self) -> AudioFormat {
        self.format
    }

    /// The next frame or event, waiting for it; `None` after [`Event::End`] was given. Cancel-safe.
    pub async fn next(&mut self) -> Option<Heard> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The next frame or event if there is one already.
    pub fn try_next(&mut self) -> Option<Heard> {
        match self.take() {
            Poll::Ready(heard) => heard,
            Poll::Pending => None,
        }
    }

    /// What was lost because this side was slow.
    pub fn counts(&self) -> HearingCounts {
        counts(&self.shared)
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Heard>> {
        if let Poll::Ready(heard) = self.take() {
            return Poll::Ready(heard);
        }
        self.shared.waker.register(context.waker());
        self.take()
    }

    fn take(&mut self) -> Poll<Option<Heard>> {
        if self.over {
            return Poll::Ready(None);
        }
        let end = self.shared.end.get().copied();
        self.look();
        if let Some(heard) = self.earliest() {
            return Poll::Ready(Some(heard));
        }
        let Some(reason) = end else { return Poll::Pending };
        self.over = true;
        Poll::Ready(Some(Heard::Event(Event::End(reason))))
    }

    /// Fills both places. Whatever precedes something that is visible is visible too: events are looked at after
    /// audio, and audio once more after an event was seen.
    fn look(&mut self) {
        self.next_audio = self.next_audio.take().or_else(|| self.shared.audio.pop());
        self.next_event = self.next_event.take().or_else(|| self.shared.events.pop());
        if self.next_event.is_some() {
            self.next_audio = self.next_audio.take().or_else(|| self.shared.audio.pop());
        }
    }

    fn earliest(&mut self) -> Option<Heard> {
        let event_first = match (&self.next_audio, &self.next_event) {
            (Some(audio), Some((order, _))) => *order < audio.order,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if event_first {
            return self.next_event.take().map(|(_, event)| Heard::Event(event));
        }
        let Queued { position, concealed, samples, .. } = self.next_audio.take()?;
        Some(Heard::Audio(AudioFrame { samples, position, concealed, home: self.shared.clone() }))
    }
}

impl fmt::Debug for Hearing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hearing")
            .field("format", &self.format)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.shared.deaf.store(true, Ordering::Release);
    }
}

/// The media thread's end. Nothing here blocks or locks; buffers are allocated until as many exist as the line may
/// hold, then reused. Waking the conversation is the one step outside: its runtime's waker runs in this thread.
pub(super) struct HearingEnd {
    shared: Arc<Shared>,
    format: AudioFormat,
    order: u64,
    position: u64,
    buffers_left: usize,
}

impl HearingEnd {
    /// The format of the frames to push.
    pub(super) fn format(&self) -> AudioFormat {
        self.format
    }

    /// Samples so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Hands a frame over; when the queue is full the oldest frame is given up.
    pub(super) fn push_audio(&mut self, samples: &[i16], concealed: bool) {
        let position = self.position;
        self.position += samples.len() as u64;
        if self.shared.deaf.load(Ordering::Acquire) {
            return;
        }
        let Some(mut buffer) = self.buffer(samples.len()) else {
            return self.shared.count_dropped(samples.len());
        };
        buffer.clear();
        buffer.extend_from_slice(samples);
        let frame = Queued { order: self.take_order(), position, concealed, samples: buffer };
        if let Some(oldest) = self.shared.audio.force_push(frame) {
            self.shared.give_up(oldest);
        }
        self.shared.waker.wake();
    }

    /// Passes over samples that the conversation is not to hear.
    pub(super) fn pass_over(&mut self, samples: usize) {
        self.position += samples as u64;
    }

    /// Hands an event over. `false` when so many are unread that the conversation must be taken for stalled.
    #[must_use]
    pub(super) fn push_event(&mut self, event: Event) -> bool {
        if self.shared.deaf.load(Ordering::Acquire) {
            return true;
        }
        let order = self.take_order();
        let taken = self.shared.events.push((order, event)).is_ok();
        self.shared.waker.wake();
        taken
    }

    /// Ends the line; the first reason stays.
    pub(super) fn end(&mut self, reason: EndReason) {
        let _ = self.shared.end.set(reason);
        self.shared.waker.wake();
    }

    /// What a slow conversation lost so far.
    pub(super) fn counts(&self) -> HearingCounts {
        counts(&self.shared)
    }

    fn take_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    fn buffer(&mut self, samples: usize) -> Option<Vec<i16>> {
        if let Some(buffer) = self.shared.free.pop() {
            return Some(buffer);
        }
        if let Some(left) = self.buffers_left.checked_sub(1) {
            self.buffers_left = left;
            // A frame may be stretched to nearly twice its length.
            return Some(Vec::with_capacity(samples * 2));
        }
        let oldest = self.shared.audio.pop()?;
        self.shared.count_dropped(oldest.samples.len());
        Some(oldest.samples)
    }
}

impl fmt::Debug for HearingEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HearingEnd").field("format", &self.format).finish_non_exhaustive()
    }
}

fn counts(shared: &Shared) -> HearingCounts {
    HearingCounts {
        dropped_frames: shared.dropped_frames.load(Ordering::Relaxed),
        dropped_samples: shared.dropped_samples.load(Ordering::Relaxed),
    }
}

pub(super) fn hearing(format: AudioFormat, limits: &Limits) -> (Hearing, HearingEnd) {
    let buffers = limits.hearing_frames.max(1) + limits.held_frames;
    let shared = Arc::new(Shared {
        audio: ArrayQueue::new(limits.hearing_frames.max(1)),
        events: ArrayQueue::new(limits.events.max(1)),
        free: ArrayQueue::new(buffers + 1),
        end: OnceLock::new(),
        waker: AtomicWaker::new(),
        deaf: AtomicBool::new(false),
        dropped_frames: AtomicU64::new(0),
        dropped_samples: AtomicU64::new(0),
    });
    let hearing = Hearing { shared: shared.clone(), format, next_audio: None, next_event: None, over: false };
    let end = HearingEnd { shared, format, order: 0, position: 0, buffers_left: buffers };
    (hearing, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> (Hearing, HearingEnd) {
        let limits = Limits { hearing_frames: 4, held_frames: 2, events: 8, ..Limits::default() };
        hearing(AudioFormat::HZ_8000, &limits)
    }

    fn first_sample(heard: Option<Heard>) -> i16 {
        match heard {
            Some(Heard::Audio(frame)) => frame[0],
            other => panic!("audio expected, not {other:?}"),
        }
    }

    #[test]
    fn audio_and_events_come_in_one_order() {
        let (mut hearing, mut end) = small();
        end.push_audio(&[1; 4], false);
        assert!(end.push_event(Event::Hold));
        assert!(end.push_event(Event::Resume));
        end.push_audio(&[2; 4], false);
        assert_eq!(first_sample(hearing.try_next()), 1);
        assert!(matches!(hearing.try_next(), Some(Heard::Event(Event::Hold))));
        assert!(matches!(hearing.try_next(), Some(Heard::Event(Event::Resume))));
        assert_eq!(first_sample(hearing.try_next()), 2);
        assert!(hearing.try_next().is_none());
    }

    #[test]
    fn a_slow_conversation_loses_the_oldest_audio_and_no_event() {
        let (mut hearing, mut end) = small();
        for n in 0..10 {
            end.push_audio(&[n; 4], false);
            if n % 3 == 0 {
                assert!(end.push_event(Event::Hold));
            }
        }
        end.end(EndReason::FarEnd);
        assert_eq!(end.counts(), HearingCounts { dropped_frames: 6, dropped_samples: 24 });
        let (mut audio, mut events) = (Vec::new(), 0);
        while let Some(heard) = hearing.try_next() {
            match heard {
                Heard::Audio(frame) => audio.push((frame[0], frame.position())),
                Heard::Event(Event::Hold) => events += 1,
                Heard::Event(event) => assert_eq!(event, Event::End(EndReason::FarEnd)),
            }
        }
        assert_eq!(audio, [(6, 24), (7, 28), (8, 32), (9, 36)]);
        assert_eq!(events, 4);
    }

    #[test]
    fn frames_held_back_cost_audio_and_no_memory() {
        let (mut hearing, mut end) = small();
        let mut held = Vec::new();
        for n in 0..20 {
            end.push_audio(&[n; 4], false);
            held.extend(hearing.try_next());
        }
        assert_eq!(held.len(), 6, "as many as there are buffers");
        assert_eq!(hearing.counts().dropped_frames, 14);
        held.clear();
        end.push_audio(&[99; 4], false);
        assert_eq!(first_sample(hearing.try_next()), 99);
    }

    #[test]
    fn too_many_unread_events_are_a_stall() {
        let (_hearing, mut end) = small();
        let taken = (0..20).take_while(|_| end.push_event(Event::Hold)).count();
        assert_eq!(taken, 8);
    }

    #[test]
    fn nothing_follows_the_end() {
        let (mut hearing, mut end) = small();
        end.push_audio(&[1; 4], true);
        end.end(EndReason::HungUp);
        end.end(EndReason::Failed);
        assert!(matches!(hearing.try_next(), Some(Heard::Audio(frame)) if frame.is_concealed()));
        assert!(matches!(hearing.try_next(), Some(Heard::Event(Event::End(EndReason::HungUp)))));
        assert!(hearing.try_next().is_none());
    }

    #[tokio::test]
    async fn next_wakes_from_another_thread() {
        let (mut hearing, mut end) = small();
        let pushing = std::thread::spawn(move || end.push_audio(&[7; 4], false));
        assert_eq!(first_sample(hearing.next().await), 7);
        pushing.join().unwrap();
    }

    #[test]
    fn the_order_holds_while_both_sides_run() {
        let limits = Limits { hearing_frames: 3, held_frames: 1, events: 16, ..Limits::default() };
        let (mut hearing, mut end) = hearing(AudioFormat::HZ_8000, &limits);
        let digit = |n: i16| Digit::from_event(n as u8 % 16).unwrap();
        let pushing = std::thread::spawn(move || {
            for n in 0..20_000 {
                end.push_audio(&[n], false);
                while !end.push_event(Event::Dtmf(digit(n))) {
                    std::thread::yield_now();
                }
            }
            end.end(EndReason::FarEnd);
        });
        let mut events = 0;
        loop {
            match hearing.try_next() {
                Some(Heard::Audio(frame)) => assert_eq!(frame[0], events, "every earlier event came before"),
                Some(Heard::Event(Event::Dtmf(key))) => {
                    assert!(key == digit(events));
                    events += 1;
                }
                Some(Heard::Event(_)) => break,
                None => std::thread::yield_now(),
            }
        }
        assert_eq!(events, 20_000);
        pushing.join().unwrap();
    }

    #[test]
    fn a_dropped_ear_costs_nothing() {
        let (hearing, mut end) = small();
        drop(hearing);
        for _ in 0..20 {
            end.push_audio(&[1; 4], false);
            assert!(end.push_event(Event::Hold));
        }
        assert_eq!(end.counts(), HearingCounts::default());
    }
}
