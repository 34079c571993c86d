//! A caller on a bare UDP socket: what it sends is written here, so that a test can also send what no client should.

use std::net::{SocketAddr, UdpSocket as Rtp};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use iqra_media::codec::Registry;
use iqra_media::conversation::{self, ConversationSink, Direction, Formats};
use iqra_media::net::{Leg, MediaDriver};
use iqra_media::sdp::{self, Capabilities};
use iqra_sip::message::header::Contact;
use iqra_sip::{HeaderName, Message, Method, Request, Response, Uri};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::world::{AGENT_HZ, Acts, CALLER_HZ, Note, PATIENCE, Talk, media_config};

static LAST: AtomicU32 = AtomicU32::new(0);

/// What the test numbers are called by.
pub(crate) const DESK: &str = "X-Business-Id=7;X-Phone-Id=desk";

pub(crate) struct Phone {
    socket: UdpSocket,
    rtp: Rtp,
    pub call_id: String,
    pub tag: String,
    pub cseq: u32,
    /// Of the newest INVITE.
    pub branch: String,
    to: String,
    /// The Route headers of the dialog.
    routes: String,
    /// Where the newest INVITE went.
    pub target: (SocketAddr, String),
    /// Body and its type of the next INVITE.
    pub body: (String, &'static str),
}

impl Phone {
    pub(crate) async fn new() -> Self {
        let n = LAST.fetch_add(1, Ordering::Relaxed);
        let rtp = Rtp::bind("127.0.0.1:0").unwrap();
        let body = (sdp_of(rtp.local_addr().unwrap(), "sendrecv", 0), "application/sdp");
        Self {
            socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            rtp,
            call_id: format!("call-{n}"),
            tag: format!("tag-{n}"),
            cseq: 0,
            branch: String::new(),
            to: "<sip:1000@example.org>".into(),
            routes: String::new(),
            target: ("127.0.0.1:9".parse().unwrap(), String::new()),
            body,
        }
    }

    /// The same caller as seen by Call-ID and tag, on another socket.
    pub(crate) async fn twin(&self) -> Self {
        let mut twin = Self::new().await;
        (twin.call_id, twin.tag, twin.cseq) = (self.call_id.clone(), self.tag.clone(), self.cseq);
        twin
    }

    pub(crate) fn sdp(&self, direction: &str) -> String {
        sdp_of(self.rtp.local_addr().unwrap(), direction, 1)
    }

    fn text(&self, method: &str, uri: &str, branch: &str, body: &str) -> String {
        let me = self.socket.local_addr().unwrap();
        let Self { call_id, tag, cseq, to, routes, .. } = self;
        let kind = if body.is_empty() { String::new() } else { format!("Content-Type: {}\r\n", self.body.1) };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch={branch};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:ann@{me}>;tag={tag}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:ann@{me}>\r\n{routes}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    async fn send(&self, text: &str) {
        self.socket.send_to(text.as_bytes(), self.target.0).await.unwrap();
    }

    /// INVITE with the next CSeq.
    pub(crate) async fn invite(&mut self, to: SocketAddr, uri: String) {
        self.cseq += 1;
        self.branch = format!("z9hG4bK-{}", LAST.fetch_add(1, Ordering::Relaxed));
        self.target = (to, uri);
        self.repeat().await;
    }

    /// The newest INVITE once more, octet for octet.
    pub(crate) async fn repeat(&self) {
        self.send(&self.text("INVITE", &self.target.1, &self.branch, &self.body.0)).await;
    }

    pub(crate) async fn call(&mut self, proxy: SocketAddr) {
        self.invite(proxy, format!("sip:1000@{proxy};{DESK}")).await;
    }

    pub(crate) async fn follow(&mut self, contact: &Uri) {
        self.invite(contact.socket_addr(5060).unwrap(), contact.to_string()).await;
    }

    pub(crate) async fn cancel(&self) {
        self.send(&self.text("CANCEL", &self.target.1, &self.branch, "")).await;
    }

    pub(crate) async fn message(&self) -> Message {
        let mut octets = vec![0; 65_536];
        let received = tokio::time::timeout(PATIENCE, self.socket.recv_from(&mut octets)).await;
        let (length, _) = received.expect("a message in time").unwrap();
        Message::parse(Bytes::copy_from_slice(&octets[..length])).unwrap()
    }

    /// The next response to this CSeq that is at least `least`.
    pub(crate) async fn response(&self, method: &Method, least: u16) -> Response {
        let wanted = format!("{} {method}", self.cseq);
        loop {
            let Message::Response(response) = self.message().await else { continue };
            let mine = response.headers.get(HeaderName::CSEQ).as_deref() == Some(&*wanted);
            if mine && response.status.code() >= least {
                return response;
            }
        }
    }

    /// The final answer to the newest INVITE; acknowledged unless it is a 2xx.
    pub(crate) async fn answer(&mut self) -> Response {
        let response = self.response(&Method::Invite, 200).await;
        if !response.status.is_success() {
            let to = std::mem::replace(&mut self.to, response.headers.get(HeaderName::TO).unwrap().into());
            self.send(&self.text("ACK", &self.target.1, &self.branch, "")).await;
            self.to = to;
        }
        response
    }

    /// Calls the proxy and gives the Contacts of its 302.
    pub(crate) async fn redirected(&mut self, proxy: SocketAddr) -> Vec<Uri> {
        self.call(proxy).await;
        let response = self.answer().await;
        assert_eq!(response.status.code(), 302, "{response:?}");
        contacts(&response)
    }

    /// Acknowledges a 2xx; from here on in the dialog.
    pub(crate) async fn confirm(&mut self, ok: &Response, body: &str) {
        self.to = ok.headers.get(HeaderName::TO).unwrap().into();
        self.target.1 = contacts(ok)[0].to_string();
        let recorded: Vec<_> = ok.headers.all(HeaderName::RECORD_ROUTE).collect();
        self.routes = recorded.iter().rev().map(|route| format!("Route: {route}\r\n")).collect();
        self.send(&self.text("ACK", &self.target.1, &format!("{}-ack", self.branch), body)).await;
    }

    /// Calls a proxy that relays until the call is up; the 200.
    pub(crate) async fn connected_through(&mut self, proxy: SocketAddr) -> Response {
        self.call(proxy).await;
        let ok = self.answer().await;
        assert_eq!(ok.status.code(), 200, "{ok:?}");
        self.confirm(&ok, "").await;
        ok
    }

    /// Calls through both tiers until the call is up; the 200.
    pub(crate) async fn connected(&mut self, proxy: SocketAddr) -> Response {
        let offered = self.redirected(proxy).await;
        self.follow(&offered[0]).await;
        let ok = self.answer().await;
        assert_eq!(ok.status.code(), 200, "{ok:?}");
        self.confirm(&ok, "").await;
        ok
    }

    /// A re-INVITE; its final answer, acknowledged with `ack`.
    pub(crate) async fn reinvite(&mut self, body: String, ack: &str) -> Response {
        self.body.0 = body;
        let (to, uri) = self.target.clone();
        self.invite(to, uri).await;
        let answer = self.answer().await;
        if answer.status.is_success() {
            self.confirm(&answer, ack).await;
        }
        answer
    }

    pub(crate) async fn bye(&mut self) {
        self.cseq += 1;
        self.send(&self.text("BYE", &self.target.1, &format!("{}-bye", self.branch), "")).await;
        assert_eq!(self.response(&Method::Bye, 200).await.status.code(), 200);
    }

    /// An INFO with this body; its answer.
    pub(crate) async fn info(&mut self, kind: &'static str, body: &str) -> Response {
        self.cseq += 1;
        self.body.1 = kind;
        let branch = format!("z9hG4bK-{}", LAST.fetch_add(1, Ordering::Relaxed));
        self.send(&self.text("INFO", &self.target.1, &branch, body)).await;
        self.response(&Method::Info, 200).await
    }

    pub(crate) async fn options(&mut self, to: SocketAddr) -> Response {
        self.cseq += 1;
        self.target = (to, format!("sip:{to}"));
        let branch = format!("z9hG4bK-{}", LAST.fetch_add(1, Ordering::Relaxed));
        self.send(&self.text("OPTIONS", &self.target.1, &branch, "")).await;
        self.response(&Method::Options, 200).await
    }

    /// Waits for their BYE, answers it and gives it.
    pub(crate) async fn hung_up(&self) -> Request {
        loop {
            let Message::Request(request) = self.message().await else { continue };
            if request.method == Method::Bye {
                let ok = Response::to_request(&request, iqra_sip::StatusCode::OK);
                self.socket.send_to(&ok.to_bytes(), self.target.0).await.unwrap();
                return request;
            }
        }
    }

    /// Whether nothing comes for so long.
    pub(crate) async fn hears_nothing(&self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.socket.recv_from(&mut [0; 8])).await.is_err()
    }
}

pub(crate) fn contacts(response: &Response) -> Vec<Uri> {
    let all = response.headers.typed_all::<Contact>().map(Result::unwrap);
    all.filter_map(|contact| contact.address().map(|address| address.uri.clone())).collect()
}

/// RTCP shares the port: the one above may be anybody's here.
fn sdp_of(rtp: SocketAddr, direction: &str, version: u32) -> String {
    format!(
        "v=0\r\no=- 1 {version} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio {} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=rtcp-mux\r\na={direction}\r\n",
        rtp.port()
    )
}

/// The media of a phone that really speaks: hums its note and tells when it hears the agent's.
pub(crate) struct Voice {
    driver: MediaDriver,
    port: Option<iqra_media::net::MediaPort>,
    capabilities: Capabilities,
    leg: Option<Leg>,
}

impl Voice {
    pub(crate) fn driver() -> MediaDriver {
        MediaDriver::start(media_config()).unwrap()
    }

    pub(crate) fn new(driver: &MediaDriver) -> Self {
        let port = driver.reserve(Direction::Outbound).unwrap();
        let specs = Registry::default().specs();
        let capabilities = Capabilities::new(specs, [127, 0, 0, 1].into(), port.local_addr().port(), 1);
        Self { driver: driver.clone(), port: Some(port), capabilities, leg: None }
    }

    pub(crate) fn offer(&self) -> String {
        sdp::offer(&self.capabilities)
    }

    /// The answer to an offer of theirs.
    pub(crate) fn answer(&self, offer: &[u8]) -> String {
        sdp::answer(offer, &self.capabilities).unwrap().local()
    }

    /// Speaks as their SDP says, until the tone of the agent is heard.
    pub(crate) async fn hears_the_agent(&mut self, answer: &[u8]) {
        let negotiated = sdp::accept_answer(&self.capabilities, &self.offer(), answer).unwrap().negotiated;
        let (notes, mut noted) = mpsc::unbounded_channel();
        let talk = Box::new(Talk { acts: Acts::Hums, notes, hz: (CALLER_HZ, AGENT_HZ) });
        let formats: Formats = talk.formats(&negotiated);
        let port = self.port.take().unwrap();
        let (line, leg) = self.driver.open(port, negotiated, formats).unwrap();
        tokio::spawn(conversation::run(talk, line));
        self.leg = Some(leg);
        let heard = tokio::time::timeout(PATIENCE, noted.recv()).await.expect("the tone in time");
        assert_eq!(heard, Some(Note::HeardTone));
    }
}
