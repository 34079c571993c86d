//! ICE in SDP (RFC 8839): what an ICE-lite side says of itself, and what it hears of the other one.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use data_encoding::BASE64;

/// Most candidates of the peer that are kept; a browser with many networks has some twenty.
const MAX_CANDIDATES: usize = 64;

/// Our side: lite, since we have an address that is reachable (RFC 8445 §2.5). `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct IceLite {
    /// 4 to 256 random letters, digits, `+` and `/` (RFC 8839 §5.4).
    pub ufrag: String,
    /// 22 to 256 of the same.
    pub pwd: String,
    /// Addresses that receive RTP, best first; where empty, the capabilities' address and port.
    pub candidates: Vec<SocketAddr>,
}

impl IceLite {
    /// Credentials of so many random octets: 48 bits in the user fragment and 144 in the password (RFC 8445 §5.3 asks
    /// for 24 and 128).
    pub fn random(octets: &[u8; 24]) -> Self {
        let (ufrag, pwd) = octets.split_at(6);
        Self { ufrag: BASE64.encode(ufrag), pwd: BASE64.encode(pwd), candidates: Vec::new() }
    }

    /// The same candidates under other credentials.
    pub(super) fn under(&self, ufrag: &str, pwd: &str) -> Self {
        Self { ufrag: ufrag.to_owned(), pwd: pwd.to_owned(), candidates: self.candidates.clone() }
    }
}

impl fmt::Debug for IceLite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceLite")
            .field("ufrag", &self.ufrag)
            .field("candidates", &self.candidates)
            .finish_non_exhaustive()
    }
}

/// The peer's side. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteIce {
    /// User fragment of its checks.
    pub ufrag: String,
    /// Password that our answers to its checks prove themselves with.
    pub pwd: String,
    /// Whether it is lite too, so that nobody checks (RFC 8445 §6.1.1).
    pub lite: bool,
    /// `a=ice-options`, such as `trickle`.
    pub options: Vec<String>,
    /// Its UDP candidates with an IP address, in its order, at most 64.
    pub candidates: Vec<Candidate>,
}

impl fmt::Debug for RemoteIce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteIce")
            .field("ufrag", &self.ufrag)
            .field("lite", &self.lite)
            .field("candidates", &self.candidates)
            .finish_non_exhaustive()
    }
}

impl RemoteIce {
    /// Whether this begins ICE anew in place of what stood before: both credentials are others (RFC 8839 §4.4.1.1.1).
    pub(super) fn restarts(&self, before: &Self) -> bool {
        self.ufrag != before.ufrag && self.pwd != before.pwd
    }

    /// From the attributes; `None` where the credentials are not as RFC 8839 §5.4 has them.
    pub(super) fn new<'a>(
        ufrag: &str,
        pwd: &str,
        lite: bool,
        options: Option<&str>,
        candidates: impl Iterator<Item = &'a str>,
    ) -> Option<Self> {
        let (ufrag, pwd) = (ufrag.trim(), pwd.trim());
        let lengths_fit = (4..=256).contains(&ufrag.len()) && (22..=256).contains(&pwd.len());
        lengths_fit.then(|| Self {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
            lite,
            options: options.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect(),
            candidates: candidates.filter_map(Candidate::parse).take(MAX_CANDIDATES).collect(),
        })
    }
}

/// How a candidate was found (RFC 8839 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateKind {
    /// An address of its own.
    Host,
    /// What a STUN server saw.
    ServerReflexive,
    /// What the other side saw.
    PeerReflexive,
    /// On a TURN server.
    Relayed,
}

/// A transport address over UDP where the peer may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// 1 for RTP, 2 for RTCP.
    pub component: u16,
    /// The higher the better.
    pub priority: u32,
    /// Where.
    pub address: SocketAddr,
    /// How it was found.
    pub kind: CandidateKind,
}

impl Candidate {
    /// `<foundation> <component> <transport> <priority> <address> <port> typ <kind> ..`; `None` for TCP, for names
    /// (`.local`) and for what cannot be read.
    fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace().skip(1);
        let component = words.next()?.parse().ok()?;
        let udp = words.next()?.eq_ignore_ascii_case("udp");
        let priority = words.next()?.parse().ok()?;
        let (address, port): (IpAddr, u16) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let typ = words.next()?.eq_ignore_ascii_case("typ");
        let kind = match words.next()? {
            "host" => CandidateKind::Host,
            "srflx" => CandidateKind::ServerReflexive,
            "prflx" => CandidateKind::PeerReflexive,
            "relay" => CandidateKind::Relayed,
            _ => return None,
        };
        (udp && typ).then_some(Self { component, priority, address: SocketAddr::new(address, port), kind })
    }
}

/// Our candidates as attribute values: hosts, each of its own foundation, the first preferred (RFC 8445 §5.1.2.1).
/// Component 2 follows where RTCP has a port of its own.
pub(super) fn candidates(
    ice: &IceLite,
    default: SocketAddr,
    rtcp_port: Option<u16>,
) -> impl Iterator<Item = String> {
    let addresses = if ice.candidates.is_empty() { vec![default] } else { ice.candidates.clone() };
    (1u32..).zip(addresses).flat_map(move |(foundation, rtp)| {
        let rtcp = rtcp_port.map(|port| (2, SocketAddr::new(rtp.ip(), port)));
        std::iter::once((1, rtp)).chain(rtcp).map(move |(component, address)| {
            let priority = (126 << 24) + (65_536u32.saturating_sub(foundation) << 8) + (256 - component);
            let (ip, port) = (address.ip(), address.port());
            format!("{foundation} {component} UDP {priority} {ip} {port} typ host")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_candidates_with_addresses_are_kept_and_others_left() {
        let found = Candidate::parse(
            "842163049 1 udp 1677729535 203.0.113.9 51044 typ srflx raddr 10.0.0.2 rport 5000 generation 0",
        );
        let expected = Candidate {
            component: 1,
            priority: 1_677_729_535,
            address: ([203, 0, 113, 9], 51044).into(),
            kind: CandidateKind::ServerReflexive,
        };
        assert_eq!(found, Some(expected));
        for other in [
            "1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
            "1 1 udp 2122260223 3f1e.local 5000 typ host",
            "1 1 udp 2122260223 192.0.2.1 5000 typ new",
            "1 1 udp 5 192.0.2.1 99999 typ host",
            "",
        ] {
            assert_eq!(Candidate::parse(other), None, "{other}");
        }
    }

    #[test]
    fn ours_are_hosts_that_read_as_they_were() {
        let ice = IceLite { ufrag: "abcd".into(), pwd: "x".repeat(22), candidates: Vec::new() };
        let lines: Vec<_> = candidates(&ice, ([198, 51, 100, 7], 40_000).into(), Some(40_001)).collect();
        let ports: Vec<_> = lines
            .iter()
            .map(|l| Candidate::parse(l).unwrap())
            .map(|c| (c.component, c.address.port()))
            .collect();
        assert_eq!(ports, [(1, 40_000), (2, 40_001)]);
        assert!(lines[0].starts_with("1 1 UDP 2130706431 198.51.100.7 40000 typ host"), "{}", lines[0]);
    }

    #[test]
    fn random_octets_make_credentials_of_the_length_and_letters_that_ice_has() {
        let ice = IceLite::random(&std::array::from_fn(|n| n as u8 * 11));
        assert_eq!((ice.ufrag.len(), ice.pwd.len()), (8, 24));
        let is_ice_char = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
        assert!(ice.ufrag.chars().chain(ice.pwd.chars()).all(is_ice_char), "{}:{}", ice.ufrag, ice.pwd);
        assert_ne!(ice, IceLite::random(&[7; 24]));
    }

    #[test]
    fn debug_shows_no_password() {
        let pwd = "secretsecretsecretsecret";
        let ours = IceLite { ufrag: "abcd".into(), pwd: pwd.into(), candidates: Vec::new() };
        let theirs = RemoteIce::new("abcd", pwd, false, None, std::iter::empty()).unwrap();
        assert!(!format!("{ours:?}{theirs:?}").contains("secret"));
        assert_eq!(RemoteIce::new("abc", pwd, false, None, std::iter::empty()), None);
    }
}
