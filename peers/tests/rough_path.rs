//! Packets lost, repeated and out of order, of the signalling and of the audio.

use std::time::Duration;

use iqra_peers::audio::{find_sweep, find_tone, sweep, tone};
use iqra_peers::g711::Law;
use iqra_peers::ours::{Server, Setup};
use iqra_peers::relay::{Faults, Relay};
use iqra_peers::rtp::{Heard, RtpPort};

/// The share of datagrams lost each way. With sipp's 6 attempts at an INVITE and 8 at a BYE, one call in 20 000
/// fails by bad luck; the seeds are fixed, the interleaving of the calls is not.
const LOSS: f64 = 0.1;

#[test]
fn every_call_of_sipp_comes_through_a_path_that_loses_and_repeats() {
    let quickstart = Server::quickstart(&Setup::default());
    let there = || Faults { held: Duration::from_millis(700), ..Faults::rough(LOSS) };
    // Nothing is overtaken on the way back: sipp takes a 180 behind its 200 for an error.
    let back = || Faults { reorder: 0.0, ..Faults::rough(LOSS) };
    let proxy = Relay::start(quickstart.proxy(0), there(), back(), 11);
    let backend = Relay::start(quickstart.backend(), there(), back(), 12);
    let calls = quickstart.sipp(proxy.address(), "redirected_call", Law::Mu, "p1").calls(30, 10);
    let calls = calls.following_through(backend.address()).hold(Duration::from_secs(2));
    let report = calls.run();
    report.assert_all_succeeded();
    assert!(report.figure("Retransmissions") > 0);
    for way in [proxy.to_server(), proxy.to_peer(), backend.to_server(), backend.to_peer()] {
        assert!(way.lost > 0 && way.duplicated > 0, "{way:?}");
    }
    quickstart.assert_no_call_left();
    assert_eq!((quickstart.count("entries_total"), quickstart.count("calls_total")), (30, 30));
    quickstart.stop();
}

#[test]
fn the_first_of_everything_is_lost() {
    let quickstart = Server::quickstart(&Setup::default());
    let proxy = Relay::start(quickstart.proxy(0), Faults::losing_first(2), Faults::losing_first(1), 1);
    let backend = Relay::start(quickstart.backend(), Faults::losing_first(2), Faults::losing_first(2), 1);
    let calls = quickstart.sipp(proxy.address(), "redirected_call", Law::A, "p1");
    calls.following_through(backend.address()).run().assert_all_succeeded();
    quickstart.assert_no_call_left();
    assert_eq!((quickstart.count("entries_total"), quickstart.count("calls_total")), (1, 1));
    quickstart.stop();
}

/// One call whose audio passes a relay with these faults both ways.
fn call_through(quickstart: &Server, law: Law, samples: &[i16], faults: &Faults) -> Heard {
    let port = RtpPort::bind();
    let (mut caller, answer) = quickstart.standing_call(port.port(), law);
    assert_eq!(answer.audio_payloads().first(), Some(&law.payload_type()));
    let media = Relay::start(answer.audio_address(), faults.clone(), faults.clone(), 21);
    let heard = port.talk(media.address(), law, samples, Duration::from_millis(500));
    caller.bye();
    heard
}

#[test]
fn a_clean_path_returns_the_whole_sweep() {
    let quickstart = Server::quickstart(&Setup::default());
    for law in Law::BOTH {
        let heard = call_through(&quickstart, law, &sweep(300.0, 3000.0, 3.0), &Faults::default());
        let found = find_sweep(&heard.samples, 300.0, 3000.0, 3.0);
        assert!(found.seconds > 2.8, "{law:?} {found:?}");
        assert_eq!((heard.foreign, heard.sources.len()), (0, 1), "{law:?}");
    }
    quickstart.assert_no_call_left();
    quickstart.stop();
}

#[test]
fn audio_survives_a_path_that_loses_repeats_and_reorders() {
    let quickstart = Server::quickstart(&Setup::default());
    for law in Law::BOTH {
        let heard = call_through(&quickstart, law, &tone(440.0, 5.0), &Faults::rough(0.05));
        // 5 % lost each way, and what is concealed has not always the tone at its purest.
        let found = find_tone(&heard.samples, 440.0);
        assert!(found.seconds > 4.0, "{law:?} {found:?}");
        let heard = call_through(&quickstart, law, &sweep(300.0, 3000.0, 3.0), &Faults::rough(0.05));
        let found = find_sweep(&heard.samples, 300.0, 3000.0, 3.0);
        assert!(found.seconds > 2.2, "{law:?} {found:?}");
    }
    quickstart.assert_no_call_left();
    quickstart.stop();
}
