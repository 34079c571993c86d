//! A callee that behaves as its profile says: the other role of the test double, driven like [`Peer`](super::Peer).
//!
//! In go the octets of whoever calls it and the program's commands (ring, answer, refuse, redirect, refresh, hang up), out
//! come octets with the addresses they travel between. It has no clock and repeats nothing that was lost. What a profile
//! leaves unknown is played as RFC 3261 asks of a plain callee; without a fact on session timers it takes no part in them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::message::{Parts, print};
use super::peer::{Addresses, Sent};
use super::{Profile, SessionTimer};
use crate::engine::flow::Transport;
use crate::message::header::{CSeq, Contact, MinSe, SessionExpires};
use crate::message::{Message, Request, Response, StatusCode, Uri};
use crate::{HeaderName, Method};

/// How far the call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalleeState {
    /// None came.
    Idle,
    /// An INVITE waits for an answer.
    Called,
    /// It was told that it rings.
    Ringing,
    /// The 2xx is out and waits for its ACK.
    Accepted,
    /// The ACK came.
    Answered,
    /// It ended after it was answered.
    Ended,
    /// It was refused, redirected or given up with this status.
    Refused(StatusCode),
}

/// The callee. One call at a time; what comes for another is answered 481.
pub struct Callee {
    profile: Profile,
    at: Addresses,
    out: VecDeque<Sent>,
    state: CalleeState,
    serial: u32,
    /// The INVITE that made the call.
    invite: Option<Request>,
    /// The newest answer to it.
    answer: Option<Bytes>,
    cseq: u32,
    /// The Via of a re-INVITE of its own, and the seconds that it asks for.
    refreshing: Option<String>,
    interval: Option<u32>,
    refreshes: u32,
}

impl Callee {
    /// A callee of this profile; `target` is who calls it.
    #[must_use]
    pub fn new(profile: Profile, at: Addresses) -> Self {
        Self {
            profile,
            at,
            out: VecDeque::new(),
            state: CalleeState::Idle,
            serial: 0,
            invite: None,
            answer: None,
            cseq: 0,
            refreshing: None,
            interval: None,
            refreshes: 0,
        }
    }

    /// The transport it uses.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.profile.transport.map_or(Transport::Udp, |fact| fact.value)
    }

    /// How far the call is.
    #[must_use]
    pub fn state(&self) -> CalleeState {
        self.state
    }

    /// The session interval that was agreed on, in seconds.
    #[must_use]
    pub fn interval(&self) -> Option<u32> {
        self.interval
    }

    /// How many of its refreshes were answered 2xx.
    #[must_use]
    pub fn refreshes(&self) -> u32 {
        self.refreshes
    }

    /// The next message to deliver.
    pub fn poll(&mut self) -> Option<Sent> {
        self.out.pop_front()
    }

    /// Says that it rings.
    pub fn ring(&mut self) {
        if self.is_waiting() {
            self.state = CalleeState::Ringing;
            let contact = self.profile.contact_lines(self.at.own, self.transport().as_param());
            self.reply(StatusCode::RINGING, &contact, "");
        }
    }

    /// Takes the call, with an answer to its offer or an offer where it had none.
    pub fn answer(&mut self) {
        if self.is_waiting() {
            self.state = CalleeState::Accepted;
            let contact = self.profile.contact_lines(self.at.own, self.transport().as_param());
            let session = self.profile.session(self.at.own);
            let timer = self.grant();
            self.reply(StatusCode::OK, &format!("{contact}{timer}"), &session);
        }
    }

    /// Refuses the call with a status of 300 or more.
    pub fn refuse(&mut self, status: StatusCode) {
        self.refuse_with(status, "");
    }

    /// Sends the caller elsewhere (302).
    pub fn redirect(&mut self, to: &Uri) {
        self.refuse_with(StatusCode::MOVED_TEMPORARILY, &format!("Contact: <{to}>\r\n"));
    }

    /// Refreshes the session by a re-INVITE, as its timer would have it.
    pub fn refresh(&mut self) {
        if self.state == CalleeState::Answered {
            let contact = self.profile.contact_lines(self.at.own, self.transport().as_param());
            let timer = self
                .interval
                .map(|seconds| format!("Supported: timer\r\nSession-Expires: {seconds};refresher=uac\r\n"));
            let session = self.profile.session(self.at.own);
            let extra = format!("{contact}{}", timer.unwrap_or_default());
            self.refreshing = Some(self.send("INVITE", &extra, &session));
        }
    }

    /// Hangs up an answered call.
    pub fn hang_up(&mut self) {
        if self.state == CalleeState::Answered {
            let reason = self.profile.reason_line();
            self.send("BYE", reason, "");
        }
    }

    /// Takes a message that was sent to one of its addresses. What cannot be read is dropped.
    pub fn handle(&mut self, bytes: &Bytes) {
        match Message::parse(bytes.clone()) {
            Ok(Message::Request(request)) => self.on_request(request),
            Ok(Message::Response(response)) => self.on_response(&response),
            Err(_) => {}
        }
    }

    fn is_waiting(&self) -> bool {
        matches!(self.state, CalleeState::Called | CalleeState::Ringing)
    }

    fn on_request(&mut self, request: Request) {
        let known = self.invite.as_ref().is_some_and(|invite| is_same(invite, &request, HeaderName::CALL_ID));
        let repeat = self.invite.as_ref().is_some_and(|invite| is_same(invite, &request, HeaderName::CSEQ));
        match request.method {
            Method::Invite if known && repeat => self.repeat(),
            Method::Invite if !is_within(&request) => self.on_invite(request),
            Method::Ack if self.state == CalleeState::Accepted => self.state = CalleeState::Answered,
            Method::Ack => {}
            Method::Cancel if known => self.on_cancel(&request),
            Method::Options if !is_within(&request) => self.send_response(&request, StatusCode::OK, "", ""),
            _ if known && self.profile.is_reached_by(&request) => self.on_request_within(&request),
            _ => self.send_response(&request, StatusCode::CALL_DOES_NOT_EXIST, "", ""),
        }
    }

    /// A new call takes the place of one that is over; while one goes on the line is busy.
    fn on_invite(&mut self, request: Request) {
        let busy = !matches!(self.state, CalleeState::Idle | CalleeState::Ended | CalleeState::Refused(_));
        if busy {
            return self.send_response(&request, StatusCode::BUSY_HERE, "", "");
        }
        let minimum = match self.profile.session_timer.map(|fact| fact.value) {
            Some(SessionTimer::Asked { minimum, .. }) => minimum,
            _ => 0,
        };
        (self.cseq, self.interval, self.refreshing) = (0, None, None);
        let asked = request.headers.typed::<SessionExpires>().ok();
        self.state = CalleeState::Called;
        self.invite = Some(request);
        if asked.is_some_and(|asked| asked.seconds < minimum) {
            let line = format!("Min-SE: {minimum}\r\n");
            self.refuse_with(StatusCode::SESSION_INTERVAL_TOO_SMALL, &line);
        }
    }

    /// RFC 3261 §9.2.
    fn on_cancel(&mut self, cancel: &Request) {
        self.send_response(cancel, StatusCode::OK, "", "");
        self.refuse(StatusCode::REQUEST_TERMINATED);
    }

    fn on_request_within(&mut self, request: &Request) {
        let session = match request.method {
            Method::Invite => self.profile.session(self.at.own),
            _ => String::new(),
        };
        let contact = match request.method {
            Method::Invite | Method::Update => format!("Contact: <sip:peer@{}>\r\n", self.at.own),
            _ => String::new(),
        };
        if request.method == Method::Bye {
            self.state = CalleeState::Ended;
        }
        self.send_response(request, StatusCode::OK, &contact, &session);
    }

    fn on_response(&mut self, response: &Response) {
        let Ok(cseq) = response.headers.typed::<CSeq>() else { return };
        match cseq.method {
            Method::Bye if response.status.is_final() => self.state = CalleeState::Ended,
            Method::Invite if response.status.is_final() => self.on_refreshed(response.status),
            _ => {}
        }
    }

    /// The ACK of a 2xx has a branch of its own, that of a refusal the branch of its INVITE (RFC 3261 §17.1.1.3).
    fn on_refreshed(&mut self, status: StatusCode) {
        let Some(via) = self.refreshing.take() else { return };
        self.cseq -= 1;
        match status.is_success() {
            true => {
                self.refreshes += 1;
                self.send("ACK", "", "");
            }
            false => self.send_by("ACK", via, "", ""),
        }
    }

    /// What the 2xx says of the session timer (RFC 4028 §9): the caller refreshes, unless it cannot.
    fn grant(&mut self) -> String {
        let Some(invite) = &self.invite else { return String::new() };
        let asked = invite.headers.typed::<SessionExpires>().ok().map(|asked| asked.seconds);
        let floor = invite.headers.typed::<MinSe>().map_or(0, |floor| floor.seconds);
        let can = invite.headers.all(HeaderName::SUPPORTED).any(|tags| tags.contains("timer"));
        self.interval = match self.profile.session_timer.map(|fact| fact.value) {
            None | Some(SessionTimer::None) => None,
            Some(SessionTimer::Supported) => asked,
            Some(SessionTimer::Asked { expires, .. }) => {
                Some(asked.map_or(expires, |asked| asked.min(expires)).max(floor))
            }
        };
        match (self.interval, can) {
            (None, _) => String::new(),
            (Some(seconds), true) => {
                format!("Require: timer\r\nSession-Expires: {seconds};refresher=uac\r\n")
            }
            (Some(seconds), false) => format!("Session-Expires: {seconds};refresher=uas\r\n"),
        }
    }

    fn refuse_with(&mut self, status: StatusCode, extra: &str) {
        if self.is_waiting() {
            self.state = CalleeState::Refused(status);
            self.reply(status, extra, "");
        }
    }

    /// Answers the INVITE.
    fn reply(&mut self, status: StatusCode, extra: &str, body: &str) {
        if let Some(invite) = self.invite.clone() {
            self.send_response(&invite, status, extra, body);
            self.answer = self.out.back().map(|sent| sent.bytes.clone());
        }
    }

    fn repeat(&mut self) {
        if let Some(bytes) = self.answer.clone() {
            self.out.push_back(Sent { from: self.at.own, to: self.at.target, bytes });
        }
    }

    fn send_response(&mut self, request: &Request, status: StatusCode, extra: &str, body: &str) {
        let mut response = Response::to_request(request, status);
        if !is_within(request) && status != StatusCode::TRYING {
            let to = response.headers.get(HeaderName::TO).unwrap_or_default().into_owned();
            response.headers.set(HeaderName::TO, format!("{to};tag={}", tag(request)));
        }
        for line in extra.lines() {
            if let Some((name, value)) = line.split_once(": ") {
                response.headers.push(HeaderName::from(name), value.to_owned());
            }
        }
        if !body.is_empty() {
            response.headers.push(HeaderName::CONTENT_TYPE, "application/sdp");
            response.body = Bytes::copy_from_slice(body.as_bytes());
        }
        self.out.push_back(Sent { from: self.at.own, to: self.at.target, bytes: response.to_bytes() });
    }

    /// Sends a request inside the call, and gives its Via.
    fn send(&mut self, method: &str, extra: &str, body: &str) -> String {
        self.serial += 1;
        let via =
            format!("SIP/2.0/{} {};rport;branch=z9hG4bKc{}", self.transport(), self.at.own, self.serial);
        self.send_by(method, via.clone(), extra, body);
        via
    }

    fn send_by(&mut self, method: &str, via: String, extra: &str, body: &str) {
        let Some(invite) = &self.invite else { return };
        self.cseq += 1;
        let contact = invite.headers.typed::<Contact>().ok();
        let uri = contact.and_then(|contact| contact.address().map(|address| address.uri.clone()));
        let uri = uri.map_or_else(|| format!("sip:{}", self.at.target), |uri| self.profile.request_uri(&uri));
        let routes: String =
            invite.headers.all(HeaderName::RECORD_ROUTE).map(|route| format!("Route: {route}\r\n")).collect();
        let parts = Parts {
            method,
            uri: &uri,
            vias: vec![via],
            from_tag: &tag(invite),
            to: invite.headers.get(HeaderName::FROM).unwrap_or_default().into_owned(),
            call_id: &invite.headers.get(HeaderName::CALL_ID).unwrap_or_default(),
            cseq: self.cseq,
            extra: format!("{routes}{extra}"),
            body,
        };
        self.out.push_back(Sent { from: self.at.own, to: self.at.target, bytes: print(&parts) });
    }
}

/// Our tag of a call: one for each Call-ID.
fn tag(request: &Request) -> String {
    let id = request.headers.get(HeaderName::CALL_ID).unwrap_or_default();
    format!("t-{}", id.split('@').next().unwrap_or_default())
}

fn is_within(request: &Request) -> bool {
    request.headers.typed::<crate::message::header::To>().is_ok_and(|to| to.tag().is_some())
}

fn is_same(one: &Request, other: &Request, name: HeaderName) -> bool {
    one.headers.get(&name) == other.headers.get(&name)
}
