//! Collecting what the caller types, joined to the line: keys go into a [`Collector`], a secret stays one.
//!
//! In: a line whose prompt was or is being played. Out: [`Collected`].

use std::time::Instant;

use tokio::time::{Instant as TokioInstant, sleep_until};

use super::{Event, Heard, Line};
use crate::detect::collector::{Collected, Collector, Config, Source};

impl Line {
    /// Waits for an input, such as an extension or a PIN. It ends as `config` says, and is
    /// [cancelled](crate::detect::collector::Outcome::Cancelled) by the end of the line. While an input that is a secret
    /// is typed, recordings and bridges do not get the keys, nor the caller's audio
    /// ([`keep_secret`](super::Speaking::keep_secret)).
    ///
    /// Everything else that is heard meanwhile goes to `other`, in its order: stop the prompt at the first sound, keep a
    /// hold in mind, or drop it all with `|_| {}`. If dropped while waiting, the keys so far are forgotten.
    pub async fn collect(&mut self, config: Config, mut other: impl FnMut(Heard)) -> Collected {
        let _secret = config.secret.then(|| self.speaking().keep_secret());
        let mut collector = Collector::start(now(), config);
        loop {
            if let Some(collected) = collector.poll() {
                return collected;
            }
            let due = collector.poll_timeout().unwrap_or_else(now);
            tokio::select! {
                biased;
                heard = self.next() => match heard {
                    Some(Heard::Event(Event::Dtmf(digit))) => collector.handle_key(now(), digit, Source::Other),
                    Some(heard) => other(heard),
                    None => collector.cancel(),
                },
                () = sleep_until(due.into()) => collector.handle_timeout(now()),
            }
        }
    }
}

/// The runtime's clock, which may be a virtual one.
fn now() -> Instant {
    TokioInstant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{AudioFormat, EndReason, Formats, Limits, LineEnd, line};
    use crate::detect::collector::Outcome;
    use crate::rtp::telephone_event::Digit;

    fn new_line() -> (Line, LineEnd) {
        let (line, end, _commands) = line(Formats::both(AudioFormat::HZ_8000), &Limits::default());
        (line, end)
    }

    fn press(end: &mut LineEnd, keys: &str) {
        keys.chars().for_each(|key| end.give_event(Event::Dtmf(Digit::from_char(key).unwrap())));
    }

    #[tokio::test(start_paused = true)]
    async fn an_input_is_a_secret_until_it_is_over_and_the_rest_is_passed_on() {
        let (mut line, mut end) = new_line();
        end.give_audio(&[1; 160], false);
        press(&mut end, "12");
        end.give_event(Event::Hold);
        press(&mut end, "#9");
        assert!(!end.is_secret());
        let (mut others, mut kept) = (0, true);
        let collected = line
            .collect(Config::default(), |heard| {
                kept &= end.is_secret();
                others += usize::from(!matches!(heard, Heard::Event(Event::Dtmf(_))));
            })
            .await;
        assert_eq!((collected.digits.reveal(), collected.outcome), ("12", Outcome::Terminated));
        assert_eq!((others, kept), (2, true));
        assert!(!end.is_secret());
        assert!(
            matches!(line.try_next(), Some(Heard::Event(Event::Dtmf(_)))),
            "the key after the end is left"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_the_end_of_the_line_end_it() {
        let (mut line, mut end) = new_line();
        let started = TokioInstant::now();
        assert_eq!(line.collect(Config::default(), |_| {}).await.outcome, Outcome::Nothing);
        assert_eq!(started.elapsed(), Config::default().first);
        press(&mut end, "7");
        end.end(EndReason::FarEnd);
        let collected = line.collect(Config { secret: false, ..Config::default() }, |_| {}).await;
        assert_eq!((collected.digits.reveal(), collected.outcome), ("7", Outcome::Cancelled));
    }

    #[tokio::test]
    async fn an_input_that_is_given_up_is_no_secret_any_more() {
        let (mut line, end) = new_line();
        {
            let mut collecting = std::pin::pin!(line.collect(Config::default(), |_| {}));
            let polled = std::future::poll_fn(|context| {
                std::task::Poll::Ready(collecting.as_mut().poll(context).is_pending())
            });
            assert!(polled.await && end.is_secret());
        }
        assert!(!end.is_secret());
    }
}
