//! What a call costs on a media thread: so many G.711 calls over loopback, each an echo, and the CPU of the thread and of
//! the conversations while they talk (Linux).
//!
//! `cargo run --release -p iqra-media --example driver_load -- [calls] [seconds] [tick in ms, or events]`, by default
//! `500 10 5`. The far ends are a thread of this program; its CPU is not counted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use iqra_media::codec::g711::PCMU;
use iqra_media::conversation::{AudioFormat, Direction, Echo, Formats, run};
use iqra_media::net::{Leg, MediaConfig, MediaDriver, PortReserves, Reading};
use iqra_media::rtp::packet::Header;
use iqra_media::sdp::Negotiated;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The calls send their packets in so many groups, one each millisecond.
const GROUPS: usize = 20;

struct Asked {
    calls: usize,
    seconds: u64,
    reading: Reading,
}

fn asked() -> Asked {
    let mut args = std::env::args().skip(1);
    let calls = args.next().map_or(500, |calls| calls.parse().expect("a number of calls"));
    let seconds = args.next().map_or(10, |seconds| seconds.parse().expect("a number of seconds"));
    let reading = match args.next().as_deref() {
        Some("events") => Reading::Events,
        tick => {
            Reading::Tick(Duration::from_millis(tick.map_or(5, |tick| tick.parse().expect("ms or events"))))
        }
    };
    Asked { calls, seconds, reading }
}

/// All far ends on one socket: each call gets a packet every 20 ms.
fn talk(socket: &UdpSocket, ports: &[SocketAddr], stop: &AtomicBool, heard: &AtomicU64) {
    let mut packet = [0x55; 172];
    let mut reply = [0; 2_048];
    let mut due = Instant::now();
    for beat in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let sequence = (beat / GROUPS) as u16;
        let header = Header {
            payload_type: 0,
            marker: false,
            sequence,
            timestamp: u32::from(sequence) * 160,
            ssrc: 7,
        };
        header.write(&[0x55; 160], &mut packet).expect("it fits");
        for port in ports.iter().skip(beat % GROUPS).step_by(GROUPS) {
            let _ = socket.send_to(&packet, port);
        }
        while socket.recv_from(&mut reply).is_ok() {
            heard.fetch_add(1, Ordering::Relaxed);
        }
        due += Duration::from_millis(1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// User and system time of this process's threads of this name, in hundredths of a second.
fn cpu_of(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    let spent = |stat: String| {
        let (head, tail) = stat.rsplit_once(") ")?;
        let fields: Vec<_> = tail.split(' ').collect();
        let named = head.split_once('(')?.1.starts_with(name);
        named.then(|| fields[11].parse::<u64>().unwrap_or(0) + fields[12].parse::<u64>().unwrap_or(0))
    };
    stats.filter_map(spent).sum()
}

#[allow(clippy::print_stdout)] // what it is for
fn main() {
    let Asked { calls, seconds, reading } = asked();
    let config = MediaConfig {
        ports: 20_000..=40_000,
        reserves: PortReserves { inbound_percent: 0, outbound_percent: 0 },
        bind: LOOPBACK,
        reading,
        ..MediaConfig::default()
    };
    let driver = MediaDriver::start(config).expect("loopback is there");
    let socket = UdpSocket::bind((LOOPBACK, 0)).expect("a port is free");
    socket.set_nonblocking(true).expect("a socket can be");
    let far = socket.local_addr().expect("it is bound");
    let conversations = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("conversations")
        .enable_time()
        .build()
        .expect("a runtime");
    let mut ports = Vec::new();
    let legs: Vec<Leg> = (0..calls)
        .map(|_| {
            let port = driver.reserve(Direction::Inbound).expect("twenty thousand ports");
            ports.push(port.local_addr());
            let formats = Formats::both(AudioFormat::HZ_16000);
            let (line, leg) = driver.open(port, Negotiated::new(PCMU, far), formats).expect("PCMU is there");
            conversations.spawn(run(Box::new(Echo::default()), line));
            leg
        })
        .collect();
    let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let talking = std::thread::spawn({
        let (stop, heard) = (stop.clone(), heard.clone());
        move || talk(&socket, &ports, &stop, &heard)
    });
    std::thread::sleep(Duration::from_secs(2));
    let names = ["iqra-media", "conversations"];
    let (before, heard_before) = (names.map(cpu_of), heard.load(Ordering::Relaxed));
    std::thread::sleep(Duration::from_secs(seconds));
    let spent: Vec<_> = names.iter().zip(before).map(|(name, before)| cpu_of(name) - before).collect();
    let came = heard.load(Ordering::Relaxed) - heard_before;
    let load = driver.load();
    let jitter = legs.iter().map(|leg| leg.report().jitter).max().unwrap_or_default();
    stop.store(true, Ordering::Relaxed);
    talking.join().expect("the far ends do not panic");
    let per_call = |hundredths: u64| hundredths as f64 / seconds as f64 / calls.max(1) as f64;
    println!("{calls} calls, {reading:?}");
    println!("media thread: {:.4} % of a core per call", per_call(spent[0]));
    println!("conversations: {:.4} % of a core per call", per_call(spent[1]));
    println!(
        "packets back: {:.2} % of those due",
        came as f64 / (calls as u64 * seconds * 50).max(1) as f64 * 100.0
    );
    println!("busy {:.0} %, latest round {:?}, most jitter {jitter:?}", load.busy * 100.0, load.late);
}
