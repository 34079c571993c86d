//! Many calls with audio both ways, over real sockets: what a call costs, and whether any packet is lost.
//!
//! ```text
//! cargo build --release --bins
//! cargo run --release -p iqra-peers --bin calls -- soak 500 600      # calls, seconds
//! cargo run --release -p iqra-peers --bin calls -- compare 500 10 5  # calls, seconds, rounds
//! ```
//! `soak` calls the program `echo` that often, each call with a packet of PCMU every 20 ms each way, and prints a line
//! per tenth: packets sent and returned, holes in the returned stream, processor time and resident memory of `echo`. At
//! the end: how far the packets of `echo` came from their beat of 20 ms (by the kernel's time of arrival), what the
//! kernel dropped at any of its ports, and what it holds when all have hung up. Exit code 0 when nothing was dropped or
//! missing, nothing is left and memory was flat (at most a tenth above the first tenth's).
//!
//! `compare` takes turns between `echo`, which does the whole work of a call (jitter buffer, decode, conversation,
//! encode), and a bare echo of datagrams on as many sockets, event-driven, and prints the processor time of each per
//! call, and the median ratio of the rounds.
//!
//! The generator spreads the calls over the 20 ms, a group per millisecond, and reads a call's socket just before it
//! sends: so it wakes a thousand times a second whatever the number of calls.
#![allow(clippy::print_stdout, clippy::print_stderr)] // What it prints is what it is for.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use iqra_peers::caller::Caller;
use iqra_peers::g711::Law;
use iqra_peers::kernel_time::Arrivals;
use iqra_peers::ours::Server;
use iqra_peers::ports;
use tokio::net::UdpSocket as AsyncUdpSocket;

const PTIME: Duration = Duration::from_millis(20);
/// Groups of calls within a packet time.
const GROUPS: usize = 20;
/// What the streams need to settle before they are measured.
const SETTLE: Duration = Duration::from_secs(2);
/// Lines of a soak.
const LOOKS: u32 = 10;
/// How much memory may grow after the first tenth, in percent.
const GROWTH: u64 = 10;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u32> = words.iter().skip(1).filter_map(|word| word.parse().ok()).collect();
    match (words.first().map(String::as_str), &numbers[..]) {
        (Some("soak"), &[calls, seconds]) if calls > 0 && seconds > 0 => soak(calls, seconds),
        (Some("compare"), &[calls, seconds, rounds]) if calls > 0 && seconds > 0 && rounds > 0 => {
            compare(calls, seconds, rounds)
        }
        (Some("bare"), &[sockets]) => bare(sockets),
        _ => {
            eprintln!("usage: calls soak CALLS SECONDS | calls compare CALLS SECONDS ROUNDS");
            ExitCode::from(2)
        }
    }
}

fn soak(calls: u32, seconds: u32) -> ExitCode {
    let server = Server::echo();
    let mut load = Load::new(calls);
    let mut callers = load.call(&server);
    let ports: Vec<u16> = load.streams.iter().map(|stream| stream.remote.port()).collect();
    load.run(SETTLE);
    load.begin();
    let (pid, mut memory) = (server.pid(), Vec::new());
    println!(
        "{:>8} {:>10} {:>10} {:>7} {:>12} {:>12}",
        "seconds", "sent", "returned", "holes", "% of a core", "KiB"
    );
    let began = Instant::now();
    for _ in 0..LOOKS {
        let (before, start) = (processor_time(pid), Instant::now());
        load.run(Duration::from_secs(seconds.into()) / LOOKS);
        let share = (processor_time(pid) - before).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
        memory.push(resident(pid));
        let (elapsed, counts) = (began.elapsed().as_secs_f64(), load.counts());
        let (sent, returned, holes) = (counts.sent, counts.returned, counts.holes);
        println!(
            "{elapsed:>8.1} {sent:>10} {returned:>10} {holes:>7} {share:>12.1} {:>12}",
            memory[memory.len() - 1]
        );
    }
    let counts = load.counts();
    let dropped: u64 = ports.iter().map(|&port| ports::dropped(port)).sum();
    callers.iter_mut().for_each(Caller::bye);
    server.assert_nothing_left();
    println!("{}", load.beat());
    println!("datagrams that the kernel dropped: {dropped} at echo, {} at the generator", load.dropped());
    let flat = memory.iter().max() <= Some(&(memory[0] * (100 + GROWTH) / 100));
    println!("memory flat: {flat}, nothing left: true");
    // A packet or two of each call are on their way.
    let all_back = counts.returned + u64::from(calls) * 3 >= counts.sent;
    if flat && dropped == 0 && counts.holes == 0 && all_back { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn compare(calls: u32, seconds: u32, rounds: u32) -> ExitCode {
    let (mut ratios, time) = (Vec::new(), Duration::from_secs(seconds.into()));
    println!("{:>6} {:>22} {:>22} {:>7}", "round", "echo, % per call", "bare, % per call", "ratio");
    for round in 1..=rounds {
        let (whole, floor) = if round % 2 == 0 {
            let floor = of_bare(calls, time);
            (of_echo(calls, time), floor)
        } else {
            (of_echo(calls, time), of_bare(calls, time))
        };
        ratios.push(whole / floor);
        println!("{round:>6} {whole:>22.4} {floor:>22.4} {:>7.2}", whole / floor);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio: {:.2}", ratios[ratios.len() / 2]);
    ExitCode::SUCCESS
}

/// Percent of a core for each call.
fn of_echo(calls: u32, time: Duration) -> f64 {
    let server = Server::echo();
    let mut load = Load::new(calls);
    let mut callers = load.call(&server);
    let share = load.measured(server.pid(), time);
    callers.iter_mut().for_each(Caller::bye);
    server.assert_nothing_left();
    share
}

fn of_bare(calls: u32, time: Duration) -> f64 {
    let mut server = Bare::start(calls);
    let mut load = Load::new(calls);
    for (stream, port) in load.streams.iter_mut().zip(&server.ports) {
        stream.remote.set_port(*port);
    }
    let share = load.measured(server.child.id(), time);
    server.stop();
    share
}

/// The other program of a comparison: this one again, as `bare`.
struct Bare {
    child: Child,
    ports: Vec<u16>,
}

impl Bare {
    fn start(sockets: u32) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(program)
            .args(["bare", &sockets.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("it tells its ports");
        let ports = line.split_whitespace().map(|word| word.parse().expect("a port")).collect();
        Self { child, ports }
    }

    /// Its input ends, and so does it.
    fn stop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().expect("it ends");
    }
}

/// Sends each datagram back, a task per socket, on one thread, until the input ends.
fn bare(sockets: u32) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = runtime.block_on(async {
        let mut ports = Vec::new();
        for _ in 0..sockets {
            let socket = AsyncUdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
            ports.push(socket.local_addr().expect("bound").port().to_string());
            tokio::spawn(async move {
                let mut datagram = [0; 2_048];
                while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
                    let _ = socket.send_to(&datagram[..length], from).await;
                }
            });
        }
        ports
    });
    println!("{}", local.join(" "));
    std::io::stdout().flush().expect("the other end reads");
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        let _ = ended.send(());
    });
    let _ = runtime.block_on(end);
    ExitCode::SUCCESS
}

/// The audio of one call, as its caller sends and receives it.
struct Stream {
    socket: UdpSocket,
    remote: SocketAddr,
    next: u16,
    last_heard: Option<(u16, SystemTime)>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    sent: u64,
    returned: u64,
    /// Packets that are missing between two that came.
    holes: u64,
}

/// All calls of a run.
struct Load {
    streams: Vec<Stream>,
    arrivals: Arrivals,
    counts: Counts,
    /// How far packets came from 20 ms after the one before, in microseconds.
    deviations: Vec<u32>,
    /// The longest that a group was sent late.
    late: Duration,
}

impl Load {
    fn new(calls: u32) -> Self {
        let stream = |_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            socket.set_nonblocking(true).expect("a socket may");
            Arrivals::wanted(&socket);
            let remote = (Ipv4Addr::LOCALHOST, 9).into();
            Stream { socket, remote, next: 0, last_heard: None }
        };
        let streams = (0..calls).map(stream).collect();
        let (arrivals, counts) = (Arrivals::default(), Counts::default());
        Self { streams, arrivals, counts, deviations: Vec::new(), late: Duration::ZERO }
    }

    /// Sets every call up.
    fn call(&mut self, server: &Server) -> Vec<Caller> {
        let callers = self.streams.iter_mut().map(|stream| {
            let port = stream.socket.local_addr().expect("bound").port();
            let mut caller = Caller::udp(server.backend()).offering(port, &[Law::Mu]);
            caller.invite(&format!("sip:echo@{}", server.backend()));
            stream.remote = caller.answered().audio_address();
            caller
        });
        callers.collect()
    }

    /// Percent of a core that a program takes for each call.
    fn measured(&mut self, pid: u32, time: Duration) -> f64 {
        self.run(SETTLE);
        self.begin();
        let (before, start) = (processor_time(pid), Instant::now());
        self.run(time);
        let share = (processor_time(pid) - before).as_secs_f64() / start.elapsed().as_secs_f64();
        let Counts { sent, returned, .. } = self.counts;
        assert!(returned * 100 >= sent * 97, "only {returned} of {sent} packets came back");
        share * 100.0 / self.streams.len() as f64
    }

    /// Counts from here on.
    fn begin(&mut self) {
        self.counts = Counts::default();
        self.deviations.clear();
        self.late = Duration::ZERO;
    }

    fn counts(&self) -> Counts {
        self.counts
    }

    fn run(&mut self, time: Duration) {
        let start = Instant::now();
        let (step, count) = (PTIME / GROUPS as u32, self.streams.len());
        for number in 0.. {
            let due = step * number;
            if due >= time {
                return;
            }
            if let Some(early) = due.checked_sub(start.elapsed()) {
                std::thread::sleep(early);
            }
            self.late = self.late.max(start.elapsed().saturating_sub(due));
            let group = number as usize % GROUPS;
            for index in (group..count).step_by(GROUPS) {
                self.exchange(index);
            }
        }
    }

    /// Reads what came for a call and sends its next packet.
    fn exchange(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        let mut datagram = [0; 2_048];
        while let Some((length, at)) = self.arrivals.next(&stream.socket, &mut datagram) {
            if length < 12 || datagram[1] & 0x7f != 0 {
                continue;
            }
            let sequence = u16::from_be_bytes([datagram[2], datagram[3]]);
            self.counts.returned += 1;
            if let Some((before, then)) = stream.last_heard.replace((sequence, at)) {
                let step = sequence.wrapping_sub(before);
                self.counts.holes += u64::from(step.saturating_sub(1));
                let gap = at.duration_since(then).unwrap_or_default();
                self.deviations.push(gap.abs_diff(PTIME * u32::from(step)).as_micros() as u32);
            }
        }
        let mut packet = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7].iter().copied().chain([0x55; 160]);
        let mut octets: [u8; 172] = std::array::from_fn(|_| packet.next().unwrap_or_default());
        octets[2..4].copy_from_slice(&stream.next.to_be_bytes());
        octets[4..8].copy_from_slice(&(u32::from(stream.next) * 160).to_be_bytes());
        octets[8..12].copy_from_slice(&(index as u32).to_be_bytes());
        // What finds a port closed is a packet that does not come back.
        let _ = stream.socket.send_to(&octets, stream.remote);
        stream.next = stream.next.wrapping_add(1);
        self.counts.sent += 1;
    }

    /// How steady the send clock of the other side is.
    fn beat(&mut self) -> String {
        self.deviations.sort_unstable();
        let at = |share: f64| {
            let index = (self.deviations.len() as f64 * share) as usize;
            f64::from(self.deviations.get(index).copied().unwrap_or_default()) / 1_000.0
        };
        let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
        let most = f64::from(self.deviations.last().copied().unwrap_or_default()) / 1_000.0;
        let late = self.late.as_secs_f64() * 1_000.0;
        format!(
            "off the beat of 20 ms: p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, most {most:.2} ms; \
             the generator was {late:.1} ms late at most"
        )
    }

    fn dropped(&self) -> u64 {
        let port = |stream: &Stream| stream.socket.local_addr().expect("bound").port();
        self.streams.iter().map(|stream| ports::dropped(port(stream))).sum()
    }
}

/// Time that all threads of a program have run, as Linux tells it in nanoseconds.
fn processor_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the program runs");
    let run = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(run.sum())
}

/// Resident memory of a program in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("Linux tells VmRSS")
}
