//! What we put into a request that passes: our branch, our Via and our Record-Route (RFC 3261 §16.6 steps 4 and 8;
//! RFC 5658 for two Record-Routes where both sides differ).

use std::borrow::Cow;
use std::sync::Arc;

use super::Engine;
use crate::engine::client_table::Client;
use crate::engine::flow::{Flow, Transport};
use crate::engine::target::Way;
use crate::message::header::{CallId, Contact, From, RecordRoute, To, Via};
use crate::message::{HeaderName, Headers, Host, Message, Method, NameAddr, Request, Response, Scheme, Uri};
use crate::roles::relay::stamp::{self, OwnedFlow, Side, Stamp, StampedCall};
use crate::roles::relay::{RelayConfig, pass};

/// Our name on one side of a call.
#[derive(PartialEq, Eq)]
struct Name {
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
            self.record_route(relay, &mut request, upstream, way);
        }
        self.sign(&mut request, &way.flow, branch);
        request
    }

    /// One Record-Route where both sides know us by the same name, two where they do not or where one of them is reached
    /// by its own connection alone.
    fn record_route(&self, relay: &RelayConfig, request: &mut Request, upstream: &Flow, way: &Way) {
        let downstream = &way.flow;
        let (call, near) = call_and_side(request);
        let pinned = is_pinned(request, upstream);
        let (up, down) = (self.name_on(relay, upstream), self.name_on(relay, downstream));
        let sips = request.uri.scheme() == Scheme::Sips;
        let mut stamp = Stamp::new(&relay.keys, pinned.then(|| self.own_flow(relay, upstream)));
        for (side, host) in places(request, near, upstream, downstream) {
            stamp.allow(&relay.keys, &call, side, &host);
        }
        let mut push = |name: &Name, stamp: &Stamp| {
            let word = stamp.word(&relay.keys, &call);
            // Below the Vias: some, SIPp among them, answer with those alone that nothing stands between.
            request.headers.push_below(HeaderName::VIA, HeaderName::RECORD_ROUTE, name.word(&word, sips));
        };
        push(&up, &stamp);
        if pinned || way.pinned || up != down {
            let flow = way.pinned.then(|| self.own_flow(relay, downstream));
            push(&down, &stamp.with_flow(flow));
        }
    }

    /// A response to a request that opens a dialog and that `client` sent for another, as the caller gets it. Where the
    /// callee's side is called by a host that our Record-Route does not have yet, it is written anew (RFC 3261 §16.7
    /// step 8).
    pub(super) fn vouch<'a>(&self, client: u64, response: &'a Arc<Response>) -> Cow<'a, Arc<Response>> {
        let sent = self.clients.get(client).and_then(opening);
        let written = sent.zip(self.config.relay.as_ref());
        match written.and_then(|(sent, relay)| self.restamped(relay, &sent, response)) {
            Some(headers) => Cow::Owned(Arc::new(Response { headers, ..(**response).clone() })),
            None => Cow::Borrowed(response),
        }
    }

    fn restamped(&self, relay: &RelayConfig, sent: &Request, response: &Response) -> Option<Headers> {
        let ours = record_routes(&sent.headers);
        let mut routes = record_routes(&response.headers);
        // What proxies behind us added stands in front.
        let behind = routes.len().checked_sub(ours.len())?;
        let next = match behind.checked_sub(1) {
            Some(nearest) => stamp::host(&routes[nearest].uri)?,
            None => stamp::host(&contact(&response.headers)?)?,
        };
        let call = call_of(&sent.headers);
        let mut changed = false;
        for (route, sent) in routes[behind..].iter_mut().zip(&ours) {
            let user = route.uri.user().filter(|_| self.names_us(&route.uri) && route.uri == sent.uri);
            let Some(mut stamp) = user.and_then(|user| Stamp::read(&relay.keys, &call, user)) else { break };
            if stamp.allows(&relay.keys, &call, Side::Callee, &next) || !stamp.is_current(&relay.keys) {
                break;
            }
            let old = stamp.word(&relay.keys, &call);
            stamp.allow(&relay.keys, &call, Side::Callee, &next);
            let value = route.to_string().replacen(&old, &stamp.word(&relay.keys, &call), 1);
            *route = NameAddr::parse(value).ok()?;
            changed = true;
        }
        let mut headers = changed.then(|| response.headers.clone())?;
        headers.remove(HeaderName::RECORD_ROUTE);
        routes.iter().for_each(|route| headers.push(HeaderName::RECORD_ROUTE, route.to_string()));
        Some(headers)
    }

    fn own_flow(&self, relay: &RelayConfig, flow: &Flow) -> OwnedFlow {
        let node = relay.node.clone();
        OwnedFlow { node, incarnation: self.relays.incarnation, flow: *flow }
    }

    /// What we are called on this flow: the pool's name for its transport, else the listener's address. Where no
    /// listener has that transport, we cannot be called back by it, so another is named.
    fn name_on(&self, relay: &RelayConfig, flow: &Flow) -> Name {
        let listener = self.listener_of(flow);
        let (transport, at) = listener
            .map_or((flow.transport, flow.local), |listener| (listener.transport, listener.advertised));
        let pool = relay.pool.iter().find(|name| name.transport == transport);
        let at = match pool {
            Some(name) => format!("{}:{}", Host::of(&name.host), name.port),
            None => format!("{}:{}", Host::Ip(at.ip()), at.port()),
        };
        Name { transport, at }
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

impl Name {
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

/// Whether a request opens a dialog, whose path we may be on (RFC 3261 §12.1, RFC 6665 §4.4.1, RFC 3515 §2.4.4).
pub(super) fn forms_dialog(method: &Method) -> bool {
    matches!(method, Method::Invite | Method::Subscribe | Method::Refer)
}

/// What a client transaction sent, if it opens a dialog.
fn opening(client: &Client) -> Option<Arc<Request>> {
    let sent = || match Message::parse_own(client.wire.clone()) {
        Ok(Message::Request(request)) if forms_dialog(&request.method) => Some(Arc::new(request)),
        _ => None,
    };
    client.invite.clone().or_else(sent)
}

/// The call of a request that we record our route in, and from which of its sides it comes: a NOTIFY from that of the
/// callee.
fn call_and_side(request: &Request) -> (StampedCall, Side) {
    let headers = &request.headers;
    if request.method != Method::Notify {
        return (call_of(headers), Side::Caller);
    }
    let caller = headers.typed::<To>().ok().and_then(|to| to.tag().map(Cow::into_owned));
    (StampedCall { call_id: call_id(headers), caller: caller.unwrap_or_default() }, Side::Callee)
}

/// The call of a request that opens a dialog.
fn call_of(invite: &Headers) -> StampedCall {
    let caller = invite.typed::<From>().ok().and_then(|from| from.tag().map(Cow::into_owned));
    StampedCall { call_id: call_id(invite), caller: caller.unwrap_or_default() }
}

/// The Call-ID, which every stamp is bound to.
pub(super) fn call_id(headers: &Headers) -> Vec<u8> {
    headers.typed::<CallId>().map(|id| id.to_string().into_bytes()).unwrap_or_default()
}

/// What the two sides of a request are called, the near one being that which it comes from, and where it comes from and
/// goes.
fn places(request: &Request, near: Side, upstream: &Flow, downstream: &Flow) -> Vec<(Side, String)> {
    let far = if near == Side::Caller { Side::Callee } else { Side::Caller };
    let route = request.headers.typed::<RecordRoute>().ok().map(|route| route.0.uri);
    let sender = route.or_else(|| contact(&request.headers)).and_then(|uri| stamp::host(&uri));
    let receiver = stamp::host(&pass::next_uri(request));
    let seen = |flow: &Flow| Some(stamp::in_one_form(Host::Ip(flow.remote.ip())));
    let found = [(near, sender), (near, seen(upstream)), (far, receiver), (far, seen(downstream))];
    found.into_iter().filter_map(|(side, host)| Some((side, host?))).collect()
}

fn contact(headers: &Headers) -> Option<Uri> {
    headers.typed::<Contact>().ok()?.address().map(|address| address.uri.clone())
}

fn record_routes(headers: &Headers) -> Vec<NameAddr> {
    headers.typed_all::<RecordRoute>().flatten().map(|route| route.0).collect()
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
