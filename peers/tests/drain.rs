//! SIGTERM: calls in progress and INVITEs with a valid token finish, within a limit; new ones are refused with
//! 503 and Retry-After; the exit code is 0.

use std::time::{Duration, Instant};

use iqra_peers::audio::{find_tone, tone};
use iqra_peers::caller::Caller;
use iqra_peers::g711::Law;
use iqra_peers::ours::{Server, Setup};
use iqra_peers::rtp::RtpPort;
use iqra_peers::wait;

/// The port to offer when nobody listens.
const DISCARD: u16 = 9;

const SOON: Duration = Duration::from_secs(20);

/// Waits until new calls are refused: the program has taken notice of the signal.
fn refused_anew(quickstart: &Server) {
    wait::until("a refusal by the draining proxy", SOON, || {
        let mut caller = Caller::udp(quickstart.proxy(0));
        caller.invite(&quickstart.open_uri());
        let refusal = caller.final_response();
        (refusal.status() == Some(503)).then(|| {
            let seconds: u32 = refusal.header("Retry-After").parse().expect("seconds in Retry-After");
            assert!(seconds > 0, "{refusal:?}");
        })
    });
}

#[test]
fn a_call_in_progress_and_a_token_in_flight_finish() {
    let quickstart = Server::quickstart(&Setup { drain_limit: Duration::from_secs(60), ..Setup::default() });
    let (standing_port, late_port) = (RtpPort::bind(), RtpPort::bind());
    let (mut standing, answer) = quickstart.standing_call(standing_port.port(), Law::Mu);
    let mut early = Caller::udp(quickstart.proxy(0)).offering(late_port.port(), &[Law::Mu]);
    early.invite(&quickstart.open_uri());
    let redirect = early.final_response();

    quickstart.signal("TERM");
    refused_anew(&quickstart);
    let mut late = early.following(&redirect);
    let late_answer = late.answered();
    for (port, answer) in [(&standing_port, &answer), (&late_port, &late_answer)] {
        let media = answer.audio_address();
        let heard = port.talk(media, Law::Mu, &tone(440.0, 1.5), Duration::from_millis(300));
        let found = find_tone(&heard.samples, 440.0);
        assert!(found.seconds > 1.2, "{found:?}");
    }
    standing.bye();
    late.bye();
    quickstart.assert_clean_end(SOON);
}

#[test]
fn a_call_that_outlasts_the_limit_is_ended_by_bye() {
    let limit = Duration::from_secs(3);
    let quickstart = Server::quickstart(&Setup { drain_limit: limit, ..Setup::default() });
    let (mut caller, _) = quickstart.standing_call(DISCARD, Law::Mu);
    let started = Instant::now();
    quickstart.signal("TERM");
    let bye = loop {
        let message = caller.receive(started + limit + SOON).expect("a BYE at the limit of the drain");
        if message.cseq().1 == "BYE" {
            break message;
        }
    };
    assert!(started.elapsed() >= limit, "ended after {:?}", started.elapsed());
    caller.answer_ok(&bye);
    quickstart.assert_clean_end(SOON);
}

#[test]
fn an_idle_program_ends_at_once() {
    let quickstart = Server::quickstart(&Setup::default());
    let started = Instant::now();
    quickstart.stop();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn an_interrupt_ends_it_too() {
    let quickstart = Server::quickstart(&Setup::default());
    quickstart.signal("INT");
    quickstart.assert_clean_end(SOON);
}
