//! From the host name of a request to the sockets to try: [`Resolution`] with a [`Resolver`](super::Resolver) and a
//! clock (RFC 3263 §4).

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::builder::os_seed;
use super::shared::{Core, Handle, Shared, now};
use super::{Error, tcp};
use crate::engine::flow::{Hop, Transport};
use crate::engine::target;
use crate::event::Lookup;
use crate::message::header::Route;
use crate::message::{Headers, Host, Uri};
use crate::resolve::{Means, Resolution, ResolveError, Target};

impl From<ResolveError> for Error {
    fn from(ResolveError { host, why }: ResolveError) -> Self {
        Error::Resolve { host, why }
    }
}

/// The hops of a request whose Route or URI names a host, in the order to try them; none where it names an address,
/// which the engine reads.
pub(super) async fn hops(shared: &Shared, headers: &Headers, uri: &Uri) -> Result<Vec<Hop>, Error> {
    let route = headers.typed::<Route>().map(|route| route.0.uri);
    let next = route.as_ref().unwrap_or(uri);
    match next.target_host() {
        Some(Host::Name(_)) => hops_of(shared, next, target::asks_for_sips(uri, headers)).await,
        _ => Ok(Vec::new()),
    }
}

/// The hops of a URI.
async fn hops_of(shared: &Shared, uri: &Uri, secure: bool) -> Result<Vec<Hop>, Error> {
    let target = Target::of(uri)?;
    let target = if secure { target.secured() } else { target };
    let random = |error: std::io::Error| Error::Resolve { host: uri.as_str().into(), why: error.to_string() };
    let (limits, seed) = (shared.config.resolve.clone(), os_seed().map_err(random)?);
    walk(shared, Resolution::new(now(), target, means(shared), limits, seed)).await
}

impl Core {
    /// Looks up what the engine asks for; a closing endpoint finds nothing.
    pub(super) fn look_up(&mut self, lookup: Lookup, handle: Option<&Handle>, now: Instant) {
        let Some(handle) = handle.cloned() else {
            return self.engine.looked_up(now, lookup, Vec::new());
        };
        let shared = handle.shared().clone();
        shared.tasks.spawn(async move {
            let shared = handle.shared();
            let found = tokio::select! {
                found = hops_of(shared, &lookup.uri, lookup.secure) => found,
                () = shared.stop.cancelled() => Err(Error::Closed),
            };
            let hops = found.inspect_err(|error| tracing::debug!(%error, "a next hop cannot be found"));
            handle.enter(|core, now| core.engine.looked_up(now, lookup, hops.unwrap_or_default()));
        });
    }
}

/// Streams need no listener of their kind: we open the connection.
fn means(shared: &Shared) -> Means {
    #[cfg(feature = "tls")]
    let secure = shared.tls.is_some();
    #[cfg(not(feature = "tls"))]
    let secure = false;
    let dials = |one: &Transport| one.is_reliable() && tcp::is_built_in(*one) && (secure || !one.is_secure());
    let streams: Vec<_> = Transport::ALL.into_iter().filter(dials).collect();
    Means::of(&shared.listeners, &streams)
}

/// Asks until the procedure has its list. A look-up that panics is one that nobody answers.
async fn walk(shared: &Shared, mut resolution: Resolution) -> Result<Vec<Hop>, Error> {
    let mut asked = JoinSet::new();
    loop {
        while let Some(question) = resolution.poll_question() {
            let resolver = Arc::clone(&shared.resolver);
            asked.spawn(async move {
                let answer = resolver.look_up(&question).await;
                (question, answer)
            });
        }
        if let Some(outcome) = resolution.outcome() {
            return Ok(outcome.clone()?.hops);
        }
        let deadline = resolution.poll_timeout().unwrap_or_else(now);
        tokio::select! {
            Some(answered) = asked.join_next() => if let Ok((question, answer)) = answered {
                resolution.handle_answer(&question, answer);
            },
            () = tokio::time::sleep_until(deadline.into()) => resolution.handle_timeout(now()),
        }
    }
}
