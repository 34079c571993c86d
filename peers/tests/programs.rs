//! The other programs: a backend without a proxy, and the two tiers as processes of their own.

use std::time::Duration;

use iqra_peers::audio::{find_tone, tone};
use iqra_peers::baresip::Phone;
use iqra_peers::g711::Law;
use iqra_peers::ours::{Server, Setup};

/// What baresip hears of its own tone after three seconds of a call to `uri`.
fn echoed(uri: &str, law: Law) -> f64 {
    let mut phone = Phone::start(law, &tone(440.0, 5.0));
    phone.dial(uri);
    phone.event("CALL_ESTABLISHED");
    phone.hear(3.0);
    phone.hang_up();
    find_tone(&phone.heard(), 440.0).seconds
}

#[test]
fn echo_answers_any_invite() {
    let echo = Server::echo();
    for law in Law::BOTH {
        let calls = echo.sipp(echo.backend(), "direct_call", law, "p1").calls(5, 10);
        calls.run().assert_all_succeeded();
        let calls = echo.sipp(echo.backend_tcp(), "direct_call", law, "p1").tcp().calls(3, 10);
        calls.run().assert_all_succeeded();
        let seconds = echoed(&format!("sip:anybody@{}", echo.backend()), law);
        assert!(seconds > 2.6, "{law:?} {seconds}");
    }
    echo.assert_no_call_left();
    echo.stop();
}

#[test]
fn the_tiers_as_two_processes_hand_calls_over() {
    let (proxy, backend) = Server::proxy_and_backend(&Setup::default());
    for law in Law::BOTH {
        let calls = proxy.sipp(proxy.proxy(0), "redirected_call", law, "p1").calls(5, 10);
        calls.hold(Duration::from_secs(1)).run().assert_all_succeeded();
        let seconds = echoed(&proxy.open_uri(), law);
        assert!(seconds > 2.6, "{law:?} {seconds}");
    }
    for server in [&proxy, &backend] {
        server.assert_no_call_left();
    }
    proxy.stop();
    backend.stop();
}
