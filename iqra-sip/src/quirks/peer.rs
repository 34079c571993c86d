//! A caller that behaves as its profile says: a test double, without sockets and without a clock.
//!
//! In go the program's commands and the octets of whoever is under test, out come octets with the addresses they travel
//! between ([`Peer::poll`]). It repeats nothing that was lost, so the way to it must lose nothing. What a profile leaves
//! unknown is played as RFC 3261 asks of a plain caller; redirects, which the RFC leaves free, are not followed.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;

use super::message::{Parts, print};
use super::{Profile, yes};
use crate::engine::flow::Transport;
use crate::engine::nat::is_private;
use crate::message::header::{self, To, Via};
use crate::message::{Host, Message, Request, Response, StatusCode, Uri};
use crate::observe::Outline;
use crate::{HeaderName, Method};

/// Most redirects that one call follows, so that two servers cannot send it round.
const MAX_REDIRECTS: u32 = 5;

/// Between which sockets a call runs, as they are seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The peer's own.
    pub own: SocketAddr,
    /// The peer's second one: of its other proxy, or for a second try.
    pub other: SocketAddr,
    /// Whom it calls.
    pub target: SocketAddr,
}

/// A message that the peer sends. Its `Debug` shows the kind and the size of the message, nothing that it says.
#[derive(Clone, PartialEq, Eq)]
pub struct Sent {
    /// From this socket of the peer.
    pub from: SocketAddr,
    /// To this one.
    pub to: SocketAddr,
    /// The octets.
    pub bytes: Bytes,
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sent({} to {} {:?})", self.from, self.to, Outline(&self.bytes))
    }
}

/// How far the call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallState {
    /// None was placed.
    Idle,
    /// The INVITE is out.
    Calling,
    /// A provisional response above 100 came.
    Ringing,
    /// A 2xx came and was acknowledged.
    Answered,
    /// It ended after it was answered.
    Ended,
    /// It ended with this status, and no further try is made.
    Failed(StatusCode),
}

/// An INVITE that waits for its final response.
struct Attempt {
    from: SocketAddr,
    vias: Vec<String>,
}

/// The caller. One call at a time.
pub struct Peer {
    profile: Profile,
    at: Addresses,
    custom: String,
    out: VecDeque<Sent>,
    state: CallState,
    serial: u32,
    call_id: String,
    cseq: u32,
    /// The Request-URI of the INVITE, later the callee's Contact.
    uri: String,
    to: String,
    attempts: Vec<Attempt>,
    redirects: u32,
    retried: bool,
    merged: u32,
    pongs: u32,
}

impl Peer {
    /// A caller of this profile.
    #[must_use]
    pub fn new(profile: Profile, at: Addresses) -> Self {
        Self {
            profile,
            at,
            custom: String::new(),
            out: VecDeque::new(),
            state: CallState::Idle,
            serial: 0,
            call_id: String::new(),
            cseq: 0,
            uri: String::new(),
            to: String::new(),
            attempts: Vec::new(),
            redirects: 0,
            retried: false,
            merged: 0,
            pongs: 0,
        }
    }

    /// Asks it to carry a header in its INVITEs. False where it does not: the profile knows better, or the budget is
    /// spent.
    pub fn add_header(&mut self, name: &str, value: &str) -> bool {
        let line = format!("{name}: {value}\r\n");
        let room = self.profile.header_budget.map_or(usize::MAX, |fact| fact.value as usize);
        let carried = self.profile.carries(name) != Some(false) && self.custom.len() + line.len() <= room;
        if carried {
            self.custom.push_str(&line);
        }
        carried
    }

    /// The transport it uses.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.profile.transport.map_or(Transport::Udp, |fact| fact.value)
    }

    /// How far the call is.
    #[must_use]
    pub fn state(&self) -> CallState {
        self.state
    }

    /// How many copies of the INVITE were answered 482 while another went on.
    #[must_use]
    pub fn merged(&self) -> u32 {
        self.merged
    }

    /// How many of its OPTIONS were answered 2xx.
    #[must_use]
    pub fn pongs(&self) -> u32 {
        self.pongs
    }

    /// The next message to deliver.
    pub fn poll(&mut self) -> Option<Sent> {
        self.out.pop_front()
    }

    /// Places a call; one that it had is forgotten.
    pub fn call(&mut self, uri: &Uri) {
        self.serial += 1;
        self.call_id = format!("call{}@peer.example", self.serial);
        (self.cseq, self.redirects, self.retried, self.merged) = (0, 0, false, 0);
        self.to = self.profile.to(uri);
        self.attempts.clear();
        self.invite(uri, self.at.own);
        if yes(self.profile.repeats_invite) {
            self.send_invite(self.at.other);
        }
    }

    /// Nobody answers its INVITE: it tries again, or gives up.
    pub fn give_up_waiting(&mut self) {
        if matches!(self.state, CallState::Calling | CallState::Ringing) {
            let again = yes(self.profile.retries_silence);
            self.attempts.clear();
            self.retry_or_fail(again, StatusCode::REQUEST_TIMEOUT);
        }
    }

    /// Takes back an INVITE that has no final response.
    pub fn cancel(&mut self) {
        let elsewhere = yes(self.profile.cancels_elsewhere);
        let extra = self.profile.reason_line();
        for attempt in &self.attempts {
            let bytes = self.print("CANCEL", self.cseq, attempt.vias.clone(), &self.to, extra, "");
            let from = if elsewhere { self.at.other } else { attempt.from };
            self.out.push_back(Sent { from, to: self.at.target, bytes });
        }
    }

    /// Hangs up an answered call.
    pub fn hang_up(&mut self) {
        if self.state == CallState::Answered {
            self.cseq += 1;
            let extra = self.profile.reason_line();
            self.send_in_dialog("BYE", extra, "");
        }
    }

    /// Asks whether the other side is there.
    pub fn ping(&mut self) {
        self.serial += 1;
        let vias = vec![self.via(self.at.own)];
        let (uri, tag) = (format!("sip:{}", self.at.target), self.tag());
        let parts = Parts {
            method: "OPTIONS",
            uri: &uri,
            vias,
            from_tag: &tag,
            to: format!("<{uri}>"),
            call_id: &format!("ping{}@peer.example", self.serial),
            cseq: 1,
            extra: String::new(),
            body: "",
        };
        self.out.push_back(Sent { from: self.at.own, to: self.at.target, bytes: print(&parts) });
    }

    /// Takes a message that was sent to one of its addresses. What cannot be read is dropped.
    pub fn handle(&mut self, bytes: &Bytes) {
        match Message::parse(bytes.clone()) {
            Ok(Message::Request(request)) => self.on_request(&request),
            Ok(Message::Response(response)) => self.on_response(&response),
            Err(_) => {}
        }
    }

    fn on_request(&mut self, request: &Request) {
        if request.method == Method::Ack {
            return;
        }
        let status = if self.knows(request) { StatusCode::OK } else { StatusCode::CALL_DOES_NOT_EXIST };
        if status == StatusCode::OK && request.method == Method::Bye {
            self.state = CallState::Ended;
        }
        let mut response = Response::to_request(request, status);
        if status == StatusCode::OK && request.method == Method::Invite {
            response.headers.push(HeaderName::CONTACT, format!("<sip:peer@{}>", self.at.own));
            response.headers.push(HeaderName::CONTENT_TYPE, "application/sdp");
            response.body = Bytes::from(self.profile.session(self.at.own));
        }
        self.out.push_back(Sent { from: self.at.own, to: self.at.target, bytes: response.to_bytes() });
    }

    fn knows(&self, request: &Request) -> bool {
        let call = request.headers.get(HeaderName::CALL_ID).is_some_and(|id| id == self.call_id.as_str());
        call && self.profile.is_reached_by(request)
    }

    fn on_response(&mut self, response: &Response) {
        let Ok(cseq) = response.headers.typed::<header::CSeq>() else { return };
        match cseq.method {
            Method::Invite => self.on_invite_response(response),
            Method::Bye if response.status.is_final() => self.state = CallState::Ended,
            Method::Options if response.status.is_success() => self.pongs += 1,
            _ => {}
        }
    }

    fn on_invite_response(&mut self, response: &Response) {
        let Ok(via) = response.headers.typed::<Via>() else { return };
        let branch = via.branch().unwrap_or_default().into_owned();
        let mine = |attempt: &Attempt| attempt.vias[0].ends_with(&format!("branch={branch}"));
        let Some(index) = self.attempts.iter().position(mine) else { return };
        if response.status.is_provisional() {
            if response.status != StatusCode::TRYING {
                self.state = CallState::Ringing;
            }
            return;
        }
        let attempt = self.attempts.remove(index);
        if response.status.is_success() {
            return self.on_answer(response);
        }
        let to = response.headers.get(HeaderName::TO).unwrap_or_default().into_owned();
        let bytes = self.print("ACK", self.cseq, attempt.vias, &to, "", "");
        self.out.push_back(Sent { from: attempt.from, to: self.at.target, bytes });
        self.on_refusal(response);
    }

    fn on_answer(&mut self, response: &Response) {
        self.state = CallState::Answered;
        if let Ok(to) = response.headers.typed::<To>() {
            self.to = format!("{};tag={}", self.to, to.0.tag().unwrap_or_default());
        }
        if let Some(contact) = contact(response) {
            self.uri = contact.as_str().to_owned();
        }
        let answer =
            if yes(self.profile.late_offer) { self.profile.session(self.at.own) } else { String::new() };
        self.send_in_dialog("ACK", "", &answer);
    }

    fn on_refusal(&mut self, response: &Response) {
        let status = response.status;
        let others = !self.attempts.is_empty() || self.state == CallState::Answered;
        if others && status == StatusCode::LOOP_DETECTED {
            self.merged += 1;
        } else if status.is_redirect() {
            self.on_redirect(response);
        } else if !others {
            let again = self.profile.retry_statuses.is_some_and(|fact| fact.value.contains(&status.code()));
            self.retry_or_fail(again, status);
        }
    }

    fn on_redirect(&mut self, response: &Response) {
        let target = contact(response).filter(|uri| {
            let public = !matches!(uri.target_host(), Some(Host::Ip(ip)) if is_private(ip));
            self.profile.follows_redirects(public) == Some(true) && self.redirects < MAX_REDIRECTS
        });
        let Some(uri) = target else {
            self.state = CallState::Failed(response.status);
            return;
        };
        self.redirects += 1;
        if let Some(addr) = uri.socket_addr(self.transport().default_port()) {
            self.at.target = addr;
        }
        self.invite(&uri, self.at.own);
    }

    /// Tries once more, from its other address where it has several, or fails.
    fn retry_or_fail(&mut self, again: bool, status: StatusCode) {
        if !again || self.retried {
            self.state = CallState::Failed(status);
            return;
        }
        self.retried = true;
        self.cseq += 1;
        if !yes(self.profile.keeps_call_id) {
            self.call_id = format!("again-{}", self.call_id);
        }
        let other = yes(self.profile.several_addresses);
        self.send_invite(if other { self.at.other } else { self.at.own });
    }

    fn invite(&mut self, uri: &Uri, from: SocketAddr) {
        self.cseq += 1;
        self.uri = self.profile.request_uri(uri);
        self.send_invite(from);
    }

    /// Sends the INVITE by the proxy at `from`.
    fn send_invite(&mut self, from: SocketAddr) {
        self.state = CallState::Calling;
        let mut vias = vec![self.via(from)];
        if yes(self.profile.repeats_invite) {
            vias.push(format!("SIP/2.0/UDP gateway.peer.example;branch=z9hG4bKg{}", self.cseq));
        }
        let transport = self.transport().as_param();
        let contact = self.profile.contact_lines(self.at.own, transport);
        let extra = format!("{contact}{}{}", self.profile.timer_lines(), self.custom);
        let offer =
            if yes(self.profile.late_offer) { String::new() } else { self.profile.session(self.at.own) };
        let bytes = self.print("INVITE", self.cseq, vias.clone(), &self.to, &extra, &offer);
        self.attempts.push(Attempt { from, vias });
        self.out.push_back(Sent { from, to: self.at.target, bytes });
    }

    fn send_in_dialog(&mut self, method: &str, extra: &str, body: &str) {
        let vias = vec![self.via(self.at.own)];
        let bytes = self.print(method, self.cseq, vias, &self.to, extra, body);
        self.out.push_back(Sent { from: self.at.own, to: self.at.target, bytes });
    }

    fn print(&self, method: &str, cseq: u32, vias: Vec<String>, to: &str, extra: &str, body: &str) -> Bytes {
        let (uri, from_tag, to, extra) = (&self.uri, &self.tag(), to.to_owned(), extra.to_owned());
        print(&Parts { method, uri, vias, from_tag, to, call_id: &self.call_id, cseq, extra, body })
    }

    /// A Via of its own with a new branch.
    fn via(&mut self, from: SocketAddr) -> String {
        self.serial += 1;
        format!("SIP/2.0/{} {from};rport;branch=z9hG4bKq{}", self.transport(), self.serial)
    }

    /// The From tag: one for each call.
    fn tag(&self) -> String {
        format!("f-{}", self.call_id.split('@').next().unwrap_or_default())
    }
}

/// The first Contact of a response.
fn contact(response: &Response) -> Option<Uri> {
    let contact = response.headers.typed::<header::Contact>().ok()?;
    contact.address().map(|address| address.uri.clone())
}
