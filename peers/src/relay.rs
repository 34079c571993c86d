//! A UDP path between a peer and a server that loses, repeats, reorders and delays.
//!
//! Peers send to the relay's address; each gets a socket of its own towards the server, so that the server sees
//! one source per peer, and what comes back to that socket goes to that peer. What happens to a datagram is drawn
//! from a seeded generator per direction, or fixed for the first ones; all of it is counted.

use std::collections::{BinaryHeap, HashMap};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a reader looks whether the relay is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// The state of one direction of the path. The default passes all, at once, once.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The share of datagrams that never arrive, 0 to 1.
    pub loss: f64,
    /// The share that arrives twice.
    pub duplicate: f64,
    /// The share that is held for [`Faults::held`], so that later ones overtake it.
    pub reorder: f64,
    /// How long a reordered datagram is held.
    pub held: Duration,
    /// The time every datagram takes.
    pub delay: Duration,
    /// How many of the first are lost, whatever the shares say.
    pub lose_first: u64,
}

impl Faults {
    /// A bad path: `loss` and half of that twice and half of that 45 ms late, over a delay of 10 ms.
    pub fn rough(loss: f64) -> Self {
        let held = Duration::from_millis(45);
        let delay = Duration::from_millis(10);
        Self { loss, duplicate: loss / 2.0, reorder: loss / 2.0, held, delay, lose_first: 0 }
    }

    /// Loses the first `count` and nothing else.
    pub fn losing_first(count: u64) -> Self {
        Self { lose_first: count, ..Self::default() }
    }

    /// The waits after which copies of the datagram go out; none when it is lost.
    fn draw(&self, counts: &mut Counts, random: &mut fastrand::Rng) -> Vec<Duration> {
        counts.received += 1;
        let mut happens = |share: f64| random.f64() < share;
        let (lost, twice, late) = (happens(self.loss), happens(self.duplicate), happens(self.reorder));
        if lost || counts.received <= self.lose_first {
            counts.lost += 1;
            return Vec::new();
        }
        let wait = self.delay + if late { self.held } else { Duration::ZERO };
        counts.reordered += u64::from(late);
        counts.duplicated += u64::from(twice);
        if twice { vec![wait, wait] } else { vec![wait] }
    }
}

/// What happened in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams that came in.
    pub received: u64,
    /// Of those, dropped.
    pub lost: u64,
    /// Of those passed, sent twice.
    pub duplicated: u64,
    /// Of those passed, held back.
    pub reordered: u64,
}

/// A running relay; it ends with this value.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Starts one in front of `server`, on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When no socket can be had.
    pub fn start(server: SocketAddr, to_server: Faults, to_peer: Faults, seed: u64) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), server, to_server, to_peer, seed)
    }

    /// The same at an address that had to be known before.
    ///
    /// # Panics
    /// When it is taken.
    pub fn at(front: SocketAddr, server: SocketAddr, to_server: Faults, to_peer: Faults, seed: u64) -> Self {
        let front = Arc::new(socket_at(front));
        let address = front.local_addr().expect("a bound socket has an address");
        let lanes = [Lane::new(to_server, seed), Lane::new(to_peer, !seed)];
        let shared = Arc::new(Shared { server, lanes, ..Shared::default() });
        let (reader, sender) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || reader.read_peers(&front)),
            std::thread::spawn(move || sender.send_when_due()),
        ];
        Self { address, shared, threads }
    }

    /// Where peers send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happened on the way to the server.
    pub fn to_server(&self) -> Counts {
        lock(&self.shared.lanes[TO_SERVER].state).counts
    }

    /// What happened on the way back.
    pub fn to_peer(&self) -> Counts {
        lock(&self.shared.lanes[TO_PEER].state).counts
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

const TO_SERVER: usize = 0;
const TO_PEER: usize = 1;

#[derive(Debug)]
struct Lane {
    faults: Faults,
    state: Mutex<LaneState>,
}

#[derive(Debug)]
struct LaneState {
    counts: Counts,
    random: fastrand::Rng,
}

impl Lane {
    fn new(faults: Faults, seed: u64) -> Self {
        let state = LaneState { counts: Counts::default(), random: fastrand::Rng::with_seed(seed) };
        Self { faults, state: Mutex::new(state) }
    }

    fn draw(&self) -> Vec<Duration> {
        let LaneState { counts, random } = &mut *lock(&self.state);
        self.faults.draw(counts, random)
    }
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    lanes: [Lane; 2],
    due: Mutex<BinaryHeap<Due>>,
    changed: Condvar,
    stopped: AtomicBool,
}

impl Default for Shared {
    fn default() -> Self {
        let lanes = [Lane::new(Faults::default(), 0), Lane::new(Faults::default(), 0)];
        let server = (Ipv4Addr::LOCALHOST, 0).into();
        Self {
            server,
            lanes,
            due: Mutex::default(),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
        }
    }
}

impl Shared {
    /// Gives each new peer a socket towards the server and a thread that reads the way back.
    fn read_peers(self: Arc<Self>, front: &Arc<UdpSocket>) {
        let mut peers: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut readers = Vec::new();
        self.read(front, |from, bytes| {
            let back = peers.entry(from).or_insert_with(|| {
                let back = Arc::new(socket());
                let (shared, front, source) = (Arc::clone(&self), Arc::clone(front), Arc::clone(&back));
                readers.push(std::thread::spawn(move || {
                    shared.read(&source, |_, bytes| shared.pass(TO_PEER, &front, from, bytes));
                }));
                back
            });
            self.pass(TO_SERVER, back, self.server, bytes);
        });
        for reader in readers {
            // Its panic has been printed.
            let _ = reader.join();
        }
    }

    fn read(&self, from: &UdpSocket, mut then: impl FnMut(SocketAddr, &[u8])) {
        let mut buffer = vec![0; 65_536];
        while !self.stopped.load(Ordering::Relaxed) {
            // Errors are the look at `stopped`, or ICMP of a peer that has gone.
            if let Ok((length, source)) = from.recv_from(&mut buffer) {
                then(source, &buffer[..length]);
            }
        }
    }

    fn pass(&self, lane: usize, via: &Arc<UdpSocket>, to: SocketAddr, bytes: &[u8]) {
        let now = Instant::now();
        for wait in self.lanes[lane].draw() {
            let due = Due { at: now + wait, via: Arc::clone(via), to, bytes: bytes.to_vec() };
            lock(&self.due).push(due);
        }
        self.changed.notify_all();
    }

    fn send_when_due(&self) {
        let mut due = lock(&self.due);
        while !self.stopped.load(Ordering::Relaxed) {
            let now = Instant::now();
            let wait = due.peek().map_or(LOOK, |next| next.at.saturating_duration_since(now));
            if wait.is_zero() {
                let next = due.pop().expect("the heap was looked at");
                // A refused datagram is a lost one, as on any network.
                let _ = next.via.send_to(&next.bytes, next.to);
            } else {
                due = self.changed.wait_timeout(due, wait).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

/// A datagram on its way; the heap gives the earliest first.
#[derive(Debug)]
struct Due {
    at: Instant,
    via: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Vec<u8>,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

fn socket() -> UdpSocket {
    socket_at((Ipv4Addr::LOCALHOST, 0).into())
}

fn socket_at(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("a free port");
    socket.set_read_timeout(Some(LOOK)).expect("a non-zero timeout");
    socket
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(faults: &Faults, seed: u64) -> (Counts, Vec<usize>) {
        let mut counts = Counts::default();
        let mut random = fastrand::Rng::with_seed(seed);
        let copies = (0..2000).map(|_| faults.draw(&mut counts, &mut random).len()).collect();
        (counts, copies)
    }

    #[test]
    fn a_seed_repeats_and_the_shares_are_kept() {
        let faults = Faults::rough(0.1);
        assert_eq!(drawn(&faults, 3), drawn(&faults, 3));
        assert_ne!(drawn(&faults, 3), drawn(&faults, 4));
        let (counts, _) = drawn(&faults, 3);
        assert!((150..250).contains(&counts.lost), "{counts:?}");
        assert!((60..140).contains(&counts.duplicated), "{counts:?}");
        assert!((60..140).contains(&counts.reordered), "{counts:?}");
    }

    #[test]
    fn no_faults_pass_all() {
        let (counts, copies) = drawn(&Faults::default(), 1);
        assert_eq!(counts, Counts { received: 2000, ..Counts::default() });
        assert!(copies.iter().all(|&copies| copies == 1));
    }

    #[test]
    fn datagrams_pass_both_ways_per_peer_and_the_first_is_lost() {
        let server = socket();
        let to_server = Faults::losing_first(1);
        let relay = Relay::start(server.local_addr().unwrap(), to_server, Faults::default(), 1);
        let (first, second) = (socket(), socket());
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for peer in [&first, &second] {
            peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        let mut buffer = [0; 16];
        first.send_to(b"lost", relay.address()).unwrap();
        crate::wait::until("the first loss", Duration::from_secs(5), || {
            (relay.to_server().lost == 1).then_some(())
        });
        for (peer, word) in [(&first, b"one"), (&second, b"two")] {
            peer.send_to(word, relay.address()).unwrap();
            let (length, source) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..length], source).unwrap();
            let (length, _) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], word);
        }
        assert_eq!(relay.to_server(), Counts { received: 3, lost: 1, ..Counts::default() });
        assert_eq!(relay.to_peer(), Counts { received: 2, ..Counts::default() });
    }

    #[test]
    fn a_held_datagram_is_overtaken() {
        let server = socket();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let to_server = Faults { reorder: 0.5, held: Duration::from_millis(200), ..Faults::default() };
        let relay = Relay::start(server.local_addr().unwrap(), to_server, Faults::default(), 5);
        let peer = socket();
        let mut got = Vec::new();
        for number in 0..20u8 {
            peer.send_to(&[number], relay.address()).unwrap();
        }
        let mut buffer = [0; 16];
        while got.len() < 20 {
            server.recv_from(&mut buffer).unwrap();
            got.push(buffer[0]);
        }
        assert!(!got.is_sorted(), "{got:?}");
        assert!(relay.to_server().reordered > 0);
    }
}
