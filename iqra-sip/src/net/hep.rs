//! Sends captured messages to Homer, as HEP3 over UDP. An observer in front of a bounded queue and one task: a
//! collector that is slow or gone costs the calls nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::observe::hep::HepPacket;
use crate::observe::{Observer, TraceRecord};

/// Where captured messages go.
#[derive(Clone, PartialEq, Eq)]
pub struct HepConfig {
    /// The collector.
    pub collector: SocketAddr,
    /// Which node this is, in the collector's list.
    pub agent: u32,
    /// The collector's password, if it asks for one.
    pub key: Option<String>,
    /// Stands for the address of listeners that are bound to all; give what the endpoint advertises. Default none.
    pub address: Option<IpAddr>,
    /// Packets that wait to be sent; more are lost and counted. Default 1,024.
    pub queue: usize,
}

impl HepConfig {
    /// Sends to this collector as node 1, without a password.
    #[must_use]
    pub fn new(collector: SocketAddr) -> Self {
        Self { collector, agent: 1, key: None, address: None, queue: 1_024 }
    }
}

/// Without the password.
impl std::fmt::Debug for HepConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { collector, agent, key: _, address, queue } = self;
        let shown = (collector, agent, address, queue);
        write!(f, "HepConfig{shown:?}")
    }
}

/// Exports messages: give it to [`Builder::observe`](super::Builder::observe). Its task ends with the last of it.
pub struct HepExporter {
    config: HepConfig,
    queue: mpsc::Sender<Vec<u8>>,
    lost: AtomicU64,
}

impl HepExporter {
    /// Binds a socket and starts the task, on the current tokio runtime.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn start(config: HepConfig) -> io::Result<Arc<Self>> {
        let any: SocketAddr =
            if config.collector.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).await?;
        let (queue, packets) = mpsc::channel(config.queue.max(1));
        tokio::spawn(run(socket, config.collector, packets));
        Ok(Arc::new(Self { config, queue, lost: AtomicU64::new(0) }))
    }

    /// Messages that were not exported: too long for a packet, or the queue was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Observer for HepExporter {
    fn message(&self, record: &TraceRecord) {
        let packet = HepPacket::of(record, self.config.agent, self.config.address);
        let octets = packet.encode(self.config.key.as_deref());
        if octets.is_none_or(|octets| self.queue.try_send(octets).is_err()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn run(socket: UdpSocket, collector: SocketAddr, mut packets: mpsc::Receiver<Vec<u8>>) {
    while let Some(packet) = packets.recv().await {
        // Nothing listens there, or the network is away: the next packet may find it back.
        if let Err(error) = socket.send_to(&packet, collector).await {
            tracing::debug!(%collector, %error, "a captured message was not sent");
        }
    }
}
