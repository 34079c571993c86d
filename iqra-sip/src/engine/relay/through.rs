//! Requests inside dialogs that another end answers: forwarded from their Route alone, by any proxy of the pool
//! (RFC 3261 §16.4 to §16.6, §16.12; RFC 5626 §5.3).
//!
//! A Route that names us has to carry a stamp of the pool for this call, and the next hop has to be a host of this call
//! ([`stamp`] says which), or the request is refused with 403: nobody uses the pool to reach a place that no call of its
//! own has led to.
//!
//! The next URI says by which transport: `sips` by TLS, and so every URI of a request whose own is `sips`; a `transport`
//! parameter by that; a name by what it is found under ([`super::super::lookup`]). An address without any goes as
//! requests of a dialog of our own do: by the transport that the call has on that side, which the last of our Routes
//! names, with UDP as the second try after TCP, and a long request by TCP before UDP. A flow that a stamp names wins.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::record::call_id;
use super::{Engine, Kind, Plan, Relay};
use crate::engine::event::{EngineError, Reply};
use crate::engine::flow::{Flow, Hop, Transmit, Transport};
use crate::engine::lookup::{Asker, Lookup};
use crate::engine::target::{self, Way};
use crate::fault::Fault;
use crate::message::header::{From, Route, To, Via};
use crate::message::{HeaderName, Method, Request, StatusCode, Uri};
use crate::observe::DropReason;
use crate::roles::relay::stamp::{self, OwnedFlow, Side, Stamp, StampedCall};
use crate::roles::relay::{RelayConfig, pass};

/// Most of our own Routes that are taken off one request: a call that came through the pool time and again.
const MAX_OWN_ROUTES: usize = 16;

/// Where a request goes on to.
#[allow(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub(in crate::engine) enum Next {
    Way {
        way: Way,
        pinned: bool,
    },
    /// To a name.
    Resolve(Uri),
}

/// A request as it goes on, and where to.
pub(in crate::engine) type Passage = (Arc<Request>, Next);

impl Engine {
    /// Whether a request inside a dialog is another end's to answer: its Route names us, or a strict router put our
    /// Record-Route into its Request-URI.
    pub(in crate::engine) fn is_for_relay(&self, request: &Request) -> bool {
        if self.config.relay.is_none() || self.dialogs.find(request).is_some() {
            return false;
        }
        let routed = request.headers.typed::<Route>().is_ok_and(|route| self.names_us(&route.uri));
        routed || self.is_stamped(&request.uri)
    }

    fn is_stamped(&self, uri: &Uri) -> bool {
        uri.user().is_some_and(stamp::resembles) && self.names_us(uri)
    }

    /// Takes the Routes off an INVITE that lead here, as a client with an outbound proxy writes them.
    pub(super) fn take_own_routes(&self, request: &mut Request) {
        for _ in 0..MAX_OWN_ROUTES {
            match request.headers.typed::<Route>() {
                Ok(route) if self.names_us(&route.uri) => drop(request.headers.take_first(HeaderName::ROUTE)),
                _ => return,
            }
        }
    }

    /// What an INVITE outside a dialog has to be before the program sees it (RFC 3261 §16.3). One that came through
    /// here before, and not as it is now, is a spiral and passes; one that came by two ways is a merged one.
    pub(in crate::engine) fn check_relayable(
        &mut self,
        id: u64,
        request: &Request,
    ) -> Result<(), Box<Reply>> {
        pass::check_passage(&request.headers)?;
        self.check_ways(id, request)
    }

    /// The same of any other request, which the program may answer itself: whether it may pass shows when it is relayed.
    pub(in crate::engine) fn check_ways(&mut self, id: u64, request: &Request) -> Result<(), Box<Reply>> {
        self.check_loop(request)?;
        let spiral = request.headers.typed_all::<Via>().flatten().any(|via| self.signed_by_us(&via));
        if spiral { Ok(()) } else { self.check_merged(id, request) }
    }

    /// Forwards a request inside a dialog, whose passage was checked.
    pub(in crate::engine) fn relay_through(
        &mut self,
        now: Instant,
        id: u64,
        (forwarded, next): Passage,
    ) -> Result<(), Box<Reply>> {
        match next {
            Next::Resolve(uri) => {
                self.ask(Lookup::of_request(&forwarded, uri, Asker::Through(id, forwarded.clone())));
            }
            Next::Way { way, pinned } => {
                self.relay_within(id, forwarded, pinned);
                if self.send_on(now, id, way).is_err() {
                    self.end_relay(now, id);
                    return Err(Box::new(self.no_room()));
                }
            }
        }
        Ok(())
    }

    /// Forwards the ACK of a 2xx; it is never answered, so one that may not pass is dropped. True where it was ours to
    /// forward.
    pub(in crate::engine) fn relay_ack(&mut self, ack: &Request) -> bool {
        if !self.is_for_relay(ack) {
            return false;
        }
        match self.passage(ack) {
            Ok((forwarded, Next::Way { way, .. })) => self.pass_ack_on(&forwarded, way),
            Ok((forwarded, Next::Resolve(uri))) => self.ask_for_ack(forwarded, uri),
            Err(_) => self.watch.discard(DropReason::Unroutable),
        }
        true
    }

    /// Goes on with a request inside a dialog whose next hop has been looked up: 500 where nobody knows it, 503 where there
    /// is no room.
    pub(in crate::engine) fn through_found(
        &mut self,
        now: Instant,
        id: u64,
        forwarded: Arc<Request>,
        hops: Vec<Hop>,
    ) {
        self.relay_within(id, forwarded.clone(), false);
        match (!hops.is_empty()).then(|| self.take_hops(now, id, forwarded, hops)) {
            Some(Ok(())) => {}
            Some(Err(EngineError::Full(_))) => {
                self.end_relay(now, id);
                let full = self.no_room();
                self.answer(now, id, full);
            }
            _ => self.finish(now, id, None, StatusCode::SERVER_INTERNAL_ERROR),
        }
    }

    /// Even the reserve is taken: the request may come again.
    fn no_room(&mut self) -> Reply {
        self.watch.discard(DropReason::Full);
        self.overloaded()
    }

    /// The same for the ACK of a 2xx, which goes to the first hop there is a way to.
    pub(in crate::engine) fn ack_found(&mut self, now: Instant, ack: &Request, hops: Vec<Hop>) {
        let way = (!hops.is_empty()).then(|| self.ways_to(now, hops, &ack.headers, &ack.uri));
        match way {
            Some(Ok((way, _))) => self.pass_ack_on(ack, way),
            _ => self.watch.discard(DropReason::Unroutable),
        }
    }

    fn check_loop(&mut self, request: &Request) -> Result<(), Box<Reply>> {
        match self.mark(request).is_some_and(|mark| pass::has_looped(&request.headers, &mark)) {
            true => Err(Box::new(Reply::new(StatusCode::LOOP_DETECTED))),
            false => Ok(()),
        }
    }

    fn relay_within(&mut self, id: u64, onward: Arc<Request>, pinned: bool) {
        let mut relay = Relay::new(Kind::Within { pinned }, Plan::new([]));
        relay.onward = Some(onward);
        self.relays.by_server.insert(id, relay);
    }

    fn pass_ack_on(&mut self, forwarded: &Request, way: Way) {
        let branch = self.relay_branch(forwarded);
        let (ack, Way { flow, fallback, name, .. }) = self.dress(forwarded, way, &branch, None);
        self.transmits.push_back(Transmit { flow, fallback, name, bytes: ack.to_bytes(), owner: None });
    }

    /// Checks a request inside a dialog, takes our Routes off and says where it goes next.
    pub(in crate::engine) fn passage(&mut self, received: &Request) -> Result<Passage, Box<Reply>> {
        let refuse = |status| Box::new(Reply::new(status));
        let hops = pass::next_max_forwards(&received.headers)?;
        self.check_loop(received)?;
        let relay = self.config.relay.as_ref().ok_or_else(|| refuse(StatusCode::FORBIDDEN))?;
        pass::check_proxy_require(&received.headers)?;
        let mut request = received.clone();
        request.headers.set(HeaderName::MAX_FORWARDS, hops.to_string());
        let (stamp, ends, far) =
            self.take_stamps(relay, &mut request).ok_or_else(|| refuse(StatusCode::FORBIDDEN))?;
        let leads = |uri: &Uri| leads_there(relay, &stamp, &ends, uri);
        let Some(owned) = &stamp.flow else {
            let next = self.next_by_uri(&mut request, far, leads)?;
            return Ok((Arc::new(request), next));
        };
        if owned.node == relay.node && owned.incarnation == self.relays.incarnation {
            let next = self.next_by_flow(&mut request, owned, leads);
            return Ok((Arc::new(request), next));
        }
        if let Some(hop) = relay.peers.get(&owned.node).filter(|_| owned.node != relay.node) {
            // Its owner takes the Routes off.
            let mut whole = received.clone();
            whole.headers.set(HeaderName::MAX_FORWARDS, hops.to_string());
            let way = self.way_to(Some(hop.clone()), &whole.headers, &whole.uri);
            let way = way.map_err(|_| refuse(StatusCode::FLOW_FAILED))?;
            return Ok((Arc::new(whole), Next::Way { way, pinned: true }));
        }
        match self.next_by_uri(&mut request, after(owned), leads) {
            Ok(next) if is_routable(&next, owned) => Ok((Arc::new(request), next)),
            _ => Err(refuse(StatusCode::FLOW_FAILED)),
        }
    }

    /// Takes all stamps off the front and gives the last one, which is that of the far side, the call with that side, and
    /// by which transport the far side knows us; `None` where one is not ours or there is none.
    fn take_stamps(
        &self,
        relay: &RelayConfig,
        request: &mut Request,
    ) -> Option<(Stamp, (StampedCall, Side), Transport)> {
        let strict = self.is_stamped(&request.uri);
        let first = if strict { request.uri.clone() } else { request.headers.typed::<Route>().ok()?.0.uri };
        let ends = ends(request).into_iter().find(|(call, _)| {
            first.user().is_some_and(|user| Stamp::read(&relay.keys, call, user).is_some())
        })?;
        let read = |uri: &Uri| {
            let far = target::transport_of(uri, Transport::Udp, false).ok().filter(|far| !far.is_websocket());
            Some((Stamp::read(&relay.keys, &ends.0, uri.user()?)?, far.unwrap_or(Transport::Udp)))
        };
        let mut last = None;
        if strict {
            last = Some(read(&request.uri)?);
            (self.has(Fault::StrictUriKept) || pass::restore_uri(request)).then_some(())?;
        }
        for _ in 0..MAX_OWN_ROUTES {
            match request.headers.typed::<Route>() {
                Ok(route) if self.names_us(&route.uri) => {
                    last = Some(read(&route.uri)?);
                    request.headers.take_first(HeaderName::ROUTE);
                }
                _ => break,
            }
        }
        let (stamp, far) = last?;
        Some((stamp, ends, far))
    }

    /// Whether we stay on the path between a subscriber who called through us and his notifier: his dialog begins with the
    /// NOTIFY, and takes its route from there (RFC 6665 §4.3, §4.4.1). One that goes to a flow's owner is the owner's to
    /// record.
    pub(super) fn stays_for_subscriber(&self, received: &Request, onward: &Request) -> bool {
        let Some(relay) = self.config.relay.as_ref().filter(|_| received.method == Method::Notify) else {
            return false;
        };
        let owned = onward.headers.typed::<Route>().is_ok_and(|route| self.names_us(&route.uri));
        let stamps = self.take_stamps(relay, &mut received.clone());
        !owned && stamps.is_some_and(|(_, (_, side), _)| side == Side::Caller)
    }

    /// By the next Route, or the Request-URI, if the call leads there, and by the `usual` transport where that names none.
    fn next_by_uri(
        &self,
        request: &mut Request,
        usual: Transport,
        leads: impl Fn(&Uri) -> bool,
    ) -> Result<Next, Box<Reply>> {
        let uri = match self.has(Fault::StrictRouterIgnored) {
            true => pass::next_uri(request),
            false => pass::suit_strict_router(request),
        };
        if stamp::host(&uri).is_some() && !leads(&uri) {
            let why = "the next hop is no host of this call";
            return Err(Box::new(Reply::new(StatusCode::FORBIDDEN).reason(why)));
        }
        let secure = target::asks_for_sips(&request.uri, &request.headers);
        let way = target::hop(&uri, usual, secure)
            .and_then(|hop| self.way_to(Some(hop), &request.headers, &request.uri));
        match way {
            Ok(way) => Ok(Next::Way { way: self.or_by_datagram(way, &uri), pinned: false }),
            Err(EngineError::Unresolved(_)) => Ok(Next::Resolve(uri)),
            Err(EngineError::Misuse(why)) => {
                Err(Box::new(Reply::new(StatusCode::UNSUPPORTED_URI_SCHEME).reason(why)))
            }
            Err(error) => {
                Err(Box::new(Reply::new(StatusCode::SERVER_INTERNAL_ERROR).reason(error.to_string())))
            }
        }
    }

    /// UDP, which a URI that names no transport means by the letter, is the second try after TCP.
    fn or_by_datagram(&self, way: Way, uri: &Uri) -> Way {
        let remote = way.flow.remote;
        if way.flow.transport != Transport::Tcp || target::names_transport(uri) {
            return way;
        }
        let dialled = |local| Flow { transport: Transport::Udp, local, remote, connection: None };
        let fallback = self.sender(Transport::Udp, remote).ok().map(|listener| dialled(listener.addr));
        Way { fallback, ..way }
    }

    /// By the connection that the peer opened; where it is gone, by the peer's address if that can be reached.
    fn next_by_flow(&self, request: &mut Request, owned: &OwnedFlow, leads: impl Fn(&Uri) -> bool) -> Next {
        let flow = owned.flow;
        let second =
            self.next_by_uri(request, after(owned), leads).ok().filter(|next| is_routable(next, owned));
        let fallback = second.and_then(|next| match next {
            Next::Way { way, .. } if !flow.transport.is_secure() || way.flow.transport.is_secure() => {
                Some(Flow { connection: None, ..way.flow })
            }
            _ => None,
        });
        Next::Way { way: Way { flow, fallback, name: None, pinned: true, lookup: None }, pinned: true }
    }
}

/// The call of a request inside a dialog, by its two tags: from the caller to the callee, or back.
fn ends(request: &Request) -> [(StampedCall, Side); 2] {
    let from = request.headers.typed::<From>().ok().and_then(|from| from.tag().map(Cow::into_owned));
    let to = request.headers.typed::<To>().ok().and_then(|to| to.tag().map(Cow::into_owned));
    [(from, Side::Callee), (to, Side::Caller)].map(|(tag, far)| {
        let caller = tag.unwrap_or_default();
        (StampedCall { call_id: call_id(&request.headers), caller }, far)
    })
}

/// Whether requests of a call may go to this URI.
fn leads_there(relay: &RelayConfig, stamp: &Stamp, (call, far): &(StampedCall, Side), uri: &Uri) -> bool {
    let Some(host) = stamp::host(uri) else { return false };
    let named = || host.parse().is_ok_and(|ip| relay.networks.contains(ip));
    stamp.allows(&relay.keys, call, *far, &host) || named()
}

/// By which transport a peer whose connection is gone is asked where its URI names none: by UDP after TCP, as a dialog of
/// our own does, and by nothing less than TLS after that.
fn after(owned: &OwnedFlow) -> Transport {
    if owned.flow.transport == Transport::Tls { Transport::Tls } else { Transport::Udp }
}

/// Whether a peer whose connection is gone can be reached anew: its address is the one that it was seen at, so no NAT is
/// in between, or a public one.
fn is_routable(next: &Next, owned: &OwnedFlow) -> bool {
    let Next::Way { way, .. } = next else { return true };
    let ip = way.flow.remote.ip();
    !way.flow.transport.is_websocket() && (ip == owned.flow.remote.ip() || is_public(ip))
}

/// Not of a private network, of this host or of this link (RFC 6890).
fn is_public(ip: std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            !(shared || ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified())
        }
        std::net::IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
    }
}
