//! Relaying calls and other requests: a proxy that stays on the path of the dialogs it opens (RFC 3261 §16).
//!
//! ```text
//!  INVITE ─ Event::Invite ─ Engine::relay(Plan) ─► target 1 ─ 5xx, silence ─► NextTarget ─► target 2 ─ 180, 200 ─► caller
//!  MESSAGE, SUBSCRIBE … ─ Event::Request ─ the same; no provisional response and no 408 goes back (RFC 4320 §4)
//!  in a dialog, ACK ─ Route with our stamp ─ checked, taken off ─► next Route, Request-URI or the peer's connection
//! ```
//! Here are its settings and what can be decided without state: the keys of the pool, the [`stamp`] in a Record-Route,
//! what a request has to be to pass. The engine's part is in `engine/relay`.

mod identity;
pub(crate) mod keys;
pub(crate) mod pass;
pub(crate) mod stamp;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use identity::Trusted;
pub use keys::{KeyError, MAX_KEYS, MIN_KEY, RelayKeys};

use crate::engine::flow::{Hop, Transport};
use crate::guard::Networks;
use crate::message::{HeaderName, Headers, Request, Response, Uri};

/// What makes an engine one proxy of a pool. Any proxy with the same keys forwards what belongs to a call that another
/// one relayed: all that it needs is in the request.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// The name of this proxy in its pool.
    pub(crate) node: String,
    /// The pool's keys.
    pub keys: RelayKeys,
    /// What Record-Route names, the first that fits the transport, so that the pool's other proxies can be reached by
    /// it too. Default none: the listener's advertised address.
    pub pool: Vec<PoolName>,
    /// The other proxies by name: who is not in it has no connections any more.
    pub peers: BTreeMap<String, Hop>,
    /// Where requests inside dialogs may go besides the hosts that the call began with: the networks of peers whose
    /// Contact moves to another address within a call. Whoever has a call can send to all of them. Default none: such a
    /// request is answered 403.
    pub networks: Networks,
}

impl RelayConfig {
    /// A pool of one, which it stays where `pool` and `peers` are empty. The name of this proxy has 32 octets at most;
    /// what is longer is cut.
    #[must_use]
    pub fn new(node: impl Into<String>, keys: RelayKeys) -> Self {
        let mut node = node.into();
        while node.len() > stamp::MAX_NODE {
            node.pop();
        }
        Self { node, keys, pool: Vec::new(), peers: BTreeMap::new(), networks: Networks::default() }
    }
}

/// A name that every proxy of the pool answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolName {
    /// The transport.
    pub transport: Transport,
    /// A host name that resolves to all proxies, or a shared address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// How a request is to be relayed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where it may go, best first; at least one.
    pub targets: Vec<Target>,
    /// Whether this proxy stays on the path of the dialog that an INVITE, SUBSCRIBE or REFER opens. Default yes.
    pub record_route: bool,
    /// Whether the caller may route: Route headers of its own, which do not name us or the pool, go on to the target, and
    /// the first of them is the way where [`Target::hops`] has none. Default no: they are taken off, and the way comes
    /// from the target alone.
    ///
    /// # Risk
    /// With it whoever may call can send through us to any place that we reach, our own networks among them, and in our
    /// name where peers trust our address: what RFC 3261 §16.4 lets a proxy do, for callers who are known (§26.1). Leave
    /// it off for callers from outside.
    pub follow_routes: bool,
    /// When the next target is tried.
    pub timings: RelayTimings,
}

impl Plan {
    /// One target after the other, staying on the path.
    #[must_use]
    pub fn new(targets: impl IntoIterator<Item = Target>) -> Self {
        Self {
            targets: targets.into_iter().collect(),
            record_route: true,
            follow_routes: false,
            timings: RelayTimings::default(),
        }
    }
}

/// A place to forward a request to.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// The new Request-URI; `None` leaves the one that came.
    pub uri: Option<Uri>,
    /// Where it goes, each tried when the one before fails, is silent or answers 503 (RFC 3263 §4.3). None takes the
    /// first Route among [`headers`](Self::headers), else the Request-URI; a name in it is asked for by
    /// [`Event::Lookup`](crate::event::Event::Lookup). The caller's own Routes count with [`Plan::follow_routes`] alone.
    pub hops: Vec<Hop>,
    /// Headers for this target alone; each replaces all of its name. A Route here is the path that the request is to take
    /// (RFC 3261 §16.6 step 6).
    pub headers: Headers,
    /// Headers of the request that do not go to this target; one among [`headers`](Self::headers) goes all the same.
    /// Default none. Via, From, To, Call-ID, CSeq and Max-Forwards cannot be taken off.
    /// [`guarding_identity`](Self::guarding_identity) names those of RFC 3325.
    pub without: Vec<HeaderName>,
}

/// When a target is given up. After a response from 101 to 199 has been forwarded none is. Where nothing is left to try, a
/// request other than INVITE waits on as long as its sender does (Timer F).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayTimings {
    /// Without any response of a hop, or without an address for its name. Default 2 s.
    pub silent: Duration,
    /// With a 100 (Trying) alone, after it. Default 5 s.
    pub trying: Duration,
}

impl Default for RelayTimings {
    fn default() -> Self {
        Self { silent: Duration::from_secs(2), trying: Duration::from_secs(5) }
    }
}

/// What happens to a relayed request.
#[derive(Debug, Clone)]
pub enum RelayEvent {
    /// The request left for the next target; the first is number 1. Another hop of the same target is no news.
    Trying {
        /// The target's number.
        attempt: u32,
    },
    /// A target is given up. The request waits for [`Engine::relay_to`](crate::Engine::relay_to) with the next one,
    /// changed where need be, [`Engine::relay_best`](crate::Engine::relay_best) or
    /// [`Engine::give_up`](crate::Engine::give_up).
    NextTarget {
        /// The number of the target that failed.
        attempt: u32,
        /// Why it did.
        failure: AttemptFailure,
        /// The next one of the plan; `None` when there is none left.
        target: Option<Box<Target>>,
    },
    /// A response from 101 to 199 was forwarded.
    Provisional(Arc<Response>),
    /// A 2xx was forwarded. Nothing follows.
    Answered(Arc<Response>),
    /// Any other final response was forwarded, or worded here. Nothing follows.
    Refused(Arc<Response>),
    /// The caller cancelled by this CANCEL; one goes on as soon as it may. The target's answer decides, unless
    /// [`Engine::give_up`](crate::Engine::give_up) answers 487 before.
    Cancelled(Arc<Request>),
    /// The caller cannot be reached any more, or waits no longer: nobody answered a request other than INVITE in its time
    /// (RFC 4320 §4.2). Nothing follows.
    Ended,
}

/// Why a target is given up.
#[derive(Debug, Clone)]
pub enum AttemptFailure {
    /// It answered 5xx, or 482: the way to it is one that the request has gone before.
    Refused(Arc<Response>),
    /// Nothing came, or a 408 to a request other than INVITE.
    Silent,
    /// A 100 came, and then nothing.
    Stalled,
    /// There is no way to it, or the transport failed.
    Unreachable,
    /// The flow that its last hop names is gone ([`Hop::flow`]): whoever registered over it is to be forgotten
    /// (RFC 5626 §5.3).
    FlowGone,
}
