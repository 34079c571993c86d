//! Reliable provisional responses of one dialog: numbers and order, in both roles (RFC 3262 §3, §4).
//!
//! Pure bookkeeping: the engine words, sends and times. As callee at most one response waits for its PRACK, and further
//! ones queue behind it; as caller each is taken once and in order.

use std::collections::VecDeque;

use bytes::Bytes;

use super::has_session;
use crate::engine::event::Reply;
use crate::message::header::{CSeq, RAck};
use crate::message::{Method, Response};

/// Reliable responses that may wait behind the one that is out.
pub(crate) const MAX_QUEUED: usize = 8;

/// Both roles' state; a call without reliable responses pays for the pointer.
#[derive(Debug, Default)]
pub(crate) struct Reliable {
    callee: Option<Box<Callee>>,
    /// The last one taken as caller: CSeq number of the INVITE, RSeq.
    heard: Option<(u32, u32)>,
    /// An offer of the callee that the program has to answer in the PRACK.
    pub(crate) due: Option<RAck>,
    /// The INVITE of ours whose offer the program answered so, by its CSeq number.
    pub(crate) answered: Option<u32>,
}

/// What a callee keeps.
#[derive(Debug, Default)]
struct Callee {
    last: Option<u32>,
    outstanding: Option<Outstanding>,
    queue: VecDeque<Reply>,
    answer: Option<Reply>,
    /// The PRACK that carries an offer, until it is answered.
    offered: Option<u64>,
}

/// A response that waits for its PRACK.
#[derive(Debug, Clone)]
pub(crate) struct Outstanding {
    /// The INVITE's transaction.
    pub(crate) server: u64,
    /// The INVITE's CSeq number.
    pub(crate) sequence: u32,
    pub(crate) response: u32,
    /// It carries a session description, so that a 2xx has to wait (RFC 3262 §3).
    pub(crate) session: bool,
    /// That description is an offer.
    pub(crate) offer: bool,
    pub(crate) wire: Bytes,
}

impl Reliable {
    fn callee(&mut self) -> &mut Callee {
        self.callee.get_or_insert_default()
    }

    /// Takes the number of the next response; the first is `drawn` (RFC 3262 §3).
    pub(crate) fn number(&mut self, drawn: u32) -> u32 {
        let callee = self.callee();
        let number = callee.last.map_or(drawn, |last| last.wrapping_add(1).max(1));
        callee.last = Some(number);
        number
    }

    pub(crate) fn sent(&mut self, outstanding: Outstanding) {
        self.callee().outstanding = Some(outstanding);
    }

    pub(crate) fn outstanding(&self) -> Option<&Outstanding> {
        self.callee.as_ref()?.outstanding.as_ref()
    }

    /// True while nobody knows whether the peer has our offer or answer: a callee makes no further offer then (RFC 3311 §5.1).
    pub(crate) fn awaits_prack_of_session(&self) -> bool {
        self.outstanding().is_some_and(|waiting| waiting.session)
    }

    /// Keeps a response until the one before it is acknowledged; `false` when too many wait.
    #[must_use]
    pub(crate) fn queue(&mut self, reply: Reply) -> bool {
        let queue = &mut self.callee().queue;
        let room = queue.len() < MAX_QUEUED;
        if room {
            queue.push_back(reply);
        }
        room
    }

    pub(crate) fn next_queued(&mut self) -> Option<Reply> {
        self.callee.as_mut()?.queue.pop_front()
    }

    /// A PRACK came: what it acknowledges, or nothing (RFC 3262 §3).
    pub(crate) fn acknowledge(&mut self, rack: &RAck) -> Option<Outstanding> {
        let matches = |outstanding: &mut Outstanding| {
            (outstanding.response, outstanding.sequence) == (rack.response, rack.number)
                && rack.method == Method::Invite
        };
        self.callee.as_mut()?.outstanding.take_if(matches)
    }

    /// Keeps the 2xx until the PRACK.
    pub(crate) fn hold(&mut self, answer: Reply) {
        self.callee().answer = Some(answer);
    }

    pub(crate) fn holds_answer(&self) -> bool {
        self.callee.as_ref().is_some_and(|callee| callee.answer.is_some())
    }

    pub(crate) fn take_answer(&mut self) -> Option<Reply> {
        self.callee.as_mut()?.answer.take()
    }

    /// A PRACK brought an offer, which its 2xx answers.
    pub(crate) fn offered(&mut self, prack: Option<u64>) {
        self.callee().offered = prack;
    }

    pub(crate) fn offer_in(&self) -> Option<u64> {
        self.callee.as_ref()?.offered
    }

    /// The INVITE has its final answer: nothing goes out any more. A PRACK that is under way is still known.
    pub(crate) fn stop(&mut self) {
        if let Some(callee) = &mut self.callee {
            callee.queue.clear();
            callee.answer = None;
        }
    }

    /// A request of the peer has its final answer: an offer in a PRACK is answered by it, and what an INVITE still had to
    /// say is void. True where a response waits for a PRACK, which is still known.
    pub(crate) fn settle(&mut self, server: u64) -> bool {
        let Some(callee) = &mut self.callee else { return false };
        callee.offered.take_if(|prack| *prack == server);
        let Some(waiting) = callee.outstanding.as_mut().filter(|waiting| waiting.server == server) else {
            return false;
        };
        waiting.offer = false;
        self.stop();
        true
    }

    /// A request of the peer is forgotten. True where a response waited for a PRACK.
    pub(crate) fn forget(&mut self, server: u64) -> bool {
        let waited = self.settle(server);
        if let Some(callee) = self.callee.as_mut().filter(|_| waited) {
            callee.outstanding = None;
        }
        waited
    }

    /// As caller: whether the description of a response to an INVITE without one is an offer, and no repeat of that which a
    /// PRACK has answered (RFC 6337).
    pub(crate) fn is_offer(&self, response: &Response) -> bool {
        let number = response.headers.typed::<CSeq>().ok().map(|cseq| cseq.number);
        has_session(&response.headers, &response.body) && (number.is_none() || number != self.answered)
    }

    /// As caller: whether this response is new and next. The first of an INVITE may have any number; later ones rise by
    /// one, and others are repeats or came out of order (RFC 3262 §4).
    pub(crate) fn takes(&mut self, sequence: u32, response: u32) -> bool {
        let next = match self.heard {
            Some((known, last)) if known == sequence => response == last.wrapping_add(1),
            _ => true,
        };
        if next {
            self.heard = Some((sequence, response));
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::StatusCode;

    fn outstanding(response: u32) -> Outstanding {
        Outstanding { server: 1, sequence: 7, response, session: false, offer: false, wire: Bytes::new() }
    }

    #[test]
    fn numbers_rise_by_one_from_the_first() {
        let mut reliable = Reliable::default();
        assert_eq!([reliable.number(41), reliable.number(9), reliable.number(9)], [41, 42, 43]);
    }

    #[test]
    fn a_prack_acknowledges_the_one_that_it_names_and_once() {
        let mut reliable = Reliable::default();
        reliable.sent(outstanding(41));
        let rack = |response, number, method| RAck { response, number, method };
        assert!(reliable.acknowledge(&rack(42, 7, Method::Invite)).is_none());
        assert!(reliable.acknowledge(&rack(41, 8, Method::Invite)).is_none());
        assert!(reliable.acknowledge(&rack(41, 7, Method::Update)).is_none());
        assert!(reliable.acknowledge(&rack(41, 7, Method::Invite)).is_some());
        assert!(reliable.acknowledge(&rack(41, 7, Method::Invite)).is_none());
    }

    #[test]
    fn an_answered_invite_offers_nothing_and_a_forgotten_one_is_unknown() {
        let mut reliable = Reliable::default();
        reliable.sent(Outstanding { offer: true, ..outstanding(41) });
        reliable.offered(Some(5));
        assert!(!reliable.settle(5) && reliable.offer_in().is_none());
        assert!(reliable.outstanding().is_some_and(|waiting| waiting.offer), "another's");
        assert!(reliable.settle(1) && reliable.outstanding().is_some_and(|waiting| !waiting.offer));
        assert!(reliable.forget(1) && reliable.outstanding().is_none());
    }

    #[test]
    fn a_caller_takes_each_response_once_and_in_order() {
        let mut reliable = Reliable::default();
        let taken: Vec<_> = [5, 5, 7, 6, 7, 6].iter().map(|n| reliable.takes(1, *n)).collect();
        assert_eq!(taken, [true, false, false, true, true, false]);
        assert!(reliable.takes(2, 1), "another INVITE counts anew");
    }

    #[test]
    fn only_so_many_responses_wait() {
        let mut reliable = Reliable::default();
        let fitted = (0..20).filter(|_| reliable.queue(Reply::new(StatusCode::RINGING))).count();
        assert_eq!(fitted, MAX_QUEUED);
    }
}
