//! A caller that gives up before the answer: CANCEL, 487, and nothing stays behind.

use iqra_peers::audio::tone;
use iqra_peers::baresip::Phone;
use iqra_peers::caller::Caller;
use iqra_peers::g711::Law;
use iqra_peers::ours::{Server, Setup};

#[test]
fn sipp_cancels_while_the_backend_rings() {
    let quickstart = Server::quickstart(&Setup::default());
    for law in Law::BOTH {
        let calls = quickstart.sipp(quickstart.proxy(0), "cancelled_call", law, "rings").calls(5, 10);
        calls.run().assert_all_succeeded();
    }
    quickstart.assert_no_call_left();
    assert_eq!((quickstart.count("entries_total"), quickstart.count("calls_total")), (10, 0));
    quickstart.stop();
}

#[test]
fn sipp_cancels_over_tcp() {
    let quickstart = Server::quickstart(&Setup::default());
    let calls =
        quickstart.sipp(quickstart.proxy_tcp(), "cancelled_call", Law::Mu, "rings").tcp().calls(3, 10);
    calls.run().assert_all_succeeded();
    quickstart.assert_no_call_left();
    quickstart.stop();
}

#[test]
fn baresip_gives_up_while_the_backend_rings() {
    let quickstart = Server::quickstart(&Setup::default());
    let mut phone = Phone::start(Law::Mu, &tone(440.0, 1.0));
    phone.dial(&quickstart.ringing_uri());
    phone.event("CALL_RINGING");
    phone.hang_up();
    quickstart.assert_no_call_left();
    assert_eq!(quickstart.count("calls_total"), 0);
    quickstart.stop();
}

#[test]
fn a_cancel_right_behind_the_invite_leaves_nothing() {
    let quickstart = Server::quickstart(&Setup::default());
    for _ in 0..20 {
        let mut caller = Caller::udp(quickstart.proxy(0));
        caller.invite(&quickstart.ringing_uri());
        caller.cancel();
        // The 302 may have been on its way: both are right (RFC 3261 §9.2).
        let status = caller.final_response().status();
        assert!(matches!(status, Some(302 | 487)), "{status:?}");
    }
    assert_eq!(quickstart.count("calls"), 0);
    // A redirect that nobody followed lasts until its token expires.
    quickstart.assert_no_call_left();
    quickstart.stop();
}

#[test]
fn a_cancel_that_crosses_the_answer_ends_in_one_of_the_two() {
    let quickstart = Server::quickstart(&Setup::default());
    for _ in 0..20 {
        let mut caller = Caller::udp(quickstart.proxy(0));
        caller.invite(&quickstart.open_uri());
        let redirect = caller.final_response();
        let mut caller = caller.following(&redirect);
        caller.cancel();
        let answer = caller.final_response();
        if answer.status() == Some(200) {
            caller.acknowledge(&answer);
            caller.bye();
        } else {
            assert_eq!(answer.status(), Some(487), "{answer:?}");
        }
    }
    quickstart.assert_no_call_left();
    quickstart.stop();
}
