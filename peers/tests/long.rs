//! What takes a minute, side by side: a hundred calls at once with audio, of which nothing is left, counted; and a
//! call that is never acknowledged.

use std::time::{Duration, Instant};

use iqra_peers::audio::{find_tone, tone};
use iqra_peers::baresip::Phone;
use iqra_peers::caller::Caller;
use iqra_peers::g711::Law;
use iqra_peers::ours::{Server, Setup};
use iqra_peers::rtp::RtpPort;
use iqra_peers::sipp::{Running, Sipp};
use iqra_peers::wait;

/// Calls by sipp in each law, 45 twice; the rest to a hundred is listened to.
const BY_SIPP: u32 = 45;
const SCRIPTED: usize = 8;
const PHONES: usize = 2;
const ALL: u64 = 100;

/// How long every call has audio.
const MINUTE: Duration = Duration::from_secs(60);

/// How much of the minute the tone must be heard in, on a machine that carries both sides.
const HEARD: f64 = 57.0;

fn sipp(quickstart: &Server, law: Law) -> Sipp {
    let calls = quickstart.sipp(quickstart.proxy(0), "redirected_call", law, "p1").calls(BY_SIPP, 15);
    calls.hold(MINUTE + Duration::from_secs(5)).within(Duration::from_secs(110))
}

fn scripted(quickstart: &Server, law: Law, hz: f64) {
    let port = RtpPort::bind();
    let (mut caller, answer) = quickstart.standing_call(port.port(), law);
    let media = answer.audio_address();
    let heard = port.talk(media, law, &tone(hz, MINUTE.as_secs_f64()), Duration::from_millis(500));
    caller.bye();
    let found = find_tone(&heard.samples, hz);
    assert!(found.seconds > HEARD, "{law:?} {hz} Hz: {found:?} of {} packets", heard.packets);
    assert_eq!((heard.foreign, heard.sources.len()), (0, 1));
}

fn phone(quickstart: &Server, law: Law) {
    let seconds = MINUTE.as_secs_f64();
    let mut phone = Phone::start(law, &tone(700.0, seconds + 2.0));
    phone.dial(&quickstart.open_uri());
    phone.event("CALL_ESTABLISHED");
    phone.hear(seconds);
    phone.hang_up();
    let found = find_tone(&phone.heard(), 700.0);
    assert!(found.seconds > HEARD, "baresip {law:?}: {found:?}");
}

/// Waits until a minute's audio of all calls of the run came back: 50 packets a second from each, less 5 %.
fn all_returned(run: &Running) {
    let expected = u64::from(BY_SIPP) * 50 * MINUTE.as_secs() * 95 / 100;
    let within = MINUTE + Duration::from_secs(20);
    wait::until_ok(&format!("{expected} packets of audio"), within, || match run.audio_returned() {
        returned if returned >= expected => Ok(()),
        returned => Err(returned),
    });
}

#[test]
fn a_hundred_calls_for_a_minute_leave_nothing() {
    let quickstart = Server::quickstart(&Setup::default());
    // A program that has carried a call has started all that it starts.
    quickstart.standing_call(RtpPort::bind().port(), Law::Mu).0.bye();
    quickstart.assert_no_call_left();
    let before = quickstart.count("tasks");
    let runs = Law::BOTH.map(|law| sipp(&quickstart, law).start());
    let listened_to = &quickstart;
    std::thread::scope(|scope| {
        for number in 0..SCRIPTED {
            let (law, hz) = (Law::BOTH[number % 2], 400.0 + 100.0 * number as f64);
            scope.spawn(move || scripted(listened_to, law, hz));
        }
        for number in 0..PHONES {
            scope.spawn(move || phone(listened_to, Law::BOTH[number % 2]));
        }
        for run in &runs {
            scope.spawn(|| all_returned(run));
        }
        wait::until("a hundred calls at once", Duration::from_secs(30), || {
            (quickstart.count("calls") == ALL).then_some(())
        });
        let counts = quickstart.counts();
        for name in ["slots", "media_sessions", "dialogs"] {
            assert_eq!(counts.get(name), Some(&ALL), "{name}: {counts:?}");
        }
    });
    for run in runs {
        run.finish(Duration::from_secs(40)).assert_all_succeeded();
    }
    quickstart.assert_nothing_left();
    assert_eq!((quickstart.count("entries_total"), quickstart.count("calls_total")), (1 + ALL, 1 + ALL));
    assert_eq!(quickstart.count("tasks"), before);
    quickstart.stop();
}

#[test]
fn a_call_that_is_never_acknowledged_is_ended() {
    let quickstart = Server::quickstart(&Setup::default());
    let mut caller = Caller::udp(quickstart.proxy(0));
    caller.invite(&quickstart.open_uri());
    let redirect = caller.final_response();
    let mut caller = caller.following(&redirect);
    assert_eq!(caller.final_response().status(), Some(200));
    // The 200 is repeated for 64·T1, then the call ends with a BYE (RFC 3261 §13.3.1.4).
    let deadline = Instant::now() + Duration::from_secs(45);
    let bye = loop {
        let message = caller.receive(deadline).expect("a BYE when no ACK came");
        if message.cseq().1 == "BYE" {
            break message;
        }
    };
    caller.answer_ok(&bye);
    quickstart.assert_no_call_left();
    quickstart.stop();
}
