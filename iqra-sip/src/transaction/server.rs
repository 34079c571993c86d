//! The server transaction of every request but INVITE and ACK: the request came in, the program answers once.
//!
//! RFC 3261 §17.2.2; the figure, redrawn:
//!
//! ```text
//!        request / deliver
//!              |
//!        +-----v----+  request absorbed
//!        |  Trying  |---------------------------+
//!        +-----+----+                           | 200-699 /
//!          1xx | / send                         | send, start J
//!        +-----v------+ 200-699 /         +-----v-----+ request / send
//!  1xx,  | Proceeding | send, start J     | Completed |----+
//!  req / |            |------------------>|           |<---+
//!  send  +------------+                   +-----+-----+
//!                                             J |
//!                                         +-----v------+
//!                                         | Terminated |
//!                                         +------------+
//! ```

use super::timer::Timer;
use super::{Action, Step};

/// Where the transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

/// What can happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Request,
    Provisional,
    Final,
    Fired(Timer),
    TransportError,
}

/// One step of the machine.
pub(crate) fn step(state: State, input: Input) -> Step<State> {
    use {Action::*, Input as In, State::*};
    Some(match (state, input) {
        (Trying | Proceeding, In::Provisional) => (Proceeding, &[Send]),
        (Trying | Proceeding, In::Final) => (Completed, &[Send, Start(Timer::J)]),
        (Proceeding | Completed, In::Request) => (state, &[Send]),
        (Completed, In::Fired(Timer::J)) => (Terminated, &[]),
        (Proceeding | Completed, In::TransportError) => (Terminated, &[TransportFailed]),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::tests::table;

    #[test]
    fn the_table_is_that_of_the_rfc() {
        use {Input as In, State::*};
        let inputs = [In::Request, In::Provisional, In::Final, In::Fired(Timer::J), In::TransportError];
        let text = table(&[Trying, Proceeding, Completed, Terminated], &inputs, step);
        assert_eq!(
            text,
            "Trying + Provisional -> Proceeding [Send]\n\
             Trying + Final -> Completed [Send Start(J)]\n\
             Proceeding + Request -> Proceeding [Send]\n\
             Proceeding + Provisional -> Proceeding [Send]\n\
             Proceeding + Final -> Completed [Send Start(J)]\n\
             Proceeding + TransportError -> Terminated [TransportFailed]\n\
             Completed + Request -> Completed [Send]\n\
             Completed + Fired(J) -> Terminated []\n\
             Completed + TransportError -> Terminated [TransportFailed]\n"
        );
    }
}
