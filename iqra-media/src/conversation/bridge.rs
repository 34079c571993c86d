//! Two calls of one process joined, for a transfer in which the agent stays until both have met, or for as long as they
//! talk.
//!
//! In: the lines of both calls. Out: what happens on them, and how it ended. Audio and keys do not pass through here: they
//! go from media thread to media thread, see [`patch`](super::patch) for delay, drift and secrets.

use std::sync::Arc;

use super::patch::{Flow, Patch, direction};
use super::switch::Order;
use super::{EndReason, Event, Heard, Line, Speaking};

/// One of the two sides of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Party {
    /// The far end of the first line.
    First,
    /// The far end of the second line.
    Second,
}

impl Party {
    /// The side across.
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// How a bridge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bridged {
    /// Who went first.
    pub ended: Party,
    /// Why.
    pub reason: EndReason,
}

/// What passed in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// Samples, as the first party's line hears.
    pub samples: u64,
    /// Samples that were left out, because more than 300 ms waited.
    pub left_out: u64,
    /// How often the other side had to wait for audio.
    pub gaps: u64,
}

/// Two far ends that hear each other. Codecs and rates may differ. Dropping it separates them; both calls go on.
///
/// What the conversation plays on a line is heard by that line's far end together with the other party, so that an agent
/// can stay as the third: made by [`with_agent`](Self::with_agent) it hears both through [`next`](Self::next), each party
/// for itself, and [`play`](Self::play) speaks to either.
///
/// ```
/// use iqra_media::conversation::{AudioFormat, Bridge, EndReason, Formats, Limits, Party, line};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // The caller's line is the conversation's own; the expert's comes from a second call, through a `Lend`.
/// let (caller, mut caller_end, _) = line(Formats::both(AudioFormat::HZ_8000), &Limits::default());
/// let (expert, mut expert_end, _) = line(Formats::both(AudioFormat::HZ_16000), &Limits::default());
///
/// // Introduce them while both listen ...
/// let bridge = Bridge::with_agent(caller, expert);
/// bridge.play(Party::Second, &[100; 320]);
///
/// // ... and leave them alone: what a media thread hears of one side it plays to the other.
/// bridge.listen(false);
/// for _ in 0..3 {
///     caller_end.give_audio(&[100; 160], false);
///     expert_end.take_audio(&mut [0; 320]);
/// }
/// expert_end.end(EndReason::FarEnd);
/// let bridged = bridge.run().await;
/// assert_eq!((bridged.ended, bridged.reason), (Party::Second, EndReason::FarEnd));
/// # }
/// ```
#[derive(Debug)]
pub struct Bridge {
    /// Until they are given back.
    lines: Option<Box<[Line; 2]>>,
    flows: [Arc<Flow>; 2],
    over: [bool; 2],
}

impl Bridge {
    /// Joins two lines. The conversation no longer hears their audio, only their events; it may speak.
    pub fn new(first: Line, second: Line) -> Self {
        let bridge = Self::with_agent(first, second);
        bridge.listen(false);
        bridge
    }

    /// Joins two lines, and the conversation goes on hearing both.
    pub fn with_agent(first: Line, second: Line) -> Self {
        let (first_tee, second_feed, onward) = direction(first.formats().hears, second.formats().speaks);
        let (second_tee, first_feed, back) = direction(second.formats().hears, first.formats().speaks);
        let patch = |tee, feed| Order::Join(Box::new(Patch { tee, feed }));
        first.switch().order(patch(first_tee, first_feed));
        second.switch().order(patch(second_tee, second_feed));
        Self { lines: Some(Box::new([first, second])), flows: [onward, back], over: [false; 2] }
    }

    /// Whether the conversation hears the audio of both from now on.
    pub fn listen(&self, listens: bool) {
        self.flows.iter().for_each(|flow| flow.set_deaf(!listens));
    }

    /// What happens next on either line, and audio of both where the agent stayed; `None` when both are over.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<(Party, Heard)> {
        let [first, second] = &mut **self.lines.as_mut()?;
        loop {
            let (party, heard) = tokio::select! {
                heard = first.next(), if !self.over[0] => (Party::First, heard),
                heard = second.next(), if !self.over[1] => (Party::Second, heard),
                else => return None,
            };
            match heard {
                Some(heard) => return Some((party, heard)),
                None => self.over[party as usize] = true,
            }
        }
    }

    /// Runs until one side is over, then hangs the other up after what was said to it. Whoever wants to go on with the
    /// other uses [`next`](Self::next) and [`part`](Self::part).
    pub async fn run(mut self) -> Bridged {
        while let Some((ended, heard)) = self.next().await {
            if let Heard::Event(Event::End(reason)) = heard {
                let left = self.speaking(ended.other()).clone();
                drop(self);
                left.played_out().await;
                left.hang_up("the other side of the bridge is over");
                return Bridged { ended, reason };
            }
        }
        // Both were over before: nobody is left to be hung up.
        Bridged { ended: Party::First, reason: EndReason::HungUp }
    }

    /// Neither hears the other until [`resume`](Self::resume), and keys do not pass; what is played on a line is heard.
    pub fn hold(&self) {
        self.flows.iter().for_each(|flow| flow.hold(true));
    }

    /// Both hear each other again.
    pub fn resume(&self) {
        self.flows.iter().for_each(|flow| flow.hold(false));
    }

    /// The voice on a party's line.
    pub fn speaking(&self, party: Party) -> &Speaking {
        let lines = self.lines.as_ref().expect("a bridge has its lines until it is taken apart");
        lines[party as usize].speaking()
    }

    /// Says something to one party alone, in the format of its line; gives how much of it was taken. Say it to both for an
    /// agent that takes part.
    pub fn play(&self, to: Party, samples: &[i16]) -> usize {
        self.speaking(to).play(samples)
    }

    /// What passed from a party to the other.
    pub fn passed(&self, from: Party) -> Passed {
        let (samples, left_out, gaps) = self.flows[from as usize].counts();
        Passed { samples, left_out, gaps }
    }

    /// Separates both and gives the lines back, the first one first.
    pub fn part(mut self) -> (Line, Line) {
        let lines = self.lines.take().expect("a bridge has its lines until it is taken apart");
        let [first, second] = *separated(lines);
        (first, second)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.lines.take().map(separated);
    }
}

fn separated(lines: Box<[Line; 2]>) -> Box<[Line; 2]> {
    lines.iter().for_each(|line| line.switch().order(Order::Part));
    lines
}
