//! UDP sockets, read and written by the batch: all that one wake-up finds is read by one call of the system, and all that
//! one act of the engine says is sent by one (`recvmmsg` and `sendmmsg` of Linux; elsewhere one after the other).
//!
//! Goes in: room, messages. Comes out: datagrams with their senders, and the messages that could not be sent. A datagram
//! is copied into a buffer of its own size: a share of the batch's buffer would keep all of that alive for as long as one
//! of its calls lasts.
//!
//! A socket that is bound to all addresses is told which of them each datagram was sent to, and what goes back leaves from
//! that one (RFC 3581 §4): another would not pass the peer's NAT, nor reach a socket that is connected. That is so on
//! Linux (IP_PKTINFO and IPV6_RECVPKTINFO); elsewhere the system picks the address, so bind each one that peers write to.
//!
//! Only reading is waited for. A socket that is also watched for room to write wakes its process for every datagram that
//! left, since each gives room back: one wake-up more for every message, for nothing.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::SockRef;

use crate::engine::flow::Transmit;
pub(super) use system::tell_addresses;
pub(super) use watched::Watched;

/// Most datagrams of one call, so that one socket does not starve the other tasks.
pub(super) const BATCH: usize = 64;
/// The largest datagram.
const MAX_DATAGRAM: usize = 65_536;

/// Room for what one call receives. The system lends a page when it is first written, so that it costs what came.
pub(super) struct Room {
    octets: Vec<u8>,
    /// Where the socket is bound.
    bound: SocketAddr,
}

impl Room {
    /// For a socket that is bound here.
    pub(super) fn new(bound: SocketAddr) -> Self {
        Self { octets: vec![0; system::ROOM], bound }
    }
}

/// Hands over the datagrams that wait, [`BATCH`] at most, in their order: to which address of ours, from whom, what. When fewer came the socket is empty: true, and
/// tokio is told so without asking the system once more.
pub(super) fn receive(
    socket: &Watched,
    room: &mut Room,
    mut take: impl FnMut(SocketAddr, SocketAddr, &[u8]),
) -> io::Result<bool> {
    let read = socket.read(|socket| match system::receive(socket, room, &mut take)? {
        BATCH => Ok(false),
        _ => Err(io::ErrorKind::WouldBlock.into()),
    });
    match read {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        other => other,
    }
}

/// Sends messages of one socket, bound there, in the order of those from one address, and gives back those that the system
/// refused, as [`send_one`] says.
pub(super) fn send(socket: &UdpSocket, bound: SocketAddr, mut transmits: Vec<Transmit>) -> Vec<Transmit> {
    if bound.ip().is_unspecified() {
        // One call of the system for each address, not for each change.
        transmits.sort_by_key(|transmit| source(bound, transmit));
    }
    let refused = system::send(socket, bound, &transmits);
    if refused.is_empty() {
        return Vec::new();
    }
    let mut index = 0..;
    transmits.into_iter().filter(|_| index.next().is_some_and(|at| refused.contains(&at))).collect()
}

/// Sends one message. A full socket buffer loses it as the network might; the timers repeat it.
pub(super) fn send_one(socket: &UdpSocket, bound: SocketAddr, transmit: &Transmit) -> io::Result<()> {
    let from = source(bound, transmit).map(|source| system::send_from(socket, source, transmit));
    match from {
        Some(Ok(())) => Ok(()),
        // One that the host has no more.
        Some(Err(_)) | None => send_from_any(socket, transmit),
    }
}

/// Sends one message from the address that the system picks.
fn send_from_any(socket: &UdpSocket, transmit: &Transmit) -> io::Result<()> {
    let sent = SockRef::from(socket).send_to(&transmit.bytes, &transmit.flow.remote.into());
    sent.map(drop).or_else(|error| lost_or_refused(error, transmit))
}

/// The address that a message has to leave from; `None` leaves it to the system, or to the socket that has only one.
fn source(bound: SocketAddr, transmit: &Transmit) -> Option<SocketAddr> {
    let local = transmit.flow.local;
    (bound.ip().is_unspecified() && !local.ip().is_unspecified()).then_some(local)
}

fn lost_or_refused(error: io::Error, transmit: &Transmit) -> io::Result<()> {
    if error.kind() == io::ErrorKind::WouldBlock {
        return Ok(());
    }
    tracing::debug!(remote = %transmit.flow.remote, %error, "a datagram was not sent");
    Err(error)
}

#[cfg(unix)]
mod watched {
    use std::io;
    use std::net::UdpSocket;

    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// A socket that is watched for what comes in.
    pub(crate) struct Watched(AsyncFd<UdpSocket>);

    impl Watched {
        #[allow(
            deprecated,
            reason = "what takes its place is unsafe, for types that do not keep their descriptor; a UdpSocket does"
        )]
        pub(in super::super) fn new(socket: UdpSocket) -> io::Result<Self> {
            AsyncFd::with_interest(socket, Interest::READABLE).map(Self)
        }

        pub(in super::super) async fn readable(&self) -> io::Result<()> {
            self.0.readable().await.map(drop)
        }

        pub(super) fn read<R>(&self, read: impl FnOnce(&UdpSocket) -> io::Result<R>) -> io::Result<R> {
            self.0.try_io(Interest::READABLE, read)
        }

        pub(in super::super) fn socket(&self) -> &UdpSocket {
            self.0.get_ref()
        }
    }
}

#[cfg(not(unix))]
mod watched {
    use std::io;
    use std::net::UdpSocket;

    use tokio::io::Interest;

    /// A socket, and the other end of the same by which it is watched.
    pub(crate) struct Watched(UdpSocket, tokio::net::UdpSocket);

    impl Watched {
        pub(in super::super) fn new(socket: UdpSocket) -> io::Result<Self> {
            let watched = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
            Ok(Self(socket, watched))
        }

        pub(in super::super) async fn readable(&self) -> io::Result<()> {
            self.1.readable().await
        }

        pub(super) fn read<R>(&self, read: impl FnOnce(&UdpSocket) -> io::Result<R>) -> io::Result<R> {
            self.1.try_io(Interest::READABLE, || read(&self.0))
        }

        pub(in super::super) fn socket(&self) -> &UdpSocket {
            &self.0
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::cell::RefCell;
    use std::io::{self, IoSlice, IoSliceMut};
    use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
    use std::os::fd::AsRawFd;

    use nix::errno::Errno;
    use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
    use nix::sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg,
        sendmmsg, setsockopt, sockopt,
    };

    use super::{BATCH, MAX_DATAGRAM, Room, Transmit, send_one, source};

    pub(super) const ROOM: usize = BATCH * MAX_DATAGRAM;

    type Batch = MultiHeaders<SockaddrStorage>;

    /// Where the system writes addresses and lengths, for sockets with one address and for those with all. One set for each
    /// family, for the length of an address is kept from one call to the next, and so is that of what is said of our own;
    /// for each thread, since they are raw memory and may not change it.
    struct Received {
        one: [Batch; 2],
        all: [Batch; 2],
    }

    /// Where it reads them, from any address of ours and from one. What is received may be answered at once, so they are
    /// apart.
    struct Sent {
        any: Batch,
        from: [Batch; 2],
    }

    thread_local! {
        static RECEIVED: RefCell<Received> = RefCell::new(Received {
            one: [headers(None), headers(None)],
            all: [telling(false), telling(true)],
        });
        static SENT: RefCell<Sent> =
            RefCell::new(Sent { any: headers(None), from: [telling(false), telling(true)] });
    }

    fn headers(control: Option<Vec<u8>>) -> Batch {
        MultiHeaders::preallocate(BATCH, control)
    }

    /// With room for an address of ours.
    fn telling(v6: bool) -> Batch {
        headers(Some(if v6 { nix::cmsg_space!(in6_pktinfo) } else { nix::cmsg_space!(in_pktinfo) }))
    }

    /// Has a socket that is bound to all addresses say which of them a datagram was sent to.
    pub(in super::super) fn tell_addresses(socket: &UdpSocket, bound: SocketAddr) -> io::Result<()> {
        match bound {
            SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        Ok(())
    }

    /// How many came.
    pub(super) fn receive(
        socket: &UdpSocket,
        room: &mut Room,
        take: &mut impl FnMut(SocketAddr, SocketAddr, &[u8]),
    ) -> io::Result<usize> {
        RECEIVED.with_borrow_mut(|headers| {
            let (bound, v6) = (room.bound, room.bound.is_ipv6());
            let any = bound.ip().is_unspecified();
            let mut rooms = room.octets.chunks_exact_mut(MAX_DATAGRAM);
            let mut slices: [_; BATCH] =
                std::array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
            let headers = if any { &mut headers.all } else { &mut headers.one };
            let headers = &mut headers[usize::from(v6)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let received = recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), flags, None)?;
            let (mut count, mut untold) = (0, false);
            for datagram in received {
                count += 1;
                let octets = datagram.iovs().next().unwrap_or_default();
                let told = if any { told(&datagram, bound) } else { None };
                untold |= any && told.is_none();
                let from = datagram.address.as_ref().and_then(socket_addr);
                from.into_iter().for_each(|from| take(told.unwrap_or(bound), from, octets));
            }
            if untold {
                // The room that a datagram without an address leaves is none for the next one.
                *headers = telling(v6);
            }
            Ok(count)
        })
    }

    /// To which address of ours a datagram was sent; that of a group of hosts is none.
    fn told(datagram: &RecvMsg<'_, '_, SockaddrStorage>, bound: SocketAddr) -> Option<SocketAddr> {
        datagram.cmsgs().ok()?.find_map(|message| match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let ip = IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                Some(SocketAddr::new(ip, bound.port()))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                let scope = if ip.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
                let told = SocketAddrV6::new(ip, bound.port(), 0, scope);
                (!ip.is_multicast()).then_some(told.into())
            }
            _ => None,
        })
    }

    fn socket_addr(addr: &SockaddrStorage) -> Option<SocketAddr> {
        let v4 = addr.as_sockaddr_in().map(|v4| SocketAddr::from(*v4));
        v4.or_else(|| addr.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)))
    }

    /// The positions of those that were refused.
    pub(super) fn send(socket: &UdpSocket, bound: SocketAddr, all: &[Transmit]) -> Vec<usize> {
        let (mut sent, mut refused) = (0, Vec::new());
        while let Some(first) = all.get(sent) {
            let from = source(bound, first);
            let alike = all[sent..].iter().take(BATCH).take_while(|next| source(bound, next) == from).count();
            // A call ends before the first message that fails, and fails itself where that is its first.
            match send_some(socket, from, &all[sent..sent + alike]) {
                Ok(count) => sent += count,
                Err(_) => {
                    refused.extend(send_one(socket, bound, first).err().map(|_| sent));
                    sent += 1;
                }
            }
        }
        refused
    }

    fn send_some(socket: &UdpSocket, from: Option<SocketAddr>, some: &[Transmit]) -> Result<usize, Errno> {
        let slices: Vec<_> = some.iter().map(|transmit| [IoSlice::new(&transmit.bytes)]).collect();
        let to: Vec<_> = some.iter().map(to).collect();
        send_slices(socket, from, &slices, &to)
    }

    /// Sends one message from an address of ours.
    pub(super) fn send_from(socket: &UdpSocket, from: SocketAddr, transmit: &Transmit) -> Result<(), Errno> {
        send_slices(socket, Some(from), &[[IoSlice::new(&transmit.bytes)]], &[to(transmit)]).map(drop)
    }

    fn to(transmit: &Transmit) -> Option<SockaddrStorage> {
        Some(SockaddrStorage::from(transmit.flow.remote))
    }

    fn send_slices(
        socket: &UdpSocket,
        from: Option<SocketAddr>,
        slices: &[[IoSlice<'_>; 1]],
        to: &[Option<SockaddrStorage>],
    ) -> Result<usize, Errno> {
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        SENT.with_borrow_mut(|Sent { any, from: [v4, v6] }| match from {
            None => Ok(sendmmsg(fd, any, slices, to, [], flags)?.count()),
            Some(SocketAddr::V4(from)) => {
                let source = in_addr { s_addr: u32::from_ne_bytes(from.ip().octets()) };
                let info =
                    in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: in_addr { s_addr: 0 } };
                Ok(sendmmsg(fd, v4, slices, to, [ControlMessage::Ipv4PacketInfo(&info)], flags)?.count())
            }
            Some(SocketAddr::V6(from)) => {
                let source = in6_addr { s6_addr: from.ip().octets() };
                let info = in6_pktinfo { ipi6_addr: source, ipi6_ifindex: from.scope_id() };
                Ok(sendmmsg(fd, v6, slices, to, [ControlMessage::Ipv6PacketInfo(&info)], flags)?.count())
            }
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::net::{SocketAddr, UdpSocket};

    use super::{BATCH, MAX_DATAGRAM, Room, Transmit, send_one};

    pub(super) const ROOM: usize = MAX_DATAGRAM;

    /// The system is not asked.
    pub(in super::super) fn tell_addresses(_: &UdpSocket, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    /// How many came.
    pub(super) fn receive(
        socket: &UdpSocket,
        room: &mut Room,
        take: &mut impl FnMut(SocketAddr, SocketAddr, &[u8]),
    ) -> io::Result<usize> {
        for count in 0..BATCH {
            match socket.recv_from(&mut room.octets) {
                Ok((length, from)) => take(room.bound, from, &room.octets[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
                Err(error) => return Err(error),
            }
        }
        Ok(BATCH)
    }

    /// The positions of those that were refused.
    pub(super) fn send(socket: &UdpSocket, bound: SocketAddr, all: &[Transmit]) -> Vec<usize> {
        (0..all.len()).filter(|&index| send_one(socket, bound, &all[index]).is_err()).collect()
    }

    /// From no address that is asked for.
    pub(super) fn send_from(_: &UdpSocket, _: SocketAddr, _: &Transmit) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flow::{Flow, Transport};

    fn socket(addr: &str) -> UdpSocket {
        let socket = UdpSocket::bind(addr).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        socket
    }

    fn to(socket: &UdpSocket, remote: SocketAddr, number: usize) -> Transmit {
        let local = socket.local_addr().unwrap();
        let flow = Flow { transport: Transport::Udp, local, remote, connection: None };
        Transmit { flow, fallback: None, name: None, bytes: number.to_string().into(), owner: None }
    }

    async fn all_come_in_order(addr: &str) {
        let (from, receiver) = (socket(addr), Watched::new(socket(addr)).unwrap());
        let at = receiver.socket().local_addr().unwrap();
        let many = 2 * BATCH + 3;
        let refused =
            send(&from, from.local_addr().unwrap(), (0..many).map(|number| to(&from, at, number)).collect());
        assert!(refused.is_empty());
        let (mut room, mut came) = (Room::new(at), Vec::new());
        while came.len() < many {
            receiver.readable().await.unwrap();
            receive(&receiver, &mut room, |local, source, octets| {
                assert_eq!(local, at);
                assert_eq!(source, from.local_addr().unwrap());
                came.push(String::from_utf8(octets.to_vec()).unwrap());
            })
            .unwrap();
        }
        assert!(came.iter().zip(0..).all(|(text, number)| *text == number.to_string()), "{came:?}");
    }

    /// Both families by turns on one thread.
    #[tokio::test]
    async fn a_burst_comes_whole_and_in_order_in_either_family() {
        for addr in ["127.0.0.1:0", "[::1]:0", "127.0.0.1:0", "[::1]:0"] {
            all_come_in_order(addr).await;
        }
    }

    #[test]
    fn what_the_system_refuses_comes_back_and_the_rest_leaves() {
        let (from, receiver) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let at = receiver.local_addr().unwrap();
        // A socket bound to the loopback cannot send into a network of another family.
        let never = "[2001:db8::1]:5060".parse().unwrap();
        let all = [never, at, never, never, at, never];
        let refused = send(
            &from,
            from.local_addr().unwrap(),
            all.iter().zip(0..).map(|(addr, n)| to(&from, *addr, n)).collect(),
        );
        let numbers: Vec<_> = refused.iter().map(|transmit| transmit.bytes.clone()).collect();
        assert_eq!(numbers, ["0", "2", "3", "5"]);
        let mut buffer = [0; 8];
        for number in ["1", "4"] {
            receiver.set_nonblocking(false).unwrap();
            let (length, _) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], number.as_bytes());
        }
    }

    /// A socket of all addresses of a family, and its port at one of them.
    fn socket_of_all(addr: &str, one: &str) -> (Watched, SocketAddr, SocketAddr) {
        let all = socket(addr);
        let bound = all.local_addr().unwrap();
        tell_addresses(&all, bound).unwrap();
        (Watched::new(all).unwrap(), bound, SocketAddr::new(one.parse().unwrap(), bound.port()))
    }

    /// By turns on one thread, with sockets that have one address in between: what the system keeps of one does not show
    /// in the other.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_comes_to_an_address_is_answered_from_it() {
        for (all, one, peer) in [
            ("0.0.0.0:0", "127.0.0.2", "127.0.0.1:0"),
            ("0.0.0.0:0", "127.0.0.3", "127.0.0.1:0"),
            ("[::]:0", "::1", "[::1]:0"),
            ("0.0.0.0:0", "127.0.0.2", "127.0.0.4:0"),
        ] {
            let (receiver, bound, at) = socket_of_all(all, one);
            all_come_in_order(peer).await;
            let peer = socket(peer);
            // Connected: it hears nobody else.
            peer.connect(at).unwrap();
            let mut room = Room::new(bound);
            for _ in 0..2 {
                peer.send(b"hello").unwrap();
                receiver.readable().await.unwrap();
                let mut came = Vec::new();
                receive(&receiver, &mut room, |local, from, _| came.push((local, from))).unwrap();
                assert_eq!(came, [(at, peer.local_addr().unwrap())]);
                let answers = ["0", "1", "2"].map(|bytes| Transmit {
                    flow: Flow { transport: Transport::Udp, local: at, remote: came[0].1, connection: None },
                    ..to(receiver.socket(), came[0].1, bytes.parse().unwrap())
                });
                assert!(send(receiver.socket(), bound, answers[..2].to_vec()).is_empty());
                send_one(receiver.socket(), bound, &answers[2]).unwrap();
                peer.set_nonblocking(false).unwrap();
                for number in ["0", "1", "2"] {
                    let mut buffer = [0; 8];
                    let length = peer.recv(&mut buffer).unwrap();
                    assert_eq!(&buffer[..length], number.as_bytes());
                }
                peer.set_nonblocking(true).unwrap();
            }
        }
    }

    /// Several addresses of ours in one act, and one that the host does not have.
    #[cfg(target_os = "linux")]
    #[test]
    fn each_message_leaves_from_its_own_address_and_from_any_where_that_is_gone() {
        let all = socket("0.0.0.0:0");
        let (bound, receiver) = (all.local_addr().unwrap(), socket("127.0.0.1:0"));
        let remote = receiver.local_addr().unwrap();
        let locals = ["127.0.0.2", "0.0.0.0", "127.0.0.3", "127.0.0.2", "192.0.2.77", "127.0.0.3"];
        let transmits = locals.iter().zip(0..).map(|(local, number)| {
            let local = SocketAddr::new(local.parse().unwrap(), bound.port());
            let flow = Flow { transport: Transport::Udp, local, remote, connection: None };
            Transmit { flow, ..to(&all, remote, number) }
        });
        assert!(send(&all, bound, transmits.collect()).is_empty());
        receiver.set_nonblocking(false).unwrap();
        let mut came = std::collections::BTreeMap::new();
        for _ in locals {
            let mut buffer = [0; 8];
            let (length, from) = receiver.recv_from(&mut buffer).unwrap();
            came.insert(String::from_utf8(buffer[..length].to_vec()).unwrap(), from.ip().to_string());
        }
        let from: Vec<_> = came.into_values().collect();
        assert_eq!(from, ["127.0.0.2", "127.0.0.1", "127.0.0.3", "127.0.0.2", "127.0.0.1", "127.0.0.3"]);
    }
}
