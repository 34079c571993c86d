//! A conversation that gives its line to somebody else: the second call of a consultation or a bridge.
//!
//! In: a line, when the call is answered. Out: the same line at [`Lent`], wherever the program waits for it.

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{ConversationSink, Formats, Line, SinkError};
use crate::sdp::Negotiated;

/// The sink of a call whose line is lent out. The call lasts until its line ends or is hung up.
#[derive(Debug)]
pub struct Lend {
    to: oneshot::Sender<Line>,
    formats: Option<Formats>,
}

/// Where the line comes out.
#[derive(Debug)]
pub struct Lent(oneshot::Receiver<Line>);

impl Lend {
    /// A sink and where its line comes out, in these formats; `None` for those of the codec.
    pub fn new(formats: Option<Formats>) -> (Self, Lent) {
        let (to, from) = oneshot::channel();
        (Self { to, formats }, Lent(from))
    }
}

impl Lent {
    /// The line once the call is answered; `None` when it never was.
    pub async fn line(self) -> Option<Line> {
        self.0.await.ok()
    }
}

#[async_trait]
impl ConversationSink for Lend {
    fn formats(&self, line: &Negotiated) -> Formats {
        self.formats.unwrap_or_else(|| Formats::of_codec(line))
    }

    async fn converse(self: Box<Self>, line: Line) -> Result<(), SinkError> {
        let speaking = line.speaking().clone();
        if self.to.send(line).is_err() {
            return Err(SinkError::new("nobody waits for this call's line any more"));
        }
        speaking.ended().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{AudioFormat, EndReason, Limits, line};

    #[tokio::test]
    async fn the_line_comes_out_and_the_call_lasts_until_its_end() {
        let (line, mut end, _commands) = line(Formats::both(AudioFormat::HZ_8000), &Limits::default());
        let (lend, lent) = Lend::new(None);
        let lending = tokio::spawn(Box::new(lend).converse(line));
        let line = lent.line().await.unwrap();
        tokio::task::yield_now().await;
        assert!(!lending.is_finished());
        assert_eq!(line.speaking().play(&[1; 160]), 160);
        end.end(EndReason::FarEnd);
        assert!(lending.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_line_that_nobody_wants_any_more_ends_the_call() {
        let (line, _end, _commands) = line(Formats::both(AudioFormat::HZ_8000), &Limits::default());
        let (lend, lent) = Lend::new(None);
        drop(lent);
        assert!(Box::new(lend).converse(line).await.is_err());
    }
}
