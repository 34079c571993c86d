//! Free ports for the programs that want theirs told beforehand.
//!
//! Taken below the range from which the kernel hands out ports by itself (`ip_local_port_range`, 32768 and up),
//! so that no outgoing connection of another test takes a port between the look and its use, and from one cursor
//! per process, so that tests in parallel never get the same; processes in parallel begin far from each other.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Mutex;

const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;

/// The first of `count` consecutive ports, even, free for UDP and TCP on 127.0.0.1.
///
/// # Panics
/// When there are none in 10000..32000.
pub fn free(count: u16) -> u16 {
    static CURSOR: Mutex<Option<u16>> = Mutex::new(None);
    let mut cursor = CURSOR.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut next =
        cursor.unwrap_or_else(|| FIRST + (std::process::id().wrapping_mul(7_919) % 20_000) as u16 / 2 * 2);
    for _ in 0..LAST - FIRST {
        if next + count > LAST {
            next = FIRST;
        }
        if (next..next + count).all(is_free) {
            *cursor = Some((next + count).next_multiple_of(2));
            return next;
        }
        next += 2;
    }
    panic!("no {count} consecutive free ports between {FIRST} and {LAST}")
}

/// Whether a program has bound a UDP port or listens on a TCP port of that number, without touching it: a trial
/// bind could get in the way of the program that is about to take it.
pub fn is_taken(port: u16) -> bool {
    ["udp", "udp6", "tcp", "tcp6"].iter().any(|table| {
        let table = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        let local = format!(":{port:04X}");
        table.lines().filter_map(|line| line.split_whitespace().nth(1)).any(|word| word.ends_with(&local))
    })
}

/// How many datagrams the kernel has dropped at a UDP port because its program did not read them.
pub fn dropped(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let local = format!(":{port:04X}");
    let row =
        table.lines().find(|line| line.split_whitespace().nth(1).is_some_and(|word| word.ends_with(&local)));
    row.and_then(|row| row.split_whitespace().last()?.parse().ok()).unwrap_or(0)
}

fn is_free(port: u16) -> bool {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_gives_the_same_twice_nor_one_in_use() {
        let first = free(4);
        let held = UdpSocket::bind((Ipv4Addr::LOCALHOST, first + 4)).unwrap();
        let second = free(2);
        assert_eq!(first % 2, 0);
        assert!(is_taken(first + 4) && !is_taken(first));
        assert!(second > first + 4 || second < first, "{second} collides with {first}");
        drop(held);
    }

    #[test]
    fn unread_datagrams_are_counted_once_the_queue_is_full() {
        let unread = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = unread.local_addr().unwrap().port();
        assert_eq!(dropped(port), 0);
        for _ in 0..2_000 {
            unread.send_to(&[0; 1_000], (Ipv4Addr::LOCALHOST, port)).unwrap();
        }
        assert!((1_000..2_000).contains(&dropped(port)), "{}", dropped(port));
    }
}
