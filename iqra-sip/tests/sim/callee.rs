//! A callee of hand-written responses, for one engine that calls.

use std::net::SocketAddr;
use std::time::Duration;

use iqra_sip::event::{Body, CallOptions, ClientTx, Event, OutgoingInvite};
use iqra_sip::message::NameAddr;
use iqra_sip::{DialogId, EngineConfig, Headers, Listener, Transmit, Transport, Uri};

use crate::wire::Wire;

pub(crate) const SDP: &str = "v=0\r\n";
pub(crate) const SDP_TYPE: &str = "Content-Type: application/sdp\r\n";

/// A call to 198.51.100.7 and the default port of this transport, from an engine that listens on UDP, TCP and TLS.
pub(crate) fn outgoing(transport: Transport) -> OutgoingInvite {
    let addr = SocketAddr::new([198, 51, 100, 7].into(), transport.default_port());
    let to: Uri = format!("sip:bob@{addr}").parse().unwrap();
    OutgoingInvite {
        uri: to.clone(),
        hops: vec![(transport, addr).into()],
        from: NameAddr::new("sip:alice@example.org".parse().unwrap()),
        to: NameAddr::new(to),
        call_id: None,
        cseq: 1,
        headers: Headers::new(),
        body: Some(Body::sdp(SDP)),
        options: CallOptions::default(),
    }
}

/// Places a call; the INVITE as it left.
pub(crate) fn place(config: EngineConfig, call: OutgoingInvite) -> (Wire, ClientTx, String) {
    let mut wire = Wire::new(config);
    for (transport, at) in [(Transport::Tcp, "192.0.2.1:5060"), (Transport::Tls, "192.0.2.1:5061")] {
        wire.engine.add_listener(Listener::new(transport, at.parse().unwrap(), None));
    }
    let tx = wire.engine.invite(wire.now, call).unwrap();
    let invite = wire.engine.poll_transmit().unwrap();
    (wire.flow.transport, wire.flow.local) = (invite.flow.transport, invite.flow.local);
    (wire, tx, text(&invite))
}

pub(crate) fn text(transmit: &Transmit) -> String {
    String::from_utf8_lossy(&transmit.bytes).into_owned()
}

pub(crate) fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let mut values = message.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    values.next().unwrap_or_else(|| panic!("no {name} in {message}"))
}

/// The response to a request of the engine, from the branch of this To tag.
pub(crate) fn answer_to(request: &str, status: &str, tag: &str, extra: &str, body: &str) -> String {
    let vias = request.lines().filter(|line| line.starts_with("Via: "));
    let vias: String = vias.map(|line| format!("{line}\r\n")).collect();
    let tag = if header(request, "To").contains(";tag=") { String::new() } else { format!(";tag={tag}") };
    format!(
        "SIP/2.0 {status}\r\n{vias}From: {}\r\nTo: {}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n{extra}\
         Content-Length: {}\r\n\r\n{body}",
        header(request, "From"),
        header(request, "To"),
        header(request, "Call-ID"),
        header(request, "CSeq"),
        body.len()
    )
}

impl Wire {
    /// Everything that leaves.
    pub(crate) fn transmits(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.engine.poll_transmit()).collect()
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.engine.poll_event()).collect()
    }

    /// Fires what is due within this time; what leaves meanwhile.
    pub(crate) fn wait(&mut self, time: Duration) -> Vec<String> {
        let (end, mut sent) = (self.now + time, Vec::new());
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now);
            sent.extend(self.out());
        }
        self.now = end;
        sent
    }

    /// Takes the 2xx of a call that was placed; the dialog, and the ACK.
    pub(crate) fn answered(&mut self, response: String) -> (DialogId, Transmit) {
        self.engine.handle_message(self.now, &self.flow, response.into());
        let answered = |event| if let Event::Answered { dialog, .. } = event { Some(dialog) } else { None };
        let dialog = self.events().into_iter().find_map(answered).expect("an answer");
        (dialog, self.engine.poll_transmit().expect("an ACK"))
    }
}
