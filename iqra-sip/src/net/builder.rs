//! From settings to bound sockets and running tasks.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::endpoint::Endpoint;
use super::incoming::Incoming;
use super::resolver::Resolver;
use super::router::Router;
use super::shards::{Shard, Spread};
use super::shared::{Core, Handle, Shared};
use super::tcp::{self, Acceptor};
use super::{driver, udp};
use crate::engine::Engine;
use crate::engine::config::EngineConfig;
use crate::engine::flow::{Listener, Transport};
use crate::engine::random::Seed;
use crate::observe::capsule::CapsuleConfig;
use crate::observe::{Observer, Observers, TraceRecord};
use crate::resolve::ResolveLimits;

/// The bounds of the sockets; those of the state are in [`EngineConfig`].
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Requests outside dialogs that wait for [`Incoming::next`], 1 at least; more are answered 503. Default 4,096.
    pub incoming_queue: usize,
    /// Parts that the calls are spread over, each with an engine and a UDP socket for every address: 1 to 256, for
    /// programs that one core cannot carry, as many as there are cores. Calls are spread by their Call-ID.
    /// [`EngineConfig::max_transactions`] and [`EngineConfig::max_dialogs`] are divided among them; the guard and all
    /// limits here are for all of them together, but for the receive buffers. More than 1 needs SO_REUSEPORT, which
    /// Linux and the BSDs have. Default 1, which costs nothing.
    pub shards: usize,
    /// Kernel receive buffer of a UDP socket, in bytes; the kernel may grant less. Default 4 MiB, with which a burst
    /// of 30,000 calls a second is not lost while the process waits for a core.
    pub receive_buffer: usize,
    /// Most stream connections, either way; more are closed at once. Peers open seven eighths of them at most: the rest is
    /// kept for connections of ours, so that no crowd cuts us off from those whom we call. Nothing is closed to make room:
    /// who is connected stays until it is [`idle`](Self::idle). Default 4,096.
    pub max_connections: usize,
    /// Most connections that one source opens: an IPv4 address, or the /64 of an IPv6 one. Room for the phones behind one
    /// NAT. Default 512.
    pub max_connections_per_source: usize,
    /// Most connections that one IPv6 /48 opens, which one customer may have to itself. Default 1,024.
    pub max_connections_per_wide_source: usize,
    /// A connection without a message or keep-alive for this long is closed. A WebSocket peer that answers our pings stays.
    /// Default 10 minutes.
    pub idle: Duration,
    /// A message must be whole this long after its first byte, or its connection is closed. Default 10 s.
    pub partial_message: Duration,
    /// How long a new connection may take to be set up. Default 5 s.
    pub connect: Duration,
    /// How long TLS and WebSocket may take to be agreed on, together. Default 5 s.
    pub handshake: Duration,
    /// How long one message may take to be written before the peer is given up. Default 10 s.
    pub write: Duration,
    /// Messages that wait on one connection; one more closes it. Default 256.
    pub write_queue: usize,
    /// A WebSocket connection is pinged when nothing came for this long, and closed when nothing comes for as long again.
    /// Default 30 s.
    pub websocket_ping: Duration,
    /// Origins whose pages may open WebSocket connections, as browsers write them (`https://phone.example.org`). Empty
    /// allows every page; clients that name no origin, which browsers cannot do, are always let in. Default empty.
    pub origins: Vec<String>,
    /// How much looking up one name may take.
    pub resolve: ResolveLimits,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            incoming_queue: 4_096,
            shards: 1,
            receive_buffer: 4 << 20,
            max_connections: 4_096,
            max_connections_per_source: 512,
            max_connections_per_wide_source: 1_024,
            idle: Duration::from_secs(600),
            partial_message: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            write: Duration::from_secs(10),
            write_queue: 256,
            websocket_ping: Duration::from_secs(30),
            origins: Vec::new(),
            resolve: ResolveLimits::default(),
        }
    }
}

/// One socket to bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    transport: Transport,
    addr: SocketAddr,
    advertised: Option<SocketAddr>,
}

impl Bind {
    /// A socket of this transport; port 0 takes any.
    #[must_use]
    pub fn new(transport: Transport, addr: impl Into<SocketAddr>) -> Self {
        Self { transport, addr: addr.into(), advertised: None }
    }

    /// What peers reach this socket at, address and port: for a NAT that forwards another port.
    #[must_use]
    pub fn advertise(self, addr: impl Into<SocketAddr>) -> Self {
        Self { advertised: Some(addr.into()), ..self }
    }
}

/// Sets an endpoint up.
#[derive(Default)]
pub struct Builder {
    binds: Vec<Bind>,
    #[cfg(feature = "tls")]
    tls: Option<super::tls::TlsConfig>,
    advertise: Vec<IpAddr>,
    engine: EngineConfig,
    capsules: Option<CapsuleConfig>,
    net: NetConfig,
    observers: Observers,
    resolver: Option<Arc<dyn Resolver>>,
    trace_secrets: bool,
}

impl Builder {
    /// Adds a socket of any transport, with an address of its own to advertise.
    #[must_use]
    pub fn listen(mut self, bind: Bind) -> Self {
        self.binds.push(bind);
        self
    }

    /// Adds a UDP socket; port 0 takes any.
    #[must_use]
    pub fn udp(self, addr: impl Into<SocketAddr>) -> Self {
        self.listen(Bind::new(Transport::Udp, addr))
    }

    /// Adds a TCP listener; port 0 takes any.
    #[must_use]
    pub fn tcp(self, addr: impl Into<SocketAddr>) -> Self {
        self.listen(Bind::new(Transport::Tcp, addr))
    }

    /// Adds a TLS listener; it needs [`tls_config`](Self::tls_config) with an identity.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(self, addr: impl Into<SocketAddr>) -> Self {
        self.listen(Bind::new(Transport::Tls, addr))
    }

    /// Adds a WebSocket listener.
    #[cfg(feature = "ws")]
    #[must_use]
    pub fn ws(self, addr: impl Into<SocketAddr>) -> Self {
        self.listen(Bind::new(Transport::Ws, addr))
    }

    /// Adds a listener for WebSocket over TLS; it needs [`tls_config`](Self::tls_config) with an identity.
    #[cfg(all(feature = "tls", feature = "ws"))]
    #[must_use]
    pub fn wss(self, addr: impl Into<SocketAddr>) -> Self {
        self.listen(Bind::new(Transport::Wss, addr))
    }

    /// Who we are and whom we trust on secure transports, listening or connecting. Keep a clone to
    /// [reload](super::TlsConfig::reload) it.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls_config(self, tls: super::tls::TlsConfig) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The address that peers reach us at: in Via and Contact, in place of the bound one, for every socket of its family
    /// without [an address of its own](Bind::advertise). Needed where a socket is bound to all addresses (`0.0.0.0`, `::`)
    /// or stands behind a NAT. One for each family; a later one replaces the earlier.
    #[must_use]
    pub fn advertise(mut self, ip: IpAddr) -> Self {
        self.advertise.retain(|known| known.is_ipv4() != ip.is_ipv4());
        self.advertise.push(ip);
        self
    }

    /// Keeps capsules of the last calls, to be taken by [`Endpoint::capsule`]. Each costs the work of copying its messages.
    /// Default off.
    #[must_use]
    pub fn capsules(self, capsules: CapsuleConfig) -> Self {
        Self { capsules: Some(capsules), ..self }
    }

    /// Timers, limits and manners of the engine.
    #[must_use]
    pub fn config(self, engine: EngineConfig) -> Self {
        Self { engine, ..self }
    }

    /// Bounds of the sockets.
    #[must_use]
    pub fn net(self, net: NetConfig) -> Self {
        Self { net, ..self }
    }

    /// Shows every message on the wire, credentials and media keys replaced. Called on the I/O path: it must neither
    /// block nor call the endpoint.
    #[must_use]
    pub fn trace(self, trace: Arc<dyn Fn(&TraceRecord) + Send + Sync>) -> Self {
        self.observe(Arc::new(Trace(trace)))
    }

    /// Shows messages, transactions, dialogs and drops to one more observer.
    #[must_use]
    pub fn observe(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Leaves credentials and media keys in traces.
    #[must_use]
    pub fn trace_secrets(self) -> Self {
        Self { trace_secrets: true, ..self }
    }

    /// Who looks names up. Default: the [`SystemResolver`](super::SystemResolver).
    #[must_use]
    pub fn resolver(self, resolver: Arc<dyn Resolver>) -> Self {
        Self { resolver: Some(resolver), ..self }
    }

    /// Binds the sockets and starts the tasks, on the current tokio runtime.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when no socket is asked for, one is bound to all addresses and none of its family
    /// is advertised, or its transport lacks its feature or certificate; else what the operating system says, with the
    /// address and what to do.
    pub async fn bind(self) -> io::Result<(Endpoint, Incoming)> {
        self.check().map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
        let spread = Spread::new(self.net.shards);
        let mut udp: Vec<Vec<udp::Socket>> = (0..spread.count()).map(|_| Vec::new()).collect();
        let (mut listeners, mut acceptors) = (Vec::new(), Vec::new());
        for bind in &self.binds {
            let addr = if bind.transport == Transport::Udp {
                let sockets = udp::bind_all(bind.addr, self.net.receive_buffer, spread.count())?;
                let addr = sockets.first().map_or(bind.addr, |socket| socket.local);
                udp.iter_mut().zip(sockets).for_each(|(of_shard, socket)| of_shard.push(socket));
                addr
            } else {
                let listener = tcp::bind(bind.addr).map_err(|error| named(bind.addr, &error))?;
                let addr = listener.local_addr()?;
                acceptors.push(Acceptor { transport: bind.transport, listener });
                addr
            };
            listeners.push(self.listener(bind, addr));
        }
        listeners.sort_by_key(|listener| listener.transport);
        let (sender, requests) = mpsc::channel(self.net.incoming_queue.max(1));
        let engines = spread.engines(&self.engine, os_seed)?;
        let equip = |(mut engine, udp): (Engine, _)| {
            listeners.iter().for_each(|listener| engine.add_listener(*listener));
            if let Some(capsules) = self.capsules.clone() {
                engine.keep_capsules(capsules);
            }
            if !self.observers.is_empty() {
                engine.observe(Arc::new(self.observers.clone()));
            }
            Shard::new(Core::new(engine, Router::new(sender.clone())), udp)
        };
        let shards = engines.into_iter().zip(udp).map(equip).collect();
        drop(sender);
        let mut shared = Shared::new((shards, spread), listeners, self.net);
        (shared.limits, shared.replaces) = (self.engine.limits, self.engine.transfer.replaces);
        (shared.observers, shared.trace_secrets) = (self.observers, self.trace_secrets);
        if let Some(resolver) = self.resolver {
            shared.resolver = resolver;
        }
        #[cfg(feature = "tls")]
        {
            shared.tls = self.tls;
        }
        let handle = Handle::new(shared);
        driver::start(handle.shared(), acceptors);
        let incoming = Incoming::new(requests, handle.shared());
        Ok((Endpoint::new(handle), incoming))
    }

    fn check(&self) -> Result<(), String> {
        if self.binds.is_empty() {
            return Err(String::from("no socket to bind: call udp, tcp or another of the transports"));
        }
        for bind in &self.binds {
            let (transport, addr) = (bind.transport, bind.addr);
            if !tcp::is_built_in(transport) {
                return Err(format!("{transport} on {addr} is not built in: enable its feature, tls or ws"));
            }
            #[cfg(feature = "tls")]
            if transport.is_secure() && !self.tls.as_ref().is_some_and(super::tls::TlsConfig::has_identity) {
                return Err(format!("{transport} on {addr} has no certificate: give tls_config an identity"));
            }
            if self.listener(bind, addr).advertised.ip().is_unspecified() {
                return Err(format!(
                    "{addr} is no address that a peer can reach: advertise one of its family"
                ));
            }
        }
        Ok(())
    }

    /// What a bound socket is called: by its own advertised address, else the common one of its family, else as bound.
    fn listener(&self, bind: &Bind, addr: SocketAddr) -> Listener {
        let common = self.advertise.iter().find(|ip| ip.is_ipv4() == addr.is_ipv4()).copied();
        let listener = Listener::new(bind.transport, addr, common);
        Listener { advertised: bind.advertised.unwrap_or(listener.advertised), ..listener }
    }
}

/// A callback as an observer of messages.
struct Trace(Arc<dyn Fn(&TraceRecord) + Send + Sync>);

impl Observer for Trace {
    fn message(&self, record: &TraceRecord) {
        (self.0)(record);
    }
}

/// An error of the operating system, with the address it is about and what to do.
pub(super) fn named(addr: SocketAddr, error: &io::Error) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => ": stop what listens there, or choose another port",
        io::ErrorKind::AddrNotAvailable => ": no interface of this machine has it, bind to one that it has",
        io::ErrorKind::PermissionDenied => ": ports below 1024 need a privilege, choose a higher one",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{addr}: {error}{remedy}"))
}

pub(super) fn os_seed() -> io::Result<Seed> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(format!("no randomness: {error}")))?;
    Ok(Seed::from(bytes))
}
