//! Over loopback sockets: names that a table, nobody, or a name server knows (RFC 3263).

#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use iqra_sip::auth::{Registration, RegistrationState};
use iqra_sip::event::{CallOptions, OutgoingInvite, Reply};
use iqra_sip::message::NameAddr;
use iqra_sip::net::{
    Answer, Call, CallEvent, Endpoint, Error, FixedResolver, Incoming, IncomingRequest, NetConfig,
    OutgoingEvent, Resolver,
};
use iqra_sip::resolve::{Data, LookupError, Naptr, Question, Record, ResolveLimits, Srv};
use iqra_sip::roles::relay::{Plan, RelayConfig, RelayEvent, RelayKeys, Target};
use iqra_sip::{EngineConfig, HeaderName, Headers, Method, Request, StatusCode, Transport, Uri};

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
const DOMAIN: &str = "sip:desk@voice.example";

/// A port where nobody listens.
fn dead_port() -> u16 {
    TcpListener::bind(SocketAddr::from(LOOPBACK)).unwrap().local_addr().unwrap().port()
}

/// A server on TCP that takes whatever comes.
async fn server() -> SocketAddr {
    let (endpoint, mut incoming) = Endpoint::builder().tcp(LOOPBACK).bind().await.unwrap();
    let addr = endpoint.listeners()[0].addr;
    tokio::spawn(async move {
        let _kept = endpoint;
        let mut calls: Vec<Call> = Vec::new();
        while let Some(request) = incoming.next().await {
            match request {
                IncomingRequest::Invite(invite) => {
                    calls.push(invite.accept(Answer::default()).await.unwrap());
                }
                IncomingRequest::Other(asked) => {
                    let reply = granted(asked.request());
                    asked.respond(reply);
                }
            }
        }
    });
    addr
}

fn granted(request: &Request) -> Reply {
    let reply = Reply::new(StatusCode::OK);
    match request.headers.get(HeaderName::CONTACT) {
        Some(contact) => reply.header(HeaderName::CONTACT, format!("{contact};expires=60")),
        None => reply,
    }
}

fn srv(priority: u16, port: u16, target: &str) -> Srv {
    Srv { priority, weight: 1, port, target: target.into() }
}

/// The domain has TCP servers only; the first is dead.
async fn servers() -> FixedResolver {
    let naptr = Naptr {
        order: 1,
        preference: 1,
        flags: "s".into(),
        service: "SIP+D2T".into(),
        regexp: String::new(),
        replacement: "_sip._tcp.voice.example".into(),
    };
    FixedResolver::default()
        .record("voice.example", Data::Naptr(naptr))
        .srv("_sip._tcp.voice.example", srv(1, dead_port(), "first.voice.example"))
        .srv("_sip._tcp.voice.example", srv(2, server().await.port(), "second.voice.example"))
        .address("first.voice.example", [127, 0, 0, 1])
        .address("second.voice.example", [127, 0, 0, 1])
}

async fn asking(resolver: impl Resolver) -> Endpoint {
    let builder = Endpoint::builder().udp(LOOPBACK).resolver(Arc::new(resolver));
    let resolve = ResolveLimits { patience: Duration::from_millis(200), ..ResolveLimits::default() };
    builder.net(NetConfig { resolve, ..NetConfig::default() }).bind().await.unwrap().0
}

fn options() -> Request {
    let mut request = Request::new(Method::Options, DOMAIN.parse().unwrap());
    request.headers.push(HeaderName::FROM, "<sip:probe@example.org>");
    request
}

fn call() -> OutgoingInvite {
    let to: Uri = DOMAIN.parse().unwrap();
    OutgoingInvite {
        uri: to.clone(),
        hops: Vec::new(),
        from: NameAddr::new("sip:caller@example.org".parse().unwrap()),
        to: NameAddr::new(to),
        call_id: None,
        cseq: 1,
        headers: Headers::new(),
        body: None,
        options: CallOptions::default(),
    }
}

#[tokio::test]
async fn a_request_goes_to_the_next_server_when_the_first_is_dead() {
    let client = asking(servers().await).await;
    assert_eq!(client.request(options(), None).await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_call_goes_to_the_next_server_when_the_first_is_dead() {
    let client = asking(servers().await).await;
    let mut placed = client.invite(call()).await.unwrap();
    let Some(OutgoingEvent::Answered(call, _)) = placed.next().await else { panic!("no answer") };
    assert_eq!(call.remote_flow().unwrap().transport, Transport::Tcp);
    call.hangup(Headers::new()).await.unwrap();
}

#[tokio::test]
async fn a_registration_goes_to_the_next_server_when_the_first_is_dead() {
    let client = asking(servers().await).await;
    let uri = |text: &str| text.parse::<Uri>().unwrap();
    let asked = Registration::new(uri("sip:voice.example"), uri("sip:alice@voice.example"));
    let mut registered = client.register(asked).unwrap();
    let state = loop {
        match registered.changed().await.unwrap() {
            RegistrationState::Registering => {}
            state => break state,
        }
    };
    assert!(matches!(state, RegistrationState::Registered(_)), "{state:?}");
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_named_in_the_error() {
    let client = asking(FixedResolver::default()).await;
    let error = client.request(options(), None).await.unwrap_err();
    assert!(matches!(&error, Error::Resolve { host, .. } if host == "voice.example"), "{error}");
}

/// Never says anything.
struct Silent;

#[async_trait]
impl Resolver for Silent {
    async fn look_up(&self, _: &Question) -> Result<Vec<Record>, LookupError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_resolver_that_says_nothing_is_not_waited_for() {
    let error = asking(Silent).await.invite(call()).await.err().unwrap();
    assert!(error.to_string().contains("no answer in time"), "{error}");
}

#[tokio::test]
async fn the_system_knows_this_machine() {
    let (server, mut incoming) = Endpoint::builder().udp(LOOPBACK).bind().await.unwrap();
    tokio::spawn(async move { answer_one(&mut incoming).await });
    let client = Endpoint::builder().udp(LOOPBACK).bind().await.unwrap().0;
    let port = server.listeners()[0].addr.port();
    let mut request = options();
    request.uri = format!("sip:localhost:{port}").parse().unwrap();
    assert_eq!(client.request(request, None).await.unwrap().status, StatusCode::OK);
}

/// A callee with two TCP sockets that calls itself `phone.example` at the second; its call ends.
async fn named_callee() -> (Endpoint, Incoming, String) {
    let (callee, incoming) = Endpoint::builder().tcp(LOOPBACK).tcp(LOOPBACK).bind().await.unwrap();
    let second = callee.listeners()[1].addr.port();
    (callee, incoming, format!("<sip:desk@phone.example:{second};transport=tcp>"))
}

/// A call to the first socket of the callee that the caller hangs up: the ports that its ACK and BYE went to.
async fn hung_up(client: Endpoint, sent: Ports, callee: (Endpoint, Incoming, String)) -> [u16; 2] {
    let (callee, mut incoming, contact) = callee;
    let hop = (Transport::Tcp, callee.listeners()[0].addr).into();
    let mut placed = client.invite(OutgoingInvite { hops: vec![hop], ..call() }).await.unwrap();
    let Some(IncomingRequest::Invite(invite)) = incoming.next().await else { panic!("no INVITE") };
    let mut headers = Headers::new();
    headers.push(HeaderName::CONTACT, contact);
    let mut answered = invite.accept(Answer { headers, body: None }).await.unwrap();
    let ours = loop {
        match placed.next().await.unwrap() {
            OutgoingEvent::Answered(call, _) => break call,
            OutgoingEvent::Provisional { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(answered.next().await, Some(CallEvent::Confirmed(_))));
    ours.hangup(Headers::new()).await.unwrap();
    assert!(matches!(answered.next().await, Some(CallEvent::Ended(_))));
    let sent = sent.lock().unwrap();
    ["ACK", "BYE"].map(|method| sent.iter().find(|(found, _)| found == method).unwrap().1)
}

/// Methods and the ports that they were sent to.
type Ports = Arc<std::sync::Mutex<Vec<(String, u16)>>>;

async fn watched(resolver: impl Resolver) -> (Endpoint, Ports) {
    let sent = Ports::default();
    let seen = sent.clone();
    let resolve = ResolveLimits { patience: Duration::from_millis(200), ..ResolveLimits::default() };
    let builder = Endpoint::builder().udp(LOOPBACK).resolver(Arc::new(resolver));
    let builder = builder.net(NetConfig { resolve, ..NetConfig::default() }).trace(Arc::new(move |record| {
        let text = String::from_utf8_lossy(&record.bytes);
        let method = text.split(' ').next().unwrap_or_default().to_owned();
        if record.direction == iqra_sip::observe::Direction::Out {
            seen.lock().unwrap().push((method, record.flow.remote.port()));
        }
    }));
    (builder.bind().await.unwrap().0, sent)
}

#[tokio::test]
async fn ack_and_bye_go_where_the_name_of_a_contact_leads() {
    let callee = named_callee().await;
    let second = callee.0.listeners()[1].addr.port();
    let (client, sent) = watched(FixedResolver::default().address("phone.example", [127, 0, 0, 1])).await;
    assert_eq!(hung_up(client, sent, callee).await, [second, second]);
}

#[tokio::test]
async fn a_contact_whose_name_nobody_knows_is_hung_up_along_the_flow() {
    let callee = named_callee().await;
    let first = callee.0.listeners()[0].addr.port();
    let (client, sent) = watched(FixedResolver::default()).await;
    assert_eq!(hung_up(client, sent, callee).await, [first, first]);
    let callee = named_callee().await;
    let first = callee.0.listeners()[0].addr.port();
    let (client, sent) = watched(Silent).await;
    assert_eq!(hung_up(client, sent, callee).await, [first, first]);
}

#[tokio::test]
async fn a_relayed_call_goes_to_the_next_server_of_its_target_when_the_first_is_dead() {
    let relay = RelayConfig::new("a", RelayKeys::new([[7; 32]]).unwrap());
    let config = EngineConfig { relay: Some(relay), ..EngineConfig::default() };
    let resolver = Arc::new(servers().await);
    let builder = Endpoint::builder().udp(LOOPBACK).tcp(LOOPBACK).config(config).resolver(resolver);
    let (proxy, mut incoming) = builder.bind().await.unwrap();
    let (client, _none) = Endpoint::builder().udp(LOOPBACK).bind().await.unwrap();
    let hop = (Transport::Udp, proxy.listeners()[0].addr).into();
    let mut placed = client.invite(OutgoingInvite { hops: vec![hop], ..call() }).await.unwrap();
    let Some(IncomingRequest::Invite(invite)) = incoming.next().await else { panic!("no INVITE") };
    let target = Target { uri: Some(DOMAIN.parse().unwrap()), ..Target::default() };
    let mut relayed = invite.relay(Plan::new([target])).await.unwrap();
    assert!(matches!(relayed.next().await, Some(RelayEvent::Trying { attempt: 1 })));
    let event = relayed.next().await;
    assert!(matches!(event, Some(RelayEvent::Answered(_))), "no target is given up: {event:?}");
    let Some(OutgoingEvent::Answered(call, _)) = placed.next().await else { panic!("no answer") };
    call.hangup(Headers::new()).await.unwrap();
}

async fn answer_one(incoming: &mut Incoming) {
    if let Some(IncomingRequest::Other(asked)) = incoming.next().await {
        asked.respond(Reply::new(StatusCode::OK));
    }
}

/// A name server that has what a table has.
#[cfg(feature = "dns")]
mod name_server {
    use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
    use hickory_resolver::proto::rr::rdata::{A, NAPTR, SRV};
    use hickory_resolver::proto::rr::{self, Name, RData, RecordType};
    use iqra_sip::net::DnsResolver;
    use iqra_sip::resolve::Kind;
    use tokio::net::UdpSocket;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(format!("{text}.")).unwrap()
    }

    fn rdata(data: Data) -> RData {
        match data {
            Data::Naptr(n) => {
                let [flags, service, regexp] =
                    [n.flags, n.service, n.regexp].map(|text| text.into_bytes().into_boxed_slice());
                let replacement = name(&n.replacement);
                RData::NAPTR(NAPTR::new(n.order, n.preference, flags, service, regexp, replacement))
            }
            Data::Srv(s) => RData::SRV(SRV::new(s.priority, s.weight, s.port, name(&s.target))),
            Data::Address(std::net::IpAddr::V4(ip)) => RData::A(A(ip)),
            other => panic!("not served: {other:?}"),
        }
    }

    async fn answer(table: &FixedResolver, query: &Message) -> Message {
        let asked = query.queries[0].clone();
        let kind = match asked.query_type() {
            RecordType::NAPTR => Kind::Naptr,
            RecordType::SRV => Kind::Srv,
            RecordType::A => Kind::A,
            _ => Kind::Aaaa,
        };
        let mut response = Message::response(query.metadata.id, OpCode::Query);
        response.add_query(asked.clone());
        match table.look_up(&Question::new(&asked.name().to_ascii(), kind)).await {
            Ok(records) => {
                let record = |one: Record| rr::Record::from_rdata(asked.name().clone(), 60, rdata(one.data));
                response.add_answers(records.into_iter().map(record));
            }
            Err(_) => response.metadata.response_code = ResponseCode::NXDomain,
        }
        response
    }

    /// Answers on a port of its own.
    async fn serving(table: FixedResolver) -> SocketAddr {
        let socket = UdpSocket::bind(SocketAddr::from(LOOPBACK)).await.unwrap();
        let addr = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 1_500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let response = answer(&table, &query).await.to_vec().unwrap();
                socket.send_to(&response, from).await.unwrap();
            }
        });
        addr
    }

    #[tokio::test]
    async fn the_dns_leads_to_the_server_that_lives() {
        let client = asking(DnsResolver::of([serving(servers().await).await]).unwrap()).await;
        assert_eq!(client.request(options(), None).await.unwrap().status, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_name_that_the_dns_does_not_have_is_named_in_the_error() {
        let client = asking(DnsResolver::of([serving(FixedResolver::default()).await]).unwrap()).await;
        let error = client.request(options(), None).await.unwrap_err();
        assert!(matches!(&error, Error::Resolve { host, .. } if host == "voice.example"), "{error}");
        assert!(error.to_string().contains("the DNS has no address"), "{error}");
    }

    #[tokio::test]
    async fn a_name_server_that_is_silent_is_not_waited_for() {
        let silent = UdpSocket::bind(SocketAddr::from(LOOPBACK)).await.unwrap();
        let client = asking(DnsResolver::of([silent.local_addr().unwrap()]).unwrap()).await;
        let error = client.request(options(), None).await.unwrap_err();
        assert!(error.to_string().contains("no answer in time"), "{error}");
    }
}
