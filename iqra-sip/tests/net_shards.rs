//! An endpoint of several shards: every call is whole whatever way its messages take, and what counts for all counts
//! once.

#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use iqra_sip::auth::{Registration, RegistrationState};
use iqra_sip::event::{
    Body, CallOptions, EndReason, OutgoingInvite, Refer, ReferralEnd, ReferralEvent, Replaced, Reply,
};
use iqra_sip::guard::{GuardConfig, Rate};
use iqra_sip::message::NameAddr;
use iqra_sip::message::header::Replaces;
use iqra_sip::net::{
    Answer, Builder, Call, CallEvent, Counts, Endpoint, Incoming, IncomingInvite, IncomingRequest, NetConfig,
    OutgoingEvent,
};
use iqra_sip::observe::{DropReason, Observer, TransactionChange};
use iqra_sip::{EngineConfig, HeaderName, Headers, StatusCode, TransferConfig, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Every test of `net.rs` with several shards.
#[path = "net.rs"]
mod calls;

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
const SHARDS: usize = 4;

fn sharded(config: EngineConfig) -> Builder {
    let net = NetConfig { shards: SHARDS, ..NetConfig::default() };
    Endpoint::builder().udp(LOOPBACK).tcp(LOOPBACK).net(net).config(config)
}

/// Answers OPTIONS by itself.
async fn server(builder: Builder) -> Endpoint {
    let (endpoint, mut incoming) = builder.bind().await.unwrap();
    tokio::spawn(async move { while incoming.next().await.is_some() {} });
    endpoint
}

async fn closed(endpoints: impl IntoIterator<Item = Endpoint>) {
    for endpoint in endpoints {
        let witness = endpoint.clone();
        endpoint.shutdown(Duration::from_secs(2)).await;
        assert_eq!(witness.counts(), Counts::default());
    }
}

/// A peer on a UDP socket, which writes its messages itself.
struct Peer(UdpSocket);

impl Peer {
    async fn new(to: SocketAddr) -> Self {
        let socket = UdpSocket::bind(SocketAddr::from(LOOPBACK)).await.unwrap();
        socket.connect(to).await.unwrap();
        Self(socket)
    }

    async fn send(&self, text: &str) {
        self.0.send(text.as_bytes()).await.unwrap();
    }

    async fn receive(&self) -> String {
        let mut buffer = vec![0; 65_536];
        let read = self.0.recv(&mut buffer);
        let length = tokio::time::timeout(Duration::from_secs(10), read).await.expect("an answer").unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// The first that begins so; others are repeats.
    async fn wait_for(&self, start: &str) -> String {
        loop {
            let text = self.receive().await;
            if text.starts_with(start) {
                return text;
            }
        }
    }
}

/// A request of a caller at `from` in a call of this number.
fn request(method: &str, from: SocketAddr, call: usize, to_tag: &str, branch: &str, more: &str) -> String {
    let sequence = if method == "BYE" { 2 } else { 1 };
    format!(
        "{method} sip:callee@127.0.0.1 SIP/2.0\r\n\
         Via: SIP/2.0/UDP {from};rport;branch=z9hG4bK{branch}{call}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@example.org>;tag=f{call}\r\nTo: <sip:callee@example.org>{to_tag}\r\n\
         Call-ID: call-{call}@example.org\r\nCSeq: {sequence} {method}\r\nContact: <sip:caller@{from}>\r\n\
         {more}Content-Length: 0\r\n\r\n"
    )
}

async fn invited(incoming: &mut Incoming) -> IncomingInvite {
    match incoming.next().await {
        Some(IncomingRequest::Invite(invite)) => invite,
        other => panic!("expected an INVITE, got {other:?}"),
    }
}

/// The shards that transactions were seen in: a number of one has its shard in its upper bits.
#[derive(Default)]
struct Seen(Mutex<HashSet<u64>>);

impl Observer for Seen {
    fn transaction(&self, change: &TransactionChange) {
        self.0.lock().unwrap().insert(change.id >> 48);
    }
}

#[tokio::test]
async fn calls_from_one_address_load_every_shard() {
    let seen = Arc::<Seen>::default();
    let endpoint = server(sharded(EngineConfig::default()).observe(seen.clone())).await;
    let peer = Peer::new(endpoint.listeners()[0].addr).await;
    let own = peer.0.local_addr().unwrap();
    for call in 0..100 {
        peer.send(&request("OPTIONS", own, call, "", "o", "")).await;
    }
    for _ in 0..100 {
        peer.wait_for("SIP/2.0 200").await;
    }
    assert_eq!(*seen.0.lock().unwrap(), HashSet::from([0, 1, 2, 3]));
    closed([endpoint]).await;
}

/// More at once than the queues of the shards hold, from one address to one of the sockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_burst_is_handled_without_a_loss() {
    let endpoint = server(sharded(EngineConfig::default())).await;
    let peer = Peer::new(endpoint.listeners()[0].addr).await;
    let own = peer.0.local_addr().unwrap();
    let mut answered = HashSet::new();
    for round in 0..40 {
        for call in 0..100 {
            peer.send(&request("OPTIONS", own, round * 100 + call, "", "o", "")).await;
        }
        while answered.len() < (round + 1) * 100 {
            let text = peer.wait_for("SIP/2.0 200").await;
            let call = text.lines().find(|line| line.starts_with("Call-ID")).unwrap().to_owned();
            assert!(answered.insert(call), "answered twice");
        }
    }
    assert_eq!(endpoint.counts().server_transactions, 4_000);
    closed([endpoint]).await;
}

#[tokio::test]
async fn a_cancel_from_another_address_finds_its_invite() {
    let (endpoint, mut incoming) = sharded(EngineConfig::default()).bind().await.unwrap();
    let to = endpoint.listeners()[0].addr;
    for call in 0..16 {
        let (caller, other) = (Peer::new(to).await, Peer::new(to).await);
        let own = caller.0.local_addr().unwrap();
        caller.send(&request("INVITE", own, call, "", "i", "")).await;
        let mut invite = invited(&mut incoming).await;
        other.send(&request("CANCEL", own, call, "", "i", "")).await;
        other.wait_for("SIP/2.0 200").await;
        invite.cancelled().await;
        let refusal = caller.wait_for("SIP/2.0 487").await;
        other.send(&request("ACK", own, call, &to_tag(&refusal), "i", "")).await;
    }
    assert_eq!(endpoint.dropped().total(), 0);
    closed([endpoint]).await;
}

fn to_tag(response: &str) -> String {
    let to = response.lines().find(|line| line.starts_with("To:")).unwrap();
    to[to.find(";tag=").unwrap()..].to_owned()
}

#[tokio::test]
async fn a_call_by_three_ways_is_one_call() {
    let (endpoint, mut incoming) = sharded(EngineConfig::default()).bind().await.unwrap();
    let (udp, tcp) = (endpoint.listeners()[0].addr, endpoint.listeners()[1].addr);
    let mut stream = TcpStream::connect(tcp).await.unwrap();
    for call in 0..16 {
        let (caller, other) = (Peer::new(udp).await, Peer::new(udp).await);
        let own = caller.0.local_addr().unwrap();
        caller.send(&request("INVITE", own, call, "", "i", "")).await;
        let mut taken = invited(&mut incoming).await.accept(Answer::default()).await.unwrap();
        let tag = to_tag(&caller.wait_for("SIP/2.0 200").await);
        other.send(&request("ACK", own, call, &tag, "a", "")).await;
        assert!(matches!(taken.next().await, Some(CallEvent::Confirmed(_))), "{call}");
        stream
            .write_all(request("BYE", own, call, &tag, "b", "").replace("/UDP", "/TCP").as_bytes())
            .await
            .unwrap();
        assert!(matches!(taken.next().await, Some(CallEvent::Ended(EndReason::Remote { .. }))), "{call}");
        let mut answer = [0; 11];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"SIP/2.0 200");
        while stream.read_u8().await.unwrap() != b'\n' {}
        let mut line = Vec::new();
        while line != b"\r\n" {
            line.clear();
            while line.last() != Some(&b'\n') {
                line.push(stream.read_u8().await.unwrap());
            }
        }
    }
    closed([endpoint]).await;
}

fn call_to(callee: &Endpoint, headers: Headers) -> OutgoingInvite {
    let addr = callee.listeners()[0].addr;
    let uri = Uri::sip(Some("callee"), addr.ip(), Some(addr.port()));
    OutgoingInvite {
        to: NameAddr::new(uri.clone()),
        uri,
        hops: Vec::new(),
        from: NameAddr::new("sip:caller@example.org".parse().unwrap()),
        call_id: None,
        cseq: 1,
        headers,
        body: Some(Body::sdp("v=0\r\n")),
        options: CallOptions::default(),
    }
}

/// Places a call and takes it.
async fn connect(
    caller: &Endpoint,
    callee: &Endpoint,
    incoming: &mut Incoming,
    headers: Headers,
) -> (Call, Call) {
    let mut outgoing = caller.invite(call_to(callee, headers)).await.unwrap();
    let mut theirs = invited(incoming).await.accept(Answer::sdp("v=0\r\n")).await.unwrap();
    let Some(OutgoingEvent::Answered(ours, _)) = outgoing.next().await else { panic!("not answered") };
    assert!(matches!(theirs.next().await, Some(CallEvent::Confirmed(_))));
    (ours, theirs)
}

fn transfers() -> EngineConfig {
    let transfer = TransferConfig { refer: true, replaces: true, ..TransferConfig::default() };
    EngineConfig { transfer, ..EngineConfig::default() }
}

/// The old call and the new one are of the same shard now and then, of two as a rule.
#[tokio::test]
async fn a_call_of_another_shard_is_replaced() {
    let (caller, _) = sharded(EngineConfig::default()).bind().await.unwrap();
    let (callee, mut incoming) = sharded(transfers()).bind().await.unwrap();
    for _ in 0..16 {
        let (mut ours, mut theirs) = connect(&caller, &callee, &mut incoming, Headers::new()).await;
        let mut headers = Headers::new();
        headers.push(HeaderName::REPLACES, Replaces::of_peer(ours.id()).to_string());
        let mut third = caller.invite(call_to(&callee, headers)).await.unwrap();
        let invite = invited(&mut incoming).await;
        assert_eq!(invite.replaces(), Some(&Replaced::Call(theirs.id().clone())));
        let new = invite.accept(Answer::default()).await.unwrap();
        let Some(CallEvent::Ended(EndReason::Replaced { by })) = theirs.next().await else {
            panic!("goes on")
        };
        assert_eq!(&by, new.id());
        assert!(matches!(ours.next().await, Some(CallEvent::Ended(EndReason::Remote { .. }))));
        assert!(matches!(third.next().await, Some(OutgoingEvent::Answered(..))));
    }
    closed([caller, callee]).await;
}

#[tokio::test]
async fn what_no_shard_has_cannot_be_replaced() {
    let (caller, _) = sharded(EngineConfig::default()).bind().await.unwrap();
    let (callee, mut incoming) = sharded(transfers()).bind().await.unwrap();
    for _ in 0..8 {
        let (ours, theirs) = connect(&caller, &callee, &mut incoming, Headers::new()).await;
        let value = Replaces::of_peer(ours.id()).to_string();
        for (value, status) in
            [(value.replace("to-tag=", "to-tag=x"), 481), (format!("{value};early-only"), 486)]
        {
            let mut headers = Headers::new();
            headers.push(HeaderName::REPLACES, value);
            let mut third = caller.invite(call_to(&callee, headers)).await.unwrap();
            let Some(OutgoingEvent::Failed(response)) = third.next().await else { panic!("not refused") };
            assert_eq!(response.status.code(), status);
        }
        theirs.hangup(Headers::new()).await.unwrap();
        drop(ours);
    }
    closed([caller, callee]).await;
}

#[tokio::test]
async fn a_transfer_is_told_to_the_end() {
    let (caller, _) = sharded(EngineConfig::default()).bind().await.unwrap();
    let (callee, mut incoming) = sharded(transfers()).bind().await.unwrap();
    for _ in 0..8 {
        let (ours, mut theirs) = connect(&caller, &callee, &mut incoming, Headers::new()).await;
        let mut referral = ours.refer(Refer::to("sip:third@example.org".parse().unwrap())).unwrap();
        let Some(CallEvent::Referred(refer)) = theirs.next().await else { panic!("no REFER") };
        refer.accept().unwrap().notify(StatusCode::OK).unwrap();
        let end = loop {
            if let ReferralEvent::Ended(end) = referral.next().await.unwrap() {
                break end;
            }
        };
        assert!(matches!(end, ReferralEnd::Reported(_)), "{end:?}");
        ours.hangup(Headers::new()).await.unwrap();
        assert!(matches!(theirs.next().await, Some(CallEvent::Ended(_))));
    }
    closed([caller, callee]).await;
}

#[tokio::test]
async fn registrations_hear_their_answers() {
    let (registrar, mut incoming) = sharded(EngineConfig::default()).bind().await.unwrap();
    let serving = tokio::spawn(async move {
        while let Some(request) = incoming.next().await {
            let IncomingRequest::Other(register) = request else { panic!("a call") };
            let contact = register.request().headers.get(HeaderName::CONTACT).unwrap().into_owned();
            register.respond(Reply::new(StatusCode::OK).header(HeaderName::CONTACT, contact));
        }
    });
    let (client, _) = sharded(EngineConfig::default()).bind().await.unwrap();
    let at = registrar.listeners()[0].addr;
    let mut all = Vec::new();
    for _ in 0..8 {
        let asked =
            Registration::new(Uri::sip(None, at.ip(), Some(at.port())), "sip:a@example.org".parse().unwrap());
        all.push(client.register(asked).unwrap());
    }
    for registered in &mut all {
        assert!(matches!(registered.changed().await, Some(RegistrationState::Registered(_))));
    }
    closed([client, registrar]).await;
    serving.await.unwrap();
}

#[tokio::test]
async fn a_source_has_its_rate_once() {
    let rate = Rate { per_second: 1, burst: 20 };
    let guard = GuardConfig { new_requests: rate, ..GuardConfig::default() };
    let endpoint =
        server(sharded(EngineConfig { guard: Some(guard.clone()), ..EngineConfig::default() })).await;
    let at = endpoint.listeners()[0].addr;
    let began = std::time::Instant::now();
    for call in 0..200 {
        let peer = Peer::new(at).await;
        peer.send(&request("OPTIONS", peer.0.local_addr().unwrap(), call, "", "o", "")).await;
    }
    // Each is either served or counted.
    let heard = || endpoint.dropped().of(DropReason::RateNew) + endpoint.counts().server_transactions as u64;
    while heard() < 200 {
        tokio::task::yield_now().await;
    }
    let most = 21 + began.elapsed().as_secs();
    let served = endpoint.counts().server_transactions as u64;
    assert!((20..=most).contains(&served), "{served}");
    // Set up while it runs it is one for all, too.
    endpoint.set_guard(None);
    endpoint.set_guard(Some(guard));
    let source = [127, 0, 0, 1].into();
    endpoint
        .with_guard(|guard| guard.ban(std::time::Instant::now(), source, Duration::from_secs(60)))
        .unwrap();
    for call in 200..300 {
        let peer = Peer::new(at).await;
        peer.send(&request("OPTIONS", peer.0.local_addr().unwrap(), call, "", "o", "")).await;
    }
    while endpoint.dropped().of(DropReason::Banned) < 100 {
        tokio::task::yield_now().await;
    }
    closed([endpoint]).await;
}

#[tokio::test]
async fn limits_are_those_of_all_shards_together() {
    let config = EngineConfig { max_transactions: 40, ..EngineConfig::default() };
    let endpoint = server(sharded(config)).await;
    let peer = Peer::new(endpoint.listeners()[0].addr).await;
    let own = peer.0.local_addr().unwrap();
    for call in 0..200 {
        peer.send(&request("OPTIONS", own, call, "", "o", "")).await;
    }
    while endpoint.dropped().of(DropReason::Full) + (endpoint.counts().server_transactions as u64) < 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(endpoint.counts().server_transactions, 40);
    closed([endpoint]).await;
}
