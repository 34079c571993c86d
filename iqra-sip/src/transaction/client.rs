//! The client transaction of every request but INVITE and ACK: we send it, repeat it, and take one final answer.
//!
//! RFC 3261 §17.1.2; the figure, redrawn:
//!
//! ```text
//!             request from the program / send, start E, F
//!                    |
//!  E / send,  +------v-----+  F / timed out
//!  again  +---|   Trying   |----------------------------+
//!         +-->+-+--------+-+                            |
//!           1xx |        | 200-699 / deliver, start K   |
//!     / deliver |        +---------------+              |
//!             +-v----------+             |              |
//!  E / send,  | Proceeding |-------------+--- F --------+
//!  again at T2|            | 200-699     |              |
//!             +------------+       +-----v-----+        |
//!                                  | Completed |        |
//!                                  +-----+-----+        |
//!                                      K |              |
//!                                  +-----v--------------v+
//!                                  |      Terminated     |
//!                                  +---------------------+
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
    Provisional,
    Final,
    Fired(Timer),
    TransportError,
}

/// One step of the machine.
pub(crate) fn step(state: State, input: Input) -> Step<State> {
    use {Action::*, Input as In, State::*, Timer::*};
    Some(match (state, input) {
        (Trying, In::Fired(E)) => (Trying, &[Send, Again(E)]),
        (Proceeding, In::Fired(E)) => (Proceeding, &[Send, AgainAtT2(E)]),
        (Trying | Proceeding, In::Fired(F)) => (Terminated, &[TimedOut]),
        (Trying | Proceeding, In::Provisional) => (Proceeding, &[Deliver]),
        (Trying | Proceeding, In::Final) => (Completed, &[Stop(E), Start(K), Deliver]),
        (Trying | Proceeding, In::TransportError) => (Terminated, &[TransportFailed]),
        (Completed, In::Fired(K)) => (Terminated, &[]),
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
        let fired = [Timer::E, Timer::F, Timer::K].map(In::Fired);
        let inputs: Vec<_> =
            [In::Provisional, In::Final, In::TransportError].into_iter().chain(fired).collect();
        let text = table(&[Trying, Proceeding, Completed, Terminated], &inputs, step);
        assert_eq!(
            text,
            "Trying + Provisional -> Proceeding [Deliver]\n\
             Trying + Final -> Completed [Stop(E) Start(K) Deliver]\n\
             Trying + TransportError -> Terminated [TransportFailed]\n\
             Trying + Fired(E) -> Trying [Send Again(E)]\n\
             Trying + Fired(F) -> Terminated [TimedOut]\n\
             Proceeding + Provisional -> Proceeding [Deliver]\n\
             Proceeding + Final -> Completed [Stop(E) Start(K) Deliver]\n\
             Proceeding + TransportError -> Terminated [TransportFailed]\n\
             Proceeding + Fired(E) -> Proceeding [Send AgainAtT2(E)]\n\
             Proceeding + Fired(F) -> Terminated [TimedOut]\n\
             Completed + Fired(K) -> Terminated []\n"
        );
    }
}
