//! RTP ports out of a range: even numbers, each bound when it is reserved, with the odd one above for RTCP
//! (RFC 3550 §11).
//!
//! A part of the range is kept for either direction ([`PortReserves`]): a pair is given to one direction only while the
//! other still finds as many free ones as are left of its part. A freed pair rests for [`QUARANTINE`], so that late
//! packets of the call before do not reach the next one.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::config::PortReserves;
use super::datagrams;
use crate::conversation::Direction;
use crate::session::Port;

/// How long a freed port rests.
pub const QUARANTINE: Duration = Duration::from_secs(2);
/// Expedited forwarding (RFC 3246) in the upper six bits of the TOS byte, as RFC 8837 §5 has it for audio.
const TOS_AUDIO: u32 = 46 << 2;

/// No RTP port is free for a call of this direction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no even RTP port of {first}-{last} is free for {} call: {in_use} in use, {resting} resting after a call, {kept} \
     kept for {} calls, the others taken by other programs{}; widen the port range, lower the reserve of the other \
     direction, or let this server take fewer calls",
    article(*.direction), name(opposite(*.direction)), and_said(.system.as_deref())
)]
pub struct PortsExhausted {
    /// Whose call it was for.
    pub direction: Direction,
    /// The first port of the range.
    pub first: u16,
    /// The last port of the range.
    pub last: u16,
    /// Ports in use by calls.
    pub in_use: usize,
    /// Ports in quarantine.
    pub resting: usize,
    /// Free ports that only calls of the other direction get.
    pub kept: usize,
    /// What the system said where it refused ports for another reason than that they are taken, such as too many open
    /// files.
    pub system: Option<String>,
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Inbound => Direction::Outbound,
        Direction::Outbound => Direction::Inbound,
    }
}

fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

fn article(direction: Direction) -> String {
    format!("an {}", name(direction))
}

fn and_said(system: Option<&str>) -> String {
    system.map(|said| format!(" or refused ({said})")).unwrap_or_default()
}

/// What belongs to each direction.
#[derive(Debug, Clone, Copy, Default)]
struct PerDirection<T> {
    inbound: T,
    outbound: T,
}

impl<T: Copy> PerDirection<T> {
    fn of(&self, direction: Direction) -> T {
        match direction {
            Direction::Inbound => self.inbound,
            Direction::Outbound => self.outbound,
        }
    }

    fn of_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Inbound => &mut self.inbound,
            Direction::Outbound => &mut self.outbound,
        }
    }
}

/// The books on a range of ports; time is handed in.
#[derive(Debug)]
struct Range {
    first: u16,
    last: u16,
    next: u16,
    /// In use or resting.
    taken: HashSet<u16>,
    resting: VecDeque<(Instant, u16)>,
    in_use: PerDirection<usize>,
    reserved: PerDirection<usize>,
}

impl Range {
    fn new(range: &RangeInclusive<u16>, reserves: PortReserves) -> Self {
        let first = range.start().saturating_add(range.start() % 2);
        let mut range = Self {
            first,
            last: *range.end(),
            next: first,
            taken: HashSet::new(),
            resting: VecDeque::new(),
            in_use: PerDirection::default(),
            reserved: PerDirection::default(),
        };
        let part = |percent: u8| range.size() * usize::from(percent) / 100;
        range.reserved = PerDirection {
            inbound: part(reserves.inbound_percent),
            outbound: part(reserves.outbound_percent),
        };
        range
    }

    /// Pairs; an even port without one above is none.
    fn size(&self) -> usize {
        usize::from(self.last.saturating_sub(self.first)).div_ceil(2)
    }

    fn wake(&mut self, now: Instant) {
        while let Some((until, port)) = self.resting.front().copied()
            && until <= now
        {
            self.resting.pop_front();
            self.taken.remove(&port);
        }
    }

    /// Free pairs that a call of this direction does not get.
    fn kept_from(&self, direction: Direction) -> usize {
        let other = opposite(direction);
        let left = self.reserved.of(other).saturating_sub(self.in_use.of(other));
        left.min(self.size() - self.taken.len())
    }

    /// Whether a pair may go to this direction at all.
    fn may_have(&mut self, now: Instant, direction: Direction) -> bool {
        self.wake(now);
        self.size() - self.taken.len() > self.kept_from(direction)
    }

    /// The next port that is neither used nor resting, round the range.
    fn next_free(&mut self) -> Option<u16> {
        (0..self.size()).find_map(|_| {
            let port = self.step();
            (!self.taken.contains(&port)).then_some(port)
        })
    }

    fn step(&mut self) -> u16 {
        let port = self.next;
        self.next = port.checked_add(2).filter(|next| *next < self.last).unwrap_or(self.first);
        port
    }

    fn take(&mut self, port: u16, direction: Direction) {
        self.taken.insert(port);
        *self.in_use.of_mut(direction) += 1;
    }

    fn free(&mut self, now: Instant, port: u16, direction: Direction) {
        *self.in_use.of_mut(direction) -= 1;
        self.resting.push_back((now + QUARANTINE, port));
    }

    fn in_use(&self) -> usize {
        self.in_use.inbound + self.in_use.outbound
    }

    fn exhausted(&self, direction: Direction, system: Option<String>) -> PortsExhausted {
        PortsExhausted {
            direction,
            first: self.first,
            last: self.last,
            in_use: self.in_use(),
            resting: self.resting.len(),
            kept: self.kept_from(direction),
            system,
        }
    }
}

/// The ports of one driver.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    bind: IpAddr,
    range: Arc<Mutex<Range>>,
}

impl Ports {
    pub(super) fn new(bind: IpAddr, range: &RangeInclusive<u16>, reserves: PortReserves) -> Self {
        Self { bind, range: Arc::new(Mutex::new(Range::new(range, reserves))) }
    }

    /// Binds a free pair; ports that other programs hold are passed over.
    pub(super) fn reserve(&self, direction: Direction) -> Result<MediaPort, PortsExhausted> {
        let mut range = self.lock();
        let mut system = None;
        let tries = if range.may_have(Instant::now(), direction) { range.size() } else { 0 };
        for _ in 0..tries {
            let Some(port) = range.next_free() else { break };
            match self.bind_pair(port) {
                Ok((rtp, rtcp)) => {
                    range.take(port, direction);
                    let address = SocketAddr::new(self.bind, port);
                    return Ok(MediaPort { rtp, rtcp, address, direction, ports: self.clone() });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => {
                    system = Some(error.to_string());
                    break;
                }
            }
        }
        Err(range.exhausted(direction, system))
    }

    fn bind_pair(&self, port: u16) -> io::Result<(UdpSocket, UdpSocket)> {
        Ok((bind(SocketAddr::new(self.bind, port))?, bind(SocketAddr::new(self.bind, port + 1))?))
    }

    pub(super) fn in_use(&self) -> usize {
        self.lock().in_use()
    }

    fn lock(&self) -> MutexGuard<'_, Range> {
        self.range.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    datagrams::stamp(&socket);
    // Marking is a courtesy to the network; systems that refuse it still carry calls. A socket of IPv6 may carry IPv4.
    let _ = SockRef::from(&socket).set_tos_v4(TOS_AUDIO);
    if address.is_ipv6() {
        mark_v6(&socket);
    }
    Ok(socket)
}

/// The traffic class has the place and the bits of the TOS octet (RFC 2474 §3).
#[cfg(target_os = "linux")]
fn mark_v6(socket: &UdpSocket) {
    use nix::sys::socket::{setsockopt, sockopt};
    let _ = setsockopt(socket, sockopt::Ipv6TClass, &(TOS_AUDIO as i32));
}

#[cfg(not(target_os = "linux"))]
fn mark_v6(_: &UdpSocket) {}

/// A bound RTP port and the RTCP port above it. Dropping it closes the sockets and lets the pair rest.
#[derive(Debug)]
pub struct MediaPort {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    address: SocketAddr,
    direction: Direction,
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
        self.ports.lock().free(Instant::now(), self.address.port(), self.direction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Inbound, Outbound};

    const NONE: PortReserves = PortReserves { inbound_percent: 0, outbound_percent: 0 };
    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn take(range: &mut Range, now: Instant, direction: Direction) -> Option<u16> {
        let port = if range.may_have(now, direction) { range.next_free() } else { None }?;
        range.take(port, direction);
        Some(port)
    }

    fn take_all(range: &mut Range, now: Instant, direction: Direction) -> Vec<u16> {
        std::iter::from_fn(|| take(range, now, direction)).collect()
    }

    #[test]
    fn ports_are_even_with_one_above_and_each_is_given_once() {
        let now = Instant::now();
        for last in [4_007, 4_008] {
            let taken = take_all(&mut Range::new(&(4_001..=last), NONE), now, Inbound);
            assert_eq!(taken, [4_002, 4_004, 4_006], "up to {last}");
        }
    }

    #[test]
    fn a_freed_port_rests() {
        let (mut range, now) = (Range::new(&(4_000..=4_001), NONE), Instant::now());
        assert_eq!(take(&mut range, now, Inbound), Some(4_000));
        range.free(now, 4_000, Inbound);
        assert_eq!(take(&mut range, now + QUARANTINE / 2, Inbound), None);
        assert_eq!(take(&mut range, now + QUARANTINE, Inbound), Some(4_000));
    }

    #[test]
    fn the_end_of_the_number_space_is_no_trouble() {
        let (mut range, now) = (Range::new(&(65_534..=65_535), NONE), Instant::now());
        assert_eq!(take_all(&mut range, now, Inbound), [65_534]);
        let (last, first) = (4_000, 5_000);
        assert_eq!(Range::new(&(first..=last), NONE).size(), 0);
    }

    /// Ten pairs, of which two are kept for each direction.
    fn shared() -> Range {
        Range::new(&(4_000..=4_019), PortReserves { inbound_percent: 20, outbound_percent: 20 })
    }

    #[test]
    fn a_flood_of_one_direction_leaves_the_reserve_of_the_other() {
        let now = Instant::now();
        for (flood, other) in [(Inbound, Outbound), (Outbound, Inbound)] {
            let mut range = shared();
            assert_eq!(take_all(&mut range, now, flood).len(), 8);
            assert_eq!(take_all(&mut range, now, other).len(), 2, "{other:?}");
        }
    }

    #[test]
    fn a_reserve_that_is_in_use_is_not_kept_twice() {
        let (mut range, now) = (shared(), Instant::now());
        assert!(take(&mut range, now, Outbound).is_some() && take(&mut range, now, Outbound).is_some());
        assert_eq!(take_all(&mut range, now, Inbound).len(), 8);
    }

    #[test]
    fn resting_ports_do_not_count_for_a_reserve() {
        let (mut range, now) = (shared(), Instant::now());
        let taken = take_all(&mut range, now, Inbound);
        range.free(now, taken[0], Inbound);
        assert_eq!(take(&mut range, now, Inbound), None, "it rests, and the two others are kept");
        assert_eq!(take_all(&mut range, now, Outbound).len(), 2);
        assert_eq!(take(&mut range, now + QUARANTINE, Inbound), Some(taken[0]));
    }

    #[test]
    fn a_reserve_that_an_ended_call_leaves_is_kept_again() {
        let (mut range, now) = (shared(), Instant::now());
        let ours = take(&mut range, now, Outbound).unwrap();
        assert_eq!(take_all(&mut range, now, Inbound).len(), 8);
        range.free(now, ours, Outbound);
        assert_eq!(take(&mut range, now + QUARANTINE, Inbound), None);
        assert_eq!(take_all(&mut range, now + QUARANTINE, Outbound).len(), 2);
    }

    #[test]
    fn exhaustion_names_the_range_the_reserve_and_the_remedy() {
        let reserves = PortReserves { inbound_percent: 0, outbound_percent: 50 };
        let ports = Ports::new(LOCAL, &(34_160..=34_163), reserves);
        let held = ports.reserve(Inbound).unwrap();
        let refused = ports.reserve(Inbound).unwrap_err();
        assert_eq!((refused.in_use, refused.kept, refused.direction), (1, 1, Inbound));
        let said = refused.to_string();
        assert!(said.contains("34160-34163") && said.contains("widen"), "{said}");
        assert!(said.contains("an inbound call") && said.contains("1 kept for outbound calls"), "{said}");
        drop(held);
    }

    #[test]
    fn a_system_that_refuses_ports_is_quoted() {
        let ports = Ports::new([192, 0, 2, 1].into(), &(34_170..=34_179), NONE);
        let refused = ports.reserve(Inbound).unwrap_err();
        let system = refused.system.clone().unwrap();
        assert!(refused.to_string().contains(&system), "{refused}");
    }

    #[test]
    fn a_pair_whose_rtcp_port_is_taken_is_passed_over() {
        let ports = Ports::new(LOCAL, &(34_150..=34_153), NONE);
        let taken = UdpSocket::bind((LOCAL, 34_151)).unwrap();
        assert_eq!(ports.reserve(Outbound).unwrap().local_addr().port(), 34_152);
        drop(taken);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn packets_are_marked_for_expedited_forwarding_in_either_ip_version() {
        use nix::sys::socket::{getsockopt, sockopt};
        let socket = bind((LOCAL, 0).into()).unwrap();
        assert_eq!(SockRef::from(&socket).tos_v4().unwrap(), 184);
        let Ok(socket) = bind((std::net::Ipv6Addr::LOCALHOST, 0).into()) else { return }; // no IPv6 here
        assert_eq!(getsockopt(&socket, sockopt::Ipv6TClass).unwrap(), 184);
        assert_eq!(SockRef::from(&socket).tos_v4().unwrap(), 184);
    }

    #[test]
    fn a_port_is_bound_and_comes_back() {
        let ports = Ports::new(LOCAL, &(34_100..=34_140), NONE);
        let port = ports.reserve(Inbound).unwrap();
        let (rtp, mut rtcp) = (port.local_addr(), port.local_addr());
        rtcp.set_port(rtp.port() + 1);
        assert!(UdpSocket::bind(rtp).is_err() && UdpSocket::bind(rtcp).is_err(), "both are bound");
        assert_eq!(ports.in_use(), 1);
        drop(port);
        assert_eq!(ports.in_use(), 0);
    }
}
