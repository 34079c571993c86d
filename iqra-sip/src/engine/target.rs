//! Where a request of ours goes, and what we call ourselves on the way (RFC 3261 §8.1.2, §18.1.1; RFC 3263 §4 for
//! numeric hosts, names being the caller's to resolve).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Engine;
use super::event::EngineError;
use super::flow::{Flow, Hop, Listener, Transport, is_bound_for};
use super::lookup::Name;
use crate::dialog::Dialog;
use crate::message::header::{Contact, RecordRoute, Route, Via};
use crate::message::{HeaderName, Headers, Host, Request, Scheme, Text, Uri};

/// A request's way: by which flow, by which else, and the domain that the peer has to prove.
pub(crate) struct Way {
    pub(crate) flow: Flow,
    pub(crate) fallback: Option<Flow>,
    pub(crate) name: Option<Arc<str>>,
    /// The peer is reached by this flow and by no other.
    pub(crate) pinned: bool,
    /// What should be looked up before it is taken.
    pub(crate) lookup: Option<Name>,
}

/// The transport that a URI asks for (RFC 3263 §4.1, RFC 3261 §26.2.2): `sips` goes over TLS or secure WebSocket whatever
/// its parameter says, and so does what has to be `secure` (RFC 3261 §8.1.2, §16.6 step 7: as if the URI were `sips`). The
/// `usual` one where it names none.
pub(crate) fn transport_of(uri: &Uri, usual: Transport, secure: bool) -> Result<Transport, EngineError> {
    let unknown = || EngineError::Misuse("the URI's transport is unknown: use udp, tcp, tls, ws or none");
    let asked = uri.transport().map(|word| Transport::named(word).ok_or_else(unknown)).transpose()?;
    match (uri.scheme(), asked) {
        (Scheme::Sip, asked) if !secure => Ok(asked.unwrap_or(usual)),
        (Scheme::Sip, None) if usual.is_secure() => Ok(usual),
        (Scheme::Sip | Scheme::Sips, None | Some(Transport::Tcp | Transport::Tls)) => Ok(Transport::Tls),
        (Scheme::Sip | Scheme::Sips, Some(Transport::Ws | Transport::Wss)) => Ok(Transport::Wss),
        (Scheme::Sip | Scheme::Sips, Some(Transport::Udp)) => {
            Err(EngineError::Misuse("a sips URI cannot go over UDP: drop its transport parameter"))
        }
        _ => Err(EngineError::Misuse("only sip and sips URIs can be sent to: give hops for tel")),
    }
}

/// Whether a URI says by which transport it is to be reached.
pub(super) fn names_transport(uri: &Uri) -> bool {
    uri.scheme() != Scheme::Sip || uri.transport().is_some()
}

/// Whether a URI that names no transport is that of the peer at the other end of a stream: its address, and a port that
/// may be the peer's. The port of a connection that the peer opened says nothing.
fn is_at_the_end_of(known: &Flow, uri: &Uri) -> bool {
    let same_host = uri.socket_addr(0).is_some_and(|addr| addr.ip() == known.remote.ip());
    let same_port = known.connection.is_some() || uri.port().is_none_or(|port| port == known.remote.port());
    known.transport.is_reliable() && !names_transport(uri) && same_host && same_port
}

/// The hop that a URI names by number; [`transport_of`] says what decides the transport. Where `maddr` has the number, the
/// peer is still known by the domain of the host (RFC 5922 §4).
pub(crate) fn hop(uri: &Uri, usual: Transport, secure: bool) -> Result<Hop, EngineError> {
    let transport = transport_of(uri, usual, secure)?;
    let unresolved =
        || EngineError::Unresolved(uri.target_host().map(|host| host.to_string()).unwrap_or_default());
    let addr = uri.socket_addr(transport.default_port()).ok_or_else(unresolved)?;
    let hop = Hop::from((transport, addr));
    match uri.host() {
        Some(Host::Name(domain)) if transport.is_secure() => Ok(hop.named(domain)),
        _ => Ok(hop),
    }
}

/// Whether a request of ours has to be secure at every hop: its URI or first Route is `sips`; then our Contact is too
/// (RFC 3261 §8.1.1.8).
pub(crate) fn asks_for_sips(uri: &Uri, headers: &Headers) -> bool {
    let routed = headers.typed::<Route>().is_ok_and(|route| route.uri.scheme() == Scheme::Sips);
    routed || uri.scheme() == Scheme::Sips
}

/// Whether the Contact of our answer has to be `sips`: the Request-URI is, or the first Record-Route, or for want of one
/// the Contact (RFC 3261 §12.1.1).
pub(super) fn comes_by_sips(request: &Request) -> bool {
    let contact = || {
        let contact = request.headers.typed::<Contact>().ok()?;
        contact.address().map(|address| address.uri.scheme() == Scheme::Sips)
    };
    let route = request.headers.typed::<RecordRoute>().ok().map(|route| route.uri.scheme() == Scheme::Sips);
    request.uri.scheme() == Scheme::Sips || route.or_else(contact).unwrap_or(false)
}

impl Engine {
    /// The way to a peer outside a dialog: the hop given, else the first Route, else the URI.
    pub(super) fn way_to(&self, hop: Option<Hop>, headers: &Headers, uri: &Uri) -> Result<Way, EngineError> {
        let secure = asks_for_sips(uri, headers);
        let Hop { transport, addr: remote, name, flow } = match (hop, headers.typed::<Route>()) {
            (Some(hop), _) => hop,
            (None, Ok(route)) => self::hop(&route.uri, Transport::Udp, secure)?,
            (None, Err(_)) => self::hop(uri, Transport::Udp, secure)?,
        };
        if secure && !transport.is_secure() {
            return Err(EngineError::Misuse("a sips URI goes over TLS or WSS only: give such hops"));
        }
        let pinned = flow.is_some();
        let dialled = || {
            let local = self.sender(transport, remote)?.addr;
            Ok(Flow { transport, local, remote, connection: None })
        };
        let flow = flow.map_or_else(dialled, Ok)?;
        Ok(Way { flow, fallback: None, name, pinned, lookup: None })
    }

    /// The way inside a dialog: to the route or Contact, else back along the INVITE's own flow; the other one is the
    /// second try. A peer that [`FlowConfig`](super::nat::FlowConfig) takes to be behind a NAT is tried by the flow first,
    /// and so is one at the other end of the flow's connection; a WebSocket client is reached by its own connection alone.
    /// A name is to be looked up first. A target that names no transport is asked by that of the flow: by UDP, which is
    /// meant by the letter (RFC 3263 §4.1), only where TCP fails, and never after TLS.
    pub(super) fn way_within(&self, dialog: &Dialog) -> Way {
        let (known, next, nat) = (dialog.flow, dialog.next_hop(), self.config.flows.first);
        let contact = dialog.direct_target();
        let asks = contact.is_some_and(|uri| nat.applies(uri, known.remote));
        let named = !asks && self.is_to_look_up(next) && !known.transport.is_websocket();
        let found = dialog.found.as_deref().filter(|found| named && found.uri == *next);
        let direct = match found {
            Some(found) => self.found_flow(&known, &found.hops),
            None => self.direct_flow(dialog),
        };
        let back = asks || is_at_the_end_of(&known, next);
        let hidden = |to: &Flow| contact.is_some() && nat.hides(to.remote.ip(), known.remote);
        let second = self.by_datagram(dialog);
        let (flow, fallback) = match direct {
            Some((direct, _)) if back || hidden(&direct) => (known, second.or(Some(direct))),
            Some((direct, _)) => (direct, second.or(Some(known))),
            None => (known, None),
        };
        // A connection that has ended may be opened anew, and nothing secure goes on in the clear.
        let other =
            |other: &Flow| *other != flow && other.transport.is_secure() >= flow.transport.is_secure();
        let fallback =
            fallback.filter(other).or_else(|| Some(Flow { connection: None, ..flow }).filter(other));
        let proven = direct.filter(|(to, _)| *to == flow).and_then(|(_, name)| name);
        let name = proven.or_else(|| dialog.peer.clone().filter(|_| flow.remote.ip() == known.remote.ip()));
        let secure = dialog.is_sips() || (known.transport.is_secure() && !names_transport(next));
        let lookup = (named && found.is_none()).then(|| Name { uri: next.clone(), secure });
        Way { flow, fallback, name, pinned: false, lookup }
    }

    /// Straight to the route or Contact of a dialog, where it has an IP address.
    fn direct_flow(&self, dialog: &Dialog) -> Option<(Flow, Option<Arc<str>>)> {
        let (known, uri) = (dialog.flow, dialog.next_hop());
        let hop = hop(uri, known.transport, dialog.is_sips()).ok()?;
        if hop.transport.is_websocket() && known.transport.is_websocket() {
            return None;
        }
        Some((self.flow_to(&known, &hop)?, hop.name))
    }

    /// To the first of these hops that can be used.
    fn found_flow(&self, known: &Flow, hops: &VecDeque<Hop>) -> Option<(Flow, Option<Arc<str>>)> {
        hops.iter().find_map(|hop| Some((self.flow_to(known, hop)?, hop.name.clone())))
    }

    /// The flow to a hop, the known one where it leads there.
    fn flow_to(&self, known: &Flow, hop: &Hop) -> Option<Flow> {
        let (transport, remote) = (hop.transport, hop.addr);
        let same = (transport, remote) == (known.transport, known.remote);
        let suits = transport == known.transport && remote.is_ipv4() == known.local.is_ipv4();
        let local = if suits { known.local } else { self.sender(transport, remote).ok()?.addr };
        Some(Flow { transport, local, remote, connection: known.connection.filter(|_| same) })
    }

    /// By UDP to the route or Contact of a dialog that went by TCP, where that names no transport.
    fn by_datagram(&self, dialog: &Dialog) -> Option<Flow> {
        let uri = dialog.next_hop();
        if dialog.flow.transport != Transport::Tcp || names_transport(uri) {
            return None;
        }
        let remote = uri.socket_addr(Transport::Udp.default_port())?;
        let local = self.sender(Transport::Udp, remote).ok()?.addr;
        Some(Flow { transport: Transport::Udp, local, remote, connection: None })
    }

    /// The listener that a request to `remote` leaves from. A stream needs none of its own kind: responses come back
    /// on the connection.
    pub(super) fn sender(&self, transport: Transport, remote: SocketAddr) -> Result<Listener, EngineError> {
        let fits = |l: &&Listener| l.addr.is_ipv4() == remote.is_ipv4();
        let mut fitting = self.listeners.iter().filter(fits);
        let same = fitting.clone().find(|l| l.transport == transport);
        same.or_else(|| fitting.find(|_| transport.is_reliable()))
            .copied()
            .ok_or(EngineError::NoListener(remote))
    }

    /// The listener bound to `flow.local`, best by that very address, or any that could send there.
    pub(super) fn listener_of(&self, flow: &Flow) -> Option<Listener> {
        let has = |l: &&Listener| l.transport == flow.transport && is_bound_for(l.addr, flow.local);
        let bound = self.listeners.iter().filter(has).max_by_key(|l| l.addr == flow.local);
        bound.copied().or_else(|| self.sender(flow.transport, flow.remote).ok())
    }

    /// What Via and Contact call us on this flow.
    pub(super) fn advertised(&self, flow: &Flow) -> SocketAddr {
        self.listener_of(flow).map_or(flow.local, |listener| listener.advertised)
    }

    /// Puts our Via on top.
    pub(super) fn sign(&self, request: &mut Request, flow: &Flow, branch: &str) {
        request.headers.push_front_typed(&self.via(flow, branch));
    }

    /// Our Via on this flow. `rport` lets the answer come back through a NAT (RFC 3581 §3); `alias` lets requests to our
    /// TLS listener come by a connection of ours, if we prove to be it (RFC 5923 §5).
    pub(super) fn via(&self, flow: &Flow, branch: &str) -> Via {
        let via = Via::new(flow.transport.as_str(), self.advertised(flow), branch).with_param("rport", None);
        let callable = self.listener_of(flow).is_some_and(|listener| listener.transport == Transport::Tls);
        if flow.transport == Transport::Tls && callable { via.with_param("alias", None) } else { via }
    }

    /// Our own contact as a request to `uri` would carry it, for a REGISTER.
    ///
    /// # Errors
    /// As [`request`](Self::request) has them for the way.
    pub fn own_contact(
        &self,
        next_hop: Option<Hop>,
        headers: &Headers,
        uri: &Uri,
        user: Option<&str>,
    ) -> Result<Uri, EngineError> {
        let way = self.way_to(next_hop, headers, uri)?;
        let contact = self.contact(&way.flow, user, asks_for_sips(uri, headers)).to_str().into_owned();
        contact.trim_matches(['<', '>']).parse().map_err(|_| EngineError::Header("Contact"))
    }

    /// Our Contact on this flow, for requests inside the dialog to come back to.
    /// It names the listener there is: the transport of a flow that we cannot be called back by is not in it.
    pub(super) fn contact(&self, flow: &Flow, user: Option<&str>, secure: bool) -> Text {
        let listener = self.listener_of(flow);
        let at = listener.map_or(flow.local, |listener| listener.advertised);
        let transport = listener.map_or(flow.transport, |listener| listener.transport);
        let host = Host::Ip(at.ip());
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        let (scheme, param) = match (secure, transport) {
            (true, Transport::Ws | Transport::Wss) => ("sips", ";transport=ws"),
            (true, _) => ("sips", ""),
            (false, Transport::Udp) => ("sip", ""),
            (false, transport) => ("sip", &*format!(";transport={}", transport.as_param())),
        };
        let outbound = if self.config.flows.outbound { ";ob" } else { "" };
        Text::from(format!("<{scheme}:{user}{host}:{}{param}{outbound}>", at.port()))
    }

    /// A long request goes by TCP, and UDP is then the second try (RFC 3261 §18.1.1), unless its flow is the only way.
    /// Without a TCP listener of ours
    /// too: responses come back on the connection, and our Contact names a listener that we have.
    pub(super) fn widen(&mut self, way: Way, length: usize) -> Way {
        // A replay has shorter credentials.
        let long = length > self.config.max_datagram_request;
        if way.pinned || way.flow.transport != Transport::Udp || !self.random.facts.whether('w', long) {
            return way;
        }
        let local = self.sender(Transport::Tcp, way.flow.remote).map_or(way.flow.local, |l| l.addr);
        let flow = Flow { transport: Transport::Tcp, local, ..way.flow };
        Way { flow, fallback: Some(way.flow), name: None, ..way }
    }

    /// Adds the headers that every request of ours has, where the program gave none.
    pub(super) fn complete(&self, headers: &mut Headers) {
        if !headers.contains(HeaderName::MAX_FORWARDS) {
            headers.push(HeaderName::MAX_FORWARDS, "70");
        }
        if let Some(product) =
            self.config.product.as_ref().filter(|_| !headers.contains(HeaderName::USER_AGENT))
        {
            headers.push(HeaderName::USER_AGENT, product);
        }
    }
}
