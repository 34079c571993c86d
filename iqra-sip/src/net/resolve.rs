//! From a host name to an address, by the system's resolver (A and AAAA; SRV and NAPTR of RFC 3263 are not asked).

use std::net::SocketAddr;

use super::Error;
use crate::engine::flow::{Hop, Listener};
use crate::engine::target;
use crate::message::header::Route;
use crate::message::{Headers, Host, Uri};

/// The next hop of a request whose Route or URI names a host; `None` where it names an address, which the engine reads.
pub(super) async fn next_hop(
    listeners: &[Listener],
    headers: &Headers,
    uri: &Uri,
) -> Result<Option<Hop>, Error> {
    let route = headers.typed::<Route>().map(|route| route.0.uri);
    let uri = route.as_ref().unwrap_or(uri);
    let Some(Host::Name(name)) = uri.host() else { return Ok(None) };
    let fail = |why: String| Error::Resolve { host: name.to_owned(), why };
    let transport = target::transport(uri)?;
    let found = tokio::net::lookup_host((name, uri.port().unwrap_or(transport.default_port()))).await;
    let mut found = found.map_err(|error| fail(error.to_string()))?;
    let reachable = |addr: &SocketAddr| listeners.iter().any(|l| l.addr.is_ipv4() == addr.is_ipv4());
    let addr =
        found.find(reachable).ok_or_else(|| fail(String::from("no address of a listener's family")))?;
    Ok(Some(Hop::from((transport, addr)).named(name)))
}
