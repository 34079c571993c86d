//! What a media thread asks of the system, per round over 500 sockets: sending one datagram on each, and reading them
//! empty, with one call of the system per datagram or with one for all that wait. Linux.
//!
//! ```text
//! cargo bench -p iqra-benches --bench datagrams
//! ```

#[cfg(target_os = "linux")]
mod calls {
    use std::io::{IoSlice, IoSliceMut};
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsRawFd;

    use divan::Bencher;
    use divan::counter::ItemsCount;
    use nix::sys::socket::{
        MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt, sockopt,
    };
    use nix::sys::time::TimeSpec;

    /// One for each call.
    const SOCKETS: usize = 500;
    const PACKET: [u8; 172] = [0x55; 172];
    /// Datagrams that one call of the system may read, and room for each.
    const BATCH: usize = 8;
    const ROOM: usize = 2_048;

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a port");
        socket.set_nonblocking(true).expect("a socket can be");
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true).expect("Linux stamps");
        socket
    }

    struct Calls {
        sockets: Vec<UdpSocket>,
        addresses: Vec<SocketAddr>,
        far: UdpSocket,
        to: SocketAddr,
    }

    impl Calls {
        fn new() -> Self {
            let sockets: Vec<_> = (0..SOCKETS).map(|_| socket()).collect();
            let address = |socket: &UdpSocket| socket.local_addr().expect("it is bound");
            let far = socket();
            let to = address(&far);
            Self { addresses: sockets.iter().map(address).collect(), sockets, far, to }
        }

        fn empty(&self) {
            let mut room = [0; ROOM];
            while self.far.recv_from(&mut room).is_ok() {}
        }

        fn fill(&self) {
            for address in &self.addresses {
                let _ = self.far.send_to(&PACKET, address);
            }
        }
    }

    fn sending(bencher: Bencher<'_, '_>, mut send: impl FnMut(&UdpSocket, SocketAddr)) {
        let calls = Calls::new();
        bencher.counter(ItemsCount::new(SOCKETS)).with_inputs(|| calls.empty()).bench_local_values(|()| {
            calls.sockets.iter().for_each(|socket| send(socket, calls.to));
        });
    }

    #[divan::bench]
    fn send_by_sendto(bencher: Bencher<'_, '_>) {
        sending(bencher, |socket, to| drop(socket.send_to(&PACKET, to)));
    }

    #[divan::bench]
    fn send_by_sendmmsg(bencher: Bencher<'_, '_>) {
        let mut headers = MultiHeaders::preallocate(1, None);
        sending(bencher, |socket, to| {
            let (octets, to) = ([[IoSlice::new(&PACKET)]], [Some(SockaddrStorage::from(to))]);
            drop(sendmmsg(socket.as_raw_fd(), &mut headers, &octets, to, [], MsgFlags::MSG_DONTWAIT));
        });
    }

    fn reading(bencher: Bencher<'_, '_>, waiting: usize, mut read: impl FnMut(&UdpSocket)) {
        let calls = Calls::new();
        let fill = || (0..waiting).for_each(|_| calls.fill());
        bencher.counter(ItemsCount::new(SOCKETS)).with_inputs(fill).bench_local_values(|()| {
            calls.sockets.iter().for_each(&mut read);
        });
    }

    #[divan::bench(args = [0, 1, 2, 5])]
    fn read_by_recvfrom(bencher: Bencher<'_, '_>, waiting: usize) {
        let mut room = [0; ROOM];
        reading(bencher, waiting, |socket| while socket.recv_from(&mut room).is_ok() {});
    }

    #[divan::bench(args = [0, 1, 2, 5])]
    fn read_by_recvmmsg(bencher: Bencher<'_, '_>, waiting: usize) {
        let mut room = vec![0; BATCH * ROOM];
        let mut headers =
            MultiHeaders::<SockaddrStorage>::preallocate(BATCH, Some(nix::cmsg_space!(TimeSpec)));
        reading(bencher, waiting, |socket| {
            let mut rooms = room.chunks_exact_mut(ROOM);
            let mut slices: [_; BATCH] =
                std::array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
            let flags = MsgFlags::MSG_DONTWAIT;
            drop(recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None));
        });
    }
}

fn main() {
    divan::main();
}
