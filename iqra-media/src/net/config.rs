//! How a media driver is set up, and what of it cannot be.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::codec::Registry;
#[cfg(feature = "webrtc")]
use crate::rtp::dtls::Certificate;

/// The most threads of one driver.
pub const MAX_THREADS: usize = 256;
/// The longest tick: a packet time, beyond which packets would leave in pairs.
pub const MAX_TICK: Duration = Duration::from_millis(20);
/// The shortest tick; for less delay there is [`Reading::Events`].
pub const MIN_TICK: Duration = Duration::from_millis(1);

/// How a driver is set up.
#[derive(Debug, Clone)]
pub struct MediaConfig {
    /// RTP ports; even ones are used, each with the odd one above. Default 20000-29999, five thousand calls.
    pub ports: RangeInclusive<u16>,
    /// Which part of the ports is kept for whom. Default a tenth for either direction.
    pub reserves: PortReserves,
    /// The address that ports are bound to. Default 0.0.0.0.
    pub bind: IpAddr,
    /// Threads that own the calls, 1 to [`MAX_THREADS`]: as many as cores may be busy with media. Default 1, which
    /// carries hundreds of calls.
    pub threads: usize,
    /// When the sockets are read. Default a tick of 5 ms.
    pub reading: Reading,
    /// When a thread has too much to do to be given further calls.
    pub overload: Overload,
    /// The codecs that negotiations may name.
    pub codecs: Registry,
    /// What this side shows in handshakes of DTLS; its fingerprint goes into the SDP. Default `None`: no DTLS.
    #[cfg(feature = "webrtc")]
    pub certificate: Option<Certificate>,
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            ports: 20_000..=29_999,
            reserves: PortReserves::default(),
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            threads: 1,
            reading: Reading::default(),
            overload: Overload::default(),
            codecs: Registry::default(),
            #[cfg(feature = "webrtc")]
            certificate: None,
        }
    }
}

/// When a media thread looks at its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// All of them on a beat of [`MIN_TICK`] to [`MAX_TICK`], which delays a packet by half of it on average: the
    /// cheapest for many calls.
    Tick(Duration),
    /// Each when something came, or is to be sent: no delay of its own, for a wake-up per packet. On Linux.
    Events,
}

impl Default for Reading {
    fn default() -> Self {
        Self::Tick(Duration::from_millis(5))
    }
}

/// Which part of the port range no call of the other direction gets, so that a flood of one leaves room for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortReserves {
    /// Percent of the pairs kept for calls that come in. Default 10.
    pub inbound_percent: u8,
    /// Percent kept for calls that are placed. Default 10; 0 where none are.
    pub outbound_percent: u8,
}

impl Default for PortReserves {
    fn default() -> Self {
        Self { inbound_percent: 10, outbound_percent: 10 }
    }
}

/// When a media thread is overloaded. Measured over half a second; it is over after two seconds well below: three quarters
/// of the busy share, half as many late rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overload {
    /// Whether calls are refused while every thread is overloaded. Default yes.
    pub refuse: bool,
    /// The share of time that it may be busy, above 0 to 1. Default 0.8.
    pub busy: f32,
    /// A round that begins so much after it was due is late, and a tenth of the rounds may be. Default 20 ms, the usual
    /// packet time: less than that a jitter buffer hides.
    pub late: Duration,
}

impl Default for Overload {
    fn default() -> Self {
        Self { refuse: true, busy: 0.8, late: Duration::from_millis(20) }
    }
}

/// A setting that cannot be; [`MediaDriver::start`](super::MediaDriver::start) gives it within an
/// [`io::Error`](std::io::Error) of the kind `InvalidInput`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFault {
    /// No even port with one above it.
    #[error(
        "ports {first}-{last} hold no pair of an even port and the one above; give a range such as 20000-29999"
    )]
    Ports {
        /// The first port of the range.
        first: u16,
        /// The last.
        last: u16,
    },
    /// Nothing would be left.
    #[error(
        "{inbound} % of the ports kept for inbound calls and {outbound} % for outbound ones are more than there are; \
         lower one of the reserves"
    )]
    Reserves {
        /// Percent kept for inbound calls.
        inbound: u8,
        /// Percent kept for outbound calls.
        outbound: u8,
    },
    /// Too many threads, or none.
    #[error("{0} media threads; give 1 to {MAX_THREADS}, no more than the machine has cores")]
    Threads(usize),
    /// A tick out of range.
    #[error("a tick of {0:?}; give 1 to 20 ms, or read by events for less delay")]
    Tick(Duration),
    /// This system has no epoll.
    #[error("media can be read by events on Linux only; give a tick, such as 5 ms")]
    Events,
    /// A share that can never be, or always is, reached.
    #[error("overload at a busy share of {0}; give more than 0, and 1 at most")]
    Busy(f32),
    /// Every round would be late.
    #[error("rounds late after {0:?}; give 1 ms to 1 s")]
    Late(Duration),
    /// None of this system's addresses.
    #[error("media cannot bind {address}: {error}; bind 0.0.0.0 or a local address")]
    Address {
        /// The address.
        address: IpAddr,
        /// What the system says of it.
        error: String,
    },
}

impl MediaConfig {
    /// Says what cannot be.
    pub(super) fn check(&self) -> Result<(), ConfigFault> {
        self.check_ports()?;
        if !(1..=MAX_THREADS).contains(&self.threads) {
            return Err(ConfigFault::Threads(self.threads));
        }
        match self.reading {
            Reading::Tick(tick) if !(MIN_TICK..=MAX_TICK).contains(&tick) => {
                return Err(ConfigFault::Tick(tick));
            }
            Reading::Events if !cfg!(target_os = "linux") => return Err(ConfigFault::Events),
            _ => {}
        }
        self.overload.check()?;
        check_address(self.bind)
    }

    fn check_ports(&self) -> Result<(), ConfigFault> {
        let (first, last) = (*self.ports.start(), *self.ports.end());
        let even = first.saturating_add(first % 2);
        if first == 0 || even % 2 == 1 || even >= last {
            return Err(ConfigFault::Ports { first, last });
        }
        let PortReserves { inbound_percent: inbound, outbound_percent: outbound } = self.reserves;
        if inbound.saturating_add(outbound) > 100 {
            return Err(ConfigFault::Reserves { inbound, outbound });
        }
        Ok(())
    }
}

impl Overload {
    fn check(&self) -> Result<(), ConfigFault> {
        if !(self.busy > 0.0 && self.busy <= 1.0) {
            return Err(ConfigFault::Busy(self.busy));
        }
        let sensible = Duration::from_millis(1)..=Duration::from_secs(1);
        if sensible.contains(&self.late) { Ok(()) } else { Err(ConfigFault::Late(self.late)) }
    }
}

/// A wrong address would otherwise look like a range without free ports.
fn check_address(address: IpAddr) -> Result<(), ConfigFault> {
    let explain = |error: std::io::Error| ConfigFault::Address { address, error: error.to_string() };
    UdpSocket::bind((address, 0)).map(drop).map_err(explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(change: impl FnOnce(&mut MediaConfig)) -> String {
        let mut config = MediaConfig { bind: [127, 0, 0, 1].into(), ..MediaConfig::default() };
        assert_eq!(config.check(), Ok(()));
        change(&mut config);
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_names_the_setting_and_the_remedy() {
        let (first, last) = (4_001, 4_002);
        let faults = [
            (fault(|c| c.ports = first..=last), "4001-4002", "20000-29999"),
            (fault(|c| c.ports = 65_535..=65_535), "65535", "20000-29999"),
            (fault(|c| c.reserves.inbound_percent = 91), "91 %", "lower"),
            (fault(|c| c.threads = 0), "0 media threads", "1 to 256"),
            (fault(|c| c.threads = 257), "257", "1 to 256"),
            (fault(|c| c.reading = Reading::Tick(Duration::ZERO)), "0ns", "events"),
            (fault(|c| c.reading = Reading::Tick(Duration::from_millis(21))), "21ms", "1 to 20 ms"),
            (fault(|c| c.overload.busy = 0.0), "share of 0", "1 at most"),
            (fault(|c| c.overload.busy = f32::NAN), "NaN", "1 at most"),
            (fault(|c| c.overload.late = Duration::ZERO), "0ns", "1 ms"),
            (fault(|c| c.bind = [192, 0, 2, 1].into()), "192.0.2.1", "local address"),
        ];
        for (said, input, remedy) in faults {
            assert!(said.contains(input) && said.contains(remedy), "{said}");
        }
    }
}
