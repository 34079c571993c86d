//! The INVITE client transaction: we send an INVITE, repeat it, and take its answers.
//!
//! RFC 3261 §17.1.1 as amended by RFC 6026 §7.2 (the Accepted state); the figure, redrawn:
//!
//! ```text
//!                 INVITE from the program / send, start A, B
//!                        |
//!   A / send,     +------v-----+  B / timed out
//!   again     +---|  Calling   |-------------------------------+
//!             +-->+-+---+----+-+                               |
//!       300-699 /   |   |    | 2xx / deliver, start M          |
//!       ACK, deliver|   |1xx +-----------------+               |
//!       start D     |   | / deliver, start Ring|               |
//!                   | +-v----------+           |               |
//!                   | | Proceeding |---------->|               |
//!                   | +-+----------+ 2xx       |               |
//!                   |   | 300-699              |               |
//!            +------v---v+             +-------v--+            |
//!  300-699 / | Completed |             | Accepted | 2xx /      |
//!  ACK       +------+----+             +----+-----+ deliver    |
//!                 D |                     M |                  |
//!            +------v-----------------------v------------------v+
//!            |                    Terminated                    |
//!            +--------------------------------------------------+
//! ```
//! A 2xx that comes in Completed, from another branch of a fork, is delivered too: whoever sent it has to be hung up.
//! Two waits are ours: Ring bounds Proceeding, and Cancelled ends it when a CANCEL brought no final response
//! (RFC 3261 §9.1).

use super::timer::Timer;
use super::{Action, Step};

/// Where the transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Calling,
    Proceeding,
    Completed,
    Accepted,
    Terminated,
}

/// What can happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Provisional,
    Success,
    Failure,
    /// The program cancelled and the CANCEL has been sent.
    CancelSent,
    Fired(Timer),
    TransportError,
}

/// One step of the machine. `Fired(Ring)` is answered by the engine, which cancels.
pub(crate) fn step(state: State, input: Input) -> Step<State> {
    use {Action::*, Input as In, State::*, Timer::*};
    Some(match (state, input) {
        (Calling, In::Fired(A)) => (Calling, &[Send, Again(A)]),
        (Calling, In::Fired(B)) => (Terminated, &[TimedOut]),
        (Calling, In::Provisional) => (Proceeding, &[Stop(A), Start(Ring), Deliver]),
        (Proceeding, In::Provisional) => (Proceeding, &[Deliver]),
        (Proceeding, In::CancelSent) => (Proceeding, &[Start(Cancelled)]),
        (Proceeding, In::Fired(Cancelled)) => (Terminated, &[TimedOut]),
        (Calling | Proceeding, In::Success) => (Accepted, &[Stop(A), Start(M), Deliver]),
        (Calling | Proceeding, In::Failure) => (Completed, &[Stop(A), SendAck, Start(D), Deliver]),
        (Calling, In::TransportError) => (Terminated, &[TransportFailed]),
        (Completed, In::Failure) => (Completed, &[SendAck]),
        (Completed, In::Success) => (Completed, &[Deliver]),
        (Completed, In::TransportError) => (Terminated, &[]),
        (Completed, In::Fired(D)) | (Accepted, In::Fired(M)) => (Terminated, &[]),
        (Accepted, In::Success) => (Accepted, &[Deliver]),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::tests::table;

    #[test]
    fn the_table_is_that_of_the_rfcs() {
        use {Input as In, State::*};
        let fired = [Timer::A, Timer::B, Timer::D, Timer::M, Timer::Cancelled].map(In::Fired);
        let wire = [In::Provisional, In::Success, In::Failure, In::CancelSent, In::TransportError];
        let inputs: Vec<_> = wire.into_iter().chain(fired).collect();
        let text = table(&[Calling, Proceeding, Completed, Accepted, Terminated], &inputs, step);
        assert_eq!(
            text,
            "Calling + Provisional -> Proceeding [Stop(A) Start(Ring) Deliver]\n\
             Calling + Success -> Accepted [Stop(A) Start(M) Deliver]\n\
             Calling + Failure -> Completed [Stop(A) SendAck Start(D) Deliver]\n\
             Calling + TransportError -> Terminated [TransportFailed]\n\
             Calling + Fired(A) -> Calling [Send Again(A)]\n\
             Calling + Fired(B) -> Terminated [TimedOut]\n\
             Proceeding + Provisional -> Proceeding [Deliver]\n\
             Proceeding + Success -> Accepted [Stop(A) Start(M) Deliver]\n\
             Proceeding + Failure -> Completed [Stop(A) SendAck Start(D) Deliver]\n\
             Proceeding + CancelSent -> Proceeding [Start(Cancelled)]\n\
             Proceeding + Fired(Cancelled) -> Terminated [TimedOut]\n\
             Completed + Success -> Completed [Deliver]\n\
             Completed + Failure -> Completed [SendAck]\n\
             Completed + TransportError -> Terminated []\n\
             Completed + Fired(D) -> Terminated []\n\
             Accepted + Success -> Accepted [Deliver]\n\
             Accepted + Fired(M) -> Terminated []\n"
        );
    }
}
