//! When a datagram came, by the kernel's clock: how late the reader was does not matter.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime};

use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;

/// Reads datagrams with their times.
#[derive(Debug)]
pub struct Arrivals {
    control: Vec<u8>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { control: nix::cmsg_space!(TimeSpec) }
    }
}

impl Arrivals {
    /// Asks the kernel for the times of a socket.
    ///
    /// # Panics
    /// When this kernel has none.
    pub fn wanted(socket: &UdpSocket) {
        setsockopt(socket, ReceiveTimestampns, &true).expect("Linux stamps datagrams");
    }

    /// The next datagram that waits: its length, and when it came.
    pub fn next(&mut self, socket: &UdpSocket, datagram: &mut [u8]) -> Option<(usize, SystemTime)> {
        let mut parts = [IoSliceMut::new(datagram)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut self.control), flags).ok()?;
        let stamp = message.cmsgs().ok()?.find_map(|part| match part {
            ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
            _ => None,
        });
        Some((message.bytes, SystemTime::UNIX_EPOCH + stamp?))
    }
}
