//! This project's endpoint as one end of a call with a real program: bound on loopback, driven by blocking calls.
//!
//! Every wait has a deadline, and a panic shows all messages that passed. An end is closed when its dialogs are over:
//! one that stays behind fails the test.

use std::fmt::{Debug, Display, Write as _};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use iqra_sip::auth::{Algorithm, Authenticator, AuthenticatorConfig, Secret};
use iqra_sip::event::{Body, OutgoingInvite, Reply};
use iqra_sip::message::NameAddr;
use iqra_sip::net::{
    Answer, Builder, Call, CallEvent, Counts, Endpoint, InDialogRequest, Incoming, IncomingInvite,
    IncomingOther, IncomingRequest, OutgoingCall, OutgoingEvent,
};
use iqra_sip::observe::{Direction, Observer, TraceRecord};
use iqra_sip::{EngineConfig, HeaderName, Headers, Method, Request, StatusCode, Transport, Uri};
use tokio::runtime::Runtime;

/// Any port of loopback.
pub const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// The user and the password that [`Registrar`] and the tests' peers share.
pub const ACCOUNT: (&str, &str) = ("phone", "open-sesame");

/// How long anything may take before a test fails.
const SOON: Duration = Duration::from_secs(15);

/// One bound endpoint with its runtime.
pub struct End {
    runtime: Runtime,
    endpoint: Endpoint,
    incoming: Incoming,
    messages: Arc<Messages>,
    /// Takes the audio of the peers, so that their packets find an open port. Nobody reads it.
    sink: UdpSocket,
}

impl End {
    /// Binds what the builder names.
    ///
    /// # Panics
    /// When it cannot be bound.
    pub fn bind(builder: Builder) -> Self {
        Self::bind_with(builder, EngineConfig::default())
    }

    /// The same with settings of the engine.
    ///
    /// # Panics
    /// As there.
    pub fn bind_with(builder: Builder, config: EngineConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads can be started");
        let messages: Arc<Messages> = Arc::default();
        let bound = runtime.block_on(builder.config(config).observe(messages.clone()).bind());
        let (endpoint, incoming) = bound.unwrap_or_else(|why| panic!("cannot bind: {why}"));
        let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        Self { runtime, endpoint, incoming, messages, sink }
    }

    /// One UDP socket.
    pub fn udp() -> Self {
        Self::bind(Endpoint::builder().udp(LOOPBACK))
    }

    /// The endpoint itself.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where it listens.
    ///
    /// # Panics
    /// When it has no listener of that transport.
    pub fn addr(&self, transport: Transport) -> SocketAddr {
        let listener = self.endpoint.listeners().iter().find(|listener| listener.transport == transport);
        listener.unwrap_or_else(|| panic!("no listener for {transport}")).addr
    }

    /// A URI that leads here.
    pub fn uri(&self, user: &str, transport: Transport) -> String {
        let addr = self.addr(transport);
        match transport {
            Transport::Udp => format!("sip:{user}@{addr}"),
            other => format!("sip:{user}@{addr};transport={}", other.to_string().to_ascii_lowercase()),
        }
    }

    /// Waits for a future.
    ///
    /// # Panics
    /// When it takes longer than anything may, naming `what` and showing the messages.
    pub fn wait<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        let waited = self.runtime.block_on(async { tokio::time::timeout(SOON, future).await });
        waited.unwrap_or_else(|_| panic!("{what} did not come within {SOON:?}\n{}", self.messages))
    }

    /// The next request outside a dialog.
    ///
    /// # Panics
    /// When none comes.
    pub fn request(&mut self) -> IncomingRequest {
        let next = self.runtime.block_on(async { tokio::time::timeout(SOON, self.incoming.next()).await });
        next.ok().flatten().unwrap_or_else(|| panic!("no request came within {SOON:?}\n{}", self.messages))
    }

    /// A request outside a dialog that has come already.
    pub fn waiting(&mut self) -> Option<IncomingRequest> {
        let now = async { tokio::time::timeout(Duration::ZERO, self.incoming.next()).await };
        self.runtime.block_on(now).ok().flatten()
    }

    /// The next INVITE; other requests on the way are answered as if nobody were interested.
    ///
    /// # Panics
    /// When none comes.
    pub fn invite(&mut self) -> IncomingInvite {
        loop {
            if let IncomingRequest::Invite(invite) = self.request() {
                return invite;
            }
        }
    }

    /// The next request that is no INVITE.
    ///
    /// # Panics
    /// When none comes, or an INVITE.
    pub fn other(&mut self) -> IncomingOther {
        match self.request() {
            IncomingRequest::Other(other) => other,
            IncomingRequest::Invite(invite) => panic!("an INVITE came: {invite:?}\n{}", self.messages),
        }
    }

    /// A session description that offers or answers G.711, with audio coming here.
    pub fn sdp(&self) -> String {
        let port = self.sink.local_addr().map_or(9, |addr| addr.port());
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=sendrecv\r\n"
        )
    }

    /// The body of [`sdp`](Self::sdp).
    pub fn session(&self) -> Body {
        Body::sdp(self.sdp())
    }

    /// Takes a call and waits for the ACK.
    ///
    /// # Panics
    /// When the ACK does not come.
    pub fn accept(&self, invite: IncomingInvite) -> Call {
        let accepted = self.wait("the call", invite.accept(Answer::sdp(self.sdp())));
        let mut call = self.ok(accepted);
        self.confirmed(&mut call);
        call
    }

    /// Waits for the ACK of a call that was taken.
    ///
    /// # Panics
    /// When something else comes.
    pub fn confirmed(&self, call: &mut Call) {
        match self.wait("the ACK", call.next()) {
            Some(CallEvent::Confirmed(_)) => {}
            other => panic!("no ACK but {other:?}\n{}", self.messages),
        }
    }

    /// The next request in a call.
    ///
    /// # Panics
    /// When something else comes, or another method.
    pub fn request_in(&self, call: &mut Call, method: &Method) -> InDialogRequest {
        match self.wait(method.as_str(), call.next()) {
            Some(CallEvent::Request(request)) if request.request().method == *method => request,
            other => panic!("no {method} but {other:?}\n{}", self.messages),
        }
    }

    /// Answers a request in a call with a session description.
    pub fn agree(&self, request: InDialogRequest) {
        request.respond(Reply { body: Some(self.session()), ..Reply::new(StatusCode::OK) });
    }

    /// Waits until the peer has hung up.
    ///
    /// # Panics
    /// When something else happens.
    pub fn ended(&self, mut call: Call) {
        let event = self.wait("the BYE", call.next());
        let by_peer = matches!(event, Some(CallEvent::Ended(iqra_sip::event::EndReason::Remote { .. })));
        assert!(by_peer, "no BYE but {event:?}\n{}", self.messages);
    }

    /// Hangs up, and waits until the peer has answered the BYE.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn hang_up(&self, call: Call) {
        let hung_up = self.wait("our BYE", call.hangup(Headers::new()));
        self.ok(hung_up);
        self.received("200 to BYE");
    }

    /// A call to a URI that names an address, with an offer.
    ///
    /// # Panics
    /// When the URI is none.
    pub fn to(&self, uri: &str) -> OutgoingInvite {
        let uri: Uri = uri.parse().unwrap_or_else(|why| panic!("{uri}: {why}"));
        OutgoingInvite {
            uri: uri.clone(),
            hops: Vec::new(),
            from: NameAddr::new("sip:iqra@voice.example".parse().expect("a URI")),
            to: NameAddr::new(uri),
            call_id: None,
            cseq: 1,
            headers: Headers::new(),
            body: Some(self.session()),
            options: Default::default(),
        }
    }

    /// Places a call.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn call(&self, invite: OutgoingInvite) -> OutgoingCall {
        let placed = self.wait("a way to the peer", self.endpoint.invite(invite));
        self.ok(placed)
    }

    /// Waits until a call of ours rings.
    ///
    /// # Panics
    /// When it ends before.
    pub fn ringing(&self, call: &mut OutgoingCall) {
        match self.wait("ringing", call.next()) {
            Some(OutgoingEvent::Provisional { .. }) => {}
            other => panic!("no ringing but {other:?}\n{}", self.messages),
        }
    }

    /// Waits for the end of a call's set-up: its answer, or why there is none.
    ///
    /// # Panics
    /// When there is none of both.
    pub fn outcome(&self, call: &mut OutgoingCall) -> OutgoingEvent {
        loop {
            match self.wait("an answer", call.next()) {
                Some(OutgoingEvent::Provisional { .. } | OutgoingEvent::Following { .. }) => {}
                Some(last) => return last,
                None => panic!("the call ended without an answer\n{}", self.messages),
            }
        }
    }

    /// Waits for the answer to a call of ours.
    ///
    /// # Panics
    /// When it is refused.
    pub fn answered(&self, mut call: OutgoingCall) -> Call {
        match self.outcome(&mut call) {
            OutgoingEvent::Answered(call, _) => call,
            other => panic!("not answered but {other:?}\n{}", self.messages),
        }
    }

    /// Sends a re-INVITE, INFO or the like in a call; its final status.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn ask_in(&self, call: &Call, method: Method, body: Option<Body>) -> StatusCode {
        let what = format!("the answer to our {method}");
        let answer = self.wait(&what, call.request(method, Headers::new(), body));
        self.ok(answer).status
    }

    /// Sends a request outside a dialog; its final status.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn ask(&self, method: Method, uri: &str) -> StatusCode {
        let mut request = Request::new(method, uri.parse().expect("a URI"));
        request.headers.push(HeaderName::FROM, "<sip:iqra@voice.example>");
        let answer = self.wait("an answer", self.endpoint.request(request, None));
        self.ok(answer).status
    }

    /// Waits until a message with this in its summary came in: `INVITE`, `200 to BYE`.
    ///
    /// # Panics
    /// When none does.
    pub fn received(&self, summary: &str) -> String {
        self.message(Direction::In, summary)
    }

    /// Waits until a message with this in its summary went out.
    ///
    /// # Panics
    /// When none does.
    pub fn sent(&self, summary: &str) -> String {
        self.message(Direction::Out, summary)
    }

    /// All messages so far, for panics.
    pub fn messages(&self) -> &impl Display {
        &*self.messages
    }

    /// How many messages of this summary went this way.
    pub fn count(&self, direction: Direction, summary: &str) -> usize {
        let all = self.messages.all();
        all.iter().filter(|message| message.is(direction, summary)).count()
    }

    /// Closes it.
    ///
    /// # Panics
    /// When a dialog does not end, or something is held afterwards.
    pub fn close(self) {
        crate::wait::until_ok("the end of all dialogs", SOON, || {
            let left = self.endpoint.counts().dialogs == 0;
            left.then_some(()).ok_or_else(|| Shown(self.messages.to_string()))
        });
        self.wait("the end of its tasks", self.endpoint.clone().shutdown(Duration::ZERO));
        assert_eq!(self.endpoint.counts(), Counts::default(), "left behind\n{}", self.messages);
    }

    /// Its value.
    ///
    /// # Panics
    /// With all messages when there is none.
    pub fn ok<T, E: Debug>(&self, result: Result<T, E>) -> T {
        result.unwrap_or_else(|why| panic!("{why:?}\n{}", self.messages))
    }

    fn message(&self, direction: Direction, summary: &str) -> String {
        let what = format!("{direction:?} {summary}");
        crate::wait::until_ok(&what, SOON, || {
            let found = self.messages.all().iter().find(|message| message.is(direction, summary)).cloned();
            found.map(|message| message.text).ok_or_else(|| Shown(self.messages.to_string()))
        })
    }
}

/// As text in a panic, line breaks and all.
struct Shown(String);

impl Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\n{}", self.0)
    }
}

/// A registrar of one account that asks for Digest.
pub struct Registrar {
    auth: Authenticator,
}

impl Registrar {
    /// Asks with this algorithm.
    pub fn new(algorithm: Algorithm) -> Self {
        let config =
            AuthenticatorConfig { algorithms: vec![algorithm], ..AuthenticatorConfig::new("voice.example") };
        Self { auth: Authenticator::new(config, [7; 32]) }
    }

    /// Whether the request proves its account; else what to answer.
    ///
    /// # Errors
    /// The challenge.
    pub fn check(&mut self, request: &Request) -> Result<(), Box<Reply>> {
        let accounts = |user: &str, _: &str| (user == ACCOUNT.0).then(|| Secret::password(ACCOUNT.1));
        let checked = self.auth.check(SystemTime::now(), request, &accounts);
        checked.map(drop).map_err(|denied| Box::new(denied.reply))
    }

    /// Challenges requests until one proves its account, and leaves that one to be answered.
    ///
    /// # Panics
    /// When none does within three.
    pub fn admit(&mut self, end: &mut End) -> IncomingRequest {
        for _ in 0..3 {
            let request = end.request();
            let head = match &request {
                IncomingRequest::Invite(invite) => invite.request(),
                IncomingRequest::Other(other) => other.request(),
            };
            match (self.check(head), request) {
                (Ok(()), request) => return request,
                (Err(reply), IncomingRequest::Invite(invite)) => drop(invite.reject(*reply)),
                (Err(reply), IncomingRequest::Other(other)) => other.respond(*reply),
            }
        }
        panic!("no request proved its account\n{}", end.messages)
    }

    /// Takes one registration, or its end, of a phone that is asked for its password.
    ///
    /// # Panics
    /// When it does not come.
    pub fn register(&mut self, end: &mut End) -> Request {
        let IncomingRequest::Other(other) = self.admit(end) else { panic!("no REGISTER\n{}", end.messages) };
        let request = other.request().clone();
        assert_eq!(request.method, Method::Register, "{}", end.messages);
        let contact = request.headers.get(HeaderName::CONTACT).unwrap_or_default().into_owned();
        let leaves = request.headers.get(HeaderName::EXPIRES).as_deref() == Some("0");
        let bound = match contact.contains("expires=") {
            true => contact,
            false => format!("{contact};expires=600"),
        };
        let granted = Reply::new(StatusCode::OK);
        other.respond(if leaves { granted } else { granted.header(HeaderName::CONTACT, bound) });
        request
    }
}

/// What passed an end.
#[derive(Default)]
struct Messages(Mutex<Vec<Passed>>);

#[derive(Clone)]
struct Passed {
    direction: Direction,
    summary: String,
    text: String,
}

impl Passed {
    fn is(&self, direction: Direction, summary: &str) -> bool {
        self.direction == direction && self.summary == summary
    }
}

impl Messages {
    fn all(&self) -> MutexGuard<'_, Vec<Passed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Messages {
    fn message(&self, record: &TraceRecord) {
        let text = String::from_utf8_lossy(&record.bytes).into_owned();
        let summary = summary(&text);
        self.all().push(Passed { direction: record.direction, summary, text });
    }
}

/// `INVITE` of a request, `200 to INVITE` of a response.
fn summary(text: &str) -> String {
    let mut words = text.split_whitespace();
    match words.next() {
        Some("SIP/2.0") => {
            let method = text.lines().find_map(|line| line.strip_prefix("CSeq:")?.split_whitespace().nth(1));
            format!("{} to {}", words.next().unwrap_or_default(), method.unwrap_or_default())
        }
        first => first.unwrap_or_default().to_owned(),
    }
}

impl Display for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for Passed { direction, text, .. } in self.all().iter() {
            let arrow = if *direction == Direction::In { "<-" } else { "->" };
            text.lines().try_for_each(|line| writeln!(f, "{arrow} {line}"))?;
            f.write_char('\n')?;
        }
        Ok(())
    }
}
