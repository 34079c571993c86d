//! The leg owner's handle on one call's media.
//!
//! In: what the conversation asks for ([`Leg::next_command`]) and what the media was like. Out: re-negotiations and
//! the end, carried to the media thread. The leg's life is the call's: dropping it closes the session and frees the
//! port.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::call::{CallId, SharedReport, Word};
use super::driver::Inner;
use super::thread::{Order, Orders};
use crate::conversation::{Command, Commands, EndReason, Formats, Speaking};
use crate::quality::MediaReport;
use crate::rtp::telephone_event::Digit;
use crate::sdp::Negotiated;
use crate::session::PlanError;

/// One call's media, as the signalling side sees it.
pub struct Leg {
    pub(super) id: CallId,
    pub(super) orders: Orders,
    pub(super) commands: Commands,
    pub(super) speaking: Speaking,
    pub(super) report: SharedReport,
    pub(super) formats: Formats,
    /// Keeps the threads alive while a call is.
    pub(super) driver: Arc<Inner>,
}

impl Leg {
    /// What the conversation, or the media session itself, asks of the call; `None` once neither can ask any more.
    /// Cancel-safe.
    pub async fn next_command(&mut self) -> Option<Command> {
        self.commands.next().await
    }

    /// Takes over a re-INVITE or UPDATE: hold, another address, packet time or codec, a restart of ICE.
    ///
    /// # Errors
    /// [`PlanError`] when the codec is not among the driver's; the session then goes on as before.
    pub fn update(&self, negotiated: Negotiated) -> Result<(), PlanError> {
        let plan = self.driver.parts.plan(negotiated, self.formats, Instant::now())?;
        self.tell(Word::Update(Box::new(plan)));
        Ok(())
    }

    /// The call is answered, where [`Detect::early`](crate::session::Detect::early) said that it was not yet.
    pub fn answered(&self) {
        self.tell(Word::Answered);
    }

    /// A key of the far end that came beside the media, as in the body of an INFO. A press that comes in the media too is
    /// heard once.
    pub fn press(&self, digit: Digit) {
        self.tell(Word::Press(digit));
    }

    /// Tells the conversation that the call is over; it has 5 seconds to return. The first reason stays.
    pub fn end(&self, reason: EndReason) {
        self.tell(Word::End(reason));
    }

    /// Waits until everything spoken so far was played.
    pub async fn played_out(&self) {
        self.speaking.played_out().await;
    }

    /// The quality so far, at most a tenth of a second old.
    pub fn report(&self) -> MediaReport {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the session, frees the port, and gives the final report.
    pub async fn close(self) -> MediaReport {
        let (reply, closed) = oneshot::channel();
        self.order(Order::Close(self.id, Some(reply)));
        match closed.await {
            Ok(report) => report,
            Err(_) => self.report(),
        }
    }

    fn tell(&self, word: Word) {
        self.order(Order::To(self.id, word));
    }

    /// A thread that is gone has closed its calls.
    fn order(&self, order: Order) {
        self.orders.send(order);
    }
}

impl std::fmt::Debug for Leg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leg").field("id", &self.id).field("driver", &self.driver).finish_non_exhaustive()
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.order(Order::Close(self.id, None));
    }
}
