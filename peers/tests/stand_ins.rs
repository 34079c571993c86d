//! The harness against itself: sipp answers and redirects in place of the programs under test, so that a failure
//! of the other files is theirs and not the harness's.

use std::time::Duration;

use iqra_peers::audio::{find_sweep, find_tone, loud_seconds, sweep, tone};
use iqra_peers::baresip::Phone;
use iqra_peers::caller::Caller;
use iqra_peers::g711::Law;
use iqra_peers::relay::{Faults, Relay};
use iqra_peers::rtp::RtpPort;
use iqra_peers::sip_text::address_of;
use iqra_peers::sipp::{Running, Sipp};
use iqra_peers::wait;

fn filled(sipp: Sipp, law: Law) -> Sipp {
    let file = if law == Law::Mu { "tone.mu" } else { "tone.a" };
    let sipp = sipp.key("law", law.name()).key("payload", law.payload_type()).key("file", file);
    sipp.key("user", "+15550100").key("business", "b1").key("phone", "p1")
}

fn echo(law: Law) -> Running {
    filled(Sipp::answering("answering"), law).option(&["-rtp_echo"]).start()
}

fn redirect(to: &Running) -> Running {
    Sipp::answering("redirecting").key("contact", to.address()).start()
}

#[test]
fn sipp_follows_a_redirect_and_talks() {
    let answering = echo(Law::Mu);
    let redirecting = redirect(&answering);
    let run = filled(Sipp::calling(redirecting.address(), "redirected_call"), Law::Mu).calls(5, 10).run();
    run.assert_all_succeeded();
}

#[test]
fn sipp_over_tcp_does_the_same() {
    let answering = filled(Sipp::answering("answering"), Law::A).tcp().option(&["-rtp_echo"]).start();
    let redirecting = Sipp::answering("redirecting").key("contact", answering.address()).tcp().start();
    let run =
        filled(Sipp::calling(redirecting.address(), "redirected_call"), Law::A).tcp().calls(3, 10).run();
    run.assert_all_succeeded();
}

#[test]
fn sipp_repeats_what_a_rough_path_loses() {
    let answering = echo(Law::Mu);
    // Only the way there: sipp as the answering side gives up on an INVITE that comes again after a lost 200.
    let losing = Faults { loss: 0.15, ..Faults::default() };
    let path = Relay::start(answering.address(), losing, Faults::default(), 3);
    let report = filled(Sipp::calling(path.address(), "direct_call"), Law::Mu).calls(10, 10).run();
    report.assert_all_succeeded();
    assert!(report.figure("Retransmissions") > 0 && path.to_server().lost > 0);
}

#[test]
fn sipp_cancels_a_call_that_rings() {
    let ringing = Sipp::answering("ringing").start();
    let redirecting = redirect(&ringing);
    let run = filled(Sipp::calling(redirecting.address(), "cancelled_call"), Law::Mu).run();
    run.assert_all_succeeded();
}

#[test]
fn the_audio_that_comes_back_to_sipp_is_counted() {
    let answering = echo(Law::Mu);
    let calls = filled(Sipp::calling(answering.address(), "direct_call"), Law::Mu).calls(20, 100);
    let run = calls.hold(Duration::from_secs(3)).start();
    wait::until("returned audio", Duration::from_secs(10), || (run.audio_returned() > 1_000).then_some(()));
    run.finish(Duration::from_secs(10)).assert_all_succeeded();
}

#[test]
fn sipp_fails_when_the_scenario_is_not_met() {
    let answering = echo(Law::Mu);
    let run = filled(Sipp::calling(answering.address(), "refused"), Law::Mu).key("status", 486);
    let report = run.within(Duration::from_secs(5)).run();
    assert!(std::panic::catch_unwind(|| report.assert_all_succeeded()).is_err());
    assert!(report.errors.contains("180 Ringing"), "{}", report.errors);
}

#[test]
fn baresip_hears_its_own_tone_from_an_echo() {
    for law in Law::BOTH {
        let answering = echo(law);
        let redirecting = redirect(&answering);
        let mut phone = Phone::start(law, &tone(440.0, 4.0));
        phone.dial(&format!("sip:agent@{}", redirecting.address()));
        phone.event("CALL_ESTABLISHED");
        phone.hear(2.0);
        phone.hang_up();
        let found = find_tone(&phone.heard(), 440.0);
        assert!(found.seconds > 1.7, "{law:?} {found:?}");
    }
}

#[test]
fn baresip_hears_no_tone_when_none_was_sent() {
    let answering = echo(Law::Mu);
    let mut phone = Phone::start(Law::Mu, &[]);
    phone.dial(&format!("sip:agent@{}", answering.address()));
    phone.event("CALL_ESTABLISHED");
    phone.hear(1.0);
    phone.hang_up();
    assert_eq!(loud_seconds(&phone.heard()), 0.0);
}

#[test]
fn the_scripted_caller_sweeps_through_a_rough_path() {
    let answering = echo(Law::A);
    let signalling = Relay::start(answering.address(), Faults::losing_first(1), Faults::default(), 1);
    let port = RtpPort::bind();
    let mut caller = Caller::udp(signalling.address()).offering(port.port(), &[Law::A]);
    caller.invite(&format!("sip:agent@{}", answering.address()));
    caller.send_invite_again();
    let answer = caller.answered();
    assert_eq!(address_of(&answer.contact()), answering.address());
    let media = Relay::start(answer.audio_address(), Faults::rough(0.04), Faults::default(), 2);
    let heard = port.talk(media.address(), Law::A, &sweep(300.0, 3000.0, 2.0), Duration::from_millis(300));
    caller.bye();
    let found = find_sweep(&heard.samples, 300.0, 3000.0, 2.0);
    assert!(found.seconds > 1.6, "{found:?}");
    let way = media.to_server();
    assert!(way.lost > 0 && way.duplicated > 0 && way.reordered > 0, "{way:?}");
}
