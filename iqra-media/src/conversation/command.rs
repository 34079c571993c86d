//! What a conversation asks of its call, carried out by the leg's owner: media knows no signalling.
//!
//! In: [`Speaking::hang_up`](super::Speaking::hang_up), [`Speaking::transfer`](super::Speaking::transfer), and the
//! media session itself where a call cannot go on. Out: [`Commands::next`] at the leg's owner.

use std::fmt;

use tokio::sync::{mpsc, oneshot};

/// Something that the leg's owner has to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// End the call. Asked at most once per call.
    HangUp(HangUpReason),
    /// Transfer the far end, for SIP by REFER (RFC 3515); then answer through `reply`.
    Transfer {
        /// Where to.
        target: TransferTarget,
        /// Takes the outcome; dropping it counts as [`TransferOutcome::Unsupported`].
        reply: TransferReply,
    },
}

/// Why a call is to be hung up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HangUpReason {
    /// The conversation is over and everything that it said was played.
    Completed,
    /// The conversation asked for it, with its own words.
    Asked(String),
    /// The conversation returned an error.
    Failed(String),
    /// The conversation panicked.
    Panicked,
    /// The conversation left too many events unread: it hangs.
    Stalled,
    /// No media came for too long.
    MediaTimeout,
    /// The media could not be protected as was agreed; why.
    MediaSecurity(String),
}

impl fmt::Display for HangUpReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("conversation completed"),
            Self::Asked(words) => write!(f, "conversation hung up: {words}"),
            Self::Failed(error) => write!(f, "conversation failed: {error}"),
            Self::Panicked => f.write_str("conversation panicked"),
            Self::Stalled => f.write_str("conversation stalled"),
            Self::MediaTimeout => f.write_str("no media received"),
            Self::MediaSecurity(why) => f.write_str(why),
        }
    }
}

/// A SIP URI or a number to transfer to; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct TransferTarget(String);

impl TransferTarget {
    pub(super) fn new(target: String) -> Self {
        Self(target)
    }

    /// The target as the conversation wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TransferTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TransferTarget(..)")
    }
}

/// What became of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferOutcome {
    /// The target answered; this leg ends.
    Completed,
    /// The target or the far end refused, with the SIP status where there is one; the call goes on here.
    Refused {
        /// The final status, such as 486 for busy.
        status: Option<u16>,
    },
    /// This kind of leg cannot transfer.
    Unsupported,
    /// The call ended first.
    Ended,
}

/// Takes the outcome of one transfer.
#[derive(Debug)]
pub struct TransferReply(oneshot::Sender<TransferOutcome>);

impl TransferReply {
    /// Tells the conversation. One that no longer waits is no error.
    pub fn send(self, outcome: TransferOutcome) {
        let _ = self.0.send(outcome);
    }
}

/// The leg owner's end: what the conversation asks for, in order.
///
/// The queue needs no limit of its own: a line holds at most one hang-up and one unanswered transfer per clone that
/// waits for it.
#[derive(Debug)]
pub struct Commands(mpsc::UnboundedReceiver<Command>);

impl Commands {
    /// The next command; `None` once the conversation and the media session are both gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Command> {
        self.0.recv().await
    }
}

/// The asking side.
#[derive(Debug, Clone)]
pub(super) struct Asking(mpsc::UnboundedSender<Command>);

impl Asking {
    pub(super) fn ask(&self, command: Command) {
        let _ = self.0.send(command);
    }

    pub(super) async fn transfer(&self, target: TransferTarget) -> TransferOutcome {
        let (reply, outcome) = oneshot::channel();
        if self.0.send(Command::Transfer { target, reply: TransferReply(reply) }).is_err() {
            return TransferOutcome::Ended;
        }
        outcome.await.unwrap_or(TransferOutcome::Unsupported)
    }
}

pub(super) fn channel() -> (Asking, Commands) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Asking(sender), Commands(receiver))
}
