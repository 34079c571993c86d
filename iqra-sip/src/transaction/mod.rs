//! Transactions: the layer that makes one event of many retransmissions (RFC 3261 §17, with RFC 6026).
//!
//! On a call's path it stands between the wire ([`crate::engine`] parses and matches) and the dialog. Each of the
//! four machines is a pure table, `step(state, input) -> (state, actions)`: it knows no bytes, no clock and no
//! reliability; the engine carries the actions out and [`timer`] says how long each timer runs on the transport.

pub(crate) mod client;
pub(crate) mod invite_client;
pub(crate) mod invite_server;
pub(crate) mod key;
pub(crate) mod server;
pub(crate) mod timer;

use timer::Timer;

/// What a machine asks of the engine. Carried out in the order given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Put the transaction's newest message on the wire (again).
    Send,
    /// Make and send a 100 (Trying).
    SendTrying,
    /// Make and send the ACK of a final response other than 2xx (RFC 3261 §17.1.1.3).
    SendAck,
    /// Hand the message that caused this step to the layer above.
    Deliver,
    /// Start a timer at its first interval.
    Start(Timer),
    /// Start a retransmission timer at its next, longer interval.
    Again(Timer),
    /// Start a retransmission timer at its longest interval, T2.
    AgainAtT2(Timer),
    /// Stop a timer.
    Stop(Timer),
    /// Tell the layer above that the peer never answered.
    TimedOut,
    /// Tell the layer above that the transport could not send.
    TransportFailed,
}

/// A step: the next state, and what to do; `None` where the input is absorbed.
pub(crate) type Step<S> = Option<(S, &'static [Action])>;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fmt::{Debug, Write};

    /// The whole table as text, one line for each pair that is not absorbed.
    pub(crate) fn table<S: Debug + Copy, I: Debug + Copy>(
        states: &[S],
        inputs: &[I],
        step: fn(S, I) -> Step<S>,
    ) -> String {
        let mut text = String::new();
        for &state in states {
            for &input in inputs {
                if let Some((next, actions)) = step(state, input) {
                    let names: Vec<_> = actions.iter().map(|a| format!("{a:?}")).collect();
                    writeln!(text, "{state:?} + {input:?} -> {next:?} [{}]", names.join(" ")).unwrap();
                }
            }
        }
        text
    }
}
