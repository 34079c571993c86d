//! Requests inside dialogs that another end answers: forwarded from their Route alone, by any proxy of the pool
//! (RFC 3261 §16.4 to §16.6, §16.12; RFC 5626 §5.3).
//!
//! A Route that names us has to carry a stamp of the pool for this Call-ID, or the request is refused with 403: nobody
//! uses the pool to reach a place that no call of its own has led to.

use std::sync::Arc;
use std::time::Instant;

use super::record::call_id;
use super::{Engine, Kind, Plan, Relay};
use crate::engine::event::{EngineError, Event, Reply, ServerTx};
use crate::engine::flow::{Flow, Hop, Transmit};
use crate::engine::outbound::Purpose;
use crate::engine::target::{self, Way};
use crate::message::header::{Route, Via};
use crate::message::{HeaderName, Host, Request, StatusCode, Uri};
use crate::observe::DropReason;
use crate::observe::capsule::{Command, Input};
use crate::roles::relay::stamp::{self, OwnedFlow};
use crate::roles::relay::{RelayConfig, pass};

/// Most of our own Routes that are taken off one request: a call that came through the pool time and again.
const MAX_OWN_ROUTES: usize = 16;

/// A request inside a dialog whose next hop is a name: it waits for an address.
#[derive(Debug, Clone)]
pub struct Forward {
    pub(crate) server: Option<ServerTx>,
    pub(crate) request: Arc<Request>,
    /// The host to resolve.
    pub uri: Uri,
}

/// Where a request goes on to.
enum Next {
    Way { way: Way, pinned: bool },
    Resolve(Uri),
}

/// A request as it goes on, and where to.
type Passage = (Request, Next);

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
        pass::next_max_forwards(&request.headers)?;
        self.check_loop(request)?;
        pass::check_proxy_require(&request.headers)?;
        let spiral = request.headers.typed_all::<Via>().flatten().any(|via| self.signed_by_us(&via));
        if spiral { Ok(()) } else { self.check_merged(id, request) }
    }

    /// Forwards a request inside a dialog; `Err` is the answer that refuses it.
    pub(in crate::engine) fn relay_through(
        &mut self,
        now: Instant,
        id: u64,
        request: &Arc<Request>,
    ) -> Result<(), Box<Reply>> {
        let (forwarded, next) =
            self.passage(request).inspect_err(|_| self.watch.discard(DropReason::Unroutable))?;
        match next {
            Next::Resolve(uri) => self.ask_for_address(Some(ServerTx(id)), forwarded, uri),
            Next::Way { way, pinned } => self.pass_on(now, id, request, &forwarded, way, pinned),
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
            Ok((forwarded, Next::Way { way, .. })) => self.pass_ack_on(ack, &forwarded, way),
            Ok((forwarded, Next::Resolve(uri))) => self.ask_for_address(None, forwarded, uri),
            Err(_) => self.watch.discard(DropReason::Unroutable),
        }
        true
    }

    /// Goes on with a request whose next hop has been resolved; `None` where it has no address.
    ///
    /// # Errors
    /// [`EngineError::NoListener`] where no listener can send there; it has then been answered.
    pub fn forward(&mut self, now: Instant, forward: Forward, hop: Option<Hop>) -> Result<(), EngineError> {
        self.record(Some(now), || Input::command(Command::Forward(forward.clone(), hop.clone())));
        let Forward { server, request, .. } = forward;
        let unresolved = || EngineError::Unresolved(String::from("the next hop"));
        let way = hop.ok_or_else(unresolved);
        let way = way.and_then(|hop| self.way_to(Some(hop), &request.headers, &request.uri));
        match (server, way) {
            (None, Ok(way)) => self.pass_ack_on(&request, &request, way),
            (None, Err(_)) => self.watch.discard(DropReason::Unroutable),
            (Some(tx), Ok(way)) => self.pass_on(now, tx.0, &request, &request, way, false),
            (Some(tx), Err(error)) => {
                self.answer(now, tx.0, Reply::new(StatusCode::SERVER_INTERNAL_ERROR));
                return Err(error);
            }
        }
        Ok(())
    }

    fn check_loop(&mut self, request: &Request) -> Result<(), Box<Reply>> {
        match self.mark(request).is_some_and(|mark| pass::has_looped(&request.headers, &mark)) {
            true => Err(Box::new(Reply::new(StatusCode::LOOP_DETECTED))),
            false => Ok(()),
        }
    }

    fn ask_for_address(&mut self, server: Option<ServerTx>, request: Request, uri: Uri) {
        let forward = Forward { server, request: Arc::new(request), uri };
        self.events.push_back(Event::Forward(Box::new(forward)));
    }

    fn pass_on(
        &mut self,
        now: Instant,
        id: u64,
        received: &Request,
        forwarded: &Request,
        way: Way,
        pinned: bool,
    ) {
        let branch = self.relay_branch(received);
        let (request, way) = self.dress(forwarded, way, &branch, None);
        let client = self.start_client(now, request, branch, way, None, Purpose::Relay(id));
        let mut relay = Relay::new(Kind::Within { pinned }, Plan::new([]));
        relay.current = Some(client);
        self.relays.by_server.insert(id, relay);
    }

    fn pass_ack_on(&mut self, received: &Request, forwarded: &Request, way: Way) {
        let branch = self.relay_branch(received);
        let (ack, Way { flow, fallback, name }) = self.dress(forwarded, way, &branch, None);
        self.transmits.push_back(Transmit { flow, fallback, name, bytes: ack.to_bytes(), owner: None });
    }

    /// Checks a request inside a dialog, takes our Routes off and says where it goes next.
    fn passage(&mut self, received: &Request) -> Result<Passage, Box<Reply>> {
        let refuse = |status| Box::new(Reply::new(status));
        let hops = pass::next_max_forwards(&received.headers)?;
        self.check_loop(received)?;
        let relay = self.config.relay.as_ref().ok_or_else(|| refuse(StatusCode::FORBIDDEN))?;
        pass::check_proxy_require(&received.headers)?;
        let mut request = received.clone();
        request.headers.set(HeaderName::MAX_FORWARDS, hops.to_string());
        let Some(owned) =
            self.take_stamps(relay, &mut request).ok_or_else(|| refuse(StatusCode::FORBIDDEN))?
        else {
            let next = self.next_by_uri(&mut request)?;
            return Ok((request, next));
        };
        if owned.node == relay.node && owned.incarnation == self.relays.incarnation {
            let next = self.next_by_flow(&mut request, owned.flow);
            return Ok((request, next));
        }
        if let Some(hop) = relay.peers.get(&owned.node).filter(|_| owned.node != relay.node) {
            // Its owner takes the Routes off.
            let mut whole = received.clone();
            whole.headers.set(HeaderName::MAX_FORWARDS, hops.to_string());
            let way = self.way_to(Some(hop.clone()), &whole.headers, &whole.uri);
            let way = way.map_err(|_| refuse(StatusCode::FLOW_FAILED))?;
            return Ok((whole, Next::Way { way, pinned: true }));
        }
        match self.next_by_uri(&mut request) {
            Ok(next) if is_routable(&next, &owned) => Ok((request, next)),
            _ => Err(refuse(StatusCode::FLOW_FAILED)),
        }
    }

    /// Takes all stamps off the front and gives the last one, which is that of the far side; `None` where one is not
    /// ours or there is none.
    #[allow(clippy::option_option)] // No stamp, one without a flow, one with.
    fn take_stamps(&self, relay: &RelayConfig, request: &mut Request) -> Option<Option<OwnedFlow>> {
        let call = call_id(request);
        let read = |uri: &Uri| stamp::read(&relay.keys, &call, uri.user()?);
        let mut last = None;
        if self.is_stamped(&request.uri) {
            last = Some(read(&request.uri)?);
            pass::restore_uri(request).then_some(())?;
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
        last
    }

    /// By the next Route, or the Request-URI.
    fn next_by_uri(&self, request: &mut Request) -> Result<Next, Box<Reply>> {
        pass::suit_strict_router(request);
        let uri = pass::next_uri(request);
        let way = multicast(&uri)
            .map_or_else(|| target::hop(&uri), Ok)
            .and_then(|hop| self.way_to(Some(hop), &request.headers, &request.uri));
        match way {
            Ok(way) => Ok(Next::Way { way, pinned: false }),
            Err(EngineError::Unresolved(_)) => Ok(Next::Resolve(uri)),
            Err(EngineError::Misuse(why)) => {
                Err(Box::new(Reply::new(StatusCode::UNSUPPORTED_URI_SCHEME).reason(why)))
            }
            Err(error) => {
                Err(Box::new(Reply::new(StatusCode::SERVER_INTERNAL_ERROR).reason(error.to_string())))
            }
        }
    }

    /// By the connection that the peer opened; where it is gone, by the peer's address if that can be reached.
    fn next_by_flow(&self, request: &mut Request, flow: Flow) -> Next {
        let owned = OwnedFlow { node: String::new(), incarnation: 0, flow };
        let second = self.next_by_uri(request).ok().filter(|next| is_routable(next, &owned));
        let fallback = second.and_then(|next| match next {
            Next::Way { way, .. } if !flow.transport.is_secure() || way.flow.transport.is_secure() => {
                Some(Flow { connection: None, ..way.flow })
            }
            _ => None,
        });
        Next::Way { way: Way { flow, fallback, name: None }, pinned: true }
    }
}

/// `maddr` stands in for the host (RFC 3261 §19.1.1, §16.5).
fn multicast(uri: &Uri) -> Option<Hop> {
    let Host::Ip(ip) = Host::of(uri.param("maddr")??) else { return None };
    let transport = target::transport(uri).ok()?;
    let addr = std::net::SocketAddr::new(ip, uri.port().unwrap_or(transport.default_port()));
    Some((transport, addr).into())
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
