//! A whole call by a real program: INVITE, 302, followed to the backend, 200, audio both ways, BYE.

use std::time::Duration;

use iqra_peers::audio::{find_sweep, find_tone, sweep, tone};
use iqra_peers::baresip::Phone;
use iqra_peers::g711::Law;
use iqra_peers::ours::{Server, Setup};
use iqra_peers::wait;

/// Plays `samples` by baresip into a call to `uri`, hangs up after `seconds` and returns what it heard.
fn phone_call(law: Law, samples: &[i16], uri: &str, seconds: f64) -> Vec<i16> {
    let mut phone = Phone::start(law, samples);
    phone.dial(uri);
    phone.event("CALL_ESTABLISHED");
    phone.hear(seconds);
    phone.hang_up();
    phone.heard()
}

#[test]
fn sipp_over_udp_in_both_laws() {
    let quickstart = Server::quickstart(&Setup::default());
    for law in Law::BOTH {
        let calls = quickstart.sipp(quickstart.proxy(0), "redirected_call", law, "p1").calls(5, 10);
        let run = calls.hold(Duration::from_secs(3)).start();
        // 5 calls of 3 s are 750 packets; the first few hundred stay in the queue of the port uncounted.
        wait::until("returned audio", Duration::from_secs(10), || (run.audio_returned() > 300).then_some(()));
        run.finish(Duration::from_secs(20)).assert_all_succeeded();
    }
    quickstart.assert_no_call_left();
    assert_eq!((quickstart.count("entries_total"), quickstart.count("calls_total")), (10, 10));
    quickstart.stop();
}

#[test]
fn sipp_over_tcp_in_both_laws() {
    let quickstart = Server::quickstart(&Setup::default());
    for law in Law::BOTH {
        let calls = quickstart.sipp(quickstart.proxy_tcp(), "redirected_call", law, "p1").tcp();
        calls.calls(5, 10).run().assert_all_succeeded();
    }
    quickstart.assert_no_call_left();
    assert_eq!((quickstart.count("entries_total"), quickstart.count("calls_total")), (10, 10));
    quickstart.stop();
}

#[test]
fn baresip_hears_the_tone_that_it_plays() {
    let quickstart = Server::quickstart(&Setup::default());
    for law in Law::BOTH {
        let heard = phone_call(law, &tone(440.0, 6.0), &quickstart.open_uri(), 3.0);
        let found = find_tone(&heard, 440.0);
        assert!(found.seconds > 2.6, "{law:?} {found:?}");
        assert!((found.level_db + 9.0).abs() < 1.0, "{law:?} {found:?}");
    }
    quickstart.assert_no_call_left();
    quickstart.stop();
}

#[test]
fn baresip_hears_the_sweep_that_it_plays() {
    let quickstart = Server::quickstart(&Setup::default());
    for law in Law::BOTH {
        let heard = phone_call(law, &sweep(300.0, 3000.0, 2.0), &quickstart.open_uri(), 3.0);
        let found = find_sweep(&heard, 300.0, 3000.0, 2.0);
        assert!(found.seconds > 1.7, "{law:?} {found:?}");
    }
    quickstart.assert_no_call_left();
    quickstart.stop();
}

#[test]
fn baresip_over_tcp() {
    let quickstart = Server::quickstart(&Setup::default());
    let uri =
        format!("sip:+15550100@{};transport=tcp;X-Business-Id=open;X-Phone-Id=p1", quickstart.proxy_tcp());
    let heard = phone_call(Law::A, &tone(620.0, 5.0), &uri, 2.0);
    let found = find_tone(&heard, 620.0);
    assert!(found.seconds > 1.6, "{found:?}");
    quickstart.assert_no_call_left();
    quickstart.stop();
}

#[test]
fn a_silent_caller_hears_no_tone() {
    let quickstart = Server::quickstart(&Setup::default());
    let heard = phone_call(Law::Mu, &[], &quickstart.open_uri(), 1.0);
    assert_eq!(iqra_peers::audio::loud_seconds(&heard), 0.0);
    quickstart.stop();
}
