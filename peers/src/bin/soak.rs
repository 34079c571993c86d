//! A soak of the signalling: many transactions over a path that loses, then nothing may be left.
//!
//! Run: `cargo run --release -p iqra-peers --bin soak -- udp 1000000` (or `tcp`, `tls`). Two endpoints in this process
//! exchange OPTIONS and calls (INVITE, ACK, BYE) over loopback. On the way, 1 datagram in 100 is lost each way, 1 in
//! 200 comes twice and 1 in 200 late; streams are cut after some megabytes. T1 is 50 ms and T4 1 s, so that what is
//! finished is forgotten after 3.2 s at most and what is held levels off within the first twentieth.
//!
//! The work is done twice in one process: what the first round needs the second has to do with.
//!
//! Prints a line per twentieth of each round: transactions, those that found no answer (each was told so), what both
//! endpoints hold, resident memory; then the peaks of both rounds, and how much memory stood behind one transaction or
//! dialog that is held. Exit code 0 when every transaction was accounted for, memory was flat (the peak of the second
//! round at most a tenth above that of the first, or above its share where more was held at a time) and, at the end,
//! both endpoints held nothing.
#![allow(clippy::print_stdout, clippy::print_stderr)] // What it prints is what it is for.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use iqra_peers::endpoint::{SDP, invite, request};
use iqra_peers::pki::Pki;
use iqra_peers::ports;
use iqra_peers::relay::{Faults, Relay};
use iqra_sip::event::Reply;
use iqra_sip::net::{
    Answer, Bind, Call, CallEvent, Counts, Endpoint, Error, Incoming, IncomingRequest, NetConfig,
    OutgoingEvent,
};
use iqra_sip::{EngineConfig, Headers, Method, StatusCode, Timings, Transport, Uri};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

/// Callers at work at the same time.
const CALLERS: u64 = 200;

/// A call whose BYE got lost with its connection is ended by the called side.
const LONGEST_CALL: Duration = Duration::from_secs(20);

/// After how many octets a stream is cut, at least and at most.
const CUT: std::ops::Range<u64> = 2 << 20..20 << 20;

/// How long what is finished may take to be forgotten.
const FORGOTTEN: Duration = Duration::from_secs(90);

/// How often the work is done; the first time fills what later times use again.
const ROUNDS: u64 = 2;

/// Looks at each round.
const LOOKS: u64 = 20;

/// How much the peak of the memory may exceed that of the round before, in percent.
const GROWTH: u64 = 10;

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let transport = args.next().and_then(|name| transport(&name));
    let wanted = args.next().map(|count| count.parse());
    let (Some(transport), Some(Ok(wanted))) = (transport, wanted) else {
        eprintln!("usage: soak udp|tcp|tls TRANSACTIONS");
        return ExitCode::from(2);
    };
    if soak(transport, wanted).await { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn transport(name: &str) -> Option<Transport> {
    [Transport::Udp, Transport::Tcp, Transport::Tls]
        .into_iter()
        .find(|one| one.as_str().eq_ignore_ascii_case(name))
}

/// What has been done so far.
#[derive(Default)]
struct Done {
    begun: AtomicU64,
    answered: AtomicU64,
    unanswered: AtomicU64,
}

impl Done {
    /// Runs one transaction and counts how it ended.
    async fn one<T>(&self, transaction: impl Future<Output = Option<T>>) -> Option<T> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let outcome = transaction.await;
        let counter = if outcome.is_some() { &self.answered } else { &self.unanswered };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    fn ended(&self) -> u64 {
        self.answered.load(Ordering::Relaxed) + self.unanswered.load(Ordering::Relaxed)
    }
}

/// Whether it went well.
async fn soak(transport: Transport, wanted: u64) -> bool {
    let pki = Pki::new();
    let path = ports::free(2);
    let (front, server_at) = (loopback(path), loopback(path + 1));
    let server = Bind::new(transport, server_at).advertise(front);
    let (server, incoming) = bind(&pki, server).await;
    let (client, _none) = bind(&pki, Bind::new(transport, loopback(0))).await;
    let _lossy = match transport {
        Transport::Udp => Some(Relay::at(front, server_at, Faults::rough(0.01), Faults::rough(0.01), 1)),
        _ => {
            let listener = TcpListener::bind(front).await.expect("bound");
            tokio::spawn(cut_streams(listener, server_at));
            None
        }
    };
    tokio::spawn(serve(incoming));

    let done = Arc::new(Done::default());
    let target: Uri =
        format!("sip:soak@{front};transport={}", transport.as_str().to_lowercase()).parse().expect("a URI");
    for _ in 0..CALLERS {
        tokio::spawn(call_again_and_again(client.clone(), target.clone(), done.clone(), wanted * ROUNDS));
    }
    let flat = watch(&done, wanted, [&client, &server]).await;
    let empty = nothing_left([client, server]).await;
    println!("memory flat: {flat}, nothing left: {empty}");
    flat && empty
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

async fn bind(pki: &Pki, bind: Bind) -> (Endpoint, Incoming) {
    let timings = Timings {
        t1: Duration::from_millis(50),
        t2: Duration::from_millis(400),
        t4: Duration::from_secs(1),
        ..Timings::default()
    };
    let engine = EngineConfig { timings, ..EngineConfig::default() };
    let net = NetConfig { write_queue: 4_096, ..NetConfig::default() };
    let builder = Endpoint::builder().listen(bind).tls_config(pki.open_endpoint());
    builder.config(engine).net(net).bind().await.expect("bound")
}

/// OPTIONS and a call, until enough has begun.
async fn call_again_and_again(client: Endpoint, to: Uri, done: Arc<Done>, wanted: u64) {
    while done.begun.load(Ordering::Relaxed) < wanted {
        done.one(asked(&client, &to)).await;
        if let Some(call) = done.one(answered(&client, &to)).await {
            done.one(async { call.hangup(Headers::new()).await.ok() }).await;
        }
    }
}

async fn asked(client: &Endpoint, to: &Uri) -> Option<()> {
    let answer = client.request(request(Method::Options, to.clone()), None).await.ok()?;
    (answer.status == StatusCode::OK).then_some(())
}

async fn answered(client: &Endpoint, to: &Uri) -> Option<Call> {
    let mut placed = client.invite(invite(to.clone())).await.ok()?;
    loop {
        match placed.next().await? {
            OutgoingEvent::Answered(call, _) => return Some(call),
            OutgoingEvent::Provisional { .. } => {}
            _ => return None,
        }
    }
}

/// Answers everything.
async fn serve(mut incoming: Incoming) {
    while let Some(asked) = incoming.next().await {
        match asked {
            IncomingRequest::Invite(invite) => {
                tokio::spawn(async move {
                    let call = invite.accept(Answer::sdp(SDP)).await?;
                    take(call).await
                });
            }
            IncomingRequest::Other(other) => other.respond(Reply::new(StatusCode::OK)),
        }
    }
}

/// Keeps a call until the caller hangs up, or as long as a call may last.
async fn take(mut call: Call) -> Result<(), Error> {
    let over = async { while !matches!(call.next().await, Some(CallEvent::Ended(_)) | None) {} };
    match tokio::time::timeout(LONGEST_CALL, over).await {
        Ok(()) => Ok(()),
        Err(_) => call.hangup(Headers::new()).await,
    }
}

/// Forwards streams, each until it has carried its share.
async fn cut_streams(listener: TcpListener, to: SocketAddr) {
    while let Ok((from_peer, _)) = listener.accept().await {
        tokio::spawn(async move {
            let Ok(to_server) = TcpStream::connect(to).await else { return };
            let ((peer_in, mut peer_out), (server_in, mut server_out)) =
                (from_peer.into_split(), to_server.into_split());
            let mut peer_in = peer_in.take(fastrand::u64(CUT));
            let mut server_in = server_in.take(fastrand::u64(CUT));
            tokio::select! {
                _ = tokio::io::copy(&mut peer_in, &mut server_out) => {}
                _ = tokio::io::copy(&mut server_in, &mut peer_out) => {}
            }
        });
    }
}

/// The most of a round.
#[derive(Default, Clone, Copy)]
struct Peak {
    held: usize,
    memory: u64,
}

impl Peak {
    /// Whether memory grew by no more than what was held, and a tenth.
    fn is_flat_after(&self, earlier: &Self) -> bool {
        let held = (self.held as u64).max(earlier.held as u64);
        let fair = earlier.memory * held / (earlier.held as u64).max(1);
        self.memory <= fair + fair * GROWTH / 100
    }
}

/// Prints a line per look, and tells whether the memory was flat.
async fn watch(done: &Done, wanted: u64, endpoints: [&Endpoint; 2]) -> bool {
    let (began, idle, mut peaks) = (Instant::now(), resident(), Vec::new());
    println!("   seconds transactions  unanswered       held resident_KiB");
    for round in 0..ROUNDS {
        let mut peak = Peak::default();
        for look in 1..=LOOKS {
            reached(done, wanted * round + wanted * look / LOOKS).await;
            let held: usize = endpoints.map(|endpoint| held(&endpoint.counts())).iter().sum();
            let (memory, lost) = (resident(), done.unanswered.load(Ordering::Relaxed));
            let (seconds, ended) = (began.elapsed().as_secs_f64(), done.ended());
            println!("{seconds:>10.1} {ended:>12} {lost:>11} {held:>10} {memory:>12}");
            peak = Peak { held: peak.held.max(held), memory: peak.memory.max(memory) };
        }
        let each =
            (peak.memory.saturating_sub(idle) * 1024).checked_div(peak.held as u64).unwrap_or_default();
        println!(
            "round {}: at most {} held and {} KiB resident, {each} octets for each that is held",
            round + 1,
            peak.held,
            peak.memory
        );
        peaks.push(peak);
    }
    peaks.windows(2).all(|pair| pair[1].is_flat_after(&pair[0]))
}

/// Waits until so many transactions have ended.
async fn reached(done: &Done, count: u64) {
    let mut look = tokio::time::interval(Duration::from_millis(50));
    while done.ended() < count {
        look.tick().await;
    }
}

/// Waits until both have forgotten everything, and shuts them down.
async fn nothing_left(endpoints: [Endpoint; 2]) -> bool {
    let forgotten = async {
        let mut look = tokio::time::interval(Duration::from_millis(200));
        while endpoints.iter().any(|endpoint| held(&endpoint.counts()) > 0) {
            look.tick().await;
        }
    };
    let forgotten = tokio::time::timeout(FORGOTTEN, forgotten).await.is_ok();
    let counts = endpoints.each_ref().map(Endpoint::counts);
    for endpoint in endpoints.clone() {
        endpoint.shutdown(Duration::from_secs(1)).await;
    }
    println!("at the end: {counts:?}, resident {} KiB", resident());
    forgotten && endpoints.iter().all(|endpoint| endpoint.counts() == Counts::default())
}

fn held(counts: &Counts) -> usize {
    counts.server_transactions + counts.client_transactions + counts.dialogs
}

/// Resident memory of this process in KiB, as Linux tells it.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("Linux tells VmRSS")
}
