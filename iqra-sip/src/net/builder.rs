//! From settings to bound sockets and running tasks.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::endpoint::Endpoint;
use super::incoming::Incoming;
use super::router::Router;
use super::shared::{Core, Handle, Shared};
use super::{driver, udp};
use crate::engine::Engine;
use crate::engine::config::EngineConfig;
use crate::engine::flow::{Listener, Transport};
use crate::engine::random::Seed;
use crate::observe::{Observer, Observers, TraceRecord};

/// The bounds of the sockets; those of the state are in [`EngineConfig`].
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Requests outside dialogs that wait for [`Incoming::next`], 1 at least; more are answered 503. Default 4,096.
    pub incoming_queue: usize,
    /// Kernel receive buffer of a UDP socket, in bytes; the kernel may grant less. Default 4 MiB, with which a burst
    /// of 30,000 calls a second is not lost while the process waits for a core.
    pub receive_buffer: usize,
    /// Most stream connections, either way; more are closed at once. Default 4,096.
    pub max_connections: usize,
    /// A connection without a message or keep-alive for this long is closed. Default 10 minutes.
    pub idle: Duration,
    /// A message must be whole this long after its first byte, or its connection is closed. Default 10 s.
    pub partial_message: Duration,
    /// How long a new connection may take to be set up. Default 5 s.
    pub connect: Duration,
    /// How long one message may take to be written before the peer is given up. Default 10 s.
    pub write: Duration,
    /// Messages that wait on one connection; one more closes it. Default 256.
    pub write_queue: usize,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            incoming_queue: 4_096,
            receive_buffer: 4 << 20,
            max_connections: 4_096,
            idle: Duration::from_secs(600),
            partial_message: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            write: Duration::from_secs(10),
            write_queue: 256,
        }
    }
}

/// Sets an endpoint up.
#[derive(Default)]
pub struct Builder {
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
    advertise: Option<IpAddr>,
    engine: EngineConfig,
    net: NetConfig,
    observers: Observers,
    trace_secrets: bool,
}

impl Builder {
    /// Adds a UDP socket; port 0 takes any.
    #[must_use]
    pub fn udp(mut self, addr: impl Into<SocketAddr>) -> Self {
        self.udp.push(addr.into());
        self
    }

    /// Adds a TCP listener; port 0 takes any.
    #[must_use]
    pub fn tcp(mut self, addr: impl Into<SocketAddr>) -> Self {
        self.tcp.push(addr.into());
        self
    }

    /// The address that peers reach us at: in Via and Contact, in place of the bound one. Needed where a socket is
    /// bound to all addresses (`0.0.0.0`, `::`) or stands behind a NAT.
    #[must_use]
    pub fn advertise(self, ip: IpAddr) -> Self {
        Self { advertise: Some(ip), ..self }
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

    /// Binds the sockets and starts the tasks, on the current tokio runtime.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when no socket is asked for, or one is bound to all addresses and none is
    /// advertised; else what the operating system says, with the address.
    pub async fn bind(self) -> io::Result<(Endpoint, Incoming)> {
        self.check()?;
        let udp: Vec<_> = self
            .udp
            .iter()
            .map(|addr| udp::bind(*addr, self.net.receive_buffer))
            .collect::<io::Result<_>>()?;
        let mut tcp = Vec::new();
        for addr in &self.tcp {
            tcp.push(TcpListener::bind(addr).await.map_err(|error| named(*addr, &error))?);
        }
        let listeners = self.listeners(&udp, &tcp)?;
        let mut engine = Engine::new(self.engine, os_seed()?);
        listeners.iter().for_each(|listener| engine.add_listener(*listener));
        if !self.observers.is_empty() {
            engine.observe(Arc::new(self.observers.clone()));
        }
        let (sender, requests) = mpsc::channel(self.net.incoming_queue.max(1));
        let core = Core::new(engine, Router::new(sender));
        let handle =
            Handle::new(Shared::new(core, listeners, udp, self.net, self.observers, self.trace_secrets));
        driver::start(handle.shared(), tcp);
        Ok((Endpoint::new(handle), Incoming { requests }))
    }

    fn check(&self) -> io::Result<()> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        let mut addrs = self.udp.iter().chain(&self.tcp);
        if addrs.clone().next().is_none() {
            return Err(invalid(String::from("no socket to bind: call udp or tcp")));
        }
        match addrs.find(|addr| addr.ip().is_unspecified() && self.advertise.is_none()) {
            Some(addr) => Err(invalid(format!("{addr} is no address that a peer can reach: call advertise"))),
            None => Ok(()),
        }
    }

    fn listeners(&self, udp: &[udp::Socket], tcp: &[TcpListener]) -> io::Result<Vec<Listener>> {
        let mut listeners = Vec::new();
        for socket in udp {
            listeners.push(Listener::new(Transport::Udp, socket.local, self.advertise));
        }
        for listener in tcp {
            listeners.push(Listener::new(Transport::Tcp, listener.local_addr()?, self.advertise));
        }
        Ok(listeners)
    }
}

/// A callback as an observer of messages.
struct Trace(Arc<dyn Fn(&TraceRecord) + Send + Sync>);

impl Observer for Trace {
    fn message(&self, record: &TraceRecord) {
        (self.0)(record);
    }
}

/// An error of the operating system, with the address it is about.
pub(super) fn named(addr: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{addr}: {error}"))
}

fn os_seed() -> io::Result<Seed> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(format!("no randomness: {error}")))?;
    Ok(Seed::from(bytes))
}
