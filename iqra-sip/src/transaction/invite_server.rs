//! The INVITE server transaction: an INVITE came in, the program answers, the ACK ends it.
//!
//! RFC 3261 §17.2.1 as amended by RFC 6026 §7.1 (the Accepted state); the figure, redrawn:
//!
//! ```text
//!                      INVITE / deliver, start AutoTrying
//!                               |
//!                      +--------v---------+ INVITE, 1xx / send
//!                      |    Proceeding    |----+
//!                      |                  |<---+
//!                      +-+--------------+-+
//!        300-699 / send  |              | 2xx / send, start L
//!        start G, H      |              |
//!                 +------v-----+   +----v-----+ ACK / deliver; 2xx / send
//!   INVITE, G     |  Completed |   | Accepted |----+
//!     / send  +---|            |   |          |<---+  INVITE absorbed
//!             +-->+--+------+--+   +----+-----+
//!            ACK /   |      | H /       | L
//!            start I |      | timed out |
//!              +-----v---+  |           |
//!              |Confirmed|  |           |
//!              +-----+---+  |           |
//!                  I |      |           |
//!              +-----v------v-----------v+
//!              |        Terminated       |
//!              +-------------------------+
//! ```

use super::timer::Timer;
use super::{Action, Step};

/// Where the transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
    Terminated,
}

/// What can happen to it: from the wire, from the program, from the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Invite,
    Ack,
    Provisional,
    Success,
    Failure,
    Fired(Timer),
    TransportError,
}

/// One step of the machine.
pub(crate) fn step(state: State, input: Input) -> Step<State> {
    use {Action::*, Input as In, State::*, Timer::*};
    Some(match (state, input) {
        (Proceeding, In::Invite) => (Proceeding, &[Send]),
        (Proceeding, In::Provisional) => (Proceeding, &[Stop(AutoTrying), Send]),
        (Proceeding, In::Fired(AutoTrying)) => (Proceeding, &[SendTrying]),
        (Proceeding, In::Success) => (Accepted, &[Stop(AutoTrying), Send, Start(L)]),
        (Proceeding, In::Failure) => (Completed, &[Stop(AutoTrying), Send, Start(G), Start(H)]),
        (Proceeding, In::TransportError) => (Terminated, &[TransportFailed]),
        (Completed, In::Invite) => (Completed, &[Send]),
        (Completed, In::Fired(G)) => (Completed, &[Send, Again(G)]),
        (Completed, In::Ack) => (Confirmed, &[Stop(G), Start(I)]),
        (Completed, In::Fired(H)) => (Terminated, &[TimedOut]),
        (Completed, In::TransportError) => (Terminated, &[TransportFailed]),
        (Confirmed, In::Fired(I)) => (Terminated, &[]),
        (Accepted, In::Success) => (Accepted, &[Send]),
        (Accepted, In::Ack) => (Accepted, &[Deliver]),
        (Accepted, In::Fired(L)) => (Terminated, &[]),
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
        let fired = [Timer::AutoTrying, Timer::G, Timer::H, Timer::I, Timer::L].map(In::Fired);
        let wire = [In::Invite, In::Ack, In::Provisional, In::Success, In::Failure, In::TransportError];
        let inputs: Vec<_> = wire.into_iter().chain(fired).collect();
        let text = table(&[Proceeding, Completed, Confirmed, Accepted, Terminated], &inputs, step);
        assert_eq!(
            text,
            "Proceeding + Invite -> Proceeding [Send]\n\
             Proceeding + Provisional -> Proceeding [Stop(AutoTrying) Send]\n\
             Proceeding + Success -> Accepted [Stop(AutoTrying) Send Start(L)]\n\
             Proceeding + Failure -> Completed [Stop(AutoTrying) Send Start(G) Start(H)]\n\
             Proceeding + TransportError -> Terminated [TransportFailed]\n\
             Proceeding + Fired(AutoTrying) -> Proceeding [SendTrying]\n\
             Completed + Invite -> Completed [Send]\n\
             Completed + Ack -> Confirmed [Stop(G) Start(I)]\n\
             Completed + TransportError -> Terminated [TransportFailed]\n\
             Completed + Fired(G) -> Completed [Send Again(G)]\n\
             Completed + Fired(H) -> Terminated [TimedOut]\n\
             Confirmed + Fired(I) -> Terminated []\n\
             Accepted + Ack -> Accepted [Deliver]\n\
             Accepted + Success -> Accepted [Send]\n\
             Accepted + Fired(L) -> Terminated []\n"
        );
    }
}
