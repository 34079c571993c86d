//! Datagrams of one socket, read by the batch: `recvmmsg` of Linux with the kernel's stamps; elsewhere one after the other
//! without.
//!
//! Goes in: a socket. Comes out: up to [`BATCH`] datagrams, each with its sender and, where the kernel says so, its time.
//! The room is one for a thread, whose sockets are all of one family; nothing is allocated for a datagram.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Datagrams of one call of the system: as many as a call's packet time of 20 ms and a stall of a tenth of a second leave.
pub(super) const BATCH: usize = 8;
/// The largest datagram that is read whole; longer ones are no telephone audio.
const DATAGRAM: usize = 2_048;

/// What is known of a datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    length: usize,
    pub(super) from: SocketAddr,
    /// When the kernel took it in, since the epoch.
    pub(super) stamp: Option<Duration>,
}

/// What was read.
pub(super) struct Inbox {
    octets: Vec<u8>,
    heads: [Option<Head>; BATCH],
    headers: system::Headers,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { octets: vec![0; BATCH * DATAGRAM], heads: [None; BATCH], headers: system::headers() }
    }

    /// Reads what waits and says how many came, [`BATCH`] at most; fewer mean that the socket is empty. An error that
    /// was reported on the socket (ICMP) is not the end of what waits there.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> usize {
        match self.read(socket) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.read(socket).unwrap_or(0),
            read => read.unwrap_or(0),
        }
    }

    fn read(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.heads = [None; BATCH];
        system::receive(socket, &mut self.headers, &mut self.octets, &mut self.heads)
    }

    /// The datagrams that were read last.
    pub(super) fn datagrams(&mut self) -> impl Iterator<Item = (Head, &mut [u8])> {
        let rooms = self.octets.chunks_exact_mut(DATAGRAM);
        let known = self.heads.iter().zip(rooms);
        known.filter_map(|(head, room)| head.map(|head| (head, &mut room[..head.length])))
    }
}

/// Sends one datagram. A full buffer or an unreachable peer costs it, as the network might.
pub(super) fn send(socket: &UdpSocket, v6: bool, datagram: &[u8], to: SocketAddr) {
    let to = match to.ip() {
        IpAddr::V4(v4) if v6 => SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()),
        _ => to,
    };
    let _ = socket.send_to(datagram, to);
}

/// A sender as sessions know it: on a socket for both families those of IPv4 are mapped (RFC 4291 §2.5.5.2).
fn plain(from: SocketAddr) -> SocketAddr {
    SocketAddr::new(from.ip().to_canonical(), from.port())
}

/// Asks the kernel to stamp what comes in; where it does not, the time of reading has to do.
pub(super) fn stamp(socket: &UdpSocket) {
    system::stamp(socket);
}

#[cfg(target_os = "linux")]
mod system {
    use std::io::{self, IoSliceMut};
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use nix::sys::socket::{
        ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg, setsockopt, sockopt,
    };
    use nix::sys::time::TimeSpec;

    use super::{BATCH, DATAGRAM, Head, plain};

    /// Where the system writes addresses and stamps. The lengths of both are kept from one call to the next, so it is for
    /// sockets of one family that are stamped or not alike.
    pub(super) type Headers = MultiHeaders<SockaddrStorage>;

    pub(super) fn headers() -> Headers {
        MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(TimeSpec)))
    }

    pub(super) fn stamp(socket: &UdpSocket) {
        let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &true);
    }

    pub(super) fn receive(
        socket: &UdpSocket,
        headers: &mut Headers,
        octets: &mut [u8],
        heads: &mut [Option<Head>; BATCH],
    ) -> io::Result<usize> {
        let mut rooms = octets.chunks_exact_mut(DATAGRAM);
        let mut slices: [_; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
        let received =
            recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
        let mut count = 0;
        for (datagram, head) in received.zip(heads) {
            *head = sender(&datagram).map(|from| Head {
                length: datagram.bytes.min(DATAGRAM),
                from: plain(from),
                stamp: stamped(&datagram),
            });
            count += 1;
        }
        Ok(count)
    }

    fn sender(datagram: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<SocketAddr> {
        let address = datagram.address.as_ref()?;
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from(*v4));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)))
    }

    fn stamped(datagram: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<Duration> {
        datagram.cmsgs().ok()?.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(time) => {
                Some(Duration::new(u64::try_from(time.tv_sec()).ok()?, u32::try_from(time.tv_nsec()).ok()?))
            }
            _ => None,
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::net::UdpSocket;

    use super::{BATCH, DATAGRAM, Head, plain};

    pub(super) type Headers = ();

    pub(super) fn headers() -> Headers {}

    pub(super) fn stamp(_: &UdpSocket) {}

    pub(super) fn receive(
        socket: &UdpSocket,
        _: &mut Headers,
        octets: &mut [u8],
        heads: &mut [Option<Head>; BATCH],
    ) -> io::Result<usize> {
        let mut count = 0;
        for (room, head) in octets.chunks_exact_mut(DATAGRAM).zip(heads) {
            match socket.recv_from(room) {
                Ok((length, from)) => *head = Some(Head { length, from: plain(from), stamp: None }),
                Err(error) if count == 0 => return Err(error),
                Err(_) => break,
            }
            count += 1;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    fn socket(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        stamp(&socket);
        socket
    }

    fn wall() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
    }

    fn receives_whole(address: &str) {
        let (from, to) = (socket(address), socket(address));
        let mut inbox = Inbox::new();
        let begun = wall();
        for round in 0..3_u8 {
            assert_eq!(inbox.receive(&to), 0);
            for number in 0..=BATCH as u8 {
                from.send_to(&[round, number], to.local_addr().unwrap()).unwrap();
            }
            assert_eq!(inbox.receive(&to), BATCH);
            for (number, (head, octets)) in (0..).zip(inbox.datagrams()) {
                assert_eq!((&*octets, head.from), (&[round, number][..], from.local_addr().unwrap()));
                let stamped = head.stamp.is_none_or(|stamp| (begun..=wall()).contains(&stamp));
                assert!(stamped && head.stamp.is_some() == cfg!(target_os = "linux"), "{head:?}");
            }
            assert_eq!(inbox.receive(&to), 1);
        }
    }

    #[test]
    fn datagrams_come_in_order_with_sender_and_stamp() {
        receives_whole("127.0.0.1:0");
        receives_whole("[::1]:0");
    }

    #[test]
    fn one_socket_serves_both_families() {
        let (both, v4) = (socket("[::]:0"), socket("127.0.0.1:0"));
        let port = both.local_addr().unwrap().port();
        v4.send_to(b"in", ("127.0.0.1", port)).unwrap();
        let mut inbox = Inbox::new();
        assert_eq!(inbox.receive(&both), 1);
        let from = inbox.datagrams().next().unwrap().0.from;
        assert_eq!(from, v4.local_addr().unwrap());
        send(&both, true, b"out", from);
        assert_eq!(inbox.receive(&v4), 1);
    }

    #[test]
    fn what_is_too_long_is_cut_off() {
        let (from, to) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        from.send_to(&[1; DATAGRAM + 1], to.local_addr().unwrap()).unwrap();
        let mut inbox = Inbox::new();
        assert_eq!(inbox.receive(&to), 1);
        assert_eq!(inbox.datagrams().next().unwrap().1.len(), DATAGRAM);
    }

    /// A connected socket is told of ICMP, here that nobody listened at the port that it sent to.
    #[test]
    fn a_reported_error_hides_nothing() {
        let to = socket("127.0.0.1:0");
        let gone = socket("127.0.0.1:0").local_addr().unwrap();
        to.connect(gone).unwrap();
        to.send(b"nobody").unwrap();
        let heir = UdpSocket::bind(gone).unwrap();
        heir.send_to(b"heard", to.local_addr().unwrap()).unwrap();
        let mut inbox = Inbox::new();
        assert_eq!(inbox.receive(&to), 1);
        assert_eq!(inbox.receive(&to), 0);
    }
}
