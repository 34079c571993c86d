//! The guard of an endpoint under real datagrams: floods, keep-alives and what observers see of them.

#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::net::{SocketAddr, UdpSocket as BlockingSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use iqra_sip::event::{Body, CallOptions, OutgoingInvite, Reply};
use iqra_sip::guard::{GuardConfig, Load, Network, Networks, OverloadConfig, Rate};
use iqra_sip::message::NameAddr;
use iqra_sip::net::{Answer, CallEvent, Endpoint, Incoming, IncomingRequest, OutgoingEvent};
use iqra_sip::observe::{Discarded, DropReason, Observer, TraceLimits, Traces};
use iqra_sip::{EngineConfig, Headers, Method, StatusCode, Uri};
use tokio::net::UdpSocket;
use tokio::sync::Notify;

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
const LONG: Duration = Duration::from_secs(60);

fn options(call_id: &str) -> String {
    format!(
        "OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;rport;branch=z9hG4bK{call_id}\r\n\
         From: <sip:b@c>;tag=1\r\nTo: <sip:a@c>\r\nCall-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

fn denying(source: &str) -> GuardConfig {
    let deny: Networks = [source.parse::<Network>().unwrap()].into_iter().collect();
    GuardConfig { deny, ..GuardConfig::default() }
}

async fn guarded(guard: GuardConfig) -> (Endpoint, Incoming, SocketAddr) {
    let config = EngineConfig { guard: Some(guard), ..EngineConfig::default() };
    let (endpoint, incoming) = Endpoint::builder().udp(LOOPBACK).config(config).bind().await.unwrap();
    let addr = endpoint.listeners()[0].addr;
    (endpoint, incoming, addr)
}

#[tokio::test]
async fn a_flood_lets_the_other_tasks_have_their_turn() {
    const FLOOD: u64 = 256;
    let (endpoint, _incoming, ours) = guarded(denying("127.0.0.1")).await;
    let flood = BlockingSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..FLOOD {
        flood.send_to(b"INVITE", ours).unwrap();
    }
    let mut turns = 0;
    while endpoint.dropped().of(DropReason::Banned) < FLOOD {
        tokio::task::yield_now().await;
        let dropped = endpoint.dropped().of(DropReason::Banned);
        turns += u32::from(dropped > 0 && dropped < FLOOD);
    }
    assert!(turns > 0, "the whole flood was read in one turn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flooded_endpoint_answers_requests_of_the_calls_that_are_up() {
    let any = Rate { per_second: 1_000_000, burst: 1_000_000 };
    // Far below the default, so that the slowest machine falls behind soon.
    let start = Load { behind: Duration::from_millis(1), ..OverloadConfig::default().start };
    let overload = Some(OverloadConfig { start, ..OverloadConfig::default() });
    let guard = GuardConfig { new_requests: any, overload, ..GuardConfig::default() };
    let behind = Arc::new(Behind::default());
    let config = EngineConfig { guard: Some(guard), ..EngineConfig::default() };
    let builder = Endpoint::builder().udp(LOOPBACK).observe(behind.clone()).config(config);
    let (callee, mut incoming) = builder.bind().await.unwrap();
    let ours = callee.listeners()[0].addr;
    let (caller, _) = Endpoint::builder().udp(LOOPBACK).bind().await.unwrap();
    let serving = tokio::spawn(async move {
        while let Some(request) = incoming.next().await {
            let IncomingRequest::Invite(invite) = request else { continue };
            let mut call = invite.accept(Answer::sdp("v=0\r\n")).await.unwrap();
            tokio::spawn(async move {
                while let Some(event) = call.next().await {
                    if let CallEvent::Request(request) = event {
                        request.respond(Reply::new(StatusCode::OK)).unwrap();
                    }
                }
            });
        }
    });
    let mut calling = caller.invite(call_to(ours)).await.unwrap();
    let call = loop {
        if let Some(OutgoingEvent::Answered(call, _)) = calling.next().await {
            break call;
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let flooding = flood(ours, stop.clone());
    tokio::time::timeout(LONG, async {
        behind.0.notified().await;
        for n in 0..10 {
            let answer = call.request(Method::Info, Headers::new(), None).await.unwrap();
            assert_eq!(answer.status, StatusCode::OK, "request {n}");
        }
    })
    .await
    .expect("answered while the flood goes on");
    stop.store(true, Ordering::Relaxed);
    flooding.join().unwrap();
    serving.abort();
}

/// Rings once something is dropped because we are behind.
#[derive(Default)]
struct Behind(Notify);

impl Observer for Behind {
    fn dropped(&self, drop: &Discarded) {
        if drop.reason == DropReason::Behind {
            self.0.notify_one();
        }
    }
}

fn call_to(callee: SocketAddr) -> OutgoingInvite {
    let uri = Uri::sip(Some("callee"), callee.ip(), Some(callee.port()));
    OutgoingInvite {
        uri: uri.clone(),
        hops: Vec::new(),
        from: NameAddr::new("sip:caller@example.org".parse().unwrap()),
        to: NameAddr::new(uri),
        call_id: None,
        cseq: 1,
        headers: Headers::new(),
        body: Some(Body::sdp("v=0\r\n")),
        options: CallOptions::default(),
    }
}

/// New requests from a hundred sources, as fast as they go.
fn flood(ours: SocketAddr, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let sockets: Vec<_> =
            (1..=100).map(|n| BlockingSocket::bind(format!("127.0.1.{n}:0")).unwrap()).collect();
        for (n, socket) in sockets.iter().cycle().enumerate() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            // What does not fit is lost, as in any flood.
            let _ = socket.send_to(options(&format!("f{n}")).as_bytes(), ours);
        }
    })
}

#[tokio::test]
async fn a_banned_source_gets_no_stun_answer_and_a_fast_one_as_many_as_its_rate() {
    let guard = GuardConfig { keep_alives: Rate { per_second: 1, burst: 3 }, ..denying("127.0.0.2") };
    let (endpoint, _incoming, ours) = guarded(guard).await;
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    let denied = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let fast = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..10 {
        denied.send_to(&stun, ours).await.unwrap();
    }
    for _ in 0..4 {
        fast.send_to(&stun, ours).await.unwrap();
    }
    while endpoint.dropped().of(DropReason::RateKeepAlive) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(endpoint.dropped().of(DropReason::Banned), 10);
    let mut buffer = [0; 64];
    for _ in 0..3 {
        fast.recv(&mut buffer).await.unwrap();
    }
    // Loopback delivers in order, so an answer to the denied source would be there by now.
    assert!(fast.try_recv(&mut buffer).is_err() && denied.try_recv(&mut buffer).is_err());
}

#[tokio::test]
async fn a_flood_that_is_dropped_pushes_no_honest_call_out_of_the_traces() {
    let traces = Arc::new(Traces::new(TraceLimits::default()));
    let config = EngineConfig { guard: Some(denying("127.0.0.2")), ..EngineConfig::default() };
    let builder = Endpoint::builder().udp(LOOPBACK).observe(traces.clone()).config(config);
    let (endpoint, mut incoming) = builder.bind().await.unwrap();
    let ours = endpoint.listeners()[0].addr;
    tokio::spawn(async move { while incoming.next().await.is_some() {} });
    let (honest, bad) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.2:0").await.unwrap());
    let mut buffer = [0; 2_048];
    honest.send_to(options("honest").as_bytes(), ours).await.unwrap();
    honest.recv(&mut buffer).await.unwrap();
    for n in 0..300 {
        bad.send_to(options(&format!("bad{n}")).as_bytes(), ours).await.unwrap();
        while endpoint.dropped().of(DropReason::Banned) <= n {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(traces.calls(), ["honest"]);
    assert_eq!(traces.of("honest").len(), 2, "request and answer");
}
