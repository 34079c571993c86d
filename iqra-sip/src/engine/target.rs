//! Where a request of ours goes, and what we call ourselves on the way (RFC 3261 §8.1.2, §18.1.1; RFC 3263 §4 for
//! numeric hosts, names being the caller's to resolve).

use std::net::SocketAddr;

use super::Engine;
use super::event::EngineError;
use super::flow::{Flow, Listener, Transport};
use crate::dialog::Dialog;
use crate::message::header::{Route, Via};
use crate::message::{HeaderName, Headers, Request, Scheme, Text, Uri};

/// A request's way: by which flow, by which else, and the sent-by of its Via.
pub(crate) struct Way {
    pub(crate) flow: Flow,
    pub(crate) fallback: Option<Flow>,
}

/// The address that a URI names by number, and the transport that it asks for.
pub(crate) fn address(uri: &Uri) -> Result<(Transport, SocketAddr), EngineError> {
    if uri.scheme() != Scheme::Sip {
        return Err(EngineError::Misuse("only sip URIs can be sent to: sips needs TLS, tel a next_hop"));
    }
    let transport = uri.transport().map_or(Some(Transport::Udp), Transport::named);
    transport
        .and_then(|transport| Some((transport, uri.socket_addr(5060)?)))
        .ok_or_else(|| EngineError::Unresolved(uri.host().map(|host| host.to_string()).unwrap_or_default()))
}

impl Engine {
    /// The way to a peer outside a dialog: the hop given, else the first Route, else the URI.
    pub(super) fn way_to(
        &self,
        hop: Option<(Transport, SocketAddr)>,
        headers: &Headers,
        uri: &Uri,
    ) -> Result<Way, EngineError> {
        let (transport, remote) = match (hop, headers.typed::<Route>()) {
            (Some(hop), _) => hop,
            (None, Ok(route)) => address(&route.uri)?,
            (None, Err(_)) => address(uri)?,
        };
        let local = self.sender(transport, remote)?.addr;
        Ok(Way { flow: Flow { transport, local, remote, connection: None }, fallback: None })
    }

    /// The way inside a dialog: to the route or Contact where it has an IP address, else back along the INVITE's own
    /// flow, which is also the second try.
    pub(super) fn way_within(&self, dialog: &Dialog) -> Way {
        let known = dialog.flow;
        let direct = address(dialog.next_hop()).ok().and_then(|(transport, remote)| {
            let same = (transport, remote) == (known.transport, known.remote);
            let local = match transport == known.transport {
                true => known.local,
                false => self.sender(transport, remote).ok()?.addr,
            };
            let connection = known.connection.filter(|_| same);
            Some(Flow { transport, local, remote, connection })
        });
        match direct {
            Some(flow) => Way { flow, fallback: Some(known).filter(|known| *known != flow) },
            None => Way { flow: known, fallback: None },
        }
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

    /// The listener bound to `flow.local`, or any that could send there.
    fn listener_of(&self, flow: &Flow) -> Option<Listener> {
        let bound = self.listeners.iter().find(|l| (l.transport, l.addr) == (flow.transport, flow.local));
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

    /// Our Via on this flow. `rport` lets the answer come back through a NAT (RFC 3581 §3).
    pub(super) fn via(&self, flow: &Flow, branch: &str) -> Via {
        Via::new(flow.transport.as_str(), self.advertised(flow), branch).with_param("rport", None)
    }

    /// Our Contact on this flow, for requests inside the dialog to come back to.
    pub(super) fn contact(&self, flow: &Flow, user: Option<&str>) -> Text {
        let at = self.advertised(flow);
        let host = crate::message::Host::Ip(at.ip());
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        let transport = if flow.transport == Transport::Udp { "" } else { ";transport=tcp" };
        Text::from(format!("<sip:{user}{host}:{}{transport}>", at.port()))
    }

    /// A long request goes by TCP where we could also be reached by it; UDP is then the second try
    /// (RFC 3261 §18.1.1).
    pub(super) fn widen(&self, way: Way, length: usize) -> Way {
        let tcp =
            |l: &&Listener| l.transport == Transport::Tcp && l.addr.is_ipv4() == way.flow.remote.is_ipv4();
        match self.listeners.iter().find(tcp) {
            Some(listener)
                if way.flow.transport == Transport::Udp && length > self.config.max_datagram_request =>
            {
                let flow = Flow { transport: Transport::Tcp, local: listener.addr, ..way.flow };
                Way { flow, fallback: Some(way.flow) }
            }
            _ => way,
        }
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
