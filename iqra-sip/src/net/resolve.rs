//! From a host name to an address, by the system's resolver (A and AAAA; SRV and NAPTR of RFC 3263 are not asked).

use std::net::SocketAddr;

use super::Error;
use crate::engine::flow::{Listener, Transport};
use crate::message::header::Route;
use crate::message::{Headers, Host, Scheme, Uri};

/// The next hop of a request whose Route or URI names a host; `None` where it names an address, which the engine reads.
pub(super) async fn next_hop(
    listeners: &[Listener],
    headers: &Headers,
    uri: &Uri,
) -> Result<Option<(Transport, SocketAddr)>, Error> {
    let route = headers.typed::<Route>().map(|route| route.0.uri);
    let uri = route.as_ref().unwrap_or(uri);
    let Some(Host::Name(name)) = uri.host().filter(|_| uri.scheme() == Scheme::Sip) else { return Ok(None) };
    let fail = |why: String| Error::Resolve { host: name.to_owned(), why };
    let transport = uri.transport().map_or(Some(Transport::Udp), Transport::named);
    let transport = transport.ok_or_else(|| fail(String::from("its transport is not supported")))?;
    let found = tokio::net::lookup_host((name, uri.port().unwrap_or(5060))).await;
    let mut found = found.map_err(|error| fail(error.to_string()))?;
    let reachable = |addr: &SocketAddr| listeners.iter().any(|l| l.addr.is_ipv4() == addr.is_ipv4());
    let addr =
        found.find(reachable).ok_or_else(|| fail(String::from("no address of a listener's family")))?;
    Ok(Some((transport, addr)))
}
