//! Asking for consent before a call is recorded: a prompt, then the recording, if the far end stays or presses a key.
//!
//! In: a line whose recording waits ([`Start::Allowed`](crate::session::recording::Start::Allowed)). Out: an [`Answer`],
//! and a recording that has begun if it is [`Answer::Given`].

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Event, Heard, Line, Mark, Speaking};
use crate::rtp::telephone_event::Digit;

/// What counts as consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The prompt was heard to its end, and the far end stayed on the line.
    Staying,
    /// A key was pressed.
    Key(Digit),
    /// Either: who knows the prompt may press the key before its end.
    StayingOrKey(Digit),
}

impl By {
    fn key(self) -> Option<Digit> {
        match self {
            Self::Staying => None,
            Self::Key(digit) | Self::StayingOrKey(digit) => Some(digit),
        }
    }
}

/// What became of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Consent; the recording begins.
    Given,
    /// The key of refusal was pressed: no recording.
    Refused,
    /// No key was pressed in time, or the prompt was cut off: no recording.
    None,
    /// The call is over.
    Ended,
}

/// Asks the far end whether it may be recorded.
#[derive(Debug, Clone)]
pub struct Consent {
    /// What is played, in the format that the line speaks.
    pub prompt: Vec<i16>,
    /// What counts as consent. Default [`By::Staying`].
    pub by: By,
    /// The key that refuses. Default none.
    pub refusal: Option<Digit>,
    /// How long after the prompt's end a key may be pressed. Default 10 s.
    pub wait: Duration,
    /// How long the whole may take, holds included. Default 2 min.
    pub limit: Duration,
}

impl Consent {
    /// Consent by staying on the line after this prompt.
    pub fn new(prompt: Vec<i16>) -> Self {
        Self {
            prompt,
            by: By::Staying,
            refusal: None,
            wait: Duration::from_secs(10),
            limit: Duration::from_secs(120),
        }
    }

    /// Plays the prompt and waits for the answer; begins the recording where it is [`Answer::Given`]. A key stops the
    /// prompt. Everything else that is heard meanwhile goes to `other`.
    ///
    /// A prompt counts as heard when its last packet has left. One that another task
    /// [clears](Speaking::clear) was not heard.
    pub async fn ask(&self, line: &mut Line, mut other: impl FnMut(Heard)) -> Answer {
        let voice = line.speaking().new_utterance();
        let answer = tokio::select! {
            biased;
            answer = self.answer(line, &voice, &mut other) => answer,
            () = tokio::time::sleep(self.limit) => Answer::None,
        };
        if answer == Answer::Given {
            voice.allow_recording();
        }
        answer
    }

    async fn answer(&self, line: &mut Line, voice: &Speaking, other: &mut impl FnMut(Heard)) -> Answer {
        let mut saying = std::pin::pin!(self.say(voice));
        let mut said = false;
        let mut mark = None;
        let mut due = Instant::now() + self.limit;
        loop {
            tokio::select! {
                biased;
                marked = &mut saying, if !said => (said, mark) = (true, marked),
                heard = line.next() => match heard {
                    Some(Heard::Event(Event::Dtmf(digit))) if self.is_meant(digit) => {
                        voice.clear().await;
                        return if Some(digit) == self.refusal { Answer::Refused } else { Answer::Given };
                    }
                    Some(Heard::Event(Event::Mark(reached))) if said && Some(reached) == mark => match self.by {
                        By::Key(_) => due = Instant::now() + self.wait,
                        By::Staying | By::StayingOrKey(_) => return Answer::Given,
                    },
                    Some(heard) => other(heard),
                    None => return Answer::Ended,
                },
                () = sleep_until(due) => return Answer::None,
            }
        }
    }

    /// The mark behind the whole prompt; none if it was cut off.
    async fn say(&self, voice: &Speaking) -> Option<Mark> {
        let taken = voice.play_all(&self.prompt).await;
        if taken < self.prompt.len() { None } else { voice.mark().await }
    }

    fn is_meant(&self, digit: Digit) -> bool {
        self.by.key() == Some(digit) || self.refusal == Some(digit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{AudioFormat, EndReason, Formats, Limits, LineEnd, RecordingWish, line};

    fn key(label: char) -> Digit {
        Digit::from_char(label).unwrap()
    }

    /// Asks, while the far end does what it does at each packet; gives the answer, whether the recording was allowed
    /// after it, and how many packets were played.
    async fn asked(consent: Consent, mut far: impl FnMut(&mut LineEnd, usize)) -> (Answer, bool, usize) {
        let (mut line, mut end, _commands) = line(Formats::both(AudioFormat::HZ_8000), &Limits::default());
        let mut packets = 0;
        let playing = async {
            for n in 0.. {
                far(&mut end, n);
                assert_eq!(end.recording(), RecordingWish::default(), "not before the answer");
                packets += usize::from(end.take_audio(&mut [0; 160]) > 0);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let answer = tokio::select! {
            biased;
            answer = consent.ask(&mut line, |_| {}) => answer,
            () = playing => unreachable!(),
        };
        (answer, end.recording().allowed, packets)
    }

    /// A second.
    fn prompt() -> Consent {
        Consent { refusal: Some(key('9')), ..Consent::new(vec![1; 8_000]) }
    }

    #[tokio::test(start_paused = true)]
    async fn who_stays_has_heard_all_of_it() {
        assert_eq!(asked(prompt(), |_, _| {}).await, (Answer::Given, true, 50));
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_is_not_recorded() {
        let goes = |end: &mut LineEnd, n| {
            if n == 20 {
                end.end(EndReason::FarEnd);
            }
        };
        let (answer, allowed, _) = asked(prompt(), goes).await;
        assert_eq!((answer, allowed), (Answer::Ended, false));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_decide_where_they_are_asked_for() {
        for (by, pressed, at, expected) in [
            (By::Key(key('1')), '1', 20, Answer::Given),
            (By::Key(key('1')), '1', 100, Answer::Given),
            (By::Key(key('1')), '9', 20, Answer::Refused),
            (By::Key(key('1')), '5', 20, Answer::None),
            (By::Key(key('1')), '1', 600, Answer::None),
            (By::StayingOrKey(key('1')), '1', 20, Answer::Given),
            (By::StayingOrKey(key('1')), '5', 20, Answer::Given),
            (By::Staying, '9', 20, Answer::Refused),
        ] {
            let press = |end: &mut LineEnd, n| {
                if n == at {
                    end.give_event(Event::Dtmf(key(pressed)));
                }
            };
            let (answer, allowed, _) = asked(Consent { by, ..prompt() }, press).await;
            assert_eq!((answer, allowed), (expected, expected == Answer::Given), "{by:?} {pressed} {at}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_prompt_that_was_cut_off_was_not_heard() {
        let (mut line, mut end, _commands) = line(Formats::both(AudioFormat::HZ_8000), &Limits::default());
        let voice = line.speaking().clone();
        let playing = async {
            for n in 0.. {
                end.take_audio(&mut [0; 160]);
                if n == 10 {
                    let voice = voice.clone();
                    tokio::spawn(async move { voice.clear().await });
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let consent = prompt();
        tokio::select! {
            answer = consent.ask(&mut line, |_| {}) => assert_eq!(answer, Answer::None),
            () = playing => unreachable!(),
        }
        assert!(!end.recording().allowed);
    }
}
