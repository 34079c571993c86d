//! A NAT in front of one side of a call (RFC 4787 §4, §5): what leaves gets a public address, and what comes back passes
//! where the NAT's kind lets it.

use std::net::{IpAddr, SocketAddr};

/// To whom a port of the NAT is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The same ports outside as inside, open to everybody: set by hand.
    Static,
    /// One port for each port inside, open to addresses and ports that were sent to.
    PortRestricted,
    /// One port for each destination, open to that one alone.
    Symmetric,
}

/// A port of the NAT, and whom it was used with.
struct Mapping {
    inside: SocketAddr,
    outside: SocketAddr,
    sent_to: Vec<SocketAddr>,
}

pub(crate) struct Nat {
    kind: Kind,
    public: IpAddr,
    next_port: u16,
    mappings: Vec<Mapping>,
}

impl Nat {
    pub(crate) fn new(kind: Kind, public: IpAddr) -> Self {
        Self { kind, public, next_port: 40_000, mappings: Vec::new() }
    }

    /// Forgets all ports, as after a restart: the next packets leave by others.
    pub(crate) fn forget(&mut self) {
        self.mappings.clear();
    }

    /// The address that a packet from inside has outside.
    pub(crate) fn out(&mut self, inside: SocketAddr, to: SocketAddr) -> SocketAddr {
        let kind = self.kind;
        let fits = |m: &&mut Mapping| m.inside == inside && (kind != Kind::Symmetric || m.sent_to == [to]);
        if let Some(mapping) = self.mappings.iter_mut().find(fits) {
            mapping.sent_to.push(to);
            mapping.sent_to.dedup();
            return mapping.outside;
        }
        self.next_port += 7;
        let port = if kind == Kind::Static { inside.port() } else { self.next_port };
        let outside = SocketAddr::new(self.public, port);
        self.mappings.push(Mapping { inside, outside, sent_to: vec![to] });
        outside
    }

    /// Where a packet to `outside` goes inside, if it passes.
    pub(crate) fn inward(&self, from: SocketAddr, outside: SocketAddr, inside: IpAddr) -> Option<SocketAddr> {
        if self.kind == Kind::Static {
            return (outside.ip() == self.public).then_some(SocketAddr::new(inside, outside.port()));
        }
        let mapping = self.mappings.iter().find(|mapping| mapping.outside == outside)?;
        mapping.sent_to.contains(&from).then_some(mapping.inside)
    }
}
