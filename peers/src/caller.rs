//! A scripted caller over a bare socket, for what no real program would send: a repeated INVITE through another
//! port, a forged token, a CANCEL at a chosen moment, a message cut at odd places.
//!
//! It does what it is told and nothing by itself, save one thing: it acknowledges final refusals of an INVITE
//! (RFC 3261 §17.1.1.3), without which a server would repeat them for half a minute.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::g711::Law;
use crate::sip_text::{Text, address_of, take_framed};

/// How long a response may take before a test fails. Generous: the machine may be busy with another test.
pub const ANSWER: Duration = Duration::from_secs(10);

/// One caller: a Call-ID, a From tag, and the socket to the server that it talks to now.
#[derive(Debug)]
pub struct Caller {
    link: Link,
    server: SocketAddr,
    call_id: String,
    tag: String,
    cseq: u32,
    uri: String,
    branch: String,
    to: String,
    audio_port: u16,
    laws: Vec<Law>,
    extra: String,
}

#[derive(Debug)]
enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream, Vec<u8>),
}

impl Caller {
    /// A caller that talks UDP to `server`.
    pub fn udp(server: SocketAddr) -> Self {
        Self::new(server, udp_link())
    }

    /// A caller that talks TCP to `server`, connected.
    pub fn tcp(server: SocketAddr) -> Self {
        Self::new(server, tcp_link(server))
    }

    fn new(server: SocketAddr, link: Link) -> Self {
        let id = unique();
        Self {
            link,
            server,
            call_id: format!("call-{id}"),
            tag: format!("tag-{id}"),
            cseq: 0,
            uri: String::new(),
            branch: String::new(),
            to: String::new(),
            audio_port: 9,
            laws: Law::BOTH.to_vec(),
            extra: String::new(),
        }
    }

    /// Offers audio on that port of 127.0.0.1, in these laws. The default is the discard port and both laws.
    pub fn offering(mut self, audio_port: u16, laws: &[Law]) -> Self {
        (self.audio_port, self.laws) = (audio_port, laws.to_vec());
        self
    }

    /// Adds whole header lines, each ended by CRLF, to every INVITE.
    pub fn with_headers(mut self, lines: &str) -> Self {
        self.extra = lines.to_owned();
        self
    }

    /// The same caller (Call-ID, From tag, next CSeq) at another server, from a fresh UDP socket.
    pub fn moved_to(&self, server: SocketAddr) -> Self {
        let (call_id, tag, uri, extra) =
            (self.call_id.clone(), self.tag.clone(), self.uri.clone(), self.extra.clone());
        let kept = Self::udp(server).offering(self.audio_port, &self.laws);
        Self { call_id, tag, cseq: self.cseq, uri, extra, ..kept }
    }

    /// The same caller with an INVITE on its way to the first Contact of a redirect.
    ///
    /// # Panics
    /// When the response is no 302 or its Contact names no address.
    pub fn following(&self, redirect: &Text) -> Self {
        assert_eq!(redirect.status(), Some(302), "{redirect:?}");
        let contact = redirect.contact();
        let mut moved = self.moved_to(address_of(&contact));
        moved.invite(&contact);
        moved
    }

    /// Waits for the 200 to the INVITE, acknowledges it and returns it.
    ///
    /// # Panics
    /// When the final response is another.
    pub fn answered(&mut self) -> Text {
        let answer = self.final_response();
        assert_eq!(answer.status(), Some(200), "{answer:?}");
        self.acknowledge(&answer);
        answer
    }

    /// Its Call-ID.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Sends an INVITE to `uri` with the next CSeq and a new branch. The To header is the first URI asked for.
    pub fn invite(&mut self, uri: &str) {
        self.cseq += 1;
        self.branch = format!("z9hG4bK-{}", unique());
        self.uri = uri.to_owned();
        self.to = format!("<sip:asked@{}>", self.server);
        self.send_invite_again();
    }

    /// Sends the last INVITE once more, byte for byte, as a retransmission.
    pub fn send_invite_again(&mut self) {
        let body = self.offer();
        let extra = format!("{}Content-Type: application/sdp\r\n", self.extra);
        let message = self.request("INVITE", &self.branch.clone(), &extra, &body);
        self.send(message.as_bytes());
    }

    /// Sends the last INVITE with the same CSeq under another branch: a copy that came another way
    /// (RFC 3261 §8.2.2.2).
    pub fn send_invite_merged(&mut self) {
        self.branch = format!("z9hG4bK-{}", unique());
        self.send_invite_again();
    }

    /// Sends CANCEL for the last INVITE.
    pub fn cancel(&mut self) {
        let message = self.request("CANCEL", &self.branch.clone(), "", "");
        self.send(message.as_bytes());
    }

    /// The next final response to an INVITE; refusals are acknowledged, provisional responses passed over.
    ///
    /// # Panics
    /// When none comes within [`ANSWER`].
    pub fn final_response(&mut self) -> Text {
        let found = self.response_where("a final response to INVITE", |response| {
            response.status() >= Some(200) && response.cseq().1 == "INVITE"
        });
        if found.status() >= Some(300) {
            self.acknowledge_refusal(&found);
        }
        found
    }

    /// The next response that `wanted` accepts; others are dropped.
    ///
    /// # Panics
    /// When none comes within [`ANSWER`].
    pub fn response_where(&mut self, what: &str, wanted: impl Fn(&Text) -> bool) -> Text {
        let deadline = Instant::now() + ANSWER;
        while let Some(message) = self.receive(deadline) {
            if message.status().is_some() && message.header("Call-ID") == self.call_id && wanted(&message) {
                return message;
            }
        }
        panic!("{} got no {what} from {} within {ANSWER:?}", self.call_id, self.server)
    }

    /// Whatever arrives next, or `None` at the deadline.
    pub fn receive(&mut self, deadline: Instant) -> Option<Text> {
        loop {
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            if let Some(message) = self.link.receive(left) {
                return Some(message);
            }
        }
    }

    /// Acknowledges a 2xx (RFC 3261 §13.2.2.4) at the Contact that it names, and keeps its To for the dialog.
    ///
    /// # Panics
    /// When the response names no Contact.
    pub fn acknowledge(&mut self, answer: &Text) {
        self.uri = answer.contact();
        self.to = answer.header("To").to_owned();
        let branch = format!("z9hG4bK-{}", unique());
        let message = self.request("ACK", &branch, "", "");
        self.send(message.as_bytes());
    }

    /// Ends the answered call and waits for the 200.
    ///
    /// # Panics
    /// When BYE is not answered by 200.
    pub fn bye(&mut self) {
        self.cseq += 1;
        let branch = format!("z9hG4bK-{}", unique());
        let message = self.request("BYE", &branch, "", "");
        self.send(message.as_bytes());
        let response = self.response_where("response to BYE", |response| {
            response.status() >= Some(200) && response.cseq().1 == "BYE"
        });
        assert_eq!(response.status(), Some(200), "{response:?}");
    }

    /// Answers a request of the server by 200 (its BYE, say).
    pub fn answer_ok(&mut self, request: &Text) {
        let vias: String = request.headers("Via").map(|via| format!("Via: {via}\r\n")).collect();
        let kept =
            ["From", "To", "Call-ID", "CSeq"].map(|name| format!("{name}: {}\r\n", request.header(name)));
        let message = format!("SIP/2.0 200 OK\r\n{vias}{}Content-Length: 0\r\n\r\n", kept.concat());
        self.send(message.as_bytes());
    }

    /// Sends raw bytes.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.link {
            Link::Udp(socket) => {
                let sent = socket.send_to(bytes, self.server).expect("loopback sends");
                assert_eq!(sent, bytes.len());
            }
            Link::Tcp(stream, _) => stream.write_all(bytes).expect("the connection stands"),
        }
    }

    /// The text of an INVITE as [`Caller::invite`] would send it now, for tests that spoil it first.
    pub fn invite_text(&mut self, uri: &str) -> String {
        self.cseq += 1;
        self.branch = format!("z9hG4bK-{}", unique());
        self.uri = uri.to_owned();
        self.to = format!("<sip:asked@{}>", self.server);
        let extra = format!("{}Content-Type: application/sdp\r\n", self.extra);
        self.request("INVITE", &self.branch, &extra, &self.offer())
    }

    /// Whether the server closed the connection; always false for UDP.
    pub fn is_closed(&mut self) -> bool {
        match &mut self.link {
            Link::Udp(_) => false,
            Link::Tcp(stream, _) => matches!(stream.peek(&mut [0]), Ok(0)),
        }
    }

    fn acknowledge_refusal(&mut self, refusal: &Text) {
        let asked = std::mem::replace(&mut self.to, refusal.header("To").to_owned());
        let message = self.request("ACK", &self.branch.clone(), "", "");
        self.to = asked;
        self.send(message.as_bytes());
    }

    fn request(&self, method: &str, branch: &str, extra: &str, body: &str) -> String {
        let (transport, local) = self.link.local();
        let Self { uri, to, tag, call_id, cseq, .. } = self;
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch={branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:caller@{local}>;tag={tag}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:caller@{local};transport={lower}>\r\n{extra}\
             Content-Length: {length}\r\n\r\n{body}",
            lower = transport.to_lowercase(),
            length = body.len(),
        )
    }

    fn offer(&self) -> String {
        let types: String = self.laws.iter().map(|law| format!(" {}", law.payload_type())).collect();
        let maps =
            self.laws.iter().map(|law| format!("a=rtpmap:{} {}/8000\r\n", law.payload_type(), law.name()));
        format!(
            "v=0\r\no=caller 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {} RTP/AVP{types}\r\n{}a=ptime:20\r\na=sendrecv\r\n",
            self.audio_port,
            maps.collect::<String>(),
        )
    }
}

impl Link {
    fn local(&self) -> (&'static str, SocketAddr) {
        match self {
            Self::Udp(socket) => ("UDP", socket.local_addr().expect("bound")),
            Self::Tcp(stream, _) => ("TCP", stream.local_addr().expect("connected")),
        }
    }

    fn receive(&mut self, within: Duration) -> Option<Text> {
        let mut bytes = [0; 65_536];
        match self {
            Self::Udp(socket) => {
                socket.set_read_timeout(Some(within)).expect("not zero");
                let (length, _) = socket.recv_from(&mut bytes).ok()?;
                Text::read(&bytes[..length])
            }
            Self::Tcp(stream, buffer) => {
                let ready = take_framed(buffer);
                if ready.is_some() {
                    return ready;
                }
                stream.set_read_timeout(Some(within)).expect("not zero");
                let length = stream.read(&mut bytes).ok()?;
                assert_ne!(length, 0, "the server closed the connection");
                buffer.extend(&bytes[..length]);
                take_framed(buffer)
            }
        }
    }
}

fn udp_link() -> Link {
    Link::Udp(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback"))
}

fn tcp_link(server: SocketAddr) -> Link {
    let stream = TcpStream::connect_timeout(&server, ANSWER);
    let stream = stream.unwrap_or_else(|why| panic!("no TCP connection to {server}: {why}"));
    stream.set_nodelay(true).expect("a TCP socket");
    Link::Tcp(stream, Vec::new())
}

/// Unique in this run and across processes at the same time.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> (UdpSocket, SocketAddr) {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        server.set_read_timeout(Some(ANSWER)).unwrap();
        let address = server.local_addr().unwrap();
        (server, address)
    }

    fn next(server: &UdpSocket) -> (Text, SocketAddr) {
        let mut bytes = [0; 4096];
        let (length, from) = server.recv_from(&mut bytes).unwrap();
        (Text::read(&bytes[..length]).unwrap(), from)
    }

    #[test]
    fn a_refusal_is_acknowledged_on_the_branch_of_the_invite() {
        let (server, address) = server();
        let mut caller = Caller::udp(address);
        caller.invite("sip:x@127.0.0.1");
        let (invite, from) = next(&server);
        let refusal = format!(
            "SIP/2.0 486 Busy Here\r\nVia: {}\r\nTo: <sip:x@y>;tag=1\r\nCall-ID: {}\r\nCSeq: 1 INVITE\r\n\r\n",
            invite.header("Via"),
            caller.call_id()
        );
        server.send_to(refusal.as_bytes(), from).unwrap();
        assert_eq!(caller.final_response().status(), Some(486));
        let (ack, _) = next(&server);
        assert!(ack.start.starts_with("ACK sip:x@127.0.0.1 "));
        assert_eq!((ack.header("Via"), ack.cseq()), (invite.header("Via"), (1, "ACK")));
        assert_eq!(ack.header("To"), "<sip:x@y>;tag=1");
    }

    #[test]
    fn a_retransmission_is_the_same_bytes_and_a_move_keeps_the_identity() {
        let (server, address) = server();
        let mut caller = Caller::udp(address).offering(4000, &[Law::A]);
        caller.invite("sip:x@127.0.0.1");
        caller.send_invite_again();
        let (first, second) = (next(&server).0, next(&server).0);
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        assert_eq!((first.audio_payloads(), first.audio_address().port()), (vec![8], 4000));
        let mut moved = caller.moved_to(address);
        moved.invite("sip:x@127.0.0.1");
        let (third, _) = next(&server);
        assert_eq!(
            (third.header("Call-ID"), third.header("From").split_once(";tag=").unwrap().1),
            (first.header("Call-ID"), first.header("From").split_once(";tag=").unwrap().1)
        );
        assert_eq!(third.cseq(), (2, "INVITE"));
    }
}
