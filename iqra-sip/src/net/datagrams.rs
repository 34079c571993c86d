//! UDP sockets, read and written by the batch: all that one wake-up finds is read by one call of the system, and all that
//! one act of the engine says is sent by one (`recvmmsg` and `sendmmsg` of Linux; elsewhere one after the other).
//!
//! Goes in: room, messages. Comes out: datagrams with their senders, and the messages that could not be sent. A datagram
//! is copied into a buffer of its own size: a share of the batch's buffer would keep all of that alive for as long as one
//! of its calls lasts.
//!
//! Only reading is waited for. A socket that is also watched for room to write wakes its process for every datagram that
//! left, since each gives room back: one wake-up more for every message, for nothing.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::SockRef;

use crate::engine::flow::Transmit;
pub(super) use watched::Watched;

/// Most datagrams of one call, so that one socket does not starve the other tasks.
pub(super) const BATCH: usize = 64;
/// The largest datagram.
const MAX_DATAGRAM: usize = 65_536;

/// Room for what one call receives. The system lends a page when it is first written, so that it costs what came.
pub(super) struct Room {
    octets: Vec<u8>,
    /// The socket's family.
    v6: bool,
}

impl Room {
    /// For a socket that is bound here.
    pub(super) fn new(local: SocketAddr) -> Self {
        Self { octets: vec![0; system::ROOM], v6: local.is_ipv6() }
    }
}

/// Hands over the datagrams that wait, [`BATCH`] at most, in their order. When fewer came the socket is empty: true, and
/// tokio is told so without asking the system once more.
pub(super) fn receive(
    socket: &Watched,
    room: &mut Room,
    mut take: impl FnMut(SocketAddr, &[u8]),
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

/// Sends messages of one socket in their order and gives back those that the system refused, as [`send_one`] says.
pub(super) fn send(socket: &UdpSocket, transmits: Vec<Transmit>) -> Vec<Transmit> {
    let refused = system::send(socket, &transmits);
    if refused.is_empty() {
        return Vec::new();
    }
    let mut index = 0..;
    transmits.into_iter().filter(|_| index.next().is_some_and(|at| refused.contains(&at))).collect()
}

/// Sends one message. A full socket buffer loses it as the network might; the timers repeat it.
pub(super) fn send_one(socket: &UdpSocket, transmit: &Transmit) -> io::Result<()> {
    let sent = SockRef::from(socket).send_to(&transmit.bytes, &transmit.flow.remote.into());
    sent.map(drop).or_else(|error| lost_or_refused(error, transmit))
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
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsRawFd;

    use nix::errno::Errno;
    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

    use super::{BATCH, MAX_DATAGRAM, Room, Transmit, lost_or_refused};

    pub(super) const ROOM: usize = BATCH * MAX_DATAGRAM;

    /// Where the system writes and reads addresses and lengths. One set for each family, for the length of an address
    /// is kept from one call to the next; for each thread, since they are raw memory and may not change it.
    struct Headers {
        v4: MultiHeaders<SockaddrStorage>,
        v6: MultiHeaders<SockaddrStorage>,
        out: MultiHeaders<SockaddrStorage>,
    }

    thread_local! {
        static HEADERS: RefCell<Headers> = RefCell::new(Headers { v4: headers(), v6: headers(), out: headers() });
    }

    fn headers() -> MultiHeaders<SockaddrStorage> {
        MultiHeaders::preallocate(BATCH, None)
    }

    /// How many came.
    pub(super) fn receive(
        socket: &UdpSocket,
        room: &mut Room,
        take: &mut impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<usize> {
        HEADERS.with_borrow_mut(|headers| {
            let mut rooms = room.octets.chunks_exact_mut(MAX_DATAGRAM);
            let mut slices: [_; BATCH] =
                std::array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
            let headers = if room.v6 { &mut headers.v6 } else { &mut headers.v4 };
            let flags = MsgFlags::MSG_DONTWAIT;
            let received = recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), flags, None)?;
            let mut count = 0;
            for datagram in received {
                count += 1;
                let octets = datagram.iovs().next().unwrap_or_default();
                datagram
                    .address
                    .as_ref()
                    .and_then(socket_addr)
                    .into_iter()
                    .for_each(|from| take(from, octets));
            }
            Ok(count)
        })
    }

    fn socket_addr(addr: &SockaddrStorage) -> Option<SocketAddr> {
        let v4 = addr.as_sockaddr_in().map(|v4| SocketAddr::from(*v4));
        v4.or_else(|| addr.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)))
    }

    /// The positions of those that were refused.
    pub(super) fn send(socket: &UdpSocket, all: &[Transmit]) -> Vec<usize> {
        let (mut sent, mut refused) = (0, Vec::new());
        while let Some(rest) = all.get(sent..).filter(|rest| !rest.is_empty()) {
            // A call ends before the first message that fails, and fails itself where that is its first.
            match send_some(socket, &rest[..rest.len().min(BATCH)]) {
                Ok(count) => sent += count,
                Err(error) => {
                    refused.extend(lost_or_refused(error.into(), &rest[0]).err().map(|_| sent));
                    sent += 1;
                }
            }
        }
        refused
    }

    fn send_some(socket: &UdpSocket, some: &[Transmit]) -> Result<usize, Errno> {
        let slices: Vec<_> = some.iter().map(|transmit| [IoSlice::new(&transmit.bytes)]).collect();
        let to: Vec<_> =
            some.iter().map(|transmit| Some(SockaddrStorage::from(transmit.flow.remote))).collect();
        HEADERS.with_borrow_mut(|headers| {
            let flags = MsgFlags::MSG_DONTWAIT;
            let sent = sendmmsg(socket.as_raw_fd(), &mut headers.out, &slices, to, [], flags)?;
            Ok(sent.count())
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::net::{SocketAddr, UdpSocket};

    use super::{BATCH, MAX_DATAGRAM, Room, Transmit, send_one};

    pub(super) const ROOM: usize = MAX_DATAGRAM;

    /// How many came.
    pub(super) fn receive(
        socket: &UdpSocket,
        room: &mut Room,
        take: &mut impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<usize> {
        for count in 0..BATCH {
            match socket.recv_from(&mut room.octets) {
                Ok((length, from)) => take(from, &room.octets[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
                Err(error) => return Err(error),
            }
        }
        Ok(BATCH)
    }

    /// The positions of those that were refused.
    pub(super) fn send(socket: &UdpSocket, all: &[Transmit]) -> Vec<usize> {
        (0..all.len()).filter(|&index| send_one(socket, &all[index]).is_err()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flow::{Flow, Transport};

    fn socket(addr: &str) -> UdpSocket {
        let socket = UdpSocket::bind(addr).unwrap();
        socket.set_nonblocking(true).unwrap();
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
        let refused = send(&from, (0..many).map(|number| to(&from, at, number)).collect());
        assert!(refused.is_empty());
        let (mut room, mut came) = (Room::new(at), Vec::new());
        while came.len() < many {
            receiver.readable().await.unwrap();
            receive(&receiver, &mut room, |source, octets| {
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
        let refused = send(&from, all.iter().zip(0..).map(|(addr, n)| to(&from, *addr, n)).collect());
        let numbers: Vec<_> = refused.iter().map(|transmit| transmit.bytes.clone()).collect();
        assert_eq!(numbers, ["0", "2", "3", "5"]);
        let mut buffer = [0; 8];
        for number in ["1", "4"] {
            receiver.set_nonblocking(false).unwrap();
            let (length, _) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], number.as_bytes());
        }
    }
}
