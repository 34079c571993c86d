//! RTP ports out of a range: even numbers, each bound when it is reserved, with the odd one above for RTCP
//! (RFC 3550 §11).
//!
//! A freed port rests for [`QUARANTINE`], so that late packets of the call before do not reach the next one.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::session::Port;

/// How long a freed port rests.
pub const QUARANTINE: Duration = Duration::from_secs(2);
/// Expedited forwarding (RFC 3246) in the upper six bits of the TOS byte, as RFC 8837 §5 has it for audio.
const TOS_AUDIO: u32 = 46 << 2;

/// No RTP port is free.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "all even RTP ports of {first}-{last} are in use ({in_use}), resting after a call ({resting}) or taken by other \
     programs: widen the port range, or let this server take fewer calls"
)]
pub struct PortsExhausted {
    /// The first port of the range.
    pub first: u16,
    /// The last port of the range.
    pub last: u16,
    /// Ports in use by calls.
    pub in_use: usize,
    /// Ports in quarantine.
    pub resting: usize,
}

/// The books on a range of ports; time is handed in.
#[derive(Debug)]
struct Range {
    first: u16,
    last: u16,
    next: u16,
    in_use: HashSet<u16>,
    resting: VecDeque<(Instant, u16)>,
}

impl Range {
    fn new(range: &RangeInclusive<u16>) -> Self {
        let first = range.start().saturating_add(range.start() % 2);
        Self { first, last: *range.end(), next: first, in_use: HashSet::new(), resting: VecDeque::new() }
    }

    fn size(&self) -> usize {
        if self.last < self.first { 0 } else { usize::from(self.last - self.first) / 2 + 1 }
    }

    /// The next port that is neither used nor resting, round the range.
    fn next_free(&mut self, now: Instant) -> Option<u16> {
        while self.resting.front().is_some_and(|(until, _)| *until <= now) {
            self.resting.pop_front();
        }
        (0..self.size()).find_map(|_| {
            let port = self.step();
            self.is_free(port).then_some(port)
        })
    }

    fn is_free(&self, port: u16) -> bool {
        !self.in_use.contains(&port) && !self.resting.iter().any(|(_, resting)| *resting == port)
    }

    fn step(&mut self) -> u16 {
        let port = self.next;
        self.next = port.checked_add(2).filter(|next| *next <= self.last).unwrap_or(self.first);
        port
    }

    fn free(&mut self, now: Instant, port: u16) {
        if self.in_use.remove(&port) {
            self.resting.push_back((now + QUARANTINE, port));
        }
    }

    fn exhausted(&self) -> PortsExhausted {
        let (in_use, resting) = (self.in_use.len(), self.resting.len());
        PortsExhausted { first: self.first, last: self.last, in_use, resting }
    }
}

/// The ports of one driver.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    bind: IpAddr,
    range: Arc<Mutex<Range>>,
}

impl Ports {
    pub(super) fn new(bind: IpAddr, range: &RangeInclusive<u16>) -> Self {
        Self { bind, range: Arc::new(Mutex::new(Range::new(range))) }
    }

    /// Binds a free pair; ports that other programs hold are passed over.
    pub(super) fn reserve(&self) -> Result<MediaPort, PortsExhausted> {
        let mut range = self.lock();
        for _ in 0..range.size() {
            let Some(port) = range.next_free(Instant::now()) else { break };
            let address = SocketAddr::new(self.bind, port);
            if let (Ok(rtp), Ok(rtcp)) = (bind(address), bind(SocketAddr::new(self.bind, port | 1))) {
                range.in_use.insert(port);
                return Ok(MediaPort { rtp, rtcp, address, ports: self.clone() });
            }
        }
        Err(range.exhausted())
    }

    pub(super) fn in_use(&self) -> usize {
        self.lock().in_use.len()
    }

    fn lock(&self) -> MutexGuard<'_, Range> {
        self.range.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    // Marking is a courtesy to the network; systems that refuse it still carry calls.
    if address.is_ipv4() {
        let _ = SockRef::from(&socket).set_tos_v4(TOS_AUDIO);
    }
    Ok(socket)
}

/// A bound RTP port and the RTCP port above it. Dropping it closes the sockets and lets the pair rest.
#[derive(Debug)]
pub struct MediaPort {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    address: SocketAddr,
    ports: Ports,
}

impl MediaPort {
    /// Where the RTP port is bound. The address may be unspecified: SDP then needs the one that callers can reach.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn socket(&self, port: Port) -> &UdpSocket {
        match port {
            Port::Rtp => &self.rtp,
            Port::Rtcp => &self.rtcp,
        }
    }
}

impl Drop for MediaPort {
    fn drop(&mut self) {
        self.ports.lock().free(Instant::now(), self.address.port());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(range: &mut Range, now: Instant) -> Option<u16> {
        let port = range.next_free(now)?;
        range.in_use.insert(port);
        Some(port)
    }

    #[test]
    fn ports_are_even_and_each_is_given_once() {
        let (mut range, now) = (Range::new(&(4_001..=4_007)), Instant::now());
        let taken: Vec<_> = std::iter::from_fn(|| take(&mut range, now)).collect();
        assert_eq!(taken, [4_002, 4_004, 4_006]);
    }

    #[test]
    fn a_freed_port_rests() {
        let (mut range, now) = (Range::new(&(4_000..=4_001)), Instant::now());
        assert_eq!(take(&mut range, now), Some(4_000));
        range.free(now, 4_000);
        assert_eq!(take(&mut range, now + QUARANTINE / 2), None);
        assert_eq!(take(&mut range, now + QUARANTINE), Some(4_000));
    }

    #[test]
    fn the_end_of_the_number_space_is_no_trouble() {
        let (mut range, now) = (Range::new(&(65_534..=65_535)), Instant::now());
        assert_eq!(take(&mut range, now), Some(65_534));
        assert_eq!(take(&mut range, now), None);
        let (last, first) = (4_000, 5_000);
        assert_eq!(Range::new(&(first..=last)).size(), 0);
    }

    #[test]
    fn exhaustion_names_the_range_and_the_remedy() {
        let ports = Ports::new(IpAddr::from([127, 0, 0, 1]), &(1..=1));
        let refused = ports.reserve().unwrap_err().to_string();
        assert!(refused.contains("2-1") && refused.contains("widen"), "{refused}");
    }

    #[test]
    fn a_pair_whose_rtcp_port_is_taken_is_passed_over() {
        let local = IpAddr::from([127, 0, 0, 1]);
        let ports = Ports::new(local, &(34_150..=34_153));
        let taken = UdpSocket::bind((local, 34_151)).unwrap();
        assert_eq!(ports.reserve().unwrap().local_addr().port(), 34_152);
        drop(taken);
    }

    #[test]
    fn a_port_is_bound_and_comes_back() {
        let ports = Ports::new(IpAddr::from([127, 0, 0, 1]), &(34_100..=34_140));
        let port = ports.reserve().unwrap();
        let (rtp, mut rtcp) = (port.local_addr(), port.local_addr());
        rtcp.set_port(rtp.port() + 1);
        assert!(UdpSocket::bind(rtp).is_err() && UdpSocket::bind(rtcp).is_err(), "both are bound");
        assert_eq!(ports.in_use(), 1);
        drop(port);
        assert_eq!(ports.in_use(), 0);
    }
}
