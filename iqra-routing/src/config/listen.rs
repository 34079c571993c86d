//! The section `listen`: the sockets, what others reach them at, and who this node is on secure ones.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::check::{Checked, Source};
use super::{Identity, Listen, Socket};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenFile {
    #[serde(default)]
    udp: Vec<Spanned<SocketFile>>,
    #[serde(default)]
    tcp: Vec<Spanned<SocketFile>>,
    #[serde(default)]
    tls: Vec<Spanned<SocketFile>>,
    #[serde(default)]
    ws: Vec<Spanned<SocketFile>>,
    #[serde(default)]
    wss: Vec<Spanned<SocketFile>>,
    shards: Option<Spanned<u64>>,
    identity: Option<IdentityFile>,
    pub(super) advertise: Option<Spanned<AdvertiseFile>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(
    untagged,
    expecting = "write an address with a port, \"0.0.0.0:5060\", or { bind = \"0.0.0.0:5060\", advertise = \"192.0.2.10:5060\" }"
)]
enum SocketFile {
    Address(SocketAddr),
    Forwarded { bind: SocketAddr, advertise: SocketAddr },
}

/// One address, or one for each family.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "write an address, \"192.0.2.10\", or one for each family, [\"192.0.2.10\", \"2001:db8::10\"]"
)]
pub(super) enum AdvertiseFile {
    One(IpAddr),
    Each(Vec<IpAddr>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    certificate: PathBuf,
    key: PathBuf,
    client_roots: Option<PathBuf>,
}

impl ListenFile {
    /// What stands in `advertise`.
    pub(super) fn advertised(&self) -> &[IpAddr] {
        match self.advertise.as_ref().map(Spanned::get_ref) {
            None => &[],
            Some(AdvertiseFile::One(ip)) => std::slice::from_ref(ip),
            Some(AdvertiseFile::Each(ips)) => ips,
        }
    }
}

pub(super) fn check(source: &Source<'_>, file: &Spanned<ListenFile>) -> Checked<Listen> {
    let section = file.get_ref();
    let common = advertise(source, section)?;
    let sockets = |list: &[Spanned<SocketFile>], key: &str| {
        list.iter().map(|one| socket(source, one, key, &common)).collect::<Checked<Vec<_>>>()
    };
    let listen = Listen {
        udp: sockets(&section.udp, "listen.udp")?,
        tcp: sockets(&section.tcp, "listen.tcp")?,
        tls: sockets(&section.tls, "listen.tls")?,
        ws: sockets(&section.ws, "listen.ws")?,
        wss: sockets(&section.wss, "listen.wss")?,
        shards: source.count(section.shards.as_ref(), "listen.shards", 1..=256, 1)? as usize,
        identity: section.identity.as_ref().map(|identity| Identity {
            certificate: identity.certificate.clone(),
            key: identity.key.clone(),
            client_roots: identity.client_roots.clone(),
        }),
        advertise: common,
    };
    let secure = listen.tls.iter().chain(&listen.wss).next();
    if listen.udp.iter().chain(&listen.tcp).chain(&listen.ws).next().or(secure).is_none() {
        let why = "there is no address to listen on; write for instance udp = [\"0.0.0.0:5060\"]";
        return Err(source.fault(file, "listen", why));
    }
    if let Some(socket) = secure.filter(|_| listen.identity.is_none()) {
        let why = format!(
            "tls and wss ({}) need a certificate; add identity = {{ certificate = \"cert.pem\", key = \"key.pem\" }}",
            socket.bind
        );
        return Err(source.fault(file, "listen.identity", why));
    }
    Ok(listen)
}

fn advertise(source: &Source<'_>, section: &ListenFile) -> Checked<Vec<IpAddr>> {
    let Some(value) = &section.advertise else { return Ok(Vec::new()) };
    let addresses = section.advertised();
    let fault = |why: String| Err(source.fault(value, "listen.advertise", why));
    if let Some(all) = addresses.iter().find(|ip| ip.is_unspecified()) {
        return fault(format!("{all} is no address that others can reach; write this node's address"));
    }
    if addresses.iter().filter(|ip| ip.is_ipv4()).count() > 1
        || addresses.iter().filter(|ip| ip.is_ipv6()).count() > 1
    {
        let why = "there are two addresses of one family; keep one, and give sockets that are reached elsewhere \
                   an advertise of their own";
        return fault(why.to_owned());
    }
    Ok(addresses.to_vec())
}

fn socket(source: &Source<'_>, file: &Spanned<SocketFile>, key: &str, common: &[IpAddr]) -> Checked<Socket> {
    match *file.get_ref() {
        SocketFile::Address(bind) => {
            if bind.ip().is_unspecified() && !common.iter().any(|ip| ip.is_ipv4() == bind.is_ipv4()) {
                let why = format!(
                    "{bind} is no address that others can reach; add advertise = \"<this node's address of its family>\""
                );
                return Err(source.fault(file, "listen.advertise", why));
            }
            Ok(Socket { bind, advertise: None })
        }
        SocketFile::Forwarded { bind, advertise } => {
            let reachable = !advertise.ip().is_unspecified() && advertise.port() != 0;
            if !reachable || advertise.is_ipv4() != bind.is_ipv4() {
                let why = format!(
                    "{bind} cannot be reached at {advertise}; advertise an address of the same family with its port"
                );
                return Err(source.fault(file, key, why));
            }
            Ok(Socket { bind, advertise: Some(advertise) })
        }
    }
}
