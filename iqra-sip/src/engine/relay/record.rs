//! What we put into a request that passes: our branch, our Via and our Record-Route (RFC 3261 §16.6 steps 4 and 8;
//! RFC 5658 for two Record-Routes where both sides differ).

use super::Engine;
use crate::engine::flow::{Flow, Transport};
use crate::engine::target::Way;
use crate::message::header::{CallId, Via};
use crate::message::{HeaderName, Host, Request, Scheme, Uri};
use crate::roles::relay::stamp::{self, OwnedFlow};
use crate::roles::relay::{RelayConfig, pass};

/// Our name on one side of a call.
#[derive(PartialEq, Eq)]
struct Side {
    transport: Transport,
    at: String,
}

impl Engine {
    /// A branch of our own with the mark of this request behind it.
    pub(super) fn relay_branch(&mut self, received: &Request) -> String {
        let branch = self.random.branch();
        match self.mark(received) {
            Some(mark) => format!("{branch}.{mark}"),
            None => branch,
        }
    }

    /// Our mark of this request. A replay takes the one that was: numbers may be masked in it.
    pub(super) fn mark(&mut self, request: &Request) -> Option<String> {
        let relay = self.config.relay.as_ref()?;
        Some(self.random.facts.word('m', || pass::mark(&relay.keys, &relay.node, request)))
    }

    /// Signs a request for its way, with our Record-Route if it came by `upstream` and we stay. A request that is too
    /// long for a datagram gets another way, and with it another Record-Route.
    pub(super) fn dress(
        &mut self,
        request: &Request,
        way: Way,
        branch: &str,
        upstream: Option<&Flow>,
    ) -> (Request, Way) {
        let (signed, first) = (self.dressed(request, &way, branch, upstream), way.flow);
        let way = self.widen(way, signed.to_bytes().len());
        match way.flow == first {
            true => (signed, way),
            false => (self.dressed(request, &way, branch, upstream), way),
        }
    }

    fn dressed(&self, request: &Request, way: &Way, branch: &str, upstream: Option<&Flow>) -> Request {
        let mut request = request.clone();
        if let Some((upstream, relay)) = upstream.zip(self.config.relay.as_ref()) {
            self.record_route(relay, &mut request, upstream, &way.flow);
        }
        self.sign(&mut request, &way.flow, branch);
        request
    }

    /// One Record-Route where both sides know us by the same name, two where they do not or where the caller is
    /// reached by its own connection alone.
    fn record_route(&self, relay: &RelayConfig, request: &mut Request, upstream: &Flow, downstream: &Flow) {
        let call_id = call_id(request);
        let flow = is_pinned(request, upstream).then(|| self.own_flow(relay, upstream));
        let (up, down) = (self.side(relay, upstream), self.side(relay, downstream));
        let sips = request.uri.scheme() == Scheme::Sips;
        let mut push = |side: &Side, flow: Option<&OwnedFlow>| {
            let stamp = stamp::word(&relay.keys, &call_id, flow);
            request.headers.push_front(HeaderName::RECORD_ROUTE, side.word(&stamp, sips));
        };
        push(&up, flow.as_ref());
        if flow.is_some() || up != down {
            push(&down, None);
        }
    }

    fn own_flow(&self, relay: &RelayConfig, flow: &Flow) -> OwnedFlow {
        let node = relay.node.clone();
        OwnedFlow { node, incarnation: self.relays.incarnation, flow: *flow }
    }

    /// What we are called on this flow: the pool's name for its transport, else the listener's address. Where no
    /// listener has that transport, we cannot be called back by it, so another is named.
    fn side(&self, relay: &RelayConfig, flow: &Flow) -> Side {
        let listener = self.listener_of(flow);
        let (transport, at) = listener
            .map_or((flow.transport, flow.local), |listener| (listener.transport, listener.advertised));
        let pool = relay.pool.iter().find(|name| name.transport == transport);
        let at = match pool {
            Some(name) => format!("{}:{}", Host::of(&name.host), name.port),
            None => format!("{}:{}", Host::Ip(at.ip()), at.port()),
        };
        Side { transport, at }
    }

    /// Whether a URI names this proxy or its pool.
    pub(super) fn names_us(&self, uri: &Uri) -> bool {
        let (Some(relay), Some(host)) = (&self.config.relay, uri.host()) else { return false };
        let secure = uri.scheme() == Scheme::Sips;
        let default = uri.transport().and_then(Transport::named).map_or(5060, Transport::default_port);
        let port = uri.port().unwrap_or(if secure { 5061 } else { default });
        let listed = self.listeners.iter().flat_map(|listener| [listener.addr, listener.advertised]);
        let same = |name: &str| match (host, Host::of(name)) {
            (Host::Name(one), Host::Name(other)) => one.eq_ignore_ascii_case(other),
            (one, other) => one == other,
        };
        listed.into_iter().any(|at| host == Host::Ip(at.ip()) && port == at.port())
            || relay.pool.iter().any(|name| name.port == port && same(&name.host))
    }

    /// Whether a Via is one of ours.
    pub(super) fn signed_by_us(&self, via: &Via) -> bool {
        let at =
            |ip, port| self.listeners.iter().any(|l| l.advertised.ip() == ip && l.advertised.port() == port);
        matches!(via.host(), Host::Ip(ip) if at(ip, via.port.unwrap_or(5060)))
    }
}

impl Side {
    fn word(&self, stamp: &str, sips: bool) -> String {
        let (scheme, param) = match (sips, self.transport) {
            (true, Transport::Ws | Transport::Wss) => ("sips", ";transport=ws"),
            (true, _) => ("sips", ""),
            (false, Transport::Udp) => ("sip", ""),
            (false, transport) => ("sip", &*format!(";transport={}", transport.as_param())),
        };
        format!("<{scheme}:{stamp}@{}{param};lr>", self.at)
    }
}

/// The Call-ID, which every stamp is bound to.
pub(super) fn call_id(request: &Request) -> Vec<u8> {
    request.headers.typed::<CallId>().map(|id| id.to_string().into_bytes()).unwrap_or_default()
}

/// Whether the caller has to be reached by the way that it came: on a stream, and behind a NAT, which shows where the
/// address in its Via is not the one we see (RFC 3581 §4).
fn is_pinned(received: &Request, upstream: &Flow) -> bool {
    let hidden = || {
        let via = received.headers.typed::<Via>().ok()?;
        let Host::Ip(ip) = via.host() else { return None };
        let port = via.rport().is_some().then(|| via.port.unwrap_or(5060));
        Some(ip != upstream.remote.ip() || port.is_some_and(|port| port != upstream.remote.port()))
    };
    upstream.transport.is_reliable() || hidden().unwrap_or(false)
}
