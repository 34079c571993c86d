//! Our endpoint as one side of a test: bound on loopback, every wait with a deadline, and the ladders of its calls
//! printed when the test fails.
//!
//! The one module that holds code under test: it is the side that faces the peer, never the one that judges it.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use iqra_sip::event::{Body, CallOptions, EndReason, OutgoingInvite};
use iqra_sip::message::NameAddr;
use iqra_sip::net::{
    Answer, Builder, Call, CallEvent, Endpoint, InDialogRequest, Incoming, IncomingInvite, IncomingOther,
    IncomingRequest, OutgoingCall, OutgoingEvent,
};
use iqra_sip::observe::Traces;
use iqra_sip::observe::ladder::Style;
use iqra_sip::{EngineConfig, Headers, Method, Request, Response, Transport, Uri};

/// How long anything may take before a test fails.
const SOON: Duration = Duration::from_secs(20);

/// The session description of this side.
pub const SDP: &str = "v=0\r\no=iqra 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                       m=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

/// A bound endpoint.
pub struct Us {
    /// The endpoint.
    pub endpoint: Endpoint,
    incoming: Incoming,
    traces: Arc<Traces>,
}

impl Us {
    /// On UDP and TCP, with the defaults.
    pub async fn plain() -> Self {
        Self::with(EngineConfig::default()).await
    }

    /// On UDP and TCP.
    pub async fn with(config: EngineConfig) -> Self {
        let here = (Ipv4Addr::LOCALHOST, 0);
        Self::bind(Endpoint::builder().udp(here).tcp(here).config(config)).await
    }

    /// With sockets and settings of its own.
    ///
    /// # Panics
    /// When they cannot be bound.
    pub async fn bind(builder: Builder) -> Self {
        let traces = Arc::new(Traces::default());
        let (endpoint, incoming) = builder.observe(traces.clone()).bind().await.expect("bound");
        Self { endpoint, incoming, traces }
    }

    /// Where the first socket is.
    pub fn addr(&self) -> SocketAddr {
        self.endpoint.listeners()[0].addr
    }

    /// Where the socket of a transport is.
    ///
    /// # Panics
    /// When there is none.
    pub fn addr_of(&self, transport: Transport) -> SocketAddr {
        let mut listeners = self.endpoint.listeners().iter();
        listeners.find(|one| one.transport == transport).expect("bound").addr
    }

    /// The next call.
    ///
    /// # Panics
    /// When something else comes, or nothing in time.
    pub async fn called(&mut self) -> IncomingInvite {
        match soon("a call", self.incoming.next()).await {
            Some(IncomingRequest::Invite(invite)) => invite,
            other => panic!("no call: {other:?}"),
        }
    }

    /// The next call, taken and acknowledged.
    ///
    /// # Panics
    /// As [`called`](Self::called).
    pub async fn take_call(&mut self) -> Call {
        let mut call = self.called().await.accept(Answer::sdp(SDP)).await.expect("accepted");
        confirmed(&mut call).await;
        call
    }

    /// The next request outside calls.
    ///
    /// # Panics
    /// When something else comes, or nothing in time.
    pub async fn asked(&mut self) -> IncomingOther {
        match soon("a request", self.incoming.next()).await {
            Some(IncomingRequest::Other(other)) => other,
            other => panic!("another request: {other:?}"),
        }
    }

    /// Places a call.
    ///
    /// # Panics
    /// When it cannot be placed.
    pub async fn call(&self, invite: OutgoingInvite) -> OutgoingCall {
        self.endpoint.invite(invite).await.expect("placed")
    }

    /// Sends a request outside calls and gives its final answer.
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn ask(&self, request: Request) -> Arc<Response> {
        soon("an answer", self.endpoint.request(request, None)).await.expect("answered")
    }

    /// Whether a message of this start line's beginning was sent or received.
    pub fn saw(&self, start: &str) -> usize {
        let calls = self.traces.calls();
        let records = calls.iter().flat_map(|call| self.traces.of(call));
        records.filter(|record| record.bytes.starts_with(start.as_bytes())).count()
    }
}

#[allow(clippy::print_stderr)] // The one way to tell the reader of a failed test.
impl Drop for Us {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for call in self.traces.calls() {
                eprintln!("{}", self.traces.ladder(&call, Style::default()));
            }
        }
    }
}

impl std::fmt::Debug for Us {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Us({:?})", self.endpoint.listeners())
    }
}

/// Waits with the deadline of these tests.
///
/// # Panics
/// When it passes.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("waited {SOON:?} in vain for {what}"))
}

/// A URI of a peer over UDP, or whatever `parameters` say.
///
/// # Panics
/// When that is no URI.
pub fn uri(peer: SocketAddr, parameters: &str) -> Uri {
    format!("sip:service@{peer}{parameters}").parse().expect("a URI")
}

/// An INVITE with an offer.
pub fn invite(to: Uri) -> OutgoingInvite {
    OutgoingInvite {
        uri: to.clone(),
        hops: Vec::new(),
        from: NameAddr::new(caller()),
        to: NameAddr::new(to),
        call_id: None,
        cseq: 1,
        headers: Headers::new(),
        body: Some(Body::sdp(SDP)),
        options: CallOptions::default(),
    }
}

/// A request outside calls, with what the endpoint does not fill in.
pub fn request(method: Method, to: Uri) -> Request {
    let mut headers = Headers::new();
    headers.push(iqra_sip::HeaderName::FROM, format!("<{}>", caller()));
    headers.push(iqra_sip::HeaderName::TO, format!("<{to}>"));
    Request { headers, ..Request::new(method, to) }
}

fn caller() -> Uri {
    "sip:alice@voice.example".parse().expect("a URI")
}

/// The call that comes of an INVITE, with the 2xx; what came before it is passed over.
///
/// # Panics
/// When it ends otherwise, or not in time.
pub async fn answered(call: &mut OutgoingCall) -> (Call, Arc<Response>) {
    loop {
        match soon("the answer", call.next()).await {
            Some(OutgoingEvent::Answered(call, response)) => return (call, response),
            Some(OutgoingEvent::Provisional { .. } | OutgoingEvent::Following { .. }) => {}
            other => panic!("no answer: {other:?}"),
        }
    }
}

/// The first provisional response, as an event.
///
/// # Panics
/// When something else comes, or nothing in time.
pub async fn ringing(call: &mut OutgoingCall) -> OutgoingEvent {
    match soon("ringing", call.next()).await {
        Some(event @ OutgoingEvent::Provisional { .. }) => event,
        other => panic!("no ringing: {other:?}"),
    }
}

/// The final refusal; what came before it is passed over.
///
/// # Panics
/// When it ends otherwise, or not in time.
pub async fn refused(call: &mut OutgoingCall) -> Arc<Response> {
    loop {
        match soon("the refusal", call.next()).await {
            Some(OutgoingEvent::Failed(response) | OutgoingEvent::Redirected(response)) => return response,
            Some(OutgoingEvent::Provisional { .. } | OutgoingEvent::Following { .. }) => {}
            other => panic!("no refusal: {other:?}"),
        }
    }
}

/// Waits for the ACK.
///
/// # Panics
/// When something else comes, or nothing in time.
pub async fn confirmed(call: &mut Call) -> Arc<Request> {
    match soon("the ACK", call.next()).await {
        Some(CallEvent::Confirmed(ack)) => ack,
        other => panic!("no ACK: {other:?}"),
    }
}

/// The next request inside the call; ACKs are passed over.
///
/// # Panics
/// When something else comes, or nothing in time.
pub async fn requested(call: &mut Call) -> InDialogRequest {
    loop {
        match soon("a request in the call", call.next()).await {
            Some(CallEvent::Request(request)) => return request,
            Some(CallEvent::Confirmed(_)) => {}
            other => panic!("no request: {other:?}"),
        }
    }
}

/// The end of the call; ACKs are passed over.
///
/// # Panics
/// When something else comes, or nothing in time.
pub async fn ended(call: &mut Call) -> EndReason {
    loop {
        match soon("the end of the call", call.next()).await {
            Some(CallEvent::Ended(reason)) => return reason,
            Some(CallEvent::Confirmed(_)) => {}
            other => panic!("no end: {other:?}"),
        }
    }
}
