//! Why a message was not served: one list of reasons, each with its counter, its label and what it means.
//!
//! Goes in: a reason, from the guard or the engine. Comes out: counters that only grow, for metrics, and at most one
//! log line a second for each reason, so that a flood does not become a flood of logs.

use std::time::{Duration, Instant};

use crate::engine::flow::Flow;

/// How often one reason is logged.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Why a message was dropped, or refused without a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// It could neither be parsed nor answered.
    Malformed,
    /// It could not be parsed and was answered so.
    Refused,
    /// A stream carried what is no message.
    Unframed,
    /// A connection that agreed on neither TLS nor WebSocket.
    Handshake,
    /// A response to no request of ours.
    StrayResponse,
    /// A response that answers a request of ours, but not as that left: its topmost Via is not ours, it has another one,
    /// or it came in the clear to what left by TLS.
    MisroutedResponse,
    /// An ACK of nothing that we answered.
    StrayAck,
    /// A request answered 481: it claims to be inside a dialog, or to cancel a request, and there is none.
    NoDialog,
    /// A request answered 503: a limit of the state is reached.
    Full,
    /// A response of one branch too many; a 2xx is acknowledged and hung up all the same.
    Forks,
    /// A request inside a dialog whose Route names this proxy and may not pass it.
    Unroutable,
    /// The ACK of a relayed call whose next hop is a name, while too many are looked up.
    Lookups,
    /// The source is banned.
    Banned,
    /// Too many new requests from one source.
    RateNew,
    /// Too many requests inside dialogs from one source.
    RateDialog,
    /// Too many responses from one source.
    RateResponse,
    /// Too many new requests from everybody.
    RateTotal,
    /// Too many STUN requests from one source.
    RateKeepAlive,
    /// It looks like a scanner.
    Scanner,
    /// A new request answered 503: the program does not keep up, or the tables fill.
    Shed,
    /// A new request that was not looked at: more datagrams come than are read.
    Behind,
}

/// What stands in the table of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropRow {
    /// The name in metrics and logs.
    pub label: &'static str,
    /// What it means and what to do about it.
    pub help: &'static str,
}

impl DropReason {
    /// Every reason, in the order of the table.
    pub const ALL: [DropReason; 21] = [
        DropReason::Malformed,
        DropReason::Refused,
        DropReason::Unframed,
        DropReason::Handshake,
        DropReason::StrayResponse,
        DropReason::MisroutedResponse,
        DropReason::StrayAck,
        DropReason::NoDialog,
        DropReason::Full,
        DropReason::Forks,
        DropReason::Unroutable,
        DropReason::Lookups,
        DropReason::Banned,
        DropReason::RateNew,
        DropReason::RateDialog,
        DropReason::RateResponse,
        DropReason::RateTotal,
        DropReason::RateKeepAlive,
        DropReason::Scanner,
        DropReason::Shed,
        DropReason::Behind,
    ];

    /// Its row of the table.
    #[must_use]
    pub const fn row(self) -> DropRow {
        let (label, help) = match self {
            DropReason::Malformed => {
                ("malformed", "could be neither parsed nor answered; trace the source to see what it sends")
            }
            DropReason::Unframed => (
                "unframed",
                "a stream carried what is no message and was closed; trace the source to see what it sends",
            ),
            DropReason::Handshake => (
                "handshake",
                "agreed on neither TLS nor WebSocket: a scanner, or a peer with other versions or certificates",
            ),
            DropReason::StrayResponse => {
                ("stray_response", "answers no request of ours: it came late, twice, or is forged")
            }
            DropReason::MisroutedResponse => (
                "misrouted_response",
                "its Via is not ours, it has a second one, or it came in the clear to what left by TLS",
            ),
            DropReason::Refused => {
                ("refused", "could not be parsed and was answered why; trace the source to see what it sends")
            }
            DropReason::NoDialog => (
                "no_dialog",
                "answered 481: claims a call that is not here, which is over or was never begun",
            ),
            DropReason::RateTotal => (
                "rate_total",
                "all sources together start more than total_requests allows: list peers or raise it",
            ),
            DropReason::RateKeepAlive => {
                ("rate_keep_alive", "the source sends more STUN than its rate allows: raise keep_alives")
            }
            DropReason::Behind => (
                "behind",
                "a new request in a datagram while more come than are read: spread or stop the flood",
            ),
            DropReason::StrayAck => ("stray_ack", "acknowledges nothing that we answered: its call is over"),
            DropReason::Full => ("full", "answered 503: raise max_transactions or max_dialogs"),
            DropReason::Forks => {
                ("forks", "one INVITE was answered by more than max_forks branches; their 2xx are hung up")
            }
            DropReason::Unroutable => (
                "unroutable",
                "may not pass this proxy: its Route is no Record-Route of the pool, or leads nowhere",
            ),
            DropReason::Lookups => (
                "lookups",
                "an ACK to a name, while max_ack_lookups are looked up: see whether the DNS answers",
            ),
            DropReason::Banned => ("banned", "the source is banned; allow it if it is a peer of yours"),
            DropReason::RateNew => {
                ("rate_new", "the source starts more than its rate allows: allow it or raise new_requests")
            }
            DropReason::RateDialog => {
                ("rate_dialog", "the source sends more inside dialogs than its rate allows: raise in_dialog")
            }
            DropReason::RateResponse => {
                ("rate_response", "the source answers more than its rate allows: raise responses")
            }
            DropReason::Scanner => {
                ("scanner", "matches a scanner's signature; change the signatures if it is a phone")
            }
            DropReason::Shed => (
                "shed",
                "answered 503 with Retry-After: the program does not keep up, or max_transactions is near",
            ),
        };
        DropRow { label, help }
    }
}

impl DropReason {
    /// True where the guard kept it away, so that nobody but the guard has seen it.
    pub(crate) const fn is_of_guard(self) -> bool {
        use DropReason::{
            Banned, Behind, RateDialog, RateKeepAlive, RateNew, RateResponse, RateTotal, Scanner, Shed,
        };
        matches!(
            self,
            Banned
                | Behind
                | RateDialog
                | RateKeepAlive
                | RateNew
                | RateResponse
                | RateTotal
                | Scanner
                | Shed
        )
    }
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.row().label)
    }
}

/// How many messages were dropped, by reason; each only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped([u64; DropReason::ALL.len()]);

impl Dropped {
    /// How many for this reason.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason with its count, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().zip(self.0)
    }

    /// These and those of another engine.
    #[cfg(feature = "tokio")]
    pub(crate) fn and(mut self, other: Dropped) -> Dropped {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
        self
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// One dropped message, as an observer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discarded {
    /// Why.
    pub reason: DropReason,
    /// Between which ends it travelled.
    pub flow: Flow,
}

/// Counts, and logs now and then.
#[derive(Debug, Default)]
pub(crate) struct DropLog {
    pub(crate) counts: Dropped,
    spoke: [Option<(Instant, u64)>; DropReason::ALL.len()],
}

impl DropLog {
    /// Counts a drop; where the reason's last line is old enough, writes one with the count since then.
    pub(crate) fn count(&mut self, now: Instant, drop: &Discarded) {
        let index = drop.reason as usize;
        self.counts.0[index] += 1;
        let total = self.counts.0[index];
        let logged = match self.spoke[index] {
            Some((at, _)) if now.saturating_duration_since(at) < LOG_EVERY => return,
            Some((_, logged)) => logged,
            None => 0,
        };
        self.spoke[index] = Some((now, total));
        let DropRow { label, help } = drop.reason.row();
        let (source, since) = (drop.flow.remote, total - logged);
        tracing::info!(reason = label, %source, since_last_line = since, "message dropped: {help}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flow::Transport;

    fn drop_of(reason: DropReason) -> Discarded {
        let addr = "192.0.2.1:5060".parse().unwrap();
        Discarded {
            reason,
            flow: Flow { transport: Transport::Udp, local: addr, remote: addr, connection: None },
        }
    }

    #[test]
    fn every_reason_counts_for_itself_and_has_a_label_of_its_own() {
        let (mut log, now) = (DropLog::default(), Instant::now());
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            (0..=index).for_each(|_| log.count(now, &drop_of(reason)));
        }
        assert!(log.counts.iter().zip(1..).all(|((_, count), expected)| count == expected));
        let mut labels: Vec<_> = DropReason::ALL.iter().map(|reason| reason.row().label).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), DropReason::ALL.len());
    }

    #[test]
    fn one_line_a_second_covers_all_that_came_meanwhile() {
        let (mut log, start) = (DropLog::default(), Instant::now());
        let banned = drop_of(DropReason::Banned);
        log.count(start, &banned);
        (0..500).for_each(|_| log.count(start + LOG_EVERY / 2, &banned));
        assert_eq!(log.spoke[DropReason::Banned as usize], Some((start, 1)), "silent within the second");
        log.count(start + LOG_EVERY, &banned);
        assert_eq!(log.spoke[DropReason::Banned as usize], Some((start + LOG_EVERY, 502)));
    }
}
