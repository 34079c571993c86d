//! Nothing from the network panics either tier: random bytes, truncated messages, wrong lengths, a flood of
//! unknown methods. After each, a real call still goes through.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use iqra_peers::audio::{find_tone, tone};
use iqra_peers::caller::Caller;
use iqra_peers::g711::Law;
use iqra_peers::ours::{Server, Setup};
use iqra_peers::rtp::RtpPort;
use iqra_peers::sip_text::Text;
use iqra_peers::wait;

fn send_all(to: SocketAddr, packets: impl IntoIterator<Item = Vec<u8>>) {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port on loopback");
    for packet in packets {
        // The kernel may refuse when the receiver's queue is full: lost, like anywhere.
        let _ = socket.send_to(&packet, to);
    }
}

fn stream_all(to: SocketAddr, packets: impl IntoIterator<Item = Vec<u8>>) {
    for packet in packets {
        let mut stream = TcpStream::connect(to).expect("the server accepts connections");
        // The server may hang up on the first wrong byte.
        let _ = stream.write_all(&packet);
    }
}

/// Asserts that the program is up and serves: one call by sipp, then a clean end without a panic in its output.
fn still_serves(quickstart: Server) {
    let call = quickstart.sipp(quickstart.proxy(0), "redirected_call", Law::Mu, "p1");
    call.run().assert_all_succeeded();
    quickstart.assert_no_call_left();
    quickstart.stop();
}

fn random_packets(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut packet = || {
        let length = random.usize(0..1500);
        (0..length).map(|_| random.u8(..)).collect()
    };
    (0..count).map(|_| packet()).collect()
}

fn an_invite(quickstart: &Server) -> Vec<u8> {
    Caller::udp(quickstart.proxy(0)).invite_text(&quickstart.open_uri()).into_bytes()
}

#[test]
fn random_bytes() {
    let quickstart = Server::quickstart(&Setup::default());
    for (seed, to) in [(1, quickstart.proxy(0)), (2, quickstart.backend())] {
        send_all(to, random_packets(seed, 3_000));
    }
    for (seed, to) in [(3, quickstart.proxy_tcp()), (4, quickstart.backend_tcp())] {
        stream_all(to, random_packets(seed, 100));
    }
    still_serves(quickstart);
}

#[test]
fn an_invite_cut_at_every_byte() {
    let quickstart = Server::quickstart(&Setup::default());
    let invite = an_invite(&quickstart);
    let cuts = || (0..invite.len()).map(|end| invite[..end].to_vec());
    send_all(quickstart.proxy(0), cuts());
    send_all(quickstart.backend(), cuts());
    stream_all(quickstart.proxy_tcp(), cuts().step_by(9));
    stream_all(quickstart.backend_tcp(), cuts().step_by(9));
    still_serves(quickstart);
}

#[test]
fn an_invite_with_any_byte_changed() {
    let quickstart = Server::quickstart(&Setup::default());
    let invite = an_invite(&quickstart);
    let mut random = fastrand::Rng::with_seed(5);
    let mut spoiled = |_| {
        let mut packet = invite.clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..packet.len());
            packet[at] = random.u8(..);
        }
        packet
    };
    let packets: Vec<Vec<u8>> = (0..2_000).map(&mut spoiled).collect();
    send_all(quickstart.proxy(0), packets.clone());
    send_all(quickstart.backend(), packets);
    still_serves(quickstart);
}

#[test]
fn lengths_that_lie() {
    let quickstart = Server::quickstart(&Setup::default());
    let invite = String::from_utf8(an_invite(&quickstart)).unwrap();
    let lengths = ["0", "1", "65535", "4294967296", "99999999999999999999", "-1", "x", "", "1, 2"];
    let start = invite.find("Content-Length: ").unwrap();
    let end = start + invite[start..].find("\r\n").unwrap();
    let with =
        |length: &str| format!("{}Content-Length: {length}{}", &invite[..start], &invite[end..]).into_bytes();
    for to in [quickstart.proxy(0), quickstart.backend()] {
        send_all(to, lengths.map(with));
    }
    for to in [quickstart.proxy_tcp(), quickstart.backend_tcp()] {
        stream_all(to, lengths.map(with));
    }
    still_serves(quickstart);
}

fn odd_method(quickstart: &Server) -> Text {
    let mut caller = Caller::udp(quickstart.proxy(0));
    let odd = caller.invite_text(&quickstart.open_uri()).replace("INVITE", "BREW");
    caller.send(odd.as_bytes());
    caller.response_where("an answer to BREW", |response| response.cseq().1 == "BREW")
}

#[test]
fn a_flood_of_unknown_methods() {
    let quickstart = Server::quickstart(&Setup::default());
    let invite = String::from_utf8(an_invite(&quickstart)).unwrap();
    let flood = |number: usize| invite.replace("INVITE", &format!("METHOD{number}")).into_bytes();
    for to in [quickstart.proxy(0), quickstart.backend()] {
        send_all(to, (0..5_000).map(flood));
    }
    // As long as the flood is being worked off, 503 is an answer too.
    wait::until_ok("405 to an unknown method", Duration::from_secs(10), || {
        let answer = odd_method(&quickstart);
        if answer.status() == Some(405) && answer.header("Allow").contains("INVITE") {
            Ok(())
        } else {
            Err(answer)
        }
    });
    still_serves(quickstart);
}

#[test]
fn a_stream_cut_at_odd_places_is_one_call() {
    let quickstart = Server::quickstart(&Setup::default());
    let mut caller = Caller::tcp(quickstart.proxy_tcp());
    let invite = caller.invite_text(&quickstart.open_uri());
    for piece in format!("\r\n\r\n{invite}").as_bytes().chunks(7) {
        caller.send(piece);
    }
    assert_eq!(caller.final_response().status(), Some(302));
    assert_eq!(quickstart.count("entries_total"), 1);
    quickstart.stop();
}

#[test]
fn foreign_packets_at_the_media_port_of_a_call() {
    let quickstart = Server::quickstart(&Setup::default());
    let port = RtpPort::bind();
    let (mut caller, answer) = quickstart.standing_call(port.port(), Law::Mu);
    let media = answer.audio_address();
    let heard = std::thread::scope(|scope| {
        let talking =
            scope.spawn(|| port.talk(media, Law::Mu, &tone(440.0, 3.0), Duration::from_millis(300)));
        send_all(media, random_packets(6, 2_000));
        // Well-formed audio of another tone, from a source that is not the caller's.
        RtpPort::bind().talk(media, Law::Mu, &tone(1000.0, 1.0), Duration::from_millis(1));
        talking.join().unwrap()
    });
    caller.bye();
    let found = find_tone(&heard.samples, 440.0);
    assert!(found.seconds > 2.4, "{found:?}");
    assert!(find_tone(&heard.samples, 1000.0).seconds < 0.1);
    still_serves(quickstart);
}
