//! Which request of ours a response answers, and whether it came as that left (RFC 3261 §17.1.3, §18.1.2).

use std::sync::Arc;
use std::time::Instant;

use super::Engine;
use super::client_table::Cause;
use super::flow::{Flow, Transport};
use super::outbound::Purpose;
use crate::fault::Fault;
use crate::message::header::{CSeq, Via};
use crate::message::{Host, Method, Response};
use crate::observe::DropReason;
use crate::transaction::key::ClientKey;

impl Engine {
    /// Matches a response by the branch of its topmost Via, which we drew, and its method (RFC 3261 §17.1.3), and takes it
    /// where it answers the request as that left.
    pub(super) fn handle_response(&mut self, now: Instant, flow: &Flow, response: Response) {
        let via = response.headers.typed::<Via>().ok();
        let branch = via.as_ref().and_then(|via| via.branch().map(Into::into));
        let method = response.headers.typed::<CSeq>().ok().map(|cseq| cseq.method);
        let key = branch.zip(method).map(|(branch, method)| ClientKey { branch, method });
        let any = |key: ClientKey| ClientKey { method: Method::Invite, ..key };
        let key = if self.has(Fault::MethodIgnored) { key.map(any) } else { key };
        match key.and_then(|key| self.clients.find(&key)) {
            Some(id) if via.is_some_and(|via| self.is_answered_by(id, &via, flow, &response)) => {
                self.step_client(now, id, Cause::Response(&Arc::new(response)));
            }
            Some(_) => self.watch.discard(DropReason::MisroutedResponse),
            None => self.watch.discard(DropReason::StrayResponse),
        }
    }

    /// Whether a response has the topmost Via that we wrote (RFC 3261 §18.1.2), and no other unless we relay
    /// (§8.1.3.3). What left by TLS is not answered in the clear; else the way back is free, for NATs change addresses
    /// and the peer may open a connection of its own (§18.2.2, RFC 5923).
    fn is_answered_by(&self, id: u64, via: &Via, flow: &Flow, response: &Response) -> bool {
        let Some(client) = self.clients.get(id) else { return false };
        let (left_by, sent_by) = (client.flow.transport, self.advertised(&client.flow));
        let port = via.port.unwrap_or(left_by.default_port());
        let ours = Transport::named(&via.transport()) == Some(left_by)
            && (via.host(), port) == (Host::Ip(sent_by.ip()), sent_by.port());
        let alone = || response.headers.typed_all::<Via>().nth(1).is_none();
        let relayed = matches!(client.purpose, Purpose::Relay(_));
        ours && flow.transport.is_secure() >= left_by.is_secure() && (relayed || alone())
    }
}
