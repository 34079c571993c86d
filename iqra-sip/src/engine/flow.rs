//! Where a message came from and where one goes: the engine's picture of sockets, without sockets.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use crate::observe::Outline;

/// A transport protocol under SIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// One message per datagram; lost messages are repeated by the transaction layer.
    Udp,
    /// A stream, framed by Content-Length (RFC 3261 §18.3).
    Tcp,
    /// TLS over TCP, framed like it (RFC 3261 §26.2.1).
    Tls,
    /// WebSocket: one message per WebSocket message (RFC 7118).
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// Every transport.
    pub const ALL: [Transport; 5] =
        [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

    /// True where the transport repeats lost octets itself, so that transactions do not.
    #[must_use]
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Transport::Udp)
    }

    /// True where nobody between the two ends can read along: what `sips` asks for (RFC 3261 §26.2.2).
    #[must_use]
    pub const fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }

    /// True for WebSocket, where only the client can open a connection (RFC 7118 §5.2.4).
    #[must_use]
    pub const fn is_websocket(self) -> bool {
        matches!(self, Transport::Ws | Transport::Wss)
    }

    /// The port where a URI or a sent-by names none (RFC 3261 §19.1.2, RFC 7118 §5.3).
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
        }
    }

    /// The name in a Via header, `UDP`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }

    /// The value of a URI's `transport` parameter; `ws` stands for both kinds of WebSocket (RFC 7118 §5.2.2).
    #[must_use]
    pub const fn as_param(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws | Transport::Wss => "ws",
        }
    }

    /// The transport of that name, whatever its case; `None` for those that are not built in.
    #[must_use]
    pub fn named(name: &str) -> Option<Transport> {
        Self::ALL.into_iter().find(|transport| transport.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a request goes next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hop {
    /// The transport.
    pub transport: Transport,
    /// The peer's socket.
    pub addr: SocketAddr,
    /// The domain that the peer's certificate must name (RFC 5922 §4); `None` wants the address itself in it. Without
    /// meaning for transports that are not secure.
    pub name: Option<Arc<str>>,
    /// The flow to take, and no other: that over which the peer registered (RFC 5626 §5.3), as `Hop::from(flow)` makes it;
    /// `None` is the way to any peer that can be dialled. On a stream it is that very connection, whatever its peer has
    /// proven to be: who comes by it is what the registrar has checked. Where it has ended the hop fails.
    pub flow: Option<Flow>,
}

impl Hop {
    /// The same hop, its peer known by a domain.
    #[must_use]
    pub fn named(self, domain: &str) -> Self {
        Self { name: Some(domain.into()), ..self }
    }
}

impl From<(Transport, SocketAddr)> for Hop {
    fn from((transport, addr): (Transport, SocketAddr)) -> Self {
        Self { transport, addr, name: None, flow: None }
    }
}

/// Down the flow that a request came by, such as [`IncomingOther::source`](crate::net::IncomingOther::source) of a
/// REGISTER: a browser over WebSocket, a client over TLS without a certificate, a phone behind a NAT.
impl From<Flow> for Hop {
    fn from(flow: Flow) -> Self {
        Self { flow: Some(flow), ..Self::from((flow.transport, flow.remote)) }
    }
}

/// Names a stream connection for as long as the process lives; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The two ends between which a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The transport.
    pub transport: Transport,
    /// Our socket: as bound or, where UDP is bound to all addresses (`0.0.0.0`, `::`) and the system tells, the address that
    /// the peer wrote to. What goes back along the flow leaves from there (RFC 3581 §4); as bound the system picks one.
    pub local: SocketAddr,
    /// The peer's socket, as its packets show it.
    pub remote: SocketAddr,
    /// The connection on a stream transport; `None` asks for any connection to `remote`, or a new one.
    pub connection: Option<ConnectionId>,
}

/// Whether a socket that is bound there has this address: its own or, bound to all of its family, any with its port.
pub(crate) fn is_bound_for(bound: SocketAddr, local: SocketAddr) -> bool {
    let any = bound.ip().is_unspecified() && bound.is_ipv4() == local.is_ipv4();
    bound == local || (any && bound.port() == local.port())
}

/// A socket that takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// The transport.
    pub transport: Transport,
    /// Where it is bound; the port is the real one even if 0 was asked for.
    pub addr: SocketAddr,
    /// What Via and Contact say: the advertised address with the bound port.
    pub advertised: SocketAddr,
}

impl Listener {
    /// A listener that advertises `ip` in place of the address it is bound to.
    #[must_use]
    pub fn new(transport: Transport, addr: SocketAddr, ip: Option<IpAddr>) -> Self {
        Self { transport, addr, advertised: SocketAddr::new(ip.unwrap_or(addr.ip()), addr.port()) }
    }
}

/// What asked for a [`Transmit`], so that a failure to send finds its way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Owner {
    Server(u64),
    Client(u64),
    Dialog(u64),
    Relay(u64),
    Subscription(u64),
    Lookup(u64),
}

/// A message to put on the wire. Its `Debug` shows the kind and the size of the message, nothing that it says.
#[derive(Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Between which ends.
    pub flow: Flow,
    /// Where to try next when `flow` cannot carry it (RFC 3261 §18.2.2). Requests that wait for an answer have none:
    /// the engine words them anew for their second way.
    pub fallback: Option<Flow>,
    /// The domain that the peer of a secure flow has to prove, as in [`Hop`].
    pub name: Option<Arc<str>>,
    /// The message.
    pub bytes: Bytes,
    pub(crate) owner: Option<Owner>,
}

impl fmt::Debug for Transmit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flow, fallback, name, bytes, owner: _ } = self;
        write!(f, "Transmit({flow:?} else {fallback:?} to {name:?} {:?})", Outline(bytes))
    }
}

impl Transmit {
    /// The same message by the second way, if there is one.
    #[must_use]
    pub fn by_fallback(&self) -> Option<Transmit> {
        let flow = self.fallback?;
        let (name, bytes) = (self.name.clone(), self.bytes.clone());
        Some(Transmit { flow, fallback: None, name, bytes, owner: self.owner })
    }
}
