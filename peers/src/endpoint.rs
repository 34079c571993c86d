//! Our endpoint as one side of a test: bound on loopback, every wait with a deadline, and all its messages printed when
//! the test fails.
//!
//! It is the side that faces the peer, never the one that judges it. [`Us::close`] shows that nothing stays behind.
//! The programs of others are waited for in the test's own thread, while the endpoint goes on in those of its runtime.

use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iqra_sip::event::{Body, CallOptions, EndReason, OutgoingInvite, Reply};
use iqra_sip::message::NameAddr;
use iqra_sip::net::{
    Answer, Builder, Call, CallEvent, Counts, Endpoint, InDialogRequest, Incoming, IncomingInvite,
    IncomingOther, IncomingRequest, OutgoingCall, OutgoingEvent,
};
use iqra_sip::observe::{Direction, Observer, TraceRecord};
use iqra_sip::roles::relay::{Plan, RelayConfig, RelayKeys, Target};
use iqra_sip::{EngineConfig, Headers, Method, Request, Response, StatusCode, Transport, Uri};

use crate::wait;

/// Any port of loopback.
pub const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// How long anything may take before a test fails.
pub const SOON: Duration = Duration::from_secs(30);

/// The session description of this side. Nobody listens at its port.
pub const SDP: &str = "v=0\r\no=iqra 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                       m=audio 9 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n";

/// A bound endpoint.
pub struct Us {
    /// The endpoint.
    pub endpoint: Endpoint,
    incoming: Incoming,
    messages: Arc<Messages>,
}

impl Us {
    /// On UDP and TCP, with the defaults.
    pub async fn plain() -> Self {
        Self::with(EngineConfig::default()).await
    }

    /// On UDP and TCP.
    pub async fn with(config: EngineConfig) -> Self {
        Self::bind(Endpoint::builder().udp(LOOPBACK).tcp(LOOPBACK).config(config)).await
    }

    /// With sockets and settings of its own.
    ///
    /// # Panics
    /// When they cannot be bound.
    pub async fn bind(builder: Builder) -> Self {
        let messages = Arc::new(Messages::default());
        let (endpoint, incoming) = builder.observe(messages.clone()).bind().await.expect("bound");
        Self { endpoint, incoming, messages }
    }

    /// A record-routing proxy.
    ///
    /// # Panics
    /// As [`bind`](Self::bind).
    pub async fn relay(builder: Builder) -> Self {
        let keys = RelayKeys::new([b"a key of this test, 32 octets ..."]).expect("long enough");
        let relay = Some(RelayConfig::new("proxy-1", keys));
        Self::bind(builder.config(EngineConfig { relay, ..EngineConfig::default() })).await
    }

    /// Relays the next call to a target; the rest of it passes by itself.
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn relays(&mut self, target: Target) {
        let relayed = self.called().await.relay(Plan::new([target])).await;
        let mut relayed = relayed.expect("relayed");
        // As long as the handle lives.
        tokio::spawn(async move { while relayed.next().await.is_some() {} });
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

    /// A URI that leads here over a transport.
    pub fn uri(&self, user: &str, transport: Transport) -> Uri {
        let parameter = match transport {
            Transport::Udp => String::new(),
            other => format!(";transport={}", other.as_param()),
        };
        format!("sip:{user}@{}{parameter}", self.addr_of(transport)).parse().expect("a URI")
    }

    /// The next request that begins something.
    ///
    /// # Panics
    /// When nothing comes in time.
    pub async fn incoming(&mut self) -> IncomingRequest {
        soon("a request", self.incoming.next()).await.expect("the endpoint is open")
    }

    /// A request that has come already.
    pub async fn waiting(&mut self) -> Option<IncomingRequest> {
        tokio::time::timeout(Duration::ZERO, self.incoming.next()).await.ok().flatten()
    }

    /// The next call; other requests on the way are answered as if nobody were interested.
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn called(&mut self) -> IncomingInvite {
        loop {
            if let IncomingRequest::Invite(invite) = self.incoming().await {
                return invite;
            }
        }
    }

    /// The next call, taken and acknowledged.
    ///
    /// # Panics
    /// As [`called`](Self::called).
    pub async fn take_call(&mut self) -> Call {
        let invite = self.called().await;
        self.take(invite).await
    }

    /// Takes a call, and waits for the ACK.
    ///
    /// # Panics
    /// When it does not come in time.
    pub async fn take(&self, invite: IncomingInvite) -> Call {
        let mut call = soon("room for the answer", invite.accept(Answer::sdp(SDP))).await.expect("accepted");
        confirmed(&mut call).await;
        call
    }

    /// Hangs up, and waits until the peer has answered the BYE.
    ///
    /// # Panics
    /// When it does not.
    pub async fn hang_up(&self, call: Call) {
        let before = self.count(Direction::In, "200 to BYE");
        call.hangup(Headers::new()).await.expect("it stands");
        let answered = || (self.count(Direction::In, "200 to BYE") > before).then_some(());
        wait::until("the answer to our BYE", SOON, answered);
    }

    /// The next request outside calls.
    ///
    /// # Panics
    /// When something else comes, or nothing in time.
    pub async fn asked(&mut self) -> IncomingOther {
        match self.incoming().await {
            IncomingRequest::Other(other) => other,
            other @ IncomingRequest::Invite(_) => panic!("another request: {other:?}"),
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

    /// How many messages of this start line's beginning were sent or received.
    pub fn saw(&self, start: &str) -> usize {
        self.messages.all().iter().filter(|record| record.bytes.starts_with(start.as_bytes())).count()
    }

    /// How many messages of this summary went this way: `INVITE`, `200 to BYE`.
    pub fn count(&self, direction: Direction, summary: &str) -> usize {
        let passed = |record: &&TraceRecord| record.direction == direction && summary_of(record) == summary;
        self.messages.all().iter().filter(passed).count()
    }

    /// Waits until a message of this summary came in, and gives the first.
    ///
    /// # Panics
    /// When none does.
    pub fn received(&self, summary: &str) -> String {
        self.message(Direction::In, summary)
    }

    /// Waits until a message of this summary went out, and gives the first.
    ///
    /// # Panics
    /// When none does.
    pub fn sent(&self, summary: &str) -> String {
        self.message(Direction::Out, summary)
    }

    fn message(&self, direction: Direction, summary: &str) -> String {
        let passed = |record: &&TraceRecord| record.direction == direction && summary_of(record) == summary;
        let first = || self.messages.all().iter().find(passed).map(text_of);
        wait::until(&format!("{direction:?} {summary}"), SOON, first)
    }

    /// Waits until all dialogs are over, and closes.
    ///
    /// # Panics
    /// When a dialog does not end, or something is held afterwards.
    pub async fn close(self) {
        wait::until("the end of all dialogs", SOON, || (self.endpoint.counts().dialogs == 0).then_some(()));
        soon("the end of its tasks", self.endpoint.clone().shutdown(Duration::ZERO)).await;
        assert_eq!(self.endpoint.counts(), Counts::default(), "left behind");
    }
}

#[allow(clippy::print_stderr)] // The one way to tell the reader of a failed test.
impl Drop for Us {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}:\n{}", self.endpoint.listeners(), self.messages.shown());
        }
    }
}

/// All that passed an endpoint.
#[derive(Default)]
struct Messages(Mutex<Vec<TraceRecord>>);

impl Messages {
    fn all(&self) -> MutexGuard<'_, Vec<TraceRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self) -> String {
        let mut shown = String::new();
        for record in self.all().iter() {
            let arrow = if record.direction == Direction::In { "<-" } else { "->" };
            for line in text_of(record).lines() {
                let _ = writeln!(shown, "{arrow} {line}");
            }
            shown.push('\n');
        }
        shown
    }
}

impl Observer for Messages {
    fn message(&self, record: &TraceRecord) {
        self.all().push(record.clone());
    }
}

fn text_of(record: &TraceRecord) -> String {
    String::from_utf8_lossy(&record.bytes).into_owned()
}

/// `INVITE` of a request, `200 to INVITE` of a response.
fn summary_of(record: &TraceRecord) -> String {
    let text = text_of(record);
    let mut words = text.split_whitespace();
    match words.next() {
        Some("SIP/2.0") => {
            let method = text.lines().find_map(|line| line.strip_prefix("CSeq:")?.split_whitespace().nth(1));
            format!("{} to {}", words.next().unwrap_or_default(), method.unwrap_or_default())
        }
        first => first.unwrap_or_default().to_owned(),
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

/// A MESSAGE that says `hello`.
pub fn hello(to: Uri) -> Request {
    let mut message = request(Method::Message, to);
    message.headers.push(iqra_sip::HeaderName::CONTENT_TYPE, "text/plain");
    message.body = "hello".into();
    message
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

/// Waits until the peer has hung up.
///
/// # Panics
/// When the call ends otherwise, or not in time.
pub async fn until_the_peer_hangs_up(call: &mut Call) {
    let reason = ended(call).await;
    assert!(matches!(reason, EndReason::Remote { .. }), "{reason:?}");
}

/// Sends a request in a call; its final status.
///
/// # Panics
/// When no answer comes in time.
pub async fn ask_in(call: &Call, method: Method, body: Option<Body>) -> StatusCode {
    soon("the answer", call.request(method, Headers::new(), body)).await.expect("answered").status
}

/// A re-INVITE or UPDATE is answered with a description, anything else with nothing.
pub fn agree(request: InDialogRequest) -> Method {
    let method = request.request().method.clone();
    let describes = matches!(method, Method::Invite | Method::Update) && !request.request().body.is_empty();
    // One that hung up meanwhile needs no answer.
    let _ = request.respond(Reply { body: describes.then(|| Body::sdp(SDP)), ..Reply::new(StatusCode::OK) });
    method
}

/// A digit as INFO carries it.
pub fn dtmf() -> Body {
    Body {
        content_type: String::from("application/dtmf-relay"),
        bytes: "Signal=5\r\nDuration=160\r\n".into(),
    }
}
