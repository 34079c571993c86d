//! The procedure of RFC 3263 §4 as a function of the answers known so far: either the list of hops, or what is still
//! to be asked.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::order;
use super::record::{Data, Kind, Known, Question};
use super::{Means, ResolveLimits, Target, TargetHost};
use crate::engine::flow::{Hop, Transport};

/// Most aliases across answers.
const MAX_ALIASES: usize = 4;
/// The longest domain name in text (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// One walk through the procedure.
pub(super) struct Walk<'a> {
    target: &'a Target,
    means: &'a Means,
    limits: &'a ResolveLimits,
    answers: &'a HashMap<Question, Known>,
    /// What has to be known before the list is sure.
    pub(super) missing: Vec<Question>,
    /// How long the list holds.
    pub(super) ttl: Option<Duration>,
    /// Why something on the way is not known.
    pub(super) failure: Option<String>,
    hops: Vec<Hop>,
}

/// What SRV says of a service.
#[derive(PartialEq, Eq)]
enum Service {
    /// Not known yet, or the DNS has no such records.
    Absent,
    /// There are servers, or the domain denies the service with the target `.`.
    Settled,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        target: &'a Target,
        means: &'a Means,
        limits: &'a ResolveLimits,
        answers: &'a HashMap<Question, Known>,
    ) -> Self {
        let (missing, ttl, failure, hops) = (Vec::new(), None, None, Vec::new());
        Self { target, means, limits, answers, missing, ttl, failure, hops }
    }

    /// The hops in the order to try them. Sure once nothing is missing.
    pub(super) fn run(&mut self) -> Vec<Hop> {
        if self.target.transport.is_some_and(|asked| !self.usable().any(|transport| transport == asked)) {
            return Vec::new();
        }
        match (&self.target.host, self.target.port, self.target.transport) {
            (TargetHost::Ip(ip), port, transport) => {
                if let Some(transport) = transport.or_else(|| self.usual()) {
                    self.add(transport, *ip, port.unwrap_or(transport.default_port()));
                }
            }
            (TargetHost::Name(name), Some(port), transport) => {
                if let Some(transport) = transport.or_else(|| self.usual()) {
                    self.addresses(transport, name, port);
                }
            }
            (TargetHost::Name(name), None, Some(transport)) => self.of_transport(name, transport),
            (TargetHost::Name(name), None, None) => self.of_domain(name),
        }
        std::mem::take(&mut self.hops)
    }

    /// The transport where neither the URI nor the DNS names one: UDP, TLS for sips (RFC 3263 §4.1), or what we have.
    fn usual(&self) -> Option<Transport> {
        let usual = if self.target.secure { Transport::Tls } else { Transport::Udp };
        self.usable().find(|transport| *transport == usual).or_else(|| self.usable().next())
    }

    /// The transports that we have and that are secure enough.
    fn usable(&self) -> impl Iterator<Item = Transport> + 'a {
        let secure = self.target.secure;
        self.means.transports.iter().copied().filter(move |transport| transport.is_secure() || !secure)
    }

    /// The transport is given: SRV, else addresses (RFC 3263 §4.2).
    fn of_transport(&mut self, name: &str, transport: Transport) {
        let service = match service_name(transport, name) {
            Some(service) => self.service(transport, &service),
            None => Service::Absent,
        };
        if service == Service::Absent && self.missing.is_empty() {
            self.addresses(transport, name, transport.default_port());
        }
    }

    /// Nothing is given: NAPTR, else SRV for each transport that we have, else addresses (RFC 3263 §4.1).
    fn of_domain(&mut self, name: &str) {
        let Some(naptrs) = self.ask(name, Kind::Naptr) else { return };
        let offers = naptrs.iter().filter_map(|data| match data {
            Data::Naptr(naptr) => Some((order::offered(naptr)?, naptr.replacement.clone())),
            _ => None,
        });
        let usable: Vec<_> = self.usable().collect();
        let mut services: Vec<_> = offers.filter(|(transport, _)| usable.contains(transport)).collect();
        if services.is_empty() {
            services = usable.iter().filter_map(|&t| Some((t, service_name(t, name)?))).collect();
        }
        let found: Vec<_> =
            services.iter().map(|(transport, service)| self.service(*transport, service)).collect();
        let absent = self.missing.is_empty() && found.iter().all(|service| *service == Service::Absent);
        if let Some(transport) = self.usual().filter(|_| absent) {
            self.addresses(transport, name, transport.default_port());
        }
    }

    /// The servers of one service.
    fn service(&mut self, transport: Transport, service: &str) -> Service {
        let Some(records) = self.ask(service, Kind::Srv) else { return Service::Absent };
        for data in records {
            match data {
                Data::Srv(srv) if !super::record::plain(&srv.target).is_empty() => {
                    self.addresses(transport, &srv.target, srv.port);
                }
                _ => {}
            }
        }
        if records.is_empty() { Service::Absent } else { Service::Settled }
    }

    /// The addresses of a host, IPv6 first where we have it (RFC 7984 §4, RFC 6724 §2.1).
    fn addresses(&mut self, transport: Transport, host: &str, port: u16) {
        for (have, kind) in [(self.means.v6, Kind::Aaaa), (self.means.v4, Kind::A)] {
            let found = if have { self.ask(host, kind) } else { None };
            for data in found.into_iter().flatten() {
                if let Data::Address(ip) = data {
                    self.add(transport, *ip, port);
                }
            }
        }
    }

    fn add(&mut self, transport: Transport, ip: IpAddr, port: u16) {
        let addr = SocketAddr::new(ip, port);
        let known = self.hops.iter().any(|hop| (hop.transport, hop.addr) == (transport, addr));
        let usable = port != 0 && !ip.is_unspecified() && !ip.is_multicast();
        if known || !usable || self.hops.len() >= self.limits.hops {
            return;
        }
        // The certificate names the domain that was asked for, not what the DNS put in its place (RFC 5922 §4).
        let name = self.target.domain.as_deref().map(Arc::from);
        self.hops.push(Hop { name, ..Hop::from((transport, addr)) });
    }

    /// The records of a name, through its aliases; `None`, with the question noted, where they are not known yet.
    fn ask(&mut self, name: &str, kind: Kind) -> Option<&'a [Data]> {
        let mut question = Question::new(name, kind);
        for _ in 0..MAX_ALIASES {
            if question.name.is_empty() || question.name.len() > MAX_NAME {
                return Some(&[]);
            }
            let Some(known) = self.answers.get(&question) else {
                self.missing.push(question);
                return None;
            };
            self.ttl = self.ttl.into_iter().chain(known.ttl).min();
            if let Some(why) = &known.failure {
                self.failure = Some(format!("{} {}: {why}", question.kind, question.name));
            }
            match &known.alias {
                Some(alias) => question.name.clone_from(alias),
                None => return Some(&known.records),
            }
        }
        self.failure = Some(format!("the aliases of {name} never end"));
        Some(&[])
    }
}

/// Where a domain keeps the servers of a transport (RFC 3263 §4.1). WebSocket has no such name of its own; only NAPTR
/// leads to its SRV records.
fn service_name(transport: Transport, domain: &str) -> Option<String> {
    let service = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
        Transport::Ws | Transport::Wss => return None,
    };
    Some(format!("{service}.{domain}"))
}
