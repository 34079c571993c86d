//! SIP on real sockets: the only I/O of the crate (feature `tokio`).
//!
//! [`Endpoint`] binds UDP and TCP sockets and drives an [`Engine`](crate::Engine) for each of its shards, one as a rule;
//! [`Incoming`] yields what callers ask; [`Call`] is a call in either direction. An engine stands behind one lock: whoever
//! has something to say enters it, and on the way out the messages are sent and the events go to their handles' bounded
//! channels. Tasks: one for the timers of each shard, one per UDP socket and TCP listener, one per connection.
//!
//! ```no_run
//! # async fn run() -> std::io::Result<()> {
//! use iqra_sip::net::{Answer, Endpoint, IncomingRequest};
//! let (endpoint, mut incoming) = Endpoint::builder().udp(([127, 0, 0, 1], 5060)).bind().await?;
//! while let Some(request) = incoming.next().await {
//!     if let IncomingRequest::Invite(invite) = request {
//!         tokio::spawn(async move {
//!             if let Ok(mut call) = invite.accept(Answer::default()).await {
//!                 while call.next().await.is_some() {}
//!             }
//!         });
//!     }
//! }
//! # endpoint.shutdown(std::time::Duration::from_secs(1)).await; Ok(()) }
//! ```

mod builder;
mod call;
mod connections;
mod datagrams;
#[cfg(feature = "dns")]
mod dns;
mod driver;
mod early;
mod endpoint;
mod hep;
mod incoming;
mod keep_alive;
mod outgoing;
mod pursue;
mod register;
mod relay;
mod resolve;
mod resolver;
mod router;
mod shards;
mod shared;
mod stream;
pub(crate) mod stun;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
mod transfer;
mod udp;
#[cfg(feature = "ws")]
mod ws;

pub use builder::{Bind, Builder, NetConfig};
pub use call::{Call, CallEvent, CallHandle, InDialogRequest};
pub use connections::Closed;
#[cfg(feature = "dns")]
pub use dns::{DnsConfigError, DnsResolver};
pub use early::Early;
pub use endpoint::{Counts, Endpoint};
pub use hep::{HepConfig, HepExporter};
pub use incoming::{Answer, Incoming, IncomingInvite, IncomingOther, IncomingRequest};
pub use keep_alive::KeepAlive;
pub use outgoing::{OutgoingCall, OutgoingEvent};
pub use pursue::CallPolicy;
pub use register::Registered;
pub use relay::Relayed;
pub use resolver::{FixedResolver, Resolver, SystemResolver};
#[cfg(feature = "tls")]
pub use tls::{TlsClients, TlsConfig, TlsError, TlsIdentity, TlsRoots, TlsSettings};
pub use transfer::{IncomingRefer, Referral, TransferReport};

use crate::event::{EngineError, Failure};

/// Why an endpoint could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The name of the peer has no address that a listener could send to.
    #[error("cannot resolve {host}: {why}")]
    Resolve {
        /// The host in the URI or Route.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// Nobody answered the request.
    #[error("the peer did not answer within 64*T1")]
    Timeout,
    /// The request could not be sent.
    #[error("the transport could not send the request")]
    Transport,
    /// The server answered and did not prove that it knows our secret
    /// ([`AuthConfig::server_proof`](crate::auth::AuthConfig)).
    #[error(
        "the server did not prove itself: check the password, or set AuthConfig::server_proof to Ignored"
    )]
    Unproven,
    /// The endpoint is shutting down.
    #[error("the endpoint is shut down: bind a new one")]
    Closed,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Timeout => Error::Timeout,
            Failure::Transport => Error::Transport,
            Failure::Unproven => Error::Unproven,
        }
    }
}
