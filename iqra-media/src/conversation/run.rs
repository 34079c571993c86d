//! Runs a conversation to its end and keeps the promises of [`ConversationSink`]'s contract.
//!
//! In: the sink and its line. Out: a hang-up command with the right reason, and the outcome for the call's record.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use super::{ConversationSink, HangUpReason, Line, SinkError, Speaking};

/// How long a conversation may go on after [`Event::End`](super::Event::End).
pub const END_GRACE: Duration = Duration::from_secs(5);

enum Ending {
    Returned(Result<(), SinkError>),
    Panicked,
    Overdue,
}

/// Runs `sink` on `line`: `Ok` plays out and hangs up, `Err` and a panic hang up with the reason, and the conversation
/// is dropped when it has not returned 5 seconds after the line's end. Needs a tokio runtime with time.
///
/// # Errors
/// What the conversation returned, or that it panicked or overstayed.
pub async fn run(sink: Box<dyn ConversationSink>, line: Line) -> Result<(), SinkError> {
    let speaking = line.speaking().clone();
    let ending = tokio::select! {
        biased;
        ending = guarded(sink, line) => ending,
        () = overdue(&speaking) => Ending::Overdue,
    };
    match ending {
        Ending::Returned(Ok(())) => {
            speaking.played_out().await;
            speaking.hang_up_because(HangUpReason::Completed);
            Ok(())
        }
        Ending::Returned(Err(error)) => {
            speaking.hang_up_because(HangUpReason::Failed(error.to_string()));
            Err(error)
        }
        Ending::Panicked => {
            speaking.hang_up_because(HangUpReason::Panicked);
            Err(SinkError::new("the conversation panicked"))
        }
        Ending::Overdue => {
            Err(SinkError::new("the conversation did not return within 5 s of the end of the call"))
        }
    }
}

/// The conversation, with a panic turned into a value. The future is not polled again after one.
async fn guarded(sink: Box<dyn ConversationSink>, line: Line) -> Ending {
    let mut conversation = sink.converse(line);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| conversation.as_mut().poll(context)));
        match polled {
            Ok(poll) => poll.map(Ending::Returned),
            Err(_) => Poll::Ready(Ending::Panicked),
        }
    })
    .await
}

async fn overdue(speaking: &Speaking) {
    speaking.ended().await;
    tokio::time::sleep(END_GRACE).await;
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::conversation::{AudioFormat, Command, Commands, EndReason, Formats, Limits, LineEnd, line};
    use crate::sdp::Negotiated;

    enum Ways {
        Speaks,
        Fails,
        Panics,
        Overstays,
    }

    #[async_trait]
    impl ConversationSink for Ways {
        fn formats(&self, _line: &Negotiated) -> Formats {
            Formats::both(AudioFormat::HZ_8000)
        }

        async fn converse(self: Box<Self>, line: Line) -> Result<(), SinkError> {
            match *self {
                Self::Speaks => drop(line.speaking().play_all(&[1; 160]).await),
                Self::Fails => return Err(SinkError::new("service away")),
                Self::Panics => panic!("a bug in a conversation"),
                Self::Overstays => std::future::pending().await,
            }
            Ok(())
        }
    }

    fn new_line() -> (Line, LineEnd, Commands) {
        line(Formats::both(AudioFormat::HZ_8000), &Limits::default())
    }

    async fn hang_up_of(way: Ways) -> HangUpReason {
        let (line, mut end, mut commands) = new_line();
        let playing = async {
            loop {
                end.take_audio(&mut [0; 160]);
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            command = async { drop(run(Box::new(way), line).await); commands.next().await } => match command {
                Some(Command::HangUp(reason)) => reason,
                other => panic!("a hang-up expected, not {other:?}"),
            },
            () = playing => unreachable!(),
        }
    }

    #[tokio::test]
    async fn each_ending_hangs_up_with_its_reason() {
        assert_eq!(hang_up_of(Ways::Speaks).await, HangUpReason::Completed);
        assert_eq!(hang_up_of(Ways::Fails).await, HangUpReason::Failed("service away".into()));
        assert_eq!(hang_up_of(Ways::Panics).await, HangUpReason::Panicked);
    }

    #[tokio::test]
    async fn ok_waits_until_everything_was_played() {
        let (line, mut end, mut commands) = new_line();
        let running = tokio::spawn(run(Box::new(Ways::Speaks), line));
        let mut out = [0; 80];
        while end.take_audio(&mut out) == 0 {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        assert!(!running.is_finished(), "half of it is still to be played");
        end.take_audio(&mut out);
        assert!(running.await.unwrap().is_ok());
        assert!(matches!(commands.next().await, Some(Command::HangUp(HangUpReason::Completed))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_that_overstays_is_dropped_after_five_seconds() {
        let (line, mut end, _commands) = new_line();
        let started = tokio::time::Instant::now();
        end.end(EndReason::FarEnd);
        assert!(run(Box::new(Ways::Overstays), line).await.is_err());
        assert_eq!(started.elapsed(), END_GRACE);
    }
}
